//! What leaves memory: ended records, and what pools remember and no guard reads any more.

use std::collections::BTreeSet;
use std::time::Duration;

use navarch_model::{
    AskedBy, Breaker, Change, EndCause, Instance, InstanceId, LastRepair, Pool, PoolName,
};
use navarch_policy::guards;

use super::Fleet;

/// An intent whose launch call never had an answer, or that a call of another life of this record
/// may have been made for, is remembered for so long after it ended. Its
/// machine may still show itself, and only the record says that it is ours to terminate. Clouds
/// list what they make within minutes, and outages of their listings last hours.
const DOUBTED_KEPT: Duration = Duration::from_secs(24 * 3600);

impl Fleet {
    /// Ended records leave memory; the store keeps them for its own time.
    pub(super) fn forget(&mut self) {
        let now = self.now.core;
        let kept = self.settings.ended_kept;
        let nodes: Vec<_> = self
            .state
            .nodes
            .values()
            .filter(|node| node.terminated.is_some_and(|at| now.since(at.core) >= kept))
            .map(|node| node.id.clone())
            .collect();
        for id in nodes {
            self.put(Change::ForgetNode(id));
        }
        // The record says whose a late twin is, for as long as the twin is there.
        let named: BTreeSet<&InstanceId> = self
            .state
            .unclaimed
            .values()
            .filter_map(|machine| machine.instance.as_ref())
            .collect();
        let instances: Vec<_> = self
            .state
            .instances
            .values()
            .filter(|instance| {
                let kept = if may_have_a_late_machine(instance) {
                    kept.max(DOUBTED_KEPT)
                } else {
                    kept
                };
                !instance.phase.may_be_alive()
                    && instance.ended.is_some_and(|at| now.since(at.core) >= kept)
                    && !named.contains(&instance.id)
            })
            .map(|instance| instance.id.clone())
            .collect();
        for id in instances {
            self.put(Change::ForgetInstance(id));
        }
        self.forget_offerings();
        let incidents: Vec<_> = self
            .state
            .incidents
            .values()
            .filter(|incident| {
                incident.closed.as_ref().is_some_and(|(at, _)| {
                    now.since(at.core) >= self.settings.guards.repeat_fault_window
                })
            })
            .map(|incident| incident.id.clone())
            .collect();
        for id in incidents {
            self.put(Change::ForgetIncident(id));
        }
        let commands: Vec<_> = self
            .state
            .commands
            .values()
            .filter(|command| command.state.is_final() && now.since(command.changed.core) >= kept)
            .map(|command| command.id.clone())
            .collect();
        for id in commands {
            self.put(Change::ForgetCommand(id));
        }
    }

    /// Breakers and replacements that no guard reads any more leave the memory of their pools, and
    /// open breakers close that have nothing left to try.
    pub(super) fn forget_in_pools(&mut self) {
        let pools: Vec<PoolName> = self.state.pools.keys().cloned().collect();
        for name in pools {
            self.close_idle_breakers(&name);
            let Some(memory) = self.state.pools.get(&name) else {
                continue;
            };
            let spent = memory
                .repair_breakers
                .values()
                .any(|breaker| self.is_spent(breaker))
                || memory
                    .last_repairs
                    .iter()
                    .any(|(signature, last)| self.is_settled(memory, signature, last));
            if !spent {
                continue;
            }
            let mut left = Pool::clone(memory);
            left.repair_breakers
                .retain(|_, breaker| !self.is_spent(breaker));
            left.last_repairs
                .retain(|signature, last| !self.is_settled(memory, signature, last));
            self.put_pool(left);
        }
    }

    /// Whether a closed breaker changes nothing any more: what was hit before it was reset is too
    /// long ago to count anyway.
    fn is_spent(&self, breaker: &Breaker) -> bool {
        let window = self.settings.guards.breaker.window;
        !breaker.is_open()
            && breaker
                .reset
                .is_none_or(|reset| self.now.core.since(reset.core) >= window)
    }

    /// Whether a replacement is old and nothing waits for it: no probe, and no action of a small
    /// pool.
    fn is_settled(&self, memory: &Pool, signature: &str, last: &LastRepair) -> bool {
        let guards = &self.settings.guards;
        if self.now.core.since(last.at.core) < guards.repeat_fault_window {
            return false;
        }
        let breaker = memory.repair_breakers.get(signature);
        let probe = breaker.and_then(|breaker| breaker.probe.as_deref());
        let stands = self.last_replacement(&last.instance, last.at.core);
        let wait = guards.small_fleet_wait;
        probe != Some(last.instance.as_str())
            && guards::small_pool(signature, stands, wait, &self.presence(), self.now.core)
                .is_none()
    }

    /// Pools that left the configuration and have nothing on record are forgotten after a while:
    /// whoever puts one back within that time finds it as it was. What an operator chose for a pool
    /// is never forgotten.
    pub(super) fn forget_pools(&mut self) {
        let now = self.now.core;
        let empty: Vec<PoolName> = self
            .state
            .pools
            .values()
            .filter(|pool| {
                let asked = pool.asked.as_ref().map(|asked| asked.by);
                pool.automation.is_none()
                    && asked != Some(AskedBy::Operator)
                    && !self.settings.pools.contains_key(&pool.name)
                    && self.index.members(&pool.name).next().is_none()
                    && self.index.signatures(&pool.name).next().is_none()
            })
            .map(|pool| pool.name.clone())
            .collect();
        self.empty_pools.retain(|name, _| empty.contains(name));
        for name in empty {
            let since = *self.empty_pools.entry(name.clone()).or_insert(now);
            if now.since(since) >= self.settings.guards.repeat_fault_window {
                self.empty_pools.remove(&name);
                self.put(Change::ForgetPool(name));
            }
        }
    }
}

/// Whether a launch call of an ended instance was never answered, or may have been made by another
/// life of this record, so that its machine could still show itself.
fn may_have_a_late_machine(instance: &Instance) -> bool {
    let unanswered = instance.doubted || (instance.launches > 0 && !instance.clean);
    unanswered && instance.provider_id.is_none() && instance.end != Some(EndCause::LaunchRefused)
}

//! Breakers: opened and closed by plans, and reset by operators.

use navarch_model::{
    Breaker, EventKind, Incident, IncidentId, InstanceId, LastRepair, Node, Pool, PoolName, Stamp,
    Subject,
};

use super::Fleet;
use crate::input::{Rejection, Reply};
use crate::settings::doubled;

impl Fleet {
    pub(super) fn open_breaker(&mut self, pool: &PoolName, signature: &str) {
        let now = self.now;
        let pace = &self.settings.guards.breaker;
        let (wait, longest) = (pace.wait, pace.max_wait);
        let fleet = self
            .is_everywhere(pool, signature, now.core)
            .unwrap_or(false);
        // One that joins others waits as long as they do.
        let trips = self
            .standing_breakers(pool, signature)
            .map(|(_, breaker)| breaker.trips)
            .max()
            .unwrap_or(0);
        let last = self.index.last_hit(pool, signature).unwrap_or(now.core);
        let mut memory = self.pool_memory(pool);
        let breaker = memory
            .repair_breakers
            .entry(signature.to_owned())
            .or_default();
        if breaker.is_open() {
            return;
        }
        *breaker = Breaker {
            opened: Some(now),
            probe_at: Some(last + doubled(wait, trips, longest)),
            trips,
            fleet,
            reset: breaker.reset,
            ..Breaker::default()
        };
        self.put_pool(memory);
        let place = if fleet { " of the fleet" } else { "" };
        let message =
            format!("repair breaker of {signature}: seen on too many nodes{place} at once");
        self.breaker_event(EventKind::BreakerOpened, pool, signature, message);
    }

    fn breaker_event(
        &mut self,
        kind: EventKind,
        pool: &PoolName,
        signature: &str,
        message: String,
    ) {
        let subject = Subject {
            pool: Some(pool.clone()),
            ..Subject::default()
        };
        let details = [("signature", signature.to_owned())];
        self.event(kind, subject, message, details);
    }

    /// The pools whose open breaker of a signature goes the way of this one: those that stand for
    /// the fleet go together.
    fn together(&self, pool: &PoolName, signature: &str) -> Vec<PoolName> {
        let memory = self.state.pools.get(pool);
        let own = memory.and_then(|memory| memory.repair_breakers.get(signature));
        if !own.is_some_and(|breaker| breaker.fleet) {
            return vec![pool.clone()];
        }
        self.standing_breakers(pool, signature)
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn change_breaker(
        &mut self,
        pool: &PoolName,
        signature: &str,
        change: impl FnOnce(&mut Breaker),
    ) {
        let mut memory = self.pool_memory(pool);
        if let Some(breaker) = memory.repair_breakers.get_mut(signature) {
            change(breaker);
            self.put_pool(memory);
        }
    }

    pub(super) fn judge_probe(&mut self, pool: &PoolName, signature: &str, proven: bool) {
        let pace = &self.settings.guards.breaker;
        let (wait, longest) = (pace.wait, pace.max_wait);
        let now = self.now;
        let memory = self.state.pools.get(pool);
        let probe = memory.and_then(|memory| {
            let breaker = memory.repair_breakers.get(signature)?;
            breaker.probe.clone()
        });
        let began = memory
            .and_then(|memory| memory.last_repairs.get(signature))
            .filter(|last| probe.as_deref() == Some(last.instance.as_str()))
            .map_or(now, |last| last.at);
        let tried = probe.map_or_else(
            || "the last try".to_owned(),
            |probe| format!("the repair of {probe}"),
        );
        for name in self.together(pool, signature) {
            if proven {
                // What was hit before the probe began was what the breaker stood for.
                self.change_breaker(&name, signature, |breaker| {
                    *breaker = Breaker::closed(began);
                });
                let message =
                    format!("repair breaker of {signature}: the probe's replacement stayed ACTIVE");
                self.breaker_event(EventKind::BreakerClosed, &name, signature, message);
            } else {
                let mut next = wait;
                self.change_breaker(&name, signature, |breaker| {
                    breaker.trips = breaker.trips.saturating_add(1);
                    breaker.probe = None;
                    next = doubled(wait, breaker.trips, longest);
                    breaker.probe_at = Some(now.core + next);
                });
                let message = format!(
                    "repair breaker of {signature}: {tried} did not help; the next is tried in {} \
                     s at the soonest",
                    next.as_secs()
                );
                self.breaker_event(EventKind::BreakerProbeFailed, &name, signature, message);
            }
        }
    }

    /// Closes the open breakers of a pool that have nothing left to try: their wait is over, and no
    /// node shows the signature any more. One that goes with others goes when all of them can.
    pub(super) fn close_idle_breakers(&mut self, pool: &PoolName) {
        let Some(memory) = self.state.pools.get(pool) else {
            return;
        };
        let idle: Vec<String> = memory
            .repair_breakers
            .iter()
            .filter(|(signature, breaker)| breaker.is_open() && self.is_idle(pool, signature))
            .map(|(signature, _)| signature.clone())
            .collect();
        let now = self.now;
        for signature in idle {
            for name in self.together(pool, &signature) {
                self.change_breaker(&name, &signature, |breaker| *breaker = Breaker::closed(now));
                let message = format!("repair breaker of {signature}: no node shows it any more");
                self.breaker_event(EventKind::BreakerClosed, &name, &signature, message);
            }
        }
    }

    /// Whether an open breaker and those that go with it wait for nothing.
    fn is_idle(&self, pool: &PoolName, signature: &str) -> bool {
        let together = self.together(pool, signature);
        let waits = |name: &PoolName| {
            let memory = self.state.pools.get(name);
            let breaker = memory.and_then(|memory| memory.repair_breakers.get(signature));
            breaker.is_some_and(|breaker| {
                let quiet = self.quiet_from(name, signature, breaker);
                breaker.probe.is_some() || quiet.is_some_and(|quiet| self.now.core < quiet)
            })
        };
        let mut hits = self.index.hits(signature);
        !together.iter().any(waits)
            && !hits.any(|(name, id)| {
                let incident = self.state.incidents.get(id);
                let shown = incident.is_some_and(|incident| incident.makes_unhealthy());
                shown && together.contains(name)
            })
    }

    /// A repair began: it is the probe of an open breaker, and what the next one in a small pool
    /// waits for.
    pub(super) fn remember_repair(&mut self, id: &IncidentId, node: &Node, instance: InstanceId) {
        let Some(pool) = &node.pool else { return };
        let Some(signature) = self
            .state
            .incidents
            .get(id)
            .map(|incident: &std::sync::Arc<Incident>| incident.signature().to_owned())
        else {
            return;
        };
        let fleet = self
            .standing_breakers(pool, &signature)
            .any(|(_, breaker)| breaker.fleet);
        let mut memory = self.pool_memory(pool);
        if let Some(breaker) = memory
            .repair_breakers
            .get_mut(&signature)
            .filter(|breaker| breaker.is_open())
        {
            // No breaker stops the end of a machine that never served, so that it proves nothing.
            let served = self.state.instances.get(&instance);
            if !served.is_some_and(|one| one.was_active) {
                return;
            }
            breaker.probe = Some(instance.to_string());
            breaker.fleet = fleet;
        }
        let at = self.now;
        memory
            .last_repairs
            .insert(signature, LastRepair { at, instance });
        self.put_pool(memory);
    }

    pub(crate) fn reset_breaker(
        &mut self,
        pool: &PoolName,
        signature: Option<&str>,
    ) -> Result<Reply, Rejection> {
        self.known(pool)?;
        let memory = self.pool_memory(pool);
        let wanted = |name: &str| signature.is_none_or(|signature| signature == name);
        let repairs: Vec<String> = memory
            .repair_breakers
            .iter()
            .filter(|(name, breaker)| breaker.is_open() && wanted(name))
            .map(|(name, _)| name.clone())
            .collect();
        let offerings: Vec<String> = memory
            .offerings
            .iter()
            .filter(|(name, offering)| {
                (offering.breaker.is_open() || offering.retry_at.is_some()) && wanted(name)
            })
            .map(|(name, _)| name.clone())
            .collect();
        if let (Some(signature), true) = (signature, repairs.is_empty() && offerings.is_empty()) {
            return Err(Rejection::not_found(format!(
                "no open breaker of pool {pool} is called {signature}"
            )));
        }
        self.reset_offerings(memory, &offerings);
        let now: Stamp = self.now;
        for name in &repairs {
            for pool in self.together(pool, name) {
                self.change_breaker(&pool, name, |breaker| *breaker = Breaker::closed(now));
                let message = format!("breaker of {name}: reset by an operator");
                self.breaker_event(EventKind::BreakerClosed, &pool, name, message);
            }
        }
        for name in &offerings {
            let message = format!("breaker of {name}: reset by an operator");
            self.breaker_event(EventKind::BreakerClosed, pool, name, message);
        }
        Ok(Reply::Reset(repairs.into_iter().chain(offerings).collect()))
    }

    fn reset_offerings(&mut self, mut memory: Pool, names: &[String]) {
        for (_, offering) in memory
            .offerings
            .iter_mut()
            .filter(|(name, _)| names.contains(name))
        {
            offering.breaker = Breaker::default();
            offering.retry_at = None;
            offering.refusals = 0;
            offering.refused = None;
        }
        self.put_pool(memory);
    }
}

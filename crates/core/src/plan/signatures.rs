//! One signature on many nodes: the breaker, and the rule for pools too small for one.

use std::collections::BTreeSet;

use navarch_model::{Automation, Breaker, IncidentId, InstanceId, NodeId, Phase, PoolName, Time};
use navarch_policy::guards::{self, Block, LastReplacement};

use crate::fleet::Fleet;

impl Fleet {
    /// Whether the breakers of a signature let a node of a pool be acted on.
    pub(super) fn breakers_let_through(
        &self,
        pool: &PoolName,
        signature: &str,
        now: Time,
    ) -> Result<(), Block> {
        let block = self
            .standing_breakers(pool, signature)
            .find_map(|(owner, breaker)| {
                let quiet = self.quiet_from(owner, signature, breaker);
                let block = guards::repair_breaker(signature, breaker, quiet, now)?;
                Some(self.told_of_paused_probe(pool, owner, breaker, block))
            });
        block.map_or(Ok(()), Err)
    }

    /// Says so where a pool waits for the probe of another one, which does not go on because its
    /// automation is not on.
    fn told_of_paused_probe(
        &self,
        pool: &PoolName,
        owner: &PoolName,
        breaker: &Breaker,
        block: Block,
    ) -> Block {
        let mode = self.automation(owner);
        if owner == pool || breaker.probe.is_none() || mode == Automation::On {
            return block;
        }
        let mode = mode.word();
        Block {
            cause: "paused",
            ..block.adding(&format!(
                "; it is in pool {owner}, whose automation is {mode}"
            ))
        }
    }

    /// The open breakers that stop a signature in a pool: its own, and those of other pools that
    /// stand for the whole fleet. Those of a pool that is no longer configured stop only itself: no
    /// plan judges its probe.
    pub(crate) fn standing_breakers<'a>(
        &'a self,
        pool: &'a PoolName,
        signature: &'a str,
    ) -> impl Iterator<Item = (&'a PoolName, &'a Breaker)> {
        self.state.pools.iter().filter_map(move |(name, memory)| {
            let breaker = memory.repair_breakers.get(signature)?;
            let stands = breaker.is_open()
                && (name == pool || (breaker.fleet && self.pool_settings(name).is_some()));
            stands.then_some((name, breaker))
        })
    }

    /// From when an open breaker of a pool lets one node through.
    pub(crate) fn quiet_from(
        &self,
        pool: &PoolName,
        signature: &str,
        breaker: &Breaker,
    ) -> Option<Time> {
        let pace = &self.settings.guards.breaker;
        // Where the fleet is hit, the breaker of each pool waits for its own hits, and all are asked.
        let last = self.index.last_hit(pool, signature);
        guards::quiet_from(breaker, last, pace.wait, pace.max_wait)
    }

    /// Whether a signature is on so many nodes at once that it is one cause. Answers whether that is
    /// so for the fleet as a whole rather than for the pool.
    pub(crate) fn is_everywhere(
        &self,
        pool: &PoolName,
        signature: &str,
        now: Time,
    ) -> Option<bool> {
        let guards = &self.settings.guards;
        let smallest = guards.small_fleet_nodes as usize;
        let own = self.signature_hits(Some(pool), signature, now);
        let widespread = |hits: usize, nodes: usize| {
            guards::is_widespread(hits, nodes, guards.breaker.threshold.of(nodes), smallest)
        };
        let stands = self
            .standing_breakers(pool, signature)
            .any(|(_, breaker)| breaker.fleet);
        // No more nodes are hit than there are hits: mostly those are too few already.
        let base = self.budget_base(None);
        let spread = || {
            let all = self.signature_hits(None, signature, now);
            all > own && widespread(all, base)
        };
        let may_be = own > 0 && widespread(self.index.hit_count(signature), base);
        if stands || (may_be && spread()) {
            return Some(true);
        }
        widespread(own, self.budget_base(Some(pool))).then_some(false)
    }

    /// On how many nodes of a pool, or of the fleet, a signature was found unhealthy within the
    /// window and since the breaker was last reset.
    pub(crate) fn signature_hits(
        &self,
        pool: Option<&PoolName>,
        signature: &str,
        now: Time,
    ) -> usize {
        let window = self.settings.guards.breaker.window;
        let reset = |pool: &PoolName| {
            let memory = self.state.pools.get(pool)?;
            memory.repair_breakers.get(signature)?.reset
        };
        let counted = |(name, id): (&PoolName, &IncidentId)| {
            let incident = self.state.incidents.get(id)?;
            let hit = incident.hit_at()?;
            let counts = now.since(hit.core) < window
                && reset(name).is_none_or(|reset| hit.core > reset.core);
            counts.then_some(&incident.key.node)
        };
        let nodes: BTreeSet<&NodeId> = match pool {
            Some(pool) => {
                let hits = self.index.hits_in(pool, signature);
                hits.filter_map(|id| counted((pool, id))).collect()
            }
            None => self.index.hits(signature).filter_map(counted).collect(),
        };
        nodes.len()
    }

    /// Whether a pool too small for a breaker has seen its last replacement for a signature hold.
    pub(super) fn small_pool_is_settled(
        &self,
        pool: &PoolName,
        signature: &str,
        now: Time,
    ) -> Result<(), Block> {
        if self.budget_base(Some(pool)) >= self.settings.guards.small_fleet_nodes as usize {
            return Ok(());
        }
        let memory = self.state.pools.get(pool);
        let last = memory
            .and_then(|memory| memory.last_repairs.get(signature))
            .and_then(|last| self.last_replacement(&last.instance, last.at.core));
        let wait = self.settings.guards.small_fleet_wait;
        guards::small_pool(signature, last, wait, &self.presence(), now).map_or(Ok(()), Err)
    }

    /// How the replacement of an instance stands.
    pub(crate) fn last_replacement(
        &self,
        id: &InstanceId,
        decided: Time,
    ) -> Option<LastReplacement> {
        let replaced = self
            .index
            .replacements(id)
            .filter_map(|other| self.state.instances.get(other))
            .max_by_key(|other| (other.phase.counts_as_capacity(), other.created));
        let old = self
            .state
            .instances
            .get(id)
            .filter(|old| old.phase == Phase::Running);
        let draining = old
            .and_then(|old| self.node_of(old))
            .is_some_and(|node| node.our_drain().is_some());
        match replaced {
            Some(other) if other.active_since.is_some() => other
                .active_since
                .map(|since| LastReplacement::ActiveSince(since.core)),
            // It broke as well: waiting for it to be ACTIVE could last for ever.
            Some(other) if self.is_out_of_order(other) => {
                let broke = self
                    .node_of(other)
                    .and_then(|node| self.worst_incident(node))
                    .map_or(decided, |incident| incident.opened.core);
                Some(LastReplacement::None(broke.max(decided)))
            }
            Some(other) if other.phase.counts_as_capacity() => Some(LastReplacement::NotActive),
            _ if draining => Some(LastReplacement::NotActive),
            // The drain was taken back: the old machine is repaired and no attempt counts.
            _ if old.is_some() => None,
            _ => Some(LastReplacement::None(decided)),
        }
    }
}

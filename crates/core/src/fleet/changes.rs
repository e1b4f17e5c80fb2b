//! Changes of the state: each goes through one of these, which also keep the indexes.

use std::sync::Arc;

use navarch_model::{
    Breaker, Change, EventKind, Incident, Instance, InstanceId, Meta, Node, NodeStatus, Phase,
    Pool, PoolName, Subject,
};

use crate::fleet::{Fleet, status_word};

impl Fleet {
    // Every change of state goes through one of these, which also keep the indexes.

    pub(super) fn put(&mut self, change: Change) {
        self.mark(&change);
        let before = self.index.tally(None);
        self.index.apply(&mut self.state, &change);
        self.base.take();
        if self.index.tally(None) != before {
            // The fleet's budget is a share of all.
            self.due.waiting = true;
        }
        self.changes.push(change);
    }

    /// Notes which pools a change concerns.
    pub(super) fn mark(&mut self, change: &Change) {
        let state = &self.state;
        let about = match change {
            Change::Node(node) => Some(node.id.clone()),
            Change::Incident(incident) => Some(incident.key.node.clone()),
            Change::Instance(instance) => instance.node.clone(),
            _ => None,
        };
        if let Some(node) = about {
            self.stale.doubt(node);
        }
        let pool_of = |id: &InstanceId| state.instances.get(id).map(|one| one.pool.clone());
        let mut pools: Vec<Option<PoolName>> = Vec::new();
        match change {
            Change::Meta(meta) => {
                self.due.all |= meta.automation != state.meta.automation;
            }
            Change::Pool(pool) => {
                pools.push(Some(pool.name.clone()));
                // A breaker may stand for the whole fleet, and open in every pool that has its
                // signature.
                let before = state.pools.get(&pool.name);
                let was = |signature: &String| before?.repair_breakers.get(signature);
                for (signature, breaker) in &pool.repair_breakers {
                    if was(signature) != Some(breaker) {
                        let hit = self.index.hit_pools(signature);
                        pools.extend(hit.cloned().map(Some));
                    }
                }
                self.due.waiting |= before.is_none_or(|before| {
                    before.repair_breakers != pool.repair_breakers
                        || before.automation != pool.automation
                        || before.asked != pool.asked
                });
            }
            Change::ForgetPool(name) => pools.push(Some(name.clone())),
            Change::Instance(instance) => {
                pools.push(Some(instance.pool.clone()));
                // How long it holds a slot of the fleet's budget may be another matter now.
                self.due.waiting |= self.index.is_disrupted(&instance.id);
            }
            Change::ForgetInstance(id) => pools.push(pool_of(id)),
            Change::Node(node) => {
                let before = state.nodes.get(&node.id);
                pools.push(before.and_then(|node| node.pool.clone()));
                pools.push(node.pool.clone());
                let instance = node.instance.as_ref();
                self.due.waiting |= instance.is_some_and(|id| self.index.is_disrupted(id));
                let heard = |node: &Node| (node.lifecycle, node.fresh_since, node.silent_since);
                if before.map(|node| heard(node)) != Some(heard(node)) {
                    self.witnesses.take();
                    self.due.waiting = true;
                }
            }
            Change::ForgetNode(id) => {
                pools.push(state.nodes.get(id).and_then(|node| node.pool.clone()));
                self.witnesses.take();
            }
            Change::Incident(incident) => {
                pools.push(incident.pool.clone());
                // One more hit may be one too many for the fleet.
                let before = state.incidents.get(&incident.id);
                if before.and_then(|before| before.hit_at()) != incident.hit_at() {
                    let hit = self.index.hit_pools(incident.signature());
                    pools.extend(hit.cloned().map(Some));
                }
            }
            Change::ForgetIncident(id) => {
                pools.push(state.incidents.get(id).and_then(|one| one.pool.clone()));
            }
            Change::Unclaimed(machine) => {
                pools.push(machine.instance.as_ref().and_then(pool_of));
            }
            Change::UnclaimedGone(provider, id) => {
                let known = state.unclaimed.get(&(provider.clone(), id.clone()));
                let instance = known.and_then(|machine| machine.instance.as_ref());
                pools.push(instance.and_then(pool_of));
            }
            Change::Command(_) | Change::ForgetCommand(_) | Change::Event(_) => {}
        }
        self.due.pools.extend(pools.into_iter().flatten());
    }

    /// Notes that the pool of an instance has to be looked at, for something that is not stored.
    pub(crate) fn look_at(&mut self, pool: Option<PoolName>) {
        self.due.any = true;
        self.due.pools.extend(pool);
    }

    /// Notes that everything has to be looked at.
    pub(crate) fn look_at_all(&mut self) {
        self.stale.doubt_all();
        self.due.any = true;
        self.due.all = true;
    }

    pub(crate) fn put_meta(&mut self, meta: Meta) {
        self.put(Change::Meta(Arc::new(meta)));
    }

    pub(crate) fn put_pool(&mut self, pool: Pool) {
        if self
            .state
            .pools
            .get(&pool.name)
            .is_none_or(|before| **before != pool)
        {
            self.put(Change::Pool(Arc::new(pool)));
        }
    }

    pub(crate) fn put_instance(&mut self, instance: Instance) {
        self.put(Change::Instance(Arc::new(instance)));
    }

    pub(crate) fn put_incident(&mut self, incident: Incident) {
        self.put(Change::Incident(Arc::new(incident)));
    }

    /// Stores a node and draws the consequences of a changed status.
    pub(crate) fn put_node(&mut self, mut node: Node, cause: &str) {
        self.renotice(&mut node);
        let before = self.state.nodes.get(&node.id).cloned();
        let from = before
            .as_ref()
            .map_or(NodeStatus::Unknown, |node| node.status());
        let to = node.status();
        let (id, instance, pool) = (node.id.clone(), node.instance.clone(), node.pool.clone());
        if before.is_none_or(|before| *before != node) {
            self.put(Change::Node(Arc::new(node)));
        }
        if from == to {
            return;
        }
        let subject = Subject {
            node: Some(id),
            instance: instance.clone(),
            pool,
            ..Subject::default()
        };
        self.event(
            EventKind::NodeStatus,
            subject,
            format!("{} to {}: {cause}", status_word(from), status_word(to)),
            [
                ("from", from.name().to_owned()),
                ("to", to.name().to_owned()),
            ],
        );
        if let Some(instance) = instance {
            self.node_status_changed(&instance, to == NodeStatus::Active);
        }
    }

    /// Remembers since when an instance's node is ACTIVE, which proves its launch.
    pub(super) fn node_status_changed(&mut self, id: &InstanceId, active: bool) {
        let Some(instance) = self.state.instances.get(id) else {
            return;
        };
        let mut instance = Instance::clone(instance);
        instance.active_since = active.then_some(self.now);
        let first = active && !instance.was_active;
        instance.was_active |= active;
        let (pool, offering) = (instance.pool.clone(), instance.offering.clone());
        self.put_instance(instance);
        if first {
            let name = offering.to_string();
            let was_open = self
                .remembered(&pool, &name)
                .is_some_and(|memory| memory.breaker.is_open());
            // What the cloud refuses meanwhile is another matter.
            self.change_offerings(&pool, [&offering], |memory| {
                memory.breaker = Breaker::default();
                memory.proven = true;
            });
            if was_open {
                self.event(
                    EventKind::BreakerClosed,
                    Subject {
                        pool: Some(pool),
                        ..Subject::default()
                    },
                    format!("launch breaker of {offering}: a machine became ACTIVE"),
                    [],
                );
            }
        }
    }

    /// Moves an instance to another phase, recording why.
    pub(crate) fn move_instance(&mut self, mut instance: Instance, to: Phase, why: &str) {
        let from = instance.phase;
        debug_assert!(from.may_become(to), "{} to {}", from.word(), to.word());
        instance.phase = to;
        instance.phase_since = self.now;
        instance.message = why.to_owned();
        if !to.may_be_alive() {
            instance.ended = Some(self.now);
            instance.retry_at = None;
            self.calls.remove(&instance.id);
            self.alerted.remove(&instance.id);
        }
        let subject = self.instance_subject(&instance);
        self.event(
            EventKind::InstancePhase,
            subject,
            format!("{} to {}: {why}", from.word(), to.word()),
            [
                ("from", from.word().to_owned()),
                ("to", to.word().to_owned()),
            ],
        );
        self.put_instance(instance);
    }
}

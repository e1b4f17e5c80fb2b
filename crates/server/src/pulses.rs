//! The liveness table, sharded so that heartbeats of many nodes do not wait for one lock.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use navarch_core::liveness::{Deaf, Liveness, Pulse, Sample, Transition};
use navarch_model::{Node, NodeId, SessionId, Stamp, State, Time};

/// More shards than cores, so that two beats rarely meet.
const SHARDS: usize = 16;

/// When each node was last heard, and what it measured.
#[derive(Debug)]
pub struct Pulses {
    shards: Vec<Mutex<Liveness>>,
}

impl Default for Pulses {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Pulses {
    fn shard<R>(&self, node: &NodeId, work: impl FnOnce(&mut Liveness) -> R) -> R {
        let mut hasher = DefaultHasher::new();
        node.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % SHARDS as u64).unwrap_or_default();
        work(
            &mut self.shards[at]
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Takes every live node of a loaded state as heard now.
    pub fn load(&self, state: &State, now: Stamp) {
        for node in state
            .nodes
            .values()
            .filter(|node| node.terminated.is_none())
        {
            let silent = node.silent_since.is_some();
            self.register(node, now);
            self.shard(&node.id, |shard| shard.told(&node.id, silent));
        }
    }

    /// A node registered, as it is stored.
    fn register(&self, node: &Node, now: Stamp) {
        let silent = node.silent_since.is_some();
        self.shard(&node.id, |shard| {
            let (id, session) = (node.id.clone(), node.session.clone());
            shard.register(id, session, node.incarnation, silent, now);
        });
    }

    /// Takes a stored node into the table, unless this machine is there under its session.
    pub fn ensure(&self, node: &Node, now: Stamp) {
        let known = self.shard(&node.id, |shard| {
            shard.get(&node.id).is_some_and(|pulse| {
                pulse.session == node.session && pulse.incarnation == node.incarnation
            })
        });
        if !known {
            self.register(node, now);
        }
    }

    /// Whether a node that the Fleet holds for silent was heard since: the word of its return was
    /// lost on the way.
    pub fn is_back(&self, node: &NodeId, silent_since: Stamp) -> bool {
        self.shard(node, |shard| {
            shard.get(node).is_some_and(|pulse| {
                !pulse.silent && pulse.beat.is_some_and(|beat| beat.core > silent_since.core)
            })
        })
    }

    /// A node is gone.
    pub fn forget(&self, node: &NodeId) {
        self.shard(node, |shard| shard.forget(node));
    }

    /// A heartbeat came.
    ///
    /// # Errors
    ///
    /// Says why it does not count.
    pub fn beat(
        &self,
        node: &NodeId,
        session: Option<&SessionId>,
        sample: Option<Sample>,
        now: Stamp,
    ) -> Result<Option<Transition>, Deaf> {
        self.shard(node, |shard| shard.beat(node, session, sample, now))
    }

    /// Finds the nodes that went silent.
    pub fn sweep(&self, timeout: Duration, grace: Time, now: Stamp) -> Vec<Transition> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            found.extend(shard.sweep(timeout, grace, now));
        }
        found
    }

    /// What is known of a node.
    pub fn get(&self, node: &NodeId) -> Option<Pulse> {
        self.shard(node, |shard| shard.get(node).cloned())
    }

    /// When a node last sent a heartbeat, without what it measured.
    pub fn last_beat(&self, node: &NodeId) -> Option<Stamp> {
        self.shard(node, |shard| shard.get(node).and_then(|pulse| pulse.beat))
    }
}

//! The liveness table, sharded so that heartbeats of many nodes do not wait for one lock.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use navarch_core::history::{Gathered, Metric};
use navarch_core::liveness::{Deaf, Liveness, Pulse, Sample, Transition};
use navarch_model::{Node, NodeId, Stamp, State, Time};

/// More shards than cores, so that two beats rarely meet.
const SHARDS: usize = 16;

/// When each node was last heard, and what it measured.
#[derive(Debug)]
pub struct Pulses {
    shards: Vec<Mutex<Liveness>>,
    /// When nodes that are gone were last heard, for as long as they are listed.
    gone: Mutex<BTreeMap<NodeId, Stamp>>,
}

impl Default for Pulses {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            gone: Mutex::default(),
        }
    }
}

impl Pulses {
    fn shard<R>(&self, node: &str, work: impl FnOnce(&mut Liveness) -> R) -> R {
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
            self.shard(node.id.as_str(), |shard| shard.told(&node.id, silent));
        }
    }

    /// A node registered, as it is stored.
    fn register(&self, node: &Node, now: Stamp) {
        self.forget_beat(&node.id);
        let silent = node.silent_since.is_some();
        self.shard(node.id.as_str(), |shard| {
            let (id, session) = (node.id.clone(), node.session.clone());
            shard.register(id, session, node.incarnation, silent, now);
        });
    }

    /// Takes a stored node into the table, unless this machine is there under its session.
    pub fn ensure(&self, node: &Node, now: Stamp) {
        let known = self.shard(node.id.as_str(), |shard| {
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
        self.shard(node.as_str(), |shard| {
            shard.get(node).is_some_and(|pulse| {
                !pulse.silent && pulse.beat.is_some_and(|beat| beat.core > silent_since.core)
            })
        })
    }

    /// A node is gone. When it was last heard stays known.
    pub fn forget(&self, node: &NodeId) {
        let last = self.shard(node.as_str(), |shard| {
            let last = shard.get(node).and_then(|pulse| pulse.beat);
            shard.forget(node);
            last
        });
        if let Some(last) = last {
            self.gone().insert(node.clone(), last);
        }
    }

    /// A node that is gone is listed no more.
    pub fn forget_beat(&self, node: &NodeId) {
        self.gone().remove(node);
    }

    fn gone(&self) -> MutexGuard<'_, BTreeMap<NodeId, Stamp>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A heartbeat came.
    ///
    /// # Errors
    ///
    /// Says why it does not count.
    pub fn beat(
        &self,
        node: &str,
        session: Option<&str>,
        sample: Option<Sample>,
        now: Stamp,
    ) -> Result<Option<Transition>, Deaf> {
        self.shard(node, |shard| shard.beat(node, session, sample, now))
    }

    /// Takes over when a node last sent a heartbeat, from whoever heard it.
    pub(crate) fn heard(&self, node: &NodeId, beat: Stamp) {
        self.shard(node.as_str(), |shard| {
            if shard
                .get(node)
                .is_some_and(|known| known.beat != Some(beat))
            {
                // Of whatever session it is: it was judged where it was heard.
                let _ = shard.beat(node.as_str(), None, None, beat);
            }
        });
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

    /// How busy each GPU of a node was when it last said, in percent; none if it never did.
    pub fn utilization(&self, node: &NodeId) -> Option<Vec<f64>> {
        self.shard(node.as_str(), |shard| {
            let gpus = &shard.get(node)?.sample.gpus;
            let busy = gpus.iter().map(|gpu| gpu.utilization).collect::<Vec<_>>();
            (!busy.is_empty()).then_some(busy)
        })
    }

    /// What is known of a node.
    pub fn get(&self, node: &NodeId) -> Option<Pulse> {
        self.shard(node.as_str(), |shard| shard.get(node).cloned())
    }

    /// What a node measured last; none if it measured nothing yet.
    pub fn sample(&self, node: &NodeId) -> Option<Sample> {
        self.shard(node.as_str(), |shard| {
            let pulse = shard.get(node)?;
            pulse.beat.map(|_| pulse.sample.clone())
        })
    }

    /// Adds what a node measured since `from` to what others did.
    pub fn gather(&self, node: &NodeId, metric: Metric, from: Time, into: &mut Gathered) {
        self.shard(node.as_str(), |shard| {
            if let Some(pulse) = shard.get(node) {
                into.add(pulse.history.since(metric, from));
            }
        });
    }

    /// When a node last sent a heartbeat, without what it measured.
    pub fn last_beat(&self, node: &NodeId) -> Option<Stamp> {
        let heard = self.shard(node.as_str(), |shard| Some(shard.get(node)?.beat));
        heard.unwrap_or_else(|| self.gone().get(node).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_a_node_was_last_heard_is_known_until_it_is_listed_no_more() {
        let at = |second: i64| Stamp {
            core: Time(second),
            wall: Time(second),
        };
        let (pulses, node) = (Pulses::default(), NodeId::new("a"));
        let register = || {
            pulses.forget_beat(&node);
            pulses.shard(node.as_str(), |shard| {
                shard.register(node.clone(), None, 1, false, at(1));
            });
        };
        register();
        pulses.beat(node.as_str(), None, None, at(5)).unwrap();
        // A record that is gone may change more than once.
        for _ in 0..2 {
            pulses.forget(&node);
            assert_eq!(pulses.last_beat(&node), Some(at(5)));
        }
        // Another machine under its name has not been heard by that.
        register();
        assert_eq!(
            pulses.last_beat(&node),
            pulses.get(&node).and_then(|pulse| pulse.beat)
        );
        assert_ne!(pulses.last_beat(&node), Some(at(5)));
        pulses.forget(&node);
        pulses.forget_beat(&node);
        assert_eq!(pulses.last_beat(&node), None);
    }
}

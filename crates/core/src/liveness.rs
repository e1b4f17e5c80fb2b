//! When each node was last heard, and what it measured: soft state of the hot path.

use std::collections::BTreeMap;
use std::time::Duration;

use navarch_model::{NodeId, SessionId, Stamp, Time};

/// What one GPU measured.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GpuSample {
    /// Position in the machine.
    pub index: i32,
    /// Degrees Celsius.
    pub temperature: i32,
    /// Watts.
    pub power: i32,
    /// Percent.
    pub utilization: f64,
    /// Bytes.
    pub memory_used: i64,
}

/// What a heartbeat brought.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sample {
    /// CPU use in percent.
    pub cpu: f64,
    /// Memory use in percent.
    pub memory: f64,
    /// GPUs.
    pub gpus: Vec<GpuSample>,
}

/// What is known of one node's heartbeats.
#[derive(Debug, Clone, PartialEq)]
pub struct Pulse {
    /// When it was last heard, by our clock.
    pub heard: Stamp,
    /// When a heartbeat last came; a registration is no heartbeat.
    pub beat: Option<Stamp>,
    /// Whether the Fleet was told that it is silent.
    pub silent: bool,
    /// The session whose beats count.
    pub session: Option<SessionId>,
    /// The latest measurements.
    pub sample: Sample,
}

/// Why a heartbeat does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deaf {
    /// The node is not registered.
    Unknown,
    /// Another agent registered under the id since.
    Superseded,
}

/// What the Fleet must hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// Not heard for longer than the timeout.
    Silent(NodeId, Stamp),
    /// A silent node was heard.
    Back(NodeId),
}

/// The table of pulses. One owner; the server shards it by node id.
#[derive(Debug, Clone, Default)]
pub struct Liveness {
    pulses: BTreeMap<NodeId, Pulse>,
}

impl Liveness {
    /// A node registered, or was loaded: it counts as heard now.
    pub fn register(&mut self, node: NodeId, session: Option<SessionId>, silent: bool, now: Stamp) {
        let pulse = self.pulses.entry(node).or_insert_with(|| Pulse {
            heard: now,
            beat: None,
            silent,
            session: None,
            sample: Sample::default(),
        });
        pulse.heard = now;
        pulse.session = session;
    }

    /// Takes over what the Fleet was told, after it was loaded again.
    pub fn told(&mut self, node: &NodeId, silent: bool) {
        if let Some(pulse) = self.pulses.get_mut(node) {
            pulse.silent = silent;
        }
    }

    /// A node is gone.
    pub fn forget(&mut self, node: &NodeId) {
        self.pulses.remove(node);
    }

    /// A heartbeat came. Answers the transition to tell the Fleet, if there is one.
    ///
    /// # Errors
    ///
    /// Says why the heartbeat does not count.
    pub fn beat(
        &mut self,
        node: &NodeId,
        session: Option<&SessionId>,
        sample: Option<Sample>,
        now: Stamp,
    ) -> Result<Option<Transition>, Deaf> {
        let pulse = self.pulses.get_mut(node).ok_or(Deaf::Unknown)?;
        if session.is_some() && pulse.session.as_ref() != session {
            return Err(Deaf::Superseded);
        }
        pulse.heard = now;
        pulse.beat = Some(now);
        if let Some(sample) = sample {
            pulse.sample = sample;
        }
        Ok(std::mem::take(&mut pulse.silent).then(|| Transition::Back(node.clone())))
    }

    /// Finds the nodes that went silent. `grace` is the moment since which silence counts at all.
    pub fn sweep(&mut self, timeout: Duration, grace: Time, now: Stamp) -> Vec<Transition> {
        let mut found = Vec::new();
        for (node, pulse) in &mut self.pulses {
            if !pulse.silent && now.core.since(pulse.heard.core.max(grace)) > timeout {
                pulse.silent = true;
                found.push(Transition::Silent(node.clone(), pulse.heard));
            }
        }
        found
    }

    /// What is known of a node.
    pub fn get(&self, node: &NodeId) -> Option<&Pulse> {
        self.pulses.get(node)
    }

    /// How many nodes are in the table.
    pub fn len(&self) -> usize {
        self.pulses.len()
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.pulses.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Stamp {
        Stamp {
            core: Time(seconds * 1_000_000),
            wall: Time(0),
        }
    }

    #[test]
    fn silence_is_told_once_and_so_is_the_return() {
        let mut table = Liveness::default();
        let node = NodeId::new("a");
        let timeout = Duration::from_secs(90);
        table.register(node.clone(), None, false, at(0));
        assert_eq!(table.sweep(timeout, Time(0), at(90)), []);
        assert_eq!(
            table.sweep(timeout, Time(0), at(91)),
            [Transition::Silent(node.clone(), at(0))]
        );
        assert_eq!(table.sweep(timeout, Time(0), at(92)), []);
        assert_eq!(
            table.beat(&node, None, None, at(93)),
            Ok(Some(Transition::Back(node.clone())))
        );
        assert_eq!(table.beat(&node, None, None, at(94)), Ok(None));
        assert_eq!(table.sweep(timeout, Time(0), at(184)), []);
    }

    #[test]
    fn grace_gives_everybody_a_full_period() {
        let mut table = Liveness::default();
        let timeout = Duration::from_secs(90);
        table.register(NodeId::new("a"), None, false, at(0));
        assert_eq!(table.sweep(timeout, at(1000).core, at(1090)), []);
        assert_eq!(table.sweep(timeout, at(1000).core, at(1091)).len(), 1);
    }

    #[test]
    fn strangers_and_superseded_sessions_are_not_heard() {
        let mut table = Liveness::default();
        let (old, new) = (SessionId::new("old"), SessionId::new("new"));
        let node = NodeId::new("a");
        assert_eq!(table.beat(&node, None, None, at(1)), Err(Deaf::Unknown));
        table.register(node.clone(), Some(old.clone()), false, at(0));
        table.register(node.clone(), Some(new.clone()), false, at(1));
        assert_eq!(
            table.beat(&node, Some(&old), None, at(2)),
            Err(Deaf::Superseded)
        );
        assert_eq!(table.beat(&node, Some(&new), None, at(2)), Ok(None));
        // An agent of the Go project names no session.
        assert_eq!(table.beat(&node, None, None, at(3)), Ok(None));
    }
}

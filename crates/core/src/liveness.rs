//! When each node was last heard, and what it measured: soft state of the hot path.

use std::time::Duration;

use indexmap::IndexMap;
use navarch_model::{NodeId, SessionId, Stamp, Time};

use crate::history::History;

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
    /// Which of the machines that had the id, one after the other.
    pub incarnation: u32,
    /// The latest measurements.
    pub sample: Sample,
    /// The measurements of the last hour.
    pub history: History,
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

impl Transition {
    fn node(&self) -> &NodeId {
        match self {
            Self::Silent(node, _) | Self::Back(node) => node,
        }
    }
}

/// The table of pulses. One owner; the server shards it by node id.
#[derive(Debug, Clone, Default)]
pub struct Liveness {
    /// Hashed, because a beat of a node that was not heard for a while finds none of this in the
    /// processor's caches: each id that a search compares on its way costs as much as the rest.
    pulses: IndexMap<NodeId, Pulse>,
    /// Until then nobody can be silent for the timeout of the last sweep.
    due: Time,
    timeout: Duration,
}

impl Liveness {
    /// A node that is not taken for silent was heard at a moment.
    fn expect(&mut self, heard: Time) {
        self.due = self.due.min(heard + self.timeout);
    }

    /// A node registered, or was loaded: it counts as heard now. `silent` is what the Fleet holds
    /// it for. Of another machine under the id nothing that was known applies.
    pub fn register(
        &mut self,
        node: NodeId,
        session: Option<SessionId>,
        incarnation: u32,
        silent: bool,
        now: Stamp,
    ) {
        let fresh = || Pulse {
            heard: now,
            beat: None,
            silent,
            session: None,
            incarnation,
            sample: Sample::default(),
            history: History::default(),
        };
        let pulse = self.pulses.entry(node).or_insert_with(fresh);
        if pulse.incarnation != incarnation {
            *pulse = fresh();
        }
        pulse.heard = now;
        pulse.silent = silent;
        pulse.session = session;
        if !silent {
            self.expect(now.core);
        }
    }

    /// Takes over what the Fleet was told, after it was loaded again.
    pub fn told(&mut self, node: &NodeId, silent: bool) {
        let Some(pulse) = self.pulses.get_mut(node) else {
            return;
        };
        pulse.silent = silent;
        let heard = pulse.heard.core;
        if !silent {
            self.expect(heard);
        }
    }

    /// A node is gone.
    pub fn forget(&mut self, node: &NodeId) {
        self.pulses.swap_remove(node);
    }

    /// A heartbeat came. Answers the transition to tell the Fleet, if there is one. Ids are taken
    /// as texts, since most beats leave nothing behind that needs more.
    ///
    /// # Errors
    ///
    /// Says why the heartbeat does not count.
    pub fn beat(
        &mut self,
        node: &str,
        session: Option<&str>,
        sample: Option<Sample>,
        now: Stamp,
    ) -> Result<Option<Transition>, Deaf> {
        let (_, node, pulse) = self.pulses.get_full_mut(node).ok_or(Deaf::Unknown)?;
        if session.is_some() && pulse.session.as_ref().map(SessionId::as_str) != session {
            return Err(Deaf::Superseded);
        }
        pulse.heard = now;
        pulse.beat = Some(now);
        if let Some(sample) = sample {
            pulse.history.add(&sample, now.core);
            pulse.sample = sample;
        }
        if !std::mem::take(&mut pulse.silent) {
            return Ok(None);
        }
        let back = Transition::Back(node.clone());
        self.expect(now.core);
        Ok(Some(back))
    }

    /// A node counts as heard until [`doubt`](Self::doubt) ends it: for a driver that knows by
    /// itself when the node falls silent, and need not tell of each beat. Answers when the node was
    /// heard last; none if there is nothing to vouch for.
    pub fn vouch(&mut self, node: &NodeId) -> Option<Stamp> {
        let pulse = self.pulses.get_mut(node).filter(|pulse| !pulse.silent)?;
        let heard = pulse.heard;
        pulse.heard.core = Time::NEVER;
        Some(heard)
    }

    /// From now on beats count again. `heard` is the last one until now.
    pub fn doubt(&mut self, node: &NodeId, heard: Stamp) {
        let vouched = |pulse: &&mut Pulse| pulse.heard.core == Time::NEVER;
        if let Some(pulse) = self.pulses.get_mut(node).filter(vouched) {
            pulse.heard = heard;
            if pulse.beat.is_some_and(|beat| beat.core < heard.core) {
                pulse.beat = Some(heard);
            }
            self.expect(heard.core);
        }
    }

    /// Finds the nodes that went silent, in the order of their ids. `grace` is the moment since which silence counts at all;
    /// it never goes back.
    pub fn sweep(&mut self, timeout: Duration, grace: Time, now: Stamp) -> Vec<Transition> {
        let mut found = Vec::new();
        // Beats and grace only put off when the next node is overdue.
        if timeout == self.timeout && now.core <= self.due {
            return found;
        }
        let mut next = Time::NEVER;
        for (node, pulse) in &mut self.pulses {
            if pulse.silent {
                continue;
            }
            let since = pulse.heard.core.max(grace);
            if now.core.since(since) > timeout {
                pulse.silent = true;
                found.push(Transition::Silent(node.clone(), pulse.heard));
            } else {
                next = next.min(since + timeout);
            }
        }
        (self.due, self.timeout) = (next, timeout);
        found.sort_unstable_by(|one, other| one.node().cmp(other.node()));
        found
    }

    /// What is known of a node.
    pub fn get(&self, node: &NodeId) -> Option<&Pulse> {
        self.pulses.get(node)
    }

    /// Everything that is known, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeId, &Pulse)> {
        self.pulses.iter()
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
        table.register(node.clone(), None, 1, false, at(0));
        assert_eq!(table.sweep(timeout, Time(0), at(90)), []);
        assert_eq!(
            table.sweep(timeout, Time(0), at(91)),
            [Transition::Silent(node.clone(), at(0))]
        );
        assert_eq!(table.sweep(timeout, Time(0), at(92)), []);
        assert_eq!(
            table.beat(node.as_str(), None, None, at(93)),
            Ok(Some(Transition::Back(node.clone())))
        );
        assert_eq!(table.beat(node.as_str(), None, None, at(94)), Ok(None));
        assert_eq!(table.sweep(timeout, Time(0), at(184)), []);
    }

    #[test]
    fn another_machine_under_the_id_of_a_silent_one_is_found_silent_as_well() {
        let mut table = Liveness::default();
        let node = NodeId::new("a");
        let timeout = Duration::from_secs(90);
        table.register(node.clone(), None, 1, false, at(0));
        let sample = Sample {
            cpu: 50.0,
            ..Sample::default()
        };
        table
            .beat(node.as_str(), None, Some(sample), at(1))
            .unwrap();
        assert_eq!(table.sweep(timeout, Time(0), at(92)).len(), 1);
        // It registers and never beats.
        table.register(node.clone(), None, 2, false, at(100));
        let pulse = table.get(&node).unwrap();
        assert_eq!((pulse.beat, &pulse.sample), (None, &Sample::default()));
        assert_eq!(table.sweep(timeout, Time(0), at(190)), []);
        assert_eq!(
            table.sweep(timeout, Time(0), at(191)),
            [Transition::Silent(node, at(100))]
        );
    }

    #[test]
    fn an_agent_that_starts_again_on_a_silent_node_brings_it_back_with_its_first_beat() {
        let mut table = Liveness::default();
        let node = NodeId::new("a");
        let timeout = Duration::from_secs(90);
        table.register(node.clone(), None, 1, false, at(0));
        assert_eq!(table.sweep(timeout, Time(0), at(91)).len(), 1);
        table.register(node.clone(), None, 1, true, at(100));
        assert_eq!(table.sweep(timeout, Time(0), at(300)), []);
        assert_eq!(
            table.beat(node.as_str(), None, None, at(301)),
            Ok(Some(Transition::Back(node.clone())))
        );
    }

    #[test]
    fn whoever_is_overdue_first_is_found_then_whatever_came_in_between() {
        let mut table = Liveness::default();
        let timeout = Duration::from_secs(90);
        let [a, b, c] = ["a", "b", "c"].map(NodeId::new);
        table.register(a.clone(), None, 1, false, at(0));
        table.register(b.clone(), None, 1, false, at(10));
        assert_eq!(table.sweep(timeout, Time(0), at(50)), []);
        table.beat(a.as_str(), None, None, at(60)).unwrap();
        table.register(c.clone(), None, 1, true, at(70));
        table.told(&c, false);
        assert_eq!(
            table.sweep(timeout, Time(0), at(101)),
            [Transition::Silent(b.clone(), at(10))]
        );
        assert_eq!(
            table.beat(b.as_str(), None, None, at(102)),
            Ok(Some(Transition::Back(b.clone())))
        );
        assert_eq!(
            table.sweep(timeout, Time(0), at(193)),
            [a, b, c].map(|node| {
                let heard = table.get(&node).unwrap().heard;
                Transition::Silent(node, heard)
            })
        );
        // A shorter timeout counts at once.
        let node = NodeId::new("d");
        table.register(node.clone(), None, 1, false, at(200));
        assert_eq!(table.sweep(timeout, Time(0), at(220)), []);
        assert_eq!(
            table.sweep(Duration::from_secs(10), Time(0), at(221)),
            [Transition::Silent(node, at(200))]
        );
    }

    #[test]
    fn a_node_that_somebody_vouches_for_is_silent_only_after_that_ended() {
        let mut table = Liveness::default();
        let node = NodeId::new("a");
        let timeout = Duration::from_secs(90);
        table.register(node.clone(), None, 1, false, at(0));
        assert_eq!(table.vouch(&node), Some(at(0)));
        assert_eq!(table.sweep(timeout, Time(0), at(1000)), []);
        table.doubt(&node, at(950));
        assert_eq!(table.sweep(timeout, Time(0), at(1040)), []);
        let silent = Transition::Silent(node.clone(), at(950));
        assert_eq!(table.sweep(timeout, Time(0), at(1041)), [silent]);
        assert_eq!(table.vouch(&node), None, "it is silent");
        // What nobody vouches for is not changed.
        table.beat(node.as_str(), None, None, at(1050)).unwrap();
        table.doubt(&node, at(10));
        assert_eq!(table.get(&node).unwrap().heard, at(1050));
    }

    #[test]
    fn grace_gives_everybody_a_full_period() {
        let mut table = Liveness::default();
        let timeout = Duration::from_secs(90);
        table.register(NodeId::new("a"), None, 1, false, at(0));
        assert_eq!(table.sweep(timeout, at(1000).core, at(1090)), []);
        assert_eq!(table.sweep(timeout, at(1000).core, at(1091)).len(), 1);
    }

    #[test]
    fn strangers_and_superseded_sessions_are_not_heard() {
        let mut table = Liveness::default();
        let (old, new) = (SessionId::new("old"), SessionId::new("new"));
        let node = NodeId::new("a");
        assert_eq!(
            table.beat(node.as_str(), None, None, at(1)),
            Err(Deaf::Unknown)
        );
        table.register(node.clone(), Some(old.clone()), 1, false, at(0));
        table.register(node.clone(), Some(new.clone()), 1, false, at(1));
        assert_eq!(
            table.beat(node.as_str(), Some(old.as_str()), None, at(2)),
            Err(Deaf::Superseded)
        );
        assert_eq!(
            table.beat(node.as_str(), Some(new.as_str()), None, at(2)),
            Ok(None)
        );
        // An agent of the Go project names no session.
        assert_eq!(table.beat(node.as_str(), None, None, at(3)), Ok(None));
    }
}

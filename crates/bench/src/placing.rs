//! Which agent takes which fault, and how long each fault took.
//!
//! Faults fall due at their own times, whatever became of those before. One that finds no agent
//! that is well waits in line, and counts from when it was due: a slow answer must not hide the
//! faults that it kept waiting.

use std::collections::VecDeque;
use std::time::Duration;

use navarch_api::wire::NodeStatus;

use crate::Result;

/// How far an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Well,
    /// Its fault was due then.
    Broken(Duration),
    Repairing,
}

/// Faults that are due and the agents that take them.
#[derive(Debug)]
pub struct Placing {
    phases: Vec<Phase>,
    /// When each fault in line was due, the oldest first.
    line: VecDeque<Duration>,
    turn: usize,
    /// How long each fault took that was seen.
    took: Vec<Duration>,
    waited: usize,
    left: usize,
}

/// What came of the faults.
#[derive(Debug)]
pub struct Placed {
    /// How long each fault took, sorted. One that no agent ever took counts with the time that it
    /// waited, which is less than it would have taken.
    pub took: Vec<Duration>,
    /// Faults that waited for an agent.
    pub waited: usize,
    /// Faults that no agent ever took.
    pub left: usize,
}

impl Placing {
    /// Agents that are all well.
    pub fn new(agents: usize) -> Self {
        Self {
            phases: vec![Phase::Well; agents],
            line: VecDeque::new(),
            turn: 0,
            took: Vec::new(),
            waited: 0,
            left: 0,
        }
    }

    /// A fault falls due. It waits in line until [`next`](Self::next) places it.
    pub fn falls_due(&mut self, due: Duration) {
        if !self.phases.contains(&Phase::Well) {
            self.waited += 1;
        }
        self.line.push_back(due);
    }

    /// The agent that takes the first fault in line, if there is one of each. Agents take turns.
    pub fn next(&mut self) -> Option<usize> {
        let due = *self.line.front()?;
        let count = self.phases.len();
        let agent = (0..count)
            .map(|step| (self.turn + step) % count)
            .find(|agent| self.phases[*agent] == Phase::Well)?;
        self.line.pop_front();
        self.turn = agent + 1;
        self.phases[agent] = Phase::Broken(due);
        Some(agent)
    }

    /// A node's status changed, seen at that time. Whether its agent is to be repaired.
    ///
    /// # Errors
    ///
    /// When nothing that was done to the agent explains the change.
    pub fn changed(&mut self, agent: usize, status: NodeStatus, at: Duration) -> Result<bool> {
        match (self.phases[agent], status) {
            (Phase::Broken(due), NodeStatus::NODE_STATUS_UNHEALTHY) => {
                self.took.push(at.saturating_sub(due));
                self.phases[agent] = Phase::Repairing;
                Ok(true)
            }
            (Phase::Repairing, NodeStatus::NODE_STATUS_ACTIVE) => {
                self.phases[agent] = Phase::Well;
                Ok(false)
            }
            (Phase::Repairing, _) => Ok(false),
            (phase, _) => Err(format!("agent {agent} became {status:?} while {phase:?}").into()),
        }
    }

    /// Whether nothing waits and every agent is well.
    pub fn is_done(&self) -> bool {
        self.line.is_empty() && self.phases.iter().all(|phase| *phase == Phase::Well)
    }

    /// Nothing more is placed from this time on: what is in line is left.
    pub fn stop(&mut self, now: Duration) {
        self.left += self.line.len();
        let waits = self.line.drain(..).map(|due| now.saturating_sub(due));
        self.took.extend(waits);
    }

    /// What came of it.
    pub fn end(mut self) -> Placed {
        self.took.sort_unstable();
        Placed {
            took: self.took,
            waited: self.waited,
            left: self.left,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIVE: NodeStatus = NodeStatus::NODE_STATUS_ACTIVE;
    const UNHEALTHY: NodeStatus = NodeStatus::NODE_STATUS_UNHEALTHY;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// One agent is slow: what fell due meanwhile counts from when it was due.
    #[test]
    fn a_fault_that_finds_no_agent_waits_and_counts_in_full() {
        let mut placing = Placing::new(1);
        placing.falls_due(ms(0));
        assert_eq!(placing.next(), Some(0));
        placing.falls_due(ms(10));
        placing.falls_due(ms(20));
        assert_eq!(placing.next(), None);
        assert!(placing.changed(0, UNHEALTHY, ms(100)).expect("its fault"));
        assert_eq!(placing.next(), None);
        assert!(!placing.changed(0, ACTIVE, ms(150)).expect("its repair"));
        assert_eq!(placing.next(), Some(0));
        assert!(placing.changed(0, UNHEALTHY, ms(160)).expect("its fault"));
        assert!(!placing.is_done());
        placing.stop(ms(520));
        assert_eq!(placing.next(), None);
        let placed = placing.end();
        // From 0 to 100, from 10 to 160, and from 20 until the end.
        assert_eq!(placed.took, [ms(100), ms(150), ms(500)]);
        assert_eq!((placed.waited, placed.left), (2, 1));
    }

    #[test]
    fn agents_take_turns_and_all_are_well_at_the_end() {
        let mut placing = Placing::new(3);
        let mut taken = Vec::new();
        for at in 0..6 {
            placing.falls_due(ms(at));
            let agent = placing.next().expect("all are well");
            taken.push(agent);
            placing.changed(agent, UNHEALTHY, ms(at)).expect("broken");
            let cordoned = NodeStatus::NODE_STATUS_CORDONED;
            placing.changed(agent, cordoned, ms(at)).expect("its gate");
            placing.changed(agent, ACTIVE, ms(at)).expect("repaired");
        }
        assert_eq!(taken, [0, 1, 2, 0, 1, 2]);
        assert!(placing.is_done());
        assert_eq!(placing.end().waited, 0);
    }

    #[test]
    fn a_change_that_nothing_explains_fails() {
        let mut placing = Placing::new(2);
        placing.falls_due(ms(0));
        assert_eq!(placing.next(), Some(0));
        for (agent, status) in [(0, ACTIVE), (1, UNHEALTHY), (1, ACTIVE)] {
            assert!(placing.changed(agent, status, ms(1)).is_err(), "{agent}");
        }
    }
}

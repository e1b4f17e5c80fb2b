//! What the control plane acknowledged or showed, which no crash may take back.

use std::collections::{BTreeMap, BTreeSet};

use navarch_api::v1::Event;
use navarch_api::wire::{InstanceInfo, NodeInfo};
use navarch_api::{Cause, ClientError};

/// What operators order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Cordon,
    Drain,
    Uncordon,
    Terminate,
}

impl Order {
    /// The wire's number.
    pub const fn number(self) -> i32 {
        match self {
            Self::Cordon => 1,
            Self::Drain => 2,
            Self::Terminate => 4,
            Self::Uncordon => 5,
        }
    }
}

/// What is known of one hold of an operator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Known {
    /// It was set, and that was acknowledged.
    Set,
    /// It was lifted, and that was acknowledged; or it was never set.
    #[default]
    Lifted,
    /// The last command about it was not answered.
    Unsure,
}

/// What is known of one node.
#[derive(Debug, Default)]
struct Word {
    cordon: Known,
    drain: Known,
    /// An end was ordered, acknowledged or not, or the machine was lost.
    may_end: bool,
    /// An end was acknowledged.
    must_end: bool,
}

/// The journal.
#[derive(Debug, Default)]
pub struct Journal {
    words: BTreeMap<String, Word>,
    events: BTreeMap<u64, (String, String, u32)>,
    /// The nodes whose agents took a fault that only another machine ends.
    pub fatal: BTreeSet<String>,
    /// The highest sequence that the control plane showed.
    pub sequence: u64,
    /// How many commands were acknowledged.
    pub acknowledged: usize,
    /// How many commands were not answered.
    pub unanswered: usize,
}

impl Journal {
    /// A command leaves: until its answer nothing is known.
    pub fn ordered(&mut self, node: &str, order: Order) {
        let word = self.words.entry(node.to_owned()).or_default();
        match order {
            Order::Cordon => word.cordon = Known::Unsure,
            Order::Drain => word.drain = Known::Unsure,
            Order::Uncordon => (word.cordon, word.drain) = (Known::Unsure, Known::Unsure),
            Order::Terminate => word.may_end = true,
        }
        self.unanswered += 1;
    }

    /// The answer came, with the holds that the node then had.
    pub fn answered(&mut self, node: &str, order: Order, answer: Result<&[String], &ClientError>) {
        let word = self.words.entry(node.to_owned()).or_default();
        match answer {
            Ok(holds) => {
                let is = |name: &str| match holds.iter().any(|hold| hold == name) {
                    true => Known::Set,
                    false => Known::Lifted,
                };
                (word.cordon, word.drain) = (is("operator:cordon"), is("operator:drain"));
                word.may_end |= holds.iter().any(|hold| hold == "drain:terminating");
                word.must_end |= order == Order::Terminate;
                self.acknowledged += 1;
            }
            Err(error) if error.cause != Cause::Answer => return,
            // A refusal says that nothing was changed: an uncordon that found no hold.
            Err(_) if order == Order::Uncordon => {
                (word.cordon, word.drain) = (Known::Lifted, Known::Lifted);
            }
            // Any other refusal is about a node that has ended.
            Err(_) => word.may_end = true,
        }
        self.unanswered -= 1;
    }

    /// The machine of a node is lost.
    pub fn lost(&mut self, node: &str) {
        self.words.entry(node.to_owned()).or_default().may_end = true;
    }

    /// The control plane showed these events. Answers what contradicts earlier showings.
    pub fn shown(&mut self, events: &[Event]) -> Vec<String> {
        let mut wrong = Vec::new();
        for event in events {
            self.sequence = self.sequence.max(event.sequence);
            let now = (event.kind.clone(), event.instance_id.clone(), event.count);
            match self.events.insert(event.sequence, now.clone()) {
                Some(before) if (&before.0, &before.1) != (&now.0, &now.1) || before.2 > now.2 => {
                    wrong.push(format!(
                        "event {} was {before:?} and is {now:?}",
                        event.sequence
                    ));
                }
                _ => {}
            }
        }
        wrong
    }

    /// Compares with the whole record: nothing shown is missing or other, and nothing lacks
    /// between the first and the last.
    pub fn check_record(&mut self, record: &[Event]) -> Vec<String> {
        let mut wrong = self.shown(record);
        for (event, number) in record.iter().zip(1..) {
            if event.sequence != number {
                wrong.push(format!(
                    "event {number} lacks: the record goes on with {}",
                    event.sequence
                ));
                break;
            }
        }
        let last = record.last().map_or(0, |event| event.sequence);
        if last < self.sequence {
            wrong.push(format!(
                "event {} was shown and the record ends at {last}",
                self.sequence
            ));
        }
        wrong
    }

    /// Compares every acknowledged command with what is there. Answers what is wrong, by node.
    pub fn check_commands(
        &self,
        nodes: &[NodeInfo],
        instances: &[InstanceInfo],
    ) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        for (id, word) in &self.words {
            let Some(node) = nodes.iter().find(|node| node.node_id == *id) else {
                wrong.push((id.clone(), "is on no record".to_owned()));
                continue;
            };
            let ended = node.terminated_at.is_set();
            let has = |name: &str| node.holds.iter().any(|hold| hold.name == name);
            for (name, known) in [
                ("operator:cordon", word.cordon),
                ("operator:drain", word.drain),
            ] {
                match known {
                    Known::Set if ended && word.may_end => {}
                    Known::Set if !has(name) => {
                        wrong.push((id.clone(), format!("{name} was acknowledged and is gone")));
                    }
                    Known::Lifted if has(name) => {
                        wrong.push((id.clone(), format!("{name} was lifted and is back")));
                    }
                    _ => {}
                }
            }
            let instance = instances
                .iter()
                .find(|known| known.instance_id == node.instance_id);
            let leaves = instance
                .is_some_and(|known| matches!(known.phase.as_str(), "terminating" | "terminated"));
            if word.must_end && !leaves {
                let phase = instance.map(|known| known.phase.as_str());
                wrong.push((
                    id.clone(),
                    format!("its end was acknowledged and it is {phase:?}"),
                ));
            }
        }
        wrong
    }

    /// The nodes that an operator may hold.
    pub fn held(&self) -> BTreeSet<String> {
        let free = |word: &Word| (word.cordon, word.drain) == (Known::Lifted, Known::Lifted);
        let held = self.words.iter().filter(|(_, word)| !free(word));
        held.map(|(id, _)| id.clone()).collect()
    }
}

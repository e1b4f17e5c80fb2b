//! The scheduler: it hears of nodes, and now and then it refuses, hangs, or its answers are lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use navarch_config::scenario::ColdStart;
use navarch_core::{Effect, Input, NotifyOutcome};
use navarch_model::{NodeId, Notice, NoticeKind, State, Time};

use crate::run::fleet::cold_start;
use crate::streams::Stream;
use crate::world::{Event, Sim};

/// What a scheduler does with what it hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    /// It takes longer than its callers wait.
    Slow,
    /// It refuses everything.
    Refuses,
    /// It does what it is told, or does not, and its answers are lost.
    Loses,
    /// It finds every node busy.
    Busy,
}

/// A scheduler as it knows nodes.
#[derive(Debug)]
pub(crate) struct Scheduler {
    stream: Stream,
    mood: Mood,
    until: Time,
    /// What it was told last, and the sequence of that.
    believes: BTreeMap<NodeId, (NoticeKind, u64)>,
    /// Nodes that the control plane told it to stop, as far as its record goes.
    stopped: BTreeSet<NodeId>,
    /// How long what runs on a node needs to end; none where it ends at random.
    pub(crate) drain: Option<ColdStart>,
    /// When what runs on nodes that drain ends.
    ends: BTreeMap<NodeId, Time>,
}

impl Scheduler {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            stream: Stream::named(seed, "scheduler"),
            mood: Mood::Well,
            until: Time(0),
            believes: BTreeMap::new(),
            stopped: BTreeSet::new(),
            drain: None,
            ends: BTreeMap::new(),
        }
    }

    /// What it was told last of a node.
    pub(crate) fn believes(&self, node: &NodeId) -> NoticeKind {
        self.believes
            .get(node)
            .map_or(NoticeKind::Uncordon, |known| known.0)
    }

    /// A control plane starts from its record: what it may have told is what that says.
    pub(crate) fn loaded(&mut self, state: &State) {
        let may_be = |told: &navarch_model::Told| {
            told.doubt
                || told.last != NoticeKind::Uncordon
                || told.waiting.iter().any(|notice| notice.unsure)
        };
        self.stopped = state
            .nodes
            .values()
            .filter(|node| may_be(&node.told))
            .map(|node| node.id.clone())
            .collect();
    }

    /// A notice leaves. Whether it resumes a node that was never stopped.
    pub(crate) fn resumes_unasked(&mut self, node: &NodeId, notice: &Notice) -> bool {
        if notice.kind == NoticeKind::Uncordon {
            return !self.stopped.contains(node);
        }
        self.stopped.insert(node.clone());
        false
    }

    /// The control plane knows for certain that it stopped a node no longer.
    pub(crate) fn given_back(&mut self, node: &NodeId) {
        self.stopped.remove(node);
    }

    fn hears(&mut self, node: &NodeId, notice: &Notice, now: Time) {
        let known = self.believes.entry(node.clone()).or_default();
        // An attempt that its caller gave up long ago may arrive after the next notice.
        if notice.sequence < known.1 {
            return;
        }
        let drains = notice.kind == NoticeKind::Drain && known.0 != NoticeKind::Drain;
        *known = (notice.kind, notice.sequence);
        if notice.kind != NoticeKind::Drain {
            self.ends.remove(node);
        }
        if let Some(drain) = self.drain.filter(|_| drains) {
            let ends = now + cold_start(&drain, &mut self.stream);
            self.ends.insert(node.clone(), ends);
        }
    }

    /// Whether a node that drains is empty.
    fn is_empty(&mut self, node: &NodeId, now: Time) -> bool {
        match self.drain {
            Some(_) => self.ends.get(node).is_some_and(|ends| now >= *ends),
            None => self.stream.chance(0.3),
        }
    }
}

impl Sim {
    /// A call to the scheduler begins.
    pub(crate) fn call_scheduler(&mut self, life: u64, effect: Effect) {
        let limit = match &effect {
            Effect::Notify { limit, .. } | Effect::AskDrained { limit, .. } => *limit,
            _ => return,
        };
        let now = self.now;
        let troubled = self.troubled && self.config.moody_scheduler;
        let scheduler = &mut self.scheduler;
        if !troubled {
            scheduler.mood = Mood::Well;
        } else if now >= scheduler.until {
            let moods = [
                Mood::Well,
                Mood::Well,
                Mood::Slow,
                Mood::Refuses,
                Mood::Loses,
                Mood::Busy,
            ];
            scheduler.mood = moods[scheduler.stream.below(6) as usize];
            scheduler.until = now + scheduler.stream.between(5_000, 400_000);
        }
        let (low, high) = match scheduler.mood {
            Mood::Slow => (500, 20_000),
            _ => (5, 300),
        };
        let there = scheduler.stream.between(low, high);
        let back = scheduler.stream.between(low, high);
        let lost = scheduler.mood == Mood::Loses;
        let reaches = !lost || scheduler.stream.chance(0.5);
        let answer = !lost && there + back <= limit;
        if !answer {
            let why = "no answer in time".to_owned();
            let input = match &effect {
                Effect::Notify { node, notice, .. } => Input::NotifyResult {
                    node: node.clone(),
                    sequence: notice.sequence,
                    outcome: NotifyOutcome::Unknown(why),
                },
                Effect::AskDrained { node, since, .. } => Input::DrainResult {
                    node: node.clone(),
                    since: *since,
                    drained: Err(why),
                },
                _ => return,
            };
            let input = Box::new(input);
            self.queue.push(now + limit, Event::Answer { life, input });
        }
        if reaches {
            let at = now + there;
            let event = Event::AtScheduler {
                life,
                effect,
                back,
                answer,
            };
            self.queue.push(at, event);
        }
    }

    /// A call reaches the scheduler.
    pub(crate) fn at_scheduler(
        &mut self,
        life: u64,
        effect: &Effect,
        back: Duration,
        answer: bool,
    ) {
        let orphan = life != self.plane.life || self.plane.process.is_none();
        if orphan && self.scheduler.stream.chance(0.5) {
            return;
        }
        let scheduler = &mut self.scheduler;
        let refuses = scheduler.mood == Mood::Refuses;
        let input = match effect {
            Effect::Notify { node, notice, .. } => {
                let outcome = if refuses {
                    NotifyOutcome::Refused("as it likes".to_owned())
                } else {
                    scheduler.hears(node, notice, self.now);
                    NotifyOutcome::Taken
                };
                Input::NotifyResult {
                    node: node.clone(),
                    sequence: notice.sequence,
                    outcome,
                }
            }
            Effect::AskDrained { node, since, .. } => {
                let knows = scheduler.believes(node) == NoticeKind::Drain;
                let drained = match scheduler.mood {
                    Mood::Refuses => Err("as it likes".to_owned()),
                    Mood::Busy => Ok(false),
                    _ => Ok(knows && scheduler.is_empty(node, self.now)),
                };
                Input::DrainResult {
                    node: node.clone(),
                    since: *since,
                    drained,
                }
            }
            _ => return,
        };
        if let Effect::Notify { node, notice, .. } = effect {
            let (word, kept) = (notice.kind.word(), if refuses { "not " } else { "" });
            self.note("scheduler", format_args!("{kept}{word} {node}"));
        }
        if answer {
            let input = Box::new(input);
            self.queue
                .push(self.now + back, Event::Answer { life, input });
        }
    }

    /// What the scheduler believes of nodes that is not what holds them. A copy of the store that
    /// was put back may not know what was told since.
    pub(crate) fn misbelieved(&self) -> Vec<String> {
        if !self.settings.notifier.tells || self.plane.restored > 0 {
            return Vec::new();
        }
        let mut found = Vec::new();
        for node in self.seen.nodes.values() {
            if !node.told.waiting.is_empty() {
                let number = node.told.waiting.len();
                found.push(format!("{number} notices of {} wait", node.id));
            }
            let believed = self.scheduler.believes(&node.id);
            if let Some((wanted, _)) = node.wanted_notice()
                && wanted != believed
            {
                found.push(format!(
                    "the scheduler believes {} of {} and holds say {}",
                    believed.word(),
                    node.id,
                    wanted.word()
                ));
            }
        }
        found
    }
}

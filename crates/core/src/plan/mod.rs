//! Plans: what to do next, from present facts alone, and what each pool waits for.

mod machines;
mod pools;
mod questions;

use std::collections::BTreeMap;

use navarch_model::{Automation, Stamp, Time};
use navarch_model::{PoolName, ProviderName};
use navarch_policy::guards::Block;

use crate::fleet::Fleet;
use crate::input::{Action, Note};

/// What stops an action, or what a pool rests in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// What it is about: a node, an instance, or the pool.
    pub about: String,
    /// What waits.
    pub action: String,
    /// The guard that stops it.
    pub guard: &'static str,
    /// The facts and the limit, in words.
    pub reason: String,
    /// When it is worth looking again, in fleet time; none means when a fact changes.
    pub until: Option<Time>,
}

/// What a plan found in one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolReport {
    /// The mode in force.
    pub automation: Automation,
    /// Machines asked for.
    pub target: usize,
    /// Fewest and most.
    pub bounds: (usize, usize),
    /// Machines that may be alive, those on their way out included.
    pub alive: usize,
    /// Machines that the pool has or will have.
    pub capacity: usize,
    /// Those whose node is ACTIVE.
    pub active: usize,
    /// Those whose node is UNHEALTHY.
    pub unhealthy: usize,
    /// Those that we drain.
    pub leaving: usize,
    /// Disruptions under way, and how many may be.
    pub budget: (usize, usize),
    /// What waits, and for what.
    pub waits: Vec<Wait>,
    /// What is planned now, in words.
    pub planned: Vec<String>,
}

/// What a plan found.
#[must_use = "a plan's report says what the fleet waits for; publish it"]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlanReport {
    /// When it was made.
    pub at: Stamp,
    /// By pool.
    pub pools: BTreeMap<PoolName, PoolReport>,
    /// Providers whose listings are not believed, and why.
    pub suspect: BTreeMap<ProviderName, String>,
    /// When the next plan is due if no fact changes, in fleet time.
    pub next_wake: Option<Time>,
}

/// What to do next.
#[must_use = "feed each action back as Input::Act"]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In this order. Each is judged again when it is taken.
    pub actions: Vec<Action>,
    /// What was found.
    pub report: PlanReport,
}

impl Fleet {
    /// Plans from present facts. Changes nothing; the caller feeds each action back and calls
    /// [`Fleet::planned`].
    pub fn plan(&self, now: Stamp) -> Plan {
        let mut planner = Planner::new(self, now);
        planner.count_pools();
        planner.sweep();
        planner.machines();
        for pool in self.settings.pools.keys() {
            planner.pool(pool);
        }
        planner.unclaimed();
        planner.finish()
    }

    /// A plan was made from every fact so far.
    pub fn planned(&mut self) {
        self.dirty = false;
    }
}

/// A plan in the making.
struct Planner<'a> {
    fleet: &'a Fleet,
    now: Stamp,
    actions: Vec<Action>,
    report: PlanReport,
    notes: BTreeMap<(PoolName, String, &'static str, String), Note>,
}

impl<'a> Planner<'a> {
    fn new(fleet: &'a Fleet, now: Stamp) -> Self {
        Self {
            fleet,
            now,
            actions: Vec::new(),
            report: PlanReport {
                at: now,
                ..PlanReport::default()
            },
            notes: BTreeMap::new(),
        }
    }

    /// Asks for another plan at a time.
    fn wake(&mut self, at: Time) {
        if at > self.now.core && at < Time::NEVER {
            self.report.next_wake = Some(self.report.next_wake.map_or(at, |wake| wake.min(at)));
        }
    }

    /// Plans an action of our own choosing, as the pool's mode allows: on carries it out, observe
    /// records what would be done.
    fn choose(
        &mut self,
        pool: &PoolName,
        about: &str,
        words: String,
        reason: String,
        action: Action,
    ) {
        match self.fleet.automation(pool) {
            Automation::On => {
                if let Some(report) = self.report.pools.get_mut(pool) {
                    report.planned.push(format!("{words}: {reason}"));
                }
                self.actions.push(action);
            }
            Automation::Observe => {
                if let Some(report) = self.report.pools.get_mut(pool) {
                    report.planned.push(format!("would {words}: {reason}"));
                }
                self.note(Note {
                    pool: pool.clone(),
                    about: about.to_owned(),
                    guard: "would",
                    action: words,
                    reason,
                });
            }
            Automation::Off => self.wait(
                pool,
                about,
                &words,
                &Block {
                    guard: "automation",
                    reason: "automation is off".to_owned(),
                    until: None,
                },
            ),
        }
    }

    /// Reports that something waits, and records it once while it lasts.
    fn wait(&mut self, pool: &PoolName, about: &str, action: &str, block: &Block) {
        if let Some(until) = block.until {
            self.wake(until);
        }
        self.note(Note {
            pool: pool.clone(),
            about: about.to_owned(),
            guard: block.guard,
            action: action.to_owned(),
            reason: block.reason.clone(),
        });
        if let Some(report) = self.report.pools.get_mut(pool) {
            report.waits.push(Wait {
                about: about.to_owned(),
                action: action.to_owned(),
                guard: block.guard,
                reason: block.reason.clone(),
                until: block.until,
            });
        }
    }

    fn note(&mut self, note: Note) {
        let key = (
            note.pool.clone(),
            note.about.clone(),
            note.guard,
            note.action.clone(),
        );
        self.notes.insert(key, note);
    }

    fn finish(mut self) -> Plan {
        for (key, note) in &self.notes {
            if !self.fleet.notes.contains_key(key) {
                self.actions.push(Action::Note(note.clone()));
            }
        }
        for (key, note) in &self.fleet.notes {
            if key.2 != "rule" && !self.notes.contains_key(key) {
                self.actions.push(Action::ClearNote(note.clone()));
            }
        }
        for (name, soft) in &self.fleet.providers {
            if let Some(why) = &soft.suspect {
                self.report.suspect.insert(name.clone(), why.clone());
            }
        }
        Plan {
            actions: self.actions,
            report: self.report,
        }
    }
}

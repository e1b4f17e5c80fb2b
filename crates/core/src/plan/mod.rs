//! Plans: what to do next, from present facts alone, and what each pool waits for.

mod ends;
mod launches;
mod machines;
mod placing;
mod pools;
mod questions;
mod repairs;
mod signatures;
mod sizes;

use std::collections::{BTreeMap, BTreeSet};

use navarch_model::{Automation, InstanceId, PoolName, ProviderName, Stamp, Time};
use navarch_policy::guards::Block;
use navarch_policy::placement::Strategy;

pub use placing::OfferingReport;

use crate::fleet::{Due, Fleet, Planned, Sizing};
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
    /// Which of the guard's reasons it is, in one word.
    pub cause: &'static str,
    /// The facts and the limit, in words.
    pub reason: String,
    /// When it is worth looking again, in fleet time; none means when a fact changes.
    pub until: Option<Time>,
}

/// What a pool's autoscaler says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// The autoscaler's type.
    pub autoscaler: &'static str,
    /// The size that it recommends, within the bounds; none if it does not know.
    pub nodes: Option<u32>,
    /// Why.
    pub reason: String,
    /// What the recommendation was made from.
    pub inputs: BTreeMap<&'static str, String>,
    /// What holds the size; none if nothing does.
    pub held: Option<String>,
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
    /// Those that were to go and are not proven gone after `terminate.alert_after`: a person
    /// should look.
    pub overdue: usize,
    /// Disruptions under way, and how many may be.
    pub budget: (usize, usize),
    /// What the pool's autoscaler says; none without one, or before its first signals.
    pub advice: Option<Advice>,
    /// How its offerings are ordered.
    pub strategy: Strategy,
    /// Where each of its offerings stands, in the order of the file.
    pub offerings: Vec<OfferingReport>,
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
    /// The pools that were planned, and when each is due again.
    wakes: BTreeMap<PoolName, Option<Time>>,
    /// The pools in which something waits.
    waiting: BTreeSet<PoolName>,
    /// The pools that have actions: each may be refused, so they are due again.
    acting: BTreeSet<PoolName>,
}

#[cfg(test)]
impl Plan {
    /// Whether a pool was planned.
    pub(crate) fn is_about(&self, pool: &PoolName) -> bool {
        self.wakes.contains_key(pool)
    }

    /// How many pools were planned.
    pub(crate) fn pools(&self) -> usize {
        self.wakes.len()
    }
}

impl Fleet {
    /// Plans from present facts for the pools that are due: a fact of theirs changed, or it is time
    /// to look again. Changes nothing; the caller calls [`Fleet::planned`] and feeds each action
    /// back.
    pub fn plan(&self, now: Stamp) -> Plan {
        let due = |pool: &PoolName| {
            self.due.all
                || self.due.pools.contains(pool)
                || self.planned.get(pool).is_none_or(|planned| {
                    (self.due.waiting && planned.waits)
                        || planned.wake.is_some_and(|wake| now.core >= wake)
                })
        };
        let mut scope = self.every_pool();
        scope.retain(due);
        self.plan_of(scope, now)
    }

    /// Plans from present facts for every pool. It finds the same actions as [`Fleet::plan`], for a
    /// pool that is not due needs none; once in a while it shows that.
    pub fn plan_all(&self, now: Stamp) -> Plan {
        self.plan_of(self.every_pool(), now)
    }

    /// The pools that are configured, have machines, or have a reason on record.
    fn every_pool(&self) -> BTreeSet<PoolName> {
        let noted = self.notes.keys().filter(|key| key.2 != "rule");
        self.settings
            .pools
            .keys()
            .chain(self.index.pools())
            .chain(noted.map(|key| &key.0))
            .cloned()
            .collect()
    }

    fn plan_of(&self, scope: BTreeSet<PoolName>, now: Stamp) -> Plan {
        let mut planner = Planner::new(self, scope, now);
        let scope: Vec<PoolName> = planner.scope.iter().cloned().collect();
        for pool in &scope {
            planner.count_pool(pool);
        }
        planner.sweep();
        planner.notices();
        for pool in &scope {
            let before = planner.actions.len();
            planner.current = Some(pool.clone());
            planner.machines(pool);
            planner.acts(pool, before);
        }
        for pool in &scope {
            let before = planner.actions.len();
            planner.current = Some(pool.clone());
            planner.pool(pool);
            planner.acts(pool, before);
        }
        planner.unclaimed();
        planner.finish()
    }

    /// A plan was made from every fact so far. Call it before its actions are fed back.
    pub fn planned(&mut self, plan: &Plan) {
        self.due = Due {
            pools: plan.acting.clone(),
            ..Due::default()
        };
        let pools: Vec<PoolName> = self.planned.keys().cloned().collect();
        for pool in pools {
            if !self.settings.pools.contains_key(&pool) && !plan.wakes.contains_key(&pool) {
                self.planned.remove(&pool);
            }
        }
        for (pool, wake) in &plan.wakes {
            let report = plan.report.pools.get(pool).cloned();
            let waits = plan.waiting.contains(pool);
            let wake = *wake;
            self.planned.insert(
                pool.clone(),
                Planned {
                    report,
                    waits,
                    wake,
                },
            );
        }
    }
}

/// A plan in the making.
struct Planner<'a> {
    fleet: &'a Fleet,
    now: Stamp,
    /// The pools that are planned.
    scope: BTreeSet<PoolName>,
    /// The pool that is being planned; none for what concerns the fleet.
    current: Option<PoolName>,
    actions: Vec<Action>,
    report: PlanReport,
    notes: BTreeMap<(PoolName, String, &'static str, String), Note>,
    wakes: BTreeMap<PoolName, Option<Time>>,
    /// When the fleet is worth looking at again.
    wake: Option<Time>,
    /// The pools that have actions.
    acting: BTreeSet<PoolName>,
    /// Providers that this plan asks for their prices.
    asked_prices: BTreeSet<ProviderName>,
    /// What the autoscalers of the pools come to.
    sizings: BTreeMap<PoolName, Sizing>,
    /// The intents of each pool that nobody wants any more, and why.
    unwanted: BTreeMap<PoolName, BTreeMap<InstanceId, String>>,
    /// Whether this plan asks for another size of the pool that is being planned: what depends on
    /// the size waits for the next plan, which knows it.
    resizing: bool,
    /// Whether a repair of the pool that is being planned waits for a price.
    priced: bool,
}

fn sooner(wake: &mut Option<Time>, at: Time) {
    *wake = Some(wake.map_or(at, |wake| wake.min(at)));
}

impl<'a> Planner<'a> {
    fn new(fleet: &'a Fleet, scope: BTreeSet<PoolName>, now: Stamp) -> Self {
        // What was found in the other pools still holds.
        let pools = fleet
            .planned
            .iter()
            .filter(|(pool, _)| !scope.contains(*pool) && fleet.settings.pools.contains_key(*pool))
            .filter_map(|(pool, planned)| Some((pool.clone(), planned.report.clone()?)))
            .collect();
        Self {
            fleet,
            now,
            current: None,
            actions: Vec::new(),
            report: PlanReport {
                at: now,
                pools,
                ..PlanReport::default()
            },
            notes: BTreeMap::new(),
            wakes: scope.iter().map(|pool| (pool.clone(), None)).collect(),
            scope,
            wake: None,
            acting: BTreeSet::new(),
            asked_prices: BTreeSet::new(),
            sizings: BTreeMap::new(),
            unwanted: BTreeMap::new(),
            resizing: false,
            priced: false,
        }
    }

    /// Notes that a pool has actions, if there are more than before.
    fn acts(&mut self, pool: &PoolName, before: usize) {
        if self.actions.len() > before {
            self.acting.insert(pool.clone());
        }
    }

    /// Asks for another plan at a time.
    fn wake(&mut self, at: Time) {
        if at <= self.now.core || at == Time::NEVER {
            return;
        }
        match &self.current {
            Some(pool) => sooner(self.wakes.entry(pool.clone()).or_default(), at),
            None => sooner(&mut self.wake, at),
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
                    cause: "",
                    action: words,
                    reason,
                });
            }
            Automation::Off => self.wait(
                pool,
                about,
                &words,
                &Block::new("automation", "off", "automation is off"),
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
            cause: block.cause,
            action: action.to_owned(),
            reason: block.reason.clone(),
        });
        if let Some(report) = self.report.pools.get_mut(pool) {
            report.waits.push(Wait {
                about: about.to_owned(),
                action: action.to_owned(),
                guard: block.guard,
                cause: block.cause,
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
            let known = self.fleet.notes.get(key);
            if known.is_none_or(|known| known.cause != note.cause) {
                self.actions.push(Action::Note(note.clone()));
            }
        }
        for (key, note) in &self.fleet.notes {
            if key.2 != "rule" && self.scope.contains(&key.0) && !self.notes.contains_key(key) {
                self.actions.push(Action::ClearNote(note.clone()));
            }
        }
        for (name, soft) in &self.fleet.providers {
            if let Some(why) = &soft.suspect {
                self.report.suspect.insert(name.clone(), why.clone());
            }
        }
        let others = self
            .fleet
            .planned
            .iter()
            .filter(|(pool, _)| !self.scope.contains(*pool))
            .filter_map(|(_, planned)| planned.wake);
        self.report.next_wake = self
            .wake
            .into_iter()
            .chain(self.wakes.values().copied().flatten())
            .chain(others)
            .min();
        Plan {
            actions: self.actions,
            report: self.report,
            wakes: self.wakes,
            waiting: self.notes.keys().map(|key| key.0.clone()).collect(),
            acting: self.acting,
        }
    }
}

//! A run in which people take part: what they see of it, and what they do in it.
//!
//! What they ask of the control plane is an input like that of any operator, at the moment of the
//! simulation at which it comes. What they break is a failure like that of any scenario.

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_config::scenario::{Failure, FailureKind};
use navarch_core::{Actor, Input, PlanReport, Rejection, Reply, Settings};
use navarch_model::{Change, NodeId, ProviderInstanceId, Stamp, State, Time};
use navarch_policy::HealthPolicy;
use navarch_store::{History, MemoryStore, Retention, Store as _};

use super::chaos::Branch;
use super::{Run, Stage, promise};
use crate::crash::WALL_ORIGIN_MICROS;
use crate::record::Cause;

/// The most samples of a run. More show its course finer, and fill the memory and the report of one
/// that goes on for days.
const MOST_SAMPLES: usize = 20_000;

/// What readers of the control plane have not seen yet.
#[derive(Debug, Default)]
pub struct News {
    /// The whole state, when a control plane loaded it since; the turns came after that.
    pub loaded: Option<State>,
    /// The changes of each turn, and when they were made.
    pub turns: Vec<(Stamp, Vec<Change>)>,
    /// What the last plan found, when one was made since.
    pub report: Option<PlanReport>,
    /// How many plans were made up to then.
    plans: u64,
}

impl News {
    pub(crate) fn loaded(&mut self, state: State) {
        self.turns.clear();
        self.loaded = Some(state);
    }

    pub(crate) fn changed(&mut self, changes: &[Change], now: Stamp) {
        if !changes.is_empty() {
            self.turns.push((now, changes.to_vec()));
        }
    }
}

/// Why something cannot be broken or repaired.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unbreakable {
    /// The machine is not there.
    #[error("there is no machine of node {0}: it is switched off or gone")]
    NoMachine(NodeId),
    /// The machine has fewer GPUs.
    #[error("there is no GPU {gpu}; this machine has {count}, from 0")]
    NoSuchGpu {
        /// Which was asked for.
        gpu: u32,
        /// How many there are.
        count: u32,
    },
    /// The machine is not of the kind that fails like this.
    #[error("a cloud takes back spot machines only, and node {0} is none")]
    NotSpot(NodeId),
    /// The machine does not run yet.
    #[error("node {0} boots for the first time, and nothing runs on it that could break")]
    NotBooted(NodeId),
}

impl Run {
    /// Lets people take part: what they are to see is collected from now on, and what is over is
    /// forgotten as a control plane forgets it.
    pub fn open(&mut self) {
        self.sim.news = Some(Box::default());
        self.sim.config.retention = Some(Retention::default());
    }

    /// Takes what readers have not seen yet.
    pub fn news(&mut self) -> News {
        let plans = self.sim.plans;
        let Some(news) = &mut self.sim.news else {
            return News::default();
        };
        let before = news.plans;
        let mut taken = std::mem::take(&mut **news);
        news.plans = plans;
        taken.report = (plans != before).then(|| self.sim.report.clone());
        taken
    }

    /// The state as readers see it before the first news.
    pub fn state(&self) -> State {
        self.sim.plane.released.clone()
    }

    /// The settings of the control plane.
    pub const fn settings(&self) -> &Arc<Settings> {
        &self.sim.settings
    }

    /// The health policy of the control plane.
    pub const fn policy(&self) -> &Arc<HealthPolicy> {
        &self.sim.judge.policy
    }

    /// The record of the control plane, for readers on other threads.
    pub fn history(&self) -> Box<dyn History> {
        MemoryStore::open(&self.sim.plane.disk).reader()
    }

    /// When each node last sent a heartbeat, while a control plane runs.
    pub fn beats(&mut self) -> BTreeMap<NodeId, Stamp> {
        self.sim.beats()
    }

    /// The present moment of the simulation, as the control plane tells it.
    pub fn stamp(&self) -> Stamp {
        let now = self.sim.now;
        match &self.sim.plane.process {
            Some(process) => process.stamp(now),
            None => Stamp {
                core: self.sim.seen.meta.core_time,
                wall: Time(WALL_ORIGIN_MICROS + now.0),
            },
        }
    }

    /// Why the control plane takes nothing now; none while it does.
    pub fn takes_nothing(&self) -> Option<String> {
        if let Some(broken) = self.sim.violations().first() {
            let broken = promise(broken);
            return Some(format!(
                "time stands still, for a promise is broken: {broken}"
            ));
        }
        let away = self.sim.plane.process.is_none() || self.sim.now < self.sim.plane.paused_until;
        away.then(|| "the control plane does not run: it crashed, and starts again soon".to_owned())
    }

    /// Puts what somebody asked for to the control plane, and answers its reply.
    ///
    /// # Errors
    ///
    /// Why there is no reply.
    pub fn ask(&mut self, input: Input) -> Result<Result<Reply, Rejection>, String> {
        if let Some(why) = self.takes_nothing() {
            return Err(why);
        }
        self.sim.note("human", format_args!("{}", words(&input)));
        let reply = self.sim.put(input);
        self.sim.schedule_plane();
        reply
    }

    /// Breaks the machine of a node.
    ///
    /// # Errors
    ///
    /// Says why nothing is broken.
    pub fn break_machine(&mut self, node: &NodeId, failure: &Failure) -> Result<(), Unbreakable> {
        let (id, count) = self.machine(node)?;
        if let Some(gpu) = failure.gpu.filter(|gpu| *gpu >= count) {
            return Err(Unbreakable::NoSuchGpu { gpu, count });
        }
        let sim = &mut self.sim;
        let place = sim.strike(&id, failure, Cause::Person, Branch::ROOT, true);
        place?;
        self.sim.schedule_plane();
        Ok(())
    }

    /// Repairs the machine of a node: failures of some kinds go, all of them where none is named,
    /// and the machine boots again.
    ///
    /// # Errors
    ///
    /// Says why nothing is repaired.
    pub fn repair_machine(
        &mut self,
        node: &NodeId,
        kinds: &[FailureKind],
    ) -> Result<(), Unbreakable> {
        let (id, _) = self.machine(node)?;
        self.sim.serviced(&id, kinds);
        self.sim.schedule_plane();
        Ok(())
    }

    fn machine(&self, node: &NodeId) -> Result<(ProviderInstanceId, u32), Unbreakable> {
        let id = self.sim.by_node.get(node);
        let host = id.and_then(|id| Some((id.clone(), self.sim.hosts.get(id)?)));
        host.map(|(id, host)| (id, host.spec.gpus))
            .ok_or_else(|| Unbreakable::NoMachine(node.clone()))
    }

    /// Ends the scenario: what was expected is looked at, nothing breaks by itself any more, and
    /// time may go on. Answers why the run failed, if it did.
    pub fn end_scenario(&mut self) -> Option<String> {
        self.judge();
        self.stage = Stage::Lingering;
        self.sim.note("event", format_args!("the scenario is over"));
        if let Some(story) = &mut self.sim.story {
            story.over = true;
        }
        // A death that waits for its turn comes no more either.
        self.sim.plane.doomed = false;
        self.wrong()
    }

    /// Lets time pass after the end of the scenario, until a moment or until a promise is broken.
    pub fn linger_to(&mut self, until: Time) {
        self.pass(until);
    }

    /// Keeps every second sample where there are too many, and takes half as many from now on.
    pub(super) fn thin(&mut self) {
        let Some(story) = &mut self.sim.story else {
            return;
        };
        let samples = &mut story.book.record.samples;
        if samples.len() >= MOST_SAMPLES {
            let mut keeps = false;
            samples.retain(|_| {
                keeps = !keeps;
                keeps
            });
            self.interval *= 2;
        }
    }
}

/// What somebody asks for, in words.
fn words(input: &Input) -> String {
    match input {
        Input::By {
            actor: Actor { name, address },
            input,
        } => format!("{name} at {address}: {}", words(input)),
        Input::Command { node, kind, .. } => format!("{} {node}", kind.short()),
        Input::CloseIncident { incident, .. } => format!("closes incident {incident}"),
        Input::ConfirmDead { node, .. } => format!("confirm that {node} is dead"),
        Input::SetAutomation { pool, mode, .. } => match pool {
            Some(pool) => format!("automation of {pool} {}", mode.word()),
            None => format!("automation {}", mode.word()),
        },
        Input::InheritAutomation { pool, .. } => format!("automation of {pool} as configured"),
        Input::ScalePool { pool, nodes, .. } => format!("scale {pool} to {nodes}"),
        Input::ResetBreaker { pool, .. } => format!("resets the breakers of {pool}"),
        Input::AddHold { node, hold } => format!("{} holds {node} as {}", hold.owner, hold.name),
        Input::RemoveHold { node, name, .. } => format!("lifts {name} of {node}"),
        Input::AdoptMachine { machine, pool, .. } => format!("adopts {machine} into {pool}"),
        Input::EndInstance { instance, .. } => format!("ends instance {instance}"),
        Input::EndUnclaimed { machine, .. } => format!("ends {machine}, which nobody claims"),
        other => format!("{other:?}"),
    }
}

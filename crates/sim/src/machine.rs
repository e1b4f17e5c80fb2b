//! A simulated machine: GPUs with faults, and the real agent core that watches them.

use std::collections::{BTreeMap, BTreeSet};

use std::time::Duration;

use navarch_config::scenario::Place;
use navarch_core::agent::{Agent, Intervals, Kept, Losses, Outgoing, Spool, SpoolLimits};
use navarch_core::{Fact, Registration, Report};
use navarch_model::{
    BootId, Capabilities, CommandId, Description, Gpu, HealthEventType, HealthWatchSystem,
    InstanceId, NodeId, PoolName, SessionId, Time,
};

use crate::bugs::Bug;
use crate::config::Config;
use crate::faults::{Faults, Reader};
use crate::quiet::Quiet;
use crate::streams::Stream;

/// A machine as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    /// The id that its agent registers under.
    pub(crate) node: NodeId,
    /// The instance that we bought it as; none for an external node.
    pub(crate) instance: Option<InstanceId>,
    /// The pool that its label names.
    pub(crate) pool: Option<PoolName>,
    pub(crate) place: Place,
    pub(crate) instance_type: String,
    pub(crate) gpus: u32,
    pub(crate) gpu_type: String,
    pub(crate) labels: BTreeMap<String, String>,
}

/// One machine that booted.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) spec: Spec,
    pub(crate) boots: u32,
    starts: u32,
    /// None while the machine hangs, is stopped or reboots.
    pub(crate) agent: Option<Agent>,
    /// Counts the agent's lives: answers to an earlier life are for nobody.
    pub(crate) life: u64,
    pub(crate) faults: Faults,
    /// It is cut off until then.
    pub(crate) cut_until: Time,
    pub(crate) jitter: Stream,
    /// How long its calls take, and what is lost on the way.
    pub(crate) network: Stream,
    /// When the agent is to be asked again.
    pub(crate) wake: Option<Time>,
    /// Whether it hangs or was stopped, for good.
    pub(crate) dead: bool,
    /// Whether its owner stopped its agent.
    pub(crate) off: bool,
    polls: bool,
    limits: SpoolLimits,
    /// What the agent kept on disk: facts, losses, finished commands.
    kept: (Vec<Kept>, Losses, Vec<CommandId>),
    /// Commands that the present agent carries out, and those that were carried out on the machine.
    pub(crate) running: BTreeSet<CommandId>,
    pub(crate) done: BTreeSet<CommandId>,
    /// Faults that happened and that no control plane took, by their time.
    unheard: BTreeSet<i64>,
    happened: i64,
    /// Losses that a control plane was told of, and by which report last.
    told_lost: u64,
    told_by: Option<(SessionId, u64)>,
    /// Calls that are not answered.
    pub(crate) under_way: u32,
    /// Whether the last full report changed nothing, nor anything else the node since.
    pub(crate) settled: bool,
    /// Its traffic, while it is quiet.
    pub(crate) quiet: Option<Quiet>,
}

/// How a call travels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) there: Duration,
    pub(crate) back: Duration,
    pub(crate) request_lost: bool,
    pub(crate) reply_lost: bool,
}

/// What a report tells of faults and of losses.
#[derive(Debug)]
pub(crate) struct Told {
    by: Option<(SessionId, u64)>,
    happened: Vec<i64>,
    lost: u64,
}

/// The events of whose loss a fact tells.
fn lost(fact: &Fact) -> Option<u64> {
    fact.metrics.get("events_lost")?.parse().ok()
}

impl Told {
    pub(crate) fn of(report: &Report) -> Self {
        let xids = report.facts.iter().filter(|fact| fact.count > 0);
        let lost = report.facts.iter().filter_map(lost);
        Self {
            by: report
                .session
                .clone()
                .map(|session| (session, report.sequence)),
            happened: xids.map(|fact| fact.happened).collect(),
            lost: lost.sum(),
        }
    }
}

impl Host {
    pub(crate) fn new(spec: Spec, (jitter, network): (Stream, Stream), config: &Config) -> Self {
        Self {
            spec,
            boots: 1,
            starts: 0,
            agent: None,
            life: 0,
            faults: Faults::default(),
            cut_until: Time(0),
            jitter,
            network,
            wake: None,
            dead: false,
            off: false,
            polls: config.polls,
            limits: SpoolLimits {
                bytes: config.spool_bytes,
            },
            kept: Default::default(),
            running: BTreeSet::new(),
            done: BTreeSet::new(),
            unheard: BTreeSet::new(),
            happened: 0,
            told_lost: 0,
            told_by: None,
            under_way: 0,
            settled: false,
            quiet: None,
        }
    }

    /// Whether it ever ran.
    pub(crate) const fn has_booted(&self) -> bool {
        self.starts > 0
    }

    pub(crate) fn node(&self) -> NodeId {
        self.spec.node.clone()
    }

    /// How much it and its agent remember.
    pub(crate) fn kept(&self) -> usize {
        let agent = self.agent.as_ref();
        let spooled = agent.map_or(0, |agent| agent.spool().len() + agent.finished().count());
        let (facts, _, finished) = &self.kept;
        let faults = self.faults.len() + self.unheard.len();
        spooled + facts.len() + finished.len() + faults + self.running.len() + self.done.len()
    }

    pub(crate) fn session(&self) -> Option<SessionId> {
        self.agent.as_ref().map(|agent| agent.session().clone())
    }

    /// How often its agent beats and reports, as far as it was told.
    pub(crate) fn intervals(&self) -> Intervals {
        let agent = self.agent.as_ref();
        agent.map_or_else(Intervals::default, Agent::intervals)
    }

    /// Whether nothing is to be expected of it but beats and the reports that it sent before.
    pub(crate) fn is_steady(&self, now: Time) -> bool {
        let agent = self.agent.as_ref();
        let rests = agent.is_some_and(|agent| agent.is_registered() && agent.spool().is_empty());
        rests
            && self.faults.is_quiet(now)
            && self.settled
            && self.quiet.is_none()
            && self.under_way == 0
            && self.running.is_empty()
            && self.cut_until <= now
            && !self.dead
            && !self.polls
    }

    pub(crate) fn boot(&self) -> BootId {
        BootId::new(format!("{}-boot-{}", self.spec.node, self.boots))
    }

    /// How the next call travels. It draws the same whatever the chance of a loss.
    pub(crate) fn way(&mut self, lost: f64) -> Way {
        Self::way_of(&mut self.network, lost)
    }

    pub(crate) fn way_of(network: &mut Stream, lost: f64) -> Way {
        Way {
            there: network.between(1, 40),
            back: network.between(1, 40),
            request_lost: network.chance(lost),
            reply_lost: network.chance(lost),
        }
    }

    /// Starts the agent, with what an earlier one kept on disk.
    pub(crate) fn start_agent(&mut self, now: Time, bug: Option<Bug>) {
        self.starts += 1;
        self.life += 1;
        self.wake = None;
        self.under_way = 0;
        self.settled = false;
        self.running.clear();
        let session = SessionId::new(format!("{}-session-{}", self.spec.node, self.starts));
        self.keep();
        let (facts, mut losses, mut finished) = std::mem::take(&mut self.kept);
        match bug {
            Some(Bug::LossesForgotten) => losses = Losses::default(),
            Some(Bug::CommandsForgotten) => finished = Vec::new(),
            _ => {}
        }
        let spool = Spool::load(self.limits, facts).with_losses(losses);
        let mut agent = Agent::new(session, spool, finished);
        agent.push(!self.polls, now);
        self.agent = Some(agent);
    }

    /// Writes down what an agent leaves when it ends.
    fn keep(&mut self) {
        if let Some(old) = self.agent.take() {
            self.kept = (
                old.spool().iter().cloned().collect(),
                old.spool().losses(),
                old.finished().cloned().collect(),
            );
        }
    }

    /// The machine goes dark: nothing of the agent's life is heard again.
    pub(crate) fn go_dark(&mut self) {
        self.life += 1;
        self.keep();
        self.wake = None;
    }

    /// A control plane took a report.
    pub(crate) fn told(&mut self, told: Told) {
        for happened in told.happened {
            self.unheard.remove(&happened);
        }
        if told.lost > 0 && self.told_by != told.by {
            self.told_lost += told.lost;
            self.told_by = told.by;
        }
    }

    /// Faults that nobody heard of, that are not kept and that are not counted as lost.
    pub(crate) fn untold_losses(&self) -> Option<String> {
        let spool = self.agent.as_ref()?.spool();
        let losses = spool.losses();
        let counted = losses.shed + losses.refused + self.told_lost;
        let kept: u64 = spool.iter().map(|kept| lost(&kept.fact).unwrap_or(1)).sum();
        let known = kept + counted;
        let unheard = self.unheard.len() as u64;
        (unheard > known).then(|| {
            format!(
                "{unheard} events were not heard, {kept} are kept and {counted} are told as lost"
            )
        })
    }

    /// Reads every watch for the agent.
    pub(crate) fn read(&mut self, now: Time) {
        let readings = self.read_all(now);
        if let Some(agent) = &mut self.agent {
            agent.read(readings, now, &mut self.jitter);
        }
    }

    /// What a full report of a machine without faults says.
    pub(crate) fn readings(&self, now: Time) -> Vec<Fact> {
        self.read_all(now)
    }

    /// A report as it goes over the wire. One that a quiet machine sent for the first time has its
    /// readings filled in.
    pub(crate) fn report(&self, report: Outgoing, now: Time) -> Report {
        let facts = if report.full && report.facts.is_empty() {
            self.read_all(now)
        } else {
            report.facts
        };
        Report {
            node: Some(self.node()),
            results: Vec::new(),
            facts,
            boot: Some(self.boot()),
            session: self.agent.as_ref().map(|agent| agent.session().clone()),
            sequence: report.sequence,
            full: report.full,
        }
    }

    pub(crate) fn registration(&self) -> Registration {
        let spec = &self.spec;
        let gpus = (0..spec.gpus)
            .filter(|gpu| self.faults.has(*gpu))
            .map(|gpu| Gpu {
                index: gpu as i32,
                uuid: Reader::uuid(spec.node.as_str(), gpu),
                name: spec.gpu_type.clone(),
                ..Gpu::default()
            })
            .collect();
        let mut labels = spec.labels.clone();
        if let Some(pool) = &spec.pool {
            labels.insert("pool".to_owned(), pool.to_string());
        }
        Registration {
            node: Some(self.node()),
            instance: spec.instance.clone(),
            description: Description {
                provider: spec.place.provider.clone(),
                region: spec.place.region.clone(),
                zone: spec.place.zone.clone(),
                instance_type: spec.instance_type.clone(),
                gpus,
                hostname: spec.node.to_string(),
                machine_id: format!("machine-{}", spec.node),
                labels,
                capabilities: Capabilities {
                    full_reports: true,
                    command_results: true,
                    command_push: !self.polls,
                },
                ..Description::default()
            },
            boot: Some(self.boot()),
            session: self.agent.as_ref().map(|agent| agent.session().clone()),
            address: "10.0.0.1".to_owned(),
        }
    }

    /// A reading of every watch.
    fn read_all(&self, now: Time) -> Vec<Fact> {
        let reader = Reader {
            faults: &self.faults,
            boot: self.boot(),
            gpus: self.spec.gpus,
            name: self.spec.node.as_str(),
            now,
        };
        reader.all()
    }

    /// An XID as the kernel log shows it.
    pub(crate) fn xid(&mut self, now: Time, code: u32, gpu: u32) -> Fact {
        // No two events of a machine have one time, so that each is known again.
        self.happened = now.0.max(self.happened + 1);
        self.unheard.insert(self.happened);
        Fact {
            happened: self.happened,
            gpu: Some(gpu as i32),
            gpu_uuid: Reader::uuid(self.spec.node.as_str(), gpu),
            event_type: HealthEventType::Xid,
            system: HealthWatchSystem::Driver,
            metrics: [("xid_code".to_owned(), code.to_string())].into(),
            message: format!("NVRM: Xid (PCI:0000:0{gpu}:00): {code}"),
            watch: "xid".to_owned(),
            boot: Some(self.boot()),
            count: 1,
        }
    }
}

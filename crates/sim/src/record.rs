//! What a run shows: what was truly injected, beside what the control plane concluded.
//!
//! The engine fills it, reports read it. Times are those of the simulation, from zero.

use std::collections::BTreeMap;
use std::time::Duration;

use navarch_config::scenario::{FailureKind, Place};
use navarch_model::{HealthStatus, NodeId, NodeStatus, PoolName, Time};

/// A whole run.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The scenario's name.
    pub name: String,
    /// What it shows.
    pub description: String,
    /// The seed.
    pub seed: u64,
    /// The scenario file as it was read.
    pub scenario: String,
    /// The control plane's configuration in full.
    pub configuration: String,
    /// When the start-up was over.
    pub started: Time,
    /// When the run ended.
    pub ended: Time,
    /// How it ended.
    pub outcome: Outcome,
    /// What the chaos was asked for.
    pub asked: Asked,
    /// Every node that ever was, by its id.
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    /// The fleet at regular moments, the earliest first.
    pub samples: Vec<Sample>,
    /// What was broken, in its order.
    pub injections: Vec<Injection>,
    /// Incidents that the control plane opened, in their order.
    pub incidents: Vec<IncidentRecord>,
    /// How often each rule of the health policy matched, with the result and the condition.
    pub rules: BTreeMap<String, RuleHits>,
    /// What held actions back, in the order of its beginning.
    pub blocks: Vec<Block>,
    /// GPU-hours without a node that could take work, by cause.
    pub lost_gpu_hours: BTreeMap<String, f64>,
    /// GPU-hours that were asked for and that were delivered.
    pub asked_gpu_hours: f64,
    /// See [`asked_gpu_hours`](Self::asked_gpu_hours).
    pub delivered_gpu_hours: f64,
    /// What the machines of pools cost, in dollars.
    pub cost_dollars: f64,
    /// Machines that were bought, and how many of those never became a node.
    pub launches: u64,
    /// See [`launches`](Self::launches).
    pub launches_failed: u64,
    /// Times from a failure that took a node's capacity until capacity was back, in order.
    pub recovery_times: Vec<Duration>,
    /// The same of failures whose capacity was not back when the run ended, up to then, in order.
    pub unrecovered: Vec<Duration>,
    /// Outages that began.
    pub outages: Vec<OutageRecord>,
    /// What was expected and what was found, in the order of the file.
    pub assertions: Vec<AssertionResult>,
    /// Promises that were broken.
    pub violations: Vec<String>,
    /// Deaths of the control plane.
    pub crashes: u64,
    /// The line of each thing that happened to the fleet as a whole, such as log events.
    pub notes: Vec<(Time, String)>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Outcome {
    /// Everything that was expected was found.
    #[default]
    Passed,
    /// The first thing that was not.
    Failed(String),
    /// It was interrupted.
    Interrupted,
}

/// What the chaos was asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Asked {
    /// Nodes of the scenario, or the most of its pools.
    pub total_nodes: u32,
    /// Failures a minute for each 1000 nodes.
    pub failure_rate: f64,
    /// Whether failures cause failures.
    pub cascading: bool,
    /// Whether failures end by themselves.
    pub recovery: bool,
}

/// One node.
#[derive(Debug, Clone)]
pub struct NodeRecord {
    /// Where it stands.
    pub place: Place,
    /// The machine type.
    pub instance_type: String,
    /// How many GPUs it has.
    pub gpu_count: u32,
    /// What they call themselves.
    pub gpu_type: String,
    /// The pool that bought it; none for an external node.
    pub pool: Option<PoolName>,
    /// When its machine was switched on.
    pub powered: Time,
    /// When it first registered.
    pub registered: Option<Time>,
    /// When its machine was gone.
    pub ended: Option<Time>,
    /// Its status in the end, as the control plane says.
    pub status: NodeStatus,
    /// Its health in the end, as the control plane says.
    pub health: HealthStatus,
    /// What happened, in its order.
    pub events: Vec<NodeEvent>,
    /// Failures that were injected and that ended.
    pub failures: u32,
    /// See [`failures`](Self::failures).
    pub recoveries: u32,
    /// Whether it fails more often than others.
    pub lemon: bool,
}

/// Something that happened to a node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeEvent {
    /// When.
    pub at: Time,
    /// What.
    pub what: NodeEventKind,
}

/// What happened to a node.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeEventKind {
    /// It registered for the first time.
    Started,
    /// Its machine never registered.
    StartFailed(String),
    /// Something broke: the place in [`Record::injections`].
    Failure(usize),
    /// Something ended: the place in [`Record::injections`].
    Recovery(usize),
    /// The control plane gave it another status.
    Status {
        /// Before.
        from: NodeStatus,
        /// From now on.
        to: NodeStatus,
        /// Why, in the control plane's words.
        why: String,
    },
    /// The control plane gave it another health status.
    Health {
        /// Before.
        from: HealthStatus,
        /// From now on.
        to: HealthStatus,
    },
    /// The control plane opened an incident: the place in [`Record::incidents`].
    Incident(usize),
    /// Its machine is gone.
    Ended(String),
}

/// Something that was broken.
#[derive(Debug, Clone, PartialEq)]
pub struct Injection {
    /// When.
    pub at: Time,
    /// On which node.
    pub node: NodeId,
    /// What.
    pub kind: FailureKind,
    /// With which XID.
    pub xid: Option<u32>,
    /// On which GPU.
    pub gpu: Option<u32>,
    /// Why.
    pub cause: Cause,
    /// When the control plane first concluded something from it, and what.
    pub noticed: Option<(Time, String)>,
    /// When it ended, by whatever.
    pub ended: Option<Time>,
}

/// Why something broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// An event of the scenario.
    Script,
    /// Chance.
    Chaos,
    /// Another failure: its place in [`Record::injections`].
    Cascade(usize),
    /// An outage, by its name.
    Outage(String),
    /// A person who takes part in the run.
    Person,
}

/// An incident as the control plane had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentRecord {
    /// When it was opened.
    pub at: Time,
    /// When it was closed.
    pub closed: Option<Time>,
    /// On which node.
    pub node: NodeId,
    /// By which rule.
    pub rule: String,
    /// The action that the rule asks for.
    pub action: String,
}

/// How often a rule matched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleHits {
    /// How often it opened or renewed an incident or changed a node's health.
    pub hits: u64,
    /// Its result.
    pub result: String,
    /// Its place among the rules, 1 the first that is asked.
    pub priority: i64,
    /// Its condition.
    pub condition: String,
}

/// Something that held an action back for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// From when.
    pub from: Time,
    /// Until when; none while it lasts.
    pub until: Option<Time>,
    /// In which pool; none for the fleet.
    pub pool: Option<PoolName>,
    /// By which guard, such as `breaker` or `budget`.
    pub guard: String,
    /// In the plan report's words.
    pub reason: String,
}

/// An outage that began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutageRecord {
    /// What it is called.
    pub name: String,
    /// When it began.
    pub from: Time,
    /// When it ended.
    pub until: Option<Time>,
    /// How many nodes it hit.
    pub nodes: u32,
}

/// An assertion and what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssertionResult {
    /// The line of the file, from 1.
    pub line: u64,
    /// What was expected.
    pub what: String,
    /// What is wrong; none when it holds.
    pub wrong: Option<String>,
}

/// The fleet at one moment, as the control plane says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sample {
    /// When.
    pub at: Time,
    /// Nodes that are there: those of a terminated machine are not.
    pub nodes: u32,
    /// Of these, ACTIVE and HEALTHY.
    pub healthy: u32,
    /// DEGRADED.
    pub degraded: u32,
    /// UNHEALTHY in status or health.
    pub unhealthy: u32,
    /// By status.
    pub by_status: BTreeMap<NodeStatus, u32>,
    /// ACTIVE nodes, GPUs of those, and GPUs that were asked for.
    pub active: u32,
    /// See [`active`](Self::active).
    pub gpus_active: u32,
    /// See [`active`](Self::active).
    pub gpus_asked: u32,
    /// Machines that were asked for, boot or have not registered.
    pub starting: u32,
    /// Failures and recoveries since the start.
    pub failures: u64,
    /// See [`failures`](Self::failures).
    pub recoveries: u64,
    /// Outages that last.
    pub outages: u32,
    /// Incidents that are open.
    pub incidents: u32,
    /// What the machines of pools have cost since the start, in dollars.
    pub cost_dollars: f64,
    /// The pools.
    pub pools: BTreeMap<PoolName, PoolSample>,
}

/// One pool at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PoolSample {
    /// The size that is aimed at.
    pub target: u32,
    /// Machines that cost money.
    pub machines: u32,
    /// ACTIVE nodes.
    pub active: u32,
    /// Disruptions under way and how many may be.
    pub disrupted: u32,
    /// See [`disrupted`](Self::disrupted).
    pub budget: u32,
    /// Breakers that are open, for repairs and for launches.
    pub breakers: u32,
    /// Work for its GPUs, in whole machines, and jobs in its queue, without their noise.
    pub work: f64,
    /// See [`work`](Self::work).
    pub jobs: f64,
}

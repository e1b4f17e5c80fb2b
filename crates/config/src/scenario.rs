//! A scenario: the fleet that is simulated, what happens to it and what is expected of it.
//!
//! Every default is filled in, so that readers of a [`Scenario`] never choose one.

use std::collections::BTreeMap;
use std::time::Duration;

use navarch_model::{HealthStatus, NodeCommandType, NodeStatus};

use crate::config::Config;
use crate::error::{ConfigErrors, Log, Position};
use crate::fields::shown;
use crate::schema::{Document, nearest};

mod cloud;
mod load;
pub mod presets;

pub use cloud::{Cloud, CloudFault, Traits};
pub use load::{Curve, Daily, Load};

/// A scenario file, read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// What it shows.
    pub description: String,
    /// External nodes by name. Empty when the fleet is generated or bought by pools.
    pub fleet: Vec<FleetNode>,
    /// The control plane's own configuration. Its pools buy machines from the simulated cloud.
    pub config: Config,
    /// What happens, in the order of its times; of two at one time the one that the file has first
    /// comes first.
    pub events: Vec<Event>,
    /// What must hold at the end, in the order of the file.
    pub assertions: Vec<Assertion>,
    /// Chaos for a while; none for a scenario that ends with its last event.
    pub stress: Option<Stress>,
    /// The simulated cloud.
    pub cloud: Cloud,
    /// The work of pools, by their names; others have none.
    pub load: BTreeMap<String, Load>,
    /// How long what runs on a node needs to end, once its scheduler drains it.
    pub drain: ColdStart,
    /// How often a call between agents and control plane is lost, from 0 to 1.
    pub lost_calls: f64,
    /// The seed, the one of the stress section included; none for one that is drawn and printed.
    pub seed: Option<u64>,
    /// The rules of the health policy that assertions name.
    pub rules: Vec<NamedRule>,
}

impl Scenario {
    /// Checks that the rules that assertions name are among `known`, the names that incidents can
    /// have. The file and its text are those that the scenario was read from.
    ///
    /// # Errors
    ///
    /// Fails with every rule that is not, in the order of the file.
    pub fn check_rules(&self, file: &str, text: &str, known: &[&str]) -> Result<(), ConfigErrors> {
        let log = Log::new(file, Document::Scenario);
        for rule in &self.rules {
            if known.contains(&rule.name.as_str()) {
                continue;
            }
            let hint = match nearest(&rule.name, known.iter().copied()) {
                Some(near) => format!("did you mean {}?", shown(near)),
                None => "name a rule of the health policy".to_owned(),
            };
            let (path, written) = (&rule.path, &rule.written);
            log.error(rule.at, format!("{path}: unknown rule {written}: {hint}"));
        }
        log.finish((), text).map(drop)
    }
}

/// A rule of the health policy that an assertion names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRule {
    /// The rule.
    pub name: String,
    /// As messages show it.
    pub(crate) written: String,
    /// The key that names it.
    pub(crate) path: String,
    /// Where it stands.
    pub(crate) at: Position,
}

/// The machine type of a node that names none, by its provider and its number of GPUs.
#[must_use]
pub fn usual_instance_type(provider: &str, gpus: u32) -> String {
    match provider {
        "gcp" => format!("a3-highgpu-{gpus}g"),
        "aws" if gpus == 8 => "p5.48xlarge".to_owned(),
        "aws" => "p4d.24xlarge".to_owned(),
        "lambda" => format!("gpu_{gpus}x_h100"),
        _ => "generic-gpu".to_owned(),
    }
}

/// One external node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetNode {
    /// Its id, unique in the scenario.
    pub id: String,
    /// Where it stands.
    pub place: Place,
    /// The machine type, as the provider calls it.
    pub instance_type: String,
    /// How many GPUs it has; a node without any fails its boot check.
    pub gpu_count: u32,
    /// What its GPUs call themselves.
    pub gpu_type: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// Where a machine stands. Failures that share a cause follow these names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// The provider.
    pub provider: String,
    /// The region of the provider.
    pub region: String,
    /// The zone, whose name may or may not repeat the region.
    pub zone: String,
    /// The rack in the zone.
    pub rack: String,
}

impl Place {
    /// A place in a rack that the run numbers, from 0 on in each zone of a region. The name of the
    /// rack is of this rack alone, in the whole fleet: an outage names it and nothing else.
    pub fn in_rack(provider: &str, region: &str, zone: &str, number: u32) -> Self {
        // Clouds name their zones after the region.
        let within = match (zone.starts_with(region), zone) {
            (_, "") => region.to_owned(),
            (true, zone) => zone.to_owned(),
            (false, zone) => format!("{region}-{zone}"),
        };
        Self {
            provider: provider.to_owned(),
            region: region.to_owned(),
            zone: zone.to_owned(),
            rack: format!("{provider}-{within}-rack-{number:03}"),
        }
    }
}

/// Something that happens once.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When, from the start of the run; in a stress run from the end of the start-up.
    pub at: Duration,
    /// The line of the file, from 1.
    pub line: u64,
    /// What happens.
    pub action: Action,
}

/// What an event does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// The nodes of the scenario start, by the start-up pattern.
    StartFleet,
    /// Their agents stop; the nodes stay registered.
    StopFleet,
    /// Something breaks.
    Inject {
        /// On which nodes.
        target: Target,
        /// What breaks.
        failure: Failure,
    },
    /// Something is repaired.
    Recover {
        /// On which nodes.
        target: Target,
        /// What; everything when none is named.
        kind: Option<FailureKind>,
    },
    /// An operator gives a command.
    Command {
        /// For which nodes.
        target: Target,
        /// Which.
        kind: NodeCommandType,
        /// Its parameters.
        parameters: BTreeMap<String, String>,
    },
    /// The events after this one wait until a node has a status.
    WaitForStatus {
        /// Which nodes.
        target: Target,
        /// The status.
        status: NodeStatus,
        /// How long at most.
        timeout: Duration,
    },
    /// Nothing: the time is the wait.
    Wait,
    /// A line of the log.
    Log(String),
    /// Something must hold now.
    Assert(Assertion),
    /// The control plane dies and starts again after a while.
    Crash {
        /// How long it stays away.
        down: Duration,
    },
    /// The cloud does something wrong for a while.
    Cloud {
        /// What.
        fault: CloudFault,
        /// Where, as `PROVIDER/REGION/ZONE`; empty for everywhere.
        place: String,
        /// For how long.
        lasts: Duration,
    },
    /// A domain fails at once.
    Outage(Outage),
    /// An operator asks for a size of a pool.
    ScalePool {
        /// Which.
        pool: String,
        /// How many nodes.
        nodes: u32,
    },
    /// An operator switches automation.
    Automation(navarch_model::Automation),
}

/// Which nodes an event or an assertion is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A node of the scenario.
    Node(String),
    /// A machine of a pool by its age, 0 the oldest: `pool/NAME/0`.
    Pool {
        /// The pool.
        pool: String,
        /// Its place by age.
        index: u32,
    },
    /// Every node: `*`.
    All,
}

/// What breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// The XID of `xid_error`; a usual one of the kind otherwise.
    pub xid: Option<u32>,
    /// The GPU; all where the kind allows it and the file says -1.
    pub gpu: Option<u32>,
    /// The driver's words; made up when empty.
    pub message: String,
    /// After how long it ends by itself; none for never.
    pub lasts: Option<Duration>,
}

/// A kind of failure, by what an agent and the control plane can see of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// The kernel log shows an XID once.
    Xid,
    /// The kernel log shows a burst of XIDs.
    XidBurst,
    /// A GPU is at 95 degrees Celsius.
    Temperature,
    /// A GPU heats up a degree at a time, and throttles.
    ThermalRamp,
    /// Every call to the driver fails.
    Nvml,
    /// The same, in the words of the fake backend.
    Backend,
    /// The machine has no GPUs after its next boot, which follows at once.
    Boot,
    /// One GPU answers no call.
    Device,
    /// XID 79: a GPU fell off the bus and is missing from then on.
    GpuLost,
    /// A GPU counts an uncorrectable memory error, with XID 48.
    Memory,
    /// A GPU waits to remap a row, with XID 63; a reboot remaps it.
    RowRemap,
    /// A GPU cannot remap a row, with XID 64.
    RowRemapFailed,
    /// An NVLink link fails, with XID 74.
    Nvlink,
    /// A GPU's PCIe link repeats packets.
    Pcie,
    /// The power supply brakes a GPU.
    Power,
    /// Calls to the driver never return while the agent beats on.
    DriverHang,
    /// Results are wrong and nothing shows it but an active test.
    SilentCorruption,
    /// Nothing reaches the node or leaves it.
    Network,
    /// The agent ends and is started again.
    AgentCrash,
    /// The machine hangs while the cloud says that it runs.
    MachineHang,
    /// The machine stops and the cloud says so.
    MachineStop,
    /// The machine is gone from the cloud.
    MachineVanish,
    /// The cloud takes a spot machine back, with a notice.
    SpotInterruption,
}

impl FailureKind {
    /// Every kind with its word.
    pub const WORDS: [(&'static str, Self); 23] = [
        ("xid_error", Self::Xid),
        ("xid_burst", Self::XidBurst),
        ("temperature", Self::Temperature),
        ("thermal_ramp", Self::ThermalRamp),
        ("nvml_failure", Self::Nvml),
        ("backend_error", Self::Backend),
        ("boot_failure", Self::Boot),
        ("device_error", Self::Device),
        ("gpu_lost", Self::GpuLost),
        ("memory_error", Self::Memory),
        ("row_remap", Self::RowRemap),
        ("row_remap_failed", Self::RowRemapFailed),
        ("nvlink_error", Self::Nvlink),
        ("pcie_error", Self::Pcie),
        ("power_error", Self::Power),
        ("driver_hang", Self::DriverHang),
        ("silent_corruption", Self::SilentCorruption),
        ("network", Self::Network),
        ("agent_crash", Self::AgentCrash),
        ("machine_hang", Self::MachineHang),
        ("machine_stop", Self::MachineStop),
        ("machine_vanish", Self::MachineVanish),
        ("spot_interruption", Self::SpotInterruption),
    ];

    /// XIDs that come when no distribution says which.
    pub const XIDS: [u32; 13] = [13, 31, 32, 43, 45, 48, 63, 64, 74, 79, 92, 94, 95];

    /// The XIDs of a burst: what crashing applications leave.
    pub const BURST_XIDS: [u32; 4] = [31, 13, 43, 45];

    /// The XID that it shows when nothing else says which; none for a kind that shows none of its
    /// own.
    #[must_use]
    pub const fn usual_xid(self) -> Option<u32> {
        match self {
            Self::Xid | Self::GpuLost => Some(79),
            Self::Memory => Some(48),
            Self::RowRemap => Some(63),
            Self::RowRemapFailed => Some(64),
            Self::Nvlink => Some(74),
            _ => None,
        }
    }

    /// Its word, as in scenario files and reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or("", |(word, _)| word)
    }
}

/// Something that must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Assertion {
    /// The line of the file, from 1.
    pub line: u64,
    /// What.
    pub what: Expected,
}

/// What is expected.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// `node_status`: nodes have a status.
    NodeStatus(Target, NodeStatus),
    /// `health_status`: nodes have a health status.
    HealthStatus(Target, HealthStatus),
    /// `node_count`: so many nodes have a status, any when none is named.
    NodeCount {
        /// Which status.
        status: Option<NodeStatus>,
        /// How many.
        count: Bounds,
    },
    /// `invariants`: no promise was broken.
    Invariants,
    /// `capacity`: the share of the asked capacity that was delivered over the run, in percent.
    Capacity {
        /// Of one pool; of all when none is named.
        pool: Option<String>,
        /// In percent.
        percent: Bounds,
    },
    /// `incidents`: so many incidents were opened, of one rule when one is named.
    Incidents {
        /// The rule.
        rule: Option<String>,
        /// How many.
        count: Bounds,
    },
    /// `time_to_recover`: from a failure to the capacity that it cost, for a share of the failures.
    TimeToRecover {
        /// Which share, from 0 to 100; 100 is the longest.
        percentile: f64,
        /// How long at most.
        at_most: Duration,
    },
    /// `launches`: so many machines were bought.
    Launches(Bounds),
}

/// An inclusive range, without an end where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bounds {
    /// At least.
    pub at_least: Option<f64>,
    /// At most.
    pub at_most: Option<f64>,
}

/// A stress run.
#[derive(Debug, Clone, PartialEq)]
pub struct Stress {
    /// How long after the start-up.
    pub duration: Duration,
    /// How often the fleet is counted.
    pub metrics_interval: Duration,
    /// The seed; none for one that is drawn and printed.
    pub seed: Option<u64>,
    /// Where a copy of the report goes, relative to the run directory.
    pub report_file: Option<String>,
    /// Where a copy of the HTML report goes, relative to the run directory.
    pub html_report_file: Option<String>,
    /// Where a copy of the log goes, relative to the run directory.
    pub log_file: Option<String>,
    /// The fleet that is generated.
    pub fleet_gen: Option<FleetGen>,
    /// What breaks by itself.
    pub chaos: Option<Chaos>,
}

/// A generated fleet of external nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetGen {
    /// How many nodes.
    pub total_nodes: u32,
    /// Kinds of nodes, drawn by weight.
    pub templates: Vec<Template>,
    /// Providers by weight.
    pub providers: Vec<(String, f64)>,
    /// Regions by weight.
    pub regions: Vec<(String, f64)>,
    /// The zones of regions; a region without gets `REGION-a` to `REGION-d`.
    pub zones: BTreeMap<String, Vec<String>>,
    /// Nodes in a rack.
    pub nodes_per_rack: u32,
    /// How they start.
    pub startup: Startup,
}

impl FleetGen {
    /// The zones of a region.
    #[must_use]
    pub fn zones_of(&self, region: &str) -> Vec<String> {
        match self.zones.get(region) {
            Some(zones) => zones.clone(),
            None => ["a", "b", "c", "d"]
                .map(|letter| format!("{region}-{letter}"))
                .to_vec(),
        }
    }
}

/// A kind of generated nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Part of the node ids.
    pub name: String,
    /// How often it is drawn.
    pub weight: f64,
    /// How many GPUs.
    pub gpu_count: u32,
    /// What the GPUs call themselves.
    pub gpu_type: String,
    /// The machine type; by provider and GPUs when none is given.
    pub instance_type: Option<String>,
    /// Labels of its nodes.
    pub labels: BTreeMap<String, String>,
}

/// How a fleet starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Startup {
    /// In what order.
    pub pattern: Pattern,
    /// Over how long.
    pub duration: Duration,
    /// Nodes of one wave.
    pub batch_size: u32,
    /// How much each time varies, from 0 to 1.
    pub jitter: f64,
    /// How long each boots; the start of others does not wait for it.
    pub cold_start: ColdStart,
}

/// The order in which nodes start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// All at once.
    Instant,
    /// One after another.
    Linear,
    /// One, two, four and so on.
    Exponential,
    /// In batches.
    Wave,
}

/// How long a machine boots: normal within the limits, or uniform between them without a mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ColdStart {
    /// The shortest.
    pub min: Option<Duration>,
    /// The longest.
    pub max: Option<Duration>,
    /// The mean.
    pub mean: Option<Duration>,
    /// The standard deviation.
    pub stddev: Duration,
}

/// What breaks by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Chaos {
    /// Whether any of it happens.
    pub enabled: bool,
    /// Failures a minute for each 1000 nodes.
    pub failure_rate: f64,
    /// XIDs of `xid_error` by weight; empty for all of the usual ones alike.
    pub xid_distribution: Vec<(u32, f64)>,
    /// Kinds of failures by weight; `xid_error` alone when empty.
    pub failure_types: Vec<(FailureKind, f64)>,
    /// Rates of kinds for each 1000 node-days, beside `failure_rate`.
    pub rates: Vec<Rate>,
    /// Some nodes fail more often than others.
    pub lemons: Option<Lemons>,
    /// New nodes fail more often.
    pub infant_mortality: Option<InfantMortality>,
    /// Failures that cause failures.
    pub cascading: Option<Cascading>,
    /// Failures that bring another kind along.
    pub correlated: Vec<Correlated>,
    /// How failures end.
    pub recovery: Option<Recovery>,
    /// Domains that fail at set times.
    pub outages: Vec<Outage>,
    /// The mean time between two deaths of the control plane in the middle of a commit.
    pub control_plane_crashes: Option<Duration>,
}

/// How often one kind of failure comes.
#[derive(Debug, Clone, PartialEq)]
pub struct Rate {
    /// What breaks.
    pub kind: FailureKind,
    /// The XID of `xid_error`.
    pub xid: Option<u32>,
    /// Failures for each 1000 node-days.
    pub per_1000_node_days: f64,
    /// The share of them that no reboot repairs, from 0 to 1.
    pub permanent: f64,
    /// After how long it ends by itself, on average; none for never.
    pub mean_duration: Option<Duration>,
    /// Where the number is from.
    pub source: String,
}

/// Nodes that fail more often than others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lemons {
    /// The share of the nodes, from 0 to 1.
    pub fraction: f64,
    /// How many times the rate.
    pub multiple: f64,
}

/// New nodes fail more often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InfantMortality {
    /// For how long a node is new.
    pub lasts: Duration,
    /// How many times the rate.
    pub multiple: f64,
}

/// Failures that cause failures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cascading {
    /// How often a failure causes others, from 0 to 1.
    pub probability: f64,
    /// How many generations.
    pub max_depth: u32,
    /// The shortest delay.
    pub min_delay: Duration,
    /// The longest delay.
    pub max_delay: Duration,
    /// Among which nodes.
    pub scope: Scope,
    /// The largest share of them, from 0 to 1.
    pub max_affected: f64,
}

/// A failure that brings another kind along, on the same node or on others.
#[derive(Debug, Clone, PartialEq)]
pub struct Correlated {
    /// What it is called.
    pub name: String,
    /// The kind that brings it.
    pub trigger: FailureKind,
    /// The XID that brings it, when the trigger is one; any XID of the kind otherwise.
    pub trigger_xid: Option<u32>,
    /// What comes along.
    pub response: FailureKind,
    /// How often, from 0 to 1.
    pub probability: f64,
    /// After how long.
    pub delay: Duration,
    /// What the others share with the node that it hits; none for the node itself.
    pub scope: Option<Scope>,
    /// The share of the others that it hits, from 0 to 1, and at least one of them; none for one.
    pub affected: Option<f64>,
}

/// Nodes that share something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The provider.
    Provider,
    /// The region.
    Region,
    /// The zone.
    Zone,
    /// The rack.
    Rack,
    /// Nothing: all nodes.
    All,
}

impl Scope {
    /// Every scope with its word; `random` is the old one for all.
    pub const WORDS: [(&'static str, Self); 6] = [
        ("provider", Self::Provider),
        ("region", Self::Region),
        ("zone", Self::Zone),
        ("rack", Self::Rack),
        ("all", Self::All),
        ("random", Self::All),
    ];
}

/// How failures end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recovery {
    /// How many of the failures that can end by themselves do, from 0 to 1.
    pub probability: f64,
    /// After how long, on average.
    pub mean_time: Duration,
    /// The standard deviation.
    pub std_dev: Duration,
    /// Whether external nodes that the control plane finds unhealthy are replaced by new ones.
    pub replace_fatal: bool,
    /// How long the new ones boot; the start-up's cold start when none is given.
    pub replace_cold_start: Option<Duration>,
}

/// A domain that fails at once for a while.
#[derive(Debug, Clone, PartialEq)]
pub struct Outage {
    /// What it is called.
    pub name: String,
    /// When it begins, from the end of the start-up.
    pub start_time: Duration,
    /// How long it lasts.
    pub duration: Duration,
    /// Which nodes.
    pub domain: Domain,
    /// How they fail.
    pub kind: FailureKind,
}

/// Nodes that fail at once.
#[derive(Debug, Clone, PartialEq)]
pub enum Domain {
    /// Those of a place, by the name of the scope; a region or zone of any provider. The name is
    /// empty for all.
    Named(Scope, String),
    /// A share of all, from 0 to 1.
    Fraction(f64),
}

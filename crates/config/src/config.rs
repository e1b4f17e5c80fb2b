//! The configuration with every default filled in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use navarch_model::{Automation, Role};
use serde::{Serialize, Serializer};

use crate::duration;
use crate::units::{Budget, Percent, Size, Threshold};

/// Everything that the control plane is told. The default has no providers and no pools.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Config {
    /// The control plane's address, its intervals and how it grades health.
    pub server: ServerConfig,
    /// Where the fleet is kept.
    pub store: StoreConfig,
    /// How long a machine may take to come up.
    pub instance_manager: InstanceManagerConfig,
    /// Limits on what the control plane does on its own.
    pub guards: Guards,
    /// When plans are made.
    pub planner: PlannerConfig,
    /// The clouds, by name.
    pub providers: BTreeMap<String, ProviderConfig>,
    /// The pools, by name.
    pub pools: BTreeMap<String, PoolConfig>,
}

impl Config {
    /// The effective configuration as a file: every key with its value, defaults included, that
    /// loads to an equal configuration. It holds no secret, because the configuration has none.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let options = serde_saphyr::ser_options! {
            // Long values stay on one line.
            min_fold_chars: usize::MAX,
        };
        serde_saphyr::to_string_with_options(self, options)
            .expect("plain maps of plain values always have a YAML form")
    }
}

/// The control plane's address, its intervals and how it grades health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerConfig {
    /// Where to listen, as `host:port`; an empty host means every interface.
    pub address: String,
    /// URL at which agents reach the server, when it differs from the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_address: Option<String>,
    /// How often an agent beats.
    #[serde(serialize_with = "duration::serialize")]
    pub heartbeat_interval: Duration,
    /// Silence after which a node is UNHEALTHY; longer than the interval.
    #[serde(serialize_with = "duration::serialize")]
    pub heartbeat_timeout: Duration,
    /// How often an agent sends a full health report.
    #[serde(serialize_with = "duration::serialize")]
    pub health_check_interval: Duration,
    /// How often a pool's size is decided.
    #[serde(skip)]
    pub autoscale_interval: Duration,
    /// File with health rules; none means the built-in policy.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "maybe_path")]
    pub health_policy: Option<PathBuf>,
    /// Which bearer tokens callers show.
    pub auth: AuthConfig,
    /// The server's certificate; none means plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// What one caller may cost the server.
    pub limits: ServerLimits,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            address: ":50051".to_owned(),
            external_address: None,
            heartbeat_interval: seconds(30),
            heartbeat_timeout: seconds(90),
            health_check_interval: seconds(60),
            autoscale_interval: seconds(30),
            health_policy: None,
            auth: AuthConfig::default(),
            tls: None,
            limits: ServerLimits::default(),
        }
    }
}

/// The server's certificate, in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TlsConfig {
    /// File with the chain, the server's own certificate first.
    pub cert_file: PathBuf,
    /// File with the private key.
    pub key_file: PathBuf,
    /// File with the certificate authorities that agents of the server's own machines trust; none
    /// means those of their system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// Which bearer tokens callers show, and what each may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthConfig {
    /// The one token that may do everything; none when only the named ones count.
    #[serde(flatten)]
    pub token: Option<TokenSource>,
    /// Tokens with a role each, by the name that events show.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tokens: BTreeMap<String, TokenConfig>,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            token: Some(TokenSource::default()),
            tokens: BTreeMap::new(),
        }
    }
}

/// Where a token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// This environment variable.
    Environment(String),
    /// This file, which must exist.
    File(PathBuf),
}

impl Default for TokenSource {
    fn default() -> Self {
        Self::Environment("NAVARCH_AUTH_TOKEN".to_owned())
    }
}

impl Serialize for TokenSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Environment(name) => serializer.collect_map([("token_env", name)]),
            Self::File(path) => serializer.collect_map([("token_file", path.to_string_lossy())]),
        }
    }
}

/// A token that may do what its role may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenConfig {
    /// What it may do.
    #[serde(serialize_with = "role")]
    pub role: Role,
    /// Where it comes from; it must be there.
    #[serde(flatten)]
    pub source: TokenSource,
}

fn role<S: Serializer>(role: &Role, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(role.word())
}

/// What one caller may cost the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerLimits {
    /// Largest request body, in bytes.
    pub max_request_bytes: u32,
    /// Longest time for one request that is not a stream.
    #[serde(serialize_with = "duration::serialize")]
    pub request_timeout: Duration,
    /// Idle time after which a connection is closed; longer than the heartbeat interval.
    #[serde(serialize_with = "duration::serialize")]
    pub idle_timeout: Duration,
    /// Longest wait for open requests at shutdown.
    #[serde(serialize_with = "duration::serialize")]
    pub shutdown_timeout: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_request_bytes: 4 << 20,
            request_timeout: seconds(30),
            idle_timeout: seconds(90),
            shutdown_timeout: seconds(4),
        }
    }
}

/// Where the fleet is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreConfig {
    /// The kind of store.
    #[serde(rename = "type")]
    pub kind: StoreKind,
    /// Directory of the store, relative to the working directory.
    #[serde(serialize_with = "path")]
    pub data_dir: PathBuf,
    /// Rows after which a batch of changes is written.
    pub batch_rows: u32,
    /// How long terminated nodes and instances stay listed.
    #[serde(serialize_with = "duration::serialize")]
    pub terminated_kept: Duration,
    /// Free space on the disk of `data_dir` below which nothing is bought; 0 means no limit.
    pub min_free: Size,
}

/// The kinds of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// Embedded SQLite.
    Sqlite,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            kind: StoreKind::Sqlite,
            data_dir: PathBuf::from("navarch-data"),
            batch_rows: 200,
            terminated_kept: hours(1),
            min_free: Size(256 << 20),
        }
    }
}

/// How long a machine may take to come up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstanceManagerConfig {
    /// Longest wait for the cloud's answer to a launch; then its outcome is looked up.
    #[serde(serialize_with = "duration::serialize")]
    pub launch_timeout: Duration,
    /// Longest wait for a launched machine's agent; then the machine is terminated.
    #[serde(serialize_with = "duration::serialize")]
    pub registration_timeout: Duration,
    /// Accepted for files of the Go project and read by nothing: each wait of an instance has a
    /// deadline of its own.
    #[serde(serialize_with = "duration::serialize")]
    pub stale_check_interval: Duration,
}

impl Default for InstanceManagerConfig {
    fn default() -> Self {
        Self {
            launch_timeout: minutes(5),
            registration_timeout: minutes(10),
            stale_check_interval: minutes(1),
        }
    }
}

/// Limits on what the control plane does on its own, for the fleet and as defaults of pools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Guards {
    /// Nodes of the fleet under disruption at once.
    pub budget: Budget,
    /// The default of [`PoolConfig::max_surge`].
    pub max_surge: u32,
    /// The default of [`PoolHealth::unhealthy_after`].
    pub unhealthy_after: u32,
    /// The default of [`PoolHealth::recover_after`].
    pub recover_after: u32,
    /// The default of [`PoolHealth::silence_replace_after`]; none means never.
    #[serde(serialize_with = "duration_or_never")]
    pub silence_replace_after: Option<Duration>,
    /// Health check intervals without a full report that are a condition of their own.
    pub stale_report_intervals: u32,
    /// Below this many nodes `small_fleet_wait` stands in for the breaker.
    pub small_fleet_nodes: u32,
    /// In a small fleet, how long the last replacement must be ACTIVE before the next action on
    /// the same signature.
    #[serde(serialize_with = "duration::serialize")]
    pub small_fleet_wait: Duration,
    /// The default of [`PoolConfig::max_launches_per_hour`]; none means that it follows the
    /// pool's size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_launches_per_hour: Option<u32>,
    /// Age before which a machine is not given up to shrink a pool.
    #[serde(serialize_with = "duration::serialize")]
    pub minimum_life: Duration,
    /// Age at which an unanswered command expires.
    #[serde(serialize_with = "duration::serialize")]
    pub command_expiry: Duration,
    /// A second fault of a class on one GPU within this time needs the next stronger repair.
    #[serde(serialize_with = "duration::serialize")]
    pub repeat_fault_window: Duration,
    /// Gap between turns of the loop that means the control plane itself was paused.
    #[serde(serialize_with = "duration::serialize")]
    pub pause_gap: Duration,
    /// Divergence between wall time and monotonic time that is an event.
    #[serde(serialize_with = "duration::serialize")]
    pub clock_divergence: Duration,
    /// At least this many of the nodes that were fresh when a silence began must still be fresh
    /// before silence alone counts.
    pub silence_witnesses: Threshold,
    /// Stops repair of one signature that many nodes show at once.
    pub breaker: BreakerConfig,
    /// Stops buying at an offering whose machines never become ACTIVE.
    pub launch_breaker: LaunchBreakerConfig,
    /// When a condition that comes and goes stays open.
    pub flapping: FlappingConfig,
    /// How long a drain of the control plane waits for the work to leave.
    pub drain_deadline: DrainDeadlines,
    /// The pace of termination.
    pub terminate: TerminateConfig,
    /// Comparison of each provider's inventory with the store.
    pub sweep: SweepConfig,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            budget: Budget::Share(Percent::new(10)),
            max_surge: 1,
            unhealthy_after: 2,
            recover_after: 1,
            silence_replace_after: Some(minutes(15)),
            stale_report_intervals: 3,
            small_fleet_nodes: 4,
            small_fleet_wait: minutes(10),
            max_launches_per_hour: None,
            minimum_life: minutes(10),
            command_expiry: hours(1),
            repeat_fault_window: hours(24),
            pause_gap: seconds(5),
            clock_divergence: seconds(5),
            silence_witnesses: Threshold {
                count: 2,
                percent: Percent::new(50),
            },
            breaker: BreakerConfig::default(),
            launch_breaker: LaunchBreakerConfig::default(),
            flapping: FlappingConfig::default(),
            drain_deadline: DrainDeadlines::default(),
            terminate: TerminateConfig::default(),
            sweep: SweepConfig::default(),
        }
    }
}

/// Stops repair of one signature that many nodes show at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BreakerConfig {
    /// More nodes than this open the breaker.
    pub threshold: Threshold,
    /// Time in which the nodes are counted.
    #[serde(serialize_with = "duration::serialize")]
    pub window: Duration,
    /// Quiet time before one node is acted on; it doubles with each failed try.
    #[serde(serialize_with = "duration::serialize")]
    pub wait: Duration,
    /// Limit of the doubling wait.
    #[serde(serialize_with = "duration::serialize")]
    pub max_wait: Duration,
    /// How long the replacement must stay ACTIVE to close the breaker.
    #[serde(serialize_with = "duration::serialize")]
    pub confirm: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            threshold: Threshold {
                count: 3,
                percent: Percent::new(10),
            },
            window: minutes(10),
            wait: minutes(10),
            max_wait: hours(24),
            confirm: minutes(10),
        }
    }
}

/// Stops buying at an offering whose machines never become ACTIVE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LaunchBreakerConfig {
    /// Paid launches in a row without an ACTIVE machine that open the breaker.
    pub failures: u32,
    /// Wait before one launch is tried; it doubles with each failure.
    #[serde(serialize_with = "duration::serialize")]
    pub wait: Duration,
    /// Limit of the doubling wait.
    #[serde(serialize_with = "duration::serialize")]
    pub max_wait: Duration,
    /// Launches outstanding at an offering that has had no ACTIVE machine yet.
    pub unproven_launches: u32,
}

impl Default for LaunchBreakerConfig {
    fn default() -> Self {
        Self {
            failures: 3,
            wait: minutes(5),
            max_wait: hours(1),
            unproven_launches: 3,
        }
    }
}

/// When a condition that comes and goes stays open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlappingConfig {
    /// More reopenings than this within the window are flapping.
    pub reopens: u32,
    /// Time in which reopenings count, and the quiet time that ends flapping.
    #[serde(serialize_with = "duration::serialize")]
    pub window: Duration,
}

impl Default for FlappingConfig {
    fn default() -> Self {
        Self {
            reopens: 3,
            window: hours(1),
        }
    }
}

/// How long a drain of the control plane waits for the work to leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DrainDeadlines {
    /// For an unhealthy node.
    #[serde(serialize_with = "duration::serialize")]
    pub unhealthy: Duration,
    /// For a degraded node.
    #[serde(serialize_with = "duration::serialize")]
    pub degraded: Duration,
    /// For a healthy node that is not needed.
    #[serde(serialize_with = "duration::serialize")]
    pub voluntary: Duration,
}

impl Default for DrainDeadlines {
    fn default() -> Self {
        Self {
            unhealthy: minutes(10),
            degraded: hours(24),
            voluntary: hours(24),
        }
    }
}

/// The pace of termination, which never gives up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TerminateConfig {
    /// Wait before the second try; it doubles.
    #[serde(serialize_with = "duration::serialize")]
    pub retry_wait: Duration,
    /// Limit of the doubling wait.
    #[serde(serialize_with = "duration::serialize")]
    pub retry_max_wait: Duration,
    /// Time without proof of the end after which a person is told.
    #[serde(serialize_with = "duration::serialize")]
    pub alert_after: Duration,
}

impl Default for TerminateConfig {
    fn default() -> Self {
        Self {
            retry_wait: seconds(5),
            retry_max_wait: minutes(5),
            alert_after: minutes(15),
        }
    }
}

/// Comparison of each provider's inventory with the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SweepConfig {
    /// How often each provider is listed.
    #[serde(serialize_with = "duration::serialize")]
    pub interval: Duration,
    /// More machines than this, vanishing or appearing at once, make a listing suspect.
    pub suspect: Threshold,
}

impl Default for SweepConfig {
    fn default() -> Self {
        Self {
            interval: minutes(3),
            suspect: Threshold {
                count: 2,
                percent: Percent::new(10),
            },
        }
    }
}

/// When plans are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannerConfig {
    /// Least time between two plans of the pools that changed.
    #[serde(serialize_with = "duration::serialize")]
    pub min_interval: Duration,
    /// Time between two plans of everything.
    #[serde(serialize_with = "duration::serialize")]
    pub full_interval: Duration,
}

impl Default for PlannerConfig {
    fn default() -> Self {
        Self {
            min_interval: Duration::from_millis(100),
            full_interval: minutes(1),
        }
    }
}

/// One cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProviderConfig {
    /// The kind of cloud, with its own keys.
    #[serde(flatten)]
    pub kind: ProviderKind,
    /// Longest wait for one call of the cloud's API.
    #[serde(serialize_with = "duration::serialize")]
    pub request_timeout: Duration,
    /// Calls per second at most.
    pub requests_per_second: u32,
    /// Calls in flight at most.
    pub parallel_requests: u32,
}

/// The kinds of cloud, each with its own keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ProviderKind {
    /// Machines that are processes with fake GPUs.
    Fake {
        /// GPUs of each machine.
        gpu_count: u32,
        /// URL of a fake cloud of its own; none runs it inside the server.
        #[serde(skip_serializing_if = "Option::is_none")]
        url: Option<String>,
    },
}

impl ProviderKind {
    /// The word for it in the file.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Fake { .. } => "fake",
        }
    }
}

/// One pool of machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolConfig {
    /// Name of its provider.
    pub provider: String,
    /// The cloud's name of the machine type.
    pub instance_type: String,
    /// The cloud's region.
    pub region: String,
    /// The zone within the region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Least number of machines.
    pub min_nodes: u32,
    /// Greatest number of machines, at least 1.
    pub max_nodes: u32,
    /// Machines above `max_nodes` while one is replaced; 0 terminates first.
    pub max_surge: u32,
    /// Nodes of the pool under disruption at once.
    pub budget: Budget,
    /// Launches per hour.
    pub max_launches_per_hour: u32,
    /// Whether the control plane acts on its own here.
    #[serde(serialize_with = "automation")]
    pub automation: Automation,
    /// Labels of the pool's nodes; `pool` is always the pool's name.
    pub labels: BTreeMap<String, String>,
    /// How faults of the pool's nodes are handled.
    pub health: PoolHealth,
}

/// How faults of a pool's nodes are handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolHealth {
    /// Unhealthy full reports in a row before a condition is repaired.
    pub unhealthy_after: u32,
    /// Whether faulty machines are replaced; false still opens and ends incidents.
    pub auto_replace: bool,
    /// What ends a condition.
    pub recovery: Recovery,
    /// Healthy full reports in a row that end a condition.
    pub recover_after: u32,
    /// Silence after which a node may be replaced without a word from the cloud; none means
    /// never.
    #[serde(serialize_with = "duration_or_never")]
    pub silence_replace_after: Option<Duration>,
}

/// What ends a condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    /// Evidence of health.
    #[default]
    Automatic,
    /// An operator.
    Manual,
}

/// A path from the command line need not be UTF-8; what is not is shown as U+FFFD.
fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

fn maybe_path<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => serializer.serialize_str(&path.to_string_lossy()),
        None => serializer.serialize_none(),
    }
}

fn automation<S: Serializer>(mode: &Automation, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(mode.word())
}

fn duration_or_never<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => duration::serialize(duration, serializer),
        None => serializer.serialize_str("never"),
    }
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const fn minutes(count: u64) -> Duration {
    seconds(count * 60)
}

const fn hours(count: u64) -> Duration {
    minutes(count * 60)
}

//! The configuration with every default filled in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use navarch_model::Automation;
use serde::{Serialize, Serializer};

use crate::duration;
use crate::effective::Plain;
use crate::units::Budget;

mod autoscaling;
mod guards;
mod notifier;
mod placement;
mod schedule;
mod server;
mod zone;

pub use autoscaling::{Autoscaler, Autoscaling, Mode, Paces, Question, Source, Steps};
pub use guards::{
    BreakerConfig, DrainDeadlines, FlappingConfig, Guards, LaunchBreakerConfig, SweepConfig,
    TerminateConfig,
};
pub use notifier::{NotifierConfig, WebhookConfig};
pub use placement::{CandidateConfig, PlacementConfig, Strategy};
pub use schedule::{Clock, When, Window};
pub(crate) use schedule::{DAYS, Interval};
pub use server::{
    AuthConfig, RateLimits, RetentionConfig, ServerConfig, ServerLimits, StoreConfig, StoreKind,
    TlsConfig, TokenConfig, TokenSource,
};
pub use zone::{Cron, Zone};

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
    /// The effective configuration as a file: every key with its value, defaults included. It
    /// loads to an equal configuration, except for secrets and for queries of URLs that stand in
    /// the file itself: none is shown.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let options = serde_saphyr::ser_options! {
            // Long values stay on one line.
            min_fold_chars: usize::MAX,
        };
        serde_saphyr::to_string_with_options(&self.effective().escaped(), options)
            .expect("plain maps of plain values always have a YAML form")
    }

    /// The effective configuration as a tree to serialize, for programs. No secret is in it.
    #[must_use]
    pub fn effective(&self) -> Plain {
        Plain::shown(self)
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
    /// How often the cloud is asked about a machine whose agent is silent.
    #[serde(serialize_with = "duration::serialize")]
    pub stale_check_interval: Duration,
    /// How often a provider is listed while it has spot machines.
    #[serde(serialize_with = "duration::serialize")]
    pub spot_check_interval: Duration,
}

impl Default for InstanceManagerConfig {
    fn default() -> Self {
        Self {
            launch_timeout: minutes(5),
            registration_timeout: minutes(10),
            stale_check_interval: SweepConfig::default().interval,
            spot_check_interval: Duration::from_secs(10),
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
    /// Where its machines are bought.
    #[serde(flatten)]
    pub placement: PlacementConfig,
    /// Least number of machines.
    pub min_nodes: u32,
    /// Greatest number of machines, at least 1.
    pub max_nodes: u32,
    /// Machines above `max_nodes` while one is replaced; 0 terminates first.
    pub max_surge: u32,
    /// Waits after a change of the size before an autoscaler changes it again.
    pub cooldown: Paces,
    /// How the size follows the work; none keeps it as it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
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
    /// How long a drain of the control plane waits here.
    pub drain_deadline: DrainDeadlines,
}

/// How faults of a pool's nodes are handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolHealth {
    /// Unhealthy full reports of a condition that did not end in between before it is repaired.
    pub unhealthy_after: u32,
    /// Whether faulty machines are replaced; false still opens and ends incidents.
    pub auto_replace: bool,
    /// What ends a condition.
    pub recovery: Recovery,
    /// Full reports in a row, with nothing that its check finds, that end a condition.
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

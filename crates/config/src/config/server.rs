//! What the server itself and its store are told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use navarch_model::Role;
use serde::{Serialize, Serializer};

use super::{NotifierConfig, hours, maybe_path, path, seconds};
use crate::duration;
use crate::units::Size;

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
    /// How often autoscalers measure and decide.
    #[serde(serialize_with = "duration::serialize")]
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
    /// The scheduler that is told when a node may or may not take work.
    pub notifier: NotifierConfig,
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
            notifier: NotifierConfig::default(),
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
    /// How often one caller may call.
    #[serde(flatten)]
    pub rates: RateLimits,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_request_bytes: 4 << 20,
            request_timeout: seconds(30),
            idle_timeout: seconds(90),
            shutdown_timeout: seconds(4),
            rates: RateLimits::default(),
        }
    }
}

/// How often one caller may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RateLimits {
    /// Calls of people and programs per second for each token, or for each address where no token
    /// is asked for; 0 means no limit.
    pub calls_per_second: u32,
    /// How many of these calls may come at once.
    pub calls_burst: u32,
    /// Registrations, reports and answers to commands per second for each node; 0 means no limit.
    /// Heartbeats have none.
    pub node_calls_per_second: u32,
    /// How many of these calls may come at once.
    pub node_calls_burst: u32,
    /// Wrong tokens that one address may try per minute; 0 means no limit.
    pub wrong_tokens_per_minute: u32,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            calls_per_second: 100,
            calls_burst: 500,
            node_calls_per_second: 20,
            node_calls_burst: 200,
            wrong_tokens_per_minute: 10,
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
    /// How long what happened is kept.
    pub retention: RetentionConfig,
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
            retention: RetentionConfig::default(),
        }
    }
}

/// How long what happened is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RetentionConfig {
    /// An event goes when its last repeat is older than this.
    #[serde(serialize_with = "duration::serialize")]
    pub events_age: Duration,
    /// The oldest events go while all records together take more than this.
    pub events_size: Size,
    /// A closed incident goes when it closed longer ago than this, as do nodes, instances and
    /// commands that ended.
    #[serde(serialize_with = "duration::serialize")]
    pub records_age: Duration,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            events_age: hours(90 * 24),
            events_size: Size(1 << 30),
            records_age: hours(365 * 24),
        }
    }
}

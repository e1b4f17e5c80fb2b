//! The configuration file: schema, parsing, located errors.
//!
//! [`Config::load`] reads one YAML file strictly: an unknown key, a duplicate key, a value of the
//! wrong type or out of range is an error with its line and column, and one pass reports all of
//! them. Every default is filled in, so that readers of a [`Config`] never choose one.

mod config;
mod dev;
pub mod duration;
mod effective;
mod error;
mod expand;
mod fields;
mod instance_types;
mod load;
mod reload;
pub mod scenario;
pub mod schema;
mod secret;
mod snippet;
mod tree;
mod units;
mod url;

pub use config::{
    AuthConfig, Autoscaler, Autoscaling, BreakerConfig, CandidateConfig, Clock, Config, Cron,
    DrainDeadlines, FlappingConfig, Guards, InstanceManagerConfig, LaunchBreakerConfig, Mode,
    NotifierConfig, Paces, PlacementConfig, PlannerConfig, PoolConfig, PoolHealth, ProviderConfig,
    ProviderKind, Question, RateLimits, Recovery, RetentionConfig, ServerConfig, ServerLimits,
    Source, Steps, StoreConfig, StoreKind, Strategy, SweepConfig, TerminateConfig, TlsConfig,
    TokenConfig, TokenSource, WebhookConfig, When, Window, Zone,
};
pub use effective::Plain;
pub use error::{ConfigError, ConfigErrors, Position, Warning};
pub use expand::Environment;
pub use navarch_model::{Automation, Role};
pub use reload::{Change, Reload};
pub use secret::Secret;
pub use units::{Budget, Percent, PercentError, Size, SizeError, Threshold};
pub use url::Url;

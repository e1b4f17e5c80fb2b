//! The fleet's types: ids, states, transitions, derived status, invariants.
//!
//! Everything here is a plain value: no input or output, no clock, no randomness, no async.

pub mod access;
pub mod cloud;
pub mod command;
pub mod event;
pub mod ids;
pub mod incident;
pub mod instance;
pub mod invariants;
pub mod node;
pub mod notice;
pub mod pool;
pub mod price;
pub mod state;
pub mod status;
pub mod time;
pub mod vocabulary;

pub use access::Role;
pub use cloud::{
    Idempotency, LaunchSpec, Machine, Offer, ProviderError, ProviderErrorKind, TerminateAnswer,
};
pub use command::{Command, CommandState};
pub use event::{Event, EventKind, Subject};
pub use ids::{
    BootId, CommandId, FleetId, IdError, IdSource, IncidentId, InstanceId, NodeId, PoolName,
    ProviderInstanceId, ProviderName, SessionId,
};
pub use incident::{Check, Ending, Evidence, FaultKey, FaultKind, Incident, Repair};
pub use instance::{
    CapacityKind, CloudStatus, EndCause, Instance, Interruption, LaunchCause, Offering, Phase,
    Sighting, Unclaimed,
};
pub use node::{
    Capabilities, Description, DrainCause, Gpu, Hold, HoldKind, Lifecycle, Node, check_hold_word,
};
pub use notice::{Asked, Notice, NoticeKind, Told};
pub use pool::{
    AskedBy, AskedSize, Automation, AutomationSetting, Breaker, LastRepair, OfferingMemory, Pool,
};
pub use price::{Price, PriceError};
pub use state::{Change, Meta, State};
pub use status::Axes;
pub use time::{Stamp, Time};
pub use vocabulary::{
    HealthEventType, HealthStatus, HealthWatchSystem, InstanceState, NodeCommandType, NodeStatus,
};

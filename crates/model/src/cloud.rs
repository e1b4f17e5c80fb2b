//! What is said to a cloud and what it answers, in the fleet's own words.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    CapacityKind, CloudStatus, FleetId, InstanceId, Offering, PoolName, Price, ProviderInstanceId,
    Time,
};

/// The kinds of trouble that decisions tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderErrorKind {
    /// The offering is sold out.
    Capacity,
    /// The account may not have more.
    Quota,
    /// The credentials are wrong or lack a permission.
    Auth,
    /// The request can never succeed as it is.
    Configuration,
    /// Too many calls; nothing was done.
    RateLimit,
    /// A passing fault; nothing was done.
    Transient,
    /// The cloud does not know the machine.
    NotFound,
    /// No answer, or one that does not say whether anything was done.
    OutcomeUnknown,
}

impl ProviderErrorKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Capacity,
        Self::Quota,
        Self::Auth,
        Self::Configuration,
        Self::RateLimit,
        Self::Transient,
        Self::NotFound,
        Self::OutcomeUnknown,
    ];

    /// The word for people and files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Quota => "quota",
            Self::Auth => "auth",
            Self::Configuration => "configuration",
            Self::RateLimit => "rate_limit",
            Self::Transient => "transient",
            Self::NotFound => "not_found",
            Self::OutcomeUnknown => "outcome_unknown",
        }
    }

    /// The kind for a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// Whether a launch call that failed so certainly made no machine.
    pub const fn made_nothing(self) -> bool {
        !matches!(self, Self::NotFound | Self::OutcomeUnknown)
    }
}

/// A call to a cloud that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}: {message}", kind.word())]
pub struct ProviderError {
    /// What kind of trouble.
    pub kind: ProviderErrorKind,
    /// The cloud's words, without secrets.
    pub message: String,
    /// How long the cloud asks us to wait.
    pub retry_after: Option<Duration>,
}

impl ProviderError {
    /// An error without a wish to wait.
    pub fn new(kind: ProviderErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
        }
    }
}

/// Everything that a launch call needs, frozen with the intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// Our id: client token, unique name and tag.
    pub instance: InstanceId,
    /// The fleet id, for the tag.
    pub fleet: FleetId,
    /// The pool, for the tag and the agent.
    pub pool: PoolName,
    /// What to buy.
    pub offering: Offering,
    /// Labels for the machine.
    pub labels: BTreeMap<String, String>,
}

/// A machine as a cloud shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The cloud's id.
    pub provider_id: ProviderInstanceId,
    /// The instance id in its tag or name.
    pub instance: Option<InstanceId>,
    /// The fleet id in its tag.
    pub fleet: Option<FleetId>,
    /// What the cloud says of it.
    pub status: CloudStatus,
    /// When the cloud takes it back, in Unix time, once the cloud says so. None while it may stay.
    pub interruption_at: Option<Time>,
}

/// One line of a cloud's price list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The region, empty if the cloud has none.
    pub region: String,
    /// The zone, empty if the line holds for every zone of the region.
    pub zone: String,
    /// The cloud's name of the machine type.
    pub instance_type: String,
    /// How firmly it is rented.
    pub capacity: CapacityKind,
    /// What it costs, if the cloud says.
    pub price: Option<Price>,
    /// Whether there are machines to be had, if the cloud says.
    pub available: Option<bool>,
}

/// What a cloud answers to a termination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TerminateAnswer {
    /// It will go; ask again to know when it is gone.
    Accepted,
    /// It is gone: the cloud says so, or does not know it.
    Gone,
}

/// How a cloud keeps one intent from buying two machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Idempotency {
    /// It honours a client token or refuses a name that is taken.
    TokenOrName,
    /// It does neither.
    None,
}

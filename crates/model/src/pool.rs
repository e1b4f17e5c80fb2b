//! What a pool remembers, beside its configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{InstanceId, PoolName, ProviderErrorKind, Stamp, Time};

/// Whether we act by our own choosing.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Automation {
    /// Nothing is planned.
    Off,
    /// Plans are made, explained and recorded, not carried out.
    Observe,
    /// Plans are carried out.
    #[default]
    On,
}

impl Automation {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Off, Self::Observe, Self::On];

    /// The word for people and files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::On => "on",
        }
    }

    /// The mode for a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.word() == word)
    }
}

/// A mode and who chose it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AutomationSetting {
    /// The mode.
    pub mode: Automation,
    /// Why, in the operator's words.
    pub reason: String,
    /// When; none if it never changed.
    pub since: Option<Stamp>,
}

/// A guard that stops one kind of action after trouble, and lets one through now and then.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Breaker {
    /// When it opened; none while it is closed.
    pub opened: Option<Stamp>,
    /// Before this moment of fleet time nothing passes.
    pub probe_at: Option<Time>,
    /// How often it opened or a probe failed in a row, for the doubling wait.
    pub trips: u32,
    /// Failures in a row while it is closed.
    pub failures: u32,
    /// What was let through as the probe, by the id of the instance it concerns.
    pub probe: Option<String>,
    /// Whether it stands for the whole fleet: the signature was on too many nodes of all pools.
    pub fleet: bool,
    /// When an operator reset it, or its probe began that proved itself: what was hit before does
    /// not count any more.
    pub reset: Option<Stamp>,
}

impl Breaker {
    /// Whether it is open.
    pub const fn is_open(&self) -> bool {
        self.opened.is_some()
    }

    /// A closed breaker that forgets what was hit before `reset`.
    pub fn closed(reset: Stamp) -> Self {
        Self {
            reset: Some(reset),
            ..Self::default()
        }
    }
}

/// What a pool remembers of buying one offering.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OfferingMemory {
    /// Opens when machines that were paid for never became ACTIVE.
    pub breaker: Breaker,
    /// Whether a machine of it became ACTIVE since the store was made or the breaker opened.
    pub proven: bool,
    /// Refusals in a row: sold out, quota, credentials, configuration.
    pub refusals: u32,
    /// Before this moment of fleet time it is not asked for again.
    pub retry_at: Option<Time>,
    /// The cloud's words at the last refusal.
    pub last_refusal: String,
    /// What kind of trouble the last refusal was: it says what rests.
    pub refused: Option<ProviderErrorKind>,
}

/// The last replacement for one signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRepair {
    /// When it was decided.
    pub at: Stamp,
    /// The instance that goes.
    pub instance: InstanceId,
}

/// Who asked for the size of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskedBy {
    /// An operator.
    Operator,
    /// The pool's autoscaler.
    Autoscaler,
}

impl AskedBy {
    /// Everybody who may ask.
    pub const ALL: [Self; 2] = [Self::Operator, Self::Autoscaler];

    /// The word for people and files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Autoscaler => "autoscaler",
        }
    }
}

/// The size that was asked for. What is planned for is this size within the configured bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedSize {
    /// Machines.
    pub nodes: u32,
    /// Who asked.
    pub by: AskedBy,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Stamp,
    /// When the size last rose, or an operator last chose it; none if never.
    pub raised: Option<Stamp>,
    /// When the size last fell, or an operator last chose it; none if never.
    pub lowered: Option<Stamp>,
}

/// What a pool remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The configured name.
    pub name: PoolName,
    /// An operator's choice for this pool; none means the fleet's.
    pub automation: Option<AutomationSetting>,
    /// The size that was asked for; none means `min_nodes`.
    pub asked: Option<AskedSize>,
    /// Offerings by their text.
    pub offerings: BTreeMap<String, OfferingMemory>,
    /// Repair breakers by signature.
    pub repair_breakers: BTreeMap<String, Breaker>,
    /// The last replacement by signature.
    pub last_repairs: BTreeMap<String, LastRepair>,
}

impl Pool {
    /// A pool that remembers nothing yet.
    pub fn new(name: PoolName) -> Self {
        Self {
            name,
            automation: None,
            asked: None,
            offerings: BTreeMap::new(),
            repair_breakers: BTreeMap::new(),
            last_repairs: BTreeMap::new(),
        }
    }
}

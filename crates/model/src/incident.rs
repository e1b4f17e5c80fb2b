//! An incident: one fault of one class on one node or GPU, from its evidence to its end.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    BootId, HealthEventType, HealthStatus, HealthWatchSystem, IncidentId, NodeId, PoolName, Stamp,
};

/// How a fault ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// It is there as long as reports show it.
    Condition,
    /// It stays until a repair of the required rung is proven.
    Latched,
}

/// The ladder of repairs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    /// Nothing.
    #[default]
    None,
    /// Restart the application.
    RestartApp,
    /// Reset the GPU.
    ResetGpu,
    /// Reboot the machine.
    Reboot,
    /// Replace the machine.
    Replace,
}

impl Repair {
    /// Every rung, from the lowest.
    pub const ALL: [Self; 5] = [
        Self::None,
        Self::RestartApp,
        Self::ResetGpu,
        Self::Reboot,
        Self::Replace,
    ];

    /// The next rung up; the top stays.
    #[must_use]
    pub const fn raised(self) -> Self {
        match self {
            Self::None => Self::RestartApp,
            Self::RestartApp => Self::ResetGpu,
            Self::ResetGpu => Self::Reboot,
            Self::Reboot | Self::Replace => Self::Replace,
        }
    }

    /// The word for people and files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::RestartApp => "restart_app",
            Self::ResetGpu => "reset_gpu",
            Self::Reboot => "reboot",
            Self::Replace => "replace",
        }
    }

    /// The rung for a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rung| rung.word() == word)
    }
}

/// What an incident is about: at most one is open per key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FaultKey {
    /// The node.
    pub node: NodeId,
    /// The GPU's index; none for the node as a whole.
    pub gpu: Option<i32>,
    /// The class of faults, for example "gpu-off-bus".
    pub class: String,
}

/// The check that raised an incident: a later report proves something only if it made this check.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Check {
    /// The rule that matched.
    pub rule: String,
    /// The watch that made the reading.
    pub watch: String,
    /// The GPU's index; none for the node as a whole.
    pub gpu: Option<i32>,
}

/// One fact that speaks for an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// When we received it.
    pub at: Stamp,
    /// When the agent says it happened, in microseconds of Unix time.
    pub happened: i64,
    /// What kind of fact.
    pub event_type: HealthEventType,
    /// The part of the machine.
    pub system: HealthWatchSystem,
    /// The readings.
    pub metrics: BTreeMap<String, String>,
    /// The agent's words.
    pub message: String,
    /// The boot it happened in.
    pub boot: Option<BootId>,
}

/// How an incident ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Full reports that made its check and found nothing there.
    Recovered,
    /// Evidence of the repair, and a passed gate.
    Repaired {
        /// The rung that was proven.
        proof: Repair,
    },
    /// The rule's time passed.
    Expired,
    /// An operator closed it.
    Operator {
        /// The operator's words.
        reason: String,
    },
    /// The policy changed and its rule no longer says so.
    PolicyChanged,
    /// The machine is gone.
    NodeTerminated,
    /// Another host took the node's id.
    HostReplaced,
}

impl Ending {
    /// The phrase for people.
    pub fn phrase(&self) -> String {
        match self {
            Self::Recovered => {
                "recovered: a full report made the same check and found nothing".to_owned()
            }
            Self::Repaired { proof } => format!("repaired ({}) and the gate passed", proof.word()),
            Self::Expired => "the rule's clear_after passed".to_owned(),
            Self::Operator { reason } if reason.is_empty() => "closed by an operator".to_owned(),
            Self::Operator { reason } => format!("closed by an operator: {reason}"),
            Self::PolicyChanged => "the health policy changed".to_owned(),
            Self::NodeTerminated => "the machine was terminated".to_owned(),
            Self::HostReplaced => "another host took the node id".to_owned(),
        }
    }
}

/// The most pieces of evidence an incident keeps: the first and the latest.
pub const MAX_EVIDENCE: usize = 8;

/// A fault and what is done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Our id.
    pub id: IncidentId,
    /// What it is about.
    pub key: FaultKey,
    /// The pool of its node.
    pub pool: Option<PoolName>,
    /// How it ends.
    pub kind: FaultKind,
    /// How bad it is: degraded or unhealthy.
    pub severity: HealthStatus,
    /// The check that raised it.
    pub check: Check,
    /// Who says so: the catalogue row, the driver, the rule.
    pub citation: String,
    /// The repair it requires.
    pub required: Repair,
    /// When it opened.
    pub opened: Stamp,
    /// When it last became unhealthy, or unhealthy by another rule: a hit for the breaker of its
    /// signature. None while it was only degraded.
    pub hit: Option<Stamp>,
    /// The latest evidence.
    pub last_evidence: Stamp,
    /// The first and the latest facts.
    pub evidence: Vec<Evidence>,
    /// How many facts there were.
    pub evidence_count: u64,
    /// Full reports in a row that showed it unhealthy, up to what decisions need.
    pub unhealthy_reports: u32,
    /// Full reports in a row that made its check and found nothing there.
    pub healthy_reports: u32,
    /// When a repair of the required rung was proven; it then waits for the gate.
    pub repaired: Option<(Stamp, Repair)>,
    /// When it opened three times in an hour: it stays open until an hour was quiet.
    pub flapping: bool,
    /// Whether an operator confirmed it.
    pub confirmed: bool,
    /// The rule's time after which it ends.
    pub clear_after: Option<Duration>,
    /// When and how it ended.
    pub closed: Option<(Stamp, Ending)>,
}

impl Incident {
    /// Whether it is open.
    pub const fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// Whether it keeps its node UNHEALTHY.
    pub fn makes_unhealthy(&self) -> bool {
        self.is_open() && self.severity == HealthStatus::Unhealthy
    }

    /// When the breaker of its signature last counted it: none while it is not unhealthy.
    pub fn hit_at(&self) -> Option<Stamp> {
        (self.severity == HealthStatus::Unhealthy).then(|| self.hit.unwrap_or(self.opened))
    }

    /// Notes a hit if it became unhealthy, or unhealthy by another rule, since `before`.
    pub fn note_hit(&mut self, before: Option<&Self>, now: Stamp) {
        let known = before.is_some_and(|before| {
            before.severity == HealthStatus::Unhealthy && before.signature() == self.signature()
        });
        if self.severity == HealthStatus::Unhealthy && !known {
            self.hit = Some(now);
        }
    }

    /// Adds a fact that stands for `count` equal ones, keeping the first and the latest.
    pub fn add_evidence(&mut self, evidence: Evidence, count: u32) {
        self.last_evidence = evidence.at;
        self.evidence_count += u64::from(count);
        if self.evidence.len() == MAX_EVIDENCE {
            self.evidence.remove(1);
        }
        self.evidence.push(evidence);
    }

    /// What the breaker counts: equal signatures on many nodes are one cause.
    pub fn signature(&self) -> &str {
        &self.check.rule
    }
}

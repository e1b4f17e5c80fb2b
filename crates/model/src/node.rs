//! A node: a registered agent, and everything that stands on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    BootId, HealthStatus, IncidentId, InstanceId, NodeId, NoticeKind, PoolName, SessionId, Stamp,
    Time, Told,
};

/// One GPU as its agent describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Gpu {
    /// Position in the machine.
    pub index: i32,
    /// The hardware's UUID.
    pub uuid: String,
    /// Product name.
    pub name: String,
    /// PCI bus id.
    pub pci_bus_id: String,
    /// Memory in bytes.
    pub memory_total_bytes: i64,
    /// Driver version.
    pub driver_version: String,
    /// CUDA version that the driver supports.
    pub cuda_version: String,
}

/// What an agent can do beyond the Go project's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capabilities {
    /// It sends full reports, with boot id, session and sequence.
    pub full_reports: bool,
    /// It acknowledges commands with their results, and knows a repeat by its id.
    pub command_results: bool,
    /// It listens for pushed commands.
    pub command_push: bool,
}

/// What an agent says of its machine when it registers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Description {
    /// The provider as the agent was told, free text.
    pub provider: String,
    /// Region.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// Machine type.
    pub instance_type: String,
    /// GPUs in order of index.
    pub gpus: Vec<Gpu>,
    /// Host name.
    pub hostname: String,
    /// Address inside the cloud.
    pub internal_ip: String,
    /// Address outside.
    pub external_ip: String,
    /// Kernel version.
    pub kernel_version: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Stable identity of the host; empty if the agent does not say.
    pub machine_id: String,
    /// Version of the agent; empty if it does not say.
    pub agent_version: String,
    /// What the agent can do.
    pub capabilities: Capabilities,
}

/// Whether a node may still come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// It registered.
    Registered,
    /// Its machine is gone.
    Terminated,
}

/// Why we drain a machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainCause {
    /// To replace it because of an incident.
    Incident(IncidentId),
    /// The pool is too large.
    Shrink,
    /// Its cloud takes the machine back.
    Interruption,
    /// Its instance is being terminated.
    Terminating,
}

/// Who holds a node and why: work is placed only where no hold stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    /// An operator cordoned it.
    OperatorCordon,
    /// An operator drains it.
    OperatorDrain,
    /// An incident of severity unhealthy is open on it.
    Incident(IncidentId),
    /// It has yet to show that it is fit: new, rebooted, or repaired.
    AdmissionGate,
    /// We drain it.
    Drain(DrainCause),
    /// A person or another system holds it beside us.
    Named {
        /// What the hold is called: unique on its node.
        name: String,
        /// Who set it.
        owner: String,
        /// Whether the work on the node is to end.
        drains: bool,
    },
}

/// The most bytes of the name or the owner of a hold.
pub const MAX_HOLD_WORD_BYTES: usize = 63;

/// Whether a text can be the name or the owner of a named hold.
///
/// # Errors
///
/// What is wrong with it, as the end of a sentence.
pub fn check_hold_word(text: &str) -> Result<(), String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
    if text.is_empty() {
        return Err("is required".to_owned());
    }
    if text.len() > MAX_HOLD_WORD_BYTES {
        return Err(format!(
            "has {} bytes; the limit is {MAX_HOLD_WORD_BYTES}",
            text.len()
        ));
    }
    let first = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !first || !text.bytes().all(legal) {
        return Err(format!(
            "is {text:?}; use letters, digits and . _ @ - and begin with a letter or a digit"
        ));
    }
    Ok(())
}

impl HoldKind {
    /// The name that people see and give.
    pub fn name(&self) -> String {
        match self {
            Self::OperatorCordon => "operator:cordon".to_owned(),
            Self::OperatorDrain => "operator:drain".to_owned(),
            Self::Incident(id) => format!("incident:{id}"),
            Self::AdmissionGate => "gate:admission".to_owned(),
            Self::Drain(DrainCause::Incident(id)) => format!("drain:{id}"),
            Self::Drain(DrainCause::Shrink) => "drain:shrink".to_owned(),
            Self::Drain(DrainCause::Interruption) => "drain:interruption".to_owned(),
            Self::Drain(DrainCause::Terminating) => "drain:terminating".to_owned(),
            Self::Named { name, owner, .. } => format!("hold:{owner}/{name}"),
        }
    }

    /// Whether the hold asks for the work on the node to end.
    pub const fn drains(&self) -> bool {
        matches!(
            self,
            Self::OperatorDrain | Self::Drain(_) | Self::Named { drains: true, .. }
        )
    }

    /// Whether somebody beside the control plane set it: an operator, or the owner of a named
    /// hold. While it stands, the control plane neither repairs nor removes the machine.
    pub const fn is_operators(&self) -> bool {
        matches!(
            self,
            Self::OperatorCordon | Self::OperatorDrain | Self::Named { .. }
        )
    }

    /// What the scheduler hears while the hold stands; none for the admission gate, of which it
    /// hears nothing. A gate stands for seconds, mostly on machines that the scheduler does not
    /// know yet, and it only delays that a node is given back.
    pub const fn notice(&self) -> Option<NoticeKind> {
        match self {
            Self::AdmissionGate => None,
            held if held.drains() => Some(NoticeKind::Drain),
            _ => Some(NoticeKind::Cordon),
        }
    }

    /// Who set it: `operator`, `navarch`, or the owner of a named hold.
    pub fn owner(&self) -> &str {
        match self {
            Self::OperatorCordon | Self::OperatorDrain => "operator",
            Self::Incident(_) | Self::AdmissionGate | Self::Drain(_) => "navarch",
            Self::Named { owner, .. } => owner,
        }
    }
}

/// What is on record of a hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Why, in words.
    pub reason: String,
    /// Since when.
    pub since: Stamp,
    /// When it ends by itself, in fleet time.
    pub expires: Option<Time>,
    /// For a drain: when the scheduler said that the node is empty.
    pub drained: Option<Stamp>,
}

/// A registered agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The id it registered under.
    pub id: NodeId,
    /// Counts the hosts that registered under this id, from 1.
    pub incarnation: u32,
    /// Whether it may come back.
    pub lifecycle: Lifecycle,
    /// The instance it is bound to; none for an external node.
    pub instance: Option<InstanceId>,
    /// The pool: the instance's, or the `pool` label of an external node.
    pub pool: Option<PoolName>,
    /// What its agent says of it.
    pub description: Arc<Description>,
    /// The most GPUs it ever showed.
    pub gpus_expected: u32,
    /// The boot it is in; none if its agent does not say.
    pub boot: Option<BootId>,
    /// The agent's present session; none if it does not say.
    pub session: Option<SessionId>,
    /// The last report of the session that changed anything.
    pub report_sequence: u64,
    /// What keeps work away.
    pub holds: BTreeMap<HoldKind, Hold>,
    /// The result of the last full report.
    pub reported: HealthStatus,
    /// When it first registered.
    pub registered: Stamp,
    /// Since when it has been heard from without a gap.
    pub fresh_since: Stamp,
    /// Since when it has been silent.
    pub silent_since: Option<Stamp>,
    /// When its machine was proven gone.
    pub terminated: Option<Stamp>,
    /// Incidents that are open on it, with their severity.
    pub open_incidents: BTreeMap<IncidentId, HealthStatus>,
    /// The address it last registered from.
    pub address: String,
    /// What the scheduler was told of it, and what it is yet to hear.
    pub told: Told,
}

impl Node {
    /// Whether any drain of ours stands on the node.
    pub fn our_drain(&self) -> Option<(&DrainCause, &Hold)> {
        self.holds.iter().find_map(|(kind, hold)| match kind {
            HoldKind::Drain(cause) => Some((cause, hold)),
            _ => None,
        })
    }

    /// Whether an operator, or the owner of a named hold, holds the node.
    pub fn is_held_by_operator(&self) -> bool {
        self.holds.keys().any(HoldKind::is_operators)
    }

    /// What the scheduler should have heard last, given the holds, with the reason; none while that
    /// may stay as it is: the node is gone, or only a gate keeps it from being given back.
    pub fn wanted_notice(&self) -> Option<(NoticeKind, &str)> {
        if self.lifecycle == Lifecycle::Terminated {
            return None;
        }
        let told = self
            .holds
            .iter()
            .filter_map(|(kind, hold)| Some((kind.notice()?, hold.reason.as_str())));
        // Of equals the first: holds of operators come before ours.
        let most = told.reduce(|most, next| if next.0 > most.0 { next } else { most });
        match most {
            Some(most) => Some(most),
            None if self.holds.is_empty() => Some((NoticeKind::Uncordon, "")),
            None => None,
        }
    }

    /// The named hold of this name.
    pub fn named_hold(&self, wanted: &str) -> Option<(&HoldKind, &Hold)> {
        self.holds
            .iter()
            .find(|(kind, _)| matches!(kind, HoldKind::Named { name, .. } if name == wanted))
    }

    /// Who holds the node beside the control plane, for a sentence: "an operator holds the node",
    /// or the names of named holds.
    pub fn holders(&self) -> String {
        let named: Vec<String> = self
            .holds
            .keys()
            .filter_map(|kind| match kind {
                HoldKind::Named { name, owner, .. } => Some(format!("{name} of {owner}")),
                _ => None,
            })
            .collect();
        let operator = [HoldKind::OperatorCordon, HoldKind::OperatorDrain]
            .iter()
            .any(|kind| self.holds.contains_key(kind));
        match (operator, named.is_empty()) {
            (_, true) => "an operator holds the node".to_owned(),
            (true, false) => {
                format!(
                    "an operator and the hold {} hold the node",
                    named.join(", ")
                )
            }
            (false, false) => format!("the hold {} stands on the node", named.join(", ")),
        }
    }

    /// The names of all holds.
    pub fn hold_names(&self) -> Vec<String> {
        self.holds.keys().map(HoldKind::name).collect()
    }

    /// The UUIDs of its GPUs.
    pub fn gpu_uuids(&self) -> BTreeSet<&str> {
        self.description
            .gpus
            .iter()
            .map(|gpu| gpu.uuid.as_str())
            .filter(|uuid| !uuid.is_empty())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::check_hold_word;

    #[test]
    fn hold_words_are_short_and_plain() {
        let longest = "a".repeat(63);
        for good in ["a", "9", "maintenance", "slurm-7.x_y@site", &longest] {
            assert_eq!(check_hold_word(good), Ok(()), "{good}");
        }
        let too_long = "a".repeat(64);
        for (bad, says) in [
            ("", "is required"),
            (too_long.as_str(), "has 64 bytes; the limit is 63"),
            ("-a", "begin with a letter"),
            (".", "begin with a letter"),
            ("a/b", "use letters"),
            ("a:b", "use letters"),
            ("a b", "use letters"),
            ("\u{e4}", "use letters"),
            ("a\n", "use letters"),
        ] {
            let error = check_hold_word(bad).unwrap_err();
            assert!(error.contains(says), "{bad:?}: {error}");
        }
    }
}

//! An instance: one attempt to have a machine at one offering.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    IncidentId, InstanceId, InstanceState, NodeId, PoolName, ProviderInstanceId, ProviderName,
    Stamp, Time,
};

/// How far an instance has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The intent is on record and no call was made.
    Requested,
    /// The cloud was or is being asked; a machine may exist.
    Launching,
    /// The answer was lost or late; a machine may exist.
    OutcomeUnknown,
    /// The cloud says that the machine exists; its agent has not registered.
    PendingRegistration,
    /// An agent registered from the machine.
    Running,
    /// The machine is to go, and is asked for until it is proven gone.
    Terminating,
    /// The machine is proven gone.
    Terminated,
    /// No machine ever existed.
    Failed,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 8] = [
        Self::Requested,
        Self::Launching,
        Self::OutcomeUnknown,
        Self::PendingRegistration,
        Self::Running,
        Self::Terminating,
        Self::Terminated,
        Self::Failed,
    ];

    /// Whether an instance may go from this phase to `next`: the only table of legal transitions.
    pub const fn may_become(self, next: Self) -> bool {
        use Phase::{
            Failed, Launching, OutcomeUnknown, PendingRegistration, Requested, Running, Terminated,
            Terminating,
        };
        match self {
            // Straight to a machine: a call that this record does not know of made it, as after a
            // backup was restored.
            Requested => matches!(
                next,
                Launching | PendingRegistration | Running | Terminating | Failed
            ),
            Launching => matches!(
                next,
                OutcomeUnknown | PendingRegistration | Running | Terminating | Failed
            ),
            OutcomeUnknown => matches!(
                next,
                Launching | PendingRegistration | Running | Terminating | Failed
            ),
            PendingRegistration => matches!(next, Running | Terminating),
            Running => matches!(next, Terminating),
            Terminating => matches!(next, Terminated),
            Terminated | Failed => false,
        }
    }

    /// Whether a machine may exist, now or once an answer arrives.
    pub const fn may_be_alive(self) -> bool {
        !matches!(self, Self::Terminated | Self::Failed)
    }

    /// Whether the instance counts as capacity that the pool has or will have.
    pub const fn counts_as_capacity(self) -> bool {
        self.may_be_alive() && !matches!(self, Self::Terminating)
    }

    /// The wire's coarser word.
    pub const fn on_wire(self) -> InstanceState {
        match self {
            Self::Requested | Self::Launching | Self::OutcomeUnknown => InstanceState::Provisioning,
            Self::PendingRegistration => InstanceState::PendingRegistration,
            Self::Running => InstanceState::Running,
            Self::Terminating => InstanceState::Terminating,
            Self::Terminated => InstanceState::Terminated,
            Self::Failed => InstanceState::Failed,
        }
    }

    /// The word for people and files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Launching => "launching",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::PendingRegistration => "pending_registration",
            Self::Running => "running",
            Self::Terminating => "terminating",
            Self::Terminated => "terminated",
            Self::Failed => "failed",
        }
    }

    /// The phase for a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.word() == word)
    }
}

/// How firmly a machine is ours while we pay for it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum CapacityKind {
    /// Until we let it go.
    #[default]
    OnDemand,
    /// Until the cloud wants it back, which it says a moment before, if at all.
    Spot,
}

impl CapacityKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::OnDemand, Self::Spot];

    /// The word for people and files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::OnDemand => "on_demand",
            Self::Spot => "spot",
        }
    }
}

/// What can be bought: one instance type at one place of one provider.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Offering {
    /// The configured provider.
    pub provider: ProviderName,
    /// The provider's region, empty if it has none.
    pub region: String,
    /// The provider's zone, empty if none is asked for.
    pub zone: String,
    /// The provider's name of the machine type.
    pub instance_type: String,
    /// How firmly it is rented.
    pub capacity: CapacityKind,
}

impl std::fmt::Display for Offering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.provider)?;
        for part in [&self.region, &self.zone, &self.instance_type] {
            if !part.is_empty() {
                write!(f, "/{part}")?;
            }
        }
        // Said only where it is not the usual, so that names of before still mean the same.
        if self.capacity == CapacityKind::Spot {
            f.write_str("/spot")?;
        }
        Ok(())
    }
}

/// Why an instance was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchCause {
    /// The pool had fewer machines than asked for.
    Grow,
    /// It takes the place of a machine that goes.
    Replace {
        /// The instance that goes.
        instance: InstanceId,
    },
    /// It was found in the cloud with our tag, or claimed by an operator.
    Adopted,
}

/// Why an instance goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// It is replaced because of an incident.
    Repair {
        /// The incident.
        incident: IncidentId,
    },
    /// The pool has more machines than asked for.
    Shrink,
    /// An operator asked.
    Operator,
    /// Its agent did not register in time.
    NeverRegistered,
    /// No answer said whether it exists, and it was given up.
    LaunchAbandoned,
    /// The cloud refused the launch.
    LaunchRefused,
    /// It was not asked for: another offering is asked instead.
    Moved,
    /// The cloud took the machine away.
    Vanished,
    /// The cloud said that it takes the machine back, and its time passed.
    Interruption,
}

impl EndCause {
    /// The phrase for people.
    pub fn phrase(&self) -> String {
        match self {
            Self::Repair { incident } => format!("replaced because of incident {incident}"),
            Self::Shrink => "pool was too large".to_owned(),
            Self::Operator => "terminated by an operator".to_owned(),
            Self::NeverRegistered => "its agent never registered".to_owned(),
            Self::LaunchAbandoned => "launch was given up without an answer".to_owned(),
            Self::LaunchRefused => "the provider refused the launch".to_owned(),
            Self::Moved => "another offering is asked instead".to_owned(),
            Self::Vanished => "the machine vanished from the provider".to_owned(),
            Self::Interruption => "its cloud takes the machine back".to_owned(),
        }
    }
}

/// What the cloud last said of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloudStatus {
    /// It boots or runs.
    Running,
    /// It is stopped.
    Stopped,
    /// The cloud reports it failed or impaired.
    Impaired,
    /// It is going away.
    Terminating,
    /// It is gone and the cloud says so.
    Terminated,
    /// The cloud does not know it.
    NotFound,
}

impl CloudStatus {
    /// The word for people and files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Impaired => "impaired",
            Self::Terminating => "terminating",
            Self::Terminated => "terminated",
            Self::NotFound => "not found",
        }
    }
}

/// What a look at the cloud said, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// What the cloud said.
    pub status: CloudStatus,
    /// When.
    pub at: Stamp,
    /// How many answers in a row said the same.
    pub in_a_row: u32,
}

/// A notice of the cloud that it takes a machine back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interruption {
    /// When the control plane heard of it.
    pub seen: Stamp,
    /// When the machine goes: the cloud says so in Unix time, and fleet time follows from it.
    pub at: Stamp,
}

/// One attempt to have a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Our id.
    pub id: InstanceId,
    /// The pool it was bought for.
    pub pool: PoolName,
    /// What was asked for, frozen.
    pub offering: Offering,
    /// Labels that the pool gives its machines.
    pub labels: BTreeMap<String, String>,
    /// How far it has come.
    pub phase: Phase,
    /// When it came there.
    pub phase_since: Stamp,
    /// When it was asked for.
    pub created: Stamp,
    /// When its agent first registered.
    pub ready: Option<Stamp>,
    /// When it was proven gone, or refused.
    pub ended: Option<Stamp>,
    /// The cloud's id, once known.
    pub provider_id: Option<ProviderInstanceId>,
    /// The node that registered from it.
    pub node: Option<NodeId>,
    /// Why it was asked for.
    pub cause: LaunchCause,
    /// Why it goes, once it does.
    pub end: Option<EndCause>,
    /// Counts the calls made for it. An answer to an earlier call is stale.
    pub attempt: u32,
    /// How many launch calls were made, or are under way. One that was not begun does not count.
    pub launches: u32,
    /// Before this moment of fleet time the next call waits.
    pub retry_at: Option<Time>,
    /// Calls that failed in a row, for the back-off.
    pub failures: u32,
    /// When the last launch call's deadline passes; listings begun before prove nothing.
    pub launch_deadline: Option<Time>,
    /// Whether the launch call may be made again as it is: the last one ended and made nothing, or
    /// the cloud honours its token.
    pub clean: bool,
    /// Whether a launch call's answer was lost: what the others say proves nothing then.
    pub doubted: bool,
    /// Complete listings, begun after the launch deadline, that lack it.
    pub absent_listings: u32,
    /// Whether its node was ever ACTIVE, or may have been before it was on record.
    pub was_active: bool,
    /// When its node last became ACTIVE, while it stays so.
    pub active_since: Option<Stamp>,
    /// What the cloud last said.
    pub sighting: Option<Sighting>,
    /// That the cloud takes the machine back, while it says so.
    pub interruption: Option<Interruption>,
    /// One line for people about where it stands.
    pub message: String,
}

/// A machine in the cloud with our fleet id that the store does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unclaimed {
    /// The provider that listed it.
    pub provider: ProviderName,
    /// The cloud's id.
    pub provider_id: ProviderInstanceId,
    /// The instance id in its tag.
    pub instance: Option<InstanceId>,
    /// When it was first listed.
    pub first_seen: Stamp,
    /// In how many complete listings it was.
    pub sightings: u32,
}

#[cfg(test)]
mod tests {
    use super::Phase;

    /// Rows: from; columns: to, in the order of `Phase::ALL`. `+` is legal.
    const LEGAL: [(&str, &str); 8] = [
        //                       R L O P R T T F
        ("requested", /*      */ ". + . + + + . +"),
        ("launching", /*      */ ". . + + + + . +"),
        ("outcome_unknown", /**/ ". + . + + + . +"),
        ("pending_registration", ". . . . + + . ."),
        ("running", /*        */ ". . . . . + . ."),
        ("terminating", /*    */ ". . . . . . + ."),
        ("terminated", /*     */ ". . . . . . . ."),
        ("failed", /*         */ ". . . . . . . ."),
    ];

    #[test]
    fn transitions_are_those_of_the_table_written_by_hand() {
        for (from, (word, row)) in Phase::ALL.into_iter().zip(LEGAL) {
            assert_eq!(from.word(), word);
            for (to, cell) in Phase::ALL.into_iter().zip(row.split(' ')) {
                assert_eq!(
                    from.may_become(to),
                    cell == "+",
                    "{} to {}",
                    from.word(),
                    to.word()
                );
            }
        }
    }
}

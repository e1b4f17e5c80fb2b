//! The append-only record of what happened and why.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{CommandId, IncidentId, InstanceId, NodeId, PoolName, Stamp};

macro_rules! event_kinds {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)+) => {
        /// What happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventKind { $($(#[$doc])* $variant),+ }

        impl EventKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for people and files.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The kind for a word.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.word() == word)
            }
        }
    };
}

event_kinds! {
    /// A control plane took the fleet over.
    Started = "server.started",
    /// The control plane did not run for a while.
    Paused = "server.paused",
    /// Wall time and monotonic time went apart.
    ClockJumped = "server.clock_jumped",
    /// A new configuration is in force.
    Configured = "config.applied",
    /// A new health policy is in force.
    PolicyApplied = "policy.applied",
    /// A new health policy was refused; the one before stays in force.
    PolicyRefused = "policy.refused",
    /// A rule could not be evaluated.
    RuleFailed = "policy.rule_failed",
    /// An operator changed the automation mode.
    AutomationChanged = "automation.changed",
    /// In observe mode: what would be done.
    WouldAct = "automation.would_act",
    /// Another size was asked for.
    PoolResized = "pool.resized",
    /// An instance came to another phase.
    InstancePhase = "instance.phase",
    /// A call to a cloud failed.
    ProviderError = "provider.error",
    /// An answer came that changes nothing any more.
    StaleResult = "provider.stale_result",
    /// A listing cannot be believed.
    ListingSuspect = "provider.listing_suspect",
    /// A machine with our tag that we do not know.
    UnclaimedFound = "instance.unclaimed",
    /// A machine does not go, however often its cloud is asked.
    TerminationOverdue = "instance.termination_overdue",
    /// The cloud says that it takes a machine back, and when.
    Interruption = "instance.interruption",
    /// The cloud does not take a machine back after all.
    InterruptionOver = "instance.interruption_over",
    /// An instance lost its node: another machine has the node's id.
    InstanceUnbound = "instance.unbound",
    /// A node registered.
    NodeRegistered = "node.registered",
    /// A registration was refused.
    RegistrationRefused = "node.registration_refused",
    /// A node's derived status changed.
    NodeStatus = "node.status",
    /// A node went silent.
    NodeSilent = "node.silent",
    /// A silent node was heard again.
    NodeBack = "node.back",
    /// A hold was set.
    HoldAdded = "hold.added",
    /// A hold was lifted.
    HoldRemoved = "hold.removed",
    /// An incident opened.
    IncidentOpened = "incident.opened",
    /// An incident changed: severity, rung, repair proven.
    IncidentChanged = "incident.changed",
    /// An incident ended.
    IncidentClosed = "incident.closed",
    /// We began to drain a node.
    DrainStarted = "drain.started",
    /// A drain ended: empty, or its deadline passed.
    DrainFinished = "drain.finished",
    /// A drain of ours was taken back.
    DrainCancelled = "drain.cancelled",
    /// The scheduler took what it was told of a node.
    NoticeTaken = "notice.taken",
    /// The scheduler did not take what it was told of a node; a notice of ours is told again.
    NoticeFailed = "notice.failed",
    /// A replacement was decided.
    ReplacementStarted = "repair.replacement_started",
    /// A guard stops an action.
    GuardBlocked = "guard.blocked",
    /// A breaker opened.
    BreakerOpened = "breaker.opened",
    /// A breaker closed.
    BreakerClosed = "breaker.closed",
    /// The one that an open breaker let through did not help.
    BreakerProbeFailed = "breaker.probe_failed",
    /// A command was issued.
    CommandIssued = "command.issued",
    /// A command changed.
    CommandChanged = "command.changed",
    /// An agent lost events because its spool was full.
    SpoolLost = "agent.spool_lost",
    /// An invariant was violated: a bug of ours.
    InvariantViolated = "invariant.violated",
}

impl EventKind {
    /// Whether repeats of an event of this kind become one event with a count. What changes a
    /// state never does: the order of such events tells the story.
    pub const fn coalesces(self) -> bool {
        matches!(
            self,
            Self::ClockJumped
                | Self::PolicyRefused
                | Self::RuleFailed
                | Self::WouldAct
                | Self::ProviderError
                | Self::StaleResult
                | Self::ListingSuspect
                | Self::RegistrationRefused
                | Self::GuardBlocked
                | Self::NoticeFailed
                | Self::SpoolLost
                | Self::InvariantViolated
        )
    }
}

impl Serialize for EventKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for EventKind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Self::from_word(&word)
            .ok_or_else(|| serde::de::Error::custom(format!("{word:?} is not an event kind")))
    }
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Subject {
    /// The pool.
    pub pool: Option<PoolName>,
    /// The instance.
    pub instance: Option<InstanceId>,
    /// The node.
    pub node: Option<NodeId>,
    /// The incident.
    pub incident: Option<IncidentId>,
    /// The command.
    pub command: Option<CommandId>,
}

/// One entry of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the record, from 1. A repeat that coalesces keeps its place.
    pub sequence: u64,
    /// When it (first) happened.
    pub at: Stamp,
    /// When the last of the coalesced repeats happened.
    pub last: Stamp,
    /// How many it stands for.
    pub count: u32,
    /// What happened.
    pub kind: EventKind,
    /// What it is about.
    pub subject: Subject,
    /// One line for people.
    pub message: String,
    /// Facts for programs.
    pub details: BTreeMap<String, String>,
}

//! What plans consist of.

use navarch_model::{
    EndCause, InstanceId, LaunchCause, NodeId, Offering, PoolName, ProviderInstanceId, ProviderName,
};

/// What plans consist of. Guards are judged again when an action is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Put the intent to buy a machine on record.
    Request {
        /// For which pool.
        pool: PoolName,
        /// Why.
        cause: LaunchCause,
        /// What to buy.
        offering: Offering,
    },
    /// Make the launch call of an intent.
    Launch {
        /// The instance.
        instance: InstanceId,
    },
    /// Give up an intent that nobody wants any more and that no call has made a machine of.
    GiveUp {
        /// The instance.
        instance: InstanceId,
    },
    /// Ask the cloud about an instance.
    Lookup {
        /// The instance.
        instance: InstanceId,
    },
    /// Give up waiting for a launch's answer.
    Doubt {
        /// The instance.
        instance: InstanceId,
    },
    /// Commit to letting a machine go.
    Terminate {
        /// The instance.
        instance: InstanceId,
        /// Why.
        cause: EndCause,
    },
    /// Ask the cloud to let a committed machine go.
    CallTerminate {
        /// The instance.
        instance: InstanceId,
    },
    /// Tell a person that a machine does not go.
    Alert {
        /// The instance.
        instance: InstanceId,
    },
    /// Begin to drain a node.
    Drain {
        /// The node.
        node: NodeId,
        /// Why.
        cause: navarch_model::DrainCause,
    },
    /// Tell the scheduler what it is to hear next of a node.
    Tell {
        /// The node.
        node: NodeId,
    },
    /// Ask whether a draining node is empty.
    AskDrained {
        /// The node.
        node: NodeId,
    },
    /// Take back a drain whose cause is gone.
    CancelDrain {
        /// The node.
        node: NodeId,
    },
    /// List a provider.
    List {
        /// The provider.
        provider: ProviderName,
    },
    /// Ask a provider what it sells and for how much.
    Prices {
        /// The provider.
        provider: ProviderName,
    },
    /// Let a machine go that nobody claims and whose intent was abandoned.
    TerminateUnclaimed {
        /// The provider.
        provider: ProviderName,
        /// The cloud's id.
        machine: ProviderInstanceId,
    },
    /// Ask for another size of a pool, as its autoscaler recommends.
    Resize {
        /// The pool.
        pool: PoolName,
        /// Machines.
        nodes: u32,
    },
    /// Open a repair breaker.
    OpenBreaker {
        /// The pool.
        pool: PoolName,
        /// The signature.
        signature: String,
    },
    /// End a repair breaker's probe: it proved itself, or it did not.
    JudgeProbe {
        /// The pool.
        pool: PoolName,
        /// The signature.
        signature: String,
        /// Whether it proved itself.
        proven: bool,
    },
    /// Record what stops, or would be, an action.
    Note(Note),
    /// Forget a note that no longer holds.
    ClearNote(Note),
}

impl Action {
    /// The word for it in metrics; none for what only keeps the record.
    pub const fn kind(&self) -> Option<&'static str> {
        Some(match self {
            Self::Request { .. } => "request",
            Self::Launch { .. } => "launch",
            Self::GiveUp { .. } => "give_up",
            Self::Lookup { .. } => "lookup",
            Self::Doubt { .. } => "doubt",
            Self::Terminate { .. } => "terminate",
            Self::CallTerminate { .. } => "call_terminate",
            Self::Drain { .. } => "drain",
            Self::Tell { .. } => "tell",
            Self::AskDrained { .. } => "ask_drained",
            Self::CancelDrain { .. } => "cancel_drain",
            Self::List { .. } => "list",
            Self::Prices { .. } => "prices",
            Self::TerminateUnclaimed { .. } => "terminate_unclaimed",
            Self::OpenBreaker { .. } => "open_breaker",
            Self::JudgeProbe { .. } => "judge_probe",
            Self::Resize { .. } => "resize",
            Self::Alert { .. } | Self::Note(_) | Self::ClearNote(_) => return None,
        })
    }
}

/// A reason on record while it holds: each is one event, however often it is found again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// The pool.
    pub pool: PoolName,
    /// What it is about: a node, an instance or the pool.
    pub about: String,
    /// The guard, or `would`.
    pub guard: &'static str,
    /// Which of the guard's reasons, in one word: another one is told anew.
    pub cause: &'static str,
    /// What would be done, for `would`; else what is stopped.
    pub action: String,
    /// Why. Not part of what makes two notes the same.
    pub reason: String,
}

impl Note {
    /// What makes two notes the same.
    pub fn key(&self) -> (&PoolName, &str, &str, &str) {
        (&self.pool, &self.about, self.guard, &self.action)
    }
}

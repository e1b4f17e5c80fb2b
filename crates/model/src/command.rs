//! A command for one node, from its order to its result.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{CommandId, NodeCommandType, NodeId, NoticeKind, Stamp, Time};

/// How far a command has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandState {
    /// It waits for the agent, or for the scheduler's answer.
    Pending,
    /// The agent was given it.
    Delivered,
    /// It was done.
    Succeeded,
    /// It was tried and failed.
    Failed,
    /// Its time passed before a result came.
    Expired,
    /// It was given to an agent that cannot say what became of it.
    Unconfirmed,
}

impl CommandState {
    /// Every state.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Delivered,
        Self::Succeeded,
        Self::Failed,
        Self::Expired,
        Self::Unconfirmed,
    ];

    /// Whether nothing more will happen.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Delivered)
    }

    /// The word for people and files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Unconfirmed => "unconfirmed",
        }
    }

    /// The state for a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// The most bytes of a result that are kept.
pub const MAX_RESULT_BYTES: usize = 64 * 1024;

/// A command for one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Our id.
    pub id: CommandId,
    /// For which node.
    pub node: NodeId,
    /// What to do.
    pub kind: NodeCommandType,
    /// How.
    pub parameters: BTreeMap<String, String>,
    /// When it was ordered.
    pub issued: Stamp,
    /// When it expires, in fleet time.
    pub expires: Time,
    /// How far it has come.
    pub state: CommandState,
    /// When it last changed.
    pub changed: Stamp,
    /// What the agent answered, or the scheduler.
    pub result: String,
}

impl Command {
    /// Whether it waits for the agent. A cordon, a drain or an uncordon waits for the scheduler
    /// at most.
    pub const fn waits_for_agent(&self) -> bool {
        !self.state.is_final() && NoticeKind::of(self.kind).is_none()
    }
}

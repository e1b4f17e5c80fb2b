//! What the scheduler is told of a node, and what it was told last.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{CommandId, FleetId, Hold, HoldKind, NodeCommandType, NodeId, Stamp, Time};

/// Commands of one node that may wait for the scheduler's answer. Lower refuses people who are
/// many, higher lets a scheduler that hangs fill the record of the node.
pub const MAX_UNANSWERED: usize = 8;

/// Notices that one node may have waiting: its commands', and one of our own.
pub const MAX_NOTICES: usize = MAX_UNANSWERED + 1;

/// What a scheduler is told to do with a node, from the least to the most.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// Work may be placed on it again.
    #[default]
    Uncordon,
    /// Place no work on it; what runs goes on.
    Cordon,
    /// Place no work on it, and let what runs come to its end.
    Drain,
}

impl NoticeKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Uncordon, Self::Cordon, Self::Drain];

    /// The word for people, schedulers and files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Uncordon => "uncordon",
            Self::Cordon => "cordon",
            Self::Drain => "drain",
        }
    }

    /// What an operator's command asks for; none for commands that no scheduler hears of.
    pub const fn of(command: NodeCommandType) -> Option<Self> {
        match command {
            NodeCommandType::Cordon => Some(Self::Cordon),
            NodeCommandType::Drain => Some(Self::Drain),
            NodeCommandType::Uncordon => Some(Self::Uncordon),
            NodeCommandType::RunDiagnostic
            | NodeCommandType::Terminate
            | NodeCommandType::Unknown => None,
        }
    }
}

/// The operator's command that a notice tells of: its caller waits for the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The command.
    pub command: CommandId,
    /// What it asks for.
    pub kind: NoticeKind,
}

/// Something that the scheduler is to hear of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its place among the notices of its node. It grows for as long as the node is on record.
    pub sequence: u64,
    /// What the scheduler is told.
    pub kind: NoticeKind,
    /// Why, in words.
    pub reason: String,
    /// When it was put on record.
    pub created: Stamp,
    /// The command that it tells of; none when a hold of the control plane's own is told.
    pub asked: Option<Asked>,
    /// How often it was sent.
    pub attempts: u32,
    /// Whether the scheduler may have heard it without our knowing.
    pub unsure: bool,
    /// When it may be sent again, in fleet time.
    pub retry_at: Option<Time>,
    /// What came of the last attempt, if that failed.
    pub error: String,
}

impl Notice {
    /// The text that makes a repeat of this notice recognisable, in every fleet.
    pub fn key(&self, fleet: &FleetId, node: &NodeId) -> String {
        format!("{fleet}/{node}/{}", self.sequence)
    }
}

/// What a scheduler knows of a node through us.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Told {
    /// What it was told last, and took.
    pub last: NoticeKind,
    /// A fingerprint of the receiver that all of this is about, the one that was told last; zero if
    /// none is known.
    pub receiver: u64,
    /// Whether it may have heard something else since: it has to be told again.
    pub doubt: bool,
    /// The sequence of the newest notice.
    pub sequence: u64,
    /// What it is yet to hear, in order: those of operators' commands, and at most one of our own.
    pub waiting: Vec<Notice>,
    /// The operator's holds as they were before the first command that waits for an answer.
    pub before: BTreeMap<HoldKind, Hold>,
}

impl Told {
    /// Whether an operator's command waits for the scheduler's answer.
    pub fn has_command(&self) -> bool {
        self.waiting.iter().any(|notice| notice.asked.is_some())
    }

    /// Makes this what an older copy of the record knows: the scheduler may have heard anything
    /// since. What waits goes out as something new, because under its old sequence it would be
    /// older than what was heard, and what keeps work away is told again. A node that was to take
    /// work is not told of: it may be another who stopped it.
    pub fn restored(&mut self) {
        self.doubt |= self.last != NoticeKind::Uncordon;
        for notice in &mut self.waiting {
            notice.attempts = 0;
            notice.unsure = true;
            notice.retry_at = None;
        }
    }
}

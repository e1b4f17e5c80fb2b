//! What the owner hands to the releaser.

use std::sync::Arc;

use navarch_core::input::{Effect, Rejection, Reply};
use navarch_core::{PlanReport, Settings};
use navarch_model::{Change, Stamp, Time};
use navarch_policy::HealthPolicy;
use navarch_store::Ticket;
use tokio::sync::oneshot;

use super::handle::Answer;

/// What waits for one commit.
pub(super) struct Turn {
    pub(super) at: Stamp,
    pub(super) ticket: Option<Ticket>,
    pub(super) changes: Vec<Change>,
    pub(super) replies: Vec<(Answer, Result<Reply, Rejection>)>,
    pub(super) effects: Vec<Effect>,
    /// The planned actions by kind, and whether each was taken.
    pub(super) actions: Vec<(&'static str, bool)>,
    /// What the plan found whose actions are in this turn.
    pub(super) report: Option<PlanReport>,
    /// By what the turn was decided.
    pub(super) rules: Option<Rules>,
}

/// The settings and the policy of a turn. Readers see them, and a Fleet that is loaded again goes
/// by them, once the turn is durable.
pub(super) struct Rules {
    pub(super) settings: Arc<Settings>,
    pub(super) policy: Arc<HealthPolicy>,
}

pub(super) enum Release {
    Turn(Box<Turn>),
    /// Everything before this was released or refused.
    Barrier(oneshot::Sender<()>),
}

impl Turn {
    pub(super) const fn empty() -> Self {
        Self {
            at: Stamp {
                core: Time(0),
                wall: Time(0),
            },
            ticket: None,
            changes: Vec::new(),
            replies: Vec::new(),
            effects: Vec::new(),
            actions: Vec::new(),
            report: None,
            rules: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
            && self.replies.is_empty()
            && self.effects.is_empty()
            && self.actions.is_empty()
            && self.report.is_none()
    }
}

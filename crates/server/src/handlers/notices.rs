//! Waiting for the scheduler's answer to an operator's command.

use std::sync::Arc;
use std::time::Duration;

use navarch_api::ApiError;
use navarch_model::{Command, CommandId, CommandState, Node, NodeCommandType, NodeId, NoticeKind};
use navarch_time::timeout;

use super::Handlers;

/// Added to the time of a command before its caller is let go: the core ends it first.
const PATIENCE: Duration = Duration::from_secs(5);

impl Handlers {
    /// Waits until the scheduler answered a command of which it hears. Answers the node after it,
    /// if it had to wait.
    ///
    /// # Errors
    ///
    /// The scheduler refused it or did not answer, and its hold was taken back.
    pub(super) async fn scheduler_answer(
        &self,
        node: &NodeId,
        kind: NodeCommandType,
        id: &CommandId,
    ) -> Result<Option<Arc<Node>>, ApiError> {
        let Some(word) = NoticeKind::of(kind).map(NoticeKind::word) else {
            return Ok(None);
        };
        // First the news, then the look: nothing that comes between is missed.
        let mut news = self.published.events();
        let known = || self.published.read(|state| state.commands.get(id).cloned());
        if known().is_none_or(|command| command.state.is_final()) {
            return Ok(None);
        }
        let answered = async {
            loop {
                match known() {
                    Some(command) if !command.state.is_final() => {}
                    ended => return ended,
                }
                if news.changed().await.is_err() {
                    return None;
                }
            }
        };
        let limit = self.published.settings().notifier.timeout + PATIENCE;
        let clock = Arc::clone(self.time.clock());
        let ended = tokio::select! {
            () = self.closing.cancelled() => None,
            ended = timeout(&*clock, limit, answered) => ended.ok().flatten(),
        };
        let Some(ended) = ended else {
            return Err(ApiError::unavailable(format!(
                "the scheduler has not answered the {word} of node {node} yet: `navarch events \
                 --node {node}` will say what became of it"
            )));
        };
        match *ended {
            Command {
                state: CommandState::Succeeded,
                ..
            } => Ok(self.published.node(node)),
            Command { ref result, .. } => Err(ApiError::internal(format!(
                "failed to {word} node: {result}"
            ))),
        }
    }
}

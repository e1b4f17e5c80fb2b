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
        if known().is_none() {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use navarch_api::ApiError;
    use navarch_model::{
        Change, Command, CommandId, CommandState, NodeCommandType, NodeId, Stamp, Time,
    };

    use crate::handlers::events::tests::handlers;

    #[tokio::test]
    async fn a_command_that_ended_before_anybody_looked_is_judged_like_any_other() {
        let node = NodeId::new("a");
        let at = Stamp {
            core: Time(1),
            wall: Time(1),
        };
        for (state, expected) in [
            (CommandState::Succeeded, Ok(())),
            (CommandState::Failed, Err("failed to cordon node: in use")),
            (CommandState::Expired, Err("failed to cordon node: in use")),
        ] {
            let handlers = handlers();
            let id = CommandId::new("cmd-1");
            let command = Command {
                id: id.clone(),
                node: node.clone(),
                kind: NodeCommandType::Cordon,
                parameters: BTreeMap::new(),
                state,
                issued: at,
                expires: Time(2),
                changed: at,
                result: "in use".to_owned(),
            };
            let commanded = Change::Command(command.into());
            handlers.published.apply(&[commanded], at);
            let answer = handlers
                .scheduler_answer(&node, NodeCommandType::Cordon, &id)
                .await;
            match (answer, expected) {
                (Ok(_), Ok(())) => {}
                (Err(ApiError { message, .. }), Err(expected)) => assert_eq!(message, expected),
                (answer, expected) => panic!("{answer:?}, not {expected:?}"),
            }
            let other = CommandId::new("cmd-2");
            let answer = handlers
                .scheduler_answer(&node, NodeCommandType::Cordon, &other)
                .await;
            assert!(matches!(answer, Ok(None)), "{answer:?}");
        }
    }
}

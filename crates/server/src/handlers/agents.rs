//! `navarch.v1.AgentService`: what our agents call beyond the classic service.

use std::sync::Arc;

use futures_util::stream;
use navarch_api::service::{Agents, Answers, Call};
use navarch_api::{ApiError, convert, requests, v1};
use navarch_core::{Input, Reply};
use navarch_model::{NodeId, SessionId};
use navarch_time::timeout;

use super::{Handlers, KEEP_ALIVE};
use crate::access::until_revoked;
use crate::fleet::{FleetClock, FleetHandle};
use crate::publish::{CommandNews, Published};

impl Agents for Handlers {
    async fn acknowledge_command(
        &self,
        _call: Call,
        request: v1::AcknowledgeCommandRequest,
    ) -> Result<v1::AcknowledgeCommandResponse, ApiError> {
        let answer = requests::acknowledgement(request)?;
        let id = answer.command.clone();
        self.ask_for_agent(Input::Acknowledge {
            node: answer.node,
            command: answer.command,
            state: answer.state,
            result: answer.result,
        })
        .await?;
        let state = self
            .published
            .read(|state| state.commands.get(&id).map(|command| command.state));
        Ok(v1::AcknowledgeCommandResponse {
            acknowledged: true,
            state: state.unwrap_or(answer.state).word().to_owned(),
        })
    }

    async fn watch_commands(
        &self,
        call: Call,
        request: v1::WatchCommandsRequest,
    ) -> Result<Answers<v1::WatchCommandsResponse>, ApiError> {
        let (node, session) = requests::watch_commands(&request)?;
        if self.published.node(&node).is_none() {
            return Err(self.unknown_node(&node));
        }
        super::current(&self.published, &node, session.as_ref())?;
        let watch = Watch {
            news: self.published.commands_of(&node),
            node,
            session,
            fleet: self.fleet.clone(),
            published: Arc::clone(&self.published),
            time: self.time.clone(),
            closing: self.closing.clone(),
            first: true,
        };
        let answers = Box::pin(stream::unfold(Some(watch), |watch| async {
            let mut watch = watch?;
            match watch.next().await {
                Ok(answer) => Some((Ok(answer), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        }));
        Ok(until_revoked(&call, answers))
    }
}

/// One agent's stream of commands.
struct Watch {
    node: NodeId,
    session: Option<SessionId>,
    fleet: FleetHandle,
    published: Arc<Published>,
    time: FleetClock,
    closing: navarch_time::CancellationToken,
    news: CommandNews,
    first: bool,
}

impl Watch {
    async fn next(&mut self) -> Result<v1::WatchCommandsResponse, ApiError> {
        if !std::mem::take(&mut self.first) {
            let clock = Arc::clone(self.time.clock());
            tokio::select! {
                () = self.closing.cancelled() => {
                    return Err(ApiError::unavailable("the control plane is shutting down"));
                }
                // Whether there is news or none for so long: it says what waits.
                _ = timeout(&*clock, KEEP_ALIVE, self.news.next()) => {}
            }
        }
        Ok(v1::WatchCommandsResponse {
            commands: self.waiting().await?,
            next_within_milliseconds: i64::try_from(2 * KEEP_ALIVE.as_millis()).unwrap_or(i64::MAX),
        })
    }

    /// The commands that wait, now marked as delivered.
    async fn waiting(&self) -> Result<Vec<navarch_api::wire::NodeCommand>, ApiError> {
        super::current(&self.published, &self.node, self.session.as_ref())?;
        if !self.published.has_command(&self.node) {
            return Ok(Vec::new());
        }
        match self
            .fleet
            .submit_agent(Input::Poll {
                node: self.node.clone(),
                session: self.session.clone(),
            })
            .await
        {
            Ok(Reply::Commands(commands)) => Ok(commands
                .iter()
                .map(|command| convert::node_command(command))
                .collect()),
            Ok(_) => Ok(Vec::new()),
            Err(error) => Err(super::refused(error)),
        }
    }
}

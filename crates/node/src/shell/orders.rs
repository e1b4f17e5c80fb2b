//! Commands: carried out once, answered as often as they come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use navarch_api::{Cause, Client, v1, wire};
use navarch_core::Fact;
use navarch_core::agent::CALL_LIMIT;
use navarch_model::{CommandId, Time};
use navarch_time::{Backoff, OsRng, SharedClock, timeout};

use super::{Done, READ_LIMIT, Shell, bounded};
use crate::commands::{Finished, Order, order};
use crate::reading::{self, Reading};
use crate::wire as message;

/// How long the acknowledgement of the command to stop may hold the stop up.
const LAST_WORD_LIMIT: Duration = Duration::from_secs(5);
/// Waits before an acknowledgement is sent again.
const ACKNOWLEDGE: Backoff = Backoff {
    initial: Duration::from_millis(500),
    max: Duration::from_secs(30),
    multiplier: 2.0,
    jitter: 0.2,
};
/// The most commands that are carried out at a time; further ones come again.
const MAX_ACTIVE: usize = 16;

impl Shell {
    pub(super) fn take_commands(&mut self, commands: Vec<wire::NodeCommand>) {
        if !commands.is_empty() {
            tracing::info!(count = commands.len(), "received commands");
        }
        for command in commands {
            let Ok(id) = CommandId::parse(&command.command_id) else {
                tracing::warn!("a command without a usable id was ignored");
                continue;
            };
            if self.active.contains(&id) || self.active.len() >= MAX_ACTIVE {
                continue;
            }
            self.active.insert(id.clone());
            if self.agent.is_new(&id) {
                self.carry_out(id, command.r#type.to_i32(), &command.parameters);
            } else {
                tracing::info!(command_id = %id, "command was carried out before; answered again");
                let finished = self.ledger.answer(&id);
                self.acknowledge(finished, false);
            }
        }
    }

    pub(super) fn carry_out(
        &mut self,
        id: CommandId,
        number: i32,
        parameters: &BTreeMap<String, String>,
    ) {
        tracing::info!(command_id = %id, command_type = number, "executing command");
        let stop = match order(number, parameters) {
            Order::Diagnose(test) => return self.diagnose(id, test),
            Order::Stop => Ok("the agent stops".to_owned()),
            Order::Refuse(why) => Err(why),
        };
        let (succeeded, output) = match stop {
            Ok(output) => (true, output),
            Err(why) => (false, why),
        };
        self.ran(Finished::new(id, succeeded, output), succeeded);
    }

    pub(super) fn diagnose(&mut self, id: CommandId, test: Option<String>) {
        let (clock, worker) = (Arc::clone(&self.clock), self.worker.clone());
        let mut scribe = self.scribe.clone();
        let (gpus, began) = (self.gpus.clone(), self.clock.monotonic());
        self.work.push(Box::pin(async move {
            let reading = worker.ask(&*clock, READ_LIMIT, Reading::take).await;
            let facts = reading.map(|reading| {
                let facts = scribe.full(&reading, &gpus, Time(clock.wall()));
                let wanted = |fact: &Fact| test.as_ref().is_none_or(|test| *test == fact.watch);
                facts.into_iter().filter(wanted).collect::<Vec<_>>()
            });
            let took = clock.monotonic().saturating_sub(began);
            let (succeeded, output) = reading::describe(&facts, took);
            Done::Ran(Finished::new(id, succeeded, output), false)
        }));
    }

    /// A command ended: its result is durable before anybody hears of it.
    pub(super) fn ran(&mut self, finished: Finished, stop: bool) {
        if finished.succeeded {
            tracing::info!(command_id = %finished.id, "command executed successfully");
        } else {
            tracing::warn!(command_id = %finished.id, error = %finished.output, "command execution failed");
        }
        self.agent.finish(finished.id.clone());
        self.ledger.finish(finished.clone(), &self.agent);
        self.acknowledge(finished, stop);
    }

    pub(super) fn acknowledge(&mut self, finished: Finished, stop: bool) {
        let (clock, client) = (Arc::clone(&self.clock), self.client.clone());
        let Finished {
            id,
            succeeded,
            output,
        } = finished;
        let session = self.agent.session();
        let request = message::acknowledgement(&self.identity, session, &id, succeeded, output);
        self.work.push(Box::pin(async move {
            let told = tell(&clock, &client, &id, request);
            if stop {
                if timeout(&*clock, LAST_WORD_LIMIT, told).await.is_err() {
                    tracing::warn!(command_id = %id, "stopping although nobody took the acknowledgement");
                }
            } else {
                told.await;
            }
            Done::Acknowledged(id, stop)
        }));
    }
}

/// Tells the control plane what became of a command, until it hears.
async fn tell(
    clock: &SharedClock,
    client: &Client,
    id: &CommandId,
    request: v1::AcknowledgeCommandRequest,
) {
    let mut failures = 0;
    loop {
        let call = client.acknowledge_command(request.clone());
        match bounded(clock, CALL_LIMIT, call).await {
            Ok(answer) => {
                tracing::info!(command_id = %id, state = %answer.state, "command status update");
                return;
            }
            Err(error) if error.cause == Cause::Answer && !error.code.is_transient() => {
                tracing::warn!(command_id = %id, %error, "the result of a command was refused");
                return;
            }
            Err(error) => tracing::debug!(command_id = %id, %error, "cannot tell a result yet"),
        }
        clock.sleep(ACKNOWLEDGE.delay(failures, &mut OsRng)).await;
        failures = failures.saturating_add(1);
    }
}

//! `navarch node`: what an agent is asked to do, and word of a machine that cannot speak.

use std::time::Duration;

use navarch_api::{Client, v1, wire};
use navarch_model::NodeCommandType;
use navarch_time::{Clock as _, RealClock};
use serde_json::Value;

use crate::args::{Global, Node};
use crate::client::{Doing as _, Failure, connect, suggest};
use crate::output::{for_programs, remark, say, table};
use crate::values;

/// How often the answer of an agent is looked for. Lower asks a busy control plane more often,
/// higher keeps people waiting.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// `navarch node`.
pub async fn run(global: &Global, order: Node) -> Result<(), Failure> {
    let client = connect(global)?;
    match order {
        Node::ConfirmDead { node, reason } => confirm_dead(global, &client, node, reason).await,
        Node::Diagnose { node, test } => diagnose(global, &client, &node, test).await,
        Node::Commands { node } => {
            let commands = commands(&client, &node).await?;
            let all = Value::Array(commands.iter().map(values::command_record).collect());
            if for_programs(global.output, &all)? {
                return Ok(());
            }
            if commands.is_empty() {
                remark("No commands found");
                return Ok(());
            }
            say(&listing(&commands));
            Ok(())
        }
    }
}

async fn confirm_dead(
    global: &Global,
    client: &Client,
    node: String,
    reason: String,
) -> Result<(), Failure> {
    let request = v1::ConfirmSilenceRequest {
        node_id: node.clone(),
        reason,
    };
    match client
        .confirm_silence(request)
        .await
        .doing("confirm that the node is dead")
    {
        Ok(answer) => {
            let found = answer.node.as_option().cloned().unwrap_or_default();
            if !for_programs(global.output, &values::node(&found))? {
                say(&format!(
                    "Node {node} confirmed dead; it is repaired as its pool allows"
                ));
            }
            Ok(())
        }
        Err(failure) => Err(suggest(client, &node, failure).await),
    }
}

/// The commands of a node, the newest first.
async fn commands(client: &Client, node: &str) -> Result<Vec<v1::Command>, Failure> {
    let request = v1::ListCommandsRequest {
        node_id: node.to_owned(),
    };
    match client.list_commands(request).await.doing("list commands") {
        Ok(answer) => Ok(answer.commands),
        Err(failure) => Err(suggest(client, node, failure).await),
    }
}

/// Asks the agent, and waits for its answer as long as a call may take.
async fn diagnose(
    global: &Global,
    client: &Client,
    node: &str,
    test: Option<String>,
) -> Result<(), Failure> {
    let test = test.map(|test| ("test".to_owned(), test));
    let request = wire::IssueCommandRequest {
        node_id: node.to_owned(),
        command_type: NodeCommandType::RunDiagnostic.number().into(),
        parameters: test.into_iter().collect(),
    };
    let issued = match client.issue_command(request).await.doing("diagnose node") {
        Ok(answer) => answer.command_id,
        Err(failure) => return Err(suggest(client, node, failure).await),
    };
    let clock = RealClock::new();
    let began = clock.monotonic();
    let command = loop {
        let known = commands(client, node).await?;
        let known = known.into_iter().find(|one| one.command_id == issued);
        match known {
            Some(command) if is_over(&command.state) => break command,
            Some(command) if clock.monotonic() - began >= global.timeout => break command,
            Some(_) => clock.sleep(LOOK_EVERY).await,
            None => {
                return Err(Failure::Said(format!(
                    "command {issued} is not on record any more"
                )));
            }
        }
    };
    if !for_programs(global.output, &values::command_record(&command))? {
        say(&format!("Command ID: {issued}"));
        say(&format!("State:      {}", command.state));
        if !command.result.is_empty() {
            say(command.result.trim_end());
        }
        if !is_over(&command.state) {
            remark(&format!(
                "The agent has not answered yet; `navarch node commands {node}` shows when it has"
            ));
        }
    }
    match command.state.as_str() {
        "failed" | "expired" => Err(Failure::Quiet),
        _ => Ok(()),
    }
}

/// Whether nothing more comes of a command.
fn is_over(state: &str) -> bool {
    !matches!(state, "pending" | "delivered")
}

/// The table of `navarch node commands`.
pub fn listing(commands: &[v1::Command]) -> String {
    let rows: Vec<Vec<String>> = commands
        .iter()
        .map(|command| {
            vec![
                command.command_id.clone(),
                values::command_type(command.r#type.to_i32()),
                command.state.clone(),
                values::clock(command.issued_at.as_option()),
                values::clock(command.changed_at.as_option()),
                first_line(&command.result),
            ]
        })
        .collect();
    let heading = ["Command", "Type", "State", "Issued", "Changed", "Result"];
    table(&heading, &rows)
}

/// The first line of a result; the others are for `-o json`.
fn first_line(result: &str) -> String {
    let mut lines = result.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    match lines.count() {
        0 => first,
        more => format!("{first} (and {more} more lines)"),
    }
}

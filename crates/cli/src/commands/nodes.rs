//! `navarch list`, `get`, `cordon`, `drain`, `uncordon` and `terminate`.

use std::io::IsTerminal as _;
use std::time::Duration;

use navarch_api::{Client, Code, v1, wire};
use navarch_model::{NodeCommandType, NodeStatus};
use serde_json::Value;

use super::pools::must_be_known;
use crate::args::{Format, Global, List, NodeCommand};
use crate::client::{Doing as _, Failure, connect, suggest};
use crate::output::{for_programs, remark, say, table};
use crate::values;

/// A heartbeat older than this is worth a warning.
const STALE: i64 = 120;

/// What a command does, and how it is told.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    kind: NodeCommandType,
    doing: &'static str,
    done: &'static str,
}

/// `navarch cordon`.
pub const CORDON: Order = Order {
    kind: NodeCommandType::Cordon,
    doing: "cordon node",
    done: "cordoned",
};
/// `navarch drain`.
pub const DRAIN: Order = Order {
    kind: NodeCommandType::Drain,
    doing: "drain node",
    done: "draining",
};
/// `navarch uncordon`.
pub const UNCORDON: Order = Order {
    kind: NodeCommandType::Uncordon,
    doing: "uncordon node",
    done: "uncordoned",
};
/// `navarch terminate`.
pub const TERMINATE: Order = Order {
    kind: NodeCommandType::Terminate,
    doing: "terminate node",
    done: "terminating",
};

/// The present moment by the clock of the control plane, whose times are shown: ours may be off,
/// and that of a simulated fleet is another one. A control plane that does not say shares ours.
async fn its_now(client: &Client) -> jiff::Timestamp {
    let said = client
        .get_server_info(v1::GetServerInfoRequest::default())
        .await;
    let time = said
        .ok()
        .and_then(|info| values::time(info.time.as_option()));
    time.unwrap_or_else(jiff::Timestamp::now)
}

/// The status of a word; none is every status.
pub fn status(text: &str) -> Result<NodeStatus, Failure> {
    if text.is_empty() {
        return Ok(NodeStatus::Unknown);
    }
    let word = text.to_ascii_lowercase();
    let word = word.strip_prefix("node_status_").unwrap_or(&word);
    let status = NodeStatus::from_short(word).filter(|status| *status != NodeStatus::Unknown);
    status.ok_or_else(|| {
        Failure::Usage(format!(
            "invalid status: {text} (valid: active, cordoned, draining, unhealthy, terminated)"
        ))
    })
}

/// `navarch list`.
pub async fn list(global: &Global, list: List) -> Result<(), Failure> {
    let client = connect(global)?;
    let request = wire::ListNodesRequest {
        provider: list.provider,
        region: list.region,
        status: status(&list.status)?.number().into(),
        pool: list.pool,
        labels: list.labels.into_iter().collect(),
    };
    if !list.watch {
        let pool = request.pool.clone();
        let nodes = client.list_nodes(request).await.doing("list nodes")?.nodes;
        if nodes.is_empty() && !pool.is_empty() {
            must_be_known(&client, pool).await?;
        }
        return show(&client, global.output, &nodes).await;
    }
    // Every event may change the list; a quiet fleet still shows its ages anew.
    let mut events = client
        .watch_events(v1::WatchEventsRequest::default())
        .await
        .doing("watch events")?;
    loop {
        let nodes = client
            .list_nodes(request.clone())
            .await
            .doing("list nodes")?
            .nodes;
        let people = matches!(global.output, Format::Table | Format::Wide);
        if people && std::io::stdout().is_terminal() {
            say("\u{1b}[2J\u{1b}[H");
        }
        show(&client, global.output, &nodes).await?;
        if events.next().await.doing("watch events")?.is_none() {
            return Ok(());
        }
    }
}

async fn show(client: &Client, format: Format, nodes: &[wire::NodeInfo]) -> Result<(), Failure> {
    if for_programs(
        format,
        &Value::Array(nodes.iter().map(values::node).collect()),
    )? {
        return Ok(());
    }
    if nodes.is_empty() {
        remark("No nodes found");
        return Ok(());
    }
    let now = its_now(client).await;
    say(&node_table(nodes, format == Format::Wide, now));
    Ok(())
}

/// When a node was last heard. Of a node that is gone this need not be known any more.
fn last_heartbeat(node: &wire::NodeInfo, now: jiff::Timestamp) -> String {
    let at = values::time(node.last_heartbeat.as_option());
    let gone = values::node_status(node.status.to_i32()) == NodeStatus::Terminated;
    if at.is_none() && gone {
        "-".to_owned()
    } else {
        values::age(at, now)
    }
}

/// The table of `navarch list`.
pub fn node_table(nodes: &[wire::NodeInfo], wide: bool, now: jiff::Timestamp) -> String {
    let mut heading = vec![
        "Node ID",
        "Provider",
        "Region",
        "Zone",
        "Instance Type",
        "Status",
        "Health",
        "Last Heartbeat",
        "GPUs",
    ];
    if wide {
        heading.extend(["Pool", "Instance", "Holds", "Incidents", "Agent"]);
    }
    let rows: Vec<Vec<String>> = nodes
        .iter()
        .map(|node| {
            let mut row = vec![
                node.node_id.clone(),
                node.provider.clone(),
                node.region.clone(),
                node.zone.clone(),
                node.instance_type.clone(),
                values::title(values::node_status(node.status.to_i32()).short()),
                values::title(values::health_status(node.health_status.to_i32()).short()),
                last_heartbeat(node, now),
                node.gpus.len().to_string(),
            ];
            if wide {
                let holds: Vec<_> = node.holds.iter().map(|hold| hold.name.as_str()).collect();
                row.extend([
                    node.pool.clone(),
                    node.instance_id.clone(),
                    holds.join(","),
                    node.incident_ids.join(","),
                    node.agent_version.clone(),
                ]);
            }
            row
        })
        .collect();
    table(&heading, &rows)
}

async fn one(client: &Client, node: &str) -> Result<wire::NodeInfo, Failure> {
    let request = wire::GetNodeRequest {
        node_id: node.to_owned(),
    };
    match client.get_node(request).await.doing("get node") {
        Ok(found) => Ok(found.node.as_option().cloned().unwrap_or_default()),
        Err(failure) => Err(suggest(client, node, failure).await),
    }
}

/// `navarch get`.
pub async fn get(global: &Global, node: &str) -> Result<(), Failure> {
    let client = connect(global)?;
    let node = one(&client, node).await?;
    if for_programs(global.output, &values::node(&node))? {
        return Ok(());
    }
    say(&details(&node, its_now(&client).await));
    Ok(())
}

/// What `navarch get` shows.
pub fn details(node: &wire::NodeInfo, now: jiff::Timestamp) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        text.push_str(format!("{label:<15}{value}").trim_end());
        text.push('\n');
    };
    line("Node ID:", &node.node_id);
    line("Provider:", &node.provider);
    line("Region:", &node.region);
    line("Zone:", &node.zone);
    line("Instance Type:", &node.instance_type);
    line(
        "Status:",
        &values::title(values::node_status(node.status.to_i32()).short()),
    );
    line(
        "Health:",
        &values::title(values::health_status(node.health_status.to_i32()).short()),
    );
    line(
        "Last Heartbeat:",
        &format!(" {}", last_heartbeat(node, now)),
    );
    line("Pool:", &node.pool);
    line("Instance:", &node.instance_id);
    line("Agent:", &node.agent_version);
    if !node.incident_ids.is_empty() {
        line("Incidents:", &node.incident_ids.join(", "));
    }
    if !node.holds.is_empty() {
        text.push_str("\nHolds:\n");
        for hold in &node.holds {
            let since = values::age(values::time(hold.since.as_option()), now);
            text.push_str(&format!(
                "  {} (since {since}): {}\n",
                hold.name, hold.reason
            ));
        }
    }
    if !node.gpus.is_empty() {
        text.push_str("\nGPUs:\n");
        for gpu in &node.gpus {
            text.push_str(&format!("  GPU {}:\n", gpu.index));
            text.push_str(&format!("    UUID:       {}\n", gpu.uuid));
            text.push_str(&format!("    Name:       {}\n", gpu.name));
            text.push_str(&format!("    PCI Bus ID: {}\n", gpu.pci_bus_id));
        }
    }
    if let Some(said) = node
        .metadata
        .as_option()
        .filter(|said| **said != wire::NodeMetadata::default())
    {
        text.push_str("\nMetadata:\n");
        for (label, value) in [
            ("Hostname:", &said.hostname),
            ("Internal IP:", &said.internal_ip),
            ("External IP:", &said.external_ip),
            ("Kernel:", &said.kernel_version),
        ] {
            if !value.is_empty() {
                text.push_str(&format!("  {label:<13}{value}\n"));
            }
        }
        for (key, value) in &said.labels {
            text.push_str(&format!("  Label:       {key}={value}\n"));
        }
    }
    text.trim_end().to_owned()
}

/// `navarch cordon`, `drain`, `uncordon` and `terminate`.
pub async fn command(global: &Global, order: Order, asked: NodeCommand) -> Result<(), Failure> {
    let client = connect(global)?;
    let looked = wire::GetNodeRequest {
        node_id: asked.node.clone(),
    };
    // Only to warn: the command itself says what is wrong with the node.
    if let Ok(found) = client
        .clone()
        .with_timeout(Duration::from_secs(5))
        .get_node(looked)
        .await
        && let Some(node) = found.node.as_option()
        && values::node_status(node.status.to_i32()) != NodeStatus::Terminated
    {
        warn_if_stale(&client, node).await;
    }
    let mut parameters = std::collections::BTreeMap::new();
    if !asked.reason.is_empty() {
        parameters.insert("reason".to_owned(), asked.reason);
    }
    let request = wire::IssueCommandRequest {
        node_id: asked.node.clone(),
        command_type: order.kind.number().into(),
        parameters: parameters.into_iter().collect(),
    };
    let answer = match client.issue_command(request).await {
        Ok(answer) => answer,
        Err(error) => {
            let unknown = error.code == Code::NotFound;
            let failure = Failure::Call {
                doing: order.doing,
                error,
                hint: String::new(),
            };
            return Err(if unknown {
                suggest(&client, &asked.node, failure).await
            } else {
                failure
            });
        }
    };
    if for_programs(global.output, &values::command(&asked.node, &answer))? {
        return Ok(());
    }
    say(&format!("Node {} {}", asked.node, order.done));
    say(&format!("Command ID: {}", answer.command_id));
    let status = values::node_status(answer.node_status.to_i32());
    if order.kind == NodeCommandType::Uncordon && status != NodeStatus::Active {
        remark(&format!(
            "The node is {}; what still holds it: {}",
            status.short().to_ascii_uppercase(),
            answer.remaining_holds.join(", ")
        ));
    }
    Ok(())
}

async fn warn_if_stale(client: &Client, node: &wire::NodeInfo) {
    match values::time(node.last_heartbeat.as_option()) {
        None => remark(&format!(
            "Warning: node {} has never sent a heartbeat",
            node.node_id
        )),
        Some(at) => {
            let seconds = its_now(client).await.as_second() - at.as_second();
            if seconds > STALE {
                let ago = navarch_config::duration::go_string(Duration::from_secs(
                    seconds.unsigned_abs(),
                ));
                remark(&format!(
                    "Warning: node {} last heartbeat was {ago} ago (may be offline)",
                    node.node_id
                ));
            }
        }
    }
}

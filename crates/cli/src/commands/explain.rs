//! `navarch explain`.

use navarch_api::{Client, v1};

use crate::args::{Explain, Global, Pool};
use crate::client::{Doing as _, Failure, connect, suggest};
use crate::output::{for_programs, say};
use crate::values;

/// How many lines a story has unless told otherwise.
const LINES: u32 = 200;

/// How many ends and pauses of the control plane a story tells at most, the latest ones.
const ABSENCES: u32 = 50;

/// `navarch explain`.
pub async fn run(global: &Global, order: Explain) -> Result<(), Failure> {
    let (node, limit) = match order {
        Explain::Node { node, limit } => (node, limit),
        Explain::Pool { pool } => return super::pools::run(global, Pool::Explain { pool }).await,
        Explain::Other(words) => match words.as_slice() {
            [node] if !node.starts_with('-') => (node.clone(), LINES),
            _ => {
                return Err(Failure::Usage(
                    "write `navarch explain node NODE` or `navarch explain pool POOL`".to_owned(),
                ));
            }
        },
    };
    let client = connect(global)?;
    let request = v1::ExplainNodeRequest {
        node_id: node.clone(),
        limit,
    };
    let mut told = match client.explain_node(request).await.doing("explain node") {
        Ok(told) => told,
        Err(failure) => return Err(suggest(&client, &node, failure).await),
    };
    add_absences(&client, &mut told).await?;
    if for_programs(global.output, &values::explanation(&told))? {
        return Ok(());
    }
    say(&told.summary);
    if !told.open_incidents.is_empty() {
        say("\nOpen incidents:");
        for incident in &told.open_incidents {
            say(&format!(
                "  {}  {} {} by rule {}: {}; requires {}",
                incident.incident_id,
                values::health_status(incident.severity.to_i32())
                    .short()
                    .to_ascii_uppercase(),
                incident.class,
                incident.rule,
                incident.citation,
                incident.required_repair
            ));
        }
    }
    if !told.waits.is_empty() {
        say("\nWaits for:");
        for wait in &told.waits {
            say(&format!("  {}", wait_line(wait)));
        }
    }
    say("\nWhat happened:");
    if told.truncated {
        say("  (older lines are left out; see --limit)");
    }
    for line in &told.lines {
        let times = if line.count > 1 {
            format!(" ({} times)", line.count)
        } else {
            String::new()
        };
        say(&format!(
            "  {}  {:<9} {:<24} {}{times}",
            values::clock(line.time.as_option()),
            line.step,
            line.kind,
            line.text
        ));
    }
    Ok(())
}

/// Adds the times at which the control plane itself began to run or to run again: every deadline of
/// the node started anew then.
async fn add_absences(client: &Client, told: &mut v1::ExplainNodeResponse) -> Result<(), Failure> {
    let Some(first) = told.lines.first() else {
        return Ok(());
    };
    let filter = v1::EventFilter {
        kinds: vec!["server.started".to_owned(), "server.paused".to_owned()],
        ..Default::default()
    };
    let request = v1::ListEventsRequest {
        filter: filter.into(),
        after_sequence: first.sequence,
        limit: ABSENCES,
        latest: true,
        ..Default::default()
    };
    let page = client.list_events(request).await.doing("explain node")?;
    told.lines
        .extend(page.events.into_iter().map(|event| v1::ExplainLine {
            time: event.time,
            sequence: event.sequence,
            step: "state".to_owned(),
            kind: event.kind,
            text: event.message,
            count: event.count,
            last_time: event.last_time,
            ..Default::default()
        }));
    told.lines.sort_by_key(|line| line.sequence);
    Ok(())
}

/// One wait on one line.
pub fn wait_line(wait: &v1::Wait) -> String {
    let until = values::time(wait.until.as_option()).map_or_else(String::new, |_| {
        format!(
            " (looked at again {})",
            values::clock(wait.until.as_option())
        )
    });
    format!(
        "{} waits for {}: {}{until}",
        wait.action, wait.guard, wait.text
    )
}

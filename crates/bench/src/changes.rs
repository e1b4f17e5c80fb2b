//! `changes`: acknowledged state changes a second, through SQLite alone and through the API.

use std::rc::Rc;
use std::time::Duration;

use navarch_api::wire::{IssueCommandRequest, NodeCommandType, NodeStatus};
use navarch_time::{Clock as _, RealClock};

use crate::Result;
use crate::fleet::{self, COMMAND};
use crate::load::Lanes;
use crate::machine::{Table, rate};
use crate::process::{Server, folder};
use crate::raw::Request;
use crate::store::{self, Entity, SUBMITTERS};

/// How long.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Settings {
    /// Length of one measurement, in seconds
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
}

/// Connections that order commands.
const CONNECTIONS: usize = 64;

/// Measures, and says what came of it.
pub async fn run(settings: Settings) -> Result<Table> {
    let time = Duration::from_secs_f64(settings.seconds);
    let mut table = Table::new(
        "State changes",
        &["through", "change", "callers", "acknowledged/s"],
    );
    let mut row = |through: &str, change: &str, callers: String, found: f64| -> Result<()> {
        let row = vec![through.to_owned(), change.to_owned(), callers, rate(found)];
        crate::progress(&row.join("  "))?;
        table.row(row);
        Ok(())
    };
    let folder = folder()?;
    let found = store::syncs(folder.path())?;
    row("the disk alone", "one sync of 8 KiB", "1".to_owned(), found)?;
    let mut slowest = f64::INFINITY;
    for (entity, name) in [
        (Entity::Instance, "instance row and event"),
        (Entity::Node, "node row (8 GPUs) and event"),
    ] {
        for outstanding in [1, 4] {
            let found = store::changes(folder.path(), entity, outstanding, time)?;
            let callers = format!("{SUBMITTERS} with {outstanding} each");
            row("the store", name, callers, found)?;
            slowest = slowest.min(found);
        }
    }
    let found = through_the_api(time).await?;
    row(
        "the API",
        "cordon or uncordon of a node",
        format!("{CONNECTIONS} with 1 each"),
        found,
    )?;
    table.goal(
        "acknowledged state changes (one row and its event) through SQLite, slowest line",
        "10,000 a second",
        rate(slowest),
        slowest >= 10_000.0,
    );
    table.note(
        "An answer counts when it came, which is after its change is durable (`synchronous=FULL`).",
    );
    Ok(table)
}

/// Cordons and uncordons nodes over many connections; each waits for its answer.
async fn through_the_api(time: Duration) -> Result<f64> {
    let server = Server::start(None).await?;
    fleet::populate(&server, CONNECTIONS)?;
    let caller = fleet::cheap(&server);
    let order = |node: usize, kind: NodeCommandType| {
        let request = IssueCommandRequest {
            node_id: fleet::id(node),
            command_type: kind.into(),
            ..Default::default()
        };
        caller.request(COMMAND, &request)
    };
    let orders: Vec<[Request; 2]> = (0..CONNECTIONS)
        .map(|node| {
            Ok([
                order(node, NodeCommandType::NODE_COMMAND_TYPE_CORDON)?,
                order(node, NodeCommandType::NODE_COMMAND_TYPE_UNCORDON)?,
            ])
        })
        .collect::<Result<_>>()?;
    let mut lanes = Lanes::open(&caller, COMMAND, CONNECTIONS)?;
    let mut turns = vec![0_usize; CONNECTIONS];
    let clock = RealClock::new();
    let began = clock.monotonic();
    let mut count = 0_u64;
    lanes.run(
        |lane| {
            // Whoever cordoned uncordons too, so that every node is free at the end.
            if clock.monotonic() - began >= time && turns[lane].is_multiple_of(2) {
                return Ok(None);
            }
            turns[lane] += 1;
            Ok(Some(Rc::clone(&orders[lane][(turns[lane] + 1) % 2])))
        },
        |_, _, answer| {
            count += 1;
            // Every answer has the id of its command.
            if answer.is_empty() {
                return Err("an empty answer to a command".into());
            }
            Ok(())
        },
    )?;
    let rate = count as f64 / (clock.monotonic() - began).as_secs_f64();
    let active = fleet::count_of(&server, NodeStatus::NODE_STATUS_ACTIVE).await?;
    if active != CONNECTIONS {
        return Err(format!("{active} of {CONNECTIONS} nodes are ACTIVE at the end").into());
    }
    let events = server
        .client()?
        .get_server_info(Default::default())
        .await?
        .sequence;
    if events < count {
        return Err(format!("{events} events for {count} changes").into());
    }
    server.must_be_well()?;
    Ok(rate)
}

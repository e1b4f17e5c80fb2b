//! `list-nodes`: ListNodes of small and large fleets, quiet and beating.

use std::time::Duration;

use navarch_api::wire::ListNodesRequest;

use crate::Result;
use crate::background::Beating;
use crate::fleet::{self, BEAT_EVERY, LIST};
use crate::load::{Lanes, saturate};
use crate::machine::{Table, bytes, milliseconds, rate};
use crate::process::Server;
use crate::raw::{Caller, Protocol};

/// Ten times what the Go project does, in answers a second.
const TARGET: f64 = 6070.0;

/// How long and how large.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// Sizes of the fleet
    #[arg(long, value_delimiter = ',', default_values_t = [200, 10_000])]
    pub nodes: Vec<usize>,
    /// Length of one measurement, in seconds
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
}

/// Measures, and says what came of it.
pub async fn run(settings: Settings) -> Result<Table> {
    let mut table = Table::new(
        "ListNodes",
        &[
            "nodes",
            "protocol",
            "fleet",
            "connections",
            "answers/s",
            "p50",
            "p99",
            "body",
        ],
    );
    for nodes in &settings.nodes {
        let server = Server::start(None).await?;
        fleet::populate(&server, *nodes)?;
        for beating in [false, true] {
            let background = if beating {
                Some(Beating::start(&server, *nodes)?)
            } else {
                None
            };
            for protocol in [Protocol::Json, Protocol::Proto] {
                for connections in [1, 8] {
                    let (row, found) =
                        measure(&server, *nodes, beating, protocol, connections, &settings)?;
                    if (*nodes, beating, protocol, connections) == (200, true, Protocol::Json, 8) {
                        let what = "ListNodes, 200 beating nodes, JSON, 8 connections";
                        let target = format!("{} a second", rate(TARGET));
                        table.goal(what, &target, rate(found), found >= TARGET);
                    }
                    crate::progress(&row.join("  "))?;
                    table.row(row);
                }
            }
            if let Some(background) = background {
                let paced = background.stop()?;
                if paced.late * 20 > paced.answered {
                    table.note(format!(
                        "{nodes} nodes: {} of {} heartbeats were late.",
                        paced.late,
                        paced.answered + paced.late
                    ));
                }
            }
        }
        server.must_be_well()?;
    }
    table.note(format!(
        "`beating`: every node beats once in {} s meanwhile, so that lists differ from one to the \
         next; `quiet`: nothing changes. The caller reads whole answers and shares the cores with \
         the server.",
        BEAT_EVERY.as_secs()
    ));
    Ok(table)
}

fn measure(
    server: &Server,
    nodes: usize,
    beating: bool,
    protocol: Protocol,
    connections: usize,
    settings: &Settings,
) -> Result<(Vec<String>, f64)> {
    let caller = Caller {
        protocol,
        ..fleet::cheap(server)
    };
    let mut lanes = Lanes::open(&caller, LIST, connections)?;
    let requests = vec![vec![caller.request(LIST, &ListNodesRequest::default())?]];
    // Every answer is whole by its length and its end; the first is counted node by node.
    let mut length = 0;
    let last = fleet::id(nodes - 1);
    let mut check = |body: &[u8]| {
        if length == 0 {
            length = body.len();
            let text = String::from_utf8_lossy(body);
            let found = text.matches("NVIDIA H100").count() / usize::try_from(fleet::GPUS)?;
            if found != nodes {
                return Err(format!("{found} nodes listed, not {nodes}").into());
            }
        }
        let tail = &body[body.len() - body.len().min(4096)..];
        let whole = tail.windows(last.len()).any(|text| text == last.as_bytes());
        if !whole || body.len() * 100 < length * 99 {
            return Err(format!("an answer of {} bytes, not about {length}", body.len()).into());
        }
        Ok(())
    };
    // Once for nothing: what the server keeps of earlier lists is there.
    saturate(
        &mut lanes,
        Duration::from_millis(200),
        &requests,
        &mut check,
    )?;
    let time = Duration::from_secs_f64(settings.seconds);
    let done = saturate(&mut lanes, time, &requests, &mut check)?;
    let row = vec![
        rate(nodes as f64),
        protocol.name().to_owned(),
        if beating { "beating" } else { "quiet" }.to_owned(),
        connections.to_string(),
        rate(done.rate),
        milliseconds(done.quantile(0.5)),
        milliseconds(done.quantile(0.99)),
        bytes(done.bytes as u64),
    ];
    Ok((row, done.rate))
}

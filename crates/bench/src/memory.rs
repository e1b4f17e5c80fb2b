//! `memory`: what the control plane and the agent take.

use std::process::id;
use std::time::Duration;

use navarch_api::wire::{ListNodesRequest, NodeStatus};
use navarch_time::{Clock as _, RealClock};

use crate::background::{Beating, CONNECTIONS};
use crate::fleet::{self, BEAT_EVERY};
use crate::load::{Lanes, send_all};
use crate::machine::{Table, bytes, rate};
use crate::process::{Memory, Program, Server, beside, folder};
use crate::raw::{Caller, Protocol};
use crate::{Result, list_nodes};

/// How large and how long.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// Sizes of the fleet
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 10_000, 100_000])]
    pub nodes: Vec<usize>,
    /// How long the agent runs before it is looked at, in seconds
    #[arg(long, default_value_t = 20.0)]
    pub agent_seconds: f64,
}

/// Measures, and says what came of it.
pub async fn run(settings: Settings) -> Result<Table> {
    let mut table = Table::new(
        "Memory",
        &["process", "when", "resident", "Pss", "anonymous", "peak"],
    );
    let mut row = |process: &str, when: &str, memory: Memory| -> Result<()> {
        let cells = [memory.rss, memory.pss, memory.anonymous, memory.peak].map(bytes);
        let mut row = vec![process.to_owned(), when.to_owned()];
        row.extend(cells);
        crate::progress(&row.join("  "))?;
        table.row(row);
        Ok(())
    };
    let clock = RealClock::new();
    let server = Server::start(None).await?;
    row("navarch server", "empty", server.program.memory()?)?;
    drop(server);
    let (mut goals, mut notes) = (Vec::new(), Vec::new());
    for nodes in settings.nodes {
        let process = format!("navarch server, {} nodes", rate(nodes as f64));
        let server = Server::start(None).await?;
        fleet::populate(&server, nodes)?;
        row(
            &process,
            "registered and reported",
            server.program.memory()?,
        )?;
        let beating = Beating::start(&server, nodes)?;
        clock.sleep(BEAT_EVERY * 2).await;
        let beaten = server.program.memory()?;
        row(&process, "connected and beating", beaten)?;
        let paced = beating.stop()?;
        if paced.late * 20 > paced.answered {
            notes.push(format!(
                "{process}: {} of {} heartbeats were late.",
                paced.late,
                paced.answered + paced.late
            ));
        }
        let target = match nodes {
            1000 => Some(("60 MB at most", 60_000_000)),
            100_000 => Some(("4 GB at most", 4_000_000_000)),
            _ => None,
        };
        if let Some((words, most)) = target {
            let what = format!(
                "memory, {process}, {} connections",
                rate(nodes.min(CONNECTIONS) as f64)
            );
            goals.push((what, words, beaten.rss, most));
        }
        // A second full report of every node, which changes nothing.
        let caller = fleet::cheap(&server);
        let mut lanes = Lanes::open(&caller, "", 64)?;
        send_all(
            &mut lanes,
            nodes,
            |number| caller.request(fleet::REPORT, &fleet::report(number, 2)),
            fleet::reported,
        )?;
        drop(lanes);
        row(&process, "reported again", server.program.memory()?)?;
        for protocol in [Protocol::Json, Protocol::Proto] {
            let caller = Caller {
                protocol,
                ..caller.clone()
            };
            let mut lanes = Lanes::open(&caller, "", 1)?;
            send_all(
                &mut lanes,
                1,
                |_| caller.request(fleet::LIST, &ListNodesRequest::default()),
                |answer| match list_nodes::nodes_of(protocol, answer)?.len() {
                    found if found == nodes => Ok(()),
                    found => Err(format!("{found} nodes listed, not {nodes}").into()),
                },
            )?;
        }
        row(
            &process,
            "listed as JSON and protobuf",
            server.program.memory()?,
        )?;
        server.must_be_well()?;
    }
    let server = Server::start(None).await?;
    let agents = folder()?;
    let url = format!("--server={}", server.url());
    let node = format!("--node-id=agent-{}", id());
    let arguments = [
        url.as_str(),
        &node,
        "--fake-gpus=8",
        "--state-dir=state",
        "--debug-listen=127.0.0.1:0",
        "--exit-with-stdin",
    ];
    let agent = Program::start(
        &beside("navarch-node")?,
        agents.path(),
        "agent",
        &arguments,
        None,
    )?;
    clock
        .sleep(Duration::from_secs_f64(settings.agent_seconds))
        .await;
    if fleet::count_of(&server, NodeStatus::NODE_STATUS_ACTIVE).await? != 1 {
        return Err("the agent is not ACTIVE".into());
    }
    let resident = agent.memory()?;
    row(
        "navarch-node, 8 fake GPUs",
        "reported and beating",
        resident,
    )?;
    let what = "memory, navarch-node".to_owned();
    goals.push((what, "15 MB at most", resident.rss, 15_000_000));
    for (what, target, resident, most) in goals {
        table.goal(what, target, bytes(resident), resident <= most);
    }
    for note in notes {
        table.note(note);
    }
    table.note(format!(
        "From `/proc/PID/smaps_rollup` and `VmHWM`. `connected and beating`: a connection for each \
         node, at most {}, and a heartbeat from each in {} s. With more nodes than that, each \
         connection carries the heartbeats of several in turn: the buffers of the connections \
         that are missing are not in the figure. The targets are held against this line.",
        rate(CONNECTIONS as f64),
        BEAT_EVERY.as_secs()
    ));
    Ok(table)
}

//! `event-latency`: from a fault at an agent until the API shows its node as UNHEALTHY.
//!
//! Real agents with fake GPUs take faults through their debug API in an open loop: each is due at
//! its own time, whatever became of those before, and is measured from when it was due. An agent
//! is repaired as soon as its node was seen UNHEALTHY, and takes the next fault once its node is
//! ACTIVE again, so that every measured fault is a change of status.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use navarch_api::v1::{EventFilter, WatchEventsRequest};
use navarch_api::wire::{GetNodeRequest, NodeStatus};
use navarch_api::{Client, Incoming, v1};
use navarch_time::{Clock as _, RealClock, Tasks, spawn_thread, timeout};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::Result;
use crate::background::Beating;
use crate::fleet::{self, BEAT_EVERY, REPORT};
use crate::load::{Lanes, quantile, send_all};
use crate::machine::{Table, milliseconds, rate};
use crate::process::{LOOK_EVERY, Program, Server, beside};
use crate::raw::{Framing, Request};

/// How much and how long.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Settings {
    /// Registered nodes that beat meanwhile
    #[arg(long, default_value_t = 1000)]
    pub nodes: usize,
    /// Real agents that take the faults
    #[arg(long, default_value_t = 10)]
    pub agents: usize,
    /// Faults a second
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
    /// Faults in all
    #[arg(long, default_value_t = 2000)]
    pub faults: usize,
}

/// The longest wait for anything that must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures, and says what came of it.
pub async fn run(settings: Settings) -> Result<Table> {
    let server = Server::start(None).await?;
    fleet::populate(&server, settings.nodes)?;
    let beating = Beating::start(&server, settings.nodes)?;
    let agents = start_agents(&server, settings.agents).await?;
    let tasks = Tasks::new();
    let mut seen = Seen::watch(server.client()?, &tasks).await?;
    let mut table = Table::new(
        "From event to UNHEALTHY",
        &["load", "events", "p50", "p99", "highest", "not taken"],
    );
    let (took, skipped) = open_loop(&settings, &server, &agents, &mut seen, &tasks).await?;
    let mut row = |load: String, took: &[Duration], skipped: usize| -> Result<()> {
        let at = |share| milliseconds(quantile(took, share));
        let row = vec![
            load,
            took.len().to_string(),
            at(0.5),
            at(0.99),
            at(1.0),
            skipped.to_string(),
        ];
        crate::progress(&row.join("  "))?;
        table.row(row);
        Ok(())
    };
    let load = format!("{}/s at {} agents", rate(settings.rate), settings.agents);
    row(load, &took, skipped)?;
    let p99 = quantile(&took, 0.99);
    let took = burst(&settings, &server, &mut seen).await?;
    row(format!("{} at once", rate(settings.nodes as f64)), &took, 0)?;
    table.goal(
        "from event to UNHEALTHY in the open loop, p99",
        "below 50 ms",
        milliseconds(p99),
        p99 < Duration::from_millis(50) && skipped == 0,
    );
    let paced = beating.stop()?;
    server.must_be_well()?;
    tasks.shutdown(&RealClock::new(), Duration::ZERO).await;
    table.note(format!(
        "First line: XID 79 injected into real agents in an open loop, measured from when each was \
         due until the event of its node's change to UNHEALTHY came out of WatchEvents; GetNode \
         then had to say the same. `not taken`: faults that found no ACTIVE agent. Second line: \
         XID 79 reported by every driven node at the same moment, one connection each. Meanwhile \
         {} nodes beat once in {} s ({} beats, {} late).",
        settings.nodes,
        BEAT_EVERY.as_secs(),
        paced.answered,
        paced.late
    ));
    Ok(table)
}

/// One real agent.
struct Agent {
    node: String,
    debug: SocketAddr,
    _program: Program,
}

/// Starts agents and waits until their nodes are ACTIVE.
async fn start_agents(server: &Server, count: usize) -> Result<Vec<Agent>> {
    let (clock, mut agents) = (RealClock::new(), Vec::new());
    let url = format!("--server={}", server.url());
    for number in 0..count {
        let node = format!("agent-{number:03}");
        let (id, state) = (format!("--node-id={node}"), format!("--state-dir={node}"));
        let file = format!("{node}.address");
        let address_file = format!("--debug-address-file={file}");
        let arguments = [
            url.as_str(),
            &id,
            &state,
            &address_file,
            "--fake-gpus=8",
            "--debug-listen=127.0.0.1:0",
            "--exit-with-stdin",
        ];
        let program = Program::start(
            &beside("navarch-node")?,
            server.path(),
            &node,
            &arguments,
            None,
        )?;
        let debug = address_in(&server.path().join(file)).await?;
        agents.push(Agent {
            node,
            debug,
            _program: program,
        });
    }
    let client = server.client()?;
    for agent in &agents {
        let began = clock.monotonic();
        // A node that is not registered yet is not known.
        while !matches!(status(&client, &agent.node).await, Ok(status) if status == ACTIVE) {
            if clock.monotonic() - began > PATIENCE {
                return Err(format!("{} does not become ACTIVE", agent.node).into());
            }
            clock.sleep(LOOK_EVERY).await;
        }
    }
    Ok(agents)
}

/// The address that a program writes to a file once it listens.
async fn address_in(file: &Path) -> Result<SocketAddr> {
    let clock = RealClock::new();
    let began = clock.monotonic();
    loop {
        match std::fs::read_to_string(file) {
            Ok(text) if text.ends_with('\n') => return Ok(text.trim().parse()?),
            _ if clock.monotonic() - began > PATIENCE => {
                return Err(format!("{} does not appear", file.display()).into());
            }
            _ => clock.sleep(LOOK_EVERY).await,
        }
    }
}

const ACTIVE: NodeStatus = NodeStatus::NODE_STATUS_ACTIVE;
const UNHEALTHY: NodeStatus = NodeStatus::NODE_STATUS_UNHEALTHY;

async fn status(client: &Client, node: &str) -> Result<NodeStatus> {
    let request = GetNodeRequest {
        node_id: node.to_owned(),
    };
    let answer = client.get_node(request).await?;
    let node = answer.node.as_option().ok_or("an answer without node")?;
    Ok(node.status.as_known().ok_or("an unknown status")?)
}

/// A change of a node's status, and when it came out of the API.
#[derive(Debug)]
struct Change {
    node: String,
    status: NodeStatus,
    at: Duration,
}

/// Changes of status as they come out of WatchEvents.
struct Seen(mpsc::UnboundedReceiver<Result<Change>>);

impl Seen {
    async fn watch(client: Client, tasks: &Tasks) -> Result<Self> {
        let (send, receive) = mpsc::unbounded_channel();
        let request = WatchEventsRequest {
            filter: EventFilter {
                kinds: vec!["node.status".to_owned()],
                ..Default::default()
            }
            .into(),
            ..Default::default()
        };
        let mut incoming = client.watch_events(request).await?;
        // The first message says that the stream stands.
        incoming.next().await?.ok_or("the stream of events ended")?;
        tasks.spawn("watch", async move {
            loop {
                match next_changes(&mut incoming).await {
                    Ok(changes) => {
                        for change in changes {
                            // Nobody listens once the benchmark is done.
                            drop(send.send(Ok(change)));
                        }
                    }
                    Err(error) => {
                        drop(send.send(Err(error)));
                        return;
                    }
                }
            }
        });
        Ok(Self(receive))
    }

    async fn next(&mut self) -> Result<Change> {
        let clock = RealClock::new();
        match timeout(&clock, PATIENCE, self.0.recv()).await {
            Ok(Some(change)) => change,
            Ok(None) => Err("the stream of events ended".into()),
            Err(_) => Err(format!("no change of status within {PATIENCE:?}").into()),
        }
    }
}

async fn next_changes(incoming: &mut Incoming<v1::WatchEventsResponse>) -> Result<Vec<Change>> {
    let answer = incoming.next().await?.ok_or("the stream of events ended")?;
    let at = RealClock::new().monotonic();
    let changes = answer.events.into_iter().map(|event| {
        let to = event.details.get("to").map(String::as_str);
        let status = match to {
            Some("NODE_STATUS_ACTIVE") => ACTIVE,
            Some("NODE_STATUS_UNHEALTHY") => UNHEALTHY,
            Some(_) => NodeStatus::NODE_STATUS_UNKNOWN,
            None => return Err("a change of status that does not say to what".into()),
        };
        Ok(Change {
            node: event.node_id,
            status,
            at,
        })
    });
    changes.collect()
}

/// What an agent's machine is told.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// A GPU falls off the bus.
    Break,
    /// The API is asked what it says of the node, and the machine is repaired.
    Repair,
}

/// Carries out the orders for one agent, over a connection that stays open.
async fn serve_orders(
    node: String,
    debug: SocketAddr,
    client: Client,
    mut orders: mpsc::UnboundedReceiver<Order>,
) -> Result<()> {
    let mut stream = TcpStream::connect(debug).await?;
    stream.set_nodelay(true)?;
    while let Some(order) = orders.recv().await {
        match order {
            Order::Break => {
                let fault = "{\"gpu\":3,\"code\":79}";
                post(&mut stream, "/debug/inject/xid", fault).await?;
            }
            Order::Repair => {
                let said = status(&client, &node).await?;
                if said != UNHEALTHY {
                    return Err(format!("GetNode says that {node} is {said:?}").into());
                }
                post(&mut stream, "/debug/clear", "").await?;
            }
        }
    }
    Ok(())
}

async fn post(stream: &mut TcpStream, path: &str, body: &str) -> Result<()> {
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        if let Some(framing) = Framing::read(&answer)?
            && framing.body(&mut answer)?.is_some()
        {
            return Ok(());
        }
        if stream.read_buf(&mut answer).await? == 0 {
            return Err("the debug API closed the connection".into());
        }
    }
}

/// How far an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Well,
    /// Its fault was due then.
    Broken(Duration),
    Repairing,
}

/// Faults at their times. Answers how long each took, sorted, and how many found no agent.
async fn open_loop(
    settings: &Settings,
    server: &Server,
    agents: &[Agent],
    seen: &mut Seen,
    tasks: &Tasks,
) -> Result<(Vec<Duration>, usize)> {
    let (failed, mut failures) = mpsc::unbounded_channel();
    let mut phases: BTreeMap<&str, Phase> = BTreeMap::new();
    let mut orders = Vec::new();
    for agent in agents {
        let (send, receive) = mpsc::unbounded_channel();
        let client = server.client()?;
        let served = serve_orders(agent.node.clone(), agent.debug, client, receive);
        let failed = failed.clone();
        tasks.spawn("orders", async move {
            if let Err(error) = served.await {
                // Nobody listens once the benchmark is done.
                drop(failed.send(error));
            }
        });
        phases.insert(&agent.node, Phase::Well);
        orders.push(send);
    }
    let order = |at: usize, order: Order| {
        orders[at]
            .send(order)
            .map_err(|_| "an agent takes no orders")
    };
    let clock = RealClock::new();
    let began = clock.monotonic() + Duration::from_millis(100);
    let gap = Duration::from_secs_f64(1.0 / settings.rate);
    let (mut sent, mut turn, mut skipped) = (0, 0, 0);
    let mut took = Vec::new();
    while sent < settings.faults || phases.values().any(|phase| *phase != Phase::Well) {
        let due = began + gap * u32::try_from(sent)?;
        tokio::select! {
            biased;
            Some(error) = failures.recv() => return Err(error),
            () = clock.sleep_until(due), if sent < settings.faults => {
                sent += 1;
                let free = (0..agents.len())
                    .map(|step| (turn + step) % agents.len())
                    .find(|at| phases[agents[*at].node.as_str()] == Phase::Well);
                let Some(at) = free else {
                    skipped += 1;
                    continue;
                };
                turn = at + 1;
                phases.insert(&agents[at].node, Phase::Broken(due));
                order(at, Order::Break)?;
            }
            change = seen.next() => {
                let change = change?;
                let Some(at) = agents.iter().position(|agent| agent.node == change.node) else {
                    return Err(format!("{} changed by itself: {change:?}", change.node).into());
                };
                let node = agents[at].node.as_str();
                match (phases[node], change.status) {
                    (Phase::Broken(due), UNHEALTHY) => {
                        took.push(change.at.saturating_sub(due));
                        phases.insert(node, Phase::Repairing);
                        order(at, Order::Repair)?;
                    }
                    (Phase::Repairing, ACTIVE) => {
                        phases.insert(node, Phase::Well);
                    }
                    (Phase::Repairing, _) => {}
                    (phase, _) => return Err(format!("{change:?} while {phase:?}").into()),
                }
            }
        }
    }
    if took.len() + skipped != settings.faults {
        return Err(format!("{} changes for {} faults", took.len(), settings.faults).into());
    }
    took.sort_unstable();
    Ok((took, skipped))
}

/// Every driven node reports a fault at once. Answers how long each took, sorted.
async fn burst(settings: &Settings, server: &Server, seen: &mut Seen) -> Result<Vec<Duration>> {
    let caller = fleet::cheap(server);
    let nodes = settings.nodes;
    let (send_began, began) = tokio::sync::oneshot::channel();
    let sending = spawn_thread("burst", move || -> Result<()> {
        let faults: Vec<Request> = (0..nodes)
            .map(|number| caller.request(REPORT, &fleet::fault(number, 3)))
            .collect::<Result<_>>()?;
        let mut lanes = Lanes::open(&caller, REPORT, nodes)?;
        // The other side may have given up.
        let _gone = send_began.send(RealClock::new().monotonic());
        send_all(
            &mut lanes,
            nodes,
            |number| Ok(faults[number].clone()),
            |answer| match answer {
                // Acknowledged, and the node's status is UNHEALTHY (4).
                [8, 1, 16, 4] => Ok(()),
                other => Err(format!("a wrong answer to a report: {other:?}").into()),
            },
        )
    })?;
    let began = began.await;
    let mut took = Vec::new();
    while began.is_ok() && took.len() < nodes {
        let change = seen.next().await?;
        if change.status != UNHEALTHY || change.node.starts_with("agent") {
            return Err(format!("not of the burst: {change:?}").into());
        }
        took.push(change.at);
    }
    sending.join()??;
    let began = began?;
    let unhealthy = fleet::count_of(server, UNHEALTHY).await?;
    if unhealthy != nodes {
        return Err(format!("{unhealthy} of {nodes} nodes are UNHEALTHY").into());
    }
    let mut took: Vec<_> = took
        .into_iter()
        .map(|at| at.saturating_sub(began))
        .collect();
    took.sort_unstable();
    Ok(took)
}

//! `event-latency`: from a fault at an agent until the API shows its node as UNHEALTHY.
//!
//! Real agents with fake GPUs take faults through their debug API in an open loop: each is due at
//! its own time, whatever became of those before, and is measured from when it was due. An agent
//! is repaired as soon as its node was seen UNHEALTHY, and takes the next fault once its node is
//! ACTIVE again, so that every measured fault is a change of status. A fault that finds no ACTIVE
//! agent waits, and its waiting counts.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use navarch_api::v1::{EventFilter, ListEventsRequest, WatchEventsRequest};
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
use crate::placing::{Placed, Placing};
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
/// How long the faults in line are placed after the last was due.
const AFTERWARDS: Duration = Duration::from_secs(10);
/// The share of faults that may be left without an agent. More, and the figures would be of
/// another load than the one they name.
const MAY_BE_LEFT: f64 = 0.001;

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
        &["load", "events", "p50", "p99", "highest", "waited", "left"],
    );
    let mut row = |load: String, placed: &Placed| -> Result<()> {
        let at = |share| milliseconds(quantile(&placed.took, share));
        let row = vec![
            load,
            placed.took.len().to_string(),
            at(0.5),
            at(0.99),
            at(1.0),
            placed.waited.to_string(),
            placed.left.to_string(),
        ];
        crate::progress(&row.join("  "))?;
        table.row(row);
        Ok(())
    };
    let placed = open_loop(&settings, &server, &agents, &mut seen, &tasks).await?;
    let load = format!("{}/s at {} agents", rate(settings.rate), settings.agents);
    row(load, &placed)?;
    if placed.left as f64 > settings.faults as f64 * MAY_BE_LEFT {
        return Err(format!(
            "{} of {} faults found no ACTIVE agent, not even within {} s after the last was due: \
             start more --agents, or lower --rate",
            placed.left,
            settings.faults,
            AFTERWARDS.as_secs()
        )
        .into());
    }
    let p99 = quantile(&placed.took, 0.99);
    let took = burst(&settings, &server, &mut seen).await?;
    let placed = Placed {
        took,
        waited: 0,
        left: 0,
    };
    row(format!("{} at once", rate(settings.nodes as f64)), &placed)?;
    table.goal(
        "from event to UNHEALTHY in the open loop, p99",
        "below 50 ms",
        milliseconds(p99),
        p99 < Duration::from_millis(50),
    );
    let paced = beating.stop()?;
    server.must_be_well()?;
    tasks.shutdown(&RealClock::new(), Duration::ZERO).await;
    table.note(format!(
        "First line: XID 79 injected into real agents in an open loop, measured from when each was \
         due until the event of its node's change to UNHEALTHY came out of WatchEvents; GetNode, \
         asked afterwards, had to say the same. `waited`: faults that were due while no agent was \
         ACTIVE; they count from when they were due. `left`: faults that no agent took within {} s \
         after the last was due; they count with that wait, and more than 0.1 % of them fail the \
         run. Second line: XID 79 reported by every driven node at the same moment, one connection \
         each. Meanwhile {} nodes beat once in {} s ({} beats, {} late).",
        AFTERWARDS.as_secs(),
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
    sequence: u64,
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
            sequence: event.sequence,
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
    /// The API is asked what it says of the node, after the change of this sequence, and the
    /// machine is repaired.
    Repair(u64),
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
            Order::Repair(sequence) => {
                let said = status(&client, &node).await?;
                if said != UNHEALTHY {
                    return Err(otherwise(&client, &node, said, sequence).await?.into());
                }
                post(&mut stream, "/debug/clear", "").await?;
            }
        }
    }
    Ok(())
}

/// Why GetNode does not say UNHEALTHY after the change of that sequence: nothing was repaired yet,
/// so either the node changed again by itself, or GetNode lags behind WatchEvents.
async fn otherwise(client: &Client, node: &str, said: NodeStatus, sequence: u64) -> Result<String> {
    let request = ListEventsRequest {
        filter: EventFilter {
            node_id: node.to_owned(),
            ..Default::default()
        }
        .into(),
        after_sequence: sequence,
        ..Default::default()
    };
    let later = client.list_events(request).await?.events;
    let later: Vec<String> = later
        .iter()
        .map(|event| format!("{} {}: {}", event.sequence, event.kind, event.message))
        .collect();
    Ok(format!(
        "event {sequence} says that {node} became UNHEALTHY, and GetNode, asked afterwards, that \
         it is {said:?}; since then: {later:?}"
    ))
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

/// Faults at their times, and what came of them.
async fn open_loop(
    settings: &Settings,
    server: &Server,
    agents: &[Agent],
    seen: &mut Seen,
    tasks: &Tasks,
) -> Result<Placed> {
    let (failed, mut failures) = mpsc::unbounded_channel();
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
    let end = began + gap * u32::try_from(settings.faults)? + AFTERWARDS;
    let mut placing = Placing::new(agents.len());
    let (mut fallen, mut stopped) = (0, false);
    while fallen < settings.faults || !placing.is_done() {
        let due = began + gap * u32::try_from(fallen)?;
        tokio::select! {
            biased;
            Some(error) = failures.recv() => return Err(error),
            () = clock.sleep_until(due), if fallen < settings.faults => {
                fallen += 1;
                placing.falls_due(due);
            }
            change = seen.next() => {
                let change = change?;
                let Some(at) = agents.iter().position(|agent| agent.node == change.node) else {
                    return Err(format!("{} changed by itself: {change:?}", change.node).into());
                };
                if placing.changed(at, change.status, change.at)? {
                    order(at, Order::Repair(change.sequence))?;
                }
            }
            () = clock.sleep_until(end), if !stopped => {
                stopped = true;
                placing.stop(clock.monotonic());
            }
        }
        while let Some(at) = placing.next() {
            order(at, Order::Break)?;
        }
    }
    let placed = placing.end();
    if placed.took.len() != settings.faults {
        let (seen, faults) = (placed.took.len(), settings.faults);
        return Err(format!("{seen} changes for {faults} faults: an agent kept one").into());
    }
    Ok(placed)
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

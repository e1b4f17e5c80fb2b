//! `restart`: how long a control plane with a large store takes until it serves.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use navarch_api::wire::ListNodesRequest;
use navarch_time::{Clock as _, RealClock};
use rustix::process::Signal;

use crate::Result;
use crate::fleet;
use crate::machine::{Table, bytes, milliseconds, rate};
use crate::process::{LOOK_EVERY, Server};

/// How large.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Settings {
    /// Nodes in the store
    #[arg(long, default_value_t = 10_000)]
    pub nodes: usize,
    /// Restarts of each kind
    #[arg(long, default_value_t = 3)]
    pub times: usize,
}

/// Measures, and says what came of it.
pub async fn run(settings: Settings) -> Result<Table> {
    let mut server = Server::start(None).await?;
    fleet::populate(&server, settings.nodes)?;
    let clock = RealClock::new();
    let mut table = Table::new(
        "Restart",
        &["nodes", "ended by", "ready", "lists all", "store"],
    );
    let mut longest = Duration::ZERO;
    for (name, signal) in [("SIGTERM", Signal::TERM), ("SIGKILL", Signal::KILL)] {
        for _ in 0..settings.times {
            server.must_be_well()?;
            server.program.end(signal)?;
            let size = files(&server.path().join("data"))?;
            let began = clock.monotonic();
            server.restart()?;
            while !is_ready(server.address) {
                if clock.monotonic() - began > Duration::from_secs(60) {
                    return Err("it is not ready within a minute".into());
                }
                clock.sleep(LOOK_EVERY).await;
            }
            let ready = clock.monotonic() - began;
            let client = server.client()?;
            let listed = client.list_nodes(ListNodesRequest::default()).await?;
            let all = clock.monotonic() - began;
            longest = longest.max(all);
            if listed.nodes.len() != settings.nodes {
                return Err(format!("{} nodes after a restart", listed.nodes.len()).into());
            }
            table.row(vec![
                rate(settings.nodes as f64),
                name.to_owned(),
                milliseconds(ready),
                milliseconds(all),
                bytes(size),
            ]);
        }
    }
    server.must_be_well()?;
    table.goal(
        format!(
            "restart with {} nodes, slowest",
            rate(settings.nodes as f64)
        ),
        "below 2 s",
        milliseconds(longest),
        longest < Duration::from_secs(2),
    );
    table.note(
        "From the start of the process until `/readyz` answers 200, and until a client has a \
         ListNodes of every node. The store's files are in the page cache.",
    );
    Ok(table)
}

/// Whether `/readyz` answers 200.
fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer.starts_with(b"HTTP/1.1 200 "))
    };
    // Whoever does not answer is not ready.
    ask().unwrap_or(false)
}

/// The bytes of the files in a folder.
fn files(folder: &std::path::Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        sum += entry?.metadata()?.len();
    }
    Ok(sum)
}

//! Benchmarks of the real programs: `cargo run --release -p navarch-bench -- --help`.
//!
//! Every benchmark starts the programs that users run, as processes of their own on loopback, and
//! fails when an answer is not the right one. docs/benchmarks.md says how to read the figures.

mod background;
mod changes;
mod events;
mod fleet;
mod heartbeats;
mod list_nodes;
mod load;
mod machine;
mod memory;
mod noop;
mod process;
mod raw;
mod restart;
mod store;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Parser;
use navarch_time::{CancellationToken, RealClock, Tasks};
use tokio::signal::unix::{SignalKind, signal};

use machine::Table;

/// Where the figures of a document begin.
const FIGURES: &str = "\n## Figures\n";

/// Whatever goes wrong ends the benchmark, in words.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Measures Navarch on this machine. Build the programs first: `cargo build --release
/// -p navarch-cli -p navarch-node`. Tables go to standard output, progress to standard error.
#[derive(Debug, Parser)]
#[command(name = "navarch-bench", version)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, clap::Subcommand)]
enum Bench {
    /// SendHeartbeat through the whole server, beside a handler of the RPC library that does nothing
    Heartbeats(heartbeats::Settings),
    /// ListNodes of small and large fleets
    ListNodes(list_nodes::Settings),
    /// From a fault at an agent until the API shows its node as UNHEALTHY
    EventLatency(events::Settings),
    /// Acknowledged state changes a second
    Changes(changes::Settings),
    /// From the start of a control plane with a large store until it serves
    Restart(restart::Settings),
    /// What the control plane and the agent take
    Memory(memory::Settings),
    /// Every benchmark with its usual settings
    All(All),
    /// Serve the yardstick of `heartbeats`
    #[command(hide = true)]
    Noop,
}

#[derive(Debug, clap::Args)]
struct All {
    /// Put the tables into this document, in place of what follows its line "## Figures"
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(until_told(cli.bench)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is gone.
            drop(writeln!(std::io::stderr(), "Error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs a benchmark until it ends or the user ends it; either way its processes end with it.
async fn until_told(bench: Bench) -> Result<()> {
    let (tasks, told) = (Tasks::new(), CancellationToken::new());
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let telling = told.clone();
    tasks.spawn("signals", async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        load::INTERRUPTED.store(true, Ordering::Relaxed);
        telling.cancel();
    });
    let ended = tokio::select! {
        ended = run(bench) => ended,
        () = told.cancelled() => Err("interrupted".into()),
    };
    tasks.shutdown(&RealClock::new(), Duration::ZERO).await;
    ended
}

async fn run(bench: Bench) -> Result<()> {
    if matches!(bench, Bench::Noop) {
        return noop::serve().await;
    }
    process::raise_file_limit()?;
    if !matches!(bench, Bench::All(_)) {
        show(&machine::description())?;
    }
    match bench {
        Bench::Heartbeats(settings) => show(&heartbeats::run(settings).await?),
        Bench::ListNodes(settings) => show(&list_nodes::run(settings).await?),
        Bench::EventLatency(settings) => show(&events::run(settings).await?),
        Bench::Changes(settings) => show(&changes::run(settings).await?),
        Bench::Restart(settings) => show(&restart::run(settings).await?),
        Bench::Memory(settings) => show(&memory::run(settings).await?),
        Bench::Noop => Ok(()),
        Bench::All(all) => every(all).await,
    }
}

async fn every(all: All) -> Result<()> {
    let mut tables = vec![machine::description()];
    tables.push(heartbeats::run(usual()?).await?);
    tables.push(list_nodes::run(usual()?).await?);
    tables.push(events::run(usual()?).await?);
    tables.push(changes::run(usual()?).await?);
    tables.push(restart::run(usual()?).await?);
    tables.push(memory::run(usual()?).await?);
    tables.insert(1, Table::summary(&tables));
    let text: Vec<String> = tables.iter().map(Table::markdown).collect();
    let text = text.join("\n");
    let Some(file) = all.into else {
        return say(&text);
    };
    let document = std::fs::read_to_string(&file)?;
    let (prose, _) = document
        .split_once(FIGURES)
        .ok_or_else(|| format!("{} has no line {FIGURES:?}", file.display()))?;
    Ok(std::fs::write(&file, format!("{prose}{FIGURES}\n{text}"))?)
}

/// The settings that a benchmark has without flags.
fn usual<S: clap::Args>() -> Result<S> {
    let command = S::augment_args(clap::Command::new("usual"));
    Ok(S::from_arg_matches(
        &command.try_get_matches_from(["usual"])?,
    )?)
}

fn show(table: &Table) -> Result<()> {
    say(&table.markdown())
}

/// A line of data.
fn say(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// A line for whoever watches.
fn progress(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stderr(), "{text}")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_flags_are_well_formed_and_every_benchmark_has_usual_settings() {
        Cli::command().debug_assert();
        usual::<heartbeats::Settings>().expect("heartbeats");
        usual::<list_nodes::Settings>().expect("list-nodes");
        usual::<events::Settings>().expect("event-latency");
        usual::<changes::Settings>().expect("changes");
        usual::<restart::Settings>().expect("restart");
        usual::<memory::Settings>().expect("memory");
    }
}

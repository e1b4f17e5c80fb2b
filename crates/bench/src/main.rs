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
mod placing;
mod planning;
mod process;
mod raw;
mod restart;
mod simulator;
mod store;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Parser;
use navarch_time::{CancellationToken, RealClock, Tasks};
use tokio::signal::unix::{SignalKind, signal};

use machine::Table;

/// Where the figures of a document begin.
const FIGURES: &str = "\n## Figures\n";

/// What stands before the tables.
const TAKEN: &str = "\
`navarch-bench all --into FILE` writes everything from here on. `Machine` says what the figures \
hold for and what else the machine did meanwhile; `Targets`, what they are held against.
";

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
    /// How long a plan of the whole fleet takes
    Planning(planning::Settings),
    /// How long scenarios and fuzzing take
    Simulator(simulator::Settings),
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
        Bench::Planning(settings) => show(&planning::run(settings)?),
        Bench::Simulator(settings) => show(&simulator::run(settings).await?),
        Bench::Noop => Ok(()),
        Bench::All(all) => every(all).await,
    }
}

async fn every(all: All) -> Result<()> {
    // Before the long work, so that it is not in vain.
    let document = match &all.into {
        Some(file) => Some((file, before_figures(file)?)),
        None => None,
    };
    let (mut machine, meanwhile) = (machine::description(), machine::Meanwhile::begin());
    let mut tables = Vec::new();
    let ended = fill(&mut tables).await;
    meanwhile.end(&mut machine);
    let summary = Table::summary(&tables);
    let text: Vec<String> = [&machine, &summary]
        .into_iter()
        .chain(&tables)
        .map(Table::markdown)
        .collect();
    let text = format!("{TAKEN}\n{}", text.join("\n"));
    match (ended, document) {
        (Ok(()), Some((file, prose))) => {
            Ok(std::fs::write(file, format!("{prose}{FIGURES}\n{text}"))?)
        }
        (Ok(()), None) => say(&text),
        (Err(error), _) => {
            // What was measured before is not lost, but no document tells half of it.
            say(&text)?;
            Err(error)
        }
    }
}

/// Runs every benchmark with its usual settings, one after the other.
async fn fill(tables: &mut Vec<Table>) -> Result<()> {
    let named = |name: &'static str| move |error| format!("{name}: {error}");
    tables.push(
        heartbeats::run(usual()?)
            .await
            .map_err(named("heartbeats"))?,
    );
    tables.push(
        list_nodes::run(usual()?)
            .await
            .map_err(named("list-nodes"))?,
    );
    tables.push(
        events::run(usual()?)
            .await
            .map_err(named("event-latency"))?,
    );
    tables.push(changes::run(usual()?).await.map_err(named("changes"))?);
    tables.push(restart::run(usual()?).await.map_err(named("restart"))?);
    tables.push(memory::run(usual()?).await.map_err(named("memory"))?);
    tables.push(planning::run(usual()?).map_err(named("planning"))?);
    tables.push(simulator::run(usual()?).await.map_err(named("simulator"))?);
    Ok(())
}

/// What a document says before its figures.
fn before_figures(file: &Path) -> Result<String> {
    let document = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let (prose, _) = document
        .split_once(FIGURES)
        .ok_or_else(|| format!("{} has no line {FIGURES:?}", file.display()))?;
    Ok(prose.to_owned())
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
    fn a_document_keeps_what_it_says_before_its_figures() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("a.md");
        std::fs::write(&file, "# T\n\nText.\n\n## Figures\n\nOld.\n").expect("it is written");
        assert_eq!(before_figures(&file).expect("it has"), "# T\n\nText.\n");
        std::fs::write(&file, "# T\n\n### Figures\n").expect("it is written");
        let error = before_figures(&file).expect_err("it has none").to_string();
        assert!(error.contains("a.md has no line"), "{error}");
        let error = before_figures(&dir.path().join("b.md")).expect_err("no file");
        assert!(error.to_string().contains("b.md"), "{error}");
    }

    #[test]
    fn the_flags_are_well_formed_and_every_benchmark_has_usual_settings() {
        Cli::command().debug_assert();
        usual::<heartbeats::Settings>().expect("heartbeats");
        usual::<list_nodes::Settings>().expect("list-nodes");
        usual::<events::Settings>().expect("event-latency");
        usual::<changes::Settings>().expect("changes");
        usual::<restart::Settings>().expect("restart");
        usual::<memory::Settings>().expect("memory");
        usual::<planning::Settings>().expect("planning");
        usual::<simulator::Settings>().expect("simulator");
    }
}

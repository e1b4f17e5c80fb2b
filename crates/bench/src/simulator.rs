//! `simulator`: how long scenarios and fuzzing take as users run them, and what they need.

use std::time::Duration;

use navarch_time::{Clock as _, RealClock};
use tempfile::TempDir;

use crate::Result;
use crate::machine::{Table, bytes, rate};
use crate::process::{Program, beside, folder};

/// How large.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Settings {
    /// Nodes of the largest run, which lasts a simulated day
    #[arg(long, default_value_t = 100_000)]
    pub nodes: u32,
}

/// How often a run is looked at: what it takes in its last moments may be missed.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Hours of the long runs, and the nodes of the smaller ones.
const DAY: u32 = 24;
const WEEK: u32 = 7 * DAY;
const SMALL: u32 = 10_000;

/// What a run took.
struct Taken {
    wall: Duration,
    peak: u64,
    /// Its files stay until all runs are over: for up to five minutes ext4 passes over each inode
    /// that was deleted whenever it makes a file, and a large run makes a file for each node.
    _folder: TempDir,
}

/// Measures, and says what came of it.
pub async fn run(settings: Settings) -> Result<Table> {
    let mut table = Table::new("Simulator", &["run", "node-hours", "wall", "peak memory"]);
    let chaos = include_str!("../../../examples/scenarios/1000-node-chaos.yaml");
    let taken = scenario(&mut table, "1000-node-chaos", chaos, None).await?;
    let what = "simulator, 1000-node-chaos";
    table.goal(
        what,
        "below 2 s",
        seconds(taken.wall),
        taken.wall < Duration::from_secs(2),
    );
    table.goal(
        what,
        "below 100 MB",
        bytes(taken.peak),
        taken.peak < 100_000_000,
    );
    let extreme = include_str!("../../../examples/scenarios/5000-node-extreme.yaml");
    let taken = scenario(&mut table, "5000-node-extreme", extreme, None).await?;
    table.goal(
        "simulator, 5000-node-extreme",
        "below 15 s",
        seconds(taken.wall),
        taken.wall < Duration::from_secs(15),
    );
    let week = |nodes| format!("{} nodes, a week", rate(f64::from(nodes)));
    let day = |nodes| format!("{} nodes, a day", rate(f64::from(nodes)));
    let text = training(SMALL, WEEK);
    let taken = scenario(&mut table, &week(SMALL), &text, Some(SMALL * WEEK)).await?;
    let speed = f64::from(SMALL * WEEK) / taken.wall.as_secs_f64() * 60.0;
    table.goal(
        format!("simulator, {}", week(SMALL)),
        "1,000,000 node-hours a minute",
        rate(speed),
        speed >= 1e6,
    );
    let small = scenario(
        &mut table,
        &day(SMALL),
        &training(SMALL, DAY),
        Some(SMALL * DAY),
    )
    .await?;
    let nodes = settings.nodes;
    let large = scenario(
        &mut table,
        &day(nodes),
        &training(nodes, DAY),
        Some(nodes * DAY),
    )
    .await?;
    let what = format!("simulator, {}", day(nodes));
    table.goal(
        what.clone(),
        "below 4 min",
        seconds(large.wall),
        large.wall < Duration::from_secs(240),
    );
    table.goal(
        what,
        "below 4 GB",
        bytes(large.peak),
        large.peak < 4_000_000_000,
    );
    let fuzz = ["sim", "fuzz", "--seeds", "40", "--from", "0"];
    let taken = play(&fuzz, &[]).await?;
    row(&mut table, "fuzz, 40 seeds", None, &taken)?;
    table.goal(
        "simulator, 40 seeds of fuzzing",
        "below 40 s",
        seconds(taken.wall),
        taken.wall < Duration::from_secs(40),
    );
    if nodes > SMALL {
        let each = large.peak.saturating_sub(small.peak) / u64::from(nodes - SMALL);
        table.note(format!(
            "Memory grows by {} with each node, from the runs of {} and of {} nodes for a day.",
            bytes(each),
            rate(f64::from(SMALL)),
            rate(f64::from(nodes))
        ));
    }
    table.note(
        "`navarch sim run` as a whole process, with every file of the run written; one thread. The \
         runs of a day and of a week have external nodes that beat every 30 s and report every \
         60 s, and fail at the rates of the preset `llama3`. What quiet machines do is advanced in \
         bulk, here as everywhere; a test proves that the traces are the same without that.",
    );
    Ok(table)
}

/// A fleet of external nodes that fail as in a published training run, and are replaced.
fn training(nodes: u32, hours: u32) -> String {
    format!(
        "name: training
stress:
  duration: {hours}h
  metrics_interval: 10m
  seed: 1
  fleet_gen:
    total_nodes: {nodes}
    templates: [{{name: h100-8, weight: 100, gpu_count: 8}}]
    providers: {{gcp: 60, aws: 40}}
    regions: {{us-central1: 50, us-east1: 50}}
    startup: {{pattern: linear, duration: 10m}}
  chaos:
    preset: llama3
    recovery: {{probability: 1, mean_time: 30m, std_dev: 10m, replace_fatal: true}}
server: {{heartbeat_interval: 30s, health_check_interval: 60s}}
assertions:
  - {{type: invariants}}
"
    )
}

/// Plays a scenario and adds its line.
async fn scenario(
    table: &mut Table,
    name: &str,
    text: &str,
    node_hours: Option<u32>,
) -> Result<Taken> {
    let taken = play(&["sim", "run", "scenario.yaml", "--out", "run"], &[text]).await?;
    row(table, name, node_hours, &taken)?;
    Ok(taken)
}

fn row(table: &mut Table, name: &str, node_hours: Option<u32>, taken: &Taken) -> Result<()> {
    let cells = vec![
        name.to_owned(),
        node_hours.map_or_else(String::new, |hours| rate(f64::from(hours))),
        seconds(taken.wall),
        bytes(taken.peak),
    ];
    crate::progress(&cells.join("  "))?;
    table.row(cells);
    Ok(())
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Runs `navarch` to its end, in a folder of its own with a scenario.
async fn play(arguments: &[&str], scenario: &[&str]) -> Result<Taken> {
    let folder = folder()?;
    for text in scenario {
        std::fs::write(folder.path().join("scenario.yaml"), text)?;
    }
    let clock = RealClock::new();
    let began = clock.monotonic();
    let program = beside("navarch")?;
    let mut program = Program::start(&program, folder.path(), "sim", arguments, None)?;
    let mut peak = 0;
    loop {
        if let Some(said) = program.ended()? {
            let wall = clock.monotonic() - began;
            return match said {
                Ok(()) => Ok(Taken {
                    wall,
                    peak,
                    _folder: folder,
                }),
                Err(said) => Err(said.into()),
            };
        }
        // It may end in this very moment.
        if let Ok(memory) = program.memory() {
            peak = peak.max(memory.peak);
        }
        clock.sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use navarch_config::scenario::Scenario;

    #[test]
    fn the_scenario_of_the_long_runs_loads() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("scenario.yaml");
        std::fs::write(&file, training(SMALL, DAY)).expect("it is written");
        let (scenario, _, warnings) = Scenario::load(&file).expect("it loads");
        assert!(warnings.is_empty(), "{warnings:?}");
        let stress = scenario.stress.expect("it is a stress run");
        let fleet = stress.fleet_gen.expect("it generates a fleet");
        assert_eq!(fleet.total_nodes, SMALL);
        assert_eq!(stress.duration, Duration::from_secs(86_400));
    }
}

//! Simulates one large fleet and measures the simulator: `cargo run --release -p navarch-sim --example fleet -- [--nodes N] [--minutes N | --days N] [--trouble-every SECONDS] [--tick SECONDS] [--beat SECONDS] [--report SECONDS] [--every-call] [--trace FILE] [--seed N]`.
//!
//! Twelve rows, evenly spaced in simulated time, say how much was simulated, how long it took and
//! how much memory the process has; the last line says what DESIGN asks for.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use navarch_model::Time;
use navarch_sim::{Config, Sim, Trouble};
use navarch_store::Retention;
use navarch_time::{Clock as _, RealClock};

/// Rows of a run.
const ROWS: u64 = 12;
/// A day, in seconds.
const DAY_SECONDS: u64 = 86_400;
/// The trouble of a long run: what happens to machines, agents and clouds every week.
const TROUBLES: [Trouble; 14] = [
    Trouble::Xid,
    Trouble::Thermal,
    Trouble::Ecc,
    Trouble::LostGpu,
    Trouble::Repair,
    Trouble::AgentRestart,
    Trouble::Hang,
    Trouble::Stop,
    Trouble::Vanish,
    Trouble::Partition,
    Trouble::LaunchErrors,
    Trouble::LostAnswers,
    Trouble::Duds,
    Trouble::Diagnose,
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let text = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let number = |name: &str, default: u64| {
        let given = text(name).and_then(|text| text.parse().ok());
        given.unwrap_or(default)
    };
    let nodes = number("--nodes", 1000);
    let minutes = number("--minutes", number("--days", 0) * DAY_SECONDS / 60).max(1);
    let trouble = number("--trouble-every", 0);
    let mut config = Config::large(
        u32::try_from(nodes).unwrap_or(u32::MAX),
        Duration::from_secs(number("--beat", 30)),
        Duration::from_secs(number("--report", 60)),
        Duration::from_secs(number("--tick", 1)),
    );
    config.bulk = !arguments.iter().any(|argument| argument == "--every-call");
    if trouble > 0 {
        config.troubles = TROUBLES.to_vec();
        config.trouble_every = Duration::from_secs(trouble);
    }
    let week = Duration::from_secs(7 * DAY_SECONDS);
    config.retention = Some(Retention {
        events_age: week,
        records_age: week,
        ..Retention::default()
    });
    let mut out = std::io::stdout();
    let clock = RealClock::new();
    let mut sim = match Sim::new(number("--seed", 7), config) {
        Ok(sim) => sim,
        Err(errors) => {
            let _ = writeln!(out, "{errors}");
            return ExitCode::FAILURE;
        }
    };
    let sink: Box<dyn Write> = match text("--trace").map(File::create) {
        Some(Ok(file)) => Box::new(BufWriter::new(file)),
        Some(Err(error)) => {
            let _ = writeln!(out, "the trace cannot be written: {error}");
            return ExitCode::FAILURE;
        }
        None => Box::new(std::io::sink()),
    };
    sim.stream(sink);
    let started = clock.monotonic();
    let _ = writeln!(
        out,
        "{:>10} {:>9} {:>9} {:>9} {:>9} {:>7} {:>10}",
        "simulated", "wall", "VmRSS", "machines", "quiet", "plans", "changes"
    );
    for row in 1..=ROWS {
        let until = Time(0) + Duration::from_secs(60 * minutes * row / ROWS);
        sim.run(until);
        let (machines, quiet) = sim.machines();
        let wall = clock.monotonic().saturating_sub(started);
        let _ = writeln!(
            out,
            "{:>8.2} d {:>7.1} s {:>6.1} MB {:>9} {:>9} {:>7} {:>10}",
            sim.now().0 as f64 / 1e6 / DAY_SECONDS as f64,
            wall.as_secs_f64(),
            memory("VmRSS:"),
            machines,
            quiet,
            sim.plans(),
            sim.changes(),
        );
    }
    let wall = clock.monotonic().saturating_sub(started).as_secs_f64();
    let node_hours = nodes as f64 * minutes as f64 / 60.0;
    for violation in sim.violations() {
        let _ = writeln!(out, "{}: {}", violation.invariant, violation.what);
    }
    let _ = writeln!(
        out,
        "{:.0} node-hours in {wall:.2} s: {:.0} per minute; peak {:.1} MB; trace {:016x}",
        node_hours,
        node_hours / wall * 60.0,
        memory("VmHWM:"),
        sim.fingerprint(),
    );
    if sim.violations().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What the kernel says of this process's memory, in MB; 0 where it does not.
fn memory(of: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(of));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kilobytes.unwrap_or_default() / 1000.0
}

//! `navarch sim`: scenarios and fuzzing in virtual time.

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use navarch_config::scenario::Scenario;
use navarch_config::schema::scenario_schema;
use navarch_policy::HealthPolicy;
use navarch_sim::record::Outcome;
use navarch_sim::report::{self, Directory, ReportError, Timing};
use navarch_sim::run::{Progress, Run};
use navarch_sim::{Config, fuzz};
use navarch_time::{Clock as _, OsRng, RealClock, Rng as _};
use serde_json::json;

use crate::args::{Global, Sim, SimFuzz, SimRun};
use crate::client::Failure;
use crate::commands::serve::told_to_end;
use crate::output::{counted, for_programs, remark, say};

/// `navarch sim`.
pub async fn run(
    global: &Global,
    order: Sim,
    log: impl Future<Output = ()>,
) -> Result<(), Failure> {
    match order {
        Sim::Run(asked) => play(asked, log).await,
        Sim::Validate { file } => validate(global, &file),
        Sim::Fuzz(asked) => search(&asked, log).await,
        Sim::Schema => super::config::schema(global, &scenario_schema()),
    }
}

/// Reads a scenario and tells what is odd about it.
fn read(file: &Path) -> Result<(Scenario, String), Failure> {
    let (scenario, text, warnings) =
        Scenario::load(file).map_err(|errors| Failure::Said(format!("{errors:#}")))?;
    for warning in warnings {
        remark(&format!("Warning: {warning}"));
    }
    Ok((scenario, text))
}

fn validate(global: &Global, file: &Path) -> Result<(), Failure> {
    let (scenario, _) = read(file)?;
    policy(&scenario, file)?;
    let shown = json!({
        "file": file.display().to_string(),
        "valid": true,
        "name": scenario.name,
        "events": scenario.events.len(),
        "assertions": scenario.assertions.len(),
    });
    if !for_programs(global.output, &shown)? {
        say(&format!(
            "{}: {}, {} and {}, valid",
            file.display(),
            scenario.name,
            counted(scenario.events.len(), "event"),
            counted(scenario.assertions.len(), "assertion"),
        ));
    }
    Ok(())
}

/// The health policy that a scenario names, beside the scenario if its path is relative.
fn policy(scenario: &Scenario, file: &Path) -> Result<Arc<HealthPolicy>, Failure> {
    let Some(named) = &scenario.config.server.health_policy else {
        return Ok(HealthPolicy::builtin());
    };
    let path = file.parent().unwrap_or(Path::new("")).join(named);
    super::policy::load(&path)
}

async fn play(asked: SimRun, log: impl Future<Output = ()>) -> Result<(), Failure> {
    let (scenario, text) = read(&asked.file)?;
    let policy = policy(&scenario, &asked.file)?;
    let drawn = || OsRng.next_u64() >> 32;
    let seed = asked.seed.or(scenario.seed).unwrap_or_else(drawn);
    let copies = scenario.stress.as_ref().map(|stress| {
        [
            ("report.json", stress.report_file.clone()),
            ("report.html", stress.html_report_file.clone()),
            ("trace.jsonl", stress.log_file.clone()),
        ]
    });
    // From here on the process ends in order: its directory has a report.
    let mut told = std::pin::pin!(told_to_end(log));
    tokio::select! {
        biased;
        ended = &mut told => return ended,
        () = std::future::ready(()) => {}
    }
    let clock = RealClock::new();
    let out = match asked.out {
        Some(out) => out,
        None => default_directory(&clock),
    };
    let directory = Directory::create(out).map_err(failed)?;
    let trace = directory.path().join("trace.jsonl");
    let sink = File::create(&trace).map_err(|source| {
        failed(ReportError::Write {
            path: trace,
            source,
        })
    })?;
    let name = scenario.name.clone();
    let mut run = Run::new(scenario, text, seed, policy)
        .map_err(|errors| Failure::Said(errors.to_string()))?;
    run.trace(Box::new(BufWriter::new(sink)));
    remark(&format!("Scenario {name}, seed {seed}"));
    let shows = std::io::stderr().is_terminal();
    let begun = clock.monotonic();
    let mut interrupted = false;
    while let Some(progress) = run.advance() {
        if shows {
            show(&progress);
        }
        let ahead = match asked.real_time {
            true => {
                let passed = clock.monotonic().saturating_sub(begun);
                Duration::from_micros(progress.now.0.unsigned_abs()).saturating_sub(passed)
            }
            false => Duration::ZERO,
        };
        tokio::select! {
            biased;
            ended = &mut told => {
                ended?;
                interrupted = true;
                break;
            }
            () = async {
                if ahead.is_zero() {
                    tokio::task::yield_now().await;
                } else {
                    clock.sleep(ahead).await;
                }
            } => {}
        }
    }
    let record = run.finish(interrupted);
    if shows {
        remark("");
    }
    let timing = Timing {
        wall: clock.monotonic().saturating_sub(begun),
        peak_memory_bytes: peak_memory(),
    };
    report::write(&directory, &record, &timing).map_err(failed)?;
    for (from, to) in copies.into_iter().flatten() {
        if let Some(to) = to {
            copy(directory.path(), from, &to)?;
        }
    }
    say(report::tables(&record).trim_end());
    let seconds = timing.wall.as_secs_f64();
    say(&format!(
        "Run written to {} in {seconds:.1} s",
        directory.path().display()
    ));
    match record.outcome {
        Outcome::Passed => Ok(()),
        Outcome::Interrupted => Err(Failure::Said("the run was interrupted".to_owned())),
        Outcome::Failed(wrong) => Err(Failure::Said(wrong)),
    }
}

/// A copy of a file of the run, where the scenario wants it below the run's directory.
fn copy(directory: &Path, from: &str, to: &str) -> Result<(), Failure> {
    let (from, to) = (directory.join(from), directory.join(to));
    if from == to {
        return Ok(());
    }
    if let Some(above) = to.parent() {
        std::fs::create_dir_all(above).map_err(Failure::Io)?;
    }
    std::fs::copy(&from, &to)
        .map(drop)
        .map_err(|error| Failure::Said(format!("cannot write {}: {error}", to.display())))
}

fn failed(error: ReportError) -> Failure {
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    Failure::Said(format!("{error}{}", source.unwrap_or_default()))
}

fn default_directory(clock: &RealClock) -> PathBuf {
    let now = jiff::Timestamp::from_microsecond(clock.wall()).unwrap_or_default();
    let name = now.strftime("%Y-%m-%d_%H-%M-%S.%6f").to_string();
    Path::new("sim-runs").join(name)
}

fn show(progress: &Progress) {
    let span = |micros: i64| Duration::from_micros(micros.unsigned_abs());
    let line = report::progress_line(&report::Progress {
        elapsed: span(progress.now.0),
        total: span(progress.until.unwrap_or(progress.now).0),
        healthy: progress.healthy,
        failures: progress.failures,
        cascading: progress.cascaded,
        recoveries: progress.recoveries,
    });
    // A terminal that went away is noticed elsewhere.
    drop(write!(std::io::stderr(), "\r{line:<120}"));
}

/// The most memory that this process had, where the system says so.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Runs worlds until all were run, or one failed.
async fn search(asked: &SimFuzz, log: impl Future<Output = ()>) -> Result<(), Failure> {
    let mut told = std::pin::pin!(told_to_end(log));
    let (mut seeds, mut failures, mut crashes, mut steps) = (0_u64, 0_u64, 0, 0);
    for seed in asked.from..asked.from.saturating_add(asked.seeds) {
        let ran = fuzz::world(seed, Config::drawn(seed), asked.minutes);
        let (stepped, died) = match &ran {
            Ok(sim) => sim.steps_and_deaths(),
            Err(failure) => failure.steps_and_deaths,
        };
        (seeds, crashes, steps) = (seeds + 1, crashes + died, steps + stepped);
        if let Err(failure) = ran {
            failures += 1;
            tell(asked, &failure)?;
            if !asked.keep_going {
                break;
            }
        }
        tokio::select! {
            biased;
            ended = &mut told => {
                ended?;
                break;
            }
            () = tokio::task::yield_now() => {}
        }
    }
    say(&format!(
        "{seeds} seeds, {failures} failures, {crashes} crashes injected, {steps} steps"
    ));
    match failures {
        0 => Ok(()),
        _ => Err(Failure::Quiet),
    }
}

/// Tells of a failure, and how to see it again.
fn tell(asked: &SimFuzz, failure: &fuzz::Failure) -> Result<(), Failure> {
    if let Some(path) = &asked.trace {
        let written = std::fs::write(path, &failure.trace);
        written.map_err(|error| Failure::File(path.clone(), error))?;
    }
    remark(failure.to_string().trim_end());
    let (seed, shortest) = (failure.seed, fuzz::shortest(failure.seed, asked.minutes));
    remark(&format!(
        "Seed {seed} still fails after {shortest} minutes. To replay it with the whole trace:\n  \
         navarch sim fuzz --from {seed} --seeds 1 --minutes {shortest} --trace seed-{seed}.txt"
    ));
    Ok(())
}

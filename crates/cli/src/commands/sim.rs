//! `navarch sim`: scenarios and fuzzing in virtual time.

mod interactive;
mod pace;

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use navarch_config::scenario::{Scenario, Stress};
use navarch_config::schema::scenario_schema;
use navarch_model::Time;
use navarch_policy::HealthPolicy;
use navarch_sim::record::{Outcome, Record};
use navarch_sim::report::{self, Directory, ReportError, Timing};
use navarch_sim::run::{Progress, Run};
use navarch_sim::{Config, fuzz};
use navarch_time::{Clock as _, OsRng, RealClock, Rng as _};
use pace::Pace;
use serde_json::json;

use crate::args::{Global, Sim, SimFuzz, SimRun};
use crate::client::Failure;
use crate::commands::serve::told_to_end;
use crate::output::{counted, for_programs, remark, say};

/// The copy of the health policy in the directory of a run whose scenario names one.
const POLICY_COPY: &str = "policy.yaml";

/// How often simulated time goes on when it passes as on a clock. Longer makes it coarser; shorter
/// wakes the process more often.
const TICK: Duration = Duration::from_millis(100);
/// Simulated time between two looks at the signals while it catches up with the clock.
const STRETCH: Duration = Duration::from_secs(1);

/// `navarch sim`.
pub async fn run(
    global: &Global,
    order: Sim,
    log: impl Future<Output = ()>,
) -> Result<(), Failure> {
    match order {
        Sim::Run(asked) => play(asked, log).await,
        Sim::Interactive(asked) => interactive::run(global, asked).await,
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
    let (scenario, text) = read(file)?;
    policy(&scenario, file, &text)?;
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

/// The health policy of a scenario.
struct Policy {
    policy: Arc<HealthPolicy>,
    /// The text of the file that the scenario names; none for the built-in policy.
    text: Option<String>,
}

/// Reads the health policy that a scenario names, and checks the rules that it names against it.
fn policy(scenario: &Scenario, file: &Path, text: &str) -> Result<Policy, Failure> {
    let read = policy_file(scenario, file).map(|path| super::policy::read(&path));
    let (policy, own_text) = match read.transpose()? {
        Some((policy, text)) => (policy, Some(text)),
        None => (HealthPolicy::builtin(), None),
    };
    let rules = policy.rules().iter().map(|rule| &*rule.name);
    // What the control plane itself concludes has no rule of the policy.
    let own = [
        navarch_core::fleet::SILENCE,
        navarch_core::fleet::STALE_REPORTS,
    ];
    let known: Vec<&str> = rules.chain(own).collect();
    scenario
        .check_rules(&file.display().to_string(), text, &known)
        .map_err(|errors| Failure::Said(format!("{errors:#}")))?;
    Ok(Policy {
        policy,
        text: own_text,
    })
}

/// The file of the health policy that a scenario names: beside the scenario if its path is
/// relative, and the run's copy if the scenario is the one that a run left in its directory.
fn policy_file(scenario: &Scenario, file: &Path) -> Option<PathBuf> {
    let named = scenario.config.server.health_policy.as_ref()?;
    let beside = file.parent().unwrap_or(Path::new(""));
    let copy = beside.join(POLICY_COPY);
    let of_a_run = file.ends_with("scenario.yaml") && beside.join("report.json").is_file();
    if of_a_run && copy.is_file() {
        Some(copy)
    } else {
        Some(beside.join(named))
    }
}

/// The seed of a run: the one that was asked for, the scenario's, or a new one.
fn seed(asked: Option<u64>, scenario: &Scenario) -> u64 {
    let drawn = || OsRng.next_u64() >> 32;
    asked.or(scenario.seed).unwrap_or_else(drawn)
}

/// Where a run is written, and what of it a scenario wants copied.
struct Place {
    directory: Directory,
    copies: Vec<(&'static str, String)>,
    begun: Duration,
}

impl Place {
    /// Makes the directory. The policy is the text of the one that the scenario names.
    fn make(
        out: Option<PathBuf>,
        scenario: &Scenario,
        policy: Option<&str>,
    ) -> Result<Self, Failure> {
        let clock = RealClock::new();
        let out = out.unwrap_or_else(|| default_directory(&clock));
        let directory = Directory::create(out).map_err(failed)?;
        if let Some(text) = policy {
            let path = directory.path().join(POLICY_COPY);
            std::fs::write(&path, text).map_err(|error| Failure::File(path, error))?;
        }
        let wanted = |stress: &Stress| {
            [
                ("report.json", stress.report_file.clone()),
                ("report.html", stress.html_report_file.clone()),
                ("trace.jsonl", stress.log_file.clone()),
            ]
        };
        let wanted = scenario.stress.as_ref().map(wanted).into_iter().flatten();
        Ok(Self {
            directory,
            copies: wanted.filter_map(|(from, to)| Some((from, to?))).collect(),
            begun: clock.monotonic(),
        })
    }

    /// Writes the trace of a run as it grows.
    fn trace(&self, run: &mut Run) -> Result<(), Failure> {
        let path = self.directory.path().join("trace.jsonl");
        let sink =
            File::create(&path).map_err(|source| failed(ReportError::Write { path, source }))?;
        run.trace(Box::new(BufWriter::new(sink)));
        Ok(())
    }

    /// Writes everything else of a run that is over, and says what came of it.
    fn leave(self, record: &Record) -> Result<(), Failure> {
        report::write(&self.directory, record).map_err(failed)?;
        for (from, to) in &self.copies {
            copy(self.directory.path(), from, to)?;
        }
        let timing = Timing {
            wall: RealClock::new().monotonic().saturating_sub(self.begun),
            peak_memory_bytes: peak_memory(),
        };
        report::write_timing(&self.directory, record, &timing).map_err(failed)?;
        say(report::tables(record).trim_end());
        let seconds = timing.wall.as_secs_f64();
        say(&format!(
            "Run written to {} in {seconds:.1} s",
            self.directory.path().display()
        ));
        Ok(())
    }
}

async fn play(asked: SimRun, log: impl Future<Output = ()>) -> Result<(), Failure> {
    let (scenario, text) = read(&asked.file)?;
    let Policy {
        policy,
        text: policy_text,
    } = policy(&scenario, &asked.file, &text)?;
    let seed = seed(asked.seed, &scenario);
    // From here on the process ends in order: its directory has a report.
    let mut told = std::pin::pin!(told_to_end(log)?);
    let place = Place::make(asked.out, &scenario, policy_text.as_deref())?;
    let name = scenario.name.clone();
    let mut run = Run::new(scenario, text, seed, policy)
        .map_err(|errors| Failure::Said(errors.to_string()))?;
    place.trace(&mut run)?;
    remark(&format!("Scenario {name}, seed {seed}"));
    let shows = std::io::stderr().is_terminal();
    let pace = asked.real_time.then(|| Pace::new(Time(0), 1.0));
    let mut interrupted = false;
    loop {
        let progress = match &pace {
            Some(pace) => run.advance_to(pace.due().min(run.sim().now() + STRETCH)),
            None => run.advance(),
        };
        let Some(progress) = progress else { break };
        if shows {
            show(&progress);
        }
        tokio::select! {
            biased;
            () = &mut told => {
                interrupted = true;
                break;
            }
            () = async {
                match &pace {
                    Some(pace) => pace.wait_for(progress.now + TICK).await,
                    None => tokio::task::yield_now().await,
                }
            } => {}
        }
    }
    let record = run.end(interrupted);
    if shows {
        remark("");
    }
    place.leave(&record)?;
    let outcome = record.outcome.clone();
    // The process ends: nobody needs the memory of a large fleet back piece by piece.
    std::mem::forget((run, record));
    match outcome {
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
    let line = report::progress_line(progress);
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
    let mut told = std::pin::pin!(told_to_end(log)?);
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
            () = &mut told => break,
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

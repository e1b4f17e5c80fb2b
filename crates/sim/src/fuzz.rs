//! Fuzzing: each seed draws its own world, has its trouble, and must then come to rest.

use std::fmt;
use std::time::Duration;

use navarch_model::Time;
use navarch_model::invariants::Violation;

use crate::bugs::Bug;
use crate::config::Config;
use crate::world::Sim;

/// How long after the trouble the fleet may take to come to rest: the longest breaker wait, the
/// launch rate's hour and the silence of a fleet follow each other.
const CALM_LIMIT: Duration = Duration::from_secs(4 * 3600);
/// How often it is asked whether it rests.
const CALM_STEP: Duration = Duration::from_secs(300);
/// More plans than this in one step are a loop that does not end.
const MAX_PLANS_PER_STEP: u64 = 1500;
/// Lines of the trace that a failure shows.
const TAIL_LINES: usize = 60;

/// A broken promise.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The seed that shows it.
    pub seed: u64,
    /// What is broken.
    pub violations: Vec<Violation>,
    /// The configuration that the seed drew.
    pub config: String,
    /// The whole trace.
    pub trace: String,
    /// How much happened until then, and how often a control plane died.
    pub steps_and_deaths: (u64, u64),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}\n{}", self.seed, self.config)?;
        let lines: Vec<&str> = self.trace.lines().collect();
        for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
            writeln!(f, "{line}")?;
        }
        for violation in &self.violations {
            writeln!(
                f,
                "seed {}: {}: {}",
                self.seed, violation.invariant, violation.what
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Runs one world: `minutes` of trouble, then calm until it rests.
///
/// # Errors
///
/// The first broken promise.
pub fn world(seed: u64, config: Config, minutes: u64) -> Result<Sim, Box<Failure>> {
    let shown = format!(
        "troubles {:?} every {:?}, crash {} lost {}, tokens {}, neighbour {}, spool {}\n{}{}",
        config.troubles,
        config.trouble_every,
        config.crash_per_turn,
        config.lost,
        config.honours_tokens,
        config.neighbour,
        config.spool_bytes,
        config.yaml,
        config.judge.text
    );
    let failure = |sim: &Sim, violations: Vec<Violation>| {
        Box::new(Failure {
            seed,
            violations,
            config: shown.clone(),
            trace: sim.trace().to_owned(),
            steps_and_deaths: sim.steps_and_deaths(),
        })
    };
    let mut sim = Sim::new(seed, config).map_err(|errors| {
        Box::new(Failure {
            seed,
            violations: vec![Violation {
                invariant: "configuration",
                what: errors.to_string(),
            }],
            config: shown.clone(),
            trace: String::new(),
            steps_and_deaths: (0, 0),
        })
    })?;
    sim.run(Time(0) + Duration::from_secs(60 * minutes));
    if sim.violations().is_empty() {
        sim.calm_down(seed.is_multiple_of(2));
    }
    let limit = sim.now() + CALM_LIMIT;
    let tidy = sim.now() + CALM_LIMIT / 4;
    let mut rested = 0;
    loop {
        let plans = sim.plans();
        if seed.is_multiple_of(2) && sim.now() >= tidy {
            sim.end_orphans();
        }
        sim.run(sim.now() + CALM_STEP);
        if !sim.violations().is_empty() {
            return Err(failure(&sim, sim.violations().to_vec()));
        }
        let spent = sim.plans() - plans;
        if spent > MAX_PLANS_PER_STEP {
            let what = format!("{spent} plans in {} s of calm", CALM_STEP.as_secs());
            let invariant = "P10 bounded";
            return Err(failure(&sim, vec![Violation { invariant, what }]));
        }
        let (leaks, lacks) = (sim.leaks(), sim.unconverged());
        if leaks.is_empty() && lacks.is_empty() {
            rested += 1;
        } else {
            rested = 0;
        }
        if rested == 2 {
            return Ok(sim);
        }
        if sim.now() >= limit {
            let named = |invariant, all: Vec<String>| {
                all.into_iter()
                    .map(move |what| Violation { invariant, what })
            };
            let violations = named("P1 no leak", leaks)
                .chain(named("P8 convergence", lacks))
                .collect();
            return Err(failure(&sim, violations));
        }
    }
}

/// The fewest simulated minutes of trouble after which a seed that fails after `minutes` still
/// fails, by halving; fewer minutes that fail again after more that do not are not looked for.
pub fn shortest(seed: u64, minutes: u64) -> u64 {
    let (mut passes, mut fails) = (0, minutes);
    while fails - passes > 1 {
        let middle = passes + (fails - passes) / 2;
        match world(seed, Config::drawn(seed), middle) {
            Ok(_) => passes = middle,
            Err(_) => fails = middle,
        }
    }
    fails
}

/// Runs `seeds` worlds from seed `from` on, each with `minutes` of trouble.
///
/// # Errors
///
/// The first broken promise.
pub fn fuzz(seeds: u64, from: u64, minutes: u64) -> Result<(), Box<Failure>> {
    for seed in from..from + seeds {
        world(seed, Config::drawn(seed), minutes)?;
    }
    Ok(())
}

/// The first of `seeds` worlds that catches a planted bug, with what it found. `tend` makes the
/// drawn worlds ones in which the bug can show.
pub fn catches(
    bug: Bug,
    seeds: u64,
    minutes: u64,
    tend: impl Fn(&mut Config),
) -> Option<Box<Failure>> {
    (0..seeds).find_map(|seed| {
        let mut config = Config::drawn(seed);
        tend(&mut config);
        config.bug = Some(bug);
        world(seed, config, minutes).err()
    })
}

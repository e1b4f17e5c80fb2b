//! The fleet simulator.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::address;

/// `navarch sim`.
#[derive(Debug, Subcommand)]
pub enum Sim {
    /// Run a scenario in virtual time, and report what came of it.
    Run(SimRun),
    /// Play a scenario as on a clock, and serve the API of its control plane meanwhile.
    Interactive(SimInteractive),
    /// Check a scenario file: every error and warning, with its place. Nothing runs.
    Validate {
        /// The file.
        file: PathBuf,
    },
    /// Print the JSON Schema of scenario files, for editors.
    Schema,
    /// Run drawn worlds with drawn trouble, and look for broken promises.
    Fuzz(SimFuzz),
}

/// `navarch sim run`.
#[derive(Debug, Args)]
pub struct SimRun {
    /// The scenario.
    pub file: PathBuf,
    /// The seed, instead of the scenario's [default: one is drawn and printed].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Let time pass as on a clock.
    #[arg(long)]
    pub real_time: bool,
    /// Where the run is written; an empty directory, or one that does not exist yet
    /// [default: ./sim-runs/TIME].
    #[arg(long, value_name = "DIRECTORY")]
    pub out: Option<PathBuf>,
}

/// `navarch sim interactive`.
#[derive(Debug, Args)]
pub struct SimInteractive {
    /// The scenario [default: ten machines and a pool, to try things on].
    pub file: Option<PathBuf>,
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8080", value_parser = address, value_name = "HOST:PORT")]
    pub listen: String,
    /// Simulated seconds in one second; below 1 is slow motion.
    #[arg(long, default_value = "1", value_parser = speed, allow_negative_numbers = true, value_name = "N")]
    pub speed: f64,
    /// The seed, instead of the scenario's [default: one is drawn and printed].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Where the run is written; an empty directory, or one that does not exist yet
    /// [default: ./sim-runs/TIME].
    #[arg(long, value_name = "DIRECTORY")]
    pub out: Option<PathBuf>,
    /// Listen without a token on an address that other machines can reach.
    #[arg(long)]
    pub insecure_no_auth: bool,
}

/// How slowly and how fast time may pass: slower looks as if it stood still, and no machine is
/// faster.
const SPEEDS: RangeInclusive<f64> = 0.01..=1_000_000.0;

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok();
    speed.filter(|speed| SPEEDS.contains(speed)).ok_or_else(|| {
        format!(
            "write how many seconds pass in one second, from {} to {}, for example 10",
            SPEEDS.start(),
            SPEEDS.end()
        )
    })
}

/// `navarch sim fuzz`.
#[derive(Debug, Args)]
pub struct SimFuzz {
    /// How many worlds.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub from: u64,
    /// Simulated minutes of trouble in each world; calm follows until the fleet rests.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=10_080), value_name = "N")]
    pub minutes: u64,
    /// Go on after a failure.
    #[arg(long)]
    pub keep_going: bool,
    /// Write the whole trace of a failure to a file.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

//! Fuzzes the fleet: `cargo run -p navarch-sim --example fuzz -- [--seeds N] [--from N] [--minutes N] [--keep-going] [--trace]`.

use std::io::Write as _;
use std::process::ExitCode;

use navarch_sim::{Config, fuzz};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: u64| {
        arguments
            .iter()
            .position(|argument| argument == name)
            .and_then(|at| arguments.get(at + 1))
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let (seeds, from, minutes) = (
        number("--seeds", 100),
        number("--from", 0),
        number("--minutes", 60),
    );
    let keep_going = arguments.iter().any(|argument| argument == "--keep-going");
    let whole = arguments.iter().any(|argument| argument == "--trace");
    let mut out = std::io::stdout();
    let mut failed = 0;
    for seed in from..from + seeds {
        let Err(failure) = fuzz::world(seed, Config::drawn(seed), minutes) else {
            continue;
        };
        failed += 1;
        if !keep_going {
            // Nobody reads a closed pipe.
            if whole {
                let _ = writeln!(out, "{}", failure.trace);
            }
            let _ = writeln!(out, "{failure}");
            return ExitCode::FAILURE;
        }
        for violation in failure.violations.iter().take(2) {
            let _ = writeln!(
                out,
                "seed {seed}: {}: {}",
                violation.invariant, violation.what
            );
        }
    }
    let _ = writeln!(out, "{failed} of {seeds} seeds failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

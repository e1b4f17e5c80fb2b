//! The scenarios that come with the repository.

use std::path::Path;

use navarch_config::scenario::Scenario;
use navarch_policy::HealthPolicy;
use navarch_sim::run::Run;

/// The seed of examples that name none.
const SEED: u64 = 7;

/// An example that has not begun.
#[track_caller]
pub fn run(name: &str) -> Run {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/scenarios");
    let (scenario, text, _) =
        Scenario::load(&examples.join(name)).unwrap_or_else(|errors| panic!("{errors:#}"));
    let seed = scenario.seed.unwrap_or(SEED);
    Run::new(scenario, text, seed, HealthPolicy::builtin()).expect("it loads")
}

//! Scenarios that tests write.

use navarch_config::scenario::Scenario;
use navarch_policy::HealthPolicy;
use navarch_sim::run::Run;

/// A scenario that has not begun.
#[track_caller]
pub fn run(text: &str, seed: u64) -> Run {
    let (scenario, _) = match Scenario::parse("test.yaml", text) {
        Ok(read) => read,
        Err(errors) => panic!("{errors}"),
    };
    let policy = HealthPolicy::builtin();
    Run::new(scenario, text.to_owned(), seed, policy).expect("it loads")
}

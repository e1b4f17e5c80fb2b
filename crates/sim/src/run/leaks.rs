//! What a run owes when it ends: no machine costs money that no record knows.

use std::time::Duration;

use super::Run;

/// How long a sweep of the clouds takes at most, from its calls to what is recorded of them.
const SWEEP_TAKES: Duration = Duration::from_secs(60);

impl Run {
    /// P1: a machine that is on no record when the run ends is on one two sweeps later, while
    /// nothing is wrong with the clouds and the control plane runs. A launch that is under way is on
    /// record.
    pub(super) fn look_for_leaks(&mut self) {
        let sim = &mut self.sim;
        if !sim.violations().is_empty() || sim.leaks().is_empty() {
            return;
        }
        if let Some(story) = &mut sim.story {
            story.over = true;
        }
        sim.troubled = false;
        sim.cloud.behave();
        sim.plane.doomed = false;
        sim.note(
            "event",
            format_args!("machines are on no record: two sweeps"),
        );
        let runs = sim
            .plane
            .down_until
            .max(sim.plane.paused_until)
            .max(sim.now());
        sim.run(runs + (sim.settings.guards.sweep.interval + SWEEP_TAKES) * 2);
        if !sim.violations().is_empty() {
            return;
        }
        for what in sim.leaks() {
            sim.violated("P1 no leak", what);
        }
    }
}

#[cfg(test)]
mod tests {
    use navarch_config::scenario::Scenario;
    use navarch_policy::HealthPolicy;

    use super::*;
    use crate::bugs::Bug;
    use crate::record::Outcome;

    const SCENARIO: &str = "name: leak
providers:
  fake: {type: fake, gpu_count: 8}
pools:
  main: {provider: fake, instance_type: gpu, region: here, min_nodes: 2, max_nodes: 4}
events:
  - {at: 10m, action: scale_pool, params: {pool: main, nodes: 4}}
stress: {duration: 10m}
";

    /// How the scenario ends when a machine of the fleet that no intent explains is there at the end.
    fn ends(bug: Option<Bug>) -> (Outcome, Vec<String>) {
        let (scenario, _) = Scenario::parse("test.yaml", SCENARIO).expect("it loads");
        let policy = HealthPolicy::builtin();
        let mut run = Run::new(scenario, SCENARIO.to_owned(), 1, policy).expect("it loads");
        run.sim.config.bug = bug;
        while run.advance().is_some() {}
        let fleet = run.sim.fleet.clone();
        run.sim.cloud.stranger(Some(fleet));
        let ended = run.sim.now();
        let record = run.finish(false);
        assert_eq!(record.ended, ended);
        (record.outcome, record.violations)
    }

    #[test]
    fn a_machine_on_no_record_fails_the_run_unless_the_next_sweeps_find_it() {
        assert_eq!(ends(None), (Outcome::Passed, Vec::new()));
        let (outcome, violations) = ends(Some(Bug::ListingsDropped));
        assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
        let [leak] = &violations[..] else {
            panic!("{violations:?}");
        };
        assert!(leak.starts_with("P1 no leak: "), "{leak}");
    }
}

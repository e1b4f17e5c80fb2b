//! The record against the control plane: what was lost and why, what was noticed, how long it took.

mod scenario;

use navarch_model::{NodeId, NodeStatus};
use navarch_sim::record::{Outcome, Record};
use scenario::run;

const POOL: &str = "providers:
  fake: {type: fake, gpu_count: 8}
cloud:
  boot: {min: 1m, max: 1m}
guards:
  small_fleet_wait: 30s
";

fn hours(record: &Record, cause: &str) -> f64 {
    record
        .lost_gpu_hours
        .get(cause)
        .copied()
        .unwrap_or_default()
}

/// What the record says of nodes and incidents is what the store has, wherever the control plane
/// died.
#[test]
fn the_record_has_what_is_durable_and_nothing_else() {
    let (mut crashes, mut replaced) = (0, 0);
    for seed in 0..12 {
        let text = format!(
            "name: crashes
{POOL}pools:
  main: {{provider: fake, instance_type: gpu, region: here, min_nodes: 6, max_nodes: 8, budget: 2, max_launches_per_hour: 100}}
fleet:
  - {{id: a, gpu_count: 8}}
  - {{id: b, gpu_count: 8}}
stress:
  duration: 50m
  chaos:
    rates:
      - {{type: xid_error, xid_code: 79, per_1000_node_days: 20000}}
      - {{type: temperature, per_1000_node_days: 50000, mean_duration: 1m}}
    control_plane_crashes: 1m
    recovery: {{probability: 1, mean_time: 3m, replace_fatal: true, replace_cold_start: 45s}}
"
        );
        let mut run = run(&text, seed);
        while run.advance().is_some() {}
        let state = run.sim().released().clone();
        let deaths = run.sim().steps_and_deaths().1;
        let record = run.finish(false);
        assert_eq!(record.outcome, Outcome::Passed, "seed {seed}");
        assert_eq!(record.crashes, deaths);
        crashes += record.crashes;
        let closed = state
            .incidents
            .values()
            .filter(|one| !one.is_open())
            .count();
        let over = record.incidents.iter().filter(|one| one.closed.is_some());
        assert_eq!(
            (record.incidents.len(), over.count()),
            (state.incidents.len(), closed),
            "seed {seed}"
        );
        for (id, node) in &record.nodes {
            let Some(known) = state.nodes.get(id) else {
                continue;
            };
            assert_eq!(
                (node.status, node.health),
                (known.status(), known.health()),
                "seed {seed}, {id}"
            );
        }
        // An owner replaces what the control plane called UNHEALTHY, and what it called so for good.
        let generation = |id: &NodeId| {
            let (base, number) = id.as_str().split_once("-gen").unwrap_or((id.as_str(), "1"));
            (base.to_owned(), number.parse::<u32>().expect("a number"))
        };
        let mut newest = std::collections::BTreeMap::new();
        for (base, number) in record.nodes.keys().map(generation) {
            let known = newest.entry(base).or_insert(number);
            *known = number.max(*known);
        }
        for node in state.nodes.values() {
            let (base, number) = generation(&node.id);
            let missed = node.instance.is_none() && node.status() == NodeStatus::Unhealthy;
            assert!(
                !missed || newest[&base] > number,
                "seed {seed}: {}",
                node.id
            );
        }
        replaced += newest.values().filter(|number| **number > 1).count();
    }
    assert!(replaced > 0);
    assert!(crashes > 100, "{crashes}");
}

#[test]
fn what_one_pool_has_too_much_is_no_help_to_another() {
    let text = format!(
        "name: surplus
{POOL}pools:
  full: {{provider: fake, instance_type: gpu, region: here, min_nodes: 4, max_nodes: 8}}
  short: {{provider: fake, instance_type: gpu, region: there, min_nodes: 4, max_nodes: 8}}
cloud:
  boot: {{min: 1m, max: 1m}}
  capacity: {{fake/there: 2}}
events:
  - {{at: 1s, action: scale_pool, params: {{pool: full, nodes: 8}}}}
  - {{at: 20m, action: automation, params: {{automation: \"off\"}}}}
  - {{at: 21m, action: scale_pool, params: {{pool: full, nodes: 4}}}}
stress: {{duration: 60m}}
assertions:
  - {{type: capacity, pool: full, at_least: 90}}
  - {{type: capacity, pool: short, at_most: 55}}
"
    )
    .replacen("cloud:\n  boot: {min: 1m, max: 1m}\n", "", 1);
    let record = run(&text, 1).play();
    assert_eq!(record.outcome, Outcome::Passed);
    let lost: f64 = record.lost_gpu_hours.values().sum();
    let short = record.asked_gpu_hours - record.delivered_gpu_hours;
    assert!((lost - short).abs() < 0.01, "{lost} of {short}");
    assert!(short > 16.0, "{short}");
}

#[test]
fn what_a_pool_gives_up_is_not_lost() {
    let text = format!(
        "name: shrink
{POOL}pools:
  main: {{provider: fake, instance_type: gpu, region: here, min_nodes: 2, max_nodes: 8}}
events:
  - {{at: 1s, action: scale_pool, params: {{pool: main, nodes: 6}}}}
  - {{at: 20m, action: scale_pool, params: {{pool: main, nodes: 2}}}}
  - {{at: 1h, action: inject_failure, target: pool/main/0, params: {{failure_type: xid_error, xid_code: 79}}}}
stress: {{duration: 2h}}
"
    );
    let record = run(&text, 1).play();
    // What is empty later is so for its own reason.
    assert!(
        hours(&record, "xid_error") > 0.0,
        "{:?}",
        record.lost_gpu_hours
    );
    assert_eq!(
        hours(&record, "no injected failure"),
        0.0,
        "{:?}",
        record.lost_gpu_hours
    );
    let last = record.samples.last().expect("it was counted");
    assert_eq!((last.gpus_asked, last.gpus_active), (16, 16));
}

#[test]
fn capacity_is_lost_to_what_took_it() {
    let text = "name: causes
fleet:
  - {id: a, gpu_count: 8}
  - {id: b, gpu_count: 8}
  - {id: c, gpu_count: 8}
events:
  - {at: 0s, action: start_fleet}
  - {at: 1m, action: inject_failure, target: a, params: {failure_type: xid_error, xid_code: 13}}
  - {at: 2m, action: inject_failure, target: b, params: {failure_type: gpu_lost}}
  - {at: 3m, action: inject_failure, target: b, params: {failure_type: power_error}}
  - {at: 4m, action: inject_failure, target: c, params: {failure_type: power_error}}
  - {at: 10m, action: issue_command, target: a, params: {command_type: cordon}}
  - {at: 11m, action: issue_command, target: c, params: {command_type: drain}}
  - {at: 1h, action: wait}
";
    let record = run(text, 1).play();
    assert_eq!(record.outcome, Outcome::Passed);
    let causes: Vec<&str> = record.lost_gpu_hours.keys().map(String::as_str).collect();
    assert_eq!(causes, ["gpu_lost", "not there yet", "operator"]);
    assert!(hours(&record, "operator") > 2.0 * 8.0 * 0.8);
    // NVIDIA says of XID 13 to start the application again: it is over when it was told.
    assert_eq!(record.injections[0].ended, Some(record.injections[0].at));
}

#[test]
fn only_what_a_conclusion_is_about_was_noticed() {
    let text = "name: noticed
fleet:
  - {id: a, gpu_count: 8}
  - {id: b, gpu_count: 8}
events:
  - {at: 0s, action: start_fleet}
  - {at: 1m, action: inject_failure, target: a, params: {failure_type: silent_corruption}}
  - {at: 2m, action: issue_command, target: a, params: {command_type: cordon}}
  - {at: 3m, action: inject_failure, target: a, params: {failure_type: temperature, gpu_index: 3}}
  - {at: 6m, action: inject_failure, target: b, params: {failure_type: agent_crash}}
  - {at: 6m, action: inject_failure, target: b, params: {failure_type: network}}
  - {at: 20m, action: recover_failure, target: b}
  - {at: 25m, action: inject_failure, target: b, params: {failure_type: boot_failure}}
  - {at: 30m, action: wait}
";
    let record = run(text, 1).play();
    assert_eq!(record.outcome, Outcome::Passed);
    let noticed: Vec<_> = record
        .injections
        .iter()
        .map(|one| {
            (
                one.kind.word(),
                one.noticed.as_ref().map(|(_, what)| what.as_str()),
            )
        })
        .collect();
    assert_eq!(
        noticed,
        [
            ("silent_corruption", None),
            ("temperature", Some("incident of rule temperature-critical")),
            ("agent_crash", None),
            ("network", Some("incident of rule silence")),
            ("boot_failure", Some("incident of rule gpus-gone")),
        ]
    );
}

#[test]
fn each_machine_that_comes_ends_one_lack() {
    let text = format!(
        "name: recover
{POOL}pools:
  main: {{provider: fake, instance_type: gpu, region: here, min_nodes: 10, max_nodes: 12, max_surge: 0, budget: 1, max_launches_per_hour: 100}}
events:
  - {{at: 10m, action: inject_failure, target: pool/main/0, params: {{failure_type: gpu_lost}}}}
  - {{at: 10m, action: inject_failure, target: pool/main/4, params: {{failure_type: gpu_lost}}}}
  - {{at: 10m, action: inject_failure, target: pool/main/8, params: {{failure_type: machine_vanish}}}}
  - {{at: 58m, action: inject_failure, target: pool/main/0, params: {{failure_type: gpu_lost}}}}
stress: {{duration: 59m}}
"
    );
    let record = run(&text, 1).play();
    assert_eq!(record.outcome, Outcome::Passed);
    let mut times = record.recovery_times.clone();
    times.sort();
    assert_eq!(times.len(), 3, "{times:?}");
    // One by one, as the budget of one allows.
    let apart = times.windows(2).all(|pair| pair[1] > pair[0]);
    assert!(apart, "{times:?}");
    assert_eq!(record.unrecovered.len(), 1);
    assert!(
        record.unrecovered[0].as_secs() <= 60,
        "{:?}",
        record.unrecovered
    );
}

#[test]
fn an_assertion_about_nothing_does_not_hold() {
    for assertion in [
        "{type: node_status, target: '*', expected: active}",
        "{type: health_status, target: '*', expected: healthy}",
        "{type: capacity, at_least: 50}",
        "{type: time_to_recover, percentile: 100, at_most: 1h}",
    ] {
        let text = format!(
            "name: nothing
fleet:
  - {{id: a, gpu_count: 8}}
events:
  - {{at: 1m, action: assert, params: {{assertion: {assertion}}}}}
  - {{at: 5m, action: start_fleet}}
"
        );
        let Outcome::Failed(wrong) = run(&text, 1).play().outcome else {
            panic!("{assertion} holds of nothing");
        };
        assert!(
            wrong.contains("there are no")
                || wrong.contains("no capacity")
                || wrong.contains("no failure"),
            "{wrong}"
        );
    }
    // A node whose machine is gone is still one of the control plane's.
    let gone = "name: gone
fleet:
  - {id: a, gpu_count: 8}
  - {id: b, gpu_count: 8}
events:
  - {at: 0s, action: start_fleet}
  - {at: 1m, action: inject_failure, target: b, params: {failure_type: machine_vanish}}
  - {at: 10m, action: wait}
assertions:
  - {type: node_status, target: '*', expected: active}
";
    let Outcome::Failed(wrong) = run(gone, 1).play().outcome else {
        panic!("a node that vanished is no node");
    };
    assert!(wrong.contains("node b has"), "{wrong}");
}

#[test]
fn a_moment_is_counted_once() {
    let text = "name: counted
fleet:
  - {id: a, gpu_count: 8}
events:
  - {at: 0s, action: start_fleet}
  - {at: 1m, action: inject_failure, target: a, params: {failure_type: network}}
  - {at: 1m, action: wait_for_status, target: a, params: {expected_status: unhealthy, timeout: 10m}}
  - {at: 3m, action: wait}
";
    let record = run(text, 1).play();
    assert_eq!(record.outcome, Outcome::Passed);
    let times: Vec<_> = record.samples.iter().map(|sample| sample.at).collect();
    let rise = times.windows(2).all(|pair| pair[0] < pair[1]);
    assert!(rise, "{times:?}");
}

#[test]
fn a_stress_run_that_starts_its_fleet_by_an_event_waits_for_no_node() {
    let text = "name: scripted
events:
  - {at: 1m, action: start_fleet}
stress:
  duration: 10m
  metrics_interval: 10s
  fleet_gen:
    total_nodes: 5
    templates: [{name: gpu, weight: 1, gpu_count: 8}]
    startup: {pattern: instant}
assertions:
  - {type: node_status, target: '*', expected: active}
";
    let record = run(text, 1).play();
    assert_eq!(record.outcome, Outcome::Passed);
    assert!(record.ended.0 <= 601_000_000, "it took {}", record.ended.0);
    // What is counted after the start-up is counted once the fleet is up.
    assert!(record.started.0 > 60_000_000, "{:?}", record.started);
    let mut samples = record.samples.iter();
    let rest = samples.find(|sample| sample.at >= record.started);
    assert_eq!(rest.map(|sample| sample.nodes), Some(5));
}

#[test]
fn capacity_of_a_pool_counts_the_gpus_of_its_own_machines() {
    let text = "name: mixed
providers:
  east: {type: fake, gpu_count: 8}
  west: {type: fake, gpu_count: 4}
cloud:
  boot: {min: 1m, max: 1m}
  capacity: {east: 2}
pools:
  main:
    instance_type: gpu
    min_nodes: 6
    max_nodes: 8
    strategy: priority
    providers:
      - {name: east, priority: 1, regions: [here]}
      - {name: west, priority: 2, regions: [here]}
events:
  - {at: 30m, action: assert, params: {assertion: {type: node_count, status: active, expected: \"6\"}}}
stress: {duration: 10h}
assertions:
  - {type: capacity, pool: main, at_least: 98}
";
    let record = run(text, 1).play();
    assert_eq!(record.outcome, Outcome::Passed);
    let last = record.samples.last().expect("it was counted");
    assert_eq!((last.gpus_asked, last.gpus_active), (32, 32));
    // What is lost belongs to the machine that left its place.
    let broken = text.replace(
        "stress: {duration: 10h}",
        "  - {at: 1h, action: automation, params: {automation: \"off\"}}
  - {at: 1h, action: inject_failure, target: pool/main/5, params: {failure_type: gpu_lost}}
stress: {duration: 2h}",
    );
    let broken = broken.replace("at_least: 98", "at_most: 98");
    let record = self::run(&broken, 1).play();
    assert_eq!(record.outcome, Outcome::Passed);
    let last = record.samples.last().expect("it was counted");
    assert_eq!((last.gpus_asked, last.gpus_active), (32, 28));
    assert!(
        (hours(&record, "gpu_lost") - 4.0).abs() < 0.2,
        "{:?}",
        record.lost_gpu_hours
    );
}

#[test]
fn every_open_breaker_of_a_pool_is_counted_once() {
    let text = format!(
        "name: breakers
{POOL}pools:
  main: {{provider: fake, instance_type: gpu, region: here, min_nodes: 12, max_nodes: 14, budget: 1, max_launches_per_hour: 100}}
events:
EVENTS
stress: {{duration: 3h}}
"
    );
    let most = |events: &str| {
        let record = run(&text.replace("EVENTS", events), 1).play();
        assert_eq!(record.outcome, Outcome::Passed);
        let pools = record
            .samples
            .iter()
            .flat_map(|sample| sample.pools.values());
        pools.map(|pool| pool.breakers).max().unwrap_or_default()
    };
    // Eight nodes wait for one repair breaker.
    let sick: String = (0..8)
        .map(|at| format!("  - {{at: 30m, action: inject_failure, target: pool/main/{at}, params: {{failure_type: xid_error, xid_code: 79}}}}\n"))
        .collect();
    assert_eq!(most(sick.trim_end()), 1);
    // Nobody waits for the breaker of an offering whose machines never come.
    let duds = "  - {at: 30m, action: cloud_fault, params: {fault: never_boots, duration: 2h}}
  - {at: 31m, action: scale_pool, params: {pool: main, nodes: 14}}";
    assert_eq!(most(duds), 1);
}

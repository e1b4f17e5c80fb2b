//! Scenarios as the engine runs them: how often things break, and what stays the same.

mod scenario;

use navarch_sim::record::{Cause, Outcome};
use scenario::run;

fn stress(nodes: u32, minutes: u32, chaos: &str) -> String {
    format!(
        "name: rates
server: {{heartbeat_interval: 30s, health_check_interval: 60s}}
stress:
  duration: {minutes}m
  metrics_interval: 1m
  fleet_gen:
    total_nodes: {nodes}
    templates: [{{name: gpu, weight: 1, gpu_count: 8}}]
    startup: {{pattern: instant}}
  chaos:
{chaos}"
    )
}

/// Counts of independent events lie within five standard deviations of their mean but once in
/// millions.
#[track_caller]
fn about(found: usize, mean: f64) {
    let off = (found as f64 - mean).abs();
    assert!(off <= 5.0 * mean.sqrt(), "{found} where {mean} are due");
}

#[test]
fn as_much_breaks_as_the_rate_says_however_large_the_fleet_is() {
    for (nodes, minutes, rate) in [(100, 60, 20.0), (1000, 5, 50.0), (500, 2, 400.0)] {
        let chaos = format!("    failure_rate: {rate}\n    xid_distribution: {{13: 1}}\n");
        let record = run(&stress(nodes, minutes, &chaos), 5).play();
        assert_eq!(record.outcome, Outcome::Passed);
        let mean = rate * f64::from(minutes) * f64::from(nodes) / 1000.0;
        about(record.injections.len(), mean);
    }
}

#[test]
fn rates_by_node_day_weights_and_lemons_are_kept() {
    let chaos = "    rates:
      - {type: network, per_1000_node_days: 40000, mean_duration: 1m}
      - {type: temperature, per_1000_node_days: 10000}
    lemons: {fraction: 0.1, multiple: 10}
";
    let record = run(&stress(100, 60, chaos), 9).play();
    let days = 100.0 / 24.0 / 1000.0;
    let of = |word: &str| {
        let all = record.injections.iter();
        all.filter(|one| one.kind.word() == word).count()
    };
    let lemons: Vec<_> = record.nodes.iter().filter(|(_, node)| node.lemon).collect();
    about(lemons.len(), 10.0);
    // What the lemons add to the ordinary rate.
    let more = 1.0 + 9.0 * lemons.len() as f64 / 100.0;
    about(of("network"), 40_000.0 * days * more);
    about(of("temperature"), 10_000.0 * days * more);
    let sour: u32 = lemons.iter().map(|(_, node)| node.failures).sum();
    let share = 10.0 * lemons.len() as f64 / (100.0 * more);
    about(sour as usize, record.injections.len() as f64 * share);
}

#[test]
fn an_outage_of_a_rack_hits_that_rack_alone() {
    let text = "name: rack
providers:
  east: {type: fake, gpu_count: 8}
pools:
  main: {provider: east, instance_type: gpu, region: r1, zones: [r1-a], min_nodes: 2, max_nodes: 4}
stress:
  duration: 10m
  fleet_gen:
    total_nodes: 40
    templates: [{name: gpu, weight: 1, gpu_count: 8}]
    providers: {east: 1, west: 1}
    regions: {r1: 1, r2: 1}
    zones: {r1: [r1-a, r1-b], r2: [shared]}
    nodes_per_rack: 4
  chaos:
    scheduled_outages:
      - {name: dark, start_time: 1m, duration: 5m, scope: rack, target: west-r1-b-rack-000, failure_type: network}
      - {name: grey, start_time: 7m, duration: 1m, scope: rack, target: east-r2-shared-rack-000, failure_type: network}
";
    let record = run(text, 1).play();
    assert_eq!(record.outcome, Outcome::Passed);
    let nodes: Vec<u32> = record.outages.iter().map(|one| one.nodes).collect();
    assert_eq!(nodes, [4, 4]);
    let mut of = record.nodes.values().map(|node| {
        let place = &node.place;
        (&place.rack, (&place.provider, &place.region, &place.zone))
    });
    let mut stands = std::collections::BTreeMap::new();
    let one_zone = of.all(|(rack, zone)| *stands.entry(rack).or_insert(zone) == zone);
    assert!(one_zone, "{stands:?}");
}

#[test]
fn an_outage_hits_the_nodes_of_its_zone_and_no_other_and_ends() {
    let text = "name: zones
fleet:
  - {id: a1, provider: gcp, region: r, zone: r-a, gpu_count: 8}
  - {id: a2, provider: gcp, region: r, zone: r-a, gpu_count: 8}
  - {id: b1, provider: gcp, region: r, zone: r-b, gpu_count: 8}
events:
  - {at: 0s, action: start_fleet}
stress:
  duration: 10m
  chaos:
    scheduled_outages:
      - {name: dark, start_time: 2m, duration: 3m, scope: zone, target: r-a, failure_type: network}
assertions:
  - {type: node_status, target: a1, expected: active}
  - {type: node_status, target: a2, expected: active}
  - {type: invariants}
";
    let record = run(text, 1).play();
    assert_eq!(record.outcome, Outcome::Passed);
    let hit: Vec<_> = record
        .injections
        .iter()
        .map(|one| one.node.as_str())
        .collect();
    assert_eq!(hit, ["a1", "a2"]);
    assert!(record.injections.iter().all(|one| one.ended.is_some()));
    assert_eq!(record.outages[0].nodes, 2);
}

#[test]
fn failures_cause_failures_within_their_scope_and_depth() {
    let chaos = "    failure_rate: 30
    xid_distribution: {13: 1}
    cascading: {probability: 1, max_depth: 2, min_delay: 1s, max_delay: 2s, scope: region, max_affected_percent: 0.0001}
";
    let record = run(&stress(200, 10, chaos), 3).play();
    let place = |at: usize| {
        let node = &record.injections[at].node;
        let place = record.nodes[node].place.clone();
        (place.provider, place.region)
    };
    let mut deepest = 0;
    let (mut own, mut caused) = (0, 0);
    for (at, injection) in record.injections.iter().enumerate() {
        let (mut depth, mut cause) = (0, injection.cause.clone());
        match &injection.cause {
            Cause::Cascade(of) => {
                caused += 1;
                assert_eq!(place(at), place(*of), "{injection:?}");
            }
            _ => own += 1,
        }
        while let Cause::Cascade(of) = cause {
            depth += 1;
            cause = record.injections[of].cause.clone();
        }
        deepest = deepest.max(depth);
    }
    assert_eq!(deepest, 2);
    // Each failure above the last generation causes one more; those of the last seconds are not
    // there yet.
    assert!(
        caused >= 2 * own - 6 && caused <= 2 * own,
        "{own} caused {caused}"
    );
}

/// What a failure brings along happens on one other node of the scope, or on the share that the
/// scenario says.
#[test]
fn a_correlated_failure_hits_one_other_node_of_its_scope_or_a_share_of_them() {
    let hit = |scope: &str| {
        let text = format!(
            "name: pairs
fleet:
  - {{id: a, zone: z, rack: r, gpu_count: 4}}
  - {{id: b, zone: z, rack: r, gpu_count: 4}}
  - {{id: c, zone: z, rack: r, gpu_count: 4}}
  - {{id: d, zone: z, rack: r, gpu_count: 4}}
  - {{id: e, zone: z, rack: r, gpu_count: 4}}
  - {{id: f, zone: z, rack: s, gpu_count: 4}}
events:
  - {{at: 10s, action: inject_failure, target: a, params: {{failure_type: power_error}}}}
stress:
  duration: 1m
  chaos:
    correlated_failures:
      - {{trigger: power_error, response: pcie_error, delay: 5s{scope}}}
"
        );
        let record = run(&text, 4).play();
        let caused = record.injections.iter();
        let caused = caused.filter(|one| one.cause == Cause::Cascade(0));
        let mut nodes: Vec<String> = caused.map(|one| one.node.to_string()).collect();
        nodes.sort();
        nodes
    };
    assert_eq!(hit(""), ["a"]);
    let one = hit(", scope: rack");
    assert!(one.len() == 1 && "bcde".contains(&one[0]), "{one:?}");
    let half = hit(", scope: rack, affected: 50%");
    assert!(
        half.len() == 2 && !half.contains(&"a".to_owned()),
        "{half:?}"
    );
    assert_eq!(hit(", scope: rack, affected: 100%"), ["b", "c", "d", "e"]);
    assert_eq!(hit(", scope: zone, affected: 1"), ["b", "c", "d", "e", "f"]);
    assert_eq!(hit(", scope: zone, probability: 0"), Vec::<String>::new());
}

#[test]
fn an_external_node_that_is_unhealthy_is_replaced_where_the_scenario_says_so() {
    let text = "name: replaced
fleet:
  - {id: a, gpu_count: 8}
events:
  - {at: 1m, action: inject_failure, target: a, params: {failure_type: gpu_lost}}
stress:
  duration: 10m
  chaos:
    recovery: {probability: 0, mean_time: 1m, replace_fatal: true, replace_cold_start: 45s}
assertions:
  - {type: node_status, target: a, expected: active}
  - {type: node_count, status: unhealthy, expected: \"0\"}
  - {type: time_to_recover, percentile: 100, at_most: 90s}
";
    let record = run(text, 1).play();
    assert_eq!(record.outcome, Outcome::Passed);
    let names: Vec<_> = record.nodes.keys().map(|node| node.as_str()).collect();
    assert_eq!(names, ["a", "a-gen2"]);
    assert_eq!(record.recovery_times.len(), 1);
}

#[test]
fn a_pool_replaces_what_breaks_and_the_record_says_what_it_cost() {
    let text = "name: pool
pools:
  main: {provider: fake, instance_type: gpu, region: here, min_nodes: 3, max_nodes: 4, budget: 1}
providers:
  fake: {type: fake, gpu_count: 8}
cloud:
  prices: {fake: 30}
events:
  - {at: 10m, action: inject_failure, target: pool/main/0, params: {failure_type: gpu_lost}}
stress:
  duration: 1h
assertions:
  - {type: node_count, status: active, expected: \"3\"}
  - {type: launches, expected: \"4\"}
  - {type: incidents, at_least: 1}
  - {type: capacity, at_least: 90}
  - {type: invariants}
";
    let record = run(text, 1).play();
    assert_eq!(record.outcome, Outcome::Passed);
    let hours = record.ended.0 as f64 / 3.6e9;
    let cost = 30.0 * 3.0 * hours;
    let dollars = record.cost_dollars;
    assert!(
        dollars > cost * 0.95 && dollars < cost * 1.2,
        "{dollars} of about {cost}"
    );
    assert_eq!(record.recovery_times.len(), 1);
    let lost = record
        .lost_gpu_hours
        .get("gpu_lost")
        .copied()
        .unwrap_or_default();
    assert!(lost > 0.0 && lost < 8.0, "{:?}", record.lost_gpu_hours);
}

#[test]
fn silent_corruption_shows_in_the_result_of_a_diagnostic_alone() {
    let text = "name: silent
fleet:
  - {id: a, gpu_count: 8}
events:
  - {at: 0s, action: start_fleet}
  - {at: 1m, action: inject_failure, target: a, params: {failure_type: silent_corruption}}
  - {at: 32m, action: issue_command, target: a, params: {command_type: run_diagnostic}}
  - {at: 36m, action: wait}
assertions:
  - {type: incidents, at_most: 0}
";
    let mut run = run(text, 1);
    while run.advance().is_some() {}
    let results: Vec<String> = run
        .sim()
        .state()
        .commands
        .values()
        .map(|command| command.result.clone())
        .collect();
    assert_eq!(results, ["wrong results"]);
    assert_eq!(run.finish(false).outcome, Outcome::Passed);
}

#[test]
fn failures_recover_as_often_and_as_soon_as_the_scenario_says() {
    let chaos = "    failure_rate: 50
    failure_types: [{type: temperature, weight: 1}]
    recovery: {probability: 0.5, mean_time: 2m, std_dev: 0s}
";
    let record = run(&stress(200, 40, chaos), 4).play();
    let old = record.ended.0 - 120_000_001;
    let due: Vec<_> = record
        .injections
        .iter()
        .filter(|one| one.at.0 < old)
        .collect();
    let ended: Vec<_> = due
        .iter()
        .filter_map(|one| Some((one.at, one.ended?)))
        .collect();
    let off = (ended.len() as f64 - due.len() as f64 / 2.0).abs();
    assert!(
        off < 5.0 * (due.len() as f64 / 4.0).sqrt(),
        "{} of {}",
        ended.len(),
        due.len()
    );
    for (at, ended) in ended {
        assert_eq!(ended.since(at).as_secs(), 120);
    }
}

#[test]
fn new_nodes_fail_more_often_for_as_long_as_the_scenario_says() {
    let chaos = "    failure_rate: 20
    xid_distribution: {13: 1}
    infant_mortality: {lasts: 30m, multiple: 5}
";
    let record = run(&stress(200, 60, chaos), 6).play();
    let new = |node| record.nodes[node].powered.0 + 1_800_000_000;
    let (young, grown): (Vec<_>, Vec<_>) = record
        .injections
        .iter()
        .partition(|one| one.at.0 < new(&one.node));
    about(grown.len(), 20.0 * 0.2 * 30.0);
    // The start-up is over before the chaos begins.
    about(
        young.len(),
        5.0 * 20.0 * 0.2 * (1800.0 - record.started.0 as f64 / 1e6) / 60.0,
    );
}

#[test]
fn chance_finds_every_machine_of_a_pool_however_many_there_are() {
    // Machines that come for others that go are more than the pool may keep.
    let text = "name: room
providers:
  fake: {type: fake, gpu_count: 8}
pools:
  main: {provider: fake, instance_type: gpu, region: here, min_nodes: 4, max_nodes: 4, max_surge: 8}
fleet:
  - {id: a, gpu_count: 8}
events:
  - {at: 0s, action: start_fleet}
stress:
  duration: 10h
  chaos:
    failure_rate: 100
    xid_distribution: {13: 1}
";
    let record = run(text, 1).play();
    assert_eq!(record.outcome, Outcome::Passed);
    about(record.injections.len(), 100.0 * 600.0 * 5.0 / 1000.0);
}

#[test]
fn two_runs_with_pools_crashes_and_outages_are_the_same() {
    let text = "name: same
providers:
  fake: {type: fake, gpu_count: 8}
pools:
  main: {provider: fake, instance_type: gpu, region: here, zones: [a, b], min_nodes: 6, max_nodes: 9, budget: 2}
  spot: {provider: fake, instance_type: gpu, region: here, zones: [a], capacity: spot, min_nodes: 2, max_nodes: 4}
fleet:
  - {id: one, provider: gcp, zone: z, gpu_count: 8}
  - {id: two, provider: gcp, zone: z, gpu_count: 8}
events:
  - {at: 5m, action: crash, params: {down: 1m}}
  - {at: 10m, action: cloud_fault, params: {fault: stale_listings, duration: 10m}}
  - {at: 15m, action: scale_pool, params: {pool: main, nodes: 8}}
stress:
  duration: 40m
  chaos:
    failure_rate: 100
    failure_types: [{type: xid_error, weight: 3}, {type: network, weight: 1}, {type: spot_interruption, weight: 1}]
    rates:
      - {type: machine_hang, per_1000_node_days: 20000, permanent: 100%}
    cascading: {probability: 0.3, max_depth: 2, max_delay: 10s, scope: zone, max_affected_percent: 50%}
    correlated_failures:
      - {trigger: network, response: driver_hang, probability: 0.3}
    recovery: {probability: 0.7, mean_time: 3m, replace_fatal: true}
    control_plane_crashes: 4m
    scheduled_outages:
      - {name: dark, start_time: 8m, duration: 5m, scope: zone, target: a, failure_type: network}
";
    for seed in [1, 2, 3] {
        let [one, other] = [(); 2].map(|()| {
            let mut run = run(text, seed);
            while run.advance().is_some() {}
            let trace = run.sim().trace().to_owned();
            (trace, run.finish(false))
        });
        assert_eq!(one.1.outcome, Outcome::Passed, "seed {seed}");
        assert!(
            one.1.crashes > 3 && one.1.outages[0].nodes > 2,
            "seed {seed}"
        );
        assert!(one.0 == other.0, "seed {seed}: the traces differ");
        assert_eq!(
            format!("{:?}", one.1),
            format!("{:?}", other.1),
            "seed {seed}"
        );
    }
}

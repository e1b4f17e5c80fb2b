//! What breaks on machines and what is repaired: faults that overlap, reboots, outages, cascades.

mod scenario;

use navarch_sim::record::{Cause, Outcome, Record};
use scenario::run;

/// External nodes under events, without chaos.
fn scripted(nodes: u32, events: &str, assertions: &str) -> String {
    let fleet: String = (0..nodes)
        .map(|at| {
            format!(
                "  - {{id: n{at}, provider: gcp, region: r, zone: z, rack: k{}, gpu_count: 8}}\n",
                at / 4
            )
        })
        .collect();
    format!(
        "name: broken
server: {{heartbeat_interval: 15s, heartbeat_timeout: 45s, health_check_interval: 30s}}
fleet:
{fleet}events:
  - {{at: 0s, action: start_fleet}}
{events}assertions:
  - {{type: invariants}}
{assertions}"
    )
}

#[track_caller]
fn passed(text: &str, seed: u64) -> Record {
    let record = run(text, seed).play();
    assert_eq!(record.outcome, Outcome::Passed, "{:#?}", record.injections);
    record
}

#[test]
fn healing_another_fault_revives_no_machine_that_hangs() {
    for kind in ["machine_hang", "machine_stop"] {
        let events = format!(
            "  - {{at: 1m, action: inject_failure, target: n0, params: {{failure_type: xid_error, xid_code: 79}}}}
  - {{at: 2m, action: inject_failure, target: n0, params: {{failure_type: {kind}}}}}
  - {{at: 3m, action: recover_failure, target: n0, params: {{failure_type: xid_error}}}}
  - {{at: 10m, action: assert, params: {{assertion: {{type: node_status, target: n0, expected: unhealthy}}}}}}
  - {{at: 10m, action: recover_failure, target: n0, params: {{failure_type: {kind}}}}}
  - {{at: 15m, action: wait}}
"
        );
        passed(
            &scripted(
                2,
                &events,
                "  - {type: node_status, target: '*', expected: active}\n",
            ),
            1,
        );
    }
}

#[test]
fn the_end_of_a_fault_leaves_the_others_of_its_kind() {
    let cut = "  - {at: 1m, action: inject_failure, target: n0, params: {failure_type: network}}
  - {at: 2m, action: inject_failure, target: n0, params: {failure_type: network, duration: 1m}}
  - {at: 20m, action: wait}
";
    let silent = "  - {type: node_status, target: n0, expected: unhealthy}\n";
    passed(&scripted(2, cut, silent), 1);
    let faults = [
        ("temperature", "duration: 1m"),
        ("pcie_error", "gpu_index: 3, duration: 1m"),
        ("power_error", "gpu_index: 3, duration: 1m"),
    ];
    for (kind, other) in faults {
        let events = format!(
            "  - {{at: 1m, action: inject_failure, target: n0, params: {{failure_type: {kind}}}}}
  - {{at: 2m, action: inject_failure, target: n0, params: {{failure_type: {kind}, {other}}}}}
  - {{at: 20m, action: wait}}
"
        );
        let health = if kind == "temperature" {
            "unhealthy"
        } else {
            "degraded"
        };
        let bad = format!("  - {{type: health_status, target: n0, expected: {health}}}\n");
        passed(&scripted(2, &events, &bad), 1);
    }
    let driver = "  - {at: 1m, action: inject_failure, target: n0, params: {failure_type: nvml_failure}}
  - {at: 2m, action: inject_failure, target: n0, params: {failure_type: backend_error, duration: 1m}}
  - {at: 20m, action: wait}
";
    let record = passed(&scripted(2, driver, ""), 1);
    // The boot that repairs the one repairs the other too, and both say so.
    let ended: Vec<_> = record.injections.iter().map(|one| one.ended).collect();
    assert_eq!(ended[0], ended[1]);
}

#[test]
fn an_outage_takes_the_machines_that_come_while_it_lasts() {
    let text = "name: late
pools:
  main: {provider: fake, instance_type: gpu, region: here, zones: [a], min_nodes: 2, max_nodes: 6}
providers:
  fake: {type: fake, gpu_count: 8}
cloud:
  boot: {min: 1m, max: 1m}
events:
  - {at: 30s, action: scale_pool, params: {pool: main, nodes: 4}}
  - {at: 3m, action: assert, params: {assertion: {type: node_count, status: active, expected: \"2\"}}}
stress:
  duration: 20m
  chaos:
    scheduled_outages:
      - {name: dark, start_time: 1m, duration: 10m, scope: zone, target: a, failure_type: temperature}
assertions:
  - {type: invariants}
";
    let record = run(text, 1).play();
    let outage = &record.outages[0];
    let lasts = |at| at >= outage.from && outage.until.is_none_or(|until| at < until);
    let late = record
        .nodes
        .iter()
        .filter(|(_, node)| node.registered.is_some_and(lasts));
    let late: Vec<_> = late.map(|(id, _)| id).collect();
    assert!(late.len() >= 2, "{late:?}");
    for node in late {
        let hit = record.injections.iter().any(|one| one.node == *node);
        assert!(hit, "{node} came into the outage and was not hit");
    }
    assert_eq!(outage.nodes as usize, record.injections.len());
}

#[test]
fn failures_that_bring_each_other_along_end() {
    // Each brings itself along for certain: by its XIDs, or with more than one of seven others.
    let loops = [
        "{trigger: temperature, response: temperature, probability: 0.9, scope: rack}",
        "{trigger: temperature, response: pcie_error, probability: 0.9, scope: all}
      - {trigger: pcie_error, response: temperature, probability: 0.9, scope: all}",
    ];
    for rules in loops {
        let events = "  - {at: 1m, action: inject_failure, target: n0, params: {failure_type: temperature}}\n";
        let text = scripted(16, events, "").replace(
            "assertions:",
            &format!("stress:\n  duration: 5m\n  chaos:\n    correlated_failures:\n      - {rules}\nassertions:"),
        );
        let mut run = run(&text, 1);
        for _ in 0..1000 {
            if run.advance().is_none() {
                break;
            }
        }
        let record = run.finish(false);
        assert_eq!(record.outcome, Outcome::Passed);
        let many = record.injections.len();
        assert!(many > 2 && many <= 2 * 16, "{many} failures");
    }
}

#[test]
fn an_xid_triggers_by_whatever_failure_shows_it() {
    let events =
        "  - {at: 1m, action: inject_failure, target: n0, params: {failure_type: nvlink_error}}
  - {at: 1m, action: inject_failure, target: n1, params: {failure_type: gpu_lost}}
";
    let text = scripted(2, events, "").replace(
        "assertions:",
        "stress:\n  duration: 5m\n  chaos:\n    correlated_failures:
      - {trigger: \"74\", response: pcie_error}\n      - {trigger: \"79\", response: power_error}\nassertions:",
    );
    let record = passed(&text, 1);
    let injections = record.injections.iter();
    let kinds: Vec<_> = injections.map(|one| one.kind.word()).collect();
    assert_eq!(
        kinds,
        ["nvlink_error", "pcie_error", "gpu_lost", "power_error"]
    );
}

#[test]
fn a_machine_that_vanishes_is_replaced_and_takes_others_along() {
    let events = "  - {at: 1m, action: inject_failure, target: n0, params: {failure_type: machine_vanish}}\n";
    let text = scripted(4, events, "  - {type: node_status, target: n0, expected: active}\n  - {type: node_count, status: terminated, expected: \"1\"}\n").replace(
        "assertions:",
        "stress:
  duration: 20m
  chaos:
    recovery: {probability: 0, replace_fatal: true, replace_cold_start: 45s}
    cascading: {probability: 1, max_depth: 1, scope: rack, max_affected_percent: 100%}
    xid_distribution: {13: 1}
assertions:",
    );
    let record = passed(&text, 1);
    let names: Vec<_> = record.nodes.keys().map(|node| node.as_str()).collect();
    assert_eq!(names, ["n0", "n0-gen2", "n1", "n2", "n3"]);
    let caused = record
        .injections
        .iter()
        .filter(|one| one.cause == Cause::Cascade(0));
    assert!(caused.count() > 0, "{:?}", record.injections);
    assert_eq!(record.recovery_times.len(), 1);
    assert!(record.recovery_times[0].as_secs() < 180);
}

#[test]
fn a_boot_repairs_what_a_boot_repairs() {
    let events = "  - {at: 1m, action: inject_failure, target: n0, params: {failure_type: row_remap, gpu_index: 2}}
  - {at: 1m, action: inject_failure, target: n0, params: {failure_type: power_error}}
  - {at: 2m, action: inject_failure, target: n0, params: {failure_type: nvml_failure}}
  - {at: 3m, action: recover_failure, target: n0, params: {failure_type: nvml_failure}}
  - {at: 6m, action: wait}
";
    let record = passed(&scripted(1, events, ""), 1);
    let open: Vec<_> = record
        .injections
        .iter()
        .map(|one| (one.kind.word(), one.ended.is_none()))
        .collect();
    assert_eq!(
        open,
        [
            ("row_remap", false),
            ("power_error", true),
            ("nvml_failure", false)
        ]
    );
}

#[test]
fn every_gpu_fails_where_the_scenario_says_so_in_its_words() {
    let events = "  - {at: 1m, action: inject_failure, target: n0, params: {failure_type: device_error, gpu_index: -1, message: no answer from any}}
  - {at: 1m, action: inject_failure, target: n1, params: {failure_type: xid_error, xid_code: 48, gpu_index: -1, message: two bits are wrong}}
  - {at: 1m, action: inject_failure, target: n2, params: {failure_type: backend_error, message: the library is gone}}
  - {at: 5m, action: wait}
";
    let mut run = run(&scripted(3, events, ""), 1);
    while run.advance().is_some() {}
    let mut told: Vec<(String, Option<i32>, String)> = Vec::new();
    for incident in run.sim().state().incidents.values() {
        let words = incident.evidence[0].message.clone();
        told.push((incident.key.node.to_string(), incident.key.gpu, words));
    }
    told.sort();
    let all = |node: &str, words: &str| -> Vec<_> {
        (0..8)
            .map(|gpu| (node.to_owned(), Some(gpu), words.to_owned()))
            .collect()
    };
    let mut expected = all("n0", "no answer from any");
    expected.extend(all("n1", "two bits are wrong"));
    expected.push(("n2".to_owned(), None, "the library is gone".to_owned()));
    assert_eq!(told, expected);
}

#[test]
fn a_fleet_that_was_stopped_starts_again() {
    let events = "  - {at: 1s, action: start_fleet}
  - {at: 5m, action: assert, params: {assertion: {type: node_status, target: '*', expected: active}}}
  - {at: 5m, action: stop_fleet}
  - {at: 15m, action: assert, params: {assertion: {type: node_status, target: '*', expected: unhealthy}}}
  - {at: 15m, action: start_fleet}
  - {at: 20m, action: assert, params: {assertion: {type: node_status, target: '*', expected: active}}}
  - {at: 20m, action: start_fleet}
  - {at: 21m, action: stop_fleet}
  - {at: 21m, action: start_fleet}
  - {at: 25m, action: wait}
";
    let record = passed(
        &scripted(
            3,
            events,
            "  - {type: node_status, target: '*', expected: active}\n  - {type: node_count, expected: \"3\"}\n",
        ),
        1,
    );
    // What its owner stopped is not asked for.
    let lost: f64 = record.lost_gpu_hours.values().sum();
    let asked = 3.0 * 8.0 * 15.0 / 60.0;
    assert!(
        (record.asked_gpu_hours - asked).abs() < 0.1,
        "{}",
        record.asked_gpu_hours
    );
    assert!(lost < 1.0, "{:?}", record.lost_gpu_hours);
}

#[test]
fn a_fleet_that_is_started_twice_while_it_starts_is_there_once() {
    let text = "name: twice
events:
  - {at: 0s, action: start_fleet}
  - {at: 30s, action: start_fleet}
stress:
  duration: 60m
  fleet_gen:
    total_nodes: 60
    templates: [{name: gpu, weight: 1, gpu_count: 8}]
    startup: {pattern: linear, duration: 1m, jitter_percent: 0}
  chaos:
    failure_rate: 200
    xid_distribution: {13: 1}
assertions:
  - {type: node_count, expected: \"60\"}
  - {type: node_status, target: '*', expected: active}
";
    let record = passed(text, 3);
    let mean = 200.0 * 60.0 * 60.0 / 1000.0;
    let off = (record.injections.len() as f64 - mean).abs();
    assert!(
        off < 5.0 * mean.sqrt(),
        "{} of {mean}",
        record.injections.len()
    );
    let spared = record.nodes.values().filter(|node| node.failures == 0);
    assert_eq!(spared.count(), 0);
}

#[test]
fn the_end_of_one_fault_of_a_cloud_leaves_the_others() {
    let text = "name: clouds
pools:
  main: {provider: fake, instance_type: gpu, region: here, zones: [a], min_nodes: 2, max_nodes: 30, max_launches_per_hour: 100}
providers:
  fake: {type: fake, gpu_count: 8}
events:
  - {at: 1s, action: cloud_fault, params: {fault: quota, duration: 1h}}
  - {at: 2s, action: cloud_fault, params: {fault: capacity, duration: 1m}}
  - {at: 3s, action: cloud_fault, params: {fault: outage, duration: 1h}}
  - {at: 4s, action: cloud_fault, params: {fault: outage, duration: 1m}}
  - {at: 5s, action: scale_pool, params: {pool: main, nodes: 20}}
  - {at: 50m, action: assert, params: {assertion: {type: launches, expected: \"2\"}}}
stress: {duration: 3h}
assertions:
  - {type: node_count, status: active, expected: \"20\"}
";
    let record = passed(text, 1);
    // Racks are of eight machines, and each machine says what it is.
    let racks: std::collections::BTreeSet<_> = record
        .nodes
        .values()
        .map(|node| (node.place.rack.as_str(), node.instance_type.as_str()))
        .collect();
    let expected = ["000", "001", "002"].map(|number| format!("fake-here-a-rack-{number}"));
    let expected = expected.each_ref().map(|rack| (rack.as_str(), "gpu"));
    assert_eq!(racks.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn listings_of_the_past_are_of_the_past() {
    let text = "name: stale
pools:
  main: {provider: fake, instance_type: gpu, region: here, zones: [a], min_nodes: 2, max_nodes: 8}
providers:
  fake: {type: fake, gpu_count: 8}
guards:
  sweep: {interval: 1m}
events:
  - {at: 10m, action: cloud_fault, params: {fault: FAULT, duration: 20m}}
  - {at: 11m, action: scale_pool, params: {pool: main, nodes: 6}}
stress: {duration: 40m}
assertions:
  - {type: invariants}
";
    let trace = |fault: &str| {
        let text = match fault {
            "calm" => text.replace(
                "  - {at: 10m, action: cloud_fault, params: {fault: FAULT, duration: 20m}}\n",
                "",
            ),
            fault => text.replace("FAULT", fault),
        };
        let mut run = run(&text, 1);
        while run.advance().is_some() {}
        run.sim()
            .trace()
            .lines()
            .filter(|line| !line.contains(" fault "))
            .collect::<Vec<_>>()
            .join("\n")
    };
    // Machines that were bought since are missing from a list that is believed to be present.
    assert_ne!(trace("stale_listings"), trace("calm"));
    let (stale, calm) = (trace("stale_listings"), trace("stale_listings"));
    assert_eq!(stale, calm);
    assert!(
        stale.contains("provider.suspect") || stale.contains("listing"),
        "{stale}"
    );
}

#[test]
fn a_run_fails_where_a_status_does_not_come_in_time() {
    let text = "name: late
events:
  - {at: 1m, action: wait_for_status, target: '*', params: {expected_status: draining, timeout: 30s}}
stress:
  duration: 10m
  fleet_gen:
    total_nodes: 2
    templates: [{name: gpu, weight: 1, gpu_count: 8}]
";
    let Outcome::Failed(wrong) = run(text, 1).play().outcome else {
        panic!("the run went on");
    };
    assert!(wrong.contains("timeout waiting"), "{wrong}");
}

/// How a run of two external nodes and two machines of a pool ends in which an event comes.
fn ends(stress: bool, event: &str) -> Outcome {
    let stress = if stress {
        "stress: {duration: 5m}\n"
    } else {
        ""
    };
    let text = format!(
        "name: undone
providers:
  fake: {{type: fake, gpu_count: 8}}
pools:
  main: {{provider: fake, instance_type: gpu, region: here, min_nodes: 2, max_nodes: 2}}
fleet:
  - {{id: a, gpu_count: 8}}
  - {{id: b, gpu_count: 8}}
events:
  - {{at: 0s, action: start_fleet}}
  - {{at: 1m, action: issue_command, target: b, params: {{command_type: cordon}}}}
  - {{at: 90s, action: crash, params: {{down: 10s}}}}
{event}
  - {{at: 5m, action: wait}}
{stress}"
    );
    run(&text, 1).play().outcome
}

#[test]
fn an_event_that_cannot_be_done_ends_the_run() {
    let undone = [
        (
            "  - {at: 3m, action: recover_failure, target: a}",
            "nothing is broken",
        ),
        (
            "  - {at: 3m, action: inject_failure, target: pool/main/0, params: {failure_type: spot_interruption}}",
            "spot machines only",
        ),
    ];
    for (event, why) in &undone {
        for stress in [false, true] {
            let Outcome::Failed(wrong) = ends(stress, event) else {
                panic!("{event} did nothing and the run passed");
            };
            assert!(wrong.contains(why), "{wrong}");
        }
    }
    // That there is nobody to ask is part of a run under stress.
    let asks = "  - {at: 95s, action: issue_command, target: a, params: {command_type: cordon}}";
    assert!(matches!(ends(false, asks), Outcome::Failed(_)));
    assert_eq!(ends(true, asks), Outcome::Passed);
}

#[test]
fn an_event_for_every_node_reaches_those_after_one_that_refuses() {
    let text = scripted(
        3,
        "  - {at: 1m, action: issue_command, target: n1, params: {command_type: cordon}}
  - {at: 2m, action: issue_command, target: n2, params: {command_type: cordon}}
  - {at: 3m, action: issue_command, target: '*', params: {command_type: uncordon}}
  - {at: 5m, action: wait}
",
        "",
    );
    let mut run = run(&text, 1);
    while run.advance().is_some() {}
    let held = run.sim().state().nodes.values();
    let held = held.filter(|node| node.is_held_by_operator()).count();
    assert_eq!(held, 0);
    let Outcome::Failed(wrong) = run.finish(false).outcome else {
        panic!("n0 was not cordoned");
    };
    assert!(wrong.contains("n0") && !wrong.contains("n1"), "{wrong}");
}

#[test]
fn a_crash_while_the_control_plane_is_away_keeps_it_away() {
    let text = scripted(
        1,
        "  - {at: 1m, action: crash, params: {down: 1m}}
  - {at: 90s, action: crash, params: {down: 10m}}
  - {at: 100s, action: crash, params: {down: 1s}}
  - {at: 15m, action: wait}
",
        "",
    );
    let mut run = run(&text, 1);
    while run.advance().is_some() {}
    let trace = run.sim().trace().to_owned();
    let starts: Vec<&str> = trace
        .lines()
        .filter(|line| line.contains("starts, epoch"))
        .collect();
    assert_eq!(starts.len(), 2, "{starts:?}");
    assert!(starts[1].starts_with("[00:11:30.000]"), "{starts:?}");
    assert_eq!(run.finish(false).crashes, 1);
}

#[test]
fn a_machine_that_has_yet_to_boot_breaks_not_and_boots_when_it_was_to() {
    let text = "name: cold
events:
  - {at: 1s, action: start_fleet}
EVENT
stress:
  duration: 10m
  fleet_gen:
    total_nodes: 4
    templates: [{name: gpu, weight: 1, gpu_count: 8}]
    startup: {pattern: instant, cold_start_min: 5m, cold_start_max: 5m}
  chaos:
    failure_rate: 4000
    failure_types: [{type: xid_error, weight: 1}]
    xid_distribution: {79: 1}
    recovery: {probability: 1, mean_time: 10s}
";
    let record = run(&text.replace("EVENT\n", ""), 1).play();
    assert_eq!(record.outcome, Outcome::Passed);
    let boots = navarch_model::Time(301_000_000);
    let early = record.injections.iter().filter(|one| one.at < boots);
    assert_eq!(early.count(), 0);
    assert!(!record.injections.is_empty());
    let registered = record.nodes.values().filter_map(|node| node.registered);
    assert!(registered.min().is_some_and(|first| first > boots));
    let event =
        "  - {at: 1m, action: inject_failure, target: '*', params: {failure_type: boot_failure}}";
    let Outcome::Failed(wrong) = self::run(&text.replace("EVENT", event), 1).play().outcome else {
        panic!("what does not run broke");
    };
    assert!(wrong.contains("boots for the first time"), "{wrong}");
}

#[test]
fn an_outage_brings_along_what_its_failures_bring_along() {
    let text = scripted(8, "", "").replace(
        "assertions:",
        "stress:
  duration: 5m
  chaos:
    correlated_failures:
      - {trigger: temperature, response: pcie_error, probability: 1, scope: zone, affected: 100%}
    scheduled_outages:
      - {name: hot, start_time: 1m, duration: 3m, scope: rack, target: k0, failure_type: temperature}
assertions:",
    );
    let record = passed(&text, 1);
    let brought = record.injections.iter();
    let brought = brought.filter(|one| matches!(one.cause, Cause::Cascade(_)));
    assert!(brought.count() >= 7, "{:?}", record.injections);
}

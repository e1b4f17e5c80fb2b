//! The scenarios of the examples load, and say what they seem to say.

use std::path::{Path, PathBuf};
use std::time::Duration;

use navarch_config::scenario::{
    Action, Bounds, Domain, Expected, FailureKind, Pattern, Scenario, Scope, Target,
};
use navarch_model::NodeStatus;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/scenarios")
}

/// The example of this name, with the text that comes with it.
fn example(name: &str) -> Scenario {
    let path = examples().join(name);
    let (scenario, text, warnings) =
        Scenario::load(&path).unwrap_or_else(|errors| panic!("{errors:#}"));
    assert_eq!(warnings, [], "{name}");
    assert_eq!(text, std::fs::read_to_string(path).expect("an example"));
    scenario
}

#[test]
fn every_example_loads_without_warnings() {
    let names = [
        "basic-fleet.yaml",
        "gpu-failure.yaml",
        "xid-classification.yaml",
        "cordon-drain.yaml",
        "quick-stress.yaml",
        "1000-node-chaos.yaml",
        "5000-node-extreme.yaml",
        "xid-comprehensive.yaml",
        "cascading-failures.yaml",
        "pools-stock-outs.yaml",
        "zone-outage.yaml",
        "control-plane-crashes.yaml",
        "day-of-load.yaml",
        "interactive.yaml",
        "spot-reclaim.yaml",
    ];
    for name in names {
        let scenario = example(name);
        assert_eq!(format!("{}.yaml", scenario.name), name);
        assert!(!scenario.description.is_empty(), "{name}");
        assert!(!scenario.assertions.is_empty(), "{name}");
    }
    assert_eq!(std::fs::read_dir(examples()).unwrap().count(), names.len());
}

#[test]
fn a_regular_scenario_is_read() {
    let scenario = example("gpu-failure.yaml");
    assert!(scenario.stress.is_none());
    let node = &scenario.fleet[0];
    assert_eq!(
        (
            node.id.as_str(),
            node.gpu_count,
            node.instance_type.as_str()
        ),
        ("broken", 8, "a3-highgpu-8g")
    );
    assert_eq!(node.place.rack, "us-central1-a-rack-1");
    let times: Vec<u64> = scenario
        .events
        .iter()
        .map(|event| event.at.as_secs())
        .collect();
    assert_eq!(times, [0, 10, 11, 12, 60, 61]);
    let Action::Inject { target, failure } = &scenario.events[1].action else {
        panic!("{:?}", scenario.events[1]);
    };
    assert_eq!(*target, Target::Node("broken".to_owned()));
    assert_eq!(
        (failure.kind, failure.xid, failure.gpu, failure.lasts),
        (FailureKind::Xid, Some(79), Some(3), None)
    );
    let status = &scenario.assertions[0].what;
    let broken = Target::Node("broken".to_owned());
    assert_eq!(*status, Expected::NodeStatus(broken, NodeStatus::Active));
    let Expected::Incidents { rule: None, count } = &scenario.assertions[2].what else {
        panic!("{:?}", scenario.assertions[2]);
    };
    assert_eq!((count.at_least, count.at_most), (Some(1.0), None));
    // What the file does not say.
    assert_eq!(
        scenario.config.server.heartbeat_interval,
        Duration::from_secs(3)
    );
    assert_eq!(
        scenario.config.server.heartbeat_timeout,
        Duration::from_secs(9)
    );
    assert_eq!(
        scenario.config.server.health_check_interval,
        Duration::from_secs(5)
    );
}

#[test]
fn a_stress_run_is_read() {
    let scenario = example("5000-node-extreme.yaml");
    assert_eq!(scenario.seed, Some(5000));
    let stress = scenario.stress.unwrap();
    assert_eq!(stress.duration, Duration::from_secs(1800));
    let fleet = stress.fleet_gen.unwrap();
    assert_eq!((fleet.total_nodes, fleet.templates.len()), (5000, 3));
    assert_eq!(fleet.startup.pattern, Pattern::Wave);
    assert!((fleet.startup.jitter - 0.2).abs() < 1e-9);
    let chaos = stress.chaos.unwrap();
    assert!(chaos.enabled);
    assert!((chaos.failure_rate - 50.0).abs() < 1e-9);
    assert_eq!(chaos.outages.len(), 4);
    assert_eq!(
        chaos.outages[0].domain,
        Domain::Named(Scope::Zone, "us-central1-a".to_owned())
    );
    assert_eq!(chaos.outages[3].domain, Domain::Fraction(0.1));
    let pair = &chaos.correlated[0];
    assert_eq!(
        (pair.trigger, pair.trigger_xid, pair.scope),
        (FailureKind::Xid, Some(74), None)
    );
    assert_eq!(chaos.correlated[1].scope, Some(Scope::Rack));
}

#[test]
fn a_scenario_with_pools_is_read() {
    let scenario = example("pools-stock-outs.yaml");
    assert!(scenario.fleet.is_empty());
    assert_eq!(scenario.cloud.capacity["east/us-east1/us-east1-b"], 5);
    assert!((scenario.cloud.prices["east"] - 24.5).abs() < 1e-9);
    let oldest = Target::Pool {
        pool: "training".to_owned(),
        index: 0,
    };
    assert!(
        matches!(&scenario.events[1].action, Action::Inject { target, .. } if *target == oldest)
    );
    let ten = Bounds {
        at_least: Some(10.0),
        at_most: Some(10.0),
    };
    let expected = Expected::NodeCount {
        status: Some(NodeStatus::Active),
        count: ten,
    };
    assert_eq!(scenario.assertions[0].what, expected);
    // Pools alone have a provider.
    let crashes = example("control-plane-crashes.yaml");
    assert_eq!(crashes.config.providers.len(), 1);
    let rates = crashes.stress.unwrap().chaos.unwrap().rates;
    let hangs: Vec<f64> = rates
        .iter()
        .filter(|rate| rate.kind == FailureKind::MachineHang)
        .map(|rate| rate.per_1000_node_days)
        .collect();
    assert_eq!(hangs, [500.0]);
}

/// A scenario that loads, with its warnings as text.
fn read(text: &str) -> (Scenario, Vec<String>) {
    let (scenario, warnings) =
        Scenario::parse("f", text).unwrap_or_else(|errors| panic!("{text}\n{errors:#}"));
    (scenario, warnings.iter().map(ToString::to_string).collect())
}

#[test]
fn every_old_spelling_means_the_new_one() {
    let node = "name: n\nfleet: [{id: a, gpu_count: 8}]\n";
    let event = |event: &str| format!("{node}events: [{{at: 1s, {event}}}]\n");
    let stress = |chaos: &str| format!("{node}stress: {{chaos: {{{chaos}}}}}\n");
    let cases = [
        (
            "name: n\nfleet: {nodes: [{id: a, gpu_count: 8}]}\n".to_owned(),
            node.to_owned(),
            "fleet.nodes",
        ),
        (
            event("action: inject_xid, target: a, xid_code: 79, gpu_index: 2"),
            event(
                "action: inject_failure, target: a, params: {failure_type: xid_error, xid_code: 79, gpu_index: 2}",
            ),
            "inject_xid is an old spelling: write inject_failure",
        ),
        (
            event("action: inject_thermal, target: a"),
            event("action: inject_failure, target: a, params: {failure_type: temperature}"),
            "inject_thermal",
        ),
        (
            event("action: inject_memory, target: a, message: m"),
            event(
                "action: inject_failure, target: a, params: {failure_type: memory_error, message: m}",
            ),
            "events[0].message is an old spelling: write events[0].params.message",
        ),
        (
            event("action: clear_errors, target: a"),
            event("action: recover_failure, target: a"),
            "clear_errors",
        ),
        (
            event("action: run_command, target: a, command: drain"),
            event("action: issue_command, target: a, params: {command_type: drain}"),
            "events[0].command is an old spelling",
        ),
        (
            event("action: assert_node_healthy, target: a"),
            event(
                "action: assert, target: a, params: {failure_type: health_status, expected_status: healthy}",
            ),
            "assert_node_healthy",
        ),
        (
            event("action: assert_node_unhealthy, target: a"),
            event(
                "action: assert, params: {assertion: {type: health_status, target: a, expected: unhealthy}}",
            ),
            "assert_node_unhealthy",
        ),
        (
            event("action: inject_failure, target: a, failure_type: xid, params: {xid_code: 79}"),
            event(
                "action: inject_failure, target: a, params: {failure_type: xid_error, xid_code: 79}",
            ),
            "xid is an old spelling: write xid_error",
        ),
        (
            event("action: recover_failure, target: a, failure_type: boot"),
            event("action: recover_failure, target: a, params: {failure_type: boot_failure}"),
            "boot is an old spelling: write boot_failure",
        ),
        (
            event("action: recover_failure, target: a, failure_type: nvml"),
            event("action: recover_failure, target: a, params: {failure_type: nvml_failure}"),
            "nvml is an old spelling: write nvml_failure",
        ),
        (
            event("action: wait_for_status, target: a, expected_status: ACTIVE, timeout: 5s"),
            event(
                "action: wait_for_status, target: a, params: {expected_status: active, timeout: 5s}",
            ),
            "ACTIVE is an old spelling: write active",
        ),
        (
            event("action: log, log_message: hello"),
            event("action: log, params: {log_message: hello}"),
            "events[0].log_message",
        ),
        (
            format!("{node}assertions: [{{target: a, expected: NODE_STATUS_ACTIVE}}]\n"),
            format!("{node}assertions: [{{target: a, expected: active}}]\n"),
            "NODE_STATUS_ACTIVE is an old spelling",
        ),
        (
            stress("xid_distribution: [{code: 79, weight: 30}, {weight: 25, code: 119}]"),
            stress("xid_distribution: {79: 30, 119: 25}"),
            "xid_distribution as a list is an old spelling",
        ),
        (
            stress("recovery: {delay_mean: 2m, delay_stddev: 30s}"),
            stress("recovery: {mean_time: 2m, std_dev: 30s}"),
            "stress.chaos.recovery.delay_mean is an old spelling",
        ),
        (
            stress("correlated_failures: [{trigger: '79', response: network, scope: same_rack}]"),
            stress("correlated_failures: [{trigger: 79, response: network, scope: rack}]"),
            "same_rack is an old spelling",
        ),
        (
            stress(
                "correlated_failures: [{trigger: network, response: xid_error, scope: same_zone}]",
            ),
            stress("correlated_failures: [{trigger: network, response: xid_error, scope: zone}]"),
            "same_zone is an old spelling",
        ),
        (
            stress("correlated_failures: [{trigger: network, response: xid_error, scope: random}]"),
            stress("correlated_failures: [{trigger: network, response: xid_error, scope: all}]"),
            "random is an old spelling",
        ),
        (
            format!("{node}stress: {{report_file: /tmp/r.json}}\n"),
            format!("{node}stress: {{report_file: r.json}}\n"),
            "r.json in there is used instead",
        ),
    ];
    for (old, new, warned) in cases {
        let (mut before, warnings) = read(&old);
        let (after, none) = read(&new);
        assert_eq!(none, [""; 0], "{new}");
        assert!(
            warnings.iter().any(|warning| warning.contains(warned)),
            "{old}: {warnings:?}"
        );
        // The name of a pair of failures is made from what the file says.
        for (before, after) in before.events.iter_mut().zip(&after.events) {
            before.line = after.line;
        }
        assert_eq!(before, after, "{old}\n{new}");
    }
}

/// What the Go project's reader takes without any old spelling.
#[test]
fn what_the_go_project_reads_is_read_without_warnings() {
    for text in [
        "name: n\nfleet: []\nstress: {fleet_gen: {total_nodes: 1, templates: [{name: t, weight: 100, gpu_count: 8}]}}\nassertions: [{type: node_count, target: all, expected: \"800\"}]\n",
        "name: n\nfleet: [{id: a}]\nevents: [{at: 0, action: start_fleet}, {at: 1m30s, action: stop_fleet}]\n",
        "name: n\nfleet: [{id: a}]\nevents: [{at: 0, action: assert, target: a, params: {failure_type: node_status, expected_status: active}}]\n",
        "name: n\nfleet: [{id: a}]\nassertions: [{target: a, expected: active}, {type: health_status, target: a, expected: degraded}]\n",
        "name: n\nfleet: [{id: a}]\nstress: {chaos: {cascading: {enabled: false}, recovery: {enabled: false}}}\n",
        "name: n\nfleet: [{id: a}]\nstress: {chaos: {cascading: {enabled: true, probability: 0.5, max_depth: 0, scope: random}}}\n",
        "name: n\nfleet: [{id: a}]\nstress: {chaos: {scheduled_outages: [{name: o, start_time: 1m, duration: 1m, scope: percentage, target: \"10\", failure_type: temperature}]}}\n",
    ] {
        assert_eq!(read(text).1, [""; 0], "{text}");
    }
}

#[test]
fn events_come_by_time_and_then_by_the_order_of_the_file() {
    let (scenario, _) = read(
        "name: n
fleet: [{id: a}]
events:
  - {at: 5s, action: log, params: {log_message: third}}
  - {at: 1s, action: log, params: {log_message: first}}
  - {at: 5s, action: log, params: {log_message: fourth}}
  - {action: wait, params: {duration: 10s}}
  - {action: log, params: {log_message: last}}
  - {at: 1s, action: log, params: {log_message: second}}
",
    );
    let said: Vec<_> = scenario
        .events
        .iter()
        .filter_map(|event| match &event.action {
            Action::Log(text) => Some((event.at.as_secs(), text.as_str(), event.line)),
            _ => None,
        })
        .collect();
    assert_eq!(
        said,
        [
            (1, "first", 5),
            (1, "second", 9),
            (5, "third", 4),
            (5, "fourth", 6),
            (15, "last", 8)
        ]
    );
    // Nothing starts the fleet, so that it starts at once.
    assert_eq!(scenario.events[0].action, Action::StartFleet);
    assert_eq!(scenario.events[0].at, Duration::ZERO);
}

#[test]
fn parameters_that_an_action_does_not_read_have_a_warning() {
    let (_, warnings) = read(
        "name: n
fleet: [{id: a}]
events:
  - {at: 1s, action: wait, target: a, params: {timeout: 5s}}
  - {at: 1s, action: inject_failure, target: a, params: {failure_type: network, xid_code: 79}}
assertions:
  - {type: invariants, target: a, expected: 5}
",
    );
    assert_eq!(
        warnings,
        [
            "f:4:36: events[0].target has no effect: wait does not read it",
            "f:4:57: events[0].params.timeout has no effect: wait does not read it",
            "f:5:91: events[1].params.xid_code has no effect: network has its own XID or none",
            "f:7:32: assertions[0].target has no effect: invariants does not read it",
            "f:7:45: assertions[0].expected has no effect: invariants does not read it",
        ]
    );
}

#[test]
fn presets_have_the_published_rates_and_own_rates_replace_them() {
    let rates = |chaos: &str| {
        let (scenario, _) = read(&format!(
            "name: n\nfleet: [{{id: a}}]\nstress: {{chaos: {{{chaos}}}}}\n"
        ));
        let chaos = scenario.stress.and_then(|stress| stress.chaos);
        chaos.expect("chaos").rates
    };
    let llama3 = rates("preset: llama3");
    let total: f64 = llama3
        .iter()
        .filter(|rate| rate.kind != FailureKind::XidBurst)
        .map(|rate| rate.per_1000_node_days)
        .sum();
    // 356 of the published failures are those of machines, in 110,592 node-days.
    assert!((total - 356.0 / 110.592).abs() < 1e-9, "{total}");
    let rsc1 = rates("preset: rsc1");
    for (one, other) in llama3.iter().zip(&rsc1) {
        let ratio = other.per_1000_node_days / one.per_1000_node_days;
        assert!((ratio - 1.7).abs() < 1e-9, "{one:?}");
        assert!(!one.source.is_empty());
    }
    let own = rates(
        "preset: llama3, rates: [{type: network, per_1000_node_days: 9}, {type: xid_burst, xid_code: 31, per_1000_node_days: 0}, {type: pcie_error, per_1000_node_days: 1}]",
    );
    let of = |kind: FailureKind| -> Vec<_> {
        own.iter()
            .filter(|rate| rate.kind == kind)
            .map(|rate| (rate.xid, rate.per_1000_node_days))
            .collect()
    };
    assert_eq!(of(FailureKind::Network), [(None, 9.0)]);
    assert_eq!(of(FailureKind::XidBurst).len(), 2);
    assert!(of(FailureKind::XidBurst).contains(&(Some(31), 0.0)));
    assert_eq!(of(FailureKind::Pcie), [(None, 1.0)]);
    assert_eq!(own.len(), llama3.len());
}

#[test]
fn copies_stay_in_the_run_directory_and_off_its_own_files() {
    let (scenario, warnings) = read(
        "name: n\nfleet: [{id: a}]\nstress: {report_file: ./report.json, html_report_file: 'a//b.html', log_file: /var/log/run.log}\n",
    );
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let stress = scenario.stress.expect("a stress run");
    assert_eq!(
        (stress.report_file, stress.html_report_file, stress.log_file),
        (
            None,
            Some("a/b.html".to_owned()),
            Some("run.log".to_owned())
        )
    );
}

#[test]
fn the_example_of_the_reference_loads() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/scenarios.md");
    let page = std::fs::read_to_string(page).expect("the reference");
    let mut blocks = page.split("```yaml\n").skip(1);
    let block = blocks.next().expect("an example").split("```").next();
    let (scenario, warnings) = read(block.expect("the end of the example"));
    assert_eq!((scenario.name.as_str(), warnings.len()), ("broken-gpu", 0));
    assert_eq!(blocks.count(), 0);
}

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

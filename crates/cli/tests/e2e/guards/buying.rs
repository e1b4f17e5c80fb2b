//! An image that never registers: few machines are paid for, and no healthy node is touched.

use serde_json::{Value, json};

use super::{Knobs, Stage, sequence};
use crate::support::{text, until};

/// At most three in a row are paid for before the launch breaker opens.
const LIMIT: usize = 3;

/// The time within which machines have to come up. Those that are well need much less.
const REGISTRATION: &str = "10s";

fn never_boots() -> Value {
    json!({"fault": "never_boots"})
}

/// The machines that a cloud was asked for, in order: when, and under which id.
fn paid(stage: &Stage, mark: u64) -> Vec<(u64, String)> {
    let phases = stage.since(mark, &["instance.phase"]);
    let launches = phases
        .iter()
        .filter(|event| text(event, "message").contains("to launching"));
    let launches = launches.map(|event| (sequence(event), text(event, "instance_id")));
    launches.collect()
}

/// Waits until the launch breaker opened; answers when.
fn until_open(stage: &Stage, mark: u64) -> u64 {
    until("the launch breaker opens", || {
        let opened = stage.since(mark, &["breaker.opened"]);
        let phases = stage.since(mark, &["instance.phase"]);
        let opened = opened.first().map(sequence);
        opened.ok_or_else(|| format!("{phases:?}"))
    })
}

#[test]
fn a_new_pool_pays_for_three_machines_that_never_register() {
    let stage = Stage::new(&Knobs {
        nodes: 6,
        // Long enough that the fault is over before the probe is launched.
        guards: "  launch_breaker: {wait: 15s}",
        registration_timeout: REGISTRATION,
        faults: vec![never_boots()],
        ..Knobs::default()
    });
    until("three are asked for", || {
        let paid = paid(&stage, 0);
        (paid.len() == LIMIT)
            .then_some(())
            .ok_or(format!("{paid:?}"))
    });
    until("the launch breaker stops the others", || {
        let told = stage.fleet.ask(&["pool", "explain", "p"]).fine();
        let stops = told.contains("launch_breaker") && told.contains("has no ACTIVE machine yet");
        stops.then_some(()).ok_or(told)
    });
    let opened = until_open(&stage, 0);
    let metrics = stage.metrics();
    stage.end_faults();
    let line = "navarch_breakers_open{pool=\"p\",kind=\"launch\"} 1\n";
    assert!(metrics.contains(line), "{metrics}");
    let before = |list: &[(u64, String)]| list.iter().filter(|(at, _)| *at < opened).count();
    assert_eq!(before(&paid(&stage, 0)), LIMIT);
    let told = stage.fleet.ask(&["events", "--kind=breaker"]).fine();
    assert!(told.contains("breaker.opened"), "{told}");
    // One probe comes up, and the others follow.
    stage.fleet.until_active(6);
    let all = paid(&stage, 0);
    assert_eq!(before(&all), LIMIT, "{all:?}");
    // Before the probe was ACTIVE, it was the only one.
    let active: Vec<u64> = stage
        .since(opened, &["node.status"])
        .iter()
        .filter(|event| text(event, "message").contains("to ACTIVE"))
        .map(sequence)
        .collect();
    let probes = all
        .iter()
        .filter(|(at, _)| *at > opened && *at < active[0])
        .count();
    assert_eq!(probes, 1, "{all:?} {active:?}");
}

#[test]
fn replacements_that_never_register_cost_three_machines_and_no_healthy_one() {
    let stage = Stage::new(&Knobs {
        nodes: 4,
        guards: "  launch_breaker: {wait: 10m}",
        registration_timeout: REGISTRATION,
        ..Knobs::default()
    });
    let nodes = stage.fleet.until_active(4);
    let mark = stage.mark();
    stage.order(&never_boots());
    let (first, second) = (nodes[0].as_str(), nodes[1].as_str());
    let broken = ["dev", "inject", first, "xid", "--code=79"];
    stage.fleet.ask(&broken).fine();
    let opened = until_open(&stage, mark);
    let message = &stage.since(mark, &["breaker.opened"])[0];
    assert!(text(message, "message").contains("launch"), "{message}");
    assert_eq!(paid(&stage, mark).len(), LIMIT);
    // The one that was being replaced says what its replacement waits for.
    stage.until_explained(first, &["launch a machine to replace", "launch_breaker"]);
    // What breaks now keeps its machine, and says why.
    let broken = ["dev", "inject", second, "xid", "--code=79"];
    stage.fleet.ask(&broken).fine();
    stage.until_explained(second, &["replace", "waits for launch_breaker", "open for"]);
    assert_eq!(paid(&stage, mark).len(), LIMIT);
    let healthy = stage.fleet.until_active(2);
    assert_eq!(healthy, nodes[2..]);
    for id in &nodes {
        let shown = stage.fleet.data(&["instance", "get", id]);
        assert_eq!(shown["state"], "INSTANCE_STATE_RUNNING", "{shown}");
    }
    let drained = stage.since(mark, &["drain.started"]);
    assert!(
        drained.iter().all(|event| text(event, "node_id") == first),
        "{drained:?}"
    );
    assert!(opened > mark);
}

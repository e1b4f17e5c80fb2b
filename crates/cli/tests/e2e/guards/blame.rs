//! A new rule that condemns every node at once: at most the budget is touched, and the breaker
//! names the rule wherever somebody looks.

use rustix::process::Signal;

use super::{Knobs, Stage};
use crate::support::{signal, text, until};

const NODES: usize = 20;

/// Ten percent of twenty.
const BUDGET: usize = 2;

const CALM: &str = "
version: v1
metadata: {name: calm}
rules:
  - {name: quiet, condition: 'true', result: healthy}
";

const NERVOUS: &str = "
version: v1
metadata: {name: nervous}
rules:
  - name: too-warm
    condition: has(event.metrics.temperature) && event.metrics.temperature >= 1
    result: unhealthy
  - {name: quiet, condition: 'true', result: healthy}
";

fn put_policy(stage: &Stage, text: &str) {
    let new = stage.fleet.path().join("policy.new");
    std::fs::write(&new, text).expect("a file");
    std::fs::rename(&new, stage.fleet.path().join("policy.yaml")).expect("it takes the place");
    signal(stage.fleet.server.pid(), Signal::HUP);
}

#[test]
fn a_rule_that_condemns_everybody_is_named_and_touches_the_budget_at_most() {
    let stage = Stage::new(&Knobs {
        nodes: NODES,
        // Machines that come up under the new rule are condemned as well; two may be bought, so
        // that the guards for offerings have no part in this.
        guards: "  unhealthy_after: 1\n  silence_replace_after: never\n  launch_breaker: {failures: 1000}\n  max_launches_per_hour: 22",
        // Silence plays no part in this either.
        heartbeat_timeout: 60,
        policy: Some(CALM),
        ..Knobs::default()
    });
    let nodes = stage.fleet.until_active(NODES);
    let mark = stage.mark();
    put_policy(&stage, NERVOUS);
    until("every node is condemned", || {
        let shown = stage.fleet.nodes();
        let sick = |id: &String| {
            shown.iter().any(|node| {
                node["node_id"] == id.as_str()
                    && (node["status"] == "NODE_STATUS_UNHEALTHY"
                        || node["status"] == "NODE_STATUS_TERMINATED")
            })
        };
        let well: Vec<&String> = nodes.iter().filter(|id| !sick(id)).collect();
        well.is_empty().then_some(()).ok_or(format!("{well:?}"))
    });
    // Of the nodes that were well before.
    let touched = || -> Vec<String> {
        let drained = stage.since(mark, &["drain.started"]);
        let mut drained: Vec<String> = drained.iter().map(|event| text(event, "node_id")).collect();
        drained.retain(|id| nodes.contains(id));
        drained
    };
    let waiting = nodes
        .iter()
        .find(|id| !touched().contains(id))
        .expect("a node that was not touched");
    let words = ["waits for breaker", "open for too-warm"];
    stage.until_explained(waiting, &words);
    let told = stage.fleet.ask(&["pool", "explain", "p"]).fine();
    for words in words {
        assert!(told.contains(words), "{words:?} is not in {told}");
    }
    let mut opened = stage.since(mark, &["breaker.opened"]);
    opened.retain(|event| event["details"]["signature"] == "too-warm");
    assert_eq!(opened.len(), 1, "{opened:?}");
    let pools = stage.fleet.ask(&["pool", "list"]).fine();
    assert!(pools.contains("too-warm"), "{pools}");
    let metrics = stage.metrics();
    for line in [
        "navarch_breakers_open{pool=\"p\",kind=\"repair\"} 1",
        "navarch_pool_waits{pool=\"p\",guard=\"breaker\"}",
        "navarch_guard_blocks{guard=\"breaker\",pool=\"p\"}",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    let story = || stage.since(mark, &["drain", "breaker", "guard", "instance.phase"]);
    assert!(touched().len() <= BUDGET, "{:?} {:#?}", touched(), story());

    // The old rule again: everybody who was left alone is well.
    put_policy(&stage, CALM);
    let touched = touched();
    for id in nodes.iter().filter(|id| !touched.contains(id)) {
        stage.fleet.until_status(id, "ACTIVE");
    }
    assert!(touched.len() <= BUDGET, "{touched:?} {:#?}", story());
}

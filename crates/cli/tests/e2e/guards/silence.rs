//! Silent machines: repaired only when enough others stayed fresh, or when a person confirms.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Knobs, Stage, ask_cloud};
use crate::support::{signal, text, until};

/// Silence counts as soon as it is known.
const AT_ONCE: &str = "  silence_replace_after: 1s";

#[test]
fn a_fleet_of_two_waits_until_a_person_confirms() {
    let stage = Stage::new(&Knobs {
        nodes: 2,
        guards: AT_ONCE,
        ..Knobs::default()
    });
    let nodes = stage.settled(2);
    let (dead, other) = (nodes[0].as_str(), nodes[1].as_str());
    let mark = stage.mark();
    let agent = stage.freeze(dead);
    stage.fleet.until_status(dead, "UNHEALTHY");
    let words = [
        "waits for silence",
        "1 of 1 other nodes stayed fresh and 2 are needed as witnesses",
        "an operator may confirm that the machine is dead",
    ];
    stage.until_explained(dead, &words);
    let told = stage.fleet.ask(&["pool", "explain", "p"]).fine();
    assert!(told.contains(words[1]), "{told}");
    // It comes back by itself.
    signal(agent, Signal::CONT);
    assert_eq!(stage.fleet.until_active(2), nodes);
    stage.nothing_done_since(mark);

    signal(agent, Signal::STOP);
    stage.fleet.until_status(dead, "UNHEALTHY");
    stage.until_explained(dead, &words);
    stage.nothing_done_since(mark);
    let confirm = ["node", "confirm-dead", dead, "--reason=saw the smoke"];
    stage.fleet.ask(&confirm).fine();
    stage.fleet.until_status(dead, "TERMINATED");
    let now = stage.fleet.until_active(2);
    assert!(
        now.contains(&nodes[1]) && !now.contains(&nodes[0]),
        "{now:?}"
    );
    let told = stage.explain(dead);
    for words in ["saw the smoke", "an operator confirmed that it is dead"] {
        assert!(told.contains(words), "{words:?} is not in {told}");
    }
    assert_eq!(stage.fleet.node(other)["status"], "NODE_STATUS_ACTIVE");
}

#[test]
fn a_dead_machine_is_replaced_though_the_cloud_says_that_it_runs() {
    let stage = Stage::new(&Knobs {
        guards: AT_ONCE,
        ..Knobs::default()
    });
    let mut kept = stage.settled(3);
    // One machine hangs, one agent is frozen: to the control plane they are the same.
    for how in ["hang", "freeze"] {
        let dead = kept.remove(0);
        // So that the test sees what the cloud says while the node is silent.
        stage.fleet.ask(&["automation", "observe"]).fine();
        if how == "hang" {
            stage.order(&json!({"fault": "hang", "instance": stage.machine(&dead)}));
        } else {
            stage.freeze(&dead);
        }
        stage.fleet.until_status(&dead, "UNHEALTHY");
        let path = format!("/v1/instances/{}", stage.machine(&dead));
        let shown = ask_cloud(&stage.cloud, "GET", &path, &json!({}));
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(shown["status"], "running", "{how}: {shown}");
        stage.until_explained(&dead, &["automation.would_act", "would replace"]);
        assert_ne!(
            stage.fleet.node(&dead)["status"],
            "NODE_STATUS_TERMINATED",
            "{how}: observed, not done"
        );
        stage.fleet.ask(&["automation", "on"]).fine();
        stage.fleet.until_status(&dead, "TERMINATED");
        let told = stage.explain(&dead);
        let words = "silent while 2 of 2 nodes stayed fresh";
        assert!(told.contains(words), "{how}: {told}");
        let now = stage.settled(3);
        assert!(kept.iter().all(|id| now.contains(id)), "{how}: {now:?}");
    }
}

/// Freezes some of the nodes of a fleet at once: nothing is done, each of them says which guard
/// stops its repair, and all come back.
fn is_silent(nodes: usize, silent: usize, words: &[&str]) -> Stage {
    let stage = Stage::new(&Knobs {
        nodes,
        guards: AT_ONCE,
        ..Knobs::default()
    });
    let all = stage.settled(nodes);
    // The first to be found silent must not be judged before the last.
    stage.fleet.ask(&["automation", "off"]).fine();
    let frozen: Vec<u32> = all[..silent].iter().map(|id| stage.freeze(id)).collect();
    for id in &all[..silent] {
        stage.fleet.until_status(id, "UNHEALTHY");
    }
    let mark = stage.mark();
    stage.fleet.ask(&["automation", "on"]).fine();
    for id in &all[..silent] {
        stage.until_explained(id, words);
    }
    stage.nothing_done_since(mark);
    for pid in frozen {
        signal(pid, Signal::CONT);
    }
    assert_eq!(stage.fleet.until_active(nodes), all);
    stage.nothing_done_since(mark);
    assert_eq!(stage.instances().len(), nodes);
    stage
}

#[test]
fn nothing_is_replaced_while_most_of_a_fleet_is_silent() {
    let words = [
        "waits for silence",
        "1 of 3 other nodes stayed fresh and 2 are needed as witnesses",
    ];
    is_silent(4, 3, &words);
}

#[test]
fn nothing_is_replaced_while_half_of_a_fleet_is_silent() {
    let words = ["waits for breaker", "open for silence"];
    let stage = is_silent(8, 4, &words);
    let opened = stage.since(0, &["breaker.opened"]);
    assert_eq!(opened.len(), 1, "{opened:?}");
    assert!(
        text(&opened[0], "message").contains("silence"),
        "{opened:?}"
    );
}

#[test]
fn a_dead_machine_stays_until_its_replacement_can_be_bought() {
    let stage = Stage::new(&Knobs {
        guards: AT_ONCE,
        ..Knobs::default()
    });
    let nodes = stage.settled(3);
    let dead = nodes[0].as_str();
    let mark = stage.mark();
    stage.order(&json!({"fault": "error", "error": "transient", "message": "the API is down"}));
    until("the control plane hears of it", || {
        let said = stage.since(mark, &["provider.error"]);
        let found = said
            .iter()
            .any(|event| text(event, "message").contains("the API is down"));
        found.then_some(()).ok_or_else(|| format!("{said:?}"))
    });
    // A cloud that does not answer neither agrees nor objects, and ends nothing.
    let agent = stage.freeze(dead);
    stage.until_explained(
        dead,
        &["terminate", "waits for replacement", "its replacement"],
    );
    let shown = stage.fleet.node(dead);
    assert_eq!(shown["status"], "NODE_STATUS_UNHEALTHY", "{shown}");
    let ended = |event: &Value| text(event, "message").contains("to terminat");
    let phases = stage.since(mark, &["instance.phase"]);
    assert!(!phases.iter().any(ended), "{phases:?}");
    assert!(crate::support::runs(agent));
    let waits = stage.fleet.ask(&["pool", "explain", "p"]).fine();
    assert!(waits.contains("Pool p: 2 of 3 machines ACTIVE"), "{waits}");

    stage.end_faults();
    stage.fleet.until_status(dead, "TERMINATED");
    let now = stage.fleet.until_active(3);
    assert!(nodes[1..].iter().all(|id| now.contains(id)), "{now:?}");
}

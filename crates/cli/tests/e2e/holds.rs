//! Operators' holds: kept through faults, restarts of agents and of the control plane, until an
//! operator takes them back.

use rustix::process::Signal;
use serde_json::Value;

use crate::faults::ONE_KEPT;
use crate::support::{Fleet, runs, signal, text, until};

fn holds(node: &Value) -> Vec<String> {
    let holds = node["holds"].as_array().expect("holds");
    holds.iter().map(|hold| text(hold, "name")).collect()
}

/// Waits until the agents, killed, run again under other ids and were heard.
fn kill_agents(fleet: &Fleet, nodes: &[String]) {
    let before = fleet.agents();
    assert_eq!(before.len(), nodes.len(), "{before:?}");
    for (_, pid) in &before {
        signal(*pid, Signal::KILL);
    }
    until("the cloud starts the agents again", || {
        let now = fleet.agents();
        let again = now.len() == before.len()
            && now.iter().all(|(_, pid)| runs(*pid))
            && before.iter().all(|old| !now.contains(old));
        again.then_some(()).ok_or(format!("{before:?} {now:?}"))
    });
    let since = fleet
        .events()
        .last()
        .map_or(0, |event| event["sequence"].as_u64().unwrap_or(0));
    until_heard(fleet, nodes);
    // The machines did not reboot, so nothing has to be admitted anew.
    for event in fleet.events() {
        if event["sequence"].as_u64() > Some(since) {
            let message = text(&event, "message");
            assert!(!message.contains("gate:admission"), "{event}");
        }
    }
}

/// Waits until each node was heard twice more.
pub fn until_heard(fleet: &Fleet, nodes: &[String]) {
    for _ in 0..2 {
        // Nothing, where a control plane that has just started heard nobody yet.
        let heard = |id: &String| fleet.node(id)["last_heartbeat"].to_string();
        let before: Vec<String> = nodes.iter().map(heard).collect();
        until("all are heard", || {
            let now: Vec<String> = nodes.iter().map(heard).collect();
            let fresh = now
                .iter()
                .zip(&before)
                .all(|(now, before)| now != before && now != "null");
            fresh.then_some(()).ok_or(format!("{now:?}"))
        });
    }
}

#[test]
fn cordon_and_drain_stay_until_an_operator_takes_them_back() {
    let mut fleet = Fleet::server(&ONE_KEPT.replace("min_nodes: 1", "min_nodes: 2"));
    let nodes = fleet.until_active(2);
    let (cordoned, drained) = (nodes[0].as_str(), nodes[1].as_str());
    let said = fleet
        .ask(&["cordon", cordoned, "--reason", "odd noises"])
        .fine();
    assert!(
        said.starts_with(&format!("Node {cordoned} cordoned\nCommand ID: ")),
        "{said}"
    );
    let said = fleet.ask(&["drain", drained]).fine();
    assert!(
        said.starts_with(&format!("Node {drained} draining\nCommand ID: ")),
        "{said}"
    );
    let stands = |fleet: &Fleet, when: &str| {
        for (id, status, hold) in [
            (cordoned, "CORDONED", "operator:cordon"),
            (drained, "DRAINING", "operator:drain"),
        ] {
            let node = fleet.until_status(id, status);
            assert_eq!(holds(&node), [hold], "{when}: {node}");
        }
    };
    stands(&fleet, "at first");
    let node = fleet.node(cordoned);
    assert_eq!(node["holds"][0]["reason"], "odd noises", "{node}");

    for id in [cordoned, drained] {
        fleet
            .ask(&["dev", "inject", id, "thermal", "--temperature=97"])
            .fine();
    }
    for id in [cordoned, drained] {
        fleet.until_status(id, "UNHEALTHY");
    }
    for id in [cordoned, drained] {
        fleet.ask(&["dev", "clear", id]).fine();
    }
    stands(&fleet, "through unhealthy and back");

    kill_agents(&fleet, &nodes);
    stands(&fleet, "after the agents' restart");

    let (code, _) = fleet.server.terminate();
    assert_eq!(code, Some(0));
    fleet.restart();
    until_heard(&fleet, &nodes);
    stands(&fleet, "after the control plane's restart");
    fleet.server.kill();
    fleet.restart();
    until_heard(&fleet, &nodes);
    stands(&fleet, "after the control plane's death");

    for id in [cordoned, drained] {
        let said = fleet.ask(&["uncordon", id]);
        assert_eq!(said.err, "");
        let said = said.fine();
        assert!(
            said.starts_with(&format!("Node {id} uncordoned\nCommand ID: ")),
            "{said}"
        );
        fleet.until_status(id, "ACTIVE");
        let complaint = fleet.ask(&["uncordon", id]).refused(1);
        let expected = format!(
            "Error: failed to uncordon node: failed_precondition: node {id} is not cordoned \
             (current status: NODE_STATUS_ACTIVE)\n"
        );
        assert_eq!(complaint, expected);
    }
}

#[test]
fn uncordon_says_what_still_holds_a_broken_node() {
    let fleet = Fleet::server(ONE_KEPT);
    let node = fleet.until_active(1).remove(0);
    fleet.ask(&["cordon", &node]).fine();
    fleet
        .ask(&["dev", "inject", &node, "xid", "--code=79"])
        .fine();
    fleet.until_status(&node, "UNHEALTHY");
    // An operator may also add a hold now, and drain.
    fleet.ask(&["drain", &node]).fine();
    let incident = text(&fleet.open_incidents()[0], "incident_id");
    let told = fleet.ask(&["uncordon", &node]);
    assert!(
        told.err.contains(&format!(
            "The node is UNHEALTHY; what still holds it: incident:{incident}"
        )),
        "{told:?}"
    );
    told.fine();
    let shown = fleet.node(&node);
    assert_eq!(holds(&shown), [format!("incident:{incident}")], "{shown}");
    fleet
        .ask(&["incident", "close", &incident, "--reason", "seen worse"])
        .fine();
    fleet.until_status(&node, "ACTIVE");
    let closed = fleet.data(&["incident", "get", &incident]);
    assert!(text(&closed, "ending").contains("seen worse"), "{closed}");
}

#[test]
fn terminate_ends_a_machine_for_good_and_another_takes_its_place() {
    let fleet = Fleet::server(ONE_KEPT);
    let node = fleet.until_active(1).remove(0);
    let said = fleet
        .ask(&["terminate", &node, "--reason", "too old"])
        .fine();
    assert!(
        said.starts_with(&format!("Node {node} terminating\n")),
        "{said}"
    );
    fleet.until_status(&node, "TERMINATED");
    assert_ne!(fleet.until_active(1)[0], node);
    for command in ["cordon", "drain", "uncordon"] {
        let complaint = fleet.ask(&[command, &node]).refused(1);
        let expected = format!(
            "Error: failed to {command} node: failed_precondition: node {node} is terminated: its \
             machine is gone\n"
        );
        assert_eq!(complaint, expected);
    }
}

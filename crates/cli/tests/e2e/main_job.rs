//! The main job: a fleet that keeps its size, replaces a broken machine, says why, and is the
//! same after every end of the control plane.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Fleet, PATIENCE, Watch, runs, text, until};

/// What must not change while the control plane is away.
fn identities(fleet: &Fleet) -> BTreeSet<(String, String, String)> {
    let active = |node: &&Value| node["status"] == "NODE_STATUS_ACTIVE";
    let nodes = fleet.nodes();
    let identity = |node: &Value| {
        let gpus = node["gpus"].as_array().expect("GPUs");
        assert_eq!(gpus.len(), 8, "{node}");
        let uuids: Vec<String> = gpus.iter().map(|gpu| text(gpu, "uuid")).collect();
        (
            text(node, "instance_id"),
            text(node, "boot_id"),
            uuids.join(" "),
        )
    };
    nodes.iter().filter(active).map(identity).collect()
}

#[test]
fn a_broken_machine_is_replaced_and_the_fleet_survives_every_end() {
    let watch = Watch::start();
    let mut fleet = Fleet::dev(&[]);
    let first = fleet.until_active(2);
    println!("two machines ACTIVE after {:?}", watch.took());
    let broken = first[0].as_str();

    let watch = Watch::start();
    fleet
        .ask(&["dev", "inject", broken, "xid", "--code=79", "--gpu=3"])
        .fine();
    println!("injected after {:?}", watch.took());
    let node = until("the node is known to be broken", || {
        let node = fleet.node(broken);
        let told = node["status"] != "NODE_STATUS_ACTIVE";
        told.then(|| node.clone()).ok_or_else(|| node.to_string())
    });
    let noticed = watch.took();
    println!("UNHEALTHY after {noticed:?}");
    assert!(noticed < PATIENCE, "{noticed:?}");
    // It may be replaced already.
    let status = text(&node, "status");
    let expected = ["NODE_STATUS_UNHEALTHY", "NODE_STATUS_TERMINATED"];
    assert!(expected.contains(&status.as_str()), "{node}");

    fleet.until_status(broken, "TERMINATED");
    let second = fleet.until_active(2);
    println!("replaced after {:?}", watch.took());
    assert!(!second.contains(&first[0]), "{second:?}");
    assert!(second.contains(&first[1]), "{second:?}");

    explains(&fleet, broken);
    tells_events_in_order(&fleet, broken, &second);
    for told in survives_every_end(&mut fleet, &second) {
        println!("{told}");
    }
}

fn explains(fleet: &Fleet, broken: &str) {
    let told = fleet.ask(&["explain", "node", broken]).fine();
    for word in [
        "xid-reboot",
        "XID 79",
        "drain.started",
        "GPU 3",
        "terminated",
    ] {
        assert!(told.contains(word), "{word:?} is not explained: {told}");
    }
}

fn tells_events_in_order(fleet: &Fleet, broken: &str, now: &[String]) {
    let events = fleet.events();
    let sequences: Vec<u64> = events
        .iter()
        .map(|event| event["sequence"].as_u64().expect("a number"))
        .collect();
    assert!(
        sequences.is_sorted_by(|a, b| a < b),
        "out of order: {sequences:?}"
    );
    let new = now
        .iter()
        .find(|id| {
            let old = |event: &&Value| event["node_id"] == id.as_str();
            events.iter().find(old).is_some_and(|first| {
                first["sequence"].as_u64() > at(&events, broken, "incident.opened", "xid-79")
            })
        })
        .expect("a new node");
    let story = [
        (broken, "incident.opened", "xid-79 on GPU 3"),
        (broken, "node.status", "to UNHEALTHY"),
        (broken, "drain.started", ""),
        (new.as_str(), "node.status", "to ACTIVE"),
        (broken, "node.status", "to TERMINATED"),
    ];
    let mut before = None;
    for (node, kind, words) in story {
        let here = at(&events, node, kind, words);
        assert!(here.is_some(), "no {kind} {words} of {node} in {events:#?}");
        assert!(here > before, "{kind} {words} of {node} is early");
        before = here;
    }
}

/// When the last such event was.
fn at(events: &[Value], node: &str, kind: &str, words: &str) -> Option<u64> {
    let wanted = |event: &&Value| {
        event["node_id"] == node
            && event["kind"] == kind
            && event["message"]
                .as_str()
                .is_some_and(|message| message.contains(words))
    };
    events.iter().rfind(wanted)?["sequence"].as_u64()
}

fn survives_every_end(fleet: &mut Fleet, ids: &[String]) -> Vec<String> {
    let mut told = Vec::new();
    let before = identities(fleet);
    for end in ["SIGTERM", "SIGKILL"] {
        let agents = fleet.agents();
        assert_eq!(agents.len(), 2, "{agents:?}");
        assert!(agents.iter().all(|(_, pid)| runs(*pid)), "{agents:?}");
        let watch = Watch::start();
        if end == "SIGTERM" {
            let (code, took) = fleet.server.terminate();
            told.push(format!("stopped after {took:?}"));
            assert_eq!(code, Some(0), "{}", fleet.server.output());
            assert!(took < PATIENCE, "{took:?}");
            let left: Vec<_> = agents.iter().filter(|(_, pid)| runs(*pid)).collect();
            assert!(left.is_empty(), "still there: {left:?}");
        } else {
            fleet.server.kill();
            until("the machines end after their parent", || {
                let left: Vec<_> = agents.iter().filter(|(_, pid)| runs(*pid)).collect();
                left.is_empty().then_some(()).ok_or(format!("{left:?}"))
            });
            let took = watch.took();
            told.push(format!("machines gone {took:?} after SIGKILL"));
            assert!(took < PATIENCE, "{took:?}");
        }
        let watch = Watch::start();
        fleet.restart();
        until("the machines are heard", || {
            let nodes = fleet.nodes();
            let heard = nodes
                .iter()
                .filter(|node| !node["last_heartbeat"].is_null());
            (heard.count() >= 2)
                .then_some(())
                .ok_or_else(|| format!("{nodes:?}"))
        });
        assert_eq!(fleet.until_active(2), ids, "after {end}");
        told.push(format!("the same fleet {:?} after {end}", watch.took()));
        assert_eq!(identities(fleet), before, "after {end}");
    }
    let machines = fleet.data(&["instance", "list"]);
    let alive = machines
        .as_array()
        .expect("a list")
        .iter()
        .filter(|machine| machine["state"] == "INSTANCE_STATE_RUNNING")
        .count();
    assert_eq!(alive, 2, "{machines}");
    told
}

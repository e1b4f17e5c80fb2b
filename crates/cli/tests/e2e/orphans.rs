//! Named holds, machines that no record knows, and two control planes on one cloud.

use std::fs;

use rustix::process::Signal;

use crate::support::{Fleet, Program, directory, list, signal, text, until};

fn config(cloud: &str, min: usize) -> String {
    format!(
        "server:
  heartbeat_interval: 1s
  heartbeat_timeout: 20s
  health_check_interval: 1s
guards:
  sweep:
    interval: 1s
providers:
  fake:
    type: fake
    url: {cloud}
    gpu_count: 2
pools:
  main:
    provider: fake
    instance_type: gpu
    min_nodes: {min}
    max_nodes: 3
"
    )
}

#[test]
fn a_named_hold_stands_until_it_is_removed_or_its_time_is_over() {
    let fleet = Fleet::server(crate::faults::ONE_KEPT);
    let node = fleet.until_active(1).remove(0);
    let add = [
        "hold",
        "add",
        &node,
        "maintenance",
        "--owner=slurm",
        "--reason=disk swap",
    ];
    let said = fleet.ask(&add).fine();
    assert_eq!(said, format!("Node {node} held by maintenance of slurm\n"));
    fleet.ask(&add).fine();
    fleet.ask(&["cordon", &node]).fine();
    let told = fleet.ask(&["uncordon", &node]);
    assert!(told.err.contains("hold:slurm/maintenance"), "{told:?}");
    let shown = fleet.data(&["get", &node]);
    assert_eq!(shown["status"], "NODE_STATUS_CORDONED");
    let holds = list(fleet.data(&["hold", "list", &node]));
    assert_eq!(holds.len(), 1, "{holds:?}");
    assert_eq!(text(&holds[0], "owner"), "slurm");
    let said = fleet.ask(&["hold", "remove", &node, "maintenance"]).fine();
    assert_eq!(said, format!("Hold maintenance of node {node} removed\n"));
    fleet.until_status(&node, "ACTIVE");
    let said = fleet.ask(&["hold", "remove", &node, "maintenance"]).fine();
    assert_eq!(said, format!("No hold maintenance stands on node {node}\n"));
    fleet
        .ask(&[
            "hold",
            "add",
            &node,
            "short",
            "--owner=ana",
            "--expires=2s",
            "--drain",
        ])
        .fine();
    fleet.until_status(&node, "DRAINING");
    fleet.until_status(&node, "ACTIVE");
    let bad = fleet
        .ask(&["hold", "add", &node, "a/b", "--owner=ana"])
        .refused(1);
    assert!(bad.contains("name is \"a/b\"; use letters"), "{bad}");
    let events = fleet.ask(&["events", "--kind=hold.added"]).fine();
    assert!(
        events.contains("disk swap (by anybody from 127.0.0.1)"),
        "{events}"
    );
    let bad = fleet.ask(&["automation", "inherit"]).refused(1);
    assert!(bad.contains("only a pool can do"), "{bad}");
}

#[test]
fn a_machine_bought_after_the_copy_is_adopted_and_a_neighbour_is_left_alone() {
    let home = directory();
    let cloud = ["fake-cloud", "--listen=127.0.0.1:0", "--data-dir=cloud"];
    let cloud = Program::start(home.path(), &[], &cloud);
    let neighbour = Fleet::server(&config(&cloud.url, 1));
    let theirs = neighbour.until_active(1);
    let mut fleet = Fleet::server(&config(&cloud.url, 0));
    let copy = ["server", "backup", "copy.db", "--data-dir=data"];
    fleet.ask(&copy).fine();
    fs::write(fleet.path().join("navarch.yaml"), config(&cloud.url, 1)).expect("a file");
    assert_eq!(fleet.server.terminate().0, Some(0));
    fleet.restart();
    let node = fleet.until_active(1).remove(0);
    let bought = fleet.data(&["instance", "get", &node]);
    let bought = text(&bought, "provider_instance_id");
    assert_eq!(fleet.server.terminate().0, Some(0));
    // The machine hangs, so that nobody adopts it but a person.
    let mut pids = Vec::new();
    until("its agent's process is found", || {
        pids = agents(home.path(), &bought);
        (!pids.is_empty()).then_some(()).ok_or("none".to_owned())
    });
    for pid in &pids {
        signal(*pid, Signal::STOP);
    }
    for entry in fs::read_dir(fleet.path().join("data")).expect("the data directory") {
        let path = entry.expect("a file").path();
        if path.to_string_lossy().contains("navarch.db") {
            fs::remove_file(path).expect("it is removed");
        }
    }
    fleet
        .ask(&["server", "restore", "copy.db", "--data-dir=data"])
        .fine();
    fleet.restart();
    let orphan = until("it is shown", || {
        let found = list(fleet.data(&["instance", "list", "--orphans"]));
        found.first().cloned().ok_or("none".to_owned())
    });
    assert_eq!(text(&orphan, "instance_id"), node);
    let machine = format!("fake/{}", text(&orphan, "provider_instance_id"));
    let refused = fleet
        .ask(&["instance", "adopt", &machine, "--pool=none"])
        .refused(1);
    assert!(refused.contains("pool not found: none"), "{refused}");
    let said = fleet
        .ask(&["instance", "adopt", &machine, "--pool=main"])
        .fine();
    assert_eq!(said, format!("Instance {node} adopted into pool main\n"));
    for pid in &pids {
        signal(*pid, Signal::CONT);
    }
    assert_eq!(fleet.until_active(1), std::slice::from_ref(&node));
    fleet.ask(&["automation", "on"]).fine();
    assert_eq!(fleet.until_active(1), [node]);
    assert_eq!(list(fleet.data(&["instance", "list"])).len(), 1);
    assert_eq!(neighbour.until_active(1), theirs);
    assert!(list(neighbour.data(&["instance", "list", "--orphans"])).is_empty());
}

/// The processes of a machine of a cloud.
fn agents(cloud: &std::path::Path, instance: &str) -> Vec<u32> {
    crate::support::pids_below(cloud)
        .into_iter()
        .filter(|(path, _)| path.to_string_lossy().contains(instance))
        .map(|(_, pid)| pid)
        .collect()
}

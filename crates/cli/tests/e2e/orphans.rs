//! Named holds, machines that no record knows, and two control planes on one cloud.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

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
}

/// A fleet whose data is older than its machine. What is dropped first ends first.
struct Restored {
    fleet: Fleet,
    _cloud: Program,
    home: TempDir,
    /// The instance that no record knows any more.
    node: String,
    /// Its machine, as `navarch instance list --orphans` names it.
    machine: String,
    /// The processes of the machine, which stand still so that nobody claims it but a person.
    pids: Vec<u32>,
    neighbour: Fleet,
    theirs: Vec<String>,
}

impl Restored {
    fn new() -> Self {
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
        let pids = until("its agent's process is found", || {
            let pids = agents(home.path(), &bought);
            (!pids.is_empty()).then_some(pids).ok_or("none".to_owned())
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
        Self {
            machine: format!("fake/{}", text(&orphan, "provider_instance_id")),
            fleet,
            _cloud: cloud,
            home,
            node,
            pids,
            neighbour,
            theirs,
        }
    }

    /// Nobody touched the machine of the neighbour, and nobody shows it as lost.
    fn neighbour_is_left_alone(&self) {
        assert_eq!(self.neighbour.until_active(1), self.theirs);
        let orphans = self.neighbour.data(&["instance", "list", "--orphans"]);
        assert_eq!(list(orphans), Vec::<Value>::new());
    }
}

#[test]
fn a_machine_bought_after_the_copy_is_adopted_and_a_neighbour_is_left_alone() {
    let stage = Restored::new();
    let (fleet, node, machine) = (&stage.fleet, &stage.node, &stage.machine);
    let refused = fleet
        .ask(&["instance", "adopt", machine, "--pool=none"])
        .refused(1);
    assert!(refused.contains("pool not found: none"), "{refused}");
    let said = fleet
        .ask(&["instance", "adopt", machine, "--pool=main"])
        .fine();
    assert_eq!(said, format!("Instance {node} adopted into pool main\n"));
    for pid in &stage.pids {
        signal(*pid, Signal::CONT);
    }
    assert_eq!(fleet.until_active(1), std::slice::from_ref(node));
    fleet.ask(&["automation", "on"]).fine();
    assert_eq!(fleet.until_active(1), std::slice::from_ref(node));
    assert_eq!(list(fleet.data(&["instance", "list"])).len(), 1);
    stage.neighbour_is_left_alone();
}

#[test]
fn a_machine_bought_after_the_copy_is_terminated_and_bought_anew() {
    let stage = Restored::new();
    let (fleet, node, machine) = (&stage.fleet, &stage.node, &stage.machine);
    let refused = fleet
        .ask(&["instance", "terminate", "fake/another"])
        .refused(1);
    assert!(
        refused.contains("no listing of fake shows an unclaimed machine another"),
        "{refused}"
    );
    let end = ["instance", "terminate", machine, "--reason=not needed"];
    let said = fleet.ask(&end).fine();
    assert!(said.contains(node.as_str()), "{said}");
    // An operator's word counts while automation is off.
    until("the machine is gone", || {
        let shown = fleet.data(&["instance", "get", node]);
        let gone = shown["state"] == "INSTANCE_STATE_TERMINATED";
        gone.then_some(()).ok_or_else(|| shown.to_string())
    });
    let machine = machine.strip_prefix("fake/").expect("the provider");
    let left = agents(stage.home.path(), machine);
    assert_eq!(left, Vec::<u32>::new());
    let orphans = list(fleet.data(&["instance", "list", "--orphans"]));
    assert_eq!(orphans, Vec::<Value>::new());
    assert_eq!(fleet.nodes().len(), 0);
    fleet.ask(&["automation", "on"]).fine();
    assert_ne!(fleet.until_active(1)[0], *node);
    stage.neighbour_is_left_alone();
}

#[test]
fn an_instance_is_terminated_by_its_id_and_another_takes_its_place() {
    let fleet = Fleet::server(crate::faults::ONE_KEPT);
    let node = fleet.until_active(1).remove(0);
    let refused = fleet.ask(&["instance", "terminate", "nv-none"]).refused(1);
    assert!(refused.contains("instance not found: nv-none"), "{refused}");
    let end = ["instance", "terminate", &node, "--reason=too old"];
    fleet.ask(&end).fine();
    fleet.until_status(&node, "TERMINATED");
    assert_ne!(fleet.until_active(1)[0], node);
    let refused = fleet.ask(&end).refused(1);
    assert!(refused.contains("its machine is gone"), "{refused}");
    let told = fleet.ask(&["explain", "node", &node]).fine();
    assert!(told.contains("too old"), "{told}");
}

#[test]
fn a_pool_inherits_the_mode_of_its_configuration_again() {
    let config = format!("{}    automation: observe\n", crate::faults::ONE_KEPT)
        .replace("min_nodes: 1", "min_nodes: 0");
    let fleet = Fleet::server(&config);
    let in_force = || {
        let shown = fleet.data(&["automation"]);
        text(&shown["pools"][0], "effective")
    };
    assert_eq!(in_force(), "AUTOMATION_MODE_OBSERVE");
    for (mode, effective) in [
        ("off", "AUTOMATION_MODE_OFF"),
        ("on", "AUTOMATION_MODE_ON"),
        ("inherit", "AUTOMATION_MODE_OBSERVE"),
    ] {
        let order = ["automation", mode, "--pool=p", "--reason=a test"];
        fleet.ask(&order).fine();
        assert_eq!(in_force(), effective, "{mode}");
    }
    let inherit = ["automation", "inherit", "--pool=p"];
    let refused = fleet.ask(&inherit).refused(1);
    assert!(refused.contains("its configuration counts"), "{refused}");
    let refused = fleet.ask(&["automation", "inherit"]).refused(1);
    assert!(refused.contains("only a pool can do"), "{refused}");
    let refused = fleet
        .ask(&["automation", "inherit", "--pool=none"])
        .refused(1);
    assert!(refused.contains("none"), "{refused}");
    let refused = fleet.ask(&["automation", "sometimes"]).refused(2);
    assert!(
        refused.contains("use on, observe, off or inherit"),
        "{refused}"
    );
}

/// The processes of a machine of a cloud.
fn agents(cloud: &std::path::Path, instance: &str) -> Vec<u32> {
    crate::support::pids_below(cloud)
        .into_iter()
        .filter(|(path, _)| {
            let folder = path.parent().and_then(|folder| folder.file_name());
            folder.is_some_and(|name| name == instance)
        })
        .map(|(_, pid)| pid)
        .collect()
}

//! Every kind of fault, injected and repaired, judged by the built-in policy.

use serde_json::Value;

use crate::support::{Fleet, list, raw_http, split, text, until};

/// One machine, quick reports, and nothing that replaces it.
pub const ONE_KEPT: &str = "
server:
  heartbeat_interval: 1s
  heartbeat_timeout: 20s
  health_check_interval: 1s
providers:
  fake:
    type: fake
pools:
  p:
    provider: fake
    instance_type: fake-8x
    min_nodes: 1
    max_nodes: 2
    health:
      auto_replace: false
";

struct Case {
    inject: &'static [&'static str],
    status: &'static str,
    health: &'static str,
    class: &'static str,
    rule: &'static str,
    gpu: i64,
    repair: &'static str,
}

const CASES: &[Case] = &[
    Case {
        inject: &["xid", "--code=79", "--gpu=3"],
        status: "UNHEALTHY",
        health: "UNHEALTHY",
        class: "xid-79",
        rule: "xid-reboot",
        gpu: 3,
        repair: "reboot",
    },
    Case {
        inject: &["thermal", "--gpu=1", "--temperature=97"],
        status: "UNHEALTHY",
        health: "UNHEALTHY",
        class: "thermal",
        rule: "temperature-critical",
        gpu: 1,
        repair: "replace",
    },
    Case {
        inject: &["memory", "--gpu=2", "--dbe=2"],
        status: "UNHEALTHY",
        health: "UNHEALTHY",
        class: "ecc_dbe",
        rule: "ecc-uncorrectable",
        gpu: 2,
        repair: "reset_gpu",
    },
    Case {
        inject: &["nvlink", "--gpu=4", "--link=7"],
        status: "ACTIVE",
        health: "DEGRADED",
        class: "nvlink",
        rule: "nvlink",
        gpu: 4,
        repair: "none",
    },
    Case {
        inject: &["backend-error"],
        status: "UNHEALTHY",
        health: "UNHEALTHY",
        class: "driver_error",
        rule: "driver-failed",
        gpu: -1,
        repair: "reboot",
    },
    Case {
        inject: &["device-error", "--gpu=5"],
        status: "UNHEALTHY",
        health: "UNHEALTHY",
        class: "driver_error",
        rule: "driver-failed",
        gpu: 5,
        repair: "reboot",
    },
    Case {
        inject: &["boot-failure"],
        status: "UNHEALTHY",
        health: "UNHEALTHY",
        class: "device_count",
        rule: "gpus-gone",
        gpu: -1,
        repair: "reboot",
    },
    Case {
        inject: &["row-remap", "--gpu=6"],
        status: "ACTIVE",
        health: "DEGRADED",
        class: "memory",
        rule: "row-remap-pending",
        gpu: 6,
        repair: "none",
    },
    Case {
        inject: &["row-remap", "--gpu=6", "--failed"],
        status: "UNHEALTHY",
        health: "UNHEALTHY",
        class: "memory",
        rule: "row-remap-failed",
        gpu: 6,
        repair: "replace",
    },
    Case {
        inject: &["pcie", "--gpu=7"],
        status: "ACTIVE",
        health: "DEGRADED",
        class: "pcie",
        rule: "pcie",
        gpu: 7,
        repair: "none",
    },
    Case {
        inject: &["power", "--gpu=0"],
        status: "ACTIVE",
        health: "DEGRADED",
        class: "power",
        rule: "power",
        gpu: 0,
        repair: "none",
    },
    Case {
        inject: &["recovery-action", "--gpu=3", "--action=4"],
        status: "UNHEALTHY",
        health: "UNHEALTHY",
        class: "driver",
        rule: "driver-action",
        gpu: 3,
        repair: "reset_gpu",
    },
];

fn inject(fleet: &Fleet, node: &str, fault: &[&str]) {
    let mut arguments = vec!["dev", "inject", node];
    arguments.extend(fault);
    let said = fleet.ask(&arguments).fine();
    assert!(said.starts_with(fault[0]), "{said}");
    assert!(said.contains(&format!("injected into {node}")), "{said}");
}

fn until_well(fleet: &Fleet, node: &str) -> Value {
    until("everything is well again", || {
        let shown = fleet.node(node);
        let open = fleet.open_incidents();
        let well = shown["status"] == "NODE_STATUS_ACTIVE"
            && shown["health_status"] == "HEALTH_STATUS_HEALTHY"
            && open.is_empty();
        well.then(|| shown.clone())
            .ok_or_else(|| format!("{shown} {open:?}"))
    })
}

#[test]
fn every_fault_is_judged_by_the_policy_and_repaired() {
    let fleet = Fleet::server(ONE_KEPT);
    let node = fleet.until_active(1).remove(0);
    for case in CASES {
        let kind = case.inject[0];
        let before = text(&until_well(&fleet, &node), "boot_id");
        inject(&fleet, &node, case.inject);
        until(&format!("{kind} is judged"), || {
            let shown = fleet.node(&node);
            let open = fleet.open_incidents();
            let judged = shown["status"] == format!("NODE_STATUS_{}", case.status)
                && shown["health_status"] == format!("HEALTH_STATUS_{}", case.health)
                && open.len() == 1
                && open[0]["class"] == case.class
                && open[0]["rule"] == case.rule
                && open[0]["gpu_index"] == case.gpu
                && open[0]["required_repair"] == case.repair
                && open[0]["severity"] == format!("HEALTH_STATUS_{}", case.health);
            judged
                .then_some(())
                .ok_or_else(|| format!("{shown:#} {open:#?}"))
        });
        let said = fleet.ask(&["dev", "clear", &node, kind]).fine();
        assert!(said.contains("repaired"), "{said}");
        if case.inject.contains(&"--failed") {
            // A reboot is no proof that the part was replaced; a person gives their word.
            let incident = text(&fleet.open_incidents()[0], "incident_id");
            let close = [
                "incident",
                "close",
                &incident,
                "--reason=the GPU is another",
            ];
            fleet.ask(&close).fine();
        }
        let after = text(&until_well(&fleet, &node), "boot_id");
        assert_ne!(before, after, "{kind}: a repair is a reboot");
    }
    let closed = list(fleet.data(&["incident", "list"]));
    assert_eq!(closed.len(), CASES.len(), "{closed:#?}");
    let machines = list(fleet.data(&["instance", "list"]));
    assert_eq!(machines.len(), 1, "nothing was replaced: {machines:#?}");
}

/// The kinds of fault that the one machine has, by its own word.
fn kinds(fleet: &Fleet) -> Vec<String> {
    let agents = fleet.agents();
    let file = agents[0].0.with_file_name("debug-address");
    let address = std::fs::read_to_string(file).expect("a debug address");
    let address = address.trim().trim_start_matches("http://");
    let request =
        format!("GET /debug/state HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let answer = raw_http(address, &request);
    let (_, body) = split(&answer);
    let state: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
    let faults = state["faults"].as_array();
    let faults = faults.unwrap_or_else(|| panic!("no faults: {state}"));
    let kind = |record: &Value| {
        let fault = record.get("fault").unwrap_or(record);
        text(fault, "kind")
    };
    faults.iter().map(kind).collect()
}

#[test]
fn clearing_one_kind_leaves_the_others() {
    let fleet = Fleet::server(ONE_KEPT);
    let node = fleet.until_active(1).remove(0);
    inject(&fleet, &node, &["thermal", "--gpu=1", "--temperature=97"]);
    inject(&fleet, &node, &["nvlink", "--gpu=4"]);
    inject(&fleet, &node, &["memory", "--gpu=2", "--sbe=500"]);
    until("all three are known", || {
        let open = fleet.open_incidents();
        (open.len() == 3).then_some(()).ok_or(format!("{open:?}"))
    });
    assert_eq!(kinds(&fleet), ["thermal", "nvlink", "memory"]);
    fleet.ask(&["dev", "clear", &node, "nvlink"]).fine();
    assert_eq!(kinds(&fleet), ["thermal", "memory"]);
    let shown = fleet.until_status(&node, "UNHEALTHY");
    assert_eq!(shown["health_status"], "HEALTH_STATUS_UNHEALTHY", "{shown}");
    fleet.ask(&["dev", "clear", &node, "memory"]).fine();
    assert_eq!(kinds(&fleet), ["thermal"]);
    // A condition ends by a report that is healthy over all; this one is not yet.
    fleet.until_status(&node, "UNHEALTHY");
    fleet.ask(&["dev", "clear", &node, "thermal"]).fine();
    assert_eq!(kinds(&fleet), Vec::<String>::new());
    until_well(&fleet, &node);
}

/// What is on record, without how the server itself fares: a machine that is busy makes it pause.
fn known(fleet: &Fleet) -> Vec<String> {
    let events = fleet.events();
    let kinds = events.iter().map(|event| text(event, "kind"));
    kinds.filter(|kind| !kind.starts_with("server.")).collect()
}

#[test]
fn a_fault_that_makes_no_sense_is_refused_and_changes_nothing() {
    let fleet = Fleet::server(ONE_KEPT);
    let node = fleet.until_active(1).remove(0);
    let before = known(&fleet);
    for (fault, complaint) in [
        (&["fire"][..], "fire"),
        (&["xid"], "code"),
        (&["xid", "--code=79", "--gpu=8"], "gpu"),
        (&["thermal", "--gpu=64"], "gpu"),
        (&["xid", "--code=-1"], "code"),
        (&["nvlink", "--link=99"], "link"),
        (&["thermal", "--temperature=100000"], "temperature"),
    ] {
        let mut arguments = vec!["dev", "inject", &node];
        arguments.extend(fault);
        let complaints = fleet.ask(&arguments).refused(1);
        assert!(
            complaints.to_lowercase().contains(complaint),
            "{fault:?}: {complaints}"
        );
    }
    let complaint = fleet.ask(&["dev", "clear", &node, "fire"]).refused(1);
    assert!(complaint.contains("fire"), "{complaint}");
    assert_eq!(fleet.open_incidents(), Vec::<Value>::new());
    assert_eq!(known(&fleet), before);
}

//! Every kind of fault, injected and repaired, judged by the built-in policy.

use serde_json::Value;

use crate::support::{Fleet, list, text, until};

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
        let after = text(&until_well(&fleet, &node), "boot_id");
        assert_ne!(before, after, "{kind}: a repair is a reboot");
    }
    let closed = list(fleet.data(&["incident", "list"]));
    assert_eq!(closed.len(), CASES.len(), "{closed:#?}");
    let machines = list(fleet.data(&["instance", "list"]));
    assert_eq!(machines.len(), 1, "nothing was replaced: {machines:#?}");
}

#[test]
fn clearing_one_kind_leaves_the_others() {
    let fleet = Fleet::server(ONE_KEPT);
    let node = fleet.until_active(1).remove(0);
    let count = |class: &str| -> u64 {
        let open = fleet.open_incidents();
        let found = open.iter().find(|open| open["class"] == class);
        found.map_or(0, |open| open["evidence_count"].as_u64().unwrap_or(0))
    };
    let until_seen_twice_more = |class: &str| {
        let before = count(class);
        until(&format!("{class} is reported twice more"), || {
            let now = count(class);
            (now > before + 1).then_some(()).ok_or(format!("{now}"))
        });
    };
    inject(&fleet, &node, &["thermal", "--gpu=1", "--temperature=97"]);
    inject(&fleet, &node, &["nvlink", "--gpu=4"]);
    until_seen_twice_more("thermal");
    until_seen_twice_more("nvlink");

    fleet.ask(&["dev", "clear", &node, "thermal"]).fine();
    // A report that left before may still be on its way.
    until_seen_twice_more("nvlink");
    let after = count("thermal");
    until_seen_twice_more("nvlink");
    assert_eq!(count("thermal"), after, "it is repaired");
    // A condition ends by a report that is healthy over all, and this one is not yet.
    assert!(after > 0, "{:?}", fleet.open_incidents());
    let shown = fleet.until_status(&node, "UNHEALTHY");
    assert_eq!(shown["health_status"], "HEALTH_STATUS_UNHEALTHY", "{shown}");

    fleet.ask(&["dev", "clear", &node, "nvlink"]).fine();
    until_well(&fleet, &node);
}

#[test]
fn a_fault_that_makes_no_sense_is_refused_and_changes_nothing() {
    let fleet = Fleet::server(ONE_KEPT);
    let node = fleet.until_active(1).remove(0);
    let before = fleet.events().len();
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
    assert_eq!(fleet.events().len(), before);
}

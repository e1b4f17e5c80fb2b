//! The derived status, through the wire, by agents of both kinds.

use std::time::Duration;

use serde_json::json;

use crate::support::agents::{Agent, GoAgent};
use crate::support::plane::Plane;

/// What is reported, and the status that follows.
type Reports = &'static [(&'static str, &'static str)];

/// Reference 0.2, *intended*, with DESIGN section 3: holds are kept through UNHEALTHY.
/// The holds of an operator, reports, and the status after each report.
const TABLE: &[(&[&str], Reports)] = &[
    (
        &[],
        &[
            ("HEALTHY", "ACTIVE"),
            ("DEGRADED", "ACTIVE"),
            ("HEALTHY", "ACTIVE"),
        ],
    ),
    (
        &[],
        &[
            ("UNHEALTHY", "UNHEALTHY"),
            ("DEGRADED", "UNHEALTHY"),
            ("UNHEALTHY", "UNHEALTHY"),
            ("HEALTHY", "ACTIVE"),
        ],
    ),
    (
        &["CORDON"],
        &[
            ("HEALTHY", "CORDONED"),
            ("DEGRADED", "CORDONED"),
            ("UNHEALTHY", "UNHEALTHY"),
            ("DEGRADED", "UNHEALTHY"),
            ("HEALTHY", "CORDONED"),
        ],
    ),
    (
        &["DRAIN"],
        &[
            ("HEALTHY", "DRAINING"),
            ("DEGRADED", "DRAINING"),
            ("UNHEALTHY", "UNHEALTHY"),
            ("DEGRADED", "UNHEALTHY"),
            ("HEALTHY", "DRAINING"),
        ],
    ),
    (
        &["CORDON", "DRAIN"],
        &[
            ("HEALTHY", "DRAINING"),
            ("UNHEALTHY", "UNHEALTHY"),
            ("HEALTHY", "DRAINING"),
        ],
    ),
    (
        &["DRAIN", "CORDON"],
        &[
            ("HEALTHY", "DRAINING"),
            ("UNHEALTHY", "UNHEALTHY"),
            ("HEALTHY", "DRAINING"),
        ],
    ),
];

async fn order(plane: &Plane, node: &str, kind: &str) -> serde_json::Value {
    let request = json!({
        "nodeId": node,
        "commandType": format!("NODE_COMMAND_TYPE_{kind}"),
        "parameters": {"reason": "by the table"},
    });
    plane.ok("IssueCommand", request).await
}

#[tokio::test]
async fn the_status_follows_the_intended_table_for_both_kinds_of_agents() {
    let plane = Plane::start().await;
    for (row, (holds, reports)) in TABLE.iter().enumerate() {
        let (old, new) = (format!("old-{row}"), format!("new-{row}"));
        let go = GoAgent(&old);
        let mut ours = Agent::new(&new);
        go.register(&plane).await;
        ours.join(&plane).await;
        for kind in *holds {
            order(&plane, &old, kind).await;
            order(&plane, &new, kind).await;
        }
        for (at, (report, expected)) in reports.iter().enumerate() {
            let what = format!("row {row}, report {at}: {holds:?} then {report}");
            for id in [&old, &new] {
                let said = if id == &old {
                    go.report(&plane, report).await
                } else {
                    ours.report(&plane, report).await
                };
                assert_eq!(said, *expected, "{what}: {id} in the answer");
                assert_eq!(plane.status(id).await, *expected, "{what}: {id} in GetNode");
                let request = json!({"status": format!("NODE_STATUS_{expected}")});
                let listed = plane.ok("ListNodes", request).await;
                let listed = listed["nodes"].as_array().expect("a list");
                assert!(
                    listed.iter().any(|node| node["nodeId"] == **id),
                    "{what}: {id} in ListNodes"
                );
                // Health is what the report said, or the worst open incident.
                let health = match (*report, *expected) {
                    (_, "UNHEALTHY") => "UNHEALTHY",
                    (report, _) => report,
                };
                assert_eq!(
                    plane.node(id).await["healthStatus"],
                    format!("HEALTH_STATUS_{health}"),
                    "{what}: {id}"
                );
            }
        }
    }
}

#[tokio::test]
async fn holds_can_be_given_and_taken_while_a_node_is_unhealthy() {
    let plane = Plane::start().await;
    let mut ours = Agent::new("n");
    ours.join(&plane).await;
    assert_eq!(ours.report(&plane, "UNHEALTHY").await, "UNHEALTHY");
    assert_eq!(plane.holds("n").await, ["incident"]);
    for (kind, holds, after) in [
        ("CORDON", vec!["operator:cordon", "incident"], "CORDONED"),
        (
            "DRAIN",
            vec!["operator:cordon", "operator:drain", "incident"],
            "DRAINING",
        ),
        ("UNCORDON", vec!["incident"], "ACTIVE"),
    ] {
        let answer = order(&plane, "n", kind).await;
        assert_eq!(answer["nodeStatus"], "NODE_STATUS_UNHEALTHY", "{kind}");
        let mut found = plane.holds("n").await;
        found.sort();
        let mut expected: Vec<_> = holds.iter().map(|hold| (*hold).to_owned()).collect();
        expected.sort();
        assert_eq!(found, expected, "{kind}");
        let remain = answer["remainingHolds"]
            .as_array()
            .expect("the incident's at least")
            .len();
        assert_eq!(remain, holds.len(), "{kind}: {answer}");
        // What stands comes to light when the node recovers.
        assert_eq!(ours.report(&plane, "HEALTHY").await, after, "{kind}");
        assert_eq!(
            ours.report(&plane, "UNHEALTHY").await,
            "UNHEALTHY",
            "{kind}"
        );
    }
}

#[tokio::test]
async fn uncordon_says_what_it_cannot_do_and_what_remains() {
    let plane = Plane::start().await;
    let uncordon = json!({"nodeId": "n", "commandType": "NODE_COMMAND_TYPE_UNCORDON"});
    let mut ours = Agent::new("n");
    ours.register(&plane).await;
    ours.beat(&plane).await;
    for (report, status) in [
        ("", "CORDONED"),
        ("HEALTHY", "ACTIVE"),
        ("UNHEALTHY", "UNHEALTHY"),
    ] {
        if !report.is_empty() {
            ours.report(&plane, report).await;
        }
        let before = plane.state().await;
        let refused = plane.refused("IssueCommand", uncordon.clone()).await;
        let known = format!(
            "failed_precondition: node n is not cordoned (current status: NODE_STATUS_{status})"
        );
        let rest = refused.strip_prefix(&known);
        let rest = rest.unwrap_or_else(|| panic!("{refused}"));
        match status {
            "CORDONED" => assert_eq!(rest, "; what holds it: gate:admission"),
            "ACTIVE" => assert_eq!(rest, ""),
            _ => assert!(rest.starts_with("; what holds it: incident:inc-"), "{rest}"),
        }
        assert_eq!(plane.state().await, before);
    }
    // One word ends both holds, twice is once too often.
    order(&plane, "n", "CORDON").await;
    order(&plane, "n", "CORDON").await;
    order(&plane, "n", "DRAIN").await;
    let answer = plane.ok("IssueCommand", uncordon.clone()).await;
    let remaining = answer["remainingHolds"].to_string();
    assert!(
        remaining.starts_with("[\"incident:inc-") && !remaining.contains(','),
        "{answer}"
    );
    let refused = plane.refused("IssueCommand", uncordon).await;
    let known =
        "failed_precondition: node n is not cordoned (current status: NODE_STATUS_UNHEALTHY); ";
    assert!(refused.starts_with(known), "{refused}");
}

#[tokio::test]
async fn the_admission_gate_is_set_for_our_agents_alone_and_only_on_a_new_machine_or_boot() {
    let plane = Plane::start().await;
    GoAgent("old").register(&plane).await;
    assert_eq!(plane.status("old").await, "ACTIVE");
    let mut ours = Agent::new("new");
    ours.register(&plane).await;
    assert_eq!(
        (plane.status("new").await.as_str(), plane.holds("new").await),
        ("CORDONED", vec!["gate:admission".to_owned()])
    );
    // What is not a full report lifts nothing.
    let empty = json!({"nodeId": "new", "sessionId": ours.session, "sequence": "1"});
    plane.ok("ReportHealth", empty).await;
    assert_eq!(plane.status("new").await, "CORDONED");
    ours.sequence = 1;
    assert_eq!(ours.report(&plane, "UNHEALTHY").await, "UNHEALTHY");
    assert_eq!(plane.holds("new").await.len(), 2);
    assert_eq!(ours.report(&plane, "HEALTHY").await, "ACTIVE");
    // A new session of the same boot is an agent's restart.
    ours.session = "session-2".to_owned();
    ours.sequence = 0;
    ours.register(&plane).await;
    assert_eq!(plane.status("new").await, "ACTIVE");
    ours.boot = "boot-2".to_owned();
    ours.session = "session-3".to_owned();
    ours.register(&plane).await;
    assert_eq!(plane.status("new").await, "CORDONED");
    assert_eq!(ours.report(&plane, "DEGRADED").await, "ACTIVE");
}

#[tokio::test]
async fn silence_is_unhealthy_and_a_full_report_after_a_beat_ends_it() {
    let plane = Plane::start().await;
    let mut ours = Agent::new("ours");
    ours.join(&plane).await;
    let go = GoAgent("go");
    go.register(&plane).await;
    go.beat(&plane).await;
    go.report(&plane, "HEALTHY").await;
    plane.pass(Duration::from_secs(91)).await;
    for id in ["ours", "go"] {
        assert_eq!(plane.status(id).await, "UNHEALTHY", "{id}");
        assert_eq!(
            plane.node(id).await["silentSince"],
            "2025-01-01T00:00:00Z",
            "{id}"
        );
    }
    // A report is no heartbeat.
    assert_eq!(ours.report(&plane, "HEALTHY").await, "UNHEALTHY");
    ours.beat(&plane).await;
    go.beat(&plane).await;
    plane.settle().await;
    assert_eq!(
        plane.status("ours").await,
        "UNHEALTHY",
        "a beat alone proves no health"
    );
    assert_eq!(ours.report(&plane, "HEALTHY").await, "ACTIVE");
    assert_eq!(go.report(&plane, "HEALTHY").await, "ACTIVE");
}

#[tokio::test]
async fn a_fatal_xid_stays_through_healthy_reports_until_a_reboot_or_an_operator() {
    let plane = Plane::start().await;
    let mut ours = Agent::new("ours");
    ours.join(&plane).await;
    GoAgent("go").register(&plane).await;
    let xid = json!([{
        "gpuIndex": 0, "system": "HEALTH_WATCH_SYSTEM_DRIVER", "eventType": "HEALTH_EVENT_TYPE_XID",
        "metrics": {"xid_code": "79"}, "message": "GPU has fallen off the bus",
    }]);
    for id in ["ours", "go"] {
        let answer = plane
            .ok("ReportHealth", json!({"nodeId": id, "events": xid}))
            .await;
        assert_eq!(answer["nodeStatus"], "NODE_STATUS_UNHEALTHY", "{id}");
    }
    assert_eq!(ours.report(&plane, "HEALTHY").await, "UNHEALTHY");
    assert_eq!(GoAgent("go").report(&plane, "HEALTHY").await, "UNHEALTHY");
    ours.boot = "boot-2".to_owned();
    ours.session = "session-2".to_owned();
    ours.sequence = 0;
    ours.register(&plane).await;
    let after_reboot = ours.report(&plane, "HEALTHY").await;
    let incidents = plane
        .ok("FleetService/ListIncidents", json!({"openOnly": true}))
        .await;
    let open = incidents["incidents"].as_array().expect("a list");
    // XID 79 wants more than a reboot or not; either way the operator ends what is left.
    for incident in open {
        let request = json!({"incidentId": incident["incidentId"], "reason": "repaired by hand"});
        plane.ok("FleetService/CloseIncident", request).await;
    }
    assert!(
        after_reboot == "ACTIVE" || open.len() == 2,
        "{after_reboot} with {incidents}"
    );
    for id in ["ours", "go"] {
        assert_eq!(plane.status(id).await, "ACTIVE", "{id}");
    }
}

//! Lists of many nodes: filters, order, and parts that are encoded once but never stale.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agents::GoAgent;
use crate::support::plane::Plane;
use crate::support::rpc::Flavour;

fn ids(listed: &Value) -> Vec<&str> {
    let nodes = listed["nodes"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    nodes
        .iter()
        .map(|node| node["nodeId"].as_str().expect("an id"))
        .collect()
}

#[tokio::test]
async fn filters_select_exactly_and_lists_are_in_order() {
    let plane = Plane::start().await;
    for at in 0..300_u32 {
        let name = format!("n-{at:03}");
        let request = json!({
            "nodeId": name,
            "provider": if at % 2 == 0 { "gcp" } else { "lambda" },
            "region": if at % 3 == 0 { "us-west1" } else { "us-west" },
            "metadata": {"labels": {"rack": (at % 10).to_string(), "pool": format!("p{}", at % 5)}},
        });
        plane.ok("RegisterNode", request).await;
    }
    for at in [0, 6, 7] {
        plane
            .ok(
                "IssueCommand",
                json!({"nodeId": format!("n-{at:03}"), "commandType": 1}),
            )
            .await;
    }
    let all = plane.ok("ListNodes", json!({})).await;
    let sorted: Vec<_> = (0..300).map(|at| format!("n-{at:03}")).collect();
    assert_eq!(ids(&all), sorted);
    for (filter, expected) in [
        (json!({"provider": "gcp"}), 150),
        (json!({"provider": "GCP"}), 0),
        (json!({"region": "us-west"}), 200),
        (json!({"region": "us"}), 0),
        (json!({"provider": "lambda", "region": "us-west1"}), 50),
        (json!({"status": "NODE_STATUS_CORDONED"}), 3),
        (json!({"status": 0}), 300),
        (
            json!({"status": "NODE_STATUS_CORDONED", "provider": "gcp"}),
            2,
        ),
        (json!({"pool": "p1"}), 60),
        (json!({"labels": {"rack": "3"}}), 30),
        (json!({"labels": {"rack": "3", "pool": "p1"}}), 0),
        (json!({"labels": {"rack": "6", "pool": "p1"}}), 30),
        (json!({"labels": {"rack": ""}}), 0),
        (json!({"provider": "gcp", "labels": {"nothing": "x"}}), 0),
    ] {
        let listed = plane.ok("ListNodes", filter.clone()).await;
        assert_eq!(ids(&listed).len(), expected, "{filter}");
    }
}

/// What one node shows in a list, in every protocol, after something happened to it.
#[tokio::test]
async fn a_list_shows_what_happened_a_moment_ago_whatever_was_listed_before() {
    let plane = Plane::start().await;
    let names: Vec<_> = (0..200).map(|at| format!("n-{at:03}")).collect();
    for name in &names {
        GoAgent(name).register(&plane).await;
    }
    let go = GoAgent("n-100");
    let wanted = async || {
        let mut seen = Vec::new();
        for flavour in Flavour::ALL {
            let listed = plane
                .call_by(flavour, "ListNodes", &json!({}))
                .await
                .expect("a list");
            let nodes = listed["nodes"].as_array().expect("nodes").clone();
            assert_eq!(nodes.len(), 200, "{flavour:?}");
            seen.push(nodes[100].clone());
        }
        let one = plane.node("n-100").await;
        for (flavour, listed) in Flavour::ALL.iter().zip(&seen) {
            assert_eq!(*listed, one, "{flavour:?}: the list and GetNode agree");
        }
        one
    };
    assert_eq!(wanted().await["lastHeartbeat"], "0001-01-01T00:00:00Z");
    go.beat(&plane).await;
    assert_eq!(wanted().await["lastHeartbeat"], "2025-01-01T00:00:00Z");
    plane.pass(Duration::from_millis(1)).await;
    go.beat(&plane).await;
    assert_eq!(wanted().await["lastHeartbeat"], "2025-01-01T00:00:00.001Z");
    assert_eq!(go.report(&plane, "DEGRADED").await, "ACTIVE");
    assert_eq!(wanted().await["healthStatus"], "HEALTH_STATUS_DEGRADED");
    plane
        .ok("IssueCommand", json!({"nodeId": "n-100", "commandType": 2}))
        .await;
    let node = wanted().await;
    assert_eq!(
        (&node["status"], &node["holds"][0]["name"]),
        (&json!("NODE_STATUS_DRAINING"), &json!("operator:drain"))
    );
    let mut changed = go.registration();
    changed["region"] = json!("mars");
    plane.ok("RegisterNode", changed).await;
    assert_eq!(wanted().await["region"], "mars");
    plane.pass(Duration::from_secs(92)).await;
    let node = wanted().await;
    assert_eq!(
        (&node["status"], &node["silentSince"]),
        (
            &json!("NODE_STATUS_UNHEALTHY"),
            &json!("2025-01-01T00:00:00.001Z")
        )
    );
    go.beat(&plane).await;
    plane.settle().await;
    let node = wanted().await;
    assert!(node.get("silentSince").is_none(), "{node}");
    assert_eq!(node["lastHeartbeat"], "2025-01-01T00:01:32.001Z");
}

#[tokio::test]
async fn a_filter_by_what_never_was_is_refused_with_the_nearest_names() {
    let plane = Plane::start().await;
    for name in ["node-1", "node-2"] {
        GoAgent(name).register(&plane).await;
    }
    let nowhere = "11111111-2222-4333-8444-555555555555";
    for (method, filter, expected) in [
        (
            "FleetService/ListEvents",
            json!({"filter": {"nodeId": "nod-1"}}),
            "node not found: nod-1 (nearest: node-1, node-2)",
        ),
        (
            "FleetService/ListIncidents",
            json!({"nodeId": "nod-2"}),
            "node not found: nod-2 (nearest: node-2, node-1)",
        ),
        (
            "FleetService/ListEvents",
            json!({"filter": {"pool": "mian"}}),
            "pool not found: mian",
        ),
        (
            "FleetService/ListIncidents",
            json!({"pool": "mian"}),
            "pool not found: mian",
        ),
        ("ListNodes", json!({"pool": "mian"}), "pool not found: mian"),
        (
            "ListInstances",
            json!({"poolName": "mian"}),
            "pool not found: mian",
        ),
        (
            "FleetService/ListEvents",
            json!({"filter": {"incidentId": nowhere}}),
            "incident not found: 11111111-2222-4333-8444-555555555555",
        ),
        (
            "FleetService/ListEvents",
            json!({"filter": {"instanceId": nowhere}}),
            "instance not found: 11111111-2222-4333-8444-555555555555",
        ),
        (
            "FleetService/ListUnclaimed",
            json!({"provider": "nobody"}),
            "provider not found: nobody",
        ),
    ] {
        let refused = plane.refused(method, filter.clone()).await;
        let expected = format!("not_found: {expected}");
        assert!(
            refused.starts_with(&expected),
            "{method} {filter}: {refused}"
        );
    }
    // What is there has its list, and the old contract answers what it always did.
    let events = plane
        .ok(
            "FleetService/ListEvents",
            json!({"filter": {"nodeId": "node-1"}}),
        )
        .await;
    assert_eq!(events["events"][0]["nodeId"], "node-1");
    for filter in [json!({"provider": "nobody"}), json!({"region": "nowhere"})] {
        assert_eq!(plane.ok("ListNodes", filter).await, json!({}));
    }
    assert_eq!(
        plane.ok("ListInstances", json!({"poolName": "mian"})).await,
        json!({})
    );
}

//! Instances through the wire, against a cloud that takes every call and answers none.

use std::time::Duration;

use navarch_config::Config;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::agents::{Agent, GoAgent};
use crate::support::http::Raw;
use crate::support::plane::{Plane, no_token};

/// A control plane with one pool in that cloud, and the instance that it asked for.
async fn with_pool() -> (Plane, TcpListener, Value) {
    let cloud = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", cloud.local_addr().expect("it is bound"));
    let plane = Plane::with(|config, home| {
        let file = home.path().join("config.yaml");
        let text = format!(
            "providers:\n  fake: {{url: \"{url}\", gpu_count: 1}}\n\
             pools:\n  p: {{provider: fake, region: west, instance_type: fake-8x, min_nodes: 1, max_nodes: 2}}\n"
        );
        std::fs::write(&file, text).expect("a file");
        let (loaded, _) = Config::load(&file).expect("it is sound");
        *config = loaded;
        config.server.address = "127.0.0.1:0".to_owned();
        config.server.auth = no_token();
        config.store.data_dir = home.path().join("data");
    })
    .await;
    let instance = plane
        .until("a launch", async || {
            let listed = plane.ok("ListInstances", json!({})).await;
            let instance = listed["instances"].get(0)?.clone();
            (instance["phase"] == "launching").then_some(instance)
        })
        .await;
    (plane, cloud, instance)
}

fn id(instance: &Value) -> &str {
    instance["instanceId"].as_str().expect("an id")
}

#[tokio::test]
async fn instances_are_listed_by_every_filter_and_found_by_id() {
    let (plane, _cloud, instance) = with_pool().await;
    assert_eq!(instance["state"], "INSTANCE_STATE_PROVISIONING");
    for (key, value) in [
        ("provider", "fake"),
        ("region", "west"),
        ("instanceType", "fake-8x"),
        ("poolName", "p"),
    ] {
        assert_eq!(instance[key], value, "{key}");
    }
    for absent in ["readyAt", "terminatedAt", "nodeId", "providerInstanceId"] {
        assert!(instance.get(absent).is_none(), "{absent}: {instance}");
    }
    let asked = json!({"instanceId": id(&instance)});
    assert_eq!(
        plane.ok("GetInstance", asked).await,
        json!({"instance": instance})
    );
    for (filter, found) in [
        (json!({"poolName": "p"}), 1),
        (json!({"poolName": "q"}), 0),
        (
            json!({"provider": "fake", "region": "west", "state": "INSTANCE_STATE_PROVISIONING"}),
            1,
        ),
        (json!({"provider": "aws"}), 0),
        (json!({"region": "east"}), 0),
        (json!({"state": "INSTANCE_STATE_RUNNING"}), 0),
        (json!({"state": 0}), 1),
    ] {
        let listed = plane.ok("ListInstances", filter.clone()).await;
        let count = listed["instances"].as_array().map_or(0, Vec::len);
        assert_eq!(count, found, "{filter}");
    }
}

#[tokio::test]
async fn a_registration_proves_the_launch_and_terminate_ends_it_without_the_agent() {
    let (plane, _cloud, instance) = with_pool().await;
    let id = id(&instance).to_owned();
    let mut agent = Agent::new("n");
    let mut registration = agent.registration();
    registration["instanceId"] = json!(id);
    plane.ok("RegisterNode", registration).await;
    let asked = json!({"instanceId": id});
    let running = plane.ok("GetInstance", asked.clone()).await["instance"].clone();
    assert_eq!(
        (&running["state"], &running["nodeId"]),
        (&json!("INSTANCE_STATE_RUNNING"), &json!("n"))
    );
    assert_eq!(running["statusMessage"], "node registered successfully");
    assert!(running.get("readyAt").is_some(), "{running}");
    let node = plane.node("n").await;
    assert_eq!(
        (&node["pool"], &node["instanceId"]),
        (&json!("p"), &json!(id))
    );
    agent.beat(&plane).await;
    assert_eq!(agent.report(&plane, "HEALTHY").await, "ACTIVE");
    // Another host that claims the same instance is refused.
    let mut other = Agent::new("m").registration();
    other["instanceId"] = json!(id);
    assert_eq!(
        plane.refused("RegisterNode", other).await,
        format!("already_exists: instance {id} is bound to node n, not to m")
    );
    let request = json!({"nodeId": "n", "commandType": "NODE_COMMAND_TYPE_TERMINATE", "parameters": {"reason": "old"}});
    let answer = plane.ok("IssueCommand", request).await;
    assert!(
        answer["remainingHolds"].to_string().contains("drain"),
        "{answer}"
    );
    let leaving = plane.ok("GetInstance", asked).await["instance"].clone();
    assert_eq!(leaving["state"], "INSTANCE_STATE_TERMINATING");
    assert_eq!(
        plane.ok("GetNodeCommands", json!({"nodeId": "n"})).await,
        json!({})
    );
    let commands = plane
        .ok("FleetService/ListCommands", json!({"nodeId": "n"}))
        .await;
    assert_eq!(commands["commands"][0]["state"], "succeeded");
    // An operator's cordon neither stops nor is stopped by it, and the pool asks for another.
    plane
        .ok("IssueCommand", json!({"nodeId": "n", "commandType": 1}))
        .await;
    plane
        .until("another machine", async || {
            let filter = json!({"state": "INSTANCE_STATE_PROVISIONING"});
            let listed = plane.ok("ListInstances", filter).await;
            listed["instances"]
                .as_array()
                .map(Vec::len)
                .filter(|count| *count == 1)
        })
        .await;
    let page: Raw = plane.get("/metrics").await;
    let page = page.text();
    for line in [
        "navarch_instances{pool=\"p\",phase=\"terminating\"} 1",
        "navarch_pool_target_nodes{pool=\"p\"} 1",
        "navarch_invariant_violations 0",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
}

#[tokio::test]
async fn an_old_agent_is_bound_by_its_node_id_and_a_stranger_is_external() {
    let (plane, _cloud, instance) = with_pool().await;
    let id = id(&instance).to_owned();
    GoAgent("stranger").register(&plane).await;
    assert!(plane.node("stranger").await.get("instanceId").is_none());
    let mut unknown = Agent::new("unknown").registration();
    unknown["instanceId"] = json!("nv-000000000000");
    let refused = plane.refused("RegisterNode", unknown).await;
    let words = "failed_precondition: instance nv-000000000000 is not on record";
    assert!(refused.starts_with(words), "{refused}");
    assert!(
        plane
            .call("GetNode", json!({"nodeId": "unknown"}))
            .await
            .is_err(),
        "what was refused is no node"
    );
    GoAgent(&id).register(&plane).await;
    assert_eq!(plane.node(&id).await["instanceId"], json!(id));
    let found = plane.ok("GetInstance", json!({"instanceId": id})).await;
    assert_eq!(found["instance"]["state"], "INSTANCE_STATE_RUNNING");
}

#[tokio::test]
async fn a_launch_without_an_answer_is_in_doubt_and_counts_still() {
    let (plane, _cloud, instance) = with_pool().await;
    plane
        .pass_in(Duration::from_secs(360), Duration::from_secs(2))
        .await;
    let listed = plane.ok("ListInstances", json!({})).await;
    let known = listed["instances"].as_array().expect("one");
    assert_eq!(
        known.len(),
        1,
        "nothing is bought while the first may be alive: {listed}"
    );
    assert_eq!(id(&known[0]), id(&instance));
    assert_eq!(
        (&known[0]["phase"], &known[0]["state"]),
        (
            &json!("outcome_unknown"),
            &json!("INSTANCE_STATE_PROVISIONING")
        )
    );
    let plan = plane.ok("FleetService/GetPlan", json!({"pool": "p"})).await;
    assert_eq!(plan["pools"][0]["aliveNodes"], 1, "{plan}");
    assert_eq!(
        plane
            .refused("FleetService/GetPlan", json!({"pool": "q"}))
            .await,
        "not_found: pool not found: q (nearest: p)"
    );
    assert_eq!(
        plane
            .refused(
                "FleetService/SetAutomation",
                json!({"pool": "q", "mode": 3})
            )
            .await,
        "not_found: pool not found: q (pools: p)"
    );
}

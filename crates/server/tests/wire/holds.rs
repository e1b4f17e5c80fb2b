//! Named holds over the wire: set, renewed, lifted, expired, listed, and refused.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agents::Agent;
use crate::support::plane::Plane;
use crate::support::rpc::Flavour;

const ADD: &str = "FleetService/AddHold";
const REMOVE: &str = "FleetService/RemoveHold";
const LIST: &str = "FleetService/ListHolds";

/// A control plane with one node that is ACTIVE.
async fn with_node() -> (Plane, Agent) {
    let plane = Plane::start().await;
    let mut agent = Agent::new("n");
    agent.join(&plane).await;
    assert_eq!(agent.report(&plane, "HEALTHY").await, "ACTIVE");
    (plane, agent)
}

/// A hold of the scheduler with some fields changed.
fn hold(change: &Value) -> Value {
    let mut request = json!({
        "nodeId": "n", "name": "maintenance", "owner": "slurm", "reason": "disk swap",
    });
    for (key, value) in change.as_object().into_iter().flatten() {
        request[key] = value.clone();
    }
    request
}

/// The holds on a node: name, owner and whether they drain.
async fn listed(plane: &Plane, node: &str) -> Vec<(String, String, bool)> {
    let answer = plane.ok(LIST, json!({"nodeId": node})).await;
    let holds = answer["holds"].as_array().cloned().unwrap_or_default();
    let text = |hold: &Value, key: &str| hold[key].as_str().unwrap_or_default().to_owned();
    let shown = |hold: &Value| {
        let drains = hold["drain"].as_bool().unwrap_or_default();
        (text(hold, "name"), text(hold, "owner"), drains)
    };
    holds.iter().map(shown).collect()
}

#[tokio::test]
async fn a_hold_is_set_renewed_and_lifted_in_every_protocol() {
    let (plane, _agent) = with_node().await;
    for flavour in Flavour::ALL {
        let label = format!("{flavour:?}");
        let added = plane.call_by(flavour, ADD, &hold(&json!({}))).await;
        let added = added.unwrap_or_else(|error| panic!("{label}: {error:?}"));
        assert_eq!(added["changed"], true, "{label}: {added}");
        assert_eq!(added["nodeStatus"], "NODE_STATUS_CORDONED", "{label}");
        assert_eq!(added["hold"]["nodeId"], "n", "{label}: {added}");
        assert_eq!(added["hold"]["reason"], "disk swap", "{label}: {added}");
        // The same again changes nothing and records nothing.
        let sequence = plane.sequence().await;
        let again = plane.call_by(flavour, ADD, &hold(&json!({}))).await;
        let again = again.expect("a repeat is no error");
        assert!(
            again.get("changed").is_none_or(|changed| changed == false),
            "{label}: {again}"
        );
        assert_eq!(plane.sequence().await, sequence, "{label}");
        // Renewed as one that drains: one hold still.
        let drains = hold(&json!({"drain": true}));
        let renewed = plane.call_by(flavour, ADD, &drains).await;
        let renewed = renewed.expect("it is renewed");
        assert_eq!(renewed["nodeStatus"], "NODE_STATUS_DRAINING", "{label}");
        let shown = listed(&plane, "n").await;
        assert_eq!(shown.len(), 1, "{label}: {shown:?}");
        assert_eq!(
            (shown[0].1.as_str(), shown[0].2),
            ("slurm", true),
            "{label}"
        );
        let request = json!({"nodeId": "n", "name": "maintenance", "reason": "done"});
        let removed = plane.call_by(flavour, REMOVE, &request).await;
        let removed = removed.unwrap_or_else(|error| panic!("{label}: {error:?}"));
        assert_eq!(removed["removed"], true, "{label}: {removed}");
        assert_eq!(removed["nodeStatus"], "NODE_STATUS_ACTIVE", "{label}");
        let again = plane.call_by(flavour, REMOVE, &request).await;
        let again = again.expect("a repeat is no error");
        assert!(
            again.get("removed").is_none_or(|removed| removed == false),
            "{label}: {again}"
        );
        assert_eq!(listed(&plane, "n").await, [], "{label}");
    }
    let told = plane.events_after(0).await;
    let added = told
        .iter()
        .filter(|line| line.starts_with("hold.added: hold:"));
    assert_eq!(added.count(), 2 * Flavour::ALL.len(), "{told:#?}");
}

#[tokio::test]
async fn a_hold_ends_by_its_time_and_a_renewal_counts_anew() {
    let (plane, mut agent) = with_node().await;
    let short = hold(&json!({"expiresAfterMilliseconds": "60000"}));
    let added = plane.ok(ADD, short.clone()).await;
    assert!(added["hold"].get("expires").is_some(), "{added}");
    plane.pass(Duration::from_secs(50)).await;
    agent.beat(&plane).await;
    plane.ok(ADD, short).await;
    plane.pass(Duration::from_secs(59)).await;
    agent.beat(&plane).await;
    assert_eq!(listed(&plane, "n").await.len(), 1, "renewed");
    let sequence = plane.sequence().await;
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!(listed(&plane, "n").await, []);
    let told = plane.events_after(sequence).await;
    let line = "hold.removed: hold:slurm/maintenance: its time is over";
    assert!(told.iter().any(|told| told == line), "{told:#?}");
    agent.beat(&plane).await;
    assert_eq!(agent.report(&plane, "HEALTHY").await, "ACTIVE");
}

#[tokio::test]
async fn holds_of_different_owners_stand_beside_each_other_and_outlive_a_restart() {
    let (plane, mut agent) = with_node().await;
    plane.ok(ADD, hold(&json!({}))).await;
    plane
        .ok(ADD, hold(&json!({"name": "audit", "owner": "ana"})))
        .await;
    let cordon = json!({"nodeId": "n", "commandType": "NODE_COMMAND_TYPE_CORDON"});
    plane.ok("IssueCommand", cordon).await;
    let uncordon = json!({"nodeId": "n", "commandType": "NODE_COMMAND_TYPE_UNCORDON"});
    let answer = plane.ok("IssueCommand", uncordon.clone()).await;
    assert_eq!(
        answer["remainingHolds"],
        json!(["hold:ana/audit", "hold:slurm/maintenance"])
    );
    // What an operator did not set, an operator's uncordon does not lift.
    let refused = plane.refused("IssueCommand", uncordon).await;
    assert!(
        refused.starts_with("failed_precondition: node n"),
        "{refused}"
    );
    let plane = plane.restart().await;
    assert_eq!(listed(&plane, "n").await.len(), 2);
    agent.beat(&plane).await;
    assert_eq!(plane.status("n").await, "CORDONED");
    assert_eq!(agent.report(&plane, "HEALTHY").await, "CORDONED");
    let all = plane.ok(LIST, json!({})).await;
    assert_eq!(all["holds"].as_array().map(Vec::len), Some(2), "{all}");
}

/// Requests that are refused: the method, the request, and how the refusal begins.
fn hostile() -> Vec<(&'static str, Value, &'static str)> {
    let long = "x".repeat(64);
    let add = |change: &Value| (ADD, hold(change));
    let mut rows = Vec::new();
    for (change, begins) in [
        (json!({"nodeId": ""}), "invalid_argument: node_id"),
        (json!({"nodeId": "a\u{0}b"}), "invalid_argument: node_id"),
        (json!({"nodeId": "../n"}), "invalid_argument: node_id"),
        (
            json!({"nodeId": "nobody"}),
            "not_found: node not found: nobody",
        ),
        (json!({"name": ""}), "invalid_argument: name"),
        (
            json!({"name": "a/b"}),
            "invalid_argument: name is \"a/b\"; use letters",
        ),
        (json!({"name": "a b"}), "invalid_argument: name"),
        (json!({"name": "a\nb"}), "invalid_argument: name"),
        (json!({"name": "\u{1b}[31m"}), "invalid_argument: name"),
        (json!({"name": "naïve"}), "invalid_argument: name"),
        (json!({"name": long}), "invalid_argument: name"),
        (json!({"owner": ""}), "invalid_argument: owner"),
        (json!({"owner": "a:b"}), "invalid_argument: owner"),
        (json!({"owner": "\u{202e}a"}), "invalid_argument: owner"),
        (json!({"owner": long}), "invalid_argument: owner"),
        (
            json!({"expiresAfterMilliseconds": "-1"}),
            "invalid_argument: expires_after_milliseconds is -1",
        ),
        (
            json!({"expiresAfterMilliseconds": "999"}),
            "invalid_argument: expires_after_milliseconds is 999",
        ),
        (
            json!({"expiresAfterMilliseconds": "9223372036854775807"}),
            "invalid_argument: expires_after_milliseconds is 9223372036854775807",
        ),
        (
            json!({"reason": "r".repeat(10_000)}),
            "invalid_argument: reason",
        ),
    ] {
        let (method, request) = add(&change);
        rows.push((method, request, begins));
    }
    for (request, begins) in [
        (json!({"nodeId": "n"}), "invalid_argument: name"),
        (json!({"name": "maintenance"}), "invalid_argument: node_id"),
        (
            json!({"nodeId": "nobody", "name": "maintenance"}),
            "not_found: node not found: nobody",
        ),
        // The control plane's own holds have names that nobody can say.
        (
            json!({"nodeId": "n", "name": "operator:cordon"}),
            "invalid_argument: name",
        ),
        (
            json!({"nodeId": "n", "name": "gate:admission"}),
            "invalid_argument: name",
        ),
    ] {
        rows.push((REMOVE, request, begins));
    }
    rows.push((
        LIST,
        json!({"nodeId": "nobody"}),
        "not_found: node not found: nobody",
    ));
    rows.push((
        LIST,
        json!({"nodeId": "a\u{0}"}),
        "invalid_argument: node_id",
    ));
    rows
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let (plane, _agent) = with_node().await;
    plane.ok(ADD, hold(&json!({}))).await;
    let before = plane.state().await;
    for (method, request, begins) in hostile() {
        for flavour in [Flavour::ConnectJson, Flavour::Grpc] {
            let outcome = plane.call_by(flavour, method, &request).await;
            let (code, message) = match outcome {
                Err(refusal) => refusal,
                Ok(answer) => panic!("{flavour:?} {method} {request} was accepted: {answer}"),
            };
            let said = format!("{code}: {message}");
            assert!(
                said.starts_with(begins),
                "{flavour:?} {method} {request}: {said}"
            );
            assert!(said.len() < 600, "{flavour:?} {method}: {said}");
        }
    }
    let other = hold(&json!({"owner": "ana"}));
    assert_eq!(
        plane.refused(ADD, other).await,
        "already_exists: the hold maintenance on node n is slurm's: choose another name"
    );
    assert_eq!(plane.state().await, before);
    assert_eq!(listed(&plane, "n").await.len(), 1);
}

#[tokio::test]
async fn a_node_takes_so_many_holds_and_no_more() {
    let (plane, _agent) = with_node().await;
    for number in 0..16 {
        plane
            .ok(ADD, hold(&json!({"name": format!("h{number}")})))
            .await;
    }
    let refused = plane.refused(ADD, hold(&json!({"name": "more"}))).await;
    assert_eq!(
        refused,
        "failed_precondition: 16 named holds stand on node n already; remove one first"
    );
    // One of them can still be renewed.
    plane
        .ok(ADD, hold(&json!({"name": "h3", "reason": "longer"})))
        .await;
    assert_eq!(listed(&plane, "n").await.len(), 16);
}

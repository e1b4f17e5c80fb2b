//! Every call against every role, over the protocols; tokens that come, change and go.

use navarch_api::service::CALLS;
use navarch_config::{Role, TokenConfig, TokenSource};
use serde_json::json;

use crate::support::plane::Plane;
use crate::support::rpc::{self, Flavour, Outcome};

const AGENT: &str = "agent-secret";
const VIEWER: &str = "viewer-secret";
const OPERATOR: &str = "operator-secret";
const ADMIN: &str = "admin-secret";

/// Who may make each call, in the order agent, viewer, operator, admin.
const TABLE: &[(&str, [bool; 4])] = &[
    ("RegisterNode", [true, false, false, false]),
    ("ReportHealth", [true, false, false, false]),
    ("SendHeartbeat", [true, false, false, false]),
    ("GetNodeCommands", [true, false, false, false]),
    ("ListNodes", [false, true, true, true]),
    ("GetNode", [false, true, true, true]),
    ("IssueCommand", [false, false, true, true]),
    ("ListInstances", [false, true, true, true]),
    ("GetInstance", [false, true, true, true]),
    (
        "AgentService/AcknowledgeCommand",
        [true, false, false, false],
    ),
    ("AgentService/WatchCommands", [true, false, false, false]),
    ("FleetService/GetServerInfo", [false, true, true, true]),
    ("FleetService/ExplainNode", [false, true, true, true]),
    ("FleetService/ConfirmSilence", [false, false, true, true]),
    ("FleetService/ListCommands", [false, true, true, true]),
    ("FleetService/ListIncidents", [false, true, true, true]),
    ("FleetService/GetIncident", [false, true, true, true]),
    ("FleetService/CloseIncident", [false, false, true, true]),
    ("FleetService/ListEvents", [false, true, true, true]),
    ("FleetService/WatchEvents", [false, true, true, true]),
    ("FleetService/ListPools", [false, true, true, true]),
    ("FleetService/GetPlan", [false, true, true, true]),
    ("PoolService/GetPoolStatus", [false, true, true, true]),
    ("PoolService/QueryMetrics", [false, true, true, true]),
    ("FleetService/GetAutomation", [false, true, true, true]),
    ("FleetService/SetAutomation", [false, false, true, true]),
    ("FleetService/AddHold", [false, false, true, true]),
    ("FleetService/RemoveHold", [false, false, true, true]),
    ("FleetService/ListHolds", [false, true, true, true]),
    ("FleetService/ListUnclaimed", [false, true, true, true]),
    ("FleetService/AdoptInstance", [false, false, true, true]),
    ("FleetService/TerminateInstance", [false, false, true, true]),
    ("FleetService/ScalePool", [false, false, true, true]),
    ("FleetService/ResetBreaker", [false, false, true, true]),
    ("FleetService/GetPolicy", [false, true, true, true]),
    ("FleetService/GetConfig", [false, false, false, true]),
    ("DevService/InjectFault", [false, false, false, true]),
    ("DevService/ClearFault", [false, false, false, true]),
];

async fn plane() -> Plane {
    let mut plane = Plane::with(|config, home| {
        for (role, secret) in [
            (Role::Agent, AGENT),
            (Role::Viewer, VIEWER),
            (Role::Operator, OPERATOR),
            (Role::Admin, ADMIN),
        ] {
            let file = home.path().join(role.word());
            std::fs::write(&file, secret).expect("a token file");
            let source = TokenSource::File(file);
            let name = format!("the-{}", role.word());
            let token = TokenConfig { role, source };
            config.server.auth.tokens.insert(name, token);
        }
    })
    .await;
    plane.token = Some(ADMIN.to_owned());
    plane
}

async fn call(plane: &Plane, flavour: Flavour, method: &str, token: &str) -> Outcome {
    rpc::call(plane.address, flavour, method, Some(token), &json!({})).await
}

fn is_forbidden(outcome: &Outcome) -> bool {
    matches!(outcome, Err((code, _)) if code == "permission_denied")
}

#[test]
fn the_table_has_every_call_of_the_contract() {
    let mut listed: Vec<_> = TABLE.iter().map(|(method, _)| rpc::path(method)).collect();
    let mut known: Vec<_> = CALLS.iter().map(|call| call.path.to_owned()).collect();
    listed.sort();
    known.sort();
    assert_eq!(listed, known);
}

#[tokio::test]
async fn every_role_reaches_its_calls_and_no_other() {
    let plane = plane().await;
    let before = plane.state().await;
    for flavour in [Flavour::ConnectJson, Flavour::Grpc, Flavour::GrpcWeb] {
        for (method, allowed) in TABLE {
            for (token, allowed) in [AGENT, VIEWER, OPERATOR, ADMIN].into_iter().zip(allowed) {
                // An empty request changes nothing; streams would go on, so only refusals of
                // them are asked for here.
                let stream = CALLS
                    .iter()
                    .any(|call| call.path == rpc::path(method) && call.stream);
                if *allowed && (stream || method.ends_with("SetAutomation")) {
                    continue;
                }
                let outcome = call(&plane, flavour, method, token).await;
                assert_eq!(
                    is_forbidden(&outcome),
                    !allowed,
                    "{flavour:?} {method} with {token}: {outcome:?}"
                );
            }
        }
    }
    assert_eq!(plane.state().await, before);
    let outcome = call(&plane, Flavour::ConnectJson, "IssueCommand", VIEWER).await;
    let told = "IssueCommand needs the role operator; the token \"the-viewer\" has viewer";
    assert_eq!(
        outcome,
        Err(("permission_denied".to_owned(), told.to_owned()))
    );
}

/// Waits until a call is let in, or refused as one with an unknown token.
async fn becomes(plane: &Plane, token: &str, status: u16) {
    for _ in 0..200 {
        let body = rpc::body(Flavour::ConnectJson, "ListNodes", &json!({}));
        let raw = rpc::send(
            plane.address,
            Flavour::ConnectJson,
            "ListNodes",
            Some(token),
            body,
        )
        .await;
        if raw.status == status {
            return;
        }
        plane.pass(std::time::Duration::from_secs(1)).await;
    }
    panic!("{token} never got {status}");
}

#[tokio::test]
async fn a_changed_token_file_counts_at_once_and_an_empty_one_changes_nothing() {
    let plane = plane().await;
    let file = plane.home.path().join("viewer");
    std::fs::write(&file, "viewer-secret-2").expect("the file can be written");
    becomes(&plane, "viewer-secret-2", 200).await;
    becomes(&plane, VIEWER, 401).await;
    // Nothing is let in, and nobody is locked out, by a file that is being written.
    for bad in ["", "short", OPERATOR] {
        std::fs::write(&file, bad).expect("the file can be written");
        plane.pass(std::time::Duration::from_secs(3)).await;
        becomes(&plane, "viewer-secret-2", 200).await;
        becomes(&plane, OPERATOR, 200).await;
    }
    std::fs::write(&file, "viewer-secret-3").expect("the file can be written");
    becomes(&plane, "viewer-secret-3", 200).await;
}

#[tokio::test]
async fn what_a_person_orders_says_who_asked() {
    let plane = plane().await;
    let machine = json!({ "nodeId": "node-1" });
    call_with(&plane, "RegisterNode", AGENT, &machine).await;
    let order = json!({ "nodeId": "node-1", "commandType": "NODE_COMMAND_TYPE_CORDON" });
    call_with(&plane, "IssueCommand", OPERATOR, &order).await;
    let asked = json!({ "filter": { "nodeId": "node-1" } });
    let told = call_with(&plane, "FleetService/ListEvents", VIEWER, &asked).await;
    let events = told["events"].as_array().expect("events");
    let actor = |kind: &str| {
        let event = events.iter().find(|event| event["kind"] == kind);
        event.expect("it is on record")["details"]["actor"].clone()
    };
    assert_eq!(actor("command.issued"), "the-operator");
    assert_eq!(actor("hold.added"), "the-operator");
    assert_eq!(actor("node.registered"), serde_json::Value::Null);
    let issued = events
        .iter()
        .find(|event| event["kind"] == "command.issued");
    assert_eq!(
        issued.expect("it is there")["details"]["address"],
        "127.0.0.1"
    );
}

async fn call_with(
    plane: &Plane,
    method: &str,
    token: &str,
    body: &serde_json::Value,
) -> serde_json::Value {
    let flavour = Flavour::ConnectJson;
    rpc::call(plane.address, flavour, method, Some(token), body)
        .await
        .unwrap_or_else(|error| panic!("{method}: {error:?}"))
}

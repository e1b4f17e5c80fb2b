//! The nine RPCs of the contract in every protocol and encoding: answers and refusals.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agents::GoAgent;
use crate::support::plane::Plane;
use crate::support::rpc::{self, Flavour};

/// What each RPC refuses: the request, the code, the message. A text that ends in `…` is a
/// beginning.
fn refusals() -> Vec<(&'static str, Value, &'static str, &'static str)> {
    let long = "n".repeat(10_000);
    let mut rows = vec![
        (
            "RegisterNode",
            json!({"gpus": [{"index": 128}], "nodeId": "x"}),
            "invalid_argument",
            "gpus[0].index is 128; it must be between 0 and 127",
        ),
        (
            "RegisterNode",
            json!({"gpus": [{"memoryTotal": "-1"}], "nodeId": "x"}),
            "invalid_argument",
            "gpus[0].memory_total is -1; it cannot be negative",
        ),
        (
            "RegisterNode",
            json!({"nodeId": "x", "region": "a\u{0}b"}),
            "invalid_argument",
            "region has the control character '\\0' at byte 1; remove it",
        ),
        (
            "RegisterNode",
            json!({"nodeId": "x", "metadata": {"labels": {"": "v"}}}),
            "invalid_argument",
            "metadata.labels has an empty key; name it",
        ),
        (
            "ReportHealth",
            json!({"nodeId": "nobody"}),
            "not_found",
            "node not found: nobody",
        ),
        (
            "ReportHealth",
            json!({"nodeId": "node-1", "results": [{"status": "HEALTH_STATUS_HEALTHY"}]}),
            "invalid_argument",
            "results[0].check_name is required",
        ),
        (
            "ReportHealth",
            json!({"nodeId": "node-1", "results": [{"checkName": "gpu", "status": 7}]}),
            "invalid_argument",
            "results[0].status has the number 7, which means nothing; use 0 (unknown), 1 (healthy), \
          2 (degraded), 3 (unhealthy)",
        ),
        (
            "ReportHealth",
            json!({"nodeId": "node-1", "events": [{}, {"eventType": 99}]}),
            "invalid_argument",
            "events[1].event_type has the number 99, which means nothing; use 0 (unknown), 1 (xid), …",
        ),
        (
            "ReportHealth",
            json!({"nodeId": "node-1", "events": [{"system": -4}]}),
            "invalid_argument",
            "events[0].system has the number -4, which means nothing; use 0 (unknown), 1 (pcie), …",
        ),
        (
            "ReportHealth",
            json!({"nodeId": "node-1", "events": [{"gpuIndex": -2}]}),
            "invalid_argument",
            "events[0].gpu_index is -2; it must be between 0 and 127, or -1 for the whole node",
        ),
        (
            "SendHeartbeat",
            json!({"nodeId": "nobody"}),
            "not_found",
            "node not found: nobody",
        ),
        (
            "ListNodes",
            json!({"status": 6}),
            "invalid_argument",
            "status has the number 6, which means nothing; use 0 (unknown), 1 (active), 2 (cordoned), \
          3 (draining), 4 (unhealthy), 5 (terminated)",
        ),
        (
            "ListNodes",
            json!({"labels": {"k".repeat(300): "v"}}),
            "invalid_argument",
            "labels has the key \"kkk…",
        ),
        (
            "GetNode",
            json!({"nodeId": "nobody"}),
            "not_found",
            "node not found: nobody",
        ),
        (
            "IssueCommand",
            json!({"nodeId": "node-1"}),
            "invalid_argument",
            "command_type is required",
        ),
        (
            "IssueCommand",
            json!({"nodeId": "node-1", "commandType": 99}),
            "invalid_argument",
            "command_type has the number 99, which means nothing; use 1 (cordon), 2 (drain), \
          3 (run_diagnostic), 4 (terminate), 5 (uncordon)",
        ),
        (
            "IssueCommand",
            json!({"nodeId": "nobody", "commandType": 1}),
            "not_found",
            "node not found: nobody",
        ),
        (
            "IssueCommand",
            json!({"nodeId": "node-1", "commandType": 5}),
            "failed_precondition",
            "node node-1 is not cordoned (current status: NODE_STATUS_ACTIVE)",
        ),
        (
            "ListInstances",
            json!({"state": 7}),
            "invalid_argument",
            "state has the number 7, which means nothing; use 0 (unknown), 1 (provisioning), …",
        ),
        (
            "GetInstance",
            json!({"instanceId": "nothing"}),
            "not_found",
            "instance not found: nothing",
        ),
    ];
    for (method, field, key) in [
        ("RegisterNode", "node_id", "nodeId"),
        ("ReportHealth", "node_id", "nodeId"),
        ("SendHeartbeat", "node_id", "nodeId"),
        ("GetNodeCommands", "node_id", "nodeId"),
        ("GetNode", "node_id", "nodeId"),
        ("IssueCommand", "node_id", "nodeId"),
        ("GetInstance", "instance_id", "instanceId"),
    ] {
        let message = |problem: &str| -> &'static str {
            Box::leak(format!("{field} {problem}").into_boxed_str())
        };
        rows.push((
            method,
            json!({}),
            "invalid_argument",
            message("is required"),
        ));
        rows.push((
            method,
            json!({key: ""}),
            "invalid_argument",
            message("is required"),
        ));
        rows.push((
            method,
            json!({key: long}),
            "invalid_argument",
            message("is 10000 bytes long; the limit is 256"),
        ));
        for (id, shown, at) in [
            ("a b", "' '", 1),
            ("node\n1", "'\\n'", 4),
            ("node\u{0}", "'\\0'", 4),
            ("n\u{f6}de", "'\u{f6}'", 1),
            ("\u{202e}edon", "'\\u{202e}'", 0),
            ("../../etc/passwd?", "'?'", 16),
        ] {
            let problem = format!(
                "has the character {shown} at byte {at}; use letters, digits and . _ - : @ + /"
            );
            rows.push((
                method,
                json!({key: id}),
                "invalid_argument",
                message(&problem),
            ));
        }
        for id in [".", "..", "a/../b", "a/."] {
            rows.push((
                method,
                json!({key: id}),
                "invalid_argument",
                message("has the part …"),
            ));
        }
    }
    rows
}

#[tokio::test]
async fn every_refusal_has_the_same_code_and_words_in_every_protocol_and_changes_nothing() {
    let plane = Plane::start().await;
    GoAgent("node-1").register(&plane).await;
    GoAgent("node-1").beat(&plane).await;
    plane.pass(Duration::from_secs(1)).await;
    let before = plane.state().await;
    let mut wrong = String::new();
    for (method, request, code, message) in refusals() {
        for flavour in Flavour::ALL {
            let outcome = plane.call_by(flavour, method, &request).await;
            let right = match &outcome {
                Ok(_) => false,
                Err((got, words)) => {
                    got == code
                        && match message.strip_suffix('…') {
                            Some(beginning) => words.starts_with(beginning),
                            None => words == message,
                        }
                }
            };
            if !right {
                let shown: String = request.to_string().chars().take(120).collect();
                writeln!(
                    wrong,
                    "{flavour:?} {method} {shown}\n  not {code}: {message}\n  but {outcome:?}"
                )
                .expect("a string takes text");
            }
        }
    }
    assert_eq!(wrong, "");
    assert_eq!(plane.state().await, before);
}

/// One round of everything that agents and operators do, in one protocol.
async fn round(flavour: Flavour) -> Vec<Value> {
    let plane = Plane::start().await;
    let mut answers = Vec::new();
    let mut calls = vec![("RegisterNode", GoAgent("node-1").registration())];
    calls.extend([
        ("SendHeartbeat", json!({
            "nodeId": "node-1",
            "timestamp": "2024-12-31T23:00:00Z",
            "metrics": {"cpuUsagePercent": 12.5, "gpuMetrics": [{"gpuIndex": 0, "temperature": 60}]},
        })),
        ("ReportHealth", GoAgent("node-1").graded("HEALTHY")),
        ("GetNode", json!({"nodeId": "node-1"})),
        ("IssueCommand", json!({
            "nodeId": "node-1",
            "commandType": "NODE_COMMAND_TYPE_CORDON",
            "parameters": {"reason": "maintenance"},
        })),
        ("ListNodes", json!({"status": "NODE_STATUS_CORDONED"})),
        ("ListNodes", json!({"status": "NODE_STATUS_ACTIVE"})),
        ("IssueCommand", json!({"nodeId": "node-1", "commandType": "NODE_COMMAND_TYPE_UNCORDON"})),
        ("IssueCommand", json!({"nodeId": "node-1", "commandType": "NODE_COMMAND_TYPE_RUN_DIAGNOSTIC"})),
        ("GetNodeCommands", json!({"nodeId": "node-1"})),
        ("GetNodeCommands", json!({"nodeId": "node-1"})),
        ("GetNodeCommands", json!({"nodeId": "nobody"})),
        ("ListInstances", json!({})),
    ]);
    for (method, request) in calls {
        let mut answer = plane
            .call_by(flavour, method, &request)
            .await
            .unwrap_or_else(|error| {
                panic!("{flavour:?} {method} {request}: {error:?}");
            });
        mask_ids(&mut answer);
        answers.push(json!({method: answer}));
    }
    answers
}

/// Random ids are checked for their form and masked.
fn mask_ids(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if key == "commandId" {
                    let id = value.as_str().expect("an id");
                    let dashes: Vec<_> = id.match_indices('-').map(|(at, _)| at).collect();
                    assert_eq!(
                        (id.len(), dashes),
                        (36, vec![8, 13, 18, 23]),
                        "no UUID: {id}"
                    );
                    *value = json!("<uuid>");
                } else {
                    mask_ids(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask_ids),
        _ => {}
    }
}

#[tokio::test]
async fn a_round_of_calls_has_the_same_answers_in_every_protocol() {
    let expected = include_str!("golden/round.jsonl");
    for flavour in Flavour::ALL {
        let got: String = round(flavour)
            .await
            .iter()
            .map(|line| format!("{line}\n"))
            .collect();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/wire/golden/round.jsonl");
            std::fs::write(file, &got).expect("the golden file is written");
        } else {
            assert_eq!(got, expected, "{flavour:?}");
        }
    }
}

#[tokio::test]
async fn the_bytes_of_the_contract_are_those_of_old_agents() {
    let plane = Plane::start().await;
    // node_id = "n1", provider = "gcp", one GPU with index 1 and a memory of 300 bytes.
    let register = b"\x0a\x02n1\x12\x03gcp\x32\x05\x08\x01\x28\xac\x02";
    let raw = rpc::send(
        plane.address,
        Flavour::ConnectProto,
        "RegisterNode",
        None,
        register.to_vec(),
    )
    .await;
    assert_eq!(raw.status, 200, "{raw:?}");
    // success = true, message, then config: 60, 30, the three checks, and our exact intervals.
    let answer = b"\x08\x01\x12\x17registration successful\
        \x1a\x1f\x08\x3c\x10\x1e\x1a\x04boot\x1a\x04nvml\x1a\x03xid\x90\x03\xe0\xd4\x03\x98\x03\xb0\xea\x01";
    assert_eq!(raw.body.as_ref(), answer, "{:x?}", raw.body);
    let node = plane.node("n1").await;
    assert_eq!(node["gpus"], json!([{"index": 1, "memoryTotal": "300"}]));
    // A field that nobody knows is passed over: number 15, a text.
    let raw = rpc::send(
        plane.address,
        Flavour::ConnectProto,
        "SendHeartbeat",
        None,
        b"\x0a\x02n1\x7a\x01x".to_vec(),
    )
    .await;
    assert_eq!((raw.status, raw.body.as_ref()), (200, &b"\x08\x01"[..]));
}

/// What the documents of the Go project show with curl, to the letter of the answers.
#[tokio::test]
async fn curl_gets_the_json_that_the_documents_promise() {
    let plane = Plane::start().await;
    for (method, request, answer) in [
        (
            "RegisterNode",
            r#"{"node_id":"node-1","provider":"gcp","region":"us-central1","zone":"us-central1-a","instance_type":"a3-highgpu-8g","gpus":[{"index":0,"uuid":"GPU-1","name":"H100","memory_total":85899345920}],"new_field":{"a":[1]}}"#,
            r#"{"success":true,"message":"registration successful","config":{"healthCheckIntervalSeconds":60,"heartbeatIntervalSeconds":30,"enabledHealthChecks":["boot","nvml","xid"],"healthCheckIntervalMilliseconds":"60000","heartbeatIntervalMilliseconds":"30000"}}"#,
        ),
        (
            "SendHeartbeat",
            r#"{"nodeId":"node-1","timestamp":"2025-01-15T10:30:00Z"}"#,
            r#"{"acknowledged":true}"#,
        ),
        (
            "ReportHealth",
            r#"{"nodeId":"node-1","results":[{"check_name":"gpu","status":"HEALTH_STATUS_DEGRADED"}]}"#,
            r#"{"acknowledged":true,"nodeStatus":"NODE_STATUS_ACTIVE"}"#,
        ),
        ("GetNodeCommands", r#"{"nodeId":"node-1"}"#, "{}"),
        ("ListInstances", "{}", "{}"),
        ("ListNodes", r#"{"provider":"aws"}"#, "{}"),
    ] {
        let raw = rpc::send(
            plane.address,
            Flavour::ConnectJson,
            method,
            None,
            request.into(),
        )
        .await;
        assert_eq!(
            (raw.status, raw.text().as_str()),
            (200, answer),
            "{method} {request}"
        );
    }
    let raw = rpc::send(
        plane.address,
        Flavour::ConnectJson,
        "ListNodes",
        None,
        b"{}".to_vec(),
    )
    .await;
    let incident = plane.node("node-1").await["incidentIds"][0]
        .as_str()
        .expect("one")
        .to_owned();
    assert_eq!(
        raw.text().replace(&incident, "<incident>"),
        r#"{"nodes":[{"nodeId":"node-1","provider":"gcp","region":"us-central1","zone":"us-central1-a","instanceType":"a3-highgpu-8g","status":"NODE_STATUS_ACTIVE","healthStatus":"HEALTH_STATUS_DEGRADED","lastHeartbeat":"2025-01-01T00:00:00Z","gpus":[{"uuid":"GPU-1","name":"H100","memoryTotal":"85899345920"}],"metadata":{},"incidentIds":["<incident>"],"registeredAt":"2025-01-01T00:00:00Z"}]}"#
    );
}

#[tokio::test]
async fn our_client_reads_what_the_others_read() {
    use navarch_api::wire;
    let plane = Plane::start().await;
    GoAgent("node-1").register(&plane).await;
    let client = plane.client();
    let listed = client
        .list_nodes(wire::ListNodesRequest::default())
        .await
        .expect("a list");
    let ids: Vec<_> = listed
        .nodes
        .iter()
        .map(|node| node.node_id.as_str())
        .collect();
    assert_eq!(ids, ["node-1"]);
    let asked = wire::GetNodeRequest {
        node_id: "node-2".to_owned(),
    };
    let error = client.get_node(asked).await.expect_err("it is not there");
    assert_eq!(error.to_string(), "not_found: node not found: node-2");
}

#[tokio::test]
async fn a_node_that_never_beat_was_heard_in_the_year_1() {
    let plane = Plane::start().await;
    GoAgent("node-1").register(&plane).await;
    assert_eq!(
        plane.node("node-1").await["lastHeartbeat"],
        "0001-01-01T00:00:00Z"
    );
    plane.pass(Duration::from_secs(90)).await;
    let node = plane.node("node-1").await;
    assert_eq!(
        (&node["status"], &node["lastHeartbeat"]),
        (&json!("NODE_STATUS_ACTIVE"), &json!("0001-01-01T00:00:00Z"))
    );
    // A node that never beats is silent like any other; the Go project passes over it for ever.
    plane.pass(Duration::from_secs(1)).await;
    assert_eq!(plane.status("node-1").await, "UNHEALTHY");
}

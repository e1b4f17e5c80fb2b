//! Who is who: two hosts under one id, restarts of agents, sessions that were superseded.

use std::time::Duration;

use serde_json::json;

use crate::support::agents::{Agent, GoAgent};
use crate::support::plane::Plane;

/// Another host under the same id.
fn other_host(node: &str) -> Agent {
    Agent {
        machine: "another-machine".to_owned(),
        boot: "boot-9".to_owned(),
        session: "session-9".to_owned(),
        ..Agent::new(node)
    }
}

#[tokio::test]
async fn a_second_host_is_refused_while_the_first_is_fresh_and_leaves_a_trace() {
    let plane = Plane::start().await;
    let mut first = Agent::new("n");
    first.join(&plane).await;
    let before = plane.node("n").await;
    let sequence = plane.sequence().await;
    let words = "node n is registered from another host (host-of-machine-of-n at 127.0.0.1); \
                 this one is host-of-another-machine at 127.0.0.1";
    assert_eq!(
        plane
            .refused("RegisterNode", other_host("n").registration())
            .await,
        format!("already_exists: {words}")
    );
    assert_eq!(
        plane.events_after(sequence).await,
        [format!("node.registration_refused: {words}")]
    );
    assert_eq!(plane.node("n").await, before);
    // The intruder is not heard either.
    let words = "failed_precondition: session superseded: another agent registered as n since";
    let mut intruder = other_host("n");
    let report = intruder.full(97);
    for (method, request) in [
        ("SendHeartbeat", intruder.heartbeat()),
        ("ReportHealth", report),
    ] {
        assert_eq!(plane.refused(method, request).await, words, "{method}");
    }
    assert_eq!(plane.node("n").await, before);
}

#[tokio::test]
async fn a_second_host_after_silence_is_a_new_incarnation() {
    let plane = Plane::start().await;
    let mut first = Agent::new("n");
    first.join(&plane).await;
    let xid = json!({"nodeId": "n", "sessionId": first.session, "events": [{
        "gpuIndex": 0, "eventType": "HEALTH_EVENT_TYPE_XID", "metrics": {"xid_code": "79"},
    }]});
    plane.ok("ReportHealth", xid).await;
    plane
        .ok("IssueCommand", json!({"nodeId": "n", "commandType": 1}))
        .await;
    plane.pass(Duration::from_secs(91)).await;
    let sequence = plane.sequence().await;
    let mut second = other_host("n");
    second.register(&plane).await;
    // What broke stays with the old host; what an operator said of the name still holds.
    assert_eq!(plane.status("n").await, "CORDONED");
    assert_eq!(
        plane.holds("n").await,
        ["operator:cordon", "gate:admission"]
    );
    let node = plane.node("n").await;
    assert!(
        node.get("incidentIds").is_none() && node.get("silentSince").is_none(),
        "{node}"
    );
    assert_eq!(node["metadata"]["hostname"], "host-of-another-machine");
    let story = plane.events_after(sequence).await;
    let ended = story
        .iter()
        .filter(|line| line.starts_with("incident.closed"))
        .count();
    assert_eq!(ended, 2, "the silence and the fault end: {story:#?}");
    assert!(
        story.iter().any(|line| line.starts_with("node.registered")),
        "{story:#?}"
    );
    second.beat(&plane).await;
    assert_eq!(second.report(&plane, "HEALTHY").await, "CORDONED");
    plane
        .ok("IssueCommand", json!({"nodeId": "n", "commandType": 5}))
        .await;
    assert_eq!(plane.status("n").await, "ACTIVE");
}

#[tokio::test]
async fn an_agent_restart_on_the_same_machine_keeps_holds_and_fences_the_old_session() {
    let plane = Plane::start().await;
    let mut agent = Agent::new("n");
    agent.join(&plane).await;
    plane
        .ok(
            "IssueCommand",
            json!({"nodeId": "n", "commandType": 2, "parameters": {"reason": "kernel"}}),
        )
        .await;
    let mut old = agent.clone();
    agent.session = "session-2".to_owned();
    agent.sequence = 0;
    let mut moved = agent.registration();
    // The machine id decides, whatever became of its name.
    moved["metadata"]["hostname"] = json!("renamed");
    plane.ok("RegisterNode", moved).await;
    assert_eq!(plane.status("n").await, "DRAINING");
    let node = plane.node("n").await;
    assert_eq!(
        (&node["holds"][0]["reason"], &node["metadata"]["hostname"]),
        (&json!("kernel"), &json!("renamed"))
    );
    plane
        .ok("IssueCommand", json!({"nodeId": "n", "commandType": 3}))
        .await;
    let before = plane.state().await;
    let words = "failed_precondition: session superseded: another agent registered as n since";
    let report = old.full(97);
    for (method, request) in [
        ("SendHeartbeat", old.heartbeat()),
        ("ReportHealth", report),
        (
            "GetNodeCommands",
            json!({"nodeId": "n", "sessionId": old.session}),
        ),
    ] {
        assert_eq!(plane.refused(method, request).await, words, "{method}");
    }
    assert_eq!(plane.state().await, before);
    let poll = json!({"nodeId": "n", "sessionId": agent.session});
    let commands = plane.ok("GetNodeCommands", poll).await;
    assert_eq!(
        commands["commands"].as_array().map(Vec::len),
        Some(1),
        "{commands}"
    );
    assert_eq!(agent.report(&plane, "HEALTHY").await, "DRAINING");
}

#[tokio::test]
async fn a_stream_of_commands_ends_when_another_session_takes_over() {
    use navarch_api::v1;
    let plane = Plane::start().await;
    let mut agent = Agent::new("n");
    agent.join(&plane).await;
    let watch = |session: &str| v1::WatchCommandsRequest {
        node_id: "n".to_owned(),
        session_id: session.to_owned(),
    };
    let client = plane.client();
    let mut stream = client
        .watch_commands(watch("session-1"))
        .await
        .expect("a stream");
    let first = stream
        .next()
        .await
        .expect("an answer")
        .expect("not the end");
    assert_eq!(
        (first.commands.len(), first.next_within_milliseconds),
        (0, 20_000)
    );
    agent.session = "session-2".to_owned();
    agent.register(&plane).await;
    // Its next command goes to the new session alone.
    plane
        .ok("IssueCommand", json!({"nodeId": "n", "commandType": 3}))
        .await;
    let error = stream.next().await.expect_err("the stream ends");
    let words = "failed_precondition: session superseded: another agent registered as n since";
    assert_eq!(error.to_string(), words);
    let refused = match client.watch_commands(watch("session-1")).await {
        Ok(mut stream) => stream.next().await.expect_err("it is refused"),
        Err(error) => error,
    };
    assert_eq!(refused.to_string(), words);
    let mut stream = client
        .watch_commands(watch("session-2"))
        .await
        .expect("a stream");
    let first = stream
        .next()
        .await
        .expect("an answer")
        .expect("not the end");
    assert_eq!(first.commands.len(), 1);
}

#[tokio::test]
async fn old_agents_are_told_apart_by_gpus_and_host_names() {
    let plane = Plane::start().await;
    let go = GoAgent("n");
    go.register(&plane).await;
    plane
        .ok("IssueCommand", json!({"nodeId": "n", "commandType": 1}))
        .await;
    let with = |hostname: &str, uuid: &str| {
        let mut registration = go.registration();
        registration["metadata"]["hostname"] = json!(hostname);
        registration["gpus"][0]["uuid"] = json!(uuid);
        registration
    };
    let own = go.registration()["gpus"][0]["uuid"]
        .as_str()
        .expect("a UUID")
        .to_owned();
    let fake = "GPU-00000000-0000-0000-0000-000000000000";
    for (what, registration, taken) in [
        ("the same again", go.registration(), true),
        (
            "another name, a GPU of the first",
            with("renamed", &own),
            true,
        ),
        (
            "the same name, other GPUs",
            with("renamed", "GPU-11111111-2222-3333-4444-555555555555"),
            true,
        ),
        ("no name", with("", fake), true),
        ("a name again, a fake GPU", with("host-n", fake), true),
        (
            "another name, the same fake GPU",
            with("host-m", fake),
            false,
        ),
        (
            "another name, other GPUs",
            with("host-m", "GPU-aaaaaaaa-0000-0000-0000-000000000000"),
            false,
        ),
    ] {
        let answer = plane.call("RegisterNode", registration).await;
        assert_eq!(answer.is_ok(), taken, "{what}: {answer:?}");
        assert_eq!(plane.status("n").await, "CORDONED", "{what}");
    }
}

#[tokio::test]
async fn a_report_is_taken_once_however_often_it_is_sent() {
    let plane = Plane::start().await;
    let mut agent = Agent::new("n");
    agent.join(&plane).await;
    let bad = agent.full(97);
    let first = plane.ok("ReportHealth", bad.clone()).await;
    let before = plane.state().await;
    let again = plane.ok("ReportHealth", bad.clone()).await;
    assert_eq!(first, again);
    assert_eq!(plane.state().await, before);
    // An older one that comes late undoes nothing.
    let good = agent.full(40);
    plane.ok("ReportHealth", good).await;
    assert_eq!(plane.status("n").await, "ACTIVE");
    plane.ok("ReportHealth", bad).await;
    assert_eq!(plane.status("n").await, "ACTIVE");
}

#[tokio::test]
async fn clocks_of_agents_decide_nothing() {
    let plane = Plane::start().await;
    for (name, clock) in [
        ("behind", "2024-12-31T23:00:00Z"),
        ("ahead", "2025-01-01T01:00:00Z"),
        ("lost", "1970-01-01T00:00:00Z"),
        ("mad", "9999-12-31T23:59:59Z"),
    ] {
        let mut agent = Agent::new(name);
        agent.register(&plane).await;
        let mut beat = agent.heartbeat();
        beat["timestamp"] = json!(clock);
        plane.ok("SendHeartbeat", beat.clone()).await;
        let mut report = agent.full(45);
        report["events"][1]["timestamp"] = json!(clock);
        assert_eq!(
            plane.ok("ReportHealth", report).await["nodeStatus"],
            "NODE_STATUS_ACTIVE",
            "{name}"
        );
        assert_eq!(
            plane.node(name).await["lastHeartbeat"],
            "2025-01-01T00:00:00Z",
            "{name}"
        );
        let mut report = agent.full(97);
        report["events"][1]["timestamp"] = json!(clock);
        assert_eq!(
            plane.ok("ReportHealth", report).await["nodeStatus"],
            "NODE_STATUS_UNHEALTHY",
            "{name}"
        );
        let mut report = agent.full(45);
        report["events"][1]["timestamp"] = json!(clock);
        assert_eq!(
            plane.ok("ReportHealth", report).await["nodeStatus"],
            "NODE_STATUS_ACTIVE",
            "{name}"
        );
    }
    plane.pass(Duration::from_secs(91)).await;
    for name in ["behind", "ahead", "lost", "mad"] {
        assert_eq!(
            plane.status(name).await,
            "UNHEALTHY",
            "{name} is silent by our clock"
        );
    }
}

//! Commands: issued, delivered by poll and by push, acknowledged, expired.

use std::time::Duration;

use navarch_api::v1;
use serde_json::{Value, json};

use crate::support::agents::{Agent, GoAgent};
use crate::support::http::soon;
use crate::support::plane::Plane;

async fn diagnose(plane: &Plane, node: &str) -> String {
    let request = json!({
        "nodeId": node,
        "commandType": "NODE_COMMAND_TYPE_RUN_DIAGNOSTIC",
        "parameters": {"level": "3"},
    });
    let answer = plane.ok("IssueCommand", request).await;
    answer["commandId"].as_str().expect("an id").to_owned()
}

/// The commands of a node as operators see them: state and result, newest first.
async fn listed(plane: &Plane, node: &str) -> Vec<(String, String)> {
    let answer = plane
        .ok("FleetService/ListCommands", json!({"nodeId": node}))
        .await;
    let commands = answer["commands"].as_array().cloned().unwrap_or_default();
    let text = |command: &Value, key: &str| command[key].as_str().unwrap_or_default().to_owned();
    commands
        .iter()
        .map(|command| (text(command, "state"), text(command, "result")))
        .collect()
}

async fn polled(plane: &Plane, node: &str) -> Vec<String> {
    let answer = plane.ok("GetNodeCommands", json!({"nodeId": node})).await;
    let commands = answer["commands"].as_array().cloned().unwrap_or_default();
    commands
        .iter()
        .map(|command| command["commandId"].as_str().expect("an id").to_owned())
        .collect()
}

#[tokio::test]
async fn an_old_agent_gets_a_command_at_most_once_and_its_end_is_unconfirmed() {
    let plane = Plane::start().await;
    GoAgent("go").register(&plane).await;
    let first = diagnose(&plane, "go").await;
    plane.pass(Duration::from_secs(1)).await;
    let second = diagnose(&plane, "go").await;
    assert_eq!(
        listed(&plane, "go").await,
        [
            ("pending".into(), String::new()),
            ("pending".into(), String::new())
        ]
    );
    let answer = plane.ok("GetNodeCommands", json!({"nodeId": "go"})).await;
    assert_eq!(
        answer,
        json!({"commands": [
            {"commandId": first, "type": "NODE_COMMAND_TYPE_RUN_DIAGNOSTIC",
             "parameters": {"level": "3"}, "issuedAt": "2025-01-01T00:00:00Z"},
            {"commandId": second, "type": "NODE_COMMAND_TYPE_RUN_DIAGNOSTIC",
             "parameters": {"level": "3"}, "issuedAt": "2025-01-01T00:00:01Z"},
        ]})
    );
    assert_eq!(polled(&plane, "go").await, [] as [String; 0]);
    assert_eq!(
        listed(&plane, "go").await.first().expect("two").0,
        "unconfirmed"
    );
    // Nothing expires that is over.
    plane
        .pass_in(Duration::from_secs(3600 - 60), Duration::from_secs(4))
        .await;
    assert!(
        listed(&plane, "go")
            .await
            .iter()
            .all(|(state, _)| state == "unconfirmed")
    );
}

#[tokio::test]
async fn our_agent_gets_a_command_until_it_says_what_became_of_it() {
    let plane = Plane::start().await;
    let mut agent = Agent::new("n");
    agent.join(&plane).await;
    let id = diagnose(&plane, "n").await;
    for _ in 0..2 {
        assert_eq!(polled(&plane, "n").await, std::slice::from_ref(&id));
        assert_eq!(
            listed(&plane, "n").await,
            [("delivered".into(), String::new())]
        );
    }
    let acknowledgement = |outcome: &str, output: &str| {
        json!({
            "nodeId": "n", "commandId": id, "sessionId": "session-1",
            "outcome": format!("COMMAND_OUTCOME_{outcome}"), "output": output, "exitCode": 3,
        })
    };
    let done = acknowledgement("FAILED", "GPU 3 is hot\u{1b}[31m\n");
    let answer = plane
        .ok("AgentService/AcknowledgeCommand", done.clone())
        .await;
    assert_eq!(answer, json!({"acknowledged": true, "state": "failed"}));
    assert_eq!(polled(&plane, "n").await, [] as [String; 0]);
    let expected = [(
        "failed".to_owned(),
        "exit status 3\nGPU 3 is hot [31m\n".to_owned(),
    )];
    assert_eq!(listed(&plane, "n").await, expected);
    // A repeat, and a second thought, change nothing.
    let before = plane.state().await;
    for again in [done, acknowledgement("SUCCEEDED", "all fine")] {
        let answer = plane.ok("AgentService/AcknowledgeCommand", again).await;
        assert_eq!(answer, json!({"acknowledged": true, "state": "failed"}));
    }
    assert_eq!(listed(&plane, "n").await, expected);
    assert_eq!(plane.state().await, before);
    for (change, words) in [
        (
            json!({"commandId": "another"}),
            "not_found: command not found: another for node n",
        ),
        (
            json!({"nodeId": "m"}),
            "not_found: command not found: <id> for node m",
        ),
        (
            json!({"outcome": 0}),
            "invalid_argument: outcome is required",
        ),
        (
            json!({"outcome": 9}),
            "invalid_argument: outcome has the number 9, which means nothing; use 1 (succeeded) or 2 (failed)",
        ),
    ] {
        let mut request = acknowledgement("SUCCEEDED", "");
        for (key, value) in change.as_object().expect("a map") {
            request[key] = value.clone();
        }
        let refused = plane
            .refused("AgentService/AcknowledgeCommand", request)
            .await;
        assert_eq!(refused.replace(&id, "<id>"), words);
    }
    assert_eq!(plane.state().await, before);
}

#[tokio::test]
async fn a_command_is_pushed_the_moment_it_is_issued() {
    let plane = Plane::start().await;
    let mut agent = Agent::new("n");
    agent.join(&plane).await;
    Agent::new("m").join(&plane).await;
    let request = v1::WatchCommandsRequest {
        node_id: "n".to_owned(),
        session_id: agent.session.clone(),
    };
    let client = plane.client();
    let mut stream = client.watch_commands(request).await.expect("a stream");
    assert_eq!(
        stream
            .next()
            .await
            .expect("an answer")
            .expect("one")
            .commands,
        []
    );
    // Another node's command is not for it, and says so at most by an empty answer.
    diagnose(&plane, "m").await;
    let id = diagnose(&plane, "n").await;
    let pushed = soon("the command", async {
        loop {
            let answer = stream
                .next()
                .await
                .expect("an answer")
                .expect("not the end");
            if let Some(command) = answer.commands.first() {
                return command.clone();
            }
        }
    })
    .await;
    assert_eq!(pushed.command_id, id);
    assert_eq!(listed(&plane, "n").await[0].0, "delivered");
    assert_eq!(listed(&plane, "m").await[0].0, "pending");
    let done = json!({"nodeId": "n", "commandId": id, "outcome": "COMMAND_OUTCOME_SUCCEEDED", "output": "ok"});
    plane.ok("AgentService/AcknowledgeCommand", done).await;
    assert_eq!(
        listed(&plane, "n").await,
        [("succeeded".to_owned(), "ok".to_owned())]
    );
    let refused = match client
        .watch_commands(v1::WatchCommandsRequest {
            node_id: "nobody".to_owned(),
            ..Default::default()
        })
        .await
    {
        Ok(mut stream) => stream.next().await.expect_err("it is refused"),
        Err(error) => error,
    };
    assert_eq!(refused.to_string(), "not_found: node not found: nobody");
}

#[tokio::test]
async fn a_command_without_an_answer_expires_after_an_hour() {
    let plane = Plane::start().await;
    let mut agent = Agent::new("n");
    agent.join(&plane).await;
    let never_fetched = diagnose(&plane, "n").await;
    plane
        .pass_in(Duration::from_secs(3599), Duration::from_secs(4))
        .await;
    assert_eq!(listed(&plane, "n").await[0].0, "pending");
    let sequence = plane.sequence().await;
    plane.pass(Duration::from_secs(1)).await;
    assert_eq!(listed(&plane, "n").await[0].0, "expired");
    let told = plane.events_after(sequence).await;
    assert!(
        told.contains(&"command.changed: run_diagnostic expired".to_owned()),
        "{told:#?}"
    );
    assert_eq!(polled(&plane, "n").await, [] as [String; 0]);
    let late = json!({"nodeId": "n", "commandId": never_fetched, "outcome": 1});
    let answer = plane.ok("AgentService/AcknowledgeCommand", late).await;
    assert_eq!(answer, json!({"acknowledged": true, "state": "expired"}));
}

#[tokio::test]
async fn the_commands_of_an_operator_that_need_no_agent_are_done_at_once() {
    let plane = Plane::start().await;
    GoAgent("go").register(&plane).await;
    for (kind, status) in [
        ("CORDON", "CORDONED"),
        ("DRAIN", "DRAINING"),
        ("UNCORDON", "ACTIVE"),
    ] {
        let request = json!({"nodeId": "go", "commandType": format!("NODE_COMMAND_TYPE_{kind}")});
        let answer = plane.ok("IssueCommand", request).await;
        assert_eq!(answer["nodeStatus"], format!("NODE_STATUS_{status}"));
        assert_eq!(listed(&plane, "go").await[0].0, "succeeded", "{kind}");
        assert_eq!(polled(&plane, "go").await, [] as [String; 0], "{kind}");
    }
}

#[tokio::test]
async fn terminate_on_an_external_node_goes_to_its_agent_and_touches_no_cloud() {
    let plane = Plane::start().await;
    GoAgent("go").register(&plane).await;
    let request = json!({"nodeId": "go", "commandType": "NODE_COMMAND_TYPE_TERMINATE"});
    let answer = plane.ok("IssueCommand", request).await;
    assert_eq!(answer["nodeStatus"], "NODE_STATUS_DRAINING");
    assert_eq!(listed(&plane, "go").await[0].0, "pending");
    let commands = plane.ok("GetNodeCommands", json!({"nodeId": "go"})).await;
    assert_eq!(
        commands["commands"][0]["type"],
        "NODE_COMMAND_TYPE_TERMINATE"
    );
    // An old agent cannot say what became of it.
    assert_eq!(plane.status("go").await, "DRAINING");
}

#[tokio::test]
async fn a_node_takes_so_many_commands_that_wait_and_no_more() {
    let plane = Plane::start().await;
    GoAgent("go").register(&plane).await;
    for _ in 0..64 {
        diagnose(&plane, "go").await;
    }
    let request = json!({"nodeId": "go", "commandType": 3});
    assert_eq!(
        plane.refused("IssueCommand", request).await,
        "failed_precondition: 64 commands wait for node go already; let its agent catch up first"
    );
    assert_eq!(polled(&plane, "go").await.len(), 64);
    diagnose(&plane, "go").await;
}

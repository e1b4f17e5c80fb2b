//! What agents are asked to do: diagnostics with a stored result, and the end of a machine that
//! the control plane did not buy.

use serde_json::Value;

use crate::faults::ONE_KEPT;
use crate::support::{Fleet, Program, list, text, until};

/// The commands of a node, the newest first.
fn commands(fleet: &Fleet, node: &str) -> Vec<Value> {
    list(fleet.data(&["node", "commands", node]))
}

#[test]
fn the_result_of_a_diagnostic_is_stored_and_shown() {
    let mut fleet = Fleet::server(ONE_KEPT);
    let node = fleet.until_active(1).remove(0);
    assert_eq!(commands(&fleet, &node), Vec::<Value>::new());
    let said = fleet.ask(&["node", "diagnose", &node]).fine();
    assert!(said.contains("State:      succeeded\n"), "{said}");
    let stored = commands(&fleet, &node).remove(0);
    assert_eq!(stored["type"], "NODE_COMMAND_TYPE_RUN_DIAGNOSTIC");
    assert_eq!(stored["state"], "succeeded");
    let result = text(&stored, "result");
    assert!(said.contains(result.trim_end()), "{said} {result}");
    assert!(said.contains(&text(&stored, "command_id")), "{said}");

    fleet
        .ask(&[
            "dev",
            "inject",
            &node,
            "thermal",
            "--gpu=1",
            "--temperature=97",
        ])
        .fine();
    let said = fleet
        .ask(&["node", "diagnose", &node, "--test=temperature"])
        .fine();
    assert!(said.contains("97"), "{said}");
    // A test that the agent does not know fails, with the agent's words.
    let bad = fleet.ask(&["node", "diagnose", &node, "--test=luck"]);
    assert_eq!(bad.code, Some(1), "{bad:?}");
    assert!(bad.out.contains("there is no test \"luck\""), "{bad:?}");
    let bad = fleet.ask(&["node", "diagnose", "nobody"]).refused(1);
    assert!(bad.contains("node not found: nobody"), "{bad}");
    assert!(bad.contains(&node), "the nearest node is named: {bad}");

    let before = commands(&fleet, &node);
    assert_eq!(before.len(), 3, "{before:#?}");
    fleet.server.kill();
    fleet.restart();
    assert_eq!(commands(&fleet, &node), before);
    let table = fleet.ask(&["node", "commands", &node]).fine();
    for word in ["run_diagnostic", "succeeded", "failed", "luck"] {
        assert!(table.contains(word), "{word} is not in {table}");
    }
}

#[test]
fn terminate_ends_the_agent_of_an_external_node_and_buys_nothing() {
    let fleet = Fleet::server(&ONE_KEPT.replace("min_nodes: 1", "min_nodes: 0"));
    let server = format!("--server={}", fleet.server.url);
    let agent = ["agent", &server, "--node-id=own", "--fake-gpus=2"];
    let mut agent = Program::launch(fleet.path(), &[], &agent);
    assert_eq!(fleet.until_active(1), ["own"]);
    fleet.ask(&["terminate", "own", "--reason", "sold"]).fine();
    assert_eq!(agent.ended(), Some(0), "{}", agent.output());
    let stored = until("the agent's word is stored", || {
        let stored = commands(&fleet, "own");
        (stored[0]["state"] == "succeeded")
            .then(|| stored[0].clone())
            .ok_or_else(|| format!("{stored:?}"))
    });
    assert_eq!(stored["type"], "NODE_COMMAND_TYPE_TERMINATE", "{stored}");
    assert_eq!(stored["parameters"]["reason"], "sold", "{stored}");
    fleet.until_status("own", "TERMINATED");
    assert_eq!(list(fleet.data(&["instance", "list"])), Vec::<Value>::new());
}

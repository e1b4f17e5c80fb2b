//! `navarch config`: what a person and an editor are told of a file, and what runs in the server.

use serde_json::Value;

use crate::faults::ONE_KEPT;
use crate::support::{Fleet, directory, run, text, until};

const WRONG: &str = "\
server:
  grpc_port: 50051
  heartbeat_intervall: 30s
providers:
  fake: {gpu_count: \"${NAVARCH_TEST_GPUS}\"}
pools:
  dev:
    provider: fake
    instance_type: fake-8x
    max_nodes: many
";

#[test]
fn a_check_tells_every_error_and_warning_with_its_line() {
    let home = directory();
    std::fs::write(home.path().join("c.yaml"), WRONG).expect("a file");
    let said = run(home.path(), &[], &["config", "check", "c.yaml"]).refused(1);
    for expected in [
        "Warning: c.yaml:2:3: server.grpc_port is an old spelling: write server.address instead\n",
        "c.yaml:3:3: unknown key \"heartbeat_intervall\" in server: did you mean heartbeat_interval?\n  3 |   heartbeat_intervall: 30s\n    |   ^\n",
        "c.yaml:5:21: providers.fake.gpu_count: the variable NAVARCH_TEST_GPUS is not set: set it, or write ${NAVARCH_TEST_GPUS:-default}\n",
        "c.yaml:10:16: pools.dev.max_nodes: expected a whole number, found the text \"many\"\n",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    let said = run(
        home.path(),
        &[("NAVARCH_TEST_GPUS", "4")],
        &["config", "check", "c.yaml", "--output=json"],
    );
    assert_eq!(said.code, Some(1), "{said:?}");
    let told: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(told["valid"], false);
    assert_eq!(
        told["errors"].as_array().expect("a list").len(),
        2,
        "{told}"
    );
    assert_eq!(told["errors"][1]["line"], 10);
    assert_eq!(told["errors"][1]["column"], 16);
    assert_eq!(told["warnings"][0]["line"], 2);
    let sound = WRONG
        .replace("  heartbeat_intervall: 30s\n", "")
        .replace("many", "3");
    std::fs::write(home.path().join("c.yaml"), sound).expect("a file");
    let environment = [("NAVARCH_TEST_GPUS", "4")];
    run(home.path(), &environment, &["config", "check", "c.yaml"]).fine();
    let shown = run(home.path(), &environment, &["config", "show", "c.yaml"]).fine();
    assert!(shown.contains("gpu_count: 4\n"), "{shown}");
    assert!(shown.contains("address: \":50051\"\n"), "{shown}");
    std::fs::write(home.path().join("again.yaml"), &shown).expect("a file");
    let again = run(home.path(), &[], &["config", "show", "again.yaml"]).fine();
    assert_eq!(shown, again, "what is shown is a configuration");
    let data = run(
        home.path(),
        &environment,
        &["config", "show", "c.yaml", "--output=json"],
    );
    let data: Value = serde_json::from_str(&data.fine()).expect("JSON");
    assert_eq!(data["pools"]["dev"]["max_nodes"], 3);
}

#[test]
fn the_schema_is_json() {
    let home = directory();
    let schema = run(home.path(), &[], &["config", "schema"]).fine();
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let pool = &schema["$defs"]["pools"]["properties"];
    assert!(pool["max_nodes"]["description"].is_string(), "{pool}");
    assert_eq!(pool["scaling"]["deprecated"], true);
}

#[test]
fn the_server_shows_what_runs_and_why_a_newer_file_does_not() {
    let fleet = Fleet::server(ONE_KEPT);
    fleet.until_active(1);
    let shown = fleet.ask(&["config", "show"]).fine();
    assert!(shown.contains("max_nodes: 2\n"), "{shown}");
    let file = fleet.path().join("navarch.yaml");
    let text_of = || std::fs::read_to_string(&file).expect("the file of the server");
    let before = text_of();
    // A change that needs a restart, and one that does not.
    let both = before
        .replace("    type: fake\n", "    type: fake\n    gpu_count: 4\n")
        .replace("max_nodes: 2", "max_nodes: 3");
    assert_ne!(both, before);
    std::fs::write(&file, &both).expect("it is written");
    until("the file is refused as a whole", || {
        let said = fleet.ask(&["config", "show"]);
        let refused = said.err.contains(
            "providers.fake.gpu_count: 8 -> 4 (needs a restart: providers are connected at the start)",
        );
        let same = said.out.contains("max_nodes: 2\n");
        if refused && same {
            Ok(())
        } else {
            Err(format!("{said:?}"))
        }
    });
    let live = before.replace("max_nodes: 2", "max_nodes: 3");
    std::fs::write(&file, live).expect("it is written");
    until("the live change is there", || {
        let said = fleet.ask(&["config", "show"]);
        if said.out.contains("max_nodes: 3\n") && !said.err.contains("refused") {
            Ok(())
        } else {
            Err(format!("{said:?}"))
        }
    });
    let data = fleet.data(&["config", "show"]);
    assert_eq!(text(&data["providers"]["fake"], "type"), "fake");
}

/// A pool that leaves the file: its machine goes on, and nothing is done to it.
#[test]
fn a_pool_that_leaves_the_file_keeps_its_machines() {
    let fleet = Fleet::server(ONE_KEPT);
    let node = fleet.until_active(1).remove(0);
    let file = fleet.path().join("navarch.yaml");
    let before = std::fs::read_to_string(&file).expect("the file of the server");
    std::fs::write(
        &file,
        before
            .replace("  p:\n", "  other:\n")
            .replace("min_nodes: 1", "min_nodes: 0"),
    )
    .expect("it is written");
    until("the pool is gone", || {
        let said = fleet.ask(&["config", "show"]);
        if said.out.contains("  other:\n") {
            Ok(())
        } else {
            Err(format!("{said:?}"))
        }
    });
    fleet
        .ask(&["dev", "inject", &node, "xid", "--code=79"])
        .fine();
    fleet.until_status(&node, "UNHEALTHY");
    // A full plan, which repairs what it may, comes and goes.
    crate::support::let_pass(std::time::Duration::from_secs(3));
    assert_eq!(fleet.node(&node)["status"], "NODE_STATUS_UNHEALTHY");
    std::fs::write(&file, &before).expect("it is written");
    until("the pool is back", || {
        let said = fleet.ask(&["config", "show"]);
        if said.out.contains("  p:\n") && !said.out.contains("  other:\n") {
            Ok(())
        } else {
            Err(format!("{said:?}"))
        }
    });
    assert_eq!(fleet.node(&node)["status"], "NODE_STATUS_UNHEALTHY");
}

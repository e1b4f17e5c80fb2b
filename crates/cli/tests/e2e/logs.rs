//! Logs: every program says what it does, and its level changes while it runs.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Fleet, signal, until};

/// The records of a log of JSON lines.
fn records(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("a log");
    text.lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

/// Waits for a record with this message, and answers the last one.
fn until_said(path: &Path, message: &str) -> Value {
    until(&format!("{} says {message:?}", path.display()), || {
        let records = records(path);
        let found = records
            .iter()
            .rfind(|record| record["message"] == message)
            .cloned();
        found.ok_or_else(|| format!("{records:#?}"))
    })
}

#[test]
fn machines_log_what_they_do_and_signals_change_how_much() {
    let fleet = Fleet::dev(&["--nodes=1", "--log-format=json"]);
    let node = fleet.until_active(1).remove(0);
    let (pid_file, pid) = fleet.agents().remove(0);
    let log = pid_file.with_file_name("agent.log");
    let started = until_said(&log, "starting Navarch Node Daemon");
    assert_eq!(started["node_id"], node.as_str(), "{started}");
    for message in ["detected GPUs", "node daemon started successfully"] {
        until_said(&log, message);
    }
    assert!(
        records(&log)
            .iter()
            .all(|record| record["level"] != "DEBUG")
    );
    signal(pid, Signal::USR1);
    let beat = until_said(&log, "heartbeat sent");
    assert_eq!(
        (&beat["level"], &beat["gpu_count"]),
        (&"DEBUG".into(), &8.into())
    );
    signal(pid, Signal::USR2);
    until("the level is restored", || {
        let said = until_said(&log, "log level changed");
        (said["log_level"] == "info")
            .then_some(())
            .ok_or_else(|| said.to_string())
    });
    fleet
        .ask(&["dev", "inject", &node, "xid", "--code=79", "--gpu=3"])
        .fine();
    let event = until_said(&log, "health event detected");
    assert_eq!(
        (&event["level"], &event["xid"], &event["gpu_index"]),
        (&"WARN".into(), &"79".into(), &3.into())
    );

    // What a person must look at shows in the terminal too, and nothing else of the log does.
    let config = fleet.path().join("data/dev.yaml");
    std::fs::write(&config, "pools: [").expect("a file");
    until("the error shows", || {
        let output = fleet.server.output();
        let shown = output.contains("ERROR the new configuration is refused");
        shown.then_some(()).ok_or(output)
    });
    let output = fleet.server.output();
    assert!(!output.contains("agent started"), "{output}");

    let server = fleet.path().join("data/server.log");
    until_said(&server, "control plane ready");
    signal(fleet.server.pid(), Signal::USR1);
    until_said(&server, "log level changed");
}

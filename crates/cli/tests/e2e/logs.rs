//! Logs: every program says what it does, its level and format change while it runs, and the log of one fault
//! tells the whole story.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use navarch_config::Config;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Fleet, directory, signal, until};

/// The whole lines of a log, to which somebody may be writing.
fn whole_lines(path: &Path) -> String {
    let mut text = std::fs::read_to_string(path).expect("a log");
    text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
    text
}

/// The records of a log of JSON lines.
fn records(path: &Path) -> Vec<Value> {
    let text = whole_lines(path);
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

/// Waits for a text in the log, whatever its format.
fn until_written(path: &Path, text: &str) {
    until(&format!("{} has {text}", path.display()), || {
        let log = whole_lines(path);
        log.contains(text).then_some(()).ok_or(log)
    });
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
    signal(pid, Signal::USR1);
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
    signal(fleet.server.pid(), Signal::USR2);
    until_written(&server, r#"log format changed log_format="text""#);
    signal(fleet.server.pid(), Signal::USR2);
    until_written(&server, r#""log_format":"json""#);
}

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/golden/xid-79.txt");

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/logs.md");

/// Where the document shows the golden text.
const BEGIN: &str = "<!-- story: begin; written by UPDATE_GOLDEN=1 cargo test -p navarch-cli --test e2e story -->\n\n```text\n";
const END: &str = "```\n\n<!-- story: end -->";

/// A record without its time and target: the level, the message and the fields.
fn told(line: &str) -> String {
    let (_, rest) = line.split_once(' ').expect("a time");
    let (level, rest) = rest.trim_start().split_once(' ').expect("a level");
    let (_, message) = rest.split_once(": ").expect("a target");
    format!("{level:<5} {message}")
}

/// Replaces what is another in each run.
fn in_every_run(text: &str, names: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (name, shown) in names {
        text = text.replace(name, shown);
    }
    // How far the replacement is when its plan looks depends on who is faster.
    for phase in ["requested", "launching", "pending_registration", "running"] {
        text = text.replace(
            &format!("its replacement <replacement> is {phase}\""),
            "its replacement <replacement> is <phase>\"",
        );
    }
    // A full reading may be due at the same moment.
    for (key, shown) in [("sequence=", "<n>"), ("facts=", "<n>"), ("full=", "<bool>")] {
        let mut parts = text.split(key).map(str::to_owned);
        let mut rest = parts.next().unwrap_or_default();
        for part in parts {
            let end = part
                .find(|letter: char| !letter.is_ascii_alphanumeric())
                .unwrap_or(part.len());
            rest.push_str(key);
            rest.push_str(shown);
            rest.push_str(&part[end..]);
        }
        text = rest;
    }
    text
}

/// The records of the control plane about one machine, in order. What other subjects went through
/// meanwhile is not in an order with it.
fn about(log: &str, id: &str) -> Vec<String> {
    let subjects = [format!("node_id=\"{id}\""), format!("instance=\"{id}\"")];
    log.lines()
        .filter(|line| subjects.iter().any(|subject| line.contains(subject)))
        .map(told)
        .collect()
}

#[test]
fn the_log_tells_the_whole_story_of_one_xid() {
    let place = directory();
    // A machine that is busy for some seconds must not add a silence to the story.
    let config = Config::dev(Some(1)).replace("server:\n", "server:\n  heartbeat_timeout: 1m\n");
    std::fs::write(place.path().join("dev.yaml"), config).expect("a file");
    let fleet = Fleet::dev_in(place, &["--config=dev.yaml", "--log-format=text"]);
    let broken = fleet.until_active(1).remove(0);
    let (pid_file, _) = fleet.agents().remove(0);
    // Open before the machine ends: its files may go with it.
    let mut agent = File::open(pid_file.with_file_name("agent.log")).expect("a log");
    let mut before = String::new();
    agent.read_to_string(&mut before).expect("text");
    let server = fleet.path().join("data/server.log");
    let log = || whole_lines(&server);
    let begin = log().len();
    fleet
        .ask(&["dev", "inject", &broken, "xid", "--code=79", "--gpu=3"])
        .fine();
    fleet.until_status(&broken, "TERMINATED");
    let replacement = fleet.until_active(1).remove(0);
    let mut agent_log = String::new();
    until("the agent says that it ends", || {
        agent.read_to_string(&mut agent_log).expect("text");
        let ended = agent_log.contains("node daemon stopped");
        ended.then_some(()).ok_or_else(|| agent_log.clone())
    });
    let incident = fleet.data(&["incident", "list"])[0]["incident_id"].clone();
    let incident = incident.as_str().expect("an id");

    let log = log()[begin..].to_owned();
    let agent: Vec<String> = agent_log
        .lines()
        // A fault and its detection, and a signal and the end of the input, are told in any order.
        .filter(|line| !line.contains("fault injected") && !line.contains("standard input ended"))
        .map(told)
        .collect();
    let mut new = about(&log, &replacement);
    // The launch and the registration race; either may be told first.
    new.retain(|line| {
        !line.contains("event=\"instance.phase\"")
            || line.contains("to=\"requested\"")
            || line.contains("to=\"launching\"")
    });
    let story = format!(
        "The agent of the broken machine:\n\n{}\n\nThe control plane about that machine:\n\n{}\n\n\
         The control plane about the replacement:\n\n{}\n",
        agent.join("\n"),
        about(&log, &broken).join("\n"),
        new.join("\n")
    );
    let names = [
        (broken.as_str(), "<broken>"),
        (replacement.as_str(), "<replacement>"),
        (incident, "<incident>"),
    ];
    let story = in_every_run(&story, &names);
    let document = std::fs::read_to_string(DOCUMENT).expect("the document");
    let (head, rest) = document.split_once(BEGIN).expect("the place of the story");
    let (shown, tail) = rest.split_once(END).expect("its end");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &story).expect("the golden text is written");
        std::fs::write(DOCUMENT, format!("{head}{BEGIN}{story}{END}{tail}")).expect("the document");
        return;
    }
    let golden = std::fs::read_to_string(GOLDEN).expect("a golden text");
    assert_eq!(story, golden, "the log of an XID differs");
    assert_eq!(shown, golden, "docs/logs.md shows another text");
}

//! A control plane that did not run for longer than the heartbeat timeout: nothing is destroyed, and
//! everybody gets a full period to speak.

use std::time::Duration;

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::Value;

use super::{Knobs, Stage};
use crate::support::{let_pass, signal, text};

/// What the two clocks of an event may differ by.
const TOLERANCE: f64 = 0.2;

fn time(event: &Value) -> Timestamp {
    text(event, "time").parse().expect("a time")
}

/// Lets a control plane be away as `go` and `come` do it; `came` is the kind of event that says so.
fn is_away(came: &str, go: impl FnOnce(&mut Stage), come: impl FnOnce(&mut Stage)) {
    let knobs = Knobs {
        guards: "  silence_replace_after: 10m\n  pause_gap: 2s",
        ..Knobs::default()
    };
    let timeout = Duration::from_secs(knobs.heartbeat_timeout);
    let mut stage = Stage::new(&knobs);
    let nodes = stage.settled(3);
    let mark = stage.mark();
    go(&mut stage);
    // One machine dies meanwhile, and nobody can know when.
    let dead = nodes[0].as_str();
    let agent = stage_agent(&stage, dead);
    signal(agent, Signal::STOP);
    let_pass(timeout + Duration::from_secs(2));
    come(&mut stage);

    stage.fleet.until_status(dead, "UNHEALTHY");
    let back = stage.since(mark, &[came]);
    let back = back.first().unwrap_or_else(|| panic!("no {came}"));
    // Nobody is silent before a full period has passed since the return.
    for silent in stage.since(mark, &["node.silent"]) {
        assert_eq!(text(&silent, "node_id"), dead, "{silent}");
        let grace = time(&silent).duration_since(time(back)).as_secs_f64();
        let least = timeout.as_secs_f64() - TOLERANCE;
        assert!(grace >= least, "silent {grace} s after the return");
    }
    stage.until_explained(dead, &["waits for silence", "not been silent long enough"]);
    let told = stage.until_explained(dead, &[came]);
    assert!(told.contains("no heartbeat for"), "{told}");

    signal(agent, Signal::CONT);
    assert_eq!(stage.fleet.until_active(3), nodes);
    assert_eq!(stage.instances().len(), 3);
    stage.nothing_done_since(mark);
}

/// The process of an agent, found while nobody can be asked.
fn stage_agent(stage: &Stage, node: &str) -> u32 {
    let found = crate::support::pids_below(stage.home.path());
    let named = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line)
            .split('\0')
            .any(|argument| argument.ends_with(node))
    };
    let pid = found.iter().map(|(_, pid)| *pid).find(named);
    pid.unwrap_or_else(|| panic!("no process of {node}: {found:?}"))
}

#[test]
fn a_frozen_control_plane_gives_everybody_a_full_period() {
    is_away(
        "server.paused",
        |stage| signal(stage.fleet.server.pid(), Signal::STOP),
        |stage| signal(stage.fleet.server.pid(), Signal::CONT),
    );
}

#[test]
fn a_control_plane_that_was_killed_gives_everybody_a_full_period() {
    is_away(
        "server.started",
        |stage| stage.fleet.server.kill(),
        |stage| stage.fleet.restart(),
    );
}

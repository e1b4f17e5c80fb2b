//! The policy is replaced while the control plane runs: the same event, another verdict.

use std::fs::File;
use std::time::Duration;

use rustix::process::Signal;

use crate::stage::{FILE, Fault, Stage, shipped};
use crate::support::{Program, directory, let_pass, signal, until};

/// NVIDIA says to ignore it; the strict policy does not.
const EVENT: Fault = ("xid", r#"{"gpu": 2, "code": 63}"#);

/// An event that every policy here takes for something.
const MARKER: Fault = ("xid", r#"{"gpu": 7, "code": 79}"#);

/// Long enough for a control plane that watches its files to have looked.
const LOOKED: Duration = Duration::from_secs(3);

/// Puts a text in place of the policy in one step, as editors and deployments do.
fn replace(stage: &Stage, text: &str) {
    let new = stage.fleet.path().join("policy.new");
    std::fs::write(&new, text).expect("a file");
    std::fs::rename(&new, stage.fleet.path().join(FILE)).expect("it takes the place");
}

/// The same, so that neither the size nor the time of the file tells.
fn replace_unseen(stage: &Stage, text: &str) {
    let old = std::fs::metadata(stage.fleet.path().join(FILE)).expect("the policy");
    let length = usize::try_from(old.len()).expect("a small file");
    assert!(text.len() < length, "nothing to fill up");
    let mut text = text.to_owned();
    text.push('#');
    text.extend(std::iter::repeat_n('.', length - text.len() - 1));
    text.push('\n');
    let new = stage.fleet.path().join("policy.new");
    std::fs::write(&new, text).expect("a file");
    let file = File::options().append(true).open(&new).expect("the file");
    file.set_modified(old.modified().expect("its time"))
        .expect("an old time");
    std::fs::rename(&new, stage.fleet.path().join(FILE)).expect("it takes the place");
}

/// What `navarch policy show` prints, and what it remarks.
fn in_force(stage: &Stage) -> (String, String) {
    let said = stage.fleet.ask(&["policy", "show"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    (said.out, said.err)
}

fn until_in_force(stage: &Stage, name: &str) {
    until(&format!("{name} is in force"), || {
        let (text, remarks) = in_force(stage);
        let found = text.contains(&format!("  name: {name}\n"));
        found.then_some(()).ok_or(remarks)
    });
}

/// Judges the event on a new machine.
fn verdict(stage: &mut Stage, name: &str, health: &str, status: &str, incidents: &[&str]) {
    stage.add_one(name);
    stage.inject(name, EVENT);
    stage.until_one(name, health, status, incidents);
}

#[test]
fn the_same_event_gets_the_verdict_of_the_policy_in_force() {
    let mut stage = Stage::start(&shipped("strict"));
    verdict(
        &mut stage,
        "first",
        "UNHEALTHY",
        "UNHEALTHY",
        &["any-xid xid-63 2"],
    );

    // By a new file.
    replace(&stage, &shipped("permissive"));
    until_in_force(&stage, "permissive");
    verdict(
        &mut stage,
        "second",
        "DEGRADED",
        "ACTIVE",
        &["xid xid-63 2"],
    );
    // What is open is judged again.
    stage.until_one("first", "DEGRADED", "ACTIVE", &["xid xid-63 2"]);
    let applied = stage.fleet.data(&["events", "--kind=policy.applied"]);
    assert_eq!(
        applied[0]["message"],
        "health policy policy.yaml is in force"
    );

    // A broken file changes nothing, says so in the log, and to who asks.
    let broken = shipped("strict").replace("event.event_type == \"xid\"", "event.kind == \"xid\"");
    replace(&stage, &broken);
    until("the refusal is shown", || {
        let (_, remarks) = in_force(&stage);
        let refused = remarks.contains("A newer text was refused: ")
            && remarks.contains("policy.yaml:9:")
            && remarks.contains("kind");
        refused.then_some(()).ok_or(remarks)
    });
    let log = stage.fleet.server.output();
    let line = log
        .lines()
        .find(|line| line.contains("the new health policy is refused; the old one stays"))
        .unwrap_or_else(|| panic!("no refusal in {log}"));
    assert!(line.contains("ERROR"), "{line}");
    assert!(line.contains("policy.yaml:9:"), "{line}");
    until_in_force(&stage, "permissive");
    verdict(&mut stage, "third", "DEGRADED", "ACTIVE", &["xid xid-63 2"]);
    // A file that is no YAML, and none at all.
    replace(&stage, "rules: [");
    until("another refusal", || {
        let (_, remarks) = in_force(&stage);
        (!remarks.contains("policy.yaml:9:") && remarks.contains("refused"))
            .then_some(())
            .ok_or(remarks)
    });
    std::fs::remove_file(stage.fleet.path().join(FILE)).expect("the policy");
    until("the missing file is named", || {
        let (_, remarks) = in_force(&stage);
        remarks
            .contains("cannot read the health policy policy.yaml")
            .then_some(())
            .ok_or(remarks)
    });
    until_in_force(&stage, "permissive");

    // A good file ends the refusal.
    replace(&stage, &shipped("catalogue"));
    until_in_force(&stage, "catalogue");
    let (_, remarks) = in_force(&stage);
    assert!(!remarks.contains("refused"), "{remarks}");
    stage.add_one("fourth");
    stage.inject("fourth", EVENT);
    stage.inject("fourth", MARKER);
    stage.until_one("fourth", "UNHEALTHY", "UNHEALTHY", &["xid-reboot xid-79 7"]);
}

#[test]
fn a_hangup_signal_reads_the_policy_again() {
    let mut stage = Stage::start(&shipped("catalogue"));
    // A file that looks the same from outside is read for the signal alone.
    replace_unseen(&stage, &shipped("strict"));
    let_pass(LOOKED);
    until_in_force(&stage, "catalogue");
    signal(stage.fleet.server.pid(), Signal::HUP);
    until_in_force(&stage, "strict");
    verdict(
        &mut stage,
        "after",
        "UNHEALTHY",
        "UNHEALTHY",
        &["any-xid xid-63 2"],
    );
    // A broken file at a signal leaves the old one, too, and the control plane runs on.
    replace_unseen(&stage, "version: v1\nrules: []\n");
    signal(stage.fleet.server.pid(), Signal::HUP);
    until("the refusal is shown", || {
        let (_, remarks) = in_force(&stage);
        remarks.contains("refused").then_some(()).ok_or(remarks)
    });
    until_in_force(&stage, "strict");
    verdict(
        &mut stage,
        "last",
        "UNHEALTHY",
        "UNHEALTHY",
        &["any-xid xid-63 2"],
    );
}

#[test]
fn a_control_plane_does_not_start_with_a_broken_policy() {
    for (text, complaint) in [
        ("rules: [", "policy.yaml:"),
        (
            "version: v1\nrules: []\n",
            "policy must have at least one rule",
        ),
        (
            "rules:\n  - {name: a, condition: 'event.nope == 1', result: healthy}\n",
            "nope",
        ),
    ] {
        let place = directory();
        std::fs::write(place.path().join(FILE), text).expect("a file");
        let config = "server: {health_policy: policy.yaml}\nproviders: {fake: {type: fake}}\n\
                      pools: {a: {provider: fake, instance_type: fake-8x, max_nodes: 1}}\n";
        std::fs::write(place.path().join("navarch.yaml"), config).expect("a file");
        let (code, said) = Program::ends(
            place.path(),
            &[],
            &[
                "server",
                "--config=navarch.yaml",
                "--listen=127.0.0.1:0",
                "--data-dir=data",
            ],
        );
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(complaint), "{said}");
    }
}

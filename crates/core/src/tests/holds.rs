//! Named holds, and who asked for what.

use std::time::Duration;

use navarch_model::{EventKind, InstanceId, NodeCommandType, NodeId, NodeStatus, Phase};

use super::{Rig, yaml};
use crate::input::{Actor, Input, NamedHold, RejectionCode, Reply};

fn named(name: &str, owner: &str, drains: bool, seconds: Option<u64>) -> NamedHold {
    NamedHold {
        name: name.to_owned(),
        owner: owner.to_owned(),
        reason: "disk swap".to_owned(),
        drains,
        lasts: seconds.map(Duration::from_secs),
    }
}

fn add(id: &InstanceId, hold: NamedHold) -> Input {
    let node = NodeId::new(id.as_str());
    Input::AddHold { node, hold }
}

fn remove(id: &InstanceId, name: &str) -> Input {
    Input::RemoveHold {
        node: NodeId::new(id.as_str()),
        name: name.to_owned(),
        reason: String::new(),
    }
}

fn order(id: &InstanceId, kind: NodeCommandType) -> Input {
    Input::Command {
        node: NodeId::new(id.as_str()),
        kind,
        parameters: [].into(),
    }
}

#[test]
fn uncordon_leaves_a_named_hold_and_names_it() {
    let mut rig = Rig::new(&yaml(1, 2, ""));
    let id = rig.up(1).remove(0);
    rig.take(add(&id, named("maintenance", "slurm", false, None)));
    assert_eq!(rig.node(&id).status(), NodeStatus::Cordoned);
    // Nothing of an operator's stands yet.
    let refused = rig.feed(order(&id, NodeCommandType::Uncordon)).unwrap_err();
    let expected = format!(
        "node {id} is not cordoned (current status: NODE_STATUS_CORDONED); \
         what holds it: hold:slurm/maintenance"
    );
    assert_eq!(refused.message, expected);
    rig.take(order(&id, NodeCommandType::Cordon));
    let Reply::Commanded { holds, status, .. } = rig.take(order(&id, NodeCommandType::Uncordon))
    else {
        panic!("a command is answered");
    };
    assert_eq!(holds, ["hold:slurm/maintenance"]);
    assert_eq!(status, NodeStatus::Cordoned);
    rig.take(remove(&id, "maintenance"));
    assert_eq!(rig.node(&id).status(), NodeStatus::Active);
}

#[test]
fn a_hold_that_drains_drains_and_never_ends_the_machine() {
    let mut rig = Rig::new(&yaml(1, 2, ""));
    let id = rig.up(1).remove(0);
    rig.take(add(&id, named("burn-in", "ops", true, None)));
    assert_eq!(rig.node(&id).status(), NodeStatus::Draining);
    rig.run_well(&id, 600);
    assert_eq!(rig.instance(&id).phase, Phase::Running);
    // Setting it anew without draining keeps when it was set.
    let since = rig
        .node(&id)
        .named_hold("burn-in")
        .expect("it stands")
        .1
        .since;
    rig.take(add(&id, named("burn-in", "ops", false, None)));
    assert_eq!(rig.node(&id).status(), NodeStatus::Cordoned);
    assert_eq!(
        rig.node(&id)
            .named_hold("burn-in")
            .expect("it stands")
            .1
            .since,
        since
    );
    assert_eq!(rig.node(&id).holds.len(), 1);
}

#[test]
fn repeats_change_nothing_and_anothers_name_is_refused() {
    let mut rig = Rig::new(&yaml(1, 2, ""));
    let id = rig.up(1).remove(0);
    rig.take(add(&id, named("x", "a", false, None)));
    let recorded = rig.count(EventKind::HoldAdded);
    for (input, changes) in [
        (add(&id, named("x", "a", false, None)), false),
        (remove(&id, "y"), false),
        (remove(&id, "x"), true),
        (remove(&id, "x"), false),
        (add(&id, named("x", "b", false, None)), true),
    ] {
        let shown = format!("{input:?}");
        let Reply::Held { changed, .. } = rig.take(input) else {
            panic!("a hold is answered");
        };
        assert_eq!(changed, changes, "{shown}");
    }
    assert_eq!(rig.count(EventKind::HoldAdded), recorded + 1);
    let refused = rig
        .feed(add(&id, named("x", "a", false, None)))
        .unwrap_err();
    assert_eq!(refused.code, RejectionCode::AlreadyExists);
    for bad in ["", "a/b", "a:b", " ", "-"] {
        for hold in [named(bad, "a", false, None), named("n", bad, false, None)] {
            let refused = rig.feed(add(&id, hold)).unwrap_err();
            assert_eq!(refused.code, RejectionCode::InvalidArgument, "{bad:?}");
        }
    }
    for number in 0..15 {
        rig.take(add(&id, named(&format!("n{number}"), "a", false, None)));
    }
    let refused = rig
        .feed(add(&id, named("one-more", "a", false, None)))
        .unwrap_err();
    assert_eq!(refused.code, RejectionCode::FailedPrecondition);
    assert!(refused.message.contains("16 named holds"), "{refused}");
    let stranger = InstanceId::new("nv-nobody");
    let refused = rig
        .feed(add(&stranger, named("x", "a", false, None)))
        .unwrap_err();
    assert_eq!(refused.code, RejectionCode::NotFound);
}

#[test]
fn a_hold_ends_when_its_time_is_over_and_not_before() {
    let mut rig = Rig::new(&yaml(1, 2, ""));
    let id = rig.up(1).remove(0);
    rig.take(add(&id, named("short", "a", false, Some(100))));
    rig.run_well(&id, 60);
    // Renewed: its time counts from now.
    rig.take(add(&id, named("short", "a", false, Some(100))));
    rig.run_well(&id, 99);
    assert_eq!(rig.node(&id).status(), NodeStatus::Cordoned);
    rig.run(1);
    assert_eq!(rig.node(&id).status(), NodeStatus::Active);
    let said = rig.said(EventKind::HoldRemoved);
    assert_eq!(said.last(), Some(&"hold:a/short: its time is over"));
}

#[test]
fn repair_waits_for_a_named_hold_and_says_for_which() {
    let mut rig = Rig::new(&yaml(1, 2, ""));
    let id = rig.up(1).remove(0);
    rig.take(add(&id, named("maintenance", "slurm", false, Some(7200))));
    rig.xid(&id, 79, 0);
    rig.run(3600);
    assert_eq!(rig.node(&id).status(), NodeStatus::Unhealthy);
    assert_eq!(rig.instance(&id).phase, Phase::Running);
    assert!(rig.waits().contains(&(id.as_str(), "operator_hold")));
    let pool = &rig.report.pools[&navarch_model::PoolName::new("main")];
    let told = pool.waits.iter().find(|wait| wait.guard == "operator_hold");
    let told = &told.expect("it is told").reason;
    assert!(told.contains("maintenance of slurm"), "{told}");
    // Its end lets the repair go on.
    rig.take(remove(&id, "maintenance"));
    rig.up(2);
    rig.run(60);
    assert_eq!(rig.instance(&id).phase, Phase::Terminated);
}

#[test]
fn terminate_ends_a_held_machine() {
    let mut rig = Rig::new(&yaml(1, 2, ""));
    let id = rig.up(1).remove(0);
    rig.take(add(&id, named("maintenance", "slurm", false, None)));
    rig.take(order(&id, NodeCommandType::Terminate));
    rig.run(5);
    assert_eq!(rig.instance(&id).phase, Phase::Terminated);
}

#[test]
fn events_say_who_asked_and_others_do_not() {
    let mut rig = Rig::new(&yaml(1, 2, ""));
    let id = rig.up(1).remove(0);
    assert!(
        rig.events
            .values()
            .all(|event| !event.details.contains_key("actor"))
    );
    let before = rig.events.len();
    rig.take(Input::By {
        actor: Actor {
            name: "the-operator".to_owned(),
            address: "10.1.2.3".to_owned(),
        },
        input: Box::new(order(&id, NodeCommandType::Cordon)),
    });
    let caused: Vec<_> = rig.events.values().skip(before).collect();
    assert_eq!(caused.len(), 3, "{caused:?}");
    for event in caused {
        assert_eq!(event.details["actor"], "the-operator", "{event:?}");
        assert_eq!(event.details["address"], "10.1.2.3", "{event:?}");
    }
    let before = rig.events.len();
    rig.take(order(&id, NodeCommandType::Uncordon));
    let later = rig.events.values().skip(before);
    assert!(
        later
            .into_iter()
            .all(|event| !event.details.contains_key("actor"))
    );
}

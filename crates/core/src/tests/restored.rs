//! A store that was restored from an older copy: what exists proves itself.

use std::sync::Arc;

use navarch_model::{Automation, EndCause, InstanceId, NodeCommandType, NodeId, Phase, State};

use super::{Rig, yaml};
use crate::Fleet;
use crate::input::{Effect, Input};

/// A control plane takes over from an older copy of the store.
fn restore(rig: &mut Rig, copy: &State) {
    let settings = Arc::clone(rig.fleet.settings());
    let policy = Arc::clone(rig.fleet.policy());
    rig.fleet = Fleet::new(copy.clone(), settings, policy);
    rig.drop_calls();
    rig.take(Input::Started { epoch: 2 });
}

/// A fleet whose machine runs, and a copy of its store from before the cloud was asked for it.
fn copied() -> (Rig, InstanceId, State) {
    let mut rig = Rig::new(&yaml(1, 2, ""));
    rig.plan();
    let copy = rig.fleet.state().clone();
    let id = rig.of(Phase::Requested).remove(0);
    rig.answer();
    rig.up(1);
    (rig, id, copy)
}

fn launches(rig: &mut Rig) -> usize {
    let calls = rig.drop_calls();
    let launch = |effect: &&Effect| matches!(effect, Effect::Launch { .. });
    calls.iter().filter(launch).count()
}

#[test]
fn a_registration_proves_an_intent_that_no_call_is_known_of() {
    let (mut rig, id, copy) = copied();
    restore(&mut rig, &copy);
    let planned = rig.fleet.plan(rig.now);
    rig.register(&id);
    assert_eq!(rig.instance(&id).phase, Phase::Running);
    // What was planned before buys nothing, and a smaller pool gives nothing up as a mere intent.
    for action in planned.actions {
        let _ = rig.feed(Input::Act(action));
    }
    assert_eq!(launches(&mut rig), 0);
    rig.full(&id, 45);
    rig.run_well(&id, 200);
    assert_eq!(rig.instance(&id).phase, Phase::Running);
    assert_eq!(rig.machines.len(), 1);
    assert!(rig.instance(&id).provider_id.is_some(), "a listing says it");
}

#[test]
fn a_listing_proves_it_as_well() {
    let (mut rig, id, copy) = copied();
    restore(&mut rig, &copy);
    // Nothing is bought of our own choosing; listings go on.
    rig.take(Input::SetAutomation {
        pool: None,
        mode: Automation::Off,
        reason: String::new(),
    });
    rig.run(130);
    assert_eq!(rig.instance(&id).phase, Phase::PendingRegistration);
    assert!(rig.instance(&id).provider_id.is_some());
    assert!(rig.fleet.state().unclaimed.is_empty());
    rig.register(&id);
    assert_eq!(rig.instance(&id).phase, Phase::Running);
}

#[test]
fn an_operator_ends_the_machine_and_not_only_the_intent() {
    let (mut rig, id, copy) = copied();
    restore(&mut rig, &copy);
    rig.register(&id);
    rig.take(Input::Command {
        node: NodeId::new(id.as_str()),
        kind: NodeCommandType::Terminate,
        parameters: [].into(),
    });
    assert_eq!(rig.instance(&id).phase, Phase::Terminating);
    assert_eq!(rig.instance(&id).end, Some(EndCause::Operator));
    let machine = rig.machines.keys().next().expect("it runs").clone();
    rig.run(20);
    assert!(!rig.machines.contains_key(&machine), "its machine goes");
    assert_eq!(rig.instance(&id).phase, Phase::Terminated);
}

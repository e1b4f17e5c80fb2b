//! A store that was restored from an older copy: what exists proves itself.

use std::sync::Arc;

use navarch_model::{
    Automation, EndCause, InstanceId, NodeCommandType, NodeId, NoticeKind, Phase, State,
};

use super::{Rig, notices, yaml};
use crate::Fleet;
use crate::input::{Effect, Input, NotifyOutcome};

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

/// A control plane takes over from a copy that a store put back.
fn put_back(rig: &mut Rig, copy: &State) {
    let mut copy = copy.clone();
    for node in copy.nodes.values_mut() {
        Arc::make_mut(node).told.restored();
    }
    restore(rig, &copy);
    rig.plan();
}

#[test]
fn a_notice_of_a_restored_copy_is_newer_than_what_was_heard_since() {
    let (mut rig, id) = notices::one();
    let drain = notices::drained(&mut rig, &id);
    let copy = rig.fleet.state().clone();
    rig.scheduler(&id, &drain, NotifyOutcome::Taken);
    rig.pass(60);
    rig.order(&id, NodeCommandType::Cordon, "fan");
    let heard = rig.the_notice(NoticeKind::Drain);
    assert!(heard.sequence > drain.sequence);
    rig.pass(60);
    put_back(&mut rig, &copy);
    let again = rig.the_notice(NoticeKind::Drain);
    assert!(again.sequence > heard.sequence, "the scheduler believes it");
    assert_ne!(
        again.key(&rig.fleet.state().meta.fleet, &NodeId::new(id.as_str())),
        drain.key(&rig.fleet.state().meta.fleet, &NodeId::new(id.as_str())),
    );
    rig.scheduler(&id, &again, NotifyOutcome::Taken);
    rig.wait(&id, 1);
    let asked = rig.drop_calls();
    let asks = |effect: &Effect| matches!(effect, Effect::AskDrained { .. });
    assert!(asked.iter().any(asks), "the drain goes on: {asked:?}");
}

#[test]
fn a_restored_copy_tells_again_what_is_held_and_nothing_of_what_is_not() {
    let mut rig = Rig::new(&notices::told_yaml(2, 3));
    let up = rig.up(2);
    rig.drop_calls();
    rig.order(&up[0], NodeCommandType::Cordon, "fan");
    let cordon = rig.the_notice(NoticeKind::Cordon);
    rig.scheduler(&up[0], &cordon, NotifyOutcome::Taken);
    let copy = rig.fleet.state().clone();
    rig.pass(60);
    put_back(&mut rig, &copy);
    let sent: Vec<_> = rig
        .drop_calls()
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Notify { node, notice, .. } => Some((node, notice)),
            _ => None,
        })
        .collect();
    let [(node, again)] = &sent[..] else {
        panic!("{sent:?}");
    };
    assert_eq!(
        (node.as_str(), again.kind),
        (up[0].as_str(), NoticeKind::Cordon)
    );
    assert!(again.sequence > cordon.sequence);
    let (id, again) = (up[0].clone(), again.clone());
    rig.scheduler(&id, &again, NotifyOutcome::Taken);
    rig.wait(&id, 5);
    assert_eq!(rig.sent(), [], "once is enough");
}

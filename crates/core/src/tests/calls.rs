//! Calls whose answer never comes: each is asked again.

use navarch_model::{EndCause, NodeCommandType, NodeId, Phase, ProviderName, TerminateAnswer};

use super::{Rig, yaml};
use crate::input::{Effect, Input};

fn kinds(effects: &[Effect]) -> Vec<&'static str> {
    effects
        .iter()
        .map(|effect| match effect {
            Effect::Launch { .. } => "launch",
            Effect::Lookup { .. } => "lookup",
            Effect::Terminate { .. } => "terminate",
            Effect::List { .. } => "list",
            Effect::TerminateUnclaimed { .. } => "unclaimed",
            Effect::AskDrained { .. } => "drained",
        })
        .collect()
}

#[test]
fn a_listing_without_an_answer_is_asked_for_again() {
    let mut rig = Rig::new(&yaml(0, 2, ""));
    rig.plan();
    assert_eq!(kinds(&rig.drop_calls()), ["list"]);
    let provider = ProviderName::new("fake");
    let began = rig.now;
    rig.pass(119);
    rig.plan();
    assert!(rig.drop_calls().is_empty(), "it may still be answered");
    rig.pass(61);
    rig.plan();
    assert_eq!(kinds(&rig.effects), ["list"]);
    rig.answer();
    // The first answer comes after all: what it says is older than what is known.
    rig.take(Input::ListResult {
        provider,
        began,
        result: Ok((Vec::new(), false)),
    });
    rig.plan();
    assert!(rig.report.suspect.is_empty());
}

#[test]
fn a_termination_without_an_answer_is_asked_for_again() {
    let mut rig = Rig::new(&yaml(1, 2, ""));
    let id = rig.up(1).remove(0);
    rig.take(Input::Command {
        node: NodeId::new(id.as_str()),
        kind: NodeCommandType::Terminate,
        parameters: [].into(),
    });
    assert_eq!(rig.instance(&id).end, Some(EndCause::Operator));
    rig.plan();
    let asked = |rig: &mut Rig| {
        let calls = rig.drop_calls();
        calls.into_iter().find_map(|effect| match effect {
            Effect::Terminate { key, .. } => Some(key),
            _ => None,
        })
    };
    let first = asked(&mut rig).expect("the cloud is asked");
    rig.pass(60);
    rig.plan();
    assert_eq!(asked(&mut rig), None);
    rig.pass(61);
    rig.plan();
    let second = asked(&mut rig).expect("the cloud is asked again");
    assert!(second.attempt > first.attempt);
    // The lost answer shows up: it is recorded and changes nothing.
    rig.take(Input::TerminateResult {
        key: first,
        result: Ok(TerminateAnswer::Gone),
    });
    assert_eq!(rig.instance(&id).phase, Phase::Terminating);
    rig.take(Input::TerminateResult {
        key: second,
        result: Ok(TerminateAnswer::Gone),
    });
    assert_eq!(rig.instance(&id).phase, Phase::Terminated);
}

#[test]
fn a_question_to_the_scheduler_without_an_answer_is_repeated() {
    let mut rig = Rig::new(&yaml(1, 2, ""));
    let id = rig.up(1).remove(0);
    rig.xid(&id, 79, 0);
    let mut asked = 0;
    for _ in 0..150 {
        rig.pass(1);
        rig.plan();
        for effect in rig.drop_calls() {
            asked += usize::from(matches!(effect, Effect::AskDrained { .. }));
        }
    }
    assert_eq!(asked, 2, "once at first, once after the launch timeout");
}

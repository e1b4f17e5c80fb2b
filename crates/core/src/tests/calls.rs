//! Calls whose answer never comes: each is asked again.

use navarch_model::{
    EndCause, InstanceId, NodeCommandType, NodeId, Phase, ProviderError, ProviderErrorKind,
    ProviderName, TerminateAnswer,
};

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
            Effect::Notify { .. } => "notify",
            Effect::AskDrained { .. } => "drained",
            Effect::CancelLaunch { .. } => "cancel",
            Effect::Prices { .. } => "prices",
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
    assert_eq!(asked, 6, "again whenever the answer is taken for lost");
}

/// The look-ups among the calls that wait.
fn lookups(rig: &mut Rig) -> Vec<crate::CallKey> {
    let calls = rig.drop_calls();
    calls
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Lookup { key, .. } => Some(key),
            _ => None,
        })
        .collect()
}

/// A new machine that waits for its agent and that the latest listing lacks.
fn unlisted() -> (Rig, InstanceId) {
    let mut rig = Rig::new(&yaml(1, 2, ""));
    rig.run(2);
    let id = rig.of(Phase::PendingRegistration).remove(0);
    rig.pass(1);
    rig.take(Input::ListResult {
        provider: ProviderName::new("fake"),
        began: rig.now,
        result: Ok((Vec::new(), true)),
    });
    rig.drop_calls();
    rig.plan();
    (rig, id)
}

#[test]
fn a_new_machine_that_is_not_found_is_looked_up_again_only_after_a_while() {
    let (mut rig, id) = unlisted();
    let key = lookups(&mut rig).pop().expect("it is looked up by its id");
    rig.take(Input::LookupResult {
        key,
        result: Ok(None),
    });
    // A plan a moment later asks nothing: the cloud may be late to know it.
    rig.plan();
    assert_eq!(lookups(&mut rig), []);
    let again = rig.feed(Input::Act(crate::Action::Lookup {
        instance: id.clone(),
    }));
    assert!(again.is_err(), "judged again when it is taken");
    assert_eq!(rig.instance(&id).phase, Phase::PendingRegistration);
    let rest = rig.instance(&id).retry_at.expect("it rests");
    rig.pass(rest.since(rig.now.core).as_secs());
    rig.plan();
    assert_eq!(lookups(&mut rig).len(), 1);
}

#[test]
fn a_machine_that_is_heard_and_not_found_is_looked_up_less_and_less_often() {
    let long = yaml(1, 2, "").replace("health_check_interval: 30s", "health_check_interval: 4h");
    let mut rig = Rig::new(&long);
    let id = rig.up(1).remove(0);
    let machine = rig.instance(&id).provider_id.clone().expect("it runs");
    rig.machines.remove(&machine);
    let mut asked = 0;
    for _ in 0..3600 {
        rig.pass(1);
        rig.take(Input::Tick);
        rig.plan();
        let lookup = |effect: &&Effect| matches!(effect, Effect::Lookup { .. });
        asked += rig.effects.iter().filter(lookup).count();
        rig.answer();
    }
    assert_eq!(rig.instance(&id).phase, Phase::Running);
    // 5, 10, 20, ... 300 s: seven until five minutes have passed, and one in each five since.
    assert!((10..=25).contains(&asked), "{asked} look-ups in an hour");
}

#[test]
fn a_silent_machine_is_looked_up_as_often_as_is_configured() {
    let asked = |keys: &str| {
        let section = format!("instance_manager:\n{keys}");
        let mut rig = Rig::new(&yaml(1, 2, "").replace("instance_manager:\n", &section));
        let id = rig.up(1).remove(0);
        rig.silent(&id);
        let mut asked = 0;
        for _ in 0..600 {
            rig.pass(1);
            rig.take(Input::Tick);
            rig.plan();
            let lookup = |effect: &&Effect| matches!(effect, Effect::Lookup { .. });
            asked += rig.effects.iter().filter(lookup).count();
            rig.answer();
        }
        assert_eq!(rig.instance(&id).phase, Phase::Running);
        asked
    };
    let often = asked("  stale_check_interval: 30s\n");
    assert!(
        (17..=21).contains(&often),
        "{often} look-ups in ten minutes"
    );
    // Each listing says as much.
    let seldom = asked("");
    assert!(
        (1..=4).contains(&seldom),
        "{seldom} look-ups in ten minutes"
    );
}

#[test]
fn a_cloud_that_fails_is_not_asked_in_every_plan_about_a_new_machine() {
    let (mut rig, id) = unlisted();
    let mut asked = 0;
    for _ in 0..100 {
        for key in lookups(&mut rig) {
            asked += 1;
            rig.take(Input::LookupResult {
                key,
                result: Err(ProviderError::new(ProviderErrorKind::Transient, "down")),
            });
        }
        rig.pass(1);
        rig.plan();
    }
    assert!((2..=6).contains(&asked), "{asked} look-ups in 100 s");
    // The deadline to register holds all the same.
    rig.pass(200);
    rig.plan();
    assert_eq!(rig.instance(&id).phase, Phase::Terminating);
}

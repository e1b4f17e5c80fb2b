//! Launches: deadlines, refusals that come late, and intents that nobody wants any more.

use navarch_model::{Idempotency, Phase, ProviderErrorKind, Time};

use super::{Rig, yaml};

/// A fleet whose first launch was called and has no answer.
fn called(idempotency: Idempotency) -> (Rig, crate::CallKey, Time) {
    let mut rig = Rig::on(&yaml(1, 2, ""), idempotency);
    rig.plan();
    rig.plan();
    let (key, deadline) = rig.launches().pop().expect("a launch is called");
    rig.answer();
    (rig, key, deadline)
}

/// The next launch call, while the cloud answers everything else.
fn repeated(rig: &mut Rig) -> crate::CallKey {
    for _ in 0..60 {
        rig.pass(1);
        rig.plan();
        if let Some((key, _)) = rig.launches().pop() {
            return key;
        }
        rig.answer();
    }
    panic!("no launch call was made");
}

#[test]
fn a_launch_has_a_deadline_that_leaves_time_for_the_call() {
    let (rig, key, deadline) = called(Idempotency::None);
    let given_up = rig.instance(&key.instance).launch_deadline.unwrap();
    assert_eq!(given_up.since(deadline).as_secs(), 30);
    assert_eq!(deadline.since(rig.now.core).as_secs(), 90);
}

#[test]
fn a_call_that_may_take_longer_than_the_launch_timeout_is_not_given_up_before_it_ends() {
    let text = yaml(1, 2, "").replace("gpu_count: 2", "gpu_count: 2\n    request_timeout: 10m");
    let mut rig = Rig::on(&text, Idempotency::None);
    rig.plan();
    rig.plan();
    let (key, deadline) = rig.launches().pop().unwrap();
    assert_eq!(deadline.since(rig.now.core).as_secs(), 600);
    rig.pass(1199);
    rig.plan();
    assert_eq!(rig.instance(&key.instance).phase, Phase::Launching);
    rig.pass(1);
    rig.plan();
    assert_eq!(rig.instance(&key.instance).phase, Phase::OutcomeUnknown);
}

#[test]
fn what_was_not_begun_made_nothing_and_is_tried_again() {
    let (mut rig, key, _) = called(Idempotency::None);
    rig.pass(100);
    rig.launch_fails(&key, ProviderErrorKind::Transient);
    assert!(rig.instance(&key.instance).clean);
    rig.pass(10);
    rig.plan();
    let (again, _) = rig.launches().pop().expect("the call is repeated");
    assert_eq!(again.instance, key.instance);
    // The second call has its own time, though the instance has been Launching for longer.
    rig.pass(60);
    rig.plan();
    assert_eq!(rig.instance(&key.instance).phase, Phase::Launching);
    // No call's answer was lost: a refusal is the whole truth.
    rig.launch_fails(&again, ProviderErrorKind::Capacity);
    assert_eq!(rig.instance(&key.instance).phase, Phase::Failed);
}

#[test]
fn a_refusal_after_a_lost_answer_proves_nothing() {
    let (mut rig, key, _) = called(Idempotency::TokenOrName);
    rig.launch_fails(&key, ProviderErrorKind::OutcomeUnknown);
    assert_eq!(rig.instance(&key.instance).phase, Phase::OutcomeUnknown);
    let again = repeated(&mut rig);
    rig.launch_fails(&again, ProviderErrorKind::Capacity);
    assert_eq!(rig.instance(&key.instance).phase, Phase::Launching);
}

#[test]
fn an_answer_lost_with_a_process_is_doubted_as_well() {
    let (mut rig, key, _) = called(Idempotency::TokenOrName);
    rig.start();
    let again = repeated(&mut rig);
    assert!(again.attempt > key.attempt);
    rig.launch_fails(&again, ProviderErrorKind::Capacity);
    assert_eq!(rig.instance(&key.instance).phase, Phase::Launching);
}

#[test]
fn a_late_word_that_nothing_was_made_settles_an_unknown_outcome() {
    for kind in [ProviderErrorKind::Transient, ProviderErrorKind::Capacity] {
        let (mut rig, key, _) = called(Idempotency::None);
        rig.pass(121);
        rig.plan();
        assert_eq!(rig.instance(&key.instance).phase, Phase::OutcomeUnknown);
        rig.launch_fails(&key, kind);
        assert_eq!(rig.instance(&key.instance).phase, Phase::Launching);
        assert!(rig.instance(&key.instance).clean);

        // Where it was given up meanwhile, it is proven gone.
        let (mut rig, key, _) = called(Idempotency::None);
        rig.pass(121);
        rig.plan();
        rig.take(super::Input::EndInstance {
            instance: key.instance.clone(),
            reason: String::new(),
        });
        assert_eq!(rig.instance(&key.instance).phase, Phase::Terminating);
        rig.launch_fails(&key, kind);
        assert_eq!(rig.instance(&key.instance).phase, Phase::Terminated);
    }
}

#[test]
fn a_late_word_about_one_of_two_calls_settles_nothing() {
    let (mut rig, key, _) = called(Idempotency::TokenOrName);
    rig.pass(121);
    assert_eq!(repeated(&mut rig).instance, key.instance);
    rig.launch_fails(&key, ProviderErrorKind::Transient);
    assert!(!rig.instance(&key.instance).clean);
}

/// A fleet that wants three machines, of which none was called yet.
fn three_intents() -> Rig {
    let mut rig = Rig::new(&yaml(3, 4, ""));
    rig.plan();
    assert_eq!(rig.of(Phase::Requested).len(), 3);
    rig
}

#[test]
fn intents_that_nobody_wants_are_given_up_and_never_bought() {
    let mut rig = three_intents();
    rig.configure(&yaml(1, 4, ""));
    rig.run(5);
    assert_eq!(rig.of(Phase::Failed).len(), 2);
    assert_eq!(rig.machines.len(), 1);
    assert_eq!(rig.of(Phase::PendingRegistration).len(), 1);
}

#[test]
fn intents_of_a_pool_that_is_gone_are_given_up() {
    let mut rig = three_intents();
    let other = yaml(0, 4, "").replace("  main:", "  other:");
    rig.configure(&other);
    rig.run(5);
    assert_eq!(rig.of(Phase::Failed).len(), 3);
    assert!(rig.machines.is_empty());
}

#[test]
fn a_launch_is_judged_again_when_it_is_taken() {
    use crate::input::{Action, Input};
    let mut rig = three_intents();
    let plan = rig.fleet.plan(rig.now);
    rig.configure(&yaml(0, 4, ""));
    let launches: Vec<Action> = plan
        .actions
        .into_iter()
        .filter(|action| matches!(action, Action::Launch { .. }))
        .collect();
    assert_eq!(launches.len(), 3);
    for action in launches {
        assert!(rig.feed(Input::Act(action)).is_err());
    }
    assert!(rig.launches().is_empty());
}

#[test]
fn a_repeat_that_nobody_wants_is_given_up_as_far_as_is_known() {
    for (kind, ends) in [
        (ProviderErrorKind::Transient, Phase::Failed),
        // The machine may exist: it is looked for until it is proven gone.
        (ProviderErrorKind::OutcomeUnknown, Phase::Terminating),
    ] {
        let (mut rig, key, _) = called(Idempotency::TokenOrName);
        rig.launch_fails(&key, kind);
        let mut waits = 0;
        while !rig.instance(&key.instance).clean {
            rig.pass(1);
            rig.plan();
            rig.answer();
            waits += 1;
            assert!(waits < 30, "{kind:?}");
        }
        rig.configure(&yaml(0, 2, ""));
        rig.pass(60);
        rig.plan();
        assert_eq!(rig.instance(&key.instance).phase, ends, "{kind:?}");
        assert!(rig.launches().is_empty());
    }
}

#[test]
fn an_open_breaker_lets_one_intent_through_at_a_time() {
    let mut rig = Rig::new(&yaml(3, 4, ""));
    // Three machines that never register open the breaker.
    rig.run(330);
    assert_eq!(rig.machines.len(), 0);
    let memory = &rig.fleet.state().pools[&navarch_model::PoolName::new("main")];
    assert!(memory.offerings.values().all(|one| one.breaker.is_open()));
    rig.run(310);
    assert_eq!(rig.machines.len(), 1, "one probe");
    let alive = rig.fleet.state().instances.values();
    assert_eq!(alive.filter(|one| one.phase.may_be_alive()).count(), 1);
}

#[test]
fn a_full_disk_buys_nothing_and_still_records_and_lets_go() {
    use super::Input;
    const LIMIT: u64 = 256 << 20;
    let mut rig = Rig::new(&yaml(2, 4, ""));
    rig.up(2);
    rig.take(Input::Disk { free: LIMIT - 1 });
    rig.configure(&yaml(3, 4, ""));
    rig.run(30);
    assert_eq!(rig.machines.len(), 2, "nothing is bought");
    assert_eq!(rig.waits(), [("main", "low_disk")]);
    assert_eq!(rig.count(navarch_model::EventKind::GuardBlocked), 1);
    // An operator's word is recorded and carried out.
    let gone = rig.of(Phase::Running)[0].clone();
    rig.take(Input::Command {
        node: navarch_model::NodeId::new(gone.as_str()),
        kind: navarch_model::NodeCommandType::Terminate,
        parameters: [].into(),
    });
    rig.run(20);
    assert_eq!(rig.instance(&gone).phase, Phase::Terminated);
    assert_eq!(rig.machines.len(), 1);
    // Exactly the limit is enough, and it is noticed without another fact.
    rig.take(Input::Disk { free: LIMIT });
    rig.up(3);
    assert_eq!(rig.machines.len(), 3);
    assert!(rig.waits().is_empty());
}

#[test]
fn a_full_disk_writes_no_repeats_until_there_is_room() {
    use super::Input;
    use navarch_model::{Change, Event, EventKind, ProviderError, ProviderName};
    let mut rig = Rig::new(&yaml(0, 2, ""));
    let mut fail = |free: u64| -> Vec<(u64, u32)> {
        rig.take(Input::Disk { free });
        let input = Input::PolicyRefused {
            source: "policy.yaml".to_owned(),
            error: "unknown variable".to_owned(),
        };
        let applied = rig.fleet.apply(input, rig.now, &mut rig.ids);
        let events = applied.changes.iter().filter_map(|change| match change {
            Change::Event(event) => Some(Event::clone(event)),
            _ => None,
        });
        events
            .filter(|event| event.kind == EventKind::PolicyRefused)
            .map(|event| (event.sequence, event.count))
            .collect()
    };
    // The first is written whatever the disk says.
    let first = fail(0);
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].1, 1);
    assert_eq!(fail(0), []);
    assert_eq!(fail((256 << 20) - 1), []);
    assert_eq!(fail(256 << 20), [(first[0].0, 4)], "and all are counted");
    // What is no repeat is written.
    rig.take(Input::Disk { free: 0 });
    let applied = rig.fleet.apply(
        Input::ListResult {
            provider: ProviderName::new("fake"),
            began: rig.now,
            result: Err(ProviderError::new(ProviderErrorKind::Auth, "denied")),
        },
        rig.now,
        &mut rig.ids,
    );
    assert!(
        applied
            .changes
            .iter()
            .any(|one| matches!(one, Change::Event(_)))
    );
}

#[test]
fn an_intent_that_waits_is_not_called_on_a_full_disk() {
    use super::Input;
    let mut rig = three_intents();
    rig.take(Input::Disk { free: 0 });
    rig.run(30);
    assert!(rig.machines.is_empty());
    assert_eq!(rig.of(Phase::Requested).len(), 3);
    assert!(rig.waits().iter().all(|(_, guard)| *guard == "low_disk"));
    // A limit of 0 is none.
    rig.configure(&format!("{}store:\n  min_free: 0\n", yaml(3, 4, "")));
    rig.run(5);
    assert_eq!(rig.machines.len(), 3);
}

/// How many machines were paid for until the launch breaker opened, and in the hour after it.
/// `sick` machines register and are never well; the others never register.
fn paid(min: usize, sick: bool) -> (usize, usize) {
    let mut rig = Rig::new(&yaml(min, min + 2, ""));
    let bought = |rig: &Rig| {
        let all = rig.fleet.state().instances.values();
        all.filter(|instance| instance.launches > 0).count()
    };
    let mut before = None;
    for _ in 0..1200 {
        rig.run(3);
        if sick {
            for id in rig.of(Phase::PendingRegistration) {
                rig.register(&id);
            }
            for id in rig.of(Phase::Running) {
                rig.full(&id, 97);
            }
        }
        let opened = rig.count(navarch_model::EventKind::BreakerOpened) > 0;
        if opened && before.is_none() {
            before = Some(bought(&rig));
        }
    }
    let before = before.expect("the breaker opens");
    (before, bought(&rig) - before)
}

#[test]
fn three_machines_are_paid_for_before_the_first_proof_and_then_one_at_a_time() {
    for min in [1, 2, 3, 5] {
        for sick in [false, true] {
            let (before, after) = paid(min, sick);
            assert_eq!(before, 3, "{min} machines, sick {sick}");
            // Waits of 5, 10, 20 and 40 minutes, and the time that each takes to fail.
            assert!((1..=4).contains(&after), "{min} {sick}: {after} probes");
        }
    }
}

/// The launches that are called back, in the order of their ids.
fn cancelled(rig: &mut Rig) -> Vec<crate::CallKey> {
    let mut found = Vec::new();
    rig.effects.retain(|effect| match effect {
        crate::Effect::CancelLaunch { key } => {
            found.push(key.clone());
            false
        }
        _ => true,
    });
    found
}

fn keys(launches: Vec<(crate::CallKey, Time)>) -> Vec<crate::CallKey> {
    let mut keys: Vec<_> = launches.into_iter().map(|(key, _)| key).collect();
    keys.sort();
    keys
}

#[test]
fn launches_that_wait_for_their_turn_are_called_back_when_automation_ends() {
    use super::Input;
    use navarch_model::{Automation, PoolName};
    for pool in [None, Some(PoolName::new("main"))] {
        for mode in [Automation::Observe, Automation::Off] {
            let mut rig = three_intents();
            rig.plan();
            let called = keys(rig.launches());
            assert_eq!(called.len(), 3);
            let set = |mode| Input::SetAutomation {
                pool: pool.clone(),
                mode,
                reason: String::new(),
            };
            rig.take(set(Automation::On));
            assert_eq!(cancelled(&mut rig), [], "nothing changed");
            rig.take(set(mode));
            assert_eq!(cancelled(&mut rig), called);
            for key in &called {
                rig.launch_not_begun(key);
            }
            rig.run(60);
            assert!(rig.machines.is_empty());
            rig.take(set(Automation::On));
            rig.run(30);
            assert_eq!(rig.machines.len(), 3);
        }
    }
}

#[test]
fn launches_that_wait_for_their_turn_are_called_back_when_fewer_are_asked_for() {
    let mut rig = three_intents();
    rig.plan();
    let called = keys(rig.launches());
    rig.configure(&yaml(4, 5, ""));
    assert_eq!(cancelled(&mut rig), [], "all are wanted");
    rig.configure(&yaml(1, 5, ""));
    assert_eq!(cancelled(&mut rig), called);
    for key in &called {
        rig.launch_not_begun(key);
    }
    rig.run(60);
    assert_eq!(rig.machines.len(), 1);
    assert_eq!(rig.of(Phase::Failed).len(), 2);
}

#[test]
fn launches_that_never_began_use_nothing_up() {
    let text = |min: &str| {
        yaml(3, 5, "")
            .replace("max_launches_per_hour: 60", "max_launches_per_hour: 3")
            .replace("min_nodes: 3", min)
    };
    let (three, none) = (text("min_nodes: 3"), text("min_nodes: 0"));
    let mut rig = Rig::new(&three);
    rig.plan();
    // More often than a launch is called before it is given up.
    for _ in 0..8 {
        rig.plan();
        let called = keys(rig.launches());
        assert_eq!(called.len(), 3);
        rig.configure(&none);
        for key in &called {
            assert_eq!(rig.instance(&key.instance).launches, 1);
            rig.launch_not_begun(key);
            assert_eq!(rig.instance(&key.instance).launches, 0);
        }
        rig.configure(&three);
        rig.pass(10);
    }
    // Given up, they leave the hour to those that are asked for next.
    rig.configure(&none);
    rig.plan();
    assert_eq!(rig.of(Phase::Failed).len(), 3);
    rig.configure(&three);
    rig.run(10);
    assert_eq!(rig.machines.len(), 3);
}

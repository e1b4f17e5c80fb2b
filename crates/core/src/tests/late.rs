//! Machines that show themselves late: their intents are remembered for as long as that takes.

use navarch_model::{
    Automation, CloudStatus, EventKind, Idempotency, Machine, Phase, ProviderErrorKind,
    ProviderInstanceId, ProviderName,
};

use super::{Rig, yaml};
use crate::CallKey;
use crate::input::Input;

const HOUR: u64 = 3600;

fn machine(rig: &Rig, key: &CallKey) -> Machine {
    Machine {
        provider_id: ProviderInstanceId::new("m-late"),
        instance: Some(key.instance.clone()),
        fleet: Some(rig.fleet.state().meta.fleet.clone()),
        status: CloudStatus::Running,
        interruption_at: None,
    }
}

/// The answer to a launch was lost, and two complete listings lacked its machine.
fn abandoned() -> (Rig, CallKey) {
    let mut rig = Rig::on(&yaml(1, 2, ""), Idempotency::None);
    rig.plan();
    rig.plan();
    let (key, _) = rig.launches().pop().unwrap();
    rig.answer();
    rig.launch_fails(&key, ProviderErrorKind::OutcomeUnknown);
    rig.configure(&yaml(0, 2, ""));
    for _ in 0..400 {
        rig.run(1);
        if !rig.instance(&key.instance).phase.may_be_alive() {
            return (rig, key);
        }
    }
    panic!("the launch is not given up");
}

/// Hours without a plan, with a tick at the end of each.
fn sleep(rig: &mut Rig, hours: u64) {
    for _ in 0..hours {
        rig.pass(HOUR);
        rig.take(Input::Tick);
    }
}

#[test]
fn an_intent_without_an_answer_is_remembered_for_a_day() {
    let (mut rig, key) = abandoned();
    sleep(&mut rig, 23);
    let late = machine(&rig, &key);
    rig.machines.insert(late.provider_id.clone(), late);
    rig.run(300);
    assert!(rig.machines.is_empty(), "the late machine goes");
    assert_eq!(rig.count(EventKind::UnclaimedFound), 1);

    let (mut rig, key) = abandoned();
    sleep(&mut rig, 25);
    assert!(!rig.fleet.state().instances.contains_key(&key.instance));
}

#[test]
fn an_intent_stays_while_a_machine_names_it() {
    let (mut rig, key) = abandoned();
    rig.take(Input::SetAutomation {
        pool: None,
        mode: Automation::Off,
        reason: String::new(),
    });
    let late = machine(&rig, &key);
    rig.machines.insert(late.provider_id.clone(), late);
    rig.run(200);
    assert_eq!(rig.fleet.state().unclaimed.len(), 1);
    sleep(&mut rig, 72);
    assert_eq!(rig.instance(&key.instance).phase, Phase::Failed);
    rig.take(Input::SetAutomation {
        pool: None,
        mode: Automation::On,
        reason: String::new(),
    });
    rig.run(200);
    assert!(rig.machines.is_empty());
    sleep(&mut rig, 1);
    assert!(!rig.fleet.state().instances.contains_key(&key.instance));
}

#[test]
fn an_answer_that_comes_after_its_record_is_recorded() {
    let (mut rig, key) = abandoned();
    sleep(&mut rig, 25);
    let late = machine(&rig, &key);
    rig.take(Input::LaunchResult {
        key,
        result: Ok(late.clone()),
    });
    let known: Vec<_> = rig.fleet.state().unclaimed.keys().collect();
    assert_eq!(known, [&(ProviderName::new("fake"), late.provider_id)]);
    assert_eq!(rig.count(EventKind::UnclaimedFound), 1);
}

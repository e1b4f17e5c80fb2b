//! Listings, machines that do not go, and the automation of one pool.

use navarch_model::{
    Automation, CloudStatus, EventKind, InstanceId, Machine, NodeCommandType, NodeId, Phase,
    PoolName, ProviderError, ProviderErrorKind, ProviderInstanceId, ProviderName, TerminateAnswer,
};

use super::{Rig, yaml};
use crate::input::{Effect, Input};

/// A machine that the cloud lists with our fleet's id.
fn listed(rig: &mut Rig, instance: &str, machine: &str) {
    let machine = Machine {
        provider_id: ProviderInstanceId::new(machine),
        instance: Some(InstanceId::new(instance)),
        fleet: Some(rig.fleet.state().meta.fleet.clone()),
        status: CloudStatus::Running,
        interruption_at: None,
    };
    rig.machines.insert(machine.provider_id.clone(), machine);
}

/// One listing, answered.
fn sweep(rig: &mut Rig) {
    for _ in 0..200 {
        rig.pass(1);
        rig.plan();
        let lists = |effect: &Effect| matches!(effect, Effect::List { .. });
        let found = rig.effects.iter().any(lists);
        rig.answer();
        if found {
            return;
        }
    }
    panic!("nothing was listed");
}

#[test]
fn a_twin_is_seen_once_in_one_listing() {
    for twin in ["a-twin", "z-twin"] {
        let mut rig = Rig::new(&yaml(1, 2, ""));
        let id = rig.up(1).remove(0);
        let own = rig.instance(&id).provider_id.clone().unwrap();
        listed(&mut rig, id.as_str(), twin);
        sweep(&mut rig);
        let machines: Vec<_> = rig.fleet.state().unclaimed.values().collect();
        assert_eq!(machines.len(), 1);
        assert_eq!(machines[0].provider_id.as_str(), twin);
        assert_eq!(machines[0].sightings, 1);
        assert_eq!(rig.count(EventKind::UnclaimedFound), 1);
        // The second listing confirms it; the machine on record stays.
        sweep(&mut rig);
        rig.run(5);
        assert_eq!(rig.machines.keys().collect::<Vec<_>>(), [&own]);
        assert_eq!(rig.instance(&id).phase, Phase::Running);
    }
}

#[test]
fn many_machines_that_appear_at_once_make_a_listing_suspect() {
    for (count, suspect) in [(2, false), (3, true)] {
        let mut rig = Rig::new(&yaml(0, 2, ""));
        sweep(&mut rig);
        for number in 0..count {
            listed(&mut rig, &format!("nv-{number}"), &format!("m-{number}"));
        }
        sweep(&mut rig);
        rig.plan();
        assert_eq!(rig.report.suspect.contains_key("fake"), suspect, "{count}");
        // They are shown, and the next listing, which confirms them, is believed.
        assert_eq!(rig.fleet.state().unclaimed.len(), count);
        sweep(&mut rig);
        rig.plan();
        assert!(rig.report.suspect.is_empty());
    }
}

#[test]
fn nothing_is_bought_while_a_listing_is_suspect() {
    let mut rig = Rig::new(&yaml(0, 2, ""));
    for number in 0..5 {
        listed(&mut rig, &format!("nv-{number}"), &format!("m-{number}"));
    }
    sweep(&mut rig);
    rig.configure(&yaml(1, 2, ""));
    rig.plan();
    assert_eq!(rig.waits(), [("main", "sweep")]);
    assert!(rig.fleet.state().instances.is_empty());
}

#[test]
fn a_machine_that_does_not_go_is_told_once_and_counted() {
    let mut rig = Rig::new(&yaml(1, 2, ""));
    let id = rig.up(1).remove(0);
    rig.take(Input::Command {
        node: NodeId::new(id.as_str()),
        kind: NodeCommandType::Terminate,
        parameters: [].into(),
    });
    let overdue = |rig: &Rig| rig.report.pools[&PoolName::new("main")].overdue;
    for second in 0..1000 {
        rig.pass(1);
        rig.take(Input::Tick);
        rig.plan();
        for effect in rig.drop_calls() {
            if let Effect::Terminate { key, .. } = effect {
                rig.take(Input::TerminateResult {
                    key,
                    result: Err(ProviderError::new(ProviderErrorKind::Transient, "down")),
                });
            }
        }
        if second == 890 {
            assert_eq!(overdue(&rig), 0);
            assert_eq!(rig.count(EventKind::TerminationOverdue), 0);
        }
    }
    assert_eq!(overdue(&rig), 1);
    assert_eq!(rig.count(EventKind::TerminationOverdue), 1);
    rig.run(310);
    assert_eq!(rig.instance(&id).phase, Phase::Terminated);
    rig.plan();
    assert_eq!(overdue(&rig), 0);
}

#[test]
fn a_listing_that_lacks_a_machine_on_its_way_out_is_followed_up_at_once() {
    // After a call that failed, the wait stands.
    let down = || ProviderError::new(ProviderErrorKind::Transient, "down");
    for (answer, asks) in [(Ok(TerminateAnswer::Accepted), true), (Err(down()), false)] {
        let mut rig = Rig::new(&yaml(1, 2, ""));
        let id = rig.up(1).remove(0);
        rig.take(Input::EndInstance {
            instance: id.clone(),
            reason: String::new(),
        });
        rig.plan();
        for effect in rig.drop_calls() {
            if let Effect::Terminate { key, .. } = effect {
                let result = answer.clone();
                rig.take(Input::TerminateResult { key, result });
            }
        }
        let terminates = |effect: &Effect| matches!(effect, Effect::Terminate { .. });
        rig.pass(1);
        rig.plan();
        assert!(!rig.drop_calls().iter().any(terminates), "it waits");
        rig.take(Input::ListResult {
            provider: ProviderName::new("fake"),
            began: rig.now,
            result: Ok((Vec::new(), true)),
        });
        rig.plan();
        assert_eq!(rig.drop_calls().iter().any(terminates), asks);
    }
}

#[test]
fn a_pool_s_automation_can_be_inherited_again() {
    let mut rig = Rig::new(&yaml(1, 2, ""));
    let pool = PoolName::new("main");
    let inherit = || Input::InheritAutomation {
        pool: PoolName::new("main"),
        reason: "done".to_owned(),
    };
    assert!(rig.feed(inherit()).is_err(), "nobody chose anything");
    rig.take(Input::SetAutomation {
        pool: Some(pool.clone()),
        mode: Automation::Off,
        reason: String::new(),
    });
    assert_eq!(rig.fleet.automation(&pool), Automation::Off);
    rig.run(3);
    assert!(rig.machines.is_empty());
    rig.take(inherit());
    assert_eq!(rig.fleet.automation(&pool), Automation::On);
    rig.run(3);
    assert_eq!(rig.machines.len(), 1);
    let unknown = Input::InheritAutomation {
        pool: PoolName::new("nowhere"),
        reason: String::new(),
    };
    assert!(rig.feed(unknown).is_err());
}

#[test]
fn a_late_machine_of_an_abandoned_launch_counts_against_its_offering() {
    let mut rig = Rig::new(&yaml(1, 2, ""));
    rig.plan();
    rig.plan();
    let (key, _) = rig.launches().pop().unwrap();
    rig.launch_fails(&key, ProviderErrorKind::OutcomeUnknown);
    // No call is answered: after five it is given up.
    for _ in 0..1200 {
        rig.pass(1);
        rig.plan();
        for (key, _) in rig.launches() {
            rig.launch_fails(&key, ProviderErrorKind::OutcomeUnknown);
        }
        rig.answer();
        if rig.instance(&key.instance).phase == Phase::Terminating {
            break;
        }
    }
    assert_eq!(rig.instance(&key.instance).phase, Phase::Terminating);
    listed(&mut rig, key.instance.as_str(), "m-late");
    sweep(&mut rig);
    let memory = &rig.fleet.state().pools[&PoolName::new("main")];
    let failures: Vec<u32> = memory
        .offerings
        .values()
        .map(|one| one.breaker.failures)
        .collect();
    assert_eq!(failures, [1]);
    let provider = ProviderName::new("fake");
    assert!(
        !rig.fleet
            .state()
            .unclaimed
            .keys()
            .any(|key| key.0 == provider)
    );
}

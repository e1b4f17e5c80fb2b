//! What pools remember, and for how long.

use std::time::Duration;

use navarch_model::{Automation, EventKind, InstanceId, NodeCommandType, NodeId, Phase, PoolName};

use super::breakers::{RULE, breaker, fleet, go, hit, wide};
use super::{Rig, yaml};
use crate::input::{Input, Reply};

/// So many hours, with a tick in each and no word from a node.
fn hours(rig: &mut Rig, hours: u64) {
    for _ in 0..hours {
        rig.pass(3600);
        rig.take(Input::Tick);
    }
}

/// Longer than what a small pool waits for, with a tick in every few seconds: a longer gap is a pause,
/// after which everything counts anew.
fn settle(rig: &mut Rig) {
    for _ in 0..152 {
        rig.pass(4);
        rig.take(Input::Tick);
    }
}

fn known(rig: &Rig, pool: &str) -> bool {
    let pools = &rig.fleet.state().pools;
    pools.contains_key(&PoolName::new(pool))
}

fn repairs(rig: &Rig) -> usize {
    let pools = &rig.fleet.state().pools;
    pools[&PoolName::new("main")].last_repairs.len()
}

fn order(node: &InstanceId, kind: NodeCommandType) -> Input {
    Input::Command {
        node: NodeId::new(node.as_str()),
        kind,
        parameters: [("reason".to_owned(), "mine".to_owned())].into(),
    }
}

#[test]
fn a_replacement_is_remembered_for_a_day_and_for_as_long_as_something_waits_for_it() {
    let (mut rig, up) = fleet(2);
    hit(&mut rig, &up[..1]);
    go(&mut rig, 60);
    assert_eq!(rig.of(Phase::Running).len(), 2, "it was replaced");
    hours(&mut rig, 23);
    settle(&mut rig);
    assert_eq!(repairs(&rig), 1);
    hours(&mut rig, 1);
    settle(&mut rig);
    assert_eq!(repairs(&rig), 0);

    // The replacement never becomes ACTIVE, and the next of a small pool waits for it.
    let (mut rig, up) = fleet(2);
    hit(&mut rig, &up[..1]);
    rig.run(10);
    let coming = rig.of(Phase::PendingRegistration);
    assert_eq!(coming.len(), 1);
    hours(&mut rig, 30);
    settle(&mut rig);
    assert_eq!(repairs(&rig), 1);
}

#[test]
fn a_closed_breaker_is_forgotten_once_no_hit_before_its_reset_could_count() {
    let (mut rig, up) = fleet(8);
    hit(&mut rig, &up[..4]);
    rig.run(2);
    rig.take(Input::ResetBreaker {
        pool: PoolName::new("main"),
        signature: Some(RULE.to_owned()),
    });
    let there = |rig: &Rig| {
        let memory = &rig.fleet.state().pools[&PoolName::new("main")];
        memory.repair_breakers.contains_key(RULE)
    };
    go(&mut rig, 599);
    assert!(there(&rig));
    go(&mut rig, 2);
    assert!(!there(&rig));
    assert_eq!(rig.count(EventKind::BreakerOpened), 1);
}

#[test]
fn a_breaker_whose_signature_nobody_shows_any_more_closes_after_its_wait() {
    let text = wide(8, "").replace("budget: 100\n", "budget: 0\n");
    let mut rig = Rig::new(&text);
    let up = rig.up(8);
    hit(&mut rig, &up[..4]);
    rig.run(2);
    assert!(breaker(&rig, "main").is_open());
    // All but one are well again by an operator's word.
    let incidents: Vec<_> = rig.fleet.state().incidents.keys().cloned().collect();
    let close = |rig: &mut Rig, id: &navarch_model::IncidentId| {
        rig.take(Input::CloseIncident {
            incident: id.clone(),
            reason: "mine".to_owned(),
        });
    };
    for id in &incidents[1..] {
        close(&mut rig, id);
    }
    go(&mut rig, 700);
    assert!(breaker(&rig, "main").is_open(), "one still shows it");
    close(&mut rig, &incidents[0]);
    rig.run(1);
    assert_eq!(
        rig.said(EventKind::BreakerClosed),
        ["repair breaker of xid-reboot: no node shows it any more"]
    );
    // It is hit anew, and everybody is well before the wait is over.
    rig.run(1);
    hit(&mut rig, &up[..4]);
    rig.run(2);
    for id in rig.fleet.state().incidents.clone().values() {
        if id.is_open() {
            close(&mut rig, &id.id);
        }
    }
    go(&mut rig, 590);
    assert!(breaker(&rig, "main").is_open());
    go(&mut rig, 15);
    assert!(!breaker(&rig, "main").is_open());
}

#[test]
fn a_probe_that_fails_is_on_record() {
    let (mut rig, up) = fleet(8);
    hit(&mut rig, &up[..4]);
    go(&mut rig, 605);
    let probe = breaker(&rig, "main").probe.expect("a probe");
    rig.take(Input::Act(crate::Action::JudgeProbe {
        pool: PoolName::new("main"),
        signature: RULE.to_owned(),
        proven: false,
    }));
    let said = format!(
        "repair breaker of xid-reboot: the repair of {probe} did not help; the next is tried in \
         1200 s at the soonest"
    );
    assert_eq!(rig.said(EventKind::BreakerProbeFailed), [said]);
}

#[test]
fn a_probe_whose_drain_was_taken_back_is_judged_by_what_came_in_its_place() {
    let (mut rig, up) = fleet(8);
    hit(&mut rig, &up[..4]);
    for _ in 0..700 {
        if breaker(&rig, "main").probe.is_some() {
            break;
        }
        go(&mut rig, 1);
    }
    let probe = breaker(&rig, "main").probe.expect("a probe");
    let probe = InstanceId::new(probe);
    rig.run(5);
    let coming = rig.of(Phase::PendingRegistration);
    let [replacement] = &coming[..] else {
        panic!("{coming:?}")
    };
    // A person keeps the old machine, and takes the new one before it served.
    rig.take(order(&probe, NodeCommandType::Cordon));
    rig.run(2);
    assert!(rig.node(&probe).our_drain().is_none());
    assert_eq!(breaker(&rig, "main").probe.as_deref(), Some(probe.as_str()));
    rig.register(replacement);
    rig.take(order(replacement, NodeCommandType::Cordon));
    rig.run(2);
    let left = breaker(&rig, "main");
    assert_eq!((left.probe, left.trips), (None, 1));
    assert!(rig.instance(&probe).phase.counts_as_capacity());
}

#[test]
fn a_pool_that_left_the_configuration_is_forgotten_a_day_after_its_last_record() {
    let two = |name: &str| {
        let pool = format!(
            "  {name}:
    provider: fake
    instance_type: gpu
    region: here
    min_nodes: 1
    max_nodes: 2
"
        );
        yaml(1, 2, &pool)
    };
    let alone = yaml(1, 2, "");
    let mut rig = Rig::new(&two("other"));
    rig.up(2);
    rig.configure(&alone);
    let other = rig
        .fleet
        .state()
        .instances
        .values()
        .find(|one| one.pool.as_str() == "other")
        .map(|one| one.id.clone())
        .expect("it has a machine");
    hours(&mut rig, 60);
    assert!(known(&rig, "other"), "its machine is there");
    rig.take(Input::EndInstance {
        instance: other.clone(),
        reason: String::new(),
    });
    rig.run(5);
    assert_eq!(rig.instance(&other).phase, Phase::Terminated);
    // Its last record leaves after an hour. Then a day goes by.
    hours(&mut rig, 24);
    assert!(known(&rig, "other"));
    // A reload that brings it back starts the day anew.
    rig.configure(&two("other"));
    rig.take(Input::Tick);
    rig.configure(&alone);
    hours(&mut rig, 24);
    assert!(known(&rig, "other"));
    hours(&mut rig, 1);
    assert!(!known(&rig, "other"));
    assert!(known(&rig, "main"));
}

#[test]
fn what_an_operator_chose_for_a_pool_is_never_forgotten() {
    let mut rig = Rig::new(&yaml(0, 2, ""));
    rig.take(Input::SetAutomation {
        pool: Some(PoolName::new("main")),
        mode: Automation::Off,
        reason: "mine".to_owned(),
    });
    rig.configure(&yaml(0, 2, "").replace("  main:\n", "  other:\n"));
    hours(&mut rig, 100);
    assert!(known(&rig, "main"));
    let mut rig = Rig::new(&yaml(0, 2, ""));
    rig.take(Input::ScalePool {
        pool: PoolName::new("main"),
        nodes: 0,
        reason: "mine".to_owned(),
    });
    rig.configure(&yaml(0, 2, "").replace("  main:\n", "  other:\n"));
    hours(&mut rig, 100);
    assert!(known(&rig, "main"), "the size as well");
}

#[test]
fn a_breaker_that_opens_tells_its_pool_and_when_it_may_try() {
    let (mut rig, up) = fleet(8);
    hit(&mut rig, &up[..3]);
    rig.run(5);
    let last = rig.now.core;
    hit(&mut rig, &up[3..4]);
    rig.run(7);
    let breaker = breaker(&rig, "main");
    assert_eq!(breaker.probe_at, Some(last + Duration::from_secs(600)));
    let opened = rig
        .events
        .values()
        .find(|event| event.kind == EventKind::BreakerOpened);
    let subject = &opened.expect("it is on record").subject;
    assert_eq!(subject.pool, Some(PoolName::new("main")));
}

#[test]
fn a_reset_ends_only_the_breaker_that_it_names() {
    let text = wide(8, "").replace("budget: 100\n", "budget: 0\n");
    let mut rig = Rig::new(&text);
    let up = rig.up(8);
    hit(&mut rig, &up[..4]);
    for id in &up[..4] {
        rig.full(id, 97);
    }
    rig.run(1);
    let open = |rig: &Rig| {
        let memory = &rig.fleet.state().pools[&PoolName::new("main")];
        let all = memory.repair_breakers.iter();
        all.filter(|(_, one)| one.is_open()).count()
    };
    assert_eq!(open(&rig), 2);
    let reset = |signature: Option<&str>| Input::ResetBreaker {
        pool: PoolName::new("main"),
        signature: signature.map(str::to_owned),
    };
    let done = rig.take(reset(Some(RULE)));
    assert_eq!(done, Reply::Reset(vec![RULE.to_owned()]));
    assert_eq!(open(&rig), 1);
    // One that is closed is not reset with the others.
    let done = rig.take(reset(None));
    assert_eq!(done, Reply::Reset(vec!["temperature-critical".to_owned()]));
    // One that opens again still knows what was hit before it was reset.
    let first = breaker(&rig, "main").reset;
    assert!(first.is_some());
    rig.run(1);
    hit(&mut rig, &up[4..]);
    rig.run(1);
    assert!(breaker(&rig, "main").is_open());
    assert_eq!(breaker(&rig, "main").reset, first);
}

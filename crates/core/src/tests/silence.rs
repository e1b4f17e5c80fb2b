//! Silence, missing reports, and machines that the cloud no longer shows.

use navarch_model::{
    CloudStatus, EndCause, EventKind, InstanceId, NodeCommandType, NodeId, NodeStatus, Phase,
    PoolName,
};

use super::{Rig, yaml};
use crate::fleet::{SILENCE, STALE_REPORTS};
use crate::input::Input;

/// So many ACTIVE machines. Replacement by silence takes three minutes.
fn fleet(count: usize) -> (Rig, Vec<InstanceId>) {
    let extra = "guards:\n  silence_replace_after: 3m\n";
    let mut rig = Rig::new(&yaml(count, count + 2, extra));
    let up = rig.up(count);
    (rig, up)
}

/// Time passes, and every machine but one reports that it is well.
fn quiet(rig: &mut Rig, up: &[InstanceId], but: &InstanceId, seconds: u64) {
    for _ in 0..seconds / 20 {
        rig.run(20);
        for id in up.iter().filter(|id| *id != but) {
            rig.full(id, 45);
        }
    }
}

fn open(rig: &Rig, id: &InstanceId) -> Vec<String> {
    let state = rig.fleet.state();
    let open = rig.node(id).open_incidents.keys();
    open.map(|id| state.incidents[id].key.class.clone())
        .collect()
}

/// The cloud no longer shows a machine.
fn take_away(rig: &mut Rig, id: &InstanceId) {
    let machine = rig.instance(id).provider_id.clone().unwrap();
    rig.machines.remove(&machine);
}

#[test]
fn a_machine_that_the_cloud_does_not_find_is_kept_while_its_agent_is_heard() {
    let (mut rig, up) = fleet(3);
    let id = &up[0];
    take_away(&mut rig, id);
    quiet(&mut rig, &up, &InstanceId::new("none"), 600);
    let sighting = rig.instance(id).sighting.unwrap();
    assert_eq!(sighting.status, CloudStatus::NotFound);
    assert!(sighting.in_a_row >= 2);
    assert_eq!(rig.instance(id).phase, Phase::Running);
    // Once it is silent as well, it is gone.
    rig.silent(id);
    rig.run(60);
    assert_eq!(rig.instance(id).end, Some(EndCause::Vanished));
}

#[test]
fn what_the_cloud_said_before_a_silence_ends_no_machine() {
    let (mut rig, up) = fleet(3);
    let id = &up[0];
    let machine = rig.instance(id).provider_id.clone().unwrap();
    let hidden = rig.machines.remove(&machine).unwrap();
    quiet(&mut rig, &up, &InstanceId::new("none"), 600);
    let sighting = rig.instance(id).sighting.unwrap();
    assert_eq!(sighting.status, CloudStatus::NotFound);
    assert!(sighting.in_a_row >= 2);
    // The cloud finds it again, and its agent is cut off before the cloud is asked the next time.
    rig.machines.insert(machine, hidden);
    rig.silent(id);
    rig.run(2);
    let sighting = rig.instance(id).sighting.unwrap();
    assert_eq!(sighting.status, CloudStatus::Running, "it is asked at once");
    rig.run(60);
    assert_eq!(rig.instance(id).phase, Phase::Running);
}

#[test]
fn a_machine_is_looked_up_twice_after_it_fell_silent_before_it_is_gone() {
    let (mut rig, up) = fleet(3);
    let id = &up[0];
    take_away(&mut rig, id);
    quiet(&mut rig, &up, &InstanceId::new("none"), 600);
    rig.silent(id);
    let asked = rig.instance(id).attempt;
    rig.run(60);
    assert_eq!(rig.instance(id).end, Some(EndCause::Vanished));
    // Two look-ups and the call that ends it.
    assert_eq!(rig.instance(id).attempt, asked + 3);
}

#[test]
fn one_answer_that_a_machine_is_not_found_is_not_enough() {
    let (mut rig, up) = fleet(3);
    let id = &up[0];
    rig.pass(4);
    rig.silent(id);
    take_away(&mut rig, id);
    let mut first = false;
    for _ in 0..60 {
        rig.run(1);
        let sighting = rig.instance(id).sighting;
        if sighting.is_some_and(|one| one.status == CloudStatus::NotFound && one.in_a_row < 2) {
            first = true;
            assert_eq!(rig.instance(id).phase, Phase::Running);
        }
    }
    assert!(first, "it was looked up more than once");
    assert_eq!(rig.instance(id).end, Some(EndCause::Vanished));
}

#[test]
fn a_silent_machine_that_is_heard_again_is_not_replaced() {
    let (mut rig, up) = fleet(4);
    let id = &up[0];
    rig.silent(id);
    quiet(&mut rig, &up, id, 160);
    assert_eq!(rig.node(id).status(), NodeStatus::Unhealthy);
    rig.back(id);
    rig.run(60);
    assert_eq!(rig.count(EventKind::DrainStarted), 0, "it is heard");
    assert_eq!(rig.waits(), [(id.as_str(), "silence")]);
    rig.full(id, 45);
    assert_eq!(rig.node(id).status(), NodeStatus::Active);
}

#[test]
fn a_drain_for_silence_is_taken_back_when_the_machine_is_heard() {
    let (mut rig, up) = fleet(4);
    let id = &up[0];
    rig.silent(id);
    for _ in 0..300 {
        quiet(&mut rig, &up, id, 20);
        if rig.count(EventKind::DrainStarted) > 0 {
            break;
        }
    }
    assert!(rig.node(id).our_drain().is_some());
    rig.back(id);
    rig.plan();
    assert!(rig.node(id).our_drain().is_none());
    assert_eq!(rig.instance(id).phase, Phase::Running);
    assert_eq!(rig.count(EventKind::DrainCancelled), 1);
}

#[test]
fn a_report_of_a_silent_node_does_not_end_its_silence() {
    let (mut rig, up) = fleet(2);
    let id = &up[0];
    rig.silent(id);
    rig.full(id, 45);
    assert_eq!(open(&rig, id), [SILENCE]);
    assert_eq!(rig.node(id).status(), NodeStatus::Unhealthy);
    rig.back(id);
    rig.full(id, 45);
    assert!(open(&rig, id).is_empty());
}

#[test]
fn missing_reports_are_found_only_after_silence_would_have_been() {
    // Reports every 30 s, three intervals; beats every 15 s and silence after 45 s.
    let (mut rig, up) = fleet(2);
    let id = &up[0];
    rig.full(id, 45);
    for _ in 0..89 {
        rig.pass(1);
        rig.take(Input::Tick);
    }
    assert!(open(&rig, id).is_empty());
    rig.pass(1);
    rig.take(Input::Tick);
    assert_eq!(open(&rig, id), [STALE_REPORTS]);
    // A long heartbeat timeout moves the limit: silence is found first.
    let longer = yaml(2, 4, "").replace("heartbeat_timeout: 45s", "heartbeat_timeout: 4m");
    let mut rig = Rig::new(&longer);
    let id = rig.up(2).remove(0);
    rig.full(&id, 45);
    for _ in 0..284 {
        rig.pass(1);
        rig.take(Input::Tick);
    }
    assert!(open(&rig, &id).is_empty());
    rig.pass(1);
    rig.take(Input::Tick);
    assert_eq!(open(&rig, &id), [STALE_REPORTS]);
}

#[test]
fn missing_reports_of_a_node_that_falls_silent_leave_the_decision_to_its_silence() {
    let (mut rig, up) = fleet(2);
    let id = &up[0];
    rig.full(id, 45);
    // Heard, but without a report for three intervals: it is drained to be replaced.
    quiet(&mut rig, &up, id, 100);
    assert_eq!(open(&rig, id), [STALE_REPORTS]);
    assert_eq!(rig.count(EventKind::DrainStarted), 1);
    assert_eq!(rig.instance(id).phase, Phase::Running);
    // Silent as well, in a fleet too small for witnesses: it is kept until somebody confirms.
    rig.silent(id);
    quiet(&mut rig, &up, id, 600);
    assert_eq!(rig.count(EventKind::DrainCancelled), 1);
    assert_eq!(rig.instance(id).phase, Phase::Running);
    assert_eq!(rig.waits(), [(id.as_str(), "silence")]);
}

#[test]
fn the_silence_of_a_machine_that_is_to_go_is_no_fault() {
    let (mut rig, up) = fleet(2);
    let id = &up[0];
    rig.take(Input::Command {
        node: NodeId::new(id.as_str()),
        kind: NodeCommandType::Terminate,
        parameters: [].into(),
    });
    assert_eq!(rig.instance(id).phase, Phase::Terminating);
    rig.silent(id);
    assert!(open(&rig, id).is_empty());
    assert!(rig.node(id).silent_since.is_some());
    rig.back(id);
    rig.silent(id);
    assert_eq!(rig.count(EventKind::NodeSilent), 0, "nor is it news");
    assert_eq!(rig.count(EventKind::NodeBack), 0);
    for _ in 0..300 {
        rig.pass(1);
        rig.take(Input::Tick);
    }
    assert!(open(&rig, id).is_empty(), "nor are its missing reports");
}

#[test]
fn the_last_of_many_to_fall_silent_does_not_take_the_survivors_for_the_fleet() {
    let extra = "guards:\n  budget: 10\n";
    let text = yaml(8, 10, extra).replace("budget: 1\n", "budget: 10\n");
    let mut rig = Rig::new(&text);
    let up = rig.up(8);
    // Five of eight die at once. Each was last heard at its own beat, seconds apart.
    for id in &up[..5] {
        rig.pass(3);
        rig.silent(id);
    }
    for _ in 0..40 {
        rig.run(30);
        for id in &up[5..] {
            rig.full(id, 45);
        }
    }
    assert_eq!(rig.count(EventKind::DrainStarted), 0);
    let waits = &rig.report.pools[&PoolName::new("main")].waits;
    for id in &up[..5] {
        let wait = waits.iter().find(|wait| wait.about == id.as_str());
        let why = wait.map(|wait| wait.reason.as_str()).unwrap_or_default();
        assert!(
            why.starts_with("3 of 7 other nodes stayed fresh and 4 are needed"),
            "{why}"
        );
    }
    // Four of seven are at least half, once the fourth has been fresh for as long as a silence must
    // last: it fell silent with the others.
    rig.back(&up[0]);
    for _ in 0..29 {
        rig.full(&up[0], 45);
        rig.run(30);
        for id in &up[5..] {
            rig.full(id, 45);
        }
    }
    assert_eq!(rig.count(EventKind::DrainStarted), 0);
    rig.full(&up[0], 45);
    rig.run(32);
    assert!(rig.count(EventKind::DrainStarted) > 0);
}

#[test]
fn a_node_that_came_later_is_no_witness_of_a_silence() {
    let (mut rig, up) = fleet(2);
    rig.run(5);
    let (dead, well) = (&up[0], &up[1]);
    rig.silent(dead);
    rig.configure(&yaml(3, 5, "guards:\n  silence_replace_after: 3m\n"));
    rig.run(5);
    let later = rig.of(Phase::PendingRegistration).remove(0);
    rig.register(&later);
    rig.full(&later, 45);
    rig.run(5);
    // Nor is it one when it was silent as well and has been heard for long.
    rig.silent(&later);
    rig.run(5);
    rig.back(&later);
    for _ in 0..60 {
        rig.full(&later, 45);
        rig.full(well, 45);
        rig.run(20);
    }
    assert_eq!(rig.count(EventKind::DrainStarted), 0);
    let told = rig.explain(&[(dead, "A")]);
    let line = "replace A waits for silence: 1 of 1 other nodes stayed fresh and 2 are needed";
    assert!(told.iter().any(|one| one.starts_with(line)), "{told:#?}");
}

#[test]
fn a_fault_that_waits_for_reports_does_not_hide_that_the_machine_died() {
    let (mut rig, up) = fleet(4);
    let id = &up[0];
    // One of two unhealthy reports; then nothing more is heard.
    rig.full(id, 97);
    rig.silent(id);
    quiet(&mut rig, &up, id, 600);
    assert!(rig.node(id).our_drain().is_some(), "it is being replaced");
}

#[test]
fn a_fault_that_passed_in_a_pool_with_manual_recovery_waits_for_an_operator() {
    let text = yaml(1, 2, "    health:\n      recovery: manual\n");
    let mut rig = Rig::new(&text);
    let id = rig.up(1).remove(0);
    rig.full(&id, 97);
    rig.plan();
    assert_eq!(rig.waits(), [(id.as_str(), "unhealthy_after")]);
    rig.full(&id, 45);
    rig.plan();
    assert_eq!(rig.waits(), [(id.as_str(), "recovery")]);
    assert_eq!(rig.node(&id).status(), NodeStatus::Unhealthy);
}

#[test]
fn a_node_that_is_heard_again_in_a_pool_with_manual_recovery_waits_for_an_operator() {
    for (manual, said) in [
        (
            false,
            "replace A waits for silence: the node is heard again; a full report that is not \
             unhealthy ends the incident",
        ),
        (
            true,
            "replace A waits for recovery: the node is heard again, and recovery is manual: an \
             operator closes the incident",
        ),
    ] {
        let health = "    health:\n      recovery: manual\n";
        let mut rig = Rig::new(&yaml(2, 4, if manual { health } else { "" }));
        let up = rig.up(2);
        rig.silent(&up[0]);
        rig.run(2);
        rig.back(&up[0]);
        rig.run(1);
        assert_eq!(rig.explain(&[(&up[0], "A")]), [said]);
        rig.full(&up[0], 45);
        let open = rig.fleet.state().incidents.values();
        let open = open.filter(|incident| incident.is_open()).count();
        assert_eq!(open, usize::from(manual));
    }
}

#[test]
fn a_degraded_machine_that_is_heard_again_and_reports_is_silent_no_more() {
    let mut rig = Rig::new(&yaml(2, 4, ""));
    let up = rig.up(2);
    rig.silent(&up[0]);
    rig.back(&up[0]);
    // Too hot from 85 degrees on, and not for work.
    rig.full(&up[0], 97);
    assert!(
        open(&rig, &up[0]).contains(&SILENCE.to_owned()),
        "an unhealthy report ends nothing"
    );
    rig.full(&up[0], 87);
    assert!(!open(&rig, &up[0]).contains(&SILENCE.to_owned()));
    assert_eq!(
        rig.node(&up[0]).status(),
        NodeStatus::Unhealthy,
        "it was too hot for work"
    );
    rig.full(&up[0], 45);
    rig.silent(&up[1]);
    rig.back(&up[1]);
    rig.full(&up[1], 87);
    assert_eq!(rig.node(&up[1]).status(), NodeStatus::Active);
}

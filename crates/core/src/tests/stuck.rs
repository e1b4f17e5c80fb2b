//! Waits that would last for ever, because one guard waits for what another one holds.

use navarch_model::{InstanceId, NodeCommandType, NodeId, Phase, PoolName, ProviderName};

use super::{Rig, yaml};
use crate::input::Input;

fn cordon(id: &InstanceId) -> Input {
    Input::Command {
        node: NodeId::new(id.as_str()),
        kind: NodeCommandType::Cordon,
        parameters: [].into(),
    }
}

/// An offering whose breaker is open, and the machine that is tried.
fn tried() -> (Rig, InstanceId) {
    let mut rig = Rig::new(&yaml(3, 4, ""));
    // Three machines that never register open the breaker.
    rig.run(640);
    let memory = &rig.fleet.state().pools[&PoolName::new("main")];
    assert!(memory.offerings.values().all(|one| one.breaker.is_open()));
    let probe = rig.of(Phase::PendingRegistration);
    assert_eq!(probe.len(), 1, "{probe:?}");
    (rig, probe[0].clone())
}

#[test]
fn a_machine_that_an_operator_holds_is_not_the_launch_that_an_open_breaker_tries() {
    let (mut rig, probe) = tried();
    rig.register(&probe);
    rig.run(30);
    assert_eq!(rig.machines.len(), 1, "it is being tried");
    rig.take(cordon(&probe));
    rig.run(10);
    assert_eq!(rig.machines.len(), 2, "the next one is tried");
    rig.run(200);
    assert_eq!(rig.machines.len(), 2, "and no other beside it");
}

#[test]
fn a_machine_that_an_operator_holds_counts_while_nothing_is_proven() {
    let mut rig = Rig::new(&yaml(5, 6, ""));
    rig.run(5);
    let coming = rig.of(Phase::PendingRegistration);
    assert_eq!(coming.len(), 3);
    for id in &coming {
        rig.register(id);
        rig.take(cordon(id));
    }
    rig.run(20);
    assert_eq!(
        rig.machines.len(),
        3,
        "no more are paid for before one works"
    );
}

#[test]
fn a_machine_that_a_person_says_is_dead_does_not_wait_for_its_replacement() {
    let mut rig = Rig::new(&yaml(2, 4, ""));
    let up = rig.up(2);
    rig.silent(&up[0]);
    rig.run(5);
    assert_eq!(rig.instance(&up[0]).phase, Phase::Running);
    rig.take(Input::ConfirmDead {
        node: NodeId::new(up[0].as_str()),
        reason: String::new(),
    });
    rig.run(5);
    assert_eq!(rig.instance(&up[0]).phase, Phase::Terminated);
    let coming = rig.of(Phase::PendingRegistration);
    assert_eq!(coming.len(), 1, "it is replaced: {coming:?}");
    // One that is sick keeps its place until another one has it.
    let mut rig = Rig::new(&yaml(2, 4, ""));
    let up = rig.up(2);
    rig.xid(&up[0], 79, 0);
    rig.run(5);
    assert_eq!(rig.instance(&up[0]).phase, Phase::Running);
}

#[test]
fn machines_that_never_registered_and_vanished_under_a_doubtful_listing_are_looked_up() {
    let mut rig = Rig::new(&yaml(3, 6, "guards:\n  sweep:\n    interval: 1m\n"));
    rig.run(5);
    let coming = rig.of(Phase::PendingRegistration);
    assert_eq!(coming.len(), 3);
    let since = rig.instance(&coming[2]).phase_since.core;
    while rig.now.core.since(since).as_secs() < 299 {
        rig.run(1);
    }
    // Their time is nearly over when a listing is cut short, and then all of them are gone.
    let provider = ProviderName::new("fake");
    let began = rig.now;
    let machines = rig.machines.values().take(1).cloned().collect();
    rig.take(Input::ListResult {
        provider,
        began,
        result: Ok((machines, false)),
    });
    rig.machines.clear();
    rig.run(3);
    assert_eq!(rig.of(Phase::PendingRegistration), coming);
    let waits = rig.waits();
    assert!(
        waits.iter().all(|(_, guard)| *guard == "sweep"),
        "{waits:?}"
    );
    rig.run(180);
    for id in &coming {
        assert_eq!(rig.instance(id).phase, Phase::Terminated, "{id}");
    }
    assert!(rig.report.suspect.is_empty(), "{:?}", rig.report.suspect);
}

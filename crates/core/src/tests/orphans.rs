//! Machines that no record knows, and what a person does about them.

use navarch_model::{
    CloudStatus, FleetId, InstanceId, LaunchCause, Machine, NodeCommandType, NodeId, NodeStatus,
    Phase, PoolName, ProviderInstanceId, ProviderName,
};

use super::{Rig, yaml};
use crate::input::{Effect, Input, RejectionCode, Reply};

/// A machine that the cloud has with our fleet's id.
fn listed(rig: &mut Rig, instance: Option<&str>, machine: &str) {
    let machine = Machine {
        provider_id: ProviderInstanceId::new(machine),
        instance: instance.map(InstanceId::new),
        fleet: Some(rig.fleet.state().meta.fleet.clone()),
        status: CloudStatus::Running,
        interruption_at: None,
    };
    rig.machines.insert(machine.provider_id.clone(), machine);
}

fn adopt(provider: &str, machine: &str, pool: &str) -> Input {
    Input::AdoptMachine {
        provider: ProviderName::new(provider),
        machine: ProviderInstanceId::new(machine),
        pool: PoolName::new(pool),
        reason: "ours".to_owned(),
    }
}

fn end(provider: &str, machine: &str) -> Input {
    Input::EndUnclaimed {
        provider: ProviderName::new(provider),
        machine: ProviderInstanceId::new(machine),
        reason: "not ours".to_owned(),
    }
}

const OTHER_POOL: &str = "  other:
    provider: elsewhere
    instance_type: gpu
    region: here
    min_nodes: 0
    max_nodes: 2
";

fn two_providers(min: usize) -> String {
    yaml(min, 3, OTHER_POOL).replace(
        "pools:\n",
        "  elsewhere:\n    type: fake\n    gpu_count: 2\npools:\n",
    )
}

#[test]
fn an_adopted_machine_becomes_active_and_is_not_replaced() {
    for tag in [Some("nv-lost"), None] {
        let mut rig = Rig::new(&yaml(0, 3, ""));
        listed(&mut rig, tag, "m-lost");
        rig.run(400);
        assert_eq!(rig.fleet.state().unclaimed.len(), 1);
        assert!(rig.fleet.state().instances.is_empty());
        let Reply::Instance(id) = rig.take(adopt("fake", "m-lost", "main")) else {
            panic!("an adoption is answered");
        };
        assert!(tag.is_none_or(|tag| tag == id.as_str()));
        assert_eq!(rig.instance(&id).cause, LaunchCause::Adopted);
        assert!(rig.fleet.state().unclaimed.is_empty());
        rig.configure(&yaml(1, 3, ""));
        rig.register(&id);
        rig.full(&id, 45);
        rig.run_well(&id, 900);
        assert_eq!(rig.of(Phase::Running), std::slice::from_ref(&id));
        assert!(rig.instance(&id).was_active);
        assert!(rig.fleet.state().unclaimed.is_empty(), "{tag:?}");
        assert_eq!(rig.machines.len(), 1);
    }
}

/// A machine of ours that no record knows, and whose agent registered without our id: the name of
/// its node.
fn stranger() -> (Rig, InstanceId) {
    let mut rig = Rig::new(&yaml(0, 3, ""));
    listed(&mut rig, None, "m-lost");
    rig.run(400);
    let name = InstanceId::new("m-lost");
    let mut registration = Rig::registration(&name);
    registration.instance = None;
    rig.take(Input::Register(registration));
    (rig, name)
}

#[test]
fn an_agent_that_registered_without_our_id_is_bound() {
    let (mut rig, name) = stranger();
    assert_eq!(rig.node(&name).instance, None);
    let Reply::Instance(id) = rig.take(adopt("fake", "m-lost", "main")) else {
        panic!("an adoption is answered");
    };
    assert_eq!(rig.node(&name).instance, Some(id.clone()));
    assert_eq!(rig.instance(&id).phase, Phase::Running);
}

#[test]
fn a_node_that_serves_already_is_adopted_as_one_that_serves() {
    let (mut rig, name) = stranger();
    rig.full(&name, 45);
    assert_eq!(rig.node(&name).status(), NodeStatus::Active);
    let Reply::Instance(id) = rig.take(adopt("fake", "m-lost", "main")) else {
        panic!("an adoption is answered");
    };
    let adopted = rig.instance(&id);
    assert_eq!(adopted.active_since, Some(rig.now));
    assert!(
        adopted.was_active,
        "no guard takes it for one that never served"
    );
}

#[test]
fn the_end_of_a_stranger_is_taken_back_when_its_machine_is_adopted() {
    let (mut rig, name) = stranger();
    rig.full(&name, 45);
    rig.take(Input::Command {
        node: NodeId::new(name.as_str()),
        kind: NodeCommandType::Terminate,
        parameters: std::collections::BTreeMap::new(),
    });
    assert_eq!(rig.node(&name).status(), NodeStatus::Draining);
    let Reply::Instance(id) = rig.take(adopt("fake", "m-lost", "main")) else {
        panic!("an adoption is answered");
    };
    rig.run_well(&name, 60);
    assert_eq!(rig.node(&name).status(), NodeStatus::Active);
    assert_eq!(rig.instance(&id).phase, Phase::Running);
}

#[test]
fn what_cannot_be_adopted_is_refused_with_the_reason() {
    let mut rig = Rig::new(&two_providers(1));
    let id = rig.up(1).remove(0);
    let own = rig.instance(&id).provider_id.clone().unwrap();
    listed(&mut rig, Some("nv-lost"), "m-lost");
    listed(&mut rig, Some(id.as_str()), "m-twin");
    rig.take(Input::ListResult {
        provider: ProviderName::new("fake"),
        began: rig.now,
        result: Ok((rig.machines.values().cloned().collect(), true)),
    });
    let before = rig.fleet.state().clone();
    for (input, code, says) in [
        (
            adopt("fake", "m-lost", "none"),
            RejectionCode::NotFound,
            "pool not found: none",
        ),
        (
            adopt("none", "m-lost", "main"),
            RejectionCode::NotFound,
            "provider not found: none",
        ),
        (
            adopt("fake", "m-none", "main"),
            RejectionCode::NotFound,
            "m-none",
        ),
        (
            adopt("fake", "m-lost", "other"),
            RejectionCode::FailedPrecondition,
            "pool other buys at elsewhere",
        ),
        (
            adopt("fake", own.as_str(), "main"),
            RejectionCode::AlreadyExists,
            id.as_str(),
        ),
        (
            adopt("fake", "m-twin", "main"),
            RejectionCode::FailedPrecondition,
            "cannot be adopted; terminate it",
        ),
        (end("fake", "m-none"), RejectionCode::NotFound, "--orphans"),
        (
            end("none", "m-lost"),
            RejectionCode::NotFound,
            "provider not found: none",
        ),
        (
            Input::EndInstance {
                instance: InstanceId::new("nv-none"),
                reason: String::new(),
            },
            RejectionCode::NotFound,
            "instance not found: nv-none",
        ),
    ] {
        let shown = format!("{input:?}");
        let refused = rig.feed(input).unwrap_err();
        assert_eq!(refused.code, code, "{shown}: {refused}");
        assert!(refused.message.contains(says), "{shown}: {refused}");
    }
    assert_eq!(*rig.fleet.state(), before);
}

#[test]
fn an_unclaimed_machine_that_is_to_go_is_on_record_first_and_survives_a_crash() {
    for tag in [Some("nv-lost"), None] {
        let mut rig = Rig::new(&yaml(0, 3, ""));
        listed(&mut rig, tag, "m-lost");
        rig.run(400);
        let Reply::Instance(id) = rig.take(end("fake", "m-lost")) else {
            panic!("a termination is answered");
        };
        // Nothing was called yet: only the record says what is to happen.
        assert_eq!(rig.instance(&id).phase, Phase::Terminating);
        assert!(rig.effects.is_empty());
        rig.start();
        rig.pass(1);
        rig.plan();
        let asked = |effect: &Effect| matches!(effect, Effect::Terminate { provider_id, .. } if provider_id.as_str() == "m-lost");
        assert!(rig.effects.iter().any(asked), "{:?}", rig.effects);
        // A listing meanwhile shows it still; it is no stranger.
        rig.take(Input::ListResult {
            provider: ProviderName::new("fake"),
            began: rig.now,
            result: Ok((rig.machines.values().cloned().collect(), true)),
        });
        assert!(rig.fleet.state().unclaimed.is_empty(), "{tag:?}");
        // A repeat changes nothing.
        assert_eq!(rig.take(end("fake", "m-lost")), Reply::Instance(id.clone()));
        rig.run(600);
        assert_eq!(rig.instance(&id).phase, Phase::Terminated);
        assert!(rig.machines.is_empty());
    }
}

#[test]
fn a_twin_ends_and_its_sibling_stays() {
    let mut rig = Rig::new(&yaml(1, 3, ""));
    let id = rig.up(1).remove(0);
    listed(&mut rig, Some(id.as_str()), "m-twin");
    rig.take(Input::ListResult {
        provider: ProviderName::new("fake"),
        began: rig.now,
        result: Ok((rig.machines.values().cloned().collect(), true)),
    });
    let Reply::Instance(twin) = rig.take(end("fake", "m-twin")) else {
        panic!("a termination is answered");
    };
    assert_ne!(twin, id);
    rig.run_well(&id, 700);
    assert_eq!(rig.instance(&id).phase, Phase::Running);
    assert!(
        !rig.machines
            .contains_key(&ProviderInstanceId::new("m-twin"))
    );
    assert_eq!(rig.machines.len(), 1);
}

#[test]
fn an_operator_ends_an_instance_by_its_id_once() {
    let mut rig = Rig::new(&yaml(0, 3, ""));
    rig.configure(&yaml(1, 3, ""));
    let id = rig.up(1).remove(0);
    rig.configure(&yaml(0, 3, ""));
    let input = || Input::EndInstance {
        instance: id.clone(),
        reason: "old".to_owned(),
    };
    rig.take(input());
    rig.take(input());
    assert_eq!(rig.instance(&id).message, "terminated by an operator: old");
    rig.run(10);
    let refused = rig.feed(input()).unwrap_err();
    assert!(
        refused
            .message
            .contains("is terminated: its machine is gone"),
        "{refused}"
    );
}

#[test]
fn machines_of_another_fleet_are_neither_shown_nor_adopted() {
    let mut rig = Rig::new(&yaml(0, 3, ""));
    listed(&mut rig, Some("nv-theirs"), "m-theirs");
    for machine in rig.machines.values_mut() {
        machine.fleet = Some(FleetId::new("fleet-other"));
    }
    rig.run(700);
    assert!(rig.fleet.state().unclaimed.is_empty());
    for input in [adopt("fake", "m-theirs", "main"), end("fake", "m-theirs")] {
        assert_eq!(rig.feed(input).unwrap_err().code, RejectionCode::NotFound);
    }
    assert_eq!(rig.machines.len(), 1);
}

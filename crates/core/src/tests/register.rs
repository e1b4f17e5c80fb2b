//! Registrations: which machine is this, and which record does it belong to?

use navarch_model::{
    CloudStatus, EventKind, InstanceId, LaunchCause, Machine, NodeCommandType, NodeId, Phase,
    ProviderInstanceId,
};

use super::{Rig, yaml};
use crate::input::{Input, RejectionCode};

/// Two ACTIVE machines, of which the second tries to register under the first one's node id.
fn two() -> (Rig, InstanceId, InstanceId) {
    let mut rig = Rig::new(&yaml(2, 4, ""));
    let up = rig.up(2);
    (rig, up[0].clone(), up[1].clone())
}

fn intruder(of: &InstanceId, own: &InstanceId) -> crate::Registration {
    crate::Registration {
        node: Some(NodeId::new(of.as_str())),
        ..Rig::registration(own)
    }
}

#[test]
fn a_node_that_is_heard_keeps_its_instance() {
    let mut rig = Rig::new(&yaml(2, 4, ""));
    rig.run(2);
    let waiting = rig.of(Phase::PendingRegistration);
    let (a, b) = (waiting[0].clone(), waiting[1].clone());
    rig.register(&a);
    let mut same_host = Rig::registration(&a);
    same_host.instance = Some(b.clone());
    for registration in [intruder(&a, &b), same_host] {
        let refused = rig.feed(Input::Register(registration)).unwrap_err();
        assert_eq!(refused.code, RejectionCode::AlreadyExists, "{refused}");
        assert!(refused.message.contains(b.as_str()), "{refused}");
    }
    assert_eq!(rig.node(&a).instance.as_ref(), Some(&a));
    assert_eq!(rig.instance(&b).node, None);
    assert_eq!(rig.count(EventKind::RegistrationRefused), 2);
}

#[test]
fn a_silent_node_s_id_goes_to_another_machine_and_the_old_one_is_let_go() {
    let mut rig = Rig::new(&yaml(3, 5, ""));
    let up = rig.up(3);
    let (a, b, d) = (up[0].clone(), up[1].clone(), up[2].clone());
    // One more machine, without a node yet.
    rig.configure(&yaml(4, 5, ""));
    rig.run(2);
    let c = rig.of(Phase::PendingRegistration).remove(0);
    rig.silent(&a);
    rig.take(Input::Register(intruder(&a, &c)));
    assert_eq!(rig.node(&a).instance.as_ref(), Some(&c));
    assert_eq!(rig.node(&a).incarnation, 2);
    assert_eq!(rig.instance(&c).node.as_ref().unwrap().as_str(), a.as_str());
    assert_eq!(rig.instance(&a).node, None);
    assert!(
        rig.node(&a).open_incidents.is_empty(),
        "those of the old host"
    );
    assert_eq!(rig.count(EventKind::InstanceUnbound), 1);
    // Its own agent does not come: it goes like one whose node is silent, which both others
    // witness.
    wait_for(&mut rig, &a, &[&a, &b, &d], 890);
    assert_eq!(rig.instance(&a).phase, Phase::Running);
    wait_for(&mut rig, &a, &[&a, &b, &d], 60);
    assert!(!rig.instance(&a).phase.may_be_alive());
    assert_eq!(rig.instance(&b).phase, Phase::Running);
}

/// Lets time pass until a machine is gone, while these nodes report that they are well.
fn wait_for(rig: &mut Rig, gone: &InstanceId, nodes: &[&InstanceId], seconds: u64) {
    for second in 0..seconds {
        if second % 20 == 0 {
            for node in nodes {
                rig.full(node, 45);
            }
        }
        rig.run(1);
        if !rig.instance(gone).phase.may_be_alive() {
            return;
        }
    }
}

#[test]
fn a_machine_that_lost_its_node_and_may_only_be_cut_off_stays() {
    for by_operator in [false, true] {
        let (mut rig, a, b) = two();
        rig.configure(&yaml(3, 4, ""));
        rig.run(2);
        let c = rig.of(Phase::PendingRegistration).remove(0);
        // Both are cut off, and the machine that takes one of the ids is no witness of the past.
        rig.silent(&a);
        rig.silent(&b);
        rig.take(Input::Register(intruder(&a, &c)));
        wait_for(&mut rig, &a, &[&a], 1200);
        assert_eq!(rig.instance(&a).phase, Phase::Running);
        let told = rig.explain(&[(&a, "A"), (&b, "B")]);
        let line = "terminate A waits for silence: 0 of 1 other nodes stayed fresh and 2 are \
                    needed as witnesses; an operator may confirm that the machine is dead; \
                    `navarch instance terminate A` says so";
        assert!(told.contains(&line.to_owned()), "{told:#?}");
        // The word of the operator is enough, and so is that of the cloud.
        if by_operator {
            rig.take(Input::EndInstance {
                instance: a.clone(),
                reason: "the console is dark".to_owned(),
            });
        } else {
            let machine = rig.instance(&a).provider_id.clone().unwrap();
            rig.machines.get_mut(&machine).unwrap().status = CloudStatus::Stopped;
        }
        wait_for(&mut rig, &a, &[&a], 180);
        assert!(!rig.instance(&a).phase.may_be_alive());
    }
}

#[test]
fn an_unbound_machine_may_come_back_under_an_id_of_its_own() {
    let (mut rig, a, _) = two();
    rig.configure(&yaml(3, 4, ""));
    rig.run(2);
    let c = rig.of(Phase::PendingRegistration).remove(0);
    rig.silent(&a);
    rig.take(Input::Register(intruder(&a, &c)));
    rig.take(Input::Register(crate::Registration {
        node: Some(NodeId::new("renamed")),
        ..Rig::registration(&a)
    }));
    let node = rig.instance(&a).node.clone().unwrap();
    assert_eq!(node.as_str(), "renamed");
    rig.run(320);
    assert_eq!(rig.instance(&a).phase, Phase::Running);
}

/// A machine that the cloud lists with our fleet's id and that is on no record.
fn stranger(rig: &mut Rig, id: &str, machine: &str) {
    let fleet = rig.fleet.state().meta.fleet.clone();
    let machine = Machine {
        provider_id: ProviderInstanceId::new(machine),
        instance: Some(InstanceId::new(id)),
        fleet: Some(fleet),
        status: CloudStatus::Running,
        interruption_at: None,
    };
    rig.machines.insert(machine.provider_id.clone(), machine);
}

fn labelled(id: &str, pool: Option<&str>) -> crate::Registration {
    let mut registration = Rig::registration(&InstanceId::new(id));
    if let Some(pool) = pool {
        let labels = &mut registration.description.labels;
        labels.insert("pool".to_owned(), pool.to_owned());
    }
    registration
}

#[test]
fn an_instance_that_nobody_knows_is_refused_and_not_external() {
    let mut rig = Rig::new(&yaml(0, 4, ""));
    let refused = rig
        .feed(Input::Register(labelled("nv-lost", Some("main"))))
        .unwrap_err();
    assert_eq!(refused.code, RejectionCode::FailedPrecondition);
    assert!(refused.message.contains("nv-lost"), "{refused}");
    assert!(refused.message.contains("terminate"), "{refused}");
    assert!(rig.fleet.state().nodes.is_empty());
    let said = rig.said(EventKind::RegistrationRefused);
    assert_eq!(said.len(), 1);
    assert_eq!(said[0], refused.message);
}

#[test]
fn a_machine_that_a_sweep_found_is_adopted_when_its_agent_registers() {
    let mut rig = Rig::new(&yaml(0, 4, ""));
    stranger(&mut rig, "nv-lost", "m-lost");
    rig.run(3);
    assert_eq!(rig.fleet.state().unclaimed.len(), 1);
    for pool in [None, Some("unknown")] {
        let refused = rig.feed(Input::Register(labelled("nv-lost", pool)));
        assert_eq!(refused.unwrap_err().code, RejectionCode::FailedPrecondition);
    }
    rig.take(Input::Register(labelled("nv-lost", Some("main"))));
    let id = InstanceId::new("nv-lost");
    let instance = rig.instance(&id);
    assert_eq!(instance.phase, Phase::Running);
    assert_eq!(instance.cause, LaunchCause::Adopted);
    assert_eq!(instance.provider_id.as_ref().unwrap().as_str(), "m-lost");
    assert!(rig.fleet.state().unclaimed.is_empty());
    assert_eq!(rig.node(&id).instance.as_ref(), Some(&id));
    // A later listing shows the machine that is on record now.
    rig.run(200);
    assert!(rig.fleet.state().unclaimed.is_empty());
}

#[test]
fn of_two_machines_with_one_id_none_is_adopted() {
    let mut rig = Rig::new(&yaml(0, 4, ""));
    stranger(&mut rig, "nv-lost", "m-1");
    stranger(&mut rig, "nv-lost", "m-2");
    rig.run(3);
    let refused = rig.feed(Input::Register(labelled("nv-lost", Some("main"))));
    assert_eq!(refused.unwrap_err().code, RejectionCode::FailedPrecondition);
}

#[test]
fn an_agent_that_names_no_instance_registers_as_external_or_by_the_cloud_s_id() {
    let mut rig = Rig::new(&yaml(1, 4, ""));
    rig.run(2);
    let id = rig.of(Phase::PendingRegistration).remove(0);
    let unnamed = |node: &str| crate::Registration {
        node: Some(NodeId::new(node)),
        instance: None,
        ..Rig::registration(&InstanceId::new(node))
    };
    rig.take(Input::Register(unnamed("old-agent")));
    let external = &rig.fleet.state().nodes[&NodeId::new("old-agent")];
    assert_eq!(external.instance, None);
    let machine = rig.instance(&id).provider_id.clone().unwrap();
    rig.take(Input::Register(unnamed(machine.as_str())));
    assert_eq!(rig.instance(&id).phase, Phase::Running);
}

/// A registration from another host that names no instance.
fn unnamed_host(node: &InstanceId) -> crate::Registration {
    crate::Registration {
        node: Some(NodeId::new(node.as_str())),
        instance: None,
        ..Rig::registration(&InstanceId::new("other-host"))
    }
}

/// A machine whose agent registered under a node id that is neither ours nor the cloud's.
fn renamed() -> (Rig, InstanceId, InstanceId) {
    let mut rig = Rig::new(&yaml(1, 4, ""));
    rig.run(2);
    let id = rig.of(Phase::PendingRegistration).remove(0);
    let name = InstanceId::new("gpu-7");
    rig.take(Input::Register(intruder(&name, &id)));
    rig.full(&name, 45);
    (rig, id, name)
}

#[test]
fn another_host_without_an_instance_inherits_no_machine() {
    for terminating in [false, true] {
        let (mut rig, id, name) = renamed();
        if terminating {
            rig.take(Input::EndInstance {
                instance: id.clone(),
                reason: String::new(),
            });
            rig.pass(60);
        }
        let before = rig.instance(&id).clone();
        rig.silent(&name);
        rig.take(Input::Register(unnamed_host(&name)));
        let node = rig.node(&name);
        assert_eq!((node.incarnation, &node.instance), (2, &None));
        assert_eq!(node.pool, None, "it is external");
        let after = rig.instance(&id);
        assert_eq!((after.phase, &after.node), (before.phase, &None));
        if terminating {
            // Since when it is asked for is still known.
            assert_eq!(after.phase_since, before.phase_since);
            assert_eq!(after.message, before.message);
        }
        assert_eq!(rig.count(EventKind::InstanceUnbound), 1);
    }
}

#[test]
fn the_same_host_without_an_instance_keeps_its_machine() {
    let (mut rig, id, name) = renamed();
    rig.silent(&name);
    let same = crate::Registration {
        instance: None,
        ..intruder(&name, &id)
    };
    rig.take(Input::Register(same));
    assert_eq!(rig.node(&name).instance.as_ref(), Some(&id));
}

#[test]
fn a_node_id_that_an_operator_holds_does_not_move() {
    let (mut rig, id, name) = renamed();
    rig.configure(&yaml(2, 4, ""));
    rig.run(2);
    let c = rig.of(Phase::PendingRegistration).remove(0);
    let node = NodeId::new(name.as_str());
    let command = |kind| Input::Command {
        node: node.clone(),
        kind,
        parameters: [].into(),
    };
    rig.take(command(NodeCommandType::Cordon));
    rig.silent(&name);
    for registration in [intruder(&name, &c), unnamed_host(&name)] {
        let refused = rig.feed(Input::Register(registration)).unwrap_err();
        assert_eq!(refused.code, RejectionCode::AlreadyExists, "{refused}");
        assert!(refused.message.contains("operator:cordon"), "{refused}");
    }
    assert_eq!(rig.instance(&id).node.as_ref(), Some(&node));
    rig.take(command(NodeCommandType::Uncordon));
    rig.take(Input::Register(intruder(&name, &c)));
    assert_eq!(rig.node(&name).instance.as_ref(), Some(&c));
}

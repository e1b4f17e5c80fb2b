//! The slots of the fleet's budget: who holds one, and for how long.

use navarch_model::{
    Automation, EventKind, InstanceId, NodeCommandType, NodeId, Phase, PoolName, ProviderErrorKind,
    ProviderName, TerminateAnswer,
};

use super::{Rig, yaml};
use crate::input::{Effect, Input};

/// A pool `far` at a provider of its own beside `main`, and one slot for both.
fn two_clouds() -> (Rig, InstanceId, InstanceId) {
    let far = "  far:
    provider: other
    instance_type: rare
    region: there
    min_nodes: 1
    max_nodes: 2
    budget: 1
    max_launches_per_hour: 60
guards:
  budget: 1
";
    let text = yaml(1, 2, far).replace("pools:\n", "  other: {type: fake, gpu_count: 2}\npools:\n");
    let mut rig = Rig::new(&text);
    let up = rig.up(2);
    let of = |pool: &str| {
        let mut here = up
            .iter()
            .filter(|id| rig.instance(id).pool.as_str() == pool);
        here.next().cloned().expect("it has a machine")
    };
    let (far, main) = (of("far"), of("main"));
    (rig, far, main)
}

/// The same without the pool `far`.
fn without_far() -> String {
    let text = yaml(1, 2, "guards:\n  budget: 1\n");
    text.replace("pools:\n", "  other: {type: fake, gpu_count: 2}\npools:\n")
}

fn drains(rig: &Rig) -> u32 {
    rig.count(EventKind::DrainStarted)
}

/// Lets the cloud of `far` refuse every launch, and its machine and that of `main` fall ill.
fn far_waits_for_capacity() -> (Rig, InstanceId, InstanceId) {
    let (mut rig, far, main) = two_clouds();
    let offering = rig.instance(&far).offering.to_string();
    rig.refusals.insert(offering, ProviderErrorKind::Capacity);
    rig.xid(&far, 79, 0);
    rig.run(5);
    assert!(rig.node(&far).our_drain().is_some());
    rig.xid(&main, 48, 0);
    rig.run(5);
    assert_eq!(drains(&rig), 1, "the slot is taken");
    (rig, far, main)
}

#[test]
fn a_drain_that_waits_for_capacity_gives_its_slot_back() {
    let (mut rig, far, main) = far_waits_for_capacity();
    let waits = rig.explain(&[(&far, "far-1"), (&main, "main-1")]);
    assert_eq!(
        waits,
        [
            "replace main-1 waits for budget: 1 of 1 disruptions of the fleet are under way: \
              far-1 of pool far"
        ]
    );
    // A replacement has two minutes for its launch and five to register.
    rig.run(400);
    assert_eq!(drains(&rig), 1);
    rig.run(30);
    assert_eq!(drains(&rig), 2);
    assert!(rig.node(&main).our_drain().is_some());
    assert!(rig.node(&far).our_drain().is_some(), "it goes on");
    // Its own pool goes on counting it.
    assert_eq!(rig.report.pools[&PoolName::new("far")].budget, (1, 1));
}

#[test]
fn a_drain_in_a_pool_that_is_switched_off_gives_its_slot_back() {
    let (mut rig, far, main) = far_waits_for_capacity();
    rig.take(Input::SetAutomation {
        pool: Some(PoolName::new("far")),
        mode: Automation::Off,
        reason: String::new(),
    });
    rig.run(2);
    assert!(rig.node(&main).our_drain().is_some());
    assert!(rig.node(&far).our_drain().is_some());
}

#[test]
fn a_drain_at_a_cloud_whose_listing_is_not_believed_gives_its_slot_back() {
    let (mut rig, far, main) = far_waits_for_capacity();
    let began = rig.now;
    rig.take(Input::ListResult {
        provider: ProviderName::new("other"),
        began,
        result: Ok((Vec::new(), false)),
    });
    rig.pass(1);
    rig.plan();
    assert!(rig.node(&main).our_drain().is_some());
    assert!(rig.node(&far).our_drain().is_some());
}

#[test]
fn a_termination_that_no_cloud_accepts_gives_its_slot_back_when_it_is_overdue() {
    let (mut rig, far, main) = two_clouds();
    rig.xid(&far, 79, 0);
    let mut ill = false;
    let mut ending = 0;
    for second in 0..1_200 {
        rig.pass(1);
        rig.take(Input::Tick);
        rig.plan();
        rig.effects
            .retain(|effect| !matches!(effect, Effect::Terminate { .. }));
        rig.answer();
        for id in rig.of(Phase::PendingRegistration) {
            rig.register(&id);
        }
        if second % 25 == 0 {
            for id in rig.of(Phase::Running) {
                rig.full(&id, 45);
            }
        }
        if rig.instance(&far).phase != Phase::Terminating {
            continue;
        }
        if !ill {
            ill = true;
            rig.xid(&main, 48, 0);
        }
        ending += 1;
        // Fifteen minutes are its time.
        assert_eq!(
            drains(&rig),
            1 + u32::from(ending > 900),
            "after {ending} s"
        );
        if ending > 910 {
            return;
        }
    }
    panic!("the machine of the other pool ends");
}

#[test]
fn a_drain_ends_when_its_pool_leaves_the_configuration() {
    let (mut rig, far, main) = far_waits_for_capacity();
    rig.configure(&without_far());
    rig.run(2);
    assert_eq!(rig.node(&far).our_drain(), None);
    assert_eq!(
        rig.said(EventKind::DrainCancelled),
        ["pool far is not configured any more"]
    );
    assert!(rig.node(&main).our_drain().is_some(), "the slot is free");
    rig.run(60);
    assert_eq!(rig.instance(&far).phase, Phase::Running, "it stays");
}

#[test]
fn a_listing_that_lags_behind_does_not_take_a_returned_slot_again() {
    let (mut rig, far, _) = two_clouds();
    rig.take(Input::Command {
        node: NodeId::new(far.as_str()),
        kind: NodeCommandType::Terminate,
        parameters: [].into(),
    });
    rig.plan();
    let machine = rig
        .machines
        .values()
        .find(|one| one.instance.as_ref() == Some(&far));
    let machine = machine.cloned().expect("the cloud has it");
    let taken = |rig: &Rig| rig.fleet.disruptions(None);
    assert_eq!(taken(&rig), 1);
    let calls = rig.drop_calls();
    let key = calls.iter().find_map(|call| match call {
        Effect::Terminate { key, .. } => Some(key.clone()),
        _ => None,
    });
    rig.take(Input::TerminateResult {
        key: key.expect("it is asked to go"),
        result: Ok(TerminateAnswer::Accepted),
    });
    assert_eq!(taken(&rig), 0);
    rig.pass(1);
    let began = rig.now;
    rig.pass(1);
    rig.take(Input::ListResult {
        provider: ProviderName::new("other"),
        began,
        result: Ok((vec![machine], true)),
    });
    assert_eq!(rig.instance(&far).phase, Phase::Terminating);
    assert_eq!(taken(&rig), 0);
}

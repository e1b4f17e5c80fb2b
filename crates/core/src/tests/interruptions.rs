//! A cloud says that it takes a spot machine back: it is drained and replaced before it goes.

use std::time::Duration;

use navarch_model::{
    Automation, EndCause, EventKind, InstanceId, LaunchCause, Machine, NodeCommandType, NodeId,
    Phase, PoolName, ProviderError, ProviderErrorKind, ProviderName, Stamp, Time,
};

use super::{Rig, yaml};
use crate::input::{Action, Effect, Input};

/// Two spot machines, with a budget that allows no disruption of our own choosing.
fn spot(extra: &str) -> String {
    yaml(2, 2, extra)
        .replace(
            "    region: here\n",
            "    region: here\n    capacity: spot\n",
        )
        .replace("budget: 1", "budget: 0")
}

fn machine<'a>(rig: &'a mut Rig, id: &InstanceId) -> &'a mut Machine {
    let provider_id = rig.instance(id).provider_id.clone().unwrap();
    rig.machines.get_mut(&provider_id).unwrap()
}

/// The cloud takes a machine back so many seconds from now.
fn notice(rig: &mut Rig, id: &InstanceId, seconds: u64) -> Time {
    let at = rig.now.wall + Duration::from_secs(seconds);
    machine(rig, id).interruption_at = Some(at);
    at
}

/// So many seconds pass, and every agent reports that it is well.
fn serve(rig: &mut Rig, seconds: u64) {
    for second in 0..seconds {
        if second % 20 == 0 {
            for id in rig.of(Phase::Running) {
                rig.full(&id, 45);
            }
        }
        rig.run(1);
    }
}

fn alive(rig: &Rig) -> usize {
    let all = rig.fleet.state().instances.values();
    all.filter(|one| one.phase.may_be_alive()).count()
}

fn holds(rig: &Rig, id: &InstanceId) -> Vec<String> {
    rig.node(id).hold_names()
}

fn replacement(rig: &Rig, id: &InstanceId) -> Option<InstanceId> {
    let cause = LaunchCause::Replace {
        instance: id.clone(),
    };
    let mut all = rig.fleet.state().instances.values();
    all.find(|one| one.cause == cause).map(|one| one.id.clone())
}

#[test]
fn a_machine_that_is_taken_back_is_drained_and_replaced_at_once_and_keeps_its_time() {
    let mut rig = Rig::new(&spot(""));
    let up = rig.up(2);
    let at = notice(&mut rig, &up[0], 120);
    rig.run(12);
    assert_eq!(rig.count(EventKind::Interruption), 1);
    let known = rig.instance(&up[0]).interruption.unwrap();
    assert_eq!(known.at.wall, at);
    assert_eq!(known.at.core.since(rig.now.core), at.since(rig.now.wall));
    assert_eq!(holds(&rig, &up[0]), ["drain:interruption"]);
    assert_eq!(rig.fleet.disruptions(None), 0);
    let next = replacement(&rig, &up[0]).expect("its replacement is asked for");
    assert_eq!(alive(&rig), 3);
    rig.register(&next);
    rig.full(&next, 45);
    // The node is empty, its replacement serves, and the machine is its users' until its time.
    serve(&mut rig, 90);
    assert_eq!(rig.instance(&up[0]).phase, Phase::Running);
    assert_eq!(
        rig.explain(&[(&up[0], "ONE")]),
        [
            "terminate ONE waits for drain: the node is empty, and its cloud has yet to take the \
          machine back"
        ]
    );
    serve(&mut rig, 20);
    let gone = rig.instance(&up[0]);
    assert_eq!(gone.phase, Phase::Terminated);
    assert_eq!(gone.end, Some(EndCause::Interruption));
    assert_eq!(rig.of(Phase::Running).len(), 2);
    assert_eq!(
        rig.fleet.state().instances.len(),
        3,
        "nothing more is bought"
    );
    assert_eq!(rig.count(EventKind::Interruption), 1);
}

#[test]
fn a_provider_with_spot_machines_is_listed_more_often() {
    let listings = |yaml: &str| {
        let mut rig = Rig::new(yaml);
        rig.up(2);
        let mut listings = 0;
        for _ in 0..60 {
            rig.pass(1);
            let actions = rig.plan();
            let lists = |action: &&Action| matches!(action, Action::List { .. });
            listings += actions.iter().filter(lists).count();
            rig.answer();
        }
        listings
    };
    assert_eq!(listings(&spot("")), 6);
    let seldom = spot("").replace(
        "instance_manager:\n",
        "instance_manager:\n  spot_check_interval: 30s\n",
    );
    assert_eq!(listings(&seldom), 2);
    assert_eq!(listings(&yaml(2, 2, "")), 0);
}

#[test]
fn a_cloud_that_does_not_answer_is_listed_no_more_often_for_its_spot_machines() {
    let mut rig = Rig::new(&spot(""));
    rig.up(2);
    rig.run(12);
    rig.take(Input::ListResult {
        provider: ProviderName::new("fake"),
        began: rig.now,
        result: Err(ProviderError::new(ProviderErrorKind::Transient, "away")),
    });
    for _ in 0..30 {
        rig.pass(1);
        let actions = rig.plan();
        let lists = |action: &Action| matches!(action, Action::List { .. });
        assert!(!actions.iter().any(lists), "{actions:?}");
    }
}

#[test]
fn without_room_for_a_replacement_it_comes_once_the_machine_is_gone() {
    let mut rig = Rig::new(&spot("guards: {max_surge: 0}\n"));
    let up = rig.up(2);
    notice(&mut rig, &up[0], 60);
    for _ in 0..55 {
        rig.run(1);
        assert_eq!(alive(&rig), 2);
    }
    assert_eq!(holds(&rig, &up[0]), ["drain:interruption"]);
    let waits = rig.waits();
    assert!(waits.contains(&(up[0].as_str(), "size")), "{waits:?}");
    rig.run(15);
    assert_eq!(rig.instance(&up[0]).phase, Phase::Terminated);
    assert_eq!(alive(&rig), 2, "another is bought");
}

#[test]
fn the_launches_of_an_hour_are_not_spent_by_a_cloud_that_takes_machines_back() {
    let yaml = spot("").replace("per_hour: 60", "per_hour: 2");
    let mut rig = Rig::new(&yaml.replace("max_nodes: 2", "max_nodes: 8"));
    let up = rig.up(2);
    serve(&mut rig, 600);
    for id in &up {
        notice(&mut rig, id, 120);
    }
    rig.run(12);
    let next: Vec<_> = up.iter().filter_map(|id| replacement(&rig, id)).collect();
    assert_eq!(next.len(), 2, "{:?}", rig.explain(&[]));
    for id in &next {
        rig.register(id);
    }
    // Those that are taken back at once were launches like any other.
    rig.full(&next[0], 45);
    for id in &next {
        notice(&mut rig, id, 120);
    }
    rig.run(12);
    let again = next.iter().filter_map(|id| replacement(&rig, id));
    assert_eq!(again.count(), 0);
    let waits = rig.explain(&[]);
    let rate = "waits for max_launches_per_hour: 2 launches within the last hour; the limit is 2";
    assert!(waits[4].ends_with(rate), "{waits:#?}");
}

#[test]
fn automation_that_is_not_on_only_says_so() {
    for (mode, told) in [(Automation::Observe, true), (Automation::Off, false)] {
        let mut rig = Rig::new(&spot(""));
        let up = rig.up(2);
        rig.take(Input::SetAutomation {
            pool: Some(PoolName::new("main")),
            mode,
            reason: "a test".to_owned(),
        });
        notice(&mut rig, &up[0], 60);
        rig.run(12);
        assert_eq!(rig.count(EventKind::Interruption), 1);
        assert_eq!(holds(&rig, &up[0]), [""; 0]);
        assert_eq!(alive(&rig), 2);
        let would = format!(
            "would drain {}: its cloud takes the machine back",
            up[0].as_str()
        );
        assert_eq!(rig.said(EventKind::WouldAct).contains(&&*would), told);
        let waits = rig.waits().contains(&(up[0].as_str(), "automation"));
        assert_eq!(waits, !told);
    }
}

#[test]
fn a_notice_that_is_taken_back_ends_the_drain() {
    let mut rig = Rig::new(&spot(""));
    let up = rig.up(2);
    notice(&mut rig, &up[0], 600);
    rig.run(12);
    assert_eq!(holds(&rig, &up[0]), ["drain:interruption"]);
    // A listing that began before the notice was heard of says nothing of it.
    machine(&mut rig, &up[0]).interruption_at = None;
    let listing = |rig: &Rig, began: Stamp| Input::ListResult {
        provider: ProviderName::new("fake"),
        began,
        result: Ok((rig.machines.values().cloned().collect(), true)),
    };
    let known = rig.instance(&up[0]).interruption.unwrap();
    rig.take(listing(&rig, known.seen));
    assert_eq!(rig.instance(&up[0]).interruption, Some(known));
    // Nor do a partial one, and the first of those that are believed.
    rig.run(2);
    let machines: Vec<Machine> = rig.machines.values().cloned().collect();
    rig.take(Input::ListResult {
        provider: ProviderName::new("fake"),
        began: rig.now,
        result: Ok((machines, false)),
    });
    rig.run(10);
    assert_eq!(rig.instance(&up[0]).interruption, Some(known));
    rig.run(10);
    assert_eq!(rig.count(EventKind::InterruptionOver), 1);
    assert_eq!(rig.instance(&up[0]).interruption, None);
    assert_eq!(
        rig.said(EventKind::DrainCancelled),
        ["the cloud does not take the machine back"]
    );
    assert_eq!(holds(&rig, &up[0]), [""; 0]);
    assert_eq!(rig.instance(&up[0]).phase, Phase::Running);
}

#[test]
fn a_machine_that_an_operator_holds_is_left_to_the_operator() {
    let mut rig = Rig::new(&spot(""));
    let up = rig.up(2);
    rig.take(Input::Command {
        node: NodeId::new(up[0].as_str()),
        kind: NodeCommandType::Cordon,
        parameters: [].into(),
    });
    notice(&mut rig, &up[0], 60);
    serve(&mut rig, 70);
    assert_eq!(holds(&rig, &up[0]), ["operator:cordon"]);
    assert_eq!(rig.instance(&up[0]).phase, Phase::Running);
    assert_eq!(
        rig.waits(),
        [(up[0].as_str(), "operator_hold")],
        "what waits is named"
    );
}

#[test]
fn the_moment_is_reckoned_anew_after_a_time_without_a_control_plane() {
    let mut rig = Rig::new(&spot(""));
    let up = rig.up(2);
    let at = notice(&mut rig, &up[0], 120);
    rig.run(12);
    // Fleet time stands still while Unix time goes on.
    rig.now.wall = rig.now.wall + Duration::from_secs(60);
    rig.start();
    rig.run(2);
    let known = rig.instance(&up[0]).interruption.unwrap();
    assert_eq!(known.at.wall, at);
    assert_eq!(known.at.core.since(rig.now.core), at.since(rig.now.wall));
    assert_eq!(rig.count(EventKind::Interruption), 1);
}

#[test]
fn a_jump_of_the_wall_clock_moves_no_drain() {
    let mut rig = Rig::new(&spot(""));
    let up = rig.up(2);
    notice(&mut rig, &up[0], 120);
    rig.run(12);
    let known = rig.instance(&up[0]).interruption;
    rig.now.wall = rig.now.wall + Duration::from_secs(300);
    rig.run(12);
    assert_eq!(rig.instance(&up[0]).interruption, known);
    assert_eq!(rig.instance(&up[0]).phase, Phase::Running);
}

#[test]
fn a_machine_that_goes_before_its_replacement_is_there_takes_no_slot() {
    let mut rig = Rig::new(&spot(""));
    let up = rig.up(2);
    notice(&mut rig, &up[0], 30);
    rig.run(31);
    // Its replacement takes long to boot.
    let id = rig.instance(&up[0]).provider_id.clone().unwrap();
    rig.machines.remove(&id);
    rig.silent(&up[0]);
    for _ in 0..120 {
        rig.run(1);
        assert_eq!(rig.fleet.disruptions(None), 0);
        if rig.instance(&up[0]).end.is_some() {
            break;
        }
    }
    assert_eq!(rig.instance(&up[0]).end, Some(EndCause::Vanished));
}

#[test]
fn an_earlier_drain_ends_when_the_cloud_takes_the_machine() {
    let mut rig = Rig::new(&spot("").replace("budget: 0", "budget: 1"));
    let up = rig.up(2);
    rig.xid(&up[0], 79, 0);
    let busy = |rig: &mut Rig, seconds: u64| {
        for _ in 0..seconds {
            rig.pass(1);
            rig.plan();
            rig.effects
                .retain(|effect| !matches!(effect, Effect::AskDrained { .. }));
            rig.answer();
        }
    };
    busy(&mut rig, 5);
    assert_eq!(rig.count(EventKind::DrainStarted), 1);
    let next = replacement(&rig, &up[0]).expect("its replacement is asked for");
    rig.register(&next);
    rig.full(&next, 45);
    notice(&mut rig, &up[0], 60);
    busy(&mut rig, 50);
    assert_eq!(rig.instance(&up[0]).phase, Phase::Running);
    busy(&mut rig, 20);
    assert_eq!(rig.instance(&up[0]).phase, Phase::Terminated);
    assert_eq!(rig.count(EventKind::DrainStarted), 1);
}

#[test]
fn many_machines_that_go_as_their_cloud_said_make_no_listing_suspect() {
    let yaml = spot("").replace(
        "min_nodes: 2\n    max_nodes: 2",
        "min_nodes: 6\n    max_nodes: 6",
    );
    let mut rig = Rig::new(&yaml);
    let up = rig.up(6);
    for id in &up[..4] {
        notice(&mut rig, id, 30);
    }
    // One of them goes before its time.
    serve(&mut rig, 19);
    assert_eq!(alive(&rig), 7, "the size guard holds");
    for id in rig.of(Phase::PendingRegistration) {
        rig.register(&id);
        rig.full(&id, 45);
    }
    rig.pass(1);
    for id in &up[..4] {
        let id = rig.instance(id).provider_id.clone().unwrap();
        rig.machines.remove(&id);
    }
    let listing = Input::ListResult {
        provider: ProviderName::new("fake"),
        began: rig.now,
        result: Ok((rig.machines.values().cloned().collect(), true)),
    };
    rig.take(listing);
    assert_eq!(rig.count(EventKind::ListingSuspect), 0);
    serve(&mut rig, 20);
    for id in &up[..4] {
        assert_eq!(rig.instance(id).end, Some(EndCause::Interruption));
    }
    assert_eq!(alive(&rig), 6, "and replaced");
}

//! The size that an operator asks for: what it moves, and what refuses it.

use navarch_model::{
    AskedBy, Automation, DrainCause, EndCause, EventKind, InstanceId, LaunchCause, NodeId, Phase,
    PoolName, Stamp,
};

use super::{Rig, yaml};
use crate::input::{Action, Effect, Input, RejectionCode, Reply};

fn main() -> PoolName {
    PoolName::new("main")
}

fn scale(nodes: u32) -> Input {
    Input::ScalePool {
        pool: main(),
        nodes,
        reason: "a deadline".to_owned(),
    }
}

#[test]
fn a_pool_has_the_size_that_was_asked_for_and_keeps_it_over_a_restart() {
    let mut rig = Rig::new(&yaml(1, 5, ""));
    rig.up(1);
    assert_eq!(rig.fleet.target(&main()), 1, "nobody asked: min_nodes");
    assert_eq!(rig.take(scale(3)), Reply::Sized { from: 1, to: 3 });
    rig.up(3);
    assert_eq!(
        rig.said(EventKind::PoolResized),
        ["the operator asks for 3 machines instead of 1: a deadline"]
    );
    rig.start();
    rig.run(5);
    assert_eq!(rig.fleet.target(&main()), 3);
    assert_eq!(rig.of(Phase::Running).len(), 3);
    let asked = rig.fleet.state().pools[&main()].asked.clone();
    let asked = asked.expect("it is on record");
    assert_eq!((asked.nodes, asked.by), (3, AskedBy::Operator));
}

#[test]
fn a_smaller_size_drains_after_the_minimum_life_and_within_the_budget() {
    let mut rig = Rig::new(&yaml(1, 5, ""));
    rig.take(scale(4));
    rig.up(4);
    rig.take(scale(2));
    rig.run(5);
    let guards: Vec<_> = rig.waits().into_iter().map(|wait| wait.1).collect();
    assert_eq!(guards, ["minimum_life"; 2]);
    let mut least = 4;
    for second in 0..700 {
        if second % 20 == 0 {
            for id in rig.of(Phase::Running) {
                rig.full(&id, 45);
            }
        }
        let before = rig.of(Phase::Running).len();
        rig.run(1);
        least = rig.of(Phase::Running).len();
        assert!(before - least <= 1, "the budget is one");
    }
    assert_eq!(least, 2);
    assert_eq!(rig.count(EventKind::DrainStarted), 2);
}

#[test]
fn sizes_outside_the_bounds_and_unknown_pools_are_refused_and_change_nothing() {
    let mut rig = Rig::new(&yaml(2, 4, ""));
    for (nodes, ok) in [
        (0, false),
        (1, false),
        (2, true),
        (4, true),
        (5, false),
        (u32::MAX, false),
    ] {
        let before = rig.fleet.state().pools.get(&main()).cloned();
        match rig.feed(scale(nodes)) {
            Ok(reply) => {
                assert!(ok, "{nodes}: {reply:?}");
                assert_eq!(rig.fleet.target(&main()), nodes as usize);
            }
            Err(refused) => {
                assert!(!ok, "{nodes}: {refused}");
                assert_eq!(refused.code, RejectionCode::FailedPrecondition);
                assert_eq!(
                    refused.message,
                    format!(
                        "pool main has min_nodes 2 and max_nodes 4: {nodes} is outside; ask for 2 to \
                         4, or change the configuration"
                    )
                );
                assert_eq!(rig.fleet.state().pools.get(&main()).cloned(), before);
            }
        }
    }
    let unknown = rig.feed(Input::ScalePool {
        pool: PoolName::new("mian"),
        nodes: 2,
        reason: String::new(),
    });
    let unknown = unknown.expect_err("there is no such pool");
    assert_eq!(unknown.code, RejectionCode::NotFound);
    assert_eq!(unknown.message, "pool not found: mian (pools: main)");
}

#[test]
fn other_bounds_move_the_size_and_give_it_back() {
    let mut rig = Rig::new(&yaml(1, 5, ""));
    rig.take(scale(4));
    for (min, max, target) in [(1, 2, 2), (5, 8, 5), (1, 5, 4)] {
        rig.configure(&yaml(min, max, ""));
        assert_eq!(rig.fleet.target(&main()), target, "{min}..{max}");
    }
}

#[test]
fn a_switch_that_is_off_keeps_the_size_on_record_and_launches_nothing() {
    for mode in [Automation::Off, Automation::Observe] {
        let mut rig = Rig::new(&yaml(1, 5, ""));
        rig.up(1);
        rig.take(Input::SetAutomation {
            pool: None,
            mode,
            reason: String::new(),
        });
        rig.take(scale(3));
        rig.run(30);
        assert_eq!(rig.fleet.state().instances.len(), 1, "{mode:?}");
        assert_eq!(rig.report.pools[&main()].target, 3);
        rig.take(Input::SetAutomation {
            pool: None,
            mode: Automation::On,
            reason: String::new(),
        });
        rig.up(3);
    }
}

#[test]
fn launches_beyond_a_smaller_size_are_called_back() {
    let mut rig = Rig::new(&yaml(0, 5, ""));
    rig.take(scale(3));
    rig.plan();
    rig.plan();
    assert_eq!(rig.of(Phase::Launching).len(), 3);
    let launches = rig.launches();
    rig.take(scale(1));
    let back = rig.drop_calls();
    let back = back
        .iter()
        .filter(|effect| matches!(effect, Effect::CancelLaunch { .. }));
    assert_eq!(back.count(), launches.len());
    for (key, _) in launches {
        rig.launch_fails(&key, navarch_model::ProviderErrorKind::Transient);
    }
    rig.run(120);
    assert_eq!(rig.machines.len(), 1);
    assert_eq!(rig.fleet.staying(&main()), 1);
}

/// Four machines that are old enough to be let go.
fn four() -> (Rig, Vec<InstanceId>) {
    let mut rig =
        Rig::new(&yaml(1, 8, "guards:\n  budget: 2\n").replace("budget: 1\n", "budget: 2\n"));
    rig.take(scale(4));
    let up = rig.up(4);
    for _ in 0..40 {
        for id in &up {
            rig.full(id, 45);
        }
        rig.run(20);
    }
    (rig, up)
}

#[test]
fn what_depends_on_the_size_is_judged_again_when_it_is_taken() {
    let (mut rig, up) = four();
    let node = NodeId::new(up[0].as_str());
    let request = Action::Request {
        pool: main(),
        cause: LaunchCause::Grow,
        offering: rig.instance(&up[0]).offering.clone(),
    };
    let drain = Action::Drain {
        node,
        cause: DrainCause::Shrink,
    };
    for action in [request, drain] {
        let refused = rig.feed(Input::Act(action.clone()));
        let refused = refused.expect_err("four machines are asked for").message;
        assert_eq!(
            refused,
            "size: the pool has the 4 machines that are asked for"
        );
    }
    rig.take(scale(3));
    rig.plan();
    assert_eq!(rig.count(EventKind::DrainStarted), 1);
    let drained = |rig: &Rig| {
        let all = up.iter().filter(|id| rig.node(id).our_drain().is_some());
        all.cloned().collect::<Vec<_>>()
    };
    let going = drained(&rig).remove(0);
    rig.plan();
    rig.answer();
    // The scheduler says that it is empty, and then it is needed again.
    rig.take(scale(4));
    let end = rig.feed(Input::Act(Action::Terminate {
        instance: going.clone(),
        cause: EndCause::Shrink,
    }));
    assert_eq!(
        end.expect_err("the drain is void").message,
        "drain: the pool needs the machine again"
    );
    rig.run(5);
    assert_eq!(rig.instance(&going).phase, Phase::Running);
    assert_eq!(drained(&rig), []);
    assert_eq!(rig.fleet.state().instances.len(), 4);
}

#[test]
fn machines_that_stay_after_all_count_before_others_are_bought() {
    let (mut rig, _) = four();
    rig.take(scale(2));
    rig.plan();
    rig.drop_calls();
    assert_eq!(rig.fleet.staying(&main()), 2);
    // One drain of two is taken back, and no machine is bought.
    rig.take(scale(3));
    let actions = rig.plan();
    let cancels = |actions: &[Action]| {
        let cancels = |action: &&Action| matches!(action, Action::CancelDrain { .. });
        actions.iter().filter(cancels).count()
    };
    let requests = |actions: &[Action]| {
        let requests = |action: &&Action| matches!(action, Action::Request { .. });
        actions.iter().filter(requests).count()
    };
    assert_eq!((cancels(&actions), requests(&actions)), (1, 0));
    assert_eq!(rig.fleet.staying(&main()), 3);
    // The other one is taken back, and two are bought.
    rig.take(scale(6));
    let actions = rig.plan();
    assert_eq!((cancels(&actions), requests(&actions)), (1, 2));
    for _ in 0..10 {
        rig.run(1);
        assert!(rig.fleet.state().instances.len() <= 6);
    }
}

#[test]
fn a_machine_that_is_drained_for_its_fault_is_one_that_goes() {
    let (mut rig, up) = four();
    let age = |id: &InstanceId| rig.instance(id).created;
    let (oldest, youngest) = (&up[0], up.iter().max_by_key(|id| (age(id), *id)).unwrap());
    let (oldest, youngest) = (oldest.clone(), youngest.clone());
    assert_ne!(oldest, youngest);
    // Both are sick: one is repaired, and one is the first to be let go.
    rig.xid(&oldest, 79, 0);
    rig.pass(1);
    rig.xid(&youngest, 79, 0);
    rig.take(scale(3));
    rig.plan();
    assert_eq!(rig.count(EventKind::DrainStarted), 1);
    assert_eq!(rig.fleet.staying(&main()), 3);
    rig.run(3);
    assert_eq!(rig.fleet.staying(&main()), 3);
}

#[test]
fn a_late_word_about_a_drain_that_was_taken_back_says_nothing_of_the_next() {
    let (mut rig, up) = four();
    let node = |rig: &Rig| {
        let drained = up.iter().find(|id| rig.node(id).our_drain().is_some());
        drained.cloned().expect("one is drained")
    };
    let ask = |rig: &mut Rig| {
        rig.plan();
        let calls = rig.drop_calls();
        let mut asked = calls.into_iter().filter_map(|effect| match effect {
            Effect::AskDrained { node, since, .. } => Some((node, since)),
            _ => None,
        });
        asked.next().expect("the scheduler is asked")
    };
    let answer = |rig: &mut Rig, (node, since): (NodeId, Stamp)| {
        let drained = Ok(true);
        rig.take(Input::DrainResult {
            node,
            since,
            drained,
        });
    };
    rig.take(scale(3));
    rig.plan();
    let first = node(&rig);
    let early = ask(&mut rig);
    rig.take(scale(4));
    rig.plan();
    assert!(rig.node(&first).our_drain().is_none());
    rig.pass(1);
    rig.take(scale(3));
    rig.plan();
    assert_eq!(node(&rig), first);
    answer(&mut rig, early);
    let (_, hold) = rig.node(&first).our_drain().expect("it goes on");
    assert_eq!(hold.drained, None);
    let late = ask(&mut rig);
    answer(&mut rig, late);
    rig.plan();
    assert_eq!(rig.instance(&first).phase, Phase::Terminating);
}

//! The size that an operator asks for: what it moves, and what refuses it.

use navarch_model::{AskedBy, Automation, EventKind, Phase, PoolName};

use super::{Rig, yaml};
use crate::input::{Effect, Input, RejectionCode, Reply};

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

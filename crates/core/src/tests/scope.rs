//! Plans of what changed, and the indexes that they stand on. The rig compares each plan with the
//! plan of every pool, and the indexes with the state after every input.

use std::collections::BTreeMap;

use navarch_model::{Automation, EventKind, InstanceId, NodeCommandType, NodeId, Phase, PoolName};

use super::{Rig, yaml};
use crate::input::{Effect, Input};

/// So many pools beside `main`, each with one machine.
fn pools(count: usize) -> String {
    (0..count)
        .map(|number| {
            format!(
                "  pool-{number}:
    provider: fake
    instance_type: gpu
    region: here
    min_nodes: 1
    max_nodes: 2
    budget: 1
    max_launches_per_hour: 60
"
            )
        })
        .collect()
}

#[test]
fn a_plan_looks_only_at_pools_that_are_due_and_reports_all() {
    let mut rig = Rig::new(&yaml(1, 2, &pools(3)));
    let up = rig.up(4);
    rig.run(5);
    rig.plan();
    let before: BTreeMap<PoolName, _> = rig.report.pools.clone();
    assert_eq!(before.len(), 4);
    let id = &up[2];
    let pool = rig.instance(id).pool.clone();
    rig.xid(id, 79, 0);
    let plan = rig.fleet.plan(rig.now);
    assert!(plan.is_about(&pool));
    assert_eq!(plan.pools(), 1);
    assert_eq!(plan.report.pools.len(), 4);
    for (name, report) in &before {
        assert_eq!(plan.report.pools[name] == *report, *name != pool, "{name}");
    }
}

#[test]
fn what_waits_for_the_whole_fleet_is_looked_at_when_the_fleet_changes() {
    // One disruption at a time in the whole fleet.
    let extra = format!("{}guards:\n  budget: 1\n", pools(2));
    let mut rig = Rig::new(&yaml(1, 2, &extra));
    let up = rig.up(3);
    for id in &up {
        rig.xid(id, 79, 0);
    }
    // All three are replaced, one after the other, without a plan of every pool.
    for second in 0..400 {
        rig.run(1);
        if second % 30 == 0 {
            for id in rig.of(Phase::Running) {
                rig.full(&id, 45);
            }
        }
        for id in rig.of(Phase::PendingRegistration) {
            rig.register(&id);
            rig.full(&id, 45);
        }
    }
    assert_eq!(rig.count(EventKind::DrainStarted), 3);
    for id in &up {
        assert_eq!(rig.instance(id).phase, Phase::Terminated, "{id}");
    }
    assert_eq!(rig.of(Phase::Running).len(), 3);
}

fn order(rig: &mut Rig, node: &NodeId, kind: NodeCommandType) {
    // An order that makes no sense is refused.
    let _ = rig.feed(Input::Command {
        node: node.clone(),
        kind,
        parameters: [].into(),
    });
}

#[test]
fn plans_of_what_changed_are_plans_of_all_through_a_long_story() {
    for seed in 0..6_u64 {
        let extra = format!("{}guards:\n  budget: 2\n", pools(2));
        let mut rig = Rig::new(&yaml(2, 3, &extra));
        rig.up(4);
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut draw = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        for step in 0..400 {
            let running = rig.of(Phase::Running);
            let some = |number: u64| running.get(number as usize % running.len().max(1)).cloned();
            if let Some(id) = some(draw(97)) {
                let node = NodeId::new(id.as_str());
                match draw(14) {
                    0 => rig.xid(&id, 79, 0),
                    1 => rig.full(&id, 97),
                    2 | 3 => rig.full(&id, 45),
                    4 if rig.node(&id).silent_since.is_none() => rig.silent(&id),
                    5 => rig.back(&id),
                    6 => order(&mut rig, &node, NodeCommandType::Cordon),
                    7 => order(&mut rig, &node, NodeCommandType::Uncordon),
                    8 => order(&mut rig, &node, NodeCommandType::Terminate),
                    9 => order(&mut rig, &node, NodeCommandType::RunDiagnostic),
                    10 => {
                        rig.take(Input::Poll {
                            node,
                            session: None,
                        });
                    }
                    11 => {
                        let mode = Automation::ALL[draw(3) as usize];
                        rig.take(Input::SetAutomation {
                            pool: None,
                            mode,
                            reason: String::new(),
                        });
                    }
                    12 if step % 5 == 0 => rig.start(),
                    _ => {}
                }
            }
            if draw(3) == 0 {
                for id in rig.of(Phase::PendingRegistration) {
                    rig.register(&id);
                    rig.full(&id, 45);
                }
            }
            let seconds = 1 + draw(4);
            rig.run(seconds);
            if draw(8) == 0 {
                rig.drop_calls();
            }
        }
    }
}

#[test]
fn a_breaker_of_the_fleet_opens_in_a_pool_that_was_hit_long_ago_and_waits_for_nothing() {
    let mut rig = Rig::new(&yaml(2, 4, &format!("{}guards:\n  budget: 0\n", pools(3))));
    let up = rig.up(5);
    let of = |rig: &Rig, pool: &str| -> Vec<InstanceId> {
        let here = |id: &&InstanceId| rig.instance(id).pool.as_str() == pool;
        up.iter().filter(here).cloned().collect()
    };
    // One that is sick is ended by a person, and its cloud takes its time.
    let sick = of(&rig, "pool-0").remove(0);
    rig.xid(&sick, 79, 0);
    rig.take(Input::Command {
        node: NodeId::new(sick.as_str()),
        kind: NodeCommandType::Terminate,
        parameters: [].into(),
    });
    for second in 0..700 {
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
    }
    assert_eq!(rig.instance(&sick).phase, Phase::Terminating);
    let others = ["main", "pool-1", "pool-2"].map(|pool| of(&rig, pool));
    for id in others.iter().flatten() {
        rig.xid(id, 79, 0);
    }
    // The rig compares each plan with the plan of every pool.
    for _ in 0..3 {
        rig.pass(1);
        rig.plan();
    }
    let opened = rig.count(EventKind::BreakerOpened);
    assert_eq!(opened, 4, "in each pool");
}

#[test]
fn a_size_that_is_asked_for_moves_the_budget_of_the_fleet() {
    let extra = format!("{}guards:\n  budget: 50%\n", pools(2));
    let mut rig = Rig::new(&yaml(1, 2, &extra));
    let up = rig.up(3);
    let of = |rig: &Rig, pool: &str| {
        let mut here = up
            .iter()
            .filter(|id| rig.instance(id).pool.as_str() == pool);
        here.next().cloned().expect("it has a machine")
    };
    let (first, waits) = (of(&rig, "pool-0"), of(&rig, "main"));
    rig.take(Input::ScalePool {
        pool: PoolName::new("pool-0"),
        nodes: 2,
        reason: String::new(),
    });
    rig.up(4);
    rig.take(Input::ScalePool {
        pool: PoolName::new("pool-0"),
        nodes: 1,
        reason: String::new(),
    });
    rig.xid(&first, 79, 0);
    rig.plan();
    rig.drop_calls();
    rig.xid(&waits, 48, 0);
    rig.plan();
    assert_eq!(rig.count(EventKind::DrainStarted), 1);
    // Two of four: the rig compares this plan with the plan of every pool.
    rig.take(Input::ScalePool {
        pool: PoolName::new("pool-0"),
        nodes: 2,
        reason: String::new(),
    });
    rig.plan();
    assert_eq!(rig.count(EventKind::DrainStarted), 2);
}

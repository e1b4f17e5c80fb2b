//! Which machines a pool lets go that has more than it needs.

use navarch_model::{EventKind, InstanceId, NodeId, Phase, PoolName};

use super::notices::told_yaml;
use super::{Rig, yaml};
use crate::Effect;
use crate::input::{Input, Signals};

/// A pool of so many machines that are old enough to be let go, of which one fewer is asked for from
/// now on.
fn one_too_many(count: usize) -> (Rig, Vec<InstanceId>) {
    let mut rig = Rig::new(&yaml(count, count + 4, ""));
    let up = rig.up(count);
    for _ in 0..40 {
        for id in rig.of(Phase::Running) {
            rig.full(&id, 45);
        }
        rig.run(20);
    }
    (rig, up)
}

/// The nodes that were drained.
fn drained(rig: &Rig) -> Vec<NodeId> {
    rig.events
        .values()
        .filter(|event| event.kind == EventKind::DrainStarted)
        .filter_map(|event| event.subject.node.clone())
        .collect()
}

/// A pool that repairs nothing, so that what goes goes because nobody asked for it.
fn one_asked_for() -> String {
    let manual = "budget: 1\n    health:\n      auto_replace: false\n";
    yaml(1, 6, "").replace("budget: 1\n", manual)
}

#[test]
fn a_machine_that_is_only_silent_goes_once_something_confirms_that_it_is_dead() {
    let (mut rig, up) = one_too_many(2);
    // A fleet of two has no witnesses.
    rig.silent(&up[0]);
    rig.configure(&one_asked_for());
    rig.full(&up[1], 45);
    rig.run(5);
    assert_eq!(drained(&rig), [], "nor does the healthy one in its place");
    let shown = rig.explain(&[(&up[0], "A"), (&up[1], "B")]);
    let shrinks = shown.iter().filter(|line| line.starts_with("shrink by"));
    assert_eq!(
        shrinks.collect::<Vec<_>>(),
        ["shrink by A waits for silence: it has not been silent long enough"]
    );
    let dead = NodeId::new(up[0].as_str());
    rig.take(Input::ConfirmDead {
        node: dead.clone(),
        reason: String::new(),
    });
    rig.run(5);
    assert_eq!(drained(&rig), [dead]);
}

#[test]
fn a_silent_machine_keeps_no_more_than_its_own_place() {
    let (mut rig, up) = one_too_many(3);
    rig.silent(&up[0]);
    rig.configure(&one_asked_for());
    for id in &up[1..] {
        rig.full(id, 45);
    }
    rig.run(5);
    let drained = drained(&rig);
    assert_eq!(drained.len(), 1, "{drained:?}");
    assert_ne!(drained[0].as_str(), up[0].as_str());
}

#[test]
fn of_machines_that_are_well_the_one_that_does_least_goes_then_the_youngest() {
    // Percent by machine, the oldest first, and which of them goes.
    for (used, goes) in [
        ([Some(90.0), Some(12.0), Some(55.0)], 1),
        ([Some(12.0), Some(90.0), None], 0),
        // Nothing but noise is between them.
        ([Some(41.0), Some(49.0), Some(44.0)], 2),
        ([None, None, None], 2),
    ] {
        let autoscaled = |min| {
            let reactive = "budget: 1\n    autoscaling: {type: reactive}\n";
            yaml(min, 6, "").replace("budget: 1\n", reactive)
        };
        let mut rig = Rig::new(&autoscaled(3));
        let mut up = rig.up(3);
        // Of machines of one moment the first by name goes first.
        up.sort_by_key(|id| {
            let instance = &rig.fleet.state().instances[id];
            (instance.created, std::cmp::Reverse(id.clone()))
        });
        for _ in 0..40 {
            for id in &up {
                rig.full(id, 45);
            }
            rig.run(20);
        }
        let measured = |(id, used): (&InstanceId, Option<f64>)| {
            Some((NodeId::new(id.as_str()), vec![used?; 8]))
        };
        let nodes = up.iter().zip(used).filter_map(measured).collect();
        rig.configure(&autoscaled(1));
        rig.take(Input::ScalePool {
            pool: PoolName::new("main"),
            nodes: 2,
            reason: String::new(),
        });
        rig.take(Input::Signals(Signals {
            nodes,
            queues: Vec::new(),
        }));
        rig.run(5);
        assert_eq!(drained(&rig), [NodeId::new(up[goes].as_str())], "{used:?}");
    }
}

#[test]
fn a_degraded_machine_that_is_not_needed_has_a_deadline_of_its_own() {
    for (celsius, limit) in [(45, 1200), (88, 300)] {
        let deadlines = "budget: 1\n    drain_deadline: {degraded: 5m, voluntary: 20m}\n";
        let with = |min| told_yaml(min, 2).replace("budget: 1\n", deadlines);
        let mut rig = Rig::new(&with(1));
        let id = rig.up(1).remove(0);
        rig.configure(&with(0));
        let (mut began, mut second) = (None, 0);
        while rig.instance(&id).phase == Phase::Running {
            assert!(second < 4000, "it goes at its deadline");
            if second % 20 == 0 {
                rig.full(&id, celsius);
            }
            rig.pass(1);
            rig.take(Input::Tick);
            rig.plan();
            for effect in std::mem::take(&mut rig.effects) {
                let answer = match effect {
                    Effect::AskDrained { node, since, .. } => Some(Input::DrainResult {
                        node,
                        since,
                        drained: Ok(false),
                    }),
                    other => rig.cloud(other),
                };
                if let Some(answer) = answer {
                    rig.take(answer);
                }
            }
            if began.is_none() && rig.node(&id).our_drain().is_some() {
                began = Some(second);
            }
            second += 1;
        }
        let took = second - began.expect("it is drained first");
        assert!(
            (limit - 5..=limit + 5).contains(&took),
            "{celsius}: {took} s"
        );
    }
}

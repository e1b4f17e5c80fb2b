//! What each limit stops, in the words of `explain`, and when it stops no more.

use navarch_model::{Automation, EventKind, InstanceId, Phase};

use super::{Rig, yaml};
use crate::input::Input;

/// The lines about one machine.
fn about(rig: &Rig, id: &InstanceId) -> Vec<String> {
    let all = rig.explain(&[(id, "A")]);
    all.into_iter()
        .filter(|line| line.contains(" A "))
        .collect()
}

#[test]
fn a_budget_of_nothing_means_never() {
    for (pool, fleet, scope) in [("0", "10%", "pool main"), ("10%", "0%", "the fleet")] {
        let text = yaml(4, 6, &format!("guards:\n  budget: {fleet}\n"))
            .replace("budget: 1\n", &format!("budget: {pool}\n"));
        let mut rig = Rig::new(&text);
        let id = rig.up(4).remove(0);
        rig.xid(&id, 79, 0);
        rig.run(60);
        assert_eq!(
            about(&rig, &id),
            [format!(
                "replace A waits for budget: the budget of {scope} is 0: no disruption is allowed"
            )]
        );
        assert_eq!(rig.count(EventKind::DrainStarted), 0);
    }
}

#[test]
fn a_budget_that_is_taken_names_how_much_of_it() {
    for (pool, fleet, line) in [
        ("1", "4", "1 of 1 disruptions of pool main are under way"),
        (
            "4",
            "1",
            "1 of 1 disruptions of the fleet are under way: B of pool main",
        ),
    ] {
        let text = yaml(4, 8, "").replace("budget: 1\n", &format!("budget: {pool}\n"));
        let text = format!("{text}guards:\n  budget: {fleet}\n");
        let mut rig = Rig::new(&text);
        let up = rig.up(4);
        rig.xid(&up[0], 79, 0);
        rig.run(2);
        assert_eq!(rig.count(EventKind::DrainStarted), 1);
        rig.xid(&up[1], 48, 0);
        rig.run(2);
        let wanted = format!("replace A waits for budget: {line}");
        let wanted = wanted.replace("B of", &format!("{} of", up[0]));
        assert_eq!(about(&rig, &up[1]), [wanted]);
    }
}

#[test]
fn a_pool_without_surge_launches_only_when_a_machine_is_gone() {
    let text = yaml(1, 1, "    max_surge: 0\n");
    let mut rig = Rig::new(&text);
    let id = rig.up(1).remove(0);
    rig.xid(&id, 79, 0);
    rig.plan();
    rig.plan();
    let line = "launch a machine to replace A waits for size: 1 machines may be alive; max_nodes 1 \
                + max_surge 0";
    let told = about(&rig, &id);
    assert!(told.contains(&line.to_owned()), "{told:#?}");
    rig.run(10);
    assert_eq!(rig.instance(&id).phase, Phase::Terminated);
    assert_eq!(rig.of(Phase::PendingRegistration).len(), 1);
}

#[test]
fn no_more_is_launched_within_an_hour_than_allowed() {
    let text = yaml(3, 8, "")
        .replace("per_hour: 60", "per_hour: 2")
        .replace("health_check_interval: 30s", "health_check_interval: 4h");
    let mut rig = Rig::new(&text);
    for _ in 0..3590 {
        rig.run(1);
        for id in rig.of(Phase::PendingRegistration) {
            rig.register(&id);
            rig.full(&id, 45);
        }
    }
    assert_eq!(rig.fleet.state().instances.len(), 2);
    assert_eq!(
        rig.explain(&[]),
        [
            "launch a machine waits for max_launches_per_hour: 2 launches within the last hour; the \
          limit is 2"
        ]
    );
    rig.run(20);
    assert_eq!(rig.fleet.state().instances.len(), 3, "the hour has passed");
}

#[test]
fn an_offering_that_never_had_an_active_machine_has_three_launches_at_a_time() {
    let mut rig = Rig::new(&yaml(5, 8, ""));
    rig.run(10);
    assert_eq!(rig.machines.len(), 3);
    assert_eq!(
        rig.explain(&[]),
        [
            "launch a machine waits for launch_breaker: fake/here/gpu has no ACTIVE machine yet: at \
          most 3 launches at a time"
        ]
    );
    let first = rig.of(Phase::PendingRegistration).remove(0);
    rig.register(&first);
    rig.run(2);
    assert_eq!(rig.machines.len(), 3, "it is not ACTIVE yet");
    rig.full(&first, 45);
    rig.run(5);
    assert_eq!(rig.machines.len(), 5);
}

#[test]
fn machines_that_an_operator_ends_do_not_count_against_their_offering() {
    let mut rig = Rig::new(&yaml(3, 8, ""));
    for _ in 0..2 {
        rig.run(5);
        for instance in rig.of(Phase::PendingRegistration) {
            rig.take(Input::EndInstance {
                instance,
                reason: String::new(),
            });
        }
    }
    rig.run(5);
    assert_eq!(rig.count(EventKind::BreakerOpened), 0);
    assert_eq!(rig.machines.len(), 3, "others are bought at once");
}

#[test]
fn an_offering_whose_breaker_opened_has_to_prove_itself_again() {
    let long =
        |text: String| text.replace("health_check_interval: 30s", "health_check_interval: 4h");
    let mut rig = Rig::new(&long(yaml(1, 12, "")));
    rig.up(1);
    // Three that never register, bought at once where a machine was ACTIVE.
    rig.configure(&long(yaml(4, 12, "")));
    rig.run(310);
    assert_eq!(rig.count(EventKind::BreakerOpened), 1);
    rig.configure(&long(yaml(9, 12, "")));
    rig.take(Input::ResetBreaker {
        pool: navarch_model::PoolName::new("main"),
        signature: None,
    });
    rig.run(10);
    assert_eq!(rig.of(Phase::PendingRegistration).len(), 3);
    assert_eq!(
        rig.explain(&[]),
        [
            "launch a machine waits for launch_breaker: fake/here/gpu has no ACTIVE machine yet: at \
          most 3 launches at a time"
        ]
    );
}

#[test]
fn a_young_machine_is_kept_when_a_pool_shrinks_and_replaced_when_it_breaks() {
    let mut rig = Rig::new(&yaml(2, 6, ""));
    let up = rig.up(2);
    rig.configure(&yaml(1, 6, ""));
    rig.run(2);
    let told = rig.explain(&[(&up[0], "A"), (&up[1], "A")]);
    assert_eq!(
        told,
        ["shrink by A waits for minimum_life: the machine is too young to let it go"]
    );
    rig.configure(&yaml(2, 6, ""));
    rig.xid(&up[0], 79, 0);
    rig.run(2);
    assert_eq!(
        rig.count(EventKind::DrainStarted),
        1,
        "no age is asked of it"
    );
    // Old enough, it goes when nobody asks for it.
    let mut rig = Rig::new(&yaml(2, 6, ""));
    let up = rig.up(2);
    rig.configure(&yaml(1, 6, ""));
    for _ in 0..24 {
        for id in rig.of(Phase::Running) {
            rig.full(&id, 45);
        }
        rig.run(24);
    }
    assert_eq!(rig.count(EventKind::DrainStarted), 0);
    for _ in 0..2 {
        for id in rig.of(Phase::Running) {
            rig.full(&id, 45);
        }
        rig.run(24);
    }
    let left = up
        .iter()
        .filter(|id| rig.instance(id).phase == Phase::Running);
    assert_eq!(left.count(), 1);
}

#[test]
fn a_node_that_beats_and_does_not_report_is_replaced() {
    let mut rig = Rig::new(&yaml(2, 4, ""));
    let up = rig.up(2);
    for second in 0..89 {
        if second % 20 == 0 {
            rig.full(&up[1], 45);
        }
        rig.run(1);
    }
    assert_eq!(rig.count(EventKind::IncidentOpened), 0);
    rig.full(&up[1], 45);
    rig.run(2);
    assert_eq!(
        rig.said(EventKind::DrainStarted),
        ["stale-reports (heartbeats, but no full report for 90 s) requires replace"]
    );
    assert!(rig.node(&up[0]).our_drain().is_some());
}

#[test]
fn automation_that_is_off_is_named() {
    let mut rig = Rig::new(&yaml(2, 4, ""));
    let id = rig.up(2).remove(0);
    rig.take(Input::SetAutomation {
        pool: None,
        mode: Automation::Off,
        reason: String::new(),
    });
    rig.xid(&id, 79, 0);
    rig.run(5);
    assert_eq!(
        about(&rig, &id),
        ["replace A waits for automation: automation is off"]
    );
}

#[test]
fn intents_that_were_given_up_before_any_call_are_no_launches() {
    let text = yaml(0, 8, "").replace("per_hour: 60", "per_hour: 3");
    let mut rig = Rig::new(&text);
    for nodes in [3, 0, 3] {
        rig.take(Input::ScalePool {
            pool: navarch_model::PoolName::new("main"),
            nodes,
            reason: String::new(),
        });
        rig.plan();
    }
    assert_eq!(rig.of(Phase::Failed).len(), 3);
    rig.run(5);
    assert_eq!(rig.machines.len(), 3);
    rig.take(Input::ScalePool {
        pool: navarch_model::PoolName::new("main"),
        nodes: 4,
        reason: String::new(),
    });
    rig.run(5);
    assert_eq!(rig.waits()[0].1, "max_launches_per_hour");
}

//! Repair breakers and budgets: when they open, what they wait for, and what they leave alone.

use std::collections::BTreeSet;

use navarch_model::{
    Automation, Breaker, EventKind, InstanceId, NodeId, NodeStatus, Phase, PoolName,
};

use super::{Rig, yaml};
use crate::input::{Input, Reply};

/// The rule that XID 79 matches.
pub(super) const RULE: &str = "xid-reboot";

/// A configuration with room for several disruptions at once.
pub(super) fn wide(count: usize, extra: &str) -> String {
    let guards = format!("guards:\n  budget: 100\n{extra}");
    yaml(count, count + 5, &guards).replace("budget: 1\n", "budget: 100\n")
}

pub(super) fn fleet(count: usize) -> (Rig, Vec<InstanceId>) {
    let mut rig = Rig::new(&wide(count, ""));
    let up = rig.up(count);
    (rig, up)
}

pub(super) fn breaker(rig: &Rig, pool: &str) -> Breaker {
    let pools = &rig.fleet.state().pools;
    pools
        .get(&PoolName::new(pool))
        .and_then(|memory| memory.repair_breakers.get(RULE))
        .cloned()
        .unwrap_or_default()
}

/// Seconds in which new machines register and every machine that has no fault is well.
pub(super) fn go(rig: &mut Rig, seconds: u64) {
    for second in 0..seconds {
        rig.run(1);
        for id in rig.of(Phase::PendingRegistration) {
            rig.register(&id);
        }
        if second % 25 == 0 {
            well(rig);
        }
    }
}

fn well(rig: &mut Rig) {
    for id in rig.of(Phase::Running) {
        if rig.instance(&id).node.is_some() {
            rig.full(&id, 45);
        }
    }
}

fn drains(rig: &Rig) -> u32 {
    rig.count(EventKind::DrainStarted)
}

/// The nodes that were ever drained.
fn touched(rig: &Rig) -> BTreeSet<NodeId> {
    rig.events
        .values()
        .filter(|event| event.kind == EventKind::DrainStarted)
        .filter_map(|event| event.subject.node.clone())
        .collect()
}

pub(super) fn hit(rig: &mut Rig, ids: &[InstanceId]) {
    for id in ids {
        rig.xid(id, 79, 0);
    }
}

#[test]
fn more_than_three_nodes_open_the_breaker_and_three_do_not() {
    for (count, opens) in [(3, false), (4, true)] {
        let (mut rig, up) = fleet(8);
        hit(&mut rig, &up[..count]);
        rig.plan();
        assert_eq!(breaker(&rig, "main").is_open(), opens, "{count}");
        assert_eq!(drains(&rig) > 0, !opens, "{count}");
    }
}

#[test]
fn hits_on_one_node_are_one() {
    let (mut rig, up) = fleet(8);
    for gpu in 0..2 {
        rig.xid(&up[0], 79, gpu);
        rig.xid(&up[1], 79, gpu);
    }
    rig.plan();
    assert!(!breaker(&rig, "main").is_open());
}

#[test]
fn hits_further_apart_than_the_window_are_not_at_once() {
    let text = wide(8, "").replace("budget: 100\n", "budget: 0\n");
    let mut rig = Rig::new(&text);
    let up = rig.up(8);
    hit(&mut rig, &up[..3]);
    go(&mut rig, 599);
    hit(&mut rig, &up[3..4]);
    rig.plan();
    assert!(breaker(&rig, "main").is_open(), "599 s are at once");

    let mut rig = Rig::new(&text);
    let up = rig.up(8);
    hit(&mut rig, &up[..3]);
    go(&mut rig, 600);
    hit(&mut rig, &up[3..4]);
    rig.plan();
    assert!(!breaker(&rig, "main").is_open());
}

#[test]
fn a_new_hit_starts_the_wait_again() {
    let (mut rig, up) = fleet(8);
    hit(&mut rig, &up[..4]);
    go(&mut rig, 540);
    assert_eq!(drains(&rig), 0);
    hit(&mut rig, &up[4..5]);
    // Ten minutes after it opened, and nearly ten after the new hit.
    go(&mut rig, 595);
    assert_eq!(drains(&rig), 0);
    go(&mut rig, 10);
    assert_eq!(drains(&rig), 1, "one node is the probe");
    let probe = breaker(&rig, "main").probe;
    let drained: Vec<String> = touched(&rig).iter().map(ToString::to_string).collect();
    assert_eq!(drained, probe.into_iter().collect::<Vec<_>>());
}

#[test]
fn a_condition_that_turned_unhealthy_counts_from_then() {
    let (mut rig, up) = fleet(8);
    // Warm for longer than the window, then too hot: by another rule.
    for _ in 0..30 {
        for id in &up {
            rig.full(id, 87);
        }
        rig.run(30);
    }
    assert_eq!(rig.count(EventKind::IncidentOpened), 16, "two GPUs each");
    for id in &up[..4] {
        rig.full(id, 97);
    }
    rig.plan();
    let memory = &rig.fleet.state().pools[&PoolName::new("main")];
    assert_eq!(
        memory
            .repair_breakers
            .values()
            .filter(|one| one.is_open())
            .count(),
        1
    );
}

#[test]
fn incidents_that_a_new_policy_gives_to_another_rule_are_hits_of_that_rule() {
    let rule = |name: &str| {
        let text = format!(
            "rules:\n  - name: {name}\n    condition: event.event_type == \"xid\"\n    result: \
             unhealthy\n    class: bus\n    action: replace\n"
        );
        let policy = navarch_policy::HealthPolicy::parse("test", &text);
        Input::SetPolicy(std::sync::Arc::new(
            policy.unwrap_or_else(|errors| panic!("{errors:?}")),
        ))
    };
    let text = wide(8, "").replace("budget: 100\n", "budget: 0\n");
    let mut rig = Rig::new(&text);
    let up = rig.up(8);
    rig.take(rule("old"));
    for id in &up[..4] {
        go(&mut rig, 250);
        rig.xid(id, 79, 0);
    }
    go(&mut rig, 700);
    assert_eq!(rig.count(EventKind::BreakerOpened), 0, "too far apart");
    rig.take(rule("new"));
    rig.plan();
    assert_eq!(
        rig.said(EventKind::BreakerOpened),
        ["repair breaker of new: seen on too many nodes at once"]
    );
}

#[test]
fn a_probe_that_stays_active_for_ten_minutes_closes_the_breaker() {
    let (mut rig, up) = fleet(8);
    hit(&mut rig, &up[..4]);
    go(&mut rig, 605);
    assert_eq!(drains(&rig), 1);
    let replacement = |rig: &Rig| {
        let found =
            rig.fleet.state().instances.values().find(|instance| {
                matches!(&instance.cause, navarch_model::LaunchCause::Replace { .. })
            });
        found.and_then(|one| one.active_since)
    };
    while replacement(&rig).is_none() {
        go(&mut rig, 1);
    }
    go(&mut rig, 598);
    assert!(breaker(&rig, "main").is_open());
    assert_eq!(drains(&rig), 1);
    go(&mut rig, 5);
    assert_eq!(rig.count(EventKind::BreakerClosed), 1);
    assert!(!breaker(&rig, "main").is_open());
    // What was hit before the probe opens nothing again: the rest is repaired.
    go(&mut rig, 120);
    assert_eq!(touched(&rig).len(), 4);
    assert_eq!(rig.count(EventKind::BreakerOpened), 1);
}

#[test]
fn a_breaker_that_its_probe_closed_does_not_open_again_on_what_was_hit_before() {
    // It closes long before the window in which the nodes were counted is over.
    let short = "  breaker:\n    wait: 30s\n    confirm: 30s\n";
    let mut rig = Rig::new(&wide(8, short));
    let up = rig.up(8);
    hit(&mut rig, &up[..4]);
    go(&mut rig, 200);
    assert_eq!(rig.count(EventKind::BreakerOpened), 1);
    assert_eq!(rig.count(EventKind::BreakerClosed), 1);
    let began = rig
        .events
        .values()
        .find(|event| event.kind == EventKind::DrainStarted);
    let began = began.map(|event| event.at);
    assert_eq!(breaker(&rig, "main").reset, began, "when the probe began");
    assert_eq!(touched(&rig).len(), 4, "the rest is repaired");
}

#[test]
fn a_probe_that_fails_doubles_the_wait_up_to_a_day() {
    let (mut rig, up) = fleet(8);
    hit(&mut rig, &up[..4]);
    rig.plan();
    let pool = PoolName::new("main");
    let judge = |rig: &mut Rig, proven| {
        rig.take(Input::Act(crate::Action::JudgeProbe {
            pool: pool.clone(),
            signature: RULE.to_owned(),
            proven,
        }));
        let breaker = breaker(rig, "main");
        breaker
            .probe_at
            .map(|at| at.since(rig.now.core).as_secs() / 60)
    };
    let waits: Vec<_> = (0..9).map(|_| judge(&mut rig, false)).collect();
    let minutes = [20, 40, 80, 160, 320, 640, 1280, 1440, 1440].map(Some);
    assert_eq!(waits, minutes);
    // One that is proven forgets them.
    assert_eq!(judge(&mut rig, true), None);
    assert_eq!(breaker(&rig, "main").trips, 0);
}

#[test]
fn a_reset_forgets_what_was_hit_before_it() {
    let (mut rig, up) = fleet(8);
    hit(&mut rig, &up[..4]);
    rig.run(2);
    assert!(breaker(&rig, "main").is_open());
    let reset = |signature: Option<&str>| Input::ResetBreaker {
        pool: PoolName::new("main"),
        signature: signature.map(str::to_owned),
    };
    assert!(rig.feed(reset(Some("another"))).is_err());
    assert_eq!(
        rig.take(reset(Some(RULE))),
        Reply::Reset(vec![RULE.to_owned()])
    );
    go(&mut rig, 60);
    assert!(!breaker(&rig, "main").is_open(), "old hits do not open it");
    assert_eq!(touched(&rig).len(), 4, "the repairs go on");
    // Three more are not enough, and a fourth is.
    let text = wide(8, "").replace("budget: 100\n", "budget: 0\n");
    rig.configure(&text);
    hit(&mut rig, &up[4..7]);
    rig.run(1);
    assert!(!breaker(&rig, "main").is_open());
    hit(&mut rig, &up[7..8]);
    rig.run(1);
    assert!(breaker(&rig, "main").is_open());
}

/// Another pool, `other`.
fn other(count: usize) -> String {
    format!(
        "  other:
    provider: fake
    instance_type: gpu
    region: here
    min_nodes: {count}
    max_nodes: {}
    budget: 100
    max_launches_per_hour: 60
guards:
  budget: 100
",
        count + 5
    )
}

/// Two pools of six, and their machines by pool.
fn two_pools() -> (Rig, Vec<InstanceId>, Vec<InstanceId>) {
    let mut rig = Rig::new(&yaml(6, 11, &other(6)).replace("budget: 1\n", "budget: 100\n"));
    let up = rig.up(12);
    let (main, others) = up
        .into_iter()
        .partition(|id| rig.instance(id).pool.as_str() == "main");
    (rig, main, others)
}

#[test]
fn a_signature_on_too_many_nodes_of_the_fleet_opens_a_breaker_in_each_pool() {
    let (mut rig, main, others) = two_pools();
    hit(&mut rig, &main[..2]);
    hit(&mut rig, &others[..2]);
    rig.plan();
    for pool in ["main", "other"] {
        let breaker = breaker(&rig, pool);
        assert!(breaker.is_open() && breaker.fleet, "{pool}");
    }
    assert_eq!(drains(&rig), 0);
    let said = rig.said(EventKind::BreakerOpened);
    let words = "repair breaker of xid-reboot: seen on too many nodes of the fleet at once";
    assert_eq!(said, [words, words]);
    // One node of the whole fleet is the probe.
    go(&mut rig, 900);
    assert_eq!(drains(&rig), 1);
    let probes = ["main", "other"].map(|pool| breaker(&rig, pool).probe.is_some());
    assert_eq!(probes.iter().filter(|probe| **probe).count(), 1);
    // And it closes both.
    go(&mut rig, 600);
    assert!(!breaker(&rig, "main").is_open());
    assert!(!breaker(&rig, "other").is_open());
    go(&mut rig, 120);
    assert_eq!(touched(&rig).len(), 4);
}

#[test]
fn two_hits_in_each_of_two_pools_and_three_in_all_are_no_breaker() {
    let (mut rig, main, others) = two_pools();
    hit(&mut rig, &main[..2]);
    hit(&mut rig, &others[..1]);
    rig.plan();
    assert!(!breaker(&rig, "main").is_open());
    assert!(drains(&rig) > 0);
}

#[test]
fn a_pool_that_is_hit_later_joins_the_breaker_of_the_fleet_and_a_reset_ends_it_for_all() {
    let (mut rig, main, others) = two_pools();
    hit(&mut rig, &main[..3]);
    hit(&mut rig, &others[..1]);
    rig.take(Input::SetAutomation {
        pool: None,
        mode: Automation::Observe,
        reason: String::new(),
    });
    rig.run(2);
    assert!(breaker(&rig, "other").fleet);
    rig.take(Input::ResetBreaker {
        pool: PoolName::new("other"),
        signature: Some(RULE.to_owned()),
    });
    assert!(!breaker(&rig, "main").is_open());
    assert!(!breaker(&rig, "other").is_open());
    rig.run(2);
    assert!(!breaker(&rig, "main").is_open());
    assert_eq!(rig.count(EventKind::BreakerClosed), 2);
}

#[test]
fn a_pool_whose_own_breaker_opened_first_has_no_probe_beside_that_of_the_fleet() {
    let (mut rig, main, others) = two_pools();
    hit(&mut rig, &main[..4]);
    rig.plan();
    assert!(!breaker(&rig, "main").fleet, "it is the pool's own");
    hit(&mut rig, &others[..1]);
    rig.plan();
    assert!(breaker(&rig, "other").fleet);
    go(&mut rig, 660);
    assert_eq!(drains(&rig), 1);
}

/// A breaker of the fleet whose probe, in the pool `main`, has just begun. Answers the nodes of `other`
/// that are hit as well.
fn probing() -> (Rig, Vec<InstanceId>) {
    let (mut rig, main, others) = two_pools();
    hit(&mut rig, &main[..2]);
    hit(&mut rig, &others[..2]);
    for _ in 0..900 {
        go(&mut rig, 1);
        if breaker(&rig, "main").probe.is_some() {
            break;
        }
    }
    assert!(breaker(&rig, "main").probe.is_some());
    assert!(breaker(&rig, "other").fleet);
    assert_eq!(drains(&rig), 1);
    (rig, others[..2].to_vec())
}

/// How many of these were ever drained.
fn drained(rig: &Rig, ids: &[InstanceId]) -> usize {
    let touched = touched(rig);
    ids.iter()
        .filter(|id| touched.contains(&NodeId::new(id.as_str())))
        .count()
}

#[test]
fn a_probe_in_a_pool_that_is_no_longer_configured_holds_no_other_pool_up() {
    let (mut rig, sick) = probing();
    let only = |pool: &str| wide(6, "").replace("  main:\n", &format!("  {pool}:\n"));
    rig.configure(&only("other"));
    go(&mut rig, 10);
    assert!(breaker(&rig, "main").probe.is_some(), "nobody judges it");
    assert_eq!(drained(&rig, &sick), 1, "a probe of its own");
    go(&mut rig, 900);
    assert!(!breaker(&rig, "other").is_open());
    assert_eq!(drained(&rig, &sick), 2);
}

#[test]
fn a_probe_in_a_paused_pool_is_named_by_those_that_wait_for_it() {
    let (mut rig, sick) = probing();
    let waits = |rig: &Rig| {
        let waits = &rig.report.pools[&PoolName::new("other")].waits;
        let of_breaker = waits.iter().filter(|wait| wait.guard == "breaker");
        let reasons = of_breaker.map(|wait| wait.reason.clone());
        reasons.collect::<Vec<_>>()
    };
    let causes = |rig: &Rig| {
        let waits = &rig.report.pools[&PoolName::new("other")].waits;
        let of_breaker = waits.iter().filter(|wait| wait.guard == "breaker");
        of_breaker.map(|wait| wait.cause).collect::<BTreeSet<_>>()
    };
    rig.run(1);
    let running = waits(&rig);
    assert_eq!(running.len(), 2);
    for mode in [Automation::Off, Automation::Observe, Automation::On] {
        rig.take(Input::SetAutomation {
            pool: Some(PoolName::new("main")),
            mode,
            reason: "maintenance".to_owned(),
        });
        rig.run(1);
        let said = match mode {
            Automation::On => String::new(),
            mode => format!("; it is in pool main, whose automation is {}", mode.word()),
        };
        let expected: Vec<_> = running
            .iter()
            .map(|reason| format!("{reason}{said}"))
            .collect();
        assert_eq!(waits(&rig), expected);
        let cause = match mode {
            Automation::On => "probing",
            Automation::Off | Automation::Observe => "paused",
        };
        assert_eq!(causes(&rig), [cause].into());
    }
    assert_eq!(drained(&rig, &sick), 0);
    go(&mut rig, 900);
    assert_eq!(drained(&rig, &sick), 2, "it went on");
}

#[test]
fn breakers_leave_alone_what_was_never_admitted() {
    // Machines that are sick from their first report, beside an open breaker of the same rule.
    let (mut rig, up) = fleet(8);
    hit(&mut rig, &up[..4]);
    rig.run(2);
    assert!(breaker(&rig, "main").is_open());
    rig.configure(&wide(9, ""));
    let mut sick = None;
    for _ in 0..20 {
        rig.run(1);
        for id in rig.of(Phase::PendingRegistration) {
            rig.register(&id);
            rig.xid(&id, 79, 0);
            sick = Some(id);
        }
    }
    let sick = sick.expect("it grew");
    rig.run(20);
    assert!(!rig.instance(&sick).was_active);
    assert_eq!(rig.instance(&sick).phase, Phase::Terminated);
    let open = breaker(&rig, "main");
    assert_eq!((open.probe.as_deref(), open.trips), (None, 0));
    let drained: Vec<String> = touched(&rig).iter().map(ToString::to_string).collect();
    assert!(
        drained
            .iter()
            .all(|id| up.iter().all(|one| one.as_str() != id)),
        "none that served: {drained:?}"
    );
}

#[test]
fn a_machine_that_came_sick_goes_while_the_budget_is_taken() {
    let mut rig = Rig::new(&yaml(3, 6, ""));
    let up = rig.up(3);
    rig.xid(&up[0], 79, 0);
    rig.run(10);
    let replacement = rig.of(Phase::PendingRegistration);
    assert_eq!(replacement.len(), 1);
    rig.configure(&yaml(4, 6, ""));
    rig.run(10);
    let mut grown = rig.of(Phase::PendingRegistration);
    grown.retain(|id| !replacement.contains(id));
    let sick = grown.remove(0);
    rig.register(&sick);
    rig.xid(&sick, 79, 0);
    rig.run(5);
    // The one slot is taken until the replacement is ACTIVE.
    assert_eq!(rig.instance(&up[0]).phase, Phase::Running);
    assert!(rig.node(&up[0]).our_drain().is_some());
    assert!(!rig.instance(&sick).phase.counts_as_capacity());
}

#[test]
fn a_small_pool_does_not_wait_for_a_replacement_that_came_sick() {
    let mut rig = Rig::new(&yaml(2, 4, ""));
    let up = rig.up(2);
    rig.xid(&up[0], 79, 0);
    let mut came = None;
    for _ in 0..120 {
        rig.run_well(&up[1], 1);
        for id in rig.of(Phase::PendingRegistration) {
            rig.register(&id);
            if came.is_none() {
                rig.xid(&id, 79, 0);
                came = Some(id);
            } else {
                rig.full(&id, 45);
            }
        }
    }
    let came = came.expect("a replacement");
    assert_eq!(rig.instance(&came).phase, Phase::Terminated);
    assert_eq!(rig.of(Phase::Running).len(), 2);
}

#[test]
fn machines_that_are_sick_on_arrival_do_not_hold_an_open_launch_breaker_for_ever() {
    // The offering is proven, so that all five are bought at once; none of them is ever well.
    let (mut rig, up) = fleet(4);
    rig.configure(&wide(9, ""));
    for second in 0..900 {
        rig.run(1);
        for id in rig.of(Phase::PendingRegistration) {
            rig.register(&id);
        }
        if second % 20 == 0 {
            for id in rig.of(Phase::Running) {
                let celsius = if up.contains(&id) { 45 } else { 97 };
                rig.full(&id, celsius);
            }
        }
    }
    let memory = &rig.fleet.state().pools[&PoolName::new("main")];
    assert!(memory.offerings.values().all(|one| one.breaker.is_open()));
    // The breaker let probes through after its waits, which takes that nothing is outstanding.
    let bought = rig.fleet.state().instances.len();
    assert!(bought > 9, "{bought}");
    for id in &up {
        assert_eq!(rig.node(id).status(), NodeStatus::Active, "{id}");
    }
}

#[test]
fn replacements_under_way_do_not_raise_the_budget() {
    // Seven of twenty, and eight of twenty-three.
    let text = yaml(20, 40, "guards:\n  budget: 100%\n").replace("budget: 1\n", "budget: 35%\n");
    let mut rig = Rig::new(&text);
    let up = rig.up(20);
    let pool = PoolName::new("main");
    assert_eq!(rig.report.pools[&pool].budget, (0, 7));
    hit(&mut rig, &up[..3]);
    // Their replacements are bought and do not register yet.
    rig.run(40);
    let report = &rig.report.pools[&pool];
    assert_eq!((report.capacity, report.leaving), (23, 3));
    assert_eq!(report.budget, (3, 7));
}

/// Seconds in which nothing new registers and every machine that serves is well but for its faults.
fn go_unregistered(rig: &mut Rig, seconds: u64) {
    for second in 0..seconds {
        rig.run(1);
        if second % 25 == 0 {
            well(rig);
        }
    }
}

#[test]
fn a_repair_in_a_pool_that_has_its_size_is_the_launch_that_an_open_launch_breaker_tries() {
    let (mut rig, up) = fleet(4);
    let size = |nodes| Input::ScalePool {
        pool: PoolName::new("main"),
        nodes,
        reason: String::new(),
    };
    // Three that are paid for and never register open the breaker of the only offering.
    rig.take(size(7));
    while rig.count(EventKind::BreakerOpened) == 0 {
        go_unregistered(&mut rig, 1);
    }
    rig.take(size(4));
    let bought = |rig: &Rig| rig.fleet.state().instances.len();
    assert_eq!(bought(&rig), 7);
    hit(&mut rig, &up[..2]);
    // It waits for five minutes, and nothing else is to be bought.
    go_unregistered(&mut rig, 290);
    assert_eq!((drains(&rig), bought(&rig)), (0, 7));
    let behind = |rig: &Rig| -> Vec<String> {
        let waits = rig.report.pools[&PoolName::new("main")].waits.iter();
        let waits = waits.filter(|wait| wait.guard == "launch_breaker");
        waits.map(|wait| wait.cause.to_owned()).collect()
    };
    assert_eq!(behind(&rig), ["open", "open"]);
    // Then one repair begins, and the other waits for what comes of it.
    go_unregistered(&mut rig, 20);
    assert_eq!((drains(&rig), bought(&rig)), (1, 8));
    assert_eq!(behind(&rig), ["probing"]);
    // Nothing does: the sick machine is kept until there is another in its place.
    go_unregistered(&mut rig, 310);
    assert_eq!((drains(&rig), bought(&rig)), (1, 8));
    assert_eq!(rig.of(Phase::Running), up);
    assert_eq!(behind(&rig), ["open", "open"], "its launch, and the other");
    // The next is well, and the other repair goes on.
    go(&mut rig, 1000);
    assert_eq!((drains(&rig), bought(&rig)), (2, 10));
    assert_eq!(touched(&rig).len(), 2, "no healthy node");
    assert_eq!(rig.of(Phase::Running).len(), 4);
    assert_eq!(behind(&rig), [""; 0]);
}

#[test]
fn a_pool_that_is_hit_no_more_does_not_join_a_breaker_that_opens_elsewhere() {
    let text = yaml(6, 11, &other(6)).replace("budget: 1\n", "budget: 0\n");
    let mut rig = Rig::new(&text);
    let up = rig.up(12);
    let (main, others): (Vec<_>, Vec<_>) = up
        .into_iter()
        .partition(|id| rig.instance(id).pool.as_str() == "main");
    hit(&mut rig, &main[..1]);
    go(&mut rig, 600);
    // Its fault is shown still, and no hit of the window any more.
    hit(&mut rig, &others[..4]);
    rig.plan();
    assert!(breaker(&rig, "other").is_open() && !breaker(&rig, "other").fleet);
    assert!(!breaker(&rig, "main").is_open());
}

#[test]
fn what_was_hit_at_the_moment_of_a_reset_is_forgotten_with_it() {
    let (mut rig, up) = fleet(8);
    hit(&mut rig, &up[..4]);
    rig.plan();
    assert!(breaker(&rig, "main").is_open());
    rig.take(Input::ResetBreaker {
        pool: PoolName::new("main"),
        signature: None,
    });
    rig.plan();
    assert!(!breaker(&rig, "main").is_open());
    assert_eq!(rig.count(EventKind::BreakerOpened), 1);
}

#[test]
fn a_breaker_of_one_pool_closes_though_another_pool_shows_its_signature() {
    let never = |text: String| text.replace("budget: 100\n", "budget: 0\n");
    let mut rig = Rig::new(&never(yaml(6, 11, &other(6))));
    let up = rig.up(12);
    let (main, others): (Vec<_>, Vec<_>) = up
        .into_iter()
        .partition(|id| rig.instance(id).pool.as_str() == "main");
    hit(&mut rig, &main[..4]);
    rig.plan();
    go(&mut rig, 300);
    hit(&mut rig, &others[..1]);
    rig.plan();
    for (id, incident) in rig.fleet.state().incidents.clone() {
        if main
            .iter()
            .any(|one| incident.key.node.as_str() == one.as_str())
        {
            rig.take(Input::CloseIncident {
                incident: id,
                reason: String::new(),
            });
        }
    }
    go(&mut rig, 290);
    assert!(breaker(&rig, "main").is_open(), "its wait is not over");
    go(&mut rig, 20);
    assert!(!breaker(&rig, "main").is_open());
    assert!(breaker(&rig, "other").is_open(), "it shows it");
}

#[test]
fn a_breaker_that_joins_those_of_the_fleet_waits_as_long_as_they_do() {
    let third = other(6).replace("  other:\n", "  third:\n");
    let (third, _) = third.split_once("guards:").expect("it has guards");
    let text = yaml(6, 11, &format!("{third}{}", other(6)));
    let mut rig = Rig::new(&text.replace("budget: 1\n", "budget: 100\n"));
    let up = rig.up(18);
    let of = |rig: &Rig, pool: &str, count: usize| -> Vec<InstanceId> {
        let here = up
            .iter()
            .filter(|id| rig.instance(id).pool.as_str() == pool);
        here.take(count).cloned().collect()
    };
    for pool in ["main", "other"] {
        let sick = of(&rig, pool, 2);
        hit(&mut rig, &sick);
    }
    rig.plan();
    assert!(breaker(&rig, "main").fleet && breaker(&rig, "other").fleet);
    // Two tries did not help: the wait is forty minutes now.
    for _ in 0..2 {
        rig.take(Input::Act(crate::Action::JudgeProbe {
            pool: PoolName::new("main"),
            signature: RULE.to_owned(),
            proven: false,
        }));
    }
    let sick = of(&rig, "third", 1);
    hit(&mut rig, &sick);
    let last = rig.now.core;
    rig.plan();
    let joined = breaker(&rig, "third");
    assert!(joined.fleet);
    let waits = joined.probe_at.map(|at| at.since(last).as_secs());
    assert_eq!((joined.trips, waits), (2, Some(2400)));
}

#[test]
fn a_breaker_of_the_fleet_that_tries_nothing_yet_says_nothing_of_a_paused_probe() {
    let (mut rig, main, others) = two_pools();
    hit(&mut rig, &main[..2]);
    hit(&mut rig, &others[..2]);
    rig.plan();
    rig.take(Input::SetAutomation {
        pool: Some(PoolName::new("main")),
        mode: Automation::Off,
        reason: String::new(),
    });
    rig.plan();
    let waits = &rig.report.pools[&PoolName::new("other")].waits;
    let of_breaker = waits.iter().filter(|wait| wait.guard == "breaker");
    let causes: Vec<_> = of_breaker.map(|wait| wait.cause).collect();
    assert_eq!(causes, ["open", "open"]);
}

#[test]
fn a_replacement_that_went_with_what_it_was_for_is_not_waited_for() {
    let (mut rig, up) = fleet(3);
    hit(&mut rig, &up[..1]);
    rig.run(10);
    let coming = rig.of(Phase::PendingRegistration).remove(0);
    for instance in [coming, up[0].clone()] {
        let reason = String::new();
        rig.take(Input::EndInstance { instance, reason });
    }
    rig.run(5);
    hit(&mut rig, &up[1..2]);
    rig.run(1);
    let line = "replace B waits for small_pool: the previous replacement for xid-reboot ended \
                without a machine";
    let told = rig.explain(&[(&up[1], "B")]);
    assert!(told.contains(&line.to_owned()), "{told:#?}");
    go(&mut rig, 620);
    assert_eq!(drains(&rig), 2);
}

#[test]
fn a_repair_that_was_taken_back_is_none_that_the_next_one_of_a_small_pool_waits_for() {
    let (mut rig, up) = fleet(2);
    hit(&mut rig, &up[..1]);
    rig.plan();
    assert_eq!(drains(&rig), 1);
    let incident = rig.node(&up[0]).open_incidents.keys().next().cloned();
    rig.take(Input::CloseIncident {
        incident: incident.expect("it is open"),
        reason: String::new(),
    });
    rig.plan();
    assert!(rig.node(&up[0]).our_drain().is_none());
    hit(&mut rig, &up[1..2]);
    rig.plan();
    assert_eq!(drains(&rig), 2);
}

//! Stories of whole fleets: what is done, what is left alone, and what `explain` says of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use navarch_model::{
    CloudStatus, EventKind, InstanceId, NodeId, NodeStatus, Phase, PoolName, ProviderError,
    ProviderErrorKind,
};
use navarch_policy::HealthPolicy;

use super::{Rig, yaml};
use crate::input::{Effect, Input};

/// A fleet whose machines are well without saying so for hours. Replacement by silence takes three
/// minutes.
fn fleet(count: usize, max: usize, budget: &str) -> (Rig, Vec<InstanceId>) {
    let extra = "guards:\n  silence_replace_after: 3m\n  budget: 100%\n";
    let text = yaml(count, max, extra)
        .replace("health_check_interval: 30s", "health_check_interval: 4h")
        .replace("budget: 1\n", &format!("budget: {budget}\n"))
        .replace("per_hour: 60", "per_hour: 1000");
    let mut rig = Rig::new(&text);
    let up = rig.up(count);
    rig.run(5);
    (rig, up)
}

/// What `explain` says of one node that waits to be replaced.
fn why(rig: &Rig, id: &InstanceId) -> String {
    let all = rig.explain(&[(id, "A")]);
    let about = all.iter().find(|line| line.starts_with("replace A "));
    about.unwrap_or_else(|| panic!("{all:#?}")).clone()
}

/// Seconds in which new machines come up well.
fn go(rig: &mut Rig, seconds: u64) {
    for _ in 0..seconds {
        rig.run(1);
        for id in rig.of(Phase::PendingRegistration) {
            rig.register(&id);
            rig.full(&id, 45);
        }
    }
}

/// The same, five seconds at a time.
fn slow(rig: &mut Rig, steps: u64) {
    for _ in 0..steps {
        rig.pass(4);
        go(rig, 1);
    }
}

/// The nodes that were ever drained.
fn touched(rig: &Rig) -> BTreeSet<NodeId> {
    rig.events
        .values()
        .filter(|event| event.kind == EventKind::DrainStarted)
        .filter_map(|event| event.subject.node.clone())
        .collect()
}

/// What was said of a node by one kind of event.
fn said_of(rig: &Rig, kind: EventKind, id: &InstanceId) -> Vec<String> {
    rig.events
        .values()
        .filter(|event| event.kind == kind)
        .filter(|event| {
            event
                .subject
                .node
                .as_ref()
                .is_some_and(|node| node.as_str() == id.as_str())
        })
        .map(|event| event.message.replace(id.as_str(), "A"))
        .collect()
}

#[test]
fn two_hundred_nodes_report_a_new_rule_within_a_minute() {
    let (mut rig, up) = fleet(200, 230, "10%");
    let text = "rules:
  - name: new-rule
    condition: event.event_type == \"xid\" && event.metrics.xid_code == 500
    result: unhealthy
    action: replace
  - name: rest
    condition: \"true\"
    result: healthy
";
    let policy = HealthPolicy::parse("new.yaml", text).unwrap_or_else(|error| panic!("{error:?}"));
    rig.take(Input::SetPolicy(Arc::new(policy)));
    for second in 0..60 {
        for id in &up[second * 200 / 60..(second + 1) * 200 / 60] {
            rig.xid(id, 500, 0);
        }
        go(&mut rig, 1);
    }
    let opened = touched(&rig);
    assert!((1..=20).contains(&opened.len()), "{}", opened.len());
    assert_eq!(
        rig.said(EventKind::BreakerOpened),
        ["repair breaker of new-rule: seen on too many nodes at once"]
    );
    // Nothing more is touched while the breaker waits for ten quiet minutes.
    slow(&mut rig, 118);
    assert_eq!(touched(&rig), opened);
    // The plan report and `explain` name the rule, and so does one event for each node.
    let last = &up[199];
    let waits = &rig.report.pools[&PoolName::new("main")].waits;
    let blocked = waits.iter().filter(|wait| wait.guard == "breaker").count();
    assert_eq!(blocked, 200 - opened.len());
    let line = "replace A waits for breaker: open for new-rule: seen on too many nodes at once";
    let told = rig.explain(&[(last, "A")]);
    assert!(told.contains(&line.to_owned()), "{told:#?}");
    assert_eq!(
        said_of(&rig, EventKind::GuardBlocked, last),
        ["replace A waits: open for new-rule: seen on too many nodes at once"]
    );
    // Then one node is tried.
    slow(&mut rig, 12);
    assert_eq!(touched(&rig).len(), opened.len() + 1);
    let told = rig.explain(&[(last, "A")]);
    let probe = rig.fleet.state().pools[&PoolName::new("main")].repair_breakers["new-rule"]
        .probe
        .clone()
        .expect("a probe");
    let line = format!(
        "replace A waits for breaker: open for new-rule: {probe} is replaced first, and its \
         replacement has not proven itself yet"
    );
    assert!(told.contains(&line), "{told:#?}");
}

#[test]
fn an_image_that_never_registers_costs_three_machines_and_touches_no_healthy_node() {
    let (mut rig, up) = fleet(5, 8, "2");
    let broken = &up[0];
    rig.xid(broken, 79, 0);
    let bought = |rig: &Rig| {
        let all = rig.fleet.state().instances.values();
        all.filter(|one| one.launches > 0).count() - up.len()
    };
    for _ in 0..1200 {
        rig.run(1);
        if rig.count(EventKind::BreakerOpened) > 0 {
            break;
        }
    }
    assert_eq!(bought(&rig), 3);
    assert_eq!(
        rig.said(EventKind::BreakerOpened),
        ["launch breaker of fake/here/gpu: 3 machines never became ACTIVE"]
    );
    rig.run(290);
    assert_eq!(bought(&rig), 3, "none before the first probe");
    assert_eq!(
        rig.explain(&[(broken, "A")]),
        [
            "terminate A waits for replacement: its replacement is not asked for yet",
            "launch a machine to replace A waits for launch_breaker: open for fake/here/gpu after \
             launches that never became ACTIVE",
        ]
    );
    rig.run(20);
    assert_eq!(bought(&rig), 4, "the first probe");
    assert_eq!(
        rig.instance(broken).phase,
        Phase::Running,
        "nothing is lost"
    );
    for id in &up[1..] {
        assert_eq!(rig.node(id).status(), NodeStatus::Active, "{id}");
    }
    assert_eq!(touched(&rig).len(), 1);
}

#[test]
fn more_than_half_of_the_fleet_is_silent() {
    let (mut rig, up) = fleet(8, 12, "8");
    for id in &up[..5] {
        rig.silent(id);
    }
    go(&mut rig, 60);
    let short = "replace A waits for silence: it has not been silent long enough";
    assert_eq!(why(&rig, &up[0]), short);
    go(&mut rig, 3000);
    let line = "replace A waits for silence: 3 of 7 other nodes stayed fresh and 4 are needed as \
                witnesses; an operator may confirm that the machine is dead; `navarch node \
                confirm-dead A` says so";
    assert_eq!(why(&rig, &up[0]), line);
    assert!(touched(&rig).is_empty());
    // The record told the first reason, and told the one that came instead.
    let told = said_of(&rig, EventKind::GuardBlocked, &up[0]);
    let tell = |line: &str| line.replace("waits for silence", "waits");
    assert_eq!(told, [tell(short), tell(line)]);
    // The same reason with other numbers is no news.
    rig.silent(&up[5]);
    go(&mut rig, 200);
    assert_eq!(said_of(&rig, EventKind::GuardBlocked, &up[0]).len(), 2);
}

#[test]
fn a_split_that_heals_one_by_one_destroys_nothing() {
    let (mut rig, up) = fleet(10, 14, "10");
    for id in &up[..6] {
        rig.silent(id);
    }
    go(&mut rig, 600);
    let line = |stayed: usize| {
        format!(
            "replace A waits for silence: {stayed} of 9 other nodes stayed fresh and 5 are needed \
             as witnesses; an operator may confirm that the machine is dead; `navarch node \
             confirm-dead A` says so"
        )
    };
    assert_eq!(why(&rig, &up[0]), line(4));
    // They are heard again one after the other, but for the first: each fell silent as it did.
    for id in &up[1..6] {
        rig.back(id);
        rig.full(id, 45);
        go(&mut rig, 5);
        assert_eq!(why(&rig, &up[0]), line(4));
    }
    go(&mut rig, 150);
    assert!(touched(&rig).is_empty());
    // Once they have been fresh for as long as a silence must last, they are witnesses again.
    go(&mut rig, 30);
    let drained: Vec<NodeId> = touched(&rig).into_iter().collect();
    assert_eq!(drained, [NodeId::new(up[0].as_str())]);
    assert_eq!(
        rig.said(EventKind::DrainStarted),
        ["silent while 5 of 9 nodes stayed fresh"]
    );
}

#[test]
fn the_incident_of_a_silence_stays_open_while_the_node_is_not_heard() {
    let (mut rig, up) = fleet(2, 4, "1");
    rig.silent(&up[0]);
    let incident = rig
        .node(&up[0])
        .open_incidents
        .keys()
        .next()
        .unwrap()
        .clone();
    let close = Input::CloseIncident {
        incident: incident.clone(),
        reason: String::new(),
    };
    let refused = rig.feed(close.clone()).unwrap_err();
    assert_eq!(
        refused
            .message
            .replace(up[0].as_str(), "A")
            .replace(incident.as_str(), "I"),
        "incident I stands for the silence of node A, which is not heard yet: it ends once the \
         node is heard and well; if the machine is dead, `navarch node confirm-dead A` says so"
    );
    assert_eq!(rig.node(&up[0]).status(), NodeStatus::Unhealthy);
    rig.back(&up[0]);
    rig.take(close);
    assert_eq!(rig.node(&up[0]).status(), NodeStatus::Active);
}

#[test]
fn one_of_two_nodes_is_silent() {
    let (mut rig, up) = fleet(2, 4, "1");
    rig.silent(&up[0]);
    go(&mut rig, 3600);
    assert_eq!(
        rig.explain(&[(&up[0], "A")]),
        [
            "replace A waits for silence: 1 of 1 other nodes stayed fresh and 2 are needed as \
          witnesses; an operator may confirm that the machine is dead; `navarch node confirm-dead \
          A` says so"
        ]
    );
    assert!(touched(&rig).is_empty());
    rig.take(Input::ConfirmDead {
        node: NodeId::new(up[0].as_str()),
        reason: "the console is dark".to_owned(),
    });
    go(&mut rig, 30);
    assert_eq!(rig.instance(&up[0]).phase, Phase::Terminated);
    assert_eq!(
        rig.said(EventKind::DrainStarted),
        ["an operator confirmed that it is dead"]
    );
    assert_eq!(rig.of(Phase::Running).len(), 2);
}

#[test]
fn a_machine_is_dead_while_its_cloud_says_running() {
    let (mut rig, up) = fleet(4, 6, "1");
    rig.silent(&up[0]);
    go(&mut rig, 170);
    let sighting = rig.instance(&up[0]).sighting.expect("it was looked up");
    assert_eq!(sighting.status, CloudStatus::Running);
    assert!(sighting.at.core >= rig.node(&up[0]).silent_since.unwrap().core);
    assert_eq!(
        rig.explain(&[(&up[0], "A")]),
        ["replace A waits for silence: it has not been silent long enough"]
    );
    assert!(touched(&rig).is_empty());
    go(&mut rig, 40);
    assert_eq!(
        rig.said(EventKind::DrainStarted),
        ["silent while 3 of 3 nodes stayed fresh"]
    );
    assert_eq!(rig.instance(&up[0]).phase, Phase::Terminated);
}

/// Seconds in which every call to the cloud fails.
fn without_a_cloud(rig: &mut Rig, seconds: u64) {
    let failed = || ProviderError::new(ProviderErrorKind::Transient, "no route");
    for _ in 0..seconds {
        rig.pass(1);
        rig.take(Input::Tick);
        rig.plan();
        for effect in rig.drop_calls() {
            rig.take(match effect {
                Effect::Launch { key, .. } => Input::LaunchResult {
                    key,
                    result: Err(failed()),
                },
                Effect::Lookup { key, .. } => Input::LookupResult {
                    key,
                    result: Err(failed()),
                },
                Effect::Terminate { key, .. } => Input::TerminateResult {
                    key,
                    result: Err(failed()),
                },
                Effect::List {
                    provider, began, ..
                } => Input::ListResult {
                    provider,
                    began,
                    result: Err(failed()),
                },
                Effect::AskDrained { node, since, .. } => Input::DrainResult {
                    node,
                    since,
                    drained: Ok(true),
                },
                other => panic!("{other:?}"),
            });
        }
    }
}

#[test]
fn a_machine_is_dead_while_its_cloud_does_not_answer() {
    let (mut rig, up) = fleet(4, 6, "1");
    rig.silent(&up[0]);
    without_a_cloud(&mut rig, 1800);
    // Its witnesses confirm the silence. The machine stays until its replacement is there.
    assert_eq!(
        rig.said(EventKind::DrainStarted),
        ["silent while 3 of 3 nodes stayed fresh"]
    );
    assert_eq!(rig.instance(&up[0]).phase, Phase::Running);
    let next = rig.of(Phase::OutcomeUnknown).remove(0);
    assert_eq!(
        rig.explain(&[(&up[0], "A"), (&next, "B")]),
        [
            "launch waits for outcome_unknown: no answer to the launch in time",
            "terminate A waits for replacement: its replacement B is outcome_unknown",
        ]
    );
    for id in &up[1..] {
        assert_eq!(rig.node(id).status(), NodeStatus::Active, "{id}");
    }
    go(&mut rig, 600);
    assert_eq!(rig.instance(&up[0]).phase, Phase::Terminated);
    assert_eq!(rig.of(Phase::Running).len(), 4);
}

#[test]
fn pools_of_one_two_and_three_nodes_repair_one_after_the_other() {
    for count in [1, 2, 3] {
        let (mut rig, up) = fleet(count, count + 4, "4");
        for id in &up {
            rig.xid(id, 79, 0);
        }
        rig.run(2);
        assert_eq!(touched(&rig).len(), 1, "{count}");
        let first = touched(&rig).into_iter().next().unwrap();
        let Some(second) = up.iter().find(|id| id.as_str() != first.as_str()) else {
            // The replacement has the same fault: it waits for itself no longer than the guard says.
            go(&mut rig, 10);
            let next = rig.of(Phase::Running).remove(0);
            rig.xid(&next, 79, 0);
            go(&mut rig, 590);
            assert_eq!(touched(&rig).len(), 1);
            assert_eq!(
                rig.explain(&[(&next, "B")]),
                [
                    "replace B waits for small_pool: the previous replacement for xid-reboot ended \
                  without a machine"
                ]
            );
            go(&mut rig, 20);
            assert_eq!(touched(&rig).len(), 2);
            continue;
        };
        let line = "replace B waits for small_pool: the previous replacement for xid-reboot";
        let told = |rig: &Rig| {
            let all = rig.explain(&[(second, "B")]);
            all.into_iter().find(|one| one.starts_with(line))
        };
        let coming = format!("{line} is not ACTIVE yet");
        assert_eq!(told(&rig), Some(coming), "{count}");
        go(&mut rig, 10);
        let young = format!("{line} has not been ACTIVE long enough");
        assert_eq!(told(&rig), Some(young), "{count}");
        go(&mut rig, 580);
        assert_eq!(touched(&rig).len(), 1, "{count}");
        go(&mut rig, 30);
        assert_eq!(touched(&rig).len(), 2, "{count}");
    }
}

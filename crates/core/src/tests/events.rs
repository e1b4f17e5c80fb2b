//! What is bounded: events, incidents, nodes that nobody hears.

use navarch_model::{
    EventKind, HealthStatus, Lifecycle, NodeCommandType, NodeId, NodeStatus, Phase,
    ProviderErrorKind,
};

use super::{Rig, yaml};
use crate::fleet::OVERFLOW;
use crate::input::{Fact, Input};

#[test]
fn repeats_become_one_event_with_a_count() {
    let mut rig = Rig::new(&yaml(0, 2, ""));
    let lost = || {
        Input::Register(Rig::registration(&navarch_model::InstanceId::new(
            "nv-lost",
        )))
    };
    for _ in 0..5 {
        assert!(rig.feed(lost()).is_err());
        rig.pass(600);
    }
    assert_eq!(rig.said(EventKind::RegistrationRefused).len(), 1);
    assert_eq!(rig.count(EventKind::RegistrationRefused), 5);
    let event = rig
        .events
        .values()
        .find(|event| event.kind == EventKind::RegistrationRefused)
        .unwrap();
    assert_eq!(event.last.core.since(event.at.core).as_secs(), 2400);
    // After an hour it is news again.
    rig.pass(1200);
    assert!(rig.feed(lost()).is_err());
    assert_eq!(rig.said(EventKind::RegistrationRefused).len(), 2);
}

#[test]
fn a_refused_launch_is_told_once_an_hour_with_its_count() {
    let mut rig = Rig::new(&yaml(1, 2, ""));
    for _ in 0..1200 {
        rig.pass(1);
        rig.plan();
        for (key, _) in rig.launches() {
            rig.launch_fails(&key, ProviderErrorKind::Transient);
        }
        rig.answer();
    }
    let told = rig.said(EventKind::ProviderError).len();
    assert!(rig.count(EventKind::ProviderError) > 5);
    // Each intent is a subject of its own.
    assert_eq!(told, rig.fleet.state().instances.len());
}

#[test]
fn changes_of_state_never_coalesce() {
    let mut rig = Rig::new(&yaml(1, 2, ""));
    let id = rig.up(1).remove(0);
    let before = rig.count(EventKind::NodeSilent);
    for _ in 0..3 {
        rig.silent(&id);
        rig.back(&id);
    }
    assert_eq!(rig.count(EventKind::NodeSilent), before + 3);
    let silent = rig.said(EventKind::NodeSilent);
    assert_eq!(silent.len(), 3);
}

#[test]
fn what_is_remembered_of_events_is_bounded() {
    let mut rig = Rig::new(&yaml(0, 2, ""));
    for number in 0..3000 {
        let id = navarch_model::InstanceId::new(format!("nv-{number}"));
        assert!(rig.feed(Input::Register(Rig::registration(&id))).is_err());
    }
    assert!(rig.fleet.remembered_events() <= 1024);
}

/// What is read of a GPU that is as hot as that.
fn heat(gpu: i32, celsius: u32) -> Fact {
    Fact {
        gpu: Some(gpu),
        event_type: navarch_model::HealthEventType::Thermal,
        metrics: [("temperature".to_owned(), celsius.to_string())].into(),
        watch: "temperature".to_owned(),
        ..Fact::default()
    }
}

/// A report of so many GPUs that are too hot.
fn hot(rig: &mut Rig, id: &navarch_model::InstanceId, gpus: i32) {
    let facts = (0..gpus).map(|gpu| heat(gpu, 99)).collect();
    let report = rig.facts(id, facts);
    rig.take(Input::Report(report));
}

#[test]
fn incidents_beyond_the_limit_fold_into_one_that_says_so() {
    let mut rig = Rig::new(&yaml(1, 2, ""));
    let id = rig.up(1).remove(0);
    hot(&mut rig, &id, 500);
    let open = rig.node(&id).open_incidents.len();
    assert_eq!(open, 65);
    let state = rig.fleet.state();
    let folded: Vec<_> = state
        .incidents
        .values()
        .filter(|incident| incident.key.class == OVERFLOW)
        .collect();
    assert_eq!(folded.len(), 1);
    assert_eq!(
        folded[0].evidence_count, 1,
        "the same reading is no new fact"
    );
    assert_eq!(folded[0].severity, HealthStatus::Unhealthy);
    let opened = rig.said(EventKind::IncidentOpened);
    assert!(opened.iter().any(|text| text.contains("more than 64")));
    // Latched faults beyond the limit are not lost in the conditions: they need their repair.
    rig.xid(&id, 79, 400);
    assert_eq!(rig.node(&id).open_incidents.len(), 66);
    rig.full(&id, 45);
    let left = rig.node(&id).open_incidents.len();
    assert!(left >= 1, "the latched fault stays");
    assert_eq!(rig.node(&id).status(), NodeStatus::Unhealthy);
}

#[test]
fn what_stands_for_the_incidents_beyond_the_limit_ends_with_a_report_that_is_healthy_over_all() {
    let mut rig = Rig::new(&yaml(1, 2, "guards:\n  budget: 0\n"));
    let id = rig.up(1).remove(0);
    let mut left = |hot: std::ops::Range<i32>, celsius: u32| {
        let facts = (0..100).map(|gpu| heat(gpu, if hot.contains(&gpu) { celsius } else { 45 }));
        let mut report = rig.facts(&id, facts.collect());
        report.full = true;
        rig.take(Input::Report(report));
        let incidents = &rig.fleet.state().incidents;
        let open = rig.node(&id).open_incidents.keys();
        let folded = |id: &&navarch_model::IncidentId| incidents[*id].key.class == OVERFLOW;
        (open.clone().count(), open.filter(folded).count())
    };
    assert_eq!(left(0..100, 99), (65, 1));
    // Two of those that it stands for are degraded still.
    assert_eq!(left(98..100, 87), (1, 1));
    assert_eq!(left(98..100, 87), (3, 1));
    assert_eq!(left(0..0, 87), (0, 0));
}

fn external(rig: &mut Rig, name: &str) -> NodeId {
    let node = NodeId::new(name);
    rig.take(Input::Register(crate::Registration {
        instance: None,
        ..Rig::registration(&navarch_model::InstanceId::new(name))
    }));
    node
}

fn command(rig: &mut Rig, node: &NodeId, kind: NodeCommandType) {
    rig.take(Input::Command {
        node: node.clone(),
        kind,
        parameters: [].into(),
    });
}

#[test]
fn terminate_ends_a_silent_external_node_and_asks_the_agent_of_one_that_is_heard() {
    let mut rig = Rig::new(&yaml(0, 2, ""));
    let (heard, silent) = (external(&mut rig, "heard"), external(&mut rig, "silent"));
    rig.silent(&navarch_model::InstanceId::new("silent"));
    for node in [&heard, &silent] {
        command(&mut rig, node, NodeCommandType::Terminate);
    }
    let nodes = &rig.fleet.state().nodes;
    assert_eq!(nodes[&silent].lifecycle, Lifecycle::Terminated);
    assert_eq!(nodes[&heard].lifecycle, Lifecycle::Registered);
    let waiting = rig.take(Input::Poll {
        node: heard,
        session: None,
    });
    assert!(matches!(waiting, crate::Reply::Commands(list) if list.len() == 1));
    // Should it be alive after all, it registers as a new incarnation.
    external(&mut rig, "silent");
    let again = &rig.fleet.state().nodes[&silent];
    assert_eq!(
        (again.lifecycle, again.incarnation),
        (Lifecycle::Registered, 2)
    );
}

#[test]
fn external_nodes_that_are_silent_for_a_day_leave_unless_an_operator_holds_them() {
    let mut rig = Rig::new(&yaml(0, 2, "guards:\n  pause_gap: 1m\n"));
    let wait = |rig: &mut Rig, minutes: u64| {
        for _ in 0..minutes {
            rig.pass(60);
            rig.take(Input::Tick);
        }
    };
    let (gone, held) = (external(&mut rig, "gone"), external(&mut rig, "held"));
    command(&mut rig, &held, NodeCommandType::Cordon);
    for name in ["gone", "held"] {
        rig.silent(&navarch_model::InstanceId::new(name));
    }
    wait(&mut rig, 12 * 60);
    // Nobody listened in a pause of ours.
    rig.pass(12 * 3600);
    rig.take(Input::Tick);
    wait(&mut rig, 24 * 60 - 1);
    assert_eq!(
        rig.fleet.state().nodes[&gone].lifecycle,
        Lifecycle::Registered
    );
    wait(&mut rig, 6);
    assert_eq!(
        rig.fleet.state().nodes[&gone].lifecycle,
        Lifecycle::Terminated
    );
    assert_eq!(
        rig.fleet.state().nodes[&held].lifecycle,
        Lifecycle::Registered
    );
    rig.pass(3600);
    rig.take(Input::Tick);
    assert!(
        !rig.fleet.state().nodes.contains_key(&gone),
        "it left memory"
    );
    assert_eq!(rig.of(Phase::Running).len(), 0);
}

#[test]
fn different_machines_and_providers_are_different_news() {
    use navarch_model::{CloudStatus, InstanceId, Machine, ProviderError, ProviderInstanceId};
    let mut rig = Rig::new(&yaml(0, 2, ""));
    let provider = navarch_model::ProviderName::new("fake");
    let fleet = rig.fleet.state().meta.fleet.clone();
    let machine = |id: &str| Machine {
        provider_id: ProviderInstanceId::new(id),
        instance: Some(InstanceId::new("nv-lost")),
        fleet: Some(fleet.clone()),
        status: CloudStatus::Running,
        interruption_at: None,
    };
    rig.take(Input::ListResult {
        provider: provider.clone(),
        began: rig.now,
        result: Ok((vec![machine("m-1"), machine("m-2")], true)),
    });
    for (machine, times) in [("m-1", 2), ("m-2", 3)] {
        for _ in 0..times {
            rig.take(Input::UnclaimedResult {
                provider: provider.clone(),
                machine: ProviderInstanceId::new(machine),
                result: Err(ProviderError::new(ProviderErrorKind::Transient, "down")),
            });
        }
    }
    let told = |kind: EventKind| -> Vec<(&str, &str, u32)> {
        rig.events
            .values()
            .filter(|event| event.kind == kind)
            .map(|event| {
                let detail = |key: &str| event.details[key].as_str();
                (detail("provider"), detail("machine"), event.count)
            })
            .collect()
    };
    assert_eq!(
        told(EventKind::UnclaimedFound),
        [("fake", "m-1", 1), ("fake", "m-2", 1)]
    );
    assert_eq!(
        told(EventKind::ProviderError),
        [("fake", "m-1", 2), ("fake", "m-2", 3)]
    );
}

//! Reports: which are heard twice, which count as full, and what a status is put down to.

use std::sync::Arc;

use navarch_model::{
    EventKind, HealthStatus, Incident, InstanceId, NodeCommandType, NodeId, NodeStatus, Repair,
};
use navarch_policy::HealthPolicy;

use super::{Rig, yaml};
use crate::input::{Fact, GradedResult, Input, Report};

fn one() -> (Rig, InstanceId) {
    let mut rig = Rig::new(&yaml(1, 2, "guards:\n  budget: 0\n"));
    let id = rig.up(1).remove(0);
    (rig, id)
}

fn open(rig: &Rig) -> Vec<Incident> {
    let all = rig.fleet.state().incidents.values();
    let open = all.filter(|incident| incident.is_open());
    open.map(|incident| Incident::clone(incident)).collect()
}

/// A machine whose agent grades its own checks and knows none of our fields.
fn old_agent() -> (Rig, InstanceId) {
    let mut rig = Rig::new(&yaml(1, 2, "guards:\n  budget: 0\n"));
    rig.run(10);
    let id = rig.of(navarch_model::Phase::PendingRegistration).remove(0);
    let mut registration = Rig::registration(&id);
    registration.description.capabilities.full_reports = false;
    rig.take(Input::Register(registration));
    assert_eq!(rig.node(&id).status(), NodeStatus::Active);
    (rig, id)
}

/// A report of checks that the agent graded.
fn graded(rig: &mut Rig, id: &InstanceId, results: &[(&str, HealthStatus)]) {
    let result = |(check, status): &(&str, HealthStatus)| GradedResult {
        check: (*check).to_owned(),
        status: *status,
        message: "as told".to_owned(),
    };
    let report = Report {
        results: results.iter().map(result).collect(),
        ..rig.facts(id, Vec::new())
    };
    rig.take(Input::Report(report));
}

fn xid(code: u32) -> Fact {
    Fact {
        gpu: Some(0),
        event_type: navarch_model::HealthEventType::Xid,
        metrics: [("xid_code".to_owned(), code.to_string())].into(),
        watch: "xid".to_owned(),
        ..Fact::default()
    }
}

#[test]
fn a_report_that_was_heard_is_not_heard_again() {
    let (mut rig, id) = one();
    let mut say = |sequence: u64| {
        let mut report = rig.facts(&id, vec![xid(79)]);
        report.sequence = sequence;
        rig.take(Input::Report(report));
        open(&rig)[0].evidence_count
    };
    let counts = [5, 5, 4, 6, 6, 0, 0, 7].map(&mut say);
    assert_eq!(counts, [1, 1, 1, 2, 2, 3, 4, 5]);
}

#[test]
fn the_sequence_is_remembered_of_reports_that_changed_something() {
    let (mut rig, id) = one();
    let say = |rig: &mut Rig, sequence: u64, facts: Vec<Fact>, full: bool| {
        let mut report = rig.facts(&id, facts);
        (report.sequence, report.full) = (sequence, full);
        rig.take(Input::Report(report));
        rig.node(&id).report_sequence
    };
    assert_eq!(say(&mut rig, 3, Vec::new(), true), 0, "nothing is new");
    assert_eq!(say(&mut rig, 4, vec![xid(79)], false), 4, "a fault is");
    assert_eq!(
        say(&mut rig, 5, vec![xid(79)], false),
        5,
        "more evidence is"
    );
    assert_eq!(say(&mut rig, 6, Vec::new(), false), 5, "nothing is new");
    // What the node reports of itself changes, and no incident does.
    let (mut rig, id) = old_agent();
    graded(&mut rig, &id, &[("boot", HealthStatus::Healthy)]);
    let mut report = rig.facts(&id, Vec::new());
    report.sequence = 9;
    report.full = true;
    rig.take(Input::Report(report));
    assert_eq!(rig.node(&id).report_sequence, 0);
}

#[test]
fn checks_that_an_old_agent_graded_are_a_full_report_and_those_of_a_new_one_are_not() {
    use HealthStatus::{Degraded, Healthy, Unhealthy};
    let (mut rig, id) = old_agent();
    graded(&mut rig, &id, &[("boot", Healthy), ("nvml", Degraded)]);
    let [incident] = &open(&rig)[..] else {
        panic!("one is open")
    };
    assert_eq!(incident.key.class, "check-nvml");
    assert_eq!(incident.severity, Degraded);
    assert_eq!(incident.required, Repair::None);
    graded(&mut rig, &id, &[("boot", Healthy), ("nvml", Unhealthy)]);
    assert_eq!(open(&rig)[0].required, Repair::Replace);
    assert_eq!(
        open(&rig)[0].citation,
        "the agent's own check nvml: as told"
    );
    // An empty report ends nothing, and a healthy one does.
    graded(&mut rig, &id, &[]);
    assert_eq!(open(&rig).len(), 1);
    graded(&mut rig, &id, &[("boot", Healthy), ("nvml", Healthy)]);
    assert_eq!(open(&rig), []);

    let (mut rig, id) = one();
    graded(&mut rig, &id, &[("nvml", Unhealthy)]);
    graded(&mut rig, &id, &[("nvml", Healthy)]);
    assert_eq!(open(&rig).len(), 1, "it was not full");
}

#[test]
fn a_status_is_put_down_to_the_incident_or_the_holds_that_make_it() {
    let (mut rig, id) = one();
    let last = |rig: &Rig| {
        let mut events = rig.events.values().rev();
        let status = events.find(|event| event.kind == EventKind::NodeStatus);
        status
            .map(|event| event.message.clone())
            .unwrap_or_default()
    };
    assert_eq!(last(&rig), "CORDONED to ACTIVE: no hold stands");
    // One that is only degraded is no reason.
    rig.full(&id, 87);
    rig.run(1);
    rig.xid(&id, 79, 0);
    let fault = open(&rig)
        .into_iter()
        .find(|incident| incident.severity == HealthStatus::Unhealthy)
        .expect("a fault");
    let said = format!("ACTIVE to UNHEALTHY: incident {} (xid-79)", fault.id);
    assert_eq!(last(&rig), said);
    rig.take(Input::CloseIncident {
        incident: fault.id,
        reason: String::new(),
    });
    rig.full(&id, 97);
    rig.take(Input::Command {
        node: NodeId::new(id.as_str()),
        kind: NodeCommandType::Cordon,
        parameters: [].into(),
    });
    rig.full(&id, 45);
    assert_eq!(last(&rig), "UNHEALTHY to CORDONED: holds: operator:cordon");
}

#[test]
fn what_is_no_gpus_has_an_index_below_all_of_them() {
    let (mut rig, id) = one();
    let text = "version: v1\nrules:\n  - name: node\n    condition: event.gpu_index < 0 && \
                event.event_type == \"power\"\n    result: unhealthy\n";
    let policy = HealthPolicy::parse("test", text).unwrap_or_else(|errors| panic!("{errors:?}"));
    rig.take(Input::SetPolicy(Arc::new(policy)));
    for (gpu, count) in [(Some(0), 0), (Some(1), 0), (None, 1)] {
        let fact = Fact {
            gpu,
            event_type: navarch_model::HealthEventType::Power,
            ..Fact::default()
        };
        let report = rig.facts(&id, vec![fact]);
        rig.take(Input::Report(report));
        assert_eq!(open(&rig).len(), count, "{gpu:?}");
    }
}

#[test]
fn an_incident_names_the_repair_that_it_requires_if_it_requires_one() {
    let (mut rig, id) = one();
    rig.full(&id, 87);
    rig.xid(&id, 79, 1);
    let said = rig.said(EventKind::IncidentOpened);
    let requires: Vec<bool> = said.iter().map(|said| said.contains("requires")).collect();
    assert_eq!(requires, [false, false, true], "{said:?}");
    assert!(said[2].ends_with("; requires reboot"), "{said:?}");
}

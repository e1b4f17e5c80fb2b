//! Another health policy: what is open is judged again.

use std::sync::Arc;

use navarch_model::{
    Ending, EventKind, FaultKind, HealthEventType, HealthStatus, InstanceId, NodeStatus, Repair,
};
use navarch_policy::HealthPolicy;

use super::{Rig, yaml};
use crate::input::{Fact, Input};

/// A policy with one rule for XID 79.
fn policy(rule: &str) -> Arc<HealthPolicy> {
    let text = format!("version: v1\nrules:\n{rule}");
    Arc::new(HealthPolicy::parse("test", &text).unwrap_or_else(|errors| panic!("{errors:?}")))
}

fn xid_79(result: &str, rest: &str) -> Arc<HealthPolicy> {
    policy(&format!(
        "  - name: bus\n    condition: event.event_type == \"xid\" && event.metrics.xid_code == 79\n    result: {result}\n{rest}"
    ))
}

/// A machine with XID 79 by a policy.
fn with_fault(policy: Arc<HealthPolicy>) -> (Rig, InstanceId) {
    let mut rig = Rig::new(&yaml(1, 2, "guards:\n  budget: 0\n"));
    let id = rig.up(1).remove(0);
    rig.take(Input::SetPolicy(policy));
    rig.xid(&id, 79, 1);
    (rig, id)
}

fn incident(rig: &Rig) -> &navarch_model::Incident {
    let mut all = rig.fleet.state().incidents.values();
    let open = all.find(|incident| incident.is_open());
    open.expect("an incident is open")
}

#[test]
fn a_fault_that_is_none_any_more_ends() {
    let (mut rig, id) = with_fault(xid_79("unhealthy", "    class: bus\n"));
    assert_eq!(rig.node(&id).status(), NodeStatus::Unhealthy);
    rig.take(Input::SetPolicy(policy(
        "  - name: heat\n    condition: event.metrics.temperature > 95\n    result: unhealthy\n",
    )));
    let ended = rig.fleet.state().incidents.values().next().unwrap();
    assert_eq!(
        ended.closed.as_ref().map(|(_, ending)| ending),
        Some(&Ending::PolicyChanged)
    );
    assert_eq!(rig.node(&id).status(), NodeStatus::Active);
}

#[test]
fn severity_and_repair_follow_the_rule_and_are_told() {
    let (mut rig, id) = with_fault(xid_79("unhealthy", "    class: bus\n    action: replace\n"));
    assert_eq!(incident(&rig).required, Repair::Replace);
    let told = rig.count(EventKind::IncidentChanged);
    // The same policy again changes nothing and says nothing.
    rig.take(Input::SetPolicy(xid_79(
        "unhealthy",
        "    class: bus\n    action: replace\n",
    )));
    assert_eq!(rig.count(EventKind::IncidentChanged), told);
    rig.take(Input::SetPolicy(xid_79(
        "degraded",
        "    class: bus\n    action: reset_gpu\n",
    )));
    assert_eq!(incident(&rig).severity, HealthStatus::Degraded);
    assert_eq!(incident(&rig).required, Repair::ResetGpu);
    assert_eq!(rig.node(&id).status(), NodeStatus::Active);
    assert_eq!(rig.count(EventKind::IncidentChanged), told + 1);
    rig.take(Input::SetPolicy(xid_79(
        "unhealthy",
        "    class: bus\n    action: reboot\n",
    )));
    assert_eq!(incident(&rig).required, Repair::Reboot);
    assert_eq!(rig.node(&id).status(), NodeStatus::Unhealthy);
}

#[test]
fn a_fault_of_another_class_goes_on_as_that() {
    let (mut rig, _) = with_fault(xid_79("unhealthy", "    class: bus\n"));
    let evidence = incident(&rig).evidence.clone();
    rig.take(Input::SetPolicy(xid_79("unhealthy", "    class: other\n")));
    assert_eq!(incident(&rig).key.class, "other");
    assert_eq!(incident(&rig).evidence, evidence);
    assert_eq!(rig.fleet.state().incidents.len(), 2);
}

/// The worst of the evidence makes a condition, and another piece of it has to be repaired.
#[test]
fn a_fault_that_one_piece_of_its_evidence_latches_stays_latched_under_another_policy() {
    let rules = |name: &str| {
        policy(&format!(
            "  - name: {name}-mild\n    condition: event.event_type == \"memory\" && \
             event.metrics.row_failed == 1\n    result: degraded\n    class: latched\n    \
             clear_after: 1h\n  - name: {name}\n    condition: event.event_type == \"memory\"\n    result: unhealthy\n    \
             class: condition\n"
        ))
    };
    // The last time, the piece that latches is not among those that are kept.
    for pieces in [vec![1, 0], vec![0, 1], [vec![0, 1], vec![0; 9]].concat()] {
        let mut rig = Rig::new(&yaml(1, 2, "guards:\n  budget: 0\n"));
        let id = rig.up(1).remove(0);
        rig.take(Input::SetPolicy(rules("first")));
        for failed in &pieces {
            let fact = Fact {
                gpu: Some(0),
                event_type: HealthEventType::Memory,
                watch: "memory".to_owned(),
                metrics: [("row_failed".to_owned(), failed.to_string())].into(),
                ..Fact::default()
            };
            let report = rig.facts(&id, vec![fact]);
            rig.take(Input::Report(report));
        }
        assert_eq!(incident(&rig).kind, FaultKind::Latched);
        rig.take(Input::SetPolicy(rules("second")));
        assert_eq!(incident(&rig).check.rule, "second");
        assert_eq!(incident(&rig).kind, FaultKind::Latched, "{pieces:?}");
        let hour = std::time::Duration::from_secs(3600);
        assert_eq!(incident(&rig).clear_after, Some(hour), "{pieces:?}");
    }
}

#[test]
fn incidents_that_the_control_plane_found_itself_stay() {
    let (mut rig, id) = with_fault(xid_79("unhealthy", ""));
    rig.silent(&id);
    assert_eq!(rig.node(&id).open_incidents.len(), 2);
    // A policy that condemns whatever it is asked about is not asked about the silence.
    rig.take(Input::SetPolicy(policy(
        "  - name: all\n    condition: \"true\"\n    result: unhealthy\n    class: all\n",
    )));
    let open = rig.node(&id).open_incidents.keys();
    let mut classes: Vec<&str> = open
        .map(|id| rig.fleet.state().incidents[id].key.class.as_str())
        .collect();
    classes.sort_unstable();
    assert_eq!(classes, ["all", crate::fleet::SILENCE]);
}

#[test]
fn a_refused_policy_is_on_record_once_and_changes_nothing() {
    let (mut rig, id) = with_fault(xid_79("unhealthy", "    class: bus\n"));
    let refuse = |error: &str| Input::PolicyRefused {
        source: "policy.yaml".to_owned(),
        error: error.to_owned(),
    };
    rig.take(refuse("policy.yaml:3:5: unknown variable evnt"));
    rig.take(refuse("policy.yaml:3:5: unknown variable evnt"));
    assert_eq!(
        rig.said(EventKind::PolicyRefused),
        [
            "health policy policy.yaml is refused, and the one before stays: policy.yaml:3:5: unknown \
          variable evnt"
        ]
    );
    assert_eq!(rig.count(EventKind::PolicyRefused), 2);
    assert_eq!(rig.node(&id).status(), NodeStatus::Unhealthy);
    // One that is long is cut, at a whole character.
    rig.take(refuse(&"\u{e4}".repeat(5000)));
    assert!(rig.said(EventKind::PolicyRefused)[0].ends_with('\u{e4}'));
    assert!(rig.said(EventKind::PolicyRefused)[0].chars().count() < 2100);
}

#[test]
fn a_start_judges_again_and_changes_nothing_under_the_same_policy() {
    let mut rig = Rig::new(&yaml(1, 2, "guards:\n  budget: 0\n"));
    let id = rig.up(1).remove(0);
    for (code, gpu) in [(48, 0), (94, 0), (79, 1), (31, 1), (119, 0), (63, 0)] {
        rig.xid(&id, code, gpu);
    }
    rig.full(&id, 97);
    rig.full(&id, 88);
    let before = rig.fleet.state().incidents.clone();
    assert!(before.len() > 3);
    rig.start();
    assert_eq!(rig.fleet.state().incidents, before);
}

#[test]
fn a_policy_that_changed_while_no_control_plane_ran_is_applied_at_the_start() {
    let (mut rig, id) = with_fault(xid_79("unhealthy", "    class: bus\n"));
    let state = rig.fleet.state().clone();
    let settings = Arc::clone(rig.fleet.settings());
    let other = policy(
        "  - name: softer\n    condition: event.event_type == \"xid\"\n    result: degraded\n    class: bus\n",
    );
    rig.fleet = crate::Fleet::new(state, settings, other);
    rig.take(Input::Started { epoch: 2 });
    assert_eq!(incident(&rig).severity, HealthStatus::Degraded);
    assert_eq!(rig.node(&id).status(), NodeStatus::Active);
}

#[test]
fn a_rule_that_latches_since_a_start_latches_what_it_found_before() {
    let row = |class: &str| {
        policy(&format!(
            "  - name: row\n    condition: event.event_type == \"memory\"\n    result: unhealthy\n    \
             class: {class}\n"
        ))
    };
    let mut rig = Rig::new(&yaml(1, 2, "guards:\n  budget: 0\n"));
    let id = rig.up(1).remove(0);
    rig.take(Input::SetPolicy(row("condition")));
    let fact = Fact {
        gpu: Some(0),
        event_type: HealthEventType::Memory,
        watch: "memory".to_owned(),
        ..Fact::default()
    };
    let report = rig.facts(&id, vec![fact]);
    rig.take(Input::Report(report));
    assert_eq!(incident(&rig).kind, FaultKind::Condition);
    let state = rig.fleet.state().clone();
    let settings = Arc::clone(rig.fleet.settings());
    rig.fleet = crate::Fleet::new(state, settings, row("latched"));
    rig.take(Input::Started { epoch: 2 });
    assert_eq!(incident(&rig).kind, FaultKind::Latched);
}

//! The rules of incidents: what opens one, what adds to it, what raises the repair that it requires.

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_model::{
    BootId, Ending, EventKind, FaultKind, HealthEventType, HealthStatus, Incident, InstanceId,
    PoolName, Repair,
};
use navarch_policy::HealthPolicy;

use super::{Rig, yaml};
use crate::input::{Fact, GradedResult, Input};

/// XIDs by rule: what a rule says, and to which class it belongs. What is not unhealthy, and what
/// another event says, is a condition.
const POLICY: &str = r#"version: v1
rules:
  - name: low
    condition: event.event_type == "xid" && event.metrics.xid_code == 31
    result: degraded
    class: c
    action: none
  - name: same
    condition: event.event_type == "xid" && event.metrics.xid_code == 34
    result: degraded
    class: c
    action: none
  - name: severe
    condition: event.event_type == "xid" && event.metrics.xid_code == 32
    result: unhealthy
    class: c
    action: none
  - name: rung
    condition: event.event_type == "xid" && event.metrics.xid_code == 33
    result: degraded
    class: c
    action: reboot
  - name: other
    condition: event.event_type == "xid" && event.metrics.xid_code == 40
    result: unhealthy
    class: d
    action: reset_gpu
  - name: replace
    condition: event.event_type == "xid" && event.metrics.xid_code == 41
    result: unhealthy
    class: e
    action: replace
  - name: warm
    condition: event.event_type == "power" && event.metrics.watts > 500
    result: unhealthy
    action: reset_gpu
  - name: hot
    condition: event.metrics.temperature >= 95
    result: unhealthy
  - name: warmer
    condition: event.metrics.temperature >= 85
    result: degraded
"#;

fn one() -> (Rig, InstanceId) {
    let mut rig = Rig::new(&yaml(1, 2, "guards:\n  budget: 0\n"));
    let id = rig.up(1).remove(0);
    let policy = HealthPolicy::parse("test", POLICY).unwrap_or_else(|errors| panic!("{errors:?}"));
    rig.take(Input::SetPolicy(Arc::new(policy)));
    (rig, id)
}

/// The open incident; there is one.
fn open(rig: &Rig) -> Incident {
    let all = rig.fleet.state().incidents.values();
    let mut open = all.filter(|incident| incident.is_open());
    let first = open.next().expect("an incident is open");
    assert!(open.next().is_none(), "one incident is open");
    Incident::clone(first)
}

/// A fact of an event that is no XID.
fn power(watts: u32) -> Fact {
    Fact {
        gpu: Some(0),
        event_type: HealthEventType::Power,
        watch: "power".to_owned(),
        metrics: [("watts".to_owned(), watts.to_string())].into(),
        ..Fact::default()
    }
}

fn reboot(rig: &mut Rig, id: &InstanceId, boot: &str) {
    let mut again = Rig::registration(id);
    again.boot = Some(BootId::new(boot));
    rig.take(Input::Register(again));
    rig.full(id, 45);
}

#[test]
fn worse_evidence_of_a_class_takes_the_rule_over_and_milder_does_not() {
    use HealthStatus::{Degraded, Unhealthy};
    for (codes, rule, severity, required) in [
        ([31, 34], "low", Degraded, Repair::None),
        ([31, 32], "severe", Unhealthy, Repair::None),
        ([31, 33], "rung", Degraded, Repair::Reboot),
        ([32, 31], "severe", Unhealthy, Repair::None),
        ([33, 31], "rung", Degraded, Repair::Reboot),
        ([32, 33], "rung", Unhealthy, Repair::Reboot),
        ([33, 32], "severe", Unhealthy, Repair::Reboot),
    ] {
        let (mut rig, id) = one();
        for code in codes {
            rig.xid(&id, code, 0);
        }
        let incident = open(&rig);
        assert_eq!(incident.check.rule, rule, "{codes:?}");
        assert_eq!(
            (incident.severity, incident.required),
            (severity, required),
            "{codes:?}"
        );
        assert_eq!(incident.evidence_count, 2, "{codes:?}");
    }
}

#[test]
fn a_condition_that_has_to_be_repaired_from_now_on_ends_by_its_repair() {
    for restarts in [false, true] {
        let (mut rig, id) = one();
        rig.xid(&id, 31, 0);
        let before = open(&rig);
        assert_eq!(before.kind, FaultKind::Condition);
        rig.xid(&id, 32, 0);
        let incident = open(&rig);
        assert_eq!(incident.id, before.id, "it is the same fault");
        assert_eq!(incident.kind, FaultKind::Latched);
        if restarts {
            rig.start();
        }
        // Milder evidence makes it no condition again, and good readings do not end it.
        rig.xid(&id, 31, 0);
        for _ in 0..3 {
            rig.full(&id, 45);
        }
        assert_eq!(open(&rig).kind, FaultKind::Latched, "{restarts}");
        reboot(&mut rig, &id, "boot-2");
        let ended = rig.fleet.state().incidents[&before.id].closed.clone();
        let proof = Repair::Reboot;
        assert_eq!(ended.map(|ended| ended.1), Some(Ending::Repaired { proof }));
    }
}

#[test]
fn what_latches_is_told_and_names_its_rule_though_it_is_no_worse() {
    let text = "version: v1\nrules:\n  - name: soft\n    condition: event.metrics.watts == 600\n    \
                result: unhealthy\n    class: condition\n    action: reboot\n  - name: firm\n    \
                condition: event.metrics.watts == 700\n    result: unhealthy\n    class: latched\n    \
                action: reset_gpu\n    clear_after: 1h\n";
    let policy = HealthPolicy::parse("test", text).unwrap_or_else(|errors| panic!("{errors:?}"));
    let (mut rig, id) = one();
    rig.take(Input::SetPolicy(Arc::new(policy)));
    let mut say = |watts: u32| {
        let report = rig.facts(&id, vec![power(watts)]);
        rig.take(Input::Report(report));
        let incident = open(&rig);
        let told = rig.count(EventKind::IncidentChanged);
        (
            incident.kind,
            incident.check.rule,
            incident.clear_after,
            incident.required,
            told,
        )
    };
    let hour = Some(std::time::Duration::from_secs(3600));
    let soft = (
        FaultKind::Condition,
        "soft".to_owned(),
        None,
        Repair::Reboot,
        0,
    );
    let firm = (
        FaultKind::Latched,
        "firm".to_owned(),
        hour,
        Repair::Reboot,
        1,
    );
    assert_eq!(say(600), soft);
    assert_eq!(say(700), firm, "the higher rung stays");
    assert_eq!(say(600), firm);
}

#[test]
fn a_condition_that_latches_is_repaired_already_if_its_fault_is_of_an_earlier_boot() {
    for (code, boot, repaired) in [
        (32, Some("earlier"), true),
        (32, None, false),
        (31, Some("earlier"), false),
    ] {
        let (mut rig, id) = one();
        rig.xid(&id, 31, 0);
        let fact = Fact {
            gpu: Some(0),
            event_type: HealthEventType::Xid,
            metrics: [("xid_code".to_owned(), code.to_string())].into(),
            watch: "xid".to_owned(),
            boot: boot.map(BootId::new),
            ..Fact::default()
        };
        let report = rig.facts(&id, vec![fact]);
        rig.take(Input::Report(report));
        assert_eq!(open(&rig).repaired.is_some(), repaired, "{code} {boot:?}");
    }
}

#[test]
fn a_condition_that_latches_where_its_class_was_repaired_before_requires_the_next_rung() {
    let text = POLICY
        .replace(
            "class: e\n    action: replace",
            "class: d\n    action: none",
        )
        .replace(
            "event.metrics.xid_code == 41\n    result: unhealthy",
            "event.metrics.xid_code == 41\n    result: degraded",
        );
    let policy = HealthPolicy::parse("test", &text).unwrap_or_else(|errors| panic!("{errors:?}"));
    let (mut rig, id) = one();
    rig.take(Input::SetPolicy(Arc::new(policy)));
    rig.xid(&id, 40, 0);
    reboot(&mut rig, &id, "boot-2");
    rig.xid(&id, 41, 0);
    assert_eq!(open(&rig).kind, FaultKind::Condition);
    rig.xid(&id, 40, 0);
    assert_eq!(open(&rig).required, Repair::Reboot);
}

#[test]
fn a_change_is_told_when_severity_or_repair_changed_and_names_everything() {
    for (codes, told) in [([31, 34], 0), ([31, 32], 1), ([31, 33], 1), ([32, 31], 0)] {
        let (mut rig, id) = one();
        for code in codes {
            rig.xid(&id, code, 0);
        }
        assert_eq!(rig.count(EventKind::IncidentChanged), told, "{codes:?}");
    }
    let (mut rig, id) = one();
    rig.xid(&id, 31, 0);
    let incident = open(&rig);
    let opened = rig
        .events
        .values()
        .find(|event| event.kind == EventKind::IncidentOpened);
    let subject = opened.expect("it is on record").subject.clone();
    assert_eq!(subject.pool, Some(PoolName::new("main")));
    assert_eq!(
        subject.node.map(|id| id.to_string()),
        Some(id.to_string()),
        "the node"
    );
    assert_eq!(subject.instance, Some(id), "the instance");
    assert_eq!(subject.incident, Some(incident.id));
}

#[test]
fn only_unhealthy_full_reports_count_towards_a_repair() {
    let (mut rig, id) = one();
    let counted = |rig: &Rig| {
        let all = rig.fleet.state().incidents.values();
        let counts = all.map(|incident| incident.unhealthy_reports);
        counts.max().unwrap_or(0)
    };
    let health = "    health:\n      unhealthy_after: 4\n";
    rig.configure(&yaml(1, 2, &format!("{health}guards:\n  budget: 0\n")));
    rig.full(&id, 97);
    assert_eq!(counted(&rig), 1);
    // Not full, and unhealthy.
    let hot = Fact {
        gpu: Some(0),
        metrics: [("temperature".to_owned(), "98".to_owned())].into(),
        event_type: HealthEventType::Thermal,
        watch: "temperature".to_owned(),
        ..Fact::default()
    };
    let report = rig.facts(&id, vec![hot]);
    rig.take(Input::Report(report));
    assert_eq!(counted(&rig), 1);
    for (count, expected) in [(1, 2), (2, 3), (3, 4), (4, 4)] {
        rig.full(&id, 97);
        assert_eq!(counted(&rig), expected, "{count}");
    }
}

/// How many unhealthy reports count for the incident of each GPU.
fn counts(rig: &Rig) -> BTreeMap<Option<i32>, u32> {
    let all = rig.fleet.state().incidents.values();
    all.map(|incident| (incident.key.gpu, incident.unhealthy_reports))
        .collect()
}

/// Full reports for so many seconds, in which GPU 0 is warm and nothing is said of GPU 1.
fn without_gpu_1(rig: &mut Rig, id: &InstanceId, seconds: u64) {
    for _ in 0..seconds / 10 {
        let warm = Fact {
            gpu: Some(0),
            event_type: HealthEventType::Thermal,
            metrics: [("temperature".to_owned(), "88".to_owned())].into(),
            watch: "temperature".to_owned(),
            ..Fact::default()
        };
        let mut report = rig.facts(id, vec![warm]);
        report.full = true;
        rig.take(Input::Report(report));
        rig.run(10);
    }
}

/// A GPU was too hot and is gone: no reading of it says that it cooled down.
#[test]
fn full_reports_that_lack_a_check_for_long_count_towards_a_repair() {
    let (mut rig, id) = one();
    let limit = rig.fleet.stale_limit().as_secs();
    rig.full(&id, 97);
    // A reading may fail, and an agent that starts has to read twice to compare.
    without_gpu_1(&mut rig, &id, limit);
    assert_eq!(counts(&rig), [(Some(0), 1), (Some(1), 1)].into());
    without_gpu_1(&mut rig, &id, 30);
    assert_eq!(counts(&rig), [(Some(0), 1), (Some(1), 2)].into());
    // It counts from the first report that lacks it.
    let (mut rig, id) = one();
    rig.full(&id, 97);
    for _ in 0..3 {
        without_gpu_1(&mut rig, &id, limit);
        rig.full(&id, 88);
    }
    assert_eq!(counts(&rig), [(Some(0), 1), (Some(1), 1)].into());
}

/// What an older agent graded is no check of its successor.
#[test]
fn what_an_older_agent_graded_is_not_missing_in_what_a_newer_one_reads() {
    let (mut rig, id) = one();
    let mut older = Rig::registration(&id);
    older.description.capabilities.full_reports = false;
    rig.take(Input::Register(older));
    let mut report = rig.facts(&id, Vec::new());
    report.results = vec![GradedResult {
        check: "gpu".to_owned(),
        status: HealthStatus::Unhealthy,
        message: String::new(),
    }];
    rig.take(Input::Report(report));
    rig.register(&id);
    let limit = rig.fleet.stale_limit().as_secs();
    rig.run_well(&id, limit + 60);
    assert_eq!(counts(&rig), [(None, 1)].into());
}

/// The second report is full and only degraded, of the same class as the first.
#[test]
fn a_degraded_full_report_does_not_count_towards_a_repair() {
    let mut rig = Rig::new(&yaml(1, 2, "guards:\n  budget: 0\n"));
    let id = rig.up(1).remove(0);
    rig.full(&id, 97);
    rig.full(&id, 87);
    let all = rig.fleet.state().incidents.values();
    let counts: Vec<u32> = all.map(|incident| incident.unhealthy_reports).collect();
    assert_eq!(counts, [1, 1], "two GPUs");
}

#[test]
fn a_fault_that_comes_back_within_a_day_of_its_repair_requires_the_next_rung() {
    const DAY: u64 = 24 * 3600;
    // What is first, what comes after how long, and what it requires then.
    for (first, then, seconds, required) in [
        (40, 40, 5, Repair::Reboot),
        (40, 40, DAY - 1, Repair::Reboot),
        (40, 40, DAY, Repair::ResetGpu),
        // Another class is another fault.
        (32, 40, 5, Repair::ResetGpu),
        // What requires nothing still does not.
        (32, 32, 5, Repair::None),
    ] {
        let (mut rig, id) = one();
        rig.xid(&id, first, 0);
        reboot(&mut rig, &id, "boot-2");
        let ended = rig.fleet.state().incidents.values().next();
        let ended = ended.and_then(|incident| incident.closed.clone());
        let proof = Repair::Reboot;
        assert_eq!(ended.map(|ended| ended.1), Some(Ending::Repaired { proof }));
        rig.pass(seconds);
        rig.xid(&id, then, 0);
        assert_eq!(open(&rig).required, required, "{first} {then} {seconds}");
    }
}

#[test]
fn another_gpu_and_what_an_operator_ended_raise_no_rung() {
    let (mut rig, id) = one();
    rig.xid(&id, 40, 0);
    reboot(&mut rig, &id, "boot-2");
    rig.xid(&id, 40, 1);
    assert_eq!(open(&rig).required, Repair::ResetGpu, "another GPU");

    let (mut rig, id) = one();
    rig.xid(&id, 40, 0);
    rig.take(Input::CloseIncident {
        incident: open(&rig).id,
        reason: String::new(),
    });
    rig.run(1);
    rig.xid(&id, 40, 0);
    assert_eq!(open(&rig).required, Repair::ResetGpu, "an operator's word");
    // Both were repaired once: the third is the second that came back.
    reboot(&mut rig, &id, "boot-2");
    rig.xid(&id, 40, 0);
    assert_eq!(open(&rig).required, Repair::Reboot);
}

#[test]
fn a_condition_that_comes_back_requires_what_it_did() {
    let (mut rig, id) = one();
    let say = |rig: &mut Rig, watts: u32| {
        let mut report = rig.facts(&id, vec![power(watts)]);
        report.full = true;
        rig.take(Input::Report(report));
    };
    for time in 0..3 {
        say(&mut rig, 900);
        let incident = open(&rig);
        assert_eq!(incident.kind, FaultKind::Condition);
        assert_eq!(incident.required, Repair::ResetGpu, "{time}");
        say(&mut rig, 300);
        assert!(rig.node(&id).open_incidents.is_empty(), "{time}");
    }
}

#[test]
fn a_fault_of_an_earlier_boot_opens_as_repaired_if_a_reboot_is_enough() {
    // The fact, and whether it opens as repaired.
    let xid = |code: u32| Fact {
        gpu: Some(0),
        event_type: HealthEventType::Xid,
        metrics: [("xid_code".to_owned(), code.to_string())].into(),
        watch: "xid".to_owned(),
        ..Fact::default()
    };
    for (fact, boot, repaired) in [
        (xid(40), Some("earlier"), true),
        (xid(32), Some("earlier"), true),
        (xid(41), Some("earlier"), false),
        (xid(40), None, false),
        (power(900), Some("earlier"), false),
    ] {
        let (mut rig, id) = one();
        let fact = Fact {
            boot: boot.map(BootId::new),
            ..fact
        };
        let shown = format!("{fact:?}");
        let report = rig.facts(&id, vec![fact]);
        rig.take(Input::Report(report));
        let rung = open(&rig).repaired.map(|(_, rung)| rung);
        assert_eq!(rung, repaired.then_some(Repair::Reboot), "{shown}");
    }
}

#[test]
fn a_condition_flaps_when_it_was_opened_more_than_three_times_within_the_last_hour() {
    for (seconds, flaps) in [(3599, true), (3600, false)] {
        let (mut rig, id) = one();
        let first = rig.now.core;
        for _ in 0..4 {
            rig.full(&id, 97);
            rig.full(&id, 45);
            rig.pass(1);
        }
        let since = rig.now.core.since(first).as_secs();
        rig.pass(seconds - since);
        rig.full(&id, 97);
        let all = rig.fleet.state().incidents.values();
        let open: Vec<bool> = all
            .filter(|incident| incident.is_open())
            .map(|incident| incident.flapping)
            .collect();
        assert_eq!(open, [flaps, flaps], "two GPUs, {seconds}");
    }
}

/// Rules that say how long their faults last without further evidence.
fn passing(heat: &str) -> (Rig, InstanceId) {
    let (mut rig, id) = one();
    let text = format!(
        "version: v1\nrules:\n  - name: heat\n    condition: event.metrics.temperature >= 90\n    \
         result: unhealthy\n    clear_after: {heat}\n  - name: xid\n    condition: \
         event.event_type == 'xid'\n    result: degraded\n    clear_after: 10m\n"
    );
    let policy = HealthPolicy::parse("test", &text).unwrap_or_else(|errors| panic!("{errors:?}"));
    rig.take(Input::SetPolicy(Arc::new(policy)));
    (rig, id)
}

fn heat(celsius: u32) -> Fact {
    Fact {
        watch: "temperature".to_owned(),
        metrics: [("temperature".to_owned(), celsius.to_string())].into(),
        ..Fact::default()
    }
}

/// How the incidents ended; there is one.
fn ending(rig: &Rig) -> Option<Ending> {
    let mut all = rig.fleet.state().incidents.values();
    let ended = all.next().map(|one| one.closed.clone());
    assert!(ended.is_some() && all.next().is_none(), "one incident");
    ended.flatten().map(|(_, how)| how)
}

#[test]
fn what_every_full_report_shows_does_not_end_with_time() {
    // One is shorter than the time between two reports.
    for (clear_after, seconds) in [("20s", 20), ("1m", 60)] {
        let (mut rig, id) = passing(clear_after);
        let say = |rig: &mut Rig, fact: Fact| {
            let mut report = rig.facts(&id, vec![fact]);
            report.full = true;
            rig.take(Input::Report(report));
        };
        for _ in 0..20 {
            say(&mut rig, heat(92));
            rig.run(30);
            assert_eq!(ending(&rig), None, "{clear_after}");
        }
        say(&mut rig, heat(92));
        // A report without the check cannot end it; the time that the rule says can.
        rig.run(1);
        say(&mut rig, power(100));
        rig.run(seconds - 2);
        assert_eq!(ending(&rig), None, "{clear_after}");
        rig.run(1);
        assert_eq!(ending(&rig), Some(Ending::Expired), "{clear_after}");
    }
}

#[test]
fn an_event_that_happens_again_begins_the_time_anew() {
    let (mut rig, id) = passing("1m");
    for _ in 0..3 {
        rig.xid(&id, 31, 0);
        rig.run_well(&id, 500);
    }
    assert_eq!(open(&rig).evidence_count, 3);
    rig.run_well(&id, 200);
    assert_eq!(ending(&rig), Some(Ending::Expired));
}

/// It was shown before the rule said that it ends, and is shown still.
#[test]
fn a_policy_that_gives_a_standing_fault_a_time_does_not_end_it() {
    let rule = |more: &str| {
        let text = format!(
            "version: v1\nrules:\n  - name: heat\n    condition: event.metrics.temperature >= 90\n    \
             result: unhealthy\n{more}"
        );
        Arc::new(HealthPolicy::parse("test", &text).unwrap_or_else(|errors| panic!("{errors:?}")))
    };
    let cases = [
        ("", "    clear_after: 1m\n"),
        (
            "    clear_after: 1m\n",
            "    class: hot\n    clear_after: 1m\n",
        ),
    ];
    for (before, after) in cases {
        let (mut rig, id) = one();
        rig.take(Input::SetPolicy(rule(before)));
        for _ in 0..10 {
            rig.full(&id, 92);
            rig.run(20);
        }
        rig.take(Input::SetPolicy(rule(after)));
        rig.run(5);
        let open = |rig: &Rig| rig.node(&id).open_incidents.len();
        assert_eq!(open(&rig), 2, "{after}");
        rig.full(&id, 92);
        rig.run(20);
        assert_eq!(open(&rig), 2, "{after}");
    }
}

#[test]
fn after_a_start_the_first_full_report_says_whether_a_fault_is_over() {
    let (mut rig, id) = passing("20s");
    let hot = |rig: &mut Rig| {
        let mut report = rig.facts(&id, vec![heat(92)]);
        report.full = true;
        rig.take(Input::Report(report));
    };
    for _ in 0..10 {
        hot(&mut rig);
        rig.run(20);
    }
    let fault = open(&rig).id;
    let ends = |rig: &Rig| {
        let ended = rig.fleet.state().incidents[&fault].closed.clone();
        ended.map(|(_, how)| how)
    };
    rig.start();
    rig.run(60);
    assert_eq!(ends(&rig), None);
    hot(&mut rig);
    rig.run(60);
    assert_eq!(ends(&rig), None);
    // No report comes: it is not waited for for ever.
    rig.start();
    rig.run(rig.fleet.stale_limit().as_secs() - 1);
    assert_eq!(ends(&rig), None);
    rig.run(1);
    assert_eq!(ends(&rig), Some(Ending::Expired));
}

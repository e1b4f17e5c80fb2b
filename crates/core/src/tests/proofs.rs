//! What reports prove and what they do not: passed gates, ended incidents, silence and missing reports.

use std::sync::Arc;

use navarch_model::{
    Ending, EventKind, HealthEventType, HealthStatus, HoldKind, Incident, InstanceId, NodeId,
    NodeStatus, Phase, Repair, SessionId, Time,
};
use navarch_policy::HealthPolicy;

use super::{Rig, yaml};
use crate::fleet::{SILENCE, STALE_REPORTS};
use crate::input::{Fact, GradedResult, Input, Report};

/// A machine that is up in a fleet that repairs nothing; `keys` are added to its pool.
fn one(keys: &str) -> (Rig, InstanceId) {
    let mut rig = Rig::new(&yaml(1, 2, &format!("{keys}guards:\n  budget: 0\n")));
    let id = rig.up(1).remove(0);
    (rig, id)
}

/// The classes of what is open on a node, and of which GPU.
fn open(rig: &Rig, id: &InstanceId) -> Vec<(String, Option<i32>)> {
    let incidents = &rig.fleet.state().incidents;
    let open = rig.node(id).open_incidents.keys();
    open.map(|id| &incidents[id].key)
        .map(|key| (key.class.clone(), key.gpu))
        .collect()
}

/// The only incident that ever was.
fn only(rig: &Rig) -> &Incident {
    let mut all = rig.fleet.state().incidents.values();
    let first = all.next().expect("an incident");
    assert!(all.next().is_none(), "one incident");
    first
}

/// The temperature of a GPU.
fn warm(gpu: i32, celsius: u32) -> Fact {
    Fact {
        gpu: Some(gpu),
        event_type: HealthEventType::Thermal,
        watch: "temperature".to_owned(),
        metrics: [("temperature".to_owned(), celsius.to_string())].into(),
        ..Fact::default()
    }
}

/// A report of these facts.
fn say(rig: &mut Rig, id: &InstanceId, facts: Vec<Fact>, full: bool) {
    let mut report = rig.facts(id, facts);
    report.full = full;
    rig.take(Input::Report(report));
}

/// Seconds with a tick in each, in which nothing is planned.
fn pass(rig: &mut Rig, seconds: u64) {
    for _ in 0..seconds {
        rig.pass(1);
        rig.take(Input::Tick);
    }
}

#[test]
fn a_report_is_taken_only_from_a_node_that_is_on_record_and_by_its_present_session() {
    let (mut rig, id) = one("");
    let report = rig.facts(&id, Vec::new());
    let refused = |rig: &mut Rig, report: Report| rig.feed(Input::Report(report)).unwrap_err();
    let unknown = Report {
        node: Some(NodeId::new("nobody")),
        ..report.clone()
    };
    assert_eq!(refused(&mut rig, unknown).message, "node not found: nobody");
    let older = Report {
        session: Some(SessionId::new("an older one")),
        ..report.clone()
    };
    assert!(refused(&mut rig, older).message.contains("session"));
    // An agent that names none is believed.
    let unnamed = Report {
        session: None,
        ..report.clone()
    };
    rig.take(Input::Report(unnamed));
    rig.take(Input::EndInstance {
        instance: id.clone(),
        reason: String::new(),
    });
    rig.run(5);
    assert_eq!(rig.instance(&id).phase, Phase::Terminated);
    assert_eq!(
        refused(&mut rig, report).message,
        format!("node not found: {id} (it is terminated)")
    );
}

#[test]
fn a_gate_is_passed_by_a_full_report_that_is_not_unhealthy() {
    for (celsius, full, passes) in [
        (97, true, false),
        (87, true, true),
        (45, true, true),
        (45, false, false),
    ] {
        let mut rig = Rig::new(&yaml(1, 2, "guards:\n  budget: 0\n"));
        rig.run(5);
        let id = rig.of(Phase::PendingRegistration).remove(0);
        rig.register(&id);
        say(&mut rig, &id, vec![warm(0, celsius)], full);
        let stands = rig.node(&id).holds.contains_key(&HoldKind::AdmissionGate);
        assert_eq!(stands, !passes, "{celsius} {full}");
    }
}

#[test]
fn a_repaired_fault_ends_with_a_full_report_that_is_not_unhealthy() {
    for celsius in [45, 87] {
        let (mut rig, id) = one("");
        rig.xid(&id, 79, 0);
        let fault = only(&rig).id.clone();
        rig.full(&id, 45);
        assert!(open(&rig, &id).len() == 1, "nothing was repaired");
        let mut again = Rig::registration(&id);
        again.boot = Some(navarch_model::BootId::new("boot-2"));
        rig.take(Input::Register(again));
        rig.full(&id, 97);
        let ending = |rig: &Rig| rig.fleet.state().incidents[&fault].closed.clone();
        assert_eq!(ending(&rig), None, "it is unhealthy");
        rig.full(&id, celsius);
        let proof = Repair::Reboot;
        let ended = ending(&rig).map(|(_, ending)| ending);
        assert_eq!(ended, Some(Ending::Repaired { proof }), "{celsius}");
    }
}

#[test]
fn a_condition_ends_with_a_full_report_in_which_its_check_is_present_and_finds_nothing() {
    let (mut rig, id) = one("");
    rig.full(&id, 97);
    let both = open(&rig, &id);
    assert_eq!(both.len(), 2, "both GPUs");
    say(&mut rig, &id, vec![warm(0, 45), warm(1, 45)], false);
    assert_eq!(open(&rig, &id), both, "it was not full");
    say(&mut rig, &id, Vec::new(), true);
    assert_eq!(open(&rig, &id), both, "nobody looked");
    say(&mut rig, &id, vec![warm(0, 87), warm(1, 87)], true);
    assert_eq!(open(&rig, &id), both, "its own check found something");
    say(&mut rig, &id, vec![warm(0, 45), warm(1, 97)], true);
    assert_eq!(open(&rig, &id), both, "the machine is unhealthy");
    say(&mut rig, &id, vec![warm(1, 45)], true);
    assert_eq!(open(&rig, &id).len(), 1, "one GPU was not looked at");
    assert_eq!(open(&rig, &id)[0].1, Some(0));
    rig.full(&id, 45);
    assert_eq!(open(&rig, &id), []);
}

#[test]
fn as_many_full_reports_in_a_row_as_the_pool_asks_for_end_a_condition() {
    let (mut rig, id) = one("    health:\n      recover_after: 3\n");
    rig.full(&id, 97);
    // The first GPU is well all the time. One that is degraded counts for itself alone, and one
    // that is unhealthy for both.
    for (celsius, left) in [
        ([45, 45, 87, 45, 45, 45], [2, 2, 1, 1, 1, 0]),
        ([45, 45, 97, 45, 45, 45], [2, 2, 2, 2, 2, 0]),
    ] {
        rig.full(&id, 97);
        let mut heard = Vec::new();
        for celsius in celsius {
            say(&mut rig, &id, vec![warm(0, 45), warm(1, celsius)], true);
            heard.push(open(&rig, &id).len());
        }
        assert_eq!(heard, left, "{celsius:?}");
    }
}

/// A reading that a rule finds to be degraded for as long as the machine lasts.
fn link_down(gpu: i32) -> Fact {
    Fact {
        gpu: Some(gpu),
        event_type: HealthEventType::Nvlink,
        watch: "nvlink".to_owned(),
        ..Fact::default()
    }
}

#[test]
fn a_degradation_that_another_check_finds_holds_no_condition_open() {
    for gpu in [0, 1] {
        let (mut rig, id) = one("");
        say(&mut rig, &id, vec![warm(0, 97), link_down(gpu)], true);
        assert_eq!(rig.node(&id).status(), NodeStatus::Unhealthy);
        say(&mut rig, &id, vec![warm(0, 45), link_down(gpu)], true);
        assert_eq!(
            open(&rig, &id),
            [("nvlink".to_owned(), Some(gpu))],
            "what lasts, lasts"
        );
        assert_eq!(rig.node(&id).status(), NodeStatus::Active);
        assert_eq!(rig.node(&id).health(), HealthStatus::Degraded);
    }
}

/// One reading is the business of several rules, and the first that matches hides the others.
#[test]
fn a_condition_stays_while_its_check_finds_anything_at_all() {
    let text = "version: v1\nrules:\n  - name: hot\n    condition: event.metrics.temperature >= 95\n    \
                result: unhealthy\n    class: hot\n  - name: warm\n    condition: \
                event.metrics.temperature >= 85\n    result: degraded\n    class: warm\n";
    let policy = HealthPolicy::parse("test", text).unwrap_or_else(|errors| panic!("{errors:?}"));
    let (mut rig, id) = one("");
    rig.take(Input::SetPolicy(Arc::new(policy)));
    let mut classes = |celsius: u32| {
        say(&mut rig, &id, vec![warm(0, celsius)], true);
        let open = open(&rig, &id).into_iter();
        open.map(|(class, _)| class).collect::<Vec<_>>()
    };
    assert_eq!(classes(97), ["hot"]);
    assert_eq!(classes(87), ["hot", "warm"]);
    assert_eq!(classes(45), [""; 0]);
}

#[test]
fn a_condition_that_another_check_speaks_for_as_well_stays() {
    let text = "version: v1\nrules:\n  - name: one\n    condition: event.watch == \"one\" && \
                event.event_type == \"power\"\n    result: unhealthy\n    class: c\n  - name: two\n    \
                condition: event.watch == \"two\" && event.event_type == \"power\"\n    result: \
                degraded\n    class: c\n";
    let policy = HealthPolicy::parse("test", text).unwrap_or_else(|errors| panic!("{errors:?}"));
    let (mut rig, id) = one("");
    rig.take(Input::SetPolicy(Arc::new(policy)));
    let mut left = |one: HealthEventType, two: HealthEventType| {
        let fact = |watch: &str, event_type| Fact {
            gpu: Some(0),
            event_type,
            watch: watch.to_owned(),
            ..Fact::default()
        };
        say(
            &mut rig,
            &id,
            vec![fact("one", one), fact("two", two)],
            true,
        );
        open(&rig, &id).len()
    };
    let (quiet, power) = (HealthEventType::Unknown, HealthEventType::Power);
    assert_eq!(left(power, quiet), 1);
    assert_eq!(left(quiet, power), 1);
    assert_eq!(left(quiet, quiet), 0);
}

#[test]
fn a_report_that_says_the_same_again_makes_nothing_durable() {
    for celsius in [87, 97] {
        let (mut rig, id) = one("");
        for _ in 0..3 {
            rig.full(&id, celsius);
        }
        let report = rig.facts(&id, vec![warm(0, celsius), warm(1, celsius)]);
        let report = Report {
            full: true,
            ..report
        };
        let input = Input::Report(report);
        let applied = rig.fleet.apply(input, rig.now, &mut rig.ids);
        assert_eq!(applied.changes, [], "{celsius}");
    }
}

#[test]
fn the_same_reading_of_a_condition_is_no_new_evidence() {
    let (mut rig, id) = one("");
    let mut count = |celsius: u32| {
        say(&mut rig, &id, vec![warm(0, celsius)], false);
        only(&rig).evidence_count
    };
    assert_eq!([97, 97, 98, 98, 97].map(&mut count), [1, 1, 2, 2, 3]);
}

#[test]
fn evidence_of_an_earlier_boot_does_not_say_that_a_repair_failed() {
    let (mut rig, id) = one("");
    rig.xid(&id, 79, 0);
    let first = rig.node(&id).boot.clone();
    let mut again = Rig::registration(&id);
    again.boot = Some(navarch_model::BootId::new("boot-2"));
    rig.take(Input::Register(again));
    let mut late = |boot: Option<navarch_model::BootId>| {
        let fact = Fact {
            gpu: Some(0),
            event_type: HealthEventType::Xid,
            metrics: [("xid_code".to_owned(), "79".to_owned())].into(),
            watch: "xid".to_owned(),
            boot,
            ..Fact::default()
        };
        say(&mut rig, &id, vec![fact], false);
        let incident = only(&rig);
        (incident.repaired.is_some(), incident.required)
    };
    assert_eq!(late(first), (true, Repair::Reboot), "it is of before");
    assert_eq!(late(None), (false, Repair::Replace), "it is of now");
}

#[test]
fn an_incident_says_where_it_is_by_which_rule_why_and_what_it_requires() {
    let (mut rig, id) = one("");
    rig.xid(&id, 79, 1);
    let incident = only(&rig);
    let expected = format!(
        "UNHEALTHY xid-79 on GPU 1 by rule {}: {}; requires reboot",
        incident.check.rule, incident.citation
    );
    assert_eq!(rig.said(EventKind::IncidentOpened), [expected]);
    assert!(!only(&rig).citation.is_empty());
}

#[test]
fn a_silent_node_s_report_ends_what_it_shows_to_be_over_and_not_the_silence() {
    let (mut rig, id) = one("");
    rig.full(&id, 97);
    rig.silent(&id);
    assert_eq!(open(&rig, &id).len(), 3);
    rig.full(&id, 45);
    assert_eq!(open(&rig, &id), [(SILENCE.to_owned(), None)]);
}

#[test]
fn a_silence_begins_once_and_only_for_a_node_that_is_there() {
    let (mut rig, id) = one("");
    rig.pass(60);
    rig.silent(&id);
    let since = rig.node(&id).silent_since;
    rig.pass(5);
    rig.silent(&id);
    assert_eq!(rig.node(&id).silent_since, since);
    assert_eq!(rig.count(EventKind::NodeSilent), 1);
    assert_eq!(only(&rig).evidence_count, 1);
    rig.back(&id);
    rig.back(&id);
    assert_eq!(rig.count(EventKind::NodeBack), 1);

    let (mut rig, id) = one("");
    rig.take(Input::EndInstance {
        instance: id.clone(),
        reason: String::new(),
    });
    rig.run(5);
    rig.silent(&id);
    assert_eq!(rig.node(&id).silent_since, None);
    assert_eq!(rig.count(EventKind::NodeSilent), 0);
}

#[test]
fn what_the_control_plane_found_itself_has_its_words_as_evidence() {
    let (mut rig, id) = one("");
    let last_heard = rig.now;
    rig.pass(60);
    let boot = rig.node(&id).boot.clone();
    rig.take(Input::Silent {
        node: NodeId::new(id.as_str()),
        last_heard,
    });
    let [evidence] = &only(&rig).evidence[..] else {
        panic!("one evidence")
    };
    assert_eq!(evidence.message, "no heartbeat for 60 s");
    assert_eq!((evidence.at, evidence.happened), (rig.now, rig.now.wall.0));
    assert_eq!(evidence.boot, boot);
}

#[test]
fn missing_reports_are_one_incident_that_any_full_report_ends() {
    let (mut rig, id) = one("");
    pass(&mut rig, 400);
    assert_eq!(open(&rig, &id), [(STALE_REPORTS.to_owned(), None)]);
    let incident = only(&rig);
    assert_eq!(incident.evidence_count, 1, "it is told once");
    say(&mut rig, &id, Vec::new(), false);
    assert_eq!(open(&rig, &id).len(), 1, "it was not full");
    say(&mut rig, &id, Vec::new(), true);
    assert_eq!(open(&rig, &id), []);
    // And it is found again as late as the first time.
    pass(&mut rig, 89);
    assert_eq!(open(&rig, &id), []);
    pass(&mut rig, 1);
    assert_eq!(open(&rig, &id), [(STALE_REPORTS.to_owned(), None)]);
}

#[test]
fn reports_are_missed_only_of_a_node_that_is_heard_and_sends_full_ones() {
    // A silent one.
    let (mut rig, id) = one("");
    rig.silent(&id);
    pass(&mut rig, 400);
    assert_eq!(open(&rig, &id), [(SILENCE.to_owned(), None)]);
    // Once it is heard again, its reports count from then.
    rig.back(&id);
    pass(&mut rig, 89);
    assert_eq!(open(&rig, &id).len(), 1);
    pass(&mut rig, 1);
    assert_eq!(open(&rig, &id).len(), 2);

    // One that is gone.
    let (mut rig, id) = one("");
    rig.take(Input::EndInstance {
        instance: id.clone(),
        reason: String::new(),
    });
    rig.run(5);
    pass(&mut rig, 400);
    assert_eq!(rig.node(&id).status(), NodeStatus::Terminated);
    assert_eq!(open(&rig, &id), []);

    // One whose agent sends none.
    let (mut rig, id) = old_agent();
    pass(&mut rig, 400);
    assert_eq!(open(&rig, &id), []);
}

#[test]
fn reports_are_expected_as_often_as_a_new_configuration_says() {
    let rare = yaml(1, 2, "guards:\n  budget: 0\n").replace("interval: 30s", "interval: 4h");
    let mut rig = Rig::new(&rare);
    let id = rig.up(1).remove(0);
    rig.full(&id, 45);
    pass(&mut rig, 60);
    rig.configure(&rare.replace("interval: 4h", "interval: 30s"));
    pass(&mut rig, 29);
    assert_eq!(open(&rig, &id), []);
    pass(&mut rig, 1);
    assert_eq!(open(&rig, &id), [(STALE_REPORTS.to_owned(), None)]);
}

#[test]
fn nothing_is_kept_of_when_reports_of_a_machine_that_is_gone_were_due() {
    let known = |rig: &Rig| {
        let sizes = rig.fleet.sizes();
        let found = sizes
            .into_iter()
            .find(|(name, _)| *name == "nodes whose reports are watched");
        found.map(|(_, size)| size)
    };
    let (mut rig, id) = one("");
    pass(&mut rig, 5);
    assert!(known(&rig) > Some(0));
    rig.configure(&yaml(0, 2, "guards:\n  budget: 0\n"));
    rig.take(Input::EndInstance {
        instance: id,
        reason: String::new(),
    });
    rig.run(5);
    pass(&mut rig, 100);
    assert_eq!(known(&rig), Some(0));
}

/// A machine whose agent grades its own checks.
fn old_agent() -> (Rig, InstanceId) {
    let mut rig = Rig::new(&yaml(1, 2, "guards:\n  budget: 0\n"));
    rig.run(5);
    let id = rig.of(Phase::PendingRegistration).remove(0);
    let mut registration = Rig::registration(&id);
    registration.description.capabilities.full_reports = false;
    rig.take(Input::Register(registration));
    (rig, id)
}

#[test]
fn what_an_old_agent_graded_ends_with_a_report_that_is_healthy_over_all() {
    use HealthStatus::{Degraded, Healthy, Unhealthy};
    let (mut rig, id) = old_agent();
    let mut left = |boot: HealthStatus, gpu: HealthStatus| {
        let grade = |check: &str, status| GradedResult {
            check: check.to_owned(),
            status,
            message: String::new(),
        };
        let report = Report {
            results: vec![grade("boot", boot), grade("gpu", gpu)],
            ..rig.facts(&id, Vec::new())
        };
        rig.take(Input::Report(report));
        (open(&rig, &id).len(), rig.node(&id).status())
    };
    assert_eq!(left(Unhealthy, Healthy), (1, NodeStatus::Unhealthy));
    assert_eq!(left(Healthy, Degraded), (2, NodeStatus::Unhealthy));
    assert_eq!(left(Healthy, Healthy), (0, NodeStatus::Active));
}

#[test]
fn an_old_agent_tells_of_trouble_only_so_that_its_graded_report_ends_what_it_does_not_name() {
    let (mut rig, id) = old_agent();
    say(&mut rig, &id, vec![warm(0, 97)], false);
    assert_eq!(open(&rig, &id).len(), 1);
    let report = Report {
        results: vec![GradedResult {
            check: "boot".to_owned(),
            status: HealthStatus::Healthy,
            message: String::new(),
        }],
        ..rig.facts(&id, Vec::new())
    };
    rig.take(Input::Report(report));
    assert_eq!(open(&rig, &id), []);
}

#[test]
fn a_fact_without_a_watch_belongs_to_the_one_that_must_have_made_it() {
    use HealthEventType as T;
    let text = "version: v1\nrules:\n  - name: all\n    condition: event.gpu_index == 0\n    \
                result: degraded\n    class: any\n";
    let policy = HealthPolicy::parse("test", text).unwrap_or_else(|errors| panic!("{errors:?}"));
    let policy = Arc::new(policy);
    for (event_type, named, watch) in [
        (T::Xid, "", "xid"),
        (T::Thermal, "", "temperature"),
        (T::Power, "", "power"),
        (T::Memory, "", "memory"),
        (T::EccSbe, "", "memory"),
        (T::EccDbe, "", "memory"),
        (T::Nvlink, "", "nvlink"),
        (T::Pcie, "", "pcie"),
        (T::DriverError, "", "driver"),
        (T::Unknown, "", ""),
        (T::Thermal, "its own", "its own"),
    ] {
        let (mut rig, id) = one("");
        rig.take(Input::SetPolicy(Arc::clone(&policy)));
        let fact = Fact {
            gpu: Some(0),
            event_type,
            watch: named.to_owned(),
            ..Fact::default()
        };
        say(&mut rig, &id, vec![fact], false);
        assert_eq!(only(&rig).check.watch, watch, "{event_type:?}");
    }
}

#[test]
fn a_rule_that_cannot_run_is_told_once_and_repairs_nothing() {
    let (mut rig, id) = one("");
    let text = "version: v1\nrules:\n  - name: broken\n    condition: event.event_type == \"power\" \
                && event.metrics.odd > 5\n    result: unhealthy\n    action: replace\n";
    let policy = HealthPolicy::parse("test", text).unwrap_or_else(|errors| panic!("{errors:?}"));
    rig.take(Input::SetPolicy(Arc::new(policy)));
    for _ in 0..2 {
        let fact = Fact {
            gpu: Some(0),
            event_type: HealthEventType::Power,
            metrics: [("odd".to_owned(), "words".to_owned())].into(),
            ..Fact::default()
        };
        say(&mut rig, &id, vec![fact], false);
    }
    assert_eq!(
        rig.said(EventKind::RuleFailed),
        [
            "rule broken cannot be evaluated: found no matching overload for '_>_' applied to \
          '(string, int)'"
        ]
    );
    assert_eq!(rig.count(EventKind::RuleFailed), 1);
    let incident = only(&rig);
    assert_eq!(
        (incident.severity, incident.required),
        (HealthStatus::Degraded, Repair::None)
    );
}

#[test]
fn reports_that_a_driver_vouches_for_are_missed_only_once_it_doubts_them() {
    let (mut rig, id) = one("");
    let node = NodeId::new(id.as_str());
    pass(&mut rig, 60);
    rig.full(&id, 45);
    let last = rig.now.core;
    // Nobody vouched for anything yet: what was heard counts.
    pass(&mut rig, 80);
    rig.fleet.doubt_reports(&node, Time(0));
    pass(&mut rig, 9);
    assert_eq!(open(&rig, &id), []);
    assert_eq!(rig.fleet.vouch_for_reports(&node), Some(last));
    assert_eq!(rig.fleet.vouch_for_reports(&NodeId::new("nobody")), None);
    pass(&mut rig, 400);
    assert_eq!(open(&rig, &id), []);
    let now = rig.now.core;
    rig.fleet.doubt_reports(&node, now);
    pass(&mut rig, 89);
    assert_eq!(open(&rig, &id), []);
    pass(&mut rig, 1);
    assert_eq!(open(&rig, &id), [(STALE_REPORTS.to_owned(), None)]);
}

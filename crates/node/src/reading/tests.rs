//! Readings of fake machines, and what the built-in policy makes of them.

use navarch_gpu::fake::{FakeOptions, Fault};
use navarch_gpu::{FakeBackend, NoneBackend};
use navarch_model::HealthStatus;
use navarch_policy::{EventFacts, HealthPolicy};
use navarch_time::VirtualClock;

use super::*;

const GPUS: u32 = 4;

fn machine() -> FakeBackend {
    let mut options = FakeOptions::new("n1", VirtualClock::new().shared());
    options.gpu_count = GPUS;
    FakeBackend::new(options).expect("a good machine")
}

fn scribe() -> Scribe {
    Scribe::new(BootId::new("boot-1"))
}

fn fault(json: &str) -> Fault {
    serde_json::from_str(json).expect(json)
}

/// The facts of a machine with these faults.
fn facts(faults: &[&str]) -> Vec<Fact> {
    let machine = machine();
    let known = gpus(&Reading::take(&machine), &[]);
    for json in faults {
        machine.inject(&fault(json)).expect(json);
    }
    scribe().full(&Reading::take(&machine), &known, Time(7))
}

/// A fact in one line: the watch, the GPU, and what it shows.
fn line(fact: &Fact) -> String {
    let gpu = fact
        .gpu
        .map_or_else(|| "-".to_owned(), |gpu| gpu.to_string());
    let (kind, system) = (fact.event_type.short(), fact.system.short());
    format!("{} {gpu} {kind}/{system}", fact.watch)
}

/// What the built-in policy says of a fact, on a machine that should have four GPUs.
fn verdict(fact: &Fact) -> (HealthStatus, Option<String>) {
    let mut metrics = fact.metrics.clone();
    if metrics.contains_key("gpu_count") {
        metrics.insert("gpu_count_expected".to_owned(), GPUS.to_string());
    }
    let verdict = HealthPolicy::builtin().evaluate(&EventFacts {
        timestamp: fact.happened,
        gpu_index: fact.gpu.unwrap_or(-1),
        gpu_uuid: &fact.gpu_uuid,
        system: fact.system,
        event_type: fact.event_type,
        watch: &fact.watch,
        message: &fact.message,
        metrics: &metrics,
    });
    assert!(
        verdict.findings.is_empty(),
        "{fact:?}: {:?}",
        verdict.findings
    );
    (verdict.result, verdict.rule.map(|rule| rule.to_string()))
}

#[test]
fn a_healthy_machine_is_read_by_every_watch_and_is_healthy() {
    let facts = facts(&[]);
    let mut expected: Vec<String> = ["boot", "device_count", "driver", "xid", "nvlink"]
        .map(|it| format!("{it} - unknown/unknown"))
        .into();
    for gpu in 0..GPUS {
        for watch in [
            "xid",
            "driver",
            "temperature",
            "memory",
            "nvlink",
            "pcie",
            "power",
        ] {
            let shows = if watch == "temperature" {
                "thermal/thermal"
            } else {
                "unknown/unknown"
            };
            expected.push(format!("{watch} {gpu} {shows}"));
        }
    }
    assert_eq!(facts.iter().map(line).collect::<Vec<_>>(), expected);
    for fact in &facts {
        assert_eq!(verdict(fact).0, HealthStatus::Healthy, "{fact:?}");
        assert_eq!(
            (fact.happened, fact.boot.as_ref().map(BootId::as_str)),
            (7, Some("boot-1"))
        );
        let placed = fact.gpu.is_none() == fact.gpu_uuid.is_empty();
        assert!(placed, "a GPU is named by its UUID: {fact:?}");
    }
}

#[test]
fn every_fault_that_a_reading_shows_is_graded_as_it_should() {
    use HealthStatus::{Degraded, Unhealthy};
    for (json, shown, result, rule) in [
        (
            r#"{"kind":"thermal","gpu":2,"temperature":98}"#,
            "temperature 2 thermal/thermal",
            Unhealthy,
            "temperature-critical",
        ),
        (
            r#"{"kind":"thermal","gpu":2,"temperature":86}"#,
            "temperature 2 thermal/thermal",
            Degraded,
            "temperature-high",
        ),
        (
            r#"{"kind":"memory","gpu":1,"dbe":1,"sbe":5}"#,
            "memory 1 ecc_dbe/mem",
            Unhealthy,
            "ecc-uncorrectable",
        ),
        (
            r#"{"kind":"memory","gpu":1,"sbe":101}"#,
            "memory 1 ecc_sbe/mem",
            Degraded,
            "ecc-corrected-often",
        ),
        (
            r#"{"kind":"nvlink","gpu":3,"link":5}"#,
            "nvlink 3 nvlink/nvlink",
            Degraded,
            "nvlink",
        ),
        (
            r#"{"kind":"row-remap","gpu":1}"#,
            "memory 1 memory/mem",
            Degraded,
            "row-remap-pending",
        ),
        (
            r#"{"kind":"row-remap","gpu":1,"failed":true}"#,
            "memory 1 memory/mem",
            Unhealthy,
            "row-remap-failed",
        ),
        (
            r#"{"kind":"power","gpu":2}"#,
            "power 2 power/power",
            Degraded,
            "power",
        ),
        (
            r#"{"kind":"recovery-action","gpu":2}"#,
            "driver 2 unknown/driver",
            Unhealthy,
            "driver-action",
        ),
        (
            r#"{"kind":"recovery-action","gpu":2,"action":3}"#,
            "driver 2 unknown/driver",
            Degraded,
            "driver-action-app",
        ),
        (
            r#"{"kind":"backend-error"}"#,
            "driver - driver_error/driver",
            Unhealthy,
            "driver-failed",
        ),
        (
            r#"{"kind":"device-error","gpu":3}"#,
            "driver 3 driver_error/driver",
            Unhealthy,
            "driver-failed",
        ),
        (
            r#"{"kind":"device-error","gpu":3,"missing":true}"#,
            "device_count - unknown/unknown",
            Unhealthy,
            "gpu-missing",
        ),
        (
            r#"{"kind":"boot-failure"}"#,
            "device_count - unknown/unknown",
            Unhealthy,
            "gpus-gone",
        ),
    ] {
        let found: Vec<_> = facts(&[json])
            .iter()
            .filter(|fact| verdict(fact).0 > HealthStatus::Healthy)
            .map(|fact| (line(fact), verdict(fact)))
            .collect();
        assert_eq!(
            found,
            [(shown.to_owned(), (result, Some(rule.to_owned())))],
            "{json}"
        );
    }
}

#[test]
fn the_event_of_every_fault_is_graded_as_it_should() {
    use HealthStatus::{Degraded, Healthy, Unhealthy};
    for (json, shown, result, rule) in [
        (
            r#"{"kind":"xid","gpu":3,"code":79}"#,
            " 3 xid/driver",
            Unhealthy,
            "xid-reboot",
        ),
        (
            r#"{"kind":"xid","gpu":0,"code":13}"#,
            " 0 xid/driver",
            Degraded,
            "xid-app",
        ),
        (
            r#"{"kind":"xid","gpu":0,"code":99999}"#,
            " 0 xid/driver",
            Degraded,
            "xid-unknown",
        ),
        (
            r#"{"kind":"thermal","gpu":2}"#,
            "temperature 2 thermal/thermal",
            Unhealthy,
            "temperature-critical",
        ),
        (
            r#"{"kind":"memory","gpu":1,"dbe":1}"#,
            "memory 1 ecc_dbe/mem",
            Unhealthy,
            "ecc-uncorrectable",
        ),
        (
            r#"{"kind":"memory","gpu":1,"sbe":1}"#,
            "memory 1 ecc_sbe/mem",
            Healthy,
            "quiet",
        ),
        (
            r#"{"kind":"nvlink","gpu":3}"#,
            "nvlink 3 nvlink/nvlink",
            Degraded,
            "nvlink",
        ),
        (
            r#"{"kind":"row-remap","gpu":1}"#,
            "memory 1 memory/mem",
            Degraded,
            "row-remap-pending",
        ),
        (
            r#"{"kind":"row-remap","gpu":1,"failed":true}"#,
            "memory 1 memory/mem",
            Unhealthy,
            "row-remap-failed",
        ),
        (
            r#"{"kind":"pcie","gpu":3}"#,
            "pcie 3 pcie/pcie",
            Degraded,
            "pcie",
        ),
        (
            r#"{"kind":"power","gpu":3}"#,
            "power 3 power/power",
            Degraded,
            "power",
        ),
        (
            r#"{"kind":"recovery-action","gpu":3,"action":2}"#,
            "driver 3 unknown/driver",
            Unhealthy,
            "driver-action",
        ),
        (
            r#"{"kind":"xid","gpu":3,"code":154,"message":"NVRM: Xid (PCI:0000:13:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)"}"#,
            " 3 xid/driver",
            Unhealthy,
            "xid-reboot",
        ),
    ] {
        let machine = machine();
        let known = gpus(&Reading::take(&machine), &[]);
        machine.inject(&fault(json)).expect(json);
        let events = machine.take_events();
        let found: Vec<_> = events
            .into_iter()
            .map(|event| scribe().event(event, &known))
            .map(|fact| (line(&fact), verdict(&fact)))
            .collect();
        assert_eq!(
            found,
            [(shown.to_owned(), (result, Some(rule.to_owned())))],
            "{json}"
        );
    }
}

#[test]
fn counters_count_while_they_grow() {
    let reading = |errors, replays| Reading {
        watched: true,
        count: Ok(1),
        gpus: vec![GpuReading {
            index: 0,
            device: machine().device(0),
            readings: Ok(Readings {
                nvlinks_active: Some(0),
                nvlinks_inactive: Some(12),
                nvlink_errors_total: Some(errors),
                pcie_replays_total: Some(replays),
                ..Readings::default()
            }),
        }],
    };
    let mut scribe = scribe();
    let mut shown = |errors, replays| -> Vec<String> {
        let facts = scribe.full(&reading(errors, replays), &[], Time(0));
        let shows = |fact: &&Fact| fact.event_type != HealthEventType::Unknown;
        facts.iter().filter(shows).map(line).collect()
    };
    // The first look knows no earlier one, and a board without a bridge has no link up.
    assert!(shown(10, 5).is_empty());
    // What it cannot know it does not call quiet, or it would end what an earlier agent found.
    let first = |errors, replays| -> Vec<String> {
        let facts = self::scribe().full(&reading(errors, replays), &[], Time(0));
        let counted =
            |fact: &&Fact| fact.gpu.is_some() && ["nvlink", "pcie"].contains(&&*fact.watch);
        facts
            .iter()
            .filter(counted)
            .map(|fact| fact.watch.clone())
            .collect()
    };
    assert_eq!(first(10, 5), Vec::<String>::new());
    assert_eq!(first(0, 5), ["nvlink"]);
    assert_eq!(first(10, 0), ["pcie"]);
    assert_eq!(shown(11, 5), ["nvlink 0 nvlink/nvlink"]);
    assert_eq!(shown(11, 9), ["pcie 0 pcie/pcie"]);
    // The driver was loaded again.
    assert!(shown(0, 0).is_empty());
}

#[test]
fn the_drivers_own_verdict_and_failing_calls_are_told() {
    let readings = |errors: Vec<GpuError>, action| Readings {
        recovery_action: Some(action),
        errors,
        ..Readings::default()
    };
    let error = GpuError::Call {
        call: "nvmlDeviceGetTemperature",
        index: Some(0),
        code: 999,
        text: "Unknown Error".to_owned(),
    };
    for (readings, shown, result, rule) in [
        (
            readings(Vec::new(), 0),
            "driver - unknown/unknown",
            HealthStatus::Healthy,
            "quiet",
        ),
        (
            readings(Vec::new(), 1),
            "driver - unknown/driver",
            HealthStatus::Unhealthy,
            "driver-action",
        ),
        (
            readings(Vec::new(), 2),
            "driver - unknown/driver",
            HealthStatus::Unhealthy,
            "driver-action",
        ),
        (
            readings(vec![error], 0),
            "driver - driver_error/driver",
            HealthStatus::Unhealthy,
            "driver-failed",
        ),
    ] {
        let fact = scribe().driver(&readings, Time(0));
        let found = (line(&fact), verdict(&fact));
        assert_eq!(found, (shown.to_owned(), (result, Some(rule.to_owned()))));
    }
}

#[test]
fn a_machine_without_the_library_has_no_gpus_and_no_watches() {
    let facts = scribe().full(&Reading::take(&NoneBackend::new()), &[], Time(0));
    let lines: Vec<_> = facts.iter().map(line).collect();
    assert_eq!(
        lines,
        ["boot - unknown/unknown", "device_count - unknown/unknown"]
    );
    assert_eq!(facts[1].metrics["gpu_count"], "0");
}

#[test]
fn a_driver_that_does_not_answer_is_a_finding() {
    let late = NoAnswer::Late(Duration::from_secs(10));
    let facts = scribe().unanswered(&late, Time(0));
    let found: Vec<_> = facts
        .iter()
        .map(|fact| (line(fact), verdict(fact).0))
        .collect();
    assert_eq!(
        found,
        [
            ("boot - unknown/unknown".to_owned(), HealthStatus::Healthy),
            (
                "driver - driver_error/driver".to_owned(),
                HealthStatus::Unhealthy
            ),
        ]
    );
    assert_eq!(
        facts[1].message,
        "the GPU driver did not answer within 10 s"
    );
}

#[test]
fn a_gpu_that_does_not_answer_is_still_part_of_the_machine() {
    let machine = machine();
    let known = gpus(&Reading::take(&machine), &[]);
    machine
        .inject(&fault(r#"{"kind":"device-error","gpu":3}"#))
        .expect("it can be");
    let reading = Reading::take(&machine);
    assert_eq!(gpus(&reading, &known), known);
    let unknown = gpus(&reading, &[]);
    assert_eq!(
        (unknown.len(), unknown[3].index, unknown[3].uuid.as_str()),
        (4, 3, "")
    );
    let facts = scribe().full(&reading, &known, Time(0));
    let lost = facts
        .iter()
        .find(|fact| line(fact) == "driver 3 driver_error/driver");
    assert_eq!(lost.expect("it is told").gpu_uuid, known[3].uuid);
    assert_eq!(Reading::samples(&machine).len(), 3);
}

#[test]
fn texts_of_a_driver_are_made_harmless() {
    let event = GpuEvent::xid(79, Time(1))
        .on(3, "GPU-\u{1b}[2J\0x")
        .metric("odd", "é\n".repeat(10_000));
    let fact = scribe().event(event, &[]);
    assert_eq!(fact.gpu_uuid, "GPU- [2J x");
    let odd = &fact.metrics["odd"];
    assert!(
        odd.len() <= navarch_api::limits::MAX_NAME_BYTES && !odd.contains('\n'),
        "{odd}"
    );
}

#[test]
fn a_diagnostic_says_what_was_read_and_what_shows() {
    let (succeeded, text) = describe(&Ok(facts(&[])), Duration::from_millis(12));
    assert!(
        succeeded && text.ends_with("33 readings in 12 ms; the control plane grades them"),
        "{text}"
    );
    assert!(
        text.contains("\ngpu 3   temperature  temperature="),
        "{text}"
    );
    let (_, text) = describe(
        &Ok(facts(&[r#"{"kind":"nvlink","gpu":1}"#])),
        Duration::ZERO,
    );
    assert!(text.contains("gpu 1   nvlink       nvlink "), "{text}");
    let hung = Err(NoAnswer::Late(Duration::from_secs(10)));
    assert_eq!(
        describe(&hung, Duration::ZERO),
        (
            false,
            "the GPU driver did not answer within 10 s".to_owned()
        )
    );
}

//! The fake backend: identity, faults, repair, and what outlives a restart.
#![cfg(test)]

use std::time::Duration;

use navarch_gpu::fake::{
    FakeOptions, FakeState, Fault, FaultError, FaultKind, MAX_GPUS, StateError,
};
use navarch_gpu::{
    Device, FakeBackend, GpuBackend, GpuError, GpuEvent, MetricValue, Options, is_fake_uuid,
    select, watch,
};
use navarch_model::{HealthEventType, HealthWatchSystem, Time};
use navarch_time::VirtualClock;
use proptest::prelude::*;

const START: i64 = 1_767_225_600_000_000;

fn clock() -> VirtualClock {
    VirtualClock::starting_at(START)
}

fn options(seed: &str) -> FakeOptions {
    FakeOptions::new(seed, clock().shared())
}

fn machine(seed: &str) -> FakeBackend {
    FakeBackend::new(options(seed)).unwrap()
}

/// The same machine after its agent was started again.
fn restarted(backend: &FakeBackend) -> FakeBackend {
    let stored = serde_json::to_string(&backend.state()).unwrap();
    let state: FakeState = serde_json::from_str(&stored).unwrap();
    let options = FakeOptions {
        state: Some(state.clone()),
        ..options(&state.seed)
    };
    FakeBackend::new(options).unwrap()
}

fn fault(json: &str) -> Fault {
    serde_json::from_str(json).unwrap()
}

fn uuids(backend: &FakeBackend) -> Vec<String> {
    let count = backend.device_count().unwrap();
    (0..count)
        .map(|index| backend.device(index).unwrap().uuid)
        .collect()
}

#[test]
fn a_machine_says_who_it_is() {
    let backend = machine("inst-1");
    assert_eq!(backend.name(), "fake");
    assert_eq!(backend.device_count(), Ok(8));
    let device = backend.device(3).unwrap();
    let expected = Device {
        index: 3,
        uuid: device.uuid.clone(),
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        pci_bus_id: "0000:13:00.0".to_owned(),
        memory_total_bytes: 80 << 30,
        driver_version: "fake".to_owned(),
        cuda_version: "fake".to_owned(),
    };
    assert_eq!(device, expected);
    let none = GpuError::NoSuchDevice { index: 8, count: 8 };
    assert_eq!(backend.device(8), Err(none));
}

#[test]
fn uuids_are_fake_to_see_and_no_two_machines_share_one() {
    let mut all: Vec<_> = ["a", "b", "inst-1", "inst-2", ""]
        .iter()
        .flat_map(|seed| uuids(&machine(seed)))
        .collect();
    assert_eq!(uuids(&machine("a")), all[..8]);
    for uuid in &all {
        assert!(is_fake_uuid(uuid), "{uuid}");
        assert_eq!(uuid.len(), "GPU-00000000-0000-0000-0000-000000000000".len());
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 40);
    assert!(!is_fake_uuid("GPU-00000001-1111-2222-3333-444455556666"));
    assert!(!is_fake_uuid("GPU-fa4e0001-1111-2222-3333-444455556666"));
}

#[test]
fn every_kind_has_its_event_and_its_effect() {
    let event = |backend: &FakeBackend, system, event_type| {
        GpuEvent::new(system, event_type, Time(START)).on(3, &backend.device(3).unwrap().uuid)
    };
    use HealthEventType as Type;
    use HealthWatchSystem as System;

    let backend = machine("m");
    backend
        .inject(&fault(r#"{"kind":"xid","gpu":3,"code":119}"#))
        .unwrap();
    let expected = event(&backend, System::Driver, Type::Xid)
        .metric("xid_code", 119)
        .message("NVRM: Xid (PCI:0000:13:00): 119, injected fault");
    assert_eq!(backend.take_events(), [expected]);

    let words = r#"{"kind":"thermal","gpu":3,"temperature":97,"message":"hot"}"#;
    backend.inject(&fault(words)).unwrap();
    let expected = event(&backend, System::Thermal, Type::Thermal)
        .watched_by(watch::TEMPERATURE)
        .metric("temperature", 97)
        .message("hot");
    assert_eq!(backend.take_events(), [expected]);
    assert_eq!(backend.readings(3).unwrap().temperature_celsius, Some(97));
    assert_ne!(backend.readings(2).unwrap().temperature_celsius, Some(97));

    for _ in 0..2 {
        let words = r#"{"kind":"memory","gpu":3,"sbe":150,"dbe":1}"#;
        backend.inject(&fault(words)).unwrap();
    }
    let readings = backend.readings(3).unwrap();
    assert_eq!(readings.ecc_sbe_total, Some(300));
    assert_eq!(readings.ecc_dbe_total, Some(2));
    let events = backend.take_events();
    let kinds: Vec<_> = events.iter().map(|event| event.event_type).collect();
    assert_eq!(
        kinds,
        [Type::EccSbe, Type::EccDbe, Type::EccSbe, Type::EccDbe]
    );
    assert_eq!(events[0].metrics.len(), 1);
    assert_eq!(events[0].metrics["ecc_sbe_count"], MetricValue::Int(150));
    assert_eq!(events[1].metrics["ecc_dbe_count"], MetricValue::Int(1));

    let words = r#"{"kind":"nvlink","gpu":3,"link":5}"#;
    backend.inject(&fault(words)).unwrap();
    let readings = backend.readings(3).unwrap();
    assert_eq!(
        (
            readings.nvlinks_active,
            readings.nvlinks_inactive,
            readings.nvlink_errors_total
        ),
        (Some(17), Some(1), Some(1))
    );
    let events = backend.take_events();
    assert_eq!(events[0].system, System::Nvlink);
    assert_eq!(events[0].metrics["link_id"], MetricValue::Int(5));
    assert_eq!(events[0].watch, Some(watch::NVLINK));
}

#[test]
fn faults_of_the_driver_and_of_devices_are_found_by_asking() {
    let backend = machine("m");
    let names = uuids(&backend);

    backend
        .inject(&fault(r#"{"kind":"device-error","gpu":2}"#))
        .unwrap();
    assert!(backend.readings(2).unwrap_err().is_lost());
    assert!(backend.device(2).unwrap_err().is_lost());
    assert!(backend.readings(1).is_ok());
    assert_eq!(backend.device_count(), Ok(8));

    // A GPU that is gone moves the others down, as the driver does after a boot.
    let words = r#"{"kind":"device-error","gpu":2,"missing":true}"#;
    backend.inject(&fault(words)).unwrap();
    assert_eq!(backend.device_count(), Ok(7));
    assert_eq!(backend.device(2).unwrap().uuid, names[3]);
    // Faults still name the GPUs by their place on the machine.
    let words = r#"{"kind":"thermal","gpu":3,"temperature":91}"#;
    backend.inject(&fault(words)).unwrap();
    let [event] = &backend.take_events()[..] else {
        panic!("one event, for the thermal fault")
    };
    assert_eq!((event.gpu, event.uuid.as_ref()), (Some(2), Some(&names[3])));
    assert_eq!(backend.readings(2).unwrap().temperature_celsius, Some(91));

    backend
        .inject(&fault(r#"{"kind":"boot-failure"}"#))
        .unwrap();
    assert_eq!(backend.device_count(), Ok(0));
    let none = GpuError::NoSuchDevice { index: 0, count: 0 };
    assert_eq!(backend.readings(0), Err(none));

    let words = r#"{"kind":"backend-error","message":"driver hangs"}"#;
    backend.inject(&fault(words)).unwrap();
    let error = backend.device_count().unwrap_err();
    assert_eq!(
        error.to_string(),
        "nvmlDeviceGetCount_v2 failed: driver hangs (999)"
    );
    assert!(backend.device(0).is_err() && backend.readings(0).is_err());
    assert_eq!(backend.take_events(), []);
}

#[test]
fn rows_links_power_and_the_drivers_word_show_in_the_readings() {
    let clock = clock();
    let backend = FakeBackend::new(FakeOptions::new("m", clock.shared())).unwrap();
    let well = backend.readings(1).unwrap();
    for json in [
        r#"{"kind":"row-remap","gpu":1}"#,
        r#"{"kind":"row-remap","gpu":2,"failed":true}"#,
        r#"{"kind":"pcie","gpu":1}"#,
        r#"{"kind":"power","gpu":1}"#,
        r#"{"kind":"recovery-action","gpu":1}"#,
    ] {
        backend.inject(&fault(json)).unwrap();
    }
    let ill = backend.readings(1).unwrap();
    assert_eq!(
        (ill.row_remap_pending, ill.row_remap_failed),
        (Some(true), Some(false))
    );
    assert_eq!(ill.remapped_rows_uncorrectable, Some(1));
    assert_eq!(ill.pcie_link_width, Some(8));
    assert_eq!(ill.power_brake, Some(true));
    assert!(ill.power_watts <= Some(100.0) && well.power_watts > Some(100.0));
    assert_eq!(ill.recovery_action, Some(2));
    let other = backend.readings(2).unwrap();
    assert_eq!(
        (other.row_remap_pending, other.row_remap_failed),
        (Some(false), Some(true))
    );
    // A bad link goes on repeating, so that every later reading is news.
    assert_eq!(ill.pcie_replays_total, Some(1000));
    clock.advance(Duration::from_secs(2));
    assert_eq!(backend.readings(1).unwrap().pcie_replays_total, Some(3000));
    backend
        .inject(&fault(r#"{"kind":"pcie","gpu":1}"#))
        .unwrap();
    assert_eq!(backend.readings(1).unwrap().pcie_replays_total, Some(4000));
}

#[test]
fn whoever_waits_hears_of_every_change() {
    let backend = machine("m");
    let long = Duration::from_secs(600);
    backend
        .inject(&fault(r#"{"kind":"backend-error"}"#))
        .unwrap();
    assert_eq!(backend.wait_events(long), []);
    backend.clear(None);
    assert_eq!(backend.wait_events(long), []);
    backend.inject(&fault(r#"{"kind":"xid"}"#)).unwrap();
    assert_eq!(backend.wait_events(long).len(), 1);
    assert_eq!(backend.wait_events(Duration::ZERO), []);
}

/// One fault of every kind, each on a GPU of its own.
fn every_kind() -> Vec<Fault> {
    [
        r#"{"kind":"xid","gpu":0,"code":79}"#,
        r#"{"kind":"thermal","gpu":1,"temperature":99}"#,
        r#"{"kind":"memory","gpu":2,"dbe":3}"#,
        r#"{"kind":"nvlink","gpu":3,"link":0}"#,
        r#"{"kind":"backend-error"}"#,
        r#"{"kind":"device-error","gpu":4}"#,
        r#"{"kind":"boot-failure"}"#,
        r#"{"kind":"row-remap","gpu":5,"failed":true}"#,
        r#"{"kind":"pcie","gpu":6}"#,
        r#"{"kind":"power","gpu":7}"#,
        r#"{"kind":"recovery-action","gpu":7,"action":1}"#,
    ]
    .map(fault)
    .to_vec()
}

#[test]
fn clearing_one_kind_leaves_the_others_and_boots() {
    assert_eq!(
        every_kind().iter().map(Fault::kind).collect::<Vec<_>>(),
        FaultKind::ALL
    );
    for cleared in FaultKind::ALL {
        let backend = machine("m");
        for fault in every_kind() {
            backend.inject(&fault).unwrap();
        }
        let before = backend.boot_id().unwrap();
        let repair = backend.clear(Some(cleared));
        let state = backend.state();
        let left: Vec<_> = state
            .faults
            .iter()
            .map(|record| record.fault.kind())
            .collect();
        let others: Vec<_> = FaultKind::ALL
            .into_iter()
            .filter(|kind| *kind != cleared)
            .collect();
        assert_eq!(left, others);
        assert_eq!(
            (repair.kinds.as_slice(), repair.cleared),
            (&[cleared][..], 1)
        );
        assert_eq!(repair.previous_boot_id, before);
        assert_ne!(repair.boot_id, before);
        assert_eq!(backend.boot_id(), Some(repair.boot_id.clone()));
        assert_eq!(state.last_repair, Some(repair));
        assert_eq!(state.boots, 2);
    }
}

#[test]
fn clearing_all_repairs_the_machine() {
    let backend = machine("m");
    let names = uuids(&backend);
    let healthy: Vec<_> = (0..8).map(|index| backend.readings(index)).collect();
    for fault in every_kind() {
        backend.inject(&fault).unwrap();
    }
    assert_eq!(backend.clear(None).cleared, FaultKind::ALL.len() as u32);
    assert_eq!(uuids(&backend), names);
    let readings: Vec<_> = (0..8).map(|index| backend.readings(index)).collect();
    assert_eq!(readings, healthy);
    // Nothing was wrong, and still it was a repair.
    let before = backend.boot_id();
    assert_eq!(backend.clear(Some(FaultKind::Xid)).cleared, 0);
    assert_ne!(backend.boot_id(), before);
}

#[test]
fn a_restart_repairs_nothing_and_reports_nothing_twice() {
    let backend = machine("m");
    backend.clear(None);
    for fault in every_kind() {
        backend.inject(&fault).unwrap();
    }
    let again = restarted(&backend);
    assert_eq!(again.state(), backend.state());
    assert_eq!(again.boot_id(), backend.boot_id());
    assert_eq!(again.take_events(), []);
    assert!(again.device_count().is_err());
    again.clear(Some(FaultKind::BackendError));
    again.clear(Some(FaultKind::BootFailure));
    assert_eq!(uuids_but(&again, 4), uuids_but(&machine("m"), 4));
    assert_eq!(again.readings(1).unwrap().temperature_celsius, Some(99));
    assert_eq!(again.readings(2).unwrap().ecc_dbe_total, Some(3));
}

fn uuids_but(backend: &FakeBackend, missing: u32) -> Vec<String> {
    (0..8)
        .filter(|index| *index != missing)
        .map(|index| backend.device(index).unwrap().uuid)
        .collect()
}

#[test]
fn a_state_is_used_by_its_own_machine_only() {
    let stored = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value = serde_json::to_value(machine("m").state()).unwrap();
        change(&mut value);
        value
    };
    let start = |value: serde_json::Value, seed: &str| {
        let state = serde_json::from_value(value).map_err(|error| error.to_string())?;
        let options = FakeOptions {
            state: Some(state),
            ..options(seed)
        };
        FakeBackend::new(options).map_err(|error| error.to_string())
    };
    let error = start(stored(&|_| {}), "other").unwrap_err();
    assert!(
        error.contains(r#"belongs to "m", not to "other""#),
        "{error}"
    );
    let error = start(stored(&|value| value["version"] = 2.into()), "m").unwrap_err();
    assert!(error.contains("version 2, newer than 1"), "{error}");
    let error = start(stored(&|value| value["gpu_count"] = 1000.into()), "m").unwrap_err();
    assert!(error.contains("0 to 64 GPUs, not 1000"), "{error}");
    let error = start(stored(&|value| value["odd"] = 1.into()), "m").unwrap_err();
    assert!(error.contains("odd"), "{error}");
    let too_many = FakeOptions {
        gpu_count: MAX_GPUS + 1,
        ..options("m")
    };
    assert_eq!(
        FakeBackend::new(too_many).unwrap_err(),
        StateError::GpuCount(65)
    );
}

#[test]
fn what_cannot_be_stored_does_not_happen() {
    let backend = machine("m");
    let before = backend.state();
    let full = |_: &FakeState| Err("no space left on device".to_owned());
    let error = backend
        .inject_with(&fault(r#"{"kind":"xid"}"#), full)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the fault could not be stored: no space left on device"
    );
    assert!(backend.clear_with(None, full).is_err());
    assert_eq!(backend.state(), before);
    assert_eq!(backend.wait_events(Duration::ZERO), []);
    let mut stored = None;
    backend
        .inject_with(&fault(r#"{"kind":"xid"}"#), |state| {
            stored = Some(state.clone());
            Ok(())
        })
        .unwrap();
    assert_eq!(stored, Some(backend.state()));
}

#[test]
fn impossible_faults_are_refused_and_not_recorded() {
    let long = format!(r#"{{"kind":"xid","message":"{}"}}"#, "x".repeat(1025));
    let cases = [
        (
            r#"{"kind":"xid","gpu":8}"#,
            "there is no GPU 8; this machine has 8, from 0",
        ),
        (
            r#"{"kind":"xid","code":0}"#,
            "code is out of range; use 1 or more",
        ),
        (
            r#"{"kind":"thermal","temperature":201}"#,
            "temperature is out of range; use -50 to 200",
        ),
        (
            r#"{"kind":"memory"}"#,
            "sbe and dbe is out of range; use 1 or more for one of them",
        ),
        (
            r#"{"kind":"memory","sbe":1000000001}"#,
            "sbe and dbe is out of range; use up to 1000000000",
        ),
        (
            r#"{"kind":"nvlink","link":18}"#,
            "link is out of range; use 0 to 17",
        ),
        (
            r#"{"kind":"recovery-action","action":0}"#,
            "action is out of range; use 1 to 5",
        ),
        (
            r#"{"kind":"recovery-action","action":6}"#,
            "action is out of range; use 1 to 5",
        ),
        (long.as_str(), "message is longer than 1024 characters"),
    ];
    let backend = machine("m");
    let before = backend.state();
    for (json, message) in cases {
        let error = backend.inject(&fault(json)).unwrap_err();
        assert_eq!(error.to_string(), message, "{json}");
    }
    let malformed = [
        r#"{"kind":"fire"}"#,
        r#"{"kind":"xid","cod":79}"#,
        r#"{"kind":"xid","code":-1}"#,
        r#"{"kind":"xid","code":"79"}"#,
        r#"{"kind":"backend-error","gpu":1}"#,
        r#"{"gpu":1}"#,
        r#"[]"#,
        "",
    ];
    for json in malformed {
        assert!(serde_json::from_str::<Fault>(json).is_err(), "{json}");
    }
    assert_eq!(backend.state(), before);
    assert_eq!(backend.wait_events(Duration::ZERO), []);
    for kind in FaultKind::ALL {
        assert_eq!(kind.word().parse(), Ok(kind));
        let old = kind.word().replace('-', "_");
        assert_eq!(FaultKind::from_word(&old), Some(kind));
    }
    let error = "network".parse::<FaultKind>().unwrap_err();
    assert_eq!(error, FaultError::UnknownKind("network".to_owned()));
}

#[test]
fn faults_are_bounded_and_repeats_are_counted() {
    let backend = machine("m");
    let xid = |code| Fault::Xid {
        gpu: 0,
        code,
        message: None,
    };
    let mut refused = 0;
    for code in 1..1000 {
        refused += u32::from(backend.inject(&xid(code)).is_err());
    }
    assert_eq!(refused, 999 - 256);
    backend.inject(&xid(1)).unwrap();
    let state = backend.state();
    assert_eq!(state.faults.len(), 256);
    assert_eq!(state.faults[0].count, 2);
}

#[test]
fn readings_depend_on_the_seed_and_the_time_alone() {
    let clock = clock();
    let twin = |seed: &str| FakeBackend::new(FakeOptions::new(seed, clock.shared())).unwrap();
    let (one, same, other) = (twin("a"), twin("a"), twin("b"));
    let first = one.readings(0).unwrap();
    clock.advance(Duration::from_secs(30));
    let second = one.readings(0).unwrap();
    assert_ne!(first, second);
    assert_eq!(same.readings(0).unwrap(), second);
    assert_ne!(other.readings(0).unwrap(), second);
    assert_ne!(one.readings(1).unwrap(), second);
}

#[test]
fn the_fake_is_selected_and_says_so() {
    let options = FakeOptions {
        gpu_count: 4,
        model: "NVIDIA H200".to_owned(),
        ..options("m")
    };
    let selected = select(Options::Fake(options)).unwrap();
    assert_eq!(selected.backend.device_count(), Ok(4));
    assert_eq!(selected.notices, ["using 4 fake GPUs (NVIDIA H200)"]);
    let fake = selected.fake.unwrap();
    fake.inject(&fault(r#"{"kind":"boot-failure"}"#)).unwrap();
    assert_eq!(selected.backend.device_count(), Ok(0));
}

fn any_fault() -> impl Strategy<Value = Fault> {
    let message = || proptest::option::of(".{0,20}");
    prop_oneof![
        (0_u32..10, 0_u32..4, message()).prop_map(|(gpu, code, message)| Fault::Xid {
            gpu,
            code,
            message
        }),
        (0_u32..10, -100..300, message()).prop_map(|(gpu, temperature, message)| Fault::Thermal {
            gpu,
            temperature,
            message
        }),
        (0_u32..10, 0_u64..3, any::<u64>(), message()).prop_map(|(gpu, sbe, dbe, message)| {
            Fault::Memory {
                gpu,
                sbe,
                dbe,
                message,
            }
        }),
        (0_u32..10, 0_u32..20, message()).prop_map(|(gpu, link, message)| Fault::Nvlink {
            gpu,
            link,
            message
        }),
        message().prop_map(|message| Fault::BackendError { message }),
        (0_u32..10, any::<bool>(), message()).prop_map(|(gpu, missing, message)| {
            Fault::DeviceError {
                gpu,
                missing,
                message,
            }
        }),
        message().prop_map(|message| Fault::BootFailure { message }),
        (0_u32..10, any::<bool>(), message()).prop_map(|(gpu, failed, message)| Fault::RowRemap {
            gpu,
            failed,
            message
        }),
        (0_u32..10, message()).prop_map(|(gpu, message)| Fault::Pcie { gpu, message }),
        (0_u32..10, message()).prop_map(|(gpu, message)| Fault::Power { gpu, message }),
        (0_u32..10, 0_u32..8, message()).prop_map(|(gpu, action, message)| {
            Fault::RecoveryAction {
                gpu,
                action,
                message,
            }
        }),
    ]
}

proptest! {
    /// Whatever is injected and cleared: a refusal changes nothing, a restart changes
    /// nothing, only a repair boots, and the machine answers without panic.
    #[test]
    fn any_history_survives_a_restart(
        steps in prop::collection::vec(
            prop_oneof![
                4 => any_fault().prop_map(Ok),
                1 => proptest::option::of(prop::sample::select(FaultKind::ALL.to_vec())).prop_map(Err),
            ],
            0..20,
        )
    ) {
        let backend = machine("m");
        let mut boots = vec![backend.boot_id()];
        for step in steps {
            let before = backend.state();
            match step {
                Ok(fault) => {
                    let legal = fault.check(8).is_ok();
                    prop_assert_eq!(backend.inject(&fault).is_ok(), legal);
                    prop_assert_eq!(backend.state() == before, !legal);
                    prop_assert_eq!(backend.boot_id(), Some(before.boot_id));
                }
                Err(kind) => {
                    backend.clear(kind);
                    boots.push(backend.boot_id());
                }
            }
            if let Ok(count) = backend.device_count() {
                for index in 0..count {
                    let _ = backend.device(index);
                    let _ = backend.readings(index);
                }
            }
            prop_assert_eq!(restarted(&backend).state(), backend.state());
        }
        let count = boots.len();
        boots.sort();
        boots.dedup();
        prop_assert_eq!(boots.len(), count);
    }
}

/// Every place in a JSON value, as pointers.
fn places(value: &serde_json::Value, at: String, found: &mut Vec<String>) {
    found.push(at.clone());
    match value {
        serde_json::Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                places(item, format!("{at}/{index}"), found);
            }
        }
        serde_json::Value::Object(fields) => {
            for (name, field) in fields {
                places(field, format!("{at}/{name}"), found);
            }
        }
        _ => {}
    }
}

fn hostile_value() -> impl Strategy<Value = serde_json::Value> {
    prop::sample::select(vec![
        serde_json::json!(0),
        serde_json::json!(-1),
        serde_json::json!(63),
        serde_json::json!(u32::MAX),
        serde_json::json!(u64::MAX),
        serde_json::json!(i64::MIN),
        serde_json::json!(i64::MAX),
        serde_json::json!(1e308),
        serde_json::json!(null),
        serde_json::json!(true),
        serde_json::json!([]),
        serde_json::json!({}),
        serde_json::json!("m"),
        serde_json::json!("\u{1b}".repeat(5000)),
    ])
}

#[test]
fn a_stored_count_of_boots_that_is_too_low_gives_a_new_id_all_the_same() {
    let mut stored = serde_json::to_value(machine("m").state()).unwrap();
    stored["boots"] = 0.into();
    let state = serde_json::from_value::<FakeState>(stored).unwrap();
    let options = FakeOptions {
        state: Some(state),
        ..FakeOptions::new("m", clock().shared())
    };
    let backend = FakeBackend::new(options).unwrap();
    let before = backend.boot_id();
    backend.clear(None);
    assert_ne!(backend.boot_id(), before);
}

#[test]
fn every_boot_has_an_id_of_its_own_however_many_there_were() {
    let mut stored = serde_json::to_value(machine("m").state()).unwrap();
    stored["boots"] = u64::MAX.into();
    let options = FakeOptions {
        state: Some(serde_json::from_value(stored).unwrap()),
        ..options("m")
    };
    let backend = FakeBackend::new(options).unwrap();
    let mut ids = vec![backend.clear(None).boot_id, backend.clear(None).boot_id];
    ids.push(backend.clear(None).boot_id);
    ids.dedup();
    assert_eq!(ids.len(), 3, "{ids:?}");
}

proptest! {
    /// A stored machine that no agent wrote is refused, or plays without panic.
    #[test]
    fn any_stored_machine_is_refused_or_plays(
        changes in prop::collection::vec((any::<prop::sample::Index>(), hostile_value()), 1..4),
    ) {
        let backend = machine("m");
        for fault in every_kind() {
            backend.inject(&fault).unwrap();
        }
        let mut stored = serde_json::to_value(backend.state()).unwrap();
        for (index, value) in changes {
            let mut found = Vec::new();
            places(&stored, String::new(), &mut found);
            let place = index.get(&found).clone();
            *stored.pointer_mut(&place).unwrap() = value;
        }
        let Ok(state) = serde_json::from_value::<FakeState>(stored) else {
            return Ok(());
        };
        let clock = clock();
        let options = FakeOptions { state: Some(state), ..FakeOptions::new("m", clock.shared()) };
        let Ok(backend) = FakeBackend::new(options) else {
            return Ok(());
        };
        for _ in 0..2 {
            let count = backend.device_count().unwrap_or(0);
            prop_assert!(count <= MAX_GPUS);
            for index in 0..count {
                let _ = backend.device(index);
                let _ = backend.readings(index);
            }
            let _ = backend.inject(&fault(r#"{"kind":"memory","gpu":2,"dbe":1}"#));
            let _ = backend.inject(&fault(r#"{"kind":"pcie","gpu":6}"#));
            clock.advance(Duration::from_secs(1));
        }
        let before = backend.boot_id();
        backend.clear(None);
        prop_assert_ne!(backend.boot_id(), before);
    }
}

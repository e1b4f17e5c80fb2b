//! NVML: devices, readings, events, and a driver that fails, hangs or is not there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Fake, LONG};
use navarch_gpu::nvml::{NvmlBackend, NvmlOptions};
use navarch_gpu::{
    Device, GpuBackend, GpuError, GpuEvent, MetricValue, Options, Readings, select, watch,
};
use navarch_model::{HealthEventType, HealthWatchSystem};
use navarch_time::RealClock;

fn failed(call: &'static str, index: Option<u32>, code: u32, text: &str) -> GpuError {
    GpuError::Call {
        call,
        index,
        code,
        text: text.to_owned(),
    }
}

fn metric(event: &GpuEvent, name: &str) -> Option<MetricValue> {
    event.metrics.get(name).cloned()
}

const UUID_1: &str = "GPU-00000001-1111-2222-3333-444455556666";

#[test]
fn devices_say_who_they_are() {
    let fake = Fake::new();
    let backend = fake.backend();
    assert_eq!(backend.name(), "nvml");
    assert_eq!(backend.device_count(), Ok(2));
    let expected = Device {
        index: 1,
        uuid: UUID_1.to_owned(),
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        pci_bus_id: "0000:3b:00.0".to_owned(),
        memory_total_bytes: 80 << 30,
        driver_version: "570.86.15".to_owned(),
        cuda_version: "12.8".to_owned(),
    };
    assert_eq!(backend.device(1), Ok(expected));
    let none = GpuError::NoSuchDevice { index: 2, count: 2 };
    assert_eq!(backend.device(2), Err(none.clone()));
    assert_eq!(backend.readings(2), Err(none));
    assert_eq!(backend.notices(), [""; 0]);
    assert_eq!(backend.boot_id(), None);
}

#[test]
fn readings_come_through_whole() {
    let fake = Fake::new();
    let orders = [
        "ecc 1 0 41",
        "ecc 1 1 2",
        "field 1 142 5",
        "field 1 143 1",
        "field 1 144 1",
        "field 1 145 0",
        "field 1 230 2",
        "field 1 91 18",
        "field 1 52 4",
        "field 1 59 5",
        "field 1 38 6",
        // The power brake and the power cap, of which only the first is a fault.
        "clocks 1 132",
    ];
    for order in orders {
        fake.order(order);
    }
    let expected = Readings {
        temperature_celsius: Some(41),
        power_watts: Some(345.678),
        power_brake: Some(true),
        utilization_percent: Some(87.0),
        memory_used_bytes: Some(20 << 30),
        memory_total_bytes: Some(80 << 30),
        ecc_sbe_total: Some(41),
        ecc_dbe_total: Some(2),
        remapped_rows_correctable: Some(5),
        remapped_rows_uncorrectable: Some(1),
        row_remap_pending: Some(true),
        row_remap_failed: Some(false),
        recovery_action: Some(2),
        nvlinks_active: Some(9),
        nvlinks_inactive: Some(9),
        nvlink_errors_total: Some(15),
        pcie_replays_total: Some(3),
        pcie_link_generation: Some(5),
        pcie_link_width: Some(16),
        errors: vec![],
    };
    let backend = fake.backend();
    assert_eq!(backend.readings(1), Ok(expected));
    fake.order("clocks 1 4");
    assert_eq!(backend.readings(1).unwrap().power_brake, Some(false));
}

#[test]
fn what_a_gpu_does_not_have_is_no_error() {
    let fake = Fake::new();
    let calls = [
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetCurrentClocksThrottleReasons",
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetTotalEccErrors",
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetPcieReplayCounter",
        "nvmlDeviceGetCurrPcieLinkGeneration",
        "nvmlDeviceGetCurrPcieLinkWidth",
    ];
    for call in calls {
        fake.order(&format!("answer {call} 0 3"));
    }
    let backend = fake.backend();
    assert_eq!(backend.readings(0), Ok(Readings::default()));
    assert!(backend.readings(1).unwrap().power_watts.is_some());
    assert_eq!(backend.device(0).unwrap().memory_total_bytes, 0);
}

#[test]
fn one_failing_reading_leaves_the_others() {
    let fake = Fake::new();
    fake.order("answer nvmlDeviceGetPowerUsage 0 999");
    let readings = fake.backend().readings(0).unwrap();
    assert_eq!(readings.power_watts, None);
    assert_eq!(readings.temperature_celsius, Some(40));
    let error = failed("nvmlDeviceGetPowerUsage", Some(0), 999, "Unknown Error");
    assert_eq!(readings.errors, [error]);
}

#[test]
fn a_lost_gpu_is_an_error_and_the_others_go_on() {
    let fake = Fake::new();
    let backend = fake.backend();
    fake.order("lose 1");
    let error = backend.readings(1).unwrap_err();
    assert!(error.is_lost(), "{error}");
    assert!(backend.device(1).unwrap_err().is_lost());
    assert_eq!(backend.device_count(), Ok(2));
    assert!(backend.readings(0).is_ok());
    // Lost between finding it and asking it.
    fake.order("find 1");
    fake.order("answer nvmlDeviceGetTemperature 1 15");
    assert!(backend.readings(1).unwrap_err().is_lost());
}

#[test]
fn an_xid_is_reported_the_moment_it_happens() {
    let fake = Fake::new();
    let backend = fake.waiting_backend(2);
    fake.order("xid 1 79");
    let events = backend.wait_events(LONG);
    let [event] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((event.gpu, event.uuid.as_deref()), (Some(1), Some(UUID_1)));
    assert_eq!(event.event_type, HealthEventType::Xid);
    assert_eq!(event.system, HealthWatchSystem::Driver);
    assert_eq!(metric(event, "xid_code"), Some(MetricValue::Int(79)));
    assert_eq!(metric(event, "gpu_instance"), None);
    assert_eq!(event.count, 1);
    assert!(event.wall.0 > 1_500_000_000_000_000, "{event:?}");
}

#[test]
fn odd_xids_lose_nothing() {
    let fake = Fake::new();
    let backend = fake.waiting_backend(2);
    // An XID that the driver cannot name, one of a MIG instance, one of nobody.
    let cases = [
        ("xid 0 999", Some(0), 999, None),
        ("xid 0 94 5", Some(0), 94, Some(MetricValue::Int(5))),
        ("stray 62", None, 62, None),
    ];
    for (order, gpu, code, instance) in cases {
        fake.order(order);
        let events = backend.wait_events(LONG);
        let [event] = &events[..] else {
            panic!("{order}: {events:?}")
        };
        assert_eq!(event.gpu, gpu, "{order}");
        assert_eq!(
            metric(event, "xid_code"),
            Some(MetricValue::Int(code)),
            "{order}"
        );
        assert_eq!(metric(event, "gpu_instance"), instance, "{order}");
    }
}

#[test]
fn a_failing_wait_is_told_once_backs_off_and_recovers() {
    let fake = Fake::new();
    let backend = fake.waiting_backend(2);
    fake.order("answer nvmlEventSetWait_v2 * 15");
    let before = fake.count("waits");
    let events = backend.wait_events(LONG);
    let [event] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(event.event_type, HealthEventType::DriverError);
    assert_eq!(event.watch, Some(watch::DRIVER));
    assert_eq!(metric(event, "nvml_code"), Some(MetricValue::Int(15)));
    assert_eq!(
        event.message,
        "no GPU events: nvmlEventSetWait_v2 failed: GPU is lost (15)"
    );
    // It goes on trying with pauses: half a second holds about three tries.
    assert_eq!(backend.wait_events(Duration::from_millis(500)), []);
    let tries = fake.count("waits") - before;
    assert!(tries <= 5, "{tries} tries in half a second");
    fake.order("answer nvmlEventSetWait_v2 * 0");
    fake.order("xid 0 48");
    let events = backend.wait_events(LONG);
    assert_eq!(metric(&events[0], "xid_code"), Some(MetricValue::Int(48)));
}

#[test]
fn a_gpu_lost_before_the_start_does_not_silence_the_others() {
    let fake = Fake::new();
    fake.order("lose 0");
    let backend = fake.waiting_backend(1);
    fake.order("xid 1 119");
    let events = backend.wait_events(LONG);
    assert_eq!(events[0].gpu, Some(1));
}

#[test]
fn a_driver_without_events_has_not_failed() {
    let fake = Fake::new();
    fake.order("answer nvmlDeviceRegisterEvents * 3");
    let backend = fake.backend();
    assert_eq!(backend.device_count(), Ok(2));
    assert_eq!(backend.wait_events(Duration::from_millis(200)), []);
}

#[test]
fn dropping_ends_the_wait_before_it_frees_the_set() {
    let fake = Fake::new();
    for _ in 0..20 {
        let backend = fake.waiting_backend(2);
        fake.await_count("waiting", 1..=1);
        drop(backend);
        assert_eq!(fake.count("sets"), 0);
        assert_eq!(fake.count("starts"), 0);
    }
    assert_eq!(fake.count("freed_while_waiting"), 0);
    assert_eq!(fake.count("shut_down_with_sets"), 0);
}

#[test]
fn a_wait_that_hangs_keeps_what_it_uses_and_nothing_else_waits() {
    let fake = Fake::new();
    let backend = fake.waiting_backend(2);
    fake.order("hold nvmlEventSetWait_v2");
    fake.await_count("waiting", 1..=1);
    assert_eq!(backend.take_events(), []);
    assert_eq!(backend.device_count(), Ok(2));
    // Gives up on the thread, which owns the set and the library still.
    drop(backend);
    assert_eq!((fake.count("sets"), fake.count("starts")), (1, 1));
    fake.order("release nvmlEventSetWait_v2");
    fake.await_count("starts", 0..=0);
    assert_eq!(fake.count("sets"), 0);
    assert_eq!(fake.count("freed_while_waiting"), 0);
}

#[test]
fn a_hung_reading_leaves_the_events() {
    let fake = Fake::new();
    let backend = Arc::new(fake.waiting_backend(2));
    fake.order("hold nvmlDeviceGetTemperature");
    let reader = backend.clone();
    let thread = navarch_time::spawn_thread("reader", move || reader.readings(0)).unwrap();
    fake.order("xid 1 79");
    assert_eq!(backend.wait_events(LONG)[0].gpu, Some(1));
    assert_eq!(backend.device_count(), Ok(2));
    fake.order("release nvmlDeviceGetTemperature");
    assert!(thread.join().unwrap().is_ok());
}

#[test]
fn a_driver_that_is_down_is_an_error_until_it_comes_up() {
    let fake = Fake::new();
    fake.order("answer nvmlInit_v2 * 9");
    let backend = fake.backend();
    let down = failed("nvmlInit_v2", None, 9, "Unknown Error");
    assert_eq!(
        backend.notices(),
        ["nvmlInit_v2 failed: Unknown Error (9); trying again at every check"]
    );
    assert_eq!(backend.device_count(), Err(down.clone()));
    assert_eq!(backend.readings(0), Err(down));
    fake.order("answer nvmlInit_v2 * 0");
    assert_eq!(backend.device_count(), Ok(2));
    fake.await_count("registered", 2..=2);
    fake.order("xid 0 79");
    assert_eq!(backend.wait_events(LONG).len(), 1);
}

#[test]
fn a_hanging_start_keeps_others_out_and_not_waiting() {
    let fake = Fake::new();
    fake.order("answer nvmlInit_v2 * 9");
    let backend = Arc::new(fake.backend());
    fake.order("answer nvmlInit_v2 * 0");
    fake.order("hold nvmlInit_v2");
    let starter = backend.clone();
    let thread = navarch_time::spawn_thread("starter", move || starter.device_count()).unwrap();
    fake.await_count("stuck", 1..=1);
    assert_eq!(backend.device_count(), Err(GpuError::Starting));
    fake.order("release nvmlInit_v2");
    assert_eq!(thread.join().unwrap(), Ok(2));
}

#[test]
fn a_library_that_forgot_its_start_is_started_again() {
    let fake = Fake::new();
    let backend = fake.waiting_backend(2);
    fake.order("forget");
    let error = backend.device_count().unwrap_err();
    assert_eq!(error.code(), Some(1), "{error}");
    assert_eq!(backend.device_count(), Ok(2));
    fake.await_count("registered", 2..=2);
    fake.order("xid 0 79");
    let xid = |events: &[GpuEvent]| events.iter().any(|e| e.event_type == HealthEventType::Xid);
    let mut events = backend.wait_events(LONG);
    if !xid(&events) {
        events = backend.wait_events(LONG);
    }
    assert!(xid(&events), "{events:?}");
    assert_eq!(fake.count("freed_while_waiting"), 0);
}

#[test]
fn a_missing_library_means_no_gpus_and_one_line() {
    let dir = tempfile::tempdir().unwrap();
    for library in [
        dir.path().join("libnvidia-ml.so.1"),
        PathBuf::from("libnavarch-there-is-none.so.1"),
    ] {
        let options = NvmlOptions {
            library: library.clone(),
            ..NvmlOptions::new(RealClock::shared())
        };
        let error = NvmlBackend::new(options.clone()).err().unwrap();
        assert!(
            matches!(error, GpuError::LibraryMissing { .. }),
            "{error:?}"
        );
        let selected = select(Options::Real(options)).unwrap();
        assert_eq!(selected.backend.name(), "none");
        assert_eq!(selected.backend.device_count(), Ok(0));
        assert!(selected.fake.is_none());
        let [line] = &selected.notices[..] else {
            panic!("{:?}", selected.notices)
        };
        let beginning = format!(
            "reporting zero GPUs: no GPU library: {} is not there",
            library.display()
        );
        assert!(line.starts_with(&beginning), "{line}");
        assert!(!line.contains('\n'), "{line}");
    }
}

#[test]
fn a_broken_library_is_not_a_machine_without_gpus() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("libnvidia-ml.so.1");
    std::fs::write(&path, "not a library").unwrap();
    let options = NvmlOptions {
        library: path,
        ..NvmlOptions::new(RealClock::shared())
    };
    let selected = select(Options::Real(options)).unwrap();
    assert_eq!(selected.backend.name(), "nvml");
    let error = selected.backend.device_count().unwrap_err();
    assert!(
        matches!(error, GpuError::LibraryUnusable { .. }),
        "{error:?}"
    );
    assert_eq!(selected.notices.len(), 1);
}

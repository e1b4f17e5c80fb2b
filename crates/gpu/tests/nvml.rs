//! The NVML backend against a library of ours with the same C interface.
#![expect(
    unsafe_code,
    reason = "the stand-in library is loaded and told what to do"
)]

use std::ffi::{CString, c_char, c_int};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use libloading::Library;
use navarch_gpu::kmsg::{KernelLogOptions, Start};
use navarch_gpu::nvml::{NvmlBackend, NvmlOptions};
use navarch_gpu::{
    Device, GpuBackend, GpuError, GpuEvent, MetricValue, Options, Readings, select, watch,
};
use navarch_model::{HealthEventType, HealthWatchSystem};
use navarch_time::RealClock;

const LONG: Duration = Duration::from_secs(10);

/// A copy of the stand-in library: a machine of its own.
struct Fake {
    library: Library,
    path: PathBuf,
    dir: tempfile::TempDir,
}

impl Fake {
    fn new() -> Self {
        let built = built_library();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("libnvidia-ml.so.1");
        std::fs::copy(&built, &path).unwrap();
        // SAFETY: the library is ours and has no initialisers.
        let library = unsafe { Library::new(&path) }.unwrap();
        Self { library, path, dir }
    }

    fn order(&self, text: &str) {
        let words = CString::new(text).unwrap();
        // SAFETY: the signature is that of the exported function.
        let code = unsafe {
            let order: libloading::Symbol<'_, unsafe extern "C" fn(*const c_char) -> c_int> =
                self.library.get(c"fake_nvml_order").unwrap();
            order(words.as_ptr())
        };
        assert_eq!(code, 0, "the library does not understand {text:?}");
    }

    fn count(&self, question: &str) -> u64 {
        let words = CString::new(question).unwrap();
        // SAFETY: the signature is that of the exported function.
        unsafe {
            let count: libloading::Symbol<'_, unsafe extern "C" fn(*const c_char) -> u64> =
                self.library.get(c"fake_nvml_count").unwrap();
            count(words.as_ptr())
        }
    }

    /// Waits until the count is in the range.
    fn await_count(&self, question: &str, range: std::ops::RangeInclusive<u64>) {
        let words = CString::new(question).unwrap();
        // SAFETY: the signature is that of the exported function.
        let code = unsafe {
            let wait: libloading::Symbol<
                '_,
                unsafe extern "C" fn(*const c_char, u64, u64) -> c_int,
            > = self.library.get(c"fake_nvml_await").unwrap();
            wait(words.as_ptr(), *range.start(), *range.end())
        };
        let now = self.count(question);
        assert_eq!(code, 0, "{question} is {now}, not in {range:?}");
    }

    fn options(&self) -> NvmlOptions {
        NvmlOptions {
            library: self.path.clone(),
            event_wait: Duration::from_millis(20),
            ..NvmlOptions::new(RealClock::shared())
        }
    }

    fn backend(&self) -> NvmlBackend {
        NvmlBackend::new(self.options()).unwrap()
    }

    /// A backend whose event thread waits for this many GPUs.
    fn waiting_backend(&self, gpus: u64) -> NvmlBackend {
        let backend = self.backend();
        self.await_count("registered", gpus..=gpus);
        backend
    }
}

fn built_library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(Path::parent).unwrap();
    let name = libloading::library_filename("navarch_fake_nvml");
    let path = target.join("examples").join(name);
    assert!(
        path.exists(),
        "{} is not built; run `cargo build -p navarch-gpu --examples` first",
        path.display()
    );
    path
}

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
    ];
    for order in orders {
        fake.order(order);
    }
    let expected = Readings {
        temperature_celsius: Some(41),
        power_watts: Some(345.678),
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
    assert_eq!(fake.backend().readings(1), Ok(expected));
}

#[test]
fn what_a_gpu_does_not_have_is_no_error() {
    let fake = Fake::new();
    let calls = [
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetPowerUsage",
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

mod with_kernel_log {
    use super::*;

    fn setup() -> (Fake, PathBuf, NvmlBackend) {
        let fake = Fake::new();
        let log = fake.dir.path().join("kmsg");
        std::fs::write(&log, "").unwrap();
        let options = NvmlOptions {
            kernel_log: Some(KernelLogOptions {
                path: log.clone(),
                start: Start::End,
                boot_wall: None,
            }),
            ..fake.options()
        };
        let backend = NvmlBackend::new(options).unwrap();
        fake.await_count("registered", 2..=2);
        (fake, log, backend)
    }

    fn write(log: &Path, sequence: u64, line: &str) {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().append(true).open(log).unwrap();
        writeln!(file, "3,{sequence},1000,-;{line}").unwrap();
    }

    /// Waits for as many events, and for one moment more.
    fn collect(backend: &NvmlBackend, count: usize) -> Vec<GpuEvent> {
        let mut events = Vec::new();
        while events.len() < count {
            let more = backend.wait_events(LONG);
            assert!(!more.is_empty(), "only {events:?}");
            events.extend(more);
        }
        events.extend(backend.wait_events(Duration::from_millis(400)));
        events
    }

    #[test]
    fn the_two_reports_of_one_xid_are_one_event_with_the_kernels_words() {
        let (fake, log, backend) = setup();
        let line = "NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)";
        write(&log, 7, line);
        let first = backend.wait_events(LONG);
        fake.order("xid 1 154");
        let events = collect(&backend, 0);
        assert_eq!(events, []);
        let [event] = &first[..] else {
            panic!("{first:?}")
        };
        assert_eq!((event.gpu, event.uuid.as_deref()), (Some(1), Some(UUID_1)));
        assert_eq!(event.message, line);
        assert_eq!(event.kernel_time_microseconds, Some(1000));
        assert_eq!(backend.kernel_log_position(), Some(7));
    }

    #[test]
    fn an_xid_that_the_kernel_log_lacks_is_reported_anyway() {
        let (fake, log, backend) = setup();
        fake.order("xid 0 79");
        let events = backend.wait_events(LONG);
        assert_eq!(events[0].message, "Xid 79, reported by NVML");
        // The line that comes late is the same XID still; another GPU's is not.
        write(&log, 8, "NVRM: Xid (PCI:0000:3a:00): 79, late");
        write(&log, 9, "NVRM: Xid (PCI:0000:3b:00): 79, other");
        let events = collect(&backend, 1);
        let gpus: Vec<_> = events.iter().map(|event| event.gpu).collect();
        assert_eq!(gpus, [Some(1)]);
        assert_eq!(backend.kernel_log_position(), Some(9));
    }

    #[test]
    fn an_unreadable_log_is_told_and_leaves_the_library() {
        let fake = Fake::new();
        let options = NvmlOptions {
            kernel_log: Some(KernelLogOptions {
                path: fake.dir.path().join("nowhere"),
                ..KernelLogOptions::default()
            }),
            ..fake.options()
        };
        let backend = NvmlBackend::new(options).unwrap();
        let [line] = backend.notices() else {
            panic!("{:?}", backend.notices())
        };
        assert!(line.contains("cannot read the kernel log"), "{line}");
        fake.await_count("registered", 2..=2);
        fake.order("xid 0 79");
        assert_eq!(backend.wait_events(LONG).len(), 1);
    }
}

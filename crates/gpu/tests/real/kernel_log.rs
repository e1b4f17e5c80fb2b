//! The kernel log beside the library: XIDs with the kernel's words, each told once.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::{Fake, LONG};
use navarch_gpu::kmsg::{KernelLogOptions, Start};
use navarch_gpu::nvml::{NvmlBackend, NvmlOptions};
use navarch_gpu::{GpuBackend, GpuEvent, MetricValue};
use navarch_model::{HealthEventType, HealthWatchSystem, Time};
use navarch_time::Clock;

const UUID_1: &str = "GPU-00000001-1111-2222-3333-444455556666";

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

/// A backend over a FIFO in place of the kernel log, and the end to write to.
fn over_fifo() -> (Fake, File, NvmlBackend) {
    let fake = Fake::new();
    let log = fake.dir.path().join("kmsg");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &log, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // Open for both, so that opening waits for nobody.
    let writer = File::options().read(true).write(true).open(&log).unwrap();
    let options = NvmlOptions {
        kernel_log: Some(KernelLogOptions {
            path: log,
            start: Start::End,
            boot_wall: None,
        }),
        ..fake.options()
    };
    let backend = NvmlBackend::new(options).unwrap();
    fake.await_count("registered", 2..=2);
    (fake, writer, backend)
}

#[test]
fn records_arrive_one_by_one_as_they_are_written() {
    let (_fake, mut log, backend) = over_fifo();
    let cases = [
        (
            "NVRM: Xid (PCI:0000:3a:00): 79, GPU has fallen off the bus.",
            Some(0),
            79,
        ),
        ("NVRM: Xid (PCI:00000000:3B:00.0): 48, DBE", Some(1), 48),
        ("NVRM: Xid (PCI:0000:99:00): 62, of nobody", None, 62),
    ];
    for (sequence, (line, gpu, code)) in cases.into_iter().enumerate() {
        write!(
            log,
            "3,{sequence},5,-;{line}\n SUBSYSTEM=pci\n DEVICE=+pci:0000:3a:00.0\n"
        )
        .unwrap();
        let events = backend.wait_events(LONG);
        let [event] = &events[..] else {
            panic!("{line}: {events:?}")
        };
        assert_eq!(event.gpu, gpu, "{line}");
        assert_eq!(event.metrics["xid_code"], MetricValue::Int(code));
        assert_eq!(event.message, line);
        assert_eq!(backend.kernel_log_position(), Some(sequence as u64));
    }
}

#[test]
fn switches_report_once_per_error_and_name_the_link() {
    let (_fake, mut log, backend) = over_fifo();
    let lines = "\
3,1,5,-;nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up
3,2,5,-;nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Severity 1 Engine instance 30 Sub-engine instance 00
3,3,5,-;nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Data {0x50610002, 0x50610002}
";
    log.write_all(lines.as_bytes()).unwrap();
    let events = collect(&backend, 1);
    let [event] = &events[..] else {
        panic!("{events:?}")
    };
    let expected = GpuEvent::sxid(20034, event.wall)
        .metric("switch", 3)
        .metric("pci_bus_id", "0000:c1:00.0".to_owned())
        .metric("sxid_fatal", true)
        .metric("link_id", 30)
        .message("nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up");
    let expected = GpuEvent {
        kernel_time_microseconds: Some(5),
        ..expected
    };
    assert_eq!(*event, expected);
    assert_eq!(event.system, HealthWatchSystem::Nvswitch);
    assert_eq!(event.event_type, HealthEventType::Nvlink);
}

#[test]
fn what_programs_write_is_not_believed() {
    let (_fake, mut log, backend) = over_fifo();
    let forged = [
        "11,1,5,-;NVRM: Xid (PCI:0000:3a:00): 79, facility user",
        "6,2,5,-;Killed process 9 (NVRM: Xid (PCI:0000:3a:00): 79, x) total-vm:1kB",
        "NVRM: Xid (PCI:0000:3a:00): 79, no record at all",
        "3,x,5,-;NVRM: Xid (PCI:0000:3a:00): 79, no number",
        "3,18446744073709551616,5,-;NVRM: Xid (PCI:0000:3a:00): 79, too large a number",
        " DEVICE=3,4,5,-;NVRM: Xid (PCI:0000:3a:00): 79, a value",
    ];
    for line in forged {
        writeln!(log, "{line}").unwrap();
    }
    log.write_all(b"\xff\xfe\x00;\n").unwrap();
    writeln!(log, "3,9,5,-;NVRM: Xid (PCI:0000:3a:00): 31, real").unwrap();
    let events = collect(&backend, 1);
    let [event] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(event.metrics["xid_code"], MetricValue::Int(31));
}

#[test]
fn a_record_too_long_is_a_loss_that_is_told() {
    let (_fake, mut log, backend) = over_fifo();
    let long = "x".repeat(20_000);
    writeln!(
        log,
        "3,1,5,-;{long}\n3,2,5,-;NVRM: Xid (PCI:0000:3a:00): 31, real"
    )
    .unwrap();
    let events = collect(&backend, 2);
    assert_eq!(events[0].metrics["events_lost"], MetricValue::Int(1));
    assert_eq!(events[1].metrics["xid_code"], MetricValue::Int(31));
}

#[test]
fn a_burst_of_many_batches_comes_through_whole() {
    let (_fake, mut log, backend) = over_fifo();
    let mut written = String::new();
    for sequence in 0..700 {
        let line = format!("NVRM: Xid (PCI:0000:3a:00): {}, burst", 1 + sequence);
        written += &format!("3,{sequence},5,-;{line}\n");
    }
    let writer = navarch_time::spawn_thread("writer", move || {
        log.write_all(written.as_bytes()).unwrap();
        log
    })
    .unwrap();
    let events = collect(&backend, 700);
    let codes: Vec<_> = events
        .iter()
        .map(|event| event.metrics["xid_code"].to_string())
        .collect();
    let expected: Vec<_> = (1..=700).map(|code| code.to_string()).collect();
    assert_eq!(codes, expected);
    assert_eq!(backend.kernel_log_position(), Some(699));
    drop(writer.join().unwrap());
}

#[test]
fn the_backlog_is_dated_by_the_kernels_clock_and_read_once() {
    let fake = Fake::new();
    let log = fake.dir.path().join("kmsg");
    let old = "3,7,60000000,-;NVRM: Xid (PCI:0000:3b:00): 31, seen before\n\
               3,8,3600000000,-;NVRM: GPU at PCI:0000:77:00: GPU-77\n\
               3,9,3600000000,-;NVRM: Xid (PCI:0000:3b:00): 79, missed\n\
               3,10,3600000001,-;NVRM: Xid (PCI:0000:77:00): 62, named by the kernel\n";
    std::fs::write(&log, old).unwrap();
    let options = |start| NvmlOptions {
        kernel_log: Some(KernelLogOptions {
            path: log.clone(),
            start,
            boot_wall: Some(Time(1_700_000_000_000_000)),
        }),
        ..fake.options()
    };
    let backend = NvmlBackend::new(options(Start::After(7))).unwrap();
    let events = collect(&backend, 2);
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(events[0].wall, Time(1_700_003_600_000_000));
    assert_eq!(events[0].message, "NVRM: Xid (PCI:0000:3b:00): 79, missed");
    assert_eq!(
        (events[1].gpu, events[1].uuid.as_deref()),
        (None, Some("GPU-77"))
    );
    let address = MetricValue::Text("0000:77:00.0".to_owned());
    assert_eq!(events[1].metrics["pci_bus_id"], address);
    // What comes live is dated now, whatever the kernel's clock says by now.
    let now = navarch_time::RealClock::new().wall();
    write(&log, 11, "NVRM: Xid (PCI:0000:3b:00): 119, live");
    let events = collect(&backend, 1);
    assert!(events[0].wall.0 >= now, "{events:?}");
    let position = backend.kernel_log_position().unwrap();
    drop(backend);
    // The next start goes on where this one was.
    write(&log, 12, "NVRM: Xid (PCI:0000:3b:00): 120, while away");
    let backend = NvmlBackend::new(options(Start::After(position))).unwrap();
    let events = collect(&backend, 1);
    let [event] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(event.metrics["xid_code"], MetricValue::Int(120));
}

#[test]
fn the_log_is_followed_while_the_library_is_down() {
    let fake = Fake::new();
    fake.order("answer nvmlInit_v2 * 999");
    let log = fake.dir.path().join("kmsg");
    std::fs::write(&log, "").unwrap();
    let options = NvmlOptions {
        kernel_log: Some(KernelLogOptions {
            path: log.clone(),
            ..KernelLogOptions::default()
        }),
        ..fake.options()
    };
    let backend = NvmlBackend::new(options).unwrap();
    write(&log, 1, "NVRM: Xid (PCI:0000:3b:00): 79, down");
    let events = backend.wait_events(LONG);
    assert_eq!(events[0].metrics["xid_code"], MetricValue::Int(79));
}

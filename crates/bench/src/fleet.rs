//! A fleet of machines that do not exist: what their agents would say.

use std::time::Duration;

use navarch_api::convert::timestamp_of_micros;
use navarch_api::wire;

use crate::Result;
use crate::load::{Lanes, send_all};
use crate::process::Server;
use crate::raw::{Caller, Protocol, Request};

/// GPUs of every machine.
pub const GPUS: i32 = 8;

pub const REGISTER: &str = "/navarch.ControlPlaneService/RegisterNode";
pub const REPORT: &str = "/navarch.ControlPlaneService/ReportHealth";
pub const BEAT: &str = "/navarch.ControlPlaneService/SendHeartbeat";
pub const LIST: &str = "/navarch.ControlPlaneService/ListNodes";
pub const COMMAND: &str = "/navarch.ControlPlaneService/IssueCommand";

/// Connections that registrations and reports go over.
const CONNECTIONS: usize = 64;

/// A moment that all messages name, in microseconds of Unix time.
const MOMENT: i64 = 1_780_000_000_123_456;

pub fn id(number: usize) -> String {
    format!("node-{number:06}")
}

fn session(number: usize) -> String {
    format!("5e551011-0000-4000-8000-{number:012x}")
}

fn boot(number: usize) -> String {
    format!("b0070000-0000-4000-8000-{number:012x}")
}

fn uuid(number: usize, gpu: i32) -> String {
    format!("GPU-{gpu:08x}-1234-5678-9abc-{number:012x}")
}

/// A machine of eight H100s registers, as our agent does.
pub fn registration(number: usize) -> wire::RegisterNodeRequest {
    let gpu = |index: i32| wire::GPUInfo {
        index,
        uuid: uuid(number, index),
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        pci_bus_id: format!("00000000:{index:02X}:00.0"),
        memory_total: 85_520_809_984,
        driver_version: "570.86.15".to_owned(),
        cuda_version: "12.8".to_owned(),
    };
    let text = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    wire::RegisterNodeRequest {
        node_id: id(number),
        provider: "cloud".to_owned(),
        region: "us-east-1".to_owned(),
        zone: "us-east-1a".to_owned(),
        instance_type: "p5.48xlarge".to_owned(),
        gpus: (0..GPUS).map(gpu).collect(),
        metadata: wire::NodeMetadata {
            hostname: format!("{}.internal", id(number)),
            internal_ip: "10.0.3.17".to_owned(),
            external_ip: "192.0.2.17".to_owned(),
            kernel_version: "6.8.0-45-generic".to_owned(),
            labels: [text("team", "research"), text("rack", "r17")].into(),
        }
        .into(),
        machine_id: format!("ec2f3c1b9d8e4a0c9f6b{number:012x}"),
        boot_id: boot(number),
        session_id: session(number),
        agent_version: "0.1.0".to_owned(),
        capabilities: ["full_reports", "command_results", "command_push"]
            .map(str::to_owned)
            .into(),
        ..Default::default()
    }
}

/// A full report without a finding: a reading of every watch, as our agent makes it.
pub fn report(number: usize, sequence: u64) -> wire::ReportHealthRequest {
    let reading = |gpu: i32, watch: &str, metrics: &[(&str, &str)]| wire::HealthEvent {
        timestamp: timestamp_of_micros(MOMENT).into(),
        gpu_index: gpu,
        gpu_uuid: if gpu < 0 {
            String::new()
        } else {
            uuid(number, gpu)
        },
        metrics: metrics
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        watch: watch.to_owned(),
        boot_id: boot(number),
        count: 1,
        ..Default::default()
    };
    let boot_id = boot(number);
    let mut events = vec![
        reading(-1, "device_count", &[("gpu_count", "8")]),
        reading(-1, "boot", &[("boot_id", &boot_id)]),
    ];
    for gpu in 0..GPUS {
        events.push(reading(gpu, "xid", &[]));
        events.push(reading(gpu, "driver", &[]));
        events.push(wire::HealthEvent {
            event_type: wire::HealthEventType::HEALTH_EVENT_TYPE_THERMAL.into(),
            system: wire::HealthWatchSystem::HEALTH_WATCH_SYSTEM_THERMAL.into(),
            ..reading(gpu, "temperature", &[("temperature", "61")])
        });
        let memory = [
            ("memory_used_bytes", "42949672960"),
            ("memory_total_bytes", "85520809984"),
            ("ecc_sbe_count", "0"),
            ("ecc_dbe_count", "0"),
        ];
        events.push(reading(gpu, "memory", &memory));
        events.push(reading(gpu, "power", &[("power", "412")]));
    }
    wire::ReportHealthRequest {
        node_id: id(number),
        events,
        boot_id: boot(number),
        session_id: session(number),
        sequence,
        full: true,
        ..Default::default()
    }
}

/// A report of one fatal fault: a GPU fell off the bus.
pub fn fault(number: usize, sequence: u64) -> wire::ReportHealthRequest {
    let event = wire::HealthEvent {
        timestamp: timestamp_of_micros(MOMENT).into(),
        gpu_index: 3,
        gpu_uuid: uuid(number, 3),
        system: wire::HealthWatchSystem::HEALTH_WATCH_SYSTEM_DRIVER.into(),
        event_type: wire::HealthEventType::HEALTH_EVENT_TYPE_XID.into(),
        metrics: [("xid_code".to_owned(), "79".to_owned())].into(),
        message: "NVRM: Xid (PCI:0000:03:00): 79, GPU has fallen off the bus.".to_owned(),
        watch: "xid".to_owned(),
        boot_id: boot(number),
        count: 1,
        ..Default::default()
    };
    wire::ReportHealthRequest {
        node_id: id(number),
        events: vec![event],
        boot_id: boot(number),
        session_id: session(number),
        sequence,
        ..Default::default()
    }
}

/// A heartbeat with the metrics of every GPU.
pub fn beat(number: usize) -> wire::HeartbeatRequest {
    let gpu = |index: i32| wire::GPUMetrics {
        gpu_index: index,
        temperature: 61 + index,
        power_usage: 412 + index,
        utilization_percent: 87.5,
        memory_used: 42_949_672_960 + i64::from(index) * 1_048_576,
    };
    wire::HeartbeatRequest {
        node_id: id(number),
        timestamp: timestamp_of_micros(MOMENT).into(),
        metrics: wire::NodeMetrics {
            cpu_usage_percent: 37.25,
            memory_usage_percent: 61.5,
            gpu_metrics: (0..GPUS).map(gpu).collect(),
        }
        .into(),
        boot_id: boot(number),
        session_id: session(number),
    }
}

/// How the driver itself calls: with what costs it least.
pub fn cheap(server: &Server) -> Caller {
    Caller {
        protocol: Protocol::Proto,
        address: server.address,
        token: server.token.map(str::to_owned),
    }
}

/// Registers machines `0..count`; each reports once in full, and beats once.
///
/// # Errors
///
/// When an answer is not the right one, or a node is not ACTIVE after its report.
pub fn populate(server: &Server, count: usize) -> Result<()> {
    let caller = cheap(server);
    let mut lanes = Lanes::open(&caller, "", CONNECTIONS)?;
    // In each answer field 1 says that it was taken; field 2 after a report, that the node is
    // ACTIVE (1).
    send_all(
        &mut lanes,
        count,
        |number| caller.request(REGISTER, &registration(number)),
        |answer| match answer {
            [8, 1, ..] => Ok(()),
            other => Err(format!("a wrong answer to a registration: {other:?}").into()),
        },
    )?;
    send_all(
        &mut lanes,
        count,
        |number| caller.request(REPORT, &report(number, 1)),
        reported,
    )?;
    send_all(
        &mut lanes,
        count,
        |number| caller.request(BEAT, &beat(number)),
        beaten,
    )
}

/// Fails unless this is the right answer to a heartbeat, in protobuf.
pub fn beaten(answer: &[u8]) -> Result<()> {
    match answer {
        [8, 1] => Ok(()),
        other => Err(format!("a wrong answer to a heartbeat: {other:?}").into()),
    }
}

/// Fails unless this is the answer to a report that leaves its node ACTIVE, in protobuf.
pub fn reported(answer: &[u8]) -> Result<()> {
    match answer {
        [8, 1, 16, 1, ..] => Ok(()),
        other => Err(format!("a wrong answer to a report: {other:?}").into()),
    }
}

/// How many nodes have a status.
pub async fn count_of(server: &Server, status: wire::NodeStatus) -> Result<usize> {
    let request = wire::ListNodesRequest {
        status: status.into(),
        ..Default::default()
    };
    Ok(server.client()?.list_nodes(request).await?.nodes.len())
}

/// The heartbeats of machines `0..count`, as requests.
pub fn beats(caller: &Caller, count: usize) -> Result<Vec<Request>> {
    (0..count)
        .map(|number| caller.request(BEAT, &beat(number)))
        .collect()
}

/// How long each machine waits between two beats where a benchmark keeps a fleet beating. The
/// usual interval is 30 s: this is more work for the server than a real fleet of that size.
pub const BEAT_EVERY: Duration = Duration::from_secs(5);

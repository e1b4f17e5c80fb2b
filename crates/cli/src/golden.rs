//! What people and programs see, compared with golden texts in `golden/`.
//!
//! `UPDATE_GOLDEN=1` writes them anew; read the difference before it is committed.

use std::path::Path;

use jiff::Timestamp;
use navarch_api::{v1, wire};
use navarch_model::{HealthEventType, HealthStatus, HealthWatchSystem, InstanceState, NodeStatus};
use serde_json::Value;

use crate::args::Format;
use crate::client::Failure;
use crate::commands::{events, holds, incidents, instances, nodes, pools};
use crate::{output, values};

/// The moment at which everything is shown: 2025-01-01 00:00:00 UTC.
const NOW: i64 = 1_735_689_600;

/// A time before that moment.
fn ago(seconds: i64) -> navarch_api::Timestamp {
    navarch_api::Timestamp {
        seconds: NOW - seconds,
        nanos: 123_456_000,
        ..Default::default()
    }
}

/// The year 1, as the wire says never.
fn never() -> navarch_api::Timestamp {
    navarch_api::Timestamp {
        seconds: -62_135_596_800,
        ..Default::default()
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW).expect("a time")
}

fn gpu(index: i32) -> wire::GPUInfo {
    wire::GPUInfo {
        index,
        uuid: format!("GPU-00000000-0000-0000-0000-00000000000{index}"),
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        pci_bus_id: format!("0000:1{index}:00.0"),
        memory_total: 85_899_345_920,
        driver_version: "550.54.15".to_owned(),
        cuda_version: "12.4".to_owned(),
    }
}

fn metadata() -> wire::NodeMetadata {
    let labels = [("pool", "train"), ("team", "vision")];
    wire::NodeMetadata {
        hostname: "gpu-1.example".to_owned(),
        internal_ip: "10.0.0.1".to_owned(),
        external_ip: String::new(),
        kernel_version: "6.8.0".to_owned(),
        labels: labels
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    }
}

/// A well node, a broken one that is held twice, and one that is gone.
fn some_nodes() -> Vec<wire::NodeInfo> {
    let well = wire::NodeInfo {
        node_id: "nv-well".to_owned(),
        provider: "fake".to_owned(),
        region: "local".to_owned(),
        zone: "a".to_owned(),
        instance_type: "fake-8x".to_owned(),
        status: NodeStatus::Active.number().into(),
        health_status: HealthStatus::Healthy.number().into(),
        last_heartbeat: ago(2).into(),
        gpus: vec![gpu(0), gpu(1)],
        metadata: metadata().into(),
        pool: "train".to_owned(),
        instance_id: "nv-well".to_owned(),
        boot_id: "boot-1".to_owned(),
        registered_at: ago(3600).into(),
        agent_version: "0.1.0".to_owned(),
        ..Default::default()
    };
    let hold = |name: &str, reason: &str| wire::Hold {
        name: name.to_owned(),
        reason: reason.to_owned(),
        since: ago(90).into(),
        ..Default::default()
    };
    let broken = wire::NodeInfo {
        node_id: "nv-broken".to_owned(),
        status: NodeStatus::Unhealthy.number().into(),
        health_status: HealthStatus::Unhealthy.number().into(),
        last_heartbeat: ago(7200).into(),
        holds: vec![
            hold("operator:cordon", "odd noises"),
            hold("incident:inc-1", "XID 79"),
        ],
        incident_ids: vec!["inc-1".to_owned()],
        silent_since: ago(7200).into(),
        ..well.clone()
    };
    let gone = wire::NodeInfo {
        node_id: "nv-gone".to_owned(),
        status: NodeStatus::Terminated.number().into(),
        health_status: HealthStatus::Unknown.number().into(),
        last_heartbeat: never().into(),
        gpus: Vec::new(),
        metadata: wire::NodeMetadata::default().into(),
        pool: String::new(),
        instance_id: String::new(),
        terminated_at: ago(60).into(),
        ..well.clone()
    };
    vec![well, broken, gone]
}

fn some_instances() -> Vec<wire::InstanceInfo> {
    let running = wire::InstanceInfo {
        instance_id: "nv-well".to_owned(),
        provider: "fake".to_owned(),
        region: "local".to_owned(),
        zone: "a".to_owned(),
        instance_type: "fake-8x".to_owned(),
        state: InstanceState::Running.number().into(),
        pool_name: "train".to_owned(),
        created_at: ago(3700).into(),
        ready_at: ago(3600).into(),
        node_id: "nv-well".to_owned(),
        status_message: "node registered successfully".to_owned(),
        labels: [("pool".to_owned(), "train".to_owned())]
            .into_iter()
            .collect(),
        phase: "running".to_owned(),
        capacity: "spot".to_owned(),
        interruption_at: ago(-90).into(),
        provider_instance_id: "fake-1".to_owned(),
        ..Default::default()
    };
    let unknown = wire::InstanceInfo {
        instance_id: "nv-new".to_owned(),
        state: InstanceState::Provisioning.number().into(),
        ready_at: never().into(),
        node_id: String::new(),
        status_message: "the cloud's answer was lost".to_owned(),
        phase: "outcome_unknown".to_owned(),
        interruption_at: Default::default(),
        provider_instance_id: String::new(),
        ..running.clone()
    };
    vec![running, unknown]
}

fn some_incidents() -> Vec<v1::Incident> {
    let fact = v1::IncidentEvidence {
        received_at: ago(90).into(),
        happened_at: ago(91).into(),
        event_type: HealthEventType::Xid.number().into(),
        system: HealthWatchSystem::Driver.number().into(),
        metrics: [("xid_code".to_owned(), "79".to_owned())]
            .into_iter()
            .collect(),
        message: "GPU has fallen off the bus".to_owned(),
        boot_id: "boot-1".to_owned(),
    };
    let open = v1::Incident {
        incident_id: "inc-1".to_owned(),
        node_id: "nv-broken".to_owned(),
        pool: "train".to_owned(),
        gpu_index: 3,
        class: "xid-79".to_owned(),
        kind: "latched".to_owned(),
        severity: HealthStatus::Unhealthy.number().into(),
        rule: "xid-reboot".to_owned(),
        watch: "xid".to_owned(),
        citation: "XID 79: NVIDIA XID catalogue".to_owned(),
        required_repair: "reboot".to_owned(),
        opened_at: ago(90).into(),
        last_evidence_at: ago(90).into(),
        evidence: vec![fact],
        evidence_count: 1,
        unhealthy_reports: 2,
        ..Default::default()
    };
    let repaired = v1::Incident {
        incident_id: "inc-2".to_owned(),
        repaired_at: ago(10).into(),
        repair_proven: "reboot".to_owned(),
        ..open.clone()
    };
    let closed = v1::Incident {
        incident_id: "inc-3".to_owned(),
        gpu_index: -1,
        severity: HealthStatus::Degraded.number().into(),
        closed_at: ago(5).into(),
        ending: "the machine was terminated".to_owned(),
        ..open.clone()
    };
    vec![open, repaired, closed]
}

/// Compares a text with the golden one of this name.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/golden")
        .join(name);
    let text = format!("{text}\n");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).expect("the golden text is written");
    }
    let expected = std::fs::read_to_string(&path).expect("a golden text");
    assert_eq!(text, expected, "{name} differs; see golden.rs");
}

fn for_programs(name: &str, value: &Value) {
    for (format, ending) in [(Format::Json, "json"), (Format::Yaml, "yaml")] {
        let text = output::render(format, value).expect("plain data");
        golden(&format!("{name}.{ending}"), &text.expect("a text"));
    }
    for format in [Format::Table, Format::Wide] {
        assert_eq!(output::render(format, value).expect("nothing"), None);
    }
}

#[test]
fn nodes_look_as_agreed() {
    let shown = some_nodes();
    golden("list.txt", &nodes::node_table(&shown, false, now()));
    golden("list-wide.txt", &nodes::node_table(&shown, true, now()));
    for_programs("list", &shown.iter().map(values::node).collect());
    for node in &shown {
        golden(
            &format!("get-{}.txt", node.node_id),
            &nodes::details(node, now()),
        );
    }
}

#[test]
fn instances_look_as_agreed() {
    let shown = some_instances();
    golden("instances.txt", &instances::listing(&shown, false));
    golden("instances-wide.txt", &instances::listing(&shown, true));
    for_programs("instances", &shown.iter().map(values::instance).collect());
    for instance in &shown {
        golden(
            &format!("instance-{}.txt", instance.instance_id),
            &instances::details(instance),
        );
    }
}

#[test]
fn incidents_look_as_agreed() {
    let shown = some_incidents();
    golden("incidents.txt", &incidents::listing(&shown, false));
    golden("incidents-wide.txt", &incidents::listing(&shown, true));
    for_programs("incidents", &shown.iter().map(values::incident).collect());
    golden("incident.txt", &incidents::details(&shown[0]));
}

#[test]
fn holds_look_as_agreed() {
    let maintenance = v1::NodeHold {
        node_id: "nv-well".to_owned(),
        name: "maintenance".to_owned(),
        owner: "slurm".to_owned(),
        reason: "disk swap".to_owned(),
        drain: true,
        since: ago(90).into(),
        expires: ago(-7200).into(),
        named: true,
    };
    let ours = v1::NodeHold {
        name: "gate:admission".to_owned(),
        owner: "navarch".to_owned(),
        reason: "rebooted: awaits a full report".to_owned(),
        since: ago(5).into(),
        node_id: "nv-broken".to_owned(),
        ..Default::default()
    };
    let shown = [ours, maintenance];
    golden("holds.txt", &holds::listing(&shown));
    for_programs("holds", &shown.iter().map(values::hold).collect());
}

#[test]
fn offerings_look_as_agreed() {
    let offering = |name: &str| v1::OfferingPlan {
        offering: name.to_owned(),
        provider: "east".to_owned(),
        region: "r1".to_owned(),
        instance_type: "gpu".to_owned(),
        capacity: "on_demand".to_owned(),
        weight: 1,
        listed: "available".to_owned(),
        ..Default::default()
    };
    let open = v1::OfferingPlan {
        machines: 2,
        price_micros: Some(2_490_000),
        max_price_micros: Some(30_000_000),
        rank: 1,
        listed_at: ago(60).into(),
        ..offering("east/r1/gpu")
    };
    let sold_out = v1::OfferingPlan {
        zone: "a".to_owned(),
        priority: -1,
        listed: "unknown".to_owned(),
        guard: "offering_rest".to_owned(),
        text: "east/r1/a/gpu refused the last launch: capacity: sold out".to_owned(),
        refusals: 3,
        ..offering("east/r1/a/gpu")
    };
    let dear = v1::OfferingPlan {
        capacity: "spot".to_owned(),
        weight: 2,
        price_micros: Some(31_000_000),
        guard: "max_price".to_owned(),
        text: "east/r1/gpu/spot costs $31.00/h; max_price is $30.00/h".to_owned(),
        ..offering("east/r1/gpu/spot")
    };
    let pool = v1::PoolPlan {
        pool: "train".to_owned(),
        strategy: "cost".to_owned(),
        offerings: vec![open, sold_out, dear],
        ..Default::default()
    };
    golden("offerings.txt", &pools::offerings(&pool));
    let plan = v1::GetPlanResponse {
        time: ago(0).into(),
        pools: vec![pool],
        ..Default::default()
    };
    for_programs("plan", &values::plan(&plan));
}

#[test]
fn orphans_look_as_agreed() {
    let shown = [
        v1::UnclaimedMachine {
            provider: "fake".to_owned(),
            provider_instance_id: "fake-7".to_owned(),
            instance_id: "nv-lost".to_owned(),
            first_seen: ago(600).into(),
            sightings: 3,
        },
        v1::UnclaimedMachine {
            provider: "fake".to_owned(),
            provider_instance_id: "fake-8".to_owned(),
            first_seen: ago(60).into(),
            sightings: 1,
            ..Default::default()
        },
    ];
    golden("orphans.txt", &instances::orphans(&shown));
    for_programs("orphans", &shown.iter().map(values::unclaimed).collect());
}

#[test]
fn an_event_that_somebody_caused_says_who() {
    let mut event = v1::Event {
        time: ago(0).into(),
        count: 1,
        kind: "hold.added".to_owned(),
        message: "operator:cordon: odd noises".to_owned(),
        node_id: "nv-well".to_owned(),
        ..Default::default()
    };
    assert!(events::line(&event).ends_with("operator:cordon: odd noises"));
    event.details.insert("actor".to_owned(), "ana".to_owned());
    assert!(events::line(&event).ends_with("odd noises (by ana)"));
    event
        .details
        .insert("address".to_owned(), "10.0.0.9".to_owned());
    assert!(events::line(&event).ends_with("odd noises (by ana from 10.0.0.9)"));
}

#[test]
fn json_names_every_field_of_the_wire() {
    // A message with nothing in it still shows all of its fields.
    for (name, value, fields) in [
        ("node", values::node(&wire::NodeInfo::default()), 19),
        (
            "instance",
            values::instance(&wire::InstanceInfo::default()),
            17,
        ),
        ("incident", values::incident(&v1::Incident::default()), 24),
    ] {
        let object = value.as_object().expect("an object");
        assert_eq!(object.len(), fields, "{name}: {object:?}");
    }
}

#[test]
fn ages_are_told_as_people_tell_them() {
    for (seconds, told) in [
        (None, "Never"),
        (Some(-5), "now"),
        (Some(0), "0s ago"),
        (Some(59), "59s ago"),
        (Some(60), "1m ago"),
        (Some(3599), "59m ago"),
        (Some(3600), "1h ago"),
        (Some(86_399), "23h ago"),
        (Some(86_400), "1d ago"),
        (Some(864_000), "10d ago"),
    ] {
        let at = seconds.map(|seconds| Timestamp::from_second(NOW - seconds).expect("a time"));
        assert_eq!(values::age(at, now()), told, "{seconds:?}");
    }
}

#[test]
fn times_that_never_were_are_none() {
    assert_eq!(values::time(None), None);
    assert_eq!(values::time(Some(&never())), None);
    assert_eq!(values::clock(Some(&never())), "-");
    assert_eq!(values::clock(Some(&ago(0))), "2025-01-01 00:00:00.123Z");
    let impossible = navarch_api::Timestamp {
        seconds: i64::MAX,
        nanos: -1,
        ..Default::default()
    };
    assert_eq!(values::time(Some(&impossible)), None);
}

#[test]
fn statuses_are_read_as_people_write_them() {
    for (text, status) in [
        ("", Some(NodeStatus::Unknown)),
        ("active", Some(NodeStatus::Active)),
        ("Active", Some(NodeStatus::Active)),
        ("CORDONED", Some(NodeStatus::Cordoned)),
        ("draining", Some(NodeStatus::Draining)),
        ("unhealthy", Some(NodeStatus::Unhealthy)),
        ("NODE_STATUS_TERMINATED", Some(NodeStatus::Terminated)),
        ("activ", None),
        ("node_status_", None),
        ("unknown", None),
        (" active", None),
    ] {
        match nodes::status(text) {
            Ok(read) => assert_eq!(Some(read), status, "{text:?}"),
            Err(error) => {
                assert_eq!(status, None, "{text:?}");
                assert!(matches!(error, Failure::Usage(_)), "{error}");
                assert_eq!(
                    error.to_string(),
                    format!(
                        "invalid status: {text} (valid: active, cordoned, draining, unhealthy, \
                         terminated)"
                    )
                );
            }
        }
    }
}

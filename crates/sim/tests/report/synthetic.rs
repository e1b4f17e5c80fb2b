//! Records of runs that never were.

use std::collections::BTreeMap;
use std::time::Duration;

use navarch_config::scenario::{FailureKind, Place};
use navarch_model::{HealthStatus, NodeId, NodeStatus, PoolName, Time};
use navarch_sim::record::{
    Asked, AssertionResult, Block, Cause, IncidentRecord, Injection, NodeEvent, NodeEventKind,
    NodeRecord, OutageRecord, Outcome, PoolSample, Record, RuleHits, Sample,
};

/// A moment by its seconds.
pub fn at(seconds: f64) -> Time {
    Time((seconds * 1e6) as i64)
}

/// A node that booted for 30 seconds and to which nothing happened since.
pub fn node(zone: &str, pool: Option<&str>) -> NodeRecord {
    NodeRecord {
        place: Place {
            provider: "gcp".to_owned(),
            region: "us-central1".to_owned(),
            zone: zone.to_owned(),
            rack: format!("{zone}-r1"),
        },
        instance_type: "a3-highgpu-8g".to_owned(),
        gpu_count: 8,
        gpu_type: "NVIDIA H100 80GB HBM3".to_owned(),
        pool: pool.map(PoolName::new),
        powered: at(0.0),
        registered: Some(at(30.0)),
        ended: None,
        status: NodeStatus::Active,
        health: HealthStatus::Healthy,
        events: vec![event(30.0, NodeEventKind::Started)],
        failures: 0,
        recoveries: 0,
        lemon: false,
    }
}

/// Something that happened to a node.
pub fn event(seconds: f64, what: NodeEventKind) -> NodeEvent {
    NodeEvent {
        at: at(seconds),
        what,
    }
}

/// A change of status.
fn status(seconds: f64, from: NodeStatus, to: NodeStatus, why: &str) -> NodeEvent {
    let why = why.to_owned();
    event(seconds, NodeEventKind::Status { from, to, why })
}

/// A change of health.
fn health(seconds: f64, from: HealthStatus, to: HealthStatus) -> NodeEvent {
    event(seconds, NodeEventKind::Health { from, to })
}

/// Four nodes, with one of everything that a report shows.
pub fn small() -> Record {
    use HealthStatus::{Degraded, Healthy, Unhealthy};
    use NodeStatus::{Active, Draining, Terminated};

    let mut broken = node("us-central1-a", Some("training"));
    broken.events.extend([
        event(100.0, NodeEventKind::Failure(0)),
        health(105.5, Healthy, Unhealthy),
        event(105.5, NodeEventKind::Incident(0)),
        status(106.0, Active, Draining, "rule fatal-xid asks for replace"),
        status(160.0, Draining, Terminated, "drained"),
        event(161.25, NodeEventKind::Ended("terminated by us".to_owned())),
    ]);
    broken.status = Terminated;
    broken.health = Unhealthy;
    broken.ended = Some(at(161.25));
    broken.failures = 1;

    let mut hot = node("us-central1-b", Some("training"));
    hot.events.extend([
        event(102.0, NodeEventKind::Failure(1)),
        health(110.0, Healthy, Degraded),
        event(150.0, NodeEventKind::Recovery(1)),
        health(155.0, Degraded, Healthy),
    ]);
    hot.failures = 1;
    hot.recoveries = 1;
    hot.lemon = true;

    let mut dud = node("us-central1-b", Some("training"));
    dud.powered = at(107.0);
    dud.registered = None;
    dud.status = NodeStatus::Unknown;
    dud.health = HealthStatus::Unknown;
    dud.events = vec![event(
        200.0,
        NodeEventKind::StartFailed("did not register within 90s".to_owned()),
    )];

    let external = node("rack 7", None);

    Record {
        name: "small".to_owned(),
        description: "One of everything.".to_owned(),
        seed: 42,
        scenario: "name: small\n".to_owned(),
        configuration: "pools: {}\n".to_owned(),
        started: at(30.0),
        ended: at(240.0),
        outcome: Outcome::Failed("line 12: capacity is 87.5 %, expected at least 95 %".to_owned()),
        asked: Asked {
            total_nodes: 4,
            failure_rate: 50.0,
            cascading: true,
            recovery: true,
        },
        nodes: [
            ("gcp-a-0001", broken),
            ("gcp-b-0002", hot),
            ("gcp-b-0003", dud),
            ("metal/7", external),
        ]
        .into_iter()
        .map(|(id, node)| (NodeId::new(id), node))
        .collect(),
        samples: samples(),
        injections: vec![
            Injection {
                at: at(100.0),
                node: NodeId::new("gcp-a-0001"),
                kind: FailureKind::GpuLost,
                xid: Some(79),
                gpu: Some(3),
                cause: Cause::Script,
                noticed: Some((at(105.5), "UNHEALTHY by rule fatal-xid".to_owned())),
                ended: None,
            },
            Injection {
                at: at(102.0),
                node: NodeId::new("gcp-b-0002"),
                kind: FailureKind::Temperature,
                xid: None,
                gpu: Some(0),
                cause: Cause::Cascade(0),
                noticed: Some((at(110.0), "DEGRADED by rule thermal-critical".to_owned())),
                ended: Some(at(150.0)),
            },
        ],
        incidents: vec![IncidentRecord {
            at: at(105.5),
            closed: Some(at(161.25)),
            node: NodeId::new("gcp-a-0001"),
            rule: "fatal-xid".to_owned(),
            action: "replace".to_owned(),
        }],
        rules: rules(),
        blocks: vec![Block {
            from: at(106.0),
            until: Some(at(120.0)),
            pool: Some(PoolName::new("training")),
            guard: "budget".to_owned(),
            reason: "1 of 1 disruptions under way".to_owned(),
        }],
        lost_gpu_hours: [("repair", 0.125), ("start-up", 0.25)]
            .map(|(cause, hours)| (cause.to_owned(), hours))
            .into(),
        asked_gpu_hours: 2.0,
        delivered_gpu_hours: 1.75,
        cost_dollars: 6.5,
        launches: 3,
        launches_failed: 1,
        recovery_times: vec![Duration::from_secs(95), Duration::from_millis(48_500)],
        unrecovered: vec![Duration::from_secs(30)],
        outages: vec![OutageRecord {
            name: "zone b".to_owned(),
            from: at(90.0),
            until: None,
            nodes: 2,
        }],
        assertions: vec![
            AssertionResult {
                line: 11,
                what: "no promise is broken".to_owned(),
                wrong: None,
            },
            AssertionResult {
                line: 12,
                what: "capacity of at least 95 %".to_owned(),
                wrong: Some("it is 87.5 %".to_owned()),
            },
        ],
        violations: vec!["P4: 2 nodes are disrupted, the budget is 1".to_owned()],
        crashes: 1,
        notes: vec![(at(200.0), "the control plane died and came back".to_owned())],
    }
}

/// The fleet of [`small`] every minute.
fn samples() -> Vec<Sample> {
    let sample = |minute: u32, healthy, degraded, unhealthy| Sample {
        at: at(f64::from(minute) * 60.0),
        nodes: 3,
        healthy,
        degraded,
        unhealthy,
        by_status: [
            (NodeStatus::Active, healthy),
            (NodeStatus::Draining, unhealthy),
        ]
        .into(),
        active: healthy,
        gpus_active: healthy * 8,
        gpus_asked: 24,
        starting: 3 - healthy,
        failures: u64::from(2 * u32::from(minute >= 2)),
        recoveries: u64::from(minute >= 3),
        outages: u32::from(minute >= 2),
        incidents: unhealthy,
        cost_dollars: f64::from(minute) * 1.625,
        pools: BTreeMap::from([(
            PoolName::new("training"),
            PoolSample {
                target: 2,
                machines: 3,
                active: healthy,
                disrupted: unhealthy,
                budget: 1,
                breakers: unhealthy,
                work: 1.25 * f64::from(minute),
                jobs: f64::from(3 * minute),
            },
        )]),
    };
    vec![
        sample(0, 0, 0, 0),
        sample(1, 3, 0, 0),
        sample(2, 1, 1, 1),
        sample(3, 2, 0, 0),
        sample(4, 2, 0, 0),
    ]
}

fn rules() -> BTreeMap<String, RuleHits> {
    let rule = |hits, result: &str, priority, condition: &str| RuleHits {
        hits,
        result: result.to_owned(),
        priority,
        condition: condition.to_owned(),
    };
    [
        (
            "fatal-xid",
            rule(
                1,
                "unhealthy",
                100,
                "event.xid_code in [79, 95] && \"a\" < \"b\"",
            ),
        ),
        (
            "thermal-critical",
            rule(3, "degraded", 90, "event.temperature >= 95"),
        ),
        ("default", rule(0, "healthy", 0, "true")),
    ]
    .map(|(name, rule)| (name.to_owned(), rule))
    .into()
}

//! What callers see of the domain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use navarch_api::{Code, convert};
use navarch_core::{OfferingReport, PlanReport, PoolReport, Rejection, RejectionCode, Wait};
use navarch_model::{
    Automation, AutomationSetting, Breaker, CapacityKind, Check, Description, DrainCause, Ending,
    Event, EventKind, Evidence, FaultKey, FaultKind, FleetId, Gpu, HealthEventType, HealthStatus,
    HealthWatchSystem, Hold, HoldKind, Incident, IncidentId, Instance, InstanceId, Interruption,
    LaunchCause, Lifecycle, Node, NodeId, Offering, Phase, Pool, PoolName, Price, ProviderName,
    Repair, Stamp, State, Subject, Time,
};
use navarch_policy::guards::Block;
use navarch_policy::placement::{Listed, Standing};
use serde_json::{Value, json};

/// A moment that many seconds after the fleet was made, at noon of a day.
fn at(seconds: i64) -> Stamp {
    const NOON: i64 = 1_771_070_400;
    Stamp {
        core: Time(seconds * 1_000_000),
        wall: Time((NOON + seconds) * 1_000_000),
    }
}

fn json<M: serde::Serialize>(message: &M) -> Value {
    serde_json::to_value(message).expect("it is JSON")
}

fn a_node() -> Node {
    Node {
        id: NodeId::new("node-1"),
        incarnation: 1,
        lifecycle: Lifecycle::Registered,
        instance: Some(InstanceId::new("nv-1")),
        pool: Some(PoolName::new("dev")),
        description: Arc::new(Description {
            provider: "fake".to_owned(),
            region: "local".to_owned(),
            hostname: "host".to_owned(),
            gpus: vec![Gpu {
                index: 0,
                uuid: "GPU-0".to_owned(),
                memory_total_bytes: 80 << 30,
                ..Gpu::default()
            }],
            labels: BTreeMap::from([("pool".to_owned(), "dev".to_owned())]),
            agent_version: "0.1.0".to_owned(),
            ..Description::default()
        }),
        gpus_expected: 1,
        boot: None,
        session: None,
        report_sequence: 3,
        holds: BTreeMap::new(),
        reported: HealthStatus::Healthy,
        registered: at(0),
        fresh_since: at(0),
        silent_since: None,
        terminated: None,
        open_incidents: BTreeMap::new(),
        address: "127.0.0.1:1".to_owned(),
        told: navarch_model::Told::default(),
    }
}

#[test]
fn a_node_shows_its_status_holds_and_heartbeat() {
    let mut node = a_node();
    assert_eq!(
        json(&convert::node(&node, None, at(60))),
        json!({
            "nodeId": "node-1", "provider": "fake", "region": "local",
            "status": "NODE_STATUS_ACTIVE", "healthStatus": "HEALTH_STATUS_HEALTHY",
            "lastHeartbeat": "0001-01-01T00:00:00Z",
            "gpus": [{"uuid": "GPU-0", "memoryTotal": "85899345920"}],
            "metadata": {"hostname": "host", "labels": {"pool": "dev"}},
            "pool": "dev", "instanceId": "nv-1", "registeredAt": "2026-02-14T12:00:00Z",
            "agentVersion": "0.1.0",
        })
    );
    let hold = |reason: &str, expires: Option<Time>| Hold {
        reason: reason.to_owned(),
        since: at(10),
        expires,
        drained: None,
    };
    let incident = IncidentId::new("inc-1");
    node.holds
        .insert(HoldKind::OperatorCordon, hold("fan", Some(at(90).core)));
    node.holds
        .insert(HoldKind::Incident(incident.clone()), hold("xid 79", None));
    node.holds.insert(
        HoldKind::Drain(DrainCause::Incident(incident.clone())),
        hold("replace", Some(Time::NEVER)),
    );
    node.open_incidents
        .insert(incident, HealthStatus::Unhealthy);
    node.silent_since = Some(at(30));
    let shown = json(&convert::node(&node, Some(at(59)), at(60)));
    assert_eq!(shown["status"], "NODE_STATUS_UNHEALTHY");
    assert_eq!(shown["healthStatus"], "HEALTH_STATUS_UNHEALTHY");
    assert_eq!(shown["lastHeartbeat"], "2026-02-14T12:00:59Z");
    assert_eq!(shown["silentSince"], "2026-02-14T12:00:30Z");
    assert_eq!(shown["incidentIds"], json!(["inc-1"]));
    let since = "2026-02-14T12:00:10Z";
    assert_eq!(
        shown["holds"],
        json!([
            {"name": "operator:cordon", "reason": "fan", "since": since,
             "expires": "2026-02-14T12:01:30Z"},
            {"name": "incident:inc-1", "reason": "xid 79", "since": since},
            {"name": "drain:inc-1", "reason": "replace", "since": since},
        ])
    );
}

#[test]
fn an_instance_shows_the_wires_state_and_its_own() {
    let instance = Instance {
        id: InstanceId::new("nv-1"),
        pool: PoolName::new("dev"),
        offering: Offering {
            provider: ProviderName::new("fake"),
            region: "local".to_owned(),
            zone: String::new(),
            instance_type: "gpu_8x_h100".to_owned(),
            capacity: CapacityKind::OnDemand,
        },
        labels: BTreeMap::new(),
        phase: Phase::OutcomeUnknown,
        phase_since: at(5),
        created: at(0),
        ready: None,
        ended: None,
        provider_id: None,
        node: None,
        cause: LaunchCause::Grow,
        end: None,
        attempt: 1,
        launches: 1,
        retry_at: None,
        failures: 0,
        launch_deadline: None,
        clean: false,
        doubted: false,
        absent_listings: 0,
        was_active: false,
        active_since: None,
        sighting: None,
        interruption: Some(Interruption {
            seen: at(5),
            at: at(60),
        }),
        message: "the answer to the launch is lost".to_owned(),
    };
    assert_eq!(
        json(&convert::instance(&instance)),
        json!({
            "instanceId": "nv-1", "provider": "fake", "region": "local",
            "instanceType": "gpu_8x_h100", "state": "INSTANCE_STATE_PROVISIONING",
            "poolName": "dev", "createdAt": "2026-02-14T12:00:00Z",
            "statusMessage": "the answer to the launch is lost", "phase": "outcome_unknown", "capacity": "on_demand",
            "interruptionAt": "2026-02-14T12:01:00Z",
        })
    );
}

#[test]
fn an_incident_shows_its_story() {
    let incident = Incident {
        id: IncidentId::new("inc-1"),
        key: FaultKey {
            node: NodeId::new("node-1"),
            gpu: None,
            class: "gpu-off-bus".to_owned(),
        },
        pool: None,
        kind: FaultKind::Latched,
        severity: HealthStatus::Unhealthy,
        check: Check {
            rule: "fatal-xid".to_owned(),
            watch: "xid".to_owned(),
            gpu: None,
        },
        citation: "NVIDIA XID catalogue, 79".to_owned(),
        required: Repair::ResetGpu,
        opened: at(1),
        hit: Some(at(1)),
        last_evidence: at(2),
        evidence: vec![Evidence {
            at: at(1),
            happened: at(0).wall.0,
            event_type: HealthEventType::Xid,
            system: HealthWatchSystem::Driver,
            metrics: BTreeMap::from([("xid_code".to_owned(), "79".to_owned())]),
            message: "GPU has fallen off the bus".to_owned(),
            boot: None,
        }],
        evidence_count: 12,
        unhealthy_reports: 2,
        healthy_reports: 0,
        repaired: Some((at(3), Repair::Reboot)),
        flapping: false,
        confirmed: false,
        clear_after: Some(Duration::from_secs(90)),
        closed: Some((
            at(4),
            Ending::Repaired {
                proof: Repair::Reboot,
            },
        )),
    };
    assert_eq!(
        json(&convert::incident(&incident)),
        json!({
            "incidentId": "inc-1", "nodeId": "node-1", "gpuIndex": -1, "class": "gpu-off-bus",
            "kind": "latched", "severity": "HEALTH_STATUS_UNHEALTHY", "rule": "fatal-xid",
            "watch": "xid", "citation": "NVIDIA XID catalogue, 79",
            "requiredRepair": "reset_gpu", "openedAt": "2026-02-14T12:00:01Z",
            "lastEvidenceAt": "2026-02-14T12:00:02Z",
            "evidence": [{
                "receivedAt": "2026-02-14T12:00:01Z", "happenedAt": "2026-02-14T12:00:00Z",
                "eventType": "HEALTH_EVENT_TYPE_XID", "system": "HEALTH_WATCH_SYSTEM_DRIVER",
                "metrics": {"xid_code": "79"}, "message": "GPU has fallen off the bus",
            }],
            "evidenceCount": "12", "unhealthyReports": 2, "repairedAt": "2026-02-14T12:00:03Z",
            "repairProven": "reboot", "clearAfterMilliseconds": "90000",
            "closedAt": "2026-02-14T12:00:04Z",
            "ending": "repaired (reboot) and the gate passed",
        })
    );
}

#[test]
fn events_and_the_lines_of_explanations_name_the_nearest_thing() {
    let mut event = Event {
        sequence: 9,
        at: at(1),
        last: at(5),
        count: 3,
        kind: EventKind::GuardBlocked,
        subject: Subject {
            pool: Some(PoolName::new("dev")),
            node: Some(NodeId::new("node-1")),
            incident: Some(IncidentId::new("inc-1")),
            ..Subject::default()
        },
        message: "1 of 1 disruptions under way".to_owned(),
        details: BTreeMap::from([("guard".to_owned(), "budget".to_owned())]),
    };
    assert_eq!(
        json(&convert::event(&event)),
        json!({
            "sequence": "9", "time": "2026-02-14T12:00:01Z", "lastTime": "2026-02-14T12:00:05Z",
            "count": 3, "kind": "guard.blocked", "message": "1 of 1 disruptions under way",
            "pool": "dev", "nodeId": "node-1", "incidentId": "inc-1",
            "details": {"guard": "budget"},
        })
    );
    let line = convert::explain_line(&event);
    assert_eq!((line.step.as_str(), line.id.as_str()), ("guard", "inc-1"));
    event.subject.incident = None;
    event.kind = EventKind::NodeSilent;
    let line = convert::explain_line(&event);
    assert_eq!(
        (line.step.as_str(), line.id.as_str()),
        ("evidence", "node-1")
    );
}

fn a_state() -> State {
    let mut state = State::new(FleetId::new("fleet"));
    let mut pool = Pool::new(PoolName::new("dev"));
    pool.repair_breakers.insert(
        "fatal-xid".to_owned(),
        Breaker {
            opened: Some(at(1)),
            probe_at: Some(at(601).core),
            trips: 2,
            failures: 0,
            probe: None,
            ..Breaker::default()
        },
    );
    pool.repair_breakers
        .insert("thermal".to_owned(), Breaker::default());
    pool.automation = Some(AutomationSetting {
        mode: Automation::Observe,
        reason: "maintenance".to_owned(),
        since: Some(at(2)),
    });
    state.pools.insert(pool.name.clone(), Arc::new(pool));
    let node = a_node();
    state.nodes.insert(node.id.clone(), Arc::new(node));
    state
}

fn no_settings() -> navarch_core::Settings {
    navarch_core::Settings::new(&navarch_config::Config::default(), |_| {
        navarch_model::Idempotency::TokenOrName
    })
}

#[test]
fn a_plan_shows_waits_guards_and_their_numbers() {
    let report = PlanReport {
        at: at(1),
        pools: BTreeMap::from([(
            PoolName::new("dev"),
            PoolReport {
                strategy: navarch_policy::placement::Strategy::Cost,
                offerings: vec![OfferingReport {
                    offering: Arc::new(Offering {
                        provider: ProviderName::new("cloud"),
                        region: "r1".to_owned(),
                        zone: String::new(),
                        instance_type: "h100".to_owned(),
                        capacity: CapacityKind::Spot,
                    }),
                    priority: -1,
                    weight: 2,
                    machines: 3,
                    listed: Listed::Found {
                        price: Some(Price::from_micros(2_500_000)),
                        available: Some(true),
                    },
                    listed_at: None,
                    max_price: Some(Price::from_micros(2_000_000)),
                    refusals: 4,
                    standing: Standing::Closed(Block::new("max_price", "over", "too dear")),
                }],
                automation: Automation::Observe,
                target: 2,
                bounds: (2, 5),
                alive: 2,
                capacity: 2,
                active: 1,
                unhealthy: 1,
                leaving: 0,
                overdue: 0,
                budget: (1, 1),
                advice: None,
                waits: vec![Wait {
                    about: "node-1".to_owned(),
                    action: "replace".to_owned(),
                    guard: "budget",
                    cause: "pool",
                    reason: "1 of 1 disruptions under way".to_owned(),
                    until: Some(at(31).core),
                }],
                planned: vec!["would launch a machine: 1 of 2".to_owned()],
            },
        )]),
        suspect: BTreeMap::from([(ProviderName::new("fake"), "5 vanished at once".to_owned())]),
        next_wake: Some(at(31).core),
    };
    let state = a_state();
    let shown = json(&convert::plan(&report, &state, &no_settings(), None));
    let soon = "2026-02-14T12:00:31Z";
    assert_eq!(
        shown,
        json!({
            "time": "2026-02-14T12:00:01Z", "nextPlanAt": soon,
            "suspectProviders": {"fake": "5 vanished at once"},
            "pools": [{
                "pool": "dev", "automation": "AUTOMATION_MODE_OBSERVE", "minNodes": 2,
                "maxNodes": 5, "askedNodes": 2, "aliveNodes": 2, "capacityNodes": 2,
                "activeNodes": 1, "unhealthyNodes": 1,
                "sizing": {"source": "min_nodes"},
                "planned": ["would launch a machine: 1 of 2"],
                "waits": [{
                    "guard": "budget", "about": "node-1", "action": "replace",
                    "text": "1 of 1 disruptions under way", "until": soon,
                }],
                "guards": [
                    {"name": "budget", "used": "1", "limit": "1", "blocks": true,
                     "text": "1 of 1 disruptions under way"},
                    {"name": "size", "used": "2", "limit": "5",
                     "text": "2 machines may be alive, at most 5 and 0 for replacement"},
                    {"name": "breaker", "subject": "fatal-xid", "used": "2", "blocks": true,
                     "text": "open", "until": "2026-02-14T12:10:01Z"},
                ],
                "strategy": "cost",
                "offerings": [{
                    "offering": "cloud/r1/h100/spot", "provider": "cloud", "region": "r1",
                    "instanceType": "h100", "capacity": "spot", "priority": -1, "weight": 2,
                    "machines": 3, "listed": "available", "priceMicros": "2500000",
                    "maxPriceMicros": "2000000", "guard": "max_price", "text": "too dear",
                    "refusals": 4,
                }],
            }],
        })
    );
    let other = PoolName::new("other");
    assert!(
        convert::plan(&report, &state, &no_settings(), Some(&other))
            .pools
            .is_empty()
    );
}

#[test]
fn pools_are_counted_by_what_their_nodes_are() {
    let mut state = a_state();
    let numbers = convert::Numbers::of(&state)[&PoolName::new("dev")];
    assert_eq!(
        (numbers.active, numbers.unhealthy, numbers.alive),
        (1, 0, 0)
    );
    let mut node = a_node();
    node.open_incidents
        .insert(IncidentId::new("i"), HealthStatus::Unhealthy);
    state.nodes.insert(node.id.clone(), Arc::new(node));
    let mut outside = a_node();
    outside.id = NodeId::new("outside");
    outside.pool = None;
    state.nodes.insert(outside.id.clone(), Arc::new(outside));
    let numbers = convert::Numbers::of(&state);
    assert_eq!(numbers.len(), 1);
    assert_eq!(numbers[&PoolName::new("dev")].unhealthy, 1);
}

#[test]
fn a_refusal_of_the_fleet_keeps_its_code_and_words() {
    for (code, expected) in [
        (RejectionCode::NotFound, Code::NotFound),
        (RejectionCode::FailedPrecondition, Code::FailedPrecondition),
        (RejectionCode::AlreadyExists, Code::AlreadyExists),
        (RejectionCode::InvalidArgument, Code::InvalidArgument),
    ] {
        let message = "node x is not cordoned".to_owned();
        let error = navarch_api::ApiError::from(Rejection { code, message });
        assert_eq!(error.code, expected);
        assert_eq!(error.message, "node x is not cordoned");
    }
}

#[test]
fn agents_are_never_told_an_interval_of_zero_seconds() {
    let mut settings = no_settings();
    settings.heartbeat_interval = Duration::from_millis(200);
    settings.health_check_interval = Duration::from_millis(90_500);
    let config = convert::node_config(&settings);
    assert_eq!(config.heartbeat_interval_seconds, 1);
    assert_eq!(config.heartbeat_interval_milliseconds, 200);
    assert_eq!(config.health_check_interval_seconds, 90);
    assert_eq!(config.health_check_interval_milliseconds, 90_500);
    assert_eq!(config.enabled_health_checks, ["boot", "nvml", "xid"]);
}

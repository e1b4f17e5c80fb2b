//! Small records to start from, and a small fleet in which everything is in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_model::{
    BootId, CapacityKind, Change, Check, Command, CommandId, CommandState, Description, Evidence,
    FaultKey, FaultKind, FleetId, HealthEventType, HealthStatus, HealthWatchSystem, Hold, HoldKind,
    Incident, IncidentId, Instance, InstanceId, LaunchCause, Lifecycle, Node, NodeCommandType,
    NodeId, Offering, Phase, Pool, PoolName, ProviderInstanceId, ProviderName, Repair, Stamp,
    State, Time, Told, Unclaimed,
};

/// A moment on both axes.
pub fn stamp(second: i64) -> Stamp {
    Stamp {
        core: Time(second * 1_000_000),
        wall: Time((1_700_000_000 + second) * 1_000_000),
    }
}

/// A running instance with a machine, bound to `node`.
pub fn instance(id: &str, node: &str) -> Instance {
    Instance {
        id: InstanceId::new(id),
        pool: PoolName::new("pool"),
        offering: Offering {
            provider: ProviderName::new("cloud"),
            region: "r1".to_owned(),
            zone: String::new(),
            instance_type: "h100".to_owned(),
            capacity: CapacityKind::OnDemand,
        },
        labels: BTreeMap::new(),
        phase: Phase::Running,
        phase_since: stamp(1),
        created: stamp(0),
        ready: Some(stamp(1)),
        ended: None,
        provider_id: Some(ProviderInstanceId::new(format!("m-{id}"))),
        node: Some(NodeId::new(node)),
        cause: LaunchCause::Grow,
        end: None,
        attempt: 2,
        launches: 2,
        retry_at: None,
        failures: 0,
        launch_deadline: None,
        clean: false,
        doubted: false,
        absent_listings: 0,
        was_active: true,
        active_since: Some(stamp(1)),
        sighting: None,
        interruption: None,
        message: String::new(),
    }
}

/// A registered external node without holds.
pub fn node(id: &str) -> Node {
    Node {
        id: NodeId::new(id),
        incarnation: 1,
        lifecycle: Lifecycle::Registered,
        instance: None,
        pool: Some(PoolName::new("pool")),
        description: Arc::new(Description::default()),
        gpus_expected: 8,
        boot: Some(BootId::new("boot-1")),
        session: None,
        report_sequence: 0,
        holds: BTreeMap::new(),
        reported: HealthStatus::Healthy,
        registered: stamp(1),
        fresh_since: stamp(1),
        silent_since: None,
        terminated: None,
        open_incidents: BTreeMap::new(),
        address: "192.0.2.1:1".to_owned(),
        told: Told::default(),
    }
}

/// One fact of this moment.
pub fn evidence(at: Stamp) -> Evidence {
    Evidence {
        at,
        happened: at.wall.0,
        event_type: HealthEventType::Xid,
        system: HealthWatchSystem::Driver,
        metrics: BTreeMap::new(),
        message: String::new(),
        boot: None,
    }
}

/// An open incident of severity unhealthy on a GPU of `node`.
pub fn incident(id: &str, node: &str) -> Incident {
    Incident {
        id: IncidentId::new(id),
        key: FaultKey {
            node: NodeId::new(node),
            gpu: Some(3),
            class: "xid-79".to_owned(),
        },
        pool: Some(PoolName::new("pool")),
        kind: FaultKind::Latched,
        severity: HealthStatus::Unhealthy,
        check: Check {
            rule: "r".to_owned(),
            watch: "driver".to_owned(),
            gpu: Some(3),
        },
        citation: String::new(),
        required: Repair::Reboot,
        opened: stamp(3),
        hit: None,
        last_evidence: stamp(3),
        evidence: Vec::new(),
        evidence_count: 0,
        unhealthy_reports: 0,
        healthy_reports: 0,
        repaired: None,
        flapping: false,
        confirmed: false,
        clear_after: None,
        closed: None,
    }
}

/// A hold of this moment.
pub fn hold() -> Hold {
    Hold {
        reason: "a reason".to_owned(),
        since: stamp(3),
        expires: None,
        drained: None,
    }
}

/// A node with its machine and an incident, an external node, an intent, a command, and a machine
/// that nobody claims.
pub fn small_fleet() -> State {
    let mut bound = node("n1");
    bound.instance = Some(InstanceId::new("nv-1"));
    let fault = incident("inc-1", "n1");
    bound
        .holds
        .insert(HoldKind::Incident(fault.id.clone()), hold());
    bound
        .open_incidents
        .insert(fault.id.clone(), fault.severity);

    let mut intent = instance("nv-2", "nobody");
    intent.phase = Phase::Requested;
    intent.node = None;
    intent.provider_id = None;

    let command = Command {
        id: CommandId::new("c-1"),
        node: NodeId::new("n2"),
        kind: NodeCommandType::RunDiagnostic,
        parameters: BTreeMap::new(),
        issued: stamp(4),
        expires: Time::NEVER,
        state: CommandState::Pending,
        changed: stamp(4),
        result: String::new(),
    };
    let orphan = Unclaimed {
        provider: ProviderName::new("cloud"),
        provider_id: ProviderInstanceId::new("m-9"),
        instance: None,
        first_seen: stamp(5),
        sightings: 1,
    };
    let mut state = State::new(FleetId::new("fleet-1"));
    for change in [
        Change::Pool(Arc::new(Pool::new(PoolName::new("pool")))),
        Change::Instance(Arc::new(instance("nv-1", "n1"))),
        Change::Instance(Arc::new(intent)),
        Change::Node(Arc::new(bound)),
        Change::Node(Arc::new(node("n2"))),
        Change::Incident(Arc::new(fault)),
        Change::Command(Arc::new(command)),
        Change::Unclaimed(Arc::new(orphan)),
    ] {
        state.apply(&change);
    }
    state
}

/// The changes that make a state.
pub fn changes_of(state: &State) -> Vec<Change> {
    let mut changes = vec![Change::Meta(Arc::clone(&state.meta))];
    changes.extend(state.pools.values().cloned().map(Change::Pool));
    changes.extend(state.instances.values().cloned().map(Change::Instance));
    changes.extend(state.nodes.values().cloned().map(Change::Node));
    changes.extend(state.incidents.values().cloned().map(Change::Incident));
    changes.extend(state.commands.values().cloned().map(Change::Command));
    changes.extend(state.unclaimed.values().cloned().map(Change::Unclaimed));
    changes
}

/// The changes that take everything out of a state that may leave it.
pub fn forgetting_of(state: &State) -> Vec<Change> {
    let mut changes = Vec::new();
    changes.extend(state.instances.keys().cloned().map(Change::ForgetInstance));
    changes.extend(state.nodes.keys().cloned().map(Change::ForgetNode));
    changes.extend(state.incidents.keys().cloned().map(Change::ForgetIncident));
    changes.extend(state.commands.keys().cloned().map(Change::ForgetCommand));
    changes.extend(state.pools.keys().cloned().map(Change::ForgetPool));
    changes.extend(
        state
            .unclaimed
            .keys()
            .cloned()
            .map(|(provider, id)| Change::UnclaimedGone(provider, id)),
    );
    changes
}

//! The format on disk, pinned.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use navarch_model::{
    Asked, AskedBy, AskedSize, Automation, AutomationSetting, BootId, Breaker, Capabilities,
    CapacityKind, Check, CloudStatus, Command, CommandId, CommandState, Description, DrainCause,
    EndCause, Ending, Event, EventKind, Evidence, FaultKey, FaultKind, FleetId, Gpu,
    HealthEventType, HealthStatus, HealthWatchSystem, Hold, HoldKind, Incident, IncidentId,
    Instance, InstanceId, Interruption, LastRepair, LaunchCause, Lifecycle, Meta, Node,
    NodeCommandType, NodeId, Notice, NoticeKind, Offering, OfferingMemory, Phase, Pool, PoolName,
    ProviderErrorKind, ProviderInstanceId, ProviderName, Repair, SessionId, Sighting, Stamp,
    Subject, Time, Told, Unclaimed,
};

use super::{MetaRow, NodeRow, OnDisk, decode, decode_row, encode, encode_row};

/// One line for each value: its name and its text on disk.
const GOLDEN: &str = include_str!("../../golden/rows.txt");

/// Compares texts with the golden ones, and reads the golden ones back.
struct Golden {
    wanted: BTreeMap<&'static str, &'static str>,
    found: String,
}

impl Golden {
    fn new() -> Self {
        let lines = GOLDEN.lines().filter_map(|line| line.split_once(' '));
        Self {
            wanted: lines.collect(),
            found: String::new(),
        }
    }

    /// `text` is what is written for the value now, `read` reads such texts.
    fn check<T: PartialEq + Debug>(
        &mut self,
        name: &str,
        value: &T,
        text: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) {
        assert_eq!(
            read(text).as_ref(),
            Ok(value),
            "{name} as it is written now"
        );
        self.found.push_str(&format!("{name} {text}\n"));
        if let Some(wanted) = self.wanted.get(name) {
            assert_eq!(
                read(wanted).as_ref(),
                Ok(value),
                "{name} as databases have it"
            );
        }
    }

    fn value<T: OnDisk + PartialEq + Debug>(&mut self, name: &str, value: &T) {
        self.check(name, value, &encode(value), decode);
    }

    /// Words that are not in a row by themselves.
    fn words<T: OnDisk + PartialEq + Debug + Clone>(&mut self, name: &str, words: &[T]) {
        self.value(name, &words.to_vec());
    }

    /// Words of the contract and kinds of events: new ones may come, the old ones stay.
    fn vocabulary<T: OnDisk + PartialEq + Debug + Clone>(&mut self, name: &str, words: &[T]) {
        let wanted = self.wanted.get(name).copied().unwrap_or("[]");
        let known: Vec<T> = decode(wanted).expect("databases have words that are now unknown");
        let new = words.iter().filter(|word| !known.contains(word)).count();
        assert_eq!(
            known.len() + new,
            words.len(),
            "{name}: two words became one"
        );
        assert_eq!(encode(&known), wanted, "{name} are written in other words");
        let text = if updates() {
            encode(&words.to_vec())
        } else {
            wanted.to_owned()
        };
        self.found.push_str(&format!("{name} {text}\n"));
    }

    fn finish(self) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/rows.txt");
        if updates() {
            std::fs::write(&path, &self.found).expect("the golden file can be written");
            return;
        }
        assert!(
            self.found == GOLDEN,
            "the format on disk changed, and databases have the old one. If that is meant, see \
             the head of rows/mod.rs, then run this test with UPDATE_GOLDEN=1. Now it is:\n{}",
            self.found
        );
    }
}

/// Whether the golden file is to be written.
fn updates() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

fn at(core: i64, wall: i64) -> Stamp {
    Stamp {
        core: Time(core),
        wall: Time(wall),
    }
}

fn map<K: Ord, V, const N: usize>(pairs: [(K, V); N]) -> BTreeMap<K, V> {
    pairs.into()
}

fn texts<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

#[test]
fn the_format_on_disk_is_the_golden_one() {
    let mut golden = Golden::new();
    words(&mut golden);
    fleet(&mut golden);
    instances(&mut golden);
    nodes(&mut golden);
    incidents(&mut golden);
    golden.finish();
}

fn words(golden: &mut Golden) {
    golden.words("phases", &Phase::ALL);
    golden.words(
        "cloud-statuses",
        &[
            CloudStatus::Running,
            CloudStatus::Stopped,
            CloudStatus::Impaired,
            CloudStatus::Terminating,
            CloudStatus::Terminated,
            CloudStatus::NotFound,
        ],
    );
    golden.words("capacity-kinds", &CapacityKind::ALL);
    golden.words("provider-error-kinds", &ProviderErrorKind::ALL);
    golden.words("command-states", &CommandState::ALL);
    golden.vocabulary("command-types", NodeCommandType::ALL);
    golden.words("automations", &Automation::ALL);
    golden.words("repairs", &Repair::ALL);
    golden.words("fault-kinds", &[FaultKind::Condition, FaultKind::Latched]);
    golden.words(
        "lifecycles",
        &[Lifecycle::Registered, Lifecycle::Terminated],
    );
    golden.vocabulary("health-statuses", HealthStatus::ALL);
    golden.vocabulary("health-event-types", HealthEventType::ALL);
    golden.vocabulary("health-watch-systems", HealthWatchSystem::ALL);
    golden.vocabulary("event-kinds", EventKind::ALL);
    golden.words(
        "launch-causes",
        &[
            LaunchCause::Grow,
            LaunchCause::Replace {
                instance: InstanceId::new("nv-1"),
            },
            LaunchCause::Adopted,
        ],
    );
    golden.words("later-end-causes", &[EndCause::Moved]);
    golden.words("end-causes-of-schema-9", &[EndCause::Interruption]);
    golden.words(
        "end-causes",
        &[
            EndCause::Repair {
                incident: IncidentId::new("inc-1"),
            },
            EndCause::Shrink,
            EndCause::Operator,
            EndCause::NeverRegistered,
            EndCause::LaunchAbandoned,
            EndCause::LaunchRefused,
            EndCause::Vanished,
        ],
    );
    golden.words(
        "endings",
        &[
            Ending::Recovered,
            Ending::Repaired {
                proof: Repair::Reboot,
            },
            Ending::Expired,
            Ending::Operator {
                reason: "looked at it".to_owned(),
            },
            Ending::PolicyChanged,
            Ending::NodeTerminated,
            Ending::HostReplaced,
        ],
    );
    golden.words(
        "hold-kinds",
        &[
            HoldKind::OperatorCordon,
            HoldKind::OperatorDrain,
            HoldKind::Incident(IncidentId::new("inc-1")),
            HoldKind::AdmissionGate,
            HoldKind::Drain(DrainCause::Incident(IncidentId::new("inc-1"))),
            HoldKind::Drain(DrainCause::Incident(IncidentId::new("shrink"))),
            HoldKind::Drain(DrainCause::Shrink),
            HoldKind::Drain(DrainCause::Terminating),
        ],
    );
    golden.words(
        "holds-of-schema-9",
        &[HoldKind::Drain(DrainCause::Interruption)],
    );
    golden.words(
        "named-holds",
        &[
            HoldKind::Named {
                name: "maintenance".to_owned(),
                owner: "slurm".to_owned(),
                drains: false,
            },
            HoldKind::Named {
                name: "burn-in".to_owned(),
                owner: "ops@site".to_owned(),
                drains: true,
            },
        ],
    );
}

fn breaker() -> Breaker {
    Breaker {
        opened: Some(at(1, 2)),
        probe_at: Some(Time::NEVER),
        trips: 3,
        failures: 4,
        probe: Some("nv-1".to_owned()),
        fleet: false,
        reset: None,
    }
}

fn fleet(golden: &mut Golden) {
    let setting = AutomationSetting {
        mode: Automation::Observe,
        reason: "maintenance".to_owned(),
        since: Some(at(5, 6)),
    };
    let fleet = FleetId::new("fleet-1");
    let meta = Meta {
        fleet: fleet.clone(),
        core_time: Time(7),
        resumed: None,
        epoch: 8,
        last_event: 9,
        automation: setting.clone(),
    };
    let resumed = Meta {
        resumed: Some(Time(6)),
        ..meta.clone()
    };
    for (name, meta) in [("meta", meta), ("meta-resumed", resumed)] {
        golden.check(name, &meta, &encode_row(&MetaRow::new(&meta)), |text| {
            Ok(decode_row::<MetaRow>(text)?.into_meta(fleet.clone(), 8))
        });
    }
    golden.value("pool-new", &Pool::new(PoolName::new("dev")));
    let mut pool = Pool::new(PoolName::new("dev"));
    let for_the_fleet = Breaker {
        fleet: true,
        reset: Some(at(7, 8)),
        ..breaker()
    };
    pool.repair_breakers = map([("xid-79".to_owned(), for_the_fleet)]);
    golden.value("pool-with-a-breaker-of-the-fleet", &pool);
    let mut pool = Pool::new(PoolName::new("dev"));
    pool.asked = Some(AskedSize {
        nodes: 3,
        by: AskedBy::Autoscaler,
        reason: "20 jobs wait".to_owned(),
        at: at(3, 4),
        raised: Some(at(3, 4)),
        lowered: None,
    });
    golden.value("pool-with-a-size-asked-for", &pool);
    golden.value(
        "pool",
        &Pool {
            name: PoolName::new("dev"),
            automation: Some(setting),
            asked: None,
            offerings: map([(
                "cloud/region/zone/type".to_owned(),
                OfferingMemory {
                    breaker: breaker(),
                    proven: true,
                    refusals: 1,
                    retry_at: Some(Time(2)),
                    last_refusal: "sold out".to_owned(),
                    refused: None,
                },
            )]),
            repair_breakers: map([("xid-79".to_owned(), Breaker::default())]),
            last_repairs: map([(
                "xid-79".to_owned(),
                LastRepair {
                    at: at(3, 4),
                    instance: InstanceId::new("nv-1"),
                },
            )]),
        },
    );
    let mut pool = Pool::new(PoolName::new("dev"));
    pool.offerings = map([(
        "cloud/region/zone/type/spot".to_owned(),
        OfferingMemory {
            refused: Some(ProviderErrorKind::Quota),
            ..OfferingMemory::default()
        },
    )]);
    golden.value("pool-with-a-quota-used-up", &pool);
    let event = Event {
        sequence: 1,
        at: at(1, 2),
        last: at(3, 4),
        count: 5,
        kind: EventKind::NodeStatus,
        subject: Subject::default(),
        message: "line one\nline \"two\" \u{1f980}".to_owned(),
        details: texts([("from", "active"), ("to", "unhealthy")]),
    };
    golden.value("event-about-nothing", &event);
    golden.value(
        "event",
        &Event {
            subject: Subject {
                pool: Some(PoolName::new("dev")),
                instance: Some(InstanceId::new("nv-1")),
                node: Some(NodeId::new("node-1")),
                incident: Some(IncidentId::new("inc-1")),
                command: Some(CommandId::new("cmd-1")),
            },
            ..event
        },
    );
    golden.value(
        "command",
        &Command {
            id: CommandId::new("cmd-1"),
            node: NodeId::new("node-1"),
            kind: NodeCommandType::RunDiagnostic,
            parameters: texts([("level", "3")]),
            issued: at(1, 2),
            expires: Time(3),
            state: CommandState::Delivered,
            changed: at(4, 5),
            result: "passed".to_owned(),
        },
    );
}

fn instances(golden: &mut Golden) {
    let offering = Offering {
        provider: ProviderName::new("cloud"),
        region: "region".to_owned(),
        zone: "zone".to_owned(),
        instance_type: "type".to_owned(),
        capacity: CapacityKind::OnDemand,
    };
    golden.value(
        "offering-of-spot-machines",
        &Offering {
            capacity: CapacityKind::Spot,
            ..offering.clone()
        },
    );
    let instance = Instance {
        id: InstanceId::new("nv-1"),
        pool: PoolName::new("dev"),
        offering,
        labels: texts([("team", "research")]),
        phase: Phase::Running,
        phase_since: at(1, 2),
        created: at(3, 4),
        ready: Some(at(5, 6)),
        ended: Some(at(7, 8)),
        provider_id: Some(ProviderInstanceId::new("i-1")),
        node: Some(NodeId::new("node-1")),
        cause: LaunchCause::Grow,
        end: Some(EndCause::Shrink),
        attempt: 9,
        launches: 10,
        retry_at: Some(Time(11)),
        failures: 12,
        launch_deadline: Some(Time(13)),
        clean: true,
        doubted: true,
        absent_listings: 14,
        was_active: true,
        active_since: Some(at(15, 16)),
        sighting: Some(Sighting {
            status: CloudStatus::Impaired,
            at: at(17, 18),
            in_a_row: 19,
        }),
        interruption: None,
        message: "runs".to_owned(),
    };
    golden.value("instance", &instance);
    let interruption = Some(Interruption {
        seen: at(20, 21),
        at: at(22, 23),
    });
    golden.value(
        "instance-taken-back",
        &Instance {
            interruption,
            ..instance
        },
    );
    golden.value(
        "unclaimed",
        &Unclaimed {
            provider: ProviderName::new("cloud"),
            provider_id: ProviderInstanceId::new("i-1"),
            instance: Some(InstanceId::new("nv-1")),
            first_seen: at(1, 2),
            sightings: 3,
        },
    );
}

fn nodes(golden: &mut Golden) {
    let description = Description {
        provider: "cloud".to_owned(),
        region: "region".to_owned(),
        zone: "zone".to_owned(),
        instance_type: "type".to_owned(),
        gpus: vec![Gpu {
            index: 0,
            uuid: "GPU-1".to_owned(),
            name: "H100".to_owned(),
            pci_bus_id: "0000:01:00.0".to_owned(),
            memory_total_bytes: 1,
            driver_version: "570".to_owned(),
            cuda_version: "12.8".to_owned(),
        }],
        hostname: "host".to_owned(),
        internal_ip: "10.0.0.1".to_owned(),
        external_ip: "192.0.2.1".to_owned(),
        kernel_version: "6.8".to_owned(),
        labels: texts([("pool", "dev")]),
        machine_id: "machine".to_owned(),
        agent_version: "0.1.0".to_owned(),
        capabilities: Capabilities {
            full_reports: true,
            command_results: false,
            command_push: true,
        },
    };
    golden.value("description", &description);
    let node = Node {
        id: NodeId::new("node-1"),
        incarnation: 1,
        lifecycle: Lifecycle::Registered,
        instance: Some(InstanceId::new("nv-1")),
        pool: Some(PoolName::new("dev")),
        description: Arc::new(description.clone()),
        gpus_expected: 8,
        boot: Some(BootId::new("boot")),
        session: Some(SessionId::new("session")),
        report_sequence: 2,
        holds: map([(
            HoldKind::OperatorDrain,
            Hold {
                reason: "maintenance".to_owned(),
                since: at(3, 4),
                expires: Some(Time(5)),
                drained: Some(at(6, 7)),
            },
        )]),
        reported: HealthStatus::Degraded,
        registered: at(8, 9),
        fresh_since: at(10, 11),
        silent_since: Some(at(12, 13)),
        terminated: Some(at(14, 15)),
        open_incidents: map([(IncidentId::new("inc-1"), HealthStatus::Unhealthy)]),
        address: "10.0.0.1:1".to_owned(),
        told: Told::default(),
    };
    let told = Told {
        last: NoticeKind::Cordon,
        receiver: 0,
        doubt: true,
        sequence: 16,
        waiting: vec![Notice {
            sequence: 16,
            kind: NoticeKind::Drain,
            reason: "maintenance".to_owned(),
            created: at(17, 18),
            asked: Some(Asked {
                command: CommandId::new("cmd-1"),
                kind: NoticeKind::Drain,
            }),
            attempts: 2,
            unsure: true,
            retry_at: Some(Time(19)),
            error: "webhook returned 500".to_owned(),
        }],
        before: node.holds.clone(),
    };
    let noticed = Node {
        told,
        ..node.clone()
    };
    let mut taken = noticed.clone();
    taken.told.receiver = 20;
    for (name, node) in [
        ("node", node),
        ("node-told", noticed),
        ("node-told-by", taken),
    ] {
        golden.check(name, &node, &encode_row(&NodeRow::new(&node)), |text| {
            Ok(decode_row::<NodeRow>(text)?.into_node(Arc::new(description.clone())))
        });
    }
}

fn incidents(golden: &mut Golden) {
    let incident = incident();
    golden.value("incident", &incident);
    let hit = Some(at(15, 16));
    golden.value("incident-hit", &Incident { hit, ..incident });
}

fn incident() -> Incident {
    Incident {
        id: IncidentId::new("inc-1"),
        key: FaultKey {
            node: NodeId::new("node-1"),
            gpu: Some(3),
            class: "gpu-off-bus".to_owned(),
        },
        pool: Some(PoolName::new("dev")),
        kind: FaultKind::Latched,
        severity: HealthStatus::Unhealthy,
        check: Check {
            rule: "xid-79".to_owned(),
            watch: "xid".to_owned(),
            gpu: Some(3),
        },
        citation: "catalogue, row 79".to_owned(),
        required: Repair::Reboot,
        opened: at(1, 2),
        hit: None,
        last_evidence: at(3, 4),
        evidence: vec![Evidence {
            at: at(5, 6),
            happened: 7,
            event_type: HealthEventType::Xid,
            system: HealthWatchSystem::Nvlink,
            metrics: texts([("xid_code", "79")]),
            message: "fell off the bus".to_owned(),
            boot: Some(BootId::new("boot")),
        }],
        evidence_count: 8,
        unhealthy_reports: 9,
        healthy_reports: 10,
        repaired: Some((at(11, 12), Repair::Reboot)),
        flapping: true,
        confirmed: true,
        clear_after: Some(Duration::from_millis(1500)),
        closed: Some((
            at(13, 14),
            Ending::Repaired {
                proof: Repair::Reboot,
            },
        )),
    }
}

#[test]
fn rows_of_another_shape_are_refused_with_the_place() {
    let pool = encode(&Pool::new(PoolName::new("dev")));
    for (text, part) in [
        ("", "EOF while parsing"),
        ("{", "line 1 column 1"),
        ("null", "invalid type: null"),
        (
            &pool.replace("\"name\"", "\"nome\""),
            "unknown field `nome`",
        ),
        (&pool.replace("\"dev\"", "7"), "invalid type: integer `7`"),
        (
            &pool.replace("\"name\":\"dev\",", ""),
            "missing field `name`",
        ),
        (&format!("{pool} trailing"), "trailing characters"),
    ] {
        let error = decode::<Pool>(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
    let holds = r#"["operator:nap"]"#;
    let error = decode::<Vec<HoldKind>>(holds).unwrap_err();
    assert!(
        error.contains("\"operator:nap\" is not a kind of hold"),
        "{error}"
    );
    let error = decode::<Vec<EventKind>>(r#"["node.lost"]"#).unwrap_err();
    assert!(
        error.contains("\"node.lost\" is not an event kind"),
        "{error}"
    );
}

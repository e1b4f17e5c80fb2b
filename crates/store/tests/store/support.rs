//! Random entities and changes, the same for the same seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use navarch_model::{
    Asked, AskedBy, AskedSize, Automation, AutomationSetting, BootId, Breaker, Capabilities,
    CapacityKind, Change, Check, CloudStatus, Command, CommandId, CommandState, Description,
    DrainCause, EndCause, Ending, Event, EventKind, Evidence, FaultKey, FaultKind, FleetId, Gpu,
    HealthEventType, HealthStatus, HealthWatchSystem, Hold, HoldKind, IdSource, Incident,
    IncidentId, Instance, InstanceId, Interruption, LastRepair, LaunchCause, Lifecycle, Meta, Node,
    NodeCommandType, NodeId, Notice, NoticeKind, Offering, OfferingMemory, Phase, Pool, PoolName,
    ProviderErrorKind, ProviderInstanceId, ProviderName, Repair, SessionId, Sighting, Stamp,
    Subject, Time, Told, Unclaimed,
};
use navarch_time::{Rng, SeededRng};

/// The fleet of every test.
pub fn fleet() -> FleetId {
    FleetId::new("fleet-test")
}

/// Gives the ids of [`fleet`]'s store: any will do, for tests read what it made.
#[derive(Debug)]
pub struct Bits(SeededRng);

impl Bits {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(SeededRng::named(seed, "ids"))
    }
}

impl IdSource for Bits {
    fn next_bits(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// Texts that break what is not careful.
const TEXTS: &[&str] = &[
    "",
    "plain",
    "it's \"quoted\" and \\escaped\\",
    "'; DROP TABLE nodes; --",
    "Größe, 温度, 🦀🔥, e\u{301}, \u{202e}right to left",
    "line one\nline two\r\n\ttabbed",
    "nul \0 inside, bell \u{7}, delete \u{7f}, \u{feff}mark, \u{10ffff}",
    "{\"looks\": [\"like\", null]}",
    "%s ?1 :name @p $x",
];

/// Makes random values. Ids come from small sets, so that changes meet each other.
#[derive(Debug, Clone)]
pub struct Random {
    rng: SeededRng,
    fleet: FleetId,
    events: u64,
}

impl Random {
    /// The values of a seed, for a fleet.
    pub fn new(seed: u64, fleet: FleetId) -> Self {
        Self {
            rng: SeededRng::named(seed, "store"),
            fleet,
            events: 0,
        }
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.rng.below(n)
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let index = self.rng.index(from.len()).expect("the list is not empty");
        from[index].clone()
    }

    fn yes(&mut self) -> bool {
        self.rng.chance(0.5)
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.yes().then(|| make(self))
    }

    fn several<T>(&mut self, make: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| make(self)).collect()
    }

    fn text(&mut self) -> String {
        self.pick(TEXTS).to_owned()
    }

    fn texts(&mut self) -> BTreeMap<String, String> {
        let pairs = self.several(|random| (random.text(), random.text()));
        pairs.into_iter().collect()
    }

    fn count(&mut self) -> u32 {
        self.pick(&[0, 1, 2, 77, u32::MAX])
    }

    fn id(&mut self, prefix: &str) -> String {
        format!("{prefix}-{}", self.below(6))
    }

    fn time(&mut self) -> Time {
        let near = self.below(1_000_000_000).cast_signed();
        self.pick(&[Time(0), Time(-1), Time(near), Time::NEVER, Time(i64::MIN)])
    }

    fn stamp(&mut self) -> Stamp {
        Stamp {
            core: self.time(),
            wall: self.time(),
        }
    }

    fn node_id(&mut self) -> NodeId {
        NodeId::new(self.id("node"))
    }

    fn instance_id(&mut self) -> InstanceId {
        InstanceId::new(self.id("nv"))
    }

    fn incident_id(&mut self) -> IncidentId {
        IncidentId::new(self.id("inc"))
    }

    fn command_id(&mut self) -> CommandId {
        CommandId::new(self.id("cmd"))
    }

    fn pool_name(&mut self) -> PoolName {
        PoolName::new(self.id("pool"))
    }

    fn provider(&mut self) -> ProviderName {
        ProviderName::new(self.id("cloud"))
    }

    fn provider_id(&mut self) -> ProviderInstanceId {
        ProviderInstanceId::new(self.id("i"))
    }

    fn health(&mut self) -> HealthStatus {
        self.pick(HealthStatus::ALL)
    }

    fn automation(&mut self) -> AutomationSetting {
        AutomationSetting {
            mode: self.pick(&Automation::ALL),
            reason: self.text(),
            since: self.maybe(Self::stamp),
        }
    }

    fn breaker(&mut self) -> Breaker {
        Breaker {
            opened: self.maybe(Self::stamp),
            probe_at: self.maybe(Self::time),
            trips: self.count(),
            failures: self.count(),
            probe: self.maybe(Self::text),
            fleet: self.yes(),
            reset: self.maybe(Self::stamp),
        }
    }

    /// What the fleet knows of itself.
    pub fn meta(&mut self) -> Meta {
        Meta {
            fleet: self.fleet.clone(),
            core_time: self.time(),
            resumed: self.maybe(Self::time),
            epoch: self.below(3),
            last_event: self.below(10),
            automation: self.automation(),
        }
    }

    /// A pool.
    pub fn pool(&mut self) -> Pool {
        let offerings = self.several(|random| {
            let memory = OfferingMemory {
                breaker: random.breaker(),
                proven: random.yes(),
                refusals: random.count(),
                retry_at: random.maybe(Self::time),
                last_refusal: random.text(),
                refused: random.maybe(|random| random.pick(&ProviderErrorKind::ALL)),
            };
            (random.text(), memory)
        });
        let repairs = self.several(|random| {
            let repair = LastRepair {
                at: random.stamp(),
                instance: random.instance_id(),
            };
            (random.text(), repair)
        });
        let breakers = self.several(|random| (random.text(), random.breaker()));
        Pool {
            name: self.pool_name(),
            automation: self.maybe(Self::automation),
            asked: self.maybe(Self::asked),
            offerings: offerings.into_iter().collect(),
            repair_breakers: breakers.into_iter().collect(),
            last_repairs: repairs.into_iter().collect(),
        }
    }

    fn asked(&mut self) -> AskedSize {
        AskedSize {
            nodes: self.count(),
            by: self.pick(&AskedBy::ALL),
            reason: self.text(),
            at: self.stamp(),
            raised: self.maybe(Self::stamp),
            lowered: self.maybe(Self::stamp),
        }
    }

    /// An instance.
    pub fn instance(&mut self) -> Instance {
        let replace = LaunchCause::Replace {
            instance: self.instance_id(),
        };
        let repair = EndCause::Repair {
            incident: self.incident_id(),
        };
        Instance {
            id: self.instance_id(),
            pool: self.pool_name(),
            offering: Offering {
                provider: self.provider(),
                region: self.text(),
                zone: self.text(),
                instance_type: self.text(),
                capacity: self.pick(&CapacityKind::ALL),
            },
            labels: self.texts(),
            phase: self.pick(&Phase::ALL),
            phase_since: self.stamp(),
            created: self.stamp(),
            ready: self.maybe(Self::stamp),
            ended: self.maybe(Self::stamp),
            provider_id: self.maybe(Self::provider_id),
            node: self.maybe(Self::node_id),
            cause: self.pick(&[LaunchCause::Grow, LaunchCause::Adopted, replace]),
            end: self.maybe(|random| {
                random.pick(&[
                    EndCause::Shrink,
                    EndCause::Operator,
                    EndCause::NeverRegistered,
                    EndCause::LaunchAbandoned,
                    EndCause::LaunchRefused,
                    EndCause::Vanished,
                    EndCause::Interruption,
                    repair,
                ])
            }),
            attempt: self.count(),
            launches: self.count(),
            retry_at: self.maybe(Self::time),
            failures: self.count(),
            launch_deadline: self.maybe(Self::time),
            clean: self.yes(),
            doubted: self.yes(),
            absent_listings: self.count(),
            was_active: self.yes(),
            active_since: self.maybe(Self::stamp),
            interruption: self.maybe(|random| Interruption {
                seen: random.stamp(),
                at: random.stamp(),
            }),
            sighting: self.maybe(|random| Sighting {
                status: random.pick(&[
                    CloudStatus::Running,
                    CloudStatus::Stopped,
                    CloudStatus::Impaired,
                    CloudStatus::Terminating,
                    CloudStatus::Terminated,
                    CloudStatus::NotFound,
                ]),
                at: random.stamp(),
                in_a_row: random.count(),
            }),
            message: self.text(),
        }
    }

    fn gpu(&mut self) -> Gpu {
        Gpu {
            index: self.pick(&[0, 7, -1, i32::MAX]),
            uuid: self.text(),
            name: self.text(),
            pci_bus_id: self.text(),
            memory_total_bytes: self.pick(&[0, 85_899_345_920, i64::MAX, i64::MIN]),
            driver_version: self.text(),
            cuda_version: self.text(),
        }
    }

    fn description(&mut self) -> Description {
        Description {
            provider: self.text(),
            region: self.text(),
            zone: self.text(),
            instance_type: self.text(),
            gpus: self.several(Self::gpu),
            hostname: self.text(),
            internal_ip: self.text(),
            external_ip: self.text(),
            kernel_version: self.text(),
            labels: self.texts(),
            machine_id: self.text(),
            agent_version: self.text(),
            capabilities: Capabilities {
                full_reports: self.yes(),
                command_results: self.yes(),
                command_push: self.yes(),
            },
        }
    }

    fn hold(&mut self) -> (HoldKind, Hold) {
        let incident = self.incident_id();
        let kind = self.pick(&[
            HoldKind::OperatorCordon,
            HoldKind::OperatorDrain,
            HoldKind::AdmissionGate,
            HoldKind::Incident(incident.clone()),
            HoldKind::Drain(DrainCause::Incident(incident)),
            HoldKind::Drain(DrainCause::Shrink),
            HoldKind::Drain(DrainCause::Interruption),
            HoldKind::Drain(DrainCause::Terminating),
            HoldKind::Named {
                name: "maintenance".to_owned(),
                owner: "slurm".to_owned(),
                drains: false,
            },
            HoldKind::Named {
                name: "maintenance".to_owned(),
                owner: "slurm".to_owned(),
                drains: true,
            },
        ]);
        let hold = Hold {
            reason: self.text(),
            since: self.stamp(),
            expires: self.maybe(Self::time),
            drained: self.maybe(Self::stamp),
        };
        (kind, hold)
    }

    /// A node.
    pub fn node(&mut self) -> Node {
        let open = self.several(|random| (random.incident_id(), random.health()));
        Node {
            id: self.node_id(),
            incarnation: self.count(),
            lifecycle: self.pick(&[Lifecycle::Registered, Lifecycle::Terminated]),
            instance: self.maybe(Self::instance_id),
            pool: self.maybe(Self::pool_name),
            description: Arc::new(self.description()),
            gpus_expected: self.count(),
            boot: self.maybe(|random| BootId::new(random.text())),
            session: self.maybe(|random| SessionId::new(random.text())),
            report_sequence: self.pick(&[0, 1, u64::MAX]),
            holds: self.several(Self::hold).into_iter().collect(),
            reported: self.health(),
            registered: self.stamp(),
            fresh_since: self.stamp(),
            silent_since: self.maybe(Self::stamp),
            terminated: self.maybe(Self::stamp),
            open_incidents: open.into_iter().collect(),
            address: self.text(),
            told: self.told(),
        }
    }

    fn notice(&mut self) -> Notice {
        Notice {
            sequence: self.pick(&[0, 1, u64::MAX]),
            kind: self.pick(&NoticeKind::ALL),
            reason: self.text(),
            created: self.stamp(),
            asked: self.maybe(|random| Asked {
                command: CommandId::new(random.id("cmd")),
                kind: random.pick(&NoticeKind::ALL),
            }),
            attempts: self.count(),
            unsure: self.yes(),
            retry_at: self.maybe(Self::time),
            error: self.text(),
        }
    }

    fn told(&mut self) -> Told {
        if self.yes() {
            return Told::default();
        }
        Told {
            last: self.pick(&NoticeKind::ALL),
            receiver: self.pick(&[0, 1, u64::MAX]),
            doubt: self.yes(),
            sequence: self.pick(&[0, 1, u64::MAX]),
            waiting: self.several(Self::notice),
            before: self.several(Self::hold).into_iter().collect(),
        }
    }

    fn evidence(&mut self) -> Evidence {
        Evidence {
            at: self.stamp(),
            happened: self.time().0,
            event_type: self.pick(HealthEventType::ALL),
            system: self.pick(HealthWatchSystem::ALL),
            metrics: self.texts(),
            message: self.text(),
            boot: self.maybe(|random| BootId::new(random.text())),
        }
    }

    fn ending(&mut self) -> Ending {
        let proof = self.pick(&Repair::ALL);
        let reason = self.text();
        self.pick(&[
            Ending::Recovered,
            Ending::Repaired { proof },
            Ending::Expired,
            Ending::Operator { reason },
            Ending::PolicyChanged,
            Ending::NodeTerminated,
            Ending::HostReplaced,
        ])
    }

    /// An incident.
    pub fn incident(&mut self) -> Incident {
        Incident {
            id: self.incident_id(),
            key: FaultKey {
                node: self.node_id(),
                gpu: self.maybe(|random| random.pick(&[0, 7])),
                class: self.text(),
            },
            pool: self.maybe(Self::pool_name),
            kind: self.pick(&[FaultKind::Condition, FaultKind::Latched]),
            severity: self.health(),
            check: Check {
                rule: self.text(),
                watch: self.text(),
                gpu: self.maybe(|random| random.pick(&[0, 7])),
            },
            citation: self.text(),
            required: self.pick(&Repair::ALL),
            opened: self.stamp(),
            hit: self.maybe(Self::stamp),
            last_evidence: self.stamp(),
            evidence: self.several(Self::evidence),
            evidence_count: self.pick(&[0, 1, u64::MAX]),
            unhealthy_reports: self.count(),
            healthy_reports: self.count(),
            repaired: self.maybe(|random| (random.stamp(), random.pick(&Repair::ALL))),
            flapping: self.yes(),
            confirmed: self.yes(),
            clear_after: self.maybe(|random| {
                random.pick(&[
                    Duration::ZERO,
                    Duration::from_nanos(1),
                    Duration::from_nanos(u64::MAX),
                ])
            }),
            closed: self.maybe(|random| (random.stamp(), random.ending())),
        }
    }

    /// A command.
    pub fn command(&mut self) -> Command {
        Command {
            id: self.command_id(),
            node: self.node_id(),
            kind: self.pick(NodeCommandType::ALL),
            parameters: self.texts(),
            issued: self.stamp(),
            expires: self.time(),
            state: self.pick(&CommandState::ALL),
            changed: self.stamp(),
            result: self.text(),
        }
    }

    /// A machine that nobody claims.
    pub fn unclaimed(&mut self) -> Unclaimed {
        Unclaimed {
            provider: self.provider(),
            provider_id: self.provider_id(),
            instance: self.maybe(Self::instance_id),
            first_seen: self.stamp(),
            sightings: self.count(),
        }
    }

    /// An event: the next one, or now and then a repeat of an earlier one.
    pub fn event(&mut self) -> Event {
        let sequence = if self.events > 0 && self.rng.chance(0.2) {
            1 + self.below(self.events)
        } else {
            self.events += 1;
            self.events
        };
        Event {
            sequence,
            at: self.stamp(),
            last: self.stamp(),
            count: self.count(),
            kind: self.pick(EventKind::ALL),
            subject: Subject {
                pool: self.maybe(Self::pool_name),
                instance: self.maybe(Self::instance_id),
                node: self.maybe(Self::node_id),
                incident: self.maybe(Self::incident_id),
                command: self.maybe(Self::command_id),
            },
            message: self.text(),
            details: self.texts(),
        }
    }

    /// A change.
    pub fn change(&mut self) -> Change {
        match self.below(15) {
            0 => Change::Meta(Arc::new(self.meta())),
            1 => Change::Pool(Arc::new(self.pool())),
            2 => Change::Instance(Arc::new(self.instance())),
            3 => Change::Node(Arc::new(self.node())),
            4 => Change::Incident(Arc::new(self.incident())),
            5 => Change::Command(Arc::new(self.command())),
            6 => Change::Unclaimed(Arc::new(self.unclaimed())),
            7 => Change::UnclaimedGone(self.provider(), self.provider_id()),
            8 => Change::ForgetNode(self.node_id()),
            9 => Change::ForgetInstance(self.instance_id()),
            10 => Change::ForgetIncident(self.incident_id()),
            11 => Change::ForgetCommand(self.command_id()),
            12 => Change::ForgetPool(self.pool_name()),
            _ => Change::Event(Arc::new(self.event())),
        }
    }

    /// Up to `most` changes.
    pub fn changes(&mut self, most: u64) -> Vec<Change> {
        (0..self.below(most + 1)).map(|_| self.change()).collect()
    }
}

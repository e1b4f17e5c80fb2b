//! The store alone, for `changes`: SQLite with group commit, without the API in front of it.
//!
//! A change is one entity's row and the event that tells of it.

use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use navarch_model::{
    Capabilities, CapacityKind, Change, Description, Event, EventKind, Gpu, HealthStatus, IdSource,
    Instance, InstanceId, LaunchCause, Lifecycle, Node, NodeId, Offering, Phase, PoolName,
    ProviderName, Stamp, Subject, Time,
};
use navarch_store::{SqliteStore, Store as _, Writer, WriterLimits};
use navarch_time::{Clock as _, RealClock, Rng as _, SeededRng, spawn_thread};

use crate::Result;

/// Threads that submit changes and wait for each.
pub const SUBMITTERS: usize = 64;
/// Entities that the changes are spread over.
const ENTITIES: u64 = 1000;

/// What a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entity {
    Instance,
    Node,
}

struct Ids(SeededRng);

impl IdSource for Ids {
    fn next_bits(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// What the agents of a fleet say of their machines.
type Machines = Vec<Arc<Description>>;

/// How often a second the disk makes a small overwrite durable: the most commits there can be.
pub fn syncs(folder: &Path) -> Result<f64> {
    let path = folder.join("syncs");
    let mut file = std::fs::File::create(&path)?;
    file.write_all(&[1; 1 << 20])?;
    file.sync_all()?;
    let clock = RealClock::new();
    let start = clock.monotonic();
    let mut count = 0.0;
    while clock.monotonic() - start < Duration::from_secs(1) {
        file.rewind()?;
        file.write_all(&[2; 8192])?;
        file.sync_all()?;
        count += 1.0;
    }
    std::fs::remove_file(&path)?;
    Ok(count / (clock.monotonic() - start).as_secs_f64())
}

/// Changes a second from many submitters, each with `outstanding` changes that wait.
pub fn changes(folder: &Path, entity: Entity, outstanding: usize, length: Duration) -> Result<f64> {
    let data = folder.join("store");
    if data.exists() {
        std::fs::remove_dir_all(&data)?;
    }
    let mut store = SqliteStore::open(&data, &mut Ids(SeededRng::named(1, "ids")))?;
    let epoch = store.take_over()?;
    let writer = Arc::new(Writer::start(store, epoch, WriterLimits::default())?);
    let sequence = Arc::new(AtomicU64::new(0));
    let machines: Arc<Machines> = Arc::new((0..ENTITIES).map(description).collect());
    let clock = RealClock::new();
    let start = clock.monotonic();
    let submitters: Vec<_> = (0..SUBMITTERS)
        .map(|number| {
            let writer = Arc::clone(&writer);
            let (sequence, machines) = (Arc::clone(&sequence), Arc::clone(&machines));
            spawn_thread(format!("submitter {number}"), move || -> Result<u64> {
                let mut done = 0;
                while clock.monotonic() - start < length {
                    let tickets: Vec<_> = (0..outstanding)
                        .map(|_| {
                            let next = sequence.fetch_add(1, Ordering::Relaxed) + 1;
                            writer.submit(change(&machines, entity, next))
                        })
                        .collect();
                    for ticket in tickets {
                        ticket.wait()?;
                        done += 1;
                    }
                }
                Ok(done)
            })
        })
        .collect::<std::io::Result<_>>()?;
    let mut done = 0;
    for submitter in submitters {
        done += submitter.join()??;
    }
    Ok(done as f64 / (clock.monotonic() - start).as_secs_f64())
}

/// One change, of an entity that was not changed lately.
fn change(machines: &Machines, entity: Entity, sequence: u64) -> Vec<Change> {
    let number = sequence * 7919 % ENTITIES;
    let core = Time(sequence.cast_signed() * 1000);
    let at = Stamp {
        core,
        wall: core + Duration::from_secs(1_780_000_000),
    };
    let instance = InstanceId::new(format!("nv-{number:012}"));
    let node = NodeId::new(format!("nv-{number:012}"));
    let row = match entity {
        Entity::Instance => Change::Instance(Arc::new(instance_row(&instance, &node, at))),
        Entity::Node => {
            let place = usize::try_from(number).expect("numbers are small");
            let description = Arc::clone(&machines[place]);
            Change::Node(Arc::new(node_row(&instance, &node, description, at)))
        }
    };
    let event = Event {
        sequence,
        at,
        last: at,
        count: 1,
        kind: EventKind::NodeStatus,
        subject: Subject {
            pool: Some(PoolName::new("training")),
            instance: Some(instance),
            node: Some(node),
            ..Subject::default()
        },
        message: "node is unhealthy: XID 79, GPU has fallen off the bus".to_owned(),
        details: [("from", "active"), ("to", "unhealthy"), ("gpu", "3")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    };
    vec![row, Change::Event(Arc::new(event))]
}

fn instance_row(id: &InstanceId, node: &NodeId, at: Stamp) -> Instance {
    Instance {
        id: id.clone(),
        pool: PoolName::new("training"),
        offering: Offering {
            provider: ProviderName::new("cloud"),
            region: "us-east-1".to_owned(),
            zone: "us-east-1a".to_owned(),
            instance_type: "p5.48xlarge".to_owned(),
            capacity: CapacityKind::OnDemand,
        },
        labels: [("team".to_owned(), "research".to_owned())].into(),
        phase: Phase::Running,
        phase_since: at,
        created: at,
        ready: Some(at),
        ended: None,
        provider_id: Some(navarch_model::ProviderInstanceId::new(
            "i-0123456789abcdef0",
        )),
        node: Some(node.clone()),
        cause: LaunchCause::Grow,
        end: None,
        attempt: 3,
        launches: 1,
        retry_at: None,
        failures: 0,
        launch_deadline: Some(at.core),
        clean: false,
        doubted: false,
        absent_listings: 0,
        was_active: true,
        active_since: Some(at),
        sighting: None,
        interruption: None,
        message: "its agent registered".to_owned(),
    }
}

fn description(number: u64) -> Arc<Description> {
    let gpus = (0..8)
        .map(|index| Gpu {
            index,
            uuid: format!("GPU-{index:08x}-1234-5678-9abc-{number:012x}"),
            name: "NVIDIA H100 80GB HBM3".to_owned(),
            pci_bus_id: format!("00000000:{index:02X}:00.0"),
            memory_total_bytes: 85_520_809_984,
            driver_version: "570.86.15".to_owned(),
            cuda_version: "12.8".to_owned(),
        })
        .collect();
    Arc::new(Description {
        provider: "cloud".to_owned(),
        region: "us-east-1".to_owned(),
        zone: "us-east-1a".to_owned(),
        instance_type: "p5.48xlarge".to_owned(),
        gpus,
        hostname: format!("nv-{number:012}.internal"),
        internal_ip: "10.0.3.17".to_owned(),
        external_ip: "192.0.2.17".to_owned(),
        kernel_version: "6.8.0-45-generic".to_owned(),
        labels: [("team".to_owned(), "research".to_owned())].into(),
        machine_id: "ec2f3c1b9d8e4a0c9f6b7e2d1a0c3b4d".to_owned(),
        agent_version: "0.1.0".to_owned(),
        capabilities: Capabilities {
            full_reports: true,
            command_results: true,
            command_push: true,
        },
    })
}

fn node_row(instance: &InstanceId, id: &NodeId, description: Arc<Description>, at: Stamp) -> Node {
    Node {
        id: id.clone(),
        incarnation: 1,
        lifecycle: Lifecycle::Registered,
        instance: Some(instance.clone()),
        pool: Some(PoolName::new("training")),
        description,
        gpus_expected: 8,
        boot: None,
        session: None,
        report_sequence: 17,
        holds: std::collections::BTreeMap::new(),
        reported: HealthStatus::Healthy,
        registered: at,
        fresh_since: at,
        silent_since: None,
        terminated: None,
        open_incidents: std::collections::BTreeMap::new(),
        address: "10.0.3.17:40112".to_owned(),
        told: navarch_model::Told::default(),
    }
}

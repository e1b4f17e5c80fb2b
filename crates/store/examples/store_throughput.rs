//! How many acknowledged changes a second SQLite takes, and how long a restart takes.
//!
//! `cargo run --release -p navarch-store --example store_throughput [-- DIR]`
//!
//! A change is one entity's row and the event that tells of it. DIR is on the disk to measure;
//! the default is a folder beside the build.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use navarch_model::{
    Capabilities, Change, Description, Event, EventKind, Gpu, HealthStatus, IdSource, Instance,
    InstanceId, LaunchCause, Lifecycle, Node, NodeId, Offering, Phase, PoolName, ProviderName,
    Stamp, Subject, Time,
};
use navarch_store::{SqliteStore, Store, Writer, WriterLimits};
use navarch_time::{Clock, RealClock, Rng, SeededRng, spawn_thread};

const SUBMITTERS: usize = 64;
const NODES: u64 = 1000;
const DURATION: Duration = Duration::from_secs(5);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let directory = match std::env::args_os().nth(1) {
        Some(directory) => PathBuf::from(directory),
        None => std::env::current_exe()?.with_file_name("store_throughput-data"),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "in {}", directory.display())?;
    writeln!(out, "{:>6.0} syncs/s of the disk alone", syncs(&directory)?)?;
    for (entity, name) in [
        (Entity::Instance, "instance"),
        (Entity::Node, "node, 8 GPUs"),
    ] {
        let one = one_by_one(&directory, entity)?;
        writeln!(out, "{one:>6.0} changes/s ({name}), one commit each")?;
        for outstanding in [1, 4] {
            let rate = grouped(&directory, entity, outstanding)?;
            writeln!(
                out,
                "{rate:>6.0} changes/s ({name}), {SUBMITTERS} submitters with {outstanding} waiting each"
            )?;
        }
    }
    for nodes in [1000, 10_000] {
        let (took, bytes) = restart(&directory, nodes)?;
        writeln!(
            out,
            "{:>6.0} ms to open, check and load {nodes} nodes and instances and {} events \
             ({} MiB)",
            took.as_secs_f64() * 1000.0,
            10 * nodes,
            bytes >> 20
        )?;
    }
    Ok(())
}

/// Ids for a store.
struct Ids(SeededRng);

impl IdSource for Ids {
    fn next_bits(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// A new store in an empty directory, and its epoch.
fn fresh(directory: &Path) -> Result<(SqliteStore, u64)> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    open(directory)
}

fn open(directory: &Path) -> Result<(SqliteStore, u64)> {
    let mut store = SqliteStore::open(directory, &mut Ids(SeededRng::named(1, "ids")))?;
    let epoch = store.take_over()?;
    Ok((store, epoch))
}

/// What the agents of a fleet say of their machines.
type Machines = Vec<Arc<Description>>;

#[derive(Clone, Copy)]
enum Entity {
    Instance,
    Node,
}

/// One change: an entity's row and its event.
fn change(machines: &Machines, entity: Entity, number: u64, sequence: u64) -> Vec<Change> {
    let at = stamp(sequence);
    let instance = InstanceId::new(format!("nv-{number:012}"));
    let node = NodeId::new(format!("nv-{number:012}"));
    let row = match entity {
        Entity::Instance => Change::Instance(Arc::new(instance_row(&instance, &node, at))),
        Entity::Node => {
            let description =
                Arc::clone(&machines[usize::try_from(number).expect("numbers are small")]);
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

fn stamp(sequence: u64) -> Stamp {
    let core = Time(sequence.cast_signed() * 1000);
    Stamp {
        core,
        wall: core + Duration::from_secs(1_780_000_000),
    }
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
    }
}

/// Syncs a second of a small overwrite: the most commits a second that the disk allows.
fn syncs(directory: &Path) -> Result<f64> {
    std::fs::create_dir_all(directory)?;
    let path = directory.join("syncs");
    let mut file = std::fs::File::create(&path)?;
    file.write_all(&[1; 1 << 20])?;
    file.sync_all()?;
    let clock = RealClock::new();
    let start = clock.monotonic();
    let mut count = 0.0;
    while clock.monotonic() - start < Duration::from_secs(1) {
        std::io::Seek::rewind(&mut file)?;
        file.write_all(&[2; 8192])?;
        file.sync_all()?;
        count += 1.0;
    }
    let rate = count / (clock.monotonic() - start).as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok(rate)
}

/// Changes a second with one commit for each.
fn one_by_one(directory: &Path, entity: Entity) -> Result<f64> {
    let machines: Machines = (0..NODES).map(description).collect();
    let (mut store, epoch) = fresh(directory)?;
    let clock = RealClock::new();
    let start = clock.monotonic();
    let mut sequence = 0;
    while clock.monotonic() - start < DURATION {
        sequence += 1;
        store.commit(
            epoch,
            &change(&machines, entity, sequence * 7919 % NODES, sequence),
        )?;
    }
    Ok(sequence as f64 / (clock.monotonic() - start).as_secs_f64())
}

/// Changes a second from many submitters, each waiting for its answers.
fn grouped(directory: &Path, entity: Entity, outstanding: usize) -> Result<f64> {
    let (store, epoch) = fresh(directory)?;
    let writer = Arc::new(Writer::start(store, epoch, WriterLimits::default())?);
    let sequence = Arc::new(AtomicU64::new(0));
    let machines: Arc<Machines> = Arc::new((0..NODES).map(description).collect());
    let clock = RealClock::new();
    let start = clock.monotonic();
    let submitters: Vec<_> = (0..SUBMITTERS)
        .map(|number| {
            let writer = Arc::clone(&writer);
            let sequence = Arc::clone(&sequence);
            let machines = Arc::clone(&machines);
            spawn_thread(format!("submitter {number}"), move || -> Result<u64> {
                let mut done = 0;
                while clock.monotonic() - start < DURATION {
                    let tickets: Vec<_> = (0..outstanding)
                        .map(|_| {
                            let next = sequence.fetch_add(1, Ordering::Relaxed) + 1;
                            writer.submit(change(&machines, entity, next * 7919 % NODES, next))
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
        .collect::<std::result::Result<_, _>>()?;
    let mut done = 0;
    for submitter in submitters {
        done += submitter.join()??;
    }
    Ok(done as f64 / (clock.monotonic() - start).as_secs_f64())
}

/// How long it takes to open, check and load a store, and how large its file is.
fn restart(directory: &Path, nodes: u64) -> Result<(Duration, u64)> {
    let (mut store, epoch) = fresh(directory)?;
    let machines: Machines = (0..nodes).map(description).collect();
    let mut sequence = 0;
    for round in 0..10 {
        for thousand in 0..nodes / 1000 {
            let changes: Vec<Change> = (0..1000)
                .flat_map(|number| {
                    sequence += 1;
                    let entity = if round % 2 == 0 {
                        Entity::Node
                    } else {
                        Entity::Instance
                    };
                    change(&machines, entity, thousand * 1000 + number, sequence)
                })
                .collect();
            store.commit(epoch, &changes)?;
        }
    }
    let database = store.database().to_owned();
    drop(store);
    let clock = RealClock::new();
    let start = clock.monotonic();
    let (mut store, _) = open(directory)?;
    let state = store.load()?;
    let took = clock.monotonic() - start;
    if state.nodes.len() as u64 != nodes || state.instances.len() as u64 != nodes {
        return Err("the store lost records".into());
    }
    Ok((took, std::fs::metadata(database)?.len()))
}

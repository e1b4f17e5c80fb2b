//! Tests of the fleet loop on a store that fails.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use navarch_config::Config;
use navarch_core::{Fleet, Input, Settings};
use navarch_model::{Change, FleetId, Idempotency, PoolName, State, Time};
use navarch_policy::HealthPolicy;
use navarch_store::{
    History, MemoryDisk, MemoryStore, Pruned, Retention, Store, StoreError, Writer, WriterLimits,
};
use navarch_time::{RealClock, Tasks};

use super::{Parts, Running, SubmitError, start};

/// A store in memory whose disk can be full.
struct Full {
    store: MemoryStore,
    full: Arc<AtomicBool>,
}

impl Store for Full {
    fn load(&mut self) -> Result<State, StoreError> {
        self.store.load()
    }

    fn take_over(&mut self) -> Result<u64, StoreError> {
        self.store.take_over()
    }

    fn commit(&mut self, epoch: u64, changes: &[Change]) -> Result<(), StoreError> {
        if self.full.load(Ordering::Acquire) {
            let path = PathBuf::from("fleet.db");
            return Err(StoreError::DiskFull { path });
        }
        self.store.commit(epoch, changes)
    }

    fn reader(&self) -> Box<dyn History> {
        self.store.reader()
    }

    fn prune(&mut self, epoch: u64, wall: Time, keep: &Retention) -> Result<Pruned, StoreError> {
        self.store.prune(epoch, wall, keep)
    }
}

const CONFIG: &str = "providers:
  fake:
    type: fake
    gpu_count: 1
pools:
  main:
    provider: fake
    instance_type: gpu
    region: here
    min_nodes: 1
    max_nodes: 2
";

/// A running fleet on `disk`.
fn run(disk: &MemoryDisk, full: &Arc<AtomicBool>, tasks: &Tasks) -> Running {
    let mut store = Full {
        store: MemoryStore::open(disk),
        full: Arc::clone(full),
    };
    let epoch = store.take_over().unwrap();
    let state = store.load().unwrap();
    let (config, _) = Config::parse("test.yaml", CONFIG).unwrap();
    let settings = Arc::new(Settings::new(&config, |_| Idempotency::TokenOrName));
    let parts = Parts {
        fleet: Fleet::new(state, settings, HealthPolicy::builtin()),
        writer: Writer::start(store, epoch, WriterLimits::default()).unwrap(),
        epoch,
        clouds: [].into(),
        notifiers: Arc::new(crate::notifier::Notifiers::none(Arc::new(RealClock::new()))),
        plan_interval: Duration::from_millis(1),
        full_plan_interval: Duration::from_secs(60),
        data_dir: std::env::temp_dir(),
        keep: tokio::sync::watch::channel(navarch_store::Retention::default()).1,
        clock: Arc::new(RealClock::new()),
    };
    start(parts, tasks)
}

fn in_a_runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

fn order() -> Input {
    Input::SetAutomation {
        pool: None,
        mode: navarch_model::Automation::Off,
        reason: "a test".to_owned(),
    }
}

#[test]
fn a_server_that_lost_its_store_to_another_stops_with_an_error() {
    in_a_runtime(async {
        let disk = MemoryDisk::new(FleetId::new("fleet"));
        let tasks = Tasks::new();
        let running = run(&disk, &Arc::default(), &tasks);
        running.handle.submit(order()).await.unwrap();
        // Another server takes the store over.
        MemoryStore::open(&disk).take_over().unwrap();
        let refused = running.handle.submit(order()).await.unwrap_err();
        assert!(
            matches!(&refused, SubmitError::Unavailable(why) if why.contains("another server")),
            "{refused}"
        );
        let failure = tasks.failed().await;
        assert!(failure.to_string().contains("another server"), "{failure}");
    });
}

#[test]
fn a_plan_s_report_is_seen_with_the_changes_that_it_led_to() {
    in_a_runtime(async {
        let disk = MemoryDisk::new(FleetId::new("fleet"));
        let full = Arc::new(AtomicBool::new(true));
        let tasks = Tasks::new();
        let running = run(&disk, &full, &tasks);
        // The first plan wants a machine, and its intent cannot be stored.
        let refused = running.handle.submit(order()).await.unwrap_err();
        assert!(matches!(refused, SubmitError::Unavailable(_)), "{refused}");
        assert!(running.published.report().pools.is_empty());
        let counted = || running.published.meters.actions();
        assert!(counted().is_empty(), "{:?}", counted());
        full.store(false, Ordering::Release);
        let seen = async {
            while running.published.report().pools.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        seen.await;
        let report = running.published.report();
        assert!(report.pools.contains_key(&PoolName::new("main")));
        running.published.read(|state| {
            assert!(state.meta.last_event > 0);
        });
        assert!(counted().keys().any(|(_, result)| *result == "taken"));
    });
}

//! Tests of what readers of the record see while the store is ahead of what is published.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, RwLock};

use navarch_api::{ApiError, v1};
use navarch_core::Settings;
use navarch_model::{
    Change, Command, CommandId, Event, EventKind, FleetId, Incident, IncidentId, Instance,
    InstanceId, Node, NodeId, Stamp, State, Subject, Time,
};
use navarch_policy::HealthPolicy;
use navarch_store::{
    EventQuery, History, IncidentQuery, MemoryDisk, MemoryStore, Retention, Store as _, StoreError,
};
use navarch_time::VirtualClock;

use crate::archive::Archive;
use crate::fleet::{FleetClock, FleetHandle};
use crate::handlers::{ConfigText, Handlers, NodeParts, PolicyText};
use crate::limits::Limits;
use crate::publish::Published;

const NOW: Stamp = Stamp {
    core: Time(1),
    wall: Time(1),
};

fn event(sequence: u64) -> Change {
    Change::Event(Arc::new(Event {
        sequence,
        at: NOW,
        last: NOW,
        count: 1,
        kind: EventKind::NodeStatus,
        subject: Subject {
            node: Some(NodeId::new("a")),
            ..Subject::default()
        },
        message: format!("change {sequence}"),
        details: BTreeMap::new(),
    }))
}

/// Handlers whose store has three events, of which the first is published.
pub(in crate::handlers) fn handlers() -> Handlers {
    handlers_with(3, 1)
}

/// Handlers whose store has so many events, of which the first ones are published.
fn handlers_with(stored: u64, seen: usize) -> Handlers {
    let (store, _, events) = store_with(stored);
    handlers_on(Arc::from(store.reader()), &events[..seen])
}

/// A store with so many events, which are answered as well.
fn store_with(stored: u64) -> (MemoryStore, u64, Vec<Change>) {
    let mut store = MemoryStore::open(&MemoryDisk::new(FleetId::new("fleet")));
    let epoch = store.take_over().unwrap();
    let events: Vec<Change> = (1..=stored).map(event).collect();
    store.commit(epoch, &events).unwrap();
    (store, epoch, events)
}

/// Handlers over a record, of which some events are published.
fn handlers_on(record: Arc<dyn History>, seen: &[Change]) -> Handlers {
    let config = navarch_config::Config::default();
    let settings = Arc::new(Settings::new(&config, |_| unreachable!("no provider")));
    let policy = HealthPolicy::builtin();
    let state = State::new(FleetId::new("fleet"));
    let published = Published::new(state, settings, Arc::clone(&policy));
    published.apply(seen, NOW);
    let (handle, _) = FleetHandle::new(1);
    let text = PolicyText {
        policy,
        text: String::new(),
        loaded: NOW,
        refused: None,
    };
    let effective = ConfigText {
        source: String::new(),
        text: String::new(),
        loaded: NOW,
        refused: None,
    };
    Handlers {
        fleet: handle,
        published: Arc::new(published),
        time: FleetClock::new(VirtualClock::new().shared(), Time(0)),
        calls: Arc::default(),
        archive: Arc::new(Archive::start(record).unwrap()),
        faults: crate::faults::Faults::Providers(BTreeMap::new()),
        policy: Arc::new(RwLock::new(text)),
        config: Arc::new(RwLock::new(effective)),
        started: NOW,
        closing: navarch_time::CancellationToken::new(),
        listed: NodeParts::default(),
        limits: Arc::new(Limits::new(
            &config.server.limits.rates,
            VirtualClock::new().shared(),
        )),
        notifiers: Arc::new(crate::notifier::Notifiers::none(
            VirtualClock::new().shared(),
        )),
    }
}

fn told(events: &[v1::Event]) -> Vec<u64> {
    events.iter().map(|event| event.sequence).collect()
}

#[tokio::test]
async fn a_watcher_is_told_of_an_event_once_its_state_can_be_read() {
    let handlers = handlers();
    let asked = v1::WatchEventsRequest {
        after_sequence: Some(0),
        ..Default::default()
    };
    let mut watch = handlers.stream_of_events(asked).await.unwrap();
    let mut next = async || -> Result<_, ApiError> {
        futures_util::StreamExt::next(&mut watch)
            .await
            .expect("it goes on")
    };
    let first = next().await.unwrap();
    assert_eq!(told(&first.events), [1]);
    assert_eq!(first.resume_after_sequence, 1);
    handlers.published.apply(&[event(2), event(3)], NOW);
    let second = next().await.unwrap();
    assert_eq!(told(&second.events), [2, 3]);
    assert_eq!(second.resume_after_sequence, 3);
}

#[tokio::test]
async fn a_page_ends_with_what_is_published() {
    let handlers = handlers();
    for (latest, before, expected) in [
        (false, 0, vec![1]),
        (true, 0, vec![1]),
        (true, 9, vec![1]),
        (true, 1, vec![]),
    ] {
        let asked = v1::ListEventsRequest {
            latest,
            before_sequence: before,
            ..Default::default()
        };
        let page = handlers.page_of_events(asked).await.unwrap();
        assert_eq!(told(&page.events), expected, "{latest} {before}");
        assert!(!page.more, "{latest} {before}");
    }
}

#[tokio::test]
async fn a_page_tells_whether_there_is_more_whatever_its_size() {
    for (stored, limit, more) in [
        (1001, 1000, true),
        (1000, 1000, false),
        (1000, 999, true),
        (3, 2, true),
        (3, 3, false),
    ] {
        let handlers = handlers_with(stored, stored as usize);
        for latest in [false, true] {
            let asked = v1::ListEventsRequest {
                latest,
                limit,
                ..Default::default()
            };
            let page = handlers.page_of_events(asked).await.unwrap();
            let told = told(&page.events);
            assert_eq!(told.len(), limit as usize, "{stored} {limit} {latest}");
            let end = if latest { stored } else { u64::from(limit) };
            assert_eq!(told.last(), Some(&end), "{stored} {limit} {latest}");
            assert_eq!(page.more, more, "{stored} {limit} {latest}");
        }
    }
}

/// A record of which retention takes all but the newest event after the first look at it.
struct Pruned {
    record: Box<dyn History>,
    store: Mutex<Option<(MemoryStore, u64)>>,
}

impl Pruned {
    fn prune(&self) {
        if let Some((mut store, epoch)) = self.store.lock().unwrap().take() {
            let keep = Retention {
                events_bytes: 0,
                ..Retention::default()
            };
            let pruned = store.prune(epoch, NOW.wall, &keep).unwrap();
            assert_eq!(pruned.events, 4);
        }
    }
}

impl History for Pruned {
    fn events(&self, query: &EventQuery) -> Result<Vec<Arc<Event>>, StoreError> {
        let found = self.record.events(query);
        self.prune();
        found
    }

    fn event_range(&self) -> Result<Option<RangeInclusive<u64>>, StoreError> {
        let found = self.record.event_range();
        self.prune();
        found
    }

    fn incidents(&self, query: &IncidentQuery) -> Result<Vec<Arc<Incident>>, StoreError> {
        self.record.incidents(query)
    }

    fn node(&self, id: &NodeId) -> Result<Option<Arc<Node>>, StoreError> {
        self.record.node(id)
    }

    fn instance(&self, id: &InstanceId) -> Result<Option<Arc<Instance>>, StoreError> {
        self.record.instance(id)
    }

    fn incident(&self, id: &IncidentId) -> Result<Option<Arc<Incident>>, StoreError> {
        self.record.incident(id)
    }

    fn command(&self, id: &CommandId) -> Result<Option<Arc<Command>>, StoreError> {
        self.record.command(id)
    }
}

#[tokio::test]
async fn a_watcher_misses_no_event_untold_when_retention_runs_while_it_reads() {
    let (store, epoch, events) = store_with(5);
    let record = Pruned {
        record: store.reader(),
        store: Mutex::new(Some((store, epoch))),
    };
    let handlers = handlers_on(Arc::new(record), &events);
    let asked = v1::WatchEventsRequest {
        after_sequence: Some(2),
        ..Default::default()
    };
    let mut watch = handlers.stream_of_events(asked).await.unwrap();
    let first = futures_util::StreamExt::next(&mut watch).await.unwrap();
    let first = first.unwrap();
    // Each event after the second was told, or is said to be lost.
    let told = told(&first.events);
    for sequence in 3..=5 {
        let lost = sequence <= first.lost_up_to_sequence;
        assert_ne!(told.contains(&sequence), lost, "{sequence} of {first:?}");
    }
}

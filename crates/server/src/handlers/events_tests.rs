//! Tests of what readers of the record see while the store is ahead of what is published.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use navarch_api::{ApiError, v1};
use navarch_core::Settings;
use navarch_model::{Change, Event, EventKind, FleetId, NodeId, Stamp, State, Subject, Time};
use navarch_policy::HealthPolicy;
use navarch_store::{MemoryDisk, MemoryStore, Store as _};
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
    let fleet = FleetId::new("fleet");
    let mut store = MemoryStore::open(&MemoryDisk::new(fleet.clone()));
    let epoch = store.take_over().unwrap();
    let events: Vec<Change> = (1..=stored).map(event).collect();
    store.commit(epoch, &events).unwrap();
    let config = navarch_config::Config::default();
    let settings = Arc::new(Settings::new(&config, |_| unreachable!("no provider")));
    let policy = HealthPolicy::builtin();
    let published = Published::new(State::new(fleet), settings, Arc::clone(&policy));
    published.apply(&events[..seen], NOW);
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
        archive: Arc::new(Archive::start(Arc::from(store.reader())).unwrap()),
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

//! Loading, committing, fencing.

use std::sync::Arc;

use navarch_model::{Change, Event, FleetId, Meta, Node, State};
use navarch_store::{EventQuery, Retention, Store, StoreError};
use navarch_time::{Clock, RealClock};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::Fixture;
use super::expected::Expected;
use crate::support::Random;

/// A runner of `cases` random cases, which leaves no file behind.
pub fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    })
}

/// A store that was taken over, its epoch and state.
pub fn begin(fixture: &impl Fixture) -> (Box<dyn Store>, u64, State) {
    let mut store = fixture.open();
    let epoch = store.take_over().expect("a new store can be taken over");
    let state = store.load().expect("a new store can be loaded");
    (store, epoch, state)
}

pub fn a_new_store_has_a_fleet_and_nothing_else<F: Fixture>() {
    let fixture = F::new();
    let mut store = fixture.open();
    let state = store.load().unwrap();
    assert!(!state.meta.fleet.as_str().is_empty());
    assert_eq!(state, State::new(state.meta.fleet.clone()));
    assert_eq!(store.reader().events(&EventQuery::default()), Ok(vec![]));
    assert_eq!(store.reader().event_range(), Ok(None));
    drop(store);
    assert_eq!(fixture.open().load(), Ok(state), "the fleet's id stays");
}

pub fn what_is_loaded_is_what_was_applied<F: Fixture>() {
    let steps = (any::<u64>(), 1..8_usize);
    runner(48)
        .run(&steps, |(seed, steps)| {
            let fixture = F::new();
            let (mut store, mut epoch, state) = begin(&fixture);
            let mut random = Random::new(seed, state.meta.fleet.clone());
            let mut expected = Expected::new(state);
            for _ in 0..steps {
                let changes = random.changes(25);
                prop_assert_eq!(store.commit(epoch, &changes), Ok(()));
                expected.apply(&changes);
                if random.below(3) == 0 {
                    drop(store);
                    store = fixture.open();
                }
                if random.below(3) == 0 {
                    epoch = store.take_over()?;
                    Arc::make_mut(&mut expected.state.meta).epoch = epoch;
                }
                prop_assert_eq!(store.load()?, expected.loaded());
            }
            Ok(())
        })
        .unwrap();
}

pub fn a_refused_commit_changes_nothing<F: Fixture>() {
    let fixture = F::new();
    let (mut store, epoch, state) = begin(&fixture);
    let fleet = state.meta.fleet.clone();
    let mut random = Random::new(2, fleet.clone());
    let before: Vec<Change> = (0..50).map(|_| random.change()).collect();
    store.commit(epoch, &before).unwrap();
    let loaded = store.load().unwrap();
    let recorded = store.reader().events(&EventQuery::default()).unwrap();

    let stranger = Meta {
        fleet: FleetId::new("fleet-stranger"),
        ..random.meta()
    };
    let numbered = |sequence: u64| {
        let event = Random::new(3, fleet.clone()).event();
        Change::Event(Arc::new(Event { sequence, ..event }))
    };
    for refused in [
        Change::Meta(Arc::new(stranger)),
        numbered(0),
        numbered(1 << 63),
        numbered(u64::MAX),
    ] {
        let mut changes: Vec<Change> = (0..40).map(|_| random.change()).collect();
        changes.insert(20, refused);
        let error = store.commit(epoch, &changes).unwrap_err();
        match &changes[20] {
            Change::Meta(_) => {
                let message = error.to_string();
                assert!(matches!(error, StoreError::OtherFleet { .. }), "{error:?}");
                assert!(message.contains("fleet-stranger"), "{message}");
                assert!(message.contains(fleet.as_str()), "{message}");
            }
            _ => assert!(matches!(error, StoreError::Unstorable(_)), "{error:?}"),
        }
        assert_eq!(store.load(), Ok(loaded.clone()));
        assert_eq!(
            store.reader().events(&EventQuery::default()),
            Ok(recorded.clone())
        );
    }
}

pub fn only_the_last_to_take_over_may_write<F: Fixture>() {
    let fixture = F::new();
    let mut store = fixture.open();
    let mut random = Random::new(4, store.load().unwrap().meta.fleet.clone());
    let first = store.take_over().unwrap();
    let node = Change::Node(Arc::new(random.node()));
    store.commit(first, std::slice::from_ref(&node)).unwrap();
    let second = store.take_over().unwrap();
    assert!(second > first);
    let held = store.load().unwrap();

    for given in [first, second + 1, 0, u64::MAX] {
        let fenced = Err(StoreError::Fenced {
            held: second,
            given,
        });
        let changes = [Change::Node(Arc::new(random.node()))];
        assert_eq!(store.commit(given, &changes), fenced);
        assert_eq!(store.commit(given, &[]), fenced, "even without changes");
        let pruned = store.prune(given, held.meta.core_time, &Retention::default());
        assert_eq!(pruned.map(drop), fenced);
        assert_eq!(store.load(), Ok(held.clone()));
    }

    // Nothing that is committed sets the epoch.
    let meta = Meta {
        epoch: first,
        ..random.meta()
    };
    store
        .commit(second, &[Change::Meta(Arc::new(meta))])
        .unwrap();
    assert_eq!(store.load().unwrap().meta.epoch, second);
    drop(store);

    let mut store = fixture.open();
    assert_eq!(store.load().unwrap().meta.epoch, second);
    store.commit(second, &[node]).unwrap();
    assert_eq!(store.take_over(), Ok(second + 1));
}

pub fn the_last_event_is_never_forgotten<F: Fixture>() {
    let fixture = F::new();
    let (mut store, epoch, state) = begin(&fixture);
    let mut random = Random::new(5, state.meta.fleet.clone());
    let event = Event {
        sequence: 41,
        ..random.event()
    };
    let meta = Meta {
        last_event: 7,
        ..random.meta()
    };
    let changes = [
        Change::Event(Arc::new(event)),
        Change::Meta(Arc::new(meta.clone())),
    ];
    store.commit(epoch, &changes).unwrap();
    assert_eq!(
        store.load().unwrap().meta.last_event,
        41,
        "else 8 would be used twice"
    );
    let meta = Meta {
        last_event: 99,
        ..meta
    };
    store
        .commit(epoch, &[Change::Meta(Arc::new(meta))])
        .unwrap();
    assert_eq!(store.load().unwrap().meta.last_event, 99);
}

pub fn texts_of_every_kind_and_size_survive<F: Fixture>() {
    let fixture = F::new();
    let (mut store, epoch, state) = begin(&fixture);
    let mut random = Random::new(6, state.meta.fleet.clone());
    let every: String = ('\0'..=char::MAX).step_by(7).collect();
    for text in [every, "x".repeat(5 << 20), "\u{0}".repeat(1 << 16)] {
        let mut node = random.node();
        node.address.clone_from(&text);
        let mut event = random.event();
        event.message.clone_from(&text);
        event.details.insert(text.clone(), text);
        let (node, event) = (Arc::new(node), Arc::new(event));
        let changes = [
            Change::Node(Arc::clone(&node)),
            Change::Event(Arc::clone(&event)),
        ];
        store.commit(epoch, &changes).unwrap();
        drop(store);
        store = fixture.open();
        assert!(store.load().unwrap().nodes[&node.id] == node);
        let found = store.reader().events(&EventQuery {
            after: Some(event.sequence - 1),
            limit: 1,
            ..EventQuery::default()
        });
        assert!(found.unwrap() == [event]);
    }
}

pub fn a_fleet_of_thousands_is_loaded_whole<F: Fixture>() {
    let fixture = F::new();
    let (mut store, epoch, state) = begin(&fixture);
    let mut random = Random::new(7, state.meta.fleet.clone());
    let mut expected = Expected::new(state);
    let templates: Vec<Node> = (0..50).map(|_| random.node()).collect();
    for thousand in 0..10 {
        let changes: Vec<Change> = (0..1000)
            .map(|index| {
                let mut node = templates[index % templates.len()].clone();
                node.id = navarch_model::NodeId::new(format!("node-{thousand}-{index}"));
                Change::Node(Arc::new(node))
            })
            .collect();
        store.commit(epoch, &changes).unwrap();
        expected.apply(&changes);
    }
    drop(store);
    let clock = RealClock::new();
    let start = clock.monotonic();
    let mut store = fixture.open();
    let loaded = store.load().unwrap();
    println!("opened and loaded in {:?}", clock.monotonic() - start);
    assert_eq!(loaded.nodes.len(), 10_000);
    assert!(loaded == expected.loaded());
}

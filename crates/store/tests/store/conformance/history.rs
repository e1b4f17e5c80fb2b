//! Queries of what happened.

use std::collections::BTreeSet;
use std::sync::Arc;

use navarch_model::{
    Change, CommandId, EventKind, IncidentId, InstanceId, NodeId, PoolName, Stamp, Time,
};
use navarch_store::{EventQuery, IncidentCursor, IncidentQuery, MAX_LIMIT, Order, Store};
use navarch_time::spawn_thread;
use proptest::prelude::*;

use super::Fixture;
use super::cases::{begin, runner};
use super::expected::Expected;
use crate::support::Random;

/// A filter that is mostly absent, among the ids that [`Random`] gives, and one that it does not.
fn filter(random: &mut Random, prefix: &str) -> Option<String> {
    (random.below(4) == 0).then(|| format!("{prefix}-{}", random.below(7)))
}

fn event_query(random: &mut Random) -> EventQuery {
    let kinds: BTreeSet<EventKind> = if random.below(4) == 0 {
        let half = |_: &&EventKind| random.below(2) == 0;
        EventKind::ALL.iter().filter(half).copied().collect()
    } else {
        BTreeSet::new()
    };
    EventQuery {
        pool: filter(random, "pool").map(PoolName::new),
        instance: filter(random, "nv").map(InstanceId::new),
        node: filter(random, "node").map(NodeId::new),
        incident: filter(random, "inc").map(IncidentId::new),
        command: filter(random, "cmd").map(CommandId::new),
        kinds,
        after: (random.below(3) == 0).then(|| random.below(40)),
        before: [None, None, Some(u64::MAX), Some(random.below(40))][random.below(4) as usize],
        order: [Order::NewestFirst, Order::OldestFirst][random.below(2) as usize],
        limit: [0, 1, 5, 1000][random.below(4) as usize],
    }
}

fn incident_query(random: &mut Random) -> IncidentQuery {
    IncidentQuery {
        node: filter(random, "node").map(NodeId::new),
        pool: filter(random, "pool").map(PoolName::new),
        open: [None, Some(true), Some(false)][random.below(3) as usize],
        before: (random.below(3) == 0).then(|| IncidentCursor::of(&random.incident())),
        limit: [0, 1, 2, 1000][random.below(4) as usize],
    }
}

pub fn queries_answer_what_the_record_has<F: Fixture>() {
    runner(24)
        .run(&any::<u64>(), |seed| {
            let fixture = F::new();
            let (mut store, epoch, state) = begin(&fixture);
            let mut random = Random::new(seed, state.meta.fleet.clone());
            let mut expected = Expected::new(state);
            let changes: Vec<Change> = (0..200).map(|_| random.change()).collect();
            for batch in changes.chunks(70) {
                store.commit(epoch, batch)?;
                expected.apply(batch);
            }
            let reader = store.reader();
            let range = expected
                .events
                .keys()
                .min()
                .zip(expected.events.keys().max());
            prop_assert_eq!(
                reader.event_range()?,
                range.map(|(first, last)| *first..=*last)
            );
            for _ in 0..60 {
                let query = event_query(&mut random);
                prop_assert_eq!(
                    reader.events(&query)?,
                    expected.events(&query),
                    "{:?}",
                    query
                );
                let query = incident_query(&mut random);
                let found = reader.incidents(&query)?;
                prop_assert_eq!(found, expected.incidents(&query), "{:?}", query);
            }
            for number in 0..7 {
                let id = NodeId::new(format!("node-{number}"));
                prop_assert_eq!(reader.node(&id)?, expected.nodes.get(&id).cloned());
                let id = InstanceId::new(format!("nv-{number}"));
                prop_assert_eq!(reader.instance(&id)?, expected.instances.get(&id).cloned());
                let id = IncidentId::new(format!("inc-{number}"));
                prop_assert_eq!(reader.incident(&id)?, expected.incidents.get(&id).cloned());
                let id = CommandId::new(format!("cmd-{number}"));
                prop_assert_eq!(reader.command(&id)?, expected.commands.get(&id).cloned());
            }
            Ok(())
        })
        .unwrap();
}

pub fn a_repeat_replaces_its_event<F: Fixture>() {
    let fixture = F::new();
    let (mut store, epoch, state) = begin(&fixture);
    let mut random = Random::new(8, state.meta.fleet.clone());
    let mut event = random.event();
    event.sequence = 1;
    event.count = 1;
    event.subject.node = Some(NodeId::new("node-one"));
    let first = Arc::new(event.clone());
    event.count = 1000;
    event.last = Stamp {
        core: Time(5),
        wall: Time(6),
    };
    let repeat = Arc::new(event);
    store.commit(epoch, &[Change::Event(first)]).unwrap();
    store
        .commit(epoch, &[Change::Event(Arc::clone(&repeat))])
        .unwrap();
    let query = EventQuery {
        node: Some(NodeId::new("node-one")),
        ..EventQuery::default()
    };
    assert_eq!(store.reader().events(&query), Ok(vec![repeat]));
}

/// Commits `count` events; every third is of the node `node-third`.
fn record(store: &mut dyn Store, epoch: u64, random: &mut Random, count: u64) {
    let changes: Vec<Change> = (1..=count)
        .map(|sequence| {
            let mut event = random.event();
            event.sequence = sequence;
            event.subject.node = Some(NodeId::new(if sequence % 3 == 0 {
                "node-third"
            } else {
                "node-other"
            }));
            Change::Event(Arc::new(event))
        })
        .collect();
    store.commit(epoch, &changes).unwrap();
}

pub fn pages_of_events_join_without_gap_or_overlap<F: Fixture>() {
    let fixture = F::new();
    let (mut store, epoch, state) = begin(&fixture);
    let mut random = Random::new(9, state.meta.fleet.clone());
    record(&mut *store, epoch, &mut random, 1500);
    let reader = store.reader();
    for limit in [1, 7, 100, usize::MAX] {
        let mut found = Vec::new();
        let mut query = EventQuery {
            node: Some(NodeId::new("node-third")),
            before: Some(100),
            limit,
            ..EventQuery::default()
        };
        loop {
            let page = reader.events(&query).unwrap();
            let Some(last) = page.last() else { break };
            query.before = Some(last.sequence);
            found.extend(page.iter().map(|event| event.sequence));
        }
        let wanted: Vec<u64> = (1..100)
            .rev()
            .filter(|sequence| sequence % 3 == 0)
            .collect();
        assert_eq!(found, wanted, "newest first by {limit}");

        let mut found = Vec::new();
        let mut seen = 1400;
        loop {
            let query = EventQuery {
                limit,
                ..EventQuery::following(seen)
            };
            let page = reader.events(&query).unwrap();
            let Some(last) = page.last() else { break };
            seen = last.sequence;
            found.extend(page.iter().map(|event| event.sequence));
        }
        let wanted: Vec<u64> = (1401..=1500).collect();
        assert_eq!(found, wanted, "oldest first by {limit}");
    }
    let all = EventQuery {
        limit: usize::MAX,
        ..EventQuery::default()
    };
    assert_eq!(
        reader.events(&all).unwrap().len(),
        MAX_LIMIT,
        "a page is bounded"
    );
}

pub fn pages_of_incidents_join_without_gap_or_overlap<F: Fixture>() {
    let fixture = F::new();
    let (mut store, epoch, state) = begin(&fixture);
    let mut random = Random::new(10, state.meta.fleet.clone());
    // Many open at the same moment; the id decides.
    let changes: Vec<Change> = (0..60)
        .map(|index| {
            let mut incident = random.incident();
            incident.id = IncidentId::new(format!("inc-{:02}", (index * 37) % 60));
            incident.opened.core = Time(index / 10);
            incident.pool = Some(PoolName::new("pool"));
            Change::Incident(Arc::new(incident))
        })
        .collect();
    store.commit(epoch, &changes).unwrap();
    let reader = store.reader();
    let whole = IncidentQuery {
        pool: Some(PoolName::new("pool")),
        ..IncidentQuery::default()
    };
    let whole = reader.incidents(&whole).unwrap();
    assert_eq!(whole.len(), 60);
    for limit in [1, 7, 59] {
        let mut found = Vec::new();
        let mut query = IncidentQuery {
            pool: Some(PoolName::new("pool")),
            limit,
            ..IncidentQuery::default()
        };
        loop {
            let page = reader.incidents(&query).unwrap();
            let Some(last) = page.last() else { break };
            query.before = Some(IncidentCursor::of(last));
            found.extend(page);
        }
        assert_eq!(found, whole, "by {limit}");
    }
}

pub fn forgotten_records_stay_and_come_back<F: Fixture>() {
    let fixture = F::new();
    let (mut store, epoch, state) = begin(&fixture);
    let mut random = Random::new(11, state.meta.fleet.clone());
    let node = Arc::new(random.node());
    let put = Change::Node(Arc::clone(&node));
    let forget = Change::ForgetNode(node.id.clone());

    store.commit(epoch, std::slice::from_ref(&forget)).unwrap();
    assert_eq!(
        store.reader().node(&node.id),
        Ok(None),
        "there was nothing to forget"
    );
    store.commit(epoch, &[put, forget]).unwrap();
    assert!(store.load().unwrap().nodes.is_empty());
    assert_eq!(store.reader().node(&node.id), Ok(Some(Arc::clone(&node))));

    let mut again = (*node).clone();
    again.incarnation = again.incarnation.wrapping_add(1);
    let again = Arc::new(again);
    store
        .commit(epoch, &[Change::Node(Arc::clone(&again))])
        .unwrap();
    drop(store);
    let mut store = fixture.open();
    assert_eq!(store.load().unwrap().nodes.get(&node.id), Some(&again));
    assert_eq!(store.reader().node(&node.id), Ok(Some(again)));
}

pub fn readers_on_other_threads_see_whole_commits<F: Fixture>() {
    const BATCH: usize = 5;
    const BATCHES: usize = 60;
    let fixture = F::new();
    let (mut store, epoch, state) = begin(&fixture);
    let fleet = state.meta.fleet.clone();
    let readers: Vec<_> = (0..3)
        .map(|number| {
            let reader = store.reader();
            let watch = move || {
                let mut seen = 0;
                while seen < BATCH * BATCHES {
                    let found = reader.events(&EventQuery::following(seen as u64)).unwrap();
                    let sequences: Vec<_> = found.iter().map(|event| event.sequence).collect();
                    let wanted: Vec<_> = (seen as u64 + 1..).take(found.len()).collect();
                    assert_eq!(sequences, wanted);
                    seen += found.len();
                    assert_eq!(seen % BATCH, 0, "a commit was seen in part");
                }
            };
            spawn_thread(format!("reader {number}"), watch).unwrap()
        })
        .collect();
    let mut random = Random::new(12, fleet);
    for batch in 0..BATCHES {
        let changes: Vec<Change> = (0..BATCH)
            .map(|index| {
                let mut event = random.event();
                event.sequence = (batch * BATCH + index + 1) as u64;
                Change::Event(Arc::new(event))
            })
            .collect();
        store.commit(epoch, &changes).unwrap();
    }
    for reader in readers {
        reader.join().unwrap();
    }
}

//! What retention takes and what it leaves.

use std::sync::Arc;
use std::time::Duration;

use navarch_model::{
    Change, Command, CommandState, Ending, Event, Incident, Instance, Node, Stamp, Time,
};
use navarch_store::{EventQuery, Order, Retention, Store};
use proptest::prelude::*;

use super::Fixture;
use super::cases::{begin, runner};
use crate::support::Random;

/// The present.
const NOW: Time = Time(1_000_000_000_000);

/// A moment `seconds` before the present.
fn ago(seconds: u64) -> Stamp {
    Stamp {
        core: Time(0),
        wall: NOW - Duration::from_secs(seconds),
    }
}

/// An hour for events, a day for records, by three.
fn policy() -> Retention {
    Retention {
        events_age: Duration::from_secs(3600),
        events_bytes: u64::MAX,
        records_age: Duration::from_secs(24 * 3600),
        batch: 3,
    }
}

/// Prunes until nothing is left to prune; the events and records removed, and the calls.
fn prune_all(store: &mut dyn Store, epoch: u64, keep: &Retention) -> (usize, usize, usize) {
    let (mut events, mut records) = (0, 0);
    for call in 1..1000 {
        let pruned = store.prune(epoch, NOW, keep).unwrap();
        assert!(
            pruned.events <= keep.batch && pruned.records <= 4 * keep.batch,
            "{pruned:?}"
        );
        events += pruned.events;
        records += pruned.records;
        if !pruned.more {
            return (events, records, call);
        }
    }
    panic!("it never ends");
}

fn event(random: &mut Random, sequence: u64, last: Stamp) -> Change {
    Change::Event(Arc::new(Event {
        sequence,
        last,
        ..random.event()
    }))
}

fn sequences(store: &dyn Store) -> Vec<u64> {
    let query = EventQuery {
        order: Order::OldestFirst,
        ..EventQuery::default()
    };
    let events = store.reader().events(&query).unwrap();
    events.iter().map(|event| event.sequence).collect()
}

pub fn what_is_old_goes_in_small_batches<F: Fixture>() {
    let fixture = F::new();
    let (mut store, epoch, state) = begin(&fixture);
    let mut random = Random::new(20, state.meta.fleet.clone());
    let mut changes: Vec<Change> = (1..=10)
        .map(|sequence| event(&mut random, sequence, ago(3601)))
        .collect();
    changes.extend((11..=12).map(|sequence| event(&mut random, sequence, ago(3599))));
    store.commit(epoch, &changes).unwrap();
    assert_eq!(prune_all(&mut *store, epoch, &policy()), (10, 0, 4));
    assert_eq!(sequences(&*store), [11, 12]);

    let ended = [ago(24 * 3600 + 1), ago(24 * 3600 - 1)];
    let mut ids = Vec::new();
    let mut nodes = Vec::new();
    for (index, at) in ended.into_iter().enumerate() {
        let node = Node {
            id: navarch_model::NodeId::new(format!("ended-{index}")),
            terminated: Some(at),
            ..random.node()
        };
        let instance = Instance {
            id: navarch_model::InstanceId::new(format!("ended-{index}")),
            ended: Some(at),
            ..random.instance()
        };
        let incident = Incident {
            id: navarch_model::IncidentId::new(format!("ended-{index}")),
            closed: Some((at, Ending::Recovered)),
            ..random.incident()
        };
        let command = Command {
            id: navarch_model::CommandId::new(format!("ended-{index}")),
            state: CommandState::Failed,
            changed: at,
            ..random.command()
        };
        let changes = [
            Change::ForgetNode(node.id.clone()),
            Change::ForgetInstance(instance.id.clone()),
            Change::ForgetIncident(incident.id.clone()),
            Change::ForgetCommand(command.id.clone()),
        ];
        ids.push((
            node.id.clone(),
            instance.id.clone(),
            incident.id.clone(),
            command.id.clone(),
        ));
        let node = Change::Node(Arc::new(node));
        nodes.push(node.clone());
        let put = [
            node,
            Change::Instance(Arc::new(instance)),
            Change::Incident(Arc::new(incident)),
            Change::Command(Arc::new(command)),
        ];
        store.commit(epoch, &put).unwrap();
        store.commit(epoch, &changes).unwrap();
    }
    assert_eq!(prune_all(&mut *store, epoch, &policy()), (0, 4, 1));
    let reader = store.reader();
    let there: Vec<[bool; 4]> = ids
        .iter()
        .map(|(node, instance, incident, command)| {
            [
                reader.node(node).unwrap().is_some(),
                reader.instance(instance).unwrap().is_some(),
                reader.incident(incident).unwrap().is_some(),
                reader.command(command).unwrap().is_some(),
            ]
        })
        .collect();
    assert_eq!(there, [[false; 4], [true; 4]]);

    // What is gone can come back under the same id.
    let Some(Change::Node(node)) = nodes.first() else {
        panic!("nodes were made")
    };
    store.commit(epoch, &nodes[..1]).unwrap();
    drop(store);
    let mut store = fixture.open();
    assert_eq!(store.load().unwrap().nodes.get(&node.id), Some(node));
}

pub fn retention_takes_nothing_from_the_middle_of_the_record<F: Fixture>() {
    let fixture = F::new();
    let (mut store, epoch, state) = begin(&fixture);
    let mut random = Random::new(24, state.meta.fleet.clone());
    // The third repeated until a moment ago, and a clock that stood wrong put the eighth into the
    // future. Each keeps what is behind it until it is old itself.
    let last = |sequence| match sequence {
        3 => ago(10),
        8 => Stamp {
            core: Time(0),
            wall: NOW + Duration::from_secs(7200),
        },
        _ => ago(7200),
    };
    let changes: Vec<Change> = (1..=12)
        .map(|sequence| event(&mut random, sequence, last(sequence)))
        .collect();
    store.commit(epoch, &changes).unwrap();
    for (hours, left) in [(0, 3..=12), (1, 8..=12), (2, 8..=12), (4, 12..=12)] {
        let now = NOW + Duration::from_secs(hours * 3600);
        while store.prune(epoch, now, &policy()).unwrap().more {}
        let left: Vec<u64> = left.collect();
        assert_eq!(sequences(&*store), left, "after {hours} hours");
        assert_eq!(store.reader().event_range(), Ok(Some(left[0]..=12)));
    }
}

pub fn the_oldest_events_go_when_there_are_too_many<F: Fixture>() {
    let fixture = F::new();
    let (mut store, epoch, state) = begin(&fixture);
    let mut random = Random::new(21, state.meta.fleet.clone());
    let mut last = 0;
    for _ in 0..5 {
        let changes: Vec<Change> = (0..40)
            .map(|_| {
                last += 1;
                let message = "x".repeat(100_000);
                Change::Event(Arc::new(Event {
                    sequence: last,
                    last: ago(1),
                    message,
                    ..random.event()
                }))
            })
            .collect();
        store.commit(epoch, &changes).unwrap();
    }
    let keep = Retention {
        events_bytes: 5_000_000,
        batch: 10,
        ..policy()
    };
    let (removed, _, _) = prune_all(&mut *store, epoch, &keep);
    assert!(
        (145..=165).contains(&removed),
        "50 of 200 fit; {removed} were removed"
    );
    let left: Vec<u64> = (removed as u64 + 1..=200).collect();
    assert_eq!(sequences(&*store), left, "the oldest went");

    let nothing = Retention {
        events_bytes: 0,
        ..keep
    };
    prune_all(&mut *store, epoch, &nothing);
    assert_eq!(sequences(&*store), [200], "the newest stays");
}

pub fn what_is_in_use_stays<F: Fixture>() {
    let fixture = F::new();
    let (mut store, epoch, state) = begin(&fixture);
    let mut random = Random::new(22, state.meta.fleet.clone());
    let old = ago(1_000_000);
    let changes: Vec<Change> = (0..200)
        .map(|_| match random.change() {
            Change::Event(event) => Change::Event(Arc::new(Event {
                last: old,
                ..(*event).clone()
            })),
            // Nothing is forgotten, so everything is in use however old.
            Change::ForgetNode(_)
            | Change::ForgetInstance(_)
            | Change::ForgetIncident(_)
            | Change::ForgetCommand(_) => Change::Pool(Arc::new(random.pool())),
            other => other,
        })
        .collect();
    store.commit(epoch, &changes).unwrap();
    let before = store.load().unwrap();
    prune_all(&mut *store, epoch, &policy());
    assert_eq!(store.load(), Ok(before));

    // Forgotten, but not ended: kept as well.
    let node = Node {
        terminated: None,
        ..random.node()
    };
    let id = node.id.clone();
    let changes = [Change::Node(Arc::new(node)), Change::ForgetNode(id.clone())];
    store.commit(epoch, &changes).unwrap();
    prune_all(&mut *store, epoch, &policy());
    assert!(store.reader().node(&id).unwrap().is_some());
}

/// Whatever is recorded, in whatever batches it goes.
pub fn only_the_beginning_goes_and_readers_go_on_over_the_gap<F: Fixture>() {
    // Ages in seconds around both limits, exactly on them included.
    let hour = prop_oneof![0..7200_u64, 3595..3605_u64];
    let day = prop_oneof![0..180_000_u64, 86_395..86_405_u64];
    let events = proptest::collection::vec((1..4_u64, hour), 1..40);
    let incidents = proptest::collection::vec((proptest::option::of(day), any::<bool>()), 0..12);
    let inputs = (any::<u64>(), 1..7_usize, events, incidents);
    runner(48)
        .run(&inputs, |(seed, batch, events, incidents)| {
            let fixture = F::new();
            let (mut store, epoch, state) = begin(&fixture);
            let mut random = Random::new(seed, state.meta.fleet.clone());
            let keep = Retention { batch, ..policy() };
            let (mut changes, mut recorded, mut sequence) = (Vec::new(), Vec::new(), 0);
            for (step, age) in events {
                sequence += step;
                changes.push(event(&mut random, sequence, ago(age)));
                recorded.push((sequence, age));
            }
            let mut known = Vec::new();
            for (index, (closed, forgotten)) in incidents.into_iter().enumerate() {
                let incident = Incident {
                    id: navarch_model::IncidentId::new(format!("incident-{index}")),
                    closed: closed.map(|age| (ago(age), Ending::Recovered)),
                    ..random.incident()
                };
                let id = incident.id.clone();
                changes.push(Change::Incident(Arc::new(incident)));
                if forgotten {
                    changes.push(Change::ForgetIncident(id.clone()));
                }
                let goes = forgotten && closed.is_some_and(|age| age > 24 * 3600);
                known.push((id, goes));
            }
            prop_assert_eq!(store.commit(epoch, &changes), Ok(()));
            prune_all(&mut *store, epoch, &keep);
            let left: Vec<u64> = recorded
                .iter()
                .skip_while(|(at, age)| *age > 3600 && *at != sequence)
                .map(|(at, _)| *at)
                .collect();
            prop_assert_eq!(&sequences(&*store), &left);
            let reader = store.reader();
            for (id, goes) in known {
                prop_assert_eq!(reader.incident(&id)?.is_none(), goes, "{}", id);
            }
            // Who stopped anywhere before goes on with the next that is left, and can see by the
            // range that there is a gap.
            let range = reader.event_range()?.expect("the newest stays");
            prop_assert_eq!((*range.start(), *range.end()), (left[0], sequence));
            for resume in 0..=sequence {
                let query = EventQuery {
                    limit: 3,
                    ..EventQuery::following(resume)
                };
                let page: Vec<u64> = reader.events(&query)?.iter().map(|e| e.sequence).collect();
                let next: Vec<u64> = left
                    .iter()
                    .copied()
                    .filter(|at| *at > resume)
                    .take(3)
                    .collect();
                prop_assert_eq!(page, next);
            }
            Ok(())
        })
        .unwrap();
}

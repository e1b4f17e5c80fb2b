//! A store in memory, for the simulator and for tests.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};

use navarch_model::{
    Change, Command, CommandId, Event, FleetId, Incident, IncidentId, Instance, InstanceId, Meta,
    Node, NodeId, State, Time,
};

use crate::query::clamp;
use crate::restored::changes_of_restore;
use crate::{
    EventQuery, History, IncidentCursor, IncidentQuery, Order, Pruned, Retention, Store, StoreError,
};

/// What a [`MemoryStore`] writes to. It outlives the store, as a disk outlives a process: a
/// simulated crash drops the store and the fleet, and opens the disk again.
#[derive(Debug, Clone)]
pub struct MemoryDisk(Arc<Mutex<Contents>>);

/// One record and whether it is part of the loaded state.
#[derive(Debug)]
struct Record<T> {
    value: Arc<T>,
    live: bool,
}

impl<T> Clone for Record<T> {
    fn clone(&self) -> Self {
        Self {
            value: Arc::clone(&self.value),
            live: self.live,
        }
    }
}

type Table<K, T> = BTreeMap<K, Record<T>>;

#[derive(Debug, Clone)]
struct Contents {
    /// The live records, kept up to date, so that a load is a copy of pointers.
    state: State,
    nodes: Table<NodeId, Node>,
    instances: Table<InstanceId, Instance>,
    incidents: Table<IncidentId, Incident>,
    commands: Table<CommandId, Command>,
    events: BTreeMap<u64, Arc<Event>>,
    events_bytes: u64,
}

impl MemoryDisk {
    /// An empty disk for a new fleet.
    pub fn new(fleet: FleetId) -> Self {
        Self(Arc::new(Mutex::new(Contents {
            state: State::new(fleet),
            nodes: BTreeMap::new(),
            instances: BTreeMap::new(),
            incidents: BTreeMap::new(),
            commands: BTreeMap::new(),
            events: BTreeMap::new(),
            events_bytes: 0,
        })))
    }

    /// A copy of what is on the disk now, as a backup makes it.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.contents().clone())))
    }

    /// Turns the disk into one that was restored from a copy: automation is off until a person has
    /// looked at the fleet, and what the scheduler knows is in doubt.
    #[must_use]
    pub fn restored(self, wall: Time) -> Self {
        {
            let mut contents = self.contents();
            for change in changes_of_restore(&contents.state, wall) {
                contents.make(&change);
            }
        }
        self
    }

    /// How many records each table holds, by its name.
    #[must_use]
    pub fn sizes(&self) -> Vec<(&'static str, usize)> {
        let contents = self.contents();
        vec![
            ("stored nodes", contents.nodes.len()),
            ("stored instances", contents.instances.len()),
            ("stored incidents", contents.incidents.len()),
            ("stored commands", contents.commands.len()),
            ("stored events", contents.events.len()),
        ]
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        // A panic while the lock is held is a bug in this file; what it left is still the most
        // that is known.
        self.0.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

/// A store in memory. Only its [`MemoryDisk`] remembers.
#[derive(Debug)]
pub struct MemoryStore {
    disk: MemoryDisk,
}

impl MemoryStore {
    /// Opens what is on the disk.
    pub fn open(disk: &MemoryDisk) -> Self {
        Self { disk: disk.clone() }
    }
}

impl Contents {
    fn guard(&self, epoch: u64) -> Result<(), StoreError> {
        let held = self.state.meta.epoch;
        if held == epoch {
            Ok(())
        } else {
            Err(StoreError::Fenced { held, given: epoch })
        }
    }

    fn make(&mut self, change: &Change) {
        match change {
            Change::Meta(meta) => {
                let held = &self.state.meta;
                self.state.meta = if meta.epoch == held.epoch {
                    Arc::clone(meta)
                } else {
                    Arc::new(Meta {
                        epoch: held.epoch,
                        ..Meta::clone(meta)
                    })
                };
                return;
            }
            Change::Node(node) => put(&mut self.nodes, &node.id, node),
            Change::Instance(instance) => put(&mut self.instances, &instance.id, instance),
            Change::Incident(incident) => put(&mut self.incidents, &incident.id, incident),
            Change::Command(command) => put(&mut self.commands, &command.id, command),
            Change::Event(event) => self.record(event),
            Change::ForgetNode(id) => forget(&mut self.nodes, id),
            Change::ForgetInstance(id) => forget(&mut self.instances, id),
            Change::ForgetIncident(id) => forget(&mut self.incidents, id),
            Change::ForgetCommand(id) => forget(&mut self.commands, id),
            Change::Pool(_)
            | Change::ForgetPool(_)
            | Change::Unclaimed(_)
            | Change::UnclaimedGone(..) => {}
        }
        self.state.apply(change);
    }

    fn record(&mut self, event: &Arc<Event>) {
        self.events_bytes += bytes_of(event);
        if let Some(replaced) = self.events.insert(event.sequence, Arc::clone(event)) {
            self.events_bytes -= bytes_of(&replaced);
        }
    }

    fn prune_events(&mut self, wall: Time, keep: &Retention) -> usize {
        let newest = self.events.keys().next_back().copied().unwrap_or(0);
        let too_old = wall - keep.events_age;
        let old: Vec<u64> = self
            .events
            .values()
            .take_while(|event| event.last.wall < too_old && event.sequence < newest)
            .map(|event| event.sequence)
            .take(keep.batch)
            .collect();
        for sequence in &old {
            self.drop_event(*sequence);
        }
        let mut removed = old.len();
        while removed < keep.batch && self.events_bytes > keep.events_bytes {
            match self.events.keys().next().copied() {
                Some(oldest) if oldest < newest => self.drop_event(oldest),
                _ => break,
            }
            removed += 1;
        }
        removed
    }

    fn drop_event(&mut self, sequence: u64) {
        if let Some(event) = self.events.remove(&sequence) {
            self.events_bytes -= bytes_of(&event);
        }
    }
}

fn put<K: Ord + Clone, T>(table: &mut Table<K, T>, id: &K, value: &Arc<T>) {
    let value = Arc::clone(value);
    table.insert(id.clone(), Record { value, live: true });
}

fn forget<K: Ord, T>(table: &mut Table<K, T>, id: &K) {
    if let Some(record) = table.get_mut(id) {
        record.live = false;
    }
}

fn get<K: Ord, T>(table: &Table<K, T>, id: &K) -> Option<Arc<T>> {
    table.get(id).map(|record| Arc::clone(&record.value))
}

/// Removes forgotten records that ended before a moment.
fn prune_table<K: Ord + Clone, T>(
    table: &mut Table<K, T>,
    too_old: Time,
    batch: usize,
    ended: impl Fn(&T) -> Option<Time>,
) -> usize {
    let old: Vec<K> = table
        .iter()
        .filter(|(_, record)| !record.live)
        .filter(|(_, record)| ended(&record.value).is_some_and(|ended| ended < too_old))
        .map(|(id, _)| id.clone())
        .take(batch)
        .collect();
    for id in &old {
        table.remove(id);
    }
    old.len()
}

/// About what an event takes in memory.
fn bytes_of(event: &Event) -> u64 {
    let details = event.details.iter();
    let texts: usize = details.map(|(key, value)| key.len() + value.len()).sum();
    (size_of::<Event>() + event.message.len() + texts) as u64
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<State, StoreError> {
        let contents = self.disk.contents();
        let mut state = contents.state.clone();
        let last = contents.events.keys().next_back().copied();
        if last.is_some_and(|last| last > state.meta.last_event) {
            Arc::make_mut(&mut state.meta).last_event = last.unwrap_or_default();
        }
        Ok(state)
    }

    fn take_over(&mut self) -> Result<u64, StoreError> {
        let mut contents = self.disk.contents();
        let meta = Arc::make_mut(&mut contents.state.meta);
        meta.epoch += 1;
        Ok(meta.epoch)
    }

    fn commit(&mut self, epoch: u64, changes: &[Change]) -> Result<(), StoreError> {
        let mut contents = self.disk.contents();
        contents.guard(epoch)?;
        for change in changes {
            crate::check(change, &contents.state.meta.fleet, || {
                "the store".to_owned()
            })?;
        }
        for change in changes {
            contents.make(change);
        }
        Ok(())
    }

    fn reader(&self) -> Box<dyn History> {
        Box::new(self.disk.clone())
    }

    fn prune(&mut self, epoch: u64, wall: Time, keep: &Retention) -> Result<Pruned, StoreError> {
        let mut contents = self.disk.contents();
        contents.guard(epoch)?;
        let events = contents.prune_events(wall, keep);
        let old = wall - keep.records_age;
        let contents = &mut *contents;
        let tables = [
            prune_table(&mut contents.incidents, old, keep.batch, |incident| {
                incident.closed.as_ref().map(|(at, _)| at.wall)
            }),
            prune_table(&mut contents.nodes, old, keep.batch, |node| {
                node.terminated.map(|at| at.wall)
            }),
            prune_table(&mut contents.instances, old, keep.batch, |instance| {
                instance.ended.map(|at| at.wall)
            }),
            prune_table(&mut contents.commands, old, keep.batch, |command| {
                command.state.is_final().then_some(command.changed.wall)
            }),
        ];
        Ok(Pruned {
            events,
            records: tables.iter().sum(),
            more: tables
                .iter()
                .chain([&events])
                .any(|removed| *removed >= keep.batch.max(1)),
        })
    }
}

impl History for MemoryDisk {
    fn events(&self, query: &EventQuery) -> Result<Vec<Arc<Event>>, StoreError> {
        let contents = self.contents();
        let first = query.after.map_or(0, |after| after.saturating_add(1));
        let end = query.before.unwrap_or(u64::MAX);
        if first >= end {
            return Ok(Vec::new());
        }
        let range = contents.events.range(first..end).map(|(_, event)| event);
        let wanted = |event: &&Arc<Event>| query.matches(event);
        let limit = clamp(query.limit);
        Ok(match query.order {
            Order::OldestFirst => range.filter(wanted).take(limit).cloned().collect(),
            Order::NewestFirst => range.rev().filter(wanted).take(limit).cloned().collect(),
        })
    }

    fn event_range(&self) -> Result<Option<RangeInclusive<u64>>, StoreError> {
        let contents = self.contents();
        let mut sequences = contents.events.keys();
        let Some(first) = sequences.next() else {
            return Ok(None);
        };
        Ok(Some(*first..=*sequences.next_back().unwrap_or(first)))
    }

    fn incidents(&self, query: &IncidentQuery) -> Result<Vec<Arc<Incident>>, StoreError> {
        let contents = self.contents();
        let mut found: Vec<_> = contents
            .incidents
            .values()
            .map(|record| &record.value)
            .filter(|incident| query.matches(incident))
            .map(|incident| (IncidentCursor::of(incident), Arc::clone(incident)))
            .collect();
        found.sort_by(|(one, _), (other, _)| other.cmp(one));
        found.truncate(clamp(query.limit));
        Ok(found.into_iter().map(|(_, incident)| incident).collect())
    }

    fn node(&self, id: &NodeId) -> Result<Option<Arc<Node>>, StoreError> {
        Ok(get(&self.contents().nodes, id))
    }

    fn instance(&self, id: &InstanceId) -> Result<Option<Arc<Instance>>, StoreError> {
        Ok(get(&self.contents().instances, id))
    }

    fn incident(&self, id: &IncidentId) -> Result<Option<Arc<Incident>>, StoreError> {
        Ok(get(&self.contents().incidents, id))
    }

    fn command(&self, id: &CommandId) -> Result<Option<Arc<Command>>, StoreError> {
        Ok(get(&self.contents().commands, id))
    }
}

#[cfg(test)]
mod tests {
    use navarch_model::{Automation, PoolName};

    use super::*;

    #[test]
    fn a_copy_is_one_moment_and_comes_back_with_automation_off() {
        let disk = MemoryDisk::new(FleetId::new("fleet-1"));
        let mut store = MemoryStore::open(&disk);
        let epoch = store.take_over().unwrap();
        let copy = disk.copy();
        let pool = navarch_model::Pool::new(PoolName::new("later"));
        let change = Change::Pool(Arc::new(pool));
        store.commit(epoch, &[change]).unwrap();

        let before = MemoryStore::open(&copy).load().unwrap();
        assert!(before.pools.is_empty());
        let restored = MemoryStore::open(&copy.restored(Time(77))).load().unwrap();
        assert_eq!(restored.meta.automation.mode, Automation::Off);
        let since = restored.meta.automation.since.unwrap();
        assert_eq!((since.core, since.wall), (before.meta.core_time, Time(77)));
        let after = store.load().unwrap();
        assert_eq!(after.meta.automation.mode, Automation::On);
        assert_eq!(after.pools.len(), 1);
    }
}

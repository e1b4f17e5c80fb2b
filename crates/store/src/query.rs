//! Queries of what happened, and the reader that answers them.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use navarch_model::{
    Command, CommandId, Event, EventKind, Incident, IncidentId, Instance, InstanceId, Node, NodeId,
    PoolName, Time,
};

use crate::StoreError;

/// The most records that one query returns. Higher costs memory for each reader; lower costs
/// round trips.
pub const MAX_LIMIT: usize = 1000;

/// From which end a query begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The newest first.
    #[default]
    NewestFirst,
    /// The oldest first.
    OldestFirst,
}

/// Which events. What is none or empty does not restrict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// About this pool.
    pub pool: Option<PoolName>,
    /// About this instance.
    pub instance: Option<InstanceId>,
    /// About this node.
    pub node: Option<NodeId>,
    /// About this incident.
    pub incident: Option<IncidentId>,
    /// About this command.
    pub command: Option<CommandId>,
    /// Of one of these kinds.
    pub kinds: BTreeSet<EventKind>,
    /// With a greater sequence: where a watcher or a page of the oldest first goes on.
    pub after: Option<u64>,
    /// With a smaller sequence: where a page of the newest first goes on.
    pub before: Option<u64>,
    /// From which end.
    pub order: Order,
    /// At most so many, and at most [`MAX_LIMIT`].
    pub limit: usize,
}

impl Default for EventQuery {
    fn default() -> Self {
        Self {
            pool: None,
            instance: None,
            node: None,
            incident: None,
            command: None,
            kinds: BTreeSet::new(),
            after: None,
            before: None,
            order: Order::default(),
            limit: MAX_LIMIT,
        }
    }
}

impl EventQuery {
    /// Every event after `sequence`, the oldest first: what a watcher asks again and again.
    pub fn following(sequence: u64) -> Self {
        Self {
            after: Some(sequence),
            order: Order::OldestFirst,
            ..Self::default()
        }
    }

    /// Whether the event is one of those asked for, order and limit aside.
    pub fn matches(&self, event: &Event) -> bool {
        fn is<T: PartialEq>(wanted: &Option<T>, found: &Option<T>) -> bool {
            wanted.is_none() || wanted == found
        }
        let subject = &event.subject;
        is(&self.pool, &subject.pool)
            && is(&self.instance, &subject.instance)
            && is(&self.node, &subject.node)
            && is(&self.incident, &subject.incident)
            && is(&self.command, &subject.command)
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && self.after.is_none_or(|after| event.sequence > after)
            && self.before.is_none_or(|before| event.sequence < before)
    }
}

/// A place among incidents: they are ordered by the fleet time at which they opened, then by id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IncidentCursor {
    /// When it opened, in fleet time.
    pub opened: Time,
    /// Its id.
    pub id: IncidentId,
}

impl IncidentCursor {
    /// The place of an incident.
    pub fn of(incident: &Incident) -> Self {
        Self {
            opened: incident.opened.core,
            id: incident.id.clone(),
        }
    }
}

/// Which incidents, the newest first. What is none does not restrict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentQuery {
    /// On this node.
    pub node: Option<NodeId>,
    /// In this pool.
    pub pool: Option<PoolName>,
    /// Only open ones, or only closed ones.
    pub open: Option<bool>,
    /// Older than this one: where a page goes on.
    pub before: Option<IncidentCursor>,
    /// At most so many, and at most [`MAX_LIMIT`].
    pub limit: usize,
}

impl Default for IncidentQuery {
    fn default() -> Self {
        Self {
            node: None,
            pool: None,
            open: None,
            before: None,
            limit: MAX_LIMIT,
        }
    }
}

impl IncidentQuery {
    /// Whether the incident is one of those asked for, the limit aside.
    pub fn matches(&self, incident: &Incident) -> bool {
        let place = || IncidentCursor::of(incident);
        self.node
            .as_ref()
            .is_none_or(|node| *node == incident.key.node)
            && (self.pool.is_none() || self.pool == incident.pool)
            && self.open.is_none_or(|open| open == incident.is_open())
            && self.before.as_ref().is_none_or(|before| place() < *before)
    }
}

/// Answers queries about what was committed, from any thread, records that left memory included.
///
/// Every method fails only when the records cannot be read.
pub trait History: Send + Sync {
    /// The events asked for.
    ///
    /// # Errors
    ///
    /// When the records cannot be read.
    fn events(&self, query: &EventQuery) -> Result<Vec<Arc<Event>>, StoreError>;

    /// The sequences of the oldest and the newest event on record. A watcher whose resume point
    /// is older than the oldest has missed events that retention took.
    ///
    /// # Errors
    ///
    /// When the records cannot be read.
    fn event_range(&self) -> Result<Option<RangeInclusive<u64>>, StoreError>;

    /// The incidents asked for, the newest first.
    ///
    /// # Errors
    ///
    /// When the records cannot be read.
    fn incidents(&self, query: &IncidentQuery) -> Result<Vec<Arc<Incident>>, StoreError>;

    /// One node.
    ///
    /// # Errors
    ///
    /// When the records cannot be read.
    fn node(&self, id: &NodeId) -> Result<Option<Arc<Node>>, StoreError>;

    /// One instance.
    ///
    /// # Errors
    ///
    /// When the records cannot be read.
    fn instance(&self, id: &InstanceId) -> Result<Option<Arc<Instance>>, StoreError>;

    /// One incident.
    ///
    /// # Errors
    ///
    /// When the records cannot be read.
    fn incident(&self, id: &IncidentId) -> Result<Option<Arc<Incident>>, StoreError>;

    /// One command.
    ///
    /// # Errors
    ///
    /// When the records cannot be read.
    fn command(&self, id: &CommandId) -> Result<Option<Arc<Command>>, StoreError>;
}

/// The limit that holds for a query.
pub(crate) fn clamp(limit: usize) -> usize {
    limit.min(MAX_LIMIT)
}

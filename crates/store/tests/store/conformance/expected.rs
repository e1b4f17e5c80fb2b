//! What a store should hold, kept in the plainest way.

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_model::{
    Change, Command, CommandId, Event, Incident, IncidentId, Instance, InstanceId, Node, NodeId,
    State,
};
use navarch_store::{EventQuery, IncidentCursor, IncidentQuery, Order};

/// What a store should hold.
#[derive(Debug, Clone)]
pub struct Expected {
    pub state: State,
    pub nodes: BTreeMap<NodeId, Arc<Node>>,
    pub instances: BTreeMap<InstanceId, Arc<Instance>>,
    pub incidents: BTreeMap<IncidentId, Arc<Incident>>,
    pub commands: BTreeMap<CommandId, Arc<Command>>,
    pub events: BTreeMap<u64, Arc<Event>>,
}

impl Expected {
    /// What a store holds that was just opened, by its state.
    pub fn new(state: State) -> Self {
        Self {
            state,
            nodes: BTreeMap::new(),
            instances: BTreeMap::new(),
            incidents: BTreeMap::new(),
            commands: BTreeMap::new(),
            events: BTreeMap::new(),
        }
    }

    /// Makes the changes.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            let epoch = self.state.meta.epoch;
            self.state.apply(change);
            Arc::make_mut(&mut self.state.meta).epoch = epoch;
            match change {
                Change::Node(one) => drop(self.nodes.insert(one.id.clone(), one.clone())),
                Change::Instance(one) => drop(self.instances.insert(one.id.clone(), one.clone())),
                Change::Incident(one) => drop(self.incidents.insert(one.id.clone(), one.clone())),
                Change::Command(one) => drop(self.commands.insert(one.id.clone(), one.clone())),
                Change::Event(one) => drop(self.events.insert(one.sequence, one.clone())),
                _ => {}
            }
        }
    }

    /// What a load should give.
    pub fn loaded(&self) -> State {
        let mut state = self.state.clone();
        let last = self.events.keys().max().copied().unwrap_or(0);
        let meta = Arc::make_mut(&mut state.meta);
        meta.last_event = meta.last_event.max(last);
        state
    }

    /// What a query of events should give.
    pub fn events(&self, query: &EventQuery) -> Vec<Arc<Event>> {
        let mut found: Vec<_> = self.events.values().cloned().collect();
        if query.order == Order::NewestFirst {
            found.reverse();
        }
        found.retain(|event| {
            let subject = &event.subject;
            (query.pool.is_none() || subject.pool == query.pool)
                && (query.instance.is_none() || subject.instance == query.instance)
                && (query.node.is_none() || subject.node == query.node)
                && (query.incident.is_none() || subject.incident == query.incident)
                && (query.command.is_none() || subject.command == query.command)
                && (query.kinds.is_empty() || query.kinds.contains(&event.kind))
                && query.after.is_none_or(|after| after < event.sequence)
                && query.before.is_none_or(|before| event.sequence < before)
        });
        found.truncate(query.limit);
        found
    }

    /// What a query of incidents should give.
    pub fn incidents(&self, query: &IncidentQuery) -> Vec<Arc<Incident>> {
        let mut found: Vec<_> = self.incidents.values().cloned().collect();
        found.sort_by_key(|one| (one.opened.core, one.id.clone()));
        found.reverse();
        found.retain(|one| {
            let older =
                |before: &IncidentCursor| (one.opened.core, &one.id) < (before.opened, &before.id);
            query.node.as_ref().is_none_or(|node| one.key.node == *node)
                && (query.pool.is_none() || one.pool == query.pool)
                && query.open.is_none_or(|open| one.closed.is_none() == open)
                && query.before.as_ref().is_none_or(older)
        });
        found.truncate(query.limit);
        found
    }
}

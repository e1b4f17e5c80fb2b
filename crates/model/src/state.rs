//! The durable state of a fleet, and the changes that make it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    AutomationSetting, Command, CommandId, Event, FleetId, Incident, IncidentId, Instance,
    InstanceId, Node, NodeId, Pool, PoolName, ProviderInstanceId, ProviderName, Time, Unclaimed,
};

/// What a fleet knows of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The fleet's random name.
    pub fleet: FleetId,
    /// Fleet time at the last commit.
    pub core_time: Time,
    /// Fleet time at the end of the last pause of a control plane; none if there was none.
    pub resumed: Option<Time>,
    /// Counts the control planes that took the fleet over.
    pub epoch: u64,
    /// The sequence of the last event.
    pub last_event: u64,
    /// The mode for pools without one of their own.
    pub automation: AutomationSetting,
}

/// One durable change. A later change of the same entity replaces an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// What the fleet knows of itself.
    Meta(Arc<Meta>),
    /// A pool's memory.
    Pool(Arc<Pool>),
    /// An instance.
    Instance(Arc<Instance>),
    /// A node.
    Node(Arc<Node>),
    /// An incident.
    Incident(Arc<Incident>),
    /// A command.
    Command(Arc<Command>),
    /// A machine nobody claims.
    Unclaimed(Arc<Unclaimed>),
    /// A machine that is claimed or gone.
    UnclaimedGone(ProviderName, ProviderInstanceId),
    /// An entry of the record, or a repeat that raised its count.
    Event(Arc<Event>),
    /// A terminated node leaves memory; its row stays for queries until retention takes it.
    ForgetNode(NodeId),
    /// An ended instance leaves memory.
    ForgetInstance(InstanceId),
    /// A closed incident leaves memory.
    ForgetIncident(IncidentId),
    /// A finished command leaves memory.
    ForgetCommand(CommandId),
    /// A pool that left the configuration and has nothing left is forgotten.
    ForgetPool(PoolName),
}

/// The state that decisions are made from. Events and forgotten records are not part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// What the fleet knows of itself.
    pub meta: Arc<Meta>,
    /// Pools by name.
    pub pools: BTreeMap<PoolName, Arc<Pool>>,
    /// Instances by id.
    pub instances: BTreeMap<InstanceId, Arc<Instance>>,
    /// Nodes by id.
    pub nodes: BTreeMap<NodeId, Arc<Node>>,
    /// Incidents by id.
    pub incidents: BTreeMap<IncidentId, Arc<Incident>>,
    /// Commands by id.
    pub commands: BTreeMap<CommandId, Arc<Command>>,
    /// Machines nobody claims.
    pub unclaimed: BTreeMap<(ProviderName, ProviderInstanceId), Arc<Unclaimed>>,
}

impl State {
    /// The state of a fleet that was just made.
    pub fn new(fleet: FleetId) -> Self {
        Self {
            meta: Arc::new(Meta {
                fleet,
                core_time: Time(0),
                resumed: None,
                epoch: 0,
                last_event: 0,
                automation: AutomationSetting::default(),
            }),
            pools: BTreeMap::new(),
            instances: BTreeMap::new(),
            nodes: BTreeMap::new(),
            incidents: BTreeMap::new(),
            commands: BTreeMap::new(),
            unclaimed: BTreeMap::new(),
        }
    }

    /// Makes one change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Meta(meta) => self.meta = Arc::clone(meta),
            Change::Pool(pool) => {
                self.pools.insert(pool.name.clone(), Arc::clone(pool));
            }
            Change::Instance(instance) => {
                self.instances
                    .insert(instance.id.clone(), Arc::clone(instance));
            }
            Change::Node(node) => {
                self.nodes.insert(node.id.clone(), Arc::clone(node));
            }
            Change::Incident(incident) => {
                self.incidents
                    .insert(incident.id.clone(), Arc::clone(incident));
            }
            Change::Command(command) => {
                self.commands
                    .insert(command.id.clone(), Arc::clone(command));
            }
            Change::Unclaimed(machine) => {
                let key = (machine.provider.clone(), machine.provider_id.clone());
                self.unclaimed.insert(key, Arc::clone(machine));
            }
            Change::UnclaimedGone(provider, id) => {
                self.unclaimed.remove(&(provider.clone(), id.clone()));
            }
            Change::Event(_) => {}
            Change::ForgetNode(id) => {
                self.nodes.remove(id);
            }
            Change::ForgetInstance(id) => {
                self.instances.remove(id);
            }
            Change::ForgetIncident(id) => {
                self.incidents.remove(id);
            }
            Change::ForgetCommand(id) => {
                self.commands.remove(id);
            }
            Change::ForgetPool(name) => {
                self.pools.remove(name);
            }
        }
    }
}

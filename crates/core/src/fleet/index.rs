//! What is counted and looked up often, kept in step with every change of the state.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{AddAssign, SubAssign};
use std::time::Duration;

use navarch_model::{
    CapacityKind, Change, CloudStatus, CommandId, DrainCause, EndCause, IncidentId, Instance,
    InstanceId, LaunchCause, Lifecycle, Node, NodeId, NodeStatus, Offering, Phase, PoolName,
    ProviderName, State, Time,
};

/// How many instances of a pool, or of the fleet, are what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    /// May be alive.
    pub alive: usize,
    /// The pool has them, or will have them.
    pub capacity: usize,
    /// Those of them that we do not drain.
    pub staying: usize,
    /// Those of the pool that we drain to replace them.
    pub repairing: usize,
    /// Our drains, and terminations that the cloud has not accepted yet.
    pub disruptions: usize,
    /// The pool has them, or will have them, and they were never ACTIVE.
    pub unproven: usize,
    /// Intents that no call was made for.
    pub requested: usize,
    /// Those whose launch call has no answer that settles it.
    pub launching: usize,
    /// Those of them whose answer was lost.
    pub unknown: usize,
    /// May be alive, and their nodes are ACTIVE.
    pub active: usize,
    /// May be alive, and their nodes are UNHEALTHY.
    pub unhealthy: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.alive += other.alive;
        self.capacity += other.capacity;
        self.staying += other.staying;
        self.repairing += other.repairing;
        self.disruptions += other.disruptions;
        self.unproven += other.unproven;
        self.requested += other.requested;
        self.launching += other.launching;
        self.unknown += other.unknown;
        self.active += other.active;
        self.unhealthy += other.unhealthy;
    }
}

impl SubAssign for Tally {
    fn sub_assign(&mut self, other: Self) {
        self.alive -= other.alive;
        self.capacity -= other.capacity;
        self.staying -= other.staying;
        self.repairing -= other.repairing;
        self.disruptions -= other.disruptions;
        self.unproven -= other.unproven;
        self.requested -= other.requested;
        self.launching -= other.launching;
        self.unknown -= other.unknown;
        self.active -= other.active;
        self.unhealthy -= other.unhealthy;
    }
}

/// Whether somebody lost a machine by our doing, or is about to: we drain it, or its cloud has not
/// accepted yet that it is to go.
fn is_disrupted(instance: &Instance, node: Option<&Node>) -> bool {
    match instance.phase {
        // With a machine that never served nothing is disrupted.
        _ if !instance.was_active => false,
        // What its cloud takes back is not lost by our doing.
        Phase::Running => node
            .and_then(Node::our_drain)
            .is_some_and(|(cause, _)| *cause != DrainCause::Interruption),
        Phase::Terminating
            if instance.interruption.is_some()
                && matches!(
                    instance.end,
                    Some(EndCause::Interruption | EndCause::Vanished)
                ) =>
        {
            false
        }
        Phase::Terminating => instance
            .sighting
            .is_none_or(|sighting| sighting.status != CloudStatus::Terminating),
        _ => false,
    }
}

impl Tally {
    fn of(instance: &Instance, node: Option<&Node>) -> Self {
        let drain = node
            .and_then(|node| node.our_drain())
            .map(|(cause, _)| cause);
        let drained = drain.is_some();
        let repairing = matches!(
            drain,
            Some(DrainCause::Incident(_) | DrainCause::Interruption)
        );
        let capacity = instance.phase.counts_as_capacity();
        let alive = instance.phase.may_be_alive();
        let status = node.filter(|_| alive).map(Node::status);
        Self {
            alive: usize::from(alive),
            capacity: usize::from(capacity),
            staying: usize::from(capacity && !drained),
            repairing: usize::from(capacity && repairing),
            disruptions: usize::from(is_disrupted(instance, node)),
            unproven: usize::from(capacity && !instance.was_active),
            requested: usize::from(instance.phase == Phase::Requested),
            launching: usize::from(matches!(
                instance.phase,
                Phase::Launching | Phase::OutcomeUnknown
            )),
            unknown: usize::from(instance.phase == Phase::OutcomeUnknown),
            active: usize::from(status == Some(NodeStatus::Active)),
            unhealthy: usize::from(status == Some(NodeStatus::Unhealthy)),
        }
    }
}

/// The indexes over a state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Index {
    /// Instances by pool, ended ones included while they are in memory.
    members: BTreeMap<PoolName, BTreeSet<InstanceId>>,
    /// Those of them that a plan has to look at: all but those that serve and ask for nothing.
    restless: BTreeMap<PoolName, BTreeSet<InstanceId>>,
    tallies: BTreeMap<PoolName, Tally>,
    /// The same by offering, with how many records in memory were bought at it.
    offerings: BTreeMap<PoolName, BTreeMap<Offering, (usize, Tally)>>,
    total: Tally,
    /// The instances of all pools that count as disruptions.
    disrupted: BTreeSet<InstanceId>,
    /// Instances by the one whose place they take.
    replacements: BTreeMap<InstanceId, BTreeSet<InstanceId>>,
    /// Machines that need a listing as proof.
    doubtful: BTreeMap<ProviderName, usize>,
    /// Machines that their cloud may take back.
    spot: BTreeMap<ProviderName, usize>,
    incidents_of_node: BTreeMap<NodeId, BTreeSet<IncidentId>>,
    /// Unhealthy incidents by signature and pool, in the order in which they were hit.
    hits: BTreeMap<String, BTreeMap<PoolName, BTreeSet<(Time, IncidentId)>>>,
    /// The signatures of unhealthy incidents by pool, with their number.
    signatures: BTreeMap<PoolName, BTreeMap<String, usize>>,
    /// Commands that wait for their node.
    waiting: BTreeMap<NodeId, BTreeSet<CommandId>>,
    /// Nodes of which the scheduler is yet to hear something.
    noticed: BTreeSet<NodeId>,
    /// Nodes with a hold that ends by itself.
    timed: BTreeSet<NodeId>,
    /// Open incidents that end by themselves.
    passing: BTreeSet<IncidentId>,
}

fn put<K: Ord + Clone, V: Ord + Clone>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    map.entry(key.clone()).or_default().insert(value.clone());
}

fn take<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = map.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            map.remove(key);
        }
    }
}

/// Counts one more of a provider.
fn count(counts: &mut BTreeMap<ProviderName, usize>, provider: &ProviderName) {
    *counts.entry(provider.clone()).or_default() += 1;
}

/// Counts one less of a provider.
fn uncount(counts: &mut BTreeMap<ProviderName, usize>, provider: &ProviderName) {
    if let Some(count) = counts.get_mut(provider) {
        *count -= 1;
        if *count == 0 {
            counts.remove(provider);
        }
    }
}

/// Whether the cloud may say any moment that it takes the machine back.
fn may_be_interrupted(instance: &Instance) -> bool {
    instance.offering.capacity == CapacityKind::Spot
        && matches!(instance.phase, Phase::PendingRegistration | Phase::Running)
}

fn is_doubtful(instance: &Instance) -> bool {
    instance.provider_id.is_none()
        && matches!(instance.phase, Phase::OutcomeUnknown | Phase::Terminating)
}

/// Whether a machine serves and asks for nothing: no deadline, call, hold or fault is on record,
/// and only a change of its record, or of its node's, can make it ask for something.
fn is_settled(instance: &Instance, node: Option<&Node>) -> bool {
    let well = |node: &Node| {
        node.lifecycle == Lifecycle::Registered
            && node.instance.as_ref() == Some(&instance.id)
            && node.holds.is_empty()
            && node.open_incidents.is_empty()
            && node.silent_since.is_none()
            // What the scheduler does not take is a wait that a plan names.
            && node.told.waiting.is_empty()
    };
    let seen = instance.sighting.map(|sighting| sighting.status);
    instance.phase == Phase::Running
        && instance.was_active
        && seen.is_none_or(|status| status == CloudStatus::Running)
        && instance.interruption.is_none()
        && node.is_some_and(well)
}

fn node_of<'a>(state: &'a State, instance: &Instance) -> Option<&'a Node> {
    state.nodes.get(instance.node.as_ref()?).map(AsRef::as_ref)
}

impl Index {
    /// The indexes over a loaded state.
    pub(crate) fn of(state: &State) -> Self {
        let mut index = Self::default();
        for id in state.instances.keys() {
            index.add_instance(state, id);
        }
        for incident in state.incidents.values() {
            index.add_incident(state, &incident.id);
        }
        for command in state.commands.values() {
            if command.waits_for_agent() {
                put(&mut index.waiting, &command.node, &command.id);
            }
        }
        for node in state.nodes.values() {
            index.note_node(node);
        }
        index
    }

    fn note_node(&mut self, node: &Node) {
        let mark = |set: &mut BTreeSet<NodeId>, is: bool| {
            if is {
                set.insert(node.id.clone());
            } else {
                set.remove(&node.id);
            }
        };
        mark(&mut self.noticed, !node.told.waiting.is_empty());
        let ends = node.holds.values().any(|hold| hold.expires.is_some());
        mark(&mut self.timed, ends);
    }

    /// Nodes with a hold that ends by itself.
    pub(crate) fn timed(&self) -> impl Iterator<Item = &NodeId> {
        self.timed.iter()
    }

    /// Open incidents that end by themselves.
    pub(crate) fn passing(&self) -> impl Iterator<Item = &IncidentId> {
        self.passing.iter()
    }

    /// Nodes of which the scheduler is yet to hear something.
    pub(crate) fn noticed(&self) -> impl Iterator<Item = &NodeId> {
        self.noticed.iter()
    }

    /// Makes a change of the state.
    pub(crate) fn apply(&mut self, state: &mut State, change: &Change) {
        let touched = touched(state, change);
        for id in &touched {
            self.remove_instance(state, id);
        }
        match change {
            Change::Incident(incident) => self.remove_incident(state, &incident.id),
            Change::ForgetIncident(id) => self.remove_incident(state, id),
            Change::Command(command) => take(&mut self.waiting, &command.node, &command.id),
            Change::ForgetCommand(id) => {
                if let Some(command) = state.commands.get(id) {
                    take(&mut self.waiting, &command.node, id);
                }
            }
            _ => {}
        }
        state.apply(change);
        for id in &touched {
            self.add_instance(state, id);
        }
        match change {
            Change::Incident(incident) => self.add_incident(state, &incident.id),
            Change::Node(node) => self.note_node(node),
            Change::ForgetNode(id) => {
                self.noticed.remove(id);
                self.timed.remove(id);
            }
            Change::Command(command) if command.waits_for_agent() => {
                put(&mut self.waiting, &command.node, &command.id);
            }
            _ => {}
        }
    }

    fn add_instance(&mut self, state: &State, id: &InstanceId) {
        let Some(instance) = state.instances.get(id) else {
            return;
        };
        put(&mut self.members, &instance.pool, id);
        let node = node_of(state, instance);
        if !is_settled(instance, node) {
            put(&mut self.restless, &instance.pool, id);
        }
        if is_disrupted(instance, node) {
            self.disrupted.insert(id.clone());
        }
        let tally = Tally::of(instance, node);
        *self.tallies.entry(instance.pool.clone()).or_default() += tally;
        self.total += tally;
        let offerings = self.offerings.entry(instance.pool.clone()).or_default();
        match offerings.get_mut(&instance.offering) {
            Some((records, known)) => {
                *records += 1;
                *known += tally;
            }
            None => {
                offerings.insert(instance.offering.clone(), (1, tally));
            }
        }
        if let LaunchCause::Replace { instance: old } = &instance.cause {
            put(&mut self.replacements, old, id);
        }
        if is_doubtful(instance) {
            count(&mut self.doubtful, &instance.offering.provider);
        }
        if may_be_interrupted(instance) {
            count(&mut self.spot, &instance.offering.provider);
        }
    }

    fn remove_instance(&mut self, state: &State, id: &InstanceId) {
        let Some(instance) = state.instances.get(id) else {
            return;
        };
        take(&mut self.members, &instance.pool, id);
        take(&mut self.restless, &instance.pool, id);
        self.disrupted.remove(id);
        let tally = Tally::of(instance, node_of(state, instance));
        if let Some(known) = self.tallies.get_mut(&instance.pool) {
            *known -= tally;
        }
        if !self.members.contains_key(&instance.pool) {
            self.tallies.remove(&instance.pool);
        }
        self.total -= tally;
        self.forget_offering(instance, tally);
        if let LaunchCause::Replace { instance: old } = &instance.cause {
            take(&mut self.replacements, old, id);
        }
        if is_doubtful(instance) {
            uncount(&mut self.doubtful, &instance.offering.provider);
        }
        if may_be_interrupted(instance) {
            uncount(&mut self.spot, &instance.offering.provider);
        }
    }

    fn forget_offering(&mut self, instance: &Instance, tally: Tally) {
        let Some(offerings) = self.offerings.get_mut(&instance.pool) else {
            return;
        };
        if let Some((records, known)) = offerings.get_mut(&instance.offering) {
            *records -= 1;
            *known -= tally;
            if *records == 0 {
                offerings.remove(&instance.offering);
            }
        }
        if offerings.is_empty() {
            self.offerings.remove(&instance.pool);
        }
    }

    fn add_incident(&mut self, state: &State, id: &IncidentId) {
        if let Some(incident) = state.incidents.get(id) {
            put(&mut self.incidents_of_node, &incident.key.node, id);
            if incident.is_open() && incident.clear_after.is_some() {
                self.passing.insert(id.clone());
            }
            if let (Some(pool), Some(hit)) = (&incident.pool, incident.hit_at()) {
                let signature = incident.signature().to_owned();
                let hits = self.hits.entry(signature.clone()).or_default();
                put(hits, pool, &(hit.core, id.clone()));
                let known = self.signatures.entry(pool.clone()).or_default();
                *known.entry(signature).or_default() += 1;
            }
        }
    }

    fn remove_incident(&mut self, state: &State, id: &IncidentId) {
        if let Some(incident) = state.incidents.get(id) {
            take(&mut self.incidents_of_node, &incident.key.node, id);
            self.passing.remove(id);
            if let (Some(pool), Some(hit)) = (&incident.pool, incident.hit_at()) {
                let signature = incident.signature().to_owned();
                if let Some(hits) = self.hits.get_mut(&signature) {
                    take(hits, pool, &(hit.core, id.clone()));
                    if hits.is_empty() {
                        self.hits.remove(&signature);
                    }
                }
                self.forget_signature(pool, &signature);
            }
        }
    }

    /// How many entries each index holds.
    pub(crate) fn sizes(&self) -> [(&'static str, usize); 13] {
        fn all<K, V>(map: &BTreeMap<K, BTreeSet<V>>) -> usize {
            map.len() + map.values().map(BTreeSet::len).sum::<usize>()
        }
        let signatures = self.signatures.values().map(BTreeMap::len);
        [
            ("index of members", all(&self.members)),
            ("index of restless machines", all(&self.restless)),
            ("index of tallies", self.tallies.len()),
            (
                "index of offerings",
                self.offerings.values().map(BTreeMap::len).sum(),
            ),
            ("index of disruptions", self.disrupted.len()),
            ("index of replacements", all(&self.replacements)),
            ("index of doubtful machines", self.doubtful.len()),
            ("index of spot machines", self.spot.len()),
            ("index of incidents", all(&self.incidents_of_node)),
            (
                "index of what ends by itself",
                self.timed.len() + self.passing.len(),
            ),
            (
                "index of hits and signatures",
                self.hits.len()
                    + self.hits.values().map(all).sum::<usize>()
                    + self.signatures.len()
                    + signatures.sum::<usize>(),
            ),
            ("index of waiting commands", all(&self.waiting)),
            ("index of nodes with notices", self.noticed.len()),
        ]
    }

    /// The pools that have instances in memory.
    pub(crate) fn pools(&self) -> impl Iterator<Item = &PoolName> {
        self.members.keys()
    }

    pub(crate) fn members(&self, pool: &PoolName) -> impl Iterator<Item = &InstanceId> {
        self.members.get(pool).into_iter().flatten()
    }

    /// How many members a pool has.
    pub(crate) fn size(&self, pool: &PoolName) -> usize {
        self.members.get(pool).map_or(0, BTreeSet::len)
    }

    /// The members that a plan has to look at.
    pub(crate) fn restless(&self, pool: &PoolName) -> impl Iterator<Item = &InstanceId> {
        self.restless.get(pool).into_iter().flatten()
    }

    pub(crate) fn tally(&self, pool: Option<&PoolName>) -> Tally {
        match pool {
            Some(pool) => self.tallies.get(pool).copied().unwrap_or_default(),
            None => self.total,
        }
    }

    /// The instances of all pools that count as disruptions.
    pub(crate) fn disrupted(&self) -> impl Iterator<Item = &InstanceId> {
        self.disrupted.iter()
    }

    /// Whether an instance counts as a disruption.
    pub(crate) fn is_disrupted(&self, id: &InstanceId) -> bool {
        self.disrupted.contains(id)
    }

    /// How many instances of a pool at an offering are what, for one offering after the other.
    pub(crate) fn tally_at(&self, pool: &PoolName) -> impl Fn(&Offering) -> Tally {
        let known = self.offerings.get(pool);
        move |offering| {
            let known = known.and_then(|known| known.get(offering));
            known.map(|(_, tally)| *tally).unwrap_or_default()
        }
    }

    /// The offerings at which the instances of a pool in memory were bought.
    pub(crate) fn bought(&self, pool: &PoolName) -> impl Iterator<Item = &Offering> {
        self.offerings
            .get(pool)
            .into_iter()
            .flat_map(BTreeMap::keys)
    }

    pub(crate) fn replacements(&self, of: &InstanceId) -> impl Iterator<Item = &InstanceId> {
        self.replacements.get(of).into_iter().flatten()
    }

    pub(crate) fn has_doubtful(&self, provider: &ProviderName) -> bool {
        self.doubtful.contains_key(provider)
    }

    /// Whether a provider has machines that it may take back.
    pub(crate) fn has_spot(&self, provider: &ProviderName) -> bool {
        self.spot.contains_key(provider)
    }

    pub(crate) fn incidents_of_node(&self, node: &NodeId) -> impl Iterator<Item = &IncidentId> {
        self.incidents_of_node.get(node).into_iter().flatten()
    }

    /// The unhealthy incidents of a signature, ended ones included while they are in memory, by
    /// pool.
    pub(crate) fn hits(&self, signature: &str) -> impl Iterator<Item = (&PoolName, &IncidentId)> {
        let pools = self.hits.get(signature).into_iter().flatten();
        pools.flat_map(|(pool, hits)| hits.iter().map(move |(_, id)| (pool, id)))
    }

    /// The same of one pool.
    pub(crate) fn hits_in(
        &self,
        pool: &PoolName,
        signature: &str,
    ) -> impl Iterator<Item = &IncidentId> {
        let hits = self.hits.get(signature).and_then(|pools| pools.get(pool));
        hits.into_iter().flatten().map(|(_, id)| id)
    }

    /// How many there are in all pools.
    pub(crate) fn hit_count(&self, signature: &str) -> usize {
        let pools = self.hits.get(signature).into_iter().flatten();
        pools.map(|(_, hits)| hits.len()).sum()
    }

    /// The pools that have a hit of a signature.
    pub(crate) fn hit_pools(&self, signature: &str) -> impl Iterator<Item = &PoolName> {
        let pools = self.hits.get(signature).into_iter();
        pools.flat_map(BTreeMap::keys)
    }

    /// When a signature was last hit in a pool, in fleet time.
    pub(crate) fn last_hit(&self, pool: &PoolName, signature: &str) -> Option<Time> {
        let hits = self.hits.get(signature)?.get(pool)?;
        hits.last().map(|(hit, _)| *hit)
    }

    /// The signatures of the unhealthy incidents of a pool, ended ones included while they are in
    /// memory.
    pub(crate) fn signatures(&self, pool: &PoolName) -> impl Iterator<Item = &str> {
        let known = self.signatures.get(pool);
        known
            .into_iter()
            .flat_map(BTreeMap::keys)
            .map(String::as_str)
    }

    fn forget_signature(&mut self, pool: &PoolName, signature: &str) {
        let Some(known) = self.signatures.get_mut(pool) else {
            return;
        };
        if let Some(count) = known.get_mut(signature) {
            *count -= 1;
            if *count == 0 {
                known.remove(signature);
            }
        }
        if known.is_empty() {
            self.signatures.remove(pool);
        }
    }

    /// The commands that wait for the agent of any node.
    pub(crate) fn all_waiting(&self) -> impl Iterator<Item = &CommandId> {
        self.waiting.values().flatten()
    }

    pub(crate) fn waiting(&self, node: &NodeId) -> impl Iterator<Item = &CommandId> {
        self.waiting.get(node).into_iter().flatten()
    }
}

/// The instances whose place in the indexes a change may move.
fn touched(state: &State, change: &Change) -> BTreeSet<InstanceId> {
    let bound = |id: &NodeId| state.nodes.get(id).and_then(|node| node.instance.clone());
    match change {
        Change::Instance(instance) => [instance.id.clone()].into(),
        Change::ForgetInstance(id) => [id.clone()].into(),
        Change::Node(node) => bound(&node.id)
            .into_iter()
            .chain(node.instance.clone())
            .collect(),
        Change::ForgetNode(id) => bound(id).into_iter().collect(),
        _ => BTreeSet::new(),
    }
}

/// The other nodes, as witnesses of a silence.
#[derive(Debug, Default)]
pub(crate) struct Witnesses {
    /// Since when each node that is heard has been heard.
    fresh: Vec<Time>,
    /// Since when each node that was silent once has been heard again, and when it registered.
    returned: Vec<(Time, Time)>,
    /// Since when each silent node has been silent.
    silent: Vec<Time>,
    /// From when each silent node had been heard before.
    silent_fresh: Vec<Time>,
}

/// What the other nodes say of a silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Testimony {
    /// Nodes that were fresh when the silence began.
    pub fresh_then: usize,
    /// Those of them that stayed fresh, or have been fresh again for as long as a silence must last.
    pub stayed_fresh: usize,
    /// When the next of those that fell silent meanwhile has been fresh again for so long.
    pub next: Option<Time>,
}

impl Witnesses {
    pub(crate) fn of(state: &State) -> Self {
        let mut found = Self::default();
        for node in state.nodes.values() {
            if node.lifecycle == Lifecycle::Terminated {
                continue;
            }
            match node.silent_since {
                None => {
                    let (fresh, registered) = (node.fresh_since.core, node.registered.core);
                    found.fresh.push(fresh);
                    if fresh > registered {
                        found.returned.push((fresh, registered));
                    }
                }
                Some(silent) => {
                    found.silent.push(silent.core);
                    // The last beat may have come a moment before the return was told.
                    found
                        .silent_fresh
                        .push(node.fresh_since.core.min(silent.core));
                }
            }
        }
        found.fresh.sort_unstable();
        found.returned.sort_unstable();
        found.silent.sort_unstable();
        found.silent_fresh.sort_unstable();
        found
    }

    /// Of the nodes other than `node`, if it is one: which were fresh before `since`, and which of
    /// them stayed so. Nodes are fresh until `timeout` passed since they were heard: those that one
    /// event silenced fall silent at their last beats, one after the other, and the last of them must
    /// not take the survivors for the whole fleet. Nor may the first of them that is heard again
    /// leave the others without it: it fell silent as they did, and is a witness again when it has
    /// been fresh for long, which `again` says.
    pub(crate) fn at(
        &self,
        node: Option<&Node>,
        since: Time,
        timeout: Duration,
        again: impl Fn(Time) -> Time,
        now: Time,
    ) -> Testimony {
        let fresh_until = since - timeout;
        let before = |times: &[Time]| times.partition_point(|time| *time < since);
        let mut stayed = before(&self.fresh);
        // Who was fresh only since then also fell silent only since then.
        let fallen = self.silent.partition_point(|time| *time < fresh_until);
        let mut fell = (self.silent.len() - fallen)
            .saturating_sub(self.silent_fresh.len() - before(&self.silent_fresh));
        let own = node.filter(|node| node.silent_since.is_none());
        if let Some(node) = node {
            match node.silent_since {
                None if node.fresh_since.core < since => stayed -= 1,
                Some(silent)
                    if silent.core >= fresh_until
                        && node.fresh_since.core.min(silent.core) < since =>
                {
                    fell = fell.saturating_sub(1);
                }
                _ => {}
            }
        }
        let mut next = None;
        let later = self.returned.partition_point(|(fresh, _)| *fresh < since);
        let mut skipped = own.is_none();
        for (fresh, registered) in &self.returned[later..] {
            if *registered >= since {
                continue;
            }
            let itself = own.is_some_and(|node| {
                (node.fresh_since.core, node.registered.core) == (*fresh, *registered)
            });
            if itself && !skipped {
                skipped = true;
                continue;
            }
            let due = again(*fresh);
            if now >= due {
                stayed += 1;
            } else {
                fell += 1;
                next = Some(next.map_or(due, |next: Time| next.min(due)));
            }
        }
        Testimony {
            fresh_then: stayed + fell,
            stayed_fresh: stayed,
            next,
        }
    }
}

#[cfg(test)]
impl Index {
    /// Whether the indexes are those of the state.
    pub(crate) fn is_of(&self, state: &State) -> bool {
        *self == Self::of(state)
    }
}

//! The guards, asked of the Fleet's present facts: once when planning, again when acting.

use std::collections::BTreeSet;
use std::time::Duration;

use navarch_model::{
    Automation, CloudStatus, DrainCause, EndCause, FaultKind, HealthStatus, Incident, IncidentId,
    Instance, InstanceId, Node, NodeStatus, Offering, OfferingMemory, Phase, PoolName,
    ProviderInstanceId, ProviderName, Repair, Time,
};
use navarch_policy::guards::{self, Block, LastReplacement, Silence};

use crate::fleet::Fleet;
use crate::settings::PoolSettings;

/// Why silence is no cause for a repair any more.
const HEARD_AGAIN: &str = "the node is heard again; a healthy full report ends the incident";
const HOUR: Duration = Duration::from_secs(3600);

fn block(guard: &'static str, reason: impl Into<String>) -> Block {
    Block {
        guard,
        reason: reason.into(),
        until: None,
    }
}

impl Fleet {
    /// The instances of a pool that are in memory.
    pub(crate) fn pool_instances(&self, pool: &PoolName) -> impl Iterator<Item = &Instance> {
        self.index
            .members(pool)
            .filter_map(|id| self.state.instances.get(id))
            .map(AsRef::as_ref)
    }

    pub(crate) fn node_of(&self, instance: &Instance) -> Option<&Node> {
        self.state
            .nodes
            .get(instance.node.as_ref()?)
            .map(AsRef::as_ref)
    }

    /// Machines of a pool that may be alive.
    pub(crate) fn alive(&self, pool: &PoolName) -> usize {
        self.index.tally(Some(pool)).alive
    }

    /// The live machine that takes the place of `instance`, if one was asked for.
    pub(crate) fn replacement_of(&self, instance: &Instance) -> Option<&Instance> {
        self.index
            .replacements(&instance.id)
            .filter_map(|id| self.state.instances.get(id))
            .map(AsRef::as_ref)
            .find(|other| other.phase.counts_as_capacity())
    }

    /// Whether we may act in a pool by our own choosing.
    pub(crate) fn must_be_on(&self, pool: &PoolName) -> Result<(), Block> {
        match self.automation(pool) {
            Automation::On => Ok(()),
            mode => Err(block(
                "automation",
                format!("automation is {}", mode.word()),
            )),
        }
    }

    fn known_pool(&self, pool: &PoolName) -> Result<&PoolSettings, Block> {
        self.pool_settings(pool)
            .ok_or_else(|| block("configuration", format!("pool {pool} is not configured")))
    }

    fn believable(&self, offering: &Offering) -> Result<(), Block> {
        match self
            .providers
            .get(&offering.provider)
            .and_then(|soft| soft.suspect.as_ref())
        {
            Some(why) => Err(block(
                "sweep",
                format!(
                    "the listing of {} is not believed: {why}",
                    offering.provider
                ),
            )),
            None => Ok(()),
        }
    }

    /// Whether one more machine may be asked for, with `planned` more already planned.
    pub(crate) fn may_request(
        &self,
        pool: &PoolName,
        planned: usize,
        now: Time,
    ) -> Result<(), Block> {
        let settings = self.known_pool(pool)?;
        let alive = self.alive(pool) + planned;
        if let Some(block) = guards::size(alive, settings.max_nodes(), settings.max_surge()) {
            return Err(block);
        }
        let limit = settings.config.max_launches_per_hour as usize;
        // No more can be recent than there are.
        if self.index.members(pool).count() + planned >= limit {
            let recent: Vec<Time> = self
                .pool_instances(pool)
                .map(|instance| instance.created.core)
                .filter(|created| now.since(*created) < HOUR)
                .collect();
            let first = recent.iter().min().copied();
            if let Some(block) = guards::launch_rate(recent.len() + planned, limit, first) {
                return Err(block);
            }
        }
        self.has_room()?;
        self.may_buy(pool, &settings.offering, planned, now)
    }

    /// Whether the store has room for the record of more machines.
    fn has_room(&self) -> Result<(), Block> {
        guards::low_disk(self.disk_free, self.settings.min_free).map_or(Ok(()), Err)
    }

    /// Whether an offering may be asked for now.
    fn may_buy(
        &self,
        pool: &PoolName,
        offering: &Offering,
        planned: usize,
        now: Time,
    ) -> Result<(), Block> {
        self.believable(offering)?;
        let memory = self.offering_memory(pool, offering);
        let name = offering.to_string();
        if let Some(block) =
            guards::offering_rest(&name, memory.retry_at, &memory.last_refusal, now)
        {
            return Err(block);
        }
        let limit = self.unproven_limit(&memory);
        if limit.is_none() && !memory.breaker.is_open() {
            return Ok(());
        }
        let outstanding = self.unproven(pool, offering).count() + planned;
        match guards::launch_breaker(&name, &memory.breaker, limit, outstanding, now) {
            Some(block) => Err(block),
            None => Ok(()),
        }
    }

    /// Launches at a time while nothing is proven: those that failed count, so that no more are
    /// paid for than it takes to open the breaker.
    fn unproven_limit(&self, memory: &OfferingMemory) -> Option<usize> {
        let limit = self.settings.guards.launch_breaker.unproven_launches;
        let left = limit.saturating_sub(memory.breaker.failures).max(1);
        (!memory.proven).then_some(left as usize)
    }

    /// Whether the launch call of an instance that is on record may be made.
    pub(crate) fn may_launch(&self, instance: &Instance, now: Time) -> Result<(), Block> {
        self.must_be_on(&instance.pool)?;
        self.known_pool(&instance.pool)?;
        if let Some(why) = self.unwanted(instance) {
            return Err(block("size", why));
        }
        self.has_room()?;
        self.believable(&instance.offering)?;
        let memory = self.offering_memory(&instance.pool, &instance.offering);
        let name = instance.offering.to_string();
        if let Some(block) =
            guards::offering_rest(&name, memory.retry_at, &memory.last_refusal, now)
        {
            return Err(block);
        }
        let limit = self.unproven_limit(&memory);
        if limit.is_none() && !memory.breaker.is_open() {
            return Ok(());
        }
        // Intents that no call was made for wait for each other in the order they were asked for.
        let before = |other: &Instance| {
            other.id != instance.id
                && (other.phase != Phase::Requested
                    || (other.created, &other.id) < (instance.created, &instance.id))
        };
        let outstanding = self
            .unproven(&instance.pool, &instance.offering)
            .filter(|other| before(other))
            .count();
        match guards::launch_breaker(&name, &memory.breaker, limit, outstanding, now) {
            Some(block) => Err(block),
            None => Ok(()),
        }
    }

    /// Machines of an offering that a pool has or will have and that were never ACTIVE.
    fn unproven(&self, pool: &PoolName, offering: &Offering) -> impl Iterator<Item = &Instance> {
        self.pool_instances(pool).filter(move |instance| {
            instance.offering == *offering
                && instance.phase.counts_as_capacity()
                && !instance.was_active
        })
    }

    /// Why nobody wants the machine of an intent any more, if no call is under way for it and none
    /// made a machine that is known of.
    pub(crate) fn unwanted(&self, instance: &Instance) -> Option<String> {
        if !self.can_be_given_up(instance) {
            return None;
        }
        let Some(settings) = self.pool_settings(&instance.pool) else {
            return Some(format!("pool {} is not configured any more", instance.pool));
        };
        let staying = self.staying(&instance.pool);
        let excess = staying.saturating_sub(settings.min_nodes());
        if excess == 0 {
            return None;
        }
        // The youngest go first, those that nobody was asked for before all others.
        let rank = |one: &Instance| (one.phase == Phase::Requested, one.created, one.id.clone());
        let own = rank(instance);
        let before = self
            .pool_instances(&instance.pool)
            .filter(|other| self.can_be_given_up(other) && rank(other) > own)
            .count();
        (before < excess).then(|| {
            format!(
                "the pool has or will have {staying} machines, and {} are asked for",
                settings.min_nodes()
            )
        })
    }

    /// Whether an intent may be given up: the launch call was not made, or is to be repeated.
    fn can_be_given_up(&self, instance: &Instance) -> bool {
        match instance.phase {
            Phase::Requested => instance.node.is_none() && instance.sighting.is_none(),
            Phase::Launching => {
                instance.clean && self.call_under_way(&instance.id, self.now.core).is_none()
            }
            _ => false,
        }
    }

    /// Intents of a pool that nobody wants any more.
    pub(crate) fn unwanted_intents(&self, pool: &PoolName) -> usize {
        self.pool_instances(pool)
            .filter(|instance| self.unwanted(instance).is_some())
            .count()
    }

    /// When an instance that is being launched has waited long enough. The deadline is graced: a
    /// control plane that was away did not wait for an answer.
    pub(crate) fn doubt_at(&self, instance: &Instance) -> Time {
        let patience = self.settings.instances.launch_timeout;
        let deadline = self.graced(instance.phase_since.core) + patience;
        // A call under way may be a repeat: it has its own time.
        match self.calls.get(&instance.id) {
            Some(_) => deadline.max(instance.launch_deadline.unwrap_or(deadline)),
            None => deadline,
        }
    }

    /// Until when the next call for an instance waits, if it does.
    pub(crate) fn rests_until(&self, instance: &Instance, now: Time) -> Option<Time> {
        instance.retry_at.filter(|at| *at > now)
    }

    /// When a machine that is to go should be gone.
    pub(crate) fn overdue_at(&self, instance: &Instance) -> Time {
        self.graced(instance.phase_since.core) + self.settings.guards.terminate.alert_after
    }

    /// Whether a machine that is to go should be gone by now.
    pub(crate) fn is_overdue(&self, instance: &Instance, now: Time) -> bool {
        instance.phase == Phase::Terminating && now >= self.overdue_at(instance)
    }

    /// Whether a machine may be let go by our own choosing.
    pub(crate) fn may_terminate(
        &self,
        instance: &Instance,
        cause: &EndCause,
        now: Time,
    ) -> Result<(), Block> {
        self.must_be_on(&instance.pool)?;
        // Look-ups by id settled what a doubtful listing could not.
        if *cause != EndCause::Vanished {
            self.believable(&instance.offering)?;
        }
        match cause {
            EndCause::Repair { .. } | EndCause::Shrink => self.is_drained(instance, now),
            // It ran and lost its node id to another machine.
            EndCause::NeverRegistered if instance.phase == Phase::Running => {
                self.is_dead(instance, now)?;
                self.within_budgets(&instance.pool, 0)
            }
            EndCause::NeverRegistered
            | EndCause::Operator
            | EndCause::LaunchAbandoned
            | EndCause::LaunchRefused
            | EndCause::Vanished => Ok(()),
        }
    }

    /// Whether something confirms that a machine which ran and lost its node is dead: it may only
    /// be cut off, as one whose node is silent.
    fn is_dead(&self, instance: &Instance, now: Time) -> Result<(), Block> {
        let settings = self.known_pool(&instance.pool)?;
        let since = instance.phase_since.core;
        let timeout = self.settings.heartbeat_timeout;
        let (fresh_then, stayed_fresh) = self.witnesses().of_lost(since, timeout);
        let facts = Silence {
            since: self.graced(since),
            sighting: instance.sighting,
            fresh_then,
            stayed_fresh,
            witnesses: self.settings.guards.silence_witnesses.at_least(fresh_then),
            replace_after: settings.config.health.silence_replace_after,
            confirmed: false,
        };
        guards::silence(&facts, now).map(drop)
    }

    /// Whether a machine that nobody claims may be asked to go now. A question that was asked a
    /// moment ago is not repeated.
    pub(crate) fn may_end_unclaimed(
        &self,
        pool: &PoolName,
        provider: &ProviderName,
        machine: &ProviderInstanceId,
        now: Time,
    ) -> Result<(), Block> {
        self.must_be_on(pool)?;
        let asked = self
            .unclaimed_asked
            .get(&(provider.clone(), machine.clone()));
        let again = asked.map(|at| *at + self.settings.guards.terminate.retry_wait);
        match again.filter(|again| now < *again) {
            Some(again) => Err(Block {
                until: Some(again),
                ..block("pace", "it was asked to go a moment ago")
            }),
            None => Ok(()),
        }
    }

    /// Whether the cloud proved a machine gone: it says so, or did not find it by id twice. An agent
    /// that is heard contradicts it.
    pub(crate) fn has_vanished(&self, instance: &Instance) -> bool {
        let heard = self
            .node_of(instance)
            .is_some_and(|node| node.silent_since.is_none());
        let gone = instance
            .sighting
            .is_some_and(|sighting| match sighting.status {
                CloudStatus::Terminated => true,
                CloudStatus::NotFound => sighting.in_a_row >= 2,
                CloudStatus::Running
                | CloudStatus::Stopped
                | CloudStatus::Impaired
                | CloudStatus::Terminating => false,
            });
        gone && !heard
    }

    /// Whether the drain of a machine is over and its replacement is in place.
    fn is_drained(&self, instance: &Instance, now: Time) -> Result<(), Block> {
        let node = self.node_of(instance);
        let Some((node, (cause, hold))) = node.and_then(|node| Some((node, node.our_drain()?)))
        else {
            return Err(block("drain", "its node is not being drained"));
        };
        if node.is_held_by_operator() {
            let why = format!("{}: it stays", node.holders());
            return Err(block("operator_hold", why));
        }
        let limit = match cause {
            DrainCause::Incident(_) => self.settings.guards.drain_deadline.unhealthy,
            DrainCause::Shrink | DrainCause::Terminating => {
                self.settings.guards.drain_deadline.voluntary
            }
        };
        let deadline = self.graced(hold.since.core) + limit;
        if hold.drained.is_none() && now < deadline {
            return Err(Block {
                guard: "drain",
                reason: "the scheduler has not said that the node is empty".to_owned(),
                until: Some(deadline),
            });
        }
        if *cause == DrainCause::Shrink {
            return Ok(());
        }
        self.is_replaced(instance)
    }

    /// Whether a leaving machine's replacement is in place, or none can or need come first.
    fn is_replaced(&self, instance: &Instance) -> Result<(), Block> {
        let Ok(settings) = self.known_pool(&instance.pool) else {
            return Ok(());
        };
        // Nothing is lost with a machine that never served, and its replacement may have to wait
        // until it counts against its offering.
        if !instance.was_active {
            return Ok(());
        }
        match self.replacement_of(instance) {
            // One that came up and broke, or that an operator took, is a matter of its own: the
            // drain would keep the slot that its repair needs.
            Some(other) if other.was_active || self.is_out_of_order(other) => Ok(()),
            Some(other) => Err(block(
                "replacement",
                format!("its replacement {} is {}", other.id, other.phase.word()),
            )),
            None if self.staying(&instance.pool) >= settings.min_nodes() => Ok(()),
            None if self.alive(&instance.pool) >= settings.max_nodes() + settings.max_surge() => {
                Ok(())
            }
            None => Err(block("replacement", "its replacement is not asked for yet")),
        }
    }

    /// Whether a machine came up and does not serve: it is unhealthy, or an operator holds it.
    fn is_out_of_order(&self, instance: &Instance) -> bool {
        instance.phase == Phase::Running
            && self.node_of(instance).is_some_and(|node| {
                node.status() == NodeStatus::Unhealthy || node.is_held_by_operator()
            })
    }

    /// Machines that the pool has or will have and that we do not drain.
    pub(crate) fn staying(&self, pool: &PoolName) -> usize {
        self.index.tally(Some(pool)).staying
    }

    /// Disruptions under way: our drains, and terminations that the cloud has not accepted yet.
    pub(crate) fn disruptions(&self, pool: Option<&PoolName>) -> usize {
        self.index.tally(pool).disruptions
    }

    /// The machines that a budget is a share of.
    pub(crate) fn budget_base(&self, pool: Option<&PoolName>) -> usize {
        self.index.tally(pool).capacity
    }

    /// Whether we may begin to drain a node, with `planned` drains already planned. Answers why.
    pub(crate) fn may_drain(
        &self,
        node: &Node,
        cause: &DrainCause,
        planned: usize,
        now: Time,
    ) -> Result<String, Block> {
        let Some(pool) = &node.pool else {
            return Err(block("configuration", "the node belongs to no pool"));
        };
        let settings = self.known_pool(pool)?;
        self.must_be_on(pool)?;
        let why = match cause {
            DrainCause::Incident(incident) => self.may_repair(node, incident, settings, now)?,
            DrainCause::Shrink => self.may_shrink_by(node, now)?,
            DrainCause::Terminating => String::new(),
        };
        self.within_budgets(pool, planned)?;
        Ok(why)
    }

    /// Whether one more disruption is within the budgets, with `planned` already planned.
    fn within_budgets(&self, pool: &PoolName, planned: usize) -> Result<(), Block> {
        let settings = self.known_pool(pool)?;
        let slots = settings.config.budget.slots(self.budget_base(Some(pool)));
        let scope = format!("pool {pool}");
        if let Some(block) = guards::budget(&scope, self.disruptions(Some(pool)) + planned, slots) {
            return Err(block);
        }
        let slots = self.settings.guards.budget.slots(self.budget_base(None));
        match guards::budget("the fleet", self.disruptions(None) + planned, slots) {
            Some(block) => Err(block),
            None => Ok(()),
        }
    }

    /// Whether an incident may be repaired by replacing its machine now, budgets aside.
    fn may_repair(
        &self,
        node: &Node,
        id: &IncidentId,
        settings: &PoolSettings,
        now: Time,
    ) -> Result<String, Block> {
        let Some(incident) = self
            .state
            .incidents
            .get(id)
            .filter(|incident| incident.is_open())
        else {
            return Err(block("incident", format!("incident {id} is closed")));
        };
        let Some(pool) = &node.pool else {
            return Err(block("configuration", "the node belongs to no pool"));
        };
        if let Some(void) = self.repair_is_void(node, incident, settings) {
            return Err(block("recovery", void));
        }
        if node.is_held_by_operator() {
            let why = format!("{}: its repair waits", node.holders());
            return Err(block("operator_hold", why));
        }
        if incident.repaired.is_some() {
            return Err(block("gate", "a repair is proven; its gate has to pass"));
        }
        let mut why = format!(
            "{} ({}) requires {}",
            incident.key.class,
            incident.citation,
            incident.required.word()
        );
        if incident.key.class == crate::fleet::SILENCE {
            if node.silent_since.is_none() {
                return Err(block("silence", HEARD_AGAIN));
            }
            let facts = self.silence_facts(node, incident, settings);
            why = guards::silence(&facts, now)?;
        } else if incident.kind == FaultKind::Condition
            && incident.key.class != crate::fleet::STALE_REPORTS
            && incident.unhealthy_reports < settings.config.health.unhealthy_after
        {
            let seen = format!(
                "{} of {} unhealthy full reports",
                incident.unhealthy_reports, settings.config.health.unhealthy_after
            );
            if !self.recovers(node) && node.reported < HealthStatus::Unhealthy {
                let why =
                    format!("{seen}, and recovery is manual: an operator closes the incident");
                return Err(block("recovery", why));
            }
            return Err(block("unhealthy_after", seen));
        }
        self.offering_is_open(pool, settings, now)?;
        self.signature_is_free(pool, incident, now)?;
        Ok(why)
    }

    /// Why an incident is no cause for a repair of ours at all.
    fn repair_is_void(
        &self,
        node: &Node,
        incident: &Incident,
        settings: &PoolSettings,
    ) -> Option<String> {
        if !incident.makes_unhealthy() {
            return Some("the incident is not unhealthy".to_owned());
        }
        if !settings.config.health.auto_replace {
            return Some("auto_replace is off for the pool".to_owned());
        }
        if incident.required <= Repair::RestartApp && incident.kind == FaultKind::Latched {
            return Some("restarting the application is enough".to_owned());
        }
        if node.instance.is_none() {
            return Some("the node is external: we did not buy its machine".to_owned());
        }
        None
    }

    /// A replacement never starts while the pool could not buy its machine.
    fn offering_is_open(
        &self,
        pool: &PoolName,
        settings: &PoolSettings,
        now: Time,
    ) -> Result<(), Block> {
        let memory = self.offering_memory(pool, &settings.offering);
        if memory.breaker.is_open() {
            let name = settings.offering.to_string();
            return Err(guards::launch_breaker(&name, &memory.breaker, None, 0, now)
                .unwrap_or_else(|| {
                    block("launch_breaker", format!("open for {name}: a probe first"))
                }));
        }
        Ok(())
    }

    /// The breaker and the rule for small pools, by signature.
    fn signature_is_free(
        &self,
        pool: &PoolName,
        incident: &Incident,
        now: Time,
    ) -> Result<(), Block> {
        let signature = incident.signature();
        let memory = self.state.pools.get(pool);
        if let Some(breaker) = memory.and_then(|memory| memory.repair_breakers.get(signature))
            && let Some(block) = guards::repair_breaker(signature, breaker, now)
        {
            return Err(block);
        }
        if self.budget_base(Some(pool)) >= self.settings.guards.small_fleet_nodes as usize {
            return Ok(());
        }
        let last = memory
            .and_then(|memory| memory.last_repairs.get(signature))
            .and_then(|last| self.last_replacement(&last.instance, last.at.core));
        match guards::small_pool(signature, last, self.settings.guards.small_fleet_wait, now) {
            Some(block) => Err(block),
            None => Ok(()),
        }
    }

    /// How the replacement of an instance stands.
    pub(crate) fn last_replacement(
        &self,
        id: &InstanceId,
        decided: Time,
    ) -> Option<LastReplacement> {
        let replaced = self
            .index
            .replacements(id)
            .filter_map(|other| self.state.instances.get(other))
            .max_by_key(|other| (other.phase.counts_as_capacity(), other.created));
        let old = self
            .state
            .instances
            .get(id)
            .filter(|old| old.phase == Phase::Running);
        let draining = old
            .and_then(|old| self.node_of(old))
            .is_some_and(|node| node.our_drain().is_some());
        match replaced {
            Some(other) if other.active_since.is_some() => other
                .active_since
                .map(|since| LastReplacement::ActiveSince(self.graced(since.core))),
            // It broke as well: waiting for it to be ACTIVE could last for ever.
            Some(other) if self.is_out_of_order(other) => {
                let broke = self
                    .node_of(other)
                    .and_then(|node| self.worst_incident(node))
                    .map_or(decided, |incident| incident.opened.core);
                Some(LastReplacement::None(self.graced(broke.max(decided))))
            }
            Some(other) if other.phase.counts_as_capacity() => Some(LastReplacement::NotActive),
            _ if draining => Some(LastReplacement::NotActive),
            // The drain was taken back: the old machine is repaired and no attempt counts.
            _ if old.is_some() => None,
            _ => Some(LastReplacement::None(self.graced(decided))),
        }
    }

    fn silence_facts(&self, node: &Node, incident: &Incident, settings: &PoolSettings) -> Silence {
        let since = node
            .silent_since
            .map_or(incident.opened.core, |since| since.core);
        let (fresh_then, stayed_fresh) =
            self.witnesses()
                .at(node, since, self.settings.heartbeat_timeout);
        Silence {
            since: self.graced(since),
            sighting: node
                .instance
                .as_ref()
                .and_then(|id| self.state.instances.get(id))
                .and_then(|instance| instance.sighting),
            fresh_then,
            stayed_fresh,
            witnesses: self.settings.guards.silence_witnesses.at_least(fresh_then),
            replace_after: settings.config.health.silence_replace_after,
            confirmed: incident.confirmed,
        }
    }

    fn may_shrink_by(&self, node: &Node, now: Time) -> Result<String, Block> {
        let Some(instance) = node
            .instance
            .as_ref()
            .and_then(|id| self.state.instances.get(id))
        else {
            return Err(block(
                "configuration",
                "the node is external: we did not buy its machine",
            ));
        };
        let old_enough = instance.created.core + self.settings.guards.minimum_life;
        if now < old_enough {
            return Err(Block {
                guard: "minimum_life",
                reason: "the machine is too young to let it go".to_owned(),
                until: Some(old_enough),
            });
        }
        Ok("the pool has more machines than asked for".to_owned())
    }

    /// Why a drain of ours has no cause any more.
    pub(crate) fn drain_is_void(&self, node: &Node, cause: &DrainCause) -> Option<String> {
        let pool = node.pool.as_ref()?;
        let settings = self.pool_settings(pool)?;
        if *cause != DrainCause::Terminating && node.is_held_by_operator() {
            return Some(format!("{}: it stays", node.holders()));
        }
        match cause {
            DrainCause::Incident(id) => {
                let Some(incident) = self.state.incidents.get(id) else {
                    return Some(format!("incident {id} is gone"));
                };
                if let Some((_, ending)) = &incident.closed {
                    return Some(format!("incident {id} ended: {}", ending.phrase()));
                }
                if incident.repaired.is_some() {
                    return Some("a repair is proven; its gate has to pass".to_owned());
                }
                if incident.key.class == crate::fleet::SILENCE && node.silent_since.is_none() {
                    return Some(HEARD_AGAIN.to_owned());
                }
                self.repair_is_void(node, incident, settings)
            }
            DrainCause::Shrink => (self.staying(pool) < settings.min_nodes())
                .then(|| "the pool needs the machine again".to_owned()),
            DrainCause::Terminating => None,
        }
    }

    /// Nodes of a pool on which a signature was found unhealthy within the window.
    pub(crate) fn signature_hits(
        &self,
        pool: &PoolName,
        signature: &str,
        now: Time,
    ) -> BTreeSet<&str> {
        self.index
            .incidents_of_pool(pool)
            .filter_map(|id| self.state.incidents.get(id))
            .filter(|incident| {
                incident.signature() == signature
                    && incident.severity == HealthStatus::Unhealthy
                    && now.since(incident.opened.core) < self.settings.guards.breaker.window
            })
            .map(|incident| incident.key.node.as_str())
            .collect()
    }

    /// Whether an incident is no cause for a repair until another report comes. One that stays so
    /// must not hide another of the node: its machine may be dead by now.
    fn waits_for_reports(&self, node: &Node, incident: &Incident) -> bool {
        if incident.repaired.is_some() {
            return true;
        }
        if incident.kind == FaultKind::Latched {
            return incident.required <= Repair::RestartApp;
        }
        if incident.key.class == crate::fleet::SILENCE {
            return node.silent_since.is_none();
        }
        let settings = node.pool.as_ref().and_then(|pool| self.pool_settings(pool));
        incident.key.class != crate::fleet::STALE_REPORTS
            && settings.is_some_and(|settings| {
                incident.unhealthy_reports < settings.config.health.unhealthy_after
            })
    }

    /// The unhealthy incident of a node that speaks loudest for a repair.
    pub(crate) fn worst_incident(&self, node: &Node) -> Option<&Incident> {
        node.open_incidents
            .keys()
            .filter_map(|id| self.state.incidents.get(id))
            .map(AsRef::as_ref)
            .filter(|incident| incident.makes_unhealthy())
            .min_by_key(|incident| {
                (
                    self.waits_for_reports(node, incident),
                    std::cmp::Reverse(incident.kind),
                    incident.opened,
                    incident.id.clone(),
                )
            })
    }
}

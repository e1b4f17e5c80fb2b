//! The facts that guards are asked with: what a pool has, and what is allowed at all.

use navarch_model::{
    Automation, FaultKind, Incident, Instance, Node, NodeStatus, Offering, Phase, PoolName, Repair,
    Time,
};
use navarch_policy::guards::{self, Block, Scope};

use crate::fleet::Fleet;
use crate::settings::PoolSettings;

/// How many of those that hold the slots of the fleet's budget are named.
const NAMED_HOLDERS: usize = 3;

impl Fleet {
    /// The instances of a pool that are in memory.
    pub(crate) fn pool_instances(&self, pool: &PoolName) -> impl Iterator<Item = &Instance> {
        self.index
            .members(pool)
            .filter_map(|id| self.state.instances.get(id))
            .map(AsRef::as_ref)
    }

    /// The instances of a pool that a plan has to look at: all but those that serve and ask for
    /// nothing.
    pub(crate) fn restless(&self, pool: &PoolName) -> impl Iterator<Item = &Instance> {
        self.index
            .restless(pool)
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
            mode => Err(Block::new(
                "automation",
                mode.word(),
                format!("automation is {}", mode.word()),
            )),
        }
    }

    pub(super) fn known_pool(&self, pool: &PoolName) -> Result<&PoolSettings, Block> {
        self.pool_settings(pool).ok_or_else(|| {
            Block::new(
                "configuration",
                "no_pool",
                format!("pool {pool} is not configured"),
            )
        })
    }

    pub(super) fn believable(&self, offering: &Offering) -> Result<(), Block> {
        match self
            .providers
            .get(&offering.provider)
            .and_then(|soft| soft.suspect.as_ref())
        {
            Some(why) => Err(Block::new(
                "sweep",
                "suspect",
                format!(
                    "the listing of {} is not believed: {why}",
                    offering.provider
                ),
            )),
            None => Ok(()),
        }
    }

    /// Machines that the pool has or will have and that we do not drain.
    pub(crate) fn staying(&self, pool: &PoolName) -> usize {
        self.index.tally(Some(pool)).staying
    }

    /// Disruptions under way: our drains, and terminations that the cloud has not accepted yet.
    pub(crate) fn disruptions(&self, pool: Option<&PoolName>) -> usize {
        self.index.tally(pool).disruptions
    }

    /// The machines that a budget is a share of: those that are meant to be there.
    pub(crate) fn budget_base(&self, pool: Option<&PoolName>) -> usize {
        let of = |pool: &PoolName| {
            let tally = self.index.tally(Some(pool));
            guards::budget_base(tally.staying, tally.repairing, self.target(pool))
        };
        match pool {
            Some(pool) => of(pool),
            None => {
                let sum = || self.index.pools().map(of).sum();
                *self.base.get_or_init(sum)
            }
        }
    }

    /// Until when a disruption holds a slot of the fleet's budget, if no fact changes; none if it
    /// holds none. What nobody moves on must not stop the repairs of other pools: the budget of its
    /// own pool goes on counting it.
    fn holds_slot_until(&self, instance: &Instance) -> Option<Time> {
        self.must_be_on(&instance.pool).ok()?;
        self.believable(&instance.offering).ok()?;
        if instance.phase == Phase::Terminating {
            return Some(self.overdue_at(instance));
        }
        let node = self.node_of(instance)?;
        let (cause, hold) = node.our_drain()?;
        let deadline = self.drain_deadline(node, cause, hold);
        let over = hold.drained.map_or(deadline, |at| at.core.min(deadline));
        // Its replacement is asked for when the drain begins. After the time that one takes to come
        // up, the drain waits for capacity.
        let times = &self.settings.instances;
        let comes_up = times.launch_timeout + times.registration_timeout;
        Some(over.max(self.presence().due(hold.since.core, comes_up)))
    }

    /// Whether the fleet's budget allows one more disruption.
    fn within_fleet_budget(&self, planned: usize, now: Time) -> Result<(), Block> {
        let slots = self.settings.guards.budget.slots(self.budget_base(None));
        let all = self.disruptions(None) + planned;
        if guards::budget(Scope::Fleet, all, slots).is_none() {
            return Ok(());
        }
        let holders: Vec<(&Instance, Time)> = self
            .index
            .disrupted()
            .filter_map(|id| self.state.instances.get(id))
            .filter_map(|instance| Some((&**instance, self.holds_slot_until(instance)?)))
            .filter(|(_, until)| now < *until)
            .collect();
        let Some(block) = guards::budget(Scope::Fleet, holders.len() + planned, slots) else {
            return Ok(());
        };
        let Some(until) = holders.iter().map(|(_, until)| *until).min() else {
            return Err(block);
        };
        let named: Vec<String> = holders
            .iter()
            .take(NAMED_HOLDERS)
            .map(|(instance, _)| format!("{} of pool {}", instance.id, instance.pool))
            .collect();
        let more = match holders.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let block = block.adding(&format!(": {}{more}", named.join(", ")));
        Err(block.until(until))
    }

    /// Whether one more disruption is within the budgets, with `planned` already planned.
    pub(super) fn within_budgets(
        &self,
        pool: &PoolName,
        planned: usize,
        now: Time,
    ) -> Result<(), Block> {
        let settings = self.known_pool(pool)?;
        let slots = settings.config.budget.slots(self.budget_base(Some(pool)));
        let scope = Scope::Pool(pool.as_str());
        if let Some(block) = guards::budget(scope, self.disruptions(Some(pool)) + planned, slots) {
            return Err(block);
        }
        self.within_fleet_budget(planned, now)
    }

    /// Whether a machine came up and does not serve: it is unhealthy, or an operator holds it.
    pub(super) fn is_out_of_order(&self, instance: &Instance) -> bool {
        instance.phase == Phase::Running
            && self.node_of(instance).is_some_and(|node| {
                node.status() == NodeStatus::Unhealthy || node.is_held_by_operator()
            })
    }

    /// Until when the next call for an instance waits, if it does.
    pub(crate) fn rests_until(&self, instance: &Instance, now: Time) -> Option<Time> {
        instance.retry_at.filter(|at| *at > now)
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

    /// Whether an incident is no cause for a repair until another report comes. One that stays so
    /// must not hide another of the node: its machine may be dead by now.
    pub(super) fn waits_for_reports(&self, node: &Node, incident: &Incident) -> bool {
        if incident.repaired.is_some() {
            return true;
        }
        if incident.kind == FaultKind::Latched {
            return incident.required <= Repair::RestartApp;
        }
        if incident.key.class == crate::fleet::SILENCE {
            return node.silent_since.is_none();
        }
        if incident.key.class == crate::fleet::STALE_REPORTS {
            return node.silent_since.is_some();
        }
        let settings = node.pool.as_ref().and_then(|pool| self.pool_settings(pool));
        settings.is_some_and(|settings| {
            incident.unhealthy_reports < settings.config.health.unhealthy_after
        })
    }
}

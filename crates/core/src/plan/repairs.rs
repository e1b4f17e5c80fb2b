//! May a node be drained, to repair it or to shrink its pool? Asked once when planning, again when acting.

use navarch_model::{
    DrainCause, FaultKind, HealthStatus, Incident, IncidentId, Node, PoolName, Repair, Time,
};
use navarch_policy::guards::{self, Block};

use super::launches::has_enough;
use crate::fleet::Fleet;
use crate::settings::PoolSettings;

/// Why missing reports are no cause for a repair: they accuse a machine that is heard. One that is
/// not heard is judged by its silence, which needs witnesses.
const SILENT_AS_WELL: &str = "the node is silent as well: its silence decides";

/// Why a notice of the cloud is no cause for a drain.
const KEPT: &str = "the cloud does not take the machine back";

impl Fleet {
    /// Whether we may begin to drain a node, with `planned` drains already planned. Answers why.
    pub(crate) fn may_drain(
        &self,
        node: &Node,
        cause: &DrainCause,
        planned: usize,
        now: Time,
    ) -> Result<String, Block> {
        let Some(pool) = &node.pool else {
            return Err(Block::new(
                "configuration",
                "no_pool",
                "the node belongs to no pool",
            ));
        };
        let settings = self.known_pool(pool)?;
        self.must_be_on(pool)?;
        let why = match cause {
            DrainCause::Incident(incident) => {
                self.may_repair(node, incident, settings, planned, now)?
            }
            DrainCause::Shrink => self.may_shrink_by(pool, node, now)?,
            // The cloud chose, and nothing that we wait for keeps the machine.
            DrainCause::Interruption => return self.is_taken_back(node, now),
            DrainCause::Terminating => String::new(),
        };
        if self.has_served(node) {
            self.within_budgets(pool, planned, now)?;
        }
        Ok(why)
    }

    /// Whether the cloud takes the machine of a node back, and no person keeps us from acting on it.
    fn is_taken_back(&self, node: &Node, now: Time) -> Result<String, Block> {
        let Some(interruption) = self.interruption_of(node) else {
            return Err(Block::new("drain", "kept", KEPT));
        };
        if node.is_held_by_operator() {
            let why = format!("{}: its drain waits", node.holders());
            return Err(Block::new("operator_hold", "held", why));
        }
        let left = interruption.at.core.since(now);
        Ok(format!(
            "the cloud takes the machine back in {} s",
            left.as_secs()
        ))
    }

    /// Whether an incident may be repaired by replacing its machine now, budgets aside.
    fn may_repair(
        &self,
        node: &Node,
        id: &IncidentId,
        settings: &PoolSettings,
        planned: usize,
        now: Time,
    ) -> Result<String, Block> {
        let Some(incident) = self
            .state
            .incidents
            .get(id)
            .filter(|incident| incident.is_open())
        else {
            return Err(Block::new(
                "incident",
                "closed",
                format!("incident {id} is closed"),
            ));
        };
        let Some(pool) = &node.pool else {
            return Err(Block::new(
                "configuration",
                "no_pool",
                "the node belongs to no pool",
            ));
        };
        if let Some(void) = self.repair_is_void(node, incident, settings) {
            return Err(Block::new("recovery", "void", void));
        }
        if node.is_held_by_operator() {
            let why = format!("{}: its repair waits", node.holders());
            return Err(Block::new("operator_hold", "held", why));
        }
        if incident.repaired.is_some() {
            return Err(Block::new(
                "gate",
                "repaired",
                "a repair is proven; its gate has to pass",
            ));
        }
        let mut why = format!(
            "{} ({}) requires {}",
            incident.key.class,
            incident.citation,
            incident.required.word()
        );
        if incident.key.class == crate::fleet::SILENCE {
            if node.silent_since.is_none() {
                return Err(self.heard_again(node));
            }
            why = self.is_confirmed_dead(node, incident, settings, now)?;
        } else if incident.key.class == crate::fleet::STALE_REPORTS {
            if node.silent_since.is_some() {
                return Err(Block::new("silence", "stale_reports", SILENT_AS_WELL));
            }
        } else if incident.kind == FaultKind::Condition
            && incident.unhealthy_reports < settings.config.health.unhealthy_after
        {
            let seen = format!(
                "{} of {} unhealthy full reports",
                incident.unhealthy_reports, settings.config.health.unhealthy_after
            );
            if !self.recovers(node) && node.reported < HealthStatus::Unhealthy {
                let why =
                    format!("{seen}, and recovery is manual: an operator closes the incident");
                return Err(Block::new("recovery", "manual", why));
            }
            return Err(Block::new("unhealthy_after", "too_few", seen));
        }
        // One that was never admitted serves nobody: no guard has anything to protect in it, and
        // kept it would only count as the one launch that is tried, which the replacement needs
        // that others wait for.
        if self.has_served(node) {
            self.offering_is_open(pool, settings, planned, now)?;
            self.breakers_let_through(pool, incident.signature(), now)?;
            self.small_pool_is_settled(pool, incident.signature(), now)?;
        }
        Ok(why)
    }

    /// Why silence is no cause for a repair any more.
    fn heard_again(&self, node: &Node) -> Block {
        if self.recovers(node) {
            let why =
                "the node is heard again; a full report that is not unhealthy ends the incident";
            return Block::new("silence", "heard", why);
        }
        let why =
            "the node is heard again, and recovery is manual: an operator closes the incident";
        Block::new("recovery", "manual", why)
    }

    /// Whether the machine of a node was ever admitted, or is none of ours: its end disrupts
    /// somebody.
    fn has_served(&self, node: &Node) -> bool {
        let instance = node.instance.as_ref();
        instance
            .and_then(|id| self.state.instances.get(id))
            .is_none_or(|instance| instance.was_active)
    }

    /// Why an incident is no cause for a repair of ours at all.
    pub(super) fn repair_is_void(
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

    pub(super) fn may_shrink_by(
        &self,
        pool: &PoolName,
        node: &Node,
        now: Time,
    ) -> Result<String, Block> {
        let Some(instance) = node
            .instance
            .as_ref()
            .and_then(|id| self.state.instances.get(id))
        else {
            return Err(Block::new(
                "configuration",
                "external",
                "the node is external: we did not buy its machine",
            ));
        };
        let target = self.target(pool);
        if self.excess(pool, 0) == 0 {
            return Err(Block::new("size", "reached", has_enough(target)));
        }
        self.is_no_mere_silence(node, now)?;
        let life = self.settings.guards.minimum_life;
        if let Some(block) = guards::minimum_life(instance.created.core, life, now) {
            return Err(block);
        }
        Ok("the pool has more machines than asked for".to_owned())
    }

    /// Whether a node is heard, or something confirms that its machine is dead: who is only silent
    /// may run work that nobody can ask about, and silence alone destroys nothing.
    pub(super) fn is_no_mere_silence(&self, node: &Node, now: Time) -> Result<(), Block> {
        let silence = node
            .open_incidents
            .keys()
            .filter_map(|id| self.state.incidents.get(id))
            .find(|incident| incident.key.class == crate::fleet::SILENCE);
        let (Some(incident), Some(_), Some(pool)) = (silence, node.silent_since, &node.pool) else {
            return Ok(());
        };
        let settings = self.known_pool(pool)?;
        self.is_confirmed_dead(node, incident, settings, now)
            .map(drop)
    }

    /// Why a drain of ours has no cause any more.
    pub(crate) fn drain_is_void(&self, node: &Node, cause: &DrainCause) -> Option<String> {
        let pool = node.pool.as_ref()?;
        if *cause != DrainCause::Terminating && node.is_held_by_operator() {
            return Some(format!("{}: it stays", node.holders()));
        }
        let Some(settings) = self.pool_settings(pool) else {
            let why = format!("pool {pool} is not configured any more");
            return (*cause != DrainCause::Terminating).then_some(why);
        };
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
                    return Some(self.heard_again(node).reason);
                }
                if incident.key.class == crate::fleet::STALE_REPORTS && node.silent_since.is_some()
                {
                    return Some(SILENT_AS_WELL.to_owned());
                }
                self.repair_is_void(node, incident, settings)
            }
            DrainCause::Shrink => (self.staying(pool) < self.target(pool))
                .then(|| "the pool needs the machine again".to_owned()),
            DrainCause::Interruption => {
                let kept = self.interruption_of(node).is_none();
                kept.then(|| KEPT.to_owned())
            }
            DrainCause::Terminating => None,
        }
    }
}

//! May a machine go? Asked once when planning, again when acting.

use navarch_model::{
    CloudStatus, DrainCause, EndCause, HealthStatus, Hold, Incident, Instance, Node, Phase,
    PoolName, ProviderInstanceId, ProviderName, Time,
};
use navarch_policy::guards::{self, Block, Silence};

use crate::fleet::Fleet;
use crate::settings::PoolSettings;

impl Fleet {
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
            EndCause::Repair { .. } | EndCause::Shrink | EndCause::Interruption => {
                self.is_drained(instance, now)
            }
            // It ran and lost its node id to another machine.
            EndCause::NeverRegistered if instance.phase == Phase::Running => {
                self.is_dead(instance, now)?;
                self.within_budgets(&instance.pool, 0, now)
            }
            EndCause::NeverRegistered
            | EndCause::Operator
            | EndCause::LaunchAbandoned
            | EndCause::LaunchRefused
            | EndCause::Moved
            | EndCause::Vanished => Ok(()),
        }
    }

    /// Whether something confirms that a machine which ran and lost its node is dead: it may only
    /// be cut off, as one whose node is silent.
    pub(super) fn is_dead(&self, instance: &Instance, now: Time) -> Result<(), Block> {
        let settings = self.known_pool(&instance.pool)?;
        let since = instance.phase_since.core;
        let facts = self.silence_facts(None, Some(instance), since, settings, now);
        let way_out = format!("; `navarch instance terminate {}` says so", instance.id);
        guards::silence(&facts, now)
            .map(drop)
            .map_err(|block| told(block, &way_out))
    }

    /// What speaks for a machine that has been silent since `since` being dead, an operator's word
    /// aside. `node` is its node, if it still has one.
    pub(super) fn silence_facts(
        &self,
        node: Option<&Node>,
        instance: Option<&Instance>,
        since: Time,
        settings: &PoolSettings,
        now: Time,
    ) -> Silence {
        let presence = self.presence();
        let period = settings.config.health.silence_replace_after;
        let timeout = self.settings.heartbeat_timeout;
        let again = |fresh| presence.silence_due(fresh, period.unwrap_or_default());
        let testimony = self.witnesses().at(node, since, timeout, again, now);
        Silence {
            since: presence.fresh(since),
            sighting: instance.and_then(|instance| instance.sighting),
            fresh_then: testimony.fresh_then,
            stayed_fresh: testimony.stayed_fresh,
            next: testimony.next,
            witnesses: self
                .settings
                .guards
                .silence_witnesses
                .at_least(testimony.fresh_then),
            enough: period.map(|period| presence.silence_due(since, period)),
            confirmed: false,
        }
    }

    /// Whether something confirms that a silent node's machine is dead. Answers what does.
    pub(super) fn is_confirmed_dead(
        &self,
        node: &Node,
        incident: &Incident,
        settings: &PoolSettings,
        now: Time,
    ) -> Result<String, Block> {
        let since = node
            .silent_since
            .map_or(incident.opened.core, |since| since.core);
        let instance = node.instance.as_ref();
        let instance = instance.and_then(|id| self.state.instances.get(id));
        let facts = Silence {
            confirmed: incident.confirmed,
            ..self.silence_facts(
                Some(node),
                instance.map(AsRef::as_ref),
                since,
                settings,
                now,
            )
        };
        let way_out = format!("; `navarch node confirm-dead {}` says so", node.id);
        guards::silence(&facts, now).map_err(|block| told(block, &way_out))
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
            Some(again) => {
                Err(Block::new("pace", "asked", "it was asked to go a moment ago").until(again))
            }
            None => Ok(()),
        }
    }

    /// Whether the cloud proved a machine gone: it says so, or did not find it by id twice. An agent
    /// that is heard contradicts it, and what was said before it fell silent.
    pub(crate) fn has_vanished(&self, instance: &Instance) -> bool {
        let node = self.node_of(instance);
        let heard = node.is_some_and(|node| node.silent_since.is_none());
        let silent = node.and_then(|node| node.silent_since);
        let gone = instance
            .sighting
            .filter(|sighting| {
                silent.is_none_or(|since| sighting.at.core >= self.presence().fresh(since.core))
            })
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
    pub(super) fn is_drained(&self, instance: &Instance, now: Time) -> Result<(), Block> {
        let node = self.node_of(instance);
        let Some((node, (cause, hold))) = node.and_then(|node| Some((node, node.our_drain()?)))
        else {
            return Err(Block::new("drain", "none", "its node is not being drained"));
        };
        if let Some(why) = self.drain_is_void(node, cause) {
            return Err(Block::new("drain", "void", why));
        }
        let deadline = self.drain_deadline(node, cause, hold);
        // Its users keep what the cloud takes back for as long as it is there.
        let theirs = *cause == DrainCause::Interruption;
        if hold.drained.is_some() && theirs && now < deadline {
            let why = "the node is empty, and its cloud has yet to take the machine back";
            return Err(Block::new("drain", "interruption", why).until(deadline));
        }
        if hold.drained.is_none() && now < deadline {
            let mut why = if self.knows_of_drain(node) {
                "the scheduler has not said that the node is empty".to_owned()
            } else {
                "the scheduler has not taken the notice of the drain".to_owned()
            };
            let soft = self.soft.get(&node.id);
            if let Some(error) = soft
                .map(|soft| &soft.drain_error)
                .filter(|one| !one.is_empty())
            {
                why.push_str(": ");
                why.push_str(error);
            }
            return Err(Block::new("drain", "busy", why).until(deadline));
        }
        if *cause == DrainCause::Shrink {
            return Ok(());
        }
        self.is_replaced(instance)
    }

    /// When a drain of ours is over, whatever the scheduler says.
    pub(super) fn drain_deadline(&self, node: &Node, cause: &DrainCause, hold: &Hold) -> Time {
        let pool = node.pool.as_ref().and_then(|pool| self.pool_settings(pool));
        let deadlines = pool.map_or(self.settings.guards.drain_deadline, |pool| {
            pool.config.drain_deadline
        });
        let taken = self.interruption_of(node).map(|taken| taken.at.core);
        let limit = match cause {
            DrainCause::Interruption => return taken.unwrap_or(hold.since.core),
            DrainCause::Incident(_) => deadlines.unhealthy,
            DrainCause::Shrink | DrainCause::Terminating
                if node.health() == HealthStatus::Degraded =>
            {
                deadlines.degraded
            }
            DrainCause::Shrink | DrainCause::Terminating => deadlines.voluntary,
        };
        let deadline = self.presence().due(hold.since.core, limit);
        taken.map_or(deadline, |taken| deadline.min(taken))
    }

    /// Whether a leaving machine's replacement is in place, or none can or need come first.
    pub(super) fn is_replaced(&self, instance: &Instance) -> Result<(), Block> {
        let Ok(settings) = self.known_pool(&instance.pool) else {
            return Ok(());
        };
        // Nothing is lost with a machine that never served, and its replacement may have to wait
        // until it counts against its offering. Nor with one that a person says is dead.
        if !instance.was_active || self.is_said_to_be_dead(instance) {
            return Ok(());
        }
        match self.replacement_of(instance) {
            // One that came up and broke, or that an operator took, is a matter of its own: the
            // drain would keep the slot that its repair needs.
            Some(other) if other.was_active || self.is_out_of_order(other) => Ok(()),
            Some(other) => Err(Block::new(
                "replacement",
                "coming",
                format!("its replacement {} is {}", other.id, other.phase.word()),
            )),
            None if self.staying(&instance.pool) >= self.target(&instance.pool) => Ok(()),
            None if self.alive(&instance.pool) >= settings.max_nodes() + settings.max_surge() => {
                Ok(())
            }
            None => Err(Block::new(
                "replacement",
                "not_asked",
                "its replacement is not asked for yet",
            )),
        }
    }

    /// Whether an operator confirmed that a silent machine is dead.
    fn is_said_to_be_dead(&self, instance: &Instance) -> bool {
        let Some(node) = self.node_of(instance) else {
            return false;
        };
        let mut open = node.open_incidents.keys();
        node.silent_since.is_some()
            && open.any(|id| {
                let incident = self.state.incidents.get(id);
                incident.is_some_and(|incident| incident.confirmed)
            })
    }

    /// When a machine that is to go should be gone.
    pub(crate) fn overdue_at(&self, instance: &Instance) -> Time {
        let patience = self.settings.guards.terminate.alert_after;
        self.presence().due(instance.phase_since.core, patience)
    }

    /// When the agent of a machine should have registered.
    pub(super) fn registration_due(&self, instance: &Instance) -> Time {
        let patience = self.settings.instances.registration_timeout;
        self.presence().due(instance.phase_since.core, patience)
    }

    /// Whether a machine that is to go should be gone by now.
    pub(crate) fn is_overdue(&self, instance: &Instance, now: Time) -> bool {
        instance.phase == Phase::Terminating && now >= self.overdue_at(instance)
    }
}

/// A silence that only a person can confirm, with the command that does.
fn told(block: Block, way_out: &str) -> Block {
    match block.cause {
        "never" | "witnesses" => block.adding(way_out),
        _ => block,
    }
}

//! What each machine needs next: its calls, its deadlines, the listings that prove things.

use std::time::Duration;

use navarch_model::{
    CloudStatus, EndCause, Idempotency, Instance, Node, NodeId, Phase, PoolName, ProviderName, Time,
};
use navarch_policy::guards::Block;

use super::Planner;
use crate::fleet::PROOF_LISTINGS;
use crate::input::Action;

/// The longest wait between listings while an instance needs one as proof.
const PROOF_INTERVAL: Duration = Duration::from_secs(15);

impl Planner<'_> {
    /// Lists providers that are due, sooner while something waits for proof, and while they have
    /// machines that they may take back: a notice is short, and only a listing shows it.
    pub(super) fn sweep(&mut self) {
        for provider in self.fleet.settings.providers.keys() {
            let soft = self.fleet.providers.get(provider);
            if let Some(until) = soft.and_then(|soft| soft.listing)
                && self.now.core < until
            {
                self.wake(until);
                continue;
            }
            let settings = &self.fleet.settings;
            let mut interval = settings.guards.sweep.interval;
            if self.needs_proof(provider) {
                interval = interval.min(PROOF_INTERVAL);
            }
            // A cloud that does not answer is not asked more often for that.
            let answers = soft.is_none_or(|soft| soft.failures == 0);
            if answers && self.fleet.index.has_spot(provider) {
                interval = interval.min(settings.instances.spot_check_interval);
            }
            let due = soft
                .and_then(|soft| soft.listed)
                .map_or(self.now.core, |at| at + interval);
            if due <= self.now.core {
                self.actions.push(Action::List {
                    provider: provider.clone(),
                });
            } else {
                self.wake(due);
            }
        }
    }

    /// Tells the scheduler what it is yet to hear, and tells it again what it did not take.
    pub(super) fn notices(&mut self) {
        let fleet = self.fleet;
        for id in fleet.index.noticed() {
            let due = fleet
                .state
                .nodes
                .get(id)
                .and_then(|node| fleet.tell_at(node));
            match due {
                Some(at) if at > self.now.core => self.wake(at),
                Some(_) => self.actions.push(Action::Tell { node: id.clone() }),
                None => {}
            }
        }
    }

    /// Says what the scheduler does not take.
    fn unheard(&mut self, pool: &PoolName, node: &Node) {
        let Some(notice) = node
            .told
            .waiting
            .first()
            .filter(|one| !one.error.is_empty())
        else {
            return;
        };
        let block = Block::new("notifier", "failing", notice.error.clone());
        let words = format!("{} at the scheduler", notice.kind.word());
        self.wait(pool, node.id.as_str(), &words, &block);
    }

    /// Lets machines go that nobody claims and whose intent is on record.
    pub(super) fn unclaimed(&mut self) {
        for ((provider, id), machine) in &self.fleet.state.unclaimed {
            // Only an intent of ours that was given up, or has its machine, says whose it is.
            let Some(pool) = machine
                .instance
                .as_ref()
                .and_then(|instance| self.fleet.state.instances.get(instance))
                .map(|instance| instance.pool.clone())
                .filter(|pool| machine.sightings >= 2 && self.scope.contains(pool))
            else {
                continue;
            };
            self.current = Some(pool.clone());
            let words = format!("terminate unclaimed {id}");
            match self
                .fleet
                .may_end_unclaimed(&pool, provider, id, self.now.core)
            {
                Ok(()) => self.choose(
                    &pool,
                    id.as_str(),
                    words,
                    "its intent has no use for it".to_owned(),
                    Action::TerminateUnclaimed {
                        provider: provider.clone(),
                        machine: id.clone(),
                    },
                ),
                Err(block) if block.guard == "pace" => {
                    if let Some(until) = block.until {
                        self.wake(until);
                    }
                }
                Err(block) => self.wait(&pool, id.as_str(), &words, &block),
            }
        }
    }

    fn needs_proof(&self, provider: &ProviderName) -> bool {
        self.fleet.index.has_doubtful(provider)
            || self.fleet.has_unlisted(provider)
            || self
                .fleet
                .state
                .unclaimed
                .keys()
                .any(|(name, _)| name == provider)
    }

    /// The next call or transition of every machine of a pool that may be alive.
    pub(super) fn machines(&mut self, pool: &PoolName) {
        let (unwanted, opens) = self.fleet.unwanted_intents(pool, self.now.core);
        if let Some(at) = opens {
            self.wake(at);
        }
        self.unwanted.insert(pool.clone(), unwanted);
        for instance in self.fleet.restless(pool) {
            if instance.phase.may_be_alive() {
                self.machine(instance);
                if let Some(node) = self.fleet.node_of(instance) {
                    self.unheard(pool, node);
                }
            }
        }
    }

    fn machine(&mut self, instance: &Instance) {
        let id = instance.id.clone();
        if instance.phase == Phase::Launching {
            let deadline = self.fleet.doubt_at(instance);
            if self.now.core >= deadline {
                self.actions.push(Action::Doubt { instance: id });
                return;
            }
            self.wake(deadline);
        }
        if instance.phase == Phase::OutcomeUnknown {
            let mut block = Block::new("outcome_unknown", "lost", instance.message.clone());
            block.until = instance.retry_at;
            if self.fleet.idempotency(&instance.offering.provider) == Idempotency::None {
                block = block.adding(&format!(
                    "; it is bought again only after {PROOF_LISTINGS} complete listings lack it, \
                     and {} did; `navarch instance terminate {}` gives it up",
                    instance.absent_listings, instance.id
                ));
            }
            self.wait(&instance.pool, instance.id.as_str(), "launch", &block);
        }
        if instance.phase == Phase::Terminating {
            let due = self.fleet.overdue_at(instance);
            self.wake(due);
            if self.fleet.is_overdue(instance, self.now.core) && !self.fleet.alerted.contains(&id) {
                let instance = id.clone();
                self.actions.push(Action::Alert { instance });
            }
        }
        if let Some(call) = self.fleet.call_under_way(&instance.id, self.now.core) {
            self.wake(call.until);
            return;
        }
        let rests = self.fleet.rests_until(instance, self.now.core);
        if let Some(at) = rests {
            self.wake(at);
            if instance.phase == Phase::Launching && instance.clean {
                self.launch_later(instance, at);
                return;
            }
            // The deadline to register passes while its look-ups rest, and what is gone is gone.
            let gone = instance.phase == Phase::Running && self.fleet.has_vanished(instance);
            if instance.phase != Phase::PendingRegistration && !gone {
                return;
            }
        }
        let rests = rests.is_some();
        match instance.phase {
            Phase::Requested => self.launch(instance),
            Phase::Launching if instance.clean => self.launch(instance),
            Phase::Launching | Phase::OutcomeUnknown => {
                self.actions.push(Action::Lookup { instance: id });
            }
            Phase::PendingRegistration => {
                let deadline = self.fleet.registration_due(instance);
                if self.now.core < deadline {
                    self.wake(deadline);
                }
                if self.fleet.has_vanished(instance) {
                    self.end(instance, EndCause::Vanished);
                } else if self.now.core >= deadline && self.ends_unregistered(instance) {
                    // Nothing is left to find out.
                } else if !rests {
                    self.look(instance, None);
                }
            }
            Phase::Running if instance.node.is_none() => self.lost(instance),
            Phase::Running => {
                let silent = instance
                    .node
                    .as_ref()
                    .and_then(|node: &NodeId| self.fleet.state.nodes.get(node))
                    .and_then(|node| node.silent_since)
                    .map(|since| since.core);
                if self.fleet.has_vanished(instance) {
                    self.end(instance, EndCause::Vanished);
                } else {
                    self.look(instance, silent);
                }
            }
            Phase::Terminating if instance.provider_id.is_some() => {
                self.actions.push(Action::CallTerminate { instance: id });
            }
            Phase::Terminating => self.actions.push(Action::Lookup { instance: id }),
            Phase::Terminated | Phase::Failed => {}
        }
    }

    /// Ends a machine whose agent never registered. Answers whether nothing stops that: what stops it
    /// may be a listing that is not believed, and only look-ups settle that.
    fn ends_unregistered(&mut self, instance: &Instance) -> bool {
        let cause = EndCause::NeverRegistered;
        let may = self.fleet.may_terminate(instance, &cause, self.now.core);
        self.end(instance, cause);
        may.is_ok()
    }

    /// A machine that ran and whose node is another one now: its own agent may come back, and only
    /// what confirms a silence confirms that it does not.
    fn lost(&mut self, instance: &Instance) {
        let since = instance.phase_since;
        let deadline = self.fleet.registration_due(instance);
        if self.fleet.has_vanished(instance) {
            self.end(instance, EndCause::Vanished);
            return;
        }
        if self.now.core < deadline {
            self.wake(deadline);
        } else {
            let cause = EndCause::NeverRegistered;
            let dead = self.fleet.may_terminate(instance, &cause, self.now.core);
            self.end(instance, cause);
            if dead.is_ok() {
                return;
            }
        }
        self.look(instance, Some(since.core));
    }

    /// Gives up an intent that nobody wants any more. Answers whether this one is.
    fn gives_up(&mut self, instance: &Instance) -> bool {
        let about = instance.id.as_str();
        let unwanted = self.unwanted.get(&instance.pool);
        let Some(why) = unwanted.and_then(|all| all.get(&instance.id)).cloned() else {
            return false;
        };
        let action = Action::GiveUp {
            instance: instance.id.clone(),
        };
        let words = format!("give up the launch of {about}");
        self.choose(&instance.pool, about, words, why, action);
        true
    }

    /// The launch call failed, and it is not time to repeat it.
    fn launch_later(&mut self, instance: &Instance, at: Time) {
        if !self.gives_up(instance) {
            let block = Block::new("offering_rest", "retry", instance.message.clone()).until(at);
            let words = format!("launch {}", instance.id);
            self.wait(&instance.pool, instance.id.as_str(), &words, &block);
        }
    }

    fn launch(&mut self, instance: &Instance) {
        let about = instance.id.as_str();
        if self.gives_up(instance) {
            return;
        }
        let words = format!("launch {about}");
        match self.fleet.may_call(instance, self.now.core) {
            Ok(()) => {
                let action = Action::Launch {
                    instance: instance.id.clone(),
                };
                self.choose(
                    &instance.pool,
                    about,
                    words,
                    instance.message.clone(),
                    action,
                );
            }
            Err(block) => self.wait(&instance.pool, about, &words, &block),
        }
    }

    fn end(&mut self, instance: &Instance, cause: EndCause) {
        let about = instance.id.as_str();
        let words = format!("terminate {about}");
        match self.fleet.may_terminate(instance, &cause, self.now.core) {
            Ok(()) => {
                let action = Action::Terminate {
                    instance: instance.id.clone(),
                    cause: cause.clone(),
                };
                self.choose(&instance.pool, about, words, cause.phrase(), action);
            }
            Err(block) => self.wait(&instance.pool, about, &words, &block),
        }
    }

    /// Looks a machine up by id when a listing lacked it, or while its node is silent.
    fn look(&mut self, instance: &Instance, silent: Option<Time>) {
        let doubted = instance
            .sighting
            .is_some_and(|sighting| sighting.status == CloudStatus::NotFound);
        let unseen = silent.is_some_and(|since| {
            let since = self.fleet.presence().fresh(since);
            instance.sighting.is_none_or(|sighting| {
                sighting.at.core < since
                    || self.now.core.since(sighting.at.core)
                        >= self.fleet.settings.instances.stale_check_interval
            })
        });
        if let (true, Some(sighting)) = (silent.is_some(), instance.sighting) {
            self.wake(sighting.at.core + self.fleet.settings.instances.stale_check_interval);
        }
        if doubted || unseen {
            self.actions.push(Action::Lookup {
                instance: instance.id.clone(),
            });
        }
    }
}

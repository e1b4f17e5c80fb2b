//! Taking a planned action: its guards are judged again, then its intent is put on record.

use std::time::Duration;

use navarch_model::ids::fresh;
use navarch_model::{
    DrainCause, EndCause, EventKind, HoldKind, IdSource, Instance, InstanceId, LaunchCause,
    LaunchSpec, Lifecycle, Node, NodeId, Offering, Phase, PoolName, Stamp, Subject,
};

use super::{CallKind, Fleet, UnderWay};
use crate::input::{Action, CallKey, Effect, Note, Rejection, Reply};
use crate::settings::doubled;

/// The first wait between two questions whether a node is empty, and the longest. Longer keeps a
/// machine that nobody uses, shorter asks a scheduler all day for nothing.
const ASK_DRAINED: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));

impl Fleet {
    pub(crate) fn act(
        &mut self,
        action: Action,
        ids: &mut dyn IdSource,
    ) -> Result<Reply, Rejection> {
        match action {
            Action::Request {
                pool,
                cause,
                offering,
            } => self.request(&pool, cause, offering, ids),
            Action::Launch { instance } => self.launch(&instance),
            Action::GiveUp { instance } => self.give_up(&instance),
            Action::Lookup { instance } => self.lookup(&instance),
            Action::Doubt { instance } => self.doubt(&instance),
            Action::Terminate { instance, cause } => self.terminate(&instance, cause),
            Action::CallTerminate { instance } => self.call_terminate(&instance),
            Action::Alert { instance } => self.alert(&instance),
            Action::Drain { node, cause } => self.drain(&node, cause),
            Action::Tell { node } => self.tell(&node),
            Action::AskDrained { node } => self.ask_drained(&node),
            Action::CancelDrain { node } => self.cancel_drain(&node),
            Action::List { provider } => {
                let soft = self.providers.entry(provider.clone()).or_default();
                soft.listing = Some(self.now.core + self.settings.launch_patience(&provider));
                soft.listed = Some(self.now.core);
                let fleet = self.state.meta.fleet.clone();
                self.effect(Effect::List {
                    provider,
                    fleet,
                    began: self.now,
                });
                Ok(Reply::Done)
            }
            Action::Prices { provider } => {
                if self.prices_due(&provider) > self.now.core {
                    return Err(Rejection::precondition(format!(
                        "the prices of {provider} are not due"
                    )));
                }
                self.ask_prices(&provider);
                self.effect(Effect::Prices { provider });
                Ok(Reply::Done)
            }
            Action::TerminateUnclaimed { provider, machine } => {
                let key = (provider.clone(), machine.clone());
                let known = self.state.unclaimed.get(&key);
                let pool = known
                    .and_then(|unclaimed| unclaimed.instance.as_ref())
                    .and_then(|id| self.state.instances.get(id))
                    .map(|instance| instance.pool.clone())
                    .ok_or_else(|| {
                        Rejection::not_found(format!("no intent explains {machine} of {provider}"))
                    })?;
                self.may_end_unclaimed(&pool, &provider, &machine, self.now.core)
                    .map_err(|block| blocked(&block))?;
                self.unclaimed_asked.insert(key, self.now.core);
                self.look_at(Some(pool));
                self.effect(Effect::TerminateUnclaimed {
                    provider,
                    provider_id: machine,
                });
                Ok(Reply::Done)
            }
            Action::Resize { pool, nodes } => self.resize(&pool, nodes),
            Action::OpenBreaker { pool, signature } => {
                self.open_breaker(&pool, &signature);
                Ok(Reply::Done)
            }
            Action::JudgeProbe {
                pool,
                signature,
                proven,
            } => {
                self.judge_probe(&pool, &signature, proven);
                Ok(Reply::Done)
            }
            Action::Note(note) => {
                self.note(note);
                Ok(Reply::Done)
            }
            Action::ClearNote(note) => {
                let key = (note.pool, note.about, note.guard, note.action);
                self.notes.remove(&key);
                Ok(Reply::Done)
            }
        }
    }

    fn instance(&self, id: &InstanceId) -> Result<Instance, Rejection> {
        self.state
            .instances
            .get(id)
            .map(|instance| Instance::clone(instance))
            .ok_or_else(|| Rejection::not_found(format!("instance not found: {id}")))
    }

    fn request(
        &mut self,
        pool: &PoolName,
        cause: LaunchCause,
        offering: Offering,
        ids: &mut dyn IdSource,
    ) -> Result<Reply, Rejection> {
        self.must_be_on(pool).map_err(|block| blocked(&block))?;
        let place = self
            .may_request(pool, self.now.core)
            .map_err(|block| blocked(&block))?;
        let settings = self
            .pool_settings(pool)
            .ok_or_else(|| Rejection::not_found(format!("pool not found: {pool}")))?;
        // Facts that changed since the plan choose another one: the next plan says which.
        let first = settings.offerings.get(place).map(|one| &*one.offering);
        if first != Some(&offering) {
            return Err(Rejection::precondition(format!(
                "placement: {offering} is not the one to ask any more"
            )));
        }
        let labels = settings.config.labels.clone();
        let mut id = InstanceId::new(fresh("nv", ids));
        while self.state.instances.contains_key(&id) {
            id = InstanceId::new(fresh("nv", ids));
        }
        let words = match &cause {
            LaunchCause::Grow => "the pool has fewer machines than asked for".to_owned(),
            LaunchCause::Replace { instance } => format!("replaces {instance}"),
            LaunchCause::Adopted => "adopted".to_owned(),
        };
        let instance = Instance {
            id,
            pool: pool.clone(),
            offering,
            labels,
            phase: Phase::Requested,
            phase_since: self.now,
            created: self.now,
            ready: None,
            ended: None,
            provider_id: None,
            node: None,
            cause,
            end: None,
            attempt: 0,
            launches: 0,
            retry_at: None,
            failures: 0,
            launch_deadline: None,
            clean: true,
            doubted: false,
            absent_listings: 0,
            was_active: false,
            active_since: None,
            sighting: None,
            interruption: None,
            message: words.clone(),
        };
        let subject = self.instance_subject(&instance);
        self.event(
            EventKind::InstancePhase,
            subject,
            format!("requested at {}: {words}", instance.offering),
            [("to", "requested".to_owned())],
        );
        self.put_instance(instance);
        Ok(Reply::Done)
    }

    /// Starts a call for an instance: the attempt is on record before the call is made.
    fn begin_call(&mut self, instance: &mut Instance, kind: CallKind) -> CallKey {
        instance.attempt += 1;
        instance.retry_at = None;
        let patience = self.settings.launch_patience(&instance.offering.provider);
        let call = UnderWay {
            attempt: instance.attempt,
            kind,
            until: self.now.core + patience,
            called_back: false,
        };
        self.calls.insert(instance.id.clone(), call);
        CallKey {
            instance: instance.id.clone(),
            attempt: instance.attempt,
            provider: instance.offering.provider.clone(),
        }
    }

    fn launch(&mut self, id: &InstanceId) -> Result<Reply, Rejection> {
        let mut instance = self.instance(id)?;
        let repeat = instance.phase == Phase::Launching && instance.clean;
        if !(repeat || instance.phase == Phase::Requested)
            || self.call_under_way(id, self.now.core).is_some()
        {
            return Err(Rejection::precondition(format!(
                "instance {id} is {}",
                instance.phase.word()
            )));
        }
        self.may_launch(&instance, self.now.core)
            .map_err(|block| blocked(&block))?;
        let key = self.begin_call(&mut instance, CallKind::Launch);
        instance.launches += 1;
        instance.clean = false;
        instance.absent_listings = 0;
        let provider = &instance.offering.provider;
        let answered = self.now.core + self.settings.launch_patience(provider);
        let deadline = answered - self.settings.request_timeout(provider);
        instance.launch_deadline = Some(answered);
        let spec = LaunchSpec {
            instance: instance.id.clone(),
            fleet: self.state.meta.fleet.clone(),
            pool: instance.pool.clone(),
            offering: instance.offering.clone(),
            labels: instance.labels.clone(),
        };
        if instance.phase == Phase::Requested {
            self.move_instance(instance, Phase::Launching, "the cloud is asked");
        } else {
            self.put_instance(instance);
        }
        self.effect(Effect::Launch {
            key,
            spec,
            deadline,
        });
        Ok(Reply::Done)
    }

    /// Calls launches back that may not be made any more, or of which too many are under way. Those
    /// that have not begun are answered so, and whether they are wanted is judged anew.
    pub(super) fn cancel_launches(&mut self) {
        let keys: Vec<CallKey> = self
            .calls
            .iter()
            .filter(|(_, call)| call.kind == CallKind::Launch)
            .filter_map(|(id, call)| Some((self.state.instances.get(id)?, call)))
            .filter(|(instance, _)| {
                let pool = &instance.pool;
                let memory = self.remembered(pool, &instance.offering.to_string());
                let rests = memory.and_then(|memory| memory.retry_at);
                if rests.is_some_and(|at| self.now.core < at) {
                    return true;
                }
                self.must_be_on(pool).is_err()
                    || self.pool_settings(pool).is_none()
                    || self.staying(pool) > self.target(pool)
            })
            .map(|(instance, call)| CallKey {
                instance: instance.id.clone(),
                attempt: call.attempt,
                provider: instance.offering.provider.clone(),
            })
            .collect();
        for key in keys {
            if let Some(call) = self.calls.get_mut(&key.instance) {
                call.called_back = true;
            }
            self.effect(Effect::CancelLaunch { key });
        }
    }

    fn give_up(&mut self, id: &InstanceId) -> Result<Reply, Rejection> {
        let mut instance = self.instance(id)?;
        self.must_be_on(&instance.pool)
            .map_err(|block| blocked(&block))?;
        let why = self.unwanted(&instance, self.now.core).ok_or_else(|| {
            Rejection::precondition(format!("the launch of instance {id} is still wanted"))
        })?;
        let cause = if self.has_excess(&instance.pool) {
            EndCause::Shrink
        } else {
            EndCause::Moved
        };
        if instance.doubted {
            // An earlier call's answer was lost: the machine may exist after all.
            self.commit_termination(instance, cause, &why);
        } else {
            instance.end = Some(cause);
            self.doubt_unlisted(&mut instance);
            self.move_instance(instance, Phase::Failed, &why);
        }
        Ok(Reply::Done)
    }

    fn lookup(&mut self, id: &InstanceId) -> Result<Reply, Rejection> {
        let mut instance = self.instance(id)?;
        if !instance.phase.may_be_alive()
            || self.call_under_way(id, self.now.core).is_some()
            || self.rests_until(&instance, self.now.core).is_some()
        {
            return Err(Rejection::precondition(format!(
                "instance {id} needs no look-up"
            )));
        }
        // Nobody waits for the launch's answer any more: it was lost with a process.
        instance.doubted |= instance.phase == Phase::Launching && !instance.clean;
        let key = self.begin_call(&mut instance, CallKind::Lookup);
        let effect = Effect::Lookup {
            key,
            provider: instance.offering.provider.clone(),
            fleet: self.state.meta.fleet.clone(),
            provider_id: instance.provider_id.clone(),
        };
        self.put_instance(instance);
        self.effect(effect);
        Ok(Reply::Done)
    }

    fn doubt(&mut self, id: &InstanceId) -> Result<Reply, Rejection> {
        let mut instance = self.instance(id)?;
        if instance.phase != Phase::Launching || self.now.core < self.doubt_at(&instance) {
            return Err(Rejection::precondition(format!(
                "instance {id} is {}",
                instance.phase.word()
            )));
        }
        instance.doubted |= !instance.clean;
        instance.clean = false;
        self.calls.remove(id);
        self.move_instance(
            instance,
            Phase::OutcomeUnknown,
            "no answer to the launch in time",
        );
        Ok(Reply::Done)
    }

    fn terminate(&mut self, id: &InstanceId, cause: EndCause) -> Result<Reply, Rejection> {
        let instance = self.instance(id)?;
        if !instance.phase.may_become(Phase::Terminating) {
            return Err(Rejection::precondition(format!(
                "instance {id} is {}",
                instance.phase.word()
            )));
        }
        self.may_terminate(&instance, &cause, self.now.core)
            .map_err(|block| blocked(&block))?;
        let why = cause.phrase();
        if matches!(
            cause,
            EndCause::Repair { .. } | EndCause::Shrink | EndCause::Interruption
        ) {
            self.tell_of_deadline(&instance);
        }
        self.commit_termination(instance, cause, &why);
        Ok(Reply::Done)
    }

    fn call_terminate(&mut self, id: &InstanceId) -> Result<Reply, Rejection> {
        let mut instance = self.instance(id)?;
        let provider_id = instance.provider_id.clone();
        let (Phase::Terminating, Some(provider_id), false) = (
            instance.phase,
            provider_id,
            self.call_under_way(id, self.now.core).is_some(),
        ) else {
            return Err(Rejection::precondition(format!(
                "instance {id} is {}",
                instance.phase.word()
            )));
        };
        let key = self.begin_call(&mut instance, CallKind::Terminate);
        let provider = instance.offering.provider.clone();
        self.put_instance(instance);
        self.effect(Effect::Terminate {
            key,
            provider,
            provider_id,
        });
        Ok(Reply::Done)
    }

    fn alert(&mut self, id: &InstanceId) -> Result<Reply, Rejection> {
        let instance = self.instance(id)?;
        if !self.is_overdue(&instance, self.now.core) || !self.alerted.insert(id.clone()) {
            return Err(Rejection::precondition(format!(
                "instance {id} needs no alert"
            )));
        }
        self.look_at(Some(instance.pool.clone()));
        let subject = self.instance_subject(&instance);
        let machine = instance.provider_id.as_ref().map_or_else(
            || "a machine that nobody found".to_owned(),
            ToString::to_string,
        );
        let message = format!(
            "{machine} at {} was to go {} s ago and is not proven gone: look at it in its cloud; \
             {}",
            instance.offering,
            self.now.core.since(instance.phase_since.core).as_secs(),
            instance.message
        );
        self.event(EventKind::TerminationOverdue, subject, message, []);
        Ok(Reply::Done)
    }

    fn live_node(&self, id: &NodeId) -> Result<Node, Rejection> {
        self.state
            .nodes
            .get(id)
            .filter(|node| node.lifecycle == Lifecycle::Registered)
            .map(|node| Node::clone(node))
            .ok_or_else(|| Rejection::not_found(format!("node not found: {id}")))
    }

    fn drain(&mut self, id: &NodeId, cause: DrainCause) -> Result<Reply, Rejection> {
        let mut node = self.live_node(id)?;
        if node.our_drain().is_some() {
            return Err(Rejection::precondition(format!(
                "node {id} is being drained already"
            )));
        }
        let why = self
            .may_drain(&node, &cause, 0, self.now.core)
            .map_err(|block| blocked(&block))?;
        // Intents that nobody wants go first.
        if let (DrainCause::Shrink, Some(pool)) = (&cause, &node.pool)
            && self.excess(pool, self.unwanted_intents(pool, self.now.core).0.len()) == 0
        {
            return Err(Rejection::precondition(format!(
                "size: pool {pool} gives intents up first, and needs node {id} then"
            )));
        }
        let subject = Subject {
            incident: match &cause {
                DrainCause::Incident(incident) => Some(incident.clone()),
                DrainCause::Shrink | DrainCause::Interruption | DrainCause::Terminating => None,
            },
            ..self.node_subject(&node)
        };
        self.event(EventKind::DrainStarted, subject, why.clone(), []);
        if let (DrainCause::Incident(incident), Some(instance)) = (&cause, node.instance.clone()) {
            self.remember_repair(incident, &node, instance);
        }
        self.add_hold(&mut node, HoldKind::Drain(cause), &why);
        if let Some(soft) = self.soft.get_mut(id) {
            (
                soft.ask_drained_at,
                soft.asking_drained,
                soft.drain_questions,
            ) = (None, None, 0);
            soft.drain_error.clear();
        }
        self.put_node(node, &why);
        Ok(Reply::Done)
    }

    fn ask_drained(&mut self, id: &NodeId) -> Result<Reply, Rejection> {
        let node = self.live_node(id)?;
        let Some((_, hold)) = node.our_drain() else {
            return Err(Rejection::precondition(format!(
                "node {id} is not being drained"
            )));
        };
        if hold.drained.is_some() || !self.knows_of_drain(&node) {
            return Err(Rejection::precondition(format!(
                "the scheduler does not know yet that node {id} is to be drained"
            )));
        }
        let limit = self.settings.notifier.call_timeout;
        let now = self.now.core;
        let since = hold.since;
        self.look_at(node.pool.clone());
        let soft = self.soft.entry(id.clone()).or_default();
        let wait = doubled(ASK_DRAINED.0, soft.drain_questions, ASK_DRAINED.1);
        soft.drain_questions = soft.drain_questions.saturating_add(1);
        soft.asking_drained = Some(now + limit * 2);
        soft.ask_drained_at = Some(now + wait);
        self.effect(Effect::AskDrained {
            node: id.clone(),
            since,
            limit,
        });
        Ok(Reply::Done)
    }

    pub(crate) fn drain_result(
        &mut self,
        id: &NodeId,
        since: Stamp,
        drained: Result<bool, String>,
    ) {
        let Ok(mut node) = self.live_node(id) else {
            return;
        };
        let now = self.now;
        let knows = self.knows_of_drain(&node);
        // What is said of a drain that was taken back says nothing of one that began since.
        let Some((_, hold)) = node
            .holds
            .iter_mut()
            .find(|(kind, hold)| matches!(kind, HoldKind::Drain(_)) && hold.since == since)
        else {
            return;
        };
        if let Some(soft) = self.soft.get_mut(id) {
            soft.asking_drained = None;
        }
        self.look_at(node.pool.clone());
        let why = match drained {
            Ok(true) if !knows => return,
            Ok(true) => "the scheduler says that the node is empty",
            Ok(false) => {
                self.drain_error(id, String::new());
                return;
            }
            Err(why) => {
                self.drain_error(id, why);
                return;
            }
        };
        if hold.drained.is_some() {
            return;
        }
        hold.drained = Some(now);
        let subject = self.node_subject(&node);
        self.event(EventKind::DrainFinished, subject, why, []);
        self.put_node(node, why);
    }

    fn drain_error(&mut self, id: &NodeId, why: String) {
        if let Some(soft) = self.soft.get_mut(id) {
            soft.drain_error = why;
        }
    }

    /// Says that a drain ended without the scheduler's word, if its machine goes by one.
    fn tell_of_deadline(&mut self, instance: &Instance) {
        let Some(node) = self.node_of(instance).cloned() else {
            return;
        };
        let Some((_, hold)) = node.our_drain().filter(|(_, hold)| hold.drained.is_none()) else {
            return;
        };
        let mut message = format!(
            "its deadline passed after {} s and the scheduler has not said that the node is empty",
            self.now.core.since(hold.since.core).as_secs()
        );
        let said = self.soft.get(&node.id).map(|soft| &soft.drain_error);
        if let Some(said) = said.filter(|said| !said.is_empty()) {
            message.push_str(": ");
            message.push_str(said);
        }
        let subject = self.node_subject(&node);
        self.event(EventKind::DrainFinished, subject, message, []);
    }

    fn cancel_drain(&mut self, id: &NodeId) -> Result<Reply, Rejection> {
        let mut node = self.live_node(id)?;
        let Some(cause) = node.our_drain().map(|(cause, _)| cause.clone()) else {
            return Err(Rejection::precondition(format!(
                "node {id} is not being drained"
            )));
        };
        let why = self.drain_is_void(&node, &cause).ok_or_else(|| {
            Rejection::precondition(format!("the cause of the drain of node {id} still stands"))
        })?;
        let subject = self.node_subject(&node);
        self.event(EventKind::DrainCancelled, subject, why.clone(), []);
        self.remove_hold(&mut node, &HoldKind::Drain(cause), &why);
        self.put_node(node, &why);
        Ok(Reply::Done)
    }

    fn note(&mut self, note: Note) {
        let key = (
            note.pool.clone(),
            note.about.clone(),
            note.guard,
            note.action.clone(),
        );
        let known = self.notes.get(&key);
        if known.is_some_and(|known| known.cause == note.cause) {
            return;
        }
        let node = NodeId::new(note.about.as_str());
        let instance = InstanceId::new(note.about.as_str());
        let subject = Subject {
            pool: Some(note.pool.clone()),
            node: self.state.nodes.contains_key(&node).then_some(node),
            instance: self
                .state
                .instances
                .contains_key(&instance)
                .then_some(instance),
            ..Subject::default()
        };
        let kind = if note.guard == "would" {
            EventKind::WouldAct
        } else {
            EventKind::GuardBlocked
        };
        let message = if note.guard == "would" {
            format!("would {}: {}", note.action, note.reason)
        } else {
            format!("{} waits: {}", note.action, note.reason)
        };
        let guard = ("guard", note.guard.to_owned());
        let action = ("action", note.action.clone());
        match note.cause {
            "" => self.event(kind, subject, message, [guard, action]),
            cause => {
                let cause = ("cause", cause.to_owned());
                self.event(kind, subject, message, [guard, action, cause]);
            }
        }
        self.notes.insert(key, note);
    }
}

pub(super) fn blocked(block: &navarch_policy::guards::Block) -> Rejection {
    Rejection::precondition(format!("{}: {}", block.guard, block.reason))
}

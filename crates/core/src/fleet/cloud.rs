//! What clouds answer: launches, look-ups, terminations.

use navarch_model::{
    CloudStatus, EndCause, EventKind, IdSource, Idempotency, Instance, Machine, Phase,
    ProviderError, ProviderErrorKind, ProviderInstanceId, ProviderName, Sighting, Subject,
    TerminateAnswer,
};

use crate::fleet::{CallKind, Fleet};
use crate::input::CallKey;

/// After this many launch calls without a machine the intent is given up.
pub(crate) const MAX_LAUNCH_CALLS: u32 = 5;
/// After this many launch calls in a row that a cloud did not serve, the offering rests, if its pool
/// has another. Lower leaves a cloud for trouble of seconds, higher waits for one that is down.
const UNSERVED_CALLS: u32 = 5;
/// Complete listings, begun after the launch deadline, that prove a machine absent.
pub(crate) const PROOF_LISTINGS: u32 = 2;

/// Whether a launch call was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// It was.
    Yes,
    /// Its turn did not come in time: it waited behind others that the cloud was slow to answer.
    TooLate,
    /// We called it back, which says nothing of its cloud.
    CalledBack,
}

impl Fleet {
    pub(crate) fn idempotency(&self, provider: &ProviderName) -> Idempotency {
        self.settings
            .providers
            .get(provider)
            .map_or(Idempotency::None, |provider| provider.idempotency)
    }

    /// Ends the bookkeeping of a call. Answers the instance if the answer is to its latest call.
    pub(super) fn answered(&mut self, key: &CallKey, kind: CallKind) -> Option<(Instance, bool)> {
        let call = self.calls.get(&key.instance);
        let fresh = call.is_some_and(|call| (call.attempt, call.kind) == (key.attempt, kind));
        if fresh {
            self.calls.remove(&key.instance);
            let known = self.state.instances.get(&key.instance);
            let pool = known.map(|instance| instance.pool.clone());
            self.look_at(pool);
        }
        let instance = Instance::clone(self.state.instances.get(&key.instance)?);
        if !fresh {
            let subject = self.instance_subject(&instance);
            self.event(
                EventKind::StaleResult,
                subject,
                format!("answer to {kind:?} attempt {} came late", key.attempt).to_lowercase(),
                [],
            );
        }
        Some((instance, fresh))
    }

    /// A launch call was not begun.
    pub(crate) fn launch_not_begun(&mut self, key: &CallKey, why: String, ids: &mut dyn IdSource) {
        let call = self.calls.get(&key.instance);
        let called_back = call.is_some_and(|call| call.called_back);
        let made = if called_back {
            Made::CalledBack
        } else {
            Made::TooLate
        };
        let error = ProviderError::new(ProviderErrorKind::Transient, why);
        self.launch_result(key, Err(error), made, ids);
    }

    /// A launch call ended.
    pub(crate) fn launch_result(
        &mut self,
        key: &CallKey,
        result: Result<Machine, ProviderError>,
        made: Made,
        ids: &mut dyn IdSource,
    ) {
        let no_word = made == Made::CalledBack;
        let Some((mut instance, fresh)) = self.answered(key, CallKind::Launch) else {
            if let Ok(machine) = result {
                self.outlived(&key.provider, &machine);
            }
            return;
        };
        match result {
            // Never dropped, however late: it proves that a machine exists.
            Ok(machine) => {
                self.offering_accepted(&instance);
                self.machine_exists(instance, &machine, "the cloud made the machine");
            }
            Err(error) if !fresh => self.late_launch_error(instance, &error),
            Err(error) => {
                self.provider_error(&instance, "launch", &error);
                instance.failures += u32::from(!no_word);
                if made != Made::Yes {
                    instance.launches = instance.launches.saturating_sub(1);
                }
                match error.kind {
                    ProviderErrorKind::OutcomeUnknown | ProviderErrorKind::NotFound => {
                        instance.clean = false;
                        instance.doubted = true;
                        self.retry_later(&mut instance, error.retry_after);
                        if instance.phase == Phase::Launching {
                            self.move_instance(
                                instance,
                                Phase::OutcomeUnknown,
                                &format!("launch answer lost: {}", error.message),
                            );
                        } else {
                            self.put_instance(instance);
                        }
                    }
                    ProviderErrorKind::RateLimit | ProviderErrorKind::Transient => {
                        instance.clean = true;
                        instance.message = format!("launch will be retried: {error}");
                        self.retry_later(&mut instance, error.retry_after);
                        if !no_word && self.is_unserved(&instance) {
                            self.offering_refused(&instance, &error, ids);
                        }
                        self.put_instance(instance);
                    }
                    ProviderErrorKind::Capacity
                    | ProviderErrorKind::Quota
                    | ProviderErrorKind::Auth
                    | ProviderErrorKind::Configuration => {
                        self.offering_refused(&instance, &error, ids);
                        // A refusal does not say that no earlier call succeeded.
                        if instance.doubted {
                            instance.clean = false;
                            self.retry_later(&mut instance, error.retry_after);
                            self.put_instance(instance);
                        } else if matches!(instance.phase, Phase::Launching | Phase::OutcomeUnknown)
                        {
                            instance.end = Some(EndCause::LaunchRefused);
                            self.move_instance(instance, Phase::Failed, &error.to_string());
                        } else if instance.phase == Phase::Terminating
                            && instance.provider_id.is_none()
                        {
                            // It was given up meanwhile, and the refusal proves it absent.
                            self.move_instance(instance, Phase::Terminated, &error.to_string());
                        } else {
                            // The machine showed itself otherwise: the refusal is not to be believed.
                            self.put_instance(instance);
                        }
                    }
                }
            }
        }
    }

    /// Whether a cloud did not serve so many launch calls in a row that another one is asked: those
    /// of this instance, or one that was to find out whether a refusal is over.
    fn is_unserved(&self, instance: &Instance) -> bool {
        let settings = self.pool_settings(&instance.pool);
        if settings.is_none_or(|settings| settings.offerings.len() < 2) {
            return false;
        }
        let memory = self.remembered(&instance.pool, &instance.offering.to_string());
        let now = self.now.core;
        let rests = memory.and_then(|memory| memory.retry_at);
        let refused = memory.is_some_and(|memory| memory.refusals > 0);
        (refused || instance.failures >= UNSERVED_CALLS) && rests.is_none_or(|at| now >= at)
    }

    /// An answer shows a machine whose record is gone: nobody claims it.
    pub(super) fn outlived(&mut self, provider: &ProviderName, machine: &Machine) {
        let on_record = self.state.instances.values().any(|instance| {
            instance.offering.provider == *provider
                && instance.provider_id.as_ref() == Some(&machine.provider_id)
        });
        if !on_record && machine.status != CloudStatus::Terminated {
            self.unclaimed_found(provider, machine);
        }
    }

    /// A launch call that was given up says after all that it made nothing. That settles the
    /// outcome if it was the only call.
    pub(super) fn late_launch_error(&mut self, mut instance: Instance, error: &ProviderError) {
        if !error.kind.made_nothing() || instance.launches != 1 || instance.provider_id.is_some() {
            return;
        }
        let why = format!("the launch made nothing: {error}");
        match instance.phase {
            Phase::Launching | Phase::OutcomeUnknown => {
                self.calls.remove(&instance.id);
                instance.doubted = false;
                instance.clean = true;
                self.retry_later(&mut instance, error.retry_after);
                if instance.phase == Phase::OutcomeUnknown {
                    self.move_instance(instance, Phase::Launching, &why);
                } else {
                    instance.message = why;
                    self.put_instance(instance);
                }
            }
            Phase::Terminating => self.prove_gone(instance, &why),
            Phase::Requested
            | Phase::PendingRegistration
            | Phase::Running
            | Phase::Terminated
            | Phase::Failed => {}
        }
    }

    /// The cloud showed a machine with the instance's id.
    pub(super) fn machine_exists(&mut self, mut instance: Instance, machine: &Machine, why: &str) {
        if !instance.phase.may_be_alive() {
            self.unclaimed_found(&instance.offering.provider.clone(), machine);
            return;
        }
        if let Some(known) = instance
            .provider_id
            .as_ref()
            .filter(|known| **known != machine.provider_id)
        {
            // A second machine for one intent: the late twin goes, the first stays.
            let message = format!(
                "the cloud has {} beside {known} for one intent",
                machine.provider_id
            );
            let provider = instance.offering.provider.clone();
            let subject = self.instance_subject(&instance);
            self.unclaimed_seen(&provider, machine, subject, message);
            return;
        }
        // A launch that was given up made a machine after all: it was paid for.
        if instance.provider_id.is_none()
            && instance.phase == Phase::Terminating
            && instance.end == Some(EndCause::LaunchAbandoned)
        {
            self.launch_wasted(&instance);
        }
        instance.provider_id = Some(machine.provider_id.clone());
        instance.failures = 0;
        instance.retry_at = None;
        self.see(&mut instance, machine.status);
        let interruption = self.interruption_seen(&mut instance, machine);
        match instance.phase {
            Phase::Requested | Phase::Launching | Phase::OutcomeUnknown => {
                self.move_instance(
                    instance,
                    Phase::PendingRegistration,
                    "waiting for node to register",
                );
            }
            Phase::PendingRegistration
            | Phase::Running
            | Phase::Terminating
            | Phase::Terminated
            | Phase::Failed => {
                if self
                    .state
                    .instances
                    .get(&instance.id)
                    .is_none_or(|before| **before != instance)
                {
                    instance.message = interruption.unwrap_or_else(|| why.to_owned());
                    self.put_instance(instance);
                }
            }
        }
    }

    /// Records what the cloud says of a machine; a repeat of the same word only counts.
    pub(super) fn see(&self, instance: &mut Instance, status: CloudStatus) {
        let before = instance.sighting.map(|sighting| sighting.status);
        if instance.phase == Phase::Terminating
            && before == Some(CloudStatus::Terminating)
            && status == CloudStatus::Running
        {
            // The cloud accepted that it goes, and a listing lags behind: that the slot of its
            // disruption is free is not taken back.
            return;
        }
        let in_a_row = match instance.sighting {
            Some(before) if before.status == status => before.in_a_row.saturating_add(1),
            _ => 1,
        };
        // A machine that keeps running is news only while its node is silent or lost.
        let node = instance.node.as_ref();
        let silent = match node.and_then(|node| self.state.nodes.get(node)) {
            Some(node) => node.silent_since.is_some(),
            None => instance.phase == Phase::Running,
        };
        if status == CloudStatus::Running && in_a_row > 1 && !silent {
            return;
        }
        instance.sighting = Some(Sighting {
            status,
            at: self.now,
            in_a_row,
        });
    }

    pub(super) fn retry_later(&self, instance: &mut Instance, asked: Option<std::time::Duration>) {
        let wait = self.settings.backoff(instance.failures.saturating_sub(1));
        instance.retry_at = Some(self.now.core + asked.map_or(wait, |asked| asked.max(wait)));
    }

    pub(super) fn provider_error(
        &mut self,
        instance: &Instance,
        call: &str,
        error: &ProviderError,
    ) {
        let subject = self.instance_subject(instance);
        let provider = &instance.offering.provider;
        let message = format!("{call} at {}: {error}", instance.offering);
        self.call_failed(
            subject,
            message,
            call,
            provider,
            instance.provider_id.as_ref(),
            error,
        );
    }

    /// Records that a call failed. What is equal in all of these is the same trouble.
    pub(super) fn call_failed(
        &mut self,
        subject: Subject,
        message: String,
        call: &str,
        provider: &ProviderName,
        machine: Option<&ProviderInstanceId>,
        error: &ProviderError,
    ) {
        let call = ("call", call.to_owned());
        let kind = ("kind", error.kind.word().to_owned());
        let provider = ("provider", provider.to_string());
        let event = EventKind::ProviderError;
        match machine {
            Some(machine) => {
                let machine = ("machine", machine.to_string());
                self.event(event, subject, message, [call, kind, provider, machine]);
            }
            None => self.event(event, subject, message, [call, kind, provider]),
        }
    }

    pub(crate) fn lookup_result(
        &mut self,
        key: &CallKey,
        result: Result<Option<Machine>, ProviderError>,
    ) {
        let Some((mut instance, fresh)) = self.answered(key, CallKind::Lookup) else {
            if let Ok(Some(machine)) = result {
                self.outlived(&key.provider, &machine);
            }
            return;
        };
        match result {
            Ok(Some(machine)) if machine.status != CloudStatus::Terminated => {
                self.machine_exists(instance, &machine, "the cloud has the machine");
            }
            _ if !fresh => {}
            Ok(found) => {
                let status = found.map_or(CloudStatus::NotFound, |machine| machine.status);
                self.see(&mut instance, status);
                instance.failures = 0;
                self.absent(instance, status);
            }
            Err(error) => {
                self.provider_error(&instance, "lookup", &error);
                instance.failures += 1;
                self.retry_later(&mut instance, error.retry_after);
                self.put_instance(instance);
            }
        }
    }

    /// A look-up said that the machine is not there, or no longer.
    pub(super) fn absent(&mut self, mut instance: Instance, status: CloudStatus) {
        let known = instance.provider_id.is_some();
        let gone = status == CloudStatus::Terminated || (known && status == CloudStatus::NotFound);
        match instance.phase {
            Phase::Terminating if gone => {
                self.prove_gone(instance, "the cloud says that it is gone");
            }
            Phase::Launching | Phase::OutcomeUnknown => {
                let honours =
                    self.idempotency(&instance.offering.provider) == Idempotency::TokenOrName;
                if status == CloudStatus::Terminated {
                    self.commit_termination(
                        instance,
                        EndCause::Vanished,
                        "it was made and is gone already",
                    );
                } else if honours && instance.launches < MAX_LAUNCH_CALLS {
                    // The same token: a second call cannot make a second machine.
                    instance.clean = true;
                    instance.failures = instance.launches;
                    self.retry_later(&mut instance, None);
                    if instance.phase == Phase::OutcomeUnknown {
                        self.move_instance(
                            instance,
                            Phase::Launching,
                            "the cloud does not know it: the call is repeated with the same token",
                        );
                    } else {
                        self.put_instance(instance);
                    }
                } else if instance.phase == Phase::OutcomeUnknown && honours {
                    self.commit_termination(
                        instance,
                        EndCause::LaunchAbandoned,
                        "the launch is given up; two complete listings must lack it",
                    );
                } else {
                    // Where no token is honoured, only listings settle an unknown outcome: until they
                    // do, the intent keeps its place and no other machine is bought for it.
                    self.retry_later(&mut instance, None);
                    self.put_instance(instance);
                }
            }
            // Whether a machine that ran is gone is for the plan to judge, with every guard. While its
            // agent is heard the answer may stay the same for long: it is asked less and less often.
            Phase::PendingRegistration | Phase::Running => {
                instance.failures = instance.sighting.map_or(0, |sighting| sighting.in_a_row);
                self.retry_later(&mut instance, None);
                self.put_instance(instance);
            }
            Phase::Requested | Phase::Terminating | Phase::Terminated | Phase::Failed => {
                self.retry_later(&mut instance, None);
                self.put_instance(instance);
            }
        }
    }

    pub(crate) fn terminate_result(
        &mut self,
        key: &CallKey,
        result: Result<TerminateAnswer, ProviderError>,
    ) {
        let Some((mut instance, fresh)) = self.answered(key, CallKind::Terminate) else {
            return;
        };
        if !fresh || instance.phase != Phase::Terminating {
            return;
        }
        match result {
            Ok(TerminateAnswer::Gone) => self.prove_gone(instance, "instance terminated"),
            Ok(TerminateAnswer::Accepted) => {
                instance.failures = 0;
                self.see(&mut instance, CloudStatus::Terminating);
                instance.retry_at = Some(self.now.core + self.settings.guards.terminate.retry_wait);
                instance.message = "the cloud accepted the termination".to_owned();
                self.put_instance(instance);
            }
            Err(error) => {
                self.provider_error(&instance, "terminate", &error);
                instance.failures += 1;
                self.retry_later(&mut instance, error.retry_after);
                instance.message = format!("termination will be retried: {error}");
                self.put_instance(instance);
            }
        }
    }
}

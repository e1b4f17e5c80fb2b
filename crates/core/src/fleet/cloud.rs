//! What clouds answer: launches, look-ups, terminations, listings.

use std::collections::BTreeMap;

use navarch_model::{
    Change, CloudStatus, DrainCause, EndCause, Ending, EventKind, HoldKind, IdSource, Idempotency,
    Instance, InstanceId, Lifecycle, Machine, Node, Phase, ProviderError, ProviderErrorKind,
    ProviderInstanceId, ProviderName, Sighting, Stamp, Subject, TerminateAnswer, Unclaimed,
};
use std::sync::Arc;

use super::{CallKind, Fleet};
use crate::input::CallKey;
use crate::settings::doubled;

/// After this many launch calls without a machine the intent is given up.
pub(crate) const MAX_LAUNCH_CALLS: u32 = 5;
/// Complete listings, begun after the launch deadline, that prove a machine absent.
pub(crate) const PROOF_LISTINGS: u32 = 2;

impl Fleet {
    pub(crate) fn idempotency(&self, provider: &ProviderName) -> Idempotency {
        self.settings
            .providers
            .get(provider)
            .map_or(Idempotency::None, |provider| provider.idempotency)
    }

    /// Ends the bookkeeping of a call. Answers the instance if the answer is to its latest call.
    fn answered(&mut self, key: &CallKey, kind: CallKind) -> Option<(Instance, bool)> {
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

    pub(crate) fn launch_result(
        &mut self,
        key: &CallKey,
        result: Result<Machine, ProviderError>,
        ids: &mut dyn IdSource,
    ) {
        let Some((mut instance, fresh)) = self.answered(key, CallKind::Launch) else {
            if let Ok(machine) = result {
                self.outlived(&key.provider, &machine);
            }
            return;
        };
        match result {
            // Never dropped, however late: it proves that a machine exists.
            Ok(machine) => self.machine_exists(instance, &machine, "the cloud made the machine"),
            Err(error) if !fresh => self.late_launch_error(instance, &error),
            Err(error) => {
                self.provider_error(&instance, "launch", &error);
                instance.failures += 1;
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

    /// An answer shows a machine whose record is gone: nobody claims it.
    fn outlived(&mut self, provider: &ProviderName, machine: &Machine) {
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
    fn late_launch_error(&mut self, mut instance: Instance, error: &ProviderError) {
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
    fn machine_exists(&mut self, mut instance: Instance, machine: &Machine, why: &str) {
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
                    instance.message = why.to_owned();
                    self.put_instance(instance);
                }
            }
        }
    }

    /// Records what the cloud says of a machine; a repeat of the same word only counts.
    fn see(&self, instance: &mut Instance, status: CloudStatus) {
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

    fn retry_later(&self, instance: &mut Instance, asked: Option<std::time::Duration>) {
        let wait = self.settings.backoff(instance.failures.saturating_sub(1));
        instance.retry_at = Some(self.now.core + asked.map_or(wait, |asked| asked.max(wait)));
    }

    fn provider_error(&mut self, instance: &Instance, call: &str, error: &ProviderError) {
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
    fn call_failed(
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

    fn offering_refused(
        &mut self,
        instance: &Instance,
        error: &ProviderError,
        ids: &mut dyn IdSource,
    ) {
        let (first, longest) = (
            self.settings.guards.launch_breaker.wait,
            self.settings.guards.launch_breaker.max_wait,
        );
        let now = self.now.core;
        let bits = ids.next_bits();
        self.change_offering(&instance.pool, &instance.offering, |memory| {
            let wait = doubled(first, memory.refusals, longest);
            // Full jitter over the upper half, so that pools do not ask in step.
            let half = wait / 2;
            let jitter = half.mul_f64((bits >> 11) as f64 / (1_u64 << 53) as f64);
            let wait = error
                .retry_after
                .map_or(half + jitter, |asked| asked.max(half + jitter));
            memory.refusals = memory.refusals.saturating_add(1);
            memory.retry_at = Some(now + wait);
            memory.last_refusal = error.to_string();
        });
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
    fn absent(&mut self, mut instance: Instance, status: CloudStatus) {
        let known = instance.provider_id.is_some();
        let gone = status == CloudStatus::Terminated || (known && status == CloudStatus::NotFound);
        match instance.phase {
            Phase::Terminating if gone => {
                self.prove_gone(instance, "the cloud says that it is gone");
            }
            Phase::Launching | Phase::OutcomeUnknown => {
                let retried =
                    self.idempotency(&instance.offering.provider) == Idempotency::TokenOrName;
                if status == CloudStatus::Terminated {
                    self.commit_termination(
                        instance,
                        EndCause::Vanished,
                        "it was made and is gone already",
                    );
                } else if retried && instance.launches < MAX_LAUNCH_CALLS {
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
                } else if instance.phase == Phase::OutcomeUnknown {
                    self.commit_termination(
                        instance,
                        EndCause::LaunchAbandoned,
                        "the launch is given up; two complete listings must lack it",
                    );
                } else {
                    self.retry_later(&mut instance, None);
                    self.put_instance(instance);
                }
            }
            // Whether a machine that ran is gone is for the plan to judge, with every guard.
            Phase::Requested
            | Phase::PendingRegistration
            | Phase::Running
            | Phase::Terminating
            | Phase::Terminated
            | Phase::Failed => {
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

    /// Commits to letting a machine go: the point of no return.
    pub(crate) fn commit_termination(
        &mut self,
        mut instance: Instance,
        cause: EndCause,
        why: &str,
    ) {
        // Nobody was asked for a mere intent, unless a machine with its id showed itself.
        let seen = instance.node.is_some()
            || instance.provider_id.is_some()
            || instance.sighting.is_some();
        if instance.phase == Phase::Requested && !seen {
            instance.end = Some(cause);
            self.move_instance(instance, Phase::Failed, why);
            return;
        }
        // A machine that was paid for and never became ACTIVE counts against its offering.
        if instance.provider_id.is_some()
            && !instance.was_active
            && !matches!(cause, EndCause::Operator | EndCause::Shrink)
        {
            self.launch_wasted(&instance);
        }
        instance.end = Some(cause);
        instance.retry_at = None;
        instance.failures = 0;
        if self
            .calls
            .get(&instance.id)
            .is_some_and(|call| call.kind == CallKind::Lookup)
        {
            self.calls.remove(&instance.id);
        }
        let node = instance.node.clone();
        self.move_instance(instance, Phase::Terminating, why);
        let Some(node) = node.and_then(|id| self.state.nodes.get(&id)) else {
            return;
        };
        let mut node = Node::clone(node);
        self.add_hold(&mut node, HoldKind::Drain(DrainCause::Terminating), why);
        self.put_node(node, why);
    }

    fn launch_wasted(&mut self, instance: &Instance) {
        let (limit, first, longest) = (
            self.settings.guards.launch_breaker.failures,
            self.settings.guards.launch_breaker.wait,
            self.settings.guards.launch_breaker.max_wait,
        );
        let now = self.now;
        let mut opened = false;
        self.change_offering(&instance.pool, &instance.offering, |memory| {
            let breaker = &mut memory.breaker;
            breaker.failures = breaker.failures.saturating_add(1);
            if breaker.is_open() || breaker.failures >= limit {
                opened = !breaker.is_open();
                breaker.opened = breaker.opened.or(Some(now));
                breaker.probe_at = Some(now.core + doubled(first, breaker.trips, longest));
                breaker.trips = breaker.trips.saturating_add(1);
                memory.proven = false;
            }
        });
        if opened {
            self.event(
                EventKind::BreakerOpened,
                Subject {
                    pool: Some(instance.pool.clone()),
                    ..Subject::default()
                },
                format!(
                    "launch breaker of {}: {limit} machines never became ACTIVE",
                    instance.offering
                ),
                [],
            );
        }
    }

    /// The machine is proven gone: the instance and its node end.
    fn prove_gone(&mut self, instance: Instance, why: &str) {
        let node = instance.node.clone();
        self.move_instance(instance, Phase::Terminated, why);
        let Some(node) = node.and_then(|id| self.state.nodes.get(&id)) else {
            return;
        };
        self.end_node(Node::clone(node), why);
    }

    /// A node's machine is gone, and everything that stood on it.
    pub(crate) fn end_node(&mut self, mut node: Node, why: &str) {
        node.lifecycle = Lifecycle::Terminated;
        node.terminated = Some(self.now);
        self.close_all(&mut node, &Ending::NodeTerminated);
        node.holds.clear();
        self.soft.remove(&node.id);
        self.put_node(node, why);
    }

    pub(crate) fn list_result(
        &mut self,
        provider: &ProviderName,
        began: Stamp,
        result: Result<(Vec<Machine>, bool), ProviderError>,
    ) {
        self.due.any = true;
        let soft = self.providers.entry(provider.clone()).or_default();
        if began.core < soft.looked_at {
            // A later one was looked at: this one was taken for lost.
            return;
        }
        soft.looked_at = began.core;
        soft.listing = None;
        let (machines, complete) = match result {
            Ok(listing) => {
                soft.failures = 0;
                listing
            }
            Err(error) => {
                soft.failures += 1;
                let failures = soft.failures;
                if failures.is_power_of_two() {
                    let message = format!("list at {provider}: {error} ({failures} in a row)");
                    self.call_failed(Subject::default(), message, "list", provider, None, &error);
                }
                return;
            }
        };
        // A machine that was adopted or is ended by an operator may have another id than its tag.
        let on_record: BTreeMap<&ProviderInstanceId, &InstanceId> = self
            .state
            .instances
            .values()
            .filter(|one| one.offering.provider == *provider && one.phase.may_be_alive())
            .filter_map(|one| Some((one.provider_id.as_ref()?, &one.id)))
            .collect();
        let mut by_instance: BTreeMap<InstanceId, &Machine> = BTreeMap::new();
        for machine in &machines {
            let recorded = on_record.get(&machine.provider_id).copied();
            let Some(id) = recorded.or(machine.instance.as_ref()) else {
                continue;
            };
            let known = self.state.instances.get(id);
            let bound = known.and_then(|instance| instance.provider_id.as_ref());
            // Of two machines for one intent the record knows one; the other is a stranger.
            let is_it = bound.is_none_or(|bound| *bound == machine.provider_id);
            if is_it && machine.status != CloudStatus::Terminated {
                by_instance.entry(id.clone()).or_insert(machine);
            }
        }
        let expected: Vec<Instance> = self
            .state
            .instances
            .values()
            .filter(|instance| {
                instance.offering.provider == *provider
                    && instance.phase.may_be_alive()
                    && instance.phase_since.core < began.core
            })
            .map(|instance| Instance::clone(instance))
            .collect();
        let vanished = expected
            .iter()
            .filter(|instance| {
                instance.provider_id.is_some()
                    && instance.phase != Phase::Terminating
                    && !by_instance.contains_key(&instance.id)
            })
            .count();
        let bought = expected
            .iter()
            .filter(|instance| instance.phase != Phase::Requested)
            .count();
        let limit = self.settings.guards.sweep.suspect.of(bought);
        let appeared = machines
            .iter()
            .filter(|machine| self.is_stranger(provider, machine, began))
            .filter(|machine| {
                let key = (provider.clone(), machine.provider_id.clone());
                !self.state.unclaimed.contains_key(&key)
            })
            .count();
        let vanishing = complete && vanished > limit;
        let suspect = if !complete {
            Some("the listing is partial".to_owned())
        } else if vanishing {
            Some(format!("{vanished} of {bought} machines vanished at once"))
        } else if appeared > limit {
            Some(format!(
                "{appeared} machines with our tag and without a record appeared at once"
            ))
        } else {
            None
        };
        self.set_suspect(provider, suspect);
        for instance in expected {
            match by_instance.get(&instance.id) {
                Some(machine) => {
                    self.machine_exists(instance, machine, "the cloud lists the machine");
                }
                // Even a listing that is not believed says what to look up by id.
                None if complete => self.not_listed(instance, began, vanished == 0),
                None => {}
            }
        }
        // Those that appeared are on record from now on: the next listing confirms them.
        if complete && !vanishing {
            self.strangers(provider, &machines, began);
        }
    }

    /// Whether a listed machine has our fleet id and no instance of ours explains it.
    fn is_stranger(&self, provider: &ProviderName, machine: &Machine, began: Stamp) -> bool {
        let live = !matches!(
            machine.status,
            CloudStatus::Terminated | CloudStatus::NotFound
        );
        let ours = machine.fleet.as_ref() == Some(&self.state.meta.fleet);
        let known = machine
            .instance
            .as_ref()
            .and_then(|id| self.state.instances.get(id))
            .is_some_and(|instance| {
                let bound = instance.provider_id.as_ref();
                let is_it = bound.is_none_or(|id| *id == machine.provider_id);
                // The listing says nothing about what changed after it began.
                let changed = instance.phase_since.core >= began.core;
                is_it && (changed || instance.phase.may_be_alive())
            });
        live && ours && !known && !self.is_recorded(provider, machine, began)
    }

    /// Whether a machine is on record under another id than that of its tag.
    fn is_recorded(&self, provider: &ProviderName, machine: &Machine, began: Stamp) -> bool {
        self.state.instances.values().any(|instance| {
            instance.provider_id.as_ref() == Some(&machine.provider_id)
                && instance.offering.provider == *provider
                && (instance.phase.may_be_alive() || instance.phase_since.core >= began.core)
        })
    }

    fn set_suspect(&mut self, provider: &ProviderName, suspect: Option<String>) {
        let soft = self.providers.entry(provider.clone()).or_default();
        let before = std::mem::replace(&mut soft.suspect, suspect.clone());
        if before != suspect {
            self.look_at_all();
        }
        if let (None, Some(why)) = (before, suspect) {
            self.event(
                EventKind::ListingSuspect,
                Subject::default(),
                format!("listing of {provider} is not believed: {why}"),
                [("provider", provider.to_string())],
            );
        }
    }

    /// A believed listing lacks an instance. It proves absence only if it lacks nothing that is
    /// known to exist.
    fn not_listed(&mut self, mut instance: Instance, began: Stamp, proof: bool) {
        let after_deadline = instance
            .launch_deadline
            .is_none_or(|deadline| began.core >= deadline);
        match instance.phase {
            Phase::OutcomeUnknown | Phase::Terminating
                if proof && instance.provider_id.is_none() && after_deadline =>
            {
                instance.absent_listings += 1;
                if instance.absent_listings < PROOF_LISTINGS {
                    self.put_instance(instance);
                } else if instance.phase == Phase::Terminating {
                    self.prove_gone(instance, "two complete listings lack it");
                } else {
                    instance.end = Some(EndCause::LaunchAbandoned);
                    self.move_instance(instance, Phase::Failed, "two complete listings lack it");
                }
            }
            // A listing alone closes nothing: the next plan looks it up by id.
            Phase::PendingRegistration | Phase::Running
                if instance
                    .sighting
                    .is_none_or(|sighting| sighting.status != CloudStatus::NotFound) =>
            {
                self.see(&mut instance, CloudStatus::NotFound);
                if let Some(sighting) = &mut instance.sighting {
                    sighting.in_a_row = 0;
                }
                self.put_instance(instance);
            }
            _ => {}
        }
    }

    /// Machines with our fleet id that no instance of ours explains.
    fn strangers(&mut self, provider: &ProviderName, machines: &[Machine], began: Stamp) {
        for machine in machines {
            if self.is_stranger(provider, machine, began) {
                self.unclaimed_found(provider, machine);
            }
        }
        let gone: Vec<_> = self
            .state
            .unclaimed
            .keys()
            .filter(|(name, id)| {
                name == provider
                    && !machines.iter().any(|machine| {
                        machine.provider_id == *id && machine.status != CloudStatus::Terminated
                    })
            })
            .cloned()
            .collect();
        for key in gone {
            self.unclaimed_asked.remove(&key);
            self.put(Change::UnclaimedGone(key.0, key.1));
        }
    }

    fn unclaimed_found(&mut self, provider: &ProviderName, machine: &Machine) {
        let subject = Subject {
            instance: machine.instance.clone(),
            ..Subject::default()
        };
        let message = format!(
            "{provider} has {} with our tag and no record of it is alive",
            machine.provider_id
        );
        self.unclaimed_seen(provider, machine, subject, message);
    }

    /// Counts a sighting of a machine that nobody claims; the first is told.
    fn unclaimed_seen(
        &mut self,
        provider: &ProviderName,
        machine: &Machine,
        subject: Subject,
        message: String,
    ) {
        let key = (provider.clone(), machine.provider_id.clone());
        let known = self.state.unclaimed.get(&key);
        let sightings = known.map_or(0, |known| known.sightings) + 1;
        let unclaimed = Unclaimed {
            provider: provider.clone(),
            provider_id: machine.provider_id.clone(),
            instance: machine.instance.clone(),
            first_seen: known.map_or(self.now, |known| known.first_seen),
            sightings,
        };
        if sightings == 1 {
            let details = [
                ("provider", provider.to_string()),
                ("machine", machine.provider_id.to_string()),
            ];
            self.event(EventKind::UnclaimedFound, subject, message, details);
        }
        self.put(Change::Unclaimed(Arc::new(unclaimed)));
    }

    pub(crate) fn unclaimed_result(
        &mut self,
        provider: &ProviderName,
        machine: &ProviderInstanceId,
        result: Result<TerminateAnswer, ProviderError>,
    ) {
        match result {
            Ok(TerminateAnswer::Gone) => {
                let key = (provider.clone(), machine.clone());
                self.unclaimed_asked.remove(&key);
                self.put(Change::UnclaimedGone(key.0, key.1));
            }
            Ok(TerminateAnswer::Accepted) => {}
            Err(error) => {
                let message = format!("terminate of unclaimed {machine} at {provider}: {error}");
                let (subject, machine) = (Subject::default(), Some(machine));
                self.call_failed(subject, message, "terminate", provider, machine, &error);
            }
        }
    }
}

//! Listings: what a sweep of a cloud shows, and what it lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_model::{
    Change, CloudStatus, EndCause, EventKind, Instance, InstanceId, Machine, Phase, ProviderError,
    ProviderInstanceId, ProviderName, Stamp, Subject, TerminateAnswer, Unclaimed,
};

use crate::fleet::{Fleet, PROOF_LISTINGS};

impl Fleet {
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
                    // What the cloud said that it takes back is no surprise, nor if it comes early.
                    && instance.interruption.is_none()
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
        if suspect.is_none() && vanished == 0 {
            self.count_for_intents(provider);
        }
        if suspect.is_none() {
            self.interruptions_over(provider, &by_instance, began);
        }
        self.set_suspect(provider, suspect);
        for instance in expected {
            match by_instance.get(&instance.id) {
                Some(machine) => {
                    let known = self.state.instances.get(&instance.id);
                    let instance = known.map_or(instance, |known| Instance::clone(known));
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

    /// A listing that is believed and lacks nothing that is known to exist counts for every intent
    /// of its provider. Enough of them settle it: what they show is no mere intent any more, and
    /// what they lack was not bought.
    fn count_for_intents(&mut self, provider: &ProviderName) {
        let mut pools = BTreeSet::new();
        let state = &self.state;
        self.unlisted.retain(|id, listings| {
            let Some(instance) = state.instances.get(id) else {
                return false;
            };
            if instance.offering.provider == *provider {
                *listings += 1;
                pools.insert(instance.pool.clone());
            }
            *listings < PROOF_LISTINGS
        });
        for pool in pools {
            self.look_at(Some(pool));
        }
    }

    /// Whether a listed machine has our fleet id and no instance of ours explains it.
    pub(super) fn is_stranger(
        &self,
        provider: &ProviderName,
        machine: &Machine,
        began: Stamp,
    ) -> bool {
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
    pub(super) fn is_recorded(
        &self,
        provider: &ProviderName,
        machine: &Machine,
        began: Stamp,
    ) -> bool {
        self.state.instances.values().any(|instance| {
            instance.provider_id.as_ref() == Some(&machine.provider_id)
                && instance.offering.provider == *provider
                && (instance.phase.may_be_alive() || instance.phase_since.core >= began.core)
        })
    }

    pub(super) fn set_suspect(&mut self, provider: &ProviderName, suspect: Option<String>) {
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
    pub(super) fn not_listed(&mut self, mut instance: Instance, began: Stamp, proof: bool) {
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
            // The cloud is likely done with it: the slot of its disruption is waited for.
            Phase::Terminating
                if instance.provider_id.is_some()
                    && instance.failures == 0
                    && instance.retry_at.is_some() =>
            {
                instance.retry_at = None;
                self.put_instance(instance);
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
    pub(super) fn strangers(
        &mut self,
        provider: &ProviderName,
        machines: &[Machine],
        began: Stamp,
    ) {
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

    pub(super) fn unclaimed_found(&mut self, provider: &ProviderName, machine: &Machine) {
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
    pub(super) fn unclaimed_seen(
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

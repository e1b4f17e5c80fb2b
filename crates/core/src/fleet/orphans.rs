//! Machines that no record knows: a person adopts them or ends them. And instances that a person
//! ends by their id.

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_model::ids::fresh;
use navarch_model::{
    Change, EndCause, EventKind, IdSource, Instance, InstanceId, LaunchCause, Lifecycle, Node,
    Offering, Phase, PoolName, ProviderInstanceId, ProviderName, Unclaimed,
};

use super::Fleet;
use crate::input::{Rejection, RejectionCode, Reply};
use crate::settings::PoolSettings;

impl Fleet {
    /// The record of a machine that a sweep found.
    pub(super) fn record_of(
        &self,
        id: InstanceId,
        (pool, offering): (PoolName, Offering),
        labels: BTreeMap<String, String>,
        machine: &Unclaimed,
        why: &str,
    ) -> Instance {
        Instance {
            id,
            pool,
            offering,
            labels,
            phase: Phase::PendingRegistration,
            phase_since: self.now,
            created: machine.first_seen,
            ready: None,
            ended: None,
            provider_id: Some(machine.provider_id.clone()),
            node: None,
            cause: LaunchCause::Adopted,
            end: None,
            attempt: 0,
            launches: 0,
            retry_at: None,
            failures: 0,
            launch_deadline: None,
            clean: false,
            doubted: false,
            absent_listings: 0,
            // It may have served before it was on record, so that every guard protects it.
            was_active: true,
            active_since: None,
            sighting: None,
            interruption: None,
            message: why.to_owned(),
        }
    }

    /// Puts a machine that nobody claimed on record.
    pub(super) fn claim(&mut self, instance: &Instance, machine: &Unclaimed, why: &str) {
        let subject = self.instance_subject(instance);
        self.event(
            EventKind::InstancePhase,
            subject,
            format!(
                "adopted {} of {}: {why}",
                machine.provider_id, machine.provider
            ),
            [("to", instance.phase.word().to_owned())],
        );
        self.put_instance(instance.clone());
        let key = (machine.provider.clone(), machine.provider_id.clone());
        self.unclaimed_asked.remove(&key);
        self.put(Change::UnclaimedGone(key.0, key.1));
    }

    /// The instance on record that is this machine and may be alive.
    pub(super) fn live_record(
        &self,
        provider: &ProviderName,
        machine: &ProviderInstanceId,
    ) -> Option<&Arc<Instance>> {
        self.state.instances.values().find(|instance| {
            instance.offering.provider == *provider
                && instance.phase.may_be_alive()
                && instance.provider_id.as_ref() == Some(machine)
        })
    }

    /// A machine that nobody claims, by the names that its cloud gives.
    fn orphan(
        &self,
        provider: &ProviderName,
        machine: &ProviderInstanceId,
    ) -> Result<Unclaimed, Rejection> {
        let key = (provider.clone(), machine.clone());
        if let Some(found) = self.state.unclaimed.get(&key) {
            return Ok(Unclaimed::clone(found));
        }
        if !self.settings.providers.contains_key(provider) {
            let known: Vec<_> = self
                .settings
                .providers
                .keys()
                .map(|one| one.as_str())
                .collect();
            return Err(Rejection::not_found(format!(
                "provider not found: {provider} (providers: {})",
                known.join(", ")
            )));
        }
        Err(Rejection::not_found(format!(
            "no listing of {provider} shows an unclaimed machine {machine}; `navarch instance list \
             --orphans` names those that one shows"
        )))
    }

    /// An operator takes a machine that nobody claims into a pool.
    pub(crate) fn adopt_machine(
        &mut self,
        provider: &ProviderName,
        machine: &ProviderInstanceId,
        pool: &PoolName,
        reason: &str,
        ids: &mut dyn IdSource,
    ) -> Result<Reply, Rejection> {
        self.known(pool)?;
        if let Some(instance) = self.live_record(provider, machine) {
            return Err(Rejection {
                code: RejectionCode::AlreadyExists,
                message: format!(
                    "{machine} of {provider} is claimed already: it is instance {} of pool {}",
                    instance.id, instance.pool
                ),
            });
        }
        let orphan = self.orphan(provider, machine)?;
        if let Some(record) = orphan
            .instance
            .as_ref()
            .and_then(|id| self.state.instances.get(id))
        {
            return Err(Rejection::precondition(format!(
                "{machine} of {provider} has the tag of instance {}, which is {}: it cannot be \
                 adopted; terminate it",
                record.id,
                record.phase.word()
            )));
        }
        let Some(settings) = self.pool_settings(pool).cloned() else {
            return Err(Rejection::not_found(format!("pool not found: {pool}")));
        };
        let Some(bought) = settings.found_at(provider, None) else {
            return Err(Rejection::precondition(format!(
                "{machine} is a machine of {provider}, and pool {pool} buys at {}",
                settings.provider_names()
            )));
        };
        let (place, labels) = ((*bought.offering).clone(), settings.config.labels.clone());
        let why = with_reason("claimed by an operator", reason);
        let id = self.id_for(&orphan, ids);
        let instance = self.record_of(id.clone(), (pool.clone(), place), labels, &orphan, &why);
        self.claim(&instance, &orphan, &why);
        // An agent that registered without our id is bound by the names that it could have.
        let names = [id.as_str(), machine.as_str()];
        let node = self
            .state
            .nodes
            .values()
            .find(|node| {
                node.lifecycle == Lifecycle::Registered
                    && node.instance.is_none()
                    && names.contains(&node.id.as_str())
            })
            .map(|node| Node::clone(node));
        if let Some(node) = node {
            self.bind(node, Some(Arc::new(instance)));
        }
        Ok(Reply::Instance(id))
    }

    /// Our id for a machine: the one in its tag, unless a record has it.
    fn id_for(&self, machine: &Unclaimed, ids: &mut dyn IdSource) -> InstanceId {
        let known = |id: &InstanceId| self.state.instances.contains_key(id);
        if let Some(id) = machine.instance.as_ref().filter(|id| !known(id)) {
            return id.clone();
        }
        let mut id = InstanceId::new(fresh("nv", ids));
        while known(&id) {
            id = InstanceId::new(fresh("nv", ids));
        }
        id
    }

    /// An operator ends a machine that nobody claims. Its record comes first, so that the
    /// termination outlives this control plane.
    pub(crate) fn end_unclaimed(
        &mut self,
        provider: &ProviderName,
        machine: &ProviderInstanceId,
        reason: &str,
        ids: &mut dyn IdSource,
    ) -> Result<Reply, Rejection> {
        if let Some(instance) = self.live_record(provider, machine) {
            let id = instance.id.clone();
            return self.end_instance(&id, reason);
        }
        let orphan = self.orphan(provider, machine)?;
        // The pool that its tag names, else one that buys where it is.
        let tagged = orphan
            .instance
            .as_ref()
            .and_then(|id| self.state.instances.get(id))
            .map(|record| record.pool.clone());
        let buys_here = |(name, pool): (&PoolName, &PoolSettings)| {
            let one = pool.found_at(provider, None)?;
            let place = (name.clone(), (*one.offering).clone());
            Some((place, pool.config.labels.clone()))
        };
        let found = tagged
            .and_then(|name| buys_here((&name, self.pool_settings(&name)?)))
            .or_else(|| self.settings.pools.iter().find_map(buys_here));
        let Some((place, labels)) = found else {
            return Err(Rejection::precondition(format!(
                "no pool buys at {provider}, so that nothing would see to the end of {machine}: \
                 configure one, or terminate the machine at {provider}"
            )));
        };
        let why = with_reason("an operator ends it", reason);
        let id = self.id_for(&orphan, ids);
        let instance = self.record_of(id.clone(), place, labels, &orphan, &why);
        self.claim(&instance, &orphan, &why);
        let why = with_reason("terminated by an operator", reason);
        self.commit_termination(instance, EndCause::Operator, &why);
        Ok(Reply::Instance(id))
    }

    /// An operator ends an instance on record.
    pub(crate) fn end_instance(
        &mut self,
        id: &InstanceId,
        reason: &str,
    ) -> Result<Reply, Rejection> {
        let Some(instance) = self.state.instances.get(id).cloned() else {
            return Err(Rejection::not_found(format!(
                "instance not found: {id}; a machine that no record knows is named PROVIDER/ID"
            )));
        };
        if !instance.phase.may_be_alive() {
            return Err(Rejection::precondition(format!(
                "instance {id} is {}: its machine is gone",
                instance.phase.word()
            )));
        }
        if instance.phase != Phase::Terminating {
            let why = with_reason("terminated by an operator", reason);
            self.commit_termination(Instance::clone(&instance), EndCause::Operator, &why);
        }
        Ok(Reply::Instance(id.clone()))
    }
}

/// Words with an operator's reason, if there is one.
pub(super) fn with_reason(words: &str, reason: &str) -> String {
    if reason.is_empty() {
        words.to_owned()
    } else {
        format!("{words}: {reason}")
    }
}

//! Registration: who is this machine, and what do we already know of it?

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_model::{
    BootId, DrainCause, Ending, EventKind, FaultKind, HealthStatus, Hold, HoldKind, IdSource,
    Incident, Instance, InstanceId, Lifecycle, Node, NodeId, NodeStatus, Phase, PoolName, Repair,
    Subject, Told, Unclaimed,
};

use super::Fleet;
use super::operator::{LEAVING, is_leaving_external};
use crate::input::{Registration, Rejection, RejectionCode, Reply};

/// What a registration under a known id means.
#[derive(Debug, PartialEq, Eq)]
enum Host {
    Same,
    Other,
}

impl Fleet {
    pub(crate) fn register(
        &mut self,
        registration: Registration,
        _ids: &mut dyn IdSource,
    ) -> Result<Reply, Rejection> {
        let Some(id) = registration.node.clone() else {
            return Err(Rejection::invalid("node_id is required"));
        };
        let mut adopted = None;
        let instance = match self.instance_for(&id, &registration) {
            Ok(instance) => instance,
            Err(sent) => match self.adoptable(&sent, &registration) {
                Ok((instance, machine)) => {
                    adopted = Some(machine);
                    Some(Arc::new(instance))
                }
                Err(why) => {
                    let message = format!(
                        "instance {sent} is not on record, and {why}; terminate the machine in its \
                         cloud, or start its agent without an instance id to register it as a \
                         machine that this fleet did not buy"
                    );
                    return Err(self.refuse(
                        &id,
                        &registration,
                        RejectionCode::FailedPrecondition,
                        message,
                    ));
                }
            },
        };
        if let Some(instance) = &instance {
            if !instance.phase.may_be_alive() {
                let message = format!(
                    "instance {} is {}; this machine is no longer part of the fleet",
                    instance.id,
                    instance.phase.word()
                );
                return Err(self.refuse(
                    &id,
                    &registration,
                    RejectionCode::FailedPrecondition,
                    message,
                ));
            }
            if let Some(other) = instance.node.as_ref().filter(|node| **node != id) {
                let message = format!(
                    "instance {} is bound to node {other}, not to {id}",
                    instance.id
                );
                return Err(self.refuse(&id, &registration, RejectionCode::AlreadyExists, message));
            }
        }
        let known = self.state.nodes.get(&id).cloned();
        let moved = match moved_from(known.as_deref(), instance.as_deref(), &registration) {
            Ok(moved) => moved,
            Err(message) => {
                return Err(self.refuse(&id, &registration, RejectionCode::AlreadyExists, message));
            }
        };
        let node = match known {
            Some(known) if moved.is_some() => self.register_replacement(&known, &registration),
            Some(known) if known.lifecycle == Lifecycle::Registered => {
                match same_host(&known, &registration) {
                    Host::Same => self.register_again(&known, &registration),
                    Host::Other if known.silent_since.is_none() => {
                        let message = format!(
                            "node {id} is registered from another host ({} at {}); this one is {} at {}",
                            known.description.hostname,
                            known.address,
                            registration.description.hostname,
                            registration.address
                        );
                        return Err(self.refuse(
                            &id,
                            &registration,
                            RejectionCode::AlreadyExists,
                            message,
                        ));
                    }
                    Host::Other => self.register_replacement(&known, &registration),
                }
            }
            Some(known) => {
                let mut node = self.new_node(&id, known.incarnation + 1, &registration);
                node.told.clone_from(&known.told);
                node
            }
            None => self.new_node(&id, 1, &registration),
        };
        if let Some(old) = moved {
            self.unbind(&old, &id);
        }
        if let (Some(machine), Some(instance)) = (adopted, &instance) {
            self.claim(instance, &machine, "its agent registered");
        }
        self.bind(node, instance);
        Ok(Reply::Done)
    }

    /// An instance loses its node, whose id another machine has now. Its own agent may still
    /// register under another id; else the plan lets the machine go.
    fn unbind(&mut self, id: &InstanceId, node: &NodeId) {
        let Some(instance) = self.state.instances.get(id) else {
            return;
        };
        let mut instance = Instance::clone(instance);
        let message = format!("node {node} is another machine now; waiting for its own agent");
        instance.node = None;
        instance.active_since = None;
        // One that is to go is asked for since then, whose node it was does not matter.
        if instance.phase != Phase::Terminating {
            instance.phase_since = self.now;
            instance.message.clone_from(&message);
        }
        let subject = self.instance_subject(&instance);
        self.event(EventKind::InstanceUnbound, subject, message, []);
        self.put_instance(instance);
    }

    /// The record of a machine that a sweep found with our tag and that no record knows, made from
    /// what it says of itself when its agent registers.
    ///
    /// # Errors
    ///
    /// Why it cannot be made, as the end of a sentence.
    fn adoptable(
        &self,
        sent: &InstanceId,
        registration: &Registration,
    ) -> Result<(Instance, Unclaimed), String> {
        let mut found = self
            .state
            .unclaimed
            .values()
            .filter(|machine| machine.instance.as_ref() == Some(sent));
        let (Some(machine), None) = (found.next(), found.next()) else {
            return Err("no sweep found exactly one machine with this id".to_owned());
        };
        let label = registration.description.labels.get("pool");
        let pool = label.map(|label| PoolName::new(label.as_str()));
        let settings = pool.as_ref().and_then(|pool| self.pool_settings(pool));
        let (Some(pool), Some(settings)) = (pool, settings) else {
            return Err(format!(
                "its agent's label pool is {}, which names no pool",
                label.map_or("missing", String::as_str)
            ));
        };
        let described = Some(&registration.description);
        let Some(bought) = settings.found_at(&machine.provider, described) else {
            return Err(format!(
                "it is a machine of {}, and pool {pool} buys at {}",
                machine.provider,
                settings.provider_names()
            ));
        };
        let (place, labels) = ((*bought.offering).clone(), settings.config.labels.clone());
        let why = "adopted: its agent registered";
        let instance = self.record_of(sent.clone(), (pool, place), labels, machine, why);
        Ok((instance, Unclaimed::clone(machine)))
    }

    fn refuse(
        &mut self,
        id: &NodeId,
        registration: &Registration,
        code: RejectionCode,
        message: String,
    ) -> Rejection {
        let subject = Subject {
            node: Some(id.clone()),
            instance: registration.instance.clone(),
            ..Subject::default()
        };
        self.event(EventKind::RegistrationRefused, subject, message.clone(), []);
        Rejection { code, message }
    }

    /// The instance that a registration comes from: by the id it sends, by a node id equal to
    /// ours, or by one equal to the cloud's.
    ///
    /// # Errors
    ///
    /// The id that it sends, if no record has it.
    fn instance_for(
        &self,
        id: &NodeId,
        registration: &Registration,
    ) -> Result<Option<Arc<Instance>>, InstanceId> {
        let instances = &self.state.instances;
        if let Some(sent) = &registration.instance {
            return match instances.get(sent) {
                Some(instance) => Ok(Some(Arc::clone(instance))),
                None => Err(sent.clone()),
            };
        }
        if let Some(own) = instances.get(&InstanceId::new(id.as_str())) {
            return Ok(Some(Arc::clone(own)));
        }
        Ok(instances
            .values()
            .find(|instance| {
                instance.phase.may_be_alive()
                    && instance
                        .provider_id
                        .as_ref()
                        .is_some_and(|cloud| cloud.as_str() == id.as_str())
            })
            .cloned())
    }

    fn new_node(&mut self, id: &NodeId, incarnation: u32, registration: &Registration) -> Node {
        let description = &registration.description;
        let mut node = Node {
            id: id.clone(),
            incarnation,
            lifecycle: Lifecycle::Registered,
            instance: None,
            pool: description
                .labels
                .get("pool")
                .map(|pool| PoolName::new(pool.as_str())),
            description: Arc::new(description.clone()),
            gpus_expected: 0,
            boot: registration.boot.clone(),
            session: registration.session.clone(),
            report_sequence: 0,
            holds: BTreeMap::new(),
            reported: HealthStatus::Unknown,
            registered: self.now,
            fresh_since: self.now,
            silent_since: None,
            terminated: None,
            open_incidents: BTreeMap::new(),
            address: registration.address.clone(),
            told: Told::default(),
        };
        if description.capabilities.full_reports {
            self.add_hold(
                &mut node,
                HoldKind::AdmissionGate,
                "new machine: awaits its first full report",
            );
        }
        let subject = self.node_subject(&node);
        self.event(
            EventKind::NodeRegistered,
            subject,
            format!(
                "registered with {} GPUs from {}",
                description.gpus.len(),
                if registration.address.is_empty() {
                    "an unknown address"
                } else {
                    &registration.address
                }
            ),
            [],
        );
        node
    }

    /// The same host again: an agent restart, or a reboot.
    fn register_again(&mut self, known: &Node, registration: &Registration) -> Node {
        let mut node = known.clone();
        node.description = Arc::new(registration.description.clone());
        node.address.clone_from(&registration.address);
        if node.session != registration.session {
            node.session.clone_from(&registration.session);
            node.report_sequence = 0;
        }
        if let Some(boot) = &registration.boot {
            self.note_boot(&mut node, boot);
        }
        // One that was told to end and could not say so is here after all.
        if is_leaving_external(&node) && !self.is_told_to_end(&node.id) {
            self.remove_hold(&mut node, &LEAVING, "its agent registered again");
        }
        node
    }

    /// Notices a new boot: proof of a reboot for what broke before it, and a gate to pass.
    pub(crate) fn note_boot(&mut self, node: &mut Node, boot: &BootId) {
        if node.boot.as_ref() == Some(boot) {
            return;
        }
        let rebooted = node.boot.is_some();
        node.boot = Some(boot.clone());
        if !rebooted {
            return;
        }
        if node.description.capabilities.full_reports {
            self.add_hold(
                node,
                HoldKind::AdmissionGate,
                "rebooted: awaits a full report",
            );
        }
        let open: Vec<_> = node.open_incidents.keys().cloned().collect();
        for id in open {
            let Some(incident) = self.state.incidents.get(&id) else {
                continue;
            };
            if incident.kind == FaultKind::Latched && incident.required <= Repair::Reboot {
                let mut incident = Incident::clone(incident);
                incident.repaired = Some((self.now, Repair::Reboot));
                let subject = self.incident_subject(&incident);
                self.event(
                    EventKind::IncidentChanged,
                    subject,
                    "the host rebooted: repaired, awaits the gate",
                    [],
                );
                self.put_incident(incident);
            }
        }
    }

    /// Another host under the id of one that went silent: nothing of the old one applies to it.
    fn register_replacement(&mut self, known: &Node, registration: &Registration) -> Node {
        let mut old = known.clone();
        self.close_all(&mut old, &Ending::HostReplaced);
        let mut node = self.new_node(&known.id, known.incarnation + 1, registration);
        // The old machine's binding is not inherited: the new one proves its own, or is external.
        if known.instance.is_none() && node.pool.is_none() {
            node.pool.clone_from(&known.pool);
        }
        // What an operator said of the name still holds, and so does what the scheduler heard.
        node.told.clone_from(&known.told);
        for (kind, hold) in &known.holds {
            if kind.is_operators() {
                node.holds.insert(kind.clone(), hold.clone());
            }
        }
        node
    }

    /// Stores the node and, if it runs on an instance of ours, moves that along.
    pub(super) fn bind(&mut self, mut node: Node, instance: Option<Arc<Instance>>) {
        let gpus = u32::try_from(node.description.gpus.len()).unwrap_or(u32::MAX);
        node.gpus_expected = node.gpus_expected.max(gpus);
        let Some(instance) = instance else {
            self.put_node(node, "registered");
            return;
        };
        node.instance = Some(instance.id.clone());
        node.pool = Some(instance.pool.clone());
        if let Some(expected) = self
            .pool_settings(&instance.pool)
            .and_then(|pool| pool.at(&instance.offering)?.gpus)
        {
            node.gpus_expected = node.gpus_expected.max(expected);
        }
        if instance.phase == Phase::Terminating {
            self.add_hold(
                &mut node,
                HoldKind::Drain(DrainCause::Terminating),
                "its instance is being terminated",
            );
        }
        let mut bound = Instance::clone(&instance);
        bound.node = Some(node.id.clone());
        if bound.ready.is_none() {
            bound.ready = Some(self.now);
        }
        match bound.phase {
            // A machine that registers proves its launch, whatever the record knows of a call.
            Phase::Requested
            | Phase::Launching
            | Phase::OutcomeUnknown
            | Phase::PendingRegistration => {
                self.move_instance(bound, Phase::Running, "node registered successfully");
            }
            _ if bound != *instance => self.put_instance(bound),
            _ => {}
        }
        if instance.phase != Phase::Terminating {
            // It was told to end while nothing was known of its machine.
            self.remove_hold(&mut node, &LEAVING, "its machine is on record");
        }
        let active = node.status() == NodeStatus::Active;
        self.put_node(node, "registered");
        let unknown = |one: &Arc<Instance>| one.active_since.is_none();
        if active && self.state.instances.get(&instance.id).is_some_and(unknown) {
            self.node_status_changed(&instance.id, true);
        }
    }

    pub(crate) fn add_hold(&mut self, node: &mut Node, kind: HoldKind, reason: &str) {
        let hold = Hold {
            reason: reason.to_owned(),
            since: self.now,
            expires: None,
            drained: None,
        };
        // A gate that stands is set again: what came before no longer counts towards it.
        if node.holds.contains_key(&kind) && kind != HoldKind::AdmissionGate {
            return;
        }
        let subject = self.node_subject(node);
        let name = kind.name();
        self.event(
            EventKind::HoldAdded,
            subject,
            if reason.is_empty() {
                name.clone()
            } else {
                format!("{name}: {reason}")
            },
            [("hold", name)],
        );
        node.holds.insert(kind, hold);
    }

    pub(crate) fn remove_hold(&mut self, node: &mut Node, kind: &HoldKind, why: &str) {
        if node.holds.remove(kind).is_none() {
            return;
        }
        let subject = self.node_subject(node);
        let name = kind.name();
        self.event(
            EventKind::HoldRemoved,
            subject,
            format!("{name}: {why}"),
            [("hold", name)],
        );
    }
}

/// The instance that a live node is bound to, if the registration comes from another machine: it
/// names another instance, or it names none and comes from another host.
///
/// # Errors
///
/// Why the binding does not move: the node is heard, or an operator holds it.
fn moved_from(
    known: Option<&Node>,
    instance: Option<&Instance>,
    registration: &Registration,
) -> Result<Option<InstanceId>, String> {
    let Some(known) = known.filter(|known| known.lifecycle == Lifecycle::Registered) else {
        return Ok(None);
    };
    let Some(bound) = known.instance.clone() else {
        return Ok(None);
    };
    let silent = known.silent_since.is_some();
    match instance {
        Some(instance) if instance.id == bound => return Ok(None),
        Some(instance) if !silent => {
            return Err(format!(
                "node {} is bound to instance {bound} and is heard: instance {} must register \
                 under a node id of its own",
                known.id, instance.id
            ));
        }
        Some(_) => {}
        None if !silent || same_host(known, registration) == Host::Same => return Ok(None),
        None => {}
    }
    if known.is_held_by_operator() {
        return Err(format!(
            "node {} is bound to instance {bound} and an operator holds it ({}): another machine \
             may have its id once the hold is lifted; until then it must register under a node id \
             of its own",
            known.id,
            known.hold_names().join(", ")
        ));
    }
    Ok(Some(bound))
}

/// Equal machine ids decide; else a shared GPU that is not a fake one; else the host name.
fn same_host(known: &Node, registration: &Registration) -> Host {
    let (old, new) = (&known.description, &registration.description);
    if !old.machine_id.is_empty() && !new.machine_id.is_empty() {
        return if old.machine_id == new.machine_id {
            Host::Same
        } else {
            Host::Other
        };
    }
    let shared = new.gpus.iter().any(|gpu| {
        !gpu.uuid.is_empty()
            && !is_fake_uuid(&gpu.uuid)
            && known.gpu_uuids().contains(gpu.uuid.as_str())
    });
    if shared || old.hostname.is_empty() || new.hostname.is_empty() || old.hostname == new.hostname
    {
        Host::Same
    } else {
        Host::Other
    }
}

/// UUIDs of fake GPUs are equal on many hosts: ours by their prefix, the Go project's by their
/// form, which repeats the index in every group.
fn is_fake_uuid(uuid: &str) -> bool {
    if uuid.starts_with("GPU-fake") {
        return true;
    }
    let Some(groups) = uuid.strip_prefix("GPU-") else {
        return false;
    };
    let mut numbers = groups.split('-').map(|group| group.parse::<u32>().ok());
    match numbers.next() {
        Some(Some(first)) => numbers.all(|number| number == Some(first)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fake_uuids_are_told_from_real_ones() {
        for (uuid, fake) in [
            ("GPU-00000003-0003-0003-0003-000000000003", true),
            ("GPU-fake-7f3a-0", true),
            ("GPU-8f3c1d2e-1b2c-3d4e-5f60-718293a4b5c6", false),
            ("GPU-00000003-0003-0003-0003-000000000004", false),
            ("", false),
        ] {
            assert_eq!(is_fake_uuid(uuid), fake, "{uuid}");
        }
    }
}

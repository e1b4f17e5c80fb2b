//! Machines that their cloud takes back: what it says of them, and whether it still says so.

use std::collections::{BTreeMap, BTreeSet};

use navarch_model::{
    CloudStatus, EventKind, Instance, InstanceId, Interruption, Machine, Node, Phase, ProviderName,
    Stamp,
};

use crate::fleet::Fleet;

impl Fleet {
    /// When the cloud takes the machine of a node back, if it says so.
    pub(crate) fn interruption_of(&self, node: &Node) -> Option<Interruption> {
        let instance = self.state.instances.get(node.instance.as_ref()?)?;
        instance.interruption
    }

    /// Records that the cloud takes a machine back, if what it shows says so. Answers the line for
    /// people if that is new.
    pub(super) fn interruption_seen(
        &mut self,
        instance: &mut Instance,
        machine: &Machine,
    ) -> Option<String> {
        let wall = machine.interruption_at?;
        if instance.phase == Phase::Terminating {
            return None;
        }
        let now = self.now;
        let left = wall.since(now.wall);
        let at = Stamp {
            core: now.core + left - now.wall.since(wall),
            wall,
        };
        let known = instance.interruption.filter(|known| known.at.wall == wall);
        if let Some(known) = known {
            // Fleet time stood still while no control plane ran. A jump of the wall clock moves
            // nothing.
            if known.seen.core < self.presence().since {
                instance.interruption = Some(Interruption { seen: now, at });
            }
            return None;
        }
        instance.interruption = Some(Interruption { seen: now, at });
        let message = format!("the cloud takes the machine back in {} s", left.as_secs());
        let subject = self.instance_subject(instance);
        let provider = ("provider", instance.offering.provider.to_string());
        self.event(
            EventKind::Interruption,
            subject,
            message.clone(),
            [provider],
        );
        Some(message)
    }

    /// Forgets that the cloud takes machines back which two believed listings in a row show running
    /// without a word of it. Both began after it was heard of: clouds list with a delay, and a drain
    /// that is cancelled for one late answer begins again when the machine is about to go.
    pub(super) fn interruptions_over(
        &mut self,
        provider: &ProviderName,
        listed: &BTreeMap<InstanceId, &Machine>,
        began: Stamp,
    ) {
        let kept: BTreeSet<InstanceId> = listed
            .iter()
            .filter(|(_, machine)| {
                machine.interruption_at.is_none() && machine.status == CloudStatus::Running
            })
            .map(|(id, _)| id)
            .filter(|id| {
                let known = self
                    .state
                    .instances
                    .get(*id)
                    .and_then(|one| one.interruption);
                known.is_some_and(|known| began.core > known.seen.core)
            })
            .cloned()
            .collect();
        let soft = self.providers.entry(provider.clone()).or_default();
        let before = std::mem::take(&mut soft.kept);
        soft.kept = kept.difference(&before).cloned().collect();
        for id in kept.intersection(&before) {
            let Some(instance) = self.state.instances.get(id) else {
                continue;
            };
            let mut instance = Instance::clone(instance);
            instance.interruption = None;
            let subject = self.instance_subject(&instance);
            let message = "the cloud does not take the machine back any more";
            let provider = ("provider", provider.to_string());
            self.event(EventKind::InterruptionOver, subject, message, [provider]);
            self.put_instance(instance);
        }
    }
}

//! Machines that their cloud takes back: what it says of them, and whether it still says so.

use std::time::Duration;

use navarch_model::{CloudStatus, EventKind, Instance, Interruption, Machine, Node, Phase, Stamp};

use crate::fleet::Fleet;

/// How far fleet time and Unix time may go apart before the moment of an interruption is reckoned
/// anew. Less writes the record again for every correction of a clock, more lets a drain end late.
const DRIFT: Duration = Duration::from_secs(1);

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
            let apart = known.at.core.since(at.core) + at.core.since(known.at.core);
            if apart >= DRIFT {
                instance.interruption = Some(Interruption { at, ..known });
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

    /// Forgets that the cloud takes a machine back, once a listing that began later shows the machine
    /// running and says nothing of it. Other answers may be older than what is on record.
    pub(super) fn interruption_over(
        &mut self,
        instance: &mut Instance,
        machine: &Machine,
        began: Stamp,
    ) {
        let later = |known: Interruption| began.core > known.seen.core;
        if machine.interruption_at.is_some()
            || machine.status != CloudStatus::Running
            || !instance.interruption.is_some_and(later)
        {
            return;
        }
        instance.interruption = None;
        let subject = self.instance_subject(instance);
        let message = "the cloud does not take the machine back any more";
        let provider = ("provider", instance.offering.provider.to_string());
        self.event(EventKind::InterruptionOver, subject, message, [provider]);
    }
}

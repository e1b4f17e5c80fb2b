//! What people do: commands, holds, switches, machines that nobody claims, copies put back.

use std::time::Duration;

use navarch_core::{Input, NamedHold};
use navarch_model::{
    Automation, HoldKind, IncidentId, NodeCommandType, NodeId, PoolName, ProviderInstanceId,
    ProviderName,
};

use crate::judge::Judge;
use crate::world::{Event, Sim};

/// What named holds are called.
const HOLD_NAMES: [&str; 3] = ["slurm", "upgrade", "visit"];
/// Who sets them.
const HOLD_OWNERS: [&str; 2] = ["ops", "scheduler"];

impl Sim {
    /// An operator commands.
    pub(crate) fn command(&mut self, node: NodeId, kind: NodeCommandType) {
        self.note("human", format_args!("{} {node}", kind.short()));
        self.operate(Input::Command {
            node,
            kind,
            parameters: [("reason".to_owned(), "because".to_owned())].into(),
        });
    }

    /// An operator says that a silent machine is dead.
    pub(crate) fn confirm(&mut self, node: NodeId) {
        self.note("human", format_args!("confirm that {node} is dead"));
        self.operate(Input::ConfirmDead {
            node,
            reason: "because".to_owned(),
        });
    }

    /// An operator chooses the mode of the fleet.
    pub(crate) fn automation(&mut self, mode: Automation) {
        self.note("human", format_args!("automation {}", mode.word()));
        self.operate(Input::SetAutomation {
            pool: None,
            mode,
            reason: "because".to_owned(),
        });
    }

    /// An operator puts another health policy in force; where no control plane runs, the next one
    /// starts with it.
    pub(crate) fn another_policy(&mut self) {
        if self.plane.process.is_some() && self.now < self.plane.paused_until {
            return;
        }
        self.wake_all();
        self.judge = Judge::drawn(&mut self.policies);
        let text = self.judge.text.clone();
        self.note("human", format_args!("changes the health policy: {text:?}"));
        // What was said before is judged by new rules when it is said again.
        for host in self.hosts.values_mut() {
            host.settled = false;
        }
        let policy = self.core_policy();
        self.operate(Input::SetPolicy(policy));
    }

    /// Somebody sets or lifts a named hold on a node.
    pub(crate) fn hold_at_random(&mut self) {
        let nodes: Vec<NodeId> = self.seen.nodes.keys().cloned().collect();
        let Some(node) = self.operators.pick(&nodes).cloned() else {
            return;
        };
        let name = self.operators.pick(&HOLD_NAMES).copied().unwrap_or("visit");
        let owner = self.operators.pick(&HOLD_OWNERS).copied().unwrap_or("ops");
        if self.operators.chance(0.4) {
            self.lift(node, name);
            return;
        }
        let lasts = self
            .operators
            .chance(0.5)
            .then(|| self.operators.between(5_000, 1_200_000));
        let drains = self.operators.chance(0.3);
        self.hold(node, name, owner, drains, lasts);
    }

    /// Somebody holds a node beside the control plane.
    pub(crate) fn hold(
        &mut self,
        node: NodeId,
        name: &str,
        owner: &str,
        drains: bool,
        lasts: Option<Duration>,
    ) {
        self.note("human", format_args!("{owner} holds {node} as {name}"));
        let hold = NamedHold {
            name: name.to_owned(),
            owner: owner.to_owned(),
            reason: "because".to_owned(),
            drains,
            lasts,
        };
        self.operate(Input::AddHold { node, hold });
    }

    /// Somebody lifts a named hold.
    pub(crate) fn lift(&mut self, node: NodeId, name: &str) {
        self.note("human", format_args!("lifts {name} of {node}"));
        self.operate(Input::RemoveHold {
            node,
            name: name.to_owned(),
            reason: "because".to_owned(),
        });
    }

    /// Somebody adopts or ends a machine that nobody claims, or ends an instance.
    pub(crate) fn orphans_at_random(&mut self) {
        let unclaimed: Vec<_> = self.seen.unclaimed.keys().cloned().collect();
        if let Some((provider, machine)) = self.operators.pick(&unclaimed).cloned() {
            if self.operators.chance(0.5) {
                let pools: Vec<PoolName> = self.settings.pools.keys().cloned().collect();
                if let Some(pool) = self.operators.pick(&pools).cloned() {
                    self.adopt(provider, machine, pool);
                }
            } else {
                self.end_unclaimed(provider, machine);
            }
            return;
        }
        let instances: Vec<_> = self.seen.instances.keys().cloned().collect();
        if let Some(instance) = self.operators.pick(&instances).cloned() {
            self.note("human", format_args!("ends instance {instance}"));
            let reason = "because".to_owned();
            self.operate(Input::EndInstance { instance, reason });
        }
    }

    /// Somebody takes a machine that nobody claims into a pool.
    pub(crate) fn adopt(
        &mut self,
        provider: ProviderName,
        machine: ProviderInstanceId,
        pool: PoolName,
    ) {
        self.note("human", format_args!("adopts {machine} into {pool}"));
        self.operate(Input::AdoptMachine {
            provider,
            machine,
            pool,
            reason: "because".to_owned(),
        });
    }

    /// Somebody ends a machine that nobody claims.
    pub(crate) fn end_unclaimed(&mut self, provider: ProviderName, machine: ProviderInstanceId) {
        self.note("human", format_args!("ends {machine}, which nobody claims"));
        self.operate(Input::EndUnclaimed {
            provider,
            machine,
            reason: "because".to_owned(),
        });
    }

    /// A person ends every machine that nobody claims.
    pub fn end_orphans(&mut self) {
        let unclaimed: Vec<_> = self.seen.unclaimed.keys().cloned().collect();
        for (provider, machine) in unclaimed {
            self.end_unclaimed(provider, machine);
        }
        self.as_neighbour(Self::end_orphans);
    }

    /// An operator resets the breakers of a pool, closes an incident, or says of a silent machine
    /// that it is dead.
    pub(crate) fn person_at_random(&mut self) {
        match self.operators.below(3) {
            0 => {
                let pools: Vec<PoolName> = self.settings.pools.keys().cloned().collect();
                if let Some(pool) = self.operators.pick(&pools).cloned() {
                    self.note("human", format_args!("resets the breakers of {pool}"));
                    let signature = None;
                    self.operate(Input::ResetBreaker { pool, signature });
                }
            }
            1 => {
                let open: Vec<IncidentId> = self
                    .seen
                    .incidents
                    .values()
                    .filter(|incident| incident.is_open())
                    .map(|incident| incident.id.clone())
                    .collect();
                if let Some(incident) = self.operators.pick(&open).cloned() {
                    self.note("human", format_args!("closes incident {incident}"));
                    let reason = "because".to_owned();
                    self.operate(Input::CloseIncident { incident, reason });
                }
            }
            _ => {
                let silent: Vec<NodeId> = self
                    .seen
                    .nodes
                    .values()
                    .filter(|node| node.silent_since.is_some())
                    .map(|node| node.id.clone())
                    .collect();
                if let Some(node) = self.operators.pick(&silent).cloned() {
                    self.confirm(node);
                }
            }
        }
    }

    /// The last copy of the store is put back, and a person looks at it for a while before they
    /// turn automation on.
    pub(crate) fn restore_at_random(&mut self) {
        self.restore();
        if self.plane.waits_for_person {
            let looks = self.operators.between(120_000, 1_200_000);
            self.queue.push(self.now + looks, Event::Looked);
        }
    }

    pub(crate) fn operate(&mut self, input: Input) {
        if self.plane.process.is_some() && self.now >= self.plane.paused_until {
            self.turn(vec![input]);
        }
    }

    /// Trouble stops: what is broken stays broken, and nothing else breaks. The control plane
    /// runs, automation is on, and calls are answered.
    pub fn calm_down(&mut self, uncordon: bool) {
        self.wake_all();
        self.troubled = false;
        self.cloud.behave();
        self.plane.paused_until = self.now;
        self.plane.down_until = self.now;
        for host in self.hosts.values_mut() {
            host.cut_until = self.now;
        }
        self.note("fault", format_args!("trouble stops"));
        if self.plane.process.is_none() {
            self.start_plane();
        }
        self.automation(Automation::On);
        let pools: Vec<PoolName> = self.settings.pools.keys().cloned().collect();
        for pool in pools {
            if self
                .seen
                .pools
                .get(&pool)
                .is_some_and(|pool| pool.automation.is_some())
            {
                self.operate(Input::SetAutomation {
                    pool: Some(pool),
                    mode: Automation::On,
                    reason: "because".to_owned(),
                });
            }
        }
        if uncordon {
            let held: Vec<NodeId> = self
                .seen
                .nodes
                .values()
                .filter(|node| node.terminated.is_none() && node.is_held_by_operator())
                .map(|node| node.id.clone())
                .collect();
            for node in held {
                self.command(node, NodeCommandType::Uncordon);
            }
            let named: Vec<(NodeId, String)> = self
                .seen
                .nodes
                .values()
                .filter(|node| node.terminated.is_none())
                .flat_map(|node| node.holds.keys().map(|kind| (node.id.clone(), kind)))
                .filter_map(|(node, kind)| match kind {
                    HoldKind::Named { name, .. } => Some((node, name.clone())),
                    _ => None,
                })
                .collect();
            for (node, name) in named {
                self.lift(node, &name);
            }
        }
        self.as_neighbour(|other| other.calm_down(uncordon));
    }
}

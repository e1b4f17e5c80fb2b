//! Trouble: faults of machines, of the cloud and of the network, and what operators do.

use std::time::Duration;

use navarch_core::Input;
use navarch_model::{
    Automation, CloudStatus, NodeCommandType, NodeId, PoolName, ProviderErrorKind,
    ProviderInstanceId, Time,
};

use crate::cloud::Listing;
use crate::config::Trouble;
use crate::world::{Event, Sim};

/// XIDs that come by themselves, from harmless to fatal.
const XIDS: [u32; 8] = [79, 48, 74, 31, 13, 94, 63, 119];

impl Sim {
    pub(crate) fn schedule_trouble(&mut self) {
        if self.config.troubles.is_empty() {
            return;
        }
        let mean = self.config.trouble_every.as_millis() as u64;
        let wait = self.weather.between(0, 2 * mean);
        self.queue.push(self.now + wait, Event::Trouble);
    }

    /// Trouble comes by itself.
    pub(crate) fn trouble(&mut self) {
        let Some(kind) = self.weather.pick(&self.config.troubles).copied() else {
            return;
        };
        let hosts: Vec<ProviderInstanceId> = self.hosts.keys().cloned().collect();
        let host = self.weather.pick(&hosts).cloned();
        let until = self.now + self.weather.between(10_000, 400_000);
        let number = self.weather.below(1 << 20) as u32;
        self.make(kind, host.as_ref(), until, number);
    }

    /// Makes one trouble: for `host` where it concerns a machine, until `until` where it lasts.
    /// `number` decides whatever else there is to decide.
    pub(crate) fn make(
        &mut self,
        kind: Trouble,
        host: Option<&ProviderInstanceId>,
        until: Time,
        number: u32,
    ) {
        let modes = &mut self.cloud.modes;
        match kind {
            Trouble::LaunchErrors => {
                let kind = ProviderErrorKind::ALL[number as usize % ProviderErrorKind::ALL.len()];
                modes.launch_error = Some((until, kind));
                self.note("fault", format_args!("launches fail: {}", kind.word()));
            }
            Trouble::LostAnswers => modes.lost_answers = until,
            Trouble::Duds => modes.duds = until,
            Trouble::PartialListings => modes.listing = Some((until, Listing::Partial)),
            Trouble::EmptyListings => modes.listing = Some((until, Listing::Empty)),
            Trouble::StaleListings => modes.listing = Some((until, Listing::Stale)),
            Trouble::Outage => modes.outage = until,
            Trouble::SlowCloud => modes.slow = until,
            Trouble::Pause => self.plane.paused_until = until,
            Trouble::Crash => {
                self.crash("by itself");
                return;
            }
            Trouble::Operator => {
                let kinds = [
                    NodeCommandType::Cordon,
                    NodeCommandType::Drain,
                    NodeCommandType::Uncordon,
                    NodeCommandType::Uncordon,
                    NodeCommandType::Terminate,
                ];
                let nodes: Vec<NodeId> = self.seen.nodes.keys().cloned().collect();
                if let Some(node) = self.operators.pick(&nodes).cloned() {
                    self.command(node, kinds[number as usize % kinds.len()]);
                }
                return;
            }
            Trouble::Automation => {
                self.automation(Automation::ALL[number as usize % 3]);
                return;
            }
            _ => {
                if let Some(host) = host {
                    self.harm(kind, host, until, number);
                }
                return;
            }
        }
        self.note(
            "fault",
            format_args!("{kind:?} for {} s", until.since(self.now).as_secs()),
        );
    }

    /// Makes trouble for one machine.
    fn harm(&mut self, kind: Trouble, id: &ProviderInstanceId, until: Time, number: u32) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id) else {
            return;
        };
        let gpu = number % host.gpus;
        let text = format!("{kind:?} on {} ({id})", host.instance);
        match kind {
            Trouble::Xid => {
                let code = XIDS[(number >> 4) as usize % XIDS.len()];
                self.xid(id, code, gpu);
                return;
            }
            Trouble::Thermal => {
                host.faults.hot.insert(gpu, until);
            }
            Trouble::Ecc => {
                host.faults.ecc.insert(gpu);
            }
            Trouble::LostGpu => {
                host.faults.lost.insert(gpu);
            }
            Trouble::Repair => {
                if !host.dead {
                    host.go_dark();
                    host.faults = crate::machine::Faults::default();
                    host.boots += 1;
                    let wait = self.boots.between(15_000, 90_000);
                    self.queue.push(now + wait, Event::Boot(id.clone()));
                }
            }
            Trouble::AgentRestart => {
                if host.agent.is_some() {
                    host.start_agent(now);
                    let life = host.life;
                    self.queue.push(
                        now + Duration::from_secs(1),
                        Event::Agent {
                            host: id.clone(),
                            life,
                        },
                    );
                }
            }
            Trouble::Hang => {
                host.dead = true;
                host.go_dark();
            }
            Trouble::Stop => {
                host.dead = true;
                host.go_dark();
                if let Some(rented) = self.cloud.machines.get_mut(id)
                    && rented.status == CloudStatus::Running
                {
                    rented.status = CloudStatus::Stopped;
                }
            }
            Trouble::Partition => host.cut_until = until,
            Trouble::Vanish => {
                self.gone(id, CloudStatus::NotFound);
                return;
            }
            _ => return,
        }
        self.note("fault", format_args!("{text}"));
    }

    /// The kernel log of a machine shows an XID.
    pub(crate) fn xid(&mut self, id: &ProviderInstanceId, code: u32, gpu: u32) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id) else {
            return;
        };
        let fact = host.xid(now, code, gpu);
        let (life, instance) = (host.life, host.instance.clone());
        let Some(agent) = &mut host.agent else { return };
        agent.happened(vec![fact]);
        self.note(
            "fault",
            format_args!("XID {code} on GPU {gpu} of {instance} ({id})"),
        );
        self.wake_agent(id, life);
    }

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

    fn operate(&mut self, input: Input) {
        if self.plane.process.is_some() && self.now >= self.plane.paused_until {
            self.turn(vec![input]);
        }
    }

    /// Trouble stops: what is broken stays broken, and nothing else breaks. The control plane
    /// runs, automation is on, and calls are answered.
    pub fn calm_down(&mut self, uncordon: bool) {
        self.troubled = false;
        self.cloud.modes = crate::cloud::Modes::default();
        self.plane.paused_until = self.now;
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
        }
    }
}

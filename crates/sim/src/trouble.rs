//! Trouble: faults of machines, of the cloud and of the network, and what operators do.

use navarch_config::scenario::FailureKind;
use navarch_model::{
    Automation, CloudStatus, FleetId, NodeCommandType, NodeId, ProviderErrorKind,
    ProviderInstanceId, Time,
};

use crate::cloud::Listing;
use crate::config::Trouble;
use crate::faults::{Faults, Heat};
use crate::machine::Host;
use crate::run::book::Broken;
use crate::world::{Event, Sim};

/// What a GPU that is too hot says, in degrees Celsius.
const HOT: i32 = 97;
/// The most XIDs of one burst.
const BURST: u32 = 40;
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
        if self.loads.chance(0.5) {
            self.work_at_random();
        }
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
        if matches!(kind, Trouble::Pause | Trouble::Freeze | Trouble::HalfSilent) {
            self.wake_all();
        }
        let modes = &mut self.cloud.modes;
        match kind {
            Trouble::LaunchErrors => {
                let kind = ProviderErrorKind::ALL[number as usize % ProviderErrorKind::ALL.len()];
                modes.launch_errors = vec![(until, kind)];
                self.note("fault", format_args!("launches fail: {}", kind.word()));
            }
            Trouble::LostAnswers => modes.lost_answers = until,
            Trouble::Duds => modes.duds = until,
            Trouble::PartialListings => modes.listings = vec![(until, Listing::Partial)],
            Trouble::EmptyListings => modes.listings = vec![(until, Listing::Empty)],
            Trouble::StaleListings => modes.listings = vec![(until, Listing::Stale)],
            Trouble::Outage => modes.outage = until,
            Trouble::SoldOut | Trouble::Prices => {
                let place = number as usize % self.cloud.offerings.len().max(1);
                let dollars = u64::from(number >> 8) % 10;
                if kind == Trouble::SoldOut {
                    modes.sold_out.insert(place, until);
                } else {
                    modes.prices.insert(place, dollars * 1_000_000);
                }
                let Some(offering) = self.cloud.offerings.get(place).cloned() else {
                    return;
                };
                match kind {
                    Trouble::Prices => {
                        self.note("fault", format_args!("{offering} costs {dollars} dollars"));
                    }
                    _ => {
                        let seconds = until.since(self.now).as_secs();
                        self.note(
                            "fault",
                            format_args!("{offering} is sold out for {seconds} s"),
                        );
                    }
                }
                return;
            }
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
            Trouble::HalfSilent => {
                for host in self.hosts.values_mut() {
                    if self.weather.chance(0.5) {
                        host.cut_until = host.cut_until.max(until);
                    }
                }
            }
            Trouble::Freeze => {
                // Tens of minutes where other trouble lasts minutes.
                let frozen = self.now + until.since(self.now) * 15;
                self.plane.paused_until = frozen;
                self.note(
                    "fault",
                    format_args!("frozen until {}", frozen.0 / 1_000_000),
                );
                return;
            }
            Trouble::Holds => {
                self.hold_at_random();
                return;
            }
            Trouble::Orphans => {
                self.orphans_at_random();
                return;
            }
            Trouble::Diagnose => {
                let nodes: Vec<NodeId> = self.seen.nodes.keys().cloned().collect();
                if let Some(node) = self.operators.pick(&nodes).cloned() {
                    self.command(node, NodeCommandType::RunDiagnostic);
                }
                return;
            }
            Trouble::People => {
                self.person_at_random();
                return;
            }
            Trouble::Policy => {
                self.another_policy();
                return;
            }
            Trouble::Backup => {
                if self.plane.process.is_some() {
                    self.back_up();
                }
                return;
            }
            Trouble::Restore => {
                // Nobody restores every few minutes.
                if number.is_multiple_of(3) {
                    self.restore_at_random();
                }
                return;
            }
            Trouble::Strangers => {
                let fleet = number
                    .is_multiple_of(2)
                    .then(|| FleetId::new(format!("fleet-{number}")));
                let id = self.cloud.stranger(fleet);
                self.note("fault", format_args!("somebody else rents {id}"));
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
        self.wake_up(id);
        let Some(host) = self.hosts.get_mut(id) else {
            return;
        };
        let gpu = number % host.spec.gpus;
        let text = format!("{kind:?} on {} ({id})", host.spec.node);
        match kind {
            Trouble::Xid => {
                let code = XIDS[(number >> 4) as usize % XIDS.len()];
                self.xid(id, code, gpu, "");
                return;
            }
            Trouble::Thermal => {
                host.faults.hot.insert(gpu, vec![Heat::of(HOT, until)]);
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
                    host.faults = Faults::default();
                    host.boots += 1;
                    let wait = self.boots.between(15_000, 90_000);
                    self.queue.push(now + wait, Event::Boot(id.clone()));
                }
            }
            Trouble::AgentRestart => self.restart_agent(id),
            Trouble::Burst => {
                for at in 0..1 + number % BURST {
                    let code = XIDS[(at as usize + (number >> 8) as usize) % XIDS.len()];
                    self.xid(id, code, gpu, "");
                }
                return;
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
            Trouble::Interruption => {
                let rented = self.cloud.machines.get_mut(id);
                let Some(rented) = rented.filter(|one| one.is_interruptible()) else {
                    return;
                };
                let notice = self.boots.between(3_000, 120_000);
                let stops = self.notices.chance(0.3);
                rented.interrupt(now, notice, stops);
                let changes_its_mind = !stops && self.notices.chance(0.3);
                if changes_its_mind {
                    let after = notice.mul_f64(self.notices.unit());
                    self.queue.push(now + after, Event::Kept(id.clone()));
                } else {
                    self.queue.push(now + notice, Event::Gone(id.clone()));
                }
            }
            Trouble::Reading(failure) => {
                let broken = Broken {
                    at: 0,
                    kind: failure,
                    since: now,
                    until,
                    gpus: vec![gpu],
                    permanent: false,
                    message: String::new(),
                };
                host.faults.add(&broken);
                if failure == FailureKind::Boot && !host.dead {
                    host.go_dark();
                    host.boots += 1;
                    let wait = self.boots.between(15_000, 90_000);
                    self.queue.push(now + wait, Event::Boot(id.clone()));
                }
                self.note("fault", format_args!("{text}"));
                if let Some(code) = failure.usual_xid() {
                    self.xid(id, code, gpu, "");
                }
                return;
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

    /// The kernel log of a machine shows an XID, in these words, or else in the usual ones.
    pub(crate) fn xid(&mut self, id: &ProviderInstanceId, code: u32, gpu: u32, words: &str) {
        let now = self.now;
        self.wake_up(id);
        let watched = |host: &&mut Host| host.agent.is_some();
        let Some(host) = self.hosts.get_mut(id).filter(watched) else {
            return;
        };
        let mut fact = host.xid(now, code, gpu);
        if !words.is_empty() {
            words.clone_into(&mut fact.message);
        }
        let (life, node) = (host.life, host.node());
        let Some(agent) = &mut host.agent else { return };
        agent.happened(vec![fact]);
        self.note(
            "fault",
            format_args!("XID {code} on GPU {gpu} of {node} ({id})"),
        );
        self.wake_agent(id, life);
    }
}

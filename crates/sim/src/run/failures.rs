//! What breaks and what is repaired, on machines as they are.

use std::time::Duration;

use navarch_config::scenario::{Failure, FailureKind};
use navarch_model::{CloudStatus, NodeId, ProviderInstanceId, Time};

use crate::faults::{Faults, GPU_IS_LOST, Heat, UNKNOWN_ERROR};
use crate::machine::Host;
use crate::record::{Cause, Injection};
use crate::run::aftermath::Aftermath;
use crate::run::book::Broken;
use crate::run::{Happening, Power, Unbreakable};
use crate::world::{Event, Sim};

/// How hot a GPU is that fails `temperature`, in degrees Celsius, as in the Go project.
const HOT: i32 = 95;
/// How long a machine is away that is rebooted to repair it.
const REBOOT: Duration = Duration::from_secs(2);
/// The most XIDs of a burst.
const BURST: u64 = 40;

/// Whether a failure can end while its machine stays.
pub(super) const fn can_end(kind: FailureKind) -> bool {
    !matches!(
        kind,
        FailureKind::MachineVanish
            | FailureKind::SpotInterruption
            | FailureKind::RowRemapFailed
            | FailureKind::SilentCorruption
    )
}

/// Whether an XID asks for less than another machine, so that the failure may end by itself.
pub(super) fn may_recover(kind: FailureKind, xid: Option<u32>) -> bool {
    let mends = xid.is_none_or(|code| Aftermath::of(code) != Aftermath::ForGood);
    can_end(kind) && kind != FailureKind::GpuLost && mends
}

/// Whether only a boot shows that it is over.
fn needs_boot(kind: FailureKind) -> bool {
    kind.usual_xid().is_some()
        || matches!(
            kind,
            FailureKind::Boot
                | FailureKind::DriverHang
                | FailureKind::Backend
                | FailureKind::Nvml
                | FailureKind::Device
                | FailureKind::MachineHang
                | FailureKind::MachineStop
        )
}

/// Whether it is of GPUs, and not of the machine as a whole.
const fn is_of_gpus(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::Xid
            | FailureKind::XidBurst
            | FailureKind::Temperature
            | FailureKind::ThermalRamp
            | FailureKind::Device
            | FailureKind::GpuLost
            | FailureKind::Memory
            | FailureKind::RowRemap
            | FailureKind::RowRemapFailed
            | FailureKind::Nvlink
            | FailureKind::Pcie
            | FailureKind::Power
            | FailureKind::SilentCorruption
    )
}

/// Whether it is over as soon as it is told: an event that leaves nothing behind.
fn is_event(kind: FailureKind, xid: Option<u32>) -> bool {
    match kind {
        FailureKind::XidBurst | FailureKind::AgentCrash => true,
        FailureKind::Xid => xid.is_some_and(|code| Aftermath::of(code) == Aftermath::Nothing),
        _ => false,
    }
}

impl Sim {
    /// Breaks something. Answers its place in the record.
    ///
    /// # Errors
    ///
    /// Why there is nothing to break.
    pub(super) fn inject(
        &mut self,
        id: &ProviderInstanceId,
        failure: &Failure,
        cause: Cause,
    ) -> Result<usize, Unbreakable> {
        self.wake_up(id);
        let now = self.now;
        let kind = failure.kind;
        let gone = || Unbreakable::NoMachine(NodeId::new(id.as_str()));
        let host = self.hosts.get(id).ok_or_else(gone)?;
        let node = host.node();
        if !host.has_booted() {
            return Err(Unbreakable::NotBooted(node));
        }
        let gpus: Vec<u32> = match failure.gpu {
            _ if !is_of_gpus(kind) => Vec::new(),
            Some(gpu) => vec![gpu],
            None => (0..host.spec.gpus).collect(),
        };
        if kind == FailureKind::SpotInterruption {
            let spot = self.cloud.machines.get(id).is_some_and(|one| one.spot);
            if !spot {
                return Err(Unbreakable::NotSpot(node));
            }
        }
        let story = self.story.as_mut().ok_or_else(gone)?;
        let xid = match kind {
            FailureKind::XidBurst => failure
                .xid
                .or_else(|| story.victims.pick(&FailureKind::BURST_XIDS).copied()),
            _ => kind.usual_xid().map(|usual| failure.xid.unwrap_or(usual)),
        };
        let injection = Injection {
            at: now,
            node: node.clone(),
            kind,
            xid,
            gpu: failure
                .gpu
                .filter(|_| host.spec.gpus > 0 && is_of_gpus(kind)),
            cause,
            noticed: None,
            ended: None,
        };
        let broken = Broken {
            at: 0,
            kind,
            since: now,
            until: failure.lasts.map_or(Time::NEVER, |lasts| now + lasts),
            gpus: gpus.clone(),
            permanent: false,
            message: failure.message.clone(),
        };
        let place = story.book.injected(injection, broken);
        self.note("fault", format_args!("{} on {node}", kind.word()));
        self.derive(id);
        self.befall(id, kind, place);
        if let Some(code) = xid {
            let times = match (kind, &mut self.story) {
                (FailureKind::XidBurst, Some(story)) => 2 + story.victims.below(BURST - 1),
                _ => 1,
            };
            for gpu in gpus.iter().flat_map(|gpu| (0..times).map(move |_| gpu)) {
                self.xid(id, code, *gpu, &failure.message);
            }
        }
        if is_event(kind, xid) {
            self.end_injection(place, true);
        } else if let Some(lasts) = failure.lasts {
            self.queue
                .push(now + lasts, Event::Story(Happening::Heal(place)));
        }
        Ok(place)
    }

    /// Makes a machine what all that is broken on it makes of it.
    fn derive(&mut self, id: &ProviderInstanceId) {
        let (Some(story), Some(host)) = (&self.story, self.hosts.get_mut(id)) else {
            return;
        };
        let open = story.book.open(&host.spec.node);
        host.faults = Faults::default();
        host.cut_until = Time(0);
        for one in open {
            host.faults.add(one);
            if one.kind == FailureKind::Network {
                host.cut_until = host.cut_until.max(one.until);
            }
        }
        let is = |kind| open.iter().any(|one| one.kind == kind);
        let stopped = is(FailureKind::MachineStop);
        host.dead = stopped || is(FailureKind::MachineHang);
        if let Some(rented) = self.cloud.machines.get_mut(id) {
            match rented.status {
                CloudStatus::Running if stopped => rented.status = CloudStatus::Stopped,
                CloudStatus::Stopped if !stopped => rented.status = CloudStatus::Running,
                _ => {}
            }
        }
    }

    /// What happens to the machine as a whole.
    fn befall(&mut self, id: &ProviderInstanceId, kind: FailureKind, place: usize) {
        let now = self.now;
        match kind {
            FailureKind::Boot => self.reboot(id, Some(place)),
            FailureKind::AgentCrash => self.restart_agent(id),
            FailureKind::MachineHang | FailureKind::MachineStop => {
                if let Some(host) = self.hosts.get_mut(id) {
                    host.go_dark();
                }
            }
            FailureKind::MachineVanish => self.switch_off(id, "it vanished"),
            FailureKind::SpotInterruption => {
                let rented = self.cloud.machines.get_mut(id);
                if let Some(rented) = rented.filter(|one| one.is_interruptible()) {
                    let notice = self.boots.between(30_000, 120_000);
                    rented.interrupt(now, notice, self.notices.chance(0.5));
                    self.queue.push(now + notice, Event::Gone(id.clone()));
                }
            }
            _ => {}
        }
    }

    /// A machine is gone, whoever it belongs to.
    pub(super) fn switch_off(&mut self, id: &ProviderInstanceId, why: &str) {
        if self.cloud.machines.contains_key(id) {
            self.gone(id, CloudStatus::NotFound);
            return;
        }
        self.wake_up(id);
        let Some(host) = self.hosts.remove(id) else {
            return;
        };
        let node = host.node();
        if self.by_node.get(&node) == Some(id) {
            self.by_node.remove(&node);
        }
        self.note("host", format_args!("{node} is switched off: {why}"));
        let now = self.now;
        if let Some(story) = &mut self.story {
            story.leave(id);
            story.book.gone(&node, why, 0, now);
            let at = story.owned.get(&node).copied();
            if let Some(one) = at.and_then(|at| story.fleet.get_mut(at)) {
                one.power = Power::Gone;
            }
        }
    }

    /// Boots a machine again, because of a failure or to repair it. A boot repairs what it can,
    /// except what it comes from. A machine that hangs or is stopped stays as it is, and one that
    /// has yet to boot for the first time boots when it was to.
    fn reboot(&mut self, id: &ProviderInstanceId, of: Option<usize>) {
        let now = self.now;
        let (Some(story), Some(host)) = (&mut self.story, self.hosts.get(id)) else {
            return;
        };
        let node = host.node();
        if let Some(of) = of {
            story.book.rebooted(&node, of);
        }
        let open = story.book.open(&node).to_vec();
        for one in open.iter().filter(|one| Some(one.at) != of) {
            let injection = story.book.record.injections.get(one.at);
            let repairs = injection.is_some_and(|injection| {
                let outage = matches!(injection.cause, Cause::Outage(_));
                !outage && may_recover(one.kind, injection.xid)
            });
            let stands = matches!(
                one.kind,
                FailureKind::MachineHang | FailureKind::MachineStop
            );
            let lasts = one.permanent || one.until < Time::NEVER || stands;
            if repairs && needs_boot(one.kind) && !lasts {
                story.book.ended(one.at, true, now);
            }
        }
        self.derive(id);
        let Some(host) = self.hosts.get_mut(id) else {
            return;
        };
        let waits = !host.has_booted();
        host.go_dark();
        if !host.dead && !host.off && !waits {
            host.boots += 1;
            self.queue.push(now + REBOOT, Event::Boot(id.clone()));
        }
    }

    /// What was broken is over, if it can be.
    pub(super) fn heal(&mut self, place: usize) {
        let Some(story) = &self.story else { return };
        let Some(injection) = story.book.record.injections.get(place) else {
            return;
        };
        if injection.ended.is_some() {
            return;
        }
        let (node, kind) = (injection.node.clone(), injection.kind);
        self.mend(&node, &[(place, kind)]);
    }

    /// Repairs everything of a kind on a node, or everything. Answers whether there was something.
    pub(super) fn recover(&mut self, node: &NodeId, kind: Option<FailureKind>) -> bool {
        let Some(story) = &self.story else {
            return false;
        };
        let open = story.book.open(node).iter();
        let open: Vec<_> = open
            .filter(|one| kind.is_none_or(|kind| kind == one.kind))
            .map(|one| (one.at, one.kind))
            .collect();
        self.mend(node, &open);
        !open.is_empty()
    }

    /// Somebody repairs a machine by hand: failures of some kinds go, all of them where none is
    /// named, and it boots again.
    pub(super) fn serviced(&mut self, id: &ProviderInstanceId, kinds: &[FailureKind]) {
        let Some(node) = self.hosts.get(id).map(Host::node) else {
            return;
        };
        let Some(story) = &self.story else { return };
        let open = story.book.open(&node).iter();
        let open: Vec<_> = open
            .filter(|one| kinds.is_empty() || kinds.contains(&one.kind))
            .map(|one| (one.at, one.kind))
            .collect();
        if !self.mend(&node, &open) {
            self.wake_up(id);
            self.reboot(id, None);
        }
    }

    /// Answers whether the machine boots again.
    fn mend(&mut self, node: &NodeId, open: &[(usize, FailureKind)]) -> bool {
        let Some((last, _)) = open.last() else {
            return false;
        };
        let Some(id) = self.by_node.get(node).cloned() else {
            return false;
        };
        self.wake_up(&id);
        let now = self.now;
        for (place, _) in open {
            self.end_injection(*place, true);
        }
        self.derive(&id);
        self.note("host", format_args!("{node} is repaired"));
        // What is left shows itself again.
        let boots = open.iter().any(|(_, kind)| needs_boot(*kind));
        if boots {
            self.reboot(&id, Some(*last));
        } else if let Some(life) = self.hosts.get(&id).map(|host| host.life) {
            if let Some(agent) = self.hosts.get_mut(&id).and_then(|host| host.agent.as_mut()) {
                agent.read_soon(now);
            }
            self.wake_agent(&id, life);
        }
        boots
    }

    pub(super) fn end_injection(&mut self, place: usize, healed: bool) {
        let now = self.now;
        if let Some(story) = &mut self.story {
            story.book.ended(place, healed, now);
        }
    }
}

impl Faults {
    /// Adds something that is broken.
    pub(crate) fn add(&mut self, broken: &Broken) {
        let message = || match broken.message.as_str() {
            "" => None,
            message => Some(message.to_owned()),
        };
        match broken.kind {
            FailureKind::Temperature | FailureKind::ThermalRamp => {
                let heat = match broken.kind {
                    FailureKind::Temperature => Heat::of(HOT, broken.until),
                    _ => Heat::rising(broken.since, broken.until),
                };
                for gpu in &broken.gpus {
                    self.hot.entry(*gpu).or_default().push(heat);
                }
            }
            FailureKind::Nvml | FailureKind::Backend => {
                self.driver = Some(message().unwrap_or_else(|| UNKNOWN_ERROR.to_owned()));
            }
            FailureKind::Device => {
                for gpu in &broken.gpus {
                    let words = message().unwrap_or_else(|| GPU_IS_LOST.to_owned());
                    self.mute.insert(*gpu, words);
                }
            }
            FailureKind::DriverHang => self.hung = true,
            FailureKind::Boot => self.empty = true,
            FailureKind::SilentCorruption => self.corrupt = true,
            kind => {
                let set = match kind {
                    FailureKind::GpuLost => &mut self.lost,
                    FailureKind::Memory => &mut self.ecc,
                    FailureKind::RowRemap => &mut self.remap_pending,
                    FailureKind::RowRemapFailed => &mut self.remap_failed,
                    FailureKind::Nvlink => &mut self.nvlink,
                    FailureKind::Pcie => &mut self.pcie,
                    FailureKind::Power => &mut self.power,
                    _ => return,
                };
                set.extend(&broken.gpus);
            }
        }
    }
}

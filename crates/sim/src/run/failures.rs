//! What breaks and what is repaired, on machines as they are.

use std::time::Duration;

use navarch_config::scenario::{Failure, FailureKind};
use navarch_model::{CloudStatus, NodeId, ProviderInstanceId, Repair, Time};
use navarch_policy::catalogue;

use crate::faults::{Faults, Heat};
use crate::record::{Cause, Injection};
use crate::run::Happening;
use crate::world::{Event, Sim};

/// How hot a GPU is that fails `temperature`, in degrees Celsius, as in the Go project.
const HOT: i32 = 95;
/// How long a machine is away that is rebooted to repair it.
const REBOOT: Duration = Duration::from_secs(2);
/// The XIDs of a burst: what crashing applications leave.
const BURST_XIDS: [u32; 4] = [31, 13, 43, 45];
/// The most XIDs of a burst.
const BURST: u64 = 40;
/// XIDs that come when no distribution says which.
pub(super) const USUAL_XIDS: [u32; 13] = [13, 31, 32, 43, 45, 48, 63, 64, 74, 79, 92, 94, 95];

/// The XID that a kind of failure shows.
const fn usual_xid(kind: FailureKind) -> Option<u32> {
    match kind {
        FailureKind::Xid | FailureKind::GpuLost => Some(79),
        FailureKind::Memory => Some(48),
        FailureKind::RowRemap => Some(63),
        FailureKind::RowRemapFailed => Some(64),
        FailureKind::Nvlink => Some(74),
        _ => None,
    }
}

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
    let repair = |code: u32| {
        let facts = catalogue::Facts::default();
        catalogue::repair(code, &facts)
    };
    let mends = xid.is_none_or(|code| repair(code) < Repair::Replace);
    can_end(kind) && kind != FailureKind::GpuLost && mends
}

/// Whether only a boot shows that it is over.
fn needs_boot(kind: FailureKind) -> bool {
    usual_xid(kind).is_some()
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

impl Sim {
    /// Breaks something. Answers its place in the record; none where there is nothing to break.
    pub(super) fn inject(
        &mut self,
        id: &ProviderInstanceId,
        failure: &Failure,
        cause: Cause,
    ) -> Option<usize> {
        self.wake_up(id);
        let now = self.now;
        let kind = failure.kind;
        let host = self.hosts.get(id)?;
        let node = host.node();
        let gpus = host.spec.gpus;
        if kind == FailureKind::SpotInterruption {
            let spot = self.cloud.machines.get(id).is_some_and(|one| one.spot);
            if !spot {
                return None;
            }
        }
        let every: Vec<u32> = match failure.gpu {
            Some(gpu) => vec![gpu],
            None if kind == FailureKind::Temperature => (0..gpus).collect(),
            None => vec![0],
        };
        let gpu = every.first().copied().unwrap_or(0);
        let xid = failure
            .xid
            .or(usual_xid(kind))
            .filter(|_| usual_xid(kind).is_some());
        let place = self.story.as_mut()?.book.injected(Injection {
            at: now,
            node: node.clone(),
            kind,
            xid,
            gpu: (gpus > 0).then_some(gpu),
            cause,
            noticed: None,
            ended: None,
        });
        self.note("fault", format_args!("{} on {node}", kind.word()));
        let until = failure.lasts.map_or(Time::NEVER, |lasts| now + lasts);
        let host = self.hosts.get_mut(id)?;
        let faults = &mut host.faults;
        match kind {
            FailureKind::Temperature | FailureKind::ThermalRamp => {
                let celsius = if kind == FailureKind::Temperature {
                    Ok(HOT)
                } else {
                    Err(now)
                };
                for gpu in every {
                    faults.hot.insert(gpu, Heat { until, celsius });
                }
            }
            FailureKind::Nvml | FailureKind::Backend => faults.driver = true,
            FailureKind::DriverHang => faults.hung = true,
            FailureKind::SilentCorruption => faults.corrupt = true,
            FailureKind::Network => host.cut_until = host.cut_until.max(until),
            _ => {
                let set = match kind {
                    FailureKind::GpuLost => Some(&mut faults.lost),
                    FailureKind::Memory => Some(&mut faults.ecc),
                    FailureKind::RowRemap => Some(&mut faults.remap_pending),
                    FailureKind::RowRemapFailed => Some(&mut faults.remap_failed),
                    FailureKind::Nvlink => Some(&mut faults.nvlink),
                    FailureKind::Pcie => Some(&mut faults.pcie),
                    FailureKind::Power => Some(&mut faults.power),
                    FailureKind::Device => Some(&mut faults.mute),
                    _ => None,
                };
                if let Some(set) = set {
                    set.extend(every);
                }
            }
        }
        self.befall(id, kind);
        if let Some(code) = xid {
            self.xid(id, code, gpu);
        }
        if kind == FailureKind::XidBurst {
            let story = self.story.as_mut()?;
            let many = 2 + story.victims.below(BURST - 1);
            let code = failure
                .xid
                .or_else(|| story.victims.pick(&BURST_XIDS).copied());
            for _ in 0..many {
                self.xid(id, code.unwrap_or(BURST_XIDS[0]), gpu);
            }
        }
        // An event is over when it is told.
        let told = matches!(kind, FailureKind::XidBurst | FailureKind::AgentCrash);
        if told {
            self.end_injection(place, true);
        } else if let Some(lasts) = failure.lasts {
            self.queue
                .push(now + lasts, Event::Story(Happening::Heal(place)));
        }
        Some(place)
    }

    /// What happens to the machine as a whole.
    fn befall(&mut self, id: &ProviderInstanceId, kind: FailureKind) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id) else {
            return;
        };
        match kind {
            FailureKind::Boot => {
                host.faults.empty = true;
                self.reboot(id);
            }
            FailureKind::AgentCrash => self.restart_agent(id),
            FailureKind::MachineHang | FailureKind::MachineStop => {
                host.dead = true;
                host.go_dark();
                if kind == FailureKind::MachineStop
                    && let Some(rented) = self.cloud.machines.get_mut(id)
                    && rented.status == CloudStatus::Running
                {
                    rented.status = CloudStatus::Stopped;
                }
            }
            FailureKind::MachineVanish => self.switch_off(id, "it vanished"),
            FailureKind::SpotInterruption => {
                if let Some(rented) = self.cloud.machines.get_mut(id) {
                    rented.status = CloudStatus::Terminating;
                    let notice = self.boots.between(30_000, 120_000);
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
        }
    }

    /// Boots a machine again.
    fn reboot(&mut self, id: &ProviderInstanceId) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id) else {
            return;
        };
        host.go_dark();
        host.dead = false;
        host.boots += 1;
        if let Some(rented) = self.cloud.machines.get_mut(id)
            && rented.status == CloudStatus::Stopped
        {
            rented.status = CloudStatus::Running;
        }
        self.queue.push(now + REBOOT, Event::Boot(id.clone()));
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
        let mut open = story.book.kinds(node);
        open.retain(|(_, one)| kind.is_none_or(|kind| kind == *one));
        self.mend(node, &open);
        !open.is_empty()
    }

    fn mend(&mut self, node: &NodeId, open: &[(usize, FailureKind)]) {
        let Some(id) = self.by_node.get(node).cloned() else {
            return;
        };
        self.wake_up(&id);
        let now = self.now;
        let mut boots = false;
        for (place, kind) in open {
            if let Some(host) = self.hosts.get_mut(&id) {
                take_away(&mut host.faults, *kind);
                if *kind == FailureKind::Network {
                    host.cut_until = now;
                }
            }
            boots |= needs_boot(*kind);
            self.end_injection(*place, true);
        }
        if open.is_empty() {
            return;
        }
        self.note("host", format_args!("{node} is repaired"));
        // What is left of the same kind, or of a GPU, shows itself again.
        if boots {
            self.reboot(&id);
        } else if let Some(life) = self.hosts.get(&id).map(|host| host.life) {
            if let Some(agent) = self.hosts.get_mut(&id).and_then(|host| host.agent.as_mut()) {
                agent.read_soon(now);
            }
            self.wake_agent(&id, life);
        }
    }

    pub(super) fn end_injection(&mut self, place: usize, healed: bool) {
        let now = self.now;
        if let Some(story) = &mut self.story {
            story.book.ended(place, healed, now);
        }
    }
}

/// Takes a kind of failure away from every GPU.
fn take_away(faults: &mut Faults, kind: FailureKind) {
    match kind {
        FailureKind::Temperature | FailureKind::ThermalRamp => faults.hot.clear(),
        FailureKind::Nvml | FailureKind::Backend => faults.driver = false,
        FailureKind::DriverHang => faults.hung = false,
        FailureKind::Boot => faults.empty = false,
        FailureKind::GpuLost => faults.lost.clear(),
        FailureKind::Memory => faults.ecc.clear(),
        FailureKind::RowRemap => faults.remap_pending.clear(),
        FailureKind::RowRemapFailed => faults.remap_failed.clear(),
        FailureKind::Nvlink => faults.nvlink.clear(),
        FailureKind::Pcie => faults.pcie.clear(),
        FailureKind::Power => faults.power.clear(),
        FailureKind::Device => faults.mute.clear(),
        FailureKind::SilentCorruption => faults.corrupt = false,
        _ => {}
    }
}

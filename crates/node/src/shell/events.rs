//! What happens on the machine: events, changes of a fake one, boots.

use navarch_core::agent::Agent;
use navarch_gpu::GpuBackend;
use navarch_model::{BootId, SessionId};

use super::{Shell, Work};
use crate::debug::{Change, Nudge};
use crate::reading::Scribe;

/// The file of the state directory that says how far the kernel log was read.
pub(crate) const KERNEL_LOG: &str = "kernel-log.json";

/// How far the kernel log was read, and in which boot.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct KernelLogPosition {
    pub(crate) boot: String,
    pub(crate) position: u64,
}

impl Shell {
    /// Something changed on the fake machine.
    pub(super) fn nudged(&mut self, nudge: Nudge) {
        self.take_events();
        let now = self.now();
        match nudge.change {
            Change::Event => {}
            Change::Reading => {
                self.agent.read_soon(now);
                // A reading under way may have looked before the change.
                self.read_again = self.reading;
            }
            Change::Boot => self.reboot(),
        }
        // Whoever asked may have given up waiting.
        let _gone = nudge.kept.send(());
    }

    /// A boot begins a new life of the agent: a session of its own, and a registration that tells
    /// the boot. What is kept stays.
    pub(super) fn reboot(&mut self) {
        let Some(backend) = &self.backend else {
            return;
        };
        let boot = backend
            .boot_id()
            .unwrap_or_else(|| self.kernel_boot.clone());
        let session = SessionId::new(navarch_model::ids::fresh_uuid(&mut self.ids));
        let finished = self.agent.finished().cloned().collect();
        self.agent = Agent::new(session, self.agent.spool().clone(), finished);
        self.scribe = Scribe::new(BootId::new(boot));
        // Answers to the old session mean nothing to the new one.
        self.calls = Work::new();
        self.watching = false;
        self.reading = false;
        self.read_again = false;
        self.newest = None;
        self.hung = false;
        self.status = None;
    }

    /// Takes what the backend noticed, and keeps it before anything is sent.
    pub(super) fn take_events(&mut self) {
        let Some(backend) = self.backend.clone() else {
            return;
        };
        let events = backend.take_events();
        if events.is_empty() {
            return;
        }
        let facts: Vec<_> = events
            .into_iter()
            .map(|event| self.scribe.event(event, &self.gpus))
            .collect();
        for fact in &facts {
            tracing::warn!(
                system = fact.system.short(), event_type = fact.event_type.short(),
                gpu_index = fact.gpu.unwrap_or(-1), xid = fact.metrics.get("xid_code"),
                detail = %fact.message, "health event detected"
            );
        }
        self.agent.happened(facts);
        self.keep();
        self.note_kernel_position(&*backend);
    }

    /// Makes what is kept durable.
    pub(super) fn keep(&mut self) {
        if let Some(journal) = &mut self.journal {
            let changes = self.agent.take_spool_changes();
            journal.sync(self.agent.spool(), changes);
        }
    }

    /// Notes how far the kernel log was read, now that its events are safe.
    pub(super) fn note_kernel_position(&mut self, backend: &dyn GpuBackend) {
        let position = backend.kernel_log_position();
        let (Some(state), Some(at)) = (&self.state, position) else {
            return;
        };
        if self.kernel_position == position {
            return;
        }
        self.kernel_position = position;
        let boot = &self.kernel_boot;
        let text = serde_json::to_vec(&KernelLogPosition {
            boot: boot.clone(),
            position: at,
        })
        .expect("a position is plain data");
        if let Err(error) = state.write(KERNEL_LOG, &text) {
            tracing::warn!(%error, "cannot keep how far the kernel log was read");
        }
    }
}

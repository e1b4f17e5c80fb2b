//! What readers see: the state as of the last committed change.

use std::sync::{Arc, PoisonError, RwLock};

use navarch_core::PlanReport;
use navarch_core::settings::Settings;
use navarch_model::{Change, CommandState, Lifecycle, Node, NodeId, Stamp, State};
use navarch_policy::HealthPolicy;
use tokio::sync::watch;

use crate::pulses::Pulses;

/// The published state. Readers never see a change that is not durable.
#[derive(Debug)]
pub struct Published {
    state: RwLock<State>,
    report: RwLock<Arc<PlanReport>>,
    settings: RwLock<Arc<Settings>>,
    policy: RwLock<Arc<HealthPolicy>>,
    /// The sequence of the last committed event; watchers wait on it.
    events: watch::Sender<u64>,
    /// Raised whenever a command begins to wait for an agent.
    commands: watch::Sender<u64>,
    /// When each node was last heard.
    pub pulses: Pulses,
}

impl Published {
    /// Publishes a loaded state.
    pub fn new(state: State, settings: Arc<Settings>, policy: Arc<HealthPolicy>) -> Self {
        let (events, _) = watch::channel(state.meta.last_event);
        Self {
            state: RwLock::new(state),
            report: RwLock::default(),
            settings: RwLock::new(settings),
            policy: RwLock::new(policy),
            events,
            commands: watch::channel(0).0,
            pulses: Pulses::default(),
        }
    }

    /// Reads the state. Keep it short: commits wait meanwhile.
    pub fn read<R>(&self, work: impl FnOnce(&State) -> R) -> R {
        work(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// One node.
    pub fn node(&self, id: &NodeId) -> Option<Arc<Node>> {
        self.read(|state| state.nodes.get(id).cloned())
    }

    /// The last plan's report.
    pub fn report(&self) -> Arc<PlanReport> {
        Arc::clone(&self.report.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The health policy in force.
    pub fn policy(&self) -> Arc<HealthPolicy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells when events are committed, by the sequence of the last.
    pub fn events(&self) -> watch::Receiver<u64> {
        self.events.subscribe()
    }

    /// Tells when a command begins to wait for some agent.
    pub fn commands(&self) -> watch::Receiver<u64> {
        self.commands.subscribe()
    }

    pub(crate) fn set_report(&self, report: PlanReport) {
        *self.report.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(report);
    }

    pub(crate) fn set_settings(&self, settings: Arc<Settings>) {
        *self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = settings;
    }

    pub(crate) fn set_policy(&self, policy: Arc<HealthPolicy>) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    /// Replaces the state after a reload.
    pub(crate) fn replace(&self, state: State) {
        let last_event = state.meta.last_event;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        self.events.send_replace(last_event);
    }

    /// Publishes committed changes.
    pub(crate) fn apply(&self, changes: &[Change], now: Stamp) {
        let mut last_event = 0;
        let mut waits = false;
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            for change in changes {
                state.apply(change);
                match change {
                    Change::Event(event) => last_event = last_event.max(event.sequence),
                    Change::Node(node) if node.lifecycle == Lifecycle::Terminated => {
                        self.pulses.forget(&node.id);
                    }
                    Change::Node(node) => self.pulses.ensure(node, now),
                    Change::Command(command) => waits |= command.state == CommandState::Pending,
                    _ => {}
                }
            }
        }
        if waits {
            self.commands.send_modify(|count| *count += 1);
        }
        if last_event > 0 {
            self.events.send_if_modified(|last| {
                let news = last_event > *last;
                *last = last_event.max(*last);
                news
            });
        }
    }
}

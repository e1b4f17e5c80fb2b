//! What readers see: the state as of the last committed change.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use navarch_core::PlanReport;
use navarch_core::settings::Settings;
use navarch_model::{
    Change, CommandState, Event, EventKind, Lifecycle, Node, NodeId, PoolName, Stamp, State,
};
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
    /// Free bytes on the disk of the store; [`UNMEASURED`] until they were measured.
    free_bytes: AtomicU64,
    /// The last commit failed.
    failing: AtomicBool,
    /// How often each guard blocked an action in each pool, since this process started.
    blocks: Mutex<Blocks>,
}

/// Blocked actions by guard and pool.
pub(crate) type Blocks = BTreeMap<(String, PoolName), u64>;

/// Stands for free space that nobody could measure.
const UNMEASURED: u64 = u64::MAX;

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
            free_bytes: AtomicU64::new(UNMEASURED),
            failing: AtomicBool::new(false),
            blocks: Mutex::default(),
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

    /// Whether the last commit failed, so that nothing can be changed for now.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Says whether the last commit failed.
    pub(crate) fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
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

    /// Free bytes on the disk of the store, once they were measured.
    pub fn free_bytes(&self) -> Option<u64> {
        let free = self.free_bytes.load(Ordering::Relaxed);
        (free != UNMEASURED).then_some(free)
    }

    pub(crate) fn set_free_bytes(&self, free: u64) {
        self.free_bytes.store(free, Ordering::Relaxed);
    }

    /// How often each guard blocked an action in each pool, since this process started.
    pub(crate) fn blocks(&self) -> Blocks {
        let blocks = self.blocks.lock();
        blocks.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts an event that says that a guard blocked an action. Each repeat of an event comes
    /// as a change of its own.
    fn count_block(&self, event: &Event) {
        let (Some(guard), Some(pool)) = (event.details.get("guard"), &event.subject.pool) else {
            return;
        };
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        *blocks.entry((guard.clone(), pool.clone())).or_default() += 1;
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
        crate::journal::log(changes);
        let mut last_event = 0;
        let mut waits = false;
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            for change in changes {
                state.apply(change);
                match change {
                    Change::Event(event) => {
                        last_event = last_event.max(event.sequence);
                        if event.kind == EventKind::GuardBlocked {
                            self.count_block(event);
                        }
                    }
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

//! What readers see: the state as of the last committed change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use navarch_core::PlanReport;
use navarch_core::settings::Settings;
use navarch_model::{
    Change, CommandId, CommandState, Event, EventKind, Lifecycle, Node, NodeId, PoolName, Stamp,
    State,
};
use navarch_policy::HealthPolicy;
use tokio::sync::watch;

use crate::meters::Meters;
use crate::pulses::Pulses;

/// The published state. Readers never see a change that is not durable.
#[derive(Debug)]
pub struct Published {
    seen: RwLock<Seen>,
    report: RwLock<Arc<PlanReport>>,
    settings: watch::Sender<Arc<Settings>>,
    policy: RwLock<Arc<HealthPolicy>>,
    /// The sequence of the last committed event; watchers wait on it.
    events: watch::Sender<u64>,
    /// Told when a command begins to wait for an agent, by node; for those that listen.
    commands: Mutex<BTreeMap<NodeId, watch::Sender<()>>>,
    /// When each node was last heard.
    pub pulses: Pulses,
    /// Free bytes on the disk of the store; [`UNMEASURED`] until they were measured.
    free_bytes: AtomicU64,
    /// The last commit failed.
    failing: AtomicBool,
    /// What this process did.
    pub meters: Meters,
    /// How often each guard blocked an action in each pool, since this process started.
    blocks: Mutex<Counts>,
    /// How often each provider said that it takes a machine of each pool back, since this process
    /// started.
    interruptions: Mutex<Counts>,
}

/// The state, and what is looked up in it with most calls of agents.
#[derive(Debug)]
struct Seen {
    state: State,
    /// Commands that wait for their node.
    waiting: BTreeMap<NodeId, BTreeSet<CommandId>>,
}

impl Seen {
    fn of(state: State) -> Self {
        let mut waiting: BTreeMap<NodeId, BTreeSet<CommandId>> = BTreeMap::new();
        for command in state.commands.values().filter(|one| one.waits_for_agent()) {
            let ids = waiting.entry(command.node.clone()).or_default();
            ids.insert(command.id.clone());
        }
        Self { state, waiting }
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Command(command) if !command.waits_for_agent() => {
                self.done(&command.node, &command.id);
            }
            Change::Command(command) => {
                let ids = self.waiting.entry(command.node.clone()).or_default();
                ids.insert(command.id.clone());
            }
            Change::ForgetCommand(id) => {
                if let Some(command) = self.state.commands.get(id).cloned() {
                    self.done(&command.node, id);
                }
            }
            _ => {}
        }
        self.state.apply(change);
    }

    fn done(&mut self, node: &NodeId, id: &CommandId) {
        if let Some(ids) = self.waiting.get_mut(node) {
            ids.remove(id);
            if ids.is_empty() {
                self.waiting.remove(node);
            }
        }
    }
}

/// Tells one listener that a command begins to wait for its node.
#[derive(Debug)]
pub(crate) struct CommandNews {
    published: Arc<Published>,
    node: NodeId,
    /// There until it is dropped.
    news: Option<watch::Receiver<()>>,
}

impl CommandNews {
    /// Waits until a command began to wait since the last time.
    pub(crate) async fn next(&mut self) {
        // The sender goes only with its last listener.
        let told = match &mut self.news {
            Some(news) => news.changed().await.is_ok(),
            None => false,
        };
        if !told {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for CommandNews {
    fn drop(&mut self) {
        let mut listeners = self.published.listeners();
        // Under the lock: of two that end at once, the later one finds nobody left.
        self.news = None;
        let deserted = |told: &watch::Sender<()>| told.receiver_count() == 0;
        if listeners.get(&self.node).is_some_and(deserted) {
            listeners.remove(&self.node);
        }
    }
}

/// How often something happened, by a word and a pool.
pub(crate) type Counts = BTreeMap<(String, PoolName), u64>;

/// Stands for free space that nobody could measure.
const UNMEASURED: u64 = u64::MAX;

/// Counts an event by one of its details and its pool. Each repeat of an event comes as a change of
/// its own.
fn count(detail: &str, counts: &Mutex<Counts>, event: &Event) {
    let (Some(word), Some(pool)) = (event.details.get(detail), &event.subject.pool) else {
        return;
    };
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    *counts.entry((word.clone(), pool.clone())).or_default() += 1;
}

impl Published {
    /// Publishes a loaded state.
    pub fn new(state: State, settings: Arc<Settings>, policy: Arc<HealthPolicy>) -> Self {
        let (events, _) = watch::channel(state.meta.last_event);
        let (settings, _) = watch::channel(settings);
        Self {
            seen: RwLock::new(Seen::of(state)),
            report: RwLock::default(),
            settings,
            policy: RwLock::new(policy),
            events,
            commands: Mutex::default(),
            pulses: Pulses::default(),
            free_bytes: AtomicU64::new(UNMEASURED),
            failing: AtomicBool::new(false),
            meters: Meters::default(),
            blocks: Mutex::default(),
            interruptions: Mutex::default(),
        }
    }

    /// Reads the state. Keep it short: commits wait meanwhile.
    pub fn read<R>(&self, work: impl FnOnce(&State) -> R) -> R {
        work(&self.seen().state)
    }

    fn seen(&self) -> RwLockReadGuard<'_, Seen> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a command waits for a node.
    pub fn has_command(&self, node: &NodeId) -> bool {
        self.seen().waiting.contains_key(node)
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
        Arc::clone(&self.settings.borrow())
    }

    /// The settings in force, and when there are others.
    pub(crate) fn watch_settings(&self) -> watch::Receiver<Arc<Settings>> {
        self.settings.subscribe()
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
    pub(crate) fn blocks(&self) -> Counts {
        let blocks = self.blocks.lock();
        blocks.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often each provider said that it takes a machine of each pool back, since this process
    /// started.
    pub(crate) fn interruptions(&self) -> Counts {
        let interruptions = self.interruptions.lock();
        interruptions
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Tells when events are committed, by the sequence of the last.
    pub fn events(&self) -> watch::Receiver<u64> {
        self.events.subscribe()
    }

    /// Tells when a command begins to wait for a node.
    pub(crate) fn commands_of(self: &Arc<Self>, node: &NodeId) -> CommandNews {
        let mut listeners = self.listeners();
        let told = listeners
            .entry(node.clone())
            .or_insert_with(|| watch::channel(()).0);
        CommandNews {
            published: Arc::clone(self),
            node: node.clone(),
            news: Some(told.subscribe()),
        }
    }

    fn listeners(&self) -> MutexGuard<'_, BTreeMap<NodeId, watch::Sender<()>>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_report(&self, report: PlanReport) {
        *self.report.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(report);
    }

    pub(crate) fn set_settings(&self, settings: Arc<Settings>) {
        self.settings.send_if_modified(|present| {
            let before = std::mem::replace(present, settings);
            !Arc::ptr_eq(&before, present)
        });
    }

    pub(crate) fn set_policy(&self, policy: Arc<HealthPolicy>) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    /// Replaces the state after a reload.
    pub(crate) fn replace(&self, state: State) {
        let last_event = state.meta.last_event;
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = Seen::of(state);
        for told in self.listeners().values() {
            told.send_replace(());
        }
        self.events.send_replace(last_event);
    }

    /// Publishes committed changes.
    pub(crate) fn apply(&self, changes: &[Change], now: Stamp) {
        let mut last_event = 0;
        let mut woken: BTreeSet<&NodeId> = BTreeSet::new();
        {
            let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
            for change in changes {
                self.meters.changed(&seen.state, change);
                seen.apply(change);
                match change {
                    Change::Event(event) => {
                        last_event = last_event.max(event.sequence);
                        match event.kind {
                            EventKind::GuardBlocked => count("guard", &self.blocks, event),
                            EventKind::Interruption => {
                                count("provider", &self.interruptions, event);
                            }
                            _ => {}
                        }
                    }
                    Change::Node(node) if node.lifecycle == Lifecycle::Terminated => {
                        self.pulses.forget(&node.id);
                    }
                    Change::Node(node) => self.pulses.ensure(node, now),
                    Change::Command(command)
                        if command.state == CommandState::Pending && command.waits_for_agent() =>
                    {
                        woken.insert(&command.node);
                    }
                    Change::ForgetNode(id) => self.pulses.forget_beat(id),
                    _ => {}
                }
            }
        }
        if !woken.is_empty() {
            let listeners = self.listeners();
            for told in woken.into_iter().filter_map(|node| listeners.get(node)) {
                told.send_replace(());
            }
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use navarch_model::{Command, FleetId, NodeCommandType, Time};

    use super::*;

    const NOW: Stamp = Stamp {
        core: Time(1),
        wall: Time(1),
    };

    fn published(state: State) -> Arc<Published> {
        let config = navarch_config::Config::default();
        let settings = Arc::new(Settings::new(&config, |_| unreachable!("no provider")));
        Arc::new(Published::new(state, settings, HealthPolicy::builtin()))
    }

    fn command(id: &str, node: &str, state: CommandState) -> Change {
        Change::Command(Arc::new(Command {
            id: CommandId::new(id),
            node: NodeId::new(node),
            kind: NodeCommandType::RunDiagnostic,
            parameters: BTreeMap::new(),
            issued: NOW,
            expires: Time(9),
            state,
            changed: NOW,
            result: String::new(),
        }))
    }

    #[test]
    fn a_command_wakes_those_who_listen_for_its_node_and_nobody_else() {
        let published = published(State::new(FleetId::new("fleet")));
        let (a, b) = (NodeId::new("a"), NodeId::new("b"));
        let (mut first, mut second) = (published.commands_of(&a), published.commands_of(&a));
        let mut other = published.commands_of(&b);
        published.apply(&[command("1", "a", CommandState::Pending)], NOW);
        assert!(first.next().now_or_never().is_some());
        assert!(second.next().now_or_never().is_some());
        assert!(other.next().now_or_never().is_none());
        // What was delivered is no news, and neither is what was told.
        published.apply(&[command("1", "a", CommandState::Delivered)], NOW);
        assert!(first.next().now_or_never().is_none());
        // A state that was loaded again may have any news.
        published.replace(State::new(FleetId::new("fleet")));
        assert!(other.next().now_or_never().is_some());
        drop((first, other));
        assert_eq!(published.listeners().keys().collect::<Vec<_>>(), [&a]);
        drop(second);
        assert!(published.listeners().is_empty());
    }

    #[test]
    fn the_index_of_commands_is_that_of_the_state() {
        let published = published(State::new(FleetId::new("fleet")));
        let forget = |id| Change::ForgetCommand(CommandId::new(id));
        for (change, waits) in [
            (command("1", "a", CommandState::Pending), true),
            (command("2", "a", CommandState::Pending), true),
            (command("3", "b", CommandState::Pending), true),
            (command("1", "a", CommandState::Succeeded), true),
            (command("2", "a", CommandState::Delivered), true),
            (command("2", "a", CommandState::Expired), false),
            (forget("1"), false),
            (command("4", "a", CommandState::Pending), true),
            (forget("4"), false),
        ] {
            published.apply(std::slice::from_ref(&change), NOW);
            assert_eq!(
                published.has_command(&NodeId::new("a")),
                waits,
                "{change:?}"
            );
            let again = Seen::of(published.read(State::clone));
            assert_eq!(published.seen().waiting, again.waiting, "{change:?}");
        }
    }
}

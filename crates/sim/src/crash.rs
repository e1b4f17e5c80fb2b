//! The control plane as a process that dies: how it drives the core, where it crashes, and the
//! copies of its store that are put back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use navarch_core::liveness::{Liveness, Transition};
use navarch_core::{Effect, Fleet, Input, Rejection, Reply};
use navarch_model::{
    Change, CloudStatus, CommandState, NodeCommandType, Phase, Stamp, State, Time,
};
use navarch_store::{History as _, MemoryDisk, MemoryStore, Retention, Store as _};

use crate::bugs::Bug;
use crate::orders::Orders;
use crate::streams::Stream;
use crate::world::{Event, Sim};

/// Unix time at the start of every simulation: 2000-01-01T00:00:00Z, as in reports.
pub(crate) const WALL_ORIGIN_MICROS: i64 = 946_684_800_000_000;
/// Least time between two plans of what changed.
const PLAN_MICROS: i64 = 100_000;
/// Time between two removals of what is old from the store.
const PRUNE: Duration = Duration::from_secs(3600);

/// In a scenario, the whole state is checked so often for each so many nodes of it: that costs more
/// than a plan.
const CHECK: Duration = Duration::from_secs(60);
const CHECKED_NODES: u32 = 10_000;

/// Where a process dies in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    BeforeCommit,
    AfterCommit,
    AfterRelease,
}

/// A running control plane.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) fleet: Fleet,
    pub(crate) liveness: Liveness,
    store: MemoryStore,
    epoch: u64,
    origin: Time,
    started: Time,
    next_tick: Time,
    pub(crate) next_signals: Time,
    next_full: Time,
    next_prune: Time,
    last_plan: Time,
    next_wake: Option<Time>,
    /// When the queue will wake it: one entry for each.
    wakes: BTreeSet<Time>,
}

impl Process {
    pub(crate) fn stamp(&self, now: Time) -> Stamp {
        Stamp {
            core: self.origin + now.since(self.started),
            wall: Time(WALL_ORIGIN_MICROS + now.0),
        }
    }

    /// Removes from the store what is older than it is kept, once an hour.
    fn prune(&mut self, now: Time, keep: Option<&Retention>) {
        let Some(keep) = keep.filter(|_| now >= self.next_prune) else {
            return;
        };
        self.next_prune = now + PRUNE;
        let wall = self.stamp(now).wall;
        // A store that another process took over is found at the next commit.
        while self
            .store
            .prune(self.epoch, wall, keep)
            .is_ok_and(|pruned| pruned.more)
        {}
    }

    /// When it has something to do by itself.
    fn due(&self) -> Time {
        let shift = self.started.0 - self.origin.0;
        let earliest = Time(self.last_plan.0.saturating_add(PLAN_MICROS));
        let mut due = self.next_tick.min(self.next_full);
        if let Some(wake) = self.next_wake {
            due = due.min(Time(wake.0.saturating_add(shift)).max(earliest));
        }
        if self.fleet.is_dirty() {
            due = due.min(earliest);
        }
        due
    }
}

/// The control plane: a disk, and a process while one runs.
#[derive(Debug)]
pub(crate) struct Plane {
    pub(crate) disk: MemoryDisk,
    pub(crate) process: Option<Process>,
    /// Counts processes: what belongs to an earlier one is for nobody.
    pub(crate) life: u64,
    /// It does not run until then.
    pub(crate) paused_until: Time,
    /// No process starts before.
    pub(crate) down_until: Time,
    pub(crate) ids: Stream,
    pub(crate) crashes: Stream,
    /// What callers were told: every change whose turn was released.
    pub(crate) released: State,
    /// The changes of the turn that the last crash cut off after its commit.
    unreleased: Vec<Change>,
    /// The last copy of the disk.
    copy: Option<MemoryDisk>,
    /// The last process that ran before a copy was put back.
    pub(crate) restored: u64,
    /// A copy was put back, and no person has switched automation since.
    pub(crate) waits_for_person: bool,
    /// It dies in its next turn that changes something.
    pub(crate) doomed: bool,
}

impl Plane {
    pub(crate) fn new(seed: u64, disk: MemoryDisk, state: State) -> Self {
        Self {
            disk,
            process: None,
            life: 0,
            paused_until: Time(0),
            down_until: Time(0),
            ids: Stream::named(seed, "ids"),
            crashes: Stream::named(seed, "crashes"),
            released: state,
            unreleased: Vec::new(),
            copy: None,
            restored: 0,
            waits_for_person: false,
            doomed: false,
        }
    }
}

/// The replies of one turn, in the order of its inputs; none when the process died before.
pub(crate) type Replies = Option<Vec<Result<Reply, Rejection>>>;

impl Sim {
    /// A process takes the fleet over.
    pub(crate) fn start_plane(&mut self) {
        if self.plane.process.is_some() || self.now < self.plane.down_until {
            return;
        }
        let mut store = MemoryStore::open(&self.plane.disk);
        let (epoch, state) = match store
            .take_over()
            .and_then(|epoch| Ok((epoch, store.load()?)))
        {
            Ok(loaded) => loaded,
            Err(error) => {
                self.violated("store", format!("the store does not load: {error}"));
                return;
            }
        };
        self.check_loaded(&state);
        self.scheduler.loaded(&state);
        self.settle(&state);
        self.plane.released = state.clone();
        self.plane.unreleased.clear();
        self.orders = Orders::of_state(&state);
        self.seen = state.clone();
        self.next = state.clone();
        if let Some(news) = &mut self.news {
            news.loaded(state.clone());
        }
        self.check_all();
        self.plane.life += 1;
        let mut liveness = Liveness::default();
        let origin = state.meta.core_time;
        let process = |liveness, fleet| Process {
            fleet,
            liveness,
            store,
            epoch,
            origin,
            started: self.now,
            next_tick: self.now + self.config.tick,
            next_signals: crate::load::AT_ONCE,
            next_full: Time(i64::MIN),
            next_prune: Time(0),
            last_plan: Time(i64::MIN),
            next_wake: None,
            wakes: BTreeSet::new(),
        };
        let stamp = Stamp {
            core: origin,
            wall: Time(WALL_ORIGIN_MICROS + self.now.0),
        };
        for node in state
            .nodes
            .values()
            .filter(|node| node.terminated.is_none())
        {
            let silent = node.silent_since.is_some();
            let (id, session) = (node.id.clone(), node.session.clone());
            liveness.register(id, session, node.incarnation, silent, stamp);
        }
        let fleet = Fleet::new(state, self.core_settings(), self.core_policy());
        self.plane.process = Some(process(liveness, fleet));
        self.note("plane", format_args!("starts, epoch {epoch}"));
        self.turn(vec![Input::Started { epoch }]);
    }

    /// P3: what a caller was told is in the store, and nothing else but a turn that was
    /// committed and not released.
    fn check_loaded(&mut self, loaded: &State) {
        let same = |told: &State| {
            let mut told = told.clone();
            told.meta = Arc::clone(&loaded.meta);
            told == *loaded
        };
        let mut ahead = self.plane.released.clone();
        for change in &self.plane.unreleased {
            ahead.apply(change);
        }
        if !same(&self.plane.released) && !same(&ahead) {
            let what = difference(&ahead, loaded);
            self.violated("P3 nothing acknowledged is lost", what);
        }
    }

    /// A copy of the store is made, beside the running control plane.
    pub(crate) fn back_up(&mut self) {
        self.plane.copy = Some(self.plane.disk.copy());
        self.note("human", format_args!("backs the store up"));
    }

    /// The last copy is put in the place of the store: what was bought and ended since is not on
    /// its record. A person looks at the fleet before automation goes on.
    pub(crate) fn restore(&mut self) {
        let Some(copy) = &self.plane.copy else {
            return;
        };
        let mut disk = copy.copy();
        if self.config.bug != Some(Bug::RestoredGoesOn) {
            disk = disk.restored(Time(WALL_ORIGIN_MICROS + self.now.0));
        }
        self.crash("to be restored");
        self.note("human", format_args!("restores the store"));
        match MemoryStore::open(&disk).load() {
            Ok(state) => self.plane.released = state,
            Err(error) => self.violated("store", format!("the copy does not load: {error}")),
        }
        self.plane.unreleased.clear();
        self.plane.restored = self.plane.life;
        self.plane.waits_for_person = true;
        self.plane.disk = disk;
    }

    /// The process dies. Its calls that are under way may still reach the cloud.
    pub(crate) fn crash(&mut self, why: &str) {
        if self.plane.process.is_none() {
            return;
        }
        let down = if self.plane.crashes.chance(0.2) {
            self.plane.crashes.between(60_000, 900_000)
        } else {
            self.plane.crashes.between(500, 20_000)
        };
        self.end(why, down);
    }

    /// No process runs for a while. Where none runs anyway, it stays away for as long at least.
    pub(crate) fn away(&mut self, down: Duration) {
        if self.plane.process.is_some() {
            self.end("and stays away", down);
            return;
        }
        self.stay_down(down);
        let until = self.plane.down_until.0 / 1_000_000;
        self.note("plane", format_args!("stays away until {until} s"));
    }

    fn end(&mut self, why: &str, down: Duration) {
        self.wake_all();
        self.plane.process = None;
        self.deaths += 1;
        self.note("plane", format_args!("dies {why}"));
        self.stay_down(down);
    }

    fn stay_down(&mut self, down: Duration) {
        self.plane.down_until = self.plane.down_until.max(self.now + down);
        self.queue.push(self.plane.down_until, Event::Start);
    }

    /// Schedules the process to be woken when it has something to do.
    pub(crate) fn schedule_plane(&mut self) {
        let (now, life) = (self.now, self.plane.life);
        let resumed = self.plane.paused_until;
        let Some(process) = &mut self.plane.process else {
            return;
        };
        let due = process.due().max(now).max(resumed);
        // Those that are over came while it was paused.
        while process.wakes.first().is_some_and(|at| *at < now) {
            process.wakes.pop_first();
        }
        // A later one that waits stays: it would be scheduled again, and their number only grow.
        if process.wakes.first().is_none_or(|at| *at > due) {
            process.wakes.insert(due);
            self.queue.push(due, Event::Wake { life });
        }
    }

    /// The loop of the process: ticks, silences, plans.
    pub(crate) fn wake_plane(&mut self) {
        let now = self.now;
        if now < self.plane.paused_until {
            return;
        }
        let Some(process) = &mut self.plane.process else {
            return;
        };
        process.wakes.remove(&now);
        if now >= process.next_tick {
            process.next_tick = now + self.config.tick;
            if self.turn(vec![Input::Tick]).is_none() {
                return;
            }
            if let Some(signals) = self.signals_due()
                && self.turn(vec![signals]).is_none()
            {
                return;
            }
            let Some(process) = &mut self.plane.process else {
                return;
            };
            let stamp = process.stamp(now);
            let timeout = process.fleet.settings().heartbeat_timeout;
            let inputs: Vec<Input> = process
                .liveness
                .sweep(timeout, process.fleet.grace(), stamp)
                .into_iter()
                .map(|transition| match transition {
                    Transition::Silent(node, last_heard) => Input::Silent { node, last_heard },
                    Transition::Back(node) => Input::Back { node },
                })
                .collect();
            if !inputs.is_empty() && self.turn(inputs).is_none() {
                return;
            }
        }
        let Some(process) = &mut self.plane.process else {
            return;
        };
        let stamp = process.stamp(now);
        let full = now >= process.next_full;
        let woken = process.next_wake.is_some_and(|wake| stamp.core >= wake);
        let rested = now.0 >= process.last_plan.0.saturating_add(PLAN_MICROS);
        if full || ((process.fleet.is_dirty() || woken) && rested) {
            if full {
                process.next_full = now + self.config.full_plan;
                process.prune(now, self.config.retention.as_ref());
            }
            // A plan of what changed is compared with the plan of everything; in long runs once a
            // minute.
            let thorough = self.config.thorough;
            let all = (full || thorough).then(|| process.fleet.plan_all(stamp));
            let part = (!full || !thorough).then(|| process.fleet.plan(stamp));
            let plan = match (part, all) {
                (Some(plan), Some(all)) if plan.actions != all.actions => {
                    let what = format!(
                        "{:?} is planned, and {:?} is due",
                        plan.actions, all.actions
                    );
                    self.violated("a plan of what changed is the plan of all", what);
                    return;
                }
                (_, Some(all)) if full => all,
                (Some(plan), _) | (None, Some(plan)) => plan,
                (None, None) => return,
            };
            process.fleet.planned(&plan);
            process.next_wake = plan.report.next_wake;
            process.last_plan = now;
            self.report = plan.report;
            if let Some(story) = &mut self.story {
                story.book.planned(&self.report, &self.settings, now);
            }
            self.plans += 1;
            let actions = self.planned_by_mistake(plan.actions);
            let inputs: Vec<Input> = actions.into_iter().map(Input::Act).collect();
            if !inputs.is_empty() {
                self.turn(inputs);
            }
            let due = self.story.is_none() || now >= self.next_check;
            if !self.config.thorough && self.checked != self.facts && due {
                self.check_all();
                let nodes = u32::try_from(self.seen.nodes.len()).unwrap_or(u32::MAX);
                self.next_check = now + CHECK * (nodes / CHECKED_NODES).max(1);
            }
        }
    }

    /// Feeds inputs, makes their changes durable, then releases replies and effects.
    pub(crate) fn turn(&mut self, inputs: Vec<Input>) -> Replies {
        let now = self.now;
        let bug = self.config.bug;
        let mut changes = Vec::new();
        let mut effects = Vec::new();
        let mut replies = Vec::new();
        for input in inputs {
            self.wake_for(&input);
            let asked = self.asked(&input);
            let input = self.mistaken(input);
            let process = self.plane.process.as_mut()?;
            let stamp = process.stamp(now);
            let applied = process.fleet.apply(input, stamp, &mut self.plane.ids);
            self.check_step(asked, &applied, stamp);
            changes.extend(applied.changes);
            effects.extend(applied.effects);
            replies.push(applied.reply);
        }
        let point = self.crash_point(!changes.is_empty());
        if bug == Some(Bug::RepliesBeforeCommit) {
            self.release(&changes);
        }
        if bug == Some(Bug::EffectsBeforeCommit) {
            self.start_effects(std::mem::take(&mut effects));
        }
        if point == Some(Point::BeforeCommit) {
            self.crash("before a commit");
            return None;
        }
        let durable = self.durable(&changes);
        let process = self.plane.process.as_mut()?;
        if let Err(error) = process.store.commit(process.epoch, &durable) {
            self.violated("store", format!("a commit is refused: {error}"));
            return None;
        }
        for change in &changes {
            if let Change::Event(event) = change {
                self.trace.event(now, event);
            }
        }
        if point == Some(Point::AfterCommit) {
            self.plane.unreleased = changes;
            self.crash("after a commit, before replies and effects");
            return None;
        }
        if bug != Some(Bug::RepliesBeforeCommit) {
            self.release(&changes);
        }
        self.start_effects(effects);
        if point == Some(Point::AfterRelease) {
            self.crash("after a commit");
        }
        Some(replies)
    }

    fn crash_point(&mut self, changes: bool) -> Option<Point> {
        if !changes || !self.troubled {
            return None;
        }
        let doomed = std::mem::take(&mut self.plane.doomed);
        if !doomed && !self.plane.crashes.chance(self.config.crash_per_turn) {
            return None;
        }
        self.plane
            .crashes
            .pick(&[Point::BeforeCommit, Point::AfterCommit, Point::AfterRelease])
            .copied()
    }

    /// What leaves: callers learn of the changes, and ended nodes are heard no more.
    fn release(&mut self, changes: &[Change]) {
        self.write_down(changes);
        if let (Some(news), Some(process)) = (&mut self.news, &self.plane.process) {
            news.changed(changes, process.stamp(self.now));
        }
        for change in changes {
            self.plane.released.apply(change);
            if let (Change::Node(node), Some(process)) = (change, &mut self.plane.process)
                && node.terminated.is_some()
            {
                process.liveness.forget(&node.id);
            }
            if let Change::Command(command) = change
                && command.state == CommandState::Pending
                && command.kind == NodeCommandType::RunDiagnostic
            {
                self.push_commands(&command.node);
            }
        }
    }

    fn start_effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.start_effect(effect);
        }
    }

    /// The intent of a launch is durable before the call is made.
    pub(crate) fn check_intent(&mut self, effect: &Effect) {
        let Effect::Launch { key, .. } = effect else {
            return;
        };
        let stored = self.plane.disk.instance(&key.instance).ok().flatten();
        let known = stored.map(|instance| (instance.phase, instance.attempt));
        let durable = known
            .is_some_and(|(phase, attempt)| phase != Phase::Requested && attempt >= key.attempt);
        if !durable {
            let what = format!(
                "the launch of {} is called, and the store knows {known:?}",
                key.instance
            );
            self.violated("P2 the intent is durable before the call", what);
        }
    }
}

/// The first difference between what callers know and what was loaded.
fn difference(told: &State, loaded: &State) -> String {
    for (id, node) in &told.nodes {
        if loaded.nodes.get(id) != Some(node) {
            let holds = loaded.nodes.get(id).map(|node| node.hold_names());
            return format!(
                "node {id}: told holds {:?}, loaded {holds:?}",
                node.hold_names()
            );
        }
    }
    for (id, instance) in &told.instances {
        let phase = loaded.instances.get(id).map(|loaded| loaded.phase);
        if loaded.instances.get(id) != Some(instance) {
            return format!("instance {id}: told {:?}, loaded {phase:?}", instance.phase);
        }
    }
    "pools, incidents, commands or unclaimed machines differ".to_owned()
}

/// Whether the cloud took a termination on.
pub(crate) const fn is_accepted(status: CloudStatus) -> bool {
    matches!(
        status,
        CloudStatus::Terminating | CloudStatus::Terminated | CloudStatus::NotFound
    )
}

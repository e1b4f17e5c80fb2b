//! The fleet loop: the one place that owns the Fleet.
//!
//! A turn takes a batch of inputs, applies them, and hands the changes to the store's writer. A
//! second task waits for each commit in order, publishes the changes, and only then releases the
//! replies and starts the effects; meanwhile the next turn is applied. When a commit fails, the
//! Fleet is discarded and loaded again, and everybody who waits gets `unavailable`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use navarch_core::input::{Applied, Effect, Input, Rejection, Reply};
use navarch_core::liveness::Transition;
use navarch_core::{Fleet, IdSource, PlanReport, Settings};
use navarch_model::{Change, Stamp, State, Time};
use navarch_policy::HealthPolicy;
use navarch_store::{Pruned, Retention, StoreError, Ticket, Writer};
use navarch_time::{OsRng, Rng, SharedClock, Tasks};
use tokio::sync::{mpsc, oneshot};

use crate::effects::{Cloud, Effects};
use crate::publish::Published;

/// Reports and registrations that may wait. More hides a slow disk; fewer refuses bursts that
/// agents then send again from their spools.
const AGENT_QUEUE: usize = 4096;
/// Results and operators' inputs that may wait, beside the agents'.
const PRIORITY_QUEUE: usize = 16_384;
/// Inputs in one turn.
const TURN: usize = 200;
/// Turns whose commit may be under way.
const PIPELINE: usize = 64;
/// How often time alone is fed.
const TICK: Duration = Duration::from_secs(1);
/// How often the free space of the store's disk is measured. Less often, and a disk that fills
/// quickly is noticed late; more often costs system calls.
const MEASURE_DISK: Duration = Duration::from_secs(5);
/// How long to wait before a failed reload is tried again.
const RELOAD_WAIT: Duration = Duration::from_secs(1);

/// Why an input got no reply of the Fleet's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The Fleet refused it; nothing that the caller asked for was changed.
    #[error("{0}")]
    Rejected(#[from] Rejection),
    /// Too much waits already.
    #[error("the control plane is overloaded: send it again later")]
    Overloaded,
    /// It could not be made durable, or the control plane is shutting down.
    #[error("the control plane cannot take it now: {0}")]
    Unavailable(String),
}

type Answer = oneshot::Sender<Result<Reply, SubmitError>>;

pub(crate) struct Job {
    pub(crate) input: Input,
    answer: Option<Answer>,
}

/// The other ends of a [`FleetHandle`].
pub(crate) struct Jobs {
    agents: mpsc::Receiver<Job>,
    pub(crate) priority: mpsc::Receiver<Job>,
}

/// What feeds the Fleet.
#[derive(Debug, Clone)]
pub struct FleetHandle {
    agents: mpsc::Sender<Job>,
    priority: mpsc::Sender<Job>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("input", &self.input)
            .finish_non_exhaustive()
    }
}

impl FleetHandle {
    /// A handle and what it feeds; `priority` answers and operators' inputs may wait.
    pub(crate) fn new(priority: usize) -> (Self, Jobs) {
        let (agents, agent_jobs) = mpsc::channel(AGENT_QUEUE);
        let (priority, priority_jobs) = mpsc::channel(priority);
        let jobs = Jobs {
            agents: agent_jobs,
            priority: priority_jobs,
        };
        (Self { agents, priority }, jobs)
    }

    /// Submits an agent's input and waits until it is durable.
    ///
    /// # Errors
    ///
    /// See [`SubmitError`].
    pub async fn submit_agent(&self, input: Input) -> Result<Reply, SubmitError> {
        let (answer, reply) = oneshot::channel();
        match self.agents.try_send(Job {
            input,
            answer: Some(answer),
        }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(SubmitError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(shutting_down()),
        }
        reply.await.unwrap_or_else(|_| Err(shutting_down()))
    }

    /// Submits an operator's input and waits until it is durable.
    ///
    /// # Errors
    ///
    /// See [`SubmitError`].
    pub async fn submit(&self, input: Input) -> Result<Reply, SubmitError> {
        let (answer, reply) = oneshot::channel();
        if self
            .priority
            .send(Job {
                input,
                answer: Some(answer),
            })
            .await
            .is_err()
        {
            return Err(shutting_down());
        }
        reply.await.unwrap_or_else(|_| Err(shutting_down()))
    }

    /// Feeds the answer to a call. It waits for room: an answer that is lost leaves its machine
    /// waiting.
    pub async fn tell(&self, input: Input) {
        // An error means that the loop has ended; the next start looks everything up.
        drop(
            self.priority
                .send(Job {
                    input,
                    answer: None,
                })
                .await,
        );
    }

    /// Feeds an answer if there is room for it now.
    ///
    /// # Errors
    ///
    /// The input, when it has to wait for room.
    pub fn try_tell(&self, input: Input) -> Result<(), Box<Input>> {
        match self.priority.try_send(Job {
            input,
            answer: None,
        }) {
            Err(mpsc::error::TrySendError::Full(job)) => Err(Box::new(job.input)),
            // The loop has ended; the next start looks everything up.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// Feeds a fact that nobody waits for and that is found again if it is lost.
    pub fn feed(&self, input: Input) {
        if let Err(input) = self.try_tell(input) {
            tracing::warn!(?input, "an input is found again later: the queue is full");
        }
    }
}

fn shutting_down() -> SubmitError {
    SubmitError::Unavailable("it is shutting down".to_owned())
}

/// Ids from the operating system.
#[derive(Debug, Default)]
pub struct SystemIds(OsRng);

impl IdSource for SystemIds {
    fn next_bits(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// Fleet time: resumes from the persisted value and advances by the monotonic clock.
#[derive(Clone)]
pub struct FleetClock {
    clock: SharedClock,
    origin: Time,
    started: Duration,
}

impl std::fmt::Debug for FleetClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FleetClock")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl FleetClock {
    /// A clock that goes on from `origin`.
    pub fn new(clock: SharedClock, origin: Time) -> Self {
        let started = clock.monotonic();
        Self {
            clock,
            origin,
            started,
        }
    }

    /// The present moment.
    pub fn now(&self) -> Stamp {
        let elapsed = self.clock.monotonic().saturating_sub(self.started);
        Stamp {
            core: self.origin + elapsed,
            wall: Time(self.clock.wall()),
        }
    }

    /// The clock under it.
    pub const fn clock(&self) -> &SharedClock {
        &self.clock
    }
}

/// The bytes that this process may still write on the disk of a directory.
#[cfg(unix)]
fn free_bytes(directory: &Path) -> std::io::Result<u64> {
    let disk = rustix::fs::statvfs(directory)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_directory: &Path) -> std::io::Result<u64> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// What waits for one commit.
struct Turn {
    at: Stamp,
    ticket: Option<Ticket>,
    changes: Vec<Change>,
    replies: Vec<(Answer, Result<Reply, Rejection>)>,
    effects: Vec<Effect>,
    /// What the plan found whose actions are in this turn.
    report: Option<PlanReport>,
    /// By what the turn was decided.
    rules: Option<Rules>,
}

/// The settings and the policy of a turn. Readers see them, and a Fleet that is loaded again goes
/// by them, once the turn is durable.
struct Rules {
    settings: Arc<Settings>,
    policy: Arc<HealthPolicy>,
}

enum Release {
    Turn(Turn),
    /// Everything before this was released or refused.
    Barrier(oneshot::Sender<()>),
}

/// A running fleet.
#[derive(Debug)]
pub struct Running {
    /// Feeds it.
    pub handle: FleetHandle,
    /// Reads it.
    pub published: Arc<Published>,
    /// Its time.
    pub time: FleetClock,
}

/// What a fleet is started with.
pub struct Parts {
    /// The loaded Fleet.
    pub fleet: Fleet,
    /// The store's writer.
    pub writer: Writer,
    /// The epoch that the store gave.
    pub epoch: u64,
    /// The providers.
    pub clouds: std::collections::BTreeMap<navarch_model::ProviderName, Cloud>,
    /// Least time between two plans of what changed.
    pub plan_interval: Duration,
    /// Time between two plans of everything.
    pub full_plan_interval: Duration,
    /// The directory of the store, whose disk is measured.
    pub data_dir: PathBuf,
    /// The clock.
    pub clock: SharedClock,
}

/// Starts the fleet loop in `tasks`. It ends, with everything applied committed and released,
/// when the group's token is cancelled.
pub fn start(parts: Parts, tasks: &Tasks) -> Running {
    let Parts {
        fleet,
        writer,
        epoch,
        clouds,
        plan_interval,
        full_plan_interval,
        data_dir,
        clock,
    } = parts;
    let time = FleetClock::new(Arc::clone(&clock), fleet.state().meta.core_time);
    let published = Arc::new(Published::new(
        fleet.state().clone(),
        Arc::clone(fleet.settings()),
        Arc::clone(fleet.policy()),
    ));
    published.pulses.load(fleet.state(), time.now());
    let (handle, jobs) = FleetHandle::new(PRIORITY_QUEUE);
    let effects = Effects::start(clouds, handle.clone(), time.clone(), &tasks.spawner());
    let (release, released) = mpsc::channel(PIPELINE);
    let failed = Arc::new(Failed::default());
    let releaser = Releaser {
        published: Arc::clone(&published),
        effects: effects.clone(),
        failed: Arc::clone(&failed),
    };
    tasks.spawn("release", releaser.run(released));
    let owner = Owner {
        fleet,
        writer,
        epoch,
        time: time.clone(),
        published: Arc::clone(&published),
        agent_jobs: jobs.agents,
        priority_jobs: jobs.priority,
        release,
        effects,
        failed,
        plan_interval,
        full_plan_interval,
        ids: SystemIds::default(),
        pending: Turn::empty(),
        pruning: None,
        data_dir,
        next_measure: Time(i64::MIN),
        last_reload: Time(i64::MIN),
        token: tasks.token(),
    };
    tasks.spawn("fleet", owner.run());
    Running {
        handle,
        published,
        time,
    }
}

impl Turn {
    const fn empty() -> Self {
        Self {
            at: Stamp {
                core: Time(0),
                wall: Time(0),
            },
            ticket: None,
            changes: Vec::new(),
            replies: Vec::new(),
            effects: Vec::new(),
            report: None,
            rules: None,
        }
    }
}

struct Owner {
    fleet: Fleet,
    writer: Writer,
    epoch: u64,
    time: FleetClock,
    published: Arc<Published>,
    agent_jobs: mpsc::Receiver<Job>,
    priority_jobs: mpsc::Receiver<Job>,
    release: mpsc::Sender<Release>,
    effects: Effects,
    failed: Arc<Failed>,
    plan_interval: Duration,
    full_plan_interval: Duration,
    ids: SystemIds,
    pending: Turn,
    pruning: Option<Ticket<Pruned>>,
    data_dir: PathBuf,
    next_measure: Time,
    last_reload: Time,
    token: navarch_time::CancellationToken,
}

impl Owner {
    async fn run(mut self) {
        self.apply(Input::Started { epoch: self.epoch }, None);
        self.measure_disk();
        let mut next_tick = self.time.now().core + TICK;
        let mut next_full = Time(i64::MIN);
        let mut last_plan = Time(i64::MIN);
        let mut next_wake: Option<Time> = None;
        loop {
            let now = self.time.now().core;
            let mut due = next_tick.min(next_full);
            if let Some(wake) = next_wake {
                due = due.min(wake.max(last_plan + self.plan_interval));
            }
            if self.fleet.is_dirty() {
                due = due.min(last_plan + self.plan_interval);
            }
            let job = if self.pending.is_empty() || due > now {
                let clock = Arc::clone(self.time.clock());
                tokio::select! {
                    biased;
                    () = self.token.cancelled() => break,
                    job = self.priority_jobs.recv() => job,
                    job = self.agent_jobs.recv() => job,
                    () = clock.sleep(due.since(now)) => None,
                }
            } else {
                None
            };
            if let Some(job) = job {
                self.apply(job.input, job.answer);
            }
            // A pause of ours: everything that came meanwhile is heard before anything is judged.
            let paused =
                self.time.now().core.since(next_tick) > self.fleet.settings().guards.pause_gap;
            self.drain_queues(if paused { usize::MAX } else { TURN });
            let now = self.time.now().core;
            if now >= next_tick {
                self.tick();
                next_tick = now + TICK;
            }
            let woken = next_wake.is_some_and(|wake| now >= wake);
            if now >= next_full
                || ((self.fleet.is_dirty() || woken) && now >= last_plan + self.plan_interval)
            {
                let full = now >= next_full;
                if full {
                    next_full = now + self.full_plan_interval;
                    self.prune().await;
                }
                next_wake = self.plan(full);
                last_plan = now;
            }
            self.flush().await;
            if self.failed.raised.load(Ordering::Acquire) {
                self.reload().await;
                next_full = Time(i64::MIN);
            }
        }
        self.priority_jobs.close();
        self.agent_jobs.close();
        self.drain_queues(usize::MAX);
        self.flush().await;
        self.barrier().await;
    }

    /// Takes what waits, results and operators first.
    fn drain_queues(&mut self, limit: usize) {
        for _ in 0..limit {
            let job = match self.priority_jobs.try_recv() {
                Ok(job) => job,
                Err(_) => match self.agent_jobs.try_recv() {
                    Ok(job) => job,
                    Err(_) => return,
                },
            };
            self.apply(job.input, job.answer);
        }
    }

    fn apply(&mut self, input: Input, answer: Option<Answer>) {
        let now = self.time.now();
        let Applied {
            reply,
            changes,
            effects,
        } = self.fleet.apply(input, now, &mut self.ids);
        self.pending.changes.extend(changes);
        self.pending.effects.extend(effects);
        match answer {
            Some(answer) => self.pending.replies.push((answer, reply)),
            None => {
                if let Err(rejection) = reply {
                    tracing::debug!(%rejection, "an action was not taken");
                }
            }
        }
    }

    /// Feeds the free space of the store's disk.
    fn measure_disk(&mut self) {
        self.next_measure = self.time.now().core + MEASURE_DISK;
        match free_bytes(&self.data_dir) {
            Ok(free) => {
                self.published.set_free_bytes(free);
                self.apply(Input::Disk { free }, None);
            }
            Err(error) => tracing::debug!(%error, "the free space of the store is not known"),
        }
    }

    /// Feeds the passage of time, then the silences that it brought.
    fn tick(&mut self) {
        self.apply(Input::Tick, None);
        let now = self.time.now();
        if now.core >= self.next_measure {
            self.measure_disk();
        }
        let timeout = self.fleet.settings().heartbeat_timeout;
        for transition in self
            .published
            .pulses
            .sweep(timeout, self.fleet.grace(), now)
        {
            let input = match transition {
                Transition::Silent(node, last_heard) => Input::Silent { node, last_heard },
                Transition::Back(node) => Input::Back { node },
            };
            self.apply(input, None);
        }
        let back: Vec<_> = self
            .fleet
            .state()
            .nodes
            .values()
            .filter_map(|node| Some((node.id.clone(), node.silent_since?)))
            .filter(|(id, since)| self.published.pulses.is_back(id, *since))
            .collect();
        for (node, _) in back {
            self.apply(Input::Back { node }, None);
        }
    }

    fn plan(&mut self, full: bool) -> Option<Time> {
        let now = self.time.now();
        let plan = if full {
            self.fleet.plan_all(now)
        } else {
            self.fleet.plan(now)
        };
        self.fleet.planned(&plan);
        for action in plan.actions {
            self.apply(Input::Act(action), None);
        }
        let wake = plan.report.next_wake;
        self.pending.report = Some(plan.report);
        wake
    }

    /// Asks for one small batch of old records to be removed, and hears how the last one went.
    async fn prune(&mut self) {
        let wall = Time(self.time.now().wall.0);
        let next = self.writer.prune(wall, Retention::default());
        if let Some(Err(error)) = match self.pruning.replace(next) {
            Some(last) => Some(last.await),
            None => None,
        } {
            tracing::warn!(%error, "old records could not be removed; trying again");
        }
    }

    /// Hands the turn to the writer and the releaser.
    async fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let mut turn = std::mem::replace(&mut self.pending, Turn::empty());
        turn.at = self.time.now();
        turn.rules = Some(Rules {
            settings: Arc::clone(self.fleet.settings()),
            policy: Arc::clone(self.fleet.policy()),
        });
        if !turn.changes.is_empty() {
            turn.ticket = Some(self.writer.submit(turn.changes.clone()));
        }
        if self.release.send(Release::Turn(turn)).await.is_err() {
            tracing::error!("the release task ended before the fleet loop");
        }
    }

    async fn barrier(&self) {
        let (done, wait) = oneshot::channel();
        if self.release.send(Release::Barrier(done)).await.is_ok() {
            // An error means that the releaser ended, and nothing waits any more.
            drop(wait.await);
        }
    }

    /// Discards the Fleet and loads what is durable.
    ///
    /// # Panics
    ///
    /// When the store says that this process must not write any more: the server then ends with an
    /// error, and whatever waits is told that it is unavailable.
    async fn reload(&mut self) {
        self.barrier().await;
        // A store that fails all the time is not asked all the time.
        let next = self.last_reload + RELOAD_WAIT;
        let wait = next.since(self.time.now().core);
        let clock = Arc::clone(self.time.clock());
        tokio::select! {
            () = self.token.cancelled() => {}
            () = clock.sleep(wait) => {}
        }
        self.last_reload = self.time.now().core;
        loop {
            if let Some(error) = self.failed.fatal.get() {
                panic!("the server must stop: {error}");
            }
            match self.writer.load().await {
                Ok(state) => {
                    self.restart(state);
                    return;
                }
                Err(error) if error.is_final() => self.failed.fatal(&error),
                Err(error) => {
                    tracing::error!(%error, "the fleet cannot be loaded again; trying again");
                    let clock = Arc::clone(self.time.clock());
                    tokio::select! {
                        () = self.token.cancelled() => return,
                        () = clock.sleep(RELOAD_WAIT) => {}
                    }
                }
            }
        }
    }

    fn restart(&mut self, state: State) {
        // Not those of the Fleet that is gone: it may have taken them from a commit that failed.
        let (settings, policy) = (self.published.settings(), self.published.policy());
        // What waits was asked for by the Fleet that is gone: plans derive it again.
        self.effects.purge();
        self.published.replace(state.clone());
        self.published.pulses.load(&state, self.time.now());
        self.fleet = Fleet::new(state, settings, policy);
        self.failed.raised.store(false, Ordering::Release);
        self.apply(Input::Started { epoch: self.epoch }, None);
        self.measure_disk();
        tracing::warn!("the fleet was loaded again after a failed commit");
    }
}

impl Turn {
    fn is_empty(&self) -> bool {
        self.changes.is_empty()
            && self.replies.is_empty()
            && self.effects.is_empty()
            && self.report.is_none()
    }
}

/// What the releaser tells the owner of failed commits.
#[derive(Debug, Default)]
struct Failed {
    raised: AtomicBool,
    fatal: OnceLock<StoreError>,
}

impl Failed {
    fn raise(&self) {
        self.raised.store(true, Ordering::Release);
    }

    /// After this error the process must not write any more. The first counts.
    fn fatal(&self, error: &StoreError) {
        // A second one says nothing new.
        let _ = self.fatal.set(error.clone());
    }
}

struct Releaser {
    published: Arc<Published>,
    effects: Effects,
    failed: Arc<Failed>,
}

impl Releaser {
    async fn run(self, mut turns: mpsc::Receiver<Release>) {
        // After a failed commit nothing is released until the fleet was loaded again: later turns
        // build on changes that were lost.
        let mut broken: Option<StoreError> = None;
        while let Some(release) = turns.recv().await {
            let turn = match release {
                Release::Turn(turn) => turn,
                Release::Barrier(done) => {
                    broken = None;
                    // The owner waits for it, unless it was aborted.
                    let _ = done.send(());
                    continue;
                }
            };
            let committed = turn.ticket.is_some();
            let result = match (&broken, turn.ticket) {
                (Some(error), _) => Err(error.clone()),
                (None, Some(ticket)) => ticket.await,
                (None, None) => Ok(()),
            };
            match result {
                Ok(()) => {
                    self.published.apply(&turn.changes, turn.at);
                    if committed {
                        self.published.set_failing(false);
                    }
                    if let Some(Rules { settings, policy }) = turn.rules {
                        self.published.set_settings(settings);
                        self.published.set_policy(policy);
                    }
                    if let Some(report) = turn.report {
                        self.published.set_report(report);
                    }
                    for (answer, reply) in turn.replies {
                        // The caller may be gone; the change stays.
                        drop(answer.send(reply.map_err(SubmitError::from)));
                    }
                    for effect in turn.effects {
                        self.effects.begin(effect);
                    }
                }
                Err(error) => {
                    if error.is_final() {
                        // Callers that wait are told before the owner ends everything.
                        self.failed.fatal(&error);
                    } else if broken.is_none() {
                        tracing::error!(%error, "a commit failed; the fleet is loaded again");
                    }
                    self.published.set_failing(true);
                    self.failed.raise();
                    for (answer, _) in turn.replies {
                        drop(answer.send(Err(SubmitError::Unavailable(error.to_string()))));
                    }
                    broken = Some(error);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;

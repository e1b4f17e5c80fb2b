//! The one task that owns the Fleet: it takes turns, plans, and hands each turn on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use navarch_core::Fleet;
use navarch_core::input::{Applied, Input};
use navarch_core::liveness::Transition;
use navarch_model::{State, Time};
use navarch_store::{Pruned, Retention, Ticket, Writer};
use tokio::sync::{mpsc, oneshot, watch};

use super::clock::{FleetClock, SystemIds};
use super::handle::{Answer, Job};
use super::release::Failed;
use super::trouble::Trouble;
use super::turn::{Release, Rules, Turn};
use crate::effects::Effects;
use crate::publish::Published;

/// Inputs in one turn.
const TURN: usize = 200;
/// How often time alone is fed.
const TICK: Duration = Duration::from_secs(1);
/// How often the free space of the store's disk is measured. Less often, and a disk that fills
/// quickly is noticed late; more often costs system calls.
const MEASURE_DISK: Duration = Duration::from_secs(5);
/// How long to wait before a failed reload is tried again.
const RELOAD_WAIT: Duration = Duration::from_secs(1);

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

pub(super) struct Owner {
    pub(super) fleet: Fleet,
    pub(super) writer: Writer,
    pub(super) epoch: u64,
    pub(super) time: FleetClock,
    pub(super) published: Arc<Published>,
    pub(super) agent_jobs: mpsc::Receiver<Job>,
    pub(super) priority_jobs: mpsc::Receiver<Job>,
    pub(super) release: mpsc::Sender<Release>,
    pub(super) effects: Effects,
    pub(super) failed: Arc<Failed>,
    pub(super) plan_interval: Duration,
    pub(super) full_plan_interval: Duration,
    pub(super) ids: SystemIds,
    pub(super) pending: Turn,
    pub(super) pruning: Option<Ticket<Pruned>>,
    pub(super) keep: watch::Receiver<Retention>,
    pub(super) data_dir: PathBuf,
    pub(super) next_measure: Time,
    pub(super) last_reload: Time,
    /// The store cannot be read.
    pub(super) unreadable: Option<Trouble>,
    pub(super) token: navarch_time::CancellationToken,
}

impl Owner {
    pub(super) async fn run(mut self) {
        self.apply(Input::Started { epoch: self.epoch }, None);
        self.measure_disk();
        let mut next_tick = self.time.now().core + TICK;
        let mut next_full = Time(i64::MIN);
        let mut last_plan = Time(i64::MIN);
        let mut next_wake: Option<Time> = None;
        let mut prune = false;
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
                self.prune(std::mem::take(&mut prune));
                next_tick = now + TICK;
            }
            let woken = next_wake.is_some_and(|wake| now >= wake);
            if now >= next_full
                || ((self.fleet.is_dirty() || woken) && now >= last_plan + self.plan_interval)
            {
                let full = now >= next_full;
                if full {
                    next_full = now + self.full_plan_interval;
                    prune = true;
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
        let action = match &input {
            Input::Act(action) => action.kind(),
            _ => None,
        };
        let Applied {
            reply,
            changes,
            effects,
        } = self.fleet.apply(input, now, &mut self.ids);
        if let Some(kind) = action {
            self.pending.actions.push((kind, reply.is_ok()));
        }
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

    /// Asks for one small batch of old records to be removed: after each full plan, and every tick
    /// while there is more. It waits for nothing, and never asks for two at once.
    fn prune(&mut self, full: bool) {
        let more = match self.pruning.as_mut().map(|asked| asked.now_or_never()) {
            Some(None) => return,
            Some(Some(Ok(pruned))) => pruned.more,
            Some(Some(Err(error))) => {
                tracing::warn!(%error, "old records could not be removed; trying again");
                false
            }
            None => false,
        };
        self.pruning = (full || more).then(|| {
            let wall = Time(self.time.now().wall.0);
            self.writer.prune(wall, *self.keep.borrow())
        });
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
        if self
            .release
            .send(Release::Turn(Box::new(turn)))
            .await
            .is_err()
        {
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
                    self.unreadable = None;
                    self.restart(state);
                    return;
                }
                Err(error) if error.is_final() => self.failed.fatal(&error),
                Err(error) => {
                    let now = self.time.now().core;
                    if Trouble::is_news(&mut self.unreadable, now) {
                        tracing::error!(%error, "the fleet cannot be loaded again; trying again");
                    }
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
        // The failure was told, and its end will be.
        tracing::debug!("the fleet was loaded again after a failed commit");
    }
}

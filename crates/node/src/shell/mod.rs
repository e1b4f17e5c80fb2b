//! The loop that drives the agent's core: carries out its steps and tells it what came of them.

mod answers;
mod calls;
mod events;
mod orders;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use navarch_api::{Cause, Client, ClientError, Code, wire};
use navarch_core::agent::{Agent, Outcome, Spool, SpoolLimits, Step};
use navarch_core::liveness::GpuSample;
use navarch_gpu::{GpuBackend, Selected};
use navarch_model::{BootId, CommandId, Gpu, SessionId, Time};
use navarch_time::{CancellationToken, SharedClock, Timer, timeout};
use tokio::sync::{Notify, mpsc, oneshot};

pub(crate) use events::{KERNEL_LOG, KernelLogPosition};

use crate::AgentError;
use crate::commands::{Finished, Ledger};
use crate::debug::Nudge;
use crate::freshness::{BootTime, Made, Moment};
use crate::machine::{Identity, Ids};
use crate::reading::{Reading, Scribe};
use crate::spool::Journal;
use crate::state::StateDir;
use crate::usage::Meter;
use crate::watch::Heard;
use crate::wire as message;
use crate::worker::{NoAnswer, Worker};

/// How long the driver may take to start before the agent goes on without.
const START_LIMIT: Duration = Duration::from_secs(5);
/// How long the driver may take to name the GPUs for a registration.
const IDENTIFY_LIMIT: Duration = Duration::from_secs(3);
/// How long the driver may take for a full reading. Too low calls a busy driver hung; too high
/// finds a hung one late.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// How long the driver may take for the numbers of a heartbeat, which must not come late.
const SAMPLE_LIMIT: Duration = Duration::from_secs(2);

/// What the shell is made of. Nothing is optional but what a machine may lack.
pub(crate) struct Parts {
    pub(crate) clock: SharedClock,
    pub(crate) boot_time: BootTime,
    pub(crate) ids: Ids,
    pub(crate) client: Client,
    pub(crate) identity: Identity,
    pub(crate) worker: Worker,
    pub(crate) selected: oneshot::Receiver<Selected>,
    /// The boot id that counts unless the backend plays a machine.
    pub(crate) kernel_boot: String,
    pub(crate) state: Option<Arc<StateDir>>,
    pub(crate) spool_limits: SpoolLimits,
    pub(crate) nudges: mpsc::Receiver<Nudge>,
}

type Work = FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>;

/// What something that was begun came to.
enum Done {
    Registered(Vec<Gpu>, Result<wire::RegisterNodeResponse, ClientError>),
    Beaten {
        result: Result<(), ClientError>,
        samples: Option<Vec<GpuSample>>,
        usage: crate::usage::Usage,
        took: Duration,
    },
    Read(Result<Reading, NoAnswer>, Made),
    Sent {
        result: Result<wire::ReportHealthResponse, ClientError>,
        full: bool,
        facts: usize,
    },
    Polled(Result<Vec<wire::NodeCommand>, ClientError>),
    Heard(Heard),
    Ran(Finished, bool),
    Acknowledged(CommandId, bool),
}

/// The agent, shell and core.
pub(crate) struct Shell {
    clock: SharedClock,
    boot_time: BootTime,
    ids: Ids,
    client: Client,
    identity: Arc<Identity>,
    worker: Worker,
    /// Where the backend comes from, until it came.
    selected: Option<oneshot::Receiver<Selected>>,
    backend: Option<Arc<dyn GpuBackend>>,
    kernel_boot: String,
    state: Option<Arc<StateDir>>,
    nudges: mpsc::Receiver<Nudge>,
    agent: Agent,
    journal: Option<Journal>,
    ledger: Ledger,
    scribe: Scribe,
    meter: Meter,
    /// The GPUs as they were last named.
    gpus: Vec<Gpu>,
    /// The driver did not answer last time: heartbeats do not wait for it.
    hung: bool,
    /// A full reading is under way, and whether something changed since it began.
    reading: bool,
    read_again: bool,
    /// The newest reading that the core was given: when it was made, and its number of facts.
    newest: Option<(Made, usize)>,
    /// The reading that was to come last time was lost in a pause.
    paused: bool,
    watching: bool,
    watch_failures: u32,
    wake: Arc<Notify>,
    /// What belongs to this boot and session.
    calls: Work,
    /// Commands, which outlive a session.
    work: Work,
    active: BTreeSet<CommandId>,
    complaints: BTreeMap<&'static str, String>,
    status: Option<i32>,
    kernel_position: Option<u64>,
    ever_registered: bool,
    /// Another agent competes for the node, and that was said.
    rival: bool,
    ending: bool,
}

impl Shell {
    /// Loads what an earlier agent kept.
    ///
    /// # Errors
    ///
    /// When the state directory cannot be used.
    pub(crate) fn new(parts: Parts) -> Result<Self, AgentError> {
        let Parts {
            clock,
            boot_time,
            mut ids,
            client,
            identity,
            worker,
            selected,
            kernel_boot,
            state,
            spool_limits,
            nudges,
        } = parts;
        let (journal, spool) = match &state {
            Some(state) => {
                let (journal, spool) = Journal::open(state, spool_limits, Time(clock.wall()))?;
                (Some(journal), spool)
            }
            None => {
                tracing::info!(
                    "no --state-dir: unsent events and finished commands are kept in memory only"
                );
                (None, Spool::new(spool_limits))
            }
        };
        if !spool.is_empty() {
            tracing::info!(
                count = spool.len(),
                "events of an earlier start wait to be sent"
            );
        }
        let (ledger, finished) = Ledger::open(state.clone())?;
        let session = SessionId::new(navarch_model::ids::fresh_uuid(&mut ids));
        Ok(Self {
            agent: Agent::new(session, spool, finished),
            scribe: Scribe::new(BootId::new(kernel_boot.as_str())),
            identity: Arc::new(identity),
            clock,
            boot_time,
            ids,
            client,
            worker,
            selected: Some(selected),
            backend: None,
            kernel_boot,
            state,
            nudges,
            journal,
            ledger,
            meter: Meter::default(),
            gpus: Vec::new(),
            hung: false,
            reading: false,
            read_again: false,
            newest: None,
            paused: false,
            watching: false,
            watch_failures: 0,
            wake: Arc::new(Notify::new()),
            calls: Work::new(),
            work: Work::new(),
            active: BTreeSet::new(),
            complaints: BTreeMap::new(),
            status: None,
            kernel_position: None,
            ever_registered: false,
            rival: false,
            ending: false,
        })
    }

    /// Runs until it is told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let clock = Arc::clone(&self.clock);
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            selected = timeout(&*clock, START_LIMIT, made(&mut self.selected)) => match selected {
                Ok(selected) => self.adopt(selected),
                Err(_) => tracing::warn!(
                    limit = ?START_LIMIT,
                    "the GPU driver has not started in time; the agent goes on without and reports it"
                ),
            }
        }
        let mut timer = Timer::new(clock);
        let wake = Arc::clone(&self.wake);
        while !self.ending && !stop.is_cancelled() {
            match self.begin_steps() {
                Time::NEVER => timer.clear(),
                due => timer.set_until(Duration::from_micros(due.0.unsigned_abs())),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(nudge) = self.nudges.recv() => self.nudged(nudge),
                () = wake.notified() => self.take_events(),
                Some(done) = self.calls.next() => self.done(done),
                Some(done) = self.work.next() => self.done(done),
                selected = made(&mut self.selected) => {
                    self.adopt(selected);
                    let now = self.now();
                    self.agent.read_soon(now);
                }
                () = timer.expired() => {}
            }
        }
        tracing::info!("shutting down node daemon");
        // What happened and was not taken yet waits for the next start.
        self.take_events();
    }

    fn now(&self) -> Time {
        Time(i64::try_from(self.clock.monotonic().as_micros()).unwrap_or(i64::MAX))
    }

    fn moment(&self) -> Moment {
        Moment::now(&*self.clock, &self.boot_time)
    }

    fn wall(&self) -> Time {
        Time(self.clock.wall())
    }

    /// Takes the backend, now that it is made.
    fn adopt(&mut self, selected: Selected) {
        let backend = selected.backend;
        for notice in &selected.notices {
            match backend.name() {
                "fake" => tracing::info!("{notice}"),
                _ => tracing::warn!("{notice}"),
            }
        }
        let boot = backend
            .boot_id()
            .unwrap_or_else(|| self.kernel_boot.clone());
        self.scribe = Scribe::new(BootId::new(boot));
        let wake = Arc::clone(&self.wake);
        backend.wake_with(Arc::new(move || wake.notify_one()));
        self.backend = Some(backend);
    }

    /// Begins every step that is due. Returns when the next one is.
    fn begin_steps(&mut self) -> Time {
        loop {
            let now = self.now();
            match self.agent.next(now) {
                Step::Wait(until) => return until,
                Step::Register => self.begin_register(),
                Step::Beat => self.begin_beat(),
                Step::ReadAll => self.begin_read(),
                Step::Send(outgoing) => self.begin_send(outgoing),
                Step::Poll => self.begin_poll(),
            }
        }
    }

    fn done(&mut self, done: Done) {
        self.hear(done);
        let rival = self.agent.has_rival();
        if rival && !self.rival {
            tracing::error!(
                node_id = %self.identity.node,
                "another agent keeps registering under this node id: stop one of the two, or give \
                 it a --node-id of its own"
            );
        }
        self.rival = rival;
    }

    fn hear(&mut self, done: Done) {
        match done {
            Done::Registered(gpus, result) => self.registered(gpus, result),
            Done::Beaten {
                result,
                samples,
                usage,
                took,
            } => self.beaten(result, samples, usage, took),
            Done::Read(reading, made) => self.read(reading, made),
            Done::Sent {
                result,
                full,
                facts,
            } => self.sent(result, full, facts),
            Done::Polled(result) => self.polled(result),
            Done::Heard(heard) => self.heard(heard),
            Done::Ran(finished, stop) => self.ran(finished, stop),
            Done::Acknowledged(id, stop) => {
                self.active.remove(&id);
                self.ending |= stop;
            }
        }
    }

    /// What a result means, logged when it is news.
    fn judge<T>(&mut self, what: &'static str, result: &Result<T, ClientError>) -> Outcome {
        match result {
            Ok(_) => {
                self.worked(what);
                Outcome::Taken
            }
            Err(error) => {
                self.complain(what, error);
                message::outcome(error)
            }
        }
    }

    fn complain(&mut self, what: &'static str, error: &dyn std::fmt::Display) {
        let error = error.to_string();
        let spooled = self.agent.spool().len();
        if self.complaints.get(what) == Some(&error) {
            tracing::debug!(%error, spooled, "{what}");
        } else {
            tracing::warn!(%error, spooled, "{what}; trying again");
            self.complaints.insert(what, error);
        }
    }

    fn worked(&mut self, what: &'static str) {
        if self.complaints.remove(what).is_some() {
            tracing::info!("works again: {what}");
        }
    }
}

/// Waits for the backend, once; for ever if it came already, or cannot be made.
async fn made(selected: &mut Option<oneshot::Receiver<Selected>>) -> Selected {
    if let Some(waiting) = selected {
        let came = waiting.await;
        *selected = None;
        if let Ok(came) = came {
            return came;
        }
        tracing::error!("the GPU backend cannot be made; the panic before this says why");
    }
    std::future::pending().await
}

/// A call with a deadline.
async fn bounded<T>(
    clock: &SharedClock,
    limit: Duration,
    call: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    timeout(&**clock, limit, call).await.unwrap_or_else(|_| {
        Err(ClientError {
            code: Code::DeadlineExceeded,
            message: format!("no answer within {limit:?}"),
            cause: Cause::Deadline,
            retry_after: None,
        })
    })
}

//! The loop that drives the agent's core: carries out its steps and tells it what came of them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use navarch_api::{Cause, Client, ClientError, Code, wire};
use navarch_core::agent::Agent;
use navarch_core::agent::{Outcome, Outgoing, Spool, SpoolLimits, Step};
use navarch_core::liveness::GpuSample;
use navarch_gpu::{GpuBackend, Selected};
use navarch_model::{BootId, CommandId, Gpu, NodeStatus, SessionId, Time};
use navarch_time::{Backoff, CancellationToken, OsRng, SharedClock, Timer, timeout};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::AgentError;
use crate::commands::{Finished, Ledger, Order, order};
use crate::debug::{Change, Nudge};
use crate::machine::{Identity, Ids};
use crate::reading::{self, Reading, Scribe};
use crate::spool::Journal;
use crate::state::StateDir;
use crate::usage::Meter;
use crate::watch::{self, Heard};
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
/// How long a call to the control plane may take.
const CALL_LIMIT: Duration = Duration::from_secs(15);
/// How long the acknowledgement of the command to stop may hold the stop up.
const LAST_WORD_LIMIT: Duration = Duration::from_secs(5);
/// Waits before an acknowledgement is sent again.
const ACKNOWLEDGE: Backoff = Backoff {
    initial: Duration::from_millis(500),
    max: Duration::from_secs(30),
    multiplier: 2.0,
    jitter: 0.2,
};
/// The most commands that are carried out at a time; further ones come again.
const MAX_ACTIVE: usize = 16;
/// The file of the state directory that says how far the kernel log was read.
pub(crate) const KERNEL_LOG: &str = "kernel-log.json";

/// What the shell is made of. Nothing is optional but what a machine may lack.
pub(crate) struct Parts {
    pub(crate) clock: SharedClock,
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
    Read(Result<Reading, NoAnswer>, Duration),
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
    ids: Ids,
    client: Client,
    identity: Arc<Identity>,
    worker: Worker,
    selected: oneshot::Receiver<Selected>,
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
            ids,
            client,
            worker,
            selected,
            backend: None,
            kernel_boot,
            state,
            nudges,
            journal,
            ledger,
            meter: Meter::default(),
            gpus: Vec::new(),
            hung: false,
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
            ending: false,
        })
    }

    /// Runs until it is told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        match timeout(&*self.clock, START_LIMIT, &mut self.selected).await {
            Ok(Ok(selected)) => self.adopt(selected),
            _ => tracing::warn!(
                limit = ?START_LIMIT,
                "the GPU driver has not started in time; the agent goes on without and reports it"
            ),
        }
        let mut timer = Timer::new(Arc::clone(&self.clock));
        let wake = Arc::clone(&self.wake);
        while !self.ending {
            match self.begin_steps() {
                Time::NEVER => timer.clear(),
                due => timer.set_until(Duration::from_micros(due.0.unsigned_abs())),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(nudge) = self.nudges.recv() => self.nudged(nudge),
                () = wake.notified() => self.take_events(),
                Some(done) = self.calls.next() => self.done(done),
                Some(done) = self.work.next() => self.done(done),
                Ok(selected) = &mut self.selected, if self.backend.is_none() => {
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

    fn begin_register(&mut self) {
        let (clock, worker) = (Arc::clone(&self.clock), self.worker.clone());
        let (client, identity) = (self.client.clone(), Arc::clone(&self.identity));
        let (boot, session) = (self.scribe.boot.clone(), self.agent.session().clone());
        let known = self.gpus.clone();
        self.calls.push(Box::pin(async move {
            let reading = worker.ask(&*clock, IDENTIFY_LIMIT, Reading::take).await;
            let gpus = match &reading {
                Ok(reading) if reading.count.is_ok() => reading::gpus(reading, &known),
                _ => known,
            };
            let request = message::registration(&identity, &boot, &session, &gpus);
            let call = client.register_node(request);
            let result = bounded(&clock, CALL_LIMIT, call).await;
            Done::Registered(gpus, result)
        }));
    }

    fn begin_beat(&mut self) {
        let usage = self.meter.measure();
        let (clock, worker) = (Arc::clone(&self.clock), self.worker.clone());
        let (client, identity) = (self.client.clone(), Arc::clone(&self.identity));
        let (boot, session) = (self.scribe.boot.clone(), self.agent.session().clone());
        let (hung, began) = (self.hung, self.clock.monotonic());
        self.calls.push(Box::pin(async move {
            let samples = if hung {
                None
            } else {
                let asked = worker.ask(&*clock, SAMPLE_LIMIT, Reading::samples);
                asked.await.ok()
            };
            let gpus = samples.as_deref().unwrap_or_default();
            let request = message::heartbeat(&identity, &boot, &session, usage, gpus);
            let call = client.send_heartbeat(request);
            let result = bounded(&clock, CALL_LIMIT, call).await.map(|_| ());
            Done::Beaten {
                result,
                samples,
                usage,
                took: clock.monotonic().saturating_sub(began),
            }
        }));
    }

    fn begin_read(&mut self) {
        let (clock, worker) = (Arc::clone(&self.clock), self.worker.clone());
        let began = self.clock.monotonic();
        self.calls.push(Box::pin(async move {
            let reading = worker.ask(&*clock, READ_LIMIT, Reading::take).await;
            Done::Read(reading, clock.monotonic().saturating_sub(began))
        }));
    }

    fn begin_send(&mut self, outgoing: Outgoing) {
        let (clock, client) = (Arc::clone(&self.clock), self.client.clone());
        let (full, facts) = (outgoing.full, outgoing.facts.len());
        let request = message::report(
            &self.identity,
            &self.scribe.boot,
            self.agent.session(),
            outgoing,
        );
        self.calls.push(Box::pin(async move {
            let call = client.report_health(request);
            let result = bounded(&clock, CALL_LIMIT, call).await;
            Done::Sent {
                result,
                full,
                facts,
            }
        }));
    }

    fn begin_poll(&mut self) {
        let (clock, client) = (Arc::clone(&self.clock), self.client.clone());
        let request = message::poll(&self.identity, self.agent.session());
        self.calls.push(Box::pin(async move {
            let call = client.get_node_commands(request);
            let result = bounded(&clock, CALL_LIMIT, call).await;
            Done::Polled(result.map(|answer| answer.commands))
        }));
    }

    fn begin_watch(&mut self, wait: Duration) {
        self.watching = true;
        let request = message::watch(&self.identity, self.agent.session());
        let open = watch::open(self.client.clone(), Arc::clone(&self.clock), request, wait);
        self.calls
            .push(Box::pin(async move { Done::Heard(open.await) }));
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Registered(gpus, result) => self.registered(gpus, result),
            Done::Beaten {
                result,
                samples,
                usage,
                took,
            } => self.beaten(result, samples, usage, took),
            Done::Read(reading, took) => self.read(reading, took),
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

    fn registered(
        &mut self,
        gpus: Vec<Gpu>,
        result: Result<wire::RegisterNodeResponse, ClientError>,
    ) {
        let now = self.now();
        let outcome = self.judge("failed to register", &result);
        let intervals = result
            .ok()
            .and_then(|answer| answer.config.into_option())
            .map(|config| message::intervals(&config));
        self.agent
            .registered(outcome, intervals, now, &mut self.ids);
        if outcome != Outcome::Taken {
            return;
        }
        self.gpus = gpus;
        let intervals = self.agent.intervals();
        tracing::info!(
            node_id = %self.identity.node, session_id = %self.agent.session(),
            boot_id = %self.scribe.boot, gpus = self.gpus.len(), "registered"
        );
        tracing::info!(
            heartbeat_interval = ?intervals.beat, health_check_interval = ?intervals.full,
            "received config from control plane"
        );
        if !std::mem::replace(&mut self.ever_registered, true) {
            tracing::info!("node daemon started successfully");
        }
        if !self.watching {
            self.begin_watch(Duration::ZERO);
        }
    }

    fn beaten(
        &mut self,
        result: Result<(), ClientError>,
        samples: Option<Vec<GpuSample>>,
        usage: crate::usage::Usage,
        took: Duration,
    ) {
        let now = self.now();
        let outcome = self.judge("failed to send heartbeat", &result);
        if outcome == Outcome::Taken {
            let samples = samples.as_deref().unwrap_or_default();
            let count = samples.len();
            let sum: f64 = samples.iter().map(|gpu| gpu.utilization).sum();
            tracing::debug!(
                cpu_percent = usage.cpu_percent, memory_percent = usage.memory_percent,
                gpu_count = count,
                gpu_avg_util = if count > 0 { sum / count as f64 } else { 0.0 },
                gpu_max_temp = samples.iter().map(|gpu| gpu.temperature).max(),
                acknowledged = true, duration = ?took, "heartbeat sent"
            );
        }
        if samples.is_none() && !self.hung {
            // A driver that does not answer is a finding; a full reading makes it one.
            self.hung = true;
            self.agent.read_soon(now);
        }
        self.agent.beaten(outcome, now, &mut self.ids);
    }

    fn read(&mut self, reading: Result<Reading, NoAnswer>, took: Duration) {
        let (now, wall) = (self.now(), self.wall());
        let facts = match &reading {
            Ok(reading) => {
                let facts = self.scribe.full(reading, &self.gpus, wall);
                if reading.count.is_ok() {
                    self.gpus = reading::gpus(reading, &self.gpus);
                }
                facts
            }
            Err(error) => self.scribe.unanswered(error, wall),
        };
        self.hung = match reading {
            Ok(_) => {
                self.worked("failed to run health checks");
                tracing::debug!(readings = facts.len(), duration = ?took, "health checks run");
                false
            }
            Err(error) => {
                self.complain("failed to run health checks", &error);
                true
            }
        };
        self.agent.read(facts, now, &mut self.ids);
    }

    fn sent(
        &mut self,
        result: Result<wire::ReportHealthResponse, ClientError>,
        full: bool,
        facts: usize,
    ) {
        let now = self.now();
        let outcome = self.judge("failed to report health", &result);
        self.agent.sent(outcome, now, &mut self.ids);
        if matches!(outcome, Outcome::Taken | Outcome::Refused) {
            self.keep();
        }
        if outcome == Outcome::Refused {
            tracing::error!(
                facts,
                "the control plane refused a report; its facts are dropped"
            );
        }
        if let Ok(answer) = result {
            let number = answer.node_status.to_i32();
            let status = NodeStatus::from_number(number).map_or("?", NodeStatus::short);
            if self.status.replace(number) != Some(number) {
                tracing::info!(node_status = status, facts, full, "health check completed");
            } else {
                tracing::debug!(node_status = status, facts, full, "health check completed");
            }
        }
    }

    fn polled(&mut self, result: Result<Vec<wire::NodeCommand>, ClientError>) {
        let now = self.now();
        let outcome = self.judge("failed to poll commands", &result);
        self.agent.polled(outcome, now, &mut self.ids);
        self.take_commands(result.unwrap_or_default());
    }

    fn heard(&mut self, heard: Heard) {
        let now = self.now();
        match heard {
            Heard::Commands(commands, listening) => {
                self.watch_failures = 0;
                self.worked("failed to watch commands");
                self.agent.push(true, now);
                let clock = Arc::clone(&self.clock);
                self.calls.push(Box::pin(async move {
                    Done::Heard(listening.next(&*clock).await)
                }));
                self.take_commands(commands);
            }
            Heard::Ended(error) => {
                self.agent.push(false, now);
                self.complain("failed to watch commands", &error);
                let wait = match error.code {
                    Code::Unimplemented => watch::REOPEN_OLDER,
                    _ => watch::REOPEN.delay(self.watch_failures, &mut *self.ids.0),
                };
                self.watch_failures = self.watch_failures.saturating_add(1);
                self.begin_watch(wait);
            }
        }
    }

    fn take_commands(&mut self, commands: Vec<wire::NodeCommand>) {
        if !commands.is_empty() {
            tracing::info!(count = commands.len(), "received commands");
        }
        for command in commands {
            let Ok(id) = CommandId::parse(&command.command_id) else {
                tracing::warn!("a command without a usable id was ignored");
                continue;
            };
            if self.active.contains(&id) || self.active.len() >= MAX_ACTIVE {
                continue;
            }
            self.active.insert(id.clone());
            if self.agent.is_new(&id) {
                self.carry_out(id, command.r#type.to_i32(), &command.parameters);
            } else {
                tracing::info!(command_id = %id, "command was carried out before; answered again");
                let finished = self.ledger.answer(&id);
                self.acknowledge(finished, false);
            }
        }
    }

    fn carry_out(&mut self, id: CommandId, number: i32, parameters: &BTreeMap<String, String>) {
        tracing::info!(command_id = %id, command_type = number, "executing command");
        let stop = match order(number, parameters) {
            Order::Diagnose(test) => return self.diagnose(id, test),
            Order::Stop => Ok("the agent stops".to_owned()),
            Order::Refuse(why) => Err(why),
        };
        let (succeeded, output) = match stop {
            Ok(output) => (true, output),
            Err(why) => (false, why),
        };
        self.ran(Finished::new(id, succeeded, output), succeeded);
    }

    fn diagnose(&mut self, id: CommandId, test: Option<String>) {
        let (clock, worker) = (Arc::clone(&self.clock), self.worker.clone());
        let mut scribe = self.scribe.clone();
        let (gpus, began) = (self.gpus.clone(), self.clock.monotonic());
        self.work.push(Box::pin(async move {
            let reading = worker.ask(&*clock, READ_LIMIT, Reading::take).await;
            let facts = reading.map(|reading| {
                let facts = scribe.full(&reading, &gpus, Time(clock.wall()));
                let wanted = |fact: &navarch_core::Fact| {
                    test.as_ref().is_none_or(|test| *test == fact.watch)
                };
                facts.into_iter().filter(wanted).collect::<Vec<_>>()
            });
            let took = clock.monotonic().saturating_sub(began);
            let (succeeded, output) = reading::describe(&facts, took);
            Done::Ran(Finished::new(id, succeeded, output), false)
        }));
    }

    /// A command ended: its result is durable before anybody hears of it.
    fn ran(&mut self, finished: Finished, stop: bool) {
        if finished.succeeded {
            tracing::info!(command_id = %finished.id, "command executed successfully");
        } else {
            tracing::warn!(command_id = %finished.id, error = %finished.output, "command execution failed");
        }
        self.agent.finish(finished.id.clone());
        self.ledger.finish(finished.clone(), &self.agent);
        self.acknowledge(finished, stop);
    }

    fn acknowledge(&mut self, finished: Finished, stop: bool) {
        let (clock, client) = (Arc::clone(&self.clock), self.client.clone());
        let Finished {
            id,
            succeeded,
            output,
        } = finished;
        let session = self.agent.session();
        let request = message::acknowledgement(&self.identity, session, &id, succeeded, output);
        self.work.push(Box::pin(async move {
            let told = tell(&clock, &client, &id, request);
            if stop {
                if timeout(&*clock, LAST_WORD_LIMIT, told).await.is_err() {
                    tracing::warn!(command_id = %id, "stopping although nobody took the acknowledgement");
                }
            } else {
                told.await;
            }
            Done::Acknowledged(id, stop)
        }));
    }

    /// Something changed on the fake machine.
    fn nudged(&mut self, nudge: Nudge) {
        self.take_events();
        let now = self.now();
        match nudge.change {
            Change::Event => {}
            Change::Reading => self.agent.read_soon(now),
            Change::Boot => self.reboot(),
        }
        // Whoever asked may have given up waiting.
        let _gone = nudge.kept.send(());
    }

    /// A boot begins a new life of the agent: a session of its own, and a registration that tells
    /// the boot. What is kept stays.
    fn reboot(&mut self) {
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
        self.hung = false;
        self.status = None;
    }

    /// Takes what the backend noticed, and keeps it before anything is sent.
    fn take_events(&mut self) {
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
                message = %fact.message, "health event detected"
            );
        }
        self.agent.happened(facts);
        self.keep();
        self.note_kernel_position(&*backend);
    }

    /// Makes what is kept durable.
    fn keep(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.sync(self.agent.spool());
        }
    }

    /// Notes how far the kernel log was read, now that its events are safe.
    fn note_kernel_position(&mut self, backend: &dyn GpuBackend) {
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
        if self.complaints.get(what) == Some(&error) {
            tracing::debug!(%error, "{what}");
        } else {
            tracing::warn!(%error, "{what}; trying again");
            self.complaints.insert(what, error);
        }
    }

    fn worked(&mut self, what: &'static str) {
        if self.complaints.remove(what).is_some() {
            tracing::info!("works again: {what}");
        }
    }
}

/// How far the kernel log was read, and in which boot.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct KernelLogPosition {
    pub(crate) boot: String,
    pub(crate) position: u64,
}

/// Tells the control plane what became of a command, until it hears.
async fn tell(
    clock: &SharedClock,
    client: &Client,
    id: &CommandId,
    request: navarch_api::v1::AcknowledgeCommandRequest,
) {
    let mut failures = 0;
    loop {
        let call = client.acknowledge_command(request.clone());
        match bounded(clock, CALL_LIMIT, call).await {
            Ok(answer) => {
                tracing::info!(command_id = %id, state = %answer.state, "command status update");
                return;
            }
            Err(error) if error.cause == Cause::Answer && !error.code.is_transient() => {
                tracing::warn!(command_id = %id, %error, "the result of a command was refused");
                return;
            }
            Err(error) => tracing::debug!(command_id = %id, %error, "cannot tell a result yet"),
        }
        clock.sleep(ACKNOWLEDGE.delay(failures, &mut OsRng)).await;
        failures = failures.saturating_add(1);
    }
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
        })
    })
}

//! The world: one thread of virtual time in which control plane, cloud and machines meet.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use navarch_core::agent::{Intervals, Outcome, Step};
use navarch_core::liveness::{Deaf, Transition};
use navarch_core::{
    CallKey, Effect, Input, PlanReport, Registration, RejectionCode, Reply, Report, Settings,
};
use navarch_model::ids::fresh;
use navarch_model::invariants::Violation;
use navarch_model::{
    BootId, CloudStatus, FleetId, NodeId, ProviderError, ProviderErrorKind, ProviderInstanceId,
    SessionId, State, Time,
};
use navarch_policy::HealthPolicy;
use navarch_store::MemoryDisk;

use crate::cloud::{Cloud, Done};
use crate::config::Config;
use crate::crash::Plane;
use crate::machine::Host;
use crate::queue::Queue;
use crate::streams::Stream;
use crate::trace::Trace;

/// How long a call to the cloud may take.
const CLOUD_DEADLINE: Duration = Duration::from_secs(30);
/// How long an agent waits for an answer.
const AGENT_DEADLINE: Duration = Duration::from_secs(10);

/// What an agent asks of the control plane.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Register(Box<Registration>),
    Beat(NodeId, SessionId),
    Send(Report),
    Poll(NodeId),
}

/// The kinds of calls, for their answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Register,
    Beat,
    Send,
    Poll,
}

/// What is due at a moment.
#[derive(Debug)]
pub(crate) enum Event {
    /// A control plane starts.
    Start,
    /// The control plane has something to do.
    Wake { life: u64 },
    /// A call that waited for its turn begins.
    Begin { life: u64, effect: Effect },
    /// A call reaches the cloud. `answer` is false when its deadline passes first.
    AtCloud {
        life: u64,
        effect: Effect,
        back: Duration,
        answer: bool,
    },
    /// An answer reaches the control plane.
    Answer { life: u64, input: Box<Input> },
    /// A machine that was made boots.
    Boot(ProviderInstanceId),
    /// A machine that was let go is gone.
    Gone(ProviderInstanceId),
    /// An agent has something to do.
    Agent { host: ProviderInstanceId, life: u64 },
    /// An agent's call reaches the control plane.
    Request {
        host: ProviderInstanceId,
        life: u64,
        call: Call,
        /// None when the answer is lost.
        back: Option<Duration>,
    },
    /// An agent learns what became of a call.
    Heard {
        host: ProviderInstanceId,
        life: u64,
        kind: Kind,
        outcome: Outcome,
    },
    /// Trouble comes by itself.
    Trouble,
    /// The cloud's listing is remembered.
    Remember,
}

/// A simulated fleet.
pub struct Sim {
    pub(crate) config: Config,
    pub(crate) settings: Arc<Settings>,
    pub(crate) now: Time,
    pub(crate) queue: Queue<Event>,
    pub(crate) plane: Plane,
    pub(crate) cloud: Cloud,
    pub(crate) hosts: BTreeMap<ProviderInstanceId, Host>,
    pub(crate) network: Stream,
    pub(crate) weather: Stream,
    pub(crate) boots: Stream,
    pub(crate) operators: Stream,
    pub(crate) trace: Trace,
    pub(crate) violations: Vec<Violation>,
    /// The state as of the last applied input, as the checks saw it.
    pub(crate) seen: State,
    /// Boots whose full report was applied and not unhealthy.
    pub(crate) passed: BTreeSet<(NodeId, BootId)>,
    /// The last plan's report.
    pub(crate) report: PlanReport,
    pub(crate) plans: u64,
    /// Whether trouble comes by itself.
    pub(crate) troubled: bool,
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl Sim {
    /// A world at time zero, with an empty store and a cloud without machines.
    ///
    /// # Errors
    ///
    /// What the configuration file says wrong.
    pub fn new(seed: u64, config: Config) -> Result<Self, navarch_config::ConfigErrors> {
        let settings = config.settings()?;
        let mut names = Stream::named(seed, "fleet");
        let fleet = FleetId::new(fresh("fleet", &mut names));
        let state = State::new(fleet.clone());
        let cloud = Cloud::new(config.honours_tokens);
        let mut sim = Self {
            plane: Plane::new(seed, MemoryDisk::new(fleet), state.clone()),
            seen: state,
            settings,
            now: Time(0),
            queue: Queue::new(),
            cloud,
            hosts: BTreeMap::new(),
            network: Stream::named(seed, "network"),
            weather: Stream::named(seed, "weather"),
            boots: Stream::named(seed, "boots"),
            operators: Stream::named(seed, "operators"),
            trace: Trace::default(),
            violations: Vec::new(),
            passed: BTreeSet::new(),
            report: PlanReport::default(),
            plans: 0,
            troubled: true,
            config,
        };
        sim.queue.push(Time(0), Event::Start);
        sim.queue.push(Time(0), Event::Remember);
        sim.schedule_trouble();
        Ok(sim)
    }

    /// Lets time pass until `until`, or until a promise is broken.
    pub fn run(&mut self, until: Time) {
        while self.violations.is_empty() {
            let Some((at, event)) = self.queue.pop(until) else {
                self.now = self.now.max(until);
                return;
            };
            self.now = at;
            self.step(event);
            self.schedule_plane();
        }
    }

    /// The present moment, from the start of the simulation.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// What happened so far: the same bytes for the same seed, configuration and build.
    pub fn trace(&self) -> &str {
        self.trace.text()
    }

    /// The last lines of the trace.
    pub fn tail(&self, lines: usize) -> String {
        self.trace.tail(lines)
    }

    /// Promises that were broken.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// The fleet's state, as of the last applied input.
    pub const fn state(&self) -> &State {
        &self.seen
    }

    /// How many plans were made.
    pub const fn plans(&self) -> u64 {
        self.plans
    }

    pub(crate) fn policy(&self) -> Arc<HealthPolicy> {
        HealthPolicy::builtin()
    }

    pub(crate) fn note(&mut self, who: &str, what: fmt::Arguments<'_>) {
        self.trace.line(self.now, who, what);
    }

    pub(crate) fn violated(&mut self, invariant: &'static str, what: String) {
        self.trace
            .line(self.now, "CHECK", format_args!("{invariant}: {what}"));
        self.violations.push(Violation { invariant, what });
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Start => self.start_plane(),
            Event::Wake { life } => {
                if life == self.plane.life {
                    self.wake_plane();
                }
            }
            Event::Begin { life, effect } => self.begin_effect(life, effect),
            Event::AtCloud {
                life,
                effect,
                back,
                answer,
            } => self.at_cloud(life, &effect, back, answer),
            Event::Answer { life, input } => self.answer(life, input),
            Event::Boot(id) => self.boot(&id),
            Event::Gone(id) => self.gone(&id, CloudStatus::Terminated),
            Event::Agent { host, life } => self.wake_agent(&host, life),
            Event::Request {
                host,
                life,
                call,
                back,
            } => self.request(host, life, call, back),
            Event::Heard {
                host,
                life,
                kind,
                outcome,
            } => self.heard(&host, life, kind, outcome),
            Event::Trouble => {
                if self.troubled {
                    self.trouble();
                    self.schedule_trouble();
                }
            }
            Event::Remember => {
                self.cloud.remember(self.now);
                self.queue
                    .push(self.now + Duration::from_secs(60), Event::Remember);
            }
        }
    }

    // Calls to the cloud.

    /// An effect takes its turn: while the cloud is slow, launches wait behind other calls.
    pub(crate) fn start_effect(&mut self, effect: Effect) {
        let life = self.plane.life;
        if let Effect::CancelLaunch { key } = &effect {
            self.cancel_launch(life, key);
            return;
        }
        let slow = self.now < self.cloud.modes.slow;
        if slow && matches!(effect, Effect::Launch { .. }) {
            let turn = self.now + self.network.between(0, 240_000);
            self.queue.push(turn, Event::Begin { life, effect });
        } else {
            self.begin_effect(life, effect);
        }
    }

    /// A launch that waits for its turn is not begun.
    fn cancel_launch(&mut self, life: u64, key: &CallKey) {
        let waiting = self.queue.take(|event| {
            matches!(event, Event::Begin { life: of, effect: Effect::Launch { key: waiting, .. } }
                if *of == life && waiting == key)
        });
        if let Some(Event::Begin { effect, .. }) = waiting {
            let error = ProviderError::new(ProviderErrorKind::Transient, "it was not begun");
            let input = Box::new(failed(&effect, error));
            self.queue.push(self.now, Event::Answer { life, input });
        }
    }

    /// A call begins, if the process that asked for it still runs and it is not too late for it.
    fn begin_effect(&mut self, life: u64, effect: Effect) {
        let now = self.now;
        let Some(process) = &self.plane.process else {
            return;
        };
        if life != self.plane.life {
            return;
        }
        if let Effect::Launch { deadline, .. } = &effect
            && process.stamp(now).core > *deadline
        {
            let error = ProviderError::new(ProviderErrorKind::Transient, "it was not begun");
            self.answer(life, Box::new(failed(&effect, error)));
            return;
        }
        let slow = now < self.cloud.modes.slow;
        let (low, high) = if slow { (5_000, 60_000) } else { (20, 400) };
        let there = self.network.between(low, high);
        let back = self.network.between(low, high);
        let answer = there + back <= CLOUD_DEADLINE;
        if !answer {
            let error = ProviderError::new(ProviderErrorKind::OutcomeUnknown, "no answer in time");
            let input = Box::new(failed(&effect, error));
            self.queue
                .push(self.now + CLOUD_DEADLINE, Event::Answer { life, input });
        }
        self.queue.push(
            self.now + there,
            Event::AtCloud {
                life,
                effect,
                back,
                answer,
            },
        );
    }

    fn at_cloud(&mut self, life: u64, effect: &Effect, back: Duration, answer: bool) {
        let orphan = life != self.plane.life || self.plane.process.is_none();
        if orphan && self.network.chance(0.5) {
            return;
        }
        self.check_intent(effect);
        let (done, input) = self.cloud.call(self.now, effect);
        match done {
            Done::Nothing => {}
            Done::Made(id) => self.made(&id),
            Done::Ending(id) => {
                self.note("cloud", format_args!("{id} is terminating"));
                let wait = self.boots.between(3_000, 40_000);
                self.queue.push(self.now + wait, Event::Gone(id));
            }
        }
        if answer {
            let input = Box::new(input);
            self.queue
                .push(self.now + back, Event::Answer { life, input });
        }
    }

    fn made(&mut self, id: &ProviderInstanceId) {
        let Some(rented) = self.cloud.machines.get(id) else {
            return;
        };
        let (instance, boots) = (rented.instance.clone(), rented.boots);
        self.note("cloud", format_args!("made {id} for {instance}"));
        let wait = self.boots.between(20_000, 60_000);
        if boots {
            self.queue.push(self.now + wait, Event::Boot(id.clone()));
        }
        self.check_twins();
    }

    fn answer(&mut self, life: u64, input: Box<Input>) {
        if life != self.plane.life {
            return;
        }
        if self.now < self.plane.paused_until {
            let at = self.plane.paused_until;
            self.queue.push(at, Event::Answer { life, input });
            return;
        }
        self.turn(vec![*input]);
    }

    // Machines.

    fn boot(&mut self, id: &ProviderInstanceId) {
        let Some(rented) = self
            .cloud
            .machines
            .get(id)
            .filter(|rented| rented.is_alive())
        else {
            return;
        };
        let instance = rented.instance.clone();
        let host = match self.hosts.get_mut(id) {
            Some(host) if host.dead => return,
            Some(host) => host,
            None => {
                let pool = self.settings.pools.get(&rented.pool);
                let gpus = pool.and_then(|pool| pool.gpus);
                let jitter = self.network.child(id.as_str());
                let polls = self.config.polls;
                let host = Host::new(instance, gpus.unwrap_or(1), jitter, polls);
                self.hosts.entry(id.clone()).or_insert(host)
            }
        };
        host.start_agent(self.now);
        let life = host.life;
        self.note("host", format_args!("{id} boots"));
        self.wake_agent(id, life);
    }

    /// A machine is gone, and everything on it.
    pub(crate) fn gone(&mut self, id: &ProviderInstanceId, status: CloudStatus) {
        let now = self.now;
        let Some(rented) = self
            .cloud
            .machines
            .get_mut(id)
            .filter(|rented| rented.is_alive())
        else {
            return;
        };
        rented.status = status;
        rented.gone = Some(now);
        self.hosts.remove(id);
        self.note("cloud", format_args!("{id} is gone ({})", status.word()));
    }

    pub(crate) fn wake_agent(&mut self, id: &ProviderInstanceId, life: u64) {
        let now = self.now;
        loop {
            let Some(host) = self.hosts.get_mut(id).filter(|host| host.life == life) else {
                return;
            };
            let readings = host.read_all(now);
            let (node, boot, registration) = (host.node(), host.boot(), host.registration());
            let Some(agent) = &mut host.agent else { return };
            let session = agent.session().clone();
            let call = match agent.next(now) {
                Step::Wait(at) => {
                    if at < Time::NEVER && host.wake.is_none_or(|wake| wake <= now || at < wake) {
                        host.wake = Some(at);
                        let host = id.clone();
                        self.queue.push(at, Event::Agent { host, life });
                    }
                    return;
                }
                Step::ReadAll => {
                    agent.read(readings, now, &mut host.jitter);
                    continue;
                }
                Step::Register => Call::Register(Box::new(registration)),
                Step::Beat => Call::Beat(node, session),
                Step::Send(report) => Call::Send(Report {
                    node: Some(node),
                    results: Vec::new(),
                    facts: report.facts,
                    boot: Some(boot),
                    session: Some(session),
                    sequence: report.sequence,
                    full: report.full,
                }),
                Step::Poll => Call::Poll(node),
            };
            self.send(id, life, call);
        }
    }

    fn send(&mut self, id: &ProviderInstanceId, life: u64, call: Call) {
        let cut = self
            .hosts
            .get(id)
            .is_some_and(|host| self.now < host.cut_until);
        let lost = if self.troubled { self.config.lost } else { 0.0 };
        let (there, back) = (self.network.between(1, 40), self.network.between(1, 40));
        let (request_lost, reply_lost) = (self.network.chance(lost), self.network.chance(lost));
        let kind = call.kind();
        let host = id.clone();
        if cut || request_lost || reply_lost {
            let failed = Event::Heard {
                host: host.clone(),
                life,
                kind,
                outcome: Outcome::Failed,
            };
            self.queue.push(self.now + AGENT_DEADLINE, failed);
        }
        if cut || request_lost {
            return;
        }
        let back = (!reply_lost).then_some(back);
        let request = Event::Request {
            host,
            life,
            call,
            back,
        };
        self.queue.push(self.now + there, request);
    }

    fn request(
        &mut self,
        host: ProviderInstanceId,
        life: u64,
        call: Call,
        mut back: Option<Duration>,
    ) {
        let kind = call.kind();
        let failed = Event::Heard {
            host: host.clone(),
            life,
            kind,
            outcome: Outcome::Failed,
        };
        if self.plane.process.is_none() {
            if let Some(back) = back {
                self.queue.push(self.now + back, failed);
            }
            return;
        }
        if self.now < self.plane.paused_until {
            let at = self.plane.paused_until;
            if back.is_some() && at.since(self.now) > AGENT_DEADLINE {
                self.queue.push(self.now + AGENT_DEADLINE, failed);
                back = None;
            }
            let request = Event::Request {
                host,
                life,
                call,
                back,
            };
            self.queue.push(at, request);
            return;
        }
        let outcome = self.serve(call);
        match (outcome, back) {
            (Some(outcome), Some(back)) => {
                let heard = Event::Heard {
                    host,
                    life,
                    kind,
                    outcome,
                };
                self.queue.push(self.now + back, heard);
            }
            (None, Some(_)) => self.queue.push(self.now + AGENT_DEADLINE, failed),
            (_, None) => {}
        }
    }

    /// Serves a call as the handlers do; none when the process died first.
    fn serve(&mut self, call: Call) -> Option<Outcome> {
        match call {
            Call::Register(registration) => {
                let (node, session) = (registration.node.clone()?, registration.session.clone());
                let replies = self.turn(vec![Input::Register(*registration)])?;
                let outcome = outcome(replies.first()?);
                let stored = self.seen.nodes.get(&node);
                let silent = stored.is_some_and(|node| node.silent_since.is_some());
                let incarnation = stored.map_or(1, |node| node.incarnation);
                let now = self.now;
                let process = self.plane.process.as_mut()?;
                if outcome == Outcome::Taken {
                    let stamp = process.stamp(now);
                    let liveness = &mut process.liveness;
                    liveness.register(node, session, incarnation, silent, stamp);
                }
                Some(outcome)
            }
            Call::Beat(node, session) => {
                let now = self.now;
                let process = self.plane.process.as_mut()?;
                let stamp = process.stamp(now);
                match process.liveness.beat(&node, Some(&session), None, stamp) {
                    Ok(None) => Some(Outcome::Taken),
                    Ok(Some(Transition::Back(node))) => {
                        self.turn(vec![Input::Back { node }])?;
                        Some(Outcome::Taken)
                    }
                    Ok(Some(Transition::Silent(..))) => Some(Outcome::Taken),
                    Err(Deaf::Unknown) => Some(Outcome::Unknown),
                    Err(Deaf::Superseded) => Some(Outcome::Superseded),
                }
            }
            Call::Send(report) => {
                let replies = self.turn(vec![Input::Report(report)])?;
                Some(outcome(replies.first()?))
            }
            Call::Poll(node) => {
                let replies = self.turn(vec![Input::Poll { node, session: None }])?;
                Some(outcome(replies.first()?))
            }
        }
    }

    fn heard(&mut self, id: &ProviderInstanceId, life: u64, kind: Kind, outcome: Outcome) {
        let now = self.now;
        let settings = &self.settings;
        let intervals = Intervals {
            beat: settings.heartbeat_interval,
            full: settings.health_check_interval,
        };
        let Some(host) = self.hosts.get_mut(id).filter(|host| host.life == life) else {
            return;
        };
        let Some(agent) = &mut host.agent else { return };
        let ids = &mut host.jitter;
        match kind {
            Kind::Register => agent.registered(outcome, Some(intervals), now, ids),
            Kind::Beat => agent.beaten(outcome, now, ids),
            Kind::Send => agent.sent(outcome, now, ids),
            Kind::Poll => agent.polled(outcome, now, ids),
        }
        self.wake_agent(id, life);
    }
}

impl Call {
    const fn kind(&self) -> Kind {
        match self {
            Self::Register(_) => Kind::Register,
            Self::Beat(..) => Kind::Beat,
            Self::Send(_) => Kind::Send,
            Self::Poll(_) => Kind::Poll,
        }
    }
}

/// What an agent makes of a reply.
fn outcome(reply: &Result<Reply, navarch_core::Rejection>) -> Outcome {
    match reply {
        Ok(_) => Outcome::Taken,
        Err(rejection) => match rejection.code {
            RejectionCode::NotFound => Outcome::Unknown,
            RejectionCode::InvalidArgument => Outcome::Refused,
            RejectionCode::FailedPrecondition if rejection.message.contains("superseded") => {
                Outcome::Superseded
            }
            RejectionCode::FailedPrecondition | RejectionCode::AlreadyExists => Outcome::Failed,
        },
    }
}

/// The input that says how a call failed.
fn failed(effect: &Effect, error: ProviderError) -> Input {
    match effect {
        Effect::Launch { key, .. } | Effect::CancelLaunch { key } => Input::LaunchResult {
            key: key.clone(),
            result: Err(error),
        },
        Effect::Lookup { key, .. } => Input::LookupResult {
            key: key.clone(),
            result: Err(error),
        },
        Effect::Terminate { key, .. } => Input::TerminateResult {
            key: key.clone(),
            result: Err(error),
        },
        Effect::List {
            provider, began, ..
        } => Input::ListResult {
            provider: provider.clone(),
            began: *began,
            result: Err(error),
        },
        Effect::TerminateUnclaimed {
            provider,
            provider_id,
        } => Input::UnclaimedResult {
            provider: provider.clone(),
            machine: provider_id.clone(),
            result: Err(error),
        },
        Effect::AskDrained { node, .. } => Input::DrainResult {
            node: node.clone(),
            drained: Err(error.to_string()),
        },
    }
}

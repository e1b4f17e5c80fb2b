//! The world: one thread of virtual time in which control plane, cloud and machines meet.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use navarch_core::{Effect, Input, PlanReport, Settings};
use navarch_model::ids::fresh;
use navarch_model::invariants::Violation;
use navarch_model::{
    Automation, BootId, CloudStatus, CommandId, FleetId, NodeId, ProviderInstanceId, State, Time,
};
use navarch_store::MemoryDisk;

use crate::agents::{Answer, Call, Kind};
use crate::cloud::Cloud;
use crate::config::{Config, Trouble};
use crate::crash::Plane;
use crate::judge::Judge;
use crate::load::Load;
use crate::machine::Host;
use crate::orders::Orders;
use crate::queue::Queue;
use crate::run::{Happening, News, Story};
use crate::scheduler::Scheduler;
use crate::streams::Stream;
use crate::trace::Trace;

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
    /// A call reaches the scheduler. `answer` is false when its answer is lost.
    AtScheduler {
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
    /// A machine that was to be taken back stays.
    Kept(ProviderInstanceId),
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
        answer: Answer,
    },
    /// Commands that wait go out to an agent.
    Push(ProviderInstanceId),
    /// An agent carried a command out.
    Ran {
        host: ProviderInstanceId,
        life: u64,
        command: CommandId,
    },
    /// A person who looked at a restored fleet turns automation on.
    Looked,
    /// Trouble comes by itself.
    Trouble,
    /// The cloud's listing is remembered.
    Remember,
    /// Something of the scenario.
    Story(Happening),
}

/// Tells the seed of the other control plane from the first one's.
const NEIGHBOUR: u64 = 0x6e65_6967_6862_6f75;

/// A simulated fleet.
pub struct Sim {
    pub(crate) config: Config,
    pub(crate) settings: Arc<Settings>,
    pub(crate) fleet: FleetId,
    pub(crate) now: Time,
    pub(crate) queue: Queue<Event>,
    pub(crate) plane: Plane,
    pub(crate) cloud: Cloud,
    pub(crate) hosts: BTreeMap<ProviderInstanceId, Host>,
    /// The newest machine of each node id.
    pub(crate) by_node: BTreeMap<NodeId, ProviderInstanceId>,
    /// Another control plane with a fleet of its own, at the same cloud.
    pub(crate) neighbour: Option<Box<Sim>>,
    pub(crate) scheduler: Scheduler,
    pub(crate) network: Stream,
    pub(crate) weather: Stream,
    pub(crate) boots: Stream,
    /// How the cloud takes machines back.
    pub(crate) notices: Stream,
    pub(crate) operators: Stream,
    pub(crate) trace: Trace,
    pub(crate) violations: Vec<Violation>,
    /// The state as of the last applied input, as the checks saw it.
    pub(crate) seen: State,
    /// The same state; a step is made in it before it is made in `seen`.
    pub(crate) next: State,
    /// The commands in it that are not over.
    pub(crate) orders: Orders,
    /// Boots whose full report was applied and not unhealthy.
    pub(crate) passed: BTreeSet<(NodeId, BootId)>,
    /// How many changes were made.
    pub(crate) changed: u64,
    /// How many of them changed more than what the fleet knows of itself, and up to which the
    /// whole state was checked.
    pub(crate) facts: u64,
    pub(crate) checked: u64,
    /// What was due and happened.
    pub(crate) steps: u64,
    /// How often a control plane died.
    pub(crate) deaths: u64,
    /// The last plan's report.
    pub(crate) report: PlanReport,
    pub(crate) plans: u64,
    /// The work of this moment.
    pub(crate) load: Load,
    pub(crate) loads: Stream,
    /// Whether trouble comes by itself.
    pub(crate) troubled: bool,
    /// By which rules health is judged.
    pub(crate) judge: Judge,
    pub(crate) policies: Stream,
    /// The scenario, if one runs.
    pub(crate) story: Option<Box<Story>>,
    /// When the whole state is checked again.
    pub(crate) next_check: Time,
    /// What readers have not seen yet, if there are any.
    pub(crate) news: Option<Box<News>>,
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
        let neighbour = if config.neighbour {
            let mut config = config.clone();
            config.neighbour = false;
            Some(Box::new(Self::new(seed ^ NEIGHBOUR, config)?))
        } else {
            None
        };
        let settings = config.settings()?;
        let mut names = Stream::named(seed, "fleet");
        let fleet = FleetId::new(fresh("fleet", &mut names));
        let state = State::new(fleet.clone());
        let offerings: BTreeSet<_> = settings
            .pools
            .values()
            .flat_map(|pool| &pool.offerings)
            .map(|one| (*one.offering).clone())
            .collect();
        let cloud = Cloud::new(config.honours_tokens, offerings.into_iter().collect());
        let mut sim = Self {
            plane: Plane::new(seed, MemoryDisk::new(fleet.clone()), state.clone()),
            fleet,
            next: state.clone(),
            orders: Orders::default(),
            seen: state,
            by_node: BTreeMap::new(),
            neighbour,
            settings,
            now: Time(0),
            queue: Queue::new(),
            cloud,
            hosts: BTreeMap::new(),
            scheduler: Scheduler::new(seed),
            network: Stream::named(seed, "network"),
            weather: Stream::named(seed, "weather"),
            boots: Stream::named(seed, "boots"),
            notices: Stream::named(seed, "notices"),
            operators: Stream::named(seed, "operators"),
            trace: Trace::default(),
            violations: Vec::new(),
            passed: BTreeSet::new(),
            changed: 0,
            facts: 0,
            checked: 0,
            steps: 0,
            deaths: 0,
            report: PlanReport::default(),
            plans: 0,
            load: Load::default(),
            loads: Stream::named(seed, "load"),
            troubled: true,
            judge: config.judge.clone(),
            policies: Stream::named(seed, "policies"),
            story: None,
            next_check: Time(0),
            news: None,
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
            let other = self.neighbour.as_ref().and_then(|other| other.queue.due());
            let own = self.queue.due();
            if let Some(other) = other.filter(|at| own.is_none_or(|own| at < &own))
                && other <= until
            {
                self.now = other;
                self.as_neighbour(Self::next);
                continue;
            }
            if own.is_none_or(|own| own > until) {
                self.now = self.now.max(until);
                return;
            }
            self.next();
        }
    }

    /// What is due next happens.
    fn next(&mut self) {
        let Some((at, event)) = self.queue.pop(Time::NEVER) else {
            return;
        };
        self.now = at;
        self.steps += 1;
        self.step(event);
        self.schedule_plane();
    }

    /// Does something as the other control plane, in the same cloud and the same trace.
    pub(crate) fn as_neighbour<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let mut other = self.neighbour.take()?;
        other.now = self.now;
        std::mem::swap(&mut self.cloud, &mut other.cloud);
        std::mem::swap(&mut self.trace, &mut other.trace);
        other.trace.whose("other ");
        let done = act(&mut other);
        other.trace.whose("");
        std::mem::swap(&mut self.cloud, &mut other.cloud);
        std::mem::swap(&mut self.trace, &mut other.trace);
        self.violations.append(&mut other.violations);
        self.neighbour = Some(other);
        Some(done)
    }

    /// The present moment, from the start of the simulation.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// What happened so far: the same bytes for the same seed, configuration and build.
    pub fn trace(&self) -> &str {
        self.trace.text()
    }

    /// Promises that were broken.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// The fleet's state, as of the last applied input.
    pub const fn state(&self) -> &State {
        &self.seen
    }

    /// The fleet's state, as callers know it: what was committed and answered.
    pub const fn released(&self) -> &State {
        &self.plane.released
    }

    /// How many plans were made.
    pub const fn plans(&self) -> u64 {
        self.plans
    }

    /// How many changes were made.
    pub const fn changes(&self) -> u64 {
        self.changed
    }

    /// How much happened, and how often a control plane died on the way.
    pub fn steps_and_deaths(&self) -> (u64, u64) {
        let other = self
            .neighbour
            .as_ref()
            .map_or((0, 0), |other| (other.steps, other.deaths));
        (self.steps + other.0, self.deaths + other.1)
    }

    /// How many machines cost money, and how many of those are quiet.
    pub fn machines(&self) -> (usize, usize) {
        let quiet = self.hosts.values().filter(|host| host.quiet.is_some());
        (self.cloud.alive().count(), quiet.count())
    }

    /// The fingerprint of the trace so far.
    pub const fn fingerprint(&self) -> u64 {
        self.trace.fingerprint()
    }

    /// Writes the trace to a file or the like as it grows, and keeps none of it.
    pub fn stream(&mut self, to: Box<dyn Write>) {
        self.trace.stream(to);
    }

    /// The same, a JSON object a line.
    pub(crate) fn stream_json(&mut self, to: Box<dyn Write>) {
        self.trace.stream_json(to);
    }

    pub(crate) fn note(&mut self, who: &str, what: fmt::Arguments<'_>) {
        self.trace.line(self.now, who, what);
    }

    pub(crate) fn violated(&mut self, invariant: &'static str, what: String) {
        self.trace
            .line(self.now, "CHECK", format_args!("{invariant}: {what}"));
        self.violations.push(Violation { invariant, what });
    }

    /// A person who looked at a restored fleet turns automation on, once the control plane runs.
    fn looked(&mut self) {
        if !self.plane.waits_for_person {
            return;
        }
        self.automation(Automation::On);
        let again = self.now + Duration::from_secs(60);
        self.queue.push(again, Event::Looked);
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
            Event::AtScheduler {
                life,
                effect,
                back,
                answer,
            } => self.at_scheduler(life, &effect, back, answer),
            Event::Answer { life, input } => self.answer(life, input),
            Event::Boot(id) => self.boot(&id),
            Event::Gone(id) => self.gone(&id, CloudStatus::Terminated),
            Event::Kept(id) => {
                let rented = self.cloud.machines.get_mut(&id);
                if let Some(rented) = rented.filter(|one| one.status == CloudStatus::Running) {
                    rented.interruption_at = None;
                    self.note("cloud", format_args!("{id} stays after all"));
                }
            }
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
                answer,
            } => self.heard(&host, life, kind, answer),
            Event::Push(host) => self.push(&host),
            Event::Ran {
                host,
                life,
                command,
            } => self.ran(&host, life, command),
            Event::Looked => self.looked(),
            Event::Story(what) => self.happen(what),
            Event::Trouble => {
                if self.troubled {
                    self.trouble();
                    self.schedule_trouble();
                }
            }
            Event::Remember => {
                let stale = |story: &Story| story.lists_the_past;
                let lies = self.config.troubles.contains(&Trouble::StaleListings)
                    || self.story.as_deref().is_some_and(stale);
                self.cloud.remember(self.now, lies);
                self.queue
                    .push(self.now + Duration::from_secs(60), Event::Remember);
            }
        }
    }
}

//! Runs a scenario: the fleet that it describes, what happens to it, and the record of it all.
//!
//! The engine makes the world and writes down what the control plane concludes. It decides nothing
//! for the control plane and grades nothing: whether a node is unhealthy, the control plane says.

mod aftermath;
pub(crate) mod book;
mod chaos;
mod failures;
pub(crate) mod fleet;
mod leaks;
mod ledger;
mod live;
mod notices;
mod owners;
mod steps;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use navarch_config::ConfigErrors;
use navarch_config::scenario::{
    Action, Chaos, CloudFault, ColdStart, Event as Step, FailureKind, Load, Place, Scenario, Target,
};
use navarch_model::invariants::Violation;
use navarch_model::{Change, Node, NodeId, NodeStatus, PoolName, ProviderInstanceId, State, Time};
use navarch_policy::HealthPolicy;

use crate::config::Config;
use crate::judge::Judge;
use crate::machine::Spec;
use crate::record::{AssertionResult, Outcome, Record};
use crate::streams::Stream;
use crate::world::{Event, Sim};
use book::Book;
use chaos::{Branch, Lasting, Spread};
use steps::Undone;

pub use live::{News, Unbreakable};

/// How long pools may take to come up before chaos begins all the same.
const LONGEST_START: Duration = Duration::from_secs(1800);
/// How often it is looked whether pools are up.
const LOOK_AT_POOLS: Duration = Duration::from_secs(1);
/// How often it is looked whether nodes have the status that is waited for.
const LOOK_AT_NODES: Duration = Duration::from_millis(100);

/// Whether an event makes listings show the past.
const fn lists_the_past(event: &Step) -> bool {
    matches!(
        event.action,
        Action::Cloud {
            fault: CloudFault::StaleListings,
            ..
        }
    )
}

/// What is due in a scenario.
#[derive(Debug)]
pub(crate) enum Happening {
    /// An external node is switched on: its place in the fleet, and by which order.
    Starts(usize, u64),
    /// An external node is replaced.
    Replace(NodeId),
    /// The owner of a node that was replaced tells the control plane that it is gone.
    Bury(NodeId),
    /// A failure of a process comes, by a schedule.
    Fails(usize, u64),
    /// A failure that another one caused comes.
    Falls {
        of: usize,
        victim: ProviderInstanceId,
        kind: FailureKind,
        branch: Branch,
    },
    /// A failure ends.
    Heal(usize),
    /// An outage of the chaos begins.
    OutageBegins(usize),
    /// An outage ends: its place in the record.
    OutageEnds(usize),
    /// The control plane dies in the middle of a commit.
    PlaneDies,
}

/// The numbers of the provider, region, zone and rack where a machine stands, in the order of
/// [`Scope`](navarch_config::scenario::Scope); the last stands for all and is the same for all.
type Domains = [u32; 5];

/// A machine that is there.
#[derive(Debug)]
struct Seat {
    id: ProviderInstanceId,
    domains: Domains,
}

/// What an external node is, as its owner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    /// It was never switched on, or its agent was stopped.
    Off,
    /// It is to be switched on.
    Coming,
    On,
    /// Its machine is gone, or another node has its place.
    Gone,
}

/// An external node.
#[derive(Debug)]
struct Owned {
    spec: Spec,
    power: Power,
    /// Counts what its owner ordered: what an earlier order set off is void.
    orders: u64,
}

impl Owned {
    const fn new(spec: Spec) -> Self {
        Self {
            spec,
            power: Power::Off,
            orders: 0,
        }
    }
}

/// What a simulated fleet has to do with its scenario.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) book: Book,
    /// External nodes, and the place of each among them.
    fleet: Vec<Owned>,
    owned: BTreeMap<NodeId, usize>,
    /// After how long each is switched on.
    starts: Vec<Duration>,
    cold: ColdStart,
    /// The work of pools, and from when on its times count.
    pub(crate) load: BTreeMap<PoolName, Load>,
    pub(crate) begun: Time,
    /// Whether listings will ever show the past.
    pub(crate) lists_the_past: bool,
    chaos: Option<Arc<Chaos>>,
    processes: Vec<chaos::Process>,
    /// How often failures were scheduled anew.
    schedules: u64,
    /// The most machines there can be, as far as is known.
    most_nodes: u32,
    /// What failures bring along that have yet to end, by the places of those failures.
    spreads: BTreeMap<usize, Spread>,
    /// Outages that last.
    outages: Vec<Lasting>,
    /// The machines that are there, in no order.
    roster: Vec<Seat>,
    /// The number of each place in which machines stand, by its names from the provider on.
    domains: BTreeMap<Vec<String>, u32>,
    seats: BTreeMap<ProviderInstanceId, usize>,
    /// Whether the scenario is over: nothing comes by itself any more.
    over: bool,
    /// The newest node in the place of one that the scenario names, and how many there were.
    newest: BTreeMap<NodeId, NodeId>,
    generations: BTreeMap<NodeId, (NodeId, u32)>,
    arrivals: Stream,
    victims: Stream,
    kinds: Stream,
    cascades: Stream,
    recoveries: Stream,
    startup: Stream,
    lemons: Stream,
}

impl Story {
    fn join(&mut self, id: &ProviderInstanceId, place: &Place) {
        let names = [&place.provider, &place.region, &place.zone, &place.rack];
        let mut domains = [0; 5];
        for depth in 1..=names.len() {
            let names: Vec<String> = names[..depth].iter().map(|name| (*name).clone()).collect();
            let next = self.domains.len() as u32;
            domains[depth - 1] = *self.domains.entry(names).or_insert(next);
        }
        self.seats.insert(id.clone(), self.roster.len());
        self.roster.push(Seat {
            id: id.clone(),
            domains,
        });
    }

    fn leave(&mut self, id: &ProviderInstanceId) {
        let Some(seat) = self.seats.remove(id) else {
            return;
        };
        self.roster.swap_remove(seat);
        if let Some(moved) = self.roster.get(seat) {
            self.seats.insert(moved.id.clone(), seat);
        }
    }

    fn seat_of(&self, id: &ProviderInstanceId) -> Option<Domains> {
        let seat = self.roster.get(*self.seats.get(id)?)?;
        Some(seat.domains)
    }

    fn draw_lemon(&mut self) -> bool {
        let fraction = self.chaos.as_ref().and_then(|chaos| chaos.lemons);
        fraction.is_some_and(|lemons| self.lemons.chance(lemons.fraction))
    }
}

/// A scenario that runs.
#[derive(Debug)]
pub struct Run {
    sim: Sim,
    steps: Vec<Step>,
    next: usize,
    stage: Stage,
    /// What the events after it wait for.
    waiting: Option<Waiting>,
    /// From when the times of the events and of the chaos count.
    begun: Time,
    until: Option<Time>,
    interval: Duration,
    sampled: Time,
    failed: Option<String>,
    /// What was expected and found, once that was looked at.
    judged: Option<Vec<AssertionResult>>,
    strict: bool,
    /// Whether an event of the scenario starts the external nodes.
    scripted: bool,
    /// Whether it has yet to come up once, where the start-up is counted.
    rises: bool,
    scenario: Scenario,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was started.
    New,
    /// The fleet comes up, for so long at most, and it is looked again when.
    Rising { limit: Time, look: Time },
    /// What the scenario says happens.
    Playing,
    /// It is over, and time goes on.
    Lingering,
}

/// The status that nodes are to have before the run goes on.
#[derive(Debug, Clone)]
struct Waiting {
    target: Target,
    status: NodeStatus,
    limit: Time,
    look: Time,
    /// The line of the event.
    line: u64,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The present moment of the simulation.
    pub now: Time,
    /// When it will end, if that is known.
    pub until: Option<Time>,
    /// Nodes that are ACTIVE and HEALTHY, as the control plane says.
    pub healthy: u32,
    /// Failures, those of them that others caused, and recoveries.
    pub failures: u64,
    /// See [`failures`](Self::failures).
    pub cascaded: u64,
    /// See [`failures`](Self::failures).
    pub recoveries: u64,
}

impl Run {
    /// Sets a scenario up; no time has passed. `text` is the file as it was read.
    ///
    /// # Errors
    ///
    /// What the configuration says wrong.
    pub fn new(
        scenario: Scenario,
        text: String,
        seed: u64,
        policy: Arc<HealthPolicy>,
    ) -> Result<Self, ConfigErrors> {
        let stress = scenario.stress.as_ref();
        let gen_ = stress.and_then(|stress| stress.fleet_gen.as_ref());
        let mut draw = Stream::named(seed, "scenario fleet");
        let mut startup = Stream::named(seed, "scenario startup");
        let specs = match gen_ {
            Some(generated) => fleet::generated(generated, &mut draw),
            None => fleet::listed(&scenario.fleet),
        };
        let starts = match gen_ {
            Some(generated) => fleet::starts(&generated.startup, specs.len(), &mut startup),
            None => vec![Duration::ZERO; specs.len()],
        };
        let cold = gen_.map(|generated| generated.startup.cold_start);
        let pools: u32 = scenario
            .config
            .pools
            .values()
            .map(|pool| pool.max_nodes.saturating_add(pool.max_surge))
            .fold(0, u32::saturating_add);
        let external = u32::try_from(specs.len()).unwrap_or(u32::MAX);
        let chaos = stress.and_then(|stress| stress.chaos.clone().map(Arc::new));
        let story = Story {
            book: Book::default(),
            owned: specs
                .iter()
                .enumerate()
                .map(|(at, spec)| (spec.node.clone(), at))
                .collect(),
            fleet: specs.into_iter().map(Owned::new).collect(),
            starts,
            cold: cold.unwrap_or_default(),
            load: scenario
                .load
                .iter()
                .map(|(pool, load)| (PoolName::new(&**pool), load.clone()))
                .collect(),
            begun: Time(0),
            lists_the_past: scenario.events.iter().any(lists_the_past),
            chaos,
            processes: Vec::new(),
            schedules: 0,
            most_nodes: external.saturating_add(pools).saturating_add(pools / 4 + 1),
            spreads: BTreeMap::new(),
            outages: Vec::new(),
            roster: Vec::new(),
            domains: BTreeMap::new(),
            seats: BTreeMap::new(),
            over: false,
            newest: BTreeMap::new(),
            generations: BTreeMap::new(),
            arrivals: Stream::named(seed, "chaos arrivals"),
            victims: Stream::named(seed, "chaos victims"),
            kinds: Stream::named(seed, "chaos kinds"),
            cascades: Stream::named(seed, "chaos cascades"),
            recoveries: Stream::named(seed, "chaos recoveries"),
            startup,
            lemons: Stream::named(seed, "chaos lemons"),
        };
        let config = Config::of(&scenario);
        let mut sim = Sim::new(seed, config)?;
        sim.judge = Judge::of(policy);
        sim.cloud.limits(&scenario.cloud);
        sim.scheduler.drain = Some(scenario.drain);
        let scripted = scenario
            .events
            .iter()
            .any(|step| matches!(step.action, Action::StartFleet));
        let mut run = Self {
            interval: stress.map_or(Duration::from_secs(5), |stress| stress.metrics_interval),
            steps: scenario.events.clone(),
            next: 0,
            stage: Stage::New,
            waiting: None,
            begun: Time(0),
            until: None,
            sampled: Time(0),
            failed: None,
            judged: None,
            strict: stress.is_none(),
            scripted,
            rises: scripted && stress.is_some(),
            sim,
            scenario,
        };
        run.describe(story, text, seed);
        Ok(run)
    }

    fn describe(&mut self, mut story: Story, text: String, seed: u64) {
        let scenario = &self.scenario;
        let record = &mut story.book.record;
        record.name.clone_from(&scenario.name);
        record.description.clone_from(&scenario.description);
        record.seed = seed;
        record.scenario = text;
        record.configuration = scenario.config.to_yaml();
        record.asked.total_nodes = match story.fleet.len() {
            0 => scenario
                .config
                .pools
                .values()
                .map(|pool| pool.max_nodes)
                .sum(),
            external => u32::try_from(external).unwrap_or(u32::MAX),
        };
        if let Some(chaos) = story.chaos.as_ref().filter(|chaos| chaos.enabled) {
            record.asked.failure_rate = chaos.failure_rate;
            record.asked.cascading = chaos.cascading.is_some();
            record.asked.recovery = chaos.recovery.is_some();
        }
        self.sim.story = Some(Box::new(story));
    }

    /// Writes the trace somewhere as it grows, a JSON object a line.
    pub fn trace(&mut self, to: Box<dyn std::io::Write>) {
        self.sim.stream_json(to);
    }

    /// Makes every call of every machine by itself from now on: nothing is advanced in bulk. The
    /// trace and the record stay the same, and a run takes several times as long.
    pub const fn call_by_call(&mut self) {
        self.sim.config.bulk = false;
    }

    /// Begins to bring the fleet up: a stress run's start-up, and the pools of one.
    fn start(&mut self) {
        if !self.scripted {
            // What starts nothing by itself starts at once.
            let _ = self.sim.act(&Action::StartFleet);
        }
        if self.strict {
            self.begin();
            return;
        }
        let longest = self.sim.story.as_ref().map_or(Duration::ZERO, |story| {
            let last = story.starts.iter().copied().max().unwrap_or_default();
            last + story.cold.max.or(story.cold.mean).unwrap_or_default()
        });
        let now = self.sim.now();
        self.stage = Stage::Rising {
            limit: now + LONGEST_START.max(longest),
            look: now,
        };
    }

    fn is_up(&self) -> bool {
        let Some(story) = &self.sim.story else {
            return true;
        };
        // What the scenario starts itself is not waited for.
        let waits = |one: &Owned| matches!(one.power, Power::Off | Power::Coming);
        let waits = !self.scripted && story.fleet.iter().any(waits);
        let started = !waits && story.book.progress().0 == 0;
        let mut pools = self.sim.settings.pools.keys();
        started
            && pools.all(|pool| {
                let (target, active) = story.book.pool(pool);
                self.sim.plans() > 0 && active >= target
            })
    }

    /// Lets time pass, with samples on the way.
    fn pass(&mut self, until: Time) {
        while self.sampled <= until && self.sim.violations().is_empty() {
            let at = self.sampled;
            self.sim.run(at.max(self.sim.now()));
            self.sample();
            self.thin();
            self.sampled = at + self.interval;
        }
        self.sim.run(until);
    }

    fn sample(&mut self) {
        let now = self.sim.now();
        let Some(story) = self.sim.story.as_deref_mut() else {
            return;
        };
        let time = now.since(story.begun);
        let all = &story.load;
        let load = |pool: &PoolName| {
            all.get(pool)
                .map_or((0.0, 0.0), |load| (load.work.at(time), load.jobs.at(time)))
        };
        let remembered = &self.sim.seen.pools;
        story.book.sample(&self.sim.report, remembered, load, now);
        // The start-up of a fleet that the scenario starts ends when that is up.
        let on = |one: &Owned| matches!(one.power, Power::On | Power::Gone);
        let up = story.fleet.iter().all(on) && story.book.progress().0 == 0;
        if self.rises && up {
            self.rises = false;
            story.book.record.started = now;
        }
    }

    /// Goes on for one sampling interval. Answers none when the run is over.
    pub fn advance(&mut self) -> Option<Progress> {
        self.advance_to(self.sim.now() + self.interval)
    }

    /// Goes on until a moment, or until the run is over. Answers none when it was over before.
    pub fn advance_to(&mut self, stop: Time) -> Option<Progress> {
        if self.is_over() {
            return None;
        }
        while self.sim.violations().is_empty() && self.failed.is_none() {
            let now = self.sim.now();
            let next = match self.stage {
                Stage::New => {
                    self.start();
                    continue;
                }
                Stage::Rising { limit, look } if now >= look => {
                    if now >= limit || self.is_up() {
                        self.begin();
                    } else {
                        let look = now + LOOK_AT_POOLS;
                        self.stage = Stage::Rising { limit, look };
                    }
                    continue;
                }
                Stage::Rising { look, .. } => look,
                Stage::Playing | Stage::Lingering => match self.next_step(now) {
                    Some(at) if at <= now => {
                        // What the step before it brought about at this moment comes first.
                        self.pass(now);
                        self.step();
                        continue;
                    }
                    Some(at) => at,
                    None => self.until.unwrap_or(now),
                },
            };
            let next = next.min(stop);
            if next <= now {
                break;
            }
            self.pass(next);
        }
        Some(self.progress())
    }

    /// When the scenario has something to do next; none when nothing is left.
    fn next_step(&self, now: Time) -> Option<Time> {
        if let Some(waiting) = &self.waiting {
            return Some(waiting.look);
        }
        let next = self.steps.get(self.next)?;
        Some((self.begun + next.at).max(now))
    }

    /// Whether everything happened that the scenario says, or the run failed.
    fn is_over(&self) -> bool {
        let done = self.stage == Stage::Lingering
            || self.until.is_some_and(|until| self.sim.now() >= until)
                && self.waiting.is_none()
                && self.next >= self.steps.len();
        done || self.failed.is_some() || !self.sim.violations().is_empty()
    }

    fn begin(&mut self) {
        self.stage = Stage::Playing;
        if !self.strict {
            self.begun = self.sim.now();
        }
        let now = self.begun;
        if let Some(story) = &mut self.sim.story {
            story.book.record.started = now;
            story.begun = now;
        }
        self.sim.unleash();
        let last = self.steps.last().map_or(Duration::ZERO, |step| step.at);
        let lasts = self
            .scenario
            .stress
            .as_ref()
            .map_or(last, |stress| stress.duration);
        self.until = Some(self.begun + lasts);
    }

    /// Takes the next step of the scenario, or looks whether the last one is over.
    fn step(&mut self) {
        let now = self.sim.now();
        if let Some(waiting) = &mut self.waiting {
            let (target, status) = (&waiting.target, waiting.status);
            if self.sim.have_reached(target, status) {
                self.waiting = None;
            } else if now < waiting.limit {
                waiting.look = (now + LOOK_AT_NODES).min(waiting.limit);
            } else {
                let (wrong, line) = (self.sim.never_reached(target, status), waiting.line);
                self.waiting = None;
                self.step_failed(line, &wrong, true);
            }
            return;
        }
        let Some(step) = self.steps.get(self.next).cloned() else {
            return;
        };
        self.next += 1;
        if let Action::WaitForStatus {
            target,
            status,
            timeout,
        } = step.action
        {
            self.waiting = Some(Waiting {
                target,
                status,
                limit: now + timeout,
                look: now,
                line: step.line,
            });
        } else if let Err(undone) = self.sim.act(&step.action) {
            // That chaos takes the control plane away is no fault of the event.
            let ends = self.strict || !matches!(undone, Undone::Away(_));
            self.step_failed(step.line, &undone.to_string(), ends);
        }
    }

    fn step_failed(&mut self, line: u64, wrong: &str, ends: bool) {
        let wrong = format!("the event in line {line} failed: {wrong}");
        self.sim.note("event", format_args!("{wrong}"));
        let now = self.sim.now();
        if ends {
            self.failed = Some(wrong.clone());
        }
        if let Some(story) = &mut self.sim.story {
            story.book.record.notes.push((now, wrong));
        }
    }

    /// Looks at what was expected, once.
    fn judge(&mut self) {
        if self.judged.is_none() && self.failed.is_none() {
            let all = self.scenario.assertions.iter();
            self.judged = Some(all.map(|assertion| self.sim.judge(assertion)).collect());
        }
    }

    /// Why the run failed, as far as that is known.
    fn wrong(&self) -> Option<String> {
        let broken = self.sim.violations().first().map(promise);
        let broken = broken.map(|one| format!("a promise is broken: {one}"));
        let mut judged = self.judged.iter().flatten();
        let unmet = judged.find_map(|result| {
            let wrong = result.wrong.as_ref()?;
            Some(format!(
                "the assertion in line {} failed: {wrong}",
                result.line
            ))
        });
        self.failed.clone().or(broken).or(unmet)
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let book = self.sim.story.as_ref().map(|story| &story.book);
        let (_, healthy, failures, recoveries) = book.map_or((0, 0, 0, 0), Book::progress);
        Progress {
            now: self.sim.now(),
            until: self.until,
            healthy,
            failures,
            cascaded: book.map_or(0, Book::cascaded),
            recoveries,
        }
    }

    /// Goes on until the run is over, and ends it.
    pub fn play(mut self) -> Record {
        while self.advance().is_some() {}
        self.finish(false)
    }

    /// Ends the run and checks what was expected, unless that was done when the scenario was over.
    /// `interrupted` says that it ends before its time; then nothing is expected.
    pub fn finish(mut self, interrupted: bool) -> Record {
        self.end(interrupted)
    }

    /// The same, for whoever ends with the run: giving back what a large fleet took is work that
    /// the end of a process saves.
    pub fn end(&mut self, interrupted: bool) -> Record {
        self.sim.check_all();
        self.sample();
        if !interrupted {
            self.judge();
        }
        let mut record = self.close();
        self.look_for_leaks();
        let wrong = self.wrong();
        let broken = self.sim.violations().iter().map(promise).collect();
        record.violations = broken;
        record.outcome = match wrong {
            Some(wrong) => Outcome::Failed(wrong),
            None if interrupted => Outcome::Interrupted,
            None => Outcome::Passed,
        };
        self.sim.trace.flush();
        record
    }

    /// The record up to now, but for the promises and the outcome. What happens later goes into no
    /// record.
    fn close(&mut self) -> Record {
        let now = self.sim.now();
        let Some(story) = &mut self.sim.story else {
            return Record::default();
        };
        story.book.describe_rules(&self.sim.judge.policy);
        let unrecovered = story.book.still_lacking(now);
        let mut record = story.book.record.clone();
        record.unrecovered = unrecovered;
        record.unrecovered.sort();
        record.crashes = self.sim.deaths;
        record
            .assertions
            .extend(self.judged.iter().flatten().cloned());
        record.recovery_times.sort();
        record.ended = now;
        record
    }

    /// The simulated fleet.
    pub const fn sim(&self) -> &Sim {
        &self.sim
    }
}

/// A promise that is broken, in words.
fn promise(broken: &Violation) -> String {
    format!("{}: {}", broken.invariant, broken.what)
}

impl Sim {
    /// The control plane changed something, and that will not be lost: what it concluded goes into
    /// the record. `released` is what callers knew before.
    pub(crate) fn write_down(&mut self, changes: &[Change]) {
        let Some(story) = &mut self.story else { return };
        story.book.changed(changes, self.now);
        let chaos = story.chaos.as_ref();
        let replaces = chaos.and_then(|chaos| chaos.recovery);
        if !replaces.is_some_and(|recovery| recovery.replace_fatal) {
            return;
        }
        for change in changes {
            if let Change::Node(node) = change {
                let was = self.plane.released.nodes.get(&node.id);
                self.watch(was.map(|was| was.status()), node);
            }
        }
    }

    /// The owner of an external node that turns UNHEALTHY replaces it.
    fn watch(&mut self, was: Option<NodeStatus>, node: &Node) {
        let turns = node.status() == NodeStatus::Unhealthy && was != Some(NodeStatus::Unhealthy);
        if turns && node.instance.is_none() {
            let replace = Happening::Replace(node.id.clone());
            self.queue.push(self.now, Event::Story(replace));
        }
    }

    /// A control plane starts with a state that may have more than callers were told.
    pub(crate) fn settle(&mut self, loaded: &State) {
        let Some(story) = &mut self.story else { return };
        let told = &self.plane.released;
        story.book.settle(told, loaded, self.now);
        let chaos = story.chaos.as_ref();
        let replaces = chaos.and_then(|chaos| chaos.recovery);
        if !replaces.is_some_and(|recovery| recovery.replace_fatal) {
            return;
        }
        let news = loaded.nodes.values().filter(|node| {
            let told = told.nodes.get(&node.id);
            told != Some(*node)
        });
        for node in news.cloned().collect::<Vec<_>>() {
            let was = self.plane.released.nodes.get(&node.id);
            self.watch(was.map(|was| was.status()), &node);
        }
    }

    /// Something of the scenario is due.
    pub(crate) fn happen(&mut self, what: Happening) {
        let over = self.story.as_ref().is_some_and(|story| story.over);
        match what {
            Happening::Fails(..)
            | Happening::Falls { .. }
            | Happening::OutageBegins(_)
            | Happening::PlaneDies
                if over => {}
            Happening::Starts(at, order) => self.starts(at, order),
            Happening::Replace(node) => self.replace(&node),
            Happening::Bury(node) => self.bury(node),
            Happening::Fails(process, schedule) => self.fails(process, schedule),
            Happening::Falls {
                of,
                victim,
                kind,
                branch,
            } => self.falls(of, &victim, kind, branch),
            Happening::Heal(place) => self.heal(place),
            Happening::OutageBegins(at) => {
                let chaos = self.story.as_ref().and_then(|story| story.chaos.as_ref());
                let outage = chaos.and_then(|chaos| chaos.outages.get(at)).cloned();
                if let Some(outage) = outage {
                    self.black_out(&outage);
                }
            }
            Happening::OutageEnds(at) => self.light_up(at),
            Happening::PlaneDies => self.doom_plane(),
        }
    }

    /// The cloud made a machine for a pool.
    pub(crate) fn story_made(&mut self, id: &ProviderInstanceId) -> Option<Duration> {
        let now = self.now;
        let micros = self.cloud.machines.get(id)?.micros;
        let spec = self.rented_spec(id)?;
        let story = self.story.as_mut()?;
        let lemon = story.draw_lemon();
        story.book.powered(&spec, lemon, true, now);
        story.book.bought(micros, now);
        story.join(id, &spec.place);
        self.make_room();
        let traits = self.cloud.told.traits(&spec.place.provider);
        let story = self.story.as_mut()?;
        if story.startup.chance(traits.never_boots) {
            return Some(Duration::MAX);
        }
        Some(fleet::cold_start(&traits.boot, &mut story.startup))
    }

    /// A machine of a pool is gone.
    pub(crate) fn story_gone(&mut self, id: &ProviderInstanceId, why: &str) {
        let now = self.now;
        let Some(rented) = self.cloud.machines.get(id) else {
            return;
        };
        let (micros, node) = (rented.micros, rented.instance.as_ref());
        let Some(node) = node.map(|instance| NodeId::new(instance.as_str())) else {
            return;
        };
        if let Some(story) = &mut self.story {
            story.leave(id);
            story.book.gone(&node, why, micros, now);
        }
    }
}

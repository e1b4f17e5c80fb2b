//! The agent's core: what to send and when, what to keep until it was taken, which commands are
//! new. Synchronous like the Fleet, so that the simulator drives it too.
//!
//! The shell calls [`Agent::next`] until it answers a time to wait for, carries out each step,
//! and tells the result. Every step that talks to the control plane is one call at a time.

mod spool;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use navarch_model::{CommandId, IdSource, SessionId, Time};

use crate::input::Fact;
pub use spool::{Changes, Kept, Losses, Spool, SpoolLimits};

/// Finished commands that an agent remembers, to know a repeat.
const REMEMBERED_COMMANDS: usize = 256;
/// The most facts in one report; the rest follows in the next.
const FACTS_PER_REPORT: usize = 256;
/// The longest that a call to the control plane may take. Lower, and a busy control plane is asked
/// twice; higher, and what a broken connection swallowed is sent again late.
pub const CALL_LIMIT: Duration = Duration::from_secs(10);
/// The least that a heartbeat may take, however short its interval.
const SHORTEST_BEAT_LIMIT: Duration = Duration::from_secs(1);
/// The first and the longest wait after a failed call.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// The longest that an agent whose calls failed goes without a call that succeeds, once it could: a
/// wait, jittered, and the call under way.
pub const LONGEST_RETURN: Duration = Duration::from_secs(46);
/// The longest wait of an agent that lost its node to another one. Lower, and two agents under one
/// id take it from each other all the time; higher, and a node whose other agent ended goes silent
/// past its timeout.
const LONGEST_SUPERSEDED_WAIT: Duration = Duration::from_secs(60);
/// Agents that lost nothing for this long no longer compete. Several times the longest wait.
const RIVALRY_QUIET: Duration = Duration::from_secs(600);
/// From this many losses on, it is no restart but another agent under the same id.
const RIVAL_LOSSES: u32 = 3;
/// How often commands are asked for while nothing pushes them.
const POLL_COMMANDS: Duration = Duration::from_secs(10);
/// How far an interval is jittered, as a fraction, so that agents do not beat in step.
const JITTER: f64 = 0.1;

/// What the shell does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Describe the machine and register.
    Register,
    /// Measure and send a heartbeat.
    Beat,
    /// Read every watch, then call [`Agent::read`].
    ReadAll,
    /// Send this report.
    Send(Outgoing),
    /// Ask for commands.
    Poll,
    /// Nothing before this time.
    Wait(Time),
}

/// A report to send. Sending it again with the same sequence is harmless.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// Its place in the session.
    pub sequence: u64,
    /// Whether it holds a reading of every watch that ran.
    pub full: bool,
    /// Its facts, spooled ones first.
    pub facts: Vec<Fact>,
}

/// How a call to the control plane ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken.
    Taken,
    /// The control plane does not know the node: register again.
    Unknown,
    /// Another agent registered under the id: register again, after a wait.
    Superseded,
    /// It will never be taken as it is. Of a report, every part but the bad one is sent again.
    Refused,
    /// It was not answered: try again.
    Failed,
    /// It was not taken now: try again, not before so long.
    Later(Duration),
}

/// What the control plane refused for itself alone, and nobody will send again.
#[derive(Debug, Clone, PartialEq)]
pub enum Dropped {
    /// A fact of the spool. It is counted as lost.
    Fact(Fact),
    /// A full reading, with its number of facts. The next one comes in its turn.
    Reading(usize),
}

/// A report that was sent and not answered.
#[derive(Debug, Clone)]
struct Unanswered {
    report: Outgoing,
    /// The places in the spool of its first facts; the rest is the full reading.
    places: Vec<u64>,
    /// Its reading is older than the registration, and not sent again.
    outdated: bool,
}

/// How often things are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// Between heartbeats.
    pub beat: Duration,
    /// Between full reports.
    pub full: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            beat: Duration::from_secs(30),
            full: Duration::from_secs(60),
        }
    }
}

impl Intervals {
    /// How long a heartbeat may take: no longer than the time to the next one, so that one that got
    /// lost is made up for before the control plane calls the node silent.
    #[must_use]
    pub fn beat_limit(&self) -> Duration {
        self.beat.clamp(SHORTEST_BEAT_LIMIT, CALL_LIMIT)
    }
}

/// A call that fails waits longer each time.
#[derive(Debug, Clone, Default)]
struct Retry {
    failures: u32,
    after: Option<Time>,
}

impl Retry {
    fn ready(&self, now: Time) -> bool {
        self.after.is_none_or(|after| now >= after)
    }

    fn failed(&mut self, now: Time, ids: &mut dyn IdSource) {
        self.failed_up_to(RETRY.1, now, ids);
    }

    fn failed_up_to(&mut self, longest: Duration, now: Time, ids: &mut dyn IdSource) {
        let wait = crate::settings::doubled(RETRY.0, self.failures, longest);
        self.failures = self.failures.saturating_add(1);
        self.after = Some(now + jittered(wait, 0.2, ids));
    }

    /// Waits at least so long, longer if the failures so far ask for it.
    fn not_before(&mut self, at: Time) {
        self.after = self.after.max(Some(at));
    }

    fn succeeded(&mut self) {
        *self = Self::default();
    }
}

/// `span` longer or shorter by at most `fraction`.
fn jittered(span: Duration, fraction: f64, ids: &mut dyn IdSource) -> Duration {
    let unit = (ids.next_bits() >> 11) as f64 / (1_u64 << 53) as f64;
    span.mul_f64(1.0 + fraction * (2.0 * unit - 1.0))
}

/// The agent's state. Times are on the agent's own monotonic axis.
#[derive(Debug)]
pub struct Agent {
    session: SessionId,
    registered: bool,
    intervals: Intervals,
    register: Retry,
    /// The waits after another agent took the node, which a registration does not end.
    superseded: Retry,
    superseded_last: Time,
    send: Retry,
    /// Whether the last heartbeat failed.
    away: bool,
    next_beat: Time,
    next_full: Time,
    next_poll: Time,
    pushed: bool,
    /// How often the node was lost: the control plane did not know it, or another agent took it.
    losses: u64,
    /// The calls that are under way, one at a time of each kind, each with the losses before it.
    busy: [Option<u64>; 5],
    sequence: u64,
    /// The report that was sent and not answered; it is sent again as it is.
    unanswered: Option<Unanswered>,
    /// The most spooled facts of the next report: fewer while a refused one is looked for.
    room: usize,
    /// How many facts at the front of the spool may be the refused one.
    suspects: usize,
    dropped: Option<Dropped>,
    /// The facts of a full reading that waits to be sent.
    full: Option<Vec<Fact>>,
    spool: Spool,
    finished: VecDeque<CommandId>,
}

/// The kinds of calls that are made one at a time.
#[derive(Debug, Clone, Copy)]
enum Busy {
    Register,
    Beat,
    Read,
    Send,
    Poll,
}

impl Agent {
    /// An agent that starts now, with what an earlier one kept.
    pub fn new(session: SessionId, spool: Spool, finished: Vec<CommandId>) -> Self {
        Self {
            session,
            registered: false,
            intervals: Intervals::default(),
            register: Retry::default(),
            superseded: Retry::default(),
            superseded_last: Time(0),
            send: Retry::default(),
            away: false,
            next_beat: Time(0),
            next_full: Time(0),
            next_poll: Time(0),
            pushed: false,
            losses: 0,
            busy: [None; 5],
            sequence: 0,
            unanswered: None,
            room: FACTS_PER_REPORT,
            suspects: 0,
            dropped: None,
            full: None,
            spool,
            finished: finished.into(),
        }
    }

    /// The session of this start.
    pub const fn session(&self) -> &SessionId {
        &self.session
    }

    /// Whether the control plane knows the node, as far as we know.
    pub const fn is_registered(&self) -> bool {
        self.registered
    }

    /// What is kept until it was taken.
    pub const fn spool(&self) -> &Spool {
        &self.spool
    }

    /// How what is kept changed since the last call.
    pub fn take_spool_changes(&mut self) -> Changes {
        self.spool.take_changes()
    }

    /// The intervals in force.
    pub const fn intervals(&self) -> Intervals {
        self.intervals
    }

    /// Whether another agent keeps taking the node: a person must stop one of the two.
    pub const fn has_rival(&self) -> bool {
        self.superseded.failures >= RIVAL_LOSSES
    }

    /// What was refused and dropped since the last call.
    pub fn take_dropped(&mut self) -> Option<Dropped> {
        self.dropped.take()
    }

    /// Commands that were finished, the oldest first, to be kept over a restart.
    pub fn finished(&self) -> impl Iterator<Item = &CommandId> {
        self.finished.iter()
    }

    fn begin(&mut self, kind: Busy) {
        self.busy[kind as usize] = Some(self.losses);
    }

    /// Answers whether the node was not lost since the call began.
    fn end(&mut self, kind: Busy) -> bool {
        self.busy[kind as usize].take() == Some(self.losses)
    }

    fn is_busy(&self, kind: Busy) -> bool {
        self.busy[kind as usize].is_some()
    }

    /// The next step. The shell carries out every step but `Wait` and tells its result; until
    /// then the same step does not come again.
    pub fn next(&mut self, now: Time) -> Step {
        if !self.registered {
            if self.is_busy(Busy::Register) {
                return Step::Wait(Time::NEVER);
            }
            // The longer of the two waits counts.
            let after = self.register.after.max(self.superseded.after);
            if let Some(after) = after.filter(|after| now < *after) {
                return Step::Wait(after);
            }
            self.begin(Busy::Register);
            return Step::Register;
        }
        if !self.is_busy(Busy::Beat) && now >= self.next_beat {
            self.begin(Busy::Beat);
            return Step::Beat;
        }
        // Also while an older reading waits: what is sent after an absence says how things are then.
        if !self.is_busy(Busy::Read) && now >= self.next_full {
            self.begin(Busy::Read);
            return Step::ReadAll;
        }
        if !self.is_busy(Busy::Send)
            && self.send.ready(now)
            && let Some(report) = self.outgoing()
        {
            self.begin(Busy::Send);
            return Step::Send(report);
        }
        if !self.pushed && !self.is_busy(Busy::Poll) && now >= self.next_poll {
            self.begin(Busy::Poll);
            return Step::Poll;
        }
        Step::Wait(self.next_due())
    }

    fn next_due(&self) -> Time {
        let mut due = Time::NEVER;
        if !self.is_busy(Busy::Beat) {
            due = due.min(self.next_beat);
        }
        if !self.is_busy(Busy::Read) {
            due = due.min(self.next_full);
        }
        if !self.pushed && !self.is_busy(Busy::Poll) {
            due = due.min(self.next_poll);
        }
        if let (false, Some(after)) = (self.is_busy(Busy::Send), self.send.after)
            && self.has_outgoing()
        {
            due = due.min(after);
        }
        due
    }

    fn has_outgoing(&self) -> bool {
        let unanswered = self
            .unanswered
            .as_ref()
            .is_some_and(|unanswered| !unanswered.places.is_empty() || !unanswered.outdated);
        unanswered || self.full.is_some() || !self.spool.is_empty()
    }

    fn outgoing(&mut self) -> Option<Outgoing> {
        self.forget_outdated_reading();
        if let Some(unanswered) = &self.unanswered {
            return Some(unanswered.report.clone());
        }
        if !self.has_outgoing() {
            return None;
        }
        let (places, mut facts): (Vec<u64>, Vec<Fact>) = self
            .spool
            .first(self.room)
            .map(|kept| (kept.place, kept.fact.clone()))
            .unzip();
        self.suspects = self.suspects.min(self.spool.len());
        // A full report goes only when nothing older waits: it says how things are after all.
        let full = places.len() == self.spool.len() && self.suspects == 0 && self.full.is_some();
        if full {
            facts.extend(self.full.take().unwrap_or_default());
        }
        self.sequence += 1;
        let report = Outgoing {
            sequence: self.sequence,
            full,
            facts,
        };
        self.unanswered = Some(Unanswered {
            report: report.clone(),
            places,
            outdated: false,
        });
        Some(report)
    }

    /// Takes an outdated reading out of the report that was not answered. The facts that are left
    /// keep their sequence: if they were taken after all, they are not taken again.
    fn forget_outdated_reading(&mut self) {
        if let Some(unanswered) = &mut self.unanswered
            && unanswered.report.full
            && (unanswered.outdated || self.full.is_some())
        {
            unanswered.report.full = false;
            unanswered.report.facts.truncate(unanswered.places.len());
            if unanswered.places.is_empty() {
                self.unanswered = None;
            }
        }
    }

    /// The registration ended.
    pub fn registered(
        &mut self,
        outcome: Outcome,
        intervals: Option<Intervals>,
        now: Time,
        ids: &mut dyn IdSource,
    ) {
        self.end(Busy::Register);
        if outcome != Outcome::Taken {
            self.register.failed(now, ids);
            if let Outcome::Later(wait) = outcome {
                self.register.not_before(now + wait);
            }
            return;
        }
        self.register.succeeded();
        self.registered = true;
        // What was read before says nothing about the node that was registered now.
        self.full = None;
        if let Some(unanswered) = &mut self.unanswered {
            unanswered.outdated = true;
        }
        if let Some(intervals) = intervals {
            self.intervals = intervals;
        }
        // The first heartbeat and the first full report go at once.
        self.next_beat = now;
        self.next_full = now;
        self.next_poll = now;
        self.send.succeeded();
    }

    /// A heartbeat ended.
    pub fn beaten(&mut self, outcome: Outcome, now: Time, ids: &mut dyn IdSource) {
        let is_news = self.end(Busy::Beat);
        let away = std::mem::replace(&mut self.away, outcome == Outcome::Failed);
        if away && outcome == Outcome::Taken {
            // The control plane is back: what waits goes at once, not when its own wait ends.
            self.send.succeeded();
        }
        let interval = match outcome {
            // A lost beat is made up for soon, well within the control plane's patience.
            Outcome::Failed => self.intervals.beat / 4,
            Outcome::Later(wait) => self.intervals.beat.max(wait),
            _ => self.intervals.beat,
        };
        self.next_beat = now + jittered(interval, JITTER, ids);
        if is_news {
            self.hear(outcome, now, ids);
        }
    }

    /// Every watch was read. The reading replaces one that was not taken yet.
    pub fn read(&mut self, facts: Vec<Fact>, now: Time, ids: &mut dyn IdSource) {
        self.end(Busy::Read);
        self.next_full = now + jittered(self.intervals.full, JITTER, ids);
        self.full = Some(facts);
    }

    /// Something changed on the machine: read every watch at once.
    pub fn read_soon(&mut self, now: Time) {
        self.next_full = self.next_full.min(now);
    }

    /// Facts happened. They are kept until a report with them was taken; the shell makes the
    /// spool durable before it goes on.
    pub fn happened(&mut self, facts: Vec<Fact>) {
        let under_way = self
            .unanswered
            .as_ref()
            .and_then(|unanswered| unanswered.places.last().copied())
            .unwrap_or(0);
        for fact in facts {
            self.spool.push(fact, under_way);
        }
    }

    /// A report ended.
    pub fn sent(&mut self, outcome: Outcome, now: Time, ids: &mut dyn IdSource) {
        let is_news = self.end(Busy::Send);
        match outcome {
            Outcome::Taken => {
                if let Some(Unanswered { places, .. }) = self.unanswered.take() {
                    self.spool.taken(&places);
                    self.suspects = self.suspects.saturating_sub(places.len());
                }
                if self.suspects == 0 {
                    self.room = FACTS_PER_REPORT;
                }
                self.send.succeeded();
            }
            Outcome::Refused => {
                if let Some(unanswered) = self.unanswered.take() {
                    self.refused(unanswered);
                }
                self.send.succeeded();
            }
            Outcome::Failed => self.send.failed(now, ids),
            Outcome::Later(wait) => {
                self.send.failed(now, ids);
                self.send.not_before(now + wait);
            }
            Outcome::Unknown | Outcome::Superseded => {
                // The facts stay in the spool; a full reading is made anew after registering.
                self.unanswered = None;
            }
        }
        if is_news {
            self.hear(outcome, now, ids);
        }
    }

    /// A report was refused: looks for the part that is at fault, by halves, and drops that alone.
    fn refused(&mut self, unanswered: Unanswered) {
        let Unanswered {
            report,
            places,
            outdated,
        } = unanswered;
        let spooled = places.len();
        let mut facts = report.facts;
        let reading = facts.split_off(spooled);
        match (facts.pop(), facts.len()) {
            (None, _) => self.dropped = Some(Dropped::Reading(reading.len())),
            (Some(fact), 0) if !report.full => {
                self.spool.refused(places[0]);
                self.dropped = Some(Dropped::Fact(fact));
                self.suspects = 0;
                self.room = FACTS_PER_REPORT;
            }
            _ if report.full => {
                // First without the reading, which goes alone afterwards.
                if !outdated {
                    self.full.get_or_insert(reading);
                }
                (self.suspects, self.room) = (spooled, spooled);
            }
            _ => (self.suspects, self.room) = (spooled, spooled / 2),
        }
    }

    /// Notes that the node is lost, if a call ended so. Several calls may tell of one loss, some of
    /// them after the next registration: only the first counts.
    fn hear(&mut self, outcome: Outcome, now: Time, ids: &mut dyn IdSource) {
        match outcome {
            Outcome::Unknown => self.lose(),
            Outcome::Superseded => {
                self.lose();
                if now.since(self.superseded_last) > RIVALRY_QUIET {
                    self.superseded.succeeded();
                }
                self.superseded_last = now;
                self.superseded
                    .failed_up_to(LONGEST_SUPERSEDED_WAIT, now, ids);
            }
            Outcome::Taken | Outcome::Refused | Outcome::Failed | Outcome::Later(_) => {}
        }
    }

    fn lose(&mut self) {
        self.registered = false;
        self.losses += 1;
    }

    /// A poll for commands ended.
    pub fn polled(&mut self, outcome: Outcome, now: Time, ids: &mut dyn IdSource) {
        let is_news = self.end(Busy::Poll);
        self.next_poll = now + jittered(POLL_COMMANDS, JITTER, ids);
        if let Outcome::Later(wait) = outcome {
            self.next_poll = self.next_poll.max(now + wait);
        }
        if is_news {
            self.hear(outcome, now, ids);
        }
    }

    /// Whether commands are pushed; while they are, nothing polls.
    pub fn push(&mut self, on: bool, now: Time) {
        self.pushed = on;
        self.next_poll = self.next_poll.max(now);
    }

    /// Whether a command is new. It is remembered once it is [finished](Agent::finish).
    pub fn is_new(&self, command: &CommandId) -> bool {
        !self.finished.contains(command)
    }

    /// A command was carried out: a repeat of it is answered, not carried out again.
    pub fn finish(&mut self, command: CommandId) {
        if self.finished.len() == REMEMBERED_COMMANDS {
            self.finished.pop_front();
        }
        self.finished.push_back(command);
    }
}

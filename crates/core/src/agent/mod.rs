//! The agent's core: what to send and when, what to keep until it was taken, which commands are
//! new. Synchronous like the Fleet, so that the simulator drives it too.
//!
//! The shell calls [`Agent::next`] until it answers a time to wait for, carries out each step,
//! and tells the result. Every step that talks to the control plane is one call at a time.

mod spool;

use std::collections::VecDeque;
use std::time::Duration;

use navarch_model::{CommandId, IdSource, SessionId, Time};

use crate::input::Fact;
pub use spool::{Kept, Spool, SpoolLimits};

/// Finished commands that an agent remembers, to know a repeat.
const REMEMBERED_COMMANDS: usize = 256;
/// The most facts in one report; the rest follows in the next.
const FACTS_PER_REPORT: usize = 256;
/// The first and the longest wait after a failed call.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
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
    /// It will never be taken as it is: do not send it again.
    Refused,
    /// It was not answered: try again.
    Failed,
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
        let wait = crate::settings::doubled(RETRY.0, self.failures, RETRY.1);
        self.failures = self.failures.saturating_add(1);
        self.after = Some(now + jittered(wait, 0.2, ids));
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
    send: Retry,
    /// Whether the last heartbeat failed.
    away: bool,
    next_beat: Time,
    next_full: Time,
    next_poll: Time,
    pushed: bool,
    /// A call is under way: the shell makes one at a time of each kind.
    busy: [bool; 5],
    sequence: u64,
    /// The report that was sent and not answered; it is sent again as it is.
    unanswered: Option<Outgoing>,
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
            send: Retry::default(),
            away: false,
            next_beat: Time(0),
            next_full: Time(0),
            next_poll: Time(0),
            pushed: false,
            busy: [false; 5],
            sequence: 0,
            unanswered: None,
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

    /// The intervals in force.
    pub const fn intervals(&self) -> Intervals {
        self.intervals
    }

    /// Commands that were finished, the oldest first, to be kept over a restart.
    pub fn finished(&self) -> impl Iterator<Item = &CommandId> {
        self.finished.iter()
    }

    fn begin(&mut self, kind: Busy) {
        self.busy[kind as usize] = true;
    }

    fn end(&mut self, kind: Busy) {
        self.busy[kind as usize] = false;
    }

    fn is_busy(&self, kind: Busy) -> bool {
        self.busy[kind as usize]
    }

    /// The next step. The shell carries out every step but `Wait` and tells its result; until
    /// then the same step does not come again.
    pub fn next(&mut self, now: Time) -> Step {
        if !self.registered {
            if self.is_busy(Busy::Register) {
                return Step::Wait(Time::NEVER);
            }
            if !self.register.ready(now) {
                return Step::Wait(self.register.after.unwrap_or(Time::NEVER));
            }
            self.begin(Busy::Register);
            return Step::Register;
        }
        if !self.is_busy(Busy::Beat) && now >= self.next_beat {
            self.begin(Busy::Beat);
            return Step::Beat;
        }
        if !self.is_busy(Busy::Read) && self.full.is_none() && now >= self.next_full {
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
        if !self.is_busy(Busy::Read) && self.full.is_none() {
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
        self.unanswered.is_some() || self.full.is_some() || !self.spool.is_empty()
    }

    fn outgoing(&mut self) -> Option<Outgoing> {
        if let Some(report) = &self.unanswered {
            return Some(report.clone());
        }
        if !self.has_outgoing() {
            return None;
        }
        let mut facts = self.spool.first(FACTS_PER_REPORT);
        // A full report goes only when nothing older waits: it says how things are after all.
        let full = facts.len() == self.spool.len() && self.full.is_some();
        if full {
            facts.extend(self.full.take().unwrap_or_default());
        }
        self.sequence += 1;
        let report = Outgoing {
            sequence: self.sequence,
            full,
            facts,
        };
        self.unanswered = Some(report.clone());
        Some(report)
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
            return;
        }
        self.register.succeeded();
        self.registered = true;
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
        self.end(Busy::Beat);
        let away = std::mem::replace(&mut self.away, outcome == Outcome::Failed);
        if away && outcome == Outcome::Taken {
            // The control plane is back: what waits goes at once, not when its own wait ends.
            self.send.succeeded();
        }
        let interval = match outcome {
            // A lost beat is made up for soon, well within the control plane's patience.
            Outcome::Failed => self.intervals.beat / 4,
            _ => self.intervals.beat,
        };
        self.next_beat = now + jittered(interval, JITTER, ids);
        self.hear(outcome, now, ids);
    }

    /// Every watch was read.
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
        for fact in facts {
            self.spool.push(fact);
        }
    }

    /// A report ended.
    pub fn sent(&mut self, outcome: Outcome, now: Time, ids: &mut dyn IdSource) {
        self.end(Busy::Send);
        match outcome {
            Outcome::Taken | Outcome::Refused => {
                if let Some(report) = self.unanswered.take() {
                    self.spool.taken(&report.facts);
                }
                self.send.succeeded();
            }
            Outcome::Failed => self.send.failed(now, ids),
            Outcome::Unknown | Outcome::Superseded => {
                // The facts stay in the spool; a full reading is made anew after registering.
                self.unanswered = None;
            }
        }
        self.hear(outcome, now, ids);
    }

    fn hear(&mut self, outcome: Outcome, now: Time, ids: &mut dyn IdSource) {
        match outcome {
            Outcome::Unknown => self.registered = false,
            Outcome::Superseded => {
                self.registered = false;
                self.register.failed(now, ids);
            }
            Outcome::Taken | Outcome::Refused | Outcome::Failed => {}
        }
    }

    /// A poll for commands ended.
    pub fn polled(&mut self, outcome: Outcome, now: Time, ids: &mut dyn IdSource) {
        self.end(Busy::Poll);
        self.next_poll = now + jittered(POLL_COMMANDS, JITTER, ids);
        self.hear(outcome, now, ids);
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

#[cfg(test)]
mod tests {
    use super::*;
    use navarch_model::HealthEventType;

    struct Fixed;

    impl IdSource for Fixed {
        fn next_bits(&mut self) -> u64 {
            1 << 63
        }
    }

    fn at(seconds: i64) -> Time {
        Time(seconds * 1_000_000)
    }

    fn xid(code: u32) -> Fact {
        Fact {
            event_type: HealthEventType::Xid,
            metrics: [("xid_code".to_owned(), code.to_string())].into(),
            ..Fact::default()
        }
    }

    fn agent() -> Agent {
        Agent::new(
            SessionId::new("s"),
            Spool::new(SpoolLimits::default()),
            Vec::new(),
        )
    }

    /// An agent that registered and sent its first heartbeat and full report at time 0.
    fn settled() -> Agent {
        let mut agent = agent();
        assert_eq!(agent.next(at(0)), Step::Register);
        agent.registered(Outcome::Taken, None, at(0), &mut Fixed);
        agent.push(true, at(0));
        assert_eq!(agent.next(at(0)), Step::Beat);
        agent.beaten(Outcome::Taken, at(0), &mut Fixed);
        assert_eq!(agent.next(at(0)), Step::ReadAll);
        agent.read(vec![Fact::default()], at(0), &mut Fixed);
        assert!(matches!(agent.next(at(0)), Step::Send(report) if report.full));
        agent.sent(Outcome::Taken, at(0), &mut Fixed);
        agent
    }

    #[test]
    fn first_heartbeat_and_full_report_go_at_once_and_then_at_their_intervals() {
        let mut agent = settled();
        assert_eq!(agent.next(at(0)), Step::Wait(at(30)));
        assert_eq!(agent.next(at(30)), Step::Beat);
        // One at a time, however long it takes.
        assert_eq!(agent.next(at(59)), Step::Wait(at(60)));
        assert_eq!(agent.next(at(60)), Step::ReadAll);
    }

    #[test]
    fn a_fact_is_sent_again_until_it_was_taken() {
        let mut agent = settled();
        agent.happened(vec![xid(79)]);
        let Step::Send(first) = agent.next(at(1)) else {
            panic!("nothing sent")
        };
        assert_eq!(
            (first.sequence, first.full, first.facts.len()),
            (2, false, 1)
        );
        agent.sent(Outcome::Failed, at(1), &mut Fixed);
        // Not before its wait, then the same report under the same sequence.
        assert!(matches!(agent.next(at(1)), Step::Wait(_)));
        assert_eq!(agent.next(at(2)), Step::Send(first));
        agent.sent(Outcome::Taken, at(2), &mut Fixed);
        assert!(agent.spool().is_empty());
        assert_eq!(agent.next(at(2)), Step::Wait(at(30)));
    }

    #[test]
    fn what_waits_goes_when_a_heartbeat_finds_the_control_plane_back() {
        let mut agent = settled();
        agent.happened(vec![xid(79)]);
        let mut now = at(1);
        // A long absence: heartbeats are tried again soon, reports after ever longer waits.
        let mut last = 0;
        while now < at(100) {
            match agent.next(now) {
                Step::Beat => agent.beaten(Outcome::Failed, now, &mut Fixed),
                Step::Send(_) => {
                    last = now.0;
                    agent.sent(Outcome::Failed, now, &mut Fixed);
                }
                Step::ReadAll => agent.read(vec![Fact::default()], now, &mut Fixed),
                Step::Wait(until) => now = until,
                step => panic!("{step:?}"),
            }
        }
        assert_eq!(agent.next(now), Step::Beat);
        let due = agent.send.after.expect("a wait");
        assert!(due > now && now.0 > last, "{due:?} {now:?}");
        agent.beaten(Outcome::Taken, now, &mut Fixed);
        let Step::Send(report) = agent.next(now) else {
            panic!("nothing sent")
        };
        assert_eq!(report.facts, vec![xid(79)]);
        // A report that fails while heartbeats pass is no absence.
        agent.sent(Outcome::Failed, now, &mut Fixed);
        let Step::Wait(beat) = agent.next(now) else {
            panic!("no wait")
        };
        assert!(beat > now);
    }

    #[test]
    fn an_unknown_node_registers_again_and_loses_nothing() {
        let mut agent = settled();
        agent.happened(vec![xid(79)]);
        assert!(matches!(agent.next(at(1)), Step::Send(_)));
        agent.sent(Outcome::Unknown, at(1), &mut Fixed);
        assert_eq!(agent.next(at(1)), Step::Register);
        agent.registered(Outcome::Taken, None, at(1), &mut Fixed);
        assert_eq!(agent.next(at(1)), Step::Beat);
        assert_eq!(agent.next(at(1)), Step::ReadAll);
        let Step::Send(report) = agent.next(at(1)) else {
            panic!("nothing sent")
        };
        assert_eq!((report.sequence, report.facts), (3, vec![xid(79)]));
    }

    #[test]
    fn registration_backs_off() {
        let mut agent = agent();
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert_eq!(agent.next(now), Step::Register);
            agent.registered(Outcome::Failed, None, now, &mut Fixed);
            let Step::Wait(until) = agent.next(now) else {
                panic!("no wait")
            };
            waits.push(until.since(now).as_millis());
            now = until;
        }
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    }

    #[test]
    fn repeats_of_commands_are_known() {
        let mut agent = agent();
        for number in 0..=REMEMBERED_COMMANDS {
            let id = CommandId::new(number.to_string());
            assert!(agent.is_new(&id));
            agent.finish(id.clone());
            assert!(!agent.is_new(&id));
        }
        assert!(
            agent.is_new(&CommandId::new("0")),
            "the oldest is forgotten first"
        );
    }
}

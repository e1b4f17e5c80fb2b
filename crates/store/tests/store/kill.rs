//! Kills a process that commits, again and again, and looks at what is left.
//!
//! The process is this test's own binary, started again with a directory to write to.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;

use navarch_model::{Change, Event, Meta, State};
use navarch_store::{EventQuery, SqliteStore, Store, Writer, WriterLimits};
use navarch_time::{Rng, SeededRng};

use crate::support::{Bits, Random, fleet};

/// Where the child writes; in the parent it is not set.
const DIRECTORY: &str = "NAVARCH_STORE_KILL_DIRECTORY";

/// How often it is killed. Higher finds rarer faults and takes longer.
const KILLS: u64 = 25;

pub fn open(directory: &Path) -> SqliteStore {
    SqliteStore::open(directory, &mut Bits::new(1)).expect("the store can be opened")
}

/// The changes of one commit: random ones, and a `Meta` and an event that count commits.
pub fn commit(state: &State, number: u64) -> Vec<Change> {
    let mut random = Random::new(number, state.meta.fleet.clone());
    let mut changes = random.changes(12);
    changes.retain(|change| !matches!(change, Change::Meta(_) | Change::Event(_)));
    let event = Event {
        sequence: number,
        ..random.event()
    };
    let meta = Meta {
        last_event: number,
        ..random.meta()
    };
    changes.insert(changes.len() / 2, Change::Event(Arc::new(event)));
    changes.push(Change::Meta(Arc::new(meta)));
    changes
}

/// What the child does until it is killed: it commits, several at once, and says which are
/// acknowledged.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let mut store = open(Path::new(&directory));
    let epoch = store.take_over().unwrap();
    let state = store.load().unwrap();
    let writer = Writer::start(store, epoch, WriterLimits::default()).unwrap();
    let mut out = std::io::stderr().lock();
    let mut next = state.meta.last_event + 1;
    loop {
        let tickets: Vec<_> = (next..next + 1 + next % 5)
            .map(|number| (number, writer.submit(commit(&state, number))))
            .collect();
        for (number, ticket) in tickets {
            ticket.wait().unwrap();
            if writeln!(out, "acknowledged {number}").is_err() {
                // Nobody is left who would kill this process.
                return;
            }
            next = number + 1;
        }
    }
}

/// A process that commits.
pub struct Committing {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    last: u64,
    said: Vec<String>,
}

impl Committing {
    /// Starts it on a data directory.
    pub fn start(directory: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self {
            child,
            lines,
            last: 0,
            said: Vec::new(),
        }
    }

    fn read(&mut self, line: String) {
        match line.strip_prefix("acknowledged ") {
            Some(number) => self.last = number.parse().unwrap(),
            None => self.said.push(line),
        }
    }

    /// Waits until it has said `count` lines more, and returns the last acknowledged commit.
    pub fn wait(&mut self, count: u64) -> u64 {
        for _ in 0..count {
            let line = self.lines.next().expect("the child goes on").unwrap();
            self.read(line);
        }
        self.last
    }

    /// Kills it and returns the last acknowledged commit.
    pub fn kill(mut self) -> u64 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // A line may be cut by the kill; what it acknowledged is then not known to anybody.
        while let Some(Ok(line)) = self.lines.next() {
            if line
                .strip_prefix("acknowledged ")
                .is_none_or(|number| number.parse::<u64>().is_ok())
            {
                self.read(line);
            }
        }
        assert!(self.last > 0, "the child made no commit: {:?}", self.said);
        self.last
    }
}

#[test]
fn a_killed_server_loses_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut expected = open(directory.path()).load().unwrap();
    let mut made = 0;
    let mut rng = SeededRng::named(2026, "kill");
    for kill in 0..KILLS {
        let mut committing = Committing::start(directory.path());
        committing.wait(1 + rng.below(40));
        // Any moment of the next commit.
        for _ in 0..rng.below(3_000_000) {
            std::hint::spin_loop();
        }
        let acknowledged = committing.kill();
        let mut store = open(directory.path());
        let state = store.load().unwrap();
        let last = state.meta.last_event;
        assert!(
            last >= acknowledged,
            "kill {kill}: {acknowledged} was lost, {last} is left"
        );
        // Commits are whole and in order: the state is what the first `last` of them make.
        while made < last {
            made += 1;
            for change in commit(&expected, made) {
                expected.apply(&change);
            }
        }
        Arc::make_mut(&mut expected.meta).epoch = state.meta.epoch;
        assert_eq!(state.meta.epoch, kill + 1);
        assert!(
            state == expected,
            "kill {kill}: the state is not that of {last} commits"
        );
        let newest = EventQuery {
            limit: 1,
            ..EventQuery::default()
        };
        let events = store.reader().events(&newest).unwrap();
        assert_eq!(events[0].sequence, last);
        assert_eq!(store.reader().event_range(), Ok(Some(1..=last)));
    }
    assert_ne!(expected.meta.fleet, fleet(), "the store makes its own id");
}

//! Kills a process that commits, again and again, and looks at what is left.
//!
//! The process is this test's own binary, started again with a directory to write to.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use navarch_model::{Change, Event, Meta, State};
use navarch_store::{EventQuery, SqliteStore, Store, Writer, WriterLimits};
use navarch_time::{Rng, SeededRng};

use crate::support::{Bits, Random, fleet};

/// Where the child writes; in the parent it is not set.
const DIRECTORY: &str = "NAVARCH_STORE_KILL_DIRECTORY";

/// How often it is killed. Higher finds rarer faults and takes longer.
const KILLS: u64 = 25;

fn open(directory: &Path) -> SqliteStore {
    SqliteStore::open(directory, &mut Bits::new(1)).expect("the store can be opened")
}

/// The changes of one commit: random ones, and a `Meta` and an event that count commits.
fn commit(state: &State, number: u64) -> Vec<Change> {
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

/// Runs the child until it has acknowledged `count` commits, kills it, and returns the last
/// acknowledged one.
fn run_and_kill(directory: &Path, count: u64, spins: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut last = 0;
    let mut said = Vec::new();
    let mut read = |line: String| match line.strip_prefix("acknowledged ") {
        Some(number) => last = number.parse().unwrap(),
        None => said.push(line),
    };
    for line in lines.by_ref().take(usize::try_from(count).unwrap()) {
        read(line.unwrap());
    }
    // Any moment of the next commit.
    for _ in 0..spins {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // A line may be cut by the kill; what it acknowledged is then not known to anybody.
    for line in lines.map_while(Result::ok) {
        if line
            .strip_prefix("acknowledged ")
            .is_none_or(|number| number.parse::<u64>().is_ok())
        {
            read(line);
        }
    }
    assert!(last > 0, "the child made no commit: {said:?}");
    last
}

#[test]
fn a_killed_server_loses_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut expected = open(directory.path()).load().unwrap();
    let mut made = 0;
    let mut rng = SeededRng::named(2026, "kill");
    for kill in 0..KILLS {
        let acknowledged = run_and_kill(directory.path(), 1 + rng.below(40), rng.below(3_000_000));
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

//! The writer: order, batches, and what follows a failure.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use navarch_model::{Change, Pool, PoolName, State, Time};
use navarch_store::{
    History, MemoryDisk, MemoryStore, Pruned, Retention, Store, StoreError, Writer, WriterLimits,
};

use crate::support::fleet;

/// A store in memory whose commits wait for the test: it lets each one pass or fail.
struct Gated {
    inner: MemoryStore,
    gate: Receiver<Result<(), StoreError>>,
    entered: Sender<usize>,
}

impl Store for Gated {
    fn load(&mut self) -> Result<State, StoreError> {
        self.inner.load()
    }

    fn take_over(&mut self) -> Result<u64, StoreError> {
        self.inner.take_over()
    }

    fn commit(&mut self, epoch: u64, changes: &[Change]) -> Result<(), StoreError> {
        // The test may have seen enough.
        let _ = self.entered.send(changes.len());
        self.gate.recv().expect("the test lets every commit pass")?;
        self.inner.commit(epoch, changes)
    }

    fn reader(&self) -> Box<dyn History> {
        self.inner.reader()
    }

    fn prune(&mut self, epoch: u64, wall: Time, keep: &Retention) -> Result<Pruned, StoreError> {
        self.inner.prune(epoch, wall, keep)
    }
}

struct Bench {
    // Before the writer: a writer that waits at the gate when a test fails is let go.
    gate: Sender<Result<(), StoreError>>,
    /// The size of each commit, once the writer is within it.
    entered: Receiver<usize>,
    writer: Writer,
}

fn bench(limits: WriterLimits) -> Bench {
    let mut inner = MemoryStore::open(&MemoryDisk::new(fleet()));
    let epoch = inner.take_over().unwrap();
    let (gate, receiver) = channel();
    let (enter, entered) = channel();
    let store = Gated {
        inner,
        gate: receiver,
        entered: enter,
    };
    Bench {
        writer: Writer::start(store, epoch, limits).unwrap(),
        gate,
        entered,
    }
}

fn pool(name: &str) -> Change {
    Change::Pool(Arc::new(Pool::new(PoolName::new(name))))
}

fn pools(count: usize, prefix: &str) -> Vec<Change> {
    (0..count)
        .map(|index| pool(&format!("{prefix}-{index}")))
        .collect()
}

fn names(state: &State) -> Vec<&str> {
    state.pools.keys().map(PoolName::as_str).collect()
}

fn full() -> StoreError {
    StoreError::DiskFull {
        path: "navarch.db".into(),
    }
}

#[test]
fn what_waits_during_a_commit_is_committed_at_once_up_to_the_limit() {
    let bench = bench(WriterLimits {
        rows: 10,
        ..WriterLimits::default()
    });
    let first = bench.writer.submit(vec![pool("first")]);
    assert_eq!(bench.entered.recv(), Ok(1));
    let waiting: Vec<_> = (0..7)
        .map(|index| bench.writer.submit(pools(4, &format!("waiting-{index}"))))
        .collect();
    for _ in 0..4 {
        bench.gate.send(Ok(())).unwrap();
    }
    first.wait().unwrap();
    for ticket in waiting {
        ticket.wait().unwrap();
    }
    // Submissions are never split: 4 + 4 is not yet 10, 4 + 4 + 4 is.
    let sizes: Vec<usize> = bench.entered.try_iter().collect();
    assert_eq!(sizes, [12, 12, 4]);
    assert_eq!(bench.writer.load().wait().unwrap().pools.len(), 29);
}

#[test]
fn a_failed_commit_fails_its_whole_batch_and_everything_until_the_next_load() {
    let bench = bench(WriterLimits::default());
    let first = bench.writer.submit(vec![pool("first")]);
    assert_eq!(bench.entered.recv(), Ok(1));
    let second = bench.writer.submit(vec![pool("second")]);
    let third = bench.writer.submit(vec![pool("third")]);
    bench.gate.send(Ok(())).unwrap();
    first.wait().unwrap();
    assert_eq!(bench.entered.recv(), Ok(2));
    let fourth = bench.writer.submit(vec![pool("fourth")]);
    bench.gate.send(Err(full())).unwrap();
    // For the sixth; a fourth that is wrongly committed takes it, and does not hang.
    bench.gate.send(Ok(())).unwrap();
    assert_eq!(second.wait(), Err(full()));
    assert_eq!(third.wait(), Err(full()));
    assert_eq!(fourth.wait(), Err(StoreError::Discarded));
    let fifth = bench.writer.submit(vec![pool("fifth")]);
    assert_eq!(fifth.wait(), Err(StoreError::Discarded));

    let state = bench.writer.load().wait().unwrap();
    assert_eq!(names(&state), ["first"]);
    bench.writer.submit(vec![pool("sixth")]).wait().unwrap();
    let state = bench.writer.load().wait().unwrap();
    assert_eq!(names(&state), ["first", "sixth"]);
}

#[test]
fn a_load_between_submissions_sees_those_before_it_alone() {
    let bench = bench(WriterLimits::default());
    let first = bench.writer.submit(vec![pool("first")]);
    assert_eq!(bench.entered.recv(), Ok(1));
    let second = bench.writer.submit(vec![pool("second")]);
    let load = bench.writer.load();
    let third = bench.writer.submit(vec![pool("third")]);
    let prune = bench.writer.prune(Time(0), Retention::default());
    for _ in 0..3 {
        bench.gate.send(Ok(())).unwrap();
    }
    assert_eq!(names(&load.wait().unwrap()), ["first", "second"]);
    for ticket in [first, second, third] {
        ticket.wait().unwrap();
    }
    assert_eq!(prune.wait(), Ok(Pruned::default()));
}

#[test]
fn a_full_queue_refuses_and_then_refuses_what_builds_on_the_refused() {
    let bench = bench(WriterLimits {
        waiting: 2,
        rows: 1,
    });
    let first = bench.writer.submit(vec![pool("first")]);
    assert_eq!(bench.entered.recv(), Ok(1));
    let second = bench.writer.submit(vec![pool("second")]);
    let third = bench.writer.submit(vec![pool("third")]);
    let fourth = bench.writer.submit(vec![pool("fourth")]);
    assert_eq!(fourth.wait(), Err(StoreError::Overloaded { waiting: 2 }));
    // One more for the sixth, or for a fifth that is wrongly committed.
    for _ in 0..4 {
        bench.gate.send(Ok(())).unwrap();
    }
    for ticket in [first, second, third] {
        ticket.wait().unwrap();
    }
    let fifth = bench.writer.submit(vec![pool("fifth")]);
    assert_eq!(
        fifth.wait(),
        Err(StoreError::Discarded),
        "it may build on the fourth"
    );
    let state = bench.writer.load().wait().unwrap();
    assert_eq!(names(&state), ["first", "second", "third"]);
    bench.writer.submit(vec![pool("sixth")]).wait().unwrap();
}

#[test]
fn a_fenced_writer_stays_fenced() {
    let disk = MemoryDisk::new(fleet());
    let mut old = MemoryStore::open(&disk);
    let epoch = old.take_over().unwrap();
    let writer = Writer::start(old, epoch, WriterLimits::default()).unwrap();
    writer.submit(vec![pool("old")]).wait().unwrap();
    let mut new = MemoryStore::open(&disk);
    assert_eq!(new.take_over(), Ok(epoch + 1));
    let fenced = StoreError::Fenced {
        held: epoch + 1,
        given: epoch,
    };
    for _ in 0..2 {
        assert_eq!(
            writer.submit(vec![pool("late")]).wait(),
            Err(fenced.clone())
        );
        assert_eq!(names(&writer.load().wait().unwrap()), ["old"]);
    }
}

#[test]
fn what_waits_is_committed_before_a_dropped_writer_is_gone() {
    let disk = MemoryDisk::new(fleet());
    let mut store = MemoryStore::open(&disk);
    let epoch = store.take_over().unwrap();
    let writer = Writer::start(store, epoch, WriterLimits::default()).unwrap();
    let tickets: Vec<_> = (0..100)
        .map(|index| writer.submit(vec![pool(&format!("pool-{index}"))]))
        .collect();
    drop(writer);
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    assert_eq!(MemoryStore::open(&disk).load().unwrap().pools.len(), 100);
}

//! A store on a thread of its own, which commits several submissions at once.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::task::{Context, Poll};

use navarch_model::{Change, State, Time};
use navarch_time::{Thread, spawn_thread};
use tokio::sync::oneshot;

use crate::{Pruned, Retention, Store, StoreError};

/// How large a batch gets, and how much may wait.
///
/// A batch takes what waits and never waits for more: while one is synced, the next gathers.
/// Waiting for more was measured and made both the answers and the throughput worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterLimits {
    /// A batch with so many changes takes no further submission. Higher makes each commit
    /// longer, lower makes more of them.
    pub rows: usize,
    /// The most submissions that wait. Higher only hides a slow disk, lower refuses bursts.
    pub waiting: usize,
}

impl Default for WriterLimits {
    fn default() -> Self {
        Self {
            rows: 200,
            waiting: 4096,
        }
    }
}

/// Owns a store on the thread `store`, and commits what is submitted in its order: several
/// submissions in one transaction, each of them whole.
///
/// The submissions of a fleet build on one another. So when one cannot be made durable, every
/// later one is refused with [`StoreError::Discarded`] until [`load`](Writer::load) is called.
///
/// Dropping the writer commits what still waits, and closes the store.
#[derive(Debug)]
pub struct Writer {
    // Before the thread: dropping it is what ends the thread.
    requests: SyncSender<Request>,
    /// A submission was lost because the queue was full.
    overflowed: AtomicBool,
    limits: WriterLimits,
    _thread: Thread<()>,
}

enum Request {
    Commit(Vec<Change>, oneshot::Sender<Result<(), StoreError>>),
    Load(oneshot::Sender<Result<State, StoreError>>),
    Prune(Time, Retention, oneshot::Sender<Result<Pruned, StoreError>>),
}

/// The answer to come, as a future or by [`wait`](Ticket::wait).
#[derive(Debug)]
#[must_use = "nothing is durable before the ticket says so"]
pub struct Ticket<T = ()>(oneshot::Receiver<Result<T, StoreError>>);

impl<T> Ticket<T> {
    /// Waits for the answer. Not for use within an asynchronous task.
    ///
    /// # Errors
    ///
    /// When what was asked for failed.
    pub fn wait(self) -> Result<T, StoreError> {
        self.0.blocking_recv().unwrap_or(Err(StoreError::Stopped))
    }
}

impl<T> Future for Ticket<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|answer| answer.unwrap_or(Err(StoreError::Stopped)))
    }
}

impl Writer {
    /// Starts the thread. `epoch` is what [`Store::take_over`] returned.
    ///
    /// # Errors
    ///
    /// When the system cannot start another thread.
    pub fn start(
        store: impl Store + 'static,
        epoch: u64,
        limits: WriterLimits,
    ) -> io::Result<Self> {
        let (requests, queue) = sync_channel(limits.waiting);
        let worker = Worker {
            store,
            epoch,
            limits,
            queue,
            failed: false,
        };
        Ok(Self {
            requests,
            overflowed: AtomicBool::new(false),
            limits,
            _thread: spawn_thread("store", || worker.run())?,
        })
    }

    /// Submits changes that are made durable together.
    pub fn submit(&self, changes: Vec<Change>) -> Ticket {
        if self.overflowed.load(Ordering::Acquire) {
            return refused(StoreError::Discarded);
        }
        let ticket = self.send(|answer| Request::Commit(changes, answer));
        ticket.unwrap_or_else(|error| {
            self.overflowed.store(true, Ordering::Release);
            refused(error)
        })
    }

    /// Reads the state after everything that was submitted before, and takes submissions again
    /// if one had failed.
    pub fn load(&self) -> Ticket<State> {
        let ticket = self.send(Request::Load);
        if ticket.is_ok() {
            self.overflowed.store(false, Ordering::Release);
        }
        ticket.unwrap_or_else(refused)
    }

    /// Removes one small batch of what is no longer kept; see [`Store::prune`].
    pub fn prune(&self, wall: Time, keep: Retention) -> Ticket<Pruned> {
        self.send(|answer| Request::Prune(wall, keep, answer))
            .unwrap_or_else(refused)
    }

    fn send<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<Ticket<T>, StoreError> {
        let (answer, ticket) = oneshot::channel();
        match self.requests.try_send(request(answer)) {
            Ok(()) => Ok(Ticket(ticket)),
            Err(TrySendError::Full(_)) => Err(StoreError::Overloaded {
                waiting: self.limits.waiting,
            }),
            Err(TrySendError::Disconnected(_)) => Err(StoreError::Stopped),
        }
    }
}

/// A ticket whose answer is known.
fn refused<T>(error: StoreError) -> Ticket<T> {
    let (answer, ticket) = oneshot::channel();
    tell(answer, Err(error));
    Ticket(ticket)
}

/// Answers. Whoever asked may have gone away; what was done stays done.
fn tell<T>(answer: oneshot::Sender<Result<T, StoreError>>, result: Result<T, StoreError>) {
    drop(answer.send(result));
}

struct Worker<S> {
    store: S,
    epoch: u64,
    limits: WriterLimits,
    queue: Receiver<Request>,
    /// A commit failed and the state was not loaded since.
    failed: bool,
}

impl<S: Store> Worker<S> {
    fn run(mut self) {
        let mut next = self.queue.recv().ok();
        while let Some(request) = next.take() {
            match request {
                Request::Commit(changes, answer) => next = self.commit(changes, answer),
                Request::Load(answer) => {
                    let state = self.store.load();
                    self.failed &= state.is_err();
                    tell(answer, state);
                }
                Request::Prune(wall, keep, answer) => {
                    tell(answer, self.store.prune(self.epoch, wall, &keep));
                }
            }
            if next.is_none() {
                next = self.queue.recv().ok();
            }
        }
    }

    /// Commits a batch that begins with these changes. Returns the request that ended it, if one
    /// did.
    fn commit(
        &mut self,
        mut changes: Vec<Change>,
        answer: oneshot::Sender<Result<(), StoreError>>,
    ) -> Option<Request> {
        if self.failed {
            tell(answer, Err(StoreError::Discarded));
            return None;
        }
        let mut answers = vec![answer];
        let mut other = None;
        while changes.len() < self.limits.rows {
            match self.queue.try_recv() {
                Ok(Request::Commit(more, answer)) => {
                    changes.extend(more);
                    answers.push(answer);
                }
                Ok(request) => {
                    other = Some(request);
                    break;
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        let result = self.store.commit(self.epoch, &changes);
        self.failed = result.is_err();
        for answer in answers {
            tell(answer, result.clone());
        }
        other
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Commit(..) => "Commit",
            Self::Load(_) => "Load",
            Self::Prune(..) => "Prune",
        })
    }
}

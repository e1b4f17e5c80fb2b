//! Groups of named tasks that shut down together and swallow no panic.

use std::any::Any;
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Debug, Formatter};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::thread::panic_message;
use crate::{Clock, timeout};

/// A group of named tasks.
///
/// Tasks watch the group's [`token`](Tasks::token) and end when it is cancelled;
/// [`shutdown`](Tasks::shutdown) cancels it and aborts who does not. Dropping the
/// group cancels the token and aborts every task. A task that panics is logged
/// as an error and reported by [`failed`](Tasks::failed).
#[derive(Debug)]
#[must_use = "dropping the group aborts its tasks"]
pub struct Tasks {
    spawner: Spawner,
}

impl Tasks {
    /// How much of its clock's time [`shutdown`](Tasks::shutdown) gives aborted
    /// tasks to be dropped. Too low and a busy machine leaves tasks behind; too
    /// high and a task that blocks its thread holds up the exit.
    pub const ABORT_GRACE: Duration = Duration::from_secs(1);

    /// How many failures are kept for [`failed`](Tasks::failed). Further ones are
    /// only logged.
    pub const MAX_FAILURES: usize = 64;

    /// An empty group.
    pub fn new() -> Self {
        Self::with_token(CancellationToken::new())
    }

    /// An empty group that is also told to end when `parent` is cancelled.
    pub fn under(parent: &CancellationToken) -> Self {
        Self::with_token(parent.child_token())
    }

    fn with_token(token: CancellationToken) -> Self {
        let shared = Shared {
            token,
            registry: Mutex::default(),
            emptied: Notify::new(),
            failed: Notify::new(),
        };
        Self {
            spawner: Spawner {
                shared: Arc::new(shared),
            },
        }
    }

    /// Starts a task called `name`. Names need not differ.
    ///
    /// Once the group is shutting down, `future` is dropped instead.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawner.spawn(name, future);
    }

    /// What a task of the group takes along to start more tasks in it.
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// The token that tells the tasks to end.
    pub fn token(&self) -> CancellationToken {
        self.spawner.token()
    }

    /// The names of the tasks that have not ended, in the order they started.
    pub fn names(&self) -> Vec<String> {
        self.shared().registry().names()
    }

    /// Waits until a task panics, and returns its failure. Each failure is
    /// returned once, the oldest first. Dropping the wait loses none.
    pub async fn failed(&self) -> TaskFailure {
        let shared = self.shared();
        loop {
            let mut notified = pin!(shared.failed.notified());
            notified.as_mut().enable();
            if let Some(failure) = shared.registry().failures.pop_front() {
                return failure;
            }
            notified.await;
        }
    }

    /// Tells the tasks to end, waits for them for up to `limit`, and aborts the
    /// rest. Returns the names of those aborted, in the order they started.
    ///
    /// Aborted tasks get up to [`ABORT_GRACE`](Tasks::ABORT_GRACE) to be dropped.
    /// One that still has not ended blocks its thread; it is logged as an error
    /// and left behind. Do not call this from a task of the group.
    pub async fn shutdown<C>(&self, clock: &C, limit: Duration) -> Vec<String>
    where
        C: Clock + ?Sized,
    {
        let shared = self.shared();
        shared.registry().closed = true;
        shared.token.cancel();
        if timeout(clock, limit, shared.empty()).await.is_ok() {
            return Vec::new();
        }
        let aborted = shared.abort_all();
        for task in &aborted {
            tracing::warn!(%task, ?limit, "task did not end in time and was aborted");
        }
        let grace = timeout(clock, Self::ABORT_GRACE, shared.empty()).await;
        if grace.is_err() {
            for task in self.names() {
                tracing::error!(%task, "aborted task blocks its thread and was left behind");
            }
        }
        aborted
    }

    fn shared(&self) -> &Shared {
        &self.spawner.shared
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.shared().registry().closed = true;
        self.shared().token.cancel();
        self.shared().abort_all();
    }
}

/// Starts tasks in a [`Tasks`] group that someone else owns.
#[derive(Clone)]
pub struct Spawner {
    shared: Arc<Shared>,
}

impl Spawner {
    /// As [`Tasks::spawn`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that starts tasks, and they belong to a group"
    )]
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let name = name.into();
        let Some(id) = self.shared.registry().join(name.clone()) else {
            tracing::debug!(task = %name, "task not started: its group is shutting down");
            return;
        };
        // The lock is not held here: a runtime that is shutting down drops the
        // task, which leaves the group, before `spawn` returns.
        let task = tokio::spawn(Member {
            future: Some(Box::pin(future)),
            leave: Leave {
                shared: Arc::clone(&self.shared),
                id,
                name,
            },
        });
        let abort = self.shared.registry().started(id, task.abort_handle());
        if let Some(handle) = abort {
            handle.abort();
        }
    }

    /// As [`Tasks::token`].
    pub fn token(&self) -> CancellationToken {
        self.shared.token.clone()
    }
}

impl Debug for Spawner {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Spawner")
            .field("tasks", &self.shared.registry().names())
            .finish_non_exhaustive()
    }
}

/// A task or thread that panicked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{name} panicked: {message}")]
pub struct TaskFailure {
    /// The name of the task or thread.
    pub name: String,
    /// What the panic said.
    pub message: String,
}

struct Shared {
    token: CancellationToken,
    registry: Mutex<Registry>,
    emptied: Notify,
    failed: Notify,
}

impl Shared {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no task is left.
    async fn empty(&self) {
        loop {
            let mut notified = pin!(self.emptied.notified());
            notified.as_mut().enable();
            if self.registry().tasks.is_empty() {
                return;
            }
            notified.await;
        }
    }

    /// Aborts every task, those included that are only just starting. Returns
    /// their names.
    fn abort_all(&self) -> Vec<String> {
        let (names, handles) = {
            let mut registry = self.registry();
            registry.aborting = true;
            let handles: Vec<_> = registry
                .tasks
                .values()
                .filter_map(|(_, handle)| handle.clone())
                .collect();
            (registry.names(), handles)
        };
        // An abort may drop the task at once, which leaves the group.
        handles.iter().for_each(AbortHandle::abort);
        names
    }

    fn report(&self, name: &str, panic: &(dyn Any + Send)) {
        let failure = TaskFailure {
            name: name.to_owned(),
            message: panic_message(panic),
        };
        tracing::error!(task = %name, panic = %failure.message, "task panicked");
        let mut registry = self.registry();
        if registry.failures.len() < Tasks::MAX_FAILURES {
            registry.failures.push_back(failure);
        }
        drop(registry);
        self.failed.notify_waiters();
    }
}

#[derive(Default)]
struct Registry {
    next_id: u64,
    tasks: BTreeMap<u64, (Cow<'static, str>, Option<AbortHandle>)>,
    failures: VecDeque<TaskFailure>,
    /// No more tasks start.
    closed: bool,
    /// Tasks that were starting when the rest was aborted are aborted, too.
    aborting: bool,
}

impl Registry {
    fn join(&mut self, name: Cow<'static, str>) -> Option<u64> {
        if self.closed {
            return None;
        }
        self.next_id += 1;
        self.tasks.insert(self.next_id, (name, None));
        Some(self.next_id)
    }

    /// Keeps the handle of a task that joined. Returns it if the task has to be
    /// aborted instead.
    fn started(&mut self, id: u64, handle: AbortHandle) -> Option<AbortHandle> {
        if self.aborting {
            return Some(handle);
        }
        // A task that is no longer here has ended already.
        if let Some((_, slot)) = self.tasks.get_mut(&id) {
            *slot = Some(handle);
        }
        None
    }

    fn names(&self) -> Vec<String> {
        self.tasks
            .values()
            .map(|(name, _)| name.to_string())
            .collect()
    }
}

/// The future of a task: it catches panics and leaves the group at its end.
struct Member<F> {
    future: Option<Pin<Box<F>>>,
    leave: Leave,
}

impl<F: Future<Output = ()>> Future for Member<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(future) = &mut this.future else {
            return Poll::Ready(());
        };
        // Nothing looks at the future again after a panic: it is only dropped.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {}
            Err(panic) => this.leave.report(&*panic),
        }
        this.drop_future();
        Poll::Ready(())
    }
}

impl<F> Member<F> {
    /// Drops the future before the task leaves the group, so that a group without
    /// tasks holds nothing of theirs.
    fn drop_future(&mut self) {
        let future = self.future.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
            self.leave.report(&*panic);
        }
    }
}

impl<F> Drop for Member<F> {
    fn drop(&mut self) {
        self.drop_future();
    }
}

struct Leave {
    shared: Arc<Shared>,
    id: u64,
    name: Cow<'static, str>,
}

impl Leave {
    fn report(&self, panic: &(dyn Any + Send)) {
        self.shared.report(&self.name, panic);
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        let mut registry = self.shared.registry();
        registry.tasks.remove(&self.id);
        let empty = registry.tasks.is_empty();
        drop(registry);
        if empty {
            self.shared.emptied.notify_waiters();
        }
    }
}

//! A clock whose time moves only when it is told to.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Formatter};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::{Clock, SharedClock, Sleep, Sleeper, When};

/// A clock whose time moves only when it is told to, for tests and simulation.
///
/// Clones show the same time. The monotonic reading starts at zero, the wall
/// reading at [`START_WALL`](VirtualClock::START_WALL).
///
/// # Sleepers
///
/// A sleep is a *sleeper* from the moment it is made until it fires or is
/// dropped; a reset keeps it one, in a single step. A sleep that is due when it
/// is made is never a sleeper. [`pending`](VirtualClock::pending) is exact at
/// every moment, whatever other threads do.
///
/// Every move of the time is one step: it sets the time, takes out all sleepers
/// that are due, and then wakes them in the order of their deadlines, and of
/// their creation or last reset where deadlines are equal. Tasks that are woken
/// see the time after the whole move. A sleeper made after the move counts from
/// there, so to let a task sleep several times on the way, move in steps.
///
/// # Who moves the time
///
/// - A test, with [`advance`](VirtualClock::advance) and its siblings. It
///   usually waits with [`wait_for_sleepers`](VirtualClock::wait_for_sleepers)
///   first, until the tasks it drives are asleep.
/// - [`run`](VirtualClock::run): the time moves to the earliest deadline whenever
///   no task of its runtime can run. This is exact: prefer it for whole programs.
/// - [`auto_advance`](VirtualClock::auto_advance): the time moves when a sleep is
///   polled in vain. It works in any runtime.
///
/// The last two never move to a deadline of [`Duration::MAX`], which stands for
/// "never".
#[derive(Clone)]
pub struct VirtualClock {
    shared: Arc<Shared>,
}

impl VirtualClock {
    /// The wall reading of a new clock: 2025-01-01T00:00:00Z, in microseconds
    /// since the Unix epoch.
    pub const START_WALL: i64 = 1_735_689_600_000_000;

    /// A clock at zero, whose wall reading is [`START_WALL`](Self::START_WALL).
    pub fn new() -> Self {
        Self::starting_at(Self::START_WALL)
    }

    /// A clock at zero, whose wall reading is `wall` microseconds since the Unix
    /// epoch.
    pub fn starting_at(wall: i64) -> Self {
        let state = State {
            now: Duration::ZERO,
            wall_at_zero: wall,
            auto_advance: false,
            changes: 0,
            next_id: 0,
            sleepers: BTreeMap::new(),
            waiters: BTreeMap::new(),
        };
        let shared = Shared {
            state: Mutex::new(state),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// This clock, for those who take any clock.
    pub fn shared(&self) -> SharedClock {
        Arc::new(self.clone())
    }

    /// Moves the time on by `duration` and fires the sleepers that are due.
    /// Returns how many fired. The moves of concurrent callers add up.
    pub fn advance(&self, duration: Duration) -> usize {
        self.shared.with(|state, wakes| {
            let target = state.now.saturating_add(duration);
            state.move_to(target, wakes)
        })
    }

    /// Moves the time to `target` and fires the sleepers that are due. Returns
    /// how many fired. A target in the past changes nothing.
    pub fn advance_to(&self, target: Duration) -> usize {
        self.shared
            .with(|state, wakes| state.move_to(target, wakes))
    }

    /// Moves the time to the earliest deadline and fires the sleepers that are
    /// due then. Returns the new time, or `None`, with nothing changed, when no
    /// sleeper has a deadline other than [`Duration::MAX`].
    pub fn advance_to_next(&self) -> Option<Duration> {
        self.shared.with(|state, wakes| {
            let target = state.earliest()?;
            state.move_to(target, wakes);
            Some(target)
        })
    }

    /// The earliest deadline of a sleeper, other than [`Duration::MAX`].
    pub fn next_deadline(&self) -> Option<Duration> {
        self.shared.with(|state, _| state.earliest())
    }

    /// How many sleepers there are.
    pub fn pending(&self) -> usize {
        self.shared.with(|state, _| state.sleepers.len())
    }

    /// Completes when there are at least `count` sleepers.
    ///
    /// It looks at the count when it is polled: a count that was reached and left
    /// again before that is not enough. Dropping it cancels the wait.
    pub fn wait_for_sleepers(&self, count: usize) -> WaitForSleepers {
        WaitForSleepers {
            shared: Arc::clone(&self.shared),
            count,
            id: None,
        }
    }

    /// Moves the wall reading by `microseconds`, in either direction, as an
    /// administrator or a time daemon does. The monotonic reading does not change.
    pub fn step_wall(&self, microseconds: i64) {
        self.shared.with(|state, _| {
            state.wall_at_zero = state.wall_at_zero.saturating_add(microseconds);
        });
    }

    /// Turns automatic moves on or off. They are off at first.
    ///
    /// When on, the first of the sleepers that were polled, in the order in which
    /// they fire, asks to be polled again at once. If no sleeper was made, reset,
    /// fired or dropped between two of its polls, the second moves the time to the
    /// earliest deadline of *all* sleepers. So every task that can run gets a turn
    /// between two moves, and sleeps end in the order in which they fire.
    ///
    /// It is deterministic where the order of polls is: on a current-thread
    /// runtime with no work outside it. A task that needs more than one turn to
    /// reach its own sleep may find that the time has moved on; where that
    /// matters use [`run`](VirtualClock::run).
    ///
    /// Sleepers that are there when it is turned on take part.
    pub fn auto_advance(&self, on: bool) {
        self.shared.with(|state, wakes| {
            state.auto_advance = on;
            state.wake_driver(wakes);
        });
    }

    /// Runs `future` to its end on a new current-thread runtime, moving the time
    /// to the earliest deadline whenever no task of the runtime can run.
    ///
    /// With no work outside the runtime, every run is the same. Blocking tasks,
    /// threads and sockets are outside: the time does not wait for them. When
    /// nothing can run and there is no sleeper, it waits for the outside. Tasks
    /// that outlive `future` are dropped.
    ///
    /// # Panics
    ///
    /// When `future` panics, with its panic; when called inside a runtime; when
    /// the system cannot make a runtime.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        let clock = self.clone();
        // The runtime parks when neither a task nor the future it blocks on can
        // run. It looks for work again after the hook.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_park(move || {
                clock.advance_to_next();
            })
            .build()
            .expect("the system has the resources for a runtime");
        runtime.block_on(future)
    }
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Debug for VirtualClock {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let (now, pending) = self
            .shared
            .with(|state, _| (state.now, state.sleepers.len()));
        formatter
            .debug_struct("VirtualClock")
            .field("now", &now)
            .field("pending", &pending)
            .finish_non_exhaustive()
    }
}

impl Clock for VirtualClock {
    fn monotonic(&self) -> Duration {
        self.shared.with(|state, _| state.now)
    }

    fn wall(&self) -> i64 {
        self.shared.with(|state, _| {
            let passed = i64::try_from(state.now.as_micros()).unwrap_or(i64::MAX);
            state.wall_at_zero.saturating_add(passed)
        })
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(VirtualSleeper::new(&self.shared, When::After(duration)))
    }

    fn sleep_until(&self, deadline: Duration) -> Sleep {
        Sleep::new(VirtualSleeper::new(&self.shared, When::At(deadline)))
    }
}

/// The future of [`VirtualClock::wait_for_sleepers`].
#[derive(Debug)]
#[must_use = "a wait does nothing unless it is awaited"]
pub struct WaitForSleepers {
    shared: Arc<Shared>,
    count: usize,
    id: Option<u64>,
}

impl Future for WaitForSleepers {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let waker = context.waker().clone();
        let this = &mut *self;
        this.shared.with(|state, wakes| {
            let id = *this.id.get_or_insert_with(|| state.take_id());
            if state.sleepers.len() >= this.count {
                wakes.forget(state.waiters.remove(&id).map(|(_, waker)| waker));
                wakes.discard.push(waker);
                return Poll::Ready(());
            }
            let old = state.waiters.insert(id, (this.count, waker));
            wakes.forget(old.map(|(_, waker)| waker));
            Poll::Pending
        })
    }
}

impl Drop for WaitForSleepers {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.with(|state, wakes| {
                wakes.forget(state.waiters.remove(&id).map(|(_, waker)| waker));
            });
        }
    }
}

/// A deadline, and the order of creation among equal ones.
type Key = (Duration, u64);

struct Shared {
    state: Mutex<State>,
}

impl Shared {
    /// Works on the state, then wakes and drops wakers with the lock released:
    /// either may run code that comes back to this clock.
    fn with<R>(&self, work: impl FnOnce(&mut State, &mut Wakes) -> R) -> R {
        let mut wakes = Wakes::default();
        let result = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut state, &mut wakes)
        };
        wakes.wake.into_iter().for_each(Waker::wake);
        result
    }
}

impl Debug for Shared {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("Shared")
    }
}

/// What is left to do once the lock is released.
#[derive(Default)]
struct Wakes {
    wake: Vec<Waker>,
    discard: Vec<Waker>,
}

impl Wakes {
    fn forget(&mut self, waker: Option<Waker>) {
        self.discard.extend(waker);
    }
}

struct State {
    now: Duration,
    wall_at_zero: i64,
    auto_advance: bool,
    /// Grows whenever sleepers are made, reset, fired or dropped.
    changes: u64,
    next_id: u64,
    /// Every sleeper, with the waker of its last poll.
    sleepers: BTreeMap<Key, Option<Waker>>,
    /// Those who wait for a count of sleepers, in the order of their first poll.
    waiters: BTreeMap<u64, (usize, Waker)>,
}

impl State {
    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn earliest(&self) -> Option<Duration> {
        let (&(deadline, _), _) = self.sleepers.first_key_value()?;
        (deadline < Duration::MAX).then_some(deadline)
    }

    /// Who moves the time when that is automatic: the first sleeper that was
    /// polled. Nobody does when there is nothing to move to.
    fn driver(&self) -> Option<(Key, &Waker)> {
        if !self.auto_advance || self.earliest().is_none() {
            return None;
        }
        let polled = |(key, waker): (&Key, _)| Option::as_ref(waker).map(|waker| (*key, waker));
        self.sleepers.iter().find_map(polled)
    }

    fn wake_driver(&self, wakes: &mut Wakes) {
        let waker = self.driver().map(|(_, waker)| waker.clone());
        wakes.wake.extend(waker);
    }

    /// Notes that the sleepers are others than before.
    fn changed(&mut self, wakes: &mut Wakes) {
        self.changes += 1;
        self.wake_driver(wakes);
    }

    /// Sets the time, unless that is in the past, and fires who is due.
    fn move_to(&mut self, target: Duration, wakes: &mut Wakes) -> usize {
        self.now = self.now.max(target);
        let mut fired = 0;
        while let Some(entry) = self.sleepers.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            wakes.wake.extend(entry.remove());
            fired += 1;
        }
        if fired > 0 {
            self.changed(wakes);
        }
        fired
    }

    /// Makes a sleeper, unless it is due already.
    fn insert(&mut self, when: When, waker: Option<Waker>, wakes: &mut Wakes) -> Option<Key> {
        let deadline = match when {
            When::After(duration) => self.now.saturating_add(duration),
            When::At(deadline) => deadline,
        };
        if deadline <= self.now {
            wakes.wake.extend(waker);
            self.changed(wakes);
            return None;
        }
        let key = (deadline, self.take_id());
        self.sleepers.insert(key, waker);
        let count = self.sleepers.len();
        let reached = self
            .waiters
            .extract_if(.., |_, (wanted, _)| *wanted <= count);
        wakes.wake.extend(reached.map(|(_, (_, waker))| waker));
        self.changed(wakes);
        Some(key)
    }
}

struct VirtualSleeper {
    shared: Arc<Shared>,
    /// Where it stands among the sleepers. It may have fired since.
    key: Option<Key>,
    /// What `State::changes` was at its last poll, for automatic moves.
    seen: Option<u64>,
}

impl VirtualSleeper {
    fn new(shared: &Arc<Shared>, when: When) -> Self {
        let key = shared.with(|state, wakes| state.insert(when, None, wakes));
        Self {
            shared: Arc::clone(shared),
            key,
            seen: None,
        }
    }
}

impl Sleeper for VirtualSleeper {
    fn poll_sleep(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(key) = this.key else {
            return Poll::Ready(());
        };
        let waker = context.waker().clone();
        this.shared.with(|state, wakes| {
            let Some(slot) = state.sleepers.get_mut(&key) else {
                wakes.discard.push(waker);
                this.key = None;
                return Poll::Ready(());
            };
            wakes.forget(slot.replace(waker));
            if state.driver().is_none_or(|(driver, _)| driver != key) {
                return Poll::Pending;
            }
            let quiet = this.seen == Some(state.changes);
            match state.earliest() {
                Some(earliest) if quiet => {
                    state.move_to(earliest, wakes);
                }
                _ => state.wake_driver(wakes),
            }
            this.seen = Some(state.changes);
            if state.sleepers.contains_key(&key) {
                return Poll::Pending;
            }
            this.key = None;
            Poll::Ready(())
        })
    }

    fn reset(mut self: Pin<&mut Self>, when: When) {
        let this = &mut *self;
        this.shared.with(|state, wakes| {
            let waker = this
                .key
                .and_then(|key| state.sleepers.remove(&key))
                .flatten();
            this.key = state.insert(when, waker, wakes);
        });
    }
}

impl Drop for VirtualSleeper {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.shared.with(|state, wakes| {
                if let Some(waker) = state.sleepers.remove(&key) {
                    wakes.forget(waker);
                    state.changed(wakes);
                }
            });
        }
    }
}

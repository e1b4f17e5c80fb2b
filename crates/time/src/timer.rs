//! What waits on a clock: a timer, an interval and a timeout.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::{Clock, SharedClock, Sleep};

/// One alarm that can be set, moved and cleared.
///
/// It suits a loop that waits in a `select!` for its next wake-up:
///
/// ```
/// # use std::time::Duration;
/// # use navarch_time::{Timer, VirtualClock};
/// let clock = VirtualClock::new();
/// let mut timer = Timer::new(clock.shared());
/// timer.set(Duration::from_secs(5));
/// assert!(timer.is_set());
/// timer.clear();
/// assert_eq!(clock.pending(), 0);
/// ```
#[derive(Debug)]
pub struct Timer {
    clock: SharedClock,
    sleep: Option<Sleep>,
}

impl Timer {
    /// A timer that is not set.
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, sleep: None }
    }

    /// Sets the timer, or moves it, to go off after `duration` from now.
    pub fn set(&mut self, duration: Duration) {
        match &mut self.sleep {
            Some(sleep) => sleep.reset(duration),
            None => self.sleep = Some(self.clock.sleep(duration)),
        }
    }

    /// Sets the timer, or moves it, to go off at the monotonic time `deadline`.
    pub fn set_until(&mut self, deadline: Duration) {
        match &mut self.sleep {
            Some(sleep) => sleep.reset_until(deadline),
            None => self.sleep = Some(self.clock.sleep_until(deadline)),
        }
    }

    /// The same as [`set`](Timer::set): the name that most timers use.
    pub fn reset(&mut self, duration: Duration) {
        self.set(duration);
    }

    /// Clears the timer: it does not go off until it is set again.
    pub fn clear(&mut self) {
        self.sleep = None;
    }

    /// Whether the timer is set and has not been seen to go off.
    pub fn is_set(&self) -> bool {
        self.sleep.is_some()
    }

    /// Waits until the timer goes off, and clears it. A timer that is not set
    /// never goes off. Dropping the wait keeps the timer as it was.
    pub async fn expired(&mut self) {
        poll_fn(|context| match &mut self.sleep {
            Some(sleep) => pin!(sleep).poll(context),
            None => Poll::Pending,
        })
        .await;
        self.sleep = None;
    }
}

/// Ticks at a fixed period.
///
/// The ticks lie on a grid. Ticks that nobody waited for coalesce into one, and
/// the next one is on the grid again, so that a slow loop neither drifts nor
/// catches up in a burst. Between two calls of [`tick`](Interval::tick) an
/// interval has no sleeper on its clock.
#[derive(Debug)]
pub struct Interval {
    clock: SharedClock,
    period: Duration,
    next: Duration,
}

impl Interval {
    /// The shortest period. A shorter one, zero included, counts as this: a
    /// configured zero must not become a loop that never rests.
    pub const SHORTEST: Duration = Duration::from_millis(1);

    /// Ticks every `period`, for the first time after one period.
    pub fn new(clock: SharedClock, period: Duration) -> Self {
        let period = period.max(Self::SHORTEST);
        Self::starting_in(clock, period, period)
    }

    /// Ticks every `period`, for the first time at once.
    pub fn immediate(clock: SharedClock, period: Duration) -> Self {
        Self::starting_in(clock, Duration::ZERO, period)
    }

    /// Ticks every `period`, for the first time after `first`. Loops that start
    /// together take a random `first`, so that they do not tick together.
    pub fn starting_in(clock: SharedClock, first: Duration, period: Duration) -> Self {
        let next = clock.monotonic().saturating_add(first);
        Self {
            clock,
            period: period.max(Self::SHORTEST),
            next,
        }
    }

    /// Waits for the next tick. Returns how many earlier ticks this one stands
    /// for besides itself: 0 unless the caller was late by a period or more.
    ///
    /// Dropping the wait loses no tick.
    pub async fn tick(&mut self) -> u64 {
        self.clock.sleep_until(self.next).await;
        let late = self.clock.monotonic().saturating_sub(self.next);
        let missed = late.as_nanos() / self.period.as_nanos();
        let ahead = self.period.as_nanos().saturating_mul(missed + 1);
        self.next = self.next.saturating_add(duration_from_nanos(ahead));
        u64::try_from(missed).unwrap_or(u64::MAX)
    }

    /// Starts again: the next tick is one period from now.
    pub fn reset(&mut self) {
        self.next = self.clock.monotonic().saturating_add(self.period);
    }

    /// Changes the period and starts again with it.
    pub fn set_period(&mut self, period: Duration) {
        self.period = period.max(Self::SHORTEST);
        self.reset();
    }

    /// The period.
    pub fn period(&self) -> Duration {
        self.period
    }
}

fn duration_from_nanos(nanos: u128) -> Duration {
    const NANOS: u128 = 1_000_000_000;
    match u64::try_from(nanos / NANOS) {
        Ok(seconds) => Duration::new(seconds, (nanos % NANOS) as u32),
        Err(_) => Duration::MAX,
    }
}

/// The error of [`timeout`]: the limit passed before the work was done.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not done within {limit:?}")]
pub struct Elapsed {
    /// The limit that passed.
    pub limit: Duration,
}

/// Runs `future` for at most `limit`, and drops it then.
///
/// The future is polled before the time is looked at, so work that is done on
/// the last moment counts, and a limit of zero polls it once.
///
/// # Errors
///
/// [`Elapsed`] when the limit passed first.
pub async fn timeout<C, F>(clock: &C, limit: Duration, future: F) -> Result<F::Output, Elapsed>
where
    C: Clock + ?Sized,
    F: Future,
{
    let mut future = pin!(future);
    // A future that uses up the task's budget must not starve its own limit.
    let mut sleep = pin!(tokio::task::unconstrained(clock.sleep(limit)));
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        let elapsed = sleep.as_mut().poll(context);
        elapsed.map(|()| Err(Elapsed { limit }))
    })
    .await
}

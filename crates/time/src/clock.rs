//! The clock that shells are given, the sleeps it hands out, and the real clock.

use std::fmt::{self, Debug, Formatter};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of time and of sleeps.
///
/// The two readings differ on purpose. [`monotonic`](Clock::monotonic) never
/// goes back and is what deadlines and ages are computed from.
/// [`wall`](Clock::wall) is for display and for schedules, and can jump.
pub trait Clock: Send + Sync + Debug + 'static {
    /// The time since an arbitrary origin that is fixed for the life of the
    /// clock. It never goes back.
    fn monotonic(&self) -> Duration;

    /// Microseconds since the Unix epoch. It can jump in either direction.
    fn wall(&self) -> i64;

    /// A sleep that completes once `duration` from now has passed.
    ///
    /// The time runs from this call, not from the first poll. A sleep of zero
    /// is complete at once.
    fn sleep(&self, duration: Duration) -> Sleep;

    /// A sleep that completes once [`monotonic`](Clock::monotonic) is at least
    /// `deadline`. A deadline that has passed is complete at once.
    fn sleep_until(&self, deadline: Duration) -> Sleep;
}

/// A clock that several owners share.
pub type SharedClock = Arc<dyn Clock>;

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn monotonic(&self) -> Duration {
        (**self).monotonic()
    }

    fn wall(&self) -> i64 {
        (**self).wall()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        (**self).sleep(duration)
    }

    fn sleep_until(&self, deadline: Duration) -> Sleep {
        (**self).sleep_until(deadline)
    }
}

/// When a sleep ends, as seen by its clock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum When {
    /// After this much time from now.
    After(Duration),
    /// When the monotonic reading is at least this.
    At(Duration),
}

/// What a clock implements to hand out a [`Sleep`].
pub trait Sleeper: Send + Sync {
    /// As [`Future::poll`].
    fn poll_sleep(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()>;

    /// Moves the end of the sleep. A sleep that was complete starts again.
    fn reset(self: Pin<&mut Self>, when: When);
}

/// A future that completes when its time has come. Dropping it cancels it.
///
/// Once complete it stays complete, and may be polled again, until it is reset.
#[must_use = "a sleep does nothing unless it is awaited"]
pub struct Sleep(Pin<Box<dyn Sleeper>>);

impl Sleep {
    /// Wraps the sleeper of a clock.
    pub fn new(sleeper: impl Sleeper + 'static) -> Self {
        Self(Box::pin(sleeper))
    }

    /// Starts the sleep again, to end after `duration` from now.
    ///
    /// This is one step for the clock: its count of sleepers never shows the
    /// moment between the old deadline and the new.
    pub fn reset(&mut self, duration: Duration) {
        self.0.as_mut().reset(When::After(duration));
    }

    /// Starts the sleep again, to end at the monotonic time `deadline`.
    pub fn reset_until(&mut self, deadline: Duration) {
        self.0.as_mut().reset(When::At(deadline));
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll_sleep(context)
    }
}

impl Debug for Sleep {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sleep")
    }
}

/// The clock of the operating system.
///
/// Every `RealClock` of a process has the same origin: the moment the first one
/// was made. Sleeps are good to a millisecond and never end early; they need a
/// tokio runtime with its time driver on, and panic outside one.
#[derive(Clone, Copy, Debug)]
pub struct RealClock {
    origin: Instant,
}

impl RealClock {
    /// The real clock.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the system's clock"
    )]
    pub fn new() -> Self {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        Self {
            origin: *ORIGIN.get_or_init(Instant::now),
        }
    }

    /// The real clock, ready to be shared.
    pub fn shared() -> SharedClock {
        Arc::new(Self::new())
    }

    fn instant(&self, deadline: Duration) -> tokio::time::Instant {
        // A deadline beyond what the system can express is one that never comes.
        const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
        let instant = self.origin.checked_add(deadline);
        tokio::time::Instant::from_std(instant.unwrap_or(self.origin + NEVER))
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the system's clock"
    )]
    fn monotonic(&self) -> Duration {
        Instant::now().saturating_duration_since(self.origin)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the system's clock"
    )]
    fn wall(&self) -> i64 {
        let now = SystemTime::now();
        match now.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => {
                i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros)
            }
        }
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.monotonic().saturating_add(duration))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that sleeps on the system's clock"
    )]
    fn sleep_until(&self, deadline: Duration) -> Sleep {
        Sleep::new(RealSleeper {
            clock: *self,
            sleep: Box::pin(tokio::time::sleep_until(self.instant(deadline))),
        })
    }
}

struct RealSleeper {
    clock: RealClock,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Sleeper for RealSleeper {
    fn poll_sleep(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.sleep.as_mut().poll(context)
    }

    fn reset(mut self: Pin<&mut Self>, when: When) {
        let deadline = match when {
            When::After(duration) => self.clock.monotonic().saturating_add(duration),
            When::At(deadline) => deadline,
        };
        let instant = self.clock.instant(deadline);
        self.sleep.as_mut().reset(instant);
    }
}

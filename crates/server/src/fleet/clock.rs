//! The time and the ids that the Fleet gets.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use navarch_core::IdSource;
use navarch_model::{Stamp, Time};
use navarch_time::{OsRng, Rng, SharedClock};

/// Ids from the operating system.
#[derive(Debug, Default)]
pub struct SystemIds(OsRng);

impl IdSource for SystemIds {
    fn next_bits(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// Fleet time: resumes from the persisted value and advances by the monotonic clock, or is what
/// somebody else says.
#[derive(Clone)]
pub struct FleetClock {
    clock: SharedClock,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Own { origin: Time, started: Duration },
    Told(ToldTime),
}

/// The present moment of a fleet whose time somebody else decides.
#[derive(Debug, Clone)]
pub(crate) struct ToldTime(Arc<Mutex<Stamp>>);

impl ToldTime {
    pub(crate) fn new(now: Stamp) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// Says what time it is.
    pub(crate) fn set(&self, now: Stamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn get(&self) -> Stamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for FleetClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FleetClock")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl FleetClock {
    /// A clock that goes on from `origin`.
    pub fn new(clock: SharedClock, origin: Time) -> Self {
        let started = clock.monotonic();
        Self {
            clock,
            source: Source::Own { origin, started },
        }
    }

    /// A clock that shows what it is told. `clock` goes on to measure everything that is not of
    /// the fleet: how long callers wait.
    pub(crate) fn told(clock: SharedClock, time: ToldTime) -> Self {
        Self {
            clock,
            source: Source::Told(time),
        }
    }

    /// The present moment.
    pub fn now(&self) -> Stamp {
        match &self.source {
            Source::Own { origin, started } => Stamp {
                core: *origin + self.clock.monotonic().saturating_sub(*started),
                wall: Time(self.clock.wall()),
            },
            Source::Told(time) => time.get(),
        }
    }

    /// The clock under it.
    pub const fn clock(&self) -> &SharedClock {
        &self.clock
    }
}

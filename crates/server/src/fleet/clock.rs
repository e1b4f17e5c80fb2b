//! The time and the ids that the Fleet gets.

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

/// Fleet time: resumes from the persisted value and advances by the monotonic clock.
#[derive(Clone)]
pub struct FleetClock {
    clock: SharedClock,
    origin: Time,
    started: Duration,
}

impl std::fmt::Debug for FleetClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FleetClock")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl FleetClock {
    /// A clock that goes on from `origin`.
    pub fn new(clock: SharedClock, origin: Time) -> Self {
        let started = clock.monotonic();
        Self {
            clock,
            origin,
            started,
        }
    }

    /// The present moment.
    pub fn now(&self) -> Stamp {
        let elapsed = self.clock.monotonic().saturating_sub(self.started);
        Stamp {
            core: self.origin + elapsed,
            wall: Time(self.clock.wall()),
        }
    }

    /// The clock under it.
    pub const fn clock(&self) -> &SharedClock {
        &self.clock
    }
}

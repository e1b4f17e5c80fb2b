//! How simulated time follows a clock.

use std::time::Duration;

use navarch_model::Time;
use navarch_time::{Clock as _, RealClock};

/// How far simulated time may be behind before what is missing is left out. Lower drops time
/// whenever the system is busy for a moment; higher races through the time in which the process
/// was stopped.
const MOST_BEHIND: Duration = Duration::from_secs(2);

/// Simulated time that passes as on a clock, or a multiple of it.
#[derive(Debug)]
pub struct Pace {
    clock: RealClock,
    /// A moment of the clock, and the simulated time then.
    from: (Duration, Time),
    speed: f64,
}

impl Pace {
    /// Time passes from `at` on, `speed` seconds in each second.
    pub fn new(at: Time, speed: f64) -> Self {
        let clock = RealClock::new();
        Self {
            clock,
            from: (clock.monotonic(), at),
            speed,
        }
    }

    /// How far the simulation should be.
    pub fn due(&self) -> Time {
        let (then, at) = self.from;
        let passed = self.clock.monotonic().saturating_sub(then);
        at + passed.mul_f64(self.speed)
    }

    /// Waits until the simulation should be so far.
    pub async fn wait_for(&self, at: Time) {
        let ahead = at.since(self.due()).div_f64(self.speed);
        if ahead.is_zero() {
            // Others who have something to do come first.
            tokio::task::yield_now().await;
        } else {
            self.clock.sleep(ahead).await;
        }
    }

    /// Goes on from where the simulation is, if it is too far behind to catch up.
    pub fn forgive(&mut self, at: Time) {
        if self.due().since(at) > MOST_BEHIND.mul_f64(self.speed) {
            self.from = (self.clock.monotonic(), at);
        }
    }
}

//! The delay before the next attempt after failures.

use std::time::Duration;

use crate::Rng;
use crate::rng::scale;

/// Exponential delays with a cap and jitter.
///
/// The delay after the first failure is about `initial`; each further failure
/// multiplies it by `multiplier`, up to `max`. Whatever the fields hold, a delay
/// is never above `max` and nothing panics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The delay after the first failure, before jitter.
    pub initial: Duration,
    /// No delay is longer than this, jitter included.
    pub max: Duration,
    /// How much longer each delay is than the one before. Below 1 and
    /// not-a-number count as 1.
    pub multiplier: f64,
    /// How far a delay is spread to either side, as a fraction of it. It is
    /// brought into `[0, 1]`; not-a-number counts as 0.
    pub jitter: f64,
}

impl Backoff {
    /// The delay before the attempt that follows `attempt` earlier retries:
    /// 0 after the first failure, 1 after the second.
    ///
    /// A delay at the cap is spread between the lower edge of its jitter and the
    /// cap, evenly, so that many callers that reached the cap do not meet there.
    pub fn delay(&self, attempt: u32, rng: &mut dyn Rng) -> Duration {
        let drawn = rng.unit();
        let base = self.base(attempt);
        let spread = if self.jitter.is_nan() {
            0.0
        } else {
            self.jitter.clamp(0.0, 1.0)
        };
        if spread == 0.0 {
            return base;
        }
        let low = scale(base, 1.0 - spread);
        let high = scale(base, 1.0 + spread).min(self.max);
        let width = high.saturating_sub(low);
        low.saturating_add(scale(width, drawn)).min(self.max)
    }

    /// The delay before jitter.
    fn base(&self, attempt: u32) -> Duration {
        if self.initial >= self.max {
            return self.max;
        }
        let multiplier = if self.multiplier > 1.0 {
            self.multiplier
        } else {
            1.0
        };
        scale(self.initial, power(multiplier, attempt)).min(self.max)
    }
}

impl Default for Backoff {
    /// 1 s, doubling up to 30 s, spread by 20 %.
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(30),
            multiplier: 2.0,
            jitter: 0.2,
        }
    }
}

/// `base` to the `exponent`, by squaring: unlike `f64::powi`, the result is the
/// same on every machine.
fn power(base: f64, exponent: u32) -> f64 {
    let (mut result, mut square, mut left) = (1.0, base, exponent);
    while left > 0 {
        if left & 1 == 1 {
            result *= square;
        }
        square *= square;
        left >>= 1;
    }
    result
}

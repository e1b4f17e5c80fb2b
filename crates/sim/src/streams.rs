//! Named streams of randomness, one for each component, so that one more draw in one of them
//! changes no other.

use std::time::Duration;

use navarch_model::IdSource;
use navarch_time::{Rng, SeededRng};

/// One stream.
#[derive(Debug, Clone)]
pub(crate) struct Stream(SeededRng);

impl Stream {
    pub(crate) fn named(seed: u64, name: &str) -> Self {
        Self(SeededRng::named(seed, name))
    }

    pub(crate) fn child(&self, name: &str) -> Self {
        Self(self.0.child(name))
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.0.chance(probability)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0.below(limit)
    }

    /// One of several; none of none.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        self.0.index(of.len()).map(|at| &of[at])
    }

    /// A number from 0 to below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        self.0.unit()
    }

    /// One of several by weight; none when no weight is above zero. It draws once.
    pub(crate) fn weighted<'a, T>(&mut self, of: &'a [(T, f64)]) -> Option<&'a T> {
        let all: f64 = of.iter().map(|(_, weight)| weight.max(0.0)).sum();
        let mut left = self.0.unit() * all;
        let positive = || of.iter().filter(|(_, weight)| *weight > 0.0);
        let drawn = positive().find(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        // Rounding may leave nothing for the last.
        drawn.or_else(|| positive().next_back()).map(|(one, _)| one)
    }

    /// A span from one to below another.
    pub(crate) fn uniform(&mut self, low: Duration, high: Duration) -> Duration {
        low + high.saturating_sub(low).mul_f64(self.0.unit())
    }

    /// A span of a normal distribution, at least zero: twelve even numbers together are one, to
    /// six standard deviations.
    pub(crate) fn normal(&mut self, mean: Duration, deviation: Duration) -> Duration {
        let sum: f64 = (0..12).map(|_| self.0.unit()).sum();
        let seconds = mean.as_secs_f64() + (sum - 6.0) * deviation.as_secs_f64();
        Duration::from_secs_f64(seconds.max(0.0))
    }

    /// A span of an exponential distribution: what lies between two of many independent events.
    pub(crate) fn exponential(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-(1.0 - self.0.unit()).ln())
    }

    /// A span between two.
    pub(crate) fn between(&mut self, low_millis: u64, high_millis: u64) -> Duration {
        Duration::from_millis(low_millis + self.below(high_millis.saturating_sub(low_millis) + 1))
    }
}

impl IdSource for Stream {
    fn next_bits(&mut self) -> u64 {
        self.0.next_u64()
    }
}

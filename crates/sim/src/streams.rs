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

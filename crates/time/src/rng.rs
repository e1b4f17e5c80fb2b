//! Randomness: from the operating system, or from a seed and a name.

use std::fmt::{self, Debug, Formatter};
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng};

/// A source of random numbers.
///
/// Everything else is computed from [`next_u64`](Rng::next_u64) in a way that is
/// part of the contract: the same numbers give the same answers in every build.
pub trait Rng: Send {
    /// 64 random bits.
    fn next_u64(&mut self) -> u64;

    /// A number in `[0, 1)`, one of 2^53 evenly spaced ones.
    fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number in `0..n`, each as likely as the others.
    ///
    /// # Panics
    ///
    /// When `n` is 0: there is no such number. [`index`](Rng::index) asks for a
    /// place in something that may be empty.
    fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "there is no number below 0 to draw");
        // The high half of a product with n; the few values of the low half that
        // would make some answers likelier are drawn again.
        let reject_below = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= reject_below {
                return (product >> 64) as u64;
            }
        }
    }

    /// An index into something of length `len`, or `None` when it is empty.
    fn index(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| self.below(len as u64) as usize)
    }

    /// Whether something of probability `probability` happens. It draws once,
    /// whatever the probability. Below 0 and not-a-number count as 0.
    fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Fills `bytes`, eight from each draw, least significant first.
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
    }

    /// `duration` changed by up to `fraction` of it in either direction, evenly.
    ///
    /// The fraction is brought into `[0, 1]`; not-a-number counts as 0. It draws
    /// once, whatever the fraction.
    fn jitter(&mut self, duration: Duration, fraction: f64) -> Duration {
        let spread = if fraction.is_nan() {
            0.0
        } else {
            fraction.clamp(0.0, 1.0)
        };
        let swing = spread * (2.0 * self.unit() - 1.0);
        let offset = scale(duration, swing.abs());
        if swing < 0.0 {
            duration.saturating_sub(offset)
        } else {
            duration.saturating_add(offset)
        }
    }
}

/// `duration × factor`, at least zero and at most the longest duration.
pub(crate) fn scale(duration: Duration, factor: f64) -> Duration {
    let seconds = (duration.as_secs_f64() * factor).max(0.0);
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

impl<R: Rng + ?Sized> Rng for &mut R {
    fn next_u64(&mut self) -> u64 {
        (**self).next_u64()
    }
}

impl<R: Rng + ?Sized> Rng for Box<R> {
    fn next_u64(&mut self) -> u64 {
        (**self).next_u64()
    }
}

/// The operating system's entropy: unpredictable, and a system call for each
/// number. For ids, tokens and the jitter of production.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRng;

impl Rng for OsRng {
    /// # Panics
    ///
    /// When the operating system has no entropy to give. No id or token could
    /// then be trusted.
    fn next_u64(&mut self) -> u64 {
        getrandom::u64().expect("the operating system gives random bytes")
    }
}

/// A reproducible stream of numbers, named by a seed and a path of names.
///
/// Streams with different seeds or names are independent of each other: draws
/// from one never change another. The numbers are the same in every build and on
/// every machine. They can be predicted: use [`OsRng`] for ids and tokens.
///
/// Give every component a stream of its own, so that one more draw in one
/// component changes no other.
#[derive(Clone)]
pub struct SeededRng {
    key: u64,
    generator: Xoshiro256PlusPlus,
}

impl SeededRng {
    /// The stream called `stream` of the scenario seeded with `seed`.
    pub fn named(seed: u64, stream: &str) -> Self {
        Self::keyed(absorb(finish(seed), stream))
    }

    /// The stream called `stream` below this one.
    ///
    /// It depends on this stream's seed and path, never on how much was drawn.
    pub fn child(&self, stream: &str) -> Self {
        Self::keyed(absorb(self.key, stream))
    }

    fn keyed(key: u64) -> Self {
        let mut seed = [0; 32];
        let mut state = key;
        for bytes in seed.chunks_exact_mut(8) {
            state = state.wrapping_add(GOLDEN);
            bytes.copy_from_slice(&finish(state).to_le_bytes());
        }
        Self {
            key,
            generator: Xoshiro256PlusPlus::from_seed(seed),
        }
    }
}

impl Rng for SeededRng {
    fn next_u64(&mut self) -> u64 {
        self.generator.next_u64()
    }
}

impl Debug for SeededRng {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SeededRng")
            .field("key", &format_args!("{:#018x}", self.key))
            .finish_non_exhaustive()
    }
}

/// 2^64 divided by the golden ratio: the step of SplitMix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64, with its step: a bijection in which every
/// input bit reaches every output bit.
fn finish(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(GOLDEN);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Mixes a name, and then its length, into a key. The length keeps a name apart
/// from the same name with zero bytes behind it, and a path `a`, `b` from `ab`.
fn absorb(key: u64, name: &str) -> u64 {
    let mut mixed = key;
    for chunk in name.as_bytes().chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mixed = finish(mixed ^ u64::from_le_bytes(word));
    }
    finish(mixed ^ (name.len() as u64).rotate_left(32))
}

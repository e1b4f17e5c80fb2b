//! How often one caller may call, and how often an address may be wrong about its token.
//!
//! Nothing here is asked about a heartbeat but whether its token was seen at its address before:
//! two loads of atomics. Everything that grows with the number of callers has a bound.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use navarch_api::ApiError;
use navarch_config::RateLimits;
use navarch_model::NodeId;
use navarch_time::SharedClock;

/// Parts of a table, each with a lock of its own.
const SHARDS: usize = 16;
/// Callers that each part of a table remembers. Higher costs memory while somebody calls from very
/// many addresses, lower forgives some of them too early.
const REMEMBERED: usize = 4096;
/// Different wrong tokens that an address may show again and again at the price of one. They are
/// those of machines with an old token, not guesses. Higher costs eight bytes each for every address
/// that guesses; lower takes the machines behind one address for a guesser.
const REPEATED: usize = 64;
/// Addresses that a token remembers. Higher costs memory for each token; lower asks about the
/// guesses of an address more often, and only while somebody guesses.
const SEEN: usize = 4096;

/// Why a request was refused before its handler, as the metric names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No token, or one that is not known.
    Unauthenticated,
    /// The role of the token does not reach the call.
    Forbidden,
    /// One caller called too often.
    Calls,
    /// One node called too often.
    NodeCalls,
    /// One address tried too many tokens.
    WrongTokens,
    /// Too much waits already.
    Overloaded,
}

impl Refusal {
    /// Every reason with its word.
    pub(crate) const ALL: [(Self, &'static str); 6] = [
        (Self::Unauthenticated, "unauthenticated"),
        (Self::Forbidden, "forbidden"),
        (Self::Calls, "call_limit"),
        (Self::NodeCalls, "node_call_limit"),
        (Self::WrongTokens, "wrong_token_limit"),
        (Self::Overloaded, "overloaded"),
    ];
}

/// Who calls, by address: all of an IPv4 address, and the network of an IPv6 address, of which one
/// caller may have every address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address(u64);

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        let number = match address.to_canonical() {
            IpAddr::V4(address) => 0xffff_0000_0000 | u64::from(u32::from(address)),
            IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
        };
        // Zero stands for nobody.
        Self(number.max(1))
    }
}

/// A rate that may change while it is used: `burst` calls at once, one more each `interval`.
#[derive(Debug, Default)]
struct Rate {
    /// Nanoseconds; 0 means no limit.
    interval: AtomicU64,
    /// Nanoseconds that a whole burst takes to come back.
    burst: AtomicU64,
}

impl Rate {
    fn set(&self, calls: u32, time: Duration, burst: u32) {
        let interval = match calls {
            0 => 0,
            calls => (nanoseconds(time) / u64::from(calls)).max(1),
        };
        self.interval.store(interval, Ordering::Relaxed);
        let burst = interval.saturating_mul(u64::from(burst.max(1)));
        self.burst.store(burst, Ordering::Relaxed);
    }

    /// One more call at `now`, of a caller whose calls so far are paid for at `paid`. Answers when
    /// this one is, or how long it has to wait.
    fn take(&self, paid: u64, now: u64) -> Result<u64, u64> {
        let interval = self.interval.load(Ordering::Relaxed);
        if interval == 0 {
            return Ok(paid);
        }
        let next = paid.max(now).saturating_add(interval);
        let ahead = next - now;
        match ahead.checked_sub(self.burst.load(Ordering::Relaxed)) {
            Some(wait) if wait > 0 => Err(wait),
            _ => Ok(next),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What one caller called so far: when its calls are paid for.
#[derive(Debug, Default)]
pub(crate) struct Meter(AtomicU64);

impl Meter {
    fn take(&self, rate: &Rate, now: u64) -> Result<(), u64> {
        let mut paid = self.0.load(Ordering::Relaxed);
        loop {
            let next = rate.take(paid, now)?;
            let relaxed = Ordering::Relaxed;
            match self.0.compare_exchange_weak(paid, next, relaxed, relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => paid = other,
            }
        }
    }
}

/// The addresses at which a token was shown lately. New ones take the places of old ones.
pub(crate) struct Seen(Box<[AtomicU64]>);

impl Default for Seen {
    fn default() -> Self {
        Self((0..SEEN).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Seen {
    fn place(&self, address: Address) -> &AtomicU64 {
        // Fibonacci hashing: neighbours in one network come far apart.
        let spread = address.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.0[spread as usize % SEEN]
    }

    pub(crate) fn has(&self, address: Address) -> bool {
        self.place(address).load(Ordering::Relaxed) == address.0
    }

    pub(crate) fn note(&self, address: Address) {
        self.place(address).store(address.0, Ordering::Relaxed);
    }
}

/// What is remembered of a caller that nobody introduced.
trait Remembered: Default {
    /// From when on it is worth nothing.
    fn until(&self) -> u64;
}

impl Remembered for u64 {
    fn until(&self) -> u64 {
        *self
    }
}

/// What is remembered of callers, with a bound.
#[derive(Debug)]
struct Table<K, V> {
    shards: Vec<Mutex<BTreeMap<K, V>>>,
    /// The most of one part.
    most: usize,
}

impl<K: Ord + Hash, V: Remembered> Table<K, V> {
    fn new(most: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            most,
        }
    }

    fn with<Q, R>(&self, key: &Q, now: u64, work: impl FnOnce(&mut V) -> R) -> R
    where
        K: Borrow<Q>,
        Q: Ord + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let at = (hasher.finish() % SHARDS as u64) as usize;
        let shard = self.shards[at].lock();
        let mut shard = shard.unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shard.get_mut(key) {
            return work(known);
        }
        if shard.len() >= self.most {
            make_room(&mut shard, now, self.most / 2);
        }
        work(shard.entry(key.to_owned()).or_default())
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let shards = self.shards.iter();
        shards.map(|shard| shard.lock().unwrap().len()).sum()
    }
}

/// Forgets who may call as if never seen, then whoever is nearest to that.
fn make_room<K: Ord, V: Remembered>(shard: &mut BTreeMap<K, V>, now: u64, left: usize) {
    shard.retain(|_, known| known.until() > now);
    if shard.len() > left {
        let mut ends: Vec<u64> = shard.values().map(V::until).collect();
        let at = ends.len() - left;
        let (_, end, _) = ends.select_nth_unstable(at);
        let end = *end;
        shard.retain(|_, known| known.until() > end);
    }
}

/// What an address got wrong.
#[derive(Debug)]
struct Guesser {
    paid: u64,
    /// Marks of wrong tokens that it showed before.
    shown: [u64; REPEATED],
    next: usize,
}

impl Default for Guesser {
    fn default() -> Self {
        Self {
            paid: 0,
            shown: [0; REPEATED],
            next: 0,
        }
    }
}

impl Remembered for Guesser {
    fn until(&self) -> u64 {
        self.paid
    }
}

/// The limits of all callers.
pub(crate) struct Limits {
    clock: SharedClock,
    calls: Rate,
    node_calls: Rate,
    guesses: Rate,
    strangers: Table<Address, u64>,
    nodes: Table<NodeId, u64>,
    guessers: Table<Address, Guesser>,
    /// Until when some address may have to wait with its next guess.
    guessing: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}

impl Limits {
    pub(crate) fn new(rates: &RateLimits, clock: SharedClock) -> Self {
        let limits = Self {
            clock,
            calls: Rate::default(),
            node_calls: Rate::default(),
            guesses: Rate::default(),
            strangers: Table::new(REMEMBERED),
            nodes: Table::new(REMEMBERED),
            guessers: Table::new(REMEMBERED),
            guessing: AtomicU64::new(0),
            refused: Default::default(),
        };
        limits.set(rates);
        limits
    }

    /// Changes the rates. What callers called so far stays counted.
    pub(crate) fn set(&self, rates: &RateLimits) {
        let second = Duration::from_secs(1);
        let minute = Duration::from_secs(60);
        let guesses = rates.wrong_tokens_per_minute;
        self.calls
            .set(rates.calls_per_second, second, rates.calls_burst);
        self.node_calls
            .set(rates.node_calls_per_second, second, rates.node_calls_burst);
        self.guesses.set(guesses, minute, guesses);
    }

    fn now(&self) -> u64 {
        nanoseconds(self.clock.monotonic())
    }

    pub(crate) fn count(&self, refusal: Refusal) {
        self.refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Refused requests by reason, since the control plane started.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.refused.iter().map(|held| held.load(Ordering::Relaxed));
        Refusal::ALL.iter().map(|(_, word)| *word).zip(counts)
    }

    fn refuse(&self, refusal: Refusal, who: &str, key: &str, wait: u64) -> ApiError {
        self.count(refusal);
        let wait = Duration::from_nanos(wait);
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        ApiError::resource_exhausted(format!(
            "{who}: the limit is server.limits.{key}; try again in {seconds} s"
        ))
        .retry_after(Duration::from_secs(seconds))
    }

    /// One more call of a person or a program with a token.
    pub(crate) fn call(&self, name: &str, meter: &Meter) -> Result<(), ApiError> {
        let taken = meter.take(&self.calls, self.now());
        taken.map_err(|wait| {
            let who = format!("too many calls with the token {name:?}");
            self.refuse(Refusal::Calls, &who, "calls_per_second", wait)
        })
    }

    /// One more call of somebody without a token.
    pub(crate) fn call_from(&self, address: Address, shown: IpAddr) -> Result<(), ApiError> {
        let now = self.now();
        let taken = self.strangers.with(&address, now, |paid| {
            *paid = self.calls.take(*paid, now)?;
            Ok(())
        });
        taken.map_err(|wait| {
            let who = format!("too many calls from {shown}");
            self.refuse(Refusal::Calls, &who, "calls_per_second", wait)
        })
    }

    /// One more registration, report or answer of a node.
    pub(crate) fn node_call(&self, node: &NodeId) -> Result<(), ApiError> {
        let now = self.now();
        let taken = self.nodes.with(node, now, |paid| {
            *paid = self.node_calls.take(*paid, now)?;
            Ok(())
        });
        taken.map_err(|wait| {
            let who = format!("too many calls for node {node}");
            self.refuse(Refusal::NodeCalls, &who, "node_calls_per_second", wait)
        })
    }

    /// Whether an address has to wait before another token of it is looked at, and how long.
    pub(crate) fn must_wait(&self, address: Address) -> Option<u64> {
        let guessing = self.guessing.load(Ordering::Relaxed);
        // Most of the time nobody guesses.
        if guessing == 0 {
            return None;
        }
        let now = self.now();
        if now >= guessing {
            return None;
        }
        self.guessers.with(&address, now, |guesser| {
            self.guesses.take(guesser.paid, now).err()
        })
    }

    /// A token that nobody knows, from this address.
    pub(crate) fn guessed(&self, address: Address, token: &[u8]) {
        let now = self.now();
        let mut hasher = DefaultHasher::new();
        token.hash(&mut hasher);
        let mark = hasher.finish().max(1);
        let wait = self.guessers.with(&address, now, |guesser| {
            if guesser.shown.contains(&mark) {
                return None;
            }
            guesser.shown[guesser.next % REPEATED] = mark;
            guesser.next = (guesser.next + 1) % REPEATED;
            if let Ok(paid) = self.guesses.take(guesser.paid, now) {
                guesser.paid = paid;
            }
            self.guesses.take(guesser.paid, now).err()
        });
        if let Some(wait) = wait {
            self.guessing
                .fetch_max(now.saturating_add(wait), Ordering::Relaxed);
        }
    }

    /// The answer to an address that has to wait before another token of it is looked at.
    pub(crate) fn no_more_guesses(&self, shown: IpAddr, wait: u64) -> ApiError {
        let who = format!("too many wrong tokens from {shown}");
        self.refuse(Refusal::WrongTokens, &who, "wrong_tokens_per_minute", wait)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use navarch_time::VirtualClock;

    use super::*;

    fn limits(clock: &VirtualClock) -> Limits {
        let rates = RateLimits {
            calls_per_second: 10,
            calls_burst: 20,
            node_calls_per_second: 2,
            node_calls_burst: 4,
            wrong_tokens_per_minute: 6,
        };
        Limits::new(&rates, clock.shared())
    }

    fn v4(number: u32) -> (Address, IpAddr) {
        let address = IpAddr::V4(Ipv4Addr::from(number));
        (Address::from(address), address)
    }

    #[test]
    fn a_burst_is_let_in_then_the_rate_and_each_refusal_says_when_to_come_again() {
        let clock = VirtualClock::new();
        let limits = limits(&clock);
        let (one, other) = (Meter::default(), Meter::default());
        let let_in = |meter: &Meter| {
            (0..100)
                .filter(|_| limits.call("ops", meter).is_ok())
                .count()
        };
        assert_eq!(let_in(&one), 20);
        let refused = limits.call("ops", &one).unwrap_err();
        assert_eq!(
            refused.message,
            "too many calls with the token \"ops\": the limit is server.limits.calls_per_second; \
             try again in 1 s"
        );
        assert_eq!(refused.retry_after, Some(Duration::from_secs(1)));
        assert_eq!(let_in(&other), 20, "another caller has a burst of its own");
        clock.advance(Duration::from_secs(1));
        assert_eq!(let_in(&one), 10);
        clock.advance(Duration::from_secs(3600));
        assert_eq!(let_in(&one), 20, "no more than a burst is saved up");
        let node = NodeId::new("n");
        assert_eq!(
            (0..9).filter(|_| limits.node_call(&node).is_ok()).count(),
            4
        );
        assert!(limits.node_call(&NodeId::new("m")).is_ok());
        let counts: BTreeMap<_, _> = limits.refused().collect();
        // 80 and the one that was read, then 80, 90, 80.
        assert_eq!((counts["call_limit"], counts["node_call_limit"]), (331, 5));
        limits.set(&RateLimits {
            calls_per_second: 0,
            ..RateLimits::default()
        });
        assert_eq!(let_in(&one), 100, "0 means no limit");
    }

    #[test]
    fn a_flood_of_one_address_starves_no_other_and_a_million_fit() {
        let clock = VirtualClock::new();
        let limits = limits(&clock);
        let (flood, shown) = v4(7);
        for _ in 0..10_000 {
            // Refused or not: it goes on.
            drop(limits.call_from(flood, shown));
        }
        assert!(limits.call_from(flood, shown).is_err());
        for number in 1_000_000..2_000_000 {
            let (address, shown) = v4(number);
            assert!(limits.call_from(address, shown).is_ok(), "{shown}");
            if number % 10 == 0 {
                limits.guessed(address, &number.to_be_bytes());
            }
        }
        for table in [limits.strangers.len(), limits.guessers.len()] {
            assert!(table <= SHARDS * REMEMBERED, "{table} are remembered");
        }
        // Who is furthest beyond the limit is remembered longest.
        assert!(limits.call_from(flood, shown).is_err());
    }

    #[test]
    fn who_guesses_waits_and_who_repeats_one_mistake_does_not() {
        let clock = VirtualClock::new();
        let limits = limits(&clock);
        let (guesser, _) = v4(1);
        let (stale, _) = v4(2);
        for _ in 0..10_000 {
            limits.guessed(stale, b"the token of last week");
        }
        assert_eq!(limits.must_wait(stale), None);
        for guess in 0_u32..6 {
            assert_eq!(limits.must_wait(guesser), None, "guess {guess}");
            limits.guessed(guesser, &guess.to_be_bytes());
        }
        let wait = limits.must_wait(guesser).expect("it has to wait");
        assert_eq!(Duration::from_nanos(wait), Duration::from_secs(10));
        assert_eq!(limits.must_wait(stale), None);
        clock.advance(Duration::from_secs(10));
        assert_eq!(
            limits.must_wait(guesser),
            None,
            "one more every ten seconds"
        );
        limits.guessed(guesser, b"one more");
        assert!(limits.must_wait(guesser).is_some());
        clock.advance(Duration::from_secs(3600));
        assert_eq!(limits.must_wait(guesser), None);
    }

    #[test]
    fn a_network_is_one_caller_and_an_address_is_known_in_both_its_forms() {
        let address = |text: &str| Address::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:1"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:10.0.0.1"), address("10.0.0.1"));
        assert_ne!(address("10.0.0.1"), address("10.0.0.2"));
        let nobody = Address::from(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        let seen = Seen::default();
        assert!(!seen.has(nobody));
        seen.note(nobody);
        assert!(seen.has(nobody) && !seen.has(address("10.0.0.1")));
    }
}

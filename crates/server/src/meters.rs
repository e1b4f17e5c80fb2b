//! What this process did since it started, counted as it happens: calls, commits, actions,
//! machines that came or did not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use navarch_api::Code;
use navarch_api::service::CALLS;
use navarch_model::{Change, EndCause, Instance, Phase, ProviderName, State};

/// A distribution of durations. Counting takes two additions and no lock.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: [Duration; N],
    /// How many fell up to each bound and above the one before; the last is beyond every bound.
    counts: [AtomicU64; N],
    beyond: AtomicU64,
    microseconds: AtomicU64,
}

/// A distribution as it was at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// How many took at most so many seconds.
    pub buckets: Vec<(f64, u64)>,
    /// How many there are.
    pub count: u64,
    /// How many seconds all took together.
    pub sum: f64,
}

impl<const N: usize> Histogram<N> {
    /// An empty distribution with these bounds, in rising order.
    pub const fn new(bounds: [Duration; N]) -> Self {
        Self {
            bounds,
            counts: [const { AtomicU64::new(0) }; N],
            beyond: AtomicU64::new(0),
            microseconds: AtomicU64::new(0),
        }
    }

    /// Counts one.
    pub fn add(&self, took: Duration) {
        let place = self.bounds.iter().position(|bound| took <= *bound);
        let counter = place.map_or(&self.beyond, |place| &self.counts[place]);
        counter.fetch_add(1, Ordering::Relaxed);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(took, Ordering::Relaxed);
    }

    /// The distribution so far.
    pub fn read(&self) -> Distribution {
        let mut count = 0;
        let buckets = self.bounds.iter().zip(&self.counts).map(|(bound, one)| {
            count += one.load(Ordering::Relaxed);
            (bound.as_secs_f64(), count)
        });
        let buckets = buckets.collect();
        Distribution {
            buckets,
            count: count + self.beyond.load(Ordering::Relaxed),
            sum: self.microseconds.load(Ordering::Relaxed) as f64 / 1e6,
        }
    }
}

const fn micros(count: u64) -> Duration {
    Duration::from_micros(count)
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Bounds for answers to callers.
const CALL_BOUNDS: [Duration; 8] = [
    micros(500),
    micros(2_000),
    micros(10_000),
    micros(50_000),
    micros(250_000),
    seconds(1),
    seconds(5),
    seconds(30),
];

/// Bounds for commits.
const COMMIT_BOUNDS: [Duration; 9] = [
    micros(500),
    micros(1_000),
    micros(2_500),
    micros(5_000),
    micros(10_000),
    micros(25_000),
    micros(100_000),
    seconds(1),
    seconds(5),
];

/// Bounds for machines on their way.
const LAUNCH_BOUNDS: [Duration; 8] = [
    seconds(10),
    seconds(30),
    seconds(60),
    seconds(120),
    seconds(300),
    seconds(600),
    seconds(1200),
    seconds(3600),
];

/// One call of the contract.
#[derive(Debug)]
pub struct CallMeter {
    /// How long it took.
    pub took: Histogram<{ CALL_BOUNDS.len() }>,
    ok: AtomicU64,
    failed: [AtomicU64; Code::ALL.len()],
}

impl CallMeter {
    const fn new() -> Self {
        Self {
            took: Histogram::new(CALL_BOUNDS),
            ok: AtomicU64::new(0),
            failed: [const { AtomicU64::new(0) }; Code::ALL.len()],
        }
    }

    /// How it ended and how often, for what ever happened.
    pub fn codes(&self) -> Vec<(&'static str, u64)> {
        let failed = Code::ALL.into_iter().zip(&self.failed);
        let failed = failed.map(|(code, number)| (code.word(), number));
        std::iter::once(("ok", &self.ok))
            .chain(failed)
            .map(|(word, number)| (word, number.load(Ordering::Relaxed)))
            .filter(|(_, number)| *number > 0)
            .collect()
    }
}

type Launches = BTreeMap<(ProviderName, &'static str), Histogram<{ LAUNCH_BOUNDS.len() }>>;
type Actions = BTreeMap<(&'static str, &'static str), u64>;

/// Everything that is counted.
#[derive(Debug)]
pub struct Meters {
    calls: Vec<CallMeter>,
    /// From the end of a turn of the fleet loop until it is durable.
    pub commits: Histogram<{ COMMIT_BOUNDS.len() }>,
    actions: Mutex<Actions>,
    launches: Mutex<Launches>,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            calls: CALLS.iter().map(|_| CallMeter::new()).collect(),
            commits: Histogram::new(COMMIT_BOUNDS),
            actions: Mutex::default(),
            launches: Mutex::default(),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meters {
    /// A call of the contract ended, by its place in [`CALLS`].
    pub fn call(&self, place: usize, took: Duration, code: Option<Code>) {
        let Some(meter) = self.calls.get(place) else {
            return;
        };
        meter.took.add(took);
        let counter = code.map_or(&meter.ok, |code| &meter.failed[code as usize]);
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Each call by its method.
    pub fn calls(&self) -> impl Iterator<Item = (&'static str, &CallMeter)> {
        let method = |path: &'static str| path.rsplit('/').next().unwrap_or(path);
        let calls = CALLS.iter().zip(&self.calls);
        calls.map(move |(call, meter)| (method(call.path), meter))
    }

    /// A planned action was taken, or refused at the last moment.
    pub fn action(&self, kind: &'static str, taken: bool) {
        let result = if taken { "taken" } else { "refused" };
        *locked(&self.actions).entry((kind, result)).or_default() += 1;
    }

    /// Actions by kind and result.
    pub fn actions(&self) -> Actions {
        locked(&self.actions).clone()
    }

    /// Looks for machines that came, or did not, in a change that is durable. `before` is the
    /// state without it.
    pub fn changed(&self, before: &State, change: &Change) {
        let Change::Instance(now) = change else {
            return;
        };
        let then = before.instances.get(&now.id);
        let Some(outcome) = outcome(then.map(AsRef::as_ref), now) else {
            return;
        };
        let ended = now.ready.unwrap_or(now.phase_since);
        locked(&self.launches)
            .entry((now.offering.provider.clone(), outcome))
            .or_insert_with(|| Histogram::new(LAUNCH_BOUNDS))
            .add(ended.core.since(now.created.core));
    }

    /// How long machines took from the intent to their agent, or to the end of the attempt, by
    /// provider and outcome.
    pub fn launches(&self) -> Vec<(ProviderName, &'static str, Distribution)> {
        locked(&self.launches)
            .iter()
            .map(|((provider, outcome), took)| (provider.clone(), *outcome, took.read()))
            .collect()
    }
}

/// What became of an attempt to have a machine, if that is new.
fn outcome(then: Option<&Instance>, now: &Instance) -> Option<&'static str> {
    let was_ready = then.is_some_and(|then| then.ready.is_some());
    if now.ready.is_some() {
        return (!was_ready).then_some("ready");
    }
    let was_ending = then.is_some_and(|then| then.end.is_some());
    if was_ending || !matches!(now.phase, Phase::Failed | Phase::Terminating) {
        return None;
    }
    Some(match &now.end {
        Some(EndCause::LaunchRefused) => "refused",
        Some(EndCause::NeverRegistered) => "never_registered",
        Some(EndCause::LaunchAbandoned) => "abandoned",
        Some(EndCause::Vanished) => "vanished",
        _ => "not_wanted",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_every_bucket_from_its_own_on() {
        let histogram = Histogram::new([micros(10), micros(100)]);
        for took in [0, 10, 11, 100, 101, 5_000_000] {
            histogram.add(micros(took));
        }
        let found = histogram.read();
        assert_eq!(found.buckets, [(0.00001, 2), (0.0001, 4)]);
        assert_eq!(found.count, 6);
        assert!((found.sum - 5.000_222).abs() < 1e-9, "{}", found.sum);
    }

    #[test]
    fn calls_count_by_their_method_and_code() {
        let meters = Meters::default();
        let place = CALLS
            .iter()
            .position(|call| call.path.ends_with("/GetNode"));
        let place = place.expect("it is a call");
        meters.call(place, micros(3), None);
        meters.call(place, micros(3), Some(Code::NotFound));
        meters.call(place, micros(3), Some(Code::NotFound));
        meters.call(usize::MAX, micros(3), None);
        let found = meters
            .calls()
            .filter(|(_, meter)| meter.took.read().count > 0);
        let found: Vec<_> = found
            .map(|(method, meter)| (method, meter.codes()))
            .collect();
        assert_eq!(found, [("GetNode", vec![("ok", 1), ("not_found", 2)])]);
    }

    #[test]
    fn every_code_has_its_own_counter() {
        for (at, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, at, "{code}");
        }
    }
}

//! The virtual clock under many threads: no sleeper is missed and the count is
//! never wrong under concurrent create, cancel, reset and advance.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use navarch_time::{
    Clock, Interval, OsRng, RealClock, Rng, SeededRng, Sleep, VirtualClock, timeout,
};
use tokio::task::JoinSet;

use crate::support::{WakeCount, poll_with, s, watched};

const LIMIT: Duration = Duration::from_secs(20);

/// `NAVARCH_STRESS_SEED`, or a new one. A failing run repeats best, not surely,
/// with its seed: the order of the threads is the system's.
fn seed() -> u64 {
    let given = std::env::var("NAVARCH_STRESS_SEED");
    given.map_or_else(
        |_| OsRng.next_u64(),
        |text| text.parse().expect("NAVARCH_STRESS_SEED is a number"),
    )
}

/// A sleep with what its owner can know about it.
struct Held {
    sleep: Sleep,
    /// The deadline lies between these: the time was read before and after.
    earliest: Duration,
    latest: Duration,
    /// What its last poll left behind, unless it was reset since. Every poll has
    /// a waker of its own, so that a late wake for an earlier one does not count.
    armed: Option<Arc<WakeCount>>,
}

impl Held {
    /// A sleep of `duration`, told as that or, when `exact`, as a deadline.
    fn new(clock: &VirtualClock, duration: Duration, exact: bool) -> Self {
        let earliest = clock.monotonic() + duration;
        let (sleep, latest) = if exact {
            (clock.sleep_until(earliest), earliest)
        } else {
            (clock.sleep(duration), clock.monotonic() + duration)
        };
        Self {
            sleep,
            earliest,
            latest,
            armed: None,
        }
    }

    fn reset(&mut self, clock: &VirtualClock, duration: Duration, exact: bool) {
        self.earliest = clock.monotonic() + duration;
        self.latest = if exact {
            self.sleep.reset_until(self.earliest);
            self.earliest
        } else {
            self.sleep.reset(duration);
            clock.monotonic() + duration
        };
        self.armed = None;
    }

    /// Polls it, whatever other threads do. Returns whether it is complete.
    fn poll(&mut self, clock: &VirtualClock) -> bool {
        let before = clock.monotonic();
        let (woken, waker) = WakeCount::new();
        let ready = poll_with(&mut self.sleep, &waker).is_ready();
        if ready {
            let after = clock.monotonic();
            assert!(after >= self.earliest, "fired before its deadline");
        } else {
            assert!(before < self.latest, "due and not complete: missed");
        }
        self.armed = (!ready).then_some(woken);
        ready
    }

    /// Whether it is still a sleeper, while no thread moves the time.
    fn settled(&mut self, clock: &VirtualClock) -> bool {
        let last = self.armed.take();
        let waiting = !self.poll(clock);
        if let Some(woken) = last {
            assert_eq!(
                woken.get(),
                usize::from(!waiting),
                "woken once when fired, and only then"
            );
        }
        waiting
    }
}

#[test]
fn no_sleeper_is_missed_and_the_count_is_exact() {
    let seed = seed();
    println!("NAVARCH_STRESS_SEED={seed}");
    watched("stress of the virtual clock", LIMIT, move || hammer(seed));
}

fn hammer(seed: u64) {
    const OWNERS: usize = 4;
    const MOVERS: usize = 2;
    const HELD_MAX: usize = 12;
    const ROUNDS: usize = 40;
    const STEPS: usize = 400;
    // More than the owners' steps, so that the time moves until they are through.
    const MOVES: usize = 1_500;

    let clock = VirtualClock::new();
    let turns = Turns::new();
    let barrier = Barrier::new(OWNERS + MOVERS + 1);
    let waiting = AtomicUsize::new(0);
    let moved = AtomicU64::new(0);
    thread::scope(|scope| {
        for owner in 0..OWNERS {
            let (clock, turns, barrier, waiting) = (&clock, &turns, &barrier, &waiting);
            scope.spawn(move || {
                let mut rng = SeededRng::named(seed, "owner").child(&owner.to_string());
                // Always a sleeper: whatever is reset, the count never dips.
                let mut anchor = clock.sleep(s(1 << 40));
                let mut held: Vec<Held> = Vec::new();
                barrier.wait();
                for _ in 0..ROUNDS {
                    for _ in 0..STEPS {
                        turns.pass(&mut rng);
                        anchor.reset(s(1 << 40));
                        step(clock, &mut rng, &mut held, HELD_MAX);
                        let count = clock.pending();
                        let bounds = OWNERS..=OWNERS * (HELD_MAX + 1);
                        assert!(bounds.contains(&count), "{count} sleepers");
                    }
                    barrier.wait();
                    let mine = held.iter_mut().map(|one| usize::from(one.settled(clock)));
                    waiting.fetch_add(1 + mine.sum::<usize>(), Ordering::SeqCst);
                    barrier.wait();
                    barrier.wait();
                }
            });
        }
        for mover in 0..MOVERS {
            let (clock, turns, barrier, moved) = (&clock, &turns, &barrier, &moved);
            scope.spawn(move || {
                let mut rng = SeededRng::named(seed, "mover").child(&mover.to_string());
                barrier.wait();
                for _ in 0..ROUNDS {
                    for _ in 0..MOVES {
                        turns.pass(&mut rng);
                        let seconds = rng.below(4);
                        clock.advance(s(seconds));
                        moved.fetch_add(seconds, Ordering::SeqCst);
                    }
                    barrier.wait();
                    barrier.wait();
                    barrier.wait();
                }
            });
        }
        barrier.wait();
        for round in 0..ROUNDS {
            barrier.wait();
            barrier.wait();
            let expected = waiting.swap(0, Ordering::SeqCst);
            assert_eq!(clock.pending(), expected, "seed {seed}, round {round}");
            let now = s(moved.load(Ordering::SeqCst));
            assert_eq!(clock.monotonic(), now, "moves add up, seed {seed}");
            barrier.wait();
        }
    });
    assert_eq!(clock.pending(), 0, "every sleep was dropped, seed {seed}");
}

/// Mixes the threads by giving up the processor now and then. On a busy machine
/// that costs a time slice each time, so it ends after a while.
struct Turns {
    clock: RealClock,
    until: Duration,
}

impl Turns {
    fn new() -> Self {
        let clock = RealClock::new();
        let until = clock.monotonic() + s(1);
        Self { clock, until }
    }

    fn pass(&self, rng: &mut SeededRng) {
        if rng.chance(0.25) && self.clock.monotonic() < self.until {
            thread::yield_now();
        }
    }
}

fn step(clock: &VirtualClock, rng: &mut SeededRng, held: &mut Vec<Held>, held_max: usize) {
    let (duration, exact) = (s(rng.below(30)), rng.chance(0.5));
    match (rng.below(5), rng.index(held.len())) {
        (0 | 1, _) if held.len() < held_max => held.push(Held::new(clock, duration, exact)),
        (0 | 2, Some(at)) => {
            drop(held.swap_remove(at));
        }
        (1 | 3, Some(at)) => held[at].reset(clock, duration, exact),
        (4, Some(at)) if held[at].poll(clock) => {
            drop(held.swap_remove(at));
        }
        _ => {}
    }
}

/// Tasks in lockstep: each wait for all of them must end, and each move must
/// fire all of them.
#[test]
fn every_wait_for_sleepers_ends() {
    const TASKS: usize = 8;
    const ROUNDS: u64 = 1_500;
    watched("waits for sleepers", LIMIT, || {
        on_threads(async {
            let clock = VirtualClock::new();
            let mut tasks = JoinSet::new();
            for _ in 0..TASKS {
                let clock = clock.clone();
                tasks.spawn(async move {
                    for _ in 0..ROUNDS {
                        clock.sleep(s(1)).await;
                    }
                });
            }
            for round in 0..ROUNDS {
                clock.wait_for_sleepers(TASKS).await;
                assert_eq!(clock.pending(), TASKS);
                assert_eq!(clock.advance(s(1)), TASKS, "round {round}");
            }
            tasks.join_all().await;
            assert_eq!((clock.pending(), clock.monotonic()), (0, s(ROUNDS)));
        });
    });
}

/// Tasks that sleep, give up, tick and move their sleeps, driven from outside by
/// two movers at once. A lost wake-up leaves a task asleep for ever.
#[test]
fn every_task_gets_to_its_end() {
    const TASKS: usize = 24;
    const ROUNDS: usize = 120;
    let seed = seed();
    println!("NAVARCH_STRESS_SEED={seed}");
    watched("tasks on a moved clock", LIMIT, move || {
        on_threads(async move {
            let clock = VirtualClock::new();
            let mut tasks = JoinSet::new();
            for task in 0..TASKS {
                let clock = clock.clone();
                let rng = SeededRng::named(seed, "task").child(&task.to_string());
                tasks.spawn(restless(clock, rng, ROUNDS));
            }
            let mut movers = JoinSet::new();
            for _ in 0..2 {
                let clock = clock.clone();
                movers.spawn(async move {
                    loop {
                        clock.wait_for_sleepers(1).await;
                        clock.advance_to_next();
                        tokio::task::yield_now().await;
                    }
                });
            }
            while let Some(result) = tasks.join_next().await {
                result.unwrap();
            }
            movers.shutdown().await;
            assert_eq!(clock.pending(), 0, "seed {seed}");
        });
    });
}

async fn restless(clock: VirtualClock, mut rng: SeededRng, rounds: usize) {
    let mut interval = Interval::new(clock.shared(), s(3));
    for _ in 0..rounds {
        let (short, long) = (s(rng.below(5)), s(rng.below(9)));
        match rng.below(4) {
            0 => clock.sleep(short).await,
            1 => {
                let before = clock.monotonic();
                let result = timeout(&clock, short, clock.sleep(long)).await;
                let passed = clock.monotonic() - before;
                assert!(passed >= if result.is_ok() { long } else { short });
            }
            2 => {
                interval.tick().await;
            }
            _ => {
                let mut sleep = clock.sleep(long);
                tokio::select! {
                    () = &mut sleep => {}
                    () = clock.sleep(short) => sleep.reset(short),
                }
                sleep.await;
            }
        }
    }
}

fn on_threads<F: Future<Output = ()>>(future: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .build()
        .unwrap();
    runtime.block_on(future);
}

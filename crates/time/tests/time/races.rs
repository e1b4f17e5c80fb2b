//! Pairs of calls on the virtual clock, made by two threads at the same moment,
//! over and over: whatever comes first, nothing is missed and the count is right.

use std::hint::spin_loop;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use navarch_time::{Clock, RealClock, VirtualClock};

use crate::support::{WakeCount, done, ms, poll_with, s, watched};

/// Where two threads meet.
#[derive(Default)]
struct Meeting {
    started: AtomicUsize,
    ended: AtomicUsize,
    over: AtomicBool,
}

impl Meeting {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

struct Over<'a>(&'a Meeting);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}

fn spin_until(condition: impl Fn() -> bool) {
    let mut spins = 0_u32;
    while !condition() {
        spins += 1;
        if spins.is_multiple_of(1_000) {
            thread::yield_now();
        }
        spin_loop();
    }
}

/// Repeats rounds for a while. In each, `prepare` runs alone, then `mine` and
/// `other` at once, then `check` alone.
fn race<P, R>(
    name: &str,
    clock: &VirtualClock,
    prepare: impl Fn() -> P,
    mine: impl Fn(P) -> R,
    other: impl Fn() + Sync,
    check: impl Fn(R),
) {
    const ROUNDS_MAX: usize = 20_000;
    let real = RealClock::new();
    let until = real.monotonic() + ms(200);
    let meeting = Meeting::default();
    let mut rounds = 0;
    thread::scope(|scope| {
        // Ends the other thread also when a check fails.
        let over = Over(&meeting);
        scope.spawn(|| {
            for round in 1.. {
                spin_until(|| meeting.started.load(Ordering::SeqCst) == round || meeting.is_over());
                if meeting.is_over() {
                    return;
                }
                other();
                meeting.ended.store(round, Ordering::SeqCst);
            }
        });
        while rounds < ROUNDS_MAX && real.monotonic() < until {
            rounds += 1;
            let prepared = prepare();
            meeting.started.store(rounds, Ordering::SeqCst);
            // Meets the other thread earlier and later on its way.
            (0..rounds * 7 % 64).for_each(|_| spin_loop());
            let result = mine(prepared);
            spin_until(|| meeting.ended.load(Ordering::SeqCst) == rounds);
            check(result);
            assert_eq!(clock.pending(), 0, "{name}: sleepers left over");
        }
        drop(over);
    });
    println!("{name}: {rounds} rounds");
}

fn races(work: fn(VirtualClock)) {
    watched("a race", s(20), move || work(VirtualClock::new()));
}

#[test]
fn a_poll_and_a_move() {
    races(|clock| {
        race(
            "poll",
            &clock,
            || (clock.sleep(s(1)), WakeCount::new()),
            |(mut sleep, (woken, waker))| {
                let ready = poll_with(&mut sleep, &waker).is_ready();
                (sleep, ready, woken)
            },
            || {
                clock.advance(s(1));
            },
            |(mut sleep, ready, woken)| {
                assert!(ready || woken.get() == 1, "neither complete nor woken");
                assert!(done(&mut sleep));
            },
        );
    });
}

#[test]
fn a_sleep_and_a_move() {
    races(|clock| {
        race(
            "sleep",
            &clock,
            || clock.monotonic() + s(1),
            |deadline| clock.sleep_until(deadline),
            || {
                clock.advance(s(1));
            },
            |mut sleep| assert!(done(&mut sleep), "made while due, and missed"),
        );
    });
}

#[test]
fn a_reset_and_a_move() {
    races(|clock| {
        race(
            "reset",
            &clock,
            || {
                let (woken, waker) = WakeCount::new();
                let mut sleep = clock.sleep(s(1));
                assert!(poll_with(&mut sleep, &waker).is_pending());
                (sleep, woken, clock.monotonic() + s(5))
            },
            |(mut sleep, woken, deadline)| {
                sleep.reset_until(deadline);
                (sleep, woken, deadline)
            },
            || {
                clock.advance(s(1));
            },
            |(mut sleep, woken, deadline)| {
                assert_eq!(clock.pending(), 1);
                clock.advance_to(deadline);
                // Either it fired before the reset, and its owner has not polled
                // it since, or the reset kept its waker.
                assert_eq!(woken.get(), 1);
                assert!(done(&mut sleep));
            },
        );
    });
}

#[test]
fn resets_and_counts() {
    races(|clock| {
        let real = RealClock::new();
        let until = real.monotonic() + ms(200);
        let meeting = Meeting::default();
        let mut sleep = clock.sleep(s(1));
        let mut reads = 0;
        thread::scope(|scope| {
            let over = Over(&meeting);
            scope.spawn(|| {
                for seconds in (1..9).cycle() {
                    sleep.reset(s(seconds));
                    if meeting.is_over() {
                        return;
                    }
                }
            });
            while real.monotonic() < until {
                reads += 1;
                assert_eq!(clock.pending(), 1, "a reset is one step");
            }
            drop(over);
        });
        println!("count: {reads} reads");
    });
}

#[test]
fn a_cancel_and_a_move() {
    races(|clock| {
        race(
            "cancel",
            &clock,
            || clock.sleep(s(1)),
            drop,
            || {
                clock.advance(s(1));
            },
            |()| {},
        );
    });
}

#[test]
fn two_moves() {
    races(|clock| {
        race(
            "move",
            &clock,
            || clock.monotonic() + s(3),
            |expected| {
                clock.advance(s(1));
                expected
            },
            || {
                clock.advance(s(2));
            },
            |expected: Duration| assert_eq!(clock.monotonic(), expected, "moves add up"),
        );
    });
}

#[test]
fn a_wait_for_sleepers_and_a_sleep() {
    races(|clock| {
        let held = Mutex::new(Vec::new());
        race(
            "wait",
            &clock,
            || (clock.wait_for_sleepers(1), WakeCount::new()),
            |(mut wait, (woken, waker))| {
                let ready = poll_with(&mut wait, &waker).is_ready();
                (wait, ready, woken)
            },
            || {
                let sleep = clock.sleep(s(1));
                held.lock().unwrap().push(sleep);
            },
            |(wait, ready, woken)| {
                assert!(ready || woken.get() == 1, "neither complete nor woken");
                drop(wait);
                held.lock().unwrap().clear();
            },
        );
    });
}

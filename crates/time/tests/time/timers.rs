//! Timers, intervals and timeouts on the virtual clock.

use std::future::{pending, poll_fn, ready};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use navarch_time::{Clock, Elapsed, Interval, RealClock, Timer, VirtualClock, timeout};

use crate::support::{WakeCount, done, ms, poll_with, s};

#[test]
fn a_timer_goes_off_once_for_each_time_it_is_set() {
    let clock = VirtualClock::new();
    let mut timer = Timer::new(clock.shared());
    assert!(!done(&mut pin!(timer.expired())), "never while not set");
    assert!(!timer.is_set());

    timer.set(s(5));
    assert!(
        !done(&mut pin!(timer.expired())),
        "the wait is dropped here"
    );
    assert_eq!(clock.pending(), 1, "and the timer still set");
    timer.reset(s(9));
    clock.advance(s(8));
    assert!(!done(&mut pin!(timer.expired())));
    timer.set_until(s(10));
    clock.advance(s(2));
    assert!(timer.is_set(), "it has not been seen to go off");
    assert!(done(&mut pin!(timer.expired())));
    assert!(!timer.is_set());
    assert!(!done(&mut pin!(timer.expired())), "only once");

    timer.set_until(s(20));
    timer.clear();
    assert_eq!(clock.pending(), 0);
    clock.advance(s(60));
    assert!(!done(&mut pin!(timer.expired())));
    timer.set_until(s(3));
    assert!(
        done(&mut pin!(timer.expired())),
        "a past deadline is due at once"
    );
}

/// Seconds to move the time by, and what the next tick then answers, if it does.
type TickCase = (u64, Option<u64>);

#[test]
fn an_interval_keeps_its_grid_and_coalesces_missed_ticks() {
    let cases: [(&str, Interval, VirtualClock, &[TickCase]); 3] = {
        let clocks = [(); 3].map(|()| VirtualClock::new());
        let [plain, immediate, starting] = &clocks;
        [
            (
                "new",
                Interval::new(plain.shared(), s(10)),
                plain.clone(),
                &[
                    (9, None),
                    (1, Some(0)),
                    (0, None),
                    (19, Some(0)),
                    (0, None),
                    (1, Some(0)),
                    (35, Some(2)),
                    (4, None),
                    (1, Some(0)),
                ],
            ),
            (
                "immediate",
                Interval::immediate(immediate.shared(), s(10)),
                immediate.clone(),
                &[(0, Some(0)), (9, None), (1, Some(0)), (20, Some(1))],
            ),
            (
                "starting_in",
                Interval::starting_in(starting.shared(), s(3), s(10)),
                starting.clone(),
                &[(2, None), (1, Some(0)), (9, None), (1, Some(0))],
            ),
        ]
    };
    for (name, mut interval, clock, steps) in cases {
        for (index, &(moved, expected)) in steps.iter().enumerate() {
            clock.advance(s(moved));
            let tick = match poll_with(&mut pin!(interval.tick()), std::task::Waker::noop()) {
                Poll::Ready(missed) => Some(missed),
                Poll::Pending => None,
            };
            assert_eq!(tick, expected, "{name}, step {index}");
            assert_eq!(clock.pending(), 0, "no sleeper while nobody waits");
        }
    }
}

#[test]
fn an_interval_starts_again_from_now() {
    let clock = VirtualClock::new();
    let mut interval = Interval::new(clock.shared(), s(10));
    clock.advance(s(7));
    interval.reset();
    clock.advance(s(9));
    assert!(!done(&mut pin!(interval.tick())));
    clock.advance(s(1));
    assert!(done(&mut pin!(interval.tick())));
    interval.set_period(s(2));
    assert_eq!(interval.period(), s(2));
    clock.advance(s(1));
    assert!(!done(&mut pin!(interval.tick())));
    clock.advance(s(1));
    assert!(done(&mut pin!(interval.tick())));
}

#[test]
fn hostile_periods_neither_panic_nor_spin() {
    for period in [Duration::ZERO, Duration::from_nanos(1)] {
        let clock = VirtualClock::new();
        let mut interval = Interval::immediate(clock.shared(), period);
        assert_eq!(interval.period(), ms(1));
        assert!(done(&mut pin!(interval.tick())));
        assert!(!done(&mut pin!(interval.tick())));
        interval.set_period(period);
        assert_eq!(interval.period(), ms(1));
    }
    let clock = VirtualClock::new();
    let mut interval = Interval::immediate(clock.shared(), Duration::MAX);
    clock.advance(s(5));
    assert!(done(&mut pin!(interval.tick())));
    assert!(!done(&mut pin!(interval.tick())));
    clock.advance(Duration::MAX);
    assert!(done(&mut pin!(interval.tick())), "at the end of time");
}

#[test]
fn a_timeout_ends_with_the_work_or_with_the_limit() {
    let clock = VirtualClock::new();
    let mut work = Box::pin(timeout(&clock, s(5), clock.sleep(s(3))));
    assert!(!done(&mut work));
    assert_eq!(clock.pending(), 2);
    clock.advance(s(3));
    assert_eq!(
        poll_with(&mut work, std::task::Waker::noop()),
        Poll::Ready(Ok(()))
    );
    drop(work);
    assert_eq!(clock.pending(), 0, "the limit is cancelled with it");

    let (woken, waker) = WakeCount::new();
    let mut work = Box::pin(timeout(&clock, s(5), pending::<()>()));
    assert!(poll_with(&mut work, &waker).is_pending());
    clock.advance(s(5));
    assert_eq!(woken.get(), 1);
    let elapsed = Elapsed { limit: s(5) };
    assert_eq!(poll_with(&mut work, &waker), Poll::Ready(Err(elapsed)));
    assert_eq!(elapsed.to_string(), "not done within 5s");
}

#[test]
fn work_done_on_the_last_moment_counts() {
    let clock = VirtualClock::new();
    let mut work = Box::pin(timeout(&clock, s(5), clock.sleep(s(5))));
    assert!(!done(&mut work));
    clock.advance(s(60));
    assert!(matches!(
        poll_with(&mut work, std::task::Waker::noop()),
        Poll::Ready(Ok(()))
    ));
    let shared = clock.shared();
    let mut at_once = Box::pin(timeout(&shared, Duration::ZERO, ready(4)));
    assert!(matches!(
        poll_with(&mut at_once, std::task::Waker::noop()),
        Poll::Ready(Ok(4))
    ));
    let any: &dyn Clock = &clock;
    let mut never = Box::pin(timeout(any, Duration::ZERO, pending::<()>()));
    assert!(done(&mut never));
}

#[tokio::test]
async fn work_that_never_rests_cannot_starve_its_limit() {
    let clock = RealClock::new();
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let busy = poll_fn(|context| {
        loop {
            // Uses up the task's budget, then waits to be polled again.
            let _ = sender.try_send(());
            if receiver.poll_recv(context).is_pending() {
                return Poll::<()>::Pending;
            }
        }
    });
    let result = timeout(&clock, ms(2), busy).await;
    assert_eq!(result, Err(Elapsed { limit: ms(2) }));
}

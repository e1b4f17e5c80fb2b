//! The clocks: readings, sleeps, waits for sleepers, automatic moves.

use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;

use navarch_time::{Clock, RealClock, SharedClock, Sleep, VirtualClock};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, yield_now};

use crate::support::{WakeCount, done, ms, poll_with, s, watched, watched_async};

#[test]
fn a_new_virtual_clock_stands_still_at_zero() {
    let clock = VirtualClock::new();
    assert_eq!(clock.monotonic(), Duration::ZERO);
    assert_eq!(clock.wall(), 1_735_689_600_000_000);
    assert_eq!(clock.pending(), 0);
    assert_eq!(clock.next_deadline(), None);
    assert_eq!(clock.advance_to_next(), None);
    assert_eq!(clock.monotonic(), Duration::ZERO);
}

#[test]
fn both_readings_follow_a_move_and_only_the_wall_follows_a_step() {
    let clock = VirtualClock::starting_at(-5_000_000);
    clock.advance(Duration::from_nanos(2_000_001_999));
    assert_eq!(clock.wall(), -2_999_999);
    clock.step_wall(-7_000_000);
    assert_eq!(clock.wall(), -9_999_999);
    assert_eq!(clock.monotonic(), Duration::from_nanos(2_000_001_999));
}

#[test]
fn extreme_moves_saturate() {
    let clock = VirtualClock::starting_at(i64::MAX - 1);
    clock.advance(s(9));
    assert_eq!(clock.wall(), i64::MAX);
    clock.step_wall(i64::MIN);
    clock.advance(Duration::MAX);
    clock.advance(Duration::MAX);
    assert_eq!(clock.monotonic(), Duration::MAX);
    assert!(
        done(&mut clock.sleep(s(1))),
        "nothing is later than the end"
    );
}

#[test]
fn time_never_goes_back() {
    let clock = VirtualClock::new();
    clock.advance(s(10));
    assert_eq!(clock.advance_to(s(4)), 0);
    assert_eq!(clock.monotonic(), s(10));
    assert!(done(&mut clock.sleep_until(s(4))));
}

#[test]
fn a_sleep_is_counted_from_its_making_to_its_end() {
    let clock = VirtualClock::new();
    let mut short = clock.sleep(s(3));
    let long = clock.sleep_until(s(8));
    let mut none = clock.sleep(Duration::ZERO);
    assert!(done(&mut none));
    assert_eq!(clock.pending(), 2);
    assert_eq!(clock.next_deadline(), Some(s(3)));

    let (woken, waker) = WakeCount::new();
    assert!(poll_with(&mut short, &waker).is_pending());
    assert_eq!(clock.advance(s(2)), 0);
    assert_eq!(woken.get(), 0);
    assert_eq!(clock.advance(s(1)), 1, "a deadline that is now is due");
    assert_eq!(woken.get(), 1);
    assert_eq!(clock.pending(), 1, "counted no more before it is polled");
    assert!(done(&mut short));
    assert!(done(&mut short), "it stays complete");

    drop(long);
    assert_eq!(clock.pending(), 0);
    assert_eq!(clock.advance(s(60)), 0);
}

#[test]
fn a_reset_moves_a_sleep_and_keeps_its_waker() {
    let clock = VirtualClock::new();
    let (woken, waker) = WakeCount::new();
    let mut sleep = clock.sleep(s(3));
    assert!(poll_with(&mut sleep, &waker).is_pending());
    clock.advance(s(2));
    sleep.reset(s(3));
    assert_eq!((clock.pending(), clock.next_deadline()), (1, Some(s(5))));
    clock.advance(s(2));
    assert_eq!(woken.get(), 0);
    clock.advance(s(1));
    assert_eq!(woken.get(), 1);
    assert!(done(&mut sleep));

    sleep.reset_until(s(9));
    assert_eq!(clock.pending(), 1, "a complete sleep starts again");
    assert!(!done(&mut sleep));
    assert!(poll_with(&mut sleep, &waker).is_pending());
    sleep.reset(Duration::ZERO);
    assert_eq!((clock.pending(), woken.get()), (0, 2), "due at once");
    assert!(done(&mut sleep));
}

#[test]
fn the_last_waker_is_the_one_woken() {
    let clock = VirtualClock::new();
    let mut sleep = clock.sleep(s(1));
    let (first, first_waker) = WakeCount::new();
    let (second, second_waker) = WakeCount::new();
    assert!(poll_with(&mut sleep, &first_waker).is_pending());
    assert!(poll_with(&mut sleep, &second_waker).is_pending());
    clock.advance(s(1));
    assert_eq!((first.get(), second.get()), (0, 1));
}

#[test]
fn advance_to_next_takes_one_deadline_at_a_time() {
    let clock = VirtualClock::new();
    let _sleeps: Vec<Sleep> = [5, 2, 5, 9].map(|at| clock.sleep_until(s(at))).into();
    let mut seen = Vec::new();
    while let Some(now) = clock.advance_to_next() {
        seen.push((now, clock.pending()));
    }
    assert_eq!(seen, [(s(2), 3), (s(5), 1), (s(9), 0)]);
}

#[test]
fn a_wait_for_sleepers_ends_when_the_count_is_reached() {
    let clock = VirtualClock::new();
    let (woken, waker) = WakeCount::new();
    let mut none = clock.wait_for_sleepers(0);
    let mut two = clock.wait_for_sleepers(2);
    let mut three = clock.wait_for_sleepers(3);
    assert!(done(&mut none));
    assert!(poll_with(&mut two, &waker).is_pending());
    assert!(poll_with(&mut three, &waker).is_pending());

    let first = clock.sleep(s(1));
    assert_eq!(woken.get(), 0);
    let second = clock.sleep(s(2));
    assert_eq!(woken.get(), 1);
    drop(first);
    assert!(
        poll_with(&mut two, &waker).is_pending(),
        "there is one left"
    );
    let _third = clock.sleep(s(3));
    assert_eq!(woken.get(), 2, "it waits again");
    assert!(poll_with(&mut two, &waker).is_ready());

    drop(three);
    let _more = [clock.sleep(s(4)), clock.sleep(s(4))];
    assert_eq!(woken.get(), 2, "a wait that was dropped is not woken");
    drop(second);
}

#[test]
fn a_reset_of_a_complete_sleep_counts_for_waits() {
    let clock = VirtualClock::new();
    let mut sleep = clock.sleep(s(1));
    clock.advance(s(1));
    let (woken, waker) = WakeCount::new();
    let mut wait = clock.wait_for_sleepers(1);
    assert!(poll_with(&mut wait, &waker).is_pending());
    sleep.reset(s(1));
    assert_eq!(woken.get(), 1);
    assert!(done(&mut wait));
}

/// A waker that comes back to its clock, and owns a sleep of it, as the waker of
/// a task does.
struct Reentrant {
    clock: VirtualClock,
    seen: Arc<Mutex<Vec<(Duration, usize)>>>,
    _owned: Sleep,
}

impl Wake for Reentrant {
    fn wake(self: Arc<Self>) {
        let now = (self.clock.monotonic(), self.clock.pending());
        self.seen.lock().unwrap().push(now);
    }
}

#[test]
fn wakers_may_use_the_clock_when_woken_and_when_dropped() {
    watched("a waker that uses its clock", s(20), || {
        let clock = VirtualClock::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let waker = || {
            Waker::from(Arc::new(Reentrant {
                clock: clock.clone(),
                seen: Arc::clone(&seen),
                _owned: clock.sleep(s(1_000)),
            }))
        };
        let mut sleep = clock.sleep(s(1));
        let mut cancelled = clock.sleep(s(2));
        let mut wait = clock.wait_for_sleepers(7);
        assert!(poll_with(&mut sleep, &waker()).is_pending());
        assert!(poll_with(&mut sleep, &waker()).is_pending(), "replaces");
        assert!(poll_with(&mut cancelled, &waker()).is_pending());
        drop(cancelled);
        assert!(poll_with(&mut wait, &waker()).is_pending());
        assert!(poll_with(&mut wait, &waker()).is_pending(), "replaces");
        drop(wait);
        assert_eq!(clock.pending(), 2, "the sleep, and the one its waker owns");
        clock.advance(s(1));
        assert_eq!(*seen.lock().unwrap(), [(s(1), 1)]);
        assert_eq!(clock.pending(), 0);
    });
}

type Trace = Arc<Mutex<Vec<String>>>;

/// Two workers that sleep, pass a word through a chain of tasks without sleeping,
/// and a third that sleeps when the word arrives.
async fn program(clock: SharedClock, trace: Trace) {
    let note = {
        let clock = Arc::clone(&clock);
        move |what: &str| {
            let line = format!("{:?} {what}", clock.monotonic());
            trace.lock().unwrap().push(line);
        }
    };
    let mut tasks = JoinSet::new();
    for (name, pause) in [("a", ms(40)), ("b", ms(25))] {
        let (clock, note) = (Arc::clone(&clock), note.clone());
        tasks.spawn(async move {
            for round in 0..3 {
                clock.sleep(pause).await;
                note(&format!("{name}{round}"));
            }
        });
    }
    let (sender, receiver) = mpsc::channel(1);
    let mut last = receiver;
    for _ in 0..20 {
        let (next_sender, next) = mpsc::channel(1);
        let mut from = std::mem::replace(&mut last, next);
        tasks.spawn(async move {
            while let Some(word) = from.recv().await {
                yield_now().await;
                let _ = next_sender.send(word).await;
            }
        });
    }
    let chained = Arc::clone(&clock);
    let chained_note = note.clone();
    tasks.spawn(async move {
        while let Some(word) = last.recv().await {
            chained_note(&format!("{word} arrives"));
            chained.sleep(ms(7)).await;
            chained_note(&format!("{word} rested"));
        }
    });
    for word in ["one", "two"] {
        sender.send(word).await.unwrap();
        clock.sleep(ms(30)).await;
    }
    drop(sender);
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
    }
    note("end");
}

#[test]
fn run_moves_the_time_only_when_no_task_can_run() {
    let golden = "0ns one arrives\n7ms one rested\n25ms b0\n30ms two arrives\n\
                  37ms two rested\n40ms a0\n50ms b1\n75ms b2\n80ms a1\n120ms a2\n120ms end";
    for _ in 0..20 {
        let trace = watched("a program on virtual time", s(20), || {
            let clock = VirtualClock::new();
            let trace = Trace::default();
            clock.run(program(clock.shared(), Arc::clone(&trace)));
            assert_eq!(clock.monotonic(), ms(120), "no move after the end");
            trace.lock().unwrap().join("\n")
        });
        assert_eq!(trace, golden);
    }
}

#[test]
fn run_ends_with_its_future_and_drops_the_other_tasks() {
    watched("a run with a task left", s(20), run_with_a_task_left);
}

fn run_with_a_task_left() {
    let clock = VirtualClock::new();
    let inner = clock.clone();
    let answer = clock.run(async move {
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let clock = inner.clone();
            async move { clock.sleep(s(3_600)).await }
        });
        tasks.detach_all();
        let never = inner.sleep(Duration::MAX);
        inner.sleep(s(5)).await;
        drop(never);
        7
    });
    assert_eq!((answer, clock.monotonic()), (7, s(5)));
    assert_eq!(clock.pending(), 0);
}

#[test]
fn run_moves_no_time_while_its_own_future_can_run() {
    watched("questions and answers", s(20), questions_and_answers);
}

fn questions_and_answers() {
    let clock = VirtualClock::new();
    let mut beats = 0;
    clock.run(async {
        let _other = clock.sleep(s(1));
        let (question, mut asked) = mpsc::channel::<oneshot::Sender<u32>>(1);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Some(reply) = asked.recv().await {
                let _ = reply.send(1);
            }
        });
        for _ in 0..100 {
            let (reply, answer) = oneshot::channel();
            question.send(reply).await.unwrap();
            beats += answer.await.unwrap();
        }
    });
    assert_eq!((beats, clock.monotonic()), (100, Duration::ZERO));
}

#[test]
#[should_panic(expected = "the reason")]
fn run_passes_a_panic_on() {
    VirtualClock::new().run(async { panic!("the reason") });
}

#[test]
fn auto_advance_takes_sleeps_in_the_order_of_deadlines() {
    watched_async("sleeps in order", in_the_order_of_deadlines());
}

async fn in_the_order_of_deadlines() {
    let golden = ["10ms c", "20ms b", "20ms d", "30ms a", "45ms a", "50ms d"];
    for on_at_first in [false, true] {
        let clock = VirtualClock::new();
        clock.auto_advance(on_at_first);
        let trace = Trace::default();
        let mut tasks = JoinSet::new();
        let plan: [(&str, &[u64]); 4] = [
            ("a", &[30, 15]),
            ("b", &[20]),
            ("c", &[10]),
            ("d", &[20, 30]),
        ];
        for (name, pauses) in plan {
            let (clock, trace) = (clock.clone(), Arc::clone(&trace));
            tasks.spawn(async move {
                for pause in pauses {
                    clock.sleep(ms(*pause)).await;
                    let line = format!("{:?} {name}", clock.monotonic());
                    trace.lock().unwrap().push(line);
                }
            });
        }
        if !on_at_first {
            // Those who sleep already take part.
            clock.wait_for_sleepers(4).await;
            clock.auto_advance(true);
        }
        tasks.join_all().await;
        assert_eq!(*trace.lock().unwrap(), golden, "on at first: {on_at_first}");
    }
}

#[test]
fn auto_advance_waits_a_turn_after_every_change() {
    type Change = fn(&VirtualClock, &mut Vec<Sleep>);
    let changes: [(&str, Change); 4] = [
        ("made", |clock, others| others.push(clock.sleep(s(50)))),
        ("reset", |_, others| others[0].reset(s(40))),
        ("dropped", |_, others| others.clear()),
        ("fired", |clock, _| {
            clock.advance(s(5));
        }),
    ];
    for (name, change) in changes {
        let clock = VirtualClock::new();
        clock.auto_advance(true);
        let mut others = vec![clock.sleep(s(5))];
        let mut sleep = clock.sleep(s(20));
        assert!(!done(&mut sleep), "{name}: the first poll only looks");
        assert_eq!(clock.monotonic(), s(0), "{name}");
        change(&clock, &mut others);
        let before = clock.monotonic();
        assert!(!done(&mut sleep));
        assert_eq!(clock.monotonic(), before, "{name}: a change in between");
        let next = clock.next_deadline().unwrap();
        done(&mut sleep);
        assert_eq!(clock.monotonic(), next, "{name}: none in between");
    }
}

#[test]
fn auto_advance_goes_on_when_the_first_sleeper_leaves() {
    type Leave = fn(&VirtualClock, Sleep) -> Option<Sleep>;
    let ways: [(&str, Leave); 3] = [
        ("dropped", |_, first| {
            drop(first);
            None
        }),
        ("reset", |_, mut first| {
            first.reset(s(60));
            Some(first)
        }),
        ("fired", |clock, first| {
            clock.advance(s(5));
            Some(first)
        }),
    ];
    for (name, leave) in ways {
        let clock = VirtualClock::new();
        clock.auto_advance(true);
        let mut first = clock.sleep(s(5));
        let mut second = clock.sleep(s(20));
        let (woken, waker) = WakeCount::new();
        assert!(!done(&mut first));
        assert!(poll_with(&mut second, &waker).is_pending());
        assert_eq!(woken.get(), 0, "{name}: only the first asks to be polled");
        let _kept = leave(&clock, first);
        assert_eq!(woken.get(), 1, "{name}: now it is the first");
    }
}

#[test]
fn auto_advance_never_moves_to_never() {
    watched_async("a sleep that never ends", never_to_never());
}

async fn never_to_never() {
    let clock = VirtualClock::new();
    clock.auto_advance(true);
    let (woken, waker) = WakeCount::new();
    let mut never = clock.sleep(Duration::MAX);
    for _ in 0..5 {
        assert!(poll_with(&mut never, &waker).is_pending());
    }
    assert_eq!((woken.get(), clock.monotonic()), (0, Duration::ZERO));
    clock.sleep(s(3)).await;
    assert_eq!(clock.monotonic(), s(3));
    clock.auto_advance(false);
    let mut blocked = clock.sleep(s(1));
    for _ in 0..5 {
        assert!(!done(&mut blocked));
    }
    assert_eq!(clock.monotonic(), s(3));
}

#[tokio::test]
async fn the_real_clock_never_ends_a_sleep_early() {
    let clock = RealClock::new();
    let before = clock.monotonic();
    clock.sleep(ms(2)).await;
    assert!(clock.monotonic() >= before + ms(2));
    clock.sleep_until(Duration::ZERO).await;
    let mut far = clock.sleep(s(3_600));
    assert!(!done(&mut far));
    far.reset(Duration::ZERO);
    far.await;
    for never in [clock.sleep(Duration::MAX), clock.sleep_until(Duration::MAX)] {
        let mut never = never;
        assert!(!done(&mut never));
        never.reset(Duration::MAX);
        assert!(!done(&mut never));
    }
}

#[test]
fn real_clocks_share_their_origin_and_show_this_century() {
    let (first, second) = (RealClock::new(), RealClock::shared());
    let readings = [first.monotonic(), second.monotonic(), first.monotonic()];
    assert!(readings.is_sorted(), "{readings:?}");
    let year_2024 = 1_704_067_200_000_000;
    let year_2100 = 4_102_444_800_000_000;
    assert!((year_2024..year_2100).contains(&first.wall()));
}

//! The virtual clock against a simple model of it, under random histories.

use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;

use navarch_time::{Clock, Sleep, VirtualClock};
use proptest::prelude::*;

use crate::support::poll_with;

#[derive(Clone, Debug)]
enum Step {
    Sleep(u64),
    SleepUntil(u64),
    Poll(usize),
    Reset(usize, u64),
    ResetUntil(usize, u64),
    Cancel(usize),
    Advance(u64),
    AdvanceTo(u64),
    AdvanceToNext,
}

fn step() -> impl Strategy<Value = Step> {
    // Short times, so that deadlines collide.
    let (time, index) = (0_u64..12, any::<usize>());
    prop_oneof![
        4 => time.clone().prop_map(Step::Sleep),
        2 => (0_u64..60).prop_map(Step::SleepUntil),
        4 => index.prop_map(Step::Poll),
        2 => (index, time).prop_map(|(index, time)| Step::Reset(index, time)),
        1 => (index, 0_u64..60).prop_map(|(index, at)| Step::ResetUntil(index, at)),
        2 => index.prop_map(Step::Cancel),
        2 => (0_u64..6).prop_map(Step::Advance),
        1 => (0_u64..60).prop_map(Step::AdvanceTo),
        1 => Just(Step::AdvanceToNext),
    ]
}

/// Writes down its number when it is woken.
struct Recorder {
    number: usize,
    log: Arc<Mutex<Vec<usize>>>,
}

impl Wake for Recorder {
    fn wake(self: Arc<Self>) {
        self.log.lock().unwrap().push(self.number);
    }
}

/// A sleeper as the model sees it.
#[derive(Clone, Debug)]
struct Modelled {
    number: usize,
    deadline: u64,
    order: u64,
    has_waker: bool,
    fired: bool,
}

/// Everything by linear search over a list.
#[derive(Default)]
struct Model {
    now: u64,
    made: u64,
    sleepers: Vec<Modelled>,
    woken: Vec<usize>,
}

impl Model {
    fn arm(&mut self, at: usize, deadline: u64) {
        self.made += 1;
        let sleeper = &mut self.sleepers[at];
        let had_waker = sleeper.has_waker && !sleeper.fired;
        sleeper.deadline = deadline;
        sleeper.order = self.made;
        sleeper.fired = deadline <= self.now;
        sleeper.has_waker = had_waker && !sleeper.fired;
        if had_waker && sleeper.fired {
            self.woken.push(sleeper.number);
        }
    }

    fn move_to(&mut self, target: u64) -> usize {
        self.now = self.now.max(target);
        let mut due: Vec<&mut Modelled> = self
            .sleepers
            .iter_mut()
            .filter(|sleeper| !sleeper.fired && sleeper.deadline <= target)
            .collect();
        due.sort_by_key(|sleeper| (sleeper.deadline, sleeper.order));
        for sleeper in &mut due {
            sleeper.fired = true;
            if std::mem::take(&mut sleeper.has_waker) {
                self.woken.push(sleeper.number);
            }
        }
        due.len()
    }

    fn waiting(&self) -> impl Iterator<Item = &Modelled> {
        self.sleepers.iter().filter(|sleeper| !sleeper.fired)
    }
}

struct Pair {
    clock: VirtualClock,
    log: Arc<Mutex<Vec<usize>>>,
    sleeps: Vec<Sleep>,
    wakers: Vec<Waker>,
    numbers: usize,
    model: Model,
}

impl Pair {
    fn add(&mut self, sleep: Sleep, deadline: u64) {
        let number = self.numbers;
        self.numbers += 1;
        let log = Arc::clone(&self.log);
        self.wakers
            .push(Waker::from(Arc::new(Recorder { number, log })));
        self.sleeps.push(sleep);
        self.model.sleepers.push(Modelled {
            number,
            deadline,
            order: 0,
            has_waker: false,
            fired: false,
        });
        self.model.arm(self.sleeps.len() - 1, deadline);
    }

    fn apply(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let at = |index: usize, len: usize| (len > 0).then(|| index % len);
        let len = self.sleeps.len();
        match *step {
            Step::Sleep(time) => {
                let sleep = self.clock.sleep(Duration::from_secs(time));
                self.add(sleep, self.model.now + time);
            }
            Step::SleepUntil(deadline) => {
                let sleep = self.clock.sleep_until(Duration::from_secs(deadline));
                self.add(sleep, deadline);
            }
            Step::Poll(index) => {
                if let Some(at) = at(index, len) {
                    let ready = poll_with(&mut self.sleeps[at], &self.wakers[at]).is_ready();
                    let sleeper = &mut self.model.sleepers[at];
                    prop_assert_eq!(ready, sleeper.fired);
                    sleeper.has_waker = !sleeper.fired;
                }
            }
            Step::Reset(index, time) => {
                if let Some(at) = at(index, len) {
                    self.sleeps[at].reset(Duration::from_secs(time));
                    self.model.arm(at, self.model.now + time);
                }
            }
            Step::ResetUntil(index, deadline) => {
                if let Some(at) = at(index, len) {
                    self.sleeps[at].reset_until(Duration::from_secs(deadline));
                    self.model.arm(at, deadline);
                }
            }
            Step::Cancel(index) => {
                if let Some(at) = at(index, len) {
                    drop(self.sleeps.remove(at));
                    self.wakers.remove(at);
                    self.model.sleepers.remove(at);
                }
            }
            Step::Advance(time) => {
                let fired = self.clock.advance(Duration::from_secs(time));
                prop_assert_eq!(fired, self.model.move_to(self.model.now + time));
            }
            Step::AdvanceTo(target) => {
                let fired = self.clock.advance_to(Duration::from_secs(target));
                prop_assert_eq!(fired, self.model.move_to(target));
            }
            Step::AdvanceToNext => {
                let next = self.model.waiting().map(|sleeper| sleeper.deadline).min();
                let moved = self.clock.advance_to_next();
                prop_assert_eq!(moved, next.map(Duration::from_secs));
                if let Some(next) = next {
                    self.model.move_to(next);
                }
            }
        }
        self.compare()
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.clock.monotonic(), Duration::from_secs(self.model.now));
        prop_assert_eq!(self.clock.pending(), self.model.waiting().count());
        let next = self.model.waiting().map(|sleeper| sleeper.deadline).min();
        prop_assert_eq!(self.clock.next_deadline(), next.map(Duration::from_secs));
        let woken = self.log.lock().unwrap();
        prop_assert_eq!(&*woken, &self.model.woken);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_clock_does_what_a_list_does(steps in prop::collection::vec(step(), 1..120)) {
        let mut pair = Pair {
            clock: VirtualClock::new(),
            log: Arc::default(),
            sleeps: Vec::new(),
            wakers: Vec::new(),
            numbers: 0,
            model: Model::default(),
        };
        for step in &steps {
            pair.apply(step)?;
        }
        // Whoever is left must not be missed.
        for at in 0..pair.sleeps.len() {
            pair.apply(&Step::Poll(at))?;
        }
        pair.apply(&Step::AdvanceTo(10_000))?;
        prop_assert_eq!(pair.clock.pending(), 0);
    }
}

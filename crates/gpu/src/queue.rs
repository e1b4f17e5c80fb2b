//! The bounded queue between those that notice events and the one that takes them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use navarch_model::{HealthEventType, HealthWatchSystem, Time};

use crate::pairing::{Pairing, Source, XidKey};
use crate::{GpuEvent, Wake};

/// The most events that wait. Too low loses distinct faults of a burst; too high
/// costs memory (about 500 bytes each) while nobody takes them.
const CAPACITY: usize = 1024;

/// Events that wait to be taken, in the order they were noticed.
///
/// When it is full, repeats go first: equal events become one with a count. What
/// still does not fit is dropped and counted, and the loss is an event itself.
#[derive(Debug)]
pub(crate) struct EventQueue {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    events: VecDeque<GpuEvent>,
    capacity: usize,
    /// Whether the queue was full since it was last taken, and so holds no repeats.
    crowded: bool,
    lost: u64,
    lost_wall: Time,
    nudged: bool,
    wake: Option<Wake>,
    pairing: Pairing,
    reading_kernel_log: bool,
    position: Option<u64>,
    taken_position: Option<u64>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("events", &self.events.len())
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

impl Default for EventQueue {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl EventQueue {
    fn with_capacity(capacity: usize) -> Self {
        let inner = Inner {
            capacity,
            ..Inner::default()
        };
        Self {
            inner: Mutex::new(inner),
            changed: Condvar::new(),
        }
    }

    /// Adds an event.
    pub(crate) fn push(&self, event: GpuEvent) {
        let mut inner = self.lock();
        inner.add(event);
        self.tell(inner);
    }

    /// Says that something changed that is no event.
    pub(crate) fn nudge(&self) {
        let mut inner = self.lock();
        inner.nudged = true;
        self.tell(inner);
    }

    /// Adds what one read of the kernel log brought, and notes how far it got.
    pub(crate) fn push_kernel(
        &self,
        events: impl IntoIterator<Item = (Option<XidKey>, GpuEvent)>,
        position: Option<u64>,
    ) {
        let mut inner = self.lock();
        let before = inner.events.len();
        for (key, event) in events {
            let known =
                key.is_some_and(|key| inner.pairing.is_twin(Source::KernelLog, key, event.wall));
            if !known {
                inner.add(event);
            }
        }
        if position.is_some() {
            inner.position = position;
        }
        if inner.events.is_empty() {
            inner.taken_position = inner.position;
        }
        if inner.events.len() > before {
            self.tell(inner);
        }
    }

    /// Says whether somebody reads the kernel log into this queue.
    pub(crate) fn set_reading_kernel_log(&self, reading: bool) {
        self.lock().reading_kernel_log = reading;
    }

    /// Adds an XID that NVML reported, unless the kernel log has said the same.
    ///
    /// While the kernel log is read, it is given `grace` to speak first: its line
    /// has the details that NVML leaves out. Blocks for that long at most.
    pub(crate) fn push_nvml(&self, key: XidKey, event: GpuEvent, grace: Duration) {
        let inner = self.lock();
        let wall = event.wall;
        let waiting = |inner: &mut Inner| {
            inner.reading_kernel_log && !inner.pairing.has_twin(Source::Nvml, key, wall)
        };
        let (mut inner, _) = self
            .changed
            .wait_timeout_while(inner, grace, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        if !inner.pairing.is_twin(Source::Nvml, key, wall) {
            inner.add(event);
            self.tell(inner);
        }
    }

    /// Everything that waits.
    pub(crate) fn take(&self) -> Vec<GpuEvent> {
        self.lock().take()
    }

    /// Everything that waits, after waiting for something if nothing does.
    pub(crate) fn wait(&self, timeout: Duration) -> Vec<GpuEvent> {
        let (mut inner, _) = self
            .changed
            .wait_timeout_while(self.lock(), timeout, |inner| !inner.has_news())
            .unwrap_or_else(PoisonError::into_inner);
        inner.take()
    }

    /// Has `wake` called on every change from now on, and now if something waits.
    pub(crate) fn wake_with(&self, wake: Wake) {
        let mut inner = self.lock();
        inner.wake = Some(wake.clone());
        let news = inner.has_news();
        drop(inner);
        if news {
            wake();
        }
    }

    /// The last kernel-log record whose events were all taken.
    pub(crate) fn taken_position(&self) -> Option<u64> {
        self.lock().taken_position
    }

    fn tell(&self, inner: MutexGuard<'_, Inner>) {
        let wake = inner.wake.clone();
        drop(inner);
        self.changed.notify_all();
        if let Some(wake) = wake {
            wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics half-way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn has_news(&self) -> bool {
        !self.events.is_empty() || self.nudged || self.lost > 0
    }

    fn add(&mut self, event: GpuEvent) {
        if self.events.len() >= self.capacity && !self.crowded {
            self.crowded = true;
            self.merge_repeats();
        }
        if self.crowded
            && let Some(old) = self.events.iter_mut().find(|old| event.is_repeat_of(old))
        {
            merge(old, &event);
        } else if self.events.len() < self.capacity {
            self.events.push_back(event);
        } else {
            self.lost += u64::from(event.count);
            self.lost_wall = event.wall;
        }
    }

    /// Makes one event with a count of every set of equal ones, in the place of the first.
    fn merge_repeats(&mut self) {
        let mut kept: VecDeque<GpuEvent> = VecDeque::new();
        for event in self.events.drain(..) {
            match kept.iter_mut().find(|old| event.is_repeat_of(old)) {
                Some(old) => merge(old, &event),
                None => kept.push_back(event),
            }
        }
        self.events = kept;
    }

    fn take(&mut self) -> Vec<GpuEvent> {
        self.nudged = false;
        self.crowded = false;
        self.taken_position = self.position;
        let mut events: Vec<_> = self.events.drain(..).collect();
        if self.lost > 0 {
            events.push(loss(self.lost, self.lost_wall));
            self.lost = 0;
        }
        events
    }
}

fn merge(old: &mut GpuEvent, new: &GpuEvent) {
    old.count = old.count.saturating_add(new.count);
    old.last_wall = old.last_wall.max(new.last_wall);
}

/// The event that says that events were lost.
pub(crate) fn loss(count: u64, wall: Time) -> GpuEvent {
    GpuEvent::new(HealthWatchSystem::Unknown, HealthEventType::Unknown, wall)
        .metric("events_lost", count)
        .message(&format!("{count} GPU events were lost"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use navarch_model::Time;
    use proptest::prelude::*;

    use super::{CAPACITY, EventQueue};
    use crate::{GpuEvent, MetricValue};

    fn xid(gpu: u32, code: u32, wall: i64) -> GpuEvent {
        GpuEvent::xid(code, Time(wall)).on(gpu, &format!("GPU-{gpu}"))
    }

    #[test]
    fn a_storm_keeps_the_first_of_every_fault_and_counts_the_rest() {
        let queue = EventQueue::default();
        queue.push(xid(0, 79, 1));
        for n in 0..5000 {
            queue.push(xid(1, 45, 2 + n));
        }
        queue.push(xid(2, 48, 9999));
        let events = queue.take();
        assert!(events.len() <= CAPACITY);
        assert_eq!(events[0], xid(0, 79, 1));
        assert!(events.contains(&xid(2, 48, 9999)));
        let storm: Vec<_> = events.iter().filter(|e| e.gpu == Some(1)).collect();
        assert_eq!(storm.iter().map(|e| e.count).sum::<u32>(), 5000);
        assert_eq!(storm[0].wall, Time(2));
        assert_eq!(storm.iter().map(|e| e.last_wall).max(), Some(Time(5001)));
    }

    #[test]
    fn what_does_not_fit_is_a_loss_that_is_told_once() {
        let queue = EventQueue::with_capacity(8);
        for code in 0..15 {
            queue.push(xid(0, code, 5));
        }
        let events = queue.take();
        assert_eq!(events.len(), 9);
        assert_eq!(events[0], xid(0, 0, 5));
        let last = events.last().unwrap();
        assert_eq!(last.metrics["events_lost"], MetricValue::Int(7));
        assert_eq!(queue.take(), []);
    }

    #[test]
    fn a_waiter_returns_for_events_and_for_nudges() {
        let queue = Arc::new(EventQueue::default());
        let forever = Duration::from_secs(600);
        queue.nudge();
        assert_eq!(queue.wait(forever), []);
        let other = queue.clone();
        let thread =
            navarch_time::spawn_thread("pusher", move || other.push(xid(3, 79, 1))).unwrap();
        assert_eq!(queue.wait(forever), [xid(3, 79, 1)]);
        thread.join().unwrap();
        assert_eq!(queue.wait(Duration::ZERO), []);
    }

    #[test]
    fn the_wake_is_called_for_every_change_and_for_what_waited() {
        let queue = EventQueue::default();
        queue.push(xid(0, 79, 1));
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = calls.clone();
        queue.wake_with(Arc::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        queue.push(xid(0, 79, 2));
        queue.nudge();
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn the_position_moves_when_the_events_before_it_are_taken() {
        let queue = EventQueue::default();
        assert_eq!(queue.taken_position(), None);
        queue.push_kernel([], Some(10));
        assert_eq!(queue.taken_position(), Some(10));
        queue.push_kernel([(None, xid(0, 79, 1))], Some(11));
        queue.push_kernel([], Some(12));
        assert_eq!(queue.taken_position(), Some(10));
        assert_eq!(queue.take().len(), 1);
        assert_eq!(queue.taken_position(), Some(12));
    }

    proptest! {
        #[test]
        fn no_event_vanishes_uncounted(codes in prop::collection::vec((0_u32..3, 0_u32..4), 0..60)) {
            let queue = EventQueue::with_capacity(8);
            for (n, (gpu, code)) in codes.iter().enumerate() {
                queue.push(xid(*gpu, *code, n as i64));
            }
            let events = queue.take();
            let mut total = 0;
            for event in &events {
                total += match event.metrics.get("events_lost") {
                    Some(MetricValue::Int(lost)) => *lost as usize,
                    _ => event.count as usize,
                };
            }
            prop_assert_eq!(total, codes.len());
            prop_assert!(events.len() <= 9);
            let first = codes.first().map(|(gpu, code)| xid(*gpu, *code, 0));
            prop_assert!(first.is_none_or(|first| first.is_repeat_of(&events[0])));
        }
    }
}

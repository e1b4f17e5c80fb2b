//! Drives many connections from one thread.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use navarch_time::{Clock as _, RealClock};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::time::Timespec;

use crate::Result;
use crate::raw::{Caller, Lane, Request};

/// Set when the user ends the benchmark; every loop looks at it.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The longest wait for an answer to anything. Far above what a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connections, each with at most one call under way.
pub struct Lanes {
    lanes: Vec<Lane>,
    /// When the call under way was sent.
    sent: Vec<Option<Duration>>,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    clock: RealClock,
}

/// What came of open-loop calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Paced {
    /// Calls that were answered.
    pub answered: u64,
    /// Calls that were due while their connection still waited for an answer.
    pub late: u64,
}

impl Lanes {
    /// Opens `count` connections; for gRPC all for one method.
    pub fn open(caller: &Caller, method: &str, count: usize) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut lanes = Vec::with_capacity(count);
        for number in 0..count {
            let lane = caller.open(method)?;
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&epoll, &lane.stream, data, epoll::EventFlags::IN)?;
            lanes.push(lane);
        }
        Ok(Self {
            sent: vec![None; count],
            lanes,
            epoll,
            events: Vec::with_capacity(count.max(1)),
            clock: RealClock::new(),
        })
    }

    /// How many connections there are.
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    fn send(&mut self, lane: usize, request: &Request) -> Result<()> {
        self.sent[lane] = Some(self.clock.monotonic());
        self.lanes[lane].send(request)
    }

    /// Waits for answers for at most `wait` and hands each to `answered`: its connection, how long
    /// it took, its body. `answered` gives the next request of that connection, or none.
    fn poll(
        &mut self,
        wait: Duration,
        mut answered: impl FnMut(usize, Duration, &[u8]) -> Result<Option<Request>>,
    ) -> Result<()> {
        if INTERRUPTED.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        let timeout = Timespec::try_from(wait)?;
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for at in 0..self.events.len() {
            let number = usize::try_from(self.events[at].data.u64())?;
            let lane = &mut self.lanes[number];
            if !lane.receive()? {
                continue;
            }
            let Some(sent) = self.sent[number].take() else {
                return Err("an answer to nothing".into());
            };
            let took = self.clock.monotonic() - sent;
            let next = answered(number, took, lane.body())?;
            lane.reset();
            if let Some(request) = next {
                self.send(number, &request)?;
            }
        }
        Ok(())
    }

    fn waits(&self) -> bool {
        self.sent.iter().any(Option::is_some)
    }

    /// Calls on every connection, one call after the other, until `next` has no more for it.
    /// `answered` judges each answer.
    pub fn run(
        &mut self,
        mut next: impl FnMut(usize) -> Result<Option<Request>>,
        mut answered: impl FnMut(usize, Duration, &[u8]) -> Result<()>,
    ) -> Result<()> {
        for lane in 0..self.lanes.len() {
            if let Some(request) = next(lane)? {
                self.send(lane, &request)?;
            }
        }
        let mut heard = self.clock.monotonic();
        while self.waits() {
            let mut any = false;
            self.poll(Duration::from_millis(200), |lane, took, body| {
                any = true;
                answered(lane, took, body)?;
                next(lane)
            })?;
            let now = self.clock.monotonic();
            if any {
                heard = now;
            } else if now - heard > PATIENCE {
                return Err("no answer within a minute".into());
            }
        }
        Ok(())
    }

    /// Calls `rate` times a second, however long answers take, until `stop`. Connections take
    /// turns; one that still waits sends nothing, and that call counts as late.
    pub fn pace(
        &mut self,
        rate: f64,
        stop: &AtomicBool,
        mut next: impl FnMut() -> Result<Request>,
        mut check: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Paced> {
        let gap = Duration::from_secs_f64(1.0 / rate);
        let mut paced = Paced::default();
        let mut due = self.clock.monotonic();
        let mut turn = 0;
        while !stop.load(Ordering::Relaxed) {
            while self.clock.monotonic() >= due {
                let request = next()?;
                if self.sent[turn].is_none() {
                    self.send(turn, &request)?;
                } else {
                    paced.late += 1;
                }
                turn = (turn + 1) % self.lanes.len();
                due += gap;
            }
            let wait = due.saturating_sub(self.clock.monotonic());
            self.poll(wait.min(Duration::from_millis(100)), |_, _, body| {
                paced.answered += 1;
                check(body)?;
                Ok(None)
            })?;
        }
        // What is under way is answered, so that the connections can be used again.
        self.run(|_| Ok(None), |_, _, body| check(body))?;
        Ok(paced)
    }
}

/// Sends every request of a list once, over all connections, and judges every answer.
pub fn send_all(
    lanes: &mut Lanes,
    count: usize,
    mut request: impl FnMut(usize) -> Result<Request>,
    mut check: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut at = 0;
    lanes.run(
        |_| {
            if at == count {
                return Ok(None);
            }
            at += 1;
            request(at - 1).map(Some)
        },
        |_, _, body| check(body),
    )
}

/// What a closed loop came to.
#[derive(Debug, Clone, Default)]
pub struct Loop {
    /// Answers a second.
    pub rate: f64,
    /// Body bytes of the last answer.
    pub bytes: usize,
    /// How long each answer took, in order of length.
    pub took: Vec<Duration>,
}

impl Loop {
    /// The time that this share of the answers took at most.
    pub fn quantile(&self, share: f64) -> Duration {
        quantile(&self.took, share)
    }
}

/// The value below which this share of the sorted values lies.
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let at = (share * sorted.len() as f64).ceil() as usize;
    sorted
        .get(at.saturating_sub(1).min(last))
        .copied()
        .unwrap_or_default()
}

/// Keeps one call under way on every connection for a time. Each connection goes through its own
/// requests in turn.
pub fn saturate(
    lanes: &mut Lanes,
    time: Duration,
    requests: &[Vec<Request>],
    mut check: impl FnMut(&[u8]) -> Result<()>,
) -> Result<Loop> {
    let clock = RealClock::new();
    let mut at = vec![0_usize; lanes.count()];
    let mut done = Loop::default();
    let began = clock.monotonic();
    let mut last = began;
    lanes.run(
        |lane| {
            if clock.monotonic() - began >= time {
                return Ok(None);
            }
            let own = &requests[lane % requests.len()];
            at[lane] += 1;
            Ok(Some(Rc::clone(&own[at[lane] % own.len()])))
        },
        |_, took, body| {
            last = clock.monotonic();
            done.took.push(took);
            done.bytes = body.len();
            check(body)
        },
    )?;
    done.rate = done.took.len() as f64 / (last - began).as_secs_f64();
    done.took.sort_unstable();
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_value_of_that_rank() {
        let values: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        for (share, expected) in [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)] {
            assert_eq!(quantile(&values, share).as_millis(), expected, "{share}");
        }
        assert_eq!(quantile(&values[..1], 0.99).as_millis(), 1);
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}

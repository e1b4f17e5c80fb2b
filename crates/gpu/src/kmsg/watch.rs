//! The thread that follows the kernel log.

use std::io::{self, PipeWriter};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use navarch_model::{HealthEventType, HealthWatchSystem, Time};
use navarch_time::{SharedClock, Thread, spawn_thread};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    KernelLogOptions, KernelLogReader, Line, Outcome, Record, parse_message, parse_record,
};
use crate::gpu_map::GpuMap;
use crate::pairing::XidKey;
use crate::pci::PciAddress;
use crate::queue::{EventQueue, loss};
use crate::{GpuEvent, MetricValue};

/// How long to wait at the end of a file that cannot say when it grows.
const IDLE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// The most records read before their events are handed over.
const BATCH: usize = 64;

/// A thread that follows the kernel log until this is dropped.
#[derive(Debug)]
pub(crate) struct KernelLogWatch {
    // Dropped first: closing the pipe is what ends the thread.
    _stop: PipeWriter,
    _thread: Thread<()>,
}

impl KernelLogWatch {
    /// Starts to follow the log.
    pub(crate) fn start(
        options: &KernelLogOptions,
        queue: Arc<EventQueue>,
        gpus: Arc<GpuMap>,
        clock: SharedClock,
    ) -> io::Result<Self> {
        let reader = KernelLogReader::open(&options.path, options.start)?;
        let (stopped, stop) = io::pipe()?;
        let follower = Follower {
            reader,
            queue: queue.clone(),
            gpus,
            clock,
            boot_wall: options.boot_wall,
            live: false,
        };
        // Before the thread, which says so when it gives up.
        queue.set_reading_kernel_log(true);
        let thread = spawn_thread("navarch-kmsg", move || follower.run(&stopped))
            .inspect_err(|_| queue.set_reading_kernel_log(false))?;
        Ok(Self {
            _stop: stop,
            _thread: thread,
        })
    }
}

struct Follower {
    reader: KernelLogReader,
    queue: Arc<EventQueue>,
    gpus: Arc<GpuMap>,
    clock: SharedClock,
    boot_wall: Option<Time>,
    /// Whether all that was in the log at the start was read.
    live: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    More,
    Empty,
    End,
}

impl Follower {
    fn run(mut self, stopped: &impl AsFd) {
        loop {
            let result = self.read_batch().and_then(|state| {
                let mut stop = [PollFd::new(stopped, PollFlags::IN)];
                let stopping = match state {
                    State::More => poll(&mut stop, Some(&Timespec::default())),
                    State::End => poll(&mut stop, Some(&IDLE)),
                    State::Empty => {
                        let log = PollFd::new(&self.reader, PollFlags::IN);
                        let mut both = [stop[0].clone(), log];
                        poll(&mut both, None).map(|_| usize::from(!both[0].revents().is_empty()))
                    }
                };
                match stopping {
                    Ok(ready) => Ok(ready > 0),
                    Err(rustix::io::Errno::INTR) => Ok(false),
                    Err(error) => Err(error.into()),
                }
            });
            match result {
                Ok(false) => {}
                Ok(true) => return,
                Err(error) => return self.give_up(&error),
            }
        }
    }

    /// Reads what is there, up to a limit.
    fn read_batch(&mut self) -> io::Result<State> {
        let mut events = Vec::new();
        let mut position = None;
        let mut state = State::More;
        for _ in 0..BATCH {
            match self.reader.read()? {
                Outcome::Record(text) => {
                    if let Ok(record) = parse_record(&text) {
                        position = Some(record.sequence);
                        events.extend(self.event(&record));
                    }
                }
                Outcome::Lost => events.push((None, self.lost())),
                Outcome::Empty => state = State::Empty,
                Outcome::End => state = State::End,
            }
            if state != State::More {
                self.live = true;
                break;
            }
        }
        self.queue.push_kernel(events, position);
        Ok(state)
    }

    fn event(&self, record: &Record<'_>) -> Option<(Option<XidKey>, GpuEvent)> {
        if !record.is_kernel() {
            return None;
        }
        let (key, mut event) = self.line_event(record)?;
        event.kernel_time_microseconds = Some(record.kernel_time_microseconds);
        Some((key, event))
    }

    fn line_event(&self, record: &Record<'_>) -> Option<(Option<XidKey>, GpuEvent)> {
        let wall = self.date(record);
        match parse_message(record.message)? {
            Line::Xid {
                address,
                code,
                gpu_instance,
            } => {
                let event = GpuEvent::xid(code, wall).message(record.message);
                let event = match gpu_instance {
                    Some(instance) => event.metric("gpu_instance", instance),
                    None => event,
                };
                let key = XidKey { address, code };
                Some((Some(key), self.locate(event, address)))
            }
            Line::Sxid {
                address,
                switch,
                code,
                fatal,
                link,
            } => {
                let mut event = GpuEvent::sxid(code, wall)
                    .metric("switch", switch)
                    .metric("pci_bus_id", address.to_string())
                    .message(record.message);
                if let Some(fatal) = fatal {
                    event = event.metric("sxid_fatal", fatal);
                }
                if let Some(link) = link {
                    event = event.metric("link_id", link);
                }
                Some((None, event))
            }
            Line::SxidDetail => None,
            Line::GpuAt { address, uuid } => {
                self.gpus.learn(address, uuid);
                None
            }
        }
    }

    fn locate(&self, mut event: GpuEvent, address: PciAddress) -> GpuEvent {
        let known = self.gpus.find(address);
        event.gpu = known.index;
        event.uuid = known.uuid;
        if event.gpu.is_none() {
            let text = MetricValue::Text(address.to_string());
            event.metrics.insert("pci_bus_id".to_owned(), text);
        }
        event
    }

    /// What comes in live happened now. What was in the log before is dated by the
    /// kernel's clock, which drifts by minutes over months.
    fn date(&self, record: &Record<'_>) -> Time {
        let now = Time(self.clock.wall());
        let up = Duration::from_micros(record.kernel_time_microseconds);
        match self.boot_wall {
            Some(boot) if !self.live => now.min(boot + up),
            _ => now,
        }
    }

    fn lost(&self) -> GpuEvent {
        loss(1, Time(self.clock.wall()))
            .message("kernel-log records were lost before they were read")
    }

    fn give_up(&self, error: &io::Error) {
        self.queue.set_reading_kernel_log(false);
        let wall = Time(self.clock.wall());
        let event = GpuEvent::new(HealthWatchSystem::Driver, HealthEventType::Unknown, wall);
        let text = format!("the kernel log cannot be read any more: {error}; restart the agent");
        self.queue.push(event.message(&text));
    }
}

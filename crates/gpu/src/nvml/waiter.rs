//! The thread that waits for the library's events.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::Duration;

use navarch_model::{HealthEventType, HealthWatchSystem, Time};
use navarch_time::{SharedClock, Thread, spawn_thread};

use super::ffi;
use super::library::{Event, EventSet, Handle, Nvml};
use crate::gpu_map::GpuMap;
use crate::pairing::XidKey;
use crate::pci::PciAddress;
use crate::queue::EventQueue;
use crate::{GpuError, GpuEvent, watch};

/// How long the kernel log may take to say what the library said. Too low loses
/// the details of an XID; too high delays it where the log is silent.
const KERNEL_LOG_GRACE: Duration = Duration::from_millis(100);

/// The pauses after failed waits: the first, doubled each time up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// How long waiting must work before its next failure counts as the first again.
const STEADY: Duration = Duration::from_secs(10);

/// How long a set without every GPU is used before another try for all of them.
const INCOMPLETE_SET_LIFE: Duration = Duration::from_secs(60);

/// How long dropping waits for a thread that hangs inside the library.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// A wait that ends without an event this much too early did not wait.
const TOO_EARLY: Duration = Duration::from_millis(5);

/// Events in a row after which to draw breath, lest a storm take a whole core.
const STORM_EVENTS: u32 = 256;

pub(super) struct WaiterOptions {
    pub(super) nvml: Arc<Nvml>,
    pub(super) queue: Arc<EventQueue>,
    pub(super) gpus: Arc<GpuMap>,
    pub(super) clock: SharedClock,
    pub(super) wait: Duration,
}

/// The thread. Dropping this stops it; if it hangs inside the library it is left
/// behind, and holds on to the library and its event set until it comes out.
pub(super) struct Waiter {
    stop: Option<Sender<()>>,
    ended: Receiver<()>,
    thread: Option<Thread<()>>,
}

impl Waiter {
    pub(super) fn start(options: WaiterOptions) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let thread = spawn_thread("navarch-nvml", move || {
            Loop::new(options, stopped).run();
            drop(end);
        })?;
        Ok(Self {
            stop: Some(stop),
            ended,
            thread: Some(thread),
        })
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        drop(self.stop.take());
        let hangs = self.ended.recv_timeout(STOP_PATIENCE) == Err(RecvTimeoutError::Timeout);
        if hangs {
            mem::forget(self.thread.take());
        }
    }
}

/// The thread was told to stop.
struct Stopped;

struct Loop {
    options: WaiterOptions,
    stopped: Receiver<()>,
    /// The failure that was told last, so that it is told once.
    told: Option<GpuError>,
    pause: Duration,
}

/// A GPU in the event set.
struct Member {
    handle: Handle,
    index: u32,
    uuid: String,
    address: Option<PciAddress>,
}

impl Loop {
    fn new(options: WaiterOptions, stopped: Receiver<()>) -> Self {
        Self {
            options,
            stopped,
            told: None,
            pause: FIRST_PAUSE,
        }
    }

    fn run(mut self) {
        let nvml = self.options.nvml.clone();
        loop {
            let result = match self.watch(&nvml) {
                Ok(Stopped) => return,
                Err(error) => error,
            };
            if let Some(error) = result {
                self.tell(&error);
            }
            if self.rest(self.pause).is_err() {
                return;
            }
            self.pause = (self.pause * 2).min(LAST_PAUSE);
        }
    }

    /// Waits for events with one set, until told to stop, until a call fails, or
    /// until it is time for another set. The set is freed on the way out.
    fn watch(&mut self, nvml: &Nvml) -> Result<Stopped, Option<GpuError>> {
        let mut set = nvml.event_set()?;
        let (members, complete) = self.register(nvml, &mut set)?;
        let since = self.options.clock.monotonic();
        let milliseconds = u32::try_from(self.options.wait.as_millis()).unwrap_or(u32::MAX);
        let mut in_a_row = 0;
        while self.stopped.try_recv() == Err(TryRecvError::Empty) {
            let before = self.options.clock.monotonic();
            if !complete && before.saturating_sub(since) > INCOMPLETE_SET_LIFE {
                return Err(None);
            }
            let event = set.wait(milliseconds)?;
            if before.saturating_sub(since) > STEADY {
                self.told = None;
                self.pause = FIRST_PAUSE;
            }
            match event {
                Some(event) => {
                    in_a_row += 1;
                    self.push(nvml, &members, &event);
                }
                None => {
                    in_a_row = 0;
                    let waited = self.options.clock.monotonic().saturating_sub(before);
                    if waited + TOO_EARLY < self.options.wait && self.rest(FIRST_PAUSE).is_err() {
                        break;
                    }
                }
            }
            if in_a_row >= STORM_EVENTS {
                in_a_row = 0;
                if self.rest(FIRST_PAUSE).is_err() {
                    break;
                }
            }
        }
        Ok(Stopped)
    }

    /// Adds every GPU that can report XIDs, and says whether those are all GPUs.
    fn register(
        &self,
        nvml: &Nvml,
        set: &mut EventSet<'_>,
    ) -> Result<(Vec<Member>, bool), GpuError> {
        let count = nvml.device_count()?;
        let mut members = Vec::new();
        let mut failure = None;
        for index in 0..count {
            let added = self.add(nvml, set, index);
            match added {
                Ok(member) => members.push(member),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if members.is_empty() => Err(error),
            failure => Ok((members, failure.is_none() && count > 0)),
        }
    }

    fn add(&self, nvml: &Nvml, set: &mut EventSet<'_>, index: u32) -> Result<Member, GpuError> {
        let handle = nvml.handle(index)?;
        let gpu = nvml.gpu(handle, Some(index));
        let member = Member {
            handle,
            index,
            uuid: gpu.uuid()?,
            address: gpu.pci_bus_id().ok().and_then(|text| text.parse().ok()),
        };
        if let Some(address) = member.address {
            self.options.gpus.set(address, index, &member.uuid);
        }
        // Old drivers may not say what a GPU supports; registering tells then.
        let supported = gpu.supported_events().unwrap_or(ffi::EVENT_XID);
        if supported & ffi::EVENT_XID == 0 {
            return Err(GpuError::Call {
                call: "nvmlDeviceGetSupportedEventTypes",
                index: Some(index),
                code: ffi::NOT_SUPPORTED,
                text: "no XID events".to_owned(),
            });
        }
        set.register(&gpu, ffi::EVENT_XID)?;
        Ok(member)
    }

    fn push(&self, nvml: &Nvml, members: &[Member], event: &Event) {
        if event.event_type & ffi::EVENT_XID == 0 {
            return;
        }
        let wall = Time(self.options.clock.wall());
        let code = u32::try_from(event.data).unwrap_or(u32::MAX);
        let mut fact = GpuEvent::xid(code, wall).message(&format!("Xid {code}, reported by NVML"));
        if let Some(instance) = event.gpu_instance {
            fact = fact.metric("gpu_instance", instance);
        }
        let member = members.iter().find(|member| member.handle == event.handle);
        match member {
            Some(member) => fact = fact.on(member.index, &member.uuid),
            None => fact.uuid = nvml.gpu(event.handle, None).uuid().ok(),
        }
        match member.and_then(|member| member.address) {
            Some(address) => {
                let key = XidKey { address, code };
                self.options.queue.push_nvml(key, fact, KERNEL_LOG_GRACE);
            }
            None => self.options.queue.push(fact),
        }
    }

    /// Says once that no events come.
    fn tell(&mut self, error: &GpuError) {
        if self.told.as_ref() == Some(error) {
            return;
        }
        self.told = Some(error.clone());
        // A driver that never had events has not failed.
        if matches!(
            error.code(),
            Some(ffi::FUNCTION_NOT_FOUND | ffi::NOT_SUPPORTED)
        ) {
            return;
        }
        let wall = Time(self.options.clock.wall());
        let mut event = GpuEvent::new(
            HealthWatchSystem::Driver,
            HealthEventType::DriverError,
            wall,
        )
        .watched_by(watch::DRIVER)
        .message(&format!("no GPU events: {error}"));
        if let Some(code) = error.code() {
            event = event.metric("nvml_code", code);
        }
        self.options.queue.push(event);
    }

    fn rest(&self, pause: Duration) -> Result<(), Stopped> {
        match self.stopped.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            _ => Err(Stopped),
        }
    }
}

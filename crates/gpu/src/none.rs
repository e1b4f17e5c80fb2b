//! The backend of a machine without GPUs.

use std::time::Duration;

use crate::queue::EventQueue;
use crate::{Device, GpuBackend, GpuError, GpuEvent, Readings, Wake};

/// A machine without GPUs: it has none, and nothing ever happens to them.
#[derive(Debug, Default)]
pub struct NoneBackend {
    queue: EventQueue,
}

impl NoneBackend {
    /// A machine without GPUs.
    pub fn new() -> Self {
        Self::default()
    }
}

impl GpuBackend for NoneBackend {
    fn name(&self) -> &'static str {
        "none"
    }

    fn device_count(&self) -> Result<u32, GpuError> {
        Ok(0)
    }

    fn device(&self, index: u32) -> Result<Device, GpuError> {
        Err(GpuError::NoSuchDevice { index, count: 0 })
    }

    fn readings(&self, index: u32) -> Result<Readings, GpuError> {
        Err(GpuError::NoSuchDevice { index, count: 0 })
    }

    fn take_events(&self) -> Vec<GpuEvent> {
        self.queue.take()
    }

    fn wait_events(&self, timeout: Duration) -> Vec<GpuEvent> {
        self.queue.wait(timeout)
    }

    fn wake_with(&self, wake: Wake) {
        self.queue.wake_with(wake);
    }
}

//! The trait that every source of GPU facts implements, and the facts it reads.

use std::sync::Arc;
use std::time::Duration;

use crate::{GpuError, GpuEvent};

/// What a backend calls when there is something new. It must not block and must
/// not call the backend.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// A source of raw facts about the GPUs of this machine. It grades nothing.
///
/// Calls may block for as long as the driver does, which is for ever when the
/// driver hangs: callers run them on a thread of their own with a deadline. A
/// hung call holds no lock that [`take_events`](GpuBackend::take_events) needs.
pub trait GpuBackend: Send + Sync {
    /// The backend's name: `nvml`, `fake` or `none`.
    fn name(&self) -> &'static str;

    /// How many GPUs the driver has.
    ///
    /// # Errors
    ///
    /// When the driver does not answer the question.
    fn device_count(&self) -> Result<u32, GpuError>;

    /// What identifies GPU `index`. Indexes run from 0 and may name another GPU
    /// after a reboot; the UUID is what stays.
    ///
    /// # Errors
    ///
    /// When there is no such GPU or the driver does not answer for it.
    fn device(&self, index: u32) -> Result<Device, GpuError>;

    /// What GPU `index` measures now.
    ///
    /// # Errors
    ///
    /// When there is no such GPU or the driver does not answer for it at all. A
    /// single reading that fails is in [`Readings::errors`].
    fn readings(&self, index: u32) -> Result<Readings, GpuError>;

    /// The events since the last call, oldest first. Never blocks on the driver.
    ///
    /// What is taken is the caller's to keep safe.
    fn take_events(&self) -> Vec<GpuEvent>;

    /// Like [`take_events`](GpuBackend::take_events), but waits up to `timeout`
    /// for something new.
    ///
    /// It may return early with nothing when the machine changed in a way that
    /// is no event, for example when a fault was injected or cleared: read
    /// everything again then. Waits in real time.
    fn wait_events(&self, timeout: Duration) -> Vec<GpuEvent>;

    /// Has `wake` called whenever [`wait_events`](GpuBackend::wait_events) would
    /// return, for callers that wait for more than this backend. Replaces the
    /// one set before, and is called at once if something waits already.
    fn wake_with(&self, wake: Wake);

    /// The boot id of the machine that this backend plays, or `None` when the
    /// operating system's counts.
    fn boot_id(&self) -> Option<String> {
        None
    }

    /// The sequence number of the last kernel-log record whose events were all
    /// taken, or `None` when the backend reads no kernel log. Store it after the
    /// events are safe, and start there next time.
    fn kernel_log_position(&self) -> Option<u64> {
        None
    }
}

/// What identifies a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The driver's index of it, from 0.
    pub index: u32,
    /// The driver's UUID of it, for example `GPU-8d7f…`.
    pub uuid: String,
    /// The model, for example `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Where it is on the PCI bus, in the kernel's form: `0000:3b:00.0`.
    pub pci_bus_id: String,
    /// Its memory, in bytes; 0 when the driver does not say.
    pub memory_total_bytes: u64,
    /// The driver's version, empty when it does not say.
    pub driver_version: String,
    /// The newest CUDA version that the driver supports, for example `12.8`;
    /// empty when it does not say.
    pub cuda_version: String,
}

/// What a GPU measures at one moment. `None` means that this GPU or driver does
/// not have the reading.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Readings {
    /// The die's temperature.
    pub temperature_celsius: Option<i32>,
    /// The power drawn by the board.
    pub power_watts: Option<f64>,
    /// Whether the machine's power supply slows the GPU down (NVML's hardware power
    /// brake).
    pub power_brake: Option<bool>,
    /// How busy the GPU was, 0 to 100.
    pub utilization_percent: Option<f64>,
    /// Memory in use.
    pub memory_used_bytes: Option<u64>,
    /// Memory in all.
    pub memory_total_bytes: Option<u64>,
    /// Memory errors corrected since the driver was loaded.
    pub ecc_sbe_total: Option<u64>,
    /// Memory errors not corrected since the driver was loaded.
    pub ecc_dbe_total: Option<u64>,
    /// Memory rows remapped after corrected errors, over the GPU's life.
    pub remapped_rows_correctable: Option<u64>,
    /// Memory rows remapped after uncorrectable errors, over the GPU's life.
    pub remapped_rows_uncorrectable: Option<u64>,
    /// Whether a row waits for the next reset to be remapped.
    pub row_remap_pending: Option<bool>,
    /// Whether the GPU ran out of rows to remap to.
    pub row_remap_failed: Option<bool>,
    /// The driver's own verdict on the repair it needs: 0 none, 1 GPU reset,
    /// 2 node reboot, 3 drain P2P, 4 drain and reset, others as the driver says.
    pub recovery_action: Option<u64>,
    /// NVLink links that carry traffic.
    pub nvlinks_active: Option<u32>,
    /// NVLink links that the GPU has and that are down.
    pub nvlinks_inactive: Option<u32>,
    /// NVLink replay, recovery and CRC errors over all links since the driver
    /// was loaded.
    pub nvlink_errors_total: Option<u64>,
    /// PCIe replays since the driver was loaded.
    pub pcie_replays_total: Option<u64>,
    /// The PCIe generation that the link runs at.
    pub pcie_link_generation: Option<u32>,
    /// The PCIe lanes that the link runs on.
    pub pcie_link_width: Option<u32>,
    /// The readings that this GPU has and that failed now.
    pub errors: Vec<GpuError>,
}

//! The backend over a started libnvidia-ml.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use navarch_time::SharedClock;

use super::ffi;
use super::library::{Gpu, Nvml};
use super::waiter::{Waiter, WaiterOptions};
use crate::gpu_map::GpuMap;
use crate::kmsg::KernelLogOptions;
#[cfg(unix)]
use crate::kmsg::KernelLogWatch;
use crate::pci::PciAddress;
use crate::queue::EventQueue;
use crate::{Device, GpuBackend, GpuError, GpuEvent, Readings, Wake};

/// The library's name, as the driver installs it.
pub const DEFAULT_LIBRARY: &str = if cfg!(windows) {
    "nvml.dll"
} else {
    "libnvidia-ml.so.1"
};

/// How to find and use the library.
#[derive(Debug, Clone)]
pub struct NvmlOptions {
    /// The library: a path, or a name that the loader searches for.
    pub library: PathBuf,
    /// The kernel log to read XIDs from as well, if any: its lines have details
    /// that the library leaves out, and come through when the library fails.
    pub kernel_log: Option<KernelLogOptions>,
    /// The longest the event thread stays inside the library, and so the longest
    /// that dropping the backend waits for it, give or take. Too low costs
    /// processor time.
    pub event_wait: Duration,
    /// Where the kernel lists PCI devices, to tell a machine without GPUs from one
    /// without a driver.
    pub pci_devices: PathBuf,
    /// The clock that dates events.
    pub clock: SharedClock,
}

impl NvmlOptions {
    /// The driver's library, and no kernel log.
    pub fn new(clock: SharedClock) -> Self {
        Self {
            library: DEFAULT_LIBRARY.into(),
            kernel_log: None,
            event_wait: Duration::from_millis(200),
            pci_devices: "/sys/bus/pci/devices".into(),
            clock,
        }
    }
}

/// Real GPUs, through libnvidia-ml.
///
/// A library that is there but does not start is an error of every call, and each
/// call tries again: a driver that comes up late is found, and one that never
/// comes up never looks like a machine without GPUs.
pub struct NvmlBackend {
    options: NvmlOptions,
    queue: Arc<EventQueue>,
    gpus: Arc<GpuMap>,
    up: Mutex<Option<Up>>,
    starting: Mutex<()>,
    #[cfg(unix)]
    _kernel_log: Option<KernelLogWatch>,
    notices: Vec<String>,
}

/// The library while it is started, and the thread that waits for its events.
struct Up {
    nvml: Arc<Nvml>,
    _waiter: Waiter,
}

impl NvmlBackend {
    /// Loads and starts the library, and begins to wait for events.
    ///
    /// # Errors
    ///
    /// [`GpuError::LibraryMissing`] when the library is not installed. Everything
    /// else that fails is the calls' to say.
    pub fn new(options: NvmlOptions) -> Result<Self, GpuError> {
        let started = match Nvml::start(&options.library) {
            Err(error @ GpuError::LibraryMissing { .. }) => return Err(error),
            started => started,
        };
        let queue = Arc::new(EventQueue::default());
        let gpus = Arc::new(GpuMap::default());
        let mut notices = Vec::new();
        #[cfg(unix)]
        let kernel_log = options.kernel_log.as_ref().and_then(|log| {
            let watch =
                KernelLogWatch::start(log, queue.clone(), gpus.clone(), options.clock.clone());
            watch
                .map_err(|error| {
                    notices.push(format!(
                        "cannot read the kernel log {}: {error}; XIDs come from the GPU library alone",
                        log.path.display()
                    ));
                })
                .ok()
        });
        let backend = Self {
            options,
            queue,
            gpus,
            up: Mutex::new(None),
            starting: Mutex::new(()),
            #[cfg(unix)]
            _kernel_log: kernel_log,
            notices: Vec::new(),
        };
        if let Err(error) = started.and_then(|nvml| backend.bring_up(nvml)) {
            notices.push(format!("{error}; trying again at every check"));
        }
        Ok(Self { notices, ..backend })
    }

    /// What is worth a line in the log, about the start.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The started library; starts it if it is not.
    fn nvml(&self) -> Result<Arc<Nvml>, GpuError> {
        if let Some(up) = &*lock(&self.up) {
            return Ok(up.nvml.clone());
        }
        // A start can hang with the driver. Others must not pile up behind it.
        let _starting = match self.starting.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(GpuError::Starting),
        };
        if let Some(up) = &*lock(&self.up) {
            return Ok(up.nvml.clone());
        }
        self.bring_up(Nvml::start(&self.options.library)?)
    }

    fn bring_up(&self, nvml: Nvml) -> Result<Arc<Nvml>, GpuError> {
        let nvml = Arc::new(nvml);
        let options = WaiterOptions {
            nvml: nvml.clone(),
            queue: self.queue.clone(),
            gpus: self.gpus.clone(),
            clock: self.options.clock.clone(),
            wait: self.options.event_wait,
        };
        let waiter = Waiter::start(options).map_err(|error| GpuError::LibraryUnusable {
            library: self.options.library.display().to_string(),
            detail: format!("cannot start the thread that waits for events: {error}"),
        })?;
        *lock(&self.up) = Some(Up {
            nvml: nvml.clone(),
            _waiter: waiter,
        });
        Ok(nvml)
    }

    /// A GPU by index, or why there is none.
    fn with_gpu<T>(
        &self,
        index: u32,
        read: impl FnOnce(&Nvml, &Gpu<'_>) -> Result<T, GpuError>,
    ) -> Result<T, GpuError> {
        let nvml = self.nvml()?;
        let handle = nvml.handle(index).map_err(|error| {
            let unknown = matches!(error.code(), Some(ffi::INVALID_ARGUMENT | ffi::NOT_FOUND));
            match nvml.device_count() {
                Ok(count) if unknown && index >= count => GpuError::NoSuchDevice { index, count },
                _ => error,
            }
        })?;
        read(&nvml, &nvml.gpu(handle, Some(index)))
    }
}

impl GpuBackend for NvmlBackend {
    fn name(&self) -> &'static str {
        "nvml"
    }

    fn device_count(&self) -> Result<u32, GpuError> {
        let result = self.nvml()?.device_count();
        if let Err(error) = &result
            && error.code() == Some(ffi::UNINITIALIZED)
        {
            // The library forgot its start: the next call starts it again. The old
            // one is shut down when its last user lets go of it.
            drop(lock(&self.up).take());
        }
        result
    }

    fn device(&self, index: u32) -> Result<Device, GpuError> {
        self.with_gpu(index, |nvml, gpu| {
            let uuid = gpu.uuid()?;
            let written = gpu.pci_bus_id()?;
            let address = written.parse::<PciAddress>().ok();
            if let Some(address) = address {
                self.gpus.set(address, index, &uuid);
            }
            let mut errors = Vec::new();
            let memory = optional(gpu.memory(), &mut errors)?;
            Ok(Device {
                index,
                uuid,
                name: gpu.name()?,
                pci_bus_id: address.map_or(written, |address| address.to_string()),
                memory_total_bytes: memory.map_or(0, |memory| memory.total),
                driver_version: nvml.driver_version(),
                cuda_version: nvml.cuda_version(),
            })
        })
    }

    fn readings(&self, index: u32) -> Result<Readings, GpuError> {
        self.with_gpu(index, |_, gpu| read(gpu))
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

    fn kernel_log_position(&self) -> Option<u64> {
        self.queue.taken_position()
    }
}

fn read(gpu: &Gpu<'_>) -> Result<Readings, GpuError> {
    let mut errors = Vec::new();
    let e = &mut errors;
    let memory = optional(gpu.memory(), e)?;
    let utilization = optional(gpu.utilization(), e)?;
    let temperature = optional(gpu.temperature(), e)?;
    let power = optional(gpu.power_milliwatts(), e)?;
    let reasons = optional(gpu.clocks_reasons(), e)?;
    let fields = [
        ffi::FIELD_REMAPPED_CORRECTABLE,
        ffi::FIELD_REMAPPED_UNCORRECTABLE,
        ffi::FIELD_REMAP_PENDING,
        ffi::FIELD_REMAP_FAILED,
        ffi::FIELD_RECOVERY_ACTION,
        ffi::FIELD_NVLINK_COUNT,
        ffi::FIELD_NVLINK_REPLAY,
        ffi::FIELD_NVLINK_RECOVERY,
        ffi::FIELD_NVLINK_CRC_FLIT,
        ffi::FIELD_NVLINK_CRC_DATA,
    ];
    let [
        correctable,
        uncorrectable,
        pending,
        failed,
        recovery_action,
        links,
        link_errors @ ..,
    ] = optional(gpu.fields(fields), e)?.unwrap_or_default();
    let (mut active, mut inactive) = (None, None);
    for link in 0..links.unwrap_or(0).min(ffi::NVLINK_MAX_LINKS) as u32 {
        match optional(gpu.nvlink_active(link), e)?.flatten() {
            Some(true) => active = Some(active.unwrap_or(0) + 1),
            Some(false) => inactive = Some(inactive.unwrap_or(0) + 1),
            None => {}
        }
    }
    if active.is_some() || inactive.is_some() {
        active = active.or(Some(0));
        inactive = inactive.or(Some(0));
    }
    let readings = Readings {
        temperature_celsius: temperature.and_then(|celsius| i32::try_from(celsius).ok()),
        power_watts: power.map(|milliwatts| f64::from(milliwatts) / 1000.0),
        power_brake: reasons.map(|reasons| reasons & ffi::CLOCKS_POWER_BRAKE != 0),
        utilization_percent: utilization.map(|utilization| utilization.gpu.into()),
        memory_used_bytes: memory.map(|memory| memory.used),
        memory_total_bytes: memory.map(|memory| memory.total),
        ecc_sbe_total: optional(gpu.ecc_errors(ffi::ECC_CORRECTED), e)?,
        ecc_dbe_total: optional(gpu.ecc_errors(ffi::ECC_UNCORRECTED), e)?,
        remapped_rows_correctable: correctable,
        remapped_rows_uncorrectable: uncorrectable,
        row_remap_pending: pending.map(|yes| yes != 0),
        row_remap_failed: failed.map(|yes| yes != 0),
        recovery_action,
        nvlinks_active: active,
        nvlinks_inactive: inactive,
        nvlink_errors_total: link_errors
            .into_iter()
            .flatten()
            .reduce(u64::saturating_add),
        pcie_replays_total: optional(gpu.pcie_replays(), e)?.map(u64::from),
        pcie_link_generation: optional(gpu.pcie_generation(), e)?,
        pcie_link_width: optional(gpu.pcie_width(), e)?,
        errors: Vec::new(),
    };
    Ok(Readings { errors, ..readings })
}

/// A reading, or nothing where the GPU does not have it. What it has and cannot say
/// goes to `errors`, unless that is because the whole GPU does not answer.
fn optional<T>(
    result: Result<T, GpuError>,
    errors: &mut Vec<GpuError>,
) -> Result<Option<T>, GpuError> {
    let error = match result {
        Ok(value) => return Ok(Some(value)),
        Err(error) => error,
    };
    match error.code() {
        Some(
            ffi::NOT_SUPPORTED
            | ffi::FUNCTION_NOT_FOUND
            | ffi::NO_PERMISSION
            | ffi::NO_DATA
            | ffi::DEPRECATED,
        ) => Ok(None),
        Some(
            ffi::GPU_IS_LOST | ffi::RESET_REQUIRED | ffi::UNINITIALIZED | ffi::DRIVER_NOT_LOADED,
        ) => Err(error),
        _ => {
            errors.push(error);
            Ok(None)
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The backend that plays a machine with GPUs.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use navarch_model::{HealthEventType, HealthWatchSystem, Time};
use navarch_time::SharedClock;

use super::fault::{Fault, FaultError, FaultKind};
use super::noise::{Load, hash, memory_bytes, mix};
use super::state::{FakeState, FaultRecord, Repair, StateError};
use crate::nvml::{GPU_IS_LOST, UNKNOWN_ERROR};
use crate::pci::PciAddress;
use crate::queue::EventQueue;
use crate::{Device, GpuBackend, GpuError, GpuEvent, Readings, Wake, watch};

/// The model of fake GPUs unless another is asked for.
pub const DEFAULT_MODEL: &str = "NVIDIA H100 80GB HBM3";

/// How a fake machine is set up.
#[derive(Debug, Clone)]
pub struct FakeOptions {
    /// How many GPUs, up to [`MAX_GPUS`](super::MAX_GPUS).
    pub gpu_count: u32,
    /// Their model.
    pub model: String,
    /// What the machine's identity comes from, for example the instance id.
    pub seed: String,
    /// How busy the GPUs are on average, 0 to 100.
    pub utilization_percent: f64,
    /// The machine as it was stored, if it was.
    pub state: Option<FakeState>,
    /// The clock that dates events and moves readings.
    pub clock: SharedClock,
}

impl FakeOptions {
    /// Eight GPUs of the default model, half busy, on a new machine.
    pub fn new(seed: impl Into<String>, clock: SharedClock) -> Self {
        Self {
            gpu_count: 8,
            model: DEFAULT_MODEL.to_owned(),
            seed: seed.into(),
            utilization_percent: 50.0,
            state: None,
            clock,
        }
    }
}

/// A machine with GPUs that exist only here, and with faults to order.
///
/// Faults name GPUs by their slot on the machine, which is their index as long as
/// none is missing.
pub struct FakeBackend {
    state: Mutex<FakeState>,
    queue: EventQueue,
    utilization_percent: f64,
    clock: SharedClock,
}

impl fmt::Debug for FakeBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeBackend")
            .field("state", &*self.lock())
            .finish_non_exhaustive()
    }
}

impl FakeBackend {
    /// Sets the machine up, as it was if it was stored: same boot id, UUIDs and
    /// faults. The count and model asked for now win over those stored.
    ///
    /// # Errors
    ///
    /// When the stored state is another machine's or a newer agent's, or there are
    /// too many GPUs.
    pub fn new(options: FakeOptions) -> Result<Self, StateError> {
        if options.gpu_count > super::MAX_GPUS {
            return Err(StateError::GpuCount(options.gpu_count));
        }
        let fresh = FakeState::new(&options.seed, options.gpu_count, &options.model);
        let state = match options.state {
            Some(mut stored) => {
                stored.check(&options.seed)?;
                stored.gpu_count = fresh.gpu_count;
                stored.model = fresh.model;
                stored
            }
            None => fresh,
        };
        Ok(Self {
            state: Mutex::new(state),
            queue: EventQueue::default(),
            utilization_percent: options.utilization_percent,
            clock: options.clock,
        })
    }

    /// The machine as it is, to be stored.
    pub fn state(&self) -> FakeState {
        self.lock().clone()
    }

    /// Injects a fault. See [`inject_with`](FakeBackend::inject_with).
    ///
    /// # Errors
    ///
    /// When this machine cannot have the fault; nothing is recorded then.
    pub fn inject(&self, fault: &Fault) -> Result<(), FaultError> {
        self.inject_with(fault, |_| Ok(()))
    }

    /// Injects a fault: `store` makes the new state durable, and only then does the
    /// fault exist. Its event, if it has one, waits to be taken when this returns.
    ///
    /// # Errors
    ///
    /// When this machine cannot have the fault, or `store` fails; nothing is
    /// recorded then.
    pub fn inject_with(
        &self,
        fault: &Fault,
        store: impl FnOnce(&FakeState) -> Result<(), String>,
    ) -> Result<(), FaultError> {
        let wall = self.now();
        let mut state = self.lock();
        let mut next = state.clone();
        next.inject(fault, wall)?;
        store(&next).map_err(FaultError::NotStored)?;
        let events = events(&state, fault, wall);
        *state = next;
        drop(state);
        for event in events {
            self.queue.push(event);
        }
        self.queue.nudge();
        Ok(())
    }

    /// Repairs the machine. See [`clear_with`](FakeBackend::clear_with).
    pub fn clear(&self, kind: Option<FaultKind>) -> Repair {
        self.clear_with(kind, |_| Ok(()))
            .expect("storing nothing does not fail")
    }

    /// Repairs the machine: takes away the faults of `kind`, or all, and boots.
    /// `store` makes the new state durable first.
    ///
    /// # Errors
    ///
    /// When `store` fails; nothing is repaired then.
    pub fn clear_with(
        &self,
        kind: Option<FaultKind>,
        store: impl FnOnce(&FakeState) -> Result<(), String>,
    ) -> Result<Repair, FaultError> {
        let mut state = self.lock();
        let mut next = state.clone();
        let kinds = kind
            .as_ref()
            .map_or(&FaultKind::ALL[..], std::slice::from_ref);
        let repair = next.clear(kinds, self.now()).clone();
        store(&next).map_err(FaultError::NotStored)?;
        *state = next;
        drop(state);
        self.queue.nudge();
        Ok(repair)
    }

    fn now(&self) -> Time {
        Time(self.clock.wall())
    }

    fn lock(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GpuBackend for FakeBackend {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn device_count(&self) -> Result<u32, GpuError> {
        let state = self.lock();
        check_driver(&state, "nvmlDeviceGetCount_v2")?;
        Ok(visible(&state).len() as u32)
    }

    fn device(&self, index: u32) -> Result<Device, GpuError> {
        let state = self.lock();
        let slot = find(&state, "nvmlDeviceGetHandleByIndex_v2", index)?;
        Ok(Device {
            index,
            uuid: state.uuid(slot),
            name: state.model.clone(),
            pci_bus_id: address(slot).to_string(),
            memory_total_bytes: memory_bytes(&state.model),
            driver_version: "fake".to_owned(),
            cuda_version: "fake".to_owned(),
        })
    }

    fn readings(&self, index: u32) -> Result<Readings, GpuError> {
        let state = self.lock();
        let slot = find(&state, "nvmlDeviceGetHandleByIndex_v2", index)?;
        let load = Load {
            seed: mix(hash(&state.seed) ^ u64::from(slot)),
            utilization_percent: self.utilization_percent,
            memory_total_bytes: memory_bytes(&state.model),
        };
        let now = self.now();
        let mut readings = load.readings(now);
        for record in &state.faults {
            if record.fault.gpu() == Some(slot) {
                show(record, now, &mut readings);
            }
        }
        Ok(readings)
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

    fn boot_id(&self) -> Option<String> {
        Some(self.lock().boot_id.clone())
    }
}

/// The slots that the driver counts; none after a failed boot.
fn visible(state: &FakeState) -> Vec<u32> {
    match state.find(FaultKind::BootFailure, None) {
        Some(_) => Vec::new(),
        None => state.visible(),
    }
}

fn check_driver(state: &FakeState, call: &'static str) -> Result<(), GpuError> {
    let Some(fault) = state.find(FaultKind::BackendError, None) else {
        return Ok(());
    };
    Err(GpuError::Call {
        call,
        index: None,
        code: UNKNOWN_ERROR,
        text: fault.message().unwrap_or("Unknown Error").to_owned(),
    })
}

/// The slot of the GPU with this index, if it answers.
fn find(state: &FakeState, call: &'static str, index: u32) -> Result<u32, GpuError> {
    check_driver(state, call)?;
    let visible = visible(state);
    let slot = visible.get(index as usize).ok_or(GpuError::NoSuchDevice {
        index,
        count: visible.len() as u32,
    })?;
    match state.find(FaultKind::DeviceError, Some(*slot)) {
        Some(fault) => Err(GpuError::Call {
            call,
            index: Some(index),
            code: GPU_IS_LOST,
            text: fault.message().unwrap_or("GPU is lost").to_owned(),
        }),
        None => Ok(*slot),
    }
}

/// What a fault does to the readings of its GPU.
fn show(record: &FaultRecord, now: Time, readings: &mut Readings) {
    let add = |total: &mut Option<u64>, more| *total = Some(total.unwrap_or(0) + more);
    match record.fault {
        Fault::Thermal { temperature, .. } => readings.temperature_celsius = Some(temperature),
        Fault::Memory { sbe, dbe, .. } => {
            readings.ecc_sbe_total = Some(sbe);
            readings.ecc_dbe_total = Some(dbe);
        }
        Fault::Nvlink { .. } => {
            add(&mut readings.nvlink_errors_total, u64::from(record.count));
            readings.nvlinks_active = readings.nvlinks_active.map(|links| links.saturating_sub(1));
            readings.nvlinks_inactive = readings.nvlinks_inactive.map(|links| links + 1);
        }
        Fault::RowRemap { failed, .. } => {
            if failed {
                readings.row_remap_failed = Some(true);
            } else {
                readings.row_remap_pending = Some(true);
            }
            add(
                &mut readings.remapped_rows_uncorrectable,
                u64::from(record.count),
            );
        }
        Fault::Pcie { .. } => {
            // Each injection is news, and so is each reading after it.
            let since = now.since(record.first_wall).as_millis();
            let replays = u64::try_from(since).unwrap_or(u64::MAX);
            let replays = replays.saturating_add(1000 * u64::from(record.count));
            readings.pcie_replays_total = Some(replays);
            readings.pcie_link_width = readings.pcie_link_width.map(|lanes| lanes / 2);
        }
        Fault::Power { .. } => {
            readings.power_brake = Some(true);
            readings.power_watts = readings.power_watts.map(|watts| watts.min(100.0));
        }
        Fault::RecoveryAction { action, .. } => readings.recovery_action = Some(action.into()),
        Fault::Xid { .. }
        | Fault::BackendError { .. }
        | Fault::DeviceError { .. }
        | Fault::BootFailure { .. } => {}
    }
}

/// What the driver reports the moment a fault begins. A failing call, a GPU that is
/// gone and a machine without GPUs report nothing; they are found by asking.
fn events(state: &FakeState, fault: &Fault, wall: Time) -> Vec<GpuEvent> {
    use HealthEventType as Type;
    use HealthWatchSystem as System;
    let Some(slot) = fault.gpu() else {
        return Vec::new();
    };
    let address = address(slot);
    let (events, words) = match fault {
        Fault::Xid { code, .. } => (
            vec![GpuEvent::xid(*code, wall)],
            format!(
                "NVRM: Xid ({}): {code}, injected fault",
                kernel_form(address)
            ),
        ),
        Fault::Thermal { temperature, .. } => (
            vec![
                GpuEvent::new(System::Thermal, Type::Thermal, wall)
                    .watched_by(watch::TEMPERATURE)
                    .metric("temperature", *temperature),
            ],
            format!("injected fault: {temperature} degrees Celsius"),
        ),
        Fault::Memory { sbe, dbe, .. } => {
            let event = |kind, name, count: u64| {
                (count > 0).then(|| {
                    GpuEvent::new(System::Mem, kind, wall)
                        .watched_by(watch::MEMORY)
                        .metric(name, count)
                })
            };
            let events = [
                event(Type::EccSbe, "ecc_sbe_count", *sbe),
                event(Type::EccDbe, "ecc_dbe_count", *dbe),
            ];
            (
                events.into_iter().flatten().collect(),
                format!("injected fault: {sbe} corrected and {dbe} uncorrected memory errors"),
            )
        }
        Fault::Nvlink { link, .. } => (
            vec![
                GpuEvent::new(System::Nvlink, Type::Nvlink, wall)
                    .watched_by(watch::NVLINK)
                    .metric("link_id", *link),
            ],
            format!("injected fault: NVLink link {link} is down"),
        ),
        Fault::RowRemap { failed, .. } => {
            let (name, words) = if *failed {
                ("row_remap_failed", "a bad memory row cannot be remapped")
            } else {
                (
                    "row_remap_pending",
                    "a bad memory row waits for the next reset",
                )
            };
            (
                vec![
                    GpuEvent::new(System::Mem, Type::Memory, wall)
                        .watched_by(watch::MEMORY)
                        .metric(name, true),
                ],
                format!("injected fault: {words}"),
            )
        }
        Fault::Pcie { .. } => (
            vec![
                GpuEvent::new(System::Pcie, Type::Pcie, wall)
                    .watched_by(watch::PCIE)
                    .metric("pcie_replays_new", 1000_u32),
            ],
            "injected fault: the PCIe link repeats packets".to_owned(),
        ),
        Fault::Power { .. } => (
            vec![
                GpuEvent::new(System::Power, Type::Power, wall)
                    .watched_by(watch::POWER)
                    .metric("power_brake", true),
            ],
            "injected fault: the power supply slows the GPU down".to_owned(),
        ),
        Fault::RecoveryAction { action, .. } => (
            vec![
                GpuEvent::new(System::Driver, Type::Unknown, wall)
                    .watched_by(watch::DRIVER)
                    .metric("recovery_action", *action),
            ],
            format!("injected fault: the driver's recovery action is {action}"),
        ),
        Fault::DeviceError { .. } | Fault::BackendError { .. } | Fault::BootFailure { .. } => {
            return Vec::new();
        }
    };
    let words = fault.message().unwrap_or(&words);
    let index = visible(state).iter().position(|other| *other == slot);
    let place = |mut event: GpuEvent| {
        event.gpu = index.map(|index| index as u32);
        event.uuid = Some(state.uuid(slot));
        event.message(words)
    };
    events.into_iter().map(place).collect()
}

/// Where the GPU in `slot` is: one bus each, as behind switches.
fn address(slot: u32) -> PciAddress {
    PciAddress {
        domain: 0,
        bus: (0x10 + slot) as u8,
        device: 0,
    }
}

/// The address as the driver writes it in its messages.
fn kernel_form(address: PciAddress) -> String {
    let text = address.to_string();
    format!("PCI:{}", text.trim_end_matches(".0"))
}

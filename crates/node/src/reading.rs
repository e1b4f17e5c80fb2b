//! From what the GPUs measure to raw facts. Nothing here is graded.
//!
//! A full reading has one fact for every watch that ran, for the machine and for each GPU. A quiet
//! one has the watch and its numbers, and neither event type nor system.

use std::collections::BTreeMap;
use std::time::Duration;

use navarch_core::Fact;
use navarch_core::liveness::GpuSample;
use navarch_gpu::{Device, GpuBackend, GpuError, GpuEvent, MetricValue, Readings, watch};
use navarch_model::{BootId, Gpu, HealthEventType, HealthWatchSystem, Time};

use crate::worker::NoAnswer;

/// The watch of XIDs: a quiet reading says that somebody listens for them.
pub(crate) const XID: &str = "xid";

/// The longest metric value that is sent, in characters of at most four bytes.
const MAX_VALUE_CHARS: usize = 256;

/// Every reading of a machine.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// Whether anything looks after GPUs here.
    pub(crate) watched: bool,
    /// How many GPUs the driver has.
    pub(crate) count: Result<u32, GpuError>,
    /// Each of them.
    pub(crate) gpus: Vec<GpuReading>,
}

/// What one GPU says.
#[derive(Debug, Clone)]
pub(crate) struct GpuReading {
    pub(crate) index: u32,
    pub(crate) device: Result<Device, GpuError>,
    pub(crate) readings: Result<Readings, GpuError>,
}

impl Reading {
    /// Asks the driver for everything. Blocks for as long as it does.
    pub(crate) fn take(backend: &dyn GpuBackend) -> Self {
        let count = backend.device_count();
        let gpus = (0..count.clone().unwrap_or(0))
            .map(|index| GpuReading {
                index,
                device: backend.device(index),
                readings: backend.readings(index),
            })
            .collect();
        Self {
            watched: backend.name() != "none",
            count,
            gpus,
        }
    }

    /// What a heartbeat tells of the GPUs; those that do not answer are left out. Blocks like
    /// [`take`](Self::take).
    pub(crate) fn samples(backend: &dyn GpuBackend) -> Vec<GpuSample> {
        (0..backend.device_count().unwrap_or(0))
            .filter_map(|index| {
                let readings = backend.readings(index).ok()?;
                Some(GpuSample {
                    index: number(index),
                    temperature: readings.temperature_celsius.unwrap_or_default(),
                    power: readings.power_watts.unwrap_or_default() as i32,
                    utilization: readings.utilization_percent.unwrap_or_default(),
                    memory_used: bytes(readings.memory_used_bytes.unwrap_or_default()),
                })
            })
            .collect()
    }
}

/// The GPUs that an agent registers, and those it knew before. One that does not answer is still
/// listed, with what was known of it: it is part of the machine.
pub(crate) fn gpus(reading: &Reading, known: &[Gpu]) -> Vec<Gpu> {
    let same_machine = known.len() == reading.gpus.len();
    reading
        .gpus
        .iter()
        .enumerate()
        .map(|(at, gpu)| match &gpu.device {
            Ok(device) => Gpu {
                index: number(gpu.index),
                uuid: clean(&device.uuid),
                name: clean(&device.name),
                pci_bus_id: clean(&device.pci_bus_id),
                memory_total_bytes: bytes(device.memory_total_bytes),
                driver_version: clean(&device.driver_version),
                cuda_version: clean(&device.cuda_version),
            },
            Err(_) if same_machine => known[at].clone(),
            Err(_) => Gpu {
                index: number(gpu.index),
                ..Gpu::default()
            },
        })
        .collect()
}

/// What makes facts of readings: the boot, and the counters of the reading before, since for a
/// counter that only grows the news is that it grew.
#[derive(Debug, Clone)]
pub(crate) struct Scribe {
    pub(crate) boot: BootId,
    counters: BTreeMap<String, Counters>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    nvlink_errors: Option<u64>,
    pcie_replays: Option<u64>,
}

impl Scribe {
    pub(crate) fn new(boot: BootId) -> Self {
        Self {
            boot,
            counters: BTreeMap::new(),
        }
    }

    /// The facts of a full reading. `known` are the GPUs as they were registered.
    pub(crate) fn full(&mut self, reading: &Reading, known: &[Gpu], wall: Time) -> Vec<Fact> {
        let mut facts = vec![self.boot_fact(wall)];
        match &reading.count {
            Ok(count) => {
                let mut fact = self.quiet(watch::DEVICE_COUNT, wall);
                metric(&mut fact, "gpu_count", *count);
                facts.push(fact);
                if reading.watched {
                    // Events of the machine as a whole, or of a GPU that is gone, end with these.
                    facts.push(self.quiet(watch::DRIVER, wall));
                    facts.push(self.quiet(XID, wall));
                    facts.push(self.quiet(watch::NVLINK, wall));
                }
            }
            Err(error) => facts.push(self.driver_error(&error.to_string(), wall)),
        }
        let mut counters = BTreeMap::new();
        for gpu in &reading.gpus {
            self.gpu(gpu, known, wall, &mut counters, &mut facts);
        }
        self.counters = counters;
        facts
    }

    /// The facts of a reading that no answer came to.
    pub(crate) fn unanswered(&self, why: &NoAnswer, wall: Time) -> Vec<Fact> {
        vec![
            self.boot_fact(wall),
            self.driver_error(&why.to_string(), wall),
        ]
    }

    /// The fact that an event is.
    pub(crate) fn event(&self, event: GpuEvent, known: &[Gpu]) -> Fact {
        let mut metrics: BTreeMap<String, String> = event
            .metrics
            .into_iter()
            .map(|(name, value)| (name, clean(&value.to_string())))
            .collect();
        if event.event_type == HealthEventType::Xid
            && let Some(gpu) = known.first().filter(|gpu| !gpu.driver_version.is_empty())
        {
            let version = metrics.entry("driver_version".to_owned());
            version.or_insert_with(|| gpu.driver_version.clone());
        }
        Fact {
            happened: event.wall.0,
            gpu: event.gpu.map(number),
            gpu_uuid: clean(event.uuid.as_deref().unwrap_or_default()),
            system: event.system,
            event_type: event.event_type,
            metrics,
            message: event.message,
            watch: event.watch.unwrap_or_default().to_owned(),
            boot: Some(self.boot.clone()),
            count: event.count,
        }
    }

    fn quiet(&self, watch: &str, wall: Time) -> Fact {
        Fact {
            happened: wall.0,
            watch: watch.to_owned(),
            boot: Some(self.boot.clone()),
            ..Fact::default()
        }
    }

    fn boot_fact(&self, wall: Time) -> Fact {
        let mut fact = self.quiet(watch::BOOT, wall);
        let boot = self.boot.to_string();
        fact.metrics.insert("boot_id".to_owned(), boot);
        fact
    }

    fn driver_error(&self, message: &str, wall: Time) -> Fact {
        Fact {
            event_type: HealthEventType::DriverError,
            system: HealthWatchSystem::Driver,
            message: clean(message),
            ..self.quiet(watch::DRIVER, wall)
        }
    }

    fn gpu(
        &self,
        gpu: &GpuReading,
        known: &[Gpu],
        wall: Time,
        counters: &mut BTreeMap<String, Counters>,
        facts: &mut Vec<Fact>,
    ) {
        let index = number(gpu.index);
        let uuid = match &gpu.device {
            Ok(device) => clean(&device.uuid),
            Err(_) => known
                .iter()
                .find(|known| known.index == index)
                .map(|known| known.uuid.clone())
                .unwrap_or_default(),
        };
        let place = |fact: Fact| Fact {
            gpu: Some(index),
            gpu_uuid: uuid.clone(),
            ..fact
        };
        facts.push(place(self.quiet(XID, wall)));
        let readings = match (&gpu.device, &gpu.readings) {
            (Ok(_), Ok(readings)) => readings,
            (Err(error), _) | (_, Err(error)) => {
                facts.push(place(self.driver_error(&error.to_string(), wall)));
                return;
            }
        };
        let before = self.counters.get(&uuid).copied().unwrap_or_default();
        let now = Counters {
            nvlink_errors: readings.nvlink_errors_total,
            pcie_replays: readings.pcie_replays_total,
        };
        let watches = [
            Some(self.driver(readings, wall)),
            self.temperature(readings, wall),
            self.memory(readings, wall),
            self.nvlink(readings, before, wall),
            self.pcie(readings, before, wall),
            self.power(readings, wall),
        ];
        facts.extend(watches.into_iter().flatten().map(place));
        counters.insert(uuid.clone(), now);
    }

    fn driver(&self, readings: &Readings, wall: Time) -> Fact {
        let errors: Vec<_> = readings.errors.iter().map(GpuError::to_string).collect();
        let mut fact = if errors.is_empty() {
            self.quiet(watch::DRIVER, wall)
        } else {
            self.driver_error(&errors.join("; "), wall)
        };
        if let Some(action) = readings.recovery_action {
            metric(&mut fact, "recovery_action", action);
            if action != 0 {
                fact.system = HealthWatchSystem::Driver;
            }
        }
        fact
    }

    /// A temperature is a thermal fact whatever it is: how hot is too hot is for the policy.
    fn temperature(&self, readings: &Readings, wall: Time) -> Option<Fact> {
        let celsius = readings.temperature_celsius?;
        let mut fact = Fact {
            event_type: HealthEventType::Thermal,
            system: HealthWatchSystem::Thermal,
            ..self.quiet(watch::TEMPERATURE, wall)
        };
        metric(&mut fact, "temperature", celsius);
        Some(fact)
    }

    fn memory(&self, readings: &Readings, wall: Time) -> Option<Fact> {
        let mut fact = self.quiet(watch::MEMORY, wall);
        let numbers = [
            ("memory_used_bytes", readings.memory_used_bytes),
            ("memory_total_bytes", readings.memory_total_bytes),
            ("ecc_sbe_count", readings.ecc_sbe_total),
            ("ecc_dbe_count", readings.ecc_dbe_total),
            (
                "remapped_rows_correctable",
                readings.remapped_rows_correctable,
            ),
            (
                "remapped_rows_uncorrectable",
                readings.remapped_rows_uncorrectable,
            ),
        ];
        let flags = [
            ("row_remap_pending", readings.row_remap_pending),
            ("row_remap_failed", readings.row_remap_failed),
        ];
        for (name, value) in numbers {
            optional(&mut fact, name, value);
        }
        for (name, value) in flags {
            optional(&mut fact, name, value);
        }
        if fact.metrics.is_empty() {
            return None;
        }
        let counted = |total: Option<u64>| total.is_some_and(|total| total > 0);
        let kind = if counted(readings.ecc_dbe_total) {
            HealthEventType::EccDbe
        } else if counted(readings.ecc_sbe_total) {
            HealthEventType::EccSbe
        } else if readings.row_remap_failed == Some(true)
            || readings.row_remap_pending == Some(true)
        {
            HealthEventType::Memory
        } else {
            return Some(fact);
        };
        fact.event_type = kind;
        fact.system = HealthWatchSystem::Mem;
        Some(fact)
    }

    /// Links that are down count when others of the GPU are up: a board without a bridge has all
    /// of them down. Errors count while they grow, as replays of PCIe do.
    fn nvlink(&self, readings: &Readings, before: Counters, wall: Time) -> Option<Fact> {
        let mut fact = self.quiet(watch::NVLINK, wall);
        optional(&mut fact, "nvlinks_active", readings.nvlinks_active);
        optional(&mut fact, "nvlinks_inactive", readings.nvlinks_inactive);
        optional(&mut fact, "nvlink_errors", readings.nvlink_errors_total);
        if fact.metrics.is_empty() {
            return None;
        }
        let up = |links: Option<u32>| links.is_some_and(|links| links > 0);
        let some_down = up(readings.nvlinks_active) && up(readings.nvlinks_inactive);
        let more = growth(before.nvlink_errors, readings.nvlink_errors_total);
        if more > 0 {
            metric(&mut fact, "nvlink_errors_new", more);
        }
        if some_down || more > 0 {
            fact.event_type = HealthEventType::Nvlink;
            fact.system = HealthWatchSystem::Nvlink;
        } else if is_first(before.nvlink_errors, readings.nvlink_errors_total) {
            return None;
        }
        Some(fact)
    }

    /// Replays count while they grow. Width and generation are told only: links slow down when
    /// they are idle. The first reading after a start cannot know whether they grow, and does not
    /// end what an earlier one found.
    fn pcie(&self, readings: &Readings, before: Counters, wall: Time) -> Option<Fact> {
        let mut fact = self.quiet(watch::PCIE, wall);
        optional(&mut fact, "pcie_replays", readings.pcie_replays_total);
        optional(
            &mut fact,
            "pcie_link_generation",
            readings.pcie_link_generation,
        );
        optional(&mut fact, "pcie_link_width", readings.pcie_link_width);
        if fact.metrics.is_empty() {
            return None;
        }
        if is_first(before.pcie_replays, readings.pcie_replays_total) {
            return None;
        }
        let more = growth(before.pcie_replays, readings.pcie_replays_total);
        if more > 0 {
            metric(&mut fact, "pcie_replays_new", more);
            fact.event_type = HealthEventType::Pcie;
            fact.system = HealthWatchSystem::Pcie;
        }
        Some(fact)
    }

    /// What is drawn is told only: how much is too much is for nobody to say. A brake that the
    /// power supply applies is a fact of its own.
    fn power(&self, readings: &Readings, wall: Time) -> Option<Fact> {
        let mut fact = self.quiet(watch::POWER, wall);
        optional(&mut fact, "power_watts", readings.power_watts);
        optional(&mut fact, "power_brake", readings.power_brake);
        if fact.metrics.is_empty() {
            return None;
        }
        if readings.power_brake == Some(true) {
            fact.event_type = HealthEventType::Power;
            fact.system = HealthWatchSystem::Power;
        }
        Some(fact)
    }
}

/// Whether this is the first reading of a counter that counted something already.
fn is_first(before: Option<u64>, now: Option<u64>) -> bool {
    before.is_none() && now.is_some_and(|now| now > 0)
}

/// By how much a counter grew. One that was not known before, or that went back, did not.
fn growth(before: Option<u64>, now: Option<u64>) -> u64 {
    match (before, now) {
        (Some(before), Some(now)) => now.saturating_sub(before),
        _ => 0,
    }
}

fn metric(fact: &mut Fact, name: &str, value: impl Into<MetricValue>) {
    fact.metrics
        .insert(name.to_owned(), value.into().to_string());
}

fn optional(fact: &mut Fact, name: &str, value: Option<impl Into<MetricValue>>) {
    if let Some(value) = value {
        metric(fact, name, value);
    }
}

fn number(index: u32) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A driver's text, as short and plain as the control plane takes it: a strange byte must not
/// cost the fact.
fn clean(text: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    let limit = navarch_api::limits::MAX_NAME_BYTES;
    let mut text: String = text
        .trim()
        .chars()
        .map(shown)
        .take(MAX_VALUE_CHARS)
        .collect();
    text.truncate(text.floor_char_boundary(limit));
    text
}

/// What a person reads of a full reading: the answer to RUN_DIAGNOSTIC.
pub(crate) fn describe(reading: &Result<Vec<Fact>, NoAnswer>, took: Duration) -> (bool, String) {
    use std::fmt::Write;
    let mut text = String::new();
    let facts = match reading {
        Ok(facts) => facts,
        Err(error) => return (false, error.to_string()),
    };
    for fact in facts {
        let place = fact
            .gpu
            .map_or_else(|| "node".to_owned(), |gpu| format!("gpu {gpu}"));
        let shows = fact.event_type != HealthEventType::Unknown
            && fact.event_type != HealthEventType::Thermal
            || fact.system == HealthWatchSystem::Driver;
        let mut line = format!("{place:<7} {:<13}", fact.watch);
        if shows {
            let _infallible = write!(line, "{} ", fact.event_type.short());
        }
        for (name, value) in &fact.metrics {
            let _infallible = write!(line, "{name}={value} ");
        }
        if !fact.message.is_empty() {
            let _infallible = write!(line, "{}", fact.message);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let _infallible = write!(
        text,
        "{} readings in {} ms; the control plane grades them",
        facts.len(),
        took.as_millis()
    );
    (true, text)
}

#[cfg(test)]
mod tests;

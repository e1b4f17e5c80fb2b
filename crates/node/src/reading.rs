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
        if event.count > 1 {
            metrics.insert("count".to_owned(), event.count.to_string());
        }
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
    /// of them down. Errors count while they grow.
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
        }
        Some(fact)
    }

    /// Replays count while they grow. Width and generation are told only: links slow down when
    /// they are idle.
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
        let more = growth(before.pcie_replays, readings.pcie_replays_total);
        if more > 0 {
            metric(&mut fact, "pcie_replays_new", more);
            fact.event_type = HealthEventType::Pcie;
            fact.system = HealthWatchSystem::Pcie;
        }
        Some(fact)
    }

    fn power(&self, readings: &Readings, wall: Time) -> Option<Fact> {
        let mut fact = self.quiet(watch::POWER, wall);
        metric(&mut fact, "power_watts", readings.power_watts?);
        Some(fact)
    }
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
    let mut findings = 0;
    for fact in facts {
        let place = fact
            .gpu
            .map_or_else(|| "node".to_owned(), |gpu| format!("gpu {gpu}"));
        let shows = fact.event_type != HealthEventType::Unknown
            && fact.event_type != HealthEventType::Thermal
            || fact.system == HealthWatchSystem::Driver;
        findings += u32::from(shows);
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
        "{} readings in {} ms, {findings} of them show something",
        facts.len(),
        took.as_millis()
    );
    (true, text)
}

#[cfg(test)]
mod tests {
    use navarch_gpu::fake::{FakeOptions, Fault};
    use navarch_gpu::{FakeBackend, NoneBackend};
    use navarch_model::HealthStatus;
    use navarch_policy::{EventFacts, HealthPolicy};
    use navarch_time::VirtualClock;

    use super::*;

    const GPUS: u32 = 4;

    fn machine() -> FakeBackend {
        let mut options = FakeOptions::new("n1", VirtualClock::new().shared());
        options.gpu_count = GPUS;
        FakeBackend::new(options).expect("a good machine")
    }

    fn scribe() -> Scribe {
        Scribe::new(BootId::new("boot-1"))
    }

    fn fault(json: &str) -> Fault {
        serde_json::from_str(json).expect(json)
    }

    /// The facts of a machine with these faults.
    fn facts(faults: &[&str]) -> Vec<Fact> {
        let machine = machine();
        let known = gpus(&Reading::take(&machine), &[]);
        for json in faults {
            machine.inject(&fault(json)).expect(json);
        }
        scribe().full(&Reading::take(&machine), &known, Time(7))
    }

    /// A fact in one line: the watch, the GPU, and what it shows.
    fn line(fact: &Fact) -> String {
        let gpu = fact
            .gpu
            .map_or_else(|| "-".to_owned(), |gpu| gpu.to_string());
        let (kind, system) = (fact.event_type.short(), fact.system.short());
        format!("{} {gpu} {kind}/{system}", fact.watch)
    }

    /// What the built-in policy says of a fact, on a machine that should have four GPUs.
    fn verdict(fact: &Fact) -> (HealthStatus, Option<String>) {
        let mut metrics = fact.metrics.clone();
        if metrics.contains_key("gpu_count") {
            metrics.insert("gpu_count_expected".to_owned(), GPUS.to_string());
        }
        let verdict = HealthPolicy::builtin().evaluate(&EventFacts {
            timestamp: fact.happened,
            gpu_index: fact.gpu.unwrap_or(-1),
            gpu_uuid: &fact.gpu_uuid,
            system: fact.system,
            event_type: fact.event_type,
            watch: &fact.watch,
            message: &fact.message,
            metrics: &metrics,
        });
        assert!(
            verdict.findings.is_empty(),
            "{fact:?}: {:?}",
            verdict.findings
        );
        (verdict.result, verdict.rule.map(|rule| rule.to_string()))
    }

    #[test]
    fn a_healthy_machine_is_read_by_every_watch_and_is_healthy() {
        let facts = facts(&[]);
        let mut expected: Vec<String> = ["boot", "device_count", "driver", "xid", "nvlink"]
            .map(|it| format!("{it} - unknown/unknown"))
            .into();
        for gpu in 0..GPUS {
            for watch in [
                "xid",
                "driver",
                "temperature",
                "memory",
                "nvlink",
                "pcie",
                "power",
            ] {
                let shows = if watch == "temperature" {
                    "thermal/thermal"
                } else {
                    "unknown/unknown"
                };
                expected.push(format!("{watch} {gpu} {shows}"));
            }
        }
        assert_eq!(facts.iter().map(line).collect::<Vec<_>>(), expected);
        for fact in &facts {
            assert_eq!(verdict(fact).0, HealthStatus::Healthy, "{fact:?}");
            assert_eq!(
                (fact.happened, fact.boot.as_ref().map(BootId::as_str)),
                (7, Some("boot-1"))
            );
            let placed = fact.gpu.is_none() == fact.gpu_uuid.is_empty();
            assert!(placed, "a GPU is named by its UUID: {fact:?}");
        }
    }

    #[test]
    fn every_fault_that_a_reading_shows_is_graded_as_it_should() {
        use HealthStatus::{Degraded, Unhealthy};
        for (json, shown, result, rule) in [
            (
                r#"{"kind":"thermal","gpu":2,"temperature":98}"#,
                "temperature 2 thermal/thermal",
                Unhealthy,
                "temperature-critical",
            ),
            (
                r#"{"kind":"thermal","gpu":2,"temperature":86}"#,
                "temperature 2 thermal/thermal",
                Degraded,
                "temperature-high",
            ),
            (
                r#"{"kind":"memory","gpu":1,"dbe":1,"sbe":5}"#,
                "memory 1 ecc_dbe/mem",
                Unhealthy,
                "ecc-uncorrectable",
            ),
            (
                r#"{"kind":"memory","gpu":1,"sbe":101}"#,
                "memory 1 ecc_sbe/mem",
                Degraded,
                "ecc-corrected-often",
            ),
            (
                r#"{"kind":"nvlink","gpu":3,"link":5}"#,
                "nvlink 3 nvlink/nvlink",
                Degraded,
                "nvlink",
            ),
            (
                r#"{"kind":"backend-error"}"#,
                "driver - driver_error/driver",
                Unhealthy,
                "driver-failed",
            ),
            (
                r#"{"kind":"device-error","gpu":3}"#,
                "driver 3 driver_error/driver",
                Unhealthy,
                "driver-failed",
            ),
            (
                r#"{"kind":"device-error","gpu":3,"missing":true}"#,
                "device_count - unknown/unknown",
                Unhealthy,
                "gpu-missing",
            ),
            (
                r#"{"kind":"boot-failure"}"#,
                "device_count - unknown/unknown",
                Unhealthy,
                "gpus-gone",
            ),
        ] {
            let found: Vec<_> = facts(&[json])
                .iter()
                .filter(|fact| verdict(fact).0 > HealthStatus::Healthy)
                .map(|fact| (line(fact), verdict(fact)))
                .collect();
            assert_eq!(
                found,
                [(shown.to_owned(), (result, Some(rule.to_owned())))],
                "{json}"
            );
        }
    }

    #[test]
    fn the_event_of_every_fault_is_graded_as_it_should() {
        use HealthStatus::{Degraded, Healthy, Unhealthy};
        for (json, shown, result, rule) in [
            (
                r#"{"kind":"xid","gpu":3,"code":79}"#,
                " 3 xid/driver",
                Unhealthy,
                "xid-reboot",
            ),
            (
                r#"{"kind":"xid","gpu":0,"code":13}"#,
                " 0 xid/driver",
                Degraded,
                "xid-app",
            ),
            (
                r#"{"kind":"xid","gpu":0,"code":99999}"#,
                " 0 xid/driver",
                Degraded,
                "xid-unknown",
            ),
            (
                r#"{"kind":"thermal","gpu":2}"#,
                "temperature 2 thermal/thermal",
                Unhealthy,
                "temperature-critical",
            ),
            (
                r#"{"kind":"memory","gpu":1,"dbe":1}"#,
                "memory 1 ecc_dbe/mem",
                Unhealthy,
                "ecc-uncorrectable",
            ),
            (
                r#"{"kind":"memory","gpu":1,"sbe":1}"#,
                "memory 1 ecc_sbe/mem",
                Healthy,
                "quiet",
            ),
            (
                r#"{"kind":"nvlink","gpu":3}"#,
                "nvlink 3 nvlink/nvlink",
                Degraded,
                "nvlink",
            ),
        ] {
            let machine = machine();
            let known = gpus(&Reading::take(&machine), &[]);
            machine.inject(&fault(json)).expect(json);
            let events = machine.take_events();
            let found: Vec<_> = events
                .into_iter()
                .map(|event| scribe().event(event, &known))
                .map(|fact| (line(&fact), verdict(&fact)))
                .collect();
            assert_eq!(
                found,
                [(shown.to_owned(), (result, Some(rule.to_owned())))],
                "{json}"
            );
        }
    }

    #[test]
    fn counters_count_while_they_grow() {
        let reading = |errors, replays| Reading {
            watched: true,
            count: Ok(1),
            gpus: vec![GpuReading {
                index: 0,
                device: machine().device(0),
                readings: Ok(Readings {
                    nvlinks_active: Some(0),
                    nvlinks_inactive: Some(12),
                    nvlink_errors_total: Some(errors),
                    pcie_replays_total: Some(replays),
                    ..Readings::default()
                }),
            }],
        };
        let mut scribe = scribe();
        let mut shown = |errors, replays| -> Vec<String> {
            let facts = scribe.full(&reading(errors, replays), &[], Time(0));
            let shows = |fact: &&Fact| fact.event_type != HealthEventType::Unknown;
            facts.iter().filter(shows).map(line).collect()
        };
        // The first look knows no earlier one, and a board without a bridge has no link up.
        assert!(shown(10, 5).is_empty());
        assert_eq!(shown(11, 5), ["nvlink 0 nvlink/nvlink"]);
        assert_eq!(shown(11, 9), ["pcie 0 pcie/pcie"]);
        // The driver was loaded again.
        assert!(shown(0, 0).is_empty());
    }

    #[test]
    fn the_drivers_own_verdict_and_failing_calls_are_told() {
        let readings = |errors: Vec<GpuError>, action| Readings {
            recovery_action: Some(action),
            errors,
            ..Readings::default()
        };
        let error = GpuError::Call {
            call: "nvmlDeviceGetTemperature",
            index: Some(0),
            code: 999,
            text: "Unknown Error".to_owned(),
        };
        for (readings, shown, result, rule) in [
            (
                readings(Vec::new(), 0),
                "driver - unknown/unknown",
                HealthStatus::Healthy,
                "quiet",
            ),
            (
                readings(Vec::new(), 1),
                "driver - unknown/driver",
                HealthStatus::Unhealthy,
                "driver-action",
            ),
            (
                readings(Vec::new(), 2),
                "driver - unknown/driver",
                HealthStatus::Unhealthy,
                "driver-action",
            ),
            (
                readings(vec![error], 0),
                "driver - driver_error/driver",
                HealthStatus::Unhealthy,
                "driver-failed",
            ),
        ] {
            let fact = scribe().driver(&readings, Time(0));
            let found = (line(&fact), verdict(&fact));
            assert_eq!(found, (shown.to_owned(), (result, Some(rule.to_owned()))));
        }
    }

    #[test]
    fn a_machine_without_the_library_has_no_gpus_and_no_watches() {
        let facts = scribe().full(&Reading::take(&NoneBackend::new()), &[], Time(0));
        let lines: Vec<_> = facts.iter().map(line).collect();
        assert_eq!(
            lines,
            ["boot - unknown/unknown", "device_count - unknown/unknown"]
        );
        assert_eq!(facts[1].metrics["gpu_count"], "0");
    }

    #[test]
    fn a_driver_that_does_not_answer_is_a_finding() {
        let late = NoAnswer::Late(Duration::from_secs(10));
        let facts = scribe().unanswered(&late, Time(0));
        let found: Vec<_> = facts
            .iter()
            .map(|fact| (line(fact), verdict(fact).0))
            .collect();
        assert_eq!(
            found,
            [
                ("boot - unknown/unknown".to_owned(), HealthStatus::Healthy),
                (
                    "driver - driver_error/driver".to_owned(),
                    HealthStatus::Unhealthy
                ),
            ]
        );
        assert_eq!(
            facts[1].message,
            "the GPU driver did not answer within 10 s"
        );
    }

    #[test]
    fn a_gpu_that_does_not_answer_is_still_part_of_the_machine() {
        let machine = machine();
        let known = gpus(&Reading::take(&machine), &[]);
        machine
            .inject(&fault(r#"{"kind":"device-error","gpu":3}"#))
            .expect("it can be");
        let reading = Reading::take(&machine);
        assert_eq!(gpus(&reading, &known), known);
        let unknown = gpus(&reading, &[]);
        assert_eq!(
            (unknown.len(), unknown[3].index, unknown[3].uuid.as_str()),
            (4, 3, "")
        );
        let facts = scribe().full(&reading, &known, Time(0));
        let lost = facts
            .iter()
            .find(|fact| line(fact) == "driver 3 driver_error/driver");
        assert_eq!(lost.expect("it is told").gpu_uuid, known[3].uuid);
        assert_eq!(Reading::samples(&machine).len(), 3);
    }

    #[test]
    fn texts_of_a_driver_are_made_harmless() {
        let event = GpuEvent::xid(79, Time(1))
            .on(3, "GPU-\u{1b}[2J\0x")
            .metric("odd", "é\n".repeat(10_000));
        let fact = scribe().event(event, &[]);
        assert_eq!(fact.gpu_uuid, "GPU- [2J x");
        let odd = &fact.metrics["odd"];
        assert!(
            odd.len() <= navarch_api::limits::MAX_NAME_BYTES && !odd.contains('\n'),
            "{odd}"
        );
    }

    #[test]
    fn a_diagnostic_says_what_was_read_and_what_shows() {
        let (succeeded, text) = describe(&Ok(facts(&[])), Duration::from_millis(12));
        assert!(
            succeeded && text.ends_with("33 readings in 12 ms, 0 of them show something"),
            "{text}"
        );
        assert!(
            text.contains("\ngpu 3   temperature  temperature="),
            "{text}"
        );
        let (_, text) = describe(
            &Ok(facts(&[r#"{"kind":"nvlink","gpu":1}"#])),
            Duration::ZERO,
        );
        assert!(
            text.contains("gpu 1   nvlink       nvlink ")
                && text.ends_with("1 of them show something"),
            "{text}"
        );
        let hung = Err(NoAnswer::Late(Duration::from_secs(10)));
        assert_eq!(
            describe(&hung, Duration::ZERO),
            (
                false,
                "the GPU driver did not answer within 10 s".to_owned()
            )
        );
    }
}

//! What is broken on a machine, and what its agent reads because of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use navarch_core::Fact;
use navarch_model::{BootId, HealthEventType, HealthWatchSystem, Time};

/// What a GPU without a fault says, in degrees Celsius.
const COOL: i32 = 45;
/// How fast a GPU whose cooling fails heats up, and to what.
const RAMP_PER_DEGREE: Duration = Duration::from_secs(5);
const RAMP_TOP: i32 = 98;
/// NVLink links of a GPU.
const NVLINKS: u32 = 18;

/// What the driver says when every call fails, and of a GPU that answers none.
pub(crate) const UNKNOWN_ERROR: &str = "Unknown Error";
pub(crate) const GPU_IS_LOST: &str = "GPU is lost";

/// Why a GPU is too hot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heat {
    /// When it cools down by itself.
    until: Time,
    /// How hot it is; or from when on it heats up slowly.
    celsius: Result<i32, Time>,
}

impl Heat {
    /// A temperature, in degrees Celsius.
    pub(crate) const fn of(celsius: i32, until: Time) -> Self {
        let celsius = Ok(celsius);
        Self { until, celsius }
    }

    /// A temperature that rises from a moment on.
    pub(crate) const fn rising(from: Time, until: Time) -> Self {
        let celsius = Err(from);
        Self { until, celsius }
    }

    fn at(&self, now: Time) -> i32 {
        if now >= self.until {
            return COOL;
        }
        self.celsius.unwrap_or_else(|from| {
            let steps = now.since(from).as_secs() / RAMP_PER_DEGREE.as_secs();
            i32::try_from(steps).map_or(RAMP_TOP, |steps| (COOL + steps).min(RAMP_TOP))
        })
    }
}

/// What is broken now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// GPUs that are too hot; the hottest reason counts.
    pub(crate) hot: BTreeMap<u32, Vec<Heat>>,
    /// GPUs with uncorrectable memory errors.
    pub(crate) ecc: BTreeSet<u32>,
    /// GPUs that the driver has no more.
    pub(crate) lost: BTreeSet<u32>,
    /// GPUs that answer no call, and what the driver says of them.
    pub(crate) mute: BTreeMap<u32, String>,
    /// GPUs that wait to remap a row, and those that cannot.
    pub(crate) remap_pending: BTreeSet<u32>,
    pub(crate) remap_failed: BTreeSet<u32>,
    /// GPUs with a link that is down.
    pub(crate) nvlink: BTreeSet<u32>,
    /// GPUs whose PCIe link repeats packets.
    pub(crate) pcie: BTreeSet<u32>,
    /// GPUs that the power supply brakes.
    pub(crate) power: BTreeSet<u32>,
    /// Every call to the driver fails, in these words.
    pub(crate) driver: Option<String>,
    /// Calls to the driver never return.
    pub(crate) hung: bool,
    /// The driver came up without GPUs.
    pub(crate) empty: bool,
    /// Results are wrong, which an active test alone shows.
    pub(crate) corrupt: bool,
}

impl Faults {
    /// Whether a reading shows none of it.
    pub(crate) fn is_quiet(&self, now: Time) -> bool {
        let Self {
            hot,
            ecc,
            lost,
            mute,
            remap_pending,
            remap_failed,
            nvlink,
            pcie,
            power,
            driver,
            hung,
            empty,
            corrupt: _,
        } = self;
        let shown = [ecc, lost, remap_pending, remap_failed, nvlink, pcie, power];
        let answers = mute.is_empty() && driver.is_none() && !hung && !empty;
        answers
            && shown.iter().all(|gpus| gpus.is_empty())
            && hot.values().flatten().all(|heat| heat.until <= now)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        let sets = [
            &self.ecc,
            &self.lost,
            &self.remap_pending,
            &self.remap_failed,
            &self.nvlink,
            &self.pcie,
            &self.power,
        ];
        self.hot.len() + self.mute.len() + sets.iter().map(|set| set.len()).sum::<usize>()
    }

    /// Whether the driver has a GPU.
    pub(crate) fn has(&self, gpu: u32) -> bool {
        !self.empty && !self.lost.contains(&gpu)
    }
}

/// A machine as its agent reads it.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    pub(crate) faults: &'a Faults,
    pub(crate) boot: BootId,
    pub(crate) gpus: u32,
    pub(crate) name: &'a str,
    pub(crate) now: Time,
}

impl Reader<'_> {
    /// The UUID of a GPU.
    pub(crate) fn uuid(name: &str, gpu: u32) -> String {
        format!("GPU-fake-{name}-{gpu}")
    }

    fn quiet(&self, watch: &str) -> Fact {
        Fact {
            happened: self.now.0,
            watch: watch.to_owned(),
            boot: Some(self.boot.clone()),
            ..Fact::default()
        }
    }

    fn driver_error(&self, why: &str) -> Fact {
        Fact {
            event_type: HealthEventType::DriverError,
            system: HealthWatchSystem::Driver,
            message: why.to_owned(),
            ..self.quiet("driver")
        }
    }

    /// A reading of every watch, as the real agent makes it.
    pub(crate) fn all(&self) -> Vec<Fact> {
        let faults = self.faults;
        let mut facts = vec![with(self.quiet("boot"), "boot_id", self.boot.to_string())];
        if faults.hung {
            facts.push(self.driver_error("no answer within 10s"));
            return facts;
        }
        if let Some(words) = &faults.driver {
            facts.push(self.driver_error(words));
            return facts;
        }
        let present = (0..self.gpus).filter(|gpu| faults.has(*gpu)).count();
        let count = self.quiet("device_count");
        facts.push(with(count, "gpu_count", present.to_string()));
        facts.extend(["driver", "xid", "nvlink"].map(|watch| self.quiet(watch)));
        for gpu in (0..self.gpus).filter(|gpu| faults.has(*gpu)) {
            self.gpu(gpu, &mut facts);
        }
        facts
    }

    fn gpu(&self, gpu: u32, facts: &mut Vec<Fact>) {
        let faults = self.faults;
        let uuid = Self::uuid(self.name, gpu);
        let place = |fact: Fact| Fact {
            gpu: Some(gpu as i32),
            gpu_uuid: uuid.clone(),
            ..fact
        };
        if let Some(words) = faults.mute.get(&gpu) {
            facts.push(place(self.quiet("xid")));
            facts.push(place(self.driver_error(words)));
            return;
        }
        let heats = faults.hot.get(&gpu).into_iter().flatten();
        let hottest = heats.map(|heat| heat.at(self.now)).max();
        let celsius = hottest.map_or(COOL, |celsius| celsius.max(COOL));
        let mut heat = with(
            place(self.quiet("temperature")),
            "temperature",
            celsius.to_string(),
        );
        heat.event_type = HealthEventType::Thermal;
        heat.system = HealthWatchSystem::Thermal;
        facts.push(heat);
        facts.push(place(self.memory(gpu)));
        for watch in ["driver", "xid"] {
            facts.push(place(self.quiet(watch)));
        }
        let trouble = [
            (
                "nvlink",
                &faults.nvlink,
                HealthEventType::Nvlink,
                HealthWatchSystem::Nvlink,
            ),
            (
                "pcie",
                &faults.pcie,
                HealthEventType::Pcie,
                HealthWatchSystem::Pcie,
            ),
            (
                "power",
                &faults.power,
                HealthEventType::Power,
                HealthWatchSystem::Power,
            ),
        ];
        for (watch, broken, kind, system) in trouble {
            let mut fact = place(self.quiet(watch));
            if broken.contains(&gpu) {
                fact.event_type = kind;
                fact.system = system;
                let metrics: &[(&str, u32)] = match kind {
                    HealthEventType::Nvlink => {
                        &[("nvlinks_active", NVLINKS - 1), ("nvlinks_inactive", 1)]
                    }
                    HealthEventType::Pcie => &[("pcie_replays_new", 250)],
                    _ => &[],
                };
                for (name, value) in metrics {
                    fact = with(fact, name, value.to_string());
                }
                if kind == HealthEventType::Power {
                    fact = with(fact, "power_brake", "true".to_owned());
                }
            }
            facts.push(fact);
        }
    }

    fn memory(&self, gpu: u32) -> Fact {
        let faults = self.faults;
        let errors = u32::from(faults.ecc.contains(&gpu));
        let mut fact = with(self.quiet("memory"), "ecc_dbe_count", errors.to_string());
        if errors > 0 {
            fact.event_type = HealthEventType::EccDbe;
            fact.system = HealthWatchSystem::Mem;
        }
        let remaps = [
            ("row_remap_pending", &faults.remap_pending),
            ("row_remap_failed", &faults.remap_failed),
        ];
        for (name, broken) in remaps {
            if broken.contains(&gpu) {
                fact = with(fact, name, "true".to_owned());
                fact.event_type = HealthEventType::Memory;
                fact.system = HealthWatchSystem::Mem;
            }
        }
        fact
    }
}

fn with(mut fact: Fact, name: &str, value: String) -> Fact {
    fact.metrics.insert(name.to_owned(), value);
    fact
}

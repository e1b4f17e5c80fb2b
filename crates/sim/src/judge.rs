//! Health policies of simulated fleets, and what each of them makes of a reading, said beside it.
//!
//! The control plane under test has the policy alone. Were the checks to evaluate it too, a mistake
//! in that would hide itself: they have the signs that somebody who read the file wrote down. What
//! happened, such as an XID, has none: readings are what a full report is judged by.

use std::fmt::Write;
use std::sync::Arc;

use navarch_core::Fact;
use navarch_model::{HealthEventType, HealthStatus, HealthWatchSystem, Repair};
use navarch_policy::{EventFacts, HealthPolicy};

use crate::streams::Stream;
use HealthStatus::{Degraded, Healthy, Unhealthy};

/// Something that a rule looks for in a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// A GPU of so many degrees Celsius or more.
    Hot(i32),
    /// The same, of the first two GPUs alone.
    HotInFront(i32),
    /// Uncorrectable memory errors, by their count.
    Uncorrectable,
    /// A row that could not be remapped.
    RemapFailed,
    /// A row that waits to be remapped.
    RemapPending,
    /// Fewer GPUs than the machine has.
    Missing,
    /// An event of this type.
    Of(HealthEventType),
}

impl Sign {
    /// Whether a reading of a machine with so many GPUs shows it.
    fn is_in(self, fact: &Fact, gpus: u32) -> bool {
        let number = |name: &str| fact.metrics.get(name)?.parse::<i64>().ok();
        let hot = |limit: i32| number("temperature").is_some_and(|at| at >= limit.into());
        match self {
            Self::Hot(limit) => hot(limit),
            Self::HotInFront(limit) => hot(limit) && fact.gpu.is_some_and(|gpu| gpu < 2),
            Self::Uncorrectable => {
                fact.system == HealthWatchSystem::Mem
                    && number("ecc_dbe_count").is_some_and(|count| count > 0)
            }
            Self::RemapFailed => fact.metrics.contains_key("row_remap_failed"),
            Self::RemapPending => fact.metrics.contains_key("row_remap_pending"),
            Self::Missing => {
                number("gpu_count").is_some_and(|count| count == 0 || count < i64::from(gpus))
            }
            Self::Of(kind) => fact.event_type == kind,
        }
    }
}

/// What the built-in policy makes of the readings of a simulated machine.
const BUILTIN: [(Sign, HealthStatus); 10] = [
    (Sign::Of(HealthEventType::DriverError), Unhealthy),
    (Sign::Missing, Unhealthy),
    (Sign::RemapFailed, Unhealthy),
    (Sign::Uncorrectable, Unhealthy),
    (Sign::RemapPending, Degraded),
    (Sign::Hot(95), Unhealthy),
    (Sign::Hot(85), Degraded),
    (Sign::Of(HealthEventType::Nvlink), Degraded),
    (Sign::Of(HealthEventType::Pcie), Degraded),
    (Sign::Of(HealthEventType::Power), Degraded),
];

/// The other example policies, and what they make of the same.
const EXAMPLES: [(&str, &[(Sign, HealthStatus)]); 5] = [
    (
        include_str!("../../../examples/policies/go-default.yaml"),
        &[
            (Sign::Uncorrectable, Unhealthy),
            (Sign::Hot(95), Unhealthy),
            (Sign::Hot(85), Degraded),
            (Sign::Of(HealthEventType::Nvlink), Degraded),
            (Sign::Of(HealthEventType::Pcie), Degraded),
            (Sign::Of(HealthEventType::Power), Degraded),
        ],
    ),
    (
        include_str!("../../../examples/policies/custom-xid.yaml"),
        &[
            (Sign::Of(HealthEventType::EccDbe), Unhealthy),
            (Sign::Hot(95), Unhealthy),
        ],
    ),
    (
        include_str!("../../../examples/policies/per-gpu.yaml"),
        &[
            (Sign::HotInFront(98), Unhealthy),
            (Sign::HotInFront(90), Degraded),
            (Sign::HotInFront(0), Healthy),
            (Sign::Hot(90), Unhealthy),
            (Sign::Hot(82), Degraded),
        ],
    ),
    (
        include_str!("../../../examples/policies/permissive.yaml"),
        &[
            (Sign::Hot(100), Unhealthy),
            (Sign::Of(HealthEventType::DriverError), Unhealthy),
            (Sign::Missing, Unhealthy),
        ],
    ),
    (
        include_str!("../../../examples/policies/strict.yaml"),
        &[
            (Sign::Of(HealthEventType::EccDbe), Unhealthy),
            (Sign::Hot(80), Unhealthy),
            (Sign::Of(HealthEventType::Nvlink), Unhealthy),
            (Sign::Of(HealthEventType::Pcie), Unhealthy),
            (Sign::Of(HealthEventType::DriverError), Unhealthy),
            (Sign::Missing, Unhealthy),
        ],
    ),
];

/// A health policy, and what it makes of readings.
#[derive(Debug, Clone)]
pub(crate) struct Judge {
    pub(crate) policy: Arc<HealthPolicy>,
    /// The file; empty where nobody needs to see it.
    pub(crate) text: String,
    /// The first sign that a reading shows decides. None of a user's own policy, which only that
    /// can say.
    signs: Option<Vec<(Sign, HealthStatus)>>,
}

impl Judge {
    /// By the policy that is in force when none is configured.
    pub(crate) fn builtin() -> Self {
        Self {
            policy: HealthPolicy::builtin(),
            text: String::new(),
            signs: Some(BUILTIN.to_vec()),
        }
    }

    /// By the policy of a scenario.
    pub(crate) fn of(policy: Arc<HealthPolicy>) -> Self {
        if Arc::ptr_eq(&policy, &HealthPolicy::builtin()) {
            return Self::builtin();
        }
        Self {
            policy,
            text: String::new(),
            signs: None,
        }
    }

    /// By a policy that somebody might write: one of the examples, or rules of which each was drawn.
    pub(crate) fn drawn(draw: &mut Stream) -> Self {
        let written = if draw.chance(0.3) {
            draw.pick(&EXAMPLES)
        } else {
            None
        };
        let (text, signs) = match written {
            Some((text, signs)) => ((*text).to_owned(), signs.to_vec()),
            None => composed(draw),
        };
        let policy = HealthPolicy::parse("drawn", &text).expect("a test loads such files");
        Self {
            policy: Arc::new(policy),
            text,
            signs: Some(signs),
        }
    }

    /// What a reading of a machine with so many GPUs is, by the policy.
    pub(crate) fn makes_of(&self, fact: &Fact, gpus: u32) -> HealthStatus {
        if let Some(signs) = &self.signs {
            let shown = signs.iter().find(|(sign, _)| sign.is_in(fact, gpus));
            return shown.map_or(Healthy, |(_, status)| *status);
        }
        let mut metrics = fact.metrics.clone();
        if metrics.contains_key("gpu_count") {
            metrics.insert("gpu_count_expected".to_owned(), gpus.to_string());
        }
        let facts = EventFacts {
            timestamp: fact.happened,
            gpu_index: fact.gpu.unwrap_or(-1),
            gpu_uuid: &fact.gpu_uuid,
            system: fact.system,
            event_type: fact.event_type,
            watch: &fact.watch,
            message: &fact.message,
            metrics: &metrics,
        };
        self.policy.evaluate(&facts).result
    }
}

/// Rules on readings, in the order in which a drawn policy has them.
const READINGS: [(&str, &str, Sign); 8] = [
    (
        "remap-failed",
        "has(event.metrics.row_remap_failed)",
        Sign::RemapFailed,
    ),
    (
        "memory",
        "has(event.metrics.ecc_dbe_count) && event.metrics.ecc_dbe_count > 0",
        Sign::Uncorrectable,
    ),
    (
        "remap-pending",
        "has(event.metrics.row_remap_pending)",
        Sign::RemapPending,
    ),
    (
        "driver",
        "event.event_type == 'driver_error'",
        Sign::Of(HealthEventType::DriverError),
    ),
    (
        "missing",
        "event.watch == 'device_count' && (event.metrics.gpu_count == 0 || \
         event.metrics.gpu_count < event.metrics.gpu_count_expected)",
        Sign::Missing,
    ),
    (
        "links",
        "event.event_type == 'nvlink'",
        Sign::Of(HealthEventType::Nvlink),
    ),
    (
        "bus",
        "event.event_type == 'pcie'",
        Sign::Of(HealthEventType::Pcie),
    ),
    (
        "supply",
        "event.event_type == 'power'",
        Sign::Of(HealthEventType::Power),
    ),
];

/// What tells XIDs apart that are worse than others.
const WORSE_XIDS: [&str; 2] = [
    "event.repair in ['reset_gpu', 'reboot', 'replace']",
    "event.metrics.xid_code in [79, 48, 94, 119]",
];

/// A policy of which each rule was drawn, and its signs.
fn composed(draw: &mut Stream) -> (String, Vec<(Sign, HealthStatus)>) {
    let mut text = "version: v1\nmetadata: {name: drawn}\nrules:\n".to_owned();
    let mut signs = Vec::new();
    let worse = draw.pick(&WORSE_XIDS).copied();
    if let Some(worse) = worse.filter(|_| draw.chance(0.7)) {
        let condition = format!("event.event_type == 'xid' && {worse}");
        rule(&mut text, "bad-xid", &condition, draw);
    }
    rule(&mut text, "xid", "event.event_type == 'xid'", draw);
    for (name, condition, sign) in READINGS {
        if draw.chance(0.8) {
            let status = rule(&mut text, name, condition, draw);
            signs.push((sign, status));
        }
    }
    let mut limit = 75 + 5 * draw.below(6) as i32;
    for name in ["hot", "warm"] {
        let condition =
            format!("event.event_type == 'thermal' && event.metrics.temperature >= {limit}");
        let status = rule(&mut text, name, &condition, draw);
        signs.push((Sign::Hot(limit), status));
        limit -= 15;
    }
    rule_of(&mut text, "default", "true", Healthy);
    (text, signs)
}

/// Writes a rule of which all but the condition is drawn. Answers its result.
fn rule(text: &mut String, name: &str, condition: &str, draw: &mut Stream) -> HealthStatus {
    let status = [Unhealthy, Unhealthy, Degraded, Healthy][draw.below(4) as usize];
    rule_of(text, name, condition, status);
    // Faults of a class that several rules share are one incident.
    let classes = ["latched", "condition", "shared"];
    let class = draw.pick(&classes).filter(|_| status > Healthy);
    let action = draw.pick(&Repair::ALL).filter(|_| status > Healthy);
    let keys = [
        ("class", class.copied()),
        ("action", action.map(|action| action.word())),
        ("clear_after", draw.pick(&["1m", "5m", "20m"]).copied()),
    ];
    for (key, value) in keys {
        if let Some(value) = value
            && draw.chance(0.4)
        {
            let _ = writeln!(text, "    {key}: {value}");
        }
    }
    status
}

fn rule_of(text: &mut String, name: &str, condition: &str, status: HealthStatus) {
    let _ = writeln!(
        text,
        "  - name: {name}\n    condition: \"{condition}\"\n    result: {}",
        status.short()
    );
}

#[cfg(test)]
mod tests {
    use navarch_model::{BootId, Time};

    use super::*;
    use crate::faults::{Faults, Heat, Reader};

    /// Faults that show in readings: one of each, and two of one memory at once.
    fn broken() -> Vec<Faults> {
        let hot = |celsius: i32| {
            let heat = || vec![Heat::of(celsius, Time::NEVER)];
            Faults {
                hot: [(0, heat()), (2, heat())].into(),
                ..Faults::default()
            }
        };
        let mut all: Vec<Faults> = (70..=101).map(hot).collect();
        let gpu = || [1].into();
        let with = |change: fn(&mut Faults, std::collections::BTreeSet<u32>)| {
            let mut faults = Faults::default();
            change(&mut faults, gpu());
            faults
        };
        all.extend([
            with(|faults, gpu| faults.ecc = gpu),
            with(|faults, gpu| faults.lost = gpu),
            with(|faults, gpu| faults.remap_pending = gpu),
            with(|faults, gpu| faults.remap_failed = gpu),
            with(|faults, gpu| (faults.ecc, faults.remap_failed) = (gpu.clone(), gpu)),
            with(|faults, gpu| (faults.ecc, faults.remap_pending) = (gpu.clone(), gpu)),
            with(|faults, gpu| faults.nvlink = gpu),
            with(|faults, gpu| faults.pcie = gpu),
            with(|faults, gpu| faults.power = gpu),
            with(|faults, _| faults.driver = Some("Unknown Error".to_owned())),
            with(|faults, _| faults.hung = true),
            with(|faults, _| faults.empty = true),
            with(|faults, _| faults.mute = [(1, "GPU is lost".to_owned())].into()),
            Faults::default(),
        ]);
        all
    }

    #[track_caller]
    fn agrees(judge: &Judge) {
        let own = Judge {
            signs: None,
            ..judge.clone()
        };
        for faults in broken() {
            let reader = Reader {
                faults: &faults,
                boot: BootId::new("boot"),
                gpus: 3,
                name: "node",
                now: Time(0),
            };
            for fact in reader.all() {
                let (signs, rules) = (judge.makes_of(&fact, 3), own.makes_of(&fact, 3));
                assert_eq!(signs, rules, "{fact:?}\n{}", judge.text);
            }
        }
    }

    #[test]
    fn signs_say_what_the_rules_say() {
        agrees(&Judge::builtin());
        let mut draw = Stream::named(1, "policies");
        for _ in 0..100 {
            agrees(&Judge::drawn(&mut draw));
        }
    }
}

//! Sample events of every kind, on which a file's rules run once when it is loaded.

use std::collections::BTreeMap;

use navarch_model::{HealthEventType, HealthWatchSystem};

use super::event::EventFactsOwned;

/// A name, the type, system and watch of the event, and its metrics.
type Sample = (
    &'static str,
    HealthEventType,
    HealthWatchSystem,
    &'static str,
    &'static [(&'static str, &'static str)],
);

/// Readings as agents send them: the event, and its name for messages.
pub(super) fn events() -> Vec<(&'static str, EventFactsOwned)> {
    use {HealthEventType as Type, HealthWatchSystem as System};
    let typed: [Sample; 11] = [
        ("xid", Type::Xid, System::Driver, "", &[("xid_code", "79")]),
        (
            "thermal",
            Type::Thermal,
            System::Thermal,
            "temperature",
            &[("temperature", "97")],
        ),
        (
            "power",
            Type::Power,
            System::Power,
            "power",
            &[("power_watts", "712.500000")],
        ),
        (
            "memory",
            Type::Memory,
            System::Mem,
            "memory",
            &[
                ("ecc_sbe_count", "3"),
                ("ecc_dbe_count", "0"),
                ("row_remap_pending", "true"),
                ("row_remap_failed", "false"),
            ],
        ),
        (
            "nvlink",
            Type::Nvlink,
            System::Nvlink,
            "nvlink",
            &[("link_id", "4")],
        ),
        (
            "pcie",
            Type::Pcie,
            System::Pcie,
            "pcie",
            &[("replay_count", "12")],
        ),
        (
            "driver_error",
            Type::DriverError,
            System::Driver,
            "driver",
            &[],
        ),
        (
            "ecc_sbe",
            Type::EccSbe,
            System::Mem,
            "memory",
            &[("ecc_sbe_count", "150")],
        ),
        (
            "ecc_dbe",
            Type::EccDbe,
            System::Mem,
            "memory",
            &[("ecc_dbe_count", "1")],
        ),
        (
            "NVSwitch",
            Type::Nvlink,
            System::Nvswitch,
            "",
            &[("sxid_code", "22003")],
        ),
        (
            "device count",
            Type::Unknown,
            System::Unknown,
            "device_count",
            &[("gpu_count", "7"), ("gpu_count_expected", "8")],
        ),
    ];
    let mut events = Vec::new();
    for (name, event_type, system, watch, metrics) in typed {
        let full = EventFactsOwned {
            timestamp: 1_772_366_400_000_000,
            gpu_index: 3,
            gpu_uuid: "GPU-00000003-0003-0003-0003-000000000003".to_owned(),
            system,
            event_type,
            watch: watch.to_owned(),
            message: "sample".to_owned(),
            metrics: metrics
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        let bare = EventFactsOwned {
            gpu_index: -1,
            gpu_uuid: String::new(),
            message: String::new(),
            metrics: BTreeMap::new(),
            ..full.clone()
        };
        events.push((name, full));
        events.push((name, bare));
    }
    events.push((
        "quiet",
        EventFactsOwned {
            watch: "temperature".to_owned(),
            metrics: BTreeMap::from([("temperature".to_owned(), "45".to_owned())]),
            ..EventFactsOwned::default()
        },
    ));
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_type_has_a_sample() {
        let events = events();
        for &event_type in HealthEventType::ALL {
            assert!(
                events
                    .iter()
                    .any(|(_, event)| event.event_type == event_type),
                "{event_type}"
            );
        }
    }
}

//! The table: what each shipped policy makes of each fault.
//!
//! A row is a machine of its own. Its verdict is read from the control plane: the health status,
//! the node status, and each open incident with the rule that matched. A fault that a policy takes
//! for nothing opens no incident; there the last column is the rule in quotation marks, asked of
//! `navarch policy test`, and a second fault behind it shows that the first was judged.

use std::collections::BTreeMap;

use crate::stage::{Fault, Stage, rule, shipped};

/// What happens, the health status, the node status, and the incidents as `rule class gpu`.
type Row = (
    &'static str,
    &'static [Fault],
    &'static str,
    &'static str,
    &'static [&'static str],
);

/// The fault behind those that a policy takes for nothing. Every policy has a rule for it.
const MARKER: Fault = ("xid", r#"{"gpu": 7, "code": 79}"#);

/// The class and GPU of the marker's incident.
const MARKED: &str = "xid-79 7";

/// NVIDIA's catalogue decides on XIDs, readings decide on the rest.
#[rustfmt::skip]
const CATALOGUE: &[Row] = &[
    ("off-the-bus", &[("xid", r#"{"gpu": 3, "code": 79}"#)],
        "UNHEALTHY", "UNHEALTHY", &["xid-reboot xid-79 3"]),
    ("uncontained", &[("xid", r#"{"gpu": 4, "code": 95}"#)],
        "UNHEALTHY", "UNHEALTHY", &["xid-reset xid-95 4"]),
    ("power-cable", &[("xid", r#"{"gpu": 0, "code": 54}"#)],
        "UNHEALTHY", "UNHEALTHY", &["xid-replace xid-54 0"]),
    ("application", &[("xid", r#"{"gpu": 0, "code": 13}"#), ("xid", r#"{"gpu": 1, "code": 31}"#)],
        "DEGRADED", "ACTIVE", &["xid-app xid-13 0", "xid-app xid-31 1"]),
    ("ignored", &[
        ("xid", r#"{"gpu": 2, "code": 63}"#), ("xid", r#"{"gpu": 2, "code": 92}"#),
        ("xid", r#"{"gpu": 3, "code": 43}"#)],
        "HEALTHY", "ACTIVE", &["\"xid-ignore\""]),
    ("unknown-xid", &[("xid", r#"{"gpu": 5, "code": 999}"#)],
        "DEGRADED", "ACTIVE", &["xid-unknown xid-999 5"]),
    ("driver-wants-reboot", &[("xid", r#"{"gpu": 1, "code": 154, "message":
        "GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)"}"#)],
        "UNHEALTHY", "UNHEALTHY", &["xid-reboot xid-154 1"]),
    ("warm-84", &[("thermal", r#"{"gpu": 1, "temperature": 84}"#)],
        "HEALTHY", "ACTIVE", &["\"quiet\""]),
    ("hot-85", &[("thermal", r#"{"gpu": 1, "temperature": 85}"#)],
        "DEGRADED", "ACTIVE", &["temperature-high thermal 1"]),
    ("hot-94", &[("thermal", r#"{"gpu": 1, "temperature": 94}"#)],
        "DEGRADED", "ACTIVE", &["temperature-high thermal 1"]),
    ("hot-95", &[("thermal", r#"{"gpu": 1, "temperature": 95}"#)],
        "UNHEALTHY", "UNHEALTHY", &["temperature-critical thermal 1"]),
    ("sbe-100", &[("memory", r#"{"gpu": 6, "sbe": 100}"#)],
        "HEALTHY", "ACTIVE", &["\"quiet\""]),
    ("sbe-101", &[("memory", r#"{"gpu": 6, "sbe": 101}"#)],
        "DEGRADED", "ACTIVE", &["ecc-corrected-often ecc_sbe 6"]),
    ("dbe-1", &[("memory", r#"{"gpu": 6, "dbe": 1}"#)],
        "UNHEALTHY", "UNHEALTHY", &["ecc-uncorrectable ecc_dbe 6"]),
    ("remap-pending", &[("report", r#"{"gpuIndex": 2, "watch": "memory",
        "system": "HEALTH_WATCH_SYSTEM_MEM", "eventType": "HEALTH_EVENT_TYPE_MEMORY",
        "metrics": {"row_remap_pending": "true", "row_remap_failed": "false"}}"#)],
        "DEGRADED", "ACTIVE", &["row-remap-pending memory 2"]),
    ("remap-failed", &[("report", r#"{"gpuIndex": 2, "watch": "memory",
        "system": "HEALTH_WATCH_SYSTEM_MEM", "eventType": "HEALTH_EVENT_TYPE_MEMORY",
        "metrics": {"row_remap_pending": "true", "row_remap_failed": "true"}}"#)],
        "UNHEALTHY", "UNHEALTHY", &["row-remap-failed memory 2"]),
    ("link-down", &[("nvlink", r#"{"gpu": 4, "link": 3}"#)],
        "DEGRADED", "ACTIVE", &["nvlink nvlink 4"]),
    ("switch-fatal", &[("report", r#"{"gpuIndex": -1, "system": "HEALTH_WATCH_SYSTEM_NVSWITCH",
        "eventType": "HEALTH_EVENT_TYPE_NVLINK", "metrics": {"sxid_code": "12020"}}"#)],
        "UNHEALTHY", "UNHEALTHY", &["switch-fatal nvlink -1"]),
    ("pcie-replays", &[("report", r#"{"gpuIndex": 0, "watch": "pcie",
        "system": "HEALTH_WATCH_SYSTEM_PCIE", "eventType": "HEALTH_EVENT_TYPE_PCIE",
        "metrics": {"pcie_replays_new": "7"}}"#)],
        "DEGRADED", "ACTIVE", &["pcie pcie 0"]),
    ("power-brake", &[("report", r#"{"gpuIndex": 0, "watch": "power",
        "system": "HEALTH_WATCH_SYSTEM_POWER", "eventType": "HEALTH_EVENT_TYPE_POWER",
        "metrics": {"power_watts": "712.5"}}"#)],
        "DEGRADED", "ACTIVE", &["power power 0"]),
    ("gpu-lost", &[("device-error", r#"{"gpu": 5}"#)],
        "UNHEALTHY", "UNHEALTHY", &["driver-failed driver_error 5"]),
    ("gpu-missing", &[("device-error", r#"{"gpu": 5, "missing": true}"#)],
        "UNHEALTHY", "UNHEALTHY", &["gpu-missing device_count -1"]),
    ("driver-dead", &[("backend-error", "{}")],
        "UNHEALTHY", "UNHEALTHY", &["driver-failed driver_error -1"]),
    ("no-gpus", &[("boot-failure", "{}")],
        "UNHEALTHY", "UNHEALTHY", &["gpus-gone device_count -1"]),
    ("worst-of-several", &[
        ("thermal", r#"{"gpu": 0, "temperature": 90}"#), ("nvlink", r#"{"gpu": 1, "link": 0}"#),
        ("xid", r#"{"gpu": 2, "code": 48}"#), ("xid", r#"{"gpu": 3, "code": 63}"#)],
        "UNHEALTHY", "UNHEALTHY",
        &["nvlink nvlink 1", "temperature-high thermal 0", "xid-reset xid-48 2"]),
    ("several-mild", &[
        ("thermal", r#"{"gpu": 0, "temperature": 90}"#), ("xid", r#"{"gpu": 3, "code": 94}"#)],
        "DEGRADED", "ACTIVE", &["temperature-high thermal 0", "xid-app xid-94 3"]),
];

/// Twenty codes are fatal, what the Go project has no rule for is healthy.
#[rustfmt::skip]
const GO_DEFAULT: &[Row] = &[
    ("application", &[("xid", r#"{"gpu": 0, "code": 13}"#)],
        "UNHEALTHY", "UNHEALTHY", &["fatal-xid xid-13 0"]),
    ("remapped", &[("xid", r#"{"gpu": 0, "code": 63}"#), ("xid", r#"{"gpu": 1, "code": 92}"#)],
        "UNHEALTHY", "UNHEALTHY", &["fatal-xid xid-63 0", "fatal-xid xid-92 1"]),
    ("context-switch", &[("xid", r#"{"gpu": 0, "code": 109}"#)],
        "DEGRADED", "ACTIVE", &["recoverable-xid xid-109 0"]),
    ("unknown-xid", &[("xid", r#"{"gpu": 0, "code": 999}"#)],
        "DEGRADED", "ACTIVE", &["recoverable-xid xid-999 0"]),
    ("warm-84", &[("thermal", r#"{"gpu": 1, "temperature": 84}"#)],
        "HEALTHY", "ACTIVE", &["\"default\""]),
    ("hot-85", &[("thermal", r#"{"gpu": 1, "temperature": 85}"#)],
        "DEGRADED", "ACTIVE", &["thermal-warning thermal 1"]),
    ("hot-95", &[("thermal", r#"{"gpu": 1, "temperature": 95}"#)],
        "UNHEALTHY", "UNHEALTHY", &["thermal-critical thermal 1"]),
    ("sbe-100", &[("memory", r#"{"gpu": 6, "sbe": 100}"#)],
        "HEALTHY", "ACTIVE", &["\"default\""]),
    ("sbe-101", &[("memory", r#"{"gpu": 6, "sbe": 101}"#)],
        "DEGRADED", "ACTIVE", &["ecc-sbe-high ecc_sbe 6"]),
    ("dbe-2", &[("memory", r#"{"gpu": 6, "dbe": 2}"#)],
        "UNHEALTHY", "UNHEALTHY", &["ecc-dbe ecc_dbe 6"]),
    ("remap-failed", &[("report", r#"{"gpuIndex": 2, "watch": "memory",
        "system": "HEALTH_WATCH_SYSTEM_MEM", "eventType": "HEALTH_EVENT_TYPE_MEMORY",
        "metrics": {"row_remap_failed": "true"}}"#)],
        "HEALTHY", "ACTIVE", &["\"default\""]),
    ("link-down", &[("nvlink", r#"{"gpu": 4, "link": 3}"#)],
        "DEGRADED", "ACTIVE", &["nvlink-error nvlink 4"]),
    ("pcie-replays", &[("report", r#"{"gpuIndex": 0, "watch": "pcie",
        "system": "HEALTH_WATCH_SYSTEM_PCIE", "eventType": "HEALTH_EVENT_TYPE_PCIE",
        "metrics": {"pcie_replays_new": "7"}}"#)],
        "DEGRADED", "ACTIVE", &["pcie-error pcie 0"]),
    ("power-brake", &[("report", r#"{"gpuIndex": 0, "watch": "power",
        "system": "HEALTH_WATCH_SYSTEM_POWER", "eventType": "HEALTH_EVENT_TYPE_POWER",
        "metrics": {"power_watts": "712.5"}}"#)],
        "DEGRADED", "ACTIVE", &["power-warning power 0"]),
    ("gpu-lost", &[("device-error", r#"{"gpu": 5}"#)],
        "HEALTHY", "ACTIVE", &["\"default\""]),
    ("worst-of-several", &[
        ("thermal", r#"{"gpu": 0, "temperature": 90}"#), ("xid", r#"{"gpu": 2, "code": 119}"#),
        ("xid", r#"{"gpu": 3, "code": 8}"#)],
        "UNHEALTHY", "UNHEALTHY",
        &["fatal-xid xid-119 2", "recoverable-xid xid-8 3", "thermal-warning thermal 0"]),
];

/// Whatever the driver says takes the machine out.
#[rustfmt::skip]
const STRICT: &[Row] = &[
    ("every-xid", &[
        ("xid", r#"{"gpu": 0, "code": 13}"#), ("xid", r#"{"gpu": 0, "code": 63}"#),
        ("xid", r#"{"gpu": 1, "code": 43}"#), ("xid", r#"{"gpu": 2, "code": 999}"#)],
        "UNHEALTHY", "UNHEALTHY",
        &["any-xid xid-13 0", "any-xid xid-43 1", "any-xid xid-63 0", "any-xid xid-999 2"]),
    ("ignored-by-nvidia", &[("xid", r#"{"gpu": 0, "code": 92}"#)],
        "UNHEALTHY", "UNHEALTHY", &["any-xid xid-92 0"]),
    ("sbe-1", &[("memory", r#"{"gpu": 3, "sbe": 1}"#)],
        "UNHEALTHY", "UNHEALTHY", &["memory ecc_sbe 3"]),
    ("warm-79", &[("thermal", r#"{"gpu": 3, "temperature": 79}"#)],
        "HEALTHY", "ACTIVE", &["\"default\""]),
    ("warm-80", &[("thermal", r#"{"gpu": 3, "temperature": 80}"#)],
        "UNHEALTHY", "UNHEALTHY", &["heat thermal 3"]),
    ("link-down", &[("nvlink", r#"{"gpu": 4, "link": 3}"#)],
        "UNHEALTHY", "UNHEALTHY", &["links nvlink 4"]),
    ("pcie-replays", &[("report", r#"{"gpuIndex": 0, "watch": "pcie",
        "system": "HEALTH_WATCH_SYSTEM_PCIE", "eventType": "HEALTH_EVENT_TYPE_PCIE",
        "metrics": {"pcie_replays_new": "7"}}"#)],
        "UNHEALTHY", "UNHEALTHY", &["links pcie 0"]),
    ("gpu-missing", &[("device-error", r#"{"gpu": 7, "missing": true}"#)],
        "UNHEALTHY", "UNHEALTHY", &["gpu-missing device_count -1"]),
];

/// Only what makes a machine useless counts.
#[rustfmt::skip]
const PERMISSIVE: &[Row] = &[
    ("off-the-bus", &[("xid", r#"{"gpu": 3, "code": 79}"#)],
        "DEGRADED", "ACTIVE", &["xid xid-79 3"]),
    ("driver-asks", &[("report", r#"{"gpuIndex": 3, "watch": "driver",
        "system": "HEALTH_WATCH_SYSTEM_DRIVER", "metrics": {"recovery_action": "2"}}"#)],
        "UNHEALTHY", "UNHEALTHY", &["driver-asks-for-reboot driver 3"]),
    ("hot-99", &[("thermal", r#"{"gpu": 3, "temperature": 99}"#)],
        "HEALTHY", "ACTIVE", &["\"default\""]),
    ("hot-100", &[("thermal", r#"{"gpu": 3, "temperature": 100}"#)],
        "UNHEALTHY", "UNHEALTHY", &["heat thermal 3"]),
    ("dbe-5", &[("memory", r#"{"gpu": 3, "dbe": 5}"#)],
        "HEALTHY", "ACTIVE", &["\"default\""]),
    ("link-down", &[("nvlink", r#"{"gpu": 4, "link": 3}"#)],
        "HEALTHY", "ACTIVE", &["\"default\""]),
    ("driver-dead", &[("backend-error", "{}")],
        "UNHEALTHY", "UNHEALTHY", &["driver driver_error -1"]),
    ("no-gpus", &[("boot-failure", "{}")],
        "UNHEALTHY", "UNHEALTHY", &["gpu-missing device_count -1"]),
];

/// The first two GPUs may be warmer than the others.
#[rustfmt::skip]
const PER_GPU: &[Row] = &[
    ("warm-slot-89", &[("thermal", r#"{"gpu": 0, "temperature": 89}"#)],
        "HEALTHY", "ACTIVE", &["\"default\""]),
    ("warm-slot-97", &[("thermal", r#"{"gpu": 0, "temperature": 97}"#)],
        "DEGRADED", "ACTIVE", &["warm-slot-high thermal 0"]),
    ("warm-slot-98", &[("thermal", r#"{"gpu": 1, "temperature": 98}"#)],
        "UNHEALTHY", "UNHEALTHY", &["warm-slot-critical thermal 1"]),
    ("other-slot-81", &[("thermal", r#"{"gpu": 7, "temperature": 81}"#)],
        "HEALTHY", "ACTIVE", &["\"default\""]),
    ("other-slot-89", &[("thermal", r#"{"gpu": 2, "temperature": 89}"#)],
        "DEGRADED", "ACTIVE", &["high thermal 2"]),
    ("other-slot-90", &[("thermal", r#"{"gpu": 2, "temperature": 90}"#)],
        "UNHEALTHY", "UNHEALTHY", &["critical thermal 2"]),
    ("both-at-92", &[
        ("thermal", r#"{"gpu": 0, "temperature": 92}"#), ("thermal", r#"{"gpu": 3, "temperature": 92}"#)],
        "UNHEALTHY", "UNHEALTHY", &["critical thermal 3", "warm-slot-high thermal 0"]),
    ("double-bit", &[("xid", r#"{"gpu": 0, "code": 48}"#)],
        "UNHEALTHY", "UNHEALTHY", &["xid xid-48 0"]),
    ("application", &[("xid", r#"{"gpu": 0, "code": 13}"#)],
        "HEALTHY", "ACTIVE", &["\"default\""]),
];

/// Exceptions in front of NVIDIA's verdicts.
#[rustfmt::skip]
const CUSTOM_XID: &[Row] = &[
    ("our-bug", &[
        ("xid", r#"{"gpu": 0, "code": 13}"#), ("xid", r#"{"gpu": 1, "code": 31}"#),
        ("xid", r#"{"gpu": 2, "code": 43}"#), ("xid", r#"{"gpu": 3, "code": 45}"#)],
        "HEALTHY", "ACTIVE", &["\"known-application-bug\""]),
    ("bad-batch", &[("xid", r#"{"gpu": 0, "code": 92}"#)],
        "UNHEALTHY", "UNHEALTHY", &["bad-batch failing-memory 0"]),
    ("flaps", &[("xid", r#"{"gpu": 0, "code": 74}"#)],
        "DEGRADED", "ACTIVE", &["link-flaps xid-74 0"]),
    ("firmware", &[("xid", r#"{"gpu": 0, "code": 119}"#)],
        "UNHEALTHY", "UNHEALTHY", &["xid-unhealthy xid-119 0"]),
    ("contained", &[("xid", r#"{"gpu": 0, "code": 94}"#)],
        "DEGRADED", "ACTIVE", &["xid-other xid-94 0"]),
    ("hot-94", &[("thermal", r#"{"gpu": 0, "temperature": 94}"#)],
        "HEALTHY", "ACTIVE", &["\"default\""]),
    ("hot-95", &[("thermal", r#"{"gpu": 0, "temperature": 95}"#)],
        "UNHEALTHY", "UNHEALTHY", &["heat thermal 0"]),
    ("dbe-1", &[("memory", r#"{"gpu": 0, "dbe": 1}"#)],
        "UNHEALTHY", "UNHEALTHY", &["ecc-uncorrectable ecc_dbe 0"]),
];

/// The rule that takes a row's faults for nothing, if one does.
fn harmless(row: &Row) -> Option<&'static str> {
    row.4.first()?.strip_prefix('"')?.strip_suffix('"')
}

fn prove(policy: &str, rows: &[Row]) {
    let mut stage = Stage::start(&shipped(policy));
    let machines: Vec<(&str, &[Fault])> = rows.iter().map(|row| (row.0, row.1)).collect();
    stage.add(&machines);
    for (name, faults, ..) in rows {
        for fault in *faults {
            stage.inject(name, *fault);
        }
    }
    let wanted: BTreeMap<&str, &Row> = rows.iter().map(|row| (row.0, row)).collect();
    let as_wanted = |name: &str, shown: &crate::stage::Shown| {
        let (_, _, health, status, incidents) = wanted[name];
        let none: &[&str] = &[];
        let incidents = harmless(wanted[name]).map_or(*incidents, |_| none);
        shown.health == *health && shown.status == *status && shown.incidents == incidents
    };
    stage.until_shown("every row is as the table says", as_wanted);

    // What opens nothing was not overlooked: it came before what opens something.
    for row in rows {
        let Some(expected) = harmless(row) else {
            continue;
        };
        for fault in row.1 {
            assert_eq!(
                rule(&stage, *fault),
                expected,
                "{policy}: {} {fault:?}",
                row.0
            );
        }
        stage.inject(row.0, MARKER);
    }
    stage.until_shown(
        "the marker is all that the others opened",
        |name, shown| match harmless(wanted[name]) {
            Some(_) => shown.incidents.len() == 1 && shown.incidents[0].ends_with(MARKED),
            None => as_wanted(name, shown),
        },
    );
}

#[test]
fn catalogue() {
    prove("catalogue", CATALOGUE);
}

#[test]
fn go_default() {
    prove("go-default", GO_DEFAULT);
}

#[test]
fn strict() {
    prove("strict", STRICT);
}

#[test]
fn permissive() {
    prove("permissive", PERMISSIVE);
}

#[test]
fn per_gpu() {
    prove("per-gpu", PER_GPU);
}

#[test]
fn custom_xid() {
    prove("custom-xid", CUSTOM_XID);
}

#[test]
fn the_table_has_every_shipped_policy_and_thirty_rows() {
    let tables = [
        ("catalogue", CATALOGUE),
        ("custom-xid", CUSTOM_XID),
        ("go-default", GO_DEFAULT),
        ("per-gpu", PER_GPU),
        ("permissive", PERMISSIVE),
        ("strict", STRICT),
    ];
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/policies");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder of the examples")
        .map(|entry| entry.expect("a file").path())
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    files.sort();
    assert_eq!(files, tables.map(|(name, _)| name));
    let rows: usize = tables.iter().map(|(_, rows)| rows.len()).sum();
    assert!(rows >= 30, "{rows} rows");
}

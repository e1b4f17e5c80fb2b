//! The shipped example policies: what they say of the same events.

use navarch_model::{FaultKind, HealthStatus, Repair};
use navarch_policy::{HealthPolicy, aggregate};

use crate::support::{event, policy, verdict};

const GO_DEFAULT: &str = include_str!("../../../../examples/policies/go-default.yaml");
const CATALOGUE: &str = include_str!("../../../../examples/policies/catalogue.yaml");

/// Event, then result and rule by the Go project's policy, then by the catalogue's.
#[rustfmt::skip]
const TABLE: &[(&str, &str, &str, &str, &str)] = &[
    ("event_type=xid xid_code=13",  "unhealthy", "fatal-xid", "degraded", "xid-app"),
    ("event_type=xid xid_code=31",  "unhealthy", "fatal-xid", "degraded", "xid-app"),
    ("event_type=xid xid_code=32",  "unhealthy", "fatal-xid", "degraded", "xid-app"),
    ("event_type=xid xid_code=43",  "unhealthy", "fatal-xid", "healthy", "xid-ignore"),
    ("event_type=xid xid_code=45",  "unhealthy", "fatal-xid", "degraded", "xid-app"),
    ("event_type=xid xid_code=48",  "unhealthy", "fatal-xid", "unhealthy", "xid-reset"),
    ("event_type=xid xid_code=61",  "unhealthy", "fatal-xid", "degraded", "xid-unknown"),
    ("event_type=xid xid_code=62",  "unhealthy", "fatal-xid", "unhealthy", "xid-reset"),
    ("event_type=xid xid_code=63",  "unhealthy", "fatal-xid", "healthy", "xid-ignore"),
    ("event_type=xid xid_code=64",  "unhealthy", "fatal-xid", "unhealthy", "xid-reset"),
    ("event_type=xid xid_code=68",  "unhealthy", "fatal-xid", "degraded", "xid-app"),
    ("event_type=xid xid_code=69",  "unhealthy", "fatal-xid", "degraded", "xid-app"),
    ("event_type=xid xid_code=74",  "unhealthy", "fatal-xid", "unhealthy", "xid-reset"),
    ("event_type=xid xid_code=79",  "unhealthy", "fatal-xid", "unhealthy", "xid-reboot"),
    ("event_type=xid xid_code=92",  "unhealthy", "fatal-xid", "healthy", "xid-ignore"),
    ("event_type=xid xid_code=94",  "unhealthy", "fatal-xid", "degraded", "xid-app"),
    ("event_type=xid xid_code=95",  "unhealthy", "fatal-xid", "unhealthy", "xid-reset"),
    ("event_type=xid xid_code=100", "unhealthy", "fatal-xid", "degraded", "xid-app"),
    ("event_type=xid xid_code=119", "unhealthy", "fatal-xid", "unhealthy", "xid-reset"),
    ("event_type=xid xid_code=120", "unhealthy", "fatal-xid", "unhealthy", "xid-reset"),
    ("event_type=xid xid_code=8",   "degraded", "recoverable-xid", "degraded", "xid-app"),
    ("event_type=xid xid_code=46",  "degraded", "recoverable-xid", "unhealthy", "xid-reset"),
    ("event_type=xid xid_code=54",  "degraded", "recoverable-xid", "unhealthy", "xid-replace"),
    ("event_type=xid xid_code=109", "degraded", "recoverable-xid", "unhealthy", "xid-reset"),
    ("event_type=xid xid_code=151", "degraded", "recoverable-xid", "unhealthy", "xid-reboot"),
    ("event_type=xid xid_code=999", "degraded", "recoverable-xid", "degraded", "xid-unknown"),
    ("event_type=xid",              "degraded", "recoverable-xid", "degraded", "xid-unknown"),
    ("event_type=xid xid_code=13 recovery_action=2", "unhealthy", "fatal-xid", "unhealthy", "xid-reboot"),
    ("event_type=xid xid_code=79 recovery_action=0", "unhealthy", "fatal-xid", "healthy", "xid-ignore"),
    ("event_type=ecc_dbe",                           "unhealthy", "ecc-dbe", "unhealthy", "ecc-uncorrectable"),
    ("event_type=ecc_dbe ecc_dbe_count=0",           "unhealthy", "ecc-dbe", "healthy", "quiet"),
    ("event_type=memory system=mem ecc_dbe_count=1", "unhealthy", "ecc-dbe", "unhealthy", "ecc-uncorrectable"),
    ("event_type=memory system=mem ecc_dbe_count=0", "healthy", "default", "healthy", "quiet"),
    ("event_type=memory ecc_dbe_count=1",            "healthy", "default", "unhealthy", "ecc-uncorrectable"),
    ("event_type=ecc_sbe ecc_sbe_count=100",         "healthy", "default", "healthy", "quiet"),
    ("event_type=ecc_sbe ecc_sbe_count=101",         "degraded", "ecc-sbe-high", "degraded", "ecc-corrected-often"),
    ("event_type=thermal temperature=84",            "healthy", "default", "healthy", "quiet"),
    ("event_type=thermal temperature=84.9",          "healthy", "default", "healthy", "quiet"),
    ("event_type=thermal temperature=85",            "degraded", "thermal-warning", "degraded", "temperature-high"),
    ("event_type=thermal temperature=94.999999",     "degraded", "thermal-warning", "degraded", "temperature-high"),
    ("event_type=thermal temperature=95.000000",     "unhealthy", "thermal-critical", "unhealthy", "temperature-critical"),
    ("event_type=thermal",                           "healthy", "default", "healthy", "quiet"),
    ("watch=temperature temperature=96",             "healthy", "default", "unhealthy", "temperature-critical"),
    ("watch=temperature temperature=45",             "healthy", "default", "healthy", "quiet"),
    ("event_type=nvlink link_id=3",                  "degraded", "nvlink-error", "degraded", "nvlink"),
    ("system=nvlink",                                "degraded", "nvlink-error", "degraded", "nvlink"),
    ("event_type=nvlink system=nvswitch sxid_code=11012", "degraded", "nvlink-error", "healthy", "switch-ignore"),
    ("event_type=nvlink system=nvswitch sxid_code=12020", "degraded", "nvlink-error", "unhealthy", "switch-fatal"),
    ("event_type=nvlink system=nvswitch sxid_code=1",     "degraded", "nvlink-error", "degraded", "nvlink"),
    ("event_type=nvlink system=nvswitch sxid_code=1 sxid_fatal=true",  "degraded", "nvlink-error", "unhealthy", "switch-fatal"),
    ("event_type=nvlink system=nvswitch sxid_code=1 sxid_fatal=false", "degraded", "nvlink-error", "degraded", "nvlink"),
    ("event_type=memory system=mem row_remap_failed=true",   "healthy", "default", "unhealthy", "row-remap-failed"),
    ("event_type=memory system=mem row_remap_pending=true row_remap_failed=false", "healthy", "default", "degraded", "row-remap-pending"),
    ("event_type=ecc_dbe system=mem ecc_dbe_count=1 row_remap_failed=true", "unhealthy", "ecc-dbe", "unhealthy", "row-remap-failed"),
    ("event_type=ecc_sbe ecc_sbe_count=101 row_remap_failed=true", "degraded", "ecc-sbe-high", "unhealthy", "row-remap-failed"),
    ("event_type=ecc_dbe ecc_dbe_count=1 row_remap_pending=true", "unhealthy", "ecc-dbe", "unhealthy", "ecc-uncorrectable"),
    ("event_type=ecc_sbe ecc_sbe_count=1 row_remap_pending=true", "healthy", "default", "degraded", "row-remap-pending"),
    ("watch=memory row_remap_pending=false ecc_dbe_count=0", "healthy", "default", "healthy", "quiet"),
    ("event_type=pcie",                              "degraded", "pcie-error", "degraded", "pcie"),
    ("event_type=power power_watts=700.5",           "degraded", "power-warning", "degraded", "power"),
    ("event_type=driver_error system=driver",        "healthy", "default", "unhealthy", "driver-failed"),
    ("watch=device_count gpu_count=8 gpu_count_expected=8", "healthy", "default", "healthy", "quiet"),
    ("watch=device_count gpu_count=7 gpu_count_expected=8", "healthy", "default", "unhealthy", "gpu-missing"),
    ("watch=device_count gpu_count=0",               "healthy", "default", "unhealthy", "gpus-gone"),
    ("watch=device_count gpu_count=8",               "healthy", "default", "healthy", "quiet"),
    ("watch=driver recovery_action=1",               "healthy", "default", "unhealthy", "driver-action"),
    ("watch=driver recovery_action=0",               "healthy", "default", "healthy", "quiet"),
    ("watch=driver system=driver recovery_action=2", "healthy", "default", "unhealthy", "driver-action"),
    ("watch=driver system=driver recovery_action=4", "healthy", "default", "unhealthy", "driver-action"),
    ("watch=driver system=driver recovery_action=3", "healthy", "default", "degraded", "driver-action-app"),
    ("watch=driver system=driver recovery_action=5", "healthy", "default", "degraded", "driver-action-app"),
    ("watch=driver system=driver recovery_action=9", "healthy", "default", "degraded", "driver-action-app"),
    ("watch=driver system=driver event_type=driver_error recovery_action=3", "healthy", "default", "unhealthy", "driver-failed"),
    ("watch=driver system=driver event_type=driver_error recovery_action=1", "healthy", "default", "unhealthy", "driver-action"),
    ("event_type=power system=power power_brake=true", "degraded", "power-warning", "degraded", "power"),
    ("watch=power power_watts=712.5 power_brake=false", "healthy", "default", "healthy", "quiet"),
    ("watch=boot",                                   "healthy", "default", "healthy", "quiet"),
];

#[test]
fn the_shipped_policies_say_what_the_table_says() {
    let go = policy(GO_DEFAULT);
    let ours = policy(CATALOGUE);
    for &(words, go_result, go_rule, our_result, our_rule) in TABLE {
        for (name, policy, result, rule) in [
            ("go-default", &go, go_result, go_rule),
            ("catalogue", &ours, our_result, our_rule),
        ] {
            let verdict = verdict(policy, words);
            assert_eq!(
                (verdict.result.short(), verdict.rule.as_deref()),
                (result, Some(rule)),
                "{name}: {words}"
            );
            assert!(
                verdict.findings.is_empty(),
                "{name}: {words}: {:?}",
                verdict.findings
            );
        }
    }
}

/// Policy, event, then result and rule.
#[rustfmt::skip]
const OTHERS: &[(&str, &str, &str, &str)] = &[
    ("strict", "event_type=xid xid_code=13",  "unhealthy", "any-xid"),
    ("strict", "event_type=xid xid_code=999", "unhealthy", "any-xid"),
    ("strict", "event_type=ecc_sbe",          "unhealthy", "memory"),
    ("strict", "event_type=thermal temperature=80", "unhealthy", "heat"),
    ("strict", "event_type=thermal temperature=79", "healthy", "default"),
    ("strict", "event_type=pcie",             "unhealthy", "links"),
    ("strict", "event_type=power",            "healthy", "default"),
    ("strict", "watch=device_count gpu_count=0", "unhealthy", "gpu-missing"),
    ("permissive", "event_type=xid xid_code=79", "degraded", "xid"),
    ("permissive", "event_type=xid xid_code=13", "degraded", "xid"),
    ("permissive", "event_type=xid xid_code=13 recovery_action=2", "unhealthy", "driver-asks-for-reboot"),
    ("permissive", "event_type=xid xid_code=13 recovery_action=1", "degraded", "xid"),
    ("permissive", "event_type=thermal temperature=99",  "healthy", "default"),
    ("permissive", "event_type=thermal temperature=100", "unhealthy", "heat"),
    ("permissive", "watch=device_count gpu_count=7 gpu_count_expected=8", "unhealthy", "gpu-missing"),
    ("per-gpu", "event_type=thermal gpu_index=0 temperature=97", "degraded", "warm-slot-high"),
    ("per-gpu", "event_type=thermal gpu_index=1 temperature=98", "unhealthy", "warm-slot-critical"),
    ("per-gpu", "event_type=thermal gpu_index=2 temperature=90", "unhealthy", "critical"),
    ("per-gpu", "event_type=thermal gpu_index=7 temperature=82", "degraded", "high"),
    ("per-gpu", "event_type=thermal gpu_index=7 temperature=81.9", "healthy", "default"),
    ("per-gpu", "event_type=xid gpu_index=0 xid_code=48", "unhealthy", "xid"),
    ("custom-xid", "event_type=xid xid_code=13",  "healthy", "known-application-bug"),
    ("custom-xid", "event_type=xid xid_code=92",  "unhealthy", "bad-batch"),
    ("custom-xid", "event_type=xid xid_code=74",  "degraded", "link-flaps"),
    ("custom-xid", "event_type=xid xid_code=119", "unhealthy", "xid-unhealthy"),
    ("custom-xid", "event_type=xid xid_code=94",  "degraded", "xid-other"),
    ("custom-xid", "event_type=thermal temperature=94", "healthy", "default"),
];

fn shipped(name: &str) -> HealthPolicy {
    policy(match name {
        "strict" => include_str!("../../../../examples/policies/strict.yaml"),
        "permissive" => include_str!("../../../../examples/policies/permissive.yaml"),
        "per-gpu" => include_str!("../../../../examples/policies/per-gpu.yaml"),
        "custom-xid" => include_str!("../../../../examples/policies/custom-xid.yaml"),
        "go-default" => GO_DEFAULT,
        _ => CATALOGUE,
    })
}

#[test]
fn the_other_examples_say_what_the_table_says() {
    for &(name, words, result, rule) in OTHERS {
        let verdict = verdict(&shipped(name), words);
        assert_eq!(
            (verdict.result.short(), verdict.rule.as_deref()),
            (result, Some(rule)),
            "{name}: {words}"
        );
    }
    let bad_batch = verdict(&shipped("custom-xid"), "event_type=xid xid_code=92");
    assert_eq!(
        (&*bad_batch.class, bad_batch.repair),
        ("failing-memory", Repair::Replace)
    );
    let mild = verdict(&shipped("permissive"), "event_type=xid xid_code=79");
    assert_eq!(
        (mild.kind, mild.repair),
        (FaultKind::Condition, Repair::None)
    );
}

#[test]
fn the_shipped_policies_load_without_warnings() {
    for name in [
        "strict",
        "permissive",
        "per-gpu",
        "custom-xid",
        "go-default",
        "catalogue",
    ] {
        let policy = shipped(name);
        assert_eq!(policy.warnings(), [], "{name}");
        assert!(policy.name() == name || name == "go-default");
    }
    for text in [GO_DEFAULT, CATALOGUE] {
        let policy = policy(text);
        assert_eq!(policy.warnings(), [], "{}", policy.name());
        assert_eq!(policy.version(), "v1");
    }
    assert_eq!(HealthPolicy::builtin().name(), "catalogue");
    assert_eq!(policy(GO_DEFAULT).rules().len(), 10);
}

#[test]
fn repairs_of_the_built_in_policy() {
    use FaultKind::{Condition, Latched};
    let builtin = HealthPolicy::builtin();
    #[rustfmt::skip]
    let cases: &[(&str, &str, FaultKind, Repair, Option<&str>)] = &[
        ("event_type=xid xid_code=79", "xid-79", Latched, Repair::Reboot,
            Some("XID 79: NVIDIA XID catalogue, immediate action RESTART_BM")),
        ("event_type=xid xid_code=13", "xid-13", Condition, Repair::RestartApp,
            Some("XID 13: NVIDIA XID catalogue, immediate action RESTART_APP")),
        ("event_type=xid xid_code=63", "xid-63", Condition, Repair::None,
            Some("XID 63: NVIDIA XID catalogue, immediate action IGNORE")),
        ("event_type=xid xid_code=95 recovery_action=node_reboot", "xid-95", Latched, Repair::Reboot,
            Some("driver's recovery action: node reboot")),
        ("event_type=xid xid_code=145 intr_info=0x82 error_status=0x40 driver_version=570.124.06",
            "xid-145", Latched, Repair::ResetGpu,
            Some("XID 145: NVIDIA XID catalogue, NVLink5 unit RLW_REMAP, RESET_GPU")),
        ("event_type=ecc_dbe", "ecc_dbe", Latched, Repair::ResetGpu, None),
        ("event_type=driver_error", "driver_error", Condition, Repair::Reboot, None),
        ("event_type=thermal temperature=97", "thermal", Condition, Repair::Replace, None),
        ("event_type=thermal temperature=87", "thermal", Condition, Repair::None, None),
        ("event_type=nvlink sxid_code=22003", "nvlink", Latched, Repair::Reboot,
            Some("SXID 22003: NVIDIA Fabric Manager guide, always fatal to the fabric")),
        ("watch=device_count gpu_count=7 gpu_count_expected=8", "device_count", Condition, Repair::Reboot, None),
        ("watch=temperature temperature=40", "temperature", Condition, Repair::None, None),
        ("event_type=memory watch=memory row_remap_failed=true", "memory", Latched, Repair::Replace, None),
        ("event_type=memory watch=memory row_remap_pending=true", "memory", Condition, Repair::None, None),
        ("event_type=pcie watch=pcie pcie_replays_new=7", "pcie", Condition, Repair::None, None),
        ("event_type=power watch=power power_brake=true", "power", Condition, Repair::None, None),
        ("watch=driver recovery_action=2", "driver", Condition, Repair::Reboot,
            Some("driver's recovery action: node reboot")),
        ("watch=driver recovery_action=5", "driver", Condition, Repair::RestartApp,
            Some("driver's recovery action: recover imex domain")),
        ("watch=driver recovery_action=9", "driver", Condition, Repair::None, None),
    ];
    for (words, class, kind, repair, citation) in cases {
        let verdict = verdict(&builtin, words);
        assert_eq!(
            (
                &*verdict.class,
                verdict.kind,
                verdict.repair,
                verdict.citation.as_deref()
            ),
            (*class, *kind, *repair, *citation),
            "{words}"
        );
    }
}

#[test]
fn rules_of_the_go_project_repair_what_they_take_out() {
    let go = policy(GO_DEFAULT);
    // NVIDIA would restart the application; the rule takes the machine out, so a reset must prove
    // it fit again.
    let user_fault = verdict(&go, "event_type=xid xid_code=13");
    assert_eq!(
        (user_fault.kind, user_fault.repair),
        (FaultKind::Latched, Repair::ResetGpu)
    );
    let off_bus = verdict(&go, "event_type=xid xid_code=79");
    assert_eq!(
        (off_bus.kind, off_bus.repair),
        (FaultKind::Latched, Repair::Reboot)
    );
    // The rule says degraded, so the catalogue's reset is not its business.
    let mild = verdict(&go, "event_type=xid xid_code=109");
    assert_eq!(
        (mild.kind, mild.repair),
        (FaultKind::Condition, Repair::RestartApp)
    );
}

#[test]
fn the_worst_event_wins_and_the_first_of_them_is_named() {
    let go = policy(GO_DEFAULT);
    let cases: &[(&[&str], &str, Option<&str>)] = &[
        (&[], "healthy", None),
        (&["event_type=thermal temperature=60"], "healthy", None),
        (
            &["event_type=thermal temperature=60", "event_type=power"],
            "degraded",
            Some("power-warning"),
        ),
        (
            &[
                "event_type=power",
                "event_type=xid xid_code=79",
                "event_type=ecc_dbe",
            ],
            "unhealthy",
            Some("fatal-xid"),
        ),
    ];
    for (events, result, rule) in cases {
        let verdicts: Vec<_> = events
            .iter()
            .map(|words| go.evaluate(&event(words).facts()))
            .collect();
        let overall = aggregate(&verdicts);
        assert_eq!(
            (overall.result.short(), overall.rule.as_deref()),
            (*result, *rule),
            "{events:?}"
        );
        assert_eq!(
            overall.result == HealthStatus::Healthy,
            overall.rule.is_none()
        );
    }
}

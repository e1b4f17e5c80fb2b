//! What the built-in policy makes of every code of the catalogue.

use std::fmt::Write as _;

use navarch_model::{FaultKind, HealthStatus, Repair};
use navarch_policy::{HealthPolicy, catalogue};

use crate::support::{compare, verdict};

#[test]
fn every_code_in_use() {
    let policy = HealthPolicy::builtin();
    let mut table = String::from("# code result repair rule kind citation (name)\n");
    for row in catalogue::xids().iter().filter(|row| row.in_use) {
        let verdict = verdict(&policy, &format!("event_type=xid xid_code={}", row.code));
        let kind = match verdict.kind {
            FaultKind::Latched => "latched",
            FaultKind::Condition => "condition",
        };
        assert_eq!(*verdict.class, *format!("xid-{}", row.code));
        writeln!(
            table,
            "{} {} {} {} {kind} {} ({})",
            row.code,
            verdict.result,
            verdict.repair.word(),
            verdict.rule.as_deref().unwrap_or("-"),
            verdict.citation.as_deref().unwrap_or("-"),
            row.name,
        )
        .expect("writing to a string");
    }
    compare("xid.txt", &table);
}

#[test]
fn what_nvidia_ignores_or_answers_with_the_app_costs_no_machine() {
    use catalogue::Bucket::{Ignore, RestartApp, WorkflowXid45};
    let policy = HealthPolicy::builtin();
    for row in catalogue::xids() {
        let verdict = verdict(&policy, &format!("event_type=xid xid_code={}", row.code));
        if matches!(row.immediate, Ignore | RestartApp | WorkflowXid45) {
            assert!(verdict.result < HealthStatus::Unhealthy, "{}", row.code);
            assert!(verdict.repair <= Repair::RestartApp, "{}", row.code);
        }
        if !row.in_use {
            assert_eq!(verdict.result, HealthStatus::Degraded, "{}", row.code);
            assert_eq!(verdict.repair, Repair::None, "{}", row.code);
        }
    }
}

#[test]
fn unknown_codes_are_degraded() {
    let policy = HealthPolicy::builtin();
    for code in ["0", "173", "999", "-5", "99999999999999999999", "text"] {
        let verdict = verdict(&policy, &format!("event_type=xid xid_code={code}"));
        assert_eq!(verdict.result, HealthStatus::Degraded, "{code}");
        assert_eq!(verdict.repair, Repair::None, "{code}");
        assert!(
            verdict.findings.is_empty(),
            "{code}: {:?}",
            verdict.findings
        );
    }
    let verdict = verdict(&policy, "event_type=xid xid_code=999");
    assert_eq!(verdict.citation.as_deref(), Some("Unknown XID error 999"));
}

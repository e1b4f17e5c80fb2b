//! What conditions may say and what they mean.

use std::time::Duration;

use navarch_model::{FaultKind, HealthStatus, Repair};
use navarch_policy::health::Trial;
use proptest::prelude::*;

use crate::support::{event, one_rule, policy, verdict};

const EVENT: &str = "event_type=xid system=driver gpu_index=3 gpu_uuid=GPU-3 watch=w message=NVRM:oops \
    timestamp=2026-03-01T12:00:00Z xid_code=79 ratio=0.5 on=true name=abc neg=-4 nan=NaN huge=1e300";

#[test]
fn conditions_mean_what_they_mean_in_the_go_project() {
    #[rustfmt::skip]
    let cases: &[(&str, bool)] = &[
        ("true", true),
        ("event.event_type == \"xid\"", true),
        ("event.system == \"DCGM_HEALTH_WATCH_DRIVER\"", true),
        ("event.gpu_index == 3", true),
        ("event.gpu_uuid.startsWith(\"GPU-\")", true),
        ("event.timestamp == \"2026-03-01T12:00:00Z\"", true),
        ("timestamp(event.timestamp).getHours() == 12", true),
        ("event.message.contains(\"oops\")", true),
        ("event.message.matches(\"^NVRM:.*s$\")", true),
        ("matches(event.message, r\"\\d\")", false),
        ("event.watch == 'w'", true),
        ("event.repair == \"reboot\"", true),
        ("event[\"event_type\"] == \"xid\"", true),
        ("event.metrics.xid_code == 79", true),
        ("event.metrics.xid_code == 79.0", true),
        ("event.metrics.xid_code >= 78.5", true),
        ("event.metrics[\"xid_code\"] in [1, 79]", true),
        ("event.metrics.ratio > 0", true),
        ("event.metrics.ratio == 0.5 && event.metrics.neg < 0", true),
        ("event.metrics.on", true),
        ("event.metrics.on == true && event.metrics.name == \"abc\"", true),
        ("event.metrics.xid_code == \"79\"", false),
        ("has(event.metrics.xid_code)", true),
        ("has(event.metrics.other)", false),
        ("\"xid_code\" in event.metrics", true),
        ("size(event.metrics) == 7", true),
        ("event.metrics.other > 1", false),
        ("event.metrics.other > 1 || event.gpu_index == 3", true),
        ("!(event.metrics.other > 1)", false),
        ("event.metrics.exists(name, name.endsWith(\"_code\"))", true),
        ("[1, 2, 79].exists_one(code, code == event.metrics.xid_code)", true),
        ("event.metrics.all(name, size(name) < 9)", true),
        ("// why\nevent.gpu_index == 3 // because\n&& true", true),
        ("event.metrics.xid_code in [\n  13, // one\n  79  // two\n]", true),
        ("event.gpu_index > 1 ? event.event_type == \"xid\" : false", true),
        ("int(event.metrics.ratio * 4.0) == 2", true),
        ("event.event_type != \"thermal\"", true),
        ("event.event_type in [\"thermal\", \"power\"]", false),
        ("\"xid\" == event.event_type || event.system == \"DCGM_HEALTH_WATCH_MEM\"", true),
    ];
    for (condition, expected) in cases {
        let policy = one_rule(condition);
        let verdict = verdict(&policy, EVENT);
        assert_eq!(
            verdict.result == HealthStatus::Unhealthy,
            *expected,
            "{condition}"
        );
        assert!(
            verdict.findings.is_empty(),
            "{condition}: {:?}",
            verdict.findings
        );
    }
}

#[test]
fn what_cannot_be_evaluated_is_degraded_and_repairs_nothing() {
    #[rustfmt::skip]
    let cases: &[(&str, &str)] = &[
        ("event.metrics.name > 5", "found no matching overload for '_>_' applied to '(string, int)'"),
        ("event.metrics.nan > 5.0", "found no matching overload for '_>_' applied to '(double, double)'"),
        ("event.metrics.xid_code", "it gives a value of type int, neither true nor false"),
        ("event.metrics.ratio == 0.5 && event.metrics.xid_code", "found no matching overload for '_&&_' applied to '(bool, int)'"),
        ("event.metrics.xid_code.startsWith(\"7\")", "found no matching overload for 'startsWith' applied to 'int.(string)'"),
        ("event.metrics.xid_code.matches(\"7\")", "Error executing function 'matches': needs a string, got int"),
        ("event.metrics.xid_code / (event.gpu_index - 3) == 1", "Division by zero of Int(79)"),
    ];
    for (condition, error) in cases {
        // Other events give the condition its true and false, so that the file loads.
        let policy = one_rule(&format!(
            "event.gpu_index == 3 && size(event.gpu_uuid) < 9 && {condition}"
        ));
        let verdict = verdict(&policy, EVENT);
        assert_eq!(verdict.result, HealthStatus::Degraded, "{condition}");
        assert_eq!(verdict.repair, Repair::None, "{condition}");
        assert_eq!(&*verdict.class, "rule-error");
        assert_eq!(verdict.rule.as_deref(), Some("it"));
        let [finding] = verdict.findings.as_slice() else {
            panic!("{condition}: {:?}", verdict.findings);
        };
        assert!(
            finding.error.starts_with(error) || error.starts_with("it gives"),
            "{condition}: {}",
            finding.error
        );
        assert_eq!(finding.rule.as_deref(), Some("it"));
    }
}

#[test]
fn a_failing_rule_does_not_hide_a_later_one() {
    let policy = policy(
        "rules:
  - {name: broken, condition: event.gpu_index == 3 && event.metrics.note > 5, result: unhealthy}
  - {name: later, condition: event.event_type == \"thermal\", result: unhealthy, action: reboot}
  - {name: mild, condition: event.event_type == \"power\", result: degraded}
  - {name: fine, condition: \"true\", result: healthy}
",
    );
    let hot = verdict(&policy, "event_type=thermal gpu_index=3 note=x");
    assert_eq!(
        (hot.result, hot.rule.as_deref()),
        (HealthStatus::Unhealthy, Some("later"))
    );
    assert_eq!((hot.repair, hot.findings.len()), (Repair::None, 1));
    let judged = verdict(&policy, "event_type=thermal gpu_index=2 note=x");
    assert_eq!((judged.repair, judged.findings.len()), (Repair::Reboot, 0));
    let power = verdict(&policy, "event_type=power gpu_index=3 note=x");
    assert_eq!(
        (power.result, power.rule.as_deref()),
        (HealthStatus::Degraded, Some("mild"))
    );
    let quiet = verdict(&policy, "gpu_index=3 note=x");
    assert_eq!(
        (quiet.result, quiet.rule.as_deref()),
        (HealthStatus::Degraded, Some("broken"))
    );
    assert_eq!(quiet.repair, Repair::None);
    assert_eq!(
        quiet.citation.as_deref(),
        Some(
            "rule \"broken\" cannot be evaluated: found no matching overload for '_>_' applied to '(string, int)'"
        )
    );
    assert_eq!(
        verdict(&policy, "gpu_index=3 note=6").rule.as_deref(),
        Some("broken")
    );
    assert_eq!(
        verdict(&policy, "gpu_index=3").result,
        HealthStatus::Healthy
    );
}

#[test]
fn our_own_keys_say_class_action_and_time() {
    let policy = policy(
        "rules:
  - name: hot
    condition: event.metrics.temperature > 90
    result: unhealthy
    class: latched
    action: reset_gpu
    clear_after: 1h30m
  - name: user-fault
    condition: event.metrics.xid_code == 13
    result: unhealthy
    class: condition
    action: none
  - name: named
    condition: event.metrics.xid_code == 48
    result: unhealthy
    class: memory-errors
  - name: mild
    condition: event.metrics.xid_code == 79
    result: degraded
    action: reboot
",
    );
    let hot = verdict(&policy, "event_type=thermal temperature=91");
    assert_eq!(
        (hot.kind, hot.repair),
        (FaultKind::Latched, Repair::ResetGpu)
    );
    assert_eq!(hot.clear_after, Some(Duration::from_secs(5400)));
    let user = verdict(&policy, "event_type=xid xid_code=13");
    assert_eq!(
        (user.kind, user.repair),
        (FaultKind::Condition, Repair::None)
    );
    let named = verdict(&policy, "event_type=xid xid_code=48");
    assert_eq!(
        (&*named.class, named.kind),
        ("memory-errors", FaultKind::Latched)
    );
    let mild = verdict(&policy, "event_type=xid xid_code=79");
    assert_eq!(
        (mild.result, mild.repair),
        (HealthStatus::Degraded, Repair::Reboot)
    );
}

#[test]
fn explain_says_how_every_rule_fared() {
    let policy = policy(
        "rules:
  - {name: a, condition: event.event_type == \"power\", result: degraded}
  - {name: b, condition: event.metrics.absent == 1, result: degraded}
  - {name: c, condition: event.gpu_index == 3 && event.metrics.note > 5, result: degraded}
  - {name: d, condition: event.event_type == \"xid\", result: unhealthy}
  - {name: e, condition: event.event_type == \"xid\", result: healthy}
",
    );
    let (verdict, trials) =
        policy.explain(&event("event_type=xid xid_code=79 gpu_index=3 note=x").facts());
    assert_eq!(verdict.rule.as_deref(), Some("d"));
    let trials: Vec<_> = trials.iter().map(|(_, trial)| trial.clone()).collect();
    assert!(matches!(
        trials.as_slice(),
        [
            Trial::NotMatched,
            Trial::Missing(key),
            Trial::Failed(_),
            Trial::Matched,
            Trial::NotReached
        ] if key == "absent"
    ));
}

/// Conditions made of everything that is decided without the interpreter, and of what is not.
fn conditions() -> impl Strategy<Value = String> {
    let atom = prop::sample::select(vec![
        "true",
        "false",
        "event.event_type == \"xid\"",
        "\"thermal\" != event.event_type",
        "event.event_type in [\"xid\", \"power\", \"other\"]",
        "event.system == \"DCGM_HEALTH_WATCH_DRIVER\"",
        "event.system != \"DCGM_HEALTH_WATCH_MEM\"",
        "event.watch == \"temperature\"",
        "event.watch in [\"power\", \"\"]",
        "event.repair == \"reboot\"",
        "event.repair != \"unknown\"",
        "has(event.metrics.xid_code)",
        "has(event.metrics.temperature)",
        "event.metrics.temperature >= 90",
        "event.metrics.temperature < 89.5",
        "event.metrics.temperature > event.metrics.limit",
        "99 <= event.metrics.temperature",
        "event.metrics.xid_code == 79",
        "event.metrics.xid_code != event.metrics.limit",
        "event.metrics.flag == true",
        "event.metrics.flag != event.metrics.temperature",
        "event.metrics.xid_code.startsWith(\"7\")",
        "event.metrics.xid_code",
    ])
    .prop_map(str::to_owned);
    atom.prop_recursive(4, 12, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|it| format!("!({it})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("({a}) || ({b})")),
        ]
    })
}

proptest! {
    /// `(condition) == (true && true)` always takes the interpreter.
    #[test]
    fn what_is_decided_early_is_what_the_interpreter_says(condition in conditions()) {
        let early = rules_of(&condition);
        let late = rules_of(&format!("({condition}) == (true && true)"));
        let (Some(early), Some(late)) = (early, late) else {
            return Ok(());
        };
        for words in [
            "event_type=xid system=driver xid_code=79",
            "event_type=xid system=driver xid_code=13 watch=temperature",
            "event_type=thermal system=thermal watch=temperature temperature=95",
            "watch=temperature temperature=40",
            "watch=temperature temperature=90.5 limit=90 flag=false",
            "watch=temperature temperature=NaN limit=Inf xid_code=79 flag=1",
            "event_type=xid temperature=99 limit=100.5 xid_code=9223372036854775807 flag=true",
            "temperature=true limit=79 xid_code=79.0 flag=t",
            "event_type=power system=mem watch=power xid_code=abc temperature=x",
            "system=unknown",
        ] {
            let (early, late) = (verdict(&early, words), verdict(&late, words));
            prop_assert_eq!((early.result, early.rule, early.findings.len()),
                (late.result, late.rule, late.findings.len()), "{}", words);
        }
    }
}

fn rules_of(condition: &str) -> Option<navarch_policy::HealthPolicy> {
    let text = format!(
        "rules:\n  - name: it\n    result: unhealthy\n    condition: |\n      {condition}\n"
    );
    navarch_policy::HealthPolicy::parse("policy.yaml", &text).ok()
}

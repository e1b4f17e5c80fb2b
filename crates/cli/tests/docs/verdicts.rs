//! What every whole health policy that a page offers has to see, and what it may not condemn.

use navarch_model::HealthStatus;
use navarch_policy::{HealthPolicy, parse_event};

/// Events, and whether a machine that sends one is unhealthy.
const LEAST: &[(&[(&str, &str)], bool)] = &[
    (&[("event_type", "ecc_dbe")], true),
    (&[("event_type", "thermal"), ("temperature", "99")], true),
    (&[("watch", "device_count"), ("gpu_count", "0")], true),
    (&[("event_type", "xid"), ("xid_code", "79")], true),
    (&[("event_type", "xid"), ("xid_code", "13")], false),
];

/// The first event that a policy judges wrong, in words.
pub fn wrong(name: &str, text: &str) -> Option<String> {
    let policy = match HealthPolicy::parse(name, text) {
        Ok(policy) => policy,
        Err(errors) => return Some(format!("{errors:?}")),
    };
    LEAST.iter().find_map(|(pairs, bad)| {
        let event = parse_event(pairs).expect("an event");
        let verdict = policy.evaluate(&event.facts());
        let found = verdict.result == HealthStatus::Unhealthy;
        let but = if *bad { "" } else { "not " };
        (found != *bad).then(|| {
            format!(
                "{name} calls {pairs:?} {} by the rule {:?}, and a policy to use as it is has to \
                 call it {but}unhealthy; mark a file that shows how a rule is written with \
                 <!-- example: ... -->",
                verdict.result.short(),
                verdict.rule
            )
        })
    })
}

#[test]
fn the_built_in_policy_sees_the_least_and_a_policy_with_a_hole_does_not() {
    const CATALOGUE: &str = include_str!("../../../../examples/policies/catalogue.yaml");
    assert_eq!(wrong("catalogue.yaml", CATALOGUE), None);
    for (from, to, complaint) in [
        (
            "event.metrics.temperature >= 95",
            "event.metrics.temperature > 99",
            "thermal",
        ),
        (
            "event.event_type == \"ecc_dbe\"",
            "event.event_type == \"ecc_sbe\"",
            "ecc_dbe",
        ),
        (
            "event.metrics.gpu_count == 0",
            "event.metrics.gpu_count < 0",
            "gpu_count",
        ),
        (
            "event.repair == \"reboot\"",
            "event.repair == \"none\"",
            "79",
        ),
        (
            "event.repair == \"restart_app\"\n    result: degraded",
            "event.repair == \"restart_app\"\n    result: unhealthy",
            "13",
        ),
    ] {
        let changed = CATALOGUE.replace(from, to);
        assert_ne!(changed, CATALOGUE, "{from}");
        let why = wrong("catalogue.yaml", &changed).unwrap_or_else(|| panic!("{to} is accepted"));
        assert!(why.contains(complaint), "{why}");
    }
}

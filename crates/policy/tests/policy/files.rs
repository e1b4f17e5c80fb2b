//! What is wrong with a file, and where.

use navarch_policy::HealthPolicy;

use crate::support::policy;

fn errors(text: &str) -> Vec<String> {
    match HealthPolicy::parse("p.yaml", text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

fn with_condition(condition: &str) -> String {
    format!("rules:\n  - name: it\n    condition: {condition}\n    result: degraded\n")
}

#[test]
fn files_that_do_not_hold_a_policy() {
    #[rustfmt::skip]
    let cases: &[(&str, &[&str])] = &[
        ("", &["p.yaml:1:1: policy must have at least one rule"]),
        ("# nothing\n", &["p.yaml:1:1: policy must have at least one rule"]),
        ("version: v1\n", &["p.yaml:1:1: policy must have at least one rule"]),
        ("version: v1\nrules: []\n", &["p.yaml:2:8: policy must have at least one rule"]),
        ("rules:\n", &["p.yaml:1:1: policy must have at least one rule"]),
        ("rule:\n  - a\n", &["p.yaml:1:1: unknown key \"rule\"; did you mean \"rules\"?"]),
        ("rules:\n  - name: a\n    conditon: x\n", &["p.yaml:3:5: unknown key \"conditon\"; did you mean \"condition\"?"]),
        ("rules:\n  - name: a\n    name: b\n", &["p.yaml:3:5: duplicate mapping key: name"]),
        ("metadata: {owner: me}\nrules: []\n", &["p.yaml:1:12: unknown key \"owner\"; known keys: name, description"]),
        ("rules: {}\n", &["p.yaml:1:8: expected a list"]),
        ("just text", &["p.yaml:1:1: expected a mapping"]),
        ("rules: [\n", &["p.yaml:1:8: unclosed bracket '['"]),
    ];
    for (text, expected) in cases {
        assert_eq!(errors(text), *expected, "{text:?}");
    }
}

#[test]
fn rules_that_miss_something() {
    let text = "\
version: v1
rules:
  - condition: \"true\"
    result: healthy
  - name: \"\"
    condition: \"true\"
  - name: twice
    condition: \"true\"
    result: fine
  - name: twice
    result: Healthy
  - name: keys
    condition: \"true\"
    result: unknown
    class: Bad Class
    action: explode
    clear_after: 10
  - name: zero
    condition: \"  \"
    result: degraded
    clear_after: 0s
";
    assert_eq!(
        errors(text),
        [
            "p.yaml:3:5: rule 0: name is required",
            "p.yaml:5:5: rule 1: name is required",
            "p.yaml:9:13: rule \"twice\": invalid result \"fine\" (must be healthy, degraded, or unhealthy)",
            "p.yaml:10:5: rule \"twice\": condition is required",
            "p.yaml:10:11: rule \"twice\": duplicate rule name, first in line 7",
            "p.yaml:11:13: rule \"twice\": invalid result \"Healthy\" (must be healthy, degraded, or unhealthy)",
            "p.yaml:14:13: rule \"keys\": invalid result \"unknown\" (must be healthy, degraded, or unhealthy)",
            "p.yaml:15:12: rule \"keys\": invalid class \"Bad Class\": use latched, condition, or a name of lower-case letters, digits, - and _",
            "p.yaml:16:13: rule \"keys\": invalid action \"explode\": use none, restart_app, reset_gpu, reboot, replace",
            "p.yaml:17:18: rule \"keys\": invalid clear_after \"10\": the unit is missing: write 10s for seconds, or use ms, m or h",
            "p.yaml:18:5: rule \"zero\": condition is required",
            "p.yaml:21:18: rule \"zero\": invalid clear_after \"0s\": must be longer than 0s",
        ]
    );
}

#[test]
fn conditions_that_cannot_be_meant() {
    #[rustfmt::skip]
    let cases: &[(&str, &[&str])] = &[
        // Names.
        ("xid_code == 79", &["3:16: rule \"it\": unknown variable \"xid_code\"; write event.metrics.xid_code for a metric"]),
        ("event_type == \"xid\"", &["3:16: rule \"it\": unknown variable \"event_type\"; write event.event_type"]),
        ("evnt.gpu_index == 1", &["3:16: rule \"it\": unknown variable \"evnt\"; did you mean \"event\"?"]),
        ("event.sytem == \"x\"", &["3:21: rule \"it\": an event has no field \"sytem\"; did you mean \"system\"?"]),
        ("event.xid_code == 79", &["3:21: rule \"it\": an event has no field \"xid_code\"; write event.metrics.xid_code for a metric"]),
        ("event[\"kind\"] == 1", &["3:21: rule \"it\": an event has no field \"kind\"; write event.metrics.kind for a metric"]),
        ("starts(event.message)", &["3:22: rule \"it\": unknown function \"starts\""]),
        ("sizes(event.metrics) > 1", &["3:21: rule \"it\": unknown function \"sizes\"; did you mean \"size\"?"]),
        ("event.message.startWith(\"a\")", &["3:39: rule \"it\": unknown function \"startWith\"; did you mean \"startsWith\"?"]),
        ("startsWith(event.message, \"a\")", &["3:26: rule \"it\": \"startsWith\" is called on a value: write value.startsWith(…)"]),
        ("event.metrics.exists(k, v, true)", &["3:36: rule \"it\": wrong use of \"exists\": write list.exists(item, condition)"]),
        ("a && b", &["3:16: rule \"it\": unknown variable \"a\"", "3:21: rule \"it\": unknown variable \"b\""]),
        ("'Thing{a: 1} == event'", &["3:22: rule \"it\": there is no type \"Thing\" to make a value of"]),
        // Values that are not true or false.
        ("event.metrics", &["3:21: rule \"it\": condition is never true or false: compare the value with something"]),
        ("\"'unhealthy'\"", &["3:17: rule \"it\": condition is never true or false: compare the value with something"]),
        ("1 + 1", &["3:18: rule \"it\": condition is never true or false: compare the value with something"]),
        ("size(event.metrics)", &["3:20: rule \"it\": condition is never true or false: compare the value with something"]),
        ("event.metrics.xid_code", &["3:16: rule \"it\": condition is never true or false: for a sample xid event it gives a value of type int"]),
        ("'event.gpu_index > 1 ? 1 : 2'", &["3:37: rule \"it\": condition is never true or false: compare the value with something"]),
        ("event.message > 5", &["3:16: rule \"it\": condition is never true or false: it fails on a sample xid event: found no matching overload for '_>_' applied to '(string, int)'"]),
        // Patterns.
        ("event.message.matches(event.gpu_uuid)", &["3:43: rule \"it\": the pattern of matches must stand in the rule, in quotes"]),
        ("event.message.matches(\"(\")", &["3:38: rule \"it\": bad pattern: unclosed group"]),
        ("event.message.matches(\"a{1000}{1000}\")", &["3:38: rule \"it\": the pattern is too large"]),
        // Maps have no order.
        ("\"{'a': 1}.exists(k, k == 'a')\"", &["3:32: rule \"it\": a map in the condition has no order: go through a list instead"]),
    ];
    for (condition, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|it| format!("p.yaml:{it}")).collect();
        assert_eq!(errors(&with_condition(condition)), expected, "{condition}");
    }
}

#[test]
fn syntax_errors_have_their_place() {
    #[rustfmt::skip]
    let cases: &[(&str, &str)] = &[
        ("event.gpu_index ==", "p.yaml:3:34: rule \"it\": the condition ends too early"),
        ("\"event.gpu_index = 3\"", "p.yaml:3:33: rule \"it\": unexpected '= '"),
        ("'event.message == \"°\" = 3'", "p.yaml:3:38: rule \"it\": unexpected '= '"),
        ("|\n      // a comment\n      event.gpu_index == 3 &&\n        event.metrics. == 1", "p.yaml:6:24: rule \"it\": unexpected '. =='"),
        ("|\n      true\n      )", "p.yaml:5:7: rule \"it\": unexpected ')'"),
        ("|\n      (true", "p.yaml:5:7: rule \"it\": the condition ends too early"),
        ("|\n\n      // °\n      event.message == \"°\" || nothing", "p.yaml:6:31: rule \"it\": unknown variable \"nothing\""),
        ("|2\n      nonsense", "p.yaml:4:"),
    ];
    for (condition, place) in cases {
        let errors = errors(&with_condition(condition));
        assert!(
            errors.first().is_some_and(|it| it.starts_with(place)),
            "{condition}: {errors:?}"
        );
    }
    // Where YAML folds lines, the place is the beginning of the text.
    let folded = errors(&with_condition(
        ">-\n      event.gpu_index == 3 &&\n      nothing",
    ));
    assert_eq!(folded.len(), 1, "{folded:?}");
    assert!(folded[0].starts_with("p.yaml:4:7: "), "{folded:?}");
}

#[test]
fn odd_files_load_with_warnings() {
    let text = "\
rules:
  - name: typo
    condition: event.event_type == \"xidd\" || event.gpu_index == 3
    result: degraded
  - name: rung
    condition: event.repair in [\"reboot\", \"reset-gpu\"]
    result: degraded
  - name: never
    condition: event.event_type == \"xid\" && event.event_type == \"power\"
    result: degraded
  - name: presence
    condition: has(event.xid_code) || event.gpu_index == 4
    result: degraded
  - name: types
    condition: event.event_type == \"xid\" && event.metrics.xid_code.startsWith(\"7\")
    result: degraded
  - name: everything
    condition: \"true\"
    result: healthy
    action: reboot
  - name: late
    condition: event.event_type == \"power\"
    result: degraded
";
    let warnings: Vec<_> = policy(text)
        .warnings()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        warnings,
        [
            "policy.yaml:3:33: rule \"typo\": event.event_type is never \"xidd\"; did you mean \"xid\"?",
            "policy.yaml:6:29: rule \"rung\": event.repair is never \"reset-gpu\"; did you mean \"reset_gpu\"?",
            "policy.yaml:9:42: rule \"never\": condition is never true: no event has this event_type and system",
            "policy.yaml:12:19: rule \"presence\": an event has no field \"xid_code\"; write event.metrics.xid_code for a metric",
            "policy.yaml:15:16: rule \"types\": condition is not always true or false: it fails on a sample xid event: found no matching overload for 'startsWith' applied to 'int.(string)'",
            "policy.yaml:20:13: rule \"everything\": an action of a healthy result is never taken",
            "policy.yaml:21:5: rule \"late\": never reached: rule \"everything\" matches everything",
        ]
    );
}

#[test]
fn versions_and_names_may_be_any_scalar() {
    let policy = policy(
        "version: 1\nmetadata: {name: 5, description: ~}\nrules:\n  - {name: 7, condition: true, result: healthy}\n",
    );
    assert_eq!(
        (policy.version(), policy.name(), policy.description()),
        ("1", "5", "")
    );
    assert_eq!(&*policy.rules()[0].name, "7");
}

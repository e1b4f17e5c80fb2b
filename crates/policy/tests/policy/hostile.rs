//! Files and events made to do harm.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use navarch_model::{HealthEventType, HealthStatus, HealthWatchSystem};
use navarch_policy::{EventFactsOwned, HealthPolicy};
use proptest::prelude::*;

use crate::support::{one_rule, policy};

fn first_error(text: &str) -> String {
    HealthPolicy::parse("p.yaml", text)
        .expect_err("the file is refused")
        .remove(0)
        .to_string()
}

fn rule(condition: &str) -> String {
    format!("rules:\n  - name: it\n    result: degraded\n    condition: |\n      {condition}\n")
}

#[test]
fn files_have_limits() {
    let large = format!("# {}\n", "x".repeat(1 << 20));
    assert_eq!(
        first_error(&large),
        "p.yaml:1:1: the file has 1048579 bytes, more than the 1048576 of a health policy"
    );
    let mut many = String::from("rules:\n");
    for index in 0..501 {
        writeln!(
            many,
            "  - {{name: r{index}, condition: \"true\", result: healthy}}"
        )
        .expect("writing to a string");
    }
    assert!(first_error(&many).ends_with("policy has 501 rules, more than the 500 allowed"));
    let long = format!("true // {}", "x".repeat(8 << 10));
    assert!(
        first_error(&rule(&long)).contains("condition has 8201 bytes, more than the 8192 allowed"),
    );
    let name = "n".repeat(101);
    assert!(
        first_error(&format!(
            "rules:\n  - {{name: {name}, condition: \"true\", result: healthy}}\n"
        ))
        .ends_with("rule 0: a name is one line of at most 100 characters")
    );
}

#[test]
fn aliases_do_not_multiply() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        writeln!(bomb, "a{level}: &a{level} [{}]", vec![alias; 10].join(", "))
            .expect("writing to a string");
    }
    let _ = first_error(&bomb);
    let _ = first_error(&format!("rules: {}", "[".repeat(100_000)));
}

#[test]
fn nesting_is_refused_before_it_is_parsed() {
    let deep = [
        "(".repeat(4000),
        format!("{}true{}", "(".repeat(4000), ")".repeat(4000)),
        "!".repeat(8000) + "true",
        "-".repeat(8000) + "1",
        "1+".repeat(4000) + "1",
        "event.".repeat(1300) + "a",
        "true ? ".repeat(1000),
        "[".repeat(8000),
    ];
    for condition in &deep {
        let error = first_error(&rule(condition));
        assert!(error.contains("condition nests too deeply"), "{error}");
    }
}

#[test]
fn the_deepest_that_is_allowed_loads_and_runs() {
    let fine = [
        format!("{}true{}", "(".repeat(24), ")".repeat(24)),
        format!("{}true{}", "!(".repeat(12), ")".repeat(12)),
        format!("{} == 24", vec!["1"; 24].join(" + ")),
        vec!["event.metrics.xid_code == 1"; 250].join(" || "),
        vec!["event == 1"; 580].join(" || "),
        format!("{}true{}", "[1].all(x, ".repeat(7), ")".repeat(7)),
        format!("{}1{} == []", "[".repeat(22), "]".repeat(22)),
        format!("event.metrics.xid_code in [{}]", vec!["7"; 2000].join(", ")),
        "event.gpu_index == 1 ? true : ".repeat(22) + "false",
    ];
    for condition in &fine {
        let policy = one_rule(condition);
        let event = EventFactsOwned::default();
        let _ = policy.evaluate(&event.facts());
    }
}

#[test]
fn loops_have_a_price() {
    let list = format!("[{}]", vec!["1"; 100].join(", "));
    let nested = format!("{list}.all(a, {list}.all(b, {list}.all(c, a + b + c > 0)))");
    assert!(
        first_error(&rule(&nested)).contains("steps for one event, more than the 20000 allowed")
    );
    let metrics = "event.metrics.all(a, event.metrics.all(b, a != b))";
    assert!(first_error(&rule(metrics)).contains("steps for one event"));
    one_rule("event.metrics.all(a, size(a) < 100)");
    let mut many = String::from("rules:\n");
    for index in 0..100 {
        writeln!(
            many,
            "  - {{name: r{index}, condition: \"event.metrics.exists(m, m == 'a' || m == 'b')\", result: degraded}}"
        )
        .expect("writing to a string");
    }
    assert!(first_error(&many).contains("the conditions together may take"));
}

#[test]
fn large_events_are_findings() {
    let mut event = EventFactsOwned {
        event_type: HealthEventType::Xid,
        metrics: BTreeMap::from([("xid_code".to_owned(), "79".to_owned())]),
        ..EventFactsOwned::default()
    };
    for index in 0..10_000 {
        event.metrics.insert(format!("m{index}"), "1".to_owned());
    }
    let names = policy(
        "rules:\n  - {name: it, condition: \"event.metrics.exists(m, m == 'zz')\", result: unhealthy}\n",
    );
    let verdict = names.evaluate(&event.facts());
    assert_eq!(verdict.result, HealthStatus::Degraded);
    assert_eq!(verdict.rule, None);
    assert_eq!(
        verdict.findings[0].to_string(),
        "the event has more than the 256 metrics that rules go through"
    );
    let verdict = HealthPolicy::builtin().evaluate(&event.facts());
    assert_eq!(
        verdict.rule.as_deref(),
        Some("xid-reboot"),
        "the code is still seen"
    );

    let long = EventFactsOwned {
        message: "é".repeat(40_000) + "needle",
        ..EventFactsOwned::default()
    };
    let seeks = one_rule("event.message.contains(\"needle\")");
    let verdict = seeks.evaluate(&long.facts());
    assert_eq!(verdict.result, HealthStatus::Degraded);
    assert_eq!(verdict.findings.len(), 1);
}

/// Conditions that touch everything an event has, in every way that can fail.
fn curious() -> HealthPolicy {
    policy(
        r#"rules:
  - {name: compare, condition: 'event.gpu_index == 1 && event.metrics.a > event.metrics.b', result: degraded}
  - {name: add, condition: 'event.gpu_index == 2 && event.metrics.a + event.metrics.b == 0', result: degraded}
  - {name: multiply, condition: 'event.gpu_index == 3 && event.metrics.a * event.metrics.b / event.metrics.a > 1', result: degraded}
  - {name: modulo, condition: 'event.gpu_index == 4 && event.metrics.a % event.metrics.b == 0', result: degraded}
  - {name: negate, condition: 'event.gpu_index == 5 && -event.metrics.a == -event.metrics.b', result: degraded}
  - {name: convert, condition: 'event.gpu_index == 6 && int(event.metrics.a) == int(string(event.metrics.b))', result: degraded}
  - {name: unsigned, condition: 'event.gpu_index == 7 && uint(event.metrics.a) < uint(event.metrics.b)', result: degraded}
  - {name: time, condition: 'event.gpu_index == 8 && timestamp(event.metrics.a) - timestamp(event.metrics.b) > duration(event.message)', result: degraded}
  - {name: span, condition: 'event.gpu_index == 9 && duration(event.metrics.a) + duration(event.metrics.b) > duration("1s")', result: degraded}
  - {name: zone, condition: 'event.gpu_index == 10 && timestamp(event.timestamp).getHours(event.message) > 1', result: degraded}
  - {name: text, condition: 'event.gpu_index == 11 && event.message.matches("^(a|b)+$") && event.message.contains(event.metrics.a)', result: degraded}
  - {name: index, condition: 'event.gpu_index == 12 && event.metrics[event.metrics.a] == event.metrics[event.metrics.b]', result: degraded}
  - {name: list, condition: "event.gpu_index == 13 && [1, 2, 3][event.metrics.a] == 1", result: degraded}
  - {name: loop, condition: "event.gpu_index == 14 && event.metrics.all(m, event.metrics[m] != event.metrics.a)", result: degraded}
  - {name: bytes, condition: 'event.gpu_index == 15 && string(bytes(event.message)) == event.metrics.a', result: degraded}
  - {name: numbers, condition: 'event.gpu_index == 16 && timestamp(event.metrics.a) > timestamp(event.metrics.b)', result: degraded}
  - {name: repair, condition: event.repair != "none" && event.repair != "unknown", result: unhealthy}
"#,
    )
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|it| it.to_string()),
        any::<f64>().prop_map(|it| it.to_string()),
        prop::sample::select(vec![
            "NaN",
            "inf",
            "-inf",
            "1e999",
            "0",
            "-0",
            "-0.0",
            "true",
            "",
            "a",
            "b",
            "0x10",
            "1s",
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "1e308",
            "2026-03-01T12:00:00Z",
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "99999999999999h",
            "-2562047h47m16.854775808s",
            "America/New_York",
            "25:99",
            "253402300799",
            "-62135596801",
            "GPU recovery action changed from 0x0 to 0x2",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,20}",
        ".{0,8}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_event_panics(
        a in value(),
        b in value(),
        message in value(),
        code in value(),
        gpu_index in 0..18_i32,
        event_type in prop::sample::select(HealthEventType::ALL.to_vec()),
        system in prop::sample::select(HealthWatchSystem::ALL.to_vec()),
        timestamp in any::<i64>(),
        extra in prop::collection::btree_map("[a-z_]{1,12}", value(), 0..4),
    ) {
        thread_local! {
            static CURIOUS: HealthPolicy = curious();
        }
        let mut metrics = extra;
        metrics.insert("a".to_owned(), a);
        metrics.insert("b".to_owned(), b);
        metrics.insert("xid_code".to_owned(), code.clone());
        metrics.insert("intr_info".to_owned(), code);
        let event = EventFactsOwned {
            timestamp, gpu_index, gpu_uuid: message.clone(), system, event_type,
            watch: message.clone(), message, metrics,
        };
        let builtin = HealthPolicy::builtin().evaluate(&event.facts());
        prop_assert!(builtin.result != HealthStatus::Unknown);
        let verdict = CURIOUS.with(|policy| policy.evaluate(&event.facts()));
        for finding in &verdict.findings {
            prop_assert!(!finding.error.contains("the interpreter failed"), "{finding} {event:?}");
        }
    }

    #[test]
    fn no_condition_panics(
        condition in prop_oneof![
            "[ ()\\[\\]{}!&|?:.,+*/%<>=\"'a-c0-9-]{0,60}",
            "(event|\\.|metrics|has|\\(|\\)|a|==|>|&&|\\|\\||!| in |\\[|\\]|1|\"x\"|\\?|:|,){0,25}",
            "\\PC{0,40}",
        ],
    ) {
        let text = format!("rules:\n  - name: it\n    result: degraded\n    condition: |\n      {condition}\n");
        if let Err(errors) = HealthPolicy::parse("p.yaml", &text) {
            for error in errors {
                prop_assert!(!error.message.contains("the parser failed"), "{condition}: {error}");
            }
        }
    }

    #[test]
    fn no_file_panics(text in "(rules|name|condition|result|: |\\n|  |- |\\||>|&a |\\*a|\"|'|\\{|\\}|\\[|\\]|true|x){0,40}") {
        let _ = HealthPolicy::parse("p.yaml", &text);
    }
}

//! The tables of scenarios against the loader, the reference and the JSON Schema.

use std::path::Path;

use navarch_config::scenario::Scenario;
use navarch_config::schema::{Form, Key, SCENARIO, scenario_reference, scenario_schema};

use crate::editors::Validator;
use crate::keys::{below, right, wrong};

/// The sections of the control plane are checked with its own configuration.
const CONTROL_PLANE: [&str; 7] = [
    "server",
    "instance_manager",
    "planner",
    "guards",
    "providers",
    "pools",
    "defaults",
];

fn keys() -> Vec<(Vec<&'static str>, &'static Key)> {
    let mut keys = below(&SCENARIO);
    keys.retain(|(path, key)| {
        let top = path.first().copied().unwrap_or(key.name);
        !CONTROL_PLANE.contains(&top)
    });
    keys
}

/// What stands beside a key in its section so that it means something.
fn beside(path: &[&str], key: &str) -> &'static str {
    match (path, key) {
        (["fleet", "[]"], "id") => "",
        (["fleet", "[]"], _) => "id: n",
        (["events", "[]"], "action") => "target: n",
        (["events", "[]"], "target") => "action: recover_failure",
        (["events", "[]"], "failure_type" | "xid_code" | "gpu_index" | "message" | "duration") => {
            "action: inject_failure, target: n"
        }
        (["events", "[]"], "command_type" | "command_args") => "action: issue_command, target: n",
        (["events", "[]"], "expected_status" | "timeout") => "action: wait_for_status, target: n",
        (["events", "[]"], "log_message") => "action: log",
        (["events", "[]"], "down") => "action: crash",
        (["events", "[]"], "fault") => "action: cloud_fault",
        (["events", "[]"], "name" | "scope") => "action: outage, target: local-a",
        (["events", "[]"], "outage target") => "action: outage",
        (["events", "[]"], "pool" | "nodes") => "action: scale_pool",
        (["events", "[]"], "automation") => "action: automation",
        (["events", "[]"], "assertion") => "action: assert",
        (["events", "[]"], _) => "action: wait",
        (["events", "[]", "params"], "xid_code" | "gpu_index" | "message" | "duration") => {
            "failure_type: xid_error"
        }
        (["events", "[]", "params"], "command_args") => "command_type: cordon",
        (["events", "[]", "params"], "timeout") => "expected_status: active",
        (["events", "[]", "params"], "fault" | "name" | "scope" | "target") => "duration: 1m",
        (["events", "[]", "params"], "pool") => "nodes: 2",
        (["events", "[]", "params"], "nodes") => "pool: dev",
        (["assertions", "[]"] | ["events", "[]", "params", "assertion"], "type") => {
            "target: n, expected: active"
        }
        (["assertions", "[]"] | ["events", "[]", "params", "assertion"], key) => match key {
            "target" => "expected: active",
            "expected" => "target: n",
            "status" => "type: node_count, at_least: 1",
            "at_least" | "at_most" => "type: launches",
            "pool" => "type: capacity, at_least: 1",
            "rule" => "type: incidents, at_least: 1",
            _ => "type: time_to_recover, at_most: 5m",
        },
        (["cloud", "boot"] | ["cloud", "providers", "fake", "boot"], "stddev")
        | (["scheduler", "drain"], "stddev") => "mean: 1m",
        (["load", "dev", _, "steps", "[]"], "at") => "level: 1",
        (["load", "dev", _, "steps", "[]"], "level") => "at: 1h",
        (["load", "dev", _, "daily"], "low" | "peak_at") => "high: 1",
        (["stress", "fleet_gen"], "total_nodes") => TEMPLATES,
        (["stress", "fleet_gen"], "templates") => "total_nodes: 4",
        (["stress", "fleet_gen"], _) => GENERATED,
        (["stress", "fleet_gen", "templates", "[]"], "name") => "weight: 1, gpu_count: 8",
        (["stress", "fleet_gen", "templates", "[]"], "weight") => "name: t, gpu_count: 8",
        (["stress", "fleet_gen", "templates", "[]"], "gpu_count") => "name: t, weight: 1",
        (["stress", "fleet_gen", "templates", "[]"], _) => "name: t, weight: 1, gpu_count: 8",
        (["stress", "fleet_gen", "startup"], "cold_start_stddev") => "cold_start_mean: 1m",
        (["stress", "fleet_gen", "startup"], "jitter_percent" | "pattern") => "",
        (["stress", "chaos", "failure_types", "[]"], "type") => "weight: 1",
        (["stress", "chaos", "failure_types", "[]"], _) => "type: xid_error",
        (["stress", "chaos", "rates", "[]"], "type") => "per_1000_node_days: 1",
        (["stress", "chaos", "rates", "[]"], "per_1000_node_days") => "type: xid_error",
        (["stress", "chaos", "rates", "[]"], _) => "type: xid_error, per_1000_node_days: 1",
        (["stress", "chaos", "cascading"], "probability") => "",
        (["stress", "chaos", "cascading"], _) => "probability: 0.1",
        (["stress", "chaos", "correlated_failures", "[]"], "trigger") => "response: network",
        (["stress", "chaos", "correlated_failures", "[]"], "response") => "trigger: temperature",
        (["stress", "chaos", "correlated_failures", "[]"], "affected") => {
            "trigger: temperature, response: network, scope: rack"
        }
        (["stress", "chaos", "correlated_failures", "[]"], _) => {
            "trigger: temperature, response: network"
        }
        (["stress", "chaos", "scheduled_outages", "[]"], key) => match key {
            "duration" => "scope: zone, target: local-a",
            "scope" => "duration: 1m, target: local-a",
            "target" => "duration: 1m, scope: zone",
            _ => "duration: 1m, scope: zone, target: local-a",
        },
        _ => "",
    }
}

const TEMPLATES: &str = "templates: [{name: t, weight: 1, gpu_count: 8}]";
const GENERATED: &str = "total_nodes: 4, templates: [{name: t, weight: 1, gpu_count: 8}]";

/// A scenario that sets one key to a value and is sound otherwise.
fn file(path: &[&str], key: &str, value: &str) -> String {
    let mut text = format!("{key}: {value}");
    for depth in (0..path.len()).rev() {
        let within = &path[..=depth];
        // What stands beside the key itself, or beside the section that leads to it.
        let name = path.get(depth + 1).map_or(key, |name| match *name {
            "params" => match path.get(depth + 2) {
                None if key == "target" => "outage target",
                below => below.unwrap_or(&key),
            },
            name => name,
        });
        let others = match beside(within, name) {
            "" => String::new(),
            others => format!("{others}, "),
        };
        text = match path[depth] {
            "[]" => format!("[{{{others}{text}}}]"),
            section if path.get(depth + 1) == Some(&"[]") => format!("{section}: {text}"),
            section => format!("{section}: {{{others}{text}}}"),
        };
    }
    let top = path.first().copied().unwrap_or(key);
    let generated = path.get(1).copied().unwrap_or(key) == "fleet_gen";
    if top != "name" {
        text.push_str("\nname: n");
    }
    if top != "fleet" && !generated {
        text.push_str("\nfleet: [{id: n}]");
    }
    text.push_str("\npools: {dev: {provider: fake, instance_type: fake-8x, max_nodes: 5}}");
    text
}

#[test]
fn every_key_is_read_and_refuses_a_value_of_another_kind() {
    for (path, key) in keys() {
        let wrong = match key.form {
            Form::List(_) | Form::Texts => "{w: w}",
            _ => "[[]]",
        };
        let text = file(&path, key.name, wrong);
        let column = text.find(wrong).expect("it is in there") + 1;
        let errors = Scenario::parse("f", &text).expect_err(&text);
        let place = format!("f:1:{column}: ");
        let found = errors.errors().iter().any(|error| {
            let error = error.to_string();
            error.starts_with(&place) && error.contains(key.name)
        });
        assert!(found, "{text}\n{errors}");
        assert_eq!(errors.errors().len(), 1, "{text}\n{errors}");
    }
}

#[test]
fn every_default_is_what_an_absent_key_means() {
    let mut checked = 0;
    for (path, key) in keys() {
        // The rest has no default, or one that follows another key.
        if key.default.is_empty() || key.default.contains([' ', '(']) && key.name != "gpu_type" {
            continue;
        }
        let quoted = format!("\"{}\"", key.default);
        let value = match key.form {
            Form::Text | Form::Word(_) => &quoted,
            _ => key.default,
        };
        let text = file(&path, key.name, value);
        let set = format!("{}: {value}", key.name);
        let absent = [format!(", {set}"), format!("{set}\n"), set]
            .iter()
            .find(|set| text.contains(*set))
            .map(|set| text.replacen(set, "", 1))
            .expect("it is in there");
        let (given, _) = Scenario::parse("f", &text).unwrap_or_else(|e| panic!("{text}\n{e}"));
        let (without, _) =
            Scenario::parse("f", &absent).unwrap_or_else(|e| panic!("{absent}\n{e}"));
        assert_eq!(lines_aside(given), lines_aside(without), "{text}\n{absent}");
        checked += 1;
    }
    assert!(checked > 35, "{checked}");
}

/// A scenario in which no place differs.
fn lines_aside(mut scenario: Scenario) -> Scenario {
    for event in &mut scenario.events {
        event.line = 0;
    }
    scenario
}

#[test]
fn the_reference_has_a_row_for_every_key() {
    let reference = scenario_reference();
    let sections: Vec<&str> = reference.split("\n## ").collect();
    let rows: usize = sections
        .iter()
        .filter(|section| section.contains("| Key | Value | Default | Meaning |"))
        .map(|section| {
            section
                .lines()
                .filter(|line| line.starts_with("| `"))
                .count()
        })
        .sum();
    let shared = keys()
        .iter()
        .filter(|(path, _)| path.starts_with(&["events", "[]", "params", "assertion"]))
        .count();
    assert_eq!(rows, keys().len() - shared + CONTROL_PLANE.len());
    for (_, key) in keys() {
        assert!(key.about.ends_with('.'), "{}: {}", key.name, key.about);
    }
}

#[test]
fn every_extreme_is_answered() {
    for (path, key) in keys() {
        let extremes: &[&str] = match key.form {
            Form::Duration => &["0s", "0", "1ns", "2562047h", "-1s", "+5s", "5"],
            Form::Number => &[
                "-2",
                "-1",
                "0",
                "4294967295",
                "18446744073709551615",
                "18446744073709551616",
                "-170141183460469231731",
            ],
            Form::Decimal => &["0", "0.0", "-1", "1e9", "999999999999999999999999", ".inf"],
            Form::Share => &[
                "0",
                "1",
                "1.0000001",
                "-0",
                "100%",
                "100.01%",
                "-1%",
                ".nan",
            ],
            Form::Bound => &["0", "-1", "4294967296", "99999999h", "101%", "1.5"],
            Form::Weights => &["{79: 0}", "{0: 1}", "{1001: 1}", "{79: 99999999999}"],
            _ => &[],
        };
        for value in extremes {
            let text = file(&path, key.name, value);
            let column = text.find(&format!("{}: {value}", key.name));
            let column = column.expect("it is in there") + key.name.len() + 3;
            if let Err(errors) = Scenario::parse("f", &text) {
                let place = format!("f:1:{column}: ");
                for error in errors.errors() {
                    let said = error.to_string();
                    let about_it = said.starts_with(&place) || said.contains(key.name);
                    assert!(about_it, "{text}\n{said}");
                }
            }
        }
    }
}

#[test]
fn editors_and_the_loader_say_the_same() {
    let validator = Validator {
        schema: scenario_schema(),
    };
    for (path, key) in keys() {
        for value in right(key) {
            // It has keys that are required.
            if matches!(key.name, "fleet_gen" | "daily") && value == "{}" {
                continue;
            }
            let text = file(&path, key.name, &value);
            assert!(validator.takes(&text), "{text}");
            if let Err(errors) = Scenario::parse_with("f", &text, &|_| Some("1".into())) {
                // The value has the right form; it may be out of range, or need another key.
                for error in errors.errors() {
                    let form = [
                        "a list",
                        "a mapping",
                        "a whole number, found",
                        "expected text",
                    ];
                    let wrong = form.iter().any(|form| error.message.contains(form));
                    assert!(!wrong, "{text}\n{error}");
                }
            }
        }
        for value in wrong(key) {
            let text = file(&path, key.name, &value);
            assert!(!validator.takes(&text), "{text}");
            assert!(Scenario::parse("f", &text).is_err(), "{text}");
        }
        let text = file(&path, "no_such_key", "1");
        assert!(!validator.takes(&text), "{text}");
    }
}

#[test]
fn editors_take_the_examples() {
    let validator = Validator {
        schema: scenario_schema(),
    };
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/scenarios");
    for entry in std::fs::read_dir(examples).expect("the examples") {
        let path = entry.expect("an example").path();
        let text = std::fs::read_to_string(&path).expect("an example");
        assert!(validator.takes(&text), "{}", path.display());
    }
}

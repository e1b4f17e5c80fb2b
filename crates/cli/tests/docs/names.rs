//! Names in the documents that programs compare: metrics and their labels, guards, kinds of events,
//! keys of the configuration, messages of the log, and the phases of an instance.

use std::collections::BTreeSet;
use std::path::Path;

use navarch_model::{EventKind, Phase};
use navarch_policy::HealthPolicy;

use crate::pages::Page;
use crate::{DOCS, TESTED};

/// The sources that name guards.
const CRATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The sources whose messages alerts look for.
const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../server/src");

/// Keys of the Go project that the page for its users names, and that do not exist here.
const THEIR_KEYS: &[&str] = &["health.auto_replace"];

fn pages() -> impl Iterator<Item = Page> {
    TESTED.iter().map(|name| Page::read(Path::new(DOCS), name))
}

/// Inline code of a page.
fn code(page: &Page) -> impl Iterator<Item = &str> {
    let prose = page.text.lines().filter(|line| !line.starts_with("```"));
    prose.flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// The words of a text that begin so.
fn words(text: &str, prefix: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with(prefix))
        .map(str::to_owned)
        .collect()
}

#[test]
fn metrics_exist() {
    let known = std::fs::read_to_string(Path::new(DOCS).join("metrics.md")).expect("the page");
    let known = words(&known, "navarch_");
    let mut found = 0;
    for page in pages() {
        for metric in words(&page.text, "navarch_") {
            let crates = ["navarch_node", "navarch_server"];
            assert!(
                known.contains(&metric) || crates.contains(&metric.as_str()),
                "docs/{}: there is no metric {metric}",
                page.name
            );
            found += 1;
        }
    }
    assert!(found > 10, "{found} metrics found");
}

/// Full names of the keys of the configuration, and its sections; `<name>` is left out.
fn keys() -> BTreeSet<String> {
    let page = std::fs::read_to_string(Path::new(DOCS).join("configuration.md")).expect("the page");
    let mut keys = BTreeSet::new();
    let mut section = String::new();
    for line in page.lines() {
        let name = |text: &str| {
            text.split('`')
                .nth(1)
                .map(|name| name.replace(".<name>", ""))
        };
        if line.starts_with("## ") {
            section = name(line).unwrap_or_default();
            keys.insert(section.clone());
        } else if let Some(key) = line.strip_prefix("| `").and_then(|_| name(line)) {
            keys.insert(format!("{section}.{key}"));
        }
    }
    keys
}

#[test]
fn kinds_of_events_and_keys_of_the_configuration_exist() {
    let keys = keys();
    assert!(keys.contains("store.min_free"), "{keys:?}");
    let families: BTreeSet<&str> = EventKind::ALL
        .iter()
        .map(|kind| kind.word())
        .chain(keys.iter().map(String::as_str))
        .filter_map(|word| Some(word.split_once('.')?.0))
        .collect();
    let mut found = 0;
    for page in pages() {
        for word in code(&page) {
            let named = word.split_once('.').is_some_and(|(family, rest)| {
                let is_plain = rest
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || "._".contains(c));
                families.contains(family) && is_plain && !["yaml", "md", "log"].contains(&rest)
            });
            if named {
                assert!(
                    EventKind::from_word(word).is_some()
                        || keys.contains(word)
                        || page.name == "coming-from-go.md" && THEIR_KEYS.contains(&word),
                    "docs/{}: there is neither an event nor a key {word}",
                    page.name
                );
                found += 1;
            }
        }
    }
    assert!(found > 8, "{found} kinds and keys found");
}

/// Every source below a folder.
fn sources(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).expect("the sources") {
        let path = entry.expect("a file").path();
        if path.is_dir() {
            sources(&path, into);
        } else {
            into.push_str(&std::fs::read_to_string(path).expect("text"));
        }
    }
}

#[test]
fn messages_that_alerts_look_for_are_logged() {
    let mut source = String::new();
    sources(Path::new(SERVER), &mut source);
    let mut found = 0;
    for page in pages() {
        for message in code(&page).filter_map(|word| word.strip_prefix("log: ")) {
            assert!(
                source.contains(&format!("\"{message}")),
                "docs/{}: nothing logs {message:?}",
                page.name
            );
            found += 1;
        }
    }
    assert!(found >= 2, "{found} messages found");
}

/// The texts that a source passes first to a call that ends so, without its tests.
fn first_texts(source: &str, call: &str) -> BTreeSet<String> {
    let source = source
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    let after = source.split(call).skip(1);
    after
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .map(str::to_owned)
        .collect()
}

/// The names of the guards in the code that asks them.
fn guards() -> BTreeSet<String> {
    let mut files = ["guards", "placement", "autoscale"]
        .map(|file| Path::new(CRATES).join(format!("policy/src/{file}.rs")))
        .to_vec();
    for folder in [
        "core/src/plan",
        "core/src/fleet",
        "policy/src/guards",
        "policy/src/autoscale",
    ] {
        let folder = Path::new(CRATES).join(folder);
        for entry in std::fs::read_dir(folder).expect("the sources") {
            files.push(entry.expect("a file").path());
        }
    }
    let mut guards = BTreeSet::new();
    for file in files.iter().filter(|file| file.is_file()) {
        let source = std::fs::read_to_string(file).expect("text");
        for call in ["Block::new(", "block(", "guard:"] {
            guards.extend(first_texts(&source, call));
        }
    }
    // What automation that only watches says it would do: nothing is stopped.
    assert!(guards.remove("would"), "{guards:?}");
    assert!(guards.len() > 10, "{guards:?}");
    guards
}

#[test]
fn the_guards_of_the_table_are_those_of_the_code() {
    let page = Page::read(Path::new(DOCS), "concepts.md");
    let section = page.text.split("## Guards\n").nth(1).expect("its guards");
    let section = section.split("\n## ").next().unwrap_or_default();
    let listed: BTreeSet<String> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(listed, guards());
}

/// Guards that no alert asks for, each with the reason.
const NOT_ALERTED: &[(&str, &str)] = &[
    ("breaker", "navarch_breakers_open has an alert"),
    ("cooldown", "it ends by itself"),
    ("configuration", "the operator removed the pool"),
    ("drain", "it ends at its deadline"),
    ("gate", "it ends by itself, or with an incident"),
    ("incident", "nothing is due"),
    ("low_disk", "navarch_store_free_bytes has an alert"),
    ("minimum_life", "it ends by itself"),
    ("notifier", "navarch_notices_oldest_seconds has an alert"),
    (
        "outcome_unknown",
        "a look-up ends it, or navarch_listings_suspect has an alert",
    ),
    ("pace", "it ends by itself"),
    ("parallel_launches", "it ends with a launch"),
    (
        "proof",
        "two listings end it, or navarch_listings_suspect has an alert",
    ),
    (
        "replacement",
        "what keeps the replacement away has an alert",
    ),
    (
        "silence",
        "navarch_open_incidents of the rule silence has an alert",
    ),
    ("size", "the operator chose the limit"),
    ("small_pool", "it ends with the last replacement"),
    ("stabilization", "it ends by itself"),
    ("sweep", "navarch_listings_suspect has an alert"),
    ("unhealthy_after", "it ends with the next reports"),
];

/// What waits for ever may wait for somebody who does not know of it.
#[test]
fn every_guard_has_an_alert_or_needs_none() {
    let alerts = Path::new(CRATES).join("../examples/monitoring/alerts.yaml");
    let alerts = std::fs::read_to_string(alerts).expect("the alerts");
    let expressions = alerts
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("expr: "));
    let alerted: BTreeSet<String> = expressions
        .flat_map(selected)
        .filter(|(label, _)| label == "guard")
        .map(|(_, value)| value)
        .collect();
    let quiet: BTreeSet<String> = NOT_ALERTED
        .iter()
        .map(|(guard, _)| (*guard).to_owned())
        .collect();
    let both: Vec<_> = alerted.intersection(&quiet).collect();
    assert!(both.is_empty(), "{both:?}");
    assert_eq!(
        alerted.union(&quiet).cloned().collect::<BTreeSet<_>>(),
        guards()
    );
}

/// The labels and values of the selectors in an expression: `{guard="a"}`, `{guard=~"a|b"}`.
fn selected(code: &str) -> Vec<(String, String)> {
    let inside = code
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split('}').next());
    let pairs = inside.flat_map(|inside| inside.split(','));
    let mut found = Vec::new();
    for (label, values) in pairs.filter_map(|pair| pair.split_once('=')) {
        let values = values.trim_start_matches('~').trim_matches('"');
        for value in values.split('|').map(|value| value.trim_end_matches('\\')) {
            found.push((label.trim().to_owned(), value.to_owned()));
        }
    }
    found
}

#[test]
fn labels_that_alerts_select_exist() {
    let guards = guards();
    let built_in = HealthPolicy::builtin();
    let source =
        |path: &str| std::fs::read_to_string(Path::new(CRATES).join(path)).expect("the source");
    let metrics = source("server/src/metrics.rs");
    let silence = source("core/src/fleet/report.rs");
    let mut found = 0;
    for page in pages() {
        let alerts = code(&page).filter(|code| code.contains("navarch_"));
        for (label, value) in alerts.flat_map(selected) {
            let exists = match label.as_str() {
                "guard" => guards.contains(&value),
                "kind" => metrics.contains(&format!("(\"{value}\", {value})")),
                "phase" => Phase::ALL.iter().any(|phase| phase.word() == value),
                "rule" => {
                    silence.contains(&format!(": &str = \"{value}\";"))
                        || built_in.rules().iter().any(|rule| *rule.name == *value)
                }
                _ => false,
            };
            assert!(
                exists,
                "docs/{}: no series has {label}={value:?}; if it is new, teach this test",
                page.name
            );
            found += 1;
        }
    }
    assert!(found > 8, "{found} labels found");
}

#[test]
fn selectors_are_read() {
    let pairs = selected("a{x=\"1\",y=~\"2\\|3\"} > 0 or b{z=\"4\"} > 0");
    let pairs: Vec<(&str, &str)> = pairs
        .iter()
        .map(|(label, value)| (label.as_str(), value.as_str()))
        .collect();
    assert_eq!(pairs, [("x", "1"), ("y", "2"), ("y", "3"), ("z", "4")]);
}

#[test]
fn the_phases_of_an_instance_are_those_of_the_code() {
    let page = Page::read(Path::new(DOCS), "concepts.md");
    for from in Phase::ALL {
        let legal: Vec<String> = Phase::ALL
            .into_iter()
            .filter(|to| from.may_become(*to))
            .map(|to| format!("`{}`", to.word()))
            .collect();
        let start = format!("| `{}` | ", from.word());
        let row = page
            .text
            .lines()
            .find_map(|line| line.strip_prefix(&start))
            .and_then(|row| row.strip_suffix(" |"))
            .unwrap_or_else(|| panic!("no row for {}", from.word()));
        let mut shown: Vec<&str> = row.split(", ").filter(|word| *word != "nothing").collect();
        let mut legal: Vec<&str> = legal.iter().map(String::as_str).collect();
        shown.sort_unstable();
        legal.sort_unstable();
        assert_eq!(shown, legal, "{}", from.word());
    }
}

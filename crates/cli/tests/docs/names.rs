//! Names in the documents that programs compare: metrics, kinds of events, messages of the log, and
//! the phases of an instance.

use std::collections::BTreeSet;
use std::path::Path;

use navarch_model::{EventKind, Phase};

use crate::pages::Page;
use crate::{DOCS, TESTED};

/// The sources whose messages alerts look for.
const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../server/src");

/// Families of events whose names are sections of the configuration, too.
const SECTIONS: &[&str] = &["server", "config", "store"];

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

#[test]
fn kinds_of_events_exist() {
    let families: BTreeSet<&str> = EventKind::ALL
        .iter()
        .filter_map(|kind| Some(kind.word().split_once('.')?.0))
        .filter(|family| !SECTIONS.contains(family))
        .collect();
    let mut found = 0;
    for page in pages() {
        for word in code(&page) {
            let named = word.split_once('.').is_some_and(|(family, rest)| {
                let is_plain = rest.chars().all(|c| c.is_ascii_lowercase() || c == '_');
                families.contains(family) && is_plain && !["yaml", "md", "log"].contains(&rest)
            });
            if named {
                assert!(
                    EventKind::from_word(word).is_some(),
                    "docs/{}: there is no event {word}",
                    page.name
                );
                found += 1;
            }
        }
    }
    assert!(found > 4, "{found} kinds found");
}

#[test]
fn messages_that_alerts_look_for_are_logged() {
    let mut source = String::new();
    for entry in std::fs::read_dir(SERVER).expect("the sources") {
        let path = entry.expect("a file").path();
        if path.is_file() {
            source.push_str(&std::fs::read_to_string(path).expect("text"));
        }
    }
    let mut found = 0;
    for page in pages() {
        for message in code(&page).filter_map(|word| word.strip_prefix("log: ")) {
            assert!(
                source.contains(&format!("\"{message}\"")),
                "docs/{}: nothing logs {message:?}",
                page.name
            );
            found += 1;
        }
    }
    assert!(found >= 4, "{found} messages found");
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

//! Reading of assertions.

use std::time::Duration;

use navarch_model::{HealthStatus, NodeStatus};

use super::known::Known;
use crate::duration;
use crate::fields::{Fields, plain_count, plain_number};
use crate::scenario::{Assertion, Bounds, Expected, NamedRule, Target};
use crate::schema::{ASSERTIONS, Word};
use crate::tree::quoted;

/// The types of assertions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    NodeStatus,
    HealthStatus,
    NodeCount,
    Invariants,
    Capacity,
    Incidents,
    TimeToRecover,
    Launches,
}

/// The types in the order of their words.
const TYPES: [Type; 8] = [
    Type::NodeStatus,
    Type::HealthStatus,
    Type::NodeCount,
    Type::Invariants,
    Type::Capacity,
    Type::Incidents,
    Type::TimeToRecover,
    Type::Launches,
];

impl Type {
    /// What the tables say of it.
    const fn row(self) -> &'static Word {
        const ROWS: &[Word] = &ASSERTIONS;
        &ROWS[self as usize]
    }
}

/// The keys of an assertion beside its type.
const KEYS: [&str; 8] = [
    "target",
    "expected",
    "status",
    "at_least",
    "at_most",
    "pool",
    "rule",
    "percentile",
];

pub(super) fn assertions(root: &Fields<'_>, known: &Known<'_>) -> Vec<Assertion> {
    let sections = root.list("assertions");
    let read = sections.iter().filter_map(|fields| {
        Some(Assertion {
            line: fields.start().line,
            what: assertion(fields, known)?,
        })
    });
    read.collect()
}

/// One assertion; none when something is wrong with it.
pub(super) fn assertion(fields: &Fields<'_>, known: &Known<'_>) -> Option<Expected> {
    if fields.is_broken() {
        return None;
    }
    let kind = match fields.has("type") {
        true => fields.word("type", &TYPES.map(|kind| (kind.row().name, kind))),
        false => Some(Type::NodeStatus),
    };
    let percentile = fields.decimal("percentile", 0.0..=100.0);
    let rule = fields.text("rule");
    let pool = fields
        .text("pool")
        .and_then(|pool| known.pool(fields, "pool", &pool));
    let kind = kind?;
    for key in KEYS {
        if fields.has(key) && !kind.row().keys.contains(&key) {
            let path = fields.path_of(key);
            let word = kind.row().name;
            fields.log().warn(
                fields.at(key),
                format!("{path} has no effect: {word} does not read it"),
            );
        }
    }
    let numbers = |unit| bounds(fields, unit);
    match kind {
        Type::NodeStatus => {
            let target = target(fields, known);
            let status = node_status(fields, "expected");
            Some(Expected::NodeStatus(target?, status?))
        }
        Type::HealthStatus => {
            let target = target(fields, known);
            let status = health_status(fields, "expected");
            Some(Expected::HealthStatus(target?, status?))
        }
        Type::NodeCount => {
            if fields.has("target") && known.target(fields, "target")? != Target::All {
                fields.fail(
                    "target",
                    "node_count counts all nodes: write * or remove it",
                );
            }
            let status = fields
                .has("status")
                .then(|| node_status(fields, "status"))
                .flatten();
            let count = numbers(Unit::Count)?;
            Some(Expected::NodeCount { status, count })
        }
        Type::Invariants => Some(Expected::Invariants),
        Type::Capacity => {
            let percent = numbers(Unit::Percent)?;
            Some(Expected::Capacity { pool, percent })
        }
        Type::Incidents => {
            if let Some(rule) = &rule {
                known.names_rule(NamedRule {
                    name: rule.clone(),
                    written: fields.log().without_values(quoted(rule)),
                    path: fields.path_of("rule"),
                    at: fields.at("rule"),
                });
            }
            let count = numbers(Unit::Count)?;
            Some(Expected::Incidents { rule, count })
        }
        Type::TimeToRecover => {
            let at_most = longest(fields)?;
            let percentile = percentile.unwrap_or(100.0);
            Some(Expected::TimeToRecover {
                percentile,
                at_most,
            })
        }
        Type::Launches => Some(Expected::Launches(numbers(Unit::Count)?)),
    }
}

fn target(fields: &Fields<'_>, known: &Known<'_>) -> Option<Target> {
    if !fields.has("target") {
        fields.fail("target", "required: name a node, pool/NAME/N, or * for all");
    }
    known.target(fields, "target")
}

/// A status of nodes, as in `active`; the names of the contract are read, too.
pub(super) fn node_status(fields: &Fields<'_>, key: &str) -> Option<NodeStatus> {
    let known = NodeStatus::ALL
        .iter()
        .filter(|one| **one != NodeStatus::Unknown);
    let words: Vec<_> = known.map(|status| (status.short(), *status)).collect();
    let names = words
        .iter()
        .map(|(word, status)| (*word, status.name(), "NODE_STATUS_"));
    status(fields, key, &words, names)
}

pub(super) fn health_status(fields: &Fields<'_>, key: &str) -> Option<HealthStatus> {
    let known = HealthStatus::ALL
        .iter()
        .filter(|one| **one != HealthStatus::Unknown);
    let words: Vec<_> = known.map(|status| (status.short(), *status)).collect();
    let names = words
        .iter()
        .map(|(word, status)| (*word, status.name(), "HEALTH_STATUS_"));
    status(fields, key, &words, names)
}

fn status<'w, T: Copy>(
    fields: &Fields<'_>,
    key: &str,
    words: &[(&str, T)],
    names: impl Iterator<Item = (&'w str, &'w str, &'w str)>,
) -> Option<T> {
    if !fields.has(key) {
        fields.fail(key, "required: say which status");
    }
    let old = names.flat_map(|(word, name, prefix)| {
        let upper = name.strip_prefix(prefix).unwrap_or(name);
        [(name, word), (upper, word)]
    });
    fields.word_or_old(key, words, old)
}

/// What numbers mean.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Count,
    Percent,
}

impl Unit {
    fn read(self, text: &str) -> Option<f64> {
        match self {
            Self::Count => plain_count(text).map(f64::from),
            Self::Percent => {
                let number = text.strip_suffix('%').unwrap_or(text).trim_end();
                plain_number(number).filter(|percent| *percent <= 100.0)
            }
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Count => "a whole number such as 5",
            Self::Percent => "a percentage such as 95%",
        }
    }
}

/// The range that `expected`, `at_least` and `at_most` give; none when it is wrong or missing.
fn bounds(fields: &Fields<'_>, unit: Unit) -> Option<Bounds> {
    let errors = fields.log().error_count();
    let number = |key: &str| {
        let text = fields.text(key)?;
        let value = unit.read(&text);
        if value.is_none() {
            let found = quoted(&text);
            fields.fail(key, format!("expected {}, found {found}", unit.words()));
        }
        value
    };
    let own = Bounds {
        at_least: number("at_least"),
        at_most: number("at_most"),
    };
    let said = fields.has("at_least") || fields.has("at_most");
    let expected = expected(fields, unit);
    if said && fields.has("expected") {
        fields.fail("expected", "at_least or at_most is set too: keep one form");
    }
    if !said && !fields.has("expected") {
        fields.fail(
            "expected",
            format!("required: {}, alone or after >= or <=", unit.words()),
        );
    }
    if let (Some(least), Some(most)) = (own.at_least, own.at_most)
        && least > most
    {
        fields.fail("at_least", "larger than at_most: exchange them");
    }
    (fields.log().error_count() == errors).then(|| expected.unwrap_or(own))
}

/// The range of a text such as `5`, `>=5` and `<=5`.
fn expected(fields: &Fields<'_>, unit: Unit) -> Option<Bounds> {
    let text = fields.text("expected")?;
    let after = |sign: &str| text.strip_prefix(sign).map(str::trim_start);
    let (least, most, number) = match (after(">="), after("<="), after("==").or(after("="))) {
        (Some(number), ..) => (true, false, number),
        (_, Some(number), _) => (false, true, number),
        (.., Some(number)) => (true, true, number),
        _ => (true, true, text.as_str()),
    };
    let Some(value) = unit.read(number) else {
        fields.fail(
            "expected",
            format!(
                "expected {}, alone or after >= or <=, found {}",
                unit.words(),
                quoted(&text)
            ),
        );
        return None;
    };
    Some(Bounds {
        at_least: least.then_some(value),
        at_most: most.then_some(value),
    })
}

/// The longest time of `time_to_recover`.
fn longest(fields: &Fields<'_>) -> Option<Duration> {
    let key = if fields.has("expected") && !fields.has("at_most") {
        "expected"
    } else {
        "at_most"
    };
    if !fields.has(key) {
        fields.fail(key, "required: the longest time, such as 5m");
        return None;
    }
    let text = fields.text(key)?;
    let number = text
        .strip_prefix("<=")
        .map_or(text.as_str(), str::trim_start);
    match duration::parse(number) {
        Ok(longest) => Some(longest),
        Err(error) => {
            fields.fail(key, format!("{} is not a duration: {error}", quoted(&text)));
            None
        }
    }
}

/// Whether a key of the Go project's `assert` names the health of nodes rather than their status.
pub(super) fn is_about_health(fields: &Fields<'_>, key: &str) -> Option<bool> {
    fields.word(key, &[("node_status", false), ("health_status", true)])
}

//! Reading of autoscaling.

use std::time::Duration;

use super::windows::schedule;
use super::{MOST_NODES, SHORTEST_WAIT, urls};
use crate::config::{Autoscaler, Autoscaling, Mode, Paces, Question, Source, Steps};
use crate::fields::{Fields, YEAR};
use crate::tree::quoted;

/// Autoscalers within autoscalers: more is no policy that anybody understands.
const MOST_LEVELS: usize = 4;
/// Autoscalers of one composite.
const MOST_PARTS: usize = 16;
/// Measurements of a trend, at the least and at the most. Through two goes always a line.
const LOOKBACK: std::ops::RangeInclusive<u32> = 3..=1000;

/// The bounds of the pool, for what contradicts them.
pub(super) type Bounds = (u32, u32);

/// The cooldowns of a pool.
pub(super) fn cooldown(fields: &Fields<'_>) -> Paces {
    fields
        .paces("cooldown", Paces::COOLDOWN, Duration::ZERO..=YEAR)
        .unwrap_or(Paces::COOLDOWN)
}

/// The section, if it is there and sound.
pub(super) fn autoscaling(pool: &Fields<'_>, bounds: Bounds) -> Option<Autoscaling> {
    if !pool.has("autoscaling") {
        return None;
    }
    let fields = pool.section("autoscaling");
    let autoscaler = autoscaler(&fields, bounds, 1)?;
    let step = fields.section("step");
    let steps = |key: &str| step.count(key, 1..=MOST_NODES);
    if bounds.0 == 0 && sees_nothing_at_zero(&autoscaler) {
        fields.log().warn(
            fields.at("type"),
            format!(
                "{}: without a machine there is no utilization: a pool with min_nodes 0 never \
                 grows by it from nothing; add a queue, a schedule or min_nodes: 1",
                fields.path_of("type")
            ),
        );
    }
    let window = Duration::ZERO..=Duration::from_secs(24 * 3600);
    Some(Autoscaling {
        autoscaler,
        stabilization: fields
            .paces("stabilization", Paces::STABILIZATION, window)
            .unwrap_or(Paces::STABILIZATION),
        step: Steps {
            up: steps("up"),
            down: steps("down"),
        },
    })
}

/// Whether only utilisation speaks for a machine.
fn sees_nothing_at_zero(autoscaler: &Autoscaler) -> bool {
    autoscaler
        .all()
        .iter()
        .all(|one| !matches!(one, Autoscaler::Queue { .. } | Autoscaler::Scheduled { .. }))
}

fn autoscaler(fields: &Fields<'_>, bounds: Bounds, level: usize) -> Option<Autoscaler> {
    if level > MOST_LEVELS {
        let message = format!("autoscalers stand {MOST_LEVELS} deep at most: make it simpler");
        fields.log().error(fields.start(), message);
        return None;
    }
    if fields.is_broken() {
        return None;
    }
    if !fields.has("type") {
        fields.fail(
            "type",
            "required: say what recommends a size: reactive, queue, scheduled, predictive or \
             composite",
        );
        return None;
    }
    let words = ["reactive", "queue", "scheduled", "predictive", "composite"];
    let kind = fields.word("type", &words.map(|word| (word, word)))?;
    let own: &[&str] = match kind {
        "reactive" => &["scale_up_at", "scale_down_at"],
        "queue" => &["jobs_per_node", "source"],
        "scheduled" => &["schedule", "timezone", "fallback"],
        "predictive" => &[
            "lookback_window",
            "growth_factor",
            "scale_up_at",
            "target_utilization",
            "fallback",
        ],
        _ => &["mode", "autoscalers"],
    };
    strange(fields, kind, own, level);
    let fallback = || {
        fields
            .has("fallback")
            .then(|| autoscaler(&fields.section("fallback"), bounds, level + 1))
            .flatten()
            .map(Box::new)
    };
    Some(match kind {
        "reactive" => {
            let scale_up_at = fields.count("scale_up_at", 1..=100).unwrap_or(80);
            let scale_down_at = fields.count("scale_down_at", 0..=99).unwrap_or(20);
            if scale_down_at >= scale_up_at {
                let key = if fields.has("scale_down_at") {
                    "scale_down_at"
                } else {
                    "scale_up_at"
                };
                fields.fail(
                    key,
                    format!(
                        "scale_down_at {scale_down_at} must be below scale_up_at {scale_up_at}: \
                         between the two the size stays"
                    ),
                );
            }
            Autoscaler::Reactive {
                scale_up_at,
                scale_down_at,
            }
        }
        "queue" => Autoscaler::Queue {
            jobs_per_node: fields.count("jobs_per_node", 1..=1_000_000).unwrap_or(10),
            source: source(fields),
        },
        "scheduled" => Autoscaler::Scheduled {
            schedule: schedule(fields, bounds),
            fallback: fallback(),
        },
        "predictive" => {
            let scale_up_at = fields.count("scale_up_at", 1..=100).unwrap_or(80);
            let target = fields.count("target_utilization", 1..=100);
            let target = target.unwrap_or_else(|| 70.min(scale_up_at));
            if target > scale_up_at {
                fields.fail(
                    "target_utilization",
                    format!("{target} is above scale_up_at {scale_up_at}: the pool would not grow"),
                );
            }
            Autoscaler::Predictive {
                lookback_window: fields.count("lookback_window", LOOKBACK).unwrap_or(10),
                growth_factor: fields.decimal("growth_factor", 0.0..=100.0).unwrap_or(1.2),
                scale_up_at,
                target_utilization: target,
                fallback: fallback(),
            }
        }
        _ => {
            let parts = fields.list("autoscalers");
            if parts.is_empty() {
                fields.fail("autoscalers", "required: list at least one autoscaler");
            } else if parts.len() > MOST_PARTS {
                fields.fail(
                    "autoscalers",
                    format!("at most {MOST_PARTS} stand beside each other"),
                );
            }
            Autoscaler::Composite {
                mode: fields
                    .word("mode", &Mode::ALL.map(|mode| (mode.word(), mode)))
                    .unwrap_or_default(),
                autoscalers: parts
                    .iter()
                    .take(MOST_PARTS)
                    .filter_map(|part| autoscaler(part, bounds, level + 1))
                    .collect(),
            }
        }
    })
}

/// Says of keys that belong to another type, or to the outermost autoscaler.
fn strange(fields: &Fields<'_>, kind: &str, own: &[&str], level: usize) {
    for key in [
        "scale_up_at",
        "scale_down_at",
        "jobs_per_node",
        "source",
        "schedule",
        "timezone",
        "lookback_window",
        "growth_factor",
        "target_utilization",
        "mode",
        "autoscalers",
        "fallback",
    ] {
        if fields.has(key) && !own.contains(&key) {
            let message = format!(
                "{} has no effect: an autoscaler of type {kind} does not read it",
                fields.path_of(key)
            );
            fields.log().warn(fields.at(key), message);
        }
    }
    for key in ["stabilization", "step"] {
        if level > 1 && fields.has(key) {
            fields.fail(key, "it belongs to the outermost autoscaler: move it there");
        }
    }
}

fn source(fields: &Fields<'_>) -> Option<Source> {
    let sources = fields.section("source");
    let (http, prometheus) = (sources.has("http"), sources.has("prometheus"));
    if http && prometheus {
        sources.fail(
            "prometheus",
            "a queue has one source: remove http or prometheus",
        );
        return None;
    }
    if !http && !prometheus {
        if !sources.is_broken() {
            let message = format!(
                "{}: no source says how long the queue is: the size holds until there is one",
                fields.path_of("source")
            );
            fields.log().warn(fields.at("source"), message);
        }
        return None;
    }
    let within = sources.section(if http { "http" } else { "prometheus" });
    if !within.has("url") && !within.is_broken() {
        within.fail("url", "required: say where to ask");
    }
    let headers = within.headers("headers");
    let timeout = within.duration("timeout", SHORTEST_WAIT..=Duration::from_secs(60));
    let question = if http {
        let pointer = within.text("pointer").unwrap_or_default();
        if !pointer.is_empty() && !pointer.starts_with('/') {
            within.fail(
                "pointer",
                format!("{} is no JSON pointer: begin with /", quoted(&pointer)),
            );
        }
        Question::Http {
            url: urls::endpoint(&within, "url")?,
            pointer,
        }
    } else {
        let query = within.text("query");
        if !within.has("query") && !within.is_broken() {
            within.fail("query", "required: say what to ask");
        }
        Question::Prometheus {
            url: urls::root(&within, "url")?,
            query: query?,
        }
    };
    Some(Source {
        question,
        headers,
        timeout: timeout.unwrap_or(Duration::from_secs(5)),
    })
}

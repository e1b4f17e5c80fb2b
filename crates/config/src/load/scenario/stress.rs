//! Reading of stress runs and generated fleets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::MOST_NODES;
use super::super::fleet::MOST_GPUS;
use super::{GPU_TYPE, cold_start, labels};
use crate::error::Position;
use crate::fields::{Fields, MOST_WEIGHT, YEAR, shown};
use crate::scenario::{FleetGen, Pattern, Startup, Stress, Template};
use crate::tree::quoted;

/// The most nodes of a rack: more is a hall.
const MOST_PER_RACK: u32 = 1000;

/// Providers of a generated fleet that names none, by weight.
const PROVIDERS: &[(&str, f64)] = &[("gcp", 50.0), ("aws", 35.0), ("lambda", 15.0)];

/// Regions of a generated fleet that names none, by weight.
const REGIONS: &[(&str, f64)] = &[
    ("us-central1", 30.0),
    ("us-east1", 25.0),
    ("us-west1", 20.0),
    ("europe-west1", 15.0),
    ("asia-east1", 10.0),
];

/// Reads the section without its chaos, which needs to know the fleet.
pub(super) fn stress(fields: &Fields<'_>) -> Stress {
    let minute = Duration::from_secs(60);
    let [report_file, html_report_file, log_file] = copies(fields);
    Stress {
        duration: fields
            .longer_than_zero("duration", YEAR)
            .unwrap_or(10 * minute),
        metrics_interval: fields
            .longer_than_zero("metrics_interval", YEAR)
            .unwrap_or(Duration::from_secs(5)),
        seed: seed(fields),
        report_file,
        html_report_file,
        log_file,
        fleet_gen: fields
            .has("fleet_gen")
            .then(|| fleet_gen(&fields.section("fleet_gen"))),
        chaos: None,
    }
}

/// A seed of 64 bits.
pub(super) fn seed(fields: &Fields<'_>) -> Option<u64> {
    let seed = fields.whole("seed", 0..=i128::from(u64::MAX))?;
    u64::try_from(seed).ok()
}

/// What a run writes by itself.
const OWN_FILES: [&str; 5] = [
    "scenario.yaml",
    "report.json",
    "report.html",
    "trace.jsonl",
    "timing.json",
];

/// The copies that a run makes: of report.json, of report.html and of the log.
fn copies(fields: &Fields<'_>) -> [Option<String>; 3] {
    let keys = ["report_file", "html_report_file", "log_file"];
    let mut copies = keys.map(|key| file(fields, key));
    for (at, key) in keys.iter().enumerate() {
        let Some(name) = &copies[at] else { continue };
        // A copy onto itself is none.
        let itself = ["report.json", "report.html", "trace.jsonl"][at];
        if name == itself {
            copies[at] = None;
        } else if OWN_FILES.contains(&name.as_str()) || name.split('/').next() == Some("logs") {
            let name = quoted(name);
            fields.fail(
                key,
                format!("{name} is a file of the run itself: choose another name"),
            );
        } else if let Some(other) = (0..at).find(|other| copies[*other] == copies[at]) {
            fields.fail(
                key,
                format!("the same file as {}: choose another name", keys[other]),
            );
        }
    }
    copies
}

/// A file of the run directory. The Go project's files name places such as `/tmp/report.json`,
/// which nothing there ever wrote: of those the last part counts.
fn file(fields: &Fields<'_>, key: &str) -> Option<String> {
    let text = fields.text(key)?;
    let parts: Vec<&str> = text.split('/').collect();
    let name = parts.last().copied().unwrap_or_default();
    if text.contains('\\') || parts.contains(&"..") || matches!(name, "" | ".") {
        fields.fail(
            key,
            format!(
                "{} is no file in the run directory: write a relative path without ..",
                quoted(&text)
            ),
        );
        return None;
    }
    if text.starts_with('/') {
        let path = fields.path_of(key);
        fields.log().warn(
            fields.at(key),
            format!(
                "{path}: a run writes into its own directory alone: {} in there is used instead of {}",
                shown(name),
                quoted(&text)
            ),
        );
        return Some(name.to_owned());
    }
    let parts = parts.into_iter().filter(|part| !matches!(*part, "" | "."));
    Some(parts.collect::<Vec<_>>().join("/"))
}

fn fleet_gen(fields: &Fields<'_>) -> FleetGen {
    let total_nodes = fields.count("total_nodes", 1..=MOST_NODES);
    if !fields.has("total_nodes") && !fields.is_broken() {
        fields.fail("total_nodes", "required: say how many nodes there are");
    }
    let regions = shares(fields, "regions", REGIONS);
    FleetGen {
        total_nodes: total_nodes.unwrap_or(1),
        templates: templates(fields),
        providers: shares(fields, "providers", PROVIDERS),
        zones: zones(fields, &regions),
        regions,
        nodes_per_rack: fields
            .count("nodes_per_rack", 1..=MOST_PER_RACK)
            .unwrap_or(8),
        startup: startup(&fields.section("startup")),
    }
}

/// Names by weight, in the order of the names, so that the order of the file does not matter.
fn shares(fields: &Fields<'_>, key: &'static str, default: &[(&str, f64)]) -> Vec<(String, f64)> {
    let weights = fields.weights(key);
    for (name, _, at) in &weights {
        check_name(fields, key, name, *at);
    }
    let mut shares: Vec<(String, f64)> = weights
        .into_iter()
        .map(|(name, weight, _)| (name.to_owned(), weight))
        .collect();
    if shares.is_empty() {
        shares = default
            .iter()
            .map(|(name, weight)| ((*name).to_owned(), *weight))
            .collect();
    }
    shares.sort_by(|(one, _), (other, _)| one.cmp(other));
    shares
}

fn check_name(fields: &Fields<'_>, key: &str, name: &str, at: Position) {
    if let Err(error) = navarch_model::ids::check_id(name) {
        let path = fields.path_of(key);
        let message = format!("{path}: {} {error}", quoted(name));
        fields.log().error(at, message);
    }
}

fn zones(fields: &Fields<'_>, regions: &[(String, f64)]) -> BTreeMap<String, Vec<String>> {
    let mut zones = BTreeMap::new();
    for (region, names, at) in fields.texts_by_name("zones") {
        let path = fields.path_of("zones");
        if !regions.iter().any(|(known, _)| known == region) {
            fields.log().warn(
                at,
                format!("{path}: no node is in the region {}", quoted(region)),
            );
        }
        if names.is_empty() {
            let message = format!(
                "{path}.{}: the list is empty: name a zone, or leave the region out",
                shown(region)
            );
            fields.log().error(at, message);
        }
        let mut seen = BTreeSet::new();
        for zone in &names {
            check_name(fields, "zones", zone, at);
            if !seen.insert(zone) {
                let message = format!("{path}: {} is listed twice: keep one", quoted(zone));
                fields.log().error(at, message);
            }
        }
        zones.insert(region.to_owned(), names);
    }
    zones
}

fn templates(fields: &Fields<'_>) -> Vec<Template> {
    let errors = fields.log().error_count();
    let sections = fields.list("templates");
    let sound = fields.log().error_count() == errors && !fields.is_broken();
    if sections.is_empty() && sound {
        fields.fail(
            "templates",
            "at least one is required: give it a name, a weight and a gpu_count",
        );
    }
    let mut seen = BTreeSet::new();
    let mut templates = Vec::new();
    for fields in sections {
        for (key, what) in [
            ("name", "it is part of the node ids"),
            ("weight", "say how often it is drawn"),
            ("gpu_count", "say how many GPUs its nodes have"),
        ] {
            if !fields.has(key) && !fields.is_broken() {
                fields.fail(key, format!("required: {what}"));
            }
        }
        let template = template(&fields);
        if !template.name.is_empty() && !seen.insert(template.name.clone()) {
            let name = quoted(&template.name);
            fields.fail("name", format!("{name} is used twice: keep one"));
        }
        templates.push(template);
    }
    templates
}

fn template(fields: &Fields<'_>) -> Template {
    let weight = fields.decimal("weight", 0.0..=MOST_WEIGHT);
    if weight == Some(0.0) {
        fields.fail("weight", "must be more than 0: remove the template instead");
    }
    Template {
        name: fields.name("name").unwrap_or_default(),
        weight: weight.unwrap_or(1.0),
        gpu_count: fields.count("gpu_count", 1..=MOST_GPUS).unwrap_or(8),
        gpu_type: fields
            .text("gpu_type")
            .unwrap_or_else(|| GPU_TYPE.to_owned()),
        instance_type: fields.name("instance_type"),
        labels: labels(fields, "labels"),
    }
}

fn startup(fields: &Fields<'_>) -> Startup {
    let pattern = fields.word(
        "pattern",
        &[
            ("instant", Pattern::Instant),
            ("linear", Pattern::Linear),
            ("exponential", Pattern::Exponential),
            ("wave", Pattern::Wave),
        ],
    );
    // The Go project starts a fleet without a pattern this way.
    let usual_jitter = if fields.has("pattern") { 0.0 } else { 10.0 };
    let pattern = pattern.unwrap_or(Pattern::Linear);
    let duration = fields.duration("duration", Duration::ZERO..=YEAR);
    Startup {
        duration: duration.unwrap_or(Duration::from_secs(match pattern {
            Pattern::Instant => 0,
            Pattern::Linear => 30,
            Pattern::Exponential => 120,
            Pattern::Wave => 300,
        })),
        batch_size: fields.count("batch_size", 1..=MOST_NODES).unwrap_or(100),
        jitter: fields
            .decimal("jitter_percent", 0.0..=100.0)
            .unwrap_or(usual_jitter)
            / 100.0,
        cold_start: cold_start(
            fields,
            [
                "cold_start_min",
                "cold_start_max",
                "cold_start_mean",
                "cold_start_stddev",
            ],
        ),
        pattern,
    }
}

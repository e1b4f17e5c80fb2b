//! The metrics page: well-formed, complete, and true.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::support::agents::{Agent, GoAgent};
use crate::support::plane::Plane;

/// A page, read as strictly as the format allows.
#[derive(Debug, Default)]
struct Page {
    types: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

impl Page {
    fn read(text: &str) -> Self {
        let mut page = Self::default();
        let mut helps = BTreeSet::new();
        let mut family = String::new();
        assert!(text.ends_with('\n'), "the last line is whole");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a name and a text");
                assert!(!help.trim().is_empty(), "{line}");
                assert!(helps.insert(name.to_owned()), "two families {name}");
                family = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a type");
                assert_eq!(name, family, "the type follows the help");
                assert!(["gauge", "counter"].contains(&kind), "{line}");
                page.types.insert(name.to_owned(), kind.to_owned());
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a series and a value");
                let name = series.split('{').next().expect("a name");
                assert_eq!(name, family, "a sample outside its family: {line}");
                assert!(
                    page.types.contains_key(name),
                    "a sample before its type: {line}"
                );
                Self::check_labels(&series[name.len()..]);
                let value: f64 = value.parse().expect("a number");
                assert!(value.is_finite() && value >= 0.0, "{line}");
                let new = page.samples.insert(series.to_owned(), value).is_none();
                assert!(new, "two samples of {series}");
            }
        }
        page
    }

    /// `{a="b",c="d"}`, or nothing.
    fn check_labels(labels: &str) {
        if labels.is_empty() {
            return;
        }
        let inner = labels
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        let mut rest = inner.unwrap_or_else(|| panic!("no labels: {labels}"));
        loop {
            let (key, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{labels}"));
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
            assert!(!key.is_empty() && key.chars().all(legal), "{labels}");
            let mut escaped = false;
            let end = after.char_indices().find(|(_, c)| {
                let end = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                end
            });
            let (end, _) = end.unwrap_or_else(|| panic!("{labels}"));
            match after[end + 1..].strip_prefix(',') {
                Some(more) => rest = more,
                None => {
                    assert_eq!(&after[end + 1..], "", "{labels}");
                    return;
                }
            }
        }
    }

    #[track_caller]
    fn at(&self, series: &str) -> Option<f64> {
        self.samples.get(series).copied()
    }
}

async fn scrape(plane: &Plane) -> Page {
    let raw = plane.get("/metrics").await;
    assert_eq!(raw.status, 200);
    assert_eq!(
        raw.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    Page::read(&raw.text())
}

#[tokio::test]
async fn the_page_of_an_empty_fleet_names_every_metric() {
    let plane = Plane::start().await;
    let page = scrape(&plane).await;
    for (name, kind) in [
        ("navarch_nodes_total", "gauge"),
        ("navarch_gpus_total", "gauge"),
        ("navarch_node_health_status", "gauge"),
        ("navarch_instances", "gauge"),
        ("navarch_open_incidents", "gauge"),
        ("navarch_unclaimed_machines", "gauge"),
        ("navarch_events_total", "counter"),
        ("navarch_invariant_violations", "gauge"),
        ("navarch_pool_target_nodes", "gauge"),
        ("navarch_pool_waits", "gauge"),
        ("navarch_pool_disruptions", "gauge"),
    ] {
        assert_eq!(
            page.types.get(name).map(String::as_str),
            Some(kind),
            "{name}"
        );
    }
    assert_eq!(page.at("navarch_invariant_violations"), Some(0.0));
    assert!(
        !page
            .samples
            .keys()
            .any(|series| series.starts_with("navarch_nodes_total"))
    );
}

#[tokio::test]
async fn values_follow_the_fleet() {
    let plane = Plane::start().await;
    for name in ["a", "b", "c"] {
        GoAgent(name).register(&plane).await;
    }
    let mut ours = Agent::new("d");
    ours.join(&plane).await;
    plane.ok("RegisterNode", json!({"nodeId": "e"})).await;
    plane
        .ok("IssueCommand", json!({"nodeId": "b", "commandType": 1}))
        .await;
    GoAgent("a").report(&plane, "HEALTHY").await;
    GoAgent("c").report(&plane, "DEGRADED").await;
    ours.report(&plane, "UNHEALTHY").await;
    let page = scrape(&plane).await;
    for (series, value) in [
        ("navarch_nodes_total{status=\"active\"}", Some(3.0)),
        ("navarch_nodes_total{status=\"cordoned\"}", Some(1.0)),
        ("navarch_nodes_total{status=\"unhealthy\"}", Some(1.0)),
        ("navarch_nodes_total{status=\"draining\"}", None),
        ("navarch_gpus_total{provider=\"lambda\"}", Some(3.0)),
        ("navarch_gpus_total{provider=\"fake\"}", Some(1.0)),
        ("navarch_gpus_total{provider=\"unknown\"}", Some(0.0)),
        (
            "navarch_node_health_status{node_id=\"a\",status=\"healthy\"}",
            Some(1.0),
        ),
        (
            "navarch_node_health_status{node_id=\"b\",status=\"unknown\"}",
            Some(0.0),
        ),
        (
            "navarch_node_health_status{node_id=\"c\",status=\"degraded\"}",
            Some(0.5),
        ),
        (
            "navarch_node_health_status{node_id=\"d\",status=\"unhealthy\"}",
            Some(0.0),
        ),
        ("navarch_invariant_violations", Some(0.0)),
    ] {
        assert_eq!(page.at(series), value, "{series} in {:#?}", page.samples);
    }
    let open: f64 = page
        .samples
        .iter()
        .filter(|(series, _)| series.starts_with("navarch_open_incidents{"))
        .map(|(_, value)| value)
        .sum();
    assert!((open - 2.0).abs() < f64::EPSILON, "{:#?}", page.samples);
    assert_eq!(
        page.at("navarch_events_total"),
        Some(plane.sequence().await as f64)
    );
    ours.report(&plane, "HEALTHY").await;
    plane
        .ok("IssueCommand", json!({"nodeId": "b", "commandType": 5}))
        .await;
    let page = scrape(&plane).await;
    assert_eq!(page.at("navarch_nodes_total{status=\"active\"}"), Some(5.0));
    assert_eq!(page.at("navarch_nodes_total{status=\"unhealthy\"}"), None);
    assert_eq!(
        page.at("navarch_node_health_status{node_id=\"d\",status=\"healthy\"}"),
        Some(1.0)
    );
}

#[tokio::test]
async fn names_from_outside_cannot_break_the_page() {
    let plane = Plane::start().await;
    let provider = "a\"b\\c} 1 # HELP";
    plane
        .ok(
            "RegisterNode",
            json!({"nodeId": "n", "provider": provider, "gpus": [{}]}),
        )
        .await;
    plane
        .ok(
            "ReportHealth",
            json!({
                "nodeId": "n",
                "results": [{"checkName": "x\"} 99 \\", "status": "HEALTH_STATUS_UNHEALTHY"}],
            }),
        )
        .await;
    let page = scrape(&plane).await;
    assert_eq!(
        page.at("navarch_gpus_total{provider=\"a\\\"b\\\\c} 1 # HELP\"}"),
        Some(1.0)
    );
    assert_eq!(
        page.at("navarch_nodes_total{status=\"unhealthy\"}"),
        Some(1.0)
    );
}

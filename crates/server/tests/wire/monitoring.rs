//! The alert rules and the dashboard in `examples/monitoring` fit the metrics page and the runbooks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::plane::Plane;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every metric of the page of an empty fleet, with its type.
async fn metrics() -> BTreeMap<String, String> {
    let page = Plane::start().await.get("/metrics").await.text();
    let types = page.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some((name.to_owned(), kind.to_owned()))
    });
    types.collect()
}

/// The metrics that have a value whatever the fleet is like: all others may have no series.
async fn always_there() -> BTreeSet<String> {
    let page = Plane::start().await.get("/metrics").await.text();
    let plain = page.lines().filter(|line| !line.starts_with('#'));
    let names = plain
        .filter_map(|line| line.split_once(' '))
        .map(|(name, _)| name);
    let unlabelled = names.filter(|name| !name.contains('{'));
    unlabelled.map(str::to_owned).collect()
}

/// The names of our metrics in an expression.
fn asked(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("navarch_"));
    ours.map(str::to_owned).collect()
}

/// What is wrong with an expression: a metric that is not on the page, or a distribution that is
/// asked for as a number.
fn wrong(expression: &str, metrics: &BTreeMap<String, String>) -> Vec<String> {
    let names = asked(expression);
    let is_there = |name: &str| {
        let base = ["_bucket", "_sum", "_count"]
            .into_iter()
            .find_map(|suffix| name.strip_suffix(suffix));
        let distribution = |base| metrics.get(base).is_some_and(|kind| kind == "histogram");
        metrics.get(name).is_some_and(|kind| kind != "histogram") || base.is_some_and(distribution)
    };
    let mut found: Vec<String> = names.into_iter().filter(|name| !is_there(name)).collect();
    let balanced =
        |open, close| expression.matches(open).count() == expression.matches(close).count();
    if !balanced('(', ')') || !balanced('{', '}') || !balanced('[', ']') {
        found.push("its brackets do not match".to_owned());
    }
    found
}

#[tokio::test]
async fn every_alert_asks_for_a_metric_and_has_the_runbook_that_names_it() {
    let (metrics, always) = (metrics().await, always_there().await);
    let rules: Value = serde_saphyr::from_str(&read("examples/monitoring/alerts.yaml"))
        .expect("the rules are YAML");
    let rules = rules["groups"][0]["rules"].as_array().expect("rules");
    let mut runbooks = BTreeSet::new();
    for rule in rules {
        let name = rule["alert"].as_str().expect("a name");
        let expression = rule["expr"].as_str().expect("an expression");
        assert!(
            !asked(expression).is_empty(),
            "{name} asks for nothing of ours"
        );
        assert_eq!(wrong(expression, &metrics), [""; 0], "{name}: {expression}");
        // Without a series there is no value, and what was once a value is one for all the time.
        let over_time = expression.contains("_over_time(");
        let absent: Vec<_> = asked(expression).difference(&always).cloned().collect();
        assert!(
            !over_time || absent.is_empty(),
            "{name}: {absent:?} may have no series"
        );
        let severity = rule["labels"]["severity"].as_str().expect("a severity");
        assert!(["page", "ticket"].contains(&severity), "{name}: {severity}");
        let summary = rule["annotations"]["summary"].as_str();
        assert!(summary.is_some_and(|text| !text.is_empty()), "{name}");
        let runbook = rule["annotations"]["runbook"].as_str().expect("a runbook");
        let text = read(runbook);
        let alert = text.lines().find(|line| line.starts_with("**Alert:**"));
        let named = alert.is_some_and(|line| line.contains(&format!("`{expression}`")));
        assert!(
            named,
            "{runbook} names {alert:?}, and {name} is {expression}"
        );
        assert!(
            runbooks.insert(runbook.to_owned()),
            "two alerts for {runbook}"
        );
    }
    let files = std::fs::read_dir(root().join("docs/runbooks")).expect("the runbooks");
    for file in files {
        let name = file.expect("an entry").file_name();
        let path = format!("docs/runbooks/{}", name.to_string_lossy());
        let known = runbooks.contains(&path) || path.ends_with("/README.md");
        assert!(known, "no alert leads to {path}");
    }
}

#[tokio::test]
async fn the_dashboard_draws_metrics_that_exist_and_its_panels_do_not_overlap() {
    let metrics = metrics().await;
    let dashboard: Value = serde_json::from_str(&read("examples/monitoring/dashboard.json"))
        .expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let (mut taken, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(
            ids.insert(panel["id"].as_u64()),
            "{title} has the id of another"
        );
        let place = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
        assert!(place("x") + place("w") <= 24, "{title} is too wide");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{title} lies on another");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        let told = panel["description"].as_str();
        assert!(told.is_some_and(|told| told.ends_with('.')), "{title}");
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{title} draws nothing");
        for target in targets {
            let expression = target["expr"].as_str().expect("an expression");
            assert_eq!(
                wrong(expression, &metrics),
                [""; 0],
                "{title}: {expression}"
            );
        }
    }
    for variable in dashboard["templating"]["list"]
        .as_array()
        .expect("variables")
    {
        let query = variable["definition"].as_str().unwrap_or_default();
        assert_eq!(wrong(query, &metrics), [""; 0], "{query}");
    }
}

//! The metrics page: well-formed, complete, and true.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use navarch_config::{Config, Size};
use navarch_core::{Action, Input};
use navarch_model::{
    CloudStatus, EndCause, InstanceId, Machine, PoolName, ProviderInstanceId, ProviderName,
};
use navarch_policy::HealthPolicy;
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::agents::{Agent, GoAgent};
use crate::support::plane::{Plane, no_token};

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
                assert!(["gauge", "counter", "histogram"].contains(&kind), "{line}");
                page.types.insert(name.to_owned(), kind.to_owned());
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a series and a value");
                let name = series.split('{').next().expect("a name");
                let kind = page.types.get(&family).map(String::as_str);
                let suffix = name.strip_prefix(&*family);
                let legal: &[&str] = match kind.expect("a sample before its type") {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(
                    suffix.is_some_and(|suffix| legal.contains(&suffix)),
                    "a sample outside its family: {line}"
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
        ("navarch_pool_advice_nodes", "gauge"),
        ("navarch_pool_disruptions", "gauge"),
        ("navarch_guard_blocks", "counter"),
        ("navarch_interruptions", "counter"),
        ("navarch_breakers_open", "gauge"),
        ("navarch_terminations_overdue", "gauge"),
        ("navarch_listings_suspect", "gauge"),
        ("navarch_store_free_bytes", "gauge"),
        ("navarch_store_failing", "gauge"),
        ("navarch_policy_refused", "gauge"),
        ("navarch_pool_disruption_slots", "gauge"),
        ("navarch_pool_bound_nodes", "gauge"),
        ("navarch_pool_size_nodes", "gauge"),
        ("navarch_pool_nodes", "gauge"),
        ("navarch_node_gpu_utilization_percent", "gauge"),
        ("navarch_node_gpu_temperature_celsius", "gauge"),
        ("navarch_node_gpu_power_watts", "gauge"),
        ("navarch_node_gpu_memory_used_bytes", "gauge"),
        ("navarch_nodes_unmeasured", "gauge"),
        ("navarch_pool_gpu_utilization_percent", "gauge"),
        ("navarch_pool_gpu_temperature_celsius", "gauge"),
        ("navarch_pool_gpu_power_watts", "gauge"),
        ("navarch_pool_gpu_memory_used_bytes", "gauge"),
        ("navarch_rpc_duration_seconds", "histogram"),
        ("navarch_rpc_total", "counter"),
        ("navarch_commit_duration_seconds", "histogram"),
        ("navarch_actions_total", "counter"),
        ("navarch_provision_duration_seconds", "histogram"),
        ("navarch_queue_inputs", "gauge"),
        ("navarch_queue_calls", "gauge"),
    ] {
        assert_eq!(
            page.types.get(name).map(String::as_str),
            Some(kind),
            "{name}"
        );
    }
    assert_eq!(page.at("navarch_invariant_violations"), Some(0.0));
    assert_eq!(page.at("navarch_policy_refused"), Some(0.0));
    let free = page.at("navarch_store_free_bytes");
    assert!(free.is_some_and(|free| free > 0.0), "{free:?}");
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

/// A control plane with one pool, in a cloud that takes every call and answers none.
async fn with_pool(change: impl FnOnce(&mut Config)) -> (Plane, TcpListener) {
    let cloud = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", cloud.local_addr().expect("it is bound"));
    let text = format!(
        "guards: {{terminate: {{alert_after: 1m}}}}
providers:
  fake: {{url: \"{url}\", gpu_count: 1}}
pools:
  p: {{provider: fake, instance_type: fake-8x, min_nodes: 1, max_nodes: 2}}
"
    );
    let plane = Plane::with(|config, home| {
        let (address, auth) = (config.server.address.clone(), no_token());
        (*config, _) = Config::parse("test.yaml", &text).expect("it is sound");
        config.server.address = address;
        config.server.auth = auth;
        config.store.data_dir = home.path().join("data");
        change(config);
    })
    .await;
    (plane, cloud)
}

async fn feed(plane: &Plane, input: Input) {
    let fed = plane.app.handlers().fleet.submit(input).await;
    fed.expect("the fleet takes it");
}

async fn instances(plane: &Plane) -> Vec<serde_json::Value> {
    let listed = plane.ok("ListInstances", json!({})).await;
    listed["instances"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_full_disk_stops_launches_and_says_so_while_the_rest_is_still_recorded() {
    let (plane, _cloud) = with_pool(|config| config.store.min_free = Size(u64::MAX)).await;
    let (waits, blocks) = (
        "navarch_pool_waits{pool=\"p\",guard=\"low_disk\"}",
        "navarch_guard_blocks{guard=\"low_disk\",pool=\"p\"}",
    );
    plane.pass(Duration::from_secs(20)).await;
    let page = scrape(&plane).await;
    assert_eq!(page.at(waits), Some(1.0), "{:#?}", page.samples);
    assert_eq!(page.at(blocks), Some(1.0), "{:#?}", page.samples);
    assert!(instances(&plane).await.is_empty());
    let told = plane.ok("FleetService/GetPlan", json!({})).await;
    let told = told.to_string();
    assert!(told.contains("store.min_free is"), "{told}");
    // What happens is still recorded.
    GoAgent("a").register(&plane).await;
    plane
        .ok("IssueCommand", json!({"nodeId": "a", "commandType": 1}))
        .await;
    assert_eq!(plane.status("a").await, "CORDONED");
    // Room again.
    feed(&plane, Input::Disk { free: u64::MAX }).await;
    plane
        .until("a launch", async || {
            (instances(&plane).await.len() == 1).then_some(())
        })
        .await;
    let page = scrape(&plane).await;
    assert_eq!(page.at(waits), None);
    assert_eq!(page.at(blocks), Some(1.0), "a counter stays");
}

#[tokio::test]
async fn breakers_suspect_listings_and_overdue_terminations_are_counted() {
    let (plane, _cloud) = with_pool(|_| ()).await;
    let series = [
        "navarch_breakers_open{pool=\"p\",kind=\"repair\"}",
        "navarch_breakers_open{pool=\"p\",kind=\"launch\"}",
        "navarch_terminations_overdue{pool=\"p\"}",
        "navarch_listings_suspect{provider=\"fake\"}",
    ];
    let values = async || {
        let page = scrape(&plane).await;
        series.map(|series| page.at(series))
    };
    let instance = plane
        .until("a launch", async || {
            let instance = instances(&plane).await.first()?.clone();
            (instance["phase"] == "launching").then_some(instance)
        })
        .await;
    assert_eq!(values().await, [Some(0.0); 4]);
    let pool = PoolName::new("p");
    let signature = "xid-reboot".to_owned();
    feed(&plane, Input::Act(Action::OpenBreaker { pool, signature })).await;
    assert_eq!(values().await, [Some(1.0), Some(0.0), Some(0.0), Some(0.0)]);
    let id = InstanceId::new(instance["instanceId"].as_str().expect("an id"));
    let cause = EndCause::Operator;
    let end = Action::Terminate {
        instance: id,
        cause,
    };
    feed(&plane, Input::Act(end)).await;
    plane.pass(Duration::from_secs(62)).await;
    assert_eq!(values().await[2], Some(1.0), "a minute is over");
    let reset = json!({"pool": "p"});
    plane.ok("FleetService/ResetBreaker", reset).await;
    assert_eq!(values().await[0], Some(0.0));
    let provider = ProviderName::new("fake");
    let began = plane.app.handlers().time.now();
    // Three machines that no record explains appear at once.
    let strangers = (0..3).map(|number| Machine {
        provider_id: ProviderInstanceId::new(format!("stranger-{number}")),
        instance: None,
        fleet: Some(
            plane
                .app
                .handlers()
                .published
                .read(|state| state.meta.fleet.clone()),
        ),
        status: CloudStatus::Running,
        interruption_at: None,
    });
    let result = Ok((strangers.collect(), true));
    let listing = Input::ListResult {
        provider,
        began,
        result,
    };
    feed(&plane, listing).await;
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!(values().await[3], Some(1.0));
}

#[tokio::test]
async fn a_refused_policy_is_shown_until_the_file_is_sound_again() {
    let mut file = None;
    let sound = HealthPolicy::builtin_text();
    let plane = Plane::with(|config, home| {
        let path = home.path().join("policy.yaml");
        std::fs::write(&path, sound).expect("a file");
        config.server.health_policy = Some(path.clone());
        file = Some(path);
    })
    .await;
    let file = file.expect("a path");
    let refused = async || scrape(&plane).await.at("navarch_policy_refused");
    assert_eq!(refused().await, Some(0.0));
    for (text, value) in [("rules: [", 1.0), (sound, 0.0)] {
        std::fs::write(&file, text).expect("a file");
        plane
            .until("the new file is looked at", async || {
                (refused().await == Some(value)).then_some(())
            })
            .await;
    }
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

#[tokio::test]
async fn what_gpus_measure_is_told_by_node_and_by_pool_while_they_are_heard() {
    let plane = Plane::start().await;
    let gpu = |index: u32, load: f64, celsius: i32| {
        json!({"gpuIndex": index, "utilizationPercent": load, "temperature": celsius,
               "powerUsage": 350, "memoryUsed": "1000"})
    };
    for (name, gpus) in [
        ("a", json!([gpu(0, 20.0, 60), gpu(1, 40.0, 71)])),
        ("b", json!([gpu(0, 90.0, 50)])),
    ] {
        GoAgent(name).register(&plane).await;
        let metrics = json!({"cpuUsagePercent": 5.0, "gpuMetrics": gpus});
        let beat = json!({"nodeId": name, "metrics": metrics});
        plane.ok("SendHeartbeat", beat).await;
    }
    // It never measured anything.
    GoAgent("c").register(&plane).await;
    let page = scrape(&plane).await;
    for (series, value) in [
        (
            "navarch_node_gpu_utilization_percent{node_id=\"a\"}",
            Some(30.0),
        ),
        (
            "navarch_node_gpu_temperature_celsius{node_id=\"a\"}",
            Some(71.0),
        ),
        ("navarch_node_gpu_power_watts{node_id=\"a\"}", Some(700.0)),
        (
            "navarch_node_gpu_memory_used_bytes{node_id=\"b\"}",
            Some(1000.0),
        ),
        ("navarch_node_gpu_utilization_percent{node_id=\"c\"}", None),
        (
            "navarch_pool_gpu_utilization_percent{pool=\"research\"}",
            Some(60.0),
        ),
        (
            "navarch_pool_gpu_temperature_celsius{pool=\"research\"}",
            Some(71.0),
        ),
        (
            "navarch_pool_gpu_power_watts{pool=\"research\"}",
            Some(1050.0),
        ),
        (
            "navarch_pool_gpu_memory_used_bytes{pool=\"research\"}",
            Some(3000.0),
        ),
        ("navarch_nodes_unmeasured", Some(0.0)),
        (
            "navarch_pool_nodes{pool=\"research\",status=\"active\"}",
            Some(3.0),
        ),
    ] {
        assert_eq!(page.at(series), value, "{series} in {:#?}", page.samples);
    }
    // A silent node's last numbers are no present ones.
    plane.pass(Duration::from_secs(200)).await;
    let page = scrape(&plane).await;
    let stale = |series: &&String| series.contains("gpu_") && series.contains("node_id");
    assert_eq!(page.samples.keys().find(stale), None);
}

#[tokio::test]
async fn calls_commits_actions_and_launches_are_counted() {
    let (plane, _cloud) = with_pool(|_| {}).await;
    GoAgent("a").register(&plane).await;
    plane.ok("GetNode", json!({"nodeId": "a"})).await;
    plane.refused("GetNode", json!({"nodeId": "b"})).await;
    plane.refused("GetNode", json!({"nodeId": ""})).await;
    let first = instances(&plane).await;
    let id = first[0]["instanceId"].as_str().expect("an id").to_owned();
    plane.pass(Duration::from_secs(20)).await;
    feed(
        &plane,
        Input::EndInstance {
            instance: InstanceId::new(id),
            reason: "test".to_owned(),
        },
    )
    .await;
    plane.settle().await;
    let page = scrape(&plane).await;
    for (series, value) in [
        (
            "navarch_rpc_total{method=\"GetNode\",code=\"ok\"}",
            Some(1.0),
        ),
        (
            "navarch_rpc_total{method=\"GetNode\",code=\"not_found\"}",
            Some(1.0),
        ),
        (
            "navarch_rpc_total{method=\"GetNode\",code=\"invalid_argument\"}",
            Some(1.0),
        ),
        (
            "navarch_rpc_total{method=\"CloseIncident\",code=\"ok\"}",
            None,
        ),
        (
            "navarch_rpc_duration_seconds_count{method=\"GetNode\"}",
            Some(3.0),
        ),
        (
            "navarch_rpc_duration_seconds_bucket{method=\"GetNode\",le=\"+Inf\"}",
            Some(3.0),
        ),
        ("navarch_queue_inputs{queue=\"agents\"}", Some(0.0)),
        ("navarch_pool_target_nodes{pool=\"p\"}", Some(1.0)),
        (
            "navarch_pool_bound_nodes{pool=\"p\",bound=\"max\"}",
            Some(2.0),
        ),
    ] {
        assert_eq!(page.at(series), value, "{series} in {:#?}", page.samples);
    }
    let above_zero = [
        "navarch_commit_duration_seconds_count",
        "navarch_actions_total{kind=\"request\",result=\"taken\"}",
        "navarch_actions_total{kind=\"launch\",result=\"taken\"}",
        "navarch_queue_calls{provider=\"fake\"}",
    ];
    for series in above_zero {
        let found = page.at(series);
        assert!(found.is_some(), "{series} in {:#?}", page.samples);
    }
    let ended = page.samples.iter().find(|(series, _)| {
        series.starts_with("navarch_provision_duration_seconds_count{provider=\"fake\"")
    });
    let (series, value) = ended.unwrap_or_else(|| panic!("{:#?}", page.samples));
    assert!(series.contains("outcome=\"not_wanted\""), "{series}");
    assert!((value - 1.0).abs() < f64::EPSILON, "{series} {value}");
}

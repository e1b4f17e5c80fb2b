//! One pool over the wire: how it stands, as a call and as a page, and what its nodes measured.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::Request;
use navarch_config::{Config, TokenConfig, TokenSource};
use navarch_model::Role;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::agents::GoAgent;
use crate::support::http;
use crate::support::plane::{Plane, no_token};
use crate::support::rpc::Flavour;

const STATUS: &str = "PoolService/GetPoolStatus";
const METRICS: &str = "PoolService/QueryMetrics";
const PAGE: &str = "/api/v1/pools/research/status";

/// A control plane with the pool that the agents of the Go project name, which buys nothing.
async fn with_pool(change: impl FnOnce(&mut Config, &tempfile::TempDir)) -> Plane {
    let cloud = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", cloud.local_addr().expect("it is bound"));
    let text = format!(
        "providers:
  fake: {{url: \"{url}\", gpu_count: 1}}
pools:
  research: {{provider: fake, instance_type: fake-8x, min_nodes: 0, max_nodes: 4}}
"
    );
    Plane::with(|config, home| {
        let address = config.server.address.clone();
        (*config, _) = Config::parse("test.yaml", &text).expect("it is sound");
        config.server.address = address;
        config.server.auth = no_token();
        config.store.data_dir = home.path().join("data");
        change(config, home);
    })
    .await
}

/// A heartbeat with GPUs at these loads, each at 300 W and with 1 GiB in use.
fn beat(node: &str, celsius: i32, loads: &[f64]) -> Value {
    let gpus: Vec<Value> = loads
        .iter()
        .enumerate()
        .map(|(index, load)| {
            json!({"gpuIndex": index, "temperature": celsius, "powerUsage": 300,
                   "utilizationPercent": load, "memoryUsed": (1_u64 << 30).to_string()})
        })
        .collect();
    json!({"nodeId": node, "metrics": {"cpuUsagePercent": 25.0, "memoryUsagePercent": 50.0,
           "gpuMetrics": gpus}})
}

#[tokio::test]
async fn the_status_is_the_same_as_a_call_and_as_a_page() {
    let plane = with_pool(|_, _| {}).await;
    for name in ["a", "b", "c"] {
        GoAgent(name).register(&plane).await;
        GoAgent(name).report(&plane, "HEALTHY").await;
    }
    let order = json!({"nodeId": "b", "commandType": "NODE_COMMAND_TYPE_CORDON"});
    plane.ok("IssueCommand", order).await;
    GoAgent("c").report(&plane, "UNHEALTHY").await;
    let page = plane.get(PAGE).await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert_eq!(page.header("content-type"), "application/json");
    let page: Value = serde_json::from_str(&page.text()).expect("the page is JSON");
    let expected = json!({
        "name": "research", "total_nodes": 3, "healthy_nodes": 2, "unhealthy_nodes": 1,
        "cordoned_nodes": 1, "can_scale_up": true, "can_scale_down": false,
        "min_nodes": 0, "max_nodes": 4, "asked_nodes": 0, "active_nodes": 1,
        "draining_nodes": 0, "starting_nodes": 0, "terminating_nodes": 0,
        "automation": "AUTOMATION_MODE_ON",
    });
    assert_eq!(page, expected);
    for flavour in Flavour::ALL {
        let answer = plane
            .call_by(flavour, STATUS, &json!({"pool": "research"}))
            .await
            .unwrap_or_else(|error| panic!("{flavour:?}: {error:?}"));
        let status = &answer["status"];
        for (key, field) in [
            ("total_nodes", "totalNodes"),
            ("unhealthy_nodes", "unhealthyNodes"),
        ] {
            assert_eq!(status[field], page[key], "{flavour:?}: {answer}");
        }
        assert_eq!(status["canScaleUp"], true, "{flavour:?}: {answer}");
    }
}

#[tokio::test]
async fn a_pool_that_is_not_configured_is_not_found() {
    let plane = with_pool(|_, _| {}).await;
    let page = plane.get("/api/v1/pools/reserch/status").await;
    assert_eq!(page.status, 404);
    assert!(page.text().contains("nearest: research"), "{}", page.text());
    let told = plane.refused(STATUS, json!({"pool": "reserch"})).await;
    assert!(
        told.starts_with("not_found") && told.contains("research"),
        "{told}"
    );
    let odd = plane.get("/api/v1/pools/a%20b/status").await;
    assert_eq!(odd.status, 400, "{}", odd.text());
    assert_eq!(plane.get("/api/v1/pools//status").await.status, 400);
    let method = Request::post(PAGE).body(Bytes::new()).expect("a request");
    assert_eq!(http::http1(plane.address, method).await.status, 405);
    for path in ["/api/v1/pools/research", "/api/v1/pools/a/b/status"] {
        assert_eq!(plane.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn the_page_asks_for_the_role_of_its_call() {
    let plane = with_pool(|config, home| {
        for (name, role) in [("machines", Role::Agent), ("people", Role::Viewer)] {
            let file = home.path().join(name);
            std::fs::write(&file, format!("secret-of-{name}")).expect("a token file");
            let source = TokenSource::File(file);
            let token = TokenConfig { role, source };
            config.server.auth.tokens.insert(name.to_owned(), token);
        }
    })
    .await;
    for (secret, status) in [
        (None, 401),
        (Some("secret-of-machines"), 403),
        (Some("secret-of-people"), 200),
    ] {
        let mut request = Request::get(PAGE);
        if let Some(secret) = secret {
            request = request.header("authorization", format!("Bearer {secret}"));
        }
        let request = request.body(Bytes::new()).expect("a request");
        let answer = http::http1(plane.address, request).await;
        assert_eq!(answer.status, status, "{secret:?}: {}", answer.text());
    }
}

#[tokio::test]
async fn what_was_measured_is_asked_for_by_node_and_by_pool() {
    let plane = with_pool(|_, _| {}).await;
    for name in ["a", "b"] {
        GoAgent(name).register(&plane).await;
    }
    plane
        .ok("SendHeartbeat", beat("a", 60, &[10.0, 30.0]))
        .await;
    plane.ok("SendHeartbeat", beat("b", 80, &[60.0])).await;
    plane.pass(Duration::from_secs(61)).await;
    plane
        .ok("SendHeartbeat", beat("a", 70, &[100.0, 100.0]))
        .await;
    let ask = |change: Value| {
        let mut request = json!({"pool": "research", "metric": "METRIC_GPU_UTILIZATION"});
        for (key, value) in change.as_object().into_iter().flatten() {
            request[key] = value.clone();
        }
        plane.ok(METRICS, request)
    };
    let mean = ask(json!({})).await;
    assert_eq!(
        (&mean["value"], &mean["nodes"]),
        (&json!(60.0), &json!(2)),
        "{mean}"
    );
    assert_eq!(mean["unit"], "percent");
    let points = mean["points"].as_array().expect("points");
    let shown: Vec<_> = points
        .iter()
        .map(|point| (&point["value"], &point["nodes"]))
        .collect();
    let expected = [(json!(40.0), json!(2)), (json!(100.0), json!(1))];
    assert!(
        shown
            .iter()
            .zip(&expected)
            .all(|(a, b)| (a.0, a.1) == (&b.0, &b.1)),
        "{mean}"
    );
    assert_eq!(shown.len(), 2, "{mean}");
    for (change, value) in [
        (json!({"aggregation": "AGGREGATION_MAX"}), 100.0),
        (json!({"aggregation": "AGGREGATION_MIN"}), 20.0),
        (
            json!({"metric": "METRIC_GPU_TEMPERATURE", "aggregation": "AGGREGATION_MAX"}),
            80.0,
        ),
        // 600 W and 300 W, then 600 W.
        (
            json!({"metric": "METRIC_GPU_POWER", "aggregation": "AGGREGATION_SUM"}),
            750.0,
        ),
        (json!({"metric": "METRIC_CPU_UTILIZATION"}), 25.0),
        (json!({"windowSeconds": "1"}), 100.0),
    ] {
        let answer = ask(change.clone()).await;
        assert_eq!(answer["value"], json!(value), "{change}: {answer}");
    }
    let node = json!({"nodeId": "b", "metric": "METRIC_GPU_MEMORY_USED"});
    let answer = plane.ok(METRICS, node).await;
    assert_eq!(answer["value"], json!((1_u64 << 30) as f64), "{answer}");
    // An hour later nothing of it is left, and a pool without nodes is no error.
    plane.pass(Duration::from_secs(3700)).await;
    let answer = ask(json!({"windowSeconds": "3600"})).await;
    assert!(answer.get("value").is_none(), "{answer}");
}

#[tokio::test]
async fn wrong_questions_about_metrics_say_what_is_wrong() {
    let plane = with_pool(|_, _| {}).await;
    for (request, told) in [
        (
            json!({"metric": 1}),
            "invalid_argument: node_id or pool is required",
        ),
        (
            json!({"pool": "research", "nodeId": "a", "metric": 1}),
            "both set",
        ),
        (
            json!({"pool": "research"}),
            "invalid_argument: metric is required",
        ),
        (
            json!({"pool": "research", "metric": 99}),
            "metric has the number 99",
        ),
        (
            json!({"pool": "research", "metric": 1, "aggregation": 9}),
            "aggregation has the number 9",
        ),
        (
            json!({"pool": "research", "metric": 1, "windowSeconds": "-1"}),
            "window_seconds is -1",
        ),
        (
            json!({"pool": "research", "metric": 1, "windowSeconds": "3601"}),
            "use 1 to 3600",
        ),
        (json!({"pool": "reserch", "metric": 1}), "nearest: research"),
        (
            json!({"nodeId": "nobody", "metric": 1}),
            "not_found: node not found: nobody",
        ),
    ] {
        let refused = plane.refused(METRICS, request.clone()).await;
        assert!(refused.contains(told), "{request}: {refused}");
    }
}

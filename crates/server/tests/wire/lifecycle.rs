//! Starts, stops and crashes: what was acknowledged is there again.

use std::path::Path;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::Request;
use navarch_api::{Client, v1};
use navarch_config::Config;
use navarch_providers::fake::AgentCommand;
use navarch_server::{App, Options};
use navarch_time::{RealClock, Tasks, VirtualClock};
use serde_json::{Value, json};

use crate::support::agents::{Agent, GoAgent};
use crate::support::http::{self, soon};
use crate::support::plane::{Plane, no_token, start_app};
use crate::support::rpc::{self, Flavour};

/// What must survive a restart: everything but the last heartbeats, which are soft.
fn durable(mut state: Value) -> Value {
    state.as_object_mut().expect("a map").remove("sequence");
    if let Some(nodes) = state["nodes"]["nodes"].as_array_mut() {
        for node in nodes {
            node.as_object_mut()
                .expect("a node")
                .remove("lastHeartbeat");
        }
    }
    state
}

async fn populate(plane: &Plane) {
    for name in ["a", "b", "c", "projects/p/instances/d"] {
        GoAgent(name).register(plane).await;
        GoAgent(name).beat(plane).await;
    }
    let mut ours = Agent::new("e");
    ours.join(plane).await;
    ours.report(plane, "UNHEALTHY").await;
    let reason = json!({"reason": "maintenance \u{1f527}"});
    plane
        .ok(
            "IssueCommand",
            json!({"nodeId": "a", "commandType": 1, "parameters": reason}),
        )
        .await;
    plane
        .ok(
            "IssueCommand",
            json!({"nodeId": "b", "commandType": 2, "parameters": reason}),
        )
        .await;
    plane
        .ok("IssueCommand", json!({"nodeId": "e", "commandType": 3}))
        .await;
    GoAgent("c").report(plane, "DEGRADED").await;
    let observe = json!({"mode": "AUTOMATION_MODE_OBSERVE", "reason": "try it"});
    plane.ok("FleetService/SetAutomation", observe).await;
}

#[tokio::test]
async fn a_restart_brings_back_the_same_fleet() {
    let plane = Plane::start().await;
    populate(&plane).await;
    plane.pass(Duration::from_secs(5)).await;
    let before = durable(plane.state().await);
    let (sequence, story) = (plane.sequence().await, plane.events_after(0).await);
    let commands = plane
        .ok("FleetService/ListCommands", json!({"nodeId": "e"}))
        .await;
    let fleet = plane.ok("FleetService/GetServerInfo", json!({})).await["fleetId"].clone();
    let mut plane = plane.restart().await;
    plane.settle().await;
    assert_eq!(durable(plane.state().await), before);
    assert!(plane.sequence().await > sequence, "the record goes on");
    assert!(
        plane.events_after(0).await.starts_with(&story),
        "nothing of the record is lost"
    );
    assert_eq!(
        plane
            .ok("FleetService/ListCommands", json!({"nodeId": "e"}))
            .await,
        commands
    );
    for epoch in ["2", "3"] {
        let info = plane.ok("FleetService/GetServerInfo", json!({})).await;
        assert_eq!((&info["fleetId"], &info["epoch"]), (&fleet, &json!(epoch)));
        if epoch == "2" {
            plane = plane.restart().await;
            plane.settle().await;
        }
    }
    // Nobody is silent yet: a start gives everybody a full period.
    plane.pass(Duration::from_secs(89)).await;
    assert_eq!(plane.status("a").await, "CORDONED");
    plane.pass(Duration::from_secs(3)).await;
    assert_eq!(plane.status("a").await, "UNHEALTHY");
}

/// Copies the store's files as they are at this moment: what a power cut leaves.
fn copy_store(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash_at_that_very_moment() {
    let plane = Plane::start().await;
    plane.settle().await;
    let calls = [
        ("RegisterNode", GoAgent("a").registration()),
        (
            "IssueCommand",
            json!({"nodeId": "a", "commandType": 1, "parameters": {"reason": "r"}}),
        ),
        ("ReportHealth", GoAgent("a").graded("UNHEALTHY")),
        ("IssueCommand", json!({"nodeId": "a", "commandType": 2})),
        ("RegisterNode", Agent::new("b").registration()),
        ("IssueCommand", json!({"nodeId": "b", "commandType": 3})),
        ("IssueCommand", json!({"nodeId": "a", "commandType": 5})),
        (
            "FleetService/SetAutomation",
            json!({"mode": "AUTOMATION_MODE_OFF", "reason": "stop"}),
        ),
    ];
    for (at, (method, request)) in calls.iter().enumerate() {
        plane.ok(method, request.clone()).await;
        // Nothing runs between the answer and the copy: this is the only thread.
        let copy = plane.home.path().join(format!("crash-{at}"));
        copy_store(&plane.config.store.data_dir, &copy);
        let mut config = plane.config.clone();
        config.store.data_dir = copy;
        let home = tempfile::tempdir().expect("a folder");
        let revived = Plane::at(home, config, None, VirtualClock::new()).await;
        assert_eq!(
            durable(revived.state().await),
            durable(plane.state().await),
            "after {method} {request}"
        );
        let story = plane.events_after(0).await;
        assert!(
            revived.events_after(0).await.starts_with(&story),
            "after {method} {request}"
        );
    }
}

fn real_config(home: &Path) -> Config {
    let mut config = Config::default();
    config.server.address = "127.0.0.1:0".to_owned();
    config.server.auth = no_token();
    config.store.data_dir = home.join("data");
    config
}

/// Real time, a runtime of its own that is dropped under load: what was acknowledged is there.
#[test]
fn a_drop_under_load_loses_nothing_that_was_acknowledged() {
    let home = tempfile::tempdir().expect("a folder");
    let config = real_config(home.path());
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .expect("a runtime")
    };
    let acknowledged = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let first = runtime();
    first.block_on(async {
        let options = Options {
            config: config.clone(),
            config_file: None,
            agent: AgentCommand {
                program: "/nonexistent/agent".into(),
                args: vec![],
            },
            insecure_no_auth: false,
            clock: RealClock::shared(),
            hangups: navarch_server::Hangups::listen(),
        };
        let app = App::start(options).await.expect("it starts");
        let address = app.address();
        let tasks = Tasks::new();
        for worker in 0..8 {
            let acknowledged = std::sync::Arc::clone(&acknowledged);
            tasks.spawn("load", async move {
                for at in 0.. {
                    let id = format!("w{worker}-{at}");
                    for (method, request) in [
                        ("RegisterNode", json!({"nodeId": id})),
                        ("IssueCommand", json!({"nodeId": id, "commandType": 1})),
                    ] {
                        let body = rpc::body(Flavour::ConnectJson, method, &request);
                        let request = rpc::request(Flavour::ConnectJson, method, None, body);
                        let Ok(raw) = http::try_http1(address, request).await else {
                            return;
                        };
                        if raw.status != 200 {
                            return;
                        }
                        acknowledged
                            .lock()
                            .expect("no panic")
                            .push((method, id.clone()));
                    }
                }
            });
        }
        soon("some load", async {
            while acknowledged.lock().expect("no panic").len() < 200 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        // Not stopped: everything is dropped where it stands.
        drop(tasks);
        drop(app);
    });
    first.shutdown_timeout(Duration::from_secs(5));
    let kept: Vec<_> = acknowledged.lock().expect("no panic").clone();
    runtime().block_on(async {
        let app = start_app(&config, None, &VirtualClock::new()).await;
        let listed = rpc::call(
            app.address(),
            Flavour::ConnectJson,
            "ListNodes",
            None,
            &json!({}),
        )
        .await;
        let listed = listed.expect("a list");
        let nodes = listed["nodes"].as_array().expect("nodes");
        for (method, id) in &kept {
            let node = nodes.iter().find(|node| node["nodeId"] == **id);
            let node = node.unwrap_or_else(|| panic!("{id} was registered and is gone"));
            let cordoned = node["status"] == "NODE_STATUS_CORDONED";
            assert!(
                *method == "RegisterNode" || cordoned,
                "{id} was cordoned: {node}"
            );
        }
        assert!(kept.len() >= 200);
    });
}

/// Real time, as with real callers: the stop comes to its end, whatever they do.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_with_open_streams_is_orderly() {
    let home = tempfile::tempdir().expect("a folder");
    let options = Options {
        config: real_config(home.path()),
        config_file: None,
        agent: AgentCommand {
            program: "/nonexistent/agent".into(),
            args: vec![],
        },
        insecure_no_auth: false,
        clock: RealClock::shared(),
        hangups: navarch_server::Hangups::listen(),
    };
    let app = App::start(options).await.expect("it starts");
    let (address, url) = (app.address(), app.url());
    let tasks = Tasks::new();
    let client = Client::builder(url).build().expect("an address");
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = client
            .watch_events(v1::WatchEventsRequest {
                after_sequence: Some(0),
                ..Default::default()
            })
            .await
            .expect("a stream");
        stream.next().await.expect("an answer").expect("one");
        streams.push(stream);
    }
    // Some ask and never read, some never finish asking.
    let mut rude = Vec::new();
    for _ in 0..10 {
        let watch = "POST /navarch.v1.FleetService/WatchEvents HTTP/1.1\r\nhost: x\r\n\
            content-type: application/connect+json\r\ncontent-length: 7\r\n\r\n\0\0\0\0\x02{}";
        rude.push(http::open(address, watch.as_bytes()).await);
        rude.push(
            http::open(
                address,
                b"POST /x HTTP/1.1\r\ncontent-length: 10\r\nhost: x\r\n\r\n{",
            )
            .await,
        );
        rude.push(http::open(address, b"POST ").await);
    }
    let (counted, count) = tokio::sync::watch::channel(0_u64);
    // What ends a task here fails no test by itself.
    let wrong = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    for worker in 0..4 {
        let (counted, wrong) = (counted.clone(), std::sync::Arc::clone(&wrong));
        tasks.spawn("load", async move {
            for at in 0.. {
                let request = json!({"nodeId": format!("w{worker}-{at}")});
                let body = rpc::body(Flavour::ConnectJson, "RegisterNode", &request);
                let request = rpc::request(Flavour::ConnectJson, "RegisterNode", None, body);
                match http::try_http1(address, request).await {
                    Ok(raw) if [200, 503].contains(&raw.status) => {}
                    Ok(raw) => wrong.lock().expect("no panic").push(raw),
                    Err(_) => return,
                }
                counted.send_modify(|count| *count += 1);
            }
        });
    }
    let mut count = count;
    soon("some load", count.wait_for(|count| *count > 50))
        .await
        .expect("it is counted");
    soon("the end of the stop", app.stop()).await;
    for mut stream in streams {
        let end = loop {
            match soon("the end of a stream", stream.next()).await {
                Ok(Some(_)) => {}
                end => break end,
            }
        };
        let error = end.expect_err("the stream is cut, not finished");
        assert_eq!(
            error.to_string(),
            "unavailable: the control plane is shutting down"
        );
    }
    drop(rude);
    let wrong = wrong.lock().expect("no panic").clone();
    assert!(wrong.is_empty(), "{wrong:?}");
    // The port is free and the lock is gone.
    let refused = tokio::net::TcpStream::connect(address).await;
    assert!(refused.is_err(), "something listens still");
    let app = start_app(&real_config(home.path()), None, &VirtualClock::new()).await;
    let request = Request::get("/readyz")
        .body(Bytes::new())
        .expect("a request");
    assert_eq!(http::http1(app.address(), request).await.status, 200);
}

#[tokio::test]
async fn a_second_control_plane_on_the_same_data_is_refused() {
    let plane = Plane::start().await;
    let options = Options {
        config: plane.config.clone(),
        config_file: None,
        agent: AgentCommand {
            program: "/nonexistent/agent".into(),
            args: vec![],
        },
        insecure_no_auth: false,
        clock: plane.clock.shared(),
        hangups: navarch_server::Hangups::listen(),
    };
    let Err(error) = App::start(options).await else {
        panic!("two owners of one store")
    };
    let words = error.to_string();
    assert!(
        words.contains(&std::process::id().to_string()),
        "it names the owner: {words}"
    );
    GoAgent("n").register(&plane).await;
}

//! A store that does not take what it is given: nothing is acknowledged, and nothing is shown.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use navarch_config::Config;
use navarch_time::Tasks;
use serde_json::{Value, json};

use crate::support::agents::GoAgent;
use crate::support::plane::Plane;

/// A store that refuses every new event until it is mended.
struct Broken(rusqlite::Connection);

impl Broken {
    fn new(plane: &Plane) -> Self {
        Self::at(plane, "")
    }

    /// Refuses those events alone of which `when` is true.
    fn at(plane: &Plane, when: &str) -> Self {
        let file = std::fs::read_dir(&plane.config.store.data_dir)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
            .find(|path| path.extension().is_some_and(|end| end == "db"))
            .expect("a database");
        let connection = rusqlite::Connection::open(file).expect("it can be opened");
        connection
            .execute_batch(&format!(
                "CREATE TRIGGER broken BEFORE INSERT ON events {when} \
                 BEGIN SELECT RAISE(ABORT, 'broken as ordered'); END"
            ))
            .expect("it is broken");
        Self(connection)
    }

    fn mend(self) {
        self.0
            .execute_batch("DROP TRIGGER broken")
            .expect("it is mended");
    }
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_acknowledged_and_not_seen() {
    let plane = Plane::start().await;
    GoAgent("a").register(&plane).await;
    GoAgent("a").beat(&plane).await;
    let before = plane.state().await;
    let broken = Broken::new(&plane);
    for (method, request) in [
        ("RegisterNode", GoAgent("b").registration()),
        ("IssueCommand", json!({"nodeId": "a", "commandType": 1})),
        ("ReportHealth", GoAgent("a").graded("UNHEALTHY")),
        (
            "FleetService/SetAutomation",
            json!({"mode": "AUTOMATION_MODE_OFF"}),
        ),
    ] {
        let refused = plane.refused(method, request).await;
        assert!(
            refused.starts_with("unavailable: the control plane cannot take it now: "),
            "{method}: {refused}"
        );
        assert_eq!(plane.state().await, before, "{method}");
        plane.try_pass(2).await;
    }
    let probe = plane.get("/readyz").await;
    assert_eq!(
        (probe.status, probe.text().as_str()),
        (503, "database not ready")
    );
    // Reading goes on, and so do heartbeats, which need no store.
    GoAgent("a").beat(&plane).await;
    assert_eq!(plane.status("a").await, "ACTIVE");
    broken.mend();
    plane.try_pass(3).await;
    GoAgent("b").register(&plane).await;
    assert_eq!(plane.get("/readyz").await.status, 200);
    assert_eq!(plane.status("b").await, "ACTIVE");
    assert_eq!(plane.status("a").await, "ACTIVE");
    assert_eq!(plane.holds("a").await, [] as [String; 0]);
    let automation = plane.ok("FleetService/GetAutomation", json!({})).await;
    assert_eq!(automation["fleet"]["mode"], "AUTOMATION_MODE_ON");
    let plane = plane.restart().await;
    assert_eq!(plane.status("b").await, "ACTIVE");
}

#[tokio::test]
async fn a_policy_that_the_fleet_could_not_take_is_not_said_to_be_in_force() {
    const OLD: &str = "rules:\n  - name: old\n    condition: \"true\"\n    result: healthy\n";
    let plane = Plane::with(|config, home| {
        let file = home.path().join("policy.yaml");
        std::fs::write(&file, OLD).expect("a policy file");
        config.server.health_policy = Some(file);
    })
    .await;
    let broken = Broken::new(&plane);
    let new = OLD.replace("old", "new");
    std::fs::write(plane.home.path().join("policy.yaml"), &new).expect("a policy file");
    plane.try_pass(3).await;
    let mut said = json!({});
    for _ in 0..200 {
        said = plane.ok("FleetService/GetPolicy", json!({})).await;
        if said.get("refused").is_some() {
            break;
        }
    }
    let error = said["refused"]["error"]
        .as_str()
        .expect("why it is not in force");
    assert!(
        error.starts_with("it could not be applied yet: "),
        "{error}"
    );
    assert_eq!(
        (&said["text"], &said["rules"][0]["name"]),
        (&json!(OLD), &json!("old"))
    );
    broken.mend();
    // Nobody touches the file again: it is tried until it succeeds.
    for _ in 0..200 {
        plane.try_pass(1).await;
        said = plane.ok("FleetService/GetPolicy", json!({})).await;
        if said.get("refused").is_none() {
            break;
        }
    }
    assert_eq!(
        (&said["text"], &said["rules"][0]["name"]),
        (&json!(new), &json!("new"))
    );
}

#[tokio::test]
async fn a_policy_whose_commit_failed_leaves_the_old_one_in_force() {
    const OLD: &str = "rules:\n  - name: old\n    condition: \"true\"\n    result: healthy\n";
    let plane = Plane::with(|config, home| {
        let file = home.path().join("policy.yaml");
        std::fs::write(&file, OLD).expect("a policy file");
        config.server.health_policy = Some(file);
    })
    .await;
    let file = plane.home.path().join("policy.yaml");
    GoAgent("a").register(&plane).await;
    let broken = Broken::new(&plane);
    std::fs::write(&file, OLD.replace("healthy", "unhealthy")).expect("a policy file");
    plane.try_pass(5).await;
    // The operator takes the change back before the disk is mended.
    std::fs::write(&file, OLD).expect("a policy file");
    plane.try_pass(5).await;
    broken.mend();
    plane.try_pass(5).await;
    let events = json!({"nodeId": "a", "events": [{"eventType": "HEALTH_EVENT_TYPE_XID",
        "system": "HEALTH_WATCH_SYSTEM_DRIVER", "gpuIndex": 0, "metrics": {"xid_code": "79"}}]});
    plane.ok("ReportHealth", events).await;
    assert_eq!(plane.status("a").await, "ACTIVE");
    let said = plane.ok("FleetService/GetPolicy", json!({})).await;
    assert_eq!(said["text"], OLD);
}

/// Lets time pass until the configuration is said to be as it should.
async fn until_config(plane: &Plane, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..500 {
        let said = plane.ok("FleetService/GetConfig", json!({})).await;
        if is_it(&said) {
            return said;
        }
        plane.try_pass(1).await;
    }
    panic!("never: {what}");
}

/// A configuration with another scheduler, another policy and another size, of which the store takes
/// all but the policy, or nothing: none of it is in force, and all of it once the store is mended.
#[tokio::test]
async fn a_configuration_that_is_not_stored_is_not_in_force_in_part() {
    const OLD: &str = "rules:\n  - name: old\n    condition: \"true\"\n    result: healthy\n";
    let heard = Arc::new(Mutex::new(Vec::new()));
    let scheduler = Arc::clone(&heard);
    let answer = async move |request: Request| {
        let path = request.uri().path().to_owned();
        scheduler.lock().expect("nobody panics").push(path);
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let tasks = Tasks::new();
    tasks.spawn("scheduler", async move {
        let routes = Router::new().fallback(answer);
        axum::serve(listener, routes).await.expect("it serves");
    });
    for when in ["", "WHEN NEW.kind = 'policy.applied'"] {
        heard.lock().expect("nobody panics").clear();
        let (home, config, clock) = Plane::start().await.stop().await;
        let file = home.path().join("config.yaml");
        let write = |word: &str, nodes: u32| {
            let policy = home.path().join(format!("{word}.yaml"));
            std::fs::write(&policy, OLD.replace("old", word)).expect("a policy");
            let text = format!(
                "server:
  health_policy: {}
  notifier: {{type: webhook, webhook: {{cordon_url: 'http://{address}/{word}'}}}}
providers: {{fake: {{}}}}
pools: {{p: {{provider: fake, instance_type: fake-8x, max_nodes: {nodes}}}}}
",
                policy.display()
            );
            std::fs::write(&file, text).expect("a file");
        };
        write("old", 1);
        let (loaded, _) = Config::load(&file).expect("a sound file");
        let mut config = Plane::fleet_of(config, &file);
        config.server.notifier = loaded.server.notifier;
        config.server.health_policy = loaded.server.health_policy;
        // Write what follows while the folder is the plane's.
        let folder = home.path().to_owned();
        let write_broken = || std::fs::write(folder.join("config.yaml"), "pools: 7\n");
        write("new", 2);
        let new = std::fs::read_to_string(&file).expect("it is there");
        write("old", 1);
        let plane = Plane::at(home, config, Some(file.clone()), clock).await;
        for name in ["a", "b"] {
            GoAgent(name).register(&plane).await;
        }
        let broken = Broken::at(&plane, when);
        std::fs::write(&file, &new).expect("a file");
        let said = until_config(&plane, "the refusal", |said| said.get("refused").is_some()).await;
        let problems = said["refused"]["problems"].to_string();
        assert!(
            problems.contains("it could not be applied yet: "),
            "{problems}"
        );
        let text = said["text"].as_str().expect("a text");
        assert!(
            text.contains("max_nodes: 1") && text.contains("/old"),
            "{text}"
        );
        let policy = plane.ok("FleetService/GetPolicy", json!({})).await;
        assert_eq!(policy["rules"][0]["name"], "old", "{when}");
        let pools = plane.ok("FleetService/ListPools", json!({})).await;
        assert_eq!(pools["pools"][0]["maxNodes"], 1, "{when}: {pools}");
        // The file is taken back before the disk is mended.
        write_broken().expect("a file");
        until_config(&plane, "another refusal", |said| {
            !said["refused"]["problems"]
                .to_string()
                .contains("applied yet")
        })
        .await;
        broken.mend();
        plane.try_pass(5).await;
        let cordon = |node: &str| json!({"nodeId": node, "commandType": 1});
        plane.ok("IssueCommand", cordon("a")).await;
        assert_eq!(*heard.lock().expect("nobody panics"), ["/old"], "{when}");
        std::fs::write(&file, &new).expect("a file");
        let said = until_config(&plane, "all of it", |said| said.get("refused").is_none()).await;
        let text = said["text"].as_str().expect("a text");
        assert!(
            text.contains("max_nodes: 2") && text.contains("/new"),
            "{text}"
        );
        let policy = plane.ok("FleetService/GetPolicy", json!({})).await;
        assert_eq!(policy["rules"][0]["name"], "new", "{when}");
        plane.ok("IssueCommand", cordon("b")).await;
        assert!(
            heard
                .lock()
                .expect("nobody panics")
                .contains(&"/new".to_owned()),
            "{when}"
        );
    }
}

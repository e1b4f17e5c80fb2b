//! Reloads: the health policy and the configuration, by a change of the file.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agents::GoAgent;
use crate::support::plane::{Plane, policy};

async fn with_policy(text: &str) -> Plane {
    let text = text.to_owned();
    Plane::with(move |config, home| {
        let file = home.path().join("policy.yaml");
        std::fs::write(&file, text).expect("a policy file");
        config.server.health_policy = Some(file);
    })
    .await
}

impl Plane {
    fn write_policy(&self, text: &str) {
        std::fs::write(self.home.path().join("policy.yaml"), text).expect("a policy file");
    }

    async fn policy(&self) -> Value {
        self.ok("FleetService/GetPolicy", json!({})).await
    }

    async fn effective(&self) -> Value {
        self.ok("FleetService/GetConfig", json!({})).await
    }

    async fn status_at(&self, node: &str, celsius: u32) -> Value {
        let report = json!({"nodeId": node, "events": [{
            "gpuIndex": 0, "system": "HEALTH_WATCH_SYSTEM_THERMAL",
            "eventType": "HEALTH_EVENT_TYPE_THERMAL", "metrics": {"temperature": celsius.to_string()},
        }]});
        self.ok("ReportHealth", report).await["nodeStatus"].clone()
    }
}

#[tokio::test]
async fn a_changed_policy_is_in_force_once_it_is_said_to_be() {
    let plane = with_policy(&policy(90)).await;
    for name in ["a", "b"] {
        GoAgent(name).register(&plane).await;
    }
    assert_eq!(plane.status_at("a", 80).await, "NODE_STATUS_ACTIVE");
    let sequence = plane.sequence().await;
    plane.write_policy(&policy(70));
    assert_eq!(
        plane.policy().await["text"],
        policy(90),
        "not before it was looked at"
    );
    let said = plane
        .until("the new text", async || {
            let said = plane.policy().await;
            (said["text"] == policy(70)).then_some(said)
        })
        .await;
    assert!(said.get("refused").is_none(), "{said}");
    assert!(
        said["rules"][0]["condition"]
            .as_str()
            .expect("a rule")
            .contains(">= 70"),
        "text and rules belong together: {said}"
    );
    assert_ne!(said["loadedAt"], "2025-01-01T00:00:00Z");
    assert_eq!(plane.status_at("b", 80).await, "NODE_STATUS_UNHEALTHY");
    let told = plane.events_after(sequence).await;
    let applied = told
        .iter()
        .filter(|line| line.starts_with("policy.applied"))
        .count();
    assert_eq!(applied, 1, "{told:#?}");
}

#[tokio::test]
async fn a_broken_policy_leaves_the_old_one_and_says_so_until_it_is_mended() {
    let plane = with_policy(&policy(90)).await;
    GoAgent("a").register(&plane).await;
    plane.write_policy(&policy(70).replace("event.metrics", "event.metricks"));
    let refused = plane
        .until("the refusal", async || {
            plane.policy().await.get("refused").cloned()
        })
        .await;
    let error = refused["error"].as_str().expect("why");
    let on_record = plane.events_after(0).await;
    let on_record = on_record
        .iter()
        .find(|line| line.starts_with("policy.refused"));
    let on_record = on_record.expect("a line in the record");
    assert!(on_record.contains("metricks"), "{on_record}");
    assert!(
        error.contains("policy.yaml:4:") && error.contains("metricks"),
        "{error}"
    );
    let said = plane.policy().await;
    assert_eq!(said["text"], policy(90));
    assert_eq!(said["loadedAt"], "2025-01-01T00:00:00Z");
    assert_eq!(plane.status_at("a", 80).await, "NODE_STATUS_ACTIVE");
    let mut known = error.to_owned();
    for (what, text) in [
        ("gone", None),
        ("empty", Some("")),
        ("no YAML", Some("\u{0}{")),
    ] {
        match text {
            Some(text) => plane.write_policy(text),
            None => {
                std::fs::remove_file(plane.home.path().join("policy.yaml")).expect("it is there");
            }
        }
        // The refusal of the file before stands until this one is read.
        known = plane
            .until(what, async || {
                let said = plane.policy().await;
                assert_eq!(said["text"], policy(90), "{what}");
                let error = said["refused"]["error"].as_str().expect("why");
                (error != known).then(|| error.to_owned())
            })
            .await;
    }
    plane.write_policy(&policy(75));
    plane
        .until("the mended text", async || {
            let said = plane.policy().await;
            (said["text"] == policy(75) && said.get("refused").is_none()).then_some(())
        })
        .await;
    assert_eq!(plane.status_at("a", 80).await, "NODE_STATUS_UNHEALTHY");
}

#[tokio::test]
async fn a_return_to_the_old_text_takes_the_refusal_back() {
    let plane = with_policy(&policy(90)).await;
    plane.write_policy("rules: 7\n");
    plane
        .until("the refusal", async || {
            plane.policy().await.get("refused").cloned()
        })
        .await;
    let sequence = plane.sequence().await;
    plane.write_policy(&policy(90));
    plane
        .until("the refusal is taken back", async || {
            plane.policy().await.get("refused").is_none().then_some(())
        })
        .await;
    assert_eq!(
        plane.events_after(sequence).await,
        [] as [String; 0],
        "nothing changed"
    );
}

const FILE: &str = "
server:
  heartbeat_timeout: 90s
providers:
  fake: {}
pools:
  p: {provider: fake, instance_type: fake-8x, max_nodes: 1}
";

#[tokio::test]
async fn a_changed_configuration_takes_effect_and_a_broken_one_does_not() {
    let first = Plane::start().await;
    let (home, config, clock) = first.stop().await;
    let file = home.path().join("config.yaml");
    std::fs::write(&file, FILE).expect("a file");
    let config = Plane::fleet_of(config, &file);
    let plane = Plane::at(home, config, Some(file.clone()), clock).await;
    GoAgent("n").register(&plane).await;
    GoAgent("n").beat(&plane).await;
    plane.settle().await;
    let story = plane.ok("FleetService/ExplainNode", json!({"nodeId": "n"}));
    let summary = story.await["summary"].to_string();
    let left = "its pool research is not in the configuration";
    assert!(summary.contains(left), "{summary}");
    let sequence = plane.sequence().await;
    std::fs::write(&file, FILE.replace("90s", "ninety")).expect("a file");
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!(plane.events_after(sequence).await, [] as [String; 0]);
    std::fs::write(&file, FILE.replace("90s", "40s")).expect("a file");
    navarch_config::Config::load(&file).expect("it is sound");
    plane
        .until("the event", async || {
            let told = plane.events_after(sequence).await;
            told.iter()
                .any(|line| line.starts_with("config"))
                .then_some(())
        })
        .await;
    // A change that needs a restart takes what came with it down.
    let both = FILE.replace("90s", "50s\n  external_address: \"http://h\"");
    std::fs::write(&file, both).expect("a file");
    let refused = plane
        .until("the refusal", async || {
            plane.effective().await.get("refused").cloned()
        })
        .await;
    let problems = refused["problems"].to_string();
    assert!(problems.contains("server.external_address"), "{problems}");
    assert!(problems.contains("needs a restart"), "{problems}");
    let said = plane.effective().await;
    let text = said["text"].as_str().expect("a text");
    assert!(text.contains("heartbeat_timeout: 40s"), "{text}");
    std::fs::write(&file, FILE.replace("90s", "40s")).expect("a file");
    plane
        .until("the refusal is taken back", async || {
            let said = plane.effective().await;
            said.get("refused").is_none().then_some(())
        })
        .await;
    GoAgent("n").beat(&plane).await;
    plane.pass(Duration::from_secs(39)).await;
    assert_eq!(plane.status("n").await, "ACTIVE");
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!(plane.status("n").await, "UNHEALTHY");
}

/// A file that names a token file or a policy that cannot be read: nothing of it applies, it is
/// said what is missing, and it applies as a whole once that is there.
#[tokio::test]
async fn a_configuration_waits_for_the_files_that_it_names() {
    let (home, config, clock) = Plane::start().await.stop().await;
    let file = home.path().join("config.yaml");
    std::fs::write(&file, FILE).expect("a file");
    let config = Plane::fleet_of(config, &file);
    let plane = Plane::at(home, config, Some(file.clone()), clock).await;
    plane.settle().await;
    let beside = |name: &str| plane.home.path().join(name).display().to_string();
    let with = |keys: &str| {
        let text = FILE.replace("90s", &format!("90s\n  {keys}"));
        std::fs::write(&file, text.replace("max_nodes: 1", "max_nodes: 2")).expect("a file");
    };
    let is_refused = async |what: &str| {
        plane
            .until(what, async || {
                let said = plane.effective().await;
                let refused = said.get("refused")?;
                refused["problems"].to_string().contains(what).then_some(())
            })
            .await;
        let said = plane.effective().await;
        let text = said["text"].as_str().expect("a text");
        assert!(text.contains("max_nodes: 1"), "{text}");
        let pool = plane.ok("FleetService/ListPools", json!({})).await;
        assert_eq!(pool["pools"][0]["maxNodes"], 1, "{pool}");
    };
    let sequence = plane.sequence().await;
    // Nobody could call any more if the tokens were in force.
    with(&format!("auth: {{token_file: {}}}", beside("token")));
    is_refused("server.auth: ").await;
    with(&format!("health_policy: {}", beside("mine.yaml")));
    is_refused("server.health_policy: ").await;
    std::fs::write(beside("mine.yaml"), "rules: 7\n").expect("a file");
    is_refused("mine.yaml:1:").await;
    assert_eq!(plane.events_after(sequence).await, [] as [String; 0]);
    std::fs::write(beside("mine.yaml"), policy(70)).expect("a file");
    plane
        .until("all of it applies", async || {
            let said = plane.effective().await;
            let text = said["text"].as_str()?;
            let whole = text.contains("max_nodes: 2") && said.get("refused").is_none();
            (whole && plane.policy().await["text"] == policy(70)).then_some(())
        })
        .await;
    let told = plane.events_after(sequence).await;
    assert_eq!(told.len(), 2, "{told:?}");
}

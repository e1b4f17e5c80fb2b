//! The record: pages, filters, and the stream of it in every protocol, with its resume points.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agents::{Agent, GoAgent};
use crate::support::plane::Plane;
use crate::support::rpc::{self, Flavour};

fn sequences(events: &Value) -> Vec<u64> {
    let events = events.as_array().map(Vec::as_slice).unwrap_or_default();
    let number = |event: &Value| {
        event["sequence"]
            .as_str()
            .expect("one")
            .parse()
            .expect("a number")
    };
    events.iter().map(number).collect()
}

async fn page(plane: &Plane, request: Value) -> Value {
    plane.ok("FleetService/ListEvents", request).await
}

#[tokio::test]
async fn a_stream_has_the_record_and_then_what_happens_in_every_protocol() {
    let plane = Plane::start().await;
    for name in ["a", "b"] {
        GoAgent(name).register(&plane).await;
    }
    for flavour in Flavour::ALL {
        let watch = "FleetService/WatchEvents";
        let all = page(&plane, json!({})).await["events"].clone();
        let asked = json!({"afterSequence": "0"});
        let first = rpc::stream(plane.address, flavour, watch, &asked, 1).await;
        assert_eq!(first[0]["events"], all, "{flavour:?}");
        let end = plane.sequence().await;
        assert_eq!(
            first[0]["resumeAfterSequence"],
            end.to_string(),
            "{flavour:?}"
        );
        // From there on, and filtered, nothing is old; the next is what happens next.
        let asked =
            json!({"afterSequence": end.to_string(), "filter": {"nodeId": "b", "kinds": ["hold"]}});
        let (told, ()) = tokio::join!(
            rpc::stream(plane.address, flavour, watch, &asked, 2),
            async {
                plane
                    .ok("IssueCommand", json!({"nodeId": "a", "commandType": 1}))
                    .await;
                plane
                    .ok("IssueCommand", json!({"nodeId": "b", "commandType": 1}))
                    .await;
                plane
                    .ok("IssueCommand", json!({"nodeId": "b", "commandType": 5}))
                    .await;
                plane
                    .ok("IssueCommand", json!({"nodeId": "a", "commandType": 5}))
                    .await;
            }
        );
        let events = told
            .iter()
            .flat_map(|answer| answer["events"].as_array().cloned().unwrap_or_default());
        for event in events {
            assert_eq!(event["nodeId"], "b", "{flavour:?}: {event}");
            assert!(
                event["kind"].as_str().expect("a kind").starts_with("hold."),
                "{flavour:?}: {event}"
            );
        }
    }
}

#[tokio::test]
async fn no_event_is_missed_or_told_twice_when_a_watcher_comes_back() {
    let plane = Plane::start().await;
    let mut seen = Vec::new();
    let mut after = 0;
    for at in 0..20 {
        let name = format!("n{at}");
        GoAgent(&name).register(&plane).await;
        if at % 3 == 0 {
            let asked = json!({"afterSequence": after.to_string()});
            let answers = rpc::stream(
                plane.address,
                Flavour::ConnectJson,
                "FleetService/WatchEvents",
                &asked,
                1,
            )
            .await;
            seen.extend(sequences(&answers[0]["events"]));
            after = answers[0]["resumeAfterSequence"]
                .as_str()
                .expect("one")
                .parse()
                .expect("a number");
        }
    }
    let rest = page(
        &plane,
        json!({"afterSequence": after.to_string(), "limit": 1000}),
    )
    .await;
    seen.extend(sequences(&rest["events"]));
    let all: Vec<u64> = (1..=plane.sequence().await).collect();
    assert_eq!(seen, all);
}

#[tokio::test]
async fn a_watcher_that_comes_back_too_late_is_told_what_it_missed() {
    let plane = Plane::with(|config, _| {
        config.store.retention.events_age = Duration::from_secs(60);
    })
    .await;
    for name in ["a", "b", "c"] {
        GoAgent(name).register(&plane).await;
    }
    plane.pass(Duration::from_secs(120)).await;
    let oldest = plane
        .until("retention", async || {
            let page = page(&plane, json!({})).await;
            let oldest: u64 = page["oldestSequence"].as_str()?.parse().ok()?;
            (oldest > 3).then_some(oldest)
        })
        .await;
    GoAgent("d").register(&plane).await;
    let first = async |after: u64| {
        let asked = json!({"afterSequence": after.to_string()});
        let watch = "FleetService/WatchEvents";
        let told = rpc::stream(plane.address, Flavour::ConnectJson, watch, &asked, 1).await;
        let lost = told[0]["lostUpToSequence"].as_str().unwrap_or("0");
        (
            lost.to_owned(),
            sequences(&told[0]["events"]).first().copied(),
        )
    };
    let missing = (oldest - 1).to_string();
    assert_eq!(first(1).await, (missing.clone(), Some(oldest)));
    assert_eq!(first(oldest - 2).await, (missing, Some(oldest)));
    // Nothing is missing, and nothing was known.
    assert_eq!(first(oldest - 1).await, ("0".to_owned(), Some(oldest)));
    assert_eq!(first(0).await, ("0".to_owned(), Some(oldest)));
}

#[tokio::test]
async fn pages_follow_each_other_and_the_latest_come_from_the_end() {
    let plane = Plane::start().await;
    for at in 0..10 {
        GoAgent(&format!("n{at}")).register(&plane).await;
    }
    let end = plane.sequence().await;
    let (mut seen, mut after) = (Vec::new(), "0".to_owned());
    loop {
        let answer = page(&plane, json!({"afterSequence": after, "limit": 3})).await;
        seen.extend(sequences(&answer["events"]));
        after = answer["resumeAfterSequence"]
            .as_str()
            .expect("one")
            .to_owned();
        if answer["more"] != true {
            break;
        }
        assert_eq!(sequences(&answer["events"]).len(), 3);
    }
    assert_eq!(seen, (1..=end).collect::<Vec<_>>());
    let answer = page(&plane, json!({"latest": true, "limit": 2})).await;
    assert_eq!(
        (sequences(&answer["events"]), &answer["more"]),
        (vec![end - 1, end], &json!(true))
    );
    let answer = page(
        &plane,
        json!({"latest": true, "limit": 2, "beforeSequence": (end - 1).to_string()}),
    )
    .await;
    assert_eq!(sequences(&answer["events"]), [end - 3, end - 2]);
    for (request, words) in [
        (
            json!({"limit": 1001}),
            "limit is 1001; the limit is 1000, ask for the rest page by page",
        ),
        (
            json!({"filter": {"kinds": ["nothing"]}}),
            "filter.kinds has \"nothing\", which is no kind of event; kinds begin with ",
        ),
        (
            json!({"filter": {"nodeId": "a b"}}),
            "filter.node_id has the character ' ' at byte 1; ",
        ),
    ] {
        let refused = plane.refused("FleetService/ListEvents", request).await;
        assert!(
            refused.starts_with(&format!("invalid_argument: {words}")),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn the_story_of_a_node_can_be_asked_for() {
    let plane = Plane::start().await;
    let mut agent = Agent::new("n");
    agent.join(&plane).await;
    agent.report(&plane, "UNHEALTHY").await;
    plane
        .ok(
            "IssueCommand",
            json!({"nodeId": "n", "commandType": 1, "parameters": {"reason": "look"}}),
        )
        .await;
    let story = plane
        .ok("FleetService/ExplainNode", json!({"nodeId": "n"}))
        .await;
    let summary = story["summary"].as_str().expect("a summary");
    assert!(
        summary.starts_with("n is UNHEALTHY because of ") && summary.contains("operator:cordon"),
        "{summary}"
    );
    let incident = &story["openIncidents"][0];
    assert_eq!(
        incident["evidence"][0]["metrics"]["temperature"], "97",
        "{incident}"
    );
    let steps: Vec<_> = story["lines"]
        .as_array()
        .expect("lines")
        .iter()
        .map(|line| line["kind"].as_str().expect("a kind").to_owned())
        .collect();
    for kind in [
        "node.registered",
        "hold.added",
        "incident.opened",
        "node.status",
        "command.issued",
    ] {
        assert!(steps.iter().any(|step| step == kind), "{kind} in {steps:?}");
    }
    let short = plane
        .ok(
            "FleetService/ExplainNode",
            json!({"nodeId": "n", "limit": 2}),
        )
        .await;
    assert_eq!(
        (short["lines"].as_array().map(Vec::len), &short["truncated"]),
        (Some(2), &json!(true))
    );
    assert_eq!(
        plane
            .refused("FleetService/ExplainNode", json!({"nodeId": "nobody"}))
            .await,
        "not_found: node not found: nobody"
    );
}

#[tokio::test]
async fn a_watcher_from_the_beginning_gets_more_than_a_page_in_order() {
    let plane = Plane::start().await;
    // Three events each, many at a time so that they share commits.
    let names: Vec<_> = (0..360).map(|at| format!("n{at:03}")).collect();
    for some in names.chunks(20) {
        let plane = &plane;
        let calls = some.iter().map(|name| async move {
            plane
                .ok(
                    "RegisterNode",
                    json!({"nodeId": name, "capabilities": ["full_reports"]}),
                )
                .await;
        });
        futures_util::future::join_all(calls).await;
    }
    let end = plane.sequence().await;
    assert!(end > 1000, "more than a page: {end}");
    for flavour in [Flavour::ConnectJson, Flavour::Grpc] {
        let asked = json!({"afterSequence": "0"});
        let answers = rpc::stream(
            plane.address,
            flavour,
            "FleetService/WatchEvents",
            &asked,
            2,
        )
        .await;
        let told: Vec<u64> = answers
            .iter()
            .flat_map(|answer| sequences(&answer["events"]))
            .collect();
        assert_eq!(told, (1..=end).collect::<Vec<_>>(), "{flavour:?}");
        assert_eq!(answers[0]["resumeAfterSequence"], "1000");
        assert_eq!(answers[1]["resumeAfterSequence"], end.to_string());
    }
}

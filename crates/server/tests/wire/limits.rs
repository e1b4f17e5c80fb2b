//! Limits of calls: a flood of one caller starves no other, and a fleet never meets them.

use navarch_config::{Role, TokenConfig, TokenSource};
use serde_json::{Value, json};

use crate::support::agents::Agent;
use crate::support::http::Raw;
use crate::support::plane::Plane;
use crate::support::rpc::{self, Flavour};

const PROTOCOLS: [Flavour; 4] = [
    Flavour::ConnectJson,
    Flavour::ConnectProto,
    Flavour::Grpc,
    Flavour::GrpcWeb,
];

/// A control plane with the limits of a fresh configuration and these tokens.
async fn plane(tokens: &[(&str, Role)]) -> Plane {
    Plane::with(|config, home| {
        config.server.limits.rates = navarch_config::RateLimits::default();
        for (name, role) in tokens {
            let file = home.path().join(name);
            std::fs::write(&file, secret(name)).expect("a token file");
            let source = TokenSource::File(file);
            let token = TokenConfig {
                role: *role,
                source,
            };
            config.server.auth.tokens.insert((*name).to_owned(), token);
        }
    })
    .await
}

fn secret(name: &str) -> String {
    format!("secret-of-{name}")
}

async fn send(plane: &Plane, flavour: Flavour, method: &str, token: &str, asked: &Value) -> Raw {
    let body = rpc::body(flavour, method, asked);
    rpc::send(plane.address, flavour, method, Some(token), body).await
}

/// What a call with a token comes to: `ok`, or the code.
async fn outcome(plane: &Plane, flavour: Flavour, method: &str, token: &str) -> String {
    let raw = send(plane, flavour, method, token, &json!({})).await;
    if raw.status == 401 {
        return "unauthorized".to_owned();
    }
    match rpc::outcome(flavour, method, &raw) {
        Ok(_) => "ok".to_owned(),
        Err((code, _)) => code,
    }
}

/// A counter of the metrics page, 0 if it is not there.
async fn metric(plane: &Plane, series: &str) -> u64 {
    let page = plane.get("/metrics").await.text();
    let mut lines = page.lines().filter_map(|line| line.rsplit_once(' '));
    let found = lines.find(|(name, _)| *name == series);
    found.map_or(0, |(_, value)| value.parse().expect("a whole number"))
}

#[tokio::test]
async fn a_flood_of_one_token_is_refused_with_a_hint_and_starves_no_other() {
    let plane = plane(&[("flood", Role::Viewer), ("quiet", Role::Viewer)]).await;
    let json = Flavour::ConnectJson;
    let mut let_in = 0;
    while let_in < 2000 && outcome(&plane, json, "ListNodes", &secret("flood")).await == "ok" {
        let_in += 1;
    }
    assert_eq!(let_in, 500, "server.limits.calls_burst");
    for flavour in PROTOCOLS {
        let raw = send(&plane, flavour, "ListNodes", &secret("flood"), &json!({})).await;
        let refused = rpc::outcome(flavour, "ListNodes", &raw).expect_err("too many calls");
        let told = "too many calls with the token \"flood\": the limit is \
                    server.limits.calls_per_second; try again in 1 s";
        assert_eq!(refused, ("resource_exhausted".to_owned(), told.to_owned()));
        assert_eq!(raw.header("retry-after"), "1", "{flavour:?}");
        let other = outcome(&plane, flavour, "ListNodes", &secret("quiet")).await;
        assert_eq!(other, "ok", "{flavour:?}");
    }
    let series = "navarch_requests_refused_total{reason=\"call_limit\"}";
    assert_eq!(metric(&plane, series).await, 5);
    plane.pass(std::time::Duration::from_secs(1)).await;
    let after = outcome(&plane, json, "ListNodes", &secret("flood")).await;
    assert_eq!(after, "ok", "the limit goes by");
}

#[tokio::test]
async fn without_tokens_the_address_is_the_caller() {
    let plane = plane(&[]).await;
    let mut let_in = 0;
    while let_in < 2000 && plane.call("ListNodes", json!({})).await.is_ok() {
        let_in += 1;
    }
    assert_eq!(let_in, 500);
    let told = plane.refused("ListNodes", json!({})).await;
    assert!(told.contains("too many calls from 127.0.0.1"), "{told}");
    // Its agents are not what floods.
    Agent::new("n").register(&plane).await;
}

#[tokio::test]
async fn a_fleet_behind_one_token_and_one_address_meets_no_limit() {
    let mut plane = plane(&[("machines", Role::Agent)]).await;
    plane.token = Some(secret("machines"));
    // All of it at one moment: more than every limit of one caller.
    for number in 0..700 {
        let agent = Agent::new(&format!("node-{number}"));
        agent.register(&plane).await;
        agent.beat(&plane).await;
    }
    // Heartbeats have no limit at all.
    let agent = Agent::new("node-0");
    for _ in 0..700 {
        agent.beat(&plane).await;
    }
}

#[tokio::test]
async fn a_node_that_floods_is_refused_and_its_neighbour_is_not() {
    let mut plane = plane(&[("machines", Role::Agent)]).await;
    plane.token = Some(secret("machines"));
    let (mut flood, mut quiet) = (Agent::new("flood"), Agent::new("quiet"));
    flood.register(&plane).await;
    quiet.register(&plane).await;
    let mut let_in = 0;
    let told = loop {
        let report = flood.full(45);
        match plane.call("ReportHealth", report).await {
            Ok(_) if let_in < 2000 => let_in += 1,
            Ok(answer) => panic!("no limit: {answer}"),
            Err((code, message)) => break format!("{code}: {message}"),
        }
    };
    // One call of the burst went to the registration.
    assert_eq!(let_in, 199, "server.limits.node_calls_burst");
    assert_eq!(
        told,
        "resource_exhausted: too many calls for node flood: the limit is \
         server.limits.node_calls_per_second; try again in 1 s"
    );
    let raw = send(
        &plane,
        Flavour::Grpc,
        "ReportHealth",
        &secret("machines"),
        &flood.full(45),
    )
    .await;
    let hint = [&raw.headers, &raw.trailers]
        .into_iter()
        .find_map(|headers| headers.get("retry-after"));
    assert_eq!(hint.expect("a hint"), "1");
    // It lives all the while, and so does its neighbour.
    flood.beat(&plane).await;
    quiet.report(&plane, "HEALTHY").await;
    plane.pass(std::time::Duration::from_secs(1)).await;
    // What was refused is taken when it comes again.
    assert_eq!(flood.report(&plane, "UNHEALTHY").await, "UNHEALTHY");
}

#[tokio::test]
async fn guessing_is_slow_and_locks_out_nobody_who_was_there() {
    let plane = plane(&[("known", Role::Viewer), ("unseen", Role::Viewer)]).await;
    let json = Flavour::ConnectJson;
    let call = async |token: &str| outcome(&plane, json, "ListNodes", token).await;
    assert_eq!(call(&secret("known")).await, "ok");
    // A fleet with the token of last week makes one mistake, however often.
    for _ in 0..50 {
        assert_eq!(call("the token of last week").await, "unauthorized");
    }
    for guess in 0..9 {
        assert_eq!(
            call(&format!("guess-{guess}")).await,
            "unauthorized",
            "{guess}"
        );
    }
    // From now on the answer does not tell what is right.
    for token in ["guess-9", "guess-10", &secret("unseen"), "guess-0"] {
        assert_eq!(call(token).await, "resource_exhausted", "{token}");
    }
    for flavour in PROTOCOLS {
        let raw = send(&plane, flavour, "ListNodes", "guess-11", &json!({})).await;
        let refused = rpc::outcome(flavour, "ListNodes", &raw).expect_err("refused");
        let told = "too many wrong tokens from 127.0.0.1: the limit is \
                    server.limits.wrong_tokens_per_minute; try again in 6 s";
        assert_eq!(refused, ("resource_exhausted".to_owned(), told.to_owned()));
        assert_eq!(raw.header("retry-after"), "6");
    }
    // Who was let in from there before still is.
    for _ in 0..20 {
        assert_eq!(call(&secret("known")).await, "ok");
    }
    let count = async |reason: &str| {
        let series = format!("navarch_requests_refused_total{{reason=\"{reason}\"}}");
        metric(&plane, &series).await
    };
    assert_eq!(count("wrong_token_limit").await, 8);
    assert_eq!(count("unauthenticated").await, 59);
    plane.pass(std::time::Duration::from_secs(7)).await;
    assert_eq!(call(&secret("unseen")).await, "ok");
    assert_eq!(call(&secret("flood")).await, "unauthorized");
}

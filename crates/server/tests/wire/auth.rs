//! The token: unary calls, streams and plain pages; what is exempt; what a refusal says.

use axum::body::Bytes;
use axum::http::Request;
use navarch_api::v1;
use serde_json::json;

use crate::support::http::{self, Raw};
use crate::support::plane::Plane;
use crate::support::rpc::{self, Flavour};

#[track_caller]
fn is_refusal(raw: &Raw, what: &str) {
    assert_eq!(raw.status, 401, "{what}: {raw:?}");
    assert_eq!(raw.text(), "unauthorized\n", "{what}");
    for (name, value) in [
        ("www-authenticate", "Bearer realm=\"navarch\""),
        ("content-type", "text/plain; charset=utf-8"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(raw.header(name), value, "{what}: {name}");
    }
}

#[tokio::test]
async fn only_the_exact_token_opens_any_call_in_any_protocol() {
    let plane = Plane::with_token("s3cret-t0ken").await;
    let before = plane.state().await;
    let register = json!({"nodeId": "n"});
    let watch = json!({});
    for flavour in Flavour::ALL {
        for (method, request) in [
            ("RegisterNode", &register),
            ("FleetService/WatchEvents", &watch),
        ] {
            for shown in [
                None,
                Some(""),
                Some("Bearer"),
                Some("Bearer "),
                Some("Bearer s3cret-t0keN"),
                Some("Bearer s3cret-t0ke"),
                Some("Bearer s3cret-t0ken2"),
                Some("Bearer  s3cret-t0ken"),
                Some("bearer s3cret-t0ken"),
                Some("Basic s3cret-t0ken"),
                Some("s3cret-t0ken"),
                Some("Bearer s3cret-t0ken, Bearer s3cret-t0ken"),
            ] {
                let body = rpc::body(flavour, method, request);
                let mut request = rpc::request(flavour, method, None, body);
                if let Some(shown) = shown {
                    let value = shown.parse().expect("a header");
                    request.headers_mut().insert("authorization", value);
                }
                let raw = match flavour {
                    Flavour::Grpc | Flavour::GrpcJson => http::http2(plane.address, request).await,
                    _ => http::http1(plane.address, request).await,
                };
                is_refusal(&raw, &format!("{flavour:?} {method} {shown:?}"));
            }
        }
        plane
            .call_by(flavour, "ListNodes", &json!({}))
            .await
            .expect("the token is right");
    }
    assert_eq!(plane.state().await, before);
}

#[tokio::test]
async fn pages_for_probes_are_open_and_everything_else_is_not() {
    let plane = Plane::with_token("right").await;
    for (path, status, body) in [("/healthz", 200, "ok"), ("/readyz", 200, "ready")] {
        let raw = plane.get(path).await;
        assert_eq!((raw.status, raw.text().as_str()), (status, body), "{path}");
        assert!(
            raw.header("content-type").starts_with("text/plain"),
            "{raw:?}"
        );
    }
    assert_eq!(plane.get("/metrics").await.status, 200);
    for path in [
        "/",
        "/nothing",
        "/healthz/",
        "/metrics/x",
        "//healthz",
        "/HEALTHZ",
        "/navarch.ControlPlaneService/Nothing",
        "/healthz%2f",
    ] {
        is_refusal(&plane.get(path).await, path);
    }
    let request = Request::get("/nothing").header("authorization", "Bearer right");
    let raw = http::http1(
        plane.address,
        request.body(Bytes::new()).expect("a request"),
    )
    .await;
    assert_eq!(
        (raw.status, raw.text().as_str()),
        (404, "404 page not found\n")
    );
}

#[tokio::test]
async fn without_a_token_everybody_may_call_and_a_shown_one_does_no_harm() {
    let plane = Plane::start().await;
    for token in [None, Some("whatever")] {
        let outcome = rpc::call(
            plane.address,
            Flavour::ConnectJson,
            "ListNodes",
            token,
            &json!({}),
        )
        .await;
        assert_eq!(outcome, Ok(json!({})));
    }
}

#[tokio::test]
async fn a_client_with_the_wrong_token_is_told_so_before_a_stream_begins() {
    let mut plane = Plane::with_token("right").await;
    plane.settle().await;
    let watch = || v1::WatchEventsRequest {
        after_sequence: Some(0),
        ..Default::default()
    };
    let mut stream = plane
        .client()
        .watch_events(watch())
        .await
        .expect("the token is right");
    assert!(
        !stream
            .next()
            .await
            .expect("an answer")
            .expect("one")
            .events
            .is_empty()
    );
    for (token, words) in [
        (
            Some("wrong"),
            "the control plane does not accept this token",
        ),
        (
            None,
            "the control plane asks for a token; set NAVARCH_AUTH_TOKEN",
        ),
    ] {
        plane.token = token.map(str::to_owned);
        let error = match plane.client().watch_events(watch()).await {
            Ok(mut stream) => stream.next().await.expect_err("it is refused"),
            Err(error) => error,
        };
        assert!(error.to_string().contains(words), "{error}");
    }
}

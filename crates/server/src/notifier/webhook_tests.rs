//! Tests of what a webhook sends and how it takes answers, against a receiver on this machine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use navarch_config::Secret;
use navarch_model::{Stamp, Time};
use navarch_time::{RealClock, Tasks};

use super::*;

/// What a receiver was sent: the line of the request, its headers and its body.
type Heard = Arc<Mutex<Vec<(String, HeaderMap, String)>>>;

/// A receiver that gives every call the same answer.
#[derive(Clone)]
struct Receiver {
    heard: Heard,
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: Bytes,
}

async fn answer(State(receiver): State<Receiver>, request: Request) -> Response {
    let line = format!("{} {}", request.method(), request.uri());
    let headers = request.headers().clone();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let mut heard = receiver
        .heard
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    heard.push((line, headers, body));
    let status = StatusCode::from_u16(receiver.status).unwrap();
    let mut answer = (status, receiver.body.clone()).into_response();
    for (name, value) in &receiver.headers {
        answer
            .headers_mut()
            .insert(*name, HeaderValue::from_static(value));
    }
    answer
}

/// Serves a receiver. Answers its URL.
async fn serve(tasks: &Tasks, receiver: Receiver) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Router::new().fallback(answer).with_state(receiver);
    tasks.spawn("receiver", async move {
        axum::serve(listener, routes).await.unwrap();
    });
    format!("http://{address}")
}

fn receiver(status: u16, body: impl Into<Bytes>) -> Receiver {
    Receiver {
        heard: Heard::default(),
        status,
        headers: Vec::new(),
        body: body.into(),
    }
}

fn config(url: &str) -> WebhookConfig {
    WebhookConfig {
        cordon_url: Some(Url::new(format!("{url}/cordon"))),
        uncordon_url: Some(Url::new(format!("{url}/uncordon"))),
        drain_url: Some(Url::new(format!("{url}/drain?cluster=a"))),
        drain_status_url: Some(Url::new(format!("{url}/status?cluster=a"))),
        timeout: Duration::from_secs(5),
        headers: BTreeMap::new(),
        secret_file: None,
        secret_env: None,
    }
}

fn webhook(config: &WebhookConfig) -> Webhook {
    Webhook::open(config, Arc::new(RealClock::new())).unwrap()
}

fn notice(kind: NoticeKind, reason: &str) -> Notice {
    Notice {
        sequence: 17,
        kind,
        reason: reason.to_owned(),
        created: Stamp {
            core: Time(0),
            wall: Time(1_767_225_600_999_999),
        },
        asked: None,
        attempts: 1,
        unsure: true,
        retry_at: None,
        error: String::new(),
    }
}

#[test]
fn bodies_are_those_of_the_go_project() {
    let node = NodeId::new("node-1");
    for (kind, reason, expected) in [
        (
            NoticeKind::Cordon,
            "a \"fan\"",
            r#"{"event":"cordon","node_id":"node-1","reason":"a \"fan\"","timestamp":"2026-01-01T00:00:00Z"}"#,
        ),
        (
            NoticeKind::Drain,
            "",
            r#"{"event":"drain","node_id":"node-1","timestamp":"2026-01-01T00:00:00Z"}"#,
        ),
        (
            NoticeKind::Uncordon,
            "never told",
            r#"{"event":"uncordon","node_id":"node-1","timestamp":"2026-01-01T00:00:00Z"}"#,
        ),
    ] {
        assert_eq!(payload(&node, &notice(kind, reason)), expected);
    }
}

#[test]
fn the_node_is_escaped_behind_whatever_query_the_url_has() {
    for (url, node, expected) in [
        ("http://s/d", "a", "http://s/d?node_id=a"),
        ("http://s/d?x=1", "a", "http://s/d?x=1&node_id=a"),
        ("http://s/d?", "a", "http://s/d?node_id=a"),
        ("http://s/d?x=1&", "a", "http://s/d?x=1&node_id=a"),
        (
            "http://s/d",
            "rack/7:a+b@c",
            "http://s/d?node_id=rack%2F7%3Aa%2Bb%40c",
        ),
    ] {
        assert_eq!(status_url(url, &NodeId::new(node)), expected);
    }
}

#[test]
fn a_signature_is_over_all_that_tells_notices_apart() {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef");
    let body = br#"{"event":"cordon"}"#;
    let expected = "v2=72974116a5773c9abefbb14303f49c6ffc5e683d7f5db55e9a5a8f092eecd7c4";
    assert_eq!(
        signature(&secret, 1_767_225_600, "f/n/17", 17, body),
        expected
    );
    for other in [
        signature(&secret, 1_767_225_601, "f/n/17", 17, body),
        signature(&secret, 1_767_225_600, "f/n/18", 17, body),
        signature(&secret, 1_767_225_600, "f/n/17", 18, body),
        signature(&secret, 1_767_225_600, "f/n/17", 17, b"{}"),
    ] {
        assert_ne!(other, expected);
    }
}

/// A receiver whose answer has a status and never ends.
#[tokio::test]
async fn an_answer_counts_though_it_does_not_end() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let node = NodeId::new("node-1");
    for (status, expected) in [
        ("200 OK", NotifyOutcome::Taken),
        (
            "409 Conflict",
            NotifyOutcome::Refused("webhook returned 409: ".to_owned()),
        ),
        (
            "500 Oh",
            NotifyOutcome::Unknown("webhook returned 500: ".to_owned()),
        ),
    ] {
        let tasks = Tasks::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tasks.spawn("stalls", async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut first = [0; 16];
            stream.read_exact(&mut first).await.unwrap();
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: 100\r\n\r\nsome");
            stream.write_all(head.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        });
        let clock = RealClock::new();
        let called = Webhook::open(&config(&url), Arc::new(clock)).unwrap();
        let called = async {
            called
                .post(&node, &notice(NoticeKind::Cordon, ""), "k")
                .await
        };
        let said = timeout(&clock, Duration::from_secs(20), called).await;
        assert_eq!(said.ok(), Some(expected));
    }
}

#[tokio::test]
async fn a_notice_has_a_key_a_sequence_a_signature_and_the_configured_headers() {
    let tasks = Tasks::new();
    let there = receiver(204, "");
    let heard = Arc::clone(&there.heard);
    let url = serve(&tasks, there).await;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("secret");
    std::fs::write(&file, "0123456789abcdef\n").unwrap();
    let mut config = config(&url);
    config.secret_file = Some(file);
    let secret = Secret::new("Bearer let-me-in".to_owned());
    config.headers.insert("Authorization".to_owned(), secret);
    let type_of = Secret::new("application/vnd.site+json".to_owned());
    config.headers.insert("Content-Type".to_owned(), type_of);
    let webhook = webhook(&config);
    let node = NodeId::new("rack/7");
    let notice = notice(NoticeKind::Drain, "fan");
    let outcome = webhook.post(&node, &notice, "fleet/rack/7/17").await;
    assert_eq!(outcome, NotifyOutcome::Taken);
    assert_eq!(
        webhook.ask(&node).await,
        Err("drain status returned 204: ".to_owned())
    );
    let heard = heard.lock().unwrap().clone();
    let (line, headers, body) = &heard[0];
    assert_eq!(line, "POST /drain?cluster=a");
    for (name, expected) in [
        ("authorization", "Bearer let-me-in"),
        ("content-type", "application/vnd.site+json"),
        ("idempotency-key", "fleet/rack/7/17"),
        ("navarch-notice-sequence", "17"),
    ] {
        assert_eq!(headers[name], expected);
    }
    let time: u64 = headers["navarch-timestamp"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef");
    let expected = signature(&key, time, "fleet/rack/7/17", 17, body.as_bytes());
    assert_eq!(headers["navarch-signature"], expected);
    let (line, headers, _) = &heard[1];
    assert_eq!(line, "GET /status?cluster=a&node_id=rack%2F7");
    assert_eq!(headers["authorization"], "Bearer let-me-in");
}

#[tokio::test]
async fn answers_are_taken_refused_or_leave_it_open() {
    let tasks = Tasks::new();
    let node = NodeId::new("node-1");
    for (status, outcome) in [
        (200, NotifyOutcome::Taken),
        (299, NotifyOutcome::Taken),
        (
            302,
            NotifyOutcome::Refused(
                "webhook returned 302: no (redirects are not followed: configure the URL that it \
                 leads to)"
                    .to_owned(),
            ),
        ),
        (
            404,
            NotifyOutcome::Refused("webhook returned 404: no".to_owned()),
        ),
        (
            408,
            NotifyOutcome::Unknown("webhook returned 408: no".to_owned()),
        ),
        (
            500,
            NotifyOutcome::Unknown("webhook returned 500: no".to_owned()),
        ),
        (
            503,
            NotifyOutcome::Unknown("webhook returned 503: no".to_owned()),
        ),
    ] {
        let mut there = receiver(status, "no");
        there.headers.push(("location", "/elsewhere"));
        let heard = Arc::clone(&there.heard);
        let webhook = webhook(&config(&serve(&tasks, there).await));
        let said = webhook
            .post(&node, &notice(NoticeKind::Cordon, ""), "k")
            .await;
        assert_eq!(said, outcome);
        assert_eq!(heard.lock().unwrap().len(), 1, "{status}: one call");
    }
}

#[tokio::test]
async fn only_a_plain_yes_says_that_a_node_is_empty() {
    let tasks = Tasks::new();
    let node = NodeId::new("node-1");
    let huge = Bytes::from(vec![b' '; MAX_ANSWER_BYTES + 1]);
    for (status, body, expected) in [
        (200, Bytes::from(r#"{"drained":true}"#), Ok(true)),
        (
            200,
            Bytes::from(r#"{"drained":false,"message":"3 jobs"}"#),
            Ok(false),
        ),
        (
            200,
            Bytes::from(r#"{"drained":"yes"}"#),
            Err("drained is neither true nor false"),
        ),
        (
            200,
            Bytes::from("{}"),
            Err("it does not say whether the node is drained"),
        ),
        (
            200,
            Bytes::from("yes"),
            Err("failed to decode drain status response"),
        ),
        (
            200,
            huge.clone(),
            Err("drain status request failed: the answer has more than 65536 bytes"),
        ),
        (404, huge, Err("drain status returned 404: ")),
        (
            201,
            Bytes::from(r#"{"drained":true}"#),
            Err("drain status returned 201"),
        ),
        (500, Bytes::from("no"), Err("drain status returned 500: no")),
    ] {
        let webhook = webhook(&config(&serve(&tasks, receiver(status, body)).await));
        match (webhook.ask(&node).await, expected) {
            (Ok(said), Ok(expected)) => assert_eq!(said, expected),
            (Err(why), Err(expected)) => assert!(why.contains(expected), "{why}"),
            (said, expected) => panic!("{said:?} is not {expected:?}"),
        }
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_says_nothing_of_a_drain() {
    let tasks = Tasks::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tasks.spawn("breaks off", async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut first = [0; 16];
        stream.read_exact(&mut first).await.unwrap();
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n{\"drained\":";
        stream.write_all(half).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let why = webhook(&config(&url)).ask(&NodeId::new("node-1")).await;
    let why = why.unwrap_err();
    assert!(
        why.starts_with("drain status request failed: the answer broke off: "),
        "{why}"
    );
}

#[tokio::test]
async fn who_is_not_there_refuses_and_who_hangs_up_leaves_it_open() {
    let tasks = Tasks::new();
    let node = NodeId::new("node-1");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let hangs_up = webhook(&config(&url));
    tasks.spawn("hangs up", async move {
        use tokio::io::AsyncReadExt as _;
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut first = [0; 16];
        stream.read_exact(&mut first).await.unwrap();
    });
    let said = hangs_up
        .post(&node, &notice(NoticeKind::Cordon, ""), "k")
        .await;
    assert!(matches!(said, NotifyOutcome::Unknown(_)), "{said:?}");
    // The listener is gone with its task.
    let said = hangs_up
        .post(&node, &notice(NoticeKind::Cordon, ""), "k")
        .await;
    let NotifyOutcome::Refused(why) = said else {
        panic!("{said:?}");
    };
    assert!(why.starts_with("webhook request failed: "), "{why}");
}

#[tokio::test]
async fn calls_without_a_url_are_not_made() {
    let mut config = config("http://127.0.0.1:9");
    (config.cordon_url, config.drain_status_url) = (None, None);
    let webhook = webhook(&config);
    let node = NodeId::new("node-1");
    let said = webhook
        .post(&node, &notice(NoticeKind::Cordon, ""), "k")
        .await;
    assert_eq!(said, NotifyOutcome::Taken);
    assert_eq!(webhook.ask(&node).await, Ok(true));
}

#[test]
fn a_secret_that_is_not_there_or_can_be_guessed_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let open = |text: Option<&str>| {
        let file = home.path().join("secret");
        match text {
            Some(text) => std::fs::write(&file, text).unwrap(),
            None => drop(std::fs::remove_file(&file)),
        }
        let mut config = config("http://127.0.0.1:9");
        config.secret_file = Some(file);
        let opened = Webhook::open(&config, Arc::new(RealClock::new()));
        opened.err().map(|error| error.to_string())
    };
    assert!(open(None).unwrap().contains("cannot read the secret file"));
    assert!(
        open(Some("short\n"))
            .unwrap()
            .contains("fewer than 16 bytes")
    );
    assert_eq!(open(Some("long enough to be one\n")), None);
}

//! The client against servers that answer, refuse, hang, break off, and are none.

mod support;

use std::time::Duration;

use navarch_api::{Cause, Client, ClientError, Code, v1, wire};
use navarch_time::{RealClock, Tasks, timeout};
use support::Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn client(address: &str, token: &str) -> Client {
    Client::builder(address)
        .token(Some(token.to_owned()))
        .timeout(Duration::from_secs(10))
        .build()
        .expect("the address is one")
}

async fn get_node(client: &Client) -> Result<wire::GetNodeResponse, ClientError> {
    let request = wire::GetNodeRequest {
        node_id: "n".to_owned(),
    };
    client.get_node(request).await
}

#[tokio::test]
async fn calls_and_streams_bring_their_answers() {
    let server = Server::start().await;
    let client = client(&server.url(), "right");
    let request = wire::RegisterNodeRequest {
        node_id: "n1".to_owned(),
        ..Default::default()
    };
    let answer = client.register_node(request).await.expect("it answers");
    assert_eq!(answer.message, "n1 by operator over connect");
    let answer = client
        .list_nodes(wire::ListNodesRequest::default())
        .await
        .expect("it answers");
    assert_eq!(answer.nodes, support::nodes());
    let request = v1::AcknowledgeCommandRequest {
        exit_code: Some(0),
        output: "done".to_owned(),
        ..Default::default()
    };
    let answer = client
        .acknowledge_command(request)
        .await
        .expect("it answers");
    assert!(answer.acknowledged, "an exit code of zero is there");

    let request = v1::WatchCommandsRequest {
        node_id: "n1".to_owned(),
        ..Default::default()
    };
    let mut commands = client.watch_commands(request).await.expect("it opens");
    let first = commands.next().await.expect("it answers").expect("is open");
    assert_eq!(first.commands[0].command_id, "for-n1");

    let request = v1::WatchEventsRequest {
        after_sequence: Some(7),
        ..Default::default()
    };
    let mut events = client.watch_events(request).await.expect("it opens");
    let mut sequences = vec![];
    while let Some(answer) = events.next().await.expect("it answers") {
        sequences.push(answer.resume_after_sequence);
    }
    assert_eq!(sequences, [8, 9, 10]);
    assert_eq!(events.next().await.expect("the end stays"), None);
}

#[tokio::test]
async fn the_errors_of_answers_keep_code_and_message() {
    let server = Server::start().await;
    let right = client(&server.url(), "right");
    let error = get_node(&right).await.expect_err("it is refused");
    assert_eq!(error.to_string(), "not_found: node not found: n");
    assert_eq!((error.code, error.cause), (Code::NotFound, Cause::Answer));

    let request = v1::WatchEventsRequest {
        filter: v1::EventFilter {
            pool: "slow".to_owned(),
            ..Default::default()
        }
        .into(),
        after_sequence: Some(0),
    };
    let mut events = right.watch_events(request).await.expect("it opens");
    let error = loop {
        match events.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the error is lost"),
            Err(error) => break error,
        }
    };
    assert_eq!(
        error.to_string(),
        "resource_exhausted: too slow; resume after 3"
    );
    assert_eq!(events.next().await, Ok(None), "nothing follows an error");

    for (token, expected) in [
        (
            "wrong",
            "unauthenticated: 401 Unauthorized: the control plane does not accept this token",
        ),
        (
            "",
            "unauthenticated: 401 Unauthorized: the control plane asks for a token; set \
             NAVARCH_AUTH_TOKEN",
        ),
        ("agent", "permission_denied: agents may not"),
    ] {
        let client = client(&server.url(), token);
        let error = get_node(&client).await.expect_err("it is refused");
        assert_eq!(error.to_string(), expected);
        let events = client.watch_events(v1::WatchEventsRequest::default()).await;
        let error = match events {
            Err(error) => error,
            Ok(mut events) => events.next().await.expect_err("it is refused"),
        };
        assert_eq!(error.to_string(), expected, "as a stream");
    }
}

#[tokio::test]
async fn what_is_no_control_plane_is_told_apart() {
    let nothing = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("it is bound")
    };
    let error = get_node(&client(&format!("http://{nothing}"), "t"))
        .await
        .expect_err("nobody is there");
    assert_eq!(
        (error.code, error.cause),
        (Code::Unavailable, Cause::NothingListens),
        "{error}"
    );
    assert!(error.message.contains(&nothing.to_string()), "{error}");

    let error = get_node(&client("http://no..host:1", "t"))
        .await
        .expect_err("nobody is there");
    assert_eq!(error.cause, Cause::HostNotFound, "{error}");

    // A redirect, a page, and a 404 of another web server.
    let server = Server::start().await;
    let moved = client(&format!("{}/moved", server.url()), "right");
    let error = get_node(&moved).await.expect_err("it is elsewhere");
    assert_eq!(error.cause, Cause::NotNavarch, "{error}");
    assert!(
        error.message.contains("/other") && error.message.contains("not followed"),
        "{error}"
    );
    let other = client(&format!("{}/elsewhere", server.url()), "right");
    let error = get_node(&other).await.expect_err("it is another server");
    assert_eq!(error.cause, Cause::NotNavarch, "{error}");
    let page = Server::serve(axum::Router::new().fallback(|| async { "<html>" })).await;
    let error = get_node(&client(&page.url(), "t"))
        .await
        .expect_err("it is a page");
    assert_eq!(error.cause, Cause::NotNavarch, "{error}");

    // What TLS servers say to plain HTTP: an alert. What others say: anything.
    for (answer, cause) in [
        (&b"\x15\x03\x01\x00\x02\x02\x46"[..], Cause::NotHttp),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", Cause::NotHttp),
        (b"", Cause::ConnectionLost),
        (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/proto\r\ncontent-length: 9\r\n\r\nx",
            Cause::ConnectionLost,
        ),
    ] {
        let (address, _tasks) = say(answer).await;
        let error = get_node(&client(&address, "t"))
            .await
            .expect_err("it says nothing of use");
        assert_eq!(error.cause, cause, "{answer:?}: {error}");
        assert_eq!(error.code, Code::Unavailable, "{answer:?}: {error}");
    }
}

/// A server that reads a request's head and answers the same bytes to everybody.
async fn say(answer: &'static [u8]) -> (String, Tasks) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("it is bound"));
    let tasks = Tasks::new();
    tasks.spawn("parrot", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    });
    (address, tasks)
}

#[tokio::test]
async fn a_call_ends_with_its_time_on_both_sides() {
    let server = Server::start().await;
    let request = || wire::HeartbeatRequest {
        node_id: "never".to_owned(),
        ..Default::default()
    };
    // The server gives up first: its limit is 200 ms.
    let patient = client(&server.url(), "right");
    let error = patient
        .send_heartbeat(request())
        .await
        .expect_err("it never answers");
    assert_eq!(
        (error.code, error.cause),
        (Code::DeadlineExceeded, Cause::Deadline)
    );
    // The client gives up first, though the other side never reads.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let silent = format!("http://{}", listener.local_addr().expect("it is bound"));
    let hasty = client(&silent, "t").with_timeout(Duration::from_millis(20));
    let clock = RealClock::shared();
    let error = timeout(
        &*clock,
        Duration::from_secs(10),
        hasty.send_heartbeat(request()),
    )
    .await
    .expect("long before")
    .expect_err("it never answers");
    assert_eq!(error.cause, Cause::Deadline);
    assert_eq!(
        error.to_string(),
        format!("deadline_exceeded: no answer from {silent} within 20ms")
    );
}

#[tokio::test]
async fn calls_share_a_kept_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("it is bound"));
    let tasks = Tasks::new();
    let (seen, mut connections) = tokio::sync::mpsc::unbounded_channel();
    let spawner = tasks.spawner();
    tasks.spawn("acceptor", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            seen.send(()).expect("the test listens");
            spawner.spawn("connection", async move {
                let mut head = [0; 4096];
                while stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                    let _ = stream
                        .write_all(
                            b"HTTP/1.1 200 OK\r\ncontent-type: application/proto\r\n\
                              content-length: 0\r\n\r\n",
                        )
                        .await;
                }
            });
        }
    });
    let first = client(&address, "t");
    let second = first.clone().with_timeout(Duration::from_secs(5));
    for client in [&first, &second, &first] {
        get_node(client).await.expect("it answers");
    }
    connections.recv().await.expect("one connection");
    assert!(connections.try_recv().is_err(), "there is a second one");
}

#[test]
fn a_token_that_no_header_carries_is_refused_and_not_shown() {
    for token in ["two words", "line\nbreak", "nul\0", "caf\u{e9}"] {
        let builder = Client::builder("http://localhost:1").token(Some(token.to_owned()));
        assert!(!format!("{builder:?}").contains(token), "{token:?}");
        let error = builder.build().expect_err("it cannot be sent").to_string();
        assert!(
            error.contains("the token has") && !error.contains(token),
            "{error}"
        );
    }
    let client = Client::builder("http://localhost:1")
        .token(Some("s3cret".to_owned()))
        .build()
        .expect("it can be sent");
    assert!(!format!("{client:?}").contains("s3cret"));
}

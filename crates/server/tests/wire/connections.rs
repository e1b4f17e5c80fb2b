//! Connections: slow, idle, many; the limits of time that each has.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::agents::GoAgent;
use crate::support::http::{open, soon, until_closed};
use crate::support::plane::Plane;
use crate::support::rpc;

fn beat(keep: bool) -> String {
    let connection = if keep { "keep-alive" } else { "close" };
    let body = "{\"nodeId\":\"n\"}";
    format!(
        "POST {} HTTP/1.1\r\nhost: x\r\nconnection: {connection}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        rpc::path("SendHeartbeat"),
        body.len()
    )
}

async fn answered(stream: &mut tokio::net::TcpStream) {
    let mut seen = String::new();
    soon("the answer", async {
        while !seen.ends_with("\r\n\r\n{\"acknowledged\":true}") {
            let mut chunk = [0; 1024];
            let count = stream
                .read(&mut chunk)
                .await
                .expect("the connection is open");
            assert!(count > 0, "it ended after {seen:?}");
            seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_outlives_a_heartbeat_interval_and_not_much_more() {
    let plane = Plane::start().await;
    GoAgent("n").register(&plane).await;
    let mut stream = open(plane.address, beat(true).as_bytes()).await;
    answered(&mut stream).await;
    for _ in 0..3 {
        // The interval is 30 s; the default limit of idleness 90 s.
        plane.pass(Duration::from_secs(40)).await;
        stream
            .write_all(beat(true).as_bytes())
            .await
            .expect("it is open");
        answered(&mut stream).await;
    }
    plane.pass(Duration::from_secs(190)).await;
    assert_eq!(soon("it is closed", until_closed(&mut stream)).await, "");
}

#[tokio::test]
async fn a_connection_that_never_asks_or_never_ends_its_head_is_closed() {
    let plane = Plane::start().await;
    GoAgent("n").register(&plane).await;
    let mut silent = open(plane.address, b"").await;
    let mut slow = open(plane.address, b"POST / HTTP/1.1\r\nhost: x\r\nx-").await;
    let mut preface = open(plane.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    plane.settle().await;
    for byte in b"slow" {
        plane.pass(Duration::from_secs(2)).await;
        slow.write_all(&[*byte]).await.expect("it is still open");
    }
    plane.pass(Duration::from_secs(4)).await;
    for (what, stream) in [
        ("silent", &mut silent),
        ("slow", &mut slow),
        ("preface", &mut preface),
    ] {
        let said = soon(what, until_closed(stream)).await;
        assert!(!said.contains("200"), "{what}: {said:?}");
    }
    // Everybody else is served.
    GoAgent("n").beat(&plane).await;
}

#[tokio::test]
async fn a_later_head_that_never_ends_is_no_request() {
    let plane = Plane::start().await;
    GoAgent("n").register(&plane).await;
    let mut stream = open(plane.address, beat(true).as_bytes()).await;
    answered(&mut stream).await;
    // Bytes come all the time, and never an end; the limit of idleness is 90 s.
    stream
        .write_all(b"POST / HTTP/1.1\r\nx-slow: ")
        .await
        .expect("it is open");
    for _ in 0..4 {
        plane.pass(Duration::from_secs(20)).await;
        stream.write_all(b"y").await.expect("it is still open");
    }
    plane.pass(Duration::from_secs(60)).await;
    let said = soon("it is closed", until_closed(&mut stream)).await;
    assert!(!said.contains("200"), "{said:?}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let plane = Plane::with(|config, _| {
        config.server.limits.request_timeout = Duration::from_millis(200);
    })
    .await;
    GoAgent("n").register(&plane).await;
    let before = plane.state().await;
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: 1000\r\n\r\n{{\"nodeId\":",
        rpc::path("RegisterNode")
    );
    let mut stream = open(plane.address, head.as_bytes()).await;
    let said = soon("an end", until_closed(&mut stream)).await;
    assert!(
        said.contains("504") && said.contains("deadline_exceeded"),
        "{said}"
    );
    assert_eq!(plane.state().await, before);
}

#[tokio::test]
async fn a_stream_is_no_idle_connection_and_says_that_it_lives() {
    use navarch_api::v1;
    let plane = Plane::start().await;
    let mut stream = plane
        .client()
        .watch_events(v1::WatchEventsRequest::default())
        .await
        .expect("a stream");
    for _ in 0..30 {
        plane.pass(Duration::from_secs(10)).await;
        let answer = stream
            .next()
            .await
            .expect("it lives")
            .expect("it does not end");
        assert_eq!(answer.next_within_milliseconds, 20_000);
    }
    GoAgent("n").register(&plane).await;
    let told = soon("the event", async {
        loop {
            let answer = stream
                .next()
                .await
                .expect("it lives")
                .expect("it does not end");
            if let Some(event) = answer
                .events
                .iter()
                .find(|event| event.kind == "node.registered")
            {
                return event.node_id.clone();
            }
        }
    })
    .await;
    assert_eq!(told, "n");
}

#[tokio::test]
async fn many_silent_connections_keep_nobody_out() {
    let plane = Plane::start().await;
    GoAgent("n").register(&plane).await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(open(plane.address, b"POST ").await);
    }
    GoAgent("n").beat(&plane).await;
    assert_eq!(plane.ok("ListInstances", json!({})).await, json!({}));
    plane.pass(Duration::from_secs(12)).await;
    for stream in &mut silent {
        soon("each is closed", until_closed(stream)).await;
    }
}

/// The kinds of the frames of HTTP/2 that were said.
fn kinds(said: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    let mut rest = said;
    while let [a, b, c, kind, _, _, _, _, _, after @ ..] = rest {
        kinds.push(*kind);
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        rest = &after[length.min(after.len())..];
    }
    kinds
}

#[tokio::test]
async fn an_idle_connection_of_http2_is_told_that_it_ends() {
    let plane = Plane::start().await;
    // The preface and empty settings: a client that is there and asks nothing.
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    let mut stream = open(plane.address, hello).await;
    plane.settle().await;
    plane.pass(Duration::from_secs(12)).await;
    let mut said = Vec::new();
    soon("its end", stream.read_to_end(&mut said))
        .await
        .expect("no reset");
    let kinds = kinds(&said);
    assert!(kinds.contains(&7), "no GOAWAY among {kinds:?}");
}

/// One frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, load: &[u8]) -> Vec<u8> {
    let length = u8::try_from(load.len()).expect("a small frame");
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], load].concat()
}

/// A field of a head that no table knows.
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let length = u8::try_from(text.len()).expect("a short text");
        assert!(length < 127, "{text}");
        [&[length], text.as_bytes()].concat()
    };
    [vec![0], text(name), text(value)].concat()
}

#[tokio::test]
async fn a_peer_that_takes_no_answer_does_not_keep_its_connection() {
    let plane = Plane::start().await;
    GoAgent("n").register(&plane).await;
    for (kind, body) in [
        ("application/json", &b"{}"[..]),
        ("application/grpc", b"\0\0\0\0\0"),
    ] {
        let head = [
            field(":method", "POST"),
            field(":scheme", "http"),
            field(":path", rpc::path("ListNodes").as_ref()),
            field(":authority", "x"),
            field("content-type", kind),
            field("te", "trailers"),
        ];
        // Its first words: a window of no byte for each answer.
        let hello = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]),
            frame(1, 4, 1, &head.concat()),
            frame(0, 1, 1, body),
        ];
        let mut stream = open(plane.address, &hello.concat()).await;
        // The head of the answer is there; its body cannot be.
        let mut said = Vec::new();
        soon("the head of the answer", async {
            while !kinds(&said).contains(&1) {
                let count = stream.read_buf(&mut said).await.expect("it is open");
                assert!(count > 0, "{kind}: it ended");
            }
        })
        .await;
        plane.pass(Duration::from_secs(190)).await;
        soon("its end", stream.read_to_end(&mut said))
            .await
            .expect("no reset");
        let kinds = kinds(&said);
        assert!(kinds.contains(&7), "{kind}: no GOAWAY among {kinds:?}");
        assert!(!kinds.contains(&0), "{kind}: no window was granted");
    }
}

#[tokio::test]
async fn an_open_request_has_all_the_time_that_a_stop_gives_it() {
    let plane = Plane::with(|config, _| {
        config.server.limits.shutdown_timeout = Duration::from_secs(30);
    })
    .await;
    GoAgent("n").register(&plane).await;
    let beat = beat(true);
    let (head, last) = beat.split_at(beat.len() - 1);
    let mut stream = open(plane.address, head.as_bytes()).await;
    // The server read what there is, since it answers another one.
    GoAgent("n").beat(&plane).await;
    let mut stopping = std::pin::pin!(plane.app.stop());
    let mut late = Vec::new();
    let answer = async {
        for _ in 0..20_000 {
            tokio::task::yield_now().await;
            plane.clock.advance(Duration::from_millis(1));
        }
        stream.write_all(last.as_bytes()).await.expect("it is open");
        stream.read_to_end(&mut late).await.expect("no reset");
    };
    soon("the answer", async {
        tokio::select! {
            biased;
            () = answer => {}
            () = stopping.as_mut() => panic!("it stopped before its time"),
        }
    })
    .await;
    let said = String::from_utf8_lossy(&late);
    assert!(said.contains("{\"acknowledged\":true}"), "{said:?}");
}

/// The kind of the timer that runs on the server's end of a connection, as /proc/net/tcp shows it.
#[cfg(target_os = "linux")]
fn timer_of(connection: &tokio::net::TcpStream) -> String {
    let port = |address: std::net::SocketAddr| format!(":{:04X}", address.port());
    let ours = port(connection.local_addr().expect("an address"));
    let theirs = port(connection.peer_addr().expect("an address"));
    let table = std::fs::read_to_string("/proc/net/tcp").expect("a table");
    let fields = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|fields| fields[1].ends_with(&theirs) && fields[2].ends_with(&ours))
        .unwrap_or_else(|| panic!("{ours} is not connected to {theirs} in {table}"));
    let (kind, _) = fields[5].split_once(':').expect("a kind and a time");
    kind.to_owned()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_system_asks_quiet_peers_whether_they_are_there() {
    let plane = Plane::start().await;
    GoAgent("n").register(&plane).await;
    let mut stream = open(plane.address, beat(true).as_bytes()).await;
    answered(&mut stream).await;
    soon("the timer of keep-alive runs", async {
        // 01, which sends again what was not acknowledged, goes first.
        while timer_of(&stream) != "02" {
            plane.settle().await;
        }
    })
    .await;
}

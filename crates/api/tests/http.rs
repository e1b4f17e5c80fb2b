//! What plain HTTP clients see: paths, methods, content types, JSON, limits.

mod support;

use support::Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Sends one request by hand and returns the status, the headers in lower case, and the body.
async fn send(server: &Server, method: &str, path: &str, kind: &str, body: &[u8]) -> Answer {
    let mut stream = tokio::net::TcpStream::connect(server.address)
        .await
        .expect("it listens");
    // With HTTP/1.0 the answer ends with the connection, without chunks.
    let head = format!(
        "{method} {path} HTTP/1.0\r\nhost: x\r\nauthorization: Bearer right\r\n\
         content-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream
        .write_all(head.as_bytes())
        .await
        .expect("it takes the head");
    stream.write_all(body).await.expect("it takes the body");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("it answers");
    let text = String::from_utf8(answer).expect("the answer is text");
    let (head, body) = text.split_once("\r\n\r\n").expect("it is HTTP");
    let status = head
        .split(' ')
        .nth(1)
        .expect("a status")
        .parse()
        .expect("a number");
    Answer {
        status,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

const REGISTER: &str = "/navarch.ControlPlaneService/RegisterNode";
const REPORT: &str = "/navarch.ControlPlaneService/ReportHealth";

#[tokio::test]
async fn json_is_proto3_json() {
    let server = Server::start().await;
    for (path, request, status, answer) in [
        // Both spellings of a field; fields nobody knows; enums by name and by number.
        (
            REGISTER,
            r#"{"nodeId":"a","metadata":{"labels":{"k":"v"}}}"#,
            200,
            r#"{"success":true,"message":"a by operator over connect"}"#,
        ),
        (
            REGISTER,
            r#"{"node_id":"a","gpus":[{"memory_total":"85899345920"},{"memoryTotal":1}],"new":{"x":[1]}}"#,
            200,
            r#"{"success":true,"message":"a by operator over connect"}"#,
        ),
        (
            REPORT,
            r#"{"full":true,"events":[{"eventType":"HEALTH_EVENT_TYPE_XID"},{"eventType":99}]}"#,
            200,
            r#"{"acknowledged":true,"nodeStatus":"NODE_STATUS_UNHEALTHY"}"#,
        ),
        (
            REPORT,
            r#"{"events":[{"timestamp":"2026-02-13T00:00:00.25+01:00"}]}"#,
            200,
            r#"{"nodeStatus":"NODE_STATUS_UNHEALTHY"}"#,
        ),
        // What cannot be read says where.
        (REPORT, "", 400, "line 1 column 0"),
        (REPORT, "{", 400, "line 1 column 1"),
        (
            REPORT,
            r#"{"events":[{"eventType":"HEALTH_EVENT_TYPE_NEW"}]}"#,
            400,
            "HEALTH_EVENT_TYPE_NEW",
        ),
        (
            REPORT,
            r#"{"events":[{"timestamp":"yesterday"}]}"#,
            400,
            "yesterday",
        ),
        (REPORT, r#"{"sequence":"-1"}"#, 400, "-1"),
        (REGISTER, r#"{"gpus":[{"index":"x"}]}"#, 400, "x"),
        (REGISTER, r#"{"gpus":{"index":1}}"#, 400, "sequence"),
        (
            "/navarch.ControlPlaneService/GetNode",
            r#"{"nodeId":"x"}"#,
            404,
            r#"{"code":"not_found","message":"node not found: x"}"#,
        ),
        (
            "/navarch.ControlPlaneService/IssueCommand",
            "{}",
            400,
            r#"{"code":"failed_precondition","message":"node x is not cordoned"}"#,
        ),
        (
            "/navarch.v1.DevService/InjectFault",
            "{}",
            501,
            r#"{"code":"unimplemented","message":"no fake provider"}"#,
        ),
    ] {
        let got = send(
            &server,
            "POST",
            path,
            "application/json",
            request.as_bytes(),
        )
        .await;
        assert_eq!(got.status, status, "{request}: {got:?}");
        if answer.starts_with('{') {
            assert_eq!(got.body, answer, "{request}");
        } else {
            assert!(
                got.body.contains("\"code\":\"invalid_argument\""),
                "{request}: {got:?}"
            );
            assert!(got.body.contains(answer), "{request}: {got:?}");
        }
    }
}

#[tokio::test]
async fn what_is_no_call_gets_the_status_that_says_so() {
    let server = Server::start().await;
    for (method, path, kind, status, header) in [
        ("GET", REGISTER, "", 405, ""),
        ("PUT", REGISTER, "application/json", 405, "allow: post"),
        ("POST", REGISTER, "text/plain", 415, "accept-post: "),
        (
            "POST",
            "/navarch.ControlPlaneService/Nope",
            "application/json",
            404,
            "",
        ),
        ("POST", "/navarch.v1.Nope/Nope", "application/json", 404, ""),
        ("POST", "/", "application/json", 404, ""),
    ] {
        let got = send(&server, method, path, kind, b"{}").await;
        assert_eq!(got.status, status, "{method} {path}: {got:?}");
        assert!(got.head.contains(header), "{method} {path}: {got:?}");
    }
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused() {
    let server = Server::start().await;
    let request = format!(r#"{{"nodeId":"{}"}}"#, "x".repeat(70_000));
    let got = send(
        &server,
        "POST",
        REGISTER,
        "application/json",
        request.as_bytes(),
    )
    .await;
    assert_eq!(got.status, 429, "{got:?}");
    assert!(got.body.contains("resource_exhausted"), "{got:?}");
    assert!(got.body.contains("65536"), "{got:?}");
}

//! Hostile input: whatever comes, the answer is clear, nothing changes, and the next call works.

use std::io::Write as _;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, Request};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::support::agents::GoAgent;
use crate::support::http::{self, Raw};
use crate::support::plane::Plane;
use crate::support::rpc::{self, Flavour};

/// A fleet with something to lose, and what it looks like.
async fn fleet() -> (Plane, Value) {
    let plane = Plane::with(|config, _| config.server.limits.max_request_bytes = 64 * 1024).await;
    GoAgent("n").register(&plane).await;
    GoAgent("n").beat(&plane).await;
    plane.pass(Duration::from_secs(1)).await;
    let state = plane.state().await;
    (plane, state)
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn post(path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Bytes> {
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).expect("a request")
}

/// Names and values.
type Headers<'a> = &'a [(&'a str, &'a str)];

const JSON: (&str, &str) = ("content-type", "application/json");
const PROTO: (&str, &str) = ("content-type", "application/proto");
const REGISTER: &str = "/navarch.ControlPlaneService/RegisterNode";
const BEAT: &str = "/navarch.ControlPlaneService/SendHeartbeat";

#[tokio::test]
async fn damaged_bodies_are_refused_with_a_reason() {
    let (plane, before) = fleet().await;
    let deep = format!("{}1{}", "{\"metadata\":".repeat(1000), "}".repeat(1000));
    let cut = rpc::proto("RegisterNode", &GoAgent("m").registration());
    // (body, headers, status, code, part of the message)
    let rows: Vec<(Bytes, Headers, u16, &str, &str)> = vec![
        (
            "".into(),
            &[JSON],
            400,
            "invalid_argument",
            "line 1 column 0",
        ),
        (
            "{".into(),
            &[JSON],
            400,
            "invalid_argument",
            "line 1 column 1",
        ),
        ("[]".into(), &[JSON], 400, "invalid_argument", ""),
        ("null".into(), &[JSON], 400, "invalid_argument", ""),
        (
            "\u{feff}{}".into(),
            &[JSON],
            400,
            "invalid_argument",
            "line 1 column 1",
        ),
        (
            "{\"nodeId\":\"m\"} trailing".into(),
            &[JSON],
            400,
            "invalid_argument",
            "column 16",
        ),
        (
            "{\"nodeId\":\"m\",\"nodeId\":\"o\"}".into(),
            &[JSON],
            400,
            "invalid_argument",
            "nodeId",
        ),
        (
            "{\"nodeId\":7}".into(),
            &[JSON],
            400,
            "invalid_argument",
            "7",
        ),
        (
            "{\"nodeId\":\"\\ud800\"}".into(),
            &[JSON],
            400,
            "invalid_argument",
            "column",
        ),
        (
            b"{\"nodeId\":\"\xff\"}"[..].into(),
            &[JSON],
            400,
            "invalid_argument",
            "",
        ),
        (
            "{\"gpus\":[{\"memoryTotal\":\"99999999999999999999\"}]}".into(),
            &[JSON],
            400,
            "invalid_argument",
            "99999999999999999999",
        ),
        (deep.into(), &[JSON], 400, "invalid_argument", ""),
        (
            cut[..cut.len() - 3].to_vec().into(),
            &[PROTO],
            400,
            "invalid_argument",
            "",
        ),
        (
            b"\x0a\xff\xff\xff\xff\x0fm"[..].into(),
            &[PROTO],
            400,
            "invalid_argument",
            "",
        ),
        (
            b"\x0a\x02\xff\xfe"[..].into(),
            &[PROTO],
            400,
            "invalid_argument",
            "",
        ),
        (
            b"\x00\x01"[..].into(),
            &[PROTO],
            400,
            "invalid_argument",
            "",
        ),
        (
            "{\"nodeId\":\"m\"}".into(),
            &[JSON, ("content-encoding", "gzip")],
            400,
            "invalid_argument",
            "",
        ),
        (
            "{\"nodeId\":\"m\"}".into(),
            &[JSON, ("content-encoding", "br")],
            501,
            "unimplemented",
            "br",
        ),
        (
            "{\"nodeId\":\"m\"}".into(),
            &[JSON, ("connect-protocol-version", "2")],
            400,
            "invalid_argument",
            "version",
        ),
        (
            vec![b' '; 70_000].into(),
            &[JSON],
            429,
            "resource_exhausted",
            "65536",
        ),
        (
            gzipped(&vec![b' '; 70_000]).into(),
            &[JSON, ("content-encoding", "gzip")],
            429,
            "resource_exhausted",
            "65536",
        ),
        // Ten megabytes of nothing in ten kilobytes.
        (
            gzipped(&vec![0; 10 << 20]).into(),
            &[PROTO, ("content-encoding", "gzip")],
            429,
            "resource_exhausted",
            "65536",
        ),
    ];
    for (body, headers, status, code, part) in rows {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let raw = http::http1(plane.address, post(REGISTER, headers, body)).await;
        let what = format!("{shown} {headers:?}: {} {}", raw.status, raw.text());
        assert_eq!(raw.status, status, "{what}");
        let error: Value = serde_json::from_slice(&raw.body).expect(&what);
        assert_eq!(error["code"], code, "{what}");
        let message = error["message"].as_str().expect(&what);
        assert!(!message.is_empty() && message.contains(part), "{what}");
        assert!(
            message.len() < 1000 && !message.contains(char::is_control),
            "{what}"
        );
    }
    assert_eq!(plane.state().await, before);
}

#[tokio::test]
async fn compression_is_read_where_it_is_sound() {
    let (plane, _) = fleet().await;
    let body = gzipped(b"{\"nodeId\":\"zipped\"}");
    let raw = http::http1(
        plane.address,
        post(REGISTER, &[JSON, ("content-encoding", "gzip")], body),
    )
    .await;
    assert_eq!(raw.status, 200, "{raw:?}");
    let message = gzipped(&rpc::proto("GetNode", &json!({"nodeId": "zipped"})));
    let mut request = rpc::request(Flavour::Grpc, "GetNode", None, rpc::frame(1, &message));
    request
        .headers_mut()
        .insert("grpc-encoding", "gzip".parse().expect("a header"));
    let raw = http::http2(plane.address, request).await;
    let answer = rpc::outcome(Flavour::Grpc, "GetNode", &raw).expect("it is there");
    assert_eq!(answer["node"]["nodeId"], "zipped");
}

#[tokio::test]
async fn damaged_frames_of_grpc_are_refused_in_its_own_terms() {
    let (plane, before) = fleet().await;
    let message = rpc::proto("RegisterNode", &json!({"nodeId": "m"}));
    let whole = rpc::frame(0, &message);
    let bomb = rpc::frame(1, &gzipped(&vec![0; 10 << 20]));
    for (what, body, encoding, codes) in [
        (
            "nothing",
            vec![],
            "",
            &["unimplemented", "invalid_argument", "internal"][..],
        ),
        (
            "half a head",
            whole[..3].to_vec(),
            "",
            &["invalid_argument", "internal"],
        ),
        (
            "half a message",
            whole[..whole.len() - 1].to_vec(),
            "",
            &["invalid_argument", "internal"],
        ),
        (
            "two messages",
            [&whole[..], &whole[..]].concat(),
            "",
            &["unimplemented", "invalid_argument", "internal"],
        ),
        (
            "a length beyond all",
            vec![0, 0xff, 0xff, 0xff, 0xff, 1],
            "",
            &["resource_exhausted", "invalid_argument"],
        ),
        (
            "a length over the limit",
            rpc::frame(0, &vec![0; 70_000]),
            "",
            &["resource_exhausted"],
        ),
        (
            "compressed without saying how",
            rpc::frame(1, &gzipped(&message)),
            "",
            &["invalid_argument", "internal"],
        ),
        (
            "compressed as nobody does",
            rpc::frame(1, &message),
            "lzma",
            &["unimplemented"],
        ),
        (
            "not compressed at all",
            rpc::frame(1, &message),
            "gzip",
            &["invalid_argument", "internal"],
        ),
        ("a bomb", bomb, "gzip", &["resource_exhausted"]),
        (
            "no message",
            rpc::frame(0, b"\x0a\xff"),
            "",
            &["invalid_argument"],
        ),
    ] {
        for flavour in [Flavour::Grpc, Flavour::GrpcWeb] {
            let mut request = rpc::request(flavour, "RegisterNode", None, body.clone());
            if !encoding.is_empty() {
                request
                    .headers_mut()
                    .insert("grpc-encoding", encoding.parse().expect("a header"));
            }
            let raw = match flavour {
                Flavour::Grpc => http::http2(plane.address, request).await,
                _ => http::http1(plane.address, request).await,
            };
            match rpc::outcome(flavour, "RegisterNode", &raw) {
                Err((code, message)) => {
                    assert!(
                        codes.contains(&code.as_str()),
                        "{flavour:?} {what}: {code}: {message}"
                    );
                    assert!(!message.is_empty(), "{flavour:?} {what}: {code}");
                }
                Ok(answer) => panic!("{flavour:?} {what}: {answer}"),
            }
        }
    }
    assert_eq!(plane.state().await, before);
}

#[tokio::test]
async fn what_is_no_call_gets_the_answer_of_the_go_project() {
    let (plane, before) = fleet().await;
    for (method, path, kind, status, headers, body) in [
        (
            Method::GET,
            REGISTER,
            "",
            405,
            &[("allow", "POST")][..],
            Some(""),
        ),
        (
            Method::GET,
            "/navarch.ControlPlaneService/ListNodes?encoding=json&message=%7B%7D",
            "",
            405,
            &[("allow", "POST")],
            None,
        ),
        (
            Method::PUT,
            REGISTER,
            "application/json",
            405,
            &[("allow", "POST")],
            None,
        ),
        (
            Method::DELETE,
            REGISTER,
            "application/json",
            405,
            &[("allow", "POST")],
            None,
        ),
        (Method::POST, REGISTER, "text/plain", 415, &[], None),
        (Method::POST, REGISTER, "application/xml", 415, &[], None),
        (Method::POST, REGISTER, "", 415, &[], None),
        (
            Method::POST,
            "/navarch.ControlPlaneService/Nothing",
            "application/json",
            404,
            &[],
            None,
        ),
        (
            Method::POST,
            "/navarch.ControlPlaneService/",
            "application/json",
            404,
            &[],
            None,
        ),
        (
            Method::POST,
            "/navarch.ControlPlaneService",
            "application/json",
            404,
            &[],
            None,
        ),
        (
            Method::POST,
            "/navarch.controlplane.v1.ControlPlaneService/GetNode",
            "application/json",
            404,
            &[],
            Some("404 page not found\n"),
        ),
        (
            Method::POST,
            "/navarch.controlplaneservice/registernode",
            "application/json",
            404,
            &[],
            None,
        ),
        (
            Method::POST,
            "/navarch.ControlPlaneService/RegisterNode/",
            "application/json",
            404,
            &[],
            None,
        ),
        (
            Method::POST,
            "/navarch.ControlPlaneService/../navarch.ControlPlaneService/RegisterNode",
            "application/json",
            404,
            &[],
            None,
        ),
        (
            Method::POST,
            "/",
            "application/json",
            404,
            &[],
            Some("404 page not found\n"),
        ),
        (Method::OPTIONS, "*", "", 404, &[], None),
        (Method::POST, "/metrics", "", 405, &[], None),
    ] {
        let mut request = Request::builder().method(method.clone()).uri(path);
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        let request = request
            .body(Bytes::from_static(b"{\"nodeId\":\"m\"}"))
            .expect("a request");
        let raw = http::http1(plane.address, request).await;
        let what = format!("{method} {path} {kind}: {raw:?}");
        assert_eq!(raw.status, status, "{what}");
        for (name, value) in headers {
            assert_eq!(raw.header(name), *value, "{what}");
        }
        if status == 415 {
            let accepted = raw.header("accept-post");
            assert!(
                accepted.contains("application/json") && accepted.contains("application/grpc"),
                "{what}"
            );
        }
        if let Some(body) = body {
            assert_eq!(raw.text(), body, "{what}");
        }
    }
    for method in [Method::GET, Method::HEAD, Method::POST] {
        let request = Request::builder()
            .method(method.clone())
            .uri("/healthz")
            .body(Bytes::new());
        let raw = http::http1(plane.address, request.expect("a request")).await;
        assert_eq!(raw.status, 200, "{method} /healthz");
    }
    assert_eq!(plane.state().await, before);
}

#[tokio::test]
async fn heads_that_are_too_large_or_no_http_are_refused() {
    let (plane, before) = fleet().await;
    let many: String = (0..200).map(|at| format!("x-{at}: y\r\n")).collect();
    let large = format!("x: {}\r\n", "y".repeat(100_000));
    let end = "content-type: application/json\r\ncontent-length: 14\r\n\r\n{\"nodeId\":\"m\"}";
    for (what, bytes, answers) in [
        (
            "many headers",
            format!("POST {REGISTER} HTTP/1.1\r\nhost: x\r\n{many}{end}"),
            &["431"][..],
        ),
        (
            "a large header",
            format!("POST {REGISTER} HTTP/1.1\r\nhost: x\r\n{large}{end}"),
            &["431"],
        ),
        (
            "a long path",
            format!("POST /{} HTTP/1.1\r\nhost: x\r\n{end}", "p".repeat(100_000)),
            &["414", "431", "400"],
        ),
        ("no HTTP", "HELO example.org\r\n\r\n".to_owned(), &["400"]),
        (
            "a hello of TLS",
            "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\u{3}\u{3}".to_owned(),
            &["400", ""],
        ),
        (
            "another version",
            format!("POST {REGISTER} HTTP/7.3\r\nhost: x\r\n{end}"),
            &["400", "505"],
        ),
        (
            "two lengths",
            format!("POST {REGISTER} HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n{end}"),
            &["400"],
        ),
        // The library calls a body that breaks our fault.
        (
            "a length and chunks",
            format!("POST {REGISTER} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n{end}"),
            &["400", "500"],
        ),
        (
            "a length that is none",
            format!("POST {REGISTER} HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n"),
            &["400"],
        ),
        (
            "a body that is cut",
            format!(
                "POST {REGISTER} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{{"
            ),
            &["400", "500", ""],
        ),
        (
            "a preface of HTTP/2 and no more",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
            &[""],
        ),
        (
            "a preface of HTTP/2 and rubbish",
            format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{}", "\u{7f}".repeat(100)),
            &[""],
        ),
        ("nothing", String::new(), &[""]),
    ] {
        let answer = http::bytes(plane.address, bytes.as_bytes()).await;
        let status = answer
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .unwrap_or_default();
        assert!(answers.contains(&status), "{what}: {answer:?}");
        assert_eq!(plane.state().await, before, "{what}");
    }
    let mut request = rpc::request(Flavour::Grpc, "RegisterNode", None, vec![]);
    request
        .headers_mut()
        .insert("x", "y".repeat(40_000).parse().expect("a header"));
    let raw = http::http2(plane.address, request).await;
    assert_eq!(raw.status, 431, "{raw:?}");
    assert_eq!(plane.state().await, before);
}

#[tokio::test]
async fn reports_and_beats_of_unknown_nodes_make_no_node() {
    let (plane, before) = fleet().await;
    let mut report = GoAgent("stranger").graded("UNHEALTHY");
    for flavour in Flavour::ALL {
        for (method, request) in [
            ("SendHeartbeat", json!({"nodeId": "stranger"})),
            ("ReportHealth", report.clone()),
        ] {
            let refused = plane.call_by(flavour, method, &request).await;
            assert_eq!(
                refused,
                Err((
                    "not_found".to_owned(),
                    "node not found: stranger".to_owned()
                ))
            );
        }
    }
    // One wrong event among good ones: the report is refused whole.
    report = json!({"nodeId": "n", "events": [
        {"gpuIndex": 0, "eventType": "HEALTH_EVENT_TYPE_XID", "metrics": {"xid_code": "79"}},
        {"gpuIndex": 0, "eventType": 42},
    ]});
    let words = plane.refused("ReportHealth", report).await;
    assert!(
        words.starts_with(
            "invalid_argument: events[1].event_type has the number 42, which means nothing"
        ),
        "{words}"
    );
    let words = plane
        .refused(
            "ReportHealth",
            json!({"nodeId": "n", "events": [{"eventType": "HEALTH_EVENT_TYPE_NEW"}]}),
        )
        .await;
    assert!(words.contains("HEALTH_EVENT_TYPE_NEW"), "{words}");
    assert_eq!(plane.state().await, before);
}

#[tokio::test]
async fn ids_that_clouds_give_are_taken_as_they_are() {
    let plane = Plane::start().await;
    let longest = "i".repeat(256);
    for id in [
        "projects/p-1/zones/us-central1-a/instances/n.1",
        "aws:///us-east-1a/i-0abcdef1234567890",
        "user@host:22",
        "0123456789abcdef0123456789abcdef",
        "node_1+blue",
        "...",
        &longest,
    ] {
        plane.ok("RegisterNode", json!({"nodeId": id})).await;
        assert_eq!(plane.node(id).await["nodeId"], *id);
        plane.ok("SendHeartbeat", json!({"nodeId": id})).await;
        plane
            .ok("FleetService/ExplainNode", json!({"nodeId": id}))
            .await;
    }
    assert!(
        plane
            .get("/metrics")
            .await
            .text()
            .contains("projects/p-1/zones")
    );
}

#[tokio::test]
async fn odd_texts_of_machines_are_kept_from_terminals() {
    let plane = Plane::start().await;
    GoAgent("n").register(&plane).await;
    let mut report = GoAgent("n").graded("UNHEALTHY");
    report["results"][1]["message"] = json!("\u{1b}[2J\u{0}bad\u{7}\nworse");
    plane.ok("ReportHealth", report).await;
    let shown = plane
        .ok("FleetService/ExplainNode", json!({"nodeId": "n"}))
        .await
        .to_string();
    assert!(
        shown.contains("bad") && !shown.contains("\\u001b") && !shown.contains("\\u0000"),
        "{shown}"
    );
    let long = json!({"nodeId": "n", "results": [{"checkName": "gpu", "status": 3, "message": "m".repeat(60_000)}]});
    plane.ok("ReportHealth", long).await;
    let shown = plane
        .ok("FleetService/ListIncidents", json!({}))
        .await
        .to_string();
    assert!(shown.len() < 20_000, "{}", shown.len());
}

/// The list of everything, on one connection after a refusal: it is still of use.
#[tokio::test]
async fn a_connection_survives_a_refusal() {
    let (plane, _) = fleet().await;
    let bad = "POST /navarch.ControlPlaneService/GetNode HTTP/1.1\r\nhost: x\r\n\
               content-type: application/json\r\ncontent-length: 1\r\n\r\n{";
    let good = "POST /navarch.ControlPlaneService/GetNode HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                content-type: application/json\r\ncontent-length: 14\r\n\r\n{\"nodeId\":\"n\"}";
    let answer = http::bytes(plane.address, format!("{bad}{good}").as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("\"nodeId\":\"n\""),
        "{answer}"
    );
}

#[tokio::test]
async fn a_storm_of_rubbish_leaves_the_fleet_as_it_was() {
    let (plane, before) = fleet().await;
    // A generator of bytes, always the same.
    let mut seed = 0x9e37_79b9_u32;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed
    };
    let sound = rpc::proto("RegisterNode", &GoAgent("n").registration());
    for round in 0..300 {
        let mut body = sound.clone();
        for _ in 0..=next() % 4 {
            let at = next() as usize % body.len();
            body[at] = next().to_le_bytes()[0];
        }
        body.truncate(body.len() - next() as usize % 40);
        // A beat of a damaged registration never finds its node, or says what is wrong with it.
        let raw: Raw = http::http1(plane.address, post(BEAT, &[PROTO], body)).await;
        assert!([200, 400, 404].contains(&raw.status), "{round}: {raw:?}");
    }
    let mut after = plane.state().await;
    let mut before = before;
    for state in [&mut after, &mut before] {
        state["nodes"]["nodes"][0]
            .as_object_mut()
            .expect("a node")
            .remove("lastHeartbeat");
    }
    assert_eq!(after, before);
}

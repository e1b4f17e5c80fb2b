//! Every protocol and encoding of the contract, written by hand: the messages by a protobuf
//! library that the product does not use, the frames here.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::OnceLock;

use axum::body::Bytes;
use axum::http::Request;
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use serde_json::Value;

use super::http::{self, Raw};

/// One way to speak to the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    ConnectJson,
    ConnectProto,
    Grpc,
    GrpcJson,
    GrpcWeb,
    GrpcWebJson,
}

impl Flavour {
    pub const ALL: [Self; 6] = [
        Self::ConnectJson,
        Self::ConnectProto,
        Self::Grpc,
        Self::GrpcJson,
        Self::GrpcWeb,
        Self::GrpcWebJson,
    ];

    pub const fn content_type(self) -> &'static str {
        match self {
            Self::ConnectJson => "application/json",
            Self::ConnectProto => "application/proto",
            Self::Grpc => "application/grpc",
            Self::GrpcJson => "application/grpc+json",
            Self::GrpcWeb => "application/grpc-web+proto",
            Self::GrpcWebJson => "application/grpc-web+json",
        }
    }

    const fn is_json(self) -> bool {
        matches!(self, Self::ConnectJson | Self::GrpcJson | Self::GrpcWebJson)
    }

    const fn is_framed(self) -> bool {
        !matches!(self, Self::ConnectJson | Self::ConnectProto)
    }
}

/// What a call came to: the answer in proto3 JSON, or the code and the message.
pub type Outcome = Result<Value, (String, String)>;

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
        let files = [
            "control_plane.proto",
            "navarch/v1/fleet.proto",
            "navarch/v1/dev.proto",
        ];
        let set = protox::compile(files, [root]).expect("the contract compiles");
        DescriptorPool::from_file_descriptor_set(set).expect("the contract is whole")
    })
}

/// The whole path of a call: `GetNode`, or `FleetService/GetPlan` for the newer services.
pub fn path(method: &str) -> String {
    match method.split_once('/') {
        None => format!("/navarch.ControlPlaneService/{method}"),
        Some((service, method)) => format!("/navarch.v1.{service}/{method}"),
    }
}

fn descriptor(method: &str) -> MethodDescriptor {
    let path = path(method);
    let (service, name) = path[1..].split_once('/').expect("a path");
    let service = pool()
        .get_service_by_name(service)
        .expect("the service exists");
    let found = service.methods().find(|method| method.name() == name);
    found.unwrap_or_else(|| panic!("no method {path}"))
}

/// The bytes of a request in protobuf. Unknown numbers of enums may be given as numbers.
pub fn proto(method: &str, request: &Value) -> Vec<u8> {
    DynamicMessage::deserialize(descriptor(method).input(), request)
        .unwrap_or_else(|error| panic!("{method} {request}: {error}"))
        .encode_to_vec()
}

fn read_message(flavour: Flavour, method: &str, bytes: &[u8]) -> Value {
    if flavour.is_json() {
        return serde_json::from_slice(bytes).expect("the answer is JSON");
    }
    let message = DynamicMessage::decode(descriptor(method).output(), bytes)
        .expect("the answer is a message of the contract");
    serde_json::to_value(message).expect("the message has a JSON form")
}

/// One frame of gRPC: a flag, the length, the bytes.
pub fn frame(flag: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a short message");
    [&[flag][..], &length.to_be_bytes(), bytes].concat()
}

/// The frames of a body, and what is left over.
pub fn frames(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while !body.is_empty() {
        assert!(body.len() >= 5, "a cut frame: {body:?}");
        let length = u32::from_be_bytes([body[1], body[2], body[3], body[4]]) as usize;
        assert!(body.len() >= 5 + length, "a cut frame: {body:?}");
        found.push((body[0], body[5..5 + length].to_vec()));
        body = &body[5 + length..];
    }
    found
}

/// The body of a request.
pub fn body(flavour: Flavour, method: &str, request: &Value) -> Vec<u8> {
    let message = if flavour.is_json() {
        request.to_string().into_bytes()
    } else {
        proto(method, request)
    };
    if flavour.is_framed() {
        frame(0, &message)
    } else {
        message
    }
}

/// A request with any body.
pub fn request(
    flavour: Flavour,
    method: &str,
    token: Option<&str>,
    body: Vec<u8>,
) -> Request<Bytes> {
    let mut request = Request::post(path(method)).header("content-type", flavour.content_type());
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    match flavour {
        Flavour::ConnectJson | Flavour::ConnectProto => {
            request = request.header("connect-protocol-version", "1");
        }
        Flavour::Grpc | Flavour::GrpcJson => request = request.header("te", "trailers"),
        Flavour::GrpcWeb | Flavour::GrpcWebJson => request = request.header("x-grpc-web", "1"),
    }
    request.body(body.into()).expect("a request")
}

/// Sends any body in a protocol.
pub async fn send(
    address: SocketAddr,
    flavour: Flavour,
    method: &str,
    token: Option<&str>,
    body: Vec<u8>,
) -> Raw {
    let request = request(flavour, method, token, body);
    match flavour {
        Flavour::Grpc | Flavour::GrpcJson => http::http2(address, request).await,
        _ => http::http1(address, request).await,
    }
}

/// Calls a method.
pub async fn call(
    address: SocketAddr,
    flavour: Flavour,
    method: &str,
    token: Option<&str>,
    request: &Value,
) -> Outcome {
    let sent = body(flavour, method, request);
    let raw = send(address, flavour, method, token, sent).await;
    outcome(flavour, method, &raw)
}

/// The first messages of a stream, after which the caller hangs up.
pub async fn stream(
    address: SocketAddr,
    flavour: Flavour,
    method: &str,
    asked: &Value,
    count: usize,
) -> Vec<Value> {
    let message = if flavour.is_json() {
        asked.to_string().into_bytes()
    } else {
        proto(method, asked)
    };
    let mut request = request(flavour, method, None, frame(0, &message));
    let streaming = match flavour {
        Flavour::ConnectJson => "application/connect+json",
        Flavour::ConnectProto => "application/connect+proto",
        other => other.content_type(),
    };
    let streaming = streaming.parse().expect("a header");
    request.headers_mut().insert("content-type", streaming);
    let http2 = matches!(flavour, Flavour::Grpc | Flavour::GrpcJson);
    let enough = |body: &[u8]| whole_frames(body).len() >= count;
    let body = http::stream(address, http2, request, enough).await;
    let read = |(flag, bytes): &(u8, Vec<u8>)| {
        assert_eq!(*flag, 0, "{flavour:?}: no message but an end");
        read_message(flavour, method, bytes)
    };
    whole_frames(&body).iter().map(read).collect()
}

/// The frames of a body that came so far.
fn whole_frames(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some((head, rest)) = body.split_at_checked(5) {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let Some((message, rest)) = rest.split_at_checked(length) else {
            break;
        };
        found.push((head[0], message.to_vec()));
        body = rest;
    }
    found
}

/// Reads an answer, strictly.
pub fn outcome(flavour: Flavour, method: &str, raw: &Raw) -> Outcome {
    match flavour {
        Flavour::ConnectJson | Flavour::ConnectProto => connect_outcome(flavour, method, raw),
        Flavour::Grpc | Flavour::GrpcJson => {
            let data = frames(&raw.body);
            // An error may come with its status in the headers alone.
            let status = if raw.trailers.contains_key("grpc-status") {
                &raw.trailers
            } else {
                &raw.headers
            };
            let text = |name: &str| {
                let value = status.get(name).map(|value| value.to_str().expect("text"));
                value.unwrap_or_default().to_owned()
            };
            grpc_outcome(
                flavour,
                method,
                raw,
                &data,
                &text("grpc-status"),
                &text("grpc-message"),
            )
        }
        Flavour::GrpcWeb | Flavour::GrpcWebJson => {
            let mut data = frames(&raw.body);
            let trailers = match data.pop() {
                Some((0x80, trailers)) => String::from_utf8(trailers).expect("text"),
                Some(other) => panic!("no trailers at the end but {other:?} in {raw:?}"),
                None => raw
                    .headers
                    .iter()
                    .map(|(name, value)| format!("{name}: {}\r\n", value.to_str().expect("text")))
                    .collect(),
            };
            let text = |name: &str| {
                let value = trailers.lines().find_map(|line| {
                    let (key, value) = line.split_once(':')?;
                    key.eq_ignore_ascii_case(name)
                        .then(|| value.trim().to_owned())
                });
                value.unwrap_or_default()
            };
            grpc_outcome(
                flavour,
                method,
                raw,
                &data,
                &text("grpc-status"),
                &text("grpc-message"),
            )
        }
    }
}

fn connect_outcome(flavour: Flavour, method: &str, raw: &Raw) -> Outcome {
    if raw.status == 200 {
        assert_eq!(
            raw.header("content-type"),
            flavour.content_type(),
            "{raw:?}"
        );
        return Ok(read_message(flavour, method, &raw.body));
    }
    assert_eq!(raw.header("content-type"), "application/json", "{raw:?}");
    let error: Value = serde_json::from_slice(&raw.body).expect("errors are JSON");
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    let code = text("code");
    let expected = match code.as_str() {
        "canceled" => 499,
        "invalid_argument" | "failed_precondition" | "out_of_range" => 400,
        "unauthenticated" => 401,
        "permission_denied" => 403,
        "not_found" => 404,
        "already_exists" | "aborted" => 409,
        "resource_exhausted" => 429,
        "unimplemented" => 501,
        "unavailable" => 503,
        "deadline_exceeded" => 504,
        _ => 500,
    };
    assert_eq!(raw.status, expected, "{raw:?}");
    Err((code, text("message")))
}

fn grpc_outcome(
    flavour: Flavour,
    method: &str,
    raw: &Raw,
    data: &[(u8, Vec<u8>)],
    status: &str,
    message: &str,
) -> Outcome {
    const CODES: [&str; 17] = [
        "ok",
        "canceled",
        "unknown",
        "invalid_argument",
        "deadline_exceeded",
        "not_found",
        "already_exists",
        "permission_denied",
        "resource_exhausted",
        "failed_precondition",
        "aborted",
        "out_of_range",
        "unimplemented",
        "internal",
        "unavailable",
        "data_loss",
        "unauthenticated",
    ];
    assert_eq!(raw.status, 200, "{raw:?}");
    assert!(
        raw.header("content-type")
            .starts_with(flavour.content_type().split('+').next().expect("one")),
        "{raw:?}"
    );
    let number: usize = status
        .parse()
        .unwrap_or_else(|_| panic!("no status in {raw:?}"));
    if number == 0 {
        let [(0, bytes)] = data else {
            panic!("not one message in {raw:?}")
        };
        return Ok(read_message(flavour, method, bytes));
    }
    assert_eq!(data, [], "data beside an error: {raw:?}");
    Err((CODES[number].to_owned(), percent_decoded(message)))
}

/// What gRPC does to messages: `%XX` for what is not plain.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let coded = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(coded.unwrap_or(bytes[at]));
        at += if coded.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).expect("messages are UTF-8")
}

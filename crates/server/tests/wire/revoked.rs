//! Streams of tokens that are revoked or changed under a running server: they end, others stay.

use std::pin::Pin;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Request};
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use navarch_api::service::CALLS;
use navarch_config::{Role, TokenConfig, TokenSource};
use serde_json::{Value, json};

use crate::support::agents::Agent;
use crate::support::http::soon;
use crate::support::plane::Plane;
use crate::support::rpc::{self, Flavour};

/// Every stream of the contract, with who may begin it and a request for it.
const STREAMS: [(&str, Role, &str); 2] = [
    ("FleetService/WatchEvents", Role::Viewer, "{}"),
    (
        "AgentService/WatchCommands",
        Role::Agent,
        r#"{"nodeId": "node-1", "sessionId": "session-1"}"#,
    ),
];

const FLAVOURS: [Flavour; 4] = [
    Flavour::ConnectJson,
    Flavour::ConnectProto,
    Flavour::Grpc,
    Flavour::GrpcWeb,
];

/// A stream that a caller holds open.
struct Open {
    what: String,
    connection: Pin<Box<dyn Future<Output = ()>>>,
    body: hyper::body::Incoming,
    data: Vec<u8>,
    trailers: HeaderMap,
}

impl Open {
    async fn begin(plane: &Plane, flavour: Flavour, method: &str, body: &str, token: &str) -> Self {
        let asked: Value = serde_json::from_str(body).expect("the table has JSON");
        let message = match flavour {
            Flavour::ConnectJson => asked.to_string().into_bytes(),
            _ => rpc::proto(method, &asked),
        };
        let mut request = rpc::request(flavour, method, Some(token), rpc::frame(0, &message));
        let streaming = match flavour {
            Flavour::ConnectJson => "application/connect+json",
            Flavour::ConnectProto => "application/connect+proto",
            other => other.content_type(),
        };
        let streaming = streaming.parse().expect("a header");
        request.headers_mut().insert("content-type", streaming);
        let (connection, answer) = connect(plane, flavour, request).await;
        assert_eq!(answer.status(), 200, "{flavour:?} {method}: {answer:?}");
        let mut open = Self {
            what: format!("{flavour:?} {method} of {token}"),
            connection,
            body: answer.into_body(),
            data: Vec::new(),
            trailers: HeaderMap::new(),
        };
        // The first message says that the stream is open.
        open.until(|data| data.len() > 4).await;
        open
    }

    /// Reads on; answers whether there was more.
    async fn read(&mut self) -> bool {
        let frame = tokio::select! {
            biased;
            frame = self.body.frame() => frame,
            () = &mut self.connection => self.body.frame().await,
        };
        let Some(frame) = frame else { return false };
        let frame = frame.unwrap_or_else(|error| panic!("{}: {error}", self.what));
        match frame.into_data() {
            Ok(data) => self.data.extend_from_slice(&data),
            Err(frame) => self.trailers = frame.into_trailers().unwrap_or_default(),
        }
        true
    }

    async fn until(&mut self, enough: impl Fn(&[u8]) -> bool) {
        let what = self.what.clone();
        let reading = async {
            while !enough(&self.data) {
                assert!(self.read().await, "{} ended early", self.what);
            }
        };
        soon(&what, reading).await;
    }

    /// The code and the message with which it ends.
    async fn end(mut self) -> (String, String) {
        while self.read().await {}
        if let Some(status) = self.trailers.get("grpc-status") {
            let message = self.trailers["grpc-message"].to_str().expect("text");
            return (
                status.to_str().expect("text").to_owned(),
                message.to_owned(),
            );
        }
        let (flag, last) = rpc::frames(&self.data).pop().expect("an end");
        let text = String::from_utf8(last).expect("the end is text");
        if flag == 2 {
            let end: Value = serde_json::from_str(&text).expect("the end is JSON");
            let text = |key: &str| end["error"][key].as_str().unwrap_or_default().to_owned();
            return (text("code"), text("message"));
        }
        assert_eq!(flag, 0x80, "{}: {text}", self.what);
        let value = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.expect("a status").1.trim().to_owned()
        };
        (value("grpc-status"), value("grpc-message"))
    }
}

type Connection = Pin<Box<dyn Future<Output = ()>>>;

async fn connect(
    plane: &Plane,
    flavour: Flavour,
    mut request: Request<Bytes>,
) -> (Connection, hyper::Response<hyper::body::Incoming>) {
    let stream = tokio::net::TcpStream::connect(plane.address).await;
    let io = TokioIo::new(stream.expect("it listens"));
    let host = plane.address.to_string();
    let (mut connection, answer): (Connection, Pin<Box<dyn Future<Output = _>>>) =
        if flavour == Flavour::Grpc {
            *request.uri_mut() = format!("http://{host}{}", request.uri())
                .parse()
                .expect("a URI");
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                    .await
                    .expect("HTTP/2 is spoken");
            (
                Box::pin(async move { drop(connection.await) }),
                Box::pin(async move {
                    let answer = sender.send_request(request.map(Full::new)).await;
                    (answer, Box::new(sender) as Box<dyn std::any::Any>)
                }),
            )
        } else {
            let host = host.parse().expect("a host");
            request.headers_mut().insert("host", host);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
                .await
                .expect("HTTP/1.1 is spoken");
            (
                Box::pin(async move { drop(connection.await) }),
                Box::pin(async move {
                    let answer = sender.send_request(request.map(Full::new)).await;
                    (answer, Box::new(sender) as Box<dyn std::any::Any>)
                }),
            )
        };
    let begun = async {
        tokio::select! {
            biased;
            answer = answer => answer,
            () = &mut connection => panic!("the connection ended before an answer"),
        }
    };
    let (answer, sender) = soon("the head of an answer", begun).await;
    // Whoever drops the sender closes the connection.
    let connection = Box::pin(async move {
        connection.await;
        drop(sender);
    });
    (connection, answer.expect("an answer"))
}

/// A control plane with two tokens of each role that may begin a stream.
async fn plane() -> Plane {
    let mut plane = Plane::with(|config, home| {
        let roles = [Role::Viewer, Role::Agent, Role::Operator];
        for (role, which) in roles
            .into_iter()
            .flat_map(|role| [(role, "goes"), (role, "stays")])
        {
            let name = format!("{}-{which}", role.word());
            let file = home.path().join(&name);
            std::fs::write(&file, secret(role, which)).expect("a token file");
            let source = TokenSource::File(file);
            config
                .server
                .auth
                .tokens
                .insert(name, TokenConfig { role, source });
        }
    })
    .await;
    plane.token = Some(secret(Role::Operator, "stays"));
    plane
}

fn secret(role: Role, which: &str) -> String {
    format!("secret-of-{}-{which}", role.word())
}

async fn call(plane: &Plane, method: &str, token: &str, request: &Value) {
    let flavour = Flavour::ConnectJson;
    let outcome = rpc::call(plane.address, flavour, method, Some(token), request).await;
    outcome.unwrap_or_else(|error| panic!("{method}: {error:?}"));
}

#[test]
fn the_table_has_every_stream_of_the_contract() {
    let mut listed: Vec<_> = STREAMS.iter().map(|row| rpc::path(row.0)).collect();
    let known = CALLS.iter().filter(|call| call.stream);
    let mut known: Vec<_> = known.map(|call| call.path.to_owned()).collect();
    listed.sort();
    known.sort();
    assert_eq!(listed, known);
}

#[tokio::test]
async fn streams_of_a_changed_token_end_and_all_others_stay() {
    let plane = plane().await;
    let agent = Agent::new("node-1");
    let agent_stays = secret(Role::Agent, "stays");
    call(&plane, "RegisterNode", &agent_stays, &agent.registration()).await;
    let (mut going, mut staying) = (Vec::new(), Vec::new());
    for flavour in FLAVOURS {
        for (method, role, body) in STREAMS {
            going.push(Open::begin(&plane, flavour, method, body, &secret(role, "goes")).await);
            let stays = Open::begin(&plane, flavour, method, body, &secret(role, "stays")).await;
            staying.push((method, stays));
        }
    }
    for role in [Role::Viewer, Role::Agent] {
        let file = plane.home.path().join(format!("{}-goes", role.word()));
        std::fs::write(file, format!("another-secret-of-{}", role.word())).expect("it is written");
    }
    let ends = join_all(going.into_iter().map(|open| async {
        let what = open.what.clone();
        (what, open.end().await)
    }));
    let ends = async {
        tokio::select! {
            ends = ends => ends,
            // The files are looked at once a second.
            () = async { loop { plane.pass(Duration::from_millis(200)).await; } } => unreachable!(),
        }
    };
    for (what, (code, message)) in soon("the ends", ends).await {
        assert!(
            ["unauthenticated", "16"].contains(&&*code),
            "{what}: {code} {message}"
        );
        assert!(message.contains("-goes"), "{what}: {message}");
        assert!(!message.contains("secret"), "{what}: {message}");
    }
    // The others hear of what happens next.
    let order = json!({"nodeId": "node-1", "commandType": "NODE_COMMAND_TYPE_RUN_DIAGNOSTIC"});
    let before: Vec<usize> = staying.iter().map(|(_, open)| open.data.len()).collect();
    plane.ok("IssueCommand", order).await;
    for ((_, open), before) in staying.iter_mut().zip(before) {
        open.until(|data| data.len() > before).await;
    }
}

#[tokio::test]
async fn a_token_that_is_taken_out_of_the_configuration_loses_its_streams() {
    let first = plane().await;
    let (home, config, clock) = first.stop().await;
    let file = home.path().join("config.yaml");
    let place = home.path().display().to_string();
    let token = |name: &str, role: &str| {
        format!("      {name}: {{role: {role}, token_file: {place}/{name}}}\n")
    };
    // The machines of the fake cloud need one of an agent.
    let (goes, stays) = (
        token("viewer-goes", "viewer"),
        token("viewer-stays", "viewer") + &token("agent-stays", "agent"),
    );
    let head = "providers: {fake: {}}
pools: {p: {provider: fake, instance_type: fake-8x, max_nodes: 1}}
server:\n  auth:\n    tokens:\n";
    std::fs::write(&file, format!("{head}{goes}{stays}")).expect("it is written");
    let config = Plane::fleet_of(config, &file);
    let plane = Plane::at(home, config, Some(file.clone()), clock).await;
    let (method, role, body) = STREAMS[0];
    let grpc = Flavour::Grpc;
    let gone = Open::begin(&plane, grpc, method, body, &secret(role, "goes")).await;
    let mut kept = Open::begin(&plane, grpc, method, body, &secret(role, "stays")).await;
    std::fs::write(&file, format!("{head}{stays}")).expect("it is written");
    navarch_config::Config::load(&file).expect("it is sound");
    let end = async {
        tokio::select! {
            end = gone.end() => end,
            () = async { loop { plane.pass(Duration::from_millis(200)).await; } } => unreachable!(),
        }
    };
    assert_eq!(soon("the end", end).await.0, "16");
    let before = kept.data.len();
    // Nothing happens; the stream says that it lives.
    let alive = async {
        tokio::select! {
            () = kept.until(|data| data.len() > before) => {}
            () = async { loop { plane.pass(Duration::from_secs(1)).await; } } => unreachable!(),
        }
    };
    soon("a sign of life", alive).await;
}

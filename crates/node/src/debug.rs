//! The debug API: puts faults into fake GPUs and repairs them. Loopback only.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use navarch_gpu::FakeBackend;
use navarch_gpu::fake::{Fault, FaultError, FaultKind};
use navarch_time::{SharedClock, timeout};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::AgentError;
use crate::state::{StateDir, write_whole};

/// The file of the state directory that holds the fake machine.
pub(crate) const FAKE_STATE: &str = "fake.json";

/// The longest body, in bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// How long the agent may take to keep an injected event.
const KEEP_LIMIT: Duration = Duration::from_secs(2);

/// What changed on the fake machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Something happened that no reading shows.
    Event,
    /// Something that readings show.
    Reading,
    /// It booted.
    Boot,
}

/// Tells the agent of a change; it answers when it has kept what came of it.
#[derive(Debug)]
pub(crate) struct Nudge {
    pub(crate) change: Change,
    pub(crate) kept: oneshot::Sender<()>,
}

/// What the handlers need.
pub(crate) struct Debug {
    pub(crate) fake: Arc<FakeBackend>,
    pub(crate) state: Option<Arc<StateDir>>,
    pub(crate) nudges: mpsc::Sender<Nudge>,
    pub(crate) clock: SharedClock,
}

/// Listens, and tells where in a file if one is named.
///
/// # Errors
///
/// When the address is not a loopback one, is taken, or the file cannot be written.
pub(crate) async fn listen(
    address: SocketAddr,
    file: Option<&Path>,
) -> Result<TcpListener, AgentError> {
    if !address.ip().is_loopback() {
        return Err(AgentError::Usage(format!(
            "--debug-listen {address}: the debug API listens on loopback addresses only, for example 127.0.0.1:0"
        )));
    }
    let refused = |source| AgentError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    if let Some(file) = file {
        write_whole(file, format!("{bound}\n").as_bytes())
            .map_err(AgentError::io("write", file))?;
    }
    tracing::info!(address = %bound, "debug API listens");
    Ok(listener)
}

/// The endpoints.
pub(crate) fn routes(debug: Debug) -> axum::Router {
    axum::Router::new()
        .route("/debug/inject/{kind}", post(inject))
        .route("/debug/clear", post(clear_all))
        .route("/debug/clear/{kind}", post(clear))
        .route("/debug/state", get(state))
        .fallback(async || {
            refuse(
                StatusCode::NOT_FOUND,
                "no such endpoint; there are POST /debug/inject/KIND, POST /debug/clear[/KIND] and GET /debug/state",
            )
        })
        .method_not_allowed_fallback(async || {
            refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                "wrong method; use POST to inject and clear, and GET for the state",
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn(no_web_pages))
        .with_state(Arc::new(debug))
}

fn refuse(status: StatusCode, message: impl std::fmt::Display) -> Response {
    (status, Json(json!({ "error": message.to_string() }))).into_response()
}

/// A web page in a browser on this machine reaches loopback, too, and says where it comes from.
async fn no_web_pages(request: Request, next: Next) -> Response {
    if is_web_page(request.headers()) {
        return refuse(StatusCode::FORBIDDEN, "requests of web pages are refused");
    }
    next.run(request).await
}

fn is_web_page(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN)
}

async fn inject(
    State(debug): State<Arc<Debug>>,
    UrlPath(kind): UrlPath<String>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return refuse(rejection.status(), rejection.body_text()),
    };
    let fault = match parse(&kind, &body) {
        Ok(fault) => fault,
        Err(Refusal(status, message)) => return refuse(status, message),
    };
    let store = |state: &_| debug.store(state);
    if let Err(error) = debug.fake.inject_with(&fault, store) {
        return refused(&error);
    }
    let change = match fault.kind() {
        FaultKind::Xid => Change::Event,
        _ => Change::Reading,
    };
    debug.tell(change).await;
    tracing::info!(kind = %fault.kind(), gpu = fault.gpu(), "fault injected");
    Json(json!({ "injected": fault })).into_response()
}

/// Why a request is refused.
struct Refusal(StatusCode, String);

/// A fault: its kind from the path, the rest from a JSON object, which may be left out.
fn parse(kind: &str, body: &[u8]) -> Result<Fault, Refusal> {
    let kind: FaultKind = kind
        .parse()
        .map_err(|error: FaultError| Refusal(StatusCode::NOT_FOUND, error.to_string()))?;
    let bad = |message: &dyn std::fmt::Display| {
        Refusal(StatusCode::BAD_REQUEST, format!("{kind}: {message}"))
    };
    let mut fields = match body.trim_ascii() {
        [] => serde_json::Map::new(),
        text => match serde_json::from_slice(text) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => {
                return Err(bad(
                    &"the body must be a JSON object, for example {\"gpu\": 3}",
                ));
            }
            Err(error) => return Err(bad(&format_args!("the body is no JSON: {error}"))),
        },
    };
    if fields.contains_key("kind") {
        return Err(bad(&"the kind is in the path; leave it out of the body"));
    }
    fields.insert("kind".to_owned(), Value::String(kind.to_string()));
    serde_json::from_value(Value::Object(fields)).map_err(|error| bad(&error))
}

fn refused(error: &FaultError) -> Response {
    let status = match error {
        FaultError::UnknownKind(_) => StatusCode::NOT_FOUND,
        FaultError::TooMany(_) => StatusCode::CONFLICT,
        FaultError::NotStored(_) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    refuse(status, error)
}

async fn clear_all(State(debug): State<Arc<Debug>>) -> Response {
    repair(&debug, None).await
}

async fn clear(State(debug): State<Arc<Debug>>, UrlPath(kind): UrlPath<String>) -> Response {
    match kind.parse() {
        Ok(kind) => repair(&debug, Some(kind)).await,
        Err(error) => refuse(StatusCode::NOT_FOUND, &error as &FaultError),
    }
}

async fn repair(debug: &Debug, kind: Option<FaultKind>) -> Response {
    let store = |state: &_| debug.store(state);
    match debug.fake.clear_with(kind, store) {
        Ok(repair) => {
            debug.tell(Change::Boot).await;
            tracing::info!(cleared = repair.cleared, boot_id = %repair.boot_id, "faults cleared");
            Json(json!({ "repaired": repair })).into_response()
        }
        Err(error) => refused(&error),
    }
}

async fn state(State(debug): State<Arc<Debug>>) -> Response {
    Json(debug.fake.state()).into_response()
}

impl Debug {
    /// Makes the fake machine durable, if there is where.
    fn store(&self, machine: &navarch_gpu::fake::FakeState) -> Result<(), String> {
        let Some(state) = &self.state else {
            return Ok(());
        };
        let text = serde_json::to_vec_pretty(machine).expect("a machine is plain data");
        state
            .write(FAKE_STATE, &text)
            .map_err(|error| format!("{}: {error}", state.file(FAKE_STATE).display()))
    }

    /// Has the agent look, and waits until it kept what it saw.
    async fn tell(&self, change: Change) {
        let (kept, done) = oneshot::channel();
        let told = async {
            // An agent that is ending keeps what it finds on its way out.
            if self.nudges.send(Nudge { change, kept }).await.is_ok() {
                let _ending = done.await;
            }
        };
        if timeout(&*self.clock, KEEP_LIMIT, told).await.is_err() {
            tracing::warn!(
                ?change,
                "the agent takes long to keep a change of its fake GPUs"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use navarch_gpu::FakeBackend;
    use navarch_gpu::fake::FakeOptions;
    use navarch_time::VirtualClock;
    use proptest::prelude::*;

    use super::*;

    /// A body that is nearly one: fields of faults with values of every sort.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        let field = prop::sample::select(vec![
            "gpu",
            "code",
            "message",
            "temperature",
            "sbe",
            "dbe",
            "link",
            "missing",
            "failed",
            "action",
            "kind",
            "x",
        ]);
        let value = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (0..9_i64).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            Just(Value::from("m".repeat(2000))),
            Just(Value::Null),
            Just(json!([{}])),
        ];
        prop_oneof![
            1 => prop::collection::vec(any::<u8>(), 0..40),
            4 => prop::collection::btree_map(field, value, 0..4)
                .prop_map(|fields| serde_json::to_vec(&fields).expect("plain data")),
            1 => Just(b"[".repeat(50_000)),
            1 => Just(b"{\"gpu\":".repeat(5_000)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Any body is a fault of the kind in the path, or refused in few words; a fault that the
        /// machine cannot have changes nothing.
        #[test]
        fn any_body_is_a_fault_or_refused(
            kind in prop_oneof![
                6 => prop::sample::select(FaultKind::ALL.to_vec()).prop_map(|kind| kind.word().to_owned()),
                1 => ".{0,200}",
            ],
            body in body(),
        ) {
            match parse(&kind, &body) {
                Ok(fault) => {
                    prop_assert_eq!(FaultKind::from_word(&kind), Some(fault.kind()));
                    let options = FakeOptions::new("m", VirtualClock::new().shared());
                    let fake = FakeBackend::new(options).expect("a good machine");
                    let before = fake.state();
                    match fake.inject(&fault) {
                        Ok(()) => prop_assert_eq!(fake.state().faults.len(), 1),
                        Err(error) => {
                            prop_assert_eq!(fake.state(), before);
                            prop_assert!(error.to_string().len() < 300, "{}", error);
                        }
                    }
                }
                Err(Refusal(status, message)) => {
                    prop_assert!(status.is_client_error());
                    prop_assert!(message.len() < 2600, "{} bytes", message.len());
                }
            }
        }
    }
}

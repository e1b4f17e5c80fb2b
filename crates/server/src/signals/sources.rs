//! Sources of queue lengths over HTTP: a number in a JSON document, or a query of Prometheus.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use navarch_api::client::{Connector, connector};
use navarch_config::{Question, Source};
use serde_json::Value;

use super::{Call, QueueSource};

/// The most that is read of an answer: one number needs little around it. Higher lets a source
/// that answers with everything it has fill the memory, lower refuses documents with more in them.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// The most that is told of what a source said.
const MAX_WORDS: usize = 200;

/// Opens a source.
///
/// # Errors
///
/// Says why it can never answer.
pub(super) fn open(source: &Source) -> Result<Arc<dyn QueueSource>, String> {
    let (url, read) = match &source.question {
        Question::Http { url, pointer } => {
            (url.reveal().to_owned(), Read::Pointer(pointer.clone()))
        }
        Question::Prometheus { url, query } => {
            let url = format!("{}/api/v1/query?query={}", url.reveal(), encoded(query));
            (url, Read::Prometheus)
        }
    };
    let uri: Uri = url
        .parse()
        .map_err(|error| format!("its URL cannot be asked: {error}"))?;
    let tls = uri.scheme_str() == Some("https");
    let connector = connector(tls, None).map_err(|error| error.to_string())?;
    let mut headers = HeaderMap::new();
    for (name, value) in &source.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        // The configuration was checked for both.
        if let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_str(value.reveal())) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    Ok(Arc::new(OverHttp {
        http: Client::builder(TokioExecutor::new())
            // Asked now and then: a connection that is kept is closed at the other end meanwhile.
            .pool_max_idle_per_host(0)
            .build(connector),
        uri,
        headers,
        read,
    }))
}

struct OverHttp {
    http: Client<Connector, Empty<Bytes>>,
    uri: Uri,
    headers: HeaderMap,
    read: Read,
}

/// Where the number is in the answer.
enum Read {
    Pointer(String),
    Prometheus,
}

impl QueueSource for OverHttp {
    fn depth(&self) -> Call<'_> {
        Box::pin(self.ask())
    }
}

impl OverHttp {
    async fn ask(&self) -> Result<f64, String> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("navarch/", env!("CARGO_PKG_VERSION"))),
        );
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.extend(self.headers.clone());
        let answer = self
            .http
            .request(request)
            .await
            .map_err(|error| chain(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                format!("the answer has more than {MAX_ANSWER_BYTES} bytes")
            } else {
                format!("the answer broke off: {error}")
            }
        });
        if status != StatusCode::OK {
            let said = body.map(|body| words(&body.to_bytes())).unwrap_or_default();
            let moved = if status.is_redirection() {
                " (redirects are not followed: configure the URL that it leads to)"
            } else {
                ""
            };
            return Err(format!("it answers {}: {said}{moved}", status.as_u16()));
        }
        let body = body?.to_bytes();
        let document: Value = serde_json::from_slice(&body)
            .map_err(|_| format!("the answer is not JSON: {:?}", words(&body)))?;
        match &self.read {
            Read::Pointer(pointer) => at_pointer(&document, pointer),
            Read::Prometheus => of_prometheus(&document),
        }
    }
}

fn at_pointer(document: &Value, pointer: &str) -> Result<f64, String> {
    let Some(found) = document.pointer(pointer) else {
        return Err(format!("the answer has nothing at {pointer:?}"));
    };
    let number = found.as_f64();
    number.ok_or_else(|| format!("at {pointer:?} is {}, not a number", kind(found)))
}

/// The one number of an answer of Prometheus.
fn of_prometheus(document: &Value) -> Result<f64, String> {
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
    if text("/status") != Some("success") {
        let said = text("/error").unwrap_or("it does not say why");
        return Err(format!("the query failed: {}", words(said.as_bytes())));
    }
    let result = document.pointer("/data/result").and_then(Value::as_array);
    let value = match (text("/data/resultType"), result.map(Vec::as_slice)) {
        (Some("scalar"), Some([_, value])) => Some(value),
        (Some("vector"), Some([one])) => one.pointer("/value/1"),
        (Some("vector"), Some([])) => {
            return Err(
                "the query has no result: add `or vector(0)` if that means nothing waits"
                    .to_owned(),
            );
        }
        (Some("vector"), Some(many)) => {
            let many = many.len();
            return Err(format!(
                "the query has {many} results: make one of them with sum()"
            ));
        }
        _ => None,
    };
    let number = value
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok());
    number.ok_or_else(|| "the answer is none of Prometheus to an instant query".to_owned())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A text as a part of a query.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The beginning of a text, on one line.
fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * MAX_WORDS)]);
    let text = text.trim().chars().take(MAX_WORDS);
    text.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// An error with what led to it.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

//! Sources of queue lengths over HTTP: a number in a JSON document, or a query of Prometheus.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use navarch_config::{Question, Source};
use serde_json::Value;

use super::{Call, QueueSource};
use crate::outbound::{Failure, Outbound, address, body, encoded, hint, words};

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
    let (address, read) = match &source.question {
        Question::Http { url, pointer } => (address(url), Read::Pointer(pointer.clone())),
        Question::Prometheus { url, query } => {
            let url = format!("{}/api/v1/query?query={}", url.reveal(), encoded(query));
            (url.parse(), Read::Prometheus)
        }
    };
    let uri: Uri = address.map_err(|error| format!("its URL cannot be asked: {error}"))?;
    let outbound = Outbound::new([&uri], &source.headers).map_err(|error| error.to_string())?;
    Ok(Arc::new(OverHttp {
        outbound,
        uri,
        read,
    }))
}

struct OverHttp {
    outbound: Outbound,
    uri: Uri,
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
        let json = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(header::ACCEPT, json)]);
        let answer = self
            .outbound
            .call(Method::GET, self.uri.clone(), headers, Bytes::new())
            .await
            .map_err(Failure::why)?;
        let status = answer.status();
        let body = body(answer, MAX_ANSWER_BYTES).await;
        if status != StatusCode::OK {
            let said = words(&body.unwrap_or_default(), MAX_WORDS);
            let (code, hint) = (status.as_u16(), hint(status));
            return Err(format!("it answers {code}: {said}{hint}"));
        }
        let body = body?;
        let document: Value = serde_json::from_slice(&body)
            .map_err(|_| format!("the answer is not JSON: {:?}", words(&body, MAX_WORDS)))?;
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
        return Err(format!(
            "the query failed: {}",
            words(said.as_bytes(), MAX_WORDS)
        ));
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

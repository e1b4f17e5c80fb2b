//! Notices over HTTP, in the form of the Go project, signed and with a key that tells repeats.

use std::fmt::Write as _;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::Error as CallError;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use navarch_api::client::{Connector, connector};
use navarch_config::{Secret, Url, WebhookConfig};
use navarch_core::NotifyOutcome;
use navarch_model::{NodeId, Notice, NoticeKind};
use navarch_time::SharedClock;
use ring::hmac;

use super::{Call, Notifier, NotifierError};

/// The most that is read of an answer. More tells nobody anything.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The most that is kept of what a receiver says.
const MAX_WORDS: usize = 300;
/// The fewest bytes of a secret.
const SHORTEST_SECRET: usize = 16;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SEQUENCE: HeaderName = HeaderName::from_static("navarch-notice-sequence");
const TIMESTAMP: HeaderName = HeaderName::from_static("navarch-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("navarch-signature");

/// A receiver of notices.
pub(super) struct Webhook {
    http: Client<Connector, Full<Bytes>>,
    cordon: Option<Uri>,
    uncordon: Option<Uri>,
    drain: Option<Uri>,
    status: Option<String>,
    headers: HeaderMap,
    secret: Option<hmac::Key>,
    clock: SharedClock,
}

/// What came back.
struct Answer {
    status: StatusCode,
    body: Bytes,
}

/// Why nothing came back.
enum Failure {
    /// No connection was made.
    Unreached(String),
    /// The call was made, and the answer is not there.
    Lost(String),
}

impl Webhook {
    pub(super) fn open(config: &WebhookConfig, clock: SharedClock) -> Result<Self, NotifierError> {
        let uri = |key: &'static str, url: &Option<Url>| {
            let parse = |url: &Url| {
                url.reveal()
                    .parse::<Uri>()
                    .map_err(|error| NotifierError::Url {
                        key,
                        problem: error.to_string(),
                    })
            };
            url.as_ref().map(parse).transpose()
        };
        let cordon = uri("cordon_url", &config.cordon_url)?;
        let uncordon = uri("uncordon_url", &config.uncordon_url)?;
        let drain = uri("drain_url", &config.drain_url)?;
        let status = uri("drain_status_url", &config.drain_status_url)?;
        let all = [&cordon, &uncordon, &drain, &status];
        let tls = all
            .into_iter()
            .flatten()
            .any(|uri| uri.scheme_str() == Some("https"));
        // A connection that is kept may be closed at the other end just when a notice is sent, and
        // then nobody knows whether it was heard. Calls are few.
        let http = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector(tls, None)?);
        Ok(Self {
            http,
            cordon,
            uncordon,
            drain,
            status: config
                .drain_status_url
                .as_ref()
                .map(|url| url.reveal().to_owned()),
            headers: headers(&config.headers),
            secret: secret(config)?,
            clock,
        })
    }

    async fn call(
        &self,
        method: Method,
        uri: Uri,
        own: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let held = request.headers_mut();
        held.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("navarch/", env!("CARGO_PKG_VERSION"))),
        );
        held.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        held.extend(self.headers.clone());
        held.extend(own);
        let answer = self.http.request(request).await.map_err(|error| {
            let why = chain(&error);
            if error.is_connect() {
                Failure::Unreached(why)
            } else {
                Failure::Lost(why)
            }
        })?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES);
        // What was answered counts by its status, however its text ends.
        let body = body.collect().await.map(|body| body.to_bytes());
        Ok(Answer {
            status,
            body: body.unwrap_or_default(),
        })
    }

    async fn post(&self, node: &NodeId, notice: &Notice, key: &str) -> NotifyOutcome {
        let uri = match notice.kind {
            NoticeKind::Cordon => &self.cordon,
            NoticeKind::Uncordon => &self.uncordon,
            NoticeKind::Drain => &self.drain,
        };
        let Some(uri) = uri else {
            return NotifyOutcome::Taken;
        };
        let body = payload(node, notice);
        let own = self.own_headers(notice, key, &body);
        match self.call(Method::POST, uri.clone(), own, body).await {
            Ok(answer) => judge(&answer),
            Err(Failure::Unreached(why)) => {
                NotifyOutcome::Refused(format!("webhook request failed: {why}"))
            }
            Err(Failure::Lost(why)) => {
                NotifyOutcome::Unknown(format!("webhook request failed: {why}"))
            }
        }
    }

    fn own_headers(&self, notice: &Notice, key: &str, body: &[u8]) -> HeaderMap {
        let mut own = HeaderMap::new();
        if let Ok(key) = HeaderValue::from_str(key) {
            own.insert(IDEMPOTENCY_KEY, key);
        }
        own.insert(SEQUENCE, HeaderValue::from(notice.sequence));
        let now = self.clock.wall().max(0).cast_unsigned() / 1_000_000;
        own.insert(TIMESTAMP, HeaderValue::from(now));
        if let Some(secret) = &self.secret {
            let signature = signature(secret, now, body);
            if let Ok(signature) = HeaderValue::from_str(&signature) {
                own.insert(SIGNATURE, signature);
            }
        }
        own
    }

    async fn ask(&self, node: &NodeId) -> Result<bool, String> {
        let Some(url) = &self.status else {
            return Ok(true);
        };
        let uri: Uri = status_url(url, node)
            .parse()
            .map_err(|error| format!("drain status request failed: {error}"))?;
        let answer = self
            .call(Method::GET, uri, HeaderMap::new(), Bytes::new())
            .await
            .map_err(|failure| match failure {
                Failure::Unreached(why) | Failure::Lost(why) => {
                    format!("drain status request failed: {why}")
                }
            })?;
        if answer.status != StatusCode::OK {
            return Err(format!(
                "drain status returned {}: {}",
                answer.status.as_u16(),
                words(&answer.body)
            ));
        }
        let failed = |why: &str| format!("failed to decode drain status response: {why}");
        let value: serde_json::Value =
            serde_json::from_slice(&answer.body).map_err(|error| failed(&error.to_string()))?;
        match value.get("drained").map(serde_json::Value::as_bool) {
            Some(Some(drained)) => Ok(drained),
            Some(None) => Err(failed("drained is neither true nor false")),
            None => Err(failed("it does not say whether the node is drained")),
        }
    }
}

impl Notifier for Webhook {
    fn notify<'a>(
        &'a self,
        node: &'a NodeId,
        notice: &'a Notice,
        key: &'a str,
    ) -> Call<'a, NotifyOutcome> {
        Box::pin(self.post(node, notice, key))
    }

    fn is_drained<'a>(&'a self, node: &'a NodeId) -> Call<'a, Result<bool, String>> {
        Box::pin(self.ask(node))
    }
}

/// The body of a notice.
fn payload(node: &NodeId, notice: &Notice) -> Bytes {
    let mut body = serde_json::Map::new();
    body.insert("event".to_owned(), notice.kind.word().into());
    body.insert("node_id".to_owned(), node.as_str().into());
    if !notice.reason.is_empty() && notice.kind != NoticeKind::Uncordon {
        body.insert("reason".to_owned(), notice.reason.as_str().into());
    }
    let at = Timestamp::from_microsecond(notice.created.wall.0).unwrap_or(Timestamp::UNIX_EPOCH);
    body.insert("timestamp".to_owned(), format!("{at:.0}").into());
    Bytes::from(serde_json::Value::Object(body).to_string())
}

/// What an answer says. A receiver that failed may have acted before it did.
fn judge(answer: &Answer) -> NotifyOutcome {
    let status = answer.status;
    let mut why = format!(
        "webhook returned {}: {}",
        status.as_u16(),
        words(&answer.body)
    );
    if status.is_success() {
        NotifyOutcome::Taken
    } else if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        NotifyOutcome::Unknown(why)
    } else {
        if status.is_redirection() {
            why.push_str(" (redirects are not followed: configure the URL that it leads to)");
        }
        NotifyOutcome::Refused(why)
    }
}

/// The beginning of a text, on one line.
fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * MAX_WORDS)]);
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let plain: String = plain.collect();
    plain.trim().chars().take(MAX_WORDS).collect()
}

/// The URL at which it is asked whether a node is empty.
fn status_url(url: &str, node: &NodeId) -> String {
    let mut url = url.to_owned();
    if !url.ends_with(['?', '&']) {
        url.push(if url.contains('?') { '&' } else { '?' });
    }
    url.push_str("node_id=");
    for byte in node.as_str().bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

/// What proves that a notice is ours: over its time and its body.
fn signature(secret: &hmac::Key, timestamp: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(secret);
    context.update(timestamp.to_string().as_bytes());
    context.update(b".");
    context.update(body);
    let mut text = "sha256=".to_owned();
    for byte in context.sign().as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn headers(configured: &std::collections::BTreeMap<String, Secret>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in configured {
        let name = HeaderName::from_bytes(name.as_bytes());
        // The configuration was checked for both.
        if let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_str(value.reveal())) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    headers
}

fn secret(config: &WebhookConfig) -> Result<Option<hmac::Key>, NotifierError> {
    let text = match (&config.secret_file, &config.secret_env) {
        (Some(path), _) => std::fs::read_to_string(path).map_err(|error| NotifierError::File {
            path: path.clone(),
            error,
        })?,
        (None, Some(name)) => {
            std::env::var(name).map_err(|_| NotifierError::Unset(name.clone()))?
        }
        (None, None) => return Ok(None),
    };
    let text = text.trim();
    if text.len() < SHORTEST_SECRET {
        return Err(NotifierError::Short);
    }
    Ok(Some(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes())))
}

/// An error with what led to it.
fn chain(error: &CallError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;

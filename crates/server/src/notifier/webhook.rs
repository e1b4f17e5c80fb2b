//! Notices over HTTP, in the form of the Go project, signed and with a key that tells repeats.

use std::fmt::Write as _;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use jiff::Timestamp;
use navarch_config::{Url, WebhookConfig};
use navarch_core::NotifyOutcome;
use navarch_model::{NodeId, Notice, NoticeKind};
use navarch_time::{SharedClock, timeout};
use ring::hmac;

use super::{Call, Notifier, NotifierError};
use crate::outbound::{Failure, Outbound, address, body, encoded, hint, words};

/// The most that is read of an answer. More tells nobody anything.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The most that is kept of what a receiver says.
const MAX_WORDS: usize = 300;
/// How long the words of an answer that refuses are waited for: its status has said what counts.
const WORDS_WAIT: Duration = Duration::from_secs(1);
/// The fewest bytes of a secret.
const SHORTEST_SECRET: usize = 16;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SEQUENCE: HeaderName = HeaderName::from_static("navarch-notice-sequence");
const TIMESTAMP: HeaderName = HeaderName::from_static("navarch-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("navarch-signature");

/// A receiver of notices.
pub(super) struct Webhook {
    outbound: Outbound,
    cordon: Option<Uri>,
    uncordon: Option<Uri>,
    drain: Option<Uri>,
    status: Option<Url>,
    secret: Option<hmac::Key>,
    clock: SharedClock,
}

impl Webhook {
    pub(super) fn open(config: &WebhookConfig, clock: SharedClock) -> Result<Self, NotifierError> {
        let uri = |key: &'static str, url: &Option<Url>| {
            let parse = |url: &Url| {
                address(url).map_err(|error| NotifierError::Url {
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
        let outbound = Outbound::new(all.into_iter().flatten(), &config.headers)?;
        Ok(Self {
            outbound,
            cordon,
            uncordon,
            drain,
            status: config.drain_status_url.clone(),
            secret: secret(config)?,
            clock,
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
        let payload = payload(node, notice);
        let headers = self.headers(notice, key, &payload);
        let call = self
            .outbound
            .call(Method::POST, uri.clone(), headers, payload);
        match call.await {
            // However the rest of the answer ends, or does not.
            Ok(answer) if answer.status().is_success() => NotifyOutcome::Taken,
            Ok(answer) => {
                let status = answer.status();
                let said = body(answer, MAX_ANSWER_BYTES);
                let said = timeout(&*self.clock, WORDS_WAIT, said).await;
                let said = said.ok().and_then(Result::ok).unwrap_or_default();
                judge(status, &words(&said, MAX_WORDS))
            }
            Err(Failure::Unreached(why)) => {
                NotifyOutcome::Refused(format!("webhook request failed: {why}"))
            }
            Err(Failure::Lost(why)) => {
                NotifyOutcome::Unknown(format!("webhook request failed: {why}"))
            }
        }
    }

    fn headers(&self, notice: &Notice, key: &str, body: &[u8]) -> HeaderMap {
        let json = HeaderValue::from_static("application/json");
        let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, json)]);
        let now = self.clock.wall().max(0).cast_unsigned() / 1_000_000;
        headers.insert(SEQUENCE, HeaderValue::from(notice.sequence));
        headers.insert(TIMESTAMP, HeaderValue::from(now));
        let signature = self
            .secret
            .as_ref()
            .map(|secret| signature(secret, now, key, notice.sequence, body));
        let own = [
            (IDEMPOTENCY_KEY, Some(key)),
            (SIGNATURE, signature.as_deref()),
        ];
        for (name, text) in own {
            if let Some(Ok(value)) = text.map(HeaderValue::from_str) {
                headers.insert(name, value);
            }
        }
        headers
    }

    async fn ask(&self, node: &NodeId) -> Result<bool, String> {
        let Some(url) = &self.status else {
            return Ok(true);
        };
        let failed = |why: &dyn std::fmt::Display| format!("drain status request failed: {why}");
        let uri: Uri = status_url(url.reveal(), node)
            .parse()
            .map_err(|error| failed(&error))?;
        let answer = self
            .outbound
            .call(Method::GET, uri, HeaderMap::new(), Bytes::new())
            .await
            .map_err(|failure| failed(&failure.why()))?;
        let status = answer.status();
        let body = body(answer, MAX_ANSWER_BYTES).await;
        if status != StatusCode::OK {
            return Err(format!(
                "drain status returned {}: {}",
                status.as_u16(),
                words(&body.unwrap_or_default(), MAX_WORDS)
            ));
        }
        let body = body.map_err(|why| failed(&why))?;
        let failed = |why: &str| format!("failed to decode drain status response: {why}");
        let value: serde_json::Value =
            serde_json::from_slice(&body).map_err(|error| failed(&error.to_string()))?;
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

/// What an answer says that is no success. A receiver that failed may have acted before it did.
fn judge(status: StatusCode, said: &str) -> NotifyOutcome {
    let why = format!(
        "webhook returned {}: {said}{}",
        status.as_u16(),
        hint(status)
    );
    if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        NotifyOutcome::Unknown(why)
    } else {
        NotifyOutcome::Refused(why)
    }
}

/// The URL at which it is asked whether a node is empty.
fn status_url(url: &str, node: &NodeId) -> String {
    let mut url = url.to_owned();
    if !url.ends_with(['?', '&']) {
        url.push(if url.contains('?') { '&' } else { '?' });
    }
    url.push_str("node_id=");
    url.push_str(&encoded(node.as_str()));
    url
}

/// What proves that a notice is ours: over its time, its key, its sequence and its body, so that
/// none of them can be taken from another notice.
fn signature(secret: &hmac::Key, timestamp: u64, key: &str, sequence: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(secret);
    context.update(format!("{timestamp}.{key}.{sequence}.").as_bytes());
    context.update(body);
    let mut text = "v2=".to_owned();
    for byte in context.sign().as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
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

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;

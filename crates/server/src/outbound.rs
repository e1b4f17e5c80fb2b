//! Calls to addresses of the operator's choosing: who knows of jobs, who is told of nodes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use axum::http::{header, uri::InvalidUri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error as CallError};
use hyper_util::rt::TokioExecutor;
use navarch_api::client::{Connector, TrustError, connector};
use navarch_config::{Secret, Url};

/// A caller of one receiver or source.
pub(crate) struct Outbound {
    http: Client<Connector, Full<Bytes>>,
    headers: HeaderMap,
}

/// Why there is no answer.
pub(crate) enum Failure {
    /// No connection was made.
    Unreached(String),
    /// The call was made, and the answer is not there.
    Lost(String),
}

impl Failure {
    /// Why, in words.
    pub(crate) fn why(self) -> String {
        match self {
            Self::Unreached(why) | Self::Lost(why) => why,
        }
    }
}

impl Outbound {
    /// A caller that sends the configured headers with every call, over TLS if any of the
    /// addresses needs it.
    ///
    /// # Errors
    ///
    /// No certificate is trusted.
    pub(crate) fn new<'a>(
        addresses: impl IntoIterator<Item = &'a Uri>,
        configured: &BTreeMap<String, Secret>,
    ) -> Result<Self, TrustError> {
        let tls = addresses
            .into_iter()
            .any(|uri| uri.scheme_str() == Some("https"));
        let mut headers = HeaderMap::new();
        for (name, value) in configured {
            let name = HeaderName::from_bytes(name.as_bytes());
            // The configuration was checked for both.
            if let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_str(value.reveal())) {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
        Ok(Self {
            // A connection that is kept may be closed at the other end just when it is used again,
            // and then nobody knows whether the call was heard. Calls are few.
            http: Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(0)
                .build(connector(tls, None)?),
            headers,
        })
    }

    /// Makes one call. The configured headers take the place of those given here.
    pub(crate) async fn call(
        &self,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let held = request.headers_mut();
        held.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("navarch/", env!("CARGO_PKG_VERSION"))),
        );
        held.extend(headers);
        held.extend(self.headers.clone());
        self.http.request(request).await.map_err(|error| {
            let why = chain(&error);
            if error.is_connect() {
                Failure::Unreached(why)
            } else {
                Failure::Lost(why)
            }
        })
    }
}

/// The address of a URL.
///
/// # Errors
///
/// It cannot be called.
pub(crate) fn address(url: &Url) -> Result<Uri, InvalidUri> {
    url.reveal().parse()
}

/// The whole body of an answer.
///
/// # Errors
///
/// Says that it has more than so many bytes, or that it broke off.
pub(crate) async fn body(answer: Response<Incoming>, most: usize) -> Result<Bytes, String> {
    let body = Limited::new(answer.into_body(), most).collect().await;
    body.map(|body| body.to_bytes()).map_err(|error| {
        if error.is::<LengthLimitError>() {
            format!("the answer has more than {most} bytes")
        } else {
            format!("the answer broke off: {error}")
        }
    })
}

/// What is to be done about an answer that leads elsewhere.
pub(crate) fn hint(status: StatusCode) -> &'static str {
    if status.is_redirection() {
        " (redirects are not followed: configure the URL that it leads to)"
    } else {
        ""
    }
}

/// The beginning of what was answered, on one line.
pub(crate) fn words(body: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * most)]);
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let plain: String = plain.collect();
    plain.trim().chars().take(most).collect()
}

/// A text as a part of a query.
pub(crate) fn encoded(text: &str) -> String {
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
mod tests {
    use super::*;

    #[test]
    fn what_a_receiver_says_is_one_short_line() {
        assert_eq!(words(b" no\r\nroom\0 ", 300), "no  room");
        assert_eq!(words(&[b'x'; 100_000], 300).len(), 300);
        assert_eq!(words(b"\xff\xfe", 300), "\u{fffd}\u{fffd}");
    }
}

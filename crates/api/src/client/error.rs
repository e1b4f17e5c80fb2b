//! What went wrong with a call, in words that say what to do.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use connectrpc::ConnectError;
use rustls::CertificateError;

use super::transport::tls_problem;
use crate::Code;

/// The most characters that are taken of what a server says of an error. A list of what is wrong
/// with a file fits; a page of a web server does not fill a screen for long.
const MAX_SAID_CHARS: usize = 4096;

/// Where an error comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The control plane answered so.
    Answer,
    /// Nothing listens at the address.
    NothingListens,
    /// The address's host name leads nowhere.
    HostNotFound,
    /// The host cannot be reached, or does not take the connection in time.
    Unreachable,
    /// Something listens, and does not speak HTTP without TLS.
    NotHttp,
    /// Something listens, and its certificate is not to be trusted, or it does not speak TLS.
    Tls,
    /// Something listens, and is no control plane.
    NotNavarch,
    /// The token is missing or refused.
    Token,
    /// No answer came in time. What was asked may still happen.
    Deadline,
    /// The connection broke before the answer. What was asked may have happened.
    ConnectionLost,
}

/// A call that did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ClientError {
    /// For programs.
    pub code: Code,
    /// For people: what is wrong, and what to do if the error is not the control plane's answer.
    pub message: String,
    /// Where it comes from.
    pub cause: Cause,
    /// Of a call that was refused because there were too many: when to try again, if the answer
    /// says so. At most five minutes.
    pub retry_after: Option<Duration>,
}

/// The longest wait that a client lets a server ask for. Higher lets a confused server silence a
/// fleet, lower makes clients call again while they are sure to be refused.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The wait that an answer asks for.
fn wait_of(error: &ConnectError) -> Option<Duration> {
    let header = error.response_headers().get(http::header::RETRY_AFTER)?;
    let seconds = header.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// What the words depend on.
#[derive(Debug, Clone)]
pub(super) struct Circumstances {
    pub address: String,
    pub has_token: bool,
    pub timeout: Option<Duration>,
}

/// A text of whoever answered, as a terminal and a log may show it: it may be no control plane.
fn plain(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => '\n',
        c if c.is_control() => ' ',
        c => c,
    };
    text.chars().map(shown).take(MAX_SAID_CHARS).collect()
}

/// Says where an error comes from and what to do.
pub(super) fn explain(error: &ConnectError, at: &Circumstances) -> ClientError {
    let code = Code::from_connect(error.code);
    let said = plain(error.message.as_deref().unwrap_or_default().trim());
    let said = said.as_str();
    let address = &at.address;
    if error.source().is_some() {
        let (cause, message) = explain_transport(error, address);
        return ClientError {
            code: Code::Unavailable,
            message,
            cause,
            retry_after: None,
        };
    }
    let http_status = said
        .strip_prefix("HTTP error ")
        .and_then(|rest| rest.get(..3))
        .and_then(|digits| digits.parse::<u16>().ok());
    let location = error
        .response_headers()
        .get(http::header::LOCATION)
        .and_then(|location| location.to_str().ok());
    let (cause, message) = match (code, http_status) {
        (Code::Unauthenticated, Some(_)) if at.has_token => (
            Cause::Token,
            "401 Unauthorized: the control plane does not accept this token".to_owned(),
        ),
        (Code::Unauthenticated, Some(_)) => (
            Cause::Token,
            "401 Unauthorized: the control plane asks for a token; set NAVARCH_AUTH_TOKEN"
                .to_owned(),
        ),
        (_, Some(status @ 300..=399)) => (
            Cause::NotNavarch,
            format!(
                "{address} answers with a redirect ({status}) to {}; redirects are not followed, \
                 give the final address",
                location.map_or_else(|| "an address it does not say".to_owned(), plain)
            ),
        ),
        (_, Some(404)) => (
            Cause::NotNavarch,
            format!("what listens at {address} is no Navarch control plane (HTTP 404)"),
        ),
        (_, Some(status)) => (
            Cause::NotNavarch,
            format!("{address} answers HTTP {status}, not as a control plane does"),
        ),
        (_, None) if said.starts_with("unexpected content-type") => (
            Cause::NotNavarch,
            format!("what listens at {address} is no Navarch control plane ({said})"),
        ),
        (Code::Unimplemented, None) if said.starts_with("method not found") => (
            Cause::Answer,
            format!("the control plane at {address} is older than this client ({said})"),
        ),
        (Code::DeadlineExceeded, None) => (
            Cause::Deadline,
            match at.timeout {
                Some(timeout) => format!("no answer from {address} within {timeout:?}"),
                None => format!("no answer from {address} in time ({said})"),
            },
        ),
        (_, None) if is_cut(said) => (
            Cause::ConnectionLost,
            format!("the connection to {address} broke ({said})"),
        ),
        (_, None) => (Cause::Answer, said.to_owned()),
    };
    let code = match cause {
        Cause::ConnectionLost => Code::Unavailable,
        _ => code,
    };
    let refused = (code, cause) == (Code::ResourceExhausted, Cause::Answer);
    ClientError {
        code,
        message,
        cause,
        retry_after: refused.then(|| wait_of(error)).flatten(),
    }
}

/// Whether the library says that an answer ended before its end.
fn is_cut(said: &str) -> bool {
    said.starts_with("failed to read response body")
        || said.starts_with("error reading response body")
        || said.starts_with("Connect streaming response ended without")
        || said.contains("error reading a body from connection")
}

fn explain_transport(error: &ConnectError, address: &str) -> (Cause, String) {
    let mut chain = Vec::new();
    let mut kind = None;
    let mut tls = None;
    let mut next = error.source();
    while let Some(link) = next {
        if let Some(error) = link.downcast_ref::<io::Error>() {
            kind = kind.or(Some(error.kind()));
        }
        tls = tls.or_else(|| tls_problem(link));
        chain.push(link.to_string());
        next = link.source();
    }
    if let Some(problem) = tls {
        return (Cause::Tls, explain_tls(&problem, address));
    }
    let says = |text: &str| chain.iter().any(|link| link.contains(text));
    let last = chain.last().map_or("", String::as_str);
    let connecting = says("(Connect)");
    match kind {
        Some(io::ErrorKind::ConnectionRefused) => (
            Cause::NothingListens,
            format!("nothing listens at {address}; is the control plane running there?"),
        ),
        _ if says("dns error") => (
            Cause::HostNotFound,
            format!("the host of {address} is not known ({last})"),
        ),
        _ if says("invalid HTTP") || says("http2 error") => (
            Cause::NotHttp,
            format!(
                "what listens at {address} does not answer in HTTP; if it speaks TLS, http:// is \
                 the wrong scheme"
            ),
        ),
        _ if connecting => (
            Cause::Unreachable,
            format!("{address} cannot be reached ({last})"),
        ),
        _ => (
            Cause::ConnectionLost,
            format!("the connection to {address} broke before an answer ({last})"),
        ),
    }
}

fn explain_tls(problem: &rustls::Error, address: &str) -> String {
    match problem {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => format!(
            "the certificate of {address} is not from a certificate authority that is trusted here; \
             name the right one with --ca-file or NAVARCH_CA_FILE"
        ),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("the certificate of {address} is for another name ({problem})"),
        rustls::Error::InvalidCertificate(_) => {
            format!("the certificate of {address} is not valid ({problem})")
        }
        rustls::Error::InvalidMessage(_) => format!(
            "what listens at {address} does not speak TLS; if it speaks plain HTTP, https:// is the \
             wrong scheme"
        ),
        _ => format!("no TLS connection with {address} ({problem})"),
    }
}

//! The client of an agent's debug API: puts faults into one machine's GPUs.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use navarch_model::{ProviderError, ProviderErrorKind};
use navarch_time::{Clock, timeout};
use serde_json::Value;

use crate::{Fault, FaultKind};

/// How long an agent may take. One that hangs never answers.
const LIMIT: Duration = Duration::from_secs(5);

/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// What is asked of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Inject(Fault),
    Clear(Option<FaultKind>),
}

impl Request {
    fn path(&self) -> String {
        match self {
            Self::Inject(fault) => format!("/debug/inject/{}", fault.kind.word()),
            Self::Clear(None) => "/debug/clear".to_owned(),
            Self::Clear(Some(kind)) => format!("/debug/clear/{}", kind.word()),
        }
    }

    /// The kind is in the path; the rest of a fault is the body.
    fn body(&self) -> Value {
        let Self::Inject(fault) = self else {
            return Value::Object(serde_json::Map::new());
        };
        let mut body = serde_json::to_value(fault).expect("a fault is plain data");
        if let Some(fields) = body.as_object_mut() {
            fields.remove("kind");
        }
        body
    }
}

/// Asks the agent whose address is in the file.
pub(crate) async fn ask(
    http: &reqwest::Client,
    clock: &dyn Clock,
    address_file: &Path,
    request: &Request,
) -> Result<(), ProviderError> {
    let transient = |message: String| ProviderError::new(ProviderErrorKind::Transient, message);
    let text = std::fs::read_to_string(address_file).unwrap_or_default();
    let address: Option<SocketAddr> = text.trim().trim_start_matches("http://").parse().ok();
    let Some(address) = address.filter(|address| address.ip().is_loopback()) else {
        return Err(transient(
            "the machine's agent has not told its debug address; try again when it is up"
                .to_owned(),
        ));
    };
    let exchange = async {
        let call = http
            .post(format!("http://{address}{}", request.path()))
            .json(&request.body());
        let mut answer = call.send().await?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            let room = MAX_ANSWER_BYTES - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
        Ok::<_, reqwest::Error>((status, body))
    };
    let (status, body) = timeout(clock, LIMIT, exchange)
        .await
        .map_err(|_| {
            transient(format!(
                "the machine's agent did not answer within {LIMIT:?}"
            ))
        })?
        .map_err(|error| transient(format!("the machine's agent cannot be reached: {error}")))?;
    if status.is_success() {
        return Ok(());
    }
    let words = words_of(&body);
    let kind = if status.is_client_error() {
        ProviderErrorKind::Configuration
    } else {
        ProviderErrorKind::Transient
    };
    Err(ProviderError::new(
        kind,
        format!("the machine's agent refused with {status}: {words}"),
    ))
}

/// What a refusal says: the text of `error` or `message` in JSON, or the text itself.
fn words_of(body: &[u8]) -> String {
    const MOST: usize = 512;
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let said = json.as_ref().and_then(|json| {
        let error = json.get("error").unwrap_or(json);
        error.as_str().or_else(|| error.get("message")?.as_str())
    });
    let text = said.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    let text = text.trim();
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_refusal_are_found_in_any_form() {
        for (body, words) in [
            (r#"{"error":"no GPU 9"}"#, "no GPU 9"),
            (r#"{"error":{"message":"no GPU 9"}}"#, "no GPU 9"),
            (r#"{"message":"no GPU 9"}"#, "no GPU 9"),
            ("no GPU 9\n", "no GPU 9"),
            ("", ""),
        ] {
            assert_eq!(words_of(body.as_bytes()), words, "{body}");
        }
        assert_eq!(words_of("é".repeat(2000).as_bytes()).chars().count(), 513);
    }

    #[test]
    fn a_fault_goes_as_path_and_body() {
        let mut fault = Fault::new(FaultKind::DeviceError);
        fault.gpu = Some(3);
        let request = Request::Inject(fault);
        assert_eq!(request.path(), "/debug/inject/device-error");
        assert_eq!(request.body().to_string(), r#"{"gpu":3}"#);
        let clear = Request::Clear(Some(FaultKind::Xid));
        assert_eq!(clear.path(), "/debug/clear/xid");
    }
}

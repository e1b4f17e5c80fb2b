//! The provider for a fake cloud in a process of its own, over HTTP.

use std::pin::Pin;
use std::time::Duration;

use navarch_model::{
    FleetId, Idempotency, InstanceId, LaunchSpec, Machine, ProviderError, ProviderErrorKind,
    ProviderInstanceId, TerminateAnswer,
};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;

use super::cloud::http_client;
use super::machine::AgentAccess;
use super::server::{ClearRequest, Ended, is_loopback_host};
use super::translate::{Pages, best_of, machine_of, query_for, request_for};
use super::wire::{ErrorBody, InstanceView, Page, PageQuery};
use crate::{Call, Fault, FaultInjection, FaultKind, Listing, Provider};

/// The longest answer that is read, in bytes: a full page of machines with long tags.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// The longest wait that a cloud may ask for. More is taken for this much.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What a client of a fake cloud needs.
pub struct HttpOptions {
    /// The cloud's URL, such as `http://127.0.0.1:50052`.
    pub url: String,
    /// How many fake GPUs each machine has.
    pub gpu_count: u32,
    /// How the machines' agents reach the control plane.
    pub access: AgentAccess,
    /// Machines on a page of a listing; 0 for the usual number.
    pub page_size: usize,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum FakeHttpError {
    /// The URL is none of a fake cloud.
    #[error("url: {url:?} {problem}; a fake cloud is at a URL such as http://127.0.0.1:50052")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The HTTP library refuses.
    #[error("cannot make an HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// A fake cloud in another process, as a provider.
pub struct FakeHttp {
    http: Client,
    url: Url,
    options: HttpOptions,
}

/// Whether a call that is not answered may have changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    None,
    Possible,
}

impl FakeHttp {
    /// A client. It does not connect yet.
    ///
    /// # Errors
    ///
    /// The URL is not one of a fake cloud: plain HTTP on a loopback address.
    pub fn new(options: HttpOptions) -> Result<Self, FakeHttpError> {
        let problem = |problem: &str| FakeHttpError::Url {
            url: options.url.clone(),
            problem: problem.to_owned(),
        };
        let url =
            Url::parse(&options.url).map_err(|error| problem(&format!("is no URL: {error}")))?;
        if url.scheme() != "http" {
            return Err(problem("is not http://"));
        }
        if !url.host_str().is_some_and(is_loopback_host) {
            return Err(problem("is not on a loopback address"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || !url.username().is_empty() {
            return Err(problem("has more than a host and a port"));
        }
        Ok(Self {
            http: http_client()?,
            url,
            options,
        })
    }

    /// The URL of a path whose last parts may hold any character.
    fn at(&self, segments: &[&str]) -> Result<Url, ProviderError> {
        // The URL library drops these two instead of encoding them.
        if let Some(dots) = segments.iter().find(|part| matches!(**part, "." | "..")) {
            let message = format!("{dots:?} is not the id of a machine");
            return Err(ProviderError::new(ProviderErrorKind::NotFound, message));
        }
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().push("v1").extend(segments);
        }
        Ok(url)
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, ProviderError> {
        let mut url = self.at(&["instances"])?;
        {
            let mut pairs = url.query_pairs_mut();
            for (key, value) in &query.tags {
                pairs.append_pair("tag", &format!("{key}={value}"));
            }
            if let Some(name) = &query.name {
                pairs.append_pair("name", name);
            }
            if query.page_size > 0 {
                pairs.append_pair("page_size", &query.page_size.to_string());
            }
            if !query.page_token.is_empty() {
                pairs.append_pair("page_token", &query.page_token);
            }
        }
        exchange(self.http.get(url), Effect::None).await
    }
}

/// One exchange: sends, reads, and names what went wrong.
async fn exchange<T: DeserializeOwned>(
    request: RequestBuilder,
    effect: Effect,
) -> Result<T, ProviderError> {
    let unanswered = |words: String| match effect {
        Effect::None => ProviderError::new(ProviderErrorKind::Transient, words),
        Effect::Possible => ProviderError::new(ProviderErrorKind::OutcomeUnknown, words),
    };
    let mut answer = match request.send().await {
        Ok(answer) => answer,
        // Nothing was sent, so nothing was done.
        Err(error) if error.is_connect() => {
            let words = format!("cannot reach the fake cloud: {}", chain(&error));
            return Err(ProviderError::new(ProviderErrorKind::Transient, words));
        }
        Err(error) => {
            return Err(unanswered(format!(
                "the fake cloud did not answer: {}",
                chain(&error)
            )));
        }
    };
    let status = answer.status();
    let mut body = Vec::new();
    loop {
        let chunk = answer.chunk().await;
        let chunk = chunk.map_err(|error| {
            unanswered(format!(
                "the fake cloud's answer broke off: {}",
                chain(&error)
            ))
        })?;
        let Some(chunk) = chunk else { break };
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(unanswered(format!(
                "the fake cloud's answer is longer than {MAX_ANSWER_BYTES} bytes"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    if !status.is_success() {
        return Err(error_of(status, answer.headers(), &body, effect));
    }
    serde_json::from_slice(&body)
        .map_err(|error| unanswered(format!("the fake cloud's answer makes no sense: {error}")))
}

/// What an answer that is no success means.
fn error_of(status: StatusCode, headers: &HeaderMap, body: &[u8], effect: Effect) -> ProviderError {
    let retry_after = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    if let Ok(ErrorBody { error }) = serde_json::from_slice(body) {
        return ProviderError {
            kind: error.kind,
            message: error.message,
            retry_after,
        };
    }
    // Not the fake cloud's own words: a proxy, or another server at this address. That it does
    // not know a machine proves nothing.
    let kind = match status.as_u16() {
        401 | 403 => ProviderErrorKind::Auth,
        429 => ProviderErrorKind::RateLimit,
        300..=499 => ProviderErrorKind::Configuration,
        _ if effect == Effect::None => ProviderErrorKind::Transient,
        _ => ProviderErrorKind::OutcomeUnknown,
    };
    ProviderError {
        kind,
        message: format!("the server at the fake cloud's URL answered {status}"),
        retry_after,
    }
}

/// The error with its causes: reqwest's own words do not hold them.
fn chain(error: &reqwest::Error) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

impl Provider for FakeHttp {
    fn idempotency(&self) -> Idempotency {
        Idempotency::TokenOrName
    }

    fn launch<'a>(&'a self, spec: &'a LaunchSpec) -> Call<'a, Machine> {
        Box::pin(async move {
            let request = request_for(spec, self.options.gpu_count, &self.options.access);
            let call = self.http.post(self.at(&["instances"])?).json(&request);
            let view: InstanceView = exchange(call, Effect::Possible).await?;
            Ok(machine_of(&view))
        })
    }

    fn find<'a>(
        &'a self,
        fleet: &'a FleetId,
        instance: &'a InstanceId,
    ) -> Call<'a, Option<Machine>> {
        Box::pin(async move {
            let page = self.page(&query_for(fleet, instance)).await?;
            Ok(best_of(&page.instances))
        })
    }

    fn get<'a>(&'a self, id: &'a ProviderInstanceId) -> Call<'a, Option<Machine>> {
        Box::pin(async move {
            let url = self.at(&["instances", id.as_str()]);
            let found = match url {
                Ok(url) => exchange(self.http.get(url), Effect::None).await,
                Err(error) => Err(error),
            };
            match found {
                Ok(view) => Ok(Some(machine_of(&view))),
                Err(error) if error.kind == ProviderErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn terminate<'a>(&'a self, id: &'a ProviderInstanceId) -> Call<'a, TerminateAnswer> {
        Box::pin(async move {
            let url = self.at(&["instances", id.as_str()]);
            let ended = match url {
                Ok(url) => exchange(self.http.delete(url), Effect::Possible).await,
                Err(error) => Err(error),
            };
            match ended {
                Ok(Ended { answer }) => Ok(answer),
                Err(error) if error.kind == ProviderErrorKind::NotFound => {
                    Ok(TerminateAnswer::Gone)
                }
                Err(error) => Err(error),
            }
        })
    }

    fn list<'a>(&'a self, fleet: &'a FleetId) -> Call<'a, Listing> {
        Box::pin(async move {
            let mut pages = Pages::of(fleet, self.options.page_size);
            loop {
                let page = self.page(&pages.next_query()).await;
                if let Some(listing) = pages.add(page)? {
                    return Ok(listing);
                }
            }
        })
    }

    fn faults(&self) -> Option<&dyn FaultInjection> {
        Some(self)
    }

    /// Nothing runs here: the cloud and its machines live on.
    fn shutdown(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }
}

impl FaultInjection for FakeHttp {
    fn inject<'a>(&'a self, instance: &'a InstanceId, fault: &'a Fault) -> Call<'a, ()> {
        Box::pin(async move {
            let url = self.at(&["instances", instance.as_str(), "inject"])?;
            let done: serde_json::Value =
                exchange(self.http.post(url).json(fault), Effect::Possible).await?;
            drop(done);
            Ok(())
        })
    }

    fn clear<'a>(&'a self, instance: &'a InstanceId, kind: Option<FaultKind>) -> Call<'a, ()> {
        Box::pin(async move {
            let url = self.at(&["instances", instance.as_str(), "clear"])?;
            let call = self.http.post(url).json(&ClearRequest { kind });
            let done: serde_json::Value = exchange(call, Effect::Possible).await?;
            drop(done);
            Ok(())
        })
    }
}

//! The provider for a fake cloud in a process of its own, over HTTP.

use std::pin::Pin;
use std::time::Duration;

use navarch_model::{
    FleetId, Idempotency, InstanceId, LaunchSpec, Machine, Offer, ProviderError, ProviderErrorKind,
    ProviderInstanceId, TerminateAnswer,
};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;

use super::cloud::http_client;
use super::machine::AgentAccess;
use super::server::{ClearRequest, Ended, is_loopback_host};
use super::translate::{Pages, best_of, machine_of, query_for, request_for};
use super::wire::{ErrorBody, InstanceView, Offers, Page, PageQuery};
use crate::{Call, Fault, FaultInjection, FaultKind, Listing, Provider};

/// The longest answer that is read, in bytes: a full page of machines with long tags.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// The longest error text that is taken from a cloud, in characters: it goes into the record.
const MAX_WORDS: usize = 512;

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

/// What a cloud answers. It may be another server at the cloud's address, so what has the form of
/// an answer may still be none.
trait Answer: DeserializeOwned {
    /// Why this cannot be an answer.
    fn problem(&self) -> Option<String>;
}

impl Answer for InstanceView {
    fn problem(&self) -> Option<String> {
        let bad = ProviderInstanceId::parse(&self.id).err()?;
        Some(format!("a machine's id {bad}"))
    }
}

impl Answer for Page {
    fn problem(&self) -> Option<String> {
        self.instances.iter().find_map(Answer::problem)
    }
}

impl Answer for Ended {
    fn problem(&self) -> Option<String> {
        None
    }
}

impl Answer for Offers {
    fn problem(&self) -> Option<String> {
        None
    }
}

impl Answer for serde_json::Value {
    fn problem(&self) -> Option<String> {
        None
    }
}

/// Nothing is known of what the call did.
fn unanswered(effect: Effect, words: String) -> ProviderError {
    match effect {
        Effect::None => ProviderError::new(ProviderErrorKind::Transient, words),
        Effect::Possible => ProviderError::new(ProviderErrorKind::OutcomeUnknown, words),
    }
}

/// One exchange: sends, reads, and names what went wrong.
async fn exchange<T: Answer>(request: RequestBuilder, effect: Effect) -> Result<T, ProviderError> {
    let unanswered = |words: String| unanswered(effect, words);
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
    answer_of(status, answer.headers(), &body, effect)
}

/// What a whole answer says.
fn answer_of<T: Answer>(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    effect: Effect,
) -> Result<T, ProviderError> {
    if !status.is_success() {
        return Err(error_of(status, headers, body, effect));
    }
    let nonsense = |why: String| {
        let words = format!("the fake cloud's answer makes no sense: {why}");
        unanswered(effect, plain(&words))
    };
    let answer: T = serde_json::from_slice(body).map_err(|error| nonsense(error.to_string()))?;
    match answer.problem() {
        Some(problem) => Err(nonsense(problem)),
        None => Ok(answer),
    }
}

/// A text of a cloud, as short and plain as the record takes it.
fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(shown).take(MAX_WORDS).collect()
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
            message: plain(&error.message),
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

    fn offerings(&self) -> Call<'_, Option<Vec<Offer>>> {
        Box::pin(async {
            let call = self.http.get(self.at(&["offerings"])?);
            let listed: Offers = exchange(call, Effect::None).await?;
            Ok(listed.offers)
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

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    /// What has the form of an answer, with parts that no cloud of ours would send.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        let text = || {
            prop_oneof![
                4 => "[a-z0-9-]{0,10}".boxed(),
                1 => any::<String>().boxed(),
                1 => "[a-z\\\\\u{1b}]{500,520}".boxed(),
            ]
        };
        let view = (
            text(),
            btree_map(text(), text(), 0..3),
            prop::sample::select(vec!["running", "terminated", "pending", "warp", ""]),
            any::<i64>(),
        );
        let view = view.prop_map(|(id, tags, status, created_at)| {
            serde_json::json!({
                "id": id, "name": "n", "client_token": "t", "tags": tags, "region": "",
                "zone": "", "instance_type": "i", "status": status, "created_at": created_at,
            })
        });
        let views = vec(view, 0..3);
        prop_oneof![
            1 => vec(any::<u8>(), 0..60),
            2 => views.clone().prop_map(|mut views| {
                serde_json::to_vec(&views.pop()).expect("plain data")
            }),
            2 => (views, text()).prop_map(|(views, next)| {
                let page = serde_json::json!({"instances": views, "next_page_token": next});
                serde_json::to_vec(&page).expect("plain data")
            }),
            2 => (text(), text()).prop_map(|(kind, message)| {
                let error = serde_json::json!({"error": {"kind": kind, "message": message}});
                serde_json::to_vec(&error).expect("plain data")
            }),
            1 => text().prop_map(|message| {
                let error = serde_json::json!({"error": {"kind": "capacity", "message": message}});
                serde_json::to_vec(&error).expect("plain data")
            }),
            1 => Just(b"[".repeat(100_000)),
        ]
    }

    fn headers(retry_after: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Ok(value) = retry_after.parse() {
            headers.insert(RETRY_AFTER, value);
        }
        headers
    }

    /// Whether an error of a cloud can go into the record, and says no more than is known.
    fn is_sound(error: &ProviderError, status: StatusCode, effect: Effect) -> bool {
        let text = &error.message;
        let short = text.chars().count() <= MAX_WORDS && !text.chars().any(char::is_control);
        let patient = error.retry_after.is_none_or(|wait| wait <= MAX_RETRY_AFTER);
        // A call that was answered with success and nonsense may have done what it was to do.
        let unknown = match effect {
            Effect::Possible => ProviderErrorKind::OutcomeUnknown,
            Effect::None => ProviderErrorKind::Transient,
        };
        short && patient && (!status.is_success() || error.kind == unknown)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_answer_of_any_server_is_read_or_refused(
            status in prop_oneof![4 => Just(200_u16), 1 => 100..600_u16],
            retry_after in "[0-9]{0,25}|-1|soon|\\PC{0,5}",
            body in body(),
            effect in prop::sample::select(vec![Effect::None, Effect::Possible]),
        ) {
            let status = StatusCode::from_u16(status).expect("in range");
            let headers = headers(&retry_after);
            match answer_of::<InstanceView>(status, &headers, &body, effect) {
                Ok(view) => {
                    let machine = machine_of(&view);
                    let id = machine.provider_id.as_str();
                    prop_assert!(ProviderInstanceId::parse(id).is_ok(), "{id:?}");
                }
                Err(error) => prop_assert!(is_sound(&error, status, effect), "{error:?}"),
            }
            match answer_of::<Page>(status, &headers, &body, effect) {
                Ok(page) => {
                    let fleet = FleetId::new("f");
                    let mut pages = Pages::of(&fleet, 0);
                    if let Ok(Some(listing)) = pages.add(Ok(page)) {
                        for machine in listing.machines {
                            prop_assert_eq!(machine.fleet.as_ref(), Some(&fleet));
                            let id = machine.provider_id.as_str();
                            prop_assert!(ProviderInstanceId::parse(id).is_ok(), "{id:?}");
                        }
                    }
                }
                Err(error) => prop_assert!(is_sound(&error, status, effect), "{error:?}"),
            }
            for effect in [Effect::None, Effect::Possible] {
                if let Err(error) = answer_of::<Ended>(status, &headers, &body, effect) {
                    prop_assert!(is_sound(&error, status, effect), "{error:?}");
                }
            }
        }
    }
}

//! The fake cloud's HTTP server: a JSON API on a loopback address.
//!
//! | request | what it does | answer |
//! |---|---|---|
//! | `POST /v1/instances` | makes a machine, or finds the one of its token: [`LaunchRequest`] | [`InstanceView`] |
//! | `GET /v1/instances` | lists; `page_token`, `page_size`, `tag=key=value` (repeatable), `name` | [`Page`] |
//! | `GET /v1/instances/{id}` | shows one, by the cloud's id | [`InstanceView`] |
//! | `DELETE /v1/instances/{id}` | ends one, by the cloud's id | `{"answer":"accepted"}` or `"gone"` |
//! | `POST /v1/instances/{id or name}/inject` | puts a [`Fault`] into its GPUs | `{}` |
//! | `POST /v1/instances/{id or name}/clear` | takes faults away: `{}` or `{"kind":"xid"}` | `{}` |
//! | `POST /v1/faults` | orders a [`CloudFault`] | the fault with its `id` |
//! | `GET /v1/faults` | lists the faults on order | `{"faults":[…]}` |
//! | `DELETE /v1/faults`, `DELETE /v1/faults/{id}` | clears all, or one | `{}` |
//! | `PUT /v1/market` | sells these products and nothing else: a [`Market`]; none sells everything | `{}` |
//! | `GET /v1/market` | shows the market | [`Market`] |
//! | `GET /v1/offerings` | lists what is sold, with prices | `{"offers":[…]}`, or `null` for everything |
//! | `GET /healthz` | says that it serves | `ok` |
//!
//! An error is `{"error":{"kind":"capacity","message":"…"}}`, with a `Retry-After` header where
//! the cloud asks for a wait.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Extension, Json, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use navarch_model::{ProviderError, ProviderErrorKind, TerminateAnswer};
use navarch_time::{CancellationToken, Clock as _, SharedClock, Tasks, timeout};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt as _;

use super::cloud::{Cloud, CloudOptions, Refusal};
use super::disk::CloudError;
use super::market::Market;
use super::orders::{CloudFault, Order};
use super::wire::{ErrorBody, InstanceView, LaunchRequest, Offers, Page, PageQuery};
use crate::{Fault, FaultKind};

/// The longest body of a request, in bytes: a launch with every tag and label at its limit.
const MAX_BODY_BYTES: usize = 512 * 1024;

/// How long a request's head, and its body, may take to arrive; also how long a connection may
/// stay open without a request.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(30);

/// The most open connections. More wait to be accepted.
const MAX_CONNECTIONS: usize = 512;

/// How long the accept loop rests when the system is out of sockets.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How long open connections may take to finish at the end.
const FINISH_LIMIT: Duration = Duration::from_millis(500);

/// Serves a fake cloud until `stop`, then ends its machines' processes.
///
/// # Errors
///
/// The listener is not on a loopback address, or the cloud cannot be opened.
pub async fn serve(
    listener: TcpListener,
    options: CloudOptions,
    stop: CancellationToken,
) -> Result<(), CloudError> {
    loopback(&listener)?;
    let clock = Arc::clone(&options.clock);
    let cloud = Cloud::open(options).await?;
    serve_cloud(listener, &cloud, &clock, &stop).await?;
    cloud.shutdown().await;
    Ok(())
}

/// Serves a cloud that is open until `stop`, and leaves it open.
///
/// # Errors
///
/// The listener is not on a loopback address.
pub async fn serve_cloud(
    listener: TcpListener,
    cloud: &Cloud,
    clock: &SharedClock,
    stop: &CancellationToken,
) -> Result<(), CloudError> {
    loopback(&listener)?;
    let router = router(cloud.clone(), Arc::clone(clock));
    let tasks = Tasks::under(stop);
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let connection = connection(stream, router.clone(), tasks.token(), permit);
                tasks.spawn("fake-cloud connection", connection);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                clock.sleep(ACCEPT_REST).await;
            }
        }
    }
    tasks.shutdown(&**clock, FINISH_LIMIT).await;
    Ok(())
}

/// The API runs programs on request: nobody else's machine may reach it.
///
/// # Errors
///
/// The listener is not on a loopback address.
pub fn loopback(listener: &TcpListener) -> Result<(), CloudError> {
    let address = listener.local_addr().map_err(|source| CloudError::Io {
        doing: "read the address of",
        path: "the listener".into(),
        source,
    })?;
    if address.ip().is_loopback() {
        return Ok(());
    }
    Err(CloudError::NotLoopback { address })
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await;
    let permit = permit.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

/// Closes the connection that a request came on, without an answer.
#[derive(Debug, Clone)]
struct HangUp(CancellationToken);

async fn connection(
    stream: TcpStream,
    router: Router,
    stop: CancellationToken,
    _permit: OwnedSemaphorePermit,
) {
    let hang_up = HangUp(CancellationToken::new());
    let hung_up = hang_up.0.clone();
    let service = hyper::service::service_fn(move |mut request: hyper::Request<_>| {
        request.extensions_mut().insert(hang_up.clone());
        router.clone().oneshot(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ARRIVAL_LIMIT)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(served);
    tokio::select! {
        outcome = served.as_mut() => {
            if let Err(error) = outcome {
                tracing::debug!(%error, "connection broke");
            }
            return;
        }
        () = hung_up.cancelled() => return,
        () = stop.cancelled() => {}
    }
    served.as_mut().graceful_shutdown();
    tokio::select! {
        _ = served => {}
        () = hung_up.cancelled() => {}
    }
}

fn router(cloud: Cloud, clock: SharedClock) -> Router {
    Router::new()
        .route("/v1/instances", post(launch).get(list))
        .route("/v1/instances/{id}", get(show).delete(terminate))
        .route("/v1/instances/{id}/inject", post(inject))
        .route("/v1/instances/{id}/clear", post(clear))
        .route("/v1/faults", post(order).get(orders).delete(clear_all))
        .route("/v1/faults/{id}", delete(clear_one))
        .route("/v1/market", get(market).put(sell))
        .route("/v1/offerings", get(offerings))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(clock, guard))
        .with_state(cloud)
}

/// The id in a path: of a machine, or of a fault.
type Id = Result<Path<String>, PathRejection>;

/// What went wrong, as an HTTP answer.
enum Failure {
    Refused(ProviderError),
    Lost,
    /// A status of its own, for what is wrong with the request as HTTP.
    Http(StatusCode, String),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Error(error) => Self::Refused(error),
            Refusal::Lost => Self::Lost,
        }
    }
}

impl From<ProviderError> for Failure {
    fn from(error: ProviderError) -> Self {
        Self::Refused(error)
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        Self::Http(
            rejection.status(),
            format!("body: {}", rejection.body_text()),
        )
    }
}

impl From<PathRejection> for Failure {
    fn from(rejection: PathRejection) -> Self {
        Self::Http(
            rejection.status(),
            format!("path: {}", rejection.body_text()),
        )
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self::Http(
            rejection.status(),
            format!("query: {}", rejection.body_text()),
        )
    }
}

impl Failure {
    async fn answer(self, hang_up: &HangUp) -> Response {
        let (status, error) = match self {
            Self::Refused(error) => (status_of(error.kind), error),
            Self::Http(status, message) => (
                status,
                ProviderError::new(ProviderErrorKind::Configuration, message),
            ),
            Self::Lost => {
                hang_up.0.cancel();
                // The connection is dropped, and this with it.
                std::future::pending().await
            }
        };
        let mut response = (status, Json(ErrorBody::from(&error))).into_response();
        if let Some(wait) = error.retry_after {
            let seconds = wait
                .as_secs()
                .saturating_add(u64::from(wait.subsec_nanos() > 0));
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

fn status_of(kind: ProviderErrorKind) -> StatusCode {
    match kind {
        ProviderErrorKind::Capacity | ProviderErrorKind::Transient => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ProviderErrorKind::Quota => StatusCode::FORBIDDEN,
        ProviderErrorKind::Auth => StatusCode::UNAUTHORIZED,
        ProviderErrorKind::Configuration => StatusCode::BAD_REQUEST,
        ProviderErrorKind::RateLimit => StatusCode::TOO_MANY_REQUESTS,
        ProviderErrorKind::NotFound => StatusCode::NOT_FOUND,
        ProviderErrorKind::OutcomeUnknown => StatusCode::GATEWAY_TIMEOUT,
    }
}

async fn answer<T: IntoResponse>(
    hang_up: &HangUp,
    work: impl Future<Output = Result<T, Failure>>,
) -> Response {
    match work.await {
        Ok(answer) => answer.into_response(),
        Err(failure) => failure.answer(hang_up).await,
    }
}

/// Lets requests in that are small, arrive in time and are meant for this address: a web page
/// that a browser shows on this machine is none of them.
async fn guard(State(clock): State<SharedClock>, request: Request, next: Next) -> Response {
    let refuse = |status: StatusCode, message: &str| {
        let error = ProviderError::new(ProviderErrorKind::Configuration, message);
        (status, Json(ErrorBody::from(&error))).into_response()
    };
    let host = request.headers().get(header::HOST);
    if !host.is_none_or(|host| host.to_str().is_ok_and(is_loopback_host)) {
        return refuse(
            StatusCode::FORBIDDEN,
            "the Host header must name a loopback address, such as 127.0.0.1",
        );
    }
    if request.headers().contains_key(header::ORIGIN) {
        return refuse(
            StatusCode::FORBIDDEN,
            "web pages may not use the fake cloud",
        );
    }
    let (parts, body) = request.into_parts();
    match timeout(&*clock, ARRIVAL_LIMIT, to_bytes(body, MAX_BODY_BYTES)).await {
        Ok(Ok(bytes)) => {
            next.run(Request::from_parts(parts, Body::from(bytes)))
                .await
        }
        Ok(Err(_)) => refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("the body must arrive whole and be at most {MAX_BODY_BYTES} bytes long"),
        ),
        Err(_) => refuse(
            StatusCode::REQUEST_TIMEOUT,
            &format!("the body did not arrive within {ARRIVAL_LIMIT:?}"),
        ),
    }
}

/// Whether the text, `host` or `host:port`, names this machine alone.
pub(crate) fn is_loopback_host(text: &str) -> bool {
    let host = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => text.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

async fn launch(
    State(cloud): State<Cloud>,
    Extension(hang_up): Extension<HangUp>,
    body: Result<Json<LaunchRequest>, JsonRejection>,
) -> Response {
    answer(&hang_up, async {
        let Json(request) = body?;
        Ok(Json(cloud.launch(request).await?))
    })
    .await
}

async fn list(
    State(cloud): State<Cloud>,
    Extension(hang_up): Extension<HangUp>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    answer(&hang_up, async {
        let Query(pairs) = query?;
        let query = page_query(pairs).map_err(|message| {
            Failure::Refused(ProviderError::new(
                ProviderErrorKind::Configuration,
                message,
            ))
        })?;
        Ok::<Json<Page>, Failure>(Json(cloud.page(query).await?))
    })
    .await
}

fn page_query(pairs: Vec<(String, String)>) -> Result<PageQuery, String> {
    let mut query = PageQuery::default();
    for (key, value) in pairs {
        match key.as_str() {
            "page_token" => query.page_token = value,
            "page_size" => {
                let size = value.parse().ok().filter(|size| *size > 0);
                query.page_size =
                    size.ok_or_else(|| format!("page_size: {value:?} is not a number above 0"))?;
            }
            "name" => query.name = Some(value),
            "tag" => {
                let tag = value.split_once('=');
                let (key, value) = tag.ok_or_else(|| format!("tag: {value:?} is not key=value"))?;
                query.tags.push((key.to_owned(), value.to_owned()));
            }
            _ => {
                return Err(format!(
                    "{key:?} is not a query parameter; use page_token, page_size, tag or name"
                ));
            }
        }
    }
    Ok(query)
}

async fn show(
    State(cloud): State<Cloud>,
    Extension(hang_up): Extension<HangUp>,
    id: Id,
) -> Response {
    answer(&hang_up, async {
        let Path(id) = id?;
        let found: Option<InstanceView> = cloud.get(&id).await?;
        found.map(Json).ok_or_else(|| unknown(&id))
    })
    .await
}

fn unknown(id: &str) -> Failure {
    let message = format!("no instance {id:?}; list the instances for their ids");
    Failure::Refused(ProviderError::new(ProviderErrorKind::NotFound, message))
}

/// What became of a request to end a machine.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) answer: TerminateAnswer,
}

async fn terminate(
    State(cloud): State<Cloud>,
    Extension(hang_up): Extension<HangUp>,
    id: Id,
) -> Response {
    answer(&hang_up, async {
        let Path(id) = id?;
        let answer = cloud.terminate(&id).await?;
        Ok::<_, Failure>(Json(Ended { answer }))
    })
    .await
}

async fn inject(
    State(cloud): State<Cloud>,
    Extension(hang_up): Extension<HangUp>,
    id: Id,
    body: Result<Json<Fault>, JsonRejection>,
) -> Response {
    answer(&hang_up, async {
        let (Path(id), Json(fault)) = (id?, body?);
        cloud.inject(&id, &fault).await?;
        Ok::<_, Failure>(done())
    })
    .await
}

/// Which faults of a machine to take away.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClearRequest {
    /// The kind; all when absent.
    #[serde(default)]
    pub(crate) kind: Option<FaultKind>,
}

async fn clear(
    State(cloud): State<Cloud>,
    Extension(hang_up): Extension<HangUp>,
    id: Id,
    body: Result<Json<ClearRequest>, JsonRejection>,
) -> Response {
    answer(&hang_up, async {
        let (Path(id), Json(request)) = (id?, body?);
        cloud.clear(&id, request.kind).await?;
        Ok::<_, Failure>(done())
    })
    .await
}

async fn order(
    State(cloud): State<Cloud>,
    Extension(hang_up): Extension<HangUp>,
    body: Result<Json<CloudFault>, JsonRejection>,
) -> Response {
    answer(&hang_up, async {
        let Json(fault) = body?;
        Ok::<Json<Order>, Failure>(Json(cloud.order(fault).await?))
    })
    .await
}

async fn orders(State(cloud): State<Cloud>, Extension(hang_up): Extension<HangUp>) -> Response {
    #[derive(Serialize)]
    struct Orders {
        faults: Vec<Order>,
    }
    answer(&hang_up, async {
        let faults = cloud.orders().await?;
        Ok::<_, Failure>(Json(Orders { faults }))
    })
    .await
}

async fn clear_all(State(cloud): State<Cloud>, Extension(hang_up): Extension<HangUp>) -> Response {
    answer(&hang_up, async {
        cloud.clear_orders(None).await?;
        Ok::<_, Failure>(done())
    })
    .await
}

async fn clear_one(
    State(cloud): State<Cloud>,
    Extension(hang_up): Extension<HangUp>,
    id: Id,
) -> Response {
    answer(&hang_up, async {
        let Path(id) = id?;
        let id = id.parse().map_err(|_| {
            let message =
                format!("{id:?} is not the number of a fault; list the faults for theirs");
            Failure::Refused(ProviderError::new(
                ProviderErrorKind::Configuration,
                message,
            ))
        })?;
        cloud.clear_orders(Some(id)).await?;
        Ok::<_, Failure>(done())
    })
    .await
}

async fn sell(
    State(cloud): State<Cloud>,
    Extension(hang_up): Extension<HangUp>,
    body: Result<Json<Market>, JsonRejection>,
) -> Response {
    answer(&hang_up, async {
        let Json(market) = body?;
        cloud.sell(market).await?;
        Ok::<_, Failure>(done())
    })
    .await
}

async fn market(State(cloud): State<Cloud>, Extension(hang_up): Extension<HangUp>) -> Response {
    answer(&hang_up, async {
        Ok::<_, Failure>(Json(cloud.market().await?))
    })
    .await
}

async fn offerings(State(cloud): State<Cloud>, Extension(hang_up): Extension<HangUp>) -> Response {
    answer(&hang_up, async {
        let offers = cloud.offers().await?;
        Ok::<_, Failure>(Json(Offers { offers }))
    })
    .await
}

fn done() -> Json<serde_json::Value> {
    Json(serde_json::json!({}))
}

async fn nothing_here(Extension(hang_up): Extension<HangUp>, request: Request) -> Response {
    let message = format!("{} is not a path of the fake cloud", request.uri().path());
    Failure::Http(StatusCode::NOT_FOUND, message)
        .answer(&hang_up)
        .await
}

async fn wrong_method(Extension(hang_up): Extension<HangUp>, request: Request) -> Response {
    let message = format!(
        "{} does not take {}",
        request.uri().path(),
        request.method()
    );
    Failure::Http(StatusCode::METHOD_NOT_ALLOWED, message)
        .answer(&hang_up)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback_hosts() {
        for (host, expected) in [
            ("127.0.0.1", true),
            ("127.0.0.1:8080", true),
            ("127.9.9.9:1", true),
            ("localhost:8080", true),
            ("LocalHost", true),
            ("[::1]:80", true),
            ("", false),
            ("0.0.0.0:80", false),
            ("localhost.example.com", false),
            ("127.0.0.1.example.com:80", false),
            ("[::]:80", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_loopback_host(host), expected, "{host:?}");
        }
    }
}

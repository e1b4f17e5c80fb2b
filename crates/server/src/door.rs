//! The door of a control plane: where it listens, who is let in, and how callers reach the
//! handlers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::{any, get};
use navarch_api::service::{self, CallLimits, Calls};
use navarch_config::Config;
use navarch_providers::fake::AgentToken;
use navarch_time::{CancellationToken, SharedClock, TaskFailure, Tasks, timeout};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::access::Gate;
use crate::app::StartError;
use crate::handlers::Handlers;
use crate::handlers::pools::status_page;
use crate::http::{self, ConnectionLimits, Front};
use crate::limits::Limits;
use crate::metrics;
use crate::tls::Certificate;

/// How long everything but open requests may take to end.
pub(crate) const STOP: Duration = Duration::from_secs(3);
/// Callers that each page without a token answers or lets wait at a time. Higher lets strangers
/// hold more memory; lower refuses monitors that ask at the same moment.
const PAGES: usize = 32;
/// What everybody else is told.
const BUSY: &str = "too many ask for this page: try again later";

/// A door that is not open yet: its address is taken, and nobody is let in.
pub(crate) struct Door {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
    pub(crate) gate: Arc<Gate>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) certificate: Option<Arc<Certificate>>,
    clock: SharedClock,
}

impl Door {
    /// Reads tokens and certificate, and takes the address. `machines` is where the token for
    /// agents is put by a control plane that starts some.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub(crate) async fn make(
        config: &Config,
        machines: Option<AgentToken>,
        insecure_no_auth: bool,
        clock: &SharedClock,
    ) -> Result<Self, StartError> {
        let limits = Arc::new(Limits::new(&config.server.limits.rates, Arc::clone(clock)));
        let gate = Gate::open(&config.server.auth, machines, Arc::clone(&limits))?;
        let gate = Arc::new(gate);
        let certificate = config
            .server
            .tls
            .clone()
            .map(Certificate::open)
            .transpose()?;
        let listener = listen(&config.server.address).await?;
        let address = listener.local_addr().map_err(|error| StartError::Listen {
            address: config.server.address.clone(),
            problem: error.to_string(),
        })?;
        if !gate.is_set() && !address.ip().is_loopback() && !insecure_no_auth {
            return Err(StartError::Open { address });
        }
        if gate.is_set() {
            tracing::info!(methods = "bearer-token", tokens = ?gate, "authentication enabled");
            if gate.has_common_token() {
                tracing::warn!(
                    "one token may do everything: give each caller its own, under server.auth.tokens"
                );
            }
        } else {
            tracing::warn!(
                reason = "no token",
                env_var = "NAVARCH_AUTH_TOKEN",
                "authentication disabled"
            );
        }
        Ok(Self {
            listener,
            address,
            gate,
            limits,
            certificate,
            clock: Arc::clone(clock),
        })
    }

    /// Its URL for callers on this machine.
    pub(crate) fn url(&self) -> String {
        url_of(self.address, self.certificate.is_some())
    }

    /// Lets callers in from now on.
    pub(crate) fn open(self, handlers: &Arc<Handlers>, config: &Config) -> OpenDoor {
        let limits = &config.server.limits;
        let calls = Calls::new(
            handlers,
            CallLimits {
                max_request_bytes: limits.max_request_bytes as usize,
                handler_timeout: limits.request_timeout,
            },
        );
        let url = self.url();
        let front = Front {
            gate: self.gate,
            pages: pages(
                handlers,
                self.certificate.clone(),
                &calls,
                &self.clock,
                limits.request_timeout,
            ),
            calls,
        };
        let connection_limits = ConnectionLimits {
            idle: limits.idle_timeout,
            shutdown: limits.shutdown_timeout,
        };
        let http = Tasks::new();
        let connections = Tasks::under(&http.token());
        http.spawn(
            "accept",
            http::serve(
                self.listener,
                front,
                connection_limits,
                self.certificate.as_ref().map(Certificate::acceptor),
                Arc::clone(&self.clock),
                connections,
            ),
        );
        OpenDoor {
            address: self.address,
            url,
            http,
            closing: handlers.closing.clone(),
            shutdown: connection_limits.shutdown,
            clock: self.clock,
        }
    }
}

/// A door through which callers come.
pub(crate) struct OpenDoor {
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
    http: Tasks,
    closing: CancellationToken,
    /// How long open requests may take to end.
    shutdown: Duration,
    clock: SharedClock,
}

impl OpenDoor {
    /// Completes when a task panicked.
    pub(crate) async fn failed(&self) -> TaskFailure {
        self.http.failed().await
    }

    /// Ends streams, then open requests.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.http.token().cancel();
        // The task that accepts gives open requests their time, and then ends them.
        self.http.shutdown(&*self.clock, self.shutdown + STOP).await;
    }
}

fn url_of(address: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    if address.ip().is_unspecified() {
        format!("{scheme}://{}:{}", Ipv4Addr::LOCALHOST, address.port())
    } else {
        format!("{scheme}://{address}")
    }
}

async fn listen(address: &str) -> Result<TcpListener, StartError> {
    let full = if address.starts_with(':') {
        format!("0.0.0.0{address}")
    } else {
        address.to_owned()
    };
    TcpListener::bind(&full).await.map_err(|error| {
        let problem = if error.kind() == std::io::ErrorKind::AddrInUse {
            "the port is in use; stop what listens there, or choose another with --listen"
                .to_owned()
        } else {
            error.to_string()
        };
        StartError::Listen {
            address: address.to_owned(),
            problem,
        }
    })
}

/// Everything that is asked for by its path.
fn pages(
    handlers: &Arc<Handlers>,
    certificate: Option<Arc<Certificate>>,
    calls: &Calls<Handlers>,
    clock: &SharedClock,
    limit: Duration,
) -> Router {
    let ready = Arc::clone(handlers);
    let scraped = Arc::clone(handlers);
    // One page at a time, for few who wait: anybody may ask for it.
    let scrape = Arc::new(Semaphore::new(1));
    let places = Arc::new(Semaphore::new(PAGES));
    let (ready_clock, scrape_clock) = (Arc::clone(clock), Arc::clone(clock));
    let ready_places = Arc::new(Semaphore::new(PAGES));
    let pools = Arc::clone(handlers);
    service::routes(calls)
        .route("/healthz", any(|| async { "ok" }))
        .route(
            "/api/v1/pools/{name}/status",
            get(move |name| status_page(Arc::clone(&pools), name)),
        )
        .route(
            "/readyz",
            any(move || {
                let (handlers, places) = (Arc::clone(&ready), Arc::clone(&ready_places));
                let clock = Arc::clone(&ready_clock);
                async move {
                    let Ok(_place) = places.try_acquire() else {
                        return (StatusCode::SERVICE_UNAVAILABLE, BUSY);
                    };
                    // Ready means that the store can be read, and took the last change.
                    let readable = handlers.archive.read(|history| history.event_range());
                    let ready = !handlers.published.is_failing()
                        && !handlers.closing.is_cancelled()
                        && matches!(timeout(&*clock, limit, readable).await, Ok(Ok(_)));
                    if ready {
                        (StatusCode::OK, "ready")
                    } else {
                        (StatusCode::SERVICE_UNAVAILABLE, "database not ready")
                    }
                }
            }),
        )
        .route(
            "/metrics",
            get(move || {
                let (handlers, scrape) = (Arc::clone(&scraped), Arc::clone(&scrape));
                let (places, clock) = (Arc::clone(&places), Arc::clone(&scrape_clock));
                let certificate = certificate.clone();
                async move {
                    let Ok(_place) = places.try_acquire() else {
                        return (StatusCode::SERVICE_UNAVAILABLE, BUSY).into_response();
                    };
                    let sources = metrics::Sources {
                        published: Arc::clone(&handlers.published),
                        policy: Arc::clone(&handlers.policy),
                        limits: Arc::clone(&handlers.limits),
                        certificate,
                        waiting: handlers.fleet.waiting(),
                        calls: Arc::clone(&handlers.calls),
                        notifiers: Arc::clone(&handlers.notifiers),
                        now: handlers.time.now(),
                    };
                    let page = async {
                        let _turn = scrape.acquire().await;
                        let page = handlers.archive.read(move |_| Ok(metrics::page(&sources)));
                        page.await
                    };
                    match timeout(&*clock, limit, page).await {
                        Ok(Ok(page)) => {
                            ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response()
                        }
                        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
                    }
                }
            }),
        )
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
}

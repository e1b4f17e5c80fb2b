//! A control plane, put together: configuration, store, providers, fleet, API.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::{any, get};
use navarch_api::service::{self, CallLimits, Calls};
use navarch_config::{Config, ProviderKind};
use navarch_core::{Fleet, Settings};
use navarch_model::{Idempotency, ProviderName};
use navarch_policy::PolicyError;
use navarch_providers::Provider;
use navarch_providers::fake::{
    AgentAccess, AgentCommand, AgentToken, CloudError, CloudOptions, EmbeddedOptions, FakeEmbedded,
    FakeHttp, FakeHttpError, HttpOptions,
};
use navarch_store::{SqliteStore, Store as _, StoreError, Writer, WriterLimits};
use navarch_time::{CancellationToken, SharedClock, Tasks, timeout};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::access::{Gate, TokenError};
use crate::archive::Archive;
use crate::effects::Cloud;
use crate::fleet::{self, Parts, Running, SystemIds};
use crate::handlers::pools::status_page;
use crate::handlers::{ConfigText, Handlers, NodeParts, PolicyText};
use crate::http::{self, ConnectionLimits, Front};
use crate::limits::Limits;
use crate::metrics;
use crate::notifier::{NotifierError, Notifiers};
use crate::reload::{Flags, Marks, Watcher, hangups, load_policy, retention};
use crate::signals::Gatherer;
use crate::tls::{Certificate, TlsError};

/// How long everything but open requests may take to end.
const STOP: Duration = Duration::from_secs(3);
/// Callers that each page without a token answers or lets wait at a time. Higher lets strangers
/// hold more memory; lower refuses monitors that ask at the same moment.
const PAGES: usize = 32;
/// What everybody else is told.
const BUSY: &str = "too many ask for this page: try again later";

/// What a control plane is started with.
pub struct Options {
    /// The configuration.
    pub config: Config,
    /// The file that it came from, for reloads.
    pub config_file: Option<PathBuf>,
    /// The program that machines of a fake cloud run.
    pub agent: AgentCommand,
    /// Listen without a token on an address that others can reach.
    pub insecure_no_auth: bool,
    /// The clock.
    pub clock: SharedClock,
}

/// Why a control plane does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {problem}")]
    Listen {
        /// The address.
        address: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Everybody could command the fleet.
    #[error(
        "{address} is reachable from other machines and no token is set: set NAVARCH_AUTH_TOKEN, \
         listen on 127.0.0.1, or pass --insecure-no-auth"
    )]
    Open {
        /// The address.
        address: SocketAddr,
    },
    /// A token cannot be read.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The certificate cannot be shown.
    #[error("server.tls: {0}")]
    Tls(#[from] TlsError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The health policy cannot be read.
    #[error("cannot read the health policy {path}: {error}")]
    PolicyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The health policy is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Policy(Vec<PolicyError>),
    /// A provider cannot be used.
    #[error("provider {name}: {problem}")]
    Provider {
        /// The configured name.
        name: ProviderName,
        /// Why.
        problem: String,
    },
    /// The scheduler cannot be told.
    #[error(transparent)]
    Notifier(#[from] NotifierError),
    /// The system refuses a thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// A running control plane.
pub struct App {
    address: SocketAddr,
    tls: bool,
    running: Running,
    handlers: Arc<Handlers>,
    providers: BTreeMap<ProviderName, Arc<dyn Provider>>,
    closing: CancellationToken,
    http: Tasks,
    tasks: Tasks,
    /// How long open requests may take to end.
    shutdown: Duration,
    clock: SharedClock,
}

impl App {
    /// Starts a control plane. It serves when this returns.
    ///
    /// # Errors
    ///
    /// See [`StartError`]; nothing is left running.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let Options {
            config,
            config_file,
            agent,
            insecure_no_auth,
            clock,
        } = options;
        let marks = Marks::take(&config, config_file.as_deref());
        let flags = Flags::found(&config, config_file.as_deref());
        let agent_token = AgentToken::default();
        let machines = (!config.pools.is_empty()).then(|| agent_token.clone());
        let limits = Arc::new(Limits::new(&config.server.limits.rates, Arc::clone(&clock)));
        let gate = Gate::open(&config.server.auth, machines, Arc::clone(&limits))?;
        let gate = Arc::new(gate);
        let certificate = config
            .server
            .tls
            .clone()
            .map(Certificate::open)
            .transpose()?;
        let notifiers = Notifiers::open(&config.server.notifier, Arc::clone(&clock))?;
        let notifiers = Arc::new(notifiers);
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
        let mut store = SqliteStore::open(&config.store.data_dir, &mut SystemIds::default())?;
        tracing::info!(database = %store.database().display(), opening = ?store.opening(), "store opened");
        let epoch = store.take_over()?;
        let state = store.load()?;
        let archive = Archive::start(Arc::from(store.reader())).map_err(StartError::Thread)?;
        let writer_limits = WriterLimits {
            rows: config.store.batch_rows as usize,
            ..WriterLimits::default()
        };
        let (policy, text) = load_policy(config.server.health_policy.as_deref())?;
        tracing::info!(
            path = policy.source(),
            rules = policy.rules().len(),
            "loaded health policy"
        );
        let access = AgentAccess {
            server: config
                .server
                .external_address
                .clone()
                .unwrap_or_else(|| url_of(address, certificate.is_some())),
            token: agent_token,
            ca_file: config
                .server
                .tls
                .as_ref()
                .and_then(|tls| tls.ca_file.clone()),
        };
        let mut providers: BTreeMap<ProviderName, Arc<dyn Provider>> = BTreeMap::new();
        for (name, provider) in &config.providers {
            let name = ProviderName::new(name.as_str());
            let opened =
                open_provider(&name, &provider.kind, &config, &access, &agent, &clock).await;
            match opened {
                Ok(provider) => {
                    providers.insert(name, provider);
                }
                Err(problem) => {
                    for provider in providers.values() {
                        provider.shutdown().await;
                    }
                    return Err(StartError::Provider { name, problem });
                }
            }
        }
        let idempotency = |name: &ProviderName| {
            providers
                .get(name)
                .map_or(Idempotency::None, |provider| provider.idempotency())
        };
        let settings = Arc::new(Settings::new(&config, idempotency));
        let clouds = providers
            .iter()
            .filter_map(|(name, provider)| {
                let config = config.providers.get(name.as_str())?.clone();
                Some((
                    name.clone(),
                    Cloud {
                        provider: Arc::clone(provider),
                        config,
                    },
                ))
            })
            .collect();
        tracing::info!(
            r#type = if config.server.notifier.webhook.is_some() {
                "webhook"
            } else {
                "noop"
            },
            "notifier configured"
        );
        for (name, pool) in &settings.pools {
            tracing::info!(
                pool = %name,
                offerings = pool.offerings.len(),
                min_nodes = pool.config.min_nodes,
                max_nodes = pool.config.max_nodes,
                "pool configured"
            );
        }
        let writer = Writer::start(store, epoch, writer_limits).map_err(StartError::Thread)?;
        let (keep, keeping) = watch::channel(retention(&config));
        let tasks = Tasks::new();
        let running = fleet::start(
            Parts {
                fleet: Fleet::new(state, settings, Arc::clone(&policy)),
                writer,
                epoch,
                clouds,
                notifiers: Arc::clone(&notifiers),
                plan_interval: config.planner.min_interval,
                full_plan_interval: config.planner.full_interval,
                data_dir: config.store.data_dir.clone(),
                keep: keeping,
                clock: Arc::clone(&clock),
            },
            &tasks,
        );
        let started = running.time.now();
        let policy_text = Arc::new(RwLock::new(PolicyText {
            policy,
            text,
            loaded: started,
            refused: None,
        }));
        let config_text = Arc::new(RwLock::new(ConfigText {
            source: config_file
                .as_deref()
                .map_or_else(String::new, |path| path.display().to_string()),
            text: config.to_yaml(),
            loaded: started,
            refused: None,
        }));
        let closing = CancellationToken::new();
        let handlers = Arc::new(Handlers {
            fleet: running.handle.clone(),
            published: Arc::clone(&running.published),
            time: running.time.clone(),
            calls: Arc::clone(&running.calls),
            archive: Arc::new(archive),
            providers: providers.clone(),
            policy: Arc::clone(&policy_text),
            config: Arc::clone(&config_text),
            started,
            closing: closing.clone(),
            listed: NodeParts::default(),
            limits: Arc::clone(&limits),
            notifiers: Arc::clone(&notifiers),
        });
        let call_limits = CallLimits {
            max_request_bytes: config.server.limits.max_request_bytes as usize,
            handler_timeout: config.server.limits.request_timeout,
        };
        let calls = Calls::new(&handlers, call_limits);
        let front = Front {
            gate: Arc::clone(&gate),
            pages: pages(
                &handlers,
                certificate.clone(),
                &calls,
                &clock,
                config.server.limits.request_timeout,
            ),
            calls,
        };
        let connection_limits = ConnectionLimits {
            idle: config.server.limits.idle_timeout,
            shutdown: config.server.limits.shutdown_timeout,
        };
        let http = Tasks::new();
        let connections = Tasks::under(&http.token());
        http.spawn(
            "accept",
            http::serve(
                listener,
                front,
                connection_limits,
                certificate.as_ref().map(Certificate::acceptor),
                Arc::clone(&clock),
                connections,
            ),
        );
        let gatherer = Gatherer {
            fleet: running.handle.clone(),
            published: Arc::clone(&running.published),
            clock: Arc::clone(&clock),
        };
        tasks.spawn("gather signals", gatherer.run(tasks.token()));
        let tls = certificate.is_some();
        let watcher = Watcher {
            handlers: Arc::clone(&handlers),
            config,
            config_file,
            marks,
            hangup: hangups(),
            gate,
            certificate,
            expiry_told: None,
            flags,
            limits,
            keep,
            text: policy_text,
            effective: config_text,
            clock: Arc::clone(&clock),
        };
        let token = tasks.token();
        tasks.spawn("watch files", watcher.run(token));
        tracing::info!(addr = %address, "control plane ready");
        Ok(Self {
            address,
            tls,
            running,
            handlers,
            providers,
            closing,
            http,
            tasks,
            shutdown: connection_limits.shutdown,
            clock,
        })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL for callers on this machine.
    pub fn url(&self) -> String {
        url_of(self.address, self.tls)
    }

    /// What readers see.
    pub const fn published(&self) -> &Arc<crate::publish::Published> {
        &self.running.published
    }

    /// What all handlers share.
    pub const fn handlers(&self) -> &Arc<Handlers> {
        &self.handlers
    }

    /// Completes when a task of the control plane panicked, which must end the process: the rest
    /// would go on without it.
    pub async fn failed(&self) -> navarch_time::TaskFailure {
        tokio::select! {
            failure = self.tasks.failed() => failure,
            failure = self.http.failed() => failure,
        }
    }

    /// Ends everything in order: streams, requests, machines of embedded clouds, the fleet with
    /// everything applied made durable.
    pub async fn stop(self) {
        self.closing.cancel();
        let http = async {
            self.http.token().cancel();
            // The task that accepts gives open requests their time, and then ends them.
            self.http.shutdown(&*self.clock, self.shutdown + STOP).await
        };
        let providers = async {
            for provider in self.providers.values() {
                provider.shutdown().await;
            }
        };
        tokio::join!(http, providers);
        drop(self.handlers);
        drop(self.running);
        self.tasks.shutdown(&*self.clock, STOP).await;
        tracing::info!("control plane stopped");
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

async fn open_provider(
    name: &ProviderName,
    kind: &ProviderKind,
    config: &Config,
    access: &AgentAccess,
    agent: &AgentCommand,
    clock: &SharedClock,
) -> Result<Arc<dyn Provider>, String> {
    match kind {
        ProviderKind::Fake {
            gpu_count,
            url: Some(url),
        } => {
            let options = HttpOptions {
                url: url.clone(),
                gpu_count: *gpu_count,
                access: access.clone(),
                page_size: 0,
            };
            let provider =
                FakeHttp::new(options).map_err(|error: FakeHttpError| error.to_string())?;
            Ok(Arc::new(provider))
        }
        ProviderKind::Fake {
            gpu_count,
            url: None,
        } => {
            let directory = config.store.data_dir.join("fake").join(name.as_str());
            let mut cloud = CloudOptions::new(directory, agent.clone());
            cloud.access = access.clone();
            cloud.clock = Arc::clone(clock);
            let options = EmbeddedOptions {
                cloud,
                gpu_count: *gpu_count,
                page_size: 0,
            };
            let provider = FakeEmbedded::open(options)
                .await
                .map_err(|error: CloudError| error.to_string())?;
            Ok(Arc::new(provider))
        }
    }
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

//! A control plane, put together: configuration, store, providers, fleet, API.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

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
use navarch_time::{CancellationToken, SharedClock, Tasks};
use tokio::sync::watch;

use crate::access::TokenError;
use crate::archive::Archive;
use crate::door::{Door, OpenDoor, STOP};
use crate::effects::Cloud;
use crate::faults::Faults;
use crate::fleet::{self, Parts, Running, SystemIds};
use crate::handlers::{ConfigText, Handlers, NodeParts, PolicyText};
use crate::notifier::{NotifierError, Notifiers};
use crate::reload::{Flags, Hangups, Marks, Watcher, load_policy, retention};
use crate::signals::Gatherer;
use crate::tls::TlsError;

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
    /// What asks for the files to be read again.
    pub hangups: Hangups,
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
    door: OpenDoor,
    running: Running,
    handlers: Arc<Handlers>,
    providers: BTreeMap<ProviderName, Arc<dyn Provider>>,
    tasks: Tasks,
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
            hangups,
        } = options;
        let marks = Marks::take(&config, config_file.as_deref());
        let flags = Flags::found(&config, config_file.as_deref());
        let agent_token = AgentToken::default();
        let machines = (!config.pools.is_empty()).then(|| agent_token.clone());
        let notifiers = Notifiers::open(&config.server.notifier, Arc::clone(&clock))?;
        let notifiers = Arc::new(notifiers);
        let door = Door::make(&config, machines, insecure_no_auth, &clock).await?;
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
                .unwrap_or_else(|| door.url()),
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
        let handlers = Arc::new(Handlers {
            fleet: running.handle.clone(),
            published: Arc::clone(&running.published),
            time: running.time.clone(),
            calls: Arc::clone(&running.calls),
            archive: Arc::new(archive),
            faults: Faults::Providers(providers.clone()),
            policy: Arc::clone(&policy_text),
            config: Arc::clone(&config_text),
            started,
            closing: CancellationToken::new(),
            listed: NodeParts::default(),
            limits: Arc::clone(&door.limits),
            notifiers: Arc::clone(&notifiers),
        });
        let (gate, limits) = (Arc::clone(&door.gate), Arc::clone(&door.limits));
        let certificate = door.certificate.clone();
        let door = door.open(&handlers, &config);
        let gatherer = Gatherer {
            fleet: running.handle.clone(),
            published: Arc::clone(&running.published),
            clock: Arc::clone(&clock),
        };
        tasks.spawn("gather signals", gatherer.run(tasks.token()));
        let watcher = Watcher {
            handlers: Arc::clone(&handlers),
            providers: providers.clone(),
            config,
            config_file,
            marks,
            hangups,
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
        tracing::info!(addr = %door.address, "control plane ready");
        Ok(Self {
            door,
            running,
            handlers,
            providers,
            tasks,
            clock,
        })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.door.address
    }

    /// Its URL for callers on this machine.
    pub fn url(&self) -> String {
        self.door.url.clone()
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
            failure = self.door.failed() => failure,
        }
    }

    /// Ends everything in order: streams, requests, machines of embedded clouds, the fleet with
    /// everything applied made durable.
    pub async fn stop(self) {
        let providers = async {
            for provider in self.providers.values() {
                provider.shutdown().await;
            }
        };
        tokio::join!(self.door.close(), providers);
        drop(self.handlers);
        drop(self.running);
        self.tasks.shutdown(&*self.clock, STOP).await;
        tracing::info!("control plane stopped");
    }
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

//! The numbers that decisions use, resolved from the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use navarch_config::{Config, Guards, InstanceManagerConfig, PoolConfig, ProviderKind};
use navarch_model::{AskedSize, Description, Idempotency, Offering, PoolName, Price, ProviderName};
pub use navarch_policy::guards::doubled;

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSettings {
    /// The configuration.
    pub config: PoolConfig,
    /// What it buys: every region and zone of its providers, in the order of the file. Never empty.
    pub offerings: Vec<OfferingSettings>,
}

/// One offering of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferingSettings {
    /// What is bought. Shared with each report that names it.
    pub offering: Arc<Offering>,
    /// Its text, the key of what is remembered of it.
    pub name: Arc<str>,
    /// Which of the pool's providers it belongs to, in the order of the file.
    pub group: usize,
    /// The lowest is asked first.
    pub priority: i32,
    /// The share of its provider.
    pub weight: u32,
    /// The most that a machine may cost.
    pub max_price: Option<Price>,
    /// GPUs that a machine of it has; none if unknown.
    pub gpus: Option<u32>,
}

impl PoolSettings {
    fn new(pool: &PoolConfig, config: &Config) -> Self {
        let mut offerings = Vec::new();
        for (group, candidate) in pool.placement.providers.iter().enumerate() {
            let provider = config.providers.get(&candidate.name);
            for (region, zone) in candidate.places() {
                let offering = Offering {
                    provider: ProviderName::new(candidate.name.as_str()),
                    region: region.to_owned(),
                    zone: zone.to_owned(),
                    instance_type: candidate.instance_type.clone(),
                    capacity: candidate.capacity,
                };
                offerings.push(OfferingSettings {
                    name: offering.to_string().into(),
                    offering: Arc::new(offering),
                    group,
                    priority: candidate.priority,
                    weight: candidate.weight,
                    max_price: candidate.max_price,
                    gpus: provider.map(|provider| match provider.kind {
                        ProviderKind::Fake { gpu_count, .. } => gpu_count,
                    }),
                });
            }
        }
        Self {
            config: pool.clone(),
            offerings,
        }
    }

    /// The settings of an offering that the pool buys at.
    pub fn at(&self, offering: &Offering) -> Option<&OfferingSettings> {
        self.offerings.iter().find(|one| *one.offering == *offering)
    }

    /// The offering at a provider that a machine found there is of: the one that it describes, else
    /// one of its region and type, else the first. Where no zone is configured the cloud chooses.
    pub fn found_at(
        &self,
        provider: &ProviderName,
        description: Option<&Description>,
    ) -> Option<&OfferingSettings> {
        let here = || {
            let offerings = self.offerings.iter();
            offerings.filter(move |one| one.offering.provider == *provider)
        };
        let described = description.and_then(|is| {
            let near = || {
                here().filter(|one| {
                    let offering = &one.offering;
                    (&offering.region, &offering.instance_type) == (&is.region, &is.instance_type)
                })
            };
            let of_zone = |zone: &str| near().find(|one| one.offering.zone == zone);
            of_zone(&is.zone)
                .or_else(|| of_zone(""))
                .or_else(|| near().next())
        });
        described.or_else(|| here().next())
    }

    /// The providers that the pool buys at.
    pub fn providers(&self) -> BTreeSet<&ProviderName> {
        let offerings = self.offerings.iter();
        offerings.map(|one| &one.offering.provider).collect()
    }

    /// The providers that the pool buys at, for people.
    pub fn provider_names(&self) -> String {
        let names: Vec<&str> = self.providers().iter().map(|name| name.as_str()).collect();
        names.join(", ")
    }

    /// Whether where machines are bought depends on what clouds list.
    pub fn needs_listing(&self) -> bool {
        self.config.placement.strategy.needs_listing()
            || self.offerings.iter().any(|one| one.max_price.is_some())
    }

    /// Fewest machines.
    pub const fn min_nodes(&self) -> usize {
        self.config.min_nodes as usize
    }

    /// Most machines, surge aside.
    pub const fn max_nodes(&self) -> usize {
        self.config.max_nodes as usize
    }

    /// The size that is planned for: the one asked for within the bounds, `min_nodes` while nobody
    /// asked.
    pub fn size(&self, asked: Option<&AskedSize>) -> usize {
        asked.map_or(self.min_nodes(), |asked| self.within(asked.nodes) as usize)
    }

    /// A size within the bounds.
    pub fn within(&self, nodes: u32) -> u32 {
        nodes.clamp(self.config.min_nodes, self.config.max_nodes)
    }

    /// Machines beyond `max_nodes` while one is replaced.
    pub const fn max_surge(&self) -> usize {
        self.config.max_surge as usize
    }
}

/// How the scheduler is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotifierSettings {
    /// Whether there is anybody to tell.
    pub tells: bool,
    /// Tells one receiver from another, without what leads to it; zero if there is none.
    pub receiver: u64,
    /// How long an operator's command waits for the scheduler's answer.
    pub timeout: Duration,
    /// Longest time that one call to the scheduler may take.
    pub call_timeout: Duration,
}

/// One provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderSettings {
    /// How it keeps one intent from buying two machines.
    pub idempotency: Idempotency,
    /// Longest time that one call may take.
    pub request_timeout: Duration,
}

/// Everything that decisions depend on, beside the state and the health policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Pools by name.
    pub pools: BTreeMap<PoolName, PoolSettings>,
    /// Providers by name.
    pub providers: BTreeMap<ProviderName, ProviderSettings>,
    /// How often an agent beats.
    pub heartbeat_interval: Duration,
    /// A node unheard for longer is silent.
    pub heartbeat_timeout: Duration,
    /// How often an agent sends a full report.
    pub health_check_interval: Duration,
    /// How long a machine may take to come up.
    pub instances: InstanceManagerConfig,
    /// How often signals for autoscalers are gathered.
    pub autoscale_interval: Duration,
    /// Limits on what is done without being asked.
    pub guards: Guards,
    /// How the scheduler is told.
    pub notifier: NotifierSettings,
    /// How long ended records stay in memory.
    pub ended_kept: Duration,
    /// Free bytes on the disk of the store below which nothing is bought.
    pub min_free: u64,
}

impl Settings {
    /// How long after a start or a pause every agent that lives was heard: twice the time after
    /// which one that is not heard is silent, and no less than agents wait between two tries.
    pub fn settle(&self) -> Duration {
        self.heartbeat_timeout.max(crate::agent::LONGEST_RETURN) * 2
    }

    /// Resolves a configuration. `idempotency` says how each provider's cloud behaves.
    pub fn new(config: &Config, idempotency: impl Fn(&ProviderName) -> Idempotency) -> Self {
        let providers = config
            .providers
            .iter()
            .map(|(name, provider)| {
                let name = ProviderName::new(name.as_str());
                let settings = ProviderSettings {
                    idempotency: idempotency(&name),
                    request_timeout: provider.request_timeout,
                };
                (name, settings)
            })
            .collect();
        let pools = config
            .pools
            .iter()
            .map(|(name, pool)| {
                let settings = PoolSettings::new(pool, config);
                (PoolName::new(name.as_str()), settings)
            })
            .collect();
        Self {
            pools,
            providers,
            heartbeat_interval: config.server.heartbeat_interval,
            heartbeat_timeout: config.server.heartbeat_timeout,
            health_check_interval: config.server.health_check_interval,
            autoscale_interval: config.server.autoscale_interval,
            instances: config.instance_manager.clone(),
            guards: config.guards.clone(),
            notifier: NotifierSettings {
                tells: config.server.notifier.webhook.is_some(),
                receiver: config.server.notifier.receiver(),
                timeout: config.server.notifier.timeout,
                call_timeout: config.server.notifier.call_timeout(),
            },
            ended_kept: config.store.terminated_kept,
            min_free: config.store.min_free.0,
        }
    }

    /// How long a launch call may wait for its turn and then take, all in all: never less than the
    /// call itself may take.
    pub fn launch_patience(&self, provider: &ProviderName) -> Duration {
        let request = self.request_timeout(provider);
        self.instances.launch_timeout.max(request * 2)
    }

    /// Longest time that one call to a provider may take once it is begun.
    pub fn request_timeout(&self, provider: &ProviderName) -> Duration {
        self.providers
            .get(provider)
            .map_or(Duration::ZERO, |provider| provider.request_timeout)
    }

    /// The wait before attempt `failures + 1` of a call to a cloud.
    pub fn backoff(&self, failures: u32) -> Duration {
        let pace = &self.guards.terminate;
        doubled(pace.retry_wait, failures, pace.retry_max_wait)
    }
}

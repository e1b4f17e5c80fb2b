//! What a new configuration changes in a running server, and what has to wait for a restart.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::{Config, PoolConfig};
use crate::error::Log;
use crate::tree::{self, Node, Value};

/// The outcome of comparing a running configuration with a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Reload {
    /// The configuration to run now: the running one with every change that applies live.
    pub config: Config,
    /// The changes that apply live, by key.
    pub live: Vec<Change>,
    /// The changes that are not applied, by key, each with its reason.
    pub restart: Vec<Change>,
}

/// One changed key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The dotted path, such as `pools.dev.max_nodes`.
    pub key: String,
    /// The value before; none when the key is new.
    pub from: Option<String>,
    /// The value after; none when the key is gone.
    pub to: Option<String>,
    /// Why it needs a restart; none when it applies live.
    pub reason: Option<&'static str>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.key)?;
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{from} -> {to}")?,
            (None, Some(to)) => write!(f, "set to {to}")?,
            (Some(from), None) => write!(f, "removed, was {from}")?,
            (None, None) => f.write_str("unchanged")?,
        }
        match self.reason {
            Some(reason) => write!(f, " (needs a restart: {reason})"),
            None => Ok(()),
        }
    }
}

impl Reload {
    /// Compares the configuration that runs with a new one.
    pub fn new(running: &Config, new: &Config) -> Self {
        let config = applied(running, new);
        let live = changes(running, &config)
            .map(|(key, from, to)| Change {
                key,
                from,
                to,
                reason: None,
            })
            .collect();
        let restart = changes(&config, new)
            .map(|(key, from, to)| Change {
                reason: Some(reason(&key)),
                key,
                from,
                to,
            })
            .collect();
        Self {
            config,
            live,
            restart,
        }
    }
}

/// The new configuration with everything that needs a restart left as it runs.
fn applied(running: &Config, new: &Config) -> Config {
    let mut config = new.clone();
    let (server, old) = (&mut config.server, &running.server);
    server.address.clone_from(&old.address);
    server.external_address.clone_from(&old.external_address);
    let rates = server.limits.rates;
    server.limits.clone_from(&old.limits);
    server.limits.rates = rates;
    server.tls.clone_from(&old.tls);
    server.health_check_interval = old.health_check_interval;
    if server.heartbeat_interval != old.heartbeat_interval {
        // The timeout belongs to the new interval; with the old one it could fail every node.
        server.heartbeat_interval = old.heartbeat_interval;
        server.heartbeat_timeout = old.heartbeat_timeout;
    }
    let (min_free, retention) = (config.store.min_free, config.store.retention);
    config.store.clone_from(&running.store);
    config.store.min_free = min_free;
    config.store.retention = retention;
    config.providers.clone_from(&running.providers);
    config.pools.retain(|_, pool| is_connected(running, pool));
    for (name, old) in &running.pools {
        let added = config.pools.entry(name.clone()).or_insert_with(|| {
            // It is gone from the file, or buys at a provider that is not connected.
            new.pools.get(name).unwrap_or(old).clone()
        });
        if !is_connected(running, added) {
            added.placement.clone_from(&old.placement);
        }
    }
    config
}

/// Whether a pool buys at providers alone that the server is connected to.
fn is_connected(running: &Config, pool: &PoolConfig) -> bool {
    let mut providers = pool.placement.providers.iter();
    providers.all(|one| running.providers.contains_key(&one.name))
}

fn reason(key: &str) -> &'static str {
    let parts: Vec<&str> = key.split('.').collect();
    match parts.as_slice() {
        ["server", "address", ..] => "the server listens on it from its start",
        ["server", "external_address", ..] => "running machines were started with it",
        ["server", "tls", ..] => {
            "the listener takes its files at the start, and reads them again when they change"
        }
        ["server", "limits", ..] => "connections take their limits when the server starts",
        ["server", ..] => "running agents keep the interval that they were given",
        ["store", ..] => "the store is opened at the start",
        ["providers", ..] => "providers are connected at the start",
        ["pools", _, key, ..] if key.starts_with("providers[") || *key == "strategy" => {
            "providers are connected at the start"
        }
        ["pools", ..] => "a pool is removed, or added with a new provider, only at the start",
        _ => "it is read at the start",
    }
}

type KeyValues = BTreeMap<String, String>;

fn changes(
    from: &Config,
    to: &Config,
) -> impl Iterator<Item = (String, Option<String>, Option<String>)> {
    let (mut from, mut to) = (flat(from), flat(to));
    from.retain(|key, value| {
        let same = to.get(key) == Some(value);
        if same {
            to.remove(key);
        }
        !same
    });
    let mut keys: Vec<String> = from.keys().chain(to.keys()).cloned().collect();
    keys.sort();
    keys.dedup();
    keys.into_iter().map(move |key| {
        let (from, to) = (from.remove(&key), to.remove(&key));
        (key, from, to)
    })
}

/// Every key of the effective configuration with its value, so that no key can be forgotten here.
fn flat(config: &Config) -> KeyValues {
    let yaml = config.to_yaml();
    let log = Log::new("effective configuration");
    let root = tree::parse(&log, &yaml).expect("the effective configuration is valid YAML");
    let mut values = KeyValues::new();
    flatten(&root, String::new(), &mut values);
    values
}

fn flatten(node: &Node, path: String, values: &mut KeyValues) {
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            for entry in entries {
                flatten(&entry.node, crate::schema::join(&path, &entry.key), values);
            }
        }
        Value::Scalar(scalar) => {
            values.insert(path, scalar.text.clone());
        }
        Value::List(elements) => {
            for (index, element) in elements.iter().enumerate() {
                flatten(element, format!("{path}[{index}]"), values);
            }
        }
        Value::Map(_) | Value::Null => {}
    }
}

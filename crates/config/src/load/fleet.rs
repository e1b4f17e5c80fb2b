//! Reading of the providers and the pools.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use navarch_model::Automation;

use super::autoscaling::{autoscaling, cooldown};
use super::guards::{MOST_REPEATS, drain_deadline, silence_replace_after};
use super::placement::{self, Known};
use super::server::check_variable;
use super::{MOST_NODES, SHORTEST_WAIT, urls};
use crate::config::{Guards, PoolConfig, PoolHealth, ProviderConfig, ProviderKind, Recovery};
use crate::error::Position;
use crate::fields::{Fields, YEAR};
use crate::schema::{self, Document, PROVIDER_TYPES};
use crate::tree::quoted;

/// GPUs of a fake machine: the largest real one has 16; 64 leaves room for what comes.
pub(super) const MOST_GPUS: u32 = 64;

/// A pool may launch at least this often an hour, however small it is.
const LEAST_LAUNCHES_PER_HOUR: u32 = 10;

type Providers = BTreeMap<String, ProviderConfig>;
type Pools = BTreeMap<String, PoolConfig>;

pub(super) fn fleet(
    root: &Fields<'_>,
    guards: &Guards,
    heartbeat_timeout: Duration,
) -> (Providers, Pools) {
    let named = root.named("providers");
    let kind = |name: &str| {
        let (_, fields) = named.iter().find(|(known, _)| *known == name)?;
        let is = |word: &&str| match fields.has("type") {
            true => fields.is_word("type", word),
            false => *word == name,
        };
        PROVIDER_TYPES.iter().copied().find(is)
    };
    let known: Known<'_> = root
        .names("providers")
        .map(|names| names.into_iter().map(|name| (name, kind(name))).collect());
    let mut used = BTreeSet::new();
    let mut pools = Pools::new();
    let errors = root.log().error_count();
    let sections = root.named("pools");
    // A scenario may have external nodes alone.
    let required = root.log().document() == Document::Configuration;
    if required && sections.is_empty() && !root.is_broken() && root.log().error_count() == errors {
        root.log().error(
            root.at("pools"),
            "at least one pool is required: add one with provider, instance_type and max_nodes under pools",
        );
    }
    let sound = defaults(&root.section("defaults"), guards, heartbeat_timeout);
    for (name, mut fields) in sections {
        if sound {
            fields = fields.or_else(root.section("defaults"));
        }
        let pool = pool(name, &fields, guards, heartbeat_timeout, &known);
        used.extend(pool.placement.providers.iter().map(|one| one.name.clone()));
        pools.insert(name.to_owned(), pool);
    }
    let mut providers = Providers::new();
    for (name, fields) in named {
        if !used.contains(name) {
            fields.log().warn(
                fields.start(),
                format!("provider {}: no pool uses it", quoted(name)),
            );
        }
        if let Some(provider) = provider(name, &fields) {
            providers.insert(name.to_owned(), provider);
        }
    }
    (providers, pools)
}

/// Reads the defaults of pools for themselves, so that what is wrong with them is said once.
fn defaults(fields: &Fields<'_>, guards: &Guards, heartbeat_timeout: Duration) -> bool {
    let errors = fields.log().error_count();
    health(&fields.section("health"), guards, heartbeat_timeout);
    drain_deadline(&fields.section("drain_deadline"), guards.drain_deadline);
    fields.labels("labels");
    cooldown(fields);
    ssh(fields);
    fields.log().error_count() == errors && !fields.is_broken()
}

/// Checks the keys of the set-up over SSH, which nothing reads in this build.
fn ssh(fields: &Fields<'_>) {
    fields.texts("ssh_keys");
    fields.text("ssh_user");
    fields.path("ssh_private_key_path");
    for key in [
        "ip_wait_timeout",
        "ssh_timeout",
        "ssh_connect_timeout",
        "command_timeout",
    ] {
        fields.duration(key, SHORTEST_WAIT..=YEAR);
    }
}

fn provider(name: &str, fields: &Fields<'_>) -> Option<ProviderConfig> {
    for key in ["project", "zone", "region"] {
        fields.name(key);
    }
    if let Some(variable) = fields.text("api_key_env") {
        check_variable(fields, "api_key_env", &variable);
    }
    let short = Duration::from_millis(100);
    let request_timeout = fields.duration("request_timeout", short..=Duration::from_secs(3600));
    let requests_per_second = fields.count("requests_per_second", 1..=10_000);
    let parallel_requests = fields.count("parallel_requests", 1..=1000);
    let gpu_count = fields.count("gpu_count", 1..=MOST_GPUS).unwrap_or(8);
    let url = urls::base(fields, "url");
    Some(ProviderConfig {
        kind: match provider_type(name, fields)? {
            "fake" => ProviderKind::Fake { gpu_count, url },
            other => {
                fields.fail("type",
                    format!(
                        "provider {}: the type {other} is known, but this build does not support it yet: use fake",
                        quoted(name)
                    ),
                );
                return None;
            }
        },
        request_timeout: request_timeout.unwrap_or(Duration::from_secs(30)),
        requests_per_second: requests_per_second.unwrap_or(10),
        parallel_requests: parallel_requests.unwrap_or(8),
    })
}

/// The type that is given, or else the name, when that is a type.
fn provider_type(name: &str, fields: &Fields<'_>) -> Option<&'static str> {
    if fields.has("type") {
        let types: Vec<_> = PROVIDER_TYPES.iter().map(|word| (*word, *word)).collect();
        return fields.word("type", &types);
    }
    let found = PROVIDER_TYPES.iter().copied().find(|word| *word == name);
    if found.is_none() && !fields.is_broken() {
        let hint = schema::nearest(name, PROVIDER_TYPES.iter().copied()).unwrap_or("fake");
        fields.log().error(
            fields.start(),
            format!(
                "provider {}: type is required, for example type: {hint}",
                quoted(name)
            ),
        );
    }
    found
}

fn pool(
    name: &str,
    fields: &Fields<'_>,
    guards: &Guards,
    heartbeat_timeout: Duration,
    providers: &Known<'_>,
) -> PoolConfig {
    let this = Problems { name, fields };
    let (min_nodes, max_nodes) = this.size();
    this.set_up();
    let most = |default| guards.max_launches_per_hour.unwrap_or(default);
    PoolConfig {
        placement: placement::placement(&this, providers),
        min_nodes,
        max_nodes,
        cooldown: cooldown(fields),
        autoscaling: autoscaling(fields, (min_nodes, max_nodes)),
        max_surge: fields
            .count("max_surge", 0..=MOST_NODES)
            .unwrap_or(guards.max_surge),
        budget: fields.budget("budget", MOST_NODES).unwrap_or(guards.budget),
        max_launches_per_hour: fields
            .count("max_launches_per_hour", 0..=MOST_NODES)
            .unwrap_or_else(|| most(max_nodes.max(LEAST_LAUNCHES_PER_HOUR))),
        automation: fields
            .word(
                "automation",
                &[
                    ("on", Automation::On),
                    ("observe", Automation::Observe),
                    ("off", Automation::Off),
                ],
            )
            .unwrap_or_default(),
        labels: this.labels(),
        health: health(&fields.section("health"), guards, heartbeat_timeout),
        drain_deadline: drain_deadline(&fields.section("drain_deadline"), guards.drain_deadline),
    }
}

fn health(fields: &Fields<'_>, guards: &Guards, heartbeat_timeout: Duration) -> PoolHealth {
    PoolHealth {
        unhealthy_after: fields
            .count("unhealthy_after", 1..=MOST_REPEATS)
            .unwrap_or(guards.unhealthy_after),
        auto_replace: fields.flag("auto_replace").unwrap_or(true),
        recovery: fields
            .word(
                "recovery",
                &[
                    ("automatic", Recovery::Automatic),
                    ("manual", Recovery::Manual),
                ],
            )
            .unwrap_or_default(),
        recover_after: fields
            .count("recover_after", 1..=MOST_REPEATS)
            .unwrap_or(guards.recover_after),
        silence_replace_after: silence_replace_after(
            fields,
            guards.silence_replace_after,
            heartbeat_timeout,
        ),
    }
}

/// The checks of one pool, in the reference's words.
pub(super) struct Problems<'a, 't> {
    pub(super) name: &'a str,
    pub(super) fields: &'a Fields<'t>,
}

impl Problems<'_, '_> {
    pub(super) fn at_start(&self, problem: &str) {
        self.at(self.fields.start(), problem);
    }

    pub(super) fn at_key(&self, key: &str, problem: &str) {
        let message = format!("pool {}: {problem}", quoted(self.name));
        self.fields.log().error(self.fields.at(key), message);
    }

    /// An error about this pool.
    pub(super) fn at(&self, at: Position, problem: &str) {
        if self.fields.is_broken() {
            return;
        }
        let message = format!("pool {}: {problem}", quoted(self.name));
        self.fields.log().error(at, message);
    }

    /// A warning about this pool at one of its keys.
    pub(super) fn warn_at_key(&self, key: &str, problem: &str) {
        let message = format!("pool {}: {problem}", quoted(self.name));
        self.fields.log().warn(self.fields.at(key), message);
    }

    fn size(&self) -> (u32, u32) {
        let errors = self.fields.log().error_count();
        let most = i128::from(MOST_NODES);
        let min = self.fields.integer("min_nodes").unwrap_or(0);
        let max = self.fields.integer("max_nodes");
        if min < 0 {
            self.at_key("min_nodes", "min_nodes must be >= 0");
        }
        match max {
            None if !self.fields.has("max_nodes") => {
                self.at_start("max_nodes must be > 0: say how many machines the pool may have");
            }
            Some(..=0) => self.at_key("max_nodes", "max_nodes must be > 0"),
            _ => {}
        }
        for (key, value) in [("min_nodes", min), ("max_nodes", max.unwrap_or(0))] {
            if value > most {
                self.at_key(key, &format!("{key} must be at most {most}"));
            }
        }
        let max = max.unwrap_or(1);
        if self.fields.log().error_count() == errors && min > max {
            self.at_key(
                "min_nodes",
                &format!("min_nodes cannot exceed max_nodes: {min} is above {max}"),
            );
        }
        let count = |value: i128| u32::try_from(value).unwrap_or(0);
        (count(min), count(max))
    }

    fn set_up(&self) {
        ssh(self.fields);
        let commands = self.fields.texts("setup_commands");
        if !commands.is_empty() && !self.fields.has("ssh_private_key_path") {
            self.at_key(
                "setup_commands",
                "ssh_private_key_path is required when setup_commands are configured",
            );
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for (label, (text, at)) in self.fields.labels("labels") {
            if label == "pool" && text != self.name {
                let path = self.fields.path_of("labels.pool");
                self.fields.log().warn(
                    at,
                    format!("{path}: the label pool is always the pool's name: remove it"),
                );
            }
            labels.insert(label, text);
        }
        labels.insert("pool".to_owned(), self.name.to_owned());
        labels
    }
}

//! Reading of the sections about the server itself.

use std::collections::BTreeMap;
use std::time::Duration;

use navarch_model::Role;

use super::notifier::notifier;
use super::{SHORTEST_WAIT, check_address, urls};
use crate::config::{
    AuthConfig, Guards, InstanceManagerConfig, PlannerConfig, RateLimits, RetentionConfig,
    ServerConfig, ServerLimits, StoreConfig, StoreKind, TlsConfig, TokenConfig, TokenSource,
};
use crate::duration::compact;
use crate::fields::{Fields, YEAR};
use crate::tree::quoted;
use crate::units::Size;

/// The shortest interval of agents: ten beats a second already cost more than they tell.
pub(super) const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// The longest interval of agents: a day without news is no control.
const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// The longest time that one request or connection may be held open.
const LONGEST_REQUEST: Duration = Duration::from_secs(3600);

/// Idle connections are kept at least this long unless the file says otherwise.
const IDLE_TIMEOUT_FLOOR: Duration = Duration::from_secs(90);

pub(super) fn server(fields: &Fields<'_>, default: ServerConfig) -> ServerConfig {
    let errors = fields.log().error_count();
    let interval = SHORTEST_INTERVAL..=LONGEST_INTERVAL;
    let heartbeat_interval = fields
        .duration("heartbeat_interval", interval.clone())
        .unwrap_or(default.heartbeat_interval);
    let heartbeat_timeout = fields
        .duration("heartbeat_timeout", SHORTEST_INTERVAL..=YEAR)
        .unwrap_or(heartbeat_interval * 3);
    let health_check_interval = fields
        .duration("health_check_interval", interval.clone())
        .unwrap_or(default.health_check_interval);
    if fields.log().error_count() == errors && heartbeat_timeout <= heartbeat_interval {
        fields.fail(
            "heartbeat_timeout",
            format!(
                "{} is not longer than heartbeat_interval ({}): use about three times the interval",
                compact(heartbeat_timeout),
                compact(heartbeat_interval)
            ),
        );
    }
    if fields.log().error_count() == errors && heartbeat_timeout < heartbeat_interval * 2 {
        fields.log().warn(
            fields.at("heartbeat_timeout"),
            format!(
                "{}: {} is shorter than twice heartbeat_interval ({}): one heartbeat that is lost \
                 makes a node UNHEALTHY; use about three times the interval",
                fields.path_of("heartbeat_timeout"),
                compact(heartbeat_timeout),
                compact(heartbeat_interval)
            ),
        );
    }
    let address = match fields.text("address") {
        // A bare port, as the old grpc_port has it.
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => format!(":{port}"),
        Some(address) => address,
        None => default.address,
    };
    if let Err(problem) = check_address(&address) {
        let expected = "host:port, for example :50051";
        fields.fail_value("address", &quoted(&address), &problem, expected);
    }
    let limits = limits(&fields.section("limits"), heartbeat_interval);
    ServerConfig {
        external_address: urls::base(fields, "external_address"),
        autoscale_interval: fields
            .duration("autoscale_interval", interval)
            .unwrap_or(default.autoscale_interval),
        health_policy: fields.path("health_policy"),
        auth: auth(&fields.section("auth")),
        tls: tls(&fields.section("tls")),
        notifier: notifier(&fields.section("notifier"), limits.request_timeout),
        limits,
        address,
        heartbeat_interval,
        heartbeat_timeout,
        health_check_interval,
    }
}

fn tls(fields: &Fields<'_>) -> Option<TlsConfig> {
    let (cert_file, key_file) = (fields.path("cert_file"), fields.path("key_file"));
    let ca_file = fields.path("ca_file");
    for key in ["cert_file", "key_file"] {
        let beside = ["cert_file", "key_file", "ca_file"];
        if !fields.has(key) && beside.iter().any(|other| fields.has(other)) {
            fields.fail(key, "required for TLS");
        }
    }
    Some(TlsConfig {
        cert_file: cert_file?,
        key_file: key_file?,
        ca_file,
    })
}

fn auth(fields: &Fields<'_>) -> AuthConfig {
    let token = token_source(fields);
    let tokens: BTreeMap<String, TokenConfig> = fields
        .named("tokens")
        .into_iter()
        .filter_map(|(name, fields)| Some((name.to_owned(), token_config(&fields)?)))
        .collect();
    if token.is_none() && fields.names("tokens").is_none_or(|names| names.is_empty()) {
        return AuthConfig::default();
    }
    AuthConfig { token, tokens }
}

fn token_config(fields: &Fields<'_>) -> Option<TokenConfig> {
    let source = token_source(fields);
    let role = fields.word("role", &Role::ALL.map(|role| (role.word(), role)));
    if !fields.has("role") && !fields.is_broken() {
        fields.fail(
            "role",
            "required: say what the token may do: agent, viewer, operator or admin",
        );
    }
    if !fields.has("token_env") && !fields.has("token_file") && !fields.is_broken() {
        fields.fail(
            "token_file",
            "required: say where the token is, or name a variable with token_env",
        );
    }
    Some(TokenConfig {
        role: role?,
        source: source?,
    })
}

/// The one source of a token that the section names.
fn token_source(fields: &Fields<'_>) -> Option<TokenSource> {
    let variable = fields.text("token_env");
    let file = fields.path("token_file");
    if fields.has("token_env") && fields.has("token_file") {
        fields.fail(
            "token_file",
            "token_env is set too: keep one source of the token",
        );
    }
    if let Some(path) = file {
        return Some(TokenSource::File(path));
    }
    let variable = variable?;
    check_variable(fields, "token_env", &variable);
    Some(TokenSource::Environment(variable))
}

/// Checks the name of an environment variable. What is there may be a secret in the wrong place, so
/// it is not shown.
pub(super) fn check_variable(fields: &Fields<'_>, key: &str, name: &str) {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.chars().all(legal) || name.starts_with(|c: char| c.is_ascii_digit()) {
        let what = key.trim_end_matches("_env").replace('_', " ");
        fields.fail(
            key,
            format!(
                "expected the name of an environment variable: letters, digits and _; the {what} itself does not belong in this file"
            ),
        );
    }
}

fn limits(fields: &Fields<'_>, heartbeat_interval: Duration) -> ServerLimits {
    let default = ServerLimits::default();
    let idle_timeout = fields.duration("idle_timeout", SHORTEST_INTERVAL..=YEAR);
    if let Some(idle) = idle_timeout.filter(|idle| *idle <= heartbeat_interval) {
        fields.fail("idle_timeout",
            format!(
                "{} is not longer than server.heartbeat_interval ({}): agents would connect again for every beat",
                compact(idle),
                compact(heartbeat_interval)
            ),
        );
    }
    ServerLimits {
        max_request_bytes: fields
            .count("max_request_bytes", 1024..=1 << 30)
            .unwrap_or(default.max_request_bytes),
        request_timeout: fields
            .duration("request_timeout", SHORTEST_INTERVAL..=LONGEST_REQUEST)
            .unwrap_or(default.request_timeout),
        idle_timeout: idle_timeout
            .unwrap_or_else(|| IDLE_TIMEOUT_FLOOR.max(heartbeat_interval * 3)),
        shutdown_timeout: fields
            .duration("shutdown_timeout", Duration::ZERO..=LONGEST_REQUEST)
            .unwrap_or(default.shutdown_timeout),
        rates: rates(fields),
    }
}

fn rates(fields: &Fields<'_>) -> RateLimits {
    const MOST: u32 = 1_000_000;
    let default = RateLimits::default();
    let count = |key, least, default| fields.count(key, least..=MOST).unwrap_or(default);
    RateLimits {
        calls_per_second: count("calls_per_second", 0, default.calls_per_second),
        calls_burst: count("calls_burst", 1, default.calls_burst),
        node_calls_per_second: count("node_calls_per_second", 0, default.node_calls_per_second),
        node_calls_burst: count("node_calls_burst", 1, default.node_calls_burst),
        wrong_tokens_per_minute: count(
            "wrong_tokens_per_minute",
            0,
            default.wrong_tokens_per_minute,
        ),
    }
}

pub(super) fn store(fields: &Fields<'_>) -> StoreConfig {
    let default = StoreConfig::default();
    let kind = if fields.is_word("type", "postgres") {
        fields.fail(
            "type",
            "postgres is known, but this build does not support it yet: use sqlite",
        );
        None
    } else {
        fields.word("type", &[("sqlite", StoreKind::Sqlite)])
    };
    StoreConfig {
        kind: kind.unwrap_or(default.kind),
        data_dir: fields.path("data_dir").unwrap_or(default.data_dir),
        batch_rows: fields
            .count("batch_rows", 1..=10_000)
            .unwrap_or(default.batch_rows),
        terminated_kept: fields
            .duration("terminated_kept", Duration::ZERO..=YEAR)
            .unwrap_or(default.terminated_kept),
        min_free: fields.size("min_free").unwrap_or(default.min_free),
        retention: retention(&fields.section("retention")),
    }
}

/// The least that the record of events is given: with less, what is written now goes at once.
const LEAST_EVENTS: Size = Size(1 << 20);

fn retention(fields: &Fields<'_>) -> RetentionConfig {
    let default = RetentionConfig::default();
    let age = Duration::from_secs(3600)..=YEAR * 10;
    let size = fields.size("events_size");
    if let Some(size) = size.filter(|size| *size < LEAST_EVENTS) {
        fields.fail(
            "events_size",
            format!("{size} is too small: use {LEAST_EVENTS} or more"),
        );
    }
    RetentionConfig {
        events_age: fields
            .duration("events_age", age.clone())
            .unwrap_or(default.events_age),
        events_size: size.unwrap_or(default.events_size),
        records_age: fields
            .duration("records_age", age)
            .unwrap_or(default.records_age),
    }
}

pub(super) fn instance_manager(fields: &Fields<'_>, guards: &Guards) -> InstanceManagerConfig {
    let default = InstanceManagerConfig::default();
    let wait = SHORTEST_WAIT..=YEAR;
    InstanceManagerConfig {
        launch_timeout: fields
            .duration("launch_timeout", wait.clone())
            .unwrap_or(default.launch_timeout),
        registration_timeout: fields
            .duration("registration_timeout", wait)
            .unwrap_or(default.registration_timeout),
        stale_check_interval: fields
            .duration("stale_check_interval", SHORTEST_INTERVAL..=YEAR)
            .unwrap_or(guards.sweep.interval),
        spot_check_interval: fields
            .duration("spot_check_interval", SHORTEST_INTERVAL..=YEAR)
            .unwrap_or(default.spot_check_interval),
    }
}

pub(super) fn planner(fields: &Fields<'_>) -> PlannerConfig {
    let default = PlannerConfig::default();
    PlannerConfig {
        min_interval: fields
            .duration("min_interval", SHORTEST_WAIT..=Duration::from_secs(60))
            .unwrap_or(default.min_interval),
        full_interval: fields
            .duration("full_interval", SHORTEST_INTERVAL..=LONGEST_INTERVAL)
            .unwrap_or(default.full_interval),
    }
}

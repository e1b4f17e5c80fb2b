//! Reading of the guards.

use std::time::Duration;

use super::{MOST_NODES, SHORTEST_WAIT};
use crate::config::{
    BreakerConfig, DrainDeadlines, FlappingConfig, Guards, LaunchBreakerConfig, SweepConfig,
    TerminateConfig,
};
use crate::duration::compact;
use crate::fields::{Fields, YEAR};

/// Counts of reports, failures and reopenings: more would never be reached.
pub(super) const MOST_REPEATS: u32 = 1000;

/// A listing every few milliseconds would only meet the cloud's rate limit.
const SHORTEST_SWEEP: Duration = Duration::from_millis(100);

/// How long a silence lasts before it may be repaired; none means never. A node is found silent only
/// after `heartbeat_timeout`, so that less has no meaning.
pub(super) fn silence_replace_after(
    fields: &Fields<'_>,
    default: Option<Duration>,
    heartbeat_timeout: Duration,
) -> Option<Duration> {
    const KEY: &str = "silence_replace_after";
    let Some(wait) = fields.duration_or_never(KEY, SHORTEST_WAIT..=YEAR) else {
        return default;
    };
    if let Some(short) = wait.filter(|wait| *wait < heartbeat_timeout) {
        fields.log().warn(
            fields.at(KEY),
            format!(
                "{}: {} is shorter than server.heartbeat_timeout ({}), and a node is found silent \
                 only after that: use a longer time",
                fields.path_of(KEY),
                compact(short),
                compact(heartbeat_timeout)
            ),
        );
    }
    wait
}

pub(super) fn guards(fields: &Fields<'_>, heartbeat_timeout: Duration) -> Guards {
    let default = Guards::default();
    let wait = SHORTEST_WAIT..=YEAR;
    let or_none = Duration::ZERO..=YEAR;
    Guards {
        budget: fields
            .budget("budget", MOST_NODES)
            .unwrap_or(default.budget),
        max_surge: fields
            .count("max_surge", 0..=MOST_NODES)
            .unwrap_or(default.max_surge),
        unhealthy_after: fields
            .count("unhealthy_after", 1..=MOST_REPEATS)
            .unwrap_or(default.unhealthy_after),
        recover_after: fields
            .count("recover_after", 1..=MOST_REPEATS)
            .unwrap_or(default.recover_after),
        silence_replace_after: silence_replace_after(
            fields,
            default.silence_replace_after,
            heartbeat_timeout,
        ),
        stale_report_intervals: fields
            .count("stale_report_intervals", 1..=MOST_REPEATS)
            .unwrap_or(default.stale_report_intervals),
        small_fleet_nodes: fields
            .count("small_fleet_nodes", 0..=MOST_NODES)
            .unwrap_or(default.small_fleet_nodes),
        small_fleet_wait: fields
            .duration("small_fleet_wait", or_none.clone())
            .unwrap_or(default.small_fleet_wait),
        max_launches_per_hour: fields.count("max_launches_per_hour", 0..=MOST_NODES),
        price_max_age: fields
            .duration("price_max_age", SHORTEST_WAIT..=YEAR)
            .unwrap_or(default.price_max_age),
        minimum_life: fields
            .duration("minimum_life", or_none.clone())
            .unwrap_or(default.minimum_life),
        command_expiry: fields
            .duration("command_expiry", wait.clone())
            .unwrap_or(default.command_expiry),
        repeat_fault_window: fields
            .duration("repeat_fault_window", or_none)
            .unwrap_or(default.repeat_fault_window),
        pause_gap: fields
            .duration("pause_gap", Duration::from_millis(100)..=YEAR)
            .unwrap_or(default.pause_gap),
        clock_divergence: fields
            .duration("clock_divergence", wait)
            .unwrap_or(default.clock_divergence),
        silence_witnesses: fields.threshold(
            "silence_witnesses",
            default.silence_witnesses,
            MOST_NODES,
        ),
        breaker: breaker(&fields.section("breaker")),
        launch_breaker: launch_breaker(&fields.section("launch_breaker")),
        flapping: flapping(&fields.section("flapping")),
        drain_deadline: drain_deadline(&fields.section("drain_deadline"), default.drain_deadline),
        terminate: terminate(&fields.section("terminate")),
        sweep: sweep(&fields.section("sweep")),
    }
}

/// A wait that doubles and its limit, which is not below it. When only the wait is given and is
/// longer than the default limit, the limit is the wait.
fn doubling(
    fields: &Fields<'_>,
    (wait_key, wait): (&str, Duration),
    (limit_key, limit): (&str, Duration),
) -> (Duration, Duration) {
    let errors = fields.log().error_count();
    let bounds = SHORTEST_WAIT..=YEAR;
    let wait = fields.duration(wait_key, bounds.clone()).unwrap_or(wait);
    let given = fields.duration(limit_key, bounds);
    if fields.log().error_count() == errors && given.is_some_and(|given| given < wait) {
        fields.fail(
            limit_key,
            format!(
                "{} is below {wait_key} ({}): the limit of a doubling wait is at least the wait",
                compact(given.unwrap_or_default()),
                compact(wait)
            ),
        );
    }
    (wait, given.unwrap_or_else(|| limit.max(wait)))
}

fn breaker(fields: &Fields<'_>) -> BreakerConfig {
    let default = BreakerConfig::default();
    let (wait, max_wait) = doubling(
        fields,
        ("wait", default.wait),
        ("max_wait", default.max_wait),
    );
    BreakerConfig {
        threshold: fields.threshold("threshold", default.threshold, MOST_NODES),
        window: fields
            .duration("window", SHORTEST_WAIT..=YEAR)
            .unwrap_or(default.window),
        wait,
        max_wait,
        confirm: fields
            .duration("confirm", Duration::ZERO..=YEAR)
            .unwrap_or(default.confirm),
    }
}

fn launch_breaker(fields: &Fields<'_>) -> LaunchBreakerConfig {
    let default = LaunchBreakerConfig::default();
    let (wait, max_wait) = doubling(
        fields,
        ("wait", default.wait),
        ("max_wait", default.max_wait),
    );
    LaunchBreakerConfig {
        failures: fields
            .count("failures", 1..=MOST_REPEATS)
            .unwrap_or(default.failures),
        wait,
        max_wait,
        unproven_launches: fields
            .count("unproven_launches", 1..=MOST_NODES)
            .unwrap_or(default.unproven_launches),
    }
}

fn flapping(fields: &Fields<'_>) -> FlappingConfig {
    let default = FlappingConfig::default();
    FlappingConfig {
        reopens: fields
            .count("reopens", 0..=MOST_REPEATS)
            .unwrap_or(default.reopens),
        window: fields
            .duration("window", SHORTEST_WAIT..=YEAR)
            .unwrap_or(default.window),
    }
}

/// The deadlines of the fleet, or of a pool, where those of the fleet are the default.
pub(super) fn drain_deadline(fields: &Fields<'_>, default: DrainDeadlines) -> DrainDeadlines {
    let deadline = |key, default| {
        fields
            .duration(key, Duration::ZERO..=YEAR)
            .unwrap_or(default)
    };
    let voluntary = deadline("voluntary", default.voluntary);
    // Who gives work less time to leave means all work.
    let degraded = if fields.has("voluntary") {
        voluntary
    } else {
        default.degraded
    };
    DrainDeadlines {
        unhealthy: deadline("unhealthy", default.unhealthy),
        degraded: deadline("degraded", degraded),
        voluntary,
    }
}

fn terminate(fields: &Fields<'_>) -> TerminateConfig {
    let default = TerminateConfig::default();
    let (retry_wait, retry_max_wait) = doubling(
        fields,
        ("retry_wait", default.retry_wait),
        ("retry_max_wait", default.retry_max_wait),
    );
    TerminateConfig {
        retry_wait,
        retry_max_wait,
        alert_after: fields
            .duration("alert_after", SHORTEST_WAIT..=YEAR)
            .unwrap_or(default.alert_after),
    }
}

fn sweep(fields: &Fields<'_>) -> SweepConfig {
    let default = SweepConfig::default();
    SweepConfig {
        interval: fields
            .duration("interval", SHORTEST_SWEEP..=YEAR)
            .unwrap_or(default.interval),
        suspect: fields.threshold("suspect", default.suspect, MOST_NODES),
    }
}

//! Limits on what the control plane does on its own.

use std::time::Duration;

use serde::Serialize;

use super::{duration_or_never, hours, minutes, seconds};
use crate::duration;
use crate::units::{Budget, Percent, Threshold};

/// Limits on what the control plane does on its own, for the fleet and as defaults of pools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Guards {
    /// Nodes of the fleet under disruption at once.
    pub budget: Budget,
    /// The default of [`PoolConfig::max_surge`].
    pub max_surge: u32,
    /// The default of [`PoolHealth::unhealthy_after`].
    pub unhealthy_after: u32,
    /// The default of [`PoolHealth::recover_after`].
    pub recover_after: u32,
    /// The default of [`PoolHealth::silence_replace_after`]; none means never.
    #[serde(serialize_with = "duration_or_never")]
    pub silence_replace_after: Option<Duration>,
    /// Health check intervals without a full report that are a condition of their own.
    pub stale_report_intervals: u32,
    /// Below this many nodes `small_fleet_wait` stands in for the breaker.
    pub small_fleet_nodes: u32,
    /// In a small fleet, how long the last replacement must be ACTIVE before the next action on
    /// the same signature.
    #[serde(serialize_with = "duration::serialize")]
    pub small_fleet_wait: Duration,
    /// The default of [`PoolConfig::max_launches_per_hour`]; none means that it follows the
    /// pool's size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_launches_per_hour: Option<u32>,
    /// Age at which a provider is asked for its price list again, while a pool needs it.
    #[serde(serialize_with = "duration::serialize")]
    pub price_max_age: Duration,
    /// Age before which a machine is not given up to shrink a pool.
    #[serde(serialize_with = "duration::serialize")]
    pub minimum_life: Duration,
    /// Age at which an unanswered command expires.
    #[serde(serialize_with = "duration::serialize")]
    pub command_expiry: Duration,
    /// A second fault of a class on one GPU within this time needs the next stronger repair.
    #[serde(serialize_with = "duration::serialize")]
    pub repeat_fault_window: Duration,
    /// Gap between turns of the loop that means the control plane itself was paused.
    #[serde(serialize_with = "duration::serialize")]
    pub pause_gap: Duration,
    /// Divergence between wall time and monotonic time that is an event.
    #[serde(serialize_with = "duration::serialize")]
    pub clock_divergence: Duration,
    /// At least this many of the nodes that were fresh when a silence began must still be fresh
    /// before silence alone counts.
    pub silence_witnesses: Threshold,
    /// Stops repair of one signature that many nodes show at once.
    pub breaker: BreakerConfig,
    /// Stops buying at an offering whose machines never become ACTIVE.
    pub launch_breaker: LaunchBreakerConfig,
    /// When a condition that comes and goes stays open.
    pub flapping: FlappingConfig,
    /// How long a drain of the control plane waits for the work to leave.
    pub drain_deadline: DrainDeadlines,
    /// The pace of termination.
    pub terminate: TerminateConfig,
    /// Comparison of each provider's inventory with the store.
    pub sweep: SweepConfig,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            budget: Budget::Share(Percent::new(10)),
            max_surge: 1,
            unhealthy_after: 2,
            recover_after: 1,
            silence_replace_after: Some(minutes(15)),
            stale_report_intervals: 3,
            small_fleet_nodes: 4,
            small_fleet_wait: minutes(10),
            max_launches_per_hour: None,
            price_max_age: minutes(10),
            minimum_life: minutes(10),
            command_expiry: hours(1),
            repeat_fault_window: hours(24),
            pause_gap: seconds(5),
            clock_divergence: seconds(5),
            silence_witnesses: Threshold {
                count: 2,
                percent: Percent::new(50),
            },
            breaker: BreakerConfig::default(),
            launch_breaker: LaunchBreakerConfig::default(),
            flapping: FlappingConfig::default(),
            drain_deadline: DrainDeadlines::default(),
            terminate: TerminateConfig::default(),
            sweep: SweepConfig::default(),
        }
    }
}

/// Stops repair of one signature that many nodes show at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BreakerConfig {
    /// More nodes than this open the breaker.
    pub threshold: Threshold,
    /// Time in which the nodes are counted.
    #[serde(serialize_with = "duration::serialize")]
    pub window: Duration,
    /// Quiet time before one node is acted on; it doubles with each failed try.
    #[serde(serialize_with = "duration::serialize")]
    pub wait: Duration,
    /// Limit of the doubling wait.
    #[serde(serialize_with = "duration::serialize")]
    pub max_wait: Duration,
    /// How long the replacement must stay ACTIVE to close the breaker.
    #[serde(serialize_with = "duration::serialize")]
    pub confirm: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            threshold: Threshold {
                count: 3,
                percent: Percent::new(10),
            },
            window: minutes(10),
            wait: minutes(10),
            max_wait: hours(24),
            confirm: minutes(10),
        }
    }
}

/// Stops buying at an offering whose machines never become ACTIVE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LaunchBreakerConfig {
    /// Paid launches in a row without an ACTIVE machine that open the breaker.
    pub failures: u32,
    /// Wait before one launch is tried; it doubles with each failure.
    #[serde(serialize_with = "duration::serialize")]
    pub wait: Duration,
    /// Limit of the doubling wait.
    #[serde(serialize_with = "duration::serialize")]
    pub max_wait: Duration,
    /// Launches outstanding at an offering that has had no ACTIVE machine yet.
    pub unproven_launches: u32,
}

impl Default for LaunchBreakerConfig {
    fn default() -> Self {
        Self {
            failures: 3,
            wait: minutes(5),
            max_wait: hours(1),
            unproven_launches: 3,
        }
    }
}

/// When a condition that comes and goes stays open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlappingConfig {
    /// More reopenings than this within the window are flapping.
    pub reopens: u32,
    /// Time in which reopenings count, and the quiet time that ends flapping.
    #[serde(serialize_with = "duration::serialize")]
    pub window: Duration,
}

impl Default for FlappingConfig {
    fn default() -> Self {
        Self {
            reopens: 3,
            window: hours(1),
        }
    }
}

/// How long a drain of the control plane waits for the work to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DrainDeadlines {
    /// For an unhealthy node.
    #[serde(serialize_with = "duration::serialize")]
    pub unhealthy: Duration,
    /// For a degraded node that is not needed.
    #[serde(serialize_with = "duration::serialize")]
    pub degraded: Duration,
    /// For a healthy node that is not needed.
    #[serde(serialize_with = "duration::serialize")]
    pub voluntary: Duration,
}

impl Default for DrainDeadlines {
    fn default() -> Self {
        Self {
            unhealthy: minutes(10),
            degraded: hours(24),
            voluntary: hours(24),
        }
    }
}

/// The pace of termination, which never gives up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TerminateConfig {
    /// Wait before the second try; it doubles.
    #[serde(serialize_with = "duration::serialize")]
    pub retry_wait: Duration,
    /// Limit of the doubling wait.
    #[serde(serialize_with = "duration::serialize")]
    pub retry_max_wait: Duration,
    /// Time without proof of the end after which a person is told.
    #[serde(serialize_with = "duration::serialize")]
    pub alert_after: Duration,
}

impl Default for TerminateConfig {
    fn default() -> Self {
        Self {
            retry_wait: seconds(5),
            retry_max_wait: minutes(5),
            alert_after: minutes(15),
        }
    }
}

/// Comparison of each provider's inventory with the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SweepConfig {
    /// How often each provider is listed.
    #[serde(serialize_with = "duration::serialize")]
    pub interval: Duration,
    /// More machines than this, vanishing or appearing at once, make a listing suspect.
    pub suspect: Threshold,
}

impl Default for SweepConfig {
    fn default() -> Self {
        Self {
            interval: minutes(3),
            suspect: Threshold {
                count: 2,
                percent: Percent::new(10),
            },
        }
    }
}

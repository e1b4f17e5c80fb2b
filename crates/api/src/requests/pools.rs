//! Requests about one pool, and about what was measured.

use std::time::Duration;

use navarch_core::history::{Aggregation, LONGEST, Metric};
use navarch_model::{NodeId, PoolName};

use crate::{ApiError, check, v1};

/// The window of a question that names none.
const WINDOW: Duration = Duration::from_secs(300);

/// The pool whose status is asked for.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn pool_status(request: &v1::GetPoolStatusRequest) -> Result<PoolName, ApiError> {
    check::id("pool", &request.pool, PoolName::parse)
}

/// Whose measurements are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measured {
    /// One node's.
    Node(NodeId),
    /// Those of every node of a pool.
    Pool(PoolName),
}

/// A question about what was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricQuery {
    /// Whose.
    pub of: Measured,
    /// Which metric.
    pub metric: Metric,
    /// How many values become one.
    pub aggregation: Aggregation,
    /// How far back.
    pub window: Duration,
}

/// A question about what was measured.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn metric_query(request: &v1::QueryMetricsRequest) -> Result<MetricQuery, ApiError> {
    let of = match (request.node_id.is_empty(), request.pool.is_empty()) {
        (false, true) => Measured::Node(check::id("node_id", &request.node_id, NodeId::parse)?),
        (true, false) => Measured::Pool(check::id("pool", &request.pool, PoolName::parse)?),
        (true, true) => {
            return Err(ApiError::invalid_argument("node_id or pool is required"));
        }
        (false, false) => {
            return Err(ApiError::invalid_argument(
                "node_id and pool are both set: a question is about one of the two",
            ));
        }
    };
    let metric = match request.metric.as_known() {
        Some(v1::Metric::METRIC_GPU_UTILIZATION) => Metric::GpuUtilization,
        Some(v1::Metric::METRIC_GPU_TEMPERATURE) => Metric::GpuTemperature,
        Some(v1::Metric::METRIC_GPU_POWER) => Metric::GpuPower,
        Some(v1::Metric::METRIC_GPU_MEMORY_USED) => Metric::GpuMemoryUsed,
        Some(v1::Metric::METRIC_CPU_UTILIZATION) => Metric::CpuUtilization,
        Some(v1::Metric::METRIC_MEMORY_UTILIZATION) => Metric::MemoryUtilization,
        Some(v1::Metric::METRIC_UNSPECIFIED) => {
            return Err(ApiError::invalid_argument("metric is required"));
        }
        None => return Err(unknown("metric", request.metric.to_i32(), 6)),
    };
    let aggregation = match request.aggregation.as_known() {
        Some(v1::Aggregation::AGGREGATION_UNSPECIFIED | v1::Aggregation::AGGREGATION_MEAN) => {
            Aggregation::Mean
        }
        Some(v1::Aggregation::AGGREGATION_MIN) => Aggregation::Min,
        Some(v1::Aggregation::AGGREGATION_MAX) => Aggregation::Max,
        Some(v1::Aggregation::AGGREGATION_SUM) => Aggregation::Sum,
        Some(v1::Aggregation::AGGREGATION_P50) => Aggregation::Percentile(50),
        Some(v1::Aggregation::AGGREGATION_P95) => Aggregation::Percentile(95),
        Some(v1::Aggregation::AGGREGATION_P99) => Aggregation::Percentile(99),
        None => return Err(unknown("aggregation", request.aggregation.to_i32(), 7)),
    };
    let window = match u64::try_from(request.window_seconds) {
        Ok(0) => WINDOW,
        Ok(seconds) if seconds <= LONGEST.as_secs() => Duration::from_secs(seconds),
        _ => {
            return Err(ApiError::invalid_argument(format!(
                "window_seconds is {}; use 1 to {}: the control plane keeps one hour, and what \
                 scrapes /metrics keeps more",
                request.window_seconds,
                LONGEST.as_secs()
            )));
        }
    };
    Ok(MetricQuery {
        of,
        metric,
        aggregation,
        window,
    })
}

fn unknown(field: &str, number: i32, most: i32) -> ApiError {
    ApiError::invalid_argument(format!(
        "{field} has the number {number}, which nobody knows; use 1 to {most}"
    ))
}

//! `navarch metrics`: what machines measured lately.

use navarch_api::v1;
use serde_json::{Value, json};

use crate::args::{AggregationName, Global, MetricName, MetricsArgs};
use crate::client::{Doing as _, Failure, connect};
use crate::output::{for_programs, remark, say, table};
use crate::values;

/// `navarch metrics`.
pub async fn run(global: &Global, asked: MetricsArgs) -> Result<(), Failure> {
    let client = connect(global)?;
    let seconds = i64::try_from(asked.window.as_secs()).unwrap_or(i64::MAX);
    if seconds == 0 {
        return Err(Failure::Usage(
            "--window is shorter than a second; metrics are kept minute by minute".to_owned(),
        ));
    }
    let request = v1::QueryMetricsRequest {
        node_id: asked.node.unwrap_or_default(),
        pool: asked.pool.unwrap_or_default(),
        metric: metric(asked.metric).into(),
        aggregation: aggregation(asked.aggregation).into(),
        window_seconds: seconds,
    };
    let answer = client
        .query_metrics(request)
        .await
        .doing("ask for metrics")?;
    if for_programs(global.output, &value(&answer))? {
        return Ok(());
    }
    let Some(whole) = answer.value else {
        remark("Nothing was measured in the window");
        return Ok(());
    };
    say(&listing(&answer));
    remark(&format!(
        "{} over the window: {}, {} nodes",
        asked.aggregation.word(),
        number(whole, &answer.unit),
        answer.nodes
    ));
    Ok(())
}

fn metric(name: MetricName) -> v1::Metric {
    match name {
        MetricName::GpuUtilization => v1::Metric::METRIC_GPU_UTILIZATION,
        MetricName::GpuTemperature => v1::Metric::METRIC_GPU_TEMPERATURE,
        MetricName::GpuPower => v1::Metric::METRIC_GPU_POWER,
        MetricName::GpuMemoryUsed => v1::Metric::METRIC_GPU_MEMORY_USED,
        MetricName::CpuUtilization => v1::Metric::METRIC_CPU_UTILIZATION,
        MetricName::MemoryUtilization => v1::Metric::METRIC_MEMORY_UTILIZATION,
    }
}

fn aggregation(name: AggregationName) -> v1::Aggregation {
    match name {
        AggregationName::Mean => v1::Aggregation::AGGREGATION_MEAN,
        AggregationName::Min => v1::Aggregation::AGGREGATION_MIN,
        AggregationName::Max => v1::Aggregation::AGGREGATION_MAX,
        AggregationName::Sum => v1::Aggregation::AGGREGATION_SUM,
        AggregationName::P50 => v1::Aggregation::AGGREGATION_P50,
        AggregationName::P95 => v1::Aggregation::AGGREGATION_P95,
        AggregationName::P99 => v1::Aggregation::AGGREGATION_P99,
    }
}

/// The table: a row for each minute.
pub fn listing(answer: &v1::QueryMetricsResponse) -> String {
    let rows: Vec<Vec<String>> = answer
        .points
        .iter()
        .map(|point| {
            let at = values::time(point.time.as_option());
            vec![
                at.map_or_else(String::new, |at| at.strftime("%H:%M").to_string()),
                number(point.value, &answer.unit),
                point.nodes.to_string(),
            ]
        })
        .collect();
    table(&["Minute (UTC)", "Value", "Nodes"], &rows)
}

/// A number with its unit, as people read it.
fn number(value: f64, unit: &str) -> String {
    match unit {
        "percent" => format!("{value:.1} %"),
        "celsius" => format!("{value:.0} °C"),
        "watts" => format!("{value:.0} W"),
        _ => format!("{:.1} GiB", value / f64::from(1 << 30)),
    }
}

fn value(answer: &v1::QueryMetricsResponse) -> Value {
    let points: Vec<Value> = answer
        .points
        .iter()
        .map(|point| {
            json!({
                "time": values::rfc3339(point.time.as_option()),
                "value": point.value,
                "nodes": point.nodes,
            })
        })
        .collect();
    json!({
        "value": answer.value,
        "points": points,
        "nodes": answer.nodes,
        "unit": answer.unit,
    })
}

//! Pools, and whether the control plane acts in them.

use clap::{Args, Subcommand};
use navarch_model::Automation;

use super::duration;

/// `navarch pool`.
#[derive(Debug, Subcommand)]
pub enum Pool {
    /// List pools.
    List,
    /// How one pool stands.
    Status {
        /// The pool.
        pool: String,
    },
    /// Ask for another size of a pool; an autoscaler decides again after its cooldowns.
    Scale {
        /// The pool.
        pool: String,
        /// Machines to have, within min_nodes and max_nodes of the pool.
        #[arg(long)]
        nodes: u32,
        /// Why; recorded with the size.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// What is done next in a pool, and what it waits for.
    Explain {
        /// The pool; every pool without.
        #[arg(default_value = "", hide_default_value = true)]
        pool: String,
    },
}

/// `navarch metrics`.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group(clap::ArgGroup::new("whose").required(true).args(["pool", "node"])))]
pub struct MetricsArgs {
    /// Every node of this pool.
    #[arg(long)]
    pub pool: Option<String>,
    /// One node.
    #[arg(long)]
    pub node: Option<String>,
    /// What was measured.
    #[arg(long, value_enum, default_value = "gpu-utilization")]
    pub metric: MetricName,
    /// How many values become one.
    #[arg(long, value_enum, default_value = "mean")]
    pub aggregation: AggregationName,
    /// How far back, such as 15m; an hour at most.
    #[arg(long, value_parser = duration, default_value = "5m", value_name = "DURATION")]
    pub window: std::time::Duration,
}

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum MetricName {
    /// Use of the GPUs, the mean of a node.
    GpuUtilization,
    /// The hottest GPU of a node.
    GpuTemperature,
    /// Power of all GPUs of a node.
    GpuPower,
    /// Memory in use on all GPUs of a node.
    GpuMemoryUsed,
    /// Use of the CPU.
    CpuUtilization,
    /// Use of the main memory.
    MemoryUtilization,
}

/// How many values become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum AggregationName {
    /// The mean.
    Mean,
    /// The lowest.
    Min,
    /// The highest.
    Max,
    /// The sum over nodes.
    Sum,
    /// The median.
    P50,
    /// 95 of 100 values are at most this.
    P95,
    /// 99 of 100 values are at most this.
    P99,
}

impl AggregationName {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Min => "min",
            Self::Max => "max",
            Self::Sum => "sum",
            Self::P50 => "p50",
            Self::P95 => "p95",
            Self::P99 => "p99",
        }
    }
}

/// What `navarch automation` is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutomationChoice {
    /// A mode.
    Mode(Automation),
    /// A pool's configuration counts again.
    Inherit,
}

fn automation(text: &str) -> Result<AutomationChoice, String> {
    if text == "inherit" {
        return Ok(AutomationChoice::Inherit);
    }
    let mode = Automation::from_word(text).map(AutomationChoice::Mode);
    mode.ok_or_else(|| "use on, observe, off or inherit".to_owned())
}

/// `navarch automation`.
#[derive(Debug, Args)]
pub struct AutomationArgs {
    /// on, observe or off, or inherit for a pool whose configuration is to count again; without,
    /// the switches are shown.
    #[arg(value_parser = automation)]
    pub mode: Option<AutomationChoice>,
    /// Only for this pool.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub pool: String,
    /// Why; recorded with the switch.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// `navarch breaker`.
#[derive(Debug, Subcommand)]
pub enum Breaker {
    /// Close breakers of a pool.
    Reset {
        /// The pool.
        pool: String,
        /// A signature or an offering; all of them without.
        #[arg(default_value = "", hide_default_value = true)]
        signature: String,
    },
}

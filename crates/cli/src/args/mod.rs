//! The command line: what can be asked, and how. A file for each noun.

mod files;
mod instances;
mod nodes;
mod pools;
mod programs;
mod record;
mod sim;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use navarch_node::{LogFilter, LogFormat};

pub use files::{Config, Policy};
pub use instances::Instance;
pub use nodes::{Hold, List, Node, NodeCommand};
pub use pools::{
    AggregationName, AutomationArgs, AutomationChoice, Breaker, MetricName, MetricsArgs, Pool,
};
pub use programs::{
    Agent, Copies, Dev, DevOrder, DevRun, FakeCloud, Inject, Server, ServerOrder, ServerRun,
};
pub use record::{Events, Explain, Incident};
pub use sim::{Sim, SimFuzz, SimInteractive, SimRun};

/// Keeps a fleet of GPU machines at the size asked for and fit to run.
#[derive(Debug, Parser)]
#[command(
    name = "navarch",
    version,
    propagate_version = false,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command that asks a control plane.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The control plane's address.
    #[arg(
        short = 's',
        long,
        global = true,
        env = "NAVARCH_SERVER",
        default_value = "http://localhost:50051",
        value_name = "URL"
    )]
    pub server: String,
    /// The bearer token. Prefer the environment variable: flags show in `ps`.
    #[arg(
        long,
        alias = "auth-token",
        global = true,
        env = "NAVARCH_AUTH_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub token: Option<String>,
    /// The certificate authorities to trust, in PEM, instead of the system's.
    #[arg(long, global = true, env = "NAVARCH_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// How long a call may take.
    #[arg(long, global = true, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub timeout: Duration,
    /// How answers are shown.
    #[arg(
        short = 'o',
        long,
        global = true,
        default_value = "table",
        value_name = "FORMAT"
    )]
    pub output: Format,
    /// What is logged: error, warn, info, debug, trace, off, or TARGET=LEVEL pairs with commas
    /// between. While a program runs, SIGUSR1 switches between this and debug.
    #[arg(
        long,
        global = true,
        env = "NAVARCH_LOG_LEVEL",
        default_value = "info",
        value_name = "LEVEL"
    )]
    pub log_level: LogFilter,
    /// How log records are written. While a program runs, SIGUSR2 switches it.
    #[arg(
        long,
        global = true,
        env = "NAVARCH_LOG_FORMAT",
        default_value = "json",
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,
}

/// How answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    Table,
    /// A table with every column.
    Wide,
    /// JSON with every field.
    Json,
    /// The same as YAML.
    Yaml,
}

impl Format {
    /// The word that `--output` takes.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Wide => "wide",
            Self::Json => "json",
            Self::Yaml => "yaml",
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match navarch_config::duration::parse(text) {
        Ok(Duration::ZERO) => Err("must be longer than nothing".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

/// A place to listen. Whether there is such a host is for the system to say.
fn address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains('/') && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err("write HOST:PORT, for example 127.0.0.1:50051".to_owned()),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole fleet on this machine, with fake GPUs; or order faults in one.
    Dev(Dev),
    /// Run the control plane, or copy its data.
    Server(Server),
    /// Run the agent of a GPU machine; see `navarch agent --help`.
    Agent,
    /// Run a fake cloud of its own, for tests.
    FakeCloud(FakeCloud),
    /// List nodes.
    List(List),
    /// Show one node.
    Get {
        /// The node.
        node: String,
    },
    /// Keep new work away from a node.
    Cordon(NodeCommand),
    /// Keep new work away from a node and let its work end.
    Drain(NodeCommand),
    /// Take an operator's cordon and drain back.
    Uncordon(NodeCommand),
    /// Terminate a node's machine for good.
    Terminate(NodeCommand),
    /// Holds that keep work away from a node, beside the control plane's own.
    #[command(subcommand)]
    Hold(Hold),
    /// Machines that were asked for.
    #[command(subcommand)]
    Instance(Instance),
    /// Faults and what is done about them.
    #[command(subcommand)]
    Incident(Incident),
    /// What happened.
    Events(Events),
    /// Why something is as it is.
    #[command(subcommand)]
    Explain(Explain),
    /// Pools of machines.
    #[command(subcommand)]
    Pool(Pool),
    /// What the machines of a pool, or one node, measured lately.
    Metrics(MetricsArgs),
    /// Whether the control plane acts by itself.
    Automation(AutomationArgs),
    /// Guards that stop repairs or launches after trouble.
    #[command(subcommand)]
    Breaker(Breaker),
    /// What a node's agent is asked to do, and silent nodes.
    #[command(subcommand)]
    Node(Node),
    /// Health policies.
    #[command(subcommand)]
    Policy(Policy),
    /// Configuration files.
    #[command(subcommand)]
    Config(Config),
    /// Fleets in virtual time.
    #[command(subcommand)]
    Sim(Sim),
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the version.
    Version,
}

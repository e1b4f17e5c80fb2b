//! The command line: what can be asked, and how.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use navarch_model::Automation;
use navarch_node::{LogFilter, LogFormat};

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
    /// between. While a program runs, SIGUSR1 raises it to debug and SIGUSR2 restores it.
    #[arg(
        long,
        global = true,
        env = "NAVARCH_LOG_LEVEL",
        default_value = "info",
        value_name = "LEVEL"
    )]
    pub log_level: LogFilter,
    /// How log records are written.
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

fn automation(text: &str) -> Result<AutomationChoice, String> {
    if text == "inherit" {
        return Ok(AutomationChoice::Inherit);
    }
    let mode = Automation::from_word(text).map(AutomationChoice::Mode);
    mode.ok_or_else(|| "use on, observe, off or inherit".to_owned())
}

/// What `navarch automation` is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutomationChoice {
    /// A mode.
    Mode(Automation),
    /// A pool's configuration counts again.
    Inherit,
}

fn machine(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((provider, id)) if !provider.is_empty() && !id.is_empty() => {
            Ok((provider.to_owned(), id.to_owned()))
        }
        _ => Err("write PROVIDER/ID, as `navarch instance list --orphans` does".to_owned()),
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
    /// Whether the control plane acts by itself.
    Automation(AutomationArgs),
    /// Guards that stop repairs or launches after trouble.
    #[command(subcommand)]
    Breaker(Breaker),
    /// A silent node.
    #[command(subcommand)]
    Node(Node),
    /// Health policies.
    #[command(subcommand)]
    Policy(Policy),
    /// Configuration files.
    #[command(subcommand)]
    Config(Config),
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the version.
    Version,
}

/// Reads the GPUs of this machine and reports to the control plane, as `navarch-node` does.
#[derive(Debug, Parser)]
#[command(name = "navarch agent", version)]
pub struct Agent {
    #[command(flatten)]
    pub args: navarch_node::Args,
}

/// `navarch dev`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Dev {
    #[command(subcommand)]
    pub order: Option<DevOrder>,
    #[command(flatten)]
    pub run: DevRun,
}

/// Flags of a fleet on this machine.
#[derive(Debug, Args)]
pub struct DevRun {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:50051", value_parser = address, value_name = "HOST:PORT")]
    pub listen: String,
    /// Where the fleet is kept.
    #[arg(long, default_value = "navarch-data", value_name = "DIRECTORY")]
    pub data_dir: PathBuf,
    /// How many machines to keep; writes the configuration of `dev` anew.
    #[arg(long, conflicts_with = "config", value_parser = clap::value_parser!(u32).range(1..=999), value_name = "N")]
    pub nodes: Option<u32>,
    /// A configuration file instead of the one that `dev` writes.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Listen without a token on an address that other machines can reach.
    #[arg(long)]
    pub insecure_no_auth: bool,
}

/// Faults to order.
#[derive(Debug, Subcommand)]
pub enum DevOrder {
    /// Make a machine show a fault.
    Inject(Inject),
    /// Repair a machine: take faults away and reboot it.
    Clear {
        /// The node.
        node: String,
        /// One kind of fault; all of them without.
        kind: Option<String>,
    },
}

/// `navarch dev inject`.
#[derive(Debug, Args)]
pub struct Inject {
    /// The node.
    pub node: String,
    /// xid, thermal, memory, nvlink, backend-error, device-error, boot-failure, row-remap, pcie,
    /// power or recovery-action.
    pub kind: String,
    /// The XID's number.
    #[arg(long)]
    pub code: Option<i32>,
    /// Which GPU.
    #[arg(long)]
    pub gpu: Option<i32>,
    /// The message of the event.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub message: String,
    /// Degrees Celsius, for thermal.
    #[arg(long)]
    pub temperature: Option<i32>,
    /// Corrected memory errors, for memory.
    #[arg(long)]
    pub sbe: Option<u64>,
    /// Uncorrected memory errors, for memory.
    #[arg(long)]
    pub dbe: Option<u64>,
    /// The link, for nvlink.
    #[arg(long)]
    pub link: Option<u32>,
    /// No memory row is left to remap to, for row-remap.
    #[arg(long)]
    pub failed: bool,
    /// NVML's number of the repair that the driver asks for, for recovery-action: 1 GPU reset,
    /// 2 node reboot, 3 drain P2P, 4 drain and reset, 5 recover the IMEX domain.
    #[arg(long)]
    pub action: Option<u32>,
}

/// `navarch server`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Server {
    #[command(subcommand)]
    pub order: Option<ServerOrder>,
    #[command(flatten)]
    pub run: Option<ServerRun>,
}

/// What to do with a data directory.
#[derive(Debug, Subcommand)]
pub enum ServerOrder {
    /// Copy the fleet's data to a new file, while a server runs or not.
    ///
    /// The copy is the fleet at one moment. It is checked and read back before it gets its name.
    Backup(Copies),
    /// Make a data directory from a copy, with automation off.
    ///
    /// The directory must have no database. The server must not run.
    Restore(Copies),
}

/// `navarch server backup` and `navarch server restore`.
#[derive(Debug, Args)]
pub struct Copies {
    /// The copy.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where the fleet is kept [default: the configuration's directory, else navarch-data].
    #[arg(long, value_name = "DIRECTORY")]
    pub data_dir: Option<PathBuf>,
    /// The configuration file of the server.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Flags of a control plane that runs.
#[derive(Debug, Args)]
pub struct ServerRun {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Where to listen, instead of the file's address.
    #[arg(long, value_parser = address, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Where the fleet is kept, instead of the file's directory.
    #[arg(long, value_name = "DIRECTORY")]
    pub data_dir: Option<PathBuf>,
    /// Listen without a token on an address that other machines can reach.
    #[arg(long)]
    pub insecure_no_auth: bool,
}

/// `navarch fake-cloud`.
#[derive(Debug, Args)]
pub struct FakeCloud {
    /// Where to listen; a loopback address.
    #[arg(long, default_value = "127.0.0.1:50052", value_parser = address, value_name = "HOST:PORT")]
    pub listen: String,
    /// Where the cloud is kept.
    #[arg(long, value_name = "DIRECTORY")]
    pub data_dir: PathBuf,
}

/// `navarch list`.
#[derive(Debug, Args)]
pub struct List {
    /// Only this provider.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub provider: String,
    /// Only this region.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub region: String,
    /// Only this status: active, cordoned, draining, unhealthy or terminated.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub status: String,
    /// Only this pool.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub pool: String,
    /// Only nodes with this label; may be given more than once.
    #[arg(long = "label", value_parser = pair, value_name = "KEY=VALUE")]
    pub labels: Vec<(String, String)>,
    /// Show the list again whenever it changes.
    #[arg(short, long)]
    pub watch: bool,
}

/// A command for one node.
#[derive(Debug, Args)]
pub struct NodeCommand {
    /// The node.
    pub node: String,
    /// Why; recorded with the command.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// `navarch instance`.
#[derive(Debug, Subcommand)]
pub enum Instance {
    /// List instances.
    List {
        /// Only this pool.
        #[arg(long, default_value = "", hide_default_value = true)]
        pool: String,
        /// Only this provider.
        #[arg(long, default_value = "", hide_default_value = true)]
        provider: String,
        /// Machines with this fleet's tag that no record knows, instead.
        #[arg(long, conflicts_with = "pool")]
        orphans: bool,
    },
    /// Show one instance.
    Get {
        /// The instance.
        instance: String,
    },
    /// Take a machine that no record knows into a pool.
    Adopt {
        /// The machine, as `navarch instance list --orphans` names it.
        #[arg(value_name = "PROVIDER/ID", value_parser = machine)]
        machine: (String, String),
        /// The pool; it must buy at the provider.
        #[arg(long)]
        pool: String,
        /// Why; recorded.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Terminate an instance, or a machine that no record knows, for good.
    Terminate {
        /// The instance, or the machine as `navarch instance list --orphans` names it.
        #[arg(value_name = "ID|PROVIDER/ID")]
        instance: String,
        /// Why; recorded.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
}

/// `navarch hold`.
#[derive(Debug, Subcommand)]
pub enum Hold {
    /// Keep new work away from a node until the hold is removed or its time is over.
    ///
    /// A repeat renews the hold. Uncordon does not lift it.
    Add {
        /// The node.
        node: String,
        /// What the hold is called; unique on its node.
        name: String,
        /// Who holds the node: a person or a system.
        #[arg(long)]
        owner: String,
        /// Why; shown wherever the hold is.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
        /// How long the hold stands at most, for example 2h.
        #[arg(long, value_parser = duration, value_name = "DURATION")]
        expires: Option<Duration>,
        /// Let the work on the node end, too.
        #[arg(long)]
        drain: bool,
    },
    /// List the holds that stand, those of the control plane included.
    List {
        /// Only on this node.
        #[arg(default_value = "", hide_default_value = true)]
        node: String,
    },
    /// Lift a hold.
    Remove {
        /// The node.
        node: String,
        /// What the hold is called.
        name: String,
        /// Why; recorded.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
}

/// `navarch incident`.
#[derive(Debug, Subcommand)]
pub enum Incident {
    /// List incidents, open ones first.
    List {
        /// Only on this node.
        #[arg(long, default_value = "", hide_default_value = true)]
        node: String,
        /// Only in this pool.
        #[arg(long, default_value = "", hide_default_value = true)]
        pool: String,
        /// Only open ones.
        #[arg(long)]
        open: bool,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show one incident.
    Get {
        /// The incident.
        incident: String,
    },
    /// End an incident by your word.
    Close {
        /// The incident.
        incident: String,
        /// Why; recorded with the incident.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
}

/// `navarch events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Go on with new events as they happen.
    #[arg(short, long)]
    pub follow: bool,
    /// Only about this node.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub node: String,
    /// Only about this instance.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub instance: String,
    /// Only about this pool.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub pool: String,
    /// Only about this incident.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub incident: String,
    /// Only this kind or family, for example incident; may be given more than once.
    #[arg(long = "kind")]
    pub kinds: Vec<String>,
    /// Only those before this place in the record, for the pages before the last one.
    #[arg(
        long,
        value_name = "SEQUENCE",
        default_value_t = 0,
        hide_default_value = true,
        conflicts_with = "follow"
    )]
    pub before: u64,
    /// How many of the latest.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

/// `navarch explain`.
#[derive(Debug, Subcommand)]
pub enum Explain {
    /// Why a node is as it is, and what it waits for.
    Node {
        /// The node.
        node: String,
        /// How many lines of its story.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
}

/// `navarch pool`.
#[derive(Debug, Subcommand)]
pub enum Pool {
    /// List pools.
    List,
    /// What is done next in a pool, and what it waits for.
    Explain {
        /// The pool; every pool without.
        #[arg(default_value = "", hide_default_value = true)]
        pool: String,
    },
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

/// `navarch node`.
#[derive(Debug, Subcommand)]
pub enum Node {
    /// Say that a silent node's machine is dead, so that it is replaced.
    ConfirmDead {
        /// The node.
        node: String,
        /// How you know; recorded.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
}

/// `navarch policy`.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Show the policy in force.
    Show,
    /// Check a policy file.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Grade one event by a policy file.
    Test {
        /// The file; the built-in policy with `built-in`.
        file: PathBuf,
        /// A field of the event; keys that are no fields are metrics.
        #[arg(long = "event", value_parser = pair, value_name = "KEY=VALUE", required = true)]
        event: Vec<(String, String)>,
    },
}

/// `navarch config`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check a configuration file.
    Check {
        /// The file.
        file: PathBuf,
    },
}

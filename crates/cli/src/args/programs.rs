//! Programs that run: the control plane, the agent, clouds and fleets for developers.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::address;

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

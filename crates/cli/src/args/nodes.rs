//! Nodes, and what keeps work away from them.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{duration, pair};

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
    /// Let a node's agent read everything once, and show what it answers.
    Diagnose {
        /// The node.
        node: String,
        /// Which test; all of them without.
        #[arg(long)]
        test: Option<String>,
    },
    /// List what a node's agent was asked to do, and what came of it.
    Commands {
        /// The node.
        node: String,
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

//! What happened, and why.

use clap::{Args, Subcommand};

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
    /// What is done next in a pool, as `navarch pool explain` says it.
    Pool {
        /// The pool; every pool without.
        #[arg(default_value = "", hide_default_value = true)]
        pool: String,
    },
    /// A node, without the word.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

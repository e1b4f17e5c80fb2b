//! Machines that were asked for.

use clap::Subcommand;

fn machine(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((provider, id)) if !provider.is_empty() && !id.is_empty() => {
            Ok((provider.to_owned(), id.to_owned()))
        }
        _ => Err("write PROVIDER/ID, as `navarch instance list --orphans` does".to_owned()),
    }
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

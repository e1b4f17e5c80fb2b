//! Policies and configurations as files.

use std::path::PathBuf;

use clap::Subcommand;

use super::pair;

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
    /// Check a configuration file: every error and warning, with its place.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Show every key with its value, defaults included and secrets hidden.
    Show {
        /// The file [default: what runs in the server].
        file: Option<PathBuf>,
    },
    /// Print the JSON Schema of the configuration file, for editors.
    Schema,
}

//! Pools, and whether the control plane acts in them.

use clap::{Args, Subcommand};
use navarch_model::Automation;

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

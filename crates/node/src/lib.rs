//! The agent's shell: what talks to GPUs, disk and network for [`navarch_core::Agent`].
//!
//! `navarch-node` and `navarch agent` are the same agent: both parse [`Args`] and await [`run`].
//! What to send and when is decided by the agent's core; this
//! crate measures, keeps and sends.

mod args;
mod commands;
mod debug;
mod error;
mod freshness;
mod log;
mod machine;
mod reading;
mod shell;
mod spool;
mod start;
mod state;
mod usage;
mod watch;
mod wire;
mod worker;

pub use args::{Args, Label, LogFormat, Secret, with_double_dashes};
pub use error::AgentError;
pub use log::{LogFilter, LogSwitches, start_logging};
pub use start::run;

//! Why the agent does not run.

use std::io;
use std::path::{Path, PathBuf};

/// Why the agent does not run. Once it runs, nothing but its end is told to its caller: what fails
/// then is logged and tried again.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The flags do not make sense.
    #[error("{0}")]
    Usage(String),
    /// A file of the state directory cannot be used.
    #[error("cannot {verb} {}: {source}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another agent uses the state directory.
    #[error(
        "another agent uses {}; stop it, or give this one a --state-dir of its own",
        .0.display()
    )]
    StateInUse(PathBuf),
    /// The debug API cannot listen.
    #[error("cannot listen on {address}: {source}; choose another --debug-listen")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The GPUs that were asked for cannot be had.
    #[error(transparent)]
    Gpus(#[from] navarch_gpu::SelectError),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The system does not tell signals.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
}

impl AgentError {
    /// The exit code of a process that ends with this error: 2 for flags, else 1.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Gpus(navarch_gpu::SelectError::BadValue { .. }) => 2,
            _ => 1,
        }
    }

    /// For `map_err`: what was tried with which file.
    pub(crate) fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { verb, path, source }
    }
}

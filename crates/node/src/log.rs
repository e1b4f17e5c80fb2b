//! Starts the log.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::{AgentError, Args, LogFormat};

/// Starts the log of this process on standard error, as `--log-level` and `--log-format` say.
///
/// # Errors
///
/// When the level means nothing.
pub fn start_logging(args: &Args) -> Result<(), AgentError> {
    let filter = Targets::from_str(&args.log_level).map_err(|error| {
        AgentError::Usage(format!(
            "--log-level {:?}: {error}; use error, warn, info, debug or trace",
            args.log_level
        ))
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // A log that was started before stays as it is.
    let _started = match args.log_format {
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal();
            registry.with(lines.with_ansi(colour)).try_init()
        }
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    Ok(())
}

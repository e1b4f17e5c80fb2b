//! Starts the log.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::{AgentError, Args, LogFormat};

/// Starts the log of this process on standard error, as `--log-level` and `--log-format` say.
///
/// # Errors
///
/// When the level means nothing.
pub fn start_logging(args: &Args) -> Result<(), AgentError> {
    let filter = filter(&args.log_level)?;
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

/// A level for everything, or levels for targets, with commas between.
fn filter(text: &str) -> Result<Targets, AgentError> {
    let bad = || {
        AgentError::Usage(format!(
            "--log-level {text:?}: use error, warn, info, debug, trace or off, or TARGET=LEVEL pairs with commas between"
        ))
    };
    // By itself the parser takes a word that is no level for a target.
    let is_level = |part: &str| {
        let level = part.rsplit('=').next().unwrap_or_default();
        !level.is_empty() && LevelFilter::from_str(level).is_ok()
    };
    if text.split(',').all(is_level) {
        Targets::from_str(text).map_err(|_| bad())
    } else {
        Err(bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_words_or_pairs() {
        for good in [
            "info",
            "WARN",
            "off",
            "debug,hyper=warn",
            "navarch_node=trace",
        ] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["", "loud", "info,", "x=loud", "=", "info debug"] {
            let error = filter(bad).expect_err(bad);
            assert!(error.to_string().contains("--log-level"), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}

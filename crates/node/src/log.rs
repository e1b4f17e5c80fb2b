//! The log of every program: how it starts, and how its level changes while the program runs.

use std::fs::File;
use std::io::IsTerminal;
use std::path::Path;
use std::str::FromStr;
use std::sync::Mutex;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer as _, Registry, reload};

use crate::{AgentError, LogFormat};

/// A log file that is longer than this, in bytes, is set aside when its program starts.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// What is logged, as `--log-level` says it.
#[derive(Debug, Clone)]
pub struct LogFilter {
    text: String,
    targets: Targets,
}

impl LogFilter {
    /// The text that it was read from.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same, with everything that Navarch itself says down to DEBUG.
    fn detailed(&self) -> Targets {
        // A target stands for every crate whose name begins with it.
        self.targets
            .clone()
            .with_target("navarch", LevelFilter::DEBUG)
    }
}

impl FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad =
            "use error, warn, info, debug, trace or off, or TARGET=LEVEL pairs with commas between";
        // By itself the parser takes a word that is no level for a target.
        let is_level = |part: &str| {
            let level = part.rsplit('=').next().unwrap_or_default();
            !level.is_empty() && LevelFilter::from_str(level).is_ok()
        };
        if !text.split(',').all(is_level) {
            return Err(bad.to_owned());
        }
        Ok(Self {
            targets: Targets::from_str(text).map_err(|_| bad.to_owned())?,
            text: text.to_owned(),
        })
    }
}

/// Starts the log, on standard error or at the end of `file`; errors go to standard error in any
/// case, for whoever watches. A log that was started before stays as it is.
///
/// # Errors
///
/// The file cannot be opened.
pub fn start_logging(
    filter: &LogFilter,
    format: LogFormat,
    file: Option<&Path>,
) -> Result<LogLevel, AgentError> {
    let (layer, handle) = reload::Layer::new(filter.targets.clone());
    let writer = match file {
        Some(path) => BoxMakeWriter::new(Mutex::new(open(path)?)),
        None => BoxMakeWriter::new(std::io::stderr),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let errors = file.map(|_| {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .with_filter(LevelFilter::ERROR)
    });
    let registry = tracing_subscriber::registry().with(layer).with(errors);
    let _started = match format {
        LogFormat::Text => {
            let colour = file.is_none() && std::io::stderr().is_terminal();
            registry.with(lines.with_ansi(colour)).try_init()
        }
        LogFormat::Json => registry
            .with(lines.with_ansi(false).json().flatten_event(true))
            .try_init(),
    };
    Ok(LogLevel {
        filter: filter.clone(),
        handle,
    })
}

/// Opens a log file at its end, after setting a long one aside.
fn open(path: &Path) -> Result<File, AgentError> {
    if std::fs::metadata(path).is_ok_and(|log| log.len() > MAX_FILE_BYTES) {
        let aside = path.with_extension("log.1");
        std::fs::rename(path, aside).map_err(AgentError::io("rename", path))?;
    }
    let mut options = File::options();
    options.create(true).append(true);
    options.open(path).map_err(AgentError::io("open", path))
}

/// Changes what is logged while the program runs.
#[derive(Debug, Clone)]
pub struct LogLevel {
    filter: LogFilter,
    handle: reload::Handle<Targets, Registry>,
}

impl LogLevel {
    /// Logs everything that Navarch itself says, down to DEBUG.
    pub fn raise(&self) {
        if self.handle.reload(self.filter.detailed()).is_ok() {
            tracing::info!(log_level = "navarch=debug", "log level changed");
        }
    }

    /// Logs what the program was started with.
    pub fn restore(&self) {
        tracing::info!(log_level = self.filter.as_str(), "log level changed");
        // It fails only where another log was started first, and then there is nothing to change.
        let _other = self.handle.reload(self.filter.targets.clone());
    }

    /// Listens for SIGUSR1, which raises the level, and SIGUSR2, which restores it. The signals
    /// are heard from now on; what is returned acts on them and never ends.
    ///
    /// # Errors
    ///
    /// The system does not tell signals.
    #[cfg(unix)]
    pub fn follow_signals(self) -> Result<impl Future<Output = ()> + Send, AgentError> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(AgentError::Signals);
        let mut raise = listen(SignalKind::user_defined1())?;
        let mut restore = listen(SignalKind::user_defined2())?;
        Ok(async move {
            loop {
                tokio::select! {
                    Some(()) = raise.recv() => self.raise(),
                    Some(()) = restore.recv() => self.restore(),
                    else => return std::future::pending().await,
                }
            }
        })
    }

    /// Without these signals the level stays; what is returned never ends.
    ///
    /// # Errors
    ///
    /// None.
    #[cfg(not(unix))]
    pub fn follow_signals(self) -> Result<impl Future<Output = ()> + Send, AgentError> {
        Ok(std::future::pending())
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

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
            assert!(LogFilter::from_str(good).is_ok(), "{good}");
        }
        for bad in ["", "loud", "info,", "x=loud", "=", "info debug"] {
            let error = LogFilter::from_str(bad).expect_err(bad);
            assert!(error.contains("use error, warn"), "{error}");
        }
    }

    #[test]
    fn a_raised_level_is_ours_alone() {
        let cases = [
            ("info", "navarch_node::shell", Level::DEBUG, true),
            ("info", "navarch", Level::DEBUG, true),
            ("info", "navarch_node", Level::TRACE, false),
            ("info", "hyper::proto", Level::DEBUG, false),
            ("info", "hyper::proto", Level::INFO, true),
            ("off", "navarch_core", Level::DEBUG, true),
            ("warn,hyper=debug", "hyper::proto", Level::DEBUG, true),
        ];
        for (text, target, level, logged) in cases {
            let filter = LogFilter::from_str(text).expect("a good filter");
            assert_eq!(
                filter.detailed().would_enable(target, &level),
                logged,
                "{text} {target} {level}"
            );
        }
    }

    #[test]
    fn a_long_log_is_set_aside_when_it_is_opened() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("server.log");
        let write = |bytes: u64| {
            let file = File::create(&path).expect("a file");
            file.set_len(bytes).expect("room");
        };
        write(MAX_FILE_BYTES);
        drop(open(&path).expect("it opens"));
        let aside = directory.path().join("server.log.1");
        assert!(!aside.exists());
        write(MAX_FILE_BYTES + 1);
        let fresh = open(&path).expect("it opens");
        assert_eq!(fresh.metadata().expect("its data").len(), 0);
        assert!(aside.exists());
    }
}

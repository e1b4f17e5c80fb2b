//! The log of every program: how it starts, and how its level and format change while the program
//! runs.

use std::fmt;
use std::fs::File;
use std::io::IsTerminal;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{Format, Full, Json, Writer};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
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

/// Writes records as text or as JSON, whichever is chosen at the time.
struct Lines {
    text: Format<Full>,
    json: Format<Json>,
    as_json: Arc<AtomicBool>,
}

impl Lines {
    fn new(as_json: Arc<AtomicBool>) -> Self {
        // The spans of libraries are written as text when they begin, and would be no JSON later.
        let json = tracing_subscriber::fmt::format().json().flatten_event(true);
        Self {
            text: tracing_subscriber::fmt::format(),
            json: json.with_current_span(false).with_span_list(false),
            as_json,
        }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.as_json.load(Ordering::Relaxed) {
            self.json.format_event(context, writer, event)
        } else {
            self.text.format_event(context, writer, event)
        }
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
) -> Result<LogSwitches, AgentError> {
    let (layer, handle) = reload::Layer::new(filter.targets.clone());
    let writer = match file {
        Some(path) => BoxMakeWriter::new(Mutex::new(open(path)?)),
        None => BoxMakeWriter::new(std::io::stderr),
    };
    let as_json = Arc::new(AtomicBool::new(format == LogFormat::Json));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(file.is_none() && std::io::stderr().is_terminal())
        .event_format(Lines::new(Arc::clone(&as_json)));
    let errors = file.map(|_| {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .with_filter(LevelFilter::ERROR)
    });
    let _started = tracing_subscriber::registry()
        .with(layer)
        .with(errors)
        .with(lines)
        .try_init();
    Ok(LogSwitches {
        detailed: false,
        as_json,
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

/// Changes what is logged, and how, while the program runs.
#[derive(Debug)]
pub struct LogSwitches {
    detailed: bool,
    as_json: Arc<AtomicBool>,
    filter: LogFilter,
    handle: reload::Handle<Targets, Registry>,
}

impl LogSwitches {
    /// Logs everything that Navarch itself says down to DEBUG, or again what the program was
    /// started with. The change itself is said at a level at which it shows.
    fn switch_level(&mut self) {
        self.detailed = !self.detailed;
        // Nothing is loaded where another log was started first, and then nothing changes.
        if self.detailed {
            let _other = self.handle.reload(self.filter.detailed());
            tracing::info!(log_level = "navarch=debug", "log level changed");
        } else {
            tracing::info!(log_level = self.filter.as_str(), "log level changed");
            let _other = self.handle.reload(self.filter.targets.clone());
        }
    }

    /// Writes JSON from now on, or text if it was JSON until now.
    fn switch_format(&mut self) {
        let was_json = self.as_json.fetch_xor(true, Ordering::Relaxed);
        let format = if was_json {
            LogFormat::Text
        } else {
            LogFormat::Json
        };
        tracing::info!(log_format = format.word(), "log format changed");
    }

    /// Listens for SIGUSR1, which switches the level, and SIGUSR2, which switches the format. The
    /// signals are heard from now on; what is returned acts on them and never ends.
    ///
    /// # Errors
    ///
    /// The system does not tell signals.
    #[cfg(unix)]
    pub fn follow_signals(mut self) -> Result<impl Future<Output = ()> + Send, AgentError> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(AgentError::Signals);
        let mut level = listen(SignalKind::user_defined1())?;
        let mut format = listen(SignalKind::user_defined2())?;
        Ok(async move {
            loop {
                tokio::select! {
                    Some(()) = level.recv() => self.switch_level(),
                    Some(()) = format.recv() => self.switch_format(),
                    else => return std::future::pending().await,
                }
            }
        })
    }

    /// Without these signals nothing changes; what is returned never ends.
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

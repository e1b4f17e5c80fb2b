//! Log records on standard error, or in a file.

use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::args::{Global, LogFormat};
use crate::client::Failure;

/// Begins to log. With a file, records go there instead of standard error.
pub fn start(global: &Global, file: Option<&Path>) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&global.log_level)
        .map_err(|error| Failure::Usage(format!("--log-level {:?}: {error}", global.log_level)))?;
    let writer = match file {
        Some(path) => {
            let file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path);
            let file = file.map_err(|error| Failure::File(path.to_owned(), error))?;
            BoxMakeWriter::new(Mutex::new(file))
        }
        None => BoxMakeWriter::new(std::io::stderr),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    match global.log_format {
        LogFormat::Json => builder.json().flatten_event(true).with_ansi(false).init(),
        LogFormat::Text => builder.with_ansi(false).init(),
    }
    Ok(())
}

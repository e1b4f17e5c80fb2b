//! Log records on standard error, or in a file.

use std::path::Path;

use crate::args::Global;
use crate::client::Failure;

/// Begins to log. With a file, records go there instead of standard error. What is returned lets
/// the log follow its signals, and never ends.
pub fn start(
    global: &Global,
    file: Option<&Path>,
) -> Result<impl Future<Output = ()> + Send + use<>, Failure> {
    navarch_node::start_logging(&global.log_level, global.log_format, file)
        .and_then(navarch_node::LogSwitches::follow_signals)
        .map_err(|error| Failure::Said(error.to_string()))
}

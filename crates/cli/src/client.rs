//! The connection to a control plane, and everything that can go wrong with a command.

use std::path::PathBuf;

use navarch_api::{AddressError, Client, ClientError, Code, wire};

use crate::args::Global;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The address cannot be used.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The control plane refused, or could not be asked.
    #[error("failed to {doing}: {error}{hint}")]
    Call {
        /// What was tried.
        doing: &'static str,
        /// What went wrong.
        error: ClientError,
        /// What may help.
        hint: String,
    },
    /// The words of the command are off.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be used.
    #[error("{}: {}", .0.display(), .1)]
    File(PathBuf, std::io::Error),
    /// The system refused something.
    #[error(transparent)]
    Io(std::io::Error),
    /// Something said for itself what is wrong.
    #[error("{0}")]
    Said(String),
    /// Everything was said already.
    #[error("")]
    Quiet,
}

/// Names what was tried when a call fails.
pub trait Doing<T> {
    /// Names what was tried.
    fn doing(self, doing: &'static str) -> Result<T, Failure>;
}

impl<T> Doing<T> for Result<T, ClientError> {
    fn doing(self, doing: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure::Call {
            doing,
            error,
            hint: String::new(),
        })
    }
}

/// A client for the flags.
pub fn connect(global: &Global) -> Result<Client, Failure> {
    Ok(Client::builder(global.server.as_str())
        .token(global.token.clone())
        .ca_file(global.ca_file.clone())
        .timeout(global.timeout)
        .build()?)
}

/// Adds the nearest known names to "node not found".
pub async fn suggest(client: &Client, node: &str, failure: Failure) -> Failure {
    let Failure::Call { doing, error, .. } = failure else {
        return failure;
    };
    let mut hint = String::new();
    if error.code == Code::NotFound
        && let Ok(known) = client.list_nodes(wire::ListNodesRequest::default()).await
    {
        let mut near: Vec<(usize, String)> = known
            .nodes
            .into_iter()
            .map(|known| (strsim::levenshtein(node, &known.node_id), known.node_id))
            .collect();
        near.sort();
        let names: Vec<String> = near.into_iter().take(3).map(|(_, name)| name).collect();
        if !names.is_empty() {
            hint = format!("\nThe nearest known nodes: {}", names.join(", "));
        }
    }
    Failure::Call { doing, error, hint }
}

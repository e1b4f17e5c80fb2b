//! The fake cloud's JSON: what its API takes and answers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use navarch_model::{CapacityKind, CloudStatus, Offer, ProviderError, ProviderErrorKind, ids};
use serde::{Deserialize, Serialize};

/// The most GPUs of one machine.
const MAX_GPUS: u32 = 64;
/// The most tags, and the most labels, of one machine.
const MAX_PAIRS: usize = 64;
/// The longest value of a tag or label, in bytes.
const MAX_VALUE_BYTES: usize = 1024;
/// The longest server URL and the longest token, in bytes.
const MAX_ACCESS_BYTES: usize = 4096;

/// A wish for a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchRequest {
    /// Two requests with one token make one machine.
    pub client_token: String,
    /// No two machines that are not terminated share a name.
    pub name: String,
    /// Tags to list by.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The region, empty if none.
    #[serde(default)]
    pub region: String,
    /// The zone, empty if none.
    #[serde(default)]
    pub zone: String,
    /// The machine type.
    pub instance_type: String,
    /// How firmly it is rented.
    #[serde(default, skip_serializing_if = "is_on_demand")]
    pub capacity: CapacityKind,
    /// How many fake GPUs it has.
    pub gpus: u32,
    /// The agent to start on it. Without one the machine runs nothing.
    #[serde(default)]
    pub agent: Option<AgentSpec>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_on_demand(kind: &CapacityKind) -> bool {
    *kind == CapacityKind::OnDemand
}

/// How the agent of a machine is started.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// The control plane's URL. Empty for the default of an embedded cloud.
    #[serde(default)]
    pub server: String,
    /// The bearer token for it.
    #[serde(default)]
    pub token: Option<String>,
    /// A file of this machine with the certificate authorities to trust for it, instead of the
    /// system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The node id and the instance id.
    pub instance_id: String,
    /// The provider's configured name.
    pub provider: String,
    /// The pool.
    pub pool: String,
    /// The machine's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl std::fmt::Debug for AgentSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentSpec")
            .field("server", &self.server)
            .field("instance_id", &self.instance_id)
            .field("provider", &self.provider)
            .field("pool", &self.pool)
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

impl LaunchRequest {
    /// Says which field makes no sense, and why.
    pub(crate) fn check(&self) -> Result<(), String> {
        id("client_token", &self.client_token)?;
        id("name", &self.name)?;
        id("instance_type", &self.instance_type)?;
        for (field, text) in [("region", &self.region), ("zone", &self.zone)] {
            if !text.is_empty() {
                id(field, text)?;
            }
        }
        pairs("tags", &self.tags)?;
        if self.gpus > MAX_GPUS {
            return Err(format!("gpus: is {}; the most is {MAX_GPUS}", self.gpus));
        }
        let Some(agent) = &self.agent else {
            return Ok(());
        };
        id("agent.instance_id", &agent.instance_id)?;
        id("agent.provider", &agent.provider)?;
        id("agent.pool", &agent.pool)?;
        pairs("agent.labels", &agent.labels)?;
        let server = &agent.server;
        let http = server.starts_with("http://") || server.starts_with("https://");
        if !server.is_empty() && !http {
            return Err("agent.server: must be a URL that begins http:// or https://".to_owned());
        }
        let token = agent.token.as_deref().unwrap_or_default();
        for (field, text) in [("agent.server", server.as_str()), ("agent.token", token)] {
            if text.len() > MAX_ACCESS_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(format!(
                    "{field}: must be at most {MAX_ACCESS_BYTES} visible ASCII characters"
                ));
            }
        }
        let path = agent
            .ca_file
            .as_ref()
            .map(|path| path.as_os_str().as_encoded_bytes());
        if path.is_some_and(|path| path.len() > MAX_ACCESS_BYTES || path.contains(&0)) {
            return Err(format!(
                "agent.ca_file: must be at most {MAX_ACCESS_BYTES} bytes without NUL"
            ));
        }
        Ok(())
    }
}

pub(crate) fn id(field: &str, text: &str) -> Result<(), String> {
    ids::check_id(text).map_err(|problem| format!("{field}: {problem}"))
}

fn pairs(field: &str, pairs: &BTreeMap<String, String>) -> Result<(), String> {
    if pairs.len() > MAX_PAIRS {
        return Err(format!(
            "{field}: has {} entries; the most is {MAX_PAIRS}",
            pairs.len()
        ));
    }
    for (key, value) in pairs {
        ids::check_id(key).map_err(|problem| format!("{field}: the key {key:?} {problem}"))?;
        if value.len() > MAX_VALUE_BYTES || value.chars().any(char::is_control) {
            return Err(format!(
                "{field}.{key}: must be at most {MAX_VALUE_BYTES} bytes without control characters"
            ));
        }
    }
    Ok(())
}

/// A machine as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceView {
    /// The cloud's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The token that it was asked for with.
    pub client_token: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Its region.
    pub region: String,
    /// Its zone.
    pub zone: String,
    /// Its type.
    pub instance_type: String,
    /// How firmly it is rented.
    #[serde(default, skip_serializing_if = "is_on_demand")]
    pub capacity: CapacityKind,
    /// When the cloud takes it back, once it said so: microseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interruption_at: Option<i64>,
    /// What the cloud says of it.
    pub status: CloudStatus,
    /// When it was made, in microseconds since the Unix epoch.
    pub created_at: i64,
}

/// What the cloud sells, as it is listed; no list where everything is sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offers {
    pub(crate) offers: Option<Vec<Offer>>,
}

/// Which machines to list, and from where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageQuery {
    /// Where to go on, as the page before said; empty for the first page.
    pub page_token: String,
    /// The most machines on the page; 0 for the usual 100.
    pub page_size: usize,
    /// Tags that machines must carry.
    pub tags: Vec<(String, String)>,
    /// The name that the machine must have. A query by name is a look at one machine, not a
    /// listing, and meets the faults of the former.
    pub name: Option<String>,
}

/// One page of machines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The machines, in the order they were made.
    pub instances: Vec<InstanceView>,
    /// Where to go on; empty after the last page.
    #[serde(default)]
    pub next_page_token: String,
}

/// The body of every answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) error: ErrorView,
}

/// An error as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ErrorView {
    pub(crate) kind: ProviderErrorKind,
    pub(crate) message: String,
}

impl From<&ProviderError> for ErrorBody {
    fn from(error: &ProviderError) -> Self {
        Self {
            error: ErrorView {
                kind: error.kind,
                message: error.message.clone(),
            },
        }
    }
}

/// Where a listing goes on, as text `after.last.as_of` with `-` for what is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageToken {
    /// The serial number of the last machine shown.
    pub(crate) after: u64,
    /// The serial number after which the listing ends.
    pub(crate) last: Option<u64>,
    /// The moment that the listing shows, in microseconds since the Unix epoch.
    pub(crate) as_of: Option<i64>,
}

impl PageToken {
    /// The text of the token whose page fails.
    pub(crate) const BROKEN: &str = "broken";

    pub(crate) fn parse(text: &str) -> Option<Self> {
        fn open<T: std::str::FromStr>(text: &str) -> Option<Option<T>> {
            match text {
                "-" => Some(None),
                text => text.parse().ok().map(Some),
            }
        }
        let mut parts = text.split('.');
        let token = Self {
            after: parts.next()?.parse().ok()?,
            last: open(parts.next()?)?,
            as_of: open(parts.next()?)?,
        };
        parts.next().is_none().then_some(token)
    }
}

impl std::fmt::Display for PageToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.after)?;
        match self.last {
            Some(last) => write!(f, ".{last}")?,
            None => write!(f, ".-")?,
        }
        match self.as_of {
            Some(as_of) => write!(f, ".{as_of}"),
            None => write!(f, ".-"),
        }
    }
}

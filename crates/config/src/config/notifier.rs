//! Who is told when a node may or may not take work.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::{maybe_path, seconds};
use crate::duration;
use crate::secret::Secret;
use crate::url::Url;

/// The scheduler that is told when a node may or may not take work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifierConfig {
    /// How long an operator's command waits for the scheduler's answer.
    pub timeout: Duration,
    /// The receiver of notices; none means that nobody is told.
    pub webhook: Option<WebhookConfig>,
}

impl NotifierConfig {
    /// A fingerprint of where the receiver's URLs lead, which is the same in every process and tells
    /// nothing of them; zero without a receiver. Queries do not count: a token that is changed there
    /// leads to the same receiver.
    #[must_use]
    pub fn receiver(&self) -> u64 {
        let Some(webhook) = &self.webhook else {
            return 0;
        };
        let urls = [
            &webhook.cordon_url,
            &webhook.uncordon_url,
            &webhook.drain_url,
            &webhook.drain_status_url,
        ];
        // FNV-1a, with an end to each URL that none can have in it.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for url in urls {
            let text = url.as_ref().map_or("", Url::target).bytes();
            for byte in text.chain([0]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        hash
    }

    /// Longest time that one call may take.
    #[must_use]
    pub fn call_timeout(&self) -> Duration {
        self.webhook
            .as_ref()
            .map_or(self.timeout, |webhook| webhook.timeout)
    }
}

impl Default for NotifierConfig {
    fn default() -> Self {
        Self {
            timeout: seconds(10),
            webhook: None,
        }
    }
}

impl Serialize for NotifierConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("NotifierConfig", 3)?;
        let kind = if self.webhook.is_some() {
            "webhook"
        } else {
            "noop"
        };
        fields.serialize_field("type", kind)?;
        fields.serialize_field("timeout", &duration::compact(self.timeout))?;
        match &self.webhook {
            Some(webhook) => fields.serialize_field("webhook", webhook)?,
            None => fields.skip_field("webhook")?,
        }
        fields.end()
    }
}

/// A receiver of notices over HTTP. A URL that is missing means that such calls are not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WebhookConfig {
    /// Where cordons are posted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cordon_url: Option<Url>,
    /// Where uncordons are posted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncordon_url: Option<Url>,
    /// Where drains are posted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_url: Option<Url>,
    /// Where it is asked whether a node is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_status_url: Option<Url>,
    /// Longest time for one call.
    #[serde(serialize_with = "duration::serialize")]
    pub timeout: Duration,
    /// Headers of every call.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// File with the secret that signs notices.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "maybe_path")]
    pub secret_file: Option<PathBuf>,
    /// Environment variable with the secret that signs notices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_env: Option<String>,
}

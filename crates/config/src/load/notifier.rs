//! Reading of the section about the notifier.

use std::time::Duration;

use super::server::SHORTEST_INTERVAL;
use super::urls;
use crate::config::{NotifierConfig, WebhookConfig};
use crate::duration::compact;
use crate::fields::Fields;

/// The longest that a command or a call may wait for a scheduler.
const LONGEST: Duration = Duration::from_secs(600);

/// How long the command line waits for an answer unless it is told otherwise.
const CALLER_PATIENCE: Duration = Duration::from_secs(30);

/// What the way there and back may take beside the scheduler.
const GAP: Duration = Duration::from_secs(5);

pub(super) fn notifier(fields: &Fields<'_>, request_timeout: Duration) -> NotifierConfig {
    let default = NotifierConfig::default();
    let errors = fields.log().error_count();
    let is_webhook = fields
        .word("type", &[("noop", false), ("webhook", true)])
        .unwrap_or(false);
    let timeout = fields
        .duration("timeout", SHORTEST_INTERVAL..=LONGEST)
        .unwrap_or(default.timeout);
    let counts = fields.has("timeout") || is_webhook;
    if counts && fields.log().error_count() == errors && timeout >= request_timeout {
        fields.fail(
            "timeout",
            format!(
                "{} is not shorter than server.limits.request_timeout ({}): the caller would be \
                 cut off before the scheduler's answer",
                compact(timeout),
                compact(request_timeout)
            ),
        );
    }
    if counts && timeout > CALLER_PATIENCE - GAP {
        let message = format!(
            "{}: the command line waits {} for an answer: call it with --timeout, or use {} at most",
            fields.path_of("timeout"),
            compact(CALLER_PATIENCE),
            compact(CALLER_PATIENCE - GAP)
        );
        fields.log().warn(fields.at("timeout"), message);
    }
    let webhook = webhook(
        &fields.section("webhook"),
        is_webhook && fields.has("webhook"),
    );
    if is_webhook && !fields.has("webhook") {
        fields.fail(
            "type",
            "webhook needs a section webhook beside it with cordon_url, uncordon_url, drain_url \
             and drain_status_url",
        );
    }
    if !is_webhook && fields.has("webhook") && fields.log().error_count() == errors {
        let message = format!(
            "{} has no effect: {} is not webhook",
            fields.path_of("webhook"),
            fields.path_of("type")
        );
        fields.log().warn(fields.at("webhook"), message);
    }
    NotifierConfig {
        timeout,
        webhook: is_webhook.then_some(webhook),
    }
}

fn webhook(fields: &Fields<'_>, is_used: bool) -> WebhookConfig {
    let url = |key: &str| urls::endpoint(fields, key);
    let posts = ["cordon_url", "uncordon_url", "drain_url"];
    let status = "drain_status_url";
    if is_used && !fields.is_broken() {
        if posts.iter().all(|key| !fields.has(key)) {
            fields.fail(
                posts[0],
                "required: a webhook without cordon_url, uncordon_url and drain_url tells nobody \
                 anything",
            );
        } else {
            for key in posts.into_iter().chain([status]) {
                if !fields.has(key) {
                    let what = match key {
                        "cordon_url" => "cordons are not told",
                        "uncordon_url" => "the scheduler is never told to use a node again",
                        "drain_url" => "drains are not told",
                        _ => "a node counts as empty once the scheduler took its drain",
                    };
                    let path = fields.path_of(key);
                    let message = format!("{path} is not set: {what}");
                    fields.log().warn(fields.start(), message);
                }
            }
        }
    }
    let secret_file = fields.path("secret_file");
    let secret_env = fields.text("secret_env").filter(|name| {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let sound = name.chars().all(legal) && !name.starts_with(|c: char| c.is_ascii_digit());
        if !sound {
            // The value may be a secret in the wrong place, so it is not shown.
            fields.fail(
                "secret_env",
                "expected the name of an environment variable: letters, digits and _; the secret \
                 itself does not belong in this file",
            );
        }
        sound
    });
    if fields.has("secret_file") && fields.has("secret_env") {
        fields.fail(
            "secret_file",
            "secret_env is set too: keep one source of the secret",
        );
    }
    WebhookConfig {
        cordon_url: url("cordon_url"),
        uncordon_url: url("uncordon_url"),
        drain_url: url("drain_url"),
        drain_status_url: url(status),
        timeout: fields
            .duration("timeout", SHORTEST_INTERVAL..=LONGEST)
            .unwrap_or(Duration::from_secs(30)),
        headers: fields.headers("headers"),
        secret_file,
        secret_env,
    }
}

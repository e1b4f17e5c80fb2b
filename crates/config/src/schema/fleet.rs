//! The keys of providers and pools.

use super::autoscaling::AUTOSCALING;
use super::keys::{planned, refused, renamed, section, works};
use super::{Form, Section};

/// The types of providers that exist; only the first works in this build.
pub(crate) const PROVIDER_TYPES: &[&str] = &["fake", "lambda", "gcp", "aws", "docker"];

pub(super) static PROVIDER: Section = Section {
    about: "The clouds, by a name of your choice.",
    keys: &[
        works(
            "type",
            Form::Word(&["fake"]),
            "",
            "The kind of cloud; absent means the provider's name, when that is a type.",
        ),
        works("gpu_count", Form::Number, "8", "GPUs of each fake machine."),
        works(
            "url",
            Form::Text,
            "",
            "URL of a fake cloud of its own; absent runs it inside the server.",
        ),
        works(
            "request_timeout",
            Form::Duration,
            "30s",
            "Longest wait for one call of the cloud's API.",
        ),
        works(
            "requests_per_second",
            Form::Number,
            "10",
            "Calls per second at most.",
        ),
        works(
            "parallel_requests",
            Form::Number,
            "8",
            "Calls in flight at most.",
        ),
        planned("api_key_env"),
        planned("project"),
        planned("zone"),
        planned("region"),
        refused(
            "api_key_secret",
            "secret stores are not supported; put the key in the environment and name the variable with api_key_env",
        ),
        refused(
            "credentials_secret",
            "secret stores are not supported; provide credentials through the cloud's own environment variables",
        ),
        refused(
            "credentials_file",
            "provide credentials through the cloud's own environment variables",
        ),
        refused(
            "api_key",
            "a secret does not belong in this file; put the key in the environment and name the variable with api_key_env",
        ),
    ],
};

pub(super) static POOL: Section = Section {
    about: "The pools of machines, by name.",
    keys: &[
        works(
            "provider",
            Form::Text,
            "",
            "Required. Name of a provider of this file.",
        ),
        works(
            "instance_type",
            Form::Text,
            "",
            "Required. The cloud's name of the machine type.",
        ),
        works("region", Form::Text, "local", "The cloud's region."),
        works("zone", Form::Text, "", "The zone within the region."),
        works(
            "min_nodes",
            Form::Number,
            "0",
            "Least number of machines, kept with or without autoscaling.",
        ),
        works(
            "max_nodes",
            Form::Number,
            "",
            "Required. Greatest number of machines.",
        ),
        works(
            "max_surge",
            Form::Number,
            "guards.max_surge",
            "Machines above max_nodes while one is replaced; 0 terminates first.",
        ),
        works(
            "budget",
            Form::Budget,
            "guards.budget",
            "Nodes of the pool under disruption at once; 0 means never.",
        ),
        works(
            "max_launches_per_hour",
            Form::Number,
            "max(10, max_nodes)",
            "Launches per hour.",
        ),
        works(
            "automation",
            Form::Word(&["on", "observe", "off"]),
            "on",
            "Whether the control plane acts on its own, only says what it would do, or neither.",
        ),
        works(
            "labels",
            Form::Labels,
            "",
            "Labels of the pool's nodes; pool is always the pool's name.",
        ),
        works(
            "cooldown",
            Form::Paces,
            "5m",
            "Time after a change of the size before an autoscaler changes it again: growth waits after growth, shrinking after both.",
        ),
        section("autoscaling", &AUTOSCALING),
        renamed("cooldown_period", "cooldown"),
        renamed("autoscaler", "autoscaling"),
        section("health", &POOL_HEALTH),
        planned("providers"),
        planned("strategy"),
        planned("zones"),
        planned("ssh_keys"),
        planned("ssh_user"),
        planned("ssh_private_key_path"),
        planned("setup_commands"),
        planned("file_uploads"),
        planned("scaling"),
        planned("ip_wait_timeout"),
        planned("ssh_timeout"),
        planned("ssh_connect_timeout"),
        planned("command_timeout"),
    ],
};

static POOL_HEALTH: Section = Section {
    about: "How faults of the pool's nodes are handled.",
    keys: &[
        works(
            "unhealthy_after",
            Form::Number,
            "guards.unhealthy_after",
            "Unhealthy full reports in a row before a condition is repaired.",
        ),
        works(
            "auto_replace",
            Form::Flag,
            "true",
            "Whether faulty machines are replaced; false still opens and ends incidents.",
        ),
        works(
            "recovery",
            Form::Word(&["automatic", "manual"]),
            "automatic",
            "Whether evidence of health ends a condition, or only an operator.",
        ),
        works(
            "recover_after",
            Form::Number,
            "guards.recover_after",
            "Healthy full reports in a row that end a condition.",
        ),
        works(
            "silence_replace_after",
            Form::DurationOrNever,
            "guards.silence_replace_after",
            "Silence after which a node may be replaced without a word from the cloud.",
        ),
        renamed("unhealthy_threshold", "unhealthy_after"),
    ],
};

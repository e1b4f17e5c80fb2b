//! The keys of providers and pools.

use super::autoscaling::AUTOSCALING;
use super::keys::{moved, no_effect, planned, refused, renamed, section, to, works};
use super::{Form, Key, Section};

/// Why the keys of the set-up over SSH do nothing yet.
const SSH: &str = "this build has no cloud whose machines are set up over SSH";

/// Why the keys of other clouds do nothing yet.
const CLOUD: &str = "no cloud of this build reads it";

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
        no_effect(
            "api_key_env",
            Form::Text,
            "",
            "Environment variable with the key of the cloud's API.",
            CLOUD,
        ),
        no_effect(
            "project",
            Form::Text,
            "",
            "The project within the cloud.",
            CLOUD,
        ),
        no_effect(
            "zone",
            Form::Text,
            "",
            "The zone of pools that name none.",
            CLOUD,
        ),
        no_effect(
            "region",
            Form::Text,
            "",
            "The region of pools that name none.",
            CLOUD,
        ),
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

// Keys that pools and their defaults share.
const SSH_KEYS: Key = no_effect(
    "ssh_keys",
    Form::Texts,
    "",
    "Names of the SSH keys that the cloud puts on the machines.",
    SSH,
);

const SSH_USER: Key = no_effect("ssh_user", Form::Text, "ubuntu", "User of the set-up.", SSH);

const SSH_PRIVATE_KEY_PATH: Key = no_effect(
    "ssh_private_key_path",
    Form::Text,
    "",
    "File with the private key of the set-up; required with setup_commands.",
    SSH,
);

const IP_WAIT_TIMEOUT: Key = no_effect(
    "ip_wait_timeout",
    Form::Duration,
    "15m",
    "Longest wait for a new machine's address.",
    SSH,
);

const SSH_TIMEOUT: Key = no_effect(
    "ssh_timeout",
    Form::Duration,
    "10m",
    "Longest wait until a new machine takes an SSH connection.",
    SSH,
);

const SSH_CONNECT_TIMEOUT: Key = no_effect(
    "ssh_connect_timeout",
    Form::Duration,
    "30s",
    "Longest wait for one try to connect.",
    SSH,
);

const COMMAND_TIMEOUT: Key = no_effect(
    "command_timeout",
    Form::Duration,
    "5m",
    "Longest time for one of the setup_commands.",
    SSH,
);

const COOLDOWN: Key = works(
    "cooldown",
    Form::Paces,
    "5m",
    "Time after a change of the size before an autoscaler changes it again: growth waits after growth, shrinking after both.",
);

pub(super) static POOL: Section = Section {
    about: "The pools of machines, by name.",
    keys: &[
        works(
            "provider",
            Form::Text,
            "",
            "Name of a provider of this file. This or `providers` is required.",
        ),
        works("providers", Form::List(&CANDIDATE), "", CANDIDATE.about),
        works(
            "strategy",
            Form::Word(&["priority", "cost", "availability", "round-robin"]),
            "priority",
            "How the offering of the next machine is chosen.",
        ),
        works(
            "instance_type",
            Form::Text,
            "",
            "The machine type: the cloud's name, or one such as `h100-8x` that holds for several. Required unless each of `providers` has one.",
        ),
        works("region", Form::Text, "local", "The cloud's region."),
        works(
            "regions",
            Form::Texts,
            "",
            "Several regions, in the order in which they are tried.",
        ),
        works(
            "zone",
            Form::Text,
            "",
            "The zone within the region; absent lets the cloud choose.",
        ),
        works(
            "zones",
            Form::Texts,
            "",
            "Several zones, in the order in which they are tried.",
        ),
        works(
            "capacity",
            Form::Word(&["on_demand", "spot"]),
            "on_demand",
            "Whether machines are rented until they are let go, or until the cloud wants them back.",
        ),
        works(
            "max_price",
            Form::Price,
            "",
            "The most that a machine may cost. What has no known price is not bought then.",
        ),
        works(
            "parallel_launches",
            Form::Number,
            "",
            "Launches under way at a time; absent means no limit beside the provider's own.",
        ),
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
            "Labels of the pool's nodes; pool is always the pool's name. A change counts for machines bought from now on.",
        ),
        COOLDOWN,
        section("autoscaling", &AUTOSCALING),
        renamed("cooldown_period", "cooldown"),
        renamed("autoscaler", "autoscaling"),
        section("health", &POOL_HEALTH),
        section("drain_deadline", &POOL_DRAIN),
        SSH_KEYS,
        SSH_USER,
        SSH_PRIVATE_KEY_PATH,
        no_effect(
            "setup_commands",
            Form::Texts,
            "",
            "Commands that set a new machine up.",
            SSH,
        ),
        IP_WAIT_TIMEOUT,
        SSH_TIMEOUT,
        SSH_CONNECT_TIMEOUT,
        COMMAND_TIMEOUT,
        renamed("ssh_key_names", "ssh_keys"),
        planned("file_uploads"),
        moved(
            "scaling",
            &[
                to("min_nodes", "min_nodes"),
                to("max_nodes", "max_nodes"),
                to("cooldown", "cooldown"),
                to("cooldown_period", "cooldown"),
                to("autoscaler", "autoscaling"),
                to("autoscaling", "autoscaling"),
            ],
        ),
    ],
};

static POOL_DRAIN: Section = Section {
    about: "How long a drain of the control plane waits for the work of this pool to leave.",
    keys: &[
        works(
            "unhealthy",
            Form::Duration,
            "guards.drain_deadline.unhealthy",
            "For an unhealthy node.",
        ),
        works(
            "degraded",
            Form::Duration,
            "voluntary, or guards.drain_deadline.degraded",
            "For a degraded node that is not needed.",
        ),
        works(
            "voluntary",
            Form::Duration,
            "guards.drain_deadline.voluntary",
            "For a healthy node that is not needed.",
        ),
    ],
};

pub(super) static DEFAULTS: Section = Section {
    about: "What pools take that do not say it themselves, key by key; labels are put together.",
    keys: &[
        section("health", &POOL_HEALTH),
        works("labels", Form::Labels, "", "Labels of every pool's nodes."),
        section("drain_deadline", &POOL_DRAIN),
        SSH_KEYS,
        SSH_USER,
        SSH_PRIVATE_KEY_PATH,
        IP_WAIT_TIMEOUT,
        SSH_TIMEOUT,
        SSH_CONNECT_TIMEOUT,
        COMMAND_TIMEOUT,
        COOLDOWN,
        renamed("cooldown_period", "cooldown"),
        renamed("ssh_key_names", "ssh_keys"),
        renamed("unhealthy_threshold", "health.unhealthy_after"),
        renamed("unhealthy_after", "health.unhealthy_after"),
        renamed("auto_replace", "health.auto_replace"),
    ],
};

static CANDIDATE: Section = Section {
    about: "The providers that the pool buys at. What an entry leaves out is the pool's.",
    keys: &[
        works(
            "name",
            Form::Text,
            "",
            "Required. Name of a provider of this file.",
        ),
        works("priority", Form::Number, "0", "The lowest is asked first."),
        works(
            "weight",
            Form::Number,
            "1",
            "The share of the pool's machines, with the strategy `round-robin`.",
        ),
        works(
            "regions",
            Form::Texts,
            "",
            "The regions, in the order in which they are tried.",
        ),
        works(
            "zones",
            Form::Texts,
            "",
            "The zones, in the order in which they are tried.",
        ),
        works("instance_type", Form::Text, "", "The machine type here."),
        works(
            "capacity",
            Form::Word(&["on_demand", "spot"]),
            "",
            "How machines are rented here.",
        ),
        works(
            "max_price",
            Form::Price,
            "",
            "The most that a machine may cost here.",
        ),
    ],
};

static POOL_HEALTH: Section = Section {
    about: "How faults of the pool's nodes are handled.",
    keys: &[
        works(
            "unhealthy_after",
            Form::Number,
            "guards.unhealthy_after",
            "Unhealthy full reports of a condition that did not end in between before it is repaired.",
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
            "Full reports in a row, with nothing that its check finds, that end a condition.",
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

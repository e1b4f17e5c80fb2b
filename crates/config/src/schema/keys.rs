//! The tables of keys, one per section.

use super::{Form, Key, Section, Status};

const fn works(name: &'static str, form: Form, default: &'static str, about: &'static str) -> Key {
    Key {
        name,
        form,
        default,
        about,
        status: Status::Works,
    }
}

const fn section(name: &'static str, section: &'static Section) -> Key {
    works(name, Form::Section(section), "", section.about)
}

const fn planned(name: &'static str) -> Key {
    Key {
        name,
        form: Form::Text,
        default: "",
        about: "",
        status: Status::Planned,
    }
}

const fn renamed(name: &'static str, to: &'static str) -> Key {
    Key {
        name,
        form: Form::Text,
        default: "",
        about: "",
        status: Status::Renamed(to),
    }
}

const fn refused(name: &'static str, instead: &'static str) -> Key {
    Key {
        name,
        form: Form::Text,
        default: "",
        about: "",
        status: Status::Refused(instead),
    }
}

/// The top level of the file.
pub static ROOT: Section = Section {
    about: "The sections of the file.",
    keys: &[
        section("server", &SERVER),
        section("store", &STORE),
        section("instance_manager", &INSTANCE_MANAGER),
        section("guards", &GUARDS),
        section("planner", &PLANNER),
        works("providers", Form::Named(&PROVIDER), "", PROVIDER.about),
        works("pools", Form::Named(&POOL), "", POOL.about),
        planned("defaults"),
        refused(
            "global",
            "set the keys on each pool, and the intervals under server",
        ),
    ],
};

static SERVER: Section = Section {
    about: "The control plane's address, its intervals and how it grades health.",
    keys: &[
        works(
            "address",
            Form::Text,
            ":50051",
            "Where to listen, as host:port; an empty host means every interface.",
        ),
        works(
            "external_address",
            Form::Text,
            "",
            "URL at which agents reach the server, when it differs from the address.",
        ),
        works(
            "heartbeat_interval",
            Form::Duration,
            "30s",
            "How often an agent beats.",
        ),
        works(
            "heartbeat_timeout",
            Form::Duration,
            "3 × heartbeat_interval",
            "Silence after which a node is UNHEALTHY.",
        ),
        works(
            "health_check_interval",
            Form::Duration,
            "60s",
            "How often an agent sends a full health report.",
        ),
        Key {
            name: "autoscale_interval",
            form: Form::Duration,
            default: "30s",
            about: "How often a pool's size is decided.",
            status: Status::NoEffect("this build has no autoscaling"),
        },
        works(
            "health_policy",
            Form::Text,
            "",
            "File with health rules, relative to the working directory; absent means the built-in policy.",
        ),
        section("auth", &AUTH),
        section("limits", &LIMITS),
        planned("notifier"),
        planned("tls"),
        planned("coordinator"),
        refused(
            "grpc_port",
            "write the port in server.address, for example \":50051\"",
        ),
    ],
};

static AUTH: Section = Section {
    about: "Where the bearer token comes from. A token never stands in the file.",
    keys: &[
        works(
            "token_env",
            Form::Text,
            "NAVARCH_AUTH_TOKEN",
            "Environment variable with the token; unset means no authentication.",
        ),
        works(
            "token_file",
            Form::Text,
            "",
            "File with the token, instead of the environment.",
        ),
        planned("tokens"),
        refused(
            "token",
            "a secret does not belong in this file; put it in a file or in the environment and name that with token_file or token_env",
        ),
    ],
};

static LIMITS: Section = Section {
    about: "What one caller may cost the server.",
    keys: &[
        works(
            "max_request_bytes",
            Form::Number,
            "4194304",
            "Largest request body.",
        ),
        works(
            "request_timeout",
            Form::Duration,
            "30s",
            "Longest time for one request; streams are exempt.",
        ),
        works(
            "idle_timeout",
            Form::Duration,
            "max(90s, 3 × heartbeat_interval)",
            "Idle time after which a connection is closed; longer than the heartbeat interval.",
        ),
        works(
            "shutdown_timeout",
            Form::Duration,
            "4s",
            "Longest wait for open requests at shutdown.",
        ),
    ],
};

static STORE: Section = Section {
    about: "Where the fleet is kept.",
    keys: &[
        works(
            "type",
            Form::Word(&["sqlite"]),
            "sqlite",
            "The kind of store; sqlite is embedded.",
        ),
        works(
            "data_dir",
            Form::Text,
            "navarch-data",
            "Directory of the store, relative to the working directory.",
        ),
        works(
            "batch_rows",
            Form::Number,
            "200",
            "Rows after which a batch of changes is written.",
        ),
        works(
            "batch_wait",
            Form::Duration,
            "2ms",
            "Longest wait for more changes before a batch is written.",
        ),
        works(
            "terminated_kept",
            Form::Duration,
            "1h",
            "How long terminated nodes and instances stay listed.",
        ),
        planned("url"),
        planned("retention"),
        renamed("path", "data_dir"),
    ],
};

static INSTANCE_MANAGER: Section = Section {
    about: "How long a machine may take to come up.",
    keys: &[
        works(
            "launch_timeout",
            Form::Duration,
            "5m",
            "Longest wait for the cloud's answer to a launch; then its outcome is looked up.",
        ),
        works(
            "registration_timeout",
            Form::Duration,
            "10m",
            "Longest wait for a launched machine's agent; then the machine is terminated.",
        ),
        works(
            "stale_check_interval",
            Form::Duration,
            "1m",
            "How often instances with an unknown outcome are looked up.",
        ),
    ],
};

static GUARDS: Section = Section {
    about: "Limits on what the control plane does on its own, for the fleet and as defaults of pools.",
    keys: &[
        works(
            "budget",
            Form::Budget,
            "10%",
            "Nodes under disruption at once, rounded down and at least 1; 0 means never.",
        ),
        works(
            "max_surge",
            Form::Number,
            "1",
            "Machines that a pool may have above max_nodes while it replaces one.",
        ),
        works(
            "unhealthy_after",
            Form::Number,
            "2",
            "Unhealthy full reports in a row before a condition is repaired.",
        ),
        works(
            "recover_after",
            Form::Number,
            "1",
            "Healthy full reports in a row that end a condition.",
        ),
        works(
            "silence_replace_after",
            Form::DurationOrNever,
            "15m",
            "Silence after which a node may be replaced without a word from the cloud.",
        ),
        works(
            "stale_report_intervals",
            Form::Number,
            "3",
            "Health check intervals without a full report that are a condition of their own.",
        ),
        works(
            "small_fleet_nodes",
            Form::Number,
            "4",
            "Below this size small_fleet_wait stands in for the breaker.",
        ),
        works(
            "small_fleet_wait",
            Form::Duration,
            "10m",
            "In a small fleet, how long the last replacement must be ACTIVE before the next action on the same signature.",
        ),
        works(
            "max_launches_per_hour",
            Form::Number,
            "",
            "Launches per pool and hour; absent means the larger of 10 and the pool's max_nodes.",
        ),
        works(
            "minimum_life",
            Form::Duration,
            "10m",
            "Age before which a machine is not given up to shrink a pool.",
        ),
        works(
            "command_expiry",
            Form::Duration,
            "1h",
            "Age at which an unanswered command expires.",
        ),
        works(
            "repeat_fault_window",
            Form::Duration,
            "24h",
            "A second fault of a class on one GPU within this time needs the next stronger repair.",
        ),
        works(
            "pause_gap",
            Form::Duration,
            "5s",
            "Gap between turns of the loop that means the control plane itself was paused.",
        ),
        works(
            "clock_divergence",
            Form::Duration,
            "5s",
            "Divergence between wall time and monotonic time that is an event.",
        ),
        section("silence_witnesses", &WITNESSES),
        section("breaker", &BREAKER),
        section("launch_breaker", &LAUNCH_BREAKER),
        section("flapping", &FLAPPING),
        section("drain_deadline", &DRAIN_DEADLINE),
        section("terminate", &TERMINATE),
        section("sweep", &SWEEP),
    ],
};

static WITNESSES: Section = Section {
    about: "How many nodes must have stayed fresh before silence alone counts: the larger of both.",
    keys: &[
        works("count", Form::Number, "2", "Least number of nodes."),
        works(
            "percent",
            Form::Percent,
            "50%",
            "Least share of the nodes that were fresh when the silence began.",
        ),
    ],
};

static BREAKER: Section = Section {
    about: "Stops repair of one signature that many nodes show at once.",
    keys: &[
        section("threshold", &BREAKER_THRESHOLD),
        works(
            "window",
            Form::Duration,
            "10m",
            "Time in which the nodes are counted.",
        ),
        works(
            "wait",
            Form::Duration,
            "10m",
            "Quiet time before one node is acted on; it doubles with each failed try.",
        ),
        works(
            "max_wait",
            Form::Duration,
            "24h",
            "Limit of the doubling wait.",
        ),
        works(
            "confirm",
            Form::Duration,
            "10m",
            "How long the replacement must stay ACTIVE to close the breaker.",
        ),
    ],
};

static BREAKER_THRESHOLD: Section = Section {
    about: "More nodes than the larger of both open the breaker.",
    keys: &[
        works("count", Form::Number, "3", "Number of nodes."),
        works(
            "percent",
            Form::Percent,
            "10%",
            "Share of the pool or fleet, rounded down.",
        ),
    ],
};

static LAUNCH_BREAKER: Section = Section {
    about: "Stops buying at an offering whose machines never become ACTIVE.",
    keys: &[
        works(
            "failures",
            Form::Number,
            "3",
            "Paid launches in a row without an ACTIVE machine that open the breaker.",
        ),
        works(
            "wait",
            Form::Duration,
            "5m",
            "Wait before one launch is tried; it doubles with each failure.",
        ),
        works(
            "max_wait",
            Form::Duration,
            "1h",
            "Limit of the doubling wait.",
        ),
        works(
            "unproven_launches",
            Form::Number,
            "3",
            "Launches outstanding at an offering that has had no ACTIVE machine yet.",
        ),
    ],
};

static FLAPPING: Section = Section {
    about: "When a condition that comes and goes stays open.",
    keys: &[
        works(
            "reopens",
            Form::Number,
            "3",
            "More reopenings than this within the window are flapping.",
        ),
        works(
            "window",
            Form::Duration,
            "1h",
            "Time in which reopenings count, and the quiet time that ends flapping.",
        ),
    ],
};

static DRAIN_DEADLINE: Section = Section {
    about: "How long a drain of the control plane waits for the work to leave.",
    keys: &[
        works("unhealthy", Form::Duration, "10m", "For an unhealthy node."),
        works("degraded", Form::Duration, "24h", "For a degraded node."),
        works(
            "voluntary",
            Form::Duration,
            "24h",
            "For a healthy node that is not needed.",
        ),
    ],
};

static TERMINATE: Section = Section {
    about: "Termination never gives up; this paces it.",
    keys: &[
        works(
            "retry_wait",
            Form::Duration,
            "5s",
            "Wait before the second try; it doubles.",
        ),
        works(
            "retry_max_wait",
            Form::Duration,
            "5m",
            "Limit of the doubling wait.",
        ),
        works(
            "alert_after",
            Form::Duration,
            "15m",
            "Time without proof of the end after which a person is told.",
        ),
    ],
};

static SWEEP: Section = Section {
    about: "Comparison of each provider's inventory with the store.",
    keys: &[
        works(
            "interval",
            Form::Duration,
            "3m",
            "How often each provider is listed.",
        ),
        section("suspect", &SUSPECT),
    ],
};

static SUSPECT: Section = Section {
    about: "More machines than the larger of both, vanishing or appearing at once, make a listing suspect.",
    keys: &[
        works("count", Form::Number, "2", "Number of machines."),
        works(
            "percent",
            Form::Percent,
            "10%",
            "Share of the machines on record, rounded down.",
        ),
    ],
};

static PLANNER: Section = Section {
    about: "When plans are made.",
    keys: &[
        works(
            "min_interval",
            Form::Duration,
            "100ms",
            "Least time between two plans of the pools that changed.",
        ),
        works(
            "full_interval",
            Form::Duration,
            "1m",
            "Time between two plans of everything.",
        ),
    ],
};

/// The types of providers that exist; only the first works in this build.
pub(crate) const PROVIDER_TYPES: &[&str] = &["fake", "lambda", "gcp", "aws", "docker"];

static PROVIDER: Section = Section {
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

static POOL: Section = Section {
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
        section("health", &POOL_HEALTH),
        planned("providers"),
        planned("strategy"),
        planned("zones"),
        planned("ssh_keys"),
        planned("ssh_user"),
        planned("ssh_private_key_path"),
        planned("setup_commands"),
        planned("file_uploads"),
        planned("cooldown"),
        planned("cooldown_period"),
        planned("autoscaling"),
        planned("autoscaler"),
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

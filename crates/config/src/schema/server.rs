//! The keys of the top level and of the server itself.

use super::fleet::{DEFAULTS, POOL, PROVIDER};
use super::guards::GUARDS;
use super::keys::{moved, planned, refused, renamed, section, to, works};
use super::notifier::NOTIFIER;
use super::{Form, Key, Section};

/// The top level of the file.
pub static ROOT: Section = Section {
    about: "The sections of the file.",
    keys: &[
        section("server", &SERVER),
        section("store", &STORE).restart("the store is opened at the start"),
        section("instance_manager", &INSTANCE_MANAGER).live(),
        section("guards", &GUARDS).live(),
        section("planner", &PLANNER).restart("the loop takes its pace at the start"),
        works("providers", Form::Named(&PROVIDER), "", PROVIDER.about)
            .restart("providers are connected at the start"),
        works("pools", Form::Named(&POOL), "", POOL.about).live(),
        section("defaults", &DEFAULTS).live(),
        moved(
            "global",
            &[
                to("ssh_key_names", "defaults.ssh_keys"),
                to("agent.server", "server.external_address"),
                to("agent.heartbeat_interval", "server.heartbeat_interval"),
                to(
                    "agent.health_check_interval",
                    "server.health_check_interval",
                ),
            ],
        ),
    ],
};

static SERVER: Section = Section {
    about: "The control plane's address, its intervals and how it grades health.",
    keys: &SERVER_KEYS,
};

/// The keys of the section, which scenarios have with other defaults.
pub(super) const SERVER_KEYS: [Key; 13] = [
        works(
            "address",
            Form::Text,
            ":50051",
            "Where to listen, as host:port; an empty host, or the port alone, means every interface.",
        )
        .restart("the server listens on it from its start"),
        works(
            "external_address",
            Form::Text,
            "",
            "URL at which agents reach the server, when it differs from the address.",
        )
        .restart("running machines were started with it"),
        works(
            "heartbeat_interval",
            Form::Duration,
            "30s",
            "How often an agent beats.",
        )
        .restart("running agents keep the interval that they were given"),
        works(
            "heartbeat_timeout",
            Form::Duration,
            "3 × heartbeat_interval",
            "Silence after which a node is UNHEALTHY.",
        )
        .live(),
        works(
            "health_check_interval",
            Form::Duration,
            "60s",
            "How often an agent sends a full health report.",
        )
        .restart("running agents keep the interval that they were given"),
        works(
            "autoscale_interval",
            Form::Duration,
            "30s",
            "How often autoscalers measure and decide.",
        )
        .live(),
        works(
            "health_policy",
            Form::Text,
            "",
            "File with health rules, relative to the working directory; absent means the built-in policy.",
        )
        .live(),
        section("auth", &AUTH).live(),
        section("limits", &LIMITS).restart("connections take their limits at the start"),
        section("tls", &TLS).restart("the listener takes its files at the start, and reads them again when they change"),
        section("notifier", &NOTIFIER).live(),
        renamed("coordinator", "notifier"),
        renamed("grpc_port", "address"),
];

static AUTH: Section = Section {
    about: "Which bearer tokens callers show. A token never stands in the file.",
    keys: &[
        works(
            "token_env",
            Form::Text,
            "NAVARCH_AUTH_TOKEN",
            "Environment variable with the one token that may do everything; unset means no authentication. Without effect by default once tokens is set.",
        ),
        works(
            "token_file",
            Form::Text,
            "",
            "File with that token, instead of the environment.",
        ),
        works("tokens", Form::Named(&TOKEN), "", TOKEN.about),
        refused("token", SECRET),
    ],
};

const SECRET: &str = "a secret does not belong in this file; put it in a file or in the environment and name that with token_file or token_env";

static TOKEN: Section = Section {
    about: "Tokens with a role each, by the name that events show. They are read again at each reload.",
    keys: &[
        works(
            "role",
            Form::Word(&["agent", "viewer", "operator", "admin"]),
            "",
            "Required. What the token may do: agent speaks for machines and nothing else, viewer reads, operator also commands, admin may do everything but speak for machines.",
        ),
        works(
            "token_env",
            Form::Text,
            "",
            "Environment variable with the token; it must be set.",
        ),
        works(
            "token_file",
            Form::Text,
            "",
            "File with the token, instead of the environment.",
        ),
        refused("token", SECRET),
    ],
};

static TLS: Section = Section {
    about: "Certificate of the server. Both files are read again when they change; absent means plain HTTP.",
    keys: &[
        works(
            "cert_file",
            Form::Text,
            "",
            "File with the certificate chain in PEM, the server's own first.",
        ),
        works(
            "key_file",
            Form::Text,
            "",
            "File with the private key in PEM: PKCS#8, PKCS#1 or SEC1.",
        ),
        works(
            "ca_file",
            Form::Text,
            "",
            "File with the certificate authorities in PEM that agents of this server's fake clouds trust; absent means those of their system.",
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
        works(
            "calls_per_second",
            Form::Number,
            "100",
            "Calls of people and programs per second for each token, or for each address where no token is asked for; 0 means no limit.",
        )
        .live(),
        works(
            "calls_burst",
            Form::Number,
            "500",
            "How many of these calls may come at once.",
        )
        .live(),
        works(
            "node_calls_per_second",
            Form::Number,
            "20",
            "Registrations, reports and answers to commands per second for each node; 0 means no limit. Heartbeats have none.",
        )
        .live(),
        works(
            "node_calls_burst",
            Form::Number,
            "200",
            "How many of these calls may come at once.",
        )
        .live(),
        works(
            "wrong_tokens_per_minute",
            Form::Number,
            "10",
            "Different wrong tokens that one address may try per minute; 0 means no limit.",
        )
        .live(),
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
            "terminated_kept",
            Form::Duration,
            "1h",
            "How long terminated nodes and instances stay listed.",
        )
        .live(),
        works(
            "min_free",
            Form::Size,
            "256MiB",
            "Free space on the disk of data_dir below which nothing is bought; 0 means no limit.",
        )
        .live(),
        planned("url"),
        section("retention", &RETENTION).live(),
        renamed("path", "data_dir"),
    ],
};

static RETENTION: Section = Section {
    about: "How long what happened is kept. What goes is removed in small batches.",
    keys: &[
        works(
            "events_age",
            Form::Duration,
            "2160h",
            "An event goes when its last repeat is older than this.",
        ),
        works(
            "events_size",
            Form::Size,
            "1GiB",
            "The oldest events go while all records together take more than this.",
        ),
        works(
            "records_age",
            Form::Duration,
            "8760h",
            "A closed incident goes when it closed longer ago than this, as do nodes, instances and commands that ended.",
        ),
    ],
};

pub(super) static INSTANCE_MANAGER: Section = Section {
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
            "guards.sweep.interval",
            "How often the cloud is asked about a machine whose agent is silent. One whose agent did not register yet is looked for in each listing, and ends at its deadline.",
        ),
        works(
            "spot_check_interval",
            Form::Duration,
            "10s",
            "How often a provider is listed at least while it has spot machines: only a listing shows that it takes one back, and Google Cloud says so 30 seconds before.",
        ),
    ],
};

pub(super) static PLANNER: Section = Section {
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

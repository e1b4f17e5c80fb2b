//! The keys of what breaks by itself.

use super::super::keys::{refused, renamed, section, works};
use super::super::{Form, Section};

/// What an outage may be about.
pub(super) const DOMAINS: &[&str] = &["provider", "region", "zone", "rack", "all", "percentage"];

/// Among which nodes a failure spreads.
const SCOPES: &[&str] = &["provider", "region", "zone", "rack", "all", "random"];

pub(super) static CHAOS: Section = Section {
    about: "What breaks by itself.",
    keys: &[
        works("enabled", Form::Flag, "true", "Whether any of it happens."),
        works(
            "failure_rate",
            Form::Decimal,
            "0",
            "Failures a minute for each 1000 nodes, of the kinds of `failure_types`.",
        ),
        works(
            "xid_distribution",
            Form::Weights,
            "the usual ones alike",
            "How often each XID is drawn for `xid_error`, by its number.",
        ),
        works(
            "failure_types",
            Form::List(&FAILURE_TYPE),
            "xid_error alone",
            FAILURE_TYPE.about,
        ),
        works(
            "preset",
            Form::Word(&["llama3", "rsc1"]),
            "",
            "Published rates, beside `failure_rate`. See [Presets](#presets).",
        ),
        works("rates", Form::List(&RATE), "", RATE.about),
        section("lemons", &LEMONS),
        section("infant_mortality", &INFANT_MORTALITY),
        section("cascading", &CASCADING),
        works(
            "correlated_failures",
            Form::List(&CORRELATED),
            "",
            CORRELATED.about,
        ),
        section("recovery", &RECOVERY),
        works("scheduled_outages", Form::List(&OUTAGE), "", OUTAGE.about),
        works(
            "control_plane_crashes",
            Form::Duration,
            "",
            "The mean time between two crashes of the control plane in the middle of a commit; absent means none.",
        ),
        refused("burst_probability", BURST),
        refused("burst_size_min", BURST),
        refused("burst_size_max", BURST),
    ],
};

const BURST: &str = "give xid_burst a weight in failure_types";

static FAILURE_TYPE: Section = Section {
    about: "How often each kind of failure is drawn.",
    keys: &[
        works(
            "type",
            Form::Failure,
            "",
            "Required. See [Kinds of failures](#kinds-of-failures).",
        ),
        works(
            "weight",
            Form::Decimal,
            "",
            "Required. How often it is drawn.",
        ),
    ],
};

static RATE: Section = Section {
    about: "Rates of kinds of failures. An entry replaces those of the preset with its kind, or with its kind and XID.",
    keys: &[
        works(
            "type",
            Form::Failure,
            "",
            "Required. See [Kinds of failures](#kinds-of-failures).",
        ),
        works(
            "xid_code",
            Form::Number,
            "drawn from the usual ones",
            "The XID of `xid_error` and `xid_burst`.",
        ),
        works(
            "per_1000_node_days",
            Form::Decimal,
            "",
            "Required. Failures for each 1000 node-days; 0 for none.",
        ),
        works(
            "permanent",
            Form::Share,
            "0",
            "The share that no reboot repairs and that does not recover.",
        ),
        works(
            "mean_duration",
            Form::Duration,
            "",
            "After how long a failure ends by itself, on average; absent means by `recovery`, or never.",
        ),
        works(
            "source",
            Form::Text,
            "the scenario",
            "Where the number is from.",
        ),
    ],
};

static LEMONS: Section = Section {
    about: "Some nodes fail more often than others. The rates are those of the other nodes.",
    keys: &[
        works("fraction", Form::Share, "0.012", "The share of the nodes."),
        works("multiple", Form::Decimal, "15", "How many times the rate."),
    ],
};

static INFANT_MORTALITY: Section = Section {
    about: "New nodes fail more often.",
    keys: &[
        works(
            "lasts",
            Form::Duration,
            "72h",
            "For how long a node is new.",
        ),
        works("multiple", Form::Decimal, "4", "How many times the rate."),
    ],
};

static CASCADING: Section = Section {
    about: "Failures that cause failures on other nodes.",
    keys: &[
        works("enabled", Form::Flag, "true", "Whether they do."),
        works(
            "probability",
            Form::Share,
            "",
            "How often a failure causes others. Required unless `enabled` is false.",
        ),
        works(
            "max_depth",
            Form::Number,
            "3",
            "How many generations; 0 and less mean the default.",
        ),
        works("min_delay", Form::Duration, "0s", "The shortest delay."),
        works(
            "max_delay",
            Form::Duration,
            "min_delay + 1s",
            "The longest delay.",
        ),
        works(
            "scope",
            Form::Word(SCOPES),
            "all",
            "What the nodes share with the first one; `random` is the old word for `all`.",
        ),
        works(
            "max_affected_percent",
            Form::Share,
            "0",
            "The largest share of the nodes in the scope, and at least one node. Note the name: 0.1 is 10%.",
        ),
        refused(
            "same_node_probability",
            "give correlated_failures an entry with the scope same_node",
        ),
    ],
};

static CORRELATED: Section = Section {
    about: "Failures that bring another one along.",
    keys: &[
        works(
            "name",
            Form::Text,
            "the trigger and the response",
            "What the pair is called.",
        ),
        works(
            "trigger",
            Form::Failure,
            "",
            "Required. The kind that brings the other along, or an XID such as `74`.",
        ),
        works(
            "response",
            Form::Failure,
            "",
            "Required. The kind that comes along.",
        ),
        works("probability", Form::Share, "1", "How often."),
        works("delay", Form::Duration, "0s", "After how long."),
        works(
            "scope",
            Form::Word(&["same_node", "rack", "zone", "region", "provider", "all"]),
            "same_node",
            "Where: on the node itself, or on another node that shares this with it, drawn at random.",
        ),
        works(
            "affected",
            Form::Share,
            "one node",
            "Which share of the other nodes in the scope it hits, and at least one of them.",
        ),
    ],
};

static RECOVERY: Section = Section {
    about: "How failures end.",
    keys: &[
        works(
            "enabled",
            Form::Flag,
            "true",
            "Whether failures end by themselves. Nobody reboots an external node to repair it: without `recovery`, a failure with no duration of its own lasts as long as its machine.",
        ),
        works(
            "probability",
            Form::Share,
            "1",
            "How many of the failures that can end by themselves do.",
        ),
        works(
            "mean_time",
            Form::Duration,
            "5m",
            "After how long, on average.",
        ),
        works(
            "std_dev",
            Form::Duration,
            "mean_time / 4",
            "The standard deviation.",
        ),
        works(
            "replace_fatal",
            Form::Flag,
            "false",
            "Whether external nodes that the control plane finds unhealthy are replaced by new ones. Pools replace theirs anyway.",
        ),
        works(
            "replace_cold_start",
            Form::Duration,
            "that of the start-up",
            "How long a new one boots.",
        ),
        renamed("delay_mean", "mean_time"),
        renamed("delay_stddev", "std_dev"),
        refused(
            "strategy",
            "write replace_fatal: true for auto_replace, and enabled: false for manual",
        ),
    ],
};

static OUTAGE: Section = Section {
    about: "Domains that fail at set times, with the machines that come there while it lasts.",
    keys: &[
        works("name", Form::Text, "outage", "What it is called."),
        works(
            "start_time",
            Form::Duration,
            "0s",
            "When it begins, from the end of the start-up.",
        ),
        works(
            "duration",
            Form::Duration,
            "",
            "Required. How long it lasts.",
        ),
        works(
            "scope",
            Form::Word(DOMAINS),
            "",
            "Required. What `target` names.",
        ),
        works(
            "target",
            Form::Text,
            "",
            "Required but for `all`. A provider, region, zone or rack of the fleet, or a share such as `10%` or `10`. Racks of generated and bought machines are named after provider, region and zone, such as `gcp-us-east1-b-rack-000`.",
        ),
        works(
            "failure_type",
            Form::Failure,
            "network",
            "How its nodes fail.",
        ),
    ],
};

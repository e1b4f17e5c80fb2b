//! The keys of the guards.

use super::keys::{section, works};
use super::{Form, Section};

pub(super) static GUARDS: Section = Section {
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
            "Unhealthy full reports of a condition that did not end in between before it is repaired.",
        ),
        works(
            "recover_after",
            Form::Number,
            "1",
            "Full reports in a row, with nothing that its check finds, that end a condition.",
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
            "price_max_age",
            Form::Duration,
            "10m",
            "Age at which a provider is asked for its price list again, while a pool needs it.",
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
        works(
            "degraded",
            Form::Duration,
            "guards.drain_deadline.voluntary",
            "For a degraded node that is not needed. No drain begins because a node is degraded.",
        ),
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

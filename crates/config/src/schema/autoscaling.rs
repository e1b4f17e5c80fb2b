//! The keys of autoscaling.

use super::keys::{renamed, section, works};
use super::{Form, Key, Section};

pub(super) static AUTOSCALING: Section = Section {
    about: "How the size of the pool follows the work; absent keeps it at min_nodes, or at the size that an operator asks for.",
    keys: &[
        works(
            "type",
            Form::Word(&["reactive", "queue", "scheduled", "predictive", "composite"]),
            "",
            "Required. What recommends a size.",
        ),
        works(
            "scale_up_at",
            Form::Number,
            "80",
            "Type reactive: GPU utilization in percent above which a step is added. Type predictive: predicted utilization above which the pool grows.",
        ),
        works(
            "scale_down_at",
            Form::Number,
            "20",
            "Type reactive: GPU utilization in percent below which a step is taken.",
        ),
        works(
            "jobs_per_node",
            Form::Number,
            "10",
            "Type queue: jobs that one machine works on.",
        ),
        section("source", &SOURCE),
        works(
            "schedule",
            Form::List(&WINDOW),
            "",
            "Type scheduled: windows of time with bounds of their own; the first that holds the moment counts.",
        ),
        works(
            "timezone",
            Form::Text,
            "UTC",
            "Type scheduled: time zone of the windows that do not name one, such as `Europe/Berlin`.",
        ),
        works(
            "lookback_window",
            Form::Number,
            "10",
            "Type predictive: measurements, one each `server.autoscale_interval`, that the trend is drawn through.",
        ),
        works(
            "growth_factor",
            Form::Decimal,
            "1.2",
            "Type predictive: how much of the rise over the window is expected to follow.",
        ),
        works(
            "target_utilization",
            Form::Number,
            "70",
            "Type predictive: utilization in percent that the pool grows to.",
        ),
        works(
            "mode",
            Form::Word(&["max", "min", "avg"]),
            "max",
            "Type composite: how several recommendations become one.",
        ),
        works(
            "autoscalers",
            Form::List(&AUTOSCALING),
            "",
            "Type composite: the autoscalers, each with keys as here.",
        ),
        works(
            "fallback",
            Form::Section(&AUTOSCALING),
            "",
            "Types scheduled and predictive: what decides within the bounds of a window, or without a trend, with keys as here; absent keeps the size.",
        ),
        works(
            "stabilization",
            Form::Paces,
            "{up: 0s, down: 5m}",
            "How long a higher, and a lower, size must have been recommended all through.",
        ),
        section("step", &STEP),
        renamed("scale_up_threshold", "scale_up_at"),
        renamed("scale_down_threshold", "scale_down_at"),
        renamed("strategies", "autoscalers"),
    ],
};

static STEP: Section = Section {
    about: "Most machines that one decision adds or takes.",
    keys: &[
        works(
            "up",
            Form::Number,
            "1 for utilization, else no limit",
            "Machines added at most.",
        ),
        works(
            "down",
            Form::Number,
            "1 for utilization, else no limit",
            "Machines taken at most.",
        ),
    ],
};

static SOURCE: Section = Section {
    about: "Type queue: who knows how many jobs wait and run, either `http` or `prometheus`. Without a source the size holds.",
    keys: &[section("http", &HTTP), section("prometheus", &PROMETHEUS)],
};

// Keys that both kinds of sources share.
const HEADERS: Key = works("headers", Form::Headers, "", "Headers of the request.");
const TIMEOUT: Key = works(
    "timeout",
    Form::Duration,
    "5s",
    "Longest wait for the answer.",
);

static HTTP: Section = Section {
    about: "A number in a JSON document.",
    keys: &[
        works("url", Form::Text, "", "Required. Where the document is."),
        works(
            "pointer",
            Form::Text,
            "",
            "JSON pointer to the number, such as `/queue/depth`; absent means that the document is the number.",
        ),
        HEADERS,
        TIMEOUT,
    ],
};

static PROMETHEUS: Section = Section {
    about: "A query whose answer is one number.",
    keys: &[
        works(
            "url",
            Form::Text,
            "",
            "Required. URL of the Prometheus server, without `/api/v1/query`.",
        ),
        works(
            "query",
            Form::Text,
            "",
            "Required. The query, such as `sum(jobs_waiting) or vector(0)`.",
        ),
        HEADERS,
        TIMEOUT,
    ],
};

static WINDOW: Section = Section {
    about: "A window of time: on days from `start` to `end`, or for `duration` after each moment of `cron`.",
    keys: &[
        works(
            "days",
            Form::Texts,
            "every day",
            "Days on which the window begins, such as `mon` or `Monday`.",
        ),
        works("start", Form::Text, "00:00", "Hour, or time as `HH:MM`."),
        works(
            "end",
            Form::Text,
            "24:00",
            "Hour, or time as `HH:MM`; before `start` it is on the next day.",
        ),
        works(
            "cron",
            Form::Text,
            "",
            "Moments at which the window begins: minute, hour, day of the month, month, day of the week.",
        ),
        works(
            "duration",
            Form::Duration,
            "",
            "How long the window lasts after each moment of `cron`.",
        ),
        works("timezone", Form::Text, "that of the schedule", "Time zone."),
        works(
            "min_nodes",
            Form::Number,
            "that of the pool",
            "Least number of machines within the window.",
        ),
        works(
            "max_nodes",
            Form::Number,
            "that of the pool",
            "Greatest number of machines within the window.",
        ),
        renamed("start_hour", "start"),
        renamed("end_hour", "end"),
    ],
};

/// A wait for growth and one for shrinking.
pub(crate) static PACES: Section = Section {
    about: "A wait for growth and one for shrinking.",
    keys: &[
        works("up", Form::Duration, "", "For growth."),
        works("down", Form::Duration, "", "For shrinking."),
    ],
};

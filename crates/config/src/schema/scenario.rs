//! The keys of a scenario.

use super::fleet::{DEFAULTS, POOL, PROVIDER};
use super::guards::GUARDS;
use super::keys::{renamed, section, works};
use super::server::{INSTANCE_MANAGER, PLANNER, SERVER_KEYS};
use super::{Form, Key, Section};

mod chaos;
mod reference;
mod stress;
mod words;

pub use reference::scenario_reference;
use stress::STRESS;
use words::{ACTION_NAMES, ASSERTION_NAMES, FAULT_NAMES};
pub(crate) use words::{ACTIONS, ASSERTIONS, FAILURES, Word};
use words::{FAULTS, OLD};

/// The top level of a scenario.
pub static SCENARIO: Section = Section {
    about: "The sections of the file. One of `fleet`, `stress.fleet_gen` and `pools` is required.",
    keys: &[
        works(
            "name",
            Form::Text,
            "",
            "Required. What the scenario is called.",
        ),
        works(
            "description",
            Form::Prose,
            "",
            "What it shows; may have several lines.",
        ),
        works(
            "seed",
            Form::Number,
            "",
            "Seed of everything that is drawn; absent draws one and prints it. The same as `stress.seed`.",
        ),
        works("fleet", Form::List(&FLEET_NODE), "", FLEET_NODE.about),
        works("events", Form::List(&EVENT), "", EVENT.about),
        works("assertions", Form::List(&ASSERTION), "", ASSERTION.about),
        section("stress", &STRESS),
        section("cloud", &CLOUD),
        works("load", Form::Named(&LOAD), "", LOAD.about),
        section("scheduler", &SCHEDULER),
        works(
            "lost_calls",
            Form::Share,
            "0",
            "How often a call between an agent and the control plane is lost.",
        ),
        works(
            "server",
            Form::Section(&SERVER),
            "",
            "As in the configuration of the control plane, but `heartbeat_interval` is 3s and `health_check_interval` is 5s by default.",
        ),
        section("instance_manager", &INSTANCE_MANAGER),
        section("planner", &PLANNER),
        section("guards", &GUARDS),
        works(
            "providers",
            Form::Named(&PROVIDER),
            "",
            "The simulated clouds, by a name of your choice. With `pools` and without this key there is one, `fake`, whose machines have 8 GPUs.",
        ),
        works(
            "pools",
            Form::Named(&POOL),
            "",
            "The pools of machines, by name. The control plane buys their machines from the simulated cloud.",
        ),
        section("defaults", &DEFAULTS),
    ],
};

/// The sections that a scenario shares with the configuration of the control plane.
pub(super) const CONTROL_PLANE: [&str; 7] = [
    "server",
    "instance_manager",
    "planner",
    "guards",
    "providers",
    "pools",
    "defaults",
];

/// Intervals are short, as in the Go project's simulator.
static SERVER: Section = Section {
    about: "The control plane's intervals and how it grades health.",
    keys: &with_default(
        with_default(SERVER_KEYS, "heartbeat_interval", "3s"),
        "health_check_interval",
        "5s",
    ),
};

/// The same keys, but one has another default.
const fn with_default<const N: usize>(
    mut keys: [Key; N],
    name: &str,
    default: &'static str,
) -> [Key; N] {
    let mut at = 0;
    while at < N {
        if same(keys[at].name.as_bytes(), name.as_bytes()) {
            keys[at].default = default;
        }
        at += 1;
    }
    keys
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

static FLEET_NODE: Section = Section {
    about: "External nodes, which the control plane watches and does not buy. Without an event `start_fleet` they start at 0s.",
    keys: &[
        works(
            "id",
            Form::Text,
            "",
            "Required. The node's id, once in the file.",
        ),
        works(
            "provider",
            Form::Text,
            "local",
            "The provider that the node stands at.",
        ),
        works("region", Form::Text, "local", "The region of the provider."),
        works(
            "zone",
            Form::Text,
            "the region and -a",
            "The zone in the region.",
        ),
        works(
            "rack",
            Form::Text,
            "the zone and -rack-1",
            "The rack in the zone.",
        ),
        works(
            "instance_type",
            Form::Text,
            "by provider and GPUs",
            "The machine type; by the provider and the number of GPUs when it is absent.",
        ),
        works(
            "gpu_count",
            Form::Number,
            "8",
            "How many GPUs the node has. A node with 0 fails its boot check.",
        ),
        works(
            "gpu_type",
            Form::Text,
            "NVIDIA H100 80GB HBM3",
            "What the GPUs call themselves.",
        ),
        works("labels", Form::Labels, "", "Labels of the node."),
    ],
};

static EVENT: Section = Section {
    about: "What happens, by time. Of two events at one time the first in the file comes first.",
    keys: &[
        works(
            "at",
            Form::Duration,
            "of the event before",
            "When, from the start of the run; in a stress run from the end of the start-up. After a `wait` with a `duration`, the default is its end.",
        ),
        works(
            "action",
            Form::Word(&ACTION_NAMES),
            "",
            "Required. What happens. See [Actions](#actions).",
        ),
        works(
            "target",
            Form::Text,
            "",
            "Which nodes: an id, `pool/NAME/N` for a machine of a pool by its age with 0 the oldest, or `*` for all. For `scale_pool` the pool, for `outage` the domain, for `cloud_fault` the place.",
        ),
        section("params", &PARAMS),
        works("description", Form::Prose, "", "A note for readers."),
        renamed("failure_type", "params.failure_type"),
        renamed("xid_code", "params.xid_code"),
        renamed("gpu_index", "params.gpu_index"),
        renamed("message", "params.message"),
        renamed("command", "params.command_type"),
        renamed("command_type", "params.command_type"),
        renamed("duration", "params.duration"),
        renamed("expected_status", "params.expected_status"),
        renamed("timeout", "params.timeout"),
        renamed("log_message", "params.log_message"),
    ],
};

static PARAMS: Section = Section {
    about: "Details of the action. A key that the action does not read has a warning.",
    keys: &[
        works(
            "failure_type",
            Form::Failure,
            "",
            "What breaks, or what is repaired; absent repairs everything. See [Kinds of failures](#kinds-of-failures).",
        ),
        works(
            "xid_code",
            Form::Number,
            "79, and drawn for a burst",
            "The XID of `xid_error` and `xid_burst`, from 1 to 1000.",
        ),
        works(
            "gpu_index",
            Form::Number,
            "0",
            "The GPU, from 0; -1 for all of them.",
        ),
        works(
            "message",
            Form::Prose,
            "made up",
            "The driver's words, of an XID and of a driver or a GPU that does not answer.",
        ),
        works(
            "duration",
            Form::Duration,
            "",
            "How long a failure, an outage, a fault of the cloud or a wait lasts. An outage and a fault of the cloud need one; a failure without one never ends by itself.",
        ),
        works(
            "command_type",
            Form::Word(&["cordon", "uncordon", "drain", "terminate", "run_diagnostic"]),
            "",
            "The command that an operator gives.",
        ),
        works(
            "command_args",
            Form::Labels,
            "",
            "Parameters of the command.",
        ),
        works(
            "expected_status",
            Form::Text,
            "",
            "The status that is waited for or asserted.",
        ),
        works(
            "timeout",
            Form::Duration,
            "30s",
            "The longest wait for a status.",
        ),
        works(
            "log_message",
            Form::Prose,
            "",
            "The line of the log; may have several lines.",
        ),
        works(
            "down",
            Form::Duration,
            "10s",
            "How long the control plane stays away after a crash.",
        ),
        works(
            "fault",
            Form::Word(&FAULT_NAMES),
            "",
            "What the cloud does wrong. See [Faults of the cloud](#faults-of-the-cloud).",
        ),
        works("name", Form::Text, "outage", "What an outage is called."),
        works(
            "scope",
            Form::Word(chaos::DOMAINS),
            "zone",
            "What the target of an outage names.",
        ),
        works(
            "target",
            Form::Text,
            "",
            "The domain of an outage, instead of the event's `target`.",
        ),
        works(
            "pool",
            Form::Text,
            "",
            "The pool of `scale_pool`, instead of the event's `target`.",
        ),
        works(
            "nodes",
            Form::Number,
            "",
            "How many nodes an operator asks for.",
        ),
        works(
            "automation",
            Form::Word(&["on", "observe", "off"]),
            "",
            "What an operator switches automation to.",
        ),
        section("assertion", &ASSERTION),
    ],
};

static ASSERTION: Section = Section {
    about: "What must hold, in order. See [Assertions](#assertions).",
    keys: &[
        works(
            "type",
            Form::Word(&ASSERTION_NAMES),
            "node_status",
            "What is looked at.",
        ),
        works(
            "target",
            Form::Text,
            "",
            "Which nodes, as for events. Statuses need one.",
        ),
        works(
            "expected",
            Form::Text,
            "",
            "A status; or a number such as `5`, or `>=5`, or `<=5`.",
        ),
        works(
            "status",
            Form::Text,
            "",
            "The status of the nodes that `node_count` counts; absent counts all.",
        ),
        works(
            "at_least",
            Form::Bound,
            "",
            "The smallest number, or percentage of `capacity`.",
        ),
        works(
            "at_most",
            Form::Bound,
            "",
            "The largest number, percentage of `capacity`, or duration of `time_to_recover`.",
        ),
        works(
            "pool",
            Form::Text,
            "",
            "The pool of `capacity`; absent takes all.",
        ),
        works(
            "rule",
            Form::Text,
            "",
            "The rule of `incidents`; absent counts all.",
        ),
        works(
            "percentile",
            Form::Decimal,
            "100",
            "The share of the failures that `time_to_recover` is about, in percent.",
        ),
    ],
};

static CLOUD: Section = Section {
    about: "The simulated cloud that pools buy from. It has every provider of `providers`.",
    keys: &[
        section("boot", &BOOT),
        works("never_boots", Form::Share, "0", NEVER_BOOTS),
        section("latency", &LATENCY),
        works(
            "capacity",
            Form::Counts,
            "no limit",
            "The most machines that the cloud has, by `PROVIDER/REGION/ZONE`; leave out the zone, or the region too, for what they hold together.",
        ),
        works(
            "prices",
            Form::Prices,
            "",
            "Dollars per hour of a machine, by the same names; the longest name counts. The price is 2 where none is given.",
        ),
        works(
            "providers",
            Form::Named(&CLOUD_PROVIDER),
            "",
            CLOUD_PROVIDER.about,
        ),
    ],
};

static CLOUD_PROVIDER: Section = Section {
    about: "What differs at one provider, by its name.",
    keys: &[
        section("boot", &BOOT),
        works("never_boots", Form::Share, "as in `cloud`", NEVER_BOOTS),
        section("latency", &LATENCY),
    ],
};

const NEVER_BOOTS: &str = "The share of machines that never boot.";

static BOOT: Section = Section {
    about: "How long a bought machine boots: normal around the mean and within the limits, or uniform between the limits without a mean. Without any key, a mean of 75s and a deviation of 25s from 30s to 4m.",
    keys: &[
        works("min", Form::Duration, "", "The shortest."),
        works("max", Form::Duration, "", "The longest."),
        works("mean", Form::Duration, "", "The mean."),
        works("stddev", Form::Duration, "0s", "The standard deviation."),
    ],
};

static LATENCY: Section = Section {
    about: "How long a call of the control plane is on its way to the provider, and its answer on the way back: uniform between the limits. The control plane gives up after 30s.",
    keys: &[
        works("min", Form::Duration, "20ms", "The shortest."),
        works("max", Form::Duration, "400ms", "The longest."),
    ],
};

static LOAD: Section = Section {
    about: "The work of pools with `autoscaling`, by their names. Without it their GPUs idle and their queues are empty.",
    keys: &[
        works(
            "work",
            Form::Section(&CURVE),
            "",
            "Work for the GPUs of the pool, in whole machines: 3 keeps three machines busy, or six at 50 %.",
        ),
        works(
            "jobs",
            Form::Section(&CURVE),
            "",
            "Jobs that wait and run, as the source of the pool's queue says.",
        ),
    ],
};

static CURVE: Section = Section {
    about: "A number over time. Its times count from the start of the run; in a stress run from the end of the start-up.",
    keys: &[
        works(
            "level",
            Form::Decimal,
            "0",
            "The level, up to the first step.",
        ),
        works("steps", Form::List(&STEP), "", STEP.about),
        section("daily", &DAILY),
        works(
            "noise",
            Form::Share,
            "0",
            "By which share each measurement differs at most, up or down.",
        ),
    ],
};

static STEP: Section = Section {
    about: "Other levels, by time.",
    keys: &[
        works("at", Form::Duration, "", "Required. From when on."),
        works(
            "level",
            Form::Decimal,
            "",
            "Required. The level from then on.",
        ),
    ],
};

static DAILY: Section = Section {
    about: "A wave with a period of a day, which is added to the level.",
    keys: &[
        works("low", Form::Decimal, "0", "The least."),
        works("high", Form::Decimal, "", "Required. The most."),
        works(
            "peak_at",
            Form::Duration,
            "12h",
            "When the most is reached, each day.",
        ),
    ],
};

static SCHEDULER: Section = Section {
    about: "The scheduler that `server.notifier` tells of nodes. It takes every notice, and calls no URL.",
    keys: &[section("drain", &DRAIN)],
};

static DRAIN: Section = Section {
    about: "How long what runs on a node needs to end, from the notice of the drain: as for `cloud.boot`. Without any key, from 1m to 10m.",
    keys: &[
        works("min", Form::Duration, "", "The shortest."),
        works("max", Form::Duration, "", "The longest."),
        works("mean", Form::Duration, "", "The mean."),
        works("stddev", Form::Duration, "0s", "The standard deviation."),
    ],
};

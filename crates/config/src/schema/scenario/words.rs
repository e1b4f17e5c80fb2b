//! The words of scenarios with what each means and reads: actions, assertions, failures, faults.

/// One word of several.
#[derive(Debug)]
pub(crate) struct Word {
    /// The word.
    pub(crate) name: &'static str,
    /// What it means.
    pub(crate) about: &'static str,
    /// The keys that it reads; `target` stands for the one of the event.
    pub(crate) keys: &'static [&'static str],
}

const fn word(name: &'static str, keys: &'static [&'static str], about: &'static str) -> Word {
    Word { name, about, keys }
}

/// The names of words, for a form.
const fn names<const N: usize>(words: &[Word; N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut at = 0;
    while at < N {
        names[at] = words[at].name;
        at += 1;
    }
    names
}

/// The actions of events.
pub(crate) const ACTIONS: [Word; 14] = [
    word(
        "start_fleet",
        &[],
        "The external nodes that are off start, each after its time in the start-up. Where no event does it, they start by themselves.",
    ),
    word(
        "stop_fleet",
        &[],
        "The agents of the external nodes stop. The nodes stay registered, nobody asks for their capacity, and `start_fleet` starts them again.",
    ),
    word(
        "inject_failure",
        &[
            "target",
            "failure_type",
            "xid_code",
            "gpu_index",
            "message",
            "duration",
        ],
        "Something breaks.",
    ),
    word(
        "recover_failure",
        &["target", "failure_type"],
        "Something is repaired, or everything without `failure_type`; with a reboot where the failure needs one.",
    ),
    word(
        "issue_command",
        &["target", "command_type", "command_args"],
        "An operator gives a command.",
    ),
    word(
        "wait_for_status",
        &["target", "expected_status", "timeout"],
        "The events after this one wait until the nodes have a status. The run fails when the timeout ends first.",
    ),
    word(
        "wait",
        &["duration"],
        "Nothing happens. The time of the event is the wait, and a `duration` moves the events after it that have no time.",
    ),
    word("log", &["log_message"], "A line in the log."),
    word(
        "assert",
        &["target", "failure_type", "expected_status", "assertion"],
        "Something must hold now: the `assertion`, or that the nodes have the `expected_status`. `failure_type: health_status` makes that the status of their health, as in the Go project.",
    ),
    word(
        "crash",
        &["down"],
        "The control plane dies and starts again with what its store has.",
    ),
    word(
        "cloud_fault",
        &["target", "fault", "duration"],
        "The simulated cloud does something wrong for a while: every provider, or the one that is the target. A fault of launches may have a target such as `PROVIDER/REGION/ZONE`.",
    ),
    word(
        "outage",
        &["target", "name", "scope", "duration", "failure_type"],
        "A domain fails at once for a while, as in `stress.chaos.scheduled_outages`.",
    ),
    word(
        "scale_pool",
        &["target", "pool", "nodes"],
        "An operator asks for a size of a pool.",
    ),
    word(
        "automation",
        &["automation"],
        "An operator switches automation for the whole fleet.",
    ),
];

/// The names of the actions.
pub(super) const ACTION_NAMES: [&str; 14] = names(&ACTIONS);

/// The types of assertions.
pub(crate) const ASSERTIONS: [Word; 8] = [
    word(
        "node_status",
        &["target", "expected"],
        "The nodes have a status: `active`, `cordoned`, `draining`, `unhealthy` or `terminated`.",
    ),
    word(
        "health_status",
        &["target", "expected"],
        "The nodes have a health: `healthy`, `degraded` or `unhealthy`.",
    ),
    word(
        "node_count",
        &["target", "status", "expected", "at_least", "at_most"],
        "So many nodes have the `status`, or are there at all.",
    ),
    word(
        "invariants",
        &[],
        "No promise of the control plane was broken.",
    ),
    word(
        "capacity",
        &["pool", "expected", "at_least", "at_most"],
        "The share of the capacity that was asked for and delivered over the run, in percent.",
    ),
    word(
        "incidents",
        &["rule", "expected", "at_least", "at_most"],
        "So many incidents were opened.",
    ),
    word(
        "time_to_recover",
        &["percentile", "at_most", "expected"],
        "From a failure to the capacity that it cost, at most so long for this share of the failures.",
    ),
    word(
        "launches",
        &["expected", "at_least", "at_most"],
        "So many machines were bought.",
    ),
];

/// The names of the types of assertions.
pub(super) const ASSERTION_NAMES: [&str; 8] = names(&ASSERTIONS);

/// The kinds of failures.
pub(crate) const FAILURES: [Word; 23] = [
    word(
        "xid_error",
        &["xid_code", "gpu_index", "message"],
        "The kernel log shows an XID once.",
    ),
    word(
        "xid_burst",
        &["xid_code", "gpu_index", "message"],
        "The kernel log shows a burst of XIDs.",
    ),
    word(
        "temperature",
        &["gpu_index"],
        "A GPU is at 95 degrees Celsius.",
    ),
    word(
        "thermal_ramp",
        &["gpu_index"],
        "A GPU heats up a degree at a time, and throttles.",
    ),
    word(
        "nvml_failure",
        &["message"],
        "Every call to the driver fails.",
    ),
    word(
        "backend_error",
        &["message"],
        "The same, in the words of the fake backend.",
    ),
    word(
        "boot_failure",
        &[],
        "The machine has no GPUs after its next boot, which follows at once.",
    ),
    word(
        "device_error",
        &["gpu_index", "message"],
        "One GPU answers no call.",
    ),
    word(
        "gpu_lost",
        &["gpu_index"],
        "XID 79: a GPU fell off the bus and is missing from then on.",
    ),
    word(
        "memory_error",
        &["gpu_index"],
        "A GPU counts an uncorrectable memory error, with XID 48.",
    ),
    word(
        "row_remap",
        &["gpu_index"],
        "A GPU waits to remap a row, with XID 63; a reboot remaps it.",
    ),
    word(
        "row_remap_failed",
        &["gpu_index"],
        "A GPU cannot remap a row, with XID 64.",
    ),
    word(
        "nvlink_error",
        &["gpu_index"],
        "An NVLink link fails, with XID 74.",
    ),
    word(
        "pcie_error",
        &["gpu_index"],
        "The PCIe link of a GPU repeats packets.",
    ),
    word(
        "power_error",
        &["gpu_index"],
        "The power supply brakes a GPU.",
    ),
    word(
        "driver_hang",
        &[],
        "Calls to the driver never return while the agent beats on.",
    ),
    word(
        "silent_corruption",
        &["gpu_index"],
        "Results are wrong and nothing shows it but an active test.",
    ),
    word("network", &[], "Nothing reaches the node or leaves it."),
    word("agent_crash", &[], "The agent ends and is started again."),
    word(
        "machine_hang",
        &[],
        "The machine hangs while the cloud says that it runs.",
    ),
    word(
        "machine_stop",
        &[],
        "The machine stops and the cloud says so.",
    ),
    word("machine_vanish", &[], "The machine is gone from the cloud."),
    word(
        "spot_interruption",
        &[],
        "The cloud takes a spot machine back, with a notice.",
    ),
];

/// The faults of the cloud.
pub(crate) const FAULTS: [Word; 11] = [
    word("capacity", &[], "Launches fail for lack of capacity."),
    word("quota", &[], "Launches fail because a quota is used up."),
    word("auth", &[], "Launches fail for lack of permission."),
    word(
        "rate_limit",
        &[],
        "Calls are refused because there are too many.",
    ),
    word(
        "lost_answers",
        &[],
        "Launches succeed and their answers are lost.",
    ),
    word("never_boots", &[], "Machines that are launched never boot."),
    word("outage", &[], "Look-ups, listings and terminations fail."),
    word("slow", &[], "Calls take longer than their deadline."),
    word(
        "empty_listings",
        &[],
        "Listings are empty and claim to be complete.",
    ),
    word(
        "partial_listings",
        &[],
        "Listings lack machines and say so.",
    ),
    word("stale_listings", &[], "Listings show the past."),
];

/// The names of the faults of the cloud.
pub(super) const FAULT_NAMES: [&str; 11] = names(&FAULTS);

/// What the documents and files of the Go project say, with what it is called here. Each loads
/// with a warning; what has a name in the tables of keys is not among them.
pub(crate) const OLD: &[(&str, &str)] = &[
    ("`fleet.nodes[]`", "`fleet[]`"),
    (
        "`stress.chaos.xid_distribution` as a list of `code` and `weight`",
        "a mapping from XIDs to weights",
    ),
    (
        "action `inject_xid`",
        "`inject_failure` with `failure_type: xid_error`",
    ),
    (
        "action `inject_thermal`",
        "`inject_failure` with `failure_type: temperature`",
    ),
    (
        "action `inject_memory`",
        "`inject_failure` with `failure_type: memory_error`",
    ),
    ("action `clear_errors`", "`recover_failure`"),
    ("action `run_command`", "`issue_command`"),
    (
        "actions `assert_node_healthy` and `assert_node_unhealthy`",
        "`assert` with an `assertion` of the type `health_status`",
    ),
    (
        "failures `xid`, `boot` and `nvml`",
        "`xid_error`, `boot_failure` and `nvml_failure`",
    ),
    (
        "scopes `same_rack`, `same_zone` and `random` of correlated failures",
        "`rack`, `zone` and `all`",
    ),
    (
        "statuses such as `ACTIVE` and `NODE_STATUS_ACTIVE`",
        "`active`",
    ),
    (
        "files of a run with absolute paths",
        "their last part, in the run directory",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{CloudFault, FailureKind};

    #[test]
    fn the_tables_have_every_word_in_its_place() {
        let kinds = FailureKind::WORDS.map(|(word, _)| word);
        assert_eq!(names(&FAILURES), kinds);
        let faults = CloudFault::WORDS.map(|(word, _)| word);
        assert_eq!(names(&FAULTS), faults);
    }
}

//! The words of the fleet: files, the wire and people's scripts hold them, so they never change.

use std::collections::BTreeSet;
use std::fmt::Debug;

use navarch_model::{
    Automation, CloudStatus, CommandState, EndCause, Ending, EventKind, HealthEventType,
    HealthStatus, HealthWatchSystem, IncidentId, InstanceState, NodeCommandType, NodeStatus, Phase,
    ProviderError, ProviderErrorKind, Repair, Role,
};

/// Each value has its word, each word its value, and no other text is a word.
fn both_ways<T: Copy + PartialEq + Debug>(
    table: &[(T, &str)],
    all: &[T],
    word: impl Fn(T) -> &'static str,
    read: impl Fn(&str) -> Option<T>,
) {
    assert_eq!(table.len(), all.len(), "the table has every value: {all:?}");
    for (value, expected) in table {
        assert!(all.contains(value), "{value:?} is listed");
        assert_eq!(word(*value), *expected);
        assert_eq!(read(expected), Some(*value), "{expected:?}");
        for other in [expected.to_uppercase(), format!("{expected} ")] {
            assert_eq!(read(&other), None, "{other:?}");
        }
    }
    assert_eq!(read(""), None);
}

#[test]
fn roles() {
    both_ways(
        &[
            (Role::Agent, "agent"),
            (Role::Viewer, "viewer"),
            (Role::Operator, "operator"),
            (Role::Admin, "admin"),
        ],
        &Role::ALL,
        Role::word,
        Role::from_word,
    );
}

#[test]
fn modes_of_automation() {
    both_ways(
        &[
            (Automation::Off, "off"),
            (Automation::Observe, "observe"),
            (Automation::On, "on"),
        ],
        &Automation::ALL,
        Automation::word,
        Automation::from_word,
    );
}

#[test]
fn states_of_commands_and_which_are_final() {
    let table = [
        (CommandState::Pending, "pending", false),
        (CommandState::Delivered, "delivered", false),
        (CommandState::Succeeded, "succeeded", true),
        (CommandState::Failed, "failed", true),
        (CommandState::Expired, "expired", true),
        (CommandState::Unconfirmed, "unconfirmed", true),
    ];
    both_ways(
        &table.map(|(state, word, _)| (state, word)),
        &CommandState::ALL,
        CommandState::word,
        CommandState::from_word,
    );
    for (state, word, last) in table {
        assert_eq!(state.is_final(), last, "{word}");
    }
}

#[test]
fn rungs_of_repair_and_the_one_above() {
    let table = [
        (Repair::None, "none", Repair::RestartApp),
        (Repair::RestartApp, "restart_app", Repair::ResetGpu),
        (Repair::ResetGpu, "reset_gpu", Repair::Reboot),
        (Repair::Reboot, "reboot", Repair::Replace),
        (Repair::Replace, "replace", Repair::Replace),
    ];
    both_ways(
        &table.map(|(rung, word, _)| (rung, word)),
        &Repair::ALL,
        Repair::word,
        Repair::from_word,
    );
    for (rung, word, above) in table {
        assert_eq!(rung.raised(), above, "{word}");
    }
}

#[test]
fn phases_and_what_they_mean_for_size() {
    // phase, word, a machine may exist, it counts as capacity, the word of the wire
    let table = [
        (Phase::Requested, "requested", true, true, "provisioning"),
        (Phase::Launching, "launching", true, true, "provisioning"),
        (
            Phase::OutcomeUnknown,
            "outcome_unknown",
            true,
            true,
            "provisioning",
        ),
        (
            Phase::PendingRegistration,
            "pending_registration",
            true,
            true,
            "pending_registration",
        ),
        (Phase::Running, "running", true, true, "running"),
        (
            Phase::Terminating,
            "terminating",
            true,
            false,
            "terminating",
        ),
        (Phase::Terminated, "terminated", false, false, "terminated"),
        (Phase::Failed, "failed", false, false, "failed"),
    ];
    both_ways(
        &table.map(|(phase, word, ..)| (phase, word)),
        &Phase::ALL,
        Phase::word,
        Phase::from_word,
    );
    for (phase, word, alive, capacity, wire) in table {
        assert_eq!(phase.may_be_alive(), alive, "{word}");
        assert_eq!(phase.counts_as_capacity(), capacity, "{word}");
        assert_eq!(phase.on_wire().short(), wire, "{word}");
    }
}

#[test]
fn kinds_of_errors_and_which_made_nothing() {
    use ProviderErrorKind::{
        Auth, Capacity, Configuration, NotFound, OutcomeUnknown, Quota, RateLimit, Transient,
    };
    let table = [
        (Capacity, "capacity", true),
        (Quota, "quota", true),
        (Auth, "auth", true),
        (Configuration, "configuration", true),
        (RateLimit, "rate_limit", true),
        (Transient, "transient", true),
        (NotFound, "not_found", false),
        (OutcomeUnknown, "outcome_unknown", false),
    ];
    both_ways(
        &table.map(|(kind, word, _)| (kind, word)),
        &ProviderErrorKind::ALL,
        ProviderErrorKind::word,
        ProviderErrorKind::from_word,
    );
    for (kind, word, nothing) in table {
        assert_eq!(kind.made_nothing(), nothing, "{word}");
    }
    let error = ProviderError::new(Quota, "8 of 8 GPUs are in use");
    assert_eq!(error.to_string(), "quota: 8 of 8 GPUs are in use");
    assert_eq!(error.retry_after, None);
}

#[test]
fn what_clouds_say() {
    for (status, word) in [
        (CloudStatus::Running, "running"),
        (CloudStatus::Stopped, "stopped"),
        (CloudStatus::Impaired, "impaired"),
        (CloudStatus::Terminating, "terminating"),
        (CloudStatus::Terminated, "terminated"),
        (CloudStatus::NotFound, "not found"),
    ] {
        assert_eq!(status.word(), word);
    }
}

#[test]
fn kinds_of_events_and_which_repeat() {
    let coalescing = [
        "server.clock_jumped",
        "policy.refused",
        "policy.rule_failed",
        "automation.would_act",
        "provider.error",
        "provider.stale_result",
        "provider.listing_suspect",
        "node.registration_refused",
        "guard.blocked",
        "notice.failed",
        "agent.spool_lost",
        "invariant.violated",
    ];
    let mut words = BTreeSet::new();
    for kind in EventKind::ALL.iter().copied() {
        let word = kind.word();
        assert!(words.insert(word), "{word} stands for one kind");
        assert_eq!(EventKind::from_word(word), Some(kind));
        assert_eq!(kind.coalesces(), coalescing.contains(&word), "{word}");
        let text = serde_json::to_string(&kind).expect("a word");
        assert_eq!(text, format!("{word:?}"));
        assert_eq!(serde_json::from_str::<EventKind>(&text).ok(), Some(kind));
    }
    for word in coalescing {
        assert!(words.contains(word), "{word}");
    }
    assert_eq!(EventKind::from_word("guard.blocke"), None);
    let error = serde_json::from_str::<EventKind>("\"nope\"").unwrap_err();
    assert!(
        error.to_string().contains("\"nope\" is not an event kind"),
        "{error}"
    );
}

/// The words of the wire, by number: their prefix in the contract, and the short names in order.
macro_rules! vocabulary {
    ($type:ident, $prefix:literal, $default:ident, [$($short:literal),+ $(,)?]) => {{
        let shorts = [$($short),+];
        assert_eq!($type::ALL.len(), shorts.len());
        assert_eq!($type::default(), $type::$default);
        for (number, short) in shorts.into_iter().enumerate() {
            let number = i32::try_from(number).expect("a few words");
            let word = $type::from_number(number).expect(short);
            assert_eq!(word.number(), number, "{short}");
            assert_eq!(word.short(), short);
            assert_eq!(word.to_string(), short);
            assert_eq!(format!("{word:>20}").len(), 20, "tables pad it");
            let name = format!("{}_{}", $prefix, short.to_uppercase());
            assert_eq!(word.name(), name);
            assert_eq!($type::from_name(&name), Some(word));
            assert_eq!($type::from_short(short), Some(word));
            let text = serde_json::to_string(&word).expect("a word");
            assert_eq!(text, format!("{short:?}"));
            assert_eq!(serde_json::from_str::<$type>(&text).ok(), Some(word));
        }
        let beyond = i32::try_from(shorts.len()).expect("a few words");
        for number in [-1, beyond, i32::MAX] {
            assert_eq!($type::from_number(number), None);
        }
        assert_eq!($type::from_name("nope"), None);
        assert_eq!($type::from_short("nope"), None);
        let error = serde_json::from_str::<$type>("\"nope\"").unwrap_err();
        let says = format!("\"nope\" is not a {}", stringify!($type));
        assert!(error.to_string().contains(&says), "{error}");
    }};
}

#[test]
fn vocabularies_are_those_of_the_contract() {
    vocabulary!(
        NodeStatus,
        "NODE_STATUS",
        Unknown,
        [
            "unknown",
            "active",
            "cordoned",
            "draining",
            "unhealthy",
            "terminated"
        ]
    );
    vocabulary!(
        HealthStatus,
        "HEALTH_STATUS",
        Unknown,
        ["unknown", "healthy", "degraded", "unhealthy"]
    );
    vocabulary!(
        NodeCommandType,
        "NODE_COMMAND_TYPE",
        Unknown,
        [
            "unknown",
            "cordon",
            "drain",
            "run_diagnostic",
            "terminate",
            "uncordon"
        ]
    );
    vocabulary!(
        InstanceState,
        "INSTANCE_STATE",
        Unknown,
        [
            "unknown",
            "provisioning",
            "pending_registration",
            "running",
            "terminating",
            "terminated",
            "failed"
        ]
    );
    vocabulary!(
        HealthEventType,
        "HEALTH_EVENT_TYPE",
        Unknown,
        [
            "unknown",
            "xid",
            "thermal",
            "power",
            "memory",
            "nvlink",
            "pcie",
            "driver_error",
            "ecc_sbe",
            "ecc_dbe",
        ]
    );
    vocabulary!(
        HealthWatchSystem,
        "HEALTH_WATCH_SYSTEM",
        Unknown,
        [
            "unknown", "pcie", "nvlink", "pmu", "mcu", "mem", "sm", "inforom", "thermal", "power",
            "driver", "nvswitch",
        ]
    );
}

#[test]
fn phrases_of_endings() {
    for (ending, phrase) in [
        (
            Ending::Recovered,
            "recovered: a full report made the same check and found nothing",
        ),
        (
            Ending::Repaired {
                proof: Repair::Reboot,
            },
            "repaired (reboot) and the gate passed",
        ),
        (Ending::Expired, "the rule's clear_after passed"),
        (
            Ending::Operator {
                reason: String::new(),
            },
            "closed by an operator",
        ),
        (
            Ending::Operator {
                reason: "seen on site".to_owned(),
            },
            "closed by an operator: seen on site",
        ),
        (Ending::PolicyChanged, "the health policy changed"),
        (Ending::NodeTerminated, "the machine was terminated"),
        (Ending::HostReplaced, "another host took the node id"),
    ] {
        assert_eq!(ending.phrase(), phrase);
    }
    let incident = IncidentId::new("inc-1");
    for (cause, phrase) in [
        (
            EndCause::Repair { incident },
            "replaced because of incident inc-1",
        ),
        (EndCause::Shrink, "pool was too large"),
        (EndCause::Operator, "terminated by an operator"),
        (EndCause::NeverRegistered, "its agent never registered"),
        (
            EndCause::LaunchAbandoned,
            "launch was given up without an answer",
        ),
        (EndCause::LaunchRefused, "the provider refused the launch"),
        (EndCause::Vanished, "the machine vanished from the provider"),
        (EndCause::Interruption, "its cloud takes the machine back"),
    ] {
        assert_eq!(cause.phrase(), phrase);
    }
}

//! Reading of events.

use std::collections::BTreeMap;
use std::time::Duration;

use navarch_model::{Automation, NodeCommandType, NodeStatus};

use super::super::MOST_NODES;
use super::assertions::{self, assertion, node_status};
use super::chaos::{failure_kind, outage_kind, xid};
use super::known::{DomainScope, Known};
use super::labels;
use crate::duration::compact;
use crate::fields::{Fields, YEAR};
use crate::scenario::{
    Action, Assertion, CloudFault, Event, Expected, Failure, FailureKind, Outage, Target,
};
use crate::schema::{ACTIONS, Word as Row};

/// The longest wait for a status when the file does not say it.
const STATUS_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the control plane stays away when the file does not say it.
const DOWN: Duration = Duration::from_secs(10);

/// The actions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    StartFleet,
    StopFleet,
    InjectFailure,
    RecoverFailure,
    IssueCommand,
    WaitForStatus,
    Wait,
    Log,
    Assert,
    Crash,
    CloudFault,
    Outage,
    ScalePool,
    Automation,
}

/// The actions in the order of their words.
const WORDS: [Word; 14] = [
    Word::StartFleet,
    Word::StopFleet,
    Word::InjectFailure,
    Word::RecoverFailure,
    Word::IssueCommand,
    Word::WaitForStatus,
    Word::Wait,
    Word::Log,
    Word::Assert,
    Word::Crash,
    Word::CloudFault,
    Word::Outage,
    Word::ScalePool,
    Word::Automation,
];

impl Word {
    /// What the tables say of it.
    const fn row(self) -> &'static Row {
        const ROWS: &[Row] = &ACTIONS;
        &ROWS[self as usize]
    }
}

/// The parameters in the order of the table.
const PARAMS: [&str; 19] = [
    "failure_type",
    "xid_code",
    "gpu_index",
    "message",
    "duration",
    "command_type",
    "command_args",
    "expected_status",
    "timeout",
    "log_message",
    "down",
    "fault",
    "name",
    "scope",
    "target",
    "pool",
    "nodes",
    "automation",
    "assertion",
];

/// Actions that documents of the Go project show, with the action and the kind of failure or
/// status that they stand for.
const OLD_ACTIONS: [(&str, &str); 7] = [
    ("inject_xid", "inject_failure"),
    ("inject_thermal", "inject_failure"),
    ("inject_memory", "inject_failure"),
    ("clear_errors", "recover_failure"),
    ("run_command", "issue_command"),
    ("assert_node_healthy", "assert"),
    ("assert_node_unhealthy", "assert"),
];

pub(super) fn events(root: &Fields<'_>, known: &Known<'_>, run: Option<Duration>) -> Vec<Event> {
    let mut events = Vec::new();
    let mut next = Duration::ZERO;
    for fields in root.list("events") {
        let params = Params {
            event: &fields,
            fields: fields.section("params"),
            known,
        };
        let at = fields.duration("at", Duration::ZERO..=YEAR).unwrap_or(next);
        let word = params.word();
        let values = params.read();
        next = match word {
            Some(Word::Wait) => at + values.duration.unwrap_or_default(),
            _ => at,
        };
        let is_outage = word == Some(Word::Outage);
        if let Some(run) = run.filter(|run| is_outage && at >= *run) {
            let (at, run) = (compact(at), compact(run));
            fields.fail(
                "at",
                format!("{at} is outside the run, which ends at {run}: make the run longer or begin earlier"),
            );
        } else if let Some(run) = run.filter(|run| at > *run) {
            let (path, at, run) = (fields.path_of("at"), compact(at), compact(run));
            let message =
                format!("{path}: {at} is after the end of the run at {run}, so this never happens");
            fields.log().warn(fields.at("at"), message);
        }
        let action = word.and_then(|word| params.action(word, values, at));
        events.extend(action.map(|action| Event {
            at,
            line: fields.start().line,
            action,
        }));
    }
    events.sort_by_key(|event| event.at);
    events
}

/// An event that is being read.
struct Params<'e, 't> {
    event: &'e Fields<'t>,
    fields: Fields<'t>,
    known: &'e Known<'e>,
}

/// Every parameter, right or not for the action.
struct Values {
    xid: Option<u32>,
    gpu: Option<i128>,
    message: Option<String>,
    duration: Option<Duration>,
    command: Option<NodeCommandType>,
    arguments: BTreeMap<String, String>,
    timeout: Option<Duration>,
    log_message: Option<String>,
    down: Option<Duration>,
    fault: Option<CloudFault>,
    name: Option<String>,
    scope: Option<DomainScope>,
    target: Option<String>,
    pool: Option<String>,
    nodes: Option<u32>,
    automation: Option<Automation>,
}

impl Params<'_, '_> {
    fn word(&self) -> Option<Word> {
        let fields = self.event;
        fields.prose("description");
        if !fields.has("action") && !fields.is_broken() {
            fields.fail(
                "action",
                "required: say what happens, such as inject_failure",
            );
        }
        let words: [(&str, Word); 14] = WORDS.map(|word| (word.row().name, word));
        fields.word_or_old("action", &words, OLD_ACTIONS)
    }

    fn read(&self) -> Values {
        let fields = &self.fields;
        Values {
            xid: fields.count("xid_code", 1..=1000),
            gpu: fields.whole("gpu_index", -1..=i128::from(super::MOST_GPUS)),
            message: fields.prose("message"),
            duration: fields.longer_than_zero("duration", YEAR),
            command: self.command(),
            arguments: labels(fields, "command_args"),
            timeout: fields.longer_than_zero("timeout", YEAR),
            log_message: fields.prose("log_message"),
            down: fields.longer_than_zero("down", YEAR),
            fault: fields.word("fault", &CloudFault::WORDS),
            name: fields.text("name"),
            scope: fields.word("scope", &DomainScope::WORDS),
            target: fields.text("target"),
            pool: fields.text("pool"),
            nodes: fields.count("nodes", 0..=MOST_NODES),
            automation: fields.word(
                "automation",
                &Automation::ALL.map(|mode| (mode.word(), mode)),
            ),
        }
    }

    fn command(&self) -> Option<NodeCommandType> {
        let known = NodeCommandType::ALL
            .iter()
            .filter(|kind| **kind != NodeCommandType::Unknown);
        let words: Vec<_> = known.map(|kind| (kind.short(), *kind)).collect();
        self.fields.word("command_type", &words)
    }

    /// Warns of what the action does not read.
    fn check_keys(&self, word: Word) {
        let (action, read) = (word.row().name, word.row().keys);
        let warn = |fields: &Fields<'_>, key: &str| {
            if fields.has(key) {
                let path = fields.path_of(key);
                fields.log().warn(
                    fields.at(key),
                    format!("{path} has no effect: {action} does not read it"),
                );
            }
        };
        for key in PARAMS {
            // An outage may have its target among the parameters.
            if !read.contains(&key) || key == "target" && word != Word::Outage {
                warn(&self.fields, key);
            }
        }
        if !read.contains(&"target") {
            warn(self.event, "target");
        }
    }

    fn action(&self, word: Word, values: Values, at: Duration) -> Option<Action> {
        self.check_keys(word);
        match word {
            Word::StartFleet => Some(Action::StartFleet),
            Word::StopFleet => Some(Action::StopFleet),
            Word::InjectFailure => self.inject(values),
            Word::RecoverFailure => self.recover(),
            Word::IssueCommand => self.issue(values),
            Word::WaitForStatus => self.wait_for_status(&values),
            Word::Wait => Some(Action::Wait),
            Word::Log => Some(Action::Log(self.needed("log_message", values.log_message)?)),
            Word::Assert => self.assert(),
            Word::Crash => Some(Action::Crash {
                down: values.down.unwrap_or(DOWN),
            }),
            Word::CloudFault => {
                let fault = self.needed("fault", values.fault);
                let lasts = self.needed("duration", values.duration);
                let place = self.place(fault);
                let (fault, lasts) = fault.zip(lasts)?;
                let place = place?;
                Some(Action::Cloud {
                    fault,
                    place,
                    lasts,
                })
            }
            Word::Outage => self.outage(values, at),
            Word::ScalePool => self.scale_pool(values),
            Word::Automation => {
                let mode = self.needed("automation", values.automation)?;
                Some(Action::Automation(mode))
            }
        }
    }

    /// A parameter that the action needs.
    fn needed<T>(&self, key: &str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.fields.has(key) && !self.fields.is_broken() {
            self.missing(key);
        }
        value
    }

    fn missing(&self, key: &str) {
        let action = ACTIONS
            .iter()
            .find(|row| self.event.is_word("action", row.name))
            .map_or("the action", |row| row.name);
        let message = format!("{}: required by {action}", self.fields.path_of(key));
        self.fields.log().error(self.event.start(), message);
    }

    fn target(&self) -> Option<Target> {
        if !self.event.has("target") {
            self.event
                .fail("target", "required: name a node, pool/NAME/N, or * for all");
        }
        self.known.target(self.event, "target")
    }

    /// The kind that an old action stands for.
    fn old_kind(&self) -> Option<FailureKind> {
        let kinds = [
            ("inject_xid", FailureKind::Xid),
            ("inject_thermal", FailureKind::Temperature),
            ("inject_memory", FailureKind::Memory),
        ];
        let mut kinds = kinds.into_iter();
        kinds
            .find(|(word, _)| self.event.is_word("action", word))
            .map(|(_, kind)| kind)
    }

    fn inject(&self, values: Values) -> Option<Action> {
        let target = self.target();
        let kind = match self.old_kind() {
            Some(kind) => Some(kind),
            None => {
                let kind = failure_kind(&self.fields, "failure_type");
                self.needed("failure_type", kind)
            }
        };
        if let (Some(target), Some(gpu)) = (&target, values.gpu) {
            let gpus = self.known.gpus(target);
            if gpu >= i128::from(gpus) {
                self.fields.fail(
                    "gpu_index",
                    match gpus {
                        0 => "the node has no GPUs".to_owned(),
                        _ => format!(
                            "{gpu} is beyond the GPUs of the target: use 0 to {}",
                            gpus - 1
                        ),
                    },
                );
            }
        }
        Some(Action::Inject {
            target: target?,
            failure: Failure {
                kind: kind?,
                xid: values.xid.and_then(|_| xid(&self.fields, "xid_code", kind)),
                gpu: u32::try_from(values.gpu.unwrap_or(0)).ok(),
                message: values.message.unwrap_or_default(),
                lasts: values.duration,
            },
        })
    }

    fn recover(&self) -> Option<Action> {
        let target = self.target();
        let kind = failure_kind(&self.fields, "failure_type");
        Some(Action::Recover {
            target: target?,
            kind,
        })
    }

    fn issue(&self, values: Values) -> Option<Action> {
        let target = self.target();
        let kind = self.needed("command_type", values.command);
        Some(Action::Command {
            target: target?,
            kind: kind?,
            parameters: values.arguments,
        })
    }

    fn wait_for_status(&self, values: &Values) -> Option<Action> {
        let target = self.target();
        let status = self.status();
        Some(Action::WaitForStatus {
            target: target?,
            status: status?,
            timeout: values.timeout.unwrap_or(STATUS_TIMEOUT),
        })
    }

    fn status(&self) -> Option<NodeStatus> {
        if !self.fields.has("expected_status") {
            self.missing("expected_status");
            return None;
        }
        node_status(&self.fields, "expected_status")
    }

    /// An assertion: its own section, or the Go project's parameters.
    fn assert(&self) -> Option<Action> {
        let line = self.event.start().line;
        let holds = |what| Some(Action::Assert(Assertion { line, what }));
        if self.fields.has("assertion") {
            let section = self.fields.section("assertion");
            return holds(assertion(&section, self.known)?);
        }
        for (word, health) in [
            ("assert_node_healthy", navarch_model::HealthStatus::Healthy),
            (
                "assert_node_unhealthy",
                navarch_model::HealthStatus::Unhealthy,
            ),
        ] {
            if self.event.is_word("action", word) {
                return holds(Expected::HealthStatus(self.target()?, health));
            }
        }
        let of_health = match self.fields.has("failure_type") {
            true => assertions::is_about_health(&self.fields, "failure_type")?,
            false => false,
        };
        let target = self.target();
        if !self.fields.has("expected_status") {
            self.missing("expected_status");
            return None;
        }
        holds(match of_health {
            true => {
                let status = assertions::health_status(&self.fields, "expected_status");
                Expected::HealthStatus(target?, status?)
            }
            false => {
                let status = node_status(&self.fields, "expected_status");
                Expected::NodeStatus(target?, status?)
            }
        })
    }

    fn outage(&self, values: Values, at: Duration) -> Option<Action> {
        let duration = self.needed("duration", values.duration);
        let scope = match self.fields.has("scope") {
            true => values.scope,
            false => Some(DomainScope::Place(crate::scenario::Scope::Zone)),
        };
        let (fields, target) = match self.fields.has("target") {
            true => (&self.fields, values.target),
            false => (self.event, self.event.text("target")),
        };
        let domain = scope.and_then(|scope| {
            self.known
                .domain(fields, "target", target.as_deref(), scope)
        });
        let kind = outage_kind(&self.fields);
        Some(Action::Outage(Outage {
            name: values.name.unwrap_or_else(|| "outage".to_owned()),
            start_time: at,
            duration: duration?,
            domain: domain?,
            kind,
        }))
    }

    /// The place of a fault: empty without a target.
    fn place(&self, fault: Option<CloudFault>) -> Option<String> {
        if !self.event.has("target") {
            return Some(String::new());
        }
        let place = self.event.text("target")?;
        let whole = fault.filter(|fault| !fault.is_of_launches());
        let whole = whole.zip(place.split_once('/'));
        // What is about a provider as a whole is told so, wherever pools buy.
        let checked = whole.map_or(place.as_str(), |(_, (provider, _))| provider);
        if let Err(problem) = self.known.check_place(checked) {
            self.event.fail("target", problem);
            return None;
        }
        if let Some((fault, (provider, _))) = whole {
            self.event.fail(
                "target",
                format!(
                    "{} is about a provider as a whole: write {provider}",
                    fault.word()
                ),
            );
            return None;
        }
        Some(place)
    }

    fn scale_pool(&self, values: Values) -> Option<Action> {
        let nodes = self.needed("nodes", values.nodes);
        let (fields, key, name) = match self.fields.has("pool") {
            true => (&self.fields, "pool", values.pool),
            false => (self.event, "target", self.event.text("target")),
        };
        if !fields.has(key) && !fields.is_broken() {
            self.missing("pool");
        }
        let name = name?;
        let name = name.strip_prefix("pool/").unwrap_or(&name);
        let pool = self.known.pool(fields, key, name);
        Some(Action::ScalePool {
            pool: pool?,
            nodes: nodes?,
        })
    }
}

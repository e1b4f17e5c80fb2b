//! Health policies: rules in CEL that turn raw facts into verdicts.
//!
//! A policy is parsed once, which compiles and tries every rule; evaluating an event then tries the
//! rules in order, and the first that matches gives the verdict.

mod check;
mod condition;
mod event;
mod file;
mod limits;
mod place;
mod quick;
mod sample;
mod value;

use std::cell::LazyCell;
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use navarch_model::{FaultKind, HealthEventType, HealthStatus, HealthWatchSystem, Repair};

use crate::catalogue::Advice;
use condition::{Condition, Outcome, context};
pub use event::{EventFacts, EventFactsOwned, Metric, parse_event};
pub use file::PolicyError;
use quick::kind_of;
use value::{MAX_METRICS, MAX_TEXT_BYTES, Pattern, Scope};

/// The policy that is in force when none is configured; also the example `catalogue.yaml`.
pub const BUILTIN_TEXT: &str = include_str!("../../../examples/policies/catalogue.yaml");

/// The name of [`BUILTIN_TEXT`] in messages.
const BUILTIN_SOURCE: &str = "built-in policy";

/// The class of an event on which a rule could not be evaluated.
const RULE_ERROR_CLASS: &str = "rule-error";

/// The longest class taken from an event's own words, in characters.
const MAX_CLASS_CHARS: usize = 64;

/// A loaded policy. It is immutable; a reload makes another.
#[derive(Debug)]
pub struct HealthPolicy {
    source: Arc<str>,
    version: String,
    name: String,
    description: String,
    rules: Vec<Rule>,
    patterns: Vec<Pattern>,
    warnings: Vec<PolicyError>,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name, unique in its policy.
    pub name: Arc<str>,
    /// What it is for.
    pub description: String,
    /// The condition, as written.
    pub condition: String,
    /// The verdict when it matches.
    pub result: HealthStatus,
    /// How its faults end, if the file says.
    pub kind: Option<FaultKind>,
    /// The class of its faults, if the file names one.
    pub class: Option<Arc<str>>,
    /// The repair, if the file says.
    pub action: Option<Repair>,
    /// The time after which its faults end by themselves.
    pub clear_after: Option<Duration>,
    /// Where it begins in the file: the line, from 1.
    pub line: usize,
    /// Where it begins in the file: the column, from 1.
    pub column: usize,
    condition_at: (usize, usize),
    compiled: Condition,
}

/// What the policy concludes from one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventVerdict {
    /// How bad it is: healthy, degraded or unhealthy.
    pub result: HealthStatus,
    /// The rule that says so; none when no rule matched. Where a failing rule made the event
    /// degraded, that rule.
    pub rule: Option<Arc<str>>,
    /// The class of the fault: at most one incident is open per node, GPU and class.
    pub class: Arc<str>,
    /// How the fault ends.
    pub kind: FaultKind,
    /// The repair it requires; none while there are findings.
    pub repair: Repair,
    /// Who says so besides the rule: the row of the catalogue, or the driver.
    pub citation: Option<String>,
    /// The time after which the fault ends by itself.
    pub clear_after: Option<Duration>,
    /// Rules that could not be evaluated.
    pub findings: Vec<RuleFinding>,
}

/// A rule that could not be evaluated on an event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleFinding {
    /// The rule; none when the event itself is larger than rules look at.
    pub rule: Option<Arc<str>>,
    /// Why.
    pub error: String,
}

impl fmt::Display for RuleFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) => write!(f, "rule \"{rule}\" cannot be evaluated: {}", self.error),
            None => f.write_str(&self.error),
        }
    }
}

/// The worst of several verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overall {
    /// How bad it is; healthy when there are no verdicts.
    pub result: HealthStatus,
    /// The rule of the first event with that result; none when everything is healthy.
    pub rule: Option<Arc<str>>,
}

/// How one rule fared on an event, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// It matched.
    Matched,
    /// Its condition is false.
    NotMatched,
    /// The event has no such metric, which is no match.
    Missing(String),
    /// It could not be evaluated, which is no match and a finding.
    Failed(String),
    /// An earlier rule matched.
    NotReached,
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matched => f.write_str("matched"),
            Self::NotMatched => f.write_str("no match"),
            Self::Missing(key) => write!(f, "no match: the event has no {key:?}"),
            Self::Failed(error) => write!(f, "cannot be evaluated: {error}"),
            Self::NotReached => f.write_str("not reached"),
        }
    }
}

impl HealthPolicy {
    /// Reads a policy file, compiles every rule and tries it on sample events of every type.
    ///
    /// `source` names the file in messages.
    ///
    /// # Errors
    ///
    /// Fails with everything that is wrong with the file, in the order of the places.
    pub fn parse(source: &str, text: &str) -> Result<Self, Vec<PolicyError>> {
        file::parse(source, text)
    }

    /// The policy that is in force when none is configured, written from NVIDIA's catalogue.
    pub fn builtin() -> Arc<Self> {
        static BUILTIN: LazyLock<Arc<HealthPolicy>> = LazyLock::new(|| {
            Arc::new(
                HealthPolicy::parse(BUILTIN_SOURCE, BUILTIN_TEXT)
                    .expect("a test loads the same text"),
            )
        });
        Arc::clone(&BUILTIN)
    }

    /// The text of the built-in policy.
    pub fn builtin_text() -> &'static str {
        BUILTIN_TEXT
    }

    /// The file it was read from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The version in the file; empty if it has none.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The name in the file's metadata; empty if it has none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The description in the file's metadata; empty if it has none.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The rules in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule of a name.
    pub fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| &*rule.name == name)
    }

    /// What is odd about the file, in the order of the places: it loads, but probably does not say
    /// what was meant.
    pub fn warnings(&self) -> &[PolicyError] {
        &self.warnings
    }

    /// What the policy concludes from an event.
    pub fn evaluate(&self, event: &EventFacts<'_>) -> EventVerdict {
        self.judge(event, &mut |_, _| ())
    }

    /// What the policy concludes from an event, and how each rule fared.
    pub fn explain(&self, event: &EventFacts<'_>) -> (EventVerdict, Vec<(Arc<str>, Trial)>) {
        let mut trials: Vec<_> = self
            .rules
            .iter()
            .map(|rule| (Arc::clone(&rule.name), Trial::NotReached))
            .collect();
        let verdict = self.judge(event, &mut |at, trial| trials[at].1 = trial);
        (verdict, trials)
    }

    fn judge(&self, event: &EventFacts<'_>, note: &mut dyn FnMut(usize, Trial)) -> EventVerdict {
        let (advice, kind) = (event.advice(), kind_of(event));
        // Most events are decided without the interpreter.
        let scope = LazyCell::new(|| Scope::new(*event, advice, &self.patterns));
        let context = LazyCell::new(|| context(&scope));
        let mut findings = oversize(event);
        let mut matched = None;
        for (at, rule) in self.rules.iter().enumerate() {
            let outcome = match rule.compiled.decide(kind, event, advice.as_ref()) {
                Some(true) => Outcome::True,
                Some(false) => Outcome::False,
                None => rule.compiled.run(&context),
            };
            let error = match outcome {
                Outcome::True => {
                    note(at, Trial::Matched);
                    matched = Some(rule);
                    break;
                }
                Outcome::False => {
                    note(at, Trial::NotMatched);
                    continue;
                }
                Outcome::Missing(key) => {
                    note(at, Trial::Missing(key));
                    continue;
                }
                Outcome::NotBoolean(of_type) => {
                    format!("it gives a value of type {of_type}, neither true nor false")
                }
                Outcome::Undeclared(name) => format!("unknown name {name:?}"),
                Outcome::Failed(error) => error,
            };
            findings.push(RuleFinding {
                rule: Some(Arc::clone(&rule.name)),
                error: error.clone(),
            });
            note(at, Trial::Failed(error));
        }
        verdict(event, advice, matched, findings)
    }
}

fn verdict(
    event: &EventFacts<'_>,
    advice: Option<Advice>,
    matched: Option<&Rule>,
    findings: Vec<RuleFinding>,
) -> EventVerdict {
    let result = matched.map_or(HealthStatus::Healthy, |rule| rule.result);
    if result == HealthStatus::Healthy
        && let Some(first) = findings.first()
    {
        // Where a rule cannot run, nothing is known to be healthy.
        return EventVerdict {
            result: HealthStatus::Degraded,
            rule: first.rule.clone(),
            class: Arc::from(RULE_ERROR_CLASS),
            kind: FaultKind::Condition,
            repair: Repair::None,
            citation: Some(first.to_string()),
            clear_after: None,
            findings,
        };
    }
    let advised = advice.and_then(|advice| advice.repair);
    let repair = match (matched.and_then(|rule| rule.action), result) {
        (_, HealthStatus::Healthy | HealthStatus::Unknown) => Repair::None,
        // The rule that could not run may have been the one that exempts this event.
        _ if !findings.is_empty() => Repair::None,
        (Some(action), _) => action,
        // Degraded machines keep their work; nothing beyond the application is at stake.
        (None, HealthStatus::Degraded) => advised.unwrap_or_default().min(Repair::RestartApp),
        // A machine that a rule takes out of service comes back by something an agent can prove.
        (None, HealthStatus::Unhealthy) => advised
            .unwrap_or_else(|| usual_repair(event))
            .max(Repair::ResetGpu),
    };
    EventVerdict {
        result,
        rule: matched.map(|rule| Arc::clone(&rule.name)),
        class: matched
            .and_then(|rule| rule.class.clone())
            .unwrap_or_else(|| usual_class(event)),
        kind: matched
            .and_then(|rule| rule.kind)
            .unwrap_or_else(|| usual_kind(event, result)),
        repair,
        citation: advice.map(|advice| advice.cite.to_string()),
        clear_after: matched.and_then(|rule| rule.clear_after),
        findings,
    }
}

/// What a rule without `class` makes of an event: errors that do not go away by themselves are
/// latched.
fn usual_kind(event: &EventFacts<'_>, result: HealthStatus) -> FaultKind {
    use HealthEventType::{DriverError, EccDbe, Xid};
    if result == HealthStatus::Unhealthy && matches!(event.event_type, Xid | EccDbe | DriverError) {
        FaultKind::Latched
    } else {
        FaultKind::Condition
    }
}

/// The class of an event whose rule names none: the error's code, else its type, else its watch or
/// system.
fn usual_class(event: &EventFacts<'_>) -> Arc<str> {
    if let Some(code) = event.xid_code() {
        return Arc::from(format!("xid-{code}"));
    }
    if event.event_type != HealthEventType::Unknown {
        return Arc::from(event.event_type.short());
    }
    if !event.watch.is_empty() {
        let end = event
            .watch
            .char_indices()
            .nth(MAX_CLASS_CHARS)
            .map_or(event.watch.len(), |(at, _)| at);
        return Arc::from(&event.watch[..end]);
    }
    Arc::from(event.system.short())
}

/// The repair of an unhealthy event for which neither rule nor catalogue names one: the mildest
/// that can help.
fn usual_repair(event: &EventFacts<'_>) -> Repair {
    use {HealthEventType as Type, HealthWatchSystem as System};
    match (event.event_type, event.system) {
        (Type::Xid | Type::Memory | Type::EccSbe | Type::EccDbe | Type::Nvlink, _)
        | (Type::Unknown, System::Mem | System::Nvlink | System::Sm) => Repair::ResetGpu,
        (Type::DriverError | Type::Pcie, _)
        | (Type::Unknown, System::Driver | System::Pcie | System::Nvswitch) => Repair::Reboot,
        (Type::Unknown, System::Unknown) => Repair::Reboot,
        // Heat, power and worn-out parts stay through a reboot.
        (Type::Thermal | Type::Power, _) | (Type::Unknown, _) => Repair::Replace,
    }
}

/// A finding when an event is larger than rules look at.
fn oversize(event: &EventFacts<'_>) -> Vec<RuleFinding> {
    let finding = |error: String| vec![RuleFinding { rule: None, error }];
    if event.metrics.len() > MAX_METRICS {
        return finding(format!(
            "the event has more than the {MAX_METRICS} metrics that rules go through"
        ));
    }
    let long = [event.message, event.watch, event.gpu_uuid]
        .into_iter()
        .chain(event.metrics.values().map(String::as_str))
        .any(|text| text.len() > MAX_TEXT_BYTES);
    if long {
        return finding(format!(
            "the event has a text of more than the {MAX_TEXT_BYTES} bytes that rules look at"
        ));
    }
    Vec::new()
}

/// The worst of several verdicts, and the first rule that says so.
pub fn aggregate<'v>(verdicts: impl IntoIterator<Item = &'v EventVerdict>) -> Overall {
    let mut overall = Overall {
        result: HealthStatus::Healthy,
        rule: None,
    };
    for verdict in verdicts {
        if verdict.result > overall.result {
            overall = Overall {
                result: verdict.result,
                rule: verdict.rule.clone(),
            };
        }
    }
    overall
}

//! The record as log lines: what was decided and what came of it, once it is durable.

use navarch_model::{Change, Event, EventKind, Evidence, IncidentId};

/// Logs the events among committed changes, each with the ids and facts that `explain` shows.
pub(crate) fn log(changes: &[Change]) {
    for change in changes {
        if let Change::Event(event) = change {
            tell(event, changes);
        }
    }
}

macro_rules! record {
    ($level:ident, $event:ident, $evidence:ident) => {{
        let about = &$event.subject;
        let fact = |key: &str| $event.details.get(key).map(String::as_str);
        tracing::$level!(
            event = $event.kind.word(),
            sequence = $event.sequence,
            count = ($event.count > 1).then_some($event.count),
            pool = about.pool.as_ref().map(|id| id.as_str()),
            node_id = about.node.as_ref().map(|id| id.as_str()),
            instance = about.instance.as_ref().map(|id| id.as_str()),
            incident = about.incident.as_ref().map(|id| id.as_str()),
            command_id = about.command.as_ref().map(|id| id.as_str()),
            rule = fact("rule"),
            severity = fact("severity"),
            requires = fact("required"),
            evidence = $evidence,
            from = fact("from"),
            to = fact("to"),
            guard = fact("guard"),
            signature = fact("signature"),
            actor = fact("actor"),
            address = fact("address"),
            what = $event.message,
            "{}",
            phrase($event.kind)
        );
    }};
}

fn tell(event: &Event, changes: &[Change]) {
    let evidence = event.subject.incident.as_ref();
    let evidence = evidence
        .filter(|_| event.kind == EventKind::IncidentOpened)
        .and_then(|id| last_evidence(id, changes));
    match level(event) {
        Level::Error => record!(error, event, evidence),
        Level::Warn => record!(warn, event, evidence),
        Level::Info => record!(info, event, evidence),
        Level::Debug => record!(debug, event, evidence),
    }
}

/// The latest fact that speaks for an incident, as far as these changes tell.
fn last_evidence(id: &IncidentId, changes: &[Change]) -> Option<String> {
    let incident = |change: &Change| match change {
        Change::Incident(incident) if incident.id == *id => incident.evidence.last().map(words),
        _ => None,
    };
    changes.iter().find_map(incident)
}

fn words(evidence: &Evidence) -> String {
    let mut text = evidence.event_type.short().to_owned();
    for (key, value) in &evidence.metrics {
        text.push_str(&format!(" {key}={value}"));
    }
    if !evidence.message.is_empty() {
        text.push_str(&format!(": {}", evidence.message));
    }
    text
}

enum Level {
    /// A person must look.
    Error,
    /// A machine shows a fault, or something went wrong and is tried again.
    Warn,
    /// Something started, ended or changed.
    Info,
    /// The same again.
    Debug,
}

fn level(event: &Event) -> Level {
    use EventKind as K;
    if event.count > 1 {
        return Level::Debug;
    }
    match event.kind {
        K::TerminationOverdue | K::InvariantViolated => Level::Error,
        K::IncidentOpened
        | K::NodeSilent
        | K::Interruption
        | K::BreakerOpened
        | K::BreakerProbeFailed
        | K::ListingSuspect
        | K::UnclaimedFound
        | K::RegistrationRefused
        | K::InstanceUnbound
        | K::ProviderError
        | K::NoticeFailed
        | K::RuleFailed
        | K::SpoolLost
        | K::Paused
        | K::ClockJumped => Level::Warn,
        _ => Level::Info,
    }
}

/// What happened, in the words that logs are searched for.
fn phrase(kind: EventKind) -> &'static str {
    use EventKind as K;
    match kind {
        K::NodeRegistered => "node registered successfully",
        K::NodeSilent => "node heartbeat timeout",
        K::NodeBack => "node heard again",
        K::NodeStatus => "node status changed",
        K::Interruption => "cloud takes machine back",
        K::InterruptionOver => "cloud keeps machine",
        K::InstancePhase => "instance phase changed",
        K::HoldAdded => "hold added",
        K::HoldRemoved => "hold removed",
        K::IncidentOpened => "incident opened",
        K::IncidentChanged => "incident changed",
        K::IncidentClosed => "incident closed",
        K::DrainStarted => "drain started",
        K::DrainFinished => "drain finished",
        K::DrainCancelled => "drain cancelled",
        K::PoolResized => "pool resized",
        K::NoticeTaken => "scheduler told",
        K::NoticeFailed => "scheduler not told",
        K::ReplacementStarted => "replacing unhealthy node",
        K::GuardBlocked => "action blocked",
        K::BreakerOpened => "breaker opened",
        K::BreakerClosed => "breaker closed",
        K::BreakerProbeFailed => "breaker stays open",
        K::CommandIssued => "issued command",
        K::CommandChanged => "command changed",
        other => other.word(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use navarch_model::{HealthEventType, HealthWatchSystem, Stamp, Subject};

    use super::*;

    fn event(kind: EventKind, count: u32) -> Event {
        Event {
            sequence: 7,
            at: Stamp::default(),
            last: Stamp::default(),
            count,
            kind,
            subject: Subject::default(),
            message: String::new(),
            details: BTreeMap::new(),
        }
    }

    #[test]
    fn repeats_are_details_and_errors_are_for_people() {
        for kind in EventKind::ALL {
            assert!(matches!(level(&event(*kind, 2)), Level::Debug), "{kind:?}");
            let first = level(&event(*kind, 1));
            assert!(!matches!(first, Level::Debug), "{kind:?}");
        }
        let overdue = event(EventKind::TerminationOverdue, 1);
        assert!(matches!(level(&overdue), Level::Error));
        assert!(matches!(
            level(&event(EventKind::NodeStatus, 1)),
            Level::Info
        ));
    }

    #[test]
    fn every_kind_has_words_of_its_own() {
        let mut phrases: Vec<&str> = EventKind::ALL.iter().map(|kind| phrase(*kind)).collect();
        phrases.sort_unstable();
        phrases.dedup();
        assert_eq!(phrases.len(), EventKind::ALL.len());
    }

    #[test]
    fn evidence_is_told_with_its_readings() {
        let evidence = Evidence {
            at: Stamp::default(),
            happened: 0,
            event_type: HealthEventType::Xid,
            system: HealthWatchSystem::default(),
            metrics: [("xid_code".to_owned(), "79".to_owned())].into(),
            message: "fell off the bus".to_owned(),
            boot: None,
        };
        assert_eq!(words(&evidence), "xid xid_code=79: fell off the bus");
    }
}

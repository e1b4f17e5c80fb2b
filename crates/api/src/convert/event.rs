//! The record, and the lines that explain a node.

use navarch_model::{Event, EventKind};

use super::time::timestamp;
use crate::v1;

/// An entry of the record.
pub fn event(event: &Event) -> v1::Event {
    let about = &event.subject;
    v1::Event {
        sequence: event.sequence,
        time: timestamp(event.at).into(),
        last_time: timestamp(event.last).into(),
        count: event.count,
        kind: event.kind.word().to_owned(),
        message: event.message.clone(),
        pool: text(about.pool.as_ref().map(|id| id.as_str())),
        instance_id: text(about.instance.as_ref().map(|id| id.as_str())),
        node_id: text(about.node.as_ref().map(|id| id.as_str())),
        incident_id: text(about.incident.as_ref().map(|id| id.as_str())),
        command_id: text(about.command.as_ref().map(|id| id.as_str())),
        details: event.details.clone(),
    }
}

fn text(id: Option<&str>) -> String {
    id.unwrap_or_default().to_owned()
}

/// The message, with who asked for it if somebody did.
fn with_actor(event: &Event) -> String {
    match event.details.get("actor") {
        None => event.message.clone(),
        Some(actor) => match event.details.get("address") {
            None => format!("{} (by {actor})", event.message),
            Some(address) => format!("{} (by {actor} from {address})", event.message),
        },
    }
}

/// The line that an entry of the record adds to an explanation.
pub fn explain_line(event: &Event) -> v1::ExplainLine {
    let about = &event.subject;
    // The nearest thing that the line is about.
    let id = about
        .incident
        .as_ref()
        .map(|id| id.as_str())
        .or(about.command.as_ref().map(|id| id.as_str()))
        .or(about.instance.as_ref().map(|id| id.as_str()))
        .or(about.node.as_ref().map(|id| id.as_str()))
        .or(about.pool.as_ref().map(|id| id.as_str()));
    v1::ExplainLine {
        time: timestamp(event.at).into(),
        sequence: event.sequence,
        step: step(event.kind).to_owned(),
        id: text(id),
        kind: event.kind.word().to_owned(),
        text: with_actor(event),
        count: event.count,
        last_time: timestamp(event.last).into(),
    }
}

/// Which step of evidence, rule, decision, guards, action and result an event is; the rest is
/// the state that things came to.
const fn step(kind: EventKind) -> &'static str {
    use EventKind as K;
    match kind {
        K::NodeSilent
        | K::NodeBack
        | K::UnclaimedFound
        | K::Interruption
        | K::InterruptionOver
        | K::SpoolLost
        | K::ClockJumped => "evidence",
        K::IncidentOpened
        | K::IncidentChanged
        | K::IncidentClosed
        | K::RuleFailed
        | K::PolicyRefused
        | K::PolicyApplied => "rule",
        K::ReplacementStarted
        | K::PoolResized
        | K::WouldAct
        | K::AutomationChanged
        | K::DrainCancelled => "decision",
        K::GuardBlocked
        | K::BreakerOpened
        | K::BreakerClosed
        | K::BreakerProbeFailed
        | K::ListingSuspect => "guard",
        K::DrainStarted | K::CommandIssued => "action",
        K::DrainFinished
        | K::NoticeTaken
        | K::NoticeFailed
        | K::CommandChanged
        | K::ProviderError
        | K::StaleResult
        | K::TerminationOverdue => "result",
        K::Started
        | K::Paused
        | K::Configured
        | K::InstancePhase
        | K::InstanceUnbound
        | K::NodeRegistered
        | K::RegistrationRefused
        | K::NodeStatus
        | K::HoldAdded
        | K::HoldRemoved
        | K::InvariantViolated => "state",
    }
}

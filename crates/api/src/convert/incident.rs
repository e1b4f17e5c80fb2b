//! Incidents.

use navarch_model::{Evidence, FaultKind, Incident};

use super::time::{milliseconds, optional, timestamp, timestamp_of_micros};
use crate::v1;

/// The word for how a fault ends.
pub(super) const fn kind_word(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Condition => "condition",
        FaultKind::Latched => "latched",
    }
}

/// An incident.
pub fn incident(incident: &Incident) -> v1::Incident {
    v1::Incident {
        incident_id: incident.id.as_str().to_owned(),
        node_id: incident.key.node.as_str().to_owned(),
        pool: incident
            .pool
            .as_ref()
            .map(|pool| pool.as_str().to_owned())
            .unwrap_or_default(),
        gpu_index: incident.key.gpu.unwrap_or(-1),
        class: incident.key.class.clone(),
        kind: kind_word(incident.kind).to_owned(),
        severity: incident.severity.number().into(),
        rule: incident.check.rule.clone(),
        watch: incident.check.watch.clone(),
        citation: incident.citation.clone(),
        required_repair: incident.required.word().to_owned(),
        opened_at: timestamp(incident.opened).into(),
        last_evidence_at: timestamp(incident.last_evidence).into(),
        evidence: incident.evidence.iter().map(evidence).collect(),
        evidence_count: incident.evidence_count,
        unhealthy_reports: incident.unhealthy_reports,
        healthy_reports: incident.healthy_reports,
        repaired_at: optional(incident.repaired.map(|(at, _)| at)),
        repair_proven: incident
            .repaired
            .map(|(_, repair)| repair.word().to_owned())
            .unwrap_or_default(),
        flapping: incident.flapping,
        clear_after_milliseconds: milliseconds(incident.clear_after),
        closed_at: optional(incident.closed.as_ref().map(|(at, _)| *at)),
        ending: incident
            .closed
            .as_ref()
            .map(|(_, ending)| ending.phrase())
            .unwrap_or_default(),
        confirmed: incident.confirmed,
    }
}

fn evidence(evidence: &Evidence) -> v1::IncidentEvidence {
    v1::IncidentEvidence {
        received_at: timestamp(evidence.at).into(),
        happened_at: timestamp_of_micros(evidence.happened).into(),
        event_type: evidence.event_type.number().into(),
        system: evidence.system.number().into(),
        metrics: evidence.metrics.clone(),
        message: evidence.message.clone(),
        boot_id: evidence
            .boot
            .as_ref()
            .map(|boot| boot.as_str().to_owned())
            .unwrap_or_default(),
    }
}

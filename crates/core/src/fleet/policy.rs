//! A changed health policy: what is open is judged again by the rules that are in force now.

use std::cmp::Ordering;
use std::sync::Arc;

use navarch_model::incident::MAX_EVIDENCE;
use navarch_model::{
    Check, Ending, EventKind, Evidence, FaultKind, HealthStatus, IdSource, Incident, IncidentId,
    Node, Repair, Subject,
};
use navarch_policy::{EventFacts, EventVerdict, HealthPolicy};

use super::incidents::{Finding, describe};
use super::report::SILENCE;
use super::stale::STALE_REPORTS;
use super::{Fleet, OVERFLOW};

/// The most characters of a refusal that are put on record.
const MAX_REFUSAL_CHARS: usize = 2000;

/// What the evidence of an incident comes to by one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Judged {
    class: String,
    kind: FaultKind,
    severity: HealthStatus,
    rule: String,
    citation: String,
    repair: Repair,
    clear_after: Option<std::time::Duration>,
}

impl Judged {
    fn new(verdict: EventVerdict) -> Self {
        let rule = verdict.rule.as_deref().unwrap_or("policy").to_owned();
        Self {
            class: verdict.class.to_string(),
            kind: verdict.kind,
            severity: verdict.result,
            citation: verdict.citation.unwrap_or_else(|| format!("rule {rule}")),
            rule,
            repair: if verdict.findings.is_empty() {
                verdict.repair
            } else {
                Repair::None
            },
            clear_after: verdict.clear_after,
        }
    }
}

impl Fleet {
    pub(crate) fn set_policy(&mut self, policy: Arc<HealthPolicy>, ids: &mut dyn IdSource) {
        let before = std::mem::replace(&mut self.policy, policy);
        self.look_at_all();
        self.notes.retain(|(_, _, guard, _), _| *guard != "rule");
        let source = self.policy.source().to_owned();
        self.event(
            EventKind::PolicyApplied,
            Subject::default(),
            format!("health policy {source} is in force"),
            [],
        );
        self.judge_again(Some(&before), ids);
    }

    /// Puts on record that a new health policy was refused. The same refusal again only counts.
    pub(crate) fn policy_refused(&mut self, source: &str, error: &str) {
        let error: String = error.chars().take(MAX_REFUSAL_CHARS).collect();
        self.event(
            EventKind::PolicyRefused,
            Subject::default(),
            format!("health policy {source} is refused, and the one before stays: {error}"),
            [("source", source.to_owned())],
        );
    }

    /// Judges the open incidents of policy rules again, and says of each that changes what it is
    /// now. `before` is the policy that was in force, if it is known: after a start it is not, and
    /// then an incident is only made milder where its evidence is complete and its rule another.
    pub(crate) fn judge_again(&mut self, before: Option<&HealthPolicy>, ids: &mut dyn IdSource) {
        let own = |rule: &str| {
            [SILENCE, STALE_REPORTS, OVERFLOW].contains(&rule) || rule.starts_with("agent:")
        };
        let open: Vec<IncidentId> = self
            .state
            .incidents
            .values()
            .filter(|incident| incident.is_open() && !own(&incident.check.rule))
            .map(|incident| incident.id.clone())
            .collect();
        for id in open {
            let Some(incident) = self
                .state
                .incidents
                .get(&id)
                .map(|one| Incident::clone(one))
            else {
                continue;
            };
            let Some(node) = self.state.nodes.get(&incident.key.node) else {
                continue;
            };
            let mut node = Node::clone(node);
            let all = judge(&self.policy, &node, &incident);
            let other = match before {
                Some(before) if judge(before, &node, &incident) == all => continue,
                Some(_) => true,
                None => !all.iter().any(|one| {
                    (&one.rule, &one.citation) == (&incident.check.rule, &incident.citation)
                }),
            };
            match worst(all) {
                None => self.close(&mut node, incident, Ending::PolicyChanged),
                Some(now) if now.class != incident.key.class => {
                    self.reclassify(&mut node, incident, now, ids);
                }
                Some(now) => self.regrade(&mut node, incident, now, other),
            }
            self.put_node(node, "the health policy changed");
        }
    }

    /// The fault is of another class now: its incident ends, and one of the new class goes on.
    fn reclassify(
        &mut self,
        node: &mut Node,
        incident: Incident,
        now: Judged,
        ids: &mut dyn IdSource,
    ) {
        let Some(evidence) = incident.evidence.last().cloned() else {
            return;
        };
        let finding = Finding {
            gpu: incident.key.gpu,
            class: now.class,
            kind: now.kind,
            severity: now.severity,
            check: Check {
                rule: now.rule,
                ..incident.check.clone()
            },
            citation: now.citation,
            required: now.repair,
            clear_after: now.clear_after,
            evidence,
            count: 1,
        };
        let counts = incident.unhealthy_reports > 0;
        let before = incident.id.clone();
        self.close(node, incident, Ending::PolicyChanged);
        let after = self.find(node, finding, counts, ids);
        if let Some(soft) = self.soft.get_mut(&node.id)
            && let Some(at) = soft.shown.remove(&before)
        {
            soft.shown.insert(after, at);
        }
    }

    fn regrade(&mut self, node: &mut Node, before: Incident, now: Judged, other: bool) {
        let mut incident = before.clone();
        let complete = before.evidence.len() < MAX_EVIDENCE;
        if other {
            if complete || now.kind >= before.kind {
                incident.kind = now.kind;
                incident.clear_after = now.clear_after;
            }
            incident.check.rule = now.rule;
            incident.citation = now.citation;
        } else if now.kind > before.kind {
            // The file may say so since the last start.
            incident.kind = now.kind;
            incident.clear_after = now.clear_after;
        }
        incident.severity = if other && complete {
            now.severity
        } else {
            now.severity.max(before.severity)
        };
        let repeats = now.kind == FaultKind::Latched && self.history(&before.key).0 > 0;
        let required = if repeats && now.repair > Repair::None {
            now.repair.raised()
        } else {
            now.repair
        };
        incident.required = if other {
            required
        } else {
            required.max(before.required)
        };
        incident.note_hit(Some(&before), self.now);
        if incident == before {
            return;
        }
        let subject = self.incident_subject(&incident);
        self.event(
            EventKind::IncidentChanged,
            subject,
            format!("the health policy changed: now {}", describe(&incident)),
            [
                ("severity", incident.severity.short().to_owned()),
                ("required", incident.required.word().to_owned()),
            ],
        );
        self.set_severity(node, &incident);
        self.put_incident(incident);
    }
}

/// The worst, the first of several; latched if any of its class is.
fn worst(all: Vec<Judged>) -> Option<Judged> {
    all.into_iter().reduce(|mut worst, mut one| {
        if one.class == worst.class {
            // What latches says when it may end, too.
            match one.kind.cmp(&worst.kind) {
                Ordering::Less => (one.kind, one.clear_after) = (worst.kind, worst.clear_after),
                Ordering::Equal => {}
                Ordering::Greater => (worst.kind, worst.clear_after) = (one.kind, one.clear_after),
            }
        }
        if (one.severity, one.repair) > (worst.severity, worst.repair) {
            one
        } else {
            worst
        }
    })
}

/// What a policy says of an incident, for each piece of its evidence that is a fault.
fn judge(policy: &HealthPolicy, node: &Node, incident: &Incident) -> Vec<Judged> {
    incident
        .evidence
        .iter()
        .map(|evidence| policy.evaluate(&facts(node, incident, evidence)))
        .filter(|verdict| verdict.result >= HealthStatus::Degraded)
        .map(Judged::new)
        .collect()
}

fn facts<'a>(node: &'a Node, incident: &'a Incident, evidence: &'a Evidence) -> EventFacts<'a> {
    let gpu = incident.key.gpu.unwrap_or(-1);
    let described = node.description.gpus.iter().find(|one| one.index == gpu);
    EventFacts {
        timestamp: evidence.happened,
        gpu_index: gpu,
        gpu_uuid: described.map_or("", |gpu| &gpu.uuid),
        system: evidence.system,
        event_type: evidence.event_type,
        watch: &incident.check.watch,
        message: &evidence.message,
        metrics: &evidence.metrics,
    }
}

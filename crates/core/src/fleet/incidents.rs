//! Incidents: opened and closed by facts, with the holds that follow from them.

use std::time::Duration;

use navarch_config::Recovery;
use navarch_model::ids::fresh;
use navarch_model::{
    Check, Ending, EventKind, Evidence, FaultKey, FaultKind, HealthStatus, HoldKind, IdSource,
    Incident, IncidentId, Node, Repair, Subject,
};

use super::report::{HEARTBEAT_WATCH, SILENCE};
use super::{Fleet, OVERFLOW, OVERFLOW_LATCHED};
use crate::input::{Rejection, Reply};

/// The most incidents that are open on one node, those for what is beyond it aside. Higher lets one
/// confused agent fill memory, lower hides faults from people.
pub(crate) const MAX_OPEN: usize = 64;

/// What a fact says about a fault.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub gpu: Option<i32>,
    pub class: String,
    pub kind: FaultKind,
    pub severity: HealthStatus,
    pub check: Check,
    pub citation: String,
    pub required: Repair,
    pub clear_after: Option<Duration>,
    pub evidence: Evidence,
    /// How many equal facts the evidence stands for.
    pub count: u32,
}

impl Fleet {
    pub(crate) fn incident_subject(&self, incident: &Incident) -> Subject {
        Subject {
            pool: incident.pool.clone(),
            node: Some(incident.key.node.clone()),
            instance: self
                .state
                .nodes
                .get(&incident.key.node)
                .and_then(|node| node.instance.clone()),
            incident: Some(incident.id.clone()),
            ..Subject::default()
        }
    }

    /// The open incident of a key.
    fn open_incident(&self, node: &Node, key: &FaultKey) -> Option<Incident> {
        node.open_incidents
            .keys()
            .filter_map(|id| self.state.incidents.get(id))
            .find(|incident| incident.key == *key)
            .map(|incident| Incident::clone(incident))
    }

    /// Opens an incident, or adds evidence to the one that is open. `counts` says whether the
    /// fact comes with a full report, which counts towards `unhealthy_after`.
    pub(crate) fn find(
        &mut self,
        node: &mut Node,
        finding: Finding,
        counts: bool,
        ids: &mut dyn IdSource,
    ) -> IncidentId {
        let key = FaultKey {
            node: node.id.clone(),
            gpu: finding.gpu,
            class: finding.class.clone(),
        };
        if let Some(open) = self.open_incident(node, &key) {
            return self.add_to(node, open, finding, counts);
        }
        if node.open_incidents.len() >= MAX_OPEN && finding.check.rule != OVERFLOW {
            return self.find(node, overflow(finding), counts, ids);
        }
        let (repeats, reopened) = self.history(&key);
        let mut required = finding.required;
        if finding.kind == FaultKind::Latched && repeats > 0 && required > Repair::None {
            required = required.raised();
        }
        let repaired = (finding.kind == FaultKind::Latched
            && is_of_earlier_boot(&finding, node)
            && required <= Repair::Reboot)
            .then_some((self.now, Repair::Reboot));
        let mut incident = Incident {
            id: IncidentId::new(fresh("inc", ids)),
            key,
            pool: node.pool.clone(),
            kind: finding.kind,
            severity: finding.severity,
            check: finding.check,
            citation: finding.citation,
            required,
            opened: self.now,
            hit: None,
            last_evidence: self.now,
            evidence: Vec::new(),
            evidence_count: 0,
            unhealthy_reports: u32::from(counts),
            healthy_reports: 0,
            repaired,
            confirmed: false,
            flapping: finding.kind == FaultKind::Condition
                && reopened > self.settings.guards.flapping.reopens,
            clear_after: finding.clear_after,
            closed: None,
        };
        incident.add_evidence(finding.evidence, finding.count);
        incident.note_hit(None, self.now);
        let subject = self.incident_subject(&incident);
        self.event(
            EventKind::IncidentOpened,
            subject,
            describe(&incident),
            [
                ("rule", incident.check.rule.clone()),
                ("class", incident.key.class.clone()),
                ("severity", incident.severity.short().to_owned()),
                ("required", incident.required.word().to_owned()),
            ],
        );
        let id = incident.id.clone();
        self.set_severity(node, &incident);
        self.put_incident(incident);
        id
    }

    fn add_to(
        &mut self,
        node: &mut Node,
        mut incident: Incident,
        mut finding: Finding,
        counts: bool,
    ) -> IncidentId {
        let before = incident.clone();
        let settings = incident
            .pool
            .as_ref()
            .and_then(|pool| self.pool_settings(pool));
        let limit = settings.map_or(u32::MAX, |pool| pool.config.health.unhealthy_after.max(1));
        if counts && finding.severity == HealthStatus::Unhealthy {
            incident.unhealthy_reports = (incident.unhealthy_reports + 1).min(limit);
        }
        incident.healthy_reports = 0;
        let earlier_boot = is_of_earlier_boot(&finding, node);
        // What was a condition until now must be repaired from now on: no good reading ends it.
        let latches = finding.kind > incident.kind;
        if latches {
            incident.kind = finding.kind;
            incident.clear_after = finding.clear_after;
            incident.flapping = false;
            if self.history(&incident.key).0 > 0 && finding.required > Repair::None {
                finding.required = finding.required.raised();
            }
        }
        let worse = finding.severity > incident.severity || finding.required > incident.required;
        if worse || latches {
            incident.severity = incident.severity.max(finding.severity);
            incident.required = incident.required.max(finding.required);
            incident.check = finding.check;
            incident.citation = finding.citation;
        }
        if incident.kind == FaultKind::Latched {
            if latches && earlier_boot && incident.required <= Repair::Reboot {
                incident.repaired = Some((self.now, Repair::Reboot));
            }
            if !earlier_boot && incident.repaired.take().is_some() {
                // It came back after the repair: that rung is not enough.
                incident.required = incident.required.raised();
                incident.note_hit(None, self.now);
            }
            incident.add_evidence(finding.evidence, finding.count);
        } else {
            let last = incident.evidence.last();
            let same = last.is_some_and(|last| last.metrics == finding.evidence.metrics);
            // A condition that reads the same again is no new fact. An event that happened again
            // is one where a time without any ends the incident.
            if !same || (!counts && incident.clear_after.is_some()) {
                incident.add_evidence(finding.evidence, finding.count);
            }
        }
        incident.note_hit(Some(&before), self.now);
        let id = incident.id.clone();
        if incident == before {
            return id;
        }
        let said = |one: &Incident| (one.severity, one.required, one.kind);
        if said(&incident) != said(&before) {
            let subject = self.incident_subject(&incident);
            self.event(
                EventKind::IncidentChanged,
                subject,
                format!("now {}", describe(&incident)),
                [
                    ("severity", incident.severity.short().to_owned()),
                    ("required", incident.required.word().to_owned()),
                ],
            );
        }
        self.set_severity(node, &incident);
        self.put_incident(incident);
        id
    }

    /// How often a key was closed within a day, and within the window for flapping.
    pub(crate) fn history(&self, key: &FaultKey) -> (usize, u32) {
        let mut repeats = 0;
        let mut reopened = 0;
        for incident in self
            .index
            .incidents_of_node(&key.node)
            .filter_map(|id| self.state.incidents.get(id))
            .filter(|incident| incident.key == *key)
        {
            let Some((closed, ending)) = &incident.closed else {
                continue;
            };
            if self.now.core.since(closed.core) < self.settings.guards.repeat_fault_window
                && !matches!(ending, Ending::Operator { .. } | Ending::PolicyChanged)
            {
                repeats += 1;
            }
            if self.now.core.since(incident.opened.core) < self.settings.guards.flapping.window {
                reopened += 1;
            }
        }
        (repeats, reopened)
    }

    /// Keeps the node's holds in step with an open incident.
    pub(crate) fn set_severity(&mut self, node: &mut Node, incident: &Incident) {
        node.open_incidents
            .insert(incident.id.clone(), incident.severity);
        if incident.severity == HealthStatus::Unhealthy {
            self.add_hold(
                node,
                HoldKind::Incident(incident.id.clone()),
                &incident.citation,
            );
        } else {
            let hold = HoldKind::Incident(incident.id.clone());
            self.remove_hold(node, &hold, "the incident is not unhealthy any more");
        }
    }

    /// Ends an incident and lifts its hold.
    pub(crate) fn close(&mut self, node: &mut Node, mut incident: Incident, ending: Ending) {
        let phrase = ending.phrase();
        incident.closed = Some((self.now, ending));
        node.open_incidents.remove(&incident.id);
        let subject = self.incident_subject(&incident);
        self.event(EventKind::IncidentClosed, subject, phrase.clone(), []);
        self.remove_hold(node, &HoldKind::Incident(incident.id.clone()), &phrase);
        self.put_incident(incident);
    }

    /// Ends every incident of a node.
    pub(crate) fn close_all(&mut self, node: &mut Node, ending: &Ending) {
        let open: Vec<_> = node.open_incidents.keys().cloned().collect();
        for id in open {
            match self
                .state
                .incidents
                .get(&id)
                .map(|incident| Incident::clone(incident))
            {
                Some(incident) => self.close(node, incident, ending.clone()),
                None => {
                    node.open_incidents.remove(&id);
                }
            }
        }
    }

    /// Whether incidents of a pool end by evidence.
    pub(crate) fn recovers(&self, node: &Node) -> bool {
        node.pool
            .as_ref()
            .and_then(|pool| self.pool_settings(pool))
            .is_none_or(|pool| pool.config.health.recovery == Recovery::Automatic)
    }

    pub(crate) fn close_by_operator(
        &mut self,
        id: &IncidentId,
        reason: String,
    ) -> Result<Reply, Rejection> {
        let Some(incident) = self
            .state
            .incidents
            .get(id)
            .map(|incident| Incident::clone(incident))
        else {
            return Err(Rejection::not_found(format!("incident not found: {id}")));
        };
        if let Some((_, ending)) = &incident.closed {
            return Err(Rejection::precondition(format!(
                "incident {id} is closed already: {}",
                ending.phrase()
            )));
        }
        let Some(mut node) = self
            .state
            .nodes
            .get(&incident.key.node)
            .map(|node| Node::clone(node))
        else {
            return Err(Rejection::not_found(format!(
                "node not found: {}",
                incident.key.node
            )));
        };
        // What opened it still stands, and nobody would tell of it again.
        if incident.key.class == SILENCE && node.silent_since.is_some() {
            return Err(Rejection::precondition(format!(
                "incident {id} stands for the silence of node {0}, which is not heard yet: it ends \
                 once the node is heard and well; if the machine is dead, `navarch node \
                 confirm-dead {0}` says so",
                node.id
            )));
        }
        self.close(&mut node, incident, Ending::Operator { reason });
        self.put_node(node, "an operator closed the incident");
        Ok(Reply::Done)
    }
}

/// Whether a finding tells of a boot before the present one of its node.
fn is_of_earlier_boot(finding: &Finding, node: &Node) -> bool {
    let of = &finding.evidence.boot;
    of.is_some() && node.boot.is_some() && *of != node.boot
}

/// A fault beyond the limit: one incident of the node stands for all conditions, and one for all
/// latched faults. They end as any other, when every check is healthy or the repair is proven.
fn overflow(finding: Finding) -> Finding {
    let class = match finding.kind {
        FaultKind::Condition => OVERFLOW,
        FaultKind::Latched => OVERFLOW_LATCHED,
    };
    let place = finding
        .gpu
        .map_or_else(|| "the node".to_owned(), |gpu| format!("GPU {gpu}"));
    Finding {
        gpu: None,
        class: class.to_owned(),
        check: Check {
            rule: OVERFLOW.to_owned(),
            watch: HEARTBEAT_WATCH.to_owned(),
            gpu: None,
        },
        citation: format!(
            "more than {MAX_OPEN} incidents are open on the node; this one stands for the others, \
             first for {} on {place}: {}",
            finding.class, finding.citation
        ),
        ..finding
    }
}

/// One line about an incident.
pub(crate) fn describe(incident: &Incident) -> String {
    let place = incident
        .key
        .gpu
        .map_or_else(|| "node".to_owned(), |gpu| format!("GPU {gpu}"));
    let mut text = format!(
        "{} {} on {place} by rule {}",
        incident.severity.short().to_ascii_uppercase(),
        incident.key.class,
        incident.check.rule
    );
    if !incident.citation.is_empty() {
        text.push_str(": ");
        text.push_str(&incident.citation);
    }
    if incident.required > Repair::None {
        text.push_str(&format!("; requires {}", incident.required.word()));
    }
    if incident.repaired.is_some() {
        text.push_str("; repaired, awaits the gate");
    }
    if incident.flapping {
        text.push_str("; flapping");
    }
    text
}

//! Reports: raw facts in, verdicts, incidents and passed gates out.

use std::collections::{BTreeMap, BTreeSet};

use navarch_model::{
    Check, CloudStatus, Ending, EventKind, Evidence, FaultKind, HealthEventType, HealthStatus,
    HealthWatchSystem, HoldKind, IdSource, Incident, IncidentId, Instance, Lifecycle, Node, Phase,
    Repair, Subject,
};
use navarch_policy::EventFacts;

use super::incidents::Finding;
use super::operator::{is_leaving_external, superseded};
use super::{Fleet, OVERFLOW};
use crate::input::{Fact, GradedResult, Rejection, Reply, Report};

/// The class of the incident that silence opens.
pub const SILENCE: &str = "silence";
/// The watch of incidents that the heartbeat itself ends.
pub const HEARTBEAT_WATCH: &str = "heartbeat";

/// What a report shows, by the policy or by the agent's own grades.
#[derive(Debug)]
struct Shown<'r> {
    /// The worst of everything.
    overall: HealthStatus,
    /// The checks that were made, as watch and GPU, with the worst of each.
    checks: BTreeMap<(&'r str, Option<i32>), HealthStatus>,
    /// The incidents that something in it speaks for.
    found: BTreeSet<IncidentId>,
    /// Whether an older agent graded it.
    graded: bool,
}

impl<'r> Shown<'r> {
    fn add(
        &mut self,
        watch: &'r str,
        gpu: Option<i32>,
        status: HealthStatus,
        found: Option<IncidentId>,
    ) {
        self.overall = self.overall.max(status);
        let check = self.checks.entry((watch, gpu)).or_insert(status);
        *check = status.max(*check);
        self.found.extend(found);
    }

    /// Whether it shows, as a full report, that a condition is over: its check was made and found
    /// nothing, and the machine is not unhealthy in another way. A degradation that another check
    /// finds says nothing of this one: it may last for as long as the machine does.
    fn shows_end_of(&self, incident: &Incident) -> bool {
        if self.overall >= HealthStatus::Unhealthy || self.found.contains(&incident.id) {
            return false;
        }
        let check = &incident.check;
        if check.watch == HEARTBEAT_WATCH {
            // Whoever reports in full is heard and reads its machine, whatever it finds there. What
            // stands for others names none of their checks.
            return check.rule != OVERFLOW || self.overall <= HealthStatus::Healthy;
        }
        if self.graded {
            // The checks of an older agent are not those that found what its events tell of.
            return self.overall <= HealthStatus::Healthy;
        }
        self.status_of(check)
            .is_some_and(|status| status <= HealthStatus::Healthy)
    }

    fn status_of(&self, check: &Check) -> Option<HealthStatus> {
        let made = self.checks.get(&(check.watch.as_str(), check.gpu));
        made.copied()
    }

    /// Whether it lacks, as a full report, the check of a GPU that an incident is about. What it does
    /// not read for the node as a whole, and what an older agent graded, it may never have read.
    fn lacks_check_of(&self, incident: &Incident) -> bool {
        let check = &incident.check;
        check.gpu.is_some()
            && !self.graded
            && !self.found.contains(&incident.id)
            && self.status_of(check).is_none()
    }
}

impl Fleet {
    pub(crate) fn report(
        &mut self,
        report: Report,
        ids: &mut dyn IdSource,
    ) -> Result<Reply, Rejection> {
        let Some(id) = report.node.clone() else {
            return Err(Rejection::invalid("node_id is required"));
        };
        let Some(known) = self.state.nodes.get(&id) else {
            return Err(Rejection::not_found(format!("node not found: {id}")));
        };
        if known.lifecycle == Lifecycle::Terminated {
            return Err(Rejection::not_found(format!(
                "node not found: {id} (it is terminated)"
            )));
        }
        if report.session.is_some() && report.session != known.session {
            return Err(superseded(&id));
        }
        if report.sequence > 0 && report.sequence <= known.report_sequence {
            return Ok(Reply::Reported(known.status()));
        }
        let mut node = Node::clone(known);
        if let Some(boot) = &report.boot {
            self.note_boot(&mut node, boot);
        }
        // A report of graded results is an older agent's full report.
        let graded = !node.description.capabilities.full_reports && !report.results.is_empty();
        let full = report.full || graded;
        let mut shown = Shown {
            overall: HealthStatus::Healthy,
            checks: BTreeMap::new(),
            found: BTreeSet::new(),
            graded,
        };
        for fact in &report.facts {
            let (status, found) = self.judge(&mut node, fact, full, ids);
            shown.add(watch_of(fact), fact.gpu, status, found);
        }
        for result in &report.results {
            let found = self.take_grade(&mut node, result, ids);
            shown.add(&result.check, None, result.status, found);
        }
        if full {
            self.take_full_report(&mut node, &shown);
        }
        let status = node.status();
        let changed = self
            .state
            .nodes
            .get(&id)
            .is_none_or(|before| **before != node);
        if changed || !self.changes.is_empty() {
            node.report_sequence = report.sequence;
        }
        let cause = self.status_cause(&node);
        self.put_node(node, &cause);
        Ok(Reply::Reported(status))
    }

    /// Why a node has the status it has, in words.
    pub(crate) fn status_cause(&self, node: &Node) -> String {
        let worst = node
            .open_incidents
            .iter()
            .filter(|(_, severity)| **severity == HealthStatus::Unhealthy)
            .filter_map(|(id, _)| self.state.incidents.get(id))
            .max_by_key(|incident| incident.opened);
        match worst {
            Some(incident) => format!("incident {} ({})", incident.id, incident.key.class),
            None if node.holds.is_empty() => "no hold stands".to_owned(),
            None => format!("holds: {}", node.hold_names().join(", ")),
        }
    }

    /// Grades one fact by the policy, and opens or feeds the incident it speaks for.
    fn judge(
        &mut self,
        node: &mut Node,
        fact: &Fact,
        full: bool,
        ids: &mut dyn IdSource,
    ) -> (HealthStatus, Option<IncidentId>) {
        let policy = std::sync::Arc::clone(&self.policy);
        // What the fleet expects belongs to the fact: an agent cannot know what is missing.
        let metrics = if fact.metrics.contains_key("gpu_count") {
            let mut metrics = fact.metrics.clone();
            metrics.insert(
                "gpu_count_expected".to_owned(),
                node.gpus_expected.to_string(),
            );
            std::borrow::Cow::Owned(metrics)
        } else {
            std::borrow::Cow::Borrowed(&fact.metrics)
        };
        let facts = EventFacts {
            timestamp: fact.happened,
            gpu_index: fact.gpu.unwrap_or(-1),
            gpu_uuid: &fact.gpu_uuid,
            system: fact.system,
            event_type: fact.event_type,
            watch: &fact.watch,
            message: &fact.message,
            metrics: &metrics,
        };
        let verdict = policy.evaluate(&facts);
        for finding in &verdict.findings {
            self.rule_failed(finding.rule.as_deref().unwrap_or("policy"), &finding.error);
        }
        if verdict.result < HealthStatus::Degraded {
            return (verdict.result, None);
        }
        let rule = verdict.rule.as_deref().unwrap_or("policy").to_owned();
        let repair = if verdict.findings.is_empty() {
            verdict.repair
        } else {
            Repair::None
        };
        let finding = Finding {
            gpu: fact.gpu,
            class: verdict.class.to_string(),
            kind: verdict.kind,
            severity: verdict.result,
            check: Check {
                rule: rule.clone(),
                watch: watch_of(fact).to_owned(),
                gpu: fact.gpu,
            },
            citation: verdict.citation.unwrap_or_else(|| format!("rule {rule}")),
            required: repair,
            clear_after: verdict.clear_after,
            evidence: Evidence {
                at: self.now,
                happened: fact.happened,
                event_type: fact.event_type,
                system: fact.system,
                metrics: metrics.into_owned(),
                message: fact.message.clone(),
                boot: fact.boot.clone().or_else(|| node.boot.clone()),
            },
            count: fact.count.max(1),
        };
        let found = self.find(node, finding, full, ids);
        (verdict.result, Some(found))
    }

    /// Takes a result that an older agent graded itself. Answers the incident it speaks for.
    fn take_grade(
        &mut self,
        node: &mut Node,
        result: &GradedResult,
        ids: &mut dyn IdSource,
    ) -> Option<IncidentId> {
        if result.status < HealthStatus::Degraded {
            return None;
        }
        let check = Check {
            rule: format!("agent:{}", result.check),
            watch: result.check.clone(),
            gpu: None,
        };
        let finding = Finding {
            gpu: None,
            class: format!("check-{}", result.check),
            kind: FaultKind::Condition,
            severity: result.status,
            check,
            citation: format!("the agent's own check {}: {}", result.check, result.message),
            required: if result.status == HealthStatus::Unhealthy {
                Repair::Replace
            } else {
                Repair::None
            },
            clear_after: None,
            evidence: Evidence {
                at: self.now,
                happened: self.now.wall.0,
                event_type: HealthEventType::Unknown,
                system: HealthWatchSystem::Unknown,
                metrics: std::collections::BTreeMap::new(),
                message: result.message.clone(),
                boot: node.boot.clone(),
            },
            count: 1,
        };
        Some(self.find(node, finding, true, ids))
    }

    /// What a full report proves: recovered conditions, a passed gate, repaired faults.
    fn take_full_report(&mut self, node: &mut Node, shown: &Shown<'_>) {
        let overall = shown.overall;
        let soft = self.soft.entry(node.id.clone()).or_default();
        soft.last_full = Some(self.now.core);
        let is_open = |id: &IncidentId| node.open_incidents.contains_key(id);
        soft.shown.retain(|id, _| is_open(id));
        soft.unchecked.retain(|id, _| is_open(id));
        let found = shown.found.iter().cloned();
        soft.shown.extend(found.map(|id| (id, self.now.core)));
        node.reported = overall;
        let gate_passed =
            overall < HealthStatus::Unhealthy && node.holds.contains_key(&HoldKind::AdmissionGate);
        if gate_passed {
            self.remove_hold(
                node,
                &HoldKind::AdmissionGate,
                "a full report was not unhealthy",
            );
        }
        let open: Vec<Incident> = node
            .open_incidents
            .keys()
            .filter_map(|id| {
                self.state
                    .incidents
                    .get(id)
                    .map(|incident| Incident::clone(incident))
            })
            .collect();
        for incident in open {
            match incident.kind {
                FaultKind::Latched => {
                    if let (true, Some((_, proof))) =
                        (overall < HealthStatus::Unhealthy, incident.repaired)
                    {
                        self.close(node, incident, Ending::Repaired { proof });
                    }
                }
                FaultKind::Condition => {
                    // Only a heartbeat ends a silence: the report may be the host's last word.
                    let silent = incident.key.class == SILENCE && node.silent_since.is_some();
                    let ends = !silent && shown.shows_end_of(&incident);
                    let unchecked = self.is_unchecked(&incident, shown);
                    self.count_recovery(node, incident, ends, unchecked);
                }
            }
        }
    }

    /// Whether the check of a condition was not made for as long as full reports may be missing: a
    /// GPU that is gone is not read, nor one that answers no call, and a single reading may fail.
    fn is_unchecked(&mut self, incident: &Incident, shown: &Shown<'_>) -> bool {
        let limit = self.stale_limit();
        let soft = self.soft.entry(incident.key.node.clone()).or_default();
        if !shown.lacks_check_of(incident) {
            soft.unchecked.remove(&incident.id);
            return false;
        }
        let since = soft.unchecked.entry(incident.id.clone());
        let since = *since.or_insert(self.now.core);
        self.now.core.since(since) >= limit
    }

    /// Counts a full report for or against the recovery of a condition. One whose check is not made
    /// any more counts as one that is found: what is not known to be over is not.
    fn count_recovery(
        &mut self,
        node: &mut Node,
        mut incident: Incident,
        ends: bool,
        unchecked: bool,
    ) {
        let pool = node.pool.as_ref();
        let settings = pool.and_then(|pool| self.pool_settings(pool));
        let health = settings.map(|settings| &settings.config.health);
        if !ends || !self.recovers(node) {
            let mut counted = incident.unhealthy_reports;
            if let (true, Some(health)) = (unchecked && incident.makes_unhealthy(), health) {
                counted = (counted + 1).min(health.unhealthy_after.max(1));
            }
            if incident.healthy_reports > 0 || incident.unhealthy_reports != counted {
                incident.healthy_reports = 0;
                incident.unhealthy_reports = counted;
                self.put_incident(incident);
            }
            return;
        }
        let needed = health.map_or(1, |health| health.recover_after.max(1));
        incident.healthy_reports = (incident.healthy_reports + 1).min(needed);
        let quiet = !incident.flapping
            || self.now.core.since(incident.last_evidence.core)
                >= self.settings.guards.flapping.window;
        if incident.healthy_reports >= needed && quiet {
            self.close(node, incident, Ending::Recovered);
        } else if self
            .state
            .incidents
            .get(&incident.id)
            .is_some_and(|before| before.healthy_reports != incident.healthy_reports)
        {
            self.put_incident(incident);
        }
    }

    /// A rule that cannot run is a finding on the rule, once until the policy changes.
    fn rule_failed(&mut self, rule: &str, error: &str) {
        let key = (
            navarch_model::PoolName::new("policy"),
            rule.to_owned(),
            "rule",
            String::new(),
        );
        if self.notes.contains_key(&key) {
            return;
        }
        let note = crate::input::Note {
            pool: key.0.clone(),
            about: key.1.clone(),
            guard: key.2,
            cause: "",
            action: key.3.clone(),
            reason: error.to_owned(),
        };
        self.notes.insert(key, note);
        self.event(
            EventKind::RuleFailed,
            Subject::default(),
            format!("rule {rule} cannot be evaluated: {error}"),
            [("rule", rule.to_owned())],
        );
    }

    pub(crate) fn silent(
        &mut self,
        id: &navarch_model::NodeId,
        last_heard: navarch_model::Stamp,
        ids: &mut dyn IdSource,
    ) -> Result<Reply, Rejection> {
        let Some(node) =
            self.state.nodes.get(id).filter(|node| {
                node.lifecycle == Lifecycle::Registered && node.silent_since.is_none()
            })
        else {
            return Ok(Reply::Done);
        };
        let mut node = Node::clone(node);
        node.silent_since = Some(last_heard);
        if self.is_leaving(&node) {
            // Its machine is being terminated: that its agent ends is no fault, and no news.
            self.put_node(node, "heartbeat timeout");
            return Ok(Reply::Done);
        }
        let subject = self.node_subject(&node);
        let seconds = self.now.core.since(last_heard.core).as_secs();
        self.event(
            EventKind::NodeSilent,
            subject,
            format!("no heartbeat for {seconds} s"),
            [("last_heard", last_heard.wall.0.to_string())],
        );
        if is_leaving_external(&node) && self.was_told_to_end(&node.id) {
            self.end_node(node, "it fell silent after it was told to end");
            return Ok(Reply::Done);
        }
        self.doubt_sighting(&node);
        let evidence = self.own_evidence(&node, format!("no heartbeat for {seconds} s"));
        let finding = Finding {
            gpu: None,
            class: SILENCE.to_owned(),
            kind: FaultKind::Condition,
            severity: HealthStatus::Unhealthy,
            check: Check {
                rule: SILENCE.to_owned(),
                watch: HEARTBEAT_WATCH.to_owned(),
                gpu: None,
            },
            citation: format!(
                "no heartbeat for longer than {} s",
                self.settings.heartbeat_timeout.as_secs_f64()
            ),
            required: Repair::Replace,
            clear_after: None,
            evidence,
            count: 1,
        };
        self.find(&mut node, finding, false, ids);
        self.put_node(node, "heartbeat timeout");
        Ok(Reply::Done)
    }

    /// What the cloud said while the agent was heard proves nothing of a silence: a machine that it
    /// did not find is looked up anew, and at once.
    fn doubt_sighting(&mut self, node: &Node) {
        let instance = node.instance.as_ref();
        let Some(instance) = instance.and_then(|id| self.state.instances.get(id)) else {
            return;
        };
        let mut instance = Instance::clone(instance);
        if let (Phase::Running, Some(sighting)) = (instance.phase, &mut instance.sighting)
            && sighting.status == CloudStatus::NotFound
        {
            sighting.in_a_row = 0;
            instance.failures = 0;
            instance.retry_at = None;
            self.put_instance(instance);
        }
    }

    /// Whether the node's machine is being terminated, which nothing takes back.
    pub(super) fn is_leaving(&self, node: &Node) -> bool {
        let instance = node.instance.as_ref();
        instance
            .and_then(|id| self.state.instances.get(id))
            .is_some_and(|instance| instance.phase == Phase::Terminating)
    }

    pub(crate) fn back(&mut self, id: &navarch_model::NodeId) -> Result<Reply, Rejection> {
        let Some(node) = self
            .state
            .nodes
            .get(id)
            .filter(|node| node.silent_since.is_some())
        else {
            return Ok(Reply::Done);
        };
        let mut node = Node::clone(node);
        node.silent_since = None;
        node.fresh_since = self.now;
        if !self.is_leaving(&node) {
            let subject = self.node_subject(&node);
            self.event(EventKind::NodeBack, subject, "heard again", []);
        }
        self.put_node(node, "heard again");
        Ok(Reply::Done)
    }

    /// Evidence that the control plane found itself.
    pub(crate) fn own_evidence(&self, node: &Node, message: String) -> Evidence {
        Evidence {
            at: self.now,
            happened: self.now.wall.0,
            event_type: HealthEventType::Unknown,
            system: HealthWatchSystem::Unknown,
            metrics: std::collections::BTreeMap::new(),
            message,
            boot: node.boot.clone(),
        }
    }
}

/// The watch that made a reading; for agents that do not say, what it must have been.
fn watch_of(fact: &Fact) -> &str {
    if !fact.watch.is_empty() {
        return &fact.watch;
    }
    match fact.event_type {
        HealthEventType::Xid => "xid",
        HealthEventType::Thermal => "temperature",
        HealthEventType::Power => "power",
        HealthEventType::Memory | HealthEventType::EccSbe | HealthEventType::EccDbe => "memory",
        HealthEventType::Nvlink => "nvlink",
        HealthEventType::Pcie => "pcie",
        HealthEventType::DriverError => "driver",
        HealthEventType::Unknown => "",
    }
}

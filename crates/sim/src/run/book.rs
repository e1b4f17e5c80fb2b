//! Keeps the record of a run: what was broken, what the control plane concluded, what it cost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use navarch_config::scenario::FailureKind;
use navarch_core::{PlanReport, Settings};
use navarch_model::{
    Change, DrainCause, EndCause, HealthStatus, HoldKind, Incident, IncidentId, Instance,
    LaunchCause, Node, NodeId, NodeStatus, Pool, PoolName, State, Time,
};
use navarch_policy::HealthPolicy;

use crate::machine::Spec;
use crate::record::{
    Block, Cause, IncidentRecord, Injection, NodeEvent, NodeEventKind, NodeRecord, OutageRecord,
    PoolSample, Record, RuleHits, Sample,
};
use crate::run::ledger::{Ledger, NOT_THERE};
use crate::run::notices;

/// Capacity that an operator holds, or let go.
const OPERATOR: &str = "operator";
/// Capacity of a node whose trouble nobody injected.
const UNEXPLAINED: &str = "no injected failure";

/// Something that is broken and lasts: what the engine knows of it beside its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Its place in the record.
    pub(crate) at: usize,
    pub(crate) kind: FailureKind,
    /// From when it is there, and until when if it ends by itself.
    pub(crate) since: Time,
    pub(crate) until: Time,
    pub(crate) gpus: Vec<u32>,
    /// Whether no boot repairs it.
    pub(crate) permanent: bool,
    /// The driver's words; empty for the usual ones.
    pub(crate) message: String,
}

/// What is known of a node beside its record.
#[derive(Debug, Default)]
struct Live {
    gpus: u32,
    active: bool,
    /// The share of the counts that is this node's.
    counted: Option<(NodeStatus, HealthStatus)>,
    /// Whether its owner asks for it, and whether that ended.
    asked: bool,
    dismissed: bool,
    /// What is broken.
    open: Vec<Broken>,
    /// What the control plane may yet notice, as places in the record. An event, such as a burst of
    /// XIDs, and whatever took the machine away are over before it does.
    unnoticed: Vec<usize>,
    /// What made the machine boot last, or took it away.
    moved: Option<usize>,
    /// The node whose place it is bought to take.
    replaces: Option<NodeId>,
    /// Whether an operator had it ended.
    let_go: bool,
}

/// An incident that was seen.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Its place in the record.
    at: usize,
    evidence: u64,
    severity: HealthStatus,
    /// The failure that it is about.
    of: Option<usize>,
}

/// The book of a run.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) record: Record,
    live: BTreeMap<NodeId, Live>,
    ledger: Ledger,
    by_status: BTreeMap<NodeStatus, u32>,
    healthy: u32,
    degraded: u32,
    unhealthy: u32,
    /// Dollars per hour of what pools rent, in millionths.
    micros_per_hour: u64,
    incidents: BTreeMap<IncidentId, Seen>,
    blocks: BTreeMap<(PoolName, &'static str), usize>,
    starting: u32,
    failures: u64,
    cascaded: u64,
    recoveries: u64,
    outages: u32,
    incidents_open: u32,
}

impl Book {
    /// Counts hours and dollars up to a moment, before something changes.
    pub(crate) fn count(&mut self, now: Time) {
        let hours = self.ledger.count(&mut self.record, now);
        self.record.cost_dollars += self.micros_per_hour as f64 / 1e6 * hours;
    }

    /// A machine is switched on. `slot` says whether it is one more than were asked for before.
    pub(crate) fn powered(&mut self, spec: &Spec, lemon: bool, slot: bool, now: Time) {
        self.count(now);
        self.starting += 1;
        let live = self.live.entry(spec.node.clone()).or_default();
        live.gpus = spec.gpus;
        if spec.instance.is_none() && slot && !live.asked {
            live.asked = true;
            self.ledger.owner_asks(u64::from(spec.gpus));
        }
        let record = NodeRecord {
            place: spec.place.clone(),
            instance_type: spec.instance_type.clone(),
            gpu_count: spec.gpus,
            gpu_type: spec.gpu_type.clone(),
            pool: spec.pool.clone(),
            powered: now,
            registered: None,
            ended: None,
            status: NodeStatus::default(),
            health: HealthStatus::default(),
            events: Vec::new(),
            failures: 0,
            recoveries: 0,
            lemon,
        };
        self.record.nodes.insert(spec.node.clone(), record);
    }

    /// The cloud made a machine that costs so much.
    pub(crate) fn bought(&mut self, micros_per_hour: u64, now: Time) {
        self.count(now);
        self.micros_per_hour += micros_per_hour;
        self.record.launches += 1;
    }

    /// A machine is gone, and what was broken on it.
    pub(crate) fn gone(&mut self, node: &NodeId, why: &str, micros_per_hour: u64, now: Time) {
        self.count(now);
        self.micros_per_hour = self.micros_per_hour.saturating_sub(micros_per_hour);
        let open = self.open(node).to_vec();
        let taken = open.iter().rev().find(|one| takes_away(one.kind));
        if let (Some(taken), Some(live)) = (taken, self.live.get_mut(node)) {
            live.moved = Some(taken.at);
        }
        for one in open {
            self.ended(one.at, false, now);
        }
        let Some(record) = self.record.nodes.get_mut(node) else {
            return;
        };
        if record.ended.is_some() {
            return;
        }
        record.ended = Some(now);
        if record.registered.is_none() {
            self.starting = self.starting.saturating_sub(1);
            self.record.launches_failed += 1;
            self.tell(node, NodeEventKind::StartFailed(why.to_owned()), now);
        }
        self.tell(node, NodeEventKind::Ended(why.to_owned()), now);
    }

    /// The owner of an external node stops asking for it, or asks for it again.
    pub(crate) fn dismissed(&mut self, node: &NodeId, gpus: u64, dismissed: bool, now: Time) {
        self.count(now);
        let Some(live) = self.live.get_mut(node) else {
            return;
        };
        if dismissed && live.asked {
            self.ledger.owner_dismisses(node, gpus);
        } else if !dismissed && live.dismissed {
            self.ledger.owner_asks(gpus);
        } else {
            return;
        }
        (live.asked, live.dismissed) = (!dismissed, dismissed);
    }

    /// An external node takes the place of another.
    pub(crate) fn replaced(&mut self, old: &NodeId, new: &NodeId) {
        self.ledger.replaced(old, new);
        let old = self.live.get_mut(old);
        let asked = old.is_some_and(|old| std::mem::take(&mut old.asked));
        self.live.entry(new.clone()).or_default().asked = asked;
    }

    fn tell(&mut self, node: &NodeId, what: NodeEventKind, at: Time) {
        if let Some(record) = self.record.nodes.get_mut(node) {
            record.events.push(NodeEvent { at, what });
        }
    }

    /// What is broken on a node, the oldest first.
    pub(crate) fn open(&self, node: &NodeId) -> &[Broken] {
        self.live.get(node).map_or(&[], |live| &live.open)
    }

    /// Something broke. Answers its place in the record.
    pub(crate) fn injected(&mut self, injection: Injection, broken: Broken) -> usize {
        let at = self.record.injections.len();
        let (node, now) = (injection.node.clone(), injection.at);
        self.cascaded += u64::from(matches!(injection.cause, Cause::Cascade(_)));
        self.record.injections.push(injection);
        self.failures += 1;
        if let Some(live) = self.live.get_mut(&node) {
            live.open.push(Broken { at, ..broken });
            live.unnoticed.push(at);
        }
        if let Some(record) = self.record.nodes.get_mut(&node) {
            record.failures += 1;
        }
        self.tell(&node, NodeEventKind::Failure(at), now);
        at
    }

    /// No boot repairs what broke.
    pub(crate) fn permanent(&mut self, at: usize) {
        let Some(injection) = self.record.injections.get(at) else {
            return;
        };
        if let Some(live) = self.live.get_mut(&injection.node) {
            let broken = live.open.iter_mut().find(|one| one.at == at);
            broken.into_iter().for_each(|one| one.permanent = true);
        }
    }

    /// A machine boots because of a failure, or to repair it.
    pub(crate) fn rebooted(&mut self, node: &NodeId, of: usize) {
        if let Some(live) = self.live.get_mut(node) {
            live.moved = Some(of);
        }
    }

    /// What broke is over. `healed` says whether the machine goes on without it.
    pub(crate) fn ended(&mut self, at: usize, healed: bool, now: Time) {
        let Some(injection) = self.record.injections.get_mut(at) else {
            return;
        };
        if injection.ended.is_some() {
            return;
        }
        injection.ended = Some(now);
        let node = injection.node.clone();
        if let Some(live) = self.live.get_mut(&node) {
            live.open.retain(|open| open.at != at);
        }
        if healed {
            self.recoveries += 1;
            if let Some(record) = self.record.nodes.get_mut(&node) {
                record.recoveries += 1;
            }
            self.tell(&node, NodeEventKind::Recovery(at), now);
        }
    }

    /// A domain fails. Answers its place in the record.
    pub(crate) fn outage_begins(&mut self, name: &str, now: Time) -> usize {
        self.outages += 1;
        self.record.outages.push(OutageRecord {
            name: name.to_owned(),
            from: now,
            until: None,
            nodes: 0,
        });
        self.record.outages.len() - 1
    }

    /// An outage hits a node.
    pub(crate) fn outage_hits(&mut self, at: usize) {
        if let Some(outage) = self.record.outages.get_mut(at) {
            outage.nodes += 1;
        }
    }

    /// A domain is well again.
    pub(crate) fn outage_ends(&mut self, at: usize, now: Time) {
        self.outages = self.outages.saturating_sub(1);
        if let Some(outage) = self.record.outages.get_mut(at) {
            outage.until = Some(now);
        }
    }

    /// The control plane changed something, and that will not be lost. Incidents come first: they
    /// say why nodes change.
    pub(crate) fn changed(&mut self, changes: &[Change], now: Time) {
        for change in changes {
            match change {
                Change::Incident(incident) => self.incident(incident, now),
                Change::Instance(instance) => self.instance(instance),
                _ => {}
            }
        }
        for change in changes {
            if let Change::Node(node) = change {
                self.node(node, now);
            }
        }
    }

    /// A control plane starts with what its store has: changes that a crash cut off are known from
    /// now on.
    pub(crate) fn settle(&mut self, told: &State, loaded: &State, now: Time) {
        for (id, incident) in &loaded.incidents {
            if told.incidents.get(id) != Some(incident) {
                self.incident(incident, now);
            }
        }
        for (id, instance) in &loaded.instances {
            if told.instances.get(id) != Some(instance) {
                self.instance(instance);
            }
        }
        for (id, node) in &loaded.nodes {
            if told.nodes.get(id) != Some(node) {
                self.node(node, now);
            }
        }
    }

    /// An instance says whose place it takes, and whether an operator lets it go. Its node has its
    /// id.
    fn instance(&mut self, instance: &Instance) {
        let replaces = match &instance.cause {
            LaunchCause::Replace { instance } => Some(instance),
            _ => None,
        };
        let let_go = instance.end == Some(EndCause::Operator);
        if replaces.is_none() && !let_go {
            return;
        }
        let live = self.live.entry(NodeId::new(instance.id.as_str()));
        let live = live.or_default();
        live.let_go |= let_go;
        if live.replaces.is_none() {
            live.replaces = replaces.map(|old| NodeId::new(old.as_str()));
        }
    }

    fn node(&mut self, node: &Node, now: Time) {
        let Some(record) = self.record.nodes.get_mut(&node.id) else {
            return;
        };
        let (status, health) = (node.status(), node.health());
        let (was, felt) = (record.status, record.health);
        let first = record.registered.is_none();
        if first {
            record.registered = Some(now);
            self.starting = self.starting.saturating_sub(1);
            self.tell(&node.id, NodeEventKind::Started, now);
        } else if (was, felt) == (status, health) {
            return;
        }
        self.count(now);
        if let Some(record) = self.record.nodes.get_mut(&node.id) {
            (record.status, record.health) = (status, health);
        }
        if !first && was != status {
            let (from, to, why) = (was, status, why(node));
            self.tell(&node.id, NodeEventKind::Status { from, to, why }, now);
        }
        if !first && felt != health {
            let (from, to) = (felt, health);
            self.tell(&node.id, NodeEventKind::Health { from, to }, now);
        }
        let goes = [DrainCause::Interruption, DrainCause::Terminating].map(HoldKind::Drain);
        let leaves = goes.iter().any(|kind| node.holds.contains_key(kind));
        if node.terminated.is_some() || leaves {
            self.misses(&node.id, status, now);
        }
        let there = (node.terminated.is_none()).then_some((status, health));
        self.recount(&node.id, there);
        let active = there.is_some() && status == NodeStatus::Active;
        self.deliver(node, active, now);
    }

    /// The control plane finds that the machine of a node goes or is gone.
    fn misses(&mut self, node: &NodeId, status: NodeStatus, now: Time) {
        let injections = &mut self.record.injections;
        let Some(live) = self.live.get_mut(node) else {
            return;
        };
        live.unnoticed.retain(|at| {
            let takes = injections.get_mut(*at);
            let takes = takes.filter(|one| takes_away(one.kind));
            let noticed = takes.map(|one| one.noticed = Some((now, status.short().to_owned())));
            noticed.is_none()
        });
    }

    /// The control plane concluded something. Answers the newest failure that it is about, `known`
    /// if it is about none that was not noticed before.
    fn notice(&mut self, incident: &Incident, known: Option<usize>, now: Time) -> Option<usize> {
        let injections = &mut self.record.injections;
        let live = self.live.get_mut(&incident.key.node)?;
        let mut newest = None;
        live.unnoticed.retain(|at| {
            let about = injections.get_mut(*at);
            let about = about.filter(|one| notices::is_about(incident, one));
            let noticed = about.map(|one| {
                let conclusion = format!("incident of rule {}", incident.check.rule);
                one.noticed = Some((now, conclusion));
                newest = Some(*at);
            });
            noticed.is_none()
        });
        newest.or(known).or_else(|| {
            let open = live.open.iter().rev().map(|one| one.at);
            let mut about = open.filter(|at| {
                let injection = injections.get(*at);
                injection.is_some_and(|one| notices::is_about(incident, one))
            });
            about.next()
        })
    }

    fn recount(&mut self, node: &NodeId, there: Option<(NodeStatus, HealthStatus)>) {
        let Some(live) = self.live.get_mut(node) else {
            return;
        };
        let gone = std::mem::replace(&mut live.counted, there);
        for (counted, more) in [(gone, false), (there, true)] {
            let Some((status, health)) = counted else {
                continue;
            };
            let grow = |number: &mut u32| {
                *number = if more {
                    *number + 1
                } else {
                    number.saturating_sub(1)
                };
            };
            grow(self.by_status.entry(status).or_default());
            if status == NodeStatus::Unhealthy || health == HealthStatus::Unhealthy {
                grow(&mut self.unhealthy);
            } else if health == HealthStatus::Degraded {
                grow(&mut self.degraded);
            } else if status == NodeStatus::Active && health == HealthStatus::Healthy {
                grow(&mut self.healthy);
            }
        }
    }

    /// A node takes work from now on, or does not.
    fn deliver(&mut self, node: &Node, active: bool, now: Time) {
        let known = self.live.get(&node.id);
        let Some(live) = known.filter(|live| live.active != active) else {
            return;
        };
        let (gpus, id) = (u64::from(live.gpus), &node.id);
        let record = self.record.nodes.get(id);
        let pool = record.and_then(|record| record.pool.clone());
        if active {
            let replaces = live.replaces.as_ref();
            let took = self.ledger.comes(&pool, id, gpus, replaces, now);
            self.record.recovery_times.extend(took);
        } else if live.dismissed {
            self.ledger.leaves(&pool, gpus);
        } else {
            let (cause, of) = self.cause(node, live);
            let injection = of.and_then(|at| self.record.injections.get(at));
            let since = injection.map(|injection| injection.at);
            self.ledger.goes(&pool, id, gpus, cause, since);
        }
        if let Some(live) = self.live.get_mut(id) {
            live.active = active;
        }
    }

    /// Why a node takes no work any more, and the failure behind it.
    fn cause(&self, node: &Node, live: &Live) -> (&'static str, Option<usize>) {
        let broken = |at: Option<usize>| {
            let injection = at.and_then(|at| self.record.injections.get(at));
            injection.map_or((UNEXPLAINED, None), |one| (one.kind.word(), at))
        };
        let open = node.open_incidents.iter();
        let unhealthy = open.filter(|(_, severity)| **severity == HealthStatus::Unhealthy);
        let newest = unhealthy.filter_map(|(id, _)| self.incidents.get(id));
        if let Some(incident) = newest.max_by_key(|incident| incident.at) {
            return broken(incident.of);
        }
        if node.is_held_by_operator() || live.let_go {
            return (OPERATOR, None);
        }
        if node
            .holds
            .contains_key(&HoldKind::Drain(DrainCause::Shrink))
        {
            return (NOT_THERE, None);
        }
        let drained_for = node.holds.keys().find_map(|kind| match kind {
            HoldKind::Drain(DrainCause::Incident(id)) => self.incidents.get(id),
            _ => None,
        });
        if let Some(incident) = drained_for {
            return broken(incident.of);
        }
        // It booted, goes or is gone.
        let mut open = live.open.iter().rev();
        let takes = open.find(|one| takes_away(one.kind));
        broken(takes.map(|one| one.at).or(live.moved))
    }

    fn incident(&mut self, incident: &Incident, now: Time) {
        let rule = &incident.check.rule;
        let node = &incident.key.node;
        let known = self.incidents.get(&incident.id).copied();
        let mut seen = known.unwrap_or(Seen {
            at: self.record.incidents.len(),
            evidence: 0,
            severity: HealthStatus::Healthy,
            of: None,
        });
        let more = incident.evidence_count.saturating_sub(seen.evidence);
        if more > 0 {
            match self.record.rules.get_mut(rule) {
                Some(hits) => hits.hits += more,
                None => {
                    let hits = self.record.rules.entry(rule.clone()).or_default();
                    hits.hits += more;
                }
            }
        }
        if known.is_none() {
            self.incidents_open += 1;
            self.record.incidents.push(IncidentRecord {
                at: now,
                closed: None,
                node: node.clone(),
                rule: rule.clone(),
                action: incident.required.word().to_owned(),
            });
            self.tell(node, NodeEventKind::Incident(seen.at), now);
        }
        if more > 0 || incident.severity != seen.severity {
            seen.of = self.notice(incident, seen.of, now);
        }
        if let Some(record) = self.record.incidents.get_mut(seen.at)
            && record.closed.is_some() == incident.is_open()
        {
            record.closed = (!incident.is_open()).then_some(now);
            if incident.is_open() {
                self.incidents_open += 1;
            } else {
                self.incidents_open = self.incidents_open.saturating_sub(1);
            }
        }
        (seen.evidence, seen.severity) = (incident.evidence_count, incident.severity);
        self.incidents.insert(incident.id.clone(), seen);
    }

    /// The control plane planned.
    pub(crate) fn planned(&mut self, report: &PlanReport, settings: &Settings, now: Time) {
        if report.pools.is_empty() {
            return;
        }
        self.count(now);
        let mut stands: BTreeSet<(PoolName, &'static str)> = BTreeSet::new();
        for (pool, found) in &report.pools {
            let gpus = settings
                .pools
                .get(pool)
                .and_then(|pool| pool.offerings.first()?.gpus);
            let target = u32::try_from(found.target).unwrap_or(u32::MAX);
            self.ledger.pool_asks(pool, target, gpus.unwrap_or(1));
            for wait in &found.waits {
                let key = (pool.clone(), wait.guard);
                if !stands.insert(key.clone()) || self.blocks.contains_key(&key) {
                    continue;
                }
                self.blocks.insert(key, self.record.blocks.len());
                self.record.blocks.push(Block {
                    from: now,
                    until: None,
                    pool: Some(pool.clone()),
                    guard: wait.guard.to_owned(),
                    reason: wait.reason.clone(),
                });
            }
        }
        let blocks = &mut self.record.blocks;
        self.blocks.retain(|key, at| {
            let stays = stands.contains(key);
            if !stays {
                blocks[*at].until = Some(now);
            }
            stays
        });
    }

    /// Counts the fleet. `remembered` is what its pools remember, and `load` says which work and how
    /// many jobs a pool has.
    pub(crate) fn sample(
        &mut self,
        report: &PlanReport,
        remembered: &BTreeMap<PoolName, Arc<Pool>>,
        load: impl Fn(&PoolName) -> (f64, f64),
        now: Time,
    ) {
        self.count(now);
        let pools = report.pools.iter().map(|(name, pool)| {
            let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            let breakers = remembered.get(name).map_or(0, |pool| open_breakers(pool));
            let (work, jobs) = load(name);
            let sample = PoolSample {
                target: small(pool.target),
                machines: small(pool.alive),
                active: small(pool.active),
                disrupted: small(pool.budget.0),
                budget: small(pool.budget.1),
                breakers: small(breakers),
                work,
                jobs,
            };
            (name.clone(), sample)
        });
        // A moment has one count, the last.
        let samples = &mut self.record.samples;
        samples.pop_if(|last| last.at == now);
        let (active, gpus_active, gpus_asked) = self.ledger.totals();
        self.record.samples.push(Sample {
            at: now,
            nodes: self.by_status.values().sum(),
            healthy: self.healthy,
            degraded: self.degraded,
            unhealthy: self.unhealthy,
            by_status: self.by_status.clone(),
            active,
            gpus_active: small(gpus_active),
            gpus_asked: small(gpus_asked),
            starting: self.starting,
            failures: self.failures,
            recoveries: self.recoveries,
            outages: self.outages,
            incidents: self.incidents_open,
            cost_dollars: self.record.cost_dollars,
            pools: pools.collect(),
        });
    }

    /// The present size of a pool: what is asked for and what takes work.
    pub(crate) fn pool(&self, pool: &PoolName) -> (u32, u32) {
        self.ledger.pool(pool)
    }

    /// GPU-hours that a pool asked for and that were delivered to it, up to the last count.
    pub(crate) fn pool_hours(&self, pool: &PoolName) -> (f64, f64) {
        self.ledger.hours(pool)
    }

    /// Nodes that have yet to register, and that are healthy.
    pub(crate) const fn progress(&self) -> (u32, u32, u64, u64) {
        (self.starting, self.healthy, self.failures, self.recoveries)
    }

    /// Failures that other failures caused.
    pub(crate) const fn cascaded(&self) -> u64 {
        self.cascaded
    }

    /// Says of each rule that matched what it is.
    pub(crate) fn describe_rules(&mut self, policy: &HealthPolicy) {
        for (name, hits) in &mut self.record.rules {
            let place = policy.rules().iter().position(|rule| *rule.name == **name);
            let Some((place, rule)) = place.zip(policy.rule(name)) else {
                continue;
            };
            *hits = RuleHits {
                hits: hits.hits,
                result: rule.result.short().to_owned(),
                priority: place as i64 + 1,
                condition: rule.condition.to_string(),
            };
        }
    }

    /// How long failures took whose capacity is not back yet.
    pub(crate) fn still_lacking(&self, now: Time) -> Vec<Duration> {
        self.ledger.lacking(now)
    }
}

/// The breakers of a pool that are open, for repairs and for launches.
fn open_breakers(pool: &Pool) -> usize {
    let repairs = pool.repair_breakers.values();
    let launches = pool.offerings.values().map(|one| &one.breaker);
    repairs.chain(launches).filter(|one| one.is_open()).count()
}

/// Whether a failure takes the machine from its node.
const fn takes_away(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::MachineHang
            | FailureKind::MachineStop
            | FailureKind::MachineVanish
            | FailureKind::SpotInterruption
    )
}

/// Why a node has its status, in the words of what holds it.
fn why(node: &Node) -> String {
    if node.terminated.is_some() {
        return "its machine is gone".to_owned();
    }
    let mut reasons: Vec<&str> = Vec::new();
    for hold in node.holds.values() {
        if !hold.reason.is_empty() && !reasons.contains(&hold.reason.as_str()) {
            reasons.push(&hold.reason);
        }
    }
    if reasons.is_empty() {
        return "nothing holds it".to_owned();
    }
    reasons.join("; ")
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

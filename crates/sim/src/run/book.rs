//! Keeps the record of a run: what was broken, what the control plane concluded, what it cost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use navarch_config::scenario::FailureKind;
use navarch_core::{PlanReport, Settings};
use navarch_model::{
    Change, HealthStatus, Incident, Node, NodeId, NodeStatus, PoolName, State, Time,
};
use navarch_policy::HealthPolicy;

use crate::machine::Spec;
use crate::record::{
    Block, Cause, IncidentRecord, Injection, NodeEvent, NodeEventKind, NodeRecord, OutageRecord,
    PoolSample, Record, RuleHits, Sample,
};

/// Capacity that is asked for and that no node lacks: its machine is bought, boots or was never
/// there.
const NOT_THERE: &str = "not there yet";
/// Capacity that an operator holds.
const OPERATOR: &str = "operator";
/// Capacity of a node whose trouble nobody injected.
const UNEXPLAINED: &str = "no injected failure";

/// What is known of a node beside its record.
#[derive(Debug, Default)]
struct Live {
    gpus: u32,
    active: bool,
    /// The share of the counts that is this node's.
    counted: Option<(NodeStatus, HealthStatus)>,
    /// Why it delivers nothing.
    lost: Option<String>,
    /// What is broken, as places in the record.
    open: Vec<usize>,
    /// What the control plane may yet notice. An event, such as a burst of XIDs, and whatever took
    /// the machine away are over before it does.
    unnoticed: Vec<usize>,
    /// What was noticed last.
    noticed: Option<usize>,
}

/// A failure whose capacity is not back.
#[derive(Debug)]
struct Lack {
    since: Time,
    node: NodeId,
    pool: Option<PoolName>,
}

/// What a pool asks for.
#[derive(Debug, Default, Clone, Copy)]
struct PoolAsks {
    target: u32,
    gpus: u32,
    active: u32,
}

/// The book of a run.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) record: Record,
    live: BTreeMap<NodeId, Live>,
    pools: BTreeMap<PoolName, PoolAsks>,
    by_status: BTreeMap<NodeStatus, u32>,
    healthy: u32,
    degraded: u32,
    unhealthy: u32,
    active: u32,
    gpus_active: u64,
    /// GPUs of external nodes that are to be there.
    gpus_external: u64,
    gpus_lost: BTreeMap<String, u64>,
    /// Dollars per hour of what pools rent, in millionths.
    micros_per_hour: u64,
    /// Up to when hours and dollars are counted.
    counted: Time,
    lacks: Vec<Lack>,
    /// Why the place of a node that is to come delivers nothing.
    inherited: BTreeMap<NodeId, String>,
    /// The same for machines that pools are to buy, the earliest first.
    owed: BTreeMap<PoolName, VecDeque<(String, u64)>>,
    incidents: BTreeMap<navarch_model::IncidentId, usize>,
    blocks: BTreeMap<(PoolName, &'static str), usize>,
    starting: u32,
    failures: u64,
    recoveries: u64,
    outages: u32,
    incidents_open: u32,
}

impl Book {
    fn gpus_asked(&self) -> u64 {
        let pools = self.pools.values();
        let bought: u64 = pools
            .map(|asks| u64::from(asks.target) * u64::from(asks.gpus))
            .sum();
        self.gpus_external + bought
    }

    /// Counts hours and dollars up to a moment, before something changes.
    pub(crate) fn count(&mut self, now: Time) {
        let hours = now.since(self.counted).as_secs_f64() / 3600.0;
        if hours <= 0.0 {
            return;
        }
        self.counted = now;
        let asked = self.gpus_asked();
        let record = &mut self.record;
        record.asked_gpu_hours += asked as f64 * hours;
        record.delivered_gpu_hours += self.gpus_active.min(asked) as f64 * hours;
        record.cost_dollars += self.micros_per_hour as f64 / 1e6 * hours;
        let mut rest = asked.saturating_sub(self.gpus_active);
        for (cause, gpus) in &self.gpus_lost {
            let lost = rest.min(*gpus);
            rest -= lost;
            if lost > 0 {
                *record.lost_gpu_hours.entry(cause.clone()).or_default() += lost as f64 * hours;
            }
        }
        if rest > 0 {
            let rests = record.lost_gpu_hours.entry(NOT_THERE.to_owned());
            *rests.or_default() += rest as f64 * hours;
        }
    }

    /// A machine is switched on. `slot` says whether it is one more than were asked for before.
    pub(crate) fn powered(&mut self, spec: &Spec, lemon: bool, slot: bool, now: Time) {
        self.count(now);
        if spec.instance.is_none() && slot {
            self.gpus_external += u64::from(spec.gpus);
        }
        self.starting += 1;
        self.live.insert(
            spec.node.clone(),
            Live {
                gpus: spec.gpus,
                lost: self.inherited.remove(&spec.node),
                ..Live::default()
            },
        );
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
        for at in self.open(node).to_vec() {
            self.ended(at, false, now);
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

    /// An external node is no longer to be there.
    pub(crate) fn dismissed(&mut self, node: &NodeId, now: Time) {
        self.count(now);
        if let Some(live) = self.live.get(node) {
            self.gpus_external = self.gpus_external.saturating_sub(u64::from(live.gpus));
        }
        self.lacks.retain(|lack| lack.node != *node);
    }

    /// An external node takes the place of another.
    pub(crate) fn replaced(&mut self, old: &NodeId, new: &NodeId) {
        for lack in self.lacks.iter_mut().filter(|lack| lack.node == *old) {
            lack.node = new.clone();
        }
        if let Some(live) = self.live.get_mut(old)
            && let Some(cause) = live.lost.take()
        {
            self.inherited.insert(new.clone(), cause);
        }
    }

    fn tell(&mut self, node: &NodeId, what: NodeEventKind, at: Time) {
        if let Some(record) = self.record.nodes.get_mut(node) {
            record.events.push(NodeEvent { at, what });
        }
    }

    /// What is broken on a node, as places in the record.
    pub(crate) fn open(&self, node: &NodeId) -> &[usize] {
        self.live.get(node).map_or(&[], |live| &live.open)
    }

    /// Something broke. Answers its place in the record.
    pub(crate) fn injected(&mut self, injection: Injection) -> usize {
        let at = self.record.injections.len();
        let (node, now) = (injection.node.clone(), injection.at);
        self.record.injections.push(injection);
        self.failures += 1;
        if let Some(live) = self.live.get_mut(&node) {
            live.open.push(at);
            live.unnoticed.push(at);
        }
        if let Some(record) = self.record.nodes.get_mut(&node) {
            record.failures += 1;
        }
        self.tell(&node, NodeEventKind::Failure(at), now);
        at
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
        let (node, lasted) = (injection.node.clone(), injection.at < now);
        if let Some(live) = self.live.get_mut(&node) {
            live.open.retain(|open| *open != at);
            if healed && lasted {
                live.unnoticed.retain(|unnoticed| *unnoticed != at);
            }
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
    pub(crate) fn outage_begins(&mut self, name: &str, nodes: u32, now: Time) -> usize {
        self.outages += 1;
        self.record.outages.push(OutageRecord {
            name: name.to_owned(),
            from: now,
            until: None,
            nodes,
        });
        self.record.outages.len() - 1
    }

    /// A domain is well again.
    pub(crate) fn outage_ends(&mut self, at: usize, now: Time) {
        self.outages = self.outages.saturating_sub(1);
        if let Some(outage) = self.record.outages.get_mut(at) {
            outage.until = Some(now);
        }
    }

    /// The control plane changes something; `before` is its state before that.
    pub(crate) fn changed(&mut self, before: &State, change: &Change, now: Time) {
        match change {
            Change::Node(node) => {
                self.node(before.nodes.get(&node.id).map(|node| &**node), node, now);
            }
            Change::Incident(incident) => {
                let known = before.incidents.get(&incident.id);
                self.incident(known.map(|known| &**known), incident, now);
            }
            _ => {}
        }
    }

    fn node(&mut self, before: Option<&Node>, node: &Node, now: Time) {
        let Some(record) = self.record.nodes.get_mut(&node.id) else {
            return;
        };
        let (status, health) = (node.status(), node.health());
        if record.registered.is_none() {
            record.registered = Some(now);
            self.starting = self.starting.saturating_sub(1);
            self.tell(&node.id, NodeEventKind::Started, now);
        }
        let (was, felt) = before.map_or_else(Default::default, |before| {
            (before.status(), before.health())
        });
        if before.is_some() && (was, felt) == (status, health) {
            return;
        }
        self.count(now);
        let why = why(node);
        if let Some(record) = self.record.nodes.get_mut(&node.id) {
            (record.status, record.health) = (status, health);
        }
        if before.is_some() && was != status {
            let (from, to) = (was, status);
            self.tell(&node.id, NodeEventKind::Status { from, to, why }, now);
        }
        if before.is_some() && felt != health {
            let (from, to) = (felt, health);
            self.tell(&node.id, NodeEventKind::Health { from, to }, now);
        }
        if status != NodeStatus::Active || health != HealthStatus::Healthy {
            self.notice(
                &node.id,
                &format!("{} {}", status.short(), health.short()),
                now,
            );
        }
        let there = (node.terminated.is_none()).then_some((status, health));
        self.recount(&node.id, there);
        let active = there.is_some() && status == NodeStatus::Active;
        self.deliver(node, active, now);
    }

    /// The control plane concluded something of a node.
    fn notice(&mut self, node: &NodeId, what: &str, now: Time) {
        let Some(live) = self.live.get_mut(node) else {
            return;
        };
        for at in std::mem::take(&mut live.unnoticed) {
            if let Some(injection) = self.record.injections.get_mut(at) {
                injection.noticed = Some((now, what.to_owned()));
                live.noticed = Some(at);
            }
        }
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
        let Some(live) = self.live.get_mut(&node.id) else {
            return;
        };
        let gpus = u64::from(live.gpus);
        let bought_for = self
            .record
            .nodes
            .get(&node.id)
            .and_then(|one| one.pool.clone());
        if active || node.terminated.is_some() {
            let lost = live.lost.take().map(|cause| (cause, gpus));
            match (&bought_for, active) {
                // Its place is empty for the same reason until another machine fills it.
                (Some(pool), false) => {
                    self.owed.entry(pool.clone()).or_default().extend(lost);
                }
                (Some(pool), true) if lost.is_none() => {
                    let owed = self.owed.get_mut(pool).and_then(VecDeque::pop_front);
                    subtract(&mut self.gpus_lost, owed);
                }
                _ => subtract(&mut self.gpus_lost, lost),
            }
        }
        if live.active == active {
            return;
        }
        live.active = active;
        if active {
            self.active += 1;
            self.gpus_active += gpus;
        } else {
            self.active -= 1;
            self.gpus_active -= gpus;
        }
        let pool = bought_for;
        if let Some(asks) = pool.as_ref().and_then(|pool| self.pools.get_mut(pool)) {
            asks.active = if active {
                asks.active + 1
            } else {
                asks.active.saturating_sub(1)
            };
        }
        if active {
            self.back(&node.id, pool.as_ref(), now);
            return;
        }
        let injections = &self.record.injections;
        let just_noticed = |injection: &&Injection| {
            let noticed = injection.noticed.as_ref();
            noticed.is_some_and(|(at, _)| *at == now)
        };
        let newest = live
            .open
            .iter()
            .filter_map(|at| injections.get(*at))
            .next_back()
            .or_else(|| injections.get(live.noticed?).filter(just_noticed));
        let cause = match newest {
            Some(injection) => injection.kind.word(),
            None if node.is_held_by_operator() => OPERATOR,
            None => UNEXPLAINED,
        };
        if node.terminated.is_none() {
            live.lost = Some(cause.to_owned());
            *self.gpus_lost.entry(cause.to_owned()).or_default() += gpus;
        }
        if let Some(injection) = newest {
            self.lacks.push(Lack {
                since: injection.at,
                node: node.id.clone(),
                pool,
            });
        }
    }

    /// Capacity came back: of an external node by itself, of a pool when it has its size.
    fn back(&mut self, node: &NodeId, pool: Option<&PoolName>, now: Time) {
        let whole = pool.and_then(|pool| self.pools.get(pool));
        let whole = whole.is_some_and(|asks| asks.active >= asks.target);
        if let Some(owed) = pool
            .filter(|_| whole)
            .and_then(|pool| self.owed.remove(pool))
        {
            for lost in owed {
                subtract(&mut self.gpus_lost, Some(lost));
            }
        }
        let times = &mut self.record.recovery_times;
        self.lacks.retain(|lack| {
            let back = match (&lack.pool, pool) {
                (Some(of), Some(pool)) => whole && of == pool,
                _ => lack.node == *node,
            };
            if back {
                times.push(now.since(lack.since));
            }
            !back
        });
    }

    fn incident(&mut self, before: Option<&Incident>, incident: &Incident, now: Time) {
        let evidence = before.map_or(0, |before| before.evidence_count);
        let rule = &incident.check.rule;
        if incident.evidence_count > evidence {
            let hits = self.record.rules.entry(rule.clone()).or_default();
            hits.hits += incident.evidence_count - evidence;
        }
        let at = match self.incidents.get(&incident.id) {
            Some(at) => *at,
            None => {
                let at = self.record.incidents.len();
                self.incidents.insert(incident.id.clone(), at);
                self.incidents_open += 1;
                self.record.incidents.push(IncidentRecord {
                    at: now,
                    closed: None,
                    node: incident.key.node.clone(),
                    rule: rule.clone(),
                    action: incident.required.word().to_owned(),
                });
                self.tell(&incident.key.node, NodeEventKind::Incident(at), now);
                self.notice(&incident.key.node, &format!("incident of rule {rule}"), now);
                at
            }
        };
        if let Some(record) = self.record.incidents.get_mut(at)
            && record.closed.is_some() == incident.is_open()
        {
            record.closed = (!incident.is_open()).then_some(now);
            if incident.is_open() {
                self.incidents_open += 1;
            } else {
                self.incidents_open = self.incidents_open.saturating_sub(1);
            }
        }
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
            let asks = self.pools.entry(pool.clone()).or_default();
            asks.target = u32::try_from(found.target).unwrap_or(u32::MAX);
            asks.gpus = gpus.unwrap_or(1);
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

    /// Counts the fleet.
    pub(crate) fn sample(&mut self, report: &PlanReport, now: Time) {
        self.count(now);
        let pools = report.pools.iter().map(|(name, pool)| {
            let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            let breakers = pool.waits.iter().filter(|wait| wait.guard == "breaker");
            let sample = PoolSample {
                target: small(pool.target),
                machines: small(pool.alive),
                active: small(pool.active),
                disrupted: small(pool.budget.0),
                budget: small(pool.budget.1),
                breakers: small(breakers.count()),
            };
            (name.clone(), sample)
        });
        self.record.samples.push(Sample {
            at: now,
            nodes: self.by_status.values().sum(),
            healthy: self.healthy,
            degraded: self.degraded,
            unhealthy: self.unhealthy,
            by_status: self.by_status.clone(),
            active: self.active,
            gpus_active: small(self.gpus_active),
            gpus_asked: small(self.gpus_asked()),
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
        self.pools
            .get(pool)
            .map_or((0, 0), |asks| (asks.target, asks.active))
    }

    /// Nodes that have yet to register, and that are healthy.
    pub(crate) const fn progress(&self) -> (u32, u32, u64, u64) {
        (self.starting, self.healthy, self.failures, self.recoveries)
    }

    /// Failures that other failures caused.
    pub(crate) fn cascaded(&self) -> u64 {
        let all = self.record.injections.iter();
        all.filter(|one| matches!(one.cause, Cause::Cascade(_)))
            .count() as u64
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
        self.lacks
            .iter()
            .map(|lack| now.since(lack.since))
            .collect()
    }

    /// The kinds of failure that are open on a node.
    pub(crate) fn kinds(&self, node: &NodeId) -> Vec<(usize, FailureKind)> {
        let open = self.open(node).iter();
        open.filter_map(|at| Some((*at, self.record.injections.get(*at)?.kind)))
            .collect()
    }
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

fn subtract(from: &mut BTreeMap<String, u64>, lost: Option<(String, u64)>) {
    if let Some((cause, gpus)) = lost
        && let Some(all) = from.get_mut(&cause)
    {
        *all = all.saturating_sub(gpus);
    }
}

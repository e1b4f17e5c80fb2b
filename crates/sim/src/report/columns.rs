//! What the page shows, column by column: small, and read back by `page/data.js`.
//!
//! Times are whole milliseconds from the start of the run; -1 stands for none. Columns of times
//! named `steps` hold the difference to the time before. Texts that repeat are places in `texts`.

use std::collections::{BTreeMap, BTreeSet};

use navarch_model::{HealthStatus, NodeId, NodeStatus, PoolName, Time};
use navarch_policy::catalogue::xid_text;
use serde::Serialize;

use super::figures::{self, Figures, Percentiles};
use super::logs;
use super::text::Severity;
use crate::record::{Cause, IncidentRecord, Injection, NodeEventKind, Outcome, Record, Sample};

/// The most samples that the page has. More would make it slow and be less than a pixel wide each.
const MOST_SAMPLES: usize = 1500;

/// Everything that the page shows.
#[derive(Serialize)]
pub(super) struct Page<'a> {
    name: &'a str,
    description: &'a str,
    seed: u64,
    result: &'static str,
    reason: &'a str,
    started: i64,
    ended: i64,
    asked: Asked,
    summary: Summary,
    texts: Vec<&'a str>,
    statuses: Vec<&'static str>,
    healths: Vec<&'static str>,
    nodes: Nodes<'a>,
    events: Events,
    injections: Injections,
    incidents: Incidents,
    samples: Samples,
    pools: Vec<Pool<'a>>,
    xids: BTreeMap<u32, (String, &'static str)>,
    rules: Vec<(&'a str, u64, &'a str, i64, &'a str)>,
    blocks: Vec<(i64, i64, &'a str, &'a str, &'a str)>,
    outages: Vec<(&'a str, i64, i64, u32)>,
    assertions: Vec<(u64, &'a str, Option<&'a str>)>,
    violations: &'a [String],
    notes: Vec<(i64, &'a str)>,
    lost: &'a BTreeMap<String, f64>,
    scenario: &'a str,
    configuration: &'a str,
}

#[derive(Serialize)]
struct Asked {
    total_nodes: u32,
    failure_rate: f64,
    cascading: bool,
    recovery: bool,
}

#[derive(Serialize)]
struct Summary {
    started: u64,
    failed_to_start: u64,
    peak: u32,
    least: u32,
    average: f64,
    cascading: u64,
    recoveries: u64,
    noticed: u64,
    notice: Spans,
    recovery: Spans,
    unrecovered: u64,
    asked_gpu_hours: f64,
    delivered_gpu_hours: f64,
    cost: f64,
    launches: u64,
    launches_failed: u64,
    crashes: u64,
    node_hours: f64,
    samples: usize,
}

/// Percentiles in milliseconds.
#[derive(Serialize)]
struct Spans {
    count: u64,
    p50: u128,
    p90: u128,
    p99: u128,
    longest: u128,
}

impl Spans {
    fn new(of: &Percentiles) -> Self {
        Self {
            count: of.count,
            p50: of.p50.as_millis(),
            p90: of.p90.as_millis(),
            p99: of.p99.as_millis(),
            longest: of.longest.as_millis(),
        }
    }
}

impl<'a> Page<'a> {
    /// Lays out a record.
    pub(super) fn new(record: &'a Record, logs: &BTreeMap<&NodeId, String>) -> Self {
        let figures = Figures::of(record);
        let mut texts = Texts::default();
        let places: BTreeMap<&NodeId, i64> = record.nodes.keys().zip(0..).collect();
        let (result, reason) = match &record.outcome {
            Outcome::Passed => ("passed", ""),
            Outcome::Failed(reason) => ("failed", reason.as_str()),
            Outcome::Interrupted => ("interrupted", ""),
        };
        let samples = thinned(&record.samples);
        let xids = figures.by_xid.keys().map(|xid| {
            let severity = Severity::of(*xid).word();
            (*xid, (xid_text(*xid).into_owned(), severity))
        });
        Self {
            name: &record.name,
            description: &record.description,
            seed: record.seed,
            result,
            reason,
            started: milliseconds(record.started),
            ended: milliseconds(record.ended),
            asked: Asked {
                total_nodes: record.asked.total_nodes,
                failure_rate: record.asked.failure_rate,
                cascading: record.asked.cascading,
                recovery: record.asked.recovery,
            },
            summary: Summary::new(record, &figures),
            statuses: NodeStatus::ALL.iter().map(|word| word.short()).collect(),
            healths: HealthStatus::ALL.iter().map(|word| word.short()).collect(),
            nodes: Nodes::new(record, logs, &mut texts),
            events: Events::new(record, &mut texts),
            injections: Injections::new(&record.injections, &places, &mut texts),
            incidents: Incidents::new(&record.incidents, &mut texts),
            pools: pools(&samples),
            samples: Samples::new(&samples),
            xids: xids.collect(),
            rules: rules(record),
            blocks: blocks(record),
            outages: outages(record),
            assertions: assertions(record),
            violations: &record.violations,
            notes: notes(record),
            lost: &record.lost_gpu_hours,
            scenario: &record.scenario,
            configuration: &record.configuration,
            texts: texts.list,
        }
    }
}

impl Summary {
    fn new(record: &Record, figures: &Figures) -> Self {
        Self {
            started: figures.started,
            failed_to_start: figures.failed_to_start,
            peak: figures.healthy.peak,
            least: figures.healthy.least,
            average: figures.healthy.average,
            cascading: figures.cascading,
            recoveries: figures.recoveries,
            noticed: figures.noticed,
            notice: Spans::new(&figures.notice),
            recovery: Spans::new(&figures.recovery),
            unrecovered: figures.unrecovered,
            asked_gpu_hours: record.asked_gpu_hours,
            delivered_gpu_hours: record.delivered_gpu_hours,
            cost: record.cost_dollars,
            launches: record.launches,
            launches_failed: record.launches_failed,
            crashes: record.crashes,
            node_hours: figures::node_hours(record),
            samples: record.samples.len(),
        }
    }
}

/// Milliseconds since the start of the run.
fn milliseconds(at: Time) -> i64 {
    at.0.div_euclid(1000)
}

fn milliseconds_or_none(at: Option<Time>) -> i64 {
    at.map_or(-1, milliseconds)
}

/// A column of times, each as the difference to the one before.
#[derive(Default)]
struct Steps {
    before: i64,
}

impl Steps {
    fn next(&mut self, at: Time) -> i64 {
        let now = milliseconds(at);
        now - std::mem::replace(&mut self.before, now)
    }
}

/// Texts by their place, each once.
#[derive(Default)]
struct Texts<'a> {
    list: Vec<&'a str>,
    places: BTreeMap<&'a str, i64>,
}

impl<'a> Texts<'a> {
    fn place(&mut self, text: &'a str) -> i64 {
        let next = self.list.len() as i64;
        *self.places.entry(text).or_insert_with(|| {
            self.list.push(text);
            next
        })
    }
}

/// The nodes in the order of their ids.
#[derive(Serialize, Default)]
struct Nodes<'a> {
    id: Vec<&'a str>,
    provider: Vec<i64>,
    region: Vec<i64>,
    zone: Vec<i64>,
    rack: Vec<i64>,
    instance_type: Vec<i64>,
    gpu_type: Vec<i64>,
    gpus: Vec<u32>,
    pool: Vec<i64>,
    powered: Vec<i64>,
    registered: Vec<i64>,
    ended: Vec<i64>,
    status: Vec<i32>,
    health: Vec<i32>,
    failures: Vec<u32>,
    recoveries: Vec<u32>,
    /// The places of nodes that fail more often than others.
    lemons: Vec<usize>,
    /// How many events each has.
    events: Vec<usize>,
    /// The logs that are not called as the node, by its place.
    logs: BTreeMap<usize, String>,
}

impl<'a> Nodes<'a> {
    fn new(record: &'a Record, logs: &BTreeMap<&NodeId, String>, texts: &mut Texts<'a>) -> Self {
        let mut columns = Self::default();
        for (place, (id, node)) in record.nodes.iter().enumerate() {
            columns.id.push(id.as_str());
            columns.provider.push(texts.place(&node.place.provider));
            columns.region.push(texts.place(&node.place.region));
            columns.zone.push(texts.place(&node.place.zone));
            columns.rack.push(texts.place(&node.place.rack));
            columns.instance_type.push(texts.place(&node.instance_type));
            columns.gpu_type.push(texts.place(&node.gpu_type));
            columns.gpus.push(node.gpu_count);
            let pool = node.pool.as_ref();
            columns
                .pool
                .push(pool.map_or(-1, |pool| texts.place(pool.as_str())));
            columns.powered.push(milliseconds(node.powered));
            columns
                .registered
                .push(milliseconds_or_none(node.registered));
            columns.ended.push(milliseconds_or_none(node.ended));
            columns.status.push(node.status.number());
            columns.health.push(node.health.number());
            columns.failures.push(node.failures);
            columns.recoveries.push(node.recoveries);
            if node.lemon {
                columns.lemons.push(place);
            }
            columns.events.push(node.events.len());
            if logs[id] != logs::usual(id) {
                columns.logs.insert(place, logs[id].clone());
            }
        }
        columns
    }
}

/// The events of all nodes, one node after another.
///
/// `kind` is 0 for a registration, 1 for a machine that never registered, 2 for a failure, 3 for a
/// recovery, 4 for a status, 5 for a health status, 6 for an incident, 7 for the end of a machine.
/// `what` is the place of the injection or incident, the place of a text, or ten times the old
/// status and the new one; `why` is the place of the text of a status.
#[derive(Serialize, Default)]
struct Events {
    steps: Vec<i64>,
    kind: Vec<u8>,
    what: Vec<i64>,
    why: Vec<i64>,
}

impl Events {
    fn new<'a>(record: &'a Record, texts: &mut Texts<'a>) -> Self {
        let mut columns = Self::default();
        for node in record.nodes.values() {
            let mut steps = Steps::default();
            for event in &node.events {
                let (kind, what) = match &event.what {
                    NodeEventKind::Started => (0, 0),
                    NodeEventKind::StartFailed(why) => (1, texts.place(why)),
                    NodeEventKind::Failure(place) => (2, *place as i64),
                    NodeEventKind::Recovery(place) => (3, *place as i64),
                    NodeEventKind::Status { from, to, why } => {
                        columns.why.push(texts.place(why));
                        (4, change(from.number(), to.number()))
                    }
                    NodeEventKind::Health { from, to } => (5, change(from.number(), to.number())),
                    NodeEventKind::Incident(place) => (6, *place as i64),
                    NodeEventKind::Ended(why) => (7, texts.place(why)),
                };
                columns.steps.push(steps.next(event.at));
                columns.kind.push(kind);
                columns.what.push(what);
            }
        }
        columns
    }
}

fn change(from: i32, to: i32) -> i64 {
    i64::from(from) * 10 + i64::from(to)
}

/// What was broken. `cause` is -1 for the scenario, -2 for chance, -3 for a person, -4 and less for
/// an outage whose name is the text at -4 minus the number, else the place of the failure that
/// caused it.
#[derive(Serialize, Default)]
struct Injections {
    steps: Vec<i64>,
    node: Vec<i64>,
    kind: Vec<i64>,
    xid: Vec<i64>,
    gpu: Vec<i64>,
    cause: Vec<i64>,
    noticed: Vec<i64>,
    conclusion: Vec<i64>,
    ended: Vec<i64>,
}

impl Injections {
    fn new<'a>(
        injections: &'a [Injection],
        places: &BTreeMap<&NodeId, i64>,
        texts: &mut Texts<'a>,
    ) -> Self {
        let mut columns = Self::default();
        let mut steps = Steps::default();
        for injection in injections {
            columns.steps.push(steps.next(injection.at));
            let node = places.get(&injection.node);
            columns.node.push(node.copied().unwrap_or(-1));
            columns.kind.push(texts.place(injection.kind.word()));
            columns.xid.push(injection.xid.map_or(-1, i64::from));
            columns.gpu.push(injection.gpu.map_or(-1, i64::from));
            columns.cause.push(match &injection.cause {
                Cause::Script => -1,
                Cause::Chaos => -2,
                Cause::Person => -3,
                Cause::Outage(name) => -4 - texts.place(name),
                Cause::Cascade(by) => *by as i64,
            });
            let (noticed, conclusion) = match &injection.noticed {
                Some((at, what)) => (milliseconds(*at), texts.place(what)),
                None => (-1, -1),
            };
            columns.noticed.push(noticed);
            columns.conclusion.push(conclusion);
            columns.ended.push(milliseconds_or_none(injection.ended));
        }
        columns
    }
}

/// Incidents; a node's events say which are its own.
#[derive(Serialize, Default)]
struct Incidents {
    steps: Vec<i64>,
    closed: Vec<i64>,
    rule: Vec<i64>,
    action: Vec<i64>,
}

impl Incidents {
    fn new<'a>(incidents: &'a [IncidentRecord], texts: &mut Texts<'a>) -> Self {
        let mut columns = Self::default();
        let mut steps = Steps::default();
        for incident in incidents {
            columns.steps.push(steps.next(incident.at));
            columns.closed.push(milliseconds_or_none(incident.closed));
            columns.rule.push(texts.place(&incident.rule));
            columns.action.push(texts.place(&incident.action));
        }
        columns
    }
}

/// At most [`MOST_SAMPLES`] samples: the first, the last, and of each stretch between them the one
/// with the fewest healthy nodes, so that no dip is lost.
fn thinned(samples: &[Sample]) -> Vec<&Sample> {
    let [first, middle @ .., last] = samples else {
        return samples.iter().collect();
    };
    let stretch = middle.len().div_ceil(MOST_SAMPLES - 2).max(1);
    let worst = |part: &'_ [Sample]| part.iter().min_by_key(|s| s.healthy).map(|s| s.at);
    let kept: BTreeSet<Time> = middle.chunks(stretch).filter_map(worst).collect();
    let middle = middle.iter().filter(|sample| kept.contains(&sample.at));
    std::iter::once(first).chain(middle).chain([last]).collect()
}

#[derive(Serialize, Default)]
struct Samples {
    steps: Vec<i64>,
    nodes: Vec<u32>,
    healthy: Vec<u32>,
    degraded: Vec<u32>,
    unhealthy: Vec<u32>,
    starting: Vec<u32>,
    gpus_active: Vec<u32>,
    gpus_asked: Vec<u32>,
    failures: Vec<u64>,
    recoveries: Vec<u64>,
    incidents: Vec<u32>,
    cost: Vec<f64>,
}

impl Samples {
    fn new(samples: &[&Sample]) -> Self {
        let mut columns = Self::default();
        let mut steps = Steps::default();
        for sample in samples {
            columns.steps.push(steps.next(sample.at));
            columns.nodes.push(sample.nodes);
            columns.healthy.push(sample.healthy);
            columns.degraded.push(sample.degraded);
            columns.unhealthy.push(sample.unhealthy);
            columns.starting.push(sample.starting);
            columns.gpus_active.push(sample.gpus_active);
            columns.gpus_asked.push(sample.gpus_asked);
            columns.failures.push(sample.failures);
            columns.recoveries.push(sample.recoveries);
            columns.incidents.push(sample.incidents);
            columns
                .cost
                .push((sample.cost_dollars * 100.0).round() / 100.0);
        }
        columns
    }
}

/// One pool at each sample.
#[derive(Serialize, Default)]
struct Pool<'a> {
    name: &'a str,
    target: Vec<u32>,
    machines: Vec<u32>,
    active: Vec<u32>,
    disrupted: Vec<u32>,
    budget: Vec<u32>,
    breakers: Vec<u32>,
    /// Work in whole machines; empty for a pool that never has any.
    work: Vec<f64>,
}

/// Every pool that any sample has, in the order of their names.
fn pools<'a>(samples: &[&'a Sample]) -> Vec<Pool<'a>> {
    let names: BTreeSet<&PoolName> = samples.iter().flat_map(|s| s.pools.keys()).collect();
    let pool = |name: &&'a PoolName| {
        let mut columns = Pool {
            name: name.as_str(),
            ..Pool::default()
        };
        for sample in samples {
            let pool = sample.pools.get(*name).copied().unwrap_or_default();
            columns.target.push(pool.target);
            columns.machines.push(pool.machines);
            columns.active.push(pool.active);
            columns.disrupted.push(pool.disrupted);
            columns.budget.push(pool.budget);
            columns.breakers.push(pool.breakers);
            columns.work.push((pool.work * 10.0).round() / 10.0);
        }
        if columns.work.iter().all(|work| *work == 0.0) {
            columns.work.clear();
        }
        columns
    };
    names.iter().map(pool).collect()
}

fn rules(record: &Record) -> Vec<(&str, u64, &str, i64, &str)> {
    let rules = figures::rules(record).into_iter();
    rules
        .map(|(name, rule)| {
            let (result, condition) = (rule.result.as_str(), rule.condition.as_str());
            (name, rule.hits, result, rule.priority, condition)
        })
        .collect()
}

fn blocks(record: &Record) -> Vec<(i64, i64, &str, &str, &str)> {
    let blocks = record.blocks.iter();
    blocks
        .map(|block| {
            let pool = block.pool.as_ref().map_or("", |pool| pool.as_str());
            let (from, until) = (milliseconds(block.from), milliseconds_or_none(block.until));
            (
                from,
                until,
                pool,
                block.guard.as_str(),
                block.reason.as_str(),
            )
        })
        .collect()
}

fn outages(record: &Record) -> Vec<(&str, i64, i64, u32)> {
    let outages = record.outages.iter();
    outages
        .map(|outage| {
            let (from, until) = (
                milliseconds(outage.from),
                milliseconds_or_none(outage.until),
            );
            (outage.name.as_str(), from, until, outage.nodes)
        })
        .collect()
}

fn assertions(record: &Record) -> Vec<(u64, &str, Option<&str>)> {
    let assertions = record.assertions.iter();
    assertions
        .map(|found| (found.line, found.what.as_str(), found.wrong.as_deref()))
        .collect()
}

fn notes(record: &Record) -> Vec<(i64, &str)> {
    let notes = record.notes.iter();
    notes
        .map(|(at, note)| (milliseconds(*at), note.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(count: i64) -> Vec<Sample> {
        let sample = |second: i64| Sample {
            at: Time(second * 1_000_000),
            // One dip, in the middle of a stretch.
            healthy: if second == count / 2 + 1 { 3 } else { 9 },
            ..Sample::default()
        };
        (0..count).map(sample).collect()
    }

    #[test]
    fn a_long_run_keeps_its_ends_and_its_dips() {
        let all = samples(20_000);
        let kept = thinned(&all);
        assert!(kept.len() <= MOST_SAMPLES, "{}", kept.len());
        assert!(kept.len() > MOST_SAMPLES / 2, "{}", kept.len());
        assert_eq!(kept[0].at, all[0].at);
        assert_eq!(kept[kept.len() - 1].at, all[all.len() - 1].at);
        assert_eq!(kept.iter().filter(|sample| sample.healthy == 3).count(), 1);
        assert!(kept.is_sorted_by_key(|sample| sample.at));
    }

    #[test]
    fn a_short_run_keeps_everything() {
        for count in [0, 1, 2, 3, 1500] {
            let all = samples(count);
            assert_eq!(thinned(&all).len(), all.len());
        }
    }
}

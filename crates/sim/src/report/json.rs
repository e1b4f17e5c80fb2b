//! `report.json`: the shape and the keys of the Go project's report, and more under new keys.
//!
//! Durations are integer nanoseconds, as they are there; a key that ends in `_seconds` has seconds.
//! Times are RFC 3339 in UTC, with the start of the run at 2000-01-01T00:00:00Z. Paths are relative
//! to the directory of the run. Everything is borrowed from the record and written node by node.

use std::collections::BTreeMap;
use std::io::{self, Write};

use navarch_model::{NodeId, Time};
use navarch_policy::catalogue::xid_text;
use serde::{Serialize, Serializer};

use super::figures::{self, Figures, Percentiles};
use super::logs;
use super::text::{Severity, nanoseconds, seconds, time};
use crate::record::{
    AssertionResult, Block, Cause, IncidentRecord, Injection, NodeEvent, NodeEventKind, NodeRecord,
    OutageRecord, Outcome, PoolSample, Record, Sample,
};

/// Writes the report.
pub(super) fn write(
    to: &mut impl Write,
    record: &Record,
    logs: &BTreeMap<&NodeId, String>,
) -> io::Result<()> {
    let figures = Figures::of(record);
    serde_json::to_writer_pretty(&mut *to, &Report::new(record, &figures, logs))?;
    to.write_all(b"\n")
}

#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    start_time: String,
    end_time: String,
    duration: u64,
    configuration: Configuration,
    summary: Summary,
    failures: Failures<'a>,
    timeline: Each<'a, Sample, Moment<'a>>,
    nodes: Nodes<'a>,
    policy_rule_hits: Vec<Rule<'a>>,
    logs_directory: &'static str,
    // From here on the keys are ours.
    description: &'a str,
    seed: u64,
    outcome: OutcomeJson<'a>,
    startup_end_time: String,
    control_plane_configuration: &'a str,
    capacity: Capacity<'a>,
    cost: Cost,
    launches: Launches,
    recovery_times: RecoveryJson,
    notice_times: PercentilesJson,
    injections: Each<'a, Injection, InjectionJson<'a>>,
    incidents: Each<'a, IncidentRecord, IncidentJson<'a>>,
    blocks: Each<'a, Block, BlockJson<'a>>,
    outages: Each<'a, OutageRecord, OutageJson<'a>>,
    assertions: Each<'a, AssertionResult, AssertionJson<'a>>,
    violations: &'a [String],
    control_plane_crashes: u64,
    notes: Each<'a, (Time, String), NoteJson<'a>>,
}

impl<'a> Report<'a> {
    fn new(
        record: &'a Record,
        figures: &'a Figures,
        logs: &'a BTreeMap<&'a NodeId, String>,
    ) -> Self {
        Self {
            name: &record.name,
            start_time: time(Time(0)),
            end_time: time(record.ended),
            duration: nanoseconds(record.ended.since(Time(0))),
            configuration: Configuration {
                total_nodes: record.asked.total_nodes,
                failure_rate_per_min: record.asked.failure_rate,
                cascading_enabled: record.asked.cascading,
                recovery_enabled: record.asked.recovery,
            },
            summary: Summary::new(record, figures),
            failures: Failures::new(figures),
            timeline: Each::of(&record.samples, Moment::new),
            nodes: Nodes { record, logs },
            policy_rule_hits: rules(record),
            logs_directory: logs::FOLDER,
            description: &record.description,
            seed: record.seed,
            outcome: OutcomeJson::new(&record.outcome),
            startup_end_time: time(record.started),
            control_plane_configuration: &record.configuration,
            capacity: Capacity {
                asked_gpu_hours: record.asked_gpu_hours,
                delivered_gpu_hours: record.delivered_gpu_hours,
                delivered_percent: figures::percent(
                    record.delivered_gpu_hours,
                    record.asked_gpu_hours,
                ),
                lost_gpu_hours: &record.lost_gpu_hours,
            },
            cost: Cost {
                dollars: record.cost_dollars,
                dollars_per_delivered_gpu_hour: (record.delivered_gpu_hours > 0.0)
                    .then(|| record.cost_dollars / record.delivered_gpu_hours),
            },
            launches: Launches {
                total: record.launches,
                failed: record.launches_failed,
            },
            recovery_times: RecoveryJson {
                times: PercentilesJson::new(&figures.recovery),
                open: figures.unrecovered,
            },
            notice_times: PercentilesJson::new(&figures.notice),
            injections: Each::of(&record.injections, InjectionJson::new),
            incidents: Each::of(&record.incidents, IncidentJson::new),
            blocks: Each::of(&record.blocks, BlockJson::new),
            outages: Each::of(&record.outages, OutageJson::new),
            assertions: Each::of(&record.assertions, AssertionJson::new),
            violations: &record.violations,
            control_plane_crashes: record.crashes,
            notes: Each::of(&record.notes, NoteJson::new),
        }
    }
}

/// A list whose items are made one by one while they are written.
struct Each<'a, T, J> {
    items: &'a [T],
    json: fn(&'a T) -> J,
}

impl<'a, T, J> Each<'a, T, J> {
    fn of(items: &'a [T], json: fn(&'a T) -> J) -> Self {
        Self { items, json }
    }
}

impl<T, J: Serialize> Serialize for Each<'_, T, J> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.items.iter().map(self.json))
    }
}

#[derive(Serialize)]
struct Configuration {
    total_nodes: u32,
    failure_rate_per_min: f64,
    cascading_enabled: bool,
    recovery_enabled: bool,
}

#[derive(Serialize)]
struct Summary {
    nodes_started: u64,
    nodes_failed_to_start: u64,
    peak_healthy_nodes: u32,
    min_healthy_nodes: u32,
    avg_healthy_nodes: f64,
    total_failures: u64,
    total_recoveries: u64,
    total_outages: u64,
    /// Null: the latency of calls is an input of a simulation and not a result.
    avg_latency_ms: Option<f64>,
    /// See [`avg_latency_ms`](Self::avg_latency_ms).
    max_latency_ms: Option<f64>,
    failures_noticed: u64,
    incidents_opened: u64,
    node_hours: f64,
}

impl Summary {
    fn new(record: &Record, figures: &Figures) -> Self {
        Self {
            nodes_started: figures.started,
            nodes_failed_to_start: figures.failed_to_start,
            peak_healthy_nodes: figures.healthy.peak,
            min_healthy_nodes: figures.healthy.least,
            avg_healthy_nodes: figures.healthy.average,
            total_failures: record.injections.len() as u64,
            total_recoveries: figures.recoveries,
            total_outages: record.outages.len() as u64,
            avg_latency_ms: None,
            max_latency_ms: None,
            failures_noticed: figures.noticed,
            incidents_opened: record.incidents.len() as u64,
            node_hours: figures::node_hours(record),
        }
    }
}

/// The most XIDs that `top_xid_codes` has, as in the Go project.
const TOP_XIDS: usize = 10;

#[derive(Serialize)]
struct Failures<'a> {
    by_type: &'a BTreeMap<&'static str, u64>,
    by_xid: &'a BTreeMap<u32, u64>,
    cascading_failures: u64,
    top_xid_codes: Vec<TopXid>,
}

#[derive(Serialize)]
struct TopXid {
    code: u32,
    name: String,
    count: u64,
    fatal: bool,
}

impl<'a> Failures<'a> {
    fn new(figures: &'a Figures) -> Self {
        let top = |(code, count)| TopXid {
            code,
            name: xid_text(code).into_owned(),
            count,
            fatal: Severity::of(code) == Severity::Fatal,
        };
        Self {
            by_type: &figures.by_type,
            by_xid: &figures.by_xid,
            cascading_failures: figures.cascading,
            top_xid_codes: figures.xids().into_iter().take(TOP_XIDS).map(top).collect(),
        }
    }
}

#[derive(Serialize)]
struct Moment<'a> {
    timestamp: String,
    elapsed_seconds: f64,
    total_nodes: u32,
    healthy_nodes: u32,
    unhealthy_nodes: u32,
    degraded_nodes: u32,
    failures_total: u64,
    recoveries_total: u64,
    active_outages: u32,
    starting_nodes: u32,
    active_nodes: u32,
    active_gpus: u32,
    asked_gpus: u32,
    open_incidents: u32,
    cost_dollars: f64,
    nodes_by_status: BTreeMap<&'static str, u32>,
    pools: BTreeMap<&'a str, PoolMoment>,
}

#[derive(Serialize)]
struct PoolMoment {
    target_nodes: u32,
    machines: u32,
    active_nodes: u32,
    disrupted_nodes: u32,
    disruption_budget: u32,
    open_breakers: u32,
    work_machines: f64,
    queued_jobs: f64,
}

/// A number to one digit behind the point.
fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

impl PoolMoment {
    fn new(pool: &PoolSample) -> Self {
        Self {
            target_nodes: pool.target,
            machines: pool.machines,
            active_nodes: pool.active,
            disrupted_nodes: pool.disrupted,
            disruption_budget: pool.budget,
            open_breakers: pool.breakers,
            work_machines: tenths(pool.work),
            queued_jobs: tenths(pool.jobs),
        }
    }
}

impl<'a> Moment<'a> {
    fn new(sample: &'a Sample) -> Self {
        let by_status = sample.by_status.iter();
        let pools = sample.pools.iter();
        Self {
            timestamp: time(sample.at),
            elapsed_seconds: seconds(sample.at),
            total_nodes: sample.nodes,
            healthy_nodes: sample.healthy,
            unhealthy_nodes: sample.unhealthy,
            degraded_nodes: sample.degraded,
            failures_total: sample.failures,
            recoveries_total: sample.recoveries,
            active_outages: sample.outages,
            starting_nodes: sample.starting,
            active_nodes: sample.active,
            active_gpus: sample.gpus_active,
            asked_gpus: sample.gpus_asked,
            open_incidents: sample.incidents,
            cost_dollars: sample.cost_dollars,
            nodes_by_status: by_status.map(|(s, count)| (s.short(), *count)).collect(),
            pools: pools
                .map(|(name, pool)| (name.as_str(), PoolMoment::new(pool)))
                .collect(),
        }
    }
}

struct Nodes<'a> {
    record: &'a Record,
    logs: &'a BTreeMap<&'a NodeId, String>,
}

impl Serialize for Nodes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nodes = self.record.nodes.iter();
        serializer.collect_seq(
            nodes.map(|(id, node)| NodeJson::new(self.record, id, node, &self.logs[id])),
        )
    }
}

#[derive(Serialize)]
struct NodeJson<'a> {
    node_id: &'a str,
    provider: &'a str,
    region: &'a str,
    zone: &'a str,
    instance_type: &'a str,
    gpu_count: u32,
    gpu_type: &'a str,
    status: &'static str,
    failure_count: u32,
    recovery_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    cold_start_delay: Option<u64>,
    events: Vec<EventJson<'a>>,
    log_file: &'a str,
    health_status: &'static str,
    rack: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<&'a str>,
    power_on_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    registered_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_time: Option<String>,
    lemon: bool,
}

impl<'a> NodeJson<'a> {
    fn new(record: &'a Record, id: &'a NodeId, node: &'a NodeRecord, log: &'a str) -> Self {
        let events = node.events.iter();
        Self {
            node_id: id.as_str(),
            provider: &node.place.provider,
            region: &node.place.region,
            zone: &node.place.zone,
            instance_type: &node.instance_type,
            gpu_count: node.gpu_count,
            gpu_type: &node.gpu_type,
            status: node.status.short(),
            failure_count: node.failures,
            recovery_count: node.recoveries,
            cold_start_delay: node
                .registered
                .map(|at| nanoseconds(at.since(node.powered))),
            events: events.map(|event| EventJson::new(record, event)).collect(),
            log_file: log,
            health_status: node.health.short(),
            rack: &node.place.rack,
            pool: node.pool.as_ref().map(|pool| pool.as_str()),
            power_on_time: time(node.powered),
            registered_time: node.registered.map(time),
            ended_time: node.ended.map(time),
            lemon: node.lemon,
        }
    }
}

#[derive(Serialize, Default)]
struct EventJson<'a> {
    timestamp: String,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    xid_code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_result: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    injection: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incident: Option<usize>,
}

impl<'a> EventJson<'a> {
    fn new(record: &'a Record, event: &'a NodeEvent) -> Self {
        let of = |r#type: &'static str, message: Option<String>| Self {
            timestamp: time(event.at),
            r#type,
            message,
            ..Self::default()
        };
        match &event.what {
            NodeEventKind::Started => of("started", Some("Node started successfully".to_owned())),
            NodeEventKind::StartFailed(why) => of("start_failed", Some(why.clone())),
            NodeEventKind::Failure(index) => Self {
                injection: Some(*index),
                ..Self::failure(
                    of,
                    "failure",
                    failure_message,
                    record.injections.get(*index),
                )
            },
            NodeEventKind::Recovery(index) => Self {
                injection: Some(*index),
                ..Self::failure(
                    of,
                    "recovery",
                    recovery_message,
                    record.injections.get(*index),
                )
            },
            NodeEventKind::Status { from, to, why } => Self {
                status: Some(to.short()),
                reason: Some(why),
                ..of(
                    "status_change",
                    Some(changed("Status", from.short(), to.short())),
                )
            },
            NodeEventKind::Health { from, to } => Self {
                status: Some(to.short()),
                ..of(
                    "health_change",
                    Some(changed("Health", from.short(), to.short())),
                )
            },
            NodeEventKind::Incident(index) => {
                let incident = record.incidents.get(*index);
                Self {
                    policy_rule: incident.map(|incident| incident.rule.as_str()),
                    rule_result: incident.map(|incident| incident.action.as_str()),
                    incident: Some(*index),
                    ..of("incident", None)
                }
            }
            NodeEventKind::Ended(why) => of("ended", Some(why.clone())),
        }
    }

    fn failure(
        of: impl Fn(&'static str, Option<String>) -> Self,
        r#type: &'static str,
        message: fn(&Injection) -> String,
        injection: Option<&'a Injection>,
    ) -> Self {
        let Some(injection) = injection else {
            return of(r#type, None);
        };
        Self {
            failure_type: Some(injection.kind.word()),
            xid_code: injection.xid,
            ..of(r#type, Some(message(injection)))
        }
    }
}

fn changed(what: &str, from: &str, to: &str) -> String {
    format!("{what} changed from {from} to {to}")
}

fn failure_message(injection: &Injection) -> String {
    match (injection.xid, &injection.cause) {
        (Some(xid), _) => format!("XID {xid}: {}", xid_text(xid)),
        (None, Cause::Cascade(_)) => format!("Failure: {} (cascading)", injection.kind.word()),
        (None, _) => format!("Failure: {}", injection.kind.word()),
    }
}

fn recovery_message(injection: &Injection) -> String {
    format!("Recovered from {}", injection.kind.word())
}

#[derive(Serialize)]
struct Rule<'a> {
    name: &'a str,
    hits: u64,
    result: &'a str,
    priority: i64,
    condition: &'a str,
}

/// The rules, the most frequent first.
fn rules(record: &Record) -> Vec<Rule<'_>> {
    let rules = figures::rules(record).into_iter();
    rules
        .map(|(name, rule)| Rule {
            name,
            hits: rule.hits,
            result: &rule.result,
            priority: rule.priority,
            condition: &rule.condition,
        })
        .collect()
}

#[derive(Serialize)]
struct OutcomeJson<'a> {
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl<'a> OutcomeJson<'a> {
    fn new(outcome: &'a Outcome) -> Self {
        let (result, reason) = match outcome {
            Outcome::Passed => ("passed", None),
            Outcome::Failed(reason) => ("failed", Some(reason.as_str())),
            Outcome::Interrupted => ("interrupted", None),
        };
        Self { result, reason }
    }
}

#[derive(Serialize)]
struct Capacity<'a> {
    asked_gpu_hours: f64,
    delivered_gpu_hours: f64,
    delivered_percent: Option<f64>,
    lost_gpu_hours: &'a BTreeMap<String, f64>,
}

#[derive(Serialize)]
struct Cost {
    dollars: f64,
    dollars_per_delivered_gpu_hour: Option<f64>,
}

#[derive(Serialize)]
struct Launches {
    total: u64,
    failed: u64,
}

#[derive(Serialize)]
struct PercentilesJson {
    count: u64,
    p50: u64,
    p90: u64,
    p95: u64,
    p99: u64,
    longest: u64,
}

impl PercentilesJson {
    fn new(percentiles: &Percentiles) -> Self {
        Self {
            count: percentiles.count,
            p50: nanoseconds(percentiles.p50),
            p90: nanoseconds(percentiles.p90),
            p95: nanoseconds(percentiles.p95),
            p99: nanoseconds(percentiles.p99),
            longest: nanoseconds(percentiles.longest),
        }
    }
}

/// Times until capacity was back, up to the end of the run for what is `open`.
#[derive(Serialize)]
struct RecoveryJson {
    #[serde(flatten)]
    times: PercentilesJson,
    open: u64,
}

#[derive(Serialize)]
struct InjectionJson<'a> {
    timestamp: String,
    node_id: &'a str,
    failure_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    xid_code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu_index: Option<u32>,
    cause: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    caused_by: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outage: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    noticed_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    noticed_as: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_time: Option<String>,
}

impl<'a> InjectionJson<'a> {
    fn new(injection: &'a Injection) -> Self {
        let (cause, caused_by, outage) = match &injection.cause {
            Cause::Script => ("script", None, None),
            Cause::Chaos => ("chaos", None, None),
            Cause::Person => ("person", None, None),
            Cause::Cascade(by) => ("cascade", Some(*by), None),
            Cause::Outage(name) => ("outage", None, Some(name.as_str())),
        };
        let noticed = injection.noticed.as_ref();
        Self {
            timestamp: time(injection.at),
            node_id: injection.node.as_str(),
            failure_type: injection.kind.word(),
            xid_code: injection.xid,
            gpu_index: injection.gpu,
            cause,
            caused_by,
            outage,
            noticed_time: noticed.map(|(at, _)| time(*at)),
            noticed_as: noticed.map(|(_, what)| what.as_str()),
            ended_time: injection.ended.map(time),
        }
    }
}

#[derive(Serialize)]
struct IncidentJson<'a> {
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_time: Option<String>,
    node_id: &'a str,
    policy_rule: &'a str,
    action: &'a str,
}

impl<'a> IncidentJson<'a> {
    fn new(incident: &'a IncidentRecord) -> Self {
        Self {
            timestamp: time(incident.at),
            closed_time: incident.closed.map(time),
            node_id: incident.node.as_str(),
            policy_rule: &incident.rule,
            action: &incident.action,
        }
    }
}

#[derive(Serialize)]
struct BlockJson<'a> {
    start_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<&'a str>,
    guard: &'a str,
    reason: &'a str,
}

impl<'a> BlockJson<'a> {
    fn new(block: &'a Block) -> Self {
        Self {
            start_time: time(block.from),
            end_time: block.until.map(time),
            pool: block.pool.as_ref().map(|pool| pool.as_str()),
            guard: &block.guard,
            reason: &block.reason,
        }
    }
}

#[derive(Serialize)]
struct OutageJson<'a> {
    name: &'a str,
    start_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<String>,
    nodes: u32,
}

impl<'a> OutageJson<'a> {
    fn new(outage: &'a OutageRecord) -> Self {
        Self {
            name: &outage.name,
            start_time: time(outage.from),
            end_time: outage.until.map(time),
            nodes: outage.nodes,
        }
    }
}

#[derive(Serialize)]
struct AssertionJson<'a> {
    line: u64,
    expected: &'a str,
    passed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    wrong: Option<&'a str>,
}

impl<'a> AssertionJson<'a> {
    fn new(assertion: &'a AssertionResult) -> Self {
        Self {
            line: assertion.line,
            expected: &assertion.what,
            passed: assertion.wrong.is_none(),
            wrong: assertion.wrong.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct NoteJson<'a> {
    timestamp: String,
    message: &'a str,
}

impl<'a> NoteJson<'a> {
    fn new((at, message): &'a (Time, String)) -> Self {
        Self {
            timestamp: time(*at),
            message,
        }
    }
}

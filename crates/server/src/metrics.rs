//! The metrics page: written from the published state on every scrape, so that no series outlives
//! what it describes.

mod page;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};

use navarch_core::history::Metric;
use navarch_core::liveness::Sample;
use navarch_core::{OfferingReport, PlanReport};
use navarch_model::{HealthStatus, Node, NodeStatus, Phase, Stamp, State};

use crate::effects::QueueLengths;
use crate::handlers::PolicyText;
use crate::limits::Limits;
use crate::notifier::Notifiers;
use crate::publish::Published;
use crate::tls::Certificate;
use page::Page;

/// The type of the metrics page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

fn count(number: usize) -> f64 {
    number as f64
}

/// What the page is written from.
pub struct Sources {
    /// The state, the plan and what was counted.
    pub published: Arc<Published>,
    /// The health policy.
    pub policy: Arc<RwLock<PolicyText>>,
    /// Who was refused.
    pub(crate) limits: Arc<Limits>,
    /// The certificate, with TLS.
    pub certificate: Option<Arc<Certificate>>,
    /// How many inputs wait for the fleet loop.
    pub waiting: [(&'static str, usize); 2],
    /// How many calls wait for each provider.
    pub calls: Arc<QueueLengths>,
    /// Who is told of nodes.
    pub notifiers: Arc<Notifiers>,
    /// The present moment.
    pub now: Stamp,
}

/// Writes the page. It takes a while where the fleet is large: not for use within a task.
pub fn page(sources: &Sources) -> String {
    let mut page = Page::new();
    // A copy, for commits wait while somebody reads.
    let state = sources.published.read(State::clone);
    let report = sources.published.report();
    fleet(&mut page, &state);
    measurements(&mut page, &state, &sources.published);
    guards(&mut page, &sources.published, &report, sources.now);
    pools(&mut page, &state, &report);
    policy(&mut page, &sources.policy);
    work(&mut page, sources);
    notices(&mut page, &state, sources);
    access(&mut page, sources);
    page.into_text()
}

/// Whether the health policy on disk is the one in force.
fn policy(page: &mut Page, policy: &RwLock<PolicyText>) {
    let refused = policy.read().unwrap_or_else(PoisonError::into_inner);
    page.family(
        "navarch_policy_refused",
        "gauge",
        "1 while the health policy on disk is refused and an older one is in force, else 0",
    );
    page.sample(
        "navarch_policy_refused",
        &[],
        f64::from(refused.refused.is_some()),
    );
}

/// What each pool was asked for, has, and waits for.
fn pools(page: &mut Page, state: &State, report: &PlanReport) {
    page.family(
        "navarch_pool_target_nodes",
        "gauge",
        "Machines asked for by pool",
    );
    for (name, pool) in &report.pools {
        page.sample(
            "navarch_pool_target_nodes",
            &[("pool", name.as_str())],
            count(pool.target),
        );
    }
    page.family(
        "navarch_pool_advice_nodes",
        "gauge",
        "Machines that the autoscaler recommends, by pool; absent while it cannot tell",
    );
    for (name, pool) in &report.pools {
        if let Some(nodes) = pool.advice.as_ref().and_then(|advice| advice.nodes) {
            let labels = [("pool", name.as_str())];
            page.sample("navarch_pool_advice_nodes", &labels, f64::from(nodes));
        }
    }
    page.family(
        "navarch_pool_waits",
        "gauge",
        "Actions that wait, by pool and guard",
    );
    for (name, pool) in &report.pools {
        let mut guards: BTreeMap<&str, usize> = BTreeMap::new();
        for wait in &pool.waits {
            *guards.entry(wait.guard).or_default() += 1;
        }
        for (guard, number) in guards {
            let labels = [("pool", name.as_str()), ("guard", guard)];
            page.sample("navarch_pool_waits", &labels, count(number));
        }
    }
    page.family(
        "navarch_pool_disruptions",
        "gauge",
        "Disruptions under way by pool",
    );
    for (name, pool) in &report.pools {
        page.sample(
            "navarch_pool_disruptions",
            &[("pool", name.as_str())],
            count(pool.budget.0),
        );
    }
    page.family(
        "navarch_pool_disruption_slots",
        "gauge",
        "Disruptions that the budget allows at once, by pool",
    );
    for (name, pool) in &report.pools {
        let labels = [("pool", name.as_str())];
        page.sample(
            "navarch_pool_disruption_slots",
            &labels,
            count(pool.budget.1),
        );
    }
    page.family(
        "navarch_pool_bound_nodes",
        "gauge",
        "Fewest and most machines, by pool and bound, min or max",
    );
    for (name, pool) in &report.pools {
        for (bound, number) in [("min", pool.bounds.0), ("max", pool.bounds.1)] {
            let labels = [("pool", name.as_str()), ("bound", bound)];
            page.sample("navarch_pool_bound_nodes", &labels, count(number));
        }
    }
    page.family(
        "navarch_pool_size_nodes",
        "gauge",
        "Machines that the pool has or will have, by pool",
    );
    for (name, pool) in &report.pools {
        let labels = [("pool", name.as_str())];
        page.sample("navarch_pool_size_nodes", &labels, count(pool.capacity));
    }
    page.family(
        "navarch_pool_nodes",
        "gauge",
        "Nodes by pool and status; those without a pool under none",
    );
    let mut nodes: BTreeMap<(&str, NodeStatus), usize> = BTreeMap::new();
    for node in state.nodes.values() {
        let pool = node.pool.as_ref().map_or("none", |pool| pool.as_str());
        *nodes.entry((pool, node.status())).or_default() += 1;
    }
    for ((pool, status), number) in nodes {
        let labels = [("pool", pool), ("status", status.short())];
        page.sample("navarch_pool_nodes", &labels, count(number));
    }
}

/// Nodes whose measurements have series of their own: the first in the order of their ids. Each has
/// four.
const MEASURED: usize = 2000;

/// What GPUs measured last, by node and by pool.
fn measurements(page: &mut Page, state: &State, published: &Published) {
    let nodes: Vec<(&Node, Sample)> = state
        .nodes
        .values()
        .filter(|node| node.terminated.is_none() && node.silent_since.is_none())
        .filter_map(|node| Some((&**node, published.pulses.sample(&node.id)?)))
        .collect();
    let each = |page: &mut Page, name: &str, metric: Metric| {
        for (node, sample) in nodes.iter().take(MEASURED) {
            if let Some(value) = metric.of(sample) {
                page.sample(name, &[("node_id", node.id.as_str())], value);
            }
        }
    };
    page.family(
        "navarch_node_gpu_utilization_percent",
        "gauge",
        "Use of the GPUs by node, their mean",
    );
    each(
        page,
        "navarch_node_gpu_utilization_percent",
        Metric::GpuUtilization,
    );
    page.family(
        "navarch_node_gpu_temperature_celsius",
        "gauge",
        "The hottest GPU by node",
    );
    each(
        page,
        "navarch_node_gpu_temperature_celsius",
        Metric::GpuTemperature,
    );
    page.family(
        "navarch_node_gpu_power_watts",
        "gauge",
        "Power of all GPUs together by node",
    );
    each(page, "navarch_node_gpu_power_watts", Metric::GpuPower);
    page.family(
        "navarch_node_gpu_memory_used_bytes",
        "gauge",
        "Memory in use on all GPUs together by node",
    );
    each(
        page,
        "navarch_node_gpu_memory_used_bytes",
        Metric::GpuMemoryUsed,
    );
    page.family(
        "navarch_nodes_unmeasured",
        "gauge",
        "Nodes whose measurements have no series of their own, for there are more than 2000",
    );
    let beyond = nodes.len().saturating_sub(MEASURED);
    page.sample("navarch_nodes_unmeasured", &[], count(beyond));
    let pooled = |page: &mut Page, name: &str, metric: Metric| {
        let mut pools: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (node, sample) in &nodes {
            if let (Some(pool), Some(value)) = (&node.pool, metric.of(sample)) {
                pools.entry(pool.as_str()).or_default().push(value);
            }
        }
        for (pool, values) in pools {
            page.sample(name, &[("pool", pool)], metric.of_nodes(&values));
        }
    };
    page.family(
        "navarch_pool_gpu_utilization_percent",
        "gauge",
        "Use of the GPUs by pool, the mean over its nodes",
    );
    pooled(
        page,
        "navarch_pool_gpu_utilization_percent",
        Metric::GpuUtilization,
    );
    page.family(
        "navarch_pool_gpu_temperature_celsius",
        "gauge",
        "The hottest GPU by pool",
    );
    pooled(
        page,
        "navarch_pool_gpu_temperature_celsius",
        Metric::GpuTemperature,
    );
    page.family(
        "navarch_pool_gpu_power_watts",
        "gauge",
        "Power of all GPUs together by pool",
    );
    pooled(page, "navarch_pool_gpu_power_watts", Metric::GpuPower);
    page.family(
        "navarch_pool_gpu_memory_used_bytes",
        "gauge",
        "Memory in use on all GPUs together by pool",
    );
    pooled(
        page,
        "navarch_pool_gpu_memory_used_bytes",
        Metric::GpuMemoryUsed,
    );
}

/// What this process did since it started, and what waits for it.
fn work(page: &mut Page, sources: &Sources) {
    let meters = &sources.published.meters;
    page.family(
        "navarch_rpc_duration_seconds",
        "histogram",
        "How long calls took until their answer, or the first message of a stream, by method",
    );
    for (method, meter) in meters.calls() {
        let took = meter.took.read();
        if took.count > 0 {
            page.histogram("navarch_rpc_duration_seconds", &[("method", method)], &took);
        }
    }
    page.family(
        "navarch_rpc_total",
        "counter",
        "Calls that ended, by method and code; canceled are those that were given up",
    );
    for (method, meter) in meters.calls() {
        for (code, number) in meter.codes() {
            let labels = [("method", method), ("code", code)];
            page.sample("navarch_rpc_total", &labels, number as f64);
        }
    }
    page.family(
        "navarch_commit_duration_seconds",
        "histogram",
        "From the end of a turn of the fleet loop until what changed in it is durable",
    );
    let commits = meters.commits.read();
    page.histogram("navarch_commit_duration_seconds", &[], &commits);
    page.family(
        "navarch_actions_total",
        "counter",
        "Planned actions by kind and result: taken, or refused by a guard at the last moment",
    );
    for ((kind, result), number) in meters.actions() {
        let labels = [("kind", kind), ("result", result)];
        page.sample("navarch_actions_total", &labels, number as f64);
    }
    page.family(
        "navarch_provision_duration_seconds",
        "histogram",
        "From the intent to buy a machine until its agent registered, or the attempt ended, by provider and outcome",
    );
    for (provider, outcome, took) in meters.launches() {
        let labels = [("provider", provider.as_str()), ("outcome", outcome)];
        page.histogram("navarch_provision_duration_seconds", &labels, &took);
    }
    page.family(
        "navarch_queue_inputs",
        "gauge",
        "Inputs that wait for the fleet loop, by queue",
    );
    for (queue, number) in sources.waiting {
        page.sample("navarch_queue_inputs", &[("queue", queue)], count(number));
    }
    page.family(
        "navarch_queue_calls",
        "gauge",
        "Calls that were asked for and not begun, by provider",
    );
    for (provider, number) in &*sources.calls {
        let labels = [("provider", provider.as_str())];
        let number = number.load(Ordering::Relaxed);
        page.sample("navarch_queue_calls", &labels, count(number));
    }
}

/// What the scheduler is yet to hear, and what became of calls to it.
fn notices(page: &mut Page, state: &State, sources: &Sources) {
    let waiting = state.nodes.values().flat_map(|node| &node.told.waiting);
    let oldest = waiting.clone().map(|notice| notice.created.core).min();
    page.family(
        "navarch_notices",
        "gauge",
        "Notices that the scheduler has not taken yet",
    );
    page.sample("navarch_notices", &[], count(waiting.count()));
    page.family(
        "navarch_notices_oldest_seconds",
        "gauge",
        "Age of the oldest of them; 0 when none waits",
    );
    let age = oldest.map_or(0.0, |at| sources.now.core.since(at).as_secs_f64());
    page.sample("navarch_notices_oldest_seconds", &[], age);
    page.family(
        "navarch_notifier_requests_total",
        "counter",
        "Calls to the scheduler by kind and outcome, since the control plane started",
    );
    for ((kind, outcome), number) in sources.notifiers.counts() {
        let labels = [("kind", kind), ("outcome", outcome)];
        page.sample("navarch_notifier_requests_total", &labels, number as f64);
    }
}

/// Who was refused, and until when callers trust the certificate.
fn access(page: &mut Page, sources: &Sources) {
    page.family(
        "navarch_requests_refused_total",
        "counter",
        "Requests refused for who asked or how often, by reason, since the control plane started",
    );
    for (reason, number) in sources.limits.refused() {
        let labels = [("reason", reason)];
        page.sample("navarch_requests_refused_total", &labels, number as f64);
    }
    page.family(
        "navarch_certificate_expiry_seconds",
        "gauge",
        "Seconds until the first certificate of the server's chain expires, negative afterwards; absent without TLS",
    );
    let certificate = sources.certificate.as_ref();
    if let Some(left) = certificate.and_then(|certificate| certificate.left(sources.now.wall)) {
        page.sample("navarch_certificate_expiry_seconds", &[], left as f64);
    }
}

/// What the state says.
fn fleet(page: &mut Page, state: &State) {
    let mut by_status: BTreeMap<NodeStatus, usize> = BTreeMap::new();
    let mut gpus: BTreeMap<&str, usize> = BTreeMap::new();
    for node in state.nodes.values() {
        *by_status.entry(node.status()).or_default() += 1;
        if node.status() != NodeStatus::Terminated {
            let provider = node.description.provider.as_str();
            let provider = if provider.is_empty() {
                "unknown"
            } else {
                provider
            };
            *gpus.entry(provider).or_default() += node.description.gpus.len();
        }
    }
    page.family(
        "navarch_nodes_total",
        "gauge",
        "Total number of nodes by status",
    );
    for (status, number) in by_status {
        page.sample(
            "navarch_nodes_total",
            &[("status", status.short())],
            count(number),
        );
    }
    page.family(
        "navarch_gpus_total",
        "gauge",
        "Total number of GPUs by provider",
    );
    for (provider, number) in gpus {
        page.sample(
            "navarch_gpus_total",
            &[("provider", provider)],
            count(number),
        );
    }
    page.family(
        "navarch_node_health_status",
        "gauge",
        "Health status by node (1 = healthy, 0.5 = degraded, 0 = unhealthy or unknown)",
    );
    for node in state
        .nodes
        .values()
        .filter(|node| node.terminated.is_none())
    {
        let health = node.health();
        let value = match health {
            HealthStatus::Healthy => 1.0,
            HealthStatus::Degraded => 0.5,
            HealthStatus::Unhealthy | HealthStatus::Unknown => 0.0,
        };
        page.sample(
            "navarch_node_health_status",
            &[("node_id", node.id.as_str()), ("status", health.short())],
            value,
        );
    }
    let mut phases: BTreeMap<(&str, Phase), usize> = BTreeMap::new();
    for instance in state.instances.values() {
        *phases
            .entry((instance.pool.as_str(), instance.phase))
            .or_default() += 1;
    }
    page.family("navarch_instances", "gauge", "Instances by pool and phase");
    for ((pool, phase), number) in phases {
        let labels = [("pool", pool), ("phase", phase.word())];
        page.sample("navarch_instances", &labels, count(number));
    }
    let mut open: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for incident in state
        .incidents
        .values()
        .filter(|incident| incident.is_open())
    {
        *open
            .entry((incident.check.rule.as_str(), incident.severity.short()))
            .or_default() += 1;
    }
    page.family(
        "navarch_open_incidents",
        "gauge",
        "Open incidents by rule and severity",
    );
    for ((rule, severity), number) in open {
        let labels = [("rule", rule), ("severity", severity)];
        page.sample("navarch_open_incidents", &labels, count(number));
    }
    page.family(
        "navarch_unclaimed_machines",
        "gauge",
        "Machines with our tag that no record explains",
    );
    page.sample(
        "navarch_unclaimed_machines",
        &[],
        count(state.unclaimed.len()),
    );
    page.family(
        "navarch_events_total",
        "counter",
        "Events recorded since the store was made",
    );
    page.sample("navarch_events_total", &[], state.meta.last_event as f64);
    let broken = navarch_model::invariants::check(state);
    page.family(
        "navarch_invariant_violations",
        "gauge",
        "Violated invariants; must be 0",
    );
    page.sample("navarch_invariant_violations", &[], count(broken.len()));
}

/// Where pools buy, and where they may not. A pool has a limited number of offerings.
fn offerings(page: &mut Page, report: &PlanReport, now: Stamp) {
    page.family(
        "navarch_offering_machines",
        "gauge",
        "Machines that a pool has or will have, by offering",
    );
    each_offering(page, report, "navarch_offering_machines", |of| {
        count(of.machines)
    });
    page.family(
        "navarch_offering_refusals",
        "gauge",
        "Launches in a row that were refused, by pool and offering; calls that were under way together count once",
    );
    each_offering(page, report, "navarch_offering_refusals", |of| {
        f64::from(of.refusals)
    });
    page.family(
        "navarch_offering_rest_seconds",
        "gauge",
        "Seconds until a closed offering may be asked again, by pool and offering; 0 if it is open or waits for a fact",
    );
    each_offering(page, report, "navarch_offering_rest_seconds", |of| {
        let until = of.standing.block().and_then(|block| block.until);
        until.map_or(0.0, |until| until.since(now.core).as_secs_f64())
    });
}

fn each_offering(
    page: &mut Page,
    report: &PlanReport,
    name: &str,
    value: impl Fn(&OfferingReport) -> f64,
) {
    for (pool, plan) in &report.pools {
        for of in &plan.offerings {
            let text = of.offering.to_string();
            let labels = [("pool", pool.as_str()), ("offering", text.as_str())];
            page.sample(name, &labels, value(of));
        }
    }
}

/// What stops the control plane, or should stop a person.
fn guards(page: &mut Page, published: &Published, report: &PlanReport, now: Stamp) {
    page.family(
        "navarch_guard_blocks",
        "counter",
        "Actions that a guard blocked, by guard and pool, since the control plane started",
    );
    for ((guard, pool), number) in published.blocks() {
        let labels = [("guard", guard.as_str()), ("pool", pool.as_str())];
        page.sample("navarch_guard_blocks", &labels, number as f64);
    }
    page.family(
        "navarch_interruptions",
        "counter",
        "Notices of clouds that they take a spot machine back, by provider and pool, since the control plane started",
    );
    for ((provider, pool), number) in published.interruptions() {
        let labels = [("provider", provider.as_str()), ("pool", pool.as_str())];
        page.sample("navarch_interruptions", &labels, number as f64);
    }
    page.family(
        "navarch_breakers_open",
        "gauge",
        "Open breakers by pool and kind, repair or launch",
    );
    for name in report.pools.keys() {
        let (repair, launch) = published.read(|state| {
            state.pools.get(name).map_or((0, 0), |pool| {
                let repair = pool.repair_breakers.values();
                let launch = pool.offerings.values().map(|memory| &memory.breaker);
                (
                    repair.filter(|breaker| breaker.is_open()).count(),
                    launch.filter(|breaker| breaker.is_open()).count(),
                )
            })
        });
        for (kind, number) in [("repair", repair), ("launch", launch)] {
            let labels = [("pool", name.as_str()), ("kind", kind)];
            page.sample("navarch_breakers_open", &labels, count(number));
        }
    }
    offerings(page, report, now);
    page.family(
        "navarch_terminations_overdue",
        "gauge",
        "Machines that were to go and are not proven gone after terminate.alert_after, by pool",
    );
    for (name, pool) in &report.pools {
        let labels = [("pool", name.as_str())];
        page.sample("navarch_terminations_overdue", &labels, count(pool.overdue));
    }
    page.family(
        "navarch_listings_suspect",
        "gauge",
        "1 while the listing of a provider is not believed and nothing is bought there, else 0",
    );
    for name in published.settings().providers.keys() {
        let suspect = report.suspect.contains_key(name);
        let labels = [("provider", name.as_str())];
        page.sample("navarch_listings_suspect", &labels, f64::from(suspect));
    }
    page.family(
        "navarch_store_failing",
        "gauge",
        "1 while the last commit failed and nothing can be changed, else 0",
    );
    let failing = f64::from(published.is_failing());
    page.sample("navarch_store_failing", &[], failing);
    page.family(
        "navarch_store_free_bytes",
        "gauge",
        "Bytes that are free on the disk of the store; absent when it cannot be measured",
    );
    if let Some(free) = published.free_bytes() {
        page.sample("navarch_store_free_bytes", &[], free as f64);
    }
}

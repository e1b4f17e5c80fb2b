//! The metrics page: written from the published state on every scrape, so that no series outlives
//! what it describes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{PoisonError, RwLock};

use navarch_core::PlanReport;
use navarch_model::{HealthStatus, NodeStatus, Phase, Stamp, State};

use crate::handlers::PolicyText;
use crate::limits::Limits;
use crate::publish::Published;
use crate::tls::Certificate;

/// The type of the metrics page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (at, (key, value)) in labels.iter().enumerate() {
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let open = if at == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{key}=\"{value}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }
}

fn count(number: usize) -> f64 {
    number as f64
}

/// Writes the page. It takes a while where the fleet is large: not for use within a task.
pub fn page(published: &Published, policy: &RwLock<PolicyText>) -> String {
    let mut page = Page(String::with_capacity(16 * 1024));
    // A copy, for commits wait while somebody reads.
    let state = published.read(State::clone);
    fleet(&mut page, &state);
    let report = published.report();
    guards(&mut page, published, &report);
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
    drop(refused);
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
    page.0
}

/// Adds who was refused, and until when callers trust the certificate.
pub(crate) fn access(
    text: &mut String,
    limits: &Limits,
    certificate: Option<&Certificate>,
    now: Stamp,
) {
    let mut page = Page(std::mem::take(text));
    page.family(
        "navarch_requests_refused_total",
        "counter",
        "Requests refused for who asked or how often, by reason, since the control plane started",
    );
    for (reason, number) in limits.refused() {
        let labels = [("reason", reason)];
        page.sample("navarch_requests_refused_total", &labels, number as f64);
    }
    page.family(
        "navarch_certificate_expiry_seconds",
        "gauge",
        "Seconds until the first certificate of the server's chain expires, negative afterwards; absent without TLS",
    );
    if let Some(left) = certificate.and_then(|certificate| certificate.left(now.wall)) {
        page.sample("navarch_certificate_expiry_seconds", &[], left as f64);
    }
    *text = page.0;
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

/// What stops the control plane, or should stop a person.
fn guards(page: &mut Page, published: &Published, report: &PlanReport) {
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
        "navarch_store_free_bytes",
        "gauge",
        "Bytes that are free on the disk of the store; absent when it cannot be measured",
    );
    if let Some(free) = published.free_bytes() {
        page.sample("navarch_store_free_bytes", &[], free as f64);
    }
}

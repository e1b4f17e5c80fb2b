//! The metrics page: written from the published state on every scrape, so that no series outlives
//! what it describes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use navarch_model::{HealthStatus, NodeStatus, Phase};

use crate::handlers::Handlers;

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

/// Writes the page.
pub fn page(handlers: &Handlers) -> String {
    let mut page = Page(String::with_capacity(16 * 1024));
    handlers.published.read(|state| {
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
    });
    let report = handlers.published.report();
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

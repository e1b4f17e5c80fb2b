//! Missing full reports: who is due, without looking at every node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use navarch_model::{
    Check, FaultKind, HealthStatus, IdSource, Lifecycle, Node, NodeId, Repair, Time,
};
use navarch_policy::guards;

use super::incidents::Finding;
use super::report::HEARTBEAT_WATCH;
use super::{Fleet, Soft};

/// The class of the incident that missing full reports open.
pub const STALE_REPORTS: &str = "stale-reports";

/// When each node has to be looked at again. A report only puts that off, so that a node may be
/// looked at too early and never too late.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    queue: BTreeSet<(Time, NodeId)>,
    of: BTreeMap<NodeId, Time>,
    /// Nodes of which it is not known.
    unsure: BTreeSet<NodeId>,
    /// It is known of those that were looked at since the start, or since what counts for all of
    /// them changed.
    begun: bool,
}

impl Watch {
    /// What matters to a node changed.
    pub(crate) fn doubt(&mut self, node: NodeId) {
        self.unsure.insert(node);
    }

    /// What matters to all nodes changed.
    pub(crate) fn doubt_all(&mut self) {
        *self = Self::default();
    }

    /// How many nodes it knows.
    pub(crate) fn len(&self) -> usize {
        self.queue.len() + self.of.len() + self.unsure.len()
    }

    fn forget(&mut self, node: &NodeId) {
        if let Some(at) = self.of.remove(node) {
            self.queue.remove(&(at, node.clone()));
        }
    }

    fn expect(&mut self, node: NodeId, at: Time) {
        self.queue.insert((at, node.clone()));
        self.of.insert(node, at);
    }

    /// Takes the nodes that have to be looked at.
    fn take(&mut self, now: Time) -> BTreeSet<NodeId> {
        let mut nodes = std::mem::take(&mut self.unsure);
        while let Some((at, _)) = self.queue.first()
            && *at <= now
            && let Some((_, node)) = self.queue.pop_first()
        {
            nodes.insert(node);
        }
        for node in &nodes {
            self.forget(node);
        }
        nodes
    }
}

impl Fleet {
    /// How long a node may go without a full report.
    pub(crate) fn stale_limit(&self) -> Duration {
        let settings = &self.settings;
        guards::stale_limit(
            settings.health_check_interval,
            settings.guards.stale_report_intervals,
            settings.heartbeat_interval,
            settings.heartbeat_timeout,
        )
    }

    /// Opens the condition of missing full reports where it is due.
    pub(crate) fn find_stale_reports(&mut self, ids: &mut dyn IdSource) {
        let limit = self.stale_limit();
        let mut watch = std::mem::take(&mut self.stale);
        let mut nodes = watch.take(self.now.core);
        if !std::mem::replace(&mut watch.begun, true) {
            nodes.extend(self.state.nodes.keys().cloned());
        }
        let mut stale = Vec::new();
        for id in nodes {
            let node = self.state.nodes.get(&id);
            let Some(node) = node.filter(|node| self.may_miss_reports(node)) else {
                continue;
            };
            let due = self.last_full(node) + limit;
            if self.now.core >= due {
                stale.push(Node::clone(node));
            } else if due < Time::NEVER {
                watch.expect(id, due);
            }
        }
        self.stale = watch;
        for mut node in stale {
            let message = format!(
                "heartbeats, but no full report for {} s",
                limit.as_secs_f64()
            );
            let evidence = self.own_evidence(&node, message.clone());
            let finding = Finding {
                gpu: None,
                class: STALE_REPORTS.to_owned(),
                kind: FaultKind::Condition,
                severity: HealthStatus::Unhealthy,
                check: Check {
                    rule: STALE_REPORTS.to_owned(),
                    watch: HEARTBEAT_WATCH.to_owned(),
                    gpu: None,
                },
                citation: message,
                required: Repair::Replace,
                clear_after: None,
                evidence,
                count: 1,
            };
            self.find(&mut node, finding, false, ids);
            self.put_node(node, "stale reports");
        }
    }

    /// Whether full reports are expected of a node and it is not known that they are missing.
    fn may_miss_reports(&self, node: &Node) -> bool {
        node.lifecycle == Lifecycle::Registered
            && node.silent_since.is_none()
            && !self.is_leaving(node)
            && node.description.capabilities.full_reports
            && !node.open_incidents.keys().any(|id| {
                let incident = self.state.incidents.get(id);
                incident.is_some_and(|incident| incident.key.class == STALE_REPORTS)
            })
    }

    /// A node counts as reporting in full, each time the same, until
    /// [`doubt_reports`](Self::doubt_reports) ends it: for a driver that knows by itself when the
    /// reports change or stay away. Answers when the last one came;
    /// none if there is nothing to vouch for.
    pub fn vouch_for_reports(&mut self, node: &NodeId) -> Option<Time> {
        let last = self.soft.get_mut(node)?.last_full.as_mut()?;
        Some(std::mem::replace(last, Time::NEVER))
    }

    /// From now on a node's full reports count again. `last` is when the last one until now came.
    pub fn doubt_reports(&mut self, node: &NodeId, last: Time) {
        let vouched = |soft: &&mut Soft| soft.last_full == Some(Time::NEVER);
        if let Some(soft) = self.soft.get_mut(node).filter(vouched) {
            soft.last_full = Some(last);
            self.stale.doubt(node.clone());
        }
    }

    /// From when a node's full reports are counted. When the last one came is not on record.
    pub(crate) fn last_full(&self, node: &Node) -> Time {
        let last = self.soft.get(&node.id).and_then(|soft| soft.last_full);
        self.presence().fresh(
            last.unwrap_or(node.registered.core)
                .max(node.fresh_since.core),
        )
    }
}

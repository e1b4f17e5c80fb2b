//! The end of machines and nodes: committed to, and proven.

use navarch_model::{
    Command, CommandState, DrainCause, EndCause, Ending, EventKind, HoldKind, Instance, Lifecycle,
    Node, Phase, Subject,
};

use crate::fleet::{CallKind, Fleet};
use crate::settings::doubled;

impl Fleet {
    /// Commits to letting a machine go: the point of no return.
    pub(crate) fn commit_termination(
        &mut self,
        mut instance: Instance,
        cause: EndCause,
        why: &str,
    ) {
        // Nobody was asked for a mere intent, unless a machine with its id showed itself.
        let seen = instance.node.is_some()
            || instance.provider_id.is_some()
            || instance.sighting.is_some();
        if instance.phase == Phase::Requested && !seen {
            instance.end = Some(cause);
            self.doubt_unlisted(&mut instance);
            self.move_instance(instance, Phase::Failed, why);
            return;
        }
        // A machine that was paid for and never became ACTIVE counts against its offering.
        if instance.provider_id.is_some()
            && !instance.was_active
            && !matches!(cause, EndCause::Operator | EndCause::Shrink)
        {
            self.launch_wasted(&instance);
        }
        instance.end = Some(cause);
        instance.retry_at = None;
        instance.failures = 0;
        if self
            .calls
            .get(&instance.id)
            .is_some_and(|call| call.kind == CallKind::Lookup)
        {
            self.calls.remove(&instance.id);
        }
        let node = instance.node.clone();
        self.move_instance(instance, Phase::Terminating, why);
        let Some(node) = node.and_then(|id| self.state.nodes.get(&id)) else {
            return;
        };
        let mut node = Node::clone(node);
        self.add_hold(&mut node, HoldKind::Drain(DrainCause::Terminating), why);
        self.put_node(node, why);
    }

    /// An intent that no listing settled since the start may have a machine that this record does
    /// not know of: it is remembered for as long as that machine may take to show itself.
    pub(super) fn doubt_unlisted(&self, instance: &mut Instance) {
        instance.doubted |= self.unlisted.contains_key(&instance.id);
    }

    pub(super) fn launch_wasted(&mut self, instance: &Instance) {
        let (limit, first, longest) = (
            self.settings.guards.launch_breaker.failures,
            self.settings.guards.launch_breaker.wait,
            self.settings.guards.launch_breaker.max_wait,
        );
        let now = self.now;
        let mut opened = false;
        self.change_offerings(&instance.pool, [&instance.offering], |memory| {
            let breaker = &mut memory.breaker;
            breaker.failures = breaker.failures.saturating_add(1);
            if breaker.is_open() || breaker.failures >= limit {
                opened = !breaker.is_open();
                breaker.opened = breaker.opened.or(Some(now));
                breaker.probe_at = Some(now.core + doubled(first, breaker.trips, longest));
                breaker.trips = breaker.trips.saturating_add(1);
                memory.proven = false;
            }
        });
        if opened {
            self.event(
                EventKind::BreakerOpened,
                Subject {
                    pool: Some(instance.pool.clone()),
                    ..Subject::default()
                },
                format!(
                    "launch breaker of {}: {limit} machines never became ACTIVE",
                    instance.offering
                ),
                [],
            );
        }
    }

    /// The machine is proven gone: the instance and its node end.
    pub(super) fn prove_gone(&mut self, instance: Instance, why: &str) {
        let node = instance.node.clone();
        self.move_instance(instance, Phase::Terminated, why);
        let Some(node) = node.and_then(|id| self.state.nodes.get(&id)) else {
            return;
        };
        self.end_node(Node::clone(node), why);
    }

    /// A node's machine is gone, and everything that stood on it.
    pub(crate) fn end_node(&mut self, mut node: Node, why: &str) {
        node.lifecycle = Lifecycle::Terminated;
        node.terminated = Some(self.now);
        self.close_all(&mut node, &Ending::NodeTerminated);
        node.holds.clear();
        self.soft.remove(&node.id);
        let id = node.id.clone();
        let why_not = format!("node {id} is terminated: its machine is gone");
        for notice in &node.told.waiting {
            self.finish(notice, CommandState::Failed, &why_not);
        }
        self.put_node(node, why);
        // They were meant for the agent that is gone, not for one that takes its place.
        let waiting: Vec<Command> = self
            .index
            .waiting(&id)
            .filter_map(|command| self.state.commands.get(command))
            .map(|command| Command::clone(command))
            .collect();
        for mut command in waiting {
            command.state = CommandState::Expired;
            command.changed = self.now;
            self.command_changed(command);
        }
    }
}

//! The promises, as predicates over the world and the fleet's state together.

use std::collections::BTreeMap;

use navarch_core::fleet::automation;
use navarch_core::{Action, Applied, Effect, Input, Report};
use navarch_model::invariants;
use navarch_model::{
    Automation, BootId, Change, DrainCause, EndCause, HoldKind, Instance, InstanceId, Lifecycle,
    Node, NodeCommandType, NodeId, NodeStatus, Phase, PoolName, Stamp, State,
};

use crate::crash::is_accepted;
use crate::world::Sim;

/// Guards in which a fleet may rest for good, because a human or a witness is needed.
const RESTS: [&str; 6] = [
    "operator_hold",
    "recovery",
    "automation",
    "silence",
    "witness",
    "incident",
];

impl Sim {
    /// Checks one applied input: its changes, its effects and the state after it.
    pub(crate) fn check_step(&mut self, input: &Input, applied: &Applied, _now: Stamp) {
        if let Input::Report(report) = input
            && applied.reply.is_ok()
        {
            self.gate_evidence(report);
        }
        let mut found: Vec<(&'static str, String)> = Vec::new();
        if applied.changes.is_empty() && applied.effects.is_empty() {
            return;
        }
        let mut after = self.seen.clone();
        for change in &applied.changes {
            for violation in invariants::check_change(&after, change) {
                found.push((violation.invariant, violation.what));
            }
            after.apply(change);
        }
        for violation in invariants::check(&after) {
            found.push((violation.invariant, violation.what));
        }
        let step = Step {
            sim: self,
            before: &self.seen,
            after: &after,
            input,
        };
        for change in &applied.changes {
            match change {
                Change::Instance(instance) => step.instance(instance, &mut found),
                Change::Node(node) => step.node(node, &mut found),
                _ => {}
            }
        }
        for effect in &applied.effects {
            step.effect(effect, &mut found);
        }
        self.seen = after;
        for (invariant, what) in found {
            self.violated(invariant, what);
        }
    }

    /// Remembers boots that showed that they are well, judged by the readings alone.
    fn gate_evidence(&mut self, report: &Report) {
        let (Some(node), Some(boot), true) = (&report.node, &report.boot, report.full) else {
            return;
        };
        let number = |name: &str, metrics: &BTreeMap<String, String>| {
            metrics.get(name).and_then(|text| text.parse::<u32>().ok())
        };
        let sick = report.facts.iter().any(|fact| {
            number("temperature", &fact.metrics).is_some_and(|celsius| celsius >= 95)
                || number("ecc_dbe_count", &fact.metrics).is_some_and(|count| count > 0)
                || number("gpu_count", &fact.metrics) == Some(0)
        });
        if !sick {
            self.passed.insert((node.clone(), boot.clone()));
        }
    }

    /// P2: one intent has at most one live machine where the cloud honours tokens.
    pub(crate) fn check_twins(&mut self) {
        if !self.cloud.honours_tokens {
            return;
        }
        let mut machines: BTreeMap<&InstanceId, u32> = BTreeMap::new();
        for rented in self.cloud.alive() {
            *machines.entry(&rented.instance).or_default() += 1;
        }
        let twins = machines.into_iter().find(|(_, count)| *count > 1);
        if let Some(what) = twins.map(|(id, count)| format!("{count} machines for {id}")) {
            self.violated("P2 no double buy", what);
        }
    }

    /// P1: every machine that costs money is on record. Answers those that are not.
    pub fn leaks(&self) -> Vec<String> {
        self.cloud
            .alive()
            .filter(|rented| {
                !self
                    .seen
                    .instances
                    .get(&rented.instance)
                    .is_some_and(|instance| {
                        instance.phase.may_be_alive()
                            && instance
                                .provider_id
                                .as_ref()
                                .is_none_or(|id| *id == rented.id)
                    })
            })
            .map(|rented| format!("{} of {} is on no record", rented.id, rented.instance))
            .collect()
    }

    /// P8: what the fleet still lacks, unless it rests in a wait that the plan report names.
    pub fn unconverged(&self) -> Vec<String> {
        let mut lacks = Vec::new();
        for ((_, id), unclaimed) in &self.seen.unclaimed {
            lacks.push(format!("{id} of {:?} is unclaimed", unclaimed.instance));
        }
        for (pool, settings) in &self.settings.pools {
            let report = self.report.pools.get(pool);
            let rests = |about: &str| {
                report.is_some_and(|report| {
                    report.waits.iter().any(|wait| {
                        wait.about == about && wait.until.is_none() && RESTS.contains(&wait.guard)
                    })
                })
            };
            let mut well = 0;
            for instance in members(&self.seen, pool).filter(|one| one.phase.may_be_alive()) {
                let node = node_of(&self.seen, instance);
                let status = node.map(Node::status);
                match (instance.phase, node) {
                    (Phase::Running, Some(_)) if status == Some(NodeStatus::Active) => well += 1,
                    (Phase::Running, Some(node))
                        if node.is_held_by_operator() && node.our_drain().is_none() =>
                    {
                        well += 1;
                    }
                    (Phase::Running, Some(node)) if rests(node.id.as_str()) => well += 1,
                    _ => lacks.push(format!(
                        "instance {} is {}, its node {status:?} with {:?}: {}",
                        instance.id,
                        instance.phase.word(),
                        node.map(Node::hold_names).unwrap_or_default(),
                        instance.message
                    )),
                }
            }
            if well < settings.min_nodes() {
                let waits: Vec<String> = report
                    .into_iter()
                    .flat_map(|report| &report.waits)
                    .map(|wait| format!("{} {}: {}", wait.action, wait.guard, wait.reason))
                    .collect();
                let min = settings.min_nodes();
                lacks.push(format!("pool {pool} has {well} of {min}; {waits:?}"));
            }
        }
        lacks
    }
}

fn members<'a>(state: &'a State, pool: &'a PoolName) -> impl Iterator<Item = &'a Instance> {
    state
        .instances
        .values()
        .map(AsRef::as_ref)
        .filter(move |instance| instance.pool == *pool)
}

fn node_of<'a>(state: &'a State, instance: &Instance) -> Option<&'a Node> {
    state.nodes.get(instance.node.as_ref()?).map(AsRef::as_ref)
}

/// Whether a hold is a drain that we began by our own choosing.
fn is_our_drain(kind: &HoldKind) -> bool {
    matches!(
        kind,
        HoldKind::Drain(DrainCause::Incident(_) | DrainCause::Shrink)
    )
}

/// One applied input.
struct Step<'a> {
    sim: &'a Sim,
    before: &'a State,
    after: &'a State,
    input: &'a Input,
}

impl Step<'_> {
    fn mode(&self, pool: &PoolName) -> Automation {
        automation(self.before, &self.sim.settings, pool)
    }

    fn instance(&self, after: &Instance, found: &mut Vec<(&'static str, String)>) {
        let before = self.before.instances.get(&after.id);
        let from = before.map(|before| before.phase);
        if from == Some(after.phase) {
            return;
        }
        let chosen = match after.phase {
            Phase::Requested => true,
            Phase::Launching => matches!(self.input, Input::Act(_)),
            Phase::Terminating => matches!(
                after.end,
                Some(EndCause::Repair { .. } | EndCause::Shrink | EndCause::NeverRegistered)
            ),
            _ => false,
        };
        if chosen && self.mode(&after.pool) != Automation::On {
            found.push((
                "P11 stoppable",
                format!(
                    "{} went to {} with automation off",
                    after.id,
                    after.phase.word()
                ),
            ));
        }
        let ours = matches!(after.end, Some(EndCause::Repair { .. } | EndCause::Shrink));
        let node = node_of(self.before, after);
        if after.phase == Phase::Terminating
            && ours
            && let Some(node) = node.filter(|node| node.is_held_by_operator())
        {
            let what = format!("{} is let go and {:?} stand", after.id, node.hold_names());
            found.push(("P5 we undo only what we did", what));
        }
        if let (None, Some(settings)) = (from, self.sim.settings.pools.get(&after.pool)) {
            let alive = members(self.after, &after.pool)
                .filter(|instance| instance.phase.may_be_alive())
                .count();
            let limit = settings.max_nodes() + settings.max_surge();
            if alive > limit {
                let what = format!("{alive} machines may be alive; the limit is {limit}");
                found.push(("P4 size", what));
            }
        }
        let cloud = &self.sim.cloud;
        if !after.phase.may_be_alive() && cloud.honours_tokens && !cloud.lied {
            let alive = cloud.alive().find(|rented| rented.instance == after.id);
            if let Some(alive) = alive {
                let what = format!(
                    "{} is {} and {} lives",
                    after.id,
                    after.phase.word(),
                    alive.id
                );
                found.push(("P1 ended means gone", what));
            }
        }
    }

    fn node(&self, after: &Node, found: &mut Vec<(&'static str, String)>) {
        let before = self.before.nodes.get(&after.id);
        self.operator_holds(before.map(AsRef::as_ref), after, found);
        self.budget(before.map(AsRef::as_ref), after, found);
        let was_active = before.is_some_and(|before| before.status() == NodeStatus::Active);
        if after.status() == NodeStatus::Active && !was_active {
            let boot = after.boot.clone().unwrap_or_else(|| BootId::new("none"));
            if !self.sim.passed.contains(&(after.id.clone(), boot)) {
                let what = format!(
                    "{} is ACTIVE and no full report of its boot was well",
                    after.id
                );
                found.push(("P6 unknown is not healthy", what));
            }
        }
    }

    fn operator_holds(
        &self,
        before: Option<&Node>,
        after: &Node,
        found: &mut Vec<(&'static str, String)>,
    ) {
        let Some(before) = before.filter(|_| after.lifecycle == Lifecycle::Registered) else {
            return;
        };
        if before.lifecycle == Lifecycle::Terminated || self.is_uncordon(&after.id) {
            return;
        }
        for kind in before.holds.keys().filter(|kind| kind.is_operators()) {
            if !after.holds.contains_key(kind) {
                let what = format!(
                    "{} of {} was lifted by {:?}",
                    kind.name(),
                    after.id,
                    self.input
                );
                found.push(("P5 we undo only what we did", what));
            }
        }
    }

    fn is_uncordon(&self, id: &NodeId) -> bool {
        matches!(self.input, Input::Command { node, kind: NodeCommandType::Uncordon, .. } if node == id)
    }

    /// P4: a drain of ours begins only while a slot is free.
    fn budget(&self, before: Option<&Node>, after: &Node, found: &mut Vec<(&'static str, String)>) {
        let drained = before.is_some_and(|node| node.holds.keys().any(is_our_drain));
        if drained || !after.holds.keys().any(is_our_drain) {
            return;
        }
        let Some(pool) = &after.pool else { return };
        if self.mode(pool) != Automation::On {
            let what = format!("{} is drained with automation off", after.id);
            found.push(("P11 stoppable", what));
        }
        let Some(settings) = self.sim.settings.pools.get(pool) else {
            return;
        };
        let taken = members(self.before, pool)
            .filter(|instance| match instance.phase {
                Phase::Running => node_of(self.before, instance)
                    .is_some_and(|node| node.holds.keys().any(is_our_drain)),
                Phase::Terminating => {
                    instance.was_active
                        && matches!(
                            instance.end,
                            Some(EndCause::Repair { .. } | EndCause::Shrink | EndCause::Operator)
                        )
                        && !instance
                            .sighting
                            .is_some_and(|sighting| is_accepted(sighting.status))
                }
                _ => false,
            })
            .count();
        let base = members(self.before, pool)
            .filter(|instance| instance.phase.counts_as_capacity())
            .count();
        let slots = settings.config.budget.slots(base);
        if taken >= slots {
            let what = format!(
                "{} is drained with {taken} of {slots} slots taken",
                after.id
            );
            found.push(("P4 bounded blast radius", what));
        }
    }

    fn effect(&self, effect: &Effect, found: &mut Vec<(&'static str, String)>) {
        let off = self.before.meta.automation.mode != Automation::On;
        let chosen = matches!(self.input, Input::Act(Action::TerminateUnclaimed { .. }))
            && matches!(effect, Effect::TerminateUnclaimed { .. });
        if off && chosen {
            let what = format!("{effect:?} with automation off");
            found.push(("P11 stoppable", what));
        }
    }
}

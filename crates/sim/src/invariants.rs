//! The promises, as predicates over the world and the fleet's state together.

use std::time::Duration;

use navarch_core::fleet::automation;
use navarch_core::{Action, Applied, Effect, Fact, Input, Report, Wait};
use navarch_model::invariants;
use navarch_model::{
    Automation, BootId, Change, DrainCause, EndCause, Ending, FaultKind, HealthEventType,
    HealthStatus, Hold, HoldKind, Incident, Instance, InstanceId, LaunchCause, Lifecycle, Node,
    NodeCommandType, NodeId, NodeStatus, NoticeKind, Phase, Pool, PoolName, ProviderInstanceId,
    Stamp, State, Unclaimed,
};

use crate::cloud::Cloud;
use crate::crash::is_accepted;
use crate::orders::Orders;
use crate::world::Sim;

/// How late a command may be found to be past its time.
const COMMAND_GRACE: Duration = Duration::from_secs(10);
/// Guards, and their causes, in which a fleet may rest for good, because a human or a witness is
/// needed. Every other wait ends by itself.
const RESTS: [(&str, &[&str]); 4] = [
    ("operator_hold", &["held"]),
    ("recovery", &["manual", "void"]),
    ("automation", &["off"]),
    ("silence", &["never", "witnesses"]),
];

/// Whether a fleet may rest in a wait for good.
fn may_rest(wait: &Wait) -> bool {
    wait.until.is_none()
        && RESTS
            .iter()
            .any(|(guard, causes)| wait.guard == *guard && causes.contains(&wait.cause))
}

impl Sim {
    /// Checks one applied input: its changes, its effects and the state after it.
    pub(crate) fn check_step(&mut self, asked: Asked, applied: &Applied, now: Stamp) {
        if let Some(shown) = asked.shows_well
            && applied.reply.is_ok()
        {
            self.passed.insert(shown);
        }
        if matches!(asked.input, Input::SetAutomation { .. }) && applied.reply.is_ok() {
            self.plane.waits_for_person = false;
        }
        let mut found: Vec<(&'static str, String)> = Vec::new();
        if applied.changes.is_empty() && applied.effects.is_empty() {
            return;
        }
        let mut after = std::mem::replace(&mut self.next, State::new(self.fleet.clone()));
        for change in &applied.changes {
            for violation in invariants::check_change(&after, change) {
                found.push((violation.invariant, violation.what));
            }
            after.apply(change);
        }
        if self.config.thorough {
            for violation in invariants::check(&after) {
                found.push((violation.invariant, violation.what));
            }
        }
        let step = Step {
            sim: self,
            before: &self.seen,
            after: &after,
            input: &asked.input,
            now,
        };
        for change in &applied.changes {
            match change {
                Change::Instance(instance) => step.instance(instance, &mut found),
                Change::Node(node) => step.node(node, &mut found),
                Change::Unclaimed(machine) => step.unclaimed(machine, &mut found),
                Change::Incident(incident) => step.incident(incident, &mut found),
                Change::Pool(pool) => step.pool(pool, &mut found),
                _ => {}
            }
        }
        for effect in &applied.effects {
            step.effect(effect, &mut found);
        }
        for effect in &applied.effects {
            let Effect::Notify { node, notice, .. } = effect else {
                continue;
            };
            let held = after
                .nodes
                .get(node)
                .is_none_or(|node| !node.holds.is_empty());
            let resumes = notice.kind == NoticeKind::Uncordon;
            let unasked = self.scheduler.resumes_unasked(node, notice);
            if unasked || (resumes && held) {
                let what = format!("{node} is resumed; we stopped it: {}", !unasked);
                found.push(("P5 we undo only what we did", what));
            }
        }
        for change in &applied.changes {
            if let Change::Node(node) = change
                && !node.told.doubt
                && node.told.last == NoticeKind::Uncordon
                && node.told.waiting.is_empty()
            {
                self.scheduler.given_back(&node.id);
            }
        }
        self.changed += applied.changes.len() as u64;
        let facts = |change: &&Change| !matches!(change, Change::Meta(_) | Change::Event(_));
        self.facts += applied.changes.iter().filter(facts).count() as u64;
        for change in &applied.changes {
            self.orders.apply(&self.seen, change);
            self.seen.apply(change);
            if let Change::Node(node) = change {
                self.wake_node(&node.id);
                let id = self.by_node.get(&node.id);
                if let Some(host) = id.and_then(|id| self.hosts.get_mut(id)) {
                    host.settled = false;
                }
            }
            if let Change::ForgetNode(node) = change {
                let first = (node.clone(), BootId::new(""));
                let of = self.passed.range(first..).take_while(|(id, _)| id == node);
                let of: Vec<_> = of.cloned().collect();
                for shown in of {
                    self.passed.remove(&shown);
                }
            }
        }
        self.next = after;
        for (invariant, what) in found {
            self.violated(invariant, what);
        }
    }

    /// Checks every promise over the whole state.
    pub(crate) fn check_all(&mut self) {
        self.checked = self.facts;
        debug_assert_eq!(self.orders, Orders::of_state(&self.seen));
        for violation in invariants::check(&self.seen) {
            self.violated(violation.invariant, violation.what);
        }
    }

    /// What the checks need to know of an input, before a shell with a bug changes it.
    pub(crate) fn asked(&self, input: &Input) -> Asked {
        match input {
            Input::By { input, .. } => self.asked(input),
            Input::Report(report) => Asked {
                shows_well: self.shows_well(report),
                input: Input::Report(short(report)),
            },
            Input::ListResult {
                provider, began, ..
            } => Asked {
                shows_well: None,
                input: Input::ListResult {
                    provider: provider.clone(),
                    began: *began,
                    result: Ok((Vec::new(), false)),
                },
            },
            other => Asked {
                shows_well: None,
                input: other.clone(),
            },
        }
    }

    /// The boot of which a report shows that it is well, judged by the readings alone.
    fn shows_well(&self, report: &Report) -> Option<(NodeId, BootId)> {
        let (Some(node), Some(boot), true) = (&report.node, &report.boot, report.full) else {
            return None;
        };
        let host = self.by_node.get(node).and_then(|id| self.hosts.get(id));
        let gpus = host.map_or(1, |host| host.spec.gpus);
        let sick = |fact: &Fact| self.judge.makes_of(fact, gpus) == HealthStatus::Unhealthy;
        let sick = report.facts.iter().any(sick);
        (!sick).then(|| (node.clone(), boot.clone()))
    }

    /// P2: one intent has at most one live machine where the cloud honours tokens.
    pub(crate) fn check_twins(&mut self, made: &InstanceId) {
        if !self.cloud.honours_tokens {
            return;
        }
        let alive = self.cloud.alive_of(made);
        let own = alive.filter(|rented| rented.fleet.as_ref() == Some(&self.fleet));
        let count = own.count();
        if count > 1 {
            self.violated("P2 no double buy", format!("{count} machines for {made}"));
        }
    }

    /// P1: every machine that costs money is on record, or shown as one that nobody claims.
    /// Answers those that are not.
    pub fn leaks(&self) -> Vec<String> {
        let mut leaks = self.leaks_in(&self.cloud);
        if let Some(other) = &self.neighbour {
            leaks.extend(other.leaks_in(&self.cloud));
        }
        leaks
    }

    fn leaks_in(&self, cloud: &Cloud) -> Vec<String> {
        cloud
            .alive()
            .filter(|rented| rented.fleet.as_ref() == Some(&self.fleet))
            .filter(|rented| {
                let own = rented.instance.as_ref();
                let known = own.and_then(|id| self.seen.instances.get(id));
                let as_tagged = known.is_some_and(|instance| {
                    instance.phase.may_be_alive()
                        && instance
                            .provider_id
                            .as_ref()
                            .is_none_or(|id| *id == rented.id)
                });
                // A machine that was adopted may have another id than its tag.
                let adopted = || {
                    self.seen.instances.values().any(|instance| {
                        instance.phase.may_be_alive()
                            && instance.provider_id.as_ref() == Some(&rented.id)
                    })
                };
                let shown = || self.seen.unclaimed.keys().any(|(_, id)| *id == rented.id);
                !(as_tagged || adopted() || shown())
            })
            .map(|rented| format!("{} of {:?} is on no record", rented.id, rented.instance))
            .collect()
    }

    /// Whether only a person can say what becomes of a machine that nobody claims: no intent
    /// explains it, and no agent of its own speaks for it.
    fn waits_for_a_person(&self, id: &ProviderInstanceId, instance: Option<&InstanceId>) -> bool {
        let Some(instance) = instance else {
            return true;
        };
        if self.seen.instances.contains_key(instance) {
            return false;
        }
        let twins = self
            .seen
            .unclaimed
            .values()
            .filter(|machine| machine.instance.as_ref() == Some(instance))
            .count();
        let host = self.hosts.get(id);
        twins > 1 || host.is_none_or(|host| host.agent.is_none())
    }

    /// P8: what the fleet still lacks, unless it rests in a wait that the plan report names.
    pub fn unconverged(&self) -> Vec<String> {
        let mut lacks = self.misbelieved();
        if let Some(other) = &self.neighbour {
            lacks.extend(other.unconverged());
        }
        for ((_, id), unclaimed) in &self.seen.unclaimed {
            if !self.waits_for_a_person(id, unclaimed.instance.as_ref()) {
                lacks.push(format!("{id} of {:?} is unclaimed", unclaimed.instance));
            }
        }
        let core = self
            .plane
            .process
            .as_ref()
            .map(|process| process.stamp(self.now).core);
        for command in self.seen.commands.values() {
            let late = core.is_some_and(|core| core.since(command.expires) > COMMAND_GRACE);
            if late && !command.state.is_final() {
                lacks.push(format!("command {} is past its time", command.id));
            }
        }
        for pool in self.settings.pools.keys() {
            let report = self.report.pools.get(pool);
            let rests = |about: &str| {
                report.is_some_and(|report| {
                    let mut waits = report.waits.iter();
                    waits.any(|wait| wait.about == about && may_rest(wait))
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
            // Machines that wait for a person or a witness hold the last launches of an offering.
            let held = report.is_some_and(|report| {
                let mut waits = report.waits.iter();
                waits.any(|wait| matches!(wait.guard, "launch_breaker" | "placement"))
                    && members(&self.seen, pool).any(|instance| {
                        let node = node_of(&self.seen, instance);
                        !instance.was_active && node.is_some_and(|node| rests(node.id.as_str()))
                    })
            });
            let target = navarch_core::fleet::target(&self.seen, &self.settings, pool);
            if well < target && !held {
                let waits: Vec<String> = report
                    .into_iter()
                    .flat_map(|report| &report.waits)
                    .map(|wait| format!("{} {}: {}", wait.action, wait.guard, wait.reason))
                    .collect();
                lacks.push(format!("pool {pool} has {well} of {target}; {waits:?}"));
            }
        }
        lacks
    }
}

/// An input as it was meant.
#[derive(Debug)]
pub(crate) struct Asked {
    input: Input,
    /// The boot that the report shows to be well.
    shows_well: Option<(NodeId, BootId)>,
}

/// A report without what it says.
fn short(report: &Report) -> Report {
    Report {
        node: report.node.clone(),
        boot: report.boot.clone(),
        session: report.session.clone(),
        sequence: report.sequence,
        full: report.full,
        ..Report::default()
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

/// Whether a hold is a drain that we began because the cloud takes the machine back. It takes no slot.
fn is_interruption(kind: &HoldKind) -> bool {
    matches!(kind, HoldKind::Drain(DrainCause::Interruption))
}

/// One applied input.
struct Step<'a> {
    sim: &'a Sim,
    before: &'a State,
    after: &'a State,
    input: &'a Input,
    now: Stamp,
}

impl Step<'_> {
    /// P11: nothing of our own choosing is done, because automation is not on, or because a copy
    /// was put back and no person has said anything since.
    fn must_rest(&self, pool: &PoolName) -> bool {
        let mode = automation(self.before, &self.sim.settings, pool);
        mode != Automation::On || self.sim.plane.waits_for_person
    }

    /// P6: a fault that has to be repaired ends by a repair, and a finding by a full report of its
    /// own node.
    fn incident(&self, after: &Incident, found: &mut Vec<(&'static str, String)>) {
        let before = self.before.incidents.get(&after.id);
        let ends = before.is_none_or(|before| before.is_open());
        let recovers = matches!(&after.closed, Some((_, Ending::Recovered)));
        if !(ends && recovers) {
            return;
        }
        let rule = self.sim.judge.policy.rule(&after.check.rule);
        let event = after.evidence.last().map(|last| last.event_type);
        let fatal = after.severity == HealthStatus::Unhealthy
            && matches!(event, Some(HealthEventType::Xid | HealthEventType::EccDbe));
        let latched = match rule.map(|rule| (rule.kind, &rule.class)) {
            Some((Some(kind), _)) => kind == FaultKind::Latched,
            Some((None, None)) => fatal,
            // Other events than those of the rule may be of a class that has a name.
            Some((None, Some(_))) | None => false,
        };
        if latched {
            let what = format!("{} of {} recovered", after.key.class, after.key.node);
            found.push(("P6 a latched fault ends by its repair", what));
        }
        if let Input::Report(report) = self.input
            && (report.node.as_ref() != Some(&after.key.node) || !report.full)
        {
            let what = format!(
                "{} of {} ended by a report of {:?}",
                after.key.class, after.key.node, report.node
            );
            found.push(("P6 a finding ends by a report of its node", what));
        }
    }

    /// P4: a breaker that tries a repair closes when that helped, or because an operator says so.
    fn pool(&self, after: &Pool, found: &mut Vec<(&'static str, String)>) {
        let Some(before) = self.before.pools.get(&after.name) else {
            return;
        };
        let proven = match self.input {
            Input::Act(Action::JudgeProbe { proven, .. }) => *proven,
            Input::ResetBreaker { .. } => true,
            _ => false,
        };
        for (signature, breaker) in &before.repair_breakers {
            let left = after.repair_breakers.get(signature);
            let closes = breaker.is_open() && !left.is_some_and(|left| left.is_open());
            if closes && breaker.probe.is_some() && !proven {
                let what = format!("that of {signature} closed by {:?}", self.input);
                found.push(("P4 a breaker closes when its try helped", what));
            }
        }
    }

    /// P1: a machine that nobody claims is one of this fleet.
    fn unclaimed(&self, machine: &Unclaimed, found: &mut Vec<(&'static str, String)>) {
        let rented = self.sim.cloud.machines.get(&machine.provider_id);
        let other = rented.filter(|rented| rented.fleet.as_ref() != Some(&self.sim.fleet));
        if let Some(rented) = other {
            let what = format!("{} of {:?} is unclaimed", rented.id, rented.fleet);
            found.push(("P1 other fleets are untouched", what));
        }
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
                Some(
                    EndCause::Repair { .. }
                        | EndCause::Shrink
                        | EndCause::Interruption
                        | EndCause::NeverRegistered
                )
            ),
            _ => false,
        };
        if chosen && self.must_rest(&after.pool) {
            found.push((
                "P11 stoppable",
                format!(
                    "{} went to {} with automation off",
                    after.id,
                    after.phase.word()
                ),
            ));
        }
        let ours = matches!(
            after.end,
            Some(
                EndCause::Repair { .. }
                    | EndCause::Shrink
                    | EndCause::Interruption
                    | EndCause::NeverRegistered
            )
        );
        let node = node_of(self.before, after);
        if after.phase == Phase::Terminating
            && ours
            && let Some(node) = node.filter(|node| node.is_held_by_operator())
        {
            let what = format!("{} is let go and {:?} stand", after.id, node.hold_names());
            found.push(("P5 we undo only what we did", what));
        }
        // A machine that is adopted exists already.
        if let (None, Some(settings), true) = (
            from,
            self.sim.settings.pools.get(&after.pool),
            after.cause != LaunchCause::Adopted,
        ) {
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
            let alive = cloud
                .alive_of(&after.id)
                .find(|rented| rented.fleet.as_ref() == Some(&self.sim.fleet));
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
        if before.lifecycle == Lifecycle::Terminated {
            return;
        }
        for (kind, hold) in &before.holds {
            let lifted = kind.is_operators() && !after.holds.contains_key(kind);
            if lifted && !self.may_lift(before, kind, hold) {
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

    /// Whether the input is one that lifts a hold which somebody else set: what its owner says, or
    /// its own end.
    fn may_lift(&self, node: &Node, kind: &HoldKind, hold: &Hold) -> bool {
        let id = &node.id;
        let HoldKind::Named { name, .. } = kind else {
            // What a command set that the scheduler did not take is taken back.
            let told = match self.input {
                Input::NotifyResult { node, .. } | Input::Act(Action::Tell { node }) => node == id,
                _ => false,
            };
            if told {
                let mut waiting = node.told.waiting.iter();
                return waiting.any(|one| one.asked.is_some() && one.created == hold.since);
            }
            let uncordon = NodeCommandType::Uncordon;
            return matches!(self.input, Input::Command { node, kind, .. } if node == id && *kind == uncordon);
        };
        match self.input {
            Input::RemoveHold {
                node, name: lifted, ..
            } => node == id && lifted == name,
            Input::AddHold { node, hold } => node == id && hold.name == *name,
            Input::Tick => hold.expires.is_some_and(|at| self.now.core >= at),
            _ => false,
        }
    }

    /// P4: a drain of ours begins only while a slot is free.
    fn budget(&self, before: Option<&Node>, after: &Node, found: &mut Vec<(&'static str, String)>) {
        let begins = |is: fn(&HoldKind) -> bool| {
            let stood = before.is_some_and(|node| node.holds.keys().any(is));
            !stood && after.holds.keys().any(is)
        };
        let Some(pool) = &after.pool else { return };
        let chosen = begins(is_our_drain);
        if (chosen || begins(is_interruption)) && self.must_rest(pool) {
            let what = format!("{} is drained with automation off", after.id);
            found.push(("P11 stoppable", what));
        }
        let machine = after.instance.as_ref();
        let machine = machine.and_then(|id| self.before.instances.get(id));
        // What ended long ago is forgotten by the cloud.
        let rented = machine
            .and_then(|one| one.provider_id.as_ref())
            .and_then(|id| self.sim.cloud.machines.get(id));
        let recorded = machine.is_some_and(|one| one.interruption.is_some());
        let asked = recorded && rented.is_none_or(|one| one.noticed);
        if begins(is_interruption) && !asked {
            let what = format!("{} is drained for its cloud, which did not ask", after.id);
            found.push(("P4 bounded blast radius", what));
        }
        if !chosen {
            return;
        }
        if machine.is_some_and(|one| !one.was_active) {
            // With a machine that never served nothing is disrupted.
            return;
        }
        let Some(settings) = self.sim.settings.pools.get(pool) else {
            return;
        };
        let capacity = |instance: &&Instance| instance.phase.counts_as_capacity();
        let full = |scope: &str, taken: usize, slots: usize| {
            let what = format!(
                "{} is drained with {taken} of {slots} slots of the {scope} taken",
                after.id
            );
            (taken >= slots).then_some(("P4 bounded blast radius", what))
        };
        let here = || members(self.before, pool);
        let taken = here().filter(|instance| self.is_disrupted(instance));
        let slots = settings
            .config
            .budget
            .slots(here().filter(capacity).count());
        found.extend(full("pool", taken.count(), slots));
        let all = || self.before.instances.values().map(AsRef::as_ref);
        let taken =
            all().filter(|instance| self.is_disrupted(instance) && self.holds_slot(instance));
        let budget = self.sim.settings.guards.budget;
        let slots = budget.slots(all().filter(capacity).count());
        found.extend(full("fleet", taken.count(), slots));
    }

    /// Whether a machine is lost to its users by our doing, and its cloud has not taken it yet.
    fn is_disrupted(&self, instance: &Instance) -> bool {
        match instance.phase {
            _ if !instance.was_active => false,
            Phase::Running => node_of(self.before, instance)
                .is_some_and(|node| node.holds.keys().any(is_our_drain)),
            Phase::Terminating => {
                matches!(
                    instance.end,
                    Some(EndCause::Repair { .. } | EndCause::Shrink | EndCause::Operator)
                ) && !instance
                    .sighting
                    .is_some_and(|sighting| is_accepted(sighting.status))
            }
            _ => false,
        }
    }

    /// Whether a disruption holds a slot of the fleet's budget: not for longer than its drain and
    /// its replacement, or its termination, may take, and not while nothing can move it on. A start
    /// or a pause gives it more time, which is not asked for here.
    fn holds_slot(&self, instance: &Instance) -> bool {
        let settings = &self.sim.settings;
        let provider = &instance.offering.provider;
        if self.must_rest(&instance.pool) || self.sim.report.suspect.contains_key(provider) {
            return false;
        }
        if instance.phase == Phase::Terminating {
            let late = instance.phase_since.core + settings.guards.terminate.alert_after;
            return self.now.core < late;
        }
        let node = node_of(self.before, instance);
        let drain = node.and_then(|node| Some((node, node.our_drain()?)));
        let Some((node, (cause, hold))) = drain else {
            return false;
        };
        let pool = settings.pools.get(&instance.pool);
        let deadlines = pool.map_or(settings.guards.drain_deadline, |pool| {
            pool.config.drain_deadline
        });
        let lasts = match cause {
            DrainCause::Incident(_) => deadlines.unhealthy,
            _ if node.health() == HealthStatus::Degraded => deadlines.degraded,
            _ => deadlines.voluntary,
        };
        let deadline = hold.since.core + lasts;
        let over = hold.drained.map_or(deadline, |at| at.core.min(deadline));
        let times = &settings.instances;
        let comes_up = hold.since.core + times.launch_timeout + times.registration_timeout;
        self.now.core < over.max(comes_up)
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

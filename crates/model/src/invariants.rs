//! Invariants: named predicates over a fleet's state that must hold after every change.
//!
//! Tests and the simulator check them after every step; production exports the number of
//! violations as a metric that must stay 0.

use crate::notice::MAX_NOTICES;
use crate::{Change, HealthStatus, HoldKind, Lifecycle, NoticeKind, Phase, State};

/// A predicate that does not hold, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The predicate's name.
    pub invariant: &'static str,
    /// What it does not hold for, and why.
    pub what: String,
}

impl Violation {
    fn new(invariant: &'static str, what: String) -> Self {
        Self { invariant, what }
    }
}

/// Checks every predicate over a state.
pub fn check(state: &State) -> Vec<Violation> {
    let mut found = Vec::new();
    bindings(state, &mut found);
    intents(state, &mut found);
    holds(state, &mut found);
    open_incidents(state, &mut found);
    ends(state, &mut found);
    notices(state, &mut found);
    found
}

/// Checks what a change may do to a state: `before` is the state without it.
pub fn check_change(before: &State, change: &Change) -> Vec<Violation> {
    let mut found = Vec::new();
    match change {
        Change::Instance(after) => {
            let Some(before) = before.instances.get(&after.id) else {
                return found;
            };
            if before.phase != after.phase && !before.phase.may_become(after.phase) {
                found.push(Violation::new(
                    "legal_transitions",
                    format!(
                        "instance {} went from {} to {}",
                        after.id,
                        before.phase.word(),
                        after.phase.word()
                    ),
                ));
            }
            if before.provider_id.is_some() && before.provider_id != after.provider_id {
                found.push(Violation::new(
                    "one_machine_per_instance",
                    format!(
                        "instance {} was {:?} and is {:?}",
                        after.id, before.provider_id, after.provider_id
                    ),
                ));
            }
            // A launch call that was not begun is taken back: one is under way at a time.
            if after.attempt < before.attempt || after.launches + 1 < before.launches {
                found.push(Violation::new(
                    "attempts_grow",
                    format!("instance {} forgets attempts", after.id),
                ));
            }
        }
        Change::Node(after) => {
            let Some(before) = before.nodes.get(&after.id) else {
                return found;
            };
            if before.incarnation == after.incarnation
                && before.lifecycle == Lifecycle::Terminated
                && after.lifecycle == Lifecycle::Registered
            {
                found.push(Violation::new(
                    "terminated_stays",
                    format!("node {} came back without a new incarnation", after.id),
                ));
            }
        }
        Change::Incident(after) => {
            let reopened = before
                .incidents
                .get(&after.id)
                .is_some_and(|before| before.closed.is_some() && after.closed.is_none());
            if reopened {
                found.push(Violation::new(
                    "closed_stays",
                    format!("incident {} opened again", after.id),
                ));
            }
        }
        Change::ForgetInstance(id)
            if before
                .instances
                .get(id)
                .is_some_and(|instance| instance.phase.may_be_alive()) =>
        {
            found.push(Violation::new(
                "open_state_is_kept",
                format!("instance {id} may be alive and is forgotten"),
            ));
        }
        Change::ForgetPool(name) => {
            let mut instances = before.instances.values();
            if let Some(one) = instances.find(|one| one.pool == *name) {
                found.push(Violation::new(
                    "open_state_is_kept",
                    format!("pool {name} is forgotten before its instance {}", one.id),
                ));
            }
        }
        _ => {}
    }
    found
}

/// A node and its instance name each other, and no two live nodes share an instance.
fn bindings(state: &State, found: &mut Vec<Violation>) {
    for node in state
        .nodes
        .values()
        .filter(|node| node.lifecycle == Lifecycle::Registered)
    {
        let Some(id) = &node.instance else { continue };
        let back = state
            .instances
            .get(id)
            .and_then(|instance| instance.node.as_ref());
        if back != Some(&node.id) {
            found.push(Violation::new(
                "bindings",
                format!(
                    "node {} is bound to {id}, which is bound to {back:?}",
                    node.id
                ),
            ));
        }
    }
}

/// A mere intent has no machine: none that the cloud named, and none that registered.
fn intents(state: &State, found: &mut Vec<Violation>) {
    for instance in state
        .instances
        .values()
        .filter(|instance| instance.phase == Phase::Requested)
    {
        if instance.node.is_some() || instance.provider_id.is_some() {
            found.push(Violation::new(
                "intents",
                format!(
                    "instance {} is requested, has machine {:?} and is bound to {:?}",
                    instance.id, instance.provider_id, instance.node
                ),
            ));
        }
    }
}

/// An incident of severity unhealthy is open exactly while its hold stands.
fn holds(state: &State, found: &mut Vec<Violation>) {
    for node in state
        .nodes
        .values()
        .filter(|node| node.lifecycle == Lifecycle::Registered)
    {
        for (id, severity) in &node.open_incidents {
            let open = state
                .incidents
                .get(id)
                .is_some_and(|incident| incident.is_open());
            let held = node.holds.contains_key(&HoldKind::Incident(id.clone()));
            if !open || held != (*severity == HealthStatus::Unhealthy) {
                found.push(Violation::new(
                    "incident_holds",
                    format!("node {}: incident {id} open {open}, held {held}", node.id),
                ));
            }
        }
        for kind in node.holds.keys() {
            if let HoldKind::Incident(id) = kind
                && !node.open_incidents.contains_key(id)
            {
                found.push(Violation::new(
                    "incident_holds",
                    format!("node {}: a hold stands for closed incident {id}", node.id),
                ));
            }
        }
    }
}

/// An open incident is listed by its node, and each key is open at most once.
fn open_incidents(state: &State, found: &mut Vec<Violation>) {
    let mut keys = std::collections::BTreeSet::new();
    for incident in state.incidents.values().filter(|one| one.is_open()) {
        let listed = state
            .nodes
            .get(&incident.key.node)
            .is_some_and(|node| node.open_incidents.contains_key(&incident.id));
        if !listed || !keys.insert(&incident.key) {
            found.push(Violation::new(
                "open_incidents",
                format!(
                    "incident {} of {:?} is open; listed {listed}",
                    incident.id, incident.key
                ),
            ));
        }
    }
}

/// A command that the scheduler hears of is open exactly while a notice of it waits, at most one
/// notice of our own waits beside, and nothing is told of a machine that is gone.
fn notices(state: &State, found: &mut Vec<Violation>) {
    let mut asked = std::collections::BTreeSet::new();
    for node in state.nodes.values() {
        let waiting = &node.told.waiting;
        let ours = waiting.iter().filter(|notice| notice.asked.is_none());
        let gone = node.lifecycle == Lifecycle::Terminated && !waiting.is_empty();
        if gone || ours.count() > 1 || waiting.len() > MAX_NOTICES {
            let what = format!("node {}: {} notices wait", node.id, waiting.len());
            found.push(Violation::new("notices", what));
        }
        for notice in waiting.iter().filter_map(|notice| notice.asked.as_ref()) {
            asked.insert(&notice.command);
            let open = state
                .commands
                .get(&notice.command)
                .is_some_and(|command| !command.state.is_final() && command.node == node.id);
            if !open {
                let what = format!("node {}: command {} is over", node.id, notice.command);
                found.push(Violation::new("notices", what));
            }
        }
    }
    for command in state.commands.values() {
        let told = NoticeKind::of(command.kind).is_some() && !command.state.is_final();
        if told && !asked.contains(&command.id) {
            let what = format!("command {} waits and no notice tells of it", command.id);
            found.push(Violation::new("notices", what));
        }
    }
}

/// What ended says when, and holds nothing.
fn ends(state: &State, found: &mut Vec<Violation>) {
    for instance in state.instances.values() {
        if instance.phase.may_be_alive() == instance.ended.is_some() {
            found.push(Violation::new(
                "ends",
                format!(
                    "instance {} is {} and ended {:?}",
                    instance.id,
                    instance.phase.word(),
                    instance.ended
                ),
            ));
        }
    }
    for node in state.nodes.values() {
        let terminated = node.lifecycle == Lifecycle::Terminated;
        let holds = terminated && !(node.holds.is_empty() && node.open_incidents.is_empty());
        if terminated != node.terminated.is_some() || holds {
            found.push(Violation::new(
                "ends",
                format!(
                    "node {} is {:?}, ended {:?}, holds {:?}",
                    node.id,
                    node.lifecycle,
                    node.terminated,
                    node.hold_names()
                ),
            ));
        }
        let live_machine = node
            .instance
            .as_ref()
            .and_then(|id| state.instances.get(id))
            .is_none_or(|instance| instance.phase.may_be_alive());
        if !terminated && !live_machine {
            found.push(Violation::new(
                "ends",
                format!("node {} outlives its instance", node.id),
            ));
        }
    }
}

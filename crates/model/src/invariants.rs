//! Invariants: named predicates over a fleet's state that must hold after every change.
//!
//! Tests and the simulator check them after every step; production exports the number of
//! violations as a metric that must stay 0.

use crate::{HealthStatus, HoldKind, Lifecycle, State};

/// A predicate that does not hold, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The predicate's name.
    pub invariant: &'static str,
    /// What it does not hold for, and why.
    pub what: String,
}

/// Checks every predicate.
pub fn check(state: &State) -> Vec<Violation> {
    let mut found = Vec::new();
    bindings(state, &mut found);
    holds(state, &mut found);
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
            found.push(Violation {
                invariant: "bindings",
                what: format!(
                    "node {} is bound to {id}, which is bound to {back:?}",
                    node.id
                ),
            });
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
                found.push(Violation {
                    invariant: "incident_holds",
                    what: format!("node {}: incident {id} open {open}, held {held}", node.id),
                });
            }
        }
        for kind in node.holds.keys() {
            if let HoldKind::Incident(id) = kind
                && !node.open_incidents.contains_key(id)
            {
                found.push(Violation {
                    invariant: "incident_holds",
                    what: format!("node {}: a hold stands for closed incident {id}", node.id),
                });
            }
        }
    }
}

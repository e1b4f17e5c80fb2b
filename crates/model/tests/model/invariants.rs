//! Each invariant finds what breaks it, and nothing in a fleet that is in order.

use std::sync::Arc;

use navarch_model::PoolName;
use navarch_model::invariants::{check, check_change};
use navarch_model::{
    Change, Ending, HealthStatus, HoldKind, Incident, IncidentId, Instance, InstanceId, Lifecycle,
    Node, NodeId, Phase, ProviderInstanceId, State,
};

use crate::support::{hold, incident, instance, node, small_fleet, stamp};

fn edit_node(state: &mut State, id: &str, edit: impl FnOnce(&mut Node)) {
    edit(Arc::make_mut(state.nodes.get_mut(id).expect("a node")));
}

fn edit_instance(state: &mut State, id: &str, edit: impl FnOnce(&mut Instance)) {
    edit(Arc::make_mut(
        state.instances.get_mut(id).expect("an instance"),
    ));
}

fn edit_incident(state: &mut State, id: &str, edit: impl FnOnce(&mut Incident)) {
    edit(Arc::make_mut(
        state.incidents.get_mut(id).expect("an incident"),
    ));
}

/// What `check` finds in the small fleet after an edit, as lines.
fn found(edit: impl FnOnce(&mut State)) -> Vec<String> {
    let mut state = small_fleet();
    edit(&mut state);
    check(&state)
        .into_iter()
        .map(|one| format!("{}: {}", one.invariant, one.what))
        .collect()
}

#[test]
fn a_fleet_in_order_has_no_violations() {
    assert_eq!(found(|_| {}), [""; 0]);
    // What ended is in order too, when it says when and holds nothing.
    assert_eq!(
        found(|state| {
            edit_instance(state, "nv-1", |machine| {
                machine.phase = Phase::Terminated;
                machine.ended = Some(stamp(9));
            });
            edit_node(state, "n1", |gone| {
                gone.lifecycle = Lifecycle::Terminated;
                gone.terminated = Some(stamp(9));
                gone.holds.clear();
                gone.open_incidents.clear();
            });
            edit_incident(state, "inc-1", |ended| {
                ended.closed = Some((stamp(9), Ending::NodeTerminated));
            });
        }),
        [""; 0]
    );
    // A degraded incident holds nothing.
    assert_eq!(
        found(|state| {
            edit_incident(state, "inc-1", |worn| {
                worn.severity = HealthStatus::Degraded;
            });
            edit_node(state, "n1", |held| {
                held.holds.clear();
                held.open_incidents
                    .insert(IncidentId::new("inc-1"), HealthStatus::Degraded);
            });
        }),
        [""; 0]
    );
}

#[test]
fn bindings_go_both_ways() {
    assert_eq!(
        found(|state| edit_instance(state, "nv-1", |machine| machine.node = None)),
        ["bindings: node n1 is bound to nv-1, which is bound to None"]
    );
    assert_eq!(
        found(|state| edit_node(state, "n2", |second| {
            second.instance = Some(InstanceId::new("nv-1"));
        })),
        ["bindings: node n2 is bound to nv-1, which is bound to Some(\"n1\")"]
    );
}

#[test]
fn intents_have_no_machine() {
    let machine = ProviderInstanceId::new("m-7");
    assert_eq!(
        found(|state| edit_instance(state, "nv-2", |intent| intent.provider_id = Some(machine))),
        ["intents: instance nv-2 is requested, has machine Some(\"m-7\") and is bound to None"]
    );
    assert_eq!(
        found(|state| edit_instance(state, "nv-2", |intent| intent.node =
            Some(NodeId::new("n9")))),
        ["intents: instance nv-2 is requested, has machine None and is bound to Some(\"n9\")"]
    );
}

#[test]
fn holds_stand_exactly_while_their_incidents_are_open_and_unhealthy() {
    assert_eq!(
        found(|state| edit_node(state, "n1", |held| held.holds.clear())),
        ["incident_holds: node n1: incident inc-1 open true, held false"]
    );
    assert_eq!(
        found(|state| edit_node(state, "n1", |held| {
            held.open_incidents
                .insert(IncidentId::new("inc-1"), HealthStatus::Degraded);
        })),
        ["incident_holds: node n1: incident inc-1 open true, held true"]
    );
    assert_eq!(
        found(|state| edit_incident(state, "inc-1", |ended| {
            ended.closed = Some((stamp(9), Ending::Recovered));
        })),
        ["incident_holds: node n1: incident inc-1 open false, held true"]
    );
    assert_eq!(
        found(|state| edit_node(state, "n2", |held| {
            held.holds
                .insert(HoldKind::Incident(IncidentId::new("inc-0")), hold());
        })),
        ["incident_holds: node n2: a hold stands for closed incident inc-0"]
    );
}

#[test]
fn open_incidents_are_listed_and_each_key_is_open_once() {
    assert_eq!(
        found(|state| edit_node(state, "n1", |held| {
            held.holds.clear();
            held.open_incidents.clear();
        })),
        [
            "open_incidents: incident inc-1 of FaultKey { node: \"n1\", gpu: Some(3), \
             class: \"xid-79\" } is open; listed false"
        ]
    );
    assert_eq!(
        found(|state| {
            let twin = incident("inc-2", "n1");
            edit_node(state, "n1", |held| {
                held.holds
                    .insert(HoldKind::Incident(twin.id.clone()), hold());
                held.open_incidents.insert(twin.id.clone(), twin.severity);
            });
            state.apply(&Change::Incident(Arc::new(twin)));
        }),
        [
            "open_incidents: incident inc-2 of FaultKey { node: \"n1\", gpu: Some(3), \
             class: \"xid-79\" } is open; listed true"
        ]
    );
}

#[test]
fn what_ended_says_when_and_holds_nothing() {
    assert_eq!(
        found(|state| edit_instance(state, "nv-2", |intent| intent.phase = Phase::Failed)),
        ["ends: instance nv-2 is failed and ended None"]
    );
    let ended = stamp(9);
    assert_eq!(
        found(|state| edit_instance(state, "nv-2", |intent| intent.ended = Some(ended))),
        [format!(
            "ends: instance nv-2 is requested and ended {:?}",
            Some(ended)
        )]
    );
    assert_eq!(
        found(|state| edit_node(state, "n2", |gone| gone.lifecycle = Lifecycle::Terminated)),
        ["ends: node n2 is Terminated, ended None, holds []"]
    );
    assert_eq!(
        found(|state| edit_node(state, "n2", |gone| gone.terminated = Some(ended))),
        [format!(
            "ends: node n2 is Registered, ended {:?}, holds []",
            Some(ended)
        )]
    );
    assert_eq!(
        found(|state| edit_node(state, "n2", |gone| {
            gone.lifecycle = Lifecycle::Terminated;
            gone.terminated = Some(ended);
            gone.holds.insert(HoldKind::OperatorDrain, hold());
        })),
        [format!(
            "ends: node n2 is Terminated, ended {:?}, holds [\"operator:drain\"]",
            Some(ended)
        )]
    );
    let still_open = found(|state| {
        edit_node(state, "n1", |gone| {
            gone.lifecycle = Lifecycle::Terminated;
            gone.terminated = Some(ended);
            gone.holds.clear();
        });
    });
    assert_eq!(
        still_open,
        [format!(
            "ends: node n1 is Terminated, ended {:?}, holds []",
            Some(ended)
        )]
    );
    assert_eq!(
        found(|state| edit_instance(state, "nv-1", |machine| {
            machine.phase = Phase::Terminated;
            machine.ended = Some(ended);
        })),
        ["ends: node n1 outlives its instance"]
    );
}

/// What a change to the small fleet violates.
fn violated(change: Change) -> Vec<String> {
    check_change(&small_fleet(), &change)
        .into_iter()
        .map(|one| format!("{}: {}", one.invariant, one.what))
        .collect()
}

fn changed_instance(edit: impl FnOnce(&mut Instance)) -> Vec<String> {
    let mut after = instance("nv-1", "n1");
    edit(&mut after);
    violated(Change::Instance(Arc::new(after)))
}

#[test]
fn instances_change_by_the_table_and_keep_their_machine_and_their_count_of_calls() {
    let fine: [fn(&mut Instance); 5] = [
        |_| {},
        |after| after.phase = Phase::Terminating,
        |after| after.attempt += 1,
        |after| after.launches += 1,
        // It was not begun.
        |after| after.launches -= 1,
    ];
    for edit in fine {
        assert_eq!(changed_instance(edit), [""; 0]);
    }
    assert_eq!(
        changed_instance(|after| after.phase = Phase::Terminated),
        ["legal_transitions: instance nv-1 went from running to terminated"]
    );
    assert_eq!(
        changed_instance(|after| after.provider_id = Some(ProviderInstanceId::new("m-2"))),
        ["one_machine_per_instance: instance nv-1 was Some(\"m-nv-1\") and is Some(\"m-2\")"]
    );
    assert_eq!(
        changed_instance(|after| after.provider_id = None),
        ["one_machine_per_instance: instance nv-1 was Some(\"m-nv-1\") and is None"]
    );
    for edit in [(|after| after.attempt -= 1) as fn(&mut Instance), |after| {
        after.launches -= 2;
    }] {
        assert_eq!(
            changed_instance(edit),
            ["attempts_grow: instance nv-1 forgets attempts"]
        );
    }
    // The intent gets its machine; a new instance may begin in any phase.
    let mut named = instance("nv-2", "n1");
    named.phase = Phase::PendingRegistration;
    assert_eq!(violated(Change::Instance(Arc::new(named))), [""; 0]);
    let fresh = instance("nv-7", "n7");
    assert_eq!(violated(Change::Instance(Arc::new(fresh))), [""; 0]);
}

#[test]
fn what_ended_does_not_come_back() {
    let mut state = small_fleet();
    edit_node(&mut state, "n2", |gone| {
        gone.lifecycle = Lifecycle::Terminated;
        gone.terminated = Some(stamp(9));
    });
    edit_incident(&mut state, "inc-1", |ended| {
        ended.closed = Some((stamp(9), Ending::Recovered));
    });
    let names = |change: Change| -> Vec<String> {
        check_change(&state, &change)
            .into_iter()
            .map(|one| format!("{}: {}", one.invariant, one.what))
            .collect()
    };
    let back = node("n2");
    assert_eq!(
        names(Change::Node(Arc::new(back.clone()))),
        ["terminated_stays: node n2 came back without a new incarnation"]
    );
    let another_host = Node {
        incarnation: 2,
        ..back
    };
    assert_eq!(names(Change::Node(Arc::new(another_host))), [""; 0]);
    let still_gone = Arc::clone(&state.nodes["n2"]);
    assert_eq!(names(Change::Node(still_gone)), [""; 0]);
    assert_eq!(names(Change::Node(Arc::new(node("n1")))), [""; 0]);
    assert_eq!(names(Change::Node(Arc::new(node("n7")))), [""; 0]);
    assert_eq!(
        names(Change::Incident(Arc::new(incident("inc-1", "n1")))),
        ["closed_stays: incident inc-1 opened again"]
    );
    let closed = Arc::clone(&state.incidents["inc-1"]);
    assert_eq!(names(Change::Incident(closed)), [""; 0]);
    assert_eq!(
        names(Change::Incident(Arc::new(incident("inc-2", "n1")))),
        [""; 0]
    );
}

#[test]
fn a_pool_is_not_forgotten_before_its_instances() {
    assert_eq!(
        violated(Change::ForgetPool(PoolName::new("pool"))),
        ["open_state_is_kept: pool pool is forgotten before its instance nv-1"]
    );
    assert_eq!(
        violated(Change::ForgetPool(PoolName::new("other"))),
        [""; 0]
    );
}

#[test]
fn a_machine_that_may_be_alive_is_not_forgotten() {
    assert_eq!(
        violated(Change::ForgetInstance(InstanceId::new("nv-1"))),
        ["open_state_is_kept: instance nv-1 may be alive and is forgotten"]
    );
    let mut state = small_fleet();
    edit_instance(&mut state, "nv-1", |machine| {
        machine.phase = Phase::Terminated;
    });
    for id in ["nv-1", "nv-7"] {
        let change = Change::ForgetInstance(InstanceId::new(id));
        assert_eq!(check_change(&state, &change), []);
    }
    let change = Change::ForgetNode(NodeId::new("n1"));
    assert_eq!(check_change(&state, &change), []);
}

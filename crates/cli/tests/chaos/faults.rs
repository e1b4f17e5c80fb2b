//! One fault of the cloud after the other: the fleet converges, or rests in a wait that it names;
//! nothing leaks and nothing is bought in vain.

use std::collections::BTreeSet;
use std::time::Duration;

use navarch_api::v1;
use serde_json::json;

use crate::stage::{Knobs, Stage};
use crate::support::until;

/// How long a test watches that nothing happens.
const WATCHED: Duration = Duration::from_millis(1500);

/// The live machines in the cloud's file, whatever its API shows.
fn live(stage: &Stage) -> BTreeSet<String> {
    let made = stage.cloud_file().into_iter();
    made.filter(|made| made.live).map(|made| made.id).collect()
}

/// The only node's id, once it is ACTIVE.
fn first(stage: &Stage) -> String {
    until("a node is ACTIVE", || {
        stage.active().into_iter().next().ok_or_else(String::new)
    })
}

#[test]
fn refused_launches_rest_and_are_named() {
    let stage = Stage::new(&Knobs {
        pools: vec![("alpha", 1)],
        ..Knobs::default()
    });
    stage.settle();
    for kind in ["capacity", "quota", "auth", "configuration"] {
        let made = stage.cloud_file().len();
        stage.order(&json!({
            "fault": "error", "error": kind, "operation": "launch",
            "message": format!("no {kind} today"),
        }));
        stage.terminate(&first(&stage));
        let wait = stage.until_waiting("offering_rest");
        assert!(wait.text.contains(&format!("no {kind} today")), "{wait:?}");
        assert!(wait.until.is_set(), "{wait:?}");
        stage.while_it_lasts(WATCHED, |stage| {
            assert_eq!(stage.cloud_file().len(), made, "{kind}");
        });
        stage.end_faults();
        stage.settle();
        assert_eq!(stage.cloud_file().len(), made + 1, "{kind}");
    }
}

#[test]
fn launches_that_fail_for_a_while_are_repeated_with_the_same_token() {
    let stage = Stage::new(&Knobs {
        pools: vec![("alpha", 1)],
        ..Knobs::default()
    });
    stage.settle();
    for kind in ["rate_limit", "transient"] {
        let made = stage.cloud_file().len();
        stage.order(&json!({
            "fault": "error", "error": kind, "operation": "launch", "retry_after_seconds": 1,
        }));
        stage.terminate(&first(&stage));
        until("the instance says that the launch is repeated", || {
            let instances = stage.instances().map_err(|error| error.to_string())?;
            let said = |words: &str| words.starts_with("launch will be retried");
            let waits = instances.iter().any(|known| said(&known.status_message));
            waits.then_some(()).ok_or_else(|| format!("{instances:?}"))
        });
        let asked = stage.instances().expect("instances").len();
        stage.while_it_lasts(WATCHED, |stage| {
            assert_eq!(stage.cloud_file().len(), made, "{kind}");
        });
        stage.end_faults();
        stage.settle();
        assert_eq!(stage.cloud_file().len(), made + 1, "{kind}");
        let instances = stage.instances().expect("instances").len();
        assert_eq!(instances, asked, "{kind}: one intent, one instance");
    }
}

#[test]
fn lost_answers_cost_no_second_machine() {
    let slow = |when: &str| {
        json!({
            "fault": "latency", "operation": "launch", "milliseconds": 7500, "when": when,
            "count": 2,
        })
    };
    for (lost, doubted) in [
        (
            json!({"fault": "lost_answer", "operation": "launch", "count": 3}),
            true,
        ),
        // The agent registers before the call is given up, which proves the launch.
        (slow("after"), false),
        (slow("before"), true),
        (
            json!({
                "fault": "error", "error": "outcome_unknown", "operation": "launch", "count": 2,
            }),
            true,
        ),
    ] {
        let knobs = Knobs {
            pools: vec![("alpha", 2)],
            // A machine boots and its agent registers well within it.
            request_timeout: "6s",
            ..Knobs::default()
        };
        // Nothing but the answer tells of the machine while look-ups and listings fail.
        let deaf =
            json!({"fault": "error", "error": "transient", "operation": "status", "count": 4});
        let stage = Stage::with_faults(&knobs, &[lost.clone(), deaf]);
        stage.settle();
        assert_eq!(stage.cloud_file().len(), 2, "{lost}");
        let phases = stage.events("instance.phase");
        let unknown = |event: &v1::Event| event.message.contains("launching to outcome_unknown");
        assert_eq!(phases.iter().any(unknown), doubted, "{lost}: {phases:?}");
        stage.order(&json!({"fault": "lost_answer", "operation": "terminate", "count": 2}));
        stage.terminate(&first(&stage));
        stage.settle();
        assert_eq!(stage.cloud_file().len(), 3, "{lost}");
    }
}

#[test]
fn machines_that_never_boot_are_ended_and_three_open_the_breaker() {
    let knobs = Knobs {
        pools: vec![("alpha", 3)],
        registration_timeout: "5s",
        launch_breaker: "{failures: 3, wait: 4s, max_wait: 4s, unproven_launches: 3}",
        ..Knobs::default()
    };
    let stage = Stage::with_faults(&knobs, &[json!({"fault": "never_boots"})]);
    let wait = stage.until_waiting("launch_breaker");
    // At first an unproven offering has three launches at a time; then the breaker is open.
    let opened = until("the breaker opens", || {
        let events = stage.events("breaker.opened");
        events.into_iter().next().ok_or_else(|| format!("{wait:?}"))
    });
    assert!(opened.message.contains("never became ACTIVE"), "{opened:?}");
    assert_eq!(stage.cloud_file().len(), 3, "three are paid");
    stage.until_waiting("launch_breaker");
    until("all three are gone", || {
        let live = live(&stage);
        live.is_empty()
            .then_some(())
            .ok_or_else(|| format!("{live:?}"))
    });
    stage.end_faults();
    // The machine of a probe may have been made while the fault was on order.
    stage.settle();
}

#[test]
fn a_vanished_machine_is_replaced_and_no_other_is_touched() {
    let stage = Stage::new(&Knobs {
        pools: vec![("alpha", 3)],
        ..Knobs::default()
    });
    stage.settle();
    let before = live(&stage);
    let node = first(&stage);
    stage
        .ask(stage.cloud().vanish(&node))
        .expect("it is ordered");
    until("the record says that it is gone", || {
        let instances = stage.instances().map_err(|error| error.to_string())?;
        let gone = instances
            .iter()
            .find(|known| known.instance_id == node && known.phase == "terminated");
        gone.map(drop).ok_or_else(|| format!("{instances:?}"))
    });
    stage.settle();
    let after = live(&stage);
    assert_eq!(
        before.intersection(&after).count(),
        2,
        "{before:?} {after:?}"
    );
    assert_eq!(stage.cloud_file().len(), 4);
}

#[test]
fn silence_without_witnesses_waits_until_an_operator_confirms() {
    let stage = Stage::new(&Knobs {
        silence_replace_after: "100ms",
        ..Knobs::default()
    });
    stage.settle();
    let before = live(&stage);
    let node = first(&stage);
    stage.order(&json!({"fault": "hang", "instance": node}));
    let wait = until("the silence waits for witnesses", || {
        let wait = stage.until_waiting("silence");
        let named = wait.about == node && wait.text.contains("witnesses");
        named.then_some(wait.clone()).ok_or(format!("{wait:?}"))
    });
    assert!(wait.text.contains("an operator may confirm"), "{wait:?}");
    stage.while_it_lasts(WATCHED, |stage| {
        assert_eq!(live(stage), before, "silence alone destroys nothing");
    });
    let client = stage.client();
    let request = v1::ConfirmSilenceRequest {
        node_id: node.clone(),
        reason: "seen from the console".to_owned(),
    };
    stage
        .ask(client.confirm_silence(request))
        .expect("it is taken");
    stage.settle_without(&node);
    assert_eq!(live(&stage).intersection(&before).count(), 1);
}

#[test]
fn a_silent_machine_that_the_cloud_calls_impaired_is_replaced() {
    let stage = Stage::new(&Knobs::default());
    stage.settle();
    let before = live(&stage);
    let node = first(&stage);
    stage.order(&json!({"fault": "show", "instance": node, "status": "impaired"}));
    stage.while_it_lasts(WATCHED, |stage| {
        assert_eq!(live(stage), before, "a machine that beats is not dead");
    });
    stage.order(&json!({"fault": "hang", "instance": node}));
    stage.settle_without(&node);
    assert_eq!(live(&stage).intersection(&before).count(), 1);
}

#[test]
fn listings_that_lie_end_nothing() {
    let stage = Stage::new(&Knobs {
        pools: vec![("alpha", 4)],
        ..Knobs::default()
    });
    stage.settle();
    for (fault, suspect) in [
        (json!({"fault": "empty_listing"}), true),
        (json!({"fault": "partial_listing", "how": "missing"}), false),
        (json!({"fault": "partial_listing", "how": "error"}), true),
        (json!({"fault": "stale_listing", "seconds": 3600}), true),
        (
            json!({"fault": "error", "error": "transient", "operation": "list"}),
            false,
        ),
    ] {
        let before = live(&stage);
        stage.order(&fault);
        stage.while_it_lasts(WATCHED, |stage| {
            assert_eq!(live(stage), before, "{fault}");
            assert_eq!(stage.active().len(), 4, "{fault}");
        });
        if suspect {
            // Nothing is bought for a listing that is not believed, and the plan says so.
            stage.terminate(&first(&stage));
            let wait = stage.until_waiting("sweep");
            assert!(wait.text.contains("is not believed"), "{fault}: {wait:?}");
        }
        stage.end_faults();
        stage.settle();
        let kept = live(&stage).intersection(&before).count();
        assert_eq!(kept, if suspect { 3 } else { 4 }, "{fault}");
    }
}

#[test]
fn an_unknown_outcome_that_nothing_clears_up_buys_nothing() {
    let knobs = Knobs {
        pools: vec![("alpha", 1)],
        registration_timeout: "5s",
        ..Knobs::default()
    };
    let fails =
        |operation: &str| json!({"fault": "error", "error": "transient", "operation": operation});
    let stage = Stage::with_faults(
        &knobs,
        &[
            json!({"fault": "lost_answer", "operation": "launch", "count": 1}),
            json!({"fault": "never_boots", "count": 1}),
            fails("status"),
            fails("list"),
        ],
    );
    until("the outcome is unknown", || {
        let instances = stage.instances().map_err(|error| error.to_string())?;
        let unknown = |phase: &str| phase == "outcome_unknown";
        let found = instances.iter().any(|known| unknown(&known.phase));
        found.then_some(()).ok_or_else(|| format!("{instances:?}"))
    });
    stage.while_it_lasts(WATCHED * 2, |stage| {
        assert_eq!(stage.cloud_file().len(), 1, "bought again");
        assert_eq!(stage.instances().expect("instances").len(), 1);
    });
    stage.end_faults();
    stage.settle();
    assert_eq!(stage.cloud_file().len(), 2, "the dead one and the new one");
}

#[test]
fn terminations_that_are_refused_never_give_up() {
    let stage = Stage::new(&Knobs {
        pools: vec![("alpha", 1)],
        ..Knobs::default()
    });
    stage.settle();
    for kind in ["auth", "transient", "configuration", "rate_limit"] {
        let before = live(&stage);
        stage.order(&json!({"fault": "error", "error": kind, "operation": "terminate"}));
        let node = first(&stage);
        stage.terminate(&node);
        until("its instance says that it is tried again", || {
            let instances = stage.instances().map_err(|error| error.to_string())?;
            let known = instances.iter().find(|known| known.instance_id == node);
            let known = known.ok_or("no such instance")?;
            let again = known
                .status_message
                .starts_with("termination will be retried");
            again.then_some(()).ok_or_else(|| format!("{known:?}"))
        });
        assert!(live(&stage).is_superset(&before), "{kind}");
        stage.end_faults();
        stage.settle();
        assert_eq!(live(&stage).intersection(&before).count(), 0, "{kind}");
    }
}

#[test]
fn a_machine_that_the_cloud_denied_is_found_and_ended() {
    let stage = Stage::new(&Knobs {
        pools: vec![("alpha", 1)],
        ..Knobs::default()
    });
    stage.settle();
    let before = live(&stage);
    stage.order(&json!({
        "fault": "error", "error": "not_found", "operation": "terminate", "count": 1,
    }));
    stage.terminate(&first(&stage));
    until("the record and the cloud agree again", || {
        let now = live(&stage);
        let gone = now.is_disjoint(&before);
        gone.then_some(()).ok_or_else(|| format!("{now:?}"))
    });
    let found = stage.events("instance.unclaimed");
    assert_eq!(found.len(), 1, "{found:?}");
    stage.settle();
}

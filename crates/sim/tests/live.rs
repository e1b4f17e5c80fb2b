//! Runs in which people take part: what readers see, what orders lead to, and that who only looks
//! changes nothing.

mod scenario;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use navarch_config::scenario::{Failure, FailureKind};
use navarch_core::{Actor, Input, Reply};
use navarch_model::{NodeCommandType, NodeId, NodeStatus, State, Time};
use navarch_sim::record::{Cause, Outcome};
use navarch_sim::run::{Run, Unbreakable};
use scenario::run;

const SCENARIO: &str = "name: live
fleet:
  - {id: a, gpu_count: 8}
  - {id: b, gpu_count: 8}
providers:
  cloud: {type: fake, gpu_count: 8}
pools:
  main: {provider: cloud, instance_type: fake-8x, min_nodes: 4, max_nodes: 6}
cloud: {boot: {min: 5s, max: 9s}}
events:
  - {at: 2s, action: wait_for_status, target: b, params: {expected_status: active, timeout: 9s}}
  - {at: 40s, action: crash, params: {down: 20s}}
  - {at: 90s, action: inject_failure, target: a, params: {failure_type: gpu_lost}}
  - {at: 5m, action: wait}
stress:
  duration: 6m
  chaos:
    failure_rate: 3000
    failure_types: [{type: xid_error, weight: 1}]
    control_plane_crashes: 1m
assertions:
  - {type: invariants}
";

/// The seed of every run.
const SEED: u64 = 6;

fn at(millis: u64) -> Time {
    Time(0) + Duration::from_millis(millis)
}

/// A trace that a test reads.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What readers see, who take over what is published.
fn read(run: &mut Run, seen: &mut State) {
    let news = run.news();
    if let Some(state) = news.loaded {
        *seen = state;
    }
    for (_, changes) in news.turns {
        for change in changes {
            seen.apply(&change);
        }
    }
}

#[test]
fn readers_see_the_state_of_the_control_plane_through_its_crashes() {
    let mut run = run(SCENARIO, SEED);
    run.open();
    let mut seen = run.state();
    let (mut millis, mut compared) = (0, 0);
    while run.advance_to(at(millis)).is_some() {
        millis += 130;
        read(&mut run, &mut seen);
        // While it is away, it may have committed what it told nobody.
        if run.takes_nothing().is_none() {
            assert_eq!(seen, *run.sim().state(), "at {millis} ms");
            compared += 1;
        }
    }
    let (_, deaths) = run.sim().steps_and_deaths();
    assert!(deaths > 2, "{deaths}");
    assert!(compared > 500, "{compared}");
    assert_eq!(run.end_scenario(), None);
}

#[test]
fn how_often_somebody_looks_changes_nothing() {
    let traces = [0, 7, 130, 60_000].map(|step| {
        let (mut run, sink) = (run(SCENARIO, SEED), Sink::default());
        run.trace(Box::new(sink.clone()));
        if step == 0 {
            while run.advance().is_some() {}
        } else {
            run.open();
            let mut millis = 0;
            while run.advance_to(at(millis)).is_some() {
                run.news();
                run.beats();
                millis += step;
            }
        }
        assert_eq!(run.finish(false).outcome, Outcome::Passed);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).expect("text")
    });
    assert!(traces[0].lines().count() > 200, "{}", traces[0]);
    for other in &traces[1..] {
        assert!(traces[0] == *other);
    }
}

fn cordon(node: &str) -> Input {
    let actor = Actor {
        name: "anna".to_owned(),
        address: "10.1.2.3".to_owned(),
    };
    let input = Input::Command {
        node: NodeId::new(node),
        kind: NodeCommandType::Cordon,
        parameters: [].into(),
    };
    Input::By {
        actor,
        input: Box::new(input),
    }
}

#[test]
fn orders_reach_the_control_plane_and_end_with_it() {
    let text = SCENARIO.replace("    failure_rate: 3000\n", "    failure_rate: 0\n");
    let text = text.replace("    control_plane_crashes: 1m\n", "");
    let mut run = run(&text, SEED);
    let sink = Sink::default();
    run.trace(Box::new(sink.clone()));
    run.open();
    assert!(
        run.takes_nothing().is_some(),
        "nothing runs before it starts"
    );
    assert!(run.ask(cordon("a")).is_err());
    while run.sim().now() < at(30_000) {
        run.advance_to(at(30_000));
    }
    let reply = run.ask(cordon("a")).expect("it runs");
    assert!(matches!(reply, Ok(Reply::Commanded { .. })), "{reply:?}");
    let status = |run: &Run, node: &str| run.sim().state().nodes[&NodeId::new(node)].status();
    assert_eq!(status(&run, "a"), NodeStatus::Cordoned);
    let refused = run.ask(cordon("nobody")).expect("it runs");
    assert!(refused.is_err(), "{refused:?}");

    let failure = Failure {
        kind: FailureKind::Xid,
        xid: Some(79),
        gpu: Some(3),
        message: String::new(),
        lasts: None,
    };
    let b = NodeId::new("b");
    run.break_machine(&b, &failure).expect("it is there");
    run.advance_to(at(36_000));
    assert_eq!(status(&run, "b"), NodeStatus::Unhealthy);
    run.repair_machine(&b, &[FailureKind::Temperature])
        .expect("it is there");
    run.repair_machine(&b, &[]).expect("it is there");
    run.advance_to(at(70_000));
    assert_eq!(status(&run, "b"), NodeStatus::Active);
    let wrong = Failure {
        gpu: Some(8),
        ..failure.clone()
    };
    let refused = run.break_machine(&b, &wrong);
    assert_eq!(refused, Err(Unbreakable::NoSuchGpu { gpu: 8, count: 8 }));
    let spot = Failure {
        kind: FailureKind::SpotInterruption,
        ..failure.clone()
    };
    let refused = run.break_machine(&b, &spot);
    assert_eq!(refused, Err(Unbreakable::NotSpot(b)));
    let nobody = NodeId::new("nobody");
    let refused = run.repair_machine(&nobody, &[]);
    assert_eq!(refused, Err(Unbreakable::NoMachine(nobody)));

    // Nothing comes by itself after the end, and orders go on to count.
    while run.advance().is_some() {}
    assert_eq!(run.end_scenario(), None);
    let end = run.sim().now();
    run.linger_to(end + Duration::from_secs(600));
    assert_eq!(run.sim().now(), end + Duration::from_secs(600));
    run.ask(cordon("b")).expect("it runs").expect("it is taken");
    let record = run.finish(false);
    assert_eq!(record.outcome, Outcome::Passed);
    let by_person = record
        .injections
        .iter()
        .filter(|one| one.cause == Cause::Person);
    assert_eq!(by_person.count(), 1);
    let trace = String::from_utf8(sink.0.lock().unwrap().clone()).expect("text");
    for wanted in ["anna at 10.1.2.3: cordon a", "the scenario is over"] {
        assert!(trace.contains(wanted), "{wanted} is missing");
    }
}

/// Machines that only repeat themselves are heard like the others.
#[test]
fn who_beats_is_known_to_beat() {
    let text = SCENARIO.replace("    failure_rate: 3000\n", "    failure_rate: 0\n");
    let text = text.replace("    control_plane_crashes: 1m\n", "");
    let mut run = run(&text, SEED);
    run.open();
    while run.sim().now() < at(35_000) {
        run.advance_to(at(35_000));
    }
    let (all, quiet) = run.sim().machines();
    assert!(quiet > 4, "{quiet} of {all}");
    let (beats, now) = (run.beats(), run.stamp());
    assert_eq!(beats.len(), 6);
    for (node, beat) in beats {
        let ago = now.core.since(beat.core);
        assert!(ago < Duration::from_secs(4), "{node}: {ago:?} ago");
    }
}

#[test]
fn chaos_ends_with_the_scenario() {
    let mut run = run(SCENARIO, SEED);
    run.open();
    while run.advance().is_some() {}
    run.end_scenario();
    let before = run.progress().failures;
    assert!(before > 20, "{before}");
    let end = run.sim().now();
    run.linger_to(end + Duration::from_secs(3600));
    assert_eq!(run.progress().failures, before);
    assert_eq!(run.takes_nothing(), None);
}

#[test]
fn a_death_that_waits_for_its_turn_does_not_come_after_the_end() {
    let text = SCENARIO.replace("control_plane_crashes: 1m", "control_plane_crashes: 1s");
    let mut run = run(&text, SEED);
    run.open();
    run.advance_to(at(200_000));
    run.end_scenario();
    let (_, died) = run.sim().steps_and_deaths();
    assert!(died > 5, "{died}");
    run.linger_to(at(3_600_000));
    assert_eq!(run.sim().steps_and_deaths().1, died);
}

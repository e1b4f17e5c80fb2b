//! A control plane that does not stay: what was under way goes on, and silence stays safe.

use std::time::Duration;

use navarch_model::{EndCause, EventKind, InstanceId, Phase, Time};

use super::{Rig, yaml};
use crate::input::{Effect, Input};

/// How long each control plane lives, in seconds, and how long none does then.
const LIFE: (u64, u64) = (300, 20);
/// How often it looks, in seconds.
const STEP: u64 = 30;
const HOUR: u64 = 3600;

/// A configuration whose control plane looks only now and then without having been paused.
fn slow_yaml(min: usize, max: usize) -> String {
    yaml(min, max, "guards:\n  pause_gap: 40s\n")
}

/// One control plane lives, while `well` report that they are. No scheduler says that a node is
/// empty. Then it dies, with what it did not write down.
fn live(rig: &mut Rig, well: &[InstanceId]) {
    for _ in 0..LIFE.0 / STEP {
        rig.pass(STEP);
        for id in well {
            rig.full(id, 45);
        }
        rig.take(Input::Tick);
        rig.plan();
        rig.effects
            .retain(|effect| !matches!(effect, Effect::AskDrained { .. }));
        rig.answer();
    }
    rig.now.core = rig.fleet.state().meta.core_time;
    rig.now.wall = rig.now.wall + Duration::from_secs(LIFE.1);
    rig.start();
}

/// Control planes follow each other until `done`. Answers after how many seconds, on both clocks.
fn until(
    rig: &mut Rig,
    well: &[InstanceId],
    limit: u64,
    done: impl Fn(&Rig) -> bool,
) -> Option<(u64, u64)> {
    let from = rig.now;
    while rig.now.wall.since(from.wall) < Duration::from_secs(limit) {
        live(rig, well);
        if done(rig) {
            let since = |now: Time, from: Time| now.since(from).as_secs();
            return Some((
                since(rig.now.core, from.core),
                since(rig.now.wall, from.wall),
            ));
        }
    }
    None
}

#[test]
fn a_drain_ends_at_its_deadline_though_the_control_plane_restarts_every_five_minutes() {
    let mut rig = Rig::new(&slow_yaml(3, 3));
    let up = rig.up(3);
    // They are old enough to be let go.
    for _ in 0..4 {
        live(&mut rig, &up);
    }
    rig.configure(&slow_yaml(2, 2));
    rig.plan();
    assert_eq!(rig.count(EventKind::DrainStarted), 1);
    let leaving = |id: &&InstanceId| rig.node(id).our_drain().is_some();
    let id = up.iter().find(leaving).unwrap().clone();
    let settle = rig.fleet.settings().settle().as_secs();
    let ended = until(&mut rig, &up, 48 * HOUR, |rig| {
        rig.instance(&id).end.is_some()
    });
    let (core, wall) = ended.expect("it ends within two days");
    assert_eq!(rig.instance(&id).end, Some(EndCause::Shrink));
    assert!(
        (24 * HOUR..=24 * HOUR + settle + LIFE.0).contains(&core),
        "{core}"
    );
    // At most a minute of each life is not on record.
    let lives = core / (LIFE.0 - 60) + 1;
    assert!(wall <= core + lives * (60 + LIFE.1), "{wall}");
    let others = up.iter().filter(|other| **other != id);
    for other in others {
        assert_eq!(rig.instance(other).phase, Phase::Running);
    }
}

#[test]
fn a_machine_that_never_registers_is_given_up_though_the_control_plane_restarts_every_five_minutes()
{
    let text = slow_yaml(1, 2).replace("registration_timeout: 5m", "registration_timeout: 15m");
    let mut rig = Rig::new(&text);
    rig.run(10);
    let id = rig.of(Phase::PendingRegistration).remove(0);
    let ended = until(&mut rig, &[], 2 * HOUR, |rig| {
        rig.instance(&id).end.is_some()
    });
    let (core, _) = ended.expect("it is given up");
    assert!((840..=900 + LIFE.0).contains(&core), "{core}");
    assert_eq!(rig.instance(&id).end, Some(EndCause::NeverRegistered));
}

#[test]
fn an_agent_that_comes_back_after_a_pause_finds_its_machine() {
    let mut rig = Rig::new(&slow_yaml(1, 2));
    rig.run(10);
    let id = rig.of(Phase::PendingRegistration).remove(0);
    rig.pass(10 * HOUR);
    let settle = rig.fleet.settings().settle().as_secs();
    rig.run(settle - 1);
    assert_eq!(rig.instance(&id).phase, Phase::PendingRegistration);
    rig.register(&id);
    assert_eq!(rig.instance(&id).phase, Phase::Running);
}

#[test]
fn a_silent_half_of_a_fleet_is_kept_though_the_control_plane_restarts_every_five_minutes() {
    let mut rig = Rig::new(&slow_yaml(8, 10).replace("budget: 1\n", "budget: 10\n"));
    let up = rig.up(8);
    let (silent, well) = up.split_at(5);
    for id in silent {
        rig.pass(3);
        rig.silent(id);
    }
    let acted = until(&mut rig, well, 48 * HOUR, |rig| {
        rig.count(EventKind::DrainStarted) > 0 || rig.of(Phase::Running).len() < 8
    });
    assert_eq!(acted, None);
}

#[test]
fn one_silent_machine_is_replaced_though_the_control_plane_restarts_every_five_minutes() {
    let mut rig = Rig::new(&slow_yaml(8, 10));
    let up = rig.up(8);
    rig.silent(&up[0]);
    let replaced = until(&mut rig, &up[1..], 48 * HOUR, |rig| {
        rig.node(&up[0]).our_drain().is_some()
    });
    // `silence_replace_after` is 15 minutes.
    let (core, _) = replaced.expect("it is replaced");
    assert!((900 - 60..=900 + 2 * LIFE.0).contains(&core), "{core}");
}

#[test]
fn a_silence_lasts_only_while_somebody_listens_also_when_a_start_follows_a_pause() {
    for restarts in [false, true] {
        let mut rig = Rig::new(&slow_yaml(8, 10));
        let up = rig.up(8);
        rig.silent(&up[0]);
        rig.run(30);
        rig.pass(10 * HOUR);
        rig.take(Input::Tick);
        assert_eq!(rig.count(EventKind::Paused), 1);
        let back = rig.now.core;
        if restarts {
            live(&mut rig, &up[1..]);
        }
        while rig.node(&up[0]).our_drain().is_none() {
            assert!(rig.now.core.since(back) < Duration::from_secs(2 * HOUR));
            for id in &up[1..] {
                rig.full(id, 45);
            }
            rig.run(STEP);
        }
        let listened = rig.now.core.since(back).as_secs();
        assert!(
            (900..=900 + STEP).contains(&listened),
            "{listened} {restarts}"
        );
    }
}

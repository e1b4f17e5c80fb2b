//! A day of schedules, load and stock-outs in virtual time, with the whole story as a golden text.
//!
//! `UPDATE_GOLDEN=1` writes `day.txt` anew; read the difference before you keep it.

use std::fmt::Write as _;
use std::path::Path;

use navarch_model::{EventKind, NodeId, Phase, PoolName, ProviderError, ProviderErrorKind};

use super::{Rig, yaml};
use crate::input::{Effect, Input, Signals};

/// Minutes of a day.
const DAY: i64 = 24 * 60;
/// What the clock of a step adds.
const STEP: u64 = 60;

/// A pool for the day shift of Berlin, a queue at any time, and utilisation on top.
const POOL: &str = "    cooldown: {up: 2m, down: 10m}
    autoscaling:
      type: composite
      mode: max
      stabilization: {up: 0s, down: 10m}
      autoscalers:
        - type: scheduled
          timezone: Europe/Berlin
          schedule:
            - {days: [mon, tue, wed, thu, fri], start: '08:30', end: '18:00', min_nodes: 2}
            - {start: '22:00', end: '05:00', max_nodes: 1}
          fallback: {type: reactive}
        - {type: queue, jobs_per_node: 4, source: {http: {url: 'http://queue/depth'}}}
guards:
  pause_gap: 10m
";

/// Jobs that wait and run at a minute of the day, by the clock of UTC.
fn jobs(minute: i64) -> f64 {
    match minute {
        0..120 => 3.0,
        120..420 => 0.0,
        420..540 => 8.0,
        540..720 => 26.0,
        720..780 => 12.0,
        780..960 => 22.0,
        960..1020 => 9.0,
        1200..1230 => 60.0,
        _ => 0.0,
    }
}

/// How busy the machines together are, in machines.
fn load(minute: i64) -> f64 {
    match minute {
        0..420 => 0.2,
        420..540 => 1.8,
        540..1020 => 4.6,
        1020..1200 => 1.1,
        _ => 0.3,
    }
}

/// Whether the cloud has nothing to sell.
fn sold_out(minute: i64) -> bool {
    (536..560).contains(&minute) || (1200..1215).contains(&minute)
}

/// Whether the queue's source does not answer.
fn source_is_away(minute: i64) -> bool {
    (900..960).contains(&minute)
}

fn clock(minute: i64) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

fn signals(rig: &mut Rig, minute: i64) {
    let active: Vec<NodeId> = rig
        .fleet
        .state()
        .nodes
        .values()
        .map(|node| node.id.clone())
        .collect();
    let percent = (100.0 * load(minute) / active.len().max(1) as f64).min(100.0);
    let nodes = active
        .into_iter()
        .map(|id| (id, vec![percent; 2]))
        .collect();
    let settings = std::sync::Arc::clone(rig.fleet.settings());
    let pool = &settings.pools[&PoolName::new("main")];
    let autoscaling = pool.config.autoscaling.as_ref().expect("it has one");
    let answer = if source_is_away(minute) {
        Err("connection refused".to_owned())
    } else {
        Ok(jobs(minute))
    };
    let sources = autoscaling.autoscaler.sources().into_iter().cloned();
    let queues = sources.map(|source| (source, answer.clone())).collect();
    rig.take(Input::Signals(Signals { nodes, queues }));
}

/// The cloud answers; when it is sold out, launches fail.
fn answer(rig: &mut Rig, minute: i64) {
    if sold_out(minute) {
        let effects = std::mem::take(&mut rig.effects);
        for effect in effects {
            match effect {
                Effect::Launch { key, .. } => {
                    rig.take(Input::LaunchResult {
                        key,
                        result: Err(ProviderError::new(ProviderErrorKind::Capacity, "sold out")),
                    });
                }
                other => rig.effects.push(other),
            }
        }
    }
    rig.answer();
}

#[test]
fn a_day_of_schedules_load_and_stock_outs() {
    let text = yaml(0, 8, POOL).replace("health_check_interval: 30s", "health_check_interval: 5m");
    let mut rig = Rig::new(&text);
    // The rig begins on 2026-01-01, a Thursday, at midnight of UTC.
    let (mut told, mut last_event, mut shown) = (String::new(), 0, String::new());
    let mut unmet = 0;
    for minute in 0..DAY {
        rig.pass(STEP);
        rig.take(Input::Tick);
        if minute % 4 == 0 {
            for id in rig.of(Phase::Running) {
                rig.full(&id, 45);
            }
        }
        signals(&mut rig, minute);
        // Plans, calls and their answers of one minute.
        for _ in 0..8 {
            let done = rig.plan().is_empty();
            answer(&mut rig, minute);
            for id in rig.of(Phase::PendingRegistration) {
                rig.register(&id);
                rig.full(&id, 45);
            }
            if done {
                break;
            }
        }
        for (sequence, event) in rig.events.range(last_event + 1..) {
            let kinds = [
                EventKind::PoolResized,
                EventKind::ProviderError,
                EventKind::GuardBlocked,
            ];
            if kinds.contains(&event.kind) {
                let _ = writeln!(
                    told,
                    "{} {}: {}",
                    clock(minute),
                    event.kind.word(),
                    event.message
                );
            }
            last_event = *sequence;
        }
        let pool = &rig.report.pools[&PoolName::new("main")];
        let state = format!("{} asked for, {} ACTIVE", pool.target, pool.active);
        if state != shown {
            let _ = writeln!(told, "{} -- {state}", clock(minute));
            shown = state;
        }
        assert!(pool.alive <= 8 + 1, "max_nodes and max_surge");
        unmet += usize::from(pool.active < pool.target);
    }
    let _ = writeln!(told, "{unmet} minutes with fewer ACTIVE than asked for");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/day.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &told).expect("the file can be written");
    }
    let golden = std::fs::read_to_string(&path).expect("the golden story");
    for (line, (told, golden)) in told.lines().zip(golden.lines()).enumerate() {
        assert_eq!(told, golden, "line {} of day.txt", line + 1);
    }
    assert_eq!(told.lines().count(), golden.lines().count());
}

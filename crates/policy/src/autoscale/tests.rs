//! Every autoscaler as a table written by hand, and what limits it.

use std::time::Duration;

use navarch_config::{Autoscaler, Mode, Paces, Question, Source, Steps, Url};
use navarch_model::Time;
use proptest::prelude::*;

use super::{
    Decision, Facts, Pace, Past, Recent, Recommendation, Sample, Wish, decide, recommend, trend,
};

const SECOND: i64 = 1_000_000;

fn at(seconds: i64) -> Time {
    Time(seconds * SECOND)
}

fn source(url: &str) -> Source {
    Source {
        question: Question::Http {
            url: Url::new(url.to_owned()),
            pointer: "/depth".to_owned(),
        },
        headers: std::collections::BTreeMap::new(),
        timeout: Duration::from_secs(5),
    }
}

/// A pool of `current` machines that all serve.
fn facts(current: u32, bounds: (u32, u32)) -> Facts<'static> {
    Facts {
        current,
        serving: current,
        coming: 0,
        bounds,
        utilization: None,
        history: &[],
        queues: &[],
        wall: Time(0),
    }
}

fn busy(current: u32, bounds: (u32, u32), percent: f64) -> Facts<'static> {
    Facts {
        utilization: Some(percent),
        ..facts(current, bounds)
    }
}

const fn reactive(up: u32, down: u32) -> Autoscaler {
    Autoscaler::Reactive {
        scale_up_at: up,
        scale_down_at: down,
    }
}

fn queue(jobs: u32) -> Autoscaler {
    Autoscaler::Queue {
        jobs_per_node: jobs,
        source: Some(source("http://queue")),
    }
}

fn ask(autoscaler: &Autoscaler, facts: &Facts<'_>) -> Recommendation {
    recommend(autoscaler, Steps::default(), facts)
}

/// A pool without waits.
const AT_ONCE: Pace = Pace {
    cooldown: Paces {
        up: Duration::ZERO,
        down: Duration::ZERO,
    },
    stabilization: Paces {
        up: Duration::ZERO,
        down: Duration::ZERO,
    },
    step: Steps {
        up: None,
        down: None,
    },
};

/// The size that a pool without waits would have.
fn size(autoscaler: &Autoscaler, facts: &Facts<'_>) -> u32 {
    let told = ask(autoscaler, facts);
    let recent = Recent::default();
    let past = Past {
        raised: None,
        lowered: None,
        chosen: None,
        recent: &recent,
    };
    match decide(facts.current, &told, &AT_ONCE, &past, at(0)) {
        Decision::Resize { to, .. } => to,
        Decision::Stay | Decision::Held(_) => facts.current,
    }
}

#[test]
fn reactive_follows_the_table() {
    let cases: &[(_, u32, _, f64, u32)] = &[
        ("scale up when utilization is high", 5, (1, 10), 90.0, 6),
        ("scale down when utilization is low", 5, (1, 10), 10.0, 4),
        ("no change in the normal range", 5, (1, 10), 50.0, 5),
        ("respect the most", 10, (1, 10), 90.0, 10),
        ("respect the fewest", 1, (1, 10), 10.0, 1),
        ("at the threshold, no scale up", 5, (1, 10), 80.0, 5),
        ("at the threshold, no scale down", 5, (1, 10), 20.0, 5),
        ("below the fewest, at once", 1, (4, 10), 50.0, 4),
        ("above the most, at once", 12, (1, 10), 50.0, 10),
        ("the last machine stays", 1, (0, 10), 0.0, 1),
        ("idle", 3, (0, 10), 0.0, 2),
        ("no number", 5, (1, 10), f64::NAN, 5),
        ("no number either", 5, (1, 10), f64::INFINITY, 5),
        ("nonsense", 5, (1, 10), -3.0, 5),
    ];
    for (name, current, bounds, percent, wanted) in cases {
        let facts = busy(*current, *bounds, *percent);
        assert_eq!(size(&reactive(80, 20), &facts), *wanted, "{name}");
    }
}

#[test]
fn reactive_does_not_grow_for_what_machines_on_their_way_will_do() {
    let cases = [
        // serving, coming, percent, wanted
        (4, 0, 90.0, Wish::Size(5)),
        (4, 1, 90.0, Wish::Size(5)),
        (9, 1, 90.0, Wish::Size(11)),
    ];
    for (serving, coming, percent, wanted) in cases {
        let facts = Facts {
            serving,
            coming,
            ..busy(serving + coming, (0, 50), percent)
        };
        let told = ask(&reactive(80, 20), &facts);
        assert_eq!(told.wish, wanted, "{told:?}");
    }
}

#[test]
fn reactive_keeps_a_machine_whose_end_would_bring_it_back() {
    // 3 machines at 55 % are 82.5 % for 2.
    let told = ask(&reactive(80, 60), &busy(3, (1, 9), 55.0));
    assert_eq!(told.wish, Wish::Size(3));
    assert_eq!(
        told.reason,
        "utilization 55.0 % is below 60 %, and would be about 82.5 % with one machine less"
    );
    // A step of three takes what can be taken.
    let step = Steps {
        up: Some(4),
        down: Some(3),
    };
    let told = recommend(&reactive(80, 60), step, &busy(10, (1, 99), 57.0));
    assert_eq!(
        told.wish,
        Wish::Size(8),
        "57 % of 10 are 71 % of 8 and 81 % of 7"
    );
    let told = recommend(&reactive(80, 60), step, &busy(10, (1, 99), 90.0));
    assert_eq!(told.wish, Wish::Size(14));
}

#[test]
fn the_last_machine_is_for_others_to_take() {
    let idle = busy(1, (0, 10), 0.0);
    assert_eq!(ask(&reactive(80, 20), &idle).wish, Wish::AtMost(1));
    let queues = [(source("http://queue"), Ok(0.0))];
    let facts = Facts {
        queues: &queues,
        ..idle
    };
    let both = composite(Mode::Max, vec![reactive(80, 20), queue(10)]);
    assert_eq!(size(&both, &facts), 0);
}

#[test]
fn what_is_not_known_is_unknown_and_never_zero() {
    let told = ask(&reactive(80, 20), &facts(5, (1, 10)));
    assert_eq!(told.wish, Wish::Unknown);
    assert_eq!(
        told.reason,
        "the utilization is unknown: no ACTIVE machine reports any"
    );
    assert_eq!(size(&reactive(80, 20), &facts(5, (1, 10))), 5);
    // The bounds hold all the same.
    assert_eq!(size(&reactive(80, 20), &facts(5, (7, 10))), 7);
}

#[test]
fn queues_follow_the_table() {
    let cases: &[(_, u32, _, Result<f64, &str>, u32, u32)] = &[
        ("scale up for the queue", 2, (1, 10), Ok(50.0), 10, 5),
        ("scale down for an empty queue", 5, (1, 10), Ok(0.0), 10, 1),
        ("respect the fewest", 5, (3, 10), Ok(0.0), 10, 3),
        ("respect the most", 5, (1, 10), Ok(500.0), 10, 10),
        ("no jobs per node", 5, (1, 10), Ok(50.0), 0, 5),
        (
            "a part of a machine is a machine",
            1,
            (1, 10),
            Ok(21.0),
            10,
            3,
        ),
        ("to zero", 5, (0, 10), Ok(0.0), 10, 0),
        ("and back", 0, (0, 10), Ok(1.0), 10, 1),
        ("text", 5, (0, 10), Err("it answers text"), 10, 5),
        ("no number", 5, (0, 10), Ok(f64::NAN), 10, 5),
        ("endless", 5, (0, 10), Ok(f64::INFINITY), 10, 5),
        ("below nothing", 5, (0, 10), Ok(-1.0), 10, 5),
        ("more than fits", 5, (0, 10), Ok(1e300), 1, 10),
    ];
    for (name, current, bounds, depth, jobs, wanted) in cases {
        let queues = [(source("http://queue"), depth.map_err(str::to_owned))];
        let facts = Facts {
            queues: &queues,
            ..facts(*current, *bounds)
        };
        assert_eq!(size(&queue(*jobs), &facts), *wanted, "{name}");
    }
}

#[test]
fn a_queue_says_why_it_does_not_know() {
    let queues = [
        (source("http://queue"), Err("connection refused".to_owned())),
        (source("http://other"), Ok(50.0)),
    ];
    let known = Facts {
        queues: &queues,
        ..facts(2, (0, 10))
    };
    let told = ask(&queue(10), &known);
    assert_eq!(told.wish, Wish::Unknown);
    let why = "the queue is unknown: http://queue: connection refused";
    assert_eq!(told.reason, why);
    let told = ask(&queue(10), &facts(2, (0, 10)));
    assert_eq!(
        told.reason,
        "the queue is unknown: http://queue was not asked yet"
    );
    let none = Autoscaler::Queue {
        jobs_per_node: 1,
        source: None,
    };
    assert_eq!(ask(&none, &known).wish, Wish::Unknown);
}

fn history(percents: &[f64]) -> Vec<Sample> {
    let sample = |(index, percent): (usize, &f64)| Sample {
        at: at(30 * index as i64),
        percent: *percent,
    };
    percents.iter().enumerate().map(sample).collect()
}

fn predictive(lookback: u32, fallback: Option<Autoscaler>) -> Autoscaler {
    Autoscaler::Predictive {
        lookback_window: lookback,
        growth_factor: 1.2,
        scale_up_at: 80,
        target_utilization: 70,
        fallback: fallback.map(Box::new),
    }
}

#[test]
fn predictive_follows_the_table() {
    let rising = [50.0, 55.0, 60.0, 65.0, 70.0];
    let noise = [70.0, 30.0, 75.0, 28.0, 72.0];
    let cases: &[(_, &[f64], _, bool, u32)] = &[
        (
            "insufficient history with fallback",
            &[90.0; 3],
            (1, 20),
            true,
            6,
        ),
        (
            "insufficient history without fallback",
            &[90.0; 3],
            (1, 20),
            false,
            5,
        ),
        // 70 + 20 * 1.2 = 94; 5 * 94 / 70 = 6.7.
        ("rising trend", &rising, (1, 20), false, 7),
        (
            "respect the most on a prediction",
            &rising,
            (1, 6),
            false,
            6,
        ),
        (
            "stable trend uses the fallback",
            &[90.0; 5],
            (1, 20),
            true,
            6,
        ),
        (
            "stable trend without fallback",
            &[90.0; 5],
            (1, 20),
            false,
            5,
        ),
        ("noise uses the fallback", &noise, (1, 20), true, 5),
        (
            "falling",
            &[90.0, 85.0, 83.0, 82.0, 81.0],
            (1, 20),
            false,
            5,
        ),
        (
            "no number",
            &[50.0, f64::NAN, 60.0, 65.0, 70.0],
            (1, 20),
            false,
            5,
        ),
    ];
    for (name, percents, bounds, falls_back, wanted) in cases {
        let samples = history(percents);
        let facts = Facts {
            history: &samples,
            ..busy(5, *bounds, *percents.last().unwrap())
        };
        let fallback = falls_back.then(|| reactive(80, 20));
        assert_eq!(size(&predictive(5, fallback), &facts), *wanted, "{name}");
    }
    let samples = history(&rising);
    let facts = Facts {
        history: &samples,
        ..busy(5, (1, 20), 70.0)
    };
    assert_eq!(
        ask(&predictive(5, None), &facts).reason,
        "utilization 70.0 % rises by 20.0 to 94.0 %, above 80 %: 7 machines bring it to 70 %"
    );
}

#[test]
fn a_trend_is_the_line_of_least_squares() {
    let line = trend(&history(&[10.0, 20.0, 30.0, 40.0])).unwrap();
    assert!(
        (line.rise - 30.0).abs() < 1e-9 && (line.fit - 1.0).abs() < 1e-9,
        "{line:?}"
    );
    // One that goes astray at the end does not turn the line over, as last minus first would.
    let line = trend(&history(&[10.0, 20.0, 30.0, 40.0, 50.0, 9.0])).unwrap();
    assert!(line.rise > 0.0 && line.fit < 0.5, "{line:?}");
    assert_eq!(trend(&[]), None);
    assert_eq!(trend(&history(&[5.0])), None);
    let same = [
        Sample {
            at: at(1),
            percent: 1.0,
        },
        Sample {
            at: at(1),
            percent: 9.0,
        },
    ];
    assert_eq!(trend(&same), None, "one moment");
}

fn composite(mode: Mode, autoscalers: Vec<Autoscaler>) -> Autoscaler {
    Autoscaler::Composite { mode, autoscalers }
}

#[test]
fn composites_follow_the_table() {
    // The queue says 8, utilisation says 6.
    let both = || vec![queue(10), reactive(80, 20)];
    let known = [(source("http://queue"), Ok(75.0))];
    let failed = [(source("http://queue"), Err("away".to_owned()))];
    let cases: &[(_, Mode, Vec<_>, bool, f64, u32)] = &[
        ("max takes the highest", Mode::Max, both(), true, 90.0, 8),
        ("min takes the lowest", Mode::Min, both(), true, 90.0, 6),
        ("avg is the mean", Mode::Avg, both(), true, 90.0, 7),
        ("of none, the size stays", Mode::Max, vec![], true, 90.0, 5),
        (
            "of one, it is that",
            Mode::Avg,
            vec![queue(10)],
            true,
            90.0,
            8,
        ),
        (
            "a size that is right for utilization holds the queue",
            Mode::Min,
            both(),
            true,
            50.0,
            5,
        ),
        (
            "max may grow without what it does not know",
            Mode::Max,
            both(),
            false,
            90.0,
            6,
        ),
        ("and does not shrink", Mode::Max, both(), false, 5.0, 5),
        (
            "min may shrink without it",
            Mode::Min,
            both(),
            false,
            5.0,
            4,
        ),
        ("and does not grow", Mode::Min, both(), false, 90.0, 5),
        ("avg holds", Mode::Avg, both(), false, 90.0, 5),
    ];
    for (name, mode, autoscalers, answers, percent, wanted) in cases {
        let facts = Facts {
            queues: if *answers { &known } else { &failed },
            ..busy(5, (1, 10), *percent)
        };
        let autoscaler = composite(*mode, autoscalers.clone());
        assert_eq!(size(&autoscaler, &facts), *wanted, "{name}");
    }
    let facts = Facts {
        queues: &failed,
        ..busy(5, (1, 10), 90.0)
    };
    let told = ask(&composite(Mode::Max, both()), &facts);
    assert_eq!(
        told.reason,
        "max of queue does not know (the queue is unknown: http://queue: away), reactive says 6 \
         (utilization 90.0 % is above 80 %)"
    );
}

/// A recommendation of a size.
fn wish(size: u32, bounds: (u32, u32)) -> Recommendation {
    Recommendation {
        wish: Wish::Size(size),
        reason: "as told".to_owned(),
        bounds,
        inputs: std::collections::BTreeMap::new(),
    }
}

const fn seconds(up: u64, down: u64) -> Paces {
    Paces {
        up: Duration::from_secs(up),
        down: Duration::from_secs(down),
    }
}

#[test]
fn cooldowns_hold_growth_after_growth_and_shrinking_after_both() {
    let pace = Pace {
        cooldown: seconds(60, 300),
        ..AT_ONCE
    };
    let recent = Recent::default();
    // raised, lowered, wanted, now, decided
    let cases = [
        (None, None, 8, 0, Ok(8)),
        (Some(0), None, 8, 59, Err("cooldown")),
        (Some(0), None, 8, 60, Ok(8)),
        (None, Some(0), 8, 1, Ok(8)),
        (Some(0), None, 2, 299, Err("cooldown")),
        (None, Some(0), 2, 299, Err("cooldown")),
        (Some(0), Some(100), 2, 399, Err("cooldown")),
        (Some(0), Some(100), 2, 400, Ok(2)),
        (Some(0), Some(0), 5, 1, Ok(5)),
    ];
    for (raised, lowered, wanted, now, decided) in cases {
        let past = Past {
            raised: raised.map(at),
            lowered: lowered.map(at),
            chosen: None,
            recent: &recent,
        };
        let found = match decide(5, &wish(wanted, (0, 10)), &pace, &past, at(now)) {
            Decision::Resize { to, .. } => Ok(to),
            Decision::Stay => Ok(5),
            Decision::Held(block) => Err(block.guard),
        };
        assert_eq!(found, decided, "{raised:?} {lowered:?} {wanted} {now}");
    }
    let past = Past {
        raised: Some(at(0)),
        lowered: None,
        chosen: None,
        recent: &recent,
    };
    let Decision::Held(block) = decide(5, &wish(8, (0, 10)), &pace, &past, at(20)) else {
        panic!("it is held")
    };
    assert_eq!(
        block.reason,
        "the size rose 20 s ago, and 60 s have to pass"
    );
    assert_eq!(block.until, Some(at(60)));
    // Bounds do not wait.
    let told = wish(8, (6, 10));
    let Decision::Resize { to: 6, rest } = decide(5, &told, &pace, &past, at(20)) else {
        panic!("the least of the window counts at once")
    };
    assert_eq!(rest.map(|block| block.guard), Some("cooldown"));
}

#[test]
fn bounds_move_what_an_operator_chose_only_after_its_cooldown() {
    let pace = Pace {
        cooldown: seconds(60, 300),
        ..AT_ONCE
    };
    let recent = Recent::default();
    let past = Past {
        raised: Some(at(0)),
        lowered: Some(at(0)),
        chosen: Some(at(0)),
        recent: &recent,
    };
    for (bounds, over, to) in [((8, 10), 60, 8), ((0, 2), 300, 2)] {
        let told = wish(to, bounds);
        let held = decide(5, &told, &pace, &past, at(over - 1));
        let Decision::Held(block) = held else {
            panic!("{held:?}")
        };
        assert_eq!((block.cause, block.until), ("chosen", Some(at(over))));
        let moved = decide(5, &told, &pace, &past, at(over));
        assert_eq!(moved, Decision::Resize { to, rest: None });
    }
}

#[test]
fn steps_limit_one_decision() {
    let pace = Pace {
        step: Steps {
            up: Some(2),
            down: Some(1),
        },
        ..AT_ONCE
    };
    let recent = Recent::default();
    let past = Past {
        raised: None,
        lowered: None,
        chosen: None,
        recent: &recent,
    };
    for (wanted, bounds, decided) in [
        (9, (0, 10), 7),
        (6, (0, 10), 6),
        (0, (0, 10), 4),
        (9, (8, 10), 9),
        (0, (0, 2), 1),
    ] {
        let found = decide(5, &wish(wanted, bounds), &pace, &past, at(0));
        let Decision::Resize { to, .. } = found else {
            panic!("{found:?}")
        };
        assert_eq!(to, decided, "{wanted} {bounds:?}");
    }
}

#[test]
fn a_size_falls_only_to_what_was_recommended_all_through_the_window() {
    let window = seconds(0, 300);
    let pace = Pace {
        stabilization: window,
        ..AT_ONCE
    };
    let mut recent = Recent::default();
    let mut told = Vec::new();
    // It calls for 8 until 60 s, for 3 from then on, once for 4 at 210 s.
    for second in (0..=540).step_by(30) {
        let size = match second {
            0..=60 => 8,
            210 => 4,
            _ => 3,
        };
        recent.push(size, at(second), window);
        let past = Past {
            raised: None,
            lowered: None,
            chosen: None,
            recent: &recent,
        };
        let decided = match decide(8, &wish(size, (0, 10)), &pace, &past, at(second)) {
            Decision::Resize { to, .. } => format!("{to}"),
            Decision::Stay => "stay".to_owned(),
            Decision::Held(block) => format!("held until {} s", block.until.unwrap().0 / SECOND),
        };
        if told.last().is_none_or(|(_, before)| *before != decided) {
            told.push((second, decided));
        }
    }
    let shown: Vec<_> = told
        .iter()
        .map(|(second, decided)| format!("{second}: {decided}"))
        .collect();
    assert_eq!(
        shown,
        [
            "0: stay",
            "90: held until 300 s",
            "300: held until 360 s",
            "360: 4",
            "510: 3"
        ]
    );
}

#[test]
fn a_size_rises_only_to_what_was_recommended_all_through_the_window() {
    let window = seconds(60, 0);
    let pace = Pace {
        stabilization: window,
        ..AT_ONCE
    };
    let mut recent = Recent::default();
    let decided = |recent: &Recent, size: u32, now: i64| {
        let past = Past {
            raised: None,
            lowered: None,
            chosen: None,
            recent,
        };
        match decide(2, &wish(size, (0, 10)), &pace, &past, at(now)) {
            Decision::Resize { to, .. } => Some(to),
            _ => None,
        }
    };
    for (second, size, wanted) in [
        (0, 2, None),
        (30, 9, None),
        (60, 5, Some(5)),
        (90, 9, Some(5)),
        (120, 9, Some(9)),
    ] {
        recent.push(size, at(second), window);
        assert_eq!(decided(&recent, size, second), wanted, "{second}");
    }
}

fn any_depth() -> impl Strategy<Value = Result<f64, String>> {
    prop_oneof![
        any::<f64>().prop_map(Ok),
        (0.0..2000.0).prop_map(Ok),
        Just(Err("away".to_owned()))
    ]
}

fn any_autoscaler() -> impl Strategy<Value = Autoscaler> {
    let leaf = prop_oneof![
        (1_u32..100, 0_u32..100).prop_map(|(up, down)| reactive(up.max(down), down.min(up))),
        (0_u32..40).prop_map(queue),
        (0_u32..12).prop_map(|lookback| predictive(lookback, None)),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            (
                prop::sample::select(&Mode::ALL[..]),
                prop::collection::vec(inner.clone(), 0..3)
            )
                .prop_map(|(mode, all)| composite(mode, all)),
            inner.prop_map(|one| predictive(4, Some(one))),
        ]
    })
}

proptest! {
    /// Whatever is reported, a size stays within its bounds, and what is no number moves nothing.
    #[test]
    fn sizes_stay_within_bounds(
        autoscaler in any_autoscaler(),
        percent in prop::option::of(any::<f64>()),
        percents in prop::collection::vec(any::<f64>(), 0..12),
        depth in any_depth(),
        current in 0_u32..50,
        (min, more) in (0_u32..20, 0_u32..20),
        coming in 0_u32..10,
    ) {
        let samples = history(&percents);
        let queues = [(source("http://queue"), depth.clone())];
        let facts = Facts {
            serving: current,
            coming,
            utilization: percent,
            history: &samples,
            queues: &queues,
            ..facts(current, (min, min + more))
        };
        let found = size(&autoscaler, &facts);
        prop_assert!((min..=min + more).contains(&found));
        let strange = |number: f64| !number.is_finite();
        let nothing = percent.is_none_or(strange) && depth.is_err_and(|_| true);
        if nothing && (min..=min + more).contains(&current) {
            prop_assert_eq!(found, current);
        }
    }

    /// A load that does not change moves a size in one direction, and then no more.
    #[test]
    fn a_constant_load_never_swings(
        load in 0.0..5000.0_f64,
        depth in 0.0..500.0_f64,
        (up, down) in (2_u32..=100).prop_flat_map(|up| (Just(up), 0..up)),
        mode in prop::sample::select(&[Mode::Max, Mode::Min][..]),
        first in 0_u32..40,
        step in 1_u32..5,
        which in 0..3,
    ) {
        let autoscaler = match which {
            0 => reactive(up, down),
            1 => queue(7),
            _ => composite(mode, vec![reactive(up, down), queue(7)]),
        };
        let pace = Pace {
            cooldown: seconds(30, 60),
            stabilization: seconds(0, 120),
            step: Steps { up: Some(step), down: Some(step) },
        };
        let queues = [(source("http://queue"), Ok(depth))];
        let (mut current, mut recent) = (first, Recent::default());
        let (mut raised, mut lowered) = (None, None);
        let mut moves = Vec::new();
        for tick in 0..2000 {
            let now = at(30 * tick);
            let percent = (load / f64::from(current)).min(100.0);
            let facts = Facts {
                utilization: (current > 0).then_some(percent),
                queues: &queues,
                ..facts(current, (0, 40))
            };
            let told = recommend(&autoscaler, pace.step, &facts);
            recent.push(told.size(current), now, pace.stabilization);
            let past = Past { raised, lowered, chosen: None, recent: &recent };
            if let Decision::Resize { to, .. } = decide(current, &told, &pace, &past, now) {
                moves.push(to.cmp(&current));
                let mark = if to > current { &mut raised } else { &mut lowered };
                *mark = Some(now);
                current = to;
            }
            prop_assert!(recent.entries() <= 2 * 41);
        }
        let turns = moves.windows(2).filter(|pair| pair[0] != pair[1]).count();
        // Starting idle and unknown, one turn: what was too small or too large is corrected once.
        prop_assert!(turns <= 1, "{:?}", moves);
    }

    /// Signals that do not change move a size in one direction, whatever is made of them.
    #[test]
    fn a_constant_signal_never_swings(
        autoscaler in any_autoscaler(),
        percent in prop::option::of(0.0..100.0_f64),
        depth in any_depth(),
        first in 0_u32..40,
    ) {
        let queues = [(source("http://queue"), depth)];
        let (mut current, recent) = (first, Recent::default());
        let mut moves = Vec::new();
        for tick in 0..200 {
            let facts = Facts {
                utilization: percent,
                queues: &queues,
                ..facts(current, (0, 40))
            };
            let told = ask(&autoscaler, &facts);
            let past = Past { raised: None, lowered: None, chosen: None, recent: &recent };
            if let Decision::Resize { to, .. } = decide(current, &told, &AT_ONCE, &past, at(tick)) {
                moves.push(to.cmp(&current));
                current = to;
            }
        }
        let turns = moves.windows(2).filter(|pair| pair[0] != pair[1]).count();
        prop_assert!(turns == 0 && moves.len() < 100, "{:?}", moves);
    }
}

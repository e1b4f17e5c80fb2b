//! Random numbers, jitter and back-off.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use navarch_time::{Backoff, OsRng, Rng, SeededRng};
use proptest::prelude::*;

use crate::support::{ms, s};

/// Gives the numbers it was given.
struct Script(VecDeque<u64>);

impl Rng for Script {
    fn next_u64(&mut self) -> u64 {
        self.0.pop_front().expect("the script is long enough")
    }
}

fn script(numbers: &[u64]) -> Script {
    Script(numbers.iter().copied().collect())
}

/// These never change: recorded seeds and traces depend on them.
#[test]
fn named_streams_give_the_recorded_numbers() {
    let draw = |mut rng: SeededRng| [(); 3].map(|()| rng.next_u64());
    let cases = [
        ("empty", SeededRng::named(0, "")),
        ("0 chaos", SeededRng::named(0, "chaos")),
        ("1 chaos", SeededRng::named(1, "chaos")),
        (
            "1 a long name",
            SeededRng::named(1, "a long name, over 8 bytes"),
        ),
        ("1 chaos/node", SeededRng::named(1, "chaos").child("node")),
    ];
    let lines: Vec<String> = cases
        .into_iter()
        .map(|(name, rng)| format!("{name}: {:016x?}", draw(rng)))
        .collect();
    assert_eq!(lines.join("\n"), GOLDEN_STREAMS);
}

const GOLDEN_STREAMS: &str = "\
empty: [9c45a7531f52ab2d, 59d3a82c1b24cb01, c5e7692cf942a572]
0 chaos: [5badff324a25772e, 7710c5ba2c2cae26, 7993ee87b99def29]
1 chaos: [8ddb3629d75a1039, d8ada71171aac22c, 7a424517543bde12]
1 a long name: [5b2a050bc03b318e, 25daa4dd919cad0c, fab14d3c9bd1d74e]
1 chaos/node: [a35e3d371fe61a15, b7fd792b14a0194b, 25bbe4c1303282dc]";

#[test]
fn helpers_give_the_recorded_answers() {
    let mut rng = SeededRng::named(42, "helpers");
    let mut bytes = [0; 11];
    rng.fill(&mut bytes);
    let line = format!(
        "{:?} {} {:?} {} {:?} {bytes:02x?}",
        rng.unit(),
        rng.below(1_000_000),
        rng.index(7),
        rng.chance(0.5),
        rng.jitter(s(10), 0.25),
    );
    assert_eq!(line, GOLDEN_HELPERS);
}

const GOLDEN_HELPERS: &str = "0.3797013477185315 87139 Some(6) false 8.202319577s [70, 91, 02, 54, 31, 57, 2b, a6, 6b, cd, a3]";

#[test]
fn streams_are_their_own() {
    let mut names: Vec<String> = (0..2_000).map(|n| format!("node/{n}")).collect();
    names.extend(
        [
            "",
            "\0",
            "\0\0",
            "a",
            "a\0",
            "b",
            "ab",
            "12345678",
            "12345678\0",
        ]
        .map(String::from),
    );
    let mut first = BTreeSet::new();
    for seed in [0, 1, u64::MAX] {
        for name in &names {
            assert!(
                first.insert(SeededRng::named(seed, name).next_u64()),
                "{seed} {name:?}"
            );
        }
    }
    let parent = SeededRng::named(1, "a");
    assert!(
        first.insert(parent.child("b").next_u64()),
        "a path is not its concatenation"
    );

    let mut drawn = parent.clone();
    drawn.next_u64();
    assert_eq!(
        drawn.child("b").next_u64(),
        parent.child("b").next_u64(),
        "drawing from a stream does not change its children"
    );
}

#[test]
fn neighbouring_streams_do_not_resemble_each_other() {
    // Each of 64 bits differs in about half of the pairs: 2048 ± 5 sigma.
    let mut differs = [0_u32; 64];
    for n in 0..4_096 {
        let left = SeededRng::named(n, "x").next_u64();
        let right = SeededRng::named(n + 1, "x").next_u64();
        for (bit, count) in differs.iter_mut().enumerate() {
            *count += ((left ^ right) >> bit & 1) as u32;
        }
    }
    assert!(
        differs.iter().all(|count| (1_888..=2_208).contains(count)),
        "{differs:?}"
    );
}

#[test]
fn below_draws_again_where_an_answer_would_be_likelier() {
    // 2^64 = 6148914691236517205 × 3 + 1: of all numbers, only 0 is left over.
    assert_eq!(script(&[0, u64::MAX]).below(3), 2);
    assert_eq!(script(&[1]).below(3), 0);
    // Above half of all numbers nearly every second is left over.
    let n = (1 << 63) + 1;
    assert_eq!(script(&[0, 2, 3]).below(n), 1);
    assert_eq!(script(&[u64::MAX]).below(u64::MAX), u64::MAX - 1);
    assert_eq!(script(&[123]).below(1), 0);
}

#[test]
fn below_is_even() {
    let mut rng = SeededRng::named(9, "below");
    let mut counts = [0_u32; 7];
    for _ in 0..70_000 {
        counts[rng.below(7) as usize] += 1;
    }
    // 10,000 ± 5 sigma.
    assert!(
        counts.iter().all(|count| (9_537..=10_463).contains(count)),
        "{counts:?}"
    );
}

#[test]
#[should_panic(expected = "no number below 0")]
fn below_zero_is_refused() {
    OsRng.below(0);
}

#[test]
fn units_stay_below_one() {
    assert_eq!(script(&[0]).unit(), 0.0);
    assert_eq!(script(&[u64::MAX]).unit(), 1.0 - f64::EPSILON / 2.0);
    assert_eq!(script(&[1 << 63]).unit(), 0.5);
    assert_eq!(OsRng.index(0), None);
    for (probability, expected) in [(0.0, false), (f64::NAN, false), (-1.0, false), (1.0, true)] {
        assert_eq!(OsRng.chance(probability), expected, "{probability}");
    }
}

#[test]
fn the_system_repeats_nothing() {
    let drawn: BTreeSet<u64> = (0..1_000).map(|_| OsRng.next_u64()).collect();
    assert_eq!(drawn.len(), 1_000);
}

#[test]
fn a_random_source_can_be_borrowed_and_boxed() {
    let mut rng = SeededRng::named(3, "x");
    let mut copy = rng.clone();
    let mut boxed: Box<dyn Rng> = Box::new(&mut rng);
    assert_eq!(boxed.below(1_000), copy.below(1_000));
}

#[test]
fn delays_double_up_to_the_cap() {
    let backoff = Backoff {
        initial: ms(500),
        max: s(4),
        multiplier: 2.0,
        jitter: 0.0,
    };
    let delays = [0, 1, 2, 3, 4, 1_000, u32::MAX].map(|attempt| backoff.delay(attempt, &mut OsRng));
    assert_eq!(delays, [ms(500), s(1), s(2), s(4), s(4), s(4), s(4)]);
}

#[test]
fn jitter_spreads_a_delay_and_never_beyond_the_cap() {
    let backoff = Backoff {
        initial: s(1),
        max: s(4),
        multiplier: 2.0,
        jitter: 0.5,
    };
    let cases = [
        (0, 0, ms(500)),
        (0, 1 << 63, s(1)),
        (1, 0, s(1)),
        (1, 1 << 63, s(2)),
        (2, 0, s(2)),
        (2, 1 << 63, s(3)),
        (9, 1 << 63, s(3)),
    ];
    for (attempt, drawn, expected) in cases {
        assert_eq!(
            backoff.delay(attempt, &mut script(&[drawn])),
            expected,
            "{attempt} {drawn}"
        );
    }
    let mut rng = SeededRng::named(1, "cap");
    let at_cap: BTreeSet<_> = (0..100).map(|_| backoff.delay(9, &mut rng)).collect();
    assert!(at_cap.len() > 90, "callers at the cap do not meet there");
}

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (any::<u64>(), 0_u32..1_000_000_000).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
        (0_u64..100_000).prop_map(Duration::from_millis),
        Just(Duration::ZERO),
        Just(Duration::MAX),
    ]
}

fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), 0.0..4.0, Just(f64::NAN), Just(f64::INFINITY)]
}

proptest! {
    #[test]
    fn jitter_stays_within_its_fraction(
        duration in any_duration(),
        fraction in any_number(),
        seed in any::<u64>(),
    ) {
        let jittered = SeededRng::named(seed, "jitter").jitter(duration, fraction);
        let spread = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        let off = jittered.abs_diff(duration).as_secs_f64();
        let allowed = duration.as_secs_f64() * spread * (1.0 + 1e-9) + 1e-9;
        prop_assert!(off <= allowed, "{duration:?} {jittered:?}");
    }

    #[test]
    fn no_setting_breaks_a_backoff(
        initial in any_duration(),
        max in any_duration(),
        multiplier in any_number(),
        jitter in any_number(),
        attempt in any::<u32>(),
        seed in any::<u64>(),
    ) {
        let backoff = Backoff { initial, max, multiplier, jitter };
        let delay = backoff.delay(attempt, &mut SeededRng::named(seed, "backoff"));
        prop_assert!(delay <= max);
        if jitter.is_nan() || jitter <= 0.0 {
            let shortest = initial.min(max);
            prop_assert!(delay.as_secs_f64() >= shortest.as_secs_f64() * (1.0 - 1e-9));
            let next = backoff.delay(attempt.saturating_add(1), &mut OsRng);
            prop_assert!(next >= delay, "delays do not shrink");
        }
    }
}

//! How long one event takes: `cargo bench -p navarch-policy`.

use divan::{Bencher, black_box};
use navarch_policy::{EventFactsOwned, HealthPolicy, parse_event};

fn main() {
    divan::main();
}

const GO_DEFAULT: &str = include_str!("../../../examples/policies/go-default.yaml");

/// Readings of a quiet report, then the worst for each kind of rule.
const EVENTS: [&str; 8] = [
    "watch=temperature gpu_index=0 temperature=45",
    "watch=boot boot_id=7d1e",
    "watch=device_count gpu_count=8 gpu_count_expected=8",
    "event_type=xid system=driver xid_code=79",
    "event_type=xid system=driver xid_code=13",
    "event_type=xid system=driver xid_code=999",
    "event_type=thermal system=thermal watch=temperature temperature=91",
    "event_type=memory system=mem watch=memory ecc_sbe_count=3 ecc_dbe_count=0",
];

fn event(words: &str) -> EventFactsOwned {
    let pairs: Vec<_> = words
        .split(' ')
        .filter_map(|word| word.split_once('='))
        .collect();
    parse_event(&pairs).expect("a good event")
}

#[divan::bench(args = EVENTS)]
fn builtin(bencher: Bencher<'_, '_>, words: &str) {
    let policy = HealthPolicy::builtin();
    let event = event(words);
    bencher.bench_local(|| policy.evaluate(black_box(&event.facts())));
}

#[divan::bench(args = EVENTS)]
fn go_default(bencher: Bencher<'_, '_>, words: &str) {
    let policy = HealthPolicy::parse("go-default.yaml", GO_DEFAULT).expect("a good file");
    let event = event(words);
    bencher.bench_local(|| policy.evaluate(black_box(&event.facts())));
}

#[divan::bench]
fn load_builtin() -> HealthPolicy {
    HealthPolicy::parse("catalogue.yaml", navarch_policy::health::BUILTIN_TEXT)
        .expect("a good file")
}

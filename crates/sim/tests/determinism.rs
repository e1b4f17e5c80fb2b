//! The same seed twice gives the same bytes, before anything else is believed.

use std::time::Duration;

use navarch_model::Time;
use navarch_sim::{Config, Sim};

fn trace(seed: u64) -> String {
    let mut sim = Sim::new(seed, Config::drawn(seed)).expect("a drawn configuration loads");
    sim.run(Time(0) + Duration::from_secs(1200));
    sim.calm_down(true);
    sim.run(Time(0) + Duration::from_secs(2400));
    sim.trace().to_owned()
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for seed in [1, 2, 3] {
        let (one, other) = (trace(seed), trace(seed));
        assert!(one.lines().count() > 20, "seed {seed} did nothing:\n{one}");
        assert_eq!(one, other, "seed {seed}");
    }
}

#[test]
fn different_seeds_differ() {
    assert_ne!(trace(1), trace(2));
}

//! The same seed twice gives the same bytes, before anything else is believed.

use std::time::Duration;

use navarch_model::Time;
use navarch_sim::{Config, Sim, Trouble};

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

/// What is advanced in bulk is what happens call by call.
#[test]
fn machines_that_are_advanced_in_bulk_leave_the_same_bytes() {
    let mut quiet = 0;
    for seed in 0..24 {
        let traces = [false, true].map(|bulk| {
            let mut config = Config::drawn(seed);
            config.lost = 0.0;
            config.polls = false;
            config.bulk = bulk;
            let mut sim = Sim::new(seed, config).expect("a drawn configuration loads");
            for minutes in 1..=20 {
                sim.run(Time(0) + Duration::from_secs(60 * minutes));
                quiet += sim.machines().1;
            }
            sim.calm_down(true);
            sim.run(Time(0) + Duration::from_secs(2400));
            sim.trace().to_owned()
        });
        let [mut one, mut other] = traces.each_ref().map(|trace| trace.lines());
        loop {
            let lines = (one.next(), other.next());
            assert_eq!(lines.0, lines.1, "seed {seed}");
            if lines == (None, None) {
                break;
            }
        }
    }
    assert!(quiet > 100, "nothing was ever quiet");
}

/// Machines that are repaired twice in a row boot while they run, and while they are quiet.
#[test]
fn machines_that_boot_while_they_are_quiet_leave_the_same_bytes() {
    for seed in 0..8 {
        let [one, other] = [false, true].map(|bulk| {
            let mut config = Config::calm(1, 4);
            config.troubles = vec![Trouble::Repair];
            config.trouble_every = Duration::from_secs(20);
            config.bulk = bulk;
            let mut sim = Sim::new(seed, config).expect("a calm configuration loads");
            sim.run(Time(0) + Duration::from_secs(3600));
            let broken = sim.violations();
            assert!(broken.is_empty(), "seed {seed}: {broken:?}");
            sim.trace().to_owned()
        });
        assert!(one == other, "seed {seed}");
        assert!(one.contains("fault Repair"), "seed {seed}");
    }
}

#[test]
fn different_seeds_differ() {
    assert_ne!(trace(1), trace(2));
}

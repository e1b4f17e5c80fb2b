//! A fleet that runs for months holds no more than one that ran for weeks.

use std::collections::BTreeMap;
use std::time::Duration;

use navarch_model::Time;
use navarch_sim::{Config, Sim, Trouble};
use navarch_store::Retention;

const HOUR: Duration = Duration::from_secs(3600);
/// Remembered events fill their table up to its limit.
const REMEMBERED: (&str, usize) = ("remembered events", 1024);

/// The most that each table holds while time passes.
fn peaks(sim: &mut Sim, days: std::ops::Range<u32>) -> BTreeMap<&'static str, usize> {
    let mut peaks = BTreeMap::new();
    for hour in days.start * 24..days.end * 24 {
        sim.run(Time(0) + HOUR * (hour + 1));
        for (table, size) in sim.sizes() {
            let peak = peaks.entry(table).or_insert(0);
            *peak = size.max(*peak);
        }
    }
    assert_eq!(sim.violations(), []);
    peaks
}

#[test]
fn no_table_grows_with_the_months() {
    let interval = Duration::from_secs(1800);
    let mut config = Config::large(5, interval, interval * 2, interval);
    // Strangers keep what they rent, calls to a frozen control plane wait for its return, and one
    // that rests or starts anew forgets what grew.
    let left_out = [
        Trouble::Strangers,
        Trouble::Freeze,
        Trouble::Pause,
        Trouble::Crash,
        Trouble::Restore,
    ];
    config.troubles = Trouble::ALL.to_vec();
    config
        .troubles
        .retain(|trouble| !left_out.contains(trouble));
    config.trouble_every = 2 * HOUR;
    let kept = 24 * HOUR;
    config.retention = Some(Retention {
        events_age: kept,
        records_age: kept,
        ..Retention::default()
    });
    let mut sim = Sim::new(7, config).expect("the configuration loads");
    sim.stream(Box::new(std::io::sink()));
    let early = peaks(&mut sim, 0..15);
    let changes = sim.changes();
    let late = peaks(&mut sim, 15..120);
    assert!(
        changes > 1_000 && sim.changes() > 4 * changes,
        "too little happened: {changes} and {} changes",
        sim.changes()
    );
    let (name, limit) = REMEMBERED;
    assert!(late.get(name).is_some_and(|size| *size <= limit));
    let grown: Vec<_> = late
        .iter()
        .map(|(table, size)| (*table, early.get(table).copied().unwrap_or(0), *size))
        .filter(|(table, early, late)| *table != name && *late > 3 * early + 32)
        .collect();
    assert!(grown.is_empty(), "at first and later: {grown:?}");
}

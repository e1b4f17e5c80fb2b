//! Windows of time over a month in which clocks change, in three time zones, to the minute.
//!
//! `UPDATE_GOLDEN=1 cargo test` writes `schedule.txt` anew; read the difference before you keep it.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr as _;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use navarch_config::{Autoscaler, Config, Window};

/// Each window of a list, read as a schedule of its own: some of them hide others.
fn windows(zone: &str, schedule: &[&str]) -> Vec<Window> {
    let window = |window: &&str| {
        let text = format!(
            "providers: {{fake: {{}}}}\npools:\n  dev: {{provider: fake, instance_type: x, max_nodes: \
             9, autoscaling: {{type: scheduled, timezone: {zone}, schedule: [{window}]}}}}\n"
        );
        let config = Config::parse("f.yaml", &text);
        let (mut config, _) = config.unwrap_or_else(|error| panic!("{error}"));
        let pool = config.pools.remove("dev").expect("it is there");
        match pool.autoscaling.expect("it is there").autoscaler {
            Autoscaler::Scheduled { mut schedule, .. } => schedule.remove(0),
            other => panic!("{other:?}"),
        }
    };
    schedule.iter().map(window).collect()
}

/// The step away from a change of clocks: no longer than the shortest time for which a window is open
/// or closed there.
const STEP: SignedDuration = SignedDuration::from_mins(15);

/// When a window opens and closes, to the minute. Every minute of `near` is looked at, where windows
/// may be cut short, and elsewhere those of a step after which the answer is another one.
fn seen(
    window: &Window,
    from: Timestamp,
    until: Timestamp,
    near: &Range<Timestamp>,
) -> Vec<(Timestamp, Timestamp)> {
    let mut found = Vec::new();
    let (mut at, mut open) = (from, window.holds(from).then_some(from));
    while at < until {
        let over = at + STEP;
        let looks = near.contains(&at) || window.holds(over) != open.is_some();
        while looks && at < over {
            at += SignedDuration::from_mins(1);
            match (window.holds(at), open) {
                (true, None) => open = Some(at),
                (false, Some(begun)) => {
                    found.push((begun, at));
                    open = None;
                }
                _ => {}
            }
        }
        at = over;
    }
    found
}

/// Zone, the month, and the day on which its clocks change.
const MONTHS: [(&str, &str, &str); 5] = [
    ("Europe/Berlin", "2026-03-15", "2026-03-29"),
    ("Europe/Berlin", "2026-10-11", "2026-10-25"),
    ("America/New_York", "2026-02-22", "2026-03-08"),
    // Half an hour.
    ("Australia/Lord_Howe", "2026-03-22", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-09-20", "2026-10-04"),
];

const SCHEDULE: [&str; 7] = [
    "{start: '09:00', end: '17:30', min_nodes: 1}",
    "{start: '22:00', end: '06:00', min_nodes: 2}",
    "{start: '02:15', end: '02:45', min_nodes: 3}",
    "{start: '01:00', end: '02:15', min_nodes: 4}",
    "{start: '02:15', end: '05:00', min_nodes: 5}",
    "{cron: 15 2 * * *, duration: 30m, min_nodes: 6}",
    "{cron: 0 9 * * sun, duration: 8h, min_nodes: 7}",
];

#[test]
fn windows_keep_to_the_clock_on_the_wall_over_a_month_of_changes() {
    let mut told = String::new();
    for (zone, first, change) in MONTHS {
        let _ = writeln!(
            told,
            "== {zone}, four weeks from {first}, clocks change on {change}"
        );
        for window in windows(zone, &SCHEDULE) {
            let rules = window.zone.rules().clone();
            let first = Date::from_str(first).unwrap();
            let midnight = |date: Date| date.to_zoned(rules.clone()).unwrap().timestamp();
            let (from, until) = (midnight(first), midnight(first + 29.days()));
            let change = Date::from_str(change).unwrap();
            let near = midnight(change.yesterday().unwrap())..midnight(change + 2.days());
            let all = seen(&window, from, until, &near);
            let minutes =
                |(begun, over): &(Timestamp, Timestamp)| over.duration_since(*begun).as_mins();
            let total: i64 = all.iter().map(minutes).sum();
            let _ = writeln!(told, "{window}: {} times, {total} minutes", all.len());
            for (begun, over) in all.iter().filter(|(begun, _)| near.contains(begun)) {
                let local = |at: &Timestamp| {
                    let at = at.to_zoned(rules.clone());
                    at.strftime("%d %H:%M %:z").to_string()
                };
                let minutes = over.duration_since(*begun).as_mins();
                let _ = writeln!(
                    told,
                    "    {} to {}, {minutes} min",
                    local(begun),
                    local(over)
                );
            }
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schedule.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &told).unwrap();
    }
    assert_eq!(told, std::fs::read_to_string(&path).unwrap());
}

#[test]
fn a_window_holds_its_begin_and_not_its_end_and_days_are_those_on_which_it_begins() {
    let at = |text: &str| Timestamp::from_str(text).unwrap();
    // 2026-05-04 is a Monday.
    let cases = [
        (
            "{days: [mon], start: 9, end: 17, min_nodes: 1}",
            "2026-05-04T09:00:00Z",
            true,
        ),
        (
            "{days: [mon], start: 9, end: 17, min_nodes: 1}",
            "2026-05-04T08:59:59.999999Z",
            false,
        ),
        (
            "{days: [mon], start: 9, end: 17, min_nodes: 1}",
            "2026-05-04T17:00:00Z",
            false,
        ),
        (
            "{days: [mon], start: 9, end: 17, min_nodes: 1}",
            "2026-05-05T09:00:00Z",
            false,
        ),
        (
            "{days: [mon], start: 22, end: 6, min_nodes: 1}",
            "2026-05-04T05:00:00Z",
            false,
        ),
        (
            "{days: [mon], start: 22, end: 6, min_nodes: 1}",
            "2026-05-05T05:59:59Z",
            true,
        ),
        (
            "{days: [mon], start: 22, end: 6, min_nodes: 1}",
            "2026-05-05T23:00:00Z",
            false,
        ),
        (
            "{days: [sun, mon], min_nodes: 1}",
            "2026-05-03T00:00:00Z",
            true,
        ),
        (
            "{days: [sun, mon], min_nodes: 1}",
            "2026-05-05T00:00:00Z",
            false,
        ),
        ("{min_nodes: 1}", "1969-12-31T23:59:59Z", true),
        (
            "{cron: 0 8 * * mon-fri, duration: 10h, min_nodes: 1}",
            "2026-05-04T08:00:00Z",
            true,
        ),
        (
            "{cron: 0 8 * * mon-fri, duration: 10h, min_nodes: 1}",
            "2026-05-04T18:00:00Z",
            false,
        ),
        (
            "{cron: 0 8 * * mon-fri, duration: 10h, min_nodes: 1}",
            "2026-05-03T12:00:00Z",
            false,
        ),
        (
            "{cron: 0 0 29 2 *, duration: 24h, min_nodes: 1}",
            "2028-02-29T23:59:00Z",
            true,
        ),
        (
            "{cron: 0 0 29 2 *, duration: 24h, min_nodes: 1}",
            "2027-03-01T00:00:00Z",
            false,
        ),
    ];
    for (schedule, moment, wanted) in cases {
        let window = &windows("UTC", &[schedule])[0];
        assert_eq!(window.holds(at(moment)), wanted, "{window} at {moment}");
    }
    for window in windows("UTC", &SCHEDULE) {
        for extreme in [Timestamp::MIN, Timestamp::MAX] {
            // Nothing panics at the ends of the calendar.
            let _ = window.holds(extreme);
        }
    }
}

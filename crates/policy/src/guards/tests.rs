//! Tables of the guards, written by hand from the design.

use std::time::Duration;

use navarch_config::{Budget, Percent, Threshold};
use navarch_model::{Breaker, CloudStatus, Sighting, Stamp, Time};

use super::*;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// A control plane that has been there since long before everything.
const EVER: Presence = Presence {
    since: at(-9_999),
    resumed: None,
    settle: Duration::from_secs(180),
};

const fn at(seconds: i64) -> Time {
    Time(seconds * 1_000_000)
}

#[test]
fn budgets_count_slots() {
    for (taken, slots, blocked) in [
        (0, 1, false),
        (1, 1, true),
        (2, 1, true),
        (0, 0, true),
        (4, 5, false),
    ] {
        assert_eq!(
            budget(Scope::Pool("p"), taken, slots).is_some(),
            blocked,
            "{taken}/{slots}"
        );
    }
}

#[test]
fn sizes_count_the_surge() {
    for (alive, max, surge, blocked) in [
        (0, 0, 0, true),
        (0, 1, 0, false),
        (1, 1, 0, true),
        (1, 1, 1, false),
        (2, 1, 1, true),
        (9, 3, 1, true),
    ] {
        let block = size(alive, max, surge);
        assert_eq!(block.is_some(), blocked, "{alive} {max} {surge}");
        assert!(block.is_none_or(|block| block.guard == "size" && block.until.is_none()));
    }
}

#[test]
fn launch_rates_end_an_hour_after_the_first() {
    let hour = 3600;
    for (launches, limit, first, until) in [
        (0, 1, None, None),
        (9, 10, Some(5), None),
        (10, 10, Some(5), Some(Some(at(5 + hour)))),
        (11, 10, Some(0), Some(Some(at(hour)))),
        // Nothing may be launched: no hour ends that.
        (0, 0, None, Some(None)),
    ] {
        let block = launch_rate(launches, limit, first.map(at));
        assert_eq!(
            block.map(|block| block.until),
            until,
            "{launches} of {limit}"
        );
    }
}

#[test]
fn low_disks_block_below_the_limit() {
    for (free, min, blocked) in [
        (None, 100, false),
        (Some(99), 100, true),
        (Some(100), 100, false),
        (Some(0), 0, false),
        (Some(0), 1, true),
        (Some(u64::MAX), u64::MAX, false),
    ] {
        assert_eq!(low_disk(free, min).is_some(), blocked, "{free:?} {min}");
    }
}

#[test]
fn offerings_rest_until_their_time() {
    for (retry_at, now, until) in [
        (None, 0, None),
        (Some(60), 59, Some(at(60))),
        (Some(60), 60, None),
    ] {
        let block = offering_rest("f/h100 is sold out", retry_at.map(at), at(now));
        assert_eq!(
            block.and_then(|block| block.until),
            until,
            "{retry_at:?} {now}"
        );
    }
}

#[test]
fn silence_needs_confirmation() {
    let seen = |status, in_a_row, seconds| {
        Some(Sighting {
            status,
            at: Stamp {
                core: at(seconds),
                wall: at(0),
            },
            in_a_row,
        })
    };
    let base = Silence {
        since: at(100),
        sighting: None,
        fresh_then: 4,
        stayed_fresh: 4,
        next: None,
        witnesses: 2,
        enough: Some(at(1000)),
        confirmed: false,
    };
    let cases: [(&str, Silence, i64, bool); 17] = [
        (
            "impaired",
            Silence {
                sighting: seen(CloudStatus::Impaired, 1, 100),
                ..base
            },
            101,
            true,
        ),
        (
            "terminated",
            Silence {
                sighting: seen(CloudStatus::Terminated, 1, 101),
                ..base
            },
            102,
            true,
        ),
        (
            "not found twice",
            Silence {
                sighting: seen(CloudStatus::NotFound, 2, 101),
                enough: None,
                ..base
            },
            102,
            true,
        ),
        (
            "terminating is no word of death",
            Silence {
                sighting: seen(CloudStatus::Terminating, 1, 101),
                ..base
            },
            102,
            false,
        ),
        (
            "a fleet of one has no witness",
            Silence {
                fresh_then: 0,
                stayed_fresh: 0,
                ..base
            },
            99999,
            false,
        ),
        (
            "a fleet of three has two",
            Silence {
                fresh_then: 2,
                stayed_fresh: 2,
                ..base
            },
            1000,
            true,
        ),
        ("too short", base, 999, false),
        ("long enough with witnesses", base, 1000, true),
        (
            "one witness",
            Silence {
                stayed_fresh: 1,
                fresh_then: 1,
                ..base
            },
            9999,
            false,
        ),
        (
            "half of the fleet",
            Silence {
                stayed_fresh: 2,
                ..base
            },
            9999,
            true,
        ),
        (
            "less than half",
            Silence {
                stayed_fresh: 2,
                witnesses: 3,
                ..base
            },
            9999,
            false,
        ),
        (
            "never",
            Silence {
                enough: None,
                ..base
            },
            99999,
            false,
        ),
        (
            "operator",
            Silence {
                confirmed: true,
                enough: None,
                ..base
            },
            101,
            true,
        ),
        (
            "stopped",
            Silence {
                sighting: seen(CloudStatus::Stopped, 1, 101),
                ..base
            },
            102,
            true,
        ),
        (
            "stopped, said before the silence",
            Silence {
                sighting: seen(CloudStatus::Stopped, 1, 99),
                ..base
            },
            102,
            false,
        ),
        (
            "not found once",
            Silence {
                sighting: seen(CloudStatus::NotFound, 1, 101),
                ..base
            },
            102,
            false,
        ),
        (
            "running is no veto",
            Silence {
                sighting: seen(CloudStatus::Running, 9, 101),
                ..base
            },
            1000,
            true,
        ),
    ];
    for (name, facts, now, repaired) in cases {
        assert_eq!(silence(&facts, at(now)).is_ok(), repaired, "{name}");
    }
}

#[test]
fn a_budget_is_ten_percent_rounded_down_and_at_least_one() {
    let tenth = Budget::Share(Percent::new(10));
    for (budget, nodes, slots) in [
        (tenth, 0, 1),
        (tenth, 1, 1),
        (tenth, 9, 1),
        (tenth, 10, 1),
        (tenth, 19, 1),
        (tenth, 20, 2),
        (tenth, 199, 19),
        (tenth, 200, 20),
        (tenth, 10_000, 1000),
        // An explicit 0 means never, in both spellings and for every size.
        (Budget::Share(Percent::new(0)), 1, 0),
        (Budget::Share(Percent::new(0)), 10_000, 0),
        (Budget::Count(0), 10_000, 0),
        (Budget::Count(3), 1, 3),
        (Budget::Share(Percent::new(100)), 7, 7),
    ] {
        assert_eq!(budget.slots(nodes), slots, "{budget} of {nodes}");
    }
}

#[test]
fn a_machine_and_its_replacement_are_one_in_a_budget() {
    // Staying, drained to be replaced, asked for: the base.
    for (staying, repairing, asked, base) in [
        (200, 0, 200, 200),
        // As the drains begin, and while their replacements come.
        (180, 20, 200, 200),
        (190, 20, 200, 200),
        (200, 20, 200, 200),
        // Drains that were taken back when their replacements were there already.
        (220, 0, 200, 220),
        // The pool never came to its size.
        (150, 5, 200, 155),
        // Machines that go because nobody asked for them do not count.
        (100, 0, 100, 100),
        (1, 0, 0, 1),
        (0, 1, 0, 0),
        (0, 1, 1, 1),
        (0, 0, 5, 0),
    ] {
        let found = budget_base(staying, repairing, asked);
        assert_eq!(found, base, "{staying} {repairing} {asked}");
    }
}

#[test]
fn waits_double_up_to_their_limit() {
    let ten = Duration::from_secs(10 * MINUTE);
    let day = Duration::from_secs(24 * HOUR);
    for (times, minutes) in [
        (0, 10),
        (1, 20),
        (2, 40),
        (3, 80),
        (4, 160),
        (5, 320),
        (6, 640),
        (7, 1280),
        // 2560 minutes are more than a day.
        (8, 1440),
        (9, 1440),
        (31, 1440),
        (32, 1440),
        (u32::MAX, 1440),
    ] {
        let wait = doubled(ten, times, day);
        assert_eq!(wait, Duration::from_secs(minutes * MINUTE), "{times}");
    }
    // The launch breaker: five minutes to an hour.
    let (five, hour) = (Duration::from_secs(5 * MINUTE), Duration::from_secs(HOUR));
    let waits: Vec<u64> = (0..6)
        .map(|times| doubled(five, times, hour).as_secs() / MINUTE)
        .collect();
    assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
}

#[test]
fn witnesses_are_two_and_half_of_those_that_were_fresh() {
    let witnesses = Threshold {
        count: 2,
        percent: Percent::new(50),
    };
    for (fresh_then, needed) in [
        (0, 2),
        (1, 2),
        (2, 2),
        (3, 2),
        (4, 2),
        (5, 3),
        (6, 3),
        (7, 4),
        (199, 100),
    ] {
        assert_eq!(witnesses.at_least(fresh_then), needed, "{fresh_then}");
    }
}

#[test]
fn reports_are_stale_after_three_intervals_and_never_before_silence_is_found() {
    // Check interval, intervals, heartbeat interval and timeout: the limit. In seconds.
    for (check, intervals, beat, timeout, limit) in [
        (60, 3, 30, 90, 180),
        (60, 3, 30, 91, 181),
        (30, 3, 15, 45, 90),
        (30, 3, 15, 240, 285),
        (60, 5, 30, 90, 300),
        (60, 0, 30, 90, 180),
        (5, 3, 2, 6, 15),
    ] {
        let [check, beat, timeout, limit] = [check, beat, timeout, limit].map(Duration::from_secs);
        let found = stale_limit(check, intervals, beat, timeout);
        assert_eq!(found, limit, "{check:?} {intervals} {beat:?} {timeout:?}");
    }
}

#[test]
fn a_young_machine_is_not_given_up() {
    let life = Duration::from_secs(600);
    for (created, now, until) in [
        (0, 0, Some(600)),
        (0, 599, Some(600)),
        (0, 600, None),
        (1000, 1200, Some(1600)),
        (1000, 1600, None),
    ] {
        let block = minimum_life(at(created), life, at(now));
        let found = block.and_then(|block| block.until);
        assert_eq!(found, until.map(at), "{created} {now}");
    }
    assert_eq!(minimum_life(at(0), Duration::ZERO, at(0)), None);
}

#[test]
fn each_reason_of_a_guard_has_a_word_of_its_own() {
    let open = Breaker {
        opened: Some(Stamp::default()),
        probe_at: Some(at(9)),
        ..Breaker::default()
    };
    let probing = Breaker {
        probe: Some("nv-1".to_owned()),
        ..open
    };
    let wait = Duration::from_secs(600);
    let base = Silence {
        since: at(0),
        sighting: None,
        fresh_then: 0,
        stayed_fresh: 0,
        next: None,
        witnesses: 2,
        enough: Some(at(600)),
        confirmed: false,
    };
    let never = Silence {
        enough: None,
        ..base
    };
    let found = [
        budget(Scope::Pool("p"), 1, 1),
        budget(Scope::Fleet, 1, 1),
        budget(Scope::Fleet, 0, 0),
        repair_breaker("s", &open, Some(at(9)), at(0)),
        repair_breaker("s", &probing, None, at(0)),
        launch_breaker("o", &open, None, 1, at(0)),
        launch_breaker("o", &open, None, 0, at(0)),
        launch_breaker("o", &Breaker::default(), Some(3), 3, at(0)),
        small_pool("s", Some(LastReplacement::NotActive), wait, &EVER, at(0)),
        small_pool(
            "s",
            Some(LastReplacement::ActiveSince(at(0))),
            wait,
            &EVER,
            at(0),
        ),
        small_pool("s", Some(LastReplacement::None(at(0))), wait, &EVER, at(0)),
        silence(&base, at(0)).err(),
        silence(&base, at(600)).err(),
        silence(&never, at(600)).err(),
    ]
    .map(|block| block.map(|block| (block.guard, block.cause)));
    let wanted = [
        ("budget", "pool"),
        ("budget", "fleet"),
        ("budget", "never"),
        ("breaker", "open"),
        ("breaker", "probing"),
        ("launch_breaker", "probing"),
        ("launch_breaker", "open"),
        ("launch_breaker", "unproven"),
        ("small_pool", "not_active"),
        ("small_pool", "too_short"),
        ("small_pool", "ended"),
        ("silence", "short"),
        ("silence", "witnesses"),
        ("silence", "never"),
    ]
    .map(Some);
    assert_eq!(found, wanted);
}

#[test]
fn a_wait_says_until_when_and_a_scope_what_it_spans() {
    let wait = Duration::from_secs(600);
    let facts = Silence {
        since: at(100),
        sighting: None,
        fresh_then: 4,
        stayed_fresh: 4,
        next: None,
        witnesses: 2,
        enough: Some(at(700)),
        confirmed: false,
    };
    for block in [
        small_pool(
            "s",
            Some(LastReplacement::ActiveSince(at(100))),
            wait,
            &EVER,
            at(100),
        ),
        small_pool(
            "s",
            Some(LastReplacement::None(at(100))),
            wait,
            &EVER,
            at(100),
        ),
        silence(&facts, at(100)).err(),
    ] {
        assert_eq!(
            block.as_ref().and_then(|block| block.until),
            Some(at(700)),
            "{block:?}"
        );
    }
    assert_eq!(Scope::Pool("train").to_string(), "pool train");
    assert_eq!(Scope::Fleet.to_string(), "the fleet");
}

#[test]
fn what_was_under_way_at_a_start_goes_on_and_is_due_once_everybody_could_be_heard() {
    // It began at second 100 and takes 600 s; those who could end it are heard within 180 s.
    for (what, start, seconds, due) in [
        ("nothing started since", 0, 600, 700),
        ("it began with the start", 100, 600, 700),
        ("a start early in it", 200, 600, 700),
        ("a start that leaves as long as they need", 520, 600, 700),
        ("a start a second later", 521, 600, 701),
        ("a start just before it was due", 699, 600, 879),
        ("long due at the start", 50_000, 600, 50_180),
        (
            "shorter than they need: all of it again",
            50_000,
            60,
            50_060,
        ),
        ("short, and a start in it", 130, 60, 190),
        ("at once", 50_000, 0, 50_000),
        ("for ever", 200, u64::MAX, i64::MAX / 1_000_000),
    ] {
        let presence = Presence {
            since: at(start),
            ..EVER
        };
        let found = presence.due(at(100), Duration::from_secs(seconds));
        assert_eq!(found.0 / 1_000_000, due, "{what}");
    }
}

#[test]
fn a_silence_lasts_while_somebody_listens() {
    // It began at second 100 and must last for 600 s.
    for (what, start, resumed, seconds, due) in [
        ("nobody was away", 0, None, 600, 700),
        ("a start early in it", 200, None, 600, 700),
        (
            "a start just before it was long enough",
            699,
            None,
            600,
            879,
        ),
        ("long enough at the start", 50_000, None, 600, 50_180),
        ("a pause before it", 90, Some(90), 600, 700),
        (
            "a pause in it: nobody listened before",
            4_000,
            Some(4_000),
            600,
            4_600,
        ),
        ("a pause, and then a start", 4_300, Some(4_000), 600, 4_600),
        (
            "a pause, and much later a start",
            9_000,
            Some(4_000),
            600,
            9_180,
        ),
        (
            "shorter than they need to be heard",
            50_000,
            None,
            60,
            50_180,
        ),
        ("short, and begun since the start", 100, None, 60, 160),
    ] {
        let presence = Presence {
            since: at(start),
            resumed: resumed.map(at),
            ..EVER
        };
        let found = presence.silence_due(at(100), Duration::from_secs(seconds));
        assert_eq!(found, at(due), "{what}");
    }
}

#[test]
fn what_is_only_seen_counts_from_the_last_start_or_pause() {
    for (seen, start, from) in [(100, 0, 100), (100, 100, 100), (100, 200, 200)] {
        let presence = Presence {
            since: at(start),
            ..EVER
        };
        assert_eq!(presence.fresh(at(seen)), at(from), "{seen} {start}");
    }
}

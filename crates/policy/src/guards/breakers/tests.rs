//! Tables of the breakers, written by hand from the design.

use navarch_config::{Percent, Threshold};
use navarch_model::Stamp;

use super::*;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

const fn at(seconds: i64) -> Time {
    Time(seconds * 1_000_000)
}

#[test]
fn launch_breaker_lets_one_probe_through_after_its_wait() {
    let closed = Breaker::default();
    let open = Breaker {
        opened: Some(Stamp::default()),
        probe_at: Some(at(300)),
        trips: 1,
        ..Breaker::default()
    };
    for (breaker, unproven, outstanding, now, blocked) in [
        (&closed, None, 50, 0, false),
        (&closed, Some(3), 2, 0, false),
        (&closed, Some(3), 3, 0, true),
        (&open, None, 0, 299, true),
        (&open, None, 0, 300, false),
        (&open, None, 1, 300, true),
    ] {
        let block = launch_breaker("f/h100", breaker, unproven, outstanding, at(now));
        assert_eq!(
            block.is_some(),
            blocked,
            "{breaker:?} {unproven:?} {outstanding} {now}"
        );
    }
}

#[test]
fn small_pools_wait_for_the_previous_replacement() {
    let wait = Duration::from_secs(600);
    let ever = Presence {
        since: at(-9_999),
        resumed: None,
        settle: wait,
    };
    for (last, now, blocked) in [
        (None, 0, false),
        (Some(LastReplacement::NotActive), 9999, true),
        (Some(LastReplacement::ActiveSince(at(100))), 699, true),
        (Some(LastReplacement::ActiveSince(at(100))), 700, false),
        (Some(LastReplacement::None(at(0))), 599, true),
        (Some(LastReplacement::None(at(0))), 600, false),
    ] {
        let block = small_pool("gpu-off-bus", last, wait, &ever, at(now));
        assert_eq!(block.is_some(), blocked, "{last:?} {now}");
    }
}

#[test]
fn a_signature_is_widespread_on_more_than_three_or_a_tenth() {
    let threshold = Threshold {
        count: 3,
        percent: Percent::new(10),
    };
    for (hits, nodes, widespread) in [
        // Pools of one, two and three nodes have no breaker.
        (1, 1, false),
        (2, 2, false),
        (3, 3, false),
        // From four nodes on, more than three.
        (3, 4, false),
        (4, 4, true),
        (3, 39, false),
        (4, 39, true),
        // A tenth of 40 is four, and four are not more than that.
        (4, 40, false),
        (5, 40, true),
        (5, 49, true),
        (5, 50, false),
        (6, 50, true),
        (20, 200, false),
        (21, 200, true),
        (0, 200, false),
    ] {
        let found = is_widespread(hits, nodes, threshold.of(nodes), 4);
        assert_eq!(found, widespread, "{hits} of {nodes}");
    }
}

#[test]
fn a_repair_breaker_waits_from_its_last_hit() {
    let (wait, day) = (
        Duration::from_secs(10 * MINUTE),
        Duration::from_secs(24 * HOUR),
    );
    // Tries that failed, not before, last hit: quiet from. In minutes.
    for (trips, probe_at, hit, quiet) in [
        (0, None, None, None),
        (0, None, Some(0), Some(10)),
        (0, Some(10), Some(0), Some(10)),
        // A new hit starts the wait again.
        (0, Some(10), Some(7), Some(17)),
        (0, Some(10), Some(9), Some(19)),
        // So it does with the doubled wait.
        (1, Some(40), Some(20), Some(40)),
        (1, Some(40), Some(25), Some(45)),
        // A try that failed waits though nothing new was hit.
        (2, Some(100), Some(20), Some(100)),
        (3, Some(100), None, Some(100)),
        (20, None, Some(0), Some(1440)),
    ] {
        let minutes = |count: i64| at(count * 60);
        let breaker = Breaker {
            opened: Some(Stamp::default()),
            probe_at: probe_at.map(minutes),
            trips,
            ..Breaker::default()
        };
        let found = quiet_from(&breaker, hit.map(minutes), wait, day);
        assert_eq!(found, quiet.map(minutes), "{trips} {probe_at:?} {hit:?}");
    }
}

#[test]
fn repair_breakers_are_closed_open_probing_or_half_open() {
    let open = Breaker {
        opened: Some(Stamp::default()),
        ..Breaker::default()
    };
    let probing = Breaker {
        probe: Some("nv-1".to_owned()),
        ..open
    };
    let fleet = Breaker {
        fleet: true,
        trips: 1,
        ..open.clone()
    };
    let tried = Breaker {
        trips: 3,
        ..open.clone()
    };
    // Failures alone open nothing.
    let closed = Breaker {
        failures: 99,
        ..Breaker::default()
    };
    let many = "open for xid-reboot: seen on too many nodes at once";
    let all =
        "open for xid-reboot: seen on too many nodes of the fleet at once; one try did not help";
    let thrice = "open for xid-reboot: seen on too many nodes at once; 3 tries did not help";
    let first = "open for xid-reboot: nv-1 is replaced first, and its replacement has not proven \
                 itself yet";
    for (breaker, quiet, now, blocked) in [
        (&closed, Some(600), 0, None),
        (&open, Some(600), 0, Some((many, Some(600)))),
        (&open, Some(600), 599, Some((many, Some(600)))),
        (&open, Some(600), 600, None),
        (&open, None, 0, None),
        (&fleet, Some(600), 0, Some((all, Some(600)))),
        (&tried, Some(600), 0, Some((thrice, Some(600)))),
        // While the probe is under way, no time lets another through.
        (&probing, Some(600), 0, Some((first, None))),
        (&probing, Some(600), 100_000, Some((first, None))),
        (&probing, None, 0, Some((first, None))),
    ] {
        let block = repair_breaker("xid-reboot", breaker, quiet.map(at), at(now));
        let found = block.map(|block| (block.reason, block.until));
        let blocked = blocked.map(|(reason, until)| (reason.to_owned(), until.map(at)));
        assert_eq!(found, blocked, "{breaker:?} {now}");
    }
}

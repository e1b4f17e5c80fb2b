//! Guards: what may stop an action of our own choosing. Each is a pure function of present facts.

use std::time::Duration;

use navarch_model::{Breaker, CloudStatus, Sighting, Time};

/// Why an action is not taken now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The guard's name, as in configuration, metrics and `explain`.
    pub guard: &'static str,
    /// The facts and the limit, in words.
    pub reason: String,
    /// When it is worth looking again, in fleet time; none means when a fact changes.
    pub until: Option<Time>,
}

impl Block {
    fn new(guard: &'static str, reason: String) -> Self {
        Self {
            guard,
            reason,
            until: None,
        }
    }

    fn until(mut self, time: Time) -> Self {
        self.until = Some(time);
        self
    }
}

/// A budget of disruptions: `taken` of `slots` are in use in `scope`.
pub fn budget(scope: &str, taken: usize, slots: usize) -> Option<Block> {
    (taken >= slots).then(|| {
        let reason = if slots == 0 {
            format!("the budget of {scope} is 0: no disruption is allowed")
        } else {
            format!("{taken} of {slots} disruptions of {scope} are under way")
        };
        Block::new("budget", reason)
    })
}

/// The size limit: one more machine must leave at most `max` plus `surge` possibly alive.
pub fn size(alive: usize, max: usize, surge: usize) -> Option<Block> {
    (alive >= max + surge).then(|| {
        Block::new(
            "size",
            format!("{alive} machines may be alive; max_nodes {max} + max_surge {surge}"),
        )
    })
}

/// Room for the record: with `free` bytes on the store's disk, fewer than `min`, nothing is bought.
/// What is known of machines that exist is still written. `None` means that nobody could measure.
pub fn low_disk(free: Option<u64>, min: u64) -> Option<Block> {
    const MIB: u64 = 1 << 20;
    let free = free.filter(|free| *free < min)?;
    Some(Block::new(
        "low_disk",
        format!(
            "{} MiB are free on the disk of the store, and store.min_free is {} MiB: nothing is \
             bought; make room",
            free / MIB,
            min.div_ceil(MIB)
        ),
    ))
}

/// The launch rate: `launches` within the last hour, the first of them at `first`.
pub fn launch_rate(launches: usize, limit: usize, first: Option<Time>) -> Option<Block> {
    (launches >= limit).then(|| {
        let block = Block::new(
            "max_launches_per_hour",
            format!("{launches} launches within the last hour; the limit is {limit}"),
        );
        match first {
            Some(first) => block.until(first + Duration::from_secs(3600)),
            None => block,
        }
    })
}

/// The launch breaker of one offering: after launches that were paid and never became ACTIVE,
/// one is let through at a time, and only after a wait. An offering without an ACTIVE machine yet
/// has an `unproven_limit` of launches at a time.
pub fn launch_breaker(
    offering: &str,
    breaker: &Breaker,
    unproven_limit: Option<usize>,
    outstanding: usize,
    now: Time,
) -> Option<Block> {
    if breaker.is_open() {
        if outstanding > 0 {
            return Some(Block::new(
                "launch_breaker",
                format!("open for {offering}: one launch is tried at a time"),
            ));
        }
        if let Some(at) = breaker.probe_at.filter(|at| now < *at) {
            return Some(
                Block::new(
                    "launch_breaker",
                    format!("open for {offering} after launches that never became ACTIVE"),
                )
                .until(at),
            );
        }
        return None;
    }
    let limit = unproven_limit.filter(|limit| outstanding >= *limit)?;
    Some(Block::new(
        "launch_breaker",
        format!("{offering} has no ACTIVE machine yet: at most {limit} launches at a time"),
    ))
}

/// The memory of refusals: the offering rests until `retry_at`.
pub fn offering_rest(
    offering: &str,
    retry_at: Option<Time>,
    why: &str,
    now: Time,
) -> Option<Block> {
    let at = retry_at.filter(|at| now < *at)?;
    Some(
        Block::new(
            "offering_rest",
            format!("{offering} refused the last launch: {why}"),
        )
        .until(at),
    )
}

/// The repair breaker of one signature.
pub fn repair_breaker(signature: &str, breaker: &Breaker, now: Time) -> Option<Block> {
    if !breaker.is_open() {
        return None;
    }
    if breaker.probe.is_some() {
        return Some(Block::new(
            "breaker",
            format!("open for {signature}: its probe has not proven itself yet"),
        ));
    }
    let at = breaker.probe_at.filter(|at| now < *at)?;
    Some(
        Block::new(
            "breaker",
            format!("open for {signature}: seen on too many nodes at once"),
        )
        .until(at),
    )
}

/// How the last replacement for a signature stands, in a pool too small for a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastReplacement {
    /// Its machine has been ACTIVE since then.
    ActiveSince(Time),
    /// Its machine is not ACTIVE.
    NotActive,
    /// It was decided then, and no machine came of it.
    None(Time),
}

/// The rule for pools too small for a breaker: the next action for a signature waits until the previous
/// replacement was ACTIVE for `wait`.
pub fn small_pool(
    signature: &str,
    last: Option<LastReplacement>,
    wait: Duration,
    now: Time,
) -> Option<Block> {
    let (from, words) = match last? {
        LastReplacement::NotActive => {
            return Some(Block::new(
                "small_pool",
                format!("the previous replacement for {signature} is not ACTIVE yet"),
            ));
        }
        LastReplacement::ActiveSince(time) => (time, "has not been ACTIVE long enough"),
        LastReplacement::None(time) => (time, "ended without a machine"),
    };
    (now < from + wait).then(|| {
        Block::new(
            "small_pool",
            format!("the previous replacement for {signature} {words}"),
        )
        .until(from + wait)
    })
}

/// What speaks for a silent machine being dead.
#[derive(Debug, Clone, Copy)]
pub struct Silence {
    /// Since when it has been silent, grace included.
    pub since: Time,
    /// What the cloud last said of it.
    pub sighting: Option<Sighting>,
    /// Nodes that were fresh when the silence began, without this one.
    pub fresh_then: usize,
    /// Those of them that stayed fresh.
    pub stayed_fresh: usize,
    /// How many nodes must have stayed fresh.
    pub witnesses: usize,
    /// How long a silence must last; none means never by silence alone.
    pub replace_after: Option<Duration>,
    /// Whether an operator confirmed that it is dead.
    pub confirmed: bool,
}

/// Silence destroys nothing without confirmation: by the cloud, by enough others that stayed
/// fresh, or by an operator. Answers why the machine may be repaired, or why not.
///
/// # Errors
///
/// The block, when nothing confirms the silence.
pub fn silence(facts: &Silence, now: Time) -> Result<String, Block> {
    if facts.confirmed {
        return Ok("an operator confirmed that it is dead".to_owned());
    }
    if let Some(sighting) = facts
        .sighting
        .filter(|sighting| sighting.at.core >= facts.since)
    {
        match sighting.status {
            CloudStatus::Stopped | CloudStatus::Impaired | CloudStatus::Terminated => {
                return Ok(format!("the cloud says {}", sighting.status.word()));
            }
            CloudStatus::NotFound if sighting.in_a_row >= 2 => {
                return Ok("the cloud did not find it twice".to_owned());
            }
            CloudStatus::NotFound | CloudStatus::Running | CloudStatus::Terminating => {}
        }
    }
    let Some(replace_after) = facts.replace_after else {
        return Err(Block::new(
            "silence",
            "silence_replace_after is never: only the cloud or an operator can confirm".to_owned(),
        ));
    };
    if now < facts.since + replace_after {
        return Err(
            Block::new("silence", "it has not been silent long enough".to_owned())
                .until(facts.since + replace_after),
        );
    }
    if facts.stayed_fresh < facts.witnesses {
        return Err(Block::new(
            "silence",
            format!(
                "{} of {} other nodes stayed fresh and {} are needed as witnesses; an operator may \
                 confirm that the machine is dead",
                facts.stayed_fresh, facts.fresh_then, facts.witnesses
            ),
        ));
    }
    Ok(format!(
        "silent while {} of {} nodes stayed fresh",
        facts.stayed_fresh, facts.fresh_then
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use navarch_model::Stamp;

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
                budget("pool p", taken, slots).is_some(),
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
            let block = offering_rest("f/h100", retry_at.map(at), "sold out", at(now));
            assert_eq!(
                block.and_then(|block| block.until),
                until,
                "{retry_at:?} {now}"
            );
        }
    }

    #[test]
    fn repair_breakers_are_closed_open_probing_or_half_open() {
        let opened = |probe: Option<&str>| Breaker {
            opened: Some(Stamp::default()),
            probe_at: Some(at(600)),
            trips: 1,
            probe: probe.map(str::to_owned),
            ..Breaker::default()
        };
        let (open, probing) = (opened(None), opened(Some("nv-1")));
        // Failures alone open nothing.
        let closed = Breaker {
            failures: 99,
            probe_at: Some(at(600)),
            ..Breaker::default()
        };
        let untimed = Breaker {
            opened: Some(Stamp::default()),
            ..Breaker::default()
        };
        for (breaker, now, blocked, until) in [
            (&closed, 0, false, None),
            (&open, 0, true, Some(at(600))),
            (&open, 599, true, Some(at(600))),
            (&open, 600, false, None),
            (&probing, 0, true, None),
            (&probing, 100_000, true, None),
            (&untimed, 0, false, None),
        ] {
            let block = repair_breaker("xid-reboot", breaker, at(now));
            assert_eq!(block.is_some(), blocked, "{breaker:?} {now}");
            if let Some(block) = block {
                assert!(block.reason.contains("xid-reboot"), "{}", block.reason);
                assert_eq!(block.until, until, "{breaker:?} {now}");
            }
        }
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
        for (last, now, blocked) in [
            (None, 0, false),
            (Some(LastReplacement::NotActive), 9999, true),
            (Some(LastReplacement::ActiveSince(at(100))), 699, true),
            (Some(LastReplacement::ActiveSince(at(100))), 700, false),
            (Some(LastReplacement::None(at(0))), 599, true),
            (Some(LastReplacement::None(at(0))), 600, false),
        ] {
            let block = small_pool("gpu-off-bus", last, wait, at(now));
            assert_eq!(block.is_some(), blocked, "{last:?} {now}");
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
            witnesses: 2,
            replace_after: Some(Duration::from_secs(900)),
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
                    replace_after: None,
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
                    replace_after: None,
                    ..base
                },
                99999,
                false,
            ),
            (
                "operator",
                Silence {
                    confirmed: true,
                    replace_after: None,
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
}

//! Breakers: what stops actions of one kind after trouble, and lets one through now and then.

#[cfg(test)]
mod tests;

use std::time::Duration;

use navarch_model::{Breaker, Time};

use super::{Block, Presence, doubled};

/// Whether one signature on `hits` of `nodes` nodes is one cause rather than many: more than
/// `limit`, in a group large enough for a share to mean something.
pub const fn is_widespread(hits: usize, nodes: usize, limit: usize, smallest: usize) -> bool {
    nodes >= smallest && hits > limit
}

/// From when an open repair breaker lets one node through: once nothing new was hit for `wait`,
/// doubled with each try that failed, and not before the wait since the last try is over.
pub fn quiet_from(
    breaker: &Breaker,
    last_hit: Option<Time>,
    wait: Duration,
    longest: Duration,
) -> Option<Time> {
    let quiet = last_hit.map(|hit| hit + doubled(wait, breaker.trips, longest));
    breaker.probe_at.max(quiet)
}

/// The repair breaker of one signature. `quiet` is when its wait is over.
pub fn repair_breaker(
    signature: &str,
    breaker: &Breaker,
    quiet: Option<Time>,
    now: Time,
) -> Option<Block> {
    if !breaker.is_open() {
        return None;
    }
    let place = if breaker.fleet { " of the fleet" } else { "" };
    if let Some(probe) = &breaker.probe {
        return Some(Block::new(
            "breaker",
            "probing",
            format!(
                "open for {signature}: {probe} is replaced first, and its replacement has not \
                 proven itself yet"
            ),
        ));
    }
    let at = quiet.filter(|at| now < *at)?;
    let tries = match breaker.trips {
        0 => String::new(),
        1 => "; one try did not help".to_owned(),
        tries => format!("; {tries} tries did not help"),
    };
    Some(
        Block::new(
            "breaker",
            "open",
            format!("open for {signature}: seen on too many nodes{place} at once{tries}"),
        )
        .until(at),
    )
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
                "probing",
                format!("open for {offering}: one launch is tried at a time"),
            ));
        }
        if let Some(at) = breaker.probe_at.filter(|at| now < *at) {
            return Some(
                Block::new(
                    "launch_breaker",
                    "open",
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
        "unproven",
        format!("{offering} has no ACTIVE machine yet: at most {limit} launches at a time"),
    ))
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
    presence: &Presence,
    now: Time,
) -> Option<Block> {
    let (from, cause, words) = match last? {
        LastReplacement::NotActive => {
            return Some(Block::new(
                "small_pool",
                "not_active",
                format!("the previous replacement for {signature} is not ACTIVE yet"),
            ));
        }
        LastReplacement::ActiveSince(time) => {
            (time, "too_short", "has not been ACTIVE long enough")
        }
        LastReplacement::None(time) => (time, "ended", "ended without a machine"),
    };
    let due = presence.due(from, wait);
    (now < due).then(|| {
        Block::new(
            "small_pool",
            cause,
            format!("the previous replacement for {signature} {words}"),
        )
        .until(due)
    })
}

//! Guards: what may stop an action of our own choosing. Each is a pure function of present facts.

mod breakers;
mod presence;
mod silence;
#[cfg(test)]
mod tests;

use std::time::Duration;

use navarch_model::Time;

pub use breakers::{
    LastReplacement, is_widespread, launch_breaker, quiet_from, repair_breaker, small_pool,
};
pub use presence::Presence;
pub use silence::{Silence, silence};

/// Why an action is not taken now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The guard's name, as in configuration, metrics and `explain`.
    pub guard: &'static str,
    /// Which of the guard's reasons it is, in one word: another one is told anew, while the same
    /// one with other numbers is not.
    pub cause: &'static str,
    /// The facts and the limit, in words.
    pub reason: String,
    /// When it is worth looking again, in fleet time; none means when a fact changes.
    pub until: Option<Time>,
}

impl Block {
    /// A block that ends when a fact changes.
    pub fn new(guard: &'static str, cause: &'static str, reason: impl Into<String>) -> Self {
        Self {
            guard,
            cause,
            reason: reason.into(),
            until: None,
        }
    }

    /// The same, worth looking at again at `time`.
    #[must_use]
    pub fn until(mut self, time: Time) -> Self {
        self.until = Some(time);
        self
    }

    /// The same, with more words.
    #[must_use]
    pub fn adding(mut self, words: &str) -> Self {
        self.reason.push_str(words);
        self
    }
}

/// `first` doubled `times` times, at most `limit`.
pub fn doubled(first: Duration, times: u32, limit: Duration) -> Duration {
    first
        .saturating_mul(1_u32.checked_shl(times.min(31)).unwrap_or(u32::MAX))
        .min(limit)
}

/// What a budget is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// One pool, by its name.
    Pool(&'a str),
    /// Every pool.
    Fleet,
}

impl std::fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pool(name) => write!(f, "pool {name}"),
            Self::Fleet => f.write_str("the fleet"),
        }
    }
}

/// The machines that a budget is a share of: those that are meant to be there. A machine that is
/// being replaced and its replacement are one, also while both are alive: of `asked` machines with
/// `staying` that are not drained and `repairing` that are drained to be replaced, a replacement
/// fills a place that counts already.
pub fn budget_base(staying: usize, repairing: usize, asked: usize) -> usize {
    (staying + repairing).min(asked.max(staying))
}

/// A budget of disruptions: `taken` of `slots` are in use in `scope`.
pub fn budget(scope: Scope<'_>, taken: usize, slots: usize) -> Option<Block> {
    if slots == 0 {
        let reason = format!("the budget of {scope} is 0: no disruption is allowed");
        return Some(Block::new("budget", "never", reason));
    }
    let cause = match scope {
        Scope::Pool(_) => "pool",
        Scope::Fleet => "fleet",
    };
    (taken >= slots).then(|| {
        Block::new(
            "budget",
            cause,
            format!("{taken} of {slots} disruptions of {scope} are under way"),
        )
    })
}

/// The size limit: one more machine must leave at most `max` plus `surge` possibly alive.
pub fn size(alive: usize, max: usize, surge: usize) -> Option<Block> {
    (alive >= max + surge).then(|| {
        Block::new(
            "size",
            "full",
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
        "low",
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
            "rate",
            format!("{launches} launches within the last hour; the limit is {limit}"),
        );
        match first {
            Some(first) => block.until(first + Duration::from_secs(3600)),
            None => block,
        }
    })
}

/// The memory of refusals: an offering rests until `retry_at`, and `words` say why.
pub fn offering_rest(words: &str, retry_at: Option<Time>, now: Time) -> Option<Block> {
    let at = retry_at.filter(|at| now < *at)?;
    Some(Block::new("offering_rest", "refused", words).until(at))
}

/// The least age at which a machine is given up to shrink a pool; repairs do not ask.
pub fn minimum_life(created: Time, life: Duration, now: Time) -> Option<Block> {
    let old_enough = created + life;
    (now < old_enough).then(|| {
        Block::new(
            "minimum_life",
            "young",
            "the machine is too young to let it go",
        )
        .until(old_enough)
    })
}

/// How long a node that beats may be without a full report: so many intervals. A node that fell
/// silent right after a report must be found silent before it is taken for one that beats and does
/// not report, for silence alone destroys nothing.
pub fn stale_limit(
    check_interval: Duration,
    intervals: u32,
    heartbeat_interval: Duration,
    heartbeat_timeout: Duration,
) -> Duration {
    let told_silent = check_interval + heartbeat_interval + heartbeat_timeout;
    (check_interval * intervals).max(told_silent)
}

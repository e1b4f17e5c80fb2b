//! How long what happened is kept.

use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long and how much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// An event goes when its last repeat is older than this, and when so are those before it: only
    /// the beginning of the record goes, and who reads it by sequence sees where it begins.
    pub events_age: Duration,
    /// The oldest events go while all records together take more than this.
    pub events_bytes: u64,
    /// A closed incident that left memory goes when it closed longer ago than this. The same
    /// holds for nodes, instances and commands that ended.
    pub records_age: Duration,
    /// The most records of each kind that one call removes. Higher holds up commits for longer,
    /// lower takes more commits.
    pub batch: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            events_age: 90 * DAY,
            events_bytes: 1 << 30,
            records_age: 365 * DAY,
            batch: 200,
        }
    }
}

/// What one call removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use = "`more` says whether to call again"]
pub struct Pruned {
    /// How many events.
    pub events: usize,
    /// How many nodes, instances, incidents and commands.
    pub records: usize,
    /// Whether another call would remove more.
    pub more: bool,
}

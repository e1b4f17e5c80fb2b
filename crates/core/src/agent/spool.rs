//! The spool: facts that no control plane has taken yet, within a limit.

use std::collections::VecDeque;

use navarch_model::{HealthEventType, HealthWatchSystem};

use crate::input::Fact;

/// The watch of the fact that tells a loss.
const LOSS_WATCH: &str = "spool";

/// How much a spool keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolLimits {
    /// Bytes, roughly as they are stored.
    pub bytes: usize,
}

impl Default for SpoolLimits {
    fn default() -> Self {
        Self {
            bytes: 64 * 1024 * 1024,
        }
    }
}

/// A fact that is kept, with its place in the order of facts.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Counts the facts of this machine, over restarts.
    pub place: u64,
    /// The fact.
    pub fact: Fact,
}

/// What a spool lost and has not told yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Facts that went because it was full.
    pub shed: u64,
    /// Facts that the control plane refused.
    pub refused: u64,
}

/// How a spool changed between two calls of [`Spool::take_changes`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The facts that came are those above this place.
    pub above: u64,
    /// The places, up to that one, whose facts went.
    pub gone: Vec<u64>,
}

/// Facts in the order they happened. Over the limit the oldest repeats go first, never the first
/// of a fault; what was lost is counted and becomes a fact itself.
#[derive(Debug, Clone, Default)]
pub struct Spool {
    limits: SpoolLimits,
    kept: VecDeque<Kept>,
    bytes: usize,
    next_place: u64,
    /// The highest place that was noted, and what went of the noted ones since.
    noted: u64,
    gone: Vec<u64>,
    lost: u64,
    refused: u64,
}

impl Spool {
    /// An empty spool.
    pub fn new(limits: SpoolLimits) -> Self {
        Self {
            limits,
            next_place: 1,
            ..Self::default()
        }
    }

    /// A spool with what an earlier agent kept, in order.
    pub fn load(limits: SpoolLimits, kept: Vec<Kept>) -> Self {
        let mut spool = Self::new(limits);
        for kept in kept {
            spool.next_place = spool.next_place.max(kept.place + 1);
            spool.bytes += size(&kept.fact);
            spool.kept.push_back(kept);
        }
        spool.shed(0);
        spool
    }

    /// The spool with what an earlier agent lost and had not told.
    #[must_use]
    pub fn with_losses(mut self, losses: Losses) -> Self {
        self.lost = self.lost.saturating_add(losses.shed);
        self.refused = self.refused.saturating_add(losses.refused);
        self.tell_losses();
        self
    }

    /// What was lost and is not told yet.
    pub const fn losses(&self) -> Losses {
        Losses {
            shed: self.lost,
            refused: self.refused,
        }
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many facts are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// What is kept, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Kept> {
        self.kept.iter()
    }

    /// What is kept above a place, in order.
    pub fn above(&self, place: u64) -> impl Iterator<Item = &Kept> {
        let from = self.kept.partition_point(|kept| kept.place <= place);
        self.kept.range(from..)
    }

    /// What came and went since the last call. Nothing is noted before the first one, so that a
    /// spool that nobody writes down does not grow.
    pub fn take_changes(&mut self) -> Changes {
        let above = std::mem::replace(&mut self.noted, self.next_place.saturating_sub(1));
        Changes {
            above,
            gone: std::mem::take(&mut self.gone),
        }
    }

    /// Keeps one more fact. What has a place up to `under_way` is being sent, and not shed.
    pub(crate) fn push(&mut self, fact: Fact, under_way: u64) {
        self.bytes += size(&fact);
        self.kept.push_back(Kept {
            place: self.next_place,
            fact,
        });
        self.next_place += 1;
        self.shed(under_way);
    }

    /// The first facts, at most `limit`.
    pub(crate) fn first(&self, limit: usize) -> impl Iterator<Item = &Kept> {
        self.kept.iter().take(limit)
    }

    /// A report with the facts at these places was taken: they go.
    pub(crate) fn taken(&mut self, places: &[u64]) {
        for place in places {
            self.remove(*place);
        }
        self.tell_losses();
    }

    /// The control plane will never take the fact at this place: it goes, and is counted.
    pub(crate) fn refused(&mut self, place: u64) {
        // A loss that cannot be told is not told again, or it would never end.
        if let Some(kept) = self.remove(place)
            && kept.fact.watch != LOSS_WATCH
        {
            self.refused = self.refused.saturating_add(1);
        }
        self.tell_losses();
    }

    /// Places rise, so that one is found by halves.
    fn remove(&mut self, place: u64) -> Option<Kept> {
        let at = self.kept.binary_search_by_key(&place, |kept| kept.place);
        self.remove_at(at.ok()?)
    }

    fn remove_at(&mut self, at: usize) -> Option<Kept> {
        let kept = self.kept.remove(at)?;
        if kept.place <= self.noted {
            self.gone.push(kept.place);
        }
        self.bytes = self.bytes.saturating_sub(size(&kept.fact));
        Some(kept)
    }

    /// Once everything else was told, what was lost is.
    fn tell_losses(&mut self) {
        if self.kept.is_empty() && (self.lost, self.refused) != (0, 0) {
            let (lost, refused) = (self.lost, self.refused);
            (self.lost, self.refused) = (0, 0);
            self.push(loss(lost, refused), 0);
        }
    }

    /// Brings the spool back within its limit, without the facts that are being sent.
    fn shed(&mut self, under_way: u64) {
        let sent = self.kept.partition_point(|kept| kept.place <= under_way);
        while self.bytes > self.limits.bytes && self.kept.len() > sent.max(1) {
            // The oldest fact of which an earlier one says the same kind of thing; if every one is
            // the first of its kind, the newest goes, for what began is what must be told.
            let repeat = (sent.max(1)..self.kept.len()).find(|at| {
                let kind = kind(&self.kept[*at].fact);
                self.kept
                    .iter()
                    .take(*at)
                    .any(|earlier| self::kind(&earlier.fact) == kind)
            });
            if self
                .remove_at(repeat.unwrap_or(self.kept.len() - 1))
                .is_some()
            {
                self.lost = self.lost.saturating_add(1);
            }
        }
    }
}

/// What makes two facts repeats of one another.
fn kind(
    fact: &Fact,
) -> (
    Option<i32>,
    HealthEventType,
    HealthWatchSystem,
    Option<&String>,
) {
    (
        fact.gpu,
        fact.event_type,
        fact.system,
        fact.metrics.get("xid_code"),
    )
}

/// A loss is itself a fact.
fn loss(lost: u64, refused: u64) -> Fact {
    let shed = format!("{lost} repeated events were lost because the spool was full");
    let rejected = format!("{refused} events were refused by the control plane");
    Fact {
        watch: LOSS_WATCH.to_owned(),
        metrics: [(
            "events_lost".to_owned(),
            lost.saturating_add(refused).to_string(),
        )]
        .into(),
        message: match (lost, refused) {
            (_, 0) => shed,
            (0, _) => rejected,
            _ => format!("{shed}; {rejected}"),
        },
        ..Fact::default()
    }
}

/// The bytes that a fact takes, roughly.
fn size(fact: &Fact) -> usize {
    let metrics: usize = fact
        .metrics
        .iter()
        .map(|(key, value)| key.len() + value.len() + 8)
        .sum();
    128 + fact.message.len() + fact.gpu_uuid.len() + fact.watch.len() + metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xid(gpu: i32, code: u32, happened: i64) -> Fact {
        Fact {
            happened,
            gpu: Some(gpu),
            event_type: HealthEventType::Xid,
            metrics: [("xid_code".to_owned(), code.to_string())].into(),
            ..Fact::default()
        }
    }

    #[test]
    fn over_its_limit_it_sheds_repeats_and_never_the_first_of_a_fault() {
        let room = size(&xid(0, 13, 0)) * 3;
        let mut spool = Spool::new(SpoolLimits { bytes: room });
        spool.push(xid(0, 79, 0), 0);
        for happened in 1..1000 {
            spool.push(xid(1, 13, happened), 0);
        }
        spool.push(xid(2, 48, 1000), 0);
        let kept: Vec<_> = spool
            .iter()
            .map(|kept| (kept.fact.gpu, kept.fact.happened))
            .collect();
        assert_eq!(kept, [(Some(0), 0), (Some(1), 1), (Some(2), 1000)]);
    }

    #[test]
    fn a_loss_becomes_a_fact_once_there_is_room() {
        let mut spool = Spool::new(SpoolLimits {
            bytes: size(&xid(0, 13, 0)),
        });
        spool.push(xid(0, 13, 1), 0);
        spool.push(xid(0, 13, 2), 0);
        let places: Vec<u64> = spool.first(10).map(|kept| kept.place).collect();
        assert_eq!(places, [1]);
        spool.taken(&places);
        let told = spool.first(10).next().expect("the loss");
        assert_eq!(told.fact.metrics["events_lost"], "1");
    }

    #[test]
    fn places_go_on_after_a_restart() {
        let mut spool = Spool::new(SpoolLimits::default());
        spool.push(xid(0, 79, 1), 0);
        let kept: Vec<_> = spool.iter().cloned().collect();
        let mut spool = Spool::load(SpoolLimits::default(), kept);
        spool.push(xid(0, 79, 2), 0);
        assert_eq!(
            spool.iter().map(|kept| kept.place).collect::<Vec<_>>(),
            [1, 2]
        );
    }
}

//! What capacity is asked for, what is delivered, and why the rest is not there.
//!
//! Each pool is counted by itself, and the external nodes together: what one has too much is no
//! help to another. A place that nobody fills has a cause, the machine that left it empty, and the
//! failure since which it is empty.
//!
//! A pool asks for machines, and its offerings may differ in GPUs: a place counts for the GPUs of
//! the node that fills it, or of the node that left it empty.

use std::collections::BTreeMap;
use std::time::Duration;

use navarch_model::{NodeId, PoolName, Time};

use crate::record::Record;

/// Capacity that is asked for and that no node lacks: its machine is bought, boots or was never
/// there.
pub(super) const NOT_THERE: &str = "not there yet";

/// Who asks for capacity: a pool, or the owner of the external nodes.
pub(super) type Asker = Option<PoolName>;

/// A place that is asked for and that no ACTIVE node fills.
#[derive(Debug)]
struct Empty {
    /// The node that left it empty; none for a place that was never filled.
    node: Option<NodeId>,
    cause: &'static str,
    gpus: u64,
    /// When the failure came that emptied it; none where no failure did.
    since: Option<Time>,
}

/// How much is asked for.
#[derive(Debug, Clone, Copy)]
enum Asked {
    /// GPUs, of the owner of external nodes.
    Gpus(u64),
    /// Machines, of a pool.
    Machines(u32),
}

impl Default for Asked {
    fn default() -> Self {
        Self::Gpus(0)
    }
}

/// What one asker asks for and has.
#[derive(Debug, Default)]
struct Group {
    asked: Asked,
    active: u32,
    gpus_active: u64,
    /// Empty places, the oldest first, and those of nodes.
    empty: BTreeMap<u64, Empty>,
    of_node: BTreeMap<NodeId, u64>,
    /// GPUs of the empty places, by cause.
    lost: BTreeMap<&'static str, u64>,
    asked_hours: f64,
    delivered_hours: f64,
}

impl Group {
    /// Machines that are asked for, of a pool.
    const fn target(&self) -> u32 {
        match self.asked {
            Asked::Gpus(_) => 0,
            Asked::Machines(target) => target,
        }
    }

    /// GPUs that are asked for. Where a pool has too many nodes, what is asked for of them has as
    /// many GPUs as they have on average.
    fn gpus_asked(&self) -> u64 {
        match self.asked {
            Asked::Gpus(gpus) => gpus,
            Asked::Machines(target) if self.active > target => {
                self.gpus_active * u64::from(target) / u64::from(self.active)
            }
            Asked::Machines(_) => self.gpus_active + self.lost.values().sum::<u64>(),
        }
    }

    /// The owner of external nodes asks for another number of GPUs.
    fn owner_asks(&mut self, change: impl FnOnce(u64) -> u64) {
        self.asked = Asked::Gpus(change(self.gpus_asked()));
    }

    fn take(&mut self, place: u64) -> Option<Empty> {
        let empty = self.empty.remove(&place)?;
        if let Some(node) = &empty.node {
            self.of_node.remove(node);
        }
        if let Some(lost) = self.lost.get_mut(empty.cause) {
            *lost = lost.saturating_sub(empty.gpus);
        }
        Some(empty)
    }

    fn put(&mut self, place: u64, empty: Empty) {
        *self.lost.entry(empty.cause).or_default() += empty.gpus;
        if let Some(node) = &empty.node {
            self.of_node.insert(node.clone(), place);
        }
        self.empty.insert(place, empty);
    }

    /// The last place that was never filled, or else the oldest.
    fn least_missed(&self) -> Option<u64> {
        let never = self.empty.iter().rev().find(|(_, one)| one.node.is_none());
        never
            .or_else(|| self.empty.iter().next())
            .map(|(at, _)| *at)
    }
}

/// Everything that is asked for, delivered and missed.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    groups: BTreeMap<Asker, Group>,
    /// Numbers the empty places by their age.
    places: u64,
    /// Up to when hours are counted.
    counted: Time,
}

impl Ledger {
    /// Counts hours up to a moment, before something changes. Answers how many they are.
    pub(super) fn count(&mut self, record: &mut Record, now: Time) -> f64 {
        let hours = now.since(self.counted).as_secs_f64() / 3600.0;
        if hours <= 0.0 {
            return 0.0;
        }
        self.counted = now;
        let mut lose = |cause: &str, gpus: u64| match record.lost_gpu_hours.get_mut(cause) {
            Some(lost) => *lost += gpus as f64 * hours,
            None => {
                let lost = gpus as f64 * hours;
                record.lost_gpu_hours.insert(cause.to_owned(), lost);
            }
        };
        for group in self.groups.values_mut() {
            let asked = group.gpus_asked();
            let delivered = group.gpus_active.min(asked);
            group.asked_hours += asked as f64 * hours;
            group.delivered_hours += delivered as f64 * hours;
            let mut rest = asked - delivered;
            record.asked_gpu_hours += asked as f64 * hours;
            record.delivered_gpu_hours += delivered as f64 * hours;
            for (cause, gpus) in &group.lost {
                let lost = rest.min(*gpus);
                rest -= lost;
                if lost > 0 {
                    lose(cause, lost);
                }
            }
            if rest > 0 {
                lose(NOT_THERE, rest);
            }
        }
        hours
    }

    /// GPU-hours that were asked for and delivered, of a pool.
    pub(super) fn hours(&self, pool: &PoolName) -> (f64, f64) {
        self.groups
            .get(&Some(pool.clone()))
            .map_or((0.0, 0.0), |group| {
                (group.asked_hours, group.delivered_hours)
            })
    }

    /// ACTIVE nodes, GPUs of those, and GPUs that are asked for.
    pub(super) fn totals(&self) -> (u32, u64, u64) {
        let groups = self.groups.values();
        groups.fold((0, 0, 0), |(nodes, active, asked), group| {
            (
                nodes + group.active,
                active + group.gpus_active,
                asked + group.gpus_asked(),
            )
        })
    }

    /// The present size of a pool: what is asked for and what takes work.
    pub(super) fn pool(&self, pool: &PoolName) -> (u32, u32) {
        self.groups
            .get(&Some(pool.clone()))
            .map_or((0, 0), |group| (group.target(), group.active))
    }

    /// The owner of external nodes asks for so many more GPUs.
    pub(super) fn owner_asks(&mut self, gpus: u64) {
        let group = self.groups.entry(None).or_default();
        group.owner_asks(|asked| asked + gpus);
    }

    /// The owner no longer asks for an external node, and for its GPUs.
    pub(super) fn owner_dismisses(&mut self, node: &NodeId, gpus: u64) {
        let group = self.groups.entry(None).or_default();
        group.owner_asks(|asked| asked.saturating_sub(gpus));
        if let Some(place) = group.of_node.get(node).copied() {
            group.take(place);
        }
    }

    /// A pool asks for so many machines. What is no longer asked for is not missed, and a place
    /// that was never filled counts for so many GPUs.
    pub(super) fn pool_asks(&mut self, pool: &PoolName, target: u32, gpus_each: u32) {
        let group = self.groups.entry(Some(pool.clone())).or_default();
        group.asked = Asked::Machines(target);
        let missing = target.saturating_sub(group.active) as usize;
        while group.empty.len() > missing {
            let Some(place) = group.least_missed() else {
                break;
            };
            group.take(place);
        }
        while group.empty.len() < missing {
            self.places += 1;
            let gpus = u64::from(gpus_each);
            group.put(
                self.places,
                Empty {
                    node: None,
                    cause: NOT_THERE,
                    gpus,
                    since: None,
                },
            );
        }
    }

    /// A node takes work from now on. It fills the place that it left itself, or that of the node
    /// which it replaces, or the oldest of its pool. Answers how long the failure took that emptied
    /// the place.
    pub(super) fn comes(
        &mut self,
        asker: &Asker,
        node: &NodeId,
        gpus: u64,
        replaces: Option<&NodeId>,
        now: Time,
    ) -> Option<Duration> {
        let group = self.groups.entry(asker.clone()).or_default();
        group.active += 1;
        group.gpus_active += gpus;
        let own = group.of_node.get(node);
        let own = own.or_else(|| group.of_node.get(replaces?)).copied();
        let oldest = || {
            let oldest = group.empty.keys().next();
            oldest.copied().filter(|_| asker.is_some())
        };
        let filled = own.or_else(oldest)?;
        let since = group.take(filled)?.since?;
        Some(now.since(since))
    }

    /// A node that nobody asks for any more takes no work from now on.
    pub(super) fn leaves(&mut self, asker: &Asker, gpus: u64) {
        let group = self.groups.entry(asker.clone()).or_default();
        group.active = group.active.saturating_sub(1);
        group.gpus_active = group.gpus_active.saturating_sub(gpus);
    }

    /// A node takes no work from now on, for a reason, and because of a failure that came when it
    /// says. What a pool has too much of is not missed.
    pub(super) fn goes(
        &mut self,
        asker: &Asker,
        node: &NodeId,
        gpus: u64,
        cause: &'static str,
        since: Option<Time>,
    ) {
        self.leaves(asker, gpus);
        let group = self.groups.entry(asker.clone()).or_default();
        if asker.is_some() && group.active >= group.target() {
            return;
        }
        self.places += 1;
        group.put(
            self.places,
            Empty {
                node: Some(node.clone()),
                cause,
                gpus,
                since,
            },
        );
    }

    /// An external node takes the place of another.
    pub(super) fn replaced(&mut self, old: &NodeId, new: &NodeId) {
        let group = self.groups.entry(None).or_default();
        if let Some(place) = group.of_node.remove(old) {
            if let Some(empty) = group.empty.get_mut(&place) {
                empty.node = Some(new.clone());
            }
            group.of_node.insert(new.clone(), place);
        }
    }

    /// How long failures have taken whose capacity is not back.
    pub(super) fn lacking(&self, now: Time) -> Vec<Duration> {
        let empty = self.groups.values().flat_map(|group| group.empty.values());
        empty
            .filter_map(|one| Some(now.since(one.since?)))
            .collect()
    }
}

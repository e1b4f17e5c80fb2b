//! Figures that several files of a report show, counted once from the record.

use std::collections::BTreeMap;
use std::time::Duration;

use navarch_model::Time;

use crate::record::{Cause, NodeEventKind, NodeRecord, Record, RuleHits, Sample};

/// What was counted.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Figures {
    /// Nodes that registered.
    pub(super) started: u64,
    /// Nodes whose machine never did.
    pub(super) failed_to_start: u64,
    /// Failures by the word of their kind.
    pub(super) by_type: BTreeMap<&'static str, u64>,
    /// Failures by their XID.
    pub(super) by_xid: BTreeMap<u32, u64>,
    /// Failures that another failure caused.
    pub(super) cascading: u64,
    /// Failures that ended while their machine went on.
    pub(super) recoveries: u64,
    /// Failures from which the control plane concluded something.
    pub(super) noticed: u64,
    /// How many nodes were healthy.
    pub(super) healthy: Healthy,
    /// How long failures took capacity away: up to the end of the run where it is not back.
    pub(super) recovery: Percentiles,
    /// Failures whose capacity is not back.
    pub(super) unrecovered: u64,
    /// How long the control plane took to notice a failure that it noticed.
    pub(super) notice: Percentiles,
}

/// How many nodes were healthy.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Healthy {
    /// At most, ever.
    pub(super) peak: u32,
    /// At least, once the start-up was over.
    pub(super) least: u32,
    /// On average, once the start-up was over.
    pub(super) average: f64,
}

/// The shape of a set of durations, by nearest rank; zero where there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Percentiles {
    /// How many there are.
    pub(super) count: u64,
    /// Half of them took at most this long.
    pub(super) p50: Duration,
    /// 90 of 100.
    pub(super) p90: Duration,
    /// 95 of 100.
    pub(super) p95: Duration,
    /// 99 of 100.
    pub(super) p99: Duration,
    /// The longest.
    pub(super) longest: Duration,
}

impl Percentiles {
    fn of(mut spans: Vec<Duration>) -> Self {
        spans.sort_unstable();
        let rank = |percent: usize| {
            let rank = (spans.len() * percent).div_ceil(100).max(1);
            spans.get(rank - 1).copied().unwrap_or_default()
        };
        Self {
            count: spans.len() as u64,
            p50: rank(50),
            p90: rank(90),
            p95: rank(95),
            p99: rank(99),
            longest: rank(100),
        }
    }
}

impl Figures {
    /// Counts.
    pub(super) fn of(record: &Record) -> Self {
        let mut figures = Self {
            healthy: healthy(record),
            recovery: Percentiles::of([&*record.recovery_times, &*record.unrecovered].concat()),
            unrecovered: record.unrecovered.len() as u64,
            ..Self::default()
        };
        for node in record.nodes.values() {
            figures.started += u64::from(node.registered.is_some());
            figures.failed_to_start += u64::from(failed_to_start(node));
            figures.recoveries += u64::from(node.recoveries);
        }
        let mut notices = Vec::new();
        for injection in &record.injections {
            *figures.by_type.entry(injection.kind.word()).or_default() += 1;
            if let Some(xid) = injection.xid {
                *figures.by_xid.entry(xid).or_default() += 1;
            }
            figures.cascading += u64::from(matches!(injection.cause, Cause::Cascade(_)));
            if let Some((at, _)) = &injection.noticed {
                notices.push(at.since(injection.at));
            }
        }
        figures.noticed = notices.len() as u64;
        figures.notice = Percentiles::of(notices);
        figures
    }

    /// The kinds of failures, the most frequent first.
    pub(super) fn types(&self) -> Vec<(&'static str, u64)> {
        by_count(&self.by_type)
    }

    /// The XIDs, the most frequent first.
    pub(super) fn xids(&self) -> Vec<(u32, u64)> {
        by_count(&self.by_xid)
    }
}

/// The most frequent first; of equals the first in order.
fn by_count<K: Copy + Ord>(counts: &BTreeMap<K, u64>) -> Vec<(K, u64)> {
    let mut counts: Vec<(K, u64)> = counts.iter().map(|(key, count)| (*key, *count)).collect();
    counts.sort_by_key(|(key, count)| (std::cmp::Reverse(*count), *key));
    counts
}

fn failed_to_start(node: &NodeRecord) -> bool {
    node.events
        .iter()
        .any(|event| matches!(event.what, NodeEventKind::StartFailed(_)))
}

fn healthy(record: &Record) -> Healthy {
    let running: Vec<u32> = record
        .samples
        .iter()
        .filter(|sample| sample.at >= record.started)
        .map(|sample| sample.healthy)
        .collect();
    let sum: u64 = running.iter().copied().map(u64::from).sum();
    Healthy {
        peak: record.samples.iter().map(|s| s.healthy).max().unwrap_or(0),
        least: running.iter().copied().min().unwrap_or(0),
        average: sum as f64 / running.len().max(1) as f64,
    }
}

/// The fleet at the end of the run; empty for a run that never counted.
pub(super) fn last(record: &Record) -> Sample {
    record.samples.last().cloned().unwrap_or_default()
}

/// The hours from each node's registration until its machine was gone or the run ended.
pub(super) fn node_hours(record: &Record) -> f64 {
    let hours = |node: &NodeRecord| {
        let until: Time = node.ended.unwrap_or(record.ended);
        node.registered
            .map_or(0.0, |from| until.since(from).as_secs_f64() / 3600.0)
    };
    record.nodes.values().map(hours).sum()
}

/// A part of a whole in percent; none of nothing.
pub(super) fn percent(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole * 100.0)
}

/// The rules, the most frequent first; of equals the first in order.
pub(super) fn rules(record: &Record) -> Vec<(&str, &RuleHits)> {
    let rules = record.rules.iter();
    let mut rules: Vec<_> = rules.map(|(name, rule)| (name.as_str(), rule)).collect();
    rules.sort_by_key(|(name, rule)| (std::cmp::Reverse(rule.hits), *name));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let seconds = |list: &[u64]| -> Vec<Duration> {
            list.iter()
                .map(|second| Duration::from_secs(*second))
                .collect()
        };
        let hundred: Vec<u64> = (1..=100).rev().collect();
        let of = Percentiles::of(seconds(&hundred));
        let found = [of.p50, of.p90, of.p95, of.p99, of.longest];
        assert_eq!(found.to_vec(), seconds(&[50, 90, 95, 99, 100]));
        assert_eq!(of.count, 100);

        let one = Percentiles::of(seconds(&[7]));
        assert_eq!([one.p50, one.longest].to_vec(), seconds(&[7, 7]));
        assert_eq!(Percentiles::of(Vec::new()), Percentiles::default());
    }
}

//! How many machines a pool should have: recommendations from its signals, and what limits them.
//!
//! Both are pure functions. [`recommend`] says what the signals call for, with the reason and the
//! inputs; [`decide`] holds that against the bounds, the cooldowns, the windows of stabilisation
//! and the steps of the pool. What is not known never moves a size.

use std::collections::BTreeMap;

use navarch_config::{Autoscaler, Mode, Source, Steps};
use navarch_model::Time;

mod limits;
#[cfg(test)]
mod month_tests;
mod schedule;
mod signals;
#[cfg(test)]
mod tests;
mod trend;

pub use limits::{Decision, Pace, Past, Recent, decide};
pub use trend::{Sample, Trend, trend};

/// What is known of a pool when its size is judged.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The size that is planned for.
    pub current: u32,
    /// Machines whose utilisation is known: ACTIVE nodes that are heard.
    pub serving: u32,
    /// Machines that are asked for and do not run yet.
    pub coming: u32,
    /// Fewest and most machines.
    pub bounds: (u32, u32),
    /// The mean over the GPUs of the machines that serve, in percent; none if nothing is known.
    pub utilization: Option<f64>,
    /// Utilisation over time, the oldest first.
    pub history: &'a [Sample],
    /// What each source said of its queue.
    pub queues: &'a [(Source, Result<f64, String>)],
    /// The wall clock.
    pub wall: Time,
}

/// What a size should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// So many machines.
    Size(u32),
    /// No more than so many machines, and not fewer by this word alone.
    AtMost(u32),
    /// Nothing speaks for another size.
    Keep,
    /// What would have to be known is not: the size holds.
    Unknown,
}

/// What an autoscaler says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recommendation {
    /// The size.
    pub wish: Wish,
    /// Why, in words.
    pub reason: String,
    /// Fewest and most machines now: those of the pool, or of a window of its schedule.
    pub bounds: (u32, u32),
    /// What it was made from.
    pub inputs: BTreeMap<&'static str, String>,
}

impl Recommendation {
    fn new(facts: &Facts<'_>, wish: Wish, reason: impl Into<String>) -> Self {
        Self {
            wish,
            reason: reason.into(),
            bounds: facts.bounds,
            inputs: BTreeMap::new(),
        }
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.inputs.insert(name, value.to_string());
        self
    }

    /// The size that it comes to while `current` is planned for, within its bounds.
    pub fn size(&self, current: u32) -> u32 {
        let wished = match self.wish {
            Wish::Size(size) => size,
            Wish::AtMost(size) => current.min(size),
            Wish::Keep | Wish::Unknown => current,
        };
        within(wished, self.bounds)
    }
}

/// A size within bounds, whatever order they are in.
fn within(size: u32, (min, max): (u32, u32)) -> u32 {
    size.min(max).max(min)
}

/// What the signals of a pool call for.
pub fn recommend(autoscaler: &Autoscaler, step: Steps, facts: &Facts<'_>) -> Recommendation {
    match autoscaler {
        Autoscaler::Reactive {
            scale_up_at,
            scale_down_at,
        } => signals::reactive((*scale_up_at, *scale_down_at), step, facts),
        Autoscaler::Queue {
            jobs_per_node,
            source,
        } => signals::queue(*jobs_per_node, source.as_ref(), facts),
        Autoscaler::Scheduled { schedule, fallback } => {
            schedule::scheduled(schedule, fallback.as_deref(), step, facts)
        }
        Autoscaler::Predictive {
            lookback_window,
            growth_factor,
            scale_up_at,
            target_utilization,
            fallback,
        } => {
            let told = trend::Aims {
                lookback: *lookback_window as usize,
                growth: *growth_factor,
                above: *scale_up_at,
                target: *target_utilization,
            };
            match trend::predictive(&told, facts) {
                Ok(recommendation) => recommendation,
                Err(why) => otherwise(fallback.as_deref(), step, facts, &why),
            }
        }
        Autoscaler::Composite { mode, autoscalers } => composite(*mode, autoscalers, step, facts),
    }
}

/// What the fallback says, and why it was asked.
fn otherwise(
    fallback: Option<&Autoscaler>,
    step: Steps,
    facts: &Facts<'_>,
    why: &str,
) -> Recommendation {
    match fallback {
        Some(fallback) => {
            let mut told = recommend(fallback, step, facts);
            told.reason = format!("{why}; {}: {}", fallback.word(), told.reason);
            told
        }
        None => Recommendation::new(facts, Wish::Keep, why),
    }
}

/// One recommendation of several.
///
/// One that keeps the size is for the fewest machines in mode `max` and for the most in mode `min`,
/// so that it decides nothing there; one that wants no more than some machines decides in `min`. One that does not know counts as the present size: whatever it
/// would have said, `max` may grow without it and `min` may shrink, and nothing else.
fn composite(
    mode: Mode,
    autoscalers: &[Autoscaler],
    step: Steps,
    facts: &Facts<'_>,
) -> Recommendation {
    let told: Vec<Recommendation> = autoscalers
        .iter()
        .map(|autoscaler| recommend(autoscaler, step, facts))
        .collect();
    let unknown = told.iter().any(|one| one.wish == Wish::Unknown);
    let votes = told.iter().map(|one| match (one.wish, mode) {
        (Wish::Keep | Wish::AtMost(_), Mode::Max) => one.bounds.0,
        (Wish::Keep, Mode::Min) => one.bounds.1,
        _ => one.size(facts.current),
    });
    let votes: Vec<u32> = votes.collect();
    // Where none takes a machine by its own word, all together do not either.
    let let_alone = told.iter().all(|one| match one.wish {
        Wish::AtMost(_) | Wish::Keep => one.bounds == facts.bounds,
        Wish::Size(_) | Wish::Unknown => false,
    });
    let most: Vec<u32> = told
        .iter()
        .filter_map(|one| match one.wish {
            Wish::AtMost(size) => Some(size),
            _ => None,
        })
        .collect();
    let extreme = |sizes: &[u32]| match mode {
        Mode::Min => sizes.iter().min().copied(),
        Mode::Max | Mode::Avg => sizes.iter().max().copied(),
    };
    let wish = match mode {
        _ if let_alone => extreme(&most).map_or(Wish::Keep, Wish::AtMost),
        _ if told.iter().all(|one| one.wish == Wish::Unknown) => Wish::Unknown,
        Mode::Max | Mode::Min => extreme(&votes).map_or(Wish::Keep, Wish::Size),
        Mode::Avg if unknown => Wish::Unknown,
        Mode::Avg => {
            let sum: u64 = votes.iter().map(|size| u64::from(*size)).sum();
            let mean = sum.div_ceil(votes.len().max(1) as u64);
            Wish::Size(u32::try_from(mean).unwrap_or(u32::MAX))
        }
    };
    let parts: Vec<String> = autoscalers
        .iter()
        .zip(&told)
        .map(|(autoscaler, one)| match one.wish {
            Wish::Size(_) => {
                let size = one.size(facts.current);
                format!("{} says {size} ({})", autoscaler.word(), one.reason)
            }
            Wish::AtMost(size) => {
                format!("{} says at most {size} ({})", autoscaler.word(), one.reason)
            }
            Wish::Keep => format!("{} says nothing ({})", autoscaler.word(), one.reason),
            Wish::Unknown => format!("{} does not know ({})", autoscaler.word(), one.reason),
        })
        .collect();
    let reason = format!("{} of {}", mode.word(), parts.join(", "));
    let mut all = Recommendation::new(facts, wish, reason);
    for one in told {
        for (name, value) in one.inputs {
            let merged = match all.inputs.remove(name) {
                Some(before) if before != value => format!("{before}, {value}"),
                _ => value,
            };
            all.inputs.insert(name, merged);
        }
    }
    all
}

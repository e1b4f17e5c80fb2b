//! Bounds by the clock on the wall.

use jiff::Timestamp;
use navarch_config::{Autoscaler, Steps, Window};

use super::{Facts, Recommendation, Wish, recommend, within};

/// What the fallback says within the bounds of the first window that holds the moment.
pub(super) fn scheduled(
    schedule: &[Window],
    fallback: Option<&Autoscaler>,
    step: Steps,
    facts: &Facts<'_>,
) -> Recommendation {
    let Ok(now) = Timestamp::from_microsecond(facts.wall.0) else {
        let why = "the wall clock is outside the years of the calendar";
        return Recommendation::new(facts, Wish::Unknown, why);
    };
    let open = schedule.iter().enumerate().find(|(_, one)| one.holds(now));
    let (place, bounds) = match open {
        Some((index, window)) => {
            // A window moves the bounds within those of the pool.
            let min = within(window.min_nodes.unwrap_or(facts.bounds.0), facts.bounds);
            let max = within(window.max_nodes.unwrap_or(facts.bounds.1), facts.bounds);
            let place = format!("window {} ({window}) asks for {min} to {max}", index + 1);
            (place, (min, max.max(min)))
        }
        None => ("outside every window".to_owned(), facts.bounds),
    };
    let inner = Facts {
        bounds,
        ..facts.clone()
    };
    let told = match fallback {
        Some(fallback) => {
            let mut told = recommend(fallback, step, &inner);
            told.reason = format!("{place}; {}: {}", fallback.word(), told.reason);
            // The bounds of a schedule within a schedule are already within these.
            told
        }
        None => Recommendation::new(&inner, Wish::Keep, place),
    };
    let number = open.map_or_else(|| "none".to_owned(), |(index, _)| (index + 1).to_string());
    told.with("window", number)
}

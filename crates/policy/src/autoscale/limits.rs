//! What a recommendation may do now: bounds, cooldowns, stabilisation, steps.

use std::collections::VecDeque;
use std::time::Duration;

use navarch_config::{Paces, Steps};
use navarch_model::Time;

use super::{Recommendation, Wish, within};
use crate::guards::Block;

/// How fast a pool may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Waits after a change: growth waits after growth, shrinking after any change.
    pub cooldown: Paces,
    /// How long a size must have been recommended.
    pub stabilization: Paces,
    /// Most machines that one decision adds or takes.
    pub step: Steps,
}

/// What was recommended lately: the highest and the lowest sizes, as far back as a window reaches.
///
/// It holds at most as many entries as there are different sizes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recent {
    /// Since when recommendations are heard without a break.
    since: Option<Time>,
    /// Falling sizes, each the highest from its moment on.
    highs: VecDeque<(Time, u32)>,
    /// Rising sizes, each the lowest from its moment on.
    lows: VecDeque<(Time, u32)>,
}

impl Recent {
    /// Takes a recommended size. What is older than the window before `now` is forgotten.
    pub fn push(&mut self, size: u32, now: Time, window: Paces) {
        self.since.get_or_insert(now);
        while self.highs.back().is_some_and(|(_, high)| *high <= size) {
            self.highs.pop_back();
        }
        self.highs.push_back((now, size));
        while self.lows.back().is_some_and(|(_, low)| *low >= size) {
            self.lows.pop_back();
        }
        self.lows.push_back((now, size));
        let forget = |entries: &mut VecDeque<(Time, u32)>, window: Duration| {
            while entries
                .front()
                .is_some_and(|(at, _)| now.since(*at) > window)
            {
                entries.pop_front();
            }
        };
        forget(&mut self.highs, window.down);
        forget(&mut self.lows, window.up);
    }

    /// How many entries it holds.
    pub fn entries(&self) -> usize {
        self.highs.len() + self.lows.len()
    }

    /// When a window that ends now is covered.
    fn covered_at(&self, window: Duration, now: Time) -> Time {
        self.since.unwrap_or(now) + window
    }

    fn extreme(
        entries: &VecDeque<(Time, u32)>,
        window: Duration,
        now: Time,
    ) -> Option<&(Time, u32)> {
        entries.iter().find(|entry| now.since(entry.0) < window)
    }
}

/// What a pool remembers of its size.
#[derive(Debug, Clone, Copy)]
pub struct Past<'a> {
    /// When it last rose.
    pub raised: Option<Time>,
    /// When it last fell.
    pub lowered: Option<Time>,
    /// When an operator chose it; none if somebody else did.
    pub chosen: Option<Time>,
    /// What was recommended lately.
    pub recent: &'a Recent,
}

/// What becomes of a recommendation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Another size is asked for.
    Resize {
        /// Machines.
        to: u32,
        /// What of the recommendation is left for later, and why; none if nothing is.
        rest: Option<Block>,
    },
    /// The size stays as it is, as recommended.
    Stay,
    /// Another size is recommended, and something stops it.
    Held(Block),
}

/// Holds a recommendation against the limits of its pool.
///
/// Bounds, those of a window included, move a size at once, unless an operator chose it: then they
/// wait for the cooldown. Beyond them, growth waits for its cooldown and its window, shrinking for
/// both cooldowns and its window, and each goes by steps.
pub fn decide(
    current: u32,
    told: &Recommendation,
    pace: &Pace,
    past: &Past<'_>,
    now: Time,
) -> Decision {
    let base = within(current, told.bounds);
    if let Some(block) = chosen(current, base, pace, past, now) {
        return Decision::Held(block);
    }
    let wanted = told.size(current);
    let moved = match wanted.cmp(&base) {
        std::cmp::Ordering::Equal => Ok((base, unknown(told))),
        std::cmp::Ordering::Greater => grow(base, wanted, pace, past, now),
        std::cmp::Ordering::Less => shrink(base, wanted, pace, past, now),
    };
    let (to, rest) = match moved {
        Ok((to, rest)) => (to, rest),
        Err(block) => (base, Some(block)),
    };
    match rest {
        rest if to != current => Decision::Resize { to, rest },
        Some(block) => Decision::Held(block),
        None => Decision::Stay,
    }
}

/// A signal that is missing holds the size, and the report says so.
fn unknown(told: &Recommendation) -> Option<Block> {
    (told.wish == Wish::Unknown).then(|| Block::new("signals", "unknown", told.reason.clone()))
}

type Moved = Result<(u32, Option<Block>), Block>;

fn grow(base: u32, wanted: u32, pace: &Pace, past: &Past<'_>, now: Time) -> Moved {
    let window = pace.stabilization.up;
    let stable = stable(&past.recent.lows, (past.recent, window), base, wanted, now)?;
    if let Some(block) = cooling(past.raised, pace.cooldown.up, "rose", now) {
        return Err(block);
    }
    let most = pace
        .step
        .up
        .map_or(u32::MAX, |step| base.saturating_add(step.max(1)));
    Ok((stable.min(most), None))
}

fn shrink(base: u32, wanted: u32, pace: &Pace, past: &Past<'_>, now: Time) -> Moved {
    let window = pace.stabilization.down;
    let stable = stable(&past.recent.highs, (past.recent, window), base, wanted, now)?;
    let rest = cooling(past.raised, pace.cooldown.down, "rose", now)
        .into_iter()
        .chain(cooling(past.lowered, pace.cooldown.down, "fell", now))
        .max_by_key(|block| block.until);
    if let Some(block) = rest {
        return Err(block);
    }
    let least = pace
        .step
        .down
        .map_or(0, |step| base.saturating_sub(step.max(1)));
    Ok((stable.max(least), None))
}

/// The size that was recommended all through the window, between `base` and `wanted`.
fn stable(
    entries: &VecDeque<(Time, u32)>,
    (recent, window): (&Recent, Duration),
    base: u32,
    wanted: u32,
    now: Time,
) -> Result<u32, Block> {
    if window.is_zero() {
        return Ok(wanted);
    }
    let held =
        |reason: String, until: Time| Block::new("stabilization", "window", reason).until(until);
    let seconds = window.as_secs_f64();
    let covered = recent.covered_at(window, now);
    if now < covered {
        return Err(held(
            format!(
                "{wanted} machines are recommended; {seconds} s of recommendations have to say so"
            ),
            covered,
        ));
    }
    let Some((at, size)) = Recent::extreme(entries, window, now) else {
        return Ok(wanted);
    };
    // What is between the two sizes moves as far as it was always recommended.
    let reached = if wanted > base {
        (*size).min(wanted).max(base)
    } else {
        (*size).max(wanted).min(base)
    };
    if reached == base {
        return Err(held(
            format!("{wanted} machines are recommended, and {size} were within {seconds} s"),
            *at + window,
        ));
    }
    Ok(reached)
}

/// Why bounds do not move a size yet: an operator chose it a moment ago.
fn chosen(current: u32, base: u32, pace: &Pace, past: &Past<'_>, now: Time) -> Option<Block> {
    let cooldown = match base.cmp(&current) {
        std::cmp::Ordering::Equal => return None,
        std::cmp::Ordering::Greater => pace.cooldown.up,
        std::cmp::Ordering::Less => pace.cooldown.down,
    };
    let chosen = past.chosen?;
    let over = chosen + cooldown;
    (now < over).then(|| {
        let reason = format!(
            "an operator chose the size {} s ago, and {} s have to pass before it moves to {base}",
            now.since(chosen).as_secs(),
            cooldown.as_secs_f64()
        );
        Block::new("cooldown", "chosen", reason).until(over)
    })
}

fn cooling(last: Option<Time>, cooldown: Duration, how: &'static str, now: Time) -> Option<Block> {
    let last = last?;
    let over = last + cooldown;
    (now < over).then(|| {
        let ago = now.since(last).as_secs();
        let reason = format!(
            "the size {how} {ago} s ago, and {} s have to pass",
            cooldown.as_secs_f64()
        );
        Block::new("cooldown", how, reason).until(over)
    })
}

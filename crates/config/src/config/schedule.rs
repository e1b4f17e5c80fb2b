//! When the windows of a schedule are.

use std::fmt;
use std::time::Duration;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Span, Timestamp, Zoned};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::zone::{Cron, Zone};
use crate::duration;

/// A window of time with bounds of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// When it is.
    pub when: When,
    /// Where its clock is.
    pub zone: Zone,
    /// Fewest machines within it; none means the pool's.
    pub min_nodes: Option<u32>,
    /// Most machines within it; none means the pool's.
    pub max_nodes: Option<u32>,
}

/// When a window is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// On some days between two times of the day.
    Days {
        /// The days on which it begins; empty means every day.
        days: Vec<Weekday>,
        /// When it begins.
        start: Clock,
        /// When it ends, on the next day unless it is later than `start`.
        end: Clock,
    },
    /// For some time after each moment of a cron expression.
    Cron {
        /// The moments.
        cron: Cron,
        /// How long after each.
        lasts: Duration,
    },
}

/// From a moment, up to and without another.
pub(crate) type Interval = (Timestamp, Timestamp);

impl Window {
    /// Whether a moment is within the window.
    ///
    /// The clock on the wall decides. Where it is put back, a window that begins in the repeated
    /// hour begins the first time, and one that ends there ends the second time; where it is put
    /// forward, what would begin or end in the hour that is left out does so at the change.
    #[must_use]
    pub fn holds(&self, at: Timestamp) -> bool {
        let local = at.to_zoned(self.zone.rules().clone());
        match &self.when {
            When::Days { .. } => {
                let today = local.date();
                // It is over a day after it began.
                [Some(today), today.yesterday().ok()]
                    .into_iter()
                    .flatten()
                    .filter_map(|date| self.on(date))
                    .any(|(begins, ends)| begins <= at && at < ends)
            }
            When::Cron { cron, lasts } => cron
                .last(&local)
                .is_some_and(|begins| at < ends_after(begins, *lasts)),
        }
    }

    /// The window that begins on a date, if one does.
    fn on(&self, date: Date) -> Option<Interval> {
        let When::Days { days, start, end } = &self.when else {
            return None;
        };
        if !days.is_empty() && !days.contains(&date.weekday()) {
            return None;
        }
        let zone = self.zone.rules();
        let begins = first(zone, start.on(date)?)?;
        let next = if end > start {
            date
        } else {
            date.tomorrow().ok()?
        };
        let ends = last(zone, end.on(next)?)?;
        Some((begins, ends))
    }

    /// The windows that begin from a moment on, at most so many within so many days.
    pub(crate) fn following(&self, from: Timestamp, days: i32, most: usize) -> Vec<Interval> {
        let local = from.to_zoned(self.zone.rules().clone());
        let until = from + SignedDuration::from_hours(24 * i64::from(days));
        match &self.when {
            When::Days { .. } => (0..days)
                .filter_map(|day| local.date().checked_add(Span::new().days(day)).ok())
                .filter_map(|date| self.on(date))
                .filter(|(begins, ends)| begins < ends)
                .take(most)
                .collect(),
            When::Cron { cron, lasts } => {
                let mut found = Vec::new();
                let mut at = local;
                while found.len() < most
                    && let Some(next) = cron.next(&at)
                    && next.timestamp() < until
                {
                    found.push((next.timestamp(), ends_after(next.timestamp(), *lasts)));
                    at = next;
                }
                found
            }
        }
    }
}

fn ends_after(begins: Timestamp, lasts: Duration) -> Timestamp {
    SignedDuration::try_from(lasts)
        .ok()
        .and_then(|lasts| begins.checked_add(lasts).ok())
        .unwrap_or(Timestamp::MAX)
}

/// The first moment at which the clock on the wall shows a time, or the one at which it leaves the
/// time out.
fn first(zone: &TimeZone, at: DateTime) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(at);
    match ambiguous.offset() {
        AmbiguousOffset::Gap { .. } => change(zone, at),
        _ => ambiguous.earlier().ok(),
    }
}

/// The last moment at which the clock on the wall shows a time, or the one at which it leaves the
/// time out.
fn last(zone: &TimeZone, at: DateTime) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(at);
    match ambiguous.offset() {
        AmbiguousOffset::Gap { .. } => change(zone, at),
        _ => ambiguous.later().ok(),
    }
}

/// When the clock is put forward over a time that it leaves out.
fn change(zone: &TimeZone, at: DateTime) -> Option<Timestamp> {
    let after = zone.to_ambiguous_timestamp(at).later().ok()?;
    zone.preceding(after)
        .next()
        .map(|change| change.timestamp())
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.when {
            When::Days { days, start, end } => {
                for day in days {
                    write!(f, "{} ", day_word(*day))?;
                }
                write!(f, "{start} to {end}")?;
            }
            When::Cron { cron, lasts } => {
                write!(f, "{} for {}", cron.text(), duration::compact(*lasts))?;
            }
        }
        write!(f, " {}", self.zone.name())
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.when {
            When::Days { days, start, end } => {
                if !days.is_empty() {
                    let days: Vec<_> = days.iter().copied().map(day_word).collect();
                    map.serialize_entry("days", &days)?;
                }
                map.serialize_entry("start", &start.to_string())?;
                map.serialize_entry("end", &end.to_string())?;
            }
            When::Cron { cron, lasts } => {
                map.serialize_entry("cron", cron.text())?;
                map.serialize_entry("duration", &duration::compact(*lasts))?;
            }
        }
        map.serialize_entry("timezone", self.zone.name())?;
        if let Some(min) = self.min_nodes {
            map.serialize_entry("min_nodes", &min)?;
        }
        if let Some(max) = self.max_nodes {
            map.serialize_entry("max_nodes", &max)?;
        }
        map.end()
    }
}

/// A time of the day in whole minutes, `24:00` included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Clock(u16);

impl Clock {
    /// A time of the day; none if there is no such time.
    #[must_use]
    pub const fn new(hour: u16, minute: u16) -> Option<Self> {
        let whole = hour < 24 && minute < 60 || hour == 24 && minute == 0;
        if whole {
            Some(Self(hour * 60 + minute))
        } else {
            None
        }
    }

    /// Reads `9`, `09:30` or `24:00`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = |part: &str| {
            let sound = matches!(part.len(), 1 | 2) && part.bytes().all(|b| b.is_ascii_digit());
            sound.then(|| part.parse().ok()).flatten()
        };
        match text.split_once(':') {
            None => Self::new(digits(text)?, 0),
            Some((hour, minute)) if minute.len() == 2 => Self::new(digits(hour)?, digits(minute)?),
            Some(_) => None,
        }
    }

    /// What the clock on the wall shows then.
    fn on(self, date: Date) -> Option<DateTime> {
        if self.0 == 24 * 60 {
            return Some(date.tomorrow().ok()?.to_datetime(Time::midnight()));
        }
        let part = |number: u16| i8::try_from(number).ok();
        let time = Time::new(part(self.0 / 60)?, part(self.0 % 60)?, 0, 0).ok()?;
        Some(date.to_datetime(time))
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// The days of the week by their short names, as the file has them.
pub(crate) const DAYS: [(&str, &str, Weekday); 7] = [
    ("mon", "monday", Weekday::Monday),
    ("tue", "tuesday", Weekday::Tuesday),
    ("wed", "wednesday", Weekday::Wednesday),
    ("thu", "thursday", Weekday::Thursday),
    ("fri", "friday", Weekday::Friday),
    ("sat", "saturday", Weekday::Saturday),
    ("sun", "sunday", Weekday::Sunday),
];

fn day_word(day: Weekday) -> &'static str {
    DAYS.iter()
        .find(|(_, _, known)| *known == day)
        .map_or("", |(short, _, _)| short)
}

impl Cron {
    /// The last moment up to one.
    fn last(&self, at: &Zoned) -> Option<Timestamp> {
        let found = self.moments().find_previous_occurrence(at, true).ok()?;
        Some(found.timestamp())
    }

    /// The next moment after one.
    pub(crate) fn next(&self, at: &Zoned) -> Option<Zoned> {
        self.moments().find_next_occurrence(at, false).ok()
    }
}

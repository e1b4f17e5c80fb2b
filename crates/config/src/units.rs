//! Shares of a fleet: percentages, budgets and thresholds, all rounded down.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A share of a whole, from 0 % to 100 %, exact to two decimal places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u32);

impl Percent {
    /// A whole number of percent.
    ///
    /// # Panics
    ///
    /// Panics above 100; in a constant that is a compile error.
    #[must_use]
    pub const fn new(percent: u32) -> Self {
        assert!(percent <= 100, "a percentage is at most 100");
        Self(percent * 100)
    }

    /// The share as a number from 0 to 1.
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// This share of `whole`, rounded down.
    #[must_use]
    pub const fn of(self, whole: usize) -> usize {
        // At most 100 %, so the result is at most `whole`.
        (whole as u128 * self.0 as u128 / 10_000) as usize
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, hundredths) = (self.0 / 100, self.0 % 100);
        match hundredths {
            0 => write!(f, "{whole}%"),
            _ if hundredths % 10 == 0 => write!(f, "{whole}.{}%", hundredths / 10),
            _ => write!(f, "{whole}.{hundredths:02}%"),
        }
    }
}

/// Why a text is not a percentage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PercentError {
    /// The text is not a number, at most two decimal places, and a percent sign.
    #[error("write a percentage such as 10% or 2.5%, with at most two decimal places")]
    Malformed,
    /// The value is above 100 %.
    #[error("a percentage is at most 100%")]
    TooLarge,
}

impl FromStr for Percent {
    type Err = PercentError;

    fn from_str(text: &str) -> Result<Self, PercentError> {
        let number = text.strip_suffix('%').ok_or(PercentError::Malformed)?;
        let number = number.trim_end_matches(' ');
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 2 {
            return Err(PercentError::Malformed);
        }
        let whole: u32 = whole.parse().map_err(|_| PercentError::TooLarge)?;
        let hundredths: u32 = format!("{fraction:0<2}")
            .parse()
            .map_err(|_| PercentError::Malformed)?;
        match whole
            .checked_mul(100)
            .and_then(|whole| whole.checked_add(hundredths))
        {
            Some(total) if total <= 10_000 => Ok(Self(total)),
            _ => Err(PercentError::TooLarge),
        }
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A number of bytes, written with a binary unit such as `256MiB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// The units of sizes, the largest first, each with its power of two.
const SIZE_UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, power) in SIZE_UNITS {
            if self.0 > 0 && self.0.trailing_zeros() >= power {
                return write!(f, "{}{unit}", self.0 >> power);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// A text that is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a whole number and KiB, MiB, GiB or TiB, such as 256MiB, or 0")]
pub struct SizeError;

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        if text == "0" {
            return Ok(Self(0));
        }
        let found = SIZE_UNITS
            .iter()
            .find_map(|(unit, power)| Some((text.strip_suffix(unit)?, *power)));
        let (number, power) = found.ok_or(SizeError)?;
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(SizeError);
        }
        let number: u64 = number.parse().map_err(|_| SizeError)?;
        number.checked_mul(1 << power).map(Self).ok_or(SizeError)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How many nodes may be disrupted at once: a count, or a share of the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// A fixed number of nodes; 0 means never.
    Count(u32),
    /// A share, rounded down and at least 1; 0 % means never.
    Share(Percent),
}

impl Budget {
    /// The number of slots in a group of `nodes`.
    #[must_use]
    pub const fn slots(self, nodes: usize) -> usize {
        match self {
            Self::Count(count) => count as usize,
            Self::Share(Percent(0)) => 0,
            Self::Share(share) => {
                let slots = share.of(nodes);
                if slots == 0 { 1 } else { slots }
            }
        }
    }

    /// True when the budget forbids every disruption, whatever the size of the group.
    #[must_use]
    pub const fn is_never(self) -> bool {
        matches!(self, Self::Count(0) | Self::Share(Percent(0)))
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Share(share) => write!(f, "{share}"),
        }
    }
}

impl Serialize for Budget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u32(*count),
            Self::Share(share) => share.serialize(serializer),
        }
    }
}

/// A number of nodes that grows with the group: the larger of a count and a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Threshold {
    /// The number for small groups.
    pub count: u32,
    /// The share for large groups, rounded down.
    pub percent: Percent,
}

impl Threshold {
    /// `max(count, percent of nodes)`.
    #[must_use]
    pub const fn of(self, nodes: usize) -> usize {
        let (count, share) = (self.count as usize, self.percent.of(nodes));
        if count > share { count } else { share }
    }
}

impl Threshold {
    /// At least `count` and at least `percent` of `nodes`: a share of half a node needs a whole
    /// one, so it is rounded up.
    #[must_use]
    pub const fn at_least(self, nodes: usize) -> usize {
        let share = (nodes as u128 * self.percent.0 as u128).div_ceil(10_000) as usize;
        let count = self.count as usize;
        if count > share { count } else { share }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "max({}, {})", self.count, self.percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentages_read_and_write() {
        for (text, shown, of_1000) in [
            ("0%", "0%", 0),
            ("10%", "10%", 100),
            ("10 %", "10%", 100),
            ("2.5%", "2.5%", 25),
            ("0.05%", "0.05%", 0),
            ("0.1%", "0.1%", 1),
            ("33.33%", "33.33%", 333),
            ("99.99%", "99.99%", 999),
            ("100%", "100%", 1000),
            ("100.00%", "100%", 1000),
        ] {
            let percent: Percent = text.parse().unwrap();
            assert_eq!(percent.to_string(), shown);
            assert_eq!(percent.of(1000), of_1000, "{text}");
        }
        assert_eq!(Percent::new(100).of(usize::MAX), usize::MAX);
        for text in [
            "", "%", "10", "-1%", "+1%", "1e1%", ".5%", "5.%", "1.234%", "x%",
        ] {
            assert_eq!(
                text.parse::<Percent>(),
                Err(PercentError::Malformed),
                "{text}"
            );
        }
        for text in ["100.01%", "101%", "4294967296%", "99999999999999999999%"] {
            assert_eq!(
                text.parse::<Percent>(),
                Err(PercentError::TooLarge),
                "{text}"
            );
        }
    }

    #[test]
    fn at_least_half_of_an_odd_number_is_more_than_half() {
        let witnesses = Threshold {
            count: 2,
            percent: Percent::new(50),
        };
        for (nodes, least, over) in [
            (0, 2, 2),
            (3, 2, 2),
            (4, 2, 2),
            (5, 3, 2),
            (8, 4, 4),
            (9, 5, 4),
        ] {
            assert_eq!(witnesses.at_least(nodes), least, "{nodes}");
            assert_eq!(witnesses.of(nodes), over, "{nodes}");
        }
    }

    #[test]
    fn sizes_read_and_write() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("1KiB", Some(1 << 10)),
            ("256MiB", Some(256 << 20)),
            ("3GiB", Some(3 << 30)),
            ("16777215TiB", Some(16_777_215 << 40)),
            ("16777216TiB", None),
            ("256", None),
            ("256MB", None),
            ("256 MiB", None),
            ("-1MiB", None),
            ("+1MiB", None),
            ("1.5GiB", None),
            ("MiB", None),
            ("", None),
            ("99999999999999999999KiB", None),
        ] {
            let read: Option<Size> = text.parse().ok();
            assert_eq!(read.map(|size| size.0), bytes, "{text}");
            if let Some(size) = read {
                assert_eq!(size.to_string(), text);
            }
        }
        assert_eq!(Size(1025).to_string(), "1025");
        assert_eq!(Size(1 << 50).to_string(), "1024TiB");
    }

    #[test]
    fn budgets_round_down_to_at_least_one() {
        let ten = Budget::Share(Percent::new(10));
        for (nodes, slots) in [
            (0, 1),
            (1, 1),
            (9, 1),
            (10, 1),
            (19, 1),
            (20, 2),
            (100_000, 10_000),
        ] {
            assert_eq!(ten.slots(nodes), slots, "{nodes}");
        }
        for never in [Budget::Count(0), Budget::Share(Percent::new(0))] {
            assert_eq!(never.slots(1000), 0);
            assert!(never.is_never());
        }
        assert_eq!(Budget::Count(3).slots(1), 3);
        assert!(!Budget::Count(3).is_never());
    }

    #[test]
    fn thresholds_take_the_larger() {
        let threshold = Threshold {
            count: 3,
            percent: Percent::new(10),
        };
        for (nodes, limit) in [(0, 3), (29, 3), (39, 3), (40, 4), (200, 20)] {
            assert_eq!(threshold.of(nodes), limit, "{nodes}");
        }
        assert_eq!(threshold.to_string(), "max(3, 10%)");
    }

    proptest! {
        #[test]
        fn shares_stay_within_the_whole(hundredths in 0u32..=10_000, nodes in any::<usize>()) {
            let percent = Percent(hundredths);
            prop_assert!(percent.of(nodes) <= nodes);
            prop_assert_eq!(percent.to_string().parse::<Percent>(), Ok(percent));
        }
    }
}

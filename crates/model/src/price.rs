//! What a machine costs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Micro-dollars in a dollar.
const DOLLAR: u64 = 1_000_000;

/// The price of one machine, in micro-dollars per hour: exact, so that equal prices are equal and
/// a limit means what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Price(u64);

/// Why a text is not a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// It has another form.
    #[error("write dollars per hour in decimal digits, such as 12.50")]
    Malformed,
    /// It has more digits after the point than a price keeps.
    #[error("a price has at most six digits after the point")]
    TooFine,
    /// It is larger than any machine costs.
    #[error("a price is at most 1000000 dollars per hour")]
    TooLarge,
}

impl Price {
    /// The largest price that any edge accepts: a million dollars per hour.
    pub const MAX: Self = Self(1_000_000 * DOLLAR);

    /// A price in micro-dollars per hour; at most [`Price::MAX`].
    pub const fn from_micros(micros: u64) -> Self {
        if micros > Self::MAX.0 {
            Self::MAX
        } else {
            Self(micros)
        }
    }

    /// The price in micro-dollars per hour.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// The price as a plain decimal number of dollars, as configuration files have it.
    pub fn decimal(self) -> String {
        let (dollars, rest) = (self.0 / DOLLAR, self.0 % DOLLAR);
        let digits = format!("{rest:06}");
        let digits = digits.trim_end_matches('0');
        format!("{dollars}.{digits:0<2}")
    }
}

impl std::str::FromStr for Price {
    type Err = PriceError;

    fn from_str(text: &str) -> Result<Self, PriceError> {
        let text = text.strip_prefix('$').unwrap_or(text);
        let (dollars, rest) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(dollars) || !digits(rest) {
            return Err(PriceError::Malformed);
        }
        let rest = rest.trim_end_matches('0');
        if rest.len() > 6 {
            return Err(PriceError::TooFine);
        }
        let rest: u64 = format!("{rest:0<6}")
            .parse()
            .map_err(|_| PriceError::Malformed)?;
        let dollars: u64 = dollars.parse().map_err(|_| PriceError::TooLarge)?;
        let micros = dollars
            .checked_mul(DOLLAR)
            .and_then(|micros| micros.checked_add(rest))
            .filter(|micros| *micros <= Self::MAX.0)
            .ok_or(PriceError::TooLarge)?;
        Ok(Self(micros))
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("${}/h", self.decimal()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_exactly_and_shown_as_people_write_them() {
        for (text, micros, shown) in [
            ("0", 0, "$0.00/h"),
            ("12", 12_000_000, "$12.00/h"),
            ("12.5", 12_500_000, "$12.50/h"),
            ("$2.49", 2_490_000, "$2.49/h"),
            ("0.000001", 1, "$0.000001/h"),
            ("0.1000000000", 100_000, "$0.10/h"),
            ("1000000", 1_000_000_000_000, "$1000000.00/h"),
        ] {
            let price: Price = text
                .parse()
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(price.micros(), micros, "{text}");
            assert_eq!(price.to_string(), shown, "{text}");
            assert_eq!(price.decimal().parse(), Ok(price), "{text}");
        }
    }

    #[test]
    fn what_is_no_price_is_refused() {
        for (text, error) in [
            ("", PriceError::Malformed),
            (".5", PriceError::Malformed),
            ("5.", PriceError::Malformed),
            ("-1", PriceError::Malformed),
            ("+1", PriceError::Malformed),
            ("1e3", PriceError::Malformed),
            ("NaN", PriceError::Malformed),
            ("1,5", PriceError::Malformed),
            ("1.2.3", PriceError::Malformed),
            ("٣", PriceError::Malformed),
            ("0.0000001", PriceError::TooFine),
            ("1000000.000001", PriceError::TooLarge),
            ("99999999999999999999999", PriceError::TooLarge),
        ] {
            assert_eq!(text.parse::<Price>(), Err(error), "{text:?}");
        }
    }
}

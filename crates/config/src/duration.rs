//! Durations in Go's notation, the one that the configuration file uses: `500ms`, `1m30s`, `1h`.

use std::fmt::Write as _;
use std::time::Duration;

const NANOSECOND: u64 = 1;
const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// The longest duration of the notation, about 292 years: its reader counts nanoseconds in 63 bits.
pub const MAX: Duration = Duration::from_nanos(i64::MAX as u64);

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text does not follow the grammar.
    #[error("write numbers with units, such as 30s, 1m30s or 500ms")]
    Malformed,
    /// A number has no unit behind it.
    #[error("the unit is missing: write {0}s for seconds, or use ms, m or h")]
    MissingUnit(String),
    /// The unit is not one of the six.
    #[error("unknown unit {0:?}: use ns, us, ms, s, m or h")]
    UnknownUnit(String),
    /// The value is below zero.
    #[error("a duration cannot be negative")]
    Negative,
    /// The value does not fit.
    #[error("the longest duration is {}", compact(MAX))]
    TooLong,
}

/// Reads a duration with exactly the grammar of Go's `time.ParseDuration`: an optional sign, then
/// numbers with an optional fraction and a unit each (`ns`, `us`, `µs`, `ms`, `s`, `m`, `h`), or a
/// bare `0`.
///
/// # Errors
///
/// Fails for text outside the grammar, for values below zero and for values above [`MAX`].
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(DurationError::Malformed);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (value, after) = term(rest)?;
        rest = after;
        total = total
            .checked_add(value)
            .filter(|total| *total <= 1 << 63)
            .ok_or(DurationError::TooLong)?;
    }
    if negative && total > 0 {
        return Err(DurationError::Negative);
    }
    if total > i64::MAX as u64 {
        return Err(DurationError::TooLong);
    }
    Ok(Duration::from_nanos(total))
}

/// Writes a duration as short as the notation allows: `10m`, `1m30s`, `1.5s`, `0s`. Reading the
/// result gives the same duration, cut at [`MAX`].
#[must_use]
pub fn compact(duration: Duration) -> String {
    write(duration, true)
}

/// Writes a duration as Go's `Duration.String` does: `10m0s`, `1h0m0s`, `1.5s`, `0s`.
#[must_use]
pub fn go_string(duration: Duration) -> String {
    write(duration, false)
}

/// Serializes a duration field in its compact form; for `#[serde(serialize_with = ...)]`.
///
/// # Errors
///
/// Fails when the serializer does.
pub fn serialize<S: serde::Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&compact(*duration))
}

/// Reads one number with its unit, in nanoseconds, and gives the text behind it.
fn term(text: &str) -> Result<(u64, &str), DurationError> {
    let (whole, after_whole) = leading_integer(text)?;
    let has_whole = after_whole.len() != text.len();
    let mut rest = after_whole;
    let mut fraction: u64 = 0;
    let mut scale: f64 = 1.0;
    let mut has_fraction = false;
    if let Some(digits) = rest.strip_prefix('.') {
        (fraction, scale, rest) = leading_fraction(digits);
        has_fraction = rest.len() != digits.len();
    }
    if !has_whole && !has_fraction {
        return Err(DurationError::Malformed);
    }
    let number = &text[..text.len() - rest.len()];
    let unit_end = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let unit = match &rest[..unit_end] {
        "" => return Err(DurationError::MissingUnit(number.to_owned())),
        "ns" => NANOSECOND,
        "us" | "\u{b5}s" | "\u{3bc}s" => MICROSECOND,
        "ms" => MILLISECOND,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        other => return Err(DurationError::UnknownUnit(other.to_owned())),
    };
    let mut value = whole
        .checked_mul(unit)
        .filter(|value| *value <= 1 << 63)
        .ok_or(DurationError::TooLong)?;
    if fraction > 0 {
        // The reference computes the fraction in floating point; the same steps give the same value.
        value += (fraction as f64 * (unit as f64 / scale)) as u64;
        if value > 1 << 63 {
            return Err(DurationError::TooLong);
        }
    }
    Ok((value, &rest[unit_end..]))
}

fn leading_integer(text: &str) -> Result<(u64, &str), DurationError> {
    let mut value: u64 = 0;
    let end = digits_end(text);
    for digit in text[..end].bytes() {
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(u64::from(digit - b'0')))
            .filter(|value| *value <= 1 << 63)
            .ok_or(DurationError::TooLong)?;
    }
    Ok((value, &text[end..]))
}

/// Digits beyond the precision of 63 bits are read and dropped, as in the reference.
fn leading_fraction(text: &str) -> (u64, f64, &str) {
    let mut value: u64 = 0;
    let mut scale = 1.0;
    let mut full = false;
    let end = digits_end(text);
    for digit in text[..end].bytes() {
        if full {
            continue;
        }
        match value
            .checked_mul(10)
            .and_then(|value| value.checked_add(u64::from(digit - b'0')))
            .filter(|next| *next <= 1 << 63 && value <= (i64::MAX as u64) / 10)
        {
            Some(next) => {
                value = next;
                scale *= 10.0;
            }
            None => full = true,
        }
    }
    (value, scale, &text[end..])
}

fn digits_end(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len())
}

fn write(duration: Duration, compact: bool) -> String {
    let nanos = u64::try_from(duration.min(MAX).as_nanos()).expect("MAX fits in 63 bits");
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < SECOND {
        let (unit, name) = if nanos < MICROSECOND {
            (NANOSECOND, "ns")
        } else if nanos < MILLISECOND {
            (MICROSECOND, "\u{b5}s")
        } else {
            (MILLISECOND, "ms")
        };
        return format!("{}{name}", decimal(nanos, unit));
    }
    let (hours, minutes, rest) = (nanos / HOUR, nanos % HOUR / MINUTE, nanos % MINUTE);
    let mut text = String::new();
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if minutes > 0 || (hours > 0 && !compact) {
        let _ = write!(text, "{minutes}m");
    }
    if rest > 0 || !compact {
        let _ = write!(text, "{}s", decimal(rest, SECOND));
    }
    text
}

/// `value / unit` with as many decimal places as it needs.
fn decimal(value: u64, unit: u64) -> String {
    let whole = value / unit;
    let places = unit.ilog10() as usize;
    let fraction = format!("{:0places$}", value % unit);
    match fraction.trim_end_matches('0') {
        "" => whole.to_string(),
        fraction => format!("{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_go_reads() {
        let cases: &[(&str, u64)] = &[
            ("0", 0),
            ("+0", 0),
            ("-0", 0),
            ("-0s", 0),
            ("0s", 0),
            ("5s", 5 * SECOND),
            ("+5s", 5 * SECOND),
            ("30s", 30 * SECOND),
            ("1478s", 1478 * SECOND),
            ("5.0s", 5 * SECOND),
            ("5.6s", 5_600_000_000),
            ("5.s", 5 * SECOND),
            (".5s", 500_000_000),
            ("1.004s", 1_004_000_000),
            ("1.0040s", 1_004_000_000),
            ("100.00100s", 100_001_000_000),
            ("10ns", 10),
            ("11us", 11_000),
            ("12\u{b5}s", 12_000),
            ("12\u{3bc}s", 12_000),
            ("13ms", 13_000_000),
            ("14s", 14 * SECOND),
            ("15m", 15 * MINUTE),
            ("16h", 16 * HOUR),
            ("3h30m", 3 * HOUR + 30 * MINUTE),
            ("1m30s", 90 * SECOND),
            ("4m10.5s", 250_500_000_000),
            ("30s1m", 90 * SECOND),
            (
                "1h2m3s4ms5us6ns",
                HOUR + 2 * MINUTE + 3 * SECOND + 4_005_006,
            ),
            ("39h9m14.425s", 39 * HOUR + 9 * MINUTE + 14_425_000_000),
            ("52763797000ns", 52_763_797_000),
            ("0.3333333333333333333h", 20 * MINUTE),
            ("9223372036854775807ns", i64::MAX as u64),
            ("9223372036854775.807us", i64::MAX as u64),
            ("9223372036s854ms775us807ns", i64::MAX as u64),
            ("0.9223372036854775807h", 3_320_413_933_267),
            ("0.100000000000000000000h", 6 * MINUTE),
            (
                "0.830103483285477580700h",
                49 * MINUTE + 48 * SECOND + 372_539_827,
            ),
        ];
        for (text, nanos) in cases {
            assert_eq!(parse(text), Ok(Duration::from_nanos(*nanos)), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses_and_negative_values() {
        use DurationError::*;
        let cases: &[(&str, DurationError)] = &[
            ("", Malformed),
            ("3", MissingUnit("3".into())),
            ("1.5", MissingUnit("1.5".into())),
            ("1m30", MissingUnit("30".into())),
            ("-", Malformed),
            ("s", Malformed),
            (".", Malformed),
            ("-.", Malformed),
            (".s", Malformed),
            ("+.s", Malformed),
            ("--1s", Malformed),
            (" 1s", Malformed),
            ("1 s", UnknownUnit(" s".into())),
            ("1s ", UnknownUnit("s ".into())),
            ("1d", UnknownUnit("d".into())),
            ("1S", UnknownUnit("S".into())),
            ("1sec", UnknownUnit("sec".into())),
            ("1h-5m", UnknownUnit("h-".into())),
            ("\u{663}s", Malformed),
            ("1\0s", UnknownUnit("\0s".into())),
            ("-5s", Negative),
            ("-1.5h", Negative),
            ("9223372036854775808ns", TooLong),
            ("9223372036854775810ns", TooLong),
            ("9223372036854775.808us", TooLong),
            ("9223372036854ms775us808ns", TooLong),
            ("3000000h", TooLong),
            ("99999999999999999999s", TooLong),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(error.clone()), "{text:?}");
        }
    }

    #[test]
    fn writes_both_forms() {
        let cases: &[(u64, &str, &str)] = &[
            (0, "0s", "0s"),
            (1, "1ns", "1ns"),
            (1_100, "1.1\u{b5}s", "1.1\u{b5}s"),
            (2_200_000, "2.2ms", "2.2ms"),
            (500_000_000, "500ms", "500ms"),
            (3_300_000_000, "3.3s", "3.3s"),
            (30 * SECOND, "30s", "30s"),
            (MINUTE, "1m", "1m0s"),
            (90 * SECOND, "1m30s", "1m30s"),
            (HOUR, "1h", "1h0m0s"),
            (HOUR + SECOND, "1h1s", "1h0m1s"),
            (HOUR + MINUTE, "1h1m", "1h1m0s"),
            (
                4 * HOUR + 5 * MINUTE + 6_001_000_000,
                "4h5m6.001s",
                "4h5m6.001s",
            ),
            (
                i64::MAX as u64,
                "2562047h47m16.854775807s",
                "2562047h47m16.854775807s",
            ),
        ];
        for (nanos, short, long) in cases {
            let duration = Duration::from_nanos(*nanos);
            assert_eq!(compact(duration), *short);
            assert_eq!(go_string(duration), *long);
        }
        assert_eq!(parse(&compact(Duration::MAX)), Ok(MAX));
    }

    proptest! {
        #[test]
        fn written_durations_read_back(nanos in prop_oneof![0..=i64::MAX as u64, 0..10 * SECOND]) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&compact(duration)), Ok(duration));
            prop_assert_eq!(parse(&go_string(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "\\PC*", near in "[-+]?([0-9]{0,21}\\.?[0-9]{0,21}(ns|us|ms|s|m|h|x|)){0,4}") {
            let _ = parse(&text);
            let _ = parse(&near);
        }
    }
}

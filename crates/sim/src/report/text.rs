//! Times, durations and texts as the files of a report have them.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use navarch_model::{Repair, Time};
use navarch_policy::catalogue::{self, Facts};

/// 2000-01-01T00:00:00Z, where simulated time begins, in microseconds of Unix time.
const EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;

/// A moment of the run, as RFC 3339 in UTC with as many decimals as it has.
pub(super) fn time(at: Time) -> String {
    timestamp(at).to_string()
}

/// A moment of the run, as RFC 3339 in UTC and always in milliseconds, so that lines align.
pub(super) fn time_in_line(at: Time) -> String {
    format!("{:.3}", timestamp(at))
}

fn timestamp(at: Time) -> Timestamp {
    // A time that no calendar has, such as `Time::NEVER`, shows as the last one that there is.
    Timestamp::from_microsecond(EPOCH_MICROSECONDS.saturating_add(at.0)).unwrap_or(Timestamp::MAX)
}

/// The seconds since the start of the run.
pub(super) fn seconds(at: Time) -> f64 {
    at.since(Time(0)).as_secs_f64()
}

/// A duration in whole nanoseconds.
pub(super) fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// A duration for people: to the tenth of a second below a minute, else to the second.
pub(super) fn span(span: Duration) -> String {
    let step = if span < Duration::from_secs(60) {
        100
    } else {
        1000
    };
    let rounded = (span.as_millis() + step / 2) / step * step;
    navarch_config::duration::compact(Duration::from_millis(
        u64::try_from(rounded).unwrap_or(u64::MAX),
    ))
}

/// A text on one line: what moves a cursor, rings a bell or ends a line is written out.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_control) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_control(c) {
            // Writing to a string does not fail.
            let _ = write!(plain, "{}", c.escape_default());
        } else {
            plain.push(c);
        }
    }
    Cow::Owned(plain)
}

/// Whether a character is a control character or changes the direction of what follows.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What the catalogue says that an XID costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// At least the reset of a GPU.
    Fatal,
    /// At most a new start of the application.
    Recoverable,
    /// It does not say.
    Unknown,
}

impl Severity {
    /// That of a code by itself, without the driver's words.
    pub(super) fn of(xid: u32) -> Self {
        match catalogue::advise(xid, &Facts::default()).repair {
            Some(Repair::None | Repair::RestartApp) => Self::Recoverable,
            Some(Repair::ResetGpu | Repair::Reboot | Repair::Replace) => Self::Fatal,
            None => Self::Unknown,
        }
    }

    /// Its word in tables.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Fatal => "fatal",
            Self::Recoverable => "recoverable",
            Self::Unknown => "unknown",
        }
    }
}

//! Times.

use std::time::Duration;

use buffa::MessageField;
use buffa_types::google::protobuf::Timestamp;
use navarch_model::{Stamp, Time};

use crate::check::{FIRST_SECOND, LAST_SECOND};

/// Microseconds since 1970, as a message.
pub fn timestamp_of_micros(micros: i64) -> Timestamp {
    let seconds = micros.div_euclid(1_000_000);
    let micros = i32::try_from(micros.rem_euclid(1_000_000)).unwrap_or_default();
    Timestamp {
        seconds: seconds.clamp(FIRST_SECOND, LAST_SECOND),
        nanos: micros * 1000,
        ..Default::default()
    }
}

/// The wall time of a moment.
pub fn timestamp(stamp: Stamp) -> Timestamp {
    timestamp_of_micros(stamp.wall.0)
}

/// The year 1: how the contract writes a time that never was, where the field must be there.
pub fn never() -> Timestamp {
    Timestamp {
        seconds: FIRST_SECOND,
        nanos: 0,
        ..Default::default()
    }
}

/// A moment that may not have been.
pub(super) fn optional<P: buffa::ProtoBox<Timestamp>>(
    stamp: Option<Stamp>,
) -> MessageField<Timestamp, P> {
    MessageField::from(stamp.map(timestamp))
}

/// The wall time of a moment of fleet time; none for never. `now` ties the two axes together.
pub(super) fn of_fleet_time<P: buffa::ProtoBox<Timestamp>>(
    at: Option<Time>,
    now: Stamp,
) -> MessageField<Timestamp, P> {
    MessageField::from(at.filter(|at| *at < Time::NEVER).map(|at| {
        let ahead = at.0.saturating_sub(now.core.0);
        timestamp_of_micros(now.wall.0.saturating_add(ahead))
    }))
}

/// A span in milliseconds; 0 for none.
pub(super) fn milliseconds(span: Option<Duration>) -> i64 {
    span.map_or(0, |span| {
        i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_timestamps_within_the_range_of_the_contract() {
        for (micros, seconds, nanos) in [
            (0, 0, 0),
            (1, 0, 1000),
            (-1, -1, 999_999_000),
            (1_771_000_000_250_000, 1_771_000_000, 250_000_000),
            (i64::MAX, LAST_SECOND, 775_807_000),
            (i64::MIN, FIRST_SECOND, 224_192_000),
        ] {
            let made = timestamp_of_micros(micros);
            assert_eq!((made.seconds, made.nanos), (seconds, nanos), "{micros}");
        }
    }

    #[test]
    fn fleet_time_is_shown_as_far_from_now_as_it_is() {
        let now = Stamp {
            core: Time(5_000_000),
            wall: Time(1_000_000_000),
        };
        let shown: MessageField<Timestamp> = of_fleet_time(Some(Time(7_000_000)), now);
        assert_eq!(shown.seconds, 1002);
        let never: MessageField<Timestamp> = of_fleet_time(Some(Time::NEVER), now);
        assert!(never.is_unset());
    }
}

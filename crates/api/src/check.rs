//! The checks that every request goes through, each with the words of its refusal.

use std::collections::BTreeMap;
use std::fmt::Display;

use buffa::EnumValue;
use buffa_types::google::protobuf::Timestamp;
use navarch_model::ids::{IdError, check_id};

use crate::ApiError;
use crate::limits::{
    DEFAULT_PAGE, MAX_ENTRIES, MAX_GPUS, MAX_KEY_BYTES, MAX_MESSAGE_BYTES, MAX_NAME_BYTES,
    MAX_PAGE, MAX_REASON_BYTES, MAX_VALUE_BYTES,
};

/// The first second that a timestamp may name, 0001-01-01T00:00:00Z.
pub(crate) const FIRST_SECOND: i64 = -62_135_596_800;
/// The last one, 9999-12-31T23:59:59Z.
pub(crate) const LAST_SECOND: i64 = 253_402_300_799;

fn invalid(field: impl Display, problem: impl Display) -> ApiError {
    ApiError::invalid_argument(format!("{field} {problem}"))
}

/// An id that must be there.
pub(crate) fn id<T>(
    field: impl Display,
    text: &str,
    parse: fn(&str) -> Result<T, IdError>,
) -> Result<T, ApiError> {
    let id = parse(text).map_err(|problem| invalid(&field, problem))?;
    // Clouds name machines by paths, so a slash is legal; these parts are not, since whoever puts
    // the id into a URL would lose them.
    if text.contains('.')
        && let Some(dots) = text.split('/').find(|part| matches!(*part, "." | ".."))
    {
        return Err(invalid(
            field,
            format_args!("has the part {dots:?}, which means another place in a path; rename it"),
        ));
    }
    Ok(id)
}

/// An id that may be absent.
pub(crate) fn optional_id<T>(
    field: impl Display,
    text: &str,
    parse: fn(&str) -> Result<T, IdError>,
) -> Result<Option<T>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    id(field, text, parse).map(Some)
}

/// A text in the form of an id that is kept as text, such as a machine id. May be empty.
pub(crate) fn plain(field: impl Display, text: String) -> Result<String, ApiError> {
    if !text.is_empty() {
        check_id(&text).map_err(|problem| invalid(field, problem))?;
    }
    Ok(text)
}

fn bounded(field: impl Display, text: &str, limit: usize) -> Result<(), ApiError> {
    if text.len() > limit {
        let length = text.len();
        return Err(invalid(
            field,
            format_args!("is {length} bytes long; the limit is {limit}"),
        ));
    }
    match text.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, c)) => Err(invalid(
            field,
            format_args!("has the control character {c:?} at byte {at}; remove it"),
        )),
        None => Ok(()),
    }
}

/// A name that is free text. May be empty.
pub(crate) fn name(field: impl Display, text: String) -> Result<String, ApiError> {
    bounded(field, &text, MAX_NAME_BYTES)?;
    Ok(text)
}

/// An operator's words. May be empty.
pub(crate) fn reason(field: impl Display, text: String) -> Result<String, ApiError> {
    bounded(field, &text, MAX_REASON_BYTES)?;
    Ok(text)
}

/// A machine's words: what is too long is cut, what no terminal should see is replaced.
pub(crate) fn message(text: String) -> String {
    cleaned(text, MAX_MESSAGE_BYTES)
}

/// A text of at most `limit` bytes without control characters, line breaks and tabs aside.
pub(crate) fn cleaned(mut text: String, limit: usize) -> String {
    let mark = "\u{2026}";
    if text.len() > limit {
        let end = text.floor_char_boundary(limit - mark.len());
        text.truncate(end);
        text.push_str(mark);
    }
    let bad = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(bad) {
        // The replacement may be longer than what it replaces; a space is not.
        text = text.replace(bad, " ");
    }
    text
}

/// Keys and values, each short, keys not empty.
pub(crate) fn entries(
    field: impl Display,
    map: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ApiError> {
    count(&field, map.len(), MAX_ENTRIES)?;
    for (key, value) in &map {
        if key.is_empty() {
            return Err(invalid(&field, "has an empty key; name it"));
        }
        let shown: String = key.chars().take(40).collect();
        bounded(
            format_args!("{field} has the key {shown:?}, which"),
            key,
            MAX_KEY_BYTES,
        )?;
        bounded(format_args!("{field}[{key:?}]"), value, MAX_VALUE_BYTES)?;
    }
    Ok(map)
}

/// That a list is no longer than allowed.
pub(crate) fn count(field: impl Display, count: usize, limit: usize) -> Result<(), ApiError> {
    if count > limit {
        return Err(invalid(
            field,
            format_args!("has {count} entries; the limit is {limit}"),
        ));
    }
    Ok(())
}

/// The position of a GPU.
pub(crate) fn gpu_index(field: impl Display, index: i32) -> Result<i32, ApiError> {
    match usize::try_from(index) {
        Ok(position) if position < MAX_GPUS => Ok(index),
        _ => Err(invalid(
            field,
            format_args!("is {index}; it must be between 0 and {}", MAX_GPUS - 1),
        )),
    }
}

/// The position of a GPU, or -1 for the node as a whole.
pub(crate) fn gpu_or_node(field: impl Display, index: i32) -> Result<Option<i32>, ApiError> {
    match usize::try_from(index) {
        Ok(position) if position < MAX_GPUS => Ok(Some(index)),
        _ if index == -1 => Ok(None),
        _ => Err(invalid(
            field,
            format_args!(
                "is {index}; it must be between 0 and {}, or -1 for the whole node",
                MAX_GPUS - 1
            ),
        )),
    }
}

/// A word of a vocabulary, by its number.
pub(crate) fn word<E, W: Copy>(
    field: impl Display,
    value: &EnumValue<E>,
    all: &[W],
    describe: fn(W) -> (i32, &'static str),
) -> Result<W, ApiError>
where
    E: buffa::Enumeration,
{
    let number = value.to_i32();
    all.iter()
        .copied()
        .find(|word| describe(*word).0 == number)
        .ok_or_else(|| {
            let legal = all
                .iter()
                .map(|word| {
                    let (number, name) = describe(*word);
                    format!("{number} ({name})")
                })
                .collect::<Vec<_>>()
                .join(", ");
            invalid(
                field,
                format_args!("has the number {number}, which means nothing; use {legal}"),
            )
        })
}

/// A point in time in microseconds since 1970, as a machine's clock says; none if it does not say.
pub(crate) fn timestamp(
    field: impl Display,
    timestamp: Option<&Timestamp>,
) -> Result<Option<i64>, ApiError> {
    let Some(timestamp) = timestamp else {
        return Ok(None);
    };
    if !(FIRST_SECOND..=LAST_SECOND).contains(&timestamp.seconds)
        || !(0..1_000_000_000).contains(&timestamp.nanos)
    {
        return Err(invalid(
            field,
            format_args!(
                "is {} s and {} ns after 1970; it must be between the years 1 and 9999, with less \
                 than a second of nanoseconds",
                timestamp.seconds, timestamp.nanos
            ),
        ));
    }
    Ok(Some(
        timestamp.seconds * 1_000_000 + i64::from(timestamp.nanos) / 1000,
    ))
}

/// How many entries a page has.
pub(crate) fn page(field: impl Display, limit: u32) -> Result<usize, ApiError> {
    match usize::try_from(limit) {
        Ok(0) => Ok(DEFAULT_PAGE),
        Ok(limit) if limit <= MAX_PAGE => Ok(limit),
        _ => Err(invalid(
            field,
            format_args!("is {limit}; the limit is {MAX_PAGE}, ask for the rest page by page"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use navarch_model::{HealthEventType, NodeId};

    use super::*;
    use crate::wire;

    fn refusal<T: std::fmt::Debug>(checked: Result<T, ApiError>) -> String {
        let error = checked.expect_err("it is refused");
        assert_eq!(error.code, crate::Code::InvalidArgument);
        error.message
    }

    #[test]
    fn ids_say_which_field_and_what_is_allowed() {
        let long = "n".repeat(10_000);
        for (text, expected) in [
            ("", "node_id is required"),
            (&long, "node_id is 10000 bytes long; the limit is 256"),
            (
                "a\u{1b}[2J",
                "node_id has the character '\\u{1b}' at byte 1; use letters, digits and \
                 . _ - : @ + /",
            ),
            (
                "projects/../n1",
                "node_id has the part \"..\", which means another place in a path; rename it",
            ),
        ] {
            assert_eq!(refusal(id("node_id", text, NodeId::parse)), expected);
        }
        for text in [
            "projects/p/zones/z/instances/n1",
            "aws:///us-east-1a/i-0",
            "...",
            "a..b",
        ] {
            let taken = id("node_id", text, NodeId::parse).expect(text);
            assert_eq!(taken.as_str(), text);
        }
    }

    #[test]
    fn numbers_of_vocabularies_name_the_legal_ones() {
        let describe = |word: HealthEventType| (word.number(), word.short());
        let value = EnumValue::<wire::HealthEventType>::from(99);
        let message = refusal(word(
            "events[3].event_type",
            &value,
            HealthEventType::ALL,
            describe,
        ));
        assert!(
            message.starts_with(
                "events[3].event_type has the number 99, which means nothing; use 0 (unknown), \
                 1 (xid), "
            ),
            "{message}"
        );
        let value = EnumValue::<wire::HealthEventType>::from(9);
        let known = word("x", &value, HealthEventType::ALL, describe);
        assert_eq!(known, Ok(HealthEventType::EccDbe));
    }

    #[test]
    fn timestamps_are_read_within_the_years_1_to_9999() {
        for (seconds, nanos, micros) in [
            (0, 0, Some(0)),
            (-1, 999_999_999, Some(-1)),
            (FIRST_SECOND, 0, Some(-62_135_596_800_000_000)),
            (LAST_SECOND, 999_999_999, Some(253_402_300_799_999_999)),
            (FIRST_SECOND - 1, 0, None),
            (LAST_SECOND + 1, 0, None),
            (i64::MAX, 0, None),
            (i64::MIN, 0, None),
            (0, -1, None),
            (0, 1_000_000_000, None),
        ] {
            let stamp = Timestamp {
                seconds,
                nanos,
                ..Default::default()
            };
            match (timestamp("at", Some(&stamp)), micros) {
                (Ok(read), Some(_)) => assert_eq!(read, micros, "{seconds} {nanos}"),
                (refused, None) => assert!(
                    refusal(refused).contains("between the years 1 and 9999"),
                    "{seconds} {nanos}"
                ),
                (refused, Some(_)) => panic!("{seconds} {nanos}: {refused:?}"),
            }
        }
        assert_eq!(timestamp("at", None), Ok(None));
    }

    #[test]
    fn texts_are_short_and_cannot_move_a_cursor() {
        for (text, part) in [
            ("x".repeat(257), "is 257 bytes long; the limit is 256"),
            (
                "a\u{7}".to_owned(),
                "has the control character '\\u{7}' at byte 1",
            ),
            (
                "a\nb".to_owned(),
                "has the control character '\\n' at byte 1",
            ),
        ] {
            assert!(
                refusal(name("region", text.clone())).contains(part),
                "{text:?}"
            );
        }
        assert_eq!(
            name("region", "\u{e9}u west".to_owned()),
            Ok("\u{e9}u west".to_owned())
        );
        assert_eq!(message("a\u{1b}[31mb\tc\nd".to_owned()), "a [31mb\tc\nd");
        let cut = message("\u{e9}".repeat(4000));
        assert!(
            cut.len() <= MAX_MESSAGE_BYTES && cut.ends_with("\u{e9}\u{2026}"),
            "{cut}"
        );
    }

    #[test]
    fn entries_are_few_and_short_with_keys() {
        let map = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let many = (0..65).map(|n| (format!("k{n}"), String::new())).collect();
        for (entries_in, part) in [
            (map("", "x"), "labels has an empty key"),
            (map(&"k".repeat(257), "x"), "is 257 bytes long"),
            (
                map("k", &"v".repeat(1025)),
                "labels[\"k\"] is 1025 bytes long",
            ),
            (map("k", "v\0"), "labels[\"k\"] has the control character"),
            (many, "labels has 65 entries; the limit is 64"),
        ] {
            assert!(
                refusal(entries("labels", entries_in.clone())).contains(part),
                "{entries_in:?}"
            );
        }
        assert!(entries("labels", map("topology.io/zone", "a=b c")).is_ok());
    }
}

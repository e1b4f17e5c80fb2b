//! The facts that rules look at: one event, and how its metrics get their types.

use std::collections::BTreeMap;

use navarch_model::{HealthEventType, HealthWatchSystem};

use crate::catalogue::{self, Advice, Facts, RecoveryAction};

/// The fields of `event` in a condition.
pub(super) const FIELDS: [&str; 9] = [
    "timestamp",
    "gpu_index",
    "gpu_uuid",
    "system",
    "event_type",
    "watch",
    "message",
    "metrics",
    "repair",
];

/// What `event.system` is in a condition, before the short name in capitals.
const SYSTEM_PREFIX: &str = "DCGM_HEALTH_WATCH_";

/// One raw fact from an agent.
#[derive(Debug, Clone, Copy)]
pub struct EventFacts<'a> {
    /// When it happened, in microseconds of Unix time.
    pub timestamp: i64,
    /// The GPU's index; -1 for the node as a whole.
    pub gpu_index: i32,
    /// The GPU's UUID; empty if it is not known.
    pub gpu_uuid: &'a str,
    /// The part of the machine.
    pub system: HealthWatchSystem,
    /// The kind of fact. A quiet reading of a watch has neither kind nor system.
    pub event_type: HealthEventType,
    /// The watch that made the reading, for example `temperature`; empty if none did.
    pub watch: &'a str,
    /// The agent's words.
    pub message: &'a str,
    /// The readings, as they came over the wire.
    pub metrics: &'a BTreeMap<String, String>,
}

/// A metric with the type that its text has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Metric<'a> {
    /// A whole number of 64 bits.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// Anything else.
    Text(&'a str),
}

impl<'a> Metric<'a> {
    /// The type of a metric's text: int, else float, else bool, else text, each in Go's spelling.
    pub fn of(text: &'a str) -> Self {
        if let Ok(int) = text.parse() {
            return Self::Int(int);
        }
        if let Ok(float) = text.parse::<f64>()
            // Go refuses numbers that are too large; only the words for infinity give it.
            && (float.is_finite() || !text.bytes().any(|byte| byte.is_ascii_digit()))
        {
            return Self::Float(float);
        }
        match text {
            "t" | "T" | "TRUE" | "true" | "True" => Self::Bool(true),
            "f" | "F" | "FALSE" | "false" | "False" => Self::Bool(false),
            _ => Self::Text(text),
        }
    }
}

impl EventFacts<'_> {
    /// A whole number among the metrics.
    fn number(&self, name: &str) -> Option<u32> {
        let text = self.metrics.get(name)?;
        text.parse().ok().or_else(|| catalogue::nvlink5::hex(text))
    }

    /// The XID of an `xid` event: its metric `xid_code`.
    pub fn xid_code(&self) -> Option<u32> {
        if self.event_type != HealthEventType::Xid {
            return None;
        }
        self.number("xid_code")
    }

    /// What the driver or the catalogue says that this event asks for; none where neither speaks.
    ///
    /// The metrics `recovery_action`, `intr_info`, `error_status`, `driver_version` and `sxid_fatal`
    /// count beside the code, `xid_code` or `sxid_code`.
    pub fn advice(&self) -> Option<Advice> {
        let facts = || Facts {
            recovery_action: self
                .metrics
                .get("recovery_action")
                .and_then(|text| RecoveryAction::from_text(text)),
            intr_info: self.number("intr_info"),
            error_status: self.number("error_status"),
            driver_branch: self
                .metrics
                .get("driver_version")
                .and_then(|version| version.split('.').next()?.parse().ok()),
            switch_fatal: self
                .metrics
                .get("sxid_fatal")
                .map(|text| Metric::of(text) == Metric::Bool(true)),
            message: self.message,
        };
        if let Some(code) = self.xid_code() {
            return Some(catalogue::advise(code, &facts()));
        }
        if let Some(code) = self.number("sxid_code") {
            return Some(catalogue::advise_sxid(code, &facts()));
        }
        if self.metrics.contains_key("recovery_action") {
            return catalogue::advise_driver(&facts());
        }
        None
    }
}

/// The name of a part of the machine in a condition.
pub(super) const fn system_name(system: HealthWatchSystem) -> &'static str {
    match system {
        HealthWatchSystem::Unknown => "DCGM_HEALTH_WATCH_UNKNOWN",
        HealthWatchSystem::Pcie => "DCGM_HEALTH_WATCH_PCIE",
        HealthWatchSystem::Nvlink => "DCGM_HEALTH_WATCH_NVLINK",
        HealthWatchSystem::Pmu => "DCGM_HEALTH_WATCH_PMU",
        HealthWatchSystem::Mcu => "DCGM_HEALTH_WATCH_MCU",
        HealthWatchSystem::Mem => "DCGM_HEALTH_WATCH_MEM",
        HealthWatchSystem::Sm => "DCGM_HEALTH_WATCH_SM",
        HealthWatchSystem::Inforom => "DCGM_HEALTH_WATCH_INFOROM",
        HealthWatchSystem::Thermal => "DCGM_HEALTH_WATCH_THERMAL",
        HealthWatchSystem::Power => "DCGM_HEALTH_WATCH_POWER",
        HealthWatchSystem::Driver => "DCGM_HEALTH_WATCH_DRIVER",
        HealthWatchSystem::Nvswitch => "DCGM_HEALTH_WATCH_NVSWITCH",
    }
}

/// An event that owns its texts: what `navarch policy test` makes of its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFactsOwned {
    /// When it happened, in microseconds of Unix time.
    pub timestamp: i64,
    /// The GPU's index; -1 for the node as a whole.
    pub gpu_index: i32,
    /// The GPU's UUID.
    pub gpu_uuid: String,
    /// The part of the machine.
    pub system: HealthWatchSystem,
    /// The kind of fact.
    pub event_type: HealthEventType,
    /// The watch that made the reading.
    pub watch: String,
    /// The agent's words.
    pub message: String,
    /// The readings.
    pub metrics: BTreeMap<String, String>,
}

impl Default for EventFactsOwned {
    fn default() -> Self {
        Self {
            timestamp: 0,
            gpu_index: -1,
            gpu_uuid: String::new(),
            system: HealthWatchSystem::Unknown,
            event_type: HealthEventType::Unknown,
            watch: String::new(),
            message: String::new(),
            metrics: BTreeMap::new(),
        }
    }
}

impl EventFactsOwned {
    /// The event, borrowed.
    pub fn facts(&self) -> EventFacts<'_> {
        EventFacts {
            timestamp: self.timestamp,
            gpu_index: self.gpu_index,
            gpu_uuid: &self.gpu_uuid,
            system: self.system,
            event_type: self.event_type,
            watch: &self.watch,
            message: &self.message,
            metrics: &self.metrics,
        }
    }
}

/// Makes an event from keys and values. Keys that are not fields of an event are metrics, with or
/// without `metrics.` in front; fields that are not given have the values of an event about the
/// node as a whole at the beginning of Unix time.
///
/// # Errors
///
/// Fails, naming the key and the legal values, for a word outside its vocabulary, a number or a
/// time that is none, an empty key, and a key given twice.
pub fn parse_event(pairs: &[(&str, &str)]) -> Result<EventFactsOwned, String> {
    let mut event = EventFactsOwned::default();
    for (at, &(key, value)) in pairs.iter().enumerate() {
        if pairs[..at].iter().any(|(earlier, _)| *earlier == key) {
            return Err(format!("{key} is given twice"));
        }
        match key {
            "" => return Err(format!("\"={value}\" has no key: write key=value")),
            "timestamp" => event.timestamp = read_time(value)?,
            "gpu_index" => {
                event.gpu_index = value.parse().map_err(|_| {
                    format!(
                        "gpu_index {value:?} is not a whole number, such as 3, or -1 for the node"
                    )
                })?;
            }
            "gpu_uuid" => value.clone_into(&mut event.gpu_uuid),
            "system" => event.system = read_system(value)?,
            "event_type" => event.event_type = read_event_type(value)?,
            "watch" => value.clone_into(&mut event.watch),
            "message" => value.clone_into(&mut event.message),
            "metrics" => {
                return Err("metrics are given one by one, for example xid_code=79".to_owned());
            }
            "repair" => {
                return Err(
                    "repair is concluded from the event: give recovery_action for the driver's word"
                        .to_owned(),
                );
            }
            _ => {
                let name = key.strip_prefix("metrics.").unwrap_or(key);
                event.metrics.insert(name.to_owned(), value.to_owned());
            }
        }
    }
    Ok(event)
}

fn read_event_type(word: &str) -> Result<HealthEventType, String> {
    HealthEventType::from_short(word)
        .or_else(|| HealthEventType::from_name(word))
        .ok_or_else(|| {
            let known: Vec<_> = HealthEventType::ALL.iter().map(|it| it.short()).collect();
            format!(
                "unknown event_type {word:?}: use one of {}",
                known.join(", ")
            )
        })
}

fn read_system(word: &str) -> Result<HealthWatchSystem, String> {
    let short = word
        .strip_prefix(SYSTEM_PREFIX)
        .map_or_else(|| word.to_owned(), str::to_ascii_lowercase);
    HealthWatchSystem::from_short(&short)
        .or_else(|| HealthWatchSystem::from_name(word))
        .ok_or_else(|| {
            let known: Vec<_> = HealthWatchSystem::ALL.iter().map(|it| it.short()).collect();
            format!("unknown system {word:?}: use one of {}", known.join(", "))
        })
}

const SECONDS_PER_DAY: i64 = 86_400;
const MICROS_PER_SECOND: i64 = 1_000_000;

/// `micros` of Unix time as RFC 3339 in UTC, whole seconds: `2026-03-01T12:00:00Z`. Years outside
/// 1 to 9999 do not exist there; the nearest that does is shown.
pub(super) fn rfc3339(micros: i64) -> String {
    // 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z.
    let seconds = micros
        .div_euclid(MICROS_PER_SECOND)
        .clamp(-62_135_596_800, 253_402_300_799);
    let (days, of_day) = (
        seconds.div_euclid(SECONDS_PER_DAY),
        seconds.rem_euclid(SECONDS_PER_DAY),
    );
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar:
/// eras of 400 years, years that begin in March.
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// A time as people write it: RFC 3339 in UTC, or seconds of Unix time.
fn read_time(text: &str) -> Result<i64, String> {
    let wrong = || {
        format!(
            "timestamp {text:?} is neither a time in UTC such as 2026-03-01T12:00:00Z nor seconds of Unix time"
        )
    };
    if let Ok(seconds) = text.parse::<i64>() {
        return seconds.checked_mul(MICROS_PER_SECOND).ok_or_else(wrong);
    }
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse().ok())?
    };
    let shape = bytes.len() == 20
        && [
            (4, b'-'),
            (7, b'-'),
            (10, b'T'),
            (13, b':'),
            (16, b':'),
            (19, b'Z'),
        ]
        .iter()
        .all(|&(at, byte)| bytes[at] == byte);
    let read = || -> Option<i64> {
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let days = days_from_civil(year, month, day);
        (civil_from_days(days) == (year, month, day)).then_some(
            (days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second) * MICROS_PER_SECOND,
        )
    };
    shape.then(read).flatten().ok_or_else(wrong)
}

const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn metrics_get_the_types_that_go_gives_them() {
        let cases = [
            ("79", Metric::Int(79)),
            ("-1", Metric::Int(-1)),
            ("+5", Metric::Int(5)),
            ("0", Metric::Int(0)),
            ("1", Metric::Int(1)),
            ("9223372036854775807", Metric::Int(i64::MAX)),
            (
                "9223372036854775808",
                Metric::Float(9_223_372_036_854_775_808.0),
            ),
            ("350.500000", Metric::Float(350.5)),
            (".5", Metric::Float(0.5)),
            ("1e3", Metric::Float(1000.0)),
            ("Inf", Metric::Float(f64::INFINITY)),
            ("-infinity", Metric::Float(f64::NEG_INFINITY)),
            ("1e999", Metric::Text("1e999")),
            ("-1e999", Metric::Text("-1e999")),
            ("true", Metric::Bool(true)),
            ("T", Metric::Bool(true)),
            ("False", Metric::Bool(false)),
            ("f", Metric::Bool(false)),
            ("tRUE", Metric::Text("tRUE")),
            ("yes", Metric::Text("yes")),
            ("", Metric::Text("")),
            (" 1", Metric::Text(" 1")),
            ("0x10", Metric::Text("0x10")),
            ("1_000", Metric::Text("1_000")),
            ("\u{661}", Metric::Text("\u{661}")),
        ];
        for (text, expected) in cases {
            assert_eq!(Metric::of(text), expected, "{text:?}");
        }
        assert!(matches!(Metric::of("nan"), Metric::Float(nan) if nan.is_nan()));
    }

    #[test]
    fn events_are_read_from_pairs() {
        let event = parse_event(&[
            ("event_type", "xid"),
            ("system", "driver"),
            ("gpu_index", "3"),
            ("timestamp", "2026-03-01T12:00:00Z"),
            ("xid_code", "79"),
            ("metrics.note", "a=b"),
        ])
        .expect("a good event");
        assert_eq!(event.event_type, HealthEventType::Xid);
        assert_eq!(event.system, HealthWatchSystem::Driver);
        assert_eq!(
            (event.gpu_index, event.timestamp),
            (3, 1_772_366_400_000_000)
        );
        assert_eq!(event.metrics["xid_code"], "79");
        assert_eq!(event.metrics["note"], "a=b");
        assert_eq!(event.facts().xid_code(), Some(79));
        for word in ["mem", "DCGM_HEALTH_WATCH_MEM", "HEALTH_WATCH_SYSTEM_MEM"] {
            let event = parse_event(&[("system", word)]).expect("one part of the machine");
            assert_eq!(event.system, HealthWatchSystem::Mem, "{word}");
        }
    }

    #[test]
    fn bad_pairs_are_named() {
        let cases: &[(&[(&str, &str)], &str)] = &[
            (
                &[("event_type", "xidd")],
                "unknown event_type \"xidd\": use one of unknown, xid, thermal, power, memory, nvlink, pcie, driver_error, ecc_sbe, ecc_dbe",
            ),
            (
                &[("system", "gpu")],
                "unknown system \"gpu\": use one of unknown, pcie, nvlink, pmu, mcu, mem, sm, inforom, thermal, power, driver, nvswitch",
            ),
            (
                &[("gpu_index", "all")],
                "gpu_index \"all\" is not a whole number, such as 3, or -1 for the node",
            ),
            (
                &[("xid_code", "1"), ("xid_code", "2")],
                "xid_code is given twice",
            ),
            (&[("", "2")], "\"=2\" has no key: write key=value"),
            (
                &[("metrics", "{}")],
                "metrics are given one by one, for example xid_code=79",
            ),
        ];
        for (pairs, message) in cases {
            assert_eq!(parse_event(pairs), Err((*message).to_owned()));
        }
        for time in [
            "yesterday",
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01 00:00:00Z",
            "+026-01-01T00:00:00Z",
            "99999999999999999",
            "2026-01-01T00:00:00é",
        ] {
            assert!(read_time(time).is_err(), "{time}");
        }
    }

    #[test]
    fn times_beyond_the_calendar_are_clamped() {
        assert_eq!(rfc3339(i64::MIN), "0001-01-01T00:00:00Z");
        assert_eq!(rfc3339(i64::MAX), "9999-12-31T23:59:59Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59Z");
        assert_eq!(rfc3339(951_782_400_000_000), "2000-02-29T00:00:00Z");
    }

    proptest! {
        #[test]
        fn written_times_read_back(seconds in -62_135_596_800_i64..=253_402_300_799) {
            let micros = seconds * MICROS_PER_SECOND;
            prop_assert_eq!(read_time(&rfc3339(micros)), Ok(micros));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,30}", key in "[a-z_.]{0,12}") {
            let _ = Metric::of(&text);
            let _ = read_time(&text);
            if let Ok(event) = parse_event(&[("event_type", "xid"), (&key, &text), ("xid_code", &text)]) {
                let _ = event.facts().advice();
            }
        }
    }
}

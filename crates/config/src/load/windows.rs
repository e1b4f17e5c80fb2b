//! Reading of schedules: windows of time, and whether they make sense beside each other.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Weekday;

use super::MOST_NODES;
use super::autoscaling::Bounds;
use crate::config::{Clock, Cron, DAYS, Interval, When, Window, Zone};
use crate::fields::Fields;
use crate::schema::nearest;
use crate::tree::quoted;

/// Windows of one schedule.
const MOST_WINDOWS: usize = 64;
/// Schedules are held against each other over so many days from the start of a leap year.
const DAYS_COMPARED: i32 = 400;
/// And over so many of each window.
const MOST_COMPARED: usize = 1000;
/// 2024-01-01 in Unix seconds.
const COMPARED_FROM: i64 = 1_704_067_200;

pub(super) fn schedule(fields: &Fields<'_>, bounds: Bounds) -> Vec<Window> {
    let sections = fields.list("schedule");
    if sections.is_empty() {
        fields.fail("schedule", "required: list at least one window");
    }
    if sections.len() > MOST_WINDOWS {
        fields.fail(
            "schedule",
            format!("a schedule has at most {MOST_WINDOWS} windows"),
        );
        return Vec::new();
    }
    let zone = zone(fields).unwrap_or_default();
    let windows: Vec<(&Fields<'_>, Window)> = sections
        .iter()
        .filter_map(|section| Some((section, window(section, &zone, bounds)?)))
        .collect();
    compare(&windows);
    windows.into_iter().map(|(_, window)| window).collect()
}

fn zone(fields: &Fields<'_>) -> Option<Zone> {
    let name = fields.text("timezone")?;
    let zone = Zone::named(&name);
    if zone.is_none() {
        let names = Zone::names();
        let hint = match nearest(&name, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean {near}?"),
            None => "use a name such as Europe/Berlin or UTC".to_owned(),
        };
        fields.fail(
            "timezone",
            format!("unknown time zone {}: {hint}", quoted(&name)),
        );
    }
    zone
}

fn window(fields: &Fields<'_>, schedule: &Zone, bounds: Bounds) -> Option<Window> {
    if fields.is_broken() {
        return None;
    }
    let own = zone(fields);
    if own.is_none() && fields.has("timezone") {
        return None;
    }
    let zone = own.unwrap_or_else(|| schedule.clone());
    let (min, max) = size(fields, bounds);
    let when = if fields.has("cron") || fields.has("duration") {
        cron(fields, &zone)
    } else {
        days(fields)
    };
    Some(Window {
        when: when?,
        zone,
        min_nodes: min,
        max_nodes: max,
    })
}

fn size(fields: &Fields<'_>, bounds: Bounds) -> (Option<u32>, Option<u32>) {
    let min = fields.count("min_nodes", 0..=MOST_NODES);
    let max = fields.count("max_nodes", 0..=MOST_NODES);
    if !fields.has("min_nodes") && !fields.has("max_nodes") {
        fields.log().warn(
            fields.start(),
            "the window changes nothing: give it min_nodes or max_nodes".to_owned(),
        );
    }
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        fields.fail(
            "min_nodes",
            format!("min_nodes cannot exceed max_nodes: {min} is above {max}"),
        );
    }
    for (key, value) in [("min_nodes", min), ("max_nodes", max)] {
        if let Some(value) = value.filter(|value| !(bounds.0..=bounds.1).contains(value)) {
            let message = format!(
                "{}: {value} is outside the pool's {} to {}, which count",
                fields.path_of(key),
                bounds.0,
                bounds.1
            );
            fields.log().warn(fields.at(key), message);
        }
    }
    (min, max)
}

fn cron(fields: &Fields<'_>, zone: &Zone) -> Option<When> {
    for key in ["days", "start", "end"] {
        if fields.has(key) {
            fields.fail(
                key,
                "a window has either cron and duration, or days, start and end",
            );
        }
    }
    for key in ["cron", "duration"] {
        if !fields.has(key) {
            fields.fail(key, "required: cron and duration belong together");
        }
    }
    let longest = Duration::from_secs(7 * 24 * 3600);
    let lasts = fields.duration("duration", Duration::from_secs(60)..=longest);
    let text = fields.text("cron")?;
    let cron = match Cron::parse(&text) {
        Ok(cron) => cron,
        Err(problem) => {
            let message = format!("{} is no cron expression: {problem}", quoted(&text));
            fields.fail("cron", message);
            return None;
        }
    };
    let from = compared_from().to_zoned(zone.rules().clone());
    if cron.next(&from).is_none() {
        fields.fail("cron", format!("{} never comes", quoted(&text)));
        return None;
    }
    Some(When::Cron {
        cron,
        lasts: lasts?,
    })
}

fn days(fields: &Fields<'_>) -> Option<When> {
    let (mut days, mut sound) = (Vec::<Weekday>::new(), true);
    for (word, at) in fields.texts("days") {
        let plain = word.to_ascii_lowercase();
        let known = DAYS
            .iter()
            .find(|(short, long, _)| plain == *short || plain == *long);
        match known {
            Some((_, _, day)) if days.contains(day) => {}
            Some((_, _, day)) => days.push(*day),
            None => {
                sound = false;
                let all = DAYS.iter().flat_map(|(short, long, _)| [*short, *long]);
                let hint = nearest(&plain, all).unwrap_or("mon");
                let path = fields.path_of("days");
                let message = format!(
                    "{path}: unknown day {}: did you mean {hint}?",
                    quoted(&word)
                );
                fields.log().error(at, message);
            }
        }
    }
    let clock = |key: &str, default: Option<Clock>| {
        let Some(text) = fields.text(key) else {
            return default.filter(|_| !fields.has(key));
        };
        let clock = Clock::parse(&text);
        if clock.is_none() {
            let message = format!(
                "{} is no time of the day: write an hour from 0 to 24, or HH:MM",
                quoted(&text)
            );
            fields.fail(key, message);
        }
        clock
    };
    let start = clock("start", Clock::new(0, 0))?;
    let end = clock("end", Clock::new(24, 0))?;
    if start == end || start == Clock::new(24, 0)? {
        let key = if fields.has("end") { "end" } else { "start" };
        fields.fail(
            key,
            format!("from {start} to {end} is never: write 00:00 to 24:00 for a whole day"),
        );
        return None;
    }
    sound.then_some(When::Days { days, start, end })
}

fn compared_from() -> Timestamp {
    Timestamp::from_second(COMPARED_FROM).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Windows that hold the same moment: the first counts, and one that never does is an error.
fn compare(windows: &[(&Fields<'_>, Window)]) {
    let all: Vec<Vec<Interval>> = windows
        .iter()
        .map(|(_, window)| window.following(compared_from(), DAYS_COMPARED, MOST_COMPARED))
        .collect();
    for (later, (fields, window)) in windows.iter().enumerate() {
        let mut told = false;
        for earlier in 0..later {
            let (first, count) = common(&all[earlier], &all[later]);
            let Some(first) = first.filter(|_| !told) else {
                continue;
            };
            told = true;
            let number = earlier + 1;
            // Nobody knows of moments beyond those that were compared.
            let is_whole = all[later].len() < MOST_COMPARED;
            if is_whole && count == all[later].len() {
                let message = format!("the window never counts: window {number} holds all of it");
                fields.log().error(fields.start(), message);
                continue;
            }
            let at = first.to_zoned(window.zone.rules().clone());
            let message = format!(
                "the window overlaps window {number}, for example at {}: the first of them counts",
                at.strftime("%Y-%m-%d %H:%M %Z")
            );
            fields.log().warn(fields.start(), message);
        }
    }
}

/// The first moment that is in both lists, and how many of the second are within one of the first.
fn common(earlier: &[Interval], later: &[Interval]) -> (Option<Timestamp>, usize) {
    let (mut first, mut within, mut at) = (None, 0, 0);
    for (begins, ends) in later {
        while earlier.get(at).is_some_and(|(_, over)| over <= begins) {
            at += 1;
        }
        let Some((from, over)) = earlier.get(at).filter(|(from, _)| from < ends) else {
            continue;
        };
        first = first.or(Some(*from.max(begins)));
        within += usize::from(from <= begins && ends <= over);
    }
    (first, within)
}

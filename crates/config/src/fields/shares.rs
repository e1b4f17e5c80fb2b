//! Values of scenarios: shares, mappings from names to numbers, words with old spellings.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::scalars::decimal;
use super::{Fields, shown};
use crate::error::Position;
use crate::schema::{self, Form};
use crate::tree::{Kind, Scalar, Value};
use crate::units::Percent;

impl<'t> Fields<'t> {
    /// A share from 0 to 1; a percentage is one, too.
    pub(crate) fn share(&self, key: &str) -> Option<f64> {
        const EXPECTED: &str = "a number from 0 to 1 such as 0.1, or a percentage such as 10%";
        let scalar = self.scalar(key, EXPECTED)?;
        let share = match scalar.text.parse::<Percent>() {
            Ok(percent) => Some(percent.fraction()),
            Err(_) => plain_number(&scalar.text),
        };
        let share = share.filter(|share| (0.0..=1.0).contains(share));
        if share.is_none() {
            let found = self.found(key);
            self.fail(key, format!("expected {EXPECTED}, found {found}"));
        }
        share
    }

    /// A duration that is longer than nothing.
    pub(crate) fn longer_than_zero(&self, key: &str, most: Duration) -> Option<Duration> {
        self.duration(key, Duration::from_millis(1)..=most)
    }

    /// Text that may have several lines, or none, without the space around it.
    pub(crate) fn prose(&self, key: &str) -> Option<String> {
        let scalar = self.scalar(key, "text")?;
        Some(scalar.text.trim().to_owned())
    }

    /// A whole number within bounds.
    pub(crate) fn whole(&self, key: &str, bounds: RangeInclusive<i128>) -> Option<i128> {
        let value = self.integer(key)?;
        if bounds.contains(&value) {
            return Some(value);
        }
        let found = self.found(key);
        let (least, most) = (bounds.start(), bounds.end());
        self.fail(
            key,
            format!("{found} is out of range: use {least} to {most}"),
        );
        None
    }

    /// One of some words, or an old word for one of them.
    pub(crate) fn word_or_old<'w, T: Copy>(
        &self,
        key: &str,
        words: &[(&str, T)],
        old: impl IntoIterator<Item = (&'w str, &'w str)>,
    ) -> Option<T> {
        let text = self.scalar_of(key).map(|scalar| scalar.text.as_str());
        let Some((from, to)) = old.into_iter().find(|(from, _)| Some(*from) == text) else {
            return self.word(key, words);
        };
        let path = self.path_of(key);
        self.log.warn(
            self.at(key),
            format!("{path}: {from} is an old spelling: write {to} instead"),
        );
        let (_, value) = words.iter().find(|(word, _)| *word == to)?;
        Some(*value)
    }

    /// A mapping from names to values that `read` takes, each with its place, in the order of the
    /// file. `read` says what is expected where it fails.
    pub(crate) fn by_name<T>(
        &self,
        key: &str,
        read: impl Fn(&Scalar) -> Result<T, String>,
    ) -> Vec<(&'t str, T, Position)> {
        let path = self.path_of(key);
        let mut found = Vec::new();
        for entry in self.mapping(key, "a mapping from names to values") {
            let path = format!("{path}.{}", shown(&entry.key));
            let fail = |problem: String| {
                let said = self.said_of(&entry.key, &entry.node);
                self.error(
                    &entry.key,
                    entry.node.at,
                    format!("{path}: expected {problem}, found {said}"),
                );
            };
            match &entry.node.value {
                Value::Scalar(scalar) if scalar.kind == Kind::Broken => {}
                Value::Scalar(scalar) => match read(scalar) {
                    Ok(value) => found.push((entry.key.as_str(), value, entry.node.at)),
                    Err(problem) => fail(problem),
                },
                _ => match read(&Scalar::default()) {
                    Err(problem) => fail(problem),
                    Ok(_) => fail("one value".to_owned()),
                },
            }
        }
        found
    }

    /// Weights by name: not below zero, and not all of them zero.
    pub(crate) fn weights(&self, key: &str) -> Vec<(&'t str, f64, Position)> {
        let weights = self.by_name(key, |scalar| {
            plain_number(&scalar.text)
                .filter(|weight| *weight <= MOST_WEIGHT)
                .ok_or_else(|| format!("a weight from 0 to {MOST_WEIGHT}"))
        });
        if !weights.is_empty() && weights.iter().all(|(_, weight, _)| *weight == 0.0) {
            self.fail(
                key,
                "all weights are 0, so that nothing can be drawn: make one larger",
            );
        }
        weights
    }

    /// A mapping from names to lists of text, each list with its place, in the order of the file.
    pub(crate) fn texts_by_name(&self, key: &str) -> Vec<(&'t str, Vec<String>, Position)> {
        debug_assert!(matches!(
            self.section.key(key).map(|key| key.form),
            Some(Form::TextsByName)
        ));
        let path = self.path_of(key);
        let mut found = Vec::new();
        for entry in self.mapping(key, "a mapping from names to lists of text") {
            let path = format!("{path}.{}", shown(&entry.key));
            let Value::List(elements) = &entry.node.value else {
                let said = self.said_of(key, &entry.node);
                let message = format!("{path}: expected a list of text, found {said}");
                self.error(key, entry.node.at, message);
                continue;
            };
            let mut texts = Vec::new();
            for (index, element) in elements.iter().enumerate() {
                match &element.value {
                    Value::Scalar(scalar) if scalar.kind == Kind::Broken => {}
                    Value::Scalar(scalar) if !scalar.text.trim().is_empty() => {
                        texts.push(scalar.text.clone());
                    }
                    _ => {
                        let said = self.said_of(key, element);
                        let message = format!("{path}[{index}]: expected text, found {said}");
                        self.error(key, element.at, message);
                    }
                }
            }
            found.push((entry.key.as_str(), texts, entry.node.at));
        }
        found
    }

    /// Logs that `name` is not among what is `known`, with the nearest of them.
    pub(crate) fn fail_unknown<'k>(
        &self,
        key: &str,
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'k str>,
        otherwise: &str,
    ) {
        // To look for the nearest of many names many times takes long, and who has so many errors
        // reads few of the hints.
        let near = (self.log.error_count() < HINTED)
            .then(|| schema::nearest(name, known))
            .flatten();
        let hint = match near {
            Some(near) => format!("did you mean {}?", shown(near)),
            None => otherwise.to_owned(),
        };
        self.fail(key, format!("unknown {what} {}: {hint}", shown(name)));
    }
}

/// Errors before those that get no hint.
const HINTED: usize = 100;

/// The largest weight: sums of weights stay exact.
pub(crate) const MOST_WEIGHT: f64 = 1_000_000_000.0;

/// A number in decimal digits, with or without a fraction.
pub(crate) fn plain_number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse().ok().filter(|_| plain)
}

/// A whole number in decimal digits that is not below zero.
pub(crate) fn plain_count(text: &str) -> Option<u32> {
    decimal(text).and_then(|value| u32::try_from(value).ok())
}

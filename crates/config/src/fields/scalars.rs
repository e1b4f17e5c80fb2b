//! Values with one part: text, numbers, durations, words.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use navarch_model::Price;

use super::Fields;
use crate::config::Paces;
use crate::duration::{self, DurationError};
use crate::schema::{self, Document};
use crate::secret::HIDDEN;
use crate::tree::{Kind, Scalar, Value, quoted};
use crate::units::{Budget, Percent, PercentError, Size};

/// The longest duration that any key takes: a year.
pub(crate) const YEAR: Duration = Duration::from_secs(8760 * 3600);

impl<'t> Fields<'t> {
    /// The scalar of a key, if it has one.
    pub(super) fn scalar_of(&self, key: &str) -> Option<&'t Scalar> {
        match &self.entry(key)?.node.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The scalar of a key; `expected` is what a message says the key takes.
    pub(super) fn scalar(&self, key: &str, expected: &str) -> Option<&'t Scalar> {
        self.entry(key)?;
        match self.scalar_of(key) {
            Some(scalar) if scalar.kind == Kind::Broken => None,
            Some(scalar) => Some(scalar),
            None => {
                let found = self.found(key);
                self.fail(key, format!("expected {expected}, found {found}"));
                None
            }
        }
    }

    /// Text that is not empty, as the file has it; numbers and booleans count as text.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        let scalar = self.scalar(key, "text")?;
        if scalar.text.trim().is_empty() {
            self.fail(key, "the value is empty: give one or remove the key");
            return None;
        }
        if scalar.text.trim() != scalar.text || scalar.text.contains('\n') {
            self.fail(key,
                format!(
                    "{} begins or ends with a space or has several lines: write it on one line without them",
                    if self.is_about_secrets(key) { HIDDEN.to_owned() } else { quoted(&scalar.text) }
                ),
            );
            return None;
        }
        Some(scalar.text.clone())
    }

    /// Whether the value of a key is this word.
    pub(crate) fn is_word(&self, key: &str, word: &str) -> bool {
        self.scalar_of(key)
            .is_some_and(|scalar| scalar.text == word)
    }

    pub(crate) fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// Text that is legal as a name in ids, tags and addresses.
    pub(crate) fn name(&self, key: &str) -> Option<String> {
        let text = self.text(key)?;
        match navarch_model::ids::check_id(&text) {
            Ok(()) => Some(text),
            Err(error) => {
                self.fail(key, format!("{} {error}", quoted(&text)));
                None
            }
        }
    }

    pub(crate) fn duration(&self, key: &str, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        let scalar = self.scalar(key, "a duration such as 30s or 1m30s")?;
        let value = self.parse_duration(key, scalar)?;
        if bounds.contains(&value) {
            return Some(value);
        }
        self.fail(
            key,
            format!(
                "{} is out of range: use {} to {}",
                quoted(&scalar.text),
                duration::compact(*bounds.start()),
                duration::compact(*bounds.end())
            ),
        );
        None
    }

    fn parse_duration(&self, key: &str, scalar: &Scalar) -> Option<Duration> {
        let problem = match (scalar.kind, duration::parse(&scalar.text)) {
            // A bare 0 is a duration in Go's notation and in its scenarios, but not in its
            // configuration files.
            (Kind::Number, Ok(_)) if self.log.document() == Document::Configuration => {
                "the unit is missing: write 0s".to_owned()
            }
            (_, Ok(value)) => return Some(value),
            // What is odd about the text of a variable would tell a part of it.
            (_, Err(_)) if scalar.written.is_some() => DurationError::Malformed.to_string(),
            (_, Err(error)) => error.to_string(),
        };
        self.fail(
            key,
            format!("{} is not a duration: {problem}", quoted(&scalar.text)),
        );
        None
    }

    /// A duration, or `Some(None)` for `never`.
    pub(crate) fn duration_or_never(
        &self,
        key: &str,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Option<Duration>> {
        let scalar = self.scalar(key, "a duration such as 15m, or never")?;
        if scalar.text.eq_ignore_ascii_case("never") {
            return Some(None);
        }
        self.duration(key, bounds).map(Some)
    }

    /// A duration for both, or a mapping with `up` and `down`; what is absent there is as in
    /// `default`.
    pub(crate) fn paces(
        &self,
        key: &str,
        default: Paces,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Paces> {
        let entry = self.entry(key)?;
        if !matches!(entry.node.value, Value::Map(_)) {
            let both = self.duration(key, bounds)?;
            return Some(Paces {
                up: both,
                down: both,
            });
        }
        let owner = self.owner(key);
        // What this one does not say, the defaults may.
        let given = self
            .defaults
            .as_deref()
            .filter(|defaults| defaults.has(key));
        let default = match given.filter(|_| std::ptr::eq(owner, self)) {
            Some(defaults) => defaults.paces(key, default, bounds.clone())?,
            None => default,
        };
        let path = owner.path_of(key);
        let within = Fields::new(self.log, &schema::PACES, path, entry.at, Some(&entry.node));
        Some(Paces {
            up: within.duration("up", bounds.clone()).unwrap_or(default.up),
            down: within.duration("down", bounds).unwrap_or(default.down),
        })
    }

    /// A number that may have a fraction, in decimal digits.
    pub(crate) fn decimal(&self, key: &str, bounds: RangeInclusive<f64>) -> Option<f64> {
        let scalar = self.scalar(key, "a number such as 1.2")?;
        let plain = scalar.text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let value = scalar.text.parse().ok().filter(|_| plain);
        match value.filter(|value| bounds.contains(value)) {
            Some(value) => Some(value),
            None => {
                let (least, most) = (bounds.start(), bounds.end());
                let found = self.found(key);
                self.fail(
                    key,
                    format!("expected a number from {least} to {most} such as 1.2, found {found}"),
                );
                None
            }
        }
    }

    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        let scalar = self.scalar(key, "true or false")?;
        if let Kind::Boolean(value) = scalar.kind {
            return Some(value);
        }
        self.fail(
            key,
            format!("expected true or false, found {}", self.found(key)),
        );
        None
    }

    /// A whole number of any size that fits.
    pub(crate) fn integer(&self, key: &str) -> Option<i128> {
        let scalar = self.scalar(key, "a whole number")?;
        if scalar.kind == Kind::Number
            && let Some(value) = decimal(&scalar.text)
        {
            return Some(value);
        }
        let hint = match scalar.kind {
            Kind::Text if decimal(&scalar.text).is_some() => ": remove the quotes",
            Kind::Number => ": write decimal digits alone, such as 12",
            _ => "",
        };
        self.fail(
            key,
            format!("expected a whole number, found {}{hint}", self.found(key)),
        );
        None
    }

    pub(crate) fn count(&self, key: &str, bounds: RangeInclusive<u32>) -> Option<u32> {
        let value = self.integer(key)?;
        if let Some(value) = u32::try_from(value).ok().filter(|v| bounds.contains(v)) {
            return Some(value);
        }
        self.fail(
            key,
            format!(
                "{} is out of range: use {} to {}",
                self.found(key),
                bounds.start(),
                bounds.end()
            ),
        );
        None
    }

    pub(crate) fn percent(&self, key: &str) -> Option<Percent> {
        let scalar = self.scalar(key, "a percentage such as 10%")?;
        match scalar.text.parse() {
            Ok(percent) => Some(percent),
            Err(error) => {
                self.fail(key, format!("found {}: {error}", self.found(key)));
                None
            }
        }
    }

    pub(crate) fn size(&self, key: &str) -> Option<Size> {
        let scalar = self.scalar(key, "a size such as 256MiB")?;
        match scalar.text.parse() {
            Ok(size) => Some(size),
            Err(error) => {
                self.fail(key, format!("found {}: {error}", self.found(key)));
                None
            }
        }
    }

    /// A price in dollars per hour.
    pub(crate) fn price(&self, key: &str) -> Option<Price> {
        let scalar = self.scalar(key, "a price such as 12.50")?;
        match scalar.text.parse() {
            Ok(price) => Some(price),
            Err(error) => {
                self.fail(key, format!("found {}: {error}", self.found(key)));
                None
            }
        }
    }

    pub(crate) fn budget(&self, key: &str, most: u32) -> Option<Budget> {
        let scalar = self.scalar(key, "a count such as 1 or a percentage such as 10%")?;
        if scalar.kind == Kind::Number && decimal(&scalar.text).is_some() {
            return self.count(key, 0..=most).map(Budget::Count);
        }
        match scalar.text.parse() {
            Ok(share) => Some(Budget::Share(share)),
            Err(error @ PercentError::TooLarge) => {
                self.fail(key, format!("found {}: {error}", self.found(key)));
                None
            }
            Err(PercentError::Malformed) => {
                self.fail(
                    key,
                    format!(
                        "expected a count such as 1 or a percentage such as 10%, found {}",
                        self.found(key)
                    ),
                );
                None
            }
        }
    }

    /// One of some words; `on` and `off` are also read as booleans.
    pub(crate) fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let names: Vec<_> = words.iter().map(|(name, _)| *name).collect();
        let expected = one_of(&names);
        let scalar = self.scalar(key, &expected)?;
        let text = match scalar.kind {
            Kind::Boolean(true) if names.contains(&"on") => "on",
            Kind::Boolean(false) if names.contains(&"off") => "off",
            _ => scalar.text.as_str(),
        };
        if let Some((_, value)) = words.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let hint = schema::nearest(text, names.iter().copied())
            .map(|near| format!(": did you mean {near}?"))
            .unwrap_or_default();
        self.fail(
            key,
            format!("expected {expected}, found {}{hint}", self.found(key)),
        );
        None
    }
}

/// A whole number in decimal digits without a leading zero, which other notations take for octal.
pub(super) fn decimal(text: &str) -> Option<i128> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let canonical = digits == "0" || !digits.starts_with('0');
    (canonical && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
        // More digits than fit are out of every range alike.
        .then(|| {
            text.parse().unwrap_or(if text.starts_with('-') {
                i128::MIN
            } else {
                i128::MAX
            })
        })
}

pub(super) fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [word] => (*word).to_owned(),
        [words @ .., last] => format!("{} or {last}", words.join(", ")),
    }
}

//! Reading one mapping of the tree: its known keys by type, everything else as a located error.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::duration;
use crate::error::{Log, Position};
use crate::schema::{self, Form, Key, Section, Status};
use crate::tree::{Entry, Kind, Node, Scalar, Value, quoted};
use crate::units::{Budget, Percent, PercentError, Size, Threshold};

/// Stands for a value that may be a secret in the wrong place.
const HIDDEN: &str = "a value that is not shown";

/// The longest duration that any key takes: a year.
pub(crate) const YEAR: Duration = Duration::from_secs(8760 * 3600);

/// A mapping that is being read. Getters answer `None` when the key is absent or wrong; what is
/// wrong is in the log then.
pub(crate) struct Fields<'t> {
    log: &'t Log,
    section: &'static Section,
    path: String,
    at: Position,
    entries: BTreeMap<&'static str, &'t Entry>,
    broken: bool,
}

impl<'t> Fields<'t> {
    /// Reads the mapping at `path`, which begins at `at`; an absent or empty one has no keys.
    pub(crate) fn new(
        log: &'t Log,
        section: &'static Section,
        path: String,
        at: Position,
        node: Option<&'t Node>,
    ) -> Self {
        let mut fields = Self {
            log,
            section,
            path,
            at,
            entries: BTreeMap::new(),
            broken: false,
        };
        match node.map(|node| (&node.value, node)) {
            None | Some((Value::Null, _)) => {}
            Some((Value::Map(entries), _)) => {
                for entry in entries {
                    fields.enter(entry);
                }
            }
            Some((_, node)) => {
                fields.broken = true;
                let what = if fields.path.is_empty() {
                    "the file".to_owned()
                } else {
                    fields.path.clone()
                };
                log.error(
                    node.at,
                    format!(
                        "{what} must be a mapping with keys such as {}, not {}",
                        section.keys[0].name,
                        fields.said_of(node)
                    ),
                );
            }
        }
        fields
    }

    fn enter(&mut self, entry: &'t Entry) {
        let path = self.path_of(&entry.key);
        let Some(key) = self.section.key(&entry.key) else {
            self.log.error(entry.at, self.unknown(&entry.key));
            return;
        };
        match key.status {
            Status::Works => self.insert(key, entry),
            Status::NoEffect(why) => {
                self.log
                    .warn(entry.at, format!("{path} has no effect: {why}"));
                self.insert(key, entry);
            }
            Status::Planned => self.log.error(
                entry.at,
                format!("{path} is a known key, but this build does not support it yet: remove it"),
            ),
            Status::Refused(instead) => {
                self.log
                    .error(entry.at, format!("{path} is not accepted: {instead}"));
            }
            Status::Renamed(to) => {
                self.log.warn(
                    entry.at,
                    format!("{path} is an old spelling: write {to} instead"),
                );
                let key = self
                    .section
                    .key(to)
                    .expect("an old spelling stands for a key of its section");
                self.insert(key, entry);
            }
        }
    }

    fn insert(&mut self, key: &'static Key, entry: &'t Entry) {
        if let Some(first) = self.entries.get(key.name) {
            self.log.error(
                entry.at,
                format!(
                    "{} is set twice: {} at {} and {} here; keep {}",
                    self.path_of(key.name),
                    first.key,
                    first.at,
                    entry.key,
                    key.name
                ),
            );
            return;
        }
        self.entries.insert(key.name, entry);
    }

    fn unknown(&self, name: &str) -> String {
        let place = if self.path.is_empty() {
            "at the top level".to_owned()
        } else {
            format!("in {}", self.path)
        };
        let message = format!("unknown key {} {place}", quoted(name));
        if let Some(near) = self.section.nearest(name) {
            return format!("{message}: did you mean {near}?");
        }
        match schema::homes(name).as_slice() {
            [] => {
                let names: Vec<_> = self
                    .section
                    .keys
                    .iter()
                    .filter(|key| matches!(key.status, Status::Works))
                    .map(|key| key.name)
                    .collect();
                format!("{message}: the keys here are {}", names.join(", "))
            }
            homes => format!("{message}: it belongs in {}", homes.join(" or ")),
        }
    }

    /// The dotted path of a key, for messages.
    pub(crate) fn path_of(&self, key: &str) -> String {
        schema::join(&self.path, &shown(key))
    }

    /// Where the value of a key is, or the section when the key is absent.
    pub(crate) fn at(&self, key: &str) -> Position {
        self.entries.get(key).map_or(self.at, |entry| entry.node.at)
    }

    /// Whether the key is present, right or wrong.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// The log of the file.
    pub(crate) const fn log(&self) -> &'t Log {
        self.log
    }

    /// Whether the section is no mapping at all, so that nothing can be said of missing keys.
    pub(crate) const fn is_broken(&self) -> bool {
        self.broken
    }

    /// Where the section is.
    pub(crate) const fn start(&self) -> Position {
        self.at
    }

    /// Logs that the value of `key` is wrong: `path: problem`.
    pub(crate) fn fail(&self, key: &str, problem: impl AsRef<str>) {
        let message = format!("{}: {}", self.path_of(key), problem.as_ref());
        self.log.error(self.at(key), message);
    }

    fn entry(&self, key: &str) -> Option<&'t Entry> {
        debug_assert!(
            self.section
                .key(key)
                .is_some_and(|key| matches!(key.status, Status::Works | Status::NoEffect(_))),
            "{key} is in the schema of {}",
            self.path
        );
        self.entries.get(key).copied()
    }

    /// The scalar of a key; `expected` is what a message says the key takes.
    fn scalar(&self, key: &str, expected: &str) -> Option<&'t Scalar> {
        let entry = self.entry(key)?;
        match &entry.node.value {
            Value::Scalar(scalar) if scalar.text.contains("${") => {
                self.fail(
                    key,
                    "${…} in values is not supported yet: write the value itself",
                );
                None
            }
            Value::Scalar(scalar) => Some(scalar),
            _ => {
                self.fail(key, format!("expected {expected}, found {}", entry.node));
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
                    if self.is_about_secrets() { HIDDEN.to_owned() } else { quoted(&scalar.text) }
                ),
            );
            return None;
        }
        Some(scalar.text.clone())
    }

    /// Whether the value of a key is this word.
    pub(crate) fn is_word(&self, key: &str, word: &str) -> bool {
        let value = self.entry(key).map(|entry| &entry.node.value);
        matches!(value, Some(Value::Scalar(scalar)) if scalar.text == word)
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
            // A bare 0 is a duration in Go's notation, but not in its configuration files.
            (Kind::Number, Ok(_)) => "the unit is missing: write 0s".to_owned(),
            (_, Ok(value)) => return Some(value),
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

    /// A section with `count` and `percent`, both optional.
    pub(crate) fn threshold(&self, key: &'static str, default: Threshold, most: u32) -> Threshold {
        let fields = self.section(key);
        Threshold {
            count: fields.count("count", 0..=most).unwrap_or(default.count),
            percent: fields.percent("percent").unwrap_or(default.percent),
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

    /// A section below this one; absent reads as empty.
    pub(crate) fn section(&self, key: &'static str) -> Fields<'t> {
        let Some(Form::Section(section)) = self.section.key(key).map(|key| key.form) else {
            unreachable!("{key} is a section of the schema of {}", self.path)
        };
        let entry = self.entry(key);
        let at = entry.map_or(self.at, |entry| entry.at);
        Fields::new(
            self.log,
            section,
            self.path_of(key),
            at,
            entry.map(|entry| &entry.node),
        )
    }

    /// The names below a key, sound or not; `None` when it is no mapping, so that nothing is known.
    pub(crate) fn names(&self, key: &str) -> Option<BTreeSet<&'t str>> {
        match self.entry(key).map(|entry| &entry.node.value) {
            None | Some(Value::Null) => Some(BTreeSet::new()),
            Some(Value::Map(entries)) => {
                Some(entries.iter().map(|entry| entry.key.as_str()).collect())
            }
            Some(Value::List | Value::Scalar(_)) => None,
        }
    }

    /// The sections by name below a key, in the order of the file.
    pub(crate) fn named(&self, key: &'static str) -> Vec<(&'t str, Fields<'t>)> {
        let Some(Form::Named(section)) = self.section.key(key).map(|key| key.form) else {
            unreachable!("{key} holds named sections in the schema of {}", self.path)
        };
        let path = self.path_of(key);
        self.mapping(key, "a mapping from names to sections")
            .iter()
            .filter_map(|entry| {
                if let Some(problem) = bad_name(&entry.key) {
                    self.log
                        .error(entry.at, format!("{path}: the name {problem}"));
                    return None;
                }
                let fields = Fields::new(
                    self.log,
                    section,
                    schema::join(&path, &entry.key),
                    entry.at,
                    Some(&entry.node),
                );
                Some((entry.key.as_str(), fields))
            })
            .collect()
    }

    /// A mapping from text to text, each with its place.
    pub(crate) fn labels(&self, key: &str) -> BTreeMap<String, (String, Position)> {
        const MAX_BYTES: usize = 256;
        let path = self.path_of(key);
        let mut labels = BTreeMap::new();
        for entry in self.mapping(key, "a mapping from label to text") {
            let label = format!("{path}.{}", shown(&entry.key));
            let Value::Scalar(scalar) = &entry.node.value else {
                self.log.error(
                    entry.node.at,
                    format!("{label}: expected text, found {}", entry.node),
                );
                continue;
            };
            if entry.key.trim().is_empty() {
                self.log
                    .error(entry.at, format!("{path}: a label has no name"));
            } else if entry.key.len() > MAX_BYTES || scalar.text.len() > MAX_BYTES {
                self.log.error(
                    entry.at,
                    format!("{label}: labels and their values have at most {MAX_BYTES} bytes"),
                );
            } else if scalar.text.contains("${") {
                self.log.error(
                    entry.node.at,
                    format!(
                        "{label}: ${{…}} in values is not supported yet: write the value itself"
                    ),
                );
            } else if [&entry.key, &scalar.text]
                .iter()
                .any(|text| text.contains(char::is_control))
            {
                self.log.error(
                    entry.at,
                    format!("{label}: labels have no line breaks or tabs: remove them"),
                );
            } else {
                labels.insert(entry.key.clone(), (scalar.text.clone(), entry.node.at));
            }
        }
        labels
    }

    fn mapping(&self, key: &str, expected: &str) -> &'t [Entry] {
        match self.entry(key).map(|entry| &entry.node) {
            None
            | Some(Node {
                value: Value::Null, ..
            }) => &[],
            Some(Node {
                value: Value::Map(entries),
                ..
            }) => entries,
            Some(node) => {
                let hint = match node.value {
                    Value::List => ": write each as \"name:\" with its keys below it",
                    _ => "",
                };
                self.fail(key, format!("expected {expected}, found {node}{hint}"));
                &[]
            }
        }
    }

    fn found(&self, key: &str) -> String {
        self.entries
            .get(key)
            .map_or_else(|| "nothing".to_owned(), |entry| self.said_of(&entry.node))
    }

    /// Whether a value here may be a secret in the wrong place.
    fn is_about_secrets(&self) -> bool {
        self.path == "server.auth" || self.path.starts_with("server.auth.")
    }

    /// What a message says of a value.
    fn said_of(&self, node: &Node) -> String {
        match node.value {
            Value::Scalar(_) if self.is_about_secrets() => HIDDEN.to_owned(),
            _ => node.to_string(),
        }
    }
}

/// A key for a message: as it is when it is plain, else quoted.
fn shown(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if !key.is_empty() && key.len() <= 64 && key.chars().all(plain) {
        key.to_owned()
    } else {
        quoted(key)
    }
}

/// What is wrong with the name of a pool or provider, which stands in ids, tags and URLs.
fn bad_name(name: &str) -> Option<String> {
    const MAX_BYTES: usize = 63;
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() {
        Some("is empty: give it one".to_owned())
    } else if name.len() > MAX_BYTES {
        Some(format!(
            "{} has {} bytes; the limit is {MAX_BYTES}",
            quoted(name),
            name.len()
        ))
    } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(legal) {
        Some(format!(
            "{} must be letters, digits and . _ - and begin with a letter or digit",
            quoted(name)
        ))
    } else {
        None
    }
}

/// A whole number in decimal digits without a leading zero, which other notations take for octal.
fn decimal(text: &str) -> Option<i128> {
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

fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [word] => (*word).to_owned(),
        [words @ .., last] => format!("{} or {last}", words.join(", ")),
    }
}

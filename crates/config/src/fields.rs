//! Reading one mapping of the tree: its known keys, old spellings, everything else as an error.

use std::collections::BTreeMap;

use crate::error::{Log, Position};
use crate::schema::{self, Form, Key, Move, Section, Status};
use crate::secret::HIDDEN;
use crate::tree::{Entry, Node, Value, quoted};

mod groups;
mod scalars;
mod shares;

pub(crate) use scalars::YEAR;
pub(crate) use shares::{MOST_WEIGHT, plain_count, plain_number};

/// Parts of keys whose values may be secrets, in the right place or in the wrong one.
const SECRETS: &[&str] = &[
    "auth",
    "token",
    "secret",
    "password",
    "credential",
    "api_key",
    "private_key",
    "headers",
    "url",
];

/// A mapping that is being read. Getters answer `None` when the key is absent or wrong; what is
/// wrong is in the log then.
pub(crate) struct Fields<'t> {
    log: &'t Log,
    section: &'static Section,
    path: String,
    at: Position,
    entries: BTreeMap<&'static str, Placed<'t>>,
    moved: Vec<Moved<'t>>,
    defaults: Option<Box<Fields<'t>>>,
    broken: bool,
}

/// An entry where it belongs, with how the file spells it.
struct Placed<'t> {
    entry: &'t Entry,
    spelled: String,
}

/// An old spelling of a key of a section below.
struct Moved<'t> {
    /// The new key, relative to the section that is being read.
    to: &'static str,
    placed: Placed<'t>,
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
        Self::without(log, section, path, at, node, None)
    }

    /// The same, but for one key that is not of the section.
    fn without(
        log: &'t Log,
        section: &'static Section,
        path: String,
        at: Position,
        node: Option<&'t Node>,
        left_out: Option<&str>,
    ) -> Self {
        let mut fields = Self {
            log,
            section,
            path,
            at,
            entries: BTreeMap::new(),
            moved: Vec::new(),
            defaults: None,
            broken: false,
        };
        match node.map(|node| (&node.value, node)) {
            None | Some((Value::Null, _)) => {}
            Some((Value::Map(entries), _)) => {
                for entry in entries {
                    if Some(entry.key.as_str()) != left_out {
                        fields.enter(entry);
                    }
                }
            }
            Some((_, node)) => {
                fields.broken = true;
                let what = if fields.path.is_empty() {
                    "the file".to_owned()
                } else {
                    fields.path.clone()
                };
                let message = format!(
                    "{what} must be a mapping with keys such as {}, not {}",
                    section.keys[0].name,
                    fields.said_of("", node)
                );
                fields.error("", node.at, message);
            }
        }
        fields
    }

    /// Takes what this section does not say from another one, key by key, sections included.
    pub(crate) fn or_else(mut self, defaults: Fields<'t>) -> Self {
        self.defaults = Some(Box::new(defaults));
        self
    }

    fn enter(&mut self, entry: &'t Entry) {
        let path = self.path_of(&entry.key);
        let Some(key) = self.section.key(&entry.key) else {
            self.error("", entry.at, self.unknown(&entry.key));
            return;
        };
        self.take(key, entry, entry.key.clone(), &path);
    }

    fn take(&mut self, key: &'static Key, entry: &'t Entry, spelled: String, path: &str) {
        match key.status {
            Status::Works => self.insert(key, entry, spelled),
            Status::NoEffect(why) => {
                self.log
                    .warn(entry.at, format!("{path} has no effect: {why}"));
                self.insert(key, entry, spelled);
            }
            Status::Planned => self.error(
                "",
                entry.at,
                format!("{path} is a known key, but this build does not support it yet: remove it"),
            ),
            Status::Refused(instead) => self.error(
                key.name,
                entry.at,
                format!("{path} is not accepted: {instead}"),
            ),
            Status::Renamed(to) => self.renamed(to, entry, spelled),
            Status::Moved(moves) => self.scatter(moves, "", entry, &spelled),
        }
    }

    /// Takes an old spelling for the key `to`, which may be of a section below.
    fn renamed(&mut self, to: &'static str, entry: &'t Entry, spelled: String) {
        self.log.warn(
            entry.at,
            format!(
                "{} is an old spelling: write {} instead",
                schema::join(&self.path, &spelled),
                schema::join(&self.path, to),
            ),
        );
        if to.contains('.') {
            let placed = Placed { entry, spelled };
            self.moved.push(Moved { to, placed });
        } else {
            let key = self
                .section
                .key(to)
                .expect("an old spelling stands for a key of its section");
            let path = self.path_of(&spelled);
            self.take(key, entry, spelled, &path);
        }
    }

    /// Takes the entries of a mapping that is no more for the keys that they have become.
    fn scatter(&mut self, moves: &'static [Move], inside: &str, entry: &'t Entry, spelled: &str) {
        if let Some(found) = moves.iter().find(|found| found.from == inside) {
            self.renamed(found.to, entry, spelled.to_owned());
            return;
        }
        let entries = match &entry.node.value {
            Value::Null => return,
            Value::Map(entries) => entries,
            _ => {
                let message = format!(
                    "{} must be a mapping, not {}",
                    schema::join(&self.path, spelled),
                    self.said_of(spelled, &entry.node)
                );
                self.error(spelled, entry.node.at, message);
                return;
            }
        };
        for below in entries {
            let inside = schema::join(inside, &below.key);
            let spelled = format!("{spelled}.{}", shown(&below.key));
            let deeper = |found: &Move| {
                let rest = found.from.strip_prefix(inside.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            if moves.iter().any(deeper) {
                self.scatter(moves, &inside, below, &spelled);
                continue;
            }
            let near = schema::nearest(&inside, moves.iter().map(|found| found.from))
                .and_then(|near| moves.iter().find(|found| found.from == near));
            let hint = match near {
                Some(near) => format!("did you mean {}?", schema::join(&self.path, near.to)),
                None => "remove it".to_owned(),
            };
            let path = schema::join(&self.path, &spelled);
            self.error("", below.at, format!("unknown key {path}: {hint}"));
        }
    }

    fn insert(&mut self, key: &'static Key, entry: &'t Entry, spelled: String) {
        if let Some(first) = self.entries.get(key.name) {
            let message = format!(
                "{} is set twice: {} at {} and {spelled} here; keep {}",
                self.path_of(key.name),
                first.spelled,
                first.entry.at,
                key.name
            );
            self.error("", entry.at, message);
            return;
        }
        self.entries.insert(key.name, Placed { entry, spelled });
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
        match schema::homes(self.log.document().root(), name).as_slice() {
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

    /// The section that says something of a key: this one, or the defaults when only they do.
    fn owner(&self, key: &str) -> &Self {
        match &self.defaults {
            Some(defaults) if !self.entries.contains_key(key) && defaults.has(key) => defaults,
            _ => self,
        }
    }

    /// Where the value of a key is, or the section when the key is absent.
    pub(crate) fn at(&self, key: &str) -> Position {
        let owner = self.owner(key);
        owner
            .entries
            .get(key)
            .map_or(owner.at, |placed| placed.entry.node.at)
    }

    /// Whether the key is present, right or wrong.
    pub(crate) fn has(&self, key: &str) -> bool {
        let given = |defaults: &Fields<'_>| defaults.has(key);
        self.entries.contains_key(key) || self.defaults.as_deref().is_some_and(given)
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

    /// The value of a key as the file has it, when parts of it come from variables.
    pub(crate) fn written(&self, key: &str) -> Option<&'t str> {
        self.scalar_of(key)?.written.as_deref()
    }

    /// Logs that the value of `key` is wrong: `path: problem`.
    pub(crate) fn fail(&self, key: &str, problem: impl AsRef<str>) {
        let message = format!("{}: {}", self.owner(key).path_of(key), problem.as_ref());
        self.error(key, self.at(key), message);
    }

    /// Logs that the value of `key`, as `said`, is wrong in a way that may tell parts of it. Where
    /// it comes from a variable, only what is `expected` is told.
    pub(crate) fn fail_value(&self, key: &str, said: &str, problem: &str, expected: &str) {
        self.fail(
            key,
            match self.written(key) {
                Some(written) => format!("{}: expected {expected}", quoted(written)),
                None => format!("{said}: {problem}"),
            },
        );
    }

    /// An error about `key`, or about the section itself with an empty key.
    fn error(&self, key: &str, at: Position, message: String) {
        if self.is_about_secrets(key) {
            self.log.error_about_secret(at, message);
        } else {
            self.log.error(at, message);
        }
    }

    fn entry(&self, key: &str) -> Option<&'t Entry> {
        let owner = self.owner(key);
        debug_assert!(
            owner
                .section
                .key(key)
                .is_some_and(|key| matches!(key.status, Status::Works | Status::NoEffect(_))),
            "{key} is in the schema of {}",
            owner.path
        );
        owner.entries.get(key).map(|placed| placed.entry)
    }

    /// A section below this one; absent reads as empty.
    pub(crate) fn section(&self, key: &'static str) -> Fields<'t> {
        let Some(Form::Section(section)) = self.section.key(key).map(|key| key.form) else {
            unreachable!("{key} is a section of the schema of {}", self.path)
        };
        let entry = self.entries.get(key).map(|placed| placed.entry);
        let mut below = Fields::new(
            self.log,
            section,
            self.path_of(key),
            entry.map_or(self.at, |entry| entry.at),
            entry.map(|entry| &entry.node),
        );
        for moved in &self.moved {
            let rest = moved.to.strip_prefix(key);
            if let Some(to) = rest.and_then(|rest| rest.strip_prefix('.')) {
                let (entry, spelled) = (moved.placed.entry, moved.placed.spelled.clone());
                match below.section.key(to) {
                    Some(key) => below.take(
                        key,
                        entry,
                        spelled.clone(),
                        &schema::join(&self.path, &spelled),
                    ),
                    None => below.moved.push(Moved {
                        to,
                        placed: Placed { entry, spelled },
                    }),
                }
            }
        }
        match &self.defaults {
            Some(defaults) if defaults.section.key(key).is_some() => {
                below.or_else(defaults.section(key))
            }
            _ => below,
        }
    }

    /// What is found at a key, for messages.
    fn found(&self, key: &str) -> String {
        let owner = self.owner(key);
        owner.entries.get(key).map_or_else(
            || "nothing".to_owned(),
            |placed| owner.said_of(key, &placed.entry.node),
        )
    }

    /// Whether a value here may be a secret, in its place or in the wrong one.
    fn is_about_secrets(&self, key: &str) -> bool {
        let secret = |part: &str| SECRETS.iter().any(|word| part.contains(word));
        // A number or a switch is no secret, whatever it counts.
        let form = self.section.key(key).map(|key| key.form);
        let text = matches!(
            form,
            None | Some(
                Form::Text
                    | Form::Prose
                    | Form::Texts
                    | Form::Word(_)
                    | Form::Labels
                    | Form::TextsByName
                    | Form::Headers
                    | Form::Section(_)
                    | Form::Named(_)
                    | Form::List(_)
            )
        );
        // A pool may have any name.
        let mut parts = self.path.split('.');
        let named = matches!(parts.clone().next(), Some("pools" | "providers"));
        let parts_are = if named {
            parts.nth(1);
            parts.any(secret)
        } else {
            parts.any(secret)
        };
        parts_are || text && secret(key)
    }

    /// What a message says of a value.
    fn said_of(&self, key: &str, node: &Node) -> String {
        match node.value {
            Value::Scalar(_) if self.is_about_secrets(key) => HIDDEN.to_owned(),
            _ => node.to_string(),
        }
    }
}

/// A key for a message: as it is when it is plain, else quoted.
pub(crate) fn shown(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if !key.is_empty() && key.len() <= 64 && key.chars().all(plain) {
        key.to_owned()
    } else {
        quoted(key)
    }
}

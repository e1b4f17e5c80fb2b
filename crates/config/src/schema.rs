//! Every key of the configuration file as data: what it takes, its default and its meaning.
//!
//! The loader, the hints for unknown keys and the printed reference read the same tables.

use std::fmt::Write as _;

mod autoscaling;
mod fleet;
mod guards;
mod json;
mod keys;
mod notifier;
mod scenario;
mod server;

pub(crate) use autoscaling::PACES;
pub(crate) use fleet::PROVIDER_TYPES;
pub use json::{json_schema, scenario_schema};
pub(crate) use scenario::{ACTIONS, ASSERTIONS, FAILURES, Word};
pub use scenario::{SCENARIO, scenario_reference};
pub use server::ROOT;

/// A mapping of the file.
#[derive(Debug)]
pub struct Section {
    /// What the section is for.
    pub about: &'static str,
    /// Its keys, in the order in which documents show them.
    pub keys: &'static [Key],
}

/// One key of a section.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The spelling.
    pub name: &'static str,
    /// What the value may be.
    pub form: Form,
    /// The value when the key is absent, as the file would have it; empty when there is none.
    pub default: &'static str,
    /// The meaning.
    pub about: &'static str,
    /// What the loader does with it.
    pub status: Status,
    /// What a reload does with a change of it.
    pub reloading: Reloading,
}

impl Key {
    /// The same key, whose changes apply live.
    #[must_use]
    pub const fn live(mut self) -> Self {
        self.reloading = Reloading::Live;
        self
    }

    /// The same key, whose changes need a restart for this reason.
    #[must_use]
    pub const fn restart(mut self, why: &'static str) -> Self {
        self.reloading = Reloading::Restart(why);
        self
    }
}

/// What a reload does with a change of a key, and of the keys below it that say nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloading {
    /// What the section above says.
    Inherited,
    /// It applies at once.
    Live,
    /// It refuses the new configuration; the text says why.
    Restart(&'static str),
}

impl Reloading {
    /// This, or what stands above it.
    pub(crate) const fn or(self, above: Self) -> Self {
        match self {
            Self::Inherited => above,
            own => own,
        }
    }

    /// Why it needs a restart.
    pub(crate) const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Restart(why) => Some(why),
            Self::Live | Self::Inherited => None,
        }
    }
}

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// Text.
    Text,
    /// Text that may have several lines, or none.
    Prose,
    /// A duration in Go's notation.
    Duration,
    /// A duration, or `never`.
    DurationOrNever,
    /// A duration, or a mapping with one for growth and one for shrinking.
    Paces,
    /// A whole number.
    Number,
    /// A number that may have a fraction.
    Decimal,
    /// `true` or `false`.
    Flag,
    /// A count or a percentage.
    Budget,
    /// A percentage.
    Percent,
    /// A number of bytes with a binary unit.
    Size,
    /// Dollars per hour.
    Price,
    /// One of some words.
    Word(&'static [&'static str]),
    /// A mapping from text to text.
    Labels,
    /// A mapping with keys of its own.
    Section(&'static Section),
    /// A mapping from names to mappings.
    Named(&'static Section),
    /// A list of mappings.
    List(&'static Section),
    /// A list of text.
    Texts,
    /// A mapping from names of HTTP headers to text that may be secret.
    Headers,
    /// A share: a number from 0 to 1, or a percentage.
    Share,
    /// A kind of failure by its word; where the table says so, an XID.
    Failure,
    /// A number, a percentage or a duration, by what it limits.
    Bound,
    /// A mapping from names to weights.
    Weights,
    /// A mapping from names to whole numbers.
    Counts,
    /// A mapping from names to dollars per hour.
    Prices,
    /// A mapping from names to lists of text.
    TextsByName,
}

/// What the loader does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It works.
    Works,
    /// It is accepted, but nothing reads it yet; the text says why.
    NoEffect(&'static str),
    /// It belongs to the schema, but this build cannot do it yet.
    Planned,
    /// It is an old spelling of this key of the same section, or of one below it with dots.
    Renamed(&'static str),
    /// It is a section that is no more, whose keys have become others.
    Moved(&'static [Move]),
    /// It is never accepted; the text says what to use instead.
    Refused(&'static str),
}

/// Where a key of a section went that is no more.
#[derive(Debug, PartialEq, Eq)]
pub struct Move {
    /// The old key, with dots where it was nested.
    pub from: &'static str,
    /// The new key, relative to the section that the old one stood in.
    pub to: &'static str,
}

impl Section {
    /// The key of this name.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The working or planned key that is spelled most like `name`, if one is near.
    #[must_use]
    pub fn nearest(&self, name: &str) -> Option<&'static str> {
        let offered = self
            .keys
            .iter()
            .filter(|key| {
                !matches!(
                    key.status,
                    Status::Renamed(_) | Status::Moved(_) | Status::Refused(_)
                )
            })
            .map(|key| key.name);
        nearest(name, offered)
    }
}

/// The candidate that is spelled most like `name`, if one is near.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // A key from a hostile file may be a megabyte long; no known name is near it.
    if name.len() > 64 {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', ' '], "_");
    let wanted = plain(name);
    let candidates: Vec<&str> = candidates.into_iter().collect();
    // A word of one name alone is that name more likely than another that is spelled alike.
    let has_word = |candidate: &&str| plain(candidate).split('_').any(|word| word == wanted);
    let mut wordy = candidates.iter().copied().filter(has_word);
    if let (Some(only), None) = (wordy.next(), wordy.next()) {
        return Some(only);
    }
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&wanted, &plain(candidate)),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// A kind of file, each with its own table of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Document {
    /// The configuration of the control plane.
    Configuration,
    /// A scenario of the simulator.
    Scenario,
}

impl Document {
    /// The top level of its keys.
    pub(crate) const fn root(self) -> &'static Section {
        match self {
            Self::Configuration => &ROOT,
            Self::Scenario => &SCENARIO,
        }
    }

    /// The largest file that is read, in bytes. Lower refuses real files (200 pools take about
    /// 100 kB, a scenario that lists 10,000 nodes 2 MB); higher lets a wrong file, such as a disk
    /// image, cost memory before it is refused.
    pub(crate) const fn max_bytes(self) -> usize {
        match self {
            Self::Configuration => 1 << 20,
            Self::Scenario => 8 << 20,
        }
    }

    /// The most values in a file, aliases expanded; a pool takes about 40, and a node of a scenario
    /// about 20.
    pub(crate) const fn max_values(self) -> usize {
        match self {
            Self::Configuration => 50_000,
            Self::Scenario => 500_000,
        }
    }

    /// What messages call it.
    pub(crate) const fn noun(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Scenario => "scenario",
        }
    }
}

/// The sections below `root` that have a key of this name, as dotted paths.
pub(crate) fn homes(root: &'static Section, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for_each_section("", root, &mut |path, section| {
        if !path.is_empty()
            && section
                .key(name)
                .is_some_and(|key| key.status == Status::Works)
        {
            found.push(path.to_owned());
        }
    });
    found
}

/// Calls `visit` with each section and its dotted path, parents first. A section within itself is
/// visited once.
pub(crate) fn for_each_section(
    path: &str,
    section: &'static Section,
    visit: &mut dyn FnMut(&str, &'static Section),
) {
    descend(&mut Vec::new(), path, section, visit);
}

fn descend(
    above: &mut Vec<&'static Section>,
    path: &str,
    section: &'static Section,
    visit: &mut dyn FnMut(&str, &'static Section),
) {
    if above.iter().any(|above| std::ptr::eq(*above, section)) {
        return;
    }
    visit(path, section);
    above.push(section);
    for key in section.keys {
        if !matches!(key.status, Status::Works | Status::NoEffect(_)) {
            continue;
        }
        let below = join(path, key.name);
        match key.form {
            Form::Section(section) => descend(above, &below, section, visit),
            Form::Named(section) => descend(above, &format!("{below}.<name>"), section, visit),
            Form::List(section) => descend(above, &format!("{below}[]"), section, visit),
            _ => {}
        }
    }
    above.pop();
}

pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// The reference of all working keys as Markdown tables, one per section.
#[must_use]
pub fn reference() -> String {
    let mut text = String::new();
    for_each_section("", &ROOT, &mut |path, section| {
        let title = if path.is_empty() { "Top level" } else { path };
        let _ = writeln!(text, "## `{title}`\n\n{}\n", section.about);
        text.push_str(
            "| Key | Value | Default | Change while running | Meaning |\n|---|---|---|---|---|\n",
        );
        for key in section.keys {
            let about = match key.status {
                Status::Works => key.about.to_owned(),
                Status::NoEffect(why) => format!("{} No effect: {why}.", key.about),
                _ => continue,
            };
            let default = default_words(key);
            let reload = match (key.status, reloading(path, key)) {
                (Status::NoEffect(_), _) => "–".to_owned(),
                (_, Reloading::Live) => "live".to_owned(),
                (_, Reloading::Restart(why)) => format!("restart: {why}"),
                // Its keys differ.
                (_, Reloading::Inherited) => "see below".to_owned(),
            };
            let _ = writeln!(
                text,
                "| `{}` | {} | {default} | {reload} | {about} |",
                key.name,
                form_words(key.form)
            );
        }
        text.push('\n');
    });
    text
}

/// The old spellings and the refused ones as Markdown tables.
#[must_use]
pub fn old_spellings() -> String {
    let mut old = String::new();
    let mut refused = String::new();
    for_each_section("", &ROOT, &mut |path, section| {
        for key in section.keys {
            let from = join(path, key.name);
            match key.status {
                Status::Renamed(to) => {
                    let _ = writeln!(old, "| `{from}` | `{}` |", join(path, to));
                }
                Status::Moved(moves) => {
                    for found in moves {
                        let (from, to) = (join(&from, found.from), join(path, found.to));
                        let _ = writeln!(old, "| `{from}` | `{to}` |");
                    }
                }
                Status::Refused(instead) => {
                    let _ = writeln!(refused, "| `{from}` | {instead} |");
                }
                Status::Works | Status::NoEffect(_) | Status::Planned => {}
            }
        }
    });
    format!(
        "## Old spellings\n\nDocuments and files of the Go project spell some keys in another way. \
         Each of these loads, with a warning that names the new key. To set a key by both spellings \
         is an error.\n\n| Old | New |\n|---|---|\n{old}\n\
         Sections by name, such as `pools`, may also be a list in which each element has a `name`, \
         and a provider without `type` has its name as the type.\n\n\
         ## Refused keys\n\nSome keys are refused on purpose.\n\n| Key | Instead |\n|---|---|\n{refused}"
    )
}

/// What a reload does with a key of the section at a path; inherited where the keys below differ.
fn reloading(path: &str, key: &'static Key) -> Reloading {
    let mut section = &ROOT;
    let mut found = Reloading::Restart("it is read at the start");
    for part in path.split('.').filter(|part| *part != "<name>") {
        let Some(above) = section.key(part.trim_end_matches("[]")) else {
            break;
        };
        found = above.reloading.or(found);
        if let Form::Section(below) | Form::Named(below) | Form::List(below) = above.form {
            section = below;
        }
    }
    let found = key.reloading.or(found);
    let mut mixed = false;
    if let Form::Section(below) = key.form {
        for_each_section("", below, &mut |_, section| {
            mixed |= section
                .keys
                .iter()
                .any(|key| matches!(key.status, Status::Works) && key.reloading.or(found) != found);
        });
    }
    if mixed { Reloading::Inherited } else { found }
}

fn default_words(key: &Key) -> String {
    match key.default {
        "" => "–".to_owned(),
        default => format!("`{default}`"),
    }
}

fn form_words(form: Form) -> String {
    match form {
        Form::Text | Form::Prose => "text".to_owned(),
        Form::Duration => "duration".to_owned(),
        Form::DurationOrNever => "duration or `never`".to_owned(),
        Form::Paces => "duration, or `up` and `down`".to_owned(),
        Form::Number => "whole number".to_owned(),
        Form::Decimal => "number".to_owned(),
        Form::Flag => "`true` or `false`".to_owned(),
        Form::Budget => "count or percentage".to_owned(),
        Form::Percent => "percentage".to_owned(),
        Form::Price => "dollars per hour".to_owned(),
        Form::Size => "size such as `256MiB`".to_owned(),
        Form::Word(words) => words
            .iter()
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(", "),
        Form::Labels => "mapping of text".to_owned(),
        Form::Section(_) => "section".to_owned(),
        Form::Named(_) => "sections by name".to_owned(),
        Form::List(_) => "list of sections".to_owned(),
        Form::Texts => "list of text".to_owned(),
        Form::Headers => "mapping of secret text".to_owned(),
        Form::Share => "number from 0 to 1, or percentage".to_owned(),
        Form::Failure => "kind of failure".to_owned(),
        Form::Bound => "number, percentage or duration".to_owned(),
        Form::Weights => "mapping from names to weights".to_owned(),
        Form::Counts => "mapping from names to whole numbers".to_owned(),
        Form::Prices => "mapping from names to dollars per hour".to_owned(),
        Form::TextsByName => "mapping from names to lists of text".to_owned(),
    }
}

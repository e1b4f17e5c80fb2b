//! A YAML text as a tree in which every key and value knows its place.
//!
//! The parser finds syntax errors and the limits below; everything else is left to the reader of
//! the tree, so that one pass reports all problems of a file.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{DuplicateKeyPolicy, Location, NonFiniteFloatPolicy, Options, Spanned};

use crate::error::{Log, Position};
use crate::schema::Document;

/// The deepest nesting; the schema needs five levels.
const MAX_DEPTH: usize = 32;

/// The most entries of one mapping, whatever the file is.
const LONGEST_MAPPING: usize = 500_000;

/// A value with its place.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) value: Value,
}

#[derive(Debug)]
pub(crate) enum Value {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Position,
    pub(crate) node: Node,
}

/// A scalar with its variables put in, and what YAML 1.1 takes it for.
#[derive(Debug, Default)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) kind: Kind,
    /// What the file has, when that has variables.
    pub(crate) written: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Text,
    Number,
    Boolean(bool),
    /// A variable could not be put in; what is wrong is in the log.
    Broken,
}

impl fmt::Display for Node {
    /// What a message says it found.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Null => f.write_str("nothing"),
            Value::List(_) => f.write_str("a list"),
            Value::Map(_) => f.write_str("a mapping"),
            Value::Scalar(Scalar {
                written: Some(written),
                ..
            }) => write!(f, "what stands for {}", quoted(written)),
            Value::Scalar(scalar) => {
                let text = quoted(&scalar.text);
                match scalar.kind {
                    Kind::Text | Kind::Broken => write!(f, "the text {text}"),
                    Kind::Number => write!(f, "the number {}", &text[1..text.len() - 1]),
                    Kind::Boolean(_) => {
                        write!(f, "the boolean {}", &text[1..text.len() - 1])
                    }
                }
            }
        }
    }
}

/// A text for a message: quoted, its control characters escaped, cut after 60 characters.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}", format!("{}…", &text[..end])),
    }
}

/// Parses a text; `None` means that an error is in the log. Duplicate keys and keys that are no
/// plain text are logged and left out.
pub(crate) fn parse(log: &Log, text: &str) -> Option<Node> {
    if let Some((position, message)) = unreadable(text) {
        log.error(position, message);
        return None;
    }
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options(log.document())) {
        Ok(root) => Some(Source { text, log }.node(root)),
        Err(error) => {
            let position = error.location().map_or(Position::START, position);
            let mut message = syntax_message(&error, log.document());
            let line = usize::try_from(position.line).unwrap_or(usize::MAX);
            let line = text.split('\n').nth(line.saturating_sub(1));
            if message.contains("flow") && line.is_some_and(|line| line.contains("${")) {
                message.push_str("; within { } and [ ], put quotes around a value with ${");
            }
            log.error(position, message);
            None
        }
    }
}

fn options(document: Document) -> Options {
    let mut options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: document.max_values(),
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    options.alias_limits.max_total_replayed_events = document.max_values();
    options
}

/// Control characters are refused before parsing, comments included: an editor hides them.
fn unreadable(text: &str) -> Option<(Position, String)> {
    let bad = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{85}');
    let (offset, c) = text.char_indices().find(|(_, c)| bad(*c))?;
    let position = position_of(text, offset);
    Some((
        position,
        format!("control character U+{:04X}: remove it", u32::from(c)),
    ))
}

/// The place of a byte offset that lies on a character's border.
pub(crate) fn position_of(text: &str, offset: usize) -> Position {
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Position {
        line: before.matches('\n').count() as u64 + 1,
        column: before[line_start..].chars().count() as u64 + 1,
    }
}

fn position(location: Location) -> Position {
    Position {
        line: location.line(),
        column: location.column(),
    }
}

fn syntax_message(error: &serde_saphyr::Error, document: Document) -> String {
    use serde_saphyr::Error;
    match error.without_snippet() {
        Error::AliasError { error, .. } => syntax_message(error, document),
        Error::MultipleDocuments { .. } => {
            "a second YAML document begins here: keep one document in the file".to_owned()
        }
        Error::Budget { breach, .. } => match breach {
            BudgetBreach::Depth { .. } => too_deep(document),
            _ => too_much(document),
        },
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. } => too_much(document),
        Error::UnsupportedTag { tag, .. } => {
            format!("the tag {} is not supported: remove it", quoted(tag))
        }
        other => {
            let text = other.to_string();
            if text.starts_with("recursion limit exceeded") {
                return too_deep(document);
            }
            let text = text.split(" at line ").next().unwrap_or(&text);
            format!("not valid YAML: {text}")
        }
    }
}

fn too_deep(document: Document) -> String {
    let noun = document.noun();
    format!("nested deeper than {MAX_DEPTH} levels: no key of the {noun} is that deep")
}

fn too_much(document: Document) -> String {
    let (most, noun) = (document.max_values(), document.noun());
    format!("more than {most} values, counting each use of an alias: no {noun} is that large")
}

/// The tree as the deserializer gives it, before scalars get their text back.
enum Raw {
    Null,
    Boolean(bool),
    Number,
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RawVisitor;

        impl<'de> Visitor<'de> for RawVisitor {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a YAML value")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
                Ok(Raw::Boolean(value))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
                Ok(Raw::Number)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
                Ok(Raw::Number)
            }

            fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
                Ok(Raw::Number)
            }

            fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
                Ok(Raw::Number)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
                Ok(Raw::Number)
            }

            fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
                Ok(Raw::Text(value.to_owned()))
            }

            fn visit_string<E>(self, value: String) -> Result<Raw, E> {
                Ok(Raw::Text(value))
            }

            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }

            fn visit_none<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }

            fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<Raw, E> {
                Err(E::custom("binary values are not supported"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = seq.next_element()? {
                    list.push(element);
                }
                Ok(Raw::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                    if entries.len() > LONGEST_MAPPING {
                        return Err(A::Error::custom("the mapping is too long"));
                    }
                }
                Ok(Raw::Map(entries))
            }
        }

        deserializer.deserialize_any(RawVisitor)
    }
}

struct Source<'a> {
    text: &'a str,
    log: &'a Log,
}

impl Source<'_> {
    fn node(&mut self, raw: Spanned<Raw>) -> Node {
        let at = position(raw.referenced);
        let defined = raw.defined;
        let value = match raw.value {
            Raw::Null => Value::Null,
            Raw::Boolean(value) => Value::Scalar(Scalar {
                text: self.written(defined),
                kind: Kind::Boolean(value),
                written: None,
            }),
            Raw::Number => Value::Scalar(Scalar {
                text: self.written(defined),
                kind: Kind::Number,
                written: None,
            }),
            Raw::Text(text) => Value::Scalar(Scalar {
                text,
                kind: Kind::Text,
                written: None,
            }),
            Raw::List(list) => Value::List(list.into_iter().map(|raw| self.node(raw)).collect()),
            Raw::Map(entries) => Value::Map(self.entries(entries)),
        };
        Node { at, value }
    }

    fn entries(&mut self, raw: Vec<(Spanned<Raw>, Spanned<Raw>)>) -> Vec<Entry> {
        let mut seen: BTreeMap<String, Position> = BTreeMap::new();
        let mut entries = Vec::with_capacity(raw.len());
        for (key, value) in raw {
            let at = position(key.referenced);
            let key = match key.value {
                Raw::Text(text) => text,
                // `on:`, `1:` and `~:` name keys, whatever YAML 1.1 takes them for.
                Raw::Boolean(_) | Raw::Number | Raw::Null => self.written(key.defined),
                Raw::List(_) | Raw::Map(_) => {
                    self.log
                        .error(at, "a key must be plain text, not a list or a mapping");
                    continue;
                }
            };
            if let Some(first) = seen.get(&key) {
                self.log.error(
                    at,
                    format!(
                        "duplicate key {}: it is already set at {first}; keep one",
                        quoted(&key)
                    ),
                );
                continue;
            }
            seen.insert(key.clone(), at);
            let node = self.node(value);
            entries.push(Entry { key, at, node });
        }
        entries
    }

    /// A plain scalar as the file has it.
    fn written(&self, location: Location) -> String {
        let span = location.span();
        let slice = || {
            let start = usize::try_from(span.byte_offset()?).ok()?;
            let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
            self.text.get(start..end)
        };
        slice().unwrap_or_default().trim().to_owned()
    }
}

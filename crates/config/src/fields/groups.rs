//! Values with several parts: sections by name, lists, labels, headers.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fields, shown};
use crate::error::Position;
use crate::schema::{self, Form};
use crate::secret::{HIDDEN, PUT_BACK, Secret};
use crate::tree::{Entry, Kind, Node, Scalar, Value, quoted};
use crate::units::Threshold;

/// The most bytes of a label, and of a header. More would burden every call that carries it.
const MAX_LABEL_BYTES: usize = 256;
const MAX_HEADER_BYTES: usize = 8192;

/// Headers that the program sets itself, or that belong to the connection.
const OWN_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "host",
    "idempotency-key",
    "navarch-notice-sequence",
    "navarch-signature",
    "navarch-timestamp",
    "transfer-encoding",
];

/// The most elements of a list of texts.
const MAX_TEXTS: usize = 1000;

impl<'t> Fields<'t> {
    /// The names below a key, sound or not; `None` when it is no mapping, so that nothing is known.
    pub(crate) fn names(&self, key: &str) -> Option<BTreeSet<&'t str>> {
        match self.entry(key).map(|entry| &entry.node.value) {
            None | Some(Value::Null) => Some(BTreeSet::new()),
            Some(Value::Map(entries)) => {
                Some(entries.iter().map(|entry| entry.key.as_str()).collect())
            }
            Some(Value::List(elements)) => {
                let named = elements.iter().filter_map(name_of);
                let names: BTreeSet<_> = named.map(|(name, _)| name).collect();
                (!names.is_empty()).then_some(names)
            }
            Some(Value::Scalar(_)) => None,
        }
    }

    /// The sections by name below a key, in the order of the file. A list of mappings with a
    /// `name` each is an old spelling of it.
    pub(crate) fn named(&self, key: &'static str) -> Vec<(&'t str, Fields<'t>)> {
        let Some(Form::Named(section)) = self.section.key(key).map(|key| key.form) else {
            unreachable!("{key} holds named sections in the schema of {}", self.path)
        };
        let path = self.path_of(key);
        let listed = match self.entry(key).map(|entry| &entry.node) {
            Some(Node {
                value: Value::List(elements),
                ..
            }) if elements.iter().any(|element| name_of(element).is_some()) => {
                self.listed(key, elements)
            }
            _ => Vec::new(),
        };
        let left_out = (!listed.is_empty()).then_some("name");
        let mapped = match left_out {
            None => self.mapping(key, "a mapping from names to sections"),
            Some(_) => &[],
        };
        let mapped = mapped
            .iter()
            .map(|entry| (entry.key.as_str(), entry.at, &entry.node));
        mapped
            .chain(listed)
            .filter_map(|(name, at, node)| {
                if let Some(problem) = bad_name(name) {
                    self.error(key, at, format!("{path}: the name {problem}"));
                    return None;
                }
                let path = schema::join(&path, name);
                let fields = Fields::without(self.log, section, path, at, Some(node), left_out);
                Some((name, fields))
            })
            .collect()
    }

    /// The elements of a list that should be a mapping, each with its name.
    fn listed(&self, key: &str, elements: &'t [Node]) -> Vec<(&'t str, Position, &'t Node)> {
        let path = self.path_of(key);
        self.log.warn(
            self.at(key),
            format!(
                "{path} as a list is an old spelling: write each name as a key of {path}, with the other keys below it"
            ),
        );
        let mut seen = BTreeMap::new();
        let mut found = Vec::new();
        for element in elements {
            let Some((name, at)) = name_of(element) else {
                let message =
                    format!("{path}: each element of the list must be a mapping with a name");
                self.error(key, element.at, message);
                continue;
            };
            if let Some(first) = seen.insert(name, at) {
                let message = format!(
                    "{path}: the name {} is already taken at {first}; keep one",
                    quoted(name)
                );
                self.error(key, at, message);
                continue;
            }
            found.push((name, element.at, element));
        }
        found
    }

    /// The sections of a list, in the order of the file.
    pub(crate) fn list(&self, key: &'static str) -> Vec<Fields<'t>> {
        let Some(Form::List(section)) = self.section.key(key).map(|key| key.form) else {
            unreachable!("{key} is a list of sections in the schema of {}", self.path)
        };
        let path = self.path_of(key);
        self.elements(key, "a list of mappings")
            .iter()
            .enumerate()
            .map(|(index, node)| {
                let path = format!("{path}[{index}]");
                Fields::new(self.log, section, path, node.at, Some(node))
            })
            .collect()
    }

    /// A list of texts that are not empty, each with its place; absent reads as empty.
    pub(crate) fn texts(&self, key: &str) -> Vec<(String, Position)> {
        let path = self.owner(key).path_of(key);
        let elements = self.elements(key, "a list of text");
        if elements.len() > MAX_TEXTS {
            self.fail(key, format!("a list has at most {MAX_TEXTS} elements"));
            return Vec::new();
        }
        let mut texts = Vec::new();
        for (index, node) in elements.iter().enumerate() {
            let path = format!("{path}[{index}]");
            match &node.value {
                Value::Scalar(Scalar {
                    kind: Kind::Broken, ..
                }) => {}
                Value::Scalar(scalar) if scalar.text.trim().is_empty() => {
                    let message = format!("{path}: the text is empty: give one or remove it");
                    self.error(key, node.at, message);
                }
                Value::Scalar(scalar) => texts.push((scalar.text.clone(), node.at)),
                _ => {
                    let message =
                        format!("{path}: expected text, found {}", self.said_of(key, node));
                    self.error(key, node.at, message);
                }
            }
        }
        texts
    }

    fn elements(&self, key: &str, expected: &str) -> &'t [Node] {
        match self.entry(key).map(|entry| &entry.node) {
            None
            | Some(Node {
                value: Value::Null, ..
            }) => &[],
            Some(Node {
                value: Value::List(elements),
                ..
            }) => elements,
            Some(_) => {
                self.fail(
                    key,
                    format!("expected {expected}, found {}", self.found(key)),
                );
                &[]
            }
        }
    }

    /// A mapping from text to text, each with its place. Labels of the defaults count where this
    /// section has none of the name.
    pub(crate) fn labels(&self, key: &str) -> BTreeMap<String, (String, Position)> {
        let mut labels = match &self.defaults {
            Some(defaults) if defaults.has(key) => defaults.labels(key),
            _ => BTreeMap::new(),
        };
        if self.entries.contains_key(key) {
            labels.extend(self.own_labels(key));
        }
        labels
    }

    fn own_labels(&self, key: &str) -> BTreeMap<String, (String, Position)> {
        let path = self.path_of(key);
        let mut labels = BTreeMap::new();
        for entry in self.mapping(key, "a mapping from label to text") {
            let label = format!("{path}.{}", shown(&entry.key));
            let Value::Scalar(scalar) = &entry.node.value else {
                let message = format!("{label}: expected text, found {}", entry.node);
                self.error(&entry.key, entry.node.at, message);
                continue;
            };
            let long = |text: &str| text.len() > MAX_LABEL_BYTES;
            if scalar.kind == Kind::Broken {
                continue;
            }
            let problem = if entry.key.trim().is_empty() {
                format!("{path}: a label has no name")
            } else if long(&entry.key) || long(&scalar.text) {
                format!("{label}: labels and their values have at most {MAX_LABEL_BYTES} bytes")
            } else if [&entry.key, &scalar.text]
                .iter()
                .any(|text| text.contains(char::is_control))
            {
                format!("{label}: labels have no line breaks or tabs: remove them")
            } else {
                labels.insert(entry.key.clone(), (scalar.text.clone(), entry.node.at));
                continue;
            };
            self.error(&entry.key, entry.at, problem);
        }
        labels
    }

    /// A mapping from the names of HTTP headers to their values, which are secrets.
    pub(crate) fn headers(&self, key: &str) -> BTreeMap<String, Secret> {
        let path = self.path_of(key);
        let mut headers = BTreeMap::new();
        for entry in self.mapping(key, "a mapping from header to text") {
            let header = format!("{path}.{}", shown(&entry.key));
            let legal = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            let Value::Scalar(scalar) = &entry.node.value else {
                let message = format!("{header}: expected text, found {}", entry.node);
                self.log.error_about_secret(entry.node.at, message);
                continue;
            };
            if scalar.kind == Kind::Broken {
                continue;
            }
            let problem = if entry.key.is_empty() || !entry.key.chars().all(legal) {
                format!("{header}: not the name of a header: use letters, digits and -")
            } else if OWN_HEADERS.contains(&entry.key.to_ascii_lowercase().as_str()) {
                format!("{header}: it is set by the program itself: remove it")
            } else if scalar.text == HIDDEN {
                format!("{header}: {PUT_BACK}")
            } else if scalar.text.len() > MAX_HEADER_BYTES {
                format!("{header}: a header has at most {MAX_HEADER_BYTES} bytes")
            } else if !scalar
                .text
                .bytes()
                .all(|b| b == b' ' || b.is_ascii_graphic())
            {
                format!("{header}: a header is one line of ASCII text")
            } else {
                let value = Secret::of_file(scalar.text.clone(), scalar.written.as_deref());
                headers.insert(entry.key.clone(), value);
                continue;
            };
            self.log.error_about_secret(entry.node.at, problem);
        }
        headers
    }

    /// A section with `count` and `percent`, both optional.
    pub(crate) fn threshold(&self, key: &'static str, default: Threshold, most: u32) -> Threshold {
        let fields = self.section(key);
        Threshold {
            count: fields.count("count", 0..=most).unwrap_or(default.count),
            percent: fields.percent("percent").unwrap_or(default.percent),
        }
    }

    pub(super) fn mapping(&self, key: &str, expected: &str) -> &'t [Entry] {
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
                    Value::List(_) => ": write each as \"name:\" with its value behind it",
                    _ => "",
                };
                let found = self.found(key);
                self.fail(key, format!("expected {expected}, found {found}{hint}"));
                &[]
            }
        }
    }
}

/// The name that an element of a list gives itself, and where.
fn name_of(element: &Node) -> Option<(&str, Position)> {
    let Value::Map(entries) = &element.value else {
        return None;
    };
    let entry = entries.iter().find(|entry| entry.key == "name")?;
    match &entry.node.value {
        Value::Scalar(scalar) => Some((scalar.text.as_str(), entry.node.at)),
        _ => None,
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

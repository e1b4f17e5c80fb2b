//! The tables of keys as a JSON Schema, for editors.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{FAILURES, Form, Key, Move, ROOT, SCENARIO, Section, Status, for_each_section};

/// A value with a variable in it stands for anything.
const VARIABLE: &str = r"\$\{";

/// A duration in Go's notation.
const DURATION: &str = r"^\+?(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$";

/// A percentage.
const PERCENT: &str = r"^[0-9]+(\.[0-9]{1,2})? *%$";

/// A size with a binary unit.
const SIZE: &str = r"^(0|[0-9]+ ?(KiB|MiB|GiB|TiB))$";

/// A price in dollars.
const PRICE: &str = r"^\$?[0-9]+(\.[0-9]+)?$";

/// The schema of the configuration file: JSON Schema, draft 2020-12. Old spellings are in it, marked
/// as deprecated; what depends on several keys at once is left to the loader.
#[must_use]
pub fn json_schema() -> Value {
    schema(&ROOT, "Navarch configuration")
}

/// The schema of scenarios of the simulator, in the same way. Forms that the Go project's documents
/// show and its reader never took are not in it.
#[must_use]
pub fn scenario_schema() -> Value {
    schema(&SCENARIO, "Navarch scenario")
}

fn schema(root: &'static Section, title: &str) -> Value {
    let mut names: Names = BTreeMap::new();
    for_each_section("", root, &mut |path, section| {
        let name = path.replace(".<name>", "").replace("[]", "");
        names.entry(address(section)).or_insert((name, section));
    });
    let mut definitions = Map::new();
    for (name, section) in names.values() {
        if !name.is_empty() {
            definitions.insert(name.clone(), object(section, &names));
        }
    }
    let mut schema = Map::new();
    schema.insert(
        "$schema".into(),
        "https://json-schema.org/draft/2020-12/schema".into(),
    );
    schema.insert("title".into(), title.into());
    let root = object(root, &names);
    schema.extend(root.as_object().cloned().unwrap_or_default());
    schema.insert("$defs".into(), definitions.into());
    schema.into()
}

/// The name of each section, by where its table is.
type Names = BTreeMap<usize, (String, &'static Section)>;

fn address(section: &'static Section) -> usize {
    std::ptr::from_ref(section).addr()
}

/// A section as a mapping with its keys.
fn object(section: &'static Section, names: &Names) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for key in section.keys {
        let property = match key.status {
            Status::Works | Status::NoEffect(_) => described(key, names),
            Status::Renamed(to) => old(section, to, names),
            Status::Moved(moves) => moved(section, "", moves, names),
            Status::Planned | Status::Refused(_) => continue,
        };
        properties.insert(key.name.to_owned(), property);
        if key.about.starts_with("Required.") && !has_old(section, key.name) {
            required.push(key.name);
        }
    }
    json!({
        "description": section.about,
        "type": ["object", "null"],
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// Whether a key may also be given by an old spelling, so that the key itself may be absent.
fn has_old(section: &'static Section, name: &str) -> bool {
    section.keys.iter().any(|key| match key.status {
        Status::Renamed(to) => to == name,
        Status::Moved(moves) => moves.iter().any(|found| found.to == name),
        _ => false,
    })
}

fn described(key: &'static Key, names: &Names) -> Value {
    let mut about = key.about.to_owned();
    if let Status::NoEffect(why) = key.status {
        about = format!("{about} No effect: {why}.");
    }
    if !key.default.is_empty() {
        about = format!("{about} Default: {}.", key.default);
    }
    let mut value = form(key.form, names);
    value["description"] = about.into();
    value
}

/// An old spelling of the key `to`, which may be of a section below.
fn old(section: &'static Section, to: &str, names: &Names) -> Value {
    let mut value = match find(section, to) {
        Some(key) if matches!(key.status, Status::Works | Status::NoEffect(_)) => {
            form(key.form, names)
        }
        // This build refuses it by its new name, too.
        _ => json!(false),
    };
    if value.is_object() {
        value["deprecated"] = true.into();
        value["description"] = format!("Old spelling: write {to}.").into();
    }
    value
}

fn find(mut section: &'static Section, path: &str) -> Option<&'static Key> {
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        let key = section.key(part)?;
        if parts.peek().is_none() {
            return Some(key);
        }
        section = match key.form {
            Form::Section(below) => below,
            _ => return None,
        };
    }
    None
}

/// A section that is no more, from the keys that have gone elsewhere.
fn moved(section: &'static Section, inside: &str, moves: &'static [Move], names: &Names) -> Value {
    let mut properties = Map::new();
    for found in moves {
        let Some(rest) = (match inside {
            "" => Some(found.from),
            _ => found
                .from
                .strip_prefix(inside)
                .and_then(|rest| rest.strip_prefix('.')),
        }) else {
            continue;
        };
        let property = match rest.split_once('.') {
            None => old(section, found.to, names),
            Some((name, _)) => moved(section, &super::join(inside, name), moves, names),
        };
        let name = rest.split('.').next().unwrap_or(rest);
        properties.insert(name.to_owned(), property);
    }
    json!({
        "description": "Old section: its keys stand elsewhere.",
        "deprecated": true,
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": false,
    })
}

fn form(form: Form, names: &Names) -> Value {
    let reference = |section: &'static Section| {
        let name = names.get(&address(section)).map_or("", |(name, _)| name);
        json!({ "$ref": format!("#/$defs/{name}") })
    };
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    let or_variable = |mut forms: Vec<Value>| {
        forms.push(text(VARIABLE));
        json!({ "anyOf": forms })
    };
    let scalar = || json!({ "type": ["string", "number", "boolean"] });
    let by_name =
        |value: Value| json!({ "type": ["object", "null"], "additionalProperties": value });
    match form {
        Form::Text => json!({ "type": ["string", "number", "boolean"], "minLength": 1 }),
        Form::Prose => scalar(),
        Form::Duration => or_variable(vec![text(DURATION)]),
        Form::DurationOrNever => {
            or_variable(vec![text(DURATION), text("^([nN][eE][vV][eE][rR])$")])
        }
        Form::Paces => {
            let duration = || or_variable(vec![text(DURATION)]);
            or_variable(vec![
                text(DURATION),
                json!({
                    "type": "object",
                    "properties": { "up": duration(), "down": duration() },
                    "additionalProperties": false,
                }),
            ])
        }
        Form::Number => or_variable(vec![json!({ "type": "integer" })]),
        Form::Price => or_variable(vec![json!({ "type": "number", "minimum": 0 }), text(PRICE)]),
        Form::Decimal => or_variable(vec![json!({ "type": "number" })]),
        Form::Flag => or_variable(vec![
            json!({ "type": "boolean" }),
            text("^([yYnN]|[yY][eE][sS]|[nN][oO]|[oO][nN]|[oO][fF][fF])$"),
        ]),
        Form::Budget => or_variable(vec![
            json!({ "type": "integer", "minimum": 0 }),
            text(PERCENT),
        ]),
        Form::Percent => or_variable(vec![text(PERCENT)]),
        Form::Size => or_variable(vec![text(SIZE), json!({ "const": 0 })]),
        Form::Word(words) => {
            let mut values: Vec<Value> = words.iter().map(|word| json!(word)).collect();
            if words.contains(&"on") {
                values.extend([json!(true), json!(false)]);
            }
            or_variable(vec![json!({ "enum": values })])
        }
        Form::Labels | Form::Headers => json!({
            "type": ["object", "null"],
            "additionalProperties": scalar(),
        }),
        Form::Texts => json!({ "type": ["array", "null"], "items": scalar() }),
        Form::Share => or_variable(vec![
            json!({ "type": "number", "minimum": 0, "maximum": 1 }),
            text(PERCENT),
        ]),
        Form::Failure => {
            // An assertion's type may stand there, and an XID as a trigger.
            let mut words: Vec<&str> = FAILURES.iter().map(|word| word.name).collect();
            words.extend(["xid", "boot", "nvml", "node_status", "health_status"]);
            or_variable(vec![
                json!({ "enum": words }),
                json!({ "type": "integer", "minimum": 1 }),
                text("^[0-9]+$"),
            ])
        }
        Form::Bound => json!({ "type": ["string", "number"], "minLength": 1 }),
        Form::Weights => by_name(or_variable(vec![json!({ "type": "number", "minimum": 0 })])),
        Form::Counts => by_name(or_variable(vec![
            json!({ "type": "integer", "minimum": 0 }),
        ])),
        Form::Prices => by_name(or_variable(vec![
            json!({ "type": "number", "minimum": 0 }),
            text(PRICE),
        ])),
        Form::TextsByName => by_name(json!({ "type": "array", "items": scalar() })),
        Form::Section(section) => reference(section),
        Form::List(section) => json!({
            "type": ["array", "null"],
            "items": reference(section),
        }),
        Form::Named(section) => {
            let mut listed = object(section, names);
            listed["properties"]["name"] = json!({ "type": "string" });
            if let Some(required) = listed["required"].as_array_mut() {
                required.push("name".into());
            }
            json!({
                "anyOf": [
                    {
                        "type": ["object", "null"],
                        "propertyNames": { "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$" },
                        "additionalProperties": reference(section),
                    },
                    { "type": "array", "items": listed, "deprecated": true },
                ]
            })
        }
    }
}

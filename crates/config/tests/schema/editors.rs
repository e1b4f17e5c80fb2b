//! The JSON Schema against a validator: it takes what the loader takes, and refuses what a table
//! alone can refuse.

use std::path::Path;

use navarch_config::Config;
use navarch_config::schema::json_schema;
use regex::Regex;
use serde_json::Value;

use crate::keys;

/// What an editor does with the schema: the words of JSON Schema that it uses, and no other.
pub struct Validator {
    pub schema: Value,
}

impl Validator {
    pub fn takes(&self, text: &str) -> bool {
        serde_saphyr::from_str(text).is_ok_and(|value| self.fits(&self.schema, &value))
    }

    fn fits(&self, schema: &Value, value: &Value) -> bool {
        let words = match schema {
            Value::Bool(all) => return *all,
            Value::Object(words) => words,
            other => panic!("no schema: {other}"),
        };
        words
            .iter()
            .all(|(word, told)| match (word.as_str(), told) {
                ("$schema" | "$defs" | "title" | "description" | "deprecated", _) => true,
                ("$ref", Value::String(place)) => {
                    let name = place.strip_prefix("#/$defs/").expect(place);
                    self.fits(&self.schema["$defs"][name], value)
                }
                ("anyOf", Value::Array(forms)) => forms.iter().any(|form| self.fits(form, value)),
                ("enum", Value::Array(values)) => values.contains(value),
                ("const", only) => only == value,
                ("type", Value::Array(types)) => types.iter().any(|name| is_a(name, value)),
                ("type", name) => is_a(name, value),
                ("pattern", Value::String(pattern)) => value
                    .as_str()
                    .is_none_or(|text| Regex::new(pattern).expect("a sound schema").is_match(text)),
                ("minLength", least) => value.as_str().is_none_or(|text| {
                    text.len() as u64 >= least.as_u64().expect("a sound schema")
                }),
                ("minimum", least) => value
                    .as_f64()
                    .is_none_or(|number| number >= least.as_f64().expect("a sound schema")),
                ("maximum", most) => value
                    .as_f64()
                    .is_none_or(|number| number <= most.as_f64().expect("a sound schema")),
                ("items", form) => value
                    .as_array()
                    .is_none_or(|items| items.iter().all(|item| self.fits(form, item))),
                ("required", Value::Array(keys)) => value.as_object().is_none_or(|entries| {
                    keys.iter()
                        .all(|key| entries.contains_key(key.as_str().expect("a sound schema")))
                }),
                ("properties", Value::Object(properties)) => {
                    value.as_object().is_none_or(|entries| {
                        entries.iter().all(|(key, value)| {
                            let form = properties.get(key);
                            form.is_none_or(|form| self.fits(form, value))
                        })
                    })
                }
                ("additionalProperties", form) => value.as_object().is_none_or(|entries| {
                    let known = |key: &String| {
                        let known = words.get("properties").and_then(Value::as_object);
                        known.is_some_and(|known| known.contains_key(key))
                    };
                    entries
                        .iter()
                        .all(|(key, value)| known(key) || self.fits(form, value))
                }),
                ("propertyNames", form) => value.as_object().is_none_or(|entries| {
                    entries
                        .keys()
                        .all(|key| self.fits(form, &Value::String(key.clone())))
                }),
                (other, told) => panic!("{other}: {told}"),
            })
    }
}

fn is_a(name: &Value, value: &Value) -> bool {
    match name.as_str().expect("a sound schema") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{other}"),
    }
}

#[test]
fn every_key_has_its_form() {
    let validator = Validator {
        schema: json_schema(),
    };
    for (path, key) in keys::keys() {
        for value in keys::right(key) {
            let text = keys::file(&path, key.name, &value);
            assert!(validator.takes(&text), "{text}");
        }
        for value in keys::wrong(key) {
            let text = keys::file(&path, key.name, &value);
            assert!(!validator.takes(&text), "{text}");
        }
        // A key that nothing has, beside it.
        let text = keys::file(&path, "no_such_key", "1");
        assert!(!validator.takes(&text), "{text}");
    }
}

/// The values that the tables call right are right to the loader as well, and the wrong ones wrong.
#[test]
fn the_loader_says_the_same() {
    for (path, key) in keys::keys() {
        for value in keys::right(key) {
            let text = keys::file(&path, key.name, &value);
            if let Err(errors) = Config::parse_with("f", &text, &|_| Some("1".into())) {
                // The value has the right form; it may be out of range, or need another key.
                for error in errors.errors() {
                    let form = ["a list", "a mapping", "a whole number", "is not a duration"];
                    let wrong = form.iter().any(|form| error.message.contains(form));
                    assert!(!wrong, "{text}\n{error}");
                }
            }
        }
        for value in keys::wrong(key) {
            let text = keys::file(&path, key.name, &value);
            assert!(Config::parse("f", &text).is_err(), "{text}");
        }
    }
}

#[test]
fn whole_files_are_taken_and_refused() {
    let validator = Validator {
        schema: json_schema(),
    };
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut taken = 0;
    for entry in std::fs::read_dir(examples).expect("a sound schema") {
        let path = entry.expect("a sound schema").path();
        if path.extension().is_some_and(|end| end == "yaml") {
            let text = std::fs::read_to_string(&path).expect("a sound schema");
            assert!(validator.takes(&text), "{}", path.display());
            taken += 1;
        }
    }
    assert!(taken > 0);
    assert!(validator.takes(include_str!("../effective.yaml")));
    assert!(validator.takes(&Config::dev(None)));
    let cases = include_str!("../bad_files.txt");
    for title in [
        "a bare number as a duration",
        "days, which Go does not know",
        "unknown keys near known ones",
        "known keys that this build does not support",
        "a list where a section belongs",
        "a pool that is a number",
        "old sections with wrong keys and values",
        "thresholds",
    ] {
        let case = cases.split(&format!("=== {title}\n")).nth(1).expect(title);
        let file = case.split("--- answer\n").next().expect("a sound schema");
        let file = file.replace("+pools\n", "");
        assert!(!validator.takes(&file), "{title}");
    }
}

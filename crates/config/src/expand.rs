//! Variables in values: `${NAME}`, `${NAME:-default}`, and `$$` for a plain `$`.
//!
//! The text is put in after the file was parsed: whatever a variable holds, it is one value and
//! never YAML. What it holds is shown in no message.

use std::ffi::OsString;

use crate::error::Log;
use crate::schema;
use crate::tree::{Kind, Node, Scalar, Value, quoted};

/// Where variables come from: the value of a name, none when it is not set.
pub type Environment<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// Puts the variables into every value below a node; keys stay as they are.
pub(crate) fn expand(log: &Log, node: &mut Node, path: &str, environment: &Environment<'_>) {
    match &mut node.value {
        Value::Null => {}
        Value::List(elements) => {
            for (index, element) in elements.iter_mut().enumerate() {
                expand(log, element, &format!("{path}[{index}]"), environment);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                let below = schema::join(path, &crate::fields::shown(&entry.key));
                expand(log, &mut entry.node, &below, environment);
            }
        }
        Value::Scalar(scalar) if scalar.text.contains('$') => {
            match replaced(&scalar.text, environment) {
                Ok((text, false)) => scalar.text = text,
                Ok((text, true)) => {
                    log.expanded(&text, &scalar.text);
                    *scalar = Scalar {
                        kind: kind_of(&text),
                        written: Some(std::mem::take(&mut scalar.text)),
                        text,
                    };
                }
                Err(problems) => {
                    for problem in problems {
                        log.error(node.at, format!("{path}: {problem}"));
                    }
                    scalar.kind = Kind::Broken;
                }
            }
        }
        Value::Scalar(_) => {}
    }
}

/// The text with its variables, and whether it had any; or everything that is wrong with it.
fn replaced(text: &str, environment: &Environment<'_>) -> Result<(String, bool), Vec<String>> {
    let (mut whole, mut problems, mut any) = (String::new(), Vec::new(), false);
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        whole.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            whole.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            any = true;
            let Some(end) = after.find('}') else {
                problems.push("${ has no closing }; write $${ for a plain ${".to_owned());
                break;
            };
            rest = &after[end + 1..];
            match value(&after[..end], environment) {
                Ok(value) => whole.push_str(&value),
                Err(problem) => problems.push(problem),
            }
        } else {
            whole.push('$');
        }
    }
    whole.push_str(rest);
    if problems.is_empty() {
        Ok((whole, any))
    } else {
        Err(problems)
    }
}

/// What stands for the text between the braces.
fn value(inner: &str, environment: &Environment<'_>) -> Result<String, String> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(legal) || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return Err(format!(
            "{} is not the name of a variable: write ${{NAME}} or ${{NAME:-default}}, or $${{ for a plain ${{",
            quoted(name)
        ));
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(format!(
            "the default of ${{{name}}} has a variable of its own: a default is plain text"
        ));
    }
    let held = environment(name).filter(|held| default.is_none() || !held.is_empty());
    match (held, default) {
        (Some(held), _) => {
            let held = held
                .into_string()
                .map_err(|_| format!("the variable {name} is not UTF-8"))?;
            match held.chars().find(|c| c.is_control()) {
                Some(c) => Err(format!(
                    "the variable {name} has the control character U+{:04X}: a value is one line of text",
                    u32::from(c)
                )),
                None => Ok(held),
            }
        }
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!(
            "the variable {name} is not set: set it, or write ${{{name}:-default}}"
        )),
    }
}

/// What a plain scalar of this text would be, so that numbers and booleans may be variables.
fn kind_of(text: &str) -> Kind {
    let number = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) {
        return Kind::Number;
    }
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Kind::Boolean(true),
        "false" | "no" | "off" | "n" => Kind::Boolean(false),
        _ => Kind::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Result<String, Vec<String>> {
        let environment = |name: &str| match name {
            "NAME" => Some("value".into()),
            "EMPTY" => Some("".into()),
            "DOLLAR" => Some("${NAME}$$".into()),
            "LINES" => Some("a\nb: c".into()),
            _ => None,
        };
        replaced(text, &environment).map(|(text, _)| text)
    }

    #[test]
    fn every_form_of_a_variable() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${NAME}", "value"),
            ("a ${NAME} b${NAME}c", "a value bvaluec"),
            ("${NAME:-other}", "value"),
            ("${NONE:-other}", "other"),
            ("${NONE:-}", ""),
            ("${NONE:-a:-b}", "a:-b"),
            ("${EMPTY}", ""),
            ("${EMPTY:-other}", "other"),
            // What a variable holds is not looked at again.
            ("${DOLLAR}", "${NAME}$$"),
            ("$$", "$"),
            ("$${NAME}", "${NAME}"),
            ("$$$${NAME}", "$${NAME}"),
            ("$NAME", "$NAME"),
            ("cost: 5$", "cost: 5$"),
            ("$", "$"),
            ("é${NAME}é", "évalueé"),
        ] {
            assert_eq!(answer(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn every_wrong_form_says_what_is_wrong() {
        for (text, expected) in [
            (
                "${NONE}",
                "the variable NONE is not set: set it, or write ${NONE:-default}",
            ),
            ("${", "${ has no closing }; write $${ for a plain ${"),
            ("a ${NAME", "${ has no closing }; write $${ for a plain ${"),
            (
                "${}",
                "\"\" is not the name of a variable: write ${NAME} or ${NAME:-default}, or $${ for a plain ${",
            ),
            (
                "${1A}",
                "\"1A\" is not the name of a variable: write ${NAME} or ${NAME:-default}, or $${ for a plain ${",
            ),
            (
                "${A B}",
                "\"A B\" is not the name of a variable: write ${NAME} or ${NAME:-default}, or $${ for a plain ${",
            ),
            (
                "${A-b}",
                "\"A-b\" is not the name of a variable: write ${NAME} or ${NAME:-default}, or $${ for a plain ${",
            ),
            (
                "${NONE:-${NAME}}",
                "the default of ${NONE} has a variable of its own: a default is plain text",
            ),
            (
                "${LINES}",
                "the variable LINES has the control character U+000A: a value is one line of text",
            ),
        ] {
            assert_eq!(answer(text), Err(vec![expected.to_owned()]), "{text}");
        }
        assert_eq!(answer("${A}${NAME}${B}").unwrap_err().len(), 2);
    }
}

//! Reading of URLs. No message about one shows a user, a password, a query, a part of the path that
//! is no word, or what a variable holds.

use super::{check_host, check_port};
use crate::fields::Fields;
use crate::secret::{HIDDEN, PUT_BACK};
use crate::tree::quoted;
use crate::url::{Url, literal_place};

/// What may stand after the path of a URL.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Query {
    Taken,
    Refused,
}

/// A base URL without its closing slash.
pub(super) fn base(fields: &Fields<'_>, key: &str) -> Option<String> {
    let text = sound(fields, key, Query::Refused)?;
    Some(text.trim_end_matches('/').to_owned())
}

/// A base URL without its closing slash, whose variables stay unknown.
pub(super) fn root(fields: &Fields<'_>, key: &str) -> Option<Url> {
    Some(Url::of_file(base(fields, key)?, fields.written(key)))
}

/// A URL that is called as it is and may have a query.
pub(super) fn endpoint(fields: &Fields<'_>, key: &str) -> Option<Url> {
    let text = sound(fields, key, Query::Taken)?;
    Some(Url::of_file(text, fields.written(key)))
}

fn sound(fields: &Fields<'_>, key: &str, query: Query) -> Option<String> {
    let text = fields.text(key)?;
    if text.contains(HIDDEN) {
        fields.fail(key, PUT_BACK);
        return None;
    }
    let expected = match query {
        Query::Taken => "an http or https URL without user and fragment",
        Query::Refused => "an http or https URL without user, query and fragment",
    };
    match check(&text, query) {
        Ok(()) => Some(text),
        Err(problem) => {
            fields.fail_value(key, &shown(&text), &problem, expected);
            None
        }
    }
}

fn check(text: &str, query: Query) -> Result<(), String> {
    let (plain, rest) = split(text);
    let (scheme, after) = plain.split_once("://").unwrap_or(("", plain));
    let authority = after.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err("a secret does not belong in this file: remove the user and password".into());
    }
    if scheme != "http" && scheme != "https" {
        return Err(format!(
            "the scheme is missing: begin with http:// or https://, for example http://{}",
            literal_place(after)
        ));
    }
    match query {
        Query::Refused if !rest.is_empty() || plain.contains(char::is_whitespace) => {
            return Err("a base URL has no query, fragment or space: remove them".to_owned());
        }
        Query::Taken if rest.contains('#') => {
            return Err("a URL that is called has no fragment: remove it".to_owned());
        }
        Query::Taken if !text.bytes().all(|b| b.is_ascii_graphic()) => {
            return Err("it has a space or a letter beyond ASCII: encode it".to_owned());
        }
        _ => {}
    }
    let bracketed = authority.ends_with(']');
    match authority.rsplit_once(':') {
        Some((host, port)) if !bracketed => {
            check_port(port)?;
            check_host(host, false)
        }
        _ => check_host(authority, false),
    }
}

/// What stands before a query or a fragment, and the rest.
fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(['?', '#']).unwrap_or(text.len()))
}

/// A URL for a message, without what may be a secret.
fn shown(text: &str) -> String {
    let (plain, rest) = split(text);
    let cut = if rest.is_empty() { "" } else { "…" };
    match plain.rsplit_once('@') {
        Some((_, host)) => quoted(&format!("…@{}{cut}", literal_place(host))),
        None => quoted(&format!("{}{cut}", literal_place(plain))),
    }
}

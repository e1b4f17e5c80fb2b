//! URLs that may hold a secret: called and compared as they are, shown without it.
//!
//! The secret may be a part of the path, as with the webhooks of chat programs, or stand in the
//! query. Of what the file itself has, people see the scheme, the host and the words of the path.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::secret::{AS_WRITTEN, HIDDEN, is_variable};

/// The URL of a receiver or a source, whose path, query or variables may be secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    text: String,
    /// As the file has it, when parts of it come from variables.
    written: Option<String>,
}

impl Url {
    /// A URL that stands in the file itself.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self {
            text,
            written: None,
        }
    }

    /// A URL of the file; `written` is what the file has in place of its variables.
    pub(crate) fn of_file(text: String, written: Option<&str>) -> Self {
        Self {
            text,
            written: written.map(str::to_owned),
        }
    }

    /// The whole URL, to be called and not shown.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The scheme, the host and the path, which say where it leads; a query only says what is asked.
    pub(crate) fn target(&self) -> &str {
        self.text
            .split_once('?')
            .map_or(&self.text, |(place, _)| place)
    }

    /// Where it leads, for messages: with variables as the file has them, without a query, and with
    /// the words of the path alone.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.written {
            Some(written) => place(pieces(written, '?').0),
            None => literal_place(self.target()),
        }
    }

    /// The URL for people: its place, and the query only when all that it holds comes from
    /// variables.
    fn shown(&self) -> String {
        let place = self.place();
        let query = match &self.written {
            Some(written) => pieces(written, '?').1,
            None => self.text.split_once('?').map(|(_, query)| query),
        };
        let told = |part: &str| is_variable(part.split_once('=').map_or(part, |(_, value)| value));
        match query {
            None | Some("") => place,
            Some(query) if self.written.is_some() && query.split('&').all(told) => {
                format!("{place}?{query}")
            }
            Some(_) => format!("{place}?{HIDDEN}"),
        }
    }
}

/// The longest part of a path that is shown. Longer ones are seldom words.
const MAX_WORD: usize = 20;

/// Whether a part of a path is a word, which is no secret: a few lower-case letters with `-`, `_`
/// and `.`, or a version such as `v1` or `v0.0.40`.
fn is_word(part: &str) -> bool {
    let is_version = |part: &str| {
        part.strip_prefix('v')
            .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
    };
    part.len() <= MAX_WORD
        && (is_version(part)
            || part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b"-_.".contains(&b)))
}

/// What people see of a text up to its query that has no variables.
pub(crate) fn literal_place(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    let (host, path) = match rest.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (rest, None),
    };
    let path = path.into_iter().flat_map(|path| path.split('/'));
    let parts = path.map(|part| if is_word(part) { part } else { HIDDEN });
    parts.fold(format!("{scheme}{host}"), |shown, part| {
        format!("{shown}/{part}")
    })
}

/// What people see of a text of the file up to its query that has variables.
fn place(written: &str) -> String {
    let scheme = ["https://", "http://"]
        .into_iter()
        .find(|scheme| written.starts_with(scheme))
        .unwrap_or_default();
    let (host, mut rest) = pieces(&written[scheme.len()..], '/');
    // What stands in place of the scheme is the beginning of a URL, its path perhaps included.
    if scheme.is_empty() && !is_variable(host) {
        return HIDDEN.to_owned();
    }
    let mut shown = format!("{scheme}{host}");
    while let Some(path) = rest {
        let (part, more) = pieces(path, '/');
        shown.push('/');
        shown.push_str(if is_word(part) || is_variable(part) {
            part
        } else {
            HIDDEN
        });
        rest = more;
    }
    shown
}

/// What stands before and behind a separator that is not within a variable.
fn pieces(written: &str, separator: char) -> (&str, Option<&str>) {
    let mut is_within = false;
    for (at, c) in written.char_indices() {
        match c {
            '{' if written[..at].ends_with('$') => is_within = true,
            '}' => is_within = false,
            _ if c == separator && !is_within => {
                return (&written[..at], Some(&written[at + c.len_utf8()..]));
            }
            _ => {}
        }
    }
    (written, None)
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Serialize for Url {
    /// For people as it is shown. A format that no person reads gets the whole, so that two
    /// configurations can be compared.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_str(&self.text);
        }
        match &self.written {
            Some(_) => serializer.serialize_newtype_struct(AS_WRITTEN, &self.shown()),
            None => serializer.serialize_str(&self.shown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effective::Plain;

    #[test]
    fn people_see_no_query_that_stands_in_the_file() {
        const TEXT: &str = "http://h/p?token=hunter2";
        for (text, written, shown) in [
            ("http://h/p", None, "http://h/p"),
            (TEXT, None, "http://h/p?(hidden)"),
            ("http://h/p?", None, "http://h/p"),
            (TEXT, Some("${URL}"), "${URL}"),
            (TEXT, Some("http://h/p?token=${T}"), "http://h/p?token=${T}"),
            (TEXT, Some("http://h/p?${T}"), "http://h/p?${T}"),
            (
                TEXT,
                Some("http://h/p?a=${A}&t=${T}"),
                "http://h/p?a=${A}&t=${T}",
            ),
            (TEXT, Some("http://h/p?a=1&t=${T}"), "http://h/p?(hidden)"),
            (
                TEXT,
                Some("http://${H}/p?token=hunter2"),
                "http://${H}/p?(hidden)",
            ),
            (
                TEXT,
                Some("http://h/p?token=${T:-hunter2}"),
                "http://h/p?(hidden)",
            ),
            (TEXT, Some("${URL:-http://h/p?token=hunter2}"), "(hidden)"),
            ("http://h/hunter2", Some("http://h/${T}"), "http://h/${T}"),
            // The webhooks of chat programs have their secrets in the path.
            (
                "https://hooks.slack.com/services/T0000/B0000/XXXX",
                None,
                "https://hooks.slack.com/services/(hidden)/(hidden)/(hidden)",
            ),
            (
                "https://discord.com/api/webhooks/123/abcdefghijklmnopqrstuvwxyz",
                None,
                "https://discord.com/api/webhooks/(hidden)/(hidden)",
            ),
            (
                "http://h:80/slurm/v0.0.40/drain-status.php/",
                None,
                "http://h:80/slurm/v0.0.40/drain-status.php/",
            ),
            ("http://h/", None, "http://h/"),
            ("http://[::1]:80", None, "http://[::1]:80"),
            (
                "http://h/hunter2/x",
                Some("http://${H:-h}/hunter2/${P}"),
                "http://${H:-h}/(hidden)/${P}",
            ),
            (
                "http://h/hunter2",
                Some("http://h/${T:-hunter2}"),
                "http://h/(hidden)",
            ),
            (
                "http://h/a/b",
                Some("http://h/${P:-a/b}"),
                "http://h/(hidden)",
            ),
            (
                "http://h/hunter2",
                Some("${U:-http://h/hunter2}"),
                "(hidden)",
            ),
            (
                "http://h/a/hunter2",
                Some("${U}/a/hunter2"),
                "${U}/a/(hidden)",
            ),
        ] {
            let url = Url::of_file(text.to_owned(), written);
            let plain = Plain::of(&url, true);
            let expected = match written {
                Some(_) => Plain::Written(shown.to_owned()),
                None => Plain::Text(shown.to_owned()),
            };
            assert_eq!(plain, expected, "{text} {written:?}");
            assert_eq!(format!("{url:?}"), shown);
            assert!(!url.place().contains("token"), "{}", url.place());
            assert_eq!(Plain::of(&url, false), Plain::Text(text.to_owned()));
        }
    }
}

//! URLs that may hold a secret: called and compared as they are, shown without it.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::secret::{AS_WRITTEN, is_variable};

/// The URL of a receiver or a source, whose query or variables may be secrets.
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

    /// Where it leads, for messages: with variables as the file has them and without a query.
    #[must_use]
    pub fn place(&self) -> &str {
        let shown = self.written.as_deref().unwrap_or(&self.text);
        shown.split_once('?').map_or(shown, |(place, _)| place)
    }

    /// The URL for people: with variables as the file has them, and with a query only when all
    /// that it holds comes from variables.
    fn shown(&self) -> String {
        let (place, query) = match &self.written {
            Some(written) => written.split_once('?').unwrap_or((written, "")),
            None => self.text.split_once('?').unwrap_or((&self.text, "")),
        };
        // The default of a variable may have the query in it.
        if place.matches("${").count() != place.matches('}').count() && self.written.is_some() {
            return HIDDEN.to_owned();
        }
        let told = |part: &str| is_variable(part.split_once('=').map_or(part, |(_, value)| value));
        match query {
            "" => place.to_owned(),
            query if self.written.is_some() && query.split('&').all(told) => {
                format!("{place}?{query}")
            }
            _ => format!("{place}?{HIDDEN}"),
        }
    }
}

/// Stands for what is not shown.
const HIDDEN: &str = "(hidden)";

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

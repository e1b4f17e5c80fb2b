//! Text that may be a secret: used, compared, and shown nowhere.

use std::fmt;

use serde::{Serialize, Serializer};

/// Stands for what is not shown. A file that has it in place of a secret is refused: it is what
/// `navarch config show` printed, and nobody's secret.
pub(crate) const HIDDEN: &str = "(hidden)";

/// What is to be done about [`HIDDEN`] in a file.
pub(crate) const PUT_BACK: &str = "(hidden) is what `navarch config show` prints in place of a \
     secret: put the secret back, or a variable that has it";

/// A value such as a header of a webhook. No message, log or effective configuration shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
    /// As the file has it, when the secret itself comes from a variable.
    written: Option<String>,
}

impl Secret {
    /// A secret that stands in the file itself.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self {
            text,
            written: None,
        }
    }

    /// A secret of the file; `written` is what the file has in place of its variables.
    pub(crate) fn of_file(text: String, written: Option<&str>) -> Self {
        let written = written.filter(|written| {
            let bare = SCHEMES
                .iter()
                .find_map(|scheme| written.strip_prefix(scheme));
            is_variable(bare.unwrap_or(written))
        });
        Self {
            text,
            written: written.map(str::to_owned),
        }
    }

    /// The text, to be used and not shown.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

/// Whether a text of the file is one variable and nothing else: a default, or text beside the
/// variable, may be the secret.
pub(crate) fn is_variable(written: &str) -> bool {
    written
        .strip_prefix("${")
        .and_then(|bare| bare.strip_suffix('}'))
        .is_some_and(|name| !name.contains(['$', ':', '}']))
}

/// What stands before a secret in a header.
const SCHEMES: &[&str] = &["Bearer ", "Basic ", "Token "];

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    /// For people: the variable that it comes from, or that it is hidden. A format that no person
    /// reads gets the text, so that two configurations can be compared.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_str(&self.text);
        }
        match &self.written {
            Some(written) => serializer.serialize_newtype_struct(AS_WRITTEN, written),
            None => serializer.serialize_str(HIDDEN),
        }
    }
}

/// The name of a text whose variables stay variables in the effective configuration.
pub(crate) const AS_WRITTEN: &str = "as written";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effective::Plain;

    /// What people see, and what a comparison sees.
    fn views(text: &str, written: Option<&str>) -> (String, String) {
        let secret = Secret::of_file(text.to_owned(), written);
        assert_eq!(format!("{secret:?}"), "(hidden)");
        assert_eq!(secret.reveal(), text);
        let view = |plain: Plain| match plain {
            Plain::Text(text) => text,
            Plain::Written(text) => format!("written {text}"),
            other => panic!("{other:?}"),
        };
        (
            view(Plain::of(&secret, true)),
            view(Plain::of(&secret, false)),
        )
    }

    #[test]
    fn people_see_the_variable_at_most() {
        for (written, expected) in [
            (None, "(hidden)"),
            (Some("${TOKEN}"), "written ${TOKEN}"),
            (Some("Bearer ${TOKEN}"), "written Bearer ${TOKEN}"),
            (Some("hunter2 ${TOKEN}"), "(hidden)"),
            (Some("${TOKEN:-hunter2}"), "(hidden)"),
            (Some("${A}hunter2${B}"), "(hidden)"),
            (Some("Bearer hunter2}"), "(hidden)"),
        ] {
            let (shown, compared) = views("hunter2", written);
            assert_eq!(shown, expected);
            assert_eq!(compared, "hunter2");
        }
    }

    #[test]
    fn what_is_shown_as_a_file_keeps_variables_and_doubles_the_rest() {
        let value = Plain::Map(vec![
            ("a$".to_owned(), Plain::Written("Bearer ${T}".to_owned())),
            ("b".to_owned(), Plain::Text("$5 ${x}".to_owned())),
        ]);
        let text = serde_saphyr::to_string(&value.escaped()).unwrap();
        assert!(
            text.contains("Bearer ${T}") && !text.contains("$${T}"),
            "{text}"
        );
        assert!(text.contains("$$5 $${x}") && text.contains("a$:"), "{text}");
    }
}

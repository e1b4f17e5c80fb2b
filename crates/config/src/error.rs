//! What can be wrong with a configuration, each with the place where it is wrong.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use crate::schema::Document;
use crate::snippet::snippet;
use crate::tree::quoted;

/// The most problems that one file reports; the rest is counted.
const MAX_REPORTED: usize = 100;

/// A place in a configuration file; lines and columns count characters from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

impl Position {
    /// The beginning of a file.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One problem; shown as `FILE:LINE:COLUMN: message`, and with `{:#}` the line of the file below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as the caller named it.
    pub file: String,
    /// The place; absent when the file could not be read at all.
    pub position: Option<Position>,
    /// What is wrong and what to do.
    pub message: String,
    /// The line with a mark below the place; none where it may show a secret.
    pub snippet: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(position) => write!(f, "{}:{position}: {}", self.file, self.message)?,
            None => write!(f, "{}: {}", self.file, self.message)?,
        }
        match &self.snippet {
            Some(snippet) if f.alternate() => write!(f, "\n{snippet}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// All problems of one file in the order of their places; never empty. Shown one a line, and with
/// `{:#}` each with the line of the file that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    unreported: usize,
    warnings: Vec<Warning>,
}

impl ConfigErrors {
    pub(crate) fn one(file: &str, position: Option<Position>, message: String) -> Self {
        Self {
            errors: vec![ConfigError {
                file: file.to_owned(),
                position,
                message,
                snippet: None,
            }],
            unreported: 0,
            warnings: Vec::new(),
        }
    }

    /// The problems, at most a hundred.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// How many problems there are beyond those.
    #[must_use]
    pub const fn unreported(&self) -> usize {
        self.unreported
    }

    /// What is odd besides, at most a hundred.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            error.fmt(f)?;
        }
        if self.unreported > 0 {
            write!(
                f,
                "\nand {} more; fix these first and check again",
                self.unreported
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Something that loads but is probably not what was meant; shown as `FILE:LINE:COLUMN: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The file as the caller named it.
    pub file: String,
    /// The place.
    pub position: Position,
    /// What is odd and what to do.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.position, self.message)
    }
}

/// Collects the problems of one file while it loads.
#[derive(Debug)]
pub(crate) struct Log {
    file: String,
    document: Document,
    errors: RefCell<Vec<(Position, String, Shown)>>,
    warnings: RefCell<Vec<(Position, String)>>,
    /// Values from variables as messages would quote them, each with what is said in its place.
    expanded: RefCell<BTreeMap<String, String>>,
}

/// Whether the line of an error may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shown {
    Line,
    Nothing,
}

impl Log {
    pub(crate) fn new(file: &str, document: Document) -> Self {
        Self {
            file: file.to_owned(),
            document,
            errors: RefCell::default(),
            warnings: RefCell::default(),
            expanded: RefCell::default(),
        }
    }

    /// What the file is.
    pub(crate) const fn document(&self) -> Document {
        self.document
    }

    pub(crate) fn error(&self, position: Position, message: impl Into<String>) {
        let message = self.without_values(message.into());
        self.errors
            .borrow_mut()
            .push((position, message, Shown::Line));
    }

    /// An error about a value that may be a secret.
    pub(crate) fn error_about_secret(&self, position: Position, message: impl Into<String>) {
        let message = self.without_values(message.into());
        self.errors
            .borrow_mut()
            .push((position, message, Shown::Nothing));
    }

    pub(crate) fn warn(&self, position: Position, message: impl Into<String>) {
        let message = self.without_values(message.into());
        self.warnings.borrow_mut().push((position, message));
    }

    /// From now on, messages that quote `text` say what stands in the file instead.
    pub(crate) fn expanded(&self, text: &str, written: &str) {
        self.expanded
            .borrow_mut()
            .insert(quoted(text), quoted(written));
    }

    /// A message that quotes no value of a variable.
    pub(crate) fn without_values(&self, message: String) -> String {
        self.expanded
            .borrow()
            .iter()
            .fold(message, |message, (text, written)| {
                message.replace(text, written)
            })
    }

    /// How many errors there are so far; equal counts before and after a section mean that it is
    /// sound, so that its keys may be compared with each other.
    pub(crate) fn error_count(&self) -> usize {
        self.errors.borrow().len()
    }

    /// The value with its warnings, or all errors.
    ///
    /// `text` is the file, for the lines that are shown.
    pub(crate) fn finish<T>(self, value: T, text: &str) -> Result<(T, Vec<Warning>), ConfigErrors> {
        let (file, mut errors, mut warnings) = (
            self.file,
            self.errors.into_inner(),
            self.warnings.into_inner(),
        );
        warnings.sort();
        warnings.dedup();
        warnings.truncate(MAX_REPORTED);
        let warnings: Vec<Warning> = warnings
            .into_iter()
            .map(|(position, message)| Warning {
                file: file.clone(),
                position,
                message,
            })
            .collect();
        if errors.is_empty() {
            return Ok((value, warnings));
        }
        errors.sort();
        errors.dedup();
        let unreported = errors.len().saturating_sub(MAX_REPORTED);
        errors.truncate(MAX_REPORTED);
        Err(ConfigErrors {
            errors: errors
                .into_iter()
                .map(|(position, message, shown)| ConfigError {
                    file: file.clone(),
                    position: Some(position),
                    message,
                    snippet: match shown {
                        Shown::Line => snippet(text, position),
                        Shown::Nothing => None,
                    },
                })
                .collect(),
            unreported,
            warnings,
        })
    }
}

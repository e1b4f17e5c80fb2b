//! Rules that the repository keeps, as tests.
//!
//! A rule is a pure function from the files of the repository, or from what cargo says about
//! the workspace, to findings. Each rule has a unit test on a bad sample beside it, so that it
//! is known to fail, and one test in `tests/repository.rs` that runs it on the real tree. A
//! finding says where, what is wrong, and what to do instead.

pub mod code;
pub mod documents;
pub mod licences;
pub mod scripts;
pub mod source;
pub mod text;
pub mod tree;
pub mod workspace;

use std::fmt;
use std::path::{Path, PathBuf};

pub use tree::File;

/// One place where a rule does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file, relative to the root of the repository.
    pub path: PathBuf,
    /// The line, counted from 1; 0 where the finding is about the file as a whole.
    pub line: usize,
    /// What is wrong and what to do instead.
    pub message: String,
}

impl Finding {
    /// A finding about one line of a file.
    pub fn at(path: &Path, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }

    /// A finding about a file as a whole.
    pub fn about(path: &Path, message: impl Into<String>) -> Self {
        Self::at(path, 0, message)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.line {
            0 => write!(f, "{path}: {}", self.message),
            line => write!(f, "{path}:{line}: {}", self.message),
        }
    }
}

/// The findings as one text, a line each, for the message of a failing test.
pub fn report(findings: &[Finding]) -> String {
    let mut text = format!("{} finding(s):\n", findings.len());
    for finding in findings {
        text.push_str(&format!("  {finding}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_file_line_and_message() {
        let findings = [
            Finding::at(Path::new("a/b.rs"), 7, "do this"),
            Finding::about(Path::new("c.toml"), "do that"),
        ];
        assert_eq!(
            report(&findings),
            "2 finding(s):\n  a/b.rs:7: do this\n  c.toml: do that\n"
        );
    }
}

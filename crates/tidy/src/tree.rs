//! The files of the repository that the rules look at.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One text file of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path relative to the root of the repository.
    pub path: PathBuf,
    /// What it holds.
    pub text: String,
    /// Whether it may be run; always true where the system has no such notion.
    pub executable: bool,
}

impl File {
    /// A file that may not be run, as the samples of the unit tests are.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
            executable: false,
        }
    }

    /// Whether the file name ends in `.` and this extension.
    pub fn has_extension(&self, extension: &str) -> bool {
        self.path
            .extension()
            .is_some_and(|found| found == extension)
    }

    /// Whether the file is Rust source.
    pub fn is_rust(&self) -> bool {
        self.has_extension("rs")
    }

    /// Whether the file belongs to this crate, whose samples break the rules on purpose.
    pub fn is_tidy(&self) -> bool {
        self.path.starts_with("crates/tidy")
    }

    /// Whether the file is for tests alone: it lies in a folder `tests` of a crate, or is
    /// `tests.rs`.
    pub fn is_test(&self) -> bool {
        let mut parts = self.path.components().map(|part| part.as_os_str());
        parts.next().is_some_and(|part| part == "crates")
            && parts
                .skip(1)
                .any(|part| part == "tests" || part == "tests.rs")
    }

    /// The lines with their numbers, counted from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }
}

/// The root of the repository that this crate was built from.
pub fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root.pop();
    root
}

/// The folders and files at the root that `.gitignore` names, without the leading slash.
pub fn ignored_at_root(gitignore: &str) -> Vec<&str> {
    gitignore
        .lines()
        .filter_map(|line| line.trim().strip_prefix('/'))
        .map(|name| name.trim_end_matches('/'))
        .collect()
}

/// Every text file below `root`, in the order of its path.
///
/// Left out are what git keeps (`.git`), what `.gitignore` names at the root, and files that are
/// not UTF-8.
///
/// # Errors
///
/// When a folder or a file cannot be read.
pub fn load(root: &Path) -> io::Result<Vec<File>> {
    let gitignore = fs::read_to_string(root.join(".gitignore"))?;
    let mut skip = ignored_at_root(&gitignore);
    skip.push(".git");

    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if skip.iter().any(|name| path == Path::new(name)) {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file()
                && let Ok(text) = String::from_utf8(fs::read(entry.path())?)
            {
                let executable = executable(&entry.metadata()?);
                files.push(File {
                    path,
                    text,
                    executable,
                });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

#[cfg(unix)]
fn executable(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn executable(_metadata: &fs::Metadata) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gitignore_names_only_what_lies_at_the_root() {
        assert_eq!(
            ignored_at_root("/target\n*.swp\n/navarch-data/\n# /not-this\n"),
            ["target", "navarch-data"]
        );
    }

    #[test]
    fn a_test_file_lies_in_a_folder_of_tests() {
        for (path, expected) in [
            ("crates/cli/tests/end_to_end.rs", true),
            ("crates/cli/tests/support/mod.rs", true),
            ("crates/cli/src/tests/one.rs", true),
            ("crates/cli/src/tests.rs", true),
            ("crates/cli/src/contests.rs", false),
            ("crates/tests/src/lib.rs", false),
            ("docs/tests/a.md", false),
        ] {
            assert_eq!(File::new(path, "").is_test(), expected, "{path}");
        }
    }

    #[test]
    fn the_real_tree_has_this_file_and_not_the_build() {
        let files = load(&root()).expect("the repository can be read");
        let has = |path: &str| files.iter().any(|file| file.path == Path::new(path));
        assert!(has("crates/tidy/src/tree.rs"));
        assert!(has(".ci/run"));
        assert!(!files.iter().any(|file| file.path.starts_with("target")));
        assert!(!files.iter().any(|file| file.path.starts_with(".git")));
    }
}

//! Rules about every text file: blank space at its ends, and words that do not belong.

use crate::{File, Finding};

/// Text that a tool writes and compares byte for byte, blank space included.
const WRITTEN_BY_TOOLS: &[&str] = &["snap", "golden", "lock", "csv"];

/// Text ends lines with one line feed, holds no tabs, and has no blank space at the end of a
/// line or of the file. Samples in a folder `tests` and text in a folder `golden` are exempt: they
/// hold exactly what a program reads or writes.
pub fn has_no_stray_blanks(file: &File) -> Vec<Finding> {
    let golden = file.path.iter().any(|part| part == "golden");
    let sample = golden || (file.is_test() && !file.is_rust());
    if sample
        || WRITTEN_BY_TOOLS
            .iter()
            .any(|extension| file.has_extension(extension))
    {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, line) in file.text.split('\n').enumerate() {
        let message = if line.ends_with('\r') {
            "the line ends in CR LF; end it in LF"
        } else if line.contains('\t') {
            "a tab; indent with spaces, and write \\t inside strings"
        } else if line.ends_with([' ', '\u{a0}']) {
            "blank space at the end of the line; remove it"
        } else {
            continue;
        };
        findings.push(Finding::at(&file.path, index + 1, message));
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        findings.push(Finding::about(
            &file.path,
            "the last line does not end; add a line feed",
        ));
    }
    if file.text.ends_with("\n\n") {
        findings.push(Finding::about(
            &file.path,
            "empty lines at the end; remove them",
        ));
    }
    findings
}

/// The repository speaks of the project, not of the machine that it was written on.
///
/// `Cargo.lock` and `deny.toml` name the public registry because cargo wants it so.
pub fn names_no_machine(file: &File) -> Vec<Finding> {
    const PLACES: &[&str] = &["/work/", "/root/", "/home/", "/Users/", "C:\\Users"];
    const REGISTRIES: &[&str] = &[
        "artifactory",
        "index.crates.io",
        "static.crates.io",
        "pypi.org",
        "registry.npmjs.org",
        "proxy.golang.org",
        "replace-with =",
    ];
    if file.is_tidy() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in file.lines() {
        if let Some(place) = PLACES.iter().find(|place| holds_place(line, place)) {
            findings.push(Finding::at(
                &file.path,
                number,
                format!("`{place}` exists on one machine; use a path relative to the repository or a temporary folder"),
            ));
        }
        if let Some(registry) = REGISTRIES.iter().find(|registry| line.contains(*registry)) {
            findings.push(Finding::at(
                &file.path,
                number,
                format!("`{registry}` is where one machine gets its packages; leave that to cargo's settings"),
            ));
        }
    }
    findings
}

/// Whether an absolute path that begins with `place` stands in the line.
fn holds_place(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(index, _)| {
        // `a/work/b` and `https://host/work/` are other paths; `"/work/` and ` /work/` are this.
        !line[..index]
            .chars()
            .next_back()
            .is_some_and(|before| before.is_alphanumeric() || "._-~$}".contains(before))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(rule: fn(&File) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
        rule(&File::new(path, text))
            .iter()
            .map(|finding| finding.line)
            .collect()
    }

    #[test]
    fn stray_blanks_are_found() {
        let rule = has_no_stray_blanks;
        for (bad, line) in [
            ("a\n\tb\n", 2),
            ("a \nb\n", 1),
            ("a\r\nb\n", 1),
            ("a", 0),
            ("a\n\n", 0),
            ("a\u{a0}\n", 1),
        ] {
            assert_eq!(lines_of(rule, "a.md", bad), [line], "{bad:?}");
        }
        assert!(lines_of(rule, "a.md", "a\n\nb\n").is_empty());
        assert!(lines_of(rule, "a.md", "").is_empty());
        assert!(lines_of(rule, "a.snap", "table  \n").is_empty());
        assert!(lines_of(rule, "crates/config/tests/bad.txt", "\ta:\n\n").is_empty());
        assert!(lines_of(rule, "crates/cli/src/golden/a.txt", "a \n").is_empty());
        assert_eq!(lines_of(rule, "crates/config/tests/bad.rs", "\ta\n"), [1]);
    }

    #[test]
    fn names_of_machines_are_found() {
        let rule = names_no_machine;
        let samples = [
            "cd /work/main\n",
            "let path = \"/root/x\";\n",
            "see (/home/me/notes)\n",
            "[source.x]\nreplace-with = \"mirror\"\n",
        ];
        for bad in samples {
            assert_eq!(lines_of(rule, "a.md", bad).len(), 1, "{bad:?}");
        }
        for good in [
            "src/work/a.rs\n",
            "https://example.com/home/page\n",
            "$HOME/work/x\n",
        ] {
            assert!(lines_of(rule, "a.md", good).is_empty(), "{good:?}");
        }
    }
}

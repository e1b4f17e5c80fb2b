//! Rules about documents: they name what exists, and all of it.

use std::path::{Component, Path, PathBuf};

use crate::workspace::ORDER;
use crate::{File, Finding};

/// The document that describes the crates.
const ARCHITECTURE: &str = "ARCHITECTURE.md";

/// A link from one document to another file of the repository leads somewhere.
pub fn links_lead_somewhere(files: &[File]) -> Vec<Finding> {
    let exists = |target: &Path| {
        files
            .iter()
            .any(|file| file.path == target || file.path.starts_with(target))
    };
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.has_extension("md")) {
        for (number, line) in prose(file) {
            for target in links(&line) {
                let path = target.split('#').next().unwrap_or_default();
                if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                    continue;
                }
                let folder = file.path.parent().unwrap_or(Path::new(""));
                if !exists(&normal(&folder.join(path))) {
                    findings.push(Finding::at(
                        &file.path,
                        number,
                        format!("the link to `{target}` leads nowhere; name a file that exists"),
                    ));
                }
            }
        }
    }
    findings
}

/// Documents write words out: no contractions.
pub fn writes_words_out(file: &File) -> Vec<Finding> {
    const SHORT: &[&str] = &[
        "n't", "it's", "that's", "there's", "what's", "let's", "here's", "'re", "'ve", "'ll", "i'm",
    ];
    if !file.has_extension("md") || file.path.starts_with("docs/design") {
        return Vec::new();
    }
    prose(file)
        .filter_map(|(number, line)| {
            let plain = line.to_lowercase().replace('\u{2019}', "'");
            let found = SHORT.iter().find(|short| {
                plain.match_indices(*short).any(|(index, short)| {
                    !plain[index + short.len()..].starts_with(char::is_alphanumeric)
                })
            })?;
            Some(Finding::at(
                &file.path,
                number,
                format!("`{found}` is a contraction; write the words out"),
            ))
        })
        .collect()
}

/// The table of crates in ARCHITECTURE.md has every crate once, in the order of dependencies.
pub fn the_table_has_every_crate(files: &[File]) -> Vec<Finding> {
    let path = Path::new(ARCHITECTURE);
    let Some(file) = files.iter().find(|file| file.path == path) else {
        return vec![Finding::about(path, "missing; it describes the crates")];
    };
    let rows: Vec<&str> = file
        .text
        .lines()
        .filter_map(|line| {
            line.strip_prefix("| `")?
                .split_once("` |")
                .map(|(name, _)| name)
        })
        .filter(|name| is_crate(files, name) || ORDER.contains(name))
        .collect();
    if rows == ORDER {
        return Vec::new();
    }
    vec![Finding::about(
        path,
        format!(
            "the table of crates has {rows:?}; it must have a row \"| `name` | ... |\" for each of \
             {ORDER:?}, in this order"
        ),
    )]
}

/// A generated document says what the code says now.
///
/// `found` is what the file holds, none when there is none. The finding names the first line that
/// differs.
pub fn is_current(path: &Path, found: Option<&str>, generated: &str) -> Vec<Finding> {
    let found = found.unwrap_or_default();
    if found == generated {
        return Vec::new();
    }
    let same = found
        .lines()
        .zip(generated.lines())
        .take_while(|(found, generated)| found == generated)
        .count();
    vec![Finding::at(
        path,
        same + 1,
        "generated, and not current; run \
         `UPDATE_GOLDEN=1 cargo test -p navarch-tidy` and commit what it writes",
    )]
}

/// The metrics that source declares with `family(name, kind, help)`, as a Markdown table.
pub fn metrics_table(source: &str) -> String {
    let mut table = "| Metric | Type | Meaning |\n|---|---|---|\n".to_owned();
    for call in source.split(".family(").skip(1) {
        let mut arguments = call.split('"').skip(1).step_by(2);
        if let (Some(name), Some(kind), Some(help)) =
            (arguments.next(), arguments.next(), arguments.next())
        {
            table.push_str(&format!("| `{name}` | {kind} | {help}. |\n"));
        }
    }
    table
}

/// Every file in `examples` is used by a test, so that it cannot rot.
pub fn examples_are_tested(files: &[File]) -> Vec<Finding> {
    let tests: Vec<&File> = files
        .iter()
        .filter(|file| file.is_test() || (file.is_rust() && file.text.contains("#[cfg(test)]")))
        .filter(|file| !file.is_tidy())
        .collect();
    files
        .iter()
        .filter(|file| file.path.starts_with("examples") && !file.path.ends_with("README.md"))
        .filter(|example| {
            let name = example
                .path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            !tests.iter().any(|test| test.text.contains(&*name))
        })
        .map(|example| {
            Finding::about(
                &example.path,
                "no test names this example; load it in a test of the crate that reads such files",
            )
        })
        .collect()
}

fn is_crate(files: &[File], name: &str) -> bool {
    let manifest = Path::new("crates").join(name).join("Cargo.toml");
    files.iter().any(|file| file.path == manifest)
}

/// The lines of a document without code, numbered from 1.
fn prose(file: &File) -> impl Iterator<Item = (usize, String)> {
    let mut fenced = false;
    file.lines().filter_map(move |(number, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        if fenced || line.starts_with("    ") {
            return None;
        }
        // Every second piece between backticks is code.
        let text: Vec<&str> = line.split('`').step_by(2).collect();
        Some((number, text.join("`")))
    })
}

/// The targets of the inline links in a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// The path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                result.pop();
            }
            other => result.push(other),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_link_is_found() {
        let files = [
            File::new(
                "docs/a.md",
                "[ok](b.md#part) [up](../README.md) [web](https://x.y/z)\n[dead](c.md)\n",
            ),
            File::new(
                "docs/b.md",
                "[folder](../docs/) [here](#part)\n```\n[x](code.md)\n```\n",
            ),
            File::new(
                "README.md",
                "`[x](code.md)` [dead](docs/d.md) and [dead](e.md)\n",
            ),
        ];
        let found: Vec<String> = links_lead_somewhere(&files)
            .iter()
            .map(|finding| format!("{}:{}", finding.path.display(), finding.line))
            .collect();
        assert_eq!(found, ["docs/a.md:2", "README.md:1", "README.md:1"]);
    }

    #[test]
    fn contractions_are_found() {
        let lines_of = |path: &str, text: &str| -> Vec<usize> {
            writes_words_out(&File::new(path, text))
                .iter()
                .map(|finding| finding.line)
                .collect()
        };
        let bad = "It's bad.\nFine.\nThey don\u{2019}t.\nWe'll see.\n";
        assert_eq!(lines_of("README.md", bad), [1, 3, 4]);
        assert!(lines_of("README.md", "The node's state. `don't` is code.\n").is_empty());
        assert!(lines_of("README.md", "```\ndon't\n```\n    can't\n").is_empty());
        assert!(lines_of("docs/design/a.md", bad).is_empty());
    }

    #[test]
    fn a_table_that_lacks_a_crate_is_found() {
        let table = |names: &[&str]| {
            let rows: String = names
                .iter()
                .map(|name| format!("| `{name}` | x |\n"))
                .collect();
            vec![File::new(ARCHITECTURE, rows)]
        };
        let all: Vec<&str> = ORDER.to_vec();
        let check = |names: &[&str]| the_table_has_every_crate(&table(names)).len();
        assert_eq!(check(&all), 0);
        assert_eq!(check(&all[1..]), 1);
        let mut swapped = all.clone();
        swapped.swap(0, 1);
        assert_eq!(check(&swapped), 1);
        let mut other_rows = all.clone();
        other_rows.insert(3, "P1");
        assert_eq!(check(&other_rows), 0);
        assert_eq!(the_table_has_every_crate(&[]).len(), 1);
    }

    #[test]
    fn a_generated_document_that_is_behind_is_found() {
        let path = Path::new("docs/a.md");
        let line = |found| {
            is_current(path, found, "a\nb\n")
                .first()
                .map(|finding| finding.line)
        };
        assert_eq!(line(Some("a\nb\n")), None);
        assert_eq!(line(Some("a\nc\n")), Some(2));
        assert_eq!(line(Some("a\n")), Some(2));
        assert_eq!(line(Some("a\nb\nc\n")), Some(3));
        assert_eq!(line(None), Some(1));
    }

    #[test]
    fn metrics_are_read_from_their_declarations() {
        let source = "fn family(&self) {}\npage.family(\n    \"a_total\",\n    \"counter\",\n    \"As\",\n);\n\
                      page.sample(\"a_total\", &[], 1);\npage.family(\"b\", \"gauge\", \"Bs\");\n";
        let rows: Vec<String> = metrics_table(source)
            .lines()
            .skip(2)
            .map(str::to_owned)
            .collect();
        assert_eq!(
            rows,
            ["| `a_total` | counter | As. |", "| `b` | gauge | Bs. |"]
        );
    }

    #[test]
    fn an_example_without_test_is_found() {
        let files = [
            File::new("examples/used.yaml", ""),
            File::new("examples/policies/inline.yaml", ""),
            File::new("examples/unused.yaml", ""),
            File::new("examples/README.md", ""),
            File::new("crates/config/tests/a.rs", "load(\"examples/used.yaml\")"),
            File::new("crates/policy/src/a.rs", "#[cfg(test)]\n\"inline.yaml\""),
            File::new("crates/policy/src/b.rs", "// unused.yaml"),
        ];
        let findings = examples_are_tested(&files);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].path, Path::new("examples/unused.yaml"));
    }
}

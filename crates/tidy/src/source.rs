//! Rules about Rust source: what its text must and must not hold.

use crate::code::only_code;
use crate::{File, Finding};

/// The crate that may use `unsafe`, its test library included.
const UNSAFE_HOME: &str = "crates/gpu";

/// Where real time may pass: the clocks themselves, whose tests must see it pass, and the one
/// polling helper of the end-to-end tests, which waits for processes that no virtual clock reaches.
const WAITING_HOMES: &[&str] = &["crates/time", "crates/cli/tests/support"];

/// The most lines that a source file may have. Higher, and one file becomes the place where
/// everything goes; much lower, and one thought is spread over several files.
const MOST_LINES: usize = 900;

/// Every Rust file says in its first line what it holds.
pub fn says_what_it_holds(file: &File) -> Vec<Finding> {
    let first = file.text.lines().next().unwrap_or_default();
    let says = first
        .strip_prefix("//!")
        .is_some_and(|rest| !rest.trim().is_empty());
    if !file.is_rust() || says {
        return Vec::new();
    }
    vec![Finding::at(
        &file.path,
        1,
        "the first line must be `//! ...`; say in one line what the file holds",
    )]
}

/// Nothing waits for real time to pass, tests least of all.
pub fn waits_without_sleeping(file: &File) -> Vec<Finding> {
    const SLEEPS: &[&str] = &[
        "thread::sleep",
        "thread::park_timeout",
        "tokio::time::sleep",
        "tokio::time::interval",
        "tokio::time::timeout",
    ];
    if may_wait(file) {
        return Vec::new();
    }
    let sleeps = code_lines(file).into_iter().filter_map(|(number, code)| {
        let found = SLEEPS.iter().find(|sleep| code.contains(*sleep))?;
        Some((number, *found))
    });
    // A test may sleep on a virtual clock, where no real time passes.
    let mut tests = test_lines(file);
    if !tests.iter().any(|(_, code)| code.contains("RealClock")) {
        tests.clear();
    }
    let real = tests.into_iter().filter_map(|(number, code)| {
        let calls = [".sleep(", ".sleep_until("];
        let slept = calls.iter().any(|call| code.contains(call));
        slept.then_some((number, "RealClock::sleep"))
    });
    sleeps
        .chain(real)
        .map(|(number, found)| {
            Finding::at(
                &file.path,
                number,
                format!(
                    "`{found}` waits for real time; use navarch_time::Clock with a virtual clock, \
                     or the polling helper in crates/cli/tests/support where real processes run"
                ),
            )
        })
        .collect()
}

/// No test is switched off.
pub fn ignores_no_test(file: &File) -> Vec<Finding> {
    attributes(file)
        .into_iter()
        .filter(|(_, attribute)| names(attribute, "ignore"))
        .map(|(number, _)| {
            Finding::at(
                &file.path,
                number,
                "a test that does not run proves nothing; repair it, or delete it and open an issue",
            )
        })
        .collect()
}

/// A lint is set aside only with the reason, and by `expect` where the code is ours.
pub fn sets_lints_aside_with_reason(file: &File) -> Vec<Finding> {
    attributes(file)
        .into_iter()
        .filter(|(_, attribute)| names(attribute, "allow") || names(attribute, "expect"))
        .filter(|(_, attribute)| !attribute.contains("reason"))
        .map(|(number, _)| {
            Finding::at(
                &file.path,
                number,
                "say why: `#[expect(the_lint, reason = \"...\")]`; expect goes away by itself \
                 once it is no longer needed",
            )
        })
        .collect()
}

/// The methods that `clippy.toml` bans are used where time passes and nowhere else.
pub fn banned_methods_have_homes(file: &File) -> Vec<Finding> {
    if may_wait(file) {
        return Vec::new();
    }
    attributes(file)
        .into_iter()
        .filter(|(_, attribute)| attribute.contains("clippy::disallowed_methods"))
        .map(|(number, _)| {
            Finding::at(
                &file.path,
                number,
                "clippy.toml bans this method and says what to use instead; take a Clock, a Rng \
                 or Tasks from navarch_time as an argument",
            )
        })
        .collect()
}

/// Unfinished work has an issue, and nothing unfinished is called done.
pub fn unfinished_work_has_an_issue(file: &File) -> Vec<Finding> {
    const MARKERS: &[&str] = &["TODO", "FIXME", "XXX", "HACK"];
    const STUBS: &[&str] = &["todo!(", "unimplemented!("];
    if !file.is_rust() && !is_script(file) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in file.lines() {
        for marker in MARKERS {
            let open = words(line, marker).any(|rest| !is_issue(rest));
            if open {
                findings.push(Finding::at(
                    &file.path,
                    number,
                    format!("name the issue: `{marker}(#12): ...`, or do it now"),
                ));
            }
        }
        if let Some(stub) = STUBS.iter().find(|stub| line.contains(*stub)) {
            findings.push(Finding::at(
                &file.path,
                number,
                format!(
                    "`{stub}...)` panics in someone's hands; write it, or return a clear error"
                ),
            ));
        }
    }
    findings
}

/// A file stays short enough to be understood without a map.
pub fn stays_short(file: &File) -> Vec<Finding> {
    let count = file.text.lines().count();
    if !file.is_rust() || count <= MOST_LINES {
        return Vec::new();
    }
    vec![Finding::about(
        &file.path,
        format!("{count} lines; the limit is {MOST_LINES}: split the file by state or by noun"),
    )]
}

/// `unsafe` has one home.
pub fn unsafe_has_one_home(file: &File) -> Vec<Finding> {
    if file.path.starts_with(UNSAFE_HOME) {
        return Vec::new();
    }
    code_lines(file)
        .into_iter()
        .filter(|(_, code)| {
            ["unsafe {", "unsafe fn ", "unsafe impl ", "unsafe extern "]
                .iter()
                .any(|form| code.contains(form))
        })
        .map(|(number, _)| {
            Finding::at(
                &file.path,
                number,
                format!("`unsafe` belongs into {UNSAFE_HOME} alone; find a safe crate for it"),
            )
        })
        .collect()
}

/// The lines of a Rust file without comments and the insides of strings, numbered from 1.
fn code_lines(file: &File) -> Vec<(usize, String)> {
    if !file.is_rust() {
        return Vec::new();
    }
    let code = only_code(&file.text);
    let lines = code.lines().map(str::to_owned).enumerate();
    lines.map(|(index, line)| (index + 1, line)).collect()
}

/// The code lines that are compiled for tests alone: all of a test file, and what follows the
/// first `#[cfg(test)]` elsewhere, where modules of tests stand at the end.
fn test_lines(file: &File) -> Vec<(usize, String)> {
    let mut lines = code_lines(file);
    if !file.is_test() {
        let first = lines
            .iter()
            .position(|(_, code)| code.trim() == "#[cfg(test)]");
        lines.drain(..first.unwrap_or(lines.len()));
    }
    lines
}

/// The attributes of a Rust file, each as one text with the number of its first line.
fn attributes(file: &File) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut lines = code_lines(file).into_iter();
    while let Some((number, line)) = lines.next() {
        let line = line.trim();
        if !line.starts_with("#[") && !line.starts_with("#![") {
            continue;
        }
        let mut attribute = line.to_owned();
        while open_brackets(&attribute) > 0 {
            let Some((_, more)) = lines.next() else { break };
            attribute.push(' ');
            attribute.push_str(more.trim());
        }
        found.push((number, attribute));
    }
    found
}

/// How many square brackets are open at the end of the text.
fn open_brackets(text: &str) -> usize {
    let opened = text.matches('[').count();
    opened.saturating_sub(text.matches(']').count())
}

/// Whether an attribute is, or conditionally applies, the attribute of this name.
fn names(attribute: &str, name: &str) -> bool {
    words(attribute, name).any(|rest| {
        matches!(
            rest.trim_start().chars().next(),
            Some('(' | ']' | '=' | ')')
        )
    })
}

/// What follows each place where `word` stands in `text` as a word of its own.
fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(word).filter_map(move |(index, _)| {
        let before = text[..index].chars().next_back();
        let rest = &text[index + word.len()..];
        let after = rest.chars().next();
        let part_of_word =
            |side: Option<char>| side.is_some_and(|c| c.is_alphanumeric() || c == '_');
        (!part_of_word(before) && !part_of_word(after)).then_some(rest)
    })
}

/// Whether the text begins with the number of an issue, as in `(#12)`.
fn is_issue(text: &str) -> bool {
    text.strip_prefix("(#")
        .and_then(|rest| rest.split_once(')'))
        .is_some_and(|(number, _)| {
            !number.is_empty() && number.chars().all(|digit| digit.is_ascii_digit())
        })
}

fn may_wait(file: &File) -> bool {
    WAITING_HOMES.iter().any(|home| file.path.starts_with(home))
}

fn is_script(file: &File) -> bool {
    file.text.starts_with("#!")
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
    fn a_file_without_its_first_line_is_found() {
        let rule = says_what_it_holds;
        for bad in [
            "",
            "use std::fs;\n",
            "\n//! Late.\n",
            "//!\n",
            "// Not this.\n",
        ] {
            assert_eq!(lines_of(rule, "crates/a/src/b.rs", bad), [1], "{bad:?}");
        }
        assert!(lines_of(rule, "crates/a/src/b.rs", "//! Good.\n").is_empty());
        assert!(lines_of(rule, "crates/a/Cargo.toml", "[package]\n").is_empty());
    }

    #[test]
    fn sleeping_is_found_outside_its_homes() {
        let rule = waits_without_sleeping;
        let bad = "//! A.\nfn f() {\n    std::thread::sleep(TICK);\n    tokio::time::sleep(TICK).await;\n}\n";
        assert_eq!(lines_of(rule, "crates/node/tests/a.rs", bad), [3, 4]);
        assert_eq!(lines_of(rule, "crates/cli/tests/a.rs", bad), [3, 4]);
        assert!(lines_of(rule, "crates/cli/tests/support/wait.rs", bad).is_empty());
        assert!(lines_of(rule, "crates/time/src/real.rs", bad).is_empty());
        assert!(lines_of(rule, "crates/a/src/b.rs", "// not thread::sleep\n").is_empty());
        assert!(lines_of(rule, "crates/a/src/b.rs", "clock.sleep(wait).await;\n").is_empty());
        let real = "let clock = RealClock::new();\nclock.sleep(wait).await;\n";
        assert_eq!(lines_of(rule, "crates/node/tests/a.rs", real), [2]);
        assert!(lines_of(rule, "crates/node/src/a.rs", real).is_empty());
        let both = format!("{real}#[cfg(test)]\n{real}");
        assert_eq!(lines_of(rule, "crates/node/src/a.rs", &both), [5]);
        let virtual_clock = real.replace("Real", "Virtual");
        assert!(lines_of(rule, "crates/node/tests/a.rs", &virtual_clock).is_empty());
    }

    #[test]
    fn an_ignored_test_is_found() {
        let rule = ignores_no_test;
        for bad in [
            "#[ignore]\nfn t() {}\n",
            "#[ignore = \"slow\"]\nfn t() {}\n",
            "    #[cfg_attr(unix, ignore)]\n",
        ] {
            assert_eq!(lines_of(rule, "crates/a/src/b.rs", bad), [1], "{bad:?}");
        }
        for good in [
            "#[test]\n",
            "#[serde(ignore_unknown)]\n",
            "let ignore = 1;\n",
        ] {
            assert!(
                lines_of(rule, "crates/a/src/b.rs", good).is_empty(),
                "{good:?}"
            );
        }
    }

    #[test]
    fn a_lint_set_aside_without_reason_is_found() {
        let rule = sets_lints_aside_with_reason;
        for bad in [
            "#[allow(dead_code)]\n",
            "#![allow(dead_code)]\n",
            "#[expect(dead_code)]\n",
            "#[allow(\n    dead_code,\n    unused\n)]\n",
            "#[cfg_attr(test, allow(dead_code))]\n",
            "#[allow(dead_code, doc = \"the reason\")]\n",
        ] {
            assert_eq!(lines_of(rule, "crates/a/src/b.rs", bad), [1], "{bad:?}");
        }
        for good in [
            "#[expect(dead_code, reason = \"the C side reads it\")]\n",
            "#[expect(\n    dead_code,\n    reason = \"long\"\n)]\n",
            "#[derive(Debug)]\n",
            "#[arg(default_value = \"http://localhost\")]\n/// allow(this)\nx: u8,\n",
            "let sample = \"\n#[allow(dead_code)]\n\";\n",
            "value.expect(\"it is there\");\n",
        ] {
            assert!(
                lines_of(rule, "crates/a/src/b.rs", good).is_empty(),
                "{good:?}"
            );
        }
    }

    #[test]
    fn a_banned_method_outside_its_homes_is_found() {
        let rule = banned_methods_have_homes;
        let bad = "#[expect(\n    clippy::disallowed_methods,\n    reason = \"now\"\n)]\n";
        assert_eq!(lines_of(rule, "crates/server/src/a.rs", bad), [1]);
        assert!(lines_of(rule, "crates/time/src/clock.rs", bad).is_empty());
        assert!(lines_of(rule, "crates/cli/tests/support/wait.rs", bad).is_empty());
        assert!(
            lines_of(
                rule,
                "crates/a/src/b.rs",
                "#[expect(unused, reason = \"x\")]\n"
            )
            .is_empty()
        );
    }

    #[test]
    fn unfinished_work_without_an_issue_is_found() {
        let rule = unfinished_work_has_an_issue;
        for bad in [
            "// TODO: later\n",
            "// FIXME(me): later\n",
            "// TODO(#): later\n",
            "let x = 1; // XXX\n",
            "    todo!()\n",
            "    unimplemented!(\"soon\")\n",
        ] {
            assert_eq!(lines_of(rule, "crates/a/src/b.rs", bad), [1], "{bad:?}");
        }
        for good in [
            "// TODO(#12): later\n",
            "const TODOS: u8 = 1;\n",
            "// todo list\n",
        ] {
            assert!(
                lines_of(rule, "crates/a/src/b.rs", good).is_empty(),
                "{good:?}"
            );
        }
        assert_eq!(lines_of(rule, "scripts/test", "#!/bin/sh\n# TODO\n"), [2]);
    }

    #[test]
    fn a_file_that_is_too_long_is_found() {
        let longest = "a\n".repeat(MOST_LINES);
        assert!(stays_short(&File::new("crates/a/src/b.rs", longest.clone())).is_empty());
        let findings = stays_short(&File::new("crates/a/src/b.rs", longest + "a\n"));
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0].message.contains("901 lines"),
            "{}",
            findings[0].message
        );
    }

    #[test]
    fn unsafe_is_found_outside_its_home() {
        let rule = unsafe_has_one_home;
        let bad = "//! A.\nfn f() {\n    unsafe { g() }\n}\nunsafe impl Send for A {}\n";
        assert_eq!(lines_of(rule, "crates/node/src/a.rs", bad), [3, 5]);
        assert!(lines_of(rule, "crates/gpu/src/nvml.rs", bad).is_empty());
        assert!(
            lines_of(
                rule,
                "crates/a/src/b.rs",
                "// unsafe { }\nlet unsafe_names = 1;\n"
            )
            .is_empty()
        );
    }

    #[test]
    fn words_are_whole_words() {
        assert_eq!(
            words("allow, disallow, allowed, allow(x)", "allow").count(),
            2
        );
    }
}

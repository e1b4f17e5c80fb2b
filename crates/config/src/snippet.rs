//! The line of the file that an error is about, with a mark under the place.

use crate::error::Position;

/// Characters of a line that are shown before and after the place.
const BEFORE: usize = 60;
const AFTER: usize = 40;

/// What a line has that may hold a secret, or stands above lines that do. Too few words print a
/// secret into a log; too many cost a snippet.
const SECRETS: &[&str] = &[
    "token",
    "secret",
    "passw",
    "credential",
    "auth",
    "api_key",
    "apikey",
    "api-key",
    "private_key",
    "header",
    "bearer",
    "cookie",
    "hmac",
    "signature",
    "webhook",
    "command",
];

/// Words of scenarios that name no secret, whatever is in them.
const HARMLESS: &[&str] = &["issue_command", "run_command", "command_type"];

/// The line with a mark, or none where it may show a secret.
pub(crate) fn snippet(text: &str, position: Position) -> Option<String> {
    let lines: Vec<&str> = text.split('\n').collect();
    let at = usize::try_from(position.line).ok()?.checked_sub(1)?;
    let line = lines.get(at)?.trim_end();
    if line.trim().is_empty() || near_secret(&lines, at) {
        return None;
    }
    let column = usize::try_from(position.column).ok()?.checked_sub(1)?;
    let length = line.chars().count();
    if column > length {
        return None;
    }
    let first = if length <= BEFORE + AFTER {
        0
    } else {
        column.saturating_sub(BEFORE)
    };
    let mut shown: String = line
        .chars()
        .skip(first)
        .take(BEFORE + AFTER)
        .map(visible)
        .collect();
    let cut = first > 0;
    if first + shown.chars().count() < length {
        shown.push('…');
    }
    let number = position.line.to_string();
    let (lead, gap) = if cut { ("…", 1) } else { ("", 0) };
    Some(format!(
        "  {number} | {lead}{shown}\n  {:width$} | {:gap$}{:indent$}^",
        "",
        "",
        "",
        width = number.len(),
        indent = column - first,
    ))
}

/// A character that a terminal shows as itself, one column wide where that can be known.
fn visible(c: char) -> char {
    let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    match c {
        '\t' => ' ',
        c if c.is_control() || hidden => '\u{fffd}',
        c => c,
    }
}

/// Whether the line, one that it is indented below, or one of the brackets around it names a
/// secret.
fn near_secret(lines: &[&str], at: usize) -> bool {
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', '-']).len();
    if secret(lines[at]) {
        return true;
    }
    let mut inner = indent(lines[at]);
    for line in lines[..at].iter().rev() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        // The lines of one list stand as deep as the key above them.
        if indent(line) < inner || line.trim_end().ends_with(':') && indent(line) <= inner {
            if secret(line) {
                return true;
            }
            inner = inner.min(indent(line));
        }
        if inner == 0 && indent(line) == 0 {
            break;
        }
    }
    let mut depth: usize = 0;
    let mut open = 0;
    for (number, line) in lines[..at].iter().enumerate() {
        if depth == 0 {
            open = number;
        }
        for c in line.chars() {
            match c {
                '{' | '[' => depth += 1,
                '}' | ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
    }
    depth > 0 && (lines[open..at].iter().any(|line| secret(line)) || near_secret(lines, open))
}

fn secret(line: &str) -> bool {
    let mut line = line.to_lowercase();
    for word in HARMLESS {
        line = line.replace(word, "");
    }
    // A user with a password, with or without a scheme, or a query.
    let url = line
        .split_once("://")
        .is_some_and(|(_, rest)| rest.contains('?'));
    url || line.contains('@') || SECRETS.iter().any(|word| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, line: u64, column: u64) -> String {
        snippet(text, Position { line, column }).unwrap_or_default()
    }

    #[test]
    fn a_line_is_shown_with_a_mark_under_the_place() {
        let text = "server:\n  address: x\r\n\tpools: é5\n";
        assert_eq!(shown(text, 2, 12), "  2 |   address: x\n    |            ^");
        assert_eq!(
            shown(text, 2, 13),
            "  2 |   address: x\n    |             ^"
        );
        assert_eq!(shown(text, 3, 10), "  3 |  pools: é5\n    |          ^");
        for (line, column) in [(0, 1), (2, 0), (4, 1), (9, 1), (2, 99), (u64::MAX, 1)] {
            assert_eq!(shown(text, line, column), "", "{line}:{column}");
        }
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}!{}", "a".repeat(500), "b".repeat(500));
        let shown = shown(&text, 1, 501);
        let (line, mark) = shown.split_once('\n').unwrap();
        assert!(line.chars().count() < 120, "{line}");
        assert_eq!(
            line.chars().position(|c| c == '!'),
            mark.chars().position(|c| c == '^')
        );
    }

    #[test]
    fn nothing_that_may_be_secret_is_shown() {
        let file = "\
server:
  auth:
    tokens:
      one: hunter2
  notifier:
    webhook:
      headers:
        X: hunter2
        Y: [
hunter2 ]
flow: {headers: {A: b,
B: hunter2}}
url: http://me:hunter2@host
pools:
- setup_commands:
  - login hunter2
block: |
  password
";
        for (index, line) in file.lines().enumerate() {
            let shown = shown(file, index as u64 + 1, 1);
            assert!(!shown.contains("hunter2"), "{line}: {shown}");
        }
        assert!(!shown(file, 14, 1).is_empty());
        let scenario = "- action: issue_command\n  command_type: x\n  command_args: {a: hunter2}\n";
        assert!(!shown(scenario, 1, 1).is_empty() && !shown(scenario, 2, 3).is_empty());
        assert_eq!(shown(scenario, 3, 3), "");
        assert!(!shown(file, 1, 1).is_empty());
    }

    #[test]
    fn what_moves_the_cursor_is_replaced() {
        assert_eq!(
            shown("a: \u{1b}[2J\u{202e}x", 1, 1),
            "  1 | a: \u{fffd}[2J\u{fffd}x\n    | ^"
        );
    }
}

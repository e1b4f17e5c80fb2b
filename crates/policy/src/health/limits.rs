//! What a policy file may cost: sizes, nesting and the steps of a condition.
//!
//! The interpreter recurses over the expression and cannot be interrupted, so everything that could
//! exhaust the stack or the processor is refused before it runs.

/// The largest file, in bytes. Lower refuses real rule sets, which take some kilobytes; higher lets
/// a wrong file cost memory before it is refused.
pub(super) const MAX_FILE_BYTES: usize = 1 << 20;

/// The most rules of a file. Every event may try all of them, at about a microsecond each.
pub(super) const MAX_RULES: usize = 500;

/// The longest condition, in bytes, comments included.
pub(super) const MAX_CONDITION_BYTES: usize = 8 << 10;

/// The longest name of a rule or class, in characters: it appears in events, metrics and tables.
pub(super) const MAX_NAME_CHARS: usize = 100;

/// The deepest nesting of brackets, chains of operators included. Shipped rules need less than ten;
/// parsing and running one level takes several stack frames, of which a thread of two megabytes
/// holds some hundred times more than this.
const MAX_DEPTH: u32 = 64;

/// The most steps of one condition: each pass through a comprehension counts its body.
pub(super) const MAX_STEPS: u64 = 20_000;

/// The most steps of all conditions of a file together.
pub(super) const MAX_FILE_STEPS: u64 = 200_000;

/// The memory that one compiled regular expression may take, in bytes.
pub(super) const MAX_PATTERN_BYTES: usize = 256 << 10;

/// Finds the place, in bytes, where a condition nests deeper than the parser and the interpreter
/// can follow. It reads tokens only: a condition that it misreads is refused by the parser.
pub(super) fn too_deep(condition: &str) -> Option<usize> {
    // Per open bracket: operators that chain up within it, and conditionals.
    let mut levels = vec![(0_u32, 0_u32)];
    let mut depth = 0_u32;
    let bytes = condition.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        let rest = &condition.as_bytes()[at..];
        let open = levels.len();
        let top = levels.last_mut()?;
        match byte {
            b'/' if rest.starts_with(b"//") => {
                at += rest
                    .iter()
                    .position(|&byte| byte == b'\n')
                    .unwrap_or(rest.len());
                continue;
            }
            b'"' | b'\'' => {
                let raw = at > 0
                    && matches!(bytes[at - 1], b'r' | b'R')
                    && (at < 2 || !is_word(bytes[at - 2]) || matches!(bytes[at - 2], b'b' | b'B'));
                at += string_length(rest, raw);
                continue;
            }
            b'(' | b'[' | b'{' => {
                top.0 += 1;
                depth += 1;
                levels.push((0, 0));
            }
            b')' | b']' | b'}' if open > 1 => {
                let (chained, conditional) = levels.pop()?;
                depth -= chained + conditional;
            }
            b',' => {
                depth -= top.0 + top.1;
                *top = (0, 0);
            }
            b'&' | b'|' | b':' => {
                depth -= top.0;
                top.0 = 0;
            }
            b'?' => {
                depth = depth - top.0 + 1;
                *top = (0, top.1 + 1);
            }
            b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'=' | b'!' | b'.' => {
                top.0 += 1;
                depth += 1;
            }
            b'i' if rest.starts_with(b"in")
                && !rest.get(2).copied().is_some_and(is_word)
                && (at == 0 || !is_word(bytes[at - 1])) =>
            {
                top.0 += 1;
                depth += 1;
            }
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Some(at);
        }
        at += 1;
    }
    None
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The length of the string literal at the beginning of `text`, quotes included.
fn string_length(text: &[u8], raw: bool) -> usize {
    let quote = text[0];
    let triple = [quote; 3];
    let (close, open) = if text.starts_with(&triple) {
        (&triple[..], 3)
    } else {
        (&triple[..1], 1)
    };
    let mut at = open;
    while at < text.len() {
        if text[at..].starts_with(close) {
            return at + close.len();
        }
        if close.len() == 1 && text[at] == b'\n' {
            return at;
        }
        at += if text[at] == b'\\' && !raw { 2 } else { 1 };
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_conditions_are_found() {
        let deep = [
            "(".repeat(100),
            format!("{}1{}", "[".repeat(65), "]".repeat(65)),
            "!".repeat(100),
            "-".repeat(100) + "1",
            "1+".repeat(100) + "1",
            "a.".repeat(100) + "a",
            "a[0]".to_owned() + &"[0]".repeat(100),
            "a < ".repeat(100) + "a",
            "a in ".repeat(100) + "a",
            "a ? b : ".repeat(100) + "c",
            "a ? ".repeat(100),
            format!("\"{}", "\\\"".repeat(3)) + "\" + " + &"(".repeat(100),
            "f(a.b, g(".repeat(40),
        ];
        for condition in &deep {
            assert!(too_deep(condition).is_some(), "{condition}");
        }
    }

    #[test]
    fn wide_conditions_are_not() {
        let wide = [
            vec!["event.metrics.xid_code == 1"; 200].join(" || "),
            vec!["(a.b < 1 && !c.d)"; 200].join(" && "),
            format!("x in [{}]", vec!["-1"; 500].join(", ")),
            format!("// {}\ntrue", "(".repeat(500)),
            format!("a == \"{}\"", "(".repeat(500)),
            format!("a == r\"\\\" && b == '{}'", "(".repeat(500)),
            format!("a == '''{}'''", "('".repeat(200)),
            "a ? b : c || ".repeat(20),
            ")))))".repeat(100),
        ];
        for condition in &wide {
            assert_eq!(too_deep(condition), None, "{condition}");
        }
    }
}

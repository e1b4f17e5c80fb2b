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

/// The deepest nesting: brackets, and operators that chain up. Shipped rules need up to nine. The
/// interpreter takes about 30 kB of stack for each level in a debug build, so a thread of one
/// megabyte holds 32; in a release build it takes less.
const MAX_DEPTH: u32 = 24;

/// The most steps of one condition: each pass through a comprehension counts its body.
pub(super) const MAX_STEPS: u64 = 20_000;

/// The most steps of all conditions of a file together.
pub(super) const MAX_FILE_STEPS: u64 = 200_000;

/// The memory that one compiled regular expression may take, in bytes.
pub(super) const MAX_PATTERN_BYTES: usize = 256 << 10;

/// What is open at one place of a condition: the levels below an open bracket.
#[derive(Default)]
struct Level {
    /// Operators that hang on each other: `a.b + c < d`.
    chained: u32,
    /// Conditionals that hang on each other: `a ? b : c ? d : e`.
    conditional: u32,
    /// `&&` and `||`, of which the parser makes a balanced tree.
    logical: u32,
}

impl Level {
    const fn depth(&self) -> u32 {
        self.chained + self.conditional + (u32::BITS - self.logical.leading_zeros())
    }
}

/// Finds the place, in bytes, where a condition nests deeper than the parser and the interpreter
/// can follow. It reads tokens only: a condition that it misreads is refused by the parser.
pub(super) fn too_deep(condition: &str) -> Option<usize> {
    let bytes = condition.as_bytes();
    let mut levels = vec![Level::default()];
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let open = levels.len();
        let top = levels.last_mut()?;
        let length = match rest[0] {
            b'/' if rest.starts_with(b"//") => rest
                .iter()
                .position(|&byte| byte == b'\n')
                .unwrap_or(rest.len()),
            b'"' | b'\'' => string_length(rest, is_raw(&bytes[..at])),
            b'(' | b'[' | b'{' => {
                top.chained += 1;
                levels.push(Level::default());
                1
            }
            b')' | b']' | b'}' if open > 1 => {
                levels.pop();
                1
            }
            b',' => {
                *top = Level::default();
                1
            }
            b'&' | b'|' => {
                top.chained = 0;
                top.logical += 1;
                1 + usize::from(rest.get(1) == Some(&rest[0]))
            }
            b':' => {
                top.chained = 0;
                1
            }
            b'?' => {
                *top = Level {
                    conditional: top.conditional + 1,
                    ..Level::default()
                };
                1
            }
            b'=' | b'!' | b'<' | b'>' => {
                top.chained += 1;
                1 + usize::from(rest.get(1) == Some(&b'='))
            }
            b'+' | b'-' | b'*' | b'/' | b'%' | b'.' => {
                top.chained += 1;
                1
            }
            byte if is_word(byte) => {
                let length = rest
                    .iter()
                    .position(|&byte| !is_word(byte))
                    .unwrap_or(rest.len());
                top.chained += u32::from(&rest[..length] == b"in");
                length
            }
            _ => 1,
        };
        if levels.iter().map(Level::depth).sum::<u32>() > MAX_DEPTH {
            return Some(at);
        }
        at += length;
    }
    None
}

/// Whether the string literal behind `before` is a raw one: `r"…"`, `br"…"`.
fn is_raw(before: &[u8]) -> bool {
    let word = before
        .iter()
        .rev()
        .take_while(|&&byte| is_word(byte))
        .count();
    let prefix = &before[before.len() - word..];
    prefix.len() <= 2 && prefix.iter().any(|byte| matches!(byte, b'r' | b'R'))
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
            format!("{}1{}", "[".repeat(25), "]".repeat(25)),
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
            "(a||a||a||a||".repeat(10),
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
            "a ? b : c || ".repeat(10),
            vec!["a.b == 1"; 900].join("||"),
            ")))))".repeat(100),
        ];
        for condition in &wide {
            assert_eq!(too_deep(condition), None, "{condition}");
        }
    }
}

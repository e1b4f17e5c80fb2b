//! Rust source with its comments and the insides of its strings blanked out, so that the rules
//! judge code and not what the code talks about.

/// The text with every comment, and the inside of every string and character literal, replaced by
/// spaces. Lines keep their numbers.
pub fn only_code(text: &str) -> String {
    let mut reader = Reader {
        rest: text,
        code: String::with_capacity(text.len()),
    };
    while let Some(next) = reader.rest.chars().next() {
        match next {
            '/' if reader.rest.starts_with("//") => {
                let end = reader.rest.find('\n').unwrap_or(reader.rest.len());
                reader.blank(end);
            }
            '/' if reader.rest.starts_with("/*") => {
                let end = comment_end(reader.rest);
                reader.blank(end);
            }
            '"' => reader.string(),
            'r' if reader.begins_word() => match raw_hashes(reader.rest) {
                Some(hashes) => reader.raw_string(hashes),
                None => reader.keep(1),
            },
            '\'' => match character_end(reader.rest) {
                Some(end) => reader.literal(1, end, 1),
                None => reader.keep(1),
            },
            other => reader.keep(other.len_utf8()),
        }
    }
    reader.code
}

struct Reader<'a> {
    rest: &'a str,
    code: String,
}

impl Reader<'_> {
    fn keep(&mut self, bytes: usize) {
        let (kept, rest) = self.rest.split_at(bytes);
        self.code.push_str(kept);
        self.rest = rest;
    }

    fn blank(&mut self, bytes: usize) {
        let (blanked, rest) = self.rest.split_at(bytes);
        let spaces = blanked.chars().map(|c| if c == '\n' { '\n' } else { ' ' });
        self.code.extend(spaces);
        self.rest = rest;
    }

    /// Keeps the delimiters of a literal that ends at `end`, and blanks what lies between.
    fn literal(&mut self, opening: usize, end: usize, closing: usize) {
        self.keep(opening);
        self.blank((end - opening).saturating_sub(closing));
        self.keep(closing.min(self.rest.len()));
    }

    /// Whether the next character is not the end of a longer name, a byte string's `b` aside.
    fn begins_word(&self) -> bool {
        let mut before = self.code.chars().rev();
        match before.next() {
            Some('b') => !before.next().is_some_and(is_name),
            Some(c) => !is_name(c),
            None => true,
        }
    }

    fn string(&mut self) {
        let mut escaped = false;
        let end = self.rest[1..].find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        match end {
            Some(end) => self.literal(1, end + 2, 1),
            None => self.blank(self.rest.len()),
        }
    }

    fn raw_string(&mut self, hashes: usize) {
        let opening = 2 + hashes;
        let close = format!("\"{}", "#".repeat(hashes));
        match self.rest[opening..].find(&close) {
            Some(end) => self.literal(opening, opening + end + close.len(), close.len()),
            None => self.blank(self.rest.len()),
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where a block comment ends; comments nest.
fn comment_end(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The number of `#` of a raw string that begins here, if one does.
fn raw_hashes(text: &str) -> Option<usize> {
    let after = &text[1..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// Where a character literal that begins here ends; none for a lifetime.
fn character_end(text: &str) -> Option<usize> {
    let inside = &text[1..];
    let mut characters = inside.chars();
    let first = characters.next()?;
    if first == '\\' {
        let escaped = characters.next()?;
        let from = 1 + escaped.len_utf8();
        return inside[from..].find('\'').map(|end| 1 + from + end + 1);
    }
    (characters.next()? == '\'').then(|| 1 + first.len_utf8() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_the_insides_of_literals_are_blank() {
        for (text, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            ("a /* b\nc */ d", "a     \n     d"),
            ("\"a // b\" // c", "\"      \"     "),
            (r#""a\"b" c"#, r#""    " c"#),
            (r#""a\\" b"#, r#""   " b"#),
            ("r#\"a\"b\"# c", "r#\"   \"# c"),
            ("br\"a\\\" c", "br\"  \" c"),
            ("for\"a\"", "for\" \""),
            ("r\"a\"", "r\" \""),
            ("r#type = 1", "r#type = 1"),
            ("'\"' b", "' ' b"),
            (r"'\'' b", "'  ' b"),
            (r"'\u{41}' b", "'      ' b"),
            ("&'a str", "&'a str"),
            ("f::<'a, 'b>()", "f::<'a, 'b>()"),
            ("\"a\nb\" c", "\" \n \" c"),
            ("\"open\n// c", "     \n    "),
            ("a /* open", "a        "),
            ("'", "'"),
            ("r", "r"),
            ("\u{e4} \"\u{e4}\"", "\u{e4} \" \""),
        ] {
            assert_eq!(only_code(text), code, "{text:?}");
        }
    }
}

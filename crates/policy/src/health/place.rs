//! Where in a file a character of a condition stands.

/// A condition and the lines of its file.
pub(super) struct Placed<'f> {
    start: (usize, usize),
    text: &'f str,
    lines: &'f [&'f str],
}

impl<'f> Placed<'f> {
    /// `start` is where the parser saw the scalar begin; `text` is its value.
    pub(super) const fn new(start: (usize, usize), text: &'f str, lines: &'f [&'f str]) -> Self {
        Self { start, text, lines }
    }

    /// The line and column of the character at `offset` of the condition. Exact for plain and
    /// quoted text on one line and for literal blocks (`|`); elsewhere, where YAML folds lines, the
    /// beginning of the text.
    pub(super) fn place(&self, offset: usize) -> (usize, usize) {
        self.literal_block(offset)
            .or_else(|| self.one_line(offset))
            .unwrap_or(self.start)
    }

    /// The text of the file from the beginning of the scalar to the end of the line.
    fn first_line(&self) -> Option<&'f str> {
        let (line, column) = self.start;
        let text = self.lines.get(line - 1)?;
        let (at, _) = text.char_indices().nth(column - 1)?;
        Some(&text[at..])
    }

    fn one_line(&self, offset: usize) -> Option<(usize, usize)> {
        let rest = self.first_line()?;
        let quote = usize::from(rest.starts_with(['"', '\'']));
        rest[quote..]
            .starts_with(self.text.trim_end())
            .then_some((self.start.0, self.start.1 + quote + offset))
    }

    fn literal_block(&self, offset: usize) -> Option<(usize, usize)> {
        let (line, _) = self.start;
        // The parser may point at the indicator or at the first line of the text that is not blank.
        let line_at = |line: usize| self.lines.get(line.checked_sub(1)?);
        let first = (1..=line)
            .rev()
            .find(|&at| at < line && line_at(at).is_some_and(|text| !text.trim().is_empty()));
        let indicator = |at: usize| {
            let (_, value) = line_at(at)?.split_once(": ")?;
            value.trim_start().starts_with('|').then_some(at + 1)
        };
        let first = indicator(line).or_else(|| indicator(first?))?;
        let before: String = self.text.chars().take(offset).collect();
        let row = before.matches('\n').count();
        let in_row = before.chars().rev().take_while(|c| *c != '\n').count();
        let (blank, wanted) = self
            .text
            .lines()
            .enumerate()
            .find(|(_, line)| !line.trim().is_empty())?;
        let written = self.lines.get(first - 1 + blank)?;
        let spaces = |line: &str| line.len() - line.trim_start_matches(' ').len();
        let indent = spaces(written).checked_sub(spaces(wanted))?;
        (written.trim() == wanted.trim()).then_some((first + row, indent + in_row + 1))
    }
}

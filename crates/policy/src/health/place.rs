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
        let wanted = self.text.lines().next()?;
        let (line, column) = self.start;
        // The parser may point at the indicator or at the first line of the text.
        let indicator = |line: usize| {
            let (_, value) = self.lines.get(line.checked_sub(1)?)?.split_once(": ")?;
            value.trim_start().starts_with('|').then_some(line + 1)
        };
        let first = indicator(line).or_else(|| indicator(line - 1).filter(|_| column > 1))?;
        let before: String = self.text.chars().take(offset).collect();
        let row = before.matches('\n').count();
        let in_row = before.chars().rev().take_while(|c| *c != '\n').count();
        let text = self.lines.get(first - 1)?;
        let indent = text.len() - text.trim_start().len();
        text.trim_start()
            .starts_with(wanted.trim())
            .then_some((first + row, indent + in_row + 1))
    }
}

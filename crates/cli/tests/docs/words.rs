//! Command lines cut into words, and output compared with what a page shows.

/// The words of a command line; quotation marks keep words together.
pub fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// What a line fixes: its words without the borders of tables, placeholders and `...`.
fn fixed(line: &str) -> Vec<&str> {
    line.split(|c: char| c.is_whitespace() || "│┌┐└┘├┤┬┴┼─".contains(c))
        .filter(|word| !word.is_empty() && !word.contains("...") && !word.contains('<'))
        .collect()
}

/// Whether the words appear in a line, in order.
fn appear(words: &[&str], line: &str) -> bool {
    let mut rest = line;
    words.iter().all(|word| {
        let found = rest.find(word);
        if let Some(at) = found {
            rest = &rest[at + word.len()..];
        }
        found.is_some()
    })
}

/// The first shown line that the output does not have, after those before it.
pub fn missing<'s>(shown: &'s [String], output: &str) -> Option<&'s str> {
    let mut lines = output.lines();
    shown.iter().map(String::as_str).find(|shown| {
        let words = fixed(shown);
        !words.is_empty() && !lines.any(|line| appear(&words, line))
    })
}

#[test]
fn command_lines() {
    assert_eq!(split("navarch  list"), ["navarch", "list"]);
    assert_eq!(
        split("a --reason \"two words\" 'x \"y\"' ''"),
        ["a", "--reason", "two words", "x \"y\"", ""]
    );
}

#[test]
fn output() {
    let shown = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let output = "┌────┐\n│ id │ Status │\n│ n1 │ Active │ Healthy │\n";
    assert_eq!(missing(&shown("id Status\n<node> Active"), output), None);
    assert_eq!(missing(&shown("...\n\nn1 ... Healthy"), output), None);
    assert_eq!(
        missing(&shown("Active\nid"), output),
        Some("id"),
        "the order of lines counts"
    );
    assert_eq!(
        missing(&shown("<node> Healthy Active"), output),
        Some("<node> Healthy Active"),
        "the order of words counts"
    );
}

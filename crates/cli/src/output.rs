//! What people and programs see: tables, JSON, YAML; data on standard output, the rest on error.

use std::io::Write as _;

use comfy_table::{ContentArrangement, ContentLineStyle, LineStyle, Table, TableStyle};
use serde_json::Value;

use crate::args::Format;
use crate::client::Failure;

/// Prints data.
pub fn say(text: &str) {
    // A reader that went away, such as `head`, is no error.
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

/// Prints what is not data.
pub fn remark(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

/// Prints why a command failed.
pub fn complain(failure: &Failure) {
    remark(&format!("Error: {failure}"));
}

/// Refuses formats for programs where a command has no data to show in them.
pub fn people_only(format: Format, command: &str) -> Result<(), Failure> {
    match format {
        Format::Table | Format::Wide => Ok(()),
        Format::Json | Format::Yaml => Err(Failure::Usage(format!(
            "`navarch {command}` has nothing to show as {}; leave --output away",
            format.word()
        ))),
    }
}

/// Prints values for programs; answers false for formats that people read.
pub fn for_programs(format: Format, value: &Value) -> Result<bool, Failure> {
    let text = render(format, value)?;
    if let Some(text) = &text {
        say(text);
    }
    Ok(text.is_some())
}

/// Values as programs get them; nothing for formats that people read.
pub fn render(format: Format, value: &Value) -> Result<Option<String>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Said(error.to_string());
    Ok(match format {
        Format::Table | Format::Wide => None,
        Format::Json => {
            let text = serde_json::to_string_pretty(value);
            Some(text.map_err(|error| failed(&error))?)
        }
        Format::Yaml => {
            let text = serde_saphyr::to_string(value).map_err(|error| failed(&error))?;
            Some(text.trim_end().to_owned())
        }
    })
}

/// A number of things: `1 rule`, `2 rules`.
pub fn counted(number: usize, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        _ => format!("{number} {thing}s"),
    }
}

/// Light box drawing without rules between rows.
const STYLE: TableStyle = TableStyle::new()
    .top_border(LineStyle::new('┌', '─', '┬', '┐'))
    .header_lines(ContentLineStyle::new('│', '│', '│'))
    .content_lines(ContentLineStyle::new('│', '│', '│'))
    .bottom_border(LineStyle::new('└', '─', '┴', '┘'));

/// A table in light lines: the heading is the first row, no rule under it, one space of padding.
pub fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.add_row(heading);
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

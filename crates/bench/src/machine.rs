//! What the figures were taken on, and how they are written down.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The machine, the tools and the commit, as the rows of a table.
pub fn description() -> Table {
    let mut table = Table::new("Machine", &["what", "value"]);
    let mut row = |what: &str, value: String| table.row(vec![what.to_owned(), value]);
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    row("CPU", format!("{model}, {cores} cores for all processes"));
    let memory = read("/proc/meminfo");
    let kilobytes = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    row("memory", format!("{} GiB", kilobytes.unwrap_or(0) >> 20));
    row(
        "kernel",
        read("/proc/sys/kernel/osrelease").trim().to_owned(),
    );
    row("compiler", said("rustc", &["--version"]));
    row(
        "build",
        if cfg!(debug_assertions) {
            "debug: these figures mean nothing".to_owned()
        } else {
            "release".to_owned()
        },
    );
    let changed = said("git", &["status", "--porcelain", "--untracked-files=no"]);
    let commit = said("git", &["rev-parse", "--short=12", "HEAD"]);
    row(
        "commit",
        if changed.is_empty() {
            commit
        } else {
            format!("{commit} with local changes")
        },
    );
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split(' ').take(3).collect();
    row("load before", load.join(" "));
    table
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// What a program says, in the folder of this crate's source if that is still there.
fn said(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    if source.exists() {
        command.current_dir(source);
    }
    match command.args(arguments).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}

/// Figures under a heading.
#[derive(Debug, Clone)]
pub struct Table {
    heading: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
    goals: Vec<Vec<String>>,
}

impl Table {
    pub fn new(heading: &str, columns: &[&str]) -> Self {
        Self {
            heading: heading.to_owned(),
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            rows: Vec::new(),
            notes: Vec::new(),
            goals: Vec::new(),
        }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// A line below the table.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// A target that these figures are held against.
    pub fn goal(&mut self, what: impl Into<String>, target: &str, found: String, met: bool) {
        let met = if met { "yes" } else { "no" };
        let cells = [what.into(), target.to_owned(), found, met.to_owned()];
        self.goals.push(cells.into());
    }

    /// The targets that these tables are held against, and which are met.
    pub fn summary(tables: &[Self]) -> Self {
        let mut summary = Self::new("Targets", &["what", "target", "here", "met"]);
        summary.rows = tables
            .iter()
            .flat_map(|table| table.goals.clone())
            .collect();
        summary
    }

    /// The table in Markdown, its columns aligned so that it reads well in a terminal too.
    pub fn markdown(&self) -> String {
        let width = |at: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            let longest = cells.chain([&self.columns[at]]).map(|c| c.chars().count());
            longest.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &[String]| {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| {
                let space = width.saturating_sub(cell.chars().count());
                format!("{cell}{}", " ".repeat(space))
            });
            format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
        };
        let mut text = format!("### {}\n\n", self.heading);
        text.push_str(&line(&self.columns));
        let dashes = widths.iter().map(|width| "-".repeat(width + 2));
        let _ = writeln!(text, "|{}|", dashes.collect::<Vec<_>>().join("|"));
        for row in &self.rows {
            text.push_str(&line(row));
        }
        for note in &self.notes {
            let _ = write!(text, "\n{note}\n");
        }
        text
    }
}

/// Milliseconds with two digits that count.
pub fn milliseconds(time: Duration) -> String {
    let value = time.as_secs_f64() * 1000.0;
    match value {
        0.0..10.0 => format!("{value:.2} ms"),
        10.0..100.0 => format!("{value:.1} ms"),
        _ => format!("{value:.0} ms"),
    }
}

/// Bytes as people read them.
pub fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{:.0} kB", count as f64 / 1e3),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}

/// A rate without digits that do not count.
pub fn rate(a_second: f64) -> String {
    let digits = format!("{a_second:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(rate(1_234_567.8), "1,234,568");
        assert_eq!(rate(999.0), "999");
        assert_eq!(rate(1000.0), "1,000");
        assert_eq!(milliseconds(Duration::from_micros(1234)), "1.23 ms");
        assert_eq!(milliseconds(Duration::from_micros(12_345)), "12.3 ms");
        assert_eq!(milliseconds(Duration::from_millis(1234)), "1234 ms");
        assert_eq!(bytes(9999), "9999 B");
        assert_eq!(bytes(359_700), "360 kB");
        assert_eq!(bytes(48_000_000), "48.0 MB");
    }

    #[test]
    fn a_table_is_markdown_with_aligned_columns() {
        let mut table = Table::new("T", &["a", "long"]);
        table.row(vec!["wide cell".to_owned(), "1".to_owned()]);
        table.note("Note.");
        table.goal("cells", "2", "1".to_owned(), false);
        assert_eq!(
            table.markdown(),
            "### T\n\n| a         | long |\n|-----------|------|\n| wide cell | 1    |\n\nNote.\n"
        );
        assert_eq!(
            Table::summary(&[table]).markdown(),
            "### Targets\n\n| what  | target | here | met |\n|-------|--------|------|-----|\n\
             | cells | 2      | 1    | no  |\n"
        );
    }
}

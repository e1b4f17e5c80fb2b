//! What the figures were taken on, and how they are written down.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use navarch_time::{Clock as _, RealClock};

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
    row(
        "virtual",
        if cpu.lines().any(|line| is_flag(line, "hypervisor")) {
            "yes: the processor names a hypervisor, so others may share the cores".to_owned()
        } else {
            "no hypervisor is named".to_owned()
        },
    );
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
    for program in ["navarch", "navarch-node", "navarch-bench"] {
        row(&format!("{program} built"), built(program));
    }
    row("begun", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]));
    row("load before", load());
    table
}

/// Whether a line of `/proc/cpuinfo` lists a flag.
fn is_flag(line: &str, flag: &str) -> bool {
    line.split_once(':').is_some_and(|(key, flags)| {
        key.trim() == "flags" && flags.split(' ').any(|one| one == flag)
    })
}

/// When a program beside this one was linked.
fn built(name: &str) -> String {
    let path = crate::process::beside(name);
    path.map_or_else(
        |_| "missing".to_owned(),
        |path| {
            let path = path.to_string_lossy();
            said("date", &["-u", "+%Y-%m-%d %H:%M UTC", "-r", &path])
        },
    )
}

/// How many programs wanted to run, in the last minute, five minutes and quarter of an hour.
fn load() -> String {
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split(' ').take(3).collect();
    load.join(" ")
}

/// What the machine did since this was made.
pub struct Meanwhile {
    clock: RealClock,
    began: Duration,
    ticks: Option<Ticks>,
}

/// Time of the machine's cores and of this program with those that it started and that ended, in
/// ticks of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    all: u64,
    busy: u64,
    stolen: u64,
    own: u64,
}

impl Ticks {
    /// From `/proc/stat` and `/proc/self/stat`.
    fn of(machine: &str, own: &str) -> Option<Self> {
        let cores = machine.lines().next()?.strip_prefix("cpu ")?;
        let cores: Vec<u64> = cores
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        // The guests' time is in the users' already.
        let &[user, nice, system, idle, wait, hard, soft, stolen, ..] = cores.as_slice() else {
            return None;
        };
        let (_, own) = own.rsplit_once(") ")?;
        let own = own.split(' ').skip(11).take(4).map(str::parse::<u64>);
        let own: Vec<u64> = own.collect::<Result<_, _>>().ok()?;
        let busy = user + nice + system + hard + soft;
        Some(Self {
            all: busy + idle + wait + stolen,
            busy,
            stolen,
            own: own.iter().sum(),
        })
    }

    fn now() -> Option<Self> {
        Self::of(&read("/proc/stat"), &read("/proc/self/stat"))
    }

    /// The shares of the cores' time, since `before`, that other programs used and that the host
    /// gave to others.
    fn since(self, before: Self) -> (f64, f64) {
        let all = (self.all - before.all).max(1) as f64;
        let own = self.own.saturating_sub(before.own);
        let others = (self.busy.saturating_sub(before.busy)).saturating_sub(own);
        let stolen = self.stolen.saturating_sub(before.stolen);
        (others as f64 / all, stolen as f64 / all)
    }
}

impl Meanwhile {
    /// From now on.
    pub fn begin() -> Self {
        let clock = RealClock::new();
        Self {
            began: clock.monotonic(),
            clock,
            ticks: Ticks::now(),
        }
    }

    /// Writes into the table of the machine what it did until now.
    pub fn end(&self, table: &mut Table) {
        let mut row = |what: &str, value: String| table.row(vec![what.to_owned(), value]);
        let took = self.clock.monotonic() - self.began;
        row("load after", load());
        row("took", format!("{} s", took.as_secs()));
        if let (Some(before), Some(now)) = (self.ticks, Ticks::now()) {
            let (others, stolen) = now.since(before);
            row(
                "cores meanwhile",
                format!(
                    "{} of their time used by other programs, {} taken by the host",
                    percent(others),
                    percent(stolen)
                ),
            );
        }
    }
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

/// A share as people read it.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    match value {
        0.05..9.95 => format!("{value:.1} %"),
        _ => format!("{value:.0} %"),
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
        assert_eq!(percent(0.004), "0.4 %");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(0.8), "80 %");
        assert_eq!(bytes(9999), "9999 B");
        assert_eq!(bytes(359_700), "360 kB");
        assert_eq!(bytes(48_000_000), "48.0 MB");
    }

    #[test]
    fn what_others_used_is_what_we_did_not() {
        let machine =
            |user, idle, stolen| format!("cpu  {user} 0 0 {idle} 0 0 0 {stolen} 0 0\ncpu0 1");
        let own =
            |user, children| format!("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 {user} 0 {children} 0 20");
        let before = Ticks::of(&machine(100, 1000, 5), &own(10, 20)).expect("both are whole");
        let after = Ticks::of(&machine(150, 1040, 15), &own(20, 40)).expect("both are whole");
        // Of 100 ticks 50 were used, 30 of them by us, and 10 were stolen.
        assert_eq!(after.since(before), (0.2, 0.1));
        assert_eq!(Ticks::of("cpu  1 2", &own(1, 1)), None);
        assert_eq!(Ticks::of(&machine(1, 1, 1), "7 (a"), None);
        assert!(is_flag("flags\t\t: fpu hypervisor vme", "hypervisor"));
        assert!(!is_flag("flags\t\t: fpu nohypervisor", "hypervisor"));
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

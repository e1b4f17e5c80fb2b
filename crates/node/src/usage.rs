//! How busy the machine is, by `/proc`.

use std::path::Path;

/// What the processors did since the system's boot, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    idle: u64,
    total: u64,
}

/// Measures the use of processors and memory.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    before: Option<Ticks>,
}

/// How busy the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Usage {
    /// Of the processors since the last measurement, 0 to 100; 0 at the first.
    pub(crate) cpu_percent: f64,
    /// Of the memory, 0 to 100.
    pub(crate) memory_percent: f64,
}

impl Meter {
    /// Measures. What cannot be read counts as 0.
    pub(crate) fn measure(&mut self) -> Usage {
        let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
        self.measure_texts(&read("/proc/stat"), &read("/proc/meminfo"))
    }

    fn measure_texts(&mut self, stat: &str, meminfo: &str) -> Usage {
        let now = ticks(stat);
        let cpu = match (self.before, now) {
            (Some(before), Some(now)) => busy(before, now),
            _ => 0.0,
        };
        self.before = now;
        Usage {
            cpu_percent: cpu,
            memory_percent: memory(meminfo).unwrap_or(0.0),
        }
    }
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq and steal. Guest
/// time is in user already.
fn ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line
        .split_ascii_whitespace()
        .take(8)
        .map_while(|field| field.parse().ok())
        .collect();
    let idle = fields.get(3)?.saturating_add(*fields.get(4).unwrap_or(&0));
    let total = fields
        .iter()
        .fold(0, |sum: u64, field| sum.saturating_add(*field));
    Some(Ticks { idle, total })
}

fn busy(before: Ticks, now: Ticks) -> f64 {
    let total = now.total.saturating_sub(before.total);
    if total == 0 {
        return 0.0;
    }
    // Idle time goes backwards now and then on some kernels.
    let idle = now.idle.saturating_sub(before.idle).min(total);
    (100.0 * (total - idle) as f64 / total as f64).clamp(0.0, 100.0)
}

fn memory(meminfo: &str) -> Option<f64> {
    let field = |name: &str| -> Option<f64> {
        let rest = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_ascii_whitespace().next()?.parse().ok()
    };
    let total = field("MemTotal:").filter(|total| *total > 0.0)?;
    let available = field("MemAvailable:")?;
    Some((100.0 * (total - available) / total).clamp(0.0, 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:  1000 kB\nMemFree: 10 kB\nMemAvailable:   250 kB\n";

    #[test]
    fn processors_are_measured_between_two_looks() {
        let mut meter = Meter::default();
        let mut look = |stat: &str| meter.measure_texts(stat, MEMINFO).cpu_percent;
        assert_eq!(
            look("cpu  100 0 100 700 100 0 0 0 55 66\ncpu0 1 2 3 4\n"),
            0.0
        );
        // 200 more ticks, 50 of them idle or waiting; guest time does not count twice.
        assert_eq!(look("cpu  200 20 110 730 120 10 5 5 999 999\n"), 75.0);
        assert_eq!(look("cpu  200 20 110 730 120 10 5 5 0 0\n"), 0.0);
        // Counters that went back.
        assert_eq!(look("cpu  1 0 0 0 0 0 0 0\n"), 0.0);
        assert_eq!(look("garbage"), 0.0);
        assert_eq!(look("cpu  x y z\n"), 0.0);
        assert_eq!(look(""), 0.0);
    }

    #[test]
    fn memory_is_what_is_not_available() {
        for (text, percent) in [
            (MEMINFO, 75.0),
            ("MemTotal: 1000 kB\n", 0.0),
            ("MemTotal: 0 kB\nMemAvailable: 0 kB\n", 0.0),
            ("MemTotal: 10 kB\nMemAvailable: 20 kB\n", 0.0),
            ("MemTotal: many\nMemAvailable: 20 kB\n", 0.0),
            ("", 0.0),
        ] {
            assert_eq!(
                Meter::default().measure_texts("", text).memory_percent,
                percent,
                "{text}"
            );
        }
    }
}

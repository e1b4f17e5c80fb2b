//! The kernel log: what the NVIDIA driver prints about GPUs and NVSwitches.

mod parse;
#[cfg(unix)]
mod reader;
#[cfg(unix)]
mod watch;

pub use parse::{BadRecord, Line, Record, parse_message, parse_record};
#[cfg(unix)]
pub use reader::{KernelLogReader, Outcome};
#[cfg(unix)]
pub(crate) use watch::KernelLogWatch;

use std::path::PathBuf;

use navarch_model::Time;

/// Where the kernel log is.
pub const DEFAULT_PATH: &str = "/dev/kmsg";

/// Where to begin in the kernel log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At what comes from now on.
    #[default]
    End,
    /// After the record with this sequence number, remembered from this boot.
    After(u64),
}

/// How to read the kernel log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelLogOptions {
    /// The log: `/dev/kmsg`, or a FIFO or file with records in its format.
    pub path: PathBuf,
    /// Where to begin.
    pub start: Start,
    /// Unix time at which the kernel's clock was zero, to date records by. Without
    /// it records are dated when they are read.
    pub boot_wall: Option<Time>,
}

impl Default for KernelLogOptions {
    fn default() -> Self {
        Self {
            path: DEFAULT_PATH.into(),
            start: Start::End,
            boot_wall: None,
        }
    }
}

impl KernelLogOptions {
    /// `/dev/kmsg` from `start` on, with records dated by the kernel's clock.
    ///
    /// `now` is Unix time now, and `uptime` is what `/proc/uptime` holds now.
    pub fn system(start: Start, now: Time, uptime: &str) -> Self {
        Self {
            start,
            boot_wall: boot_wall(now, uptime),
            ..Self::default()
        }
    }
}

/// Unix time of the boot: `now` less the first number of `/proc/uptime`.
fn boot_wall(now: Time, uptime: &str) -> Option<Time> {
    let seconds: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let up = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    Some(now - up)
}

#[cfg(test)]
mod tests {
    use super::boot_wall;
    use navarch_model::Time;

    #[test]
    fn the_boot_is_uptime_ago() {
        let now = Time(1_700_000_000_000_000);
        let cases = [
            ("100.25 380.1\n", Some(Time(1_699_999_899_750_000))),
            ("0.00 0.00", Some(now)),
            ("", None),
            ("soon", None),
            ("-5 1", None),
            ("inf 1", None),
        ];
        for (text, boot) in cases {
            assert_eq!(boot_wall(now, text), boot, "{text:?}");
        }
    }
}

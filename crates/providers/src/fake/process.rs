//! Operating system processes by pid and start time, so that a reused pid is not mistaken.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use navarch_time::{Clock, timeout};

/// How often a process that is to go is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One process of this boot of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    pid: u32,
    /// When it started, in clock ticks since the system's boot.
    start: u64,
}

/// What a process is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// To end in order.
    Terminate,
    /// To end now.
    Kill,
    /// To stand still.
    Stop,
    /// To go on.
    Continue,
}

impl Identity {
    /// The process that has the pid now. `None` when there is none, or it is a zombie.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let start = start_of(&stat)?;
        Some(Self { pid, start })
    }

    /// Reads what [`save`](Self::save) wrote.
    pub(crate) fn load(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let (pid, start) = text.trim().split_once(' ')?;
        Some(Self {
            pid: pid.parse().ok()?,
            start: start.parse().ok()?,
        })
    }

    /// Writes it to a file, whole or not at all.
    pub(crate) fn save(self, path: &Path) -> std::io::Result<()> {
        let fresh = path.with_extension("new");
        fs::write(&fresh, format!("{} {}\n", self.pid, self.start))?;
        fs::rename(&fresh, path)
    }

    pub(crate) fn pid(self) -> u32 {
        self.pid
    }

    /// Whether it is gone. A zombie is: it holds no file and no connection.
    pub(crate) fn is_gone(self) -> bool {
        Self::of(self.pid) != Some(self)
    }

    /// Signals it and the processes of the group that it leads.
    pub(crate) fn signal(self, signal: Signal) {
        if !self.is_gone() {
            signal_group(self.pid, signal);
        }
    }

    /// Waits until it is gone.
    pub(crate) async fn gone(self, clock: &dyn Clock) {
        while !self.is_gone() {
            clock.sleep(LOOK_EVERY).await;
        }
    }

    /// Gives it `grace` to go by itself, kills it then, and waits until it is gone.
    pub(crate) async fn end(self, clock: &dyn Clock, grace: Duration) {
        if timeout(clock, grace, self.gone(clock)).await.is_ok() {
            return;
        }
        tracing::warn!(
            pid = self.pid,
            ?grace,
            "old agent did not end by itself and was killed"
        );
        self.signal(Signal::Kill);
        self.gone(clock).await;
    }
}

/// The start time in the text of `/proc/<pid>/stat`, unless the process is dead.
fn start_of(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses, and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The running processes that have an argument `<flag>=<path>`, with the path.
pub(crate) fn with_argument(flag: &str) -> Vec<(PathBuf, Identity)> {
    let prefix = format!("{flag}=").into_bytes();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let identity = Identity::of(pid)?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let path = line
            .split(|byte| *byte == 0)
            .find_map(|argument| argument.strip_prefix(prefix.as_slice()))?;
        let path = String::from_utf8_lossy(path).into_owned();
        Some((PathBuf::from(path), identity))
    })
    .collect()
}

/// Signals every process of the group that `pid` leads.
#[cfg(unix)]
pub(crate) fn signal_group(pid: u32, signal: Signal) {
    use rustix::process::{Pid, Signal as System, kill_process_group};
    let system = match signal {
        Signal::Terminate => System::TERM,
        Signal::Kill => System::KILL,
        Signal::Stop => System::STOP,
        Signal::Continue => System::CONT,
    };
    let group = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(group) = group
        && let Err(error) = kill_process_group(group, system)
        && error != rustix::io::Errno::SRCH
    {
        tracing::warn!(pid, ?signal, %error, "cannot signal an agent");
    }
}

/// Signals need Unix; elsewhere an agent ends when its standard input closes.
#[cfg(not(unix))]
pub(crate) fn signal_group(_pid: u32, _signal: Signal) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_times_are_read_past_any_program_name() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        for name in ["sh", "a b", "x) R 1 2", "(((", ""] {
            let stat = format!("42 ({name}) {tail}");
            assert_eq!(start_of(&stat), Some(4711), "{stat}");
        }
        for dead in ["42 (sh) Z 1 2", "", "42 sh S 1", "42 (sh) S 1 2 3"] {
            assert_eq!(start_of(dead), None, "{dead}");
        }
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let me = Identity::of(std::process::id()).expect("this process runs");
        assert!(!me.is_gone());
        let earlier = Identity {
            start: me.start - 1,
            ..me
        };
        assert!(earlier.is_gone());
    }
}

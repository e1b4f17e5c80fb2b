//! The programs under test: started on loopback in a folder of their own, looked at through
//! `/proc`, and ended with the benchmark.

use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use navarch_api::Client;
use navarch_time::{Clock as _, RealClock};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;

use crate::Result;

/// The longest wait for a program to listen, or to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a program is looked at. Short, since some of these waits are measured.
pub const LOOK_EVERY: Duration = Duration::from_millis(1);
/// The token where authentication is on.
pub const TOKEN: &str = "a-token-of-ordinary-length-0123456789";

/// A program from the folder of this one, which cargo builds beside it.
pub fn beside(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.exists() {
        return Ok(path);
    }
    let release = if cfg!(debug_assertions) {
        ""
    } else {
        " --release"
    };
    Err(format!(
        "{} is not there; run `cargo build{release} -p navarch-cli -p navarch-node` first",
        path.display()
    )
    .into())
}

/// A folder that goes when the benchmark ends. It lies beside the build, on the disk of the
/// repository: a folder for temporary files is often in memory, where syncs cost nothing.
pub fn folder() -> Result<TempDir> {
    let exe = std::env::current_exe()?;
    let place = exe.parent().ok_or("this program lies in no folder")?;
    Ok(tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(place)?)
}

/// Restricts what this thread starts from now on, and the thread itself, to one core.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// The cores that this thread may use.
pub fn cores() -> Result<CpuSet> {
    Ok(sched_getaffinity(None)?)
}

/// Lets this thread use these cores again.
pub fn unpin(cores: &CpuSet) -> Result<()> {
    Ok(sched_setaffinity(None, cores)?)
}

/// Lets this program and those that it starts open as many files as the system permits: each
/// connection is one.
pub fn raise_file_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

/// A program that runs. It is ended when this is dropped.
pub struct Program {
    child: Child,
    output: PathBuf,
}

impl Program {
    /// Starts a program whose output goes to the file `NAME.out` in `folder`.
    pub fn start(
        program: &Path,
        folder: &Path,
        name: &str,
        arguments: &[&str],
        token: Option<&str>,
    ) -> Result<Self> {
        let output = folder.join(format!("{name}.out"));
        let file = File::create(&output)?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("NAVARCH_") {
                command.env_remove(name);
            }
        }
        if let Some(token) = token {
            command.env("NAVARCH_AUTH_TOKEN", token);
        }
        let child = command
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        Ok(Self { child, output })
    }

    /// Waits for the line that says where it listens.
    pub async fn listens(&mut self) -> Result<SocketAddr> {
        let (clock, began) = (RealClock::new(), RealClock::new().monotonic());
        loop {
            let said = std::fs::read_to_string(&self.output)?;
            let line = said
                .lines()
                .find_map(|line| line.strip_prefix("Listening on http://"));
            if let (Some(address), true) = (line, said.ends_with('\n')) {
                return Ok(address.trim().parse()?);
            }
            if let Some(ended) = self.ended()? {
                return Err(ended.err().unwrap_or(said).into());
            }
            if clock.monotonic() - began > PATIENCE {
                return Err(format!("it does not listen: {said}").into());
            }
            clock.sleep(LOOK_EVERY).await;
        }
    }

    /// Whether it ended by itself: well, or with what it said.
    pub fn ended(&mut self) -> Result<Option<Result<(), String>>> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(None);
        };
        if status.success() {
            return Ok(Some(Ok(())));
        }
        let said = std::fs::read_to_string(&self.output)?;
        Ok(Some(Err(format!("it ended with {status}: {said}"))))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lines of its log that say that something went wrong.
    pub fn complaints(&self) -> Result<Vec<String>> {
        let said = std::fs::read_to_string(&self.output)?;
        let bad = |line: &&str| line.contains("ERROR") || line.contains("panicked");
        Ok(said.lines().filter(bad).map(str::to_owned).collect())
    }

    /// The CPU time that it used, user and kernel, all threads.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        cpu_of(&stat, rustix::param::clock_ticks_per_second())
            .ok_or_else(|| format!("this is no /proc/PID/stat: {stat}").into())
    }

    /// Its memory.
    pub fn memory(&self) -> Result<Memory> {
        let mut text = String::new();
        for file in ["smaps_rollup", "status"] {
            File::open(format!("/proc/{}/{file}", self.pid()))?.read_to_string(&mut text)?;
        }
        let value = |key: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(key));
            let kilobytes = found.and_then(|rest| rest.trim().strip_suffix(" kB"));
            let number = kilobytes.and_then(|number| number.parse::<u64>().ok());
            number
                .map(|number| number * 1024)
                .ok_or_else(|| format!("/proc/PID tells no {key}"))
        };
        Ok(Memory {
            rss: value("Rss:")?,
            pss: value("Pss:")?,
            anonymous: value("Anonymous:")?,
            peak: value("VmHWM:")?,
        })
    }

    /// Ends it with a signal and waits until it is gone.
    pub fn end(&mut self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid())?;
        kill_process(Pid::from_raw(pid).ok_or("a process without id")?, signal)?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Nothing can be done about a process that cannot be ended; it may be gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The user and kernel time in a line of `/proc/PID/stat`.
fn cpu_of(stat: &str, ticks_per_second: u64) -> Option<Duration> {
    // The name of the program, in brackets, may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_secs(user + kernel) / u32::try_from(ticks_per_second).ok()?)
}

/// What a process takes, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Resident, shared pages included.
    pub rss: u64,
    /// Resident, shared pages counted by their share.
    pub pss: u64,
    /// Without the pages of files.
    pub anonymous: u64,
    /// The most that was resident at once.
    pub peak: u64,
}

/// How the control plane under test is set up. What would act during a measurement by its own
/// timers is set far away, nobody is told to slow down, and a fault that comes again needs no stronger repair. There must be a
/// pool; this one buys nothing, and the machines of the benchmarks belong to none.
const CONFIG: &str = "\
server:
  heartbeat_interval: 30s
  heartbeat_timeout: 30m
  health_check_interval: 30m
  limits: {calls_per_second: 0, node_calls_per_second: 0}
guards:
  repeat_fault_window: 1ms
providers:
  none: {type: fake}
pools:
  none: {provider: none, instance_type: none, min_nodes: 0, max_nodes: 1}
";

/// A control plane: the real program with a store on disk.
pub struct Server {
    // Dropped before the folder that it works in.
    pub program: Program,
    pub address: SocketAddr,
    pub token: Option<&'static str>,
    folder: TempDir,
}

impl Server {
    /// Starts one with an empty store.
    pub async fn start(token: Option<&'static str>) -> Result<Self> {
        let folder = folder()?;
        std::fs::write(folder.path().join("navarch.yaml"), CONFIG)?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut program = Self::launch(&folder, any, token)?;
        let address = program.listens().await?;
        Ok(Self {
            program,
            address,
            token,
            folder,
        })
    }

    fn launch(folder: &TempDir, address: SocketAddr, token: Option<&str>) -> Result<Program> {
        let listen = format!("--listen={address}");
        let arguments = [
            "server",
            "--config=navarch.yaml",
            "--data-dir=data",
            &listen,
        ];
        Program::start(
            &beside("navarch")?,
            folder.path(),
            "server",
            &arguments,
            token,
        )
    }

    /// Starts it again after it ended, at the same address and on the same store.
    pub fn restart(&mut self) -> Result<()> {
        self.program = Self::launch(&self.folder, self.address, self.token)?;
        Ok(())
    }

    /// Where it works.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client of it.
    pub fn client(&self) -> Result<Client> {
        let client = Client::builder(self.url()).token(self.token.map(str::to_owned));
        Ok(client.timeout(PATIENCE).build()?)
    }

    /// Fails if its log tells of an error.
    pub fn must_be_well(&self) -> Result<()> {
        match self.program.complaints()?.as_slice() {
            [] => Ok(()),
            bad => Err(format!("the server's log has {} errors: {}", bad.len(), bad[0]).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_name() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20";
        assert_eq!(cpu_of(stat, 100), Some(Duration::from_secs(2)));
        assert_eq!(cpu_of("12 (a", 100), None);
        assert_eq!(cpu_of("12 (a) S 1", 100), None);
    }
}

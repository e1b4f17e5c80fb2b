//! Real programs for tests: started on free ports, asked like users ask, and ended by their ids.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use navarch_time::{Clock as _, RealClock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpSocket;

/// How long a test waits for what must come. Long, since machines that build are slow; reached
/// only when a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(30);

/// The program under test.
const NAVARCH: &str = env!("CARGO_BIN_EXE_navarch");

/// Measures real time.
pub struct Watch(RealClock, Duration);

impl Watch {
    /// Starts to measure.
    pub fn start() -> Self {
        let clock = RealClock::new();
        let began = clock.monotonic();
        Self(clock, began)
    }

    /// The time since the start.
    pub fn took(&self) -> Duration {
        self.0.monotonic() - self.1
    }
}

/// Looks until something is there. The one place of all tests that sleeps.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let watch = Watch::start();
    loop {
        match look() {
            Ok(found) => return found,
            Err(instead) if watch.took() > PATIENCE => {
                panic!("never within {PATIENCE:?}: {what}; instead: {instead}")
            }
            Err(_) => pause(),
        }
    }
}

/// Lets time pass, for what must *not* happen while it does.
pub fn let_pass(time: Duration) {
    let watch = Watch::start();
    until("time passes", || {
        (watch.took() > time).then_some(()).ok_or_else(String::new)
    });
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests of real processes have to wait for them"
)]
fn pause() {
    std::thread::sleep(LOOK_EVERY);
}

/// Whether a process runs. A zombie does not.
pub fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    })
}

/// Sends a signal to one process.
pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.expect("a process id");
    match kill_process(pid, signal) {
        // One that is gone already needs no signal.
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("cannot signal {pid:?}: {error}"),
    }
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Its data, which must be there.
    #[track_caller]
    pub fn fine(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// Its complaint, with the exit status that was expected.
    #[track_caller]
    pub fn refused(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.out, "", "data beside an error: {self:?}");
        self.err
    }
}

/// The program, without what the environment of the tests says.
fn navarch(directory: &Path) -> Command {
    let mut command = Command::new(NAVARCH);
    command.current_dir(directory).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NAVARCH_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command that ends by itself.
pub fn run(directory: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Said {
    let child = navarch(directory)
        .args(arguments)
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let ended = child.wait_with_output().expect("its output is read");
    Said {
        code: ended.status.code(),
        out: String::from_utf8(ended.stdout).expect("text"),
        err: String::from_utf8(ended.stderr).expect("text"),
    }
}

/// A free address that nobody else is given while this is held, so that a program that ends can
/// start again at it. It is bound and never listens; programs that listen may reuse it.
pub struct Reserved {
    _socket: TcpSocket,
    address: SocketAddr,
}

impl Reserved {
    /// Takes a free port of this machine.
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("it can be shared");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(any).expect("a free port");
        Self {
            address: socket.local_addr().expect("it is bound"),
            _socket: socket,
        }
    }

    /// The flag that makes a program listen here.
    pub fn flag(&self) -> String {
        format!("--listen={}", self.address)
    }
}

/// A program that runs until it is ended, at the latest when this is dropped.
pub struct Program {
    child: Child,
    output: PathBuf,
    pub url: String,
}

impl Program {
    /// Starts a program that says where it listens, and waits until it does.
    pub fn start(directory: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut program = Self::launch(directory, environment, arguments);
        program.until_it_listens();
        program
    }

    /// Waits until it says where it listens.
    pub fn until_it_listens(&mut self) {
        self.url = until("it listens", || self.listens());
    }

    /// Starts a program that must end by itself; answers its exit status and what it said.
    pub fn ends(
        directory: &Path,
        environment: &[(&str, &str)],
        arguments: &[&str],
    ) -> (Option<i32>, String) {
        let mut program = Self::launch(directory, environment, arguments);
        let status = until("it ends", || {
            let ended = program.child.try_wait().expect("it is a child");
            ended.ok_or_else(|| program.output())
        });
        (status.code(), program.output())
    }

    /// Starts a program that says nowhere where it listens.
    pub fn launch(directory: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let name = arguments.first().expect("a command");
        let output = (0..)
            .map(|number| directory.join(format!("{name}-{number}.out")))
            .find(|path| !path.exists())
            .expect("a free name");
        let file = File::create(&output).expect("a file for its output");
        let file_too = file.try_clone().expect("the file is shared");
        let child = navarch(directory)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdout(file)
            .stderr(file_too)
            .spawn()
            .expect("the program starts");
        Self {
            child,
            output,
            url: String::new(),
        }
    }

    fn listens(&mut self) -> Result<String, String> {
        let output = self.output();
        let ended = self.child.try_wait().expect("it is a child");
        assert!(ended.is_none(), "it ended with {ended:?}: {output}");
        let line = output.lines().find(|line| {
            line.starts_with("Listening on ") || line.starts_with("Navarch listens on ")
        });
        let url = line.and_then(|line| line.rsplit(' ').next());
        url.map(str::to_owned).ok_or(output)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it said so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.output).expect("its output")
    }

    /// The address without the scheme.
    pub fn address(&self) -> &str {
        self.url.strip_prefix("http://").expect("the scheme")
    }

    /// Waits until it ends by itself; answers its exit status.
    #[allow(
        clippy::allow_attributes,
        dead_code,
        reason = "each test file uses a part of it"
    )]
    pub fn ended(&mut self) -> Option<i32> {
        let status = until("it ends", || {
            let ended = self.child.try_wait().expect("it is a child");
            ended.ok_or_else(|| self.output())
        });
        status.code()
    }

    /// Ends it as a user does; answers its exit status and how long it took.
    pub fn terminate(&mut self) -> (Option<i32>, Duration) {
        self.end(Signal::TERM)
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    fn end(&mut self, how: Signal) -> (Option<i32>, Duration) {
        let watch = Watch::start();
        signal(self.pid(), how);
        let status = until("it ends", || {
            let ended = self.child.try_wait().expect("it is a child");
            ended.ok_or_else(|| "it runs".to_owned())
        });
        (status.code(), watch.took())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // In order first: a control plane ends the machines that it runs.
        signal(self.pid(), Signal::TERM);
        let watch = Watch::start();
        while matches!(self.child.try_wait(), Ok(None)) {
            if watch.took() > Duration::from_secs(8) {
                drop(self.child.kill());
            }
            pause();
        }
    }
}

/// A control plane with a directory of its own, and what users ask of it.
pub struct Fleet {
    // Dropped first, so that nothing runs when the directory goes.
    pub server: Program,
    arguments: Vec<String>,
    token: Option<&'static str>,
    directory: TempDir,
    _address: Reserved,
}

impl Fleet {
    /// Runs `navarch dev` with more flags.
    pub fn dev(more: &[&str]) -> Self {
        Self::dev_in(directory(), more)
    }

    /// The same in a directory that exists.
    pub fn dev_in(directory: TempDir, more: &[&str]) -> Self {
        let mut arguments = vec!["dev", "--listen=127.0.0.1:0", "--data-dir=data"];
        arguments.extend(more);
        Self::start(directory, &arguments, None)
    }

    /// Runs `navarch server` with this text as its configuration.
    pub fn server(config: &str) -> Self {
        Self::server_in(directory(), config, None)
    }

    /// The same in a directory that exists, with a token.
    pub fn server_in(directory: TempDir, config: &str, token: Option<&'static str>) -> Self {
        std::fs::write(directory.path().join("navarch.yaml"), config).expect("a file");
        let arguments = [
            "server",
            "--config=navarch.yaml",
            "--listen=127.0.0.1:0",
            "--data-dir=data",
        ];
        Self::start(directory, &arguments, token)
    }

    /// Runs `navarch sim interactive` with more arguments, in a directory that exists.
    #[allow(
        clippy::allow_attributes,
        dead_code,
        reason = "each test file uses a part of it"
    )]
    pub fn simulated(directory: TempDir, more: &[&str]) -> Self {
        let mut arguments = vec!["sim", "interactive", "--listen=127.0.0.1:0", "--out=out"];
        arguments.extend(more);
        Self::start(directory, &arguments, None)
    }

    fn start(directory: TempDir, arguments: &[&str], token: Option<&'static str>) -> Self {
        // Agents that outlive it look for it at the same address when it starts again.
        let address = Reserved::new();
        let arguments: Vec<String> = arguments
            .iter()
            .map(|argument| match *argument {
                "--listen=127.0.0.1:0" => address.flag(),
                other => other.to_owned(),
            })
            .collect();
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Self {
            server: Program::start(directory.path(), &access(token), &words),
            arguments,
            token,
            directory,
            _address: address,
        }
    }

    /// Starts it again at the same address, after it ended.
    pub fn restart(&mut self) {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.server = Program::start(self.directory.path(), &access(self.token), &arguments);
    }

    /// Where it was started.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Asks it.
    pub fn ask(&self, arguments: &[&str]) -> Said {
        let mut environment = access(self.token);
        environment.push(("NAVARCH_SERVER", &self.server.url));
        run(self.path(), &environment, arguments)
    }

    /// Asks it for data.
    #[track_caller]
    pub fn data(&self, arguments: &[&str]) -> Value {
        let mut arguments = arguments.to_vec();
        arguments.push("--output=json");
        let text = self.ask(&arguments).fine();
        serde_json::from_str(&text).expect("JSON")
    }

    /// Every node.
    pub fn nodes(&self) -> Vec<Value> {
        list(self.data(&["list"]))
    }

    /// One node.
    pub fn node(&self, id: &str) -> Value {
        self.data(&["get", id])
    }

    /// The ids of the nodes that are ACTIVE, in order, once there are this many.
    pub fn until_active(&self, count: usize) -> Vec<String> {
        until(&format!("{count} nodes are ACTIVE"), || {
            let nodes = self.nodes();
            let mut active: Vec<String> = nodes
                .iter()
                .filter(|node| node["status"] == "NODE_STATUS_ACTIVE")
                .map(|node| text(node, "node_id"))
                .collect();
            active.sort();
            (active.len() == count)
                .then_some(active)
                .ok_or_else(|| format!("{nodes:?}"))
        })
    }

    /// Waits until a node has a status, such as `ACTIVE`.
    pub fn until_status(&self, id: &str, status: &str) -> Value {
        let status = format!("NODE_STATUS_{status}");
        until(&format!("{id} is {status}"), || {
            let node = self.node(id);
            (node["status"] == *status)
                .then(|| node.clone())
                .ok_or_else(|| node.to_string())
        })
    }

    /// The latest events, oldest first.
    pub fn events(&self) -> Vec<Value> {
        list(self.data(&["events", "--limit=1000"]))
    }

    /// The open incidents.
    pub fn open_incidents(&self) -> Vec<Value> {
        list(self.data(&["incident", "list", "--open"]))
    }

    /// The processes of the machines that run, by the files that name them.
    pub fn agents(&self) -> Vec<(PathBuf, u32)> {
        let mut found = Vec::new();
        pid_files(self.path(), &mut found);
        found.retain(|(_, pid)| runs(*pid));
        found.sort();
        found
    }
}

/// The variables that carry a token.
fn access(token: Option<&'static str>) -> Vec<(&'static str, &'static str)> {
    token
        .map(|token| ("NAVARCH_AUTH_TOKEN", token))
        .into_iter()
        .collect()
}

/// A directory that goes when the test ends.
pub fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// The items of a JSON array.
pub fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        other => panic!("no array: {other}"),
    }
}

/// A text of a JSON object.
#[track_caller]
pub fn text(value: &Value, key: &str) -> String {
    let found = value[key].as_str();
    found
        .unwrap_or_else(|| panic!("no text {key}: {value}"))
        .to_owned()
}

/// The processes below a directory that run, by the files that name them.
#[allow(
    clippy::allow_attributes,
    dead_code,
    reason = "each test file uses a part of it"
)]
pub fn pids_below(directory: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    pid_files(directory, &mut found);
    found.retain(|(_, pid)| runs(*pid));
    found
}

fn pid_files(directory: &Path, found: &mut Vec<(PathBuf, u32)>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            pid_files(&path, found);
        } else if entry.file_name() == "pid"
            && let Ok(text) = std::fs::read_to_string(&path)
            && let Some(pid) = text.split(' ').next().and_then(|pid| pid.parse().ok())
        {
            found.push((path, pid));
        }
    }
}

/// Sends bytes to an address and reads all that comes back.
pub fn raw_http(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a limit to wait");
    stream
        .write_all(request.as_bytes())
        .expect("the request is sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status line and headers of an answer, and its body.
pub fn split(answer: &str) -> (&str, &str) {
    answer.split_once("\r\n\r\n").expect("headers and a body")
}

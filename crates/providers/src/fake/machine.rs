//! The life of one machine: an agent process that is started, kept, stopped and waited for.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use navarch_model::ProviderInstanceId;
use navarch_time::{Backoff, CancellationToken, OsRng, SharedClock, timeout};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;

use super::disk::{CloudError, Ledger, private_directory, private_file};
use super::process::{Identity, Signal, signal_group};
use super::wire::LaunchRequest;

/// How long an agent may take to end in order. Higher, and a stop of everything takes longer
/// than people wait; lower, and agents on a busy machine are killed while they save.
const END_GRACE: Duration = Duration::from_secs(2);

/// How long the agent of an earlier life may take to notice that its parent is gone.
const STRAY_GRACE: Duration = Duration::from_secs(4);

/// Waits between the starts of an agent that keeps ending.
const RESTART: Backoff = Backoff {
    initial: Duration::from_millis(250),
    max: Duration::from_secs(10),
    multiplier: 2.0,
    jitter: 0.2,
};

/// An agent that ran this long ended for a new reason.
const RAN_WELL: Duration = Duration::from_secs(30);

/// A log that is longer than this, in bytes, is set aside when its agent starts.
const MAX_LOG_BYTES: u64 = 16 * 1024 * 1024;

/// The flag by which a machine's process is known.
pub(crate) const STATE_FLAG: &str = "--state-dir";

/// The program that machines run, without the flags that differ between machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCommand {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments.
    pub args: Vec<String>,
}

/// The token that machines get, which may be exchanged while the control plane runs.
#[derive(Clone, Default)]
pub struct AgentToken(Arc<RwLock<Option<String>>>);

impl AgentToken {
    /// A token, or none.
    pub fn new(token: Option<String>) -> Self {
        Self(Arc::new(RwLock::new(token)))
    }

    /// The token now.
    pub fn get(&self) -> Option<String> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Gives another one to the agents that start from now on.
    pub fn set(&self, token: Option<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = token;
    }
}

/// How agents reach the control plane where their launch did not say.
#[derive(Clone, Default)]
pub struct AgentAccess {
    /// The control plane's URL.
    pub server: String,
    /// The bearer token for it, as it is when an agent is started.
    pub token: AgentToken,
    /// The certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

impl std::fmt::Debug for AgentAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentAccess")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// The files of one machine.
#[derive(Debug, Clone)]
pub(crate) struct Home(PathBuf);

impl Home {
    pub(crate) fn new(machines: &Path, id: &ProviderInstanceId) -> Self {
        Self(machines.join(id.as_str()))
    }

    /// What the agent keeps: its spool, its boot id, its fake GPUs and their faults.
    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// Where the agent writes the address of its debug API.
    pub(crate) fn debug_address(&self) -> PathBuf {
        self.0.join("debug-address")
    }

    fn pid(&self) -> PathBuf {
        self.0.join("pid")
    }

    fn log(&self) -> PathBuf {
        self.0.join("agent.log")
    }

    /// Removes everything.
    pub(crate) fn remove(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove the files of a machine");
        }
    }
}

/// What a machine is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Run its agent.
    Run,
    /// Stand still.
    Hang,
    /// End, for good.
    End,
}

/// One machine and what its life needs.
pub(crate) struct Machine {
    pub(crate) id: ProviderInstanceId,
    pub(crate) request: LaunchRequest,
    pub(crate) boots: bool,
    pub(crate) home: Home,
    pub(crate) command: AgentCommand,
    pub(crate) access: AgentAccess,
    /// Processes of an earlier life.
    pub(crate) strays: Vec<Identity>,
    pub(crate) goal: watch::Receiver<Goal>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) clock: SharedClock,
    pub(crate) stop: CancellationToken,
}

/// Why a wait ended.
enum Woken {
    Goal,
    Stop,
    Time,
}

impl Machine {
    /// Lives until the machine ended and that is on record, or this process stops.
    pub(crate) async fn live(mut self) {
        self.await_strays().await;
        let mut failures = 0;
        loop {
            let goal = *self.goal.borrow_and_update();
            let starts = self.boots && self.request.agent.is_some();
            match goal {
                _ if self.stop.is_cancelled() => return,
                Goal::End => return self.end().await,
                Goal::Run if starts => {
                    let began = self.clock.monotonic();
                    let Some(outcome) = self.run_agent().await else {
                        continue;
                    };
                    let ran = self.clock.monotonic().saturating_sub(began);
                    failures = if ran >= RAN_WELL { 0 } else { failures };
                    let wait = RESTART.delay(failures, &mut OsRng);
                    failures = failures.saturating_add(1);
                    tracing::warn!(
                        machine = %self.id, instance = %self.request.name, %outcome,
                        log = %self.home.log().display(), restart_in = ?wait,
                        "agent ended by itself"
                    );
                    self.woken(Some(wait)).await;
                }
                Goal::Run | Goal::Hang => {
                    self.woken(None).await;
                }
            }
        }
    }

    /// Waits for the goal to change, the stop, or the time.
    async fn woken(&mut self, limit: Option<Duration>) -> Woken {
        let clock = Arc::clone(&self.clock);
        let time = async {
            match limit {
                Some(limit) => clock.sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Woken::Stop,
            changed = self.goal.changed() => match changed {
                Ok(()) => Woken::Goal,
                // The cloud is gone without a word: stop.
                Err(_) => {
                    self.stop.cancel();
                    Woken::Stop
                }
            },
            () = time => Woken::Time,
        }
    }

    /// Two processes must never be one machine.
    async fn await_strays(&mut self) {
        let mut strays = std::mem::take(&mut self.strays);
        strays.extend(Identity::load(&self.home.pid()));
        for stray in strays {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = stray.end(&*self.clock, STRAY_GRACE) => {}
            }
        }
    }

    /// Starts the agent and stays with it. `None` when it was stopped because the goal changed
    /// or this process stops; else how it ended, or why it did not start.
    async fn run_agent(&mut self) -> Option<String> {
        let (mut child, stdin) = match self.spawn() {
            Ok(spawned) => spawned,
            Err(error) => return Some(error.to_string()),
        };
        let pid = child.id().unwrap_or_default();
        let mut standing = false;
        loop {
            tokio::select! {
                ended = child.wait() => {
                    return Some(match ended {
                        Ok(status) => status.to_string(),
                        Err(error) => error.to_string(),
                    });
                }
                woken = self.woken(None) => {
                    let goal = *self.goal.borrow_and_update();
                    match (woken, goal) {
                        (Woken::Time, _) => {}
                        (Woken::Goal, Goal::Run) => {
                            signal_group(pid, Signal::Continue);
                            standing = false;
                        }
                        (Woken::Goal, Goal::Hang) => {
                            signal_group(pid, Signal::Stop);
                            standing = true;
                        }
                        (Woken::Goal, Goal::End) | (Woken::Stop, _) => break,
                    }
                }
            }
        }
        self.stop_agent(child, stdin, pid, standing).await;
        None
    }

    /// Ends the agent: in order if it can, by force if it must. Returns when it is gone.
    async fn stop_agent(&self, mut child: Child, stdin: ChildStdin, pid: u32, standing: bool) {
        drop(stdin);
        if !standing {
            signal_group(pid, Signal::Terminate);
            if timeout(&*self.clock, END_GRACE, child.wait()).await.is_ok() {
                return;
            }
            tracing::warn!(machine = %self.id, pid, "agent did not end in time and was killed");
        }
        signal_group(pid, Signal::Kill);
        // Where there are no groups, this alone ends it.
        if let Err(error) = child.kill().await {
            tracing::warn!(machine = %self.id, pid, %error, "cannot wait for an agent");
        }
    }

    /// Records the end. The machine counts as ended only once that is durable.
    async fn end(self) {
        let mut failures = 0;
        loop {
            let (id, now) = (self.id.clone(), self.clock.wall());
            let recorded = self
                .ledger
                .run(move |keeper| {
                    keeper.change(|book| {
                        book.ended(&id, now);
                        Ok(())
                    })
                })
                .await;
            let Err(error) = recorded else {
                return;
            };
            let wait = RESTART.delay(failures, &mut OsRng);
            failures = failures.saturating_add(1);
            tracing::warn!(machine = %self.id, %error, retry_in = ?wait, "cannot record an end");
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.clock.sleep(wait) => {}
            }
        }
    }

    fn spawn(&self) -> Result<(Child, ChildStdin), CloudError> {
        private_directory(&self.home.state())?;
        let address = self.home.debug_address();
        match std::fs::remove_file(&address) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(CloudError::io("remove", &address)(error));
            }
            _ => {}
        }
        let log = self.log()?;
        let log_too = log
            .try_clone()
            .map_err(CloudError::io("share", &self.home.log()))?;
        let mut command = self.agent_command();
        command
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(log_too)
            .kill_on_drop(true);
        // A group of its own: a Ctrl-C at the terminal reaches the parent, which ends its
        // machines in order; and when the parent dies, the system wakes those that stand still.
        #[cfg(unix)]
        command.process_group(0);
        let program = &self.command.program;
        let mut child = command.spawn().map_err(CloudError::io("start", program))?;
        let stdin = child.stdin.take().expect("the pipe was asked for");
        if let Some(identity) = child.id().and_then(Identity::of) {
            let path = self.home.pid();
            identity
                .save(&path)
                .map_err(CloudError::io("write", &path))?;
            tracing::info!(machine = %self.id, instance = %self.request.name, pid = identity.pid(), "agent started");
        }
        Ok((child, stdin))
    }

    /// The agent's command line. The token goes through the environment, which other users
    /// cannot read; what this process was told by `NAVARCH_*` is not for the agent.
    fn agent_command(&self) -> Command {
        let mut command = Command::new(&self.command.program);
        command.args(&self.command.args);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("NAVARCH_") {
                command.env_remove(name);
            }
        }
        let Some(agent) = &self.request.agent else {
            return command;
        };
        let own = !agent.server.is_empty();
        let (server, token, ca_file) = if own {
            (&agent.server, agent.token.clone(), &agent.ca_file)
        } else {
            let AgentAccess {
                server,
                token,
                ca_file,
            } = &self.access;
            (server, token.get(), ca_file)
        };
        if let Some(ca_file) = ca_file {
            command.env("NAVARCH_CA_FILE", ca_file);
        }
        if let Some(token) = token {
            command.env("NAVARCH_AUTH_TOKEN", token);
        }
        for (flag, value) in [
            ("--server", server),
            ("--node-id", &agent.instance_id),
            ("--instance-id", &agent.instance_id),
            ("--provider", &agent.provider),
            ("--region", &self.request.region),
            ("--zone", &self.request.zone),
            ("--instance-type", &self.request.instance_type),
            ("--pool", &agent.pool),
            ("--fake-gpus", &self.request.gpus.to_string()),
            ("--debug-listen", &"127.0.0.1:0".to_owned()),
        ] {
            if !value.is_empty() {
                command.arg(format!("{flag}={value}"));
            }
        }
        for (key, value) in &agent.labels {
            command.arg(format!("--label={key}={value}"));
        }
        for (flag, path) in [
            (STATE_FLAG, self.home.state()),
            ("--debug-address-file", self.home.debug_address()),
        ] {
            let mut argument = std::ffi::OsString::from(flag);
            argument.push("=");
            argument.push(path);
            command.arg(argument);
        }
        command.arg("--exit-with-stdin");
        command
    }

    fn log(&self) -> Result<std::fs::File, CloudError> {
        let path = self.home.log();
        let long = std::fs::metadata(&path).is_ok_and(|log| log.len() > MAX_LOG_BYTES);
        if long {
            let aside = path.with_extension("log.1");
            std::fs::rename(&path, &aside).map_err(CloudError::io("rename", &path))?;
        }
        private_file()
            .append(true)
            .open(&path)
            .map_err(CloudError::io("open", &path))
    }
}

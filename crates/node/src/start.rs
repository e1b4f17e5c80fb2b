//! Puts the agent together from its flags, and ends it in order.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use navarch_api::Client;
use navarch_core::agent::SpoolLimits;
use navarch_gpu::fake::{FakeOptions, FakeState};
use navarch_gpu::kmsg::{KernelLogOptions, Start};
use navarch_gpu::nvml::NvmlOptions;
use navarch_gpu::{FakeRequest, Options, select};
use navarch_model::Time;
use navarch_time::{CancellationToken, OsRng, RealClock, SharedClock, Tasks, spawn_thread};
use tokio::sync::mpsc;

use crate::debug::{self, Debug, FAKE_STATE};
use crate::freshness::system_boot_time;
use crate::log::start_logging;
use crate::machine::{Identity, Ids, Sources, kernel_boot_id};
use crate::shell::{KERNEL_LOG, KernelLogPosition, Parts, Shell};
use crate::state::{Found, StateDir};
use crate::worker::{Make, Worker};
use crate::{AgentError, Args};

/// How long everything beside the agent itself may take to end.
const END_LIMIT: Duration = Duration::from_millis(500);

/// Runs the agent until a signal, the end of standard input if asked for, or a command to stop.
///
/// Needs a tokio runtime with time and I/O; one thread suffices. Once it runs, whatever fails is
/// logged and tried again.
///
/// # Errors
///
/// When the agent cannot start: [`AgentError::exit_code`] is what the process returns.
pub async fn run(args: Args) -> Result<(), AgentError> {
    let switches = start_logging(&args.log_level, args.log_format, None)?.follow_signals()?;
    let stop = CancellationToken::new();
    let tasks = Tasks::under(&stop);
    let clock = RealClock::shared();
    let signals = signals(stop.clone())?;
    tasks.spawn("signals", signals);
    let token = tasks.token();
    tasks.spawn("log signals", async move {
        tokio::select! {
            () = token.cancelled() => {}
            () = switches => {}
        }
    });
    if args.exit_with_stdin {
        end_with_stdin(stop.clone())?;
    }
    let result = run_until(&args, &clock, &tasks, stop.clone()).await;
    stop.cancel();
    tasks.shutdown(&*clock, END_LIMIT).await;
    if result.is_ok() {
        tracing::info!("node daemon stopped");
    }
    result
}

async fn run_until(
    args: &Args,
    clock: &SharedClock,
    tasks: &Tasks,
    stop: CancellationToken,
) -> Result<(), AgentError> {
    let client = client(args)?;
    let sources = Sources::default();
    let mut identity = Identity::read(args, sources)?;
    let fake = FakeRequest::read(args.fake_gpus, |name| std::env::var(name).ok())?;
    if fake.is_none() && args.debug_listen.is_some() {
        return Err(AgentError::Usage(
            "--debug-listen needs fake GPUs; give --fake-gpus N too, or leave it out".to_owned(),
        ));
    }
    let mut ids = Ids(Box::new(OsRng));
    let state = args.state_dir.as_deref().map(StateDir::open).transpose()?;
    let state = state.map(Arc::new);
    tracing::info!(
        node_id = %identity.node, control_plane = %client.address(),
        version = env!("CARGO_PKG_VERSION"), "starting Navarch Node Daemon"
    );
    match args.auth_token.reveal() {
        Some(_) => tracing::info!(method = "bearer-token", "authentication enabled"),
        None => tracing::info!("authentication disabled"),
    }
    let kernel_boot = kernel_boot_id(sources);
    let (nudges, nudged) = mpsc::channel(16);
    let make = match fake {
        Some(request) => {
            identity.become_fake(state.as_deref(), &mut ids)?;
            let machine = fake_machine(&identity, &request, state.as_deref(), clock)?;
            let selected = select(Options::Fake(machine))?;
            if let (Some(address), Some(fake)) = (args.debug_listen, selected.fake.clone()) {
                let file = args.debug_address_file.as_deref();
                let listener = debug::listen(address, file).await?;
                let debug = Debug {
                    fake,
                    state: state.clone(),
                    nudges,
                    clock: Arc::clone(clock),
                };
                serve_debug(tasks, listener, debug);
            }
            Box::new(move || selected) as Make
        }
        None => real_gpus(state.as_deref(), clock, &kernel_boot)?,
    };
    let (worker, selected) = Worker::start(make).map_err(AgentError::Thread)?;
    let shell = Shell::new(Parts {
        clock: Arc::clone(clock),
        boot_time: system_boot_time(),
        ids,
        client,
        identity,
        worker,
        selected,
        kernel_boot,
        state,
        spool_limits: SpoolLimits::default(),
        nudges: nudged,
    })?;
    shell.run(stop).await;
    Ok(())
}

fn client(args: &Args) -> Result<Client, AgentError> {
    Client::builder(args.server.as_str())
        .token(args.auth_token.reveal().map(str::to_owned))
        .ca_file(args.ca_file.clone())
        .user_agent(concat!("navarch-node/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| AgentError::Usage(error.to_string()))
}

/// The fake machine as it was, or a new one.
fn fake_machine(
    identity: &Identity,
    request: &FakeRequest,
    state: Option<&StateDir>,
    clock: &SharedClock,
) -> Result<FakeOptions, AgentError> {
    let stored = match state {
        Some(state) => match state.read::<FakeState>(FAKE_STATE)? {
            Found::Value(stored) => Some(stored),
            Found::Nothing | Found::Damaged => None,
        },
        None => None,
    };
    Ok(FakeOptions {
        gpu_count: request.count,
        model: request.model.clone(),
        state: stored,
        ..FakeOptions::new(identity.seed(), Arc::clone(clock))
    })
}

/// Real GPUs, and the kernel log from where an earlier agent of this boot stopped reading.
fn real_gpus(
    state: Option<&StateDir>,
    clock: &SharedClock,
    boot: &str,
) -> Result<Make, AgentError> {
    let start = match state {
        Some(state) => match state.read::<KernelLogPosition>(KERNEL_LOG)? {
            Found::Value(found) if found.boot == boot && !boot.is_empty() => {
                Start::After(found.position)
            }
            _ => Start::End,
        },
        None => Start::End,
    };
    let uptime = std::fs::read_to_string(Path::new("/proc/uptime")).unwrap_or_default();
    let log = KernelLogOptions::system(start, Time(clock.wall()), &uptime);
    let options = NvmlOptions {
        kernel_log: Some(log),
        ..NvmlOptions::new(Arc::clone(clock))
    };
    Ok(Box::new(move || {
        select(Options::Real(options)).expect("only fake GPUs are refused")
    }))
}

fn serve_debug(tasks: &Tasks, listener: tokio::net::TcpListener, debug: Debug) {
    let token = tasks.token();
    let serve =
        axum::serve(listener, debug::routes(debug)).with_graceful_shutdown(token.cancelled_owned());
    tasks.spawn("debug API", async move {
        if let Err(error) = serve.await {
            tracing::warn!(%error, "the debug API ended");
        }
    });
}

/// Cancels the token at SIGINT and SIGTERM.
#[cfg(unix)]
fn signals(stop: CancellationToken) -> Result<impl Future<Output = ()> + Send, AgentError> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(AgentError::Signals);
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = stop.cancelled() => {}
        }
        stop.cancel();
    })
}

/// Cancels the token at Ctrl-C.
#[cfg(not(unix))]
fn signals(stop: CancellationToken) -> Result<impl Future<Output = ()> + Send, AgentError> {
    Ok(async move {
        tokio::select! {
            // Without a handler Ctrl-C ends the process by itself.
            _ = tokio::signal::ctrl_c() => {}
            () = stop.cancelled() => {}
        }
        stop.cancel();
    })
}

/// Cancels the token when standard input ends: the parent is gone, or wants this.
fn end_with_stdin(stop: CancellationToken) -> Result<(), AgentError> {
    let thread = spawn_thread("navarch-stdin", move || {
        let mut input = std::io::stdin().lock();
        let mut ignored = [0; 256];
        loop {
            match input.read(&mut ignored) {
                Ok(0) => break,
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => break,
                Ok(_) | Err(_) => {}
            }
        }
        tracing::info!("standard input ended");
        stop.cancel();
    })
    .map_err(AgentError::Thread)?;
    // Nobody joins it: it may be inside a read when the agent ends for another reason.
    std::mem::forget(thread);
    Ok(())
}

//! `navarch server`, `fake-cloud` and `agent`: the programs of a fleet.

use navarch_config::Config;
use navarch_providers::fake::{AgentCommand, CloudOptions};
use navarch_server::{App, Hangups, Options};
use navarch_time::{CancellationToken, RealClock};
use tokio::net::TcpListener;

use crate::args::{FakeCloud, Global, ServerRun};
use crate::client::Failure;
use crate::logging;
use crate::output::{remark, say};

/// Listens for the signals that tell the process to end: from now on they do not kill it. What is
/// returned completes when one came; until then the log follows its signals. To be called before
/// anything is begun that has to end in order.
///
/// # Errors
///
/// The system does not tell signals.
#[cfg(unix)]
pub fn told_to_end<L: Future<Output = ()>>(
    log: L,
) -> Result<impl Future<Output = ()> + use<L>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Io)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Io)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = log => {}
        }
    })
}

/// Listens for Ctrl-C: from now on it does not kill the process. What is returned completes when it
/// came.
///
/// # Errors
///
/// The system does not tell signals.
#[cfg(windows)]
pub fn told_to_end<L: Future<Output = ()>>(
    log: L,
) -> Result<impl Future<Output = ()> + use<L>, Failure> {
    drop(log);
    let mut interrupt = tokio::signal::windows::ctrl_c().map_err(Failure::Io)?;
    Ok(async move {
        interrupt.recv().await;
    })
}

/// The program that machines of a fake cloud run: this one, as an agent that logs alike.
pub fn own_agent(global: &Global) -> Result<AgentCommand, Failure> {
    let program = std::env::current_exe().map_err(Failure::Io)?;
    Ok(AgentCommand {
        program,
        args: vec![
            "agent".to_owned(),
            format!("--log-level={}", global.log_level.as_str()),
            format!("--log-format={}", global.log_format.word()),
        ],
    })
}

/// Runs a control plane until it is told to end, or a part of it broke.
pub async fn until_told(app: App, told: impl Future<Output = ()>) -> Result<(), Failure> {
    let broken = tokio::select! {
        () = told => None,
        failure = app.failed() => Some(failure),
    };
    tracing::info!("received shutdown signal");
    app.stop().await;
    match broken {
        None => Ok(()),
        Some(failure) => Err(Failure::Said(format!("the control plane broke: {failure}"))),
    }
}

/// Takes as many open files as the system lets the process have: each agent and each watch is a
/// connection, and what a shell gives by default is soon used up.
#[cfg(unix)]
fn take_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let most = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, most) {
        Ok(()) => tracing::debug!(files = ?limit.maximum, "took all open files that are allowed"),
        Err(error) => tracing::warn!(
            %error,
            files = ?limit.current,
            "cannot raise the limit of open files: raise it before the start"
        ),
    }
}

/// `navarch server`.
pub async fn server(global: &Global, asked: ServerRun) -> Result<(), Failure> {
    let told = told_to_end(logging::start(global, None)?)?;
    let hangups = Hangups::listen();
    #[cfg(unix)]
    take_open_files();
    let (mut config, warnings) =
        Config::load(&asked.config).map_err(|errors| Failure::Said(format!("{errors:#}")))?;
    for warning in warnings {
        remark(&format!("Warning: {warning}"));
    }
    if let Some(listen) = asked.listen {
        config.server.address = listen;
    }
    if let Some(data_dir) = asked.data_dir {
        config.store.data_dir = data_dir;
    }
    tracing::info!(
        addr = config.server.address,
        "starting Navarch Control Plane"
    );
    let app = App::start(Options {
        config,
        config_file: Some(asked.config),
        agent: own_agent(global)?,
        insecure_no_auth: asked.insecure_no_auth,
        clock: RealClock::shared(),
        hangups,
    })
    .await
    .map_err(|error| Failure::Said(error.to_string()))?;
    say(&format!("Listening on {}", app.url()));
    until_told(app, told).await
}

/// `navarch fake-cloud`.
pub async fn fake_cloud(global: &Global, asked: FakeCloud) -> Result<(), Failure> {
    let told = told_to_end(logging::start(global, None)?)?;
    let listener = TcpListener::bind(&asked.listen).await.map_err(|error| {
        let problem = if error.kind() == std::io::ErrorKind::AddrInUse {
            "the port is in use; stop what listens there, or choose another with --listen"
                .to_owned()
        } else {
            error.to_string()
        };
        Failure::Said(format!("cannot listen on {}: {problem}", asked.listen))
    })?;
    let address = listener.local_addr().map_err(Failure::Io)?;
    let loopback = navarch_providers::fake::loopback(&listener);
    loopback.map_err(|error| Failure::Said(error.to_string()))?;
    let stop = CancellationToken::new();
    let options = CloudOptions::new(asked.data_dir, own_agent(global)?);
    let serving = navarch_providers::fake::serve(listener, options, stop.clone());
    let mut serving = std::pin::pin!(serving);
    say(&format!("Listening on http://{address}"));
    tokio::select! {
        ended = serving.as_mut() => {
            return ended.map_err(|error| Failure::Said(error.to_string()));
        }
        () = told => {}
    }
    stop.cancel();
    serving
        .await
        .map_err(|error| Failure::Said(error.to_string()))
}

/// `navarch agent`.
pub async fn agent(args: navarch_node::Args) -> Result<(), Failure> {
    navarch_node::run(args)
        .await
        .map_err(|error| match error.exit_code() {
            2 => Failure::Usage(error.to_string()),
            _ => Failure::Said(error.to_string()),
        })
}

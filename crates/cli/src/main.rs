//! The `navarch` command: operators' commands, and every program of Navarch in one binary.

mod args;
mod client;
mod commands;
#[cfg(test)]
mod golden;
mod logging;
mod output;
mod values;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Cli, Command, ServerOrder};
use client::Failure;

/// The exit status for words that make no command, as the parser of flags uses it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // The agent has flags of its own, some under the names of operators' flags.
    let agent = std::env::args_os()
        .nth(1)
        .is_some_and(|command| command == "agent");
    let result = if agent {
        let mut args = navarch_node::with_double_dashes(std::env::args_os().skip(1));
        // What its usage shows.
        args[0] = "navarch agent".into();
        block_on(
            Threads::One,
            commands::serve::agent(args::Agent::parse_from(args).args),
        )
    } else {
        run(Cli::parse())
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Quiet) => ExitCode::FAILURE,
        Err(failure) => {
            output::complain(&failure);
            match failure {
                Failure::Usage(_) => ExitCode::from(USAGE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// A runtime of as many threads as the command needs.
fn block_on<T>(
    threads: Threads,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut builder = match threads {
        Threads::One => tokio::runtime::Builder::new_current_thread(),
        Threads::Cores => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build().map_err(Failure::Io)?;
    runtime.block_on(work)
}

enum Threads {
    One,
    Cores,
}

fn run(cli: Cli) -> Result<(), Failure> {
    let global = cli.global;
    match cli.command {
        Command::Dev(dev) => match dev.order {
            None => {
                output::people_only(global.output, "dev")?;
                block_on(Threads::Cores, commands::dev::run(&global, dev.run))
            }
            Some(order) => block_on(Threads::One, commands::dev::order(&global, order)),
        },
        Command::Server(server) => match (server.order, server.run) {
            (Some(ServerOrder::Backup(asked)), _) => commands::copies::backup(&global, &asked),
            (Some(ServerOrder::Restore(asked)), _) => commands::copies::restore(&global, &asked),
            (None, Some(run)) => {
                output::people_only(global.output, "server")?;
                block_on(Threads::Cores, commands::serve::server(&global, run))
            }
            (None, None) => Err(Failure::Usage(
                "navarch server needs --config FILE; to copy its data, see `navarch server --help`"
                    .to_owned(),
            )),
        },
        Command::FakeCloud(cloud) => {
            output::people_only(global.output, "fake-cloud")?;
            block_on(Threads::Cores, commands::serve::fake_cloud(&global, cloud))
        }
        // Only reached with flags before the word `agent`.
        Command::Agent => Err(Failure::Usage(
            "give the agent's flags after `navarch agent`".to_owned(),
        )),
        Command::List(list) => block_on(Threads::One, commands::nodes::list(&global, list)),
        Command::Get { node } => block_on(Threads::One, commands::nodes::get(&global, &node)),
        Command::Cordon(order) => block_on(
            Threads::One,
            commands::nodes::command(&global, commands::nodes::CORDON, order),
        ),
        Command::Drain(order) => block_on(
            Threads::One,
            commands::nodes::command(&global, commands::nodes::DRAIN, order),
        ),
        Command::Uncordon(order) => block_on(
            Threads::One,
            commands::nodes::command(&global, commands::nodes::UNCORDON, order),
        ),
        Command::Terminate(order) => block_on(
            Threads::One,
            commands::nodes::command(&global, commands::nodes::TERMINATE, order),
        ),
        Command::Hold(order) => block_on(Threads::One, commands::holds::run(&global, order)),
        Command::Instance(order) => {
            block_on(Threads::One, commands::instances::run(&global, order))
        }
        Command::Incident(order) => {
            block_on(Threads::One, commands::incidents::run(&global, order))
        }
        Command::Events(events) => block_on(Threads::One, commands::events::run(&global, events)),
        Command::Explain(order) => block_on(Threads::One, commands::explain::run(&global, order)),
        Command::Pool(order) => block_on(Threads::One, commands::pools::run(&global, order)),
        Command::Metrics(asked) => block_on(Threads::One, commands::metrics::run(&global, asked)),
        Command::Automation(order) => {
            block_on(Threads::One, commands::pools::automation(&global, order))
        }
        Command::Breaker(order) => block_on(Threads::One, commands::pools::breaker(&global, order)),
        Command::Node(order) => block_on(Threads::One, commands::node::run(&global, order)),
        Command::Policy(order) => block_on(Threads::One, commands::policy::run(&global, order)),
        Command::Config(args::Config::Check { file }) => commands::config::check(&global, &file),
        Command::Config(args::Config::Show { file: Some(file) }) => {
            commands::config::show(&global, &file)
        }
        Command::Config(args::Config::Show { file: None }) => {
            block_on(Threads::One, commands::config::show_server(&global))
        }
        Command::Config(args::Config::Schema) => {
            commands::config::schema(&global, &navarch_config::schema::json_schema())
        }
        Command::Sim(order) => block_on(
            Threads::Cores,
            commands::sim::run(&global, order, std::future::pending()),
        ),
        Command::Completion { shell } => {
            output::people_only(global.output, "completion")?;
            // Through a buffer: a reader that went away, such as `head`, is no error.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "navarch", &mut script);
            output::say(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
        Command::Version => version(&global),
    }
}

fn version(global: &args::Global) -> Result<(), Failure> {
    let (number, commit) = (
        env!("CARGO_PKG_VERSION"),
        option_env!("NAVARCH_COMMIT").unwrap_or("unknown"),
    );
    let (system, machine) = (std::env::consts::OS, std::env::consts::ARCH);
    let shown = serde_json::json!({
        "version": number,
        "commit": commit,
        "platform": format!("{system}/{machine}"),
    });
    if !output::for_programs(global.output, &shown)? {
        output::say(&format!(
            "navarch version {number}\n  commit:     {commit}\n  platform:   {system}/{machine}"
        ));
    }
    Ok(())
}

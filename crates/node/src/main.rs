//! The agent as a program of its own: `navarch-node`.

use std::process::ExitCode;

use clap::Parser;

/// The agent of one GPU machine: reports its health to the control plane.
#[derive(Debug, Parser)]
#[command(name = "navarch-node", version)]
struct Cli {
    #[command(flatten)]
    args: navarch_node::Args,
}

fn main() -> ExitCode {
    let cli = Cli::parse_from(navarch_node::with_double_dashes(std::env::args_os()));
    let fail = |error: &dyn std::fmt::Display, code: u8| {
        use std::io::Write;
        // Nobody is left to tell when standard error is gone.
        let _unheard = writeln!(std::io::stderr(), "Error: {error}");
        ExitCode::from(code)
    };
    // One thread serves: the agent must cost its machine nothing.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 1),
    };
    match runtime.block_on(navarch_node::run(cli.args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, error.exit_code()),
    }
}

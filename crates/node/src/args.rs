//! The agent's flags.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::LogFilter;

/// The agent's flags, for `navarch-node` and `navarch agent` alike.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The control plane to report to
    #[arg(long, value_name = "URL", default_value = "http://localhost:50051")]
    pub server: String,

    /// The node's id [default: the host name]
    #[arg(long, value_name = "ID")]
    pub node_id: Option<String>,

    /// The control plane's id of the instance that this machine was bought as
    #[arg(long, value_name = "ID")]
    pub instance_id: Option<String>,

    /// The cloud that the machine comes from
    #[arg(long, value_name = "NAME", default_value = "gcp")]
    pub provider: String,

    /// The region that the machine is in
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub region: String,

    /// The zone that the machine is in
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub zone: String,

    /// The machine's type in the words of its cloud
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub instance_type: String,

    /// The pool that the machine belongs to; sets the label "pool"
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub pool: String,

    /// A label of the node; may be given more than once
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<Label>,

    /// The token for the control plane; the environment variable keeps it out of process lists
    #[arg(
        long,
        value_name = "TOKEN",
        env = "NAVARCH_AUTH_TOKEN",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true
    )]
    pub auth_token: Secret,

    /// The certificate authorities to trust, in PEM, instead of the system's
    #[arg(long, value_name = "FILE", env = "NAVARCH_CA_FILE")]
    pub ca_file: Option<PathBuf>,

    /// Where to keep unsent events and finished commands over restarts
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Play a machine with this many GPUs instead of reading real ones (also
    /// NAVARCH_FAKE_GPU=true, with NAVARCH_GPU_COUNT and NAVARCH_GPU_TYPE)
    #[arg(long, value_name = "N")]
    pub fake_gpus: Option<u32>,

    /// Serve the debug API on this loopback address; fake GPUs only
    #[arg(long, value_name = "IP:PORT")]
    pub debug_listen: Option<SocketAddr>,

    /// Write the address of the debug API to this file
    #[arg(long, value_name = "FILE", requires = "debug_listen")]
    pub debug_address_file: Option<PathBuf>,

    /// End when standard input does
    #[arg(long)]
    pub exit_with_stdin: bool,

    /// What to log: error, warn, info, debug, trace, off, or TARGET=LEVEL pairs with commas
    /// between. While the agent runs, SIGUSR1 switches between this and debug
    #[arg(
        long,
        value_name = "LEVEL",
        env = "NAVARCH_LOG_LEVEL",
        default_value = "info"
    )]
    pub log_level: LogFilter,

    /// How to write the log. While the agent runs, SIGUSR2 switches it
    #[arg(long, value_name = "FORMAT", env = "NAVARCH_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// The word that `--log-format` takes.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// One label of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err("write it as KEY=VALUE".to_owned()),
        }
    }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// The text, if it is not empty.
    pub fn reveal(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|text| !text.is_empty())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "hidden" })
    }
}

/// The arguments with `-name` written as `--name`: the Go project's flags have one dash or two.
/// Single letters such as `-h` stay.
pub fn with_double_dashes(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut rest_is_plain = false;
    args.into_iter()
        .map(|arg| {
            rest_is_plain |= arg == OsStr::new("--");
            let is_long = arg.to_str().is_some_and(|text| {
                let name = text.strip_prefix('-').unwrap_or_default();
                let name = name.split('=').next().unwrap_or_default();
                name.len() > 1 && name.starts_with(|c: char| c.is_ascii_lowercase())
            });
            if rest_is_plain || !is_long {
                return arg;
            }
            let mut long = OsString::from("-");
            long.push(arg);
            long
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, String> {
        let words = std::iter::once("navarch-node").chain(line.split_whitespace());
        Cli::try_parse_from(with_double_dashes(words.map(OsString::from)))
            .map(|cli| cli.args)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn flags_of_the_reference_have_one_dash_or_two() {
        for line in [
            "-server http://cp:1 -node-id n1 -provider lambda -region us -zone a -instance-type t -pool p -auth-token s3cret",
            "--server=http://cp:1 --node-id=n1 --provider=lambda --region=us --zone=a --instance-type=t --pool=p --auth-token=s3cret",
            "-server=http://cp:1 -node-id=n1 -provider=lambda -region=us -zone=a -instance-type=t -pool=p -auth-token=s3cret",
        ] {
            let args = parse(line).expect(line);
            assert_eq!(args.server, "http://cp:1");
            assert_eq!(args.node_id.as_deref(), Some("n1"));
            assert_eq!(
                [
                    args.provider,
                    args.region,
                    args.zone,
                    args.instance_type,
                    args.pool
                ],
                ["lambda", "us", "a", "t", "p"]
            );
            assert_eq!(args.auth_token.reveal(), Some("s3cret"));
        }
        let args = parse("").expect("every flag has a default");
        assert_eq!(args.server, "http://localhost:50051");
        assert_eq!(args.provider, "gcp");
    }

    #[test]
    fn the_token_is_never_shown() {
        let args = parse("--auth-token=s3cret").expect("it parses");
        assert!(!format!("{args:?}").contains("s3cret"));
    }

    #[test]
    fn bad_flags_are_refused_by_name() {
        for (line, part) in [
            ("--label=x", "write it as KEY=VALUE"),
            ("--label==x", "write it as KEY=VALUE"),
            ("--fake-gpus=many", "--fake-gpus"),
            ("--fake-gpus=-1", "--fake-gpus"),
            ("--debug-listen=localhost", "--debug-listen"),
            ("--debug-address-file=f", "--debug-listen"),
            ("--log-format=xml", "possible values: text, json"),
            ("--nodeid=x", "--node-id"),
            ("surplus", "surplus"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn only_long_names_get_a_second_dash() {
        let words = [
            "x", "-h", "-server", "-", "--pool", "-5", "-V=1", "--", "-server",
        ];
        let made = with_double_dashes(words.map(OsString::from));
        assert_eq!(
            made,
            [
                "x", "-h", "--server", "-", "--pool", "-5", "-V=1", "--", "-server"
            ]
        );
    }
}

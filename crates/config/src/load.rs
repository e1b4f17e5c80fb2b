//! From a file to a [`Config`]: reading, the top level, and what sections share.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use crate::config::Config;
use crate::error::{ConfigErrors, Log, Position, Warning};
use crate::expand::{Environment, expand};
use crate::fields::Fields;
use crate::{schema, tree};

mod autoscaling;
mod fleet;
mod guards;
mod notifier;
mod placement;
mod server;
mod windows;

/// The largest number of nodes that any key takes: ten times the fleet that the design aims at.
const MOST_NODES: u32 = 1_000_000;

/// The shortest wait that may double; a wait of zero would never grow.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

impl Config {
    /// Reads a configuration file, with the variables of the process. The path stands in messages as
    /// it is given.
    ///
    /// # Errors
    ///
    /// Fails with all problems found, in the order of the file.
    pub fn load(path: &Path) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        let name = path.display().to_string();
        let unreadable = |message: String| ConfigErrors::one(&name, None, message);
        let open = || -> std::io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            File::open(path)?
                .take(tree::MAX_FILE_BYTES as u64 + 1)
                .read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = open().map_err(|error| {
            unreadable(format!(
                "cannot read the configuration: {error}; check the path and its permissions"
            ))
        })?;
        Self::parse_bytes(&name, &bytes, &|name| std::env::var_os(name))
    }

    /// Reads a configuration from a text, without any variable; `name` stands in messages as the
    /// file.
    ///
    /// # Errors
    ///
    /// Fails with all problems found, in the order of the text.
    pub fn parse(name: &str, text: &str) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        Self::parse_with(name, text, &|_| None)
    }

    /// The same with these variables.
    ///
    /// # Errors
    ///
    /// Fails with all problems found, in the order of the text.
    pub fn parse_with(
        name: &str,
        text: &str,
        environment: &Environment<'_>,
    ) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        Self::parse_bytes(name, text.as_bytes(), environment)
    }

    fn parse_bytes(
        name: &str,
        bytes: &[u8],
        environment: &Environment<'_>,
    ) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        let refused = |position, message| Err(ConfigErrors::one(name, Some(position), message));
        if bytes.len() > tree::MAX_FILE_BYTES {
            return refused(
                Position::START,
                format!(
                    "the file is larger than {} bytes: is it a configuration?",
                    tree::MAX_FILE_BYTES
                ),
            );
        }
        let text = match str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let sound = str::from_utf8(&bytes[..error.valid_up_to()])
                    .expect("the error says how far the text is sound");
                return refused(
                    tree::position_of(sound, sound.len()),
                    "not UTF-8: save the file as UTF-8 text".to_owned(),
                );
            }
        };
        let log = Log::new(name);
        let config = tree::parse(&log, text).map(|mut root| {
            expand(&log, &mut root, "", environment);
            top_level(&log, &root)
        });
        log.finish(config.unwrap_or_default(), text)
    }
}

fn top_level(log: &Log, root: &tree::Node) -> Config {
    let at = Position::START;
    let fields = Fields::new(log, &schema::ROOT, String::new(), at, Some(root));
    let server = server::server(&fields.section("server"));
    let guards = guards::guards(&fields.section("guards"), server.heartbeat_timeout);
    let (providers, pools) = fleet::fleet(&fields, &guards, server.heartbeat_timeout);
    Config {
        server,
        store: server::store(&fields.section("store")),
        instance_manager: server::instance_manager(&fields.section("instance_manager")),
        planner: server::planner(&fields.section("planner")),
        guards,
        providers,
        pools,
    }
}

/// Checks `host:port`, the form of listen addresses.
fn check_address(text: &str) -> Result<(), String> {
    if text.contains("://") {
        return Err("a listen address has no scheme: write host:port".to_owned());
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("the port is missing: write host:port, for example :50051".to_owned());
    };
    check_port(port)?;
    check_host(host, true)
}

/// Checks an `http` or `https` URL without user, query or fragment.
fn check_url(text: &str) -> Result<(), String> {
    let Some(rest) = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
    else {
        return Err(format!(
            "the scheme is missing: begin with http:// or https://, for example http://{}",
            text.rsplit_once("://").map_or(text, |(_, rest)| rest)
        ));
    };
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err("a secret does not belong in this file: remove the user and password".into());
    }
    if text.contains(['?', '#']) || text.contains(char::is_whitespace) {
        return Err("a base URL has no query, fragment or space: remove them".to_owned());
    }
    let bracketed = authority.ends_with(']');
    match authority.rsplit_once(':') {
        Some((host, port)) if !bracketed => {
            check_port(port)?;
            check_host(host, false)
        }
        _ => check_host(authority, false),
    }
}

fn check_port(port: &str) -> Result<(), String> {
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if digits && port.parse::<u16>().is_ok() {
        Ok(())
    } else {
        Err(format!(
            "{} is not a port: use a number from 0 to 65535",
            tree::quoted(port)
        ))
    }
}

fn check_host(host: &str, may_be_empty: bool) -> Result<(), String> {
    if host.is_empty() {
        return if may_be_empty {
            Ok(())
        } else {
            Err("the host is missing".to_owned())
        };
    }
    if let Some(inner) = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        return match inner.parse::<std::net::Ipv6Addr>() {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("{} is not an IPv6 address", tree::quoted(inner))),
        };
    }
    if host.contains(':') {
        return Err("write an IPv6 address in brackets, for example [::1]:50051".to_owned());
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if host.chars().all(legal) {
        Ok(())
    } else {
        Err(format!("{} is not a host name", tree::quoted(host)))
    }
}

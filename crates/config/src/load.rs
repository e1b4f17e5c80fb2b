//! From a file to a [`Config`]: reading, the top level, and what sections share.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use crate::config::{Config, ServerConfig, StoreConfig};
use crate::error::{ConfigErrors, Log, Position, Warning};
use crate::expand::{Environment, expand};
use crate::fields::Fields;
use crate::schema::Document;
use crate::{schema, tree};

mod autoscaling;
mod fleet;
mod guards;
mod notifier;
mod placement;
mod scenario;
mod server;
mod urls;
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
        let (name, bytes) = read(path, Document::Configuration)?;
        let text = text_of(&name, &bytes, Document::Configuration)?;
        Self::parse_with(&name, text, &|name| std::env::var_os(name))
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
        let text = text_of(name, text.as_bytes(), Document::Configuration)?;
        let log = Log::new(name, Document::Configuration);
        let config = tree::parse(&log, text).map(|mut root| {
            expand(&log, &mut root, "", environment);
            let at = Position::START;
            let fields = Fields::new(&log, &schema::ROOT, String::new(), at, Some(&root));
            let store = server::store(&fields.section("store"));
            Config {
                store,
                ..control_plane(&fields, ServerConfig::default())
            }
        });
        log.finish(config.unwrap_or_default(), text)
    }
}

/// Reads a file; its name as messages have it, and what is in it.
fn read(path: &Path, document: Document) -> Result<(String, Vec<u8>), ConfigErrors> {
    let name = path.display().to_string();
    let open = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(document.max_bytes() as u64 + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match open() {
        Ok(bytes) => Ok((name, bytes)),
        Err(error) => {
            let noun = document.noun();
            let message =
                format!("cannot read the {noun}: {error}; check the path and its permissions");
            Err(ConfigErrors::one(&name, None, message))
        }
    }
}

/// The text of a file that is not too large.
fn text_of<'b>(name: &str, bytes: &'b [u8], document: Document) -> Result<&'b str, ConfigErrors> {
    let refused = |position, message| Err(ConfigErrors::one(name, Some(position), message));
    if bytes.len() > document.max_bytes() {
        return refused(
            Position::START,
            format!(
                "the file is larger than {} bytes: is it a {}?",
                document.max_bytes(),
                document.noun()
            ),
        );
    }
    match str::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            let sound = str::from_utf8(&bytes[..error.valid_up_to()])
                .expect("the error says how far the text is sound");
            refused(
                tree::position_of(sound, sound.len()),
                "not UTF-8: save the file as UTF-8 text".to_owned(),
            )
        }
    }
}

/// The sections that a configuration and a scenario share; the store is as it is by default.
fn control_plane(fields: &Fields<'_>, default: ServerConfig) -> Config {
    let server = server::server(&fields.section("server"), default);
    let guards = guards::guards(&fields.section("guards"), server.heartbeat_timeout);
    let (providers, pools) = fleet::fleet(fields, &guards, server.heartbeat_timeout);
    Config {
        server,
        store: StoreConfig::default(),
        instance_manager: server::instance_manager(&fields.section("instance_manager"), &guards),
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

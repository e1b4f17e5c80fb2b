//! `navarch server backup` and `navarch server restore`: copies of a data directory.

use std::path::{Path, PathBuf};

use navarch_config::Config;
use navarch_model::Time;
use navarch_store::{Copied, SqliteStore};
use navarch_time::{Clock as _, RealClock};
use serde_json::json;

use crate::args::{Copies, Global};
use crate::client::Failure;
use crate::output::{for_programs, remark, say};

/// `navarch server backup`.
pub fn backup(global: &Global, asked: &Copies) -> Result<(), Failure> {
    let directory = data_dir(asked)?;
    let copied = SqliteStore::backup(&directory, &asked.file).map_err(said)?;
    tell(global, &copied, &format!("Wrote {}", asked.file.display()))
}

/// `navarch server restore`.
pub fn restore(global: &Global, asked: &Copies) -> Result<(), Failure> {
    let directory = data_dir(asked)?;
    let now = Time(RealClock::shared().wall());
    let copied = SqliteStore::restore(&asked.file, &directory, now).map_err(said)?;
    tell(
        global,
        &copied,
        &format!("Restored {}", directory.display()),
    )?;
    remark(
        "Automation is off: machines that came or went since the copy was made are unknown to it.\n\
         Start the server, compare `navarch instance list` and the events with the cloud, then run \
         `navarch automation on`.",
    );
    Ok(())
}

fn data_dir(asked: &Copies) -> Result<PathBuf, Failure> {
    match (&asked.data_dir, &asked.config) {
        (Some(directory), _) => Ok(directory.clone()),
        (None, Some(file)) => {
            let (config, _) =
                Config::load(file).map_err(|errors| Failure::Said(errors.to_string()))?;
            Ok(config.store.data_dir)
        }
        (None, None) => Ok(Path::new("navarch-data").to_owned()),
    }
}

fn said(error: navarch_store::StoreError) -> Failure {
    Failure::Said(error.to_string())
}

fn tell(global: &Global, copied: &Copied, done: &str) -> Result<(), Failure> {
    let value = json!({
        "fleet": copied.fleet.as_str(),
        "nodes": copied.nodes,
        "instances": copied.instances,
        "events": copied.events,
        "bytes": copied.bytes,
    });
    if !for_programs(global.output, &value)? {
        let Copied {
            fleet,
            nodes,
            instances,
            events,
            bytes,
        } = copied;
        say(&format!(
            "{done}: {fleet}, {nodes} nodes, {instances} instances, {events} events, {bytes} bytes; \
             every page checked, every record read back"
        ));
    }
    Ok(())
}

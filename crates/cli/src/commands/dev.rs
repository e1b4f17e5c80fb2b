//! `navarch dev`: a whole fleet on this machine, and faults to order in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use navarch_api::{convert, v1};
use navarch_config::Config;
use navarch_model::EventKind;
use navarch_server::handlers::Handlers;
use navarch_server::{App, Options};
use navarch_store::EventQuery;
use navarch_time::{CancellationToken, RealClock, Tasks};

use super::serve::{own_agent, until_told};
use crate::args::{DevOrder, DevRun, Global, Inject};
use crate::client::{Doing as _, Failure, connect, suggest};
use crate::logging;
use crate::output::{remark, say};

/// Where a client looks without being told.
const DEFAULT_ADDRESS: &str = "127.0.0.1:50051";

/// `navarch dev`.
pub async fn run(global: &Global, asked: DevRun) -> Result<(), Failure> {
    std::fs::create_dir_all(&asked.data_dir).map_err(|error| {
        Failure::Said(format!(
            "cannot make the data directory {}: {error}; choose another with --data-dir",
            asked.data_dir.display()
        ))
    })?;
    let log = asked.data_dir.join("server.log");
    logging::start(global, Some(&log))?;
    let file = match asked.config {
        Some(file) => file,
        None => write_config(&asked.data_dir, asked.nodes)?,
    };
    let (mut config, warnings) =
        Config::load(&file).map_err(|errors| Failure::Said(errors.to_string()))?;
    for warning in warnings {
        remark(&format!("Warning: {warning}"));
    }
    config.server.address = asked.listen;
    config.store.data_dir.clone_from(&asked.data_dir);
    let app = App::start(Options {
        config,
        config_file: Some(file.clone()),
        agent: own_agent()?,
        insecure_no_auth: false,
        clock: RealClock::shared(),
    })
    .await
    .map_err(|error| Failure::Said(error.to_string()))?;
    say(&welcome(&app.url(), &file, &log));
    let story = Tasks::new();
    story.spawn("story", tell(Arc::clone(app.handlers()), story.token()));
    until_told(app).await?;
    story.shutdown(&RealClock::new(), Duration::ZERO).await;
    say("Stopped. The next start brings back the same fleet.");
    Ok(())
}

/// What is worth a line while somebody watches the first terminal.
const STORY: [EventKind; 6] = [
    EventKind::NodeStatus,
    EventKind::IncidentOpened,
    EventKind::IncidentClosed,
    EventKind::DrainStarted,
    EventKind::InstancePhase,
    EventKind::AutomationChanged,
];

/// Prints what happens, as it is committed.
async fn tell(handlers: Arc<Handlers>, closing: CancellationToken) {
    let mut news = handlers.published.events();
    let mut after = *news.borrow_and_update();
    loop {
        tokio::select! {
            () = closing.cancelled() => return,
            changed = news.changed() => if changed.is_err() { return },
        }
        let query = EventQuery {
            kinds: STORY.into_iter().collect(),
            ..EventQuery::following(after)
        };
        // What cannot be read is in the log; the story goes on with the next event.
        let Ok(events) = handlers.history.events(&query) else {
            continue;
        };
        for event in events {
            after = event.sequence;
            say(&super::events::line(&convert::event(&event)));
        }
    }
}

fn write_config(data_dir: &Path, nodes: Option<u32>) -> Result<PathBuf, Failure> {
    let file = data_dir.join("dev.yaml");
    std::fs::write(&file, Config::dev(nodes))
        .map_err(|error| Failure::File(file.clone(), error))?;
    Ok(file)
}

/// What a new user reads first.
fn welcome(url: &str, config: &Path, log: &Path) -> String {
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "navarch".to_owned());
    let elsewhere = if url == format!("http://{DEFAULT_ADDRESS}") {
        String::new()
    } else {
        format!(" --server {url}")
    };
    let navarch = format!("{program}{elsewhere}");
    format!(
        "Navarch listens on {url}\n\
         Configuration: {}\n\
         Log:           {}\n\
         \n\
         In another terminal:\n\
         \x20 {navarch} list\n\
         \x20 {navarch} dev inject <node> xid --code 79 --gpu 3\n\
         \x20 {navarch} events --follow\n\
         \x20 {navarch} explain node <node>\n\
         \x20 {navarch} pool explain\n\
         \x20 {navarch} automation observe\n\
         \n\
         Ctrl-C stops it; the fleet comes back at the next start.",
        config.display(),
        log.display()
    )
}

/// `navarch dev inject` and `navarch dev clear`.
pub async fn order(global: &Global, order: DevOrder) -> Result<(), Failure> {
    let client = connect(global)?;
    match order {
        DevOrder::Inject(inject) => {
            let node = inject.node.clone();
            match client
                .inject_fault(request(inject))
                .await
                .doing("inject the fault")
            {
                Ok(answer) => say(&answer.message),
                Err(failure) => return Err(suggest(&client, &node, failure).await),
            }
        }
        DevOrder::Clear { node, kind } => {
            let request = v1::ClearFaultRequest {
                node_id: node.clone(),
                kind: kind.unwrap_or_default(),
            };
            match client.clear_fault(request).await.doing("clear the fault") {
                Ok(answer) => say(&answer.message),
                Err(failure) => return Err(suggest(&client, &node, failure).await),
            }
        }
    }
    Ok(())
}

fn request(inject: Inject) -> v1::InjectFaultRequest {
    let mut values = BTreeMap::new();
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            values.insert(key.to_owned(), value);
        }
    };
    put(
        "temperature",
        inject.temperature.map(|value| value.to_string()),
    );
    put("sbe", inject.sbe.map(|value| value.to_string()));
    put("dbe", inject.dbe.map(|value| value.to_string()));
    put("link", inject.link.map(|value| value.to_string()));
    v1::InjectFaultRequest {
        node_id: inject.node,
        kind: inject.kind,
        gpu_index: inject.gpu,
        code: inject.code,
        message: inject.message,
        values: values.into_iter().collect(),
    }
}

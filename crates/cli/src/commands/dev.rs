//! `navarch dev`: a whole fleet on this machine, and faults to order in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use navarch_api::{convert, v1};
use navarch_config::{Config, Warning};
use navarch_model::EventKind;
use navarch_server::handlers::Handlers;
use navarch_server::{App, Hangups, Options};
use navarch_store::EventQuery;
use navarch_time::{CancellationToken, Clock as _, RealClock, Tasks};
use serde_json::json;

use super::serve::{own_agent, told_to_end, until_told};
use crate::args::{DevOrder, DevRun, Global, Inject};
use crate::client::{Doing as _, Failure, connect, suggest};
use crate::logging;
use crate::output::{counted, for_programs, remark, say};

/// Where a client looks without being told.
const DEFAULT_ADDRESS: &str = "127.0.0.1:50051";

/// `navarch dev`.
pub async fn run(global: &Global, asked: DevRun) -> Result<(), Failure> {
    // Nothing is written before the configuration is known to be good.
    let source = Source::choose(&asked)?;
    let (mut config, warnings) = source.read()?;
    for warning in warnings {
        remark(&format!("Warning: {warning}"));
    }
    config.server.address.clone_from(&asked.listen);
    config.store.data_dir.clone_from(&asked.data_dir);
    let directory = Directory::make(&asked.data_dir)?;
    let fresh = match source.write_new() {
        Ok(fresh) => fresh,
        Err(failure) => {
            directory.unmake(&asked.data_dir.join("server.log"));
            return Err(failure);
        }
    };
    let log = asked.data_dir.join("server.log");
    let told = told_to_end(logging::start(global, Some(&log))?)?;
    let hangups = Hangups::listen();
    let started = App::start(Options {
        config,
        config_file: Some(source.file().to_owned()),
        agent: own_agent(global)?,
        insecure_no_auth: asked.insecure_no_auth,
        clock: RealClock::shared(),
        hangups,
    });
    let app = match started.await {
        Ok(app) => app,
        Err(error) => {
            if fresh {
                // It says nothing that the next start does not write again.
                let _stays = std::fs::remove_file(source.file());
            }
            directory.unmake(&log);
            return Err(Failure::Said(error.to_string()));
        }
    };
    // Only now: the data directory is ours, and a file in it not that of another server.
    if !fresh && let Err(failure) = source.write() {
        app.stop().await;
        return Err(failure);
    }
    say(&welcome(&app.url(), source.file(), &log));
    let story = Tasks::new();
    let from = *app.handlers().published.events().borrow();
    story.spawn(
        "story",
        tell(Arc::clone(app.handlers()), from, story.token()),
    );
    until_told(app, told).await?;
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

/// Lines of the story in a second. More scroll by before anybody reads them.
const LINES: usize = 40;

/// Prints what happens after the event of that sequence, as it is committed. Where too much
/// happens, it says how much is left out.
pub async fn tell(handlers: Arc<Handlers>, mut after: u64, closing: CancellationToken) {
    let clock = RealClock::new();
    let mut news = handlers.published.events();
    news.mark_changed();
    let (mut second, mut told, mut left_out) = (0, 0, 0_usize);
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
        let read = handlers.archive.read(move |history| history.events(&query));
        let Ok(events) = read.await else {
            continue;
        };
        for event in events {
            after = event.sequence;
            let now = clock.monotonic().as_secs();
            if now != second {
                (second, told) = (now, 0);
            }
            if told >= LINES {
                left_out += 1;
                continue;
            }
            if left_out > 0 {
                let what = counted(std::mem::take(&mut left_out), "event");
                say(&format!(
                    "... {what} left out; `navarch events` has all of them"
                ));
            }
            told += 1;
            say(&super::events::line(&convert::event(&event)));
        }
    }
}

/// Where the configuration comes from.
enum Source {
    /// A file that is there, the user's or one that `dev` wrote before.
    File(PathBuf),
    /// A text that `dev` writes to a file.
    Own(PathBuf, String),
}

impl Source {
    /// A file that was written before may have been edited since, so it stays; `--nodes` asks for
    /// a new one.
    fn choose(asked: &DevRun) -> Result<Self, Failure> {
        if let Some(file) = &asked.config {
            return Ok(Self::File(file.clone()));
        }
        let file = asked.data_dir.join("dev.yaml");
        let text = Config::dev(asked.nodes);
        match std::fs::read_to_string(&file) {
            Ok(there) if asked.nodes.is_none() || there == text => Ok(Self::File(file)),
            Ok(_) => Ok(Self::Own(file, text)),
            Err(error) => match error.kind() {
                // A directory that cannot be is complained about when it is made.
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
                    Ok(Self::Own(file, text))
                }
                _ => Err(Failure::File(file, error)),
            },
        }
    }

    fn file(&self) -> &Path {
        match self {
            Self::File(file) | Self::Own(file, _) => file,
        }
    }

    fn read(&self) -> Result<(Config, Vec<Warning>), Failure> {
        match self {
            Self::File(file) => Config::load(file),
            Self::Own(file, text) => Config::parse(&file.display().to_string(), text),
        }
        .map_err(|errors| Failure::Said(errors.to_string()))
    }

    /// Writes a file where none is. Says whether it did.
    fn write_new(&self) -> Result<bool, Failure> {
        match self {
            Self::Own(file, _) if !file.exists() => self.write().map(|()| true),
            Self::Own(..) | Self::File(_) => Ok(false),
        }
    }

    /// Writes the file whole or not at all, for half of it would be refused ever after.
    fn write(&self) -> Result<(), Failure> {
        let Self::Own(file, text) = self else {
            return Ok(());
        };
        let fresh = file.with_extension("yaml.new");
        let written = std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, file));
        written.map_err(|error| {
            // Nobody reads what is left of it.
            let _gone = std::fs::remove_file(&fresh);
            Failure::File(file.clone(), error)
        })
    }
}

/// The data directory, and whether it was there before.
struct Directory<'a> {
    path: &'a Path,
    made: bool,
}

impl<'a> Directory<'a> {
    fn make(path: &'a Path) -> Result<Self, Failure> {
        let made = !path.exists();
        std::fs::create_dir_all(path).map_err(|error| {
            Failure::Said(format!(
                "cannot make the data directory {}: {error}; choose another with --data-dir",
                path.display()
            ))
        })?;
        Ok(Self { path, made })
    }

    /// Takes a new directory away again, unless more than the log is in it.
    fn unmake(self, log: &Path) {
        let entries = std::fs::read_dir(self.path).into_iter().flatten().flatten();
        let only_log = entries.map(|entry| entry.path()).all(|path| path == log);
        if self.made && only_log {
            // What cannot be removed is only an empty directory.
            let _stays = std::fs::remove_file(log).and_then(|()| std::fs::remove_dir(self.path));
        }
    }
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
                Ok(answer) => {
                    let shown = json!({ "node_id": node, "message": answer.message });
                    if !for_programs(global.output, &shown)? {
                        say(&answer.message);
                    }
                }
                Err(failure) => return Err(suggest(&client, &node, failure).await),
            }
        }
        DevOrder::Clear { node, kind } => {
            let request = v1::ClearFaultRequest {
                node_id: node.clone(),
                kind: kind.unwrap_or_default(),
            };
            match client.clear_fault(request).await.doing("clear the fault") {
                Ok(answer) => {
                    let shown = json!({
                        "node_id": node,
                        "kinds": answer.kinds,
                        "message": answer.message,
                    });
                    if !for_programs(global.output, &shown)? {
                        say(&answer.message);
                    }
                }
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
    put("failed", inject.failed.then(|| "true".to_owned()));
    put("action", inject.action.map(|value| value.to_string()));
    v1::InjectFaultRequest {
        node_id: inject.node,
        kind: inject.kind,
        gpu_index: inject.gpu,
        code: inject.code,
        message: inject.message,
        values: values.into_iter().collect(),
    }
}

//! The control plane under test, on a clock that only tests move.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::Request;
use navarch_api::Client;
use navarch_config::{AuthConfig, Config, TokenSource};
use navarch_core::{Input, Reply};
use navarch_model::NodeId;
use navarch_providers::fake::AgentCommand;
use navarch_server::fleet::SubmitError;
use navarch_server::{App, Options};
use navarch_time::VirtualClock;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::{self, Raw, soon};
use super::rpc::{self, Flavour, Outcome};

/// A running control plane on a data directory of its own.
pub struct Plane {
    pub app: App,
    pub clock: VirtualClock,
    pub address: SocketAddr,
    pub token: Option<String>,
    pub config: Config,
    pub home: TempDir,
}

/// No token, whatever the environment of the tests says.
pub fn no_token() -> AuthConfig {
    AuthConfig {
        token: None,
        ..AuthConfig::default()
    }
}

/// A health policy to which `threshold` degrees are too hot, and nothing else is wrong.
pub fn policy(threshold: u32) -> String {
    format!(
        "version: v1
rules:
  - name: hot
    condition: event.event_type == \"thermal\" && event.metrics.temperature >= {threshold}
    result: unhealthy
  - name: rest
    condition: \"true\"
    result: healthy
"
    )
}

/// A configuration that no environment changes and that nobody else can reach.
fn quiet_config(home: &TempDir) -> Config {
    let mut config = Config::default();
    config.server.address = "127.0.0.1:0".to_owned();
    config.server.auth = no_token();
    // On a clock that stands still, every test is a flood.
    config.server.limits.rates.calls_per_second = 0;
    config.server.limits.rates.node_calls_per_second = 0;
    config.store.data_dir = home.path().join("data");
    config
}

/// Starts an `App`; its fake clouds could run nothing.
pub async fn start_app(config: &Config, file: Option<PathBuf>, clock: &VirtualClock) -> App {
    let options = Options {
        config: config.clone(),
        config_file: file,
        agent: AgentCommand {
            program: "/nonexistent/agent".into(),
            args: vec![],
        },
        insecure_no_auth: false,
        clock: clock.shared(),
        hangups: navarch_server::Hangups::listen(),
    };
    App::start(options).await.expect("the control plane starts")
}

/// Stops an `App` on virtual time: whatever it waits for while it stops comes at once.
pub async fn stop_app(app: App, clock: &VirtualClock) {
    let mut stopping = std::pin::pin!(app.stop());
    let stopped = async {
        loop {
            tokio::select! {
                biased;
                () = stopping.as_mut() => return,
                () = tokio::task::yield_now() => {
                    clock.advance(Duration::from_millis(1));
                }
            }
        }
    };
    soon("the control plane stops", stopped).await;
}

impl Plane {
    pub async fn start() -> Self {
        Self::with(|_, _| {}).await
    }

    /// Starts with a changed configuration. The folder is for files that it names.
    pub async fn with(change: impl FnOnce(&mut Config, &TempDir)) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let mut config = quiet_config(&home);
        change(&mut config, &home);
        Self::at(home, config, None, VirtualClock::new()).await
    }

    /// Starts with a token.
    pub async fn with_token(token: &str) -> Self {
        let mut plane = Self::with(|config, home| {
            let file = home.path().join("token");
            std::fs::write(&file, format!("{token}\n")).expect("a token file");
            config.server.auth.token = Some(TokenSource::File(file));
        })
        .await;
        plane.token = Some(token.to_owned());
        plane
    }

    /// Starts on what is there.
    pub async fn at(
        home: TempDir,
        config: Config,
        file: Option<PathBuf>,
        clock: VirtualClock,
    ) -> Self {
        let app = start_app(&config, file, &clock).await;
        let plane = Self {
            address: app.address(),
            app,
            clock,
            token: None,
            config,
            home,
        };
        // The record of the start is there.
        plane.settle().await;
        plane
    }

    /// The configuration with the providers and pools of a file, so that reading the file again is
    /// no change that needs a restart.
    pub fn fleet_of(config: Config, file: &Path) -> Config {
        let (loaded, _) = Config::load(file).expect("a sound file");
        Config {
            providers: loaded.providers,
            pools: loaded.pools,
            ..config
        }
    }

    pub async fn stop(self) -> (TempDir, Config, VirtualClock) {
        stop_app(self.app, &self.clock).await;
        (self.home, self.config, self.clock)
    }

    /// Stops in order and starts again on the same data directory.
    pub async fn restart(self) -> Self {
        let (home, config, clock) = self.stop().await;
        Self::at(home, config, None, clock).await
    }

    /// Lets time pass in steps of at most a second, each heard by the fleet before the next, so
    /// that nothing takes it for a pause.
    pub async fn pass(&self, time: Duration) {
        self.pass_in(time, Duration::from_secs(1)).await;
    }

    /// Lets seconds pass while it may be that nothing can be acknowledged.
    pub async fn try_pass(&self, seconds: u32) {
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            drop(self.poll().await);
        }
    }

    /// Lets time pass in larger steps, for waits of hours.
    pub async fn pass_in(&self, time: Duration, step: Duration) {
        let mut left = time;
        while left > Duration::ZERO {
            let step = step.min(left);
            left -= step;
            self.clock.advance(step);
            self.settle().await;
        }
    }

    /// Waits until the fleet took a turn at the present time, and its changes are published.
    pub async fn settle(&self) {
        soon("a turn of the fleet", self.poll())
            .await
            .expect("the fleet runs");
    }

    /// A question that changes nothing; its answer comes after everything of its turn.
    fn poll(&self) -> impl Future<Output = Result<Reply, SubmitError>> {
        self.app.handlers().fleet.submit(Input::Poll {
            node: NodeId::new("nobody"),
            session: None,
        })
    }

    /// Lets time pass until something shows.
    pub async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        for _ in 0..500 {
            if let Some(found) = look().await {
                return found;
            }
            self.pass(Duration::from_millis(200)).await;
        }
        panic!("never within 100 s of virtual time: {what}");
    }

    /// A client of ours.
    pub fn client(&self) -> Client {
        let made = Client::builder(self.app.url())
            .token(self.token.clone())
            .build();
        made.expect("the address is sound")
    }

    /// Calls a method as curl does, in JSON.
    pub async fn call(&self, method: &str, request: Value) -> Outcome {
        self.call_by(Flavour::ConnectJson, method, &request).await
    }

    /// Calls a method in any protocol.
    pub async fn call_by(&self, flavour: Flavour, method: &str, request: &Value) -> Outcome {
        rpc::call(
            self.address,
            flavour,
            method,
            self.token.as_deref(),
            request,
        )
        .await
    }

    /// Calls a method that must succeed.
    #[track_caller]
    pub fn ok(&self, method: &str, request: Value) -> impl Future<Output = Value> {
        let place = std::panic::Location::caller();
        async move {
            match self.call(method, request.clone()).await {
                Ok(answer) => answer,
                Err(error) => panic!("{place}: {method} {request}: {error:?}"),
            }
        }
    }

    /// Calls a method that must be refused; answers `code: message`.
    #[track_caller]
    pub fn refused(&self, method: &str, request: Value) -> impl Future<Output = String> {
        let place = std::panic::Location::caller();
        async move {
            match self.call(method, request.clone()).await {
                Err((code, message)) => format!("{code}: {message}"),
                Ok(answer) => panic!("{place}: {method} {request} was accepted: {answer}"),
            }
        }
    }

    /// Asks for a plain page.
    pub async fn get(&self, path: &str) -> Raw {
        let request = Request::get(path).body(Bytes::new()).expect("a request");
        http::http1(self.address, request).await
    }

    /// A node, as everybody sees it.
    pub async fn node(&self, id: &str) -> Value {
        self.ok("GetNode", json!({"nodeId": id})).await["node"].clone()
    }

    /// A node's status without its prefix.
    pub async fn status(&self, id: &str) -> String {
        let node = self.node(id).await;
        let status = node["status"].as_str().expect("a status");
        status.trim_start_matches("NODE_STATUS_").to_owned()
    }

    /// The names of a node's holds. Ids of incidents are left out, since they are random.
    pub async fn holds(&self, id: &str) -> Vec<String> {
        let node = self.node(id).await;
        let holds = node["holds"].as_array().cloned().unwrap_or_default();
        holds
            .iter()
            .map(|hold| hold["name"].as_str().expect("a name"))
            .map(|name| {
                if name.starts_with("incident:") {
                    "incident"
                } else {
                    name
                }
            })
            .map(str::to_owned)
            .collect()
    }

    /// The record after a sequence, as `kind: message`.
    pub async fn events_after(&self, after: u64) -> Vec<String> {
        let request = json!({"afterSequence": after.to_string(), "limit": 1000});
        let answer = self.ok("FleetService/ListEvents", request).await;
        let events = answer["events"].as_array().cloned().unwrap_or_default();
        let line = |event: &Value| {
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            format!("{}: {}", text("kind"), text("message"))
        };
        events.iter().map(line).collect()
    }

    /// The sequence of the last event.
    pub async fn sequence(&self) -> u64 {
        let info = self.ok("FleetService/GetServerInfo", json!({})).await;
        info["sequence"]
            .as_str()
            .map_or(0, |text| text.parse().expect("a number"))
    }

    /// Everything that a refused request must not change.
    pub async fn state(&self) -> Value {
        json!({
            "nodes": self.ok("ListNodes", json!({})).await,
            "instances": self.ok("ListInstances", json!({})).await,
            "incidents": self.ok("FleetService/ListIncidents", json!({})).await,
            "automation": self.ok("FleetService/GetAutomation", json!({})).await,
            "sequence": self.sequence().await,
        })
    }
}

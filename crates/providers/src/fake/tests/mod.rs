//! Tests of the fake cloud with real processes: a small program that honours the agent's duty
//! to end with its standard input.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use navarch_model::{
    CapacityKind, CloudStatus, FleetId, InstanceId, LaunchSpec, Machine, Offering, PoolName,
    ProviderErrorKind, ProviderInstanceId, ProviderName, TerminateAnswer,
};
use navarch_time::{CancellationToken, RealClock, SharedClock, Tasks};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::process::Identity;
use super::*;
use crate::conformance::{self, World, eventually};
use crate::{Fault, FaultKind, Provider};

mod http;
mod processes;
mod slow;

const LONG: Duration = Duration::from_secs(30);

/// Tells its arguments and its token, then waits for the end of its standard input.
const GOOD: &str = r#"printf '%s\n' "$@" "token=$NAVARCH_AUTH_TOKEN" "ca=$NAVARCH_CA_FILE" "other=$NAVARCH_TEST_HOST"; cat >/dev/null; true"#;

/// One process alone: a shell that is just starting another stands still in a state of its own.
const SINGLE: &str = "exec cat >/dev/null";

/// Neither ends with its standard input nor when asked to.
const STUBBORN: &str = "trap '' TERM HUP; while :; do sleep 1; done";

fn agent(script: &str) -> AgentCommand {
    AgentCommand {
        program: PathBuf::from("/bin/sh"),
        args: ["-c", script, "agent"].map(str::to_owned).into(),
    }
}

fn options(directory: &Path, script: &str) -> CloudOptions {
    let mut options = CloudOptions::new(directory.to_owned(), agent(script));
    options.access = AgentAccess {
        server: "http://127.0.0.1:9".to_owned(),
        token: AgentToken::new(Some("s3cret".to_owned())),
        ca_file: Some(PathBuf::from("/etc/ca.pem")),
    };
    options
}

async fn embedded(directory: &Path, script: &str) -> FakeEmbedded {
    let options = EmbeddedOptions {
        cloud: options(directory, script),
        gpu_count: 8,
        page_size: 2,
    };
    FakeEmbedded::open(options).await.expect("the cloud opens")
}

fn offering() -> Offering {
    Offering {
        provider: ProviderName::new("local"),
        region: "here".to_owned(),
        zone: String::new(),
        instance_type: "gpu_8x_h100".to_owned(),
        capacity: CapacityKind::OnDemand,
    }
}

fn spec(instance: &str) -> LaunchSpec {
    LaunchSpec {
        instance: InstanceId::new(instance),
        fleet: FleetId::new("fleet-1"),
        pool: PoolName::new("dev"),
        offering: offering(),
        labels: [("rack".to_owned(), "r1".to_owned())].into(),
    }
}

/// The files of a machine.
fn home(directory: &Path, machine: &Machine) -> PathBuf {
    directory
        .join("machines")
        .join(machine.provider_id.as_str())
}

/// The process of a machine, once it runs and is not `other`.
async fn process_of(directory: &Path, machine: &Machine, other: Option<Identity>) -> Identity {
    let path = home(directory, machine).join("pid");
    let mut found = None;
    let clock = RealClock::shared();
    let runs = eventually(&clock, LONG, async || {
        found = Identity::load(&path).filter(|seen| !seen.is_gone() && Some(*seen) != other);
        found.is_some()
    });
    assert!(runs.await, "no process runs for {machine:?}");
    found.expect("it was found")
}

async fn is_gone_soon(process: Identity, limit: Duration) -> bool {
    let clock = RealClock::shared();
    navarch_time::timeout(&*clock, limit, process.gone(&*clock))
        .await
        .is_ok()
}

/// The letter that the system shows for the state of a process.
fn state_of(process: Identity) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// A fake cloud behind HTTP, and its client.
struct Served {
    provider: FakeHttp,
    cloud: Cloud,
    url: String,
    _tasks: Tasks,
    _directory: TempDir,
}

async fn served(script: &str) -> Served {
    let directory = TempDir::new().expect("a directory");
    let clock = RealClock::shared();
    let cloud = Cloud::open(options(directory.path(), script)).await;
    let cloud = cloud.expect("the cloud opens");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let tasks = Tasks::new();
    let (served, stop) = (cloud.clone(), tasks.token());
    tasks.spawn("server", async move {
        serve_cloud(listener, &served, &clock, &stop)
            .await
            .expect("it serves");
    });
    let provider = FakeHttp::new(HttpOptions {
        url: url.clone(),
        gpu_count: 8,
        access: AgentAccess {
            server: "http://127.0.0.1:9".to_owned(),
            token: AgentToken::new(Some("other-s3cret".to_owned())),
            ca_file: None,
        },
        page_size: 2,
    });
    Served {
        provider: provider.expect("a client"),
        cloud,
        url,
        _tasks: tasks,
        _directory: directory,
    }
}

struct UnderTest<'a> {
    provider: &'a dyn Provider,
    cloud: &'a Cloud,
}

impl World for UnderTest<'_> {
    fn provider(&self) -> &dyn Provider {
        self.provider
    }

    fn clock(&self) -> SharedClock {
        RealClock::shared()
    }

    fn offering(&self) -> Offering {
        offering()
    }

    fn several_pages(&self) -> usize {
        5
    }

    fn spot_offering(&self) -> Option<Offering> {
        Some(Offering {
            capacity: CapacityKind::Spot,
            ..offering()
        })
    }

    fn interrupt<'a>(
        &'a self,
        machine: &'a ProviderInstanceId,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async {
            let fault = CloudFault::Interrupt {
                instance: machine.to_string(),
                notice_seconds: 120,
                at: None,
            };
            self.cloud.order(fault).await.is_ok()
        })
    }

    fn lose_next_launch_answer(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(async {
            let fault = CloudFault::LostAnswer {
                operation: None,
                count: Some(1),
            };
            self.cloud.order(fault).await.is_ok()
        })
    }
}

fn client(url: &str) -> FakeHttp {
    FakeHttp::new(HttpOptions {
        url: url.to_owned(),
        gpu_count: 8,
        access: AgentAccess::default(),
        page_size: 0,
    })
    .expect("a client")
}

#[tokio::test]
async fn the_embedded_provider_conforms() {
    let directory = TempDir::new().expect("a directory");
    let provider = embedded(directory.path(), GOOD).await;
    let world = UnderTest {
        provider: &provider,
        cloud: provider.cloud(),
    };
    conformance::check(&world).await.expect("it conforms");
    provider.cloud().sell(market()).await.expect("sound");
    conformance::check(&world).await.expect("it conforms");
    provider.shutdown().await;
}

/// A market that has the offerings of the suite, and another.
fn market() -> super::Market {
    let text = r#"{"products":[
        {"region":"here","instance_type":"gpu_8x_h100","price":"23.92"},
        {"region":"here","instance_type":"gpu_8x_h100","capacity":"spot","price":"9"},
        {"region":"there","instance_type":"gpu_8x_h100","price":"21.50","machines":0}]}"#;
    serde_json::from_str(text).expect("a market")
}

#[tokio::test]
async fn a_market_is_set_and_shown_over_http_and_decides_what_is_sold() {
    let served = served(GOOD).await;
    assert_eq!(served.provider.offerings().await, Ok(None));
    let http = reqwest::Client::new();
    let at = |path: &str| format!("{}/v1/{path}", served.url);
    let put = |body: String| {
        http.put(at("market"))
            .header("content-type", "application/json")
            .body(body)
    };
    let body = serde_json::to_string(&market()).expect("plain data");
    assert_eq!(
        put(body.clone()).send().await.expect("an answer").status(),
        200
    );
    let shown = http.get(at("market")).send().await.expect("an answer");
    assert_eq!(shown.text().await.expect("a body"), body);
    let offers = served
        .provider
        .offerings()
        .await
        .expect("an answer")
        .expect("a list");
    let seen: Vec<_> = offers
        .iter()
        .map(|one| {
            (
                one.region.as_str(),
                one.price.map(|price| price.to_string()),
                one.available,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("here", Some("$23.92/h".to_owned()), Some(true)),
            ("here", Some("$9.00/h".to_owned()), Some(true)),
            ("there", Some("$21.50/h".to_owned()), Some(false)),
        ]
    );
    let mut wanted = spec("nv-sold-out");
    wanted.offering.region = "there".to_owned();
    let error = served.provider.launch(&wanted).await.expect_err("sold out");
    assert_eq!(error.kind, ProviderErrorKind::Capacity, "{error}");
    wanted.offering.region = "nowhere".to_owned();
    let error = served.provider.launch(&wanted).await.expect_err("not sold");
    assert_eq!(error.kind, ProviderErrorKind::Configuration, "{error}");
    for body in ["{", "[]", r#"{"products":[{"instance_type":"a b"}]}"#] {
        let answer = put(body.to_owned()).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16() / 100, 4, "{body}");
    }
    let shown = http.get(at("market")).send().await.expect("an answer");
    assert_eq!(
        shown.text().await.expect("a body"),
        body,
        "what is refused changes nothing"
    );
    served.cloud.shutdown().await;
}

#[tokio::test]
async fn the_http_provider_conforms() {
    let served = served(GOOD).await;
    let world = UnderTest {
        provider: &served.provider,
        cloud: &served.cloud,
    };
    conformance::check(&world).await.expect("it conforms");
    served.cloud.shutdown().await;
}

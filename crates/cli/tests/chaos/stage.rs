//! A fake cloud and a control plane as processes, and what tests ask and order of both.

use std::collections::BTreeMap;
use std::time::Duration;

use navarch_api::{Client, ClientError, v1, wire};
use navarch_providers::fake::{InstanceView, Page};
use navarch_time::{Clock as _, RealClock, timeout};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::compare;
use crate::journal::Order;
use crate::support::{Program, Reserved, directory, until};

/// The longest wait for one answer.
const LIMIT: Duration = Duration::from_secs(10);

/// The pools and the timers that differ between tests.
pub struct Knobs {
    /// The pools: name and least number of machines.
    pub pools: Vec<(&'static str, usize)>,
    /// How long a machine may take to come up.
    pub registration_timeout: &'static str,
    /// The launch breaker, as the configuration has it.
    pub launch_breaker: &'static str,
    /// Silence that counts without a word from the cloud.
    pub silence_replace_after: &'static str,
    /// How long the control plane waits for an answer of the cloud.
    pub request_timeout: &'static str,
    /// The longest wait between two tries of one call.
    pub retry_max_wait: &'static str,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            pools: vec![("alpha", 2)],
            registration_timeout: "30s",
            launch_breaker: "{failures: 1000, wait: 300ms, max_wait: 1s, unproven_launches: 100}",
            silence_replace_after: "never",
            request_timeout: "2s",
            retry_max_wait: "1s",
        }
    }
}

impl Knobs {
    fn config(&self, cloud: &str) -> String {
        let pools: String = self
            .pools
            .iter()
            .map(|(name, min)| {
                format!(
                    "  {name}: {{provider: fake, instance_type: fake-1x, min_nodes: {min}, \
                     max_nodes: {}}}\n",
                    min * 2
                )
            })
            .collect();
        format!(
            "server:
  heartbeat_interval: 200ms
  heartbeat_timeout: 4s
  health_check_interval: 500ms
store: {{terminated_kept: 24h}}
instance_manager:
  launch_timeout: 2s
  registration_timeout: {}
planner: {{min_interval: 20ms, full_interval: 1s}}
guards:
  budget: 100%
  max_surge: 2
  small_fleet_nodes: 0
  minimum_life: 0s
  max_launches_per_hour: 10000
  silence_replace_after: {}
  stale_report_intervals: 100
  breaker: {{threshold: {{count: 1000}}}}
  launch_breaker: {}
  flapping: {{reopens: 1000}}
  terminate: {{retry_wait: 100ms, retry_max_wait: {}}}
  sweep: {{interval: 500ms}}
providers:
  fake: {{type: fake, gpu_count: 1, url: '{cloud}', request_timeout: {}, requests_per_second: 200}}
pools:
{pools}",
            self.registration_timeout,
            self.silence_replace_after,
            self.launch_breaker,
            self.retry_max_wait,
            self.request_timeout,
        )
    }
}

/// Both processes. What is dropped first ends first.
pub struct Stage {
    server: Program,
    cloud: Program,
    pools: BTreeMap<String, usize>,
    client: Client,
    runtime: Runtime,
    directory: TempDir,
    /// The control plane's address, which nobody else gets while it is away.
    _address: Reserved,
}

const SERVER: [&str; 3] = ["server", "--config=navarch.yaml", "--data-dir=store"];

impl Stage {
    /// Starts a cloud and a control plane.
    pub fn new(knobs: &Knobs) -> Self {
        Self::with_faults(knobs, &[])
    }

    /// Starts a cloud with faults on order, then a control plane.
    pub fn with_faults(knobs: &Knobs, faults: &[Value]) -> Self {
        let directory = directory();
        let path = directory.path();
        let cloud = ["fake-cloud", "--listen=127.0.0.1:0", "--data-dir=cloud"];
        let cloud = Program::start(path, &[], &cloud);
        std::fs::write(path.join("navarch.yaml"), knobs.config(&cloud.url)).expect("a file");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        for fault in faults {
            let api = CloudApi(cloud.address().to_owned());
            let answer = runtime.block_on(api.call("POST", "/v1/faults", fault));
            answer.unwrap_or_else(|error| panic!("{fault}: {error}"));
        }
        let address = Reserved::new();
        let listen = address.flag();
        let mut arguments = SERVER.to_vec();
        arguments.push(&listen);
        let server = Program::start(path, &[], &arguments);
        Self {
            client: client_of(&server),
            server,
            cloud,
            pools: knobs
                .pools
                .iter()
                .map(|(name, min)| ((*name).to_owned(), *min))
                .collect(),
            runtime,
            directory,
            _address: address,
        }
    }

    /// Kills the control plane as a crash does, at once.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts the control plane again, at the address that the agents know.
    pub fn start(&mut self) {
        let listen = format!("--listen={}", self.server.address());
        let mut arguments = SERVER.to_vec();
        arguments.push(&listen);
        self.server = Program::start(self.directory.path(), &[], &arguments);
        self.client = client_of(&self.server);
    }

    /// Starts the control plane and kills it after a time, most likely before it serves.
    pub fn start_and_kill(&self, after: Duration) {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_navarch"))
            .current_dir(self.directory.path())
            .args(SERVER)
            .arg(format!("--listen={}", self.server.address()))
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the program starts");
        self.ask(crate::rest::rest(after));
        child.kill().expect("it is a child");
        child.wait().expect("it is a child");
    }

    /// Waits for something that is asked of either process.
    pub fn ask<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(call)
    }

    /// A client of the control plane.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The way to the cloud.
    pub fn cloud(&self) -> CloudApi {
        CloudApi(self.cloud.address().to_owned())
    }

    /// Orders a fault of the cloud.
    #[track_caller]
    pub fn order(&self, fault: &Value) {
        let cloud = self.cloud();
        let answer = self.ask(cloud.call("POST", "/v1/faults", fault));
        answer.unwrap_or_else(|error| panic!("{fault}: {error}"));
    }

    /// Ends every fault of the cloud.
    pub fn end_faults(&self) {
        let cloud = self.cloud();
        let answer = self.ask(cloud.call("DELETE", "/v1/faults", &Value::Null));
        answer.expect("faults are cleared");
    }

    /// The live machines of our fleet, as the cloud shows them. Meets the faults on order.
    pub fn machines(&self) -> Result<Vec<InstanceView>, String> {
        let client = self.client();
        let info = self.ask(client.get_server_info(v1::GetServerInfoRequest::default()));
        let fleet = info.map_err(|error| error.to_string())?.fleet_id;
        let path = format!("/v1/instances?page_size=1000&tag=navarch-fleet={fleet}");
        let cloud = self.cloud();
        let page = self.ask(cloud.call("GET", &path, &Value::Null))?;
        let page: Page = serde_json::from_value(page).map_err(|error| error.to_string())?;
        assert_eq!(page.next_page_token, "", "one page holds all");
        let live = |machine: &InstanceView| machine.status.word() != "terminated";
        Ok(page.instances.into_iter().filter(live).collect())
    }

    /// What the cloud has on record, faults or not: every machine ever made, by its serial
    /// number, as the cloud's file has it.
    pub fn cloud_file(&self) -> Vec<Made> {
        let path = self.directory.path().join("cloud/cloud.json");
        let text = std::fs::read_to_string(path).unwrap_or_else(|_| "{}".to_owned());
        let file: Value = serde_json::from_str(&text).expect("JSON");
        let machines = file["machines"].as_object();
        let records = machines.into_iter().flat_map(|machines| machines.values());
        records.map(Made::of).collect()
    }

    /// Every instance on record.
    pub fn instances(&self) -> Result<Vec<wire::InstanceInfo>, ClientError> {
        let client = self.client();
        let all = self.ask(client.list_instances(wire::ListInstancesRequest::default()))?;
        Ok(all.instances)
    }

    /// Every node on record.
    pub fn nodes(&self) -> Result<Vec<wire::NodeInfo>, ClientError> {
        let client = self.client();
        let all = self.ask(client.list_nodes(wire::ListNodesRequest::default()))?;
        Ok(all.nodes)
    }

    /// The nodes that are ACTIVE, in order.
    pub fn active(&self) -> Vec<String> {
        let nodes = self.nodes().unwrap_or_default();
        let active = nodes.into_iter().filter(|node| node.status.to_i32() == 1);
        active.map(|node| node.node_id).collect()
    }

    /// What each pool waits for.
    pub fn waits(&self) -> Result<Vec<v1::Wait>, ClientError> {
        let client = self.client();
        let plan = self.ask(client.get_plan(v1::GetPlanRequest::default()))?;
        Ok(plan.pools.into_iter().flat_map(|pool| pool.waits).collect())
    }

    /// Waits until a pool waits at a guard, and answers what it says.
    #[track_caller]
    pub fn until_waiting(&self, guard: &str) -> v1::Wait {
        until(&format!("a wait at {guard}"), || {
            let waits = self.waits().map_err(|error| error.to_string())?;
            let wait = waits.iter().find(|wait| wait.guard == guard);
            wait.cloned().ok_or_else(|| format!("{waits:?}"))
        })
    }

    /// Lets an operator end the machine of a node.
    #[track_caller]
    pub fn terminate(&self, node: &str) {
        let answer = self.ask(command(&self.client, node, Order::Terminate));
        answer.expect("the machine is to end");
    }

    /// The events of one kind, or of all, oldest first.
    pub fn events(&self, kind: &str) -> Vec<v1::Event> {
        let client = self.client();
        let mut events = Vec::new();
        let mut after_sequence = 0;
        loop {
            let filter = v1::EventFilter {
                kinds: Some(kind.to_owned())
                    .filter(|kind| !kind.is_empty())
                    .into_iter()
                    .collect(),
                ..Default::default()
            };
            let request = v1::ListEventsRequest {
                filter: filter.into(),
                after_sequence,
                limit: 500,
                ..Default::default()
            };
            let page = self.ask(client.list_events(request)).expect("events");
            after_sequence = page.resume_after_sequence;
            let last = !page.more || page.events.is_empty();
            events.extend(page.events);
            if last {
                return events;
            }
        }
    }

    /// What is told of some instances, for people.
    pub fn story(&self, about: &[String]) -> String {
        let told = self.events("");
        let told = told.iter().filter(|event| {
            about
                .iter()
                .any(|id| *id == event.instance_id || *id == event.node_id)
        });
        told.map(|event| {
            format!(
                "{} {} {} x{}: {}\n",
                event.sequence, event.instance_id, event.kind, event.count, event.message
            )
        })
        .collect()
    }

    /// What differs between the cloud and the record, and what lacks to what was asked for.
    pub fn problems(&self) -> Result<compare::Problems, String> {
        let machines = self.machines()?;
        let instances = self.instances().map_err(|error| error.to_string())?;
        let nodes = self.nodes().map_err(|error| error.to_string())?;
        let mut problems = compare::leaks(&machines, &instances);
        problems.add(compare::shortfalls(&self.pools, &instances, &nodes));
        Ok(problems)
    }

    /// Waits until every pool has its machines, the cloud has no other, and both agree.
    #[track_caller]
    pub fn settle(&self) {
        until("the fleet has what was asked for", || {
            let problems = self.problems()?;
            if problems.is_empty() {
                return Ok(());
            }
            let waits = self.waits();
            Err(format!(
                "{problems}\nwaits: {waits:?}\n{}",
                self.story(&problems.about)
            ))
        });
    }

    /// The same, and one node is gone by then.
    #[track_caller]
    pub fn settle_without(&self, node: &str) {
        until("the node is gone", || {
            let nodes = self.nodes().map_err(|error| error.to_string())?;
            let known = nodes.iter().find(|known| known.node_id == *node);
            let gone = known.is_none_or(|known| known.terminated_at.is_set());
            gone.then_some(())
                .ok_or_else(|| format!("{known:?}\nwaits: {:?}", self.waits()))
        });
        self.settle();
    }

    /// Waits a while for what must not happen, and checks it again and again.
    #[track_caller]
    pub fn while_it_lasts(&self, time: Duration, mut check: impl FnMut(&Self)) {
        let clock = RealClock::new();
        let end = clock.monotonic() + time;
        until("time passes", || {
            check(self);
            if clock.monotonic() > end {
                Ok(())
            } else {
                Err("not yet".to_owned())
            }
        });
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.directory.disable_cleanup(true);
        }
    }
}

fn client_of(server: &Program) -> Client {
    let builder = Client::builder(server.url.as_str());
    builder.timeout(LIMIT).build().expect("an address")
}

/// Issues an operator's command.
pub async fn command(
    client: &Client,
    node: &str,
    order: Order,
) -> Result<wire::IssueCommandResponse, ClientError> {
    let request = wire::IssueCommandRequest {
        node_id: node.to_owned(),
        command_type: order.number().into(),
        ..Default::default()
    };
    client.issue_command(request).await
}

/// One machine in the cloud's file.
#[derive(Debug)]
pub struct Made {
    /// The cloud's id.
    pub id: String,
    /// The instance that it was bought as.
    pub instance: String,
    /// Whether it costs money.
    pub live: bool,
}

impl Made {
    fn of(record: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let history = record["history"].as_array().expect("a history");
        let last = history.last().expect("a state");
        Self {
            id: text(&record["id"]),
            instance: text(&record["request"]["tags"]["navarch-instance"]),
            live: last[1] != "terminated" && record["vanished"].is_null(),
        }
    }
}

/// The fake cloud's HTTP API.
#[derive(Clone)]
pub struct CloudApi(String);

impl CloudApi {
    /// Asks it. An answer that is not a success is an error.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let exchange = async {
            let body = if body.is_null() {
                String::new()
            } else {
                body.to_string()
            };
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                self.0,
                body.len()
            );
            let mut stream = TcpStream::connect(&self.0).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
        };
        let answer = timeout(&RealClock::new(), LIMIT, exchange).await;
        let answer = answer
            .map_err(|_| format!("no answer within {LIMIT:?}"))?
            .map_err(|error| error.to_string())?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        if head.get(9..10) != Some("2") {
            return Err(answer);
        }
        serde_json::from_str(body).map_err(|error| format!("{error}: {answer}"))
    }

    /// Puts a fault into a machine's GPU.
    pub async fn inject(&self, machine: &str, fault: &Value) -> Result<(), String> {
        let path = format!("/v1/instances/{machine}/inject");
        self.call("POST", &path, fault).await.map(drop)
    }

    /// Lets a machine be lost, so that the cloud forgets it.
    pub async fn vanish(&self, machine: &str) -> Result<(), String> {
        let fault = json!({"fault": "vanish", "instance": machine});
        self.call("POST", "/v1/faults", &fault).await.map(drop)
    }
}

//! What stops the control plane from acting, with real processes: a frozen or absent control plane,
//! silent machines, a cloud that does not answer, an image that never registers, a rule that
//! condemns everybody. Each says so in `explain`.

mod absence;
mod blame;
mod buying;
mod silence;

use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::holds::until_heard;
use crate::support::{
    Fleet, Program, directory, list, pids_below, raw_http, signal, split, text, until,
};

/// What differs between the tests.
struct Knobs {
    /// How many machines the pool keeps.
    nodes: usize,
    /// More keys of `guards`, each on a line of its own with two spaces before it.
    guards: &'static str,
    /// After how many seconds a node counts as silent. A busy machine may starve an agent for some
    /// seconds, and nobody must be silent but those that the test silences.
    heartbeat_timeout: u64,
    /// How long a machine may take to come up.
    registration_timeout: &'static str,
    /// The health policy, if it is not the built-in one.
    policy: Option<&'static str>,
    /// Faults of the cloud from its first moment.
    faults: Vec<Value>,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            nodes: 3,
            guards: "",
            heartbeat_timeout: 10,
            registration_timeout: "1m",
            policy: None,
            faults: Vec::new(),
        }
    }
}

impl Knobs {
    fn config(&self, cloud: &str) -> String {
        let Self {
            nodes,
            guards,
            heartbeat_timeout,
            registration_timeout,
            ..
        } = self;
        let policy = self.policy.map_or("", |_| "\n  health_policy: policy.yaml");
        format!(
            "server:
  heartbeat_interval: 500ms
  heartbeat_timeout: {heartbeat_timeout}s
  health_check_interval: 1s{policy}
planner: {{min_interval: 20ms, full_interval: 1s}}
instance_manager: {{registration_timeout: {registration_timeout}}}
guards:
  small_fleet_wait: 1s
  stale_report_intervals: 100
  terminate: {{retry_wait: 100ms, retry_max_wait: 1s}}
  sweep: {{interval: 500ms}}
{guards}
providers:
  fake: {{type: fake, gpu_count: 1, url: '{cloud}', request_timeout: 20s, requests_per_second: 200}}
pools:
  p: {{provider: fake, instance_type: fake-1x, min_nodes: {nodes}, max_nodes: {}}}
",
            nodes * 2
        )
    }
}

/// A control plane and a cloud of its own, so that the machines outlive the control plane.
struct Stage {
    // What is dropped first ends first.
    fleet: Fleet,
    cloud: Program,
    home: TempDir,
}

impl Stage {
    fn new(knobs: &Knobs) -> Self {
        let home = directory();
        let cloud = ["fake-cloud", "--listen=127.0.0.1:0", "--data-dir=cloud"];
        let cloud = Program::start(home.path(), &[], &cloud);
        for fault in &knobs.faults {
            ask_cloud(&cloud, "POST", "/v1/faults", fault);
        }
        let place = directory();
        if let Some(policy) = knobs.policy {
            std::fs::write(place.path().join("policy.yaml"), policy).expect("a file");
        }
        let fleet = Fleet::server_in(place, &knobs.config(&cloud.url), None);
        Self { fleet, cloud, home }
    }

    /// The ids of the nodes once all are ACTIVE and were heard since, so that each is a witness of
    /// the silence of any other.
    fn settled(&self, nodes: usize) -> Vec<String> {
        let ids = self.fleet.until_active(nodes);
        until_heard(&self.fleet, &ids);
        ids
    }

    /// Orders a fault of the cloud.
    fn order(&self, fault: &Value) {
        ask_cloud(&self.cloud, "POST", "/v1/faults", fault);
    }

    /// Ends every fault of the cloud.
    fn end_faults(&self) {
        ask_cloud(&self.cloud, "DELETE", "/v1/faults", &json!({}));
    }

    /// What the cloud calls the machine of a node.
    fn machine(&self, node: &str) -> String {
        let instance = self.fleet.data(&["instance", "get", node]);
        text(&instance, "provider_instance_id")
    }

    /// The process of the agent of a node.
    fn agent(&self, node: &str) -> u32 {
        let machine = self.machine(node);
        let of = |(path, pid): &(PathBuf, u32)| {
            let folder = path.parent().and_then(|folder| folder.file_name());
            (folder? == machine.as_str()).then_some(*pid)
        };
        let found = pids_below(self.home.path()).iter().find_map(of);
        found.unwrap_or_else(|| panic!("no process of {node}, machine {machine}"))
    }

    /// Freezes the agent of a node; answers its process.
    fn freeze(&self, node: &str) -> u32 {
        let agent = self.agent(node);
        signal(agent, Signal::STOP);
        agent
    }

    /// What `navarch explain node` says.
    fn explain(&self, node: &str) -> String {
        self.fleet.ask(&["explain", "node", node]).fine()
    }

    /// Waits until `navarch explain node` has a line with all of these words.
    #[track_caller]
    fn until_explained(&self, node: &str, words: &[&str]) -> String {
        until(&format!("{words:?} in what is told of {node}"), || {
            let told = self.explain(node);
            let found = told
                .lines()
                .any(|line| words.iter().all(|word| line.contains(word)));
            if found { Ok(told) } else { Err(told) }
        })
    }

    /// The place of the last event so far.
    fn mark(&self) -> u64 {
        let last = self.fleet.events().pop();
        last.map_or(0, |event| sequence(&event))
    }

    /// The events of these kinds, or families of kinds, after a mark.
    fn since(&self, mark: u64, kinds: &[&str]) -> Vec<Value> {
        let mut events = self.fleet.events();
        events.retain(|event| {
            let kind = text(event, "kind");
            let meant = |wanted: &&str| kind.starts_with(*wanted);
            sequence(event) > mark && kinds.iter().any(meant)
        });
        events
    }

    /// Nothing was bought, drained or ended since a mark.
    #[track_caller]
    fn nothing_done_since(&self, mark: u64) {
        let done = self.since(mark, &["drain", "repair", "instance.phase"]);
        assert_eq!(done, Vec::<Value>::new());
    }

    /// Every instance that was ever asked for.
    fn instances(&self) -> Vec<Value> {
        list(self.fleet.data(&["instance", "list"]))
    }

    /// The metrics of the control plane.
    fn metrics(&self) -> String {
        let address = self.fleet.server.address();
        let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
        let answer = raw_http(address, &request);
        split(&answer).1.to_owned()
    }
}

fn sequence(event: &Value) -> u64 {
    event["sequence"].as_u64().expect("a number")
}

/// Asks a fake cloud, which must do it.
#[track_caller]
fn ask_cloud(cloud: &Program, method: &str, path: &str, body: &Value) -> String {
    let (address, body) = (cloud.address(), body.to_string());
    // The older version, so that the answer comes in one piece.
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = raw_http(address, &request);
    let (head, said) = split(&answer);
    assert!(head.contains(" 200 "), "{method} {path} {body}: {answer}");
    said.to_owned()
}

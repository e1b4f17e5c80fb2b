//! A control plane with one policy file, and machines beside it that nothing replaces.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Fleet, Program, directory, list, raw_http, split, text, until};

/// Where the shipped policies are.
const POLICIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/policies");

/// The file that the control plane reads.
pub const FILE: &str = "policy.yaml";

/// Patience with silence, and no machine of its own. Full reports are rare: a healthy one ends a
/// mild XID, and the table is about verdicts. A fault that shows in readings is reported in full
/// at once.
const CONFIG: &str = "
server:
  heartbeat_interval: 2s
  heartbeat_timeout: 10m
  health_check_interval: 10m
  health_policy: policy.yaml
providers:
  fake:
    type: fake
pools:
  empty:
    provider: fake
    instance_type: fake-8x
    max_nodes: 1
";

/// A fault: its kind in the agent's debug API, or `report` for a fact that fake GPUs cannot have,
/// and its fields.
pub type Fault = (&'static str, &'static str);

/// The kind of a fact that is reported over the wire.
const REPORT: &str = "report";

/// The text of a shipped policy.
pub fn shipped(policy: &str) -> String {
    let path = PathBuf::from(POLICIES).join(format!("{policy}.yaml"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One machine, outside every pool.
enum Machine {
    /// An agent with fake GPUs, and the address of its debug API.
    Agent { debug: String, _program: Program },
    /// What an agent would say, said by the test: the number of reports so far.
    Wire { reports: u64 },
}

/// A node as the control plane shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// `HEALTHY`, `DEGRADED`, `UNHEALTHY` or `UNKNOWN`.
    pub health: String,
    /// `ACTIVE`, `UNHEALTHY` and so on.
    pub status: String,
    /// The open incidents as `rule class gpu`, in order; the GPU is -1 for the node as a whole.
    pub incidents: Vec<String>,
}

/// The control plane and its machines, by node id.
pub struct Stage {
    machines: BTreeMap<String, Machine>,
    // Dropped last: it is what the machines talk to.
    pub fleet: Fleet,
}

impl Stage {
    /// Starts a control plane with this text as its policy.
    pub fn start(policy: &str) -> Self {
        let place = directory();
        std::fs::write(place.path().join(FILE), policy).expect("a file");
        Self {
            machines: BTreeMap::new(),
            fleet: Fleet::server_in(place, CONFIG, None),
        }
    }

    /// Adds machines that can have these faults, each under its name.
    pub fn add(&mut self, machines: &[(&str, &[Fault])]) {
        let mut started = Vec::new();
        for (name, faults) in machines {
            if faults.iter().any(|(kind, _)| *kind == REPORT) {
                self.add_wire(name);
            } else {
                started.push((*name, self.launch(name)));
            }
        }
        for (name, program) in started {
            self.take(name, program);
        }
        self.until_shown("every machine is well", |_, shown| {
            shown.health == "HEALTHY" && shown.status == "ACTIVE"
        });
    }

    /// Adds one machine with fake GPUs beside others, whatever they are like by now.
    pub fn add_one(&mut self, name: &str) {
        let program = self.launch(name);
        self.take(name, program);
        self.until_one(name, "HEALTHY", "ACTIVE", &[]);
    }

    fn take(&mut self, name: &str, program: Program) {
        let file = self.fleet.path().join(format!("{name}.address"));
        let debug = until("the debug API listens", || {
            std::fs::read_to_string(&file).map_err(|error| error.to_string())
        });
        let machine = Machine::Agent {
            debug: debug.trim().to_owned(),
            _program: program,
        };
        self.machines.insert(name.to_owned(), machine);
    }

    fn launch(&self, name: &str) -> Program {
        let arguments = [
            "agent".to_owned(),
            format!("--server={}", self.fleet.server.url),
            format!("--node-id={name}"),
            "--provider=own".to_owned(),
            "--fake-gpus=8".to_owned(),
            "--debug-listen=127.0.0.1:0".to_owned(),
            format!("--debug-address-file={name}.address"),
            format!("--state-dir={name}.state"),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Program::launch(self.fleet.path(), &[], &arguments)
    }

    fn add_wire(&mut self, name: &str) {
        let gpus: Vec<Value> = (0..8)
            .map(|index| json!({"index": index, "uuid": format!("GPU-{name}-{index}")}))
            .collect();
        self.call(
            "RegisterNode",
            &json!({
                "nodeId": name,
                "provider": "own",
                "gpus": gpus,
                "bootId": format!("boot-{name}"),
                "sessionId": format!("session-{name}"),
                "capabilities": ["full_reports"],
            }),
        );
        self.machines
            .insert(name.to_owned(), Machine::Wire { reports: 0 });
        self.report(name, true, &json!({"gpuIndex": -1, "watch": "boot"}));
    }

    /// Calls the control plane as an agent does.
    fn call(&self, method: &str, request: &Value) -> Value {
        let url = format!("/navarch.ControlPlaneService/{method}");
        post(self.fleet.server.address(), &url, &request.to_string())
    }

    fn report(&mut self, name: &str, full: bool, event: &Value) {
        let Some(Machine::Wire { reports }) = self.machines.get_mut(name) else {
            panic!("{name} reports for itself");
        };
        *reports += 1;
        let request = json!({
            "nodeId": name,
            "bootId": format!("boot-{name}"),
            "sessionId": format!("session-{name}"),
            "sequence": *reports,
            "full": full,
            "events": [event],
        });
        self.call("ReportHealth", &request);
    }

    /// Puts a fault into a machine.
    pub fn inject(&mut self, name: &str, (kind, fields): Fault) {
        match self.machines.get(name) {
            Some(Machine::Agent { debug, .. }) => {
                post(debug, &format!("/debug/inject/{kind}"), fields);
            }
            Some(Machine::Wire { .. }) => {
                let event = if kind == REPORT {
                    parse(fields)
                } else {
                    event(kind, &parse(fields))
                };
                self.report(name, false, &event);
            }
            None => panic!("no machine {name}"),
        }
    }

    /// Every node as it is now.
    pub fn shown(&self) -> BTreeMap<String, Shown> {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let incidents = ["incident", "list", "--open", "--limit=1000"];
        for incident in list(self.fleet.data(&incidents)) {
            let line = format!(
                "{} {} {}",
                text(&incident, "rule"),
                text(&incident, "class"),
                incident["gpu_index"]
            );
            found
                .entry(text(&incident, "node_id"))
                .or_default()
                .push(line);
        }
        let nodes = self.fleet.nodes().into_iter().map(|node| {
            let id = text(&node, "node_id");
            let mut incidents = found.remove(&id).unwrap_or_default();
            incidents.sort();
            let word = |key: &str, prefix: &str| text(&node, key).replace(prefix, "");
            let shown = Shown {
                health: word("health_status", "HEALTH_STATUS_"),
                status: word("status", "NODE_STATUS_"),
                incidents,
            };
            (id, shown)
        });
        nodes.collect()
    }

    /// Waits until every machine is shown as `is` wants it.
    pub fn until_shown(&self, what: &str, mut is: impl FnMut(&str, &Shown) -> bool) {
        until(what, || {
            let shown = self.shown();
            let mut others = Vec::new();
            for name in self.machines.keys() {
                match shown.get(name) {
                    Some(node) if is(name, node) => {}
                    other => others.push(format!("{name}: {other:?}")),
                }
            }
            others
                .is_empty()
                .then_some(())
                .ok_or_else(|| others.join("\n"))
        });
    }

    /// Waits until one machine is shown with this health, status and incidents.
    pub fn until_one(&self, name: &str, health: &str, status: &str, incidents: &[&str]) {
        let wanted = Shown {
            health: health.to_owned(),
            status: status.to_owned(),
            incidents: incidents.iter().map(|line| (*line).to_owned()).collect(),
        };
        until(&format!("{name} is {wanted:?}"), || {
            let shown = self.shown().remove(name);
            (shown.as_ref() == Some(&wanted))
                .then_some(())
                .ok_or_else(|| format!("{shown:?}"))
        });
    }
}

/// The rule that a file has for the event that an agent makes of a fault, as
/// `navarch policy test` says.
pub fn rule(stage: &Stage, (kind, fields): Fault) -> String {
    let fields = parse(fields);
    let event = if kind == REPORT {
        fields
    } else {
        event(kind, &fields)
    };
    let mut arguments = vec!["policy".to_owned(), "test".to_owned(), FILE.to_owned()];
    let mut word = |key: &str, value: &Value| {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        let short = value
            .trim_start_matches("HEALTH_EVENT_TYPE_")
            .trim_start_matches("HEALTH_WATCH_SYSTEM_")
            .to_lowercase();
        arguments.push(format!("--event={key}={short}"));
    };
    for (theirs, ours) in [
        ("eventType", "event_type"),
        ("system", "system"),
        ("watch", "watch"),
        ("gpuIndex", "gpu_index"),
    ] {
        if let Some(value) = event.get(theirs) {
            word(ours, value);
        }
    }
    for (key, value) in event["metrics"].as_object().into_iter().flatten() {
        word(key, value);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    text(&stage.fleet.data(&arguments), "rule")
}

/// The event that an agent makes of a fault that shows at once.
fn event(kind: &str, fields: &Value) -> Value {
    let number = |key: &str| fields[key].as_i64().unwrap_or_default();
    let (event_type, metric, value) = match kind {
        "xid" => ("XID", "xid_code", number("code")),
        "thermal" => ("THERMAL", "temperature", number("temperature")),
        "memory" if number("dbe") > 0 => ("ECC_DBE", "ecc_dbe_count", number("dbe")),
        "memory" => ("ECC_SBE", "ecc_sbe_count", number("sbe")),
        "nvlink" => ("NVLINK", "link_id", number("link")),
        "device-error" | "backend-error" => ("DRIVER_ERROR", "", 0),
        other => panic!("a {other} has no event of its own"),
    };
    let metrics = if metric.is_empty() {
        json!({})
    } else {
        json!({ metric: value.to_string() })
    };
    json!({
        "eventType": format!("HEALTH_EVENT_TYPE_{event_type}"),
        "gpuIndex": fields["gpu"].as_i64().unwrap_or(0),
        "metrics": metrics,
    })
}

fn parse(fields: &str) -> Value {
    serde_json::from_str(fields).unwrap_or_else(|error| panic!("{fields}: {error}"))
}

/// Posts JSON; answers the JSON that comes back.
#[track_caller]
fn post(address: &str, path: &str, body: &str) -> Value {
    // The older version, so that the answer comes in one piece.
    let request = format!(
        "POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = raw_http(address, &request);
    let (head, body) = split(&answer);
    assert!(head.contains(" 200 "), "{request}: {answer}");
    parse(body)
}

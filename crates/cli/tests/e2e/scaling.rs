//! Pools that follow a real queue over HTTP, and an operator who chooses another size.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use navarch_time::{Thread, spawn_thread};
use serde_json::Value;

use crate::support::{Fleet, list, text as text_of, until};

/// A queue that answers as told. It ends when this is dropped.
struct Queue {
    address: SocketAddr,
    answer: Arc<Mutex<Option<String>>>,
    _thread: Ended,
}

/// Ends the queue's thread before it is joined.
struct Ended(SocketAddr, Arc<Mutex<Option<String>>>, Option<Thread<()>>);

impl Drop for Ended {
    fn drop(&mut self) {
        *self.1.lock().expect("nobody panics with it") = None;
        // It looks again when somebody calls.
        drop(TcpStream::connect(self.0));
        drop(self.2.take());
    }
}

impl Queue {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let answer = Arc::new(Mutex::new(Some(json(0))));
        let told = Arc::clone(&answer);
        let thread = spawn_thread("queue", move || {
            for stream in listener.incoming() {
                let Some(answer) = told.lock().expect("nobody panics with it").clone() else {
                    return;
                };
                let Ok(mut stream) = stream else { continue };
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                    request.push(byte[0]);
                }
                // Whoever asked may be gone.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        let thread = thread.expect("a thread");
        Self {
            address,
            _thread: Ended(address, Arc::clone(&answer), Some(thread)),
            answer,
        }
    }

    fn answers(&self, answer: String) {
        *self.answer.lock().expect("nobody panics with it") = Some(answer);
    }
}

fn http(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

fn json(depth: u32) -> String {
    http("200 OK", &format!("{{\"queue\": {{\"depth\": {depth}}}}}"))
}

fn config(queue: &Queue) -> String {
    format!(
        "
server:
  heartbeat_interval: 1s
  heartbeat_timeout: 20s
  health_check_interval: 1s
  autoscale_interval: 200ms
guards:
  minimum_life: 0s
providers:
  fake:
    type: fake
    gpu_count: 1
pools:
  p:
    provider: fake
    instance_type: fake-8x
    min_nodes: 0
    max_nodes: 3
    budget: 3
    cooldown: 0s
    autoscaling:
      type: queue
      jobs_per_node: 10
      stabilization: 0s
      source:
        http: {{url: 'http://{}/', pointer: /queue/depth, timeout: 10s}}
",
        queue.address
    )
}

fn sizing(fleet: &Fleet) -> Value {
    fleet.data(&["pool", "explain", "p"])["pools"][0]["sizing"].clone()
}

/// Waits until the size is held for a reason.
fn until_held(fleet: &Fleet, why: &str) {
    until(&format!("the size is held: {why}"), || {
        let sizing = sizing(fleet);
        let held = sizing["held"].as_str().unwrap_or_default();
        let unknown = sizing["recommended_nodes"] == Value::Null;
        (held.contains(why) && unknown)
            .then_some(())
            .ok_or_else(|| sizing.to_string())
    });
}

fn resized(fleet: &Fleet) -> Vec<Value> {
    list(fleet.data(&["events", "--kind=pool.resized"]))
}

#[test]
fn a_pool_follows_a_queue_that_grows_fails_answers_text_and_drains() {
    let queue = Queue::start();
    let mut fleet = Fleet::server(&config(&queue));
    fleet.until_active(0);
    queue.answers(json(25));
    fleet.until_active(3);
    let told = resized(&fleet);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(told[0]["details"]["inputs"], "jobs_per_node=10 queue=25");

    // Whatever it says instead of a number, the size holds and the report says why.
    for (answer, why) in [
        (http("200 OK", "many"), "the answer is not JSON: \"many\""),
        (
            http("200 OK", "{\"queue\": {\"depth\": \"25\"}}"),
            "is text, not a number",
        ),
        (
            http("200 OK", "{\"queue\": {\"depth\": -1}}"),
            "says -1, which is no length",
        ),
        (http("503 Away", "later"), "it answers 503: later"),
        (
            http("200 OK", &"1".repeat(10 << 20)),
            "the answer has more than",
        ),
        (String::new(), "the queue is unknown"),
    ] {
        queue.answers(answer);
        until_held(&fleet, why);
        fleet.until_active(3);
    }
    let said = fleet.ask(&["pool", "explain", "p"]).fine();
    assert!(
        said.contains("asked for by the autoscaler: 25 jobs need 3 machines"),
        "{said}"
    );
    assert!(said.contains("autoscaler queue: the size holds"), "{said}");

    // What was asked for outlives the control plane; nothing moves before the queue is known.
    fleet.server.kill();
    fleet.restart();
    fleet.until_active(3);
    until_held(&fleet, "the queue is unknown");
    assert_eq!(resized(&fleet).len(), 1);

    queue.answers(json(0));
    fleet.until_active(0);
    queue.answers(json(1));
    fleet.until_active(1);
}

#[test]
fn an_operator_chooses_a_size_within_the_bounds() {
    let queue = Queue::start();
    let text = config(&queue);
    let (text, _) = text.split_once("    autoscaling:").expect("it is there");
    let fleet = Fleet::server(text);
    let said = fleet
        .ask(&["pool", "scale", "p", "--nodes=2", "--reason=a deadline"])
        .fine();
    assert_eq!(said, "Pool p: 2 machines asked for, 0 before\n");
    fleet.until_active(2);
    let said = fleet.ask(&["pool", "explain", "p"]).fine();
    assert!(
        said.contains("size: asked for by the operator: a deadline"),
        "{said}"
    );
    for (arguments, code, why) in [
        (
            ["pool", "scale", "p", "--nodes=4"],
            1,
            "pool p has min_nodes 0 and max_nodes 3: 4 is outside",
        ),
        (["pool", "scale", "q", "--nodes=1"], 1, "pool not found: q"),
        (["pool", "scale", "p", "--nodes=-1"], 2, "--nodes"),
        (["pool", "scale", "p", "--nodes=some"], 2, "--nodes"),
    ] {
        let refused = fleet.ask(&arguments).refused(code);
        assert!(refused.contains(why), "{refused}");
    }
    fleet.until_active(2);
    fleet.ask(&["automation", "off"]).fine();
    let told = fleet.ask(&["pool", "scale", "p", "--nodes=1"]);
    assert!(told.err.contains("automation is off"), "{told:?}");
    fleet.ask(&["automation", "on"]).fine();
    fleet.until_active(1);
    let after = fleet.data(&["pool", "scale", "p", "--nodes=0"]);
    assert_eq!(
        (&after["previous_nodes"], &after["nodes"]),
        (&1.into(), &0.into())
    );
    fleet.until_active(0);
    fleet.ask(&["list", "--pool=p"]).fine();
    for list in [&["list", "--pool=q"][..], &["instance", "list", "--pool=q"]] {
        let refused = fleet.ask(list).refused(1);
        assert!(refused.contains("pool not found: q"), "{refused}");
    }
}

/// The next round is an hour away when the file changes: signals are gathered for what is new in it.
#[test]
fn an_autoscaler_that_a_reload_adds_goes_by_signals_at_once() {
    let queue = Queue::start();
    queue.answers(json(25));
    let scaled = config(&queue).replace("autoscale_interval: 200ms", "autoscale_interval: 1h");
    let (plain, _) = scaled.split_once("    autoscaling:").expect("it is there");
    let fleet = Fleet::server(plain);
    fleet.until_active(0);
    let write = |text: &str| {
        std::fs::write(fleet.path().join("navarch.yaml"), text).expect("a file");
    };
    write(&scaled);
    fleet.until_active(3);
    let told = resized(&fleet);
    assert_eq!(told.len(), 1, "{told:#?}");
    // A pool that comes with its autoscaler, and asks the same source.
    let (_, pool) = scaled.split_once("  p:\n").expect("it is there");
    write(&format!("{scaled}  q:\n{pool}"));
    fleet.until_active(6);
    let sizing = &fleet.data(&["pool", "explain", "q"])["pools"][0]["sizing"];
    assert_eq!(sizing["recommended_nodes"], 3, "{sizing}");
}

#[test]
fn labels_of_pools_reach_their_nodes_and_find_them() {
    let pool = |name: &str, labels: &str| {
        format!(
            "  {name}: {{provider: fake, instance_type: fake-8x, min_nodes: 1, max_nodes: 1, labels: {{{labels}}}}}\n"
        )
    };
    let text = format!(
        "
server: {{heartbeat_interval: 1s, heartbeat_timeout: 20s, health_check_interval: 1s}}
providers: {{fake: {{gpu_count: 1}}}}
defaults: {{labels: {{site: north}}}}
pools:
{}{}",
        pool("p", "team: red, tier: 'gold, plated'"),
        pool("q", "team: blue")
    );
    let fleet = Fleet::server(&text);
    let all = fleet.until_active(2);
    let found = |labels: &[&str]| -> Vec<String> {
        let mut arguments = vec!["list"];
        arguments.extend(labels);
        let nodes = list(fleet.data(&arguments));
        nodes.iter().map(|node| text_of(node, "pool")).collect()
    };
    for (labels, pools) in [
        (&["--label=team=red"][..], &["p"][..]),
        (&["--label=team=blue"], &["q"]),
        (&["--label=pool=q"], &["q"]),
        (&["--label=tier=gold, plated"], &["p"]),
        (&["--label=site=north", "--label=team=red"], &["p"]),
        (&["--label=team=red", "--label=pool=q"], &[]),
        (&["--label=team=green"], &[]),
        (&["--label=team=re"], &[]),
    ] {
        assert_eq!(found(labels), pools, "{labels:?}");
    }
    let mut north = found(&["--label=site=north"]);
    north.sort();
    assert_eq!(north, ["p", "q"]);
    // The agent itself says them: its node has them after it registered.
    for id in all {
        let node = fleet.node(&id);
        let labels = &node["metadata"]["labels"];
        assert_eq!(labels["site"], "north", "{node}");
        assert_eq!(labels["pool"], node["pool"], "{node}");
    }
    let nobody = fleet.ask(&["list", "--label=team=green"]);
    assert!(nobody.err.contains("No nodes found"), "{nobody:?}");
}

//! A real server, its machines, and a real receiver of notices that answers, refuses, fails,
//! redirects, hangs and never says that a node is empty.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use navarch_time::Tasks;
use serde_json::{Value, json};

use crate::support::{Fleet, Program, Watch, directory, text, until};

/// What the receiver does with calls of one path.
#[derive(Debug, Clone, Copy)]
enum Does {
    /// Answers with this status.
    Answers(u16),
    /// Leads elsewhere.
    Leads,
    /// Takes the call and says nothing more.
    Hangs,
}

/// A notice as it came.
#[derive(Debug, Clone)]
struct Heard {
    path: String,
    headers: HeaderMap,
    body: Value,
}

impl Heard {
    fn header(&self, name: &str) -> String {
        self.headers[name].to_str().expect("text").to_owned()
    }
}

#[derive(Debug, Default)]
struct Book {
    does: BTreeMap<String, Does>,
    empty: bool,
    notices: Vec<Heard>,
    /// How often it was asked whether a node is empty.
    asked: usize,
}

type Shared = Arc<Mutex<Book>>;

async fn receive(State(book): State<Shared>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let headers = request.headers().clone();
    let body = to_bytes(request.into_body(), 1 << 20)
        .await
        .expect("a body");
    let does = {
        let mut book = open(&book);
        if path == "/status" {
            book.asked += 1;
            let said = json!({"drained": book.empty, "message": "as told"});
            return (StatusCode::OK, said.to_string()).into_response();
        }
        book.notices.push(Heard {
            path: path.clone(),
            headers,
            body: serde_json::from_slice(&body).expect("JSON"),
        });
        book.does.get(&path).copied().unwrap_or(Does::Answers(200))
    };
    match does {
        Does::Answers(status) => {
            let status = StatusCode::from_u16(status).expect("a status");
            (status, "as told").into_response()
        }
        Does::Leads => (StatusCode::FOUND, [("location", "/elsewhere")], "").into_response(),
        Does::Hangs => std::future::pending().await,
    }
}

fn open(book: &Shared) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A receiver in a runtime of its own.
struct Receiver {
    book: Shared,
    url: String,
    _tasks: Tasks,
    _runtime: tokio::runtime::Runtime,
}

impl Receiver {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let book = Shared::default();
        let routes = Router::new()
            .fallback(receive)
            .with_state(Arc::clone(&book));
        let tasks = Tasks::new();
        let url = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
            let listener = listener.expect("a free port");
            let address = listener.local_addr().expect("it is bound");
            tasks.spawn("receiver", async move {
                axum::serve(listener, routes).await.expect("it serves");
            });
            format!("http://{address}")
        });
        Self {
            book,
            url,
            _tasks: tasks,
            _runtime: runtime,
        }
    }

    fn does(&self, path: &str, does: Does) {
        open(&self.book).does.insert(path.to_owned(), does);
    }

    fn says_empty(&self) {
        open(&self.book).empty = true;
    }

    fn notices(&self) -> Vec<Heard> {
        open(&self.book).notices.clone()
    }

    fn paths(&self) -> Vec<String> {
        self.notices().into_iter().map(|one| one.path).collect()
    }

    /// Waits until so many notices came at a path. Answers the last.
    fn until_heard(&self, path: &str, count: usize) -> Heard {
        until(&format!("{count} notices at {path}"), || {
            let all = self.notices();
            let mut here: Vec<Heard> = all.into_iter().filter(|one| one.path == path).collect();
            if here.len() < count {
                return Err(format!("{here:?}"));
            }
            here.truncate(count);
            here.pop().ok_or_else(String::new)
        })
    }
}

/// A fleet of one whose scheduler is the receiver.
fn config(receiver: &Receiver, timeout: &str, call: &str, more: &str) -> String {
    let url = &receiver.url;
    format!(
        "server:
  heartbeat_interval: 500ms
  heartbeat_timeout: 60s
  health_check_interval: 1s
  notifier:
    type: webhook
    timeout: {timeout}
    webhook:
      cordon_url: {url}/cordon
      uncordon_url: {url}/uncordon
      drain_url: {url}/drain
      drain_status_url: {url}/status?cluster=a
      timeout: {call}
      headers: {{X-Site: north}}
      secret_file: secret
planner: {{min_interval: 20ms, full_interval: 1s}}
guards:
  small_fleet_wait: 1s
  stale_report_intervals: 100
  sweep: {{interval: 500ms}}
{more}
providers:
  fake: {{type: fake, gpu_count: 1, requests_per_second: 200}}
pools:
  p: {{provider: fake, instance_type: fake-1x, min_nodes: 1, max_nodes: 2}}
"
    )
}

fn fleet(receiver: &Receiver, timeout: &str, call: &str, more: &str) -> (Fleet, String) {
    let home = directory();
    std::fs::write(home.path().join("secret"), "a secret of this test\n").expect("a file");
    let fleet = Fleet::server_in(home, &config(receiver, timeout, call, more), None);
    let node = fleet.until_active(1).remove(0);
    (fleet, node)
}

fn holds(fleet: &Fleet, node: &str) -> Vec<String> {
    let node = fleet.node(node);
    let holds = node["holds"].as_array().expect("holds");
    holds.iter().map(|hold| text(hold, "name")).collect()
}

#[test]
fn a_command_stands_only_when_the_scheduler_took_it() {
    let receiver = Receiver::start();
    let (fleet, node) = fleet(&receiver, "25s", "10s", "");
    let said = fleet.ask(&["cordon", &node, "--reason=fan"]).fine();
    assert!(said.contains("cordoned"), "{said}");
    let heard = receiver.until_heard("/cordon", 1);
    assert_eq!(heard.body["event"], "cordon");
    assert_eq!(heard.body["node_id"], node.as_str());
    assert_eq!(heard.body["reason"], "fan");
    assert_eq!(heard.header("x-site"), "north");
    assert!(heard.header("navarch-signature").starts_with("v2="));
    fleet.ask(&["uncordon", &node]).fine();
    assert_eq!(receiver.paths(), ["/cordon", "/uncordon"]);
    assert_eq!(holds(&fleet, &node), [""; 0]);

    for (does, words) in [
        (
            Does::Answers(409),
            "failed to cordon node: webhook returned 409: as told",
        ),
        (
            Does::Leads,
            "failed to cordon node: webhook returned 302:  (redirects are not followed",
        ),
        (
            Does::Answers(500),
            "failed to cordon node: webhook returned 500: as told",
        ),
        (Does::Hangs, "failed to cordon node: no answer within 10 s"),
    ] {
        let before = receiver.paths().len();
        receiver.does("/cordon", does);
        let said = fleet.ask(&["cordon", &node]).refused(1);
        assert!(said.contains(words), "{does:?}: {said}");
        assert_eq!(holds(&fleet, &node), [""; 0], "{does:?}");
        let refused = matches!(does, Does::Answers(409) | Does::Leads);
        if !refused {
            // The receiver may have acted: it hears the opposite until it takes it.
            let undone = |receiver: &Receiver| {
                let paths = receiver.paths();
                (paths[before..] == ["/cordon", "/uncordon"])
                    .then_some(())
                    .ok_or(format!("{paths:?}"))
            };
            until("it is undone", || undone(&receiver));
        }
        let heard = receiver.paths().split_off(before);
        let expected: &[&str] = if refused {
            &["/cordon"]
        } else {
            &["/cordon", "/uncordon"]
        };
        assert_eq!(heard, expected, "{does:?}");
        until("nothing waits", || {
            let page = crate::support::raw_http(
                fleet.server.address(),
                "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            );
            page.contains("\nnavarch_notices 0\n")
                .then_some(())
                .ok_or(page)
        });
    }
    assert!(!fleet.server.output().contains("a secret of this test"));
}

#[test]
fn a_later_command_is_not_undone_by_an_earlier_one_that_fails() {
    let receiver = Receiver::start();
    let (fleet, node) = fleet(&receiver, "25s", "10s", "");
    receiver.does("/cordon", Does::Hangs);
    let server = ("NAVARCH_SERVER", fleet.server.url.as_str());
    let mut first = Program::launch(fleet.path(), &[server], &["cordon", &node]);
    receiver.until_heard("/cordon", 1);
    // It waits for its turn, and stands when the first is taken back.
    fleet.ask(&["drain", &node]).fine();
    assert_eq!(first.ended(), Some(1));
    assert!(first.output().contains("no answer within 10 s"));
    assert_eq!(holds(&fleet, &node), ["operator:drain"]);
    assert_eq!(receiver.paths(), ["/cordon", "/drain"]);
    let sequence = |heard: &Heard| heard.header("navarch-notice-sequence").parse::<u64>();
    let all = receiver.notices();
    assert!(sequence(&all[0]).expect("a number") < sequence(&all[1]).expect("a number"));
}

#[test]
fn what_was_not_answered_goes_out_after_the_start_with_the_same_key() {
    let receiver = Receiver::start();
    let (mut fleet, node) = fleet(&receiver, "25s", "20s", "");
    receiver.does("/drain", Does::Hangs);
    let server = ("NAVARCH_SERVER", fleet.server.url.as_str());
    let arguments = ["drain", node.as_str(), "--reason=fan"];
    let mut caller = Program::launch(fleet.path(), &[server], &arguments);
    let first = receiver.until_heard("/drain", 1);
    fleet.server.kill();
    assert_ne!(caller.ended(), Some(0), "nobody told it that it is done");
    receiver.does("/drain", Does::Answers(200));
    fleet.restart();
    let again = receiver.until_heard("/drain", 2);
    for name in ["idempotency-key", "navarch-notice-sequence"] {
        assert_eq!(first.header(name), again.header(name));
    }
    assert_eq!(first.body, again.body);
    fleet.until_status(&node, "DRAINING");
    assert_eq!(holds(&fleet, &node), ["operator:drain"]);
    until("the command is done", || {
        let told = fleet.ask(&["explain", "node", &node]).fine();
        let done = told.contains("the scheduler took drain: fan");
        done.then_some(()).ok_or(told)
    });
    fleet.ask(&["uncordon", &node]).fine();
    assert_eq!(receiver.paths(), ["/drain", "/drain", "/uncordon"]);
}

#[test]
fn a_broken_machine_goes_when_the_scheduler_says_that_it_is_empty() {
    let receiver = Receiver::start();
    let (fleet, node) = fleet(&receiver, "25s", "10s", "");
    // The scheduler is away at first.
    receiver.does("/drain", Does::Answers(503));
    fleet
        .ask(&["dev", "inject", &node, "xid", "--code=79"])
        .fine();
    let drain = receiver.until_heard("/drain", 2);
    assert_eq!(drain.body["event"], "drain");
    assert_eq!(
        open(&receiver.book).asked,
        0,
        "it does not know of the drain"
    );
    receiver.does("/drain", Does::Answers(200));
    until("it is asked", || {
        let asked = open(&receiver.book).asked;
        (asked >= 2).then_some(()).ok_or(format!("{asked}"))
    });
    let shown = fleet.node(&node);
    assert_ne!(shown["status"], "NODE_STATUS_TERMINATED", "{shown}");
    receiver.says_empty();
    fleet.until_status(&node, "TERMINATED");
    let told = fleet.ask(&["explain", "node", &node]).fine();
    assert!(
        told.contains("the scheduler says that the node is empty"),
        "{told}"
    );
    let now = fleet.until_active(1);
    assert_ne!(now[0], node);
    let resumed = receiver
        .paths()
        .into_iter()
        .filter(|path| path == "/uncordon");
    assert_eq!(resumed.count(), 0, "a machine that is gone is not resumed");
}

#[test]
fn a_drain_that_never_ends_is_over_at_its_deadline() {
    let receiver = Receiver::start();
    let guards = "  drain_deadline: {unhealthy: 6s}";
    let (fleet, node) = fleet(&receiver, "25s", "10s", guards);
    let watch = Watch::start();
    fleet
        .ask(&["dev", "inject", &node, "xid", "--code=79"])
        .fine();
    fleet.until_status(&node, "TERMINATED");
    assert!(watch.took().as_secs() >= 6, "{:?}", watch.took());
    let told = fleet.ask(&["explain", "node", &node]).fine();
    assert!(told.contains("its deadline passed after"), "{told}");
}

#[test]
fn a_notifier_that_is_configured_later_hears_what_stands() {
    let receiver = Receiver::start();
    let (fleet, node) = fleet(&receiver, "25s", "10s", "");
    let file = fleet.path().join("navarch.yaml");
    let with = std::fs::read_to_string(&file).expect("the file");
    let without = with.replace("type: webhook", "type: noop");
    std::fs::write(&file, without).expect("a file");
    let page = |what: &str| {
        until(what, || {
            let said = fleet.server.output();
            said.contains(what).then_some(()).ok_or(said)
        });
    };
    page("server.notifier.type: webhook -> noop");
    fleet.ask(&["cordon", &node, "--reason=fan"]).fine();
    assert_eq!(receiver.paths(), [""; 0]);
    std::fs::write(&file, with).expect("a file");
    let heard = receiver.until_heard("/cordon", 1);
    assert_eq!(heard.body["reason"], "fan");
    fleet.ask(&["uncordon", &node]).fine();
    assert_eq!(receiver.paths(), ["/cordon", "/uncordon"]);
}

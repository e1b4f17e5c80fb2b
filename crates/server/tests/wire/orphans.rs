//! Machines that no record knows, over the wire: listed, adopted, ended, and refused. The cloud is
//! a page of this test's own making.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use navarch_config::Config;
use navarch_model::{CapacityKind, CloudStatus};
use navarch_providers::fake::{InstanceView, Page};
use navarch_time::Tasks;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::agents::Agent;
use crate::support::plane::{Plane, no_token};
use crate::support::rpc::Flavour;

const LIST: &str = "FleetService/ListUnclaimed";
const ADOPT: &str = "FleetService/AdoptInstance";
const END: &str = "FleetService/TerminateInstance";

/// A cloud with a list of machines that a test writes. Whatever is ended leaves the list.
#[derive(Clone, Default)]
struct Cloud(Arc<Mutex<Vec<InstanceView>>>);

/// A control plane that asks for no machine, its cloud, and the id of its fleet.
struct World {
    plane: Plane,
    cloud: Cloud,
    fleet: String,
    _serving: Tasks,
}

impl Cloud {
    /// Puts a machine with the tag of a fleet into the list.
    fn add(&self, fleet: &str, machine: &str, instance: Option<&str>) {
        let mut tags = vec![("navarch-fleet".to_owned(), fleet.to_owned())];
        if let Some(instance) = instance {
            tags.push(("navarch-instance".to_owned(), instance.to_owned()));
        }
        let view = InstanceView {
            id: machine.to_owned(),
            name: instance.unwrap_or(machine).to_owned(),
            client_token: String::new(),
            tags: tags.into_iter().collect(),
            region: "west".to_owned(),
            zone: String::new(),
            instance_type: "fake-8x".to_owned(),
            capacity: CapacityKind::OnDemand,
            interruption_at: None,
            status: CloudStatus::Running,
            created_at: 0,
        };
        self.0.lock().expect("no panic").push(view);
    }

    fn machines(&self) -> Vec<String> {
        let machines = self.0.lock().expect("no panic");
        machines.iter().map(|view| view.id.clone()).collect()
    }

    async fn answer(self, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match stream.read(&mut byte).await {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut words = head.split_whitespace();
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let id = path
            .strip_prefix("/v1/instances/")
            .map(|id| id.split('?').next().unwrap_or(id));
        let (status, body) = self.act(method, path, id);
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        );
        // A caller that is gone needs no answer.
        drop(stream.write_all(answer.as_bytes()).await);
    }

    fn act(&self, method: &str, path: &str, id: Option<&str>) -> (&'static str, String) {
        let mut machines = self.0.lock().expect("no panic");
        match (method, id) {
            ("GET", Some(id)) => match machines.iter().find(|view| view.id == id) {
                Some(view) => ("200 OK", json!(view).to_string()),
                None => ("404 Not Found", not_found()),
            },
            ("GET", None) => {
                let name = path
                    .split_once("name=")
                    .and_then(|(_, name)| name.split('&').next());
                let instances = machines
                    .iter()
                    .filter(|view| name.is_none_or(|name| view.name == name))
                    .cloned()
                    .collect();
                let page = Page {
                    instances,
                    next_page_token: String::new(),
                };
                ("200 OK", json!(page).to_string())
            }
            ("DELETE", Some(id)) => {
                let before = machines.len();
                machines.retain(|view| view.id != id);
                let gone = machines.len() == before;
                let answer = if gone { "gone" } else { "accepted" };
                ("200 OK", json!({ "answer": answer }).to_string())
            }
            _ => ("404 Not Found", not_found()),
        }
    }
}

fn not_found() -> String {
    json!({"error": {"kind": "not_found", "message": "no such machine"}}).to_string()
}

async fn with_cloud() -> World {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let cloud = Cloud::default();
    let tasks = Tasks::new();
    let (serving, connections) = (cloud.clone(), tasks.spawner());
    tasks.spawn("cloud", async move {
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn("connection", serving.clone().answer(stream));
        }
    });
    let plane = Plane::with(|config, home| {
        let file = home.path().join("config.yaml");
        let text = format!(
            "guards: {{sweep: {{interval: 2s}}}}\n\
             providers:\n  fake: {{url: \"{url}\", gpu_count: 1, request_timeout: 10m}}\n\
             \x20 idle: {{type: fake}}\n\
             pools:\n  p: {{provider: fake, region: west, instance_type: fake-8x, max_nodes: 2}}\n\
             \x20 q: {{provider: idle, instance_type: fake-8x, max_nodes: 2}}\n"
        );
        std::fs::write(&file, text).expect("a file");
        let (loaded, _) = Config::load(&file).expect("it is sound");
        *config = loaded;
        config.server.address = "127.0.0.1:0".to_owned();
        config.server.auth = no_token();
        config.store.data_dir = home.path().join("data");
    })
    .await;
    let info = plane.ok("FleetService/GetServerInfo", json!({})).await;
    let fleet = info["fleetId"].as_str().expect("an id").to_owned();
    World {
        plane,
        cloud,
        fleet,
        _serving: tasks,
    }
}

async fn listed(plane: &Plane) -> Vec<Value> {
    let answer = plane.ok(LIST, json!({})).await;
    answer["machines"].as_array().cloned().unwrap_or_default()
}

/// Waits until so many machines are shown as unclaimed.
async fn until_listed(plane: &Plane, count: usize) -> Vec<Value> {
    plane
        .until("unclaimed machines", async || {
            let found = listed(plane).await;
            (found.len() == count).then_some(found)
        })
        .await
}

#[tokio::test]
async fn a_machine_of_ours_is_adopted_and_one_of_another_fleet_is_never_shown() {
    for flavour in [Flavour::ConnectJson, Flavour::Grpc] {
        let World {
            plane,
            cloud,
            fleet,
            _serving,
        } = with_cloud().await;
        cloud.add("another-fleet", "m-theirs", Some("nv-theirs"));
        cloud.add(&fleet, "m-1", Some("nv-lost"));
        let found = until_listed(&plane, 1).await.remove(0);
        assert_eq!(
            (
                &found["provider"],
                &found["providerInstanceId"],
                &found["instanceId"]
            ),
            (&json!("fake"), &json!("m-1"), &json!("nv-lost"))
        );
        for (provider, count) in [("fake", 1), ("idle", 0)] {
            let answer = plane.ok(LIST, json!({"provider": provider})).await;
            let machines = answer["machines"].as_array().map_or(0, Vec::len);
            assert_eq!(machines, count, "{provider}");
        }
        let request = json!({
            "provider": "fake", "providerInstanceId": "m-1", "pool": "p", "reason": "ours",
        });
        let adopted = plane.call_by(flavour, ADOPT, &request).await;
        let adopted = adopted.unwrap_or_else(|error| panic!("{flavour:?}: {error:?}"));
        let instance = &adopted["instance"];
        assert_eq!(instance["instanceId"], "nv-lost", "{instance}");
        assert_eq!(instance["poolName"], "p", "{instance}");
        assert_eq!(listed(&plane).await, Vec::<Value>::new());
        let refused = plane.refused(ADOPT, request).await;
        assert_eq!(
            refused,
            "already_exists: m-1 of fake is claimed already: it is instance nv-lost of pool p"
        );
        let told = plane.events_after(0).await;
        let line = "instance.phase: adopted m-1 of fake: claimed by an operator: ours";
        assert!(told.iter().any(|told| told == line), "{told:#?}");
        // Its agent speaks, and it is a machine like any other.
        let agent = Agent::new("n");
        let mut registration = agent.registration();
        registration["instanceId"] = json!("nv-lost");
        plane.ok("RegisterNode", registration).await;
        let running = plane
            .ok("GetInstance", json!({"instanceId": "nv-lost"}))
            .await;
        assert_eq!(running["instance"]["state"], "INSTANCE_STATE_RUNNING");
        assert_eq!(cloud.machines(), ["m-theirs", "m-1"]);
    }
}

#[tokio::test]
async fn a_person_ends_a_machine_that_nobody_claims_and_one_on_record() {
    for flavour in [Flavour::ConnectJson, Flavour::Grpc] {
        let World {
            plane,
            cloud,
            fleet,
            _serving,
        } = with_cloud().await;
        cloud.add(&fleet, "m-1", Some("nv-lost"));
        cloud.add(&fleet, "m-2", None);
        until_listed(&plane, 2).await;
        // Nothing happens to them by themselves.
        plane.pass(Duration::from_secs(20)).await;
        assert_eq!(listed(&plane).await.len(), 2);
        assert_eq!(cloud.machines(), ["m-1", "m-2"]);
        let request = json!({
            "provider": "fake", "providerInstanceId": "m-1", "reason": "not ours",
        });
        let ended = plane.call_by(flavour, END, &request).await;
        let ended = ended.unwrap_or_else(|error| panic!("{flavour:?}: {error:?}"));
        assert_eq!(ended["instance"]["state"], "INSTANCE_STATE_TERMINATING");
        // By the id of a record: the other one, adopted first.
        let request = json!({"provider": "fake", "providerInstanceId": "m-2", "pool": "p"});
        let adopted = plane.ok(ADOPT, request).await;
        let id = adopted["instance"]["instanceId"].clone();
        let ended = plane
            .call_by(flavour, END, &json!({"instanceId": id}))
            .await;
        let ended = ended.unwrap_or_else(|error| panic!("{flavour:?}: {error:?}"));
        assert_eq!(ended["instance"]["state"], "INSTANCE_STATE_TERMINATING");
        for id in [json!("nv-lost"), id] {
            let asked = json!({"instanceId": id});
            plane
                .until("the machine is gone", async || {
                    let shown = plane.ok("GetInstance", asked.clone()).await;
                    let state = shown["instance"]["state"].clone();
                    (state == "INSTANCE_STATE_TERMINATED").then_some(())
                })
                .await;
            let refused = plane.refused(END, asked).await;
            assert!(
                refused.starts_with("failed_precondition: instance ")
                    && refused.ends_with(" is terminated: its machine is gone"),
                "{refused}"
            );
        }
        assert_eq!(cloud.machines(), Vec::<String>::new());
        assert_eq!(listed(&plane).await, Vec::<Value>::new());
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let World {
        plane,
        cloud,
        fleet,
        _serving,
    } = with_cloud().await;
    cloud.add(&fleet, "m-1", Some("nv-lost"));
    until_listed(&plane, 1).await;
    let long = "x".repeat(10_000);
    let adopt = |provider: &str, machine: &str, pool: &str| json!({"provider": provider, "providerInstanceId": machine, "pool": pool});
    let mut with_reason = adopt("fake", "m-1", "p");
    with_reason["reason"] = json!(long);
    let rows = [
        (ADOPT, adopt("", "m-1", "p"), "invalid_argument: provider"),
        (
            ADOPT,
            adopt("fake", "", "p"),
            "invalid_argument: provider_instance_id",
        ),
        (ADOPT, adopt("fake", "m-1", ""), "invalid_argument: pool"),
        (
            ADOPT,
            adopt("fake", "m\u{0}1", "p"),
            "invalid_argument: provider_instance_id",
        ),
        (
            ADOPT,
            adopt("fake", &long, "p"),
            "invalid_argument: provider_instance_id",
        ),
        (
            ADOPT,
            adopt("fake", "m-1", "../p"),
            "invalid_argument: pool",
        ),
        (
            ADOPT,
            adopt("fake", "m-1", "none"),
            "not_found: pool not found: none",
        ),
        (
            ADOPT,
            adopt("none", "m-1", "p"),
            "not_found: provider not found: none",
        ),
        (
            ADOPT,
            adopt("fake", "m-9", "p"),
            "not_found: no listing of fake shows",
        ),
        (
            ADOPT,
            adopt("fake", "m-1", "q"),
            "failed_precondition: m-1 is a machine of fake, and pool q buys at idle",
        ),
        (ADOPT, with_reason, "invalid_argument: reason"),
        (END, json!({}), "invalid_argument: "),
        (
            END,
            json!({"instanceId": "nobody"}),
            "not_found: instance not found: nobody",
        ),
        (
            END,
            json!({"instanceId": "a\u{0}"}),
            "invalid_argument: instance_id",
        ),
        (END, json!({"provider": "fake"}), "invalid_argument: "),
        (
            END,
            json!({"providerInstanceId": "m-1"}),
            "invalid_argument: ",
        ),
        (
            END,
            json!({"instanceId": "nv-lost", "provider": "fake", "providerInstanceId": "m-1"}),
            "invalid_argument: ",
        ),
        (
            END,
            json!({"provider": "fake", "providerInstanceId": "m-9"}),
            "not_found: no listing of fake shows",
        ),
        (
            END,
            json!({"provider": "none", "providerInstanceId": "m-1"}),
            "not_found: provider not found: none",
        ),
        (
            LIST,
            json!({"provider": "a\u{0}b"}),
            "invalid_argument: provider",
        ),
    ];
    let before = plane.state().await;
    for (method, request, begins) in rows {
        for flavour in [Flavour::ConnectJson, Flavour::Grpc] {
            let outcome = plane.call_by(flavour, method, &request).await;
            let (code, message) = match outcome {
                Err(refusal) => refusal,
                Ok(answer) => panic!("{flavour:?} {method} {request} was accepted: {answer}"),
            };
            let said = format!("{code}: {message}");
            assert!(
                said.starts_with(begins),
                "{flavour:?} {method} {request}: {said}"
            );
            assert!(
                said.len() < 600,
                "{flavour:?} {method}: {} bytes",
                said.len()
            );
        }
    }
    assert_eq!(plane.state().await, before);
    assert_eq!(listed(&plane).await.len(), 1);
    assert_eq!(cloud.machines(), ["m-1"]);
}

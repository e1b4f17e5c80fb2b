//! A control plane that is away for longer than the heartbeat timeout: its machines live on in
//! a cloud of their own, and nothing is destroyed or bought when it returns.

use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Fleet, Program, directory, let_pass, list, raw_http, runs, split, text, until,
};

const TIMEOUT: Duration = Duration::from_secs(6);

fn config(cloud: &str) -> String {
    format!(
        "
server:
  heartbeat_interval: 1s
  heartbeat_timeout: 6s
  health_check_interval: 1s
guards:
  silence_replace_after: 4s
  small_fleet_wait: 1s
  sweep:
    interval: 1s
providers:
  fake:
    type: fake
    url: {cloud}
pools:
  p:
    provider: fake
    instance_type: fake-8x
    min_nodes: 3
    max_nodes: 6
"
    )
}

/// What the cloud itself says of its machines.
fn inventory(cloud: &Program) -> Vec<(String, String)> {
    let address = cloud.address();
    let request =
        format!("GET /v1/instances HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let answer = raw_http(address, &request);
    let (_, body) = split(&answer);
    // The body may come in chunks, whose sizes stand outside of the object.
    let object = body
        .find('{')
        .zip(body.rfind('}'))
        .map(|(from, to)| &body[from..=to]);
    let page: Value =
        serde_json::from_str(object.unwrap_or_default()).unwrap_or_else(|_| panic!("{answer}"));
    let machines = page["instances"].as_array().expect("machines");
    let shown = |machine: &Value| (text(machine, "name"), text(machine, "status"));
    machines.iter().map(shown).collect()
}

#[test]
fn nothing_is_destroyed_or_bought_when_the_control_plane_returns() {
    let place = directory();
    let cloud = Program::start(
        place.path(),
        &[],
        &["fake-cloud", "--listen=127.0.0.1:0", "--data-dir=cloud"],
    );
    let mut fleet = Fleet::server_in(place, &config(&cloud.url), None);
    let nodes = fleet.until_active(3);
    let machines = list(fleet.data(&["instance", "list"]));
    let ids = |machines: &[Value]| -> Vec<(String, String)> {
        machines
            .iter()
            .map(|machine| {
                (
                    text(machine, "instance_id"),
                    text(machine, "provider_instance_id"),
                )
            })
            .collect()
    };
    let bought = inventory(&cloud);
    assert_eq!(bought.len(), 3, "{bought:?}");
    let agents = fleet.agents();

    for end in ["SIGKILL", "SIGTERM"] {
        let last = last_sequence(&fleet);
        if end == "SIGKILL" {
            fleet.server.kill();
        } else {
            assert_eq!(fleet.server.terminate().0, Some(0));
        }
        let_pass(TIMEOUT + Duration::from_secs(1));
        assert!(agents.iter().all(|(_, pid)| runs(*pid)), "after {end}");
        fleet.restart();
        // Long enough for every timer to have run out had nobody been heard.
        let_pass(TIMEOUT + Duration::from_secs(1));
        let active = fleet.until_active(3);
        assert_eq!(active, nodes, "after {end}: {:#?}", fleet.events());
        let now = list(fleet.data(&["instance", "list"]));
        assert_eq!(ids(&now), ids(&machines), "after {end}");
        assert_eq!(inventory(&cloud), bought, "after {end}");
        assert_eq!(fleet.agents(), agents, "the agents run on after {end}");
        assert_eq!(fleet.open_incidents(), Vec::<Value>::new(), "after {end}");
        for event in fleet.events() {
            if event["sequence"].as_u64() > Some(last) {
                let kind = text(&event, "kind");
                let destroys = ["drain.started", "instance.phase", "incident.opened"];
                assert!(!destroys.contains(&kind.as_str()), "after {end}: {event}");
            }
        }
    }
}

fn last_sequence(fleet: &Fleet) -> u64 {
    let events = fleet.events();
    events
        .last()
        .and_then(|event| event["sequence"].as_u64())
        .expect("an event")
}

#[test]
fn a_machine_that_dies_while_the_control_plane_is_away_is_found_and_replaced() {
    let place = directory();
    let cloud = Program::start(
        place.path(),
        &[],
        &["fake-cloud", "--listen=127.0.0.1:0", "--data-dir=cloud"],
    );
    let mut fleet = Fleet::server_in(place, &config(&cloud.url), None);
    let nodes = fleet.until_active(3);
    let machines = list(fleet.data(&["instance", "list"]));
    let lost = text(&machines[0], "instance_id");
    let theirs = text(&machines[0], "provider_instance_id");
    fleet.server.kill();
    let address = cloud.address();
    let answer = raw_http(
        address,
        &format!(
            "DELETE /v1/instances/{theirs} HTTP/1.1\r\nHost: {address}\r\n\
             Connection: close\r\n\r\n"
        ),
    );
    assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
    fleet.restart();
    fleet.until_status(&lost, "TERMINATED");
    let now = fleet.until_active(3);
    let kept: Vec<&String> = nodes.iter().filter(|id| **id != lost).collect();
    assert!(kept.iter().all(|id| now.contains(id)), "{kept:?} {now:?}");
    until("the cloud runs three machines", || {
        let running = inventory(&cloud)
            .into_iter()
            .filter(|(_, status)| status == "running")
            .count();
        (running == 3)
            .then_some(())
            .ok_or_else(|| format!("{:?}", inventory(&cloud)))
    });
}

//! A pool over two clouds and three regions: one is sold out, one is too dear, one takes its spot
//! machine back, and one recovers.

use serde_json::{Value, json};

use crate::support::{Fleet, Program, directory, list, raw_http, split, text, until};

fn config(east: &str, west: &str) -> String {
    format!(
        "server:
  heartbeat_interval: 1s
  heartbeat_timeout: 5s
  health_check_interval: 1s
instance_manager:
  spot_check_interval: 500ms
guards:
  price_max_age: 10s
  launch_breaker: {{wait: 1s, max_wait: 2s}}
  sweep:
    interval: 1s
providers:
  east: {{type: fake, url: '{east}', gpu_count: 2}}
  west: {{type: fake, url: '{west}', gpu_count: 2}}
pools:
  main:
    strategy: cost
    instance_type: gpu
    max_price: 5
    min_nodes: 1
    max_nodes: 3
    providers:
      - {{name: east, regions: [r1, r2]}}
      - {{name: west, regions: [r3], capacity: spot}}
"
    )
}

/// A fake cloud of its own.
struct Cloud {
    program: Program,
    _home: tempfile::TempDir,
}

impl Cloud {
    fn start() -> Self {
        let home = directory();
        let arguments = ["fake-cloud", "--listen=127.0.0.1:0", "--data-dir=cloud"];
        Self {
            program: Program::start(home.path(), &[], &arguments),
            _home: home,
        }
    }

    /// Sends an order and answers what came back.
    fn send(&self, method: &str, path: &str, body: &Value) -> String {
        let body = body.to_string();
        let address = self.program.address();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let answer = raw_http(address, &request);
        let (head, body) = split(&answer);
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        body.to_owned()
    }

    /// What it sells: region, price, machines at most, and how firmly.
    fn sells(&self, products: &[(&str, &str, Option<u32>, &str)]) {
        let products: Vec<Value> = products
            .iter()
            .map(|(region, price, machines, capacity)| {
                json!({"region": region, "instance_type": "gpu", "price": price,
                       "machines": machines, "capacity": capacity})
            })
            .collect();
        self.send("PUT", "/v1/market", &json!({"products": products}));
    }
}

/// Why each offering is not asked, or its place in the order.
fn standings(fleet: &Fleet) -> Vec<String> {
    let plan = fleet.data(&["pool", "explain", "main"]);
    let offerings = list(plan["pools"][0]["offerings"].clone());
    offerings
        .iter()
        .map(|of| match of["rank"].as_u64() {
            Some(0) | None => format!("{} {}", text(of, "offering"), text(of, "guard")),
            Some(rank) => format!("{} {rank}", text(of, "offering")),
        })
        .collect()
}

fn until_standings(fleet: &Fleet, expected: &[&str]) {
    until("the offerings stand so", || {
        let found = standings(fleet);
        (found == expected)
            .then_some(())
            .ok_or(format!("{found:?}"))
    });
}

#[test]
fn a_pool_buys_where_there_is_some_at_its_price_and_moves_when_that_changes() {
    let (east, west) = (Cloud::start(), Cloud::start());
    let firm = "on_demand";
    east.sells(&[("r1", "1.50", Some(0), firm), ("r2", "9", None, firm)]);
    west.sells(&[("r3", "2.25", None, "spot")]);
    let fleet = Fleet::server(&config(&east.program.url, &west.program.url));
    let first = fleet.until_active(1).remove(0);
    let bought = fleet.data(&["instance", "get", &first]);
    assert_eq!(text(&bought, "provider"), "west");
    assert_eq!(text(&bought, "region"), "r3");
    until_standings(
        &fleet,
        &[
            "east/r1/gpu listing",
            "east/r2/gpu max_price",
            "west/r3/gpu/spot 1",
        ],
    );
    let told = fleet.ask(&["pool", "explain", "main"]).fine();
    for line in [
        "Offerings by cost:",
        "listing: the cloud lists east/r1/gpu as sold out",
        "max_price: east/r2/gpu costs $9.00/h; max_price is $5.00/h",
        "$2.25/h",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }

    // The spot machine is taken back, the spot market is empty, and the first region has machines
    // again: the fleet hears of it by itself.
    east.sells(&[("r1", "1.50", Some(2), firm), ("r2", "9", None, firm)]);
    west.sells(&[("r3", "2.25", Some(0), "spot")]);
    let order = json!({"fault": "interrupt", "instance": first, "notice_seconds": 1});
    let ordered = west.send("POST", "/v1/faults", &order);
    assert!(ordered.contains("\"at\":"), "{ordered}");
    let second = until("another machine takes its place", || {
        let active: Vec<String> = fleet
            .nodes()
            .iter()
            .filter(|node| node["status"] == "NODE_STATUS_ACTIVE")
            .map(|node| text(node, "node_id"))
            .filter(|id| *id != first)
            .collect();
        active
            .first()
            .cloned()
            .ok_or(format!("{:?}", standings(&fleet)))
    });
    let bought = fleet.data(&["instance", "get", &second]);
    assert_eq!(text(&bought, "provider"), "east");
    assert_eq!(text(&bought, "region"), "r1");
    fleet.until_status(&first, "TERMINATED");
}

#[test]
fn a_total_stock_out_says_why_not_everywhere_and_ends_by_itself() {
    let (east, west) = (Cloud::start(), Cloud::start());
    let firm = "on_demand";
    east.sells(&[("r1", "1", Some(0), firm), ("r2", "1", Some(0), firm)]);
    west.sells(&[("r3", "1", Some(0), "spot")]);
    let config = config(&east.program.url, &west.program.url)
        .replace("strategy: cost", "strategy: priority")
        .replace("    max_price: 5\n", "");
    let fleet = Fleet::server(&config);
    until("each offering refused", || {
        let plan = fleet.data(&["pool", "explain", "main"]);
        // Before the first plan there is no report.
        let offerings = plan["pools"][0]["offerings"].as_array().cloned();
        let offerings = offerings.unwrap_or_default();
        let refused = offerings.iter().all(|of| of["refusals"].as_u64() > Some(0));
        (offerings.len() == 3 && refused)
            .then_some(())
            .ok_or(plan.to_string())
    });
    west.sells(&[("r3", "1", None, "spot")]);
    let node = fleet.until_active(1).remove(0);
    let bought = fleet.data(&["instance", "get", &node]);
    assert_eq!(text(&bought, "region"), "r3");
}

#[test]
fn a_spot_machine_is_replaced_before_its_cloud_takes_it_back() {
    let (east, west) = (Cloud::start(), Cloud::start());
    east.sells(&[]);
    west.sells(&[("r3", "2", None, "spot")]);
    let mut fleet = Fleet::server(&config(&east.program.url, &west.program.url));
    let first = fleet.until_active(1).remove(0);
    assert_eq!(
        fleet.data(&["instance", "get", &first])["interruption_at"],
        Value::Null
    );
    let order = json!({"fault": "interrupt", "instance": first, "notice_seconds": 25});
    west.send("POST", "/v1/faults", &order);
    let drained = fleet.until_status(&first, "DRAINING");
    assert_eq!(
        text(&list(drained["holds"].clone())[0], "name"),
        "drain:interruption"
    );
    let record = fleet.data(&["instance", "get", &first]);
    let at = text(&record, "interruption_at");
    assert!(!at.is_empty(), "{record}");
    // The notice is on record: another control plane goes on with it.
    fleet.server.kill();
    fleet.restart();
    until("its replacement serves while it is there", || {
        let nodes = fleet.nodes();
        let status = |id: &str| {
            let node = nodes.iter().find(|node| text(node, "node_id") == id);
            node.map(|node| text(node, "status")).unwrap_or_default()
        };
        let other = nodes.iter().map(|node| text(node, "node_id"));
        let mut other = other.filter(|id| *id != first);
        let serves = other.any(|id| status(&id) == "NODE_STATUS_ACTIVE");
        (serves && status(&first) == "NODE_STATUS_DRAINING")
            .then_some(())
            .ok_or(format!("{nodes:?}"))
    });
    assert_eq!(
        text(&fleet.data(&["instance", "get", &first]), "interruption_at"),
        at
    );
    let told = fleet.ask(&["explain", "node", &first]).fine();
    for line in [
        "instance.interruption",
        "the cloud takes the machine back in",
        "drain.started",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    let plan = fleet.ask(&["pool", "explain", "main"]).fine();
    assert!(
        plan.contains("its cloud has yet to take the machine back"),
        "{plan}"
    );
    fleet.until_status(&first, "TERMINATED");
    assert_eq!(fleet.open_incidents(), [Value::Null; 0]);
    let events = fleet.events();
    let told = |kind: &str| events.iter().filter(|event| event["kind"] == kind).count();
    assert_eq!(told("instance.interruption"), 1, "{events:?}");
    assert_eq!(told("node.silent"), 0, "{events:?}");
}

//! What programs read: every command answers in the format that was asked for.

use serde_json::{Value, json};

use crate::support::{Fleet, Said, run, text};

/// Asks in JSON; the answer must be one value and nothing else.
#[track_caller]
fn json_of(said: Said) -> Value {
    let text = said.fine();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn every_command_that_answers_does_so_for_programs() {
    let fleet = Fleet::dev(&["--nodes=1"]);
    let node = fleet.until_active(1).remove(0);
    fleet
        .ask(&["dev", "inject", &node, "thermal", "--temperature=90"])
        .fine();
    fleet.until_status(&node, "ACTIVE");
    std::fs::write(
        fleet.path().join("policy.yaml"),
        "version: v1\nrules:\n  - name: a\n    condition: \"true\"\n    result: healthy\n",
    )
    .expect("a file");
    let open = crate::support::until("the incident is open", || {
        fleet
            .open_incidents()
            .first()
            .cloned()
            .ok_or_else(|| "none".to_owned())
    });
    let incident = text(&open, "incident_id");
    // Each with a path into the answer and what must be there; null for any value.
    let any = Value::Null;
    let node_value = json!(node);
    let cases: &[(&[&str], &str, &Value)] = &[
        (&["version"], "/version", &any),
        (&["list"], "/0/node_id", &node_value),
        (&["get", &node], "/node_id", &node_value),
        (&["instance", "list"], "/0/instance_id", &any),
        (&["instance", "get", &node], "/instance_id", &node_value),
        (&["incident", "list"], "/0/incident_id", &any),
        (&["incident", "get", &incident], "/node_id", &node_value),
        (&["events", "--limit=3"], "/2/kind", &any),
        (&["explain", "node", &node], "/node/node_id", &node_value),
        (
            &["pool", "list"],
            "/0/automation",
            &json!("AUTOMATION_MODE_ON"),
        ),
        (&["pool", "explain"], "/pools/0/guards", &any),
        (
            &["automation"],
            "/pools/0/effective",
            &json!("AUTOMATION_MODE_ON"),
        ),
        (&["breaker", "reset", "dev"], "/signatures", &json!([])),
        (&["policy", "show"], "/rules/0/name", &any),
        (&["policy", "check", "policy.yaml"], "/rules", &json!(1)),
        (
            &[
                "policy",
                "test",
                "built-in",
                "--event=event_type=xid",
                "--event=xid_code=79",
            ],
            "/result",
            &json!("HEALTH_STATUS_UNHEALTHY"),
        ),
        (&["config", "check", "data/dev.yaml"], "/pools", &json!(1)),
        (
            &["cordon", &node, "--reason=a test"],
            "/remaining_holds",
            &json!(["operator:cordon"]),
        ),
        (
            &["drain", &node],
            "/node_status",
            &json!("NODE_STATUS_DRAINING"),
        ),
        (&["uncordon", &node], "/remaining_holds", &json!([])),
        (
            &["dev", "inject", &node, "xid", "--code=13"],
            "/node_id",
            &node_value,
        ),
        (
            &["dev", "clear", &node, "thermal"],
            "/kinds",
            &json!(["thermal"]),
        ),
        (
            &["automation", "observe"],
            "/fleet/mode",
            &json!("AUTOMATION_MODE_OBSERVE"),
        ),
        (&["terminate", &node], "/node_id", &node_value),
    ];
    for (arguments, path, expected) in cases {
        let mut asked = arguments.to_vec();
        asked.push("-ojson");
        let said = fleet.ask(&asked);
        assert_eq!(said.err, "", "{asked:?} remarks");
        let answer = json_of(said);
        let found = answer
            .pointer(path)
            .unwrap_or_else(|| panic!("{asked:?} has no {path}: {answer:#}"));
        if !expected.is_null() {
            assert_eq!(&found, expected, "{asked:?}: {answer:#}");
        }
    }
    // YAML is the same data.
    for arguments in [&["list"][..], &["policy", "show"], &["version"]] {
        let ask = |format| {
            let mut asked = arguments.to_vec();
            asked.push(format);
            fleet.ask(&asked)
        };
        let yaml: Value =
            serde_saphyr::from_str(&ask("-oyaml").fine()).expect("YAML that can be read");
        let json = json_of(ask("-ojson"));
        let keys = |value: &Value| {
            let one = value.get(0).unwrap_or(value);
            one.as_object().expect("an object").len()
        };
        assert_eq!(keys(&yaml), keys(&json), "{arguments:?}");
    }
    // Nobody listens any more; the complaint is no data.
    let nothing = run(
        fleet.path(),
        &[],
        &["list", "-s=http://127.0.0.1:9", "-ojson"],
    );
    nothing.refused(1);
}

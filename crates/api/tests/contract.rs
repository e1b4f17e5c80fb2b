//! The contract keeps its promise to existing agents and clients, and every message is proto3 JSON.

mod messages;

use std::path::Path;

use messages::{Contract, kinds};
use serde_json::{Map, Value};

/// Compares a text with the file that holds what it should be. `UPDATE_GOLDEN=1` writes the file.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).expect("the folder is there");
        return;
    }
    let expected = std::fs::read_to_string(&path).expect("the file is there");
    for (at, (left, right)) in text.lines().zip(expected.lines()).enumerate() {
        assert_eq!(left, right, "line {} of {name}", at + 1);
    }
    assert_eq!(text, expected, "{name}; UPDATE_GOLDEN=1 writes it anew");
}

/// What the Go project speaks: message, then number and type of each field. Nothing here may
/// change, whatever we add.
const GO_PROJECT: &str = "
RegisterNodeRequest: 1 string node_id, 2 string provider, 3 string region, 4 string zone, 5 string instance_type, 6 repeated GPUInfo gpus, 7 NodeMetadata metadata
RegisterNodeResponse: 1 bool success, 2 string message, 3 NodeConfig config
GPUInfo: 1 int32 index, 2 string uuid, 3 string name, 4 string pci_bus_id, 5 int64 memory_total, 6 string driver_version, 7 string cuda_version
NodeMetadata: 1 string hostname, 2 string internal_ip, 3 string external_ip, 4 string kernel_version, 5 map<string, string> labels
NodeConfig: 1 int32 health_check_interval_seconds, 2 int32 heartbeat_interval_seconds, 3 repeated string enabled_health_checks
ReportHealthRequest: 1 string node_id, 2 repeated HealthCheckResult results, 3 repeated HealthEvent events
ReportHealthResponse: 1 bool acknowledged, 2 NodeStatus node_status
HealthCheckResult: 1 string check_name, 2 HealthStatus status, 3 string message, 4 Timestamp timestamp, 5 map<string, string> details
HealthEvent: 1 Timestamp timestamp, 2 int32 gpu_index, 3 string gpu_uuid, 4 HealthWatchSystem system, 5 HealthEventType event_type, 6 map<string, string> metrics, 7 string message
HeartbeatRequest: 1 string node_id, 2 Timestamp timestamp, 3 NodeMetrics metrics
HeartbeatResponse: 1 bool acknowledged
NodeMetrics: 1 double cpu_usage_percent, 2 double memory_usage_percent, 3 repeated GPUMetrics gpu_metrics
GPUMetrics: 1 int32 gpu_index, 2 int32 temperature, 3 int32 power_usage, 4 double utilization_percent, 5 int64 memory_used
GetNodeCommandsRequest: 1 string node_id
GetNodeCommandsResponse: 1 repeated NodeCommand commands
NodeCommand: 1 string command_id, 2 NodeCommandType type, 3 map<string, string> parameters, 4 Timestamp issued_at
ListNodesRequest: 1 string provider, 2 string region, 3 NodeStatus status
ListNodesResponse: 1 repeated NodeInfo nodes
NodeInfo: 1 string node_id, 2 string provider, 3 string region, 4 string zone, 5 string instance_type, 6 NodeStatus status, 7 HealthStatus health_status, 8 Timestamp last_heartbeat, 9 repeated GPUInfo gpus, 10 NodeMetadata metadata
GetNodeRequest: 1 string node_id
GetNodeResponse: 1 NodeInfo node
IssueCommandRequest: 1 string node_id, 2 NodeCommandType command_type, 3 map<string, string> parameters
IssueCommandResponse: 1 string command_id, 2 Timestamp issued_at
ListInstancesRequest: 1 string provider, 2 string region, 3 InstanceState state, 4 string pool_name
ListInstancesResponse: 1 repeated InstanceInfo instances
GetInstanceRequest: 1 string instance_id
GetInstanceResponse: 1 InstanceInfo instance
InstanceInfo: 1 string instance_id, 2 string provider, 3 string region, 4 string zone, 5 string instance_type, 6 InstanceState state, 7 string pool_name, 8 Timestamp created_at, 9 Timestamp ready_at, 10 Timestamp terminated_at, 11 string node_id, 12 string status_message, 13 map<string, string> labels
";

/// Vocabulary, prefix, and the words in the order of their numbers from 0.
const GO_PROJECT_WORDS: [(&str, &str, &str); 6] = [
    (
        "HealthStatus",
        "HEALTH_STATUS_",
        "UNKNOWN HEALTHY DEGRADED UNHEALTHY",
    ),
    (
        "HealthEventType",
        "HEALTH_EVENT_TYPE_",
        "UNKNOWN XID THERMAL POWER MEMORY NVLINK PCIE DRIVER_ERROR ECC_SBE ECC_DBE",
    ),
    (
        "HealthWatchSystem",
        "HEALTH_WATCH_SYSTEM_",
        "UNKNOWN PCIE NVLINK PMU MCU MEM SM INFOROM THERMAL POWER DRIVER NVSWITCH",
    ),
    (
        "NodeStatus",
        "NODE_STATUS_",
        "UNKNOWN ACTIVE CORDONED DRAINING UNHEALTHY TERMINATED",
    ),
    (
        "InstanceState",
        "INSTANCE_STATE_",
        "UNKNOWN PROVISIONING PENDING_REGISTRATION RUNNING TERMINATING TERMINATED FAILED",
    ),
    (
        "NodeCommandType",
        "NODE_COMMAND_TYPE_",
        "UNKNOWN CORDON DRAIN RUN_DIAGNOSTIC TERMINATE UNCORDON",
    ),
];

#[test]
fn the_go_projects_messages_are_all_there_and_additions_start_at_50() {
    let described = Contract::load().describe();
    let lines: Vec<&str> = described.lines().collect();
    let mut old = Vec::new();
    for message in GO_PROJECT.trim().lines() {
        let (message, fields) = message.split_once(": ").expect("a message");
        for field in fields
            .split(", ")
            .fold(Vec::<String>::new(), |mut fields, part| {
                // A comma within `map<string, string>` parts no fields.
                match fields.last_mut() {
                    Some(last) if last.ends_with("map<string") => {
                        last.push_str(", ");
                        last.push_str(part);
                    }
                    _ => fields.push(part.to_owned()),
                }
                fields
            })
        {
            let (number, field) = field.split_once(' ').expect("a number");
            old.push(format!("field navarch.{message} {field} = {number}"));
        }
    }
    for (vocabulary, prefix, words) in GO_PROJECT_WORDS {
        for (number, word) in words.split(' ').enumerate() {
            old.push(format!(
                "word navarch.{vocabulary} {prefix}{word} = {number}"
            ));
        }
    }
    for line in &old {
        assert!(lines.contains(&line.as_str()), "{line}");
    }
    for line in lines {
        let ours = line.starts_with("field navarch.v1.") || line.starts_with("word navarch.v1.");
        if ours || !(line.starts_with("field ") || line.starts_with("word ")) {
            continue;
        }
        let (_, number) = line.rsplit_once(" = ").expect("a number");
        let is_addition = number.parse::<u32>().expect("a number") >= 50;
        let is_of_new_message = line.starts_with("field navarch.Hold ");
        assert!(
            is_addition || is_of_new_message || old.iter().any(|old| old == line),
            "{line}: additions start at 50"
        );
    }
}

/// Whoever changes the contract sees here what changes for others.
#[test]
fn the_contract_is_the_one_on_record() {
    golden("contract.txt", &Contract::load().describe());
}

#[test]
fn every_message_is_exported() {
    let mut exported: Vec<_> = kinds().into_iter().map(|kind| kind.name).collect();
    exported.sort();
    assert_eq!(exported, Contract::load().message_names());
}

#[test]
fn every_message_with_every_field_set_is_proto3_json_and_survives_protobuf() {
    let contract = Contract::load();
    let mut samples = Map::new();
    for kind in kinds() {
        let sample = contract.sample(&kind.name);
        let text = sample.to_string();
        let again = |bytes: Result<Vec<u8>, String>| -> Value {
            let bytes = bytes.unwrap_or_else(|error| panic!("{}: {error}", kind.name));
            serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", kind.name))
        };
        assert_eq!(again((kind.json)(text.as_bytes())), sample, "{}", kind.name);
        let proto = (kind.json_to_proto)(text.as_bytes()).expect("it was read before");
        assert_eq!(again((kind.proto_to_json)(&proto)), sample, "{}", kind.name);
        assert_eq!((kind.proto)(&proto), Ok(proto.clone()), "{}", kind.name);
        // What is not set is not there.
        assert_eq!(
            (kind.proto_to_json)(&[]),
            Ok(b"{}".to_vec()),
            "{}",
            kind.name
        );
        samples.insert(kind.name, sample);
    }
    let mut text = serde_json::to_string_pretty(&Value::Object(samples)).expect("it is JSON");
    text.push('\n');
    golden("messages.json", &text);
}

#[test]
fn both_spellings_of_a_field_are_read_and_strange_fields_ignored() {
    let contract = Contract::load();
    for kind in kinds() {
        let sample = contract.sample(&kind.name);
        let mut strange = snake(&sample);
        if let Value::Object(fields) = &mut strange {
            fields.insert(
                "no_such_field".to_owned(),
                serde_json::json!({"x": [null, 1]}),
            );
        }
        let read = (kind.json)(strange.to_string().as_bytes());
        let read: Value = serde_json::from_slice(&read.expect("it is read")).expect("it is JSON");
        assert_eq!(read, sample, "{}", kind.name);
    }
}

/// The same JSON with the fields' names as the contract spells them.
fn snake(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| {
                    let mut spelled = String::new();
                    for letter in name.chars() {
                        if letter.is_ascii_uppercase() {
                            spelled.push('_');
                        }
                        spelled.push(letter.to_ascii_lowercase());
                    }
                    (spelled, snake(value))
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(snake).collect()),
        other => other.clone(),
    }
}

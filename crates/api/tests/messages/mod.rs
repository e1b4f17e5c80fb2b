//! Every message of the contract, with samples made from the descriptors alone.

#![allow(
    clippy::allow_attributes,
    dead_code,
    reason = "each test file uses a part of it"
)]

use std::collections::BTreeMap;

use buffa::Message;
use navarch_api::{v1, wire};
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// What the tests do with a message, whatever its type.
pub struct Kind {
    /// The full name, for example `navarch.NodeInfo`.
    pub name: String,
    /// Reads JSON and writes it again.
    pub json: fn(&[u8]) -> Result<Vec<u8>, String>,
    /// Reads protobuf and writes it again.
    pub proto: fn(&[u8]) -> Result<Vec<u8>, String>,
    /// Reads JSON and writes protobuf.
    pub json_to_proto: fn(&[u8]) -> Result<Vec<u8>, String>,
    /// Reads protobuf and writes JSON.
    pub proto_to_json: fn(&[u8]) -> Result<Vec<u8>, String>,
}

fn from_json<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

fn from_proto<M: Message>(bytes: &[u8]) -> Result<M, String> {
    M::decode_from_slice(bytes).map_err(|error| error.to_string())
}

fn to_json<M: Serialize>(message: &M) -> Result<Vec<u8>, String> {
    serde_json::to_vec(message).map_err(|error| error.to_string())
}

fn kind<M: Message + Serialize + DeserializeOwned>(package: &str, name: &str) -> Kind {
    Kind {
        name: format!("{package}.{name}"),
        json: |bytes| from_json::<M>(bytes).and_then(|message| to_json(&message)),
        proto: |bytes| from_proto::<M>(bytes).map(|message| message.encode_to_vec()),
        json_to_proto: |bytes| from_json::<M>(bytes).map(|message| message.encode_to_vec()),
        proto_to_json: |bytes| from_proto::<M>(bytes).and_then(|message| to_json(&message)),
    }
}

macro_rules! kinds {
    ($($package:ident $shown:literal { $($name:ident)+ })+) => {
        /// Every message that the crate exports.
        pub fn kinds() -> Vec<Kind> {
            vec![$($(kind::<$package::$name>($shown, stringify!($name)),)+)+]
        }
    };
}

kinds! {
    wire "navarch" {
        GPUInfo GPUMetrics GetInstanceRequest GetInstanceResponse GetNodeCommandsRequest
        GetNodeCommandsResponse GetNodeRequest GetNodeResponse HealthCheckResult HealthEvent
        HeartbeatRequest HeartbeatResponse Hold InstanceInfo IssueCommandRequest
        IssueCommandResponse ListInstancesRequest ListInstancesResponse ListNodesRequest
        ListNodesResponse NodeCommand NodeConfig NodeInfo NodeMetadata NodeMetrics
        RegisterNodeRequest RegisterNodeResponse ReportHealthRequest ReportHealthResponse
    }
    v1 "navarch.v1" {
        GetPoolStatusRequest GetPoolStatusResponse MetricPoint PoolStatus QueryMetricsRequest
        QueryMetricsResponse AddHoldRequest AddHoldResponse AdoptInstanceRequest
        AdoptInstanceResponse ListHoldsRequest ListHoldsResponse ListUnclaimedRequest
        ListUnclaimedResponse NodeHold RemoveHoldRequest RemoveHoldResponse TerminateInstanceRequest
        TerminateInstanceResponse UnclaimedMachine AcknowledgeCommandRequest
        AcknowledgeCommandResponse AutomationSetting ClearFaultRequest ClearFaultResponse
        CloseIncidentRequest CloseIncidentResponse Command ConfirmSilenceRequest
        ConfirmSilenceResponse Event EventFilter ExplainLine ExplainNodeRequest ExplainNodeResponse
        GetAutomationRequest GetAutomationResponse GetIncidentRequest GetIncidentResponse
        GetPlanRequest GetPlanResponse GetPolicyRequest GetPolicyResponse GetServerInfoRequest
        GetServerInfoResponse Guard Incident IncidentEvidence InjectFaultRequest InjectFaultResponse
        ListCommandsRequest ListCommandsResponse ListEventsRequest ListEventsResponse
        ListIncidentsRequest ListIncidentsResponse ListPoolsRequest ListPoolsResponse PolicyRule
        Pool PoolAutomation ScalePoolRequest ScalePoolResponse Sizing PoolPlan GetConfigRequest
        GetConfigResponse RefusedConfig RefusedPolicy ResetBreakerRequest ResetBreakerResponse
        SetAutomationRequest OfferingPlan SetAutomationResponse Wait WatchCommandsRequest
        WatchCommandsResponse WatchEventsRequest WatchEventsResponse
    }
}

/// The contract as its compiler understood it.
pub struct Contract {
    files: FileDescriptorSet,
    messages: BTreeMap<String, DescriptorProto>,
    enums: BTreeMap<String, EnumDescriptorProto>,
}

impl Contract {
    pub fn load() -> Self {
        let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/contract.binpb"));
        let files = FileDescriptorSet::decode(&bytes[..]).expect("the compiler wrote it");
        let mut messages = BTreeMap::new();
        let mut enums = BTreeMap::new();
        for file in &files.file {
            for message in &file.message_type {
                let name = format!("{}.{}", file.package(), message.name());
                for nested in &message.nested_type {
                    messages.insert(format!("{name}.{}", nested.name()), nested.clone());
                }
                messages.insert(name, message.clone());
            }
            for vocabulary in &file.enum_type {
                let name = format!("{}.{}", file.package(), vocabulary.name());
                enums.insert(name, vocabulary.clone());
            }
        }
        Self {
            files,
            messages,
            enums,
        }
    }

    /// The names of our messages, those that stand for map entries aside.
    pub fn message_names(&self) -> Vec<String> {
        self.messages
            .iter()
            .filter(|(name, message)| {
                let is_entry = message
                    .options
                    .as_ref()
                    .is_some_and(|options| options.map_entry());
                name.starts_with("navarch.") && !is_entry
            })
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// JSON with every field of a message set, as the proto3 JSON mapping wants it.
    pub fn sample(&self, message: &str) -> Value {
        let fields = self.messages[message].field.iter();
        Value::Object(
            fields
                .map(|field| (field.json_name().to_owned(), self.sample_field(field)))
                .collect(),
        )
    }

    fn sample_field(&self, field: &FieldDescriptorProto) -> Value {
        let type_name = field.type_name().trim_start_matches('.');
        let repeated = field.label() == Label::Repeated;
        let one = match field.r#type() {
            Type::String => json!(format!("text {} \u{e9}\"\\", field.number())),
            Type::Bool => json!(true),
            Type::Double => json!(0.5),
            Type::Int32 => json!(-field.number()),
            Type::Uint32 => json!(field.number()),
            // Beyond what a double holds, hence a text.
            Type::Int64 => json!("-9007199254740993"),
            Type::Uint64 => json!("18446744073709551615"),
            Type::Enum => {
                let last = self.enums[type_name].value.last().expect("it has values");
                json!(last.name())
            }
            Type::Message if type_name == "google.protobuf.Timestamp" => {
                json!("2026-02-13T01:02:03.500Z")
            }
            Type::Message if type_name.ends_with("Entry") => {
                let entry = &self.messages[type_name];
                return json!({"a key": self.sample_field(&entry.field[1])});
            }
            Type::Message => self.sample(type_name),
            other => panic!("{}: no sample of {other:?}", field.name()),
        };
        if repeated { json!([one]) } else { one }
    }

    /// Every call, message, field and word, one a line.
    pub fn describe(&self) -> String {
        let mut lines = Vec::new();
        for file in &self.files.file {
            if !file.package().starts_with("navarch") {
                continue;
            }
            let package = file.package();
            for service in &file.service {
                for method in &service.method {
                    let stream = match (method.client_streaming(), method.server_streaming()) {
                        (false, false) => "",
                        (false, true) => "stream ",
                        other => panic!("{}: {other:?}", method.name()),
                    };
                    lines.push(format!(
                        "call {package}.{}/{}({}) {stream}{}",
                        service.name(),
                        method.name(),
                        method.input_type().trim_start_matches('.'),
                        method.output_type().trim_start_matches('.')
                    ));
                }
            }
            for vocabulary in &file.enum_type {
                for value in &vocabulary.value {
                    lines.push(format!(
                        "word {package}.{} {} = {}",
                        vocabulary.name(),
                        value.name(),
                        value.number()
                    ));
                }
            }
            for message in &file.message_type {
                lines.push(format!("message {package}.{}", message.name()));
                for field in &message.field {
                    lines.push(format!(
                        "field {package}.{} {} {} = {}",
                        message.name(),
                        self.type_of(field),
                        field.name(),
                        field.number()
                    ));
                }
            }
        }
        lines.sort();
        lines.join("\n") + "\n"
    }

    fn type_of(&self, field: &FieldDescriptorProto) -> String {
        let full = field.type_name().trim_start_matches('.');
        let name = full.rsplit('.').next().unwrap_or_default();
        if field.r#type() == Type::Message && name.ends_with("Entry") {
            let entry = &self.messages[full].field;
            return format!(
                "map<{}, {}>",
                self.type_of(&entry[0]),
                self.type_of(&entry[1])
            );
        }
        let plain = match field.r#type() {
            Type::Message | Type::Enum => name.to_owned(),
            scalar => format!("{scalar:?}").to_lowercase(),
        };
        if field.label() == Label::Repeated {
            format!("repeated {plain}")
        } else if field.proto3_optional() {
            format!("optional {plain}")
        } else {
            plain
        }
    }
}

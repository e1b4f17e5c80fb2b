//! Bytes that nobody meant, and requests that nobody should send.

mod messages;

use messages::{Contract, kinds};
use navarch_api::{Code, limits, requests, wire};
use navarch_model::Time;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// Damages bytes: overwrites, cuts, or repeats a part.
#[derive(Debug, Clone)]
enum Damage {
    Overwrite(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Repeat(prop::sample::Index, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, by)| Damage::Overwrite(at, by)),
        any::<prop::sample::Index>().prop_map(Damage::Cut),
        (any::<prop::sample::Index>(), 1..8_u8).prop_map(|(at, by)| Damage::Repeat(at, by)),
    ]
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        if bytes.is_empty() {
            break;
        }
        match damage {
            Damage::Overwrite(at, by) => *at.get_mut(&mut bytes) = *by,
            Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Damage::Repeat(at, by) => {
                let at = at.index(bytes.len());
                let end = (at + usize::from(*by)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(end..end, part);
            }
        }
    }
    bytes
}

/// Reads bytes as every kind of message; what can be read can be written and read again, equal.
fn read_as_everything(bytes: &[u8]) {
    for kind in kinds() {
        if let Ok(written) = (kind.proto)(bytes) {
            assert_eq!((kind.proto)(&written), Ok(written.clone()), "{}", kind.name);
        }
        if let Ok(written) = (kind.json)(bytes) {
            assert_eq!((kind.json)(&written), Ok(written.clone()), "{}", kind.name);
        }
    }
}

/// Gives every request that the bytes can be read as to its checks.
fn check_everything(bytes: &[u8]) {
    use buffa::Message as _;
    use navarch_api::v1;
    macro_rules! check {
        ($($package:ident::$message:ident => $check:expr;)+) => {$(
            if let Ok(message) = $package::$message::decode_from_slice(bytes) {
                let check: fn($package::$message) -> Result<(), navarch_api::ApiError> = $check;
                if let Err(error) = check(message) {
                    assert_eq!(error.code, Code::InvalidArgument, "{error}");
                    assert!(error.message.len() < 4096, "{error}");
                    assert!(!error.message.contains(|c: char| c.is_control()), "{error:?}");
                }
            }
        )+};
    }
    check! {
        wire::RegisterNodeRequest => |m| requests::registration(m, String::new()).map(drop);
        wire::ReportHealthRequest => |m| requests::report(m, Time(0)).map(drop);
        wire::HeartbeatRequest => |m| requests::beat(m).map(drop);
        wire::GetNodeCommandsRequest => |m| requests::poll(&m).map(drop);
        wire::ListNodesRequest => |m| requests::nodes(m).map(drop);
        wire::GetNodeRequest => |m| requests::node(&m).map(drop);
        wire::IssueCommandRequest => |m| requests::command(m).map(drop);
        wire::ListInstancesRequest => |m| requests::instances(m).map(drop);
        wire::GetInstanceRequest => |m| requests::instance(&m).map(drop);
        v1::AcknowledgeCommandRequest => |m| requests::acknowledgement(m).map(drop);
        v1::WatchCommandsRequest => |m| requests::watch_commands(&m).map(drop);
        v1::ExplainNodeRequest => |m| requests::explain(&m).map(drop);
        v1::ConfirmSilenceRequest => |m| requests::confirm_silence(m).map(drop);
        v1::ListCommandsRequest => |m| requests::node_commands(&m).map(drop);
        v1::ListIncidentsRequest => |m| requests::incidents(&m).map(drop);
        v1::GetIncidentRequest => |m| requests::incident(&m).map(drop);
        v1::CloseIncidentRequest => |m| requests::incident_close(m).map(drop);
        v1::ListEventsRequest => |m| requests::events(m).map(drop);
        v1::WatchEventsRequest => |m| requests::watch_events(m).map(drop);
        v1::GetPlanRequest => |m| requests::plan(&m).map(drop);
        v1::GetPoolStatusRequest => |m| requests::pool_status(&m).map(drop);
        v1::QueryMetricsRequest => |m| requests::metric_query(&m).map(drop);
        v1::SetAutomationRequest => |m| requests::automation(m).map(drop);
        v1::ScalePoolRequest => |m| requests::scale_pool(m).map(drop);
        v1::ResetBreakerRequest => |m| requests::reset_breaker(m).map(drop);
        v1::AddHoldRequest => |m| requests::add_hold(m).map(drop);
        v1::RemoveHoldRequest => |m| requests::remove_hold(m).map(drop);
        v1::ListHoldsRequest => |m| requests::holds(&m).map(drop);
        v1::ListUnclaimedRequest => |m| requests::unclaimed(&m).map(drop);
        v1::AdoptInstanceRequest => |m| requests::adopt(m).map(drop);
        v1::TerminateInstanceRequest => |m| requests::terminate_instance(m).map(drop);
        v1::InjectFaultRequest => |m| requests::inject_fault(m).map(drop);
        v1::ClearFaultRequest => |m| requests::clear_fault(&m).map(drop);
    }
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z0-9-]{0,12}",
        1 => any::<String>(),
        1 => "[a-z]{250,270}",
        1 => "[a-z]{1020,1030}",
    ]
}

fn any_map() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    prop_oneof![
        8 => btree_map(any_text(), any_text(), 0..4),
        1 => btree_map("[a-z]{8}", Just(String::new()), 60..70),
    ]
}

fn is_id(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-:@+/".contains(c);
    let dots = text.split('/').any(|part| matches!(part, "." | ".."));
    !text.is_empty() && text.len() <= 256 && text.chars().all(legal) && !dots
}

fn is_text(text: &str, limit: usize) -> bool {
    text.len() <= limit && !text.chars().any(char::is_control)
}

fn is_map(map: &std::collections::BTreeMap<String, String>) -> bool {
    map.len() <= 64
        && map
            .iter()
            .all(|(key, value)| !key.is_empty() && is_text(key, 256) && is_text(value, 1024))
}

fn any_event() -> impl Strategy<Value = wire::HealthEvent> {
    (
        -3..140_i32,
        -2..12_i32,
        -1..14_i32,
        any_map(),
        any_text(),
        any_text(),
        prop_oneof![
            Just(None),
            Just(Some(0)),
            Just(Some(i64::MAX)),
            any::<i64>().prop_map(Some)
        ],
    )
        .prop_map(
            |(gpu, kind, system, metrics, uuid, message, seconds)| wire::HealthEvent {
                gpu_index: gpu,
                event_type: kind.into(),
                system: system.into(),
                metrics,
                gpu_uuid: uuid,
                message,
                timestamp: seconds
                    .map(|seconds| buffa_types::google::protobuf::Timestamp {
                        seconds,
                        ..Default::default()
                    })
                    .into(),
                ..Default::default()
            },
        )
}

fn event_is_legal(event: &wire::HealthEvent) -> bool {
    (-1..128).contains(&event.gpu_index)
        && (0..=9).contains(&event.event_type.to_i32())
        && (0..=11).contains(&event.system.to_i32())
        && is_map(&event.metrics)
        && is_text(&event.gpu_uuid, 256)
        && event.timestamp.as_option().is_none_or(|timestamp| {
            (-62_135_596_800..=253_402_300_799).contains(&timestamp.seconds)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        read_as_everything(&bytes);
        check_everything(&bytes);
    }

    #[test]
    fn damaged_messages_are_read_or_refused(
        pick in any::<prop::sample::Index>(),
        damages in vec(damage(), 1..6),
    ) {
        let contract = Contract::load();
        let all = kinds();
        let kind = pick.get(&all);
        let json = contract.sample(&kind.name).to_string();
        let proto = (kind.json_to_proto)(json.as_bytes()).expect("the sample is sound");
        read_as_everything(&damaged(json.into_bytes(), &damages));
        let proto = damaged(proto, &damages);
        read_as_everything(&proto);
        check_everything(&proto);
    }

    #[test]
    fn reports_are_accepted_exactly_when_every_field_is_legal(
        node_id in any_text(),
        events in vec(any_event(), 0..3),
        check in any_text(),
        status in -1..5_i32,
    ) {
        let legal = is_id(&node_id)
            && events.iter().all(event_is_legal)
            && !check.is_empty()
            && is_text(&check, 256)
            && (0..=3).contains(&status);
        let request = wire::ReportHealthRequest {
            node_id,
            results: vec![wire::HealthCheckResult {
                check_name: check,
                status: status.into(),
                ..Default::default()
            }],
            events: events.clone(),
            ..Default::default()
        };
        let checked = requests::report(request, Time(42));
        prop_assert_eq!(checked.is_ok(), legal, "{:?}", checked);
        if let Ok(report) = checked {
            prop_assert_eq!(report.facts.len(), events.len());
            for (fact, event) in report.facts.iter().zip(&events) {
                let seconds = event.timestamp.as_option().map(|timestamp| timestamp.seconds);
                prop_assert_eq!(fact.happened, seconds.map_or(42, |seconds| seconds * 1_000_000));
                prop_assert_eq!(fact.gpu.unwrap_or(-1), event.gpu_index);
                prop_assert!(fact.message.len() <= limits::MAX_MESSAGE_BYTES);
                let escapes = fact.message.contains('\u{1b}');
                prop_assert!(!escapes, "an escape came through");
            }
        }
    }

    #[test]
    fn registrations_are_accepted_exactly_when_every_field_is_legal(
        node_id in any_text(),
        region in any_text(),
        labels in any_map(),
        session in any_text(),
        gpus in prop_oneof![4 => 0..9_usize, 1 => 126..131_usize],
        index in -1..130_i32,
    ) {
        let legal = is_id(&node_id)
            && is_text(&region, 256)
            && is_map(&labels)
            && (session.is_empty() || is_id(&session))
            && gpus <= 128
            && (gpus == 0 || (0..128).contains(&index));
        let request = wire::RegisterNodeRequest {
            node_id,
            region,
            session_id: session,
            gpus: (0..gpus)
                .map(|_| wire::GPUInfo { index, ..Default::default() })
                .collect(),
            metadata: wire::NodeMetadata { labels, ..Default::default() }.into(),
            ..Default::default()
        };
        let checked = requests::registration(request, String::new());
        prop_assert_eq!(checked.is_ok(), legal, "{:?}", checked);
    }

    #[test]
    fn heartbeats_count_whatever_they_measure(
        node_id in any_text(),
        cpu in any::<f64>(),
        utilization in any::<f64>(),
        index in any::<i32>(),
    ) {
        let legal = is_id(&node_id);
        let request = wire::HeartbeatRequest {
            node_id,
            metrics: wire::NodeMetrics {
                cpu_usage_percent: cpu,
                gpu_metrics: vec![wire::GPUMetrics {
                    gpu_index: index,
                    utilization_percent: utilization,
                    ..Default::default()
                }],
                ..Default::default()
            }
            .into(),
            ..Default::default()
        };
        let checked = requests::beat(request);
        prop_assert_eq!(checked.is_ok(), legal, "{:?}", checked);
        if let Ok(beat) = checked {
            let sample = beat.sample.expect("it was sent");
            prop_assert!((0.0..=100.0).contains(&sample.cpu));
            prop_assert!(sample.gpus.iter().all(|gpu| (0.0..=100.0).contains(&gpu.utilization)));
        }
    }
}

/// The bytes of a protobuf tag or number.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 128 {
        bytes.push(u8::try_from(number & 127).expect("seven bits") | 128);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).expect("seven bits"));
    bytes
}

/// A parser that went down with these would end the process, not the test.
#[test]
fn deep_nesting_is_refused_or_skipped() {
    const DEPTH: usize = 200_000;
    let group = [varint(1000 << 3 | 3), varint(1000 << 3 | 4)];
    let mut proto = vec![
        group[0].repeat(DEPTH),
        [group[0].repeat(DEPTH), group[1].repeat(DEPTH)].concat(),
        group[1].repeat(DEPTH),
    ];
    // Every field of every message inside itself, as far as lengths go.
    for field in 1..60 {
        let mut bytes = Vec::new();
        for _ in 0..2_000 {
            let length = varint(bytes.len() as u64);
            bytes = [varint(field << 3 | 2), length, bytes].concat();
        }
        proto.push(bytes);
    }
    for bytes in &proto {
        for kind in kinds() {
            // Whether it is read or refused is the parser's to say.
            let _read = (kind.proto)(bytes);
        }
        check_everything(bytes);
    }
    for open in [
        "[",
        "{\"x\":",
        "{\"node\":",
        "{\"events\":[",
        "{\"metrics\":{\"a\":",
    ] {
        let bytes = open.repeat(DEPTH);
        for kind in kinds() {
            assert!((kind.json)(bytes.as_bytes()).is_err(), "{}", kind.name);
            let unknown = format!("{{\"zzz\":{bytes}");
            assert!((kind.json)(unknown.as_bytes()).is_err(), "{}", kind.name);
        }
    }
}

#[test]
fn lengths_that_no_message_has_are_refused() {
    for length in [
        1 << 20,
        u64::from(u32::MAX),
        i64::MAX.cast_unsigned(),
        u64::MAX,
    ] {
        for field in 1..60 {
            let bytes = [varint(field << 3 | 2), varint(length), vec![0; 16]].concat();
            for kind in kinds() {
                assert!(
                    (kind.proto)(&bytes).is_err(),
                    "{} field {field}: {length}",
                    kind.name
                );
            }
        }
    }
    // Numbers that do not end, and kinds of values that there are not.
    for bytes in [
        vec![0x80; 11],
        vec![0xff; 4096],
        vec![0x0e],
        vec![0x0f, 0x01],
    ] {
        for kind in kinds() {
            assert!((kind.proto)(&bytes).is_err(), "{} {bytes:?}", kind.name);
        }
    }
}

/// Every text of a value, replaced.
fn with_texts(value: &serde_json::Value, text: &str) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(_) => Value::String(text.to_owned()),
        Value::Array(items) => items.iter().map(|item| with_texts(item, text)).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, field)| (name.clone(), with_texts(field, text)))
            .collect(),
        other => other.clone(),
    }
}

/// Every text that may be the name of a number, replaced by that number.
fn with_numbers(value: &serde_json::Value, number: i32) -> serde_json::Value {
    use serde_json::Value;
    let is_name =
        |text: &str| text.len() > 3 && text.chars().all(|c| c == '_' || c.is_ascii_uppercase());
    match value {
        Value::String(text) if is_name(text) => number.into(),
        Value::Array(items) => items
            .iter()
            .map(|item| with_numbers(item, number))
            .collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, field)| (name.clone(), with_numbers(field, number)))
            .collect(),
        other => other.clone(),
    }
}

#[test]
fn numbers_that_no_name_stands_for_come_through_and_are_refused_by_the_checks() {
    let contract = Contract::load();
    let mut replaced = 0;
    for kind in kinds() {
        let sample = contract.sample(&kind.name);
        for number in [999, -1, i32::MAX, i32::MIN] {
            let changed = with_numbers(&sample, number);
            replaced += u32::from(changed != sample);
            let json = changed.to_string();
            let proto = (kind.json_to_proto)(json.as_bytes())
                .unwrap_or_else(|error| panic!("{} {number}: {error}", kind.name));
            let back = (kind.proto_to_json)(&proto).expect("it was just written");
            let back: serde_json::Value = serde_json::from_slice(&back).expect("it is JSON");
            let again = (kind.json_to_proto)(back.to_string().as_bytes());
            assert_eq!(again, Ok(proto.clone()), "{}", kind.name);
            check_everything(&proto);
        }
    }
    assert!(replaced > 40, "{replaced}");
}

#[test]
fn long_texts_are_refused_in_few_words() {
    let contract = Contract::load();
    let long = "x".repeat(300_000);
    let odd = "\u{1b}[2J\u{202e}\0é".repeat(1000);
    let mut read = 0;
    for kind in kinds() {
        let sample = contract.sample(&kind.name);
        for text in [long.as_str(), odd.as_str(), ""] {
            let json = with_texts(&sample, text).to_string();
            // Texts that stand for times and numbers are refused here already.
            if let Ok(proto) = (kind.json_to_proto)(json.as_bytes()) {
                read += 1;
                check_everything(&proto);
            }
        }
    }
    assert!(read > 60, "{read}");
}

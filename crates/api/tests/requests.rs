//! What each malformed request is told, word for word, and what sound ones become.

use std::collections::BTreeMap;

use navarch_api::{ApiError, Code, requests, v1, wire};
use navarch_model::{
    Automation, CommandState, Event, EventKind, HealthEventType, HealthWatchSystem, InstanceState,
    NodeCommandType, NodeId, NodeStatus, PoolName, Stamp, Subject, Time,
};

fn refused<T: std::fmt::Debug>(checked: Result<T, ApiError>, expected: &str) {
    let error = checked.expect_err(expected);
    assert_eq!(error.code, Code::InvalidArgument, "{expected}");
    assert_eq!(error.message, expected);
}

fn text(text: &str) -> String {
    text.to_owned()
}

#[test]
fn what_must_be_there_is_asked_for_as_in_the_go_project() {
    let required = "node_id is required";
    refused(
        requests::registration(wire::RegisterNodeRequest::default(), String::new()),
        required,
    );
    refused(
        requests::report(wire::ReportHealthRequest::default(), Time(0)),
        required,
    );
    refused(requests::beat(wire::HeartbeatRequest::default()), required);
    refused(
        requests::poll(&wire::GetNodeCommandsRequest::default()),
        required,
    );
    refused(requests::node(&wire::GetNodeRequest::default()), required);
    refused(
        requests::command(wire::IssueCommandRequest::default()),
        required,
    );
    refused(
        requests::instance(&wire::GetInstanceRequest::default()),
        "instance_id is required",
    );
    refused(
        requests::incident(&v1::GetIncidentRequest::default()),
        "incident_id is required",
    );
    refused(
        requests::reset_breaker(v1::ResetBreakerRequest::default()),
        "pool is required",
    );
    refused(
        requests::scale_pool(v1::ScalePoolRequest::default()),
        "pool is required",
    );
    let size = |nodes| {
        requests::scale_pool(v1::ScalePoolRequest {
            pool: text("p"),
            nodes,
            ..Default::default()
        })
    };
    refused(size(None), "nodes is required");
    refused(size(Some(-1)), "nodes is -1: it must be >= 0");
    assert!(size(Some(0)).is_ok());
    let request = v1::AcknowledgeCommandRequest {
        node_id: text("n"),
        ..Default::default()
    };
    refused(requests::acknowledgement(request), "command_id is required");
    let request = v1::AcknowledgeCommandRequest {
        node_id: text("n"),
        command_id: text("c"),
        ..Default::default()
    };
    refused(requests::acknowledgement(request), "outcome is required");
    refused(
        requests::automation(v1::SetAutomationRequest::default()),
        "mode is required",
    );
}

#[test]
fn commands_have_a_type_that_exists() {
    let order = |number: i32| {
        requests::command(wire::IssueCommandRequest {
            node_id: text("n"),
            command_type: number.into(),
            parameters: BTreeMap::from([(text("reason"), text("noisy fan"))]),
        })
    };
    refused(order(0), "command_type is required");
    for number in [99, -1, i32::MIN] {
        refused(
            order(number),
            &format!(
                "command_type has the number {number}, which means nothing; use 1 (cordon), \
                 2 (drain), 3 (run_diagnostic), 4 (terminate), 5 (uncordon)"
            ),
        );
    }
    let order = order(4).expect("it is sound");
    assert_eq!(order.kind, NodeCommandType::Terminate);
    assert_eq!(order.parameters["reason"], "noisy fan");
}

#[test]
fn a_number_that_means_nothing_is_refused_wherever_it_stands() {
    let request = wire::ListNodesRequest {
        status: 6.into(),
        ..Default::default()
    };
    refused(
        requests::nodes(request),
        "status has the number 6, which means nothing; use 0 (unknown), 1 (active), \
         2 (cordoned), 3 (draining), 4 (unhealthy), 5 (terminated)",
    );
    let request = wire::ListInstancesRequest {
        state: 7.into(),
        ..Default::default()
    };
    let error = requests::instances(request).expect_err("it is refused");
    assert!(
        error.message.starts_with("state has the number 7"),
        "{error}"
    );
    let event = |kind: i32, system: i32| wire::ReportHealthRequest {
        node_id: text("n"),
        events: vec![
            wire::HealthEvent::default(),
            wire::HealthEvent {
                event_type: kind.into(),
                system: system.into(),
                ..Default::default()
            },
        ],
        ..Default::default()
    };
    for (kind, system, part) in [
        (10, 0, "events[1].event_type has the number 10"),
        (0, 12, "events[1].system has the number 12"),
    ] {
        let error = requests::report(event(kind, system), Time(0)).expect_err("it is refused");
        assert!(error.message.starts_with(part), "{error}");
    }
    let request = v1::SetAutomationRequest {
        mode: v1::AutomationMode::AUTOMATION_MODE_INHERIT.into(),
        ..Default::default()
    };
    refused(
        requests::automation(request),
        "mode is inherit, which only a pool can do; name the pool, or use on, observe or off",
    );
    let request = v1::SetAutomationRequest {
        mode: v1::AutomationMode::AUTOMATION_MODE_INHERIT.into(),
        pool: text("train"),
        ..Default::default()
    };
    let change = requests::automation(request).expect("a pool can inherit");
    assert_eq!(change.mode, None);
    let request = v1::SetAutomationRequest {
        mode: 5.into(),
        ..Default::default()
    };
    refused(
        requests::automation(request),
        "mode has the number 5, which cannot be set; use 1 (on), 2 (observe), 3 (off) or 4 \
         (inherit)",
    );
}

#[test]
fn lists_have_limits() {
    let registration = |gpus: usize, capabilities: usize| {
        requests::registration(
            wire::RegisterNodeRequest {
                node_id: text("n"),
                gpus: vec![wire::GPUInfo::default(); gpus],
                capabilities: vec![text("x"); capabilities],
                ..Default::default()
            },
            String::new(),
        )
    };
    assert!(registration(128, 32).is_ok());
    refused(
        registration(129, 0),
        "gpus has 129 entries; the limit is 128",
    );
    refused(
        registration(0, 33),
        "capabilities has 33 entries; the limit is 32",
    );
    let report = |results: usize, events: usize| {
        let result = wire::HealthCheckResult {
            check_name: text("boot"),
            ..Default::default()
        };
        requests::report(
            wire::ReportHealthRequest {
                node_id: text("n"),
                results: vec![result; results],
                events: vec![wire::HealthEvent::default(); events],
                ..Default::default()
            },
            Time(0),
        )
    };
    assert!(report(256, 1000).is_ok());
    refused(
        report(0, 1001),
        "events has 1001 entries; the limit is 1000",
    );
    refused(report(257, 0), "results has 257 entries; the limit is 256");
    for (limit, expected) in [
        (0, Some(100)),
        (1, Some(1)),
        (1000, Some(1000)),
        (1001, None),
    ] {
        let request = v1::ListEventsRequest {
            limit,
            ..Default::default()
        };
        let page = requests::events(request).ok().map(|page| page.limit);
        assert_eq!(page, expected, "{limit}");
    }
}

#[test]
fn a_registration_becomes_what_the_fleet_takes() {
    let request = wire::RegisterNodeRequest {
        node_id: text("node-1"),
        provider: text("fake"),
        instance_id: text("nv-1"),
        boot_id: text("boot"),
        session_id: text("session"),
        machine_id: text("abc"),
        capabilities: vec![
            text("command_push"),
            text("full_reports"),
            text("from the future"),
        ],
        gpus: vec![wire::GPUInfo {
            index: 7,
            uuid: text("GPU-1"),
            memory_total: 80 << 30,
            ..Default::default()
        }],
        metadata: wire::NodeMetadata {
            hostname: text("host"),
            labels: BTreeMap::from([(text("pool"), text("dev"))]),
            ..Default::default()
        }
        .into(),
        ..Default::default()
    };
    let made = requests::registration(request, text("10.0.0.1:5")).expect("it is sound");
    assert_eq!(made.node, Some(NodeId::new("node-1")));
    assert_eq!(made.instance.expect("it was said").as_str(), "nv-1");
    assert_eq!(made.address, "10.0.0.1:5");
    let said = made.description;
    assert_eq!(
        (said.hostname.as_str(), said.machine_id.as_str()),
        ("host", "abc")
    );
    assert_eq!(said.labels["pool"], "dev");
    assert_eq!(
        (said.gpus[0].index, said.gpus[0].memory_total_bytes),
        (7, 80 << 30)
    );
    let can = said.capabilities;
    assert_eq!(
        (can.command_push, can.full_reports, can.command_results),
        (true, true, false)
    );

    let minus = wire::RegisterNodeRequest {
        node_id: text("n"),
        gpus: vec![wire::GPUInfo {
            memory_total: -1,
            ..Default::default()
        }],
        ..Default::default()
    };
    refused(
        requests::registration(minus, String::new()),
        "gpus[0].memory_total is -1; it cannot be negative",
    );
}

#[test]
fn a_report_becomes_what_the_fleet_takes() {
    let request = wire::ReportHealthRequest {
        node_id: text("node-1"),
        boot_id: text("boot-2"),
        session_id: text("session"),
        sequence: 7,
        full: true,
        events: vec![wire::HealthEvent {
            gpu_index: -1,
            watch: text("xid"),
            boot_id: text("boot-1"),
            event_type: wire::HealthEventType::Xid.into(),
            system: wire::HealthWatchSystem::Driver.into(),
            metrics: BTreeMap::from([(text("xid_code"), text("79"))]),
            ..Default::default()
        }],
        ..Default::default()
    };
    let made = requests::report(request, Time(5)).expect("it is sound");
    assert_eq!((made.sequence, made.full), (7, true));
    assert_eq!(made.boot.expect("it was said").as_str(), "boot-2");
    assert_eq!(made.session.expect("it was said").as_str(), "session");
    let fact = &made.facts[0];
    assert_eq!(fact.boot.as_ref().expect("it was said").as_str(), "boot-1");
    assert_eq!(
        (fact.happened, fact.gpu, fact.watch.as_str()),
        (5, None, "xid")
    );
    assert_eq!(fact.event_type, HealthEventType::Xid);
    assert_eq!(fact.system, HealthWatchSystem::Driver);
    assert_eq!(fact.metrics["xid_code"], "79");
}

#[test]
fn the_result_of_a_command_tells_how_it_exited() {
    for (code, signal, output, expected) in [
        (None, None, "ok", "ok"),
        (Some(0), None, "ok", "ok"),
        (Some(3), None, "no gpu", "exit status 3\nno gpu"),
        (Some(0), Some(9), "", "ended by signal 9\n"),
        (None, None, "bell\u{7}\tline\n", "bell \tline\n"),
    ] {
        let request = v1::AcknowledgeCommandRequest {
            node_id: text("n"),
            command_id: text("c"),
            outcome: v1::CommandOutcome::COMMAND_OUTCOME_FAILED.into(),
            output: text(output),
            exit_code: code,
            exit_signal: signal,
            ..Default::default()
        };
        let made = requests::acknowledgement(request).expect("it is sound");
        assert_eq!(made.state, CommandState::Failed);
        assert_eq!(made.result, expected);
    }
    let long = v1::AcknowledgeCommandRequest {
        node_id: text("n"),
        command_id: text("c"),
        outcome: v1::CommandOutcome::COMMAND_OUTCOME_SUCCEEDED.into(),
        output: "x".repeat(1 << 20),
        ..Default::default()
    };
    let made = requests::acknowledgement(long).expect("it is sound");
    assert_eq!(made.result.len(), navarch_model::command::MAX_RESULT_BYTES);
}

fn event(kind: EventKind, node: &str, pool: Option<&str>) -> Event {
    Event {
        sequence: 1,
        at: Stamp::default(),
        last: Stamp::default(),
        count: 1,
        kind,
        subject: Subject {
            node: Some(NodeId::new(node)),
            pool: pool.map(PoolName::new),
            ..Subject::default()
        },
        message: String::new(),
        details: BTreeMap::new(),
    }
}

#[test]
fn events_are_found_by_kind_family_and_subject() {
    let query = |kinds: &[&str], node: &str, pool: &str| {
        let filter = v1::EventFilter {
            kinds: kinds.iter().map(|kind| text(kind)).collect(),
            node_id: text(node),
            pool: text(pool),
            ..Default::default()
        };
        requests::watch_events(v1::WatchEventsRequest {
            filter: filter.into(),
            after_sequence: None,
        })
        .map(|(query, _)| query)
    };
    let opened = event(EventKind::IncidentOpened, "a", Some("p"));
    let status = event(EventKind::NodeStatus, "a", None);
    for (kinds, node, pool, matches) in [
        (&[][..], "", "", (true, true)),
        (&["incident"], "", "", (true, false)),
        (&["incident.*"], "", "", (true, false)),
        (&["incident.opened"], "", "", (true, false)),
        (&["incident.closed"], "", "", (false, false)),
        (&["node", "incident.opened"], "", "", (true, true)),
        (&[], "a", "", (true, true)),
        (&[], "b", "", (false, false)),
        (&[], "a", "p", (true, false)),
    ] {
        let query = query(kinds, node, pool).expect("it is sound");
        assert_eq!(
            (query.matches(&opened), query.matches(&status)),
            matches,
            "{kinds:?} {node} {pool}"
        );
    }
    for wrong in ["incid", "incident.opened.twice", "", ".", "INCIDENT"] {
        let error = query(&[wrong], "", "").expect_err(wrong);
        assert!(
            error
                .message
                .contains("which is no kind of event; kinds begin with agent, automation"),
            "{error}"
        );
    }
}

#[test]
fn filters_take_what_is_empty_as_everything() {
    let all = requests::nodes(wire::ListNodesRequest::default()).expect("it is sound");
    assert_eq!(all, requests::NodeQuery::default());
    let request = wire::ListNodesRequest {
        status: wire::NodeStatus::Draining.into(),
        ..Default::default()
    };
    let query = requests::nodes(request).expect("it is sound");
    assert_eq!(query.status, Some(NodeStatus::Draining));
    let request = wire::ListInstancesRequest {
        state: wire::InstanceState::Failed.into(),
        pool_name: text("dev"),
        ..Default::default()
    };
    let query = requests::instances(request).expect("it is sound");
    assert_eq!(query.state, Some(InstanceState::Failed));
    assert_eq!(query.pool, Some(PoolName::new("dev")));
    for (number, mode) in [
        (1, Automation::On),
        (2, Automation::Observe),
        (3, Automation::Off),
    ] {
        let request = v1::SetAutomationRequest {
            mode: number.into(),
            ..Default::default()
        };
        let change = requests::automation(request).expect("it is sound");
        assert_eq!((change.mode, change.pool), (Some(mode), None));
    }
}

#[test]
fn faults_to_order_are_ones_that_machines_can_show() {
    let inject = |kind: &str, code: Option<i32>, gpu: Option<i32>| {
        requests::inject_fault(v1::InjectFaultRequest {
            node_id: text("n"),
            kind: text(kind),
            code,
            gpu_index: gpu,
            ..Default::default()
        })
    };
    let fault = inject("xid", Some(79), Some(3)).expect("it is sound");
    assert_eq!(
        (fault.kind, fault.code, fault.gpu),
        ("xid", Some(79), Some(3))
    );
    let fault = inject("Backend_Error", None, None).expect("it is sound");
    assert_eq!((fault.kind, fault.gpu), ("backend-error", None));
    let kinds = "use one of xid, thermal, memory, nvlink, backend-error, device-error, \
                 boot-failure, row-remap, pcie, power, recovery-action";
    refused(
        inject("", None, None),
        &format!("kind is required; {kinds}"),
    );
    refused(
        inject("meteor", None, None),
        &format!("kind \"meteor\" is not a fault that machines can show; {kinds}"),
    );
    refused(
        inject("xid", None, None),
        "code is required for the kind xid; give the XID's number, for example 79",
    );
    refused(
        inject("xid", Some(0), None),
        "code is 0; XIDs have numbers from 1",
    );
    refused(
        inject("thermal", Some(79), None),
        "code is for the kind xid only, not for thermal",
    );
    refused(
        inject("thermal", None, Some(128)),
        "gpu_index is 128; it must be between 0 and 127",
    );
    let clear = |kind: &str| {
        requests::clear_fault(&v1::ClearFaultRequest {
            node_id: text("n"),
            kind: text(kind),
        })
    };
    assert_eq!(clear("").expect("all").kind, None);
    assert_eq!(
        clear("device-error").expect("one").kind,
        Some("device-error")
    );
    assert!(clear("meteor").is_err());
}

#[test]
fn holds_have_plain_words_and_a_time_that_makes_sense() {
    let request = |name: &str, owner: &str, milliseconds: i64| v1::AddHoldRequest {
        node_id: text("n"),
        name: text(name),
        owner: text(owner),
        expires_after_milliseconds: milliseconds,
        ..Default::default()
    };
    let day = 24 * 3600 * 1000;
    for (milliseconds, lasts) in [(0, None), (1000, Some(1)), (366 * day, Some(366 * 86_400))] {
        let (_, hold) = requests::add_hold(request("x", "y", milliseconds)).expect("it is fine");
        assert_eq!(hold.lasts.map(|lasts| lasts.as_secs()), lasts);
    }
    for (asked, says) in [
        (request("", "y", 0), "name is required"),
        (request("x", "", 0), "owner is required"),
        (request("a/b", "y", 0), "name is \"a/b\"; use letters"),
        (request("x", "y z", 0), "owner is \"y z\"; use letters"),
        (
            request("x", "y", 999),
            "expires_after_milliseconds is 999; it must",
        ),
        (
            request("x", "y", -1),
            "expires_after_milliseconds is -1; it must",
        ),
        (
            request("x", "y", 366 * day + 1),
            "expires_after_milliseconds is 31622400001;",
        ),
        (
            request("x", "y", i64::MIN),
            "expires_after_milliseconds is -9223372036854775808;",
        ),
    ] {
        let error = requests::add_hold(asked).expect_err("it is refused");
        assert!(error.message.starts_with(says), "{error}");
    }
}

#[test]
fn what_is_to_end_is_named_in_one_way() {
    let request = |instance: &str, provider: &str, machine: &str| {
        requests::terminate_instance(v1::TerminateInstanceRequest {
            instance_id: text(instance),
            provider: text(provider),
            provider_instance_id: text(machine),
            ..Default::default()
        })
    };
    for (instance, provider, machine) in [("", "", ""), ("i", "p", ""), ("i", "", "m")] {
        refused(
            request(instance, provider, machine),
            "name either instance_id, or provider and provider_instance_id",
        );
    }
    assert!(request("", "p", "").is_err());
    assert!(request("", "", "m").is_err());
    assert!(request("i", "", "").is_ok());
    assert!(request("", "p", "m").is_ok());
}

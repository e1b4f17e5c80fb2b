//! The real binary against a double of the control plane's handlers.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use navarch_api::{ApiError, wire};
use navarch_time::{RealClock, timeout};
use serde_json::{Value, json};
use support::{Double, Mood, PATIENCE};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdin, Command};

/// How long an agent may take to end when it is told to: much less on an idle machine.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// A running agent.
struct Agent {
    child: Child,
    /// Held open: waiting for a child closes what it still has of it.
    stdin: Option<ChildStdin>,
    debug: PathBuf,
}

/// How the agent ended, and what it logged.
struct Ended {
    status: ExitStatus,
    log: String,
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_navarch-node"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NAVARCH_") {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

impl Agent {
    /// Starts one as the fake cloud does, with its state below `dir`.
    fn start(double: &Double, dir: &Path) -> Self {
        Self::start_with(double, dir, &[])
    }

    fn start_with(double: &Double, dir: &Path, more: &[&str]) -> Self {
        let debug = dir.join("debug-address");
        // What an earlier agent wrote says nothing of this one.
        let _absent = std::fs::remove_file(&debug);
        let server = format!("--server={}", double.url());
        let state = format!("--state-dir={}", dir.join("state").display());
        let file = format!("--debug-address-file={}", debug.display());
        let mut arguments = vec![
            server.as_str(),
            "--node-id=node-1",
            "--instance-id=nv-1",
            "--provider=fake",
            "--region=here",
            "--zone=here-a",
            "--instance-type=fake-8",
            "--pool=dev",
            "--label=team=a",
            "--fake-gpus=8",
            "--debug-listen=127.0.0.1:0",
            state.as_str(),
            file.as_str(),
            "--exit-with-stdin",
        ];
        arguments.extend(more);
        Self::spawn(
            command(&arguments).env("NAVARCH_AUTH_TOKEN", "s3cret"),
            debug,
        )
    }

    fn spawn(command: &mut Command, debug: PathBuf) -> Self {
        let mut child = command.spawn().expect("it starts");
        let stdin = child.stdin.take();
        Self {
            child,
            stdin,
            debug,
        }
    }

    async fn kill(mut self) {
        self.child.kill().await.expect("it runs");
    }

    /// Closes its standard input, and waits for its end.
    async fn close(mut self, limit: Duration) -> Ended {
        drop(self.stdin.take());
        self.ended(limit).await
    }

    async fn ended(&mut self, limit: Duration) -> Ended {
        let Ok(status) = timeout(&RealClock::new(), limit, self.child.wait()).await else {
            panic!("the agent did not end within {limit:?}");
        };
        let mut log = String::new();
        let errors = self.child.stderr.as_mut().expect("it is piped");
        errors.read_to_string(&mut log).await.expect("it is text");
        Ended {
            status: status.expect("it was started"),
            log,
        }
    }

    /// Calls the debug API.
    async fn debug(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        self.debug_with(method, path, body, &[]).await
    }

    async fn debug_with(
        &self,
        method: &str,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> (u16, Value) {
        let address = std::fs::read_to_string(&self.debug).expect("registered agents told it");
        let url = format!("http://{}{path}", address.trim());
        let method = method.parse().expect("a method");
        let mut call = reqwest::Client::new()
            .request(method, url)
            .body(body.to_owned());
        for (name, value) in headers {
            call = call.header(*name, *value);
        }
        let answer = call.send().await.expect("it answers");
        let status = answer.status().as_u16();
        (status, answer.json().await.expect("every answer is JSON"))
    }

    async fn inject(&self, kind: &str, body: &str) {
        let (status, answer) = self
            .debug("POST", &format!("/debug/inject/{kind}"), body)
            .await;
        assert_eq!(status, 200, "{kind} {body}: {answer}");
    }

    async fn faults(&self) -> Vec<Value> {
        let (status, state) = self.debug("GET", "/debug/state", "").await;
        assert_eq!(status, 200);
        state["faults"].as_array().expect("a list").clone()
    }
}

/// Lets a command wait at the double.
fn order(double: &Double, id: &str, kind: wire::NodeCommandType) {
    double.set(|recorded| {
        recorded.waiting.push(wire::NodeCommand {
            command_id: id.to_owned(),
            r#type: kind.into(),
            ..Default::default()
        });
    });
}

async fn first_full_report(double: &Double) -> wire::ReportHealthRequest {
    let full =
        |recorded: &support::Recorded| recorded.reports.iter().find(|report| report.full).cloned();
    double.until("a full report", full).await
}

#[tokio::test]
async fn a_machine_registers_beats_and_reports_in_full_at_once() {
    let (double, dir) = (
        Double::start().await,
        tempfile::tempdir().expect("a directory"),
    );
    let agent = Agent::start(&double, dir.path());
    let report = first_full_report(&double).await;
    double
        .until("a heartbeat", |recorded| recorded.beats.first().map(drop))
        .await;
    let (registration, beat, tokens) = double.look(|recorded| {
        let beat = recorded.beats[0].clone();
        (
            recorded.registrations[0].clone(),
            beat,
            recorded.authorizations.clone(),
        )
    });
    assert!(
        tokens.iter().all(|token| token == "Bearer s3cret"),
        "{tokens:?}"
    );

    assert_eq!(
        [
            &registration.node_id,
            &registration.instance_id,
            &registration.provider,
            &registration.region,
            &registration.zone,
            &registration.instance_type,
        ],
        ["node-1", "nv-1", "fake", "here", "here-a", "fake-8"]
    );
    let metadata = registration.metadata.as_option().expect("it is there");
    let labels = [("pool", "dev"), ("team", "a")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(metadata.labels, BTreeMap::from(labels));
    assert!(!metadata.hostname.is_empty() && !metadata.kernel_version.is_empty());
    assert_eq!(
        registration.capabilities,
        ["full_reports", "command_results", "command_push"]
    );
    assert_eq!(registration.gpus.len(), 8);
    let uuids: BTreeSet<_> = registration.gpus.iter().map(|gpu| &gpu.uuid).collect();
    assert_eq!(uuids.len(), 8);
    assert!(
        registration
            .gpus
            .iter()
            .all(|gpu| !gpu.driver_version.is_empty() && !gpu.cuda_version.is_empty())
    );
    assert!(registration.machine_id.starts_with("fake-"));

    let session = &registration.session_id;
    assert_eq!(session.len(), 36);
    assert_eq!(
        (&beat.session_id, &beat.boot_id),
        (session, &registration.boot_id)
    );
    let metrics = beat.metrics.as_option().expect("it measures");
    assert_eq!(metrics.gpu_metrics.len(), 8);
    assert!(metrics.memory_usage_percent > 0.0 && metrics.gpu_metrics[0].temperature > 20);

    assert_eq!(
        (&report.session_id, &report.boot_id),
        (session, &registration.boot_id)
    );
    assert_eq!(report.sequence, 1);
    let watches = |gpu: i32| -> BTreeSet<&str> {
        let of_gpu = report.events.iter().filter(|event| event.gpu_index == gpu);
        of_gpu.map(|event| event.watch.as_str()).collect()
    };
    assert_eq!(
        watches(-1),
        ["boot", "device_count", "driver", "nvlink", "xid"].into()
    );
    for gpu in 0..8 {
        let all = [
            "driver",
            "memory",
            "nvlink",
            "pcie",
            "power",
            "temperature",
            "xid",
        ];
        assert_eq!(watches(gpu), all.into(), "GPU {gpu}");
    }
    let ended = agent.close(ENDS_WITHIN).await;
    assert!(ended.status.success());
    assert!(
        !ended.log.contains("s3cret"),
        "the token is not logged: {}",
        ended.log
    );
    for line in [
        "starting Navarch Node Daemon",
        "authentication enabled",
        "received config from control plane",
        "node daemon started successfully",
        "shutting down node daemon",
        "node daemon stopped",
    ] {
        assert!(ended.log.contains(line), "{line} is not in {}", ended.log);
    }
    assert!(
        !ended.log.contains("WARN") && !ended.log.contains("ERROR"),
        "{}",
        ended.log
    );
}

#[tokio::test]
async fn an_xid_outlives_the_control_planes_absence_and_the_agents_death() {
    let (double, dir) = (
        Double::start().await,
        tempfile::tempdir().expect("a directory"),
    );
    let agent = Agent::start(&double, dir.path());
    first_full_report(&double).await;
    // Pushed the moment it happens, although the next full report is a minute away.
    agent.inject("xid", r#"{"gpu": 3, "code": 79}"#).await;
    let told = |recorded: &support::Recorded| (recorded.xids() == ["79"]).then_some(());
    double.until("the XID", told).await;
    double.set(|recorded| recorded.mood = Mood::Away);
    // Once a report was not taken, the one before it is done with, and nothing but what happens
    // writes to the spool.
    agent.inject("thermal", "").await;
    let away = |recorded: &support::Recorded| (recorded.refusals > 0).then_some(());
    double.until("a report that is not taken", away).await;
    agent
        .inject(
            "xid",
            r#"{"gpu": 1, "code": 48, "message": "while you were away"}"#,
        )
        .await;
    agent.inject("memory", r#"{"gpu": 2, "dbe": 1}"#).await;
    // Answered means kept: not even SIGKILL loses it.
    agent.kill().await;
    let before = double.look(|recorded| recorded.registrations[0].clone());

    double.set(|recorded| {
        recorded.mood = Mood::Normal;
        recorded.full_milliseconds = 200;
    });
    let agent = Agent::start(&double, dir.path());
    // The second full report goes when everything before it was taken.
    let taken = |recorded: &support::Recorded| {
        let session = &recorded.registrations.get(1)?.session_id;
        let mine =
            |report: &&wire::ReportHealthRequest| report.full && report.session_id == *session;
        (recorded.reports.iter().filter(mine).count() >= 2).then_some(())
    };
    double.until("everything that was kept", taken).await;
    let (after, xid, ecc) = double.look(|recorded| {
        let find = |kind: wire::HealthEventType| {
            recorded
                .events()
                .filter(move |event| event.event_type.as_known() == Some(kind))
                .cloned()
        };
        let xids: Vec<_> = find(wire::HealthEventType::HEALTH_EVENT_TYPE_XID).collect();
        let ecc = find(wire::HealthEventType::HEALTH_EVENT_TYPE_ECC_DBE).next();
        assert_eq!(recorded.xids(), ["79", "48"]);
        let last = xids.last().expect("there are two").clone();
        (recorded.registrations[1].clone(), last, ecc)
    });
    assert_eq!(
        (xid.gpu_index, xid.message.as_str()),
        (1, "while you were away")
    );
    assert_eq!(ecc.expect("it is told too").gpu_index, 2);
    // The same machine in the same boot, in another session; nothing is repaired by a restart.
    assert_eq!(
        (&before.machine_id, &before.boot_id, &before.gpus),
        (&after.machine_id, &after.boot_id, &after.gpus)
    );
    assert_ne!(before.session_id, after.session_id);
    assert_eq!(xid.boot_id, before.boot_id);
    assert_eq!(agent.faults().await.len(), 4);
    // What was taken is not kept: a further agent has nothing left to tell.
    let xids = |recorded: &support::Recorded| {
        let codes = recorded
            .events()
            .filter(|event| event.metrics.contains_key("xid_code"));
        (recorded.reports.len(), codes.count())
    };
    agent.kill().await;
    let (reports, told) = double.look(xids);
    let _agent = Agent::start(&double, dir.path());
    double
        .until("a full report of the third", |recorded| {
            let mut fresh = recorded.reports[reports..].iter();
            fresh.any(|report| report.full).then_some(())
        })
        .await;
    assert_eq!(double.look(xids).1, told);
}

/// Kind, body, and the reading or event that it leads to: watch, GPU, event type.
const FAULTS: [(&str, &str, &str, i32, &str); 14] = [
    (
        "xid",
        r#"{"gpu":3,"code":79}"#,
        "",
        3,
        "HEALTH_EVENT_TYPE_XID",
    ),
    (
        "thermal",
        r#"{"gpu":1,"temperature":99}"#,
        "temperature",
        1,
        "HEALTH_EVENT_TYPE_THERMAL",
    ),
    (
        "memory",
        r#"{"gpu":2,"dbe":2}"#,
        "memory",
        2,
        "HEALTH_EVENT_TYPE_ECC_DBE",
    ),
    (
        "memory",
        r#"{"gpu":2,"sbe":2}"#,
        "memory",
        2,
        "HEALTH_EVENT_TYPE_ECC_SBE",
    ),
    (
        "nvlink",
        r#"{"gpu":5,"link":4}"#,
        "nvlink",
        5,
        "HEALTH_EVENT_TYPE_NVLINK",
    ),
    (
        "backend-error",
        "",
        "driver",
        -1,
        "HEALTH_EVENT_TYPE_DRIVER_ERROR",
    ),
    (
        "device-error",
        r#"{"gpu":6}"#,
        "driver",
        6,
        "HEALTH_EVENT_TYPE_DRIVER_ERROR",
    ),
    (
        "device-error",
        r#"{"gpu":6,"missing":true}"#,
        "device_count",
        -1,
        "HEALTH_EVENT_TYPE_UNKNOWN",
    ),
    (
        "boot-failure",
        "{}",
        "device_count",
        -1,
        "HEALTH_EVENT_TYPE_UNKNOWN",
    ),
    (
        "row-remap",
        r#"{"gpu":4}"#,
        "memory",
        4,
        "HEALTH_EVENT_TYPE_MEMORY",
    ),
    (
        "row-remap",
        r#"{"gpu":4,"failed":true}"#,
        "memory",
        4,
        "HEALTH_EVENT_TYPE_MEMORY",
    ),
    ("pcie", r#"{"gpu":7}"#, "pcie", 7, "HEALTH_EVENT_TYPE_PCIE"),
    ("power", "", "power", 0, "HEALTH_EVENT_TYPE_POWER"),
    (
        "recovery-action",
        r#"{"gpu":2,"action":1}"#,
        "driver",
        2,
        "HEALTH_EVENT_TYPE_UNKNOWN",
    ),
];

#[tokio::test]
async fn every_fault_is_told_at_once_and_every_clear_is_a_reboot() {
    let (double, dir) = (
        Double::start().await,
        tempfile::tempdir().expect("a directory"),
    );
    let agent = Agent::start(&double, dir.path());
    first_full_report(&double).await;
    let mut boots = double.look(|recorded| vec![recorded.registrations[0].boot_id.clone()]);
    for (at, (kind, body, watch, gpu, event_type)) in FAULTS.into_iter().enumerate() {
        let seen = double.look(|recorded| recorded.reports.len());
        agent.inject(kind, body).await;
        let told = double
            .until(kind, |recorded| {
                let mut fresh = recorded.reports[seen..]
                    .iter()
                    .flat_map(|report| &report.events);
                fresh
                    .find(|event| {
                        let named = wire_name(event) == event_type;
                        named && event.watch == watch && event.gpu_index == gpu
                    })
                    .cloned()
            })
            .await;
        if watch == "device_count" {
            let left = if kind == "boot-failure" { "0" } else { "7" };
            assert_eq!(told.metrics["gpu_count"], left, "{kind}");
        }
        assert_eq!(agent.faults().await.len(), 1, "{kind} {body}");

        let registrations = double.look(|recorded| recorded.registrations.len());
        let path = if at % 2 == 0 {
            format!("/debug/clear/{kind}")
        } else {
            "/debug/clear".to_owned()
        };
        let (status, answer) = agent.debug("POST", &path, "").await;
        assert_eq!(
            (status, &answer["repaired"]["cleared"]),
            (200, &json!(1)),
            "{path}: {answer}"
        );
        let again = double
            .until("a registration after the boot", |recorded| {
                recorded.registrations.get(registrations).cloned()
            })
            .await;
        assert_eq!(again.boot_id, answer["repaired"]["boot_id"]);
        assert!(!boots.contains(&again.boot_id), "every clear is a boot");
        assert_eq!(again.gpus.len(), 8);
        boots.push(again.boot_id.clone());
        let healthy = double
            .until("a full report after the boot", |recorded| {
                let mut reports = recorded.reports.iter();
                reports
                    .find(|report| report.full && report.boot_id == again.boot_id)
                    .cloned()
            })
            .await;
        assert_eq!(healthy.session_id, again.session_id);
        let shows = healthy.events.iter().any(|event| {
            !matches!(
                wire_name(event),
                "HEALTH_EVENT_TYPE_UNKNOWN" | "HEALTH_EVENT_TYPE_THERMAL"
            )
        });
        assert!(!shows, "{kind} is repaired: {healthy:?}");
        assert!(agent.faults().await.is_empty());
    }
}

fn wire_name(event: &wire::HealthEvent) -> &'static str {
    let number = event.event_type.to_i32();
    navarch_model::HealthEventType::from_number(number).map_or("?", |kind| kind.name())
}

#[tokio::test]
async fn a_clear_of_one_kind_leaves_the_others() {
    let (double, dir) = (
        Double::start().await,
        tempfile::tempdir().expect("a directory"),
    );
    let agent = Agent::start(&double, dir.path());
    first_full_report(&double).await;
    agent.inject("thermal", r#"{"gpu":1}"#).await;
    agent.inject("nvlink", r#"{"gpu":2}"#).await;
    agent.inject("xid", "").await;
    let (status, _) = agent.debug("POST", "/debug/clear/thermal", "").await;
    assert_eq!(status, 200);
    let registered = |recorded: &support::Recorded| recorded.registrations.get(1).map(drop);
    double
        .until("a registration after the boot", registered)
        .await;
    let kinds = |faults: Vec<Value>| -> Vec<String> {
        let kind = |fault: &Value| fault["fault"]["kind"].as_str().expect("a kind").to_owned();
        faults.iter().map(kind).collect()
    };
    assert_eq!(kinds(agent.faults().await), ["nvlink", "xid"]);
    // What is left is there after a restart of the agent, too.
    agent.kill().await;
    let agent = Agent::start(&double, dir.path());
    let shown = |recorded: &support::Recorded| (recorded.registrations.len() >= 3).then_some(());
    double
        .until("the registration of the second agent", shown)
        .await;
    assert_eq!(kinds(agent.faults().await), ["nvlink", "xid"]);
}

#[tokio::test]
async fn bad_requests_to_the_debug_api_are_refused_and_not_recorded() {
    let (double, dir) = (
        Double::start().await,
        tempfile::tempdir().expect("a directory"),
    );
    let agent = Agent::start(&double, dir.path());
    first_full_report(&double).await;
    let long = format!(r#"{{"message":"{}"}}"#, "x".repeat(2000));
    let huge = " ".repeat(70_000);
    for (method, path, body, status, part) in [
        ("POST", "/debug/inject/fire", "", 404, "unknown fault kind"),
        ("POST", "/debug/inject/fan", "", 404, "unknown fault kind"),
        ("POST", "/debug/inject/XID", "", 404, "unknown fault kind"),
        ("POST", "/debug/clear/fire", "", 404, "unknown fault kind"),
        ("POST", "/debug/inject/xid", "{", 400, "the body is no JSON"),
        (
            "POST",
            "/debug/inject/xid",
            "[1]",
            400,
            "must be a JSON object",
        ),
        (
            "POST",
            "/debug/inject/xid",
            r#"{"gpu":8}"#,
            400,
            "there is no GPU 8",
        ),
        ("POST", "/debug/inject/xid", r#"{"gpu":-1}"#, 400, "-1"),
        (
            "POST",
            "/debug/inject/xid",
            r#"{"gpu":99999999999}"#,
            400,
            "99999999999",
        ),
        (
            "POST",
            "/debug/inject/xid",
            r#"{"code":0}"#,
            400,
            "code is out of range",
        ),
        (
            "POST",
            "/debug/inject/xid",
            r#"{"cod":79}"#,
            400,
            "unknown field `cod`",
        ),
        (
            "POST",
            "/debug/inject/xid",
            r#"{"kind":"thermal"}"#,
            400,
            "the kind is in the path",
        ),
        (
            "POST",
            "/debug/inject/thermal",
            r#"{"temperature":9000}"#,
            400,
            "temperature is out of range",
        ),
        ("POST", "/debug/inject/memory", "{}", 400, "sbe and dbe"),
        (
            "POST",
            "/debug/inject/nvlink",
            r#"{"link":18}"#,
            400,
            "link is out of range",
        ),
        (
            "POST",
            "/debug/inject/backend-error",
            r#"{"gpu":1}"#,
            400,
            "gpu",
        ),
        (
            "POST",
            "/debug/inject/xid",
            long.as_str(),
            400,
            "longer than",
        ),
        (
            "POST",
            "/debug/inject/xid",
            huge.as_str(),
            413,
            "length limit exceeded",
        ),
        ("GET", "/debug/inject/xid", "", 405, "wrong method"),
        ("POST", "/debug/state", "", 405, "wrong method"),
        ("POST", "/debug/inject", "", 404, "no such endpoint"),
        ("GET", "/", "", 404, "no such endpoint"),
    ] {
        let (got, answer) = agent.debug(method, path, body).await;
        let words = answer["error"].as_str().unwrap_or_default();
        assert_eq!(got, status, "{method} {path}: {answer}");
        assert!(words.contains(part), "{method} {path}: {answer}");
    }
    let web = [("origin", "https://example.org")];
    let (status, _) = agent
        .debug_with("POST", "/debug/inject/xid", "", &web)
        .await;
    assert_eq!(status, 403);
    assert!(agent.faults().await.is_empty(), "nothing was recorded");
    double.look(|recorded| {
        assert_eq!(
            (recorded.registrations.len(), recorded.xids().len()),
            (1, 0)
        );
    });
}

#[tokio::test]
async fn a_command_runs_once_however_often_it_comes() {
    let (double, dir) = (
        Double::start().await,
        tempfile::tempdir().expect("a directory"),
    );
    let agent = Agent::start(&double, dir.path());
    first_full_report(&double).await;
    order(
        &double,
        "c-1",
        wire::NodeCommandType::NODE_COMMAND_TYPE_RUN_DIAGNOSTIC,
    );
    let acknowledged = |count: usize| {
        move |recorded: &support::Recorded| recorded.acknowledgements.get(count - 1).cloned()
    };
    let first = double.until("the result", acknowledged(1)).await;
    assert_eq!(
        (first.command_id.as_str(), first.outcome.to_i32()),
        ("c-1", 1)
    );
    assert!(
        first.output.contains("device_count gpu_count=8"),
        "{}",
        first.output
    );
    // The machine changes; a repeat gets the result of the one run.
    agent
        .inject("thermal", r#"{"gpu":1,"temperature":99}"#)
        .await;
    order(
        &double,
        "c-1",
        wire::NodeCommandType::NODE_COMMAND_TYPE_RUN_DIAGNOSTIC,
    );
    let again = double.until("the result again", acknowledged(2)).await;
    assert_eq!(again.output, first.output);
    agent.kill().await;
    order(
        &double,
        "c-1",
        wire::NodeCommandType::NODE_COMMAND_TYPE_RUN_DIAGNOSTIC,
    );
    let agent = Agent::start(&double, dir.path());
    let later = double
        .until("the result after a restart", acknowledged(3))
        .await;
    assert_eq!(later.output, first.output);
    // A command of its own does run.
    order(
        &double,
        "c-2",
        wire::NodeCommandType::NODE_COMMAND_TYPE_RUN_DIAGNOSTIC,
    );
    let other = double.until("the second result", acknowledged(4)).await;
    assert!(other.output.contains("temperature=99"), "{}", other.output);
    order(
        &double,
        "c-3",
        wire::NodeCommandType::NODE_COMMAND_TYPE_CORDON,
    );
    let refused = double.until("a refusal", acknowledged(5)).await;
    assert_eq!(refused.outcome.to_i32(), 2);
    assert!(
        refused.output.contains("control plane"),
        "{}",
        refused.output
    );
    let ended = agent.close(PATIENCE).await;
    assert!(ended.log.contains("carried out before"), "{}", ended.log);
}

#[tokio::test]
async fn terminate_is_acknowledged_and_ends_the_agent() {
    let (double, dir) = (
        Double::start().await,
        tempfile::tempdir().expect("a directory"),
    );
    let mut agent = Agent::start(&double, dir.path());
    first_full_report(&double).await;
    order(
        &double,
        "c-9",
        wire::NodeCommandType::NODE_COMMAND_TYPE_TERMINATE,
    );
    let ended = agent.ended(PATIENCE).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    double.look(|recorded| {
        let told: Vec<_> = recorded
            .acknowledgements
            .iter()
            .map(|told| (told.command_id.as_str(), told.outcome.to_i32()))
            .collect();
        assert_eq!(told, [("c-9", 1)], "{}", ended.log);
    });
    // Started again, it does not stop for the same command.
    order(
        &double,
        "c-9",
        wire::NodeCommandType::NODE_COMMAND_TYPE_TERMINATE,
    );
    let agent = Agent::start(&double, dir.path());
    double
        .until("the answer to a repeat", |recorded| {
            recorded.acknowledgements.get(1).map(drop)
        })
        .await;
    let beats = double.look(|recorded| recorded.beats.len());
    double
        .until("a heartbeat", |recorded| {
            (recorded.beats.len() > beats.min(1)).then_some(())
        })
        .await;
    assert!(agent.close(PATIENCE).await.status.success());
}

#[tokio::test]
async fn a_control_plane_without_push_is_polled() {
    let (double, dir) = (
        Double::start().await,
        tempfile::tempdir().expect("a directory"),
    );
    double.set(|recorded| recorded.without_push = true);
    order(
        &double,
        "c-1",
        wire::NodeCommandType::NODE_COMMAND_TYPE_RUN_DIAGNOSTIC,
    );
    let _agent = Agent::start(&double, dir.path());
    let told = double
        .until("the result", |recorded| {
            recorded.acknowledgements.first().cloned()
        })
        .await;
    assert_eq!(told.outcome.to_i32(), 1);
    assert!(double.look(|recorded| recorded.polls) > 0);
}

#[tokio::test]
async fn a_refused_event_is_dropped_and_the_agent_goes_on() {
    let (double, dir) = (
        Double::start().await,
        tempfile::tempdir().expect("a directory"),
    );
    let agent = Agent::start(&double, dir.path());
    first_full_report(&double).await;
    // Its first heartbeat is not to be refused as well.
    double
        .until("a heartbeat", |recorded| recorded.beats.first().map(drop))
        .await;
    double.set(|recorded| {
        recorded.mood = Mood::Refusing(|| ApiError::invalid_argument("not to my taste"));
    });
    agent.inject("xid", r#"{"code": 13}"#).await;
    double
        .until("a refusal", |recorded| {
            (recorded.refusals >= 1).then_some(())
        })
        .await;
    double.set(|recorded| recorded.mood = Mood::Normal);
    agent.inject("xid", r#"{"code": 79}"#).await;
    double
        .until("the next XID", |recorded| {
            (recorded.xids() == ["79"]).then_some(())
        })
        .await;
    let ended = agent.close(PATIENCE).await;
    assert_eq!(
        ended
            .log
            .matches("the control plane refused an event")
            .count(),
        1,
        "{}",
        ended.log
    );
}

#[tokio::test]
async fn an_agent_waits_for_a_control_plane_that_is_not_there_yet() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut agent = command(&[
        "--server=http://127.0.0.1:1",
        "--node-id=n",
        "--fake-gpus=1",
        "--exit-with-stdin",
        "--state-dir",
        dir.path().to_str().expect("it is text"),
    ])
    .spawn()
    .expect("it starts");
    // It says what is wrong, once.
    let mut errors = agent.stderr.take().expect("it is piped");
    let mut log = Vec::new();
    let told = async {
        while !String::from_utf8_lossy(&log).contains("nothing listens at http://127.0.0.1:1") {
            assert_ne!(errors.read_buf(&mut log).await.expect("it is readable"), 0);
        }
    };
    timeout(&RealClock::new(), PATIENCE, told)
        .await
        .expect("it says so");
    drop(agent.stdin.take());
    let ended = timeout(&RealClock::new(), ENDS_WITHIN, agent.wait()).await;
    assert!(ended.expect("it ends").expect("it was started").success());
}

#[cfg(unix)]
#[tokio::test]
async fn signals_end_the_agent_in_order() {
    for signal in ["TERM", "INT"] {
        let (double, dir) = (
            Double::start().await,
            tempfile::tempdir().expect("a directory"),
        );
        let mut agent = Agent::start(&double, dir.path());
        first_full_report(&double).await;
        let pid = agent.child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill")
            .args([&format!("-{signal}"), &pid])
            .status();
        assert!(sent.expect("kill is there").success());
        let ended = agent.ended(ENDS_WITHIN).await;
        assert_eq!(ended.status.code(), Some(0), "{signal}: {}", ended.log);
    }
}

#[tokio::test]
async fn flags_that_make_no_sense_end_with_2_and_what_cannot_be_with_1() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("file");
    std::fs::write(&state, "").expect("it is written");
    let state = format!("--state-dir={}", state.display());
    for (arguments, code, part) in [
        (&["--server=localhost:50051"][..], 2, "localhost:50051"),
        (&["--node-id=a b"], 2, "--node-id has the character ' '"),
        (&["--fake-gpus=65"], 2, "a number from 0 to 64"),
        (&["--debug-listen=127.0.0.1:0"], 2, "needs fake GPUs"),
        (
            &["--fake-gpus=1", "--debug-listen=0.0.0.0:0"],
            2,
            "loopback addresses only",
        ),
        (
            &["--fake-gpus=1", "--debug-listen=[::]:0"],
            2,
            "loopback addresses only",
        ),
        (&["--log-level=loud"], 2, "--log-level"),
        (&["--nodes=1"], 2, "--nodes"),
        (&["--auth-token=a b"], 2, "token"),
        (
            &["--fake-gpus=1", &state],
            1,
            "cannot make the state directory",
        ),
    ] {
        let output = command(arguments).stdin(Stdio::null()).output();
        let output = timeout(&RealClock::new(), PATIENCE, output)
            .await
            .expect("it ends")
            .expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn an_agent_that_loses_its_node_again_and_again_says_so_once() {
    let (double, dir) = (
        Double::start().await,
        tempfile::tempdir().expect("a directory"),
    );
    let agent = Agent::start(&double, dir.path());
    first_full_report(&double).await;
    // The first registration, and one after each loss.
    for registrations in 2..=5 {
        double.set(|recorded| {
            recorded.mood = Mood::Refusing(|| {
                let rival = "session superseded: another agent registered as node-1 since";
                ApiError::failed_precondition(rival)
            });
        });
        agent.inject("xid", r#"{"code": 13}"#).await;
        double
            .until("another registration", |recorded| {
                (recorded.registrations.len() == registrations).then_some(())
            })
            .await;
    }
    let ended = agent.close(PATIENCE).await;
    let said = "another agent keeps registering under this node id";
    assert_eq!(ended.log.matches(said).count(), 1, "{}", ended.log);
}

#[tokio::test]
async fn two_agents_do_not_share_a_state_directory() {
    let (double, dir) = (
        Double::start().await,
        tempfile::tempdir().expect("a directory"),
    );
    let _first = Agent::start(&double, dir.path());
    first_full_report(&double).await;
    let mut second = Agent::start(&double, dir.path());
    let ended = second.ended(PATIENCE).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.log.contains("another agent uses"), "{}", ended.log);
}

#[tokio::test]
async fn a_machine_without_the_gpu_library_says_so_in_one_line() {
    let double = Double::start().await;
    let server = format!("--server={}", double.url());
    let flags = [server.as_str(), "--node-id=plain", "--exit-with-stdin"];
    let agent = Agent::spawn(&mut command(&flags), "nowhere".into());
    let report = first_full_report(&double).await;
    let registration = double.look(|recorded| recorded.registrations[0].clone());
    // A machine that has the library reads its GPUs; then there is nothing to see here.
    let has_library = report.events.iter().any(|event| event.watch == "driver");
    let ended = agent.close(PATIENCE).await;
    assert!(ended.status.success());
    if !has_library {
        assert!(registration.gpus.is_empty());
        assert_eq!(
            ended.log.matches("reporting zero GPUs").count(),
            1,
            "{}",
            ended.log
        );
        assert!(ended.log.contains("kept in memory only"), "{}", ended.log);
    }
}

#[tokio::test]
async fn the_log_is_json_when_asked() {
    let (double, dir) = (
        Double::start().await,
        tempfile::tempdir().expect("a directory"),
    );
    let agent = Agent::start_with(
        &double,
        dir.path(),
        &["--log-format=json", "--log-level=debug"],
    );
    first_full_report(&double).await;
    agent.inject("xid", r#"{"gpu": 2}"#).await;
    let ended = agent.close(PATIENCE).await;
    let event = ended
        .log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect(line))
        .find(|line| line["message"] == "health event detected")
        .expect("it is logged before the injection is answered");
    let fields = ["level", "event_type", "gpu_index", "xid"].map(|field| &event[field]);
    assert_eq!(
        fields,
        [&json!("WARN"), &json!("xid"), &json!(2), &json!("79")]
    );
    assert!(!ended.log.contains("s3cret"));
}

//! What agents send.

use navarch_core::liveness::{GpuSample, Sample};
use navarch_core::{Fact, GradedResult, Registration, Report};
use navarch_model::command::MAX_RESULT_BYTES;
use navarch_model::ids::check_id;
use navarch_model::{
    BootId, Capabilities, CommandId, CommandState, Description, Gpu, HealthEventType, HealthStatus,
    HealthWatchSystem, InstanceId, NodeId, SessionId, Time,
};

use crate::limits::{MAX_CAPABILITIES, MAX_EVENTS, MAX_GPUS, MAX_RESULTS};
use crate::{ApiError, check, v1, wire};

/// A registration. `address` is where it came from.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn registration(
    request: wire::RegisterNodeRequest,
    address: String,
) -> Result<Registration, ApiError> {
    let node = check::id("node_id", &request.node_id, NodeId::parse)?;
    check::count("gpus", request.gpus.len(), MAX_GPUS)?;
    check::count("capabilities", request.capabilities.len(), MAX_CAPABILITIES)?;
    let gpus = request
        .gpus
        .into_iter()
        .enumerate()
        .map(|(at, said)| gpu(at, said))
        .collect::<Result<_, _>>()?;
    let metadata = request.metadata.into_option().unwrap_or_default();
    let can = |what: &str| request.capabilities.iter().any(|said| said == what);
    Ok(Registration {
        node: Some(node),
        instance: check::optional_id("instance_id", &request.instance_id, InstanceId::parse)?,
        boot: check::optional_id("boot_id", &request.boot_id, BootId::parse)?,
        session: check::optional_id("session_id", &request.session_id, SessionId::parse)?,
        description: Description {
            provider: check::name("provider", request.provider)?,
            region: check::name("region", request.region)?,
            zone: check::name("zone", request.zone)?,
            instance_type: check::name("instance_type", request.instance_type)?,
            gpus,
            hostname: check::name("metadata.hostname", metadata.hostname)?,
            internal_ip: check::name("metadata.internal_ip", metadata.internal_ip)?,
            external_ip: check::name("metadata.external_ip", metadata.external_ip)?,
            kernel_version: check::name("metadata.kernel_version", metadata.kernel_version)?,
            labels: check::entries("metadata.labels", metadata.labels)?,
            machine_id: check::plain("machine_id", request.machine_id)?,
            agent_version: check::name("agent_version", request.agent_version)?,
            capabilities: Capabilities {
                full_reports: can("full_reports"),
                command_results: can("command_results"),
                command_push: can("command_push"),
            },
        },
        address,
    })
}

fn gpu(at: usize, said: wire::GPUInfo) -> Result<Gpu, ApiError> {
    let field = |name: &str| format!("gpus[{at}].{name}");
    if said.memory_total < 0 {
        let bytes = said.memory_total;
        return Err(ApiError::invalid_argument(format!(
            "gpus[{at}].memory_total is {bytes}; it cannot be negative"
        )));
    }
    Ok(Gpu {
        index: check::gpu_index(field("index"), said.index)?,
        uuid: check::name(field("uuid"), said.uuid)?,
        name: check::name(field("name"), said.name)?,
        pci_bus_id: check::name(field("pci_bus_id"), said.pci_bus_id)?,
        memory_total_bytes: said.memory_total,
        driver_version: check::name(field("driver_version"), said.driver_version)?,
        cuda_version: check::name(field("cuda_version"), said.cuda_version)?,
    })
}

/// A health report. An event without a time happened `now`, Unix time.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn report(request: wire::ReportHealthRequest, now: Time) -> Result<Report, ApiError> {
    let node = check::id("node_id", &request.node_id, NodeId::parse)?;
    check::count("results", request.results.len(), MAX_RESULTS)?;
    check::count("events", request.events.len(), MAX_EVENTS)?;
    let results = request
        .results
        .into_iter()
        .enumerate()
        .map(|(at, said)| graded(at, said))
        .collect::<Result<_, _>>()?;
    let facts = request
        .events
        .into_iter()
        .enumerate()
        .map(|(at, said)| fact(at, said, now))
        .collect::<Result<_, _>>()?;
    Ok(Report {
        node: Some(node),
        results,
        facts,
        boot: check::optional_id("boot_id", &request.boot_id, BootId::parse)?,
        session: check::optional_id("session_id", &request.session_id, SessionId::parse)?,
        sequence: request.sequence,
        full: request.full,
    })
}

fn graded(at: usize, said: wire::HealthCheckResult) -> Result<GradedResult, ApiError> {
    let field = |name: &str| format!("results[{at}].{name}");
    check::timestamp(field("timestamp"), said.timestamp.as_option())?;
    if said.check_name.is_empty() {
        return Err(ApiError::invalid_argument(format!(
            "results[{at}].check_name is required"
        )));
    }
    Ok(GradedResult {
        check: check::name(field("check_name"), said.check_name)?,
        status: check::word(field("status"), &said.status, HealthStatus::ALL, |status| {
            (status.number(), status.short())
        })?,
        message: check::message(said.message),
    })
}

fn fact(at: usize, said: wire::HealthEvent, now: Time) -> Result<Fact, ApiError> {
    let field = |name: &str| format!("events[{at}].{name}");
    check::timestamp(field("last_timestamp"), said.last_timestamp.as_option())?;
    Ok(Fact {
        happened: check::timestamp(field("timestamp"), said.timestamp.as_option())?
            .unwrap_or(now.0),
        gpu: check::gpu_or_node(field("gpu_index"), said.gpu_index)?,
        gpu_uuid: check::name(field("gpu_uuid"), said.gpu_uuid)?,
        system: check::word(
            field("system"),
            &said.system,
            HealthWatchSystem::ALL,
            |system| (system.number(), system.short()),
        )?,
        event_type: check::word(
            field("event_type"),
            &said.event_type,
            HealthEventType::ALL,
            |kind| (kind.number(), kind.short()),
        )?,
        metrics: check::entries(field("metrics"), said.metrics)?,
        message: check::message(said.message),
        watch: check::plain(field("watch"), said.watch)?,
        boot: check::optional_id(field("boot_id"), &said.boot_id, BootId::parse)?,
        count: said.count,
    })
}

/// A heartbeat.
#[derive(Debug, Clone, PartialEq)]
pub struct Beat {
    /// The node's id.
    pub node: String,
    /// The id of the agent's session; empty if it does not say.
    pub session: String,
    /// What it measured; none if it does not say.
    pub sample: Option<Sample>,
}

/// A heartbeat. The agent's clock is not asked. A measurement that cannot be is left out, since
/// the beat counts: percents are kept within 0 to 100, and GPUs beyond the limit are dropped.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn beat(request: wire::HeartbeatRequest) -> Result<Beat, ApiError> {
    check::id("node_id", &request.node_id, check_id)?;
    check::optional_id("session_id", &request.session_id, check_id)?;
    let sample = request.metrics.into_option().map(|said| Sample {
        cpu: percent(said.cpu_usage_percent),
        memory: percent(said.memory_usage_percent),
        gpus: said
            .gpu_metrics
            .into_iter()
            .filter(|gpu| usize::try_from(gpu.gpu_index).is_ok_and(|index| index < MAX_GPUS))
            .take(MAX_GPUS)
            .map(|gpu| GpuSample {
                index: gpu.gpu_index,
                temperature: gpu.temperature,
                power: gpu.power_usage.max(0),
                utilization: percent(gpu.utilization_percent),
                memory_used: gpu.memory_used.max(0),
            })
            .collect(),
    });
    Ok(Beat {
        node: request.node_id,
        session: request.session_id,
        sample,
    })
}

fn percent(said: f64) -> f64 {
    if said.is_nan() {
        0.0
    } else {
        said.clamp(0.0, 100.0)
    }
}

/// A poll for commands: the node and the agent's session.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn poll(
    request: &wire::GetNodeCommandsRequest,
) -> Result<(NodeId, Option<SessionId>), ApiError> {
    Ok((
        check::id("node_id", &request.node_id, NodeId::parse)?,
        check::optional_id("session_id", &request.session_id, SessionId::parse)?,
    ))
}

/// A watch for commands: the node and the agent's session.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn watch_commands(
    request: &v1::WatchCommandsRequest,
) -> Result<(NodeId, Option<SessionId>), ApiError> {
    Ok((
        check::id("node_id", &request.node_id, NodeId::parse)?,
        check::optional_id("session_id", &request.session_id, SessionId::parse)?,
    ))
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The node.
    pub node: NodeId,
    /// The command.
    pub command: CommandId,
    /// The agent's session; none if it does not say.
    pub session: Option<SessionId>,
    /// Succeeded or failed.
    pub state: CommandState,
    /// How it exited, if that says anything, and what it printed.
    pub result: String,
}

/// What became of a command.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn acknowledgement(
    request: v1::AcknowledgeCommandRequest,
) -> Result<Acknowledgement, ApiError> {
    let node = check::id("node_id", &request.node_id, NodeId::parse)?;
    let command = check::id("command_id", &request.command_id, CommandId::parse)?;
    let session = check::optional_id("session_id", &request.session_id, SessionId::parse)?;
    check::timestamp("started_at", request.started_at.as_option())?;
    check::timestamp("finished_at", request.finished_at.as_option())?;
    let state = match request.outcome.as_known() {
        Some(v1::CommandOutcome::COMMAND_OUTCOME_SUCCEEDED) => CommandState::Succeeded,
        Some(v1::CommandOutcome::COMMAND_OUTCOME_FAILED) => CommandState::Failed,
        Some(v1::CommandOutcome::COMMAND_OUTCOME_UNSPECIFIED) => {
            return Err(ApiError::invalid_argument("outcome is required"));
        }
        None => {
            let number = request.outcome.to_i32();
            return Err(ApiError::invalid_argument(format!(
                "outcome has the number {number}, which means nothing; use 1 (succeeded) or \
                 2 (failed)"
            )));
        }
    };
    let exit = match (request.exit_signal, request.exit_code) {
        (Some(signal), _) => format!("ended by signal {signal}\n"),
        (None, Some(code)) if code != 0 => format!("exit status {code}\n"),
        _ => String::new(),
    };
    let result = check::cleaned(exit + &request.output, MAX_RESULT_BYTES);
    Ok(Acknowledgement {
        node,
        command,
        session,
        state,
        result,
    })
}

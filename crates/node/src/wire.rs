//! From what the agent says to messages, and from answers to outcomes.

use std::time::Duration;

use navarch_api::convert::timestamp_of_micros;
use navarch_api::{Cause, ClientError, Code, v1, wire};
use navarch_core::Fact;
use navarch_core::agent::{Intervals, Outcome, Outgoing};
use navarch_core::liveness::GpuSample;
use navarch_model::{BootId, CommandId, Gpu, SessionId};

use crate::machine::Identity;
use crate::usage::Usage;

/// What this agent can do.
const CAPABILITIES: [&str; 3] = ["full_reports", "command_results", "command_push"];

/// No interval is shorter, whatever the control plane says: a zero must not become a busy loop.
const SHORTEST: Duration = Duration::from_millis(50);

/// A registration.
pub(crate) fn registration(
    identity: &Identity,
    boot: &BootId,
    session: &SessionId,
    gpus: &[Gpu],
) -> wire::RegisterNodeRequest {
    wire::RegisterNodeRequest {
        node_id: identity.node.to_string(),
        provider: identity.provider.clone(),
        region: identity.region.clone(),
        zone: identity.zone.clone(),
        instance_type: identity.instance_type.clone(),
        gpus: gpus.iter().map(gpu).collect(),
        metadata: wire::NodeMetadata {
            hostname: identity.hostname.clone(),
            kernel_version: identity.kernel_version.clone(),
            labels: identity.labels.clone(),
            ..Default::default()
        }
        .into(),
        instance_id: identity
            .instance
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        machine_id: identity.machine_id.clone(),
        boot_id: boot.to_string(),
        session_id: session.to_string(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        capabilities: CAPABILITIES.map(str::to_owned).into(),
    }
}

fn gpu(gpu: &Gpu) -> wire::GPUInfo {
    wire::GPUInfo {
        index: gpu.index,
        uuid: gpu.uuid.clone(),
        name: gpu.name.clone(),
        pci_bus_id: gpu.pci_bus_id.clone(),
        memory_total: gpu.memory_total_bytes,
        driver_version: gpu.driver_version.clone(),
        cuda_version: gpu.cuda_version.clone(),
    }
}

/// The intervals that the control plane asks for.
pub(crate) fn intervals(config: &wire::NodeConfig) -> Intervals {
    let choose = |milliseconds: i64, seconds: i32, usual: Duration| {
        let milliseconds = u64::try_from(milliseconds).ok().filter(|some| *some > 0);
        let seconds = u64::try_from(seconds).ok().filter(|some| *some > 0);
        milliseconds
            .map(Duration::from_millis)
            .or(seconds.map(Duration::from_secs))
            .unwrap_or(usual)
            .max(SHORTEST)
    };
    let usual = Intervals::default();
    Intervals {
        beat: choose(
            config.heartbeat_interval_milliseconds,
            config.heartbeat_interval_seconds,
            usual.beat,
        ),
        full: choose(
            config.health_check_interval_milliseconds,
            config.health_check_interval_seconds,
            usual.full,
        ),
    }
}

/// A report.
pub(crate) fn report(
    identity: &Identity,
    boot: &BootId,
    session: &SessionId,
    outgoing: Outgoing,
) -> wire::ReportHealthRequest {
    wire::ReportHealthRequest {
        node_id: identity.node.to_string(),
        events: outgoing.facts.into_iter().map(event).collect(),
        boot_id: boot.to_string(),
        session_id: session.to_string(),
        sequence: outgoing.sequence,
        full: outgoing.full,
        ..Default::default()
    }
}

fn event(fact: Fact) -> wire::HealthEvent {
    wire::HealthEvent {
        timestamp: timestamp_of_micros(fact.happened).into(),
        gpu_index: fact.gpu.unwrap_or(-1),
        gpu_uuid: fact.gpu_uuid,
        system: fact.system.number().into(),
        event_type: fact.event_type.number().into(),
        metrics: fact.metrics,
        message: fact.message,
        watch: fact.watch,
        boot_id: fact.boot.map(|boot| boot.to_string()).unwrap_or_default(),
        count: fact.count,
        ..Default::default()
    }
}

/// A heartbeat.
pub(crate) fn heartbeat(
    identity: &Identity,
    boot: &BootId,
    session: &SessionId,
    usage: Usage,
    gpus: &[GpuSample],
) -> wire::HeartbeatRequest {
    wire::HeartbeatRequest {
        node_id: identity.node.to_string(),
        metrics: wire::NodeMetrics {
            cpu_usage_percent: usage.cpu_percent,
            memory_usage_percent: usage.memory_percent,
            gpu_metrics: gpus
                .iter()
                .map(|gpu| wire::GPUMetrics {
                    gpu_index: gpu.index,
                    temperature: gpu.temperature,
                    power_usage: gpu.power,
                    utilization_percent: gpu.utilization,
                    memory_used: gpu.memory_used,
                })
                .collect(),
        }
        .into(),
        boot_id: boot.to_string(),
        session_id: session.to_string(),
        ..Default::default()
    }
}

/// A poll for commands.
pub(crate) fn poll(identity: &Identity, session: &SessionId) -> wire::GetNodeCommandsRequest {
    wire::GetNodeCommandsRequest {
        node_id: identity.node.to_string(),
        session_id: session.to_string(),
    }
}

/// A watch for commands.
pub(crate) fn watch(identity: &Identity, session: &SessionId) -> v1::WatchCommandsRequest {
    v1::WatchCommandsRequest {
        node_id: identity.node.to_string(),
        session_id: session.to_string(),
    }
}

/// What became of a command.
pub(crate) fn acknowledgement(
    identity: &Identity,
    session: &SessionId,
    command: &CommandId,
    succeeded: bool,
    output: String,
) -> v1::AcknowledgeCommandRequest {
    let outcome = if succeeded {
        v1::CommandOutcome::COMMAND_OUTCOME_SUCCEEDED
    } else {
        v1::CommandOutcome::COMMAND_OUTCOME_FAILED
    };
    v1::AcknowledgeCommandRequest {
        node_id: identity.node.to_string(),
        command_id: command.to_string(),
        session_id: session.to_string(),
        outcome: outcome.into(),
        output,
        ..Default::default()
    }
}

/// What an error means for what was sent.
pub(crate) fn outcome(error: &ClientError) -> Outcome {
    // Only the control plane itself can say these; a proxy's 404 says nothing of the node.
    if error.cause != Cause::Answer {
        return Outcome::Failed;
    }
    match error.code {
        Code::NotFound => Outcome::Unknown,
        Code::FailedPrecondition if error.message.contains("session superseded") => {
            Outcome::Superseded
        }
        Code::InvalidArgument | Code::OutOfRange => Outcome::Refused,
        Code::ResourceExhausted => error.retry_after.map_or(Outcome::Failed, Outcome::Later),
        _ => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_mean_what_the_agent_does_next() {
        use Outcome::{Failed, Refused, Superseded, Unknown};
        let superseded = "session superseded: another agent registered as n since";
        for (cause, code, message, expected) in [
            (Cause::Answer, Code::NotFound, "node not found: n", Unknown),
            (Cause::NotNavarch, Code::NotFound, "HTTP 404", Failed),
            (
                Cause::Answer,
                Code::FailedPrecondition,
                superseded,
                Superseded,
            ),
            (
                Cause::Answer,
                Code::FailedPrecondition,
                "instance i is terminated",
                Failed,
            ),
            (
                Cause::Answer,
                Code::InvalidArgument,
                "events[0].system ...",
                Refused,
            ),
            (Cause::Answer, Code::ResourceExhausted, "overloaded", Failed),
            (Cause::Answer, Code::Unavailable, "shutting down", Failed),
            (Cause::Answer, Code::AlreadyExists, "another host", Failed),
            (
                Cause::NothingListens,
                Code::Unavailable,
                "nothing listens",
                Failed,
            ),
            (Cause::Token, Code::Unauthenticated, "401", Failed),
            (Cause::Deadline, Code::DeadlineExceeded, "no answer", Failed),
        ] {
            let error = ClientError {
                code,
                message: message.to_owned(),
                cause,
                retry_after: None,
            };
            assert_eq!(outcome(&error), expected, "{error}");
        }
        let wait = std::time::Duration::from_secs(7);
        let error = ClientError {
            code: Code::ResourceExhausted,
            message: "too many reports".to_owned(),
            cause: Cause::Answer,
            retry_after: Some(wait),
        };
        assert_eq!(outcome(&error), Outcome::Later(wait));
    }

    #[test]
    fn intervals_are_the_exact_ones_and_never_zero() {
        let config = |beat_ms, beat_s, full_ms, full_s| {
            let made = intervals(&wire::NodeConfig {
                heartbeat_interval_milliseconds: beat_ms,
                heartbeat_interval_seconds: beat_s,
                health_check_interval_milliseconds: full_ms,
                health_check_interval_seconds: full_s,
                ..Default::default()
            });
            (made.beat.as_millis(), made.full.as_millis())
        };
        assert_eq!(config(2500, 3, 0, 7), (2500, 7000));
        assert_eq!(config(0, 0, 0, 0), (30_000, 60_000));
        assert_eq!(config(-1, -1, i64::MIN, i32::MIN), (30_000, 60_000));
        assert_eq!(config(1, 1, 1, 1), (50, 50));
    }
}

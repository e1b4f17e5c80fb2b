//! Messages as programs get them: snake_case names, full enum names, RFC 3339 times, `null` for a
//! time that never was, and no field left out.

use jiff::Timestamp;
use navarch_api::convert::mode_name;
use navarch_api::{v1, wire};
use navarch_model::{
    HealthEventType, HealthStatus, HealthWatchSystem, InstanceState, NodeCommandType, NodeStatus,
};
use serde_json::{Value, json};

/// The year 1: a time that never was, as the wire says it.
const NEVER_SECONDS: i64 = -62_135_596_800;

/// A time of a message.
pub fn time(at: Option<&navarch_api::Timestamp>) -> Option<Timestamp> {
    let at = at?;
    if at.seconds <= NEVER_SECONDS {
        return None;
    }
    Timestamp::new(at.seconds, at.nanos).ok()
}

pub fn rfc3339(at: Option<&navarch_api::Timestamp>) -> Value {
    time(at).map_or(Value::Null, |at| Value::String(at.to_string()))
}

macro_rules! words {
    ($($name:ident, $type:ty;)+) => {$(
        pub fn $name(number: i32) -> $type {
            <$type>::from_number(number).unwrap_or_default()
        }
    )+};
}

words! {
    node_status, NodeStatus;
    health_status, HealthStatus;
    instance_state, InstanceState;
    event_type, HealthEventType;
    system, HealthWatchSystem;
}

/// The automation mode's word.
pub fn mode(number: i32) -> &'static str {
    match number {
        1 => "on",
        2 => "observe",
        3 => "off",
        4 => "inherit",
        _ => "unknown",
    }
}

pub fn node(node: &wire::NodeInfo) -> Value {
    let gpus: Vec<Value> = node
        .gpus
        .iter()
        .map(|gpu| {
            json!({
                "index": gpu.index,
                "uuid": gpu.uuid,
                "name": gpu.name,
                "pci_bus_id": gpu.pci_bus_id,
                "memory_total": gpu.memory_total,
                "driver_version": gpu.driver_version,
                "cuda_version": gpu.cuda_version,
            })
        })
        .collect();
    let holds: Vec<Value> = node
        .holds
        .iter()
        .map(|hold| {
            json!({
                "name": hold.name,
                "reason": hold.reason,
                "since": rfc3339(hold.since.as_option()),
                "expires": rfc3339(hold.expires.as_option()),
            })
        })
        .collect();
    let said = node.metadata.as_option().cloned().unwrap_or_default();
    json!({
        "node_id": node.node_id,
        "provider": node.provider,
        "region": node.region,
        "zone": node.zone,
        "instance_type": node.instance_type,
        "status": node_status(node.status.to_i32()).name(),
        "health_status": health_status(node.health_status.to_i32()).name(),
        "last_heartbeat": rfc3339(node.last_heartbeat.as_option()),
        "gpus": gpus,
        "metadata": {
            "hostname": said.hostname,
            "internal_ip": said.internal_ip,
            "external_ip": said.external_ip,
            "kernel_version": said.kernel_version,
            "labels": said.labels,
        },
        "pool": node.pool,
        "instance_id": node.instance_id,
        "holds": holds,
        "incident_ids": node.incident_ids,
        "boot_id": node.boot_id,
        "registered_at": rfc3339(node.registered_at.as_option()),
        "silent_since": rfc3339(node.silent_since.as_option()),
        "terminated_at": rfc3339(node.terminated_at.as_option()),
        "agent_version": node.agent_version,
    })
}

pub fn instance(instance: &wire::InstanceInfo) -> Value {
    json!({
        "instance_id": instance.instance_id,
        "provider": instance.provider,
        "region": instance.region,
        "zone": instance.zone,
        "instance_type": instance.instance_type,
        "state": instance_state(instance.state.to_i32()).name(),
        "pool_name": instance.pool_name,
        "created_at": rfc3339(instance.created_at.as_option()),
        "ready_at": rfc3339(instance.ready_at.as_option()),
        "terminated_at": rfc3339(instance.terminated_at.as_option()),
        "node_id": instance.node_id,
        "status_message": instance.status_message,
        "labels": instance.labels,
        "phase": instance.phase,
        "provider_instance_id": instance.provider_instance_id,
        "capacity": instance.capacity,
        "interruption_at": rfc3339(instance.interruption_at.as_option()),
    })
}

pub fn incident(incident: &v1::Incident) -> Value {
    let evidence: Vec<Value> = incident
        .evidence
        .iter()
        .map(|fact| {
            json!({
                "received_at": rfc3339(fact.received_at.as_option()),
                "happened_at": rfc3339(fact.happened_at.as_option()),
                "event_type": event_type(fact.event_type.to_i32()).name(),
                "system": system(fact.system.to_i32()).name(),
                "metrics": fact.metrics,
                "message": fact.message,
                "boot_id": fact.boot_id,
            })
        })
        .collect();
    json!({
        "incident_id": incident.incident_id,
        "node_id": incident.node_id,
        "pool": incident.pool,
        "gpu_index": incident.gpu_index,
        "class": incident.class,
        "kind": incident.kind,
        "severity": health_status(incident.severity.to_i32()).name(),
        "rule": incident.rule,
        "watch": incident.watch,
        "citation": incident.citation,
        "required_repair": incident.required_repair,
        "opened_at": rfc3339(incident.opened_at.as_option()),
        "last_evidence_at": rfc3339(incident.last_evidence_at.as_option()),
        "evidence": evidence,
        "evidence_count": incident.evidence_count,
        "unhealthy_reports": incident.unhealthy_reports,
        "healthy_reports": incident.healthy_reports,
        "repaired_at": rfc3339(incident.repaired_at.as_option()),
        "repair_proven": incident.repair_proven,
        "flapping": incident.flapping,
        "clear_after_milliseconds": incident.clear_after_milliseconds,
        "closed_at": rfc3339(incident.closed_at.as_option()),
        "ending": incident.ending,
        "confirmed": incident.confirmed,
    })
}

pub fn unclaimed(machine: &v1::UnclaimedMachine) -> Value {
    json!({
        "provider": machine.provider,
        "provider_instance_id": machine.provider_instance_id,
        "instance_id": machine.instance_id,
        "first_seen": rfc3339(machine.first_seen.as_option()),
        "sightings": machine.sightings,
    })
}

pub fn hold(hold: &v1::NodeHold) -> Value {
    json!({
        "node_id": hold.node_id,
        "name": hold.name,
        "owner": hold.owner,
        "reason": hold.reason,
        "drain": hold.drain,
        "since": rfc3339(hold.since.as_option()),
        "expires": rfc3339(hold.expires.as_option()),
        "named": hold.named,
    })
}

/// The short word of a type of command.
pub fn command_type(number: i32) -> String {
    NodeCommandType::from_number(number)
        .map_or_else(|| number.to_string(), |kind| kind.short().to_owned())
}

pub fn command_record(command: &v1::Command) -> Value {
    let kind = command.r#type.to_i32();
    json!({
        "command_id": command.command_id,
        "node_id": command.node_id,
        "type": NodeCommandType::from_number(kind).map_or("", |kind| kind.name()),
        "parameters": command.parameters,
        "issued_at": rfc3339(command.issued_at.as_option()),
        "state": command.state,
        "changed_at": rfc3339(command.changed_at.as_option()),
        "result": command.result,
    })
}

pub fn event(event: &v1::Event) -> Value {
    json!({
        "sequence": event.sequence,
        "time": rfc3339(event.time.as_option()),
        "last_time": rfc3339(event.last_time.as_option()),
        "count": event.count,
        "kind": event.kind,
        "message": event.message,
        "pool": event.pool,
        "instance_id": event.instance_id,
        "node_id": event.node_id,
        "incident_id": event.incident_id,
        "command_id": event.command_id,
        "details": event.details,
    })
}

pub fn wait(wait: &v1::Wait) -> Value {
    json!({
        "guard": wait.guard,
        "about": wait.about,
        "action": wait.action,
        "text": wait.text,
        "until": rfc3339(wait.until.as_option()),
    })
}

pub fn explanation(told: &v1::ExplainNodeResponse) -> Value {
    let lines: Vec<Value> = told
        .lines
        .iter()
        .map(|line| {
            json!({
                "time": rfc3339(line.time.as_option()),
                "sequence": line.sequence,
                "step": line.step,
                "id": line.id,
                "kind": line.kind,
                "text": line.text,
                "count": line.count,
                "last_time": rfc3339(line.last_time.as_option()),
            })
        })
        .collect();
    json!({
        "node": told.node.as_option().map(node),
        "summary": told.summary,
        "open_incidents": told.open_incidents.iter().map(incident).collect::<Vec<_>>(),
        "waits": told.waits.iter().map(wait).collect::<Vec<_>>(),
        "lines": lines,
        "truncated": told.truncated,
    })
}

pub fn pool(pool: &v1::Pool) -> Value {
    json!({
        "name": pool.name,
        "provider": pool.provider,
        "region": pool.region,
        "instance_type": pool.instance_type,
        "labels": pool.labels,
        "min_nodes": pool.min_nodes,
        "max_nodes": pool.max_nodes,
        "asked_nodes": pool.asked_nodes,
        "alive_nodes": pool.alive_nodes,
        "active_nodes": pool.active_nodes,
        "unhealthy_nodes": pool.unhealthy_nodes,
        "draining_nodes": pool.draining_nodes,
        "cordoned_nodes": pool.cordoned_nodes,
        "starting_nodes": pool.starting_nodes,
        "terminating_nodes": pool.terminating_nodes,
        "automation": mode_name(pool.automation),
        "recovery": pool.recovery,
        "auto_replace": pool.auto_replace,
        "open_breakers": pool.open_breakers,
    })
}

pub fn scaled(pool: &str, after: &v1::ScalePoolResponse) -> Value {
    json!({
        "pool": pool,
        "previous_nodes": after.previous_nodes,
        "nodes": after.nodes,
        "automation": mode_name(after.automation),
    })
}

fn sizing(sizing: &v1::Sizing) -> Value {
    json!({
        "source": sizing.source,
        "reason": sizing.reason,
        "asked_at": rfc3339(sizing.asked_at.as_option()),
        "raised_at": rfc3339(sizing.raised_at.as_option()),
        "lowered_at": rfc3339(sizing.lowered_at.as_option()),
        "autoscaler": sizing.autoscaler,
        "recommended_nodes": sizing.recommended_nodes,
        "recommendation": sizing.recommendation,
        "inputs": sizing.inputs,
        "held": sizing.held,
    })
}

pub fn plan(plan: &v1::GetPlanResponse) -> Value {
    let pools: Vec<Value> = plan
        .pools
        .iter()
        .map(|pool| {
            let guards: Vec<Value> = pool
                .guards
                .iter()
                .map(|guard| {
                    json!({
                        "name": guard.name,
                        "subject": guard.subject,
                        "used": guard.used,
                        "limit": guard.limit,
                        "blocks": guard.blocks,
                        "text": guard.text,
                        "until": rfc3339(guard.until.as_option()),
                    })
                })
                .collect();
            json!({
                "pool": pool.pool,
                "automation": mode_name(pool.automation),
                "min_nodes": pool.min_nodes,
                "max_nodes": pool.max_nodes,
                "asked_nodes": pool.asked_nodes,
                "alive_nodes": pool.alive_nodes,
                "capacity_nodes": pool.capacity_nodes,
                "active_nodes": pool.active_nodes,
                "unhealthy_nodes": pool.unhealthy_nodes,
                "leaving_nodes": pool.leaving_nodes,
                "sizing": pool.sizing.as_option().map(sizing),
                "planned": pool.planned,
                "waits": pool.waits.iter().map(wait).collect::<Vec<_>>(),
                "guards": guards,
                "strategy": pool.strategy,
                "offerings": pool.offerings.iter().map(offering).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "time": rfc3339(plan.time.as_option()),
        "pools": pools,
        "suspect_providers": plan.suspect_providers,
        "next_plan_at": rfc3339(plan.next_plan_at.as_option()),
    })
}

fn offering(of: &v1::OfferingPlan) -> Value {
    json!({
        "offering": of.offering,
        "provider": of.provider,
        "region": of.region,
        "zone": of.zone,
        "instance_type": of.instance_type,
        "capacity": of.capacity,
        "priority": of.priority,
        "weight": of.weight,
        "machines": of.machines,
        "listed": of.listed,
        "listed_at": rfc3339(of.listed_at.as_option()),
        "price_micros": of.price_micros,
        "max_price_micros": of.max_price_micros,
        "rank": of.rank,
        "guard": of.guard,
        "text": of.text,
        "until": rfc3339(of.until.as_option()),
        "refusals": of.refusals,
    })
}

pub fn automation(switches: &v1::GetAutomationResponse) -> Value {
    let setting = |setting: Option<&v1::AutomationSetting>| {
        setting.map(|setting| {
            json!({
                "mode": mode_name(setting.mode),
                "reason": setting.reason,
                "since": rfc3339(setting.since.as_option()),
            })
        })
    };
    let pools: Vec<Value> = switches
        .pools
        .iter()
        .map(|pool| {
            json!({
                "pool": pool.pool,
                "setting": setting(pool.setting.as_option()),
                "effective": mode_name(pool.effective),
            })
        })
        .collect();
    json!({ "fleet": setting(switches.fleet.as_option()), "pools": pools })
}

/// What a command to a node came to.
pub fn command(node: &str, answer: &wire::IssueCommandResponse) -> Value {
    json!({
        "node_id": node,
        "command_id": answer.command_id,
        "issued_at": rfc3339(answer.issued_at.as_option()),
        "node_status": node_status(answer.node_status.to_i32()).name(),
        "remaining_holds": answer.remaining_holds,
    })
}

pub fn policy(policy: &v1::GetPolicyResponse) -> Value {
    let rules: Vec<Value> = policy
        .rules
        .iter()
        .map(|rule| {
            json!({
                "name": rule.name,
                "description": rule.description,
                "condition": rule.condition,
                "result": health_status(rule.result.to_i32()).name(),
                "kind": rule.kind,
                "class": rule.class,
                "action": rule.action,
                "clear_after_milliseconds": rule.clear_after_milliseconds,
                "line": rule.line,
            })
        })
        .collect();
    let refused = policy.refused.as_option().map(|refused| {
        json!({
            "time": rfc3339(refused.time.as_option()),
            "source": refused.source,
            "error": refused.error,
        })
    });
    json!({
        "source": policy.source,
        "version": policy.version,
        "name": policy.name,
        "description": policy.description,
        "text": policy.text,
        "loaded_at": rfc3339(policy.loaded_at.as_option()),
        "rules": rules,
        "refused": refused,
    })
}

/// `HEALTHY` as tables show it: `Healthy`.
pub fn title(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_ascii_uppercase().to_string() + letters.as_str()
    })
}

/// How long ago a time was.
pub fn age(at: Option<Timestamp>, now: Timestamp) -> String {
    let Some(at) = at else {
        return "Never".to_owned();
    };
    let seconds = now.as_second() - at.as_second();
    match seconds {
        ..0 => "now".to_owned(),
        0..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..86_400 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// A time of day for people, in UTC.
pub fn clock(at: Option<&navarch_api::Timestamp>) -> String {
    time(at).map_or_else(
        || "-".to_owned(),
        |at| at.strftime("%Y-%m-%d %H:%M:%S%.3fZ").to_string(),
    )
}

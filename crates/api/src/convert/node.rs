//! Nodes.

use std::time::Duration;

use navarch_core::Settings;
use navarch_model::{Gpu, Hold, HoldKind, Node, NodeId, Stamp};

use super::time::{milliseconds, never, of_fleet_time, optional, timestamp};
use crate::{v1, wire};

/// A node. `last_heartbeat` is by our clock; `now` is any moment on both axes of time.
pub fn node(node: &Node, last_heartbeat: Option<Stamp>, now: Stamp) -> wire::NodeInfo {
    let said = &*node.description;
    wire::NodeInfo {
        node_id: node.id.as_str().to_owned(),
        provider: said.provider.clone(),
        region: said.region.clone(),
        zone: said.zone.clone(),
        instance_type: said.instance_type.clone(),
        status: node.status().number().into(),
        health_status: node.health().number().into(),
        last_heartbeat: last_heartbeat.map_or_else(never, timestamp).into(),
        gpus: said.gpus.iter().map(gpu).collect(),
        metadata: wire::NodeMetadata {
            hostname: said.hostname.clone(),
            internal_ip: said.internal_ip.clone(),
            external_ip: said.external_ip.clone(),
            kernel_version: said.kernel_version.clone(),
            labels: said.labels.clone(),
        }
        .into(),
        pool: node
            .pool
            .as_ref()
            .map(|pool| pool.as_str().to_owned())
            .unwrap_or_default(),
        instance_id: node
            .instance
            .as_ref()
            .map(|id| id.as_str().to_owned())
            .unwrap_or_default(),
        holds: node
            .holds
            .iter()
            .map(|(kind, on_record)| hold(kind, on_record, now))
            .collect(),
        incident_ids: node
            .open_incidents
            .keys()
            .map(|id| id.as_str().to_owned())
            .collect(),
        boot_id: node
            .boot
            .as_ref()
            .map(|id| id.as_str().to_owned())
            .unwrap_or_default(),
        registered_at: timestamp(node.registered).into(),
        silent_since: optional(node.silent_since),
        terminated_at: optional(node.terminated),
        agent_version: said.agent_version.clone(),
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

/// A hold with the node that it stands on. `now` is any moment on both axes of time.
pub fn node_hold(node: &NodeId, kind: &HoldKind, hold: &Hold, now: Stamp) -> v1::NodeHold {
    let named = match kind {
        HoldKind::Named { name, .. } => Some(name.clone()),
        _ => None,
    };
    v1::NodeHold {
        node_id: node.as_str().to_owned(),
        named: named.is_some(),
        name: named.unwrap_or_else(|| kind.name()),
        owner: kind.owner().to_owned(),
        reason: hold.reason.clone(),
        drain: kind.drains(),
        since: timestamp(hold.since).into(),
        expires: of_fleet_time(hold.expires, now),
    }
}

/// A hold. `now` is any moment on both axes of time.
pub fn hold(kind: &HoldKind, hold: &Hold, now: Stamp) -> wire::Hold {
    wire::Hold {
        name: kind.name(),
        reason: hold.reason.clone(),
        since: timestamp(hold.since).into(),
        expires: of_fleet_time(hold.expires, now),
    }
}

/// What an agent is told when it registers. Whole seconds are never less than one, since agents
/// of the Go project crash at zero; the exact intervals stand beside them.
pub fn node_config(settings: &Settings) -> wire::NodeConfig {
    let whole = |interval: Duration| i32::try_from(interval.as_secs().max(1)).unwrap_or(i32::MAX);
    wire::NodeConfig {
        health_check_interval_seconds: whole(settings.health_check_interval),
        heartbeat_interval_seconds: whole(settings.heartbeat_interval),
        enabled_health_checks: ["boot", "nvml", "xid"].map(str::to_owned).to_vec(),
        health_check_interval_milliseconds: milliseconds(Some(settings.health_check_interval)),
        heartbeat_interval_milliseconds: milliseconds(Some(settings.heartbeat_interval)),
    }
}

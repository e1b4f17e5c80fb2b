//! Instances and commands.

use navarch_model::{Command, Instance, Unclaimed};

use super::time::{optional, timestamp};
use crate::{v1, wire};

/// An instance.
pub fn instance(instance: &Instance) -> wire::InstanceInfo {
    let bought = &instance.offering;
    wire::InstanceInfo {
        instance_id: instance.id.as_str().to_owned(),
        provider: bought.provider.as_str().to_owned(),
        region: bought.region.clone(),
        zone: bought.zone.clone(),
        instance_type: bought.instance_type.clone(),
        state: instance.phase.on_wire().number().into(),
        pool_name: instance.pool.as_str().to_owned(),
        created_at: timestamp(instance.created).into(),
        ready_at: optional(instance.ready),
        terminated_at: optional(instance.ended),
        node_id: instance
            .node
            .as_ref()
            .map(|id| id.as_str().to_owned())
            .unwrap_or_default(),
        status_message: instance.message.clone(),
        labels: instance.labels.clone(),
        phase: instance.phase.word().to_owned(),
        capacity: bought.capacity.word().to_owned(),
        interruption_at: optional(instance.interruption.map(|one| one.at)),
        provider_instance_id: instance
            .provider_id
            .as_ref()
            .map(|id| id.as_str().to_owned())
            .unwrap_or_default(),
    }
}

/// A machine that no record knows.
pub fn unclaimed(machine: &Unclaimed) -> v1::UnclaimedMachine {
    v1::UnclaimedMachine {
        provider: machine.provider.as_str().to_owned(),
        provider_instance_id: machine.provider_id.as_str().to_owned(),
        instance_id: machine
            .instance
            .as_ref()
            .map(|id| id.as_str().to_owned())
            .unwrap_or_default(),
        first_seen: timestamp(machine.first_seen).into(),
        sightings: machine.sightings,
    }
}

/// A command as its agent gets it.
pub fn node_command(command: &Command) -> wire::NodeCommand {
    wire::NodeCommand {
        command_id: command.id.as_str().to_owned(),
        r#type: command.kind.number().into(),
        parameters: command.parameters.clone(),
        issued_at: timestamp(command.issued).into(),
    }
}

/// A command as operators see it.
pub fn command(command: &Command) -> v1::Command {
    v1::Command {
        command_id: command.id.as_str().to_owned(),
        node_id: command.node.as_str().to_owned(),
        r#type: command.kind.number().into(),
        parameters: command.parameters.clone(),
        issued_at: timestamp(command.issued).into(),
        state: command.state.word().to_owned(),
        changed_at: timestamp(command.changed).into(),
        result: command.result.clone(),
    }
}

//! `navarch instance`.

use navarch_api::{v1, wire};
use serde_json::Value;

use super::pools::must_be_known;
use crate::args::{Format, Global, Instance};
use crate::client::{Doing as _, Failure, connect};
use crate::output::{for_programs, remark, say, table};
use crate::values;

/// `navarch instance`.
pub async fn run(global: &Global, order: Instance) -> Result<(), Failure> {
    let client = connect(global)?;
    match order {
        Instance::List {
            provider,
            orphans: true,
            ..
        } => {
            let request = v1::ListUnclaimedRequest { provider };
            let found = client
                .list_unclaimed(request)
                .await
                .doing("list unclaimed machines")?
                .machines;
            let all = Value::Array(found.iter().map(values::unclaimed).collect());
            if for_programs(global.output, &all)? {
                return Ok(());
            }
            if found.is_empty() {
                remark("No unclaimed machines found");
                return Ok(());
            }
            say(&orphans(&found));
        }
        Instance::Adopt {
            machine: (provider, provider_instance_id),
            pool,
            reason,
        } => {
            let request = v1::AdoptInstanceRequest {
                provider,
                provider_instance_id,
                pool: pool.clone(),
                reason,
            };
            let done = client
                .adopt_instance(request)
                .await
                .doing("adopt the machine")?;
            let done = done.instance.as_option().cloned().unwrap_or_default();
            if !for_programs(global.output, &values::instance(&done))? {
                say(&format!(
                    "Instance {} adopted into pool {pool}",
                    done.instance_id
                ));
            }
        }
        Instance::Terminate { instance, reason } => {
            let mut request = v1::TerminateInstanceRequest {
                reason,
                ..Default::default()
            };
            match instance.split_once('/') {
                None => request.instance_id = instance,
                Some((provider, id)) => {
                    provider.clone_into(&mut request.provider);
                    id.clone_into(&mut request.provider_instance_id);
                }
            }
            let done = client
                .terminate_instance(request)
                .await
                .doing("terminate the instance")?;
            let done = done.instance.as_option().cloned().unwrap_or_default();
            if !for_programs(global.output, &values::instance(&done))? {
                say(&format!("Instance {} terminating", done.instance_id));
            }
        }
        Instance::List { pool, provider, .. } => {
            let request = wire::ListInstancesRequest {
                pool_name: pool.clone(),
                provider,
                ..Default::default()
            };
            let found = client
                .list_instances(request)
                .await
                .doing("list instances")?
                .instances;
            if found.is_empty() && !pool.is_empty() {
                must_be_known(&client, pool).await?;
            }
            if for_programs(
                global.output,
                &Value::Array(found.iter().map(values::instance).collect()),
            )? {
                return Ok(());
            }
            if found.is_empty() {
                remark("No instances found");
                return Ok(());
            }
            say(&listing(&found, global.output == Format::Wide));
        }
        Instance::Get { instance } => {
            let request = wire::GetInstanceRequest {
                instance_id: instance,
            };
            let found = client.get_instance(request).await.doing("get instance")?;
            let found = found.instance.as_option().cloned().unwrap_or_default();
            if for_programs(global.output, &values::instance(&found))? {
                return Ok(());
            }
            say(&details(&found));
        }
    }
    Ok(())
}

/// The table of `navarch instance list --orphans`.
pub fn orphans(machines: &[v1::UnclaimedMachine]) -> String {
    let rows: Vec<Vec<String>> = machines
        .iter()
        .map(|machine| {
            vec![
                format!("{}/{}", machine.provider, machine.provider_instance_id),
                machine.instance_id.clone(),
                values::clock(machine.first_seen.as_option()),
                machine.sightings.to_string(),
            ]
        })
        .collect();
    table(
        &["Machine", "Instance In Its Tag", "First Seen", "Sightings"],
        &rows,
    )
}

/// What `navarch instance get` shows.
pub fn details(instance: &wire::InstanceInfo) -> String {
    let rows = [
        ("Instance:", instance.instance_id.clone()),
        ("Phase:", instance.phase.clone()),
        ("Pool:", instance.pool_name.clone()),
        ("Node:", instance.node_id.clone()),
        ("Provider:", instance.provider.clone()),
        ("Provider ID:", instance.provider_instance_id.clone()),
        ("Region:", instance.region.clone()),
        ("Zone:", instance.zone.clone()),
        ("Instance Type:", instance.instance_type.clone()),
        ("Capacity:", instance.capacity.clone()),
        ("Created:", values::clock(instance.created_at.as_option())),
        ("Ready:", values::clock(instance.ready_at.as_option())),
        (
            "Taken Back:",
            values::clock(instance.interruption_at.as_option()),
        ),
        (
            "Terminated:",
            values::clock(instance.terminated_at.as_option()),
        ),
        ("Message:", instance.status_message.clone()),
    ];
    let lines: Vec<String> = rows
        .iter()
        .map(|(label, value)| format!("{label:<15}{value}").trim_end().to_owned())
        .collect();
    lines.join("\n")
}

/// The table of `navarch instance list`.
pub fn listing(instances: &[wire::InstanceInfo], wide: bool) -> String {
    let mut heading = vec![
        "Instance", "Pool", "Phase", "Node", "Provider", "Created", "Message",
    ];
    if wide {
        heading.extend([
            "Provider ID",
            "Region",
            "Zone",
            "Instance Type",
            "Ready",
            "Taken Back",
            "Terminated",
        ]);
    }
    let rows: Vec<Vec<String>> = instances
        .iter()
        .map(|instance| {
            let mut row = vec![
                instance.instance_id.clone(),
                instance.pool_name.clone(),
                instance.phase.clone(),
                instance.node_id.clone(),
                instance.provider.clone(),
                values::clock(instance.created_at.as_option()),
                instance.status_message.clone(),
            ];
            if wide {
                row.extend([
                    instance.provider_instance_id.clone(),
                    instance.region.clone(),
                    instance.zone.clone(),
                    instance.instance_type.clone(),
                    values::clock(instance.ready_at.as_option()),
                    values::clock(instance.interruption_at.as_option()),
                    values::clock(instance.terminated_at.as_option()),
                ]);
            }
            row
        })
        .collect();
    table(&heading, &rows)
}

//! `navarch instance`.

use navarch_api::wire;
use serde_json::Value;

use crate::args::{Format, Global, Instance};
use crate::client::{Doing as _, Failure, connect};
use crate::output::{for_programs, remark, say, table};
use crate::values;

/// `navarch instance`.
pub async fn run(global: &Global, order: Instance) -> Result<(), Failure> {
    let client = connect(global)?;
    match order {
        Instance::List { pool, provider } => {
            let request = wire::ListInstancesRequest {
                pool_name: pool,
                provider,
                ..Default::default()
            };
            let found = client
                .list_instances(request)
                .await
                .doing("list instances")?
                .instances;
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
            let rows = [
                ("Instance:", found.instance_id.clone()),
                ("Phase:", found.phase.clone()),
                ("Pool:", found.pool_name.clone()),
                ("Node:", found.node_id.clone()),
                ("Provider:", found.provider.clone()),
                ("Provider ID:", found.provider_instance_id.clone()),
                ("Region:", found.region.clone()),
                ("Zone:", found.zone.clone()),
                ("Instance Type:", found.instance_type.clone()),
                ("Created:", values::clock(found.created_at.as_option())),
                ("Ready:", values::clock(found.ready_at.as_option())),
                (
                    "Terminated:",
                    values::clock(found.terminated_at.as_option()),
                ),
                ("Message:", found.status_message),
            ];
            for (label, value) in rows {
                say(&format!("{label:<15}{value}"));
            }
        }
    }
    Ok(())
}

fn listing(instances: &[wire::InstanceInfo], wide: bool) -> String {
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
                    values::clock(instance.terminated_at.as_option()),
                ]);
            }
            row
        })
        .collect();
    table(&heading, &rows)
}

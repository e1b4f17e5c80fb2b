//! `navarch incident`.

use navarch_api::v1;
use serde_json::Value;

use crate::args::{Format, Global, Incident};
use crate::client::{Doing as _, Failure, connect};
use crate::output::{for_programs, remark, say, table};
use crate::values;

/// `navarch incident`.
pub async fn run(global: &Global, order: Incident) -> Result<(), Failure> {
    let client = connect(global)?;
    match order {
        Incident::List {
            node,
            pool,
            open,
            limit,
        } => {
            let request = v1::ListIncidentsRequest {
                node_id: node,
                pool,
                open_only: open,
                limit,
            };
            let found = client
                .list_incidents(request)
                .await
                .doing("list incidents")?
                .incidents;
            if for_programs(
                global.output,
                &Value::Array(found.iter().map(values::incident).collect()),
            )? {
                return Ok(());
            }
            if found.is_empty() {
                remark("No incidents found");
                return Ok(());
            }
            say(&listing(&found, global.output == Format::Wide));
        }
        Incident::Get { incident } => {
            let request = v1::GetIncidentRequest {
                incident_id: incident,
            };
            let found = client.get_incident(request).await.doing("get incident")?;
            let found = found.incident.as_option().cloned().unwrap_or_default();
            if !for_programs(global.output, &values::incident(&found))? {
                say(&details(&found));
            }
        }
        Incident::Close { incident, reason } => {
            let request = v1::CloseIncidentRequest {
                incident_id: incident.clone(),
                reason,
            };
            let closed = client
                .close_incident(request)
                .await
                .doing("close incident")?;
            let closed = closed.incident.as_option().cloned().unwrap_or_default();
            if !for_programs(global.output, &values::incident(&closed))? {
                say(&format!("Incident {incident} closed"));
            }
        }
    }
    Ok(())
}

fn gpu(incident: &v1::Incident) -> String {
    if incident.gpu_index < 0 {
        "-".to_owned()
    } else {
        incident.gpu_index.to_string()
    }
}

fn state(incident: &v1::Incident) -> String {
    match (
        incident.closed_at.as_option(),
        incident.repaired_at.as_option(),
    ) {
        (Some(_), _) => format!("closed: {}", incident.ending),
        (None, Some(_)) => "repaired, awaits the gate".to_owned(),
        (None, None) => "open".to_owned(),
    }
}

fn row(incident: &v1::Incident) -> Vec<String> {
    vec![
        incident.incident_id.clone(),
        incident.node_id.clone(),
        gpu(incident),
        incident.class.clone(),
        values::title(values::health_status(incident.severity.to_i32()).short()),
        incident.rule.clone(),
        incident.required_repair.clone(),
        values::clock(incident.opened_at.as_option()),
        state(incident),
    ]
}

/// The table of `navarch incident list`.
pub fn listing(incidents: &[v1::Incident], wide: bool) -> String {
    let mut heading = vec![
        "Incident", "Node", "GPU", "Class", "Severity", "Rule", "Requires", "Opened", "State",
    ];
    if wide {
        heading.extend(["Pool", "Kind", "Evidence", "Last Evidence", "Source"]);
    }
    let rows: Vec<Vec<String>> = incidents
        .iter()
        .map(|incident| {
            let mut row = row(incident);
            if wide {
                row.extend([
                    incident.pool.clone(),
                    incident.kind.clone(),
                    incident.evidence_count.to_string(),
                    values::clock(incident.last_evidence_at.as_option()),
                    incident.citation.clone(),
                ]);
            }
            row
        })
        .collect();
    table(&heading, &rows)
}

/// What `navarch incident get` shows.
pub fn details(incident: &v1::Incident) -> String {
    let mut text = String::new();
    for (label, value) in [
        ("Incident:", incident.incident_id.clone()),
        ("Node:", incident.node_id.clone()),
        ("Pool:", incident.pool.clone()),
        ("GPU:", gpu(incident)),
        ("Class:", incident.class.clone()),
        ("Kind:", incident.kind.clone()),
        (
            "Severity:",
            values::title(values::health_status(incident.severity.to_i32()).short()),
        ),
        ("Rule:", incident.rule.clone()),
        ("Source:", incident.citation.clone()),
        ("Requires:", incident.required_repair.clone()),
        ("Opened:", values::clock(incident.opened_at.as_option())),
        ("State:", state(incident)),
    ] {
        text.push_str(&format!("{label:<11}{value}\n"));
    }
    text.push_str(&format!(
        "\nEvidence ({} facts):\n",
        incident.evidence_count
    ));
    for fact in &incident.evidence {
        let metrics: Vec<String> = fact
            .metrics
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        text.push_str(&format!(
            "  {}  {} {} {}\n",
            values::clock(fact.received_at.as_option()),
            values::event_type(fact.event_type.to_i32()).short(),
            metrics.join(" "),
            fact.message
        ));
    }
    text.trim_end().to_owned()
}

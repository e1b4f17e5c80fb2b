//! `navarch hold`.

use navarch_api::v1;
use serde_json::{Value, json};

use crate::args::{Global, Hold};
use crate::client::{Doing as _, Failure, connect, suggest};
use crate::output::{for_programs, remark, say, table};
use crate::values;

/// `navarch hold`.
pub async fn run(global: &Global, order: Hold) -> Result<(), Failure> {
    let client = connect(global)?;
    match order {
        Hold::Add {
            node,
            name,
            owner,
            reason,
            expires,
            drain,
        } => {
            let span = expires.map_or(0, |expires| expires.as_millis());
            let request = v1::AddHoldRequest {
                node_id: node.clone(),
                name: name.clone(),
                owner,
                reason,
                drain,
                expires_after_milliseconds: i64::try_from(span).unwrap_or(i64::MAX),
            };
            if expires.is_some_and(|expires| expires.is_zero()) {
                return Err(Failure::Usage("--expires must be more than 0".to_owned()));
            }
            let done = match client.add_hold(request).await.doing("add the hold") {
                Ok(done) => done,
                Err(failure) => return Err(suggest(&client, &node, failure).await),
            };
            let hold = done.hold.as_option().cloned().unwrap_or_default();
            if for_programs(global.output, &values::hold(&hold))? {
                return Ok(());
            }
            let until = values::time(hold.expires.as_option())
                .map(|_| format!(" until {}", values::clock(hold.expires.as_option())))
                .unwrap_or_default();
            say(&format!(
                "Node {node} held by {name} of {}{until}",
                hold.owner
            ));
        }
        Hold::List { node } => {
            let request = v1::ListHoldsRequest {
                node_id: node.clone(),
            };
            let found = match client.list_holds(request).await.doing("list holds") {
                Ok(found) => found.holds,
                Err(failure) => return Err(suggest(&client, &node, failure).await),
            };
            let all = Value::Array(found.iter().map(values::hold).collect());
            if for_programs(global.output, &all)? {
                return Ok(());
            }
            if found.is_empty() {
                remark("No holds found");
                return Ok(());
            }
            say(&listing(&found));
        }
        Hold::Remove { node, name, reason } => {
            let request = v1::RemoveHoldRequest {
                node_id: node.clone(),
                name: name.clone(),
                reason,
            };
            let done = match client.remove_hold(request).await.doing("remove the hold") {
                Ok(done) => done,
                Err(failure) => return Err(suggest(&client, &node, failure).await),
            };
            let shown = json!({
                "node_id": node,
                "name": name,
                "removed": done.removed,
                "remaining_holds": done.remaining_holds,
                "node_status": values::node_status(done.node_status.to_i32()).name(),
            });
            if for_programs(global.output, &shown)? {
                return Ok(());
            }
            if done.removed {
                say(&format!("Hold {name} of node {node} removed"));
            } else {
                say(&format!("No hold {name} stands on node {node}"));
            }
            if !done.remaining_holds.is_empty() {
                let rest = done.remaining_holds.join(", ");
                remark(&format!("What still holds the node: {rest}"));
            }
        }
    }
    Ok(())
}

/// The table of `navarch hold list`.
pub fn listing(holds: &[v1::NodeHold]) -> String {
    let rows: Vec<Vec<String>> = holds
        .iter()
        .map(|hold| {
            vec![
                hold.node_id.clone(),
                hold.name.clone(),
                hold.owner.clone(),
                if hold.drain { "yes" } else { "no" }.to_owned(),
                values::clock(hold.since.as_option()),
                values::clock(hold.expires.as_option()),
                hold.reason.clone(),
            ]
        })
        .collect();
    let heading = [
        "Node", "Hold", "Owner", "Drains", "Since", "Expires", "Reason",
    ];
    table(&heading, &rows)
}

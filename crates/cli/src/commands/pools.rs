//! `navarch pool`, `automation` and `breaker`.

use navarch_api::{Client, convert, v1};
use navarch_model::{Automation, Price};
use serde_json::{Value, json};

use super::explain::wait_line;
use crate::args::{AutomationArgs, AutomationChoice, Breaker, Format, Global, Pool};
use crate::client::{Doing as _, Failure, connect};
use crate::output::{for_programs, remark, say, table};
use crate::values;

/// Refuses a list of a pool that nobody knows: it would be as empty as one of a pool at rest.
pub async fn must_be_known(client: &Client, pool: String) -> Result<(), Failure> {
    let request = v1::GetPoolStatusRequest { pool };
    let known = client.get_pool_status(request).await;
    known.doing("find the pool").map(drop)
}

/// `navarch pool`.
pub async fn run(global: &Global, order: Pool) -> Result<(), Failure> {
    let client = connect(global)?;
    match order {
        Pool::List => {
            let pools = client
                .list_pools(v1::ListPoolsRequest::default())
                .await
                .doing("list pools")?
                .pools;
            if for_programs(
                global.output,
                &Value::Array(pools.iter().map(values::pool).collect()),
            )? {
                return Ok(());
            }
            if pools.is_empty() {
                remark("No pools configured");
                return Ok(());
            }
            say(&listing(&pools, global.output == Format::Wide));
        }
        Pool::Status { pool } => {
            let request = v1::GetPoolStatusRequest { pool };
            let answer = client
                .get_pool_status(request)
                .await
                .doing("get the status of the pool")?;
            let status = &*answer.status;
            if !for_programs(global.output, &convert::pool_status_json(status))? {
                say(&standing(status));
            }
        }
        Pool::Scale {
            pool,
            nodes,
            reason,
        } => {
            let request = v1::ScalePoolRequest {
                pool: pool.clone(),
                nodes: Some(i32::try_from(nodes).unwrap_or(i32::MAX)),
                reason,
            };
            let after = client.scale_pool(request).await.doing("scale the pool")?;
            if for_programs(global.output, &values::scaled(&pool, &after))? {
                return Ok(());
            }
            say(&format!(
                "Pool {pool}: {} machines asked for, {} before",
                after.nodes, after.previous_nodes
            ));
            let mode = values::mode(after.automation.to_i32());
            if mode != "on" {
                remark(&format!(
                    "automation is {mode}: the pool keeps the machines that it has until it is on"
                ));
            }
        }
        Pool::Explain { pool } => {
            let request = v1::GetPlanRequest { pool };
            let plan = client.get_plan(request).await.doing("get the plan")?;
            if !for_programs(global.output, &values::plan(&plan))? {
                show_plan(&plan);
            }
        }
    }
    Ok(())
}

/// The lines of `navarch pool status`.
pub fn standing(status: &v1::PoolStatus) -> String {
    let yes_or_no = |yes| if yes { "yes" } else { "no" }.to_owned();
    let rows = [
        ("Pool", status.name.clone()),
        (
            "Asked",
            format!(
                "{} ({}..{})",
                status.asked_nodes, status.min_nodes, status.max_nodes
            ),
        ),
        ("Nodes", status.total_nodes.to_string()),
        ("Active", status.active_nodes.to_string()),
        ("Unhealthy", status.unhealthy_nodes.to_string()),
        ("Cordoned", status.cordoned_nodes.to_string()),
        ("Draining", status.draining_nodes.to_string()),
        ("Starting", status.starting_nodes.to_string()),
        ("Terminating", status.terminating_nodes.to_string()),
        ("Can scale up", yes_or_no(status.can_scale_up)),
        ("Can scale down", yes_or_no(status.can_scale_down)),
        (
            "Automation",
            values::mode(status.automation.to_i32()).to_owned(),
        ),
    ];
    let lines = rows.map(|(name, value)| format!("{:<16}{value}", format!("{name}:")));
    lines.join("\n")
}

/// The table of `navarch pool list`.
pub fn listing(pools: &[v1::Pool], wide: bool) -> String {
    let mut heading = vec![
        "Pool",
        "Provider",
        "Instance Type",
        "Bounds",
        "Asked",
        "Alive",
        "Active",
        "Unhealthy",
        "Automation",
        "Open Breakers",
    ];
    if wide {
        heading.extend([
            "Region",
            "Draining",
            "Cordoned",
            "Starting",
            "Terminating",
            "Recovery",
        ]);
    }
    let rows: Vec<Vec<String>> = pools
        .iter()
        .map(|pool| {
            let mut row = vec![
                pool.name.clone(),
                pool.provider.clone(),
                pool.instance_type.clone(),
                format!("{}..{}", pool.min_nodes, pool.max_nodes),
                pool.asked_nodes.to_string(),
                pool.alive_nodes.to_string(),
                pool.active_nodes.to_string(),
                pool.unhealthy_nodes.to_string(),
                values::mode(pool.automation.to_i32()).to_owned(),
                pool.open_breakers.join(","),
            ];
            if wide {
                row.extend([
                    pool.region.clone(),
                    pool.draining_nodes.to_string(),
                    pool.cordoned_nodes.to_string(),
                    pool.starting_nodes.to_string(),
                    pool.terminating_nodes.to_string(),
                    pool.recovery.clone(),
                ]);
            }
            row
        })
        .collect();
    table(&heading, &rows)
}

fn show_plan(plan: &v1::GetPlanResponse) {
    for (provider, why) in &plan.suspect_providers {
        say(&format!("Listing of {provider} is not believed: {why}"));
    }
    for pool in &plan.pools {
        say(&format!(
            "Pool {}: {} of {} machines ACTIVE, {} alive ({}..{}), automation {}",
            pool.pool,
            pool.active_nodes,
            pool.asked_nodes,
            pool.alive_nodes,
            pool.min_nodes,
            pool.max_nodes,
            values::mode(pool.automation.to_i32())
        ));
        if let Some(sizing) = pool.sizing.as_option() {
            say(&format!("  size: {}", sizing_line(sizing)));
            if let Some(line) = autoscaler_line(sizing) {
                say(&format!("  {line}"));
            }
        }
        for planned in &pool.planned {
            say(&format!("  next: {planned}"));
        }
        for wait in &pool.waits {
            say(&format!("  {}", wait_line(wait)));
        }
        for guard in &pool.guards {
            let mark = if guard.blocks { "stops" } else { "ok" };
            say(&format!(
                "  guard {:<22} {mark:<6} {}",
                guard.name, guard.text
            ));
        }
        if !pool.offerings.is_empty() {
            say(&offerings(pool));
        }
    }
}

/// Where the size of a pool comes from, in words.
fn sizing_line(sizing: &v1::Sizing) -> String {
    match sizing.source.as_str() {
        "min_nodes" => "min_nodes, for nobody asked for another".to_owned(),
        who if sizing.reason.is_empty() => format!("asked for by the {who}"),
        who => format!("asked for by the {who}: {}", sizing.reason),
    }
}

/// What the autoscaler of a pool says, in words.
fn autoscaler_line(sizing: &v1::Sizing) -> Option<String> {
    if sizing.autoscaler.is_empty() {
        return None;
    }
    let mut line = match sizing.recommended_nodes {
        Some(nodes) => format!("autoscaler {}: {nodes} machines", sizing.autoscaler),
        None => format!("autoscaler {}: the size holds", sizing.autoscaler),
    };
    line.push_str(&format!(", {}", sizing.recommendation));
    if !sizing.held.is_empty() {
        line.push_str(&format!(" (held by {})", sizing.held));
    }
    Some(line)
}

/// Where each offering of a pool stands, and why not.
pub fn offerings(pool: &v1::PoolPlan) -> String {
    let heading = [
        "Offering", "Priority", "Weight", "Machines", "Price", "Listed", "Next", "Why not",
    ];
    let dollars = |micros: Option<u64>| {
        micros.map_or_else(
            || "-".to_owned(),
            |micros| Price::from_micros(micros).to_string(),
        )
    };
    let rows: Vec<Vec<String>> = pool
        .offerings
        .iter()
        .map(|of| {
            let until = values::time(of.until.as_option()).map_or_else(String::new, |_| {
                format!(" (until {})", values::clock(of.until.as_option()))
            });
            vec![
                of.offering.clone(),
                of.priority.to_string(),
                of.weight.to_string(),
                of.machines.to_string(),
                dollars(of.price_micros),
                of.listed.clone(),
                match of.rank {
                    0 => "-".to_owned(),
                    rank => rank.to_string(),
                },
                if of.guard.is_empty() {
                    "-".to_owned()
                } else {
                    format!("{}: {}{until}", of.guard, of.text)
                },
            ]
        })
        .collect();
    format!(
        "Offerings by {}:\n{}",
        pool.strategy,
        table(&heading, &rows)
    )
}

/// `navarch automation`.
pub async fn automation(global: &Global, order: AutomationArgs) -> Result<(), Failure> {
    let client = connect(global)?;
    let Some(mode) = order.mode else {
        let switches = client
            .get_automation(v1::GetAutomationRequest::default())
            .await
            .doing("get the automation switches")?;
        if !for_programs(global.output, &values::automation(&switches))? {
            show(&switches);
        }
        return Ok(());
    };
    let request = v1::SetAutomationRequest {
        mode: match mode {
            AutomationChoice::Mode(Automation::On) => v1::AutomationMode::AUTOMATION_MODE_ON,
            AutomationChoice::Mode(Automation::Observe) => {
                v1::AutomationMode::AUTOMATION_MODE_OBSERVE
            }
            AutomationChoice::Mode(Automation::Off) => v1::AutomationMode::AUTOMATION_MODE_OFF,
            AutomationChoice::Inherit => v1::AutomationMode::AUTOMATION_MODE_INHERIT,
        }
        .into(),
        pool: order.pool.clone(),
        reason: order.reason,
    };
    let after = client
        .set_automation(request)
        .await
        .doing("set the automation switch")?;
    let after = v1::GetAutomationResponse {
        fleet: after.fleet,
        pools: after.pools,
    };
    if !for_programs(global.output, &values::automation(&after))? {
        show(&after);
    }
    Ok(())
}

fn show(switches: &v1::GetAutomationResponse) {
    let described = |setting: Option<&v1::AutomationSetting>| {
        let Some(setting) = setting else {
            return "on".to_owned();
        };
        let mode = values::mode(setting.mode.to_i32());
        if setting.reason.is_empty() {
            mode.to_owned()
        } else {
            format!("{mode} ({})", setting.reason)
        }
    };
    let mut rows = vec![vec![
        "(fleet)".to_owned(),
        described(switches.fleet.as_option()),
        switches
            .fleet
            .as_option()
            .map_or("on", |fleet| values::mode(fleet.mode.to_i32()))
            .to_owned(),
    ]];
    for pool in &switches.pools {
        rows.push(vec![
            pool.pool.clone(),
            described(pool.setting.as_option()),
            values::mode(pool.effective.to_i32()).to_owned(),
        ]);
    }
    say(&table(&["Pool", "Automation", "In Force"], &rows));
}

/// `navarch breaker`.
pub async fn breaker(global: &Global, order: Breaker) -> Result<(), Failure> {
    let client = connect(global)?;
    let Breaker::Reset { pool, signature } = order;
    let request = v1::ResetBreakerRequest {
        pool: pool.clone(),
        signature,
    };
    let reset = client
        .reset_breaker(request)
        .await
        .doing("reset breakers")?
        .signatures;
    if for_programs(global.output, &json!({ "pool": pool, "signatures": reset }))? {
        return Ok(());
    }
    if reset.is_empty() {
        say("No breaker was open");
    }
    for name in reset {
        say(&format!("Breaker of {name} reset"));
    }
    Ok(())
}

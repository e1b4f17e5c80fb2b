//! Pools, plans, switches and the policy.

use std::collections::BTreeMap;

use buffa::EnumValue;
use navarch_config::Recovery;
use navarch_core::history::{Metric, Series};
use navarch_core::{Advice, OfferingReport, PlanReport, PoolReport, PoolSettings, Settings, Wait};
use navarch_model::{
    AskedSize, Automation, AutomationSetting, HealthStatus, NodeStatus, Offering, Phase, Pool,
    PoolName, Price, Stamp, State,
};
use navarch_policy::HealthPolicy;
use navarch_policy::placement::Standing;

use super::incident::kind_word;
use super::time::{milliseconds, of_fleet_time, optional, timestamp};
use crate::v1;

/// A mode as messages have it.
pub fn mode(automation: Automation) -> EnumValue<v1::AutomationMode> {
    match automation {
        Automation::On => v1::AutomationMode::AUTOMATION_MODE_ON,
        Automation::Observe => v1::AutomationMode::AUTOMATION_MODE_OBSERVE,
        Automation::Off => v1::AutomationMode::AUTOMATION_MODE_OFF,
    }
    .into()
}

fn setting(setting: &AutomationSetting) -> v1::AutomationSetting {
    v1::AutomationSetting {
        mode: mode(setting.mode),
        reason: setting.reason.clone(),
        since: optional(setting.since),
    }
}

/// The switches. `effective` says the mode in force in a pool.
pub fn automation(
    state: &State,
    settings: &Settings,
    effective: impl Fn(&PoolName) -> Automation,
) -> v1::GetAutomationResponse {
    let pools = settings
        .pools
        .keys()
        .map(|name| v1::PoolAutomation {
            pool: name.as_str().to_owned(),
            setting: state
                .pools
                .get(name)
                .and_then(|pool| pool.automation.as_ref())
                .map_or_else(
                    || v1::AutomationSetting {
                        mode: v1::AutomationMode::AUTOMATION_MODE_INHERIT.into(),
                        ..Default::default()
                    },
                    setting,
                )
                .into(),
            effective: mode(effective(name)),
        })
        .collect();
    v1::GetAutomationResponse {
        fleet: setting(&state.meta.automation).into(),
        pools,
    }
}

/// The same switches, as the answer to a change.
pub fn set_automation(after: v1::GetAutomationResponse) -> v1::SetAutomationResponse {
    v1::SetAutomationResponse {
        fleet: after.fleet,
        pools: after.pools,
    }
}

/// How many machines and nodes of a pool are how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Numbers {
    /// Instances that may be alive.
    pub alive: usize,
    /// Those on their way: requested, launching, waiting for their agent.
    pub starting: usize,
    /// Those on their way out.
    pub terminating: usize,
    /// Nodes that are ACTIVE, UNHEALTHY, DRAINING and CORDONED.
    pub active: usize,
    /// UNHEALTHY nodes.
    pub unhealthy: usize,
    /// DRAINING nodes.
    pub draining: usize,
    /// CORDONED nodes.
    pub cordoned: usize,
}

impl Numbers {
    /// Counts every pool in one pass.
    pub fn of(state: &State) -> BTreeMap<PoolName, Self> {
        let mut pools: BTreeMap<PoolName, Self> = BTreeMap::new();
        for instance in state.instances.values() {
            let numbers = pools.entry(instance.pool.clone()).or_default();
            numbers.alive += usize::from(instance.phase.may_be_alive());
            match instance.phase {
                Phase::Requested
                | Phase::Launching
                | Phase::OutcomeUnknown
                | Phase::PendingRegistration => numbers.starting += 1,
                Phase::Terminating => numbers.terminating += 1,
                Phase::Running | Phase::Terminated | Phase::Failed => {}
            }
        }
        for node in state.nodes.values() {
            let Some(pool) = &node.pool else { continue };
            let numbers = pools.entry(pool.clone()).or_default();
            match node.status() {
                NodeStatus::Active => numbers.active += 1,
                NodeStatus::Unhealthy => numbers.unhealthy += 1,
                NodeStatus::Draining => numbers.draining += 1,
                NodeStatus::Cordoned => numbers.cordoned += 1,
                NodeStatus::Terminated | NodeStatus::Unknown => {}
            }
        }
        pools
    }
}

fn int(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Every configured pool.
pub fn pools(
    state: &State,
    settings: &Settings,
    effective: impl Fn(&PoolName) -> Automation,
) -> v1::ListPoolsResponse {
    let numbers = Numbers::of(state);
    let pools = settings
        .pools
        .iter()
        .map(|(name, pool)| {
            let is = numbers.get(name).copied().unwrap_or_default();
            let asked = asked(name, pool, state);
            let health = &pool.config.health;
            v1::Pool {
                name: name.as_str().to_owned(),
                provider: pool.provider_names(),
                region: each(pool, |offering| &offering.region),
                instance_type: each(pool, |offering| &offering.instance_type),
                labels: pool.config.labels.clone(),
                min_nodes: int(pool.min_nodes()),
                max_nodes: int(pool.max_nodes()),
                asked_nodes: int(asked),
                alive_nodes: int(is.alive),
                active_nodes: int(is.active),
                unhealthy_nodes: int(is.unhealthy),
                draining_nodes: int(is.draining),
                cordoned_nodes: int(is.cordoned),
                starting_nodes: int(is.starting),
                terminating_nodes: int(is.terminating),
                automation: mode(effective(name)),
                recovery: match health.recovery {
                    Recovery::Automatic => "automatic".to_owned(),
                    Recovery::Manual => "manual".to_owned(),
                },
                auto_replace: health.auto_replace,
                open_breakers: state
                    .pools
                    .get(name)
                    .map(|pool| open_breakers(pool))
                    .unwrap_or_default(),
            }
        })
        .collect();
    v1::ListPoolsResponse { pools }
}

/// How one configured pool stands.
pub fn pool_status(
    name: &PoolName,
    pool: &PoolSettings,
    state: &State,
    effective: Automation,
) -> v1::PoolStatus {
    let is = Numbers::of(state).remove(name).unwrap_or_default();
    let (min, max) = (pool.min_nodes(), pool.max_nodes());
    let asked = asked(name, pool, state);
    let healthy = is.active + is.draining + is.cordoned;
    v1::PoolStatus {
        name: name.as_str().to_owned(),
        total_nodes: int(healthy + is.unhealthy),
        healthy_nodes: int(healthy),
        unhealthy_nodes: int(is.unhealthy),
        cordoned_nodes: int(is.cordoned),
        can_scale_up: asked < max,
        can_scale_down: asked > min,
        min_nodes: int(min),
        max_nodes: int(max),
        asked_nodes: int(asked),
        active_nodes: int(is.active),
        draining_nodes: int(is.draining),
        starting_nodes: int(is.starting),
        terminating_nodes: int(is.terminating),
        automation: mode(effective),
    }
}

/// The same for people and programs that read JSON, with the names of the contract.
pub fn pool_status_json(status: &v1::PoolStatus) -> serde_json::Value {
    // The messages' own JSON leaves zeros out.
    serde_json::json!({
        "name": status.name,
        "total_nodes": status.total_nodes,
        "healthy_nodes": status.healthy_nodes,
        "unhealthy_nodes": status.unhealthy_nodes,
        "cordoned_nodes": status.cordoned_nodes,
        "can_scale_up": status.can_scale_up,
        "can_scale_down": status.can_scale_down,
        "min_nodes": status.min_nodes,
        "max_nodes": status.max_nodes,
        "asked_nodes": status.asked_nodes,
        "active_nodes": status.active_nodes,
        "draining_nodes": status.draining_nodes,
        "starting_nodes": status.starting_nodes,
        "terminating_nodes": status.terminating_nodes,
        "automation": mode_name(status.automation),
    })
}

/// The full name of a mode.
pub fn mode_name(mode: EnumValue<v1::AutomationMode>) -> &'static str {
    match mode.as_known() {
        Some(v1::AutomationMode::AUTOMATION_MODE_ON) => "AUTOMATION_MODE_ON",
        Some(v1::AutomationMode::AUTOMATION_MODE_OBSERVE) => "AUTOMATION_MODE_OBSERVE",
        Some(v1::AutomationMode::AUTOMATION_MODE_OFF) => "AUTOMATION_MODE_OFF",
        Some(v1::AutomationMode::AUTOMATION_MODE_INHERIT) => "AUTOMATION_MODE_INHERIT",
        Some(v1::AutomationMode::AUTOMATION_MODE_UNSPECIFIED) | None => {
            "AUTOMATION_MODE_UNSPECIFIED"
        }
    }
}

/// The size that is asked for.
fn asked(name: &PoolName, pool: &PoolSettings, state: &State) -> usize {
    let remembered = state.pools.get(name);
    pool.size(remembered.and_then(|pool| pool.asked.as_ref()))
}

/// What nodes measured. `now` places fleet time.
pub fn series(series: &Series, metric: Metric, now: Stamp) -> v1::QueryMetricsResponse {
    let count = |nodes: usize| i32::try_from(nodes).unwrap_or(i32::MAX);
    v1::QueryMetricsResponse {
        value: series.value,
        points: series
            .points
            .iter()
            .map(|point| v1::MetricPoint {
                time: of_fleet_time(Some(point.at), now),
                value: point.value,
                nodes: count(point.nodes),
            })
            .collect(),
        nodes: count(series.nodes),
        unit: metric.unit().to_owned(),
    }
}

/// The answer to another size.
pub fn sized(from: usize, to: usize, automation: Automation) -> v1::ScalePoolResponse {
    v1::ScalePoolResponse {
        previous_nodes: int(from),
        nodes: int(to),
        automation: mode(automation),
    }
}

/// Where the size of a pool comes from.
fn sizing(asked: Option<&AskedSize>, advice: Option<&Advice>) -> v1::Sizing {
    let mut sizing = match asked {
        None => v1::Sizing {
            source: "min_nodes".to_owned(),
            ..Default::default()
        },
        Some(asked) => v1::Sizing {
            source: asked.by.word().to_owned(),
            reason: asked.reason.clone(),
            asked_at: timestamp(asked.at).into(),
            raised_at: optional(asked.raised),
            lowered_at: optional(asked.lowered),
            ..Default::default()
        },
    };
    if let Some(advice) = advice {
        advice.autoscaler.clone_into(&mut sizing.autoscaler);
        sizing.recommended_nodes = advice.nodes.and_then(|nodes| i32::try_from(nodes).ok());
        sizing.recommendation.clone_from(&advice.reason);
        sizing.held = advice.held.clone().unwrap_or_default();
        sizing.inputs = advice
            .inputs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
    }
    sizing
}

/// What the offerings of a pool have in one respect, each once, in the order of the configuration.
fn each<'a>(pool: &'a PoolSettings, of: impl Fn(&'a Offering) -> &'a str) -> String {
    let mut found: Vec<&str> = Vec::new();
    for one in &pool.offerings {
        let text = of(&one.offering);
        if !text.is_empty() && !found.contains(&text) {
            found.push(text);
        }
    }
    found.join(", ")
}

fn open_breakers(pool: &Pool) -> Vec<String> {
    let repairs = pool
        .repair_breakers
        .iter()
        .filter(|(_, breaker)| breaker.is_open())
        .map(|(signature, _)| signature.clone());
    let launches = pool
        .offerings
        .iter()
        .filter(|(_, memory)| memory.breaker.is_open())
        .map(|(offering, _)| offering.clone());
    repairs.chain(launches).collect()
}

/// What waits, and for what.
pub fn wait(wait: &Wait, now: Stamp) -> v1::Wait {
    v1::Wait {
        guard: wait.guard.to_owned(),
        about: wait.about.clone(),
        action: wait.action.clone(),
        text: wait.reason.clone(),
        until: of_fleet_time(wait.until, now),
    }
}

/// The plan of one pool, or of every pool.
pub fn plan(
    report: &PlanReport,
    state: &State,
    settings: &Settings,
    only: Option<&PoolName>,
) -> v1::GetPlanResponse {
    v1::GetPlanResponse {
        time: timestamp(report.at).into(),
        pools: report
            .pools
            .iter()
            .filter(|(name, _)| only.is_none_or(|only| only == *name))
            .map(|(name, pool)| pool_plan(name, pool, state, settings, report.at))
            .collect(),
        suspect_providers: report
            .suspect
            .iter()
            .map(|(provider, why)| (provider.as_str().to_owned(), why.clone()))
            .collect(),
        next_plan_at: of_fleet_time(report.next_wake, report.at),
    }
}

fn pool_plan(
    name: &PoolName,
    pool: &PoolReport,
    state: &State,
    settings: &Settings,
    now: Stamp,
) -> v1::PoolPlan {
    let surge = settings.pools.get(name).map_or(0, |pool| pool.max_surge());
    let remembered = state.pools.get(name);
    v1::PoolPlan {
        pool: name.as_str().to_owned(),
        automation: mode(pool.automation),
        min_nodes: int(pool.bounds.0),
        max_nodes: int(pool.bounds.1),
        asked_nodes: int(pool.target),
        alive_nodes: int(pool.alive),
        capacity_nodes: int(pool.capacity),
        active_nodes: int(pool.active),
        unhealthy_nodes: int(pool.unhealthy),
        leaving_nodes: int(pool.leaving),
        planned: pool.planned.clone(),
        waits: pool.waits.iter().map(|of| wait(of, now)).collect(),
        sizing: sizing(
            remembered.and_then(|pool| pool.asked.as_ref()),
            pool.advice.as_ref(),
        )
        .into(),
        guards: guards(pool, surge, remembered.map(|pool| &**pool), now),
        strategy: pool.strategy.word().to_owned(),
        offerings: pool.offerings.iter().map(|of| offering(of, now)).collect(),
    }
}

/// Where one offering stands.
fn offering(report: &OfferingReport, now: Stamp) -> v1::OfferingPlan {
    let is = &report.offering;
    let block = report.standing.block();
    v1::OfferingPlan {
        offering: is.to_string(),
        provider: is.provider.as_str().to_owned(),
        region: is.region.clone(),
        zone: is.zone.clone(),
        instance_type: is.instance_type.clone(),
        capacity: is.capacity.word().to_owned(),
        priority: report.priority,
        weight: report.weight,
        machines: int(report.machines),
        listed: report.listed.word().to_owned(),
        listed_at: of_fleet_time(report.listed_at, now),
        price_micros: report.listed.price().map(Price::micros),
        max_price_micros: report.max_price.map(Price::micros),
        rank: match report.standing {
            Standing::Open(rank) => u32::try_from(rank).unwrap_or(u32::MAX),
            Standing::Closed(_) => 0,
        },
        guard: block.map_or(String::new(), |block| block.guard.to_owned()),
        text: block.map_or(String::new(), |block| block.reason.clone()),
        until: of_fleet_time(block.and_then(|block| block.until), now),
        refusals: report.refusals,
    }
}

/// The limits of a pool with their numbers, and the breakers that are open.
fn guards(
    pool: &PoolReport,
    surge: usize,
    remembered: Option<&Pool>,
    now: Stamp,
) -> Vec<v1::Guard> {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let limit = |name: &str, used: usize, limit: usize, text: String| v1::Guard {
        name: name.to_owned(),
        used: number(used),
        limit: number(limit),
        blocks: used >= limit,
        text,
        ..Default::default()
    };
    let (taken, slots) = pool.budget;
    let most = pool.bounds.1 + surge;
    let mut guards = vec![
        limit(
            "budget",
            taken,
            slots,
            format!("{taken} of {slots} disruptions under way"),
        ),
        limit(
            "size",
            pool.alive,
            most,
            format!(
                "{} machines may be alive, at most {} and {surge} for replacement",
                pool.alive, pool.bounds.1
            ),
        ),
    ];
    let Some(remembered) = remembered else {
        return guards;
    };
    let repairs = remembered
        .repair_breakers
        .iter()
        .map(|(signature, breaker)| ("breaker", signature, breaker));
    let launches = remembered
        .offerings
        .iter()
        .map(|(offering, memory)| ("launch_breaker", offering, &memory.breaker));
    for (name, subject, breaker) in repairs.chain(launches) {
        if !breaker.is_open() {
            continue;
        }
        let text = match &breaker.probe {
            Some(probe) => format!("open; {probe} is let through as a probe"),
            None => "open".to_owned(),
        };
        guards.push(v1::Guard {
            name: name.to_owned(),
            subject: subject.clone(),
            used: i64::from(breaker.trips),
            blocks: true,
            text,
            until: of_fleet_time(breaker.probe_at, now),
            ..Default::default()
        });
    }
    guards
}

/// The health policy in force. `text` is its whole text.
pub fn policy(policy: &HealthPolicy, text: &str, loaded: Stamp) -> v1::GetPolicyResponse {
    v1::GetPolicyResponse {
        source: policy.source().to_owned(),
        version: policy.version().to_owned(),
        name: policy.name().to_owned(),
        description: policy.description().to_owned(),
        text: text.to_owned(),
        loaded_at: timestamp(loaded).into(),
        rules: policy
            .rules()
            .iter()
            .map(|rule| v1::PolicyRule {
                name: rule.name.to_string(),
                description: rule.description.clone(),
                condition: rule.condition.clone(),
                result: HealthStatus::number(rule.result).into(),
                kind: rule.kind.map(kind_word).unwrap_or_default().to_owned(),
                class: rule.class.as_deref().unwrap_or_default().to_owned(),
                action: rule
                    .action
                    .map(|repair| repair.word().to_owned())
                    .unwrap_or_default(),
                clear_after_milliseconds: milliseconds(rule.clear_after),
                line: u32::try_from(rule.line).unwrap_or(u32::MAX),
            })
            .collect(),
        ..Default::default()
    }
}

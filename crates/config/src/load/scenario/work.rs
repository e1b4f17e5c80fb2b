//! Reading of the work that a fleet has, and of how its scheduler drains nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cold_start;
use super::known::Known;
use crate::config::Config;
use crate::fields::{Fields, YEAR, shown};
use crate::scenario::{ColdStart, Curve, Daily, Load};
use crate::schema;
use crate::tree::quoted;

/// The most work and jobs of a pool: ten jobs for each node of the largest fleet.
const MOST: f64 = 10_000_000.0;

/// How long work needs to leave a node when the file does not say it.
const USUAL_DRAIN: ColdStart = ColdStart {
    min: Some(Duration::from_secs(60)),
    max: Some(Duration::from_secs(600)),
    mean: None,
    stddev: Duration::ZERO,
};

/// The work of pools.
pub(super) fn load(root: &Fields<'_>, known: &Known<'_>) -> BTreeMap<String, Load> {
    let mut all = BTreeMap::new();
    for (pool, fields) in root.named("load") {
        let path = format!("load.{}", shown(pool));
        match known.autoscales(pool) {
            Some(true) => {}
            Some(false) => {
                let message = format!("{path} has no effect: the pool has no autoscaling");
                fields.log().warn(fields.start(), message);
            }
            None => {
                let hint = match schema::nearest(pool, known.pools()) {
                    Some(near) => format!("did you mean {}?", shown(near)),
                    None => "add it to pools".to_owned(),
                };
                let message = format!("{path}: unknown pool {}: {hint}", quoted(pool));
                fields.log().error(fields.start(), message);
            }
        }
        let load = Load {
            work: curve(&fields.section("work")),
            jobs: curve(&fields.section("jobs")),
        };
        all.insert(pool.to_owned(), load);
    }
    all
}

fn curve(fields: &Fields<'_>) -> Curve {
    let mut steps: Vec<(Duration, f64)> = Vec::new();
    for step in fields.list("steps") {
        let at = step.duration("at", Duration::ZERO..=YEAR);
        let level = step.decimal("level", 0.0..=MOST);
        for (key, what) in [("at", "say from when on"), ("level", "say how much")] {
            if !step.has(key) && !step.is_broken() {
                step.fail(key, format!("required: {what}"));
            }
        }
        let Some(at) = at else { continue };
        if steps.last().is_some_and(|(last, _)| at <= *last) {
            step.fail("at", "not after the step before it: sort the steps by time");
        }
        steps.push((at, level.unwrap_or(0.0)));
    }
    Curve {
        level: fields.decimal("level", 0.0..=MOST).unwrap_or(0.0),
        steps,
        daily: fields.has("daily").then(|| daily(&fields.section("daily"))),
        noise: fields.share("noise").unwrap_or(0.0),
    }
}

fn daily(fields: &Fields<'_>) -> Daily {
    let high = fields.decimal("high", 0.0..=MOST);
    let low = fields.decimal("low", 0.0..=MOST).unwrap_or(0.0);
    if !fields.has("high") && !fields.is_broken() {
        fields.fail("high", "required: say how much it is at its peak");
    }
    if high.is_some_and(|high| low > high) {
        fields.fail("low", "more than high: exchange them");
    }
    Daily {
        low,
        high: high.unwrap_or(low),
        peak_at: fields
            .duration("peak_at", Duration::ZERO..=YEAR)
            .unwrap_or(Duration::from_secs(12 * 3600)),
    }
}

/// How long work needs to leave a node that drains.
pub(super) fn drain(root: &Fields<'_>, config: &Config) -> ColdStart {
    let fields = root.section("scheduler");
    if root.has("scheduler") && config.server.notifier.webhook.is_none() {
        let message = "scheduler has no effect without server.notifier: the control plane tells nobody, and a drained node is empty at once";
        fields.log().warn(fields.start(), message.to_owned());
    }
    let drain = cold_start(&fields.section("drain"), ["min", "max", "mean", "stddev"]);
    if drain == ColdStart::default() {
        USUAL_DRAIN
    } else {
        drain
    }
}

//! Reading of what breaks by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::known::{DomainScope, Known};
use crate::duration::compact;
use crate::error::Position;
use crate::fields::{Fields, MOST_WEIGHT, YEAR, plain_count};
use crate::scenario::presets::{self, Preset};
use crate::scenario::{
    Cascading, Chaos, Correlated, Domain, FailureKind, InfantMortality, Lemons, Outage, Rate,
    Recovery, Scope,
};
use crate::tree::quoted;

/// XIDs beyond are slips of the keyboard: the largest known one is below 200.
const MOST_XID: u32 = 1000;

/// The most failures a minute for each 1000 nodes, and for each 1000 node-days.
const MOST_RATE: f64 = 1_000_000.0;

/// The most generations of a cascade.
const MOST_DEPTH: i128 = 100;

/// Old words for kinds of failures.
const OLD_KINDS: [(&str, &str); 3] = [
    ("xid", "xid_error"),
    ("boot", "boot_failure"),
    ("nvml", "nvml_failure"),
];

/// The kind of failure that a key names.
pub(super) fn failure_kind(fields: &Fields<'_>, key: &str) -> Option<FailureKind> {
    fields.word_or_old(key, &FailureKind::WORDS, OLD_KINDS)
}

/// The same, where it must be given.
fn required_kind(fields: &Fields<'_>, key: &str) -> Option<FailureKind> {
    require(fields, key, "name a kind of failure such as xid_error");
    failure_kind(fields, key)
}

fn require(fields: &Fields<'_>, key: &str, what: &str) {
    if !fields.has(key) && !fields.is_broken() {
        fields.fail(key, format!("required: {what}"));
    }
}

/// The XID of a key, which says something of some kinds alone.
pub(super) fn xid(fields: &Fields<'_>, key: &str, kind: Option<FailureKind>) -> Option<u32> {
    let xid = fields.count(key, 1..=MOST_XID)?;
    match kind {
        Some(FailureKind::Xid | FailureKind::XidBurst) | None => Some(xid),
        Some(kind) => {
            let path = fields.path_of(key);
            fields.log().warn(
                fields.at(key),
                format!(
                    "{path} has no effect: {} has its own XID or none",
                    kind.word()
                ),
            );
            None
        }
    }
}

pub(super) fn chaos(fields: &Fields<'_>, known: &Known<'_>, run: Duration) -> Chaos {
    let xid_distribution = xids(fields);
    let correlated = correlated(fields, &xid_distribution);
    Chaos {
        enabled: fields.flag("enabled").unwrap_or(true),
        failure_rate: fields
            .decimal("failure_rate", 0.0..=MOST_RATE)
            .unwrap_or(0.0),
        xid_distribution,
        failure_types: failure_types(fields),
        rates: rates(fields),
        lemons: fields
            .has("lemons")
            .then(|| lemons(&fields.section("lemons"))),
        infant_mortality: fields
            .has("infant_mortality")
            .then(|| infant_mortality(&fields.section("infant_mortality"))),
        cascading: cascading(&fields.section("cascading"), fields.has("cascading")),
        correlated,
        recovery: recovery(&fields.section("recovery"), fields.has("recovery")),
        outages: outages(fields, known, run),
        control_plane_crashes: fields.longer_than_zero("control_plane_crashes", YEAR),
    }
}

fn xids(fields: &Fields<'_>) -> Vec<(u32, f64)> {
    let path = fields.path_of("xid_distribution");
    let mut xids: BTreeMap<u32, f64> = BTreeMap::new();
    for (name, weight, at) in fields.weights("xid_distribution") {
        let log = |problem: &str| {
            let message = format!("{path}: {} {problem}", quoted(name));
            fields.log().error(at, message);
        };
        match plain_count(name).filter(|xid| (1..=MOST_XID).contains(xid)) {
            None => log(&format!("is not an XID: use a number from 1 to {MOST_XID}")),
            Some(xid) if xids.contains_key(&xid) => log("is set twice: keep one"),
            Some(xid) => {
                xids.insert(xid, weight);
            }
        }
    }
    xids.into_iter().collect()
}

fn failure_types(fields: &Fields<'_>) -> Vec<(FailureKind, f64)> {
    let mut types = Vec::new();
    let mut seen = BTreeSet::new();
    let errors = fields.log().error_count();
    for entry in fields.list("failure_types") {
        let kind = required_kind(&entry, "type");
        require(&entry, "weight", "say how often it is drawn");
        let weight = entry.decimal("weight", 0.0..=MOST_WEIGHT);
        if let Some(kind) = kind
            && !seen.insert(kind)
        {
            entry.fail("type", format!("{} is listed twice: keep one", kind.word()));
        }
        types.extend(kind.zip(weight));
    }
    let sound = fields.log().error_count() == errors;
    if sound && !types.is_empty() && types.iter().all(|(_, weight)| *weight == 0.0) {
        fields.fail(
            "failure_types",
            "all weights are 0, so that nothing can be drawn: make one larger",
        );
    }
    types
}

fn rates(fields: &Fields<'_>) -> Vec<Rate> {
    let preset = fields.word("preset", &Preset::WORDS);
    let mut rates: Vec<Rate> = preset.map(presets::rates).unwrap_or_default();
    let own: Vec<Rate> = fields
        .list("rates")
        .iter()
        .filter_map(|entry| {
            let kind = required_kind(entry, "type");
            require(entry, "per_1000_node_days", "say how often it comes");
            Some(Rate {
                xid: xid(entry, "xid_code", kind),
                per_1000_node_days: entry
                    .decimal("per_1000_node_days", 0.0..=MOST_RATE)
                    .unwrap_or(0.0),
                permanent: entry.share("permanent").unwrap_or(0.0),
                mean_duration: entry.longer_than_zero("mean_duration", YEAR),
                source: entry
                    .text("source")
                    .unwrap_or_else(|| "the scenario".to_owned()),
                kind: kind?,
            })
        })
        .collect();
    let replaced = |rate: &Rate| {
        own.iter()
            .any(|own| own.kind == rate.kind && (own.xid.is_none() || own.xid == rate.xid))
    };
    rates.retain(|rate| !replaced(rate));
    rates.extend(own);
    rates
}

fn multiple(fields: &Fields<'_>, default: f64) -> f64 {
    const MOST: f64 = 100_000.0;
    fields.decimal("multiple", 0.0..=MOST).unwrap_or(default)
}

fn lemons(fields: &Fields<'_>) -> Lemons {
    Lemons {
        fraction: fields.share("fraction").unwrap_or(0.012),
        multiple: multiple(fields, 15.0),
    }
}

fn infant_mortality(fields: &Fields<'_>) -> InfantMortality {
    InfantMortality {
        lasts: fields
            .longer_than_zero("lasts", YEAR)
            .unwrap_or(Duration::from_secs(72 * 3600)),
        multiple: multiple(fields, 4.0),
    }
}

fn cascading(fields: &Fields<'_>, given: bool) -> Option<Cascading> {
    let enabled = fields.flag("enabled").unwrap_or(true) && given;
    if enabled {
        require(
            fields,
            "probability",
            "say how often a failure causes others",
        );
    }
    let depth = fields.integer("max_depth");
    if depth.is_some_and(|depth| depth > MOST_DEPTH) {
        fields.fail("max_depth", format!("out of range: use 0 to {MOST_DEPTH}"));
    }
    let min_delay = fields
        .duration("min_delay", Duration::ZERO..=YEAR)
        .unwrap_or_default();
    let max_delay = fields.duration("max_delay", Duration::ZERO..=YEAR);
    if let Some(max) = max_delay.filter(|max| *max < min_delay) {
        let (max, min) = (compact(max), compact(min_delay));
        fields.fail(
            "max_delay",
            format!("{max} is shorter than min_delay ({min})"),
        );
    }
    let cascading = Cascading {
        probability: fields.share("probability").unwrap_or(0.0),
        max_depth: depth
            .filter(|depth| *depth > 0)
            .and_then(|depth| u32::try_from(depth).ok())
            .unwrap_or(3),
        min_delay,
        max_delay: max_delay.unwrap_or(min_delay + Duration::from_secs(1)),
        scope: fields.word("scope", &Scope::WORDS).unwrap_or(Scope::All),
        max_affected: fields.share("max_affected_percent").unwrap_or(0.0),
    };
    enabled.then_some(cascading)
}

/// A trigger: a kind of failure, or an XID.
fn trigger(fields: &Fields<'_>) -> Option<(FailureKind, Option<u32>)> {
    let key = "trigger";
    require(fields, key, "name a kind of failure, or an XID");
    let text = fields.text(key)?;
    if text.bytes().all(|b| b.is_ascii_digit()) {
        let xid = plain_count(&text).filter(|xid| (1..=MOST_XID).contains(xid));
        if xid.is_none() {
            fields.fail(
                key,
                format!("{} is not an XID: use 1 to {MOST_XID}", quoted(&text)),
            );
        }
        return xid.map(|xid| (FailureKind::Xid, Some(xid)));
    }
    failure_kind(fields, key).map(|kind| (kind, None))
}

fn correlated(fields: &Fields<'_>, xids: &[(u32, f64)]) -> Vec<Correlated> {
    let mut pairs: Vec<(Correlated, Position)> = Vec::new();
    for entry in fields.list("correlated_failures") {
        let trigger = trigger(&entry);
        let response = required_kind(&entry, "response");
        let name = entry.text("name");
        let probability = entry.share("probability").unwrap_or(1.0);
        let delay = entry
            .duration("delay", Duration::ZERO..=YEAR)
            .unwrap_or_default();
        let scope = entry.word_or_old(
            "scope",
            &[
                ("same_node", None),
                ("rack", Some(Scope::Rack)),
                ("zone", Some(Scope::Zone)),
                ("region", Some(Scope::Region)),
                ("provider", Some(Scope::Provider)),
                ("all", Some(Scope::All)),
            ],
            [
                ("same_rack", "rack"),
                ("same_zone", "zone"),
                ("random", "all"),
            ],
        );
        let scope = scope.flatten();
        let affected = entry.share("affected");
        if scope.is_none() && entry.has("affected") {
            let path = entry.path_of("affected");
            let message = format!("{path} has no effect without a scope that has other nodes");
            entry.log().warn(entry.at("affected"), message);
        }
        let (Some((trigger, trigger_xid)), Some(response)) = (trigger, response) else {
            continue;
        };
        let usual = || {
            let trigger = match trigger_xid {
                Some(xid) => xid.to_string(),
                None => trigger.word().to_owned(),
            };
            format!("{trigger}-{}", response.word())
        };
        let pair = Correlated {
            name: name.unwrap_or_else(usual),
            trigger,
            trigger_xid,
            response,
            probability,
            delay,
            scope,
            affected,
        };
        pairs.push((pair, entry.at("trigger")));
    }
    check_cycles(fields, &pairs, xids);
    pairs.into_iter().map(|(pair, _)| pair).collect()
}

/// How often a failure of a kind triggers a pair, from 0 to 1: one of several XIDs is drawn.
fn triggers(kind: FailureKind, pair: &Correlated, xids: &[(u32, f64)]) -> f64 {
    let Some(code) = pair.trigger_xid else {
        return f64::from(u8::from(kind == pair.trigger));
    };
    let one_of = |codes: &[u32]| {
        let of = codes.iter().filter(|one| **one == code).count();
        of as f64 / codes.len() as f64
    };
    match kind {
        FailureKind::XidBurst => one_of(&FailureKind::BURST_XIDS),
        FailureKind::Xid if xids.is_empty() => one_of(&FailureKind::XIDS),
        FailureKind::Xid => {
            let all: f64 = xids.iter().map(|(_, weight)| weight).sum();
            let own = xids.iter().find(|(one, _)| *one == code);
            own.map_or(0.0, |(_, weight)| weight / all)
        }
        kind => f64::from(u8::from(kind.usual_xid() == Some(code))),
    }
}

/// Pairs that bring each other along as often as they come would never end by themselves: each
/// brings along one failure or more of the same kind, on average.
fn check_cycles(fields: &Fields<'_>, pairs: &[(Correlated, Position)], xids: &[(u32, f64)]) {
    // How often each pair follows from each other, where every one of them hits one node.
    let follows: Vec<Vec<f64>> = pairs
        .iter()
        .map(|(from, _)| {
            let to = pairs.iter().map(|(to, _)| to);
            to.map(|to| to.probability * triggers(from.response, to, xids))
                .collect()
        })
        .collect();
    let reached = |from: usize| {
        let mut reached = BTreeSet::new();
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            let next = follows[at].iter().enumerate();
            let next = next.filter(|(to, often)| **often > 0.0 && reached.insert(*to));
            open.extend(next.map(|(to, _)| to));
        }
        reached
    };
    let reached: Vec<BTreeSet<usize>> = (0..pairs.len()).map(reached).collect();
    for (at, (pair, position)) in pairs.iter().enumerate() {
        let back = reached[at].iter().filter(|to| reached[**to].contains(&at));
        let cycle: Vec<usize> = back.copied().collect();
        if cycle.contains(&at) && growth(&follows, &cycle) > 1.0 - 1e-6 {
            let path = fields.path_of("correlated_failures");
            let trigger = match pair.trigger_xid {
                Some(code) => format!("XID {code}"),
                None => pair.trigger.word().to_owned(),
            };
            fields.log().error(
                *position,
                format!(
                    "{path}: {trigger} brings itself along for ever: lower a probability in the cycle"
                ),
            );
        }
    }
}

/// How many times as many failures each generation has as the one before, among pairs that all
/// follow from each other.
fn growth(follows: &[Vec<f64>], cycle: &[usize]) -> f64 {
    const GENERATIONS: u32 = 500;
    let mut shares = vec![1.0 / cycle.len() as f64; cycle.len()];
    let mut grown = 0.0;
    for _ in 0..GENERATIONS {
        // Half of each generation stays, so that the shares settle.
        let mut next: Vec<f64> = shares.iter().map(|share| share / 2.0).collect();
        for (from, share) in cycle.iter().zip(&shares) {
            for (to, sum) in cycle.iter().zip(&mut next) {
                *sum += share * follows[*from][*to] / 2.0;
            }
        }
        let all: f64 = next.iter().sum();
        grown = 2.0 * all - 1.0;
        shares = next.iter().map(|share| share / all).collect();
    }
    grown
}

fn recovery(fields: &Fields<'_>, given: bool) -> Option<Recovery> {
    let enabled = fields.flag("enabled").unwrap_or(true) && given;
    let mean_time = fields
        .longer_than_zero("mean_time", YEAR)
        .unwrap_or(Duration::from_secs(300));
    let recovery = Recovery {
        probability: fields.share("probability").unwrap_or(1.0),
        mean_time,
        std_dev: fields
            .duration("std_dev", Duration::ZERO..=YEAR)
            .unwrap_or(mean_time / 4),
        replace_fatal: fields.flag("replace_fatal").unwrap_or(false),
        replace_cold_start: fields.duration("replace_cold_start", Duration::ZERO..=YEAR),
    };
    enabled.then_some(recovery)
}

fn outages(fields: &Fields<'_>, known: &Known<'_>, run: Duration) -> Vec<Outage> {
    let sections = fields.list("scheduled_outages");
    let outages = sections.iter().map(|entry| {
        let start_time = entry
            .duration("start_time", Duration::ZERO..=YEAR)
            .unwrap_or_default();
        require(entry, "duration", "say how long it lasts");
        let duration = entry.longer_than_zero("duration", YEAR);
        if start_time >= run {
            let (start, end) = (compact(start_time), compact(run));
            entry.fail(
                "start_time",
                format!("{start} is outside the run, which ends at {end}: make the run longer or begin earlier"),
            );
        } else if let Some(lasts) = duration
            && start_time + lasts > run
        {
            let path = entry.path_of("duration");
            entry.log().warn(
                entry.at("duration"),
                format!("{path}: the run ends at {} and the outage with it", compact(run)),
            );
        }
        require(entry, "scope", "say what target names");
        let target = entry.text("target");
        let scope = entry.word("scope", &DomainScope::WORDS);
        let domain = scope.and_then(|scope| {
            known.domain(entry, "target", target.as_deref(), scope)
        });
        Outage {
            name: entry.text("name").unwrap_or_else(|| "outage".to_owned()),
            start_time,
            duration: duration.unwrap_or_default(),
            kind: outage_kind(entry),
            domain: domain.unwrap_or(Domain::Fraction(0.0)),
        }
    });
    outages.collect()
}

/// How the nodes of an outage fail.
pub(super) fn outage_kind(fields: &Fields<'_>) -> FailureKind {
    failure_kind(fields, "failure_type").unwrap_or(FailureKind::Network)
}

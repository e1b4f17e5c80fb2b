//! Reading of the simulated cloud.

use std::time::Duration;

use navarch_model::Price;

use super::cold_start;
use super::known::Known;
use crate::fields::{Fields, plain_count};
use crate::scenario::{Cloud, ColdStart, Traits};

/// The longest way of a call: the control plane gives up after half a minute.
const LONGEST_WAY: Duration = Duration::from_secs(60);

pub(super) fn cloud(fields: &Fields<'_>, known: &Known<'_>) -> Cloud {
    let capacity = fields.by_name("capacity", |scalar| {
        plain_count(&scalar.text).ok_or_else(|| "a whole number such as 12".to_owned())
    });
    let prices = fields.by_name("prices", |scalar| {
        let price = scalar.text.parse::<Price>();
        price.map_err(|error| format!("a price: {error}"))
    });
    let capacities = capacity
        .iter()
        .map(|(name, _, at)| ("capacity", *name, *at));
    let priced = prices.iter().map(|(name, _, at)| ("prices", *name, *at));
    for (key, name, at) in capacities.chain(priced) {
        if let Err(problem) = known.check_place(name) {
            let path = fields.path_of(key);
            fields.log().error(at, format!("{path}: {problem}"));
        }
    }
    let usual = traits(fields, &Traits::default());
    let mut own = std::collections::BTreeMap::new();
    for (name, section) in fields.named("providers") {
        if let Err(problem) = known.check_place(name) {
            let path = fields.path_of("providers");
            let message = format!("{path}: {problem}");
            fields.log().error(section.start(), message);
        }
        own.insert(name.to_owned(), traits(&section, &usual));
    }
    Cloud {
        usual,
        providers: own,
        capacity: capacity
            .into_iter()
            .map(|(name, count, _)| (name.to_owned(), count))
            .collect(),
        prices: prices
            .into_iter()
            .map(|(name, price, _)| (name.to_owned(), price.micros() as f64 / 1_000_000.0))
            .collect(),
    }
}

/// What a provider is like, and otherwise like others.
fn traits(fields: &Fields<'_>, others: &Traits) -> Traits {
    let boot = cold_start(&fields.section("boot"), ["min", "max", "mean", "stddev"]);
    Traits {
        boot: if boot == ColdStart::default() {
            others.boot
        } else {
            boot
        },
        never_boots: fields.share("never_boots").unwrap_or(others.never_boots),
        latency: latency(&fields.section("latency"), others.latency),
    }
}

/// The shortest and the longest way of a call. One of them alone takes the other along.
fn latency(fields: &Fields<'_>, usual: (Duration, Duration)) -> (Duration, Duration) {
    let way = |key| fields.duration(key, Duration::ZERO..=LONGEST_WAY);
    let (min, max) = (way("min"), way("max"));
    if let (Some(shortest), Some(longest)) = (min, max)
        && shortest > longest
    {
        fields.fail("min", "longer than max: exchange them");
    }
    match (min, max) {
        (Some(min), None) => (min, usual.1.max(min)),
        (None, Some(max)) => (usual.0.min(max), max),
        (min, max) => (min.unwrap_or(usual.0), max.unwrap_or(usual.1)),
    }
}

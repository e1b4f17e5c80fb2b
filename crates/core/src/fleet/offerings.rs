//! What is remembered of offerings: refusals, and what clouds list.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use navarch_model::{
    IdSource, Instance, Offer, Offering, Pool, PoolName, ProviderError, ProviderName, Subject, Time,
};
use navarch_policy::placement::Listed;

use super::Fleet;
use crate::settings::{Settings, doubled};

/// A list is believed for so many times the age at which it is asked for again: its cloud may be
/// away for a while.
const BELIEVED_TIMES: u32 = 3;
/// The wait after the first failure to list prices; it doubles up to the age at which lists are
/// asked for again.
const FIRST_WAIT: Duration = Duration::from_secs(30);

/// The price list of a provider, as far as the settings name its offerings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prices {
    /// The list; none if the cloud has none.
    offers: Option<Vec<Offer>>,
    /// When it came; none before the first.
    pub at: Option<Time>,
    /// Until when the answer of a question under way is waited for.
    pub asking: Option<Time>,
    /// Questions in a row that failed.
    failures: u32,
    /// Before this moment it is not asked for again.
    retry_at: Option<Time>,
}

impl Prices {
    /// When it is to be asked for.
    pub(crate) fn due(&self, max_age: Duration) -> Time {
        let old = self.at.map(|at| at + max_age);
        [old, self.asking, self.retry_at]
            .into_iter()
            .flatten()
            .max()
            .unwrap_or(Time(0))
    }

    /// Until when it is believed; none before it came.
    pub(crate) fn believed_until(&self, max_age: Duration) -> Option<Time> {
        self.at.map(|at| at + max_age * BELIEVED_TIMES)
    }

    /// Whether it is to be asked for, or was, and its answer may come any moment.
    pub(crate) fn is_awaited(&self, max_age: Duration, now: Time) -> bool {
        let old = self.at.is_none_or(|at| now >= at + max_age);
        let asked = self.asking.is_none_or(|until| now < until);
        old && self.failures == 0 && asked
    }

    /// What it says of an offering.
    pub(crate) fn listed(&self, offering: &Offering, max_age: Duration, now: Time) -> Listed {
        if self
            .believed_until(max_age)
            .is_none_or(|until| now >= until)
        {
            return Listed::Unknown;
        }
        let Some(offers) = &self.offers else {
            return Listed::NoList;
        };
        // Sorted by region first.
        let first = offers.partition_point(|offer| offer.region < offering.region);
        let region = offers[first..].iter();
        let region = region.take_while(|offer| offer.region == offering.region);
        let here = region.filter(|offer| is_for(offer, offering));
        let exact = here.clone().find(|offer| offer.zone == offering.zone);
        if let Some(offer) = exact.or_else(|| here.clone().find(|offer| offer.zone.is_empty())) {
            return Listed::Found {
                price: offer.price,
                available: offer.available,
            };
        }
        // The cloud chooses the zone: the dearest is what it may come to.
        let any: Vec<&Offer> = here.filter(|_| offering.zone.is_empty()).collect();
        if any.is_empty() {
            return Listed::Missing;
        }
        let priced = any.iter().all(|offer| offer.price.is_some());
        let dearest = any.iter().filter_map(|offer| offer.price).max();
        Listed::Found {
            price: dearest.filter(|_| priced),
            available: any.iter().filter_map(|offer| offer.available).max(),
        }
    }
}

fn is_for(offer: &Offer, offering: &Offering) -> bool {
    offer.region == offering.region
        && offer.instance_type == offering.instance_type
        && offer.capacity == offering.capacity
}

impl Fleet {
    /// A cloud refused a launch: what the refusal is about rests, longer each time.
    pub(super) fn offering_refused(
        &mut self,
        instance: &Instance,
        error: &ProviderError,
        ids: &mut dyn IdSource,
    ) {
        let (first, longest) = (
            self.settings.guards.launch_breaker.wait,
            self.settings.guards.launch_breaker.max_wait,
        );
        let now = self.now.core;
        let name = instance.offering.to_string();
        let before = self.remembered(&instance.pool, &name);
        let (refused, rests) =
            before.map_or((0, None), |memory| (memory.refusals, memory.retry_at));
        // Calls that were under way together are refused together: they are one refusal.
        let again = rests.is_some_and(|at| now < at);
        let bits = ids.next_bits();
        let wait = doubled(first, refused, longest);
        // Full jitter over the upper half, so that pools do not ask in step.
        let half = wait / 2;
        let jitter = half.mul_f64((bits >> 11) as f64 / (1_u64 << 53) as f64);
        let asked = error.retry_after.unwrap_or_default();
        let until = if again {
            rests.unwrap_or(now).max(now + asked)
        } else {
            now + asked.max(half + jitter)
        };
        let refusals = refused.saturating_add(u32::from(!again));
        for (pool, offerings) in self.concerned(instance, error.kind) {
            self.change_offerings(&pool, &offerings, |memory| {
                memory.refusals = memory.refusals.max(refusals);
                memory.retry_at = memory.retry_at.max(Some(until));
                memory.last_refusal = error.to_string();
                memory.refused = Some(error.kind);
            });
        }
        if !again {
            self.cancel_launches();
        }
    }

    /// A cloud made a machine: what a refusal of its offering was about is over.
    pub(super) fn offering_accepted(&mut self, instance: &Instance) {
        let name = instance.offering.to_string();
        let before = self.remembered(&instance.pool, &name);
        let Some(before) = before.filter(|one| one.refusals > 0 || one.retry_at.is_some()) else {
            return;
        };
        let refused = before.refused;
        let over = match refused {
            Some(kind) => self.concerned(instance, kind),
            None => [(
                instance.pool.clone(),
                BTreeSet::from([instance.offering.clone()]),
            )]
            .into(),
        };
        for (pool, offerings) in over {
            self.change_offerings(&pool, &offerings, |memory| {
                if memory.refused == refused {
                    memory.refusals = 0;
                    memory.retry_at = None;
                    memory.last_refusal.clear();
                    memory.refused = None;
                }
            });
        }
    }

    /// Forgets offerings that no settings name and nothing in memory was bought at.
    pub(super) fn forget_offerings(&mut self) {
        let kept = |pool: &PoolName, offering: &str| {
            let settings = self.settings.pools.get(pool);
            let mut named = settings.into_iter().flat_map(|pool| &pool.offerings);
            named.any(|one| &*one.name == offering)
                || self
                    .index
                    .bought(pool)
                    .any(|one| one.to_string() == offering)
        };
        let changed: Vec<_> = self
            .state
            .pools
            .iter()
            .filter(|(name, pool)| pool.offerings.keys().any(|one| !kept(name, one)))
            .map(|(name, pool)| {
                let mut pool = Pool::clone(pool);
                pool.offerings.retain(|offering, _| kept(name, offering));
                pool
            })
            .collect();
        for pool in changed {
            self.put_pool(pool);
        }
    }

    /// A provider is asked for its price list.
    pub(super) fn ask_prices(&mut self, provider: &ProviderName) {
        let until = self.now.core + self.settings.launch_patience(provider);
        let soft = self.providers.entry(provider.clone()).or_default();
        soft.prices.asking = Some(until);
        self.look_at_buyers(provider);
    }

    /// Notes that the pools have to be looked at that buy by the price list of a provider.
    fn look_at_buyers(&mut self, provider: &ProviderName) {
        let settings = Arc::clone(&self.settings);
        for (name, pool) in &settings.pools {
            if pool.needs_listing() && pool.providers().contains(provider) {
                self.look_at(Some(name.clone()));
            }
        }
    }

    /// Drops the price lists of which more would have been kept: the settings name offerings that
    /// they did not name before.
    pub(super) fn forget_prices(&mut self, before: &Settings) {
        let settings = Arc::clone(&self.settings);
        for (provider, soft) in &mut self.providers {
            if !named(&settings, provider).is_subset(&named(before, provider)) {
                soft.prices = Prices::default();
            }
        }
    }

    /// A provider said what it sells, that it has no list, or nothing.
    pub(crate) fn prices_result(
        &mut self,
        provider: &ProviderName,
        result: Result<Option<Vec<Offer>>, ProviderError>,
    ) {
        let settings = Arc::clone(&self.settings);
        let named = named(&settings, provider);
        let result = result.map(|offers| {
            offers.map(|offers| {
                let wanted = |offer: &Offer| named.iter().any(|one| is_for(offer, one));
                let mut offers: Vec<Offer> = offers.into_iter().filter(wanted).collect();
                offers.sort_by(|one, other| key(one).cmp(&key(other)));
                offers.dedup_by(|one, other| key(one) == key(other));
                offers
            })
        });
        let (now, max_age) = (self.now.core, self.settings.guards.price_max_age);
        let soft = self.providers.entry(provider.clone()).or_default();
        let prices = &mut soft.prices;
        prices.asking = None;
        match result {
            Ok(offers) => {
                *prices = Prices {
                    offers,
                    at: Some(now),
                    ..Prices::default()
                };
            }
            Err(error) => {
                let wait = doubled(FIRST_WAIT, prices.failures, max_age);
                let wait = error.retry_after.map_or(wait, |asked| asked.max(wait));
                prices.retry_at = Some(now + wait);
                prices.failures = prices.failures.saturating_add(1);
                let failures = prices.failures;
                if failures.is_power_of_two() {
                    let message = format!("prices of {provider}: {error} ({failures} in a row)");
                    let subject = Subject::default();
                    self.call_failed(subject, message, "prices", provider, None, &error);
                }
            }
        }
        self.look_at_buyers(provider);
    }
}

/// The offerings of a provider that settings name.
fn named<'a>(settings: &'a Settings, provider: &ProviderName) -> BTreeSet<&'a Offering> {
    let pools = settings.pools.values();
    pools
        .flat_map(|pool| &pool.offerings)
        .map(|one| &*one.offering)
        .filter(|offering| offering.provider == *provider)
        .collect()
}

fn key(offer: &Offer) -> (&str, &str, &str, navarch_model::CapacityKind) {
    (
        &offer.region,
        &offer.zone,
        &offer.instance_type,
        offer.capacity,
    )
}

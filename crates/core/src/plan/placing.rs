//! Where is the next machine of a pool bought, and why not elsewhere?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_model::{
    Instance, Offering, OfferingMemory, Phase, PoolName, ProviderErrorKind, ProviderName, Time,
};
use navarch_policy::guards::{self, Block};
use navarch_policy::placement::{self, Candidate, Listed, Ranking, Standing, Turns};

use super::Planner;
use crate::fleet::{Fleet, Tally};
use crate::input::Action;
use crate::settings::{OfferingSettings, PoolSettings};

/// Offerings that a reason names before it only counts the rest.
const NAMED: usize = 3;

/// Why an intent is placed anew.
pub(super) struct Moved {
    /// The reason, in words.
    pub why: String,
    /// When its own offering is worth asking again, in fleet time: it does not move any more then.
    /// None means when a fact changes.
    pub until: Option<Time>,
}

/// What a plan found at one offering of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferingReport {
    /// The offering.
    pub offering: Arc<Offering>,
    /// The priority of its provider in the pool.
    pub priority: i32,
    /// The weight of its provider in the pool.
    pub weight: u32,
    /// Machines that the pool has or will have at it and that stay.
    pub machines: usize,
    /// What its cloud's list says; [`Listed::Unknown`] where nobody asked.
    pub listed: Listed,
    /// When the list came, in fleet time.
    pub listed_at: Option<Time>,
    /// The most that a machine may cost.
    pub max_price: Option<navarch_model::Price>,
    /// Refusals in a row.
    pub refusals: u32,
    /// Whether it is asked next, or why not.
    pub standing: Standing,
}

impl Planner<'_> {
    /// Asks for the price lists that a pool needs and that are too old.
    pub(super) fn prices(&mut self, pool: &PoolName) {
        let fleet = self.fleet;
        let Some(settings) = fleet.pool_settings(pool) else {
            return;
        };
        if !settings.needs_listing() {
            return;
        }
        let asked = fleet.index.tally(Some(pool));
        let wants = self.priced
            || asked.requested + asked.launching > 0
            || fleet.staying(pool) < fleet.target(pool);
        let max_age = fleet.settings.guards.price_max_age;
        for provider in settings.providers() {
            // What the list opens or closes may be another then.
            let soft = fleet.providers.get(provider);
            if let Some(until) = soft.and_then(|soft| soft.prices.believed_until(max_age)) {
                self.wake(until);
            }
            // From then on a repair waits for a new one.
            let due = fleet.prices_due(provider);
            if due > self.now.core {
                self.wake(due);
            } else if wants && self.asked_prices.insert(provider.clone()) {
                self.actions.push(Action::Prices {
                    provider: provider.clone(),
                });
            }
        }
    }

    /// Reports where each offering of a pool stands.
    pub(super) fn offerings(&mut self, pool: &PoolName) {
        let fleet = self.fleet;
        let Some(settings) = fleet.pool_settings(pool) else {
            return;
        };
        let (candidates, ranking) = fleet.ranking(pool, settings, self.now.core);
        // What is closed until a moment is shown as open from then on.
        for block in ranking.standings.iter().filter_map(Standing::block) {
            self.wake(block.until.unwrap_or(Time::NEVER));
        }
        let offerings = settings
            .offerings
            .iter()
            .zip(candidates)
            .zip(ranking.standings)
            .map(|((one, candidate), standing)| OfferingReport {
                offering: Arc::clone(&one.offering),
                priority: one.priority,
                weight: one.weight,
                machines: candidate.machines,
                listed: fleet.listed(&one.offering, self.now.core),
                listed_at: fleet.listed_at(&one.offering.provider),
                max_price: one.max_price,
                refusals: fleet
                    .remembered(pool, &one.name)
                    .map_or(0, |memory| memory.refusals),
                standing,
            })
            .collect();
        if let Some(report) = self.report.pools.get_mut(pool) {
            report.strategy = settings.config.placement.strategy;
            report.offerings = offerings;
        }
    }
}

impl Fleet {
    /// Orders the offerings of a pool.
    fn ranking(
        &self,
        pool: &PoolName,
        settings: &PoolSettings,
        now: Time,
    ) -> (Vec<Candidate>, Ranking) {
        let judge = |one: &OfferingSettings, here| self.may_buy(pool, one, here, 0, now).err();
        let candidates = self.candidates(pool, settings, judge, now);
        let strategy = settings.config.placement.strategy;
        let ranking = placement::rank(strategy, &candidates, |place| {
            settings.offerings[place].name.to_string()
        });
        (candidates, ranking)
    }

    /// The offerings of a pool as they are; `judge` says what stops each.
    fn candidates(
        &self,
        pool: &PoolName,
        settings: &PoolSettings,
        judge: impl Fn(&OfferingSettings, Tally) -> Option<Block>,
        now: Time,
    ) -> Vec<Candidate> {
        let listed = settings.needs_listing();
        let offerings = settings.offerings.iter();
        let tally_at = self.index.tally_at(pool);
        let candidate = |one: &OfferingSettings| {
            let here = tally_at(&one.offering);
            Candidate {
                group: one.group,
                priority: one.priority,
                weight: one.weight,
                machines: here.staying,
                listed: if listed {
                    self.listed(&one.offering, now)
                } else {
                    Listed::NoList
                },
                max_price: one.max_price,
                block: judge(one, here),
            }
        };
        offerings.map(candidate).collect()
    }

    /// Where the next machine of a pool is bought: a place among its offerings.
    pub(super) fn place(
        &self,
        pool: &PoolName,
        settings: &PoolSettings,
        now: Time,
    ) -> Result<usize, Block> {
        let mut turns = self.turns(pool, settings, now)?;
        self.turn(&mut turns, pool, settings, &[], now)
    }

    /// The offerings of a pool for machines that are bought one after the other.
    pub(super) fn turns(
        &self,
        pool: &PoolName,
        settings: &PoolSettings,
        now: Time,
    ) -> Result<Turns, Block> {
        self.prices_came(settings, now)?;
        let strategy = settings.config.placement.strategy;
        // Each is judged when its turn comes.
        let candidates = self.candidates(pool, settings, |_, _| None, now);
        Ok(Turns::new(strategy, candidates))
    }

    /// Whose turn it is, with so many machines already planned at each offering.
    pub(super) fn turn(
        &self,
        turns: &mut Turns,
        pool: &PoolName,
        settings: &PoolSettings,
        planned: &[usize],
        now: Time,
    ) -> Result<usize, Block> {
        let name = |place: usize| settings.offerings[place].name.to_string();
        let judge = |place: usize| {
            let planned = planned.get(place).copied().unwrap_or(0);
            let one = &settings.offerings[place];
            let here = self.index.tally_at(pool)(&one.offering);
            self.may_buy(pool, one, here, planned, now).err()
        };
        let next = turns.next(name, judge);
        next.ok_or_else(|| nowhere(&turns.closed()))
    }

    /// Whether an offering may be asked for now, with what the pool has at it and so many more
    /// planned.
    fn may_buy(
        &self,
        pool: &PoolName,
        one: &OfferingSettings,
        here: Tally,
        planned: usize,
        now: Time,
    ) -> Result<(), Block> {
        let offering = &one.offering;
        self.believable(offering)?;
        let empty = OfferingMemory::default();
        let memory = self.remembered(pool, &one.name).unwrap_or(&empty);
        if let Some(block) = rest(offering, &one.name, memory, now) {
            return Err(block);
        }
        let asking = here.requested + here.launching + planned;
        if let Some(block) = placement::one_at_a_time(&one.name, memory.refusals, asking) {
            return Err(block);
        }
        let limit = self.unproven_limit(memory);
        let unproven = if memory.breaker.is_open() {
            // Not those that a person holds.
            self.unproven(pool, &one.offering).count()
        } else {
            here.unproven
        };
        let outstanding = unproven + planned;
        match guards::launch_breaker(&one.name, &memory.breaker, limit, outstanding, now) {
            Some(block) => Err(block),
            None => Ok(()),
        }
    }

    /// Whether the offering of an intent on record may be asked for now.
    pub(super) fn may_ask(&self, instance: &Instance, now: Time) -> Result<(), Block> {
        let (pool, offering) = (&instance.pool, &instance.offering);
        let Some(one) = self.pool_settings(pool).and_then(|pool| pool.at(offering)) else {
            let reason = format!("pool {pool} does not buy at {offering} any more");
            return Err(Block::new("placement", "dropped", reason));
        };
        let name = &*one.name;
        self.believable(offering)?;
        if let Some(block) = self.too_dear(one, now) {
            return Err(block);
        }
        let empty = OfferingMemory::default();
        let memory = self.remembered(pool, name).unwrap_or(&empty);
        if let Some(block) = rest(offering, name, memory, now) {
            return Err(block);
        }
        let limit = self.unproven_limit(memory);
        if limit.is_none() && !memory.breaker.is_open() && memory.refusals == 0 {
            return Ok(());
        }
        // Intents without a call that is under way wait for each other in the order they were asked
        // for.
        let before = |other: &&Instance| {
            let idle = match other.phase {
                Phase::Requested => true,
                Phase::Launching => other.clean && self.call_under_way(&other.id, now).is_none(),
                _ => false,
            };
            let earlier = (other.created, &other.id) < (instance.created, &instance.id);
            other.id != instance.id && (!idle || earlier)
        };
        let asking = self
            .restless(pool)
            .filter(|other| {
                let unanswered = matches!(
                    other.phase,
                    Phase::Requested | Phase::Launching | Phase::OutcomeUnknown
                );
                unanswered && other.offering == *offering
            })
            .filter(before)
            .count();
        if let Some(block) = placement::one_at_a_time(name, memory.refusals, asking) {
            return Err(block);
        }
        let outstanding = self.unproven(pool, offering).filter(before).count();
        match guards::launch_breaker(name, &memory.breaker, limit, outstanding, now) {
            Some(block) => Err(block),
            None => Ok(()),
        }
    }

    /// Why an intent that no call made a machine of is placed anew: its offering is closed for
    /// longer, or dropped, and another one is open.
    /// `place` finds that one.
    pub(super) fn moves(
        &self,
        instance: &Instance,
        settings: &PoolSettings,
        place: impl FnOnce() -> Option<usize>,
        now: Time,
    ) -> Option<Moved> {
        if settings.offerings.len() == 1 && settings.at(&instance.offering).is_some() {
            return None;
        }
        let block = self.may_ask(instance, now).err()?;
        let until = block.until;
        if block.cause == "dropped" {
            let why = block.reason;
            return Some(Moved { why, until });
        }
        // These end soon, and whoever was placed here was let in behind others. What may have a
        // machine already is not left for another.
        if matches!(block.cause, "unproven" | "trying" | "unknown")
            || instance.doubted
            || self.unlisted.contains_key(&instance.id)
        {
            return None;
        }
        let other = settings.offerings.get(place()?)?;
        (*other.offering != instance.offering).then(|| {
            let why = format!("{}; {} is asked instead", block.reason, other.name);
            Moved { why, until }
        })
    }

    /// A replacement never starts while the pool could not buy its machine: some offering must be
    /// neither too dear, or of an unknown price where there is a limit, nor behind an open breaker.
    /// Old prices are asked for again first. Once the wait of a breaker is over, the
    /// replacement is the one launch that is tried, if no other machine is to be bought: the pool
    /// has its size without the repairs that are already `planned`.
    pub(crate) fn offering_is_open(
        &self,
        pool: &PoolName,
        settings: &PoolSettings,
        planned: usize,
        now: Time,
    ) -> Result<(), Block> {
        if settings.offerings.iter().any(|one| one.max_price.is_some()) {
            self.prices_came(settings, now)?;
        }
        let lacks = self.staying(pool) < self.target(pool) + planned;
        let mut first = None;
        for one in &settings.offerings {
            let memory = self.remembered(pool, &one.name);
            let breaker = memory.map(|memory| &memory.breaker);
            let block = if let Some(breaker) = breaker.filter(|breaker| breaker.is_open()) {
                let outstanding = self.unproven(pool, &one.offering).count();
                guards::launch_breaker(&one.name, breaker, None, outstanding, now).or_else(|| {
                    lacks.then(|| {
                        Block::new(
                            "launch_breaker",
                            "probing",
                            format!(
                                "open for {}: a machine that is missing is tried first",
                                one.name
                            ),
                        )
                    })
                })
            } else {
                self.too_dear(one, now)
            };
            match block {
                None => return Ok(()),
                Some(block) => first = first.or(Some(block)),
            }
        }
        first.map_or(Ok(()), Err)
    }

    fn too_dear(&self, one: &OfferingSettings, now: Time) -> Option<Block> {
        let most = one.max_price?;
        placement::too_dear(&one.name, self.listed(&one.offering, now), most)
    }

    /// What the list of its cloud says of an offering.
    pub(crate) fn listed(&self, offering: &Offering, now: Time) -> Listed {
        let Some(soft) = self.providers.get(&offering.provider) else {
            return Listed::Unknown;
        };
        soft.prices
            .listed(offering, self.settings.guards.price_max_age, now)
    }

    fn listed_at(&self, provider: &ProviderName) -> Option<Time> {
        self.providers.get(provider).and_then(|soft| soft.prices.at)
    }

    /// When a provider is to be asked for its price list.
    pub(crate) fn prices_due(&self, provider: &ProviderName) -> Time {
        let prices = self.providers.get(provider).map(|soft| &soft.prices);
        prices.map_or(Time(0), |prices| {
            prices.due(self.settings.guards.price_max_age)
        })
    }

    /// Nothing is bought by price or availability while the answer of a provider may come any
    /// moment, be it that there is no list: before the first, and once the last one is old.
    fn prices_came(&self, settings: &PoolSettings, now: Time) -> Result<(), Block> {
        if !settings.needs_listing() {
            return Ok(());
        }
        let max_age = self.settings.guards.price_max_age;
        let waits = settings.providers().into_iter().find(|provider| {
            let prices = self.providers.get(*provider).map(|soft| &soft.prices);
            prices.is_none_or(|prices| prices.is_awaited(max_age, now))
        });
        match waits {
            Some(provider) => Err(Block::new(
                "listing",
                "asked",
                format!("{provider} is asked for its prices"),
            )),
            None => Ok(()),
        }
    }

    /// The offerings whose memory a refusal concerns, by pool.
    pub(crate) fn concerned(
        &self,
        instance: &Instance,
        kind: ProviderErrorKind,
    ) -> BTreeMap<PoolName, BTreeSet<Offering>> {
        let asked = &instance.offering;
        let own = BTreeSet::from([asked.clone()]);
        let mut found = BTreeMap::from([(instance.pool.clone(), own)]);
        let scope = placement::scope(kind);
        if scope != placement::Scope::Offering {
            for (pool, settings) in &self.settings.pools {
                for one in &settings.offerings {
                    let other = &*one.offering;
                    let region = (&other.region, &other.instance_type, other.capacity)
                        == (&asked.region, &asked.instance_type, asked.capacity);
                    if other.provider == asked.provider
                        && (region || scope == placement::Scope::Provider)
                    {
                        let here = found.entry(pool.clone()).or_default();
                        here.insert(other.clone());
                    }
                }
            }
        }
        found
    }
}

/// Why an offering rests, in words that say what else does.
fn rest(offering: &Offering, name: &str, memory: &OfferingMemory, now: Time) -> Option<Block> {
    memory.retry_at.filter(|at| now < *at)?;
    let why = &memory.last_refusal;
    let words = match memory.refused {
        Some(ProviderErrorKind::Auth) => {
            format!("everything of {} rests: {why}", offering.provider)
        }
        Some(ProviderErrorKind::Quota) => {
            let place = if offering.region.is_empty() {
                offering.provider.to_string()
            } else {
                format!("{} of {}", offering.region, offering.provider)
            };
            format!("{} rests in {place}: {why}", offering.instance_type)
        }
        Some(ProviderErrorKind::Transient | ProviderErrorKind::RateLimit) => {
            format!("launches at {name} fail: {why}")
        }
        _ => format!("{name} refused the last launch: {why}"),
    };
    guards::offering_rest(&words, memory.retry_at, now)
}

/// Why no offering is asked: the reason of the only one, or what stops each of several.
fn nowhere(blocks: &[&Block]) -> Block {
    match *blocks {
        [] => Block::new("placement", "none", "the pool has no offerings"),
        [only] => only.clone(),
        _ => {
            let mut reasons: Vec<&str> = blocks
                .iter()
                .take(NAMED)
                .map(|block| block.reason.as_str())
                .collect();
            let more = format!("and {} more", blocks.len().saturating_sub(NAMED));
            if blocks.len() > NAMED {
                reasons.push(&more);
            }
            let count = blocks.len();
            let reason = format!("none of {count} offerings is open: {}", reasons.join("; "));
            let block = Block::new("placement", "closed", reason);
            match blocks.iter().filter_map(|block| block.until).min() {
                Some(until) => block.until(until),
                None => block,
            }
        }
    }
}

//! Placement: which offering the next machine of a pool is bought at, and why not at the others.
//!
//! A pool has candidates, in the order of its configuration, and a candidate has offerings: one for
//! each region and zone. [`rank`] looks at present facts alone. It keeps no counter and remembers no
//! attempt: what was refused rests for a while, which is a fact like any other, so that a total
//! stock-out is always tried again.

#[cfg(test)]
mod tests;
mod turns;

use std::cmp::Reverse;
use std::collections::BTreeMap;

pub use navarch_config::Strategy;
use navarch_model::{Price, ProviderErrorKind};

pub use turns::Turns;

use crate::guards::Block;

/// What the price list of a cloud says of an offering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Listed {
    /// The cloud has no list.
    #[default]
    NoList,
    /// Nobody knows: the list did not come, or is too old.
    Unknown,
    /// The cloud's list lacks it.
    Missing,
    /// The list has it.
    Found {
        /// What it costs, if the list says.
        price: Option<Price>,
        /// Whether machines are to be had, if the list says.
        available: Option<bool>,
    },
}

impl Listed {
    /// The price, if it is known.
    pub const fn price(self) -> Option<Price> {
        match self {
            Self::Found { price, .. } => price,
            Self::NoList | Self::Unknown | Self::Missing => None,
        }
    }

    /// The state in one word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::NoList => "no list",
            Self::Unknown => "unknown",
            Self::Missing => "not offered",
            Self::Found {
                available: Some(false),
                ..
            } => "sold out",
            Self::Found {
                available: Some(true),
                ..
            } => "available",
            Self::Found {
                available: None, ..
            } => "listed",
        }
    }
}

/// One offering of a pool with its present facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which of the pool's providers it belongs to, in the order of the configuration.
    pub group: usize,
    /// The priority of that provider: the lowest is asked first.
    pub priority: i32,
    /// The weight of that provider; 0 counts as 1.
    pub weight: u32,
    /// Machines that the pool has or will have at it and that stay.
    pub machines: usize,
    /// What its cloud's list says.
    pub listed: Listed,
    /// The most that a machine of it may cost.
    pub max_price: Option<Price>,
    /// What stops it besides: a breaker, a rest, a listing in doubt, a limit.
    pub block: Option<Block>,
}

/// Where an offering stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is asked as the first, second, ... of those that may be asked; from 1.
    Open(usize),
    /// It is not asked.
    Closed(Block),
}

impl Standing {
    /// Why it is not asked.
    pub const fn block(&self) -> Option<&Block> {
        match self {
            Self::Open(_) => None,
            Self::Closed(block) => Some(block),
        }
    }
}

/// What was decided of the offerings of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranking {
    /// Those that may be asked, in the order in which they are, by their place in what was given.
    pub order: Vec<usize>,
    /// Where each stands, in the order in which they were given.
    pub standings: Vec<Standing>,
}

impl Ranking {
    /// The one that is asked next.
    pub fn first(&self) -> Option<usize> {
        self.order.first().copied()
    }
}

/// Orders the offerings of a pool. `name` gives the text of each for messages.
pub fn rank(
    strategy: Strategy,
    candidates: &[Candidate],
    name: impl Fn(usize) -> String,
) -> Ranking {
    let blocks: Vec<Option<Block>> = candidates
        .iter()
        .enumerate()
        .map(|(place, one)| closed(strategy, one, || name(place), || one.block.clone()))
        .collect();
    let open = (0..candidates.len()).filter(|place| blocks[*place].is_none());
    let order = sorted(strategy, candidates, open.collect());
    let mut standings: Vec<Standing> = blocks
        .into_iter()
        .map(|block| block.map_or(Standing::Open(0), Standing::Closed))
        .collect();
    for (rank, place) in order.iter().enumerate() {
        standings[*place] = Standing::Open(rank + 1);
    }
    Ranking { order, standings }
}

/// Some of the candidates in the order in which they are asked.
fn sorted(strategy: Strategy, candidates: &[Candidate], mut places: Vec<usize>) -> Vec<usize> {
    match strategy {
        Strategy::Priority => places.sort_by_key(|place| (candidates[*place].priority, *place)),
        Strategy::Cost => places.sort_by_key(|place| {
            let one = &candidates[*place];
            let price = one.listed.price();
            (price.is_none(), price, one.priority, *place)
        }),
        Strategy::Availability => places.sort_by_key(|place| {
            let one = &candidates[*place];
            (one.listed == Listed::Unknown, one.priority, *place)
        }),
        Strategy::RoundRobin => {
            let groups = machines_by_group(candidates);
            places.sort_by_cached_key(|place| {
                let one = &candidates[*place];
                (Share::of(&groups, one), one.machines, *place)
            });
        }
    }
    places
}

/// Machines by the provider that they are bought at.
fn machines_by_group(candidates: &[Candidate]) -> BTreeMap<usize, u128> {
    let mut groups = BTreeMap::new();
    for one in candidates {
        *groups.entry(one.group).or_default() += one.machines as u128;
    }
    groups
}

/// How full the share of a candidate would be with one more machine: machines by weight, compared
/// exactly.
#[derive(Debug, Clone, Copy)]
struct Share {
    machines: u128,
    weight: u128,
    /// Of equal shares the heavier candidate is asked first.
    heavy: Reverse<u32>,
    group: usize,
}

impl Share {
    fn of(groups: &BTreeMap<usize, u128>, one: &Candidate) -> Self {
        let weight = one.weight.max(1);
        Self {
            machines: groups.get(&one.group).copied().unwrap_or_default() + 1,
            weight: u128::from(weight),
            heavy: Reverse(weight),
            group: one.group,
        }
    }
}

impl Ord for Share {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.machines * other.weight)
            .cmp(&(other.machines * self.weight))
            .then_with(|| (self.heavy, self.group).cmp(&(other.heavy, other.group)))
    }
}

impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Share {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Share {}

/// Why an offering is not asked. `besides` says what stops it beside its price and its list.
fn closed(
    strategy: Strategy,
    one: &Candidate,
    name: impl Fn() -> String,
    besides: impl FnOnce() -> Option<Block>,
) -> Option<Block> {
    let listed = one.listed;
    one.max_price
        .and_then(|most| too_dear(&name(), listed, most))
        .or_else(|| gone(strategy, listed, &name))
        .or_else(besides)
}

/// Why an offering is not bought with a limit on its price.
pub fn too_dear(offering: &str, listed: Listed, most: Price) -> Option<Block> {
    let (cause, reason) = match listed.price() {
        Some(price) if price <= most => return None,
        Some(price) => (
            "over",
            format!("{offering} costs {price}; max_price is {most}"),
        ),
        None => (
            "unknown",
            format!("the price of {offering} is not known, and max_price is {most}"),
        ),
    };
    Some(Block::new("max_price", cause, reason))
}

/// Why an offering that its cloud's list shows as gone is not asked. A list that nobody asked for
/// decides nothing.
fn gone(strategy: Strategy, listed: Listed, name: impl Fn() -> String) -> Option<Block> {
    if !strategy.needs_listing() {
        return None;
    }
    match listed {
        Listed::Missing => Some(Block::new(
            "listing",
            "missing",
            format!("the cloud does not list {}", name()),
        )),
        Listed::Found {
            available: Some(false),
            ..
        } => Some(Block::new(
            "listing",
            "sold_out",
            format!("the cloud lists {} as sold out", name()),
        )),
        _ => None,
    }
}

/// What of a provider a refusal is about, and so what rests after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The offering that was asked for.
    Offering,
    /// The type at the provider's region, in every zone: quotas are counted so.
    Region,
    /// Everything of the provider.
    Provider,
}

/// What a refusal is about.
pub const fn scope(kind: ProviderErrorKind) -> Scope {
    match kind {
        ProviderErrorKind::Auth => Scope::Provider,
        ProviderErrorKind::Quota => Scope::Region,
        ProviderErrorKind::Capacity
        | ProviderErrorKind::Configuration
        | ProviderErrorKind::RateLimit
        | ProviderErrorKind::Transient
        | ProviderErrorKind::NotFound
        | ProviderErrorKind::OutcomeUnknown => Scope::Offering,
    }
}

/// Launch calls that may be under way in a pool at a time: `under_way` of `limit`.
pub fn parallel_launches(under_way: usize, limit: Option<u32>) -> Option<Block> {
    let limit = limit.filter(|limit| under_way >= *limit as usize)?;
    Some(Block::new(
        "parallel_launches",
        "full",
        format!("{under_way} launches are under way; the limit is {limit}"),
    ))
}

/// After a refusal one launch is tried, and more only once it is accepted.
pub fn one_at_a_time(offering: &str, refusals: u32, asking: usize) -> Option<Block> {
    (refusals > 0 && asking > 0).then(|| {
        Block::new(
            "offering_rest",
            "trying",
            format!("{offering} refused the last launch: one is tried at a time"),
        )
    })
}

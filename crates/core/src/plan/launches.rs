//! May a machine be bought? Asked once when planning, again when acting.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::time::Duration;

use navarch_model::{
    EndCause, Idempotency, Instance, InstanceId, Node, Offering, OfferingMemory, Phase, PoolName,
    ProviderName, Stamp, Time,
};
use navarch_policy::guards::{self, Block};
use navarch_policy::placement::{self, Turns};

use crate::fleet::{Fleet, PROOF_LISTINGS};
use crate::settings::PoolSettings;

const HOUR: Duration = Duration::from_secs(3600);

impl Fleet {
    /// Whether one more machine may be asked for. Answers at which offering of its pool it is.
    pub(crate) fn may_request(&self, pool: &PoolName, now: Time) -> Result<usize, Block> {
        self.buying(pool, self.known_pool(pool)?, now).next()
    }

    /// Whether one more machine may be asked for, wherever it is bought, with so many more already
    /// planned. `recent` are the launches of the last hour, and the first of them.
    fn may_grow(
        &self,
        pool: &PoolName,
        settings: &PoolSettings,
        planned: usize,
        recent: impl FnOnce() -> (usize, Option<Time>),
    ) -> Result<(), Block> {
        let target = self.target(pool);
        if self.staying(pool) + planned >= target {
            return Err(Block::new("size", "reached", has_enough(target)));
        }
        let alive = self.alive(pool) + planned;
        if let Some(block) = guards::size(alive, settings.max_nodes(), settings.max_surge()) {
            return Err(block);
        }
        let limit = settings.config.max_launches_per_hour as usize;
        // No more can be recent than there are.
        if self.index.size(pool) + planned >= limit {
            let (recent, first) = recent();
            if let Some(block) = guards::launch_rate(recent + planned, limit, first) {
                return Err(block);
            }
        }
        self.has_room()?;
        let under_way = self.index.tally(Some(pool));
        // Nobody knows when the outcome of a lost answer is: others do not wait for it.
        let asking = under_way.requested + under_way.launching - under_way.unknown + planned;
        let limit = settings.config.placement.parallel_launches;
        match placement::parallel_launches(asking, limit) {
            Some(block) => Err(block),
            None => Ok(()),
        }
    }

    /// How many launches of a pool of the last hour count, and when the first of them was asked for.
    fn recent_launches(&self, pool: &PoolName, now: Time) -> (usize, Option<Time>) {
        let recent: Vec<Time> = self
            .pool_instances(pool)
            // What was refused, or never asked for, cost nothing.
            .filter(|instance| {
                let asked = instance.phase != Phase::Failed || instance.launches > 0;
                asked
                    && !matches!(
                        instance.end,
                        Some(EndCause::LaunchRefused | EndCause::Moved)
                    )
            })
            // What served for a while until its cloud takes it back is no sign of a loop, and the
            // limit would keep a pool from its size that lost many machines at once.
            .filter(|instance| {
                let life = self.settings.guards.minimum_life;
                let taken = instance.interruption.filter(|_| instance.was_active);
                taken.is_none_or(|taken| taken.seen.core.since(instance.created.core) < life)
            })
            .map(|instance| instance.created.core)
            .filter(|created| now.since(*created) < HOUR)
            .collect();
        (recent.len(), recent.iter().min().copied())
    }

    /// Begins to ask for machines of a pool, one after the other.
    pub(super) fn buying<'a>(
        &'a self,
        pool: &'a PoolName,
        settings: &'a PoolSettings,
        now: Time,
    ) -> Buying<'a> {
        Buying {
            fleet: self,
            pool,
            settings,
            now,
            planned: vec![0; settings.offerings.len()],
            total: 0,
            recent: OnceCell::new(),
            turns: None,
        }
    }

    /// Whether the store has room for the record of more machines.
    pub(super) fn has_room(&self) -> Result<(), Block> {
        guards::low_disk(self.disk_free, self.settings.min_free).map_or(Ok(()), Err)
    }

    /// Launches at a time while nothing is proven: those that failed count, so that no more are
    /// paid for than it takes to open the breaker.
    pub(super) fn unproven_limit(&self, memory: &OfferingMemory) -> Option<usize> {
        let limit = self.settings.guards.launch_breaker.unproven_launches;
        let left = limit.saturating_sub(memory.breaker.failures).max(1);
        (!memory.proven).then_some(left as usize)
    }

    /// Whether the launch call of an instance that is on record may be made.
    pub(crate) fn may_launch(&self, instance: &Instance, now: Time) -> Result<(), Block> {
        if let Some(why) = self.unwanted(instance, now) {
            return Err(Block::new("size", "unwanted", why));
        }
        self.may_call(instance, now)
    }

    /// The same for an instance that is wanted.
    pub(super) fn may_call(&self, instance: &Instance, now: Time) -> Result<(), Block> {
        self.must_be_on(&instance.pool)?;
        self.known_pool(&instance.pool)?;
        self.has_room()?;
        self.is_known_absent(instance)?;
        self.may_ask(instance, now)
    }

    /// Whether no call of another life of this record can have made the machine. A cloud that honours
    /// tokens makes no second one; elsewhere listings since the start have to lack it first.
    fn is_known_absent(&self, instance: &Instance) -> Result<(), Block> {
        let provider = &instance.offering.provider;
        let Some(listings) = self.unlisted.get(&instance.id) else {
            return Ok(());
        };
        if self.idempotency(provider) == Idempotency::TokenOrName {
            return Ok(());
        }
        Err(Block::new(
            "proof",
            "unlisted",
            format!(
                "an earlier call may have made the machine: it is bought only after \
                 {PROOF_LISTINGS} complete listings of {provider} since the start lack it and \
                 nothing else, and {listings} did; `navarch instance terminate {}` gives it up",
                instance.id
            ),
        ))
    }

    /// Whether an intent waits for a listing of a provider that does not honour tokens.
    pub(crate) fn has_unlisted(&self, provider: &ProviderName) -> bool {
        let here = |instance: &Instance| {
            instance.offering.provider == *provider
                && matches!(instance.phase, Phase::Requested | Phase::Launching)
        };
        self.idempotency(provider) == Idempotency::None
            && self
                .unlisted
                .keys()
                .filter_map(|id| self.state.instances.get(id))
                .any(|instance| here(instance))
    }

    /// Machines of an offering that a pool has or will have and that were never ACTIVE. While the
    /// breaker is open, one that an operator holds is no launch that is being tried: nobody but that
    /// person moves it on, and the pool must not wait for it.
    pub(super) fn unproven(
        &self,
        pool: &PoolName,
        offering: &Offering,
    ) -> impl Iterator<Item = &Instance> {
        let memory = self.remembered(pool, &offering.to_string());
        let open = memory.is_some_and(|memory| memory.breaker.is_open());
        let taken = move |instance: &Instance| {
            let node = self.node_of(instance);
            open && node.is_some_and(Node::is_held_by_operator)
        };
        // Whoever was ever ACTIVE is proven.
        self.restless(pool).filter(move |instance| {
            instance.offering == *offering
                && instance.phase.counts_as_capacity()
                && !instance.was_active
                && !taken(instance)
        })
    }

    /// Why nobody wants the machine of an intent any more, if no call is under way for it and none
    /// made a machine that is known of.
    pub(crate) fn unwanted(&self, instance: &Instance, now: Time) -> Option<String> {
        if !self.can_be_given_up(instance, now) {
            return None;
        }
        let pool = &instance.pool;
        let Some(settings) = self.pool_settings(pool) else {
            return Some(format!("pool {pool} is not configured any more"));
        };
        let excess = self.excess(pool, 0);
        if excess > 0 {
            let own = turn_to_go(instance);
            let before = self
                .restless(pool)
                .filter(|other| self.can_be_given_up(other, now) && turn_to_go(other) > own)
                .count();
            if before < excess {
                return Some(self.has_too_many(pool));
            }
        }
        let place = || self.place(pool, settings, now).ok();
        self.moves(instance, settings, place, now)
            .map(|moved| moved.why)
    }

    /// The intents of a pool that nobody wants any more, and why, as [`Fleet::unwanted`] says of
    /// each; and when this may be another answer though no fact changes: another offering may open
    /// for one that is still wanted, or its own for one that moves.
    pub(crate) fn unwanted_intents(
        &self,
        pool: &PoolName,
        now: Time,
    ) -> (BTreeMap<InstanceId, String>, Option<Time>) {
        let intents = self.restless(pool);
        let intents = intents.filter(|instance| self.can_be_given_up(instance, now));
        let mut intents: Vec<&Instance> = intents.collect();
        let mut unwanted = BTreeMap::new();
        let Some(settings) = self.pool_settings(pool) else {
            let why = format!("pool {pool} is not configured any more");
            unwanted.extend(intents.iter().map(|one| (one.id.clone(), why.clone())));
            return (unwanted, None);
        };
        if intents.is_empty() {
            return (unwanted, None);
        }
        intents.sort_unstable_by(|one, other| turn_to_go(other).cmp(&turn_to_go(one)));
        let excess = self.excess(pool, 0).min(intents.len());
        let (go, stay) = intents.split_at(excess);
        let why = self.has_too_many(pool);
        unwanted.extend(go.iter().map(|one| (one.id.clone(), why.clone())));
        let found = OnceCell::new();
        let place = || {
            let found = found.get_or_init(|| self.place(pool, settings, now));
            found.as_ref().ok().copied()
        };
        let mut back = None;
        for instance in stay {
            if let Some(moved) = self.moves(instance, settings, place, now) {
                back = back.into_iter().chain(moved.until).min();
                unwanted.insert(instance.id.clone(), moved.why);
            }
        }
        let nowhere = found.get().and_then(|found| found.as_ref().err());
        let opens = nowhere.and_then(|block| block.until);
        (unwanted, opens.into_iter().chain(back).min())
    }

    fn has_too_many(&self, pool: &PoolName) -> String {
        let (staying, target) = (self.staying(pool), self.target(pool));
        format!("the pool has or will have {staying} machines, and {target} are asked for")
    }

    /// How many machines more a pool has or will have than are asked for, `going` aside.
    pub(crate) fn excess(&self, pool: &PoolName, going: usize) -> usize {
        self.staying(pool)
            .saturating_sub(self.target(pool))
            .saturating_sub(going)
    }

    /// Whether a pool has or will have more machines than are asked for.
    pub(crate) fn has_excess(&self, pool: &PoolName) -> bool {
        self.pool_settings(pool).is_none() || self.excess(pool, 0) > 0
    }

    /// Whether an intent may be given up: the launch call was not made, or is to be repeated.
    pub(super) fn can_be_given_up(&self, instance: &Instance, now: Time) -> bool {
        match instance.phase {
            Phase::Requested => instance.node.is_none() && instance.sighting.is_none(),
            Phase::Launching => instance.clean && self.call_under_way(&instance.id, now).is_none(),
            _ => false,
        }
    }

    /// When an instance that is being launched has waited long enough.
    pub(crate) fn doubt_at(&self, instance: &Instance) -> Time {
        let patience = self.settings.instances.launch_timeout;
        let deadline = self.presence().due(instance.phase_since.core, patience);
        // A call under way may be a repeat: it has its own time.
        match self.calls.get(&instance.id) {
            Some(_) => deadline.max(instance.launch_deadline.unwrap_or(deadline)),
            None => deadline,
        }
    }
}

/// Machines of a pool that are asked for one after the other. What they have in common is found once,
/// and an offering is judged when its turn comes.
pub(super) struct Buying<'a> {
    fleet: &'a Fleet,
    pool: &'a PoolName,
    settings: &'a PoolSettings,
    now: Time,
    /// How many are planned at each offering.
    planned: Vec<usize>,
    total: usize,
    recent: OnceCell<(usize, Option<Time>)>,
    turns: Option<Turns>,
}

impl Buying<'_> {
    /// Whether one more machine may be asked for. Answers at which offering it is.
    pub(super) fn next(&mut self) -> Result<usize, Block> {
        let (fleet, pool, settings, now) = (self.fleet, self.pool, self.settings, self.now);
        let recent = || *self.recent.get_or_init(|| fleet.recent_launches(pool, now));
        fleet.may_grow(pool, settings, self.total, recent)?;
        let turns = match &mut self.turns {
            Some(turns) => turns,
            None => self.turns.insert(fleet.turns(pool, settings, now)?),
        };
        fleet.turn(turns, pool, settings, &self.planned, now)
    }

    /// One is planned at an offering.
    pub(super) fn take(&mut self, place: usize) {
        self.planned[place] += 1;
        self.total += 1;
        if let Some(turns) = &mut self.turns {
            turns.take(place);
        }
    }
}

/// The order in which intents are given up, the last first: the youngest go first, those that nobody
/// was asked for before all others.
fn turn_to_go(one: &Instance) -> (bool, Stamp, &InstanceId) {
    (one.phase == Phase::Requested, one.created, &one.id)
}

/// Why a pool neither gets nor loses a machine.
pub(crate) fn has_enough(target: usize) -> String {
    let (plural, are) = if target == 1 {
        ("", "is")
    } else {
        ("s", "are")
    };
    format!("the pool has the {target} machine{plural} that {are} asked for")
}

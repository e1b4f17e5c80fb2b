//! What breaks by itself: by rates, along with something else, domain by domain.

use std::collections::BTreeSet;
use std::time::Duration;

use navarch_config::scenario::{
    Chaos, Correlated, Domain, Failure, FailureKind, Outage, Place, Rate, Scope,
};
use navarch_model::ProviderInstanceId;

use crate::record::Cause;
use crate::run::failures::{can_end, may_recover};
use crate::run::{Domains, Happening, Story, Unbreakable};
use crate::world::{Event, Sim};

/// The shortest time until a failure ends by itself, as in the Go project.
const SHORTEST_RECOVERY: Duration = Duration::from_secs(10);
const DAY_SECONDS: f64 = 86_400.0;

/// Failures that come by themselves, independent of each other.
#[derive(Debug, Clone)]
pub(super) struct Process {
    /// Failures a second of one ordinary node.
    per_node: f64,
    /// What breaks; none for the mixture of the scenario.
    rate: Option<Rate>,
}

/// Where a failure stands among those that one brought along.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Branch {
    /// The first of them, as its place in the record; none for the first itself.
    root: Option<usize>,
    /// How many lie between.
    depth: u32,
    /// Whether a correlation brought it along, and no cascade.
    correlated: bool,
}

impl Branch {
    /// A failure that no other brought along.
    pub(super) const ROOT: Self = Self {
        root: None,
        depth: 0,
        correlated: false,
    };
}

/// What correlations bring along because of one failure: each kind on each machine once, so that
/// those that bring each other along end.
#[derive(Debug, Default)]
pub(super) struct Spread {
    hit: BTreeSet<(ProviderInstanceId, FailureKind)>,
    /// How many of them have yet to come.
    coming: u64,
}

/// An outage that lasts.
#[derive(Debug)]
pub(super) struct Lasting {
    /// Its place in the record.
    at: usize,
    outage: Outage,
    /// The machines of which it is known whether it hits them.
    asked: BTreeSet<ProviderInstanceId>,
    /// What it broke, as places in the record.
    broke: Vec<usize>,
}

/// The processes of a scenario.
pub(super) fn processes(chaos: &Chaos) -> Vec<Process> {
    let mixed = Process {
        per_node: chaos.failure_rate / 1000.0 / 60.0,
        rate: None,
    };
    let rates = chaos.rates.iter().map(|rate| Process {
        per_node: rate.per_1000_node_days / 1000.0 / DAY_SECONDS,
        rate: Some(rate.clone()),
    });
    let all = std::iter::once(mixed).chain(rates);
    all.filter(|process| process.per_node > 0.0).collect()
}

fn named(scope: Scope, place: &Place) -> &str {
    match scope {
        Scope::Provider => &place.provider,
        Scope::Region => &place.region,
        Scope::Zone => &place.zone,
        Scope::Rack => &place.rack,
        Scope::All => "",
    }
}

impl Story {
    /// The most that a node may fail more often than an ordinary one.
    fn most_often(&self) -> f64 {
        let Some(chaos) = &self.chaos else { return 1.0 };
        let lemons = chaos.lemons.map_or(1.0, |lemons| lemons.multiple.max(1.0));
        let infants = chaos
            .infant_mortality
            .map_or(1.0, |infants| infants.multiple.max(1.0));
        lemons * infants
    }
}

impl Sim {
    /// Chaos begins.
    pub(super) fn unleash(&mut self) {
        let now = self.now;
        let Some(story) = &mut self.story else { return };
        let Some(chaos) = story.chaos.clone().filter(|chaos| chaos.enabled) else {
            return;
        };
        story.processes = processes(&chaos);
        self.schedule_failures();
        for (place, outage) in chaos.outages.iter().enumerate() {
            let begins = now + outage.start_time;
            self.queue
                .push(begins, Event::Story(Happening::OutageBegins(place)));
        }
        if chaos.control_plane_crashes.is_some() {
            self.schedule_death();
        }
    }

    fn schedule_death(&mut self) {
        let Some(story) = &mut self.story else { return };
        let mean = story
            .chaos
            .as_ref()
            .and_then(|chaos| chaos.control_plane_crashes);
        let Some(mean) = mean else { return };
        let wait = story.arrivals.exponential(mean);
        self.queue
            .push(self.now + wait, Event::Story(Happening::PlaneDies));
    }

    /// The control plane dies in its next turn that changes something.
    pub(super) fn doom_plane(&mut self) {
        self.plane.doomed = true;
        self.schedule_death();
    }

    /// The next failure of each process, whatever was scheduled before.
    fn schedule_failures(&mut self) {
        let Some(story) = &mut self.story else { return };
        story.schedules += 1;
        for process in 0..story.processes.len() {
            self.schedule_failure(process);
        }
    }

    /// The next failure of a process, as if there were always the most nodes and each failed as
    /// often as any may: those that come too often or hit nobody are left out when they come.
    fn schedule_failure(&mut self, process: usize) {
        let Some(story) = &mut self.story else { return };
        let Some(rate) = story.processes.get(process).map(|process| process.per_node) else {
            return;
        };
        let all = rate * f64::from(story.most_nodes) * story.most_often();
        if all <= 0.0 {
            return;
        }
        let wait = story
            .arrivals
            .exponential(Duration::from_secs_f64((1.0 / all).min(1e9)));
        let fails = Happening::Fails(process, story.schedules);
        self.queue.push(self.now + wait, Event::Story(fails));
    }

    /// There may be more machines than was thought: failures come as often as that asks for. What
    /// comes at a constant rate has no memory, so that it may be drawn anew.
    pub(super) fn make_room(&mut self) {
        let Some(story) = &mut self.story else { return };
        let there = u32::try_from(story.roster.len()).unwrap_or(u32::MAX);
        if there > story.most_nodes {
            story.most_nodes = there.saturating_add(there / 4);
            self.schedule_failures();
        }
    }

    /// A failure of a process comes, unless another one was scheduled in its place.
    pub(super) fn fails(&mut self, process: usize, schedule: u64) {
        let scheduled = self.story.as_ref().map(|story| story.schedules);
        if scheduled != Some(schedule) {
            return;
        }
        self.schedule_failure(process);
        let now = self.now;
        let Some(story) = &mut self.story else { return };
        let Some(chaos) = &story.chaos else { return };
        let at = story.victims.below(u64::from(story.most_nodes)) as usize;
        let Some(id) = story.roster.get(at).map(|seat| seat.id.clone()) else {
            return;
        };
        // What does not run yet does not break: the rates are those of machines that run.
        let host = self.hosts.get(&id).filter(|host| host.has_booted());
        let Some(host) = host else {
            return;
        };
        let node = host.node();
        let spot = self.cloud.machines.get(&id).is_some_and(|one| one.spot);
        let mut often = 1.0;
        if let Some(lemons) = chaos.lemons
            && story
                .book
                .record
                .nodes
                .get(&node)
                .is_some_and(|node| node.lemon)
        {
            often *= lemons.multiple;
        }
        if let Some(infants) = chaos.infant_mortality {
            let powered = story.book.record.nodes.get(&node).map(|node| node.powered);
            if powered.is_some_and(|powered| now.since(powered) < infants.lasts) {
                often *= infants.multiple;
            }
        }
        if !story.victims.chance(often / story.most_often()) {
            return;
        }
        let gpus = host.spec.gpus;
        let rate = story
            .processes
            .get(process)
            .and_then(|process| process.rate.clone());
        let (kind, xid) = match &rate {
            Some(rate) => (rate.kind, rate.xid),
            None => {
                // The share of the interruptions goes to the other kinds where nobody interrupts.
                let mut mixture = chaos.failure_types.clone();
                mixture.retain(|(kind, _)| spot || *kind != FailureKind::SpotInterruption);
                let drawn = story.kinds.weighted(&mixture).copied();
                if drawn.is_none() && !chaos.failure_types.is_empty() {
                    return;
                }
                (drawn.unwrap_or(FailureKind::Xid), None)
            }
        };
        let gpu = story.kinds.below(u64::from(gpus.max(1))) as u32;
        let xid = xid.or_else(|| (kind == FailureKind::Xid).then(|| story.draw_xid()));
        let permanent = rate
            .as_ref()
            .is_some_and(|rate| story.kinds.chance(rate.permanent));
        let mean = rate
            .as_ref()
            .and_then(|rate| rate.mean_duration)
            .filter(|_| !permanent);
        let failure = Failure {
            kind,
            xid,
            gpu: Some(gpu),
            message: String::new(),
            lasts: mean.map(|mean| story.recoveries.exponential(mean)),
        };
        let settled = permanent || failure.lasts.is_some();
        let place = self.strike(&id, &failure, Cause::Chaos, Branch::ROOT, settled);
        if let (Ok(place), Some(story), true) = (place, &mut self.story, permanent) {
            story.book.permanent(place);
        }
    }

    /// Breaks something, with what that brings along. Answers its place in the record. `settled`
    /// says that it is known how it ends.
    ///
    /// # Errors
    ///
    /// Why there is nothing to break.
    pub(super) fn strike(
        &mut self,
        id: &ProviderInstanceId,
        failure: &Failure,
        cause: Cause,
        branch: Branch,
        settled: bool,
    ) -> Result<usize, Unbreakable> {
        // A machine that vanishes has no place any more.
        let seat = self.story.as_ref().and_then(|story| story.seat_of(id));
        let place = self.inject(id, failure, cause)?;
        let root = branch.root.or(Some(place));
        self.follow(place, id, seat, Branch { root, ..branch }, settled);
        Ok(place)
    }

    /// What a failure brings along.
    fn follow(
        &mut self,
        place: usize,
        id: &ProviderInstanceId,
        seat: Option<Domains>,
        branch: Branch,
        settled: bool,
    ) {
        let now = self.now;
        let Some(story) = &mut self.story else { return };
        let Some(chaos) = story.chaos.clone().filter(|chaos| chaos.enabled) else {
            return;
        };
        let Some(injection) = story.book.record.injections.get(place) else {
            return;
        };
        let (kind, xid) = (injection.kind, injection.xid);
        if let Some(recovery) = chaos.recovery
            && !settled
            && may_recover(kind, xid)
            && story.recoveries.chance(recovery.probability)
        {
            let wait = story
                .recoveries
                .normal(recovery.mean_time, recovery.std_dev);
            let ends = now + wait.max(SHORTEST_RECOVERY);
            self.queue.push(ends, Event::Story(Happening::Heal(place)));
        }
        // A trigger that is an XID is every failure that shows it.
        let triggers = |rule: &&Correlated| match rule.trigger_xid {
            Some(code) => xid == Some(code),
            None => rule.trigger == kind,
        };
        for rule in chaos.correlated.iter().filter(triggers) {
            self.respond(rule, (place, kind), id, seat, branch);
        }
        let Some(cascading) = chaos.cascading.filter(|one| branch.depth < one.max_depth) else {
            return;
        };
        let Some(story) = &mut self.story else { return };
        if !story.cascades.chance(cascading.probability) {
            return;
        }
        let mut near = story.near(id, seat, cascading.scope);
        let most = ((near.len() as f64 * cascading.max_affected) as u64).max(1);
        let affected = 1 + story.cascades.below(most);
        for _ in 0..affected {
            if near.is_empty() {
                return;
            }
            let victim = story.cascades.below(near.len() as u64) as usize;
            let victim = story.roster[near.swap_remove(victim)].id.clone();
            let wait = story
                .cascades
                .uniform(cascading.min_delay, cascading.max_delay);
            let falls = Happening::Falls {
                of: place,
                victim,
                kind: FailureKind::Xid,
                branch: Branch {
                    depth: branch.depth + 1,
                    correlated: false,
                    ..branch
                },
            };
            self.queue.push(now + wait, Event::Story(falls));
        }
    }

    fn respond(
        &mut self,
        rule: &Correlated,
        (place, kind): (usize, FailureKind),
        id: &ProviderInstanceId,
        seat: Option<Domains>,
        branch: Branch,
    ) {
        let Some(story) = &mut self.story else { return };
        if !story.cascades.chance(rule.probability) {
            return;
        }
        let mut hit = Vec::new();
        match rule.scope {
            None => hit.push(id.clone()),
            Some(scope) => {
                let mut near = story.near(id, seat, scope);
                let share = rule.affected.unwrap_or(0.0) * near.len() as f64;
                let many = (share.round() as usize).clamp(1, near.len().max(1));
                for _ in 0..many.min(near.len()) {
                    let at = story.cascades.below(near.len() as u64) as usize;
                    hit.push(story.roster[near.swap_remove(at)].id.clone());
                }
            }
        }
        let spread = story.spreads.entry(branch.root.unwrap_or(place));
        let spread = spread.or_default();
        spread.hit.insert((id.clone(), kind));
        for victim in hit {
            if !spread.hit.insert((victim.clone(), rule.response)) {
                continue;
            }
            spread.coming += 1;
            let falls = Happening::Falls {
                of: place,
                victim,
                kind: rule.response,
                branch: Branch {
                    depth: branch.depth + 1,
                    correlated: true,
                    ..branch
                },
            };
            self.queue.push(self.now + rule.delay, Event::Story(falls));
        }
        if spread.coming == 0 {
            story.spreads.remove(&branch.root.unwrap_or(place));
        }
    }

    /// A failure that another one caused comes.
    pub(super) fn falls(
        &mut self,
        of: usize,
        victim: &ProviderInstanceId,
        kind: FailureKind,
        branch: Branch,
    ) {
        let gpus = self.hosts.get(victim).map(|host| host.spec.gpus);
        if let (Some(gpus), Some(story)) = (gpus, &mut self.story) {
            let failure = Failure {
                kind,
                xid: (kind == FailureKind::Xid).then(|| story.draw_xid()),
                gpu: Some(story.kinds.below(u64::from(gpus.max(1))) as u32),
                message: String::new(),
                lasts: None,
            };
            // Whom it was to hit may be gone meanwhile.
            drop(self.strike(victim, &failure, Cause::Cascade(of), branch, false));
        }
        let (true, Some(story), Some(root)) = (branch.correlated, &mut self.story, branch.root)
        else {
            return;
        };
        if let Some(spread) = story.spreads.get_mut(&root) {
            spread.coming = spread.coming.saturating_sub(1);
            if spread.coming == 0 {
                story.spreads.remove(&root);
            }
        }
    }

    /// A domain fails, for as long as it says, with the machines that come there meanwhile.
    pub(super) fn black_out(&mut self, outage: &Outage) {
        let Some(story) = &mut self.story else { return };
        let at = story.book.outage_begins(&outage.name, self.now);
        story.outages.push(Lasting {
            at,
            outage: outage.clone(),
            asked: BTreeSet::new(),
            broke: Vec::new(),
        });
        let there: Vec<_> = story.roster.iter().map(|seat| seat.id.clone()).collect();
        // What has yet to boot comes while the outage lasts, or is spared.
        let booted = |id: &_| self.hosts.get(id).is_some_and(|host| host.has_booted());
        let there = there.into_iter().filter(booted);
        let there: Vec<_> = there.collect();
        for id in there {
            self.enters(&id);
        }
        let hit = self.story.as_ref().and_then(|story| {
            let outage = story.book.record.outages.get(at)?;
            Some(outage.nodes)
        });
        let hit = hit.unwrap_or_default();
        self.note(
            "fault",
            format_args!("outage {} of {hit} nodes", outage.name),
        );
        let ends = Event::Story(Happening::OutageEnds(at));
        self.queue.push(self.now + outage.duration, ends);
    }

    /// A machine is where domains may have failed: those that have hit it too, once.
    pub(crate) fn enters(&mut self, id: &ProviderInstanceId) {
        let Some(story) = &mut self.story else { return };
        let Some(host) = self.hosts.get(id) else {
            return;
        };
        let mut hit = Vec::new();
        for lasting in &mut story.outages {
            if !lasting.asked.insert(id.clone()) {
                continue;
            }
            let is_in = match &lasting.outage.domain {
                Domain::Named(scope, name) => named(*scope, &host.spec.place) == name,
                Domain::Fraction(part) => story.victims.chance(*part),
            };
            if is_in {
                hit.push((lasting.at, lasting.outage.kind, lasting.outage.name.clone()));
            }
        }
        for (at, kind, name) in hit {
            let failure = Failure {
                kind,
                xid: None,
                gpu: Some(0),
                message: String::new(),
                lasts: None,
            };
            let place = self.strike(id, &failure, Cause::Outage(name), Branch::ROOT, true);
            if let (Ok(place), Some(story)) = (place, &mut self.story) {
                story.book.outage_hits(at);
                let mut outages = story.outages.iter_mut();
                if let Some(lasting) = outages.find(|lasting| lasting.at == at) {
                    lasting.broke.push(place);
                }
            }
        }
    }

    /// A domain is well again.
    pub(super) fn light_up(&mut self, at: usize) {
        let now = self.now;
        let Some(story) = &mut self.story else { return };
        story.book.outage_ends(at, now);
        let Some(lasting) = story.outages.iter().position(|lasting| lasting.at == at) else {
            return;
        };
        for place in story.outages.remove(lasting).broke {
            let kind = self.story.as_ref().and_then(|story| {
                let injection = story.book.record.injections.get(place)?;
                Some(injection.kind)
            });
            if kind.is_some_and(can_end) {
                self.heal(place);
            }
        }
    }
}

impl Story {
    /// The other machines that share something with one, by their places in the roster.
    fn near(&self, id: &ProviderInstanceId, seat: Option<Domains>, scope: Scope) -> Vec<usize> {
        let Some(own) = seat else {
            return Vec::new();
        };
        let seats = self.roster.iter().enumerate();
        let near = seats.filter(|(_, seat)| {
            seat.domains[scope as usize] == own[scope as usize] && seat.id != *id
        });
        near.map(|(at, _)| at).collect()
    }

    /// One of the scenario's XIDs.
    fn draw_xid(&mut self) -> u32 {
        let chaos = self.chaos.as_ref();
        let weights = chaos.map_or(&[][..], |chaos| &chaos.xid_distribution);
        let drawn = self.kinds.weighted(weights).copied();
        drawn
            .or_else(|| self.kinds.pick(&FailureKind::XIDS).copied())
            .unwrap_or(79)
    }
}

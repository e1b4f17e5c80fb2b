//! What breaks by itself: by rates, along with something else, domain by domain.

use std::time::Duration;

use navarch_config::scenario::{
    Chaos, Correlated, Domain, Failure, FailureKind, Outage, Place, Rate, Scope,
};
use navarch_model::ProviderInstanceId;

use crate::record::Cause;
use crate::run::failures::{USUAL_XIDS, can_end, may_recover};
use crate::run::{Happening, Story};
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
        for process in 0..story.processes.len() {
            self.schedule_failure(process);
        }
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
        if let Some(story) = &mut self.story {
            story.book.record.crashes += 1;
        }
        self.schedule_death();
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
        self.queue
            .push(self.now + wait, Event::Story(Happening::Fails(process)));
    }

    /// A failure of a process comes.
    pub(super) fn fails(&mut self, process: usize) {
        self.schedule_failure(process);
        let now = self.now;
        let Some(story) = &mut self.story else { return };
        let Some(chaos) = &story.chaos else { return };
        let at = story.victims.below(u64::from(story.most_nodes)) as usize;
        let Some(id) = story.roster.get(at).map(|seat| seat.id.clone()) else {
            return;
        };
        let Some(host) = self.hosts.get(&id) else {
            return;
        };
        let node = host.node();
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
            None => (
                story
                    .kinds
                    .weighted(&chaos.failure_types)
                    .copied()
                    .unwrap_or(FailureKind::Xid),
                None,
            ),
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
        let lasts = failure.lasts.is_some();
        if let Some(place) = self.inject(&id, &failure, Cause::Chaos) {
            self.follow(place, &id, 0, permanent || lasts);
        }
    }

    /// What a failure brings along.
    pub(super) fn follow(
        &mut self,
        place: usize,
        id: &ProviderInstanceId,
        depth: u32,
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
        for rule in chaos.correlated.iter().filter(|rule| {
            rule.trigger == kind && rule.trigger_xid.is_none_or(|code| xid == Some(code))
        }) {
            self.respond(rule, place, id, depth);
        }
        let Some(cascading) = chaos.cascading.filter(|one| depth < one.max_depth) else {
            return;
        };
        let Some(story) = &mut self.story else { return };
        if !story.cascades.chance(cascading.probability) {
            return;
        }
        let mut near = self.near(id, cascading.scope);
        let Some(story) = &mut self.story else { return };
        let most = ((near.len() as f64 * cascading.max_affected) as u64).max(1);
        let affected = 1 + story.cascades.below(most);
        for _ in 0..affected {
            if near.is_empty() {
                return;
            }
            let victim = story.cascades.below(near.len() as u64) as usize;
            let victim = near.swap_remove(victim);
            let wait = story
                .cascades
                .uniform(cascading.min_delay, cascading.max_delay);
            let falls = Happening::Falls {
                of: place,
                victim,
                kind: FailureKind::Xid,
                depth: depth + 1,
            };
            self.queue.push(now + wait, Event::Story(falls));
        }
    }

    fn respond(&mut self, rule: &Correlated, place: usize, id: &ProviderInstanceId, depth: u32) {
        let near = rule.scope.map(|scope| self.near(id, scope));
        let Some(story) = &mut self.story else { return };
        if !story.cascades.chance(rule.probability) {
            return;
        }
        let mut hit = Vec::new();
        match near {
            None => hit.push(id.clone()),
            Some(mut near) => {
                let share = rule.affected.unwrap_or(0.0) * near.len() as f64;
                let many = (share.round() as usize).clamp(1, near.len().max(1));
                for _ in 0..many.min(near.len()) {
                    let at = story.cascades.below(near.len() as u64) as usize;
                    hit.push(near.swap_remove(at));
                }
            }
        }
        for victim in hit {
            let falls = Happening::Falls {
                of: place,
                victim,
                kind: rule.response,
                depth: depth + 1,
            };
            self.queue.push(self.now + rule.delay, Event::Story(falls));
        }
    }

    /// The other machines that share something with one.
    fn near(&self, id: &ProviderInstanceId, scope: Scope) -> Vec<ProviderInstanceId> {
        let Some(story) = &self.story else {
            return Vec::new();
        };
        let Some(own) = story.seat_of(id) else {
            return Vec::new();
        };
        let others = story.roster.iter().filter(|seat| seat.id != *id);
        let near = others.filter(|seat| seat.domains[scope as usize] == own[scope as usize]);
        near.map(|seat| seat.id.clone()).collect()
    }

    /// A failure that another one caused comes.
    pub(super) fn falls(
        &mut self,
        of: usize,
        victim: &ProviderInstanceId,
        kind: FailureKind,
        depth: u32,
    ) {
        let Some(host) = self.hosts.get(victim) else {
            return;
        };
        let gpus = host.spec.gpus;
        let Some(story) = &mut self.story else { return };
        let failure = Failure {
            kind,
            xid: (kind == FailureKind::Xid).then(|| story.draw_xid()),
            gpu: Some(story.kinds.below(u64::from(gpus.max(1))) as u32),
            message: String::new(),
            lasts: None,
        };
        if let Some(place) = self.inject(victim, &failure, Cause::Cascade(of)) {
            self.follow(place, victim, depth, false);
        }
    }

    /// A domain fails, for as long as it says.
    pub(super) fn black_out(&mut self, outage: &Outage) {
        let Some(story) = &mut self.story else { return };
        let mut hit = Vec::new();
        let there: Vec<_> = story.roster.iter().map(|seat| seat.id.clone()).collect();
        for id in there {
            let Some(host) = self.hosts.get(&id) else {
                continue;
            };
            let is_in = match &outage.domain {
                Domain::Named(scope, name) => named(*scope, &host.spec.place) == name,
                Domain::Fraction(part) => story.victims.chance(*part),
            };
            if is_in {
                hit.push(id);
            }
        }
        let many = u32::try_from(hit.len()).unwrap_or(u32::MAX);
        let at = story.book.outage_begins(&outage.name, many, self.now);
        self.note(
            "fault",
            format_args!("outage {} of {many} nodes", outage.name),
        );
        let mut places = Vec::new();
        for id in hit {
            let failure = Failure {
                kind: outage.kind,
                xid: None,
                gpu: Some(0),
                message: String::new(),
                lasts: None,
            };
            places.extend(self.inject(&id, &failure, Cause::Outage(outage.name.clone())));
        }
        let ends = Happening::OutageEnds(at, places);
        self.queue
            .push(self.now + outage.duration, Event::Story(ends));
    }

    /// A domain is well again.
    pub(super) fn light_up(&mut self, at: usize, places: Vec<usize>) {
        let now = self.now;
        if let Some(story) = &mut self.story {
            story.book.outage_ends(at, now);
        }
        for place in places {
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
    /// One of the scenario's XIDs.
    fn draw_xid(&mut self) -> u32 {
        let chaos = self.chaos.as_ref();
        let weights = chaos.map_or(&[][..], |chaos| &chaos.xid_distribution);
        let drawn = self.kinds.weighted(weights).copied();
        drawn
            .or_else(|| self.kinds.pick(&USUAL_XIDS).copied())
            .unwrap_or(79)
    }
}

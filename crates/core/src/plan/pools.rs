//! One pool: growth, repair and shrinkage, decided together.

use std::collections::{BTreeMap, BTreeSet};

use navarch_model::{DrainCause, EndCause, Instance, LaunchCause, Node, NodeId, Phase, PoolName};
use navarch_policy::guards::LastReplacement;

use super::{Planner, PoolReport};
use crate::input::Action;
use crate::settings::PoolSettings;

impl Planner<'_> {
    pub(super) fn pool(&mut self, pool: &PoolName) {
        let fleet = self.fleet;
        let Some(settings) = fleet.pool_settings(pool) else {
            // Nobody says any more what the pool needs: its machines stay until a person ends them.
            let drained = fleet
                .restless(pool)
                .filter(|instance| instance.phase == Phase::Running)
                .filter_map(|instance| fleet.node_of(instance))
                .filter(|node| {
                    let drain = node.our_drain();
                    drain.is_some_and(|(cause, _)| fleet.drain_is_void(node, cause).is_some())
                });
            self.actions.extend(drained.map(|node| Action::CancelDrain {
                node: node.id.clone(),
            }));
            return;
        };
        self.breakers(pool);
        self.resizing = false;
        self.resize(pool);
        let (staying, leaving) = self.leaving(pool);
        self.priced = false;
        let mut drained = self.interruptions(pool);
        let repaired = self.repair(pool, &drained);
        self.prices(pool);
        self.grow(pool, settings, staying, &leaving);
        let planned = repaired.len();
        drained.extend(repaired);
        self.shrink(pool, &drained, planned);
        self.offerings(pool);
    }

    /// Opens the report of a pool, so that whatever waits finds its place in it.
    pub(super) fn count_pool(&mut self, pool: &PoolName) {
        if let Some(settings) = self.fleet.pool_settings(pool) {
            let sizing = self.fleet.sizing(pool, self.now.core);
            self.sizings.insert(pool.clone(), sizing);
            let report = self.count(pool, settings);
            self.report.pools.insert(pool.clone(), report);
        }
    }

    fn count(&self, pool: &PoolName, settings: &PoolSettings) -> PoolReport {
        let fleet = self.fleet;
        let tally = fleet.index.tally(Some(pool));
        let is_overdue = |instance: &&Instance| fleet.is_overdue(instance, self.now.core);
        PoolReport {
            automation: fleet.automation(pool),
            target: fleet.target(pool),
            bounds: (settings.min_nodes(), settings.max_nodes()),
            alive: tally.alive,
            capacity: tally.capacity,
            active: tally.active,
            unhealthy: tally.unhealthy,
            leaving: tally.capacity - tally.staying,
            overdue: fleet.restless(pool).filter(is_overdue).count(),
            budget: (
                fleet.disruptions(Some(pool)),
                settings.config.budget.slots(fleet.budget_base(Some(pool))),
            ),
            advice: self.advice(pool, settings),
            strategy: settings.config.placement.strategy,
            offerings: Vec::new(),
            waits: Vec::new(),
            planned: Vec::new(),
        }
    }

    /// Opens breakers of signatures that are everywhere, and judges probes.
    fn breakers(&mut self, pool: &PoolName) {
        let fleet = self.fleet;
        let now = self.now.core;
        let breakers = fleet
            .state
            .pools
            .get(pool)
            .map(|memory| &memory.repair_breakers);
        for signature in fleet.index.signatures(pool) {
            let open = breakers
                .and_then(|breakers| breakers.get(signature))
                .is_some_and(navarch_model::Breaker::is_open);
            let shown = |id| {
                let incident = fleet.state.incidents.get(id);
                incident.is_some_and(|incident| incident.makes_unhealthy())
            };
            if !open
                && fleet.index.hits_in(pool, signature).any(shown)
                && fleet.is_everywhere(pool, signature, now).is_some()
            {
                self.actions.push(Action::OpenBreaker {
                    pool: pool.clone(),
                    signature: signature.to_owned(),
                });
            }
        }
        for (signature, breaker) in breakers.into_iter().flatten() {
            let Some(probe) = &breaker.probe else {
                continue;
            };
            let id = navarch_model::InstanceId::new(probe.as_str());
            let decided = breaker.probe_at.unwrap_or_default();
            let proven = match fleet.last_replacement(&id, decided) {
                Some(LastReplacement::ActiveSince(since)) => {
                    let confirm = fleet.settings.guards.breaker.confirm;
                    let due = fleet.presence().due(since, confirm);
                    self.wake(due);
                    (now >= due).then_some(true)
                }
                Some(LastReplacement::None(_)) => {
                    // A drain that was taken back leaves the old machine where it is: what came in
                    // its place and broke is all that the probe will ever show.
                    let underway = fleet
                        .state
                        .instances
                        .get(&id)
                        .filter(|old| old.phase.counts_as_capacity())
                        .and_then(|old| fleet.node_of(old))
                        .is_some_and(|node| node.our_drain().is_some());
                    (!underway).then_some(false)
                }
                None => Some(false),
                Some(LastReplacement::NotActive) => None,
            };
            if let Some(proven) = proven {
                self.actions.push(Action::JudgeProbe {
                    pool: pool.clone(),
                    signature: signature.clone(),
                    proven,
                });
            }
        }
    }

    /// Moves each drain of ours on. Answers how many machines stay then, and those that leave because
    /// of an incident or their cloud and have no replacement yet.
    fn leaving(&mut self, pool: &PoolName) -> (usize, Vec<Instance>) {
        let fleet = self.fleet;
        let target = fleet.target(pool);
        let mut staying = fleet.staying(pool);
        let mut unreplaced = Vec::new();
        let mut drains: Vec<(&Instance, &Node)> = fleet
            .restless(pool)
            .filter(|instance| instance.phase == Phase::Running)
            .filter_map(|instance| Some((instance, fleet.node_of(instance)?)))
            .filter(|(_, node)| node.our_drain().is_some())
            .collect();
        // Those of repairs that are over come first: they fill places that others were to keep.
        drains.sort_by_key(|(instance, node)| {
            let drain = node.our_drain();
            (
                drain.is_some_and(|(cause, _)| *cause == DrainCause::Shrink),
                drain.map(|(_, hold)| hold.since),
                instance.id.clone(),
            )
        });
        for (instance, node) in drains {
            let Some((cause, hold)) = node.our_drain() else {
                continue;
            };
            if fleet.drain_is_void(node, cause).is_some() {
                // Of those that were too many only as many stay as are needed.
                let needed = *cause != DrainCause::Shrink
                    || node.is_held_by_operator()
                    || (staying < target && !self.resizing);
                if needed {
                    staying += 1;
                    self.actions.push(Action::CancelDrain {
                        node: node.id.clone(),
                    });
                }
                continue;
            }
            let end = match cause {
                DrainCause::Incident(incident) => EndCause::Repair {
                    incident: incident.clone(),
                },
                DrainCause::Interruption => EndCause::Interruption,
                DrainCause::Shrink | DrainCause::Terminating => EndCause::Shrink,
            };
            if hold.drained.is_none() {
                self.ask_drained(node);
            }
            let words = format!("terminate {}", instance.id);
            match fleet.may_terminate(instance, &end, self.now.core) {
                Ok(()) if self.resizing => {}
                Ok(()) => {
                    let reason = end.phrase();
                    let action = Action::Terminate {
                        instance: instance.id.clone(),
                        cause: end,
                    };
                    self.choose(pool, node.id.as_str(), words, reason, action);
                }
                Err(block) => self.wait(pool, node.id.as_str(), &words, &block),
            }
            let replaced = matches!(cause, DrainCause::Incident(_) | DrainCause::Interruption);
            if replaced && fleet.replacement_of(instance).is_none() {
                unreplaced.push(instance.clone());
            }
        }
        (staying, unreplaced)
    }

    /// Begins to drain the machines that their cloud takes back. Answers their nodes.
    fn interruptions(&mut self, pool: &PoolName) -> BTreeSet<NodeId> {
        let fleet = self.fleet;
        let taken: Vec<&Node> = fleet
            .restless(pool)
            .filter(|instance| instance.phase == Phase::Running && instance.interruption.is_some())
            .filter_map(|instance| fleet.node_of(instance))
            .filter(|node| node.our_drain().is_none())
            .collect();
        let mut planned = BTreeSet::new();
        for node in taken {
            let cause = DrainCause::Interruption;
            let words = format!("drain {}", node.id);
            let reason = match fleet.may_drain(node, &cause, 0, self.now.core) {
                Ok(why) => {
                    planned.insert(node.id.clone());
                    why
                }
                Err(block) if block.guard == "automation" => EndCause::Interruption.phrase(),
                Err(block) => {
                    self.wait(pool, node.id.as_str(), &words, &block);
                    continue;
                }
            };
            let node = node.id.clone();
            let about = node.to_string();
            self.choose(pool, &about, words, reason, Action::Drain { node, cause });
        }
        planned
    }

    fn ask_drained(&mut self, node: &Node) {
        if !self.fleet.knows_of_drain(node) {
            // Its notice goes first.
            return;
        }
        let soft = self.fleet.soft.get(&node.id).cloned().unwrap_or_default();
        if let Some(until) = soft.asking_drained.filter(|until| self.now.core < *until) {
            self.wake(until);
            return;
        }
        match soft.ask_drained_at.filter(|at| *at > self.now.core) {
            Some(at) => self.wake(at),
            None => self.actions.push(Action::AskDrained {
                node: node.id.clone(),
            }),
        }
    }

    /// Begins the repairs that every guard lets through, the clearest faults first, but for nodes that
    /// are drained already. Answers the nodes that are drained for one.
    fn repair(&mut self, pool: &PoolName, drained: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        let fleet = self.fleet;
        let mut sick: Vec<_> = fleet
            .restless(pool)
            .filter(|instance| instance.phase == Phase::Running)
            .filter_map(|instance| {
                let node = fleet.node_of(instance)?;
                let incident = fleet.worst_incident(node)?;
                let drained = node.our_drain().is_some() || drained.contains(&node.id);
                (!drained).then_some((incident, node))
            })
            .collect();
        sick.sort_by_key(|(incident, _)| {
            (
                std::cmp::Reverse(incident.kind),
                incident.opened,
                incident.id.clone(),
            )
        });
        let mut planned = BTreeSet::new();
        let mut signatures = BTreeSet::new();
        for (incident, node) in sick {
            let cause = DrainCause::Incident(incident.id.clone());
            let words = format!("replace {}", node.id);
            match fleet.may_drain(node, &cause, planned.len(), self.now.core) {
                // One per signature and plan: the next is judged with this one on record.
                Ok(_) if !signatures.insert(incident.signature()) => {
                    self.wake(self.now.core + std::time::Duration::from_millis(1));
                }
                Ok(why) => {
                    planned.insert(node.id.clone());
                    let action = Action::Drain {
                        node: node.id.clone(),
                        cause,
                    };
                    self.choose(pool, node.id.as_str(), words, why, action);
                }
                Err(block) if block.guard == "automation" => {
                    let reason = crate::fleet::describe(incident);
                    let action = Action::Drain {
                        node: node.id.clone(),
                        cause,
                    };
                    self.choose(pool, node.id.as_str(), words, reason, action);
                }
                Err(block) => {
                    self.priced |= matches!(block.guard, "listing" | "max_price");
                    self.wait(pool, node.id.as_str(), &words, &block);
                }
            }
        }
        planned
    }

    /// Asks for machines until the pool has what was asked for, replacements first.
    fn grow(
        &mut self,
        pool: &PoolName,
        settings: &PoolSettings,
        mut staying: usize,
        leaving: &[Instance],
    ) {
        let target = self.fleet.target(pool);
        if staying >= target {
            return;
        }
        let mut buying = self.fleet.buying(pool, settings, self.now.core);
        let mut leaving = leaving.iter();
        while staying < target {
            let (about, cause, words, reason) = match leaving.next() {
                Some(instance) => (
                    instance.id.as_str(),
                    LaunchCause::Replace {
                        instance: instance.id.clone(),
                    },
                    format!("launch a machine to replace {}", instance.id),
                    "the machine is being drained".to_owned(),
                ),
                None => (
                    pool.as_str(),
                    LaunchCause::Grow,
                    "launch a machine".to_owned(),
                    format!("{staying} of {target} machines"),
                ),
            };
            let place = match buying.next() {
                Ok(place) => place,
                Err(block) => {
                    self.wait(pool, about, &words, &block);
                    // Every machine that is not replaced for the same reason says so.
                    if matches!(cause, LaunchCause::Replace { .. }) {
                        staying += 1;
                        continue;
                    }
                    break;
                }
            };
            let Some(one) = settings.offerings.get(place).filter(|_| !self.resizing) else {
                break;
            };
            buying.take(place);
            self.choose(
                pool,
                pool.as_str(),
                words,
                reason,
                Action::Request {
                    pool: pool.clone(),
                    cause,
                    offering: (*one.offering).clone(),
                },
            );
            staying += 1;
        }
    }

    /// Lets machines go that nobody asked for: unhealthy ones first, then held, then those
    /// that do least, then the youngest.
    /// The place of one that is only silent is kept for it until something confirms that it is dead:
    /// a healthy one that goes meanwhile would have to be bought again.
    /// `drained` are the nodes that this plan drains already, `planned` of them for a repair.
    fn shrink(&mut self, pool: &PoolName, drained: &BTreeSet<NodeId>, mut planned: usize) {
        let fleet = self.fleet;
        // Intents go first: no machine exists that would have to be drained.
        let unwanted = self.unwanted.get(pool).map_or(0, BTreeMap::len);
        let excess = fleet.excess(pool, unwanted + drained.len());
        if excess == 0 {
            return;
        }
        let mut candidates: Vec<(&Instance, &Node)> = fleet
            .pool_instances(pool)
            .filter(|instance| instance.phase == Phase::Running)
            .filter_map(|instance| Some((instance, fleet.node_of(instance)?)))
            .filter(|(_, node)| node.our_drain().is_none() && !node.is_held_by_operator())
            .filter(|(_, node)| !drained.contains(&node.id))
            .collect();
        candidates.sort_by_key(|(instance, node)| {
            (
                std::cmp::Reverse(node.health()),
                node.holds.is_empty(),
                // In steps of ten: less is noise. Whoever measured nothing may be busy.
                fleet
                    .used(pool, &node.id, self.now.core)
                    .map_or(u32::MAX, |percent| percent / 10),
                std::cmp::Reverse(instance.created),
                instance.id.clone(),
            )
        });
        for (_, node) in candidates.into_iter().take(excess) {
            let words = format!("shrink by {}", node.id);
            match fleet.may_drain(node, &DrainCause::Shrink, planned, self.now.core) {
                Ok(_) if self.resizing => {}
                Ok(why) => {
                    planned += 1;
                    let action = Action::Drain {
                        node: node.id.clone(),
                        cause: DrainCause::Shrink,
                    };
                    self.choose(pool, node.id.as_str(), words, why, action);
                }
                Err(block) => self.wait(pool, node.id.as_str(), &words, &block),
            }
        }
    }
}

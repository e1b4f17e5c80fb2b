//! Events and assertions of a scenario.

use std::collections::BTreeSet;
use std::time::Duration;

use navarch_config::scenario::{
    Action, Assertion, Bounds, CloudFault, Expected, FailureKind, Target,
};
use navarch_core::{Input, Rejection, Reply};
use navarch_model::{
    HealthStatus, NodeId, NodeStatus, PoolName, ProviderErrorKind, ProviderInstanceId,
};

use crate::cloud::Listing;
use crate::record::{AssertionResult, Cause};
use crate::run::Power;
use crate::run::chaos::Branch;
use crate::world::Sim;

/// Why an event of a scenario could not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Undone {
    /// There was no control plane to ask. In a run with chaos that is part of the weather.
    #[error("{0}")]
    Away(String),
    /// What the event says cannot be done, or does not hold.
    #[error("{0}")]
    Wrong(String),
}

impl From<String> for Undone {
    fn from(wrong: String) -> Self {
        Self::Wrong(wrong)
    }
}

/// The most nodes of an event that is refused of several of which it is told why.
const MOST_TOLD: usize = 3;

impl Sim {
    /// The newest node of each that a target means.
    fn meant(&self, target: &Target) -> Result<Vec<NodeId>, String> {
        let story = self.story.as_ref().ok_or("no scenario runs")?;
        match target {
            Target::All => Ok(self.hosts.values().map(|host| host.node()).collect()),
            Target::Node(id) => {
                let node = NodeId::new(&**id);
                let newest = story.newest.get(&node).cloned().unwrap_or(node);
                if story.book.record.nodes.contains_key(&newest) {
                    return Ok(vec![newest]);
                }
                if story.owned.contains_key(&newest) {
                    return Err(format!(
                        "node {id} has not started: start_fleet comes first"
                    ));
                }
                Err(format!("there is no node {id}"))
            }
            Target::Pool { pool, index } => {
                let wanted = PoolName::new(&**pool);
                let instances = self.seen.instances.values();
                let mut alive: Vec<_> = instances
                    .filter(|one| one.pool == wanted && one.phase.may_be_alive())
                    .collect();
                alive.sort_by_key(|one| (one.created.core, one.id.clone()));
                let nodes: Vec<NodeId> = alive.iter().filter_map(|one| one.node.clone()).collect();
                let found = nodes.get(*index as usize).cloned().ok_or_else(|| {
                    format!(
                        "pool {pool} has {} nodes, and none at place {index}",
                        nodes.len()
                    )
                })?;
                Ok(vec![found])
            }
        }
    }

    fn machine_of(&self, node: &NodeId) -> Result<ProviderInstanceId, String> {
        let id = self.by_node.get(node).cloned();
        id.ok_or_else(|| format!("the machine of {node} is gone"))
    }

    /// Does what an event says.
    ///
    /// # Errors
    ///
    /// Why it could not be done, or what does not hold.
    pub(super) fn act(&mut self, action: &Action) -> Result<(), Undone> {
        let now = self.now;
        match action {
            Action::StartFleet => self.start_fleet(),
            Action::StopFleet => self.stop_fleet(),
            Action::Log(text) => {
                self.note("log", format_args!("{text}"));
                if let Some(story) = &mut self.story {
                    story.book.record.notes.push((now, text.clone()));
                }
            }
            Action::Inject { target, failure } => {
                self.each(target, |sim, node| {
                    let id = sim.machine_of(&node)?;
                    let struck = sim.strike(&id, failure, Cause::Script, Branch::ROOT, true);
                    struck.map_err(|why| why.to_string())?;
                    Ok(())
                })?;
            }
            Action::Recover { target, kind } => {
                let mut repaired = false;
                self.each(target, |sim, node| {
                    sim.machine_of(&node)?;
                    repaired |= sim.recover(&node, *kind);
                    Ok(())
                })?;
                if !repaired {
                    let of = target_words(target);
                    let kind = kind.map_or("nothing", FailureKind::word);
                    let wrong = format!("there is nothing to recover of {of}: {kind} is broken");
                    return Err(Undone::Wrong(wrong));
                }
            }
            Action::Command {
                target,
                kind,
                parameters,
            } => {
                self.each(target, |sim, node| {
                    sim.note("human", format_args!("{} {node}", kind.short()));
                    sim.ask(Input::Command {
                        node,
                        kind: *kind,
                        parameters: parameters.clone(),
                    })
                })?;
            }
            // The run waits, and looks meanwhile.
            Action::WaitForStatus { .. } | Action::Wait => {}
            Action::Assert(assertion) => {
                if let Some(story) = &mut self.story {
                    story.book.count(now);
                }
                let result = self.judge(assertion);
                let wrong = result.wrong.clone();
                if let Some(story) = &mut self.story {
                    story.book.record.assertions.push(result);
                }
                if let Some(wrong) = wrong {
                    return Err(Undone::Wrong(wrong));
                }
            }
            Action::Crash { down } => {
                self.away(*down);
            }
            Action::Cloud {
                fault,
                place,
                lasts,
            } => self.cloud_fault(*fault, place, *lasts),
            Action::Outage(outage) => self.black_out(outage),
            Action::ScalePool { pool, nodes } => {
                self.note("human", format_args!("scale {pool} to {nodes}"));
                self.ask(Input::ScalePool {
                    pool: PoolName::new(&**pool),
                    nodes: *nodes,
                    reason: "scenario".to_owned(),
                })?;
            }
            Action::Automation(mode) => {
                self.note("human", format_args!("automation {}", mode.word()));
                self.ask(Input::SetAutomation {
                    pool: None,
                    mode: *mode,
                    reason: "scenario".to_owned(),
                })?;
            }
        }
        self.schedule_plane();
        Ok(())
    }

    /// Does something to every node that a target means, whatever becomes of the others. Answers
    /// what went wrong with any of them.
    fn each(
        &mut self,
        target: &Target,
        mut act: impl FnMut(&mut Self, NodeId) -> Result<(), Undone>,
    ) -> Result<(), Undone> {
        let (mut wrong, mut away) = (Vec::new(), None);
        for node in self.meant(target)? {
            match act(self, node) {
                Ok(()) => {}
                Err(Undone::Wrong(why)) => wrong.push(why),
                Err(Undone::Away(why)) => away = Some(why),
            }
        }
        let more = wrong.len().saturating_sub(MOST_TOLD);
        wrong.truncate(MOST_TOLD);
        match (wrong.is_empty(), away, more) {
            (true, None, _) => Ok(()),
            (true, Some(why), _) => Err(Undone::Away(why)),
            (false, _, 0) => Err(Undone::Wrong(wrong.join("; "))),
            (false, _, more) => {
                let wrong = wrong.join("; ");
                Err(Undone::Wrong(format!("{wrong}; and {more} more nodes")))
            }
        }
    }

    /// An operator of the scenario asks the control plane.
    fn ask(&mut self, input: Input) -> Result<(), Undone> {
        match self.put(input).map_err(Undone::Away)? {
            Ok(_) => Ok(()),
            Err(rejection) => Err(Undone::Wrong(rejection.message)),
        }
    }

    /// Puts an input to the control plane and answers its reply.
    ///
    /// # Errors
    ///
    /// Why there is none: no control plane runs, or it died.
    pub(crate) fn put(&mut self, input: Input) -> Result<Result<Reply, Rejection>, String> {
        if self.plane.process.is_none() || self.now < self.plane.paused_until {
            return Err("the control plane does not run".to_owned());
        }
        let replies = self.turn(vec![input]);
        let reply = replies.and_then(|replies| replies.into_iter().next());
        reply.ok_or_else(|| "the control plane died before it answered".to_owned())
    }

    /// A cloud does something wrong, at a place or everywhere.
    fn cloud_fault(&mut self, fault: CloudFault, place: &str, lasts: Duration) {
        let until = self.now + lasts;
        let modes = match place {
            "" => &mut self.cloud.modes,
            place => self.cloud.local.entry(place.to_owned()).or_default(),
        };
        // One that ends sooner leaves the others.
        let mut refuse = |kind| modes.launch_errors.push((until, kind));
        match fault {
            CloudFault::Capacity => refuse(ProviderErrorKind::Capacity),
            CloudFault::Quota => refuse(ProviderErrorKind::Quota),
            CloudFault::Auth => refuse(ProviderErrorKind::Auth),
            CloudFault::RateLimit => refuse(ProviderErrorKind::RateLimit),
            CloudFault::LostAnswers => modes.lost_answers = modes.lost_answers.max(until),
            CloudFault::NeverBoots => modes.duds = modes.duds.max(until),
            CloudFault::Outage => modes.outage = modes.outage.max(until),
            CloudFault::Slow => modes.slow = modes.slow.max(until),
            CloudFault::EmptyListings => modes.listings.push((until, Listing::Empty)),
            CloudFault::PartialListings => modes.listings.push((until, Listing::Partial)),
            CloudFault::StaleListings => modes.listings.push((until, Listing::Stale)),
        }
        let place = if place.is_empty() { "cloud" } else { place };
        self.note(
            "fault",
            format_args!("{place}: {} for {} s", fault.word(), lasts.as_secs()),
        );
    }

    /// The external nodes that are off start, each after its time in the start-up.
    fn start_fleet(&mut self) {
        let now = self.now;
        let Some(story) = &mut self.story else { return };
        let mut waiting = Vec::new();
        for (at, one) in story.fleet.iter().enumerate() {
            if one.power == Power::Off {
                let wait = story.starts.get(at).copied().unwrap_or_default();
                waiting.push((at, wait));
                let gpus = u64::from(one.spec.gpus);
                story.book.dismissed(&one.spec.node, gpus, false, now);
            }
        }
        for (at, wait) in waiting {
            self.order_start(at, wait);
        }
    }

    /// The agents of the external nodes stop, and nobody asks for these nodes until they are started
    /// again.
    fn stop_fleet(&mut self) {
        let now = self.now;
        let Some(story) = &mut self.story else { return };
        let mut stopped = Vec::new();
        for one in &mut story.fleet {
            if one.power == Power::Gone && story.newest.contains_key(&one.spec.node) {
                continue;
            }
            let (node, gpus) = (one.spec.node.clone(), u64::from(one.spec.gpus));
            story.book.dismissed(&node, gpus, true, now);
            if one.power == Power::On || one.power == Power::Coming {
                one.power = Power::Off;
                one.orders += 1;
                stopped.push(ProviderInstanceId::new(node.as_str()));
            }
        }
        for id in stopped {
            self.wake_up(&id);
            let Some(host) = self.hosts.get_mut(&id) else {
                continue;
            };
            host.off = true;
            host.go_dark();
            self.note("host", format_args!("the agent of {id} stops"));
            if let Some(story) = &mut self.story {
                story.leave(&id);
            }
        }
    }

    /// Whether nodes have a status. A node that is not there yet may come.
    pub(super) fn have_reached(&self, target: &Target, status: NodeStatus) -> bool {
        self.meant(target).is_ok_and(|nodes| {
            let has = |node| self.status_of(node) == Some(status);
            !nodes.is_empty() && nodes.iter().all(has)
        })
    }

    /// Why nodes do not have a status after all the time that they had.
    pub(super) fn never_reached(&self, target: &Target, status: NodeStatus) -> String {
        let nodes = match self.meant(target) {
            Ok(nodes) => nodes,
            Err(wrong) => return wrong,
        };
        let other = nodes
            .iter()
            .find(|node| self.status_of(node) != Some(status));
        let (node, is) = other.map_or((String::new(), None), |node| {
            (node.to_string(), self.status_of(node))
        });
        format!(
            "timeout waiting for node {node} to reach status {}: it is {}",
            status.short(),
            is.map_or("unknown to the control plane", NodeStatus::short)
        )
    }

    fn status_of(&self, node: &NodeId) -> Option<NodeStatus> {
        let known = self.released().nodes.get(node);
        known.map(|node| node.status())
    }

    fn health_of(&self, node: &NodeId) -> Option<HealthStatus> {
        let known = self.released().nodes.get(node);
        known.map(|node| node.health())
    }

    /// Says whether something holds.
    pub(super) fn judge(&self, assertion: &Assertion) -> AssertionResult {
        let (what, wrong) = match &assertion.what {
            Expected::NodeStatus(target, status) => {
                let ended = *status == NodeStatus::Terminated;
                let found = self.all_have(target, ended, status.name(), |node| {
                    self.status_of(node).map(NodeStatus::name)
                });
                (
                    format!("{} has status {}", target_words(target), status.name()),
                    found,
                )
            }
            Expected::HealthStatus(target, health) => {
                let found = self.all_have(target, false, health.name(), |node| {
                    self.health_of(node).map(HealthStatus::name)
                });
                (
                    format!(
                        "{} has health status {}",
                        target_words(target),
                        health.name()
                    ),
                    found,
                )
            }
            Expected::NodeCount { status, count } => {
                let nodes = self.released().nodes.values();
                let found = nodes
                    .filter(|node| status.is_none_or(|status| status == node.status()))
                    .filter(|node| status.is_some() || node.terminated.is_none())
                    .count();
                let of = status.map_or(String::new(), |status| format!(" {}", status.name()));
                measured(&format!("nodes{of}"), count, found as f64, "")
            }
            Expected::Invariants => {
                let broken = self.violations.first();
                let wrong = broken.map(|one| format!("{}: {}", one.invariant, one.what));
                ("every promise is kept".to_owned(), wrong)
            }
            Expected::Capacity { pool, percent } => {
                let (asked, delivered) = self.capacity(pool.as_deref());
                let what = "delivered capacity";
                if asked > 0.0 {
                    measured(what, percent, 100.0 * delivered / asked, " %")
                } else {
                    let (what, _) = measured(what, percent, 100.0, " %");
                    (what, Some("no capacity was asked for".to_owned()))
                }
            }
            Expected::Incidents { rule, count } => {
                let story = self.story.as_ref();
                let all = story.map_or(&[][..], |story| &story.book.record.incidents);
                let found = all
                    .iter()
                    .filter(|one| rule.as_ref().is_none_or(|rule| *rule == one.rule));
                let of = rule
                    .as_ref()
                    .map_or(String::new(), |rule| format!(" of rule {rule}"));
                measured(&format!("incidents{of}"), count, found.count() as f64, "")
            }
            Expected::Launches(count) => {
                let story = self.story.as_ref();
                let found = story.map_or(0, |story| story.book.record.launches);
                measured("launches", count, found as f64, "")
            }
            Expected::TimeToRecover {
                percentile,
                at_most,
            } => {
                let story = self.story.as_ref();
                let mut times = story.map_or_else(Vec::new, |story| {
                    let mut times = story.book.record.recovery_times.clone();
                    times.extend(story.book.still_lacking(self.now));
                    times
                });
                times.sort();
                let at = (percentile / 100.0 * times.len() as f64).ceil() as usize;
                let found = times.get(at.saturating_sub(1).min(times.len().saturating_sub(1)));
                let what = format!("{percentile} % of failures recover within {at_most:?}");
                let wrong = match found {
                    Some(found) if found > at_most => Some(format!("they take {found:?}")),
                    Some(_) => None,
                    None => Some("no failure took capacity away".to_owned()),
                };
                (what, wrong)
            }
        };
        AssertionResult {
            line: assertion.line,
            what,
            wrong,
        }
    }

    /// The first node without the state that all are to have, in words. Every node is every one that
    /// the control plane has and that did not end, or that runs and that it does not have; `ended`
    /// says that those that ended count.
    fn all_have<'a>(
        &self,
        target: &Target,
        ended: bool,
        wanted: &'a str,
        of: impl Fn(&NodeId) -> Option<&'a str>,
    ) -> Option<String> {
        let nodes = match target {
            Target::All => {
                let known = self.released().nodes.values();
                let known = known.filter(|node| ended || node.terminated.is_none());
                let run = self.hosts.values().map(|host| host.node());
                let all: BTreeSet<NodeId> = known.map(|node| node.id.clone()).chain(run).collect();
                Ok(all.into_iter().collect())
            }
            target => self.meant(target),
        };
        let nodes = match nodes {
            Ok(nodes) if nodes.is_empty() => return Some("there are no nodes".to_owned()),
            Ok(nodes) => nodes,
            Err(wrong) => return Some(wrong),
        };
        let other = nodes.iter().find(|node| of(node) != Some(wanted))?;
        let is = of(other).unwrap_or("unknown to the control plane");
        Some(format!("node {other} has {is}, expected {wanted}"))
    }

    /// GPU-hours that were asked for and delivered, of a pool or of everything, up to the last
    /// count.
    fn capacity(&self, pool: Option<&str>) -> (f64, f64) {
        let Some(story) = &self.story else {
            return (0.0, 0.0);
        };
        match pool {
            Some(pool) => story.book.pool_hours(&PoolName::new(pool)),
            None => {
                let record = &story.book.record;
                (record.asked_gpu_hours, record.delivered_gpu_hours)
            }
        }
    }
}

fn target_words(target: &Target) -> String {
    match target {
        Target::All => "every node".to_owned(),
        Target::Node(id) => format!("node {id}"),
        Target::Pool { pool, index } => format!("node {index} of pool {pool}"),
    }
}

/// An expected number beside what was found.
fn measured(what: &str, bounds: &Bounds, found: f64, unit: &str) -> (String, Option<String>) {
    let number = |number: f64| {
        let text = format!("{number:.2}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        format!("{text}{unit}")
    };
    let expected = match (bounds.at_least, bounds.at_most) {
        (Some(low), Some(high)) if (low - high).abs() < f64::EPSILON => number(low),
        (Some(low), Some(high)) => format!("{} to {}", number(low), number(high)),
        (Some(low), None) => format!("at least {}", number(low)),
        (None, Some(high)) => format!("at most {}", number(high)),
        (None, None) => "any".to_owned(),
    };
    let low = bounds.at_least.is_none_or(|low| found >= low);
    let high = bounds.at_most.is_none_or(|high| found <= high);
    let wrong = (!(low && high)).then(|| format!("{what}: {}, expected {expected}", number(found)));
    (format!("{what}: {expected}"), wrong)
}

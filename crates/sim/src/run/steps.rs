//! Events and assertions of a scenario.

use std::time::Duration;

use navarch_config::scenario::{Action, Assertion, Bounds, CloudFault, Expected, Target};
use navarch_core::Input;
use navarch_model::{
    HealthStatus, NodeId, NodeStatus, PoolName, ProviderErrorKind, ProviderInstanceId,
};

use crate::cloud::Listing;
use crate::record::{AssertionResult, Cause};
use crate::run::Happening;
use crate::world::{Event, Sim};

/// How often it is looked whether what is waited for is there.
const LOOK: Duration = Duration::from_millis(100);

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
                if story.fleet.iter().any(|(spec, _)| spec.node == newest) {
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
    pub(super) fn act(&mut self, action: &Action) -> Result<(), String> {
        let now = self.now;
        match action {
            Action::StartFleet => self.start_fleet(),
            Action::StopFleet => self.stop_fleet(),
            Action::Wait => {}
            Action::Log(text) => {
                self.note("log", format_args!("{text}"));
                if let Some(story) = &mut self.story {
                    story.book.record.notes.push((now, text.clone()));
                }
            }
            Action::Inject { target, failure } => {
                for node in self.meant(target)? {
                    let id = self.machine_of(&node)?;
                    if let Some(place) = self.inject(&id, failure, Cause::Script) {
                        self.follow(place, &id, 0, true);
                    }
                }
            }
            Action::Recover { target, kind } => {
                for node in self.meant(target)? {
                    self.machine_of(&node)?;
                    self.recover(&node, *kind);
                }
            }
            Action::Command {
                target,
                kind,
                parameters,
            } => {
                for node in self.meant(target)? {
                    self.note("human", format_args!("{} {node}", kind.short()));
                    let input = Input::Command {
                        node,
                        kind: *kind,
                        parameters: parameters.clone(),
                    };
                    self.ask(input)?;
                }
            }
            Action::WaitForStatus {
                target,
                status,
                timeout,
            } => self.wait_for(target, *status, *timeout)?,
            Action::Assert(assertion) => {
                let result = self.judge(assertion);
                let wrong = result.wrong.clone();
                if let Some(story) = &mut self.story {
                    story.book.record.assertions.push(result);
                }
                if let Some(wrong) = wrong {
                    return Err(wrong);
                }
            }
            Action::Crash { down } => {
                self.away(*down);
                if let Some(story) = &mut self.story {
                    story.book.record.crashes += 1;
                }
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

    /// An operator asks the control plane.
    fn ask(&mut self, input: Input) -> Result<(), String> {
        if self.plane.process.is_none() || self.now < self.plane.paused_until {
            return Err("the control plane does not run".to_owned());
        }
        let replies = self.turn(vec![input]);
        match replies.and_then(|replies| replies.into_iter().next()) {
            Some(Ok(_)) => Ok(()),
            Some(Err(rejection)) => Err(rejection.message),
            None => Err("the control plane died before it answered".to_owned()),
        }
    }

    /// A cloud does something wrong, at a place or everywhere.
    fn cloud_fault(&mut self, fault: CloudFault, place: &str, lasts: Duration) {
        let until = self.now + lasts;
        let modes = match place {
            "" => &mut self.cloud.modes,
            place => self.cloud.local.entry(place.to_owned()).or_default(),
        };
        let refused = |kind| Some((until, kind));
        match fault {
            CloudFault::Capacity => modes.launch_error = refused(ProviderErrorKind::Capacity),
            CloudFault::Quota => modes.launch_error = refused(ProviderErrorKind::Quota),
            CloudFault::Auth => modes.launch_error = refused(ProviderErrorKind::Auth),
            CloudFault::RateLimit => modes.launch_error = refused(ProviderErrorKind::RateLimit),
            CloudFault::LostAnswers => modes.lost_answers = until,
            CloudFault::NeverBoots => modes.duds = until,
            CloudFault::Outage => modes.outage = until,
            CloudFault::Slow => modes.slow = until,
            CloudFault::EmptyListings => modes.listing = Some((until, Listing::Empty)),
            CloudFault::PartialListings => modes.listing = Some((until, Listing::Partial)),
            CloudFault::StaleListings => modes.listing = Some((until, Listing::Stale)),
        }
        let place = if place.is_empty() { "cloud" } else { place };
        self.note(
            "fault",
            format_args!("{place}: {} for {} s", fault.word(), lasts.as_secs()),
        );
    }

    fn start_fleet(&mut self) {
        let Some(story) = &self.story else { return };
        let waiting: Vec<usize> = (0..story.fleet.len())
            .filter(|at| !story.fleet[*at].1)
            .collect();
        for (at, wait) in waiting.into_iter().zip(story.starts.clone()) {
            self.queue
                .push(self.now + wait, Event::Story(Happening::Starts(at)));
        }
    }

    fn stop_fleet(&mut self) {
        let external: Vec<ProviderInstanceId> = self
            .hosts
            .iter()
            .filter(|(_, host)| host.spec.instance.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in external {
            let Some(host) = self.hosts.get(&id) else {
                continue;
            };
            let node = host.node();
            let now = self.now;
            if let Some(story) = &mut self.story {
                story.book.dismissed(&node, now);
            }
            self.switch_off(&id, "the fleet stops");
        }
    }

    fn wait_for(
        &mut self,
        target: &Target,
        status: NodeStatus,
        timeout: Duration,
    ) -> Result<(), String> {
        let limit = self.now + timeout;
        loop {
            // A node that is not there yet may come.
            let nodes = self.meant(target);
            let there = nodes.as_ref().is_ok_and(|nodes| {
                !nodes.is_empty()
                    && nodes
                        .iter()
                        .all(|node| self.status_of(node) == Some(status))
            });
            if there {
                return Ok(());
            }
            if self.now >= limit || !self.violations.is_empty() {
                let nodes = nodes?;
                let other = nodes
                    .iter()
                    .find(|node| self.status_of(node) != Some(status));
                let (node, is) = other.map_or((String::new(), None), |node| {
                    (node.to_string(), self.status_of(node))
                });
                return Err(format!(
                    "timeout waiting for node {node} to reach status {}: it is {}",
                    status.short(),
                    is.map_or("unknown to the control plane", NodeStatus::short)
                ));
            }
            let next = (self.now + LOOK).min(limit);
            self.run(next);
        }
    }

    fn status_of(&self, node: &NodeId) -> Option<NodeStatus> {
        self.seen.nodes.get(node).map(|node| node.status())
    }

    fn health_of(&self, node: &NodeId) -> Option<HealthStatus> {
        self.seen.nodes.get(node).map(|node| node.health())
    }

    /// Says whether something holds.
    pub(super) fn judge(&self, assertion: &Assertion) -> AssertionResult {
        let (what, wrong) = match &assertion.what {
            Expected::NodeStatus(target, status) => {
                let found = self.all_have(target, status.name(), |node| {
                    self.status_of(node).map(NodeStatus::name)
                });
                (
                    format!("{} has status {}", target_words(target), status.name()),
                    found,
                )
            }
            Expected::HealthStatus(target, health) => {
                let found = self.all_have(target, health.name(), |node| {
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
                let nodes = self.seen.nodes.values();
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
                let share = if asked > 0.0 {
                    100.0 * delivered / asked
                } else {
                    100.0
                };
                measured("delivered capacity", percent, share, " %")
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
                let wrong = found
                    .filter(|found| *found > at_most)
                    .map(|found| format!("they take {found:?}"));
                (what, wrong)
            }
        };
        AssertionResult {
            line: assertion.line,
            what,
            wrong,
        }
    }

    fn all_have<'a>(
        &self,
        target: &Target,
        wanted: &'a str,
        of: impl Fn(&NodeId) -> Option<&'a str>,
    ) -> Option<String> {
        let nodes = match self.meant(target) {
            Ok(nodes) => nodes,
            Err(wrong) => return Some(wrong),
        };
        let other = nodes.iter().find(|node| of(node) != Some(wanted))?;
        let is = of(other).unwrap_or("unknown to the control plane");
        Some(format!("node {other} has {is}, expected {wanted}"))
    }

    /// GPU-hours that were asked for and delivered, of a pool or of everything.
    fn capacity(&self, pool: Option<&str>) -> (f64, f64) {
        let Some(story) = &self.story else {
            return (0.0, 0.0);
        };
        let record = &story.book.record;
        let Some(pool) = pool.map(PoolName::new) else {
            return (record.asked_gpu_hours, record.delivered_gpu_hours);
        };
        // Of one pool by its samples.
        let samples = record
            .samples
            .iter()
            .filter_map(|sample| sample.pools.get(&pool));
        samples.fold((0.0, 0.0), |(asked, delivered), sample| {
            let full = f64::from(sample.active.min(sample.target));
            (asked + f64::from(sample.target), delivered + full)
        })
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

//! Quiet machines: agents that only beat and report what they reported before are advanced in bulk.
//!
//! Nothing of their traffic reaches the queue. The control plane takes them for heard and for
//! reporting the same. Whatever concerns the machine, its node or the control plane wakes it up:
//! only then its agent's core lives through the time until now, with the same randomness and the
//! same ways of its calls as elsewhere, the control plane learns when it last heard of it, and what
//! is under way is back in the queue. Traces are the same bytes with and without this; a test
//! compares them.

use std::collections::BTreeMap;
use std::time::Duration;

use navarch_core::agent::{Agent, Outcome, Step};
use navarch_core::{Action, Input, Report};
use navarch_model::{HealthStatus, NodeId, ProviderInstanceId, Stamp, Time};

use crate::agents::{Call, Kind};
use crate::machine::Host;
use crate::streams::Stream;
use crate::world::{Event, Sim};

/// The longest interval of an agent, with its jitter.
const LONGEST_INTERVAL: f64 = 1.1;
/// More than an answer and the next request are under way.
const WAYS: Duration = Duration::from_millis(100);

/// What comes next at a quiet machine.
#[derive(Debug, Clone, Copy)]
enum Coming {
    /// The agent has something to do.
    Wake,
    /// A heartbeat reaches the control plane, and how long its answer takes.
    Beat(Duration),
    /// A full report does.
    Report(Duration, u64),
    /// An answer reaches the agent.
    Heard(Kind),
}

/// The traffic of a quiet machine.
#[derive(Debug)]
pub(crate) struct Quiet {
    /// In no order, and never more than a handful.
    coming: Vec<(Time, u64, Coming)>,
    scheduled: u64,
    /// The last heartbeat and the last full report that reached the control plane since.
    beat: Option<Time>,
    report: Option<Time>,
    /// The last ones before, by the control plane's clock.
    before: (Stamp, Time),
}

impl Quiet {
    fn new(wake: Time, before: (Stamp, Time)) -> Self {
        Self {
            before,
            coming: vec![(wake, 0, Coming::Wake)],
            scheduled: 0,
            beat: None,
            report: None,
        }
    }

    fn push(&mut self, at: Time, coming: Coming) {
        self.scheduled += 1;
        self.coming.push((at, self.scheduled, coming));
    }

    /// Takes what comes first, if it comes before a moment.
    fn pop(&mut self, before: Time) -> Option<(Time, Coming)> {
        let first = self
            .coming
            .iter()
            .enumerate()
            .min_by_key(|(_, (at, order, _))| (*at, *order))
            .map(|(place, _)| place)?;
        if self.coming[first].0 >= before {
            return None;
        }
        let (at, _, coming) = self.coming.swap_remove(first);
        Some((at, coming))
    }

    /// Lets an agent live until a moment.
    fn advance(
        &mut self,
        agent: &mut Agent,
        (jitter, network): (&mut Stream, &mut Stream),
        until: Time,
    ) {
        while let Some((now, coming)) = self.pop(until) {
            match coming {
                Coming::Wake => {}
                Coming::Beat(back) => {
                    self.beat = Some(now);
                    self.push(now + back, Coming::Heard(Kind::Beat));
                    continue;
                }
                Coming::Report(back, _) => {
                    self.report = Some(now);
                    self.push(now + back, Coming::Heard(Kind::Send));
                    continue;
                }
                Coming::Heard(Kind::Beat) => agent.beaten(Outcome::Taken, now, jitter),
                Coming::Heard(_) => agent.sent(Outcome::Taken, now, jitter),
            }
            loop {
                match agent.next(now) {
                    Step::Wait(at) => {
                        // An earlier wake stands; a later one is found when that comes.
                        let wakes = |(at, _, coming): &(Time, u64, Coming)| {
                            matches!(coming, Coming::Wake).then_some(*at)
                        };
                        let wakes = self.coming.iter().find_map(wakes);
                        if at < Time::NEVER && wakes.is_none_or(|wake| at < wake) {
                            self.coming
                                .retain(|(_, _, coming)| !matches!(coming, Coming::Wake));
                            self.push(at, Coming::Wake);
                        }
                        break;
                    }
                    // The reading is the one that the control plane has.
                    Step::ReadAll => agent.read(Vec::new(), now, jitter),
                    Step::Beat => {
                        let way = Host::way_of(network, 0.0);
                        self.push(now + way.there, Coming::Beat(way.back));
                    }
                    Step::Send(report) => {
                        let way = Host::way_of(network, 0.0);
                        let coming = Coming::Report(way.back, report.sequence);
                        self.push(now + way.there, coming);
                    }
                    // A registered agent to which commands are pushed does neither.
                    Step::Register | Step::Poll => break,
                }
            }
        }
    }
}

impl Sim {
    /// Lets a machine fall quiet, if nothing is to be expected of it but what it said before.
    pub(crate) fn fall_quiet(&mut self, id: &ProviderInstanceId, wake: Time) {
        let now = self.now;
        let running = self.plane.process.is_some() && now >= self.plane.paused_until;
        let lossless = self.config.lost == 0.0 || !self.troubled;
        if !(self.config.bulk && running && lossless) {
            return;
        }
        let Some(host) = self.hosts.get_mut(id).filter(|host| host.is_steady(now)) else {
            return;
        };
        let (node, session) = (host.node(), host.session());
        let steady = self.seen.nodes.get(&node).is_some_and(|node| {
            node.session == session
                && node.silent_since.is_none()
                && node.holds.is_empty()
                && node.open_incidents.is_empty()
                && node.reported == HealthStatus::Healthy
        });
        let ordered = || self.orders.of(&node).next().is_some();
        let Some(process) = &mut self.plane.process else {
            return;
        };
        if !steady || self.by_node.get(&node) != Some(id) || ordered() {
            return;
        }
        // A control plane that started since waits for its first report.
        let Some(report) = process.fleet.vouch_for_reports(&node) else {
            return;
        };
        let stamp = process.stamp(now).core;
        let heard = process.liveness.vouch(&node);
        let in_time = |last: Time, interval: Duration, patience: Duration| {
            stamp.since(last) + interval.mul_f64(LONGEST_INTERVAL) + WAYS < patience
        };
        let settings = &self.settings;
        let stale = settings.health_check_interval * settings.guards.stale_report_intervals;
        match heard {
            Some(beat)
                if in_time(
                    beat.core,
                    settings.heartbeat_interval,
                    settings.heartbeat_timeout,
                ) && in_time(report, settings.health_check_interval, stale) =>
            {
                host.quiet = Some(Quiet::new(wake, (beat, report)));
                host.wake = None;
            }
            Some(beat) => {
                process.liveness.doubt(&node, beat);
                process.fleet.doubt_reports(&node, report);
            }
            None => process.fleet.doubt_reports(&node, report),
        }
    }

    /// Wakes a machine up: what it sent is known, and what is under way is in the queue.
    pub(crate) fn wake_up(&mut self, id: &ProviderInstanceId) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id).filter(|host| host.quiet.is_some()) else {
            return;
        };
        let (life, session) = (host.life, host.session());
        let (Some(mut quiet), Some(agent)) = (host.quiet.take(), &mut host.agent) else {
            return;
        };
        quiet.advance(agent, (&mut host.jitter, &mut host.network), now);
        if let Some(process) = &mut self.plane.process {
            let (beat, report) = quiet.before;
            let beat = quiet.beat.map_or(beat, |at| process.stamp(at));
            let report = quiet.report.map_or(report, |at| process.stamp(at).core);
            process.liveness.doubt(&host.spec.node, beat);
            process.fleet.doubt_reports(&host.spec.node, report);
        }
        quiet.coming.sort_by_key(|(at, order, _)| (*at, *order));
        for (at, _, coming) in quiet.coming {
            let event = match coming {
                Coming::Wake => {
                    host.wake = Some(at);
                    Event::Agent {
                        host: id.clone(),
                        life,
                    }
                }
                Coming::Beat(back) => {
                    host.under_way += 1;
                    let Some(session) = session.clone() else {
                        continue;
                    };
                    Event::Request {
                        host: id.clone(),
                        life,
                        call: Call::Beat(host.node(), session),
                        back: Some(back),
                    }
                }
                Coming::Report(back, sequence) => {
                    host.under_way += 1;
                    let facts = host.readings(now);
                    Event::Request {
                        host: id.clone(),
                        life,
                        call: Call::Send(Report {
                            node: Some(host.node()),
                            facts,
                            boot: Some(host.boot()),
                            session: session.clone(),
                            sequence,
                            full: true,
                            ..Report::default()
                        }),
                        back: Some(back),
                    }
                }
                Coming::Heard(kind) => {
                    host.under_way += 1;
                    Event::Heard {
                        host: id.clone(),
                        life,
                        kind,
                        answer: (Outcome::Taken, Vec::new()),
                    }
                }
            };
            self.queue.push(at, event);
        }
    }

    /// When each node last sent a heartbeat, as the control plane knows it or would know. Quiet
    /// machines live through their time for it, and stay quiet.
    pub(crate) fn beats(&mut self) -> BTreeMap<NodeId, Stamp> {
        let now = self.now;
        let Some(process) = &self.plane.process else {
            return BTreeMap::new();
        };
        let known = process.liveness.iter();
        let mut beats: BTreeMap<NodeId, Stamp> = known
            .filter_map(|(node, pulse)| Some((node.clone(), pulse.beat?)))
            .collect();
        for host in self.hosts.values_mut() {
            let (Some(quiet), Some(agent)) = (&mut host.quiet, &mut host.agent) else {
                continue;
            };
            quiet.advance(agent, (&mut host.jitter, &mut host.network), now);
            if let Some(beat) = quiet.beat {
                beats.insert(host.spec.node.clone(), process.stamp(beat));
            }
        }
        beats
    }

    /// Wakes every machine up, because the control plane or the network will not be what it was.
    pub(crate) fn wake_all(&mut self) {
        let quiet = self.hosts.iter().filter(|(_, host)| host.quiet.is_some());
        let quiet: Vec<ProviderInstanceId> = quiet.map(|(id, _)| id.clone()).collect();
        for id in quiet {
            self.wake_up(&id);
        }
    }

    /// Wakes the machine of a node up.
    pub(crate) fn wake_node(&mut self, node: &NodeId) {
        if self.config.bulk
            && let Some(id) = self.by_node.get(node).cloned()
        {
            self.wake_up(&id);
        }
    }

    /// Wakes the machine up that an input is about.
    pub(crate) fn wake_for(&mut self, input: &Input) {
        if !self.config.bulk {
            return;
        }
        let instance = match input {
            Input::By { input, .. } => {
                self.wake_for(input);
                return;
            }
            Input::Report(Report {
                node: Some(node), ..
            })
            | Input::Silent { node, .. }
            | Input::Back { node }
            | Input::Poll { node, .. }
            | Input::Acknowledge { node, .. }
            | Input::Command { node, .. }
            | Input::ConfirmDead { node, .. }
            | Input::AddHold { node, .. }
            | Input::RemoveHold { node, .. }
            | Input::DrainResult { node, .. }
            | Input::NotifyResult { node, .. }
            | Input::Act(
                Action::Drain { node, .. }
                | Action::AskDrained { node }
                | Action::Tell { node }
                | Action::CancelDrain { node },
            ) => {
                self.wake_node(&node.clone());
                return;
            }
            Input::Act(Action::Terminate { instance, .. })
            | Input::EndInstance { instance, .. } => instance,
            _ => return,
        };
        self.wake_node(&NodeId::new(instance.as_str()));
    }
}

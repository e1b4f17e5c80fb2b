//! Machines and their agents: boots, calls to the control plane, commands that are carried out.

use std::sync::Arc;
use std::time::Duration;

use navarch_core::agent::{CALL_LIMIT, Intervals, Outcome, Step};
use navarch_core::liveness::{Deaf, Transition};
use navarch_core::{Input, Registration, RejectionCode, Reply, Report};
use navarch_model::{
    CloudStatus, Command, CommandId, CommandState, NodeCommandType, NodeId, ProviderInstanceId,
    SessionId, Time,
};

use crate::machine::{Host, Spec, Told};
use crate::world::{Event, Sim};

/// What an agent asks of the control plane.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Register(Box<Registration>),
    Beat(NodeId, SessionId),
    Send(Report),
    Poll(NodeId, Option<SessionId>),
    /// What was carried out, and whether all was well.
    Acknowledge(NodeId, CommandId, bool),
}

/// The kinds of calls, for their answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Register,
    Beat,
    Send,
    Poll,
    Acknowledge,
}

impl Kind {
    /// How long the agent waits for an answer, as the real one does.
    fn limit(self, intervals: Intervals) -> Duration {
        match self {
            Self::Beat => intervals.beat_limit(),
            Self::Register | Self::Send | Self::Poll | Self::Acknowledge => CALL_LIMIT,
        }
    }
}

/// What an agent hears: how its call ended, and what it is to do.
pub(crate) type Answer = (Outcome, Vec<Arc<Command>>);

impl Sim {
    pub(crate) fn boot(&mut self, id: &ProviderInstanceId) {
        // One that was repaired twice boots again while it runs.
        self.wake_up(id);
        let (now, bug) = (self.now, self.config.bug);
        let host = match self.hosts.get_mut(id) {
            Some(host) if host.dead || host.off => return,
            Some(host) => host,
            None => {
                let Some(spec) = self.rented_spec(id) else {
                    return;
                };
                self.power_on(id, spec)
            }
        };
        host.start_agent(now, bug);
        let life = host.life;
        self.note("host", format_args!("{id} boots"));
        self.check_losses(id);
        self.enters(id);
        self.wake_agent(id, life);
    }

    /// What a machine of the cloud is, while it is there and tagged.
    pub(crate) fn rented_spec(&self, id: &ProviderInstanceId) -> Option<Spec> {
        let rented = self.cloud.machines.get(id)?;
        let instance = rented.instance.clone().filter(|_| rented.is_alive())?;
        let pool = rented.pool.clone();
        let gpus = pool.as_ref().and_then(|pool| {
            let mut offerings = self.settings.pools.get(pool)?.offerings.iter();
            let bought = offerings.find(|one| {
                one.offering.provider.as_str() == rented.place.provider
                    && one.offering.instance_type == rented.instance_type
            });
            bought?.gpus
        });
        Some(Spec {
            node: NodeId::new(instance.as_str()),
            instance: Some(instance),
            pool,
            place: rented.place.clone(),
            instance_type: rented.instance_type.clone(),
            gpus: gpus.unwrap_or(1),
            gpu_type: "fake".to_owned(),
            labels: [].into(),
        })
    }

    /// A machine that was not there before is switched on.
    pub(crate) fn power_on(&mut self, id: &ProviderInstanceId, spec: Spec) -> &mut Host {
        let streams = (
            self.network.child(id.as_str()),
            self.network.child(&format!("{id} calls")),
        );
        let host = Host::new(spec, streams, &self.config);
        self.by_node.insert(host.node(), id.clone());
        self.hosts.entry(id.clone()).or_insert(host)
    }

    /// A machine is gone, and everything on it.
    pub(crate) fn gone(&mut self, id: &ProviderInstanceId, status: CloudStatus) {
        let now = self.now;
        self.wake_up(id);
        if !self.cloud.end(id, status, now) {
            return;
        }
        self.story_gone(id, status.word());
        if let Some(host) = self.hosts.remove(id)
            && self.by_node.get(&host.node()) == Some(id)
        {
            self.by_node.remove(&host.node());
        }
        self.note("cloud", format_args!("{id} is gone ({})", status.word()));
    }

    /// An agent starts again on a machine that goes on.
    pub(crate) fn restart_agent(&mut self, id: &ProviderInstanceId) {
        let now = self.now;
        self.wake_up(id);
        let Some(host) = self.hosts.get_mut(id).filter(|host| host.agent.is_some()) else {
            return;
        };
        host.start_agent(now, self.config.bug);
        let life = host.life;
        let soon = now + Duration::from_secs(1);
        let host = id.clone();
        self.queue.push(soon, Event::Agent { host, life });
        self.check_losses(id);
    }

    /// P10: an event that no control plane heard is kept, or its loss is told.
    fn check_losses(&mut self, id: &ProviderInstanceId) {
        let lost = self.hosts.get(id).and_then(Host::untold_losses);
        if let Some(what) = lost {
            self.violated("P10 a loss is told", format!("{id}: {what}"));
        }
    }

    pub(crate) fn wake_agent(&mut self, id: &ProviderInstanceId, life: u64) {
        let now = self.now;
        loop {
            let Some(host) = self.hosts.get_mut(id).filter(|host| host.life == life) else {
                return;
            };
            if host.quiet.is_some() {
                return;
            }
            let Some(agent) = &mut host.agent else { return };
            let call = match agent.next(now) {
                Step::Wait(at) => {
                    self.fall_quiet(id, at);
                    let Some(host) = self.hosts.get_mut(id) else {
                        return;
                    };
                    if host.quiet.is_some() {
                        return;
                    }
                    if at < Time::NEVER && host.wake.is_none_or(|wake| wake <= now || at < wake) {
                        host.wake = Some(at);
                        let host = id.clone();
                        self.queue.push(at, Event::Agent { host, life });
                    }
                    return;
                }
                Step::ReadAll => {
                    host.read(now);
                    continue;
                }
                Step::Register => Call::Register(Box::new(host.registration())),
                Step::Beat => {
                    let session = agent.session().clone();
                    Call::Beat(host.node(), session)
                }
                Step::Send(report) => Call::Send(host.report(report, now)),
                Step::Poll => Call::Poll(host.node(), host.session()),
            };
            self.send(id, life, call);
        }
    }

    fn send(&mut self, id: &ProviderInstanceId, life: u64, call: Call) {
        let lost = if self.troubled { self.config.lost } else { 0.0 };
        let Some(host) = self.hosts.get_mut(id) else {
            return;
        };
        let cut = self.now < host.cut_until;
        let limit = call.kind().limit(host.intervals());
        let way = host.way(lost);
        host.under_way += 1;
        let kind = call.kind();
        let host = id.clone();
        if cut || way.request_lost || way.reply_lost {
            let failed = Event::Heard {
                host: host.clone(),
                life,
                kind,
                answer: (Outcome::Failed, Vec::new()),
            };
            self.queue.push(self.now + limit, failed);
        }
        if cut || way.request_lost {
            return;
        }
        let request = Event::Request {
            host,
            life,
            call,
            back: (!way.reply_lost).then_some(way.back),
        };
        self.queue.push(self.now + way.there, request);
    }

    pub(crate) fn request(
        &mut self,
        host: ProviderInstanceId,
        life: u64,
        call: Call,
        mut back: Option<Duration>,
    ) {
        let kind = call.kind();
        let limit = kind.limit(
            self.hosts
                .get(&host)
                .map_or_else(Intervals::default, Host::intervals),
        );
        let failed = Event::Heard {
            host: host.clone(),
            life,
            kind,
            answer: (Outcome::Failed, Vec::new()),
        };
        if self.plane.process.is_none() {
            if let Some(back) = back {
                self.queue.push(self.now + back, failed);
            }
            return;
        }
        if self.now < self.plane.paused_until {
            let at = self.plane.paused_until;
            if back.is_some() && at.since(self.now) > limit {
                self.queue.push(self.now + limit, failed);
                back = None;
            }
            let request = Event::Request {
                host,
                life,
                call,
                back,
            };
            self.queue.push(at, request);
            return;
        }
        let answer = self.serve(&host, call);
        match (answer, back) {
            (Some(answer), Some(back)) => {
                let heard = Event::Heard {
                    host,
                    life,
                    kind,
                    answer,
                };
                self.queue.push(self.now + back, heard);
            }
            (None, Some(_)) => self.queue.push(self.now + limit, failed),
            (_, None) => {}
        }
    }

    /// Serves a call as the handlers do; none when the process died first.
    fn serve(&mut self, from: &ProviderInstanceId, call: Call) -> Option<Answer> {
        // One that its agent gave up long ago may come while its machine is quiet.
        self.wake_up(from);
        let done = |outcome| Some((outcome, Vec::new()));
        match call {
            Call::Register(registration) => {
                let (node, session) = (registration.node.clone()?, registration.session.clone());
                let replies = self.turn(vec![Input::Register(*registration)])?;
                let outcome = outcome(replies.first()?);
                let stored = self.seen.nodes.get(&node);
                let silent = stored.is_some_and(|node| node.silent_since.is_some());
                let incarnation = stored.map_or(1, |node| node.incarnation);
                let now = self.now;
                let process = self.plane.process.as_mut()?;
                if outcome == Outcome::Taken {
                    let stamp = process.stamp(now);
                    let liveness = &mut process.liveness;
                    liveness.register(node.clone(), session, incarnation, silent, stamp);
                    self.push_commands(&node);
                }
                done(outcome)
            }
            Call::Beat(node, session) => {
                let now = self.now;
                let process = self.plane.process.as_mut()?;
                let stamp = process.stamp(now);
                match process
                    .liveness
                    .beat(node.as_str(), Some(session.as_str()), None, stamp)
                {
                    Ok(None) => done(Outcome::Taken),
                    Ok(Some(Transition::Back(node))) => {
                        self.turn(vec![Input::Back { node }])?;
                        done(Outcome::Taken)
                    }
                    Ok(Some(Transition::Silent(..))) => done(Outcome::Taken),
                    Err(Deaf::Unknown) => done(Outcome::Unknown),
                    Err(Deaf::Superseded) => done(Outcome::Superseded),
                }
            }
            Call::Send(report) => {
                let told = Told::of(&report);
                let (node, full) = (report.node.clone(), report.full);
                let before = self.changed;
                let replies = self.turn(vec![Input::Report(report)])?;
                let outcome = outcome(replies.first()?);
                if outcome == Outcome::Taken {
                    let settled = full && self.changed == before;
                    if let Some(host) = self.hosts.get_mut(from) {
                        host.told(told);
                        host.settled = settled;
                    }
                    // The agent's stream stands again: what waits is pushed.
                    if let (Some(node), true) = (node, full) {
                        self.push_commands(&node);
                    }
                }
                done(outcome)
            }
            Call::Poll(node, session) => {
                let replies = self.turn(vec![Input::Poll { node, session }])?;
                let reply = replies.into_iter().next()?;
                let outcome = outcome(&reply);
                match reply {
                    Ok(Reply::Commands(commands)) => Some((outcome, commands)),
                    _ => done(outcome),
                }
            }
            Call::Acknowledge(node, command, well) => {
                let input = Input::Acknowledge {
                    node,
                    command,
                    state: if well {
                        CommandState::Succeeded
                    } else {
                        CommandState::Failed
                    },
                    result: if well { "passed" } else { "wrong results" }.to_owned(),
                };
                let replies = self.turn(vec![input])?;
                done(outcome(replies.first()?))
            }
        }
    }

    pub(crate) fn heard(
        &mut self,
        id: &ProviderInstanceId,
        life: u64,
        kind: Kind,
        (outcome, commands): Answer,
    ) {
        let now = self.now;
        let intervals = self.intervals();
        let Some(host) = self.hosts.get_mut(id).filter(|host| host.life == life) else {
            return;
        };
        host.under_way = host.under_way.saturating_sub(1);
        let Some(agent) = &mut host.agent else { return };
        let ids = &mut host.jitter;
        match kind {
            Kind::Register => agent.registered(outcome, Some(intervals), now, ids),
            Kind::Beat => agent.beaten(outcome, now, ids),
            Kind::Send => agent.sent(outcome, now, ids),
            Kind::Poll => agent.polled(outcome, now, ids),
            Kind::Acknowledge => {}
        }
        self.take_commands(id, commands);
        self.wake_agent(id, life);
    }

    /// How often agents are told to beat and to report.
    pub(crate) fn intervals(&self) -> Intervals {
        Intervals {
            beat: self.settings.heartbeat_interval,
            full: self.settings.health_check_interval,
        }
    }

    // Commands.

    /// Commands that wait for a node whose agent listens go out to it.
    pub(crate) fn push_commands(&mut self, node: &NodeId) {
        let waits = self.orders.of(node).any(|id| {
            let command = self.seen.commands.get(id);
            command.is_some_and(|command| command.kind == NodeCommandType::RunDiagnostic)
        });
        let Some(host) = self.by_node.get(node).cloned().filter(|_| waits) else {
            return;
        };
        let Some(at) = self.hosts.get_mut(&host) else {
            return;
        };
        if self.config.polls {
            return;
        }
        let way = at.way(0.0);
        self.queue.push(self.now + way.there, Event::Push(host));
    }

    /// What waits for a machine is handed over its stream, if that stands.
    pub(crate) fn push(&mut self, id: &ProviderInstanceId) {
        let now = self.now;
        if self.plane.process.is_none() || now < self.plane.paused_until {
            return;
        }
        self.wake_up(id);
        let Some(host) = self.hosts.get(id) else {
            return;
        };
        let Some(agent) = &host.agent else { return };
        if now < host.cut_until || !agent.is_registered() {
            return;
        }
        let (node, session) = (host.node(), host.session());
        let replies = self.turn(vec![Input::Poll { node, session }]);
        let reply = replies.and_then(|replies| replies.into_iter().next());
        if let Some(Ok(Reply::Commands(commands))) = reply {
            self.take_commands(id, commands);
        }
    }

    /// An agent takes commands on: new ones are carried out, finished ones are answered again.
    fn take_commands(&mut self, id: &ProviderInstanceId, commands: Vec<Arc<Command>>) {
        for command in commands {
            let Some(host) = self.hosts.get_mut(id) else {
                return;
            };
            let life = host.life;
            let Some(agent) = &host.agent else { return };
            if !agent.is_new(&command.id) {
                let call = Call::Acknowledge(host.node(), command.id.clone(), !host.faults.corrupt);
                self.send(id, life, call);
                continue;
            }
            if !host.running.insert(command.id.clone()) {
                continue;
            }
            let takes = host.network.between(1_000, 90_000);
            let ran = Event::Ran {
                host: id.clone(),
                life,
                command: command.id.clone(),
            };
            self.queue.push(self.now + takes, ran);
        }
    }

    /// A command was carried out. What an agent finished it does not do again.
    pub(crate) fn ran(&mut self, id: &ProviderInstanceId, life: u64, command: CommandId) {
        let Some(host) = self.hosts.get_mut(id).filter(|host| host.life == life) else {
            return;
        };
        let Some(agent) = &mut host.agent else { return };
        agent.finish(command.clone());
        host.running.remove(&command);
        let (node, well) = (host.node(), !host.faults.corrupt);
        if !host.done.insert(command.clone()) {
            let what = format!("{command} was carried out twice on {node}");
            self.violated("a command is carried out once", what);
            return;
        }
        self.send(id, life, Call::Acknowledge(node, command, well));
    }
}

impl Call {
    const fn kind(&self) -> Kind {
        match self {
            Self::Register(_) => Kind::Register,
            Self::Beat(..) => Kind::Beat,
            Self::Send(_) => Kind::Send,
            Self::Poll(..) => Kind::Poll,
            Self::Acknowledge(..) => Kind::Acknowledge,
        }
    }
}

/// What an agent makes of a reply.
fn outcome(reply: &Result<Reply, navarch_core::Rejection>) -> Outcome {
    match reply {
        Ok(_) => Outcome::Taken,
        Err(rejection) => match rejection.code {
            RejectionCode::NotFound => Outcome::Unknown,
            RejectionCode::InvalidArgument => Outcome::Refused,
            RejectionCode::FailedPrecondition if rejection.message.contains("superseded") => {
                Outcome::Superseded
            }
            RejectionCode::FailedPrecondition | RejectionCode::AlreadyExists => Outcome::Failed,
        },
    }
}

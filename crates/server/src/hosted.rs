//! The API of a fleet that somebody else drives: the same door, handlers and pages as a control
//! plane's own, without its loop, store, providers and files.
//!
//! Whoever drives the fleet sits at the [`Desk`]. It takes what callers ask, applies it wherever
//! the fleet is, publishes what changed, and answers. A handler that was answered reads what is
//! published, so that the order matters.

use std::net::SocketAddr;
use std::sync::{Arc, RwLock};

use navarch_config::Config;
use navarch_core::{Input, PlanReport, Rejection, RejectionCode, Reply, Settings};
use navarch_model::{Change, NodeId, Stamp, State};
use navarch_policy::HealthPolicy;
use navarch_store::History;
use navarch_time::{CancellationToken, SharedClock, TaskFailure};
use tokio::sync::mpsc;

use crate::app::StartError;
use crate::archive::Archive;
use crate::door::{Door, OpenDoor};
use crate::faults::Faults;
use crate::fleet::{
    Answer, FleetClock, FleetHandle, Job, Jobs, PRIORITY_QUEUE, SubmitError, ToldTime,
};
use crate::handlers::{ConfigText, Handlers, NodeParts, PolicyText};
use crate::notifier::Notifiers;
use crate::publish::Published;

pub use crate::faults::{FaultOrder, FaultRefusal, Ordered};

/// What a hosted API is started with.
pub struct Options {
    /// The configuration that the fleet goes by. Of it, the address, the tokens, the certificate
    /// and the limits are the API's.
    pub config: Config,
    /// Where it came from, for people; empty if it was nowhere.
    pub source: String,
    /// The settings of the fleet.
    pub settings: Arc<Settings>,
    /// The health policy of the fleet, and its text.
    pub policy: (Arc<HealthPolicy>, String),
    /// The fleet as it is.
    pub state: State,
    /// The present moment of the fleet.
    pub now: Stamp,
    /// The record of the fleet.
    pub history: Box<dyn History>,
    /// Listen without a token on an address that others can reach.
    pub insecure_no_auth: bool,
    /// Measures what is not of the fleet: how long callers wait, and how often they may call.
    pub clock: SharedClock,
}

/// An API that serves.
pub struct Hosted {
    door: OpenDoor,
    handlers: Arc<Handlers>,
}

impl Hosted {
    /// Starts to serve. Nobody is answered who wants to change something until somebody sits at
    /// the desk.
    ///
    /// # Errors
    ///
    /// See [`StartError`]; nothing is left running.
    pub async fn start(options: Options) -> Result<(Self, Desk), StartError> {
        let Options {
            config,
            source,
            settings,
            policy: (policy, text),
            state,
            now,
            history,
            insecure_no_auth,
            clock,
        } = options;
        // Whoever drives the fleet tells its scheduler.
        let notifiers = Notifiers::none(Arc::clone(&clock));
        let door = Door::make(&config, None, insecure_no_auth, &clock).await?;
        let archive = Archive::start(Arc::from(history)).map_err(StartError::Thread)?;
        let published = Arc::new(Published::new(state, settings, Arc::clone(&policy)));
        let time = ToldTime::new(now);
        let (fleet, jobs) = FleetHandle::new(PRIORITY_QUEUE);
        let (faults, orders) = Faults::driven();
        let handlers = Arc::new(Handlers {
            fleet,
            published: Arc::clone(&published),
            time: FleetClock::told(clock, time.clone()),
            calls: Arc::default(),
            archive: Arc::new(archive),
            faults,
            policy: Arc::new(RwLock::new(PolicyText {
                policy,
                text,
                loaded: now,
                refused: None,
            })),
            config: Arc::new(RwLock::new(ConfigText {
                source,
                text: config.to_yaml(),
                loaded: now,
                refused: None,
            })),
            started: now,
            closing: CancellationToken::new(),
            listed: NodeParts::default(),
            limits: Arc::clone(&door.limits),
            notifiers: Arc::new(notifiers),
        });
        let door = door.open(&handlers, &config);
        let desk = Desk {
            jobs,
            orders,
            published,
            time,
        };
        Ok((Self { door, handlers }, desk))
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.door.address
    }

    /// Its URL for callers on this machine.
    pub fn url(&self) -> &str {
        &self.door.url
    }

    /// What all handlers share.
    pub const fn handlers(&self) -> &Arc<Handlers> {
        &self.handlers
    }

    /// Completes when a task panicked, which must end the process: the rest would go on without
    /// it.
    pub async fn failed(&self) -> TaskFailure {
        self.door.failed().await
    }

    /// Ends streams, then open requests. Leave the desk before: nobody is answered any more.
    pub async fn stop(self) {
        self.door.close().await;
    }
}

/// Where whoever drives a fleet takes what is asked of it, and says what became of it.
pub struct Desk {
    jobs: Jobs,
    orders: mpsc::Receiver<FaultOrder>,
    published: Arc<Published>,
    time: ToldTime,
}

/// What is asked of a fleet.
#[derive(Debug)]
pub enum Asked {
    /// A person, or a program that acts for one, asks for something.
    Operator(Input, Waits),
    /// An agent tells or asks something.
    Agent(Input, Waits),
    /// A machine is to break, or to be repaired.
    Fault(FaultOrder),
}

/// Who waits for an answer, if anybody does.
pub struct Waits(Option<Answer>);

impl std::fmt::Debug for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Waits").field(&self.0.is_some()).finish()
    }
}

impl Waits {
    /// Refuses what makes no sense in this fleet.
    pub fn refuse(self, why: &str) {
        self.answer(Err(SubmitError::Rejected(Rejection {
            code: RejectionCode::FailedPrecondition,
            message: why.to_owned(),
        })));
    }

    /// Answers. What the answer tells of must be published.
    pub fn answer(self, answer: Result<Reply, SubmitError>) {
        if let Some(waits) = self.0 {
            // The caller may be gone; the change stays.
            drop(waits.send(answer));
        }
    }
}

impl Desk {
    /// Waits until something is asked. What operators ask comes first.
    pub async fn next(&mut self) -> Asked {
        let Job { input, answer } = tokio::select! {
            biased;
            Some(job) = self.jobs.priority.recv() => job,
            Some(order) = self.orders.recv() => return Asked::Fault(order),
            Some(job) = self.jobs.agents.recv() => job,
            // The handlers are gone, and nobody asks any more.
            else => std::future::pending().await,
        };
        match input {
            Input::By { .. } => Asked::Operator(input, Waits(answer)),
            _ => Asked::Agent(input, Waits(answer)),
        }
    }

    /// The fleet was loaded: readers see it as it is.
    pub fn loaded(&self, state: State, now: Stamp) {
        self.published.pulses.load(&state, now);
        self.published.replace(state);
    }

    /// Publishes durable changes of one turn.
    pub fn changed(&self, changes: &[Change], now: Stamp) {
        self.published.apply(changes, now);
        crate::journal::log(changes);
    }

    /// Publishes what a plan found.
    pub fn planned(&self, report: PlanReport) {
        self.published.set_report(report);
    }

    /// Publishes when nodes last sent a heartbeat.
    pub fn heard(&self, beats: impl IntoIterator<Item = (NodeId, Stamp)>) {
        for (node, beat) in beats {
            self.published.pulses.heard(&node, beat);
        }
    }

    /// Says what time it is in the fleet, and whether it can be changed now.
    pub fn is(&self, now: Stamp, takes_changes: bool) {
        self.time.set(now);
        self.published.set_failing(!takes_changes);
    }
}

//! The handlers: a checked request becomes an input or a query, an answer becomes a message.

mod agents;
mod control_plane;
mod dev;
mod events;
mod fleet;
mod holds;
mod incidents;
mod machines;
mod names;
mod notices;
pub mod pools;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use navarch_api::service::{Call, Observer};
use navarch_api::wire::NodeInfo;
use navarch_api::{ApiError, Code, Part};
use navarch_core::{Actor, Input, Reply};
use navarch_model::{Node, NodeId, SessionId, Stamp};
use navarch_policy::HealthPolicy;
use navarch_store::StoreError;
use navarch_time::CancellationToken;

use crate::access::Caller;
use crate::archive::Archive;
use crate::effects::QueueLengths;
use crate::faults::Faults;
use crate::fleet::{FleetClock, FleetHandle, SubmitError};
use crate::limits::{Limits, Refusal};
use crate::notifier::Notifiers;
use crate::publish::Published;

/// How often a quiet stream says that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The health policy in force with its text, and what became of a newer one.
#[derive(Debug, Clone)]
pub struct PolicyText {
    /// The rules.
    pub policy: Arc<HealthPolicy>,
    /// The whole text.
    pub text: String,
    /// When the fleet took it.
    pub loaded: Stamp,
    /// Why a newer text is not in force, and since when.
    pub refused: Option<(Stamp, String)>,
}

/// The configuration in force, and what became of a newer one.
#[derive(Debug, Clone)]
pub struct ConfigText {
    /// Its file, if it has one.
    pub source: String,
    /// Every key that has an effect, with its value and no secret, in YAML.
    pub text: String,
    /// When the fleet took it.
    pub loaded: Stamp,
    /// Why a newer one is not in force, and since when.
    pub refused: Option<(Stamp, Vec<String>)>,
}

/// What all handlers share.
pub struct Handlers {
    /// Feeds the fleet.
    pub fleet: FleetHandle,
    /// Reads it.
    pub published: Arc<Published>,
    /// Its time.
    pub time: FleetClock,
    /// How many calls wait for each provider.
    pub calls: Arc<QueueLengths>,
    /// Reads what was committed, records that left memory included.
    pub archive: Arc<Archive>,
    /// Where faults of machines are ordered.
    pub(crate) faults: Faults,
    /// The health policy with its text.
    pub policy: Arc<RwLock<PolicyText>>,
    /// The configuration.
    pub config: Arc<RwLock<ConfigText>>,
    /// When this control plane started.
    pub started: Stamp,
    /// Told when streams must end.
    pub closing: CancellationToken,
    /// Nodes as they were last listed.
    pub listed: NodeParts,
    /// How often each may call.
    pub(crate) limits: Arc<Limits>,
    /// Who is told of nodes.
    pub(crate) notifiers: Arc<Notifiers>,
}

/// Nodes as they were last listed, encoded: most lists differ from the one before in few nodes.
#[derive(Debug, Default)]
pub struct NodeParts(Mutex<BTreeMap<NodeId, Listed>>);

/// One node as it was last listed.
#[derive(Debug)]
struct Listed {
    node: Arc<Node>,
    beat: Option<Stamp>,
    part: Part<NodeInfo>,
}

impl NodeParts {
    /// The parts of a list of `nodes`. A node is encoded again only when it changed or beat.
    fn of(&self, nodes: &[Arc<Node>], handlers: &Handlers) -> Vec<Part<NodeInfo>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = handlers.published.read(|state| state.nodes.len());
        if known.len() > 2 * all + 1024 {
            // Nodes that are gone: rather encode once more than keep them for ever.
            known.clear();
        }
        nodes
            .iter()
            .map(|node| {
                let beat = handlers.published.pulses.last_beat(&node.id);
                if let Some(listed) = known.get(&node.id)
                    && listed.beat == beat
                    && Arc::ptr_eq(&listed.node, node)
                {
                    return listed.part.clone();
                }
                let part = Part::new(handlers.node_info(node));
                let listed = Listed {
                    node: Arc::clone(node),
                    beat,
                    part: part.clone(),
                };
                known.insert(node.id.clone(), listed);
                part
            })
            .collect()
    }
}

impl Observer for Handlers {
    fn begun(&self) -> Duration {
        self.time.clock().monotonic()
    }

    fn ended(&self, call: usize, begun: Duration, code: Option<Code>) {
        let took = self.time.clock().monotonic().saturating_sub(begun);
        self.published.meters.call(call, took, code);
    }
}

impl Handlers {
    async fn ask(&self, input: Input) -> Result<Reply, ApiError> {
        self.fleet.submit(input).await.map_err(refused)
    }

    /// Feeds what a person or a program asked for: the events that it leads to say who.
    async fn order(&self, call: &Call, input: Input) -> Result<Reply, ApiError> {
        let actor = call.extension::<Caller>().map(|caller| Actor {
            name: caller.name().to_owned(),
            address: caller.address().to_string(),
        });
        let actor = actor.unwrap_or_default();
        let input = Box::new(input);
        self.ask(Input::By { actor, input }).await
    }

    async fn ask_for_agent(&self, input: Input) -> Result<Reply, ApiError> {
        if let Some(node) = speaker(&input) {
            self.limits.node_call(node)?;
        }
        let answer = self.fleet.submit_agent(input).await;
        if matches!(answer, Err(SubmitError::Overloaded)) {
            self.limits.count(Refusal::Overloaded);
        }
        answer.map_err(refused)
    }

    /// One node, in memory or on record.
    async fn find_node(&self, id: &NodeId) -> Result<Arc<Node>, ApiError> {
        if let Some(node) = self.published.node(id) {
            return Ok(node);
        }
        let wanted = id.clone();
        let read = self.archive.read(move |history| history.node(&wanted));
        match read.await.map_err(|error| unreadable(&error))? {
            Some(node) => Ok(node),
            None => Err(self.unknown_node(id)),
        }
    }

    fn unknown_node(&self, id: &NodeId) -> ApiError {
        ApiError::not_found(format!("node not found: {id}"))
    }

    fn node_info(&self, node: &Node) -> navarch_api::wire::NodeInfo {
        let beat = self.published.pulses.last_beat(&node.id);
        navarch_api::convert::node(node, beat, self.time.now())
    }

    fn config_text(&self) -> ConfigText {
        self.config
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn policy_text(&self) -> PolicyText {
        self.policy
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Refuses the agent of an earlier session: another one registered under its id since. An agent
/// of the Go project names no session and is not refused.
fn current(
    published: &Published,
    node: &NodeId,
    session: Option<&SessionId>,
) -> Result<(), ApiError> {
    let superseded = published.node(node).is_some_and(|known| {
        session.is_some() && known.terminated.is_none() && known.session.as_ref() != session
    });
    if superseded {
        return Err(superseded_session(node));
    }
    Ok(())
}

fn superseded_session(node: &NodeId) -> ApiError {
    ApiError::failed_precondition(format!(
        "session superseded: another agent registered as {node} since"
    ))
}

/// The node whose agent sent an input.
fn speaker(input: &Input) -> Option<&NodeId> {
    match input {
        Input::Register(registration) => registration.node.as_ref(),
        Input::Report(report) => report.node.as_ref(),
        Input::Acknowledge { node, .. } | Input::Poll { node, .. } => Some(node),
        _ => None,
    }
}

fn refused(error: SubmitError) -> ApiError {
    match error {
        SubmitError::Rejected(rejection) => rejection.into(),
        SubmitError::Overloaded => {
            ApiError::resource_exhausted(error.to_string()).retry_after(Duration::from_secs(1))
        }
        SubmitError::Unavailable(_) => ApiError::unavailable(error.to_string()),
    }
}

fn unreadable(error: &StoreError) -> ApiError {
    tracing::error!(%error, "the store cannot be read");
    ApiError::internal("the store cannot be read; the server's log says why")
}

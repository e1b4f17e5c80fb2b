//! What operators ask and order.

use std::collections::BTreeMap;

use navarch_model::{
    Automation, Event, EventKind, Incident, IncidentId, Instance, InstanceId, InstanceState, Node,
    NodeCommandType, NodeId, NodeStatus, PoolName,
};

use crate::limits::MAX_KINDS;
use crate::{ApiError, check, v1, wire};

/// Which nodes are wanted. What is empty or none wants every one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeQuery {
    /// Exactly this provider.
    pub provider: String,
    /// Exactly this region.
    pub region: String,
    /// This status.
    pub status: Option<NodeStatus>,
    /// This pool.
    pub pool: Option<PoolName>,
    /// Every one of these labels.
    pub labels: BTreeMap<String, String>,
}

impl NodeQuery {
    /// Whether a node is wanted.
    pub fn matches(&self, node: &Node) -> bool {
        let said = &*node.description;
        (self.provider.is_empty() || self.provider == said.provider)
            && (self.region.is_empty() || self.region == said.region)
            && self.status.is_none_or(|status| status == node.status())
            && (self.pool.is_none() || self.pool == node.pool)
            && self
                .labels
                .iter()
                .all(|(key, value)| said.labels.get(key) == Some(value))
    }
}

/// Which nodes are wanted.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn nodes(request: wire::ListNodesRequest) -> Result<NodeQuery, ApiError> {
    let status = check::word("status", &request.status, NodeStatus::ALL, |status| {
        (status.number(), status.short())
    })?;
    Ok(NodeQuery {
        provider: check::name("provider", request.provider)?,
        region: check::name("region", request.region)?,
        status: Some(status).filter(|status| *status != NodeStatus::Unknown),
        pool: check::optional_id("pool", &request.pool, PoolName::parse)?,
        labels: check::entries("labels", request.labels)?,
    })
}

/// Which node is wanted.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn node(request: &wire::GetNodeRequest) -> Result<NodeId, ApiError> {
    check::id("node_id", &request.node_id, NodeId::parse)
}

/// Which instances are wanted. What is empty or none wants every one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InstanceQuery {
    /// Exactly this provider.
    pub provider: String,
    /// Exactly this region.
    pub region: String,
    /// This state.
    pub state: Option<InstanceState>,
    /// This pool.
    pub pool: Option<PoolName>,
}

impl InstanceQuery {
    /// Whether an instance is wanted.
    pub fn matches(&self, instance: &Instance) -> bool {
        let bought = &instance.offering;
        (self.provider.is_empty() || self.provider == bought.provider.as_str())
            && (self.region.is_empty() || self.region == bought.region)
            && self
                .state
                .is_none_or(|state| state == instance.phase.on_wire())
            && self.pool.as_ref().is_none_or(|pool| *pool == instance.pool)
    }
}

/// Which instances are wanted.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn instances(request: wire::ListInstancesRequest) -> Result<InstanceQuery, ApiError> {
    let state = check::word("state", &request.state, InstanceState::ALL, |state| {
        (state.number(), state.short())
    })?;
    Ok(InstanceQuery {
        provider: check::name("provider", request.provider)?,
        region: check::name("region", request.region)?,
        state: Some(state).filter(|state| *state != InstanceState::Unknown),
        pool: check::optional_id("pool_name", &request.pool_name, PoolName::parse)?,
    })
}

/// Which instance is wanted.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn instance(request: &wire::GetInstanceRequest) -> Result<InstanceId, ApiError> {
    check::id("instance_id", &request.instance_id, InstanceId::parse)
}

/// A command for one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOrder {
    /// The node.
    pub node: NodeId,
    /// What to do; never unknown.
    pub kind: NodeCommandType,
    /// How.
    pub parameters: BTreeMap<String, String>,
}

/// A command for one node.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn command(request: wire::IssueCommandRequest) -> Result<CommandOrder, ApiError> {
    let node = check::id("node_id", &request.node_id, NodeId::parse)?;
    if request.command_type.to_i32() == NodeCommandType::Unknown.number() {
        return Err(ApiError::invalid_argument("command_type is required"));
    }
    let kinds: Vec<_> = NodeCommandType::ALL
        .iter()
        .copied()
        .filter(|kind| *kind != NodeCommandType::Unknown)
        .collect();
    Ok(CommandOrder {
        node,
        kind: check::word("command_type", &request.command_type, &kinds, |kind| {
            (kind.number(), kind.short())
        })?,
        parameters: check::entries("parameters", request.parameters)?,
    })
}

/// Which events are wanted. What is empty or none wants every one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventQuery {
    /// About this node.
    pub node: Option<NodeId>,
    /// About this instance.
    pub instance: Option<InstanceId>,
    /// About this pool.
    pub pool: Option<PoolName>,
    /// About this incident.
    pub incident: Option<IncidentId>,
    /// One of these kinds.
    pub kinds: Vec<EventKind>,
}

impl EventQuery {
    /// Whether an event is wanted.
    pub fn matches(&self, event: &Event) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, subject: Option<&T>) -> bool {
            wanted.is_none() || wanted == subject
        }
        let about = &event.subject;
        is(self.node.as_ref(), about.node.as_ref())
            && is(self.instance.as_ref(), about.instance.as_ref())
            && is(self.pool.as_ref(), about.pool.as_ref())
            && is(self.incident.as_ref(), about.incident.as_ref())
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
    }
}

fn event_query(filter: Option<v1::EventFilter>) -> Result<EventQuery, ApiError> {
    let filter = filter.unwrap_or_default();
    check::count("filter.kinds", filter.kinds.len(), MAX_KINDS)?;
    let mut kinds = Vec::new();
    for wanted in &filter.kinds {
        let family = wanted.trim_end_matches(".*").trim_end_matches('.');
        let before = kinds.len();
        kinds.extend(EventKind::ALL.iter().copied().filter(|kind| {
            let word = kind.word();
            word == family
                || word
                    .strip_prefix(family)
                    .is_some_and(|rest| rest.starts_with('.'))
        }));
        if kinds.len() == before {
            let shown: String = wanted.chars().take(40).collect();
            let mut families: Vec<_> = EventKind::ALL
                .iter()
                .filter_map(|kind| kind.word().split('.').next())
                .collect();
            families.sort_unstable();
            families.dedup();
            return Err(ApiError::invalid_argument(format!(
                "filter.kinds has {shown:?}, which is no kind of event; kinds begin with {}",
                families.join(", ")
            )));
        }
    }
    Ok(EventQuery {
        node: check::optional_id("filter.node_id", &filter.node_id, NodeId::parse)?,
        instance: check::optional_id("filter.instance_id", &filter.instance_id, InstanceId::parse)?,
        pool: check::optional_id("filter.pool", &filter.pool, PoolName::parse)?,
        incident: check::optional_id("filter.incident_id", &filter.incident_id, IncidentId::parse)?,
        kinds,
    })
}

/// A page of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// Which events.
    pub query: EventQuery,
    /// Only those with a higher sequence.
    pub after: u64,
    /// Only those with a lower sequence.
    pub before: Option<u64>,
    /// How many at most.
    pub limit: usize,
    /// The last ones instead of the first.
    pub latest: bool,
}

/// A page of the record.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn events(request: v1::ListEventsRequest) -> Result<EventPage, ApiError> {
    Ok(EventPage {
        query: event_query(request.filter.into_option())?,
        after: request.after_sequence,
        before: Some(request.before_sequence).filter(|before| *before > 0),
        limit: check::page("limit", request.limit)?,
        latest: request.latest,
    })
}

/// A watch of the record: which events, and after which sequence (none: from now on).
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn watch_events(
    request: v1::WatchEventsRequest,
) -> Result<(EventQuery, Option<u64>), ApiError> {
    let query = event_query(request.filter.into_option())?;
    Ok((query, request.after_sequence))
}

/// Which incidents are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentQuery {
    /// On this node.
    pub node: Option<NodeId>,
    /// In this pool.
    pub pool: Option<PoolName>,
    /// Only open ones.
    pub open_only: bool,
    /// How many at most.
    pub limit: usize,
}

impl IncidentQuery {
    /// Whether an incident is wanted.
    pub fn matches(&self, incident: &Incident) -> bool {
        self.node
            .as_ref()
            .is_none_or(|node| *node == incident.key.node)
            && (self.pool.is_none() || self.pool == incident.pool)
            && (incident.is_open() || !self.open_only)
    }
}

/// Which incidents are wanted.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn incidents(request: &v1::ListIncidentsRequest) -> Result<IncidentQuery, ApiError> {
    Ok(IncidentQuery {
        node: check::optional_id("node_id", &request.node_id, NodeId::parse)?,
        pool: check::optional_id("pool", &request.pool, PoolName::parse)?,
        open_only: request.open_only,
        limit: check::page("limit", request.limit)?,
    })
}

/// Which incident is wanted.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn incident(request: &v1::GetIncidentRequest) -> Result<IncidentId, ApiError> {
    check::id("incident_id", &request.incident_id, IncidentId::parse)
}

/// Which incident is to end, and why.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn incident_close(request: v1::CloseIncidentRequest) -> Result<(IncidentId, String), ApiError> {
    Ok((
        check::id("incident_id", &request.incident_id, IncidentId::parse)?,
        check::reason("reason", request.reason)?,
    ))
}

/// Which node is to be explained, in how many lines.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn explain(request: &v1::ExplainNodeRequest) -> Result<(NodeId, usize), ApiError> {
    /// Enough for the whole story of one fault.
    const LINES: u32 = 200;
    let limit = if request.limit == 0 {
        LINES
    } else {
        request.limit
    };
    Ok((
        check::id("node_id", &request.node_id, NodeId::parse)?,
        check::page("limit", limit)?,
    ))
}

/// Which silent node is dead, and who says so.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn confirm_silence(request: v1::ConfirmSilenceRequest) -> Result<(NodeId, String), ApiError> {
    Ok((
        check::id("node_id", &request.node_id, NodeId::parse)?,
        check::reason("reason", request.reason)?,
    ))
}

/// Whose commands are wanted.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn node_commands(request: &v1::ListCommandsRequest) -> Result<NodeId, ApiError> {
    check::id("node_id", &request.node_id, NodeId::parse)
}

/// Which pool's plan is wanted; none for every pool's.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn plan(request: &v1::GetPlanRequest) -> Result<Option<PoolName>, ApiError> {
    check::optional_id("pool", &request.pool, PoolName::parse)
}

/// A switch to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutomationChange {
    /// For one pool; none for the fleet.
    pub pool: Option<PoolName>,
    /// The mode; none gives a pool's choice back, so that its configuration counts.
    pub mode: Option<Automation>,
    /// Why.
    pub reason: String,
}

/// A switch to set.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn automation(request: v1::SetAutomationRequest) -> Result<AutomationChange, ApiError> {
    let mode = match request.mode.as_known() {
        Some(v1::AutomationMode::AUTOMATION_MODE_ON) => Some(Automation::On),
        Some(v1::AutomationMode::AUTOMATION_MODE_OBSERVE) => Some(Automation::Observe),
        Some(v1::AutomationMode::AUTOMATION_MODE_OFF) => Some(Automation::Off),
        Some(v1::AutomationMode::AUTOMATION_MODE_INHERIT) if !request.pool.is_empty() => None,
        Some(v1::AutomationMode::AUTOMATION_MODE_UNSPECIFIED) => {
            return Err(ApiError::invalid_argument("mode is required"));
        }
        Some(v1::AutomationMode::AUTOMATION_MODE_INHERIT) => {
            return Err(ApiError::invalid_argument(
                "mode is inherit, which only a pool can do; name the pool, or use on, observe or off",
            ));
        }
        None => {
            let number = request.mode.to_i32();
            return Err(ApiError::invalid_argument(format!(
                "mode has the number {number}, which cannot be set; use 1 (on), 2 (observe), \
                 3 (off) or 4 (inherit)"
            )));
        }
    };
    Ok(AutomationChange {
        pool: check::optional_id("pool", &request.pool, PoolName::parse)?,
        mode,
        reason: check::reason("reason", request.reason)?,
    })
}

/// The pool, the machines to have, and why.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn scale_pool(request: v1::ScalePoolRequest) -> Result<(PoolName, u32, String), ApiError> {
    let pool = check::id("pool", &request.pool, PoolName::parse)?;
    let Some(nodes) = request.nodes else {
        return Err(ApiError::invalid_argument("nodes is required"));
    };
    let nodes = u32::try_from(nodes)
        .map_err(|_| ApiError::invalid_argument(format!("nodes is {nodes}: it must be >= 0")))?;
    let reason = check::reason("reason", request.reason)?;
    Ok((pool, nodes, reason))
}

/// Which breakers are to close: the pool, and a signature or an offering; none for all.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn reset_breaker(
    request: v1::ResetBreakerRequest,
) -> Result<(PoolName, Option<String>), ApiError> {
    let pool = check::id("pool", &request.pool, PoolName::parse)?;
    let signature = check::reason("signature", request.signature)?;
    Ok((pool, Some(signature).filter(|text| !text.is_empty())))
}

//! The messages of package `navarch.v1`: what the Go project does not have.

pub use crate::generated::navarch::v1::{
    AcknowledgeCommandRequest, AcknowledgeCommandResponse, AddHoldRequest, AddHoldResponse,
    AdoptInstanceRequest, AdoptInstanceResponse, Aggregation, AutomationMode, AutomationSetting,
    ClearFaultRequest, ClearFaultResponse, CloseIncidentRequest, CloseIncidentResponse, Command,
    CommandOutcome, ConfirmSilenceRequest, ConfirmSilenceResponse, Event, EventFilter, ExplainLine,
    ExplainNodeRequest, ExplainNodeResponse, GetAutomationRequest, GetAutomationResponse,
    GetConfigRequest, GetConfigResponse, GetIncidentRequest, GetIncidentResponse, GetPlanRequest,
    GetPlanResponse, GetPolicyRequest, GetPolicyResponse, GetPoolStatusRequest,
    GetPoolStatusResponse, GetServerInfoRequest, GetServerInfoResponse, Guard, Incident,
    IncidentEvidence, InjectFaultRequest, InjectFaultResponse, ListCommandsRequest,
    ListCommandsResponse, ListEventsRequest, ListEventsResponse, ListHoldsRequest,
    ListHoldsResponse, ListIncidentsRequest, ListIncidentsResponse, ListPoolsRequest,
    ListPoolsResponse, ListUnclaimedRequest, ListUnclaimedResponse, Metric, MetricPoint, NodeHold,
    OfferingPlan, PolicyRule, Pool, PoolAutomation, PoolPlan, PoolStatus, QueryMetricsRequest,
    QueryMetricsResponse, RefusedConfig, RefusedPolicy, RemoveHoldRequest, RemoveHoldResponse,
    ResetBreakerRequest, ResetBreakerResponse, ScalePoolRequest, ScalePoolResponse,
    SetAutomationRequest, SetAutomationResponse, Sizing, TerminateInstanceRequest,
    TerminateInstanceResponse, UnclaimedMachine, Wait, WatchCommandsRequest, WatchCommandsResponse,
    WatchEventsRequest, WatchEventsResponse,
};

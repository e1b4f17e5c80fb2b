//! The messages of package `navarch.v1`: what the Go project does not have.

pub use crate::generated::navarch::v1::{
    AcknowledgeCommandRequest, AcknowledgeCommandResponse, AutomationMode, AutomationSetting,
    ClearFaultRequest, ClearFaultResponse, CloseIncidentRequest, CloseIncidentResponse, Command,
    CommandOutcome, ConfirmSilenceRequest, ConfirmSilenceResponse, Event, EventFilter, ExplainLine,
    ExplainNodeRequest, ExplainNodeResponse, GetAutomationRequest, GetAutomationResponse,
    GetIncidentRequest, GetIncidentResponse, GetPlanRequest, GetPlanResponse, GetPolicyRequest,
    GetPolicyResponse, GetServerInfoRequest, GetServerInfoResponse, Guard, Incident,
    IncidentEvidence, InjectFaultRequest, InjectFaultResponse, ListCommandsRequest,
    ListCommandsResponse, ListEventsRequest, ListEventsResponse, ListIncidentsRequest,
    ListIncidentsResponse, ListPoolsRequest, ListPoolsResponse, PolicyRule, Pool, PoolAutomation,
    PoolPlan, RefusedPolicy, ResetBreakerRequest, ResetBreakerResponse, SetAutomationRequest,
    SetAutomationResponse, Wait, WatchCommandsRequest, WatchCommandsResponse, WatchEventsRequest,
    WatchEventsResponse,
};

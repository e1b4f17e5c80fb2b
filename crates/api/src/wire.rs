//! The messages of package `navarch`, the contract with existing agents and clients.

pub use crate::generated::navarch::{
    GPUInfo, GPUMetrics, GetInstanceRequest, GetInstanceResponse, GetNodeCommandsRequest,
    GetNodeCommandsResponse, GetNodeRequest, GetNodeResponse, HealthCheckResult, HealthEvent,
    HealthEventType, HealthStatus, HealthWatchSystem, HeartbeatRequest, HeartbeatResponse, Hold,
    InstanceInfo, InstanceState, IssueCommandRequest, IssueCommandResponse, ListInstancesRequest,
    ListInstancesResponse, ListNodesRequest, ListNodesResponse, NodeCommand, NodeCommandType,
    NodeConfig, NodeInfo, NodeMetadata, NodeMetrics, NodeStatus, RegisterNodeRequest,
    RegisterNodeResponse, ReportHealthRequest, ReportHealthResponse,
};

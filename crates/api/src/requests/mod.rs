//! Requests that were checked: what a handler gives to the fleet.
//!
//! Each function takes a message and answers with a value of the domain, or with the refusal that
//! the caller gets. A refused request changes nothing.

mod agent;
mod dev;
mod holds;
mod machines;
mod operator;
mod pools;

pub use agent::{
    Acknowledgement, Beat, acknowledgement, beat, poll, registration, report, watch_commands,
};
pub use dev::{FAULT_KINDS, Fault, FaultsToClear, clear_fault, inject_fault};
pub use holds::{add_hold, holds, remove_hold};
pub use machines::{Adoption, Ending, adopt, terminate_instance, unclaimed};
pub use operator::{
    AutomationChange, CommandOrder, EventPage, EventQuery, IncidentQuery, InstanceQuery, NodeQuery,
    automation, command, confirm_silence, events, explain, incident, incident_close, incidents,
    instance, instances, node, node_commands, nodes, plan, reset_breaker, scale_pool, watch_events,
};
pub use pools::{Measured, MetricQuery, metric_query, pool_status};

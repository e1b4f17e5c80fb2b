//! Pure decisions: health rules, the XID catalogue, guards, autoscaling.

pub mod autoscale;
pub mod catalogue;
pub mod guards;
pub mod health;
pub mod placement;

pub use health::{
    EventFacts, EventFactsOwned, EventVerdict, HealthPolicy, Overall, PolicyError, RuleFinding,
    aggregate, parse_event,
};

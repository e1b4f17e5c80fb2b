//! The Fleet: one synchronous owner of all decisions.
//!
//! `apply` takes one fact and answers with a reply, durable changes and effects; `plan` looks at
//! the facts and answers with actions and a report of what each pool waits for. Neither does
//! input or output, reads a clock or draws a random number, so that the simulator runs the same
//! code as production.

mod action;
pub mod agent;
pub mod fleet;
pub mod history;
pub mod input;
pub mod liveness;
pub mod plan;
pub mod settings;
#[cfg(test)]
mod tests;

pub use fleet::{Fleet, IdSource};
pub use input::{
    Action, Actor, Applied, CallKey, Effect, Fact, GradedResult, Input, NamedHold, Note,
    NotifyOutcome, Registration, Rejection, RejectionCode, Reply, Report, Signals,
};
pub use plan::{Advice, OfferingReport, Plan, PlanReport, PoolReport, Wait};
pub use settings::{NotifierSettings, OfferingSettings, PoolSettings, ProviderSettings, Settings};

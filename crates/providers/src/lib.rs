//! Clouds behind one trait, and the fake cloud that runs real agents as processes.

pub mod conformance;
pub mod fake;
mod fault;
mod provider;

pub use fault::{Fault, FaultKind};
pub use provider::{Call, FaultInjection, Listing, Provider};

//! The fleet simulator: the real core in virtual time.
//!
//! One thread, one ordered queue of events, no clock: the real Fleet with the real policy, store,
//! liveness table and agent core meet a simulated cloud, network, and machines that break. The
//! promises of the design are checked after every step. The same seed, configuration and build
//! give the same bytes of trace.

mod agents;
mod bugs;
mod calls;
mod cloud;
mod config;
mod crash;
mod faults;
pub mod fuzz;
mod invariants;
mod judge;
mod load;
mod machine;
mod orders;
mod people;
mod queue;
mod quiet;
pub mod record;
pub mod report;
pub mod run;
mod scheduler;
pub mod script;
mod sizes;
mod streams;
mod trace;
mod trouble;
mod world;

pub use bugs::Bug;
pub use config::{Config, Trouble};
pub use world::Sim;

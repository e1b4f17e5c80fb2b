//! The commands, a file for each noun.

pub mod config;
pub mod copies;
pub mod dev;
pub mod events;
pub mod explain;
pub mod holds;
pub mod incidents;
pub mod instances;
pub mod metrics;
pub mod node;
pub mod nodes;
pub mod policy;
pub mod pools;
pub mod serve;
pub mod sim;

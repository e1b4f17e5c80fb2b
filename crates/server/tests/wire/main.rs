//! The control plane over its wire: the real `App`, real sockets, virtual time.

mod auth;
mod commands;
mod connections;
mod disk;
mod events;
mod failures;
mod holds;
mod hosted;
mod hostile;
mod hosts;
mod instances;
mod lifecycle;
mod limits;
mod lists;
mod metrics;
mod monitoring;
mod orphans;
mod pools;
mod reload;
mod revoked;
mod roles;
mod rpcs;
mod status;
mod support;
mod tls;

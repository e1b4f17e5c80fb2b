//! End-to-end tests: the real program as users and clouds run it, over the network.

mod auth;
mod away;
mod faults;
mod holds;
mod input;
mod main_job;
#[path = "../support/mod.rs"]
mod support;

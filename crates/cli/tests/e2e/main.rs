//! End-to-end tests: the real program as users and clouds run it, over the network.

mod auth;
mod away;
mod commands;
mod config;
mod copies;
mod faults;
mod guards;
mod holds;
mod input;
mod limits;
mod logs;
mod main_job;
mod notifier;
mod orphans;
mod output;
mod placement;
mod scaling;
mod secrets;
mod sim;
#[path = "../support/mod.rs"]
mod support;

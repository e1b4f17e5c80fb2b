//! Kills and faults: the real control plane with the real fake cloud, held to its promises.

#[path = "../support/rest.rs"]
mod rest;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod support;

mod compare;
mod faults;
mod journal;
mod kills;
mod stage;

//! Health policies proven end to end: every shipped policy judges injected faults in a real
//! control plane with real agents, and is replaced while both run.

mod reload;
mod stage;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod support;
mod table;

//! Fake GPUs with faults to order.

mod backend;
mod fault;
mod noise;
mod state;

pub use backend::{DEFAULT_MODEL, FakeBackend, FakeOptions};
pub use fault::{Fault, FaultError, FaultKind, MAX_GPUS};
pub use state::{FakeState, FaultRecord, Repair, StateError};

/// What the UUID of every fake GPU begins with. The `k` is no hexadecimal digit, so
/// no real UUID does.
pub const UUID_PREFIX: &str = "GPU-fake";

/// Whether a GPU's UUID is that of a fake one.
pub fn is_fake_uuid(uuid: &str) -> bool {
    uuid.starts_with(UUID_PREFIX)
}

//! Real GPUs, through libnvidia-ml loaded at run time.
//!
//! Built on `libloading` with declarations of its own for the two dozen calls it
//! makes: the ready-made wrapper borrows its event set from the library, which
//! does not fit a waiting thread that may outlive its owner, and builds bindings
//! for several hundred calls.

mod backend;
mod ffi;
mod library;
mod waiter;

pub use backend::{DEFAULT_LIBRARY, NvmlBackend, NvmlOptions};
pub(crate) use ffi::{GPU_IS_LOST, UNKNOWN_ERROR};

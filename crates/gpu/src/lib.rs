//! GPU backends behind one trait: NVML, kernel log, fake, and none.
//!
//! A [`GpuBackend`] says raw facts about the GPUs of this machine and grades
//! nothing. [`select`] chooses one: fake GPUs when they are asked for, else the
//! NVIDIA management library, else none.
//!
//! This is the one crate with `unsafe`: the calls into that library.

mod backend;
mod error;
mod event;
pub mod fake;
mod gpu_map;
pub mod kmsg;
mod none;
pub mod nvml;
mod pairing;
pub mod pci;
mod queue;
mod select;

pub use backend::{Device, GpuBackend, Readings, Wake};
pub use error::GpuError;
pub use event::{GpuEvent, MAX_MESSAGE_CHARS, MetricValue, Metrics, watch};
pub use fake::{FakeBackend, is_fake_uuid};
pub use none::NoneBackend;
pub use nvml::NvmlBackend;
pub use select::{FakeRequest, Options, SelectError, Selected, select};

//! The control plane's shell: it feeds the Fleet, makes its changes durable, and only then
//! answers and acts. No decision lives here.

pub mod access;
pub mod app;
pub mod archive;
mod door;
pub mod effects;
mod faults;
pub mod fleet;
pub mod handlers;
pub mod hosted;
pub mod http;
mod journal;
mod limits;
pub mod meters;
pub mod metrics;
pub mod notifier;
mod outbound;
pub mod publish;
pub mod pulses;
mod reload;
pub mod signals;
mod tls;

pub use app::{App, Options, StartError};
pub use reload::Hangups;

//! The fake cloud: records on disk, a real agent process for each machine, faults to order.

mod book;
mod client;
mod cloud;
mod debug;
mod disk;
mod embedded;
mod machine;
mod market;
mod orders;
mod process;
mod server;
mod translate;
mod wire;

pub use client::{FakeHttp, FakeHttpError, HttpOptions};
pub use cloud::{Cloud, CloudOptions, Refusal};
pub use disk::CloudError;
pub use embedded::{EmbeddedOptions, FakeEmbedded};
pub use machine::{AgentAccess, AgentCommand, AgentToken};
pub use market::{Market, Product};
pub use orders::{CloudFault, LatencyWhen, Operation, Order, PartialHow};
pub use server::{loopback, serve, serve_cloud};
pub use wire::{AgentSpec, InstanceView, LaunchRequest, Page, PageQuery};

/// The tag that holds the fleet's id.
pub const TAG_FLEET: &str = "navarch-fleet";
/// The tag that holds our instance id.
pub const TAG_INSTANCE: &str = "navarch-instance";
/// The tag that holds the pool's name.
pub const TAG_POOL: &str = "navarch-pool";

#[cfg(all(test, target_os = "linux"))]
mod tests;

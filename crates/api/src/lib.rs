//! The wire: generated messages, conversions and the client.
//!
//! Nothing else knows protobuf or the RPC library. A server implements the traits of
//! [`service`] and mounts [`service::routes`]; an agent or a command makes a [`Client`].
//! [`wire`] holds the messages that the Go project knows, [`v1`] those that are new.

mod check;
pub mod client;
mod contract;
pub mod convert;
mod error;
mod generated;
pub mod limits;
mod reply;
pub mod requests;
pub mod service;
pub mod v1;
pub mod wire;

pub use buffa_types::google::protobuf::Timestamp;
pub use client::{AddressError, Cause, Client, ClientBuilder, ClientError, Incoming, TrustError};
pub use error::{ApiError, Code};
pub use reply::{List, Part, Reply};

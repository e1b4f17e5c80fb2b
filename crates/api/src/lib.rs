//! The wire: generated messages, conversions and the client.
mod generated;

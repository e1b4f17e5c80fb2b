//! What the tests of the wire share: the control plane under test, raw HTTP, every protocol, agents.

pub mod agents;
pub mod http;
pub mod plane;
pub mod rpc;

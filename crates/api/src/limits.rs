//! How much one request may hold. Agents and clients obey them; the server refuses what exceeds.
//!
//! Each bound is far above what a real machine sends. Too low refuses a machine's facts; too high
//! lets one caller fill the store and the terminals of everybody who looks at it.

/// GPUs of one node, in a registration or a heartbeat. Indices run from 0 to one less.
pub const MAX_GPUS: usize = 128;
/// Labels of one node, parameters of one command, values of one fault.
pub const MAX_ENTRIES: usize = 64;
/// Bytes of a key of labels, metrics or parameters.
pub const MAX_KEY_BYTES: usize = 256;
/// Bytes of a value of labels, metrics or parameters.
pub const MAX_VALUE_BYTES: usize = 1024;
/// Bytes of a name that is free text: a region, a machine type, a product name.
pub const MAX_NAME_BYTES: usize = 256;
/// Bytes of an operator's reason.
pub const MAX_REASON_BYTES: usize = 1024;
/// Bytes that are kept of a message from a machine; the rest is cut, since the fact counts.
pub const MAX_MESSAGE_BYTES: usize = 4096;
/// Events of one report.
pub const MAX_EVENTS: usize = 1000;
/// Graded results of one report.
pub const MAX_RESULTS: usize = 256;
/// Capabilities of one agent.
pub const MAX_CAPABILITIES: usize = 32;
/// Kinds in one filter of events.
pub const MAX_KINDS: usize = 64;
/// Entries of one page, unless the caller asks for fewer or more.
pub const DEFAULT_PAGE: usize = 100;
/// The most entries of one page.
pub const MAX_PAGE: usize = 1000;

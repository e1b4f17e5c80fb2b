//! The Fleet: one synchronous owner of all decisions.

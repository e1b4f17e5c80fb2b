//! What the build script writes from `proto/`. The rest of the crate decides what leaves it.

#![expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::semicolon_if_nothing_returned,
    reason = "written by the build script"
)]

include!(concat!(env!("OUT_DIR"), "/generated.rs"));

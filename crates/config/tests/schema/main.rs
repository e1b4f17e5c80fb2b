//! The tables of keys against the loader, the reference and the JSON Schema.

mod editors;
mod keys;
mod scenarios;
mod tables;

//! The fleet's types seen from outside: their words, what records say of themselves, and what
//! the invariants find in a broken state.

mod invariants;
mod records;
mod support;
mod words;

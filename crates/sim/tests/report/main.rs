//! Reports of records that were made up for it.

mod files;
mod synthetic;

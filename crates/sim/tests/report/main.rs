//! Reports, of records that were made up for it and of runs.

mod browser;
mod crowd;
#[path = "../example/mod.rs"]
mod example;
mod files;
mod page;
mod runs;
mod synthetic;

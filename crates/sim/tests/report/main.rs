//! Reports of records that were made up for it.

mod browser;
mod crowd;
mod files;
mod page;
mod synthetic;

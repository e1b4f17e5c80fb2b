//! Policies as their files and their callers see them.

mod agreement;
mod files;
mod golden;
mod hostile;
mod rules;
mod support;

//! Clocks, randomness and task groups, real and virtual.
//!
//! Only shells use this crate: the decisions in `policy` and `core` get the
//! present time and new ids as arguments. A shell takes a [`SharedClock`] and a
//! [`Rng`] from whoever starts it, and starts nothing outside a [`Tasks`] group.
//!
//! - [`Clock`], with [`RealClock`] and [`VirtualClock`]; [`Timer`], [`Interval`]
//!   and [`timeout`] work on any clock.
//! - [`Rng`], with [`OsRng`] and [`SeededRng`]; [`Backoff`] turns a number of
//!   failures into a delay.
//! - [`Tasks`] for asynchronous work and [`spawn_thread`] for a thread that its
//!   owner joins.

mod backoff;
mod clock;
mod rng;
mod tasks;
mod thread;
mod timer;
mod virtual_clock;

pub use backoff::Backoff;
pub use clock::{Clock, RealClock, SharedClock, Sleep, Sleeper, When};
pub use rng::{OsRng, Rng, SeededRng};
pub use tasks::{Spawner, TaskFailure, Tasks};
pub use thread::{Thread, spawn_thread};
pub use timer::{Elapsed, Interval, Timer, timeout};
pub use tokio_util::sync::CancellationToken;
pub use virtual_clock::{VirtualClock, WaitForSleepers};

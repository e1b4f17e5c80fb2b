//! A fleet that beats in the background while something else is measured.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use navarch_time::{Thread, spawn_thread};

use crate::Result;
use crate::fleet::{self, BEAT, BEAT_EVERY};
use crate::load::{Lanes, Paced};
use crate::process::Server;

/// The most connections of the driver. Agents keep one each; two programs with this many files are
/// within what systems usually allow.
pub const CONNECTIONS: usize = 10_000;

/// Machines that beat, each once in [`BEAT_EVERY`], from a thread of their own.
pub struct Beating {
    stop: Arc<AtomicBool>,
    thread: Option<Thread<Result<Paced>>>,
}

impl Beating {
    /// Starts the heartbeats of machines `0..count`, which are registered. Every connection stands
    /// when this returns.
    pub fn start(server: &Server, count: usize) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (caller, stopped) = (fleet::cheap(server), Arc::clone(&stop));
        let (connected, connections) = mpsc::channel();
        let thread = spawn_thread("beating", move || {
            let requests = fleet::beats(&caller, count)?;
            let mut lanes = Lanes::open(&caller, BEAT, count.min(CONNECTIONS))?;
            let rate = count as f64 / BEAT_EVERY.as_secs_f64();
            let mut at = 0;
            // Whoever waits may have given up.
            let _gone = connected.send(());
            lanes.pace(
                rate,
                &stopped,
                || {
                    at += 1;
                    Ok(Rc::clone(&requests[at % requests.len()]))
                },
                fleet::beaten,
            )
        })?;
        let beating = Self {
            stop,
            thread: Some(thread),
        };
        if connections.recv().is_err() {
            // The thread ended without a connection; its error says why.
            beating.stop()?;
            return Err("the driver ended by itself".into());
        }
        Ok(beating)
    }

    /// Stops them. Fails if any was not answered right.
    pub fn stop(mut self) -> Result<Paced> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("only stop takes it");
        thread.join()?
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        // The thread is joined when its field is dropped, after this.
        self.stop.store(true, Ordering::Relaxed);
    }
}

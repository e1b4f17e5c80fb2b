//! The thread that talks to the GPU driver, so that a hung driver holds up nothing else.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use navarch_gpu::{GpuBackend, Selected};
use navarch_time::{Clock, spawn_thread, timeout};
use tokio::sync::oneshot;

/// The most questions that wait for the driver. While it hangs, further ones are not answered
/// anyway, so few suffice.
const WAITING: usize = 4;

type Job = Box<dyn FnOnce(&dyn GpuBackend) + Send>;

/// Makes the backend, on the thread: starting the driver's library can hang like any other call.
pub(crate) type Make = Box<dyn FnOnce() -> Selected + Send>;

/// Asks the driver, one question after the other. Clones share the thread, which ends after the
/// last of them is gone.
#[derive(Clone)]
pub(crate) struct Worker {
    jobs: SyncSender<Job>,
}

/// The driver did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// Not in time.
    Late(Duration),
    /// Its backend panicked.
    Panicked,
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Late(limit) => {
                write!(
                    f,
                    "the GPU driver did not answer within {} s",
                    limit.as_secs_f64()
                )
            }
            Self::Panicked => {
                f.write_str("the code that asks the GPU driver failed; see the agent's log")
            }
        }
    }
}

impl Worker {
    /// Starts the thread. The backend comes when it is made.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub(crate) fn start(make: Make) -> io::Result<(Self, oneshot::Receiver<Selected>)> {
        let (jobs, inbox) = sync_channel::<Job>(WAITING);
        let (made, selected) = oneshot::channel();
        let thread = spawn_thread("navarch-gpu", move || {
            let selected = make();
            let backend: Arc<dyn GpuBackend> = selected.backend.clone();
            // Whoever asked may have stopped.
            let _stopped = made.send(selected);
            for job in inbox {
                // The panic hook has told; the one who asked sees that no answer comes.
                let _panic = catch_unwind(AssertUnwindSafe(|| job(&*backend)));
            }
        })?;
        // Nobody joins it: a thread inside a hung driver never ends, and the agent must.
        std::mem::forget(thread);
        Ok((Self { jobs }, selected))
    }

    /// Asks, and waits for the answer for at most `limit`.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        clock: &dyn Clock,
        limit: Duration,
        question: impl FnOnce(&dyn GpuBackend) -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |backend| {
            if !reply.is_closed() {
                // Whoever asked may have given up meanwhile.
                let _late = reply.send(question(backend));
            }
        });
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                clock.sleep(limit).await;
                return Err(NoAnswer::Late(limit));
            }
            Err(TrySendError::Disconnected(_)) => return Err(NoAnswer::Panicked),
        }
        match timeout(clock, limit, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(NoAnswer::Panicked),
            Err(_) => Err(NoAnswer::Late(limit)),
        }
    }
}

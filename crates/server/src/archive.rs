//! Reads of the store on threads of their own: a slow query holds up no task of anybody else.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use navarch_store::{History, StoreError};
use navarch_time::{Thread, spawn_thread};
use tokio::sync::{mpsc, oneshot};

/// Reads at a time. Higher lets many readers take the processors and open more connections to the
/// store; lower lets a few long reads delay the rest.
const THREADS: usize = 4;
/// Reads that wait. Whoever finds no room waits for it, which is bounded by the time of its call;
/// higher costs memory, lower only moves the wait.
const WAITING: usize = 64;

type Read = Box<dyn FnOnce(&dyn History) + Send>;

/// Answers questions to the record, a few at a time.
#[derive(Debug)]
pub struct Archive {
    // Before the threads: dropping it is what ends them.
    reads: mpsc::Sender<Read>,
    _threads: Vec<Thread<()>>,
}

impl Archive {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// When the system cannot start another thread.
    pub fn start(history: Arc<dyn History>) -> io::Result<Self> {
        let (reads, queue) = mpsc::channel::<Read>(WAITING);
        let queue = Arc::new(Mutex::new(queue));
        let threads = (0..THREADS)
            .map(|_| {
                let (history, queue) = (Arc::clone(&history), Arc::clone(&queue));
                spawn_thread("read", move || {
                    loop {
                        let next = {
                            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                            queue.blocking_recv()
                        };
                        let Some(read) = next else { return };
                        read(&*history);
                    }
                })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            reads,
            _threads: threads,
        })
    }

    /// Runs a read when a thread is free. Nothing runs for a caller who is gone by then.
    ///
    /// # Errors
    ///
    /// Those of the read; [`StoreError::Stopped`] when it panicked, which the log tells.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn History) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, found) = oneshot::channel();
        let read: Read = Box::new(move |history| {
            if answer.is_closed() {
                return;
            }
            match catch_unwind(AssertUnwindSafe(|| work(history))) {
                // The caller may be gone by now.
                Ok(result) => drop(answer.send(result)),
                // The panic hook has told where; this tells what it means.
                Err(_) => tracing::error!("a read of the store panicked; its caller gets an error"),
            }
        });
        if self.reads.send(read).await.is_err() {
            return Err(StoreError::Stopped);
        }
        found.await.unwrap_or(Err(StoreError::Stopped))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::sync_channel;

    use navarch_model::FleetId;
    use navarch_store::{MemoryDisk, MemoryStore, Store as _};

    use super::*;

    fn archive() -> Archive {
        let store = MemoryStore::open(&MemoryDisk::new(FleetId::new("fleet")));
        Archive::start(Arc::from(store.reader())).unwrap()
    }

    #[tokio::test]
    async fn no_more_reads_run_at_a_time_than_there_are_threads() {
        let archive = archive();
        let running = Arc::new(AtomicUsize::new(0));
        let (inside, arrived) = sync_channel(3 * THREADS);
        let (open, gate) = sync_channel::<()>(0);
        let gate = Arc::new(Mutex::new(gate));
        let reads = (0..2 * THREADS).map(|_| {
            let (running, inside, gate) = (Arc::clone(&running), inside.clone(), Arc::clone(&gate));
            archive.read(move |_| {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                // Nobody counts any more once the gate is open.
                let _ = inside.send(());
                // Ends only when the test lets it.
                let _ = gate.lock().unwrap().recv();
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(now)
            })
        });
        let all = futures_util::future::join_all(reads);
        let opened = navarch_time::spawn_thread("gate", move || {
            for _ in 0..THREADS {
                arrived.recv().unwrap();
            }
            drop(open);
        });
        let most = all.await.into_iter().map(Result::unwrap).max();
        assert_eq!(most, Some(THREADS));
        opened.unwrap().join().unwrap();
    }

    #[tokio::test]
    async fn a_read_that_panics_takes_no_thread_along() {
        let archive = archive();
        for _ in 0..2 * THREADS {
            let failed = archive.read(|_| -> Result<(), _> { panic!("as a test") });
            assert_eq!(failed.await, Err(StoreError::Stopped));
        }
        assert_eq!(archive.read(|_| Ok(7)).await, Ok(7));
    }

    #[tokio::test]
    async fn nothing_is_read_for_a_caller_who_left() {
        let archive = archive();
        let (hold, held) = sync_channel::<()>(0);
        let held = Arc::new(Mutex::new(held));
        let read = Arc::new(AtomicUsize::new(0));
        let busy: Vec<_> = (0..THREADS)
            .map(|_| {
                let held = Arc::clone(&held);
                Box::pin(archive.read(move |_| {
                    let _ = held.lock().unwrap().recv();
                    Ok(())
                }))
            })
            .collect();
        let mut busy = futures_util::future::join_all(busy);
        assert!(futures_util::poll!(&mut busy).is_pending());
        let counted = Arc::clone(&read);
        let mut left = Box::pin(archive.read(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }));
        assert!(futures_util::poll!(&mut left).is_pending());
        drop(left);
        drop(hold);
        busy.await;
        // It was queued before this one.
        archive.read(|_| Ok(())).await.unwrap();
        assert_eq!(read.load(Ordering::SeqCst), 0);
    }
}

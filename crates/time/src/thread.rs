//! A named thread that its owner joins.

use std::any::Any;
use std::borrow::Cow;
use std::io;
use std::thread::{Builder, JoinHandle};

use crate::TaskFailure;

/// A running thread. Its owner joins it: dropping this waits for the thread to
/// end, and logs its panic.
///
/// Tell the thread to stop before you drop it. A struct that holds both the
/// sender the thread reads from and the thread declares the sender first.
#[derive(Debug)]
#[must_use = "dropping a thread waits until it has ended"]
pub struct Thread<T> {
    name: Cow<'static, str>,
    handle: Option<JoinHandle<T>>,
}

/// Starts `work` on a thread called `name`. The system may show only the first
/// 15 bytes of the name.
///
/// # Errors
///
/// When the name holds a zero byte, or the system cannot start another thread.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that starts threads, and their owner joins them"
)]
pub fn spawn_thread<T, F>(name: impl Into<Cow<'static, str>>, work: F) -> io::Result<Thread<T>>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let name = name.into();
    if name.contains('\0') {
        let message = format!("the thread name {name:?} holds a zero byte: remove it");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let handle = Builder::new().name(name.to_string()).spawn(work)?;
    Ok(Thread {
        name,
        handle: Some(handle),
    })
}

impl<T> Thread<T> {
    /// The name it was started with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the thread has ended, so that [`join`](Thread::join) does not wait.
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the thread to end and returns what it returned.
    ///
    /// # Errors
    ///
    /// [`TaskFailure`] when the thread panicked.
    pub fn join(mut self) -> Result<T, TaskFailure> {
        let handle = self.handle.take().expect("only join and drop take it");
        handle.join().map_err(|panic| TaskFailure {
            name: self.name.to_string(),
            message: panic_message(&*panic),
        })
    }
}

impl<T> Drop for Thread<T> {
    fn drop(&mut self) {
        if let Some(Err(panic)) = self.handle.take().map(JoinHandle::join) {
            let message = panic_message(&*panic);
            tracing::error!(thread = %self.name, panic = %message, "thread panicked");
        }
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    if let Some(message) = panic.downcast_ref::<&str>() {
        (*message).to_owned()
    } else if let Some(message) = panic.downcast_ref::<String>() {
        message.clone()
    } else {
        "a panic without a message".to_owned()
    }
}

//! The cloud's file: one owner, written whole and synchronously before anything is answered.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use navarch_model::{ProviderError, ProviderErrorKind};
use navarch_time::{Clock, Thread, spawn_thread};
use tokio::sync::{mpsc, oneshot};

use super::book::{Book, VERSION};
use super::process::Identity;

/// How many calls may wait for the file. More wait outside.
const QUEUE: usize = 256;

/// Why a fake cloud cannot start.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// Another process has it.
    #[error("{path} is in use by the process {owner}; stop that process, or use another directory")]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// The process id of the owner, as far as known.
        owner: String,
    },
    /// Its file cannot be understood.
    #[error(
        "{path} is damaged: {problem}; restore it from a copy, or remove the directory to begin \
         without machines"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Its file was written by a newer program.
    #[error("{path} has the form {found}; this program knows {VERSION}: use a newer program")]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of its form.
        found: u32,
    },
    /// Others could reach it.
    #[error(
        "{address} is not a loopback address; a fake cloud runs programs on request, so let it \
         listen on 127.0.0.1"
    )]
    NotLoopback {
        /// The address.
        address: std::net::SocketAddr,
    },
    /// The system said no.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl CloudError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }
}

/// The book, its file and the lock on both.
pub(crate) struct Keeper {
    book: Book,
    directory: PathBuf,
    _lock: Lock,
}

/// The lock on a directory.
struct Lock(File);

impl Drop for Lock {
    /// Unlocks in so many words: a process that is just being started shares our open files for
    /// a moment, and would hold the lock beyond their closing.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "cannot unlock the fake cloud's directory");
        }
    }
}

impl Keeper {
    fn open(directory: &Path) -> Result<Self, CloudError> {
        private_directory(directory)?;
        let lock = lock(directory)?;
        let path = directory.join("cloud.json");
        let book = match fs::read(&path) {
            Ok(bytes) => read(&bytes, &path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Book::new(),
            Err(error) => return Err(CloudError::io("read", &path)(error)),
        };
        Ok(Self {
            book,
            directory: directory.to_owned(),
            _lock: lock,
        })
    }

    pub(crate) fn book(&self) -> &Book {
        &self.book
    }

    /// Makes a change, and keeps it only if it can be written down. What the change returns
    /// leaves after it is on disk.
    pub(crate) fn change<R>(
        &mut self,
        change: impl FnOnce(&mut Book) -> Result<R, ProviderError>,
    ) -> Result<R, ProviderError> {
        let mut next = self.book.clone();
        let answer = change(&mut next)?;
        if next == self.book {
            return Ok(answer);
        }
        let written = self.write(&next);
        match written {
            Ok(()) => {
                self.book = next;
                Ok(answer)
            }
            Err(Unwritten::Nothing(error)) => Err(unwritten(ProviderErrorKind::Transient, &error)),
            Err(Unwritten::Unknown(error)) => {
                // The new file is in place; only its name may not be durable yet.
                self.book = next;
                Err(unwritten(ProviderErrorKind::OutcomeUnknown, &error))
            }
        }
    }

    fn write(&self, book: &Book) -> Result<(), Unwritten> {
        let bytes = serde_json::to_vec(book).map_err(io::Error::from);
        let bytes = bytes.map_err(Unwritten::Nothing)?;
        let path = self.directory.join("cloud.json");
        let fresh = self.directory.join("cloud.json.new");
        let write = || -> io::Result<()> {
            let mut file = private_file().truncate(true).open(&fresh)?;
            file.write_all(&bytes)?;
            file.sync_all()
        };
        write().map_err(Unwritten::Nothing)?;
        fs::rename(&fresh, &path).map_err(Unwritten::Nothing)?;
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(Unwritten::Unknown)
    }
}

enum Unwritten {
    /// The old file is in place.
    Nothing(io::Error),
    /// The new file is in place and may be gone after a crash of the machine.
    Unknown(io::Error),
}

fn unwritten(kind: ProviderErrorKind, error: &io::Error) -> ProviderError {
    ProviderError::new(
        kind,
        format!("the fake cloud cannot write its file: {error}"),
    )
}

/// Options for a file that only its owner can read: it may hold tokens.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes a directory, and those above it, that only its owner can read.
pub(crate) fn private_directory(path: &Path) -> Result<(), CloudError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(CloudError::io("make the directory", path))
}

fn lock(directory: &Path) -> Result<Lock, CloudError> {
    let path = directory.join("lock");
    let mut file = private_file()
        .read(true)
        .truncate(false)
        .open(&path)
        .map_err(CloudError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut owner = String::new();
            let told = file.read_to_string(&mut owner).is_ok() && !owner.trim().is_empty();
            return Err(CloudError::Locked {
                path: directory.to_owned(),
                owner: if told {
                    owner.trim().to_owned()
                } else {
                    "unknown".to_owned()
                },
            });
        }
        Err(fs::TryLockError::Error(error)) => return Err(CloudError::io("lock", &path)(error)),
    }
    let mut lock = Lock(file);
    let named = lock
        .0
        .set_len(0)
        .and_then(|()| writeln!(lock.0, "{}", std::process::id()));
    named.map_err(CloudError::io("write", &path))?;
    Ok(lock)
}

fn read(bytes: &[u8], path: &Path) -> Result<Book, CloudError> {
    #[derive(serde::Deserialize)]
    struct Form {
        version: u32,
    }
    let damaged = |error: serde_json::Error| CloudError::Damaged {
        path: path.to_owned(),
        problem: error.to_string(),
    };
    let Form { version } = serde_json::from_slice(bytes).map_err(damaged)?;
    if version > VERSION {
        return Err(CloudError::Newer {
            path: path.to_owned(),
            found: version,
        });
    }
    let book: Book = serde_json::from_slice(bytes).map_err(damaged)?;
    if book.version() != VERSION {
        return Err(CloudError::Damaged {
            path: path.to_owned(),
            problem: format!("it says version {}", book.version()),
        });
    }
    Ok(book)
}

type Work = Box<dyn FnOnce(&mut Keeper) + Send>;

/// The one owner of the book: a thread that does one piece of work after the other. A caller
/// that goes away does not undo or halve its work.
pub(crate) struct Ledger {
    // Dropped before the thread, which then ends.
    work: mpsc::Sender<Work>,
    _thread: Thread<()>,
}

/// How often a lock is tried again whose owner died.
const LOCK_AGAIN: Duration = Duration::from_millis(20);

/// How long: beyond, a process that it left behind keeps it for good.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

impl Ledger {
    /// As [`open`](Self::open). When the owner of the directory is dead, it waits a little: a
    /// process that the owner was just starting can hold the lock for a moment longer.
    pub(crate) async fn open_when_free(
        directory: &Path,
        clock: &dyn Clock,
    ) -> Result<Self, CloudError> {
        let deadline = clock.monotonic().saturating_add(LOCK_LIMIT);
        loop {
            match Self::open(directory) {
                Err(CloudError::Locked { owner, .. })
                    if clock.monotonic() < deadline
                        && owner.parse().is_ok_and(|pid| Identity::of(pid).is_none()) =>
                {
                    clock.sleep(LOCK_AGAIN).await;
                }
                opened => return opened,
            }
        }
    }

    /// Takes the directory, reads its file and starts.
    fn open(directory: &Path) -> Result<Self, CloudError> {
        let mut keeper = Keeper::open(directory)?;
        let (work, mut queue) = mpsc::channel::<Work>(QUEUE);
        let thread = spawn_thread("fake-ledger", move || {
            while let Some(work) = queue.blocking_recv() {
                work(&mut keeper);
            }
        });
        Ok(Self {
            work,
            _thread: thread.map_err(CloudError::io("start a thread for", directory))?,
        })
    }

    /// Has the owner do something, and returns what came of it.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Keeper) -> Result<R, ProviderError> + Send + 'static,
    ) -> Result<R, ProviderError> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |keeper| {
            // The caller may have gone; what it asked for is done all the same.
            let _ = answer.send(work(keeper));
        });
        let gone = || {
            ProviderError::new(
                ProviderErrorKind::OutcomeUnknown,
                "the fake cloud's ledger stopped; see the log, and restart the process",
            )
        };
        self.work.send(work).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

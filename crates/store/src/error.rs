//! What can go wrong with a store, said so that a person knows what to do next.

use std::path::PathBuf;

use navarch_model::FleetId;

/// A store that cannot do what was asked. Every message names the file, and what to do next.
///
/// It can be cloned, for one failed commit fails everything that was committed with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another server uses the data directory.
    #[error(
        "another server{} uses {path}: stop it first, or give this one a data directory of its own",
        .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(),
        path = .path.display()
    )]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// The other server's process, if its lock file says.
        pid: Option<u32>,
    },

    /// Another writer took the store over.
    #[error(
        "another server took the store over (epoch {held}, this one has {given}): this server must \
         stop; start it again only once the other has stopped"
    )]
    Fenced {
        /// The epoch that the store holds.
        held: u64,
        /// The epoch of the refused commit.
        given: u64,
    },

    /// The changes are of another fleet than the store.
    #[error(
        "{place} belongs to the fleet {held}, not to {given}: nothing was changed; put the files of \
         one fleet back together, or use another data directory"
    )]
    OtherFleet {
        /// The store or file.
        place: String,
        /// The fleet whose store it is.
        held: FleetId,
        /// The other one.
        given: FleetId,
    },

    /// The data directory was in use and has no database.
    #[error(
        "{} is missing, but {} shows that this data directory was in use: to restore, put a copy of \
         the database in its place; to begin a new fleet, use another data directory",
        .database.display(),
        .evidence.display()
    )]
    Missing {
        /// Where the database belongs.
        database: PathBuf,
        /// What shows that there was one.
        evidence: PathBuf,
    },

    /// There is no database to copy.
    #[error("there is no database {}: check the path; nothing was written", .path.display())]
    Absent {
        /// Where it was looked for.
        path: PathBuf,
    },

    /// What should be written is there already.
    #[error(
        "{} exists and is not overwritten: move it away first, or use another place; nothing was \
         written",
        .path.display()
    )]
    Occupied {
        /// The file.
        path: PathBuf,
    },

    /// The file in the database's place is not one of ours.
    #[error(
        "{} is not a Navarch database ({found}): move it away and put the right one in its place, or \
         use another data directory; it was not changed",
        .path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },

    /// A newer version wrote the database.
    #[error(
        "{} has schema {found}, and this version knows schemas up to {known}: use the version of \
         Navarch that wrote it, or a newer one, or put a copy from before the upgrade in its place; \
         it was not changed",
        .path.display()
    )]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest that this version knows.
        known: u32,
    },

    /// The database is damaged.
    #[error(
        "{path} is damaged ({detail}): to restore, stop every server, move it and the files \
         {name}-wal and {name}-shm beside it to a safe place, put a copy that is whole in its place, \
         and start again",
        path = .path.display(),
        name = .path.file_name().unwrap_or_default().to_string_lossy()
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },

    /// The disk is full.
    #[error(
        "no space left to write {}: free some on its disk, or move the data directory to a larger \
         one; nothing of this change was stored",
        .path.display()
    )]
    DiskFull {
        /// What could not grow.
        path: PathBuf,
    },

    /// The system refused to read or write.
    #[error(
        "cannot {doing} {}: {detail}; check that this user may read and write it, and that its disk is \
         sound",
        .path.display()
    )]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },

    /// The disk did not confirm that it has what was written.
    #[error(
        "the disk did not confirm a write to {}: {detail}; check the disk, then start the server again: \
         only a new start reads what the disk really has",
        .path.display()
    )]
    Unconfirmed {
        /// The database.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },

    /// A change that no store can hold: a bug of the caller.
    #[error("the change cannot be stored: {0}; please report this as a bug")]
    Unstorable(String),

    /// An earlier commit failed, so everything that builds on it is refused.
    #[error(
        "an earlier commit failed, so the changes made after it are void: load the state again, then \
         decide again"
    )]
    Discarded,

    /// The writer has more waiting than it takes.
    #[error("the store is too slow: {waiting} commits wait already; try again later")]
    Overloaded {
        /// How many wait.
        waiting: usize,
    },

    /// The writer has stopped.
    #[error("the store's writer has stopped: the server is shutting down, or failed before this")]
    Stopped,
}

impl StoreError {
    /// Whether this process must not write any more: loading again cannot help.
    ///
    /// The server then exits with an error. After any other error it may go on.
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Fenced { .. }
            | Self::OtherFleet { .. }
            | Self::Missing { .. }
            | Self::Absent { .. }
            | Self::Occupied { .. }
            | Self::Foreign { .. }
            | Self::NewerSchema { .. }
            | Self::Damaged { .. }
            | Self::Locked { .. }
            | Self::Unconfirmed { .. }
            | Self::Stopped => true,
            Self::Io { .. }
            | Self::DiskFull { .. }
            | Self::Unstorable(_)
            | Self::Discarded
            | Self::Overloaded { .. } => false,
        }
    }
}

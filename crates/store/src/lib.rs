//! Durable storage: SQLite and memory behind one trait.
//!
//! - [`Store`] is what the owner of the fleet uses: load everything once, then commit changes,
//!   all or nothing. It is synchronous; [`Writer`] runs it on a thread of its own and commits
//!   several submissions at once.
//! - [`History`] answers queries from any thread: the record of events, incidents, and single
//!   records that left memory.
//! - [`SqliteStore`] keeps a data directory, [`MemoryStore`] a [`MemoryDisk`] that outlives it.
//!
//! What is on disk has types of its own (`rows`), so that a change of the model cannot change
//! the format unseen.

mod error;
mod memory;
mod query;
mod restored;
mod retention;
mod rows;
mod sqlite;
mod writer;

use navarch_model::{Change, FleetId, State, Time};

pub use error::StoreError;
pub use memory::{MemoryDisk, MemoryStore};
pub use query::{EventQuery, History, IncidentCursor, IncidentQuery, MAX_LIMIT, Order};
pub use retention::{Pruned, Retention};
pub use sqlite::{Copied, DATABASE_FILE, FLEET_ID_FILE, LOCK_FILE, Opening, SqliteStore};
pub use writer::{Ticket, Writer, WriterLimits};

/// Where the state of a fleet is kept.
///
/// Every implementation passes the conformance suite in `tests/store/conformance`.
pub trait Store: Send {
    /// Reads the state that decisions are made from: everything that was committed, without
    /// events and without records that were forgotten.
    ///
    /// The epoch in the state's [`Meta`](navarch_model::Meta) is that of the last
    /// [`take_over`](Store::take_over), and its `last_event` is at least the sequence of the
    /// last event on record, whatever the last committed `Meta` said.
    ///
    /// # Errors
    ///
    /// When the records cannot be read.
    fn load(&mut self) -> Result<State, StoreError>;

    /// Makes the caller the one writer: raises the stored epoch and returns it. Commits with
    /// any other epoch are refused from now on.
    ///
    /// # Errors
    ///
    /// When the new epoch cannot be made durable; the old one then still holds.
    fn take_over(&mut self) -> Result<u64, StoreError>;

    /// Makes the changes in their order, all or none, and returns once they are durable.
    ///
    /// A `Meta` carries the fleet's id, which never changes; its epoch is not stored, for
    /// [`take_over`](Store::take_over) alone sets that. An event replaces the one of the same
    /// sequence. A forgotten record stays for [`History`] and is no longer loaded, until a
    /// change brings it back; forgetting what is not there does nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`] when `epoch` is not the stored one. After any error nothing of
    /// `changes` is stored; the state that they were made for must be discarded and loaded
    /// again.
    fn commit(&mut self, epoch: u64, changes: &[Change]) -> Result<(), StoreError>;

    /// A reader for other threads. It sees every commit that has returned, and may outlive the
    /// store.
    fn reader(&self) -> Box<dyn History>;

    /// Removes one small batch of what the policy no longer keeps, `wall` being the present
    /// Unix time. Call it again while the answer says that there is more. What is part of the
    /// loaded state and the newest event are never removed.
    ///
    /// # Errors
    ///
    /// As [`commit`](Store::commit).
    fn prune(&mut self, epoch: u64, wall: Time, keep: &Retention) -> Result<Pruned, StoreError>;
}

impl<S: Store + ?Sized> Store for Box<S> {
    fn load(&mut self) -> Result<State, StoreError> {
        (**self).load()
    }

    fn take_over(&mut self) -> Result<u64, StoreError> {
        (**self).take_over()
    }

    fn commit(&mut self, epoch: u64, changes: &[Change]) -> Result<(), StoreError> {
        (**self).commit(epoch, changes)
    }

    fn reader(&self) -> Box<dyn History> {
        (**self).reader()
    }

    fn prune(&mut self, epoch: u64, wall: Time, keep: &Retention) -> Result<Pruned, StoreError> {
        (**self).prune(epoch, wall, keep)
    }
}

/// Refuses what no store may take: changes of another fleet, numbers that do not fit.
fn check(
    change: &Change,
    fleet: &FleetId,
    place: impl FnOnce() -> String,
) -> Result<(), StoreError> {
    match change {
        Change::Meta(meta) if meta.fleet != *fleet => Err(StoreError::OtherFleet {
            place: place(),
            held: fleet.clone(),
            given: meta.fleet.clone(),
        }),
        Change::Event(event) if event.sequence == 0 || i64::try_from(event.sequence).is_err() => {
            let sequence = event.sequence;
            let limit = i64::MAX;
            Err(StoreError::Unstorable(format!(
                "the event's sequence is {sequence}, and must be from 1 to {limit}"
            )))
        }
        _ => Ok(()),
    }
}

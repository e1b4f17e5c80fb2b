//! A store in one SQLite database, in a data directory of its own.

mod backup;
mod directory;
mod fault;
mod history;
mod load;
mod open;
mod prune;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use navarch_model::{Change, FleetId, IdSource, Node, State, Time};
use rusqlite::{Connection, TransactionBehavior};

use crate::{History, Pruned, Retention, Store, StoreError};
use directory::DirectoryLock;
use fault::fault;
use history::Readers;
use write::Described;

pub use backup::Copied;
pub use directory::{DATABASE_FILE, FLEET_ID_FILE, LOCK_FILE};
pub use open::Opening;

/// A store in one SQLite database.
///
/// It holds an exclusive lock on its directory for as long as it lives.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    readers: Arc<Readers>,
    database: PathBuf,
    fleet: FleetId,
    opening: Opening,
    described: Described,
    // The last field, so that the directory is free only once the database is closed.
    #[cfg_attr(not(test), expect(dead_code, reason = "it is held, not used"))]
    lock: DirectoryLock,
}

impl SqliteStore {
    /// Opens the store in the data directory, and makes both if there is none. A new store gets
    /// a fleet id from `ids`.
    ///
    /// An existing database is checked first, and brought to the present schema after a copy of
    /// it was made. What is damaged, foreign, newer or half missing is refused and left as it
    /// is: a store never starts empty where one was.
    ///
    /// # Errors
    ///
    /// [`StoreError`] says what is wrong with which file and what to do.
    pub fn open(directory: &Path, ids: &mut dyn IdSource) -> Result<Self, StoreError> {
        open::open(directory, ids, schema::MIGRATIONS)
    }

    /// The fleet whose store it is.
    pub fn fleet(&self) -> &FleetId {
        &self.fleet
    }

    /// What opening it did, for the log.
    pub fn opening(&self) -> &Opening {
        &self.opening
    }

    /// The database file.
    pub fn database(&self) -> &Path {
        &self.database
    }

    fn fault(&self, doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let database = self.database.clone();
        move |error| fault(&database, doing, error)
    }

    /// Copies the log into the database, so that the next commit writes it from its beginning
    /// instead of making it longer. It helps while the disk is full, if the database has room.
    fn free_log(&self) {
        let checkpoint = "PRAGMA wal_checkpoint(PASSIVE)";
        if let Err(error) = self.connection.query_row(checkpoint, [], |_| Ok(())) {
            tracing::debug!(%error, "the log cannot be copied into the database");
        }
    }

    /// Runs `work` in one transaction, if the epoch is the stored one.
    fn transact<T>(
        &mut self,
        epoch: u64,
        work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, StoreError> {
        let fault = self.fault("write");
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(&fault)?;
        let held = held_epoch(&transaction).map_err(&fault)?;
        if held != epoch {
            return Err(StoreError::Fenced { held, given: epoch });
        }
        let value = work(&transaction).map_err(&fault)?;
        transaction.commit().map_err(&fault)?;
        Ok(value)
    }
}

fn held_epoch(connection: &Connection) -> Result<u64, rusqlite::Error> {
    let mut statement = connection.prepare_cached("SELECT epoch FROM meta")?;
    let epoch: i64 = statement.query_row([], |row| row.get(0))?;
    Ok(epoch.unsigned_abs())
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<State, StoreError> {
        let state = load::load(&self.connection, &self.database, &self.fleet)?;
        let described = |node: &Arc<Node>| (node.id.clone(), Arc::clone(&node.description));
        self.described = state.nodes.values().map(described).collect();
        Ok(state)
    }

    fn take_over(&mut self) -> Result<u64, StoreError> {
        let fault = self.fault("write");
        let raise = "UPDATE meta SET epoch = epoch + 1 RETURNING epoch";
        // Without a transaction of its own, an error of the statement's commit would go unseen:
        // it comes after the row.
        let transaction = self.connection.transaction().map_err(&fault)?;
        let epoch: i64 = transaction
            .query_row(raise, [], |row| row.get(0))
            .map_err(&fault)?;
        transaction.commit().map_err(&fault)?;
        Ok(epoch.unsigned_abs())
    }

    fn commit(&mut self, epoch: u64, changes: &[Change]) -> Result<(), StoreError> {
        for change in changes {
            crate::check(change, &self.fleet, || self.database.display().to_string())?;
        }
        // After a failure it is unknown what the database has, so nothing is.
        let mut described = std::mem::take(&mut self.described);
        let result = self.transact(epoch, |connection| {
            write::changes(connection, changes, &mut described)
        });
        match result {
            Ok(()) => self.described = described,
            Err(StoreError::DiskFull { .. }) => self.free_log(),
            Err(_) => {}
        }
        result
    }

    fn reader(&self) -> Box<dyn History> {
        Box::new(Arc::clone(&self.readers))
    }

    fn prune(&mut self, epoch: u64, wall: Time, keep: &Retention) -> Result<Pruned, StoreError> {
        self.transact(epoch, |connection| prune::prune(connection, wall, keep))
    }
}

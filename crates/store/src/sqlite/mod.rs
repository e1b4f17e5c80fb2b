//! A store in one SQLite database, in a data directory of its own.

mod directory;
mod fault;
mod history;
mod open;
mod prune;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use navarch_model::{Change, FleetId, IdSource, State, Time};
use rusqlite::{Connection, TransactionBehavior};

use crate::rows::{MetaRow, OnDisk, decode};
use crate::{History, Pruned, Retention, Store, StoreError};
use directory::DirectoryLock;
use fault::{damaged_row, fault};
use history::Readers;

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
    // The last field, so that the directory is free only once the database is closed.
    _lock: DirectoryLock,
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

    /// Every live record of a table.
    fn rows<T: OnDisk>(
        &self,
        table: &'static str,
        sql: &str,
        mut take: impl FnMut(T),
    ) -> Result<(), StoreError> {
        let fault = self.fault("read");
        let mut statement = self.connection.prepare_cached(sql).map_err(&fault)?;
        let mut rows = statement.query([]).map_err(&fault)?;
        while let Some(row) = rows.next().map_err(&fault)? {
            let key = row
                .get_ref(0)
                .and_then(|key| Ok(key.as_str()?))
                .map_err(&fault)?;
            let text = row
                .get_ref(1)
                .and_then(|text| Ok(text.as_str()?))
                .map_err(&fault)?;
            let value =
                decode(text).map_err(|detail| damaged_row(&self.database, table, key, &detail))?;
            take(value);
        }
        Ok(())
    }
}

fn held_epoch(connection: &Connection) -> Result<u64, rusqlite::Error> {
    let mut statement = connection.prepare_cached("SELECT epoch FROM meta")?;
    let epoch: i64 = statement.query_row([], |row| row.get(0))?;
    Ok(epoch.unsigned_abs())
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<State, StoreError> {
        let fault = self.fault("read");
        let mut state = State::new(self.fleet.clone());
        let (epoch, text, last): (u64, String, Option<i64>) = self
            .connection
            .query_row(
                "SELECT epoch, row, (SELECT max(sequence) FROM events) FROM meta",
                [],
                |row| {
                    Ok((
                        row.get::<_, i64>(0)?.unsigned_abs(),
                        row.get(1)?,
                        row.get(2)?,
                    ))
                },
            )
            .map_err(&fault)?;
        let row: MetaRow = serde_json::from_str(&text)
            .map_err(|error| damaged_row(&self.database, "meta", "", &error.to_string()))?;
        let mut meta = row.into_meta(self.fleet.clone(), epoch);
        meta.last_event = meta.last_event.max(last.unwrap_or(0).unsigned_abs());
        state.meta = Arc::new(meta);

        self.rows("pools", "SELECT name, row FROM pools", |pool| {
            state.apply(&Change::Pool(pool));
        })?;
        self.rows(
            "unclaimed",
            "SELECT provider_id, row FROM unclaimed",
            |one| {
                state.apply(&Change::Unclaimed(one));
            },
        )?;
        self.rows(
            "instances",
            "SELECT id, row FROM instances WHERE live = 1",
            |one| {
                state.apply(&Change::Instance(one));
            },
        )?;
        self.rows("nodes", "SELECT id, row FROM nodes WHERE live = 1", |one| {
            state.apply(&Change::Node(one));
        })?;
        self.rows(
            "incidents",
            "SELECT id, row FROM incidents WHERE live = 1",
            |one| {
                state.apply(&Change::Incident(one));
            },
        )?;
        self.rows(
            "commands",
            "SELECT id, row FROM commands WHERE live = 1",
            |one| {
                state.apply(&Change::Command(one));
            },
        )?;
        Ok(state)
    }

    fn take_over(&mut self) -> Result<u64, StoreError> {
        let epoch: i64 = self
            .connection
            .query_row(
                "UPDATE meta SET epoch = epoch + 1 RETURNING epoch",
                [],
                |row| row.get(0),
            )
            .map_err(self.fault("write"))?;
        Ok(epoch.unsigned_abs())
    }

    fn commit(&mut self, epoch: u64, changes: &[Change]) -> Result<(), StoreError> {
        for change in changes {
            crate::check(change, &self.fleet, || self.database.display().to_string())?;
        }
        self.transact(epoch, |connection| write::changes(connection, changes))
    }

    fn reader(&self) -> Box<dyn History> {
        Box::new(Arc::clone(&self.readers))
    }

    fn prune(&mut self, epoch: u64, wall: Time, keep: &Retention) -> Result<Pruned, StoreError> {
        self.transact(epoch, |connection| prune::prune(connection, wall, keep))
    }
}

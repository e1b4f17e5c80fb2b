//! Copies of a data directory: made while a server runs, verified, put back where none runs.

use std::fs;
use std::path::Path;

use navarch_model::{FleetId, Time};
use rusqlite::{Connection, OpenFlags};

use super::directory::{
    DATABASE_FILE, DirectoryLock, FLEET_ID_FILE, put_in_place, read_fleet_id, remove_leftover,
    write_fleet_id,
};
use super::fault::{fault, system};
use super::open::{BUSY_TIMEOUT, check, inspect, new_file};
use super::schema::{MIGRATIONS, migrate, version_of};
use super::write::{self, Described};
use super::{SqliteStore, load};
use crate::StoreError;
use crate::restored::changes_of_restore;

/// What a copy holds, as read back from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The fleet whose state it is.
    pub fleet: FleetId,
    /// Nodes that were not forgotten.
    pub nodes: u64,
    /// Instances that were not forgotten.
    pub instances: u64,
    /// Events on record.
    pub events: u64,
    /// The size of the file in bytes.
    pub bytes: u64,
}

impl SqliteStore {
    /// Copies the database of a data directory to a new file, as it is at one moment. A server may
    /// run and go on writing; the copy is checked and read back whole before it has its name.
    ///
    /// # Errors
    ///
    /// When there is no database, it or the copy is damaged, or `file` exists. Nothing is then
    /// left behind, and the database is as it was.
    pub fn backup(directory: &Path, file: &Path) -> Result<Copied, StoreError> {
        let database = directory.join(DATABASE_FILE);
        require(&database)?;
        vacant(file)?;
        // Not read-only: after a kill, the first to come must bring the log into the database.
        let connection = open_plain(&database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        // Named after this process: what another one left is not ours to remove.
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let new = file.with_file_name(format!(".{name}.{}.partial", std::process::id()));
        write_copy(&connection, &new, file, || {
            let copy = open_plain(&new, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            read_back(&copy, &new)
        })
    }

    /// Makes the database of a data directory from a copy, with automation off until a person has
    /// looked: the copy does not know what happened after it was made, nor what the scheduler heard
    /// since. `wall` is the present Unix time. A copy of an older schema is brought to the present
    /// one.
    ///
    /// # Errors
    ///
    /// When a server uses the directory, it has a database or belongs to another fleet, or the
    /// copy is damaged, foreign or newer than this program. Nothing is then changed.
    pub fn restore(file: &Path, directory: &Path, wall: Time) -> Result<Copied, StoreError> {
        require(file)?;
        let lock = DirectoryLock::take(directory)?;
        let database = directory.join(DATABASE_FILE);
        for name in ["", "-wal", "-shm"] {
            vacant(&directory.join(format!("{DATABASE_FILE}{name}")))?;
        }
        let known = read_fleet_id(directory)?;
        let connection = open_plain(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        check(&connection, file, u64::MAX)?;
        let held = fleet_of(&connection, file)?;
        if let Some(known) = known.filter(|known| *known != held) {
            let place = directory.join(FLEET_ID_FILE).display().to_string();
            return Err(StoreError::OtherFleet {
                place: format!("the data directory, by its file {place},"),
                held: known,
                given: held,
            });
        }
        let new = new_file(directory);
        remove_leftover(&new)?;
        let copied = write_copy(&connection, &new, &database, || {
            let mut copy = open_plain(&new, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            let failed = |error| fault(&new, "upgrade", error);
            let version = schema_of(&copy).map_err(failed)?;
            migrate(&mut copy, MIGRATIONS, version, |_| Ok(())).map_err(failed)?;
            put_back(&mut copy, &new, wall)?;
            read_back(&copy, &new)
        })?;
        write_fleet_id(directory, &copied.fleet)?;
        drop(lock);
        Ok(copied)
    }
}

/// Refuses a file that is not a database of ours.
fn require(database: &Path) -> Result<(), StoreError> {
    if inspect(database, false, version_of(MIGRATIONS))? {
        return Ok(());
    }
    Err(StoreError::Absent {
        path: database.to_owned(),
    })
}

/// Refuses a place that is taken.
fn vacant(path: &Path) -> Result<(), StoreError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(StoreError::Occupied {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(system(path, "look for", &error)),
    }
}

fn open_plain(path: &Path, mode: OpenFlags) -> Result<Connection, StoreError> {
    let failed = |error| fault(path, "open", error);
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    Ok(connection)
}

/// Writes what the connection sees to `new`, has `finish` look at it, and only then gives it its
/// name, `path`.
fn write_copy(
    connection: &Connection,
    new: &Path,
    path: &Path,
    finish: impl FnOnce() -> Result<Copied, StoreError>,
) -> Result<Copied, StoreError> {
    let name = new.to_str().ok_or_else(|| StoreError::Io {
        doing: "write",
        path: path.to_owned(),
        detail: "the path is not Unicode; use another one".to_owned(),
    })?;
    let write = || {
        connection
            .execute("VACUUM INTO ?1", [name])
            .map_err(|error| fault(path, "copy the database to", error))?;
        let copied = finish()?;
        put_in_place(new, path)?;
        Ok(copied)
    };
    write().inspect_err(|_| {
        // The first error is the one that matters.
        let _ = remove_leftover(new);
    })
}

fn schema_of(connection: &Connection) -> Result<u32, rusqlite::Error> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn fleet_of(connection: &Connection, path: &Path) -> Result<FleetId, StoreError> {
    connection
        .query_row("SELECT fleet FROM meta", [], |row| row.get::<_, String>(0))
        .map(FleetId::new)
        .map_err(|error| fault(path, "read", error))
}

/// Checks every page, reads every record that decisions use, and counts them.
fn read_back(connection: &Connection, path: &Path) -> Result<Copied, StoreError> {
    check(connection, path, u64::MAX)?;
    let failed = |error| fault(path, "read", error);
    let fleet = fleet_of(connection, path)?;
    // This program reads the records of an older schema only after an upgrade.
    if schema_of(connection).map_err(failed)? == version_of(MIGRATIONS) {
        load::load(connection, path, &fleet)?;
    }
    let count = |sql: &str| -> Result<u64, StoreError> {
        let value: i64 = connection
            .query_row(sql, [], |row| row.get(0))
            .map_err(failed)?;
        Ok(value.unsigned_abs())
    };
    let bytes = fs::metadata(path)
        .map_err(|error| system(path, "read", &error))?
        .len();
    Ok(Copied {
        fleet,
        nodes: count("SELECT count(*) FROM nodes WHERE live = 1")?,
        instances: count("SELECT count(*) FROM instances WHERE live = 1")?,
        events: count("SELECT count(*) FROM events")?,
        bytes,
    })
}

/// Makes a copy one that was put back.
fn put_back(copy: &mut Connection, path: &Path, wall: Time) -> Result<(), StoreError> {
    let state = load::load(copy, path, &fleet_of(copy, path)?)?;
    let changes = changes_of_restore(&state, wall);
    let write = |copy: &mut Connection| {
        let transaction = copy.transaction()?;
        write::changes(&transaction, &changes, &mut Described::new())?;
        transaction.commit()
    };
    write(copy).map_err(|error| fault(path, "write", error))
}

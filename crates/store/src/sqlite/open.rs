//! Opening a data directory: make it, check it, or say why not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use navarch_model::{FleetId, IdSource, State, ids};
use rusqlite::{Connection, OpenFlags};

use super::directory::{
    DATABASE_FILE, DirectoryLock, evidence, put_in_place, read_fleet_id, remove_leftover,
    write_fleet_id,
};
use super::fault::{fault, system};
use super::history::Readers;
use super::schema::{APPLICATION_ID, migrate, version_of};
use super::{FLEET_ID_FILE, SqliteStore};
use crate::StoreError;
use crate::rows::{MetaRow, encode_row};

/// How long a call waits for another connection of this process. Higher holds up the writer, lower
/// fails where waiting would do.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How many KiB of pages the writer keeps. Higher costs memory, lower reads pages again.
const WRITER_CACHE_KIB: i32 = 2 * 1024;

/// After how many pages the log goes into the database. Higher lets the log grow and makes each
/// such pause longer, lower syncs the database more often.
const CHECKPOINT_PAGES: i32 = 16_000;

/// Up to which size the whole database is checked at each start. Higher makes a start with a long
/// history slower, lower finds damage among the events only when they are read.
const CHECK_WHOLE_BYTES: u64 = 256 << 20;

/// How many statements stay prepared: more than there are.
const STATEMENTS: usize = 64;

/// What opening a store did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Opening {
    /// The store is new.
    pub created: bool,
    /// The schema that it had before this version brought it to its own.
    pub upgraded_from: Option<u32>,
    /// The copy that was made before.
    pub copy: Option<PathBuf>,
}

pub(super) fn open(
    directory: &Path,
    ids: &mut dyn IdSource,
    migrations: &[&str],
) -> Result<SqliteStore, StoreError> {
    let lock = DirectoryLock::take(directory)?;
    let database = directory.join(DATABASE_FILE);
    let known = read_fleet_id(directory)?;
    remove_leftover(&new_file(directory))?;
    let mut opening = Opening::default();
    if !inspect(&database, known.is_some(), version_of(migrations))? {
        if let Some(evidence) = evidence(directory)? {
            return Err(StoreError::Missing { database, evidence });
        }
        let fleet = FleetId::new(ids::fresh("fleet", ids));
        create(directory, &fleet, migrations)?;
        opening.created = true;
    }
    let mut connection = connect(&database)?;
    check(&connection, &database, CHECK_WHOLE_BYTES)?;
    upgrade(&mut connection, &database, migrations, &mut opening)?;
    let failed = |error| fault(&database, "read", error);
    let fleet: String = connection
        .query_row("SELECT fleet FROM meta", [], |row| row.get(0))
        .map_err(failed)?;
    let fleet = FleetId::new(fleet);
    match known {
        None => write_fleet_id(directory, &fleet)?,
        Some(known) if known == fleet => {}
        Some(known) => {
            let place = directory.join(FLEET_ID_FILE).display().to_string();
            return Err(StoreError::OtherFleet {
                place: format!("the data directory, by its file {place},"),
                held: known,
                given: fleet,
            });
        }
    }
    Ok(SqliteStore {
        connection,
        readers: Arc::new(Readers::new(&database)),
        database,
        fleet,
        opening,
        described: BTreeMap::new(),
        lock,
    })
}

/// Where a new database is made before it gets its name.
pub(super) fn new_file(directory: &Path) -> PathBuf {
    directory.join(format!("new-{DATABASE_FILE}"))
}

/// Whether there is a database that may be opened. It reads the file's header by itself, so that
/// SQLite never touches, and perhaps changes, what is not ours.
pub(super) fn inspect(database: &Path, was_ours: bool, newest: u32) -> Result<bool, StoreError> {
    let mut header = Vec::new();
    match File::open(database) {
        Ok(file) => file
            .take(100)
            .read_to_end(&mut header)
            .map_err(|error| system(database, "read", &error))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(system(database, "open", &error)),
    };
    let path = database.to_owned();
    let number = |at: usize| {
        let bytes = header.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    if !header.starts_with(b"SQLite format 3\0") || header.len() < 100 {
        let found = if header.is_empty() {
            "it is empty"
        } else {
            "its first bytes are not those of a database"
        };
        return Err(if was_ours {
            let detail = found.to_owned();
            StoreError::Damaged { path, detail }
        } else {
            let found = found.to_owned();
            StoreError::Foreign { path, found }
        });
    }
    if number(68) != Some(APPLICATION_ID) {
        let found = "it is an SQLite database of another program".to_owned();
        return Err(StoreError::Foreign { path, found });
    }
    match number(60) {
        Some(found) if found > newest => Err(StoreError::NewerSchema {
            path,
            found,
            known: newest,
        }),
        _ => Ok(true),
    }
}

/// Makes a database, complete before it has its name.
fn create(directory: &Path, fleet: &FleetId, migrations: &[&str]) -> Result<(), StoreError> {
    let new = new_file(directory);
    let database = directory.join(DATABASE_FILE);
    let failed = |error| fault(&database, "make", error);
    let mut connection = Connection::open(&new).map_err(failed)?;
    migrate(&mut connection, migrations, 0, |connection| {
        let meta = encode_row(&MetaRow::new(&State::new(fleet.clone()).meta));
        connection.execute(
            "INSERT INTO meta (one, fleet, epoch, row) VALUES (1, ?1, 0, ?2)",
            (fleet.as_str(), meta),
        )?;
        Ok(())
    })
    .map_err(failed)?;
    connection.close().map_err(|(_, error)| failed(error))?;
    put_in_place(&new, &database)
}

/// Opens the connection that writes.
fn connect(database: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |error| fault(database, "open", error);
    let connection = Connection::open_with_flags(database, flags).map_err(failed)?;
    let configure = || -> Result<String, rusqlite::Error> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
    };
    let mode = configure().map_err(failed)?;
    if mode != "wal" {
        let path = database.to_owned();
        let detail = format!(
            "its file system cannot share memory between connections, as SQLite's log needs (mode \
             {mode:?}); use a local disk"
        );
        return Err(StoreError::Io {
            doing: "open",
            path,
            detail,
        });
    }
    Ok(connection)
}

/// Looks for damage. In a database of more than `most_bytes` the events are left out: they are
/// nearly all of it, a start must not wait for them, and no decision is made from them.
pub(super) fn check(
    connection: &Connection,
    database: &Path,
    most_bytes: u64,
) -> Result<(), StoreError> {
    let failed = |error| fault(database, "check", error);
    let bytes = std::fs::metadata(database)
        .map_err(|error| system(database, "check", &error))?
        .len();
    let tables: Vec<String> = if bytes <= most_bytes {
        Vec::new()
    } else {
        let mut statement = connection
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'events'")
            .map_err(failed)?;
        let names = statement.query_map([], |row| row.get(0)).map_err(failed)?;
        names.collect::<Result<_, _>>().map_err(failed)?
    };
    let mut checks: Vec<String> = tables
        .iter()
        .map(|table| format!("PRAGMA quick_check(\"{}\")", table.replace('"', "\"\"")))
        .collect();
    if checks.is_empty() {
        checks.push("PRAGMA quick_check(1)".to_owned());
    }
    for sql in checks {
        let answer: String = connection
            .query_row(&sql, [], |row| row.get(0))
            .map_err(failed)?;
        if answer != "ok" {
            return Err(StoreError::Damaged {
                path: database.to_owned(),
                detail: answer.split_whitespace().collect::<Vec<_>>().join(" "),
            });
        }
    }
    Ok(())
}

/// Brings an older database to the present schema, after a copy.
fn upgrade(
    connection: &mut Connection,
    database: &Path,
    migrations: &[&str],
    opening: &mut Opening,
) -> Result<(), StoreError> {
    let failed = |error| fault(database, "upgrade", error);
    let newest = version_of(migrations);
    let version: u32 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(failed)?;
    if version > newest {
        return Err(StoreError::NewerSchema {
            path: database.to_owned(),
            found: version,
            known: newest,
        });
    }
    if version == newest {
        return Ok(());
    }
    opening.copy = Some(copy(connection, database, version)?);
    migrate(connection, migrations, version, |_| Ok(())).map_err(failed)?;
    // The file itself then shows the new schema to an older program, which reads only its header.
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .map_err(failed)?;
    opening.upgraded_from = Some(version);
    Ok(())
}

/// Copies the database to a file beside it that is named after its schema.
fn copy(connection: &Connection, database: &Path, version: u32) -> Result<PathBuf, StoreError> {
    let copy = database.with_file_name(format!("{DATABASE_FILE}.schema-{version}"));
    let new = database.with_file_name(format!("new-{DATABASE_FILE}.schema-{version}"));
    remove_leftover(&new)?;
    let Some(name) = new.to_str() else {
        let path = database.to_owned();
        let detail = "the path is not Unicode; use another data directory".to_owned();
        return Err(StoreError::Io {
            doing: "copy",
            path,
            detail,
        });
    };
    connection
        .execute("VACUUM INTO ?1", [name])
        .map_err(|error| fault(&copy, "copy the database to", error))?;
    put_in_place(&new, &copy)?;
    Ok(copy)
}

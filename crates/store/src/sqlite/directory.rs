//! The data directory: its lock, its files, and what shows that it was in use.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use navarch_model::FleetId;

use super::fault::system;
use crate::StoreError;

/// The name of the database in the data directory.
pub const DATABASE_FILE: &str = "navarch.db";

/// The name of the file with the fleet's id. It shows that a directory had a database, and whose.
pub const FLEET_ID_FILE: &str = "fleet-id";

/// The name of the lock file. It holds the process id of the server that uses the directory, and
/// stays when that ends: the lock is what counts, not the file.
pub const LOCK_FILE: &str = "navarch.lock";

/// Holds the data directory for this process.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    file: File,
}

impl Drop for DirectoryLock {
    /// Closing the file alone would not do: a process that is just being started by another
    /// thread has it open too until it runs its own program.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "cannot give the data directory's lock back before the end");
        }
    }
}

impl DirectoryLock {
    /// Makes the directory if need be, and takes it.
    pub(super) fn take(directory: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(directory)
            .map_err(|error| system(directory, "make the data directory", &error))?;
        let path = directory.join(LOCK_FILE);
        let fault = |error: &io::Error| system(&path, "lock", error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| fault(&error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked {
                    path: directory.to_owned(),
                    pid: holder(&mut file),
                });
            }
            Err(TryLockError::Error(error)) => return Err(fault(&error)),
        }
        file.set_len(0).map_err(|error| fault(&error))?;
        writeln!(file, "{}", std::process::id()).map_err(|error| fault(&error))?;
        Ok(Self { file })
    }
}

#[cfg(test)]
impl DirectoryLock {
    /// The same open file once more, as a process has it that was forked and runs nothing yet.
    pub(super) fn duplicate(&self) -> File {
        self.file.try_clone().expect("the file can be opened again")
    }
}

/// Who holds the lock, if the file says so.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// The fleet's id as the directory knows it.
pub(super) fn read_fleet_id(directory: &Path) -> Result<Option<FleetId>, StoreError> {
    let path = directory.join(FLEET_ID_FILE);
    match fs::read(&path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            Ok(Some(FleetId::new(text.trim())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(system(&path, "read", &error)),
    }
}

/// Writes the fleet's id, whole or not at all.
pub(super) fn write_fleet_id(directory: &Path, fleet: &FleetId) -> Result<(), StoreError> {
    let path = directory.join(FLEET_ID_FILE);
    let new = directory.join(format!("{FLEET_ID_FILE}.new"));
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        writeln!(file, "{fleet}")?;
        file.sync_all()
    };
    write().map_err(|error| system(&path, "write", &error))?;
    put_in_place(&new, &path)
}

/// Gives a file that is complete its name, durably.
pub(super) fn put_in_place(new: &Path, path: &Path) -> Result<(), StoreError> {
    let fault = |error: io::Error| system(path, "write", &error);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(new)
        .map_err(fault)?;
    file.sync_all().map_err(fault)?;
    drop(file);
    fs::rename(new, path).map_err(fault)?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or(Path::new("."));
    sync_directory(directory).map_err(fault)
}

#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Elsewhere a directory cannot be opened as a file; a rename is durable with the file.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Removes a file that an earlier start left half done.
pub(super) fn remove_leftover(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(system(path, "remove", &error))
        }
        _ => Ok(()),
    }
}

/// A file which shows that the directory had a database.
pub(super) fn evidence(directory: &Path) -> Result<Option<PathBuf>, StoreError> {
    let fault = |error: io::Error| system(directory, "list", &error);
    let mut found = None;
    for entry in fs::read_dir(directory).map_err(fault)? {
        let name = entry.map_err(fault)?.file_name();
        let Some(name) = name.to_str() else { continue };
        let ours = name == FLEET_ID_FILE
            || name
                .strip_prefix(DATABASE_FILE)
                .is_some_and(|rest| rest.starts_with(['-', '.']));
        if ours {
            found = found.max(Some(directory.join(name)));
        }
    }
    Ok(found)
}

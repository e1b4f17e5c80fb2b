//! What SQLite and the system report, as errors for people.

use std::io;
use std::path::Path;

use rusqlite::{ErrorCode, ffi};

use crate::StoreError;

/// The error of an SQLite call. `doing` is a verb: what was done with the file.
pub(super) fn fault(path: &Path, doing: &'static str, error: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    let detail = error.to_string();
    let Some(code) = error.sqlite_error() else {
        // A row of another shape than this program wrote.
        return StoreError::Damaged { path, detail };
    };
    match code.code {
        ErrorCode::DiskFull => StoreError::DiskFull { path },
        // "Unknown" is SQLite's general error: here a table or column that is not there.
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown => {
            StoreError::Damaged { path, detail }
        }
        ErrorCode::SystemIoFailure
            if matches!(
                code.extended_code,
                ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC
            ) =>
        {
            StoreError::Unconfirmed { path, detail }
        }
        _ => {
            let detail = format!("{detail} (SQLite code {})", code.extended_code);
            StoreError::Io {
                doing,
                path,
                detail,
            }
        }
    }
}

/// The error of a system call.
pub(super) fn system(path: &Path, doing: &'static str, error: &io::Error) -> StoreError {
    let path = path.to_owned();
    if error.kind() == io::ErrorKind::StorageFull {
        return StoreError::DiskFull { path };
    }
    let detail = error.to_string();
    StoreError::Io {
        doing,
        path,
        detail,
    }
}

/// A row that is not what this program writes.
pub(super) fn damaged_row(path: &Path, table: &str, key: &str, detail: &str) -> StoreError {
    let detail = format!("row {key:?} of table {table} cannot be read: {detail}");
    StoreError::Damaged {
        path: path.to_owned(),
        detail,
    }
}

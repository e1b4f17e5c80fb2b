//! What a run leaves behind: files for people and programs, and tables for the console.
//!
//! Everything but `timing.json` comes from the [`Record`] alone, so that equal records give equal
//! bytes.

mod columns;
mod figures;
mod html;
mod json;
mod logs;
mod tables;
mod text;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::record::Record;

pub use tables::{progress_line, tables};

/// The directory of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Makes the directory of a run, with those above it.
    ///
    /// # Errors
    ///
    /// Refuses a path that is not a directory or that holds anything, so that no run is mixed with
    /// another. Fails when the system does.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, ReportError> {
        let path = path.into();
        let failed = |source| ReportError::Create {
            path: path.clone(),
            source,
        };
        if path.exists() && !path.is_dir() {
            return Err(ReportError::NotADirectory { path });
        }
        std::fs::create_dir_all(&path).map_err(failed)?;
        if std::fs::read_dir(&path).map_err(failed)?.next().is_some() {
            return Err(ReportError::NotEmpty { path });
        }
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one file, by its path below the directory.
    fn file(
        &self,
        name: &str,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), ReportError> {
        let path = self.path.join(name);
        let written = File::create(&path).and_then(|file| {
            let mut file = BufWriter::new(file);
            write(&mut file)?;
            file.flush()
        });
        written.map_err(|source| ReportError::Write { path, source })
    }
}

/// What the run cost the machine that it ran on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long the run took, with the writing of its report.
    pub wall: Duration,
    /// The most memory that the process held, in bytes; none where the system does not say.
    pub peak_memory_bytes: Option<u64>,
}

/// Why a report was not written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The directory holds something already.
    #[error("{} is not empty: name a directory that does not exist yet", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// Something else has the directory's name.
    #[error("{} is not a directory: name one that does not exist yet", path.display())]
    NotADirectory {
        /// Its path.
        path: PathBuf,
    },
    /// The directory could not be made or read.
    #[error("cannot make the directory {}", path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes `scenario.yaml`, `report.json`, `report.html` and `logs/` into the directory of the run.
/// Other files that are there stay.
///
/// # Errors
///
/// Fails when a file cannot be written; files that were written before it stay.
pub fn write(directory: &Directory, record: &Record) -> Result<(), ReportError> {
    let logs = logs::names(record);
    directory.file("scenario.yaml", |file| {
        file.write_all(record.scenario.as_bytes())
    })?;
    directory.file("report.json", |file| json::write(file, record, &logs))?;
    directory.file("report.html", |file| html::write(file, record, &logs))?;
    let folder = directory.path.join(logs::FOLDER);
    std::fs::create_dir_all(&folder).map_err(|source| ReportError::Create {
        path: folder,
        source,
    })?;
    for (id, node) in &record.nodes {
        directory.file(&logs[id], |file| logs::write(file, record, id, node))?;
    }
    Ok(())
}

/// Writes `timing.json` into the directory of the run: last, so that it counts the writing of
/// everything else.
///
/// # Errors
///
/// Fails when the file cannot be written.
pub fn write_timing(
    directory: &Directory,
    record: &Record,
    timing: &Timing,
) -> Result<(), ReportError> {
    directory.file("timing.json", |file| {
        serde_json::to_writer_pretty(&mut *file, &TimingFile::new(record, timing))?;
        file.write_all(b"\n")
    })
}

/// `timing.json`: the figures that differ from run to run.
#[derive(Serialize)]
struct TimingFile {
    wall_seconds: f64,
    simulated_seconds: f64,
    node_hours: f64,
    node_hours_per_minute: f64,
    peak_memory_bytes: Option<u64>,
}

impl TimingFile {
    fn new(record: &Record, timing: &Timing) -> Self {
        let node_hours = figures::node_hours(record);
        // A run that took no measurable time has no rate; JSON has no infinity.
        let minutes = timing.wall.as_secs_f64().max(1e-6) / 60.0;
        Self {
            wall_seconds: timing.wall.as_secs_f64(),
            simulated_seconds: text::seconds(record.ended),
            node_hours,
            node_hours_per_minute: node_hours / minutes,
            peak_memory_bytes: timing.peak_memory_bytes,
        }
    }
}

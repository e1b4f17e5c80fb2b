//! The spool on disk: a journal of what the agent's core keeps, so that no event is lost with the
//! process.
//!
//! Each line is one JSON object: a fact that is kept, the places of facts that are gone, or how many
//! were lost and not told yet, of which the last such line counts. The
//! file is emptied whenever nothing is kept, and written anew when most of it is of no use.

mod content;
mod line;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;

use navarch_core::agent::{Changes, Kept, Losses, Spool, SpoolLimits};
use navarch_model::Time;

use crate::AgentError;
use crate::state::{StateDir, private_file, write_whole};
use content::{Content, damage, read_lines};
use line::{Line, push_line};

/// The journal's name in the state directory.
const NAME: &str = "spool.jsonl";
/// A journal is written anew once it is longer than twice what it was then, and this. Too low
/// writes often; too high costs disk.
const SLACK_BYTES: u64 = 4 * 1024 * 1024;

/// The journal of one agent.
#[derive(Debug)]
pub(crate) struct Journal {
    _state: Arc<StateDir>,
    path: PathBuf,
    file: File,
    /// The length up to which the file is whole.
    length: u64,
    /// Its length when it was last written anew.
    compact: u64,
    /// What the file says was lost.
    losses: Losses,
    failing: bool,
}

impl Journal {
    /// Opens the journal, and makes a spool of what it holds. A damaged one is set aside after
    /// everything readable was taken from it, and the spool holds a fact about that.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened or written.
    pub(crate) fn open(
        state: &Arc<StateDir>,
        limits: SpoolLimits,
        wall: Time,
    ) -> Result<(Self, Spool), AgentError> {
        let path = state.file(NAME);
        let read = AgentError::io("read", &path);
        let content = match File::open(&path) {
            Ok(file) => read_lines(file).map_err(read)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Content::default(),
            Err(error) => return Err(read(error)),
        };
        let damaged = content.bad_lines > 0;
        let mut kept: Vec<Kept> = content.kept.into_values().collect();
        if damaged {
            let why = format!("{} lines are no JSON of ours", content.bad_lines);
            let aside = state.set_aside(NAME, &why)?;
            let place = kept.last().map_or(1, |last| last.place + 1);
            kept.push(Kept {
                place,
                fact: damage(content.bad_lines, &aside.display().to_string(), wall),
            });
        }
        let file = private_file()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(AgentError::io("open", &path))?;
        let mut journal = Self {
            _state: Arc::clone(state),
            path: path.clone(),
            file,
            length: if damaged { 0 } else { content.length },
            compact: 0,
            losses: content.losses,
            failing: false,
        };
        let mut spool = Spool::load(limits, kept).with_losses(content.losses);
        // From here on, the spool tells what changes; all of now is written.
        spool.take_changes();
        // A torn last line goes; so does what the limit no longer allows.
        journal
            .rewrite(&spool)
            .map_err(AgentError::io("write", &path))?;
        Ok((journal, spool))
    }

    /// Makes the journal say what the spool says, given what changed since the last call. New facts
    /// are durable when this returns. If they cannot be made so, the agent goes on without: they are
    /// sent all the same.
    pub(crate) fn sync(&mut self, spool: &Spool, changes: Changes) {
        match self.try_sync(spool, changes) {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!(path = %self.path.display(), "events are kept on disk again");
            }
            Ok(()) => {}
            Err(error) => {
                if !self.failing {
                    tracing::warn!(
                        path = %self.path.display(), %error,
                        "events cannot be kept on disk; a restart loses those that are not sent"
                    );
                }
                self.failing = true;
            }
        }
    }

    fn try_sync(&mut self, spool: &Spool, changes: Changes) -> io::Result<()> {
        if spool.is_empty() {
            if self.length > 0 || self.failing {
                self.file.set_len(0)?;
                (self.length, self.compact) = (0, 0);
                self.losses = Losses::default();
            }
            return Ok(());
        }
        if self.failing || self.length > 2 * self.compact + SLACK_BYTES {
            return self.rewrite(spool);
        }
        let mut lines = Vec::new();
        let Changes { above, gone } = changes;
        let mut fresh = false;
        for kept in spool.above(above) {
            push_line(&mut lines, &Line::Kept(kept.into()));
            fresh = true;
        }
        // In this order, what a crash tears is counted or told again, and never forgotten.
        let losses = spool.losses();
        if losses != self.losses {
            push_line(&mut lines, &losses.into());
        }
        if !gone.is_empty() {
            push_line(&mut lines, &Line::Gone(gone));
        }
        if lines.is_empty() {
            return Ok(());
        }
        self.append(&lines)?;
        self.losses = losses;
        if fresh {
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        // What an append that failed half-way left is cut off first.
        self.file.seek(io::SeekFrom::Start(self.length))?;
        if let Err(error) = self.file.write_all(lines) {
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += lines.len() as u64;
        Ok(())
    }

    fn rewrite(&mut self, spool: &Spool) -> io::Result<()> {
        let mut lines = Vec::new();
        for kept in spool.iter() {
            push_line(&mut lines, &Line::Kept(kept.into()));
        }
        let losses = spool.losses();
        if losses != Losses::default() {
            push_line(&mut lines, &losses.into());
        }
        write_whole(&self.path, &lines)?;
        self.losses = losses;
        self.file = private_file().write(true).open(&self.path)?;
        self.length = lines.len() as u64;
        self.compact = self.length;
        Ok(())
    }
}

//! What a journal on disk holds, however damaged it is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};

use navarch_core::Fact;
use navarch_core::agent::{Kept, Losses};
use navarch_model::Time;

use super::line::Line;

/// A journal that is longer than anything this agent writes is not read into memory.
const MAX_BYTES: u64 = 1024 * 1024 * 1024;
/// A place that no agent reaches. A damaged line could name one after which there is no next.
const MAX_PLACE: u64 = 1 << 62;

/// What a journal held.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) kept: BTreeMap<u64, Kept>,
    pub(super) losses: Losses,
    /// How many bytes of whole lines there are.
    pub(super) length: u64,
    pub(super) bad_lines: u64,
}

/// Reads a journal. A last line that is not whole is what a crash leaves, and no damage.
pub(super) fn read_lines(file: File) -> io::Result<Content> {
    let mut content = Content::default();
    if file.metadata()?.len() > MAX_BYTES {
        content.bad_lines = 1;
        return Ok(content);
    }
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Ok(content);
        }
        content.length += read as u64;
        match serde_json::from_slice(&line) {
            Ok(Line::Kept(row)) if row.place > MAX_PLACE => content.bad_lines += 1,
            Ok(Line::Kept(row)) => {
                content.kept.insert(row.place, row.into());
            }
            Ok(Line::Gone(places)) => {
                for place in places {
                    content.kept.remove(&place);
                }
            }
            Ok(Line::Lost { shed, refused }) => content.losses = Losses { shed, refused },
            Err(_) => content.bad_lines += 1,
        }
    }
}

/// That events may be lost is itself a fact.
pub(super) fn damage(lines: u64, aside: &str, wall: Time) -> Fact {
    Fact {
        happened: wall.0,
        watch: "spool".to_owned(),
        metrics: [("lines_damaged".to_owned(), lines.to_string())].into(),
        message: format!(
            "the spool on disk was damaged: {lines} lines could not be read, and events may be lost; it is kept as {aside}"
        ),
        ..Fact::default()
    }
}

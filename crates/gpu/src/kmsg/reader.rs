//! Reads the kernel log record by record, without ever blocking anybody else.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::Start;

/// The most bytes of one record. The kernel's own limit; with a smaller buffer a
/// read fails and its record is lost.
const BUFFER_BYTES: usize = 8192;

/// What a read brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A record's text, without the line end.
    Record(String),
    /// Records that nobody can read any more: the log went round, or one was too long.
    Lost,
    /// Nothing more for now.
    Empty,
    /// Nothing more until somebody writes to a file that says "end" meanwhile.
    End,
}

/// The kernel log, open for reading.
///
/// `/dev/kmsg` gives one record per read. FIFOs and files, which stand for it in
/// tests, give any number of bytes; a line that begins with a space belongs to
/// the record before it and is left out.
#[derive(Debug)]
pub struct KernelLogReader {
    file: File,
    /// The record to start after, until all that was there is read: a number from
    /// an earlier boot must not silence what comes.
    after: Option<u64>,
    buffer: Box<[u8]>,
    partial: Vec<u8>,
    skipping: bool,
    lines: VecDeque<Outcome>,
}

impl KernelLogReader {
    /// Opens the log at `path`.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened for reading.
    pub fn open(path: &Path, start: Start) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)?;
        if start == Start::End {
            match file.seek(SeekFrom::End(0)) {
                Ok(_) => {}
                // A FIFO is always at its end.
                Err(error) if error.kind() == ErrorKind::NotSeekable => {}
                Err(error) => return Err(error),
            }
        }
        let after = match start {
            Start::End => None,
            Start::After(sequence) => Some(sequence),
        };
        Ok(Self {
            file,
            after,
            buffer: vec![0; BUFFER_BYTES].into(),
            partial: Vec::new(),
            skipping: false,
            lines: VecDeque::new(),
        })
    }

    /// The next record, if one is there. Never blocks.
    ///
    /// # Errors
    ///
    /// When the log can no longer be read.
    pub fn read(&mut self) -> io::Result<Outcome> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(line);
            }
            match self.file.read(&mut self.buffer) {
                Ok(0) => {
                    self.after = None;
                    return Ok(Outcome::End);
                }
                Ok(length) => self.split(length),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => {
                        self.after = None;
                        return Ok(Outcome::Empty);
                    }
                    // What we were about to read was overwritten, or was longer
                    // than the buffer; the next read goes on after it.
                    ErrorKind::BrokenPipe | ErrorKind::InvalidInput => return Ok(Outcome::Lost),
                    _ => return Err(error),
                },
            }
        }
    }

    /// Splits what was just read into lines; keeps the last, unfinished one.
    fn split(&mut self, length: usize) {
        for byte in &self.buffer[..length] {
            if *byte == b'\n' {
                if self.skipping {
                    self.lines.push_back(Outcome::Lost);
                } else if self.partial.first().is_some_and(|first| *first != b' ') {
                    let text = String::from_utf8_lossy(&self.partial).into_owned();
                    if self.is_new(&text) {
                        self.lines.push_back(Outcome::Record(text));
                    }
                }
                self.partial.clear();
                self.skipping = false;
            } else if self.partial.len() < BUFFER_BYTES {
                self.partial.push(*byte);
            } else {
                self.skipping = true;
            }
        }
    }

    /// Whether the record comes after the one to start after.
    fn is_new(&self, text: &str) -> bool {
        match (self.after, super::parse_record(text)) {
            (Some(after), Ok(record)) => record.sequence > after,
            _ => true,
        }
    }
}

impl AsFd for KernelLogReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::path::Path;

    use super::{BUFFER_BYTES, KernelLogReader, Outcome, Start};

    fn drain(reader: &mut KernelLogReader) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        loop {
            match reader.read().unwrap() {
                Outcome::Empty | Outcome::End => return outcomes,
                outcome => outcomes.push(outcome),
            }
        }
    }

    fn append(path: &Path, bytes: &[u8]) {
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn record(text: &str) -> Outcome {
        Outcome::Record(text.to_owned())
    }

    #[test]
    fn the_start_decides_what_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kmsg");
        std::fs::write(&path, "6,7,1,-;a\n KEY=v\n6,8,2,-;b\n").unwrap();
        let cases = [
            (Start::End, vec![record("6,9,3,-;c")]),
            (
                Start::After(7),
                vec![record("6,8,2,-;b"), record("6,9,3,-;c")],
            ),
            (Start::After(8), vec![record("6,9,3,-;c")]),
            (Start::After(9), vec![]),
        ];
        let mut readers: Vec<_> = cases
            .iter()
            .map(|(start, _)| KernelLogReader::open(&path, *start).unwrap())
            .collect();
        append(&path, b"6,9,3,-;c\n");
        for (reader, (start, expected)) in readers.iter_mut().zip(cases) {
            assert_eq!(drain(reader), expected, "{start:?}");
        }
    }

    #[test]
    fn a_number_of_an_earlier_boot_silences_nothing_that_comes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kmsg");
        std::fs::write(&path, "6,1,1,-;a\n").unwrap();
        let mut reader = KernelLogReader::open(&path, Start::After(5000)).unwrap();
        assert_eq!(drain(&mut reader), []);
        append(&path, b"6,2,2,-;b\n");
        assert_eq!(drain(&mut reader), [record("6,2,2,-;b")]);
    }

    #[test]
    fn odd_bytes_and_endless_lines_cost_one_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kmsg");
        std::fs::write(&path, "").unwrap();
        let mut reader = KernelLogReader::open(&path, Start::End).unwrap();
        append(&path, b"6,1,1,-;half");
        assert_eq!(drain(&mut reader), []);
        append(&path, b" a line\n\n\xff\xfe\n");
        append(&path, &vec![b'x'; BUFFER_BYTES * 3]);
        append(&path, b"\n6,2,2,-;after\n");
        let expected = [
            record("6,1,1,-;half a line"),
            record("\u{fffd}\u{fffd}"),
            Outcome::Lost,
            record("6,2,2,-;after"),
        ];
        assert_eq!(drain(&mut reader), expected);
    }

    #[test]
    fn a_missing_log_is_an_error() {
        let error = KernelLogReader::open(Path::new("/nowhere/kmsg"), Start::End).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }
}

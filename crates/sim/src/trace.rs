//! The trace: what happened, line by line, the same bytes for the same seed.

use std::fmt::{self, Write as _};
use std::io::Write;

use navarch_model::{Event, Time};
use serde::Serialize;

/// Lines of `[hours:minutes:seconds.milliseconds] who what`.
#[derive(Default)]
pub(crate) struct Trace {
    text: String,
    /// The last line as JSON: kept for its room.
    line: Vec<u8>,
    /// Where the lines go instead of being kept.
    to: Option<Box<dyn Write>>,
    /// Whether they go as JSON.
    json: bool,
    /// Of every byte so far.
    fingerprint: Fingerprint,
    /// Whose lines come now: nothing for the first control plane's.
    whose: &'static str,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace")
            .field("kept", &self.text.len())
            .field("fingerprint", &self.fingerprint.0)
            .finish_non_exhaustive()
    }
}

/// A line of a trace as JSON, with its time in microseconds.
#[derive(Serialize)]
struct JsonLine<'a> {
    at: i64,
    what: &'a str,
    who: &'a str,
}

/// The 64-bit FNV-1a hash of a text.
#[derive(Debug, Clone, Copy)]
struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl Trace {
    pub(crate) fn line(&mut self, at: Time, who: &str, what: fmt::Arguments<'_>) {
        if self.json {
            self.json_line(at, who, what);
            return;
        }
        let millis = at.0 / 1000;
        let (seconds, minutes, hours) =
            (millis / 1000 % 60, millis / 60_000 % 60, millis / 3_600_000);
        let begins = self.text.len();
        // Writing to a string cannot fail.
        let _ = writeln!(
            self.text,
            "[{hours:02}:{minutes:02}:{seconds:02}.{:03}] {}{who:<5} {what}",
            millis % 1000,
            self.whose
        );
        self.fingerprint.take(&self.text.as_bytes()[begins..]);
        if let Some(to) = &mut self.to {
            // A trace that nobody can write down is found by its reader.
            let _ = to.write_all(self.text.as_bytes());
            self.text.clear();
        }
    }

    /// A line as [`JsonLine`].
    fn json_line(&mut self, at: Time, who: &str, what: fmt::Arguments<'_>) {
        let Some(to) = &mut self.to else { return };
        // Writing to a string cannot fail.
        let _ = self.text.write_fmt(what);
        let what = self.text.as_str();
        self.line.clear();
        // Numbers and texts always are JSON.
        let _ = serde_json::to_writer(
            &mut self.line,
            &JsonLine {
                at: at.0,
                what,
                who,
            },
        );
        self.line.push(b'\n');
        self.fingerprint.take(&self.line);
        // A trace that nobody can write down is found by its reader.
        let _ = to.write_all(&self.line);
        self.text.clear();
    }

    /// One entry of the fleet's own record.
    pub(crate) fn event(&mut self, at: Time, event: &Event) {
        let subject = &event.subject;
        let about = subject
            .node
            .as_ref()
            .map(|node| node.as_str())
            .or_else(|| subject.instance.as_ref().map(|instance| instance.as_str()))
            .or_else(|| subject.pool.as_ref().map(|pool| pool.as_str()))
            .unwrap_or("fleet");
        self.line(
            at,
            "fleet",
            format_args!("{} {about}: {}", event.kind.word(), event.message),
        );
    }

    /// Says whose lines come now.
    pub(crate) const fn whose(&mut self, whose: &'static str) {
        self.whose = whose;
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Sends the lines somewhere from now on, as JSON objects.
    pub(crate) fn stream_json(&mut self, to: Box<dyn Write>) {
        self.stream(to);
        self.json = true;
    }

    /// Sends the lines somewhere from now on.
    pub(crate) fn stream(&mut self, to: Box<dyn Write>) {
        self.text.clear();
        self.to = Some(to);
    }

    /// Sees to it that no line waits to be written down.
    pub(crate) fn flush(&mut self) {
        if let Some(to) = &mut self.to {
            // A trace that nobody can write down is found by its reader.
            let _ = to.flush();
        }
    }

    pub(crate) const fn fingerprint(&self) -> u64 {
        self.fingerprint.0
    }
}

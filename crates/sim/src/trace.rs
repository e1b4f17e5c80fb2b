//! The trace: what happened, line by line, the same bytes for the same seed.

use std::fmt::Write as _;

use navarch_model::{Event, Time};

/// Lines of `[hours:minutes:seconds.milliseconds] who what`.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    text: String,
}

impl Trace {
    pub(crate) fn line(&mut self, at: Time, who: &str, what: std::fmt::Arguments<'_>) {
        let millis = at.0 / 1000;
        let (seconds, minutes, hours) =
            (millis / 1000 % 60, millis / 60_000 % 60, millis / 3_600_000);
        // Writing to a string cannot fail.
        let _ = writeln!(
            self.text,
            "[{hours:02}:{minutes:02}:{seconds:02}.{:03}] {who:<5} {what}",
            millis % 1000
        );
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

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The last `count` lines.
    pub(crate) fn tail(&self, count: usize) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

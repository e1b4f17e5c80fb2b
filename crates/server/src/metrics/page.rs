//! The text format of Prometheus.

use std::fmt::Write as _;

use crate::meters::Distribution;

/// A page that is being written.
pub(super) struct Page(String);

impl Page {
    /// An empty page.
    pub(super) fn new() -> Self {
        Self(String::with_capacity(64 * 1024))
    }

    /// The whole text.
    pub(super) fn into_text(self) -> String {
        self.0
    }

    /// Begins a family: every sample after it is one of its own.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample.
    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.series(name, "", labels, None);
        let _ = writeln!(self.0, " {value}");
    }

    /// The samples of one distribution.
    pub(super) fn histogram(&mut self, name: &str, labels: &[(&str, &str)], of: &Distribution) {
        for (bound, count) in &of.buckets {
            self.series(name, "_bucket", labels, Some(&bound.to_string()));
            let _ = writeln!(self.0, " {count}");
        }
        self.series(name, "_bucket", labels, Some("+Inf"));
        let _ = writeln!(self.0, " {}", of.count);
        self.series(name, "_sum", labels, None);
        let _ = writeln!(self.0, " {}", of.sum);
        self.series(name, "_count", labels, None);
        let _ = writeln!(self.0, " {}", of.count);
    }

    fn series(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], le: Option<&str>) {
        self.0.push_str(name);
        self.0.push_str(suffix);
        let all = labels.iter().copied().chain(le.map(|bound| ("le", bound)));
        let mut open = '{';
        for (key, value) in all {
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.0, "{open}{key}=\"{value}\"");
            open = ',';
        }
        if open == ',' {
            self.0.push('}');
        }
    }
}

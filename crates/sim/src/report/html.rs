//! `report.html`: one file that works without network, with what it shows embedded once.

use std::collections::BTreeMap;
use std::io::{self, Write};

use navarch_model::NodeId;
use serde::Serialize as _;
use serde_json::ser::{CompactFormatter, Formatter};

use super::columns;
use crate::record::Record;

/// The frame of the page, with a marker for each part that goes in.
const FRAME: &str = include_str!("page/page.html");

/// What the marker in the frame is replaced by, in the order of the markers.
const STYLE_MARKER: &str = "/*style*/";
const DATA_MARKER: &str = "/*data*/";
const SCRIPT_MARKER: &str = "/*script*/";

const STYLE: &str = include_str!("page/style.css");

/// The script: its files share one scope, and each uses those before it.
const SCRIPT: [&str; 10] = [
    include_str!("page/dom.js"),
    include_str!("page/data.js"),
    include_str!("page/chart.js"),
    include_str!("page/results.js"),
    include_str!("page/pools.js"),
    include_str!("page/filter.js"),
    include_str!("page/timeline.js"),
    include_str!("page/nodes.js"),
    include_str!("page/configuration.js"),
    include_str!("page/main.js"),
];

/// Writes the page.
pub(super) fn write(
    to: &mut impl Write,
    record: &Record,
    logs: &BTreeMap<&NodeId, String>,
) -> io::Result<()> {
    // The frame is cut before anything goes in, so that no marker in the data counts.
    let (head, rest) = cut(FRAME, STYLE_MARKER);
    let (before_data, rest) = cut(rest, DATA_MARKER);
    let (before_script, tail) = cut(rest, SCRIPT_MARKER);
    for part in [head, STYLE, before_data] {
        to.write_all(part.as_bytes())?;
    }
    let data = columns::Page::new(record, logs);
    data.serialize(&mut serde_json::Serializer::with_formatter(
        &mut *to, InScript,
    ))?;
    to.write_all(before_script.as_bytes())?;
    for part in SCRIPT {
        to.write_all(part.as_bytes())?;
    }
    to.write_all(tail.as_bytes())
}

fn cut(text: &'static str, marker: &str) -> (&'static str, &'static str) {
    text.split_once(marker)
        .expect("the frame of the page has every marker")
}

/// Compact JSON that no HTML parser takes for the end of the element that it is in: `<` occurs only
/// inside of strings, where it may be written as an escape.
struct InScript;

impl Formatter for InScript {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        to: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut parts = fragment.split('<');
        if let Some(first) = parts.next() {
            CompactFormatter.write_string_fragment(to, first)?;
        }
        for part in parts {
            to.write_all(b"\\u003c")?;
            CompactFormatter.write_string_fragment(to, part)?;
        }
        Ok(())
    }
}

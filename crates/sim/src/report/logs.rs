//! `logs/<node>.log`: what was done to one node beside what the control plane concluded, as lines.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use navarch_model::{NodeId, Time};
use navarch_policy::catalogue::xid_text;

use super::text::{plain, span, time_in_line};
use crate::record::{Cause, Injection, NodeEventKind, NodeRecord, Record};

/// The folder of the logs, below the directory of the run.
pub(super) const FOLDER: &str = "logs";

/// The longest name before its ending, in bytes. Longer names, with what may be added to them, are
/// more than some file systems take.
const NAME_BYTES: usize = 200;

/// The path of each node's log, relative to the directory of the run.
///
/// Ids may hold slashes and differ in nothing but the case of letters, which some file systems do
/// not tell apart: what is not safe in a file name becomes `_`, and of two that would share a name
/// the later in order gets a number.
pub(super) fn names(record: &Record) -> BTreeMap<&NodeId, String> {
    let mut taken = BTreeSet::new();
    let mut names = BTreeMap::new();
    for id in record.nodes.keys() {
        let safe = safe(id.as_str());
        let numbered = (2..).map(|number: u64| format!("{safe}~{number}"));
        let name = std::iter::once(safe.clone())
            .chain(numbered)
            .find(|name| taken.insert(name.to_ascii_lowercase()));
        // The numbers do not run out.
        let name = name.unwrap_or_default();
        names.insert(id, format!("{FOLDER}/{name}.log"));
    }
    names
}

/// The path of a log that is called as its node.
pub(super) fn usual(id: &NodeId) -> String {
    format!("{FOLDER}/{id}.log")
}

fn safe(id: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || "._-@+".contains(c);
    let safe = id.chars().map(|c| if keep(c) { c } else { '_' });
    let safe: String = safe.take(NAME_BYTES).collect();
    // Neither hidden nor an option nor the folder itself.
    match safe.strip_prefix(['.', '-']) {
        Some(rest) => format!("_{rest}"),
        None => safe,
    }
}

/// Writes the log of one node.
pub(super) fn write(
    to: &mut impl Write,
    record: &Record,
    id: &NodeId,
    node: &NodeRecord,
) -> io::Result<()> {
    let place = &node.place;
    writeln!(to, "# node {}", plain(id.as_str()))?;
    writeln!(
        to,
        "# {} x {} in {}, at {} / {} / {} / {}",
        node.gpu_count,
        plain(&node.gpu_type),
        plain(&node.instance_type),
        plain(&place.provider),
        plain(&place.region),
        plain(&place.zone),
        plain(&place.rack)
    )?;
    for (at, what) in lines(record, node) {
        writeln!(to, "{} {}", time_in_line(at), plain(&what))?;
    }
    writeln!(
        to,
        "# in the end: {}, health {}, {} failures, {} recoveries",
        node.status, node.health, node.failures, node.recoveries
    )
}

/// What happened, the earliest first.
fn lines(record: &Record, node: &NodeRecord) -> Vec<(Time, String)> {
    let mut lines = vec![(node.powered, "machine switched on".to_owned())];
    for event in &node.events {
        let line = match &event.what {
            NodeEventKind::Started => "registered".to_owned(),
            NodeEventKind::StartFailed(why) => format!("never registered: {why}"),
            NodeEventKind::Failure(index) => match record.injections.get(*index) {
                Some(injection) => {
                    lines.extend(noticed(injection));
                    format!("broken: {} ({})", what(injection), cause(injection))
                }
                None => "broken".to_owned(),
            },
            NodeEventKind::Recovery(index) => match record.injections.get(*index) {
                Some(injection) => format!(
                    "repaired: {} after {}",
                    what(injection),
                    span(event.at.since(injection.at))
                ),
                None => "repaired".to_owned(),
            },
            NodeEventKind::Status { from, to, why } => format!("status {from} to {to}: {why}"),
            NodeEventKind::Health { from, to } => format!("health {from} to {to}"),
            NodeEventKind::Incident(index) => match record.incidents.get(*index) {
                Some(incident) => {
                    let closed = |at| (at, format!("incident of rule {} closed", incident.rule));
                    lines.extend(incident.closed.map(closed));
                    format!(
                        "incident of rule {} opened, action {}",
                        incident.rule, incident.action
                    )
                }
                None => "incident opened".to_owned(),
            },
            NodeEventKind::Ended(why) => format!("machine gone: {why}"),
        };
        lines.push((event.at, line));
    }
    // Stable: what happened at one moment stays in its order.
    lines.sort_by_key(|(at, _)| *at);
    lines
}

fn noticed(injection: &Injection) -> Option<(Time, String)> {
    let (at, conclusion) = injection.noticed.as_ref()?;
    let line = format!(
        "noticed: {} after {}: {conclusion}",
        injection.kind.word(),
        span(at.since(injection.at))
    );
    Some((*at, line))
}

/// What broke.
fn what(injection: &Injection) -> String {
    let mut text = injection.kind.word().to_owned();
    if let Some(gpu) = injection.gpu {
        text.push_str(&format!(" on GPU {gpu}"));
    }
    if let Some(xid) = injection.xid {
        text.push_str(&format!(", XID {xid}: {}", xid_text(xid)));
    }
    text
}

/// Why it broke.
fn cause(injection: &Injection) -> String {
    match &injection.cause {
        Cause::Script => "scenario".to_owned(),
        Cause::Chaos => "chaos".to_owned(),
        Cause::Person => "a person".to_owned(),
        Cause::Cascade(by) => format!("cascade from failure {by}"),
        Cause::Outage(name) => format!("outage {name}"),
    }
}

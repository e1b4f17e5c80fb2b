//! The reference of scenarios as Markdown, from the tables.

use std::fmt::Write as _;

use super::super::{Status, default_words, for_each_section, form_words, join};
use super::{ACTIONS, ASSERTIONS, CONTROL_PLANE, FAILURES, FAULTS, OLD, SCENARIO, Word};
use crate::duration::compact;
use crate::scenario::presets::{NODE_DAYS, TABLE};

/// The reference of all keys of scenarios as Markdown tables, then that of their words. Sections
/// that the configuration of the control plane has, too, are left to its own reference.
#[must_use]
pub fn scenario_reference() -> String {
    let mut text = String::new();
    let mut renamed = String::new();
    let mut refused = String::new();
    for_each_section("", &SCENARIO, &mut |path, section| {
        let shared = CONTROL_PLANE
            .iter()
            .any(|name| path.split(['.', '[']).next() == Some(*name));
        // The same section stands in the parameters of events.
        if shared || path == "events[].params.assertion" {
            return;
        }
        let title = if path.is_empty() { "Top level" } else { path };
        let _ = writeln!(text, "## `{title}`\n\n{}\n", section.about);
        text.push_str("| Key | Value | Default | Meaning |\n|---|---|---|---|\n");
        for key in section.keys {
            let from = join(path, key.name);
            match key.status {
                Status::Works => {
                    let (form, default) = (form_words(key.form), default_words(key));
                    let (name, about) = (key.name, key.about);
                    let _ = writeln!(text, "| `{name}` | {form} | {default} | {about} |");
                }
                Status::Renamed(to) => {
                    let _ = writeln!(renamed, "| `{from}` | `{}` |", join(path, to));
                }
                Status::Refused(instead) => {
                    let _ = writeln!(refused, "| `{from}` | {instead} |");
                }
                Status::NoEffect(_) | Status::Planned | Status::Moved(_) => {}
            }
        }
        text.push('\n');
    });
    words(
        &mut text,
        "Actions",
        "What the `action` of an event may be, and which keys it reads: the `target` of the event and its `params`.",
        Some("Reads"),
        &ACTIONS,
    );
    words(
        &mut text,
        "Assertions",
        "What the `type` of an assertion may be, and which keys it reads.",
        Some("Reads"),
        &ASSERTIONS,
    );
    words(
        &mut text,
        "Kinds of failures",
        "What may break, by what an agent and the control plane can see of it, and which parameters of `inject_failure` count beside `duration`.",
        Some("Reads"),
        &FAILURES,
    );
    words(
        &mut text,
        "Faults of the cloud",
        "What `cloud_fault` may do to the cloud that pools buy from.",
        None,
        &FAULTS,
    );
    presets(&mut text);
    let _ = write!(
        text,
        "## Old spellings\n\nDocuments and files of the Go project spell some things in another way. \
         Each of these loads, with a warning that names the new spelling.\n\n\
         | Old | New |\n|---|---|\n{renamed}"
    );
    for (old, new) in OLD {
        let _ = writeln!(text, "| {old} | {new} |");
    }
    let _ = write!(
        text,
        "\n## Refused keys\n\n| Key | Instead |\n|---|---|\n{refused}"
    );
    text
}

fn words(text: &mut String, title: &str, about: &str, keys: Option<&str>, words: &[Word]) {
    let _ = writeln!(text, "## {title}\n\n{about}\n");
    match keys {
        Some(keys) => {
            let _ = writeln!(text, "| Word | Meaning | {keys} |\n|---|---|---|");
        }
        None => text.push_str("| Word | Meaning |\n|---|---|\n"),
    }
    for word in words {
        let _ = write!(text, "| `{}` | {} |", word.name, word.about);
        if keys.is_some() {
            let keys: Vec<_> = word.keys.iter().map(|key| format!("`{key}`")).collect();
            let keys = match keys.is_empty() {
                true => "–".to_owned(),
                false => keys.join(", "),
            };
            let _ = write!(text, " {keys} |");
        }
        text.push('\n');
    }
    text.push('\n');
}

fn presets(text: &mut String) {
    text.push_str(
        "## Presets\n\n\
         The preset `llama3` has the failures of the Llama 3 405B training: 54 days on 16,384 H100 \
         GPUs, which are 2,048 machines and 110,592 node-days. Each rate is a count of its published \
         table divided by the node-days. How a count is split over kinds, which share is permanent \
         and how long a failure lasts are assumptions of this project where the table says \"taken\". \
         The preset `rsc1` has 1.7 times these rates, which is the ratio of 6.50 to 3.79 published \
         failures for each 1000 node-days. Errors of programs are not among the published counts.\n\n\
         | Kind | XID | For each 1000 node-days | Permanent | Lasts | Source |\n|---|---|---|---|---|---|\n",
    );
    for row in TABLE {
        let xid = row.xid.map_or("–".to_owned(), |xid| xid.to_string());
        let lasts = row.mean_duration.map_or("–".to_owned(), compact);
        let _ = writeln!(
            text,
            "| `{}` | {xid} | {:.3} | {:.0}% | {lasts} | {} |",
            row.kind.word(),
            row.count / NODE_DAYS * 1000.0,
            row.permanent * 100.0,
            row.source
        );
    }
    text.push('\n');
}

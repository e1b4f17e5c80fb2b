//! The documents keep their word: every command and every file that a page of `docs/` shows runs
//! here, on a fleet of the page's own.
//!
//! A page says with a comment, `<!-- stage: NAME -->`, what runs before its first block:
//!
//! - `none`: nothing; the page starts programs itself.
//! - `dev`: `navarch dev --nodes 4`, with all of its machines ACTIVE.
//!
//! The word after the fence says what a block is. A block with another word, or none, fails.
//!
//! - `console`: each line that begins with `$ ` is a command, and the lines below it are what it
//!   prints. The fixed words of each line appear, in order, in one line of the output; lines of
//!   the output may be missing. Words in `<angle brackets>` and `...` are not fixed. A command that
//!   only asks is asked again until it answers so. `exit=N` behind the word: the commands end with
//!   that status instead of 0.
//! - `console running`: the command goes on. Programs of the fleet stay until the page ends or
//!   `systemctl` ends them, others are ended once they printed what is shown.
//! - `yaml file=NAME`: a whole file, checked by `navarch policy check` or `navarch config check`
//!   and there for the commands below; `broken` behind it: it must be refused. A policy must judge what
//!   every policy has to see (`verdicts.rs`), unless `<!-- example: WHAT -->` stands before it.
//!   `yaml part`: a part of a configuration, checked after providers and pools are added where it
//!   has none.
//! - `ini file=NAME`: a systemd unit, checked by `systemd-analyze verify` where that is installed,
//!   and started by the `systemctl` of this harness, which runs its `ExecStart`.
//! - `text`: neither command nor file, such as a diagram or an expression.
//!
//! `<!-- run: COMMAND -->` runs a command that readers do not see, to bring about what a page is
//! about; `<!-- write-env: FILE from TOKEN -->` writes a variable with a token into a file;
//! `<!-- silence: <node> -->` freezes the agent of a node. A placeholder such as `<node>` is
//! replaced by a name of the fleet the first time it is used, and stays the same on the page.
//! Inline code that begins with `navarch ` must be a command that exists. A program that the
//! harness does not know fails the page.

mod differences;
mod names;
mod pages;
mod player;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod support;
mod systemd;
mod verdicts;
mod words;

use std::path::{Path, PathBuf};

use pages::{Page, documents};

/// The folder of the documents.
const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");

/// One test for each page, so that they run side by side and fail by name.
macro_rules! pages {
    ($($test:ident = $page:literal,)*) => {
        const TESTED: &[&str] = &[$($page),*];

        $(
            #[test]
            fn $test() {
                player::play(&Page::read(Path::new(DOCS), $page));
            }
        )*
    };
}

pages! {
    autoscaling = "autoscaling.md",
    coming_from_go = "coming-from-go.md",
    concepts = "concepts.md",
    getting_started = "getting-started.md",
    health_policy = "health-policy.md",
    logs = "logs.md",
    notifiers = "notifiers.md",
    placement = "placement.md",
    pools = "pools.md",
    production = "production.md",
    providers = "providers.md",
    reading_a_report = "reading-a-report.md",
    runbook_breaker_open = "runbooks/breaker-open.md",
    runbook_certificate_expiry = "runbooks/certificate-expiry.md",
    runbook_launch_failures = "runbooks/launch-failures.md",
    runbook_listing_suspect = "runbooks/listing-suspect.md",
    runbook_low_disk = "runbooks/low-disk.md",
    runbook_notices_waiting = "runbooks/notices-waiting.md",
    runbook_policy_refused = "runbooks/policy-refused.md",
    runbook_signals_fail = "runbooks/signals-fail.md",
    runbook_silent_nodes = "runbooks/silent-nodes.md",
    runbook_store_errors = "runbooks/store-errors.md",
    runbook_terminating_too_long = "runbooks/terminating-too-long.md",
    runbook_unclaimed_machines = "runbooks/unclaimed-machines.md",
    runbook_violations = "runbooks/violations.md",
    runbook_waiting_pools = "runbooks/waiting-pools.md",
    simulator = "simulator.md",
    runbooks = "runbooks/README.md",
}

#[test]
fn every_page_is_tested() {
    assert_eq!(documents(Path::new(DOCS)), TESTED);
}

#[test]
fn every_runbook_answers_the_four_questions_and_is_in_the_list() {
    let list = Page::read(Path::new(DOCS), "runbooks/README.md");
    for name in TESTED.iter().filter(|name| name.starts_with("runbooks/")) {
        let file = PathBuf::from(name);
        let file = file.file_name().and_then(|name| name.to_str());
        let file = file.expect("a file's name");
        if file == "README.md" {
            continue;
        }
        let page = Page::read(Path::new(DOCS), name);
        let headings: Vec<&str> = page
            .text
            .lines()
            .filter_map(|line| line.strip_prefix("## "))
            .collect();
        assert_eq!(
            headings,
            [
                "What it means",
                "How to see it",
                "What to do",
                "What not to do"
            ],
            "{name}"
        );
        assert!(
            page.text.contains("\n**Alert:** `"),
            "{name} names no alert"
        );
        assert!(
            list.text.contains(&format!("({file})")),
            "{name} is not listed"
        );
    }
}

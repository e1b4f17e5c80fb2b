//! The table in `docs/health-policy.md` of the codes on which two shipped policies differ, computed
//! from the policies. `UPDATE_GOLDEN=1` writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use navarch_policy::catalogue;
use navarch_policy::{EventVerdict, HealthPolicy, parse_event};

/// Around the table on the page.
const BEGIN: &str = "<!-- differences: begin; written by UPDATE_GOLDEN=1 cargo test -p navarch-cli --test docs -->\n";
const END: &str = "<!-- differences: end -->\n";

const CATALOGUE: &str = include_str!("../../../../examples/policies/catalogue.yaml");
const GO_DEFAULT: &str = include_str!("../../../../examples/policies/go-default.yaml");

fn verdict(policy: &HealthPolicy, code: &str) -> EventVerdict {
    let event = parse_event(&[("event_type", "xid"), ("xid_code", code)]).expect("an event");
    policy.evaluate(&event.facts())
}

fn table() -> String {
    let policy = |text| HealthPolicy::parse("policy.yaml", text).expect("a shipped policy");
    let catalogue = policy(CATALOGUE);
    let go = policy(GO_DEFAULT);
    let mut table = "\n| XID | What it is | NVIDIA: do at once | NVIDIA: look into | `go-default` | `catalogue` |\n\
                     |---|---|---|---|---|---|\n"
        .to_owned();
    for row in catalogue::xids() {
        let code = row.code.to_string();
        let (theirs, ours) = (verdict(&go, &code), verdict(&catalogue, &code));
        if theirs.result == ours.result {
            continue;
        }
        let shown = |verdict: &EventVerdict| {
            let rule = verdict.rule.as_deref().expect("a rule for every XID");
            format!("{} (`{rule}`)", verdict.result.short())
        };
        let look = if row.investigatory.is_empty() {
            "–".to_owned()
        } else {
            row.investigatory.replace('|', "\\|")
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "| {code} | {} | {} | {look} | {} | {} |",
            row.name,
            row.immediate.word(),
            shown(&theirs),
            shown(&ours)
        );
    }
    table.push('\n');
    table
}

#[test]
fn the_page_lists_every_difference() {
    let path = Path::new(crate::DOCS).join("health-policy.md");
    let page = std::fs::read_to_string(&path).expect("the page");
    let (before, rest) = page.split_once(BEGIN).expect("where the table begins");
    let (found, after) = rest.split_once(END).expect("where the table ends");
    let table = table();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let new = [before, BEGIN, &table, END, after].concat();
        std::fs::write(&path, new).expect("the page is written");
        return;
    }
    assert_eq!(
        found, table,
        "docs/health-policy.md is not current; run \
         `UPDATE_GOLDEN=1 cargo test -p navarch-cli --test docs` and commit what it writes"
    );
}

#[test]
fn what_nvidia_ignores_costs_no_machine() {
    // The point of the table, from the facts that are known without it.
    let table = table();
    for code in ["13", "31", "43", "45", "63", "92", "94"] {
        let row = table
            .lines()
            .find(|line| line.starts_with(&format!("| {code} |")))
            .unwrap_or_else(|| panic!("no row for {code}"));
        assert!(row.contains("unhealthy (`fatal-xid`)"), "{row}");
        assert!(!row.ends_with("unhealthy (`xid-reset`) |"), "{row}");
    }
    for code in ["48", "79", "95", "999"] {
        assert!(!table.contains(&format!("\n| {code} |")), "{code}");
    }
    for code in ["54", "109"] {
        assert!(table.contains(&format!("\n| {code} |")), "{code}");
    }
}

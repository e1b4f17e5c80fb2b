//! The small example scenarios, each with a golden trace that a person can read.
//!
//! A line is what happened, with the time since the start in hours, minutes and seconds. Below the
//! trace stands what became of every node, and whether the scenario found what it expects.
//! `UPDATE_GOLDEN=1` writes the traces anew.

mod example;
mod scenario;

use std::fmt::Write as _;
use std::path::Path;

use navarch_config::scenario::FailureKind;
use navarch_sim::record::{Cause, Outcome};

/// More lines than this nobody reads.
const MOST_LINES: usize = 600;

/// Plays an example and compares it with its golden trace.
#[track_caller]
fn golden(name: &str) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut run = example::run(name);
    while run.advance().is_some() {}
    let mut shown = run.sim().trace().to_owned();
    let record = run.finish(false);
    shown.push_str("\nin the end\n");
    for (id, node) in &record.nodes {
        let _ = writeln!(
            shown,
            "{id}: {}, {}, {} failures, {} recoveries",
            node.status.short(),
            node.health.short(),
            node.failures,
            node.recoveries
        );
    }
    let _ = writeln!(shown, "{:?}", record.outcome);
    assert_eq!(record.outcome, Outcome::Passed, "{name}:\n{shown}");
    let lines = shown.lines().count();
    assert!(lines <= MOST_LINES, "{name} has {lines} lines");
    let golden = here
        .join("tests/golden/examples")
        .join(name)
        .with_extension("txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &shown).expect("the golden trace is written");
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    for (at, (shown, expected)) in shown.lines().zip(expected.lines()).enumerate() {
        assert_eq!(shown, expected, "{name}, line {}", at + 1);
    }
    assert!(
        shown == expected,
        "{name} has {lines} lines, and its golden trace {}; bless it if it is right",
        expected.lines().count()
    );
}

#[test]
fn a_basic_fleet() {
    golden("basic-fleet.yaml");
}

#[test]
fn a_gpu_failure() {
    golden("gpu-failure.yaml");
}

#[test]
fn a_classification_of_xids() {
    golden("xid-classification.yaml");
}

#[test]
fn a_cordon_and_a_drain() {
    golden("cordon-drain.yaml");
}

#[test]
fn a_quick_stress_run() {
    golden("quick-stress.yaml");
}

/// The launches of an hour do not keep a pool from its size that a cloud took machines of.
#[test]
fn a_zone_of_spot_machines_is_taken_back() {
    let record = example::run("spot-reclaim.yaml").play();
    assert_eq!(record.outcome, Outcome::Passed);
    let interruptions = record.injections.iter();
    let taken = interruptions.filter(|one| one.kind == FailureKind::SpotInterruption);
    assert_eq!(taken.count(), 26);
}

/// Plays an example of thousands of machines with a tenth of them: everything else is as its file
/// says.
#[track_caller]
fn tenth(name: &str, sizes: [(&str, &str); 2]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/scenarios");
    let mut text = std::fs::read_to_string(path.join(name)).expect("the example");
    for (whole, tenth) in sizes {
        assert!(text.contains(whole), "{name} says {whole} no more");
        text = text.replace(whole, tenth);
    }
    let record = scenario::run(&text, 7).play();
    assert_eq!(record.outcome, Outcome::Passed, "{name}");
    let comes = |of: fn(&Cause) -> bool| {
        record
            .injections
            .iter()
            .filter(|one| of(&one.cause))
            .count()
    };
    let chaos = comes(|cause| matches!(cause, Cause::Chaos));
    let cascades = comes(|cause| matches!(cause, Cause::Cascade(_)));
    let outages = comes(|cause| matches!(cause, Cause::Outage(_)));
    assert!(
        chaos > 10 && cascades > 10 && outages > 10,
        "{name}: {chaos}, {cascades}, {outages}"
    );
}

#[test]
fn cascading_failures_in_a_tenth_of_the_fleet() {
    let sizes = [
        ("total_nodes: 2000", "total_nodes: 200"),
        ("expected: \">=2000\"", "expected: \">=200\""),
    ];
    tenth("cascading-failures.yaml", sizes);
}

#[test]
fn the_extreme_with_a_tenth_of_the_fleet() {
    let sizes = [
        ("total_nodes: 5000", "total_nodes: 500"),
        ("expected: \">=4500\"", "expected: \">=450\""),
    ];
    tenth("5000-node-extreme.yaml", sizes);
}

//! `navarch sim` as users run it: scenarios, their runs on disk, fuzzing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Program, directory, run, until};

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/scenarios")
}

fn file(name: &str) -> String {
    scenarios().join(name).display().to_string()
}

/// Runs an example into `out`; answers what it said.
#[track_caller]
fn play(place: &Path, name: &str, out: &str) -> String {
    run(place, &[], &["sim", "run", &file(name), "--out", out]).fine()
}

#[test]
fn every_example_is_valid() {
    let place = directory();
    let mut found = 0;
    for entry in fs::read_dir(scenarios()).expect("the examples") {
        let path = entry.expect("an entry").path().display().to_string();
        let said = run(place.path(), &[], &["sim", "validate", &path]).fine();
        assert!(said.contains(", valid"), "{said}");
        found += 1;
    }
    assert!(found >= 12, "{found}");
}

#[test]
fn small_examples_find_what_they_expect() {
    let place = directory();
    let small = [
        "basic-fleet.yaml",
        "gpu-failure.yaml",
        "cordon-drain.yaml",
        "xid-classification.yaml",
        "quick-stress.yaml",
        "pools-stock-outs.yaml",
        "zone-outage.yaml",
        "control-plane-crashes.yaml",
        "day-of-load.yaml",
    ];
    for name in small {
        let said = play(place.path(), name, name);
        assert!(said.contains("every promise is kept"), "{name}: {said}");
        let report = fs::read_to_string(place.path().join(name).join("report.json"));
        let report: Value = serde_json::from_str(&report.expect("a report")).expect("JSON");
        assert_eq!(report["violations"], serde_json::json!([]), "{name}");
    }
}

/// Every file of a run by its path, without the one that tells of this machine.
fn files(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![run.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("timing.json") {
                let name = path.strip_prefix(run).expect("below").display().to_string();
                found.push((name, fs::read(&path).expect("a file")));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn two_runs_write_the_same_bytes_and_another_seed_writes_others() {
    let place = directory();
    play(place.path(), "quick-stress.yaml", "one");
    play(place.path(), "quick-stress.yaml", "two");
    let other = file("quick-stress.yaml");
    let seeded = ["sim", "run", &other, "--out", "three", "--seed", "8"];
    run(place.path(), &[], &seeded).fine();
    let [one, two, three] = ["one", "two", "three"].map(|name| files(&place.path().join(name)));
    assert!(one.len() > 50, "{} files", one.len());
    for ((name, one), (_, two)) in one.iter().zip(&two) {
        assert!(one == two, "{name} differs");
    }
    assert_eq!(one.len(), two.len());
    let trace = |files: &[(String, Vec<u8>)]| {
        let trace = files.iter().find(|(name, _)| name == "trace.jsonl");
        trace.map(|(_, bytes)| bytes.clone())
    };
    assert!(trace(&one).is_some_and(|bytes| !bytes.is_empty()));
    assert_ne!(trace(&one), trace(&three));
}

#[test]
fn a_directory_that_holds_something_is_refused_and_stays_as_it_is() {
    let place = directory();
    fs::create_dir(place.path().join("mine")).expect("a folder");
    fs::write(place.path().join("mine/thesis.txt"), "precious").expect("a file");
    let path = file("basic-fleet.yaml");
    let said = run(place.path(), &[], &["sim", "run", &path, "--out", "mine"]).refused(1);
    assert!(said.contains("mine is not empty"), "{said}");
    assert_eq!(files(&place.path().join("mine")).len(), 1);
}

#[test]
fn what_is_wrong_in_a_scenario_is_told_with_its_place_before_anything_runs() {
    let place = directory();
    fs::write(
        place.path().join("bad.yaml"),
        "name: bad\nfleet:\n  - {id: a, gpu_count: 8}\nevents:\n  - {at: -1s, action: explode}\n  - {at: 1s, action: inject_failure, target: b, params: {failure_type: xid_error}}\n",
    )
    .expect("a file");
    let said = run(
        place.path(),
        &[],
        &["sim", "run", "bad.yaml", "--out", "out"],
    )
    .refused(1);
    for wanted in ["bad.yaml:5:", "bad.yaml:6:", "explode"] {
        assert!(said.contains(wanted), "{wanted} is missing in {said}");
    }
    assert!(!place.path().join("out").exists());
}

#[test]
fn an_assertion_that_does_not_hold_fails_the_run_and_the_report_is_written() {
    let place = directory();
    fs::write(
        place.path().join("hopeful.yaml"),
        "name: hopeful\nfleet:\n  - {id: a, gpu_count: 8}\nevents:\n  - {at: 0s, action: start_fleet}\n  - {at: 30s, action: inject_failure, target: a, params: {failure_type: xid_error, xid_code: 79}}\n  - {at: 60s, action: wait}\nassertions:\n  - {type: node_status, target: a, expected: active}\n",
    )
    .expect("a file");
    let arguments = ["sim", "run", "hopeful.yaml", "--out", "out"];
    let said = run(place.path(), &[], &arguments);
    assert_eq!(said.code, Some(1), "{said:?}");
    for text in [&said.err, &said.out] {
        let wrong = "NODE_STATUS_UNHEALTHY, expected NODE_STATUS_ACTIVE";
        assert!(text.contains(wrong), "{text}");
    }
    assert!(place.path().join("out/report.json").exists());
}

#[test]
fn an_interrupted_run_still_writes_its_report() {
    let place = directory();
    let path = file("quick-stress.yaml");
    let arguments = ["sim", "run", &path, "--out", "out", "--real-time"];
    let mut program = Program::launch(place.path(), &[], &arguments);
    until("the run has begun", || {
        let trace = fs::metadata(place.path().join("out/trace.jsonl"));
        trace.map(drop).map_err(|error| error.to_string())
    });
    let (code, took) = program.terminate();
    assert_eq!(code, Some(1), "{}", program.output());
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(place.path().join("out/report.html").exists());
}

#[test]
fn fuzzing_says_in_its_last_line_what_it_did() {
    let place = directory();
    let said = run(
        place.path(),
        &[],
        &["sim", "fuzz", "--seeds", "3", "--minutes", "10"],
    )
    .fine();
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("3 seeds, 0 failures, "), "{said}");
    assert!(last.ends_with(" steps"), "{said}");
}

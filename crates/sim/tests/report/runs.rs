//! Reports of runs that really were: the same bytes each time, and a page that works.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::browser::Browser;
use crate::example;
use crate::page::{DESK, used, written};

/// Every file below a directory, by its path.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("the directory is there") {
        let path = entry.expect("it can be read").path();
        let name = path.file_name().expect("it has a name").to_string_lossy();
        if path.is_dir() {
            let inner = files(&path).into_iter();
            found.extend(inner.map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            let bytes = fs::read(&path).expect("it can be read");
            found.insert(name.into_owned(), bytes);
        }
    }
    found
}

#[test]
fn two_runs_with_one_seed_leave_the_same_files() {
    let once = files(&written("once", &example::run("quick-stress.yaml").play()));
    let twice = files(&written("twice", &example::run("quick-stress.yaml").play()));
    let names: Vec<&String> = once.keys().filter(|name| !name.contains('/')).collect();
    assert_eq!(names, ["report.html", "report.json", "scenario.yaml"]);
    assert!(
        once.len() > 50,
        "a log for each of 50 nodes: {}",
        once.len()
    );
    assert_eq!(once.len(), twice.len());
    for (name, bytes) in &once {
        assert!(twice[name] == *bytes, "{name} differs");
    }
}

#[test]
fn the_page_of_a_run_with_pools_can_be_used() {
    let record = example::run("pools-stock-outs.yaml").play();
    let report = written("pools", &record);
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let facts = used(&mut browser, &report, DESK, &["training"]);
    let nodes = format!("{} nodes", record.nodes.len());
    assert_eq!(facts["searches"]["training"][0], nodes);
    assert!(facts["tables"]["Pool training"].is_array(), "{facts}");
}

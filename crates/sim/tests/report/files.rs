//! The files of a run and the tables of the console.
//!
//! `UPDATE_GOLDEN=1` writes the golden files anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use navarch_model::{NodeId, Time};
use navarch_sim::record::{NodeEventKind, Outcome, Record};
use navarch_sim::report::{self, Directory, ReportError, Timing};
use navarch_sim::run::Progress;
use serde_json::Value;

use crate::synthetic::{event, node, small};

/// What a run on some machine took.
const TIMING: Timing = Timing {
    wall: Duration::from_millis(1500),
    peak_memory_bytes: Some(64 << 20),
};

/// Writes the report of a record into a new directory.
fn written(record: &Record) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let place = Directory::create(directory.path()).expect("it is empty");
    report::write(&place, record).expect("the report is written");
    report::write_timing(&place, record, &TIMING).expect("its timing is written");
    directory
}

fn read(directory: &Path, name: &str) -> String {
    fs::read_to_string(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn json(directory: &Path, name: &str) -> Value {
    serde_json::from_str(&read(directory, name)).expect("JSON")
}

/// Compares a text with the golden one.
#[track_caller]
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/report/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).expect("the golden file is written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == expected,
        "{name} differs; bless it if it is right:\n{text}"
    );
}

#[test]
fn a_run_leaves_its_scenario_report_logs_and_timing() {
    let directory = written(&small());
    let directory = directory.path();
    assert_eq!(read(directory, "scenario.yaml"), small().scenario);
    golden("report.json", &read(directory, "report.json"));
    golden("gcp-a-0001.log", &read(directory, "logs/gcp-a-0001.log"));
    golden("gcp-b-0002.log", &read(directory, "logs/gcp-b-0002.log"));
    golden("tables.txt", &report::tables(&small()));
    let timing = json(directory, "timing.json");
    assert_eq!(timing["wall_seconds"], 1.5);
    assert_eq!(timing["peak_memory_bytes"], 64 << 20);
    // Two nodes for 210 seconds and one for 131.25, in a fortieth of a minute.
    let rate = timing["node_hours_per_minute"].as_f64().unwrap();
    assert!(
        (rate - (210.0 * 2.0 + 131.25) / 3600.0 * 40.0).abs() < 1e-9,
        "{rate}"
    );
}

#[test]
fn every_log_that_the_report_names_is_there() {
    let directory = written(&small());
    let report = json(directory.path(), "report.json");
    let nodes = report["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 4);
    for node in nodes {
        let log = read(directory.path(), node["log_file"].as_str().unwrap());
        assert!(log.contains(node["node_id"].as_str().unwrap()), "{log}");
    }
}

#[test]
fn equal_records_give_equal_bytes() {
    let (one, two) = (written(&small()), written(&small()));
    for name in ["report.json", "report.html", "logs/metal_7.log"] {
        assert_eq!(read(one.path(), name), read(two.path(), name), "{name}");
    }
}

#[test]
fn a_record_of_nothing_gives_a_report() {
    let directory = written(&Record::default());
    let report = json(directory.path(), "report.json");
    assert_eq!(report["nodes"], Value::Array(Vec::new()));
    assert_eq!(report["capacity"]["delivered_percent"], Value::Null);
    assert_eq!(report["start_time"], "2000-01-01T00:00:00Z");
    assert_eq!(report["outcome"]["result"], "passed");
    let tables = report::tables(&Record::default());
    assert!(!tables.contains("Failure types"), "{tables}");
}

#[test]
fn a_directory_with_something_in_it_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("runs/first");
    let made = Directory::create(&path).unwrap();
    assert_eq!(made.path(), path);
    assert!(Directory::create(&path).is_ok(), "an empty one is taken");
    fs::write(path.join("trace.jsonl"), "").unwrap();
    let refused = Directory::create(&path).unwrap_err();
    assert!(matches!(refused, ReportError::NotEmpty { .. }), "{refused}");
    assert!(refused.to_string().contains("runs/first"), "{refused}");
    let refused = Directory::create(path.join("trace.jsonl")).unwrap_err();
    assert!(
        matches!(refused, ReportError::NotADirectory { .. }),
        "{refused}"
    );
}

#[test]
fn what_is_in_the_directory_of_a_run_stays() {
    let parent = tempfile::tempdir().unwrap();
    let directory = Directory::create(parent.path()).unwrap();
    fs::write(parent.path().join("trace.jsonl"), "{}\n").unwrap();
    report::write(&directory, &small()).unwrap();
    assert_eq!(read(parent.path(), "trace.jsonl"), "{}\n");
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let directory = Directory::create(parent.path()).unwrap();
    fs::create_dir(parent.path().join("report.json")).unwrap();
    let error = report::write(&directory, &small()).unwrap_err();
    assert!(error.to_string().ends_with("report.json"), "{error}");
}

/// Ids that would lead out of the directory, share a file, or are no file name at all.
const HOSTILE: [&str; 13] = [
    "../../etc/passwd",
    "..",
    "a/b",
    "a_b",
    "A_B",
    "a_b~2",
    "-rf",
    "line\nbreak",
    "\u{1b}[31mred",
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=alert(1)>",
    "\u{202e}gnp.exe",
    "a\"b'c&amp;",
];

/// A record whose every text is hostile.
pub fn hostile() -> Record {
    let mut record = small();
    for id in HOSTILE {
        let mut victim = node(id, Some(id));
        victim.place.provider = id.to_owned();
        victim.gpu_type = id.to_owned();
        victim.events.extend([
            event(40.0, NodeEventKind::StartFailed(id.to_owned())),
            event(50.0, NodeEventKind::Ended(id.to_owned())),
            event(60.0, NodeEventKind::Failure(9_999)),
            event(60.0, NodeEventKind::Incident(9_999)),
        ]);
        record.nodes.insert(NodeId::new(id), victim);
        record.violations.push(id.to_owned());
        record.lost_gpu_hours.insert(id.to_owned(), 0.5);
    }
    let long = "x".repeat(300);
    record
        .nodes
        .insert(NodeId::new(long.as_str()), node("a", None));
    let text = HOSTILE.join(" ");
    for rule in record.rules.values_mut() {
        rule.condition.clone_from(&text);
    }
    record.name.clone_from(&text);
    record.scenario.clone_from(&text);
    record.configuration.clone_from(&text);
    record.outcome = Outcome::Failed(text.clone());
    record.injections[0].noticed = Some((record.ended, text));
    record
}

#[test]
fn hostile_names_stay_in_their_files_and_on_their_lines() {
    let record = hostile();
    let directory = written(&record);
    let report = json(directory.path(), "report.json");
    let nodes = report["nodes"].as_array().unwrap();
    let mut files = BTreeSet::new();
    for node in nodes {
        let log = node["log_file"].as_str().unwrap();
        let name = log.strip_prefix("logs/").unwrap();
        assert!(
            !name.contains('/') && !name.starts_with(['.', '-']),
            "{name}"
        );
        assert!(name.len() < 255, "{name}");
        assert!(files.insert(name.to_lowercase()), "{name} is taken twice");
        read(directory.path(), log);
    }
    let there = fs::read_dir(directory.path().join("logs")).unwrap().count();
    assert_eq!(there, record.nodes.len(), "one log for each node");
    for text in [
        report::tables(&record),
        read(directory.path(), "logs/line_break.log"),
        read(directory.path(), "logs/__31mred.log"),
    ] {
        let control = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(control), "{text:?}");
        assert!(!text.contains("line\nbreak"), "{text:?}");
    }
}

#[test]
fn the_progress_line_says_how_far_and_how_healthy() {
    let progress = Progress {
        now: Time(74_900_000),
        until: Some(Time(600_000_000)),
        healthy: 998,
        failures: 12,
        cascaded: 3,
        recoveries: 4,
    };
    assert_eq!(
        report::progress_line(&progress),
        "[==                  ]  12.5%  1m14s elapsed, 8m45s remaining | nodes: 998 healthy | \
         failures: 12 (3 cascading) | recoveries: 4"
    );
    let over = Progress {
        now: Time(700_000_000),
        ..progress
    };
    assert!(report::progress_line(&over).starts_with("[====================] 100.0%"));
    let none = Progress {
        until: None,
        ..progress
    };
    assert!(report::progress_line(&none).contains("100.0%"));
}

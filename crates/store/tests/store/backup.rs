//! Copies made while another process commits, put back, and compared with what was committed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use navarch_model::{Automation, State, Time};
use navarch_store::{DATABASE_FILE, SqliteStore, Store, StoreError};

use crate::kill::{Committing, commit, open};

/// The state after the first `last` commits of the process in [`crate::kill`].
fn after(mut state: State, last: u64) -> State {
    for number in 1..=last {
        for change in commit(&state, number) {
            state.apply(&change);
        }
    }
    state
}

/// Every file below a directory, the lock file and its like included.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_copy_made_under_load_is_one_moment_of_the_fleet_and_comes_back_with_automation_off() {
    let served = tempfile::tempdir().unwrap();
    let kept = tempfile::tempdir().unwrap();
    let begin = open(served.path()).load().unwrap();
    let mut committing = Committing::start(served.path());
    let mut copies = Vec::new();
    for number in 0..4 {
        let before = committing.wait(20);
        let file = kept.path().join(format!("copy-{number}.db"));
        let copied = SqliteStore::backup(served.path(), &file).unwrap();
        copies.push((before, file, copied));
    }
    let after_all = committing.kill();
    assert_eq!(
        names(kept.path()),
        ["copy-0.db", "copy-1.db", "copy-2.db", "copy-3.db"]
    );

    for (before, file, copied) in copies {
        let directory = tempfile::tempdir().unwrap();
        let restored = SqliteStore::restore(&file, directory.path(), Time(77)).unwrap();
        assert_eq!(restored.fleet, begin.meta.fleet);
        assert_eq!(
            (restored.nodes, restored.events),
            (copied.nodes, copied.events)
        );
        let state = open(directory.path()).load().unwrap();
        let last = state.meta.last_event;
        assert!(
            before <= last && last <= after_all,
            "{before} was acknowledged before the copy, which has {last} of {after_all}"
        );
        assert_eq!(copied.events, last);
        let mut expected = after(begin.clone(), last);
        assert_eq!(copied.nodes, expected.nodes.len() as u64);
        assert_eq!(copied.instances, expected.instances.len() as u64);
        let meta = Arc::make_mut(&mut expected.meta);
        meta.epoch = state.meta.epoch;
        meta.automation = state.meta.automation.clone();
        for node in expected.nodes.values_mut() {
            Arc::make_mut(node).told.restored();
        }
        assert!(state == expected, "the state is not that of {last} commits");
        let automation = &state.meta.automation;
        assert_eq!(automation.mode, Automation::Off);
        assert!(automation.reason.contains("backup"), "{automation:?}");
        assert_eq!(automation.since.unwrap().wall, Time(77));
    }
}

/// A directory with a database, and a copy of it beside it.
fn copied() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let served = place.path().join("served");
    drop(open(&served));
    let file = place.path().join("copy.db");
    SqliteStore::backup(&served, &file).unwrap();
    (place, served, file)
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>, words: &[&str]) {
    let message = result.unwrap_err().to_string();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[test]
fn a_copy_overwrites_nothing_and_leaves_nothing_half_made() {
    let (place, served, file) = copied();
    let before = fs::read(&file).unwrap();
    refused(SqliteStore::backup(&served, &file), &["copy.db exists"]);
    assert!(fs::read(&file).unwrap() == before);

    let nowhere = place.path().join("no/such/place/copy.db");
    refused(SqliteStore::backup(&served, &nowhere), &["copy.db"]);
    let empty = place.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let other = place.path().join("other.db");
    refused(
        SqliteStore::backup(&empty, &other),
        &["there is no database", "empty"],
    );
    fs::write(empty.join(DATABASE_FILE), "not one").unwrap();
    refused(
        SqliteStore::backup(&empty, &other),
        &["not a Navarch database"],
    );
    assert_eq!(names(place.path()), ["copy.db", "empty", "served"]);
    assert_eq!(names(&empty), [DATABASE_FILE]);
}

#[test]
fn damage_is_not_copied() {
    let (place, served, _) = copied();
    let database = served.join(DATABASE_FILE);
    let mut bytes = fs::read(&database).unwrap();
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..] {
        *byte = 0x55;
    }
    fs::write(&database, &bytes).unwrap();
    let other = place.path().join("other.db");
    refused(SqliteStore::backup(&served, &other), &["is damaged"]);
    assert!(!other.exists());
}

#[test]
fn a_copy_is_put_only_where_nothing_is_lost() {
    let (place, served, file) = copied();
    // Over a database, open or not.
    refused(SqliteStore::restore(&file, &served, Time(1)), &["exists"]);
    let store = open(&served);
    refused(
        SqliteStore::restore(&file, &served, Time(1)),
        &["another server"],
    );
    drop(store);
    // Into the directory of another fleet that lost its database.
    let other = place.path().join("other");
    let store = SqliteStore::open(&other, &mut crate::support::Bits::new(99)).unwrap();
    drop(store);
    fs::remove_file(other.join(DATABASE_FILE)).unwrap();
    refused(
        SqliteStore::restore(&file, &other, Time(1)),
        &["belongs to the fleet"],
    );
    assert!(!other.join(DATABASE_FILE).exists());
    // Into its own, where the log of the lost database would be taken for that of the copy.
    fs::remove_file(served.join(DATABASE_FILE)).unwrap();
    fs::write(served.join(format!("{DATABASE_FILE}-wal")), "old").unwrap();
    refused(
        SqliteStore::restore(&file, &served, Time(1)),
        &["-wal exists"],
    );
    fs::remove_file(served.join(format!("{DATABASE_FILE}-wal"))).unwrap();
    SqliteStore::restore(&file, &served, Time(1)).unwrap();
    assert!(!open(&served).opening().created);
}

#[test]
fn what_is_no_whole_copy_is_refused_and_nothing_is_made() {
    let (place, _, file) = copied();
    let directory = place.path().join("new");
    let whole = fs::read(&file).unwrap();
    let bad = place.path().join("bad.db");
    let newer = {
        let mut bytes = whole.clone();
        bytes[60..64].copy_from_slice(&9_999_u32.to_be_bytes());
        bytes
    };
    for (bytes, word) in [
        (Vec::new(), "empty"),
        (b"SELECT 1;".repeat(40), "not a Navarch database"),
        (whole[..whole.len() / 2].to_vec(), "damaged"),
        (newer, "schema 9999"),
    ] {
        fs::write(&bad, bytes).unwrap();
        refused(
            SqliteStore::restore(&bad, &directory, Time(1)),
            &["bad.db", word],
        );
        assert!(!directory.join(DATABASE_FILE).exists());
    }
    refused(
        SqliteStore::restore(&place.path().join("none.db"), &directory, Time(1)),
        &["there is no database", "none.db"],
    );
}

//! Data directories in every condition.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use navarch_model::{Change, IdSource, NodeId, Pool, PoolName, State};
use rusqlite::Connection;
use tempfile::TempDir;

use super::schema::{MIGRATIONS, version_of};
use super::{DATABASE_FILE, FLEET_ID_FILE, LOCK_FILE, SqliteStore, open};
use crate::{Store, StoreError};

/// Ids that begin at a number.
struct Ids(u64);

impl IdSource for Ids {
    fn next_bits(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

fn open_at(directory: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(directory, &mut Ids(1))
}

fn pool(name: &str) -> Change {
    Change::Pool(Arc::new(Pool::new(PoolName::new(name))))
}

/// A directory whose store was used and closed, and what it holds.
fn used() -> (TempDir, State) {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open_at(directory.path()).unwrap();
    let epoch = store.take_over().unwrap();
    for name in ["one", "two"] {
        store.commit(epoch, &[pool(name)]).unwrap();
    }
    let state = store.load().unwrap();
    (directory, state)
}

/// Every file of a directory with its content, the lock aside.
fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with(LOCK_FILE))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Opening is refused with all of the words, and changes no file.
#[track_caller]
fn refused(directory: &Path, words: &[&str]) -> StoreError {
    let before = files(directory);
    let error = open_at(directory).map(drop).unwrap_err();
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    assert!(error.is_final(), "{error:?}");
    assert!(files(directory) == before, "the files changed");
    error
}

#[test]
fn a_store_is_made_with_its_directory_and_a_fleet_id() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("deep/down");
    let store = open_at(&directory).unwrap();
    assert!(store.opening().created);
    let fleet = store.fleet().clone();
    let file = fs::read_to_string(directory.join(FLEET_ID_FILE)).unwrap();
    assert_eq!(file, format!("{fleet}\n"));
    drop(store);

    let again = SqliteStore::open(&directory, &mut Ids(99)).unwrap();
    assert_eq!(*again.fleet(), fleet);
    assert_eq!(*again.opening(), super::Opening::default());

    let other = parent.path().join("other");
    let other = SqliteStore::open(&other, &mut Ids(99)).unwrap();
    assert_ne!(*other.fleet(), fleet);
}

#[test]
fn a_second_server_is_refused_with_the_process_that_has_the_directory() {
    let (directory, _) = used();
    let first = open_at(directory.path()).unwrap();
    let error = refused(
        directory.path(),
        &[
            &format!("process {}", std::process::id()),
            &directory.path().display().to_string(),
            "stop it",
        ],
    );
    assert_eq!(
        error,
        StoreError::Locked {
            path: directory.path().to_owned(),
            pid: Some(std::process::id())
        }
    );
    drop(first);
    open_at(directory.path()).unwrap();
}

#[test]
fn a_closed_store_is_free_though_a_process_that_is_being_started_has_its_lock_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_at(directory.path()).unwrap();
    let inherited = store.lock.duplicate();
    drop(store);
    open_at(directory.path()).unwrap();
    drop(inherited);
}

#[test]
fn a_lock_file_without_a_lock_stops_nobody() {
    for content in ["", "4242\n", "not a number", "99999999999999999999999"] {
        let (directory, state) = used();
        fs::write(directory.path().join(LOCK_FILE), content).unwrap();
        assert_eq!(open_at(directory.path()).unwrap().load(), Ok(state));
    }
}

#[test]
fn a_missing_database_is_not_replaced_by_an_empty_one() {
    for evidence in [FLEET_ID_FILE, "navarch.db-wal", "navarch.db.schema-1"] {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(evidence), "fleet-something\n").unwrap();
        let words = [
            "navarch.db is missing",
            evidence,
            "to restore",
            "another data directory",
        ];
        refused(directory.path(), &words);
        assert!(!directory.path().join(DATABASE_FILE).exists());
    }
    // What others keep in the directory is no evidence, and neither is a start that failed.
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("fake-cloud.json"), "{}").unwrap();
    fs::write(directory.path().join(LOCK_FILE), "1\n").unwrap();
    fs::write(directory.path().join("new-navarch.db"), "half").unwrap();
    assert!(open_at(directory.path()).unwrap().opening().created);
}

#[test]
fn a_fleet_id_that_was_lost_is_written_again_and_another_one_is_refused() {
    let (directory, state) = used();
    let file = directory.path().join(FLEET_ID_FILE);
    fs::remove_file(&file).unwrap();
    assert_eq!(open_at(directory.path()).unwrap().load(), Ok(state.clone()));
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.trim(), state.meta.fleet.as_str());

    for text in ["fleet-stranger\n", "", "\u{0}\u{fffd}"] {
        fs::write(&file, text).unwrap();
        refused(
            directory.path(),
            &[FLEET_ID_FILE, state.meta.fleet.as_str(), "one fleet"],
        );
    }
}

#[test]
fn a_file_of_another_kind_is_refused() {
    let text: &[u8] = b"dear diary";
    for (content, word) in [
        (text, "first bytes"),
        (b"", "empty"),
        (&[0; 4096], "first bytes"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join(DATABASE_FILE);
        fs::write(&database, content).unwrap();
        let error = refused(directory.path(), &["is not a Navarch database", word]);
        assert!(matches!(error, StoreError::Foreign { .. }), "{error:?}");

        // Where a fleet was, the same file is what is left of its database.
        fs::write(directory.path().join(FLEET_ID_FILE), "fleet-1\n").unwrap();
        let error = refused(
            directory.path(),
            &["is damaged", word, "to restore", "-wal"],
        );
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    }

    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join(DATABASE_FILE);
    let other = Connection::open(&database).unwrap();
    other.execute_batch("CREATE TABLE nodes (id TEXT)").unwrap();
    drop(other);
    let words = ["is not a Navarch database", "another program"];
    let error = refused(directory.path(), &words);
    assert!(matches!(error, StoreError::Foreign { .. }), "{error:?}");
}

#[test]
fn damage_is_found_before_anything_is_written() {
    let (directory, _) = used();
    let database = directory.path().join(DATABASE_FILE);
    let whole = fs::read(&database).unwrap();
    assert!(whole.len() > 40_000, "{}", whole.len());
    let mut broken = Vec::new();
    for page in 1..whole.len() / 4096 {
        let mut scribbled = whole.clone();
        scribbled[page * 4096..][..256].fill(0xa5);
        broken.push((format!("page {page} scribbled over"), scribbled));
    }
    let mut schema = whole.clone();
    schema[100..300].fill(0);
    broken.push(("the first page scribbled over".to_owned(), schema));
    broken.push((
        "half the file gone".to_owned(),
        whole[..whole.len() / 2 / 4096 * 4096].to_vec(),
    ));
    for (what, content) in broken {
        fs::write(&database, &content).unwrap();
        let opened = open_at(directory.path()).map(drop);
        let error = opened.expect_err(&what);
        assert!(
            matches!(error, StoreError::Damaged { .. }),
            "{what}: {error:?}"
        );
        let message = error.to_string();
        for word in ["navarch.db is damaged", "to restore", "navarch.db-wal"] {
            assert!(message.contains(word), "{what}: {message}");
        }
        assert!(
            fs::read(&database).unwrap() == content,
            "{what}: the file changed"
        );
    }
    // The copy that the message speaks of works.
    fs::write(&database, &whole).unwrap();
    open_at(directory.path()).unwrap();
}

#[test]
fn the_events_of_a_long_history_are_not_checked_at_each_start() {
    let (directory, _) = used();
    let database = directory.path().join(DATABASE_FILE);
    let whole = fs::read(&database).unwrap();
    let root = |table: &str| {
        let raw = Connection::open(&database).unwrap();
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        let page: u32 = raw.query_row(sql, [table], |row| row.get(0)).unwrap();
        page as usize
    };
    for (table, most_bytes, found) in [
        ("events", u64::MAX, true),
        ("events", 0, false),
        ("events_node", 0, false),
        ("pools", 0, true),
        ("incidents_opened", 0, true),
    ] {
        let mut broken = whole.clone();
        broken[(root(table) - 1) * 4096..][..256].fill(0xa5);
        fs::write(&database, &broken).unwrap();
        let raw = Connection::open(&database).unwrap();
        let checked = open::check(&raw, &database, most_bytes);
        assert_eq!(
            checked.is_err(),
            found,
            "{table}, {most_bytes}: {checked:?}"
        );
        drop(raw);
        fs::write(&database, &whole).unwrap();
    }
}

#[test]
fn a_row_that_cannot_be_read_is_named() {
    for (sql, words) in [
        (
            "UPDATE pools SET row = '{}' WHERE name = 'two'",
            ["row \"two\" of table pools", "missing field `name`"],
        ),
        (
            "UPDATE meta SET row = 'x'",
            ["table meta", "expected value"],
        ),
        ("DELETE FROM meta", ["navarch.db is damaged", "no rows"]),
        ("DROP TABLE commands", ["navarch.db is damaged", "commands"]),
        (
            "INSERT INTO nodes (id, row) VALUES ('n', '{}')",
            ["row \"n\" of table nodes", "missing field"],
        ),
    ] {
        let (directory, _) = used();
        let raw = Connection::open(directory.path().join(DATABASE_FILE)).unwrap();
        raw.execute_batch(sql).unwrap();
        drop(raw);
        let loaded = open_at(directory.path()).and_then(|mut store| store.load());
        let message = loaded.unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{sql}: {message}");
        }
        assert!(message.contains("to restore"), "{sql}: {message}");
    }
}

#[test]
fn a_newer_schema_is_refused_by_its_number() {
    let (directory, _) = used();
    let newest = version_of(MIGRATIONS);
    let raw = Connection::open(directory.path().join(DATABASE_FILE)).unwrap();
    raw.pragma_update(None, "user_version", newest + 1).unwrap();
    drop(raw);
    let words = [
        format!("has schema {}", newest + 1),
        format!("up to {newest}"),
    ];
    let error = refused(directory.path(), &[&words[0], &words[1], "a newer one"]);
    assert!(matches!(error, StoreError::NewerSchema { .. }), "{error:?}");
}

/// The steps that exist, and one more.
fn future() -> Vec<&'static str> {
    let mut steps = MIGRATIONS.to_vec();
    steps.push("ALTER TABLE pools ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'");
    steps
}

#[test]
fn an_older_schema_is_copied_and_then_upgraded() {
    let (directory, state) = used();
    let newest = version_of(MIGRATIONS);
    let mut store = open::open(directory.path(), &mut Ids(1), &future()).unwrap();
    assert_eq!(store.opening().upgraded_from, Some(newest));
    assert_eq!(store.load(), Ok(state.clone()));
    let copy = store.opening().copy.clone().unwrap();
    let colours: u32 = store
        .connection
        .query_row(
            "SELECT count(*) FROM pools WHERE colour = 'red'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(colours, 2);
    drop(store);

    // Again: nothing to do. And this version refuses it now.
    let store = open::open(directory.path(), &mut Ids(1), &future()).unwrap();
    assert_eq!(*store.opening(), super::Opening::default());
    drop(store);
    refused(directory.path(), &["has schema", "before the upgrade"]);

    // The copy in its place is the way back.
    assert_eq!(
        copy.file_name().unwrap().to_str(),
        Some(&*format!("navarch.db.schema-{newest}"))
    );
    fs::rename(&copy, directory.path().join(DATABASE_FILE)).unwrap();
    assert_eq!(open_at(directory.path()).unwrap().load(), Ok(state));
}

#[test]
fn an_upgrade_that_fails_leaves_the_database_as_it_was() {
    let (directory, state) = used();
    let mut steps = future();
    steps.push("CREATE TABLE pools (this TEXT, exists_already TEXT)");
    let error = open::open(directory.path(), &mut Ids(1), &steps)
        .map(drop)
        .unwrap_err();
    assert!(
        error.to_string().contains("pools already exists"),
        "{error}"
    );
    assert_eq!(open_at(directory.path()).unwrap().load(), Ok(state));
    let store = open::open(directory.path(), &mut Ids(1), &future()).unwrap();
    assert!(
        store
            .opening()
            .copy
            .as_ref()
            .is_some_and(|copy| copy.exists())
    );
}

/// A step that was released is never changed. After adding one, add its checksum here.
#[test]
fn released_migrations_stay_as_they_are() {
    // FNV-1a.
    let checksum = |text: &&str| {
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    let checksums: Vec<u64> = MIGRATIONS.iter().map(checksum).collect();
    let known = [
        0x4f10_886e_e9c3_46a8,
        0xba75_f061_b702_23d7,
        0xf574_2e3b_575b_3e92,
        0xa7d6_ebb2_8cd4_5f0c,
        0xd5fd_4f72_4b34_c730,
        0x64cd_6343_f4a0_8323,
        0xa882_80f3_437a_5f39,
        0xca9d_5999_2c02_d172,
        0x2e60_5401_a20d_528c,
        0xf9af_72b4_6855_0946,
    ];
    assert_eq!(checksums, known, "{checksums:#x?}");
}

/// Adds the path of every field of a value.
fn fields_of(path: &str, value: &serde_json::Value, found: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                fields_of(&path, value, found);
                found.insert(path);
            }
        }
        serde_json::Value::Array(values) => {
            for value in values {
                fields_of(path, value, found);
            }
        }
        _ => {}
    }
}

/// A program that knows nothing of a field fails on it, and says so only if the schema is newer.
#[test]
fn every_field_of_a_row_came_with_a_schema() {
    let mut found = BTreeSet::new();
    for line in include_str!("../../golden/rows.txt").lines() {
        let (name, text) = line.split_once(' ').unwrap();
        let row = name.split('-').next().unwrap();
        fields_of(row, &serde_json::from_str(text).unwrap(), &mut found);
    }
    let newest = version_of(MIGRATIONS);
    let known: BTreeMap<String, u32> = include_str!("../../golden/fields.txt")
        .lines()
        .map(|line| {
            let (field, schema) = line.split_once(' ').unwrap();
            (field.to_owned(), schema.parse().unwrap())
        })
        .collect();
    let has_own = known.values().any(|schema| *schema == newest);
    let unknown: Vec<_> = found
        .iter()
        .filter(|one| !known.contains_key(*one))
        .collect();
    assert!(
        unknown.is_empty() || !has_own,
        "no migration came with {unknown:?}: schema {newest} was there before them. Add one. What \
         is no field but a key of an example, such as a label, is added to golden/fields.txt by hand"
    );
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let schema = |field: &String| known.get(field).copied().unwrap_or(newest);
        let lines = found
            .iter()
            .map(|field| format!("{field} {}\n", schema(field)));
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/fields.txt");
        fs::write(file, lines.collect::<String>()).unwrap();
        return;
    }
    let gone: Vec<_> = known.keys().filter(|one| !found.contains(*one)).collect();
    assert!(
        unknown.is_empty() && gone.is_empty(),
        "new {unknown:?}, gone {gone:?}: run this test with UPDATE_GOLDEN=1"
    );
}

#[test]
fn a_full_disk_fails_the_commit_and_loses_nothing() {
    let (directory, before) = used();
    let mut store = open_at(directory.path()).unwrap();
    let epoch = store.take_over().unwrap();
    let pages: u32 = store
        .connection
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .unwrap();
    let limit = |pages: u32| {
        store
            .connection
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
            .unwrap();
    };
    limit(pages + 2);
    let mut large = Pool::new(PoolName::new("one"));
    large.automation = Some(navarch_model::AutomationSetting {
        reason: "x".repeat(100_000),
        ..Default::default()
    });
    let large = Change::Pool(Arc::new(large));
    let error = store
        .commit(epoch, &[pool("three"), large.clone()])
        .unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
    let message = error.to_string();
    for word in ["no space left", "navarch.db", "free some"] {
        assert!(message.contains(word), "{message}");
    }
    assert!(!error.is_final());
    assert_eq!(store.load().unwrap().pools, before.pools);

    store
        .connection
        .query_row("PRAGMA max_page_count = 100000", [], |_| Ok(()))
        .unwrap();
    store.commit(epoch, &[large]).unwrap();
    assert_ne!(store.load().unwrap().pools, before.pools);
}

#[test]
fn a_database_that_another_program_locks_fails_the_commit_and_is_used_again_afterwards() {
    let (directory, before) = used();
    let mut store = open_at(directory.path()).unwrap();
    let epoch = store.take_over().unwrap();
    // Someone looks at the file with a tool of SQLite's, and leaves a transaction open.
    let other = Connection::open(directory.path().join(DATABASE_FILE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let soon = std::time::Duration::from_millis(1);
    store.connection.busy_timeout(soon).unwrap();
    let keep = crate::Retention::default();
    let wall = navarch_model::Time(i64::MAX / 2);
    for error in [
        store.commit(epoch, &[pool("three")]).unwrap_err(),
        store.prune(epoch, wall, &keep).map(drop).unwrap_err(),
        store.take_over().map(drop).unwrap_err(),
    ] {
        assert!(!error.is_final(), "{error:?}");
        let message = error.to_string();
        for word in ["locked", "navarch.db"] {
            assert!(message.contains(word), "{message}");
        }
    }
    // Readers do not wait for a writer.
    assert_eq!(store.load().unwrap().pools, before.pools);
    assert_eq!(store.reader().event_range().map(drop), Ok(()));
    other.execute_batch("ROLLBACK").unwrap();
    store.commit(epoch, &[pool("three")]).unwrap();
    assert_ne!(store.load().unwrap().pools, before.pools);
}

#[test]
fn a_take_over_that_is_not_durable_is_none() {
    let (directory, before) = used();
    let mut store = open_at(directory.path()).unwrap();
    // The statement succeeds and its commit fails, as on a full disk.
    store
        .connection
        .execute_batch(
            "PRAGMA foreign_keys = ON;
             CREATE TABLE parent (id INTEGER PRIMARY KEY);
             CREATE TABLE child (id REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);
             CREATE TRIGGER spoil AFTER UPDATE OF epoch ON meta BEGIN
                 INSERT INTO child VALUES (1);
             END;",
        )
        .unwrap();
    store.take_over().unwrap_err();
    assert_eq!(store.load(), Ok(before.clone()));
    store
        .connection
        .execute_batch("DROP TRIGGER spoil")
        .unwrap();
    let epoch = store.take_over().unwrap();
    assert_eq!(epoch, before.meta.epoch + 1);
    store.commit(epoch, &[]).unwrap();
}

#[cfg(unix)]
#[test]
fn paths_that_cannot_be_used_are_named() {
    use std::os::unix::ffi::OsStrExt;

    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("a-file");
    fs::write(&file, "").unwrap();
    for directory in [file.clone(), file.join("below")] {
        let message = open_at(&directory).map(drop).unwrap_err().to_string();
        assert!(
            message.contains("cannot make the data directory"),
            "{message}"
        );
        assert!(message.contains("a-file"), "{message}");
    }
    let directory = parent.path().join("occupied");
    fs::create_dir_all(directory.join(DATABASE_FILE)).unwrap();
    let message = open_at(&directory).map(drop).unwrap_err().to_string();
    assert!(message.contains("occupied/navarch.db"), "{message}");

    let odd = parent
        .path()
        .join(std::ffi::OsStr::from_bytes(b"odd \xff 'name'?&%20"));
    drop(open_at(&odd).unwrap());
    assert!(!open_at(&odd).unwrap().opening().created);
}

/// What SQLite would do for a query, one step a line.
fn plan(connection: &Connection, sql: &str) -> String {
    let marks = sql.matches('?').count();
    let mut statement = connection
        .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
        .unwrap();
    let steps = statement
        .query_map(rusqlite::params_from_iter(vec![1; marks]), |row| {
            row.get::<_, String>(3)
        })
        .unwrap();
    steps.map(Result::unwrap).collect::<Vec<_>>().join("\n")
}

#[test]
fn queries_read_only_what_they_return() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_at(directory.path()).unwrap();
    for (sql, index) in [
        (
            "FROM events WHERE node = ? ORDER BY sequence DESC",
            "events_node",
        ),
        (
            "FROM events WHERE instance = ? AND sequence < ? ORDER BY sequence DESC",
            "events_instance",
        ),
        (
            "FROM events WHERE incident = ? ORDER BY sequence",
            "events_incident",
        ),
        (
            "FROM events WHERE command = ? ORDER BY sequence DESC",
            "events_command",
        ),
        (
            "FROM events WHERE pool = ? AND sequence > ? ORDER BY sequence",
            "events_pool",
        ),
        (
            "FROM events WHERE sequence > ? ORDER BY sequence",
            "INTEGER PRIMARY KEY",
        ),
        (
            "FROM events WHERE kind IN (?) ORDER BY sequence DESC",
            "events_kind",
        ),
        (
            "FROM incidents WHERE node = ? ORDER BY opened DESC, id DESC",
            "incidents_node",
        ),
        (
            "FROM incidents WHERE pool = ? AND open = ? AND (opened, id) < (?, ?)
             ORDER BY opened DESC, id DESC",
            "incidents_pool",
        ),
        (
            "FROM incidents ORDER BY opened DESC, id DESC",
            "incidents_opened",
        ),
        ("FROM instances WHERE live = 1", "instances_live"),
        (
            "FROM instances WHERE id = ?",
            "sqlite_autoindex_instances_1",
        ),
    ] {
        let plan = plan(&store.connection, &format!("SELECT row {sql} LIMIT 10"));
        assert!(plan.contains(index), "{sql}: {plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{sql}: {plan}");
    }
}

#[test]
fn a_description_is_written_again_after_a_failed_commit() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open_at(directory.path()).unwrap();
    let epoch = store.take_over().unwrap();
    let row = include_str!("../../golden/rows.txt");
    let line = |name: &str| {
        row.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .unwrap()
    };
    let description = Arc::new(crate::rows::decode(line("description")).unwrap());
    let node: crate::rows::NodeRow = crate::rows::decode_row(line("node")).unwrap();
    let node = Arc::new(node.into_node(description));
    let put = [Change::Node(Arc::clone(&node))];
    // The node is written, and then something fails.
    let hide = "ALTER TABLE pools RENAME TO hidden";
    store.connection.execute_batch(hide).unwrap();
    let changes = [Change::Node(Arc::clone(&node)), pool("one")];
    store.commit(epoch, &changes).unwrap_err();
    let show = "ALTER TABLE hidden RENAME TO pools";
    store.connection.execute_batch(show).unwrap();
    assert!(store.load().unwrap().nodes.is_empty());
    store.connection.execute_batch(hide).unwrap();
    store.commit(epoch, &changes).unwrap_err();
    store.connection.execute_batch(show).unwrap();
    store.commit(epoch, &put).unwrap();
    assert_eq!(store.load().unwrap().nodes.get(&node.id), Some(&node));
    store
        .commit(epoch, &[Change::ForgetNode(node.id.clone())])
        .unwrap();
    store.commit(epoch, &put).unwrap();

    let mut moved = (*node).clone();
    Arc::make_mut(&mut moved.description).hostname = "elsewhere".to_owned();
    let mut other = moved.clone();
    other.id = NodeId::new("node-2");
    let changes = [Change::Node(Arc::new(moved)), Change::Node(Arc::new(other))];
    store.commit(epoch, &changes).unwrap();
    let loaded = store.load().unwrap();
    let reader = store.reader();
    assert_eq!(
        reader.node(&NodeId::new("node-2")).unwrap().as_ref(),
        loaded.nodes.get("node-2")
    );
    let hosts: Vec<&str> = loaded
        .nodes
        .values()
        .map(|node| &*node.description.hostname)
        .collect();
    assert_eq!(hosts, ["elsewhere", "elsewhere"]);
    drop(store);
    let mut store = open_at(directory.path()).unwrap();
    assert_eq!(store.load(), Ok(loaded));

    store
        .connection
        .execute_batch("DELETE FROM descriptions WHERE node = 'node-2'")
        .unwrap();
    let reader = store.reader();
    for error in [
        store.load().unwrap_err(),
        reader.node(&NodeId::new("node-2")).unwrap_err(),
    ] {
        let message = error.to_string();
        assert!(
            message.contains("row \"node-2\" of table nodes"),
            "{message}"
        );
    }
}

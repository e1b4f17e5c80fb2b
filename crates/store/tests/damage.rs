//! Databases that a bad disk or a curious person changed: each is refused, or read without harm.

#[cfg(test)]
#[path = "store/support.rs"]
#[allow(
    clippy::allow_attributes,
    dead_code,
    reason = "this test uses a part of it"
)]
mod support;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::OnceLock;

    use navarch_model::State;
    use navarch_store::{DATABASE_FILE, EventQuery, IncidentQuery, SqliteStore, Store, StoreError};
    use proptest::prelude::*;
    use rusqlite::Connection;
    use rusqlite::types::Value;

    use crate::support::{Bits, Random};

    /// The files of a store that was used and closed, and its state.
    struct Used {
        files: Vec<(String, Vec<u8>)>,
        state: State,
        /// Every column of every table with rows.
        columns: Vec<(String, String)>,
    }

    fn open(directory: &Path) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(directory, &mut Bits::new(1))
    }

    /// Everything that a server reads at its start and after.
    fn read_all(directory: &Path) -> Result<State, StoreError> {
        let mut store = open(directory)?;
        let state = store.load()?;
        let history = store.reader();
        history.events(&EventQuery::default())?;
        history.events(&EventQuery::following(0))?;
        history.event_range()?;
        for node in state.nodes.keys() {
            history.node(node)?;
        }
        for open in [None, Some(true), Some(false)] {
            history.incidents(&IncidentQuery {
                open,
                ..IncidentQuery::default()
            })?;
        }
        Ok(state)
    }

    fn used() -> &'static Used {
        static USED: OnceLock<Used> = OnceLock::new();
        USED.get_or_init(|| {
            let dir = tempfile::tempdir().expect("a directory");
            let mut store = open(dir.path()).expect("it opens");
            let epoch = store.take_over().expect("nobody else has it");
            let fleet = store.load().expect("it loads").meta.fleet.clone();
            for seed in 0..12 {
                let changes = Random::new(seed, fleet.clone()).changes(20);
                // Some seeds make changes that a store refuses; the others suffice.
                let _refused = store.commit(epoch, &changes);
            }
            drop(store);
            let state = read_all(dir.path()).expect("it is whole");
            assert!(!state.nodes.is_empty() && !state.instances.is_empty());
            let database = Connection::open(dir.path().join(DATABASE_FILE)).expect("it opens");
            // All of it in one file.
            let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
            database
                .query_row(checkpoint, [], |_| Ok(()))
                .expect("it is ours alone");
            let mut columns = Vec::new();
            let texts = |sql: &str| -> Vec<String> {
                let mut statement = database.prepare(sql).expect("good SQL");
                let rows = statement.query_map([], |row| row.get(0)).expect("it runs");
                rows.collect::<Result<_, _>>().expect("texts")
            };
            for table in texts("SELECT name FROM sqlite_master WHERE type = 'table'") {
                let count = format!("SELECT count(*) FROM \"{table}\"");
                let rows: i64 = database
                    .query_row(&count, [], |row| row.get(0))
                    .expect("a count");
                if rows > 0 && !table.starts_with("sqlite_") {
                    let names = texts(&format!("SELECT name FROM pragma_table_info('{table}')"));
                    columns.extend(names.into_iter().map(|name| (table.clone(), name)));
                }
            }
            assert!(columns.len() > 20, "{columns:?}");
            drop(database);
            let mut files = Vec::new();
            for entry in fs::read_dir(dir.path()).expect("it is there") {
                let entry = entry.expect("it is there");
                let name = entry.file_name().to_string_lossy().into_owned();
                if entry.path().is_file() && !name.contains("lock") {
                    files.push((name, fs::read(entry.path()).expect("it is read")));
                }
            }
            Used {
                files,
                state,
                columns,
            }
        })
    }

    fn copy(used: &Used) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, content) in &used.files {
            fs::write(dir.path().join(name), content).expect("it is written");
        }
        dir
    }

    /// A refusal names the file and says what to do, and the next start says the same.
    fn is_refusal(directory: &Path, error: &StoreError) -> bool {
        let again = read_all(directory).map_err(|again| again.to_string());
        let text = error.to_string();
        let named = text.contains(&directory.display().to_string());
        named && again.is_err()
    }

    #[derive(Debug, Clone)]
    enum Harm {
        Flip(prop::sample::Index, u8),
        Zeros(prop::sample::Index, usize),
        Cut(prop::sample::Index),
        /// A page in another's place, as after a lost write.
        Move(prop::sample::Index, prop::sample::Index),
    }

    fn harm() -> impl Strategy<Value = Harm> {
        let at = any::<prop::sample::Index>;
        prop_oneof![
            4 => (at(), 0..8_u8).prop_map(|(at, bit)| Harm::Flip(at, bit)),
            1 => (at(), 1..9000_usize).prop_map(|(at, count)| Harm::Zeros(at, count)),
            1 => at().prop_map(Harm::Cut),
            1 => (at(), at()).prop_map(|(from, to)| Harm::Move(from, to)),
        ]
    }

    fn harmed(mut bytes: Vec<u8>, harms: &[Harm]) -> Vec<u8> {
        const PAGE: usize = 4096;
        for harm in harms {
            if bytes.len() < PAGE {
                break;
            }
            let pages = bytes.len() / PAGE;
            match harm {
                Harm::Flip(at, bit) => *at.get_mut(&mut bytes) ^= 1 << bit,
                Harm::Zeros(at, count) => {
                    let at = at.index(bytes.len());
                    let end = (at + count).min(bytes.len());
                    bytes[at..end].fill(0);
                }
                Harm::Cut(at) => bytes.truncate(at.index(bytes.len())),
                Harm::Move(from, to) => {
                    let from = from.index(pages) * PAGE;
                    let page = bytes[from..from + PAGE].to_vec();
                    let to = to.index(pages) * PAGE;
                    bytes[to..to + PAGE].copy_from_slice(&page);
                }
            }
        }
        bytes
    }

    /// Values that a column was not made for.
    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Integer),
            (-3..3_i64).prop_map(Value::Integer),
            any::<f64>().prop_map(Value::Real),
            ".{0,12}".prop_map(Value::Text),
            Just(Value::Text("x".repeat(100_000))),
            Just(Value::Text("[".repeat(100_000))),
            Just(Value::Text("{\"a\":".repeat(50_000))),
            prop::sample::select(vec!["{}", "[]", "null", "0", "\"\"", "[null]", "{\"v\":9}"])
                .prop_map(|text| Value::Text(text.to_owned())),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(Value::Blob),
        ]
    }

    /// As many cases as are asked for, or the usual number.
    fn cases(usual: u32) -> u32 {
        let asked = std::env::var("PROPTEST_CASES").ok();
        asked.and_then(|count| count.parse().ok()).unwrap_or(usual)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: cases(96), failure_persistence: None, ..ProptestConfig::default() })]

        /// Bytes of the file change: the store is refused by name, or nothing that matters was hit.
        #[test]
        fn any_damage_to_the_file_is_refused_or_harmless(harms in prop::collection::vec(harm(), 1..4)) {
            let used = used();
            let dir = copy(used);
            let path = dir.path().join(DATABASE_FILE);
            let whole = fs::read(&path).expect("it is there");
            fs::write(&path, harmed(whole, &harms)).expect("it is written");
            match read_all(dir.path()) {
                // What a flipped bit made of a value, nobody can know.
                Ok(state) => prop_assert_eq!(&state.meta.fleet, &used.state.meta.fleet),
                Err(error) => prop_assert!(is_refusal(dir.path(), &error), "{error}"),
            }
        }

        /// A column of one row holds what it was not made for.
        #[test]
        fn any_value_in_any_column_is_read_or_refused(
            column in any::<prop::sample::Index>(),
            row in any::<prop::sample::Index>(),
            value in value(),
        ) {
            let used = used();
            let dir = copy(used);
            let (table, column) = column.get(&used.columns);
            let database = Connection::open(dir.path().join(DATABASE_FILE)).expect("it opens");
            let rows: i64 = database
                .query_row(&format!("SELECT count(*) FROM \"{table}\""), [], |row| row.get(0))
                .expect("a count");
            let update = format!(
                "UPDATE OR IGNORE \"{table}\" SET \"{column}\" = ?1 WHERE rowid = \
                 (SELECT rowid FROM \"{table}\" LIMIT 1 OFFSET {})",
                row.index(usize::try_from(rows).expect("a small number"))
            );
            // A table may refuse the value itself, or have no row ids.
            let changed = database.execute(&update, [value]);
            drop(database);
            if let Err(error) = read_all(dir.path()) {
                prop_assert!(changed.is_ok(), "{table}.{column}: {error}");
                prop_assert!(is_refusal(dir.path(), &error), "{table}.{column}: {error}");
            }
        }
    }
}

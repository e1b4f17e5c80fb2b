//! One suite of tests for every store. A new store needs a `Fixture` and one line below.

mod cases;
mod expected;
mod history;
mod retention;

use navarch_store::{MemoryDisk, MemoryStore, SqliteStore, Store};
use tempfile::TempDir;

/// Something that keeps what stores write, and can be opened again and again.
pub trait Fixture {
    /// A place where nothing was written yet.
    fn new() -> Self;

    /// Opens the place. The store that had it before is gone.
    fn open(&self) -> Box<dyn Store>;
}

/// A disk in memory.
struct Memory(MemoryDisk);

impl Fixture for Memory {
    fn new() -> Self {
        Self(MemoryDisk::new(crate::support::fleet()))
    }

    fn open(&self) -> Box<dyn Store> {
        Box::new(MemoryStore::open(&self.0))
    }
}

/// A data directory.
struct Sqlite(TempDir);

impl Fixture for Sqlite {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder can be made"))
    }

    fn open(&self) -> Box<dyn Store> {
        let store = SqliteStore::open(self.0.path(), &mut crate::support::Bits::new(1));
        Box::new(store.expect("the store can be opened"))
    }
}

macro_rules! suite {
    ($($module:ident::$case:ident),+ $(,)?) => {
        mod memory {
            $(#[test] fn $case() { crate::conformance::$module::$case::<crate::conformance::Memory>(); })+
        }

        mod sqlite {
            $(#[test] fn $case() { crate::conformance::$module::$case::<crate::conformance::Sqlite>(); })+
        }
    };
}

suite!(
    cases::a_new_store_has_a_fleet_and_nothing_else,
    cases::what_is_loaded_is_what_was_applied,
    cases::a_refused_commit_changes_nothing,
    cases::only_the_last_to_take_over_may_write,
    cases::the_last_event_is_never_forgotten,
    cases::texts_of_every_kind_and_size_survive,
    cases::a_fleet_of_thousands_is_loaded_whole,
    history::queries_answer_what_the_record_has,
    history::a_repeat_replaces_its_event,
    history::pages_of_events_join_without_gap_or_overlap,
    history::pages_of_incidents_join_without_gap_or_overlap,
    history::forgotten_records_stay_and_come_back,
    history::readers_on_other_threads_see_whole_commits,
    retention::what_is_old_goes_in_small_batches,
    retention::retention_takes_nothing_from_the_middle_of_the_record,
    retention::the_oldest_events_go_when_there_are_too_many,
    retention::what_is_in_use_stays,
    retention::only_the_beginning_goes_and_readers_go_on_over_the_gap,
);

//! The schema and how old databases come to it.

use rusqlite::Connection;

/// Marks a database as ours: "NAVA".
pub(super) const APPLICATION_ID: u32 = 0x4e41_5641;

/// Steps from each schema to the next. The first makes schema 1 from nothing. The list only
/// grows: a step that was released is never changed, for databases have taken it.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
    include_str!("migrations/0006.sql"),
    include_str!("migrations/0007.sql"),
    include_str!("migrations/0008.sql"),
    include_str!("migrations/0009.sql"),
    include_str!("migrations/0010.sql"),
];

/// The schema that a list of steps leads to.
pub(super) fn version_of(migrations: &[&str]) -> u32 {
    u32::try_from(migrations.len()).expect("there are few migrations")
}

/// Takes the steps from `version` on, all or none, and hands the connection to `seed` within the
/// same transaction.
pub(super) fn migrate(
    connection: &mut Connection,
    migrations: &[&str],
    version: u32,
    seed: impl FnOnce(&Connection) -> Result<(), rusqlite::Error>,
) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction()?;
    for step in migrations.iter().skip(version as usize) {
        transaction.execute_batch(step)?;
    }
    seed(&transaction)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", version_of(migrations))?;
    transaction.commit()
}

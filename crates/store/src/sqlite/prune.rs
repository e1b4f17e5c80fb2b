//! Retention as statements.

use navarch_model::Time;
use rusqlite::Connection;

use crate::{Pruned, Retention};

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// Removes one batch, within the caller's transaction.
pub(super) fn prune(connection: &Connection, wall: Time, keep: &Retention) -> Result<Pruned> {
    let batch = i64::try_from(keep.batch).unwrap_or(i64::MAX);
    let run = |sql: &str, values: &[i64]| {
        connection
            .prepare_cached(sql)?
            .execute(rusqlite::params_from_iter(values))
    };
    let too_old = (wall - keep.events_age).0;
    // Only the beginning of the record goes: the first event that stays ends the batch.
    let mut events = run(
        "DELETE FROM events WHERE sequence IN (
             SELECT sequence FROM (
                 SELECT sequence, max(last >= ?1) OVER (ORDER BY sequence) AS stays
                 FROM (SELECT sequence, last FROM events ORDER BY sequence LIMIT ?2))
             WHERE NOT stays AND sequence < (SELECT max(sequence) FROM events))",
        &[too_old, batch],
    )?;
    if events < keep.batch && bytes_used(connection)? > keep.events_bytes {
        events += run(
            "DELETE FROM events WHERE sequence IN (
                 SELECT sequence FROM events
                 WHERE sequence < (SELECT max(sequence) FROM events)
                 ORDER BY sequence LIMIT ?1)",
            &[batch - i64::try_from(events).unwrap_or(batch)],
        )?;
    }
    let too_old = (wall - keep.records_age).0;
    let mut records = 0;
    let mut more = events >= keep.batch.max(1);
    for table in ["nodes", "instances", "incidents", "commands"] {
        let removed = run(
            &format!(
                "DELETE FROM {table} WHERE rowid IN (
                     SELECT rowid FROM {table} WHERE live = 0 AND ended < ?1
                     ORDER BY ended LIMIT ?2)"
            ),
            &[too_old, batch],
        )?;
        records += removed;
        more |= removed >= keep.batch.max(1);
    }
    Ok(Pruned {
        events,
        records,
        more,
    })
}

/// What all records take in the file. Pages that are free do not count, for new events use them
/// first.
fn bytes_used(connection: &Connection) -> Result<u64> {
    let pragma = |name: &str| -> Result<u64> {
        let sql = format!("PRAGMA {name}");
        let value: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
        Ok(value.unsigned_abs())
    };
    Ok((pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?)
}

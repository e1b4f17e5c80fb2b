//! Reading the whole state.

use std::path::Path;
use std::sync::Arc;

use navarch_model::{Change, FleetId, Meta, State};
use rusqlite::{Connection, Row};

use super::fault::{damaged_row, fault};
use crate::StoreError;
use crate::rows::{MetaRow, NodeRow, OnDisk, decode, decode_row};

/// A table whose live rows are part of the state.
struct Table {
    name: &'static str,
    /// The first column names the row in errors.
    sql: &'static str,
    /// The change that brings a row into the state, or what is wrong with the row.
    change: fn(&Row<'_>) -> Result<Change, String>,
}

const TABLES: &[Table] = &[
    Table {
        name: "pools",
        sql: "SELECT name, row FROM pools",
        change: |row| Ok(Change::Pool(value(row)?)),
    },
    Table {
        name: "unclaimed",
        sql: "SELECT provider_id, row FROM unclaimed",
        change: |row| Ok(Change::Unclaimed(value(row)?)),
    },
    Table {
        name: "instances",
        sql: "SELECT id, row FROM instances WHERE live = 1",
        change: |row| Ok(Change::Instance(value(row)?)),
    },
    Table {
        name: "nodes",
        sql: "SELECT id, nodes.row, descriptions.row
              FROM nodes LEFT JOIN descriptions ON node = id WHERE live = 1",
        change: |row| {
            let node: NodeRow = decode_row(text(row, 1)?)?;
            let description = decode(text(row, 2)?)?;
            Ok(Change::Node(Arc::new(node.into_node(description))))
        },
    },
    Table {
        name: "incidents",
        sql: "SELECT id, row FROM incidents WHERE live = 1",
        change: |row| Ok(Change::Incident(value(row)?)),
    },
    Table {
        name: "commands",
        sql: "SELECT id, row FROM commands WHERE live = 1",
        change: |row| Ok(Change::Command(value(row)?)),
    },
];

/// Reads the state of the fleet.
pub(super) fn load(
    connection: &Connection,
    database: &Path,
    fleet: &FleetId,
) -> Result<State, StoreError> {
    let mut state = State::new(fleet.clone());
    state.meta = Arc::new(meta(connection, database, fleet)?);
    for table in TABLES {
        let failed = |error| fault(database, "read", error);
        let mut statement = connection.prepare_cached(table.sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let change = (table.change)(row).map_err(|detail| {
                let key = text(row, 0).unwrap_or("?");
                damaged_row(database, table.name, key, &detail)
            })?;
            state.apply(&change);
        }
    }
    Ok(state)
}

fn meta(connection: &Connection, database: &Path, fleet: &FleetId) -> Result<Meta, StoreError> {
    let (epoch, last, text): (i64, Option<i64>, String) = connection
        .query_row(
            "SELECT epoch, (SELECT max(sequence) FROM events), row FROM meta",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .map_err(|error| fault(database, "read", error))?;
    let row: MetaRow =
        decode_row(&text).map_err(|detail| damaged_row(database, "meta", "1", &detail))?;
    let mut meta = row.into_meta(fleet.clone(), epoch.unsigned_abs());
    meta.last_event = meta.last_event.max(last.unwrap_or(0).unsigned_abs());
    Ok(meta)
}

/// The value in the second column.
fn value<T: OnDisk>(row: &Row<'_>) -> Result<Arc<T>, String> {
    decode(text(row, 1)?).map(Arc::new)
}

/// The text in a column.
fn text<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a str, String> {
    let value = row.get_ref(column).map_err(|error| error.to_string())?;
    value.as_str().map_err(|error| error.to_string())
}

//! History queries as statements, on connections of their own.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use navarch_model::{
    Command, CommandId, Event, Incident, IncidentId, Instance, InstanceId, Node, NodeId,
};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::fault::{damaged_row, fault};
use crate::query::clamp;
use crate::rows::{NodeRow, OnDisk, decode, decode_row};
use crate::{EventQuery, History, IncidentQuery, Order, StoreError};

/// How many idle connections stay open. Higher costs memory and file handles, lower opens the
/// database more often.
const IDLE: usize = 4;

/// As for the writer; a reader waits only while the log is being recovered or closed.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Read-only connections to one database.
#[derive(Debug)]
pub(super) struct Readers {
    database: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(database: &Path) -> Self {
        Self {
            database: database.to_owned(),
            idle: Mutex::new(Vec::new()),
        }
    }

    fn fault(&self, error: rusqlite::Error) -> StoreError {
        fault(&self.database, "read", error)
    }

    /// Runs a query on a connection that nobody else uses meanwhile.
    fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, StoreError> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect().map_err(|error| self.fault(error))?,
        };
        let value = work(&connection).map_err(|error| self.fault(error))?;
        let mut idle = self.idle();
        if idle.len() < IDLE {
            idle.push(connection);
        }
        Ok(value)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
    }

    fn connect(&self) -> Result<Connection, rusqlite::Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.database, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        Ok(connection)
    }

    /// The record of one id.
    fn one<T: OnDisk>(&self, table: &str, id: &str) -> Result<Option<Arc<T>>, StoreError> {
        let sql = format!("SELECT row FROM {table} WHERE id = ?1");
        let text: Option<String> = self.read(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            statement.query_row([id], |row| row.get(0)).optional()
        })?;
        text.map(|text| self.value(table, id, &text)).transpose()
    }

    /// The records of a query whose columns are a key and the row.
    fn many<T: OnDisk>(&self, table: &str, query: Query) -> Result<Vec<Arc<T>>, StoreError> {
        let rows: Vec<(Value, String)> = self.read(|connection| {
            let mut statement = connection.prepare_cached(&query.sql)?;
            let rows = statement.query_map(rusqlite::params_from_iter(query.values), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            rows.collect()
        })?;
        rows.into_iter()
            .map(|(key, text)| self.value(table, &format!("{key:?}"), &text))
            .collect()
    }

    fn value<T: OnDisk>(&self, table: &str, key: &str, text: &str) -> Result<Arc<T>, StoreError> {
        decode(text)
            .map(Arc::new)
            .map_err(|detail| damaged_row(&self.database, table, key, &detail))
    }
}

/// A statement in the making.
struct Query {
    sql: String,
    values: Vec<Value>,
}

impl Query {
    fn new(sql: &str) -> Self {
        Self {
            sql: sql.to_owned(),
            values: Vec::new(),
        }
    }

    /// Adds a condition; `?` in it stands for the values.
    fn and(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        self.sql.push_str(if self.values.is_empty() {
            " WHERE "
        } else {
            " AND "
        });
        self.sql.push_str(condition);
        self.values.extend(values);
    }

    /// Adds a condition if there is a text for it.
    fn and_text(&mut self, condition: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.and(condition, [Value::Text(text.to_owned())]);
        }
    }

    fn end(&mut self, order: &str, limit: usize) {
        self.sql.push_str(" ORDER BY ");
        self.sql.push_str(order);
        self.sql.push_str(" LIMIT ?");
        self.values.push(Value::Integer(clamp(limit) as i64));
    }
}

/// A sequence as a column; what is greater than every column stays so.
fn column(sequence: u64) -> Value {
    Value::Integer(i64::try_from(sequence).unwrap_or(i64::MAX))
}

impl History for Arc<Readers> {
    fn events(&self, query: &EventQuery) -> Result<Vec<Arc<Event>>, StoreError> {
        let mut sql = Query::new("SELECT sequence, row FROM events");
        sql.and_text("node = ?", query.node.as_ref().map(|id| id.as_str()));
        sql.and_text(
            "instance = ?",
            query.instance.as_ref().map(|id| id.as_str()),
        );
        sql.and_text(
            "incident = ?",
            query.incident.as_ref().map(|id| id.as_str()),
        );
        sql.and_text("command = ?", query.command.as_ref().map(|id| id.as_str()));
        sql.and_text("pool = ?", query.pool.as_ref().map(|id| id.as_str()));
        if !query.kinds.is_empty() {
            let marks = vec!["?"; query.kinds.len()].join(", ");
            let words = query
                .kinds
                .iter()
                .map(|kind| Value::Text(kind.word().to_owned()));
            sql.and(&format!("kind IN ({marks})"), words);
        }
        if let Some(after) = query.after {
            sql.and("sequence > ?", [column(after)]);
        }
        if let Some(before) = query.before {
            sql.and("sequence < ?", [column(before)]);
        }
        let order = match query.order {
            Order::NewestFirst => "sequence DESC",
            Order::OldestFirst => "sequence",
        };
        sql.end(order, query.limit);
        self.many("events", sql)
    }

    fn event_range(&self) -> Result<Option<RangeInclusive<u64>>, StoreError> {
        // Two look-ups; min and max in one statement would read every row.
        let ends: (Option<i64>, Option<i64>) = self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT (SELECT min(sequence) FROM events), (SELECT max(sequence) FROM events)",
                )?
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        })?;
        let (Some(first), Some(last)) = ends else {
            return Ok(None);
        };
        Ok(Some(first.unsigned_abs()..=last.unsigned_abs()))
    }

    fn incidents(&self, query: &IncidentQuery) -> Result<Vec<Arc<Incident>>, StoreError> {
        let mut sql = Query::new("SELECT id, row FROM incidents");
        sql.and_text("node = ?", query.node.as_ref().map(|id| id.as_str()));
        sql.and_text("pool = ?", query.pool.as_ref().map(|id| id.as_str()));
        if let Some(open) = query.open {
            sql.and("open = ?", [Value::Integer(i64::from(open))]);
        }
        if let Some(before) = &query.before {
            let id = Value::Text(before.id.as_str().to_owned());
            sql.and(
                "(opened, id) < (?, ?)",
                [Value::Integer(before.opened.0), id],
            );
        }
        sql.end("opened DESC, id DESC", query.limit);
        self.many("incidents", sql)
    }

    fn node(&self, id: &NodeId) -> Result<Option<Arc<Node>>, StoreError> {
        let texts: Option<(String, Option<String>)> = self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT nodes.row, descriptions.row
                     FROM nodes LEFT JOIN descriptions ON node = id WHERE id = ?1",
                )?
                .query_row([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })?;
        let Some((node, description)) = texts else {
            return Ok(None);
        };
        let whole = || -> Result<Node, String> {
            let node: NodeRow = decode_row(&node)?;
            let description = description.ok_or("it has no description")?;
            Ok(node.into_node(decode(&description)?))
        };
        whole()
            .map(|node| Some(Arc::new(node)))
            .map_err(|detail| damaged_row(&self.database, "nodes", id.as_str(), &detail))
    }

    fn instance(&self, id: &InstanceId) -> Result<Option<Arc<Instance>>, StoreError> {
        self.one("instances", id.as_str())
    }

    fn incident(&self, id: &IncidentId) -> Result<Option<Arc<Incident>>, StoreError> {
        self.one("incidents", id.as_str())
    }

    fn command(&self, id: &CommandId) -> Result<Option<Arc<Command>>, StoreError> {
        self.one("commands", id.as_str())
    }
}

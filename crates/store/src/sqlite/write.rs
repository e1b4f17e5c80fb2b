//! Changes as statements.

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_model::{Change, Command, Description, Event, Incident, Instance, Node, NodeId};
use rusqlite::{Connection, Params};

use crate::rows::{MetaRow, NodeRow, encode, encode_row};

/// The descriptions that the database is known to have, of nodes in use.
pub(super) type Described = BTreeMap<NodeId, Arc<Description>>;

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// Makes the changes, within the caller's transaction.
pub(super) fn changes(
    connection: &Connection,
    changes: &[Change],
    described: &mut Described,
) -> Result<()> {
    // Every input may bring a new one; only the last of a batch is ever seen.
    let last_meta = changes
        .iter()
        .rposition(|change| matches!(change, Change::Meta(_)));
    for (index, change) in changes.iter().enumerate() {
        if !matches!(change, Change::Meta(_)) || last_meta == Some(index) {
            make(connection, change, described)?;
        }
    }
    Ok(())
}

fn make(connection: &Connection, change: &Change, described: &mut Described) -> Result<()> {
    let run =
        |sql: &str, values: &[&str]| execute(connection, sql, rusqlite::params_from_iter(values));
    match change {
        Change::Meta(meta) => {
            let row = encode_row(&MetaRow::new(meta));
            run("UPDATE meta SET row = ?1", &[&row])
        }
        Change::Pool(pool) => run(
            "INSERT INTO pools (name, row) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET row = excluded.row",
            &[pool.name.as_str(), &encode(&**pool)],
        ),
        Change::Unclaimed(machine) => run(
            "INSERT INTO unclaimed (provider, provider_id, row) VALUES (?1, ?2, ?3)
             ON CONFLICT (provider, provider_id) DO UPDATE SET row = excluded.row",
            &[
                machine.provider.as_str(),
                machine.provider_id.as_str(),
                &encode(&**machine),
            ],
        ),
        Change::UnclaimedGone(provider, id) => run(
            "DELETE FROM unclaimed WHERE provider = ?1 AND provider_id = ?2",
            &[provider.as_str(), id.as_str()],
        ),
        Change::Node(node) => {
            put_node(connection, node)?;
            put_description(connection, node, described)
        }
        Change::Instance(instance) => put_instance(connection, instance),
        Change::Command(command) => put_command(connection, command),
        Change::Incident(incident) => put_incident(connection, incident),
        Change::Event(event) => put_event(connection, event),
        Change::ForgetNode(id) => {
            described.remove(id);
            run("UPDATE nodes SET live = 0 WHERE id = ?1", &[id.as_str()])
        }
        Change::ForgetInstance(id) => run(
            "UPDATE instances SET live = 0 WHERE id = ?1",
            &[id.as_str()],
        ),
        Change::ForgetIncident(id) => run(
            "UPDATE incidents SET live = 0 WHERE id = ?1",
            &[id.as_str()],
        ),
        Change::ForgetCommand(id) => {
            run("UPDATE commands SET live = 0 WHERE id = ?1", &[id.as_str()])
        }
        Change::ForgetPool(name) => run("DELETE FROM pools WHERE name = ?1", &[name.as_str()]),
    }
}

fn execute(connection: &Connection, sql: &str, values: impl Params) -> Result<()> {
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// Puts a row whose other columns seldom change. When they do not, the indexes are left alone.
fn put_row(
    connection: &Connection,
    [update, insert]: [&str; 2],
    id: &str,
    ended: Option<i64>,
    row: &str,
) -> Result<()> {
    let values = (id, ended, row);
    let updated = connection.prepare_cached(update)?.execute(values)?;
    if updated == 0 {
        execute(connection, insert, values)?;
    }
    Ok(())
}

fn put_node(connection: &Connection, node: &Node) -> Result<()> {
    put_row(
        connection,
        [
            "UPDATE nodes SET row = ?3 WHERE id = ?1 AND live = 1 AND ended IS ?2",
            "INSERT INTO nodes (id, ended, row) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET live = 1, ended = excluded.ended, row = excluded.row",
        ],
        node.id.as_str(),
        node.terminated.map(|at| at.wall.0),
        &encode_row(&NodeRow::new(node)),
    )
}

/// Writes the description if it is another than the database has: it is most of a node, and
/// most changes of a node leave it alone.
fn put_description(connection: &Connection, node: &Node, described: &mut Described) -> Result<()> {
    let same = |known: &Arc<Description>| {
        Arc::ptr_eq(known, &node.description) || *known == node.description
    };
    if described.get(&node.id).is_some_and(same) {
        return Ok(());
    }
    execute(
        connection,
        "INSERT INTO descriptions (node, row) VALUES (?1, ?2)
         ON CONFLICT (node) DO UPDATE SET row = excluded.row",
        (node.id.as_str(), encode(&*node.description)),
    )?;
    described.insert(node.id.clone(), Arc::clone(&node.description));
    Ok(())
}

fn put_instance(connection: &Connection, instance: &Instance) -> Result<()> {
    put_row(
        connection,
        [
            "UPDATE instances SET row = ?3 WHERE id = ?1 AND live = 1 AND ended IS ?2",
            "INSERT INTO instances (id, ended, row) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET live = 1, ended = excluded.ended, row = excluded.row",
        ],
        instance.id.as_str(),
        instance.ended.map(|at| at.wall.0),
        &encode(instance),
    )
}

fn put_command(connection: &Connection, command: &Command) -> Result<()> {
    let ended = command.state.is_final().then_some(command.changed.wall.0);
    execute(
        connection,
        "INSERT INTO commands (id, ended, row) VALUES (?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET live = 1, ended = excluded.ended, row = excluded.row",
        (command.id.as_str(), ended, encode(command)),
    )
}

fn put_incident(connection: &Connection, incident: &Incident) -> Result<()> {
    execute(
        connection,
        "INSERT INTO incidents (id, ended, row, node, pool, open, opened)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (id) DO UPDATE SET
             live = 1, ended = excluded.ended, row = excluded.row, node = excluded.node,
             pool = excluded.pool, open = excluded.open, opened = excluded.opened",
        (
            incident.id.as_str(),
            incident.closed.as_ref().map(|(at, _)| at.wall.0),
            encode(incident),
            incident.key.node.as_str(),
            incident.pool.as_ref().map(|pool| pool.as_str()),
            incident.is_open(),
            incident.opened.core.0,
        ),
    )
}

fn put_event(connection: &Connection, event: &Event) -> Result<()> {
    let subject = &event.subject;
    execute(
        connection,
        "INSERT INTO events
             (sequence, last, kind, pool, instance, node, incident, command, row)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (sequence) DO UPDATE SET
             last = excluded.last, kind = excluded.kind, pool = excluded.pool,
             instance = excluded.instance, node = excluded.node, incident = excluded.incident,
             command = excluded.command, row = excluded.row",
        (
            event.sequence.cast_signed(),
            event.last.wall.0,
            event.kind.word(),
            subject.pool.as_ref().map(|id| id.as_str()),
            subject.instance.as_ref().map(|id| id.as_str()),
            subject.node.as_ref().map(|id| id.as_str()),
            subject.incident.as_ref().map(|id| id.as_str()),
            subject.command.as_ref().map(|id| id.as_str()),
            encode(event),
        ),
    )
}

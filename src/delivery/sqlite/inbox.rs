//! What others have for us: where we stand in their feeds, what is held of them, and what is still to be published.

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::own;
use super::value::{Count, Did, Range, Sum, key, limit as rows, number};
use crate::delivery::types::{Hash, Held, Key, Position, Received, Todo, Verdict};
use crate::wire::Action;

pub(super) fn origin(connection: &Connection, did: &str) -> rusqlite::Result<Option<Position>> {
    connection
        .prepare_cached("SELECT lineage, incarnation, seq FROM origin WHERE did = ?1")?
        .query_row([did], |row| {
            let Count(seq) = row.get(2)?;
            Ok(Position {
                lineage: row.get(0)?,
                incarnation: row.get(1)?,
                seq,
            })
        })
        .optional()
}

pub(super) fn set_origin(connection: &Connection, did: &str, position: Option<Position>) -> rusqlite::Result<()> {
    match position {
        Some(at) => connection
            .prepare_cached("INSERT OR REPLACE INTO origin (did, lineage, incarnation, seq) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![did, at.lineage, at.incarnation, number(at.seq)])?,
        None => connection
            .prepare_cached("DELETE FROM origin WHERE did = ?1")?
            .execute([did])?,
    };
    Ok(())
}

pub(super) fn receive(
    connection: &Connection,
    origin: &str,
    lines: &[Received],
    position: Option<Position>,
    at: u64,
) -> rusqlite::Result<Vec<Verdict>> {
    let first = last_todo(connection)?;
    let mut n = first;
    let mut verdicts = Vec::with_capacity(lines.len());
    let mut take = Take::prepare(connection)?;
    for line in lines {
        let refused = match line.directed {
            // What was sent once has no id of its sender's.
            true if line.once => None,
            true => meet(connection, origin, &line.key.id, at)?,
            false => take.hold(origin, line)?,
        };
        verdicts.push(match refused {
            Some(verdict) => verdict,
            None => {
                n += 1;
                take.todo(n, origin, line)?;
                Verdict::Todo(n)
            }
        });
    }
    if n > first {
        connection
            .prepare_cached("UPDATE meta SET last_todo = ?1")?
            .execute([number(n)])?;
    }
    if position.is_some() {
        set_origin(connection, origin, position)?;
    }
    Ok(verdicts)
}

/// Notes a directed event's id; none when it is new.
fn meet(connection: &Connection, origin: &str, msg_id: &str, at: u64) -> rusqlite::Result<Option<Verdict>> {
    let new = connection
        .prepare_cached("INSERT OR IGNORE INTO seen (origin, msg_id, at) VALUES (?1, ?2, ?3)")?
        .execute(params![origin, msg_id, number(at)])?;
    Ok((new == 0).then_some(Verdict::Known))
}

/// Takes lines; prepared once for many.
struct Take<'c> {
    own: CachedStatement<'c>,
    held: CachedStatement<'c>,
    let_go: CachedStatement<'c>,
    hold_other: CachedStatement<'c>,
    hold_new: CachedStatement<'c>,
    todo: CachedStatement<'c>,
}

impl<'c> Take<'c> {
    fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            own: connection.prepare_cached(own::IS_OWN)?,
            held: connection.prepare_cached("SELECT origin = ?3, hash FROM held WHERE datatype = ?1 AND id = ?2")?,
            let_go: connection.prepare_cached("DELETE FROM held WHERE origin = ?1 AND datatype = ?2 AND id = ?3")?,
            hold_other: connection
                .prepare_cached("UPDATE held SET hash = ?4 WHERE origin = ?1 AND datatype = ?2 AND id = ?3")?,
            hold_new: connection
                .prepare_cached("INSERT INTO held (origin, datatype, id, hash) VALUES (?1, ?2, ?3, ?4)")?,
            todo: connection.prepare_cached(
                "INSERT INTO todo (n, origin, directed, datatype, id, action, user, payload)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?,
        })
    }

    /// Changes what is held; none when it is to be published.
    fn hold(&mut self, origin: &str, line: &Received) -> rusqlite::Result<Option<Verdict>> {
        let key = &line.key;
        let datatype = key.datatype.code();
        if self.own.exists(params![datatype, key.id])? {
            return Ok(Some(Verdict::NotOwner));
        }
        let held: Option<(bool, Hash)> = self
            .held
            .query_row(params![datatype, key.id, origin], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match (held, line.action == Action::Delete) {
            (Some((false, _)), _) => return Ok(Some(Verdict::NotOwner)),
            (None, true) => return Ok((!line.once).then_some(Verdict::NotHeld)),
            (Some((true, hash)), false) if hash == line.hash => return Ok((!line.once).then_some(Verdict::Known)),
            (Some(_), true) => self.let_go.execute(params![origin, datatype, key.id])?,
            (Some(_), false) => self.hold_other.execute(params![origin, datatype, key.id, line.hash])?,
            (None, false) => self.hold_new.execute(params![origin, datatype, key.id, line.hash])?,
        };
        Ok(None)
    }

    fn todo(&mut self, n: u64, origin: &str, line: &Received) -> rusqlite::Result<()> {
        self.todo.execute(params![
            number(n),
            origin,
            line.directed,
            line.key.datatype.code(),
            line.key.id,
            line.action.code(),
            line.user,
            line.payload.as_ref(),
        ])?;
        Ok(())
    }
}

pub(super) fn held(
    connection: &Connection,
    origin: &str,
    range: &Range<'_>,
    limit: usize,
) -> rusqlite::Result<Vec<Held>> {
    let mut query = connection.prepare_cached(
        "SELECT datatype, id, hash FROM held
         WHERE origin = ?1 AND (datatype, id) > (?2, ?3) AND (datatype, id) <= (?4, ?5) ORDER BY datatype, id LIMIT ?6",
    )?;
    let found = query.query_map(
        params![
            origin,
            range.after.0,
            range.after.1,
            range.to.0,
            range.to.1,
            rows(limit)
        ],
        |row| {
            Ok(Held {
                key: key(row, 0)?,
                hash: row.get(2)?,
            })
        },
    )?;
    found.collect()
}

pub(super) fn held_sum(connection: &Connection, origin: &str, range: &Range<'_>) -> rusqlite::Result<(u64, Hash)> {
    let mut query = connection.prepare_cached(
        "SELECT datatype, id, hash FROM held
         WHERE origin = ?1 AND (datatype, id) > (?2, ?3) AND (datatype, id) <= (?4, ?5) ORDER BY datatype, id",
    )?;
    let mut found = query.query(params![origin, range.after.0, range.after.1, range.to.0, range.to.1])?;
    let mut sum = Sum::default();
    while let Some(row) = found.next()? {
        sum.add(row)?;
    }
    Ok(sum.finish())
}

pub(super) fn holder(connection: &Connection, key: &Key) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT origin FROM held WHERE datatype = ?1 AND id = ?2")?
        .query_row(params![key.datatype.code(), key.id], |row| row.get(0))
        .optional()
}

pub(super) fn todo(connection: &Connection, after: u64, limit: usize) -> rusqlite::Result<Vec<Todo>> {
    connection
        .prepare_cached(
            "SELECT n, origin, datatype, id, action, user, payload FROM todo WHERE n > ?1 ORDER BY n LIMIT ?2",
        )?
        .query_map(params![number(after), rows(limit)], |row| {
            let (Count(n), Did(action)) = (row.get(0)?, row.get(4)?);
            let payload: Vec<u8> = row.get(6)?;
            Ok(Todo {
                n,
                origin: row.get(1)?,
                key: key(row, 2)?,
                action,
                user: row.get(5)?,
                hash: Hash::of(&payload),
                payload: payload.into(),
            })
        })?
        .collect()
}

pub(super) fn last_todo(connection: &Connection) -> rusqlite::Result<u64> {
    let Count(n) = connection
        .prepare_cached("SELECT last_todo FROM meta")?
        .query_row([], |row| row.get(0))?;
    Ok(n)
}

pub(super) fn todo_waiting(connection: &Connection) -> rusqlite::Result<u64> {
    let Count(rows) = connection
        .prepare_cached("SELECT count(*) FROM todo")?
        .query_row([], |row| row.get(0))?;
    Ok(rows)
}

pub(super) fn published(connection: &Connection, n: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM todo WHERE n <= ?1")?
        .execute([number(n)])?;
    Ok(())
}

pub(super) fn give_up(connection: &Connection, origin: &str, key: &Key, hash: Hash) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE held SET hash = ?5 WHERE origin = ?1 AND datatype = ?2 AND id = ?3 AND hash = ?4")?
        .execute(params![origin, key.datatype.code(), key.id, hash, Hash::NONE])?;
    Ok(())
}

/// `todo` has no index by origin: it is short, since every origin's window bounds it, and a peer seldom leaves.
pub(super) fn forget_origin(connection: &Connection, did: &str) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM origin WHERE did = ?1",
        "DELETE FROM held WHERE origin = ?1",
        "DELETE FROM todo WHERE origin = ?1 AND directed = 0",
    ] {
        connection.prepare_cached(sql)?.execute([did])?;
    }
    Ok(())
}

/// Jumps from one origin to the next in what is held.
pub(super) fn origins(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached(
            "WITH RECURSIVE one (did) AS (
                 SELECT min(origin) FROM held
                 UNION ALL SELECT (SELECT min(origin) FROM held WHERE origin > one.did) FROM one WHERE one.did IS NOT NULL
             ) SELECT did FROM one WHERE did IS NOT NULL UNION SELECT did FROM origin ORDER BY 1",
        )?
        .query_map([], |row| row.get(0))?
        .collect()
}

pub(super) fn purge_seen(connection: &Connection, before: u64, limit: usize) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "DELETE FROM seen WHERE (origin, msg_id) IN
                 (SELECT origin, msg_id FROM seen WHERE at < ?1 ORDER BY at LIMIT ?2)",
        )?
        .execute(params![number(before), rows(limit)])
}

pub(super) fn seen_over(connection: &Connection, most: usize) -> rusqlite::Result<Vec<(String, usize)>> {
    connection
        .prepare_cached("SELECT origin, count(*) - ?1 FROM seen GROUP BY origin HAVING count(*) > ?1")?
        .query_map([rows(most)], |row| {
            let Count(over) = row.get(1)?;
            Ok((row.get(0)?, usize::try_from(over).unwrap_or(usize::MAX)))
        })?
        .collect()
}

/// By age, and not by sorting all of the origin: whoever has too many has most of them.
pub(super) fn forget_seen(connection: &Connection, origin: &str, limit: usize) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "DELETE FROM seen WHERE (origin, msg_id) IN
                 (SELECT origin, msg_id FROM seen INDEXED BY seen_by_age WHERE origin = ?1 ORDER BY at LIMIT ?2)",
        )?
        .execute(params![origin, rows(limit)])
}

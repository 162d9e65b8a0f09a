//! The feed: what was taken, in its order, and the walk of a partner along it.

use rusqlite::{Connection, OptionalExtension, Rows, ToSql, params};

use super::own;
use super::value::{Count, limit as rows, number};
use crate::delivery::types::{Change, Cursor, Feed, Hash, Incarnation, Row, Token};

/// Lives that are kept: a position of an older one is answered by a comparison of lists.
const INCARNATIONS_KEPT: i64 = 1000;
/// Where counting rows for people ends: a lag beyond is told as this. Counting reads a page for every three rows of 1 KB, and
/// a hundred partners may be far behind at once.
const LAG_COUNT_MAX: i64 = 10_000;

pub(super) fn bounds(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    connection
        .prepare_cached("SELECT head, floor FROM meta")?
        .query_row([], |row| {
            let (Count(head), Count(floor)) = (row.get(0)?, row.get(1)?);
            Ok((head, floor))
        })
}

pub(super) fn feed(connection: &Connection) -> rusqlite::Result<Feed> {
    let (lineage, head, floor) = connection
        .prepare_cached("SELECT lineage, head, floor FROM meta")?
        .query_row([], |row| {
            let (Count(head), Count(floor)) = (row.get(1)?, row.get(2)?);
            Ok((row.get(0)?, head, floor))
        })?;
    let incarnations = connection
        .prepare_cached("SELECT id, first_seq FROM incarnation ORDER BY n")?
        .query_map([], |row| {
            let Count(first_seq) = row.get(1)?;
            Ok(Incarnation {
                id: row.get(0)?,
                first_seq,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(Feed {
        lineage,
        head,
        floor,
        incarnations,
    })
}

pub(super) fn begin_incarnation(connection: &Connection, id: Token) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO incarnation (id, first_seq) SELECT ?1, head + 1 FROM meta")?
        .execute([id])?;
    connection
        .prepare_cached("DELETE FROM incarnation WHERE n <= (SELECT max(n) FROM incarnation) - ?1")?
        .execute([INCARNATIONS_KEPT])?;
    Ok(())
}

pub(super) fn cursor(connection: &Connection) -> rusqlite::Result<Option<Cursor>> {
    connection
        .prepare_cached("SELECT source, created, last_seq FROM intake")?
        .query_row([], |row| {
            let Count(last_seq) = row.get(2)?;
            Ok(Cursor {
                source: row.get(0)?,
                created: row.get(1)?,
                last_seq,
            })
        })
        .optional()
}

pub(super) fn take(connection: &Connection, changes: &[Change], cursor: Option<&Cursor>) -> rusqlite::Result<Vec<Row>> {
    let Count(mut head) = connection
        .prepare_cached("SELECT head FROM meta")?
        .query_row([], |row| row.get(0))?;
    let mut taken = Vec::with_capacity(changes.len());
    let mut put = own::Put::prepare(connection)?;
    for change in changes {
        head += 1;
        let row = Row {
            seq: head,
            hash: Hash::of(&change.payload),
            change: change.clone(),
        };
        match change.dest.is_empty() {
            true => put.put(&row)?,
            false => put_directed(connection, &row)?,
        }
        taken.push(row);
    }
    if !taken.is_empty() {
        connection
            .prepare_cached("UPDATE meta SET head = ?1")?
            .execute([number(head)])?;
    }
    if let Some(cursor) = cursor {
        connection
            .prepare_cached("INSERT OR REPLACE INTO intake (one, source, created, last_seq) VALUES (1, ?1, ?2, ?3)")?
            .execute(params![cursor.source, cursor.created, number(cursor.last_seq)])?;
    }
    Ok(taken)
}

fn put_directed(connection: &Connection, row: &Row) -> rusqlite::Result<()> {
    let change = &row.change;
    connection
        .prepare_cached(
            "INSERT INTO directed (seq, dest, datatype, id, action, at, size, user, hash, payload)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            number(row.seq),
            change.dest,
            change.key.datatype.code(),
            change.key.id,
            change.action.code(),
            number(change.at),
            rows(change.payload.len()),
            change.user,
            row.hash,
            change.payload.as_ref(),
        ])?;
    Ok(())
}

/// Two walks along a key, one for all and one for `dest`, merged.
pub(super) fn rows_after(
    connection: &Connection,
    after: u64,
    dest: &str,
    directed_only: bool,
    max_rows: usize,
    max_bytes: usize,
) -> rusqlite::Result<Vec<Row>> {
    let most = rows(max_rows);
    let mut for_all = connection.prepare_cached(
        "SELECT seq, datatype, id, action, at, user, hash, payload FROM change WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let mut for_one = connection.prepare_cached(
        "SELECT seq, datatype, id, action, at, user, hash, payload FROM directed
         WHERE dest = ?3 AND seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let mut for_all = Walk::new(
        for_all.query(params![number(after), if directed_only { 0 } else { most }])?,
        "",
    )?;
    let mut for_one = Walk::new(for_one.query(params![number(after), most, dest])?, dest)?;
    let mut found: Vec<Row> = Vec::new();
    let mut bytes = 0;
    while found.len() < max_rows {
        let walk = match (&for_all.next, &for_one.next) {
            (None, None) => break,
            (Some(_), None) => &mut for_all,
            (None, Some(_)) => &mut for_one,
            (Some(all), Some(one)) if all.seq < one.seq => &mut for_all,
            _ => &mut for_one,
        };
        let Some(row) = walk.next.take() else { break };
        bytes += row.change.payload.len();
        if bytes > max_bytes && !found.is_empty() {
            break;
        }
        found.push(row);
        walk.step()?;
    }
    Ok(found)
}

struct Walk<'a> {
    rows: Rows<'a>,
    dest: &'a str,
    next: Option<Row>,
}

impl<'a> Walk<'a> {
    fn new(rows: Rows<'a>, dest: &'a str) -> rusqlite::Result<Self> {
        let mut walk = Self { rows, dest, next: None };
        walk.step()?;
        Ok(walk)
    }

    fn step(&mut self) -> rusqlite::Result<()> {
        let row = self.rows.next()?;
        self.next = row.map(|row| own::read_row(row, self.dest)).transpose()?;
        Ok(())
    }
}

pub(super) fn directed_waiting(connection: &Connection, dest: &str) -> rusqlite::Result<(u64, u64)> {
    connection
        .prepare_cached("SELECT count(*), coalesce(sum(size), 0) FROM directed WHERE dest = ?1")?
        .query_row([dest], |row| {
            let (Count(count), Count(bytes)) = (row.get(0)?, row.get(1)?);
            Ok((count, bytes))
        })
}

/// Jumps from one DID to the next in the index.
pub(super) fn directed_dests(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached(
            "WITH RECURSIVE one (dest) AS (
                 SELECT min(dest) FROM directed
                 UNION ALL SELECT (SELECT min(dest) FROM directed WHERE dest > one.dest) FROM one WHERE one.dest IS NOT NULL
             ) SELECT dest FROM one WHERE dest IS NOT NULL",
        )?
        .query_map([], |row| row.get(0))?
        .collect()
}

pub(super) fn lag(connection: &Connection, after: u64, dest: &str) -> rusqlite::Result<(u64, u64)> {
    let for_all = params![number(after), LAG_COUNT_MAX];
    let for_one = params![number(after), LAG_COUNT_MAX, dest];
    let all = count(
        connection,
        "SELECT count(*) FROM (SELECT 1 FROM change WHERE seq > ?1 LIMIT ?2)",
        for_all,
    )?;
    let one = count(
        connection,
        "SELECT count(*) FROM (SELECT 1 FROM directed WHERE dest = ?3 AND seq > ?1 LIMIT ?2)",
        for_one,
    )?;
    let oldest = count(
        connection,
        "SELECT coalesce(min(at), 0) FROM (
             SELECT at FROM (SELECT at FROM change WHERE seq > ?1 ORDER BY seq LIMIT 1)
             UNION ALL
             SELECT at FROM (SELECT at FROM directed WHERE dest = ?3 AND seq > ?1 ORDER BY seq LIMIT 1))",
        for_one,
    )?;
    Ok((all.saturating_add(one).min(LAG_COUNT_MAX.unsigned_abs()), oldest))
}

fn count(connection: &Connection, sql: &str, params: &[&dyn ToSql]) -> rusqlite::Result<u64> {
    let Count(n) = connection.prepare_cached(sql)?.query_row(params, |row| row.get(0))?;
    Ok(n)
}

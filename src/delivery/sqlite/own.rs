//! Our own keys: which row each has, what lists of them are compared by, and tombstones' end.

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::value::{Count, Did, Range, Sum, key, limit as rows, number};
use crate::delivery::types::{Change, Key, OwnKey, Row};
use crate::wire::Action;

/// Writes rows for every partner; prepared once for many.
pub(super) struct Put<'c> {
    older: CachedStatement<'c>,
    remove: CachedStatement<'c>,
    own: CachedStatement<'c>,
    change: CachedStatement<'c>,
}

impl<'c> Put<'c> {
    pub(super) fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            older: connection.prepare_cached("SELECT seq FROM own WHERE datatype = ?1 AND id = ?2")?,
            remove: connection.prepare_cached("DELETE FROM change WHERE seq = ?1")?,
            own: connection.prepare_cached(
                "INSERT INTO own (datatype, id, seq, hash) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (datatype, id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
            )?,
            change: connection.prepare_cached(
                "INSERT INTO change (seq, datatype, id, action, at, user, hash, payload)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?,
        })
    }

    /// Writes a row in place of the key's older one.
    pub(super) fn put(&mut self, row: &Row) -> rusqlite::Result<()> {
        let Change {
            key,
            action,
            user,
            payload,
            at,
            ..
        } = &row.change;
        let datatype = key.datatype.code();
        let hash = (*action != Action::Delete).then_some(row.hash);
        let older: Option<i64> = self
            .older
            .query_row(params![datatype, key.id], |row| row.get(0))
            .optional()?;
        if let Some(older) = older {
            self.remove.execute([older])?;
        }
        self.own.execute(params![datatype, key.id, number(row.seq), hash])?;
        self.change.execute(params![
            number(row.seq),
            datatype,
            key.id,
            action.code(),
            number(*at),
            user,
            row.hash,
            payload.as_ref(),
        ])?;
        Ok(())
    }
}

/// A row as `seq, datatype, id, action, at, user, hash, payload`.
pub(super) fn read_row(row: &rusqlite::Row<'_>, dest: &str) -> rusqlite::Result<Row> {
    let Count(seq) = row.get(0)?;
    let Did(action) = row.get(3)?;
    let Count(at) = row.get(4)?;
    let payload: Vec<u8> = row.get(7)?;
    Ok(Row {
        seq,
        hash: row.get(6)?,
        change: Change {
            key: key(row, 1)?,
            dest: dest.to_owned(),
            action,
            user: row.get(5)?,
            payload: payload.into(),
            at,
        },
    })
}

pub(super) fn row(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Row>> {
    connection
        .prepare_cached(
            "SELECT seq, datatype, id, action, at, user, hash, payload FROM change
             WHERE seq = (SELECT seq FROM own WHERE datatype = ?1 AND id = ?2)",
        )?
        .query_row(params![key.datatype.code(), key.id], |row| read_row(row, ""))
        .optional()
}

/// Whether a row for every partner is journaled.
pub(super) const IS_OWN: &str = "SELECT 1 FROM own WHERE datatype = ?1 AND id = ?2";

pub(super) fn keys(connection: &Connection, range: &Range<'_>, limit: usize) -> rusqlite::Result<Vec<OwnKey>> {
    let mut query = connection.prepare_cached(
        "SELECT datatype, id, seq, hash, (SELECT length(payload) FROM change WHERE change.seq = own.seq) FROM own
         WHERE (datatype, id) > (?1, ?2) AND (datatype, id) <= (?3, ?4) ORDER BY datatype, id LIMIT ?5",
    )?;
    let found = query.query_map(
        params![range.after.0, range.after.1, range.to.0, range.to.1, rows(limit)],
        |row| {
            let (Count(seq), Count(bytes)) = (row.get(2)?, row.get(4)?);
            Ok(OwnKey {
                key: key(row, 0)?,
                seq,
                hash: row.get(3)?,
                bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            })
        },
    )?;
    found.collect()
}

pub(super) fn sum(connection: &Connection, range: &Range<'_>) -> rusqlite::Result<(u64, crate::delivery::Hash)> {
    let mut query = connection.prepare_cached(
        "SELECT datatype, id, hash FROM own
         WHERE (datatype, id) > (?1, ?2) AND (datatype, id) <= (?3, ?4) AND hash IS NOT NULL ORDER BY datatype, id",
    )?;
    let mut found = query.query(params![range.after.0, range.after.1, range.to.0, range.to.1])?;
    let mut sum = Sum::default();
    while let Some(row) = found.next()? {
        sum.add(row)?;
    }
    Ok(sum.finish())
}

pub(super) fn note_stored(connection: &Connection, keys: &[Key]) -> rusqlite::Result<()> {
    let mut note =
        connection.prepare_cached("UPDATE own SET stored = 1 WHERE datatype = ?1 AND id = ?2 AND stored = 0")?;
    for key in keys {
        note.execute(params![key.datatype.code(), key.id])?;
    }
    Ok(())
}

pub(super) fn was_stored(connection: &Connection, key: &Key) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM own WHERE datatype = ?1 AND id = ?2 AND stored = 1")?
        .exists(params![key.datatype.code(), key.id])
}

/// One walk over the tombstones' index, the oldest first: those in excess of `keep`, and those taken before `before`.
pub(super) fn purge_tombstones(
    connection: &Connection,
    before: u64,
    keep: usize,
    limit: usize,
) -> rusqlite::Result<usize> {
    let all: i64 = connection
        .prepare_cached("SELECT count(*) FROM change WHERE action = 4")?
        .query_row([], |row| row.get(0))?;
    let excess = all.saturating_sub(rows(keep)).max(0);
    let mut purged: Vec<i64> = connection
        .prepare_cached("SELECT seq FROM change WHERE action = 4 ORDER BY seq LIMIT ?1")?
        .query_map([excess.min(rows(limit))], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let room = limit.saturating_sub(purged.len());
    let newest = purged.last().copied().unwrap_or(0);
    let aged = connection
        .prepare_cached("SELECT seq FROM change WHERE action = 4 AND seq > ?1 AND at < ?2 ORDER BY seq LIMIT ?3")?
        .query_map(params![newest, number(before), rows(room)], |row| row.get(0))?
        .collect::<Result<Vec<i64>, _>>()?;
    purged.extend(aged);
    for seq in &purged {
        connection
            .prepare_cached("DELETE FROM own WHERE (datatype, id) = (SELECT datatype, id FROM change WHERE seq = ?1)")?
            .execute([seq])?;
        connection
            .prepare_cached("DELETE FROM change WHERE seq = ?1")?
            .execute([seq])?;
    }
    if let Some(newest) = purged.last() {
        connection
            .prepare_cached("UPDATE meta SET floor = max(floor, ?1)")?
            .execute([newest])?;
    }
    Ok(purged.len())
}

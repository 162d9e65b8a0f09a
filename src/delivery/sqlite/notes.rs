//! Notes about partners: how far each has come, what is parked for it, what leaves once it has acknowledged, and whose each
//! DID is.

use rusqlite::{Connection, params};

use super::value::{Count, key, limit as rows, number};
use crate::delivery::types::{Key, Parked, PartnerNote, Pin};
use crate::wire::DataType;

pub(super) fn partners(connection: &Connection) -> rusqlite::Result<Vec<PartnerNote>> {
    connection
        .prepare_cached("SELECT did, acked_seq, acked_at, legacy, hold_code FROM partner ORDER BY did")?
        .query_map([], |row| {
            let (Count(acked_seq), Count(acked_at)) = (row.get(1)?, row.get(2)?);
            Ok(PartnerNote {
                did: row.get(0)?,
                acked_seq,
                acked_at,
                legacy: row.get(3)?,
                hold_code: row.get(4)?,
            })
        })?
        .collect()
}

pub(super) fn note_partner(connection: &Connection, note: &PartnerNote) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO partner (did, acked_seq, acked_at, legacy, hold_code) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            note.did,
            number(note.acked_seq),
            number(note.acked_at),
            note.legacy,
            note.hold_code
        ])?;
    Ok(())
}

pub(super) fn forget_dest(connection: &Connection, did: &str) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM partner WHERE did = ?1",
        "DELETE FROM directed WHERE dest = ?1",
        "DELETE FROM parked WHERE dest = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([did])?;
    }
    Ok(())
}

pub(super) fn directed_done(connection: &Connection, dest: &str, seq: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM directed WHERE dest = ?1 AND seq <= ?2")?
        .execute(params![dest, number(seq)])?;
    Ok(())
}

pub(super) fn park(connection: &Connection, parked: &Parked, keep: usize) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO parked (dest, datatype, id, seq, at, code, detail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            parked.dest,
            parked.key.datatype.code(),
            parked.key.id,
            number(parked.seq),
            number(parked.at),
            parked.code,
            parked.detail,
        ])?;
    connection
        .prepare_cached(
            "DELETE FROM parked WHERE (dest, datatype, id) IN
                 (SELECT dest, datatype, id FROM parked WHERE dest = ?1 ORDER BY at DESC, seq DESC LIMIT -1 OFFSET ?2)",
        )?
        .execute(params![parked.dest, rows(keep)])?;
    Ok(())
}

/// Which parked changes: of one destination, of one id.
type Which<'a> = (Option<&'a str>, Option<&'a str>);

/// What SQL calls those. With both the key finds them: every kind has an entry of its own under the destination.
fn which((dest, id): Which<'_>) -> String {
    match (dest, id) {
        (None, None) => "?1 IS NULL AND ?2 IS NULL".to_owned(),
        (Some(_), None) => "dest = ?1 AND ?2 IS NULL".to_owned(),
        (None, Some(_)) => "?1 IS NULL AND id = ?2".to_owned(),
        (Some(_), Some(_)) => {
            let kinds: Vec<String> = DataType::ALL.iter().map(|kind| kind.code().to_string()).collect();
            format!("dest = ?1 AND datatype IN ({}) AND id = ?2", kinds.join(", "))
        }
    }
}

pub(super) fn parked(
    connection: &Connection,
    of: Which<'_>,
    skip: usize,
    limit: usize,
) -> rusqlite::Result<Vec<Parked>> {
    let sql = format!(
        "SELECT datatype, id, dest, seq, at, code, detail FROM parked WHERE {} ORDER BY at, seq LIMIT ?3 OFFSET ?4",
        which(of)
    );
    connection
        .prepare_cached(&sql)?
        .query_map(params![of.0, of.1, rows(limit), rows(skip)], |row| {
            let (Count(seq), Count(at)) = (row.get(3)?, row.get(4)?);
            Ok(Parked {
                key: key(row, 0)?,
                dest: row.get(2)?,
                seq,
                at,
                code: row.get(5)?,
                detail: row.get(6)?,
            })
        })?
        .collect()
}

pub(super) fn parked_count(connection: &Connection, of: Which<'_>) -> rusqlite::Result<u64> {
    connection
        .prepare_cached(&format!("SELECT count(*) FROM parked WHERE {}", which(of)))?
        .query_row(params![of.0, of.1], |row| row.get(0))
        .map(|Count(count)| count)
}

pub(super) fn unpark(connection: &Connection, dest: &str, key: &Key) -> rusqlite::Result<bool> {
    let left = connection
        .prepare_cached("DELETE FROM parked WHERE dest = ?1 AND datatype = ?2 AND id = ?3")?
        .execute(params![dest, key.datatype.code(), key.id])?;
    Ok(left > 0)
}

pub(super) fn unpark_acked(connection: &Connection, dest: &str, seq: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM parked WHERE dest = ?1 AND EXISTS (
                 SELECT 1 FROM own WHERE own.datatype = parked.datatype AND own.id = parked.id
                 AND own.seq > parked.seq AND own.seq <= ?2)",
        )?
        .execute(params![dest, number(seq)])?;
    Ok(())
}

pub(super) fn pins(connection: &Connection) -> rusqlite::Result<Vec<Pin>> {
    connection
        .prepare_cached("SELECT did, peer_id, at FROM pin ORDER BY did")?
        .query_map([], |row| {
            let Count(at) = row.get(2)?;
            Ok(Pin {
                did: row.get(0)?,
                peer_id: row.get(1)?,
                at,
            })
        })?
        .collect()
}

pub(super) fn pin(connection: &Connection, pin: &Pin, keep: usize) -> rusqlite::Result<bool> {
    let done = connection
        .prepare_cached(
            "INSERT OR REPLACE INTO pin (did, peer_id, at) SELECT ?1, ?2, ?3
             WHERE (SELECT count(*) FROM pin) < ?4 OR EXISTS (SELECT 1 FROM pin WHERE did = ?1)",
        )?
        .execute(params![pin.did, pin.peer_id, number(pin.at), rows(keep)])?;
    Ok(done > 0)
}

pub(super) fn unpin(connection: &Connection, did: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM pin WHERE did = ?1")?
        .execute([did])
        .map(drop)
}

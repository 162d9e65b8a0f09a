//! Writes, inside a transaction: the document's row, and the words it is found by.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::store_error;
use super::words::{index, unindex};
use crate::model::{Peer, StoredFields, read_stored};
use crate::store::{Applied, Change, StoreError, Write};
use crate::wire::DataType;

/// Applies the writes in their order; the caller undoes them all when one fails.
pub(super) fn all(connection: &Connection, writes: &[Write], path: &Path) -> Result<Vec<Applied>, StoreError> {
    writes.iter().map(|write| one(connection, write, path)).collect()
}

fn one(connection: &Connection, write: &Write, path: &Path) -> Result<Applied, StoreError> {
    let failed = |error: rusqlite::Error| store_error(path, &error);
    let stored = Stored::find(connection, write).map_err(failed)?;
    if let (Some(stored), Some(owner)) = (&stored, &write.only_if_owner)
        && stored.creator_id.as_ref() != Some(owner)
    {
        return Ok(Applied::NotOwner);
    }
    match (&write.change, stored) {
        (Change::Remove, None) => Ok(Applied::Unchanged),
        (Change::Remove, Some(stored)) => remove(connection, write.datatype, stored.n).map_err(failed),
        (Change::Put(doc), Some(stored)) if stored.doc == doc.as_ref() => Ok(Applied::Unchanged),
        (Change::Put(doc), stored) => {
            let fields = read_stored(doc, write.datatype.attributes()).map_err(|why| StoreError::Document {
                datatype: write.datatype.name(),
                id: write.id.clone(),
                why,
            })?;
            put(connection, write, doc, &fields, stored).map_err(failed)
        }
    }
}

struct Stored {
    n: i64,
    creator_id: Option<String>,
    doc: Vec<u8>,
}

impl Stored {
    fn find(connection: &Connection, write: &Write) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached("SELECT n, creator_id, doc FROM document WHERE datatype = ?1 AND id = ?2")?
            .query_row(params![write.datatype.code(), write.id], |row| {
                Ok(Self {
                    n: row.get(0)?,
                    creator_id: row.get(1)?,
                    doc: row.get(2)?,
                })
            })
            .optional()
    }
}

fn remove(connection: &Connection, datatype: DataType, n: i64) -> rusqlite::Result<Applied> {
    connection
        .prepare_cached("DELETE FROM document WHERE n = ?1")?
        .execute([n])?;
    if datatype.is_resource_kind() {
        unindex(connection, n)?;
    }
    Ok(Applied::Done)
}

fn put(
    connection: &Connection,
    write: &Write,
    doc: &[u8],
    fields: &StoredFields,
    stored: Option<Stored>,
) -> rusqlite::Result<Applied> {
    let peer = PeerColumns::of(write.datatype, doc, fields);
    let columns = params![
        write.datatype.code(),
        write.id,
        fields.creator_id,
        access(fields),
        peer.relation,
        peer.peer_id,
        peer.name,
        doc,
        stored.as_ref().map(|stored| stored.n),
    ];
    let n = match &stored {
        Some(stored) => {
            connection
                .prepare_cached(
                    "UPDATE document SET creator_id = ?3, access = ?4, relation = ?5, peer_id = ?6, name = ?7, doc = ?8
                     WHERE n = ?9 AND datatype = ?1 AND id = ?2",
                )?
                .execute(columns)?;
            stored.n
        }
        None => connection
            .prepare_cached(
                "INSERT INTO document (datatype, id, creator_id, access, relation, peer_id, name, doc, n)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .insert(columns)?,
    };
    if write.datatype.is_resource_kind() {
        let attributes = write.datatype.attributes();
        let before = stored.map(|stored| read_stored(&stored.doc, attributes).unwrap_or_default());
        index(connection, n, fields, before.as_ref())?;
    }
    Ok(Applied::Done)
}

/// Who may see it at all: only its creator (0), everyone (1), or whoever a partnership names (2).
pub(super) fn access(fields: &StoredFields) -> u8 {
    match (fields.public, fields.shared) {
        (true, _) => 1,
        (false, true) => 2,
        (false, false) => 0,
    }
}

/// What a peer is found by; empty for other kinds.
#[derive(Default)]
struct PeerColumns {
    relation: Option<u8>,
    peer_id: Option<String>,
    name: Option<String>,
}

impl PeerColumns {
    fn of(datatype: DataType, doc: &[u8], fields: &StoredFields) -> Self {
        if datatype != DataType::Peer {
            return Self::default();
        }
        Self {
            relation: fields.relation.map(|relation| relation.code()),
            peer_id: Peer::read(doc)
                .ok()
                .and_then(|peer| peer.peer_id)
                .map(|id| id.to_string()),
            name: Some(fields.name.clone()).filter(|name| !name.is_empty()),
        }
    }
}

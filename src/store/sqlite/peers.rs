//! Reading peer documents: the one that is us, all of them, those of a key.

use rusqlite::{Connection, Row, params};

use super::ReadError;
use crate::model::{ModelError, Peer, Relation, peer_id_of};
use crate::store::{FIND_PEERS_MAX, Peers, StoreError};
use crate::wire::DataType;

/// A stored peer document: its id, and the peer it describes.
type Read = (String, Result<Peer, ModelError>);

fn read(row: &Row<'_>) -> rusqlite::Result<Read> {
    let doc = row.get_ref(1)?.as_blob().unwrap_or_default();
    Ok((row.get(0)?, Peer::read(doc)))
}

/// The peer that is this organisation.
pub(super) fn self_peer(connection: &Connection) -> Result<Option<Peer>, ReadError> {
    let mut query = connection
        .prepare_cached("SELECT id, doc FROM document WHERE datatype = 9 AND relation = ?1 ORDER BY id LIMIT 2")?;
    let mut found: Vec<Read> = query
        .query_map([Relation::SelfPeer.code()], read)?
        .collect::<Result<_, _>>()?;
    if found.len() > 1 {
        return Err(StoreError::SeveralSelf(found.into_iter().map(|(id, _)| id).collect()).into());
    }
    let Some((id, peer)) = found.pop() else { return Ok(None) };
    peer.map(Some).map_err(|why| {
        StoreError::Document {
            datatype: DataType::Peer.name(),
            id,
            why,
        }
        .into()
    })
}

/// All peers, up to `limit` documents.
pub(super) fn all(connection: &Connection, limit: usize) -> rusqlite::Result<Peers> {
    let mut query =
        connection.prepare_cached("SELECT id, doc FROM document WHERE datatype = 9 ORDER BY id LIMIT ?1")?;
    let one_more = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let mut peers = Peers::default();
    for (index, found) in query.query_map([one_more], read)?.enumerate() {
        let (id, peer) = found?;
        if index == limit {
            peers.truncated = true;
            break;
        }
        match peer {
            Ok(peer) => peers.peers.push(peer),
            Err(why) => peers.unreadable.push((id, why.to_string())),
        }
    }
    Ok(peers)
}

/// The readable peers of a DID, peer id (in any of its spellings) or name.
pub(super) fn find(connection: &Connection, key: &str) -> rusqlite::Result<Vec<Peer>> {
    let mut query = connection.prepare_cached(
        "SELECT id, doc FROM document WHERE datatype = 9 AND (id = ?1 OR peer_id = ?2 OR name = ?1) ORDER BY id LIMIT ?3",
    )?;
    let peer_id = peer_id_of(key).map(|peer_id| peer_id.to_string());
    let found = query.query_map(params![key, peer_id, FIND_PEERS_MAX as i64], read)?;
    found
        .filter_map(|found| found.map(|(_, peer)| peer.ok()).transpose())
        .collect()
}

//! Reading peer documents: the one that is us, all of them, those of a key.

use std::time::Duration;

use futures::TryStreamExt;
use libp2p::PeerId;
use libp2p::identity::PublicKey;
use mongodb::bson::{Bson, Document, Regex, doc};
use mongodb::error::Error;
use mongodb::{Collection, Database};

use super::ids::id_text;
use super::paths::{HEADER, anywhere, by_key, by_own_id, paths};
use super::to_json::to_json;
use crate::model::{ModelError, Peer, peer_id_of};
use crate::store::{FIND_PEERS_MAX, Peers, StoreError};
use crate::wire::DataType;

/// Documents of one answer of the server.
const BATCH: u32 = 500;
/// Candidates for a key that are looked at: more than are given, since some may be no peers that can be used.
const CANDIDATES: usize = 4 * FIND_PEERS_MAX;

fn collection(database: &Database) -> Collection<Document> {
    database.collection(DataType::Peer.name())
}

/// A stored peer document: its id, and the peer it describes.
fn read(document: &Document) -> (String, Result<Peer, ModelError>) {
    let own = paths(&HEADER, "id")
        .next()
        .and_then(|path| document.get(path))
        .and_then(id_text);
    let id = document.get("_id").and_then(id_text).or(own).unwrap_or_default();
    (id, Peer::read(&to_json(document)))
}

/// All peers, up to `limit` documents.
pub(super) async fn all(database: &Database, limit: usize, time: Duration) -> Result<Peers, Error> {
    let one_more = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let peers_of = collection(database);
    let finding = peers_of.find(doc! {}).sort(doc! { "_id": 1 }).limit(one_more);
    let mut cursor = finding.batch_size(BATCH).max_time(time).await?;
    let mut peers = Peers::default();
    let mut seen = 0;
    while let Some(document) = cursor.try_next().await? {
        if seen == limit {
            peers.truncated = true;
            break;
        }
        seen += 1;
        match read(&document) {
            (_, Ok(peer)) => peers.peers.push(peer),
            (id, Err(why)) => peers.unreadable.push((id, why.to_string())),
        }
    }
    Ok(peers)
}

/// The peer that is this organisation.
pub(super) async fn self_peer(database: &Database, time: Duration) -> Result<Result<Option<Peer>, StoreError>, Error> {
    let me = doc! { "$in": [1, "self", "SELF"] };
    let peers_of = collection(database);
    let finding = peers_of
        .find(anywhere(&HEADER, "relation", &me.into()))
        .sort(doc! { "_id": 1 });
    let found: Vec<Document> = finding.limit(2).max_time(time).await?.try_collect().await?;
    let mut found: Vec<_> = found.iter().map(read).collect();
    if found.len() > 1 {
        let ids = found.into_iter().map(|(id, _)| id).collect();
        return Ok(Err(StoreError::SeveralSelf(ids)));
    }
    let Some((id, peer)) = found.pop() else {
        return Ok(Ok(None));
    };
    Ok(peer.map(Some).map_err(|why| StoreError::Document {
        datatype: DataType::Peer.name(),
        id,
        why,
    }))
}

/// The readable peers of a DID, peer id or name.
pub(super) async fn find(database: &Database, key: &str, time: Duration) -> Result<Vec<Peer>, Error> {
    let peer_id = peer_id_of(key);
    let mut either: Vec<Document> = vec![by_key([key]), by_own_id([key])];
    if !key.is_empty() {
        either.push(anywhere(&HEADER, "name", &key.into()));
    }
    if let Some(peer_id) = &peer_id {
        let text = peer_id.to_string();
        // Letters and digits only, so it is a pattern of nothing but itself. What is found is read as any peer document.
        either.extend(["peer_id", "stream_address"].map(|field| doc! { field: literal(&text) }));
        either.extend(key_of(peer_id).map(|key| doc! { "public_key": literal(&key) }));
    }
    let peers_of = collection(database);
    let finding = peers_of.find(doc! { "$or": either }).sort(doc! { "_id": 1 });
    let finding = finding.limit(CANDIDATES as i64).batch_size(BATCH).max_time(time);
    let found: Vec<Document> = finding.await?.try_collect().await?;
    let meant = |peer: &Peer| peer.did == key || peer.name == key || (peer_id.is_some() && peer.peer_id == peer_id);
    let peers = found.iter().filter_map(|document| read(document).1.ok()).filter(meant);
    Ok(peers.take(FIND_PEERS_MAX).collect())
}

/// A pattern that means this text.
fn literal(text: &str) -> Bson {
    let escaped: String = text
        .chars()
        .flat_map(|c| [Some('\\').filter(|_| !c.is_ascii_alphanumeric()), Some(c)])
        .flatten()
        .collect();
    match (escaped.try_into(), String::new().try_into()) {
        (Ok(pattern), Ok(options)) => Bson::RegularExpression(Regex { pattern, options }),
        _ => Bson::Null,
    }
}

/// The text of the key that is in an ed25519 PeerId.
fn key_of(peer: &PeerId) -> Option<String> {
    use base64::Engine;
    let bytes = peer.to_bytes();
    // An identity multihash: its code, its length, then the key itself.
    let key = bytes.strip_prefix(&[0x00, 0x24])?;
    PublicKey::try_decode_protobuf(key).ok()?;
    Some(base64::engine::general_purpose::STANDARD.encode(key))
}

//! `GetPeerRecord`: who is behind a DID, a PeerId or a name.
//!
//! Owns the order in which sources are asked; today that is the store alone. Always: a name is never an identity, so a
//! name returns every match; only what our store holds grants more than PUBLIC.

use crate::identity::public_key_base64;
use crate::model::Peer;
use crate::store::{Store, StoreError};

/// Every peer that `search` (a DID, a PeerId or a name) means.
///
/// # Errors
/// When the store does not answer.
pub async fn get_peer_record(store: &dyn Store, search: &str) -> Result<Vec<Peer>, StoreError> {
    store.find_peers(search).await
}

/// A peer as the apps get it: the record's fields, and those of the document that say what it is to us.
#[must_use]
pub fn record_json(peer: &Peer) -> Vec<u8> {
    let key = peer.public_key.as_ref().map(public_key_base64).unwrap_or_default();
    serde_json::json!({
        "id": peer.did,
        "did": peer.did,
        "name": peer.name,
        "pub_key": key,
        "public_key": key,
        "peer_id": peer.peer_id.map(|peer| peer.to_string()).unwrap_or_default(),
        "relation": peer.relation.code(),
        "api_url": peer.api_url,
        "stream_address": peer.stream_address,
        "nats_address": peer.nats_address,
        "wallet_address": peer.wallet_address,
    })
    .to_string()
    .into_bytes()
}

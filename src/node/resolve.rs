//! `GetPeerRecord`: who is behind a DID, a PeerId or a name.
//!
//! Owns the order in which sources are asked: the store, then the indexers, then the DHT. Always: a name is never an identity,
//! so a name returns every match; only what our store holds grants more than PUBLIC; a store that is away hides nobody whom
//! others know.

use crate::discovery::{Depth, Discovery, Found};
use crate::identity::public_key_base64;
use crate::model::Peer;
use crate::store::{Store, StoreError};
use crate::wire::NODE_KEY;
use libp2p::PeerId;
use tokio::time::{Instant, timeout_at};

/// A peer that was found.
#[derive(Debug, Clone)]
pub enum Hit {
    /// In our store.
    Stored(Box<Peer>),
    /// By its record.
    Record(Found),
}

/// What became of a question for a peer.
#[derive(Debug, Default)]
pub struct Looked {
    /// Everybody that is meant.
    pub hits: Vec<Hit>,
    /// Why the store could not be asked.
    pub error: Option<StoreError>,
    /// Time was up before everybody who may know had answered; what was found until then is there.
    pub cut: bool,
}

/// Every peer that `search` (a DID, a PeerId or a name) means, as far as is known by `deadline`.
pub async fn get_peer_record(store: &dyn Store, discovery: &Discovery, search: &str, deadline: Instant) -> Looked {
    // A DID as the DHT's keys and some questions spell it.
    let search = search.trim_start_matches(NODE_KEY);
    let Ok(stored) = timeout_at(deadline, store.find_peers(search)).await else {
        return Looked {
            cut: true,
            ..Looked::default()
        };
    };
    let (stored, error) = match stored {
        Ok(stored) => (stored, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let is_id = |peer: &Peer| peer.did == search || is_peer_id(peer.peer_id, search);
    let settled = stored.iter().any(is_id) || search.is_empty();
    let dids: Vec<String> = stored.iter().map(|peer| peer.did.clone()).collect();
    let mut hits: Vec<Hit> = stored.into_iter().map(|peer| Hit::Stored(Box::new(peer))).collect();
    let mut cut = false;
    if !settled {
        let found = timeout_at(deadline, discovery.find(search, Depth::All)).await;
        cut = found.is_err();
        let new = found
            .unwrap_or_default()
            .into_iter()
            .filter(|found| !dids.contains(&found.record.record.did));
        hits.extend(new.map(Hit::Record));
    }
    Looked { hits, error, cut }
}

fn is_peer_id(peer: Option<PeerId>, search: &str) -> bool {
    peer.is_some_and(|peer| peer.to_string() == search)
}

impl Hit {
    /// The peer as the apps get it: the record's fields, and those of the document that say what it is to us.
    #[must_use]
    pub fn json(&self) -> Vec<u8> {
        match self {
            Self::Stored(peer) => stored_json(peer),
            Self::Record(found) => {
                let record = &found.record.record;
                serde_json::json!({
                    "id": record.did,
                    "did": record.did,
                    "name": record.name,
                    "pub_key": record.pub_key,
                    "public_key": record.pub_key,
                    "peer_id": record.peer_id,
                    "relation": 0,
                    "api_url": record.api_url,
                    "stream_address": record.stream_address,
                    "nats_address": record.nats_address,
                    "wallet_address": record.wallet_address,
                    "expiry_date": record.expiry_date,
                })
                .to_string()
                .into_bytes()
            }
        }
    }
}

fn stored_json(peer: &Peer) -> Vec<u8> {
    // One that we cannot read is passed on as it stands: an app that stores what it gets must not lose it.
    let key = peer.public_key.as_ref().map(public_key_base64);
    let key = key.unwrap_or_else(|| peer.public_key_text.clone());
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

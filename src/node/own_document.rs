//! The peer document of this daemon's own organisation, made when the daemon owns the store and there is none.
//!
//! Owns its form. Always: its DID follows from the key, so that it proves itself.

use crate::identity::{Identity, derived_did, public_key_base64};
use crate::network::Network;
use crate::settings::Settings;
use crate::store::{Applied, Change, Store, StoreError, Write};
use crate::wire::{DataType, timestamp};
use std::time::SystemTime;

/// Writes the document with relation SELF; returns its DID.
pub(super) async fn make_self(
    store: &dyn Store,
    identity: &Identity,
    network: &Network,
    settings: &Settings,
) -> Result<String, StoreError> {
    let key = identity.keypair.public();
    let did = derived_did(&key);
    let peer = network.local();
    let announced = match settings.network.announce.as_slice() {
        [] => network.listening().borrow().clone(),
        announced => announced.to_vec(),
    };
    let addresses: Vec<String> = announced
        .iter()
        .map(|address| format!("{address}/p2p/{peer}"))
        .collect();
    let now = timestamp(SystemTime::now());
    let document = serde_json::json!({
        "id": did,
        "name": settings.name,
        "is_draft": false,
        "creator_id": did,
        "creation_date": now,
        "update_date": now,
        "access_mode": 0,
        "api_url": "",
        "stream_address": addresses.join(","),
        "nats_address": "",
        "wallet_address": "",
        "public_key": public_key_base64(&key),
        "peer_id": peer.to_string(),
        "relation": 1,
    });
    let change = Change::Put(document.to_string().into_bytes().into());
    let write = Write {
        datatype: DataType::Peer,
        id: did.clone(),
        change,
        only_if_owner: None,
    };
    match store.apply(vec![write]).await?.into_iter().next() {
        Some(Applied::Refused(why)) => Err(StoreError::Database {
            store: "that is to keep our own peer document".to_owned(),
            why: format!("it refuses it: {why}"),
        }),
        _ => {
            store.sync().await?;
            Ok(did)
        }
    }
}

//! The peer document of this daemon's own organisation, made when the daemon owns the store and there is none.
//!
//! Owns its form, and whether it is of our key. Always: the DID of one that is made follows from the key, so that it proves itself.

use crate::identity::{Identity, derived_did, public_key_base64};
use crate::model::Peer;
use crate::network::Network;
use crate::settings::Settings;
use crate::store::{Applied, Change, Store, StoreError, Write};
use crate::telemetry::Readiness;
use crate::wire::{DataType, timestamp};
use libp2p::PeerId;
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

/// Tells whether our own document is of our key. One that cannot be read says nothing.
pub(super) fn tell_key(readiness: &Readiness, document: Option<&Peer>, own: &PeerId) {
    match document.and_then(|document| other_key(document, own)) {
        Some(why) => readiness.set_bad("identity", why),
        None => readiness.set_ok("identity"),
    }
}

/// Why our own document is of another key than ours, for people; none when it is of ours, or names no key that can be read.
///
/// Partners have pinned what it said: they refuse a daemon with another key, and that looks like a network that is down.
fn other_key(document: &Peer, own: &PeerId) -> Option<String> {
    let said = document.peer_id.filter(|said| said != own)?;
    Some(format!(
        "our own peer document says PeerId {said}, and our key is that of {own}: partners that know the former refuse us. \
         Put the key back that belongs to it (identity.key_file; `backup --with-keys` keeps it) and start again; or, when the \
         new key is meant, publish our peer document with its peer_id and public_key, and have partners remove and add us"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::identity::Keypair;

    #[test]
    fn a_document_of_another_key_is_told_and_one_without_a_key_is_none() {
        let (ours, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let own = ours.public().to_peer_id();
        let key = |keys: &Keypair| public_key_base64(&keys.public());
        let id = |keys: &Keypair| keys.public().to_peer_id().to_string();
        let told = |peer_id: &str, public_key: &str| {
            let document = serde_json::json!({
                "id": "did:us", "relation": 1, "peer_id": peer_id, "public_key": public_key,
            });
            other_key(&Peer::read(document.to_string().as_bytes()).unwrap(), &own)
        };
        assert_eq!(told("", ""), None);
        assert_eq!(told(&id(&ours), &key(&ours)), None);
        assert_eq!(told(&id(&ours), "/etc/keys/public.pem"), None);
        assert_eq!(told("", "-----BEGIN PUBLIC KEY-----"), None);
        for (peer_id, public_key) in [(id(&other), String::new()), (String::new(), key(&other))] {
            let why = told(&peer_id, &public_key).unwrap();
            assert!(why.contains(&id(&other)) && why.contains(&id(&ours)), "{why}");
        }
    }
}
